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
from hvae_core.analysis.surface import constant_of, objective_values
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
    constant = constant_of(results)
    less = " − c" if constant else ""
    titles = {"L": rf"$L(\beta)${less} (nats)", "distortion": f"$D${less} (nats)"}
    titles |= {f"rate_{n}": f"{rate_name(n, numbers[0])} (nats)" for n in numbers}
    points = [
        grid_means(
            frame.assign(L=objective_values(frame, len(numbers)) - constant, distortion=frame["distortion"] - constant)
        )
        for frame in frames
    ]
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
            _map(ax, frame, frame[name].to_numpy(float), norm, title if ax is column[0] else "")
        _same_limits(column, points)
    names = ["one network", "one by one" if separate is None else str(separate.attrs.get("run", "one by one"))]
    for line, label in zip(panels, names, strict=False):
        line[0].set_ylabel(f"{label}\n{line[0].get_ylabel()}")
        for ax in line[1:]:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
    for ax in panels[:-1].flat:
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)
    of_constant = f", without the constant c = {constant:.1f} nats of the likelihood" if constant else ""
    below = "" if separate is None else f" Below, on the same scales: {described(separate)}."
    fig.caption = caption(
        results,
        f"L = D + sum of beta R. Nats per image, test images; colours of L and D on a logarithmic scale{of_constant}. "
        f"Above: one network at all betas.{below}",
    )
    return fig


@styled
def fidelity(table: pd.DataFrame, title: str = "") -> PaperFigure:
    """How far L of a conditioned network is from that of single models, point by point, beside the spread over seeds.

    Arguments:
        table: what `hvae_core.analysis.fidelity.differences` returns.
        title: what is compared.
    """
    fig = draw.new_figure(2.7, title or f"{len(table)} settings of the betas")
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    percent = table["percent"].to_numpy(float)
    _numbered_map(left, table, percent)
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
        title="the same, sorted\nbars: standard deviation over seeds" if several else "the same, sorted",
        xlabel="settings of the betas",
        ylabel="difference of L (%)",
        xticks=[],
    )
    right.yaxis.set_major_locator(MaxNLocator(7))
    fig.caption = (
        "L = D + sum of beta R on test images of a conditioned network (mean over its seeds), relative to the "
        "mean over models trained one by one at the same betas, in percent of theirs without the likelihood's "
        f"constant; {np.nanmean(table['difference']):+.2f} nats on average; percent: "
        f"mean of its size {np.nanmean(np.abs(percent)):.1f}, mean {np.nanmean(percent):+.1f}, from "
        f"{np.nanmin(percent):+.1f} to {np.nanmax(percent):+.1f}. "
        "Right: the same, sorted; light grey: 1 "
        f"%{'; dark bars: standard deviation of the models over seeds' if several else ''}."
    )
    return fig


def _numbered_map(ax: Axes, table: pd.DataFrame, percent: np.ndarray) -> None:
    """Percents as numbers in cells of one size, a column and a row a beta."""
    plane = beta_plane(table)
    (across, column), (upwards, row) = (np.unique(side.round(12), return_inverse=True) for side in (plane.x, plane.y))
    picture = np.full((len(upwards), len(across)), np.nan)
    picture[row, column] = percent
    most = max(10.0, np.nanmax(np.abs(percent)))
    ax.pcolormesh(picture, cmap="RdBu_r", norm=TwoSlopeNorm(0, -most, most), gid="models")
    room = 155 / len(across)  # points, of a cell
    size = float(np.clip(room / 3, 4.5, 7))
    if room > 12:
        digits = 1 if room > 3 * size else 0
        for x, y, value in zip(column, row, percent, strict=True):
            text = f"{value:+.{digits}f}".replace("-", "−")
            ax.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=size, path_effects=draw.HALO)
    for axis, ticks, name in ((ax.xaxis, across, plane.names[0]), (ax.yaxis, upwards, plane.names[1])):
        step = -(-len(ticks) // 9)
        axis.set_ticks((np.arange(len(ticks)) + 0.5)[::step], [f"{float(f'{tick:.2g}'):g}" for tick in ticks[::step]])
        axis.set_tick_params(length=0)
        axis.set_label_text(name)
    ax.set_title("L of the network, relative to models\ntrained one by one (%)")


def fidelities(tables: Mapping[str, pd.DataFrame], run: str) -> dict[str, PaperFigure]:
    """`fidelity` of a run beside each of several grids, by the name of its file.

    Arguments:
        tables: what `hvae_core.analysis.fidelity.differences` returns, by the name of the grid.
        run: the name of the conditioned run.

    Example:
        >>> fidelities({}, "quick-conditioned")
        {}
    """
    return {
        f"fidelity_{grid}": fidelity(table, f"{run} beside {grid}: {len(table)} settings of the betas")
        for grid, table in tables.items()
    }


@styled
def sliding(slides: list[Slides], results: pd.DataFrame | None = None) -> PaperFigure:
    """Reconstructions and samples of the same images and noise while one beta moves and the others stay.

    Arguments:
        slides: one a layer, as `hvae_core.analysis.dial.slide` returns them.
        results: of the run, to name it; None: it stays without a name.
    """
    shape = slides[0].originals.shape[1:]
    said = "same images, same noise: one beta moves"
    fig = draw.new_figure(0.5 + 1.85 * len(slides), said if results is None else described(results))
    for half, slide in zip(np.atleast_1d(np.asarray(fig.subfigures(len(slides), 1))), slides, strict=True):
        panels = half.subplots(1, 2)
        top = slide.betas.shape[1]
        numbers = layer_numbers(top)
        empty = np.full_like(slide.originals, 255)
        for ax, stack, title in zip(
            panels, (slide.reconstructions, slide.samples), ("reconstructions", "samples"), strict=True
        ):
            rows = [slide.originals if title == "reconstructions" else empty, *stack]
            gap = ((0, 0), (1, 1), (1, 1), (0, 0))  # a grey line between images
            tiles = [np.pad(row.transpose(0, 2, 3, 1), gap, constant_values=110) for row in rows]
            if title == "samples":
                tiles[0][:] = 255
            picture = np.concatenate([np.concatenate(list(row), 1) for row in tiles], 0)
            ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set_yticks([])
            ax.set_xticks([])
            ax.spines[:].set_visible(False)
            ax.set_title(rf"{title} as $\beta_{slide.layer}$ moves")
        names = ", ".join(rate_name(n, top) for n in numbers)
        labels = [f"β; {names}"]
        for betas, rates in zip(slide.betas, slide.rates, strict=True):
            setting = ", ".join(f"{float(f'{beta:.2g}'):g}" for beta in betas)
            labels.append(f"({setting});  {', '.join(_short(rate) for rate in rates)}")
        panels[0].set_yticks((np.arange(len(labels)) + 0.5) * (shape[1] + 2) - 0.5, labels)
        panels[0].tick_params(length=0)
    fig.caption = (
        "One network at betas between the ends of its range: reconstructions by the modes of the posteriors, "
        "samples from the priors; along a column image and noise are the same. Left: the betas, top layer first; "
        "the rates of the layers on these images, nats per image. First row: the images."
    )
    return fig


def _short(nats: float) -> str:
    """A rate in few letters.

    Example:
        >>> _short(0.004), _short(3.26), _short(138.7)
        ('0.0', '3.3', '139')
    """
    return f"{nats:.0f}" if nats >= 99.5 else f"{nats:.1f}"


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


def _map(ax: Axes, points: pd.DataFrame, value: np.ndarray, norm: Normalize, title: str) -> None:
    """Values over the plane of betas, a cell a point."""
    plane: Plane = beta_plane(points)
    draw.set_plane(ax, plane)
    plane.label(ax)
    ax.xaxis.set_major_locator(LogLocator(numticks=4))
    known = np.isfinite(value)
    if not known.any():
        draw.not_computed(ax, title)
        return
    shades = draw.cells(ax, plane, known, array=value[known], norm=norm)
    ax.set_title(title)
    made = cast(Figure, ax.figure).colorbar(shades, ax=ax, aspect=22, pad=0.02, fraction=0.08)
    made.outline.set_linewidth(0.4)
    if isinstance(norm, LogNorm) and norm.vmin and norm.vmax:
        made.set_ticks(round_ticks(norm.vmin, norm.vmax).tolist())
        made.ax.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}" if tick < 1000 else f"{tick:,.0f}")
        made.ax.yaxis.set_minor_locator(NullLocator())


def round_ticks(low: float, high: float) -> np.ndarray:
    """Round numbers for a logarithmic scale between two values, at least two where there are any.

    Example:
        >>> round_ticks(27.8, 207).tolist(), round_ticks(1800, 2100).tolist()
        ([30.0, 50.0, 100.0, 200.0], [1800.0, 1900.0, 2000.0, 2100.0])
    """
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.empty(0)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5), tuple(range(1, 10)), tuple(np.arange(10, 100) / 10)):
        ticks = np.sort(np.outer(decades, digits).ravel().round(6))
        ticks = ticks[(ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))]
        if len(ticks) >= (4 if len(digits) < 9 else 2):
            break
    return ticks[:: -(-len(ticks) // 5)] if len(ticks) else np.array([low, high])
