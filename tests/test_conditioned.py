"""A conditioned network is, at any betas, an ordinary model; its training is reproducible; outside its range nothing is said."""

import math

import pytest
import torch
from conftest import Chain
from test_population import assert_same

from hvae_core.config import Config, Member, load_profile
from hvae_core.conditioned import draw_betas, scaled, train_conditioned
from hvae_core.data import pixels
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.models import build
from hvae_core.models.conditioning import Conditioned, Table
from hvae_core.population import initial_weights, train
from hvae_core.store import Checkpoints

BETAS = [(0.1, 100.0), (0.1, 100.0)]
SETTINGS = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3}
CORNERS = [Member((0.1, 0.1), 1), Member((100.0, 100.0), 1)]


def MAKE(name="ghvae"):
    return build(name, (1, 28, 28))


def randomised(network):
    """With scales and shifts that are not 0."""
    source = torch.Generator().manual_seed(0)
    for parameter in network.modulation.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=source)
    return network


# --- the network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["table", "mlp"])
@pytest.mark.parametrize("make", [MAKE, lambda: MAKE("lvae"), lambda: build("ghvae", (1, 28, 28), latent_sizes=(3, 5, 32)), Chain])
def test_at_its_betas_it_is_an_ordinary_model(make, mechanism, double):
    plain = make()
    network = randomised(Conditioned(make(), [(0.1, 100.0)] * plain.layers, mechanism))
    x, noise = torch.rand(6, *plain.image_shape).round(), plain.noise(6, torch.Generator().manual_seed(1))
    log_betas = torch.linspace(math.log(0.1), math.log(100), 6 * plain.layers).view(6, -1)
    together = network(x, noise, log_betas)
    for i, betas in enumerate(log_betas.exp().tolist()):
        model = network.at(betas)
        assert type(model) is type(plain)
        assert model.state_dict().keys() == plain.state_dict().keys()
        alone = model(x, noise)
        torch.testing.assert_close(alone.distortion[i], together.distortion[i], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(alone.rates[i], together.rates[i], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mechanism", ["table", "mlp"])
def test_at_the_start_it_is_the_unconditioned_model(mechanism):
    network = Conditioned(MAKE(), BETAS, mechanism)
    network.load_state_dict(initial_weights(lambda: Conditioned(MAKE(), BETAS, mechanism), 3), strict=False)
    assert_same(dict(network.at((0.3, 40.0)).named_parameters()), initial_weights(MAKE, 3))


@pytest.mark.parametrize("mechanism", ["table", "mlp"])
def test_every_scale_and_shift_is_learned(mechanism):
    network = Conditioned(MAKE(), BETAS, mechanism)
    x = torch.rand(200, 1, 28, 28).round()
    low, high = network.low, network.high
    terms = network(x, network.model.noise(200, torch.Generator().manual_seed(0)), low + torch.rand(200, 2) * (high - low))
    (terms.distortion + terms.rates.sum(1)).mean().backward()
    last = network.modulation.values if mechanism == "table" else network.modulation.out.bias
    assert (last.grad.reshape(-1, last.shape[-1]).abs().sum(0) > 0).float().mean() > 0.95, "all but what ReLUs shut off"
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_table_is_itself_at_its_points_and_linear_between(double):
    table = Table(BETAS, outputs=3)
    table.values.data.normal_()
    axis = torch.linspace(0, 1, table.knots)
    points = torch.cartesian_prod(axis, axis)
    torch.testing.assert_close(table(points), table.values)
    middle = table((points[:1] + points[1:2]) / 2)
    torch.testing.assert_close(middle[0], table.values[:2].mean(0))


def test_outside_its_range_the_range_is_named():
    network = Conditioned(MAKE(), [(0.1, 10.0), (1.0, 100.0)])
    with pytest.raises(InputError, match=r"beta_2 = 20: the model is conditioned on beta_2 from 0.1 to 10, beta_1 from 1 to 100"):
        network.at((20.0, 1.0))
    with pytest.raises(InputError, match="beta_1 = 0.5"):
        network.at((1.0, 0.5))
    with pytest.raises(InputError, match="1 betas for 2 layers"):
        network.at((1.0,))


# --- training -----------------------------------------------------------------------------------------------------


def test_betas_are_drawn_from_a_region_that_grows_to_the_whole_range():
    low, high = torch.tensor([0.1, 0.1]).log(), torch.tensor([100.0, 100.0]).log()
    uniform = torch.rand(4000, 2)
    for grown in (0.0, 0.3, 1.0, 2.0):
        drawn = draw_betas(low, high, uniform, grown)
        assert (drawn >= low - 1e-6).all() and (drawn <= high + 1e-6).all()
        extent = drawn.amax(0) - drawn.amin(0)
        torch.testing.assert_close(extent, min(grown, 1) * (high - low), rtol=0.01, atol=1e-6)
    torch.testing.assert_close(draw_betas(low, low, uniform, 0.5), low.expand(4000, 2))


def test_what_is_minimised_has_the_gradient_that_its_name_says():
    for name, function in (("none", lambda v: v), ("sqrt", lambda v: 2 * v.sqrt()), ("log", torch.log)):
        losses = torch.tensor([2.0, 50.0], requires_grad=True)
        (wanted,) = torch.autograd.grad(function(losses).mean(), losses)
        (actual,) = torch.autograd.grad(scaled(losses, name), losses)
        torch.testing.assert_close(actual, wanted)


def test_stopped_and_resumed_it_ends_with_the_same_weights(images, tmp_path, monkeypatch):
    monkeypatch.setattr("hvae_core.conditioned.CHECKPOINT_EVERY_S", 0.0)
    members = [*CORNERS, Member((1.0, 1.0), 0)]
    whole = train_conditioned(MAKE, members, images, **SETTINGS)
    checkpoints = Checkpoints(tmp_path, "one")

    class Stopped(Exception):
        pass

    def save(epoch, tensors, keep=checkpoints.save):
        keep(epoch, tensors)
        if epoch == 2:
            raise Stopped

    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.raises(Stopped):
        train_conditioned(MAKE, members, images, **SETTINGS, checkpoints=checkpoints)
    resumed = train_conditioned(MAKE, members, images, **SETTINGS, checkpoints=Checkpoints(tmp_path, "one"))
    assert_same(whole.parameters, resumed.parameters)
    assert torch.equal(whole.history.nan_to_num(), resumed.history.nan_to_num())


def test_one_seed_does_not_matter_to_another(images):
    together = train_conditioned(MAKE, [*CORNERS, Member((0.1, 0.1), 0), Member((100.0, 100.0), 0)], images, **SETTINGS)
    alone = train_conditioned(MAKE, CORNERS, images, **SETTINGS)
    assert_same({name: value[1] for name, value in together.parameters.items()},
                {name: value[0] for name, value in alone.parameters.items()})  # fmt: skip


def test_a_network_that_diverges_says_so_and_leaves_the_others(images):
    def objective(terms, betas):
        return (terms.distortion + terms.rates @ betas).mean() * torch.where(betas[0] > 50, math.nan, 1.0)

    members = [Member((0.1, 0.1), 0), Member((100.0, 100.0), 0)]
    assert train_conditioned(MAKE, members, images, **SETTINGS, objective=objective).diverged_epoch == [2, 2]
