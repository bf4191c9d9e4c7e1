"""The surface of a grid of betas, against one that is known in closed form."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_core.analysis.surface import Surface, compare, objective_values, slopes, summary
from hvae_core.errors import InputError

A, S = (
    np.array([200.0, 120.0]),
    np.array([8.0, 15.0]),
)  # D = sum of A exp(-R / S), so beta = A / S exp(-R / S) at the optimum


def at(betas, seed=0, **more):
    """The best model at these betas, ``(L,)``, as a row of results."""
    betas = np.asarray(betas, float)
    rates = S * np.log(A / (S * betas))
    rows = {"distortion": (S * betas).sum(), "train_distortion": (S * betas).sum(), "seed": seed, "status": "ok"}
    for n, beta, rate in zip((2, 1), betas, rates, strict=True):
        rows |= {f"beta_{n}": beta, f"rate_{n}": rate, f"train_rate_{n}": rate}
    return {**rows, **more}


BETAS = np.geomspace(0.1, 5, 7)
GRID = pd.DataFrame([at((b2, b1), seed) for seed in (0, 1) for b2 in BETAS for b1 in BETAS])


@settings(max_examples=30, deadline=None)
@given(st.floats(0.11, 4.9), st.floats(0.11, 4.9))
def test_between_the_points_of_a_grid_the_surface_is_met(b2, b1):
    found = Surface.of(GRID, layers=2)([[b2, b1]])
    assert found.shape == (1, 2)
    row = pd.DataFrame([at((b2, b1))])
    assert found == pytest.approx(objective_values(row, 2)[0], rel=1e-2)
    assert compare(row, GRID, 2)["percent"].item() == pytest.approx(0, abs=1)


def test_at_the_points_it_is_exact_and_outside_it_says_nothing():
    surface = Surface.of(GRID, 2)
    np.testing.assert_allclose(
        surface(GRID[["beta_2", "beta_1"]][:49])[:, 0], objective_values(GRID[:49], 2), rtol=1e-6
    )
    assert np.isnan(surface([[0.05, 1], [1, 6]])).all()


def test_the_slopes_are_the_rates():
    """dL/dbeta_l = R_l: the envelope theorem, on the interpolated surface."""
    surface, step = Surface.of(GRID, 2), 1e-3
    for beta in ((0.5, 0.5), (1.0, 2.0)):
        rates = S * np.log(A / (S * np.array(beta)))
        for layer in range(2):
            shift = np.eye(2)[layer] * step
            slope = (surface([np.add(beta, shift)]) - surface([np.subtract(beta, shift)])) / (2 * step)
            assert slope[0, 0] == pytest.approx(rates[layer], rel=0.03)


def test_a_worse_model_at_equal_rates_differs_by_its_distortion():
    """To first order the difference of L is that of D at equal rates, wherever the model's rates lie."""
    worse = at((1.0, 1.0))
    worse["train_distortion"] += 3.0
    moved = at((1.1, 0.95), train_distortion=at((1.1, 0.95))["train_distortion"] + 3.0) | {"beta_2": 1.0, "beta_1": 1.0}
    table = compare(pd.DataFrame([worse, moved]), GRID, 2)
    assert table["difference"].to_numpy() == pytest.approx([3, 3], abs=0.3)


def test_the_spread_is_over_seeds():
    shifted = pd.DataFrame(
        [
            at((b2, b1), seed, train_distortion=at((b2, b1))["distortion"] + seed)
            for seed in (0, 1)
            for b2 in BETAS
            for b1 in BETAS
        ]
    )
    assert compare(pd.DataFrame([at((1, 1))]), shifted, 2)["spread"].item() == pytest.approx(np.sqrt(0.5), rel=0.05)
    assert compare(pd.DataFrame([at((1, 1))]), shifted[shifted["seed"] == 0], 2)["spread"].isna().all()


def test_the_summary_counts_models_within_the_grid():
    shifted = pd.DataFrame(
        [
            at((b2, b1), seed, train_distortion=at((b2, b1))["distortion"] + seed)
            for seed in (0, 1)
            for b2 in BETAS
            for b1 in BETAS
        ]
    )
    models = [at((1, 1), train_distortion=at((1, 1))["distortion"] + off) for off in (-5.0, 0.5, 0.5, 6.0)] + [
        at((1e-3, 1))
    ]
    found = summary(compare(pd.DataFrame(models), shifted, 2), Surface.of(shifted, 2, "train_"))
    assert repr(found[["models", "of these within the grid"]].tolist()) == "[5, 4]", "counts, not 5.0"
    assert found[
        [f"{name} one standard deviation over the seeds, % of models" for name in ("within", "below", "above")]
    ].tolist() == [50, 25, 25]
    one = summary(compare(pd.DataFrame(models), GRID[GRID["seed"] == 0], 2), Surface.of(GRID, 2))
    assert not one.index.str.contains("standard deviation").any()


def test_what_is_left_out_is_missed_by_little_and_too_few_points_are_refused():
    error = Surface.of(GRID, 2).error()
    assert len(error) == 25
    assert 0 < np.median(error) < 0.01


@pytest.mark.parametrize("rows", [GRID["beta_2"] < 0.15, GRID["beta_2"] < 0.25, GRID["beta_2"] > 9])
def test_a_grid_of_too_few_values_of_a_beta_is_no_surface(rows):
    with pytest.raises(InputError, match="it takes three values of each beta"):
        Surface.of(GRID[rows], 2)


def test_a_corner_that_is_not_there_is_outside():
    holed = GRID[~((GRID["beta_2"] < 0.15) & (GRID["beta_1"] < 0.15) & (GRID["seed"] == 1))]
    assert np.isnan(Surface.of(holed, 2)([[0.105, 0.105]])).all()
    assert np.isfinite(Surface.of(holed, 2)([[1, 1]])).all()


def test_betas_on_the_surface_are_its_slopes():
    """D along one target falls by beta for each nat; a D that falls half as fast has half the ratio."""
    rates = [(r2, r1) for r2 in np.linspace(5, 12, 15) for r1 in (8.0, 16.0)]
    rows = [at(A / S * np.exp(-np.array(pair) / S), target_2=pair[0], target_1=pair[1]) for pair in rates]
    frame = pd.DataFrame(rows)
    table = slopes(frame, 2)
    assert table["ratio"].to_numpy() == pytest.approx(np.ones(len(table)), rel=1e-6)
    assert table["layer"].value_counts().to_dict() == {2: 28, 1: 15}
    half = slopes(frame.assign(train_distortion=frame["train_distortion"] / 2), 2)
    assert half["ratio"].to_numpy() == pytest.approx(0.5 * np.ones(len(half)), rel=1e-6)
    one = slopes(frame[frame["target_1"] == 8].assign(target_1=np.nan, beta_1=1.0), 2)
    assert one["layer"].tolist() == [2] * 14, "a layer without a target has no slope to check"
