"""What `hvae_core.analysis.guidance` recommends, among all models of a run."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hvae_core.analysis.guidance import Recommendation, recommend
from hvae_core.analysis.points import (
    INCEPTION,
    PSNR,
    Metric,
    accuracy,
    count_layers,
    described,
    grid_means,
    optimal,
    values,
)
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import APPLICATIONS, PaperFigure, RateScale
from hvae_core.figures.paper import caption, styled

TITLE_LETTERS = 28  # above a panel: an axis label and ticks stand beside each
BUDGET = "#004488"  # dark blue: told from purple and grey in grey print too, by its dots


@styled
def recommendation(
    results: pd.DataFrame, total_rate: float | None = None, rate_scale: RateScale = "sqrt"
) -> PaperFigure:
    """The metric of each task against the total rate, with the model that is best within the budget.

    Arguments:
        results: one row a model, as `hvae_core.load_results` returns.
        total_rate: the budget, nats per image; None: any.
        rate_scale: "sqrt" shows models near zero rate.

    Raises:
        InputError: the budget is no positive number.

    Source: Paper A, Section 5.3 and Fig. 6.
    """
    points = grid_means(results)
    top = count_layers(points)
    metrics = dict(zip(APPLICATIONS, (PSNR, accuracy(f"z{top}", "rbf_svm"), INCEPTION), strict=True))
    fig = draw.new_figure(2.65, described(results))
    panels, interpolated = fig.subplots(1, 3), False
    for ax, (task, metric) in zip(panels, metrics.items(), strict=True):
        ax.set_xlabel(f"R ({draw.nats(rate_scale)})")
        if np.isfinite(values(points, metric)).any():
            advice = recommend(results, task, total_rate)
            _panel(ax, points, metric, advice, rate_scale)
            interpolated |= advice.interpolated is not None
        else:
            draw.not_computed(ax, task)
            ax.set(xticks=[], yticks=[])
    _legend(fig, total_rate is not None, interpolated)
    limit = "any rate"
    if total_rate is not None:
        limit = f"a total rate of at most {total_rate:.4g} nats per image (dotted line)"
    fig.caption = caption(
        results,
        f"The best model for each task at {limit}: a star, its betas below the panel's name, "
        "top layer first. Grey dots: all models; bars: standard deviation over seeds, "
        "where there are several; purple line: the upper convex hull. "
        "Cross: target rates interpolated on the hull at the budget, not trained. "
        f"Accuracies are on samples of z_{top}, which Eq. 11 bounds.",
        rate_scale,
    )
    return fig


def _panel(ax: Axes, points: pd.DataFrame, metric: Metric, advice: Recommendation, scale: RateScale) -> None:
    """All models, their hull, the budget, and what is recommended."""
    rate, value = points["rate"].to_numpy(float), values(points, metric)
    known, hull = np.isfinite(value), optimal(points, metric)
    draw.set_rate_scale(ax, "x", max(np.nanmax(rate), advice.budget or 0), scale, floor=0.03)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_ylabel(metric.label)
    spread = metric.factor * points[f"{metric.column}_sd"].to_numpy(float)
    if np.isfinite(spread).any():
        ax.errorbar(rate, value, spread, fmt="none", ecolor="0.75", elinewidth=0.6, zorder=1)
    ax.scatter(rate[known], value[known], s=draw.dot_area(points), c=draw.GREY, lw=0, zorder=2, gid="models")
    draw.hull_line(ax, rate[hull], value[hull], scale)
    if advice.budget is not None:
        ax.axvline(advice.budget, ls=":", lw=1, color=BUDGET, zorder=2.5, gid="budget")
    if advice.interpolated:
        place = (advice.budget or 0, metric.factor * advice.interpolated.value)
        ax.scatter(*place, marker="x", s=16, c=draw.BLACK, lw=0.9, zorder=5, gid="interpolated")
    if advice.betas:
        draw.star(ax, (advice.total_rate, metric.factor * advice.value))
    ax.set_title(f"{advice.task}\n{draw.wrapped(_best(metric, advice), TITLE_LETTERS)}")


def _best(metric: Metric, advice: Recommendation) -> str:
    """The recommended model in words: its value, and its betas or target rates."""
    if not advice.betas:
        return "no model within the budget"
    unit = f" {metric.unit}" if metric.unit else ""
    if "target" in advice.model:
        where = advice.model.replace(" = ", "=")
    else:
        betas = ", ".join(f"{float(f'{beta:.2g}'):g}" for beta in advice.betas)
        where = f"β = ({betas})".replace(" ", draw.NO_BREAK)
    return f"{draw.shown(metric.factor * advice.value)}{unit} at {where}"


def _legend(fig: PaperFigure, budget: bool, interpolated: bool) -> None:
    entries = [
        Line2D([], [], ls="", marker="*", ms=7, mfc="white", mec=draw.BLACK, mew=0.7, label="recommended"),
        Line2D([], [], color=draw.PURPLE, label="upper hull"),
    ]
    if budget:
        entries.append(Line2D([], [], ls=":", lw=1, color=BUDGET, label="budget"))
    if interpolated:
        entries.append(
            Line2D([], [], ls="", marker="x", ms=4, color=draw.BLACK, mew=0.9, label="interpolated, not trained")
        )
    fig.legend(
        handles=entries,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        handletextpad=0.5,
        borderaxespad=0.2,
    )
