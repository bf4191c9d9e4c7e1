"""Measure all models of a run, in processes, from where an earlier execution stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from hvae_core.data.dataset import to_uint8
from hvae_core.errors import InputError
from hvae_core.evaluation import stacked
from hvae_core.evaluation.paired import OF_IMAGES, behind
from hvae_core.evaluation.stacked import Measurement, Tensors
from hvae_core.files import read_text, whole_file, write_table
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.pipeline.place import device
from hvae_core.progress import track
from hvae_core.runs.code import Running, code_of, running
from hvae_core.runs.config import Config, few
from hvae_core.runs.folder import images_key, run_folder, save_images
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.results import readable_table, scores_file, stage_columns, training_table
from hvae_core.runs.weights import identities, load_model
from hvae_core.training.convolutions import for_cpu
from hvae_core.training.plan import Member
from hvae_core.training.precision import keep_memory


def sparse(config: Config) -> Callable[[Member], bool]:
    """Whose classifiers, terms on training images and images to look at are computed, which takes longest.

    Of a conditioned network not every point's.
    """
    if config.kind is not KINDS["conditioned"]:
        return lambda member: True
    kept = [few(axis) for axis in zip(*(member.betas for member in config.members()), strict=True)]
    return lambda member: all(beta in axis for beta, axis in zip(member.betas, kept, strict=True))


def nothing(model: HierarchicalVAE, seed: int) -> dict[str, float]:
    return {}


def to_look_at(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: to_uint8(value) for name, value in tensors.items()}


def evaluate(
    config: Config,
    stage: str,
    function: Callable[[HierarchicalVAE, int], dict[str, Any]],
    key: str = "",
    processes: int = 1,
    wanted: Callable[[Member], bool] = lambda member: True,
) -> pd.DataFrame:
    """The table of a stage.

    ``function(model, seed)`` for every trained model that is wanted, one row each, columns as returned. What it
    returns of each image, under `OF_IMAGES`, is kept for `hvae_core.runs.results.load_scores`, and models are compared
    by it: see `behind`.

    Rows are kept as they are made, so a call after an interruption computes only what is missing. ``key`` names what
    else they depend on; rows made under another key, by other code or with other weights are not used. With several
    ``processes`` as many models are evaluated at once; on a GPU as many are scored, those of a `Measurement`, while it
    computes the next.

    Raises:
        InputError: for a stage that runs of these models do not have.
    """
    if stage not in config.kind.stages:
        raise InputError(
            f"run '{config.name}' is of {config.models[0]}, which has no stage {stage}; "
            f"it has {', '.join(config.kind.stages) or 'one notebook, ' + config.kind.notebook}"
        )
    folder = run_folder(config.name)
    status = training_table(config.name)["status"]
    weights = identities(config.name)
    code = running(code_of(config, stage))
    described = json.dumps([key, code.fingerprint, list(weights.values())])
    full_key = hashlib.sha256(described.encode()).hexdigest()[:16]
    path = folder / "tables" / f"{stage}.parquet"
    if (there := readable_table(path)) is not None and there.attrs.get("key") == full_key:
        print(f"The {stage} of these models is measured already, with these weights, data and code.")
        write_table(path, there)  # the same, without what may be damaged beside its values
        return there
    log = folder / "tables" / f".{stage}.jsonl"
    rows: dict[int, dict[str, Any]] = {}
    if log.exists():
        for line in read_text(log).splitlines():
            with contextlib.suppress(ValueError, LookupError, TypeError):  # damaged, as by a kill
                entry = json.loads(line)
                if entry["key"] == full_key:
                    rows[entry["member"]] = _from_log(entry["row"])
    members = config.members()
    todo = [i for i, state in enumerate(status) if state == "ok" and wanted(members[i])]
    with track(stage, len(todo), "models", sum(i in rows for i in todo)) as progress:
        for index, row in _each(config, function, [i for i in todo if i not in rows], processes, code):
            rows[index] = row
            try:
                with open(log, "a") as file:
                    file.write(json.dumps({"key": full_key, "member": index, "row": _to_log(row)}) + "\n")
            except OSError as error:
                raise InputError(f"cannot write {log}: {error.strerror}") from error
            progress.update(sum(i in rows for i in todo))
    names = stage_columns(stage, config.layers)
    table = pd.DataFrame([rows.get(i, {}) for i in range(len(status))], columns=names, dtype=float)
    table.insert(0, "member", range(len(status)))
    scores = _scores(rows, len(status))
    if scores:
        with whole_file(scores_file(config.name, stage)) as part, open(part, "wb") as file:
            np.savez_compressed(file, **scores)  # type: ignore[arg-type]  # its types forget keyword arrays
    settings = [member._replace(seed=0) for member in members]
    for name, values in scores.items():
        if f"{name}_behind" in names:
            values = values.astype(float)
            values[[i not in rows for i in range(len(status))]] = np.nan
            table[f"{name}_behind"], table[f"{name}_behind_se"] = behind(values, settings)
    table.attrs |= {"key": full_key, "weights": weights}
    write_table(path, table)
    log.unlink(missing_ok=True)
    return table


def _to_log(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON can hold it: arrays as lists, with their types."""
    kept = {name: [str(values.dtype), values.tolist()] for name, values in row.get(OF_IMAGES, {}).items()}
    return {**row, OF_IMAGES: kept} if kept else row


def _from_log(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: np.array(values, kind) for name, (kind, values) in row.get(OF_IMAGES, {}).items()}
    return {**row, OF_IMAGES: kept} if kept else row


def _scores(rows: dict[int, dict[str, Any]], models: int) -> dict[str, np.ndarray]:
    """What was measured image by image, ``(models, images)`` by name; NaN, or 0, of models without a row."""
    found: dict[str, np.ndarray] = {}
    for index, row in rows.items():
        for name, values in row.get(OF_IMAGES, {}).items():
            empty = np.nan if values.dtype.kind == "f" else 0
            found.setdefault(name, np.full((models, len(values)), empty, values.dtype))[index] = values
    return found


def _each(
    config: Config, function: Callable[[HierarchicalVAE, int], Any], indices: list[int], processes: int, code: Running
) -> Iterator[tuple[int, Any]]:
    """``function(model, seed)`` of these models, as (index, value), in the order in which they come to an end."""
    place, folder = device(config), run_folder(config.name).resolve()
    many = processes > 1 and len(indices) > 1  # a process starts in seconds: not for one model
    every = config.members()
    if isinstance(function, Measurement) and stacked.at_once(place) > 1:
        computed = stacked.each(
            function.compute,
            {index: every[index] for index in indices},
            lambda index: load_model(folder, index, place),
            stacked.at_once(place),
        )
        if not many:
            yield from ((index, function.score(tensors)) for index, tensors in computed)
        else:
            # While processes score, joblib draws the next models, and with them the next block, from ``computed``.
            yield from Parallel(n_jobs=processes, return_as="generator_unordered")(
                delayed(_scored)(code, function.score, index, tensors) for index, tensors in computed
            )
    elif not many or place.type != "cpu":  # GPUs are shared out to notebooks, not to processes
        yield from (_one(code, folder, place, function, index, every[index].seed) for index in indices)
    else:
        yield from Parallel(n_jobs=processes, return_as="generator_unordered")(
            delayed(_one)(code, folder, place, function, index, every[index].seed) for index in indices
        )


def _one(
    code: Running,
    folder: Path,
    place: torch.device,
    function: Callable[[HierarchicalVAE, int], Any],
    index: int,
    seed: int,
) -> tuple[int, Any]:
    code.check()
    model = load_model(folder, index, place)
    if place.type == "cpu":
        keep_memory()
        model = for_cpu(model)
    return index, function(model, seed)


def _scored(code: Running, score: Callable[[Tensors], Any], index: int, tensors: Tensors) -> tuple[int, Any]:
    code.check()
    return index, score(tensors)


def draw_images(
    config: Config,
    stage: str,
    draw: Callable[[HierarchicalVAE, int], dict[str, np.ndarray]],
    shapes: dict[str, tuple[int, ...]],
    key: str = "",
    originals: np.ndarray | None = None,
    processes: int = 1,
    wanted: Callable[[Member], bool] = lambda member: True,
) -> None:
    """Keep images of the models, uint8 ``(models, *shape)`` by name, in ``images/<stage>.npz``.

    Black where a model diverged or is not wanted. What is there under the same ``key``, of the same weights and by the
    same code, is kept. ``originals`` are kept beside them.
    """
    code = running(code_of(config, stage))
    described = json.dumps([key, code.fingerprint, list(identities(config.name).values()), [*shapes.items()]])
    full_key = hashlib.sha256(described.encode()).hexdigest()[:16]
    if images_key(config.name, stage) == full_key:
        return
    status = training_table(config.name)["status"]
    todo = [i for i, member in enumerate(config.members()) if status[i] == "ok" and wanted(member)]
    images = {name: np.zeros((len(status), *shape), np.uint8) for name, shape in shapes.items()}
    with track(f"{stage}: images to look at", len(todo), "models") as progress:
        for index, drawn in _each(config, draw, todo, processes, code):
            for name, array in drawn.items():
                images[name][index] = array
            progress.update(progress.done + 1)
    if originals is not None:
        images["originals"] = originals
    save_images(config.name, stage, full_key, **images)
