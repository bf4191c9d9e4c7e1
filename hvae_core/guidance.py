"""Which betas, or target rates, to use for a task under a rate budget: read off the models of a finished run."""

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hvae_core.errors import InputError
from hvae_core.figures.points import betas, grid_means, layers, settings, status
from hvae_core.frontier import upper_hull
from hvae_core.store import load_results
from hvae_core.terms import layer_numbers

TASKS = {"reconstruction": "psnr", "representation": "acc_z{top}_rbf_svm", "generation": "inception_score"}
_NO_METRIC = re.compile(r"((train_)?rate|beta|target)_\d+|(train_)?rate|(train_)?distortion|epochs|member|seeds|held|diverged_epoch|.*_(sd|std)")


class Interpolated(NamedTuple):
    """A point of the upper hull between two models: a suggestion that nobody trained.

    Attributes:
        rates: ``(L,)``, top layer first, nats per image on test images; they add up to the budget.
        targets: the target rates to train with: the same point in rates on training images.
        value: what the two models would give on average, mixed to that rate; in the unit of the metric's column.
        between: the two models, in words, the one of lower rate first.
    """

    rates: tuple[float, ...]
    targets: tuple[float, ...]
    value: float
    between: tuple[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """The best model that was trained within a budget, and what speaks for it. It shows itself in a notebook.

    Attributes:
        task: what was asked for.
        metric: the column that judges it; higher is better.
        budget: the highest total rate allowed, nats per image; None: any.
        model: its betas, or what stands for them, in words; empty where no model is within the budget.
        betas: ``(L,)``, top layer first; of a run with target rates, the means of those it arrived at.
        rates: R(z_L), ..., R(z_1|z_>1) on test images, nats per image, ``(L,)``.
        targets: the same on training images, where targets are held: the target rates to train with; on test images where the
            results know no others. Empty for a conditioned network, which holds no targets; see `hvae_core.dial`.
        total_rate: the sum of `rates`, R, at most the budget.
        value: the metric, mean over seeds, as stored (accuracies from 0 to 1).
        spread: its standard deviation over seeds, or for one seed the range over the model and its neighbours.
        spread_over: "seeds" or "neighbours".
        interpolated: rates that add up to the budget, where models below and above it promise more; else None.
        evidence: the model, its neighbours in the grid, the runner-up and the models interpolated between.
        warnings: a sentence each.
    """

    task: str
    metric: str
    budget: float | None
    model: str
    betas: tuple[float, ...]
    rates: tuple[float, ...]
    targets: tuple[float, ...]
    total_rate: float
    value: float
    spread: float
    spread_over: str
    interpolated: Interpolated | None
    evidence: pd.DataFrame
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        limit = "any total rate" if self.budget is None else f"total rate at most {self.budget:.4g} nats per image"
        lines = [f"{self.task}{f' ({self.metric})' if self.metric != self.task else ''}, {limit}"]
        if self.model:
            spread = {"seeds": "standard deviation over seeds", "neighbours": "range over neighbouring models"}
            known = shown(self.metric, self.spread) if math.isfinite(self.spread) else "unknown"
            lines += [
                f"use: {self.model}" + (f"; or target rates {_listed(self.targets)} nats on training images, top layer first" if self.targets else ""),
                f"gives: R = {self.total_rate:.4g}, {_listed(self.rates)} nats on test images",
                f"expect: {shown(self.metric, self.value)}; {spread[self.spread_over]} {known}",
            ]
        else:
            lines.append("use: no model explored is within the budget")
        if self.interpolated:
            rates, targets, value, (lower, upper) = self.interpolated
            lines.append(
                f"interpolated, not trained: {f'target rates {_listed(targets)} nats on training images' if self.targets else f'rates {_listed(rates)} nats, for a dial'}, R = {sum(rates):.4g} on test images, "
                f"{shown(self.metric, value)}; between {lower} and {upper}"
            )
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.evidence.to_html(index=False, float_format="{:.4g}".format, na_rep="")
        return f'<pre style="white-space: pre-wrap">{escape(str(self))}</pre>{table}'


def recommend(run: str | Path | pd.DataFrame, task: str, total_rate: float | None = None) -> Recommendation:
    """The best model of a run for a task, among those whose total rate R is at most `total_rate`.

    The budget is a limit: a model that needs less and is as good wins. Models count by their means over seeds. If a
    mixture of a model below and one above the budget would be better (the upper convex hull of the metric against R),
    its rates are suggested too, as `Recommendation.interpolated`: they were not trained.

    Arguments:
        run: a finished run, or its results, one row a model.
        task: "reconstruction" (PSNR), "representation" (RBF SVM on sampled z_L, which Eq. 11 bounds) or "generation"
            (Inception Score); or a column of the results of which more is better.
        total_rate: the budget, nats per image; None: any.

    Raises:
        InputError: the run is not there or has no finished model, the task or metric is unknown or was not computed,
            or the budget is no positive number.

    Source: Paper A, Section 5.3 (the best model for a total rate).

    Example:
        >>> results = pd.DataFrame({"beta_1": [0.1, 1, 10], "rate_1": [80, 30, 5], "psnr": [22, 18, 12]})
        >>> advice = recommend(results, "reconstruction", total_rate=40)
        >>> advice.betas, advice.value, advice.interpolated.rates
        ((1.0,), 18.0, (40.0,))
    """
    points = _points(run)
    numbers = layer_numbers(layers(points))
    metric = _metric(points, task, numbers[0])
    if total_rate is not None:
        total_rate = _positive(total_rate)
    network = "model" in points and str(points["model"].iloc[0]).endswith("-conditioned")
    if network:  # scored at a part of its points: neighbours are those of that part
        points = points[np.isfinite(points[metric])].reset_index(drop=True)
    rate = points["rate"].to_numpy(float)
    value = np.where(np.isfinite(rate), points[metric], np.nan)
    ranked = np.lexsort((rate, -value))  # the highest value first, of equal ones the lowest rate
    ranked = ranked[np.isfinite(value[ranked])]
    within = ranked if total_rate is None else ranked[rate[ranked] <= total_rate]
    if not len(within):
        lowest = int(ranked[np.argmin(rate[ranked])])
        roles = {"lowest rate": [lowest], "neighbour": _neighbours(points, lowest)}
        return Recommendation(task, metric, total_rate, "", (), (), (), math.nan, math.nan, math.nan, "", None,
                              _evidence(points, metric, roles), tuple(_budget_warnings(points, value, total_rate)))  # fmt: skip
    best, runner_up = int(within[0]), int(within[1]) if len(within) > 1 else None
    near = _neighbours(points, best)
    rates = points[[f"rate_{n}" for n in numbers]].to_numpy(float)
    seen = [f"train_rate_{n}" for n in numbers]
    targets = points[seen].to_numpy(float) if set(seen) <= set(points) and points[seen].notna().to_numpy().any() else rates
    ends = _hull_ends(rate, value, total_rate)
    interpolated = None
    if ends and total_rate is not None:
        lower, upper = ends
        share = (total_rate - rate[lower]) / (rate[upper] - rate[lower])
        mixed, mixed_targets, promised = (np.asarray((1 - share) * x[lower] + share * x[upper]) for x in (rates, targets, value))
        if promised > value[best]:
            interpolated = Interpolated(tuple(mixed.tolist()), tuple(mixed_targets.tolist()), float(promised), (_words(points, lower), _words(points, upper)))
    sd = points[f"{metric}_sd"].to_numpy(float)[best]
    around = value[[best, *near]][np.isfinite(value[[best, *near]])]
    extent = np.ptp(around) if len(around) > 1 else math.nan
    return Recommendation(
        task=task,
        metric=metric,
        budget=total_rate,
        model=_words(points, best),
        betas=tuple(betas(points)[best].tolist()),
        rates=tuple(rates[best].tolist()),
        targets=() if network else tuple(targets[best].tolist()),
        total_rate=float(rate[best]),
        value=float(value[best]),
        spread=float(sd if math.isfinite(sd) else extent),
        spread_over="seeds" if math.isfinite(sd) else "neighbours",
        interpolated=interpolated,
        evidence=_evidence(points, metric, {
            "recommended": [best], "runner-up": [] if runner_up is None else [runner_up],
            "interpolated": ends if ends and interpolated else [], "neighbour": near,
        }),
        warnings=(*_budget_warnings(points, value, total_rate), *_target_warnings(points, best, total_rate), *_model_warnings(points, metric, best, runner_up, near),
                  *(_far_warning(points, *ends) if ends and interpolated else ())),
    )  # fmt: skip


def shown(metric: str, value: float) -> str:
    """A value of a column in words, with its unit.

    Example:
        >>> shown("acc_z2_rbf_svm", 0.9123), shown("psnr", 16.238), shown("inception_score", 4.7)
        ('91.2 %', '16.24 dB', '4.7')
    """
    if metric.startswith("acc"):
        return f"{100 * value:.3g} %"
    unit = " dB" if metric.startswith("psnr") else " nats" if metric.startswith(("elbo", "iwae_", "mi_")) else ""
    return f"{value:.4g}{unit}"


# --- what is asked for ------------------------------------------------------------------------------------------


def _points(run: str | Path | pd.DataFrame) -> pd.DataFrame:
    """One row a setting, as `figures.grid_means`; at least one of them has a finished model."""
    results = run if isinstance(run, pd.DataFrame) else load_results(run)
    name = "the results" if isinstance(run, pd.DataFrame) else f"run '{Path(run).name}'"
    try:
        if "target_status" in results:
            results = results.assign(held=results["target_status"].eq("reached").astype(float))
        points = grid_means(results)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    if not np.isfinite(points["rate"]).any():
        counts = ", ".join(f"{count} {kind}" for kind, count in status(results).value_counts().items())
        raise InputError(f"{name}: no finished model to recommend ({counts}); ./run_all.sh or the notebooks make them")
    return points


def _metric(points: pd.DataFrame, task: str, top: int) -> str:
    """The column that judges a task."""
    known = np.isfinite(points["rate"])
    computed = [
        column for column in points.columns
        if not _NO_METRIC.fullmatch(column) and pd.api.types.is_numeric_dtype(points[column]) and points.loc[known, column].notna().any()
    ]  # fmt: skip
    known_task = isinstance(task, str) and task in TASKS
    metric = TASKS[task].format(top=top) if known_task else str(task)
    if metric in computed:
        return metric
    tasks = [f"{name} ({column.format(top=top)})" for name, column in TASKS.items() if column.format(top=top) in computed]
    allowed = f"allowed are {', '.join([*tasks, *computed])}" if computed else "this run has no metric"
    if known_task:
        raise InputError(f"task '{task}': {metric} was not computed; {allowed}")
    close = get_close_matches(str(task), [*TASKS, *computed], 1)
    raise InputError(f"task '{task}' is unknown, not computed, or less of it is better; {f'did you mean {close[0]}? ' if close else ''}{allowed}")


def _positive(total_rate: float) -> float:
    if isinstance(total_rate, (int, float, np.number)) and not isinstance(total_rate, bool) and math.isfinite(total_rate) and total_rate > 0:
        return float(total_rate)
    raise InputError(f"total_rate = {total_rate}: allowed is a positive number of nats per image, or None for any")


# --- the grid ---------------------------------------------------------------------------------------------------


def _words(points: pd.DataFrame, row: int) -> str:
    """A setting in words, such as ``beta_2 = 0.1, beta_1 = 1``."""
    return ", ".join(f"{axis} = {points[axis].iloc[row]:.4g}" for axis in settings(points))


def _listed(rates: tuple[float, ...]) -> str:
    return f"({', '.join(f'{round(rate, 3):.4g}' for rate in rates)})"  # below a thousandth of a nat is none


def _neighbours(points: pd.DataFrame, row: int) -> list[int]:
    """The settings next to one, as rows: none lies in the ball whose diameter joins the two.

    In a grid these are one step along one axis; layers that share a beta, or target rates that share a total, do as well.
    """
    axes = [np.unique(points[axis].to_numpy(float).round(9), return_inverse=True)[1] for axis in settings(points)]
    step = np.stack(axes, 1)
    step = step - step[row]
    gram = step @ step.T
    inside = gram.diagonal()[None] <= gram  # row: the other end of the diameter; column: who may lie between
    inside[:, row] = False
    np.fill_diagonal(inside, False)
    return [int(other) for other in np.flatnonzero(~inside.any(1)) if other != row]


def _hull_ends(rate: np.ndarray, value: np.ndarray, total_rate: float | None) -> list[int] | None:
    """The corners of the upper hull on either side of the budget; None if it lies on none of its edges."""
    hull = upper_hull(rate, value)
    if total_rate is None or not rate[hull[0]] < total_rate < rate[hull[-1]]:
        return None
    right = int(np.searchsorted(rate[hull], total_rate))
    return [int(hull[right - 1]), int(hull[right])]


def _evidence(points: pd.DataFrame, metric: str, roles: dict[str, list[int]]) -> pd.DataFrame:
    """The models that have a role, the recommended one first, then by value."""
    named: dict[int, list[str]] = {}
    for role, rows in roles.items():
        for row in rows:
            named.setdefault(row, []).append(role)
    numbers = layer_numbers(layers(points))
    columns = [f"{kind}_{n}" for kind in ("target", "beta", "rate") for n in numbers if f"{kind}_{n}" in points]
    table = points.iloc[list(named)][[*columns, "rate", metric, f"{metric}_sd", "seeds"]]
    table.insert(0, "role", [", ".join(names) for names in named.values()])
    first, rest = table.iloc[:1], table.iloc[1:].sort_values(metric, ascending=False, kind="stable")
    return pd.concat([first, rest]).reset_index(drop=True)


# --- warnings ---------------------------------------------------------------------------------------------------


def _budget_warnings(points: pd.DataFrame, value: np.ndarray, total_rate: float | None) -> list[str]:
    if total_rate is None:
        return []
    rate = np.where(np.isfinite(value), points["rate"], np.nan)
    low, high = int(np.nanargmin(rate)), int(np.nanargmax(rate))
    if total_rate < rate[low]:
        return [f"The budget is below the lowest total rate explored, {rate[low]:.4g} nats, at {_words(points, low)}; higher betas may reach it."]
    if total_rate > rate[high]:
        return [f"The budget is above the highest total rate explored, {rate[high]:.4g} nats, at {_words(points, high)}; what more rate would give is unknown."]
    return []


def _target_warnings(points: pd.DataFrame, best: int, total_rate: float | None) -> list[str]:
    """Of runs with target rates, which are held on training images; everything here is on test images."""
    said = []
    if "held" in points and points["held"].iloc[best] < 1:
        said.append("The model does not hold all of its target rates (see target_reason in the results).")
    asked = points[[column for column in settings(points) if column.startswith("target")]].sum(axis=1, min_count=layers(points))
    over = int(((asked <= total_rate) & (points["rate"] > total_rate)).sum()) if total_rate is not None else 0
    if over:
        said.append(f"{over} settings ask for no more than the budget but exceed it on test images, where it is counted; a budget a little higher lets them in.")
    return said


def _model_warnings(points: pd.DataFrame, metric: str, best: int, runner_up: int | None, near: list[int]) -> list[str]:
    value, sd = points[metric].to_numpy(float), points[f"{metric}_sd"].to_numpy(float)
    said = []
    edges = [edge for axis in settings(points) if (edge := _edge(points[axis].to_numpy(float), best, axis))]
    if edges:
        said.append(f"The model lies on the edge of the grid, at {', '.join(edges)}; a better one may lie outside.")
    second = "" if runner_up is None else f"the runner-up, {_words(points, runner_up)}, reaches {shown(metric, value[runner_up])}"
    seeds = [row for row in (best, runner_up) if row is not None and math.isfinite(sd[row])]
    if not math.isfinite(sd[best]):
        said.append(f"The model has a single seed, so its spread over seeds is unknown{f'; {second}' if second else ''}.")
    elif runner_up is not None and value[best] - value[runner_up] < max(sd[seeds]):
        said.append(f"The choice is not settled: {second}, which is closer than the standard deviation over seeds, {shown(metric, max(sd[seeds]))}.")
    whole = np.isfinite(value) & (points["seeds"] == points["seeds"].max()).to_numpy()
    lost = "; ".join(_words(points, row) for row in (best, *near) if not whole[row])
    if lost:
        said.append(f"Here or next to it models diverged, are missing or were not evaluated: {lost}.")
    return said


def _far_warning(points: pd.DataFrame, lower: int, upper: int) -> list[str]:
    if upper in _neighbours(points, lower):
        return []
    return ["The rates are interpolated between models that are not neighbours; what lies between them in the grid may be worse."]


def _edge(axis: np.ndarray, row: int, name: str) -> str:
    """Which end of an axis a setting is at, in words; empty in between, and for a target rate of 0, below which is none."""
    low, high = np.nanmin(axis), np.nanmax(axis)
    words = f"{name} = {axis[row]:.4g}"
    if low == high:
        return f"{words} (the only one explored)"
    if axis[row] == low and not (low == 0 and name.startswith("target")):
        return f"{words} (the lowest)"
    return f"{words} (the highest)" if axis[row] == high else ""
