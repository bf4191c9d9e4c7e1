"""The pictures with which notebooks 00 to 40 tell their part of the story; the paper has only the first."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from hvae_core.analysis.points import (
    DIVERSITY,
    INCEPTION,
    PSNR,
    SHARPNESS,
    Metric,
    accuracy,
    best,
    count_layers,
    described,
    grid_means,
    information,
    is_eq_8,
    is_vae,
    latent_name,
    of_run,
    rate_name,
    values,
)
from hvae_core.evaluation.bounds import accuracy_bound, label_entropy
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure, RateScale
from hvae_core.figures.paper import caption, member_of, montage, near_ties, saturation, styled
from hvae_core.names import CONDITIONED
from hvae_core.terms import layer_numbers

# Okabe and Ito's colours, which the colour-blind tell apart; of layers, the top layer's first.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: Sequence[Any] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (5, 1.5, 1.2, 1.5)),
    (0, (8, 3)),
    (0, (2, 3)),
)
NATS = "nats per image"


# --- the hierarchy --------------------------------------------------------------------------------------------

RADIUS, STEP = 0.18, 0.84  # of a node; from one layer to the next; in inches
FROM_RIM = 72 * RADIUS + 1.5  # points between an arrow's end and the middle of its node


@styled
def hierarchy(layers: int = 2) -> PaperFigure:
    """How a hierarchical VAE generates and infers, with the place of each rate, of the distortion and of each beta.

    Arguments:
        layers: L, from 1; of two, the inference of an LVAE is drawn, too.

    Source: Paper A, Fig. 2.
    """
    numbers = layer_numbers(layers)
    height = STEP * (layers + 1) + 0.7
    fig = draw.new_figure(height, "")
    fig.set_layout_engine("none")
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, draw.WIDTH), ylim=(0, height))
    ax.set_axis_off()
    rows = {f"z_{n}": 0.36 + STEP * (n + 0.5) for n in numbers} | {"x": 0.36 + STEP / 2}
    columns = {"generate": 0.45, "infer: GHVAE": 1.68, "infer: LVAE": 3.06}
    if layers != 2:
        columns = {"generate": 0.45, "infer: GHVAE": 2.1}
    for name, y in rows.items():
        _strip(ax, name, y, layers, left=3.46 if layers == 2 else 3.1)
        for title, x in columns.items():
            node = Circle(
                (x, y), RADIUS, fc="white", ec=_colour(name, layers), lw=1.5, zorder=3, gid=f"{title}: {name}"
            )
            ax.add_patch(node)
            ax.text(x, y, f"${name}$", ha="center", va="center", zorder=4, size=10)
    for title, x in columns.items():
        ax.text(
            x + (0.2 if "LVAE" not in title else 0),
            height - 0.17,
            title,
            ha="center",
            va="center",
            weight="bold",
            size=8.5,
        )
    _generation(ax, columns["generate"], rows)
    _inference(ax, columns["infer: GHVAE"], rows)
    if layers == 2:
        _ladder(ax, columns["infer: LVAE"], rows)
    priced = "".join(rf" + \beta_{n}\,{rate_name(n, layers)[1:-1]}" for n in numbers)
    ax.text(
        draw.WIDTH / 2,
        0.17,
        rf"$\mathcal{{L}}_\beta = \mathbb{{E}}_x[\,D{priced}\,]$     (Eq. 8)",
        ha="center",
        va="center",
        size=9,
    )
    fig.caption = (
        "Generation and inference both begin at the top layer: that is what splits the rate into layers. "
        "In each layer the posterior q is compared with the prior p; the divergence is the layer's rate, "
        "and each rate has a price."
    ) + (" LVAE: $d_1$ is computed, not sampled; p is a part of q (dotted)." if layers == 2 else "")
    return fig


def _colour(name: str, layers: int) -> str:
    return "0.3" if name == "x" else COLOURS[(layers - int(name[2:])) % len(COLOURS)]


def _strip(ax: Axes, name: str, y: float, layers: int, left: float) -> None:
    """The band of a layer, or of the image, with its term and its price at the right end."""
    colour = _colour(name, layers)
    band = Rectangle(
        (0.06, y - STEP / 2 + 0.025), draw.WIDTH - 0.12, STEP - 0.05, fc=colour, alpha=0.11, lw=0, zorder=0
    )
    ax.add_patch(band)
    if name == "x":
        term, price, how = "$D$", "1", r"$\mathbb{E}_q[\,-\log\, p(x\,|\,z_1)\,]$"
    else:
        number = int(name[2:])
        top = number == layers
        term, price = rate_name(number, layers), rf"$\beta_{number}$"
        above = "" if top else f"z_{number + 1}"
        mean, q, p = (
            ("", rf"{name}\,|\,x", name)
            if top
            else (r"\mathbb{E}_q\,", rf"{name}\,|\,{above},x", rf"{name}\,|\,{above}")
        )
        how = rf"${mean}\mathrm{{KL}}[\,q({q})\;\|\;p({p})\,]$"
    ax.text(left, y + 0.16, term, color=colour, size=10, va="center")
    ax.text(draw.WIDTH - 0.14, y + 0.16, f"price {price}", color=colour, size=9, ha="right", va="center")
    ax.text(left, y - 0.15, how, va="center", size=8)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0, **style: Any) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>,head_length=3.6,head_width=1.9",
            connectionstyle=f"arc3,rad={bend}",
            mutation_scale=1,
            zorder=2,
            gid="arrow",
            **{"color": "0.2", "lw": 1.0, "shrinkA": FROM_RIM, "shrinkB": FROM_RIM, **style},
        )
    )


def _generation(ax: Axes, x: float, rows: dict[str, float]) -> None:
    names = list(rows)
    for above, name in zip([None, *names], names, strict=False):
        if above:
            _arrow(ax, (x, rows[above]), (x, rows[name]))
        ax.text(
            x + 0.22,
            rows[name],
            rf"$p({name}\,|\,{above})$" if above else f"$p({name})$",
            va="center",
            size=8,
        )


def _inference(ax: Axes, x: float, rows: dict[str, float]) -> None:
    *names, _ = rows
    for above, name in zip([None, *names], names, strict=False):
        _arrow(ax, (x, rows["x"]), (x, rows[name]), 0.0 if name == "z_1" else -0.38)
        if above:
            _arrow(ax, (x, rows[above]), (x, rows[name]))
        ax.text(x + 0.22, rows[name], rf"$q({name}\,|\,{above + ',' if above else ''}x)$", va="center", size=8)


def _ladder(ax: Axes, x: float, rows: dict[str, float]) -> None:
    middle = x - 0.36, (rows["z_1"] + rows["x"]) / 2
    ax.add_patch(
        Rectangle(
            (middle[0] - 0.14, middle[1] - 0.14),
            0.28,
            0.28,
            fc="white",
            ec="0.2",
            lw=1.0,
            zorder=3,
            gid="d_1",
        )
    )
    ax.text(*middle, "$d_1$", ha="center", va="center", zorder=4, size=9)
    _arrow(ax, (x, rows["x"]), middle)
    _arrow(ax, middle, (x, rows["z_1"]))
    _arrow(ax, middle, (x, rows["z_2"]), -0.15, shrinkA=11)
    _arrow(ax, (x, rows["z_2"]), (x, rows["z_1"]), ls=(0, (1.5, 1.5)))


# --- training -------------------------------------------------------------------------------------------------


@styled
def rates_in_training(history: pd.DataFrame) -> PaperFigure:
    """The distortion and the rate of each layer against the epoch, of a few models of the grid.

    Arguments:
        history: one row a model and epoch, as `hvae_core.runs.results.training_history` returns.

    Drawn are, of the first seed, the model nearest to the VAE, those with the cheapest and with the dearest top
    layer, and the one with all layers cheap; of several architectures the model nearest to the VAE of each.
    """
    numbers = layer_numbers(sum(str(column).startswith("train_rate_") for column in history))
    known = history.dropna(subset=["train_distortion"])
    models = _shown(known)
    names = ", ".join(
        str(name) for column in ("dataset", "model") if column in known for name in known[column].unique()
    )
    epochs = int(known["epoch"].max()) if len(known) else 0
    columns = min(1 + len(numbers), 3)
    rows = -(-(1 + len(numbers)) // columns)
    fig = draw.new_figure(0.5 + 1.85 * rows, of_run(history, f"{names}, {epochs} epochs"), draw.WIDTH * columns / 3)
    panels = list(fig.subplots(rows, columns, squeeze=False).flat)
    for ax in panels[1 + len(numbers) :]:
        ax.set_visible(False)
    terms = {"train_distortion": "distortion $D$"} | {
        f"train_rate_{n}": f"rate {rate_name(n, numbers[0])}" for n in numbers
    }
    lines = known[known["member"].isin(models)]
    highest = max((float(lines[term].max()) for term in terms if "rate" in term), default=1.0) if models else 1.0
    for ax, (term, title) in zip(panels, terms.items(), strict=False):
        if not models:
            draw.not_computed(ax, title)
            continue
        for (member, label), colour, dashes in zip(models.items(), COLOURS, DASHES, strict=False):
            own = known[known["member"] == member].sort_values("epoch")
            ax.plot(own["epoch"], own[term], color=colour, ls=dashes, lw=1.3, label=label, gid="model")
            ax.plot(own["epoch"].iloc[-1:], own[term].iloc[-1:], "o", color=colour, ms=3, gid="end")
        if "rate" in term:
            draw.set_rate_scale(ax, "y", highest, "sqrt")
        ax.set_title(title)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.set_ylabel(draw.nats("sqrt" if "rate" in term else "linear"))
    if models:
        handles = [
            Line2D([], [], color=c, ls=d, lw=1.3, label=label)
            for label, c, d in zip(models.values(), COLOURS, DASHES, strict=False)
        ]
        fig.legend(
            handles=handles,
            loc="outside lower center",
            ncols=2 if columns < 3 else 4,
            frameon=False,
            handlelength=3,
        )
    fig.caption = (
        "Distortion and rates on the training images while these models were trained, averaged over each epoch. "
        f"Rate axes are square roots, and the same in all panels. Drawn: {of_run(history, names or 'nothing')}, "
        f"{len(models)} of {history['member'].nunique()} models, of the first seed."
    )
    return fig


def _shown(history: pd.DataFrame) -> dict[int, str]:
    """The members to be drawn, with what tells them apart."""
    first = history.groupby("member").first()
    if first.empty:
        return {}
    first = first[first["seed"] == first["seed"].min()]
    kind = "target" if any(str(column).startswith("target_") for column in first) else "beta"
    given = sorted((str(column) for column in first if str(column).startswith(f"{kind}_")), reverse=True)
    where = np.log(first[given].astype(float).clip(lower=1e-3)).fillna(0.0)
    near, several = where.abs().sum(axis=1), first["model"].nunique() > 1
    if several:
        members = list(near.groupby(first["model"], sort=False).idxmin())[: len(COLOURS)]
    else:
        lean = where.iloc[:, 0] - where.iloc[:, 1:].mean(axis=1).fillna(0.0)
        members = list(dict.fromkeys([near.idxmin(), lean.idxmin(), lean.idxmax(), where.sum(axis=1).idxmin()]))

    def label(member: int) -> str:
        model = str(first.loc[member, "model"])
        if model in CONDITIONED:
            return "the network, over all betas as they were drawn"
        numbers = ", ".join("–" if pd.isna(value) else f"{value:.3g}" for value in first.loc[member, given])
        setting = f"{'r' if kind == 'target' else 'β'} = {numbers if len(given) == 1 else f'({numbers})'}"
        vae = kind == "beta" and near[member] == 0 and is_eq_8(history)
        return (f"{model}: " if several else "") + setting + (", VAE" if vae else "")

    return {int(member): label(member) for member in members}


@styled
def rate_split(terms: pd.DataFrame, names: Sequence[str] | None = None, title: str = "") -> PaperFigure:
    """Where the rate of a few models lies, and their distortion: a bar a model, in the order of the rows.

    Arguments:
        terms: one row a model, as `hvae_core.evaluation.rates.terms_table` returns.
        names: of the models; None: their betas.
        title: what was trained, such as the data set.
    """
    numbers = layer_numbers(count_layers(terms))
    fig = draw.new_figure(1.0 + 0.26 * len(terms), title)
    cast(ConstrainedLayoutEngine, fig.get_layout_engine()).set(w_pad=0.1)  # words are wider at some resolutions
    left, right = fig.subplots(1, 2, width_ratios=(1.6, 1), sharey=True)
    y = np.arange(len(terms))
    start = np.zeros(len(terms))
    for number, colour in zip(numbers, COLOURS, strict=False):
        width = terms[f"rate_{number}"].to_numpy(float)
        left.barh(
            y,
            np.nan_to_num(width),
            0.65,
            start,
            color=colour,
            label=rate_name(number, numbers[0]),
            gid=f"rate_{number}",
        )
        start = start + np.nan_to_num(width)
    right.barh(y, np.nan_to_num(terms["distortion"].to_numpy(float)), 0.65, color="0.6", gid="distortion")
    left.set_yticks(y, names or [f"β = {draw.setting(terms, row)}" for row in range(len(terms))])
    left.invert_yaxis()
    for ax, title in ((left, "rate"), (right, "distortion $D$")):
        ax.set_xlabel(f"{title} ({NATS})")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(numbers), frameon=False)
    fig.caption = "Rates of the layers, and the distortion, of each model; betas with the top layer's first."
    return fig


# --- the applications -----------------------------------------------------------------------------------------


@styled
def best_and_typical(
    results: pd.DataFrame, metric: str, images: np.ndarray, originals: np.ndarray | None = None
) -> PaperFigure:
    """Images of the model with the highest value of a metric, of the VAE, and of the model in the middle.

    Arguments:
        results: one row a model.
        metric: ``psnr`` or ``inception_score``; where no model has it, the VAE is shown, or the first model.
        images: ``(models, n, C, H, W)`` uint8; black of models that keep none.
        originals: ``(n, C, H, W)`` uint8, shown above.
    """
    shown = {m.column: m for m in (PSNR, INCEPTION)}[metric]
    what = "reconstructed by modes" if metric == "psnr" else "sampled from the prior"
    strips = {"test images": originals} if originals is not None else {}
    points = grid_means(results)
    for name, row in _typical(results, points, shown, np.asarray(images.any(axis=(1, 2, 3, 4)))).items():
        value = values(points, shown)[row]
        about = f": {shown.name} {draw.shown(value)} {shown.unit}".rstrip() if np.isfinite(value) else ""
        strips[f"{name}{about} at β = {draw.setting(points, row)}"] = images[member_of(results, points, row)]
    height = draw.WIDTH * images.shape[-2] / (images.shape[-1] * images.shape[1])
    fig = draw.new_figure(0.35 + (height + 0.24) * max(len(strips), 1), described(results))
    panels = list(fig.subplots(max(len(strips), 1), 1, squeeze=False).flat)
    for ax, (title, strip) in zip(panels, strips.items(), strict=False):
        ax.imshow(montage(strip, columns=len(strip), rows=1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_title(title, loc="left")
    for ax in panels:
        ax.set_axis_off()
    if not strips:
        draw.not_computed(panels[0], "", "no model keeps images")
    middle = f"the models with the highest {shown.name} and with the one in the middle of all"
    fig.caption = caption(results, f"Images {what}, by {middle}, and by the VAE (all betas 1), where there is one.")
    return fig


def _typical(results: pd.DataFrame, points: pd.DataFrame, metric: Metric, kept: np.ndarray) -> dict[str, int]:
    """Rows of the points to be shown, by name; of the models that keep images."""
    known = np.isfinite(points["rate"].to_numpy(float))
    known[known] = [kept[member_of(results, points, int(row))] for row in np.flatnonzero(known)]
    looked_at = points.assign(rate=points["rate"].where(known))
    value = values(looked_at, metric)
    found: dict[str, int] = {}
    if (first := best(looked_at, metric)) is not None:
        found["best"] = first
    if (is_vae(points) & known).any():
        found["VAE"] = int(np.flatnonzero(is_vae(points) & known)[0])
    if np.isfinite(value).any():
        found["in the middle"] = int(np.nanargmin(np.abs(value - np.nanquantile(value, 0.5, method="lower"))))
    if not found and known.any():
        found["first"] = int(np.flatnonzero(known)[0])
    names: dict[int, str] = {}
    for name, row in found.items():
        names[row] = f"{names[row]}, {name}" if row in names else name
    return {name: row for row, name in names.items()}


@styled
def diversity_sharpness(results: pd.DataFrame) -> PaperFigure:
    """The two factors of the Inception Score against each other, with curves of equal score.

    Source: Paper A, Eq. 12, and Fig. 5 in another view.
    """
    points = grid_means(results)
    fig = draw.new_figure(3.3, described(results), 0.8 * draw.WIDTH)
    ax = fig.add_subplot()
    place = values(points, DIVERSITY), values(points, SHARPNESS)
    known = np.isfinite(np.array(place)).all(axis=0)
    row = best(points, INCEPTION)
    if not known.any() or row is None:
        draw.not_computed(ax, "", "not computed: it takes labels")
    else:
        plane = draw.rate_plane(points)
        for axis, numbers, least in zip("xy", place, (0.3, 0.03), strict=True):
            margin = max(0.09 * float(np.ptp(numbers[known])), least)
            getattr(ax, f"set_{axis}lim")(numbers[known].min() - margin, numbers[known].max() + margin)
        _equal_scores(ax, np.column_stack(place)[known])
        x, y = (c[known] for c in place)
        dots = ax.scatter(
            x,
            y,
            2 * draw.dot_area(points.loc[known]),
            plane.x[known],
            norm=PowerNorm(0.5, vmin=0),
            linewidths=0.3,
            edgecolors="0.25",
            zorder=3,
            gid="models",
        )
        draw.baselines(ax, points, known, place)
        draw.near_ties(ax, points, INCEPTION, place)
        draw.star(ax, (place[0][row], place[1][row]))
        ax.set_title(f"{INCEPTION.name} = diversity × sharpness\n{draw.best_of(points, INCEPTION)}")
        bar = fig.colorbar(dots, ax=ax, pad=0.02, fraction=0.06)
        bar.set_label(f"{plane.names[0]} ({draw.nats('sqrt')})")
        bar.outline.set_linewidth(0.4)
        draw.legend(fig, "VAE", "β-VAE", "best", "as good")
    ax.set_xlabel("diversity (classes)")
    ax.set_ylabel("sharpness (1: the classifier is sure)")
    text = (
        "A dot a model: diversity, the number of classes that its samples are spread over, and sharpness, how "
        "sure the classifier is of each. Dashed grey curves: equal Inception Score, their product. The score "
        "itself is a mean over five parts of the samples, so it differs a little from the product of the means. "
        + ("Black circle: VAE. Red: beta-VAE. " if is_eq_8(points) else "")
        + f"Star: best. {near_ties(points, INCEPTION)}"
    )
    fig.caption = caption(results, text)
    return fig


def _equal_scores(ax: Axes, taken: np.ndarray) -> None:
    """Curves along which the product of the axes is constant, each labelled where it is farthest from the models."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    x = np.geomspace(max(left, 1e-3), right, 200)
    to_axes = ax.transData + ax.transAxes.inverted()
    models = to_axes.transform(taken)
    for level in MaxNLocator(7).tick_values(max(left, 0) * max(low, 0), right * high):
        curve = np.column_stack([x, level / x])
        inside = ((to_axes.transform(curve) > 0.07) & (to_axes.transform(curve) < 0.93)).all(1)
        if level < 1 or not inside.any():  # no score is below 1
            continue
        ax.plot(*curve.T, "--", color=draw.GREY, lw=0.6, zorder=1, gid="equal score")
        distance = np.linalg.norm(to_axes.transform(curve[inside])[:, None] - models[None], axis=-1).min(1)
        x_label, y_label = curve[inside][distance.argmax()]
        ax.text(
            x_label, y_label, f"IS {level:g}", color="0.35", ha="center", va="center", path_effects=draw.HALO, zorder=2
        )


@styled
def accuracy_and_bound(
    results: pd.DataFrame, label_probabilities: np.ndarray | None = None, rate_scale: RateScale = "sqrt"
) -> PaperFigure:
    """Accuracy of an RBF SVM on the mode mu_L and on a sample of z_L, with the bound of Eq. 11.

    Left it is against R(z_L), right against I_q(y; z_L).

    Arguments:
        results: one row a model.
        label_probabilities: ``(classes,)``, the labels' frequencies; without them the bound is not drawn.
        rate_scale: of the horizontal axes.

    Source: Paper A, Eq. 11 and Fig. 6, which has the total rate.
    """
    points = grid_means(results)
    top = count_layers(points)
    mode, sample = accuracy(f"mu{top}", "rbf_svm"), accuracy(f"z{top}", "rbf_svm")
    fig = draw.new_figure(2.9, described(results))
    panels = fig.subplots(1, 2, sharey=True)
    told = np.maximum(values(points, information(top)), 0)  # an estimate, which may be below 0
    nats = {
        f"the rate of $z_{top}$": (rate_name(top, top), points[f"rate_{top}"].to_numpy(float)),
        "its information on the label": (information(top).name, told),
    }
    for ax, (title, (name, along)) in zip(panels, nats.items(), strict=True):
        _mode_and_sample(ax, points, along, (mode, sample), label_probabilities, rate_scale)
        ax.set_xlabel(f"{name} ({draw.nats(rate_scale)})")
        ax.set_title(f"against {title}")
    draw.saturated(panels[1], points, (told, values(points, sample)))
    panels[0].set_ylabel("accuracy of an RBF SVM (%)")
    panels[0].set_ylim(0, 103)
    marks = [
        Line2D(
            [],
            [],
            ls="",
            marker="^",
            ms=4.5,
            mfc="white",
            color=COLOURS[1],
            label=f"on the mode {latent_name(f'mu{top}')}",
        ),
        Line2D([], [], ls="", marker="o", ms=4, color=COLOURS[0], label=f"on a sample {latent_name(f'z{top}')}"),
    ]
    if label_probabilities is not None:
        marks.append(Line2D([], [], ls="--", color=draw.BLACK, label="bound $f^{-1}$ for samples, Eq. 11"))
    if any(artist.get_gid() == "saturated" for artist in panels[1].collections):
        marks.append(Line2D([], [], ls="", marker=draw.STROKE, ms=5, mew=0.9, color=draw.BLACK, label=draw.STROKES))
    fig.legend(handles=marks, loc="outside lower center", ncols=2 if len(marks) == 4 else 3, frameon=False)
    bound = "The bound is not drawn, as the labels' frequencies are not known."
    if label_probabilities is not None:
        bound = (
            "The bound is for classifiers that see a sample, up to the noise of an accuracy on few test images; "
            "the mode, a noiseless function of the image, may lie above it."
        )
    fig.caption = caption(
        results,
        "Two marks a model, joined by a line: accuracy on the mode of the top layer and on one sample of it, "
        f"against its rate and against its information on the label. {bound} {saturation(points)}",
        rate_scale,
    )
    return fig


@styled
def information_trap(
    results: pd.DataFrame,
    label_probabilities: np.ndarray | None = None,
    images: int | None = None,
    rate_scale: RateScale = "sqrt",
) -> PaperFigure:
    """The estimate I_q(y; z_L) against R(z_L), of the true labels and of permuted ones, and a bound that holds.

    Arguments:
        results: one row a model.
        label_probabilities: ``(classes,)``, the labels' frequencies; without them their entropy is not drawn.
        images: labelled images in the estimate, N; without them the log of their number is not drawn.
        rate_scale: of the horizontal axis.

    Source: Paper A, Eq. 10; the permuted labels and the bound are ours.
    """
    points = grid_means(results)
    top = count_layers(points)
    rate, column = points[f"rate_{top}"].to_numpy(float), f"mi_z{top}"
    fig = draw.new_figure(2.9, described(results))
    ax = fig.subplots()
    draw.set_rate_scale(ax, "x", float(np.nanmax(rate, initial=0)) or 1.0, rate_scale, floor=0.03)
    ax.set_xlabel(f"{rate_name(top, top)} ({draw.nats(rate_scale)})")
    ax.set_ylabel("information on the label (nats)")
    series = {
        f"$I_q(y; z_{top})$, true labels": (column, "o", COLOURS[0], COLOURS[0]),
        "the same, permuted labels": (f"{column}_permuted", "^", COLOURS[1], "white"),
        "lower bound on $I(y; z)$ by a classifier": (f"{column}_lower", "s", COLOURS[2], COLOURS[2]),
    }
    known = False
    for label, (name, marker, colour, face) in series.items():
        value = points[name].to_numpy(float) if name in points else np.full(len(points), np.nan)
        there = np.isfinite(value) & np.isfinite(rate)
        if there.any():
            known = True
            ax.plot(rate[there], value[there], marker, ms=3.6, mfc=face, mec=colour, mew=0.8, label=label, gid=name)
        if name.endswith("_lower") and f"{name}_se" in points:
            error = 2 * points[f"{name}_se"].to_numpy(float)
            ax.errorbar(rate[there], value[there], error[there], fmt="none", ecolor=colour, lw=0.7)
    if not known:
        draw.not_computed(ax, "")
        return fig
    if label_probabilities is not None:
        entropy = label_entropy(label_probabilities)
        ax.axhline(entropy, ls="--", lw=0.8, color=draw.BLACK, label="$H[p(y)]$: all there is to know", gid="entropy")
    if images:
        ax.axvline(math.log(images), ls=":", lw=0.8, color="0.4", label=rf"$\log N$, {images:,} images", gid="log N")
    fig.legend(loc="outside lower center", ncols=2, frameon=False)
    fig.caption = caption(
        results,
        "The estimate counts each image's own posterior. Where posteriors hardly overlap it is the only one left, "
        "so that labels at random have as much information as true ones. Bars: two standard errors.",
        rate_scale,
    )
    return fig


def _mode_and_sample(
    ax: Axes,
    points: pd.DataFrame,
    along: np.ndarray,
    metrics: tuple[Metric, Metric],
    label_probabilities: np.ndarray | None,
    scale: RateScale,
) -> None:
    highest = float(along[np.isfinite(along)].max(initial=0)) or 1.0
    draw.set_rate_scale(ax, "x", highest, scale, floor=0.03)
    if label_probabilities is not None:
        grid = highest * np.linspace(0, 1.03, 800) ** 2
        ax.plot(
            grid,
            100 * np.asarray(accuracy_bound(grid, label_probabilities)),
            "--",
            color=draw.BLACK,
            zorder=4,
            gid="bound",
        )
    mode, sample = (values(points, metric) for metric in metrics)
    known = np.isfinite(along) & np.isfinite(mode) & np.isfinite(sample)
    if not known.any():
        draw.not_computed(ax, "")
        return
    ax.vlines(along[known], sample[known], mode[known], color="0.8", lw=0.6, zorder=1, gid="pairs")
    area = 1.5 * draw.dot_area(points.loc[known])
    ax.scatter(
        along[known],
        mode[known],
        area,
        marker="^",
        fc="white",
        ec=COLOURS[1],
        lw=0.8,
        zorder=3,
        gid="mode",
        clip_on=False,
    )
    ax.scatter(along[known], sample[known], area, color=COLOURS[0], lw=0, zorder=3, gid="sample", clip_on=False)
