"""The training of a run: data and configuration in; weights, terms and history out."""

import contextlib
import json
import shutil
from functools import partial
from typing import Any

import pandas as pd
from torch import Tensor

from hvae_core.data.dataset import Dataset
from hvae_core.evaluation import rates, stacked
from hvae_core.evaluation.stacked import Tensors
from hvae_core.files import save_tensors, write_table
from hvae_core.models import build
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.objective import Objective, lagrangian
from hvae_core.pipeline.measuring import sparse
from hvae_core.pipeline.place import jobs, threads
from hvae_core.progress import track
from hvae_core.runs.config import Config
from hvae_core.runs.folder import keep_data
from hvae_core.runs.identity import check_objective, keep_objective, objective_checksum, training_identity
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.results import collect, readable_table
from hvae_core.runs.weights import are_whole, block_folder, saved_identity
from hvae_core.terms import layer_numbers
from hvae_core.training.checkpoints import Checkpoints
from hvae_core.training.conditioned import train_conditioned
from hvae_core.training.population import train
from hvae_core.training.target_rates import verdict
from hvae_core.training.threads import threads_of_an_operation
from hvae_core.training.trainer import Trained
from hvae_core.training.ways import Way

SEEN_ON = 10_000  # training images, at most, on which points of a conditioned network are measured
NETWORK_THREADS = 2  # for a conditioned network's training, at most: it is one, and the other cores would wait


def train_members(
    config: Config,
    data: Dataset,
    objective: Objective = lagrangian,
    way: Way = Way(),  # noqa: B008  # frozen
) -> pd.DataFrame:
    """Train the members of ``config.block`` (None: all blocks in turn), from where an earlier execution stopped.

    Writes weights, the training table (terms on training and test images) and the history into each block's folder.
    A finished block is trained anew only if data, configuration or training code changed. ``way`` says how the models
    of a population are computed together.

    Returns:
        The training table, one row a member.

    Raises:
        InputError: when the run was trained for another objective, or this one is none.
    """
    check_objective(objective, config.layers)
    keep_objective(config, objective)
    keep_data(config, data)
    if config.block is not None:
        return _train_block(config, config.block, data, objective, way)
    parts = [Config.make({**config.dump(), "block": block}) for block in range(config.block_count)]
    table = pd.concat([_train_block(part, part.block or 0, data, objective, way) for part in parts], ignore_index=True)
    collect(config.name)
    return table


def _train_block(config: Config, block: int, data: Dataset, objective: Objective, way: Way) -> pd.DataFrame:
    """The training table of one block; weights, table and history in its folder."""
    folder = block_folder(config, block)
    identity = training_identity(config, data.fingerprint, objective)
    weights, tables = folder / "weights.safetensors", [folder / "training.parquet", folder / "history.parquet"]
    table, history = map(readable_table, tables)
    if saved_identity(weights) == identity and table is not None and history is not None and are_whole(weights):
        print("These models are trained already, with this data, configuration, objective and code.")
        return table

    members, conditioned = config.members(), config.kind is KINDS["conditioned"]
    tensors: dict[str, Tensor] = {}
    sets: dict[str, list[list[int]]] = {}
    rows, histories = [], []
    for name in config.models:  # a population is of one architecture; a block may hold members of several
        indices = [i for i in config.block_members() if members[i].model == name]
        if not indices:
            continue
        label = f"training block {block + 1} of {config.block_count}" + (f", {name}" if len(config.models) > 1 else "")
        with threads_of_an_operation(min(jobs(), NETWORK_THREADS)) if conditioned else contextlib.nullcontext():
            trained: Trained = (train_conditioned if conditioned else partial(train, way=way))(
                partial(build, name, data.image_shape, **config.options),
                [members[i] for i in indices],
                data.x_train,
                config.plan,
                objective=objective,
                checkpoints=Checkpoints(folder / "resume" / f"{indices[0]:05d}", identity),
                label=label,
            )
        tensors |= {f"{name}/{key}": value for key, value in trained.parameters.items()}
        sets[name] = [indices, trained.which]
        rows += _terms(config, trained, indices, data)
        histories.append(_history(config, trained, indices))
    about = {
        "identity": identity,
        "objective": objective_checksum(objective),
        "image_shape": json.dumps(data.image_shape),
        "sets": json.dumps(sets),
    }
    table = pd.DataFrame(rows).astype({"diverged_epoch": "Int64"})
    save_tensors(weights, tensors, about)
    write_table(tables[0], table)
    write_table(tables[1], pd.concat(histories))
    shutil.rmtree(folder / "resume", ignore_errors=True)
    return table


def _terms(config: Config, trained: Trained, indices: list[int], data: Dataset) -> list[dict[str, Any]]:
    """Rows of the training table: terms on test and training images, betas, and whether target rates are held."""
    well, numbers = trained.well(), layer_numbers(config.layers)
    seen = data.x_train[:SEEN_ON] if config.kind is KINDS["conditioned"] else data.x_train
    test = _means("test", trained, data.x_test, list(well))
    looked_at = sparse(config)
    train_means = _means("train", trained, seen, [i for i in well if looked_at(trained.members[i])])
    rows = []
    for i, index in enumerate(indices):
        member, epoch = trained.members[i], trained.diverged_epoch[i]
        row: dict[str, Any] = {"member": index, "status": "diverged" if epoch else "ok", "diverged_epoch": epoch}
        if member.targets:  # the betas are what training found
            found = trained.multipliers[i, -1].double().tolist()
            row |= {
                f"beta_{n}": given if target is None else beta
                for n, given, target, beta in zip(numbers, member.betas, member.targets, found, strict=True)
            }
        if i in test:
            row |= test[i]
        if i in train_means:
            row |= {f"train_{name}": value for name, value in train_means[i].items() if name not in ("rate", "elbo")}
            if member.targets:
                held = [train_means[i][f"rate_{n}"] for n in numbers]
                row |= verdict(member.targets, held, trained.multipliers[i])
        rows.append(row)
    return rows


def _means(which: str, trained: Trained, images: Tensor, wanted: list[int]) -> dict[int, dict[str, float]]:
    """Mean terms of these members on images, by index."""

    def compute(model: HierarchicalVAE, seed: int) -> Tensors:
        return {"terms": rates.mean_terms(model, images, seed)}

    found: dict[int, dict[str, float]] = {}
    members = {i: trained.members[i] for i in wanted}
    size = stacked.at_once(images.device)
    with track(f"rates on {which} images", len(members), "models") as progress:
        for i, tensors in stacked.each(compute, members, trained.member, size, threads()):
            found[i] = rates.named(tensors["terms"])
            progress.update(len(found))
    return found


def _history(config: Config, trained: Trained, indices: list[int]) -> pd.DataFrame:
    """One row a member and epoch: terms as they were seen in training, and of target rates the betas."""
    numbers = layer_numbers(config.layers)
    terms = ["train_distortion", *(f"train_rate_{n}" for n in numbers)]
    values = [pd.DataFrame(of.double().numpy(), columns=terms) for of in trained.history]
    if config.target_rates is not None:
        betas = [f"beta_{n}" for n in numbers]
        values = [
            frame.assign(**dict(zip(betas, of.double().numpy().T, strict=True)))
            for frame, of in zip(values, trained.multipliers, strict=True)
        ]
    epochs = range(1, config.epochs + 1)
    return pd.concat(
        [frame.assign(member=index, epoch=epochs) for index, frame in zip(indices, values, strict=True)]
    ).dropna(subset=terms)
