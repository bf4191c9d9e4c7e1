"""Shared by all tests: double precision where truths are checked, a run folder of its own for each test."""


import pytest
import torch

from hvae_core.models.distributions import Bernoulli, Gaussian
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.training.plan import Member

torch.set_num_threads(1)


class Chain(HierarchicalVAE):
    """A hierarchy of any depth made of linear layers: nothing in the core may assume two layers."""

    def __init__(self, layers: int = 3, size: int = 4, width: int = 2) -> None:
        super().__init__()
        self.image_shape = (1, size, size)
        self.latent_shapes = tuple((width + i,) for i in range(layers))
        sizes = [shape[0] for shape in self.latent_shapes]
        self.q = torch.nn.ModuleList(
            torch.nn.Linear(size**2 + (sizes[i - 1] if i else 0), 2 * sizes[i]) for i in range(layers)
        )
        self.p = torch.nn.ModuleList(torch.nn.Linear(sizes[i - 1], 2 * sizes[i]) for i in range(1, layers))
        self.px = torch.nn.Linear(sizes[-1], size**2)

    @staticmethod
    def _gaussian(h: torch.Tensor) -> Gaussian:
        mean, raw = h.chunk(2, -1)
        return Gaussian(mean, torch.nn.functional.softplus(raw) + 1e-3)

    def posterior(self, x, z_above, features=None):
        h = torch.cat([x.flatten(1), *z_above[-1:]], 1)
        return self._gaussian(self.q[len(z_above)](h))

    def prior(self, z_above):
        if not z_above:
            shape = (1, *self.latent_shapes[0])
            return Gaussian(self.px.weight.new_zeros(shape), self.px.weight.new_ones(shape))
        return self._gaussian(self.p[len(z_above) - 1](z_above[-1]))

    def likelihood(self, z):
        return Bernoulli(self.px(z[-1]).unflatten(1, self.image_shape))


@pytest.fixture
def chain():
    return Chain


@pytest.fixture
def double():
    """Computes in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def output(tmp_path, monkeypatch):
    """An empty place for runs/ and figures/."""
    monkeypatch.setenv("HVAE_OUTPUT", str(tmp_path))
    monkeypatch.delenv("HVAE_PROGRESS", raising=False)
    return tmp_path


@pytest.fixture
def images():
    """A few binary images, uint8 (32, 1, 28, 28)."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(32, 1, 28, 28, generator=generator) < 0.3).to(torch.uint8) * 255


def grid(*betas, seeds=1):
    return [Member((b2, b1), seed) for seed in range(seeds) for b2 in betas for b1 in betas]


