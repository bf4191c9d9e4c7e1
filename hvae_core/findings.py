"""What the papers say, and what results of ours say: a finding is a number, and a verdict by a rule that stands beside it.

A statement that a paper makes of one data set is tested on others too, and named as such. A verdict tells whether these results agree, no more: one
or two seeds and a coarse grid settle little.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from hvae_core.evaluation.bounds import accuracy_bound
from hvae_core.figures.points import (
    INCEPTION,
    PSNR,
    Metric,
    accuracy,
    best,
    betas,
    grid_means,
    is_beta_vae,
    known_together,
    layers,
    optimal,
)
from hvae_core.frontier import pareto_frontier
from hvae_core.store import PROBES

AGREES, PARTLY, DIFFERS, UNTESTED = "agrees", "partly", "differs", "not tested"
CLASSES = 10  # of Paper A's data sets
NAMES = dict(zip(PROBES, ("logistic regression", "linear SVM", "RBF SVM", "kNN"), strict=True))


class Finding(NamedTuple):
    """One line of the comparison.

    Attributes:
        source: where the paper says so.
        statement: the paper's statement or number.
        ours: what the results say, in numbers.
        verdict: agrees, partly, differs or not tested.
        rule: when it is which, or why it was not tested.
    """

    source: str
    statement: str
    ours: str
    verdict: str
    rule: str


def paper_a(results: pd.DataFrame, scored: int) -> list[Finding]:
    """Paper A's findings, beside a grid of a model with two layers.

    Arguments:
        results: one row a model, as `hvae_core.store.load_results` returns.
        scored: how many test images the classifiers were scored on.
    """
    points = grid_means(results)
    points = points[np.isfinite(points["rate"])].reset_index(drop=True)
    checks: list[Callable[[pd.DataFrame], Finding]] = [
        _own_rate, partial(_three_optima, scored=scored), partial(_baselines, scored=scored), _psnr_moves, _inception_place, _inception_region, _inception_driver, _sharpness,
        _information, _gain_z2, _gain_z1, _gain_z1_of_all, *(partial(check, scored=scored) for check in (_modes_simple, _modes_complex, _bound_of_samples, _bound_of_modes)),
    ]  # fmt: skip
    return [check(points) for check in checks]


def _applications(points: pd.DataFrame) -> dict[str, Metric]:
    return {"PSNR": PSNR, "Inception Score": INCEPTION, "RBF SVM on mu_2": accuracy("mu2", "rbf_svm")}


def _optima(points: pd.DataFrame) -> dict[str, int]:
    """Rows of the optima, by application."""
    found = {name: best(points, metric) for name, metric in _applications(points).items()}
    return {name: row for name, row in found.items() if row is not None}


def _common(points: pd.DataFrame) -> pd.DataFrame:
    """The models of which all three applications are known; all models if there is none."""
    known = known_together(points, _applications(points).values())
    return points.loc[known].reset_index(drop=True) if known.any() else points


def _as_good(points: pd.DataFrame, optima: dict[str, int], scored: int) -> dict[str, np.ndarray]:
    """Of each application, the models that are within two standard errors of the difference of its best one.

    With several seeds, means are compared: by the variance over seeds, pooled over the best tenth of the settings (or five), where that is more
    than what a model is measured to. PSNRs of one seed, on the same images, are told apart.
    """
    found = {}
    for name, row in optima.items():
        metric = _applications(points)[name]
        value = points[metric.column].to_numpy(float)
        variance = np.zeros_like(value)  # of two standard errors
        if metric is INCEPTION:  # a standard error of a mean over five splits is half their standard deviation
            variance = points["inception_score_std"].fillna(0).to_numpy(float) ** 2
        elif metric is not PSNR:
            variance = 4 * value * (1 - value) / scored
        over_seeds = points.nlargest(max(5, math.ceil(0.1 * len(points))), metric.column)[f"{metric.column}_sd"].pow(2).mean()
        variance = np.fmax(variance, 4 * over_seeds / points["seeds"].clip(lower=1))
        found[name] = value >= value[row] - np.sqrt(np.clip(variance + variance[row], 0, None))
    return found


def _at(points: pd.DataFrame, row: int) -> str:
    return "(" + ", ".join(f"{beta:.4g}" for beta in betas(points)[row]) + ")"


def _value(points: pd.DataFrame, row: int, metric: Metric) -> str:
    return f"{metric.factor * points[metric.column][row]:.4g} {metric.unit}".strip()


def _listed_optima(points: pd.DataFrame, optima: dict[str, int]) -> str:
    metrics = _applications(points)
    return "; ".join(f"{name} {_value(points, row, metrics[name])} at {_at(points, row)}" for name, row in optima.items())


def _own_rate(points: pd.DataFrame) -> Finding:
    lowered, steps = 0, 0
    for n in range(layers(points), 0, -1):
        others = [f"beta_{m}" for m in range(1, layers(points) + 1) if m != n]
        for _, line in points.sort_values(f"beta_{n}").groupby(others):
            rate = line[f"rate_{n}"].to_numpy(float)
            there = np.maximum(rate[1:], rate[:-1]) > 0.01  # an empty layer has nothing to lose
            lowered, steps = lowered + int((np.diff(rate) < 0)[there].sum()), steps + int(there.sum())
    return Finding(
        "A, Section 3.2", "a beta controls the rate of its own layer",
        f"raising a beta by one step of the grid lowers the rate of its layer in {lowered} of {steps} steps where the layer has more than 0.01 nats",
        _judged(lowered, steps, agrees=0.95, differs=0.75), "agrees from 95 % of the steps, differs below 75 %",
    )  # fmt: skip


def _judged(well: int, of: int, *, agrees: float, differs: float) -> str:
    """The verdict on a share: agrees from one limit on, differs below the other; without any case not tested."""
    return UNTESTED if not of else AGREES if well >= agrees * of else DIFFERS if well < differs * of else PARTLY


def _three_optima(points: pd.DataFrame, scored: int) -> Finding:
    points = _common(points)
    optima = _optima(points)
    good = _as_good(points, optima, scored)
    everywhere = np.logical_and.reduce(list(good.values())) if good else np.zeros(0, bool)
    near = "; ".join(f"{name} {int(well.sum())}" for name, well in good.items())
    return Finding(
        "A, Section 5.2 and Fig. 1, of SVHN", "no model is optimal for all three applications",
        f"{_listed_optima(points, optima)}. Settings as good as the best, but for two standard errors: {near}; all three {int(everywhere.sum())}" if good else "not computed",
        UNTESTED if len(optima) < 3 else DIFFERS if len(set(optima.values())) == 1 else PARTLY if everywhere.any() else AGREES,
        "differs if one model is the best for all three, partly if one is as good as the best within two standard errors of the difference, else agrees; errors are those of the samples (Inception Score) or the test images (accuracy), or those of means over seeds if more; of PSNRs of one seed only the best is as good",
    )  # fmt: skip


def _baselines(points: pd.DataFrame, scored: int) -> Finding:
    points = _common(points)
    optima, line = _optima(points), is_beta_vae(points)
    held = [name for name, row in optima.items() if line[row]]
    corner = " (a corner of the grid is on the line)" if any((betas(points)[optima[name]] == betas(points).min()).all() for name in held) else ""
    near = [name for name, well in _as_good(points, optima, scored).items() if name not in held and (well & line).any()]
    on_it = points.loc[line].reset_index(drop=True)
    at_most = _optima(on_it)
    others = "; ".join(
        f"{name} {_value(points, optima[name], metric)}, on the line at most {_value(on_it, at_most[name], metric)}"
        for name, metric in _applications(points).items() if name in optima.keys() & at_most.keys() and name not in held
    )  # fmt: skip
    return Finding(
        "A, Section 5.2 and Fig. 1, of SVHN", "neither the VAE nor a beta-VAE (equal betas) holds any of the three optima",
        f"{len(held)} of {len(optima)} optima lie on the line of equal betas{': ' + ', '.join(held) if held else ''}{corner}{'; ' + others if others else ''}{'; not told apart there: ' + ', '.join(near) if near else ''}",
        UNTESTED if len(optima) < 3 or not line.any() else DIFFERS if len(held) == 3 else PARTLY if held or near else AGREES,
        "differs at all three, agrees if at none and none is within two standard errors of the difference (as in the line before), else partly",
    )  # fmt: skip


def _psnr_moves(points: pd.DataFrame) -> Finding:
    """Of each beta-VAE, whether it lies below the hull of all models (Section 5.3), and what the models of the hull beside it do with their rate."""
    known = points[np.isfinite(points["psnr"])].reset_index(drop=True)
    rate, psnr = known["rate"].to_numpy(float), known["psnr"].to_numpy(float)
    share = known["rate_1"].to_numpy(float) / np.maximum(rate, 1e-9)
    line, hull = is_beta_vae(known), optimal(known, PSNR)
    on_line = np.flatnonzero(line & (rate > 1))
    compared = [i for i in on_line if (np.abs(rate[~line] - rate[i]) <= 0.1 * rate[i]).any()]
    below = [i for i in compared if i not in hull]
    gaps = [np.interp(rate[i], rate[hull], psnr[hull]) - psnr[i] for i in below]
    gains = 0
    for i in below:
        right = int(np.searchsorted(rate[hull], rate[i]))
        beside = [j for j in hull[max(0, right - 1) : right + 1] if not line[j]]
        gains += bool(beside) and all(share[j] > share[i] for j in beside)
    near = "another model, of unequal betas, within 10 % of their total rate"
    ours = f"of {len(compared)} beta-VAEs above 1 nat that have {near}, {len(below)} lie below the hull of all models"
    ours += f", by {min(gaps):.2f} to {max(gaps):.2f} dB; in {gains} of these the hull's models beside it have a larger share of their rate in z_1" if gaps else ""
    few = f"{sum(i in hull for i in on_line)} of {len(on_line)} beta-VAEs above 1 nat lie on the hull of all models, but only {len(compared)} have {near}: too coarse a grid"
    return Finding(
        "A, Section 5.4 and Fig. 3, of SVHN and CIFAR-10", "beta-VAEs are suboptimal for their total rate, and PSNR is improved by trading some rate in z_2 for some in z_1",
        "not computed" if known.empty else ours if len(compared) >= 3 else few, _judged(gains, len(compared), agrees=0.75, differs=0.5) if len(compared) >= 3 else UNTESTED,
        "share of the beta-VAEs that more rate in z_1 would improve: agrees from 75 %, differs below 50 %; with fewer than three to compare not tested",
    )  # fmt: skip


def _inception_place(points: pd.DataFrame) -> Finding:
    row = best(points, INCEPTION)
    where, statement = "A, Appendix A.2.1 and Fig. 8, of MNIST", "the best Inception Score occurs at high R(z_1 given z_2) rather than at high R(z_2)"
    if row is None:
        return Finding(where, statement, "not computed", UNTESTED, "")
    upper, lower = ((points[name] < points[name][row]).mean() for name in ("rate_2", "rate_1"))
    return Finding(
        where, statement,
        f"best at {_at(points, row)}, {_value(points, row, INCEPTION)}, with R(z_2) = {points['rate_2'][row]:.1f} nats, above {100 * upper:.0f} % of the settings, and "
        f"R(z_1 given z_2) = {points['rate_1'][row]:.1f} nats, above {100 * lower:.0f} %",
        AGREES if lower >= upper + 0.25 else DIFFERS if upper >= lower + 0.25 else PARTLY,
        "agrees if R(z_1 given z_2) stands at least 25 % of the models higher in its order than R(z_2) in its own, differs the other way round",
    )  # fmt: skip


def _correlation(points: pd.DataFrame, metric: str, with_: str) -> float:
    known = points[[metric, with_]].dropna()
    varies = len(known) > 2 and known.nunique().min() > 1
    return float(spearmanr(known[metric], known[with_]).statistic) if varies else float("nan")


def _inception_driver(points: pd.DataFrame) -> Finding:
    """IS is a product, so the variance of its logarithm is a sum: what each factor covaries with it."""
    known = points[["inception_score", "sharpness", "diversity"]].dropna().map(math.log)

    def share(of: pd.DataFrame) -> float:
        if len(of) < 3 or of["inception_score"].nunique() < 2:
            return float("nan")
        covariance = of.cov()["inception_score"]
        return float(covariance["sharpness"] / (covariance["sharpness"] + covariance["diversity"]))

    all_models, good = share(known), share(known[known["inception_score"] >= known["inception_score"].median()])
    return Finding(
        "A, Section 5.5 and Fig. 5, of SVHN", "the Inception Score is mainly driven by sharpness",
        f"sharpness makes {100 * good:.0f} % of the variance of log IS among the models above its median, {100 * all_models:.0f} % among all",
        UNTESTED if np.isnan(good) else AGREES if good > 0.6 else DIFFERS if good < 0.4 else PARTLY, "among the models above the median: agrees above 60 %, differs below 40 %",
    )  # fmt: skip


def _sharpness(points: pd.DataFrame) -> Finding:
    upper, lower = (_partial(points, "sharpness", *rates) for rates in (("rate_2", "rate_1"), ("rate_1", "rate_2")))
    return Finding(
        "A, Section 5.5 and Fig. 5, of SVHN", "sharpness depends mostly on R(z_2)",
        f"rank correlation of sharpness with R(z_2) at a fixed R(z_1 given z_2) {upper:.2f}, the other way round {lower:.2f}",
        UNTESTED if np.isnan([upper, lower]).any() else DIFFERS if upper <= 0.3 else AGREES if upper > lower else PARTLY,
        "agrees if the first is above 0.3 and the larger, partly if above 0.3 only, else differs",
    )  # fmt: skip


def _inception_region(points: pd.DataFrame) -> Finding:
    known = points[np.isfinite(points["inception_score"])]
    high = known.nlargest(max(3, math.ceil(0.1 * len(known))), "inception_score")
    more, all_more = (int((of["beta_2"] < 0.999 * of["beta_1"]).sum()) for of in (high, known))
    return Finding(
        "A, Section 5.5 and Fig. 5, of SVHN", "the Inception Score is high where z_2 has more rate than in a comparable beta-VAE (beta_2 < beta_1)",
        f"of the {len(high)} models with the highest scores (a tenth of all, or three) {more} have beta_2 < beta_1, as {all_more} of all {len(known)} have; "
        f"{int((high['beta_2'] < 1).sum())} have beta_2 < 1" if len(known) else "not computed",
        _judged(more, len(high), agrees=0.75, differs=0.5) if len(known) >= 10 else UNTESTED, "agrees from 75 %, differs below 50 %; of fewer than ten models not tested",
    )  # fmt: skip


def _information(points: pd.DataFrame) -> Finding:
    found = _correlation(points, "mi_z2", "rate_2")
    return Finding("A, Section 5.6 and Fig. 7, of SVHN and CIFAR-10", "I_q(y; z_2) depends mainly on R(z_2)", f"rank correlation {found:.2f}",
                   UNTESTED if np.isnan(found) else AGREES if found >= 0.9 else PARTLY if found >= 0.5 else DIFFERS, "agrees from 0.9, differs below 0.5")  # fmt: skip


def _partial(points: pd.DataFrame, metric: str, with_: str, given: str) -> float:
    """Rank correlation of two columns at a fixed third: what remains when both are freed of what it explains."""
    both, first, second = (_correlation(points, *pair) for pair in ((metric, with_), (metric, given), (with_, given)))
    if np.isnan([first, second]).any():
        return both  # what does not vary explains nothing
    if 1 - first**2 < 1e-9 < 1 - second**2:
        return 0.0  # the third column is all there is to the first
    rest = (1 - first**2) * (1 - second**2)
    return (both - first * second) / math.sqrt(rest) if rest > 1e-9 else float("nan")


def _gains(points: pd.DataFrame, probes: Sequence[str], layer: int, where: str, statement: str) -> Finding:
    found = [_partial(points, f"acc_mu2_{probe}", f"rate_{layer}", f"rate_{3 - layer}") for probe in probes]
    names = {2: "R(z_2)", 1: "R(z_1 given z_2)"}
    texts = [f"{NAMES[probe]} {value:.2f}" for probe, value in zip(probes, found, strict=True)]
    return Finding(where, statement, f"rank correlation of the accuracy with {names[layer]} at a fixed {names[3 - layer]}: {', '.join(texts)}",
                   UNTESTED if np.isnan(found).any() else AGREES if min(found) > 0.3 else PARTLY if max(found) > 0.3 else DIFFERS,
                   "agrees if all are above 0.3, partly if some are, differs if none; of all models, where the paper points to those of the hull")  # fmt: skip


def _gain_z2(points: pd.DataFrame) -> Finding:
    where, statement = "A, Section 5.6 and Fig. 7, of simple data (SVHN)", "for RBF SVM and kNN on mu_2, higher R(z_2) corresponds to higher accuracy"
    return _gains(points, ("rbf_svm", "knn"), 2, where, statement)


def _gain_z1(points: pd.DataFrame) -> Finding:
    where, statement = "A, Section 5.6 and Fig. 7, of SVHN and CIFAR-10", "for linear classifiers on mu_2, increasing R(z_1 given z_2) improves the accuracy"
    return _gains(points, ("logistic", "linear_svm"), 1, where, statement)


def _gain_z1_of_all(points: pd.DataFrame) -> Finding:
    where, statement = "A, Section 5.6 and Fig. 7, of complex data (CIFAR-10)", "increasing R(z_1 given z_2) improves the accuracy of all classifiers on mu_2"
    return _gains(points, PROBES, 1, where, statement)


def _modes(points: pd.DataFrame, scored: int, on_upper: Sequence[str], where: str, statement: str) -> Finding:
    """Which mode serves each classifier best, over all models (Table 1); undecided within two standard errors of the difference."""
    upper, lower = (np.array([points[f"acc_{latent}_{probe}"].max() for probe in PROBES], float) for latent in ("mu2", "mu1"))
    error = np.sqrt(np.clip(upper * (1 - upper) + lower * (1 - lower), 0, None) / scored)
    known = bool(np.isfinite(upper).all() and np.isfinite(lower).all())
    signs = np.where(known & (np.abs(upper - lower) > 2 * error), np.sign(upper - lower), 0) * [1 if probe in on_upper else -1 for probe in PROBES]
    well, ill = int((signs > 0).sum()), int((signs < 0).sum())
    texts = [f"{NAMES[probe]} {100 * one:.2f} and {100 * other:.2f}" for probe, one, other in zip(PROBES, upper, lower, strict=True)]
    return Finding(where, statement, f"best on mu_2 and on mu_1, %: {'; '.join(texts)}; so in {well}, the other way in {ill}" if known else "not computed",
                   UNTESTED if not well + ill else AGREES if well >= 3 and not ill else DIFFERS if ill > well else PARTLY,
                   "decided where apart by more than two standard errors: agrees if three are so and none the other way, differs if more are the other way; with none decided not tested")  # fmt: skip


def _modes_simple(points: pd.DataFrame, scored: int) -> Finding:
    return _modes(points, scored, ("rbf_svm", "knn"), "A, Table 1, of simple data (SVHN)", "linear classifiers do best on mu_1, RBF SVM and kNN on mu_2")


def _modes_complex(points: pd.DataFrame, scored: int) -> Finding:
    return _modes(points, scored, PROBES, "A, Table 1, of complex data (CIFAR-10)", "all four classifiers do best on mu_2")


def _below_bound(points: pd.DataFrame, scored: int, latent: str, bound: np.ndarray, where: str, statement: str, name: str) -> Finding:
    """Whether the accuracies on a latent lie more than two standard errors above a bound."""
    error = np.sqrt(np.clip(bound * (1 - bound), 1e-4, None) / scored)
    value = np.array([points[f"acc_{latent}_{probe}"].to_numpy(float) for probe in PROBES])
    over, known = int((value > bound + 2 * error).sum()), int(np.isfinite(value).sum())
    return Finding(where, statement, f"{over} of {known} accuracies (four classifiers) lie more than two standard errors above {name}",
                   _judged(known - over, known, agrees=0.95, differs=0.95), "agrees if at most 5 % do")  # fmt: skip


def _bound_of_samples(points: pd.DataFrame, scored: int) -> Finding:
    statement = "no classifier on z_2 is more accurate than f^-1(R(z_2)): a theorem on samples of z_2, which tests the code"
    return _below_bound(points, scored, "z2", points["accuracy_bound_rate"].to_numpy(float), "A, Eq. 11", statement, "f^-1(R(z_2))")


def _bound_of_modes(points: pd.DataFrame, scored: int) -> Finding:
    statement = "accuracies on the mode mu_2, of which Eq. 11 does not speak, lie below f^-1(R) all the same"
    bound = accuracy_bound(points["rate"], np.full(CLASSES, 1 / CLASSES))  # the lowest there is: with other frequencies of the labels it is higher
    return _below_bound(points, scored, "mu2", bound, "A, Fig. 6", statement, "f^-1(R)")


def paper_b(results: pd.DataFrame) -> list[Finding]:
    """Paper B's findings, beside a run of its families; empty if none of its models is well."""
    models = results[results["status"] == "ok"].reset_index(drop=True)
    if models.empty:
        return []
    strong, weak = (models[models["model"].str[1] == sign] for sign in "+-")
    high, low = strong[strong["beta_1"] >= 1], strong[strong["beta_1"] < 1]
    lost, kept = int((high["rate"] < 0.5).sum()), int((low["rate"] >= 0.5).sum())
    both = min(lost / len(high), kept / len(low)) if len(high) and len(low) else float("nan")
    total = models.assign(total=models["distortion"] + models["rate"]).pivot_table(index="beta_1", columns="model", values="total")
    compared = [(f"-{decoder}-", f"+{decoder}-", f"-{decoder}{marginal}") for decoder in "-+" for marginal in "+v"]
    pairs = [pd.DataFrame({"marginal": total[marginal] - total[plain], "encoder": total[encoder] - total[plain]}).dropna()
             for plain, encoder, marginal in compared if {plain, encoder, marginal} <= set(total.columns)]  # fmt: skip
    wins, count = sum(int((pair["marginal"] < pair["encoder"]).sum()) for pair in pairs), sum(map(len, pairs))
    near = models[models["iwae_5"] > models["iwae_5"].max() - 2]
    span = near["rate"].max() / max(near["rate"].min(), 1e-9)
    frontier = models.iloc[pareto_frontier(models["rate"], models["distortion"])]["model"].str[1].tolist()
    ends, middle = [frontier[0], frontier[-1]], frontier[1:-1]
    top = weak.nlargest(1, "elbo").iloc[0] if len(weak) else None
    sides = [weak[weak["rate"] < 11], weak[weak["rate"] > 44]]
    lowest = models.nlargest(1, "elbo").iloc[0]
    mnist = "of static binary MNIST"
    return [
        Finding(
            "B, Section 4 and Fig. 3", "models with a powerful decoder tend to collapse at beta >= 1 (R = 0.0004 at 1.10; with a VampPrior or annealing some keep 6 to 8 nats); a lower beta is all it takes to have rate",
            f"{lost} of {len(high)} models with a powerful decoder have R < 0.5 nats at beta >= 1; {kept} of {len(low)} have more at beta < 1",
            UNTESTED if min(len(high), len(low)) < 3 else AGREES if both >= 0.75 else DIFFERS if both < 0.5 else PARTLY,
            "the smaller of the two shares: agrees from 75 %, differs below 50 %; with fewer than three models on a side not tested",
        ),
        _strong_on_omniglot(frontier) if (models["dataset"] == "omniglot").all() else Finding(
            f"B, Section 4 and Fig. 3, {mnist}", "strong decoders hold the frontier at the lowest and highest rates, weak ones in between",
            f"of the {len(frontier)} models on the frontier, the one with the lowest rate has a {_kind(ends[0])} decoder, the one with the highest a {_kind(ends[1])} one, "
            f"and {middle.count('-')} of the {len(middle)} in between a weak one",
            UNTESTED if len(frontier) < 3 else AGREES if ends == ["+", "+"] and "-" in middle else PARTLY if ends == ["+", "+"] or "-" in middle else DIFFERS,
            "agrees if both ends are powerful and a weak one is in between, partly if one of the two holds, differs if none",
        ),
        Finding(
            "B, Section 4 and Fig. 3", "strong marginals dominate strong encoders at most rates",
            f"beside the family with neither, D + R falls more by the marginal than by the encoder in {wins} of {count} comparisons (at one beta, with one decoder)",
            _judged(wins, count, agrees=0.6, differs=0.4) if count >= 5 else UNTESTED, "agrees from 60 %, differs below 40 %; with fewer than five comparisons not tested",
        ),
        Finding(
            f"B, Section 4 and Fig. 3b, {mnist}", "models with a weak decoder do well at about 22 nats and lose quickly away from it",
            "no such model" if top is None else f"the best of them (`{top['model']}`, beta {top['beta_1']:g}) has R = {top['rate']:.1f} nats and D + R = {-top['elbo']:.1f}"
            + "".join(f"; {words} the lowest D + R is {-side['elbo'].max():.1f}" for words, side in zip(("below 11 nats", "above 44"), sides, strict=True) if len(side)),
            UNTESTED if top is None or weak["beta_1"].nunique() < 5 else DIFFERS if not 11 <= top["rate"] <= 44
            else AGREES if all(len(side) and top["elbo"] - side["elbo"].max() > 2 for side in sides) else PARTLY,
            "agrees if the best lies within a factor of 2 of 22 nats and beyond that, on both sides, all are more than 2 nats worse, partly if only the first; with fewer than five betas not tested",
        ),
        Finding(
            f"B, Section 4, {mnist}", "models with a 5-sample bound below 82 nats (the best ELBO is 80.2) have rates from 1e-4 to 30 nats: likelihoods do not tell them apart",
            f"{len(near)} of {len(models)} models are within 2 nats of the best 5-sample bound, with rates from {near['rate'].min():.2g} to {near['rate'].max():.3g} nats" if len(near) else "not computed",
            UNTESTED if len(near) < 2 or near["rate"].max() < 0.5 else AGREES if span > 10 else DIFFERS, "agrees if the rates differ by more than tenfold; where all are below 0.5 nats not tested",
        ),
        Finding(
            "B, Section 4 and Appendix A", "best ELBO: -80.2 nats on static binary MNIST, -90.37 on Omniglot (`++-`, beta 1 with KL annealing, R = 0.77)",
            f"{lowest['elbo']:.1f} nats on {lowest['dataset']} (`{lowest['model']}`, beta {lowest['beta_1']:g}, R = {lowest['rate']:.2f})",
            UNTESTED, "other data, width and length of training: the numbers do not compare",
        ),
    ]  # fmt: skip


def _strong_on_omniglot(frontier: Sequence[str]) -> Finding:
    strong = sum(sign == "+" for sign in frontier)
    return Finding(
        "B, Section 4 and Fig. 3, of Omniglot", "models with a strong decoder dominate",
        f"{strong} of the {len(frontier)} models on the frontier have one",
        _judged(strong, len(frontier), agrees=0.75, differs=0.5) if len(frontier) >= 3 else UNTESTED, "agrees from 75 %, differs below 50 %",
    )  # fmt: skip


def _kind(sign: str) -> str:
    return "powerful" if sign == "+" else "weak"


def toy(results: pd.DataFrame) -> list[Finding]:
    """Paper B's toy model: the rate at which each objective ends."""
    lines = [("elbo", "0.0002", lambda rate: rate < 0.01), ("target_rate", "0.4999", lambda rate: abs(rate - 0.5) < 0.01)]
    found = []
    for objective, paper, right in lines:
        rate = results.loc[results["objective"] == objective, "rate"].dropna()
        well = int(sum(right(value) for value in rate))
        text = f"{well} of {len(rate)} random starts; R from {rate.min():.4f} to {rate.max():.4f} nats" if len(rate) else "no such model"
        found.append(Finding("B, Section 4 and Fig. 2", f"{objective.replace('_', ' ')}: R = {paper} nats", text, _judged(well, len(rate), agrees=1, differs=0.5),
                             "right is below 0.01 nats (ELBO), or within 0.01 of 0.5; agrees if all starts are, differs if less than half"))  # fmt: skip
    return found
