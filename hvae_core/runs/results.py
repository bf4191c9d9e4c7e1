"""The tables of a run, and their join."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hvae_core.errors import InputError
from hvae_core.files import table_digest, whole_file, write_table
from hvae_core.names import PROBES
from hvae_core.runs.about import about
from hvae_core.runs.config import Config
from hvae_core.runs.folder import UNREADABLE, load_config, run_folder
from hvae_core.runs.kinds import KINDS, NOTEBOOKS
from hvae_core.runs.weights import block_folder, identities, trained_for
from hvae_core.terms import layer_numbers


def stage_columns(stage: str, layers: int) -> list[str]:
    """The columns that a stage adds to ``results``, for a hierarchy of so many layers."""
    numbers = layer_numbers(layers)
    probed = [f"mu{number}" for number in numbers] + [f"z{layers}"]
    return {
        "training": [
            "distortion",
            *(f"rate_{n}" for n in numbers),
            "rate",
            "elbo",
            "train_distortion",
            *(f"train_rate_{n}" for n in numbers),
        ],
        "reconstruction": ["psnr", "psnr_pooled", "psnr_behind", "psnr_behind_se"],
        "generation": ["inception_score", "inception_score_std", "diversity", "sharpness"],
        "representation": [
            f"mi_z{layers}",
            "accuracy_bound_mi",
            "accuracy_bound_rate",
            *(f"acc_{latent}_{probe}" for latent in probed for probe in PROBES),
            *(f"mi_z{layers}_{kind}" for kind in ("permuted", "lower", "lower_se", "fano")),
            *(f"acc_mu{layers}_rbf_svm_{kind}" for kind in ("behind", "behind_se")),
        ],
        "likelihood": ["iwae_5", "iwae_500", "mi_lower", "mi_upper", "active_units"],
    }[stage]


def columns(layers: int, stages: Sequence[str] = KINDS["hierarchical"].stages, targets: bool = False) -> list[str]:
    """The columns of ``results``, for a hierarchy of so many layers, with or without target rates."""
    about = ["dataset", "model", "seed", *(f"beta_{n}" for n in layer_numbers(layers)), "epochs", "status"]
    if targets:
        about += [*(f"target_{n}" for n in layer_numbers(layers)), "target_status", "target_reason"]
    return about + [column for stage in ("training", *stages) for column in stage_columns(stage, layers)]


def collect(run: str | Path) -> None:
    """Join the blocks' training tables to ``tables/training.parquet`` and ``history.parquet``."""
    config, folder = load_config(run), run_folder(run)
    parts = {"training": [], "history": []}  # type: dict[str, list[pd.DataFrame]]
    for block in range(config.block_count):
        path = block_folder(config, block)
        for kind, tables in parts.items():
            if (path / f"{kind}.parquet").exists():
                tables.append(read_table(path / f"{kind}.parquet"))
    if not parts["training"]:
        raise InputError(f"run '{config.name}' has no trained model yet")
    if len(trained_for(run)) > 1:
        raise InputError(
            f"run '{config.name}': its objective was edited while it was trained, so that blocks are of two; "
            "give the same command again"
        )
    betas = [f"beta_{n}" for n in layer_numbers(config.layers)]
    found = (
        [] if config.target_rates is None else [*betas, "target_status", "target_reason"]
    )  # the betas that training found
    described = _members(config)
    training = described.merge(pd.concat(parts["training"]), on="member", how="left", validate="one_to_one")
    training = training.reindex(
        columns=[*described, *found, "status", "diverged_epoch", *stage_columns("training", config.layers)]
    )
    training["status"] = training["status"].fillna("missing")
    write_table(folder / "tables" / "training.parquet", training)
    write_table(folder / "history.parquet", described.merge(pd.concat(parts["history"]), on="member"))


def _members(config: Config) -> pd.DataFrame:
    """One row a member: its number, model, seed and what was chosen, betas or target rates."""
    members = config.members()
    described = pd.DataFrame([{"member": i, "model": m.model, "seed": m.seed} for i, m in enumerate(members)])
    kind = "beta" if config.target_rates is None else "target"
    given = [f"{kind}_{n}" for n in layer_numbers(config.layers)]
    described[given] = np.array([m.targets or m.betas for m in members], float)
    return described


def overview(config: Config, table: pd.DataFrame) -> pd.DataFrame:
    """A training table to be read.

    What was chosen of each member first, then its terms on the test images and its status.
    """
    members = _members(config)
    given = [column for column in members if str(column).startswith(("beta_", "target_"))]
    several = [column for column in ("model", "seed") if members[column].nunique() > 1]
    terms = [
        column
        for column in stage_columns("training", config.layers)
        if not column.startswith("train_") and column in table
    ]
    shown = members[["member", *given, *several]].merge(table[["member", *terms, "status"]], on="member")
    return shown.drop(columns="member").round(2)


def training_history(config: Config) -> pd.DataFrame:
    """One row a model and epoch.

    Terms on the training images, averaged over the epoch, of the members of ``config.block``
    (None: all).

    Raises:
        InputError: when nothing was trained yet.
    """
    blocks = range(config.block_count) if config.block is None else [config.block]
    paths = [block_folder(config, block) / "history.parquet" for block in blocks]
    parts = [read_table(path) for path in paths if path.exists()]
    if not parts:
        raise InputError(f"run '{config.name}' has no trained model yet")
    history = _members(config).merge(pd.concat(parts), on="member").assign(dataset=_dataset(config))
    history.attrs = about(config.name)
    return history


def join(run: str | Path) -> pd.DataFrame:
    """Join the stages' tables to ``results.parquet`` and ``results.csv``: one row a model, nulls where not computed.

    Raises:
        InputError: when a stage has measured other weights than those that are there now.
    """
    config, folder = load_config(run), run_folder(run)
    for stage in config.kind.stages:
        if not _up_to_date(run, read_table(folder / "tables" / f"{stage}.parquet")):
            raise InputError(
                f"run '{config.name}' was trained anew after its {stage} was measured; ./run_all.sh or "
                f"{NOTEBOOKS[stage]} measures it again"
            )
    results = results_so_far(run)
    results.attrs = {"tables": _checksums(_tables(run))}
    write_table(folder / "results.parquet", results)
    results.attrs = about(run)
    with whole_file(folder / "results.csv") as part:
        results.to_csv(part, index=False)
    return results


def results_so_far(run: str | Path) -> pd.DataFrame:
    """The results of a run that is trained, as far as it is measured; null where a stage is still to come.

    A notebook of a stage draws this: in a batch the other stages may be at work.

    Raises:
        InputError: when nothing was trained yet.
    """
    config, results = load_config(run), training_table(run)
    for stage in config.kind.stages:
        table = readable_table(run_folder(run) / "tables" / f"{stage}.parquet")
        if table is not None and _up_to_date(run, table):
            results = results.merge(table, on="member", how="left", validate="one_to_one")
    results = results.assign(dataset=_dataset(config), epochs=config.epochs)
    results = results.reindex(columns=columns(config.layers, config.kind.stages, config.target_rates is not None))
    results.attrs = about(run)
    return results


def _up_to_date(run: str | Path, table: pd.DataFrame) -> bool:
    """Whether a stage's table is of the weights that are there now."""
    now = identities(run)
    return all(now.get(block, made) == made for block, made in table.attrs.get("weights", {}).items())


def _dataset(config: Config) -> str:
    return config.dataset if "/" not in config.dataset else Path(config.dataset).stem


def load_results(run: str | Path) -> pd.DataFrame:
    """The results of a run: one row a model, columns as in `columns`. Joined first if a stage is newer.

    Raises:
        InputError: when the run does not exist or was not evaluated yet.
    """
    path, tables = run_folder(run) / "results.parquet", _tables(run)
    there = read_table(path) if path.exists() else None
    missing = [table.stem for table in tables if not table.exists()]
    if not missing and tables and (there is None or there.attrs.get("tables") != _checksums(tables)):
        return join(run)
    if there is None:
        raise InputError(
            f"run '{run_folder(run).name}' has no results yet (missing: {', '.join(missing)}); "
            "./run_all.sh or the notebooks make them"
        )
    there.attrs = about(run)
    return there


def scores_file(run: str | Path, stage: str) -> Path:
    """Where a stage keeps what it measured image by image."""
    return run_folder(run) / "tables" / f"{stage}.npz"


def load_scores(run: str | Path, stage: str) -> dict[str, np.ndarray]:
    """What a stage measured image by image, ``(models, images)`` by column: to compare models on the same images.

    PSNRs of all test images in dB, float16. Of each classifier which of the images that it was scored on it has right,
    as 0 or 1. The models are in the order of the results; of those that were not measured there is NaN or 0.

    Raises:
        InputError: when the run does not have it: it is not measured yet, or was published.
    """
    path = scores_file(run, stage)
    try:
        with np.load(path) as file:
            return dict(file)
    except UNREADABLE:
        raise InputError(
            f"run '{Path(run).name}' has no readable tables/{path.name}; {NOTEBOOKS.get(stage, stage)} makes it, and "
            "published runs go without"
        ) from None


def _tables(run: str | Path) -> list[Path]:
    """The stages' tables, which results are a join of; none for a run that one notebook makes."""
    stages = load_config(run).kind.stages
    return [run_folder(run) / "tables" / f"{stage}.parquet" for stage in ("training", *stages) if stages]


def _checksums(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet file.

    Raises:
        InputError: when it is damaged.
    """
    try:
        table = pd.read_parquet(path)
        attrs = dict(table.attrs)
        right = attrs.pop("sha256", None) in (None, table_digest(table))
    except (OSError, ValueError, LookupError, TypeError):  # pyarrow's errors are among them
        right = False
    if not right:
        raise InputError(f"{path} is damaged; remove it, and ./run_all.sh or the notebooks make it again")
    table.attrs = attrs
    return table


def readable_table(path: Path) -> pd.DataFrame | None:
    """A Parquet file; None if it is missing or damaged."""
    with contextlib.suppress(InputError):
        return read_table(path)
    return None


def training_table(run: str | Path) -> pd.DataFrame:
    """One row a model: betas, seed, status and terms. Of a published run, which has no tables, its results have them.

    Raises:
        InputError: when nothing was trained yet.
    """
    path = run_folder(run) / "tables" / "training.parquet"
    if not any(path.parent.glob("*.parquet")) and (run_folder(run) / "results.parquet").exists():
        return read_table(run_folder(run) / "results.parquet")
    if not path.exists():
        raise InputError(f"run '{Path(run).name}' has no trained models yet; ./run_all.sh or 10_train makes them")
    return read_table(path)
