"""The figures and tables of Paper A, each from the stored results of one run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Literal, ParamSpec, cast

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D

from hvae_core.analysis.control import SATURATED, is_saturated, is_uncontrolled
from hvae_core.analysis.optimum import as_good
from hvae_core.analysis.points import (
    CLASSIFIERS,
    DIVERSITY,
    ELBO,
    INCEPTION,
    PSNR,
    SHARPNESS,
    Metric,
    accuracy,
    best,
    betas,
    bins,
    chosen,
    compared,
    count_layers,
    described,
    drawable,
    grid_means,
    information,
    is_eq_8,
    is_vae,
    latent_name,
    optimal,
    settings,
    split_rates,
    triangles,
    values,
)
from hvae_core.evaluation.bounds import accuracy_bound
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import APPLICATIONS, PaperFigure, Plane, RateScale
from hvae_core.terms import layer_numbers

P = ParamSpec("P")
DIAGONALS = "Dashed grey lines: equal total rate, in nats per image. "
SURFACE = "Colours between models are interpolated. "


def styled(function: Callable[P, PaperFigure]) -> Callable[P, PaperFigure]:
    """Draw in the paper's style, and leave the caller's as it was."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> PaperFigure:
        with rc_context(draw.STYLE):
            return function(*args, **kwargs)

    return wrapped


def caption(results: pd.DataFrame, text: str, scale: RateScale | None = None) -> str:
    """The text, and what holds for every figure: scale, seeds, what is drawn and what is not."""
    seeds = grid_means(results)["seeds"].max()
    axes = " Rate axes are square roots, so that models near zero can be told apart." if scale == "sqrt" else ""
    mean = f" Means over up to {seeds} seeds a setting." if seeds > 1 else ""
    return f"{text.strip()}{axes}{mean} Drawn: {described(results)}."


def marks(points: pd.DataFrame, *metrics: Metric) -> str:
    """What the circles and stars of these metrics say, for a caption."""
    baselines = "Black circle: VAE (all betas 1). Red: beta-VAE (all betas equal). " if is_eq_8(points) else ""
    return (
        f"{baselines}Purple circles: best for their total rate (corners of the upper convex hull against R). "
        f"Star: best of all. {near_ties(points, *metrics)}"
    )


def near_ties(points: pd.DataFrame, *metrics: Metric) -> str:
    """What the small marks of models that are as good as the best say, and among which models the best are sought."""
    known = compared(points)
    some = known.any() and not known[np.isfinite(points["rate"])].all()
    sources = list(dict.fromkeys(of for metric in metrics if (of := as_good(points, metric)[1])))
    by = "seeds and test images" if "seeds" in sources else f"{' or '.join(sources)} alone, which another seed moves"
    ties = (
        f"Small marks of the same shape: as good as the best, not told apart by {by} (Tukey's range over all settings, "
        "95 %). "
        if sources
        else ""
    )
    return ties + (f"The best are sought among the {known.sum()} settings at which all was measured. " if some else "")


def saturation(points: pd.DataFrame) -> str:
    """What of I_q(y; z_L) is not about the label, or may not be, for a caption; empty where all of it is."""
    top = count_layers(points)
    known = np.isfinite(values(points, information(top)))
    unknown = known & is_uncontrolled(points)
    told, count = (known & ~unknown).sum(), (known & is_saturated(points)).sum()
    text = ""
    if count:
        text = (
            f"Strokes: {count} of {told} settings whose labels at random have more than {SATURATED} nats of I_q, too; "
            "the value there may be the rate's, not the labels'. "
        )
    if unknown.any():
        where = f" at {unknown.sum()} of {known.sum()} settings, which have no strokes" if told else ""
        text += (
            f"I_q of labels at random was not computed{where}: from an R(z_{top}) a few nats below log N on (9.2 for "
            "N = 10,000 test images) the value may be the rate's, not the labels'. "
        )
    return text


def label_outer(panels: np.ndarray, plane: Plane) -> None:
    """Axis labels on the left and on the lowest panel of each column only."""
    for ax in panels.flat:
        plane.label(ax, "nats")
    for column in panels.T:
        for ax in [ax for ax in column if ax.get_visible() and ax.axison][:-1]:
            ax.set_xlabel("")
            ax.tick_params(labelbottom=False)
    for ax in panels[:, 1:].flat:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)


# --- Fig. 1 -------------------------------------------------------------------------------------------------


@styled
def fig1(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """The trade-off between the three applications, the colour code, and three performance landscapes.

    Arguments:
        results: one row a model, as `hvae_core.load_results` returns.
        rate_scale: "sqrt" shows models near zero rate; "linear" is the paper's.

    Source: Paper A, Fig. 1.
    """
    points = grid_means(results)
    shown = (PSNR, accuracy(f"mu{count_layers(points)}", "rbf_svm"), INCEPTION)
    metrics = dict(zip(APPLICATIONS, shown, strict=True))
    known = compared(points)
    if not known[np.isfinite(points["rate"])].all():  # of a conditioned network's points few have been classified
        points = points.assign(**{metric.column: points[metric.column].where(known) for metric in shown})
    fig = draw.new_figure(4.5, described(results))
    top, bottom = cast(np.ndarray, fig.subfigures(2, 1, height_ratios=(1.15, 1)))
    left, right = cast(np.ndarray, top.subfigures(1, 2, width_ratios=(1.04, 1.1)))
    _trade_off(left.add_subplot(projection="3d"), points, metrics)
    for ax, plane, title in zip(
        right.subplots(1, 2),
        (draw.beta_plane(points), draw.rate_plane(points, rate_scale)),
        ("colour code", "… over the rates"),
        strict=True,
    ):
        _colour_code(ax, points, metrics, plane)
        ax.set_title(title)
    plane = draw.beta_plane(points)
    panels = bottom.subplots(1, 3)
    for ax, (application, metric) in zip(panels, metrics.items(), strict=True):
        _landscape(ax, points, application, metric, plane)
    label_outer(panels[None], plane)
    draw.legend(bottom, *APPLICATIONS, "as good", "VAE", "β-VAE line", "diagonal", columns=3)
    fig.caption = caption(
        results,
        "Left: reconstruction (PSNR), generation (Inception Score) and representation (accuracy of an RBF SVM on "
        "the mode of the top layer) of every model; colour tells the betas, lines join neighbours in their grid, pale "
        "dots on the walls are projections. Right: the colour code over the betas and over the rates. Below: "
        "performance landscapes (size of a dot: performance from lowest to highest), with the best model for each. "
        + ("Black circle: VAE; dashed red: beta-VAE. " if is_eq_8(points) else "")
        + "Markers of one model that is best for several lie in each other. "
        + near_ties(points, *shown),
        rate_scale,
    )
    return fig


def _trade_off(ax: Axes3D, points: pd.DataFrame, metrics: dict[str, Metric]) -> None:
    """Every model in the space of three metrics, with projections on the walls."""
    shown = [metrics[name] for name in ("reconstruction", "generation", "representation")]
    place = tuple(values(points, metric) for metric in shown)
    known = np.isfinite(np.array(place)).all(axis=0)
    draw.set_box(ax, zoom=1.0)
    if not known.any():
        lacking = [metric.name for metric in shown if best(points, metric) is None]
        draw.not_computed(ax, "", "not computed:\n" + "\n".join(lacking))
        return
    margins = [0.12 * (np.ptp(c[known]) or 1) for c in place]
    limits = [(c[known].min() - m, c[known].max() + m) for c, m in zip(place, margins, strict=True)]
    for k, wall in enumerate((limits[0][1], limits[1][1], limits[2][0])):
        shadow = [np.full(known.sum(), wall) if i == k else c[known] for i, c in enumerate(place)]
        pale = 0.4 * draw.colour_code(points)[known] + 0.6
        ax.scatter(
            *shadow, s=draw.dot_area(points.loc[known]) / 2, c=pale, lw=0, depthshade=False, zorder=0, gid="shadow"
        )
    _net(ax, points, place, known)
    _optima(ax, points.assign(rate=points["rate"].where(known)), metrics, place, 26)
    for axis, limit, metric in zip("xyz", limits, shown, strict=True):
        getattr(ax, f"set_{axis}lim")(*limit)
        getattr(ax, f"set_{axis}label")(metric.label)
        getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(4))


def _net(ax: Axes3D, points: pd.DataFrame, place: tuple[np.ndarray, ...], known: np.ndarray) -> None:
    """Every model as a dot in its colour, joined to its neighbours in the grid of betas by thin lines."""
    colour = draw.colour_code(points)
    edges = np.sort(np.vstack([triangles(points, known)[:, pair] for pair in ([0, 1], [1, 2])]), axis=1)
    for a, b in np.unique(edges, axis=0):
        ends = [(c[a], c[b]) for c in place]
        ax.plot(*ends, color=colour[[a, b]].mean(0), lw=0.5, alpha=0.8, zorder=1)
    dots = tuple(c[known] for c in place)
    area = 1.2 * draw.dot_area(points.loc[known])
    ax.scatter(*dots, c=colour[known], s=area, depthshade=False, zorder=2, lw=0.2, ec="white", gid="models")


def _colour_code(ax: Axes, points: pd.DataFrame, metrics: dict[str, Metric], plane: Plane) -> None:
    """Every model in the colour of its betas, with the optimum of each application."""
    draw.set_plane(ax, plane)
    colour, drawn = draw.colour_code(points), np.isfinite(points["rate"].to_numpy())
    if plane.scale == "log" and len(triangles(points)):
        draw.cells(ax, plane, drawn, facecolors=colour[drawn])
    else:
        ax.scatter(plane.x[drawn], plane.y[drawn], c=colour[drawn], s=draw.dot_area(points), lw=0, gid="models")
    if plane.scale != "log":
        draw.diagonals(ax, plane)
    draw.baselines(ax, points, drawn, (plane.x, plane.y), circles=False)
    _optima(ax, points, metrics, (plane.x, plane.y), 22)
    plane.label(ax, "nats")


def _optima(
    ax: Axes, points: pd.DataFrame, metrics: dict[str, Metric], place: tuple[np.ndarray, ...], area: float
) -> None:
    """The best model for each application.

    The markers of one that is best for several lie in each other, the largest below, and the VAE's circle in them.
    """
    rows = {
        application: best(points, metrics[application])
        for application in ("generation", "reconstruction", "representation")
    }
    for i, (application, row) in enumerate(rows.items()):
        if row is not None:
            above = list(rows.values())[i + 1 :].count(row) + is_vae(points)[row]
            draw.star(ax, tuple(c[row] for c in place), APPLICATIONS[application], area * (1 + 1.4 * above))


def _landscape(ax: Axes, points: pd.DataFrame, application: str, metric: Metric, plane: Plane) -> None:
    """A performance landscape: size of dot = performance, from the lowest value to the highest."""
    draw.set_plane(ax, plane)
    row, value = best(points, metric), values(points, metric)
    if row is None:
        draw.not_computed(ax, f"{application}\n{metric.label}")
        return
    known = np.isfinite(value)
    share = (value[known] - value[known].min()) / (np.ptp(value[known]) or 1)
    steps = max(len(np.unique(axis)) for axis in betas(points).T)
    area = (0.85 * 72 / (steps + 1)) ** 2  # the largest dot fills its cell of a panel of 0.85 inches
    colour = draw.colour_code(points)[known]
    ax.scatter(plane.x[known], plane.y[known], s=area * (0.03 + 0.97 * share), c=colour, lw=0, gid="models")
    draw.baselines(ax, points, known, (plane.x, plane.y), circles=False)
    draw.near_ties(ax, points, metric, (plane.x, plane.y), APPLICATIONS[application])
    draw.star(ax, (plane.x[row], plane.y[row]), APPLICATIONS[application], 26 * (1 + 1.4 * is_vae(points)[row]))
    ax.set_title(f"{application}\n{draw.best_of(points, metric, 'compared')}")


# --- Figs. 3, 5, 7, 8, 9: metrics over the rates ------------------------------------------------------------


@styled
def fig3(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """PSNR over the layer-wise rates, as a surface and as a colour plot. Source: Paper A, Fig. 3."""
    points = grid_means(results)
    plane = draw.rate_plane(points, rate_scale)
    fig = draw.new_figure(2.7, described(results))
    draw.surface_plot(cast(Axes3D, fig.add_subplot(1, 2, 1, projection="3d")), points, PSNR, plane)
    ax = fig.add_subplot(1, 2, 2)
    draw.colour_plot(ax, points, PSNR, plane, numbered=True, named=False)
    plane.label(ax, "nats")
    draw.legend(fig, "VAE", "β-VAE", "hull", "best", "as good", "chosen", "diagonal", columns=3)
    text = "PSNR of reconstructions by modes over the rates of the layers, as a surface and as a colour plot. "
    crosses = "Numbered crosses: the models of Fig. 4. "
    fig.caption = caption(results, text + marks(points, PSNR) + DIAGONALS + crosses + SURFACE, rate_scale)
    return fig


@styled
def fig5(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """Inception Score, diversity and sharpness over the layer-wise rates. Source: Paper A, Fig. 5, Eq. 12."""
    points = grid_means(results)
    plane = draw.rate_plane(points, rate_scale)
    fig = draw.new_figure(2.6, described(results))
    metrics = (INCEPTION, DIVERSITY, SHARPNESS)
    panels = fig.subplots(1, 3, squeeze=False)
    for metric, ax in zip(metrics, panels.flat, strict=True):
        draw.colour_plot(ax, points, metric, plane, numbered=metric is INCEPTION)
    label_outer(panels, plane)
    draw.legend(fig, "VAE", "β-VAE", "hull", "best", "as good", "diagonal", "chosen", columns=3)
    text = "Inception Score = diversity x sharpness of generated images over the rates of the layers. "
    crosses = "Numbered crosses: the models of Fig. 4. "
    fig.caption = caption(results, text + marks(points, *metrics) + DIAGONALS + crosses + SURFACE, rate_scale)
    return fig


@styled
def fig7(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """I_q(y; z_L) and the classifiers' accuracies on mu_L over the layer-wise rates. Source: Paper A, Fig. 7."""
    points = grid_means(results)
    top = count_layers(points)
    plane = draw.rate_plane(points, rate_scale)
    metrics = [information(top), *(accuracy(f"mu{top}", probe) for probe in CLASSIFIERS)]
    fig = draw.new_figure(4.1, described(results))
    panels = fig.subplots(2, 3)
    for metric, ax in zip(metrics, panels.flat, strict=False):
        draw.colour_plot(ax, points, metric, plane)
    draw.saturated(panels[0, 0], points, (plane.x, plane.y))
    panels[1, 2].set_axis_off()
    label_outer(panels, plane)
    draw.legend(panels[1, 2], "VAE", "β-VAE", "hull", "best", "as good", "diagonal", "saturated", columns=1)
    text = "Mutual information of label and top layer, and accuracies of classifiers on the top layer's mode. "
    text += marks(points, *metrics) + DIAGONALS + saturation(points) + SURFACE
    fig.caption = caption(results, text, rate_scale)
    return fig


@styled
def all_metrics(
    results: pd.DataFrame, plane: Literal["rates", "betas"] = "rates", rate_scale: RateScale = "sqrt"
) -> PaperFigure:
    """Every metric over the layer-wise rates or over the betas. Source: Paper A, Figs. 8 and 9.

    Raises:
        ValueError: `plane` is neither "rates" nor "betas".
    """
    if plane not in ("rates", "betas"):
        raise ValueError(f"plane is 'rates' or 'betas', not {plane!r}")
    over_rates = plane == "rates"
    points = grid_means(results)
    top = count_layers(points)
    latents = [*(f"mu{n}" for n in layer_numbers(top)), f"z{top}"]
    rows = [[PSNR, ELBO, information(top)], [INCEPTION, DIVERSITY, SHARPNESS]]
    rows += [[accuracy(latent, probe) for latent in latents] for probe in CLASSIFIERS]
    columns = max(map(len, rows))
    fig = draw.new_figure(1.38 * len(rows) + 0.7, described(results), draw.WIDTH * columns / 3)
    panels = fig.subplots(len(rows), columns)
    where = draw.rate_plane(points, rate_scale) if over_rates else draw.beta_plane(points)
    for metrics, line in zip(rows, panels, strict=True):
        for metric, ax in zip(metrics, line, strict=False):
            draw.colour_plot(ax, points, metric, where)
            if metric == information(top):
                draw.saturated(ax, points, (where.x, where.y))
        for ax in line[len(metrics) :]:
            ax.set_visible(False)
    label_outer(panels, where)
    names = (
        ("β-VAE", "hull", "best", "as good", "diagonal") if over_rates else ("β-VAE line", "hull", "best", "as good")
    )
    draw.legend(fig, "VAE", *names, "saturated")
    over = "rates of the layers" if over_rates else "betas, which are set, where Fig. 8 has the rates that result"
    text = f"All metrics over the {over}. LR: logistic regression; mu: mode; z ~ q: a sample of q(z_{top}|x). "
    text += marks(points, *(metric for line in rows for metric in line))
    text += saturation(points)
    text += DIAGONALS + SURFACE if over_rates else "White: not drawn. "
    if not over_rates and len(bins(points)) > 2:
        text += "Upwards the geometric mean of the other layers' betas: models of one mean lie upon each other. "
    fig.caption = caption(results, text, rate_scale if over_rates else None)
    return fig


def fig8(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """All metrics over the layer-wise rates.

    Source: Paper A, Fig. 8 (there MNIST with the GHVAE; here the run's data set and model).
    """
    return all_metrics(results, "rates", rate_scale)


def fig9(results: pd.DataFrame) -> PaperFigure:
    """All metrics over the betas.

    Paper A, Fig. 9 shows the panels of Fig. 8 for another run (SVHN with the LVAE). A run is about one data set
    and model, so its Fig. 9 shows the same metrics over what is set, the betas, instead of the rates that result.
    """
    return all_metrics(results, "betas")


# --- Fig. 4 -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """Images of every model of a run, uint8; members in the order of the rows of the results.

    Attributes:
        originals: ``(n, C, H, W)``, the test images that were reconstructed.
        reconstructions: ``(members, n, C, H, W)``.
        samples: ``(members, n, C, H, W)``, generated from the prior.
    """

    originals: np.ndarray
    reconstructions: np.ndarray
    samples: np.ndarray


@styled
def fig4(results: pd.DataFrame, images: Images | None) -> PaperFigure:
    """Originals, reconstructions and samples of three models: best reconstruction, best samples, and one between.

    Raises:
        ValueError: `images` are not of as many models as `results` has rows.

    Source: Paper A, Fig. 4.
    """
    if images is not None and not len(results) == len(images.reconstructions) == len(images.samples):
        counts = f"reconstructions {len(images.reconstructions)} and samples {len(images.samples)}"
        raise ValueError(f"results have {len(results)} models, {counts}")
    points = grid_means(results)
    models = chosen(points)
    columns = max(len(models), 1)
    height, width = montage(images.originals).shape[:2] if images is not None else (1, 2)
    fig = draw.new_figure(0.75 + 3 * (1.72 * height / width + 0.06), described(results), draw.WIDTH * columns / 3)
    panels = fig.subplots(3, columns, squeeze=False)
    for ax in panels.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for number, (name, point) in enumerate(models.items(), 1):
        column = panels[:, number - 1]
        member = member_of(results, points, point)
        if images is not None:
            shown = (images.originals, images.reconstructions[member], images.samples[member])
            for ax, array in zip(column, shown, strict=True):
                ax.imshow(montage(array), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        about = f"β = {draw.setting(points, point)}{_scores(points, point)}\n{_rates(points, point)}"
        column[0].set_title(f"{number}: {name}\n{about}")
    for ax, kind in zip(panels[:, 0], ("originals", "reconstructed", "samples"), strict=True):
        ax.set_ylabel(kind)
    if images is None or not models:
        for ax in panels[1]:
            draw.not_computed(ax, "")
    fig.caption = caption(
        results,
        "Test images, their reconstructions and samples from the prior, for the model with the best reconstructions "
        "(PSNR), the one with the best samples (Inception Score, IS) and one between: of the models whose two scores "
        "both lie between those, the best compromise. Where these are fewer than three, the VAE and the model of the "
        "highest ELBO stand in. With several seeds a setting, images are of the first. Rates in nats per image.",
    )
    return fig


def member_of(results: pd.DataFrame, points: pd.DataFrame, point: int) -> int:
    """The first row of the results that a grid point is made of."""
    keys = settings(results)
    same = (results[keys] == points[keys].iloc[point]).all(axis=1).to_numpy()
    return int(np.flatnonzero(same & drawable(results).to_numpy() & np.isfinite(split_rates(results)).all(0))[0])


def _scores(points: pd.DataFrame, point: int) -> str:
    """A line with the PSNR and the Inception Score of a setting, as far as they are known."""
    found = []
    for name, metric in (("PSNR", PSNR), ("IS", INCEPTION)):
        value = values(points, metric)[point]
        if np.isfinite(value):
            found.append(f"{name} {draw.shown(value)} {metric.unit}".rstrip())
    return f"\n{', '.join(found)}" if found else ""


def _rates(points: pd.DataFrame, point: int) -> str:
    """The rates of a setting in a line, nats per image."""
    plane = draw.rate_plane(points)
    rates = zip(plane.names[: count_layers(points)], (plane.x[point], plane.y[point]), strict=False)
    return ", ".join(f"{name} {'< 0.001' if rate < 0.001 else f'= {rate:.3g}'}" for name, rate in rates)


def montage(images: np.ndarray, columns: int = 6, rows: int = 3, gap: int = 1) -> np.ndarray:
    """The first images side by side: ``(n, C, H, W)`` to ``(height, width)`` or ``(height, width, 3)``."""
    images = images[: columns * rows].transpose(0, 2, 3, 1)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width, channels = images.shape[1] + gap, images.shape[2] + gap, images.shape[3]
    sheet = np.full((rows * height - gap, columns * width - gap, channels), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = height * (i // columns), width * (i % columns)
        sheet[y : y + height - gap, x : x + width - gap] = image
    return sheet[..., 0] if channels == 1 else sheet


# --- Fig. 6, Table 1 ----------------------------------------------------------------------------------------


@styled
def fig6(
    results: pd.DataFrame, label_probabilities: np.ndarray | None = None, rate_scale: RateScale = "sqrt"
) -> PaperFigure:
    """Accuracy of an RBF SVM on mu_L, and on a sample of z_L, against the total rate, with the bound of Eq. 11.

    Arguments:
        results: one row a model.
        label_probabilities: ``(classes,)``, the labels' frequencies; without them the bound is not drawn.
        rate_scale: as in `fig1`.

    Source: Paper A, Fig. 6.
    """
    points = grid_means(results)
    top = count_layers(points)
    fig = draw.new_figure(2.8, described(results))
    panels = fig.subplots(1, 2, sharex=True, sharey=True)
    notes = {f"mu{top}": "mode: the bound does not apply", f"z{top}": "sample: the bound applies"}
    for ax, (latent, note) in zip(panels, notes.items(), strict=True):
        _accuracy_against_rate(ax, points, accuracy(latent, "rbf_svm"), rate_scale, label_probabilities)
        known = draw.known_of(points, accuracy(latent, "rbf_svm"))
        ax.set_title(f"{CLASSIFIERS['rbf_svm']} on {latent_name(latent)}{known}\n{note}")
        ax.set_xlabel(f"total rate R ({draw.nats(rate_scale)})")
    panels[0].set_ylabel("accuracy (%)")
    panels[0].set_ylim(0, 103)
    draw.legend(fig, "VAE", "β-VAE", "hull", *(["bound"] if label_probabilities is not None else []))
    spread = "Bars: standard deviation over seeds. " if points["seeds"].max() > 1 else ""
    bound = (
        "Dashed: the bound f^-1(R) of Eq. 11."
        if label_probabilities is not None
        else ("The bound of Eq. 11 is not drawn, as the labels' frequencies are not known.")
    )
    fig.caption = caption(
        results,
        f"Accuracy of an RBF SVM on the mode mu_{top} (the paper's) and on one sample of z_{top}, against the total "
        "rate. Grey dots: all models; circles as in Fig. 3; purple line: the upper convex hull. Lines are "
        f"straight in the rate between models. {spread}{bound} It holds "
        f"for a classifier that sees a sample of z_{top}; the mode mu_{top} is a noiseless function of the image, "
        "to which it does not apply.",
        rate_scale,
    )
    return fig


def _accuracy_against_rate(
    ax: Axes, points: pd.DataFrame, metric: Metric, scale: RateScale, label_probabilities: np.ndarray | None
) -> None:
    rate, value = points["rate"].to_numpy(), values(points, metric)
    highest = rate[np.isfinite(rate)].max(initial=0)
    draw.set_rate_scale(ax, "x", highest, scale, floor=0.02)
    if label_probabilities is not None:
        nats = (highest or 1) * np.linspace(0, 1.03, 800) ** 2
        bound = 100 * np.asarray(accuracy_bound(nats, label_probabilities))
        ax.plot(nats, bound, "--", color=draw.BLACK, zorder=3, gid="bound")
    known = np.isfinite(value)
    if not known.any():
        draw.not_computed(ax, "")
        return
    ax.scatter(rate[known], value[known], s=draw.dot_area(points), c=draw.GREY, lw=0, zorder=2, gid="models")
    spread = metric.factor * points[f"{metric.column}_sd"].to_numpy(float)
    if np.isfinite(spread).any():
        ax.errorbar(rate, value, spread, fmt="none", ecolor="0.8", elinewidth=0.6, zorder=1)
    hull = optimal(points, metric)
    draw.hull_line(ax, rate[hull], value[hull], scale)
    draw.baselines(ax, points, known, (rate, value), over_rate=scale)
    draw.ring(ax, "hull", hull, (rate, value))


def table1(results: pd.DataFrame) -> pd.DataFrame:
    """The best accuracy over all models for each classifier, in %, and the betas where it is reached.

    Returns:
        One row a latent: the modes mu_L ... mu_1, and a sample of z_L; null where nothing was computed.

    Source: Paper A, Table 1.
    """
    points = grid_means(results)
    top = count_layers(points)
    latents = {f"mu{n}": f"mu_{n}" for n in layer_numbers(top)} | {f"z{top}": f"z_{top} (sampled)"}
    accuracies, chosen_at = {}, {}
    for probe, name in CLASSIFIERS.items():
        places = [(metric, best(points, metric)) for metric in (accuracy(latent, probe) for latent in latents)]
        accuracies[f"{name} (%)"] = [
            None if row is None else values(points, metric)[row].round(2) for metric, row in places
        ]
        chosen_at[f"{name}: betas"] = [
            None if row is None else draw.setting(points, row, digits=3).replace(draw.NO_BREAK, " ")
            for _, row in places
        ]
    table = pd.DataFrame(accuracies | chosen_at, index=pd.Index(latents.values(), name="latent"))
    text = "Best accuracy over all models for each classifier, and the betas (top layer first) where it is reached."
    table.attrs["caption"] = caption(results, text)
    return table


def paper_a(
    results: pd.DataFrame, images: Images | None, label_probabilities: np.ndarray | None
) -> dict[str, PaperFigure]:
    """All figures of Paper A that a run has, by name: `fig1`, `fig3` ... `fig9`."""
    return {
        "fig1": fig1(results),
        "fig3": fig3(results),
        "fig4": fig4(results, images),
        "fig5": fig5(results),
        "fig6": fig6(results, label_probabilities),
        "fig7": fig7(results),
        "fig8": fig8(results),
        "fig9": fig9(results),
    }
