"""Verdicts: each rule on results of which one knows what it must say."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from hvae_core.analysis.points import grid_means
from hvae_core.analysis.surface import objective_values
from hvae_core.claims import comparison, statements_a, statements_b
from hvae_core.claims.findings import AGREES, DIFFERS, FEW, NOT_SETTLED, PARTLY, UNTESTED
from hvae_core.claims.statements_a import findings_a
from hvae_core.claims.statements_b import findings_b, findings_toy
from hvae_core.evaluation.bounds import accuracy_bound
from hvae_core.names import PROBES
from hvae_core.runs.config import Config
from hvae_core.runs.results import columns

BETAS = [0.1, 10**-0.5, 1.0, 10**0.5, 10.0]


def grid(**formulas):
    """Results over a 5 x 5 grid in which the paper's statements hold; ``formulas`` replace columns."""
    rows = []
    for beta_2, beta_1 in itertools.product(BETAS, BETAS):
        rate_2, rate_1 = 25 - 20 * np.log10(beta_2), 40 - 20 * np.log10(beta_1)
        row = {
            "dataset": "digits",
            "model": "ghvae",
            "seed": 0,
            "beta_2": beta_2,
            "beta_1": beta_1,
            "epochs": 1,
            "status": "ok",
            "rate_2": rate_2,
            "rate_1": rate_1,
            "rate": rate_2 + rate_1,
            "psnr": rate_1 - 0.5 * (beta_2 == 0.1),
            "mi_z2": rate_2 / 20,
            "mi_z2_permuted": 0.0,
            "mi_z2_lower": rate_2 / 25,
            "sharpness": rate_1 / 18,
            "diversity": 2 - 0.1 * (beta_2 < 10),
            "accuracy_bound_rate": 0.9,
        }
        row |= {
            f"acc_{latent}_{probe}": 0.5 + (rate_2 if probe in ("rbf_svm", "knn") else rate_1) / 200
            for latent in ("mu2", "mu1", "z2")
            for probe in PROBES
        }
        row |= {
            "inception_score": row["sharpness"] * row["diversity"],
            "acc_mu2_rbf_svm": row["acc_mu2_rbf_svm"] + 0.04 * (beta_1 == 1),
        }
        row |= {
            f"acc_mu1_{probe}": row[f"acc_mu2_{probe}"] + (0.2 if probe in ("logistic", "linear_svm") else -0.2)
            for probe in PROBES
        }
        rows.append({**row, **{name: formula(row) for name, formula in formulas.items()}})
    return pd.DataFrame(rows).reindex(columns=columns(2))


def twice(results, spread=1e-3):
    """Two seeds, whose PSNRs differ."""
    return pd.concat(
        [results.assign(seed=seed, psnr=results["psnr"] + sign * spread) for seed, sign in enumerate((-1, 1))],
        ignore_index=True,
    )


OPTIMA = ("optimal for all three", "equal betas")  # statements on which one seed says nothing


def verdict(results, words):
    (found,) = (finding for finding in findings_a(results, scored=10_000) if words in finding.statement)
    return found.verdict


def test_where_every_statement_holds_every_verdict_agrees():
    """Save some: of simple and of complex data, of SVHN and of MNIST, the paper says opposite things."""
    found = findings_a(twice(grid()), scored=10_000)
    opposite = [
        finding
        for finding in found
        if "complex data" in finding.source
        or finding.statement.startswith(("sharpness depends", "the Inception Score is high"))
    ]
    assert [finding.verdict for finding in opposite] == [DIFFERS, DIFFERS, PARTLY, PARTLY]
    assert [finding.verdict for finding in found if finding not in opposite] == [AGREES] * 12


def test_numbers_stand_beside_the_verdicts():
    ours = [finding.ours for finding in findings_a(twice(grid()), scored=10_000)]
    assert ours[0] == "40 of 40 steps"
    assert ours[1].endswith("May be best: 4, 1, 1; in all three 0")
    assert findings_a(grid(), scored=10_000)[1].ours.endswith("at (0.1, 1); one seed")
    assert ours[2].startswith("0 of 3. Equal betas reach PSNR 59.5 dB, Inception Score ")
    assert ours[3] == "of 3 slopes 3 up, 0 down: +1.000 to +1.025 dB"
    assert ours[5] == "0 of 3, among all 10 of 25; beta_2 < 1 in 2 (25 of 25)"
    assert ours[12] == "so in 4, the other way in 0"
    assert ours[13] == "so in 2, the other way in 2"
    assert ours[8] == (
        "R_2 > 0.01, 0.1: 1.00 (25 settings, 0 saturated). Lower bound, R_2 > 0.01, 0.1: 1.00 (25 settings)"
    )
    assert ours[14] == "0 of 100 (25 of 25)"


def test_optima_at_equal_betas_are_named_and_what_equal_betas_reach():
    results = twice(grid(psnr=lambda row: -row["beta_1"] - row["beta_2"], inception_score_std=lambda row: 10.0))
    ours = findings_a(results, scored=10_000)[2].ours
    assert ours.startswith("1 of 3: PSNR; 1 at the lowest betas. Equal betas reach Inception Score ")
    assert "(as good)" in ours.partition("Inception Score")[2].partition(",")[0]
    assert "(as good)" not in ours.partition("RBF SVM")[2]
    vae = findings_a(grid(**dict.fromkeys(THREE, best_at_the_vae)), scored=10_000)[2].ours
    assert vae.startswith("3 of 3: PSNR, ") and "lowest betas" not in vae


def test_a_part_of_a_sentence_that_lacks_a_number_is_left_out():
    results = grid(psnr=lambda row: row["rate_1"] if row["beta_2"] < 10 else None, rate_2=lambda row: row["beta_1"])
    ours = findings_a(results.query("beta_1 < 1"), scored=10_000)
    assert ours[3].ours == "R > 0.01: of 0 slopes 0 up, 0 down. R > 0.1: of 0 slopes 0 up, 0 down; 1 empty"


def test_what_was_not_computed_is_said_so_and_gets_no_verdict():
    empty = grid().assign(**dict.fromkeys(("psnr", "inception_score", "sharpness", "mi_z2", "acc_mu1_knn"), np.nan))
    found = findings_a(empty, scored=10_000)
    assert {one.verdict for one in found if one.ours == "not computed"} == {UNTESTED}
    assert sum(one.ours == "not computed" for one in found) == 7
    assert [one[:2] for one in found] == [one[:2] for one in findings_a(grid(), scored=10_000)]
    diverged = findings_a(grid().assign(status="diverged"), scored=10_000)
    assert {one.verdict for one in diverged} == {UNTESTED}


THREE = ("psnr", "inception_score", "acc_mu2_rbf_svm")
LINEAR = ("acc_mu2_logistic", "acc_mu2_linear_svm")
MODES = ("mu1", "mu2")
UNSURE = {"inception_score_std": lambda row: 100.0}


def of(name):
    return lambda row: row[name]


def best_at_the_vae(row):
    return 1.0 + (row["beta_2"] == row["beta_1"] == 1)


def low(row):
    return 0.1


@pytest.mark.parametrize(
    ("words", "formulas", "expected"),
    [
        ("rate of its own layer", {"rate_2": lambda row: row["beta_2"], "rate_1": lambda row: row["beta_1"]}, DIFFERS),
        ("optimal for all three", dict.fromkeys(THREE, best_at_the_vae), DIFFERS),
        ("equal betas", dict.fromkeys(THREE, best_at_the_vae), DIFFERS),
        ("equal betas", {"psnr": lambda row: float(row["beta_2"] == row["beta_1"] == 1)}, PARTLY),
        ("PSNR is improved", {"psnr": lambda row: -row["rate_1"]}, DIFFERS),
        ("rather than at high R(z_2)", {"inception_score": lambda row: 100 + row["rate_2"] - row["rate_1"]}, DIFFERS),
        ("rather than at high R(z_2)", {"inception_score": lambda row: 1.0 + (row["beta_2"] == row["beta_1"])}, PARTLY),
        ("driven by sharpness", {"diversity": of("sharpness"), "sharpness": of("diversity")}, DIFFERS),
        ("sharpness depends", {"sharpness": lambda row: row["rate_2"] + 0.5 * row["rate_1"]}, AGREES),
        ("sharpness depends", {"sharpness": lambda row: row["rate_2"] + 2 * row["rate_1"]}, PARTLY),
        ("sharpness depends", {"sharpness": lambda row: None}, UNTESTED),
        ("mainly on R(z_2)", dict.fromkeys(("mi_z2", "mi_z2_lower"), of("rate_1")), DIFFERS),
        ("mainly on R(z_2)", {"mi_z2": of("rate_1")}, NOT_SETTLED),
        ("mainly on R(z_2)", dict.fromkeys(("mi_z2_permuted", "mi_z2_lower"), lambda row: None), UNTESTED),
        ("mainly on R(z_2)", {"mi_z2_permuted": lambda row: 0.2}, AGREES),
        ("for RBF SVM and kNN", {"acc_mu2_knn": lambda row: row["rate_1"]}, PARTLY),
        ("for linear classifiers", dict.fromkeys(LINEAR, of("rate_2")), DIFFERS),
        ("for linear classifiers", dict.fromkeys(LINEAR, lambda row: 3 * row["rate_2"] + 0.4 * row["rate_1"]), AGREES),
        (
            "optimal for all three",
            dict.fromkeys(THREE[:2], lambda row: 1.0 + (row["beta_1"] == 0.1 and row["beta_2"] == 1)),
            AGREES,
        ),
        ("optimal for all three", {"acc_mu2_rbf_svm": lambda row: row["rate_2"] / 100}, AGREES),
        ("optimal for all three", UNSURE | {"acc_mu2_rbf_svm": lambda row: 0.3 + row["rate_2"] / 10_000}, NOT_SETTLED),
        ("equal betas", UNSURE, NOT_SETTLED),
        ("more accurate than", {"accuracy_bound_rate": lambda row: 0.2}, DIFFERS),
        ("on the mode mu_2", {"acc_mu2_knn": lambda row: 1.0, "rate": lambda row: 0.5}, DIFFERS),
        ("on the mode mu_2", {"acc_mu2_knn": lambda row: 1.0}, AGREES),
        (
            "PSNR is improved",
            {"psnr": lambda row: row["rate_1"] * (1 if row["beta_2"] * row["beta_1"] < 1.1 else -1)},
            NOT_SETTLED,
        ),
        ("for linear classifiers", {"acc_mu2_logistic": lambda row: 0.1}, UNTESTED),
        ("(beta_2 < beta_1)", {"inception_score": lambda row: 10 + row["rate_2"] - 0.1 * row["rate_1"]}, AGREES),
        ("(beta_2 < beta_1)", {"inception_score": lambda row: row["beta_2"]}, DIFFERS),
        ("(beta_2 < beta_1)", {"inception_score": lambda row: None}, UNTESTED),
        ("classifiers do best on mu_1", {f"acc_mu1_{probe}": lambda row: 0.99 for probe in PROBES}, PARTLY),
        (
            "classifiers do best on mu_1",
            {"acc_mu1_logistic": low, "acc_mu1_linear_svm": low, "acc_mu1_knn": lambda row: 0.99},
            DIFFERS,
        ),
        (
            "classifiers do best on mu_1",
            {f"acc_{mode}_{probe}": lambda row: 0.9 for mode in MODES for probe in PROBES},
            NOT_SETTLED,
        ),
        ("classifiers do best on mu_1", {"acc_mu1_knn": lambda row: None}, UNTESTED),
        ("all four classifiers do best", {f"acc_mu1_{probe}": lambda row: 0.1 for probe in PROBES}, AGREES),
        ("all four classifiers do best", {f"acc_mu1_{probe}": lambda row: 0.9 for probe in PROBES}, DIFFERS),
        ("of all classifiers", {f"acc_mu2_{probe}": lambda row: row["rate_1"] for probe in PROBES}, AGREES),
        ("of all classifiers", {f"acc_mu2_{probe}": lambda row: row["rate_2"] for probe in PROBES}, DIFFERS),
        ("for RBF SVM and kNN", {"rate_1": lambda row: 5.0}, AGREES),
        ("rate of its own layer", {"rate_1": lambda row: 0.0003, "rate_2": lambda row: 0.0}, UNTESTED),
        ("rate of its own layer", {"rate_1": lambda row: 0.0003, "rate_2": lambda row: 25.0}, DIFFERS),
        ("PSNR is improved", {"psnr": lambda row: None}, UNTESTED),
        (
            "PSNR is improved",
            {"psnr": lambda row: row["rate"] + row["rate_1"] / 10},
            AGREES,
        ),
        ("PSNR is improved", {"psnr": of("rate")}, NOT_SETTLED),
        ("PSNR is improved", {"rate_1": lambda row: 1e-3}, UNTESTED),
        ("more accurate than", {f"acc_z2_{probe}": lambda row: None for probe in PROBES}, UNTESTED),
        ("equal betas", {"beta_1": lambda row: 2 * row["beta_1"]}, UNTESTED),
        ("optimal for all three", {"inception_score": lambda row: None}, UNTESTED),
    ],
)
def test_where_a_statement_fails_its_verdict_says_so(words, formulas, expected):
    assert verdict(twice(grid(**formulas)), words) == expected
    if words in OPTIMA and expected != UNTESTED:
        assert verdict(grid(**formulas), words) == NOT_SETTLED, "how far another seed would move it is not known"


def a_third_empty(**formulas):
    """9 x 9 settings: where beta_2 is highest z_2 is empty, and its mode an artefact that classifiers like."""
    rows = []
    for place_2, place_1 in itertools.product(range(9), range(9)):
        rate_2, rate_1 = (40 - 5 * place_2 if place_2 < 6 else 1e-3), 45.0 - 5 * place_1
        row = {"beta_2": 1.5**place_2, "beta_1": 1.5**place_1, "rate_2": rate_2, "rate_1": rate_1}
        row |= {"rate": rate_2 + rate_1, "seed": 0, "status": "ok", "model": "ghvae", "dataset": "cifar10"}
        # With z_2 in use accuracies gain from R(z_1|z_2); without, they are higher the less there is of it.
        accuracy = 0.5 + rate_1 / 200 if place_2 < 6 else 0.9 - rate_1 / 60
        row |= {f"acc_{latent}_{probe}": accuracy for latent in ("mu2", "mu1", "z2") for probe in PROBES}
        rows.append({**row, **{name: formula(row) for name, formula in formulas.items()}})
    return pd.DataFrame(rows).reindex(columns=columns(2))


def test_empty_layers_do_not_decide_rank_correlations():
    words = "for linear classifiers on mu_2"
    results = a_third_empty()
    assert statements_a._gains(results, 1, ("logistic",))["values"][0] < 0.3, "with the empty ones"
    assert verdict(results, words) == AGREES
    (found,) = (one for one in findings_a(results, 100) if words in one.statement)
    assert "(54 of 81)" in found.ours


def in_use(formula, otherwise):
    """One formula where z_2 is in use, another where it is empty."""
    return lambda row: (formula if row["rate_2"] > 1 else otherwise)(row)


HIGH = ("inception_score", "sharpness", "diversity")
OF_EMPTY = {  # what holds where z_2 is in use, and something else where it is empty
    "rate of its own layer": (
        {"rate_2": lambda row: row["rate_2"] + (row["rate_2"] < 1) * row["beta_2"] / 1e4},
        AGREES,
    ),
    "rather than at high R(z_2)": (
        {"inception_score": lambda row: 1.0 + (row["rate_2"] == 15 and row["rate_1"] == 25)},
        AGREES,
    ),
    "(beta_2 < beta_1)": (
        {
            "inception_score": in_use(
                lambda row: 10 + row["rate_2"] - 0.1 * row["rate_1"], lambda row: 1000 + row["rate_1"]
            )
        },
        AGREES,
    ),
    "driven by sharpness": (
        {
            "sharpness": in_use(lambda row: row["rate_1"], lambda row: 45.0),
            "diversity": in_use(lambda row: 2.0, lambda row: 2 + row["rate_1"]),
            "inception_score": in_use(lambda row: 2 * row["rate_1"], lambda row: 45 * (2 + row["rate_1"])),
        },
        AGREES,
    ),
    "sharpness depends": (
        {"sharpness": in_use(lambda row: row["rate_2"] + row["rate_1"] / 2, lambda row: 200 - row["rate_1"])},
        AGREES,
    ),
    "mainly on R(z_2)": (
        {
            "mi_z2": in_use(lambda row: row["rate_2"] / 20, lambda row: 2.3),
            "mi_z2_lower": in_use(lambda row: row["rate_2"] / 25, lambda row: 2.3),
            "mi_z2_permuted": lambda row: 0.0,
        },
        AGREES,
    ),
    "for RBF SVM and kNN": (
        dict.fromkeys(
            ("acc_mu2_rbf_svm", "acc_mu2_knn"), in_use(lambda row: 0.3 + row["rate_2"] / 100, lambda row: 0.9)
        ),
        AGREES,
    ),
    "for linear classifiers": ({}, AGREES),
    "of all classifiers": ({}, AGREES),
    "more accurate than": (
        {
            "accuracy_bound_rate": lambda row: 0.8,
            **{f"acc_z2_{probe}": in_use(lambda row: 0.7, lambda row: 0.9) for probe in PROBES},
        },
        AGREES,
    ),
    "on the mode mu_2": (
        {
            "rate": in_use(lambda row: row["rate"], lambda row: 0.2),
            **{f"acc_mu2_{probe}": lambda row: 0.9 for probe in PROBES},
        },
        AGREES,
    ),
}


def rule_of(words):
    (rule,) = (rule for rule in statements_a.STATEMENTS if words in rule.statement)
    return rule


@pytest.mark.parametrize("words", OF_EMPTY)
def test_no_verdict_is_that_of_empty_layers(words, monkeypatch):
    """Each of these rules says otherwise once no layer counts as empty, and names how many settings are left."""
    formulas, expected = OF_EMPTY[words]
    results = a_third_empty(**formulas)
    assert verdict(results, words) == expected
    rule = rule_of(words)
    found = {name: measure(grid_means(results).assign(scored=10_000)) for name, measure in rule.measure.items()}
    assert len(found) >= 2, "two limits"
    uncontrolled = grid_means(results).assign(scored=10_000)
    for n in (1, 2):  # nothing is empty: the rates that a control looks at are high, their order is the same
        uncontrolled[f"rate_{n}"] += 1
    assert {rule.verdict(measure(uncontrolled)) for measure in rule.measure.values()} != {expected}


@pytest.mark.parametrize("words", [*OF_EMPTY, "PSNR is improved"])
def test_each_rule_is_shown_at_both_limits(words):
    """A third of the settings has 0.05 nats in z_2: empty by one limit and not by the other."""
    formulas, _ = OF_EMPTY.get(words, ({"psnr": lambda row: row["rate_1"] + row["beta_2"]}, None))
    results = a_third_empty(**formulas).assign(rate_2=lambda table: table["rate_2"].where(table["rate_2"] > 1, 0.05))
    (found,) = (one for one in findings_a(results, 100) if words in one.statement)
    assert "> 0.01" in found.ours and ("> 0.1" in found.ours or "> 0.01, 0.1" in found.ours)


def test_where_limits_of_what_is_empty_disagree_nothing_is_settled():
    """A third of the settings has 0.05 nats: empty by one limit and not by the other."""
    results = a_third_empty().assign(rate_2=lambda table: table["rate_2"].where(table["rate_2"] > 1, 0.05))
    assert verdict(results, "for linear classifiers on mu_2") == NOT_SETTLED


def test_a_layer_below_that_is_empty_is_a_control_as_well():
    """Accuracies fall with R(z_1|z_2), but jump where it is empty: seen only without those."""

    def accuracy(row):
        return 0.6 - row["rate_1"] / 200 - 0.5 * (row["rate_1"] <= 15)

    linear = dict.fromkeys(LINEAR, accuracy)
    empty = a_third_empty(rate_2=lambda row: 40 - 5 * np.log(row["beta_2"]), **linear)
    empty["rate_1"] = empty["rate_1"].where(empty["rate_1"] > 15, 1e-3)
    assert verdict(empty, "for linear classifiers on mu_2") == NOT_SETTLED


def test_the_slope_at_a_fixed_rate_is_that_of_the_plane_and_its_error_that_of_the_noise():
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(200):
        noisy = grid(psnr=lambda row: 0.3 * row["rate"] + 0.02 * row["rate_1"] + rng.normal(0, 0.5))
        each = statements_a._psnr_slopes(noisy.assign(rate=noisy["rate_2"] + noisy["rate_1"]), 0.01)["each"]
        slopes += each
    slope, error = np.array(slopes).T
    assert slope.mean() == pytest.approx(0.02, abs=4 * slope.std() / len(slope) ** 0.5)
    assert np.sqrt(np.square(error).mean()) == pytest.approx(slope.std(), rel=0.1)


def test_the_order_of_the_models_does_not_matter():
    results, source = grid(), np.random.default_rng(0)
    found = findings_a(results, 100)
    for order in (range(24, -1, -1), *(source.permutation(25) for _ in range(4))):
        assert findings_a(results.iloc[list(order)].reset_index(drop=True), 100) == found


def test_models_that_are_missing_or_diverged_do_not_count():
    results = grid()
    more = results.assign(seed=1, psnr=np.nan, rate=np.nan, rate_2=np.nan, rate_1=np.nan, status="diverged")
    assert findings_a(pd.concat([results, more], ignore_index=True), 100) == findings_a(results, 100)


# --- what is measured, on tables small enough to count by hand


def points(**formulas):
    return grid_means(grid(**formulas)).assign(scored=10_000)


def test_a_step_counts_where_the_layer_has_more_than_the_limit_and_an_equal_rate_is_no_fall():
    """Along beta_2: a fall, a step of an empty layer, a rise, and no change."""
    along = dict(zip(BETAS, (0.02, 0.01, 0.01, 0.03, 0.03), strict=True))
    found = points(rate_2=lambda row: along[row["beta_2"]], rate_1=lambda row: 0.0)
    assert statements_a._own_rate(found, 0.01) == {"lowered": 5, "steps": 15, "empty": 25}


def test_the_best_samples_stand_in_the_order_of_the_settings_that_use_a_layer():
    along = dict(zip(BETAS, (45.0, 35.0, 25.0, 15.0, 0.01), strict=True))
    found = points(rate_2=lambda row: along[row["beta_2"]], inception_score=best_at_the_vae)
    place = statements_a._inception_place(found, 0.01)
    assert (place["betas"], place["value"], place["rate_2"], place["rate_1"]) == ("(1, 1)", "2", 25, 40)
    assert (place["above_2"], place["above_1"]) == (25, 40), "five of twenty, ten of twenty-five"


def test_the_region_of_the_best_samples_is_a_tenth_of_those_known():
    best = pd.DataFrame({"beta_2": [0.5, 1.0, 2.0, 0.9], "beta_1": [0.5, 2.0, 1.0, 0.9004]})  # one is lower
    rest = pd.DataFrame({"beta_2": [1.0] * 37, "beta_1": 10.0})
    models = pd.concat([best, rest], ignore_index=True).assign(inception_score=[*range(40, 0, -1), np.nan])
    expected = {"lower": 1, "high": 4, "all_lower": 37, "known": 40, "below_1": 2}
    assert statements_a._inception_region(models) == expected


def test_the_share_of_sharpness_is_that_of_independent_factors():
    """Logs of sharpness 3 and of diversity 1 up or down, twice each, and one model in the middle.

    Of all the share is 9 of 10. Of those from the median on the sums of products are 7.2 and 4.
    """
    u, v = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)] * 2 + [(0, 0)]).T
    models = pd.DataFrame({"inception_score": np.exp(3 * u + v), "sharpness": np.exp(3 * u), "diversity": np.exp(v)})
    found = statements_a._inception_driver(models)
    assert found == {"good": pytest.approx(100 * 7.2 / 11.2), "whole": pytest.approx(90)}
    apart = statements_a._inception_driver(models.iloc[:8])
    assert apart == {"good": pytest.approx(0, abs=1e-9), "whole": pytest.approx(90)}, "two scores, apart in diversity"
    more = pd.concat([models, pd.DataFrame({"inception_score": [100.0]})], ignore_index=True)
    assert statements_a._inception_driver(more) == found, "its factors are not known"
    assert statements_a._inception_driver(models.iloc[:4]) is None, "two from the median on"
    assert statements_a._inception_driver(models.assign(inception_score=2.0)) is None


def test_a_correlation_at_a_fixed_third_is_that_of_what_is_left_of_the_ranks():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=["a", "b", "c"])
    table["a"], table["b"] = (table["a"] + table["c"]).round(1), table["b"] - 2 * table["c"]  # with ties
    ranks = rankdata(table, axis=0)
    given = np.column_stack([np.ones(30), ranks[:, 2]])
    left = ranks[:, :2] - given @ np.linalg.lstsq(given, ranks[:, :2], rcond=None)[0]
    assert statements_a._partial(table, "a", "b", given="c") == pytest.approx(np.corrcoef(left.T)[0, 1])
    plain = np.corrcoef(ranks[:, :2].T)[0, 1]
    assert statements_a._correlation(table, "a", "b") == pytest.approx(plain)
    assert statements_a._partial(table.assign(c=1.0), "a", "b", given="c") == pytest.approx(plain)
    assert statements_a._partial(table.assign(a=table["c"] ** 3), "a", "b", given="c") == 0, "the third is all of it"
    assert math.isnan(statements_a._partial(table.assign(a=table["c"], b=-table["c"]), "a", "b", given="c"))
    few = table.iloc[:4].assign(a=[1.0, 2.0, 3.0, np.nan], b=[2.0, 3.0, 1.0, 9.0])
    assert statements_a._correlation(few, "a", "b") == pytest.approx(-0.5)
    assert math.isnan(statements_a._correlation(few.iloc[:2], "a", "b"))
    assert math.isnan(statements_a._correlation(few.assign(b=2.0), "a", "b"))


def test_information_is_asked_where_labels_at_random_have_at_most_a_tenth_of_a_nat():
    def permuted(row):
        return 0.2 if row["beta_1"] == 0.1 else 0.1

    found = points(mi_z2_permuted=permuted, mi_z2=lambda row: row["rate_2"] * (-1 if row["beta_1"] == 0.1 else 1))
    assert statements_a._information(found) == {"correlation": pytest.approx(1), "told": 20, "saturated": 5}


def test_a_layer_is_in_use_above_the_limit_and_ten_settings_are_enough():
    measure = statements_a._without_empty(lambda kept: {"lowest": kept["rate_2"].min()}, "a", 2, 1, least=0.01)
    table = pd.DataFrame({"rate_2": [0.02] * 11 + [0.01] * 4, "rate_1": [0.01, *[1.0] * 14], "a": 1.0})
    assert measure(table) == {"lowest": 0.02, "settings": 10, "all": 15}
    assert measure(table.iloc[:10]) == {FEW: 9}
    assert measure(table.assign(a=[None, None, *[1.0] * 13])) == {FEW: 9}, "one was not measured"
    assert measure(table.assign(a=None)) is None and measure(table.drop(columns="a")) is None, "none was"


@pytest.mark.parametrize(
    ("permuted", "ours", "expected"),
    [
        (lambda row: 0.0 if row["beta_1"] == 1 else None, "5 settings, too few", UNTESTED),
        (lambda row: 0.0 if row["beta_1"] == 1 else 0.2, "5 settings, too few", UNTESTED),
        (lambda row: 0.0 if row["beta_1"] < 0.5 else 0.2, "1.00 (10 settings, 15 saturated)", AGREES),
    ],
)
def test_information_is_asked_of_ten_settings_whose_control_is_known_and_low(permuted, ours, expected):
    words = "mainly on R(z_2)"
    results = grid(mi_z2_permuted=permuted, mi_z2_lower=lambda row: None)
    assert [(one.ours, one.verdict) for one in findings_a(results, 100) if words in one.statement] == [(ours, expected)]
    bounded = grid(mi_z2_permuted=permuted, mi_z2_lower=of("rate_1"))
    assert verdict(bounded, words) == (DIFFERS if expected == UNTESTED else NOT_SETTLED), "the bound has a say"


def test_an_accuracy_lies_above_a_bound_by_more_than_two_standard_errors():
    """At half a chance, of 10,000 images, that is 0.01; beside it the bound of one nat on ten equal classes."""
    bound = float(accuracy_bound(1.0, np.full(10, 0.1)))
    error = 2 * math.sqrt(bound * (1 - bound)) / 100
    samples = {"logistic": 0.509, "linear_svm": 0.511, "rbf_svm": None, "knn": None}
    modes = {"logistic": bound + 0.95 * error, "linear_svm": bound + 1.05 * error, "rbf_svm": 0.1, "knn": None}
    found = points(
        accuracy_bound_rate=lambda row: 0.5,
        **{f"acc_z2_{probe}": lambda row, probe=probe: samples[probe] for probe in PROBES},
        **{f"acc_mu2_{probe}": lambda row, probe=probe: modes[probe] for probe in PROBES},
    ).assign(rate=1.0)
    assert statements_a._samples_above_bound(found) == {"over": 25, "known": 50, "within": 25}
    assert statements_a._modes_above_bound(found) == {"over": 25, "known": 75, "within": 50}


def test_a_slope_counts_from_two_standard_errors_and_where_both_layers_are_in_use():
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        noisy = points(psnr=lambda row: 0.3 * row["rate"] + 0.03 * row["rate_1"] + rng.normal(0, 0.4))
        slopes = statements_a._psnr_slopes(noisy, 0.01)
        ratios = [slope / error for slope, error in slopes["each"]]
        assert slopes["up"] == sum(ratio > 2 for ratio in ratios)
        assert slopes["down"] == sum(ratio < -2 for ratio in ratios)
        found += ratios
    assert {math.floor(abs(ratio)) for ratio in found} >= {0, 1, 2}, "of all kinds there are some"
    psnr, *rates = noisy.loc[[6, 7, 8, 11, 12, 13, 16, 17, 18], ["psnr", "rate", "rate_1"]].to_numpy().T

    def left(*columns):
        return np.linalg.lstsq(np.column_stack([np.ones(9), *columns]), psnr, rcond=None)[1].item()

    without, whole = left(rates[0]), left(*rates)
    assert ratios[1] ** 2 == pytest.approx((without - whole) / (whole / 6)), "a t statistic squared is an F statistic"
    fewer = statements_a._psnr_slopes(noisy[noisy["beta_1"] > 0.1].reset_index(drop=True), 0.01)
    np.testing.assert_allclose(fewer["each"], slopes["each"][1:], err_msg="a slope is that of nine settings")
    edge = points().assign(rate_1=lambda table: table["rate_1"].where(table.index != 12, 0.01))
    assert [statements_a._psnr_slopes(edge, least)["slopes"] for least in (0.01, 0.009)] == [2, 3]


def families(rate_strong, total=lambda family: 100.0):
    rows = [
        {
            "dataset": "digits",
            "model": e + d + m,
            "beta_1": beta,
            "status": "ok",
            "rate": rate_strong(beta) if d == "+" else 15.0,
            "distortion": total(e + d + m),
            "iwae_5": -90.0,
        }
        for e, d, m, beta in itertools.product("-+", "-+", "-+v", (0.1, 1.5))
    ]
    table = pd.DataFrame(rows)
    table["distortion"] -= table["rate"]
    return table.assign(elbo=-table["distortion"] - table["rate"])


def test_collapse_of_strong_decoders_is_seen_and_its_absence_too():
    def collapse(results):
        return findings_b(results)[0].verdict

    assert collapse(families(lambda beta: 0.0 if beta > 1 else 20.0)) == AGREES
    assert collapse(families(lambda beta: 20.0)) == DIFFERS


def test_marginals_against_encoders():
    def gain(total, context="image"):
        results = families(lambda beta: 1.0, total)
        results.attrs["encoder_context"] = context
        return findings_b(results)[2].verdict

    assert gain(lambda family: 100 - 5 * (family[2] != "-") - 2 * (family[0] == "+")) == AGREES
    assert gain(lambda family: 100 - 2 * (family[2] != "-") - 5 * (family[0] == "+")) == DIFFERS
    assert gain(lambda family: 100 - 5 * (family[2] != "-") - 2 * (family[0] == "+"), "none") == UNTESTED
    assert gain(lambda family: 100.0) == DIFFERS, "as good is no gain"
    assert findings_b(families(lambda beta: 1.0).assign(status="diverged")) == []
    two = families(lambda beta: 1.0, lambda family: 100 - (family == "--v")).query("model in ('+--', '--v')")
    two.attrs["encoder_context"] = "image"
    assert findings_b(two)[2].ours == "2 of 2", "of two betas"
    two = two[(two["model"] == "--v") | (two["beta_1"] < 1)]
    assert findings_b(two)[2].ours == "1 of 1", "there is nothing to compare with at the other"
    marginal = two["model"] == "--v"
    traded = two.assign(rate=two["rate"] - 3 * marginal, distortion=two["distortion"] + 2 * marginal)
    assert findings_b(traded)[2].ours == "1 of 1", "it is the sum of both that is lower"


def test_collapse_is_counted_from_beta_1_and_from_half_a_nat():
    rows = [("-+-", 1.0, 0.4), ("-+-", 1.0, 0.5), ("++v", 1.2, 0.1), ("---", 1.0, 0.0)]
    rows += [("++v", 0.9, rate) for rate in (0.4, 0.5, 0.6, 2.0)]
    models = pd.DataFrame(rows, columns=["model", "beta_1", "rate"])
    counts = {"lost": 2, "high": 3, "kept": 3, "low": 4, "fewest": 3}
    assert statements_b._collapse(models) == counts | {"share": 2 / 3}
    more = pd.concat([models, models.iloc[[4]]])
    assert statements_b._collapse(more) == counts | {"low": 5, "share": 3 / 5}


def test_the_best_weak_decoder_is_set_beside_those_below_11_and_above_44_nats():
    rates, totals = (10.5, 11.0, 22.0, 44.0, 44.5, 60.0), (105.0, 103.0, 100.0, 101.0, 102.0, 104.0)
    weak = pd.DataFrame({"model": "---", "beta_1": range(6), "rate": rates, "elbo": [-total for total in totals]})
    models = pd.concat([weak, weak.assign(model="-+-", elbo=-1.0)], ignore_index=True)
    found = {"model": "---", "beta": 2, "rate": 22.0, "total": 100.0, "below": 105.0, "above": 102.0, "betas": 6}
    assert statements_b._weak_decoders(models) == found
    between = models.query("11 <= rate <= 44")
    assert statements_b._weak_decoders(between) == found | {"below": None, "above": None, "betas": 3}


def test_likelihoods_are_near_within_two_nats_and_the_best_elbo_is_named():
    models = pd.DataFrame({"iwae_5": [-91.9, -90.0, -92.1, -92.9], "rate": [30.0, 0.1, 0.01, 60.0]})
    expected = {"near": 2, "models": 4, "lowest": 0.1, "highest": 30.0}
    assert statements_b._equal_likelihoods(models) == expected
    few = families(lambda beta: 1.0, lambda family: 100 - 5 * (family == "-+v"))
    assert findings_b(few)[-1].ours.startswith("-95.0 nats on digits (`-+v`, beta 0.1, R = 1.00)")


def test_who_holds_the_frontier():
    def held(rate, total):
        return findings_b(families(rate, total))[1].verdict

    # Weak decoders have 15 nats: strong ones on both sides of them, or nowhere.
    assert held(lambda beta: 1.0 if beta > 1 else 60.0, lambda family: 100 - 5 * (family[1] == "-")) == AGREES
    assert held(lambda beta: 1.0 if beta > 1 else 60.0, lambda family: 100 + 50 * (family[1] == "-")) == UNTESTED, (
        "two points are no frontier with a middle"
    )
    assert held(lambda beta: 20.0, lambda family: 100.0) != AGREES
    apart = families(lambda beta: 1.0 if beta > 1 else 60.0, lambda family: 100 - 5 * (family[1] == "-"))
    assert findings_b(apart)[1].ours == (
        "of 3 models a powerful one at the lowest rate, a powerful one at the highest; 1 of 1 in between weak"
    )
    models = pd.DataFrame({"model": ["-+-", "---", "-+-", "---"], "rate": [3, 1, 2, 4], "distortion": [7, 9, 8, 8]})
    expected = {"frontier": 3, "lowest": "weak", "highest": "powerful", "weak": 0, "middle": 1}
    assert statements_b._frontier_by_rate(models) == expected, "the last is no better at a higher rate"


def test_where_weak_decoders_do_well_and_whether_likelihoods_tell():
    def verdicts(results):
        return [finding.verdict for finding in findings_b(results)[3:5]]

    few = families(lambda beta: 1.0 if beta > 1 else 60.0)
    assert verdicts(few) == [UNTESTED, AGREES], "two betas do not show where weak decoders do well"
    assert verdicts(few.assign(rate=few["rate"] / 1000))[1] == UNTESTED, "models without rate have nothing to tell"
    more = [
        few.assign(beta_1=beta, rate=rate, elbo=-100 - worse)
        for beta, rate, worse in ((0.2, 100, 5), (0.3, 50, 5), (0.5, 20, 0), (0.8, 15, 0.5), (1.1, 5, 5))
    ]
    assert verdicts(pd.concat(more, ignore_index=True))[0] == AGREES
    assert verdicts(pd.concat([*more[:-1], more[-1].assign(elbo=-101)], ignore_index=True))[0] == PARTLY, (
        "as good at a low rate"
    )
    assert verdicts(pd.concat(more, ignore_index=True).assign(rate=lambda table: 5 * table["rate"])) == [
        DIFFERS,
        AGREES,
    ]
    assert verdicts(families(lambda beta: 15.0))[1] == DIFFERS


ENDS = {"frontier": 5, "lowest": "powerful", "highest": "powerful", "weak": 2}
WEAK = {"betas": 5, "rate": 22, "total": 100, "below": 103, "above": 103}


@pytest.mark.parametrize(
    ("words", "numbers", "expected"),
    [
        *(("its own layer", {"lowered": n, "steps": 100}, v) for n, v in ((95, AGREES), (75, PARTLY), (74, DIFFERS))),
        *(("driven by", {"good": n}, v) for n, v in ((60, AGREES), (59, PARTLY), (40, PARTLY), (39, DIFFERS))),
        *(
            ("sharpness depends", {"upper": n, "lower": 0.5}, v)
            for n, v in ((0.6, AGREES), (0.5, PARTLY), (0.3, DIFFERS))
        ),
        ("sharpness depends", {"upper": 0.31, "lower": 0.4}, PARTLY),
        *(
            ("for RBF SVM", {"values": v}, o)
            for v, o in (([0.31, 0.9], AGREES), ([0.3, 0.31], PARTLY), ([0.3], DIFFERS))
        ),
        *(
            ("do best on mu_1", {"well": well, "ill": ill}, v)
            for well, ill, v in ((3, 0, AGREES), (2, 0, PARTLY), (3, 1, PARTLY), (1, 1, PARTLY), (1, 2, DIFFERS))
        ),
        ("do best on mu_1", {"well": 0, "ill": 0}, NOT_SETTLED),
        ("PSNR is", {"slopes": 3, "up": 3, "down": 0}, AGREES),
        *(("I_q(y", {"correlation": n}, v) for n, v in ((0.9, AGREES), (0.5, PARTLY), (0.49, DIFFERS))),
        *(
            ("PSNR is", {"slopes": 4, "up": n, "down": 4 - n}, v)
            for n, v in ((3, AGREES), (2, NOT_SETTLED), (1, DIFFERS))
        ),
        ("PSNR is", {"slopes": 4, "up": 1, "down": 2}, NOT_SETTLED),
        ("PSNR is", {"slopes": 2, "up": 2, "down": 0}, UNTESTED),
        *(
            ("at high R(z_1", {"above_1": n, "above_2": 40}, v)
            for n, v in ((65, AGREES), (64, PARTLY), (16, PARTLY), (15, DIFFERS))
        ),
        *(("(beta_2 <", {"lower": n, "high": 4, "known": 10}, v) for n, v in ((3, AGREES), (2, PARTLY), (1, DIFFERS))),
        ("(beta_2 <", {"lower": 3, "high": 3, "known": 9}, UNTESTED),
        *(("of which Eq. 11", {"within": n, "known": 100}, v) for n, v in ((95, AGREES), (94, DIFFERS))),
        *(("collapse", {"share": n, "fewest": 3}, v) for n, v in ((0.75, AGREES), (0.5, PARTLY), (0.49, DIFFERS))),
        ("collapse", {"share": 1.0, "fewest": 2}, UNTESTED),
        *(("marginals", {"wins": n, "count": 5}, v) for n, v in ((3, AGREES), (2, PARTLY), (1, DIFFERS))),
        ("marginals", {"wins": 4, "count": 4}, UNTESTED),
        *(("decoder dominate", {"strong": n, "frontier": 4}, v) for n, v in ((3, AGREES), (2, PARTLY), (1, DIFFERS))),
        ("decoder dominate", {"strong": 2, "frontier": 2}, UNTESTED),
        *(("tell them", {"near": 2, "lowest": 0.1, "highest": n}, v) for n, v in ((1.1, AGREES), (1, DIFFERS))),
        ("tell them", {"near": 2, "lowest": 0.01, "highest": 0.4}, UNTESTED),
        ("tell them", {"near": 2, "lowest": 0.0, "highest": 0.5}, AGREES),
        ("tell them", {"near": 1, "lowest": 0.1, "highest": 2.0}, UNTESTED),
        ("hold the frontier", ENDS | {"frontier": 3}, AGREES),
        ("hold the frontier", ENDS | {"frontier": 2}, UNTESTED),
        ("hold the frontier", ENDS | {"weak": 0}, PARTLY),
        ("hold the frontier", ENDS | {"highest": "weak"}, PARTLY),
        ("hold the frontier", ENDS | {"lowest": "weak", "highest": "weak"}, PARTLY),
        ("hold the frontier", ENDS | {"lowest": "weak", "weak": 0}, DIFFERS),
        *(("22 nats", WEAK | {"rate": n}, v) for n, v in ((11, AGREES), (10, DIFFERS), (44, AGREES), (45, DIFFERS))),
        ("22 nats", WEAK | {"above": None}, PARTLY),
        ("22 nats", WEAK | {"below": 102}, PARTLY),
        ("22 nats", WEAK | {"betas": 4}, UNTESTED),
    ],
)
def test_verdicts_change_at_the_limits_that_the_rules_name(words, numbers, expected):
    (rule,) = (rule for rule in (*statements_a.STATEMENTS, *statements_b.STATEMENTS) if words in rule.statement)
    assert rule.verdict(numbers) == expected


def test_the_toy_run():
    objectives = ["elbo", "elbo", "target_rate", "target_rate"]
    results = pd.DataFrame(
        {"objective": objectives, "rate": [0.001, 0.01, 0.5, 0.505], "spread": 1.0, "start_rate": 0.3}
    )
    assert [finding.verdict for finding in findings_toy(results)] == [PARTLY, AGREES]
    lost = findings_toy(results.assign(rate=[0.0, np.nan, 0.49, 0.509]))
    assert [finding.verdict for finding in lost] == [AGREES, PARTLY], "without the start that diverged"
    assert findings_toy(results.assign(rate=[0.0, 0.0, 0.5, 0.51]))[1].verdict == PARTLY, "within 0.01 of 0.5"
    assert {finding.ours for finding in findings_toy(results.drop(columns="spread"))} == {"no such model"}
    still = findings_toy(results.assign(converged=[True, False, True, True]))
    assert [finding.verdict for finding in still] == [NOT_SETTLED, AGREES], "one of the first two still moves"
    assert [finding.ours[-11:] for finding in still] == ["1 converged", "2 converged"]
    far = results.assign(spread=3.0, rate=[0.4, 0.3, 0.5, 0.5])
    both = findings_toy(pd.concat([results.assign(rate=[0.001, 0.002, 0.5, 0.5]), far]))
    assert [finding.verdict for finding in both] == [NOT_SETTLED, AGREES], "where it ends is where it begins"
    assert both[0].ours.startswith("spread 1: 2 of 2, from 0.30 to 0.0010 … 0.0020 nats. spread 3: 0")


def test_the_projection_is_steps_by_speed():
    table = comparison.untested().set_index("command")
    steps = 441 * 200 * 287  # 73,257 images in batches of 256
    row = table.loc["`./run_all.sh svhn-ghvae`"]
    assert row["2 CPU cores"] == f"{steps / 14.9 / 86400:.0f} days" == "20 days"
    assert row["one H200"] == f"{steps / 5420 / 3600:.1f} hours"
    assert table.loc["`./run_all.sh mnist-ghvae`", "one H200"] == f"{441 * 200 * 235 / 5150 / 3600:.1f} hours"
    assert table.loc["`./run_all.sh rd-mnist`", ["2 CPU cores", "one H200"]].tolist() == ["", ""]
    assert "14.9 (32x32) on two CPU cores" in comparison.speeds() and "5,420 (32x32) on an H200" in comparison.speeds()


def test_verdicts_and_numbers_side_by_side():
    found = {
        "a": findings_a(grid(), 100),
        "b": findings_a(grid(psnr=lambda row: -row["rate_1"] - 0.5 * (row["beta_2"] == 0.1)), 100),
    }
    both = comparison.verdicts(found, {"a": "cifar10-exact", "b": "mnist"})
    bare = both[["a", "b"]].map(lambda verdict: verdict.strip("()"))
    assert bare["a"].tolist() == [one.verdict for one in found["a"]]
    assert bare["b"].tolist() == [one.verdict for one in found["b"]] != bare["a"].tolist()
    assert comparison.numbers(found)["b"].tolist() == [one.ours for one in found["b"]]


def test_statements_are_numbered_and_a_run_without_one_has_an_empty_cell():
    plain = families(lambda beta: 1.0 if beta > 1 else 60.0)
    found = {"a": findings_b(plain), "b": findings_b(plain.assign(dataset="omniglot"))}
    table = comparison.numbers(found)
    assert table["no."].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert [table.index[table[run] == ""].tolist() for run in "ab"] == [[6], [1]]
    rules = comparison.rules_table({"a": findings_a(grid(), 100)})
    assert rules.loc[rules["rule"] == "the same", "no."].tolist() == [12, 14, 16]
    assert rules["where"].tolist()[:2] == ["Section 3.2", "Section 5.2 and Fig. 1, of SVHN"]
    assert comparison.listed(found["a"]).splitlines()[2].startswith("3. ")


def test_verdicts_on_other_data_stand_in_brackets():
    runs = ("svhn", "mnist", "cifar10-exact", "digits")
    found = dict.fromkeys(runs, findings_a(grid(), 100))
    table = comparison.verdicts(found, {name: name for name in runs})
    where = comparison.statements(found)["where"]

    def bare(place):
        (row,) = table.index[where == place]
        return {name for name in runs if not table.loc[row, name].startswith("(")}

    assert bare("A, Section 5.4 and Fig. 3, of SVHN and CIFAR-10") == {"svhn", "cifar10-exact"}
    assert bare("A, Appendix A.2.1 and Fig. 8, of MNIST") == {"mnist"}
    assert bare("A, Section 3.2") == set(runs)
    assert bare("A, Table 1, of complex data (CIFAR-10)") == {"cifar10-exact"}


def published(model, results, fingerprint="f"):
    config = Config.make(
        {"name": "a", "dataset": "digits", "model": model, "betas": BETAS, "epochs": 1, "batch_size": 50}
    )
    return comparison.Published(config, results, {"fingerprint": fingerprint}, None)


def test_a_conditioned_network_stands_beside_the_grids_of_its_model_on_its_data():
    models = pd.concat([grid().assign(seed=seed, distortion=100.0 + seed) for seed in range(3)], ignore_index=True)
    network = grid().assign(
        distortion=models["distortion"].mean() + 0.1 * objective_values(models.query("seed == 1"), 2)
    )
    runs = {
        "network": published("ghvae-conditioned", network),
        "models": published("ghvae", models),
        "lvae": published("lvae", models),
        "other data": published("ghvae", models, "g"),
        "other betas": published("ghvae", models.assign(beta_2=lambda table: 2 * table["beta_2"])),
    }
    (found,) = comparison.deviations(runs)
    assert (found.run, found.grid, found.settings) == ("network", "models", 25)
    (ladder,) = comparison.architectures(runs)
    assert (ladder.run, ladder.grid) == ("lvae", "models")
    assert ladder.terms.set_index("of").loc["L", "mean"] == 0
    longer = runs["models"]._replace(config=runs["models"].config.model_copy(update={"epochs": 2}))
    assert not comparison.architectures({"lvae": runs["lvae"], "models": longer}), "of as many epochs only"
    terms = found.terms.set_index("of")
    higher = 0.1 * objective_values(models.query("seed == 1"), 2)  # nats
    assert terms.loc["L", "mean"] == pytest.approx(higher.mean(), abs=1e-3)
    assert terms.loc["L", ["lowest", "highest"]].tolist() == pytest.approx([higher.min(), higher.max()], abs=1e-3)
    assert terms.loc["L", "spread over seeds"] == pytest.approx(1, abs=1e-3), "of 100, 101 and 102 nats"
    assert terms.loc["psnr", "mean of absolute values"] == 0
    assert comparison.about(runs["network"]) == "one ghvae-conditioned on digits, at 25 settings, 1 epochs"
    assert comparison.about(runs["models"]) == "ghvae on digits, 75 models, 1 epochs"
    lost = runs["models"]._replace(results=models.assign(status=["missing"] + ["ok"] * 74))
    assert comparison.about(lost) == "ghvae on digits, 74 of 75 models, 1 epochs"


def test_what_the_name_of_a_data_set_does_not_say_is_said():
    exact = published("ghvae", grid())._replace(data={"name": "cifar10-exact"})
    notes = comparison.data_notes({"a": exact, "b": exact, "c": published("ghvae", grid())})
    assert notes.startswith("`cifar10-exact`: 59,907 of CIFAR-10's") and "\n" not in notes
    assert comparison.page(["a", comparison.data_notes({}), pd.DataFrame({"b": [1]})]) == "a\n\n| b |\n| --- |\n| 1 |\n"
    assert comparison.folded("t", "a", "b") == "<details>\n<summary>t</summary>\n\na\n\nb\n\n</details>"


def test_scores_of_unlike_classifiers_are_not_compared():
    def run(model, right=None):
        return published(model, grid().assign(distortion=100.0))._replace(classifier=right)

    near, far, without = run("ghvae", 0.755), run("ghvae", 0.5), run("ghvae")
    network = run("ghvae-conditioned", 0.752)
    runs = {"network": network, "near": near, "far": far, "without": without}
    assert comparison.runs_table(runs)["classifier, %"].tolist() == ["75.20", "75.50", "50.00", ""]
    found = comparison.deviations(runs)
    compared = {beside.grid: set(beside.terms["of"]) for beside in found}
    assert compared["near"] - compared["far"] == {"inception_score"} and compared["near"] == compared["without"]
    table = comparison.side_by_side(found).set_index("of")
    assert list(table) == [f"network beside {name}, 25 settings" for name in ("near", "far", "without")]
    assert table.loc["inception_score"].tolist() == ["0 (0 to 0)", "not compared", "0 (0 to 0)"]


def test_omniglot_has_a_frontier_of_its_own():
    found = findings_b(
        families(lambda beta: 1.0 if beta > 1 else 60.0, lambda family: 100 - 5 * (family[1] == "-")).assign(
            dataset="omniglot"
        )
    )[1]
    assert (found.source, found.verdict) == ("B, Section 4 and Fig. 3, of Omniglot", PARTLY)
    assert found.ours == "2 of 3"


def test_too_few_models_of_paper_b_give_no_verdict():
    few = families(lambda beta: 0.0 if beta > 1 else 20.0).query("model in ('---', '-+-', '-+v')")
    assert [finding.verdict for finding in findings_b(few)[:3]][::2] == [UNTESTED, UNTESTED]
