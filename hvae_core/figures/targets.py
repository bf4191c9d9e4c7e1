"""Runs with target rates: whether they are held, at which betas, and what a share of a fixed total is good for."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from hvae_core.analysis.control import at_least
from hvae_core.analysis.points import (
    INCEPTION,
    PSNR,
    Metric,
    accuracy,
    count_layers,
    described,
    drawable,
    grid_means,
    rate_name,
    settings,
    values,
)
from hvae_core.errors import InputError
from hvae_core.figures import panels as draw
from hvae_core.figures.panels import PaperFigure
from hvae_core.figures.paper import caption, styled
from hvae_core.terms import layer_numbers
from hvae_core.training.target_rates import FILLING, OFFSET, tolerance

LAYERS = (
    ("#0077bb", "o"),
    ("#ee7733", "s"),
    ("#009988", "^"),
    ("#cc3311", "v"),
)  # by colour and by marker, from the top
DISTORTION = Metric("distortion", "distortion D", "nats per image")
LEARNED = Metric("train_distortion", "D on training images", "nats per image")


def targeted(results: pd.DataFrame) -> list[int]:
    """The numbers of the layers with a target rate, top first.

    Raises:
        InputError: no layer has one.
    """
    found = [
        n
        for n in layer_numbers(count_layers(results))
        if f"target_{n}" in results and results[f"target_{n}"].notna().any()
    ]
    if not found:
        raise InputError("these results are of a run without target rates; ./run_all.sh digits-targets makes one with")
    return found


def deviations(results: pd.DataFrame) -> pd.DataFrame:
    """R_l - r_l on training images, one row a model and layer; null where a model diverged or is missing.

    Returns:
        ``layer, target, rate, beta``, ``deviation`` (nats per image) and ``allowed``, the deviation as a multiple of
        the
        tolerance: at most 1 in size where the target is held.
    """
    well = drawable(results)
    parts = [
        pd.DataFrame(
            {
                "layer": n,
                "target": results[f"target_{n}"],
                "rate": results[f"train_rate_{n}"].where(well),
                "beta": results[f"beta_{n}"],
            }
        )
        for n in targeted(results)
    ]
    table = pd.concat(parts)
    deviation = table["rate"] - table["target"]
    return table.assign(deviation=deviation, allowed=deviation / table["target"].map(tolerance))


def held_by(results: pd.DataFrame) -> pd.Series:
    """Whether a model holds all of its targets, ``(models,)``; one that diverged or is missing does not."""
    return results["target_status"].eq("reached") & drawable(results)


@styled
def targets(results: pd.DataFrame) -> PaperFigure:
    """Rates asked for and held, how far off, and the betas that hold them.

    Arguments:
        results: of a run with target rates, one row a model.
    """
    table, numbers = deviations(results), targeted(results)
    fig = draw.new_figure(4.3, described(results))
    above, below = fig.subfigures(2, 1, squeeze=False)[:, 0]
    asked, off = above.subplots(1, 2)
    highest = max(table["target"].max(), table["rate"].max(), 1.0)
    draw.set_rate_scale(asked, "x", highest, "sqrt")
    draw.set_rate_scale(asked, "y", highest, "sqrt")
    line = np.linspace(0, highest, 200)
    allowed = np.array([tolerance(rate) for rate in line])
    asked.fill_between(line, line - allowed, line + allowed, color="0.85", lw=0)
    for n, (colour, marker) in zip(numbers, LAYERS * len(numbers), strict=False):
        part = table[table["layer"] == n]
        # Open, so that layers with one target and rate are both seen.
        asked.scatter(part["target"], part["rate"], s=14, fc="none", ec=colour, marker=marker, lw=0.7, gid=f"layer {n}")
        size = np.sort(part["allowed"].abs())
        off.step(np.r_[0, size], np.arange(len(size) + 1) / len(size), where="post", color=colour)
        if len(size):
            off.plot(
                size, np.arange(1, len(size) + 1) / len(size), ls="", marker=marker, ms=2.5, mec="none", color=colour
            )
    asked.set(
        xlabel=f"rate asked for ({draw.nats('sqrt')})",
        ylabel=f"rate held ({draw.nats('sqrt')})",
        title="asked and held, training images",
    )
    off.axvspan(0, 1, color="0.92", lw=0, zorder=0)
    off.set(
        xlim=(0, max(1.5, min(4.0, float(table["allowed"].abs().max()) * 1.05))),
        ylim=(0, 1.03),
        title="how far off",
        xlabel="$|R - r|$ / tolerance",
        ylabel="share of models",
    )
    off.yaxis.set_major_formatter(PercentFormatter(1))
    off.axhline(0.95, ls=":", color="0.4")
    for ax, n in zip(below.subplots(1, len(numbers), squeeze=False).flat, numbers, strict=True):
        _multipliers(ax, results, n, numbers)
    handles = [
        Line2D([], [], ls="", marker=m, ms=4, mfc="none", color=c, mew=0.7, label=rate_name(n, count_layers(results)))
        for n, (c, m) in zip(numbers, LAYERS * len(numbers), strict=False)
    ]
    asked.legend(handles=handles, loc="upper left", frameon=False)
    held = held_by(results).mean()
    fig.caption = caption(
        results,
        "Above: rates asked for and held on training images; grey: the tolerance, 2 % or 0.1 nats per image. "
        f"All targets of a model are held in {held:.0%} of "
        "the models (dotted: 95 %). Below: the beta that holds the rate of a layer, which is about the slope of "
        "the rate/rate/distortion surface there; "
        "colours: the target of the other layers together, nats per image; open: a target of the model is not held.",
    )
    return fig


def _multipliers(ax: Axes, results: pd.DataFrame, n: int, numbers: list[int]) -> None:
    """beta_n against its own target, a line for each setting of the other targets."""
    well = results[drawable(results)]
    others = [column for column in settings(results) if not column.endswith(f"_{n}")]
    rest = pd.Series(list(well[others].itertuples(index=False, name=None)), index=well.index, dtype=object)
    levels = sorted(set(rest))
    few = len(levels) <= 12
    for level, colour in zip(levels, colormaps["viridis"](np.linspace(0, 0.9, len(levels))), strict=True):
        part = (
            well[[other == level for other in rest]]
            .groupby(f"target_{n}")
            .agg(beta=(f"beta_{n}", "median"), held=("target_status", lambda s: (s == "reached").all()))
        )
        ax.plot(
            part.index,
            part["beta"],
            color=colour,
            lw=0.8 if few else 0,
            zorder=1,
            label=", ".join(f"{value:g}" for value in level),
        )
        ax.scatter(
            part.index,
            part["beta"],
            s=9,
            lw=0.7,
            ec=[colour],
            fc=[colour if ok else "white" for ok in part["held"]],
            zorder=2,
        )
    if others and few and levels:
        symbols = {"target": "r", "beta": r"\beta"}
        ax.legend(
            title=", ".join(f"${symbols[kind]}_{m}$" for kind, m in (c.split("_") for c in others)),
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            frameon=False,
            handlelength=1,
            labelspacing=0.25,
            handletextpad=0.4,
            borderpad=0.1,
        )
    draw.set_rate_scale(ax, "x", max(1.0, well[f"target_{n}"].max()), "sqrt")
    ax.set_yscale("log")
    ax.set(xlabel=f"target $r_{n}$ ({draw.nats('sqrt')})", ylabel=rf"$\beta_{n}$ found")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda beta, _: f"{beta:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def targets_table(results: pd.DataFrame) -> pd.DataFrame:
    """How well target rates are held: a row a layer, and one for all layers of a model together."""
    table = deviations(results)
    rows = []
    for n, part in table.groupby("layer", sort=False):
        relative = (part["deviation"] / part["target"]).abs()[part["target"] > 0]
        rows.append(
            {
                "layer": f"z_{n}",
                "models": len(part),
                "held, %": 100 * part["allowed"].abs().le(1).mean(),
                "median |R - r|, nats": part["deviation"].abs().median(),
                "median |R - r| / r, %": 100 * relative.median(),
                "worst |R - r|, nats": part["deviation"].abs().max(),
                "worst, in tolerances": part["allowed"].abs().max(),
            }
        )
    held = held_by(results)
    rows.append({"layer": "all", "models": len(results), "held, %": 100 * held.mean()})
    frame = pd.DataFrame(rows).round(3)
    frame.attrs["caption"] = (
        "Target rates r and the rates R on training images, nats per image; held: within 2 % or 0.1 nats, "
        "whichever is more. "
        f"A model that diverged holds nothing. {described(results)}. Not held: {int((~held).sum())} models."
    )
    return frame


def fixed_totals(results: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of a run whose target rates share a total, with ``total`` and ``share``, that of z_L.

    Raises:
        ValueError: a layer has no target.
    """
    if len(targeted(results)) != count_layers(results):
        raise ValueError("a total is only fixed where every layer has a target rate")
    points = grid_means(results)
    asked = points[[f"target_{n}" for n in layer_numbers(count_layers(results))]]
    total = asked.sum(axis=1).round(6)
    keys = list(asked.columns)
    held = held_by(results).groupby([results[key] for key in keys]).all().rename("held").reset_index()
    points = points.assign(total=total, share=asked.iloc[:, 0] / total).merge(held, on=keys)
    return points.sort_values(["total", "share"], ignore_index=True)


def share_metrics(results: pd.DataFrame) -> list[Metric]:
    """What is shown against the share: the three applications, the information on the label, and the distortion.

    Information is a lower bound: I_q(y; z_L) grows with the share even of labels at random.
    """
    top = count_layers(results)
    return [
        PSNR,
        INCEPTION,
        accuracy(f"z{top}", "rbf_svm"),
        accuracy(f"mu{top}", "rbf_svm"),
        at_least(top),
        DISTORTION,
    ]


@styled
def shares(results: pd.DataFrame) -> PaperFigure:
    """Every application's metric against the share of the top layer in a fixed total rate.

    Arguments:
        results: of a run whose target rates share a total, one row a model.

    Source: Paper A, Section 5.3 and Fig. 6, which could hold the rate fixed only approximately, by a hull.
    """
    points, top = fixed_totals(results), count_layers(results)
    keys = [f"target_{n}" for n in layer_numbers(top)]
    models = results[drawable(results)].merge(points[[*keys, "total", "share"]], on=keys)
    fig = draw.new_figure(3.9, described(results))
    looks = dict(zip(points["total"].unique(), LAYERS * len(points), strict=False))
    for ax, metric in zip(fig.subplots(2, 3).flat, share_metrics(results), strict=True):
        value = values(points, metric)
        if not np.isfinite(value).any():
            draw.not_computed(ax, metric.label)
            continue
        spread = metric.factor * points[f"{metric.column}_sd"].fillna(0).to_numpy(float)
        for total, (colour, marker) in looks.items():
            here = (points["total"] == total).to_numpy()
            of_seeds = models[models["total"] == total].assign(value=metric.factor * models[metric.column])
            sns.stripplot(
                of_seeds,
                x="share",
                y="value",
                native_scale=True,
                jitter=False,
                size=3,
                color=colour,
                alpha=0.6,
                ax=ax,
                legend=False,
            )
            ax.errorbar(
                points["share"][here],
                value[here],
                spread[here],
                color=colour,
                lw=0.9,
                elinewidth=0.6,
                capsize=1.5,
                zorder=2,
            )
            filled = np.where(points["held"][here], colour, "white")
            ax.scatter(points["share"][here], value[here], s=11, marker=marker, ec=colour, fc=filled, lw=0.7, zorder=3)
            row = optimum(points[here], metric)
            if row is not None:
                draw.star(ax, (points["share"][here].iloc[row], value[here][row]))
        ax.set(title=metric.label, xlim=(-0.04, 1.04), ylabel="")
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel(rf"share of $z_{top}$ in the total rate")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    handles = [
        Line2D([], [], color=c, marker=m, ms=4, label=f"R = {total:g} nats per image")
        for total, (c, m) in looks.items()
    ]
    handles += [
        Line2D([], [], ls="", marker="o", ms=4, mfc="white", mec="0.3", label="a target not held"),
        Line2D([], [], ls="", marker="*", ms=7, mfc="white", mec=draw.BLACK, mew=0.7, label="best share"),
    ]
    fig.legend(
        handles=handles, loc="outside lower center", ncols=4, frameon=False, handletextpad=0.5, borderaxespad=0.2
    )
    fig.caption = caption(
        results,
        f"The total rate is held fixed, on training images, and the share of z_{top} moves from none to all. "
        "Metrics on test images; star: the best share (of D: the lowest) whose targets are held; "
        "bars: standard deviation over seeds, small dots: each seed; open: in at least one seed a rate is off "
        "its target by more than 2 % or 0.1 nats, or the model diverged.",
    )
    return fig


def optimum(points: pd.DataFrame, metric: Metric) -> int | None:
    """The place of the best value where all targets are held: the highest, of the distortion the lowest.

    None if there is none.
    """
    value = np.where(points["held"], values(points, metric) * (-1 if metric is DISTORTION else 1), np.nan)
    return int(np.nanargmax(value)) if np.isfinite(value).any() else None


def shares_table(results: pd.DataFrame) -> pd.DataFrame:
    """The best share for each metric and total, its neighbours, and whether seeds could tell them apart."""
    rows: list[dict[str, Any]] = []
    for total, here in fixed_totals(results).groupby("total"):
        here = here.reset_index(drop=True)
        for metric in share_metrics(results):
            row = optimum(here, metric)
            if not np.isfinite(values(here, metric)).any():
                continue
            if row is None:  # no share holds all of its targets
                rows.append({"total R, nats": total, "metric": metric.column})
                continue
            value, spread = (
                metric.factor * here[column].to_numpy(float) for column in (metric.column, f"{metric.column}_sd")
            )
            behind = (
                (value - value[row]) if metric is DISTORTION else (value[row] - value)
            )  # how far each share lies behind the best
            behind[[row, *np.flatnonzero(~here["held"])]] = np.nan
            known = np.isfinite(behind).any()
            second = int(np.nanargmin(behind)) if known else row
            noise = float(np.hypot(spread[row], spread[second]))
            rows.append(
                {
                    "total R, nats": total,
                    "metric": metric.column,
                    "best share": here["share"][row],
                    "value": value[row],
                    "sd over seeds": spread[row],
                    "second share": here["share"][second] if known else np.nan,
                    "lead": behind[second],
                    "R on test images": here["rate"][row],
                    "seeds": int(here["seeds"][row]),
                    "settled": bool(behind[second] > noise) if known and np.isfinite(noise) else None,
                }
            )
    names = [
        "total R, nats",
        "metric",
        "best share",
        "value",
        "sd over seeds",
        "second share",
        "lead",
        "R on test images",
        "seeds",
        "settled",
    ]
    frame = pd.DataFrame(rows, columns=names).round(4)
    frame.attrs["caption"] = (
        f"The best share of z_{count_layers(results)} at a total rate that is fixed on training images, among those "
        "whose targets are all held; settled: it leads the second by more than the seeds spread (standard "
        f"deviations of both, added in squares). Test images. {described(results)}."
    )
    return frame


def equal_betas_table(results: pd.DataFrame) -> pd.DataFrame:
    """What metrics gain from a nat that moves from z_2 to z_1 at a fixed total rate, where both betas are equal.

    To first order D gains nothing there, as D + beta R is what training makes lowest: D on training images is the
    control. Slopes are of lines over R(z_1|z_2) through the two shares below the one with equal betas and the two
    above, fewer at an end, a line a seed. Their errors are standard errors over seeds.

    Returns:
        A row a total rate and metric; none for other than two layers, and where betas are equal at no share.

    Source: Paper A, Section 5.4, which reads such gains off a hull of many models.
    """
    names = ["total R, nats", "share", "metric", "a nat to z_1", "standard error", "seeds"]
    rows: list[list[Any]] = []
    for total, here in fixed_totals(results).groupby("total") if count_layers(results) == 2 else ():
        ratio = np.log(here["beta_1"].to_numpy(float) / here["beta_2"].to_numpy(float))
        before, after = ratio[:-1], ratio[1:]
        crossings = np.flatnonzero((before <= 0) & (after > 0) | (before >= 0) & (after < 0))
        if len(crossings) != 1:  # betas that cross more than once are no slopes
            continue
        (i,) = crossings
        share = here["share"].iloc[i] - before[i] / (after - before)[i] * np.diff(here["share"])[i]
        around = here.iloc[max(i - 1, 0) : i + 3].query("held")
        models = results[drawable(results)].merge(around[["target_2", "target_1"]])
        for metric, rate in [*((m, "rate_1") for m in share_metrics(results)), (LEARNED, "train_rate_1")]:
            slope = [
                metric.factor * _slope(well[rate].to_numpy(float), well[metric.column].to_numpy(float))
                for _, seed in (models.groupby("seed") if metric.column in models else ())
                if len(well := seed[np.isfinite(seed[[rate, metric.column]]).all(axis=1)]) > 1
            ]
            if slope:
                error = np.std(slope, ddof=1) / len(slope) ** 0.5 if len(slope) > 1 else np.nan
                rows.append([total, share, metric.column, np.mean(slope), error, len(slope)])
    frame = pd.DataFrame(rows, columns=names).round(4)
    frame.attrs["caption"] = (
        "What a metric gains if a nat moves from z_2 to z_1 at a fixed total rate, at the share of z_2 at which both "
        "betas are equal, in the metric's unit: slopes of lines over R(z_1|z_2) through at most four shares around it, "
        "a line a seed. There D + beta R is lowest, so that D on training images gains nothing to first order. "
        f"{described(results)}."
    )
    return frame


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of the line through points by least squares."""
    return float((x - x.mean()) @ y / np.square(x - x.mean()).sum())


@styled
def two_rules(held: pd.DataFrame, history: pd.DataFrame, title: str = "") -> PaperFigure:
    """How two rules lead rates to their targets, by epoch, and how far off all rules end.

    Arguments:
        held, history: as `hvae_core.evaluation.controllers.drive` returns them; the first two rules are drawn by epoch.
        title: what was trained, such as the data set.
    """
    rules = list(dict.fromkeys(held.index))
    numbers = sorted(history["layer"].unique(), reverse=True)
    fig = draw.new_figure(2.75 + 0.12 * (len(rules) // 3), title or f"{len(held) // len(rules)} models a rule")
    panels = fig.subplots(1, 3, width_ratios=(1, 1, 1.1))
    history = history.assign(ratio=(history["rate"] + OFFSET) / (history["target"] + OFFSET))
    shown = history[history["rule"].isin(rules[:2])]
    low, high = shown["ratio"].min(), shown["ratio"].max()
    for ax, rule in zip(panels, rules[:2], strict=False):
        _approach(ax, shown[shown["rule"] == rule], numbers)
        ax.set(title=rule, ylim=(0.8 * min(low, 0.8), 1.25 * max(high, 1.25)))
    for ax in panels[len(rules) : 2]:
        ax.set_visible(False)
    panels[0].set_ylabel("rate / target")
    panels[1].tick_params(labelleft=False)
    _misses(panels[2], held, rules)
    handles = [
        Line2D([], [], color=colour, label=rate_name(n, max(numbers)))
        for n, (colour, _) in zip(numbers, LAYERS * len(numbers), strict=False)
    ]
    handles += [Line2D([], [], color="0.5", ls=":", label="betas begin to move")]
    panels[0].legend(handles=handles, loc="upper right", frameon=False, handlelength=1.4)
    fig.legend(
        handles=panels[2].get_lines(),
        loc="outside lower right",
        ncols=min(3, len(rules)),
        frameon=False,
        handlelength=2.2,
        columnspacing=1.5,
        labelspacing=0.25,
        borderaxespad=0.2,
    )
    fig.caption = (
        f"Left and middle: the rate of each layer relative to its target, {OFFSET:g} nats added to both, by epoch of "
        "training, under two rules; a line a layer of a model. Rates are means over the batches of an epoch. "
        "Right: the "
        "share of layers that end within so many tolerances of their targets (a tolerance is 2 % or 0.1 nats), on "
        "training images, under every rule tried; grey: held."
    )
    return fig


def _approach(ax: Axes, history: pd.DataFrame, numbers: list[int]) -> None:
    """Rates relative to their targets by epoch, under one rule."""
    for n, (colour, _) in zip(numbers, LAYERS * len(numbers), strict=False):
        for _, line in history[history["layer"] == n].groupby("model"):
            ax.plot(line["epoch"], line["ratio"], color=colour, lw=0.8, alpha=0.8, gid=f"layer {n}")
    epochs = history["epoch"].max()
    ax.axhline(1, color=draw.BLACK, lw=0.6, zorder=3)
    ax.axvline(FILLING * epochs, color="0.5", ls=":", zorder=0)
    ax.set_yscale("log")
    ax.set(xlabel="epoch", xlim=(min(1, FILLING * epochs), max(epochs, 2)))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _misses(ax: Axes, held: pd.DataFrame, rules: list[str]) -> None:
    """The share of layers within so many tolerances, a stair a rule; the first two in colour."""
    off = held.filter(regex=r"^off_\d+$")
    most = max(2.0, min(6.0, float(off.max().max()) * 1.05))
    ax.axvspan(0, 1, color="0.92", lw=0, zorder=0)
    others = [(grey, style, 0.8) for grey in ("0.35", "0.65") for style in ("-", "--", "-.", ":")]
    styles = [("#aa3377", "-", 1.2), ("#228833", "--", 1.2), *others * len(rules)]
    for rule, (colour, style, width) in zip(rules, styles, strict=False):
        size = np.sort(off.loc[[rule]].to_numpy().ravel())
        share = np.r_[np.arange(len(size) + 1), len(size)] / len(size)
        end = max(most, size.max(initial=0))
        ax.step(np.r_[0, size, end], share, where="post", color=colour, ls=style, lw=width, label=rule)
    ax.set(xlim=(0, most), ylim=(0, 1.03), title="how far off in the end")
    ax.set(xlabel="$|R - r|$ / tolerance", ylabel="share of layers")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
