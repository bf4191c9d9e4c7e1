"""Which betas, or target rates, to use for a task under a rate budget: read off a finished run."""

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hvae_core.analysis.frontier import upper_hull
from hvae_core.analysis.points import betas, compared, count_layers, grid_means, settings, status
from hvae_core.errors import InputError
from hvae_core.runs.results import load_results
from hvae_core.terms import layer_numbers

TASKS = {"reconstruction": "psnr", "representation": "acc_z{top}_rbf_svm", "generation": "inception_score"}
_NO_METRIC = re.compile(
    r"((train_)?rate|beta|target)_\d+|(train_)?rate|(train_)?distortion"
    r"|epochs|member|seeds|held|diverged_epoch|.*_(sd|std)"
)
_SPREADS = {"seeds": "standard deviation over seeds", "neighbours": "range over neighbouring models"}


class Interpolated(NamedTuple):
    """A point of the upper hull between two models: a suggestion that nobody trained.

    Attributes:
        rates: ``(L,)``, top layer first, nats per image on test images; they add up to the budget.
        targets: the target rates to train with: the same point in rates on training images.
        value: what the two models would give on average, mixed to that rate; as the metric is stored.
        between: the two models, in words, the one of lower rate first.
    """

    rates: tuple[float, ...]
    targets: tuple[float, ...]
    value: float
    between: tuple[str, str]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Recommendation:
    """The best model that was trained within a budget, and what speaks for it. It shows itself in a notebook.

    Attributes:
        task: what was asked for.
        metric: the column that judges it; higher is better.
        budget: the highest total rate allowed, nats per image; None: any.
        model: its betas, or what stands for them, in words; empty where no model is within the budget.
        betas: ``(L,)``, top layer first; of a run with target rates, the means of those it arrived at.
        rates: R(z_L), ..., R(z_1|z_>1) on test images, nats per image, ``(L,)``.
        targets: the same on training images, where targets are held: the target rates to train with; on test
            images where the results know no others. Empty for a conditioned network, which holds no targets;
            see `hvae_core.analysis.dial`.
        total_rate: the sum of `rates`, R, at most the budget.
        value: the metric, mean over seeds, as stored (accuracies from 0 to 1).
        spread: its standard deviation over seeds; for one seed the range over the model and its neighbours.
        spread_over: "seeds" or "neighbours".
        interpolated: rates that add up to the budget, where models below and above it promise more.
        evidence: the model, its neighbours in the grid, the runner-up and the models interpolated between.
        warnings: a sentence each.
    """

    task: str
    metric: str
    budget: float | None
    model: str = ""
    betas: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    targets: tuple[float, ...] = ()
    total_rate: float = math.nan
    value: float = math.nan
    spread: float = math.nan
    spread_over: str = ""
    interpolated: Interpolated | None = None
    evidence: pd.DataFrame
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        name = self.task if self.metric == self.task else f"{self.task} ({self.metric})"
        limit = "any total rate"
        if self.budget is not None:
            limit = f"total rate at most {self.budget:.4g} nats per image"
        chosen = self._chosen() if self.model else ["use: no model explored is within the budget"]
        return "\n".join(
            [
                f"{name}, {limit}",
                *chosen,
                *self._promised(),
                *(f"warning: {warning}" for warning in self.warnings),
            ]
        )

    __repr__ = __str__

    def _chosen(self) -> list[str]:
        """The model in words, a line each for what it is, its rates and its value."""
        targets = ""
        if self.targets:
            targets = f"; or target rates {_listed(self.targets)} nats on training images, top layer first"
        spread = shown(self.metric, self.spread) if math.isfinite(self.spread) else "unknown"
        return [
            f"use: {self.model}{targets}",
            f"gives: R = {self.total_rate:.4g}, {_listed(self.rates)} nats on test images",
            f"expect: {shown(self.metric, self.value)}; {_SPREADS[self.spread_over]} {spread}",
        ]

    def _promised(self) -> list[str]:
        """What is interpolated, in a line, if anything is."""
        if self.interpolated is None:
            return []
        rates, targets, value, (lower, upper) = self.interpolated
        asked = f"rates {_listed(rates)} nats, for a dial"
        if self.targets:
            asked = f"target rates {_listed(targets)} nats on training images"
        return [
            f"interpolated, not trained: {asked}, R = {sum(rates):.4g} on test images, "
            f"{shown(self.metric, value)}; between {lower} and {upper}"
        ]

    def _repr_html_(self) -> str:
        table = self.evidence.to_html(index=False, float_format="{:.4g}".format, na_rep="")
        return f'<pre style="white-space: pre-wrap">{escape(str(self))}</pre>{table}'


def recommend(run: str | Path | pd.DataFrame, task: str, total_rate: float | None = None) -> Recommendation:
    """The best model of a run for a task, among those whose total rate R is at most `total_rate`.

    The budget is a limit: a model that needs less and is as good wins. Models count by their means over
    seeds. If a mixture of a model below and one above the budget would be better (the upper convex hull of
    the metric against R), its rates are suggested too, as `Recommendation.interpolated`: they were not
    trained.

    Arguments:
        run: a finished run, or its results, one row a model.
        task: "reconstruction" (PSNR), "representation" (RBF SVM on sampled z_L, which Eq. 11 bounds) or
            "generation" (Inception Score); or a column of the results of which more is better.
        total_rate: the budget, nats per image; None: any.

    Raises:
        InputError: the run is not there or has no finished model, the task or metric is unknown or was not
            computed, or the budget is no positive number.

    Source: Paper A, Section 5.3 (the best model for a total rate).

    Example:
        >>> results = pd.DataFrame({"beta_1": [0.1, 1, 10], "rate_1": [80, 30, 5], "psnr": [22, 18, 12]})
        >>> advice = recommend(results, "reconstruction", total_rate=40)
        >>> advice.betas, advice.value, advice.interpolated.rates
        ((1.0,), 18.0, (40.0,))
    """
    points = _points(run)
    metric = _metric(points, task, count_layers(points))
    budget = None if total_rate is None else _positive(total_rate)
    models = _explored(points, metric)
    within = _choose(models, budget)
    if not within:
        lowest = models.lowest()
        roles = {"lowest rate": [lowest], "neighbour": _neighbours(models.points, lowest)}
        return Recommendation(
            task=task,
            metric=metric,
            budget=budget,
            evidence=_evidence(models, roles),
            warnings=tuple(_budget_warnings(models, budget)),
        )
    best, runner_up = within[0], within[1] if len(within) > 1 else None
    near = _neighbours(models.points, best)
    interpolated, ends = _interpolate(models, best, budget)
    spread, spread_over = _spread(models, best, near)
    roles = {
        "recommended": [best],
        "runner-up": [] if runner_up is None else [runner_up],
        "interpolated": ends,
        "neighbour": near,
    }
    return Recommendation(
        task=task,
        metric=metric,
        budget=budget,
        model=_words(models.points, best),
        betas=tuple(betas(models.points)[best].tolist()),
        rates=tuple(models.rates[best].tolist()),
        targets=() if models.one_network else tuple(models.targets[best].tolist()),
        total_rate=float(models.rate[best]),
        value=float(models.value[best]),
        spread=spread,
        spread_over=spread_over,
        interpolated=interpolated,
        evidence=_evidence(models, roles),
        warnings=_warn(models, budget, best, runner_up, near, ends),
    )


def shown(metric: str, value: float) -> str:
    """A value of a column in words, with its unit.

    Example:
        >>> shown("acc_z2_rbf_svm", 0.9123), shown("psnr", 16.238), shown("inception_score", 4.7)
        ('91.2 %', '16.24 dB', '4.7')
    """
    if metric.startswith("acc"):
        return f"{100 * value:.3g} %"
    if metric.startswith("psnr"):
        return f"{value:.4g} dB"
    return f"{value:.4g} nats" if metric.startswith(("elbo", "iwae_", "mi_")) else f"{value:.4g}"


# --- what is asked for --------------------------------------------------------------------------------------


def _points(run: str | Path | pd.DataFrame) -> pd.DataFrame:
    """One row a setting, as `grid_means`; at least one of them has a finished model."""
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
        column
        for column in points.columns
        if not _NO_METRIC.fullmatch(column)
        and pd.api.types.is_numeric_dtype(points[column])
        and points.loc[known, column].notna().any()
    ]
    columns = {name: column.format(top=top) for name, column in TASKS.items()}
    known_task = isinstance(task, str) and task in columns
    metric = columns[task] if known_task else str(task)
    if metric in computed:
        return metric
    tasks = [f"{name} ({column})" for name, column in columns.items() if column in computed]
    allowed = f"allowed are {', '.join([*tasks, *computed])}" if computed else "this run has no metric"
    if known_task:
        raise InputError(f"task '{task}': {metric} was not computed; {allowed}")
    close = get_close_matches(metric, [*TASKS, *computed], 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(f"task '{task}' is unknown, not computed, or less of it is better; {hint}{allowed}")


def _positive(total_rate: float) -> float:
    is_number = isinstance(total_rate, (int, float, np.number)) and not isinstance(total_rate, bool)
    if is_number and math.isfinite(total_rate) and total_rate > 0:
        return float(total_rate)
    raise InputError(f"total_rate = {total_rate}: allowed is a positive number of nats per image, or None for any")


# --- what there is to choose from ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Models:
    """The models of a run, one row a setting, and the metric that judges them."""

    points: pd.DataFrame
    metric: str

    @property
    def one_network(self) -> bool:
        """Whether the settings are points of one conditioned network."""
        return "model" in self.points and str(self.points["model"].iloc[0]).endswith("-conditioned")

    @cached_property
    def rate(self) -> np.ndarray:
        """Total rates, ``(settings,)``."""
        return self.points["rate"].to_numpy(float)

    @cached_property
    def value(self) -> np.ndarray:
        """The metric, ``(settings,)``; null where it or the rate is not known."""
        return np.where(np.isfinite(self.rate), self.points[self.metric], np.nan)

    @cached_property
    def sd(self) -> np.ndarray:
        """Its standard deviation over seeds, ``(settings,)``; null for a single seed."""
        return self.points[f"{self.metric}_sd"].to_numpy(float)

    @cached_property
    def rates(self) -> np.ndarray:
        """The rates of the layers on test images, top layer first, ``(settings, L)``."""
        return self.points[[f"rate_{n}" for n in layer_numbers(count_layers(self.points))]].to_numpy(float)

    @cached_property
    def targets(self) -> np.ndarray:
        """The same on training images, where they are known."""
        seen = [f"train_rate_{n}" for n in layer_numbers(count_layers(self.points))]
        known = set(seen) <= set(self.points) and self.points[seen].notna().to_numpy().any()
        return self.points[seen].to_numpy(float) if known else self.rates

    def lowest(self) -> int:
        """The row of the lowest rate, among those of which the metric is known; of equal ones the best."""
        known = _choose(self, None)
        return known[int(np.argmin(self.rate[known]))]


def _explored(points: pd.DataFrame, metric: str) -> _Models:
    """The models that count: of a network, which is scored at a part of its points, only that part, as in figures."""
    models = _Models(points, metric)
    if not models.one_network:
        return models
    return _Models(points[np.isfinite(points[metric]) & compared(points)].reset_index(drop=True), metric)


def _choose(models: _Models, budget: float | None) -> list[int]:
    """The rows within the budget, the highest value first, of equal ones the lowest rate."""
    ranked = np.lexsort((models.rate, -models.value))
    ranked = ranked[np.isfinite(models.value[ranked])]
    within = ranked if budget is None else ranked[models.rate[ranked] <= budget]
    return [int(row) for row in within]


def _interpolate(models: _Models, best: int, budget: float | None) -> tuple[Interpolated | None, list[int]]:
    """A mixture of two models that adds up to the budget, and their rows; None unless it beats the best."""
    ends = _hull_ends(models.rate, models.value, budget)
    if budget is None or not ends:
        return None, []
    lower, upper = ends
    share = (budget - models.rate[lower]) / (models.rate[upper] - models.rate[lower])

    def mixed(of: np.ndarray) -> np.ndarray:
        return np.asarray((1 - share) * of[lower] + share * of[upper])

    value = float(mixed(models.value))
    if not value > models.value[best]:
        return None, []
    found = Interpolated(
        rates=tuple(mixed(models.rates).tolist()),
        targets=tuple(mixed(models.targets).tolist()),
        value=value,
        between=(_words(models.points, lower), _words(models.points, upper)),
    )
    return found, ends


def _hull_ends(rate: np.ndarray, value: np.ndarray, budget: float | None) -> list[int]:
    """The corners of the upper hull on either side of the budget; none if it lies on none of its edges."""
    hull = upper_hull(rate, value)
    if budget is None or not rate[hull[0]] < budget < rate[hull[-1]]:
        return []
    right = int(np.searchsorted(rate[hull], budget))
    return [int(hull[right - 1]), int(hull[right])]


def _spread(models: _Models, best: int, near: list[int]) -> tuple[float, str]:
    """How uncertain the value is: over seeds, or for one seed the range over the model and its neighbours."""
    if math.isfinite(models.sd[best]):
        return float(models.sd[best]), "seeds"
    around = models.value[[best, *near]]
    around = around[np.isfinite(around)]
    return float(np.ptp(around)) if len(around) > 1 else math.nan, "neighbours"


# --- the grid -----------------------------------------------------------------------------------------------


def _words(points: pd.DataFrame, row: int) -> str:
    """A setting in words, such as ``beta_2 = 0.1, beta_1 = 1``."""
    return ", ".join(f"{axis} = {points[axis].iloc[row]:.4g}" for axis in settings(points))


def _listed(rates: tuple[float, ...]) -> str:
    return f"({', '.join(f'{round(rate, 3):.4g}' for rate in rates)})"  # below a thousandth of a nat is none


def _neighbours(points: pd.DataFrame, row: int) -> list[int]:
    """The settings next to one, as rows: none lies in the ball whose diameter joins the two.

    In a grid these are one step along one axis; layers that share a beta, or target rates that share a total,
    do as well.
    """
    axes = [points[axis].to_numpy(float).round(9) for axis in settings(points)]
    steps = np.stack([np.unique(axis, return_inverse=True)[1] for axis in axes], 1)
    steps = steps - steps[row]
    gram = steps @ steps.T
    inside = gram.diagonal()[None] <= gram  # row: the other end of the diameter; column: who may lie between
    inside[:, row] = False
    np.fill_diagonal(inside, False)
    return [int(other) for other in np.flatnonzero(~inside.any(1)) if other != row]


def _evidence(models: _Models, roles: dict[str, list[int]]) -> pd.DataFrame:
    """The models that have a role, the recommended one first, then by value."""
    points, metric = models.points, models.metric
    named: dict[int, list[str]] = {}
    for role, rows in roles.items():
        for row in rows:
            named.setdefault(row, []).append(role)
    numbers = layer_numbers(count_layers(points))
    columns = [f"{kind}_{n}" for kind in ("target", "beta", "rate") for n in numbers]
    columns = [column for column in columns if column in points]
    table = points.iloc[list(named)][[*columns, "rate", metric, f"{metric}_sd", "seeds"]]
    table.insert(0, "role", [", ".join(names) for names in named.values()])
    first, rest = table.iloc[:1], table.iloc[1:].sort_values(metric, ascending=False, kind="stable")
    return pd.concat([first, rest]).reset_index(drop=True)


# --- warnings -----------------------------------------------------------------------------------------------


def _warn(
    models: _Models, budget: float | None, best: int, runner_up: int | None, near: list[int], ends: list[int]
) -> tuple[str, ...]:
    """What speaks against the choice, a sentence each.

    Arguments:
        near: the neighbours of the best.
        ends: the two models that are interpolated between, if any.
    """
    return (
        *_budget_warnings(models, budget),
        *_target_warnings(models.points, best, budget),
        *_edge_warnings(models.points, best),
        *_seed_warnings(models, best, runner_up),
        *_loss_warnings(models, [best, *near]),
        *_far_warnings(models.points, ends),
    )


def _budget_warnings(models: _Models, budget: float | None) -> list[str]:
    if budget is None:
        return []
    rate = np.where(np.isfinite(models.value), models.rate, np.nan)
    low, high = int(np.nanargmin(rate)), int(np.nanargmax(rate))
    if budget < rate[low]:
        return [
            f"The budget is below the lowest total rate explored, {rate[low]:.4g} nats, "
            f"at {_words(models.points, low)}; higher betas may reach it."
        ]
    if budget > rate[high]:
        return [
            f"The budget is above the highest total rate explored, {rate[high]:.4g} nats, "
            f"at {_words(models.points, high)}; what more rate would give is unknown."
        ]
    return []


def _target_warnings(points: pd.DataFrame, best: int, budget: float | None) -> list[str]:
    """Of runs with target rates, which are held on training images; everything here is on test images."""
    said = []
    if "held" in points and points["held"].iloc[best] < 1:
        said.append("The model does not hold all of its target rates (see target_reason in the results).")
    targets = [column for column in settings(points) if column.startswith("target")]
    asked = points[targets].sum(axis=1, min_count=count_layers(points))
    over = 0 if budget is None else int(((asked <= budget) & (points["rate"] > budget)).sum())
    if over:
        said.append(
            f"{over} settings ask for no more than the budget but exceed it on test images, "
            "where it is counted; a budget a little higher lets them in."
        )
    return said


def _edge_warnings(points: pd.DataFrame, best: int) -> list[str]:
    edges = [_edge(points[axis].to_numpy(float), best, axis) for axis in settings(points)]
    at = ", ".join(edge for edge in edges if edge)
    return [f"The model lies on the edge of the grid, at {at}; a better one may lie outside."] if at else []


def _seed_warnings(models: _Models, best: int, runner_up: int | None) -> list[str]:
    """Whether seeds tell the best from the runner-up."""
    value, sd = models.value, models.sd
    second = ""
    if runner_up is not None:
        words = _words(models.points, runner_up)
        second = f"the runner-up, {words}, reaches {shown(models.metric, value[runner_up])}"
    if not math.isfinite(sd[best]):
        beside = f"; {second}" if second else ""
        return [f"The model has a single seed, so its spread over seeds is unknown{beside}."]
    if runner_up is None:
        return []
    spread = np.nanmax(sd[[best, runner_up]])
    if value[best] - value[runner_up] >= spread:
        return []
    return [
        f"The choice is not settled: {second}, which is closer than the standard deviation over seeds, "
        f"{shown(models.metric, spread)}."
    ]


def _loss_warnings(models: _Models, rows: list[int]) -> list[str]:
    seeds = models.points["seeds"]
    whole = np.isfinite(models.value) & (seeds == seeds.max()).to_numpy()
    lost = "; ".join(_words(models.points, row) for row in rows if not whole[row])
    return [f"Here or next to it models diverged, are missing or were not evaluated: {lost}."] if lost else []


def _far_warnings(points: pd.DataFrame, ends: list[int]) -> list[str]:
    if not ends or ends[1] in _neighbours(points, ends[0]):
        return []
    return [
        "The rates are interpolated between models that are not neighbours; "
        "what lies between them in the grid may be worse."
    ]


def _edge(axis: np.ndarray, row: int, name: str) -> str:
    """Which end of an axis a setting is at, in words; empty in between.

    A target rate of 0 is no end: there is none below.
    """
    low, high = np.nanmin(axis), np.nanmax(axis)
    words = f"{name} = {axis[row]:.4g}"
    if low == high:
        return f"{words} (the only one explored)"
    if axis[row] == low and not (low == 0 and name.startswith("target")):
        return f"{words} (the lowest)"
    return f"{words} (the highest)" if axis[row] == high else ""
