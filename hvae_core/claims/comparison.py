"""Published runs beside the papers: the tables of ``docs/paper-vs-ours.md``.

``notebooks/99_paper_vs_ours.ipynb`` shows them and writes the page.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hvae_core.analysis.fidelity import applications, differences
from hvae_core.analysis.points import count_layers
from hvae_core.claims.findings import UNTESTED, Finding
from hvae_core.errors import InputError
from hvae_core.figures.files import as_markdown
from hvae_core.names import CONDITIONED
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.profiles import PROFILES, load_profile
from hvae_core.runs.results import load_results

ALIKE = 1.0  # percentage points between classifiers whose scores are compared


class Published(NamedTuple):
    """A published run: what it is, what came out, and what made it."""

    config: Config
    results: pd.DataFrame
    data: dict[str, Any]
    classifier: float | None  # the share of test images that the one behind its Inception Scores has right


def published(root: Path) -> dict[str, Published]:
    """All published runs, by name, but for those without figures, which are there for their weights.

    Raises:
        InputError: when there are none.
    """
    found = {}
    for path in sorted((root / "runs").glob("*/provenance.json")):
        folder = path.parent
        if not (root / "figures" / folder.name).exists():
            continue
        about = folder / "tables" / "classifier.json"
        classifier = json.loads(about.read_text())["test_accuracy"] if about.exists() else None
        data = json.loads((folder / "data.json").read_text()) if (folder / "data.json").exists() else {}
        found[folder.name] = Published(load_config(folder), load_results(folder), data, classifier)
    if not found:
        raise InputError(f"nothing is published in {root}; python -m hvae_core.claims.publish RUN does that")
    return found


# --- what was run -----------------------------------------------------------------------------------------


def about(run: Published) -> str:
    """What a published run is, in a line: model, data, how many models of how many, and epochs."""
    well = int((run.results["status"] == "ok").sum())
    data = run.data.get("name", run.config.dataset)
    name = Path(run.config.name).name
    wanted = len(load_profile(name).members()) if (PROFILES / f"{name}.yaml").exists() else 0
    if run.config.kind is KINDS["conditioned"]:
        what = f"one {run.config.models[0]} on {data}, at {well} settings"
    else:
        one = len(run.config.models) == 1
        models = run.config.models[0] if one else f"{len(run.config.models)} families"
        of = "" if well >= max(len(run.results), wanted) else f" of {max(len(run.results), wanted)}"
        what = f"{models} on {data}, {well}{of} models"
    return f"{what}, {run.config.epochs} epochs"


def runs_table(runs: Mapping[str, Published]) -> pd.DataFrame:
    """What the names of the runs stand for, a row a run; and the classifier behind their Inception Scores."""
    rows = [
        {
            "run": name,
            "what it is": about(run),
            "seeds": run.config.seeds,
            "classifier, %": "" if run.classifier is None else f"{100 * run.classifier:.2f}",
        }
        for name, run in runs.items()
    ]
    return pd.DataFrame(rows)


# What the name of a data set does not say.
ABOUT_DATA = {
    "cifar10-exact": "59,907 of CIFAR-10's 60,000 images, pixel for pixel",
}


def data_notes(runs: Mapping[str, Published]) -> str:
    """A line for each published data set that its name does not describe."""
    names = sorted({str(run.data.get("name")) for run in runs.values()} & ABOUT_DATA.keys())
    return "\n".join(f"`{name}`: {ABOUT_DATA[name]}." for name in names)


# --- findings ---------------------------------------------------------------------------------------------

PAPERS_DATA = {
    "mnist": "MNIST",
    "static-mnist": "static binary MNIST",
    "cifar10": "CIFAR-10",
    "cifar10-exact": "CIFAR-10",
    "svhn": "SVHN",
    "omniglot": "Omniglot",
}
_PAPERS_DATA = re.compile("static binary MNIST|MNIST|CIFAR-10|SVHN|Omniglot")


def statements(found: Mapping[str, Sequence[Finding]]) -> pd.DataFrame:
    """The statements that some run was held against, numbered: where they stand, and their rules.

    Arguments:
        found: the findings of each run.
    """
    rules = dict.fromkeys((one.source, one.statement, one.rule) for run in found.values() for one in run)
    table = pd.DataFrame(list(rules), columns=["where", "the paper", "rule"])
    table.insert(0, "no.", range(1, len(table) + 1))
    return table


def rules_table(found: Mapping[str, Sequence[Finding]]) -> pd.DataFrame:
    """Where the statements stand in the paper, and each rule once."""
    table = statements(found)
    table["where"] = table["where"].str.removeprefix("A, ").str.removeprefix("B, ")
    repeated = table["rule"] == table["rule"].shift()
    table["rule"] = table["rule"].mask(repeated, "the same")
    return table.drop(columns="the paper")


def verdicts(found: Mapping[str, Sequence[Finding]], data: Mapping[str, str]) -> pd.DataFrame:
    """The verdicts alone, a row a statement, a column a run; in brackets if the paper says it of other data.

    Arguments:
        found: the findings of each run.
        data: the name of each run's data set.
    """

    def marked(run: str, one: Finding) -> str:
        named = _PAPERS_DATA.findall(one.source)
        same = not named or PAPERS_DATA.get(data[run]) in named
        return one.verdict if same or one.verdict == UNTESTED else f"({one.verdict})"

    return _side_by_side(found, marked)


def numbers(found: Mapping[str, Sequence[Finding]]) -> pd.DataFrame:
    """What was measured: one row a statement, one column a run."""
    return _side_by_side(found, lambda run, one: one.ours)


def listing(found: Mapping[str, Mapping[str, Sequence[Finding]]]) -> pd.DataFrame:
    """Every verdict with its numbers: one row a paper, run and statement.

    Arguments:
        found: by paper, the findings of each run.
    """
    rows = []
    for paper, runs in found.items():
        place = dict(statements(runs)[["the paper", "no."]].to_numpy().tolist())
        rows += [
            [paper, place[one.statement], run, one.verdict, one.ours, one.statement]
            for run, findings in runs.items()
            for one in findings
        ]
    table = pd.DataFrame(rows, columns=["paper", "no.", "run", "verdict", "numbers", "statement"])
    return table.sort_values(["paper", "no."], kind="stable", ignore_index=True)


def _side_by_side(found: Mapping[str, Sequence[Finding]], cell: Callable[[str, Finding], str]) -> pd.DataFrame:
    table = statements(found).drop(columns=["where", "rule"])
    for run, findings in found.items():
        cells = {one.statement: cell(run, one) for one in findings}
        table[run] = table["the paper"].map(cells).fillna("")
    return table


# --- runs beside each other -------------------------------------------------------------------------------


class Deviation(NamedTuple):
    """A run beside a grid of models that were trained one by one.

    Attributes:
        run, grid: names of the published runs.
        settings: at how many settings of the betas they are compared.
        terms: a row for L = D + beta_2 R_2 + beta_1 R_1, nats per image, and for each metric: the run's minus
            the grid's at the same betas, and the standard deviation over the grid's seeds.
    """

    run: str
    grid: str
    settings: int
    terms: pd.DataFrame


def deviations(runs: Mapping[str, Published]) -> list[Deviation]:
    """Each conditioned network beside each grid of its model on the same data that shares betas with it."""
    return _beside(runs, lambda run, grid: grid.config.model == CONDITIONED.get(str(run.config.model)))


def architectures(runs: Mapping[str, Published]) -> list[Deviation]:
    """Each grid of LVAEs beside each grid of GHVAEs on the same data, trained for as many epochs."""

    def belong(run: Published, grid: Published) -> bool:
        models = (run.config.model, grid.config.model)
        return models == ("lvae", "ghvae") and run.config.epochs == grid.config.epochs

    return _beside(runs, belong)


def _beside(runs: Mapping[str, Published], belong: Callable[[Published, Published], bool]) -> list[Deviation]:
    """Pairs of runs that belong together, and are on the same data and share betas."""
    found = []
    for name, run in runs.items():
        for other, grid in runs.items():
            if not belong(run, grid) or grid.data["fingerprint"] != run.data["fingerprint"]:
                continue
            try:
                table = differences(run.results, grid.results)
            except InputError:  # no betas in common
                continue
            if not _alike(run, grid):
                table = table.drop(columns="inception_score", errors="ignore")
            found.append(Deviation(name, other, len(table), _terms(table)))
    return found


def _terms(table: pd.DataFrame) -> pd.DataFrame:
    """How far L, in nats, and the metrics, in their own units, are apart, in a few numbers."""
    compared = {"L": (table["difference"], table["spread"])}
    for metric in applications(count_layers(table)):
        if metric in table:
            compared[metric] = (table[metric], table[f"{metric}_spread"])
    rows = []
    for name, (values, of_seeds) in compared.items():
        if values.notna().any():
            rows.append(
                {
                    "of": name,
                    "mean": values.mean(),
                    "mean of absolute values": values.abs().mean(),
                    "lowest": values.min(),
                    "highest": values.max(),
                    "spread over seeds": of_seeds.mean(),
                }
            )
    found = pd.DataFrame(rows).set_index("of").round(3) + 0.0  # no -0.0
    return found.reset_index()


def side_by_side(compared: Sequence[Deviation]) -> pd.DataFrame:
    """All of them in one table, a column each: the mean, the range, and the spread over seeds if known."""

    def cell(row: pd.Series) -> str:
        spread = row["spread over seeds"]
        seeds = "" if pd.isna(spread) else f", spread {spread:g}"
        return f"{row['mean']:g} ({row['lowest']:g} to {row['highest']:g}){seeds}"

    columns = {
        f"{one.run} beside {one.grid}, {one.settings} settings": one.terms.set_index("of").apply(cell, axis=1)
        for one in compared
    }
    rows = list(dict.fromkeys(name for one in compared for name in one.terms["of"]))
    return pd.DataFrame(columns).reindex(rows).fillna("not compared").rename_axis("of").reset_index()


# --- classifiers ------------------------------------------------------------------------------------------


def _alike(*runs: Published) -> bool:
    """Whether Inception Scores by the classifiers of these runs compare."""
    known = [100 * run.classifier for run in runs if run.classifier is not None]
    return not known or max(known) - min(known) <= ALIKE


# --- what was not run -------------------------------------------------------------------------------------

# Model-steps (one model, one batch) a second, as `benchmarks/population.py` measures them; on an H200 with 81
# models of 28x28, in TF32, and 121 of 32x32, in bfloat16, in batches of 128.
CPU_STEPS = {"28x28": 48.0, "32x32": 14.9}  # two cores
H200_STEPS = {"28x28": 5150.0, "32x32": 5420.0}
PROTOCOL = {"models": 441, "epochs": 200, "batch": 256}  # Paper A's


class Untested(NamedTuple):
    """What the papers report of a run that was not made."""

    where: str
    statement: str
    profile: str
    images: int | None = None  # None: its cost was not projected
    size: str = ""


UNTESTED_RUNS = (
    Untested(
        where="A, Figs. 1, 3-7 (SVHN)",
        statement="all of the above; the classifier behind the Inception Score is right on 95.02 %",
        profile="svhn-ghvae",
        images=73_257,
        size="32x32",
    ),
    Untested(
        where="A, Fig. 9 (SVHN, LVAE)",
        statement="as in Fig. 8, for the LVAE",
        profile="svhn-lvae",
        images=73_257,
        size="32x32",
    ),
    Untested(
        where="A, Table 1 and Section 5.6 (CIFAR-10)",
        statement="the statements on CIFAR-10, of its exact images",
        profile="cifar10-ghvae",
        images=50_000,
        size="32x32",
    ),
    Untested(
        where="A, Section 5.1 (MNIST)",
        statement="441 models; about 2 hours each on an RTX 2080 Ti, 27 hours a grid on 32 GPUs",
        profile="mnist-ghvae",
        images=60_000,
        size="28x28",
    ),
    Untested(
        where="B, Section 4 (static binary MNIST)",
        statement="best ELBO -80.2; `-+v` at beta 1.10: R 0.0004, D 80.6; 0.05: 156, 4.8",
        profile="rd-mnist",
    ),
    Untested(
        where="B, Appendix A (Omniglot)",
        statement="best ELBO -90.37, `++-` at beta 1 with KL annealing: R 0.77, D 89.60",
        profile="rd-omniglot",
    ),
)


def untested() -> pd.DataFrame:
    """What of the papers was not run, the command that does, and the projected cost of its training.

    Projected are the model-steps of Paper A's protocol at the speeds of `CPU_STEPS` and `H200_STEPS`, which
    `benchmarks/population.py` measures; LVAEs at that of GHVAEs.
    """
    rows = []
    for run in UNTESTED_RUNS:
        cpu = gpu = ""
        if run.images is not None:
            batches = -(-run.images // PROTOCOL["batch"])
            steps = PROTOCOL["models"] * PROTOCOL["epochs"] * batches
            cpu = f"{steps / CPU_STEPS[run.size] / 86400:.0f} days"
            gpu = f"{steps / H200_STEPS[run.size] / 3600:.1f} hours"
        rows.append(
            {
                "where": run.where,
                "the paper": run.statement,
                "command": f"`./run_all.sh {run.profile}`",
                "2 CPU cores": cpu,
                "one H200": gpu,
            }
        )
    return pd.DataFrame(rows)


def speeds() -> str:
    """The speeds that `untested` assumes, in words."""
    places = {"on two CPU cores": CPU_STEPS, "on an H200": H200_STEPS}
    said = [
        f"{' or '.join(f'{speed:,.4g} ({size})' for size, speed in steps.items())} {place}"
        for place, steps in places.items()
    ]
    return f"model-steps a second: {', '.join(said)}"


# --- the page ---------------------------------------------------------------------------------------------


def listed(found: Sequence[Finding]) -> str:
    """The verdict and the numbers of each finding, as a numbered list."""
    return "\n".join(f"{n}. {one.verdict}: {one.ours}" for n, one in enumerate(found, 1))


def folded(title: str, *parts: str | pd.DataFrame) -> str:
    """Markdown that is shown when its title is clicked."""
    return f"<details>\n<summary>{title}</summary>\n\n{page(parts)}\n</details>"


def page(parts: Sequence[str | pd.DataFrame]) -> str:
    """Markdown of texts and tables, in their order; empty texts are left out."""
    texts = [part.strip() if isinstance(part, str) else as_markdown(part).strip() for part in parts]
    return "\n\n".join(text for text in texts if text) + "\n"
