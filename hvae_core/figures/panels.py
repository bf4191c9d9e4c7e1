"""How one panel is drawn: style, planes, colour plots, surfaces, markers."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PolyCollection
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    FixedLocator,
    FormatStrFormatter,
    LogFormatterMathtext,
    LogLocator,
    MaxNLocator,
    NullLocator,
)
from matplotlib.tri import LinearTriInterpolator, TriAnalyzer, Triangulation
from mpl_toolkits.mplot3d.axes3d import Axes3D

from hvae_core.analysis.control import SATURATED, is_saturated
from hvae_core.analysis.optimum import as_good
from hvae_core.analysis.points import (
    Metric,
    best,
    betas,
    bins,
    chosen,
    is_beta_vae,
    is_vae,
    optimal,
    split,
    split_betas,
    split_rates,
    triangles,
    values,
)

RateScale = Literal["sqrt", "linear"]

WIDTH = 5.5  # inches: the text width of the paper, so that font sizes are those of the printed page
DPI = 200  # of PNG files; what is printed is the PDF
SHOWN_DPI = 150  # in a notebook
# Matplotlib's defaults first: what stands in a user's matplotlibrc is for the user's own figures.
STYLE: Any = {
    **{key: value for key, value in rcParamsDefault.items() if not key.startswith(("backend", "webagg", "toolbar"))},
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 7.5,
    "axes.linewidth": 0.6,
    "lines.linewidth": 0.8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "axes.labelpad": 2,
    "axes.titlepad": 4,
    "pdf.fonttype": 42,
    "image.cmap": "viridis",
    "savefig.facecolor": "white",
}
TITLE_LETTERS = 32  # that fit above a panel a third of the width wide
PIXELS = 240  # across a panel, of colours between models
NO_BREAK = "\N{NO-BREAK SPACE}"
BLACK, RED, PURPLE, GREY = "black", "#e3170a", "#a020c0", "0.55"
HALO = [withStroke(linewidth=1.6, foreground="white")]
APPLICATIONS = {"reconstruction": "s", "representation": "^", "generation": "D"}
STROKE: tuple[int, Literal[2], int] = (2, 2, 45)
STROKES = f"random labels: > {SATURATED} nats"
# Areas of nested rings, in square points: a model may be VAE, beta-VAE and hull-optimal at once.
RINGS = {"VAE": (BLACK, 9), "β-VAE": (RED, 22), "hull": (PURPLE, 42)}


class PaperFigure(Figure):
    """A figure that knows its caption and shows itself in a notebook, whatever the notebook's backend."""

    caption: str = ""

    def savefig(self, *args: Any, **options: Any) -> None:
        """Write the figure, laid out the first time only: that takes longer than to draw it."""
        self.lay_out()
        with rc_context(STYLE):  # of ticks, too, which are made when they are drawn
            super().savefig(*args, **options)

    def lay_out(self) -> None:
        """Give every panel its place, unless it has one.

        The engine is set to None then, not to "none", for which Matplotlib draws once more before each file.
        """
        engine = self.get_layout_engine()
        if engine is None:
            return
        with rc_context(STYLE):
            if self.axes:
                engine.execute(self)
            with rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
                self.set_layout_engine(None)

    def _repr_png_(self) -> bytes:
        buffer, dpi = BytesIO(), self.dpi
        self.lay_out()
        self.dpi = SHOWN_DPI
        try:  # cut to what is drawn, as bbox_inches="tight" does, for which Matplotlib draws once more
            with rc_context(STYLE):
                area = self.get_tightbbox().padded(0.05)
        finally:
            self.dpi = dpi
        self.savefig(buffer, format="png", dpi=SHOWN_DPI, bbox_inches=area)
        return buffer.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import Image, Markdown, display  # there where this is called

        display(Image(self._repr_png_()))
        if self.caption:
            display(Markdown(self.caption))


def new_figure(height: float, title: str, width: float = WIDTH, hspace: float = 0.02) -> PaperFigure:
    """An empty figure, in inches; `hspace` is the extra space between rows as a share of a panel's height."""
    fig = PaperFigure(figsize=(width, height), layout="constrained")
    layout = cast(ConstrainedLayoutEngine, fig.get_layout_engine())
    layout.set(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=hspace)
    # Without mathematics: a data set may have a $ in its name.
    fig.suptitle(wrapped(title, int(17.4 * width)), color="0.3", parse_math=False)
    return fig


def wrapped(text: str, letters: int) -> str:
    """Text in lines of about so many letters, broken between words only."""
    return fill(text, letters, break_long_words=False, break_on_hyphens=False)


def nats(scale: str, unit: str = "nats per image") -> str:
    """The unit of a rate axis, with the word that its scale is a square root.

    Example:
        >>> nats("sqrt"), nats("linear")
        ('nats per image, √ scale', 'nats per image')
    """
    return f"{unit}, √ scale" if scale == "sqrt" else unit


# --- planes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plane:
    """Two axes that every model has a place on; x and y are ``(points,)``."""

    x: np.ndarray
    y: np.ndarray
    names: tuple[str, str]
    scale: Literal["sqrt", "linear", "log"]

    def label(self, ax: Axes, unit: str = "nats per image") -> None:
        """Name both axes, with the unit of rates."""
        for axis, name in zip("xy", self.names, strict=True):
            label = f"{name} ({nats(self.scale, unit)})" if name.startswith("$R") else name
            getattr(ax, f"set_{axis}label")(label)


def rate_plane(points: pd.DataFrame, scale: RateScale = "sqrt") -> Plane:
    """The rate of the top layer, or of those that share its beta, and that of all others given it; nats per image."""
    upper, lower = split(points)
    above = _subscript(upper)
    names = f"$R(z_{above})$", rf"$R(z_{_subscript(lower)}\,|\,z_{above})$" if lower else "no other layer"
    return Plane(*split_rates(points), names, scale)


def beta_plane(points: pd.DataFrame) -> Plane:
    """The beta of the top layer, or of those that share it, and that of the others (their geometric mean)."""
    upper, lower = split(points)
    others = (
        ("mean of " if len(bins(points)) > 2 else "") + rf"$\beta_{_subscript(lower)}$" if lower else "no other layer"
    )
    return Plane(*split_betas(points), (rf"$\beta_{_subscript(upper)}$", others), "log")


def _subscript(numbers: list[int]) -> str:
    """Neighbouring layers as an index: ``1``, ``{<3}`` for those down to z_1, ``{\\geq 2}`` for those from z_L."""
    if len(numbers) == 1:
        return str(numbers[0])
    return f"{{<{numbers[0] + 1}}}" if numbers[-1] == 1 else rf"{{\geq {numbers[-1]}}}"


def signed_sqrt(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.sqrt(np.abs(x))


def signed_square(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.square(x)


def round_levels(highest: float, scale: str, count: int = 4) -> np.ndarray:
    """Round numbers up to `highest`, about evenly spaced on the scale."""
    if scale == "linear":
        levels = np.asarray(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(0, highest))
    else:
        even = highest * (np.arange(1, count + 1) / count) ** 2
        magnitude = 10 ** np.floor(np.log10(even))
        digits = np.array([1, 2, 3, 5])
        # Just below a power of ten the logarithm may round to it, and no digit is left below: hence the maximum.
        below = np.maximum(np.searchsorted(digits, even / magnitude, side="right") - 1, 0)
        levels = np.unique(magnitude * digits[below])
    return levels[(levels > 0) & (levels <= highest)]


def set_rate_scale(
    ax: Axes, axis: Literal["x", "y"], highest: float, scale: str, floor: float = 0.05, ticks: int = 4
) -> None:
    """A rate axis from 0 to a little more than `highest`, with room for markers at 0."""
    highest = highest if np.isfinite(highest) and highest > 0 else 1.0
    forward, back = (signed_sqrt, signed_square) if scale == "sqrt" else (np.asarray, np.asarray)
    if scale == "sqrt":
        getattr(ax, f"set_{axis}scale")("function", functions=(forward, back))
    limits = back(forward(np.array(highest)) * np.array([-floor, 1.07]))
    getattr(ax, f"set_{axis}lim")(*limits)
    side = getattr(ax, f"{axis}axis")
    side.set_major_locator(FixedLocator([0, *round_levels(highest, scale, ticks)]))
    side.set_minor_locator(NullLocator())
    side.set_major_formatter(FormatStrFormatter("%g"))


def set_plane(ax: Axes, plane: Plane, ticks: int = 4) -> None:
    for axis, numbers in (("x", plane.x), ("y", plane.y)):
        known = numbers[np.isfinite(numbers)]
        side = getattr(ax, f"{axis}axis")
        if plane.scale != "log":
            set_rate_scale(ax, axis, known.max(initial=0), plane.scale, ticks=ticks)  # type: ignore[arg-type]  # axis is "x" or "y"
        else:
            getattr(ax, f"set_{axis}scale")("log")
            getattr(ax, f"set_{axis}lim")(*cell_edges(known)[[0, -1]])
            side.set_major_locator(LogLocator(numticks=9))
            side.set_major_formatter(LogFormatterMathtext())
            side.set_minor_locator(NullLocator())  # minor ticks say little here and take most of the time to draw
        if not known.size or np.ptp(known) == 0:  # a layer that is not there needs no scale
            getattr(ax, f"set_{axis}ticks")([])
            side.set_minor_locator(NullLocator())


def diagonals(ax: Axes, plane: Plane, avoid: Sequence[np.ndarray] = ()) -> None:
    """Lines of constant total rate, labelled where they are farthest from models and from places to `avoid`."""
    total = plane.x + plane.y
    known = np.isfinite(total)
    if not known.any() or total[known].max() <= 0:
        return
    to_axes = ax.transData + ax.transAxes.inverted()
    taken = np.vstack([to_axes.transform(np.column_stack([plane.x, plane.y])[known]), *avoid])
    share = np.sin(np.linspace(0, np.pi / 2, 181)) ** 2
    for level in round_levels(1.15 * total[known].max(), plane.scale):
        line = level * np.column_stack([1 - share, share])
        ax.plot(*line.T, "--", color=GREY, linewidth=0.6, zorder=2, gid="diagonal")
        place = to_axes.transform(line)
        inside = ((place > 0.07) & (place < [0.88, 0.93])).all(1)
        if inside.any():
            distance = np.linalg.norm(place[inside][:, None] - taken[None], axis=-1).min(1)
            x, y = line[inside][distance.argmax()]
            ax.text(x, y, f"{level:g}", color="0.35", ha="center", va="center", path_effects=HALO, zorder=6)


# --- markers ------------------------------------------------------------------------------------------------


def ring(ax: Axes, name: str, rows: np.ndarray, place: tuple[np.ndarray, ...]) -> None:
    """Circles of one kind around models; `place` has two or three coordinates, ``(points,)`` each."""
    if not len(rows):
        return
    colour, area = RINGS[name]
    style: Any = {"path_effects": HALO} if len(place) == 2 else {"depthshade": False}
    style |= {"s": area if len(place) == 2 else 0.7 * area, "facecolors": "none", "edgecolors": colour}
    order = 6.5 if name == "VAE" else 5  # the smallest circle is seen on the marker of an optimum, too
    ax.scatter(*(c[rows] for c in place), linewidths=0.9, zorder=order, gid=name, clip_on=False, **style)


def baselines(
    ax: Axes,
    points: pd.DataFrame,
    drawn: np.ndarray,
    place: tuple[np.ndarray, ...],
    circles: bool = True,
    over_rate: str = "",
) -> None:
    """The VAE as a black circle, the beta-VAEs as a dashed red line, with or without circles; of none nothing.

    Arguments:
        over_rate: the scale of the horizontal axis, if that is the total rate: the line is straight in the rate then.
    """
    line = np.flatnonzero(is_beta_vae(points) & drawn)
    if not len(line):
        return
    line = line[np.argsort(betas(points)[line, 0])]
    path: Any = [c[line] for c in place]
    if over_rate:
        path = straight_in_rate(path[0], path[1], over_rate)
    ax.plot(*path, "--", color=RED, linewidth=0.9, zorder=4, gid="β-VAE line")
    ring(ax, "VAE", np.flatnonzero(is_vae(points) & drawn), place)
    if circles:
        ring(ax, "β-VAE", line, place)


def hull_line(ax: Axes, rate: np.ndarray, value: np.ndarray, scale: str) -> None:
    """The upper convex hull over the total rate, through its corners by rate."""
    ax.plot(*straight_in_rate(rate, value, scale), color=PURPLE, zorder=3, gid="hull line")


def straight_in_rate(rate: np.ndarray, value: np.ndarray, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """The line through points, straight in the rate between each and the next.

    On a square-root axis these are curves.
    """
    if scale != "sqrt" or len(rate) < 2:
        return rate, value
    share = np.linspace(0, 1, 50)[:, None]
    along = signed_square(signed_sqrt(rate[:-1]) * (1 - share) + signed_sqrt(rate[1:]) * share)
    step = np.diff(rate)
    part = np.where(step == 0, share, (along - rate[:-1]) / np.where(step == 0, 1, step))
    return along.T.ravel(), (value[:-1] * (1 - part) + value[1:] * part).T.ravel()


def star(ax: Axes, place: tuple[float, ...], marker: str = "*", area: float = 60) -> None:
    """The optimum: of a metric, or by another marker of an application; `place` has two or three coordinates."""
    style: Any = {"depthshade": False} if len(place) == 3 else {"clip_on": False}
    style |= {"s": area, "c": "white", "edgecolors": BLACK, "linewidths": 0.7}
    ax.scatter(*place, marker=marker, zorder=6, gid="best", **style)


def near_ties(ax: Axes, points: pd.DataFrame, metric: Metric, place: tuple[np.ndarray, ...], marker: str = "*") -> None:
    """The models that are as good as the best: its marker, small."""
    rows, _ = as_good(points, metric)
    if len(rows):
        style: Any = {"depthshade": False} if len(place) == 3 else {"clip_on": False}
        style |= {"s": 15 if marker == "*" else 7, "c": "white", "edgecolors": BLACK, "linewidths": 0.5}
        ax.scatter(*(c[rows] for c in place), marker=marker, zorder=5.5, gid="as good", **style)


def saturated(ax: Axes, points: pd.DataFrame, place: tuple[np.ndarray, ...]) -> None:
    """A stroke through the models whose information on the label permuted labels have, too."""
    rows = np.flatnonzero(is_saturated(points) & np.isfinite(place).all(axis=0))
    if len(rows):
        style: Any = {"s": 40, "c": BLACK, "linewidths": 0.8, "zorder": 6.8, "gid": "saturated"}  # above stars
        ax.scatter(*(c[rows] for c in place), marker=STROKE, path_effects=HALO, clip_on=False, **style)


def legend(place: FigureBase | Axes, *names: str, columns: int = 0) -> None:
    """A legend below the panels, or in an empty one, of those entries that are drawn; they go down the columns."""

    def mark(label: str, marker: Any, size: float, colour: str, **style: Any) -> Line2D:
        style = {"ls": "", "mfc": "none", "mew": 0.9, **style}
        return Line2D([], [], color=colour, marker=marker, ms=size, label=label, **style)

    def line(label: str, colour: str, width: float = 0.8) -> Line2D:
        return Line2D([], [], ls="--", color=colour, lw=width, label=label)

    size = {name: area**0.5 for name, (_, area) in RINGS.items()}
    entries = {
        "VAE": mark("VAE (all β = 1)", "o", size["VAE"], BLACK),
        "β-VAE": mark("β-VAE (all β equal)", "o", size["β-VAE"], RED, ls="--"),
        "β-VAE line": line("β-VAE (all β equal)", RED),
        "hull": mark("best for its total rate (hull)", "o", size["hull"], PURPLE),
        "best": mark("best of all", "*", 7, BLACK, mfc="white", mew=0.7),
        "as good": mark("as good", "*", 3.8, BLACK, mfc="white", mew=0.5),
        "diagonal": line("equal total rate (nats)", GREY, 0.6),
        "chosen": mark("shown in Fig. 4", "x", 4, BLACK),
        "saturated": mark(STROKES, STROKE, 5, BLACK),
        "bound": line("bound $f^{-1}(R)$, Eq. 11", BLACK),
    } | {
        application: mark(f"best {application}", marker, 5, BLACK, mfc="white", mew=0.7)
        for application, marker in APPLICATIONS.items()
    }
    small = tuple(mark("as good", m, 2.6, BLACK, mfc="white", mew=0.5) for m in APPLICATIONS.values())
    figure = cast(Figure, place.get_figure(root=True))
    drawn = {artist.get_gid() for ax in figure.axes for artist in ax.get_children()}
    shown = [name for name in names if name in drawn or name in APPLICATIONS]
    if not shown:
        return
    several = set(APPLICATIONS) <= set(names)
    inside: Any = {"loc": "center left", "bbox_to_anchor": (-0.03, 0.5)}
    made = place.legend(
        handles=[small if several and name == "as good" else entries[name] for name in shown],
        labels=[str(entries[name].get_label()) for name in shown],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.6)},
        ncols=columns or (2 if len(shown) in (2, 4) else 3),
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.5,
        borderpad=0.1,
        borderaxespad=0.2,
        **({"loc": "outside lower center"} if isinstance(place, FigureBase) else inside),
    )
    made.set_in_layout(isinstance(place, FigureBase))  # in a panel of its own it may be wider than that


def crosses(ax: Axes, points: pd.DataFrame, plane: Plane) -> list[np.ndarray]:
    """The models of Fig. 4, numbered towards the panel's middle; returns about where the numbers are."""
    labels = []
    for number, row in enumerate(chosen(points).values(), 1):
        place = (plane.x[row], plane.y[row])
        middle = (ax.transData + ax.transAxes.inverted()).transform(place)
        ax.scatter(*place, marker="x", s=14, c=BLACK, linewidths=0.8, zorder=7, gid="chosen", clip_on=False)
        offset = tuple(np.where(middle < 0.5, 9, -9))
        ax.annotate(
            str(number),
            place,
            offset,
            textcoords="offset points",
            weight="bold",
            ha="center",
            va="center",
            path_effects=HALO,
            zorder=8,
        )
        labels.append(middle + np.where(middle < 0.5, 0.1, -0.1))
    return labels


def crosses_in_space(ax: Axes3D, points: pd.DataFrame, place: tuple[np.ndarray, ...]) -> None:
    """The models of Fig. 4 in three dimensions, each number above its cross."""
    lift = 0.09 * float(np.ptp(place[2][np.isfinite(place[2])]))
    for number, row in enumerate(chosen(points).values(), 1):
        x, y, z = (float(c[row]) for c in place)
        ax.scatter(x, y, z, marker="x", s=14, c=BLACK, linewidths=0.9, depthshade=False, zorder=7, gid="chosen")
        text = ax.text(x, y, z + lift, str(number), weight="bold", ha="center", va="center", zorder=8)
        text.set_path_effects(HALO)


# --- one metric over a plane --------------------------------------------------------------------------------


def not_computed(ax: Axes, title: str, text: str = "not computed") -> None:
    """Say so in the panel."""
    ax.set_title(title)
    write: Any = ax.text
    if isinstance(ax, Axes3D):
        ax.set_axis_off()
        write = ax.text2D
    write(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.4", style="italic")


def setting(points: pd.DataFrame, row: int, digits: int = 2) -> str:
    """The betas of a grid point, the top layer's first, as text that no line break parts."""
    return "(" + f",{NO_BREAK}".join(f"{float(f'{beta:.{digits}g}'):g}" for beta in betas(points)[row]) + ")"


def shown(value: float) -> str:
    """A value to three digits, or to the unit, with a minus sign as on the axes."""
    return (f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def best_of(points: pd.DataFrame, metric: Metric, known: str = "known") -> str:
    """The best value of a metric and where it is; and how many models have one, if not all do."""
    value = values(points, metric)
    row = best(points, metric)
    if row is None:
        return ""
    unit = f" {metric.unit}" if metric.unit in ("dB", "%") else ""
    return wrapped(
        f"best {shown(value[row])}{unit} at "
        f"β{NO_BREAK}={NO_BREAK}{setting(points, row)}{known_of(points, metric, known)}",
        TITLE_LETTERS,
    )


def known_of(points: pd.DataFrame, metric: Metric, known: str = "known") -> str:
    """How many models have a metric, in brackets, if some do and not all."""
    count, possible = np.isfinite(values(points, metric)).sum(), np.isfinite(points["rate"]).sum()
    return f" ({count}{NO_BREAK}of{NO_BREAK}{possible}{NO_BREAK}{known})" if 0 < count < possible else ""


def colour_plot(
    ax: Axes, points: pd.DataFrame, metric: Metric, plane: Plane, numbered: bool = False, named: bool = True
) -> None:
    """A metric over a plane, in colours, with baselines and optima.

    Over rates: dots on the surface through them. Over betas: a cell a model, if the betas form a grid.

    Arguments:
        numbered: whether to mark the models of Fig. 4.
        named: whether to put the metric's name in the title, above its best value.
    """
    set_plane(ax, plane)
    row, value = best(points, metric), values(points, metric)
    if row is None:
        not_computed(ax, metric.label if named else "")
        return
    known = np.isfinite(value)
    corners = neighbours(ax, points, plane, known)
    limits = {"vmin": value[known].min(), "vmax": value[known].max()}
    shades: Collection
    if plane.scale == "log" and len(corners):
        shades = cells(ax, plane, known, array=value[known], clim=tuple(limits.values()))
    else:
        shades = ax.scatter(
            plane.x[known],
            plane.y[known],
            c=value[known],
            s=dot_area(points),
            zorder=3,
            linewidths=0.2,
            edgecolors="0.25",
            gid="models",
            **limits,
        )
    if plane.scale != "log":
        if len(corners):
            between(ax, plane, corners, value, known).set_clim(*limits.values())
        diagonals(ax, plane, crosses(ax, points, plane) if numbered else ())
    baselines(ax, points, known, (plane.x, plane.y), circles=plane.scale != "log")  # over betas, a diagonal
    ring(ax, "hull", optimal(points, metric), (plane.x, plane.y))
    near_ties(ax, points, metric, (plane.x, plane.y))
    star(ax, (plane.x[row], plane.y[row]))
    ax.set_title(f"{metric.label}\n{best_of(points, metric)}" if named else best_of(points, metric))
    bar = cast(Figure, ax.figure).colorbar(shades, ax=ax, aspect=18, pad=0.02, fraction=0.08)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.outline.set_linewidth(0.4)


def neighbours(ax: Axes, points: pd.DataFrame, plane: Plane, known: np.ndarray) -> np.ndarray:
    """Triangles between models that lie next to each other in a panel, ``(triangles, 3)``.

    Over the betas they are the grid's. Over the rates, where the grid folds over itself, they are Delaunay's, without
    the slivers along the border. Empty where the betas form no two-way grid.
    """
    corners = triangles(points, known)
    if plane.scale == "log" or not len(corners):
        return corners
    place = np.column_stack(
        [axis.get_transform().transform(side[known]) for axis, side in ((ax.xaxis, plane.x), (ax.yaxis, plane.y))]
    )
    place = (place - place.min(0)) / np.maximum(np.ptp(place, axis=0), 1e-12)
    _, first = np.unique(place.round(6), axis=0, return_index=True)
    try:
        found = Triangulation(*place[first].T)
    except (RuntimeError, ValueError):  # all in a line
        return np.empty((0, 3), int)
    kept = ~TriAnalyzer(found).get_flat_tri_mask(0.003)
    return np.flatnonzero(known)[first][found.triangles[kept]]


def between(ax: Axes, plane: Plane, corners: np.ndarray, value: np.ndarray, known: np.ndarray) -> AxesImage:
    """The values between models, linear in each triangle: an image over the panel.

    It is the values that are interpolated. Shaded triangles would mix colours, into some that no value has.
    """
    place = (ax.transScale + ax.transLimits).transform(np.column_stack([plane.x, plane.y]))
    x, y, z = (np.where(known, c, 0.0) for c in (*place.T, value))
    middle = (np.arange(PIXELS) + 0.5) / PIXELS
    found = LinearTriInterpolator(Triangulation(x, y, corners), z)(*np.meshgrid(middle, middle))
    image = AxesImage(ax, extent=(0, 1, 0, 1), origin="lower", interpolation="nearest", alpha=0.8, zorder=1)
    image.set_data(found)
    image.set_transform(ax.transAxes)
    ax.add_image(image)
    return image


def cells(ax: Axes, plane: Plane, drawn: np.ndarray, **style: Any) -> PolyCollection:
    """A rectangle for every drawn model of a grid of betas, halfway (in the logarithm) to its drawn neighbours."""
    left, right, low, high = (side for axis in (plane.x, plane.y) for side in cell_sides(axis[drawn]))
    corners = np.stack([[left, low], [right, low], [right, high], [left, high]]).transpose(2, 0, 1)
    # An edge in the colour of its cell closes the hairlines that some viewers show between cells.
    collection = PolyCollection(list(corners), edgecolors="face", lw=0.2, zorder=1, gid="models", **style)
    ax.add_collection(collection, autolim=False)
    return collection


def cell_edges(axis: np.ndarray) -> np.ndarray:
    """Where cells around the different values of an axis end, ``(values + 1,)``, evenly in the logarithm."""
    steps = np.unique(axis.round(12))
    edges = np.sqrt(steps[1:] * steps[:-1])
    first, last = (edges[0], edges[-1]) if len(edges) else (steps[0] * 1.5, steps[0] / 1.5)
    return np.array([steps[0] ** 2 / first, *edges, steps[-1] ** 2 / last])


def cell_sides(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the cell of each value begins and ends, ``(points,)`` each."""
    edges = cell_edges(axis)
    index = np.searchsorted(edges, axis)
    return edges[index - 1], edges[index]


def dot_area(points: pd.DataFrame) -> float:
    """Square points of a dot: less where there are many."""
    return float(np.clip(1200 / len(points), 3, 14))


def surface_plot(ax: Axes3D, points: pd.DataFrame, metric: Metric, plane: Plane, ticks: int = 3) -> None:
    """The same as a surface in three dimensions."""
    row, value = best(points, metric), values(points, metric)
    set_box(ax, zoom=1.08)
    set_plane(ax, plane, ticks)
    if row is None:
        not_computed(ax, metric.label)
        return
    ax.set_title(metric.label, y=1, pad=-3)
    known = np.isfinite(value)
    place = (plane.x, plane.y, value)
    mesh(ax, points, place, value, known, neighbours(ax, points, plane, known))
    baselines(ax, points, known, place)
    ring(ax, "hull", optimal(points, metric), place)
    near_ties(ax, points, metric, place)
    star(ax, tuple(c[row] for c in place))
    crosses_in_space(ax, points, place)
    ax.zaxis.set_major_locator(MaxNLocator(4))
    plane.label(ax, "nats")


def set_box(ax: Axes3D, zoom: float) -> None:
    """A quiet box, seen from its lowest corner."""
    ax.computed_zorder = False
    ax.view_init(elev=24, azim=-128)
    ax.set_box_aspect(None, zoom=zoom)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update(linewidth=0.3, color="0.85")  # the only way to style a 3-d grid
        axis.labelpad = -8.5
    ax.tick_params(pad=-4)


def mesh(
    ax: Axes3D,
    points: pd.DataFrame,
    place: tuple[np.ndarray, ...],
    colour: np.ndarray,
    known: np.ndarray,
    corners: np.ndarray,
) -> None:
    """The surface between models, coloured by their values ``(points,)``."""
    if len(corners):
        filled = [np.where(known, c, c[known][0]) for c in place]
        surface = ax.plot_trisurf(
            *filled, triangles=corners, linewidth=0.2, edgecolor=(0.2, 0.2, 0.2, 0.4), shade=False, alpha=0.9, zorder=1
        )
        surface.set_array(colour[corners].mean(1))
        surface.set_clim(colour[known].min(), colour[known].max())
    dots = tuple(c[known] for c in place)
    ax.scatter(*dots, c=colour[known], s=dot_area(points) / 2, depthshade=False, zorder=2, lw=0, gid="models")


# --- the two-dimensional colour code ------------------------------------------------------------------------

# One direction from dark to light, the other from blue to yellow: the colour-blind tell both.
CORNERS = np.array([[[0.03, 0.19, 0.42], [0.62, 0.84, 1.00]], [[0.50, 0.22, 0.00], [1.00, 0.86, 0.35]]])


def colour_code(points: pd.DataFrame) -> np.ndarray:
    """RGB of every model, ``(points, 3)``, bilinear in the logarithms of its two betas (Paper A, Fig. 1)."""
    weights = []
    for axis in split_betas(points):
        share = (np.log(axis) - np.log(axis.min())) / max(np.ptp(np.log(axis)), 1e-9)
        weights.append(np.stack([1 - share, share]))
    return np.einsum("an,bn,abc->nc", *weights, CORNERS)
