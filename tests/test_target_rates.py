"""Target rates: multipliers are found, belong to their member, survive interruption, and what is missed is said."""

import json
import math

import pandas as pd
import pytest
import torch
from conftest import Chain, executed, keep_results, run_here
from hypothesis import given, settings
from hypothesis import strategies as st
from test_figures import synthetic

from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.models import build
from hvae_core.objective import lagrangian
from hvae_core.runs.config import Config
from hvae_core.runs.profiles import load_profile
from hvae_core.runs.results import load_results
from hvae_core.training.checkpoints import Checkpoints
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train
from hvae_core.training.target_rates import GECO, HIGHEST, LOWEST, PI, TRAVEL, start, tolerance, verdict

RULES = [PI(), GECO(rate=0.005)]


def MAKE():
    return build("ghvae", (1, 28, 28))


SETTINGS = Plan(epochs=3, batch_size=8, learning_rate=1e-3)
TARGETED = Member((0.1, 0.5), seed=1, targets=(2.0, None))
MEMBERS = [
    Member((1.0, 1.0), seed=1),
    TARGETED,
    Member((0.1, 0.1), seed=1, targets=(2.0, 6.0)),
    Member((1, 10), seed=0),
]


# --- the rules, on a problem whose multipliers are known ----------------------------------------------------------


def settle(rule, curvature, most, targets, steps=8000):
    """D = sum of a/2 (most - R)^2, so R = most - beta / a at the optimum; rates go there with a lag, as in training."""
    state, rates = start(torch.full_like(targets, 0.1)), torch.zeros_like(targets)
    for _ in range(steps):
        best = (most - rule.multipliers(state, targets) / curvature).clamp_min(0)
        rates = rates + 0.1 * (best - rates)
        state = rule.follow(state, rates, targets)
    return rates, rule.multipliers(state, targets), state[..., 0].exp()


@pytest.mark.parametrize("rule", RULES, ids=["PI", "GECO"])
@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(20, 60), st.floats(4, 15)), min_size=1, max_size=4),
)
def test_a_quadratic_problem_has_its_known_multipliers(rule, layers):
    curvature, most, targets = torch.tensor(layers).double().unbind(1)
    rates, betas, found = settle(rule, curvature, most, targets)
    torch.testing.assert_close(rates, targets, rtol=1e-3, atol=0)
    torch.testing.assert_close(found, curvature * (most - targets), rtol=5e-3, atol=0)
    torch.testing.assert_close(betas, found, rtol=5e-3, atol=0)


def test_the_proportional_part_damps():
    """Without it the rate passes its target farther on the way down."""
    problem = torch.tensor([0.05]), torch.tensor([60.0]), torch.tensor([10.0])
    lows = []
    for rule in (PI(), PI(proportional=0.0)):
        state, rates, low = start(torch.tensor([0.1])), torch.zeros(1), math.inf
        for step in range(800):
            rates = rates + 0.1 * ((problem[1] - rule.multipliers(state, problem[2]) / problem[0]).clamp_min(0) - rates)
            state = rule.follow(state, rates, problem[2])
            low = min(low, float(rates)) if step > 150 else low
        lows.append(low)
    assert lows[0] > lows[1] + 1


@pytest.mark.parametrize("rule", [PI(), GECO()], ids=["PI", "GECO"])
@settings(deadline=None)
@given(st.integers(1, 100_000))
def test_the_longer_a_training_the_slower_its_betas_move(rule, steps):
    """Yet no training is too short to get from the usual start to either bound and back."""
    far = torch.tensor([1e4])  # a rate as far off as counts
    state = rule.follow(start(torch.ones(1)), far, torch.tensor([5.0]))
    step = (rule.paced(steps).follow(state, far, torch.tensor([5.0])) - state)[0, 0].item()
    assert 0 < step <= 0.05 + 1e-6
    assert step * steps <= TRAVEL * (1 + 1e-3)
    assert rule.paced(1200) == rule, "as digits-targets was measured"
    assert 4 * math.log(HIGHEST / LOWEST) < TRAVEL


@pytest.mark.parametrize("rule", RULES, ids=["PI", "GECO"])
def test_multipliers_stay_within_their_bounds(rule):
    for rate, bound in ((1e4, HIGHEST), (0.0, LOWEST)):
        state, targets = start(torch.ones(1)), torch.tensor([5.0])
        for _ in range(2000):
            state = rule.follow(state, torch.tensor([rate]), targets)
        assert rule.multipliers(state, targets).item() == pytest.approx(bound)


def test_a_target_of_zero_raises_beta_until_the_rate_is_gone():
    state, targets = start(torch.ones(1)), torch.zeros(1)
    higher = PI().follow(state, torch.tensor([1.0]), targets)
    assert PI().multipliers(higher, targets) > 1
    nothing = PI().follow(state, torch.tensor([0.0]), targets)
    assert PI().multipliers(nothing, targets).item() == pytest.approx(1)


# --- in a population ----------------------------------------------------------------------------------------------


def same(a, i, b, j):
    for name, value in a.parameters.items():
        assert torch.equal(value[i], b.parameters[name][j]), name
    assert torch.equal(a.multipliers[i], b.multipliers[j])
    assert torch.equal(a.history[i], b.history[j])


def test_every_member_has_targets_and_multipliers_of_its_own(images):
    together = train(MAKE, MEMBERS, images, SETTINGS)
    for i, member in enumerate(MEMBERS):
        same(together, i, train(MAKE, [member], images, SETTINGS), 0)
    assert together.betas[0].tolist() == [1.0, 1.0]
    assert together.betas[1, 1] == 0.5, "a layer without a target keeps its beta"
    assert together.betas[1, 0] != 0.1
    torch.testing.assert_close(together.betas[3], torch.tensor([1.0, 10.0]))


def test_members_without_targets_are_what_they_are_in_an_ordinary_population(images):
    mixed = train(MAKE, MEMBERS, images, SETTINGS)
    plain = train(MAKE, [MEMBERS[0], MEMBERS[3]], images, SETTINGS)
    same(mixed, 0, plain, 0)
    same(mixed, 3, plain, 1)


@pytest.mark.parametrize("updates", [10, 20])
def test_betas_stay_where_they_start_for_a_tenth_of_the_updates(updates):
    x = (torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8) * 255
    used = []

    def objective(terms, betas):
        used.append(betas.tolist())
        return lagrangian(terms, betas)

    member = Member((0.1, 0.5), seed=0, targets=(2.0, None))
    population = train(lambda: Chain(2), [member], x, Plan(epochs=updates, batch_size=8), objective=objective)
    filling, kept = updates // 10, pytest.approx([0.1, 0.5])
    found = population.multipliers[0].tolist()  # after each update, for it is an epoch
    assert [betas == kept for betas in found] == [True] * filling + [False] * (updates - filling)
    # The update that follows a rate for the first time has seen none: its betas are still those of the start.
    assert [betas == kept for betas in used] == [True] * (filling + 1) + [False] * (updates - filling - 1)
    assert all(beta == pytest.approx(0.5) for _, beta in found + used), "it has no target"


def test_stacked_and_one_at_a_time_agree(images):
    """Multipliers follow rates, so a difference of the arithmetic feeds back: 1e-4 relative after 12 steps."""
    members = [Member((0.1, 0.1), 0, targets=(r2, 5.0)) for r2 in (1.0, 3.0, 9.0)]
    loop, stacked = (train(MAKE, members, images, SETTINGS, chunk=size) for size in (1, 3))
    torch.testing.assert_close(loop.betas, stacked.betas, rtol=1e-4, atol=0)
    for name, value in loop.parameters.items():
        assert (value - stacked.parameters[name]).norm() < 1e-4 * value.norm(), name


def test_resumed_in_the_middle_multipliers_go_on(images, tmp_path, monkeypatch):
    monkeypatch.setattr("hvae_core.training.trainer.CHECKPOINT_EVERY_S", 0.0)
    whole = train(MAKE, MEMBERS, images, SETTINGS)
    checkpoints = Checkpoints(tmp_path, "this")
    save = checkpoints.save

    def stop_after_two(epoch, tensors):
        save(epoch, tensors)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(MAKE, MEMBERS, images, SETTINGS, checkpoints=checkpoints)
    resumed = train(MAKE, MEMBERS, images, SETTINGS, checkpoints=Checkpoints(tmp_path, "this"))
    for i in range(len(MEMBERS)):
        same(whole, i, resumed, i)


def test_a_member_that_diverges_takes_no_multiplier_with_it(images):
    broken = Member((0.1, 0.1), seed=1, targets=(math.nan, 1e30))
    healthy = train(MAKE, [TARGETED], images, SETTINGS)

    def objective(terms, betas):
        poison = torch.where(betas[1] != 0.5, torch.inf, 0.0)
        return (terms.distortion + terms.rates @ betas).mean() + poison

    both = train(MAKE, [TARGETED, broken], images, SETTINGS, objective=objective, chunk=2)
    assert both.diverged_epoch == [None, 1]
    torch.testing.assert_close(both.betas[0], healthy.betas[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("layers", [1, 3])
def test_any_number_of_layers_holds_its_rates(layers):
    """A small hierarchy of linear layers ends within the tolerance; the rest is for `digits-targets`."""
    x = (torch.rand(256, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8) * 255
    targets = tuple(0.5 + 0.25 * i for i in range(layers))
    member = Member((0.1,) * layers, seed=0, targets=targets)
    population = train(
        lambda: Chain(layers), [member], x, Plan(epochs=150, batch_size=64, learning_rate=5e-3, schedule="two-phase")
    )
    rates = average_terms(population.member(0), x, 0)
    for n, target in zip(range(layers, 0, -1), targets, strict=True):
        assert abs(rates[f"rate_{n}"] - target) <= tolerance(target), n


@pytest.mark.slow
def test_a_digits_model_holds_both_rates_and_its_betas_give_them_again():
    """Trained with the betas that were found, fixed, a model has nearly the rates that were asked for."""
    x = load("digits").x_train
    how = Plan(epochs=40, batch_size=50, learning_rate=2e-3, schedule="two-phase")
    asked = train(MAKE, [Member((0.1, 0.1), 0, targets=(10.0, 16.0))], x, how)
    held = average_terms(asked.member(0), x, 0)
    assert verdict((10.0, 16.0), [held["rate_2"], held["rate_1"]], asked.multipliers[0])["target_status"] == "reached"
    again = average_terms(train(MAKE, [Member(tuple(asked.betas[0].tolist()), 0)], x, how).member(0), x, 0)
    assert again["rate_2"] == pytest.approx(10, rel=0.25)
    assert again["rate_1"] == pytest.approx(16, rel=0.25)


# --- what is said -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "last", "said"),
    [
        (3.0, LOWEST, "lowest that is tried, 0.001: here z_2 carries no more"),
        (30.0, HIGHEST, "highest that is tried, 1000: here z_2 carries no less"),
        (8.0, 0.5, "beta_2 is still falling"),
        (12.0, 2.0, "beta_2 is still rising"),
        (12.0, 1.0, "moves no more, at 1"),
    ],
)
def test_a_target_that_is_missed_has_a_plain_reason(rate, last, said):
    multipliers = torch.ones(20, 2)
    multipliers[-1, 0] = last
    if last in (LOWEST, HIGHEST):
        multipliers[:, 0] = last
    found = verdict((10.0, None), [rate, 99.0], multipliers)
    assert found["target_status"] == "unreached"
    assert f"R(z_2) is {rate:.2f} nats, not 10" in found["target_reason"]
    assert said in found["target_reason"]


def test_the_tolerance_is_two_percent_or_a_tenth_of_a_nat():
    assert [tolerance(rate) for rate in (0, 1, 5, 50)] == [0.1, 0.1, 0.1, 1.0]
    assert verdict((50.0,), [50.99], torch.ones(3, 1))["target_status"] == "reached"
    assert verdict((50.0,), [51.01], torch.ones(3, 1))["target_status"] == "unreached"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_rates": [[1]]}, "1 entries for the 2 layers of ghvae"),
        ({"target_rates": [None, None]}, "no layer has one"),
        ({"target_rates": [[1], [-2]]}, "greater than or equal to 0"),
        ({"target_rates": [[1], [2]], "betas": [0.1, 1.0]}, "z_2 has a target rate, so it takes one beta"),
        ({"target_rates": {"total": [10], "shares": [1.5]}}, "less than or equal to 1"),
        ({"target_rates": {"total": [10], "shares": [[0.5, 0.6]]}}, "not 2 numbers that add up to 1"),
        ({"target_rates": {"totals": [10], "shares": [1]}}, "target_rates"),
        ({"target_rates": [[5]], "model": "--v", "betas": [[0.1]]}, "for the hierarchical models"),
        ({"target_rates": [[1], [2]], "bins": [2], "betas": [[0.1]]}, "every layer has a multiplier of its own"),
        ({"target_rates": [[1], [2]], "warm_up": 0.5}, "warm_up"),
        ({"target_rates": [[1, 1], [2]]}, "stands there twice"),
    ],
)
def test_targets_that_make_no_run_are_named(changes, said):
    with pytest.raises(InputError, match=r"^configuration: ") as error:
        Config.make({"betas": [[0.1], [0.1]], **changes})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_members_of_mixed_runs():
    mixed = Config.make({"target_rates": [[2, 4], None], "betas": [[0.1], [0.5, 1]], "seeds": 2})
    assert len(mixed.members()) == 8
    assert mixed.members()[0] == Member((0.1, 0.5), 0, "ghvae", (2.0, None))
    split = Config.make({"target_rates": {"total": [40], "shares": [0, 0.25, [0.5, 0.5]]}, "betas": [[0.1], [0.1]]})
    assert [member.targets for member in split.members()] == [(0, 40), (10, 30), (20, 20)]
    deep = Config.make({"target_rates": {"total": [40], "shares": [0.5]}, "betas": [0.1], "latent_sizes": [4, 8, 256]})
    assert deep.members()[0].targets == (20, 10, 10)


# --- a whole run --------------------------------------------------------------------------------------------------

SMALL = ["epochs=3", "train_images=60", "test_images=40", "classifier_epochs=1", "generated_samples=20", "blocks=2"]


def test_a_run_with_targets_reports_betas_and_reasons(output):
    run_here("digits-targets", [*SMALL, "target_rates=[[2, 900], null]", "betas=[[0.1], [1, 2]]"], "mixed")
    results = load_results("mixed")
    assert results["target_2"].tolist() == [2, 900, 2, 900]
    assert results["target_1"].isna().all()
    assert results["beta_1"].tolist() == [1, 1, 2, 2]
    assert (results["beta_2"] != 0.1).all()
    assert results["target_status"].isin(["reached", "unreached"]).all()
    assert results.loc[results["target_2"] == 900, "target_reason"].str.contains(r"R\(z_2\) is .* nats, not 900").all()
    history = pd.read_parquet(output / "runs/mixed/history.parquet")
    assert {"beta_2", "beta_1", "target_2", "train_rate_2"} <= set(history)
    last = history[history["epoch"] == 3].sort_values("member")
    assert last["beta_2"].to_numpy() == pytest.approx(results["beta_2"].to_numpy())
    about = json.loads((output / "figures/mixed/targets.json").read_text())
    assert about["script"] == "notebooks/80_target_rates.ipynb"


def test_a_run_of_shares_has_its_figure_and_is_beside_a_grid(output):
    small = [*SMALL, "schedule=constant"]
    grid = load_profile("digits-grid", [*small, "betas.points=3", "seeds=2"], "grid")
    keep_results(grid, synthetic(3, seeds=2))
    run_here("digits-shares", [*small, "target_rates.shares=[0, 0.5, 1]", "seeds=2"], "split")
    folder = output / "figures/split"
    assert {f"{name}.png" for name in ("targets", "shares")} <= {path.name for path in folder.iterdir()}
    table = pd.read_csv(folder / "shares_table.csv")
    assert table["metric"].nunique() == 6
    compared = pd.read_csv(folder / "targets_surface_grid.csv")
    assert len(compared) == 6
    assert {"lagrangian", "surface", "difference", "spread", "percent"} <= set(compared)


def test_the_notebook_of_two_rules_compares_them():
    changes = {"schedule": "two-phase", "epochs": 1, "train_images": 60, "test_images": 40}
    shown = executed("82_two_controllers", changes=changes, targets=[[2, 16], [20, 2]])
    table = next(value for value in shown if isinstance(value, pd.DataFrame))
    assert [rule in table.index for rule in ("PI, betas start at 0.1", "GECO, gain 0.005")] == [True, True]
    assert "held, %" in table
