"""The pages of a run, each a job of the batch."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from hvae_core.analysis.points import drawable
from hvae_core.files import read_text, write_text
from hvae_core.pages.explorer.page import Live, Pictures
from hvae_core.pages.explorer.page import explorer as page
from hvae_core.pipeline.drawing import separate_grids
from hvae_core.runs.config import Config
from hvae_core.runs.folder import figure_folder, load_config, load_images
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.results import load_results

if TYPE_CHECKING:
    from IPython.display import HTML


def explorer(run: str) -> None:
    """Write ``explorer.html`` beside the figures of a run.

    Raises:
        InputError: when the run is not finished, or none of its models is well.
    """
    config = load_config(run)
    network = config.kind is KINDS["conditioned"]
    results = load_results(run)
    text = page(
        results,
        _network(config, results) if network else _pictures(run),
        separate_grids(config) if network else None,
        f"Made of the run {config.name}; its numbers are in runs/{config.name}/results.csv.",
    )
    write_text(figure_folder(run) / "explorer.html", text)


def framed(run: str, height: int = 1000) -> HTML:
    """The explorer of a run in a frame, for a notebook, which takes the page along; made if it is not there."""
    from IPython.display import HTML

    page = figure_folder(run) / "explorer.html"
    if not page.exists():
        explorer(run)
    style = f"width: 100%; height: {height}px; border: 1px solid #c9c9d1"
    return HTML(f'<div><iframe title="explorer" style="{style}" srcdoc="{escape(read_text(page))}"></iframe></div>')


def _pictures(run: str) -> Pictures:
    reconstructed, generated = (load_images(run, stage) for stage in ("reconstruction", "generation"))
    return Pictures(reconstructed["originals"], reconstructed["images"], generated["images"])


def _network(config: Config, results: pd.DataFrame) -> Live:
    """The network of the first seed that is well; of the first where none is."""
    from hvae_core.data.readers import load
    from hvae_core.runs.weights import load_network

    well = results.loc[drawable(results), "seed"]
    seed = int(well.min()) if len(well) else 0
    network = load_network(config.name, seed)
    return Live(network, load(config.dataset).first(config.train_images, config.test_images).x_test, seed)
