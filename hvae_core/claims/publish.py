"""A finished run -> ``published/``: the small files of its results, which are committed.

    .venv/bin/python -m hvae_core.claims.publish NAME [--weights] [--no-figures] | --redraw

With ``--weights`` some models come along, for `hvae_core.load_model`: of a conditioned network that of the first seed,
in float16, or the best models for the three applications. Other weights stay where they were trained. ``published/``
is laid out like any output folder, so that everything which reads a run reads a published one, given its path
(``load_results("published/runs/quick")``) or with ``HVAE_OUTPUT=published``. With ``--redraw`` the figures of the
published run NAME are drawn anew from its stored results, as when the code that draws them has changed: of a
conditioned network all but ``sliding``, which shows more models than results have. With ``--no-figures`` a run that
is there for its weights takes little space.
"""

import argparse
import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from PIL import Image

from hvae_core.analysis.points import drawable, grid_means, optima, settings, split_rates
from hvae_core.claims import crate
from hvae_core.errors import InputError
from hvae_core.files import ROOT, write_text
from hvae_core.names import CONDITIONED
from hvae_core.pipeline.batch import outputs
from hvae_core.pipeline.drawing import figure_inputs, provenance, save_all, separate_grids
from hvae_core.pipeline.job import environment
from hvae_core.pipeline.stages import load_data
from hvae_core.runs.config import Config
from hvae_core.runs.folder import figure_folder, load_config, output_root, run_folder
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.profiles import read_yaml
from hvae_core.runs.results import load_results
from hvae_core.runs.weights import copy_weights

PUBLISHED = ROOT / "published"
LIMIT = 25_000_000  # bytes, all published files together, but for weights
WEIGHTS = "*.safetensors"
WEIGHTS_LIMIT = 6_000_000  # bytes, of all published weights
COPIED = (
    "config.yaml",
    "*.json",
    "objective.txt",
    "results.*",
    "history.parquet",
    "tables/classifier.json",
    "images/*.npz",
)
SHOWN = ("reconstruction", "generation")  # of these images Fig. 4 shows some
MANY = 64  # settings: in Fig. 1 each has a colour of its own


def publish(name: str, root: Path = PUBLISHED, redraw: bool = False, weights: bool = False, drawn: bool = True) -> Path:
    """Put a finished run into ``root``; what is there is replaced when all of it is made.

    Arguments:
        redraw: leave the published run as it is, but draw its figures anew, as far as weights are not needed.
        weights: with those of `chosen`.
        drawn: with figures and executed notebooks.

    Returns:
        Its run folder there.

    Raises:
        InputError: the run is not finished, or what is to be drawn anew is not published or needs weights.
    """
    Config.make({"name": name})  # a name, no path
    target, pictures = root / "runs" / name, root / "figures" / name
    if redraw:
        _redrawable(target)
    else:
        _finished(name)
        if run_folder(name).resolve() == target.resolve():
            raise InputError(f"run '{name}' is the published one; HVAE_OUTPUT must be where it was trained")
    with tempfile.TemporaryDirectory(prefix=".making-", dir=_made(root)) as folder:
        new = Path(folder)
        run, figures = new / "runs" / name, new / "figures" / name
        if redraw:
            for other in {name} | {path.name for path in root.glob("figures/*")}:  # a network is drawn beside grids
                for part in ("runs", "figures"):
                    if (root / part / other).exists():
                        shutil.copytree(root / part / other, new / part / other)
            _draw(name, new)
            _drop_orphans(figures, new / "runs")
        else:
            _copy_run(run_folder(name), run, notebooks=drawn)
            if weights:
                conditioned = load_config(run).kind is KINDS["conditioned"]
                copy_weights(name, run, chosen(load_results(name)), half=conditioned)
            if drawn:
                shutil.copytree(figure_folder(name), figures, ignore=shutil.ignore_patterns("*.html", "notebooks"))
            _pack(run, figures)
        _reduce_colours(load_config(run), figures)
        for old, fresh in ((target, run), (pictures, figures)):
            if old.exists():
                old.rename(_made(new / "replaced" / old.parent.name) / old.name)
            if fresh.exists():
                fresh.rename(_made(old.parent) / old.name)
    return target


def chosen(results: pd.DataFrame) -> list[int]:
    """The models whose weights are published: of a conditioned network all of the first seed, else the three optima.

    Of several seeds it is the first that did not diverge.

    Raises:
        InputError: no model was measured for one of the three applications.

    Example:
        >>> from hvae_core.analysis.points import betas
        >>> results = load_results(PUBLISHED / "runs/mnist-9x9")
        >>> [(float(beta_2), float(beta_1)) for beta_2, beta_1 in betas(results.loc[chosen(results)]).round(2)]
        [(0.56, 0.1), (0.56, 1.0), (3.16, 3.16)]
    """
    well = results[results["status"] == "ok"]
    if results["model"].isin(CONDITIONED).all():
        return list(well.index[well["seed"] == well["seed"].min()])
    points = grid_means(results)
    if not (rows := optima(points)):
        raise InputError("--weights: the best models for the applications of Paper A are published; there is none here")
    keys = settings(results)
    return sorted({int(well.index[(well[keys] == points.loc[row, keys]).all(axis=1)][0]) for row in rows.values()})


def size(root: Path = PUBLISHED, weights: bool = False) -> int:
    """Bytes of all published weights, or of all other published files."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and path.match(WEIGHTS) is weights)


def _finished(run: str) -> None:
    lacking = [path for path in outputs(load_config(run)) if not path.exists()]
    if lacking:
        raise InputError(f"run '{run}' is not finished: {lacking[0].name} is missing; ./run_all.sh makes it")


def _redrawable(target: Path) -> None:
    if not target.exists() or load_config(target).kind in (KINDS["toy"], KINDS["targets"], KINDS["shares"]):
        raise InputError(f"{target.name} is not published, or its figures need more than is published")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy_run(source: Path, target: Path, notebooks: bool) -> None:
    """A run folder without weights, and without the folders in which it was made."""
    for pattern in COPIED:
        for path in source.glob(pattern):
            if path.name == crate.NAME:
                continue  # of files that are not published
            shutil.copyfile(path, _made((target / path.relative_to(source)).parent) / path.name)
    config, data = target / "config.yaml", _data_folder(source)
    values, head = read_yaml(config), re.match("(#.*\n)?", config.read_text(encoding="utf-8"))
    values["dataset"] = _without(values["dataset"], data)  # in the text a path may be folded, or have other letters
    write_text(config, (head[0] if head else "") + yaml.safe_dump(values, sort_keys=False))
    for path in _notebooks(source) if notebooks else ():
        copy = _made(target / "notebooks") / path.name
        shutil.copyfile(path, copy)
        _clean(copy, output_root().resolve(), data)


def _notebooks(run: Path) -> list[Path]:
    """The executed notebooks; of several blocks, whose notebooks are alike, that of the first."""
    first: dict[str, Path] = {}
    for path in sorted(run.glob("notebooks/*.ipynb")):
        first.setdefault(re.sub(r"-\d+$", "", path.stem), path)
    return list(first.values())


def _data_folder(run: Path) -> Path:
    """Where a run's own data set lies; of a named one the root of the repository."""
    dataset = Path(load_config(run).dataset)
    return dataset.parent if dataset.is_absolute() else ROOT


def _without(text: str, *folders: Path) -> str:
    for folder in sorted(folders, key=lambda folder: -len(str(folder))):  # one may lie in another
        text = text.replace(f"{folder}/", "")
    return text


def _drop_orphans(figures: Path, runs: Path) -> None:
    """Delete what was drawn beside a run that is published no more, going by the notes."""
    for note in figures.glob("*.json"):
        inputs = json.loads(note.read_text()).get("inputs", {})
        if any(not (runs / name.split("/")[1]).exists() for name in inputs if name.startswith("runs/")):
            for path in figures.glob(f"{note.stem}.*"):
                path.unlink()


def _pack(run: Path, figures: Path) -> None:
    """The images in less space, still for `numpy.load`; the figures' notes name the new files.

    Only of models that Fig. 4 may show, which are of the first seed of a setting; other rows are black.
    """
    for path in (run / "images").glob("*.npz"):
        old = path.read_bytes()
        arrays = dict(np.load(io.BytesIO(old)))
        if path.stem in SHOWN:
            results = load_results(run)
            known = drawable(results).to_numpy() & np.isfinite(split_rates(results)).all(0)
            first = results[known].drop_duplicates(settings(results)).index
            arrays["images"][~results.index.isin(first)] = 0
        packed = _packed(arrays)
        path.write_bytes(packed)
        before, after = (hashlib.sha256(content).hexdigest() for content in (old, packed))
        for note in figures.glob("*.json"):
            write_text(note, note.read_text().replace(before, after))


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    """An npz file without times: equal arrays, equal bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_LZMA) as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_LZMA)
    return made.getvalue()


def _draw(name: str, root: Path) -> None:
    """Execute the notebook of the figures on a run in ``root``; of a conditioned network `draw_network`."""
    kind = load_config(root / "runs" / name).kind
    network = kind is KINDS["conditioned"]
    command = [sys.executable, "-m", "hvae_core.pipeline.job", name, kind.notebook]
    if network:
        command = [sys.executable, "-c", f"from hvae_core.claims.publish import draw_network; draw_network({name!r})"]
    done = subprocess.run(command, env={**environment(), "HVAE_OUTPUT": str(root.resolve())}, check=False)
    if done.returncode:
        raise InputError(f"{name}: its figures could not be drawn (above); nothing is published")
    shutil.rmtree(root / "runs" / name / ".progress", ignore_errors=True)
    if not network:
        _clean(root / "runs" / name / "notebooks" / f"{kind.notebook}.ipynb", root.resolve())


def draw_network(name: str) -> None:
    """Draw what notebook 95 draws of a conditioned network without its weights: all but ``sliding``."""
    from hvae_core import figures
    from hvae_core.analysis.beside import beside_grids, first

    config = load_config(name)
    results = load_results(name)
    images, labels, _ = figure_inputs(config, load_data(config))
    grids = separate_grids(config)
    beside = beside_grids(results, grids)
    made: dict[str, Figure] = {"surface": figures.surface(results, first(grids))}
    made |= figures.fidelities(beside.compared, name) | figures.paper_a(results, images, labels)
    tables = {**beside.tables, "table1": figures.table1(results)}
    inputs = provenance(config, "images/reconstruction.npz", "images/generation.npz", others=grids)
    save_all(config, made, tables, inputs)


def _clean(notebook: Path, *folders: Path) -> None:
    """Take out of a notebook the folders it was executed in, what is there twice, and most colours."""
    text = notebook.read_text()
    content = json.loads(text)
    executed = content["metadata"].get("papermill", {})
    if isinstance(executed.get("input_path"), dict):  # not where it lay, but all of it
        executed["input_path"] = f"notebooks/{re.sub(r'-[0-9]+$', '', notebook.stem)}.ipynb"
        text = json.dumps(content, ensure_ascii=False)
    # The checkout and the output folder may be those of another machine.
    paths = [(Path(executed.get(key) or ""), depth) for key, depth in (("output_path", 3), ("input_path", 1))]
    elsewhere = [path.parents[depth] for path, depth in paths if path.is_absolute() and len(path.parents) > depth + 1]
    content = json.loads(_without(text, *folders, *elsewhere, ROOT))
    for cell in content["cells"]:
        cell["metadata"].pop("execution", None)  # times that papermill has noted too
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "<iframe" in "".join(data.get("text/html", "")):  # a page of the run, with its weights
                data["text/html"] = "<p>Here the explorer is, in a run of your own.</p>"
            if "text/html" in data:
                data.pop("text/plain", None)  # the same table again
            if png := data.get("image/png"):
                data["image/png"] = base64.b64encode(few_colours(base64.b64decode(png), 64)).decode()
    write_text(notebook, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _reduce_colours(config: Config, figures: Path) -> None:
    many = len(config.members()) > MANY * config.seeds
    for image in figures.glob("*.png"):
        if not (many and image.stem == "fig1"):
            image.write_bytes(few_colours(image.read_bytes()))


def few_colours(png: bytes, colours: int = 256) -> bytes:
    """The image with so many colours at most; the PDF of a figure has all of them.

    256 colours take a third of the space, 64 a quarter.
    """
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    made = io.BytesIO()
    few.save(made, "PNG", optimize=True)
    return made.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Publish what is named; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", help="of the run")
    parser.add_argument("--no-figures", action="store_true", help="leave out figures and executed notebooks")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--redraw", action="store_true", help="draw the figures of the published run of that name anew")
    what.add_argument("--weights", action="store_true", help="publish the network, or the best models, as well")
    args = parser.parse_args(argv)
    if args.redraw and args.no_figures:
        parser.error("--redraw draws figures: not together with --no-figures")
    try:
        made = publish(args.name, redraw=args.redraw, weights=args.weights, drawn=not args.no_figures)
        print(made.relative_to(ROOT))
        for kind, found, limit in (("", size(), LIMIT), (" of weights", size(weights=True), WEIGHTS_LIMIT)):
            if found > limit:
                raise InputError(
                    f"{PUBLISHED.name}: {found / 1e6:.1f} MB{kind}, more than {limit / 1e6:.0f}; "
                    "take something out before it is committed"
                )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
