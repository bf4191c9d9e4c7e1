"""Two runs in the same axes: where each setting lies in the plane of rates, and how far each metric moved."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hvae_core.analysis.compare import MOVED, NOT_SETTLED, WITHIN, Comparison, shown_metric
from hvae_core.analysis.points import Metric, count_layers
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure, Plane, RateScale
from hvae_core.figures.paper import styled

HIGHER, LOWER, SAME = "#0072b2", "#d55e00", "0.6"  # blue and vermilion: the colour-blind tell both, and the markers
PANELS = ("elbo", "psnr", "inception_score", "acc_mu{top}_rbf_svm", "acc_z{top}_rbf_svm")
COLUMNS, WIDTH, HEIGHT = 3, 7.2, 2.3  # of a slide: inches, of the whole and of a row
LETTERS, LINE = 118, 0.15  # of a line above the panels: its letters, and its height in inches
LONGEST = 20  # letters of a name in an axis label or the legend


@styled
def compare(found: Comparison, metrics: list[str] | None = None, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """Where the settings of two runs lie in the plane of rates, and the differences of some metrics.

    Arguments:
        found: as `hvae_core.analysis.compare.compare` returns.
        metrics: which have a panel; None: the ELBO and those of the three applications, as far as they are compared.
        rate_scale: "sqrt" shows models near zero rate.

    Raises:
        KeyError: a metric that was not compared.
    """
    top = count_layers(found.points[0])
    usual = [name.format(top=top) for name in PANELS]
    shown = metrics or [name for name in usual if name in found.metrics] or found.headline[:5]
    rows = -(-(1 + len(shown)) // COLUMNS)
    lines = "\n".join(draw.wrapped(note, LETTERS) for note in found.notes)
    fig = draw.new_figure(HEIGHT * rows + LINE * (2 + lines.count("\n")), "", width=WIDTH, hspace=0.06)
    fig.suptitle(lines, color="0.3", x=0.02, ha="left", parse_math=False)  # a data set may have a $ in its name
    panels = fig.subplots(rows, COLUMNS, squeeze=False).ravel()
    _rates(panels[0], found, rate_scale)
    for ax, name in zip(panels[1:], shown, strict=False):
        _difference(ax, found, shown_metric(name, top))
    for ax in panels[1 + len(shown) :]:
        ax.set_axis_off()
    _legend(fig, found, shown)
    first, second = found.names
    fig.caption = (
        f"{first} and {second} at the settings of both, means over seeds. First panel: a circle for {first}, joined to "
        f"a dot for {second} at the same setting; black where a rate moved. Others: {second} minus {first} with its "
        f"standard error, against {first}. Triangles moved by more than other seeds would move them; grey circles lie "
        "within the spread; crosses are not settled. Of all that is marked as moved at most 5 % has not, on average. "
        f"{'. '.join(found.notes)}."
    )
    return fig


def _rates(ax: Axes, found: Comparison, scale: RateScale) -> None:
    """Each setting of both runs in the plane of rates, or of rate and distortion where there is one layer."""
    planes = [_plane(points, scale) for points in found.points]
    x, y = (np.concatenate([getattr(plane, axis) for plane in planes]) for axis in "xy")
    both = Plane(x, y, planes[0].names, scale)
    draw.set_plane(ax, both)
    both.label(ax)
    ends = np.stack([np.column_stack([plane.x, plane.y]) for plane in planes], axis=1)  # (settings, 2 runs, 2 axes)
    rate = found.table["metric"].str.fullmatch(r"rate_\d+")
    rates = found.table[rate & found.table["verdict"].eq(MOVED)]
    moved = pd.MultiIndex.from_frame(found.points[0][found.keys]).isin(pd.MultiIndex.from_frame(rates[found.keys]))
    for some, colour in ((~moved, "0.75"), (moved, draw.BLACK)):
        ax.add_collection(LineCollection(list(ends[some]), colors=colour, lw=0.7, zorder=2), autolim=False)
    area = 1.6 * draw.dot_area(found.points[0])
    styles: list[dict[str, Any]] = [{"facecolors": "white", "edgecolors": "0.25", "lw": 0.7}, {"c": HIGHER, "lw": 0}]
    for plane, style, gid in zip(planes, styles, "ab", strict=True):
        ax.scatter(plane.x, plane.y, s=area, zorder=4, clip_on=False, gid=gid, **style)
    settled = (rate & found.table["verdict"].ne(NOT_SETTLED)).any()
    said = (f"a rate moved at {moved.sum()}" if settled else NOT_SETTLED) if rate.any() else "means over seeds"
    ax.set_title(f"{_settings(len(moved))} in both\n{said}")


def _plane(points: pd.DataFrame, scale: RateScale) -> Plane:
    if count_layers(points) > 1:
        return draw.rate_plane(points, scale)
    return Plane(points["rate_1"].to_numpy(float), points["distortion"].to_numpy(float), ("$R(z_1)$", "$D$"), scale)


def _settings(count: int) -> str:
    return f"{count} setting{'' if count == 1 else 's'}"


def _difference(ax: Axes, found: Comparison, metric: Metric) -> None:
    """A metric of b minus that of a, at each setting, against that of a."""
    rows = found.table[found.table["metric"] == metric.column]
    whole = found.overall[found.overall["metric"] == metric.column].to_dict("records")[0]
    x, y, error = (metric.factor * rows[name].to_numpy(float) for name in ("a", "difference", "standard_error"))
    verdict = rows["verdict"].to_numpy()
    ax.axhline(0, color=draw.BLACK, lw=0.6, zorder=1)
    ax.errorbar(x, y, np.nan_to_num(error), fmt="none", ecolor="0.75", elinewidth=0.6, zorder=2)
    for some, style in _marks(verdict, y):
        ax.scatter(x[some], y[some], **style)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    unit = f" ({metric.unit})" if metric.unit else ""
    ax.set_xlabel(f"{metric.name} of {_shortened(found.names[0])}{unit}")
    ax.set_ylabel(f"difference{unit}")
    error_of_mean = f" ± {metric.factor * whole['standard_error']:.2g}" if np.isfinite(whole["standard_error"]) else ""
    mean = f"mean {metric.factor * whole['difference']:+.3g}{error_of_mean}, {whole['verdict']}".replace("-", "−")
    count = f"moved at {(verdict == MOVED).sum()}"
    if (verdict == NOT_SETTLED).all():
        count = f"higher at {whole['higher']}, lower at {whole['lower']}"
    ax.set_title(f"{metric.name}\n{mean}\n{count} of {_settings(len(rows))}")


def _marks(verdict: np.ndarray, difference: np.ndarray) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Which settings have which marker."""
    moved = verdict == MOVED
    return [
        (verdict == NOT_SETTLED, {"marker": "x", "s": 10, "c": SAME, "lw": 0.8, "zorder": 3, "gid": NOT_SETTLED}),
        (verdict == WITHIN, {"marker": "o", "s": 9, "fc": "white", "ec": SAME, "lw": 0.8, "zorder": 3, "gid": WITHIN}),
        (moved & (difference > 0), {"marker": "^", "s": 16, "c": HIGHER, "lw": 0, "zorder": 4, "gid": "higher"}),
        (moved & (difference < 0), {"marker": "v", "s": 16, "c": LOWER, "lw": 0, "zorder": 4, "gid": "lower"}),
    ]


def _legend(fig: PaperFigure, found: Comparison, shown: list[str]) -> None:
    """What the markers say: those of the two runs, and of the verdicts that are drawn."""
    first, second = map(_shortened, found.names)
    drawn = found.table[found.table["metric"].isin(shown)]
    verdict, higher = drawn["verdict"], drawn["difference"] > 0
    entries: list[tuple[bool, dict[str, Any]]] = [
        (True, {"marker": "o", "ms": 4, "mfc": "white", "mec": "0.25", "mew": 0.7, "label": first}),
        (True, {"marker": "o", "ms": 4, "mfc": HIGHER, "mew": 0, "label": second}),
        (
            bool((verdict.eq(MOVED) & higher).any()),
            {"marker": "^", "ms": 4, "mfc": HIGHER, "mew": 0, "label": f"moved, higher in {second}"},
        ),
        (
            bool((verdict.eq(MOVED) & ~higher).any()),
            {"marker": "v", "ms": 4, "mfc": LOWER, "mew": 0, "label": f"moved, lower in {second}"},
        ),
        (
            bool(verdict.eq(WITHIN).any()),
            {"marker": "o", "ms": 3.5, "mfc": "white", "mec": SAME, "mew": 0.8, "label": WITHIN},
        ),
        (
            bool(verdict.eq(NOT_SETTLED).any()),
            {"marker": "x", "ms": 3.5, "mec": SAME, "mew": 0.8, "label": NOT_SETTLED},
        ),
    ]
    handles = [Line2D([], [], ls="", **style) for there, style in entries if there]
    fig.legend(
        handles=handles, loc="outside lower center", ncols=3, frameon=False, handletextpad=0.3, columnspacing=1.5
    )


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
