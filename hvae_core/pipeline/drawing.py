"""What the figures of a run are drawn of, and where they go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from hvae_core.data.dataset import Dataset
from hvae_core.errors import InputError
from hvae_core.evaluation.bounds import label_probabilities
from hvae_core.names import CONDITIONED
from hvae_core.progress import track
from hvae_core.runs.about import about
from hvae_core.runs.config import Config
from hvae_core.runs.folder import (
    comparable_runs,
    figure_folder,
    load_config,
    load_images,
    run_folder,
)
from hvae_core.runs.identity import kept_objective
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.provenance import commit
from hvae_core.runs.results import load_results

if TYPE_CHECKING:  # matplotlib is imported where figures are drawn
    from matplotlib.figure import Figure

    from hvae_core.figures import Decodings, Images


def figure_inputs(config: Config, data: Dataset) -> tuple[Images, Any, dict[str, Any]]:
    """What the figures need beside the results: images, label probabilities (None without labels), provenance."""
    from hvae_core.figures import Images

    only(config, "hierarchical", "deep", "conditioned")
    reconstructed, generated = (load_images(config.name, stage) for stage in ("reconstruction", "generation"))
    images = Images(reconstructed["originals"], reconstructed["images"], generated["images"])
    labels = None if data.y_test is None else label_probabilities(data.y_test.cpu().numpy(), data.num_classes)
    return images, labels, provenance(config, "images/reconstruction.npz", "images/generation.npz")


def decoded_family(config: Config) -> str:
    """Whose images are kept: ``-+v`` as in Paper B, Fig.

    4, or else the first family with a powerful decoder, or else the first.
    """
    return min(config.models, key=lambda name: (name != "-+v", name[1] != "+", config.models.index(name)))


def decodings(config: Config) -> Decodings:
    """The images behind Paper B, Fig. 4, of `decoded_family`."""
    from hvae_core.figures import Decodings

    images = load_images(config.name, "likelihood")
    return Decodings(images["originals"], images["reconstructions"], images["generated"])


def comparable(config: Config) -> dict[str, pd.DataFrame]:
    """The results of all finished runs of Paper A's models on the same data, by name of the run.

    Raises:
        InputError: for a run of other models than the families of Paper B.
    """
    only(config, "families")
    name = load_results(config.name)["dataset"].iloc[0]
    return {run: _stored(run).assign(dataset=name) for run in comparable_runs(config.name)}


def _stored(run: str) -> pd.DataFrame:
    """The results of a finished run as they lie there, with what figures say of it."""
    frame = pd.read_parquet(run_folder(run) / "results.parquet")
    frame.attrs = about(run)
    return frame


def beta_grids(config: Config) -> dict[str, pd.DataFrame]:
    """The finished grids of betas that were trained as this run with target rates was.

    Same data, model, epochs and settings.

    Returns:
        Their results by name of the run; empty if there are none.
    """
    free = {
        "name",
        "betas",
        "seeds",
        "target_rates",
        "generated_samples",
        "classifier_epochs",
        "likelihood_images",
        "blocks",
        "block",
        "device",
        "test_images",
    }

    def trained_as(other: Config) -> dict[str, Any]:
        return {key: value for key, value in other.dump().items() if key not in free}

    found = {name: load_config(name) for name in comparable_runs(config.name)}
    return {
        name: _stored(name)
        for name, other in found.items()
        if other.target_rates is None
        and trained_as(other) == trained_as(config)
        and kept_objective(name) == kept_objective(config.name)
    }


def separate_grids(config: Config) -> dict[str, pd.DataFrame]:
    """The finished grids of the models that this conditioned run stands for.

    Same data, architecture, settings and objective.

    Epochs, learning rate, seeds and betas are free, if some betas are in both: what the run and a grid cost is compared
    beside what they reach.

    Returns:
        Their results by name of the run; empty if there are none.

    Raises:
        InputError: for a run of other models.
    """
    only(config, "conditioned")
    same = ("train_images", "sigma_x", "bins", "batch_size", "schedule", "normalise_gradients", "precision", "warm_up")

    def points(of: Config) -> set[tuple[float, ...]]:
        return {tuple(round(beta, 6) for beta in member.betas) for member in of.members()}

    found = {name: load_config(name) for name in comparable_runs(config.name)}
    return {
        name: _stored(name)
        for name, other in found.items()
        if other.model == CONDITIONED[config.models[0]]
        and points(other) & points(config)
        and other.latent_sizes is None
        and other.target_rates is None
        and all(getattr(other, key) == getattr(config, key) for key in same)
        and kept_objective(name) == kept_objective(config.name)
    }


def only(config: Config, *kinds: str) -> None:
    if config.kind not in [KINDS[kind] for kind in kinds]:
        raise InputError(f"run '{config.name}' is of {config.models[0]}; its figures are in {config.kind.notebook}")


def provenance(config: Config, *images: str, others: Iterable[str] = ()) -> dict[str, Any]:
    """What the figures of a run are made from.

    Its results and these of its files, other runs' results, and the commit.
    """
    folder = run_folder(config.name)
    inputs = [folder / name for name in ("results.parquet", *images)]
    inputs += [run_folder(name) / "results.parquet" for name in others]
    return {
        "run": config.name,
        "inputs": {
            str(path.relative_to(folder.parents[1])): hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs
        },
        **commit(),
    }


def save_all(
    config: Config, figures: dict[str, Figure], tables: dict[str, pd.DataFrame], provenance: dict[str, Any]
) -> None:
    """Write every figure and table to the run's figure folder, each with what made it."""
    from hvae_core.figures import save_figure, save_table

    folder = figure_folder(config.name)
    with track("figures and tables", len(figures) + len(tables), "files") as progress:
        for name, figure in figures.items():
            save_figure(figure, folder, name, provenance=provenance | _script(config, name))
            progress.update(progress.done + 1)
        for name, table in tables.items():
            save_table(table, folder, name, provenance=provenance | _script(config, name))
            progress.update(progress.done + 1)


DRAWN_BY = (
    ("table2", "models.table.architecture_table"),
    ("table3", "models.table.architecture_table"),
    ("targets_surface", "analysis.surface.compare"),
    ("fidelity_table", "analysis.fidelity.differences"),
    ("optima_table", "analysis.fidelity.optima"),
    ("fidelity", "figures.fidelity"),
)
"""The function behind each table or figure whose name begins so; of all others it is the figure's own."""


def _script(config: Config, name: str) -> dict[str, str]:
    function = next((function for start, function in DRAWN_BY if name.startswith(start)), f"figures.{name}")
    return {"script": f"notebooks/{config.kind.notebook}.ipynb", "function": f"hvae_core.{function}"}
