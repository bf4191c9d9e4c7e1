"""What the papers say, and what results of ours say: a finding is a number, and a verdict by a rule that stands beside it.

A statement that a paper makes of one data set is tested on others too, and named as such. A verdict tells whether these results agree, no more: one
seed and a coarse grid settle little.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from hvae_core.config import KINDS, PROFILES, Config, load_profile
from hvae_core.errors import InputError
from hvae_core.fidelity import fidelity, optima, summary
from hvae_core.figures.files import as_markdown
from hvae_core.figures.points import (
    INCEPTION,
    PSNR,
    Metric,
    accuracy,
    best,
    betas,
    grid_means,
    is_beta_vae,
    layers,
    optimal,
)
from hvae_core.frontier import pareto_frontier
from hvae_core.names import CONDITIONED
from hvae_core.store import PROBES, load_config, load_results

AGREES, PARTLY, DIFFERS, UNTESTED = "agrees", "partly", "differs", "not tested"
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
        _own_rate, _three_optima, _baselines, _psnr_moves, _inception_place, _inception_region, _inception_driver, _information, _gain_z2, _gain_z1, _gain_z1_of_all,
    ]  # fmt: skip
    return [*(check(points) for check in checks), *(check(points, scored) for check in (_modes_simple, _modes_complex, _accuracy_bound))]


def _applications(points: pd.DataFrame) -> dict[str, Metric]:
    return {"PSNR": PSNR, "Inception Score": INCEPTION, "RBF SVM on mu_2": accuracy("mu2", "rbf_svm")}


def _optima(points: pd.DataFrame) -> dict[str, int]:
    found = {name: best(points, metric) for name, metric in _applications(points).items()}
    return {name: row for name, row in found.items() if row is not None}


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


def _three_optima(points: pd.DataFrame) -> Finding:
    optima = _optima(points)
    return Finding(
        "A, Section 5.2 and Fig. 1", "no model is optimal for all three applications", _listed_optima(points, optima),
        UNTESTED if len(optima) < 3 else {1: DIFFERS, 2: PARTLY, 3: AGREES}[len(set(optima.values()))],
        "agrees if the three optima are three models, partly if two, differs if they are one",
    )  # fmt: skip


def _baselines(points: pd.DataFrame) -> Finding:
    optima, line = _optima(points), is_beta_vae(points)
    held = [name for name, row in optima.items() if line[row]]
    corner = " (a corner of the grid is on the line)" if any((betas(points)[optima[name]] == betas(points).min()).all() for name in held) else ""
    return Finding(
        "A, Section 5.2 and Fig. 1, of SVHN", "neither the VAE nor a beta-VAE (equal betas) holds any of the three optima",
        f"{len(held)} of {len(optima)} optima lie on the line of equal betas{': ' + ', '.join(held) if held else ''}{corner}",
        UNTESTED if len(optima) < 3 or not line.any() else AGREES if not held else DIFFERS if len(held) == 3 else PARTLY, "agrees at none, partly at one or two, differs at all three",
    )  # fmt: skip


def _psnr_moves(points: pd.DataFrame) -> Finding:
    """Of each beta-VAE, whether the hull of all models (Section 5.3) has a higher PSNR at its total rate, and more rate in z_1."""
    known = points[np.isfinite(points["psnr"])].reset_index(drop=True)
    rate, lower, psnr = (known[name].to_numpy(float) for name in ("rate", "rate_1", "psnr"))
    line, hull = is_beta_vae(known), optimal(known, PSNR)
    others = rate[~line]
    compared = [i for i in np.flatnonzero(line & (rate > 1)) if (np.abs(others - rate[i]) <= 0.1 * rate[i]).any()]
    below = [i for i in compared if i not in hull]
    gaps = [np.interp(rate[i], rate[hull], psnr[hull]) - psnr[i] for i in below]
    gains = sum(np.interp(rate[i], rate[hull], lower[hull]) > lower[i] for i in below)
    by = f", by {min(gaps):.2f} to {max(gaps):.2f} dB" if gaps else ""
    return Finding(
        "A, Section 5.4 and Fig. 3, of SVHN and CIFAR-10", "beta-VAEs are suboptimal for their total rate, and PSNR is improved by trading some rate in z_2 for some in z_1",
        f"of {len(compared)} beta-VAEs above 1 nat that have another model within 10 % of their total rate, {len(below)} lie below the hull of all models{by}; in {gains} of these the hull has more rate in z_1",
        _judged(gains, len(compared), agrees=0.75, differs=0.5) if len(compared) >= 3 else UNTESTED,
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
        f"best at {_at(points, row)}, {_value(points, row, INCEPTION)}, with R(z_2) = {points['rate_2'][row]:.1f} nats, above {100 * upper:.0f} % of the models, and "
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


def _inception_region(points: pd.DataFrame) -> Finding:
    known = points[np.isfinite(points["inception_score"])].nlargest(max(3, math.ceil(0.1 * points["inception_score"].count())), "inception_score")
    low, off = int((known["beta_2"] < 1).sum()), int((known["beta_2"] < known["beta_1"]).sum())
    return Finding(
        "A, Section 5.5 and Fig. 5, of SVHN", "the Inception Score is high where beta_2 < 1, with more rate in z_2 than in a comparable beta-VAE",
        f"of the {len(known)} models with the highest scores, a tenth of all or three, {low} have beta_2 < 1 and {off} have beta_2 < beta_1",
        _judged(low, len(known), agrees=0.75, differs=0.5), "beta_2 < 1: agrees from 75 %, differs below 50 %",
    )  # fmt: skip


def _information(points: pd.DataFrame) -> Finding:
    found = _correlation(points, "mi_z2", "rate_2")
    return Finding("A, Section 5.6 and Fig. 7", "I_q(y; z_2) depends mainly on R(z_2)", f"rank correlation {found:.2f}",
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
                   "agrees if all are above 0.3, partly if some are, differs if none")  # fmt: skip


def _gain_z2(points: pd.DataFrame) -> Finding:
    where, statement = "A, Section 5.6 and Fig. 7, of simple data (SVHN)", "for RBF SVM and kNN on mu_2, higher R(z_2) corresponds to higher accuracy"
    return _gains(points, ("rbf_svm", "knn"), 2, where, statement)


def _gain_z1(points: pd.DataFrame) -> Finding:
    where, statement = "A, Section 5.6 and Fig. 7", "for linear classifiers on mu_2, increasing R(z_1 given z_2) improves the accuracy"
    return _gains(points, ("logistic", "linear_svm"), 1, where, statement)


def _gain_z1_of_all(points: pd.DataFrame) -> Finding:
    where, statement = "A, Section 5.6 and Table 1, of complex data (CIFAR-10)", "increasing R(z_1 given z_2) improves the accuracy of all classifiers on mu_2"
    return _gains(points, PROBES, 1, where, statement)


def _modes(points: pd.DataFrame, scored: int, on_upper: Sequence[str], where: str, statement: str) -> Finding:
    """Which mode serves each classifier best, over all models (Table 1)."""
    most = {(latent, probe): 100 * float(points[f"acc_{latent}_{probe}"].max()) for latent in ("mu2", "mu1") for probe in PROBES}
    well = sum((most["mu2", probe] > most["mu1", probe]) == (probe in on_upper) for probe in PROBES)
    texts = [f"{NAMES[probe]} {most['mu2', probe]:.2f} and {most['mu1', probe]:.2f}" for probe in PROBES]
    error = 100 * max(math.sqrt(max(0.0, value / 100 * (1 - value / 100)) / scored) for value in most.values())
    return Finding(where, statement, f"best on mu_2 and on mu_1, %: {'; '.join(texts)}; a standard error is at most {error:.1f} points",
                   UNTESTED if np.isnan(list(most.values())).any() else AGREES if well == len(PROBES) else PARTLY if well >= 2 else DIFFERS,
                   "by which is higher: agrees if so for all four, partly for two or three, differs for fewer")  # fmt: skip


def _modes_simple(points: pd.DataFrame, scored: int) -> Finding:
    return _modes(points, scored, ("rbf_svm", "knn"), "A, Table 1, of simple data (SVHN)", "linear classifiers do best on mu_1, RBF SVM and kNN on mu_2")


def _modes_complex(points: pd.DataFrame, scored: int) -> Finding:
    return _modes(points, scored, PROBES, "A, Table 1, of complex data (CIFAR-10)", "all four classifiers do best on mu_2")


def _accuracy_bound(points: pd.DataFrame, scored: int) -> Finding:
    bound = points["accuracy_bound_rate"].to_numpy(float)
    error = np.sqrt(np.clip(bound * (1 - bound), 1e-4, None) / scored)
    over, known = {}, {}
    for latent in ("z2", "mu2"):
        value = np.array([points[f"acc_{latent}_{probe}"].to_numpy(float) for probe in PROBES])
        known[latent] = int(np.isfinite(value).sum())
        over[latent] = int((value > bound + 2 * error).sum())
    return Finding(
        "A, Eq. 11 and Fig. 6", "no classifier on z_2 is more accurate than f^-1(R(z_2))",
        f"on sampled z_2 {over['z2']} of {known['z2']} accuracies (four classifiers) lie more than two standard errors above it; on the mode mu_2, which the paper uses and of which "
        f"the bound does not speak, {over['mu2']} of {known['mu2']}",
        _judged(known["z2"] - over["z2"], known["z2"], agrees=0.95, differs=0.95), "agrees if at most 5 % of those on sampled z_2 do",
    )  # fmt: skip


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
    lowest = models.nlargest(1, "elbo").iloc[0]
    mnist = "of static binary MNIST"
    return [
        Finding(
            "B, Section 4 and Fig. 3", "models with a powerful decoder tend to collapse at beta >= 1 (R = 0.0004 at 1.10; with a VampPrior or annealing some keep 6 to 8 nats); a lower beta is all it takes to have rate",
            f"{lost} of {len(high)} models with a powerful decoder have R < 0.5 nats at beta >= 1; {kept} of {len(low)} have more at beta < 1",
            UNTESTED if math.isnan(both) else AGREES if both >= 0.75 else DIFFERS if both < 0.5 else PARTLY, "the smaller of the two shares: agrees from 75 %, differs below 50 %",
        ),
        Finding(
            f"B, Section 4 and Fig. 3, {mnist}", "strong decoders hold the frontier at the lowest and highest rates, weak ones in between (on Omniglot: strong decoders dominate)",
            f"of the {len(frontier)} models on the frontier, the one with the lowest rate has a {_kind(ends[0])} decoder, the one with the highest a {_kind(ends[1])} one, "
            f"and {middle.count('-')} of the {len(middle)} in between a weak one",
            UNTESTED if len(frontier) < 3 else AGREES if ends == ["+", "+"] and "-" in middle else PARTLY if ends == ["+", "+"] or "-" in middle else DIFFERS,
            "agrees if both ends are powerful and a weak one is in between, partly if one of the two holds, differs if none",
        ),
        Finding(
            "B, Section 4 and Fig. 3", "strong marginals dominate strong encoders at most rates",
            f"beside the family with neither, D + R falls more by the marginal than by the encoder in {wins} of {count} comparisons (at one beta, with one decoder)",
            _judged(wins, count, agrees=0.6, differs=0.4), "agrees from 60 %, differs below 40 %",
        ),
        Finding(
            f"B, Section 4 and Fig. 3b, {mnist}", "models with a weak decoder do well at about 22 nats and lose quickly away from it",
            "no such model" if top is None else f"the best of them (`{top['model']}`, beta {top['beta_1']:g}) has R = {top['rate']:.1f} nats and D + R = {-top['elbo']:.1f}",
            UNTESTED if top is None else AGREES if 11 <= top["rate"] <= 44 else DIFFERS, "agrees if the best lies within a factor of 2 of 22 nats",
        ),
        Finding(
            f"B, Section 4, {mnist}", "models with a 5-sample bound below 82 nats (the best ELBO is 80.2) have rates from 1e-4 to 30 nats: likelihoods do not tell them apart",
            f"{len(near)} of {len(models)} models are within 2 nats of the best 5-sample bound, with rates from {near['rate'].min():.2g} to {near['rate'].max():.3g} nats" if len(near) else "not computed",
            UNTESTED if len(near) < 2 else AGREES if span > 10 else DIFFERS, "agrees if the rates differ by more than tenfold",
        ),
        Finding(
            "B, Section 4 and Appendix A", "best ELBO: -80.2 nats on static binary MNIST, -90.37 on Omniglot (`++-`, beta 1 with KL annealing, R = 0.77)",
            f"{lowest['elbo']:.1f} nats on {lowest['dataset']} (`{lowest['model']}`, beta {lowest['beta_1']:g}, R = {lowest['rate']:.2f})",
            UNTESTED, "other data, width and length of training: the numbers do not compare",
        ),
    ]  # fmt: skip


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
        found.append(Finding("B, Section 3 and Fig. 2", f"{objective.replace('_', ' ')}: R = {paper} nats", text, _judged(well, len(rate), agrees=1, differs=0.5),
                             "right is below 0.01 nats (ELBO), or within 0.01 of 0.5; agrees if all starts are, differs if less than half"))  # fmt: skip
    return found


# --- published runs and the page --------------------------------------------------------------------------------


class Published(NamedTuple):
    """A published run: what it is, what came out, and what made it."""

    config: Config
    results: pd.DataFrame
    data: dict[str, Any]
    parts: dict[str, dict[str, Any]]  # name of the run that was made -> its provenance


def published(root: Path) -> dict[str, Published]:
    """All published runs, by name.

    Raises:
        InputError: when there are none.
    """
    found = {}
    for path in sorted((root / "runs").glob("*/provenance.json")):
        folder = path.parent
        about = json.loads(path.read_text())
        classifier = folder / "tables" / "classifier.json"
        if classifier.exists():
            about["classifier"] = json.loads(classifier.read_text())
        data = json.loads((folder / "data.json").read_text()) if (folder / "data.json").exists() else {}
        found[folder.name] = Published(load_config(folder), load_results(folder), data, about.get("parts") or {folder.name: about})
    if not found:
        raise InputError(f"nothing is published in {root}; python -m hvae_core.publish RUN does that")
    return found


class Deviation(NamedTuple):
    """A conditioned network beside a grid of models that were trained one by one.

    Attributes:
        network, grid: names of the published runs.
        terms: how far L and the metrics are apart at equal betas, `hvae_core.fidelity.summary`.
        optima: where each metric is best, `hvae_core.fidelity.optima`.
    """

    network: str
    grid: str
    terms: pd.DataFrame
    optima: pd.DataFrame


def deviations(runs: Mapping[str, Published]) -> list[Deviation]:
    """Each conditioned network beside each grid of its model on the same data that shares betas with it."""
    found = []
    for name, run in runs.items():
        for other, grid in runs.items():
            if grid.config.model != CONDITIONED.get(str(run.config.model)) or grid.data["fingerprint"] != run.data["fingerprint"]:
                continue
            try:
                table = fidelity(run.results, grid.results)
            except InputError:  # no betas in common
                continue
            found.append(Deviation(name, other, summary(table), optima(run.results, grid.results)))
    return found


def runs_table(runs: Mapping[str, Published]) -> pd.DataFrame:
    """One row a run that was made: command, commits, device, times and data set, as its provenance has them.

    Times are of notebooks; two at once on two cores count twice.
    """
    rows = []
    for name, run in runs.items():
        data = run.data
        for made, about in run.parts.items():
            stages = about["stages"]
            training = sum(stage["wall_time_s"] for job, stage in stages.items() if job.startswith(("10_train", "70_toy")))
            others = sum(stage["wall_time_s"] for stage in stages.values()) - training
            commits = sorted({(stage["commit"] or "")[:10] for stage in stages.values()})
            rows.append({
                "published": name, "made as": made,
                "data": f"{data['name']}, {data['train_images']:,} + {data['test_images']:,} images, sha256 {data['fingerprint'][:12]}…" if data else run.config.dataset,
                "command": f"`{about['command']}`", "commits": " ".join(commits), "device": f"{about['device']}, {about['cores']} cores",
                "training, notebook-minutes": round(training / 60, 1), "evaluation and figures": round(others / 60, 1),
                "classifier behind IS, %": round(100 * about["classifier"]["test_accuracy"], 2) if about.get("classifier") else "",
            })  # fmt: skip
    return pd.DataFrame(rows)


def findings_table(found: Sequence[Finding]) -> pd.DataFrame:
    """Findings as a table, a row each."""
    return pd.DataFrame(found, columns=["where", "the paper", "ours", "verdict", "rule"])


def about(run: Published) -> str:
    """What a published run is, in a line: model, data, how many models are there of how many its profile has, and epochs."""
    well = int((run.results["status"] == "ok").sum())
    data = run.data.get("name", run.config.dataset)
    profile = PROFILES / f"{run.config.name}.yaml"
    count = max(len(run.results), len(load_profile(run.config.name).members()) if profile.exists() else 0)
    if run.config.kind is KINDS["conditioned"]:
        return f"one {run.config.models[0]} on {data}, looked at in {well} points, {run.config.epochs} epochs"
    models = run.config.models[0] if len(run.config.models) == 1 else f"{len(run.config.models)} families"
    there = f"{well} models" if well == count else f"{well} of {count} models"
    return f"{models} on {data}, {there}, {run.config.epochs} epochs"


def verdicts(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The verdicts alone: one row a statement, one column a run."""
    columns = {name: table.set_index(["where", "the paper"])["verdict"] for name, table in tables.items()}
    return pd.DataFrame(columns).fillna("").reset_index()


# The best accuracies of Paper A's GHVAEs, %, in the order of `PROBES`.
PAPER_TABLE_1: dict[tuple[str, str], tuple[float, ...]] = {
    ("SVHN, the paper", "mu_2"): (28.43, 27.87, 77.60, 64.25), ("SVHN, the paper", "mu_1"): (45.77, 49.81, 59.28, 56.49),
    ("CIFAR-10, the paper", "mu_2"): (47.36, 46.95, 53.15, 44.20), ("CIFAR-10, the paper", "mu_1"): (43.27, 42.55, 45.60, 39.25),
}  # fmt: skip


# What the name of a data set does not say.
ABOUT_DATA = {
    "cifar10-jpeg": "all 60,000 images of CIFAR-10 as JPEG files, which are on average 30.5 dB (PSNR) from the exact images of the official data set: it is not the paper's CIFAR-10",
}  # fmt: skip


def classifiers(runs: Mapping[str, Published]) -> str:
    """Which classifiers are behind the Inception Scores of some runs: each run has its own, so that scores compare as far as these do."""
    rights = {
        name: sorted(about["classifier"]["test_accuracy"] for about in run.parts.values() if about.get("classifier"))
        for name, run in runs.items()
    }
    said = [f"{', '.join(f'{100 * right:.2f}' for right in right_ones)} % of test images right ({name})" for name, right_ones in rights.items() if right_ones]
    return f"Inception Scores are by classifiers of their own: {'; '.join(said)}." if said else ""


def data_notes(runs: Mapping[str, Published]) -> str:
    """A line for each published data set that its name does not describe."""
    names = sorted({str(run.data.get("name")) for run in runs.values()} & ABOUT_DATA.keys())
    return "\n".join(f"`{name}`: {ABOUT_DATA[name]}." for name in names)


def table_1(grids: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The best accuracy over all models, %, of each classifier on mu_2 and mu_1, beside Table 1 of Paper A."""
    rows = {**PAPER_TABLE_1}
    for name, results in grids.items():
        points = grid_means(results)
        for n in (2, 1):
            rows[name, f"mu_{n}"] = tuple(round(100 * float(points[f"acc_mu{n}_{probe}"].max()), 2) for probe in PROBES)
    return pd.DataFrame([[*key, *row] for key, row in rows.items()], columns=["", "latent", *NAMES.values()])


def untested() -> pd.DataFrame:
    """What of the papers cannot be tested with the data and machines at hand, the command for who can, and its projected cost.

    The projection is the number of model-steps (one model, one batch) by the rates that `benchmarks/README.md` has: for two CPU cores 48.0 a second at
    28x28, 14.9 at 32x32, 20.4 there with ``precision=bfloat16``; for one H200 5,471 at 28x28, and at 32x32 5,420 in bfloat16
    (81 and 121 models, batches of 128).
    """
    days, hours, gpu = "projected training on 2 CPU cores", "on an H200", "a GPU was at hand for a quarter of an hour"
    svhn = "these data could not be had: 288 of the images, on which the loader is tested"
    lines: list[tuple[str, str, str, str, int, float]] = [
        ("A, Figs. 1, 3-7 (SVHN)", "all of the above on SVHN; the classifier behind the Inception Score is right on 95.02 %", "svhn-ghvae", svhn, 73_257, 14.9),
        ("A, Fig. 9 (SVHN, LVAE)", "as in Fig. 8, for the LVAE", "svhn-lvae", svhn + "; projected at the GHVAE's speeds", 73_257, 14.9),
        ("A, Table 1 and Section 5.6 (CIFAR-10)", "on complex data increasing R(z_1 given z_2) improves all classifiers", "cifar10-ghvae", "exact images were 6,102; of all there were JPEGs", 50_000, 14.9),
        ("A, Section 5.1 (MNIST)", "441 models; about 2 hours each on an RTX 2080 Ti, 27 hours a grid on 32 GPUs", "mnist-ghvae", gpu + "; a smaller grid is above", 60_000, 48.0),
    ]
    rows = []
    for where, statement, profile, why, images, speed in lines:
        steps = 441 * 200 * -(-images // 256)
        rows.append({"where": where, "the paper": statement, "why not": why, "command": f"`./run_all.sh {profile}`",
                     days: f"{steps / speed / 86400:.0f} days ({steps / 1e6:.1f} million model-steps)",
                     hours: f"{steps / 5471 / 3600:.1f} hours" if speed == 48.0 else f"{steps / 5420 / 3600:.1f} hours in bfloat16"})  # fmt: skip
    rows += [
        {"where": "B, Section 4 (static binary MNIST)", "the paper": "best ELBO -80.2; `-+v` at beta 1.10: R 0.0004, D 80.6; 1.0: 6.2, 74.1; 0.15: 120.3, 8.1; 0.05: 156, 4.8",
         "why not": gpu + ", and the files of the fixed binarisation were not at hand", "command": "`./run_all.sh rd-mnist`", days: "not measured", hours: "not measured"},
        {"where": "B, Appendix A (Omniglot)", "the paper": "best ELBO -90.37, `++-` at beta 1 with KL annealing: R 0.77, D 89.60", "why not": gpu + ", and of the drawings the small splits, on which four families are above", "command": "`./run_all.sh rd-omniglot`", days: "not measured", hours: "not measured"},
    ]  # fmt: skip
    return pd.DataFrame(rows)


def page(parts: Sequence[str | pd.DataFrame]) -> str:
    """Markdown of texts and tables, in their order; empty texts are left out."""
    texts = [part.strip() if isinstance(part, str) else as_markdown(part).strip() for part in parts]
    return "\n\n".join(text for text in texts if text) + "\n"
