"""Eq. 8 and its special cases."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from hvae_core.objective import lagrangian, warm_up
from hvae_core.terms import Terms, elbo, layer_numbers, rate, to_bits_per_dim

positive = st.floats(0.01, 100)


def terms(layers: int, batch: int = 5) -> Terms:
    source = torch.Generator().manual_seed(layers)
    return Terms(torch.rand(batch, generator=source) * 100, torch.rand(batch, layers, generator=source) * 30)


@given(st.integers(1, 5), positive)
def test_equal_betas_make_a_beta_vae(layers, beta):
    t = terms(layers)
    expected = (t.distortion + beta * rate(t)).mean()
    torch.testing.assert_close(lagrangian(t, torch.full((layers,), beta)), expected, rtol=1e-5, atol=1e-4)


@given(st.integers(1, 5))
def test_all_betas_one_make_the_negative_elbo(layers):
    t = terms(layers)
    torch.testing.assert_close(lagrangian(t, torch.ones(layers)), -elbo(t).mean())


@given(st.lists(positive, min_size=1, max_size=5))
def test_a_beta_is_the_price_of_its_own_rate(betas):
    t = terms(len(betas))
    rates = t.rates.clone().requires_grad_()
    lagrangian(Terms(t.distortion, rates), torch.tensor(betas)).backward()
    torch.testing.assert_close(rates.grad, torch.tensor(betas).expand_as(rates) / len(rates))


@given(st.integers(1, 300), st.floats(0, 1))
def test_warm_up_rises_from_the_first_step_to_one(steps, fraction):
    factors = [warm_up(step, steps, fraction) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors == sorted(factors)
    assert all(factor == 1 for step, factor in enumerate(factors) if step + 1 >= fraction * steps)
    assert fraction > 0 or set(factors) == {1.0}


def test_layers_are_numbered_from_the_top_as_in_the_paper():
    assert list(layer_numbers(3)) == [3, 2, 1]


def test_bits_per_dim():
    assert to_bits_per_dim(0.6931471805599453 * 3072, (3, 32, 32)) == 1
