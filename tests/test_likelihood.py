"""Likelihood and information against a linear-Gaussian model, of which both are known, and against each other."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from hvae_core import data as D
from hvae_core.evaluation import likelihood, rates
from hvae_core.evaluation.likelihood import importance_bound, log_weights
from hvae_core.models import build
from hvae_core.models.distributions import Gaussian, kl
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.randomness import Noise, Purpose
from hvae_core.terms import elbo


class Linear(HierarchicalVAE):
    """z ~ N(0, I), x ~ N(W z + b, sigma^2 I): marginal, posterior and mutual information in closed form.

    The posterior is the true one, shifted and widened by hand to leave a gap. Columns of W are orthogonal, so that
    the true posterior has a diagonal covariance; the last columns are 0, so that its dimensions are dead.
    """

    def __init__(self, widened=1.0, shifted=0.0, dead=1):
        super().__init__()
        self.image_shape, self.latent_shapes = (1, 2, 3), ((3 + dead,),)
        basis = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]
        self.w = torch.cat([basis[:, :3] * torch.tensor([1.0, 0.6, 0.3]), torch.zeros(6, dead)], 1)
        self.b, self.sigma = torch.full((6,), 0.5), 0.4
        self.widened, self.shifted = widened, shifted

    def posterior(self, x, z_above, features=None):
        precision = 1 + (self.w**2).sum(0) / self.sigma**2
        mean = (x.flatten(1) - self.b) @ self.w / self.sigma**2 / precision
        return Gaussian(mean + self.shifted, self.widened * precision.rsqrt().expand_as(mean))

    def prior(self, z_above):
        return Gaussian(torch.zeros(1, *self.latent_shapes[0]), torch.ones(1, *self.latent_shapes[0]))

    def likelihood(self, z):
        return Gaussian((z[0] @ self.w.T + self.b).unflatten(1, self.image_shape), torch.tensor(self.sigma))

    def log_marginal(self, x):
        covariance = self.w @ self.w.T + self.sigma**2 * torch.eye(6)
        return MultivariateNormal(self.b, covariance).log_prob(x.flatten(1))

    def information(self):
        return 0.5 * torch.logdet(torch.eye(6) + self.w @ self.w.T / self.sigma**2).item()


@pytest.fixture
def grey():
    """Images in grey levels, uint8 (200, 1, 2, 3)."""
    return torch.randint(0, 256, (200, 1, 2, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def standard_error(values):
    return (values.std() / math.sqrt(len(values))).item()


# --- the importance-weighted bound --------------------------------------------------------------------------------


def test_with_the_true_posterior_every_weight_is_the_likelihood(grey):
    model, x = Linear(), D.pixels(grey)
    for noise in (model.noise(200, Noise(1)), model.noise(200, Noise(2))):
        torch.testing.assert_close(log_weights(model, x, noise), model.log_marginal(x), atol=2e-4, rtol=0)
    for samples in (1, 7):
        assert likelihood.iwae(model, grey, samples, 0) == pytest.approx(model.log_marginal(x).mean().item(), abs=2e-4)


def test_many_samples_approach_the_likelihood_from_below(grey):
    model, x = Linear(widened=1.6, shifted=0.3), D.pixels(grey)
    gaps = {}
    for samples in (1, 5, 50, 2000):  # 2000: more samples than are computed at once
        bound = importance_bound(model, x, samples, Noise(0))
        assert bound.dtype == torch.float64
        gaps[samples] = gap = model.log_marginal(x) - bound
        assert gap.mean() > -3 * standard_error(gap)
    assert gaps[1].mean() > gaps[5].mean() > gaps[50].mean() > gaps[2000].mean()
    assert abs(gaps[2000].mean()) < 0.02
    # With one sample the gap is that of the ELBO, the divergence from the true posterior.
    divergence = kl(model.posterior(x, []), Linear().posterior(x, [])).mean().item()
    assert gaps[1].mean().item() == pytest.approx(divergence, abs=4 * standard_error(gaps[1]))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_bound_grows_with_the_samples_from_the_elbo(chain, layers):
    torch.manual_seed(0)
    model = chain(layers)
    x = (torch.rand(500, 1, 4, 4, generator=source()) < 0.4).float()
    bounds = {samples: importance_bound(model, x, samples, Noise(0)) for samples in (1, 5, 50)}
    with torch.no_grad():
        closed = torch.stack([elbo(model(x, model.noise(500, Noise(seed)))) for seed in range(20)]).mean(0)
    difference = bounds[1] - closed
    assert difference.mean().item() == pytest.approx(0, abs=4 * standard_error(difference))
    for fewer, more in ((1, 5), (5, 50)):
        gain = bounds[more] - bounds[fewer]
        assert gain.mean() > -2 * standard_error(gain)
    assert bounds[50].mean() > bounds[1].mean()


def test_weights_have_the_elbo_as_their_mean(chain):
    torch.manual_seed(0)
    model, x = chain(2), (torch.rand(1, 1, 4, 4, generator=source()) < 0.4).float()
    with torch.no_grad():
        weights = log_weights(model, x.expand(20_000, -1, -1, -1), model.noise(20_000, Noise(0)))
        exact = elbo(model(x.expand(20_000, -1, -1, -1), model.noise(20_000, Noise(0)))).mean()
    assert weights.mean().item() == pytest.approx(exact.item(), abs=4 * standard_error(weights))


def test_the_bound_does_not_depend_on_how_it_is_cut_up(grey, monkeypatch):
    """Equal images keep equal noise: the parts are of images first, then of samples, in one stream."""
    model = Linear(widened=1.6, shifted=0.3)
    monkeypatch.setattr(likelihood, "BATCH", 1000)
    whole = likelihood.iwae(model, grey, 3, seed=5)
    monkeypatch.setattr(likelihood, "BATCH", 300)
    assert likelihood.iwae(model, grey, 3, seed=5) == pytest.approx(whole, abs=1e-5)
    assert likelihood.iwae(model, grey, 3, seed=6) != whole
    monkeypatch.setattr(likelihood, "BATCH", 2)  # fewer than the samples of one image
    assert likelihood.iwae(model, grey, 3, seed=5) == pytest.approx(whole, abs=0.2)


def test_the_bound_of_one_sample_is_the_mean_weight_with_noise_of_the_seed(grey):
    model = Linear(widened=1.6, shifted=0.3)
    noise = model.noise(100, Noise(5, Purpose.EVALUATION, likelihood.IWAE_STREAM))
    weights = log_weights(model, D.pixels(grey[:100]), noise)
    assert likelihood.iwae(model, grey[:100], 1, seed=5) == pytest.approx(weights.mean().item(), abs=1e-5)


def test_no_more_rows_at_once_than_a_batch(grey, monkeypatch):
    model, seen = Linear(), []
    original = model.likelihood
    monkeypatch.setattr(model, "likelihood", lambda z: seen.append(len(z[0])) or original(z))
    likelihood.iwae(model, grey[:3], 2500, seed=0)
    assert max(seen) <= likelihood.BATCH and sum(seen) == 3 * 2500


@pytest.mark.parametrize("name", ["ghvae", "lvae"])
def test_the_bound_agrees_with_the_terms_of_the_run(name, images):
    torch.manual_seed(0)
    model = build(name, (1, 28, 28)).eval()
    x = images.repeat(8, 1, 1, 1)
    assert likelihood.iwae(model, x, 1, 0) == pytest.approx(rates.average_terms(model, x, 0)["elbo"], abs=2)


# --- generative mutual information ----------------------------------------------------------------------------------


def test_the_bounds_on_the_information_hold_the_truth_between_them():
    model = Linear(widened=1.3, shifted=0.3)
    lower, upper = likelihood.generative_bounds(model, 3000, seed=0, samples=50)
    truth = model.information()
    assert truth > 1
    assert lower < truth - 0.1 and truth - 0.05 < upper < truth + 0.1


def test_both_bounds_are_tight_with_the_true_posterior():
    model = Linear()
    lower, upper = likelihood.generative_bounds(model, 3000, seed=0, samples=1)
    assert lower == pytest.approx(model.information(), abs=0.1)
    assert upper == pytest.approx(lower, abs=1e-3), "then E and G are one function of every sample"
    lower, upper = likelihood.generative_bounds(model, 2, seed=0, samples=1)
    assert upper == pytest.approx(lower, abs=1e-3), "of each, and not on average alone"


def test_a_poor_estimate_of_the_marginal_only_raises_the_upper_bound():
    model = Linear(widened=1.6, shifted=0.3)
    upper = [likelihood.generative_bounds(model, 2000, seed=0, samples=k)[1] for k in (1, 5, 100)]
    assert upper[0] > upper[1] > upper[2] > model.information() - 0.1


def test_information_is_for_one_layer(chain):
    with pytest.raises(ValueError, match="one layer of latents, not 2"):
        likelihood.generative_bounds(chain(2), 4, seed=0)


# --- active units -----------------------------------------------------------------------------------------------------


def test_dead_units_are_not_counted(grey):
    assert likelihood.active_units(Linear(dead=0), grey) == 3
    assert likelihood.active_units(Linear(dead=5), grey) == 3
    assert likelihood.active_units(Linear(), grey, threshold=1e9) == 0
    assert likelihood.active_units(Linear(dead=5), grey, threshold=0) == 3, "no more than the threshold is too little"
    assert likelihood.active_units(Linear(), grey[:1]) == 0, "nothing varies over one image"
    means = Linear().posterior(D.pixels(grey), []).mean.var(0, correction=0)
    between = means.sort().values[-2:].mean().item()
    assert likelihood.active_units(Linear(), grey, threshold=between) == 1


def test_a_unit_is_active_where_the_variance_over_the_images_themselves_is_above_a_hundredth():
    """Of two images the means are 0 and twice the deviation."""
    deviations = torch.tensor([0.0099, 0.0101, 0.5]).sqrt()

    class Two(Linear):
        def posterior(self, x, z_above, features=None):
            mean = 2 * deviations * x.flatten(1)[:, :1]
            return Gaussian(mean, torch.ones_like(mean))

    x = torch.stack([torch.zeros(1, 2, 3), torch.full((1, 2, 3), 255)]).to(torch.uint8)
    assert likelihood.active_units(Two(), x) == 2


# --- decodings, and all together --------------------------------------------------------------------------------------


class Sharp(Linear):
    """Decodes z without noise."""

    def __init__(self):
        super().__init__()
        self.sigma = 1e-4


def test_decodings_of_one_latent_differ_by_the_decoder_alone(grey):
    reconstructed, generated = likelihood.decodings(Linear(), grey[:7], seed=0)
    assert reconstructed.shape == generated.shape == (7, likelihood.REPEATS, 1, 2, 3)
    assert reconstructed.dtype == np.uint8
    assert (np.ptp(reconstructed, axis=1) > 0).mean() > 0.5
    reconstructed, generated = likelihood.decodings(Sharp(), grey[:7], seed=0)
    for images in (reconstructed, generated):
        assert np.ptp(images.astype(int), axis=1).max() <= 1, "z determines the image"
        assert np.ptp(images.astype(int), axis=0).max() > 1, "every image has a z of its own"


def test_decodings_are_of_the_images_they_are_given():
    model, z = Sharp(), torch.randn(20, 4, generator=source())
    x = (255 * model.likelihood([0.3 * z]).mean.clamp(0, 1)).round().to(torch.uint8)
    reconstructed, _ = likelihood.decodings(model, x, seed=0)
    errors = np.abs(reconstructed.astype(float) - x.numpy()[:, None])
    assert errors.max() <= 3


def test_decodings_of_binary_pixels_are_binary(images):
    torch.manual_seed(0)
    for model in (build("ghvae", (1, 28, 28)), build("---", (1, 28, 28), width=0.125)):
        for array in likelihood.decodings(model, images[:3], seed=0):
            assert set(np.unique(array)) == {0, 255}


@pytest.mark.parametrize("name", ["---", "-+v", "+-v", "+++", "++v"])
def test_the_families_are_measured(name, images):
    torch.manual_seed(0)
    model = build(name, (1, 28, 28), width=0.125)
    few = images[:4]
    bound = likelihood.iwae(model, few, 3, seed=0)
    assert math.isfinite(bound) and bound < 0
    terms = rates.average_terms(model, few, 0)
    assert bound == pytest.approx(terms["elbo"], rel=0.1)
    assert 0 <= likelihood.active_units(model, few) <= 64
    if name[1] == "-":  # the others take a pass a pixel
        lower, upper = likelihood.generative_bounds(model, 40, seed=0, samples=20)
        assert lower < upper


def test_everything_at_once(grey, chain, monkeypatch):
    assert likelihood.MANY == 500, "as the name of the bound says"
    monkeypatch.setattr(likelihood, "MANY", 40)
    row = likelihood.evaluate(Linear(widened=1.3), grey, 0, images=50, generated=200)
    assert list(row) == ["iwae_5", "iwae_500", "mi_lower", "mi_upper", "active_units"]
    assert row["iwae_5"] == likelihood.iwae(Linear(widened=1.3), grey, 5, 0)
    assert row["iwae_500"] == likelihood.iwae(Linear(widened=1.3), grey[:50], 40, 0)
    assert row["mi_lower"] < row["mi_upper"] and row["active_units"] == 3
    assert row == likelihood.evaluate(Linear(widened=1.3), grey, 0, images=50, generated=200)
    torch.manual_seed(0)
    binary = (torch.rand(20, 1, 4, 4, generator=source()) < 0.4).to(torch.uint8) * 255
    deep = likelihood.evaluate(chain(2), binary, 0)
    assert math.isnan(deep["mi_lower"]) and math.isnan(deep["mi_upper"])
    assert math.isfinite(deep["iwae_500"]) and deep["active_units"] == int(deep["active_units"])


def test_every_measure_draws_from_a_stream_of_its_own_by_the_seed_which_is_not_that_of_the_terms(grey, monkeypatch):
    drawn = []
    monkeypatch.setattr(likelihood, "Noise", lambda *names: drawn.append(names[:3]) or Noise(*names))
    monkeypatch.setattr(likelihood, "MANY", 6)
    likelihood.evaluate(Linear(), grey[:3], 7, generated=2)
    likelihood.decodings(Linear(), grey[:3], 7)
    assert {names[:2] for names in drawn} == {(7, Purpose.EVALUATION)}
    streams = [stream for _, _, stream in drawn]
    assert len(streams) == 4 and len({0, *streams}) == 4, "both bounds, by 5 samples and by many, draw from one"
