"""What Paper A says beside a grid of a model with two layers, as rules; see `findings`."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from hvae_core.analysis.control import is_saturated
from hvae_core.analysis.optimum import bests_differ, optimum
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
    known_together,
)
from hvae_core.claims.findings import (
    AGREES,
    DIFFERS,
    FEW,
    NOT_SETTLED,
    PARTLY,
    UNTESTED,
    Each,
    Finding,
    Measure,
    Numbers,
    Rule,
    judge,
    limits,
)
from hvae_core.evaluation.bounds import accuracy_bound
from hvae_core.names import PROBES

EMPTY = (0.01, 0.1)  # nats: rates up to which a layer counts as empty; each rule is asked with both
ENOUGH = 10  # settings that a verdict takes, once those that say nothing are left out
CLASSES = 10  # of Paper A's data sets
APPLICATIONS: dict[str, Metric] = {
    "PSNR": PSNR,
    "Inception Score": INCEPTION,
    "RBF SVM on mu_2": accuracy("mu2", "rbf_svm"),
}


# --- verdicts -----------------------------------------------------------------------------------------------


def _no_common_optimum(numbers: Numbers) -> str:
    if numbers["known"] < len(APPLICATIONS):
        return UNTESTED
    if not numbers["in_all"]:
        return AGREES
    return DIFFERS if numbers["in_any"] == 1 else NOT_SETTLED


def _no_optimum_on_the_line(numbers: Numbers) -> str:
    if numbers["known"] < len(APPLICATIONS) or not numbers["baselines"]:
        return UNTESTED
    if numbers["open"]:
        return NOT_SETTLED
    return DIFFERS if numbers["count"] == len(APPLICATIONS) else PARTLY if numbers["count"] else AGREES


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
        return NOT_SETTLED
    return AGREES if well >= 3 and not ill else DIFFERS if ill > well else PARTLY


# --- controls -----------------------------------------------------------------------------------------------


def _without_empty(measure: Measure, known: str, *layers: int, least: float) -> Measure:
    """A measure of the settings in which none of these layers is empty: each has a rate above so many nats.

    ``known`` is a column that it takes; where that was not computed a setting does not count.
    """

    def measured(points: pd.DataFrame) -> Numbers | None:
        of = points[points[known].notna()] if known in points else points.iloc[:0]
        used = np.logical_and.reduce([of[f"rate_{n}"].to_numpy(float) > least for n in layers])
        kept = of.loc[used].reset_index(drop=True)
        if len(kept) < ENOUGH:
            return {FEW: len(kept)} if len(of) else None
        numbers = measure(kept)
        return numbers and {**numbers, "settings": len(kept), "all": len(of)}

    return measured


def _of_upper(measure: Measure, known: str) -> Mapping[str, Measure]:
    """What is asked about z_2, with two limits of what is empty."""
    return {f"R_2 > {least:g}": _without_empty(measure, known, 2, least=least) for least in EMPTY}


def _of_both(measure: Measure, known: str) -> Mapping[str, Measure]:
    """What is asked about one layer of z_2 at a fixed rate of the other: z_2 alone in use, then both."""
    both = {f"both > {least:g}": _without_empty(measure, known, 2, 1, least=least) for least in EMPTY}
    return {**_of_upper(measure, known), **both}


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


def _at(points: pd.DataFrame, row: int) -> str:
    return "(" + ", ".join(f"{beta:.4g}" for beta in betas(points)[row]) + ")"


def _value(points: pd.DataFrame, row: int, name: str) -> str:
    metric = APPLICATIONS[name]
    return f"{metric.factor * points[metric.column][row]:.4g} {metric.unit}".strip()


def _own_rate(points: pd.DataFrame, least: float) -> Numbers:
    """In how many steps along a beta the rate of its layer falls."""
    lowered, steps, empty = 0, 0, 0
    for n in range(count_layers(points), 0, -1):
        others = [f"beta_{m}" for m in range(1, count_layers(points) + 1) if m != n]
        for _, line in points.sort_values(f"beta_{n}").groupby(others):
            rate = line[f"rate_{n}"].to_numpy(float)
            there = np.maximum(rate[1:], rate[:-1]) > least  # an empty layer has nothing to lose
            lowered += int((np.diff(rate) < 0)[there].sum())
            steps += int(there.sum())
            empty += int((~there).sum())
    return {"lowered": lowered, "steps": steps, "empty": empty or None}


def _seeds_known(points: pd.DataFrame) -> bool:
    """Whether some setting was trained with several seeds, so that their spread is known."""
    return bool((points["seeds"] > 1).any())


def _three_optima(points: pd.DataFrame) -> Numbers | None:
    """Where the applications are best, and how many settings may be."""
    points = _common(points)
    best_rows = _optima(points)
    if not best_rows:
        return None
    sets = {name: optimum(points, APPLICATIONS[name]) for name in best_rows}
    in_all = int(np.logical_and.reduce(list(sets.values())).sum())
    found = [
        {
            "name": name,
            "value": _value(points, row, name),
            "betas": _at(points, row),
            "may_be": int(sets[name].sum()),
        }
        for name, row in best_rows.items()
    ]
    return {
        "optima": found,
        "counted": found if _seeds_known(points) else [],
        "known": len(best_rows),
        "in_all": in_all,
        "in_any": int(np.logical_or.reduce(list(sets.values())).sum()),
        "said": in_all if _seeds_known(points) else None,
        "one_seed": None if _seeds_known(points) else "one seed",
    }


def _baselines(points: pd.DataFrame) -> Numbers:
    """Which optima lie on the line of equal betas, which may, and how good its models are at the others."""
    points = _common(points)
    best_rows, line = _optima(points), is_beta_vae(points)
    on_line = points.loc[line].reset_index(drop=True)
    at_most = _optima(on_line)
    sets = {name: optimum(points, APPLICATIONS[name]) for name in best_rows}
    held = [name for name, row in best_rows.items() if line[row]]
    others = [name for name in best_rows if name not in held]
    corner = [name for name in held if (betas(points)[best_rows[name]] == betas(points).min()).all()]
    undecided = [name for name, of in sets.items() if (of & line).any() and (of & ~line).any()]
    said = undecided if _seeds_known(points) else []
    compared = [
        {
            "name": name,
            "on_line": _value(on_line, at_most[name], name),
            "as_good": " (as good)" if name in said else "",
        }
        for name in others
        if name in at_most
    ]
    return {
        "known": len(best_rows),
        "baselines": int(line.sum()),
        "count": len(held),
        "held": [{"name": name, "as_good": " (others as good)" if name in said else ""} for name in held],
        "corner": len(corner) or None,
        "others": compared,
        "open": len(undecided),
        "one_seed": None if _seeds_known(points) else "one seed",
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
    empty = int((is_beta_vae(points) & ~asked).sum()) or None
    if not slopes:
        known = np.isfinite(points["psnr"]).any()
        none = {"slopes": 0, "up": 0, "down": 0, "lowest": None, "highest": None, "empty": empty}
        return none if known else None
    slope, error = np.array(slopes), np.array(errors)
    away = np.abs(slope) > np.maximum(2 * error, 1e-6)
    return {
        "slopes": len(slope),
        "up": int((away & (slope > 0)).sum()),
        "down": int((away & (slope < 0)).sum()),
        "lowest": slope.min(),
        "highest": slope.max(),
        "empty": empty,
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
        "used_2": int((upper > least).sum()),
        "used_1": int((lower > least).sum()),
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
    return None if math.isnan(good) else {"good": good, "whole": percent(known)}


def _correlation(points: pd.DataFrame, metric: str, with_: str) -> float:
    """Spearman's rank correlation; NaN where one of the columns does not vary."""
    known = points[[metric, with_]].dropna()
    varies = len(known) > 2 and known.nunique().min() > 1
    return float(np.corrcoef(known.rank(), rowvar=False)[1, 0]) if varies else float("nan")


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


def _information(points: pd.DataFrame) -> Numbers:
    """How I_q(y; z_2) is correlated with R(z_2), where labels at random have none."""
    told = points.loc[~is_saturated(points)]
    if len(told) < ENOUGH:
        return {FEW: len(told)}
    found = _correlation(told, "mi_z2", "rate_2")
    return {"correlation": found, "told": len(told), "saturated": len(points) - len(told)}


def _bounded_information(points: pd.DataFrame) -> Numbers:
    """How the lower bound on the information of z_2 on the label is correlated with R(z_2): it does not saturate."""
    return {"correlation": _correlation(points, "mi_z2_lower", "rate_2"), "told": len(points), "saturated": None}


def _gains(points: pd.DataFrame, layer: int, probes: Sequence[str]) -> Numbers:
    """How accuracies on mu_2 are correlated with the rate of a layer at a fixed rate of the other."""
    rates = f"rate_{layer}", f"rate_{3 - layer}"
    values = [_partial(points, f"acc_mu2_{probe}", *rates) for probe in probes]
    return {"values": values, "lowest": min(values), "highest": max(values)}


def _modes(points: pd.DataFrame, on_upper: Sequence[str]) -> Numbers | None:
    """Which mode serves each classifier best, over all models (Table 1).

    Arguments:
        on_upper: the classifiers that mu_2 serves best, the paper says; the others mu_1.
    """
    upper = np.array([points[f"acc_mu2_{probe}"].max() for probe in PROBES], float)
    lower = np.array([points[f"acc_mu1_{probe}"].max() for probe in PROBES], float)
    if not (np.isfinite(upper).all() and np.isfinite(lower).all()):
        return None
    decided = np.array([bests_differ(points, accuracy("mu2", probe), accuracy("mu1", probe)) for probe in PROBES])
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

_SETTINGS = " ({settings} of {all})"
_CORRELATIONS: Sequence[str | Each] = ["{lowest:.2f} to {highest:.2f}", _SETTINGS]
_DECIDED = "so in {well}, the other way in {ill}"
_ALL_ABOVE = ", layers in use (the paper: on the hull): agrees if all are above 0.3, partly if some, differs if none"
_MORE_ACCURATE = "rank correlation of the accuracy with R(z_2) at fixed R(z_1 given z_2)" + _ALL_ABOVE
_MORE_ACCURATE_BY_Z1 = "rank correlation of the accuracy with R(z_1 given z_2) at fixed R(z_2)" + _ALL_ABOVE
_BETTER_MODE = (
    "best accuracies on mu_2 and mu_1 (Table 1), decided if further apart than Tukey's range of all (5 %): "
    "agrees if three are so and none the other way, differs if more are the other way, not settled if none is"
)
_ABOVE_BOUND = "accuracies of four classifiers more than two standard errors above, z_2 in use: agrees if at most 5 %"

STATEMENTS = (
    Rule(
        source="A, Section 3.2",
        statement="a beta controls the rate of its own layer",
        measure=_limit_of_empty(_own_rate),
        sentence=["{lowered} of {steps} steps", ", {empty} left out"],
        verdict=limits("lowered", "steps", agrees=0.95, differs=0.75),
        rule="steps along a beta that lower the rate of its layer, if it has more than 0.01 and 0.1 nats: agrees "
        "from 95 %, differs below 75 %",
    ),
    Rule(
        source="A, Section 5.2 and Fig. 1, of SVHN",
        statement="no model is optimal for all three applications",
        measure=_three_optima,
        sentence=[
            Each("optima", "{name} {value} at {betas}", between=". "),
            Each("counted", "{may_be}", between=", ", before=". May be best: "),
            "; in all three {said}",
            "; {one_seed}",
        ],
        verdict=_no_common_optimum,
        rule="agrees if no setting may be the best in all three, differs if just one may be, in all, else not settled. "
        "May be: within Tukey's range of as many equal settings (5 %), by the spread over seeds and, where kept, "
        "paired test images; with one seed all may be",
    ),
    Rule(
        source="A, Section 5.2 and Fig. 1, of SVHN",
        statement="neither the VAE nor a beta-VAE (equal betas) holds any of the three optima",
        measure=_baselines,
        sentence=[
            "{count} of {known}",
            Each("held", "{name}{as_good}", between=", ", before=": "),
            "; {corner} at the lowest betas",
            Each("others", "{name} {on_line}{as_good}", between=", ", before=". Equal betas reach "),
            "; {one_seed}",
        ],
        verdict=_no_optimum_on_the_line,
        rule="optima at equal betas: agrees at none, partly at some, differs at all three; not settled if equal betas "
        "and others may be best",
    ),
    Rule(
        source="A, Section 5.4 and Fig. 3, of SVHN and CIFAR-10",
        statement="beta-VAEs are suboptimal for their total rate, "
        "and PSNR is improved by trading some rate in z_2 for some in z_1",
        measure=_limit_of_empty(_psnr_slopes),
        sentence=[
            "of {slopes} slopes {up} up, {down} down",
            ": {lowest:+.3f} to {highest:+.3f} dB",
            "; {empty} empty",
        ],
        verdict=_one_way,
        rule="change of PSNR at a beta-VAE, dB, if a nat moves from z_2 to z_1 at a fixed total rate: slopes of planes "
        "through 3 x 3 settings. Agrees if 75 % are up, differs if 75 % are down by two standard errors, else not "
        "settled; fewer than three are not tested. To first order D gains nothing: D + beta R is minimised there. "
        "[At a fixed total](target-rates.md#at-a-fixed-total-rate) digits have a flat optimum",
    ),
    Rule(
        source="A, Appendix A.2.1 and Fig. 8, of MNIST",
        statement="the best Inception Score occurs at high R(z_1 given z_2) rather than at high R(z_2)",
        measure=_limit_of_empty(_inception_place),
        sentence=[
            "{value} at {betas}, {rate_2:.1f} and {rate_1:.1f} nats, "
            "above {above_2:.0f} % of {used_2} and {above_1:.0f} % of {used_1}"
        ],
        verdict=_stands_higher(25),
        rule="settings with a lower rate, %, of those that use the layer: "
        "agrees if 25 points more for R(z_1 given z_2), differs if 25 "
        "more for R(z_2)",
    ),
    Rule(
        source="A, Section 5.5 and Fig. 5, of SVHN",
        statement="the Inception Score is high where z_2 has more rate than in a comparable beta-VAE (beta_2 < beta_1)",
        measure=_of_upper(_inception_region, "inception_score"),
        sentence=["{lower} of {high}, among all {all_lower} of {known}; beta_2 < 1 in {below_1}", _SETTINGS],
        verdict=limits("lower", "high", agrees=0.75, differs=0.5, enough=("known", 10)),
        rule="models with beta_2 < beta_1 in the best tenth, or three, z_2 in use: agrees from 75 %, differs below 50 "
        "%; fewer than ten models are not tested",
    ),
    Rule(
        source="A, Section 5.5 and Fig. 5, of SVHN",
        statement="the Inception Score is mainly driven by sharpness",
        measure=_of_both(_inception_driver, "inception_score"),
        sentence=["{good:.0f} %, among all models {whole:.0f} %", _SETTINGS],
        verdict=limits("good", agrees=60, differs=40),
        rule="share of sharpness in the variance of log IS, above its median, layers in use: agrees from 60 %, "
        "differs below 40 %; not from 0 to 100 % where sharpness and diversity work against each other",
    ),
    Rule(
        source="A, Section 5.5 and Fig. 5, of SVHN",
        statement="sharpness depends mostly on R(z_2)",
        measure=_of_both(_sharpness, "sharpness"),
        sentence=["{upper:.2f}, other {lower:.2f}", _SETTINGS],
        verdict=_mostly(0.3),
        rule="rank correlation with R(z_2) at fixed R(z_1 given z_2), and the other way round, layers in use: agrees "
        "if the first is above 0.3 and the larger, partly if above 0.3 only, else differs",
    ),
    Rule(
        source="A, Section 5.6 and Fig. 7, of SVHN and CIFAR-10",
        statement="I_q(y; z_2) depends mainly on R(z_2)",
        measure={
            **_of_upper(_information, "mi_z2_permuted"),
            **{
                f"Lower bound, {name}": measure
                for name, measure in _of_upper(_bounded_information, "mi_z2_lower").items()
            },
        },
        sentence=["{correlation:.2f} ({told} settings", ", {saturated} saturated", ")"],
        otherwise="labels at random were not computed",
        verdict=limits("correlation", agrees=0.9, differs=0.5),
        rule="rank correlation, where z_2 is in use and labels at random have at most 0.1 nats; and that of a lower "
        "bound, which does not saturate: agrees from 0.9, differs below 0.5",
    ),
    Rule(
        source="A, Section 5.6 and Fig. 7, of simple data (SVHN)",
        statement="for RBF SVM and kNN on mu_2, higher R(z_2) corresponds to higher accuracy",
        measure=_of_both(partial(_gains, layer=2, probes=("rbf_svm", "knn")), "acc_mu2_rbf_svm"),
        sentence=_CORRELATIONS,
        verdict=_all_above(0.3),
        rule=_MORE_ACCURATE,
    ),
    Rule(
        source="A, Section 5.6 and Fig. 7, of SVHN and CIFAR-10",
        statement="for linear classifiers on mu_2, increasing R(z_1 given z_2) improves the accuracy",
        measure=_of_both(partial(_gains, layer=1, probes=("logistic", "linear_svm")), "acc_mu2_linear_svm"),
        sentence=_CORRELATIONS,
        verdict=_all_above(0.3),
        rule=_MORE_ACCURATE_BY_Z1,
    ),
    Rule(
        source="A, Section 5.6 and Fig. 7, of complex data (CIFAR-10)",
        statement="increasing R(z_1 given z_2) improves the accuracy of all classifiers on mu_2",
        measure=_of_both(partial(_gains, layer=1, probes=PROBES), "acc_mu2_rbf_svm"),
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
        measure=_of_upper(_samples_above_bound, "acc_z2_rbf_svm"),
        sentence=["{over} of {known}", _SETTINGS],
        verdict=limits("within", "known", agrees=0.95, differs=0.95),
        rule=_ABOVE_BOUND,
    ),
    Rule(
        source="A, Fig. 6",
        statement="accuracies on the mode mu_2, of which Eq. 11 does not speak, lie below f^-1(R) all the same",
        measure=_of_upper(_modes_above_bound, "acc_mu2_rbf_svm"),
        sentence=["{over} of {known}", _SETTINGS],
        verdict=limits("within", "known", agrees=0.95, differs=0.95),
        rule=_ABOVE_BOUND,
    ),
)


def findings_a(results: pd.DataFrame, scored: int) -> list[Finding]:
    """Paper A's findings, beside a grid of a model with two layers.

    Arguments:
        results: one row a model, as `hvae_core.load_results` returns.
        scored: how many test images the classifiers were scored on.
    """
    points = grid_means(results).assign(scored=scored)
    points.attrs["scored"] = scored
    return judge(STATEMENTS, points[np.isfinite(points["rate"])].reset_index(drop=True))
