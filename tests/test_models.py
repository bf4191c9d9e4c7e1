"""The architectures and what every hierarchical VAE must fulfil."""

import copy
import math

import pytest
import torch
from conftest import Chain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as D

from hvae_core.errors import InputError
from hvae_core.models import IMAGE_SHAPES, REGISTRY, build
from hvae_core.models.distributions import Bernoulli, Gaussian, Mixture, Product, PushedWithPrior, Pushforward, kl
from hvae_core.models.ghvae import GHVAE
from hvae_core.models.heads import SIZES
from hvae_core.models.lvae import LVAE
from hvae_core.models.paper_b.families import Family
from hvae_core.models.paper_b.flows import IAF, MAF
from hvae_core.models.paper_b.toy import Toy
from hvae_core.models.table import architecture_table
from hvae_core.names import FAMILIES, HIERARCHICAL, LAYERS
from hvae_core.randomness import Noise
from hvae_core.terms import elbo, rate

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


@pytest.mark.parametrize(
    ("model", "shape", "count"),
    [("ghvae", COLOUR, 475_811), ("ghvae", GREY, 122_713), ("lvae", COLOUR, 408_131), ("lvae", GREY, 104_745)],
)
def test_parameter_counts_of_tables_2_and_3(model, shape, count):
    module = build(model, shape)
    assert sum(p.numel() for p in module.parameters()) == count
    assert architecture_table(module)["parameters"].iloc[-1] == count


def test_architecture_table_reads_like_the_paper():
    table = architecture_table(build("ghvae", COLOUR)).set_index(["distribution", "step"])["layers"]
    assert table["q(z_2|x)", "on x"] == "Conv(3, 32, 4, 2, 1), Conv(32, 32, 4, 2, 1), Conv(32, 32, 4, 2, 1)"
    assert table["q(z_2|x)", "mean"] == "FC(512, 32)"
    assert table["q(z_1|z_2,x)", "on both"] == "Conv(64, 32, 4, 2, 1)"
    assert table["p(x|z_1)", "on z_1"].endswith("ConvTransp(32, 3, 4, 2, 1)")
    small = architecture_table(build("ghvae", GREY)).set_index(["distribution", "step"])["layers"]
    assert small["q(z_1|z_2,x)", "on both"] == "Conv(32, 16, 4, 1, 0)"


def check_hierarchy(model, x):
    """What holds for every architecture: run it on each new one."""
    noise = model.noise(len(x), Noise(1))
    terms = model(x, noise)
    assert terms.distortion.shape == (len(x),)
    assert terms.rates.shape == (len(x), model.layers)
    assert (terms.rates >= 0).all()
    torch.testing.assert_close(rate(terms), terms.rates.sum(1))
    again = model(x, noise)
    assert torch.equal(terms.distortion, again.distortion), "the forward pass is a function of its arguments"

    # ELBO = -(D + R) against a direct computation with torch.distributions, the KL by its definition.
    direct, z = torch.zeros(len(x), dtype=x.dtype), []
    for epsilon in noise:
        q, p = model.posterior(x, z), model.prior(z)
        direct -= (
            D.kl_divergence(D.Normal(q.mean, q.std), D.Normal(p.mean.expand_as(q.mean), p.std.expand_as(q.std)))
            .flatten(1)
            .sum(1)
        )
        z.append(q.mean + q.std * epsilon)
    likelihood = model.likelihood(z)
    if isinstance(likelihood, Bernoulli):
        direct += D.Bernoulli(logits=likelihood.logits).log_prob(x).flatten(1).sum(1)
    else:
        direct += D.Normal(*likelihood).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(elbo(terms), direct)

    (terms.distortion + terms.rates.sum(1)).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent, f"no gradient reaches {silent}"
    assert model.reconstruct(x).shape == x.shape
    assert model.generate(noise).shape == x.shape
    by_zero_noise = model.reconstruct(x, [torch.zeros_like(n) for n in noise])
    torch.testing.assert_close(model.reconstruct(x), by_zero_noise)


@pytest.mark.parametrize("model", HIERARCHICAL)
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_hierarchy(model, shape, double):
    torch.manual_seed(0)
    check_hierarchy(build(model, shape), torch.rand(3, *shape).round())


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_hierarchy_of_any_depth(chain, layers, double):
    torch.manual_seed(0)
    check_hierarchy(chain(layers), torch.rand(3, 1, 4, 4).round())


class Shown(Chain):
    """z_2 ~ N(0, 1), z_1 ~ N(2 z_2, 3^2), and the image is z_1."""

    def prior(self, z_above):
        mean = 2 * z_above[0] if z_above else torch.zeros(1, 1)
        return Gaussian(mean, torch.full_like(mean, 3.0 if z_above else 1.0))

    def likelihood(self, z):
        return Gaussian(torch.stack(z, 1), torch.tensor(1.0))


def test_what_is_generated_varies_as_much_as_the_priors_say(double):
    model = Shown(layers=2)
    model.latent_shapes = ((1,), (1,))
    z = model.generate(model.noise(100_000, Noise(0))).squeeze(2)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=0.05, rtol=0)
    expected = torch.tensor([[1.0, 2.0], [2.0, 4.0 + 9.0]])
    torch.testing.assert_close(z.T.cov(), expected, atol=0, rtol=0.02)


numbers = st.floats(-3, 3), st.floats(0.1, 3), st.floats(-3, 3), st.floats(0.1, 3)


@settings(max_examples=20, deadline=None)
@given(*numbers)
def test_closed_form_kl_equals_monte_carlo(m1, s1, m2, s2):
    q, p = (Gaussian(torch.full((1, 1), m).double(), torch.full((1, 1), s).double()) for m, s in ((m1, s1), (m2, s2)))
    exact = kl(q, p).item()
    z = q.sample(torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    difference = (q.log_prob(z) - p.log_prob(z)).numpy()
    error = difference.std() / math.sqrt(len(difference))
    assert exact >= 0
    assert abs(difference.mean() - exact) < 5 * error + 1e-9


@settings(max_examples=50, deadline=None)
@given(*numbers)
def test_product_of_gaussians_is_proportional_to_the_product_of_densities(m1, s1, m2, s2):
    a, b = (Gaussian(torch.full((1, 1), m).double(), torch.full((1, 1), s).double()) for m, s in ((m1, s1), (m2, s2)))
    x = torch.linspace(-2, 2, 5).double()[:, None]
    ratio = a.log_prob(x) + b.log_prob(x) - Product(a, b).log_prob(x)
    torch.testing.assert_close(ratio, ratio[:1].expand(5), atol=1e-6, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(*numbers)
def test_kl_of_a_product_is_that_of_any_gaussian(m1, s1, m2, s2):
    a, b = (Gaussian(torch.full((1, 1), m).double(), torch.full((1, 1), s).double()) for m, s in ((m1, s1), (m2, s2)))
    q = Product(a, b)
    z, rate = q.rate(b, torch.zeros(1, 1).double())
    torch.testing.assert_close(z, q.mean)
    torch.testing.assert_close(rate, kl(Gaussian(q.mean, q.std), b), atol=1e-9, rtol=1e-6)


def test_densities_of_samples_and_their_ratio_are_those_at_the_samples(double):
    """Of maps, too: all numbers behind the batch are one event."""
    random = torch.Generator().manual_seed(0)
    shape = (4, 3, 2)
    a, b = (Gaussian(torch.randn(shape, generator=random), 0.5 + torch.rand(shape, generator=random)) for _ in range(2))
    noise = torch.randn(shape, generator=random)
    for q in (a, Product(a, b)):
        z = q.sample(noise)
        torch.testing.assert_close(z, q.mean + q.std * noise)
        at_z = D.Normal(q.mean, q.std).log_prob(z).sum((1, 2))
        torch.testing.assert_close(q.log_prob(z), at_z)
        torch.testing.assert_close(q.log_prob_of_sample(noise), at_z)
        ratio = at_z - D.Normal(b.mean, b.std).log_prob(z).sum((1, 2))
        for found, expected in zip(q.log_ratio(b, noise), (z, ratio), strict=True):
            torch.testing.assert_close(found, expected)
        divergence = D.kl_divergence(D.Normal(q.mean, q.std), D.Normal(b.mean, b.std)).sum((1, 2))
        for found, expected in zip(q.rate(b, noise), (z, divergence), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("narrow", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("wide", [1e-3, 1.0, 100.0])
def test_kl_of_a_product_is_exact_in_single_precision(narrow, wide):
    random = torch.Generator().manual_seed(0)
    means = [10 * torch.randn(1, 1000, generator=random) for _ in range(2)]
    stds = [std * (1 + torch.rand(1, 1000, generator=random)) for std in (wide, narrow)]
    evidence, prior = (Gaussian(mean, std) for mean, std in zip(means, stds, strict=True))
    exact = Product(*(Gaussian(g.mean.double(), g.std.double()) for g in (evidence, prior)))
    noise = torch.zeros(1, 1000)
    rate, expected = Product(evidence, prior).rate(prior, noise)[1], exact.rate(exact.prior, noise.double())[1]
    torch.testing.assert_close(rate.double(), expected, atol=1e-4, rtol=1e-5)


WIDTHS = [1e-6, 1e-3, 1.0, 100.0]


def widened(distribution):
    """The same in double precision, from the same numbers: a distribution, its parts, a flow or a tensor."""
    if isinstance(distribution, tuple):
        return type(distribution)(*map(widened, distribution))
    return copy.deepcopy(distribution).double()


@pytest.mark.parametrize("narrow", WIDTHS)
@pytest.mark.parametrize("wide", WIDTHS)
@pytest.mark.parametrize("pair", ["gaussians", "product", "mixture"])
def test_ratios_of_densities_are_exact_in_single_precision(pair, narrow, wide):
    """At widths down to the least a head gives, with means far from 0: where z itself is rounded by many widths."""
    random = torch.Generator().manual_seed(0)

    def gaussian(std, rows=1, dimensions=200, near=None):
        mean = 10 * torch.randn(1, dimensions, generator=random) if near is None else near.mean
        mean = mean + 0.3 * std * torch.randn(rows, dimensions, generator=random)
        return Gaussian(mean, std * (0.5 + torch.rand(rows, dimensions, generator=random)))

    prior = gaussian(narrow)
    if pair == "gaussians":
        q = gaussian(wide, near=prior)
    elif pair == "product":
        q = Product(gaussian(wide, near=prior), prior)
    else:
        q = gaussian(wide, near=prior)
        components = gaussian(narrow, rows=5, near=prior)
        prior = Mixture(components.mean, components.std, torch.randn(5, generator=random).log_softmax(0))
    noise = torch.randn(3, 200, generator=random)
    found = q.log_ratio(prior, noise)[1].double()
    expected = widened(q).log_ratio(widened(prior), noise.double())[1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("std", WIDTHS)
@pytest.mark.parametrize("pair", ["flow of the prior", "flow of the encoder", "flows of both", "one flow of both"])
def test_ratios_of_densities_behind_flows_are_exact_in_single_precision(pair, std):
    """As Paper B's families have them, over N(0, I) or the mixture of a VampPrior."""
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    maf, iaf = (bent(kind(16, (32, 32))) for kind in (MAF, IAF))
    normal = Gaussian(torch.zeros(1, 16), torch.ones(1, 16))
    plain = Gaussian(torch.randn(3, 16, generator=random), std * (0.5 + torch.rand(3, 16, generator=random)))
    near = plain.mean[:1] + 0.3 * std * torch.randn(5, 16, generator=random)
    components = Mixture(near, std * (0.5 + torch.rand(5, 16, generator=random)), torch.zeros(5).log_softmax(0))
    q, p = {
        "flow of the prior": (plain, Pushforward(normal, maf)),
        "flow of the encoder": (Pushforward(plain, iaf), normal),
        "flows of both": (Pushforward(plain, iaf), Pushforward(normal, maf)),
        "one flow of both": (PushedWithPrior(plain, iaf), Pushforward(components, iaf)),
    }[pair]
    noise = torch.randn(3, 16, generator=random)
    found = q.log_ratio(p, noise)[1].double()
    expected = widened(q).log_ratio(widened(p), noise.double())[1]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


def bent(flow):
    """A flow that shifts by numbers of the size of 1: as initialised it is almost the identity."""
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(2)
    return flow


def test_bernoulli_probabilities_sum_to_one(double):
    logits = torch.randn(1, 3)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    assert Bernoulli(logits.expand(8, 3)).log_prob(every).exp().sum().item() == pytest.approx(1)
    samples = Bernoulli(logits.expand(100_000, 3)).sample(
        torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0))
    )
    torch.testing.assert_close(samples.mean(0), logits[0].sigmoid(), atol=0.01, rtol=0)
    torch.testing.assert_close(Bernoulli(logits).mode, logits.sigmoid())


def test_sigma_x_is_kept_with_the_model():
    model = build("ghvae", COLOUR, sigma_x=0.3)
    assert model.state_dict()["sigma_x"].item() == pytest.approx(0.3)
    x = torch.zeros(1, *COLOUR)
    z = [torch.zeros(1, *shape) for shape in model.latent_shapes]
    mean = model.likelihood(z).mode
    expected = D.Normal(mean, 0.3).log_prob(x).sum()
    torch.testing.assert_close(model.likelihood(z).log_prob(x)[0], expected)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("gvae", GREY, {}), "gvae"), (("ghvae", (1, 29, 29), {}), "1x29x29"), (("lvae", GREY, {"sigma": 1}), "sigma")],
)
def test_what_is_not_there_is_refused_by_name(arguments, named):
    model, shape, options = arguments
    with pytest.raises(InputError, match=named):
        build(model, shape, **options)


# --- the registry ---------------------------------------------------------------------------------------------------


CLASSES = {"ghvae": GHVAE, "lvae": LVAE, **dict.fromkeys(FAMILIES, Family), "toy": Toy}


@pytest.mark.parametrize(
    ("model", "shape"), [(model, shape) for model, shapes in IMAGE_SHAPES.items() for shape in shapes]
)
def test_every_model_is_there_for_every_shape_that_is_named(model, shape):
    options = {"width": 0.1, "pseudo_inputs": 5} if model in FAMILIES else {}
    module = build(model, shape, **options)
    assert type(module) is CLASSES[model]
    assert module.image_shape == shape
    assert module.layers == LAYERS[model]
    terms = module(torch.zeros(2, *shape), module.noise(2, Noise(0)))
    assert torch.isfinite(elbo(terms)).all()


def test_the_registry_the_shapes_and_the_sizes_agree():
    assert {name: f"{kind.__module__}:{kind.__name__}" for name, kind in CLASSES.items()} == REGISTRY
    assert set(IMAGE_SHAPES) == set(REGISTRY) - {"toy"}
    for model in HIERARCHICAL:
        assert set(IMAGE_SHAPES[model]) == set(SIZES)
