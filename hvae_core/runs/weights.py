"""The trained models of a run."""

from __future__ import annotations

import json
import operator
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open

from hvae_core.errors import InputError
from hvae_core.files import digest, save_tensors
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, output_root, run_folder
from hvae_core.runs.kinds import KINDS

if TYPE_CHECKING:  # PyTorch takes seconds to import, and most processes of a batch read no weights
    import torch

    from hvae_core.models.conditioning import Conditioned
    from hvae_core.models.hierarchy import HierarchicalVAE

FEW = 10
"""Models with weights whose numbers are named, when another one's are asked for."""


def block_folder(config: Config, block: int) -> Path:
    """Where the weights and tables of a block lie."""
    return run_folder(config.name) / "checkpoints" / f"block-{block:03d}"


def identities(run: str | Path) -> dict[str, str | None]:
    """Which training a run's weights are of, and their checksum, by block."""
    return {
        path.parent.name: saved_training(path)
        for path in sorted(run_folder(run).glob("checkpoints/block-*/weights.safetensors"))
    }


def saved_identity(path: Path) -> str | None:
    """The identity of the training whose weights these are; None without readable weights."""
    return _metadata(path).get("identity")


def saved_training(path: Path) -> str | None:
    """The identity of the training and the checksum of its weights; None without readable weights."""
    about = _metadata(path)
    return f"{about.get('identity')} {about.get('sha256')}" if about else None


def trained_for(run: str | Path) -> set[str]:
    """The checksums of all objectives that a run's weights were trained for."""
    paths = run_folder(run).glob("checkpoints/block-*/weights.safetensors")
    return {about["objective"] for about in map(_metadata, paths) if "objective" in about}


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "np") as file:  # to name PyTorch here is to import it
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def load_model(run: str | Path, index: int, device: str | torch.device = "cpu") -> HierarchicalVAE:
    """The trained model ``index`` (the row in ``results``) of a run; of a conditioned network, what it is at its betas.

    Raises:
        InputError: when it was not trained yet, or there is no such row.
    """
    config = load_config(run)
    members = config.members()
    index = _whole_number("index", index)
    if not 0 <= index < len(members):
        raise InputError(f"run '{config.name}' has no trained model {index}; its rows are 0 to {len(members) - 1}")
    if config.kind is KINDS["conditioned"]:
        first = next(i for i, member in enumerate(members) if member.seed == members[index].seed)
        weights = sorted((run_folder(run) / "checkpoints").glob("block-*/weights.safetensors"))
        stamps = tuple((path, _stamp(path)) for path in weights)
        model = _network(run_folder(run), first, stamps).at(members[index].betas)
    else:
        model = cast("HierarchicalVAE", _load(run, index))
    return model.requires_grad_(False).eval().to(device)


def _whole_number(name: str, value: Any) -> int:
    """A number to count with, whether Python's, NumPy's or PyTorch's.

    Example:
        >>> _whole_number("index", "0")
        Traceback (most recent call last):
        hvae_core.errors.InputError: index = '0': allowed are whole numbers
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InputError(f"{name} = {value!r}: allowed are whole numbers")


@lru_cache(maxsize=1)
def _network(folder: Path, index: int, _stamps: tuple[Any, ...]) -> Conditioned:
    """Kept while a run's points are looked at one after the other: to read it takes longer than to look."""
    return cast("Conditioned", _load(folder, index))


def load_network(run: str | Path, seed: int = 0, device: str | torch.device = "cpu") -> Conditioned:
    """The conditioned network of a run with this seed.

    Raises:
        InputError: when it was not trained yet, or the run is of other models.
    """
    from hvae_core.models.conditioning import Conditioned

    members = load_config(run).members()
    seed = _whole_number("seed", seed)
    if seed not in {member.seed for member in members}:
        raise InputError(
            f"run '{Path(run).name}' has no seed {seed}; it has "
            f"{', '.join(map(str, sorted({member.seed for member in members})))}"
        )
    found = _load(run, next(i for i, member in enumerate(members) if member.seed == seed))
    if not isinstance(found, Conditioned):
        raise InputError(
            f"run '{Path(run).name}' is of {members[0].model}, whose betas are fixed; such as ghvae-conditioned "
            "has a network for all"
        )
    return found.requires_grad_(False).eval().to(device)


def copy_weights(run: str | Path, folder: Path, indices: Collection[int], half: bool = False) -> None:
    """Put the weights of some of a run's models into another run folder, where `load_model` finds these.

    Arguments:
        folder: the other run's.
        indices: the models (rows in ``results``).
        half: as float16, in half the space; they are loaded as float32 again.

    Raises:
        InputError: when weights are missing or damaged, or beyond the range of float16.
    """
    missing = set(indices)
    for path in sorted((run_folder(run) / "checkpoints").glob("block-*/weights.safetensors")):
        _check(path, _stamp(path))
        with safe_open(path, "pt") as file:
            about, sets, tensors = file.metadata(), {}, {}
            for name, (members, rows) in json.loads(about["sets"]).items():
                missing -= set(members)
                wanted = {index: row for index, row in zip(members, rows, strict=True) if index in indices}
                kept = sorted(set(wanted.values()))
                if kept:
                    sets[name] = [list(wanted), [kept.index(row) for row in wanted.values()]]
                for key in file.keys() if kept else ():
                    if key.startswith(f"{name}/"):
                        tensors[key] = file.get_tensor(key)[kept]
        if half:
            tensors = {key: value.half() for key, value in tensors.items()}
            if not all(bool(value.isfinite().all()) for value in tensors.values()):
                raise InputError(f"{path}: weights beyond the range of float16, or none")
        if tensors:
            save_tensors(
                folder / "checkpoints" / path.parent.name / path.name, tensors, about | {"sets": json.dumps(sets)}
            )
    if missing:
        raise InputError(f"run '{run_folder(run).name}' has no weights of model {min(missing)}; ./run_all.sh trains it")


def are_whole(path: Path) -> bool:
    """Whether weights are as they were written, by their checksum."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return (file.metadata() or {}).get("sha256") in (None, digest(tensors))
    except (OSError, SafetensorError):
        return False


@lru_cache(maxsize=1024)
def _check(path: Path, _known: tuple[int, int, int]) -> None:
    """Compare weights with their checksum; once, for all models of a file.

    Raises:
        InputError: when they are damaged.
    """
    if not are_whole(path):
        folder = path.parents[2]
        own = folder.parent == output_root().absolute() / "runs"
        raise InputError(
            f"{path} is damaged; {f'./run_all.sh {folder.name} trains its models again' if own else 'restore it'}"
        )


def _stamp(path: Path) -> tuple[int, int, int]:
    """By which a file in this process's memory is known to be the one on the disk still."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _load(run: str | Path, index: int) -> HierarchicalVAE | Conditioned:
    from hvae_core.models import build
    from hvae_core.models.conditioning import Conditioned, covering

    config, folder = load_config(run), run_folder(run)
    members, there = config.members(), []
    for path in sorted((folder / "checkpoints").glob("block-*/weights.safetensors")):
        _check(path, _stamp(path))
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if "sets" not in metadata:
                raise _outdated(folder)
            for name, (indices, rows) in json.loads(metadata["sets"]).items():
                there += indices
                if index not in indices:
                    continue
                row, prefix = rows[indices.index(index)], f"{name}/"
                weights = {
                    key.removeprefix(prefix): file.get_slice(key)[row]
                    for key in file.keys()  # noqa: SIM118  # not a dict: it cannot be iterated itself
                    if key.startswith(prefix)
                }
                model: Any = build(name, tuple(json.loads(metadata["image_shape"])), **config.options)
                if config.kind is KINDS["conditioned"]:
                    model = Conditioned(model, covering(member.betas for member in members))
                try:
                    unread = model.load_state_dict(weights, strict=False).unexpected_keys
                except RuntimeError:  # other shapes
                    raise _outdated(folder) from None
                if unread:
                    raise _outdated(folder)
                return model
    raise InputError(
        f"run '{folder.name}' has no weights of model {index}"
        f"{', but of ' + ', '.join(map(str, sorted(there))) if 0 < len(there) <= FEW else ''}; "
        "./run_all.sh or 10_train trains what is missing"
    )


def _outdated(folder: Path) -> InputError:
    return InputError(f"run '{folder.name}' was made by an earlier version; remove {folder} and run it again")
