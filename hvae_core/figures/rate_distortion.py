"""The figures and the table of Paper B: the rate-distortion plane and what its models decode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from hvae_core.analysis.frontier import lower_hull, pareto_frontier
from hvae_core.analysis.plane import AS_GOOD
from hvae_core.analysis.points import drawable, of_run, status
from hvae_core.evaluation.bounds import distortion_bound, entropy_bound
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure, RateScale
from hvae_core.figures.paper import montage, styled

ENCODERS = {"-": ("o", "Gaussian"), "+": ("^", "with flow")}
DECODERS = {"-": (False, "deconvolutional"), "+": (True, "autoregressive")}
# Dark, light and middle, so that they differ in grey print too, and to the colour-blind.
MARGINALS = {"-": ("#004488", "Gaussian"), "+": ("#ddaa33", "flow"), "v": ("#bb5566", "VampPrior")}
OTHER_MARKERS, OTHER_COLOUR = "DsPXv*", "0.45"
HULL_COLOUR = "0.6"


class Look(NamedTuple):
    """How a family's models are drawn."""

    marker: str
    colour: str
    filled: bool


def is_family(name: str) -> bool:
    """Whether a model's name is that of a family: the signs of encoder, decoder and marginal.

    Example:
        >>> is_family("-+v"), is_family("ghvae")
        (True, False)
    """
    return len(name) == 3 and name[0] in ENCODERS and name[1] in DECODERS and name[2] in MARGINALS


def look_of(name: str, others: list[str]) -> Look:
    """Shape by encoder, filled by decoder, colour by marginal; models of no family are grey, each of its own shape."""
    if is_family(name):
        return Look(ENCODERS[name[0]][0], MARGINALS[name[2]][0], DECODERS[name[1]][0])
    return Look(OTHER_MARKERS[others.index(name) % len(OTHER_MARKERS)], OTHER_COLOUR, True)


@dataclass(frozen=True)
class Decodings:
    """Several decodings of one latent, of every model of a run, uint8; models in the order of the rows of the results.

    Attributes:
        originals: ``(n, C, H, W)``, the test images that were reconstructed.
        reconstructions: ``(models, n, decodings, C, H, W)``, of one z ~ e(z | x) each.
        generated: ``(models, n, decodings, C, H, W)``, of one z ~ m(z) each.
    """

    originals: np.ndarray
    reconstructions: np.ndarray
    generated: np.ndarray


def _plane_points(results: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every model that can be drawn: ``name``, ``rate`` and ``distortion``, one row a model."""
    frames = [results.assign(name=results["model"]), *(frame.assign(name=name) for name, frame in others.items())]
    kinds = sorted({str(kind) for frame in frames if "dataset" in frame for kind in frame["dataset"].unique()})
    if len(kinds) > 1:
        raise ValueError(f"a plane is about one dataset, not {', '.join(kinds)}")
    models = pd.concat([frame.loc[drawable(frame), ["name", "rate", "distortion"]] for frame in frames])
    models = models.astype({"rate": float, "distortion": float}).replace([np.inf, -np.inf], np.nan)
    return models.dropna().reset_index(drop=True)


def _described(results: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> str:
    """What is drawn and what is left out, in one line."""
    frames = [results, *others.values()]
    count = sum(map(len, frames))
    unknown = count - len(_plane_points(results, others))
    left_out = pd.concat([status(frame)[~drawable(frame)] for frame in frames]).value_counts()
    parts = [f"{number} {kind}" for kind, number in left_out.items()]
    if unknown > left_out.sum():
        parts.append(f"{unknown - left_out.sum()} not evaluated")
    about = [str(results["dataset"].iloc[0])] if "dataset" in results and len(results) else []
    if "epochs" in results and len(results):
        about.append(f"{results['epochs'].max():g} epochs")
    families = results["model"].unique()
    about += [f"family {_signs(families[0])}" if len(families) == 1 else f"{len(families)} families"]
    about += [*others, f"{count} models"]
    line = ", ".join(about) + (f", of which {unknown} not drawn ({', '.join(parts)})" if unknown else "")
    return of_run(results, line)


# --- Fig. 3 -------------------------------------------------------------------------------------------------


@styled
def b_fig3(
    results: pd.DataFrame, others: Mapping[str, pd.DataFrame] | None = None, rate_scale: RateScale = "sqrt"
) -> PaperFigure:
    """Distortion, and the negative ELBO R + D, against the rate: every trained model a point, with the frontier.

    Every model is a point, also with several seeds: the mean of a model that collapsed and one that did not is a point
    that no model reached.

    Arguments:
        results: one row a model; the column ``model`` names its family.
        others: results of other runs on the same data set by name, such as Paper A's hierarchical models, drawn by
            their total rate. They count for the frontier.
        rate_scale: "sqrt" shows models near zero rate; "linear" is the paper's.

    Raises:
        ValueError: rows of more than one data set.

    Source: Paper B, Fig. 3 (MNIST) and Fig. 5 (Omniglot).
    """
    others = others or {}
    models = _plane_points(results, others)
    said = _described(results, others)
    fig = draw.new_figure(3.35, said)
    panels = fig.subplots(1, 2)
    names = ("distortion D (nats per image)", f"R + D = −ELBO ({draw.nats('sqrt')})")
    for ax, name, letter in zip(panels, names, "ab", strict=True):
        ax.set(title=f"({letter})", xlabel=f"rate R ({draw.nats(rate_scale)})", ylabel=name)
        if models.empty:
            draw.not_computed(ax, f"({letter})", "no model to draw")
    if len(models):
        _rate_distortion(panels[0], models, rate_scale)
        _rate_elbo(panels[1], models, rate_scale)
        _legend(fig, models)
    scale = (
        " The rate axis is a square root, so that models near zero can be told apart." if rate_scale == "sqrt" else ""
    )
    fig.caption = (
        "(a) Distortion D against rate R of every model on test images, and (b) the same models' R + D, the negative "
        "ELBO, against R. Dashed: R + D of the best model, an upper bound on the entropy H of the data. No model "
        "lies below D = H - R; one with complete freedom would reach it. Black steps: the monotone Pareto "
        "frontier over all models drawn; a "
        "cross on the right edge marks each model on it. Grey: the frontier's lower convex hull. The vertical axis of "
        f"(b) is the square root of the distance from the best.{scale} Drawn: {said}."
    )
    return fig


def _rate_distortion(ax: Axes, models: pd.DataFrame, scale: RateScale) -> None:
    rate, distortion = models["rate"].to_numpy(), models["distortion"].to_numpy()
    draw.set_rate_scale(ax, "x", rate.max(), scale, floor=0.03)
    ax.set_ylim(min(0, distortion.min()), 1.06 * distortion.max())
    best = entropy_bound(distortion, rate)
    nats = np.linspace(0, np.sqrt(min(best, ax.get_xlim()[1])), 200) ** 2 if best > 0 else np.zeros(1)
    ax.plot(nats, distortion_bound(nats, best), "--", color=draw.BLACK, zorder=4, gid="best ELBO")
    # Below the dashed line no model can be: room for its value.
    ax.text(0.02, 0.02, f"R + D = {best:.1f}", transform=ax.transAxes, va="bottom", path_effects=draw.HALO, gid="best")
    for line, style in _borders(rate, distortion, ax.get_xlim()[1]):
        ax.plot(*line.T, **style)
    _cloud(ax, models, distortion)


def _rate_elbo(ax: Axes, models: pd.DataFrame, scale: RateScale) -> None:
    rate, distortion = models["rate"].to_numpy(), models["distortion"].to_numpy()
    total = rate + distortion
    best = entropy_bound(distortion, rate)
    draw.set_rate_scale(ax, "x", rate.max(), scale, floor=0.03)
    ax.set_yscale("function", functions=(lambda y: draw.signed_sqrt(y - best), lambda s: best + draw.signed_square(s)))
    excess = np.sqrt(max(total.max() - best, 1e-3))
    ax.set_ylim(best - (0.11 * excess) ** 2, best + (1.05 * excess) ** 2)
    ax.yaxis.set_major_locator(FixedLocator(excess_levels(best, total.max()).tolist()))
    ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.axhline(best, ls="--", color=draw.BLACK, zorder=4, gid="best ELBO")
    ax.text(0.02, 0.015, f"best {best:.1f}", transform=ax.transAxes, va="bottom", path_effects=draw.HALO, gid="best")
    for line, style in _borders(rate, distortion, ax.get_xlim()[1]):
        ax.plot(line[:, 0], line.sum(1), **style)
    _cloud(ax, models, total)


def excess_levels(best: float, highest: float, count: int = 5) -> np.ndarray:
    """Round numbers from `best` to `highest`, about evenly spaced in the square root of the distance from `best`.

    Example:
        >>> excess_levels(80.2, 215).tolist()
        [85.0, 100.0, 120.0, 160.0, 210.0]
    """
    even = best + (highest - best) * (np.arange(count + 1) / count) ** 2
    gap = np.maximum(np.diff(even), 1e-6)
    magnitude = 10 ** np.floor(np.log10(gap))
    step = np.where(gap >= 5 * magnitude, 5, 1) * magnitude
    return np.unique(np.floor(even[1:] / step) * step)


def _borders(rate: np.ndarray, distortion: np.ndarray, right: float) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """The frontier and its hull as lines of many points, ``(points, 2)``, straight in the plane of R and D."""
    frontier = np.column_stack([rate, distortion])[pareto_frontier(rate, distortion)]
    corners = np.repeat(frontier, 2, axis=0)
    corners[1:-1:2, 0] = frontier[1:, 0]  # first along the rate at the distortion reached, then down
    out_of_sight = 2 * distortion.max()  # the stairs come down from above the panel
    steps = np.vstack([[frontier[0, 0], out_of_sight], corners[:-1], [right, frontier[-1, 1]]])
    hull = np.column_stack([rate, distortion])[lower_hull(rate, distortion)]
    return [
        (_dense(hull), {"color": HULL_COLOUR, "linewidth": 1.2, "zorder": 3, "gid": "hull"}),
        # Above the marks, which would hide it where there are many.
        (_dense(steps), {"color": draw.BLACK, "linewidth": 0.6, "zorder": 6.5, "gid": "frontier"}),
    ]


def _dense(line: np.ndarray, points: int = 40) -> np.ndarray:
    """Points along a line's pieces, so that it is drawn right on axes that bend it."""
    if len(line) < 2:
        return line
    share = np.linspace(0, 1, points)[:, None] ** 2
    return np.vstack([a + share * (b - a) for a, b in pairwise(line)])


def _cloud(ax: Axes, models: pd.DataFrame, y: np.ndarray) -> None:
    """Every model as a mark of its family; those on the frontier once more, on the right edge."""
    area = float(np.clip(1800 / len(models), 6, 20))
    edge = 0.25 if area > 10 else 0.0  # parts marks that overlap; small ones would be all edge
    others = _others(models)
    frontier = pareto_frontier(models["rate"], models["distortion"])
    for name in _ordered(models):
        rows = np.flatnonzero(models["name"] == name)
        look = look_of(name, others)
        style: Any = {"facecolors": look.colour, "edgecolors": "white", "linewidths": edge, "zorder": 5}
        if not look.filled:
            style = {"facecolors": "none", "edgecolors": look.colour, "linewidths": 0.8, "zorder": 6}
        elif name in others:
            style |= {"zorder": 2.5}
        ax.scatter(models["rate"].to_numpy()[rows], y[rows], s=area, marker=look.marker, gid=f"family {name}", **style)
        marked = np.intersect1d(rows, frontier)
        ax.scatter(
            np.full(len(marked), 0.985),
            y[marked],
            s=max(4, 0.4 * area),
            marker="x",
            c=look.colour,
            linewidths=0.7,
            zorder=7,
            transform=ax.get_yaxis_transform(),
            gid=f"frontier {name}",
        )


def _others(models: pd.DataFrame) -> list[str]:
    """Names that are of no family."""
    return [name for name in models["name"].unique() if not is_family(name)]


def _order(name: str) -> list[int]:
    """Sorts families by encoder, decoder and marginal, the simple ones first, and other models behind them."""
    return ["-+v".index(sign) for sign in name] if is_family(name) else [9]


def _ordered(models: pd.DataFrame) -> list[str]:
    """Others first, then the families by name: what is drawn later is seen better."""
    return _others(models) + sorted(set(models["name"]) - set(_others(models)), key=_order)


def _legend(fig: PaperFigure, models: pd.DataFrame, lines: Sequence[Line2D | Patch] = ()) -> None:
    """A column each for encoders, decoders, marginals, lines (those of Fig. 3, if none are given) and other models."""

    def mark(label: str, marker: str, colour: str, filled: bool = True, size: float = 4.5) -> Line2D:
        return Line2D(
            [], [], ls="", marker=marker, color=colour, ms=size, mew=0.8, label=label, mfc=colour if filled else "none"
        )

    def words(label: str) -> Line2D:
        return Line2D([], [], ls="", label=label)

    others = _others(models)
    families = [name for name in _ordered(models) if name not in others]
    signs = [sorted({name[i] for name in families}, key="-+v".index) for i in range(3)]
    black = draw.BLACK
    columns: list[list[Any]] = (
        [
            [words("encoder"), *(mark(f"{_sign(s)}  {ENCODERS[s][1]}", ENCODERS[s][0], black) for s in signs[0])],
            [words("decoder"), *(mark(f"{_sign(s)}  {DECODERS[s][1]}", "o", black, DECODERS[s][0]) for s in signs[1])],
            [words("marginal"), *(mark(f"{_sign(s)}  {MARGINALS[s][1]}", "o", MARGINALS[s][0]) for s in signs[2])],
        ]
        if families
        else []
    )
    columns.append(
        list(lines)
        or [
            Line2D([], [], ls="--", color=black, lw=0.8, label="best R + D"),
            Line2D([], [], color=black, lw=0.6, label="Pareto frontier"),
            Line2D([], [], color=HULL_COLOUR, lw=1.2, label="its convex hull"),
            mark("on the frontier", "x", black, size=3.5),
        ]
    )
    if others:
        columns.append([words("other models"), *(mark(n, *look_of(n, others)[:2]) for n in others)])
    rows = max(map(len, columns))
    fig.legend(
        handles=[entry for column in columns for entry in column + [words("")] * (rows - len(column))],
        loc="outside lower center",
        ncols=len(columns),
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.2,
        handlelength=1.6,
        borderpad=0.1,
        borderaxespad=0.2,
        labelspacing=0.25,
    )


def _sign(sign: str) -> str:
    return sign.replace("-", "−")


# --- bounds on the likelihood ------------------------------------------------------------------------------


@styled
def b_bounds(results: pd.DataFrame, images: int | None = None) -> PaperFigure:
    """The ELBO and the 5-sample bound against the rate, and beside them the 500-sample bound: every model a point.

    Arguments:
        results: one row a model; the column ``model`` names its family.
        images: how many test images the 500-sample bound is over; None: all.

    Source: after Paper B, Section 4, which gives 5-sample bounds in its text; the paper has no such figure.
    """
    models = _bounded(results)
    said = _described(results, {})
    fig = draw.new_figure(3.35, said)
    left, right = fig.subplots(1, 2)
    on = "all test images" if images is None else f"the first {images} test images"
    panels = ((left, "iwae_5", "(a) 5 samples, all test images"), (right, "iwae_500", f"(b) 500 samples, {on}"))
    for ax, column, title in panels:
        ax.set(title=title, xlabel=f"rate R ({draw.nats('sqrt')})", ylabel=f"bound on log p(x) ({draw.nats('sqrt')})")
        known = models[models[column].notna()]
        if known.empty:
            draw.not_computed(ax, title)
            continue
        _bounds(ax, known, column)
    if len(models):
        _legend(
            fig,
            models,
            [
                Line2D([], [], color=draw.GREY, lw=0.8, label="from the ELBO up"),
                Patch(color="0.88", label="within 2 nats of the best"),
            ],
        )
    fig.caption = (
        "(a) The bound on log p(x) with 5 samples, of every model, against its rate R; a line leads there from the "
        f"ELBO, the bound with one sample. (b) The bound with 500 samples, over {on}: compare it between models, not "
        "with (a). Grey: within 2 nats of the best. Both vertical axes are square roots of the distance from the "
        f"best bound, the rate axes of the rate. Drawn: {said}."
    )
    return fig


def _bounded(results: pd.DataFrame) -> pd.DataFrame:
    """Every model that can be drawn: ``name``, ``rate`` and its three bounds, null where not computed."""
    columns = ["rate", "elbo", "iwae_5", "iwae_500"]
    models = results.loc[drawable(results)].reindex(columns=["model", *columns]).rename(columns={"model": "name"})
    models = models.astype(dict.fromkeys(columns, float)).replace([np.inf, -np.inf], np.nan)
    return models.dropna(subset=["rate", "elbo"]).reset_index(drop=True)


def _bounds(ax: Axes, models: pd.DataFrame, column: str) -> None:
    """One bound of every model as a mark; of the 5-sample bound with what it gains on the ELBO."""
    rate, bound = models["rate"].to_numpy(), models[column].to_numpy()
    lowest = min(bound.min(), models["elbo"].min()) if column == "iwae_5" else bound.min()
    best, fall = bound.max(), np.sqrt(max(bound.max() - lowest, 1e-3))
    draw.set_rate_scale(ax, "x", rate.max(), "sqrt", floor=0.03)
    ax.set_yscale("function", functions=(lambda y: draw.signed_sqrt(y - best), lambda s: best + draw.signed_square(s)))
    ax.set_ylim(best - (1.05 * fall) ** 2, best + (0.08 * fall) ** 2)
    ax.yaxis.set_major_locator(FixedLocator((-excess_levels(-best, -lowest)).tolist()))
    ax.yaxis.set_major_formatter(lambda nats, _: _sign(f"{nats:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.axhspan(best - AS_GOOD, best, color="0.88", lw=0, zorder=0, gid="as good")
    text = _sign(f"best {best:.1f}")
    ax.text(0.98, 0.985, text, transform=ax.transAxes, ha="right", va="top", path_effects=draw.HALO, gid="best")
    others, area = _others(models), float(np.clip(1800 / len(models), 6, 20))
    for name in _ordered(models):
        rows = np.flatnonzero(models["name"] == name)
        look = look_of(name, others)
        if column == "iwae_5":
            elbo = models["elbo"].to_numpy()[rows]
            ax.vlines(rate[rows], elbo, bound[rows], color=look.colour, lw=0.8, zorder=3, gid=f"gain {name}")
        ax.scatter(
            rate[rows],
            bound[rows],
            s=area,
            marker=look.marker,
            linewidths=0.8,
            zorder=5,
            gid=f"family {name}",
            facecolors=look.colour if look.filled else "white",
            edgecolors=look.colour,
        )


# --- Fig. 4 -------------------------------------------------------------------------------------------------


@styled
def b_fig4(results: pd.DataFrame, images: Decodings | None, family: str, models: int = 4, rows: int = 4) -> PaperFigure:
    """One latent decoded several times, of one family at several betas: reconstructions and generated images.

    Arguments:
        results: one row a model.
        images: of as many models, in the order of the rows.
        family: whose models to show.
        models: how many to show at most, about evenly spaced in the square root of the rate.
        rows: images of each.

    Raises:
        ValueError: `images` are not of as many models as `results` has rows, or the family is not in the results.

    Source: Paper B, Fig. 4 (MNIST) and Fig. 6 (Omniglot).
    """
    if images is not None and not len(results) == len(images.reconstructions) == len(images.generated):
        counts = f"reconstructions {len(images.reconstructions)} and generated images {len(images.generated)}"
        raise ValueError(f"results have {len(results)} models, {counts}")
    if family not in set(results["model"]):
        raise ValueError(f"family {family!r} is not in the results")
    shown = _spread(results, family, models)
    said = _described(results[results["model"] == family], {})
    if images is None or not shown:
        fig = draw.new_figure(1.5, said)
        ax = fig.add_subplot(xticks=[], yticks=[])
        draw.not_computed(ax, "")
        fig.caption = f"Reconstructions and generated images: not computed. Runs: {said}."
        return fig
    rows, repeats = min(rows, len(images.originals)), images.reconstructions.shape[2]
    cell = 0.575  # inches, of an image: nine fill the width of the page
    fig = draw.new_figure(0.95 + 2 * rows * cell, said)
    panels = fig.subplots(2, 1 + len(shown), width_ratios=[1.0] + [2.05] * len(shown), squeeze=False)
    for ax in panels.flat:
        ax.spines[:].set_visible(False)
        ax.set(xticks=[], yticks=[])
        ax.set_anchor("N")
    _sheet(panels[0, 0], [images.originals[:rows]], ["input"])
    panels[1, 0].set_axis_off()
    parts = ("(a) reconstructions", "(b) generated images")
    for line, part, arrays in zip(panels, parts, (images.reconstructions, images.generated), strict=True):
        for ax, row in zip(line[1:], shown, strict=True):
            decoded = arrays[row, :rows]
            _sheet(ax, [decoded[:, 0], decoded.mean(1).round().astype(np.uint8)], ["sample", f"average of {repeats}"])
        line[1].set_ylabel(part)
    for ax, row in zip(panels[0, 1:], shown, strict=True):
        model = results.iloc[row]
        ax.set_title(f"β = {model['beta_1']:.3g}\n{_number('R', model['rate'])}, {_number('D', model['distortion'])}")
    fig.caption = (
        f"Models of the family {family} at several betas, with their rates R and distortions D in nats per image. "
        "(a) Reconstructions x' ~ d(x|z) of one z ~ e(z|x), (b) images x ~ d(x|z) generated from one z ~ m(z): "
        "a single "
        f"sample, and the average of {repeats} samples of the same z. Where they look alike, z determines the image; "
        f"where the average is blurred or of another class than the input, it does not. Models of this family: {said}."
    )
    return fig


def _spread(results: pd.DataFrame, family: str, count: int) -> list[int]:
    """Rows of a family's models about evenly spaced in the square root of the rate, the highest beta first."""
    rate = results["rate"].to_numpy(float)
    rows = np.flatnonzero((results["model"] == family) & drawable(results) & np.isfinite(rate))
    if not len(rows):
        return []
    root = np.sqrt(np.maximum(rate[rows], 0))
    wanted = np.linspace(root.min(), root.max(), count)
    found = rows[np.unique(np.abs(root[:, None] - wanted).argmin(0))]
    return sorted(found.tolist(), key=lambda row: (-results["beta_1"].iloc[row], rate[row]))


def _sheet(ax: Axes, columns: list[np.ndarray], names: list[str]) -> None:
    """Images in columns, named above; each column ``(n, C, H, W)``."""
    images = np.stack(columns, 1).reshape(-1, *columns[0].shape[1:])
    sheet = montage(images, columns=len(columns), rows=len(columns[0]))
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.xaxis.tick_top()
    width = columns[0].shape[-1] + 1
    ax.set_xticks(width * (np.arange(len(columns)) + 0.5) - 1, names)
    ax.tick_params(length=0)


def _number(symbol: str, nats: float) -> str:
    return f"{symbol} < 0.001" if nats < 0.001 else f"{symbol} = {nats:.3g}"


def _signs(family: str) -> str:
    return _sign(family) if is_family(family) else family


# --- table --------------------------------------------------------------------------------------------------

COLUMNS = {
    "ELBO": "elbo",
    "beta": "beta_1",
    "R": "rate",
    "D": "distortion",
    "IWAE-5": "iwae_5",
    "IWAE-500": "iwae_500",
    "active units": "active_units",
    "E": "mi_lower",
    "G": "mi_upper",
}


def b_table1(results: pd.DataFrame) -> pd.DataFrame:
    """The model with the best ELBO of each family, with all that was measured of it.

    Returns:
        One row a family; null where nothing was computed, or every model diverged.

    Source: Paper B, Section 4, whose text gives such numbers for single models.
    """
    families = sorted(results["model"].unique(), key=_order)
    ok = results[drawable(results) & results["elbo"].notna()]
    elbo = ok["elbo"].astype(float)
    best = [elbo[ok["model"] == family].idxmax() if (ok["model"] == family).any() else None for family in families]
    values = {
        name: [None if row is None or column not in ok else ok.loc[row, column] for row in best]
        for name, column in COLUMNS.items()
    }
    table = pd.DataFrame(values, index=pd.Index(families, name="family")).astype(float)
    table = table.map(lambda value: float(f"{value:.4g}"))
    table.attrs["caption"] = (
        "The model with the highest ELBO of each family (encoder, decoder, marginal), on test images: its beta, rate R "
        "and distortion D, importance-weighted bounds with 5 and 500 samples (500: over the run's first "
        "`likelihood_images` "
        "test images only), all in nats per image; dimensions of z "
        "that the posterior's mean uses (variance over 0.01); lower and upper bound E <= I_gen <= G on the mutual "
        f"information of image and latent in generated images, in nats. Models: {_described(results, {})}."
    )
    return table
