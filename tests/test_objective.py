"""Paper A, Eq. 8 and its special cases; Paper B's target rate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_core.errors import InputError
from hvae_core.objective import lagrangian, target_rate, warm_up
from hvae_core.runs.identity import check_objective
from hvae_core.terms import Terms, elbo, layer_numbers, rate

positive = st.floats(0.01, 100)


def terms(layers: int, batch: int = 5) -> Terms:
    source = torch.Generator().manual_seed(layers)
    return Terms(torch.rand(batch, generator=source) * 100, torch.rand(batch, layers, generator=source) * 30)


@settings(deadline=None)
@given(st.integers(1, 5), positive)
def test_equal_betas_make_a_beta_vae(layers, beta):
    t = terms(layers)
    expected = (t.distortion + beta * rate(t)).mean()
    torch.testing.assert_close(lagrangian(t, torch.full((layers,), beta)), expected, rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(st.integers(1, 5))
def test_all_betas_one_make_the_negative_elbo(layers):
    t = terms(layers)
    torch.testing.assert_close(lagrangian(t, torch.ones(layers)), -elbo(t).mean())


@settings(deadline=None)
@given(st.lists(positive, min_size=1, max_size=5))
def test_a_beta_is_the_price_of_its_own_rate(betas):
    t = terms(len(betas))
    rates = t.rates.clone().requires_grad_()
    lagrangian(Terms(t.distortion, rates), torch.tensor(betas)).backward()
    torch.testing.assert_close(rates.grad, torch.tensor(betas).expand_as(rates) / len(rates))


@settings(deadline=None)
@given(st.lists(positive, min_size=1, max_size=5), positive)
def test_a_target_rate_is_a_penalty_on_each_layers_mean_rate(targets, weight):
    t = terms(len(targets))
    wanted = torch.tensor(targets)
    apart = sum(abs(rate.item() - target) for rate, target in zip(t.rates.mean(0), targets, strict=True))
    expected = t.distortion.mean().item() + weight * apart
    assert target_rate(t, wanted, weight).item() == pytest.approx(expected, rel=1e-5)
    assert target_rate(t, t.rates.mean(0)).item() == t.distortion.mean().item(), "images may differ, their mean counts"


def test_rates_are_drawn_to_their_targets_from_both_sides():
    t = terms(2)
    rates = t.rates.clone().requires_grad_()
    above, below = t.rates.mean(0) + torch.tensor([-1.0, 1.0])
    target_rate(Terms(t.distortion, rates), torch.stack([above, below]), weight=3.0).backward()
    torch.testing.assert_close(rates.grad.sum(0), torch.tensor([3.0, -3.0]))


@settings(deadline=None)
@given(st.floats(1, 6), st.floats(0.1, 8), st.floats(0.5, 5))
def test_where_the_penalty_holds_the_target(steepness, target, weight):
    """Of a family whose D falls as steeply as -steepness at R = 0 and flattens out: R* or the beta-VAE, beta = w."""
    rates = torch.linspace(0, 10, 4001, dtype=torch.float64)
    distortion = 3 * steepness * torch.exp(-rates / 3)  # its slope is -w at
    rate_of_beta = max(0.0, 3 * torch.log(torch.tensor(steepness / weight)).item())
    losses = [
        target_rate(Terms(d[None], r[None, None]), torch.tensor([target], dtype=torch.float64), weight)
        for d, r in zip(distortion[::20], rates[::20], strict=True)
    ]
    reached = rates[::20][torch.stack(losses).argmin()].item()
    assert reached == pytest.approx(max(target, rate_of_beta), abs=0.06)


def test_with_a_decoder_that_can_do_all_a_weight_of_one_holds_from_below_only():
    rates, target = torch.tensor([0.2, 0.5, 0.7, 0.9]), torch.tensor([0.5])
    losses = {
        weight: [target_rate(Terms(3 - r[None], r[None, None]), target, weight).item() for r in rates]
        for weight in (1.0, 2.0)
    }
    assert losses[1.0] == pytest.approx([2.8 + 0.3, 2.5, 2.5, 2.5])
    assert target_rate(Terms(2.8 * torch.ones(1), 0.2 * torch.ones(1, 1)), target).item() == losses[1.0][0], "w is 1"
    assert losses[2.0] == pytest.approx([2.8 + 0.6, 2.5, 2.7, 2.9])


@settings(deadline=None)
@given(st.integers(1, 300), st.floats(0, 1))
def test_warm_up_rises_from_the_first_step_to_one(steps, fraction):
    factors = [warm_up(step, steps, fraction) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors == sorted(factors)
    assert all(factor == 1 for step, factor in enumerate(factors) if step + 1 >= fraction * steps)
    assert fraction > 0 or set(factors) == {1.0}


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_after_a_part_of_the_warm_up_betas_have_this_part_of_their_value(ramp, flat):
    factors = [warm_up(step, ramp + flat, ramp / (ramp + flat)) for step in range(ramp + flat)]
    assert factors == pytest.approx([(step + 1) / ramp for step in range(ramp)] + [1.0] * flat)
    assert warm_up(0, 3, 0.5) == pytest.approx(1 / 1.5), "a ramp may end within an update"


def test_layers_are_numbered_from_the_top_as_in_the_paper():
    assert list(layer_numbers(3)) == [3, 2, 1]


def misspelt(terms, betas):
    weighted = terms.rate @ betas
    return (terms.distortion + weighted).mean()


def of_three(terms, betas, epoch):
    return lagrangian(terms, betas)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (misspelt, r"at 'weighted = terms.rate @ betas': AttributeError: .*'rate'"),
        (of_three, r"fails: TypeError: .*epoch.*called as objective\(terms, betas\)"),
        (lambda terms, betas: terms.distortion + terms.rates @ betas, r"returned a tensor of shape \(3,\)"),
    ],
)
def test_what_is_wrong_with_an_objective_is_named(objective, said):
    check_objective(lagrangian, 2)
    with pytest.raises(InputError, match=said):
        check_objective(objective, 2)
