"""What the papers say beside what results say: each statement is a rule, numbers give its verdict.

::

    Rule            a statement: where it stands, what is measured of it, and when results agree
    PAPER_A, ...    the rules, in the order of the papers
    paper_a, ...    results -> a Finding for every rule

A statement that a paper makes of one data set is tested on others too, and named as such. A verdict tells
whether these results agree, no more: one or two seeds and a coarse grid settle little.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from string import Formatter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr

from hvae_core.analysis.frontier import pareto_frontier
from hvae_core.analysis.points import (
    INCEPTION,
    PSNR,
    Metric,
    accuracy,
    best,
    betas,
    count_layers,
    grid_means,
    is_beta_vae,
    is_saturated,
    known_together,
)
from hvae_core.evaluation.bounds import accuracy_bound
from hvae_core.names import PROBES, SPREADS

AGREES, PARTLY, DIFFERS, UNTESTED = "agrees", "partly", "differs", "not tested"
NOT_SETTLED = "not settled"  # a control, such as leaving out empty layers, changes the verdict
EMPTY = (0.01, 0.1)  # nats: rates up to which a layer counts as empty; each rule is asked with both
ENOUGH = 10  # settings that a rank correlation takes
DOUBT = 0.05  # the chance, over all settings together, that an equal one is told apart from the best
CLASSES = 10  # of Paper A's data sets
NAMES = dict(zip(PROBES, ("logistic regression", "linear SVM", "RBF SVM", "kNN"), strict=True))
APPLICATIONS: dict[str, Metric] = {
    "PSNR": PSNR,
    "Inception Score": INCEPTION,
    "RBF SVM on mu_2": accuracy("mu2", "rbf_svm"),
}

Numbers = Mapping[str, Any]
"""What was measured, by name: numbers, words, or lists of `Numbers`; None where it does not apply."""
Measure = Callable[[pd.DataFrame], Numbers | None]


class Finding(NamedTuple):
    """One line of the comparison.

    Attributes:
        source: where the paper says so.
        statement: the paper's statement or number.
        ours: what the results say, in numbers.
        verdict: agrees, partly, differs, not settled or not tested.
        rule: when it is which, or why it was not tested.
    """

    source: str
    statement: str
    ours: str
    verdict: str
    rule: str


class Each(NamedTuple):
    """Part of a sentence that is repeated for every item of a list; of an empty list nothing is said.

    Attributes:
        items: the name of the list among the numbers.
        template: what is said of one item.
        between: what separates items.
        before: what comes before the first one.
    """

    items: str
    template: str
    between: str = "; "
    before: str = ""


@dataclass(frozen=True)
class Rule:
    """A statement of a paper, and how results are held against it.

    Attributes:
        source, statement, rule: as in `Finding`.
        measure: results -> the numbers that decide; None if they were not computed. Or several by name, each with a
            control: where their verdicts differ it is not settled.
        sentence: these numbers in words, see `_sentence`.
        verdict: numbers -> verdict.
        otherwise: what is said if there are no numbers.
        applies: whether the paper says it of these results.
    """

    source: str
    statement: str
    rule: str
    measure: Measure | Mapping[str, Measure]
    sentence: Sequence[str | Each]
    verdict: Callable[[Numbers], str]
    otherwise: str = "not computed"
    applies: Callable[[pd.DataFrame], bool] = lambda results: True


def _found(rules: Iterable[Rule], results: pd.DataFrame) -> list[Finding]:
    """The findings of all rules that apply."""
    return [_finding(rule, results) for rule in rules if rule.applies(results)]


def _finding(rule: Rule, results: pd.DataFrame) -> Finding:
    measures = rule.measure if isinstance(rule.measure, Mapping) else {"": rule.measure}
    found = {name: numbers for name, measure in measures.items() if (numbers := measure(results)) is not None}
    if not found:
        return Finding(rule.source, rule.statement, rule.otherwise, UNTESTED, rule.rule)
    said: dict[str, list[str]] = {}
    for name, numbers in found.items():
        said.setdefault(_sentence(rule.sentence, numbers), []).append(name)
    verdicts = [rule.verdict(numbers) for numbers in found.values()]
    ours = next(iter(said))
    if len(said) > 1:  # where controls say the same, it is said once
        ours = "; ".join(f"{_listed(names)}: {words}" for words, names in said.items())
    return Finding(rule.source, rule.statement, ours, _together(verdicts), rule.rule)


def _listed(names: Sequence[str]) -> str:
    """Names that begin alike, in few words.

    Example:
        >>> _listed(["R_2 > 0.01", "R_2 > 0.1"]), _listed(["R_2 > 0.1", "both > 0.01"])
        ('R_2 > 0.01, 0.1', 'R_2 > 0.1, both > 0.01')
    """
    words = names[0]
    for before, name in pairwise(names):
        start = before.rpartition(" ")[0]
        words += ", " + (name.removeprefix(start + " ") if name.startswith(start + " ") else name)
    return words


def _together(verdicts: Sequence[str]) -> str:
    """The verdict of all cases that give one.

    Example:
        >>> _together([AGREES, UNTESTED]), _together([AGREES, DIFFERS]), _together([])
        ('agrees', 'not settled', 'not tested')
    """
    given = set(verdicts) - {UNTESTED}
    return UNTESTED if not given else given.pop() if len(given) == 1 else NOT_SETTLED


def _sentence(parts: Sequence[str | Each], numbers: Numbers) -> str:
    """Templates filled in; a part is left out where one of its numbers is None.

    Example:
        >>> _sentence(["{a} of {b}", ", by {c:.1f} dB", Each("names", "{name}", ", ", ": ")],
        ...           {"a": 1, "b": 2, "c": None, "names": [{"name": "PSNR"}, {"name": "IS"}]})
        '1 of 2: PSNR, IS'
    """
    words = ""
    for part in parts:
        if isinstance(part, Each):
            items = [part.template.format_map(item) for item in numbers[part.items]]
            words += part.before + part.between.join(items) if items else ""
        elif all(numbers[name] is not None for _, name, _, _ in Formatter().parse(part) if name):
            words += part.format_map(numbers)
    return words


# --- verdicts -----------------------------------------------------------------------------------------------


def _limits(
    value: str,
    of: str | None = None,
    *,
    agrees: float,
    differs: float,
    enough: tuple[str, float] | None = None,
) -> Callable[[Numbers], str]:
    """Agrees from one limit on, differs below the other.

    Arguments:
        value: the number that is judged, by name.
        of: the number that it is a share of.
        enough: a number and how high it must be for a verdict.
    """

    def verdict(numbers: Numbers) -> str:
        found, whole = numbers[value], 1 if of is None else numbers[of]
        if not whole or math.isnan(found) or (enough and numbers[enough[0]] < enough[1]):
            return UNTESTED
        return AGREES if found >= agrees * whole else DIFFERS if found < differs * whole else PARTLY

    return verdict


def _no_common_optimum(numbers: Numbers) -> str:
    if numbers["known"] < len(APPLICATIONS):
        return UNTESTED
    return DIFFERS if numbers["places"] == 1 else NOT_SETTLED if numbers["all_three"] else AGREES


def _no_optimum_on_the_line(numbers: Numbers) -> str:
    if numbers["known"] < len(APPLICATIONS) or not numbers["baselines"]:
        return UNTESTED
    if numbers["count"] == len(APPLICATIONS):
        return DIFFERS
    return PARTLY if numbers["count"] else NOT_SETTLED if numbers["near"] else AGREES


def _one_way(numbers: Numbers) -> str:
    """Whether three in four slopes are above 0 by two standard errors, or below."""
    known = numbers["slopes"]
    if known < 3:
        return UNTESTED
    return AGREES if numbers["up"] >= 0.75 * known else DIFFERS if numbers["down"] >= 0.75 * known else NOT_SETTLED


def _stands_higher(apart: float) -> Callable[[Numbers], str]:
    """Whether R(z_1 given z_2) stands so many percent of the models higher in its order than R(z_2)."""

    def verdict(numbers: Numbers) -> str:
        upper, lower = numbers["above_2"], numbers["above_1"]
        return AGREES if lower >= upper + apart else DIFFERS if upper >= lower + apart else PARTLY

    return verdict


def _mostly(least: float) -> Callable[[Numbers], str]:
    """Whether the correlation with R(z_2) is above a limit, and the larger of the two."""

    def verdict(numbers: Numbers) -> str:
        upper, lower = numbers["upper"], numbers["lower"]
        return DIFFERS if upper <= least else AGREES if upper > lower else PARTLY

    return verdict


def _all_above(least: float) -> Callable[[Numbers], str]:
    """Whether all correlations are above a limit."""

    def verdict(numbers: Numbers) -> str:
        found = numbers["values"]
        if np.isnan(found).any():
            return UNTESTED
        return AGREES if min(found) > least else PARTLY if max(found) > least else DIFFERS

    return verdict


def _served_so(numbers: Numbers) -> str:
    well, ill = numbers["well"], numbers["ill"]
    if not well + ill:
        return UNTESTED
    return AGREES if well >= 3 and not ill else DIFFERS if ill > well else PARTLY


def _strong_at_the_ends(numbers: Numbers) -> str:
    if numbers["frontier"] < 3:
        return UNTESTED
    ends, middle = numbers["lowest"] == numbers["highest"] == STRONG, numbers["weak"] > 0
    return AGREES if ends and middle else PARTLY if ends or middle else DIFFERS


def _best_between(low: float, high: float) -> Callable[[Numbers], str]:
    """Whether the best has a rate between these, and all on both sides are more than 2 nats worse."""

    def verdict(numbers: Numbers) -> str:
        if numbers["betas"] < 5:
            return UNTESTED
        if not low <= numbers["rate"] <= high:
            return DIFFERS
        sides = (numbers["below"], numbers["above"])
        return AGREES if all(side is not None and side - numbers["total"] > 2 for side in sides) else PARTLY

    return verdict


def _rates_apart(factor: float) -> Callable[[Numbers], str]:
    """Whether the highest rate is so many times the lowest, if any is above half a nat."""

    def verdict(numbers: Numbers) -> str:
        if numbers["near"] < 2 or numbers["highest"] < 0.5:
            return UNTESTED
        return AGREES if numbers["highest"] / max(numbers["lowest"], 1e-9) > factor else DIFFERS

    return verdict


# --- controls -----------------------------------------------------------------------------------------------


def _without_empty(measure: Measure, *layers: int, least: float) -> Measure:
    """A measure of the settings in which none of these layers is empty: each has a rate above so many nats."""

    def measured(points: pd.DataFrame) -> Numbers | None:
        used = np.logical_and.reduce([points[f"rate_{n}"].to_numpy(float) > least for n in layers])
        kept = points.loc[used].reset_index(drop=True)
        numbers = measure(kept) if len(kept) >= ENOUGH else None
        return numbers and {**numbers, "settings": len(kept), "all": len(points)}

    return measured


def _of_upper(measure: Measure) -> Mapping[str, Measure]:
    """What is asked about z_2, with two limits of what is empty."""
    return {f"R_2 > {least:g}": _without_empty(measure, 2, least=least) for least in EMPTY}


def _of_both(measure: Measure) -> Mapping[str, Measure]:
    """What is asked about one layer of z_2 at a fixed rate of the other: z_2 alone in use, then both."""
    both = {f"both > {least:g}": _without_empty(measure, 2, 1, least=least) for least in EMPTY}
    return {**_of_upper(measure), **both}


def _limit_of_empty(measure: Callable[..., Numbers | None]) -> Mapping[str, Measure]:
    """What leaves out empty layers itself, with two limits of what is empty."""
    return {f"R > {least:g}": partial(measure, least=least) for least in EMPTY}


# --- Paper A: what is measured ------------------------------------------------------------------------------


def _optima(points: pd.DataFrame) -> dict[str, int]:
    """Rows of the optima, by application."""
    found = {name: best(points, metric) for name, metric in APPLICATIONS.items()}
    return {name: row for name, row in found.items() if row is not None}


def _common(points: pd.DataFrame) -> pd.DataFrame:
    """The models of which all three applications are known; all models if there is none."""
    known = known_together(points, APPLICATIONS.values())
    return points.loc[known].reset_index(drop=True) if known.any() else points


def _as_good(points: pd.DataFrame, name: str, row: int) -> np.ndarray:
    """Which models cannot be told apart from the best one.

    The best of many is the luckiest, too. So the difference that tells a model apart is one that chance gives to
    none of all the others in 95 of 100 such grids (Bonferroni's correction).
    With several seeds, means are compared: by the variance over seeds, pooled over the best tenth of the
    settings (or five), where that is more than what a model is measured to. By PSNRs of one seed no model is told
    apart: how far another seed would move them is not known.
    """
    metric = APPLICATIONS[name]
    value = points[metric.column].to_numpy(float)
    variance = np.zeros_like(value)
    if metric is INCEPTION:  # a standard error of a mean over five splits is half their standard deviation
        variance = points["inception_score_std"].fillna(0).to_numpy(float) ** 2 / 4
    elif metric is not PSNR:
        variance = value * (1 - value) / points["scored"].to_numpy(float)
    elif not _seeds_known(points):
        return np.isfinite(value)
    top = points.nlargest(max(5, math.ceil(0.1 * len(points))), metric.column)
    over_seeds = top[f"{metric.column}_sd"].pow(2).mean()
    variance = np.fmax(variance, over_seeds / points["seeds"].clip(lower=1))
    errors = float(norm.isf(DOUBT / max(np.isfinite(value).sum() - 1, 1)))
    return value >= value[row] - errors * np.sqrt(np.clip(variance + variance[row], 0, None))


def _seeds_known(points: pd.DataFrame) -> bool:
    """Whether some setting was trained with several seeds, so that their spread is known."""
    return bool(points["psnr_sd"].notna().any())


def _at(points: pd.DataFrame, row: int) -> str:
    return "(" + ", ".join(f"{beta:.4g}" for beta in betas(points)[row]) + ")"


def _value(points: pd.DataFrame, row: int, name: str) -> str:
    metric = APPLICATIONS[name]
    return f"{metric.factor * points[metric.column][row]:.4g} {metric.unit}".strip()


def _own_rate(points: pd.DataFrame, least: float) -> Numbers:
    """In how many steps along a beta the rate of its layer falls."""
    lowered, steps = 0, 0
    for n in range(count_layers(points), 0, -1):
        others = [f"beta_{m}" for m in range(1, count_layers(points) + 1) if m != n]
        for _, line in points.sort_values(f"beta_{n}").groupby(others):
            rate = line[f"rate_{n}"].to_numpy(float)
            there = np.maximum(rate[1:], rate[:-1]) > least  # an empty layer has nothing to lose
            lowered += int((np.diff(rate) < 0)[there].sum())
            steps += int(there.sum())
    return {"lowered": lowered, "steps": steps}


def _three_optima(points: pd.DataFrame) -> Numbers | None:
    """Where the applications are best, and how many models are as good."""
    points = _common(points)
    optima = _optima(points)
    if not optima:
        return None
    good = {name: _as_good(points, name, row) for name, row in optima.items()}
    found = [
        {
            "name": name,
            "value": _value(points, row, name),
            "betas": _at(points, row),
            "as_good": "not known" if name == "PSNR" and not _seeds_known(points) else int(good[name].sum()),
        }
        for name, row in optima.items()
    ]
    return {
        "optima": found,
        "known": len(optima),
        "places": len(set(optima.values())),
        "all_three": int(np.logical_and.reduce(list(good.values())).sum()),
    }


def _baselines(points: pd.DataFrame) -> Numbers:
    """Which optima lie on the line of equal betas, and how good its models are at the others."""
    points = _common(points)
    optima, line = _optima(points), is_beta_vae(points)
    on_line = points.loc[line].reset_index(drop=True)
    at_most = _optima(on_line)
    held = [name for name, row in optima.items() if line[row]]
    others = [name for name in optima if name not in held]
    corner = [name for name in held if (betas(points)[optima[name]] == betas(points).min()).all()]
    near = [name for name in others if (_as_good(points, name, optima[name]) & line).any()]
    compared = [
        {
            "name": name,
            "on_line": _value(on_line, at_most[name], name),
            "as_good": " (as good)" if name in near else "",
        }
        for name in others
        if name in at_most
    ]
    return {
        "known": len(optima),
        "baselines": int(line.sum()),
        "count": len(held),
        "held": [{"name": name} for name in held],
        "corner": len(corner) or None,
        "others": compared,
        "near": len(near),
    }


def _psnr_slopes(points: pd.DataFrame, least: float) -> Numbers | None:
    """How PSNR changes at beta-VAEs if a nat moves from z_2 to z_1 at a fixed total rate, in dB.

    It is the slope of a plane through the PSNRs of a setting and its eight neighbours in the grid, over R and
    R(z_1|z_2), by least squares; its standard error is that of the fit. Asked are settings whose layers both have
    more than ``least`` nats.
    """
    places = [np.unique(points[f"beta_{n}"].to_numpy(float), return_inverse=True)[1] for n in (2, 1)]
    at = {place: row for row, place in enumerate(zip(*(place.tolist() for place in places), strict=True))}
    numbers = points[["psnr", "rate", "rate_1"]].to_numpy(float)
    asked = is_beta_vae(points) & (points[["rate_2", "rate_1"]].to_numpy(float) > least).all(1)
    slopes, errors = [], []
    for row in np.flatnonzero(asked):
        around = [at.get((places[0][row] + i, places[1][row] + j)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        psnr, *rates = numbers[[one for one in around if one is not None]].T
        if len(psnr) < 9 or not np.isfinite([psnr, *rates]).all():
            continue
        columns = np.column_stack([np.ones(9), *rates])
        found, _, rank, _ = np.linalg.lstsq(columns, psnr, rcond=None)
        if rank == 3:
            variance = np.square(psnr - columns @ found).sum() / (9 - 3)
            slopes.append(found[2])
            errors.append(math.sqrt(variance * np.linalg.inv(columns.T @ columns)[2, 2]))
    if not slopes:
        known = np.isfinite(points["psnr"]).any()
        return {"slopes": 0, "up": 0, "down": 0, "lowest": None, "highest": None} if known else None
    slope, error = np.array(slopes), np.array(errors)
    away = np.abs(slope) > np.maximum(2 * error, 1e-6)
    return {
        "slopes": len(slope),
        "up": int((away & (slope > 0)).sum()),
        "down": int((away & (slope < 0)).sum()),
        "lowest": slope.min(),
        "highest": slope.max(),
        "each": list(zip(slopes, errors, strict=True)),
    }


def _inception_place(points: pd.DataFrame, least: float) -> Numbers | None:
    """The rates at the best Inception Score, and how many percent of the settings that use the layer have less."""
    row = best(points, INCEPTION)
    if row is None:
        return None
    upper, lower = points["rate_2"], points["rate_1"]
    return {
        "betas": _at(points, row),
        "value": _value(points, row, "Inception Score"),
        "rate_2": upper[row],
        "rate_1": lower[row],
        "above_2": 100 * (upper[upper > least] < upper[row]).mean(),
        "above_1": 100 * (lower[lower > least] < lower[row]).mean(),
    }


def _inception_region(points: pd.DataFrame) -> Numbers | None:
    """How many of the models with the highest scores (a tenth, or three) have beta_2 < beta_1."""
    known = points[np.isfinite(points["inception_score"])]
    if known.empty:
        return None
    high = known.nlargest(max(3, math.ceil(0.1 * len(known))), "inception_score")
    lower, all_lower = (int((of["beta_2"] < 0.999 * of["beta_1"]).sum()) for of in (high, known))
    return {
        "lower": lower,
        "high": len(high),
        "all_lower": all_lower,
        "known": len(known),
        "below_1": int((high["beta_2"] < 1).sum()),
    }


def _inception_driver(points: pd.DataFrame) -> Numbers | None:
    """Which percentage of the variance of log IS is sharpness.

    IS is a product, so the variance of its logarithm is a sum: what each factor covaries with it.
    """
    known = points[["inception_score", "sharpness", "diversity"]].dropna().map(math.log)

    def percent(of: pd.DataFrame) -> float:
        if len(of) < 3 or of["inception_score"].nunique() < 2:
            return float("nan")
        covariance = of.cov()["inception_score"]
        return float(100 * covariance["sharpness"] / (covariance["sharpness"] + covariance["diversity"]))

    good = percent(known[known["inception_score"] >= known["inception_score"].median()])
    return None if math.isnan(good) else {"good": good, "all": percent(known)}


def _correlation(points: pd.DataFrame, metric: str, with_: str) -> float:
    """Spearman's rank correlation; NaN where one of the columns does not vary."""
    known = points[[metric, with_]].dropna()
    varies = len(known) > 2 and known.nunique().min() > 1
    return float(spearmanr(known[metric], known[with_]).statistic) if varies else float("nan")


def _partial(points: pd.DataFrame, metric: str, with_: str, given: str) -> float:
    """Rank correlation of two columns at a fixed third: both are freed of what it explains."""
    both = _correlation(points, metric, with_)
    first, second = _correlation(points, metric, given), _correlation(points, with_, given)
    if np.isnan([first, second]).any():
        return both  # what does not vary explains nothing
    if 1 - first**2 < 1e-9 < 1 - second**2:
        return 0.0  # the third column is all there is to the first
    rest = (1 - first**2) * (1 - second**2)
    return (both - first * second) / math.sqrt(rest) if rest > 1e-9 else float("nan")


def _sharpness(points: pd.DataFrame) -> Numbers | None:
    """How sharpness is correlated with each rate at a fixed other one."""
    upper = _partial(points, "sharpness", "rate_2", given="rate_1")
    lower = _partial(points, "sharpness", "rate_1", given="rate_2")
    return None if np.isnan([upper, lower]).any() else {"upper": upper, "lower": lower}


def _information(points: pd.DataFrame) -> Numbers | None:
    """How I_q(y; z_2) is correlated with R(z_2), where labels at random have none."""
    if "mi_z2_permuted" not in points or points["mi_z2_permuted"].isna().all():
        return None
    told = points.loc[~is_saturated(points)]
    found = _correlation(told, "mi_z2", "rate_2")
    return {"correlation": found, "told": len(told), "saturated": len(points) - len(told)}


def _gains(points: pd.DataFrame, layer: int, probes: Sequence[str]) -> Numbers:
    """How accuracies on mu_2 are correlated with the rate of a layer at a fixed rate of the other."""
    rates = f"rate_{layer}", f"rate_{3 - layer}"
    values = [_partial(points, f"acc_mu2_{probe}", *rates) for probe in probes]
    return {"values": values, "lowest": min(values), "highest": max(values)}


def _modes(points: pd.DataFrame, on_upper: Sequence[str]) -> Numbers | None:
    """Which mode serves each classifier best, over all models (Table 1).

    Arguments:
        on_upper: the classifiers that mu_2 serves best, the paper says; the others mu_1. Within two standard
            errors of the difference it is undecided.
    """
    upper = np.array([points[f"acc_mu2_{probe}"].max() for probe in PROBES], float)
    lower = np.array([points[f"acc_mu1_{probe}"].max() for probe in PROBES], float)
    if not (np.isfinite(upper).all() and np.isfinite(lower).all()):
        return None
    variance = np.clip(upper * (1 - upper) + lower * (1 - lower), 0, None) / points["scored"].max()
    decided = np.abs(upper - lower) > 2 * np.sqrt(variance)
    so = (upper > lower) == np.isin(PROBES, on_upper)
    return {"well": int((decided & so).sum()), "ill": int((decided & ~so).sum())}


def _above_bound(points: pd.DataFrame, latent: str, bound: np.ndarray) -> Numbers:
    """How many accuracies on a latent lie more than two standard errors above a bound."""
    error = np.sqrt(np.clip(bound * (1 - bound), 1e-4, None) / points["scored"].to_numpy(float))
    value = np.array([points[f"acc_{latent}_{probe}"].to_numpy(float) for probe in PROBES])
    over, known = int((value > bound + 2 * error).sum()), int(np.isfinite(value).sum())
    return {"over": over, "known": known, "within": known - over}


def _samples_above_bound(points: pd.DataFrame) -> Numbers:
    return _above_bound(points, "z2", points["accuracy_bound_rate"].to_numpy(float))


def _modes_above_bound(points: pd.DataFrame) -> Numbers:
    # Equally many labels of each class have the lowest bound there is; with other frequencies it is higher.
    return _above_bound(points, "mu2", accuracy_bound(points["rate"], np.full(CLASSES, 1 / CLASSES)))


# --- Paper A: what it says ----------------------------------------------------------------------------------

_CORRELATIONS: Sequence[str | Each] = [
    "{lowest:.2f} to {highest:.2f} ({settings} of {all})",
]
_DECIDED = "so in {well}, the other way in {ill}"
_ALL_ABOVE = ", layers in use (the paper: on the hull): agrees if all are above 0.3, partly if some, differs if none"
_MORE_ACCURATE = "rank correlation of the accuracy with R(z_2) at fixed R(z_1 given z_2)" + _ALL_ABOVE
_MORE_ACCURATE_BY_Z1 = "rank correlation of the accuracy with R(z_1 given z_2) at fixed R(z_2)" + _ALL_ABOVE
_BETTER_MODE = (
    "best accuracies on mu_2 and mu_1 (Table 1), decided if more than two standard errors apart: "
    "agrees if three are so and none the other way, differs if more are the other way, not tested if none is"
)
_ABOVE_BOUND = "accuracies of four classifiers more than two standard errors above: agrees if at most 5 %"

PAPER_A = (
    Rule(
        source="A, Section 3.2",
        statement="a beta controls the rate of its own layer",
        measure=_limit_of_empty(_own_rate),
        sentence=["{lowered} of {steps} steps"],
        verdict=_limits("lowered", "steps", agrees=0.95, differs=0.75),
        rule="steps along a beta that lower the rate of its layer, if it has more than 0.01 and 0.1 nats: agrees "
        "from 95 %, differs below 75 %",
    ),
    Rule(
        source="A, Section 5.2 and Fig. 1, of SVHN",
        statement="no model is optimal for all three applications",
        measure=_three_optima,
        sentence=[
            Each("optima", "{name} {value} at {betas}", between=". "),
            Each("optima", "{as_good}", between=", ", before=". As good: "),
            "; in all three {all_three}",
        ],
        verdict=_no_common_optimum,
        rule="differs if one model is the best for all three, not settled if one is as good as the best in all "
        "three, else agrees. As good: not told apart at 5 % for the whole grid, by the standard errors of samples, "
        "test images or, if larger, seeds; every PSNR of one seed counts as good",
    ),
    Rule(
        source="A, Section 5.2 and Fig. 1, of SVHN",
        statement="neither the VAE nor a beta-VAE (equal betas) holds any of the three optima",
        measure=_baselines,
        sentence=[
            "{count} of {known}",
            Each("held", "{name}", between=", ", before=": "),
            "; {corner} at the lowest betas",
            Each("others", "{name} {on_line}{as_good}", between=", ", before=". Equal betas reach "),
        ],
        verdict=_no_optimum_on_the_line,
        rule="optima at equal betas: differs at all three, partly at some, agrees at none if equal betas are nowhere "
        "as good, else not settled",
    ),
    Rule(
        source="A, Section 5.4 and Fig. 3, of SVHN and CIFAR-10",
        statement="beta-VAEs are suboptimal for their total rate, "
        "and PSNR is improved by trading some rate in z_2 for some in z_1",
        measure=_limit_of_empty(_psnr_slopes),
        sentence=[
            "of {slopes} slopes {up} up, {down} down",
            ": {lowest:+.3f} to {highest:+.3f} dB",
        ],
        verdict=_one_way,
        rule="change of PSNR at a beta-VAE, dB, if a nat moves from z_2 to z_1 at a fixed total rate: slopes of planes "
        "through 3 x 3 settings. Agrees if 75 % are up, differs if 75 % are down by two standard errors, else not "
        "settled; fewer than three are not tested. To first order D gains nothing: D + beta R is minimised there",
    ),
    Rule(
        source="A, Appendix A.2.1 and Fig. 8, of MNIST",
        statement="the best Inception Score occurs at high R(z_1 given z_2) rather than at high R(z_2)",
        measure=_limit_of_empty(_inception_place),
        sentence=["{value} at {betas}, {rate_2:.1f} and {rate_1:.1f} nats, above {above_2:.0f} and {above_1:.0f} %"],
        verdict=_stands_higher(25),
        rule="settings with a lower rate, %, of those that use the layer: "
        "agrees if 25 points more for R(z_1 given z_2), differs if 25 "
        "more for R(z_2)",
    ),
    Rule(
        source="A, Section 5.5 and Fig. 5, of SVHN",
        statement="the Inception Score is high where z_2 has more rate than in a comparable beta-VAE (beta_2 < beta_1)",
        measure=_of_upper(_inception_region),
        sentence=["{lower} of {high}, among all {all_lower} of {known}; beta_2 < 1 in {below_1}"],
        verdict=_limits("lower", "high", agrees=0.75, differs=0.5, enough=("known", 10)),
        rule="models with beta_2 < beta_1 in the best tenth, or three, z_2 in use: agrees from 75 %, differs below 50 "
        "%; fewer than ten models are not tested",
    ),
    Rule(
        source="A, Section 5.5 and Fig. 5, of SVHN",
        statement="the Inception Score is mainly driven by sharpness",
        measure=_inception_driver,
        sentence=["{good:.0f} %, among all models {all:.0f} %"],
        verdict=_limits("good", agrees=60, differs=40),
        rule="share of sharpness in the variance of log IS, above its median: agrees from 60 %, differs below 40 %",
    ),
    Rule(
        source="A, Section 5.5 and Fig. 5, of SVHN",
        statement="sharpness depends mostly on R(z_2)",
        measure=_of_both(_sharpness),
        sentence=["{upper:.2f}, other {lower:.2f}", " ({settings} of {all})"],
        verdict=_mostly(0.3),
        rule="rank correlation with R(z_2) at fixed R(z_1 given z_2), and the other way round, layers in use: agrees "
        "if the first is above 0.3 and the larger, partly if above 0.3 only, else differs",
    ),
    Rule(
        source="A, Section 5.6 and Fig. 7, of SVHN and CIFAR-10",
        statement="I_q(y; z_2) depends mainly on R(z_2)",
        measure=_of_upper(_information),
        sentence=["{correlation:.2f} ({told} settings, {saturated} saturated)"],
        otherwise="labels at random were not computed",
        verdict=_limits("correlation", agrees=0.9, differs=0.5),
        rule="rank correlation, where z_2 is in use and labels at random have at most 0.1 nats: agrees from 0.9, "
        "differs below 0.5",
    ),
    Rule(
        source="A, Section 5.6 and Fig. 7, of simple data (SVHN)",
        statement="for RBF SVM and kNN on mu_2, higher R(z_2) corresponds to higher accuracy",
        measure=_of_both(partial(_gains, layer=2, probes=("rbf_svm", "knn"))),
        sentence=_CORRELATIONS,
        verdict=_all_above(0.3),
        rule=_MORE_ACCURATE,
    ),
    Rule(
        source="A, Section 5.6 and Fig. 7, of SVHN and CIFAR-10",
        statement="for linear classifiers on mu_2, increasing R(z_1 given z_2) improves the accuracy",
        measure=_of_both(partial(_gains, layer=1, probes=("logistic", "linear_svm"))),
        sentence=_CORRELATIONS,
        verdict=_all_above(0.3),
        rule=_MORE_ACCURATE_BY_Z1,
    ),
    Rule(
        source="A, Section 5.6 and Fig. 7, of complex data (CIFAR-10)",
        statement="increasing R(z_1 given z_2) improves the accuracy of all classifiers on mu_2",
        measure=_of_both(partial(_gains, layer=1, probes=PROBES)),
        sentence=_CORRELATIONS,
        verdict=_all_above(0.3),
        rule=_MORE_ACCURATE_BY_Z1,
    ),
    Rule(
        source="A, Table 1, of simple data (SVHN)",
        statement="linear classifiers do best on mu_1, RBF SVM and kNN on mu_2",
        measure=partial(_modes, on_upper=("rbf_svm", "knn")),
        sentence=[_DECIDED],
        verdict=_served_so,
        rule=_BETTER_MODE,
    ),
    Rule(
        source="A, Table 1, of complex data (CIFAR-10)",
        statement="all four classifiers do best on mu_2",
        measure=partial(_modes, on_upper=PROBES),
        sentence=[_DECIDED],
        verdict=_served_so,
        rule=_BETTER_MODE,
    ),
    Rule(
        source="A, Eq. 11",
        statement="no classifier on z_2 is more accurate than f^-1(R(z_2)): "
        "a theorem on samples of z_2, which tests the code",
        measure=_samples_above_bound,
        sentence=["{over} of {known}"],
        verdict=_limits("within", "known", agrees=0.95, differs=0.95),
        rule=_ABOVE_BOUND,
    ),
    Rule(
        source="A, Fig. 6",
        statement="accuracies on the mode mu_2, of which Eq. 11 does not speak, lie below f^-1(R) all the same",
        measure=_modes_above_bound,
        sentence=["{over} of {known}"],
        verdict=_limits("within", "known", agrees=0.95, differs=0.95),
        rule=_ABOVE_BOUND,
    ),
)


def paper_a(results: pd.DataFrame, scored: int) -> list[Finding]:
    """Paper A's findings, beside a grid of a model with two layers.

    Arguments:
        results: one row a model, as `hvae_core.load_results` returns.
        scored: how many test images the classifiers were scored on.
    """
    points = grid_means(results).assign(scored=scored)
    return _found(PAPER_A, points[np.isfinite(points["rate"])].reset_index(drop=True))


# --- Paper B: what is measured ------------------------------------------------------------------------------

STRONG, WEAK = "powerful", "weak"  # decoders, the second sign of a family's name


def _decoders(models: pd.DataFrame) -> pd.Series:
    return models["model"].str[1].map({"+": STRONG, "-": WEAK})


def _on_omniglot(models: pd.DataFrame) -> bool:
    return bool((models["dataset"] == "omniglot").all())


def _not_on_omniglot(models: pd.DataFrame) -> bool:
    return not _on_omniglot(models)


def _collapse(models: pd.DataFrame) -> Numbers:
    """How many models with a powerful decoder have no rate from beta 1 on, and have some below."""
    strong = models[_decoders(models) == STRONG]
    high, low = strong[strong["beta_1"] >= 1], strong[strong["beta_1"] < 1]
    lost, kept = int((high["rate"] < 0.5).sum()), int((low["rate"] >= 0.5).sum())
    fewest = min(len(high), len(low))
    share = min(lost / len(high), kept / len(low)) if fewest else float("nan")
    return {"lost": lost, "high": len(high), "kept": kept, "low": len(low), "fewest": fewest, "share": share}


def _frontier(models: pd.DataFrame) -> list[str]:
    """The decoders of the models on the frontier, by rate."""
    decoders = _decoders(models).iloc[pareto_frontier(models["rate"], models["distortion"])]
    return list(decoders)


def _strong_on_frontier(models: pd.DataFrame) -> Numbers:
    frontier = _frontier(models)
    return {"strong": frontier.count(STRONG), "frontier": len(frontier)}


def _frontier_by_rate(models: pd.DataFrame) -> Numbers:
    """The decoders at both ends of the frontier, and how many weak ones are in between."""
    frontier = _frontier(models)
    middle = frontier[1:-1]
    return {
        "frontier": len(frontier),
        "lowest": frontier[0],
        "highest": frontier[-1],
        "weak": middle.count(WEAK),
        "middle": len(middle),
    }


def _marginals(models: pd.DataFrame) -> Numbers | None:
    """How often a strong marginal lowers D + R more than a strong encoder does, with one decoder.

    Of encoders whose flow sees the image. As printed it does not, and such an encoder is the plain one with another
    marginal: two marginals would be compared.
    """
    if models.attrs.get("encoder_context") != "image":
        return None
    models = models.assign(total=models["distortion"] + models["rate"])
    total = models.pivot_table(index="beta_1", columns="model", values="total")
    wins = count = 0
    for decoder in "-+":
        for marginal in "+v":
            plain, encoder, strong = f"-{decoder}-", f"+{decoder}-", f"-{decoder}{marginal}"
            if {plain, encoder, strong} <= set(total.columns):
                pairs = total[[plain, encoder, strong]].dropna()
                gain = pairs[[encoder, strong]].sub(pairs[plain], axis=0)
                wins += int((gain[strong] < gain[encoder]).sum())
                count += len(gain)
    return {"wins": wins, "count": count}


def _weak_decoders(models: pd.DataFrame) -> Numbers | None:
    """The rate of the best model with a weak decoder, and the best D + R at much lower and higher rates."""
    weak = models[_decoders(models) == WEAK]
    if weak.empty:
        return None
    top = weak.nlargest(1, "elbo").iloc[0]
    below, above = weak[weak["rate"] < 11], weak[weak["rate"] > 44]
    return {
        "model": top["model"],
        "beta": top["beta_1"],
        "rate": top["rate"],
        "total": -top["elbo"],
        "below": -below["elbo"].max() if len(below) else None,
        "above": -above["elbo"].max() if len(above) else None,
        "betas": weak["beta_1"].nunique(),
    }


def _equal_likelihoods(models: pd.DataFrame) -> Numbers | None:
    """The rates of the models within 2 nats of the best 5-sample bound."""
    near = models[models["iwae_5"] > models["iwae_5"].max() - 2]
    if near.empty:
        return None
    lowest, highest = near["rate"].min(), near["rate"].max()
    return {"near": len(near), "models": len(models), "lowest": lowest, "highest": highest}


def _best_elbo(models: pd.DataFrame) -> Numbers:
    top = models.nlargest(1, "elbo").iloc[0]
    return {
        "elbo": top["elbo"],
        "dataset": top["dataset"],
        "model": top["model"],
        "beta": top["beta_1"],
        "rate": top["rate"],
    }


# --- Paper B: what it says ----------------------------------------------------------------------------------

PAPER_B = (
    Rule(
        source="B, Section 4 and Fig. 3",
        statement="models with a powerful decoder tend to collapse at beta >= 1 (R = 0.0004 at 1.10; with a "
        "VampPrior or annealing some keep 6 to 8 nats); a lower beta is all it takes to have rate",
        measure=_collapse,
        sentence=["{lost} of {high} at beta >= 1, {kept} of {low} at beta < 1"],
        verdict=_limits("share", agrees=0.75, differs=0.5, enough=("fewest", 3)),
        rule="R < 0.5 nats at beta >= 1, and more at beta < 1; the smaller share: "
        "agrees from 75 %, differs below 50 %; fewer than three on a side are not tested",
    ),
    Rule(
        source="B, Section 4 and Fig. 3, of Omniglot",
        statement="models with a strong decoder dominate",
        measure=_strong_on_frontier,
        sentence=["{strong} of {frontier}"],
        verdict=_limits("strong", "frontier", agrees=0.75, differs=0.5, enough=("frontier", 3)),
        rule="models on the frontier that have one: agrees from 75 %, differs below 50 %; fewer than three "
        "are not tested",
        applies=_on_omniglot,
    ),
    Rule(
        source="B, Section 4 and Fig. 3, of static binary MNIST",
        statement="strong decoders hold the frontier at the lowest and highest rates, weak ones in between",
        measure=_frontier_by_rate,
        sentence=[
            "of {frontier} models a {lowest} one at the lowest rate, a {highest} one at the highest; "
            "{weak} of {middle} in between weak"
        ],
        verdict=_strong_at_the_ends,
        rule="agrees if both ends are powerful and a weak one is in between, partly if one of the two "
        "holds, differs if none; fewer than three models are not tested",
        applies=_not_on_omniglot,
    ),
    Rule(
        source="B, Section 4 and Fig. 3",
        statement="strong marginals dominate strong encoders at most rates",
        measure=_marginals,
        sentence=["{wins} of {count}"],
        verdict=_limits("wins", "count", agrees=0.6, differs=0.4, enough=("count", 5)),
        otherwise="no context",
        rule="as printed an encoder's flow has no context, which makes it a marginal. With context, comparisons at one "
        "beta with one decoder, in which the marginal lowers D + R more than the encoder: agrees from 60 %, differs "
        "below 40 %; fewer than five are not tested",
    ),
    Rule(
        source="B, Section 4 and Fig. 3b, of static binary MNIST",
        statement="models with a weak decoder do well at about 22 nats and lose quickly away from it",
        measure=_weak_decoders,
        sentence=[
            "`{model}` at beta {beta:g}: R {rate:.1f}, D + R {total:.1f}",
            "; below 11 nats {below:.1f}",
            "; above 44 nats {above:.1f}",
        ],
        verdict=_best_between(11, 44),
        rule="agrees if the best has 11 to 44 nats (22, within a factor of 2) and beyond, on both sides, D "
        "+ R is more than 2 nats worse, partly if only the first; fewer than five betas are not tested",
        otherwise="no such model",
    ),
    Rule(
        source="B, Section 4, of static binary MNIST",
        statement="models with a 5-sample bound below 82 nats (the best ELBO is 80.2) have rates from 1e-4 "
        "to 30 nats: likelihoods do not tell them apart",
        measure=_equal_likelihoods,
        sentence=["{near} of {models} models, R from {lowest:.2g} to {highest:.3g} nats"],
        verdict=_rates_apart(10),
        rule="models within 2 nats of the best bound: agrees if their rates differ by more than tenfold, "
        "else differs; not tested where all are below 0.5 nats",
    ),
    Rule(
        source="B, Section 4 and Appendix A",
        statement="best ELBO: -80.2 nats on static binary MNIST, -90.37 on Omniglot "
        "(`++-`, beta 1 with KL annealing, R = 0.77)",
        measure=_best_elbo,
        sentence=["{elbo:.1f} nats on {dataset} (`{model}`, beta {beta:g}, R = {rate:.2f})"],
        verdict=lambda numbers: UNTESTED,
        rule="other data, width and length of training: the numbers do not compare",
    ),
)


def paper_b(results: pd.DataFrame) -> list[Finding]:
    """Paper B's findings, beside a run of its families; empty if none of its models is well."""
    models = results[results["status"] == "ok"].reset_index(drop=True)
    return [] if models.empty else _found(PAPER_B, models)


# --- Paper B: its toy model ---------------------------------------------------------------------------------


def _ends_at(results: pd.DataFrame, objective: str, spread: float, low: float, high: float) -> Numbers | None:
    """How many models of an objective end at a rate between these, from starts of this spread."""
    if "spread" not in results:  # of an earlier version: from where they started is not known
        return None
    ours = results[(results["objective"] == objective) & (results["spread"] == spread) & results["rate"].notna()]
    if ours.empty:
        return None
    well = int(((low < ours["rate"]) & (ours["rate"] < high)).sum())
    return {
        "well": well,
        "starts": len(ours),
        "first": ours["start_rate"].median(),
        "lowest": ours["rate"].min(),
        "highest": ours["rate"].max(),
    }


def _toy_rule(objective: str, rate: str, low: float, high: float) -> Rule:
    return Rule(
        source="B, Section 4 and Fig. 2",
        statement=f"{objective.replace('_', ' ')}: R = {rate} nats",
        measure={
            f"spread {spread:g}": partial(_ends_at, objective=objective, spread=spread, low=low, high=high)
            for spread in SPREADS
        },
        sentence=["{well} of {starts} starts, R from {first:.2f} to between {lowest:.4f} and {highest:.4f} nats"],
        verdict=_limits("well", "starts", agrees=1, differs=0.5),
        rule="random starts that end below 0.01 nats (ELBO) or within 0.01 of 0.5: "
        "agrees if all do, differs if less than half; initial parameters of two spreads",
        otherwise="no such model",
    )


TOY = (_toy_rule("elbo", "0.0002", -math.inf, 0.01), _toy_rule("target_rate", "0.4999", 0.49, 0.51))


def toy(results: pd.DataFrame) -> list[Finding]:
    """Paper B's toy model: the rate at which each objective ends."""
    return _found(TOY, results)
