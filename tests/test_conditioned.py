"""A conditioned network is, at any betas, an ordinary model; its training is reproducible.

Outside its range nothing is said.
"""

import itertools
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import safetensors
import torch
from conftest import Chain, keep_results, run_here
from hypothesis import given, settings
from hypothesis import strategies as st
from test_figures import synthetic
from test_population import assert_same

from hvae_core import figures, recommend
from hvae_core.analysis import surface
from hvae_core.analysis.dial import best, dial, slide
from hvae_core.analysis.fidelity import differences, optima, summary
from hvae_core.data.dataset import to_uint8
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.files import save_tensors
from hvae_core.models import build
from hvae_core.models.conditioning import Conditioned, Table
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.objective import lagrangian
from hvae_core.pipeline import stages
from hvae_core.randomness import Noise, Purpose, initial_weights
from hvae_core.runs.config import Config
from hvae_core.runs.folder import keep_data, load_images, open_run
from hvae_core.runs.results import load_results
from hvae_core.runs.weights import block_folder, load_model, load_network
from hvae_core.terms import Terms
from hvae_core.training import conditioned
from hvae_core.training.checkpoints import Checkpoints
from hvae_core.training.conditioned import (
    ENDS,
    FEWEST,
    GROUPS,
    check_batch_size,
    draw_betas,
    groups,
    scaled,
    spread,
    train_conditioned,
)
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train
from hvae_core.training.target_rates import tolerance

BETAS = [(0.1, 100.0), (0.1, 100.0)]
SETTINGS = Plan(epochs=3, batch_size=8, learning_rate=1e-3)
CORNERS = [Member((0.1, 0.1), 1), Member((100.0, 100.0), 1)]


def MAKE(name="ghvae"):
    return build(name, (1, 28, 28))


def randomised(network):
    """With changes, scales and shifts that are not 0."""
    source = torch.Generator().manual_seed(0)
    for parameter in (network.changes.values, network.modulation.values):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=source)
    return network


KINDS = [{}, {"coarse": ()}, {"fine": ()}]  # all tables; without those of weights; without those of channels


# --- the network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tables", KINDS)
@pytest.mark.parametrize(
    "make", [MAKE, lambda: MAKE("lvae"), lambda: build("ghvae", (1, 28, 28), latent_sizes=(3, 5, 32)), Chain]
)
def test_at_its_betas_it_is_an_ordinary_model(make, tables, double):
    plain = make()
    network = randomised(Conditioned(make(), [(0.1, 100.0)] * plain.layers, **tables))
    x, noise = torch.rand(6, *plain.image_shape).round(), plain.noise(6, Noise(1))
    log_betas = torch.linspace(math.log(0.1), math.log(100), 6 * plain.layers).view(6, -1)
    together = network(x, noise, log_betas)
    for i, betas in enumerate(log_betas.exp().tolist()):
        model = network.at(betas)
        assert type(model) is type(plain)
        assert model.state_dict().keys() == plain.state_dict().keys()
        alone = model(x, noise)
        torch.testing.assert_close(alone.distortion[i], together.distortion[i], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(alone.rates[i], together.rates[i], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tables", KINDS)
def test_at_the_start_it_is_the_unconditioned_model(tables):
    network = Conditioned(MAKE(), BETAS, **tables)
    network.load_state_dict(initial_weights(lambda: Conditioned(MAKE(), BETAS, **tables), 3), strict=False)
    assert_same(dict(network.at((0.3, 40.0)).named_parameters()), initial_weights(MAKE, 3))


@pytest.mark.parametrize("tables", KINDS)
def test_every_change_scale_and_shift_is_learned(tables):
    network = Conditioned(MAKE(), BETAS, **tables)
    x = torch.rand(200, 1, 28, 28).round()
    low, high = network.low, network.high
    terms = network(x, network.model.noise(200, Noise(0)), low + torch.rand(200, 2) * (high - low))
    (terms.distortion + terms.rates.sum(1)).mean().backward()
    for table in (network.changes, network.modulation):
        if len(table.values):
            assert (table.values.grad.abs().sum(0) > 0).float().mean() > 0.95, "all but what ReLUs shut off"
    assert all(parameter.grad is not None for parameter in network.model.parameters())


def test_a_table_is_itself_at_its_points_and_linear_between(double):
    table = Table(2, outputs=3, knots=(5,))
    table.values.data.normal_()
    axis = torch.linspace(0, 1, 5)
    points = torch.cartesian_prod(axis, axis)
    torch.testing.assert_close(table(points), table.values)
    middle = table((points[:1] + points[1:2]) / 2)
    torch.testing.assert_close(middle[0], table.values[:2].mean(0))


def test_a_table_is_the_sum_of_its_grids(double):
    both, coarse, fine = (Table(2, outputs=3, knots=knots) for knots in ((2, 4), (2,), (4,)))
    both.values.data.normal_()
    coarse.values.data, fine.values.data = both.values.data[:4], both.values.data[4:]
    anywhere = torch.rand(20, 2)
    torch.testing.assert_close(both(anywhere), coarse(anywhere) + fine(anywhere))
    assert (Table(2, outputs=3, knots=())(anywhere) == 0).all()


def test_a_group_is_what_it_is_alone(double):
    network = randomised(Conditioned(MAKE(), BETAS))
    x, noise = torch.rand(6, 1, 28, 28).round(), network.model.noise(6, Noise(1))
    log_betas = torch.tensor([[0.1, 3.0], [20.0, 1.0]]).double().log()
    together = network(x, noise, log_betas)
    for i, part in enumerate((slice(0, 3), slice(3, 6))):
        alone = network.at(log_betas[i].exp().tolist())(x[part], [values[part] for values in noise])
        torch.testing.assert_close(together.distortion[part], alone.distortion, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(together.rates[part], alone.rates, rtol=1e-10, atol=1e-10)


def test_a_batch_of_any_size_is_in_equal_groups():
    for images in range(1, 300):
        assert images % groups(images) == 0 and groups(images) <= GROUPS
    assert groups(GROUPS) == groups(256) == GROUPS


def test_a_batch_size_that_makes_few_groups_is_refused_with_sizes_that_do_not():
    for images in range(1, 300):
        if groups(images) >= FEWEST:
            check_batch_size(images, 1000)
            continue
        with pytest.raises(InputError, match=f"batch_size = {images}: ") as refused:
            check_batch_size(images, 1000)
        for size in re.findall(r"(\d+) (?:or|can)", str(refused.value)):
            check_batch_size(int(size), 1000)
    with pytest.raises(InputError, match="one batch of all training images = 47: "):
        check_batch_size(50, 47)


@pytest.mark.parametrize("last", [16, 12, 7, 1])
def test_the_last_batch_of_an_epoch_may_be_of_any_size(images, last):
    """16 and 12 divide into more groups than 22 does, 7 and 1 into fewer than a batch has to."""
    population = train_conditioned(
        MAKE, [Member((0.1, 0.1), 0), Member((10.0, 10.0), 0)], images[: 22 + last], Plan(epochs=1, batch_size=22)
    )
    assert population.history[0].isfinite().all()


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_the_betas_of_batches_are_uniform_and_spread(seed, layers):
    points = spread(1024, layers, torch.Generator().manual_seed(seed))
    assert points.shape == (1024, layers) and points.min() >= 0 and points.max() < 1
    # Of any 16 in a row that begin at a multiple of 16 exactly one is in each sixteenth of each axis; of independent
    # points that is so once in 10 ** 6.
    cells = (16 * points).long().view(-1, 16, layers)
    assert (cells.sort(1).values == torch.arange(16)[:, None]).all()
    # ... and yet one alone may lie anywhere: first points of many sequences are uniform.
    firsts = torch.cat([spread(1, layers, torch.Generator().manual_seed(seed + 1 + i)) for i in range(200)])
    assert (firsts.mean(0) - 0.5).abs().max() < 5 * (1 / 12 / 200) ** 0.5


def test_outside_its_range_the_range_is_named():
    network = Conditioned(MAKE(), [(0.1, 10.0), (1.0, 100.0)])
    with pytest.raises(
        InputError, match=r"beta_2 = 20: the model is conditioned on beta_2 from 0\.1 to 10, beta_1 from 1 to 100"
    ):
        network.at((20.0, 1.0))
    with pytest.raises(InputError, match=r"beta_1 = 0\.5"):
        network.at((1.0, 0.5))
    with pytest.raises(InputError, match="1 betas for 2 layers"):
        network.at((1.0,))


# --- training -----------------------------------------------------------------------------------------------------


def test_betas_are_drawn_evenly_and_some_at_the_ends():
    low, high = torch.tensor([0.1, 1.0]).log(), torch.tensor([100.0, 10.0]).log()
    drawn = (draw_betas(torch.stack([low, high]), low, high, torch.rand(20_000, 2), 1.0) - low) / (high - low)
    for end in (0, 1):
        assert (drawn == end).float().mean(0).tolist() == pytest.approx([ENDS] * 2, abs=0.01)
    inside = drawn[(drawn > 0) & (drawn < 1)]
    assert inside.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx([0.25, 0.5, 0.75], abs=0.02)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03, "the layers' betas are drawn independently"


def test_betas_start_at_points_and_grow_apart_to_the_whole_range():
    low, high = torch.tensor([0.1, 0.1]).log(), torch.tensor([100.0, 100.0]).log()
    uniform = torch.rand(4000, 2)
    for grown in (0.0, 0.3, 1.0, 2.0):
        drawn = draw_betas(torch.tensor([[0.1, 3.0], [100.0, 3.0]]).log(), low, high, uniform, grown)
        assert (drawn >= low - 1e-6).all() and (drawn <= high + 1e-6).all()
        extent = drawn.amax(0) - drawn.amin(0)
        torch.testing.assert_close(
            extent, torch.stack([(high - low)[0], min(grown, 1) * (high - low)[1]]), rtol=0.01, atol=1e-6
        )
        upper = uniform[:, 0] > 0.5
        assert drawn[upper, 0].min() >= drawn[~upper, 0].max(), "each half moves from its own side"
    torch.testing.assert_close(draw_betas(torch.stack([low, low]), low, low, uniform, 0.5), low.expand(4000, 2))


def test_what_is_minimised_has_the_gradient_that_its_name_says():
    for name, function in (("none", lambda v: v), ("sqrt", lambda v: 2 * v.sqrt()), ("log", torch.log)):
        losses = torch.tensor([2.0, 50.0], requires_grad=True)
        (wanted,) = torch.autograd.grad(function(losses).mean(), losses)
        (actual,) = torch.autograd.grad(scaled(losses, name), losses)
        torch.testing.assert_close(actual, wanted)


def test_stopped_and_resumed_it_ends_with_the_same_weights(images, tmp_path, monkeypatch):
    monkeypatch.setattr("hvae_core.training.trainer.CHECKPOINT_EVERY_S", 0.0)
    members = [*CORNERS, Member((1.0, 1.0), 0)]
    whole = train_conditioned(MAKE, members, images, SETTINGS)
    checkpoints = Checkpoints(tmp_path, "one")

    class Stopped(Exception):
        pass

    def save(epoch, tensors, keep=checkpoints.save):
        keep(epoch, tensors)
        if epoch == 2:
            raise Stopped

    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.raises(Stopped):
        train_conditioned(MAKE, members, images, SETTINGS, checkpoints=checkpoints)
    resumed = train_conditioned(MAKE, members, images, SETTINGS, checkpoints=Checkpoints(tmp_path, "one"))
    assert_same(whole.parameters, resumed.parameters)
    assert torch.equal(whole.history.nan_to_num(), resumed.history.nan_to_num())


def test_the_learning_rate_rises_then_follows_the_schedule(images, monkeypatch):
    rates, step = [], conditioned._Network.step

    def kept(self, *args, **options):
        rates.append(options["learning_rate"])
        return step(self, *args, **options)

    monkeypatch.setattr(conditioned._Network, "step", kept)
    monkeypatch.setattr(conditioned, "RISING", 0.25)
    train_conditioned(
        MAKE, CORNERS[:1], images[:16], Plan(epochs=8, batch_size=8, learning_rate=1e-3, schedule="two-phase")
    )
    wanted = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1] + [2 * (16 - step) / 16 for step in range(9, 16)]
    assert [1000 * rate for rate in rates] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("make", "betas", "start"),
    [
        (MAKE, BETAS, {(0.1, 3.0), (100.0, 3.0)}),
        (lambda: MAKE("lvae"), BETAS, {(0.1, 0.1), (0.1, 100.0)}),
        (MAKE, [(1.0, 10.0), (0.1, 2.0)], {(1.0, 2.0), (10.0, 2.0)}),
    ],
)
def test_where_the_betas_begin_is_the_architectures_and_within_the_range(make, betas, start, images, monkeypatch):
    drawn, step = [], conditioned._Network.step

    def kept(self, x, noise, log_betas, **options):
        drawn.append(log_betas.exp())
        return step(self, x, noise, log_betas, **options)

    monkeypatch.setattr(conditioned._Network, "step", kept)
    train_conditioned(
        make,
        [Member(corner, 0) for corner in zip(*betas, strict=True)],
        images[:8],
        Plan(epochs=2, batch_size=8, learning_rate=1e-3),
    )
    assert {tuple(round(beta, 4) for beta in betas) for betas in drawn[0].tolist()} == start


def test_one_seed_does_not_matter_to_another(images):
    together = train_conditioned(MAKE, [*CORNERS, Member((0.1, 0.1), 0), Member((100.0, 100.0), 0)], images, SETTINGS)
    alone = train_conditioned(MAKE, CORNERS, images, SETTINGS)
    assert_same(
        {name: value[1] for name, value in together.parameters.items()},
        {name: value[0] for name, value in alone.parameters.items()},
    )


def test_a_network_that_diverges_says_so_and_leaves_the_others(images, monkeypatch):
    def lost_where_high(terms, betas):
        return lagrangian(terms, betas) * torch.where(betas[1] > 99.9, math.nan, 1.0)

    members = [Member((0.1, 0.1), 0), Member((100.0, 100.0), 0), Member((0.1, 0.1), 1), Member((100.0, 100.0), 1)]
    lost = train_conditioned(MAKE, members, images, SETTINGS, objective=lost_where_high)
    assert lost.diverged_epoch == [2] * 4, "the region of the betas reaches the end of the range in the second epoch"
    alone = train_conditioned(MAKE, members[2:], images, SETTINGS)
    step = conditioned._Network.step

    def nothing_of_seed_0(self, *args, **options):
        return step(self, *args, **options) * (math.nan if self.seed == 0 else 1)

    monkeypatch.setattr(conditioned._Network, "step", nothing_of_seed_0)
    half = train_conditioned(MAKE, members, images, SETTINGS)
    assert half.diverged_epoch == [1, 1, None, None]
    assert_same(
        {name: value[1] for name, value in half.parameters.items()},
        {name: value[0] for name, value in alone.parameters.items()},
    )


def test_a_network_that_is_lost_is_not_dialled(images):
    network = Conditioned(MAKE(), BETAS)
    network.modulation.values.data.fill_(math.nan)
    with pytest.raises(InputError, match="rates are not finite; training diverged"):
        dial(network, images, rate_2=3, rate_1=3)


def test_a_beta_of_one_value_is_left_where_it_is(images):
    network = train_conditioned(MAKE, [Member((0.1, 2.0), 1), Member((100.0, 2.0), 1)], images, SETTINGS).networks[0]
    middle = average_terms(network.at((1.0, 2.0)), images, 0)
    found = dial(network, images, rate_2=middle["rate_2"], rate_1=middle["rate_1"])
    assert found.betas[1] == 2.0
    slides = slide(network, images[:2], layer=2, others=1.0)
    assert (slides.betas[:, 1] == 2.0).all()


@pytest.mark.parametrize(("change", "message"), [({"bins": [2]}, "bins"), ({"sigma_x": 0.1}, "sigma_x")])
def test_what_a_conditioned_network_cannot_be(change, message):
    with pytest.raises(InputError, match=message):
        Config.make({"model": "ghvae-conditioned", **change})


def test_at_a_single_point_it_trains_to_the_unconditioned_models_loss():
    """With the range of the betas collapsed to a point: same initial weights, order of images and noise.

    It is there sooner, since several tables move together.
    """
    x = load("digits").x_train[:300]
    betas, settings = (0.5, 2.0), Plan(epochs=25, batch_size=50, learning_rate=2e-3, schedule="two-phase")
    plain = train(MAKE, [Member(betas, 0)], x, settings).member(0)
    channels, conditioned = (
        train_conditioned(MAKE, [Member(betas, 0)], x, settings, **tables).member(0) for tables in ({"coarse": ()}, {})
    )
    terms = [average_terms(model, x, 0) for model in (plain, channels, conditioned)]
    wanted, of_channels, actual = (t["distortion"] + 0.5 * t["rate_2"] + 2 * t["rate_1"] for t in terms)
    assert 0.93 * wanted < of_channels < 1.03 * wanted  # 0.96 to 0.98 over five seeds
    assert 0.7 * wanted < actual < 1.03 * wanted


def test_at_a_single_point_without_modulation_it_is_the_unconditioned_training(images, monkeypatch):
    """Loss scaling none, scales and shifts kept at 0: the same weights to rounding."""
    monkeypatch.setattr(Table, "forward", lambda self, position: 0 * position[:, :1] * self.values[:1])
    members = [Member((0.5, 2.0), 3)]
    conditioned = train_conditioned(MAKE, members, images, SETTINGS, scaling="none")
    plain = train(MAKE, members, images, SETTINGS)
    for name, value in plain.parameters.items():
        torch.testing.assert_close(conditioned.parameters[f"model.{name}"], value, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(conditioned.history, plain.history, rtol=1e-4, atol=1e-4)


# --- the dial -----------------------------------------------------------------------------------------------------


class Known(HierarchicalVAE):
    """R_l = 8 / beta_l, R_1 a little less where beta_2 is low; D falls with the rates."""

    latent_shapes = ((1,), (1,))

    def __init__(self, betas):
        super().__init__()
        self.betas = betas

    def forward(self, x, noise):
        b2, b1 = self.betas
        rates = torch.tensor([8 / b2, 8 / b1 / (1 + 0.1 / b2)]).expand(len(x), 2)
        return Terms(100 - rates.sum(1), rates)


class KnownNetwork:
    betas = ((0.1, 100.0), (0.1, 100.0))

    def at(self, betas):
        return Known(betas)


X = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("wanted", "betas"),
    [
        ({"rate_2": 8, "rate_1": 4 / 1.1}, (1, 2)),
        ({"rate_2": 40, "rate_1": 0.8 / 1.5}, (0.2, 10)),
        ({"rate_2": 8, "beta_1": 5}, (1, 5)),
        ({"rate_2": 8 / 1.3, "rate_1": 8 / 1.3 / (1 + 0.1 / 1.3)}, (1.3, 1.3)),
        ({"beta_2": 1, "rate_1": 40 / 1.1}, (1, 0.2)),
        ({"beta_2": 3, "beta_1": 7}, (3, 7)),
    ],
)
def test_the_dial_finds_betas_that_are_known(wanted, betas):
    found = dial(KnownNetwork(), X, **wanted)
    assert found.betas == pytest.approx(betas, rel=0.03)
    for number, rate in zip((2, 1), found.rates, strict=True):
        target = wanted.get(f"rate_{number}")
        assert target is None or rate == pytest.approx(target, abs=tolerance(target))
    assert found.distortion == pytest.approx(100 - sum(found.rates), rel=1e-5)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            {"rate_2": 300, "rate_1": 4},
            r"rate_2 = 300: with beta_2 from 0\.1 to 100, beta_1 from 0\.1 to 100 it goes from 0\.08 to 80 nats",
        ),
        ({"rate_2": 79, "rate_1": 75}, "no betas with .* give them together; nearest are"),
        ({"rate_2": 3}, "it takes a rate or a beta of each layer, such as rate_2, rate_1"),
        ({"rate_2": 3, "rate_3": 3}, "it takes a rate or a beta of each layer"),
        ({"rate_2": 3, "beta_2": 3}, "it takes a rate or a beta of each layer"),
    ],
)
def test_what_cannot_be_dialled_is_refused_with_the_range(wanted, said):
    with pytest.raises(InputError, match=said):
        dial(KnownNetwork(), X, **wanted)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"rate_2": 300, "beta_1": 5}, r"rate_2 = 300: with beta_2 from 0\.1 to 100, beta_1 = 5 it goes from"),
        ({"rate_2": math.inf, "rate_1": 4}, "rate_2 = inf: it takes a finite number"),
        ({"rate_2": None, "rate_1": 4}, "rate_2 = None: it takes a finite number"),
        ({"rate_2": "8", "rate_1": 4}, "rate_2 = '8': it takes a finite number"),
    ],
)
def test_the_dial_takes_numbers_and_says_what_it_kept(wanted, said):
    with pytest.raises(InputError, match=said):
        dial(KnownNetwork(), X, **wanted)


def test_what_is_no_network_no_image_and_no_layer_is_named(trained):
    network, x = trained
    with pytest.raises(InputError, match=r"quick-conditioned: not a conditioned network; .*load_network gives"):
        dial("quick-conditioned", x, rate_2=3, rate_1=3)
    with pytest.raises(InputError, match="GHVAE: not a conditioned network"):
        slide(network.at((1.0, 1.0)), x, layer=1)
    with pytest.raises(InputError, match="images of shape 0x1x28x28: the network takes one or more of 1x28x28"):
        dial(network, x[:0], rate_2=3, rate_1=3)
    with pytest.raises(InputError, match="images of shape 2x3x32x32"):
        slide(network, torch.zeros(2, 3, 32, 32, dtype=torch.uint8), layer=1)
    for layer in (0, 3, -1):
        with pytest.raises(InputError, match=f"layer = {layer}: the network has layers 2, 1"):
            slide(network, x, layer=layer)
    with pytest.raises(InputError, match="steps = 0: at least 1"):
        slide(network, x, layer=1, steps=0)
    with pytest.raises(InputError, match=r"beta_1 = 10\.0001: the model is conditioned on beta_2 from 0\.1 to 10"):
        network.at((1.0, 10.0001))


@pytest.fixture(scope="module")
def trained():
    """A small network on part of the digits, and images that it has not seen."""
    data = load("digits").first(400, 200)
    members = [Member((0.1, 0.1), 0), Member((10.0, 10.0), 0)]
    networks = train_conditioned(
        MAKE, members, data.x_train, Plan(epochs=40, batch_size=50, learning_rate=2e-3, schedule="two-phase")
    )
    return networks.networks[0], data.x_test


def test_the_dial_on_a_trained_network(trained):
    network, x = trained
    middle = average_terms(network.at((0.5, 2.0)), x, 0)
    found = dial(network, x, rate_2=middle["rate_2"], rate_1=middle["rate_1"])
    assert found.rates == pytest.approx((middle["rate_2"], middle["rate_1"]), abs=max(0.1, 0.02 * middle["rate_1"]))
    with pytest.raises(
        InputError, match=r"rate_1 = 900: with beta_2 from 0\.1 to 10, beta_1 from 0\.1 to 10 it goes from"
    ):
        dial(network, x, rate_2=1, rate_1=900)
    with pytest.raises(InputError, match="the model is conditioned on"):
        dial(network, x, beta_2=1, beta_1=900)


def test_a_rate_falls_with_its_own_beta(trained):
    """Along each beta, the other at three values.

    No rate rises by more than 1 % of its highest value on the line between neighbours (a short training).
    """
    network, x = trained
    betas = np.geomspace(0.1, 10, 9)
    for other in (0.1, 1.0, 10.0):
        for layer, name in enumerate(("rate_2", "rate_1")):
            points = [(beta, other) if layer == 0 else (other, beta) for beta in betas]
            rates = np.array([average_terms(network.at(np.clip(point, 0.1, 10)), x, 0)[name] for point in points])
            assert (np.diff(rates) <= 0.01 * rates.max()).all(), (name, other, rates)
            assert rates[-1] < 0.5 * rates[0]


def test_slides_keep_image_and_noise(trained):
    network, x = trained
    slides = slide(network, x[:3], layer=1, others=0.1, steps=4)
    assert slides.betas[:, 1] == pytest.approx(np.geomspace(0.1, 10, 4)) and (slides.betas[:, 0] == 0.1).all()
    assert slides.reconstructions.shape == slides.samples.shape == (4, 3, 1, 28, 28)
    noise = network.at((1.0, 1.0)).noise(3, Noise(0, Purpose.GENERATION))
    assert (slides.samples[0] == to_uint8(network.at((0.1, 0.1)).generate(noise))).all()
    terms = average_terms(network.at((0.1, 0.1)), x[:3], 0)
    assert slides.rates[0].tolist() == [terms["rate_2"], terms["rate_1"]]


def test_a_slide_carries_its_betas_and_rates_and_the_run(trained):
    results = rows([1, 10], lambda *_: 95, lambda *_: 20).assign(dataset="digits", model="ghvae-conditioned", epochs=3)
    results.attrs = {"run": "my-network"}
    slides = slide(trained[0], trained[1][:3], 1, others=0.1, steps=3)
    fig = figures.sliding([slides], results)
    assert fig.texts[0].get_text().startswith("my-network: digits, ghvae-conditioned, 3 epochs, 1 seed, one network")
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels[0].startswith("β; $R(z_2)$, ") and len(labels) == 4
    for label, betas, rates in zip(labels[1:], slides.betas, slides.rates, strict=True):
        setting, _, numbers = label.partition(";")
        assert setting == f"({betas[0]:.2g}, {betas[1]:.2g})"
        assert [float(number) for number in numbers.split(",")] == pytest.approx(rates, abs=0.5)
    fig.draw_without_rendering()
    boxes = [label.get_window_extent() for label in fig.axes[0].get_yticklabels()]
    assert all(box.x0 >= 0 for box in boxes)
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))


# --- beside models trained one by one -----------------------------------------------------------------------------


def rows(betas, distortion, psnr, seeds=1):
    return pd.DataFrame(
        [
            {
                "beta_2": b2,
                "beta_1": b1,
                "seed": seed,
                "status": "ok",
                "distortion": distortion(b2, b1, seed),
                "rate_2": 5 / b2,
                "rate_1": 5 / b1,
                "rate": 5 / b2 + 5 / b1,
                "psnr": psnr(b2, b1),
            }
            for b2 in betas
            for b1 in betas
            for seed in range(seeds)
        ]
    )


def test_fidelity_is_the_difference_of_l_at_shared_betas():
    own = rows([0.1, 0.5, 1, 10], lambda b2, b1, s: 95 + (b2 == 10), lambda b2, b1: 20 - abs(np.log10(b2)))
    models = rows(
        [0.1, 1, 10], lambda b2, b1, s: 90 + (s == 1) * 2, lambda b2, b1: 19 - abs(np.log10(b2 * 10)), seeds=2
    )
    table = differences(own, models)
    assert len(table) == 9
    at = table.set_index(["beta_2", "beta_1"])
    assert at.loc[(1, 1), "percent"] == pytest.approx(100 * (105 / 101 - 1))
    assert at.loc[(10, 1), "percent"] == pytest.approx(100 * (106 / 101 - 1))
    assert at.loc[(1, 1), "spread_percent"] == pytest.approx(100 * np.sqrt(2) / 101)
    assert at.loc[(1, 1), ["difference", "spread"]].tolist() == pytest.approx([4, np.sqrt(2)])
    assert summary(table).set_index("of").loc["L, nats", "points"] == 9
    highest = optima(own, models).set_index("metric").loc["psnr"]
    assert (
        highest["conditioned"].startswith("1,") and highest["models"].startswith("0.1,") and highest["steps apart"] == 1
    )
    assert highest["lost"] == pytest.approx(1)
    with pytest.raises(InputError, match="share no betas"):
        differences(rows([3, 4], lambda *_: 1, lambda *_: 1), models)


def test_information_is_compared_by_a_bound_that_labels_at_random_do_not_reach():
    """I_q is highest where the rate is, for whatever labels; the bound is highest where beta_2 is 1."""
    own, models = (
        rows([0.1, 1, 10], lambda *_: 95, lambda *_: 20).assign(
            mi_z2=lambda frame: frame["rate_2"].clip(upper=2.3),
            mi_z2_permuted=lambda frame: frame["rate_2"].clip(upper=2.3),
            mi_z2_lower=lambda frame, best=best: best - np.log10(frame["beta_2"]).abs(),
        )
        for best in (1.5, 1.25)
    )
    table, places = differences(own, models), optima(own, models).set_index("metric")
    assert table["mi_z2_lower"].tolist() == pytest.approx([0.25] * 9)
    assert places.loc["mi_z2_lower", "models"].startswith("1,")
    assert "mi_z2" not in table and "mi_z2" not in places.index
    known = models.drop(columns="mi_z2_lower")
    assert not [name for name in differences(own, known) if "mi_z2" in name]
    assert list(optima(own, known)["metric"]) == ["psnr"]


def test_the_surface_is_coloured_by_what_does_not_depend_on_the_unit_of_a_pixel():
    own, models = (rows([0.1, 1, 10], lambda *_, d=d: 1770.8 + d, lambda *_: 20) for d in (95, 90))
    own.attrs = models.attrs = {"constant": 1770.8}
    made = figures.surface(own, models)
    maps = [found for ax in made.axes for found in ax.collections if found.get_gid() == "models"]
    of_l, of_d = maps[0], maps[1]
    np.testing.assert_allclose(of_d.get_array(), [95] * 9)
    assert of_d.get_clim() == pytest.approx((90, 95))
    rated = own["beta_2"] * own["rate_2"] + own["beta_1"] * own["rate_1"]
    np.testing.assert_allclose(of_l.get_array(), 95 + rated)
    np.testing.assert_allclose(maps[4].get_array(), 90 + rated)
    assert "− c" in made.axes[0].get_title() and "c = 1770.8 nats" in made.caption


def test_nothing_relative_depends_on_the_unit_of_a_pixel():
    """In a unit k times as large, D of a Gaussian likelihood has 3072 log k more, and its constant as well."""

    def comparison(constant):
        own, models = (
            rows([0.1, 1, 10], lambda b2, b1, s, d=d: constant + d + s, lambda *_: 20, seeds=2) for d in (95, 90)
        )
        own.attrs = models.attrs = {"constant": constant}
        compared = surface.compare(own, models, 2, on="")
        return differences(own, models), compared, surface.Surface.of(models, 2).error()

    for one, other in zip(comparison(0.0), comparison(1770.8), strict=True):
        relative = [name for name in one if "percent" in name] if isinstance(one, pd.DataFrame) else slice(None)
        np.testing.assert_allclose(one[relative], other[relative], rtol=1e-6, atol=1e-9)


def test_its_figures_draw_what_is_there(trained):
    own = rows([0.1, 1, 10], lambda b2, b1, s: 95, lambda *_: 20).assign(dataset="digits", model="ghvae-conditioned")
    models = rows([0.1, 1, 10], lambda b2, b1, s: 90 + s, lambda *_: 19, seeds=2).assign(
        dataset="digits", model="ghvae"
    )
    table = differences(own, models)
    for figure in (
        figures.surface(own),
        figures.surface(own, models),
        figures.fidelity(table),
        figures.fidelity(differences(own, models[models["seed"] == 0])),
        figures.sliding([slide(trained[0], trained[1][:3], layer, steps=3) for layer in (2, 1)]),
    ):
        assert figure.caption
        figure.draw_without_rendering()


@pytest.mark.parametrize("count", [5, 6, 9])
def test_numbers_of_the_fidelity_do_not_collide(count):
    betas = np.geomspace(0.1, 100, count)
    betas[np.abs(np.log(betas)).argmin()] = 1  # the narrowest cells on a logarithmic axis
    percent = np.resize([-58.3, 16.7, 0.2, -43.0], count**2)
    table = pd.DataFrame(list(itertools.product(betas, betas)), columns=["beta_2", "beta_1"])
    table = table.assign(percent=percent, difference=percent, spread_percent=np.nan, rate_2=1.0, rate_1=1.0)
    fig = figures.fidelity(table, "a network beside a grid")
    fig.draw_without_rendering()
    ax = fig.axes[0]
    assert len(ax.texts) == count**2
    boxes = [text.get_window_extent() for text in ax.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert min(one.x1, other.x1) <= max(one.x0, other.x0) or min(one.y1, other.y1) <= max(one.y0, other.y0)


def test_all_figures_of_a_network_agree_on_the_best():
    results = rows(np.geomspace(0.1, 100, 5), lambda b2, b1, s: 95 + b2 + b1, lambda b2, b1: 20 - b2 - b1)
    results = results.assign(dataset="digits", model="ghvae-conditioned", epochs=3, elbo=-99.0, train_distortion=9.0)
    scored = results.index[1::2]  # the highest PSNR is not among those that classifiers look at
    results.loc[scored, "inception_score"] = np.linspace(2, 5, len(scored))
    results.loc[scored, "acc_mu2_rbf_svm"] = np.linspace(0.9, 0.5, len(scored))
    assert results["psnr"].idxmax() not in scored
    row = results.loc[results.loc[scored, "psnr"].idxmax()]
    fig1, fig3 = figures.fig1(results), figures.fig3(results)

    def best_of(fig, title):
        ax = next(ax for ax in fig.axes if ax.get_title().startswith(title) and not hasattr(ax, "zaxis"))
        return next(c for c in ax.collections if c.get_gid() == "best").get_offsets()[0].tolist()

    assert best_of(fig1, "reconstruction") == pytest.approx(row[["beta_2", "beta_1"]].tolist())
    assert best_of(fig3, "best") == pytest.approx(row[["rate_2", "rate_1"]].tolist())
    advice = recommend(results, "reconstruction")
    assert advice.betas == pytest.approx(row[["beta_2", "beta_1"]].tolist())


def test_rows_of_the_surface_have_the_same_axes_and_all_points():
    own = rows(np.geomspace(0.1, 100, 13), lambda b2, b1, s: 95, lambda *_: 20).assign(
        dataset="digits", model="ghvae-conditioned"
    )
    models = rows([0.1, 3, 100], lambda b2, b1, s: 90, lambda *_: 19).assign(dataset="digits", model="ghvae")
    axes = [
        ax
        for ax in figures.surface(own, models).axes
        if ax.get_xlabel() or ax.get_title() or ax.get_ylabel() or ax.collections
    ]
    limits = {(ax.get_xlim(), ax.get_ylim()) for ax in axes if ax.get_xscale() == "log"}
    assert len(limits) == 1
    (low, high), _ = limits.pop()
    assert 0.05 < low < 0.1 and 100 < high < 200


def test_where_everything_diverged_that_is_said():
    own = rows([0.1, 1], lambda *_: 95, lambda *_: 20).assign(dataset="digits", model="ghvae-conditioned")
    lost = own.assign(status="diverged", **dict.fromkeys(("distortion", "rate_2", "rate_1", "rate", "psnr"), np.nan))
    assert any(text.get_text() == "not computed" for ax in figures.surface(lost).axes for text in ax.texts)
    with pytest.raises(InputError, match="the conditioned run has no model to compare: all have diverged"):
        differences(lost, own)
    with pytest.raises(InputError, match="the grid has no model to compare: all have diverged"):
        differences(own, lost)


# --- as a run -----------------------------------------------------------------------------------------------------


def tiny(**changes):
    values = {
        "name": "tiny",
        "model": "ghvae-conditioned",
        "betas": [0.1, 1, 100],
        "epochs": 2,
        "batch_size": 50,
        "train_images": 100,
        "test_images": 60,
        "generated_samples": 20,
        "classifier_epochs": 1,
        "seeds": 2,
    }
    return Config.make(values | changes)


def finished(config):
    """Every stage of a run, without the batch."""
    open_run(config)
    data = stages.load_data(config)
    keep_data(config, data)
    stages.train_members(config, data)
    for stage in (stages.reconstruct, stages.generate, stages.represent):
        stage(config, data)
    return load_results(config.name)


@pytest.mark.slow
def test_its_notebook_finds_the_grid_to_compare_with_and_draws_everything(output):
    for name, changes in (("grid", {}), ("other", {"batch_size": 20})):
        keep_results(tiny(name=name, model="ghvae", betas=[1, 100], seeds=1, **changes), synthetic(2))
    config = tiny(name="own", seeds=1)
    open_run(config)
    *_, page = run_here(None, {}, "own")
    assert list(load_results("own")["model"].unique()) == ["ghvae-conditioned"] and len(load_results("own")) == 9
    assert list(stages.separate_grids(config)) == ["grid"]
    drawn = {path.stem for path in (output / "figures/own").iterdir()}
    assert drawn == {
        *config.kind.figures,
        *config.kind.tables,
        *config.kind.pages,
        "fidelity_grid",
        "fidelity_table_grid",
        "optima_table_grid",
        "index",
    }
    assert "<iframe" in page._repr_html_(), "it ends with the page"
    explorer = (output / "figures/own/explorer.html").read_text(encoding="utf-8")
    assert '"separateRuns":["grid"]' in explorer
    about = json.loads((output / "figures/own/fidelity_table_grid.json").read_text())
    assert (
        about["function"] == "hvae_core.analysis.fidelity.differences"
        and "runs/grid/results.parquet" in about["inputs"]
    )
    table = pd.read_csv(output / "figures/own/fidelity_table_grid.csv")
    assert len(table) == 4 and table["percent"].notna().all()


def test_a_run_has_one_row_a_point(output):
    config = tiny(blocks=9)
    assert config.blocks == 2, "a network is trained in one block"
    assert [Config.make({**config.dump(), "block": b}).block_members() for b in (0, 1)] == [range(9), range(9, 18)]
    open_run(config)
    data = stages.load_data(config)
    table = stages.train_members(config, data)
    assert len(table) == 18 and (table["status"] == "ok").all()
    network = load_network("tiny", seed=1)
    for i, member in enumerate(config.members()):
        model = load_model("tiny", i)
        assert type(model).__name__ == "GHVAE"
        assert average_terms(model, data.x_test, member.seed)["rate_2"] == pytest.approx(table["rate_2"][i], rel=1e-5)
        if member.seed == 1:
            assert_same(model.state_dict(), network.at(member.betas).state_dict())
    assert sorted(pd.read_parquet(output / "runs/tiny/history.parquet")["member"].unique()) == [0, 9], (
        "a network a seed"
    )
    with pytest.raises(InputError, match="no trained model 18"):
        load_model("tiny", 18)
    # What is kept in memory is not what a reader may change, and is read again when the file is another.
    network.model.px_conv3.bias.data += 1
    weights = block_folder(config, 1) / "weights.safetensors"
    assert_same(load_model("tiny", 17).state_dict(), model.state_dict())
    with safetensors.safe_open(weights, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_tensors(weights, {name: torch.zeros_like(value) for name, value in tensors.items()}, about)
    assert all((value == 0).all() for value in load_model("tiny", 17).parameters())
    save_tensors(
        weights,
        {name: value[..., :2] if name.endswith("modulation.values") else value for name, value in tensors.items()},
        about,
    )
    with pytest.raises(InputError, match="made by an earlier version"):
        load_model("tiny", 17)


def test_classifiers_score_a_part_of_many_points(output, monkeypatch):
    monkeypatch.setattr("hvae_core.pipeline.measuring.few", lambda betas: {min(betas), max(betas)})
    results = finished(tiny(seeds=1, epochs=1))
    scored = results["beta_2"].isin([0.1, 100]) & results["beta_1"].isin([0.1, 100])
    for column in ("inception_score", "mi_z2", "train_distortion", "train_rate_1"):
        assert (results[column].notna() == scored).all()
    for stage in ("reconstruction", "generation"):
        assert (load_images("tiny", stage)["images"].any((1, 2, 3, 4)) == scored).all(), "the others keep no images"
    assert results[["psnr", "distortion", "rate_1"]].notna().all(axis=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a run ``tiny`` of eight epochs is."""
    folder = tmp_path_factory.mktemp("eight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVAE_OUTPUT", str(folder))
        finished(tiny(seeds=1, epochs=8))
    return folder


@pytest.mark.parametrize("task", ["reconstruction", "representation"])
def test_the_best_model_within_a_rate_keeps_to_it(place, monkeypatch, task):
    """Either the best point of the run, with its metric, or a model between two points, at the rates promised."""
    monkeypatch.setenv("HVAE_OUTPUT", str(place))
    results = load_results("tiny")
    budget, x = float(results["rate"].median()), stages.load_data(tiny()).x_test
    found, advice = best("tiny", task, x, total_rate=budget)
    allowed = sum(tolerance(rate) for rate in found.rates)
    assert sum(found.rates) <= budget + allowed
    point = results[
        np.isclose(results["beta_2"], advice.betas[0]) & np.isclose(results["beta_1"], advice.betas[1])
    ].iloc[0]
    assert (
        point["rate"] <= budget
        and point[{"reconstruction": "psnr", "representation": "acc_z2_rbf_svm"}[task]] == advice.value
    )
    if found.betas == pytest.approx(advice.betas):
        assert found.rates == pytest.approx((point["rate_2"], point["rate_1"]), rel=1e-3)
    else:
        assert sum(found.rates) == pytest.approx(sum(advice.interpolated.rates), abs=allowed)
    with pytest.raises(InputError, match=r"budget|within"):
        best("tiny", task, x, total_rate=float(results["rate"].min()) / 2)


def test_mistakes_are_named(output):
    with pytest.raises(InputError, match="normalise_gradients"):
        tiny(normalise_gradients=True)
    with pytest.raises(InputError, match="target_rates: for the hierarchical models"):
        tiny(target_rates=[[1], [1]])
    with pytest.raises(InputError, match="betas: 0"):
        tiny(betas=[0, 1])
    config = tiny(model="ghvae")
    open_run(config)
    for seed in ("0", 0.0, True):
        with pytest.raises(InputError, match=r"seed = .*: allowed are whole numbers"):
            load_network("tiny", seed)
    with pytest.raises(InputError, match="has no seed -1; it has 0"):
        load_network("tiny", -1)
    with pytest.raises(InputError, match="no weights of model 0"):
        load_network("tiny")
