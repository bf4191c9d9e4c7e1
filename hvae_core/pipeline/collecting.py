"""A collection: its runs one after another, then figures of all of them, composed as in the paper.

A run that cannot be made is named, and what would show it says so; all else is made.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvae_core.errors import InputError
from hvae_core.files import read_text, whole_file, write_text
from hvae_core.progress import track
from hvae_core.runs.code import code_fingerprint, code_of
from hvae_core.runs.collections import Collection, Shown, composed_as, is_table
from hvae_core.runs.config import Config
from hvae_core.runs.folder import figure_folder, run_folder
from hvae_core.runs.provenance import commit

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

KEPT = "collection.json"
"""In the folder of a collection's figures: what they are a function of."""
RunOne = Callable[[Config, Sequence[str]], int]
"""Makes a run, given the keys that were set for it; returns the exit status."""


def collect(collection: Collection, run_one: RunOne, dry_run: bool = False) -> int:
    """Make the runs of a collection, draw what it shows and write its page; returns the exit status.

    Raises:
        InputError: a run has the collection's name, or its figures cannot be written.
    """
    name, folder = collection.name, figure_folder(collection.name)
    if (run_folder(name) / "config.yaml").exists():
        raise InputError(f"'{name}' is a run, whose figures are in {folder}; give the collection another --name")
    why: dict[str, str] = {}
    for key, config in collection.runs.items():
        try:
            if run_one(config, collection.changed[key]):
                why[key] = f"run {config.name} is not finished"
        except InputError as error:
            print(f"error: {config.name}: {error}", file=sys.stderr)
            why[key] = str(error)
    if dry_run:
        print(f"{name}: would draw {len(collection.show)} figures and tables of {len(collection.runs)} runs: {folder}")
        return 1 if why else 0
    drawn = draw(collection, why)
    page = _write_page(collection, why)
    if why:
        listed = ", ".join(collection.runs[key].name for key in why)
        print(f"error: {name}: {len(why)} of {len(collection.runs)} runs were not made: {listed}", file=sys.stderr)
    elif not drawn:
        print(f"{name}: nothing to do, everything is there and up to date")
    print(f"figures: {folder}\nreport: {page}")
    return 1 if why else 0


def draw(collection: Collection, why: dict[str, str]) -> bool:
    """Draw what a collection shows, unless it is there and up to date; returns whether it was drawn.

    Arguments:
        why: a run was not made, by its name in the collection.
    """
    folder = figure_folder(collection.name)
    key = _key(collection, why)
    if _kept(folder) == {"key": key, "made": _checksums(collection)}:
        return False
    from hvae_core.runs.results import load_results

    results: dict[str, pd.DataFrame | str] = {}
    for name, config in collection.runs.items():
        try:
            results[name] = load_results(config.name)
        except InputError as error:
            results[name] = why.get(name, str(error))
    with track(f"figures of {collection.name}", len(collection.show), "figures") as progress:
        for name, shown in collection.show.items():
            if shown.file is None:
                _compose(collection, name, {run: results[run] for run in shown.runs})
            else:
                _take(collection, name, shown, why)
            progress.update(progress.done + 1)
    write_text(folder / KEPT, json.dumps({"key": key, "made": _checksums(collection)}, indent=1) + "\n")
    return True


def _compose(collection: Collection, name: str, runs: dict[str, pd.DataFrame | str]) -> None:
    from hvae_core.figures import composed, save_figure, save_table

    folder, kind = figure_folder(collection.name), composed_as(name)
    inputs = [run_folder(collection.runs[run].name) / "results.parquet" for run in runs]
    made_from = {
        "collection": collection.name,
        "runs": [collection.runs[run].name for run in runs],
        "inputs": {f"runs/{path.parent.name}/{path.name}": _checksum(path) for path in inputs},
        "function": f"hvae_core.figures.composed.{kind}",
        **commit(),
    }
    if kind in composed.TABLES:
        save_table(composed.TABLES[kind](runs), folder, name, provenance=made_from)
    else:
        save_figure(composed.COMPOSED[kind](runs), folder, name, provenance=made_from)


def _take(collection: Collection, name: str, shown: Shown, why: dict[str, str]) -> None:
    """A figure or a table that the run has drawn, as it is; where there is none, one that says so."""
    from hvae_core.figures import composed, save_figure, save_table

    folder, (key,) = figure_folder(collection.name), shown.runs
    own = _own(collection, shown)
    if all(path.exists() for path in own):
        for path in own:
            with whole_file(folder / f"{name}{path.suffix}") as part:
                part.write_bytes(path.read_bytes())
        return
    run = collection.runs[key].name
    reason = why.get(key, f"run {run} has no {shown.file}")
    made_from = {"collection": collection.name, "runs": [run], "inputs": {}, **commit()}
    if is_table(name, shown, collection.runs):
        import pandas as pd

        save_table(pd.DataFrame({key: ["not there"], "why": [reason]}), folder, name, provenance=made_from)
    else:
        save_figure(composed.absent(key, reason), folder, name, provenance=made_from)


def _own(collection: Collection, shown: Shown) -> list[Path]:
    """The files of a figure or table of a single run."""
    config = collection.runs[shown.runs[0]]
    kinds = ("csv", "md", "json") if shown.file in config.kind.tables else ("pdf", "png", "json")
    return [figure_folder(config.name) / f"{shown.file}.{kind}" for kind in kinds]


def _files(collection: Collection) -> list[Path]:
    """What is drawn of a collection."""
    folder = figure_folder(collection.name)
    kinds = {True: ("csv", "md", "json"), False: ("pdf", "png", "json")}
    return [
        folder / f"{name}.{kind}"
        for name, shown in collection.show.items()
        for kind in kinds[is_table(name, shown, collection.runs)]
    ]


def _key(collection: Collection, why: dict[str, str]) -> str:
    """What the figures of a collection are a function of, as a hash."""
    first = next(iter(collection.runs.values()))
    results = [run_folder(config.name) / "results.parquet" for config in collection.runs.values()]
    own = [path for shown in collection.show.values() if shown.file for path in _own(collection, shown)]
    described: list[Any] = [
        [(name, shown) for name, shown in collection.show.items()],
        [(name, config.name) for name, config in collection.runs.items()],
        [_checksum(path) for path in (*results, *own)],
        code_fingerprint([*code_of(first, "figures"), __name__]),
        why,
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def _kept(folder: Path) -> Any:
    try:
        return json.loads(read_text(folder / KEPT))
    except (OSError, ValueError):
        return None


def _checksums(collection: Collection) -> dict[str, str | None]:
    return {path.name: _checksum(path) for path in _files(collection)}


def _checksum(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _write_page(collection: Collection, why: dict[str, str]) -> Path:
    from hvae_core.pages.collection import page

    path = figure_folder(collection.name) / "index.html"
    text = page(collection, why)
    if not path.exists() or read_text(path) != text:
        write_text(path, text)
    return path
