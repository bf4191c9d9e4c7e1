"""The figures and tables of Paper A, each from the stored results of one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Literal, ParamSpec, cast

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D

from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure, Plane, RateScale
from hvae_core.figures.points import (
    CLASSIFIERS, DIVERSITY, ELBO, INCEPTION, PSNR, SHARPNESS, Metric,
    accuracy, best, betas, chosen, described, drawable, grid_means, information, latent_name, layers, optimal,
    triangles, values,
)  # fmt: skip

P = ParamSpec("P")
MARKS = (
    "Black circle: VAE (all betas 1). Red circles: beta-VAE (all betas equal). Purple circles: best for their total "
    "rate (corners of the upper convex hull against R). Star: best of all. "
)
DRAWN = "Dashed grey lines: equal total rate, in nats per image. "
SURFACE = "Colours between models are interpolated between neighbours in the grid of betas. "


def styled(function: Callable[P, PaperFigure]) -> Callable[P, PaperFigure]:
    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> PaperFigure:
        with rc_context(draw.STYLE):
            return function(*args, **kwargs)

    return wrapped


def caption(results: pd.DataFrame, text: str, scale: RateScale | None = None) -> str:
    seeds = grid_means(results)["seeds"].max()
    mean = f" Means over up to {seeds} seeds a setting." if seeds > 1 else ""
    axes = (
        " Rate axes are square roots, so that models near zero can be told apart." if scale == "sqrt" else ""
    )
    return f"{text.strip()}{axes}{mean} Drawn: {described(results)}."


def label_outer(panels: np.ndarray, plane: Plane) -> None:
    """Axis labels on the left and on the lowest panel of each column only."""
    for ax in panels.flat:
        plane.label(ax, "nats")
    for column in panels.T:
        for ax in [ax for ax in column if ax.get_visible()][:-1]:
            ax.set_xlabel("")
            ax.tick_params(labelbottom=False)
    for ax in panels[:, 1:].flat:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)


# --- Fig. 1 -----------------------------------------------------------------------------------------------------

APPLICATIONS = {"reconstruction": "s", "representation": "^", "generation": "D"}


def application_metrics(top: int) -> dict[str, Metric]:
    """One metric for each application domain of Paper A, Section 1."""
    return dict(zip(APPLICATIONS, (PSNR, accuracy(f"mu{top}", "rbf_svm"), INCEPTION), strict=True))


@styled
def fig1(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """The trade-off between the three applications, the colour code, and three performance landscapes.

    Arguments:
        results: one row a model, as `hvae_core.store.load_results` returns.
        rate_scale: "sqrt" shows models near zero rate; "linear" is the paper's.

    Source: Paper A, Fig. 1.
    """
    points = grid_means(results)
    metrics = application_metrics(layers(points))
    fig = draw.new_figure(4.5, described(results))
    top, bottom = cast(np.ndarray, fig.subfigures(2, 1, height_ratios=(1.15, 1)))
    left, right = cast(np.ndarray, top.subfigures(1, 2, width_ratios=(1, 1.15)))
    _trade_off(left.add_subplot(projection="3d"), points, metrics)
    _colour_code_panels(right.subplots(1, 2), points, metrics, rate_scale)
    plane = draw.beta_plane(points)
    panels = bottom.subplots(1, 3)
    for ax, (application, metric) in zip(panels, metrics.items(), strict=True):
        _landscape(ax, points, application, metric, plane)
    label_outer(panels[None], plane)
    marks = [
        Line2D(
            [], [], ls="", marker=marker, ms=5, mfc="white", mec=BLACK, mew=0.7, label=f"best {application}"
        )
        for application, marker in APPLICATIONS.items()
    ]
    baseline_marks = draw.handles("VAE", "β-VAE line", "diagonal")
    draw.add_legend(bottom, [mark for pair in zip(baseline_marks, marks, strict=True) for mark in pair])
    fig.caption = caption(
        results,
        "Left: reconstruction (PSNR), generation (Inception Score) and representation (accuracy of an RBF SVM on the "
        "mode of the top layer) of every model; colour tells the betas, grey dots on the walls are projections. Right: "
        "the colour code over the betas and over the rates; three performance landscapes (size of a dot: performance "
        "from lowest to highest) with the best model for each application. Black circle: VAE; dashed red: beta-VAE.",
        rate_scale,
    )
    return fig


def _trade_off(ax: Axes3D, points: pd.DataFrame, metrics: dict[str, Metric]) -> None:
    shown = [metrics[name] for name in ("reconstruction", "generation", "representation")]
    coordinates = [values(points, metric) for metric in shown]
    known = np.isfinite(np.array(coordinates)).all(axis=0)
    draw.set_box(ax, zoom=0.92)
    if not known.any():
        ax.set_axis_off()
        lacking = [m.name for m, c in zip(shown, coordinates, strict=True) if not np.isfinite(c).any()]
        ax.text2D(0.5, 0.5, "not computed:\n" + "\n".join(lacking), transform=ax.transAxes, ha="center", va="center",
                  color="0.4", style="italic")  # fmt: skip
        return
    low = [c[known].min() - 0.12 * (np.ptp(c[known]) or 1) for c in coordinates]
    high = [c[known].max() + 0.12 * (np.ptp(c[known]) or 1) for c in coordinates]
    walls = [high[0], high[1], low[2]]
    for k, wall in enumerate(walls):
        shadow = [np.full(known.sum(), wall) if i == k else c[known] for i, c in enumerate(coordinates)]
        ax.scatter(
            *shadow, s=draw.dot_area(points) / 3, c="0.75", linewidths=0, depthshade=False, zorder=0, gid="shadow"
        )
    draw.mesh(ax, points, tuple(coordinates), draw.colour_code(points), known)
    for application, metric in metrics.items():
        row = best(points.where(pd.Series(known)), metric)
        if row is not None:
            ax.scatter(*(c[row] for c in coordinates), marker=APPLICATIONS[application], s=26, c="white", edgecolors=BLACK,
                       linewidths=0.7, depthshade=False, zorder=6, gid="best")  # fmt: skip
    for axis, a, b, metric in zip("xyz", low, high, shown, strict=True):
        getattr(ax, f"set_{axis}lim")(a, b)
        getattr(ax, f"set_{axis}label")(metric.label)
        getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(4))


def _colour_code_panels(
    panels: Sequence[Axes], points: pd.DataFrame, metrics: dict[str, Metric], scale: RateScale
) -> None:
    colour = draw.colour_code(points)
    for ax, plane, title in zip(
        panels,
        (draw.beta_plane(points), draw.rate_plane(points, scale)),
        ("colour code", "… over the rates"),
        strict=True,
    ):
        draw.set_plane(ax, plane)
        drawn = np.isfinite(points["rate"].to_numpy())
        if plane.scale == "log" and len(triangles(points)):
            draw.cells(ax, plane, drawn, facecolors=colour[drawn])
        else:
            ax.scatter(
                plane.x[drawn],
                plane.y[drawn],
                c=colour[drawn],
                s=draw.dot_area(points),
                linewidths=0,
                gid="models",
            )
        if plane.scale != "log":
            draw.diagonals(ax, plane)
        draw.baselines(ax, points, drawn, (plane.x, plane.y), circles=False)
        for application, metric in metrics.items():
            row = best(points, metric)
            if row is not None:
                draw.star(ax, plane.x[row], plane.y[row], APPLICATIONS[application], 22)
        plane.label(ax, "nats")
        ax.set_title(title)


def cell_area(points: pd.DataFrame, inches: float = 0.85) -> float:
    """Square points of a mark that fills its cell of the grid of betas, in a panel of so many inches."""
    cells = max(points[f"beta_{n}"].nunique() for n in range(1, layers(points) + 1))
    return (inches * 72 / (cells + 1)) ** 2


def _landscape(ax: Axes, points: pd.DataFrame, application: str, metric: Metric, plane: Plane) -> None:
    """A performance landscape: size of dot = performance, from the lowest value to the highest."""
    draw.set_plane(ax, plane)
    row, value = best(points, metric), values(points, metric)
    if row is None:
        return draw.not_computed(ax, f"{application}\n{metric.label}")
    known = np.isfinite(value)
    share = (value[known] - value[known].min()) / (np.ptp(value[known]) or 1)
    ax.scatter(plane.x[known], plane.y[known], s=cell_area(points) * (0.03 + 0.97 * share), c=draw.colour_code(points)[known],
               linewidths=0, gid="models")  # fmt: skip
    draw.baselines(ax, points, known, (plane.x, plane.y), circles=False)
    draw.star(ax, plane.x[row], plane.y[row], APPLICATIONS[application], 26)
    ax.set_title(f"{application}\n{draw.best_of(points, metric)}")


# --- Figs. 3, 5, 7, 8, 9: metrics over the rates -----------------------------------------------------------------


@styled
def fig3(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """PSNR over the layer-wise rates, as a surface and as a colour plot. Source: Paper A, Fig. 3."""
    points = grid_means(results)
    plane = draw.rate_plane(points, rate_scale)
    fig = draw.new_figure(2.7, described(results))
    draw.surface_plot(cast(Axes3D, fig.add_subplot(1, 2, 1, projection="3d")), points, PSNR, plane)
    ax = fig.add_subplot(1, 2, 2)
    draw.colour_plot(ax, points, PSNR, plane, numbered=True, named=False)
    plane.label(ax)
    draw.legend(fig, "VAE", "β-VAE", "hull", "best", "chosen", "diagonal")
    fig.caption = caption(
        results,
        "PSNR of reconstructions by modes over the rates of the layers, as a surface and as a colour plot. "
        + MARKS + DRAWN + "Numbered crosses: the models of Fig. 4. " + SURFACE, rate_scale,
    )  # fmt: skip
    return fig


def _surfaces_and_plots(
    results: pd.DataFrame, metrics: Sequence[Metric], text: str, rate_scale: RateScale, numbered: bool = False
) -> PaperFigure:
    """Every metric as a surface above a colour plot, three a row."""
    points = grid_means(results)
    plane = draw.rate_plane(points, rate_scale)
    rows = -(-len(metrics) // 3)
    fig = draw.new_figure(3.3 * rows + 0.5, described(results), hspace=0.06)
    names = ["VAE", "β-VAE", "hull", "best", "diagonal", *(["chosen"] if numbered else [])]
    for number, metric in enumerate(metrics):
        row, column = divmod(number, 3)
        place = (2 * rows, 3, 6 * row + column + 1)
        draw.surface_plot(cast(Axes3D, fig.add_subplot(*place, projection="3d")), points, metric, plane, ticks=2)
        ax = fig.add_subplot(2 * rows, 3, place[2] + 3)
        draw.colour_plot(ax, points, metric, plane, numbered=numbered and column == 0, named=False)
        plane.label(ax)
        if column:
            ax.set_ylabel("")
    draw.legend(fig, *names)
    fig.caption = caption(results, text + MARKS + DRAWN + SURFACE, rate_scale)
    return fig


@styled
def fig5(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """Inception Score, diversity and sharpness over the layer-wise rates. Source: Paper A, Fig. 5 and Eq. 12."""
    text = "Inception Score = diversity x sharpness of generated images over the rates of the layers. "
    return _surfaces_and_plots(results, (INCEPTION, DIVERSITY, SHARPNESS), text, rate_scale, numbered=True)


@styled
def fig7(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """I_q(y; z_L) and the four classifiers' accuracies on mu_L over the layer-wise rates. Source: Paper A, Fig. 7."""
    top = layers(results)
    metrics = [information(top), *(accuracy(f"mu{top}", probe) for probe in CLASSIFIERS)]
    text = "Mutual information between label and top layer, and accuracies of four classifiers on the top layer's mode. "
    return _surfaces_and_plots(results, metrics, text, rate_scale)


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
    points = grid_means(results)
    top = layers(points)
    latents = [*(f"mu{n}" for n in range(top, 0, -1)), f"z{top}"]
    columns = max(3, len(latents))
    general: list[Metric | None] = [PSNR, ELBO, information(top), INCEPTION, DIVERSITY, SHARPNESS]
    rows = [general[i : i + 3] + [None] * (columns - 3) for i in (0, 3)]
    rows += [
        [accuracy(latent, probe) for latent in latents] + [None] * (columns - len(latents))
        for probe in CLASSIFIERS
    ]
    where = draw.rate_plane(points, rate_scale) if plane == "rates" else draw.beta_plane(points)
    fig = draw.new_figure(1.38 * len(rows) + 0.7, described(results), draw.WIDTH * columns / 3)
    panels = fig.subplots(len(rows), columns)
    for ax, metric in zip(panels.flat, [metric for row in rows for metric in row], strict=True):
        if metric is None:
            ax.set_visible(False)
        else:
            draw.colour_plot(ax, points, metric, where)
    label_outer(panels, where)
    line, *rest = ("β-VAE", "diagonal") if plane == "rates" else ("β-VAE line",)
    draw.legend(fig, "VAE", line, "hull", "best", *rest)
    over = (
        "the rates of the layers"
        if plane == "rates"
        else "the betas (set), where Fig. 8 has the rates (which result)"
    )
    marks = f"mu: mode; z ~ q: a sample of q(z_{top}|x). " + MARKS + (DRAWN if plane == "rates" else "")
    fig.caption = caption(
        results, f"All metrics over {over}. " + marks + SURFACE, rate_scale if plane == "rates" else None
    )
    return fig


def fig8(results: pd.DataFrame, rate_scale: RateScale = "sqrt") -> PaperFigure:
    """All metrics over the layer-wise rates.

    Source: Paper A, Fig. 8 (there MNIST with the GHVAE; here the run's data set and model).
    """
    return all_metrics(results, "rates", rate_scale)


def fig9(results: pd.DataFrame) -> PaperFigure:
    """All metrics over the betas.

    Paper A, Fig. 9 shows the panels of Fig. 8 for another run (SVHN with the LVAE). A run is about one data set and
    model, so its Fig. 9 shows the same metrics over what is set, the betas, instead of what results, the rates.
    """
    return all_metrics(results, "betas")


# --- Fig. 4 -----------------------------------------------------------------------------------------------------


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
    """Originals, reconstructions and samples of three models: high rate, high rate in the top layer, low rate.

    Raises:
        ValueError: `images` are not of as many models as `results` has rows.

    Source: Paper A, Fig. 4.
    """
    if images is not None and not len(results) == len(images.reconstructions) == len(images.samples):
        counts = len(images.reconstructions), len(images.samples)
        raise ValueError(
            f"results have {len(results)} models, reconstructions and samples {counts[0]} and {counts[1]}"
        )
    points = grid_means(results)
    models = chosen(points)
    height, width = montage(images.originals).shape[:2] if images is not None else (1, 2)
    fig = draw.new_figure(0.8 + 3 * (1.72 * height / width + 0.06), described(results))
    panels = fig.subplots(3, 3)
    for ax in panels.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for number, (name, point) in enumerate(models.items(), 1):
        column = panels[:, number - 1]
        member = _member(results, points, point)
        column[0].set_title(f"{number}: {name}\n{draw.setting(points, point)}\n{_rates(results, member)}")
        if images is not None:
            for ax, array in zip(
                column,
                (images.originals, images.reconstructions[member], images.samples[member]),
                strict=True,
            ):
                ax.imshow(montage(array), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for ax, kind in zip(panels[:, 0], ("originals", "reconstructions", "samples"), strict=True):
        ax.set_ylabel(kind)
    if images is None or not models:
        for ax in panels[1]:
            draw.not_computed(ax, "")
    fig.caption = caption(
        results,
        "Test images, their reconstructions and samples from the prior, for three models: the highest total rate, the "
        "most rate in the top layer (beyond that in the others), and the lowest total rate. With several seeds a "
        "setting, the first is shown, with its own rates.",
    )
    return fig


def _member(results: pd.DataFrame, points: pd.DataFrame, point: int) -> int:
    """The first row of the results that a grid point is made of."""
    same = (betas(results) == betas(points)[point]).all(1)
    return int(np.flatnonzero(same & drawable(results).to_numpy() & np.isfinite(results["rate"]))[0])


def _rates(results: pd.DataFrame, member: int) -> str:
    plane = draw.rate_plane(results)
    axes = zip(plane.names[: layers(results)], (plane.x[member], plane.y[member]), strict=False)
    return "\n".join(f"{name} {'< 0.001' if rate < 0.001 else f'= {rate:.3g}'} nats" for name, rate in axes)


def montage(images: np.ndarray, columns: int = 6, rows: int = 3, gap: int = 1) -> np.ndarray:
    """The first images side by side: ``(n, C, H, W)`` to ``(height, width)`` or ``(height, width, 3)``."""
    images = images[: columns * rows].transpose(0, 2, 3, 1)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width, channels = (images.shape[1] + gap, images.shape[2] + gap, images.shape[3])
    sheet = np.full((rows * height - gap, columns * width - gap, channels), 255, np.uint8)
    for number, image in enumerate(images):
        y, x = height * (number // columns), width * (number % columns)
        sheet[y : y + height - gap, x : x + width - gap] = image
    return sheet[..., 0] if channels == 1 else sheet


# --- Fig. 6, Table 1 ---------------------------------------------------------------------------------------------


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
    top = layers(points)
    fig = draw.new_figure(2.8, described(results))
    panels = fig.subplots(1, 2, sharex=True, sharey=True)
    for ax, latent, note in zip(
        panels,
        (f"mu{top}", f"z{top}"),
        ("mode: the bound does not apply", "sample: the bound applies"),
        strict=True,
    ):
        _accuracy_against_rate(ax, points, accuracy(latent, "rbf_svm"), rate_scale, label_probabilities)
        ax.set_title(f"{CLASSIFIERS['rbf_svm']} on {latent_name(latent)}\n{note}")
        ax.set_xlabel("total rate R (nats per image)")
    drawn = "Dashed: the bound f^-1(R) of Eq. 11."
    if label_probabilities is None:
        drawn = "The bound of Eq. 11 is not drawn, as the labels' frequencies are not known."
    panels[0].set_ylabel("accuracy (%)")
    panels[0].set_ylim(0, 103)
    draw.legend(fig, "VAE", "β-VAE", "hull", *(["bound"] if label_probabilities is not None else []))
    fig.caption = caption(
        results,
        f"Accuracy of an RBF SVM on the mode mu_{top} (the paper's) and on one sample of z_{top}, against the total rate. "
        f"Grey dots: all models; circles as in Fig. 3; purple line: the upper convex hull. {drawn} It holds for a "
        f"classifier that sees a sample of z_{top}; the mode mu_{top} is a noiseless function of the image, to which it "
        "does not apply.",
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
        from hvae_core.evaluation.bounds import accuracy_bound

        grid = (highest or 1) * np.linspace(0, 1.03, 800) ** 2
        ax.plot(
            grid,
            100 * np.asarray(accuracy_bound(grid, label_probabilities)),
            "--",
            color=draw.BLACK,
            gid="bound",
            zorder=3,
        )
    known = np.isfinite(value)
    if not known.any():
        return draw.not_computed(ax, "")
    ax.scatter(rate[known], value[known], s=draw.dot_area(points), c=draw.GREY, linewidths=0, gid="models", zorder=2)
    spread = metric.factor * points[f"{metric.column}_sd"].to_numpy(float)
    if np.isfinite(spread).any():
        ax.errorbar(rate, value, spread, fmt="none", ecolor="0.8", elinewidth=0.6, zorder=1)
    hull = optimal(points, metric)
    ax.plot(rate[hull], value[hull], color=draw.PURPLE, linewidth=0.6, zorder=3)
    draw.baselines(ax, points, known, (rate, value))
    draw.ring(ax, "hull", hull, (rate, value))


def table1(results: pd.DataFrame) -> pd.DataFrame:
    """The best accuracy over all models for each classifier, in %, and the betas (top layer's first) it is reached at.

    Returns:
        One row a latent: the modes mu_L ... mu_1, and a sample of z_L; null where nothing was computed.

    Source: Paper A, Table 1.
    """
    points = grid_means(results)
    top = layers(points)
    rows = {}
    for latent in [*(f"mu_{n}" for n in range(top, 0, -1)), f"z_{top} (sampled)"]:
        row: dict[str, object] = {}
        for probe, name in CLASSIFIERS.items():
            metric = accuracy(latent.split()[0].replace("_", ""), probe)
            place = best(points, metric)
            row[f"{name} (%)"] = None if place is None else round(float(values(points, metric)[place]), 2)
            row[f"{name}: betas"] = None if place is None else draw.setting(points, place).removeprefix("β = ")
        rows[latent] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "latent"
    table = table[sorted(table.columns, key=lambda column: str(column).endswith("betas"))]
    text = "Best accuracy over all models for each classifier, and the betas (top layer first) where it is reached."
    table.attrs["caption"] = caption(results, text)
    return table
