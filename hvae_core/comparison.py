"""Published runs beside the papers: the tables of ``docs/paper-vs-ours.md``, which ``notebooks/99_paper_vs_ours.ipynb`` writes."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hvae_core.config import KINDS, PROFILES, Config, load_profile
from hvae_core.errors import InputError
from hvae_core.fidelity import fidelity, optima, summary
from hvae_core.figures.files import as_markdown
from hvae_core.figures.points import grid_means
from hvae_core.findings import NAMES, UNTESTED, Finding
from hvae_core.names import CONDITIONED
from hvae_core.store import PROBES, load_config, load_results

TRAINING = ("10_train", "70_toy")  # notebooks
ALIKE = 1.0  # percentage points between classifiers whose scores are compared


class Published(NamedTuple):
    """A published run: what it is, what came out, and what made it."""

    config: Config
    results: pd.DataFrame
    data: dict[str, Any]
    parts: dict[str, dict[str, Any]]  # name of the run that was made -> its provenance


def published(root: Path) -> dict[str, Published]:
    """All published runs, by name.

    Raises:
        InputError: when there are none.
    """
    found = {}
    for path in sorted((root / "runs").glob("*/provenance.json")):
        folder = path.parent
        about = json.loads(path.read_text())
        classifier = folder / "tables" / "classifier.json"
        if classifier.exists():
            about["classifier"] = json.loads(classifier.read_text())
        data = json.loads((folder / "data.json").read_text()) if (folder / "data.json").exists() else {}
        found[folder.name] = Published(load_config(folder), load_results(folder), data, about.get("parts") or {folder.name: about})
    if not found:
        raise InputError(f"nothing is published in {root}; python -m hvae_core.publish RUN does that")
    return found


class Deviation(NamedTuple):
    """A run beside a grid of models that were trained one by one.

    Attributes:
        run, grid: names of the published runs.
        terms: how far L and the metrics are apart at the same betas, `hvae_core.fidelity.summary`.
        optima: where each metric is best, `hvae_core.fidelity.optima`.
    """

    run: str
    grid: str
    terms: pd.DataFrame
    optima: pd.DataFrame


def deviations(runs: Mapping[str, Published]) -> list[Deviation]:
    """Each conditioned network beside each grid of its model on the same data that shares betas with it."""
    return _beside(runs, lambda run, grid: grid.config.model == CONDITIONED.get(str(run.config.model)))


def architectures(runs: Mapping[str, Published]) -> list[Deviation]:
    """Each grid of LVAEs beside each grid of GHVAEs on the same data, trained for as many epochs."""
    return _beside(runs, lambda run, grid: (run.config.model, grid.config.model) == ("lvae", "ghvae") and run.config.epochs == grid.config.epochs)


def _beside(runs: Mapping[str, Published], belong: Callable[[Published, Published], bool]) -> list[Deviation]:
    """Pairs of runs that belong together, and are on the same data and share betas."""
    found = []
    for name, run in runs.items():
        for other, grid in runs.items():
            if not belong(run, grid) or grid.data["fingerprint"] != run.data["fingerprint"]:
                continue
            try:
                table = fidelity(run.results, grid.results)
            except InputError:  # no betas in common
                continue
            terms, places = summary(table), optima(run.results, grid.results)
            if not _alike(_rights({name: run, other: grid})):
                terms, places = terms[terms["of"] != "inception_score"], places[places["metric"] != "inception_score"]
            found.append(Deviation(name, other, terms, places))
    return found


def runs_table(runs: Mapping[str, Published]) -> pd.DataFrame:
    """One row a run that was made: command, commits, device, times and data set, as its provenance has them.

    Times are of notebooks; two at once on two cores count twice.
    """
    rows = []
    for name, run in runs.items():
        data = run.data
        for made, about in run.parts.items():
            stages = about["stages"]
            training = sum(stage["wall_time_s"] for job, stage in stages.items() if job.startswith(TRAINING))
            others = sum(stage["wall_time_s"] for stage in stages.values()) - training
            commits = sorted({(stage["commit"] or "")[:10] for stage in stages.values()})
            rows.append({
                "published": name, "made as": made,
                "data": f"{data['name']}, {data['train_images']:,} + {data['test_images']:,} images, sha256 {data['fingerprint'][:12]}…" if data else run.config.dataset,
                "command": f"`{about['command']}`", "commits": " ".join(commits), "device": _devices(about),
                "training, notebook-minutes": round(training / 60, 1), "evaluation and figures": round(others / 60, 1),
                "classifier behind IS, %": round(100 * about["classifier"]["test_accuracy"], 2) if about.get("classifier") else "",
            })  # fmt: skip
    return pd.DataFrame(rows)


def _devices(about: Mapping[str, Any]) -> str:
    """Where a run was trained and, if that was elsewhere, evaluated."""

    def named(training: bool) -> str:
        found = {stage["device"] for job, stage in about["stages"].items() if stage.get("device") and job.startswith(TRAINING) is training}
        return " and ".join(f"{device}, {about['cores']} cores" if device == about["device"] else device for device in sorted(found or {about["device"]}))

    return "; then ".join(dict.fromkeys([named(True), named(False)]))


def legend(runs: Mapping[str, Published]) -> pd.DataFrame:
    """What the names of the runs stand for."""
    return pd.DataFrame([{"run": name, "what it is": about(run), "seeds": run.config.seeds} for name, run in runs.items()])


def findings_table(found: Sequence[Finding]) -> pd.DataFrame:
    """Findings as a table, a row each."""
    return pd.DataFrame(found, columns=["where", "the paper", "ours", "verdict", "rule"])


def about(run: Published) -> str:
    """What a published run is, in a line: model, data, how many models are there of how many its profile has, and epochs."""
    well = int((run.results["status"] == "ok").sum())
    data = run.data.get("name", run.config.dataset)
    profile = PROFILES / f"{run.config.name}.yaml"
    count = max(len(run.results), len(load_profile(run.config.name).members()) if profile.exists() else 0)
    if run.config.kind is KINDS["conditioned"]:
        return f"one {run.config.models[0]} on {data}, looked at in {well} points, {run.config.epochs} epochs"
    models = run.config.models[0] if len(run.config.models) == 1 else f"{len(run.config.models)} families"
    there = f"{well} models" if well == count else f"{well} of {count} models"
    return f"{models} on {data}, {there}, {run.config.epochs} epochs"


PAPERS_DATA = {"mnist": "MNIST", "static-mnist": "static binary MNIST", "cifar10": "CIFAR-10", "cifar10-jpeg": "CIFAR-10", "svhn": "SVHN", "omniglot": "Omniglot"}


def verdicts(tables: Mapping[str, pd.DataFrame], data: Mapping[str, str]) -> pd.DataFrame:
    """The verdicts alone: one row a statement, one column a run; in brackets where the paper says it of other data.

    Arguments:
        tables: of each run, see `findings_table`.
        data: the name of each run's data set.
    """

    def marked(name: str, where: str, verdict: str) -> str:
        named = re.findall("static binary MNIST|MNIST|CIFAR-10|SVHN|Omniglot", where)
        return verdict if verdict == UNTESTED or not named or PAPERS_DATA.get(data[name]) in named else f"({verdict})"

    columns = {
        name: pd.Series({(row["where"], row["the paper"]): marked(name, row["where"], row["verdict"]) for _, row in table.iterrows()})
        for name, table in tables.items()
    }  # fmt: skip
    order = pd.MultiIndex.from_tuples(dict.fromkeys(row for column in columns.values() for row in column.index), names=["where", "the paper"])
    return pd.DataFrame(columns).reindex(order).fillna("").reset_index()


# The best accuracies of Paper A's GHVAEs, %, in the order of `PROBES`.
PAPER_TABLE_1: dict[tuple[str, str], tuple[float, ...]] = {
    ("SVHN, the paper", "mu_2"): (28.43, 27.87, 77.60, 64.25), ("SVHN, the paper", "mu_1"): (45.77, 49.81, 59.28, 56.49),
    ("CIFAR-10, the paper", "mu_2"): (47.36, 46.95, 53.15, 44.20), ("CIFAR-10, the paper", "mu_1"): (43.27, 42.55, 45.60, 39.25),
}  # fmt: skip


# What the name of a data set does not say.
ABOUT_DATA = {
    "cifar10-jpeg": "all 60,000 images of CIFAR-10 as JPEG files, which are on average 30.5 dB (PSNR) from the exact images of the official data set: it is not the paper's CIFAR-10",
}  # fmt: skip


def _rights(runs: Mapping[str, Published]) -> dict[str, list[float]]:
    """How many test images the classifiers behind the Inception Scores of each run have right, %."""
    found = {name: {round(100 * about["classifier"]["test_accuracy"], 2) for about in run.parts.values() if about.get("classifier")} for name, run in runs.items()}
    return {name: sorted(rights) for name, rights in found.items() if rights}


def _alike(rights: Mapping[str, list[float]]) -> bool:
    """Whether scores by these classifiers compare."""
    known = [right for of_run in rights.values() for right in of_run]
    return not known or max(known) - min(known) <= ALIKE


def classifiers(runs: Mapping[str, Published]) -> str:
    """Which classifiers are behind the Inception Scores of some runs, each of which has its own, and whether the scores are compared."""
    rights = _rights(runs)
    said = "; ".join(f"{name} {', '.join(f'{right:.2f}' for right in of_run)} %" for name, of_run in rights.items())
    apart = "" if _alike(rights) else ", too unlike for the scores to be compared"
    return f"Inception Scores are by classifiers of each run's own (right on test images: {said}){apart}." if said else ""


def data_notes(runs: Mapping[str, Published]) -> str:
    """A line for each published data set that its name does not describe."""
    names = sorted({str(run.data.get("name")) for run in runs.values()} & ABOUT_DATA.keys())
    return "\n".join(f"`{name}`: {ABOUT_DATA[name]}." for name in names)


def table_1(grids: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The best accuracy over all models, %, of each classifier on mu_2 and mu_1, beside Table 1 of Paper A."""
    rows = {**PAPER_TABLE_1}
    for name, results in grids.items():
        points = grid_means(results)
        for n in (2, 1):
            rows[name, f"mu_{n}"] = tuple(round(100 * float(points[f"acc_mu{n}_{probe}"].max()), 2) for probe in PROBES)
    return pd.DataFrame([[*key, *row] for key, row in rows.items()], columns=["", "latent", *NAMES.values()])


def untested() -> pd.DataFrame:
    """What of the papers cannot be tested with the data and machines at hand, the command for who can, and its projected cost.

    The projection is the number of model-steps (one model, one batch) by the rates that `benchmarks/README.md` has: for two CPU cores 48.0 a second at
    28x28, 14.9 at 32x32, 20.4 there with ``precision=bfloat16``; for one H200 5,150 at 28x28 in TF32, and at 32x32 5,420 in bfloat16
    (81 and 121 models, batches of 128).
    """
    days, hours, gpu = "projected training on 2 CPU cores", "on an H200", "a GPU was at hand for a quarter of an hour"
    svhn = "these data could not be had: 288 of the images, on which the loader is tested"
    lines: list[tuple[str, str, str, str, int, float]] = [
        ("A, Figs. 1, 3-7 (SVHN)", "all of the above on SVHN; the classifier behind the Inception Score is right on 95.02 %", "svhn-ghvae", svhn, 73_257, 14.9),
        ("A, Fig. 9 (SVHN, LVAE)", "as in Fig. 8, for the LVAE", "svhn-lvae", svhn + "; projected at the GHVAE's speeds", 73_257, 14.9),
        ("A, Table 1 and Section 5.6 (CIFAR-10)", "the statements on CIFAR-10, tested above on JPEG copies of its images", "cifar10-ghvae", "of the exact images only 6,102 were at hand", 50_000, 14.9),
        ("A, Section 5.1 (MNIST)", "441 models; about 2 hours each on an RTX 2080 Ti, 27 hours a grid on 32 GPUs", "mnist-ghvae", gpu + "; a smaller grid is above", 60_000, 48.0),
    ]
    rows = []
    for where, statement, profile, why, images, speed in lines:
        steps = 441 * 200 * -(-images // 256)
        rows.append({"where": where, "the paper": statement, "why not": why, "command": f"`./run_all.sh {profile}`",
                     days: f"{steps / speed / 86400:.0f} days ({steps / 1e6:.1f} million model-steps)",
                     hours: f"{steps / 5150 / 3600:.1f} hours in TF32" if speed == 48.0 else f"{steps / 5420 / 3600:.1f} hours in bfloat16"})  # fmt: skip
    rows += [
        {"where": "B, Section 4 (static binary MNIST)", "the paper": "best ELBO -80.2; `-+v` at beta 1.10: R 0.0004, D 80.6; 1.0: 6.2, 74.1; 0.15: 120.3, 8.1; 0.05: 156, 4.8",
         "why not": gpu + ", and the files of the fixed binarisation were not at hand", "command": "`./run_all.sh rd-mnist`", days: "not measured", hours: "not measured"},
        {"where": "B, Appendix A (Omniglot)", "the paper": "best ELBO -90.37, `++-` at beta 1 with KL annealing: R 0.77, D 89.60", "why not": gpu + ", and of the drawings the small splits, on which four families are above", "command": "`./run_all.sh rd-omniglot`", days: "not measured", hours: "not measured"},
    ]  # fmt: skip
    return pd.DataFrame(rows)


def page(parts: Sequence[str | pd.DataFrame]) -> str:
    """Markdown of texts and tables, in their order; empty texts are left out."""
    texts = [part.strip() if isinstance(part, str) else as_markdown(part).strip() for part in parts]
    return "\n\n".join(text for text in texts if text) + "\n"
