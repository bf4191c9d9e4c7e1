"""The report of a run: what was run and what came out, as one page beside its figures.

Figures are shown from the files beside it, so the page goes where its folder goes. What is missing is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from os.path import relpath
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from hvae_core.analysis.guidance import TASKS, recommend
from hvae_core.analysis.overfit import too_few
from hvae_core.analysis.points import described, drawable
from hvae_core.errors import InputError
from hvae_core.files import read_text
from hvae_core.progress import duration
from hvae_core.runs.config import Config
from hvae_core.runs.folder import figure_folder, run_folder
from hvae_core.runs.kinds import Kind
from hvae_core.runs.profiles import read_yaml

STYLE = Path(__file__).with_name("report.css")
LOOK = {
    "fig1": "the optima of the three applications: are any two the same model?",
    "fig3": "PSNR along a line of equal total rate",
    "fig4": "best PSNR, best Inception Score, and the best compromise between",
    "fig5": "Inception Score = diversity x sharpness: which one drives it?",
    "fig6": "accuracy against the bound of Eq. 11, on modes and on samples",
    "fig7": "I_q(y; z_2) and four classifiers: which rate do they follow?",
    "fig8": "all metrics, over the rates and over the betas",
    "fig9": "all metrics, over the rates and over the betas",
    "table1": "the best accuracy of each classifier",
    "table2": "the architectures, printed from the code",
    "table3": "the architectures, printed from the code",
    "layers": "how the rate spreads over more than two layers",
    "targets": "rates asked for and held; the best share of a fixed total",
    "shares": "rates asked for and held; the best share of a fixed total",
    "surface": "one network for all betas, beside models trained one by one",
    "sliding": "one network for all betas, beside models trained one by one",
    "b_fig2": "ELBO and target rate fit the data alike; only one keeps information in z",
    "b_fig3": "the plane of rate and distortion, its frontier, and who lies on it",
    "b_table1": "the plane of rate and distortion, its frontier, and who lies on it",
    "b_fig4": "what several decodings of one latent share",
}
"""What to look for, as ``docs/figures.md`` says it."""
ABOUT = {
    "command": "command",
    "start": "begun",
    "wall_time_s": "took",
    "device": "device",
    "cores": "cores",
    "commit": "commit",
}


class Verdict(Protocol):
    """A statement of a paper beside this run: `hvae_core.claims.findings.Finding`."""

    @property
    def source(self) -> str: ...

    @property
    def statement(self) -> str: ...

    @property
    def ours(self) -> str: ...

    @property
    def verdict(self) -> str: ...

    @property
    def rule(self) -> str: ...


def report(
    config: Config,
    results: pd.DataFrame | None,
    verdicts: Sequence[Verdict] = (),
    failed: Mapping[str, str] | None = None,
    missing: Iterable[Path] = (),
    notebooks: Mapping[str, Path] | None = None,
) -> str:
    """The page, as HTML.

    Arguments:
        config: of the run.
        results: as far as there are any.
        verdicts: of the papers' statements on these results; none where no rule is for such a run.
        failed: what went wrong, by job.
        missing: files that a finished run has and this one lacks.
        notebooks: the executed ones as HTML, by name.
    """
    run, figures = run_folder(config.name), figure_folder(config.name)
    lacking = [path.name for path in missing]
    sections = {
        "What was run": _run(config, run),
        "Which betas for your task": _advice(results, config.kind),
        "Figures": "".join(figure(figures, path) for path in _there(figures, config.kind.figures, "png")),
        "Tables": "".join(table(figures, path) for path in _there(figures, config.kind.tables, "csv")),
        "The papers' statements, on this run": _verdicts(verdicts),
    }
    shown = {title: text for title, text in sections.items() if text}
    name = escape(run.name)
    links = [
        *((page, figures / f"{page}.html", "Explorer: move the betas") for page in config.kind.pages),
        ("results", run / "results.csv", "results.csv"),
        *((name, path, f"Notebook {name}") for name, path in (notebooks or {}).items()),
    ]
    opened = "".join(link(figures, path, words) for _, path, words in links if path.exists())
    return framed(
        f"{run.name}: report",
        "\n".join(
            [
                f"<header><h1>{name}</h1>",
                f"<p>{escape(_summary(results))}</p>",
                _state(lacking, failed or {}),
                _warning(results, config.kind),
                f'<p class="open">{opened}</p>' if opened else "",
                "<nav>"
                + "".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title in shown)
                + "</nav></header>",
            ]
        ),
        "\n".join(f'<section id="{_anchor(t)}"><h2>{escape(t)}</h2>\n{text}</section>' for t, text in shown.items()),
    )


def framed(title: str, head: str, body: str) -> str:
    """A whole page, of its title in plain words, its head and its body as HTML."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">',
            f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>",
            head,
            f"<main>\n{body}\n</main>\n</body>\n</html>\n",
        ]
    )


def wide(name: str, table: str) -> str:
    """A table that is scrolled where it is wider than the screen, by keys too."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{escape(name, quote=True)}">{table}</div>\n'


def _anchor(title: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower())


def link(folder: Path, path: Path, words: str) -> str:
    return f'<a href="{escape(relpath(path, folder), quote=True)}">{escape(words)}</a>'


def _summary(results: pd.DataFrame | None) -> str:
    if results is None or results.empty:
        return "There are no results yet."
    if "rate_1" not in results or "beta_1" not in results:
        return f"{len(results)} models."
    return described(results)


def _state(lacking: Sequence[str], failed: Mapping[str, str]) -> str:
    """What is missing, and why; nothing of a run that is whole."""
    parts = [f"<li><b>{escape(job)}</b>: {escape(error)}</li>" for job, error in failed.items()]
    if lacking:
        more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
        parts.append(f"<li>Missing: {escape(', '.join(lacking[:8]))}{more}.</li>")
    if not parts:
        return ""
    return (
        f'<div class="warning"><p>This run is not finished. The same command goes on from here.</p>'
        f"<ul>{''.join(parts)}</ul></div>"
    )


def _warning(results: pd.DataFrame | None, kind: Kind) -> str:
    if results is None or "reconstruction" not in kind.stages:
        return ""
    said = too_few(results)
    return f'<p class="warning">{escape(said)}</p>' if said else ""


def _run(config: Config, run: Path) -> str:
    """Configuration, data, device, time and commit."""
    rows: list[tuple[str, str]] = []
    data = _json(run / "data.json")
    if data:
        counts = f"{data['train_images']:,} training and {data['test_images']:,} test images"
        rows.append(("data", "; ".join([f"{data['name']}, {counts}", *data.get("notes", [])])))
    about = _json(run / "provenance.json")
    for key, word in ABOUT.items():
        if key in about:
            value = duration(about[key]) if key == "wall_time_s" else str(about[key])
            rows.append((word, value + (" and changes" if key == "commit" and about.get("dirty") else "")))
    objective = run / "objective.txt"
    if objective.exists():
        rows.append(("objective", read_text(objective).partition("\n")[0]))
    listed = "".join(f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    keys = "".join(
        f"<tr><th scope=row>{escape(key)}</th><td>{escape(json.dumps(value, ensure_ascii=False))}</td></tr>"
        for key, value in read_yaml(run / "config.yaml").items()
        if value is not None and key not in ("name", "block")
    )
    return (
        wide("what was run", f'<table class="about">{listed}</table>')
        + "<details><summary>All keys of the configuration</summary>"
        + wide("configuration", f'<table class="about">{keys}</table>')
        + "</details>\n"
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _advice(results: pd.DataFrame | None, kind: Kind) -> str:
    """What `recommend` says for each task, at any rate and at that of the middle model."""
    if results is None or "reconstruction" not in kind.stages or not drawable(results).any():
        return ""
    middle = float(f"{results['rate'].median():.3g}")
    parts = []
    for task in TASKS:
        parts.append(f"<h3>{task}</h3>")
        for budget in (None, middle) if middle > 0 else (None,):
            try:
                advice = recommend(results, task, budget)
            except InputError as error:
                parts.append(f"<p>{escape(str(error))}</p>")
                break
            evidence = advice.evidence.to_html(index=False, float_format="{:.4g}".format, na_rep="", border=0)
            parts.append(
                f"<pre>{escape(str(advice))}</pre><details><summary>The models behind it</summary>"
                f"{wide('models', evidence)}</details>"
            )
    return "\n".join(parts)


def _there(figures: Path, names: Sequence[str], suffix: str) -> list[Path]:
    """The files of these figures or tables, then others of the kind that the run has drawn."""
    own = [figures / f"{name}.{suffix}" for name in names]
    others = [path for path in sorted(figures.glob(f"*.{suffix}")) if path not in own]
    return [path for path in (*own, *others) if path.exists()]


def _title(name: str) -> str:
    """A figure's or table's name in words.

    Example:
        >>> _title("fig3-grey"), _title("b_table1"), _title("fidelity_mnist-9x9")
        ('Figure 3, grey', 'Paper B, Table 1', 'fidelity mnist-9x9')
    """
    paper, bare = ("Paper B, ", name[2:]) if name.startswith("b_") else ("", name)
    for start, word in (("fig", "Figure"), ("table", "Table")):
        number, _, rest = bare.removeprefix(start).partition("-")
        if bare.startswith(start) and number.isdecimal():
            return f"{paper}{word} {number}{', ' if rest else ''}{rest}"
    return name.replace("_", " ")


def figure(figures: Path, path: Path, like: str = "") -> str:
    """A figure with its caption and what to look for: in that of its name, or of the one that it is like."""
    name, caption = path.stem, str(_json(path.with_suffix(".json")).get("caption", ""))
    sentence = LOOK.get(like or name, "")
    sentence += "." if sentence and not sentence.endswith("?") else ""
    look = f"<b>Look for:</b> {escape(sentence)} " if sentence else ""
    pdf = path.with_suffix(".pdf")
    larger = f" {link(figures, pdf, 'PDF')}" if pdf.exists() else ""
    return (
        f'<figure id="{escape(name)}"><h3>{escape(_title(name))}</h3>'
        f'<img src="{escape(path.name)}" alt="{escape(_title(name))}">'
        f"<figcaption>{look}{escape(caption)}{larger}</figcaption></figure>\n"
    )


def table(figures: Path, path: Path) -> str:
    try:
        frame = pd.read_csv(path, keep_default_na=False, dtype=str)
    except (OSError, ValueError):
        return f"<p>{escape(path.name)} cannot be read.</p>"
    caption = str(_json(path.with_suffix(".json")).get("caption", ""))
    title = _title(path.stem)
    return (
        f"<h3>{escape(title)}</h3>{wide(title, frame.to_html(index=False, border=0))}"
        f'<p class="small">{escape(caption)} {link(figures, path, path.name)}</p>\n'
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    rows = "".join(
        f"<tr><td><b>{escape(one.verdict)}</b></td><td>{escape(one.statement)}<br>"
        f'<span class="small">{escape(one.source)}</span></td>'
        f'<td>{escape(one.ours)}<br><span class="small">{escape(one.rule)}</span></td></tr>\n'
        for one in verdicts
    )
    return (
        "<p>A rule makes each verdict from these results, whatever data the paper speaks of. It says whether they "
        "agree, no more: one or two seeds and a coarse grid settle little.</p>\n"
        + wide(
            "verdicts",
            '<table><thead><tr><th scope="col">verdict</th><th scope="col">the paper</th>'
            f'<th scope="col">this run</th></tr></thead><tbody>{rows}</tbody></table>',
        )
    )
