"""How the rate is spread over the layers of a hierarchy of any depth."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatterMathtext, LogLocator, MaxNLocator, NullLocator

from hvae_core.analysis.points import betas, bins, described, grid_means, is_eq_8, is_vae, rate_name
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure
from hvae_core.figures.paper import caption, styled
from hvae_core.terms import layer_numbers

SMALLEST_RATE = 0.1  # nats per image; of less than that a share says nothing


@styled
def layers(results: pd.DataFrame) -> PaperFigure:
    """The rate of every layer along each beta, in nats and in shares, and the distortion beneath.

    A column for each beta (of a layer, or of a bin of layers that share it), where the others are 1 or next to it, and
    one where all are equal; a bar a model.

    Arguments:
        results: one row a model, as `hvae_core.load_results` returns.

    Source: after Paper A, Section 3.2 (bins of layers); the paper has no such figure.
    """
    points = grid_means(results)
    columns = _columns(points)
    fig = draw.new_figure(4.6, described(results), max(draw.WIDTH, 0.6 + 1.25 * len(columns)))
    panels = fig.subplots(3, len(columns), sharex="col", sharey="row", squeeze=False, height_ratios=(1.3, 0.8, 0.8))
    for (label, title, rows), line in zip(columns, panels.T, strict=True):
        line[0].set_title(title)
        line[-1].set_xlabel(label)
        _bars(line, points, rows)
    for ax, name in zip(
        panels[:, 0], ("rate (nats per image)", "share of the rate (%)", "D (nats per image)"), strict=True
    ):
        ax.set_ylabel(name)
        ax.set_ylim(0, 100 if "%" in name else None)  # of the whole row
    numbers = layer_numbers(betas(points).shape[1])
    names = [rate_name(n, numbers[0]) for n in numbers]
    handles = [Patch(color=colour, label=name) for colour, name in zip(_colours(len(numbers)), names, strict=True)]
    _, area = draw.RINGS["VAE"]
    vae = Line2D(
        [], [], color=draw.BLACK, marker="o", ms=area**0.5, mfc="none", mew=0.9, ls="", label="VAE (all β = 1)"
    )
    fig.legend(
        handles=[*handles, *([vae] if is_eq_8(points) else [])],
        loc="outside lower center",
        ncols=5,
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.5,
        borderpad=0.1,
        borderaxespad=0.2,
    )
    fig.caption = caption(
        results,
        "Rates of the layers, the top layer above; their shares of the total rate, where that is at least "
        f"{SMALLEST_RATE:g} nats; and the distortion. In each column one beta changes, of one layer or of all "
        "the layers "
        "named at the axis, and the others are 1 or the nearest there is; in the last all betas are equal. "
        + ("Circle: VAE." if is_eq_8(points) else ""),
    )
    return fig


def _columns(points: pd.DataFrame) -> list[tuple[str, str, np.ndarray]]:
    """Axis label, title and rows of every column; the rows by rising beta."""
    table, found = betas(points), []
    groups = bins(points)
    tops = [table.shape[1] - group[0] for group in groups]  # the column of each group's beta
    near = {top: _nearest_to_one(table[:, top]) for top in tops}
    for top, group in zip(tops, groups, strict=True):
        others = [other for other in tops if other != top]
        rows = np.flatnonzero((table[:, others] == [near[other] for other in others]).all(1))
        values = sorted({near[other] for other in others})
        title = f"others at {', '.join(f'{value:.3g}' for value in values)}" if others else "all equal"
        if len(rows) > 1:
            found.append((_name(group), title, rows[table[rows, top].argsort()]))
    equal = np.flatnonzero(np.isclose(table, table[:, :1]).all(1))
    if len(groups) > 1 and len(equal) > 1:
        found.append((r"all $\beta$", "all equal", equal[table[equal, 0].argsort()]))
    return found or [(_name(groups[0]), "", np.abs(np.log(table)).sum(1).argsort()[:1])]


def _nearest_to_one(values: np.ndarray) -> float:
    return float(values[np.abs(np.log(values)).argmin()])


def _name(group: tuple[int, ...]) -> str:
    """The betas of a group: those of its first and its last layer, with what is between."""
    ends = [rf"\beta_{n}" for n in dict.fromkeys((group[0], group[-1]))]
    return "$" + (r" = \dots = " if len(group) > 2 else " = ").join(ends) + "$"


def _bars(line: np.ndarray, points: pd.DataFrame, rows: np.ndarray) -> None:
    """One column of panels: the models ``rows``, which differ in one beta."""
    numbers = layer_numbers(betas(points).shape[1])
    changing = int(np.ptp(betas(points)[rows], axis=0).argmax())
    x = betas(points)[rows, changing]
    edges = draw.cell_edges(x)
    gap = (edges[1:] / edges[:-1]) ** 0.07
    left, right = edges[:-1] * gap, edges[1:] / gap
    rates = points.loc[points.index[rows], [f"rate_{n}" for n in numbers]].to_numpy(float)
    total = rates.sum(1)
    shares = np.where(total[:, None] >= SMALLEST_RATE, 100 * rates / total[:, None], np.nan)
    ax: Axes
    for ax, heights in zip(line, (rates, shares), strict=False):
        base = np.zeros(len(rows))
        for height, number, colour in reversed(list(zip(heights.T, numbers, _colours(len(numbers)), strict=True))):
            ax.bar(left, height, right - left, base, align="edge", color=colour, gid=f"rate_{number}")
            base = base + height
    line[-1].bar(
        left, points["distortion"].to_numpy(float)[rows], right - left, align="edge", color="0.6", gid="distortion"
    )
    vae = np.flatnonzero(is_vae(points)[rows] & np.isfinite(total))
    draw.ring(line[0], "VAE", vae, (x, total))
    for ax in line:
        ax.use_sticky_edges = False
        ax.set_xscale("log")
        ax.set_xlim(edges[0], edges[-1])
        ax.xaxis.set_major_locator(LogLocator(numticks=5))
        ax.xaxis.set_major_formatter(LogFormatterMathtext())
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(MaxNLocator(4))


def _colours(count: int) -> np.ndarray:
    """From dark (the top layer) to light: in grey, and to the colour-blind, they keep their order."""
    return colormaps["viridis"](np.linspace(0.0, 0.92, count))
