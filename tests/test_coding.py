"""Bits-back coding gives back every image and every initial word, and each layer takes its rate in bits."""

import copy
import math
import zlib

import numpy as np
import pytest
import torch
from conftest import Chain
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_core.coding import Grid, decode, encode, encode_lossy
from hvae_core.coding.bitsback import SPARE, Account, Coder, decoded, initial_words, pad, weights_of
from hvae_core.coding.stack import Stack
from hvae_core.coding.symbols import pixel_bits, pixels_under
from hvae_core.data.dataset import pixels
from hvae_core.errors import InputError
from hvae_core.files import digest
from hvae_core.models import build
from hvae_core.models.conditioning import Conditioned
from hvae_core.models.distributions import Bernoulli, Gaussian
from hvae_core.randomness import Noise, initial_weights

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def model(name="ghvae", shape=GREY, scale=1.0, **options):
    """A model whose weights are the initial ones times a scale: the larger, the more its latents say."""
    made = build(name, shape, **options)
    made.load_state_dict(initial_weights(lambda: build(name, shape, **options), 0), strict=False)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= scale
    return made


def conditioned():
    network = Conditioned(model(), [(0.1, 10), (0.1, 10)])
    torch.nn.init.normal_(network.modulation.values, std=0.1, generator=torch.Generator().manual_seed(0))
    return network.at((0.3, 2.0))


MODELS = {
    "ghvae": model,
    "lvae": lambda: model("lvae"),
    "three layers": lambda: model(latent_sizes=[8, 20, 256]),
    "conditioned": conditioned,
    "colour": lambda: model(shape=COLOUR),
    "lvae in colour": lambda: model("lvae", COLOUR),
}


def some_images(count, shape=GREY, seed=0):
    """Black, white, noise, and then noise of other densities."""
    random = np.random.default_rng(seed)
    if shape[0] == 3:
        images = random.integers(0, 256, (count, *shape))
    else:
        images = 255 * (random.random((count, *shape)) < random.random((count, 1, 1, 1)))
    images[:1], images[1:2] = 0, 255
    return images.astype(np.uint8)


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_image_comes_back(name):
    made = MODELS[name]()
    images = some_images(8, made.image_shape)
    code = encode(made, images)
    np.testing.assert_array_equal(decode(made, code), images)
    grown = code.account.coded.sum()
    assert abs(grown - code.net_bits) < 64, "the account is that of the stack, but for its last word"


@pytest.mark.parametrize("count", [1, 2, 300])
def test_any_number_of_images_comes_back(count):
    torch.manual_seed(0)
    made, images = Chain(layers=2), some_images(count, (1, 4, 4))
    code = encode(made, images)
    np.testing.assert_array_equal(decode(made, code), images)
    assert [part.shape for part in code.account] == [(count, 3), (count, 3), (count, 2), (count, 2)]
    taken, put = code.account.taken, code.account.coded[:, :2] + code.account.taken
    assert (taken > 0).all() and (put > 0).all()


@settings(max_examples=40)
@given(
    layers=st.integers(1, 4),
    size=st.integers(1, 5),
    width=st.integers(1, 6),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 10.0, 1e3]),
    bins=st.sampled_from([0.5, 2**-3, 2**-8]),
    reach=st.sampled_from([1.0, 8.0]),
    initial=st.sampled_from([0, 1, None]),
    seed=st.integers(0, 9),
)
def test_models_and_bins_of_all_kinds_are_exact(layers, size, width, scale, bins, reach, initial, seed):
    torch.manual_seed(seed)
    made = Chain(layers, size, width)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= scale
    images = some_images(5, (1, size, size), seed)
    np.testing.assert_array_equal(decode(made, encode(made, images, Grid(bins, reach), initial)), images)


@pytest.mark.parametrize(("prior", "posterior"), [(1e-6, 1.0), (1e-6, 1e-6), (1.0, 1e-6), (1e6, 1.0), (1.0, 1e6)])
def test_extreme_widths_are_exact(prior, posterior):
    class Extreme(Chain):
        def prior(self, z_above):
            return wider(super().prior(z_above), prior)

        def posterior(self, x, z_above, features=None):
            return wider(super().posterior(x, z_above), posterior)

    def wider(found, factor):
        return Gaussian(found.mean, found.std * factor)

    torch.manual_seed(0)
    made, images = Extreme(layers=2), some_images(10, (1, 4, 4))
    np.testing.assert_array_equal(decode(made, encode(made, images)), images)


def test_too_few_initial_words_cost_length_and_nothing_else():
    made, images = model(), some_images(5)
    plenty, none = encode(made, images), encode(made, images, initial=0)
    assert plenty.initial > 20 and none.initial == 0
    spare = 32 * plenty.initial - plenty.account.taken[0].sum()
    assert 0 < spare < 32 * (SPARE + 2), "about what the first image takes, and a few words"
    assert plenty.net_bits == 8 * (plenty.words.nbytes - initial_words(plenty.initial).nbytes)
    np.testing.assert_array_equal(decode(made, none), images)
    assert none.net_bits > plenty.net_bits


def test_the_stack_gives_back_what_it_began_with():
    words = initial_words(7)
    stack = Stack(words)
    symbols = Grid().prior(50)  # takes more than lies there
    stack.put(symbols, stack.take(symbols))
    np.testing.assert_array_equal(stack.initial(), words)
    np.testing.assert_array_equal(Stack(stack.words(), state=True).initial(), words)
    assert Stack(initial_words(0), state=True).bits == 0


# --- what it costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ghvae", "lvae", "three layers"])
def test_each_layer_takes_its_rate(name):
    made = MODELS[name]()
    account = encode(made, some_images(150)).account
    excess = account.coded - account.wanted
    assert (abs(excess.mean(0)) < 3 * excess.std(0) / math.sqrt(150) + 0.05).all(), "log q / p, at the coded latents"
    sampled = account.wanted[:, :-1] - account.rates
    assert (abs(sampled.mean(0)) < 4 * sampled.std(0) / math.sqrt(150)).all(), "whose mean is the rate"
    assert (account.rates.mean(0) > 1).all()


def test_rates_and_distortion_are_those_of_the_model():
    """At the coded latents: by the formulas of training, in float32, instead of those of the coder."""
    made, images = model(), some_images(20)
    account = encode(made, images).account
    with torch.no_grad():
        terms = made(pixels(torch.from_numpy(images)), made.noise(20, Noise(0)))
    np.testing.assert_allclose(account.rates[:, 0], terms.rates[:, 0] / math.log(2), 1e-4)  # q(z_2 | x) has no sample
    assert abs(account.wanted[:, -1].mean() * math.log(2) / terms.distortion.mean() - 1) < 0.01


def test_the_table_of_an_account_has_means_and_standard_errors_by_hand():
    """Of three images with one layer: differences of 1, 2 and 3 deviate by 1, and their mean by that over sqrt(3)."""
    coded, wanted = np.array([[3.0, 20.0], [6.0, 20.0], [9.0, 23.0]]), np.array([[2.0, 20.0], [4.0, 20.0], [6.0, 20.0]])
    account = Account(coded, wanted, rates=np.array([[1.0], [6.0], [11.0]]), taken=np.full((3, 1), 50.0))
    table = account.table()
    assert (table.index.tolist(), table.index.name) == (["z_1", "x"], "layer")
    np.testing.assert_allclose(table[["coded", "wanted", "rate"]], [[6, 4, 6], [21, 20, math.nan]])
    np.testing.assert_allclose(table[["error", "rate_error"]], [[1 / 3**0.5, 2 / 3**0.5], [1, math.nan]])
    one = Account(*(values[:1] for values in account)).table()
    assert one[["error", "rate_error"]].isna().all().all(), "of one image it is not known"
    two = Account(*(values[:2] for values in account)).table()
    np.testing.assert_allclose(two["error"], [0.5, 0])


def test_levels_cost_the_mass_of_their_bins():
    """1/255 wide, so D / ln 2 and 8 bits a pixel where no tail matters."""
    mean, std = torch.full((1, 500), 0.5, dtype=torch.float64), torch.tensor(0.05, dtype=torch.float64)
    symbols = pixels_under(Gaussian(mean, std))
    levels = np.clip(np.random.default_rng(0).normal(127.5, 0.05 * 255, 500).round(), 0, 255).astype(np.int64)
    stack = Stack(initial_words(9))
    before = stack.bits
    stack.put(symbols, levels)
    nats = -Gaussian(mean, std).log_prob(torch.from_numpy(levels / 255)[None]).item()
    assert abs((stack.bits - before) / (nats / math.log(2) + 500 * math.log2(255)) - 1) < 1e-3


def numbers(*values):
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(
    ("likelihood", "levels"),
    [
        *((Gaussian(numbers(mean), numbers(std)), 256) for mean, std in ((0.5, 0.05), (-0.2, 0.1), (1.3, 0.4))),
        *((Bernoulli(numbers(logit)), 2) for logit in (-2.0, 0.7)),
    ],
)
def test_what_levels_should_cost_are_shares_of_one_and_what_they_cost_is_as_much(likelihood, levels):
    wanted, cost = np.empty(levels), np.empty(levels)
    for level in range(levels):
        stack, one = Stack(initial_words(2)), np.array([level])
        before = stack.bits
        stack.put(pixels_under(likelihood), one)
        wanted[level], cost[level] = pixel_bits(likelihood, one), stack.bits - before
    assert np.exp2(-wanted).sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(cost[wanted < 10], wanted[wanted < 10], atol=0.01)
    assert cost.max() < 25 and wanted.max() <= 24, "no level is impossible"


def test_a_posterior_beyond_the_bins_is_held_at_the_last():
    p, q = Gaussian(numbers(1.0, 1.0), numbers(2.0, 2.0)), Gaussian(numbers(99.0, -99.0), numbers(1e-6, 1e-6))
    grid = Grid(width=0.25, reach=4.0)
    k = grid.take(Stack(initial_words(9)), q, p)
    assert k.tolist() == [16, -16] and grid.value(p, k, (2,)).tolist() == [[9.0, -7.0]]


def test_what_a_layer_should_cost_is_the_ratio_of_densities_at_the_coded_latents():
    grid, k = Grid(width=0.25, reach=4.0), np.array([-3, 0, 7])
    p = Gaussian(numbers(1.0, -2.0, 0.5), numbers(2.0, 0.1, 1.0))
    q = Gaussian(numbers(0.5, -1.9, 2.0), numbers(1.0, 0.2, 0.1))
    z = grid.value(p, k, (3,))
    nats = (q.log_prob(z) - p.log_prob(z)).item()
    assert grid.log_ratio(q, p, k) == pytest.approx(nats / math.log(2))


def test_the_grid_is_as_fine_as_the_latents_need():
    """What is coded is z in bins of the prior's standard deviation, in the middle of each."""
    p = Gaussian(torch.tensor([[3.0]], dtype=torch.float64), torch.tensor([[0.1]], dtype=torch.float64))
    q = Gaussian(p.mean + 0.2, p.std / 4)
    wide = Gaussian(q.mean.repeat(1, 999), q.std.repeat(1, 999))
    k = Grid(width=1 / 8).take(Stack(initial_words(400)), wide, p)
    z = Grid(width=1 / 8).value(p, k, (999,))
    assert abs(z.mean() - 3.2).item() < 4 * 0.025 / math.sqrt(999)
    assert abs(z.std() / 0.025 - 1).item() < 0.1


def test_what_is_taken_is_random_whatever_the_images_are():
    """Of images that the model does not expect the bits are not."""
    made, ones = model("lvae"), np.full((200, *GREY), 255, np.uint8)
    account = encode(made, ones).account
    sampled = account.wanted[:, :-1] - account.rates
    assert (abs(sampled.mean(0)) < 4 * sampled.std(0) / math.sqrt(200)).all()
    assert np.corrcoef(sampled[1:, 1], sampled[:-1, 1])[0, 1] < 4 / math.sqrt(200)


# --- always alike ---------------------------------------------------------------------------------------------------


def test_threads_and_other_images_change_no_bit():
    made, images = model(), some_images(4)
    code = encode(made, images)
    assert [number for number, _ in decoded(made, code)] == [3, 2, 1, 0], "the last is on top"
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(encode(made, images).words, code.words)
    finally:
        torch.set_num_threads(1)
    coder, stack = Coder(made, code.grid), Stack(code.words, state=True)
    for count in (3, 2, 1):  # what lies below an image is what there was without it
        stack.mix(pad(count + 1, code.initial), back=True)
        coder.pop(stack)
        np.testing.assert_array_equal(stack.words(), encode(made, images[:count]).words)


class Grey(Chain):
    """Its pixels are Gaussian."""

    def likelihood(self, z):
        return Gaussian(super().likelihood(z).mode, torch.tensor(0.13, dtype=z[0].dtype))


def plain(kind):
    """Three layers with weights that a formula gives, without rounding."""
    made = kind(3, 4, 4)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(((7 * torch.arange(parameter.numel()) % 23 - 11) / 32).view_as(parameter))
    return made


def squares(levels):
    """Four images: 0, and levels where the number of the pixel is a multiple of 2, 3, 5 or 7."""
    multiples = np.arange(16).reshape(4, 4) % np.array([2, 3, 5, 7]).reshape(4, 1, 1, 1) == 0
    return (np.linspace(levels, 255, 16).reshape(4, 4) * multiples).astype(np.uint8)


@pytest.mark.parametrize(("kind", "levels", "expected"), [(Chain, 255, 3322273660), (Grey, 100, 1245163114)])
def test_a_file_keeps_its_meaning(kind, levels, expected):
    """Another sum of these bits is another format, and needs another number in `files.KIND`: old files would break."""
    words = encode(plain(kind), squares(levels)).words.astype("<u4").tobytes()
    assert zlib.crc32(words) == expected


@pytest.mark.parametrize("name", ["ghvae", "colour"])
def test_the_last_digits_of_a_float_change_no_bit(name):
    """As on a machine that adds in another order."""
    made = MODELS[name]()
    images = some_images(4, made.image_shape)
    code = encode(made.double(), images)
    other = copy.deepcopy(made)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter *= 1 + 1e-14 * torch.randn_like(parameter)
    np.testing.assert_array_equal(decode(other, code._replace(weights=digest(other.state_dict()))), images)


# --- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 5, -1])
def test_an_altered_code_is_refused(place):
    made = model()
    code = encode(made, some_images(3))
    words = code.words.copy()
    words[place] ^= 1 << 9
    with pytest.raises(InputError, match="damaged"):
        decode(made, code._replace(words=words))
    with pytest.raises(InputError, match="damaged"):
        list(decoded(made, code._replace(images=2)))


def test_a_model_in_double_precision_is_the_same_model():
    made = Chain(layers=2)
    double = copy.deepcopy(made).double()
    assert weights_of(made) == weights_of(double) == encode(made, some_images(1, (1, 4, 4))).weights
    with torch.no_grad():
        double.px.bias[0] += 1e-12
    assert weights_of(double) != weights_of(made)


def test_other_models_are_refused():
    code = encode(model(), some_images(1))
    for other, words in (
        (model(scale=1.001), "other weights"),
        (model("lvae"), "other weights"),
        (model(latent_sizes=[8, 20, 256]), "latents 20, 16x4x4; this model has 1x28x28 and 8, 20, 16x4x4"),
        (model(shape=COLOUR), "images 1x28x28"),
    ):
        with pytest.raises(InputError, match=words):
            decode(other, code)


@pytest.mark.parametrize(("family", "named"), [("+--", "Pushforward"), ("--v", "Mixture"), ("-+-", "Autoregressive")])
def test_models_of_other_distributions_are_refused_by_name(family, named):
    with pytest.raises(InputError, match=named):
        encode(build(family, GREY, width=0.1, pseudo_inputs=5), some_images(1))


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (np.zeros((0, 1, 28, 28), np.uint8), "no images"),
        (np.zeros((2, 1, 28, 27), np.uint8), "image 0 is uint8 1x28x27; this model codes uint8 1x28x28"),
        (np.zeros((2, 1, 28, 28)), "float64"),
        (np.full((2, 1, 28, 28), 7, np.uint8), "other levels than 0 and 255"),
    ],
)
def test_other_images_are_refused(images, named):
    for initial in (None, 9):
        with pytest.raises(InputError, match=named):
            encode(model(), images, initial=initial)


def test_a_model_that_gives_no_numbers_is_refused():
    made = model()
    torch.nn.init.constant_(made.p1_fc.weight, math.nan)
    with pytest.raises(InputError, match="no numbers"):
        encode(made, some_images(1))
    with pytest.raises(InputError, match="no numbers"):
        encode_lossy(made, torch.from_numpy(some_images(1)), [0.1, 0.1])
