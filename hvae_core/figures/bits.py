"""The bits of a file: what each layer takes beside its rate, and one image's on the stack."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from hvae_core.analysis.points import betas, grid_means, of_run, optima
from hvae_core.coding import Account
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure
from hvae_core.figures.paper import styled
from hvae_core.terms import layer_numbers

MARKERS = "os^DvP"
PIXELS = "0.75"  # grey: the image's own bits
UNIT = "bits per image"


@styled
def bits(lengths: pd.DataFrame, results: pd.DataFrame | None = None) -> PaperFigure:
    """Code length of every layer against its rate, and where the bits of a file go at the three optima.

    Arguments:
        lengths: as `hvae_core.analysis.code_lengths.code_lengths` returns.
        results: one row a model, for the optima; without them there is a bar of the shortest file alone.
    """
    layers = [name for name in lengths["layer"].unique() if name != "x"]
    count = lengths["member"].nunique()
    images = lengths.attrs.get("images", "")
    title = of_run(lengths, f"{count} models, {images} test images each")
    fig = draw.new_figure(3.0, title)
    left, right = cast(np.ndarray, fig.subfigures(1, 2, width_ratios=(1.25, 1)))
    main, rest = left.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    for ax in (main, rest):
        draw.set_rate_scale(ax, "x", lengths["rate"].max(), "sqrt", ticks=6)
    draw.set_rate_scale(main, "y", lengths["rate"].max(), "sqrt", ticks=6)
    end = 1.07 * lengths["rate"].max()
    main.plot([0, end], [0, end], color=draw.BLACK, lw=0.6, zorder=1, gid="diagonal")
    rest.axhline(0, color=draw.BLACK, lw=0.6, zorder=1)
    for name, colour, marker in zip(layers, _colours(len(layers)), MARKERS, strict=False):
        rows = lengths[lengths["layer"] == name]
        style = {"fmt": marker, "ms": 3.5, "mfc": "none", "color": colour, "mew": 0.8, "elinewidth": 0.6, "zorder": 3}
        main.errorbar(rows["rate"], rows["coded"], rows["rate_error"], label=_named(name), **style)
        rest.errorbar(rows["rate"], rows["coded"] - rows["rate"], rows["rate_error"], **style)
    main.set_ylabel(f"length in the file\n({UNIT}, √ scale)")
    main.legend(frameon=False, loc="upper left", handletextpad=0.2)
    rest.set_ylabel("length − rate\n(bits)")
    rest.set_xlabel(f"rate ({UNIT}, √ scale)")
    _bars(right.subplots(), lengths, layers, results)
    rows = lengths[lengths["layer"] != "x"]
    fig.caption = (
        f"Left: what each layer takes in a file of the first {images} test images, taking and putting together, "
        f"against its rate in bits; below their difference. Bars: one standard error, nearly all of it from sampling: "
        f"the rate is the mean of log q/p, and that at the coded latents differs from the length by "
        f"{(rows['coded'] - rows['wanted']).abs().median():.2g} bits in the median. Right: where the bits of an image "
        f"go, at the optima of the three applications and in the shortest file. "
        f"Drawn: {title}."
    )
    return fig


@styled
def on_the_stack(account: Account) -> PaperFigure:
    """The height of the stack while the first image of an account is coded, step by step.

    Arguments:
        account: of an encoded image.
    """
    numbers = list(layer_numbers(account.taken.shape[1]))
    taken, coded = account.taken[0], account.coded[0]
    steps = [(f"take $z_{n}$", -bits) for n, bits in zip(numbers, taken, strict=True)]
    steps.append(("put x", coded[-1]))
    put = zip(reversed(numbers), reversed(coded[:-1] + taken), strict=True)
    steps += [(f"put $z_{n}$", bits) for n, bits in put]
    colours = [*_colours(len(numbers)), PIXELS, *reversed(_colours(len(numbers)))]
    fig = draw.new_figure(2.0, "")
    ax = fig.subplots()
    changes = np.array([change for _, change in steps])
    below = np.concatenate([[0.0], np.cumsum(changes)[:-1]])
    for place, (change, start, colour) in enumerate(zip(changes, below, colours, strict=True)):
        ax.bar(place, change, 0.7, start, color=colour, ec="0.3", lw=0.5, hatch="//" if change < 0 else None)
        said = f"{change:+.0f}".replace("-", "−")
        ax.text(place, start + change / 2, said, ha="center", va="center", path_effects=draw.HALO)
        if place:
            ax.plot([place - 0.65, place - 0.35], [start, start], color=draw.BLACK, lw=0.6)
    height = changes.sum()
    ax.use_sticky_edges = False
    ax.margins(y=0.08)
    ax.axhline(0, color="0.6", lw=0.6)
    ax.set_xticks(range(len(steps)), [name for name, _ in steps])
    ax.set_ylabel("height of the stack\n(bits, from its start)")
    fig.caption = (
        "The stack while one image is coded. Hatched: what is taken, as samples of the posteriors. In the end it has "
        f"grown by {height:.0f} bits, the image's share of the file."
    )
    return fig


def _bars(ax: Axes, lengths: pd.DataFrame, layers: Sequence[str], results: pd.DataFrame | None) -> None:
    """An image's bits as a bar of its layers, at the optima."""
    settings = [column for column in lengths if str(column).startswith("beta_")]
    wide = lengths.pivot_table("coded", settings, "layer", sort=False)[[*layers, "x"]]
    table, index = wide.to_numpy(float), [tuple(np.atleast_1d(row)) for row in wide.index]
    points = None if results is None else grid_means(results)
    shown = {} if points is None else {name: tuple(betas(points)[row]) for name, row in optima(points).items()}
    rows = {name: index.index(row) for name, row in shown.items() if row in index}
    rows["shortest"] = int(table.sum(1).argmin())
    drawn = table[list(rows.values())]
    places, start = np.arange(len(rows)), np.zeros(len(rows))
    for part, width, colour in zip(wide, drawn.clip(0).T, [*_colours(len(layers)), PIXELS], strict=True):
        ax.barh(places, width, 0.55, start, color=colour, ec="0.3", lw=0.5, label=_named(str(part)))
        start = start + width
    for place, end, total in zip(range(len(rows)), start, drawn.sum(1), strict=True):
        ax.text(end, place, f" {total:.0f}", va="center")
    ax.set_yticks(
        places, [f"{name}\nβ = ({', '.join(f'{beta:.2g}' for beta in index[row])})" for name, row in rows.items()]
    )
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2 * start.max())
    ax.set_xlabel(UNIT)
    ax.set_title("an image in the file")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.17), ncols=4, handlelength=1, columnspacing=1)


def _colours(count: int) -> list[tuple[float, ...]]:
    """Of the layers, the top one's first: far apart for the colour-blind, too."""
    return [colormaps["viridis"](share) for share in np.linspace(0.1, 0.7, count)]


def _named(layer: str) -> str:
    return f"${layer}$" if layer.startswith("z_") else layer
