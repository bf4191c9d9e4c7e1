"""Finished runs -> ``published/``: the small files of results that are committed. Weights stay where they were trained.

    .venv/bin/python -m hvae_core.publish NAME [RUN ...]

``published/`` is laid out like any output folder, so that everything which reads a run reads a published one, given its path
(``load_results("published/runs/quick")``) or with ``HVAE_OUTPUT=published``. Without RUN the finished run NAME is published as it is. With
RUNs, parts of one grid of betas that were trained at different times, their models are put together with those that NAME has there already; a point
of the grid that no part has trained is a row with the status ``missing``. Figures of such a grid are drawn anew.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from hvae_core import batch, store
from hvae_core.config import KINDS, ROOT, Config
from hvae_core.errors import InputError
from hvae_core.terms import layer_numbers

PUBLISHED = ROOT / "published"
LIMIT = 25_000_000  # bytes, all published files together
COPIED = ("config.yaml", "data.json", "objective.txt", "results.parquet", "results.csv", "history.parquet", "provenance.json", "tables/classifier.json")
FREE = ("name", "betas", "blocks", "block", "device")  # in which the parts of one grid may differ


def publish(name: str, runs: Sequence[str] = (), root: Path = PUBLISHED) -> Path:
    """Put a finished run, or the union of several, into ``root``.

    Returns:
        Its run folder there.

    Raises:
        InputError: when a run is not finished, or runs are no parts of one grid.
    """
    for run in runs or [name]:
        _finished(run)
    target = root / "runs" / name
    if not runs:
        source = store.run_folder(name)
        shutil.rmtree(target, ignore_errors=True)
        for path in [*(source / name for name in COPIED), *source.glob("notebooks/*.ipynb")]:
            _copy(path, target / path.relative_to(source))
        shutil.rmtree(root / "figures" / name, ignore_errors=True)
        for file in store.figure_folder(name).iterdir():
            _copy(file, root / "figures" / name / file.name)
    else:
        parts = [store.run_folder(run) for run in runs]
        _join([*([target] if target.exists() else []), *parts], target)
        for run, folder in zip(runs, parts, strict=True):
            for path in folder.glob("notebooks/*.ipynb"):
                if path.stem != store.load_config(run).kind.notebook:  # its figures are of a part alone
                    _copy(path, target / "notebooks" / run / path.name)
        _draw(name, root)
    return target


def size(root: Path = PUBLISHED) -> int:
    """Bytes of all published files."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _finished(run: str) -> None:
    lacking = [path for path in batch.outputs(store.load_config(run)) if not path.exists()]
    if lacking:
        raise InputError(f"run '{run}' is not finished: {lacking[0].name} is missing; ./run_all.sh makes it")


def _draw(name: str, root: Path) -> None:
    """Execute the notebook of the figures on a published run."""
    notebook = store.load_config(root / "runs" / name).kind.notebook
    command = [sys.executable, "-m", "hvae_core.batch", name, notebook, "--jobs", "1"]
    done = subprocess.run(command, env={**batch.environment(), "HVAE_OUTPUT": str(root.resolve())}, check=False)
    shutil.rmtree(root / "runs" / name / ".progress", ignore_errors=True)
    if done.returncode:
        raise InputError(f"{name}: its results are published, its figures could not be drawn (above)")
    drawn = root / "runs" / name / "notebooks" / f"{notebook}.ipynb"
    _clean(drawn, root.resolve())


def _clean(notebook: Path, *folders: Path) -> None:
    """Take the folders in which it was executed out of a notebook."""
    text = notebook.read_text()
    for folder in (*folders, ROOT):
        text = text.replace(f"{folder}/", "")
    store.write_text(notebook, text)


def _copy(source: Path, target: Path) -> None:
    """A file as it is, notebooks without the folders in which they were executed."""
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if source.suffix == ".ipynb":
        _clean(target, store.output_root().resolve())


def _join(parts: Sequence[Path], target: Path) -> None:
    """One run folder of the models of all parts; of a setting that stands in several the last one counts."""
    configs = [store.load_config(part) for part in parts]
    for other, folder in zip(configs[1:], parts[1:], strict=True):
        _same(configs[0], other, parts[0], folder)
    layers = configs[0].layers
    keys = [*(f"beta_{n}" for n in layer_numbers(layers)), "seed"]
    axes = [sorted(set(axis)) for axis in zip(*(m.betas for config in configs for m in config.members()), strict=True)]
    settings = {key: value for key, value in configs[0].dump().items() if key not in FREE}
    config = Config.make({**settings, "name": target.name, "betas": axes})
    wanted = pd.DataFrame([[*member.betas, member.seed] for member in config.members()], columns=keys)

    tables = [store.load_results(part) for part in parts]
    results = _latest([table[table["status"] != "missing"] for table in tables], keys)
    about = {name: results[name].iloc[0] for name in ("dataset", "model", "epochs")}
    results = wanted.merge(results, on=keys, how="left").fillna({**about, "status": "missing"}).astype({"epochs": tables[0]["epochs"].dtype})
    member = wanted.assign(member=range(len(wanted)))
    histories = [pd.read_parquet(part / "history.parquet").drop(columns="member") for part in parts]
    history = member.merge(_latest(histories, [*keys, "epoch"]), on=keys)
    images = {stage: _images(parts, [_places(table, wanted, keys) for table in tables], stage, len(wanted)) for stage in ("reconstruction", "generation")}
    made: dict[str, Any] = {}
    for part in parts:
        known = json.loads((part / "provenance.json").read_text())
        made |= known["parts"] if part == target else {part.name: known}
    for path in ("data.json", "objective.txt", "tables/classifier.json"):
        if parts[0] != target:
            _copy(parts[0] / path, target / path)
    values = {key: value for key, value in config.dump().items() if key != "block"}
    store.write_text(target / "config.yaml", f"# {target.name}, joined from its parts.\n" + yaml.safe_dump({**values, "block": None}, sort_keys=False))
    store.write_text(target / "provenance.json", json.dumps({"parts": made}, indent=2) + "\n")
    store.write_table(target / "history.parquet", history)
    results = results[tables[0].columns]
    with store.whole_file(target / "results.csv") as part:
        results.to_csv(part, index=False)
    store.write_table(target / "results.parquet", results)
    for stage, arrays in images.items():
        store.save_images(target, stage, **arrays)


def _same(config: Config, other: Config, folder: Path, other_folder: Path) -> None:
    if config.kind is not KINDS["hierarchical"]:
        raise InputError(f"{config.name}: only grids of ghvae and lvae have parts")
    differ = [key for key, value in config.dump().items() if key not in FREE and value != other.dump()[key]]
    differ += [name for name in ("data.json", "objective.txt") if (folder / name).read_text() != (other_folder / name).read_text()]
    if differ:
        raise InputError(f"{config.name} and {other.name} are no parts of one grid: they differ in {', '.join(differ)}")


def _latest(tables: Sequence[pd.DataFrame], keys: list[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True).drop_duplicates(keys, keep="last")


def _places(table: pd.DataFrame, wanted: pd.DataFrame, keys: list[str]) -> list[tuple[int, int]]:
    """Pairs of a trained row of ``table`` and its row in ``wanted``."""
    there = table[table["status"] != "missing"]
    merged = there[keys].assign(row=there.index).merge(wanted.assign(place=range(len(wanted))), on=keys)
    return list(zip(merged["row"], merged["place"], strict=True))


def _images(parts: Sequence[Path], places: Sequence[list[tuple[int, int]]], stage: str, count: int) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for part, rows in zip(parts, places, strict=True):
        arrays = store.load_images(part, stage)
        found |= {name: arrays[name] for name in arrays if name != "images"}
        joined = found.setdefault("images", np.zeros((count, *arrays["images"].shape[1:]), np.uint8))
        for row, place in rows:
            joined[place] = arrays["images"][row]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Publish what is named; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", help="of the published run")
    parser.add_argument("runs", nargs="*", help="finished runs that are parts of it; none: the run of that name")
    args = parser.parse_args(argv)
    try:
        print(publish(args.name, args.runs).relative_to(ROOT))
        if size() > LIMIT:
            raise InputError(f"{PUBLISHED.name}: {size() / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}; take something out before it is committed")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
