"""Figures and tables of several runs, composed as Paper A prints them: panels of `panels`, a row or a column a run."""

from collections.abc import Callable, Mapping
from textwrap import fill
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from mpl_toolkits.mplot3d.axes3d import Axes3D

from hvae_core.analysis.points import (
    CLASSIFIERS,
    DIVERSITY,
    INCEPTION,
    PSNR,
    SHARPNESS,
    Metric,
    accuracy,
    count_layers,
    described,
    grid_means,
    information,
)
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure, RateScale
from hvae_core.figures.paper import DIAGONALS, SURFACE, caption, label_outer, marks, saturation, styled
from hvae_core.names import PROBE_NAMES, PROBES

Runs = Mapping[str, pd.DataFrame | str]
"""Results by the name that panels have, such as that of a data set; of a run that has none, why."""
ACROSS = 3  # panels beside each other

# The best accuracies of Paper A's GHVAEs, %, in the order of `PROBES`.
PAPER_TABLE_1: dict[tuple[str, str], tuple[float, ...]] = {
    ("SVHN, paper", "mu_2"): (28.43, 27.87, 77.60, 64.25),
    ("SVHN, paper", "mu_1"): (45.77, 49.81, 59.28, 56.49),
    ("CIFAR-10, paper", "mu_2"): (47.36, 46.95, 53.15, 44.20),
    ("CIFAR-10, paper", "mu_1"): (43.27, 42.55, 45.60, 39.25),
}


@styled
def fig3(runs: Runs, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """PSNR over the layer-wise rates: the first run as a surface, then each as a colour plot.

    Source: Paper A, Fig. 3 (SVHN as a surface, SVHN and CIFAR-10 as colour plots).
    """
    rows = -(-(1 + len(runs)) // ACROSS)
    fig = draw.new_figure(0.8 + 2.1 * rows, _title(runs), 1.3 * draw.WIDTH)
    places = fig.add_gridspec(rows, ACROSS, width_ratios=(1.3, 1, 1))
    said: list[str] = []
    for place, (name, results) in enumerate([next(iter(runs.items())), *runs.items()]):
        surface = place == 0 and not isinstance(results, str)
        ax = fig.add_subplot(places[divmod(place, ACROSS)], projection="3d" if surface else None)
        if isinstance(results, str):
            _absent(ax, name, results)
            continue
        points = grid_means(results)
        plane = draw.rate_plane(points, rate_scale)
        if surface:
            draw.surface_plot(cast(Axes3D, ax), points, PSNR, plane)
        else:
            draw.colour_plot(ax, points, PSNR, plane, numbered=place == 1, named=False)
            plane.label(ax, "nats")
        ax.set_title(f"{name}, {PSNR.label}" if surface else f"{name}\n{ax.get_title()}")
        said.append(marks(points, PSNR))
    draw.legend(fig, "VAE", "β-VAE", "hull", "best", "as good", "chosen", "diagonal", columns=3)
    text = (
        "PSNR of reconstructions by modes over the rates of the layers: as a surface, and as colour plots. "
        f"{_once(said)}{DIAGONALS}Numbered crosses: the models of Fig. 4, which is of the first run. {SURFACE}"
    )
    return _captioned(fig, runs, text, rate_scale)


@styled
def fig5(runs: Runs, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """Inception Score, diversity and sharpness over the layer-wise rates, a row a run. Source: Paper A, Fig. 5."""
    text = "Inception Score = diversity x sharpness of generated images over the rates of the layers. "
    return _rows(runs, lambda points: [INCEPTION, DIVERSITY, SHARPNESS], text, rate_scale)


@styled
def fig7(runs: Runs, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """I_q(y; z_L) and the classifiers' accuracies on mu_L over the layer-wise rates, a row a run.

    Source: Paper A, Fig. 7 (SVHN above CIFAR-10).
    """

    def shown(points: pd.DataFrame) -> list[Metric]:
        top = count_layers(points)
        return [information(top), *(accuracy(f"mu{top}", probe) for probe in CLASSIFIERS)]

    text = "Mutual information of label and top layer, and accuracies of classifiers on the top layer's mode. "
    return _rows(runs, shown, text, rate_scale)


def _rows(runs: Runs, shown: Callable[[pd.DataFrame], list[Metric]], text: str, rate_scale: RateScale) -> PaperFigure:
    """A row of colour plots for each run, one a metric."""
    known = {name: grid_means(results) for name, results in runs.items() if not isinstance(results, str)}
    columns = max((len(shown(points)) for points in known.values()), default=1)
    fig = draw.new_figure(0.8 + 1.75 * len(runs), _title(runs), draw.WIDTH * max(columns, ACROSS) / ACROSS)
    panels = fig.subplots(len(runs), columns, squeeze=False)
    said: list[str] = []
    for line, (name, results) in zip(panels, runs.items(), strict=True):
        if isinstance(results, str):
            for ax in line:
                ax.set_axis_off()
            _absent(line[0], name, results)
            continue
        points = known[name]
        plane = draw.rate_plane(points, rate_scale)
        for metric, ax in zip(shown(points), line, strict=True):
            draw.colour_plot(ax, points, metric, plane, numbered=metric is INCEPTION)
            if metric == information(count_layers(points)):
                draw.saturated(ax, points, (plane.x, plane.y))
        label_outer(line[None], plane)
        line[0].set_ylabel(f"{name}\n{line[0].get_ylabel()}")
        said.append(marks(points, *shown(points)) + DIAGONALS)
        if information(count_layers(points)) in shown(points) and (control := saturation(points)):
            said.append(f"{name}: {control}")
    draw.legend(fig, "VAE", "β-VAE", "hull", "best", "as good", "diagonal", "chosen", "saturated", columns=4)
    return _captioned(fig, runs, f"{text}Rows: {', '.join(runs)}. {_once(said)}{SURFACE}", rate_scale)


def table1(runs: Runs) -> pd.DataFrame:
    """The best accuracy over all models, %, of each classifier on mu_2 and mu_1, beside the paper's.

    Returns:
        One row a run and latent, the paper's first; null where nothing was computed.

    Source: Paper A, Table 1.
    """
    rows: dict[tuple[str, str], tuple[float | None, ...]] = {**PAPER_TABLE_1}
    for name, results in runs.items():
        points = pd.DataFrame() if isinstance(results, str) else grid_means(results)
        for n in (2, 1):
            columns = [f"acc_mu{n}_{probe}" for probe in PROBES]
            best = [float(points[column].max()) if column in points else float("nan") for column in columns]
            rows[name, f"mu_{n}"] = tuple(None if np.isnan(value) else round(100 * value, 2) for value in best)
    table = pd.DataFrame(
        [[*key, *row] for key, row in rows.items()], columns=["results", "latent", *PROBE_NAMES.values()]
    )
    table.attrs["caption"] = (
        f"Best accuracy over all models for each classifier, in %, beside the paper's. {_why(runs)}"
    )
    return table


@styled
def absent(name: str, why: str) -> PaperFigure:
    """A figure that says what is not there."""
    fig = draw.new_figure(1.6, name)
    _absent(fig.add_subplot(), "", why)
    fig.caption = f"Not drawn: {why}."
    return fig


COMPOSED = {"fig3": fig3, "fig5": fig5, "fig7": fig7}
TABLES = {"table1": table1}
"""What several runs can be shown in."""


def _absent(ax: Axes, name: str, why: str) -> None:
    """Say so in the panel, in short; the caption has all of it."""
    ax.set_axis_off()
    short = why.partition(";")[0].partition(" (")[0]
    draw.not_computed(ax, name, fill(f"not there: {short}", draw.TITLE_LETTERS))
    for text in ax.texts:
        text.set_in_layout(False)  # it may be wider than the panel


def _title(runs: Runs) -> str:
    return "; ".join(described(results) for results in runs.values() if not isinstance(results, str))


def _why(runs: Runs) -> str:
    return "".join(f"{name} is not there: {results}. " for name, results in runs.items() if isinstance(results, str))


def _once(texts: list[str]) -> str:
    """Texts one after another, each sentence once."""
    sentences = dict.fromkeys(part for text in texts for part in text.strip().split(". ") if part)
    return "".join(f"{sentence.rstrip('.')}. " for sentence in sentences)


def _captioned(fig: PaperFigure, runs: Runs, text: str, scale: RateScale) -> PaperFigure:
    """With what holds for every figure, of each run that is there."""
    there = [results for results in runs.values() if not isinstance(results, str)]
    fig.caption = _once([text + _why(runs), *(caption(results, "", scale) for results in there)]).strip()
    return fig
