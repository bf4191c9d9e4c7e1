"""Lossy files of one model: quality against length beside other formats, and the best split between the layers."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from hvae_core.analysis.frontier import upper_hull
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure
from hvae_core.figures.paper import styled
from hvae_core.terms import layer_numbers

MODEL, PREVIEW = "#0072b2", "#56b4e9"  # blues: the model
OTHERS: dict[str, dict[str, Any]] = {
    "JPEG": {"color": "#d55e00", "marker": "^"},
    "JPEG2000": {"color": "0.4", "marker": "s"},
    "WebP": {"color": "#cc79a7", "marker": "D"},
}

TICKS = 6  # on an axis of lengths


@styled
def lossy(files: pd.DataFrame, others: pd.DataFrame, rates: pd.Series, title: str = "") -> PaperFigure:
    """PSNR against real bits a pixel, and the share of the top layer in the best files.

    Arguments:
        files: as `hvae_core.analysis.dials.lossy_files` returns.
        others: as `hvae_core.analysis.dials.others_files` returns, of the same images.
        rates: the row of the model in the results, with ``rate_L`` ... ``rate_1``.
        title: what the files are of.
    """
    top = max(int(str(name).removeprefix("bits_")) for name in files if str(name).startswith("bits_"))
    fig = draw.new_figure(2.5, title)
    left, right = fig.subplots(1, 2, width_ratios=(1.3, 1))
    best = best_files(files)
    left.plot(files["bits"], files["psnr"], ".", color="0.8", ms=3, zorder=1)
    left.plot(best["bits"], best["psnr"], "o-", color=MODEL, ms=3, zorder=4, label="this model, best dials")
    preview = files.sort_values(f"bits_{top}").drop_duplicates(f"bits_{top}")
    named = f"its $z_{top}$ alone"
    left.plot(preview[f"bits_{top}"], preview["preview"], "v-", color=PREVIEW, ms=3, zorder=3, label=named)
    shown = others[others["bits"] <= 1.3 * files["bits"].max()]
    for name, rows in shown.groupby("name", sort=False):
        left.plot(rows["bits"], rows["psnr"], "--", ms=3, zorder=2, label=str(name), **OTHERS[str(name)])
    span = np.ptp(files["psnr"])
    left.set_ylim(min(files["preview"].min(), files["psnr"].min()) - 0.1 * span, files["psnr"].max() + 0.5 * span)
    _length_axis(left)
    left.set_ylabel("PSNR of all pixels (dB)")
    left.set_title("quality against length")
    fig.legend(loc="outside lower center", ncols=5, frameon=False, handlelength=1.6, columnspacing=1)
    share = _shares(right, best, rates, top)
    right.set_title(f"where the bits go: share of $z_{top}$")
    fig.caption = (
        f"Left: every choice of dials is a dot; joined are those that are best for their length. Light: the "
        f"stream of z_{top} alone, decoded with the mode of the prior below it. Dashed: other formats, of all images "
        f"side by side in one picture; what lies above the panel is better still. Right: the share of z_{top} in the "
        f"files that are best for their length. Dashed: its share of the rate, {100 * share:.0f} %. {title}"
    )
    return fig


def best_files(files: pd.DataFrame) -> pd.DataFrame:
    """The files that are best for their length: corners of the upper convex hull of PSNR against bits, by length.

    Example:
        >>> best_files(pd.DataFrame({"bits": [1, 2, 3], "psnr": [10.0, 10.5, 12.0]}))["bits"].tolist()
        [1, 3]
    """
    return files.iloc[upper_hull(files["bits"], files["psnr"].to_numpy(float))]


def _length_axis(ax: Axes) -> None:
    ax.set_xscale("log")
    low, high = np.log10(ax.get_xlim())
    ticks = np.empty(0)
    for digits in ((1, 2, 5), (1, 3), (1,)):  # as close as labels have room
        every = np.outer(10.0 ** np.arange(np.floor(low), high), digits).ravel()
        ticks = every[(every >= 10**low) & (every <= 10**high)]
        if len(ticks) <= TICKS:
            break
    ax.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("bits a pixel and colour")


def _shares(ax: Axes, best: pd.DataFrame, rates: pd.Series, top: int) -> float:
    """The share of the top layer in the best files and in the rate; returns the latter."""
    total = sum(float(rates[f"rate_{n}"]) for n in layer_numbers(top))
    share = float(rates[f"rate_{top}"]) / total
    ax.plot(best["bits"], 100 * best[f"bits_{top}"] / best["bits"], "o-", color=MODEL, ms=3)
    ax.axhline(100 * share, ls="--", color=draw.BLACK, lw=0.8)
    ax.text(0.02, 100 * share - 1.5, "share of the rate", va="top", transform=ax.get_yaxis_transform())
    _length_axis(ax)
    ax.set_ylim(0, 104)
    ax.set_ylabel("share of the file (%)")
    return share
