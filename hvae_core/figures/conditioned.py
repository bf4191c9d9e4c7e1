"""A conditioned network.

Its surface over the betas, beside that of models trained one by one, and images along the betas.
"""

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from hvae_core.analysis.dial import Slides
from hvae_core.analysis.points import count_layers, described, grid_means, rate_name
from hvae_core.analysis.surface import objective_values
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure, Plane, beta_plane
from hvae_core.figures.paper import caption, styled
from hvae_core.terms import layer_numbers


@styled
def surface(results: pd.DataFrame, separate: pd.DataFrame | None = None) -> PaperFigure:
    """L(beta), the distortion and the layer-wise rates over the betas; below, those of models trained one by one.

    Arguments:
        results: of a conditioned run, one row a point and seed.
        separate: of a grid of ordinary models, one row a model.
    """
    frames = [results] if separate is None else [results, separate]
    numbers = layer_numbers(count_layers(results))
    titles = {"L": r"$L(\beta)$ (nats)", "distortion": "$D$ (nats)"}
    titles |= {f"rate_{n}": f"{rate_name(n, numbers[0])} (nats)" for n in numbers}
    points = [grid_means(frame.assign(L=objective_values(frame, len(numbers)))) for frame in frames]
    fig = draw.new_figure(0.6 + 1.45 * len(points), described(results))
    panels = fig.subplots(len(points), len(titles), squeeze=False)
    for column, (name, title) in zip(panels.T, titles.items(), strict=True):
        known = np.concatenate([frame[name].dropna().to_numpy(float) for frame in points])
        if not len(known):  # everything diverged
            known = np.ones(1)
        norm: Normalize
        if name in ("L", "distortion"):
            norm = LogNorm(known.min(), known.max())
        else:
            norm = Normalize(0, max(known.max(), 1e-6))
        for ax, frame in zip(column, points, strict=True):
            _map(ax, frame, frame[name].to_numpy(float), norm, title if ax is column[0] else "", bar=True)
        _same_limits(column, points)
    for line, label in zip(panels, ("conditioned", "one by one"), strict=False):
        line[0].set_ylabel(f"{label}\n{line[0].get_ylabel()}")
        for ax in line[1:]:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
    for ax in panels[:-1].flat:
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)
    below = "" if separate is None else f" Below, on the same scales: {described(separate)}."
    fig.caption = caption(
        results,
        "L = D + sum of beta R. Nats per image, test images; colours of L and D on a logarithmic scale. Above: "
        f"one network at all betas.{below}",
    )
    return fig


@styled
def fidelity(table: pd.DataFrame, title: str = "") -> PaperFigure:
    """How far L of a conditioned network is from that of single models, point by point, beside the spread over seeds.

    Arguments:
        table: what `hvae_core.analysis.fidelity.differences` returns.
    """
    fig = draw.new_figure(2.6, title or f"{len(table)} settings of the betas")
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.1))
    percent = table["percent"].to_numpy(float)
    most = max(10.0, np.nanmax(np.abs(percent)))
    _map(
        left,
        table,
        percent,
        TwoSlopeNorm(0, -most, most),
        "conditioned against one by one: L (%)",
        bar=False,
        cmap="RdBu_r",
    )
    sides = [draw.cell_sides(axis) for axis in _place(table)]
    across = np.log(sides[0][1] / sides[0][0])  # how wide each cell is drawn
    room = 150 * across.min() / np.log(sides[0][1].max() / sides[0][0].min())  # points, of the narrowest
    size = float(np.clip(room / 3.2, 3.5, 6))  # five letters, each a little wider than half its height
    for (x, y), value in zip(np.column_stack([np.sqrt(np.multiply(*side)) for side in sides]), percent, strict=True):
        text = f"{value:+.1f}".replace("-", "−")
        left.text(x, y, text, ha="center", va="center", fontsize=size, path_effects=draw.HALO)
    order = np.argsort(percent)
    at = np.arange(len(order))
    spread = table["spread_percent"].to_numpy(float)[order]
    right.axhspan(-1, 1, color="0.92", lw=0)
    right.axhline(0, color="0.4", lw=0.6)
    several = bool(np.isfinite(spread).any())  # seeds of the models
    if several:
        right.errorbar(at, np.zeros(len(at)), spread, color="0.6", ls="", lw=2.5, gid="spread")
    right.plot(at, percent[order], "o", ms=3, color="#0077bb", gid="percent")
    right.set(
        title="sorted; bars: standard deviation over seeds" if several else "sorted",
        xlabel="setting of the betas",
        ylabel="difference of L (%)",
        xticks=[],
    )
    right.yaxis.set_major_locator(MaxNLocator(7))
    fig.caption = (
        "L = D + sum of beta R on test images of a conditioned network (mean over its seeds), relative to the "
        "mean over models trained one by one at the same betas, in percent; "
        f"mean of its size {np.nanmean(np.abs(percent)):.1f}, mean {np.nanmean(percent):+.1f}, from "
        f"{np.nanmin(percent):+.1f} to {np.nanmax(percent):+.1f}. "
        "Right: the same, sorted; light grey: 1 "
        f"%{'; dark bars: standard deviation of the models over seeds' if several else ''}."
    )
    return fig


def fidelities(tables: Mapping[str, pd.DataFrame], run: str) -> dict[str, PaperFigure]:
    """`fidelity` of a run beside each of several grids, by the name of its file.

    Arguments:
        tables: what `hvae_core.analysis.fidelity.differences` returns, by the name of the grid.
        run: the name of the conditioned run.

    Example:
        >>> fidelities({}, "quick-conditioned")
        {}
    """
    return {f"fidelity_{grid}": fidelity(table, f"{run} and {grid}") for grid, table in tables.items()}


@styled
def sliding(slides: list[Slides]) -> PaperFigure:
    """Reconstructions and samples of the same images and noise while one beta moves and the others stay."""
    shape = slides[0].originals.shape[1:]
    fig = draw.new_figure(0.5 + 1.75 * len(slides), "same images, same noise: one beta moves")
    for half, slide in zip(np.atleast_1d(np.asarray(fig.subfigures(len(slides), 1))), slides, strict=True):
        panels = half.subplots(1, 2)
        top = slide.betas.shape[1]
        others = ", ".join(
            rf"$\beta_{n}$ = {slide.betas[0][top - n]:.3g}" for n in layer_numbers(top) if n != slide.layer
        )
        moving = slide.betas[:, top - slide.layer]
        for ax, stack, title in zip(
            panels, (slide.reconstructions, slide.samples), ("reconstructions", "samples"), strict=True
        ):
            rows = [slide.originals, *stack] if title == "reconstructions" else list(stack)
            gap = ((0, 0), (1, 1), (1, 1), (0, 0))  # a grey line between images
            tiles = [np.pad(row.transpose(0, 2, 3, 1), gap, constant_values=110) for row in rows]
            picture = np.concatenate([np.concatenate(list(row), 1) for row in tiles], 0)
            ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            labels = (["image"] if title == "reconstructions" else []) + [f"{beta:.3g}" for beta in moving]
            ax.set_yticks((np.arange(len(labels)) + 0.5) * (shape[1] + 2) - 0.5, labels)
            ax.tick_params(length=0)
            ax.set_xticks([])
            ax.set(title=f"{title}, {others}", ylabel=rf"$\beta_{slide.layer}$")
    fig.caption = (
        "One network at betas between the ends of its range: reconstructions by the modes of the posteriors, "
        "samples from the priors; "
        "along a column image and noise are the same."
    )
    return fig


def _place(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    plane = beta_plane(points)
    return plane.x, plane.y


def _same_limits(column: np.ndarray, points: list[pd.DataFrame]) -> None:
    """The narrowest limits of these axes that hold all points: outer cells are as wide as there is room for."""
    for axis, values in zip("xy", zip(*map(_place, points), strict=True), strict=True):
        there = np.concatenate(values)
        limits = [sorted(getattr(ax, f"get_{axis}lim")()) for ax in column]
        low, high = (
            max(low for low, _ in limits if low <= there.min()),
            min(high for _, high in limits if high >= there.max()),
        )
        for ax in column:
            getattr(ax, f"set_{axis}lim")(low, high)


def _map(
    ax: Axes, points: pd.DataFrame, value: np.ndarray, norm: Normalize, title: str, bar: bool, cmap: str = "viridis"
) -> None:
    """Values over the plane of betas, a cell a point."""
    plane: Plane = beta_plane(points)
    draw.set_plane(ax, plane)
    plane.label(ax)
    ax.xaxis.set_major_locator(LogLocator(numticks=4))
    known = np.isfinite(value)
    if not known.any():
        draw.not_computed(ax, title)
        return
    shades = draw.cells(ax, plane, known, array=value[known], norm=norm, cmap=cmap)
    ax.set_title(title)
    if bar:
        made = cast(Figure, ax.figure).colorbar(shades, ax=ax, aspect=14, pad=0.02, fraction=0.08)
        made.outline.set_linewidth(0.4)
        if isinstance(norm, LogNorm) and norm.vmin and norm.vmax:
            made.set_ticks(list(np.geomspace(norm.vmin, norm.vmax, 4)))
            made.ax.yaxis.set_major_formatter(lambda tick, _: f"{tick:.3g}" if tick < 1000 else f"{tick:,.0f}")
            made.ax.yaxis.set_minor_locator(NullLocator())
