"""The report of a run, ``figures/<run>/index.html``: whatever there is, with the papers' statements on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from hvae_core.claims.findings import Finding
from hvae_core.claims.statements_a import findings_a
from hvae_core.claims.statements_b import findings_b, findings_toy
from hvae_core.errors import InputError
from hvae_core.files import read_text, write_text
from hvae_core.pages.report import report as page
from hvae_core.pipeline.batch import jobs, outputs, read_record, record_file
from hvae_core.runs.config import Config
from hvae_core.runs.folder import figure_folder, load_config, run_folder
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.results import load_results


def report(run: str) -> Path:
    """Write the report of a run, finished or not; returns its path. What is there already and says the same stays.

    Raises:
        InputError: there is no such run, or its figures' folder cannot be written to.
    """
    config = load_config(run)
    try:
        results = load_results(run)
    except InputError:
        results = None
    records = {name: read_record(record_file(config.name, name)) for name in jobs(config)}
    text = page(
        config,
        results,
        [] if results is None else verdicts(config, results),
        {name: str(record["error"]) for name, record in records.items() if record.get("error")},
        [path for path in outputs(config) if not path.exists()],
        notebooks(config),
    )
    path = figure_folder(config.name) / "index.html"
    if not path.exists() or read_text(path) != text:
        write_text(path, text)
    return path


def verdicts(config: Config, results: pd.DataFrame) -> Sequence[Finding]:
    """The papers' statements on results of a run, for which there are rules; none of more layers or target rates."""
    if not (results["status"] == "ok").any():
        return []
    if config.kind in (KINDS["hierarchical"], KINDS["conditioned"]):
        return findings_a(results, int(results.attrs.get("scored") or 0))
    if config.kind is KINDS["families"]:
        return findings_b(results)
    return findings_toy(results) if config.kind is KINDS["toy"] else []


def notebooks(config: Config) -> dict[str, Path]:
    """The executed notebooks of a run as HTML, by name; made where the notebook is another than last time.

    One that is damaged is left out.
    """
    found = {}
    for source in sorted((run_folder(config.name) / "notebooks").glob("*.ipynb")):
        path = figure_folder(config.name) / "notebooks" / f"{source.stem}.html"
        mark = f"<!-- {hashlib.sha256(source.read_bytes()).hexdigest()} -->\n"
        if not path.exists() or not read_text(path).endswith(mark):
            try:
                text = _as_html(source)
            except Exception:  # nbformat has no error of its own for all that may be wrong
                continue
            write_text(path, text + mark)
        found[source.stem] = path
    return found


def _as_html(notebook: Path) -> str:
    body, _ = _exporter().from_filename(str(notebook))
    return str(body)


@cache
def _exporter() -> Any:
    """One for all notebooks: each would compile its templates anew."""
    from nbconvert import HTMLExporter  # it takes a second to import

    return HTMLExporter(anchor_link_text=" ")
