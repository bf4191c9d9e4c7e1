"""Optima as sets: on made data, of which one knows what is equal."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import studentized_range

from hvae_core.analysis.optimum import bests_differ, optimum
from hvae_core.analysis.points import INCEPTION, PSNR, accuracy, grid_means
from hvae_core.claims.findings import AGREES, NOT_SETTLED
from hvae_core.claims.statements_a import findings_a
from hvae_core.evaluation.paired import behind
from hvae_core.runs.results import columns

RBF, LOGISTIC = accuracy("mu2", "rbf_svm"), accuracy("mu1", "logistic")
GRIDS = 300


def results(values, column="psnr", **more):
    """Rows of ``values``, ``(settings, seeds)``, of a grid with one layer."""
    count, seeds = values.shape
    frame = pd.DataFrame({"seed": np.tile(np.arange(seeds), count), column: values.ravel()})
    setting = np.repeat(np.arange(count), seeds)
    frame = frame.assign(dataset="digits", model="ghvae", beta_1=1.0 + setting, rate_1=50.0 - setting, rate_2=5.0)
    return frame.assign(beta_2=1.0, rate=lambda table: table["rate_1"] + 5, **more)


def means(values, column="psnr", **more):
    """What `grid_means` makes of these results, in less time."""
    count, seeds = values.shape
    frame = pd.DataFrame({column: values.mean(1), f"{column}_sd": pd.DataFrame(values).std(axis=1), "seeds": seeds})
    return frame.assign(beta_2=1.0, beta_1=1.0 + np.arange(count), rate=9.0, rate_2=5.0, rate_1=4.0, **more)


def share(happens):
    """How often something happens, and the highest share that a chance of 5 % explains in so many grids."""
    return np.mean(happens), 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(happens))


@pytest.mark.parametrize("seeds", [2, 3])
def test_of_81_equal_settings_all_may_be_the_best_but_in_one_grid_of_twenty(seeds):
    rng = np.random.default_rng(seeds)
    sets = [optimum(means(rng.normal(20, 0.3, (81, seeds))), PSNR) for _ in range(GRIDS)]
    wrong, most = share([not of.all() for of in sets])
    assert 0.01 < wrong < most
    alone, _ = share([of.sum() == 1 for of in sets])
    assert alone < 0.05, "a single optimum among equal ones"


def test_what_is_better_by_much_more_than_the_spread_is_the_only_optimum():
    rng = np.random.default_rng(0)
    values = rng.normal(20, 0.3, (100, 81, 2))
    values[:, 40] += 4
    found = [optimum(means(grid), PSNR) for grid in values]
    assert np.mean([of.sum() == 1 and of[40] for of in found]) > 0.95


def test_the_limit_is_tukeys_range_of_so_many_settings():
    """Of 25 settings with two seeds the best six give the spread, with six degrees of freedom."""
    limit = studentized_range.isf(0.05, 25, 6) / np.sqrt(2)
    for apart, kept in ((0.99, 25), (1.01, 1)):
        values = np.full((25, 2), 20.0) + np.array(
            [-0.1, 0.1]
        )  # a standard deviation of 0.1 sqrt(2), and of a mean 0.1
        values[3] += apart * limit * 0.1 * np.sqrt(2)
        assert optimum(grid_means(results(values)), PSNR).sum() == kept


def test_of_one_seed_all_may_be_the_best_and_no_verdict_agrees():
    values = np.arange(81.0)[:, None]
    one = results(values)
    assert optimum(grid_means(one), PSNR).all()
    assert optimum(grid_means(one.assign(psnr_behind_se=1e-6)), PSNR).all(), "images say nothing of seeds"
    frame = one.assign(inception_score=-values, acc_mu2_rbf_svm=np.abs(values - 40) / 100, epochs=1, status="ok")
    again = pd.concat([frame.assign(seed=seed) for seed in range(2)], ignore_index=True)

    def verdict(table):
        return next(found.verdict for found in findings_a(table, 100) if "optimal for all" in found.statement)

    assert [verdict(table.reindex(columns=columns(2))) for table in (frame, again)] == [NOT_SETTLED, AGREES]


def test_what_was_not_measured_is_no_optimum():
    values = np.full((5, 2), 20.0)
    values[2] = np.nan
    assert optimum(grid_means(results(values)), PSNR).tolist() == [True, True, False, True, True]
    assert not optimum(grid_means(results(np.full((5, 2), np.nan))), PSNR).any()


def test_an_inception_score_has_its_own_error_at_least():
    """Two seeds that happen to agree; the spread of five parts of the samples is 1, so that a mean has 1/2."""
    values = np.array([[10.0, 10.0], [9.0, 9.0], [1.0, 1.0]])
    table = grid_means(results(values, "inception_score", inception_score_std=1.0))
    assert optimum(table, INCEPTION).tolist() == [True, True, False]
    assert optimum(table.drop(columns="inception_score_std"), INCEPTION).tolist() == [True, False, False]


# --- test images --------------------------------------------------------------------------------------------


def images(rng, settings, seeds, count, better=0.0):
    """Whether classifiers are right, ``(settings * seeds, images)``: alike, as images are easy or hard for all."""
    easy = rng.normal(1.5, 2, count)
    own = rng.normal(0, 0.5, (settings, seeds, count))
    own[0] += better
    return ((easy + own) > 0).astype(float).reshape(settings * seeds, count)


def of_images(hits, settings, seeds, paired=True):
    points = means(hits.mean(1).reshape(settings, seeds), RBF.column)
    if paired:
        _, error = behind(hits, np.repeat(np.arange(settings), seeds).tolist())
        points = points.assign(acc_mu2_rbf_svm_behind_se=error[::seeds])
    points.attrs["scored"] = hits.shape[1]
    return points


def test_equal_classifiers_on_the_same_images_are_told_apart_in_one_grid_of_twenty_at_most():
    rng = np.random.default_rng(5)
    wrong, most = share([not optimum(of_images(images(rng, 27, 2, 300), 27, 2), RBF).all() for _ in range(GRIDS)])
    assert wrong < most


def test_on_the_same_images_a_difference_is_found_that_their_number_alone_hides():
    rng = np.random.default_rng(6)
    hits = [images(rng, 27, 2, 2000, better=0.4) for _ in range(20)]
    found = np.array(
        [[optimum(of_images(one, 27, 2, paired), RBF).sum() == 1 for paired in (True, False)] for one in hits]
    )
    assert found.mean(0)[0] > 0.9 and found.mean(0)[1] < 0.5


def test_how_far_a_setting_is_behind_is_a_mean_over_seeds_and_images():
    rng = np.random.default_rng(7)
    values = rng.normal(20, 1, (6, 50))
    values[1] = np.nan  # diverged: the setting has one seed
    settings = ["a", "a", "b", "b", "c", "c"]
    means = np.stack([values[0], values[2:4].mean(0), values[4:].mean(0)])
    best = means[means.mean(1).argmax()]
    difference, error = behind(values, settings)
    wanted = (best - means).mean(1), (best - means).std(1, ddof=1) / np.sqrt(50)
    for found, of in zip((difference, error), wanted, strict=True):
        np.testing.assert_allclose(found[[0, 2, 4]], of)
        np.testing.assert_array_equal(found[[2, 4]], found[[3, 5]])
        assert np.isnan(found[1])
    assert np.isnan(behind(np.full((2, 3), np.nan), "ab")).all()
    half = values.astype(np.float16)  # as they are kept
    np.testing.assert_array_equal(behind(half, settings), behind(half.astype(float), settings))


def test_two_images_have_a_standard_error_and_one_has_none():
    values = np.array([[10.0, 20.0], [9.0, 18.0]])  # differences 1 and 2, whose mean deviates by a half
    np.testing.assert_allclose(behind(values, "ab"), [[0, 1.5], [0, 0.5]])
    difference, error = behind(values[:, :1], "ab")
    assert difference.tolist() == [0, 1] and np.isnan(error).all()


def test_the_bests_of_two_latents_differ_by_more_than_that_of_twice_as_many_settings():
    limit = studentized_range.isf(0.05, 2 * 25, 10_000) / np.sqrt(2)
    error = np.sqrt(0.5 * 0.5 / 1000 + 0.5 * 0.5 / 1000)
    for apart, told in ((0.98, False), (1.02, True)):
        table = results(np.full((25, 1), 0.5), RBF.column, **{LOGISTIC.column: 0.5 - apart * limit * error})
        table.attrs["scored"] = 1000
        assert bests_differ(grid_means(table), RBF, LOGISTIC) is told
    assert not bests_differ(grid_means(table.assign(**{LOGISTIC.column: np.nan})), RBF, LOGISTIC)
    table.attrs["scored"] = 0
    assert not bests_differ(grid_means(table), RBF, LOGISTIC), "on how many images is not known"


def test_equal_latents_do_not_differ_but_in_one_grid_of_twenty():
    rng = np.random.default_rng(8)

    def once():
        accuracies = rng.binomial(500, 0.8, (2, 25)) / 500
        points = means(accuracies[:1].T, RBF.column, **{LOGISTIC.column: accuracies[1]})
        points.attrs["scored"] = 500
        return bests_differ(points, RBF, LOGISTIC)

    wrong, most = share([once() for _ in range(GRIDS)])
    assert wrong < most
