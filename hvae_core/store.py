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

import ast
import contextlib
import fcntl
import hashlib
import importlib
import inspect
import json
import os
import platform
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import yaml
from safetensors import SafetensorError, safe_open

from hvae_core.config import KINDS, NOTEBOOKS, ROOT, Config, read_yaml
from hvae_core.errors import InputError
from hvae_core.terms import layer_numbers

if TYPE_CHECKING:  # PyTorch takes seconds to import, and most processes of a batch read no weights
    import torch
    from torch import Tensor

    from hvae_core.data import Dataset
    from hvae_core.models import HierarchicalVAE
    from hvae_core.models.conditioning import Conditioned

PROBES = ("logistic", "linear_svm", "rbf_svm", "knn")


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


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path that becomes ``path`` when the block ends well, durably and at once.

    Raises:
        InputError: when the disk is full or may not be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as part:
        table.to_parquet(part, index=False)


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
        differences = [f"{key} is {there[key]} there and {wanted[key]} here"
                       for key in wanted if there[key] != wanted[key]]  # fmt: skip
        if differences:
            raise InputError(
                f"run '{config.name}' exists with another configuration: {'; '.join(differences)}; "
                f"choose another --name or remove {folder}"
            )
    else:
        header = f"# Run {config.name}: the resolved configuration.\n"
        write_text(path, header + yaml.safe_dump({**wanted, "block": None}, sort_keys=False))
    return folder


def keep_data(config: Config, data: Dataset) -> None:
    """Keep with the run which data it is of; rewritten only when they change, and then all of the run is out of date."""
    if not same_data(config, data):
        write_text(run_folder(config.name) / "data.json", _described_data(data))


def same_data(config: Config, data: Dataset) -> bool:
    """Whether a run is of these data."""
    path = run_folder(config.name) / "data.json"
    return path.exists() and path.read_text() == _described_data(data)


def _described_data(data: Dataset) -> str:
    described = {"name": data.name, "fingerprint": data.fingerprint, "train_images": len(data.x_train),
                 "test_images": len(data.x_test), "notes": list(data.notes)}  # fmt: skip
    return json.dumps(described, indent=2) + "\n"


def load_config(run: str | Path) -> Config:
    """The configuration of a run."""
    path = run_folder(run) / "config.yaml"
    if not path.exists():
        there = sorted(p.parent.name for p in (output_root() / "runs").glob("*/config.yaml"))
        raise InputError(f"no run '{run}'; there {'are ' + ', '.join(there) if there else 'is none yet'}")
    return _config(path, path.read_bytes())


@lru_cache(maxsize=32)
def _config(path: Path, _content: bytes) -> Config:
    return Config.make(read_yaml(path), source=str(path))


@cache
def commit() -> dict[str, Any]:
    """The commit that the code comes from, and whether files (but for results and texts) differ from it; nulls outside a repository."""
    try:
        head, status = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", ".", ":!published", ":!docs"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(status)}


def provenance() -> dict[str, Any]:
    """Commit, versions and device: what a result needs to be made again."""
    import torch

    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib")
    return {
        **commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "device": device_name(gpu=torch.cuda.is_available()),
        "cores": os.cpu_count(),
    }


def device_name(gpu: bool) -> str:
    """The GPU's name, or the processor's, where Linux tells it, or else its kind."""
    if gpu:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _code(node: ast.AST) -> str:
    """A syntax tree as text, without docstrings; the same in every version of Python, which differ in the empty lists that they name."""
    for part in ast.walk(node):
        body = getattr(part, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(
            body[0].value, ast.Constant
        ):  # fmt: skip
            body.pop(0)  # a docstring
    return _spelled(node)


def _spelled(node: Any) -> str:
    if isinstance(node, list):
        return f"[{', '.join(map(_spelled, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    there = [(name, value) for name, value in ast.iter_fields(node)
             if value != [] and (value is not None or (isinstance(node, ast.Constant) and name == "value"))]  # fmt: skip
    return f"{type(node).__name__}({', '.join(f'{name}={_spelled(value)}' for name, value in there)})"


def code_fingerprint(modules: Iterable[str]) -> str:
    """A hash of what these modules of `hvae_core` do: comments, docstrings and layout do not change it."""
    digest = hashlib.sha256()
    for name in modules:
        source = inspect.getsource(importlib.import_module(f"hvae_core.{name}"))
        digest.update(_code(ast.parse(source)).encode())
    return digest.hexdigest()[:16]


def described_function(function: Callable[..., Any], depth: int = 3) -> str:
    """What a function does, as text: its code without comments, and the values and functions that it refers to.

    Raises:
        InputError: when it is neither a function nor a `functools.partial` of one.
    """
    if isinstance(function, partial):
        given = [*enumerate(function.args), *sorted(function.keywords.items())]
        return f"{described_function(function.func, depth)} given {', '.join(f'{name} = {_described_value(value)}' for name, value in given)}"
    if not inspect.isfunction(function):
        raise InputError(f"{function!r} is no function; give one, or a functools.partial of one")
    try:
        text = _code(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):
        code = function.__code__
        text = f"{code.co_code.hex()} {code.co_consts} {code.co_names}"
    names: set[str] = set()
    codes = [function.__code__]
    while codes:  # comprehensions and inner functions have code of their own
        code = codes.pop()
        names.update(code.co_names)
        codes += [part for part in code.co_consts if inspect.iscode(part)]
    known = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, value in sorted({**known, **inspect.getclosurevars(function).nonlocals}.items()):
        if inspect.isfunction(value) or (isinstance(value, partial) and inspect.isfunction(value.func)):
            text += f" {name}: {described_function(value, depth - 1) if depth else getattr(value, '__qualname__', 'partial')}"
        elif not inspect.ismodule(value) and not isinstance(value, type):
            text += f" {name} = {_described_value(value)}"
    return text


def _described_value(value: Any) -> str:
    """A value as text: of a large array, which shows but its ends, with a checksum, and of an object without its address."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return f"{text} {hashlib.sha256(repr(value.tolist()).encode()).hexdigest()[:16]}" if hasattr(value, "tolist") and "..." in text else text


def keep_objective(config: Config, *objectives: Callable[..., Any]) -> None:
    """Keep with the run what it is trained for; of the toy run, for two in turn.

    Raises:
        InputError: when the run was trained for something else.
    """
    path = run_folder(config.name) / "objective.txt"
    described = " ".join(map(described_function, objectives))
    if not path.exists():
        write_text(path, described + "\n")
    elif kept_objective(config.name) != _without_empty(described):
        raise InputError(
            f"run '{config.name}' was begun with another objective than its notebook has now; "
            f"choose another --name, or remove {path.parent}"
        )


def kept_objective(run: str | Path) -> str:
    """What a run was begun with, to compare: as `described_function` gives it, without empty lists, which earlier versions wrote down."""
    return _without_empty((run_folder(run) / "objective.txt").read_text().strip())


def _without_empty(text: str) -> str:
    return re.sub(r"\b\w+=\[\](, )?", "", text).replace(", )", ")")


def identity(config: Config, fingerprint: str, objective: Callable[..., Any]) -> str:
    """What the weights of a block are a function of, as a hash: data, configuration, objective and code."""
    unrelated = {"name", "dataset", "generated_samples", "classifier_epochs", "device", "blocks", "test_images",
                 "likelihood_images"}  # fmt: skip
    values = {key: value for key, value in config.dump().items() if key not in unrelated}
    members = config.block_members()
    code = code_fingerprint(config.kind.code["training"])
    described = json.dumps([values, [members.start, members.stop], fingerprint, described_function(objective), code])
    return hashlib.sha256(described.encode()).hexdigest()[:16]


# --- checkpoints and weights ------------------------------------------------------------------------------------


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


class Checkpoints:
    """The states to resume a training from: the last two, each one file with a checksum.

    Arguments:
        folder: theirs alone.
        identity: of the training; a checkpoint of another training is not continued.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.safetensors"))

    def save(self, epoch: int, tensors: dict[str, Tensor]) -> None:
        """Keep the state after ``epoch`` epochs, then drop all but the last two."""
        from safetensors.torch import save_file

        tensors = {name: value.contiguous() for name, value in tensors.items()}
        metadata = {"identity": self.identity, "epoch": str(epoch), "sha256": _digest(tensors)}
        with whole_file(self.folder / f"epoch-{epoch:06d}.safetensors") as part:
            save_file(tensors, part, metadata)
        for old in self._files()[:-2]:
            old.unlink(missing_ok=True)

    def load(self, device: torch.device) -> tuple[int, dict[str, Tensor]] | None:
        """The newest readable state of this training, as (epochs done, tensors), or None."""
        from safetensors.torch import load_file

        for path in reversed(self._files()):
            try:
                with safe_open(path, "pt") as file:
                    metadata = file.metadata() or {}
                tensors = load_file(path)
                if metadata.get("identity") != self.identity:
                    wrong = "is of another training (settings, data or code changed); training anew"
                elif metadata.get("sha256") != _digest(tensors):
                    wrong = "is damaged (wrong checksum); trying the one before"
                else:
                    return int(metadata["epoch"]), {name: value.to(device) for name, value in tensors.items()}
            except (OSError, SafetensorError) as error:
                wrong = f"cannot be read ({error}); trying the one before"
            print(f"{path} {wrong}", file=sys.stderr)
            with contextlib.suppress(OSError):
                path.unlink()  # or it would be taken for one of the last two
        return None


def block_folder(config: Config, block: int) -> Path:
    """Where the weights and tables of a block lie."""
    return run_folder(config.name) / "checkpoints" / f"block-{block:03d}"


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Weights as safetensors, with a checksum."""
    from safetensors.torch import save_file

    tensors = {name: value.contiguous().cpu() for name, value in tensors.items()}
    with whole_file(path) as part:
        save_file(tensors, part, {**metadata, "sha256": _digest(tensors)})


def identities(run: str | Path) -> dict[str, str | None]:
    """The identities of the trainings that a run's weights are of, by block."""
    return {path.parent.name: saved_identity(path) for path in sorted(run_folder(run).glob("checkpoints/block-*/weights.safetensors"))}


def saved_identity(path: Path) -> str | None:
    """The identity of the training whose weights these are; None without readable weights."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("identity")
    except (OSError, SafetensorError):
        return None


def load_model(run: str | Path, index: int, device: str | torch.device = "cpu") -> HierarchicalVAE:
    """The trained model ``index`` (the row in ``results``) of a run; of a conditioned network, what it is at its betas.

    Raises:
        InputError: when it was not trained yet.
    """
    config = load_config(run)
    members = config.members()
    if config.kind is KINDS["conditioned"] and 0 <= index < len(members):
        first = next(i for i, member in enumerate(members) if member.seed == members[index].seed)
        weights = sorted((run_folder(run) / "checkpoints").glob("block-*/weights.safetensors"))
        stamps = tuple((path, path.stat().st_ino, path.stat().st_mtime_ns) for path in weights)
        model = _network(run_folder(run), first, stamps).at(members[index].betas)
    else:
        model = cast("HierarchicalVAE", _load(run, index))
    return model.requires_grad_(False).eval().to(device)


@lru_cache(maxsize=1)
def _network(folder: Path, index: int, _stamps: tuple[tuple[Path, int, int], ...]) -> Conditioned:
    """Kept while a run's points are looked at one after the other: to read it takes longer than to look."""
    return cast("Conditioned", _load(folder, index))


def load_network(run: str | Path, seed: int = 0, device: str | torch.device = "cpu") -> Conditioned:
    """The conditioned network of a run with this seed.

    Raises:
        InputError: when it was not trained yet, or the run is of other models.
    """
    from hvae_core.models.conditioning import Conditioned

    members = load_config(run).members()
    if seed not in {member.seed for member in members}:
        raise InputError(f"run '{Path(run).name}' has no seed {seed}; it has {', '.join(map(str, sorted({member.seed for member in members})))}")
    found = _load(run, next(i for i, member in enumerate(members) if member.seed == seed))
    if not isinstance(found, Conditioned):
        raise InputError(f"run '{Path(run).name}' is of {members[0].model}, whose betas are fixed; such as ghvae-conditioned has a network for all")
    return found.requires_grad_(False).eval().to(device)


@lru_cache(maxsize=1024)
def _check(path: Path, _stamp: int) -> None:
    """Compare weights with their checksum; once, for all models of a file.

    Raises:
        InputError: when they are damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            right = metadata.get("sha256") in (None, _digest({name: file.get_tensor(name) for name in file.keys()}))  # noqa: SIM118
    except (OSError, SafetensorError):
        right = False
    if not right:
        raise InputError(f"{path} is damaged; remove {path.parent} and train its models again")


def _load(run: str | Path, index: int) -> HierarchicalVAE | Conditioned:
    from hvae_core.models import build
    from hvae_core.models.conditioning import Conditioned, covering

    config = load_config(run)
    outdated = InputError(f"run '{config.name}' was made by an earlier version; remove {run_folder(run)} and run it again")
    for path in sorted((run_folder(run) / "checkpoints").glob("block-*/weights.safetensors")):
        _check(path, path.stat().st_mtime_ns)
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if "starts" not in metadata:
                raise outdated
            start, stop = json.loads(metadata["members"])
            if start <= index < stop:
                first = max(first for first in json.loads(metadata["starts"]) if first <= index)
                # One set of weights a member, or one a conditioned network.
                row = json.loads(metadata["networks"])[index - first] if "networks" in metadata else index - first
                weights = {
                    name.removeprefix(f"{first}."): file.get_slice(name)[row]
                    for name in file.keys()  # noqa: SIM118  # not a dict: it cannot be iterated itself
                    if name.startswith(f"{first}.")
                }
                members = config.members()
                model: Any = build(members[index].model, tuple(json.loads(metadata["image_shape"])), **config.options)
                if "networks" in metadata:
                    model = Conditioned(model, covering(member.betas for member in members))
                try:
                    unread = model.load_state_dict(weights, strict=False).unexpected_keys
                except RuntimeError:  # other shapes
                    raise outdated from None
                if unread:
                    raise outdated
                return model
    raise InputError(f"run '{config.name}' has no trained model {index}")


# --- tables -----------------------------------------------------------------------------------------------------


def stage_columns(stage: str, layers: int) -> list[str]:
    """The columns that a stage adds to ``results``, for a hierarchy of so many layers."""
    numbers = layer_numbers(layers)
    probed = [f"mu{number}" for number in numbers] + [f"z{layers}"]
    return {
        "training": [
            "distortion", *(f"rate_{n}" for n in numbers), "rate", "elbo",
            "train_distortion", *(f"train_rate_{n}" for n in numbers),
        ],
        "reconstruction": ["psnr", "psnr_pooled"],
        "generation": ["inception_score", "inception_score_std", "diversity", "sharpness"],
        "representation": [
            f"mi_z{layers}", "accuracy_bound_mi", "accuracy_bound_rate",
            *(f"acc_{latent}_{probe}" for latent in probed for probe in PROBES),
        ],
        "likelihood": ["iwae_5", "iwae_500", "mi_lower", "mi_upper", "active_units"],
    }[stage]  # fmt: skip


def columns(layers: int, stages: Sequence[str] = KINDS["hierarchical"].stages, targets: bool = False) -> list[str]:
    """The columns of ``results``, for a hierarchy of so many layers, with or without target rates."""
    about = ["dataset", "model", "seed", *(f"beta_{n}" for n in layer_numbers(layers)), "epochs", "status"]
    if targets:
        about += [*(f"target_{n}" for n in layer_numbers(layers)), "target_status", "target_reason"]
    return about + [column for stage in ("training", *stages) for column in stage_columns(stage, layers)]


def collect(run: str | Path) -> None:
    """Join the blocks' training tables to ``tables/training.parquet`` and ``history.parquet``."""
    config, folder = load_config(run), run_folder(run)
    members = config.members()
    parts = {"training": [], "history": []}  # type: dict[str, list[pd.DataFrame]]
    for block in range(config.blocks):
        path = block_folder(config, block)
        for kind, tables in parts.items():
            if (path / f"{kind}.parquet").exists():
                tables.append(pd.read_parquet(path / f"{kind}.parquet"))
    if not parts["training"]:
        raise InputError(f"run '{config.name}' has no trained model yet")
    numbers = layer_numbers(config.layers)
    betas = [f"beta_{n}" for n in numbers]
    given, found = betas, []
    if config.target_rates is not None:  # the betas are what training found
        given, found = [f"target_{n}" for n in numbers], [*betas, "target_status", "target_reason"]
    described = pd.DataFrame([{"member": i, "model": m.model, "seed": m.seed} for i, m in enumerate(members)])
    described[given] = np.array([m.targets or m.betas for m in members], float)
    training = described.merge(pd.concat(parts["training"]), on="member", how="left", validate="one_to_one")
    training = training.reindex(columns=[*described, *found, "status", "diverged_epoch", *stage_columns("training", config.layers)])
    training["status"] = training["status"].fillna("missing")
    write_table(folder / "tables" / "training.parquet", training)
    write_table(folder / "history.parquet", described.merge(pd.concat(parts["history"]), on="member"))


def join(run: str | Path) -> pd.DataFrame:
    """Join the stages' tables to ``results.parquet`` and ``results.csv``: one row a model, nulls where not computed.

    Raises:
        InputError: when a stage has measured other weights than those that are there now.
    """
    config, folder = load_config(run), run_folder(run)
    results, now = pd.read_parquet(folder / "tables" / "training.parquet"), identities(run)
    for stage in config.kind.stages:
        table = pd.read_parquet(folder / "tables" / f"{stage}.parquet")
        measured = table.attrs.get("weights", {})
        if any(now.get(block, made) != made for block, made in measured.items()):
            raise InputError(f"run '{config.name}' was trained anew after its {stage} was measured; ./run_all.sh or {NOTEBOOKS[stage]} measures it again")
        results = results.merge(table, on="member", how="left", validate="one_to_one")
    name = config.dataset if "/" not in config.dataset else Path(config.dataset).stem
    results = results.assign(dataset=name, epochs=config.epochs)
    results = results.reindex(columns=columns(config.layers, config.kind.stages, config.target_rates is not None))
    write_table(folder / "results.parquet", results)
    with whole_file(folder / "results.csv") as part:
        results.to_csv(part, index=False)
    return results


def load_results(run: str | Path) -> pd.DataFrame:
    """The results of a run: one row a model, columns as in `columns`. Joined first if a stage is newer.

    Raises:
        InputError: when the run does not exist or was not evaluated yet.
    """
    config = load_config(run)
    path = run_folder(run) / "results.parquet"
    tables = [run_folder(run) / "tables" / f"{stage}.parquet" for stage in ("training", *config.kind.stages)]
    if all(table.exists() for table in tables):
        if not path.exists() or path.stat().st_mtime < max(table.stat().st_mtime for table in tables):
            join(run)
    elif not path.exists():
        missing = ", ".join(table.stem for table in tables if not table.exists())
        raise InputError(f"run '{run}' has no results yet (missing: {missing}); ./run_all.sh or the notebooks make them")
    return pd.read_parquet(path)


def comparable_runs(run: str | Path) -> list[str]:
    """The names of all finished runs of Paper A's models on the same data as this run, of families of Paper B."""

    def data(folder: Path) -> Any:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return json.loads((folder / "data.json").read_text())["fingerprint"]

    found, own = [], data(run_folder(run))
    for path in sorted((output_root() / "runs").glob("*/data.json")):
        folder = path.parent
        if own and (folder / "results.parquet").exists() and data(folder) == own:
            with contextlib.suppress(InputError):  # of another version, or damaged: not this run's concern
                if load_config(folder.name).kind in (KINDS["hierarchical"], KINDS["deep"]):
                    found.append(folder.name)
    return found


def training_table(run: str | Path) -> pd.DataFrame:
    """One row a model: betas, seed, status and terms.

    Raises:
        InputError: when nothing was trained yet.
    """
    path = run_folder(run) / "tables" / "training.parquet"
    if not path.exists():
        raise InputError(f"run '{Path(run).name}' has no trained models yet; ./run_all.sh or 10_train makes them")
    return pd.read_parquet(path)


def save_images(run: str | Path, stage: str, **arrays: Any) -> None:
    """Images to look at, uint8, as ``images/<stage>.npz``."""
    with whole_file(run_folder(run) / "images" / f"{stage}.npz") as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_images(run: str | Path, stage: str) -> dict[str, np.ndarray]:
    """What `save_images` wrote."""
    path = run_folder(run) / "images" / f"{stage}.npz"
    if not path.exists():
        raise InputError(f"run '{Path(run).name}' has no images of its {stage} yet; ./run_all.sh or the notebooks make them")
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[IO[str] | None]:
    """Hold the lock ``path``; yields its open file, or None if another process has it and ``wait`` is false.

    The system releases it when the last process that has the file open ends, however it ends.

    Raises:
        InputError: when the file may not be made there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = open(path, "a")  # noqa: SIM115
    except (NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield file


def timestamp() -> str:
    """Now, in UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
