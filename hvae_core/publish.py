"""Finished runs -> ``published/``: the small files of results that are committed. Weights stay where they were trained.

    .venv/bin/python -m hvae_core.publish NAME [RUN ...] [--redraw]

``published/`` is laid out like any output folder, so that everything which reads a run reads a published one, given its path
(``load_results("published/runs/quick")``) or with ``HVAE_OUTPUT=published``. Without RUN the finished run NAME is published as it is. With
RUNs, parts of one grid of betas that were trained at different times, their models are put together with those that NAME has there already. The grid is that of all betas at which some model
was trained; a point of it that none has is a row with the status ``missing``. Figures of such a grid are drawn anew; with ``--redraw`` alone those of the published grid NAME, as when the code that draws them has changed.
"""

import argparse
import base64
import hashlib
import io
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from hvae_core import batch, store
from hvae_core.config import KINDS, ROOT, Config
from hvae_core.errors import InputError
from hvae_core.figures.points import drawable, settings, split_rates
from hvae_core.terms import layer_numbers

PUBLISHED = ROOT / "published"
LIMIT = 25_000_000  # bytes, all published files together
COPIED = ("config.yaml", "*.json", "objective.txt", "results.*", "history.parquet", "tables/classifier.json", "images/*.npz")
SHOWN = ("reconstruction", "generation")  # of these images Fig. 4 shows some
FREE = ("name", "betas", "blocks", "block", "device")  # in which the parts of one grid may differ


def publish(name: str, runs: Sequence[str] = (), root: Path = PUBLISHED, redraw: bool = False) -> Path:
    """Put a finished run, or the union of several, into ``root``; what is there is replaced when all of it is made.

    Arguments:
        redraw: draw the figures of the published grid anew, of its stored results.

    Returns:
        Its run folder there.

    Raises:
        InputError: when a run is not finished, runs are no parts of one grid, or what is to be drawn anew is no published grid.
    """
    Config.make({"name": name})  # a name, no path
    target, drawn = root / "runs" / name, root / "figures" / name
    if redraw and runs:
        raise InputError("--redraw is for what is published; parts that are added have their figures drawn anyway")
    if redraw and not (target.exists() and store.load_config(target).kind is KINDS["hierarchical"]):
        raise InputError(f"{name} is no published grid of ghvae or lvae: the figures of others need more than is published")
    for run in runs or ([] if redraw else [name]):
        _finished(run)
        if store.run_folder(run).resolve() == target.resolve():
            raise InputError(f"run '{run}' is the published one itself; HVAE_OUTPUT must be where it was trained")
    with tempfile.TemporaryDirectory(prefix=".making-", dir=_made(root)) as folder:
        new = Path(folder)
        made = new / "runs" / name
        parts = [store.run_folder(run) for run in runs]
        if redraw:
            shutil.copytree(target, made)
            _draw(name, new)
        elif not parts:
            _copy_run(store.run_folder(name), made)
            shutil.copytree(store.figure_folder(name), new / "figures" / name)
            _pack(made, new / "figures" / name)
        else:
            _join([*([target] if target.exists() else []), *parts], made)
            _pack(made, new / "figures" / name)
            for run, part in zip(runs, parts, strict=True):
                _copy_notebooks(part, made / "notebooks" / run, drawn=False)
            if target.exists():  # of the parts that were there
                for kept in target.glob("notebooks/*/"):
                    if not (made / "notebooks" / kept.name).exists():
                        shutil.copytree(kept, made / "notebooks" / kept.name)
            _draw(name, new)
        config = store.load_config(made)
        many = len(config.members()) > 64 * config.seeds  # settings; in Fig. 1 each has a colour of its own
        for image in (new / "figures" / name).glob("*.png"):
            if not (many and image.stem == "fig1"):
                image.write_bytes(few_colours(image.read_bytes()))
        for old, fresh in ((target, made), (drawn, new / "figures" / name)):
            if old.exists():
                old.rename(_made(new / "replaced" / old.parent.name) / old.name)
            if fresh.exists():
                fresh.rename(_made(old.parent) / old.name)
    return target


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy_run(source: Path, target: Path) -> None:
    """A run folder without weights; notebooks without the folders in which they were executed."""
    for pattern in COPIED:
        for path in source.glob(pattern):
            shutil.copyfile(path, _made((target / path.relative_to(source)).parent) / path.name)
    store.write_text(target / "config.yaml", _without((target / "config.yaml").read_text(), _data_folder(source)))
    _copy_notebooks(source, target / "notebooks")


def _pack(run: Path, figures: Path) -> None:
    """The images in less space, still for `numpy.load`, of those models that Fig. 4 may show: the first seed of each setting; other rows are black.

    The figures' notes name the new files.
    """
    for path in (run / "images").glob("*.npz"):
        old, made = path.read_bytes(), io.BytesIO()
        arrays = dict(np.load(io.BytesIO(old)))
        if path.stem in SHOWN:
            results = store.load_results(run)
            first = results[drawable(results).to_numpy() & np.isfinite(split_rates(results)).all(0)].drop_duplicates(settings(results)).index
            arrays["images"][~results.index.isin(first)] = 0
        with zipfile.ZipFile(made, "w", zipfile.ZIP_LZMA) as packed:
            for name, array in arrays.items():
                content = io.BytesIO()
                np.save(content, array)
                packed.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_LZMA)  # without the time: equal arrays, equal bytes
        path.write_bytes(made.getvalue())
        before, after = (hashlib.sha256(content).hexdigest() for content in (old, made.getvalue()))
        for note in figures.glob("*.json"):
            store.write_text(note, note.read_text().replace(before, after))


def _copy_notebooks(run: Path, target: Path, drawn: bool = True) -> None:
    """The executed notebooks; without the one of the figures, if those are drawn anew of several runs."""
    for path in run.glob("notebooks/*.ipynb"):
        if drawn or path.stem != store.load_config(run).kind.notebook:
            shutil.copyfile(path, _made(target) / path.name)
            _clean(target / path.name, store.output_root().resolve(), _data_folder(run))


def _data_folder(run: Path) -> Path:
    """Where a run's own data set lies; of a named one the root of the repository."""
    dataset = Path(store.load_config(run).dataset)
    return dataset.parent if dataset.is_absolute() else ROOT


def _without(text: str, *folders: Path) -> str:
    for folder in sorted(folders, key=lambda folder: -len(str(folder))):  # one may lie in another
        text = text.replace(f"{folder}/", "")
    return text


def size(root: Path = PUBLISHED) -> int:
    """Bytes of all published files."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _finished(run: str) -> None:
    lacking = [path for path in batch.outputs(store.load_config(run)) if not path.exists()]
    if lacking:
        raise InputError(f"run '{run}' is not finished: {lacking[0].name} is missing; ./run_all.sh makes it")


def _draw(name: str, root: Path) -> None:
    """Execute the notebook of the figures on a run in ``root``."""
    notebook = store.load_config(root / "runs" / name).kind.notebook
    command = [sys.executable, "-m", "hvae_core.batch", name, notebook]
    done = subprocess.run(command, env={**batch.environment(), "HVAE_OUTPUT": str(root.resolve())}, check=False)
    if done.returncode:
        raise InputError(f"{name}: its figures could not be drawn (above); nothing is published")
    shutil.rmtree(root / "runs" / name / ".progress", ignore_errors=True)
    _clean(root / "runs" / name / "notebooks" / f"{notebook}.ipynb", root.resolve())


def _clean(notebook: Path, *folders: Path) -> None:
    """Take the folders in which it was executed out of a notebook, and what is there twice, and give its images few colours."""
    text = notebook.read_text()
    executed = json.loads(text)["metadata"].get("papermill", {})
    # The checkout and the output folder may be those of another machine.
    paths = [(Path(executed.get(key) or ""), depth) for key, depth in (("output_path", 3), ("input_path", 1))]
    elsewhere = [path.parents[depth] for path, depth in paths if path.is_absolute() and len(path.parents) > depth + 1]
    content = json.loads(_without(text, *folders, *elsewhere, ROOT))
    for cell in content["cells"]:
        cell["metadata"].pop("execution", None)  # times that papermill has noted too
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                data.pop("text/plain", None)  # the same table again
            if png := data.get("image/png"):
                data["image/png"] = base64.b64encode(few_colours(base64.b64decode(png), 64)).decode()
    store.write_text(notebook, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def few_colours(png: bytes, colours: int = 256) -> bytes:
    """The image with so many colours at most: 256 take a third of the space, 64 a quarter; the PDF of a figure has all of them."""
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    made = io.BytesIO()
    few.save(made, "PNG", optimize=True)
    return made.getvalue()


def _join(parts: Sequence[Path], target: Path) -> None:
    """One run folder of the models of all parts; of a setting that stands in several the last one counts."""
    configs = [store.load_config(part) for part in parts]
    for other, folder in zip(configs, parts, strict=True):
        _same(configs[0], other, parts[0], folder)
    layers = configs[0].layers
    keys = [*(f"beta_{n}" for n in layer_numbers(layers)), "seed"]
    tables = [store.load_results(part) for part in parts]
    results = _latest([table[table["status"] != "missing"] for table in tables], keys)
    axes = [sorted(results[f"beta_{n}"].unique().tolist()) for n in layer_numbers(layers)]
    for n, axis in zip(layer_numbers(layers), axes, strict=True):
        near = [(low, high) for low, high in itertools.pairwise(axis) if high < 1.001 * low]
        if near:
            raise InputError(f"beta_{n} is {near[0][0]!r} in one part and {near[0][1]!r} in another; give them the same digits")
    shared = {key: value for key, value in configs[0].dump().items() if key not in FREE}
    config = Config.make({**shared, "name": target.name, "betas": axes})
    wanted = pd.DataFrame([[*member.betas, member.seed] for member in config.members()], columns=keys)

    about = {name: results[name].iloc[0] for name in ("dataset", "model", "epochs")}
    results = wanted.merge(results, on=keys, how="left").fillna({**about, "status": "missing"}).astype({"epochs": tables[0]["epochs"].dtype})
    member = wanted.assign(member=range(len(wanted)))
    histories = [pd.read_parquet(part / "history.parquet").drop(columns="member") for part in parts]
    history = member.merge(_latest(histories, [*keys, "epoch"]), on=keys)
    images = {stage: _images(parts, [_places(table, wanted, keys) for table in tables], stage, len(wanted)) for stage in ("reconstruction", "generation")}
    made: dict[str, Any] = {}
    for part in parts:
        known = json.loads((part / "provenance.json").read_text())
        classifier = part / "tables" / "classifier.json"  # each part has trained its own
        more = {"classifier": json.loads(classifier.read_text())} if classifier.exists() else {}
        made |= known.get("parts") or {part.name: {**known, **more}}
    for name in ("data.json", "objective.txt"):
        shutil.copyfile(parts[0] / name, _made(target) / name)
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
    if other.kind is not KINDS["hierarchical"]:
        raise InputError(f"{other.name}: only grids of betas of ghvae and lvae have parts")
    differ = [key for key, value in config.dump().items() if key not in FREE and value != other.dump()[key]]
    differ += ["data.json"] if (folder / "data.json").read_text() != (other_folder / "data.json").read_text() else []
    differ += ["objective.txt"] if store.kept_objective(folder) != store.kept_objective(other_folder) else []
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
    parser.add_argument("--redraw", action="store_true", help="draw the figures of the published grid of that name anew")
    args = parser.parse_args(argv)
    try:
        print(publish(args.name, args.runs, redraw=args.redraw).relative_to(ROOT))
        if size() > LIMIT:
            raise InputError(f"{PUBLISHED.name}: {size() / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}; take something out before it is committed")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
