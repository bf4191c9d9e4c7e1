"""What is wrong with somebody's own architecture is said by the name of the method, before anything is trained."""

import pytest
import torch
from torch import nn

from hvae_core.errors import InputError
from hvae_core.models import IMAGE_SHAPES, REGISTRY, build
from hvae_core.models.contract import check_model
from hvae_core.models.distributions import Bernoulli
from hvae_core.models.ghvae import GHVAE
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.models.table import architecture_table
from hvae_core.names import HIERARCHICAL, LAYERS
from hvae_core.randomness import Noise

GREY = (1, 28, 28)


class ForgetsReturn(GHVAE):
    def posterior(self, x, z_above, features=None):
        super().posterior(x, z_above)


class GivesTensors(GHVAE):
    def prior(self, z_above):
        return tuple(super().prior(z_above))


class GivesLogits(GHVAE):
    def likelihood(self, z):
        return super().likelihood(z).logits


class DecodesTooLarge(GHVAE):
    def likelihood(self, z):
        return Bernoulli(nn.functional.pad(super().likelihood(z).logits, (0, 1)))


class TakesNoFeatures(GHVAE):
    def posterior(self, x, z_above):
        return GHVAE.posterior(self, x, z_above)


class SaysOtherLatents(GHVAE):
    def __init__(self):
        super().__init__(GREY)
        self.latent_shapes = ((30,), (16, 4, 4))


class HasNoShapes(HierarchicalVAE):
    pass


class HasThreeLayers(GHVAE):
    def __init__(self):
        super().__init__(GREY)
        self.latent_shapes = ((20,), (20,), (16, 4, 4))


class KeepsStatistics(GHVAE):
    def __init__(self):
        super().__init__(GREY)
        self.norm = nn.BatchNorm2d(1)

    def likelihood(self, z):
        return Bernoulli(self.norm(super().likelihood(z).logits))


class DropsOut(GHVAE):
    def likelihood(self, z):
        return Bernoulli(nn.functional.dropout(super().likelihood(z).logits, training=self.training))


class HasMore(GHVAE):
    def __init__(self):
        super().__init__(GREY)
        self.scale = nn.Parameter(torch.ones(()))
        self.refine = nn.Conv2d(1, 1, 3, 1, 1)

    def likelihood(self, z):
        return Bernoulli(self.scale * self.refine(super().likelihood(z).logits))


class HasNoParts(GHVAE):
    parts = HierarchicalVAE.parts


MISTAKES = {
    ForgetsReturn: "posterior of z_2 returned NoneType; it must be one of hvae_core/models/distributions.py",
    GivesTensors: "prior of z_2 returned tuple",
    GivesLogits: "likelihood returned Tensor",
    DecodesTooLarge: "log_prob of the likelihood fails: RuntimeError",
    TakesNoFeatures: "posterior of z_2 fails: TypeError",
    SaysOtherLatents: r"the rate of z_2, which is \(30,\) by latent_shapes, fails: RuntimeError",
    HasNoShapes: "it has no image_shape",
    HasThreeLayers: "latent_shapes has 3 layers, hvae_core/names.py says 2",
    KeepsStatistics: "a pass changes norm.running_mean.*BatchNorm",
    DropsOut: "two passes with the same noise differ",
    HasMore: "parts leaves out scale, refine;",
    HasNoParts: "it has no parts",
}


@pytest.mark.parametrize(("made", "said"), MISTAKES.items(), ids=[made.__name__ for made in MISTAKES])
def test_a_mistake_in_an_architecture_is_named(made, said):
    own = "__init__" in vars(made) or made is HasNoShapes
    with pytest.raises(InputError, match=f"^model mine: {said}"):
        check_model(made() if own else made(GREY), "mine", layers=2)


@pytest.mark.parametrize("model", HIERARCHICAL)
def test_those_that_are_here_keep_to_it(model):
    for shape in IMAGE_SHAPES[model]:
        made = build(model, shape)
        noise, x = made.noise(1, Noise(0)), torch.zeros(1, *shape)
        before = made(x, noise)
        check_model(made, model, LAYERS[model])
        assert all(map(torch.equal, before, made(x, noise))), "to be asked changes nothing"
    check_model(build("ghvae", GREY, latent_sizes=[4, 8, 256]), "ghvae", 3)


def test_a_table_says_which_layers_its_parts_leave_out():
    with pytest.raises(InputError, match="parts of HasMore leave out scale, refine"):
        architecture_table(HasMore())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("hvae_core.models.ghvae:GVHAE", "GVHAE, as REGISTRY .* has it: module .* has no attribute"),
        ("hvae_core.models.none:Model", "has it: No module named"),
        (None, "model lvae: it has a name, and no class"),
    ],
)
def test_a_registration_that_leads_nowhere_is_named(monkeypatch, place, said):
    monkeypatch.delitem(REGISTRY, "lvae")
    if place:
        monkeypatch.setitem(REGISTRY, "lvae", place)
    with pytest.raises(InputError, match=said):
        build("lvae", GREY)
