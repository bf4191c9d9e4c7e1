"""Run folders: the only thing that passes between training, evaluation and figures.

::

    runs/<name>/config.yaml  provenance.json  results.parquet  results.csv  history.parquet
                tables/      one Parquet table a stage, one row a model
                images/      reconstructions and samples to look at
                checkpoints/ weights as safetensors, and the state to resume training from
                notebooks/   executed notebooks
    figures/<name>/

Every file is written whole or not at all: to a temporary name, then moved.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import yaml

from hvae_core.errors import InputError
from hvae_core.files import ROOT, read_text, whole_file, write_text
from hvae_core.runs.config import Config
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.profiles import read_yaml
from hvae_core.runs.rules import with_effect

if TYPE_CHECKING:  # PyTorch takes seconds to import
    from hvae_core.data.dataset import Dataset


UNREADABLE = (OSError, ValueError, EOFError, NotImplementedError, BadZipFile, zlib.error)
"""What reading a damaged npz file may raise."""


def output_root() -> Path:
    """Where ``runs/`` and ``figures/`` lie: ``HVAE_OUTPUT``, or the repository."""
    return Path(os.environ.get("HVAE_OUTPUT") or ROOT).expanduser()


def run_folder(run: str | Path) -> Path:
    """The folder of a run, given its name or a path (a word without a slash is a name)."""
    path = Path(run)
    is_path = not (isinstance(run, str) and path.name == run) and (path / "config.yaml").exists()
    return path.absolute() if is_path else output_root() / "runs" / path.name


def figure_folder(run: str | Path) -> Path:
    """The folder of a run's figures."""
    return run_folder(run).parents[1] / "figures" / run_folder(run).name


# --- configuration and provenance -------------------------------------------------------------------------------


def open_run(config: Config) -> Path:
    """The run's folder, made if need be, with the configuration in it.

    Raises:
        InputError: when the name belongs to a run with another configuration.
    """
    folder = run_folder(config.name)
    path = folder / "config.yaml"
    wanted = {key: value for key, value in config.dump().items() if key != "block"}
    if path.exists():
        there = {key: value for key, value in load_config(config.name).dump().items() if key != "block"}
        differences = [
            f"{key} is {there[key]} there and {wanted[key]} here" for key in wanted if there[key] != wanted[key]
        ]
        if differences:
            raise InputError(
                f"run '{config.name}' exists with another configuration: {'; '.join(differences)}; "
                f"choose another --name or remove {folder}"
            )
    else:
        header = f"# Run {config.name}: the resolved configuration.\n"
        write_text(path, header + yaml.safe_dump({**wanted, "block": None}, sort_keys=False))
    return folder


def settled(config: Config, blocks: int | None = None) -> Config:
    """The configuration with the blocks that its run has, where it leaves them open; a new run gets ``blocks``."""
    if config.blocks is not None:
        return config
    if (run_folder(config.name) / "config.yaml").exists():
        blocks = load_config(config.name).blocks
    return Config.make({**config.dump(), "blocks": blocks})


def keep_data(config: Config, data: Dataset) -> None:
    """Keep with the run which data it is of.

    Rewritten only when they change, and then all of the run is out of date.
    """
    if not same_data(config, data):
        write_text(run_folder(config.name) / "data.json", _described_data(data))


def same_data(config: Config, data: Dataset) -> bool:
    """Whether a run is of these data."""
    path = run_folder(config.name) / "data.json"
    if not path.exists():
        return False
    try:
        kept = json.loads(read_text(path))
    except ValueError:
        return False
    described = json.loads(_described_data(data))
    # Of an earlier version, which said less of them.
    return isinstance(kept, dict) and "fingerprint" in kept and kept == {name: described.get(name) for name in kept}


class Described(NamedTuple):
    """What is kept of a data set in ``data.json``.

    Attributes:
        name, fingerprint, image_shape, notes: as a `Dataset` has them.
        train_images, test_images: how many there are.
    """

    name: str
    fingerprint: str
    train_images: int
    test_images: int
    image_shape: tuple[int, ...]
    notes: tuple[str, ...]


def described_data(data: Dataset) -> Described:
    """What a run keeps of its data."""
    counts = len(data.x_train), len(data.x_test)
    return Described(data.name, data.fingerprint, *counts, data.image_shape, data.notes)


def _described_data(data: Dataset) -> str:
    return json.dumps(described_data(data)._asdict(), indent=2) + "\n"


def load_config(run: str | Path) -> Config:
    """The configuration of a run.

    A run is its folder: the name in the configuration is that of the folder, which may have been renamed. Of a folder
    that lies elsewhere than runs/ it is the whole path, so that nothing reads or writes another run of that name.
    """
    folder = run_folder(run)
    path = folder / "config.yaml"
    if not path.exists():
        there = sorted(p.parent.name for p in (output_root() / "runs").glob("*/config.yaml"))
        raise InputError(f"no run '{run}'; there {'are ' + ', '.join(there) if there else 'is none yet'}")
    config = _config(path, path.read_bytes())
    elsewhere = folder.resolve() != run_folder(folder.name).resolve()
    return config.model_copy(update={"name": str(folder)}) if elsewhere else config


@lru_cache(maxsize=32)
def _config(path: Path, _content: bytes) -> Config:
    return Config.make({**with_effect(read_yaml(path)), "name": path.parent.name}, source=str(path))


def comparable_runs(run: str | Path) -> list[str]:
    """The names of all finished runs of Paper A's models on the same data as this run, of families of Paper B."""

    def data(folder: Path) -> Any:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return json.loads((folder / "data.json").read_text())["fingerprint"]

    found, own = [], data(run_folder(run))
    for path in sorted((output_root() / "runs").glob("*/data.json")):
        folder = path.parent
        if own and (folder / "results.parquet").exists() and data(folder) == own:
            with suppress(InputError):  # of another version, or damaged: not this run's concern
                if load_config(folder.name).kind in (KINDS["hierarchical"], KINDS["deep"]):
                    found.append(folder.name)
    return found


# --- images -----------------------------------------------------------------------------------------------------


def save_images(run: str | Path, stage: str, key: str = "", **arrays: Any) -> None:
    """Images to look at, uint8, as ``images/<stage>.npz``; ``key`` says what they are a function of."""
    with whole_file(run_folder(run) / "images" / f"{stage}.npz") as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays, key=np.array(key))


def images_key(run: str | Path, stage: str) -> str | None:
    """The key of `save_images`; None without readable images."""
    try:
        with np.load(run_folder(run) / "images" / f"{stage}.npz") as file:
            return str({name: file[name] for name in file.files}["key"])  # to read all is to check all
    except (*UNREADABLE, KeyError):
        return None


def load_images(run: str | Path, stage: str) -> dict[str, np.ndarray]:
    """What `save_images` wrote."""
    path = run_folder(run) / "images" / f"{stage}.npz"
    if not path.exists():
        raise InputError(
            f"run '{Path(run).name}' has no images of its {stage} yet; ./run_all.sh or the notebooks make them"
        )
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files if name != "key"}
    except UNREADABLE:
        raise InputError(f"{path} is damaged; remove it, and ./run_all.sh or the notebooks make it again") from None
