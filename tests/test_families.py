"""Paper B's twelve families: flows, VampPrior, PixelCNN, and what holds for all of them."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import functional_call, jacrev, stack_module_state, vmap

from hvae_core.data.dataset import pixels
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.models import build
from hvae_core.models.distributions import (
    AutoregressiveBernoulli,
    Bernoulli,
    Gaussian,
    Mixture,
    Pushforward,
    kl,
)
from hvae_core.models.paper_b.flows import IAF, MADE, MAF
from hvae_core.models.paper_b.pixelcnn import PixelCNN
from hvae_core.models.table import architecture_table
from hvae_core.names import FAMILIES, LAYERS
from hvae_core.objective import lagrangian
from hvae_core.randomness import Noise
from hvae_core.runs.config import Config

GREY = (1, 28, 28)
SMALL = {"width": 0.1, "pseudo_inputs": 5}


def small(family, seed=0):
    torch.manual_seed(seed)
    return build(family, GREY, **SMALL)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def binary(*shape, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.3).to(torch.get_default_dtype())


# --- flows


def shifting_strongly(flow):
    """The flow with weights that bend it: as initialised it is almost the identity."""
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(2)
    return flow


@pytest.mark.parametrize(("dimensions", "hidden"), [(6, (20, 20, 20)), (64, (8, 8, 8)), (2, (5,)), (1, (8, 8))])
def test_made_is_strictly_triangular(dimensions, hidden, double):
    torch.manual_seed(0)
    jacobian = jacrev(MADE(dimensions, hidden))(normal(dimensions))
    assert (jacobian.triu() == 0).all()
    if dimensions == 6:
        assert (jacobian.tril(-1).sum(1)[1:] != 0).all(), "every output after the first sees something"


@pytest.mark.parametrize("kind", [IAF, MAF])
def test_a_step_is_triangular_with_ones_and_all_steps_keep_volumes(kind, double):
    torch.manual_seed(0)
    u = normal(6)
    one = shifting_strongly(kind(6, (20, 20), steps=1))
    jacobian = jacrev(lambda v: one(v[None])[0])(u).flip(0 if kind is IAF else 1)  # a step also reverses the order
    assert torch.equal(jacobian.triu(1), torch.zeros(6, 6))
    torch.testing.assert_close(jacobian.diagonal(), torch.ones(6))
    assert jacobian.tril(-1).abs().sum() > 0.01
    four = shifting_strongly(kind(6, (20, 20)))
    assert len(four.steps) == 4
    whole = jacrev(lambda v: four(v[None])[0])(u)
    assert (whole - torch.eye(6)).abs().max() > 0.01
    assert (whole.triu(1) != 0).any() and (whole.tril(-1) != 0).any(), "the order turns between the steps"
    torch.testing.assert_close(torch.linalg.slogdet(whole).logabsdet, torch.tensor(0.0))


@pytest.mark.parametrize("kind", [IAF, MAF])
def test_flows_are_inverted_exactly(kind, double):
    torch.manual_seed(0)
    flow, u = shifting_strongly(kind(64, (100, 100, 100))), normal(5, 64)
    z = flow(u)
    assert (z - u).abs().max() > 0.1
    torch.testing.assert_close(flow.inverse(z), u)
    torch.testing.assert_close(flow(flow.inverse(u)), u)


def plane(points=241, limit=9.0):
    """The points of a square grid, and the area of each."""
    axis = torch.linspace(-limit, limit, points)
    return torch.cartesian_prod(axis, axis), (axis[1] - axis[0]).item() ** 2


@pytest.mark.parametrize("kind", [IAF, MAF])
def test_densities_of_flows_integrate_to_one(kind, double):
    torch.manual_seed(0)
    base = Gaussian(torch.tensor([[0.5, -0.3]]), torch.tensor([[0.6, 1.2]]))
    q = Pushforward(base, shifting_strongly(kind(2, (16, 16))))
    points, area = plane()
    density = q.log_prob(points).exp() * area
    assert density.sum().item() == pytest.approx(1, abs=1e-4)
    noise = normal(40_000, 2)
    sample = q.sample(noise)
    torch.testing.assert_close(q.log_prob_of_sample(noise), q.log_prob(sample))
    torch.testing.assert_close((density[:, None] * points).sum(0), sample.mean(0), atol=0.03, rtol=0)
    spread = (density[:, None] * points.square()).sum(0)
    torch.testing.assert_close(spread, sample.square().mean(0), atol=0.05, rtol=0.03)
    assert (q.log_prob(q.mode) >= q.log_prob(points).max()).all()


# --- the mixture and the VampPrior


def mixture():
    mean = torch.tensor([[-4.0, 1.0], [0.0, 0.0], [3.0, -2.0], [1.0, 1.0]])
    std = torch.tensor([[0.5, 1.0], [0.1, 2.0], [1.5, 0.3], [1.0, 1.0]])
    return Mixture(mean, std, torch.tensor([0.25, 0.05, 0.7, 0.0]).log())


def test_density_of_a_mixture_integrates_to_one(double):
    points, area = plane(limit=12.0, points=601)
    assert (mixture().log_prob(points).exp().sum() * area).item() == pytest.approx(1, abs=1e-4)
    assert mixture().mode.tolist() == [[3.0, -2.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_of_a_mixture_follow_it(dtype):
    """One number gives component and place.

    Each coordinate follows its mixture, and given a component they are apart.
    """
    p = Mixture(*(value.to(dtype) for value in mixture()))
    noise = normal(20_000, 2).to(dtype)
    sample = p.sample(noise)
    assert sample.dtype == dtype
    torch.testing.assert_close(p.log_prob_of_sample(noise), p.log_prob(sample))
    weights = p.log_weights.exp().numpy()
    for i in range(2):

        def cdf(v, i=i):
            return (weights * stats.norm.cdf(v[:, None], p.mean[:, i].numpy(), p.std[:, i].numpy())).sum(1)

        assert stats.kstest(sample[:, i].numpy(), cdf).pvalue > 0.001
    left = sample[sample[:, 0] < -2.5]  # the first component alone
    assert abs(len(left) / len(sample) - 0.25) < 0.015
    assert stats.kstest(left[:, 1].numpy(), stats.norm(1, 1).cdf).pvalue > 0.001
    assert abs(np.corrcoef(left.numpy().T)[0, 1]) < 0.05


def test_extreme_noise_gives_samples_of_the_first_and_last_component_no_farther_than_six_deviations():
    mean, std, _ = mixture()
    p = Mixture(mean, std, torch.tensor([0.25, 0.05, 0.1, 0.6]).log())
    z = p.sample(torch.tensor([[-40.0, 0.5], [40.0, -0.5]]))
    ends = [0, -1]
    torch.testing.assert_close(((z - mean[ends]) / std[ends])[:, 1], torch.tensor([0.5, -0.5]))
    far = ((z - mean[ends]) / std[ends])[:, 0] * torch.tensor([-1, 1])
    assert (far > 5.99).all() and (far < 6.0).all()
    never_first = p._replace(log_weights=torch.tensor([0.0, 0.25, 0.15, 0.6]).log())
    torch.testing.assert_close(never_first.sample(torch.tensor([[-40.0, 0.0]]))[0, 1], mean[1, 1])


def test_samples_of_a_mixture_are_exact_in_single_precision():
    """A component of 500 has a small share of [0, 1]: the place in it is not lost to rounding."""
    p = Mixture(normal(500, 2), 0.1 * normal(500, 2, seed=1).exp(), normal(500, seed=2).log_softmax(0))
    noise = normal(2000, 2, seed=3)
    expected = Mixture(*(value.double() for value in p)).sample(noise.double())
    torch.testing.assert_close(p.sample(noise).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("encoder", "-+")
def test_vamp_prior_is_the_mixture_of_the_posteriors_of_its_pseudo_inputs(encoder, double):
    model = small(f"{encoder}-v")
    with torch.no_grad():
        model.m_pseudo.logits.copy_(normal(5))
        if encoder == "+":
            shifting_strongly(model.q_flow)
    x, noise = binary(3, *GREY), normal(3, 64)
    q, p = model.posterior(x, []), model.prior([])
    z, ratio = q.log_ratio(p, noise)
    torch.testing.assert_close(z, q.sample(noise))
    weights = model.m_pseudo.logits.softmax(0)
    components = [model.posterior(image[None], []) for image in model.m_pseudo.images]

    def naive(value):
        return sum(w * c.log_prob(value).exp() for w, c in zip(weights, components, strict=True)).log()

    near = components[2].sample(0.3 * normal(3, 64, seed=1))
    torch.testing.assert_close(p.log_prob(near), naive(near))
    torch.testing.assert_close(q.log_prob(z) - naive(z), ratio)
    torch.testing.assert_close(model(x, [noise]).rates[:, 0], ratio)
    torch.testing.assert_close(p.log_prob_of_sample(noise), p.log_prob(p.sample(noise)))


class Unflowed:
    """The density of u for flow(u) from a distribution: what the marginal is to an encoder without the flow."""

    def __init__(self, p, flow):
        self.p, self.flow = p, flow

    def log_prob(self, u):
        return self.p.log_prob(self.flow(u))


@pytest.mark.parametrize("marginal", "-+")
def test_a_flow_without_context_is_another_marginal_of_the_plain_encoder(marginal, double):
    """To rounding: rates of a strong encoder as printed are those of the plain one with the marginal moved along."""
    model = small(f"+-{marginal}")
    shifting_strongly(model.q_flow)
    x, noise = binary(4, *GREY), normal(4, 64)
    q, p = model.posterior(x, []), model.prior([])
    plain, _ = model.encode(x)
    u = plain.sample(noise)
    moved = plain.log_prob(u) - Unflowed(p, model.q_flow).log_prob(u)
    torch.testing.assert_close(q.log_ratio(p, noise)[1], moved)
    assert (q.sample(noise) - u).abs().max() > 0.1, "the flow does something"


def test_with_a_vamp_prior_a_flow_without_context_drops_out_of_the_rate(double):
    """Posterior and prior go through the same flow: the rate is that of the family without it."""
    strong, plain = small("+-v"), small("--v")
    shifting_strongly(strong.q_flow)
    shared, flow = plain.load_state_dict(strong.state_dict(), strict=False)
    assert not shared and all(name.startswith("q_flow.") for name in flow)
    x, noise = binary(4, *GREY), [normal(4, 64)]
    terms, expected = strong(x, noise), plain(x, noise)
    torch.testing.assert_close(terms.rates, expected.rates)
    assert (terms.distortion - expected.distortion).abs().min() > 0.01, "the decoder sees the flow"


def test_with_context_no_marginal_does_what_the_flow_does(double):
    """At one u the two images have different z, which no function of u alone could give."""
    model = build("+--", GREY, encoder_context="image", **SMALL)
    shifting_strongly(model.q_flow)
    for made in model.q_flow.steps:
        torch.nn.init.normal_(made.context.weight, std=0.5)
    x, u = binary(2, *GREY), normal(1, 64).expand(2, -1)
    q, p = model.posterior(x, []), model.prior([])
    z = q.flow(u)
    assert (z[0] - z[1]).abs().max() > 0.01 and (p.log_prob(z)[0] - p.log_prob(z)[1]).abs() > 0.01
    torch.testing.assert_close(q.flow.inverse(z), u)
    noise = normal(2, 64)
    torch.testing.assert_close(q.log_prob(q.sample(noise)), q.log_prob_of_sample(noise))
    loss = sum(term.sum() for term in model(x, [noise]))
    loss.backward()
    assert all(made.context.weight.grad.abs().sum() > 0 for made in model.q_flow.steps), "the context learns"


def test_a_context_leaves_every_output_a_function_of_the_inputs_before_it(double):
    torch.manual_seed(0)
    made, context = MADE(6, (20, 20), context=4), normal(1, 4)
    jacobian = jacrev(lambda x: made(x[None], context)[0])(normal(6))
    assert (jacobian.triu() == 0).all() and jacobian.abs().sum() > 0


@pytest.mark.parametrize(("family", "allowed"), [("+-v", False), ("++v", False), ("+-+", True), ("--v", True)])
def test_a_context_with_a_vamp_prior_is_refused(family, allowed):
    values = {"dataset": "digits", "model": family, "betas": [[1.0]], "encoder_context": "image"}
    if allowed:
        assert Config.make(values).options["encoder_context"] == "image"
        build(family, GREY, encoder_context="image", **SMALL)
        return
    for make in (lambda: Config.make(values), lambda: build(family, GREY, encoder_context="image", **SMALL)):
        with pytest.raises(InputError, match=r"encoder_context = image: not with a strong encoder and marginal v"):
            make()


def test_an_iaf_posterior_meets_its_vamp_prior_without_an_inversion(monkeypatch):
    def refuse(self, z):
        raise AssertionError("inverted")

    monkeypatch.setattr(IAF, "inverse", refuse)
    model = small("+-v")
    assert model(binary(2, *GREY), [normal(2, 64)]).rates.isfinite().all()


def test_monte_carlo_rate_agrees_with_the_closed_form(double):
    model = small("---")
    x = binary(1, *GREY)
    q, p = model.posterior(x, []), model.prior([])
    noise = normal(20_000, 64)
    many = Gaussian(q.mean.expand(len(noise), -1), q.std.expand(len(noise), -1))
    z, ratio = many.log_ratio(p, noise)
    torch.testing.assert_close(many.log_prob_of_sample(noise), many.log_prob(z))
    error = ratio.std().item() / math.sqrt(len(noise))
    assert error < 0.05
    assert abs(ratio.mean() - kl(q, p)).item() < 4 * error
    torch.testing.assert_close(model(x, [noise[:1]]).rates[0], kl(q, p)), "the model takes the closed form"


# --- the PixelCNN


def test_every_logit_sees_pixels_before_it_and_no_other(double):
    torch.manual_seed(0)
    side = 10  # 10, 5, 3: odd sizes too
    network, condition = PixelCNN(8), normal(1, 1, side, side)
    jacobian = jacrev(lambda x: network(x[None, None], condition).flatten())(binary(side, side)).flatten(1)
    assert (jacobian.triu() == 0).all()
    # No blind spot: what an odd row does not see lies beyond the reach of the windows at full size.
    for logit, pixel in (jacobian == 0).tril(-1).nonzero().tolist():
        (row, column), (above, beside) = divmod(logit, side), divmod(pixel, side)
        assert row % 2 == 1 and above >= row - 1 and abs(beside - column) >= 9


def test_logits_of_the_paper_s_decoder_see_earlier_pixels_and_z(double):
    model = small("-+-")
    x, z = binary(1, *GREY).requires_grad_(), normal(1, 64).requires_grad_()
    likelihood = model.likelihood([z])
    assert isinstance(likelihood, AutoregressiveBernoulli)
    logits = likelihood.network(x, likelihood.condition).flatten()
    for i in [0, 1, 27, 28, 29, 300, 406, 421, 560, 782, 783]:
        by_pixel, by_z = torch.autograd.grad(logits[i], (x, z), retain_graph=True)
        by_pixel = by_pixel.flatten()
        assert (by_pixel[i:] == 0).all()
        within_reach = [j for j in range(i) if abs(j % 28 - i % 28) <= 8]
        assert (by_pixel[within_reach] != 0).all()
        assert (by_z != 0).all()


def test_rows_below_do_not_matter(double):
    torch.manual_seed(0)
    network, x, condition = PixelCNN(8), binary(2, *GREY), normal(2, *GREY)
    whole = network(x, condition)
    for rows in (1, 2, 3, 13, 14, 27):
        torch.testing.assert_close(network(x[:, :, :rows], condition[:, :, :rows]), whole[:, :, :rows])


def every_image(side):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=side**2))).unflatten(1, (1, side, side))


def lively(side):
    """An autoregressive distribution over tiny images that is far from uniform, and from independent pixels."""
    torch.manual_seed(0)
    network, condition = PixelCNN(8), 2 * normal(1, 1, side, side, seed=1)
    with torch.no_grad():
        network.last.weight.mul_(10)
        network.last.bias -= network(torch.full((1, 1, side, side), 0.5), condition).mean()
    return AutoregressiveBernoulli(network, condition)


def over(p, batch):
    return AutoregressiveBernoulli(p.network, p.condition.expand(batch, -1, -1, -1))


@pytest.mark.parametrize("side", [2, 3])
def test_autoregressive_probabilities_sum_to_one(side, double):
    images = every_image(side)
    with torch.no_grad():
        probabilities = over(lively(side), len(images)).log_prob(images).exp()
    assert probabilities.sum().item() == pytest.approx(1)
    assert probabilities.max() > 2 * 0.5 ** (side**2)


def test_autoregressive_samples_follow_their_probabilities(double):
    images, count = every_image(2), 20_000
    with torch.no_grad():
        expected = over(lively(2), len(images)).log_prob(images).exp() * count
    samples = over(lively(2), count).sample(normal(count, 1, 2, 2))
    index = (samples.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    observed = torch.bincount(index, minlength=16)
    assert stats.chisquare(observed.numpy(), expected.numpy()).pvalue > 0.001


def test_greedy_image(double):
    p = lively(3)
    expected = torch.zeros(1, 1, 3, 3)
    with torch.no_grad():
        for i in range(9):
            expected.view(-1)[i] = (p.network(expected, p.condition).view(-1)[i] > 0).double()
    assert torch.equal(p.mode, expected)
    assert torch.equal(p.mode, p.sample(torch.zeros(1, 1, 3, 3)))
    assert 0 < expected.sum() < 9


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (5, 7), (13, 6), (28, 28)])
def test_pixel_by_pixel_the_logits_are_those_of_the_image_filled_so_far(height, width, double):
    torch.manual_seed(0)
    network, image, condition = PixelCNN(8), binary(2, 1, height, width), normal(2, 1, height, width)
    with torch.no_grad():
        whole = network(image, condition)
    x, order = torch.zeros_like(image), []
    for row, column, logits in network.in_order(x, condition):
        torch.testing.assert_close(logits, whole[:, :, row, column])
        x[:, :, row, column] = image[:, :, row, column]
        order.append((row, column))
    assert order == list(itertools.product(range(height), range(width)))


def test_the_threshold_of_a_pixel_is_not_below_a_probability_of_a_half():
    network = PixelCNN(8)
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.zeros_(network.last.bias)
    assert not AutoregressiveBernoulli(network, torch.zeros(1, 1, 3, 2)).sample(torch.zeros(1, 1, 3, 2)).any()


# --- the twelve


def conv(inputs, outputs, *kernel):
    return math.prod(kernel) * inputs * outputs + outputs


def counts():
    """Numbers of parameters by part, by hand from Appendix F; a gated layer has two of each weight."""
    encoder = (
        conv(1, 64, 5, 5)
        + conv(32, 64, 5, 5)
        + conv(32, 128, 5, 5)
        + conv(64, 128, 5, 5)
        + conv(64, 512, 7, 7)
        + 2 * conv(256, 64)
    )
    flow = 4 * (conv(64, 640) + 2 * conv(640, 640) + conv(640, 64))
    simple = (
        conv(64, 128, 7, 7)
        + 2 * conv(64, 128, 5, 5)
        + conv(64, 64, 5, 5)
        + conv(32, 64, 5, 5)
        + conv(32, 64, 4, 4)
        + conv(32, 1, 5, 5)
    )
    residual = 2 * conv(64, 128, 2, 3) + 2 * conv(64, 128, 2, 2) + conv(64, 128)
    shortcuts = conv(64, 128) + 64 * 128
    pixelcnn = (
        conv(64, 2 * 784)
        + conv(2, 64, 2, 3)
        + conv(2, 64, 1, 3)
        + conv(2, 64, 2, 1)
        + 12 * residual
        + 6 * shortcuts
        + 4 * (conv(64, 64, 2, 3) + conv(64, 64, 2, 2))
        + conv(64, 1)
    )
    return (
        {"-": encoder, "+": encoder + flow},
        {"-": simple, "+": pixelcnn},
        {"-": 0, "+": flow, "v": 500 * 784 + 500},
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_parameter_counts_of_appendix_f(family):
    table = architecture_table(build(family, GREY))
    assert table["parameters"].iloc[-1] == sum(part[sign] for part, sign in zip(counts(), family, strict=True))
    assert f"architecture {family} " in table.attrs["caption"]


def test_layers_of_appendix_f():
    table = architecture_table(build("+-v", GREY)).set_index(["distribution", "step"])["layers"]
    assert table["e(z|x)", "on x"] == (
        "GatedConv(1, 32, 5, 1, 2), GatedConv(32, 32, 5, 2, 2), GatedConv(32, 64, 5, 1, 2), "
        "GatedConv(64, 64, 5, 2, 2), GatedConv(64, 256, 7, 1, 0)"
    )
    assert table["e(z|x)", "mean"] == table["e(z|x)", "variance"] == "FC(256, 64)"
    assert table["e(z|x)", "flow"] == ", ".join(["MADE(64, 640, 640, 640, 64)"] * 4)
    assert table["m(z)", "VampPrior"] == "PseudoInputs(500, 1x28x28)"
    assert table["d(x|z)", "on z"] == (
        "GatedConvTransp(64, 64, 7, 1, 0), GatedConvTransp(64, 64, 5, 1, 2), GatedConvTransp(64, 64, 5, 2, 2), "
        "GatedConvTransp(64, 32, 5, 1, 2), GatedConvTransp(32, 32, 5, 2, 2), GatedConvTransp(32, 32, 4, 1, 1)"
    )
    assert table["d(x|z)", "logits"] == "Conv(32, 1, 5, 1, 2)"
    table = architecture_table(build("-++", GREY)).set_index(["distribution", "step"])["layers"]
    assert table["m(z)", "flow"] == ", ".join(["MADE(64, 640, 640, 640, 64)"] * 4)
    assert table["d(x|z)", "on z"] == "GatedFC(64, 784)"
    blocks = ["28x28", "14x14", "7x7", "7x7, back", "14x14, back", "28x28, back"]
    assert [table["d(x|z)", block] for block in blocks] == ["Residual(64), Residual(64)"] * 6
    assert table["d(x|z)", "input"] == "Shifted(2, 64, 2x3, 1), Conv(2, 64, 1x3, 1, 0x1), Conv(2, 64, 2x1, 1, 1x0)"


def sizes_of_maps(module, *arguments):
    """Heights of the maps that the named submodules give out, in order of their calls."""
    sizes = []
    hooks = [
        child.register_forward_hook(lambda _, __, y: sizes.append((y[0] if isinstance(y, tuple) else y).shape[2]))
        for child in module
    ]
    arguments[0](*arguments[1:])
    for hook in hooks:
        hook.remove()
    return sizes


def test_sizes_of_maps_of_appendix_f():
    model, x, z = small("---"), binary(1, *GREY), normal(1, 64)
    assert sizes_of_maps(model.q_trunk, model.posterior, x, []) == [28, 14, 14, 7, 1]
    assert sizes_of_maps(model.d_layers, model.likelihood, [z]) == [7, 7, 14, 14, 28, 29]
    assert model.likelihood([z]).logits.shape == (1, *GREY)
    pixelcnn = small("-+-").d_pixels
    expected = [size for size in (28, 14, 7, 7, 14, 28) for _ in range(2)]
    for stack in ("v_out", "h_out"):
        assert sizes_of_maps([getattr(layer, stack) for layer in pixelcnn.residual], pixelcnn, x, x) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, double):
    model = small(family)
    assert LAYERS[family] == model.layers == 1
    assert model.latent_shapes == ((64,),)
    x = binary(3, *GREY)
    noise = model.noise(3, Noise(1))
    assert [n.shape for n in noise] == [(3, 64)]
    terms = model(x, noise)
    assert terms.distortion.shape == (3,) and terms.distortion.isfinite().all()
    assert terms.rates.shape == (3, 1) and terms.rates.isfinite().all()
    assert torch.equal(terms.distortion, model(x, noise).distortion), "the forward pass is a function of its arguments"

    q, p = model.posterior(x, []), model.prior([])
    z = q.sample(noise[0])
    torch.testing.assert_close(-terms.distortion, model.likelihood([z]).log_prob(x))
    torch.testing.assert_close(q.log_prob_of_sample(noise[0]), q.log_prob(z))
    if isinstance(q, Gaussian) and isinstance(p, Gaussian):
        torch.testing.assert_close(terms.rates[:, 0], kl(q, p))
    else:
        torch.testing.assert_close(terms.rates[:, 0], q.log_prob(z) - p.log_prob(z))
    assert p.sample(noise[0]).shape == (3, 64)

    lagrangian(terms, torch.ones(1)).backward()
    silent = [name for name, w in model.named_parameters() if w.grad is None or not w.grad.abs().sum() > 0]
    assert not silent, f"no gradient reaches {silent}"
    if family[1] == "-":
        assert isinstance(model.likelihood([z]), Bernoulli)
        assert model.reconstruct(x).shape == model.generate(noise).shape == x.shape
        torch.testing.assert_close(model.reconstruct(x), model.reconstruct(x, [torch.zeros_like(noise[0])]))


def test_images_of_the_autoregressive_decoder():
    model = small("++v").requires_grad_(False)
    x = model.generate([normal(2, 64)])
    assert x.shape == (2, *GREY)
    assert ((x == 0) | (x == 1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_population_computes_what_single_models_compute(family, double):
    models = [small(family, seed) for seed in range(2)]
    x, noise = binary(2, *GREY), [normal(2, 64)]
    parameters, _ = stack_module_state(models)

    def loss(weights, betas):
        return lagrangian(functional_call(models[0], weights, (x, noise)), betas)

    betas = torch.tensor([[0.5], [2.0]])
    together = vmap(loss)(parameters, betas)
    together.sum().backward()
    for i, model in enumerate(models):
        alone = lagrangian(model(x, noise), betas[i])
        torch.testing.assert_close(together[i], alone)
        torch.testing.assert_close(loss({name: w[i] for name, w in parameters.items()}, betas[i]), alone)
        alone.backward()
        for name, weight in model.named_parameters():
            torch.testing.assert_close(parameters[name].grad[i], weight.grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_few_steps_of_training_help(family):
    data = pixels(load("digits").x_train[:60])
    model = small(family)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(20):
        optimiser.zero_grad()
        loss = lagrangian(model(data[step % 3 :: 3], [normal(20, 64, seed=step)]), torch.ones(1))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert sum(losses[-3:]) / 3 < 0.8 * losses[0]


def test_width_scales_all_but_the_latents():
    assert build("-+-", GREY, width=0.5).d_pixels.last.in_channels == 32
    narrow = build("+++", GREY, width=0.001)
    assert narrow.latent_shapes == ((64,),)
    assert {narrow.d_pixels.last.in_channels, *(made.layers[1].weight.shape[0] for made in narrow.m_flow.steps)} == {8}
    assert build("--v", GREY, pseudo_inputs=3).m_pseudo.images.shape == (3, *GREY)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--", GREY, {}), r"'--'.*\+\+v"),
        (("---", (3, 32, 32), {}), "3x32x32.*1x28x28"),
        (("-+v", GREY, {"sigma_x": 0.7}), "sigma_x.*width, pseudo_inputs"),
        (("ghvae", GREY, {"width": 0.5}), "width.*sigma_x"),
        (("---", GREY, {"family": "+++"}), "family"),
        (("---", GREY, {"width": 0}), "width is 0"),
        (("---", GREY, {"width": math.nan}), "width is nan"),
        (("---", GREY, {"width": "half"}), "width is 'half'"),
        (("--v", GREY, {"pseudo_inputs": 0}), "pseudo_inputs is 0"),
        (("--v", GREY, {"pseudo_inputs": 2.5}), "pseudo_inputs is 2.5"),
    ],
)
def test_what_families_do_not_have_is_refused_by_name(arguments, named):
    family, shape, options = arguments
    with pytest.raises(InputError, match=named) as error:
        build(family, shape, **options)
    assert "\n" not in str(error.value)


def test_the_toy_is_no_model_of_images():
    with pytest.raises(InputError, match="70_toy"):
        build("toy", (1, 28, 28))
