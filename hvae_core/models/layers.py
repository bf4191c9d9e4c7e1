"""What the paper's two architectures share: their sizes, heads, q(z_L | x), p(z_1 | z_2) and p(x | z_1)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.distributions import Bernoulli, Gaussian
from hvae_core.models.hierarchy import HierarchicalVAE

SMALLEST_STD = 1e-6  # softplus underflows to 0 in float32, and the log of a standard deviation must exist


@dataclass(frozen=True)
class Sizes:
    """The numbers in which the 28x28 and the 32x32 architecture differ (Paper A, Tables 2 and 3)."""

    channels: int
    z2: int
    narrow: tuple[int, int, int]  # kernel, stride, padding of the convolutions into and out of 4x4


SIZES = {
    (1, 28, 28): Sizes(channels=16, z2=20, narrow=(4, 1, 0)),
    (3, 32, 32): Sizes(channels=32, z2=32, narrow=(4, 2, 1)),
}
WIDE = (4, 2, 1)  # kernel, stride, padding of all other convolutions: they halve or double the side


class Heads(nn.Module):
    """Mean and standard deviation of a diagonal Gaussian: two layers of one kind, the second through a softplus."""

    def __init__(self, layer: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.mean, self.std = layer(), layer()
        self.shape = shape

    def forward(self, h: Tensor) -> Gaussian:
        # Under autocast too, divergences are computed in the type of the parameters.
        mean, raw_std = (head(h).reshape(-1, *self.shape).to(head.weight.dtype) for head in (self.mean, self.std))
        return Gaussian(mean, F.softplus(raw_std) + SMALLEST_STD)


def heads_fc(inputs: int, shape: tuple[int, ...]) -> Heads:
    return Heads(lambda: nn.Linear(inputs, math.prod(shape)), shape)


def heads_conv(channels: int, maps: int) -> Heads:
    return Heads(lambda: nn.Conv2d(channels, maps, 3, 1, 1), (maps, 4, 4))


class PaperVAE(HierarchicalVAE):
    """The generative model and the top posterior of Paper A, Tables 2 and 3. Subclasses give q(z_1 | z_2, x).

    In the paper z_2 is the top layer. A subclass may put others between z_L and z_2: then ``q2_`` is of q(z_L | x).

    Arguments:
        image_shape: ``(1, 28, 28)`` (binary images, Bernoulli likelihood) or ``(3, 32, 32)`` (Gaussian likelihood).
        sigma_x: standard deviation of the Gaussian likelihood, fixed.
        latent_sizes: numbers of latents of z_L, ..., z_1; None: the paper's two layers. z_1 is maps of 4x4.
    """

    sigma_x: Tensor
    zero: Tensor
    one: Tensor

    def __init__(
        self, image_shape: tuple[int, int, int], sigma_x: float = 0.71, latent_sizes: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        sizes = SIZES[image_shape]
        colours, c = image_shape[0], sizes.channels
        *vectors, z1 = latent_sizes or (sizes.z2, c * 16)
        top, z2, maps = vectors[0], vectors[-1], z1 // 16
        self.sizes = sizes
        self.image_shape = image_shape
        self.latent_shapes = (*((z,) for z in vectors), (maps, 4, 4))
        self.binary = colours == 1
        self.register_buffer("sigma_x", torch.tensor(sigma_x))
        self.register_buffer("zero", torch.zeros(1, top), persistent=False)
        self.register_buffer("one", torch.ones(1, top), persistent=False)

        # q(z_L | x)
        self.q2_conv1 = nn.Conv2d(colours, c, *WIDE)
        self.q2_conv2 = nn.Conv2d(c, c, *WIDE)
        self.q2_conv3 = nn.Conv2d(c, c, *sizes.narrow)
        self.q2_heads = heads_fc(c * 16, (top,))
        # p(z_1 | z_2)
        self.p1_fc = nn.Linear(z2, c * 8)
        self.p1_heads = heads_fc(c * 8, (maps, 4, 4))
        # p(x | z_1)
        self.px_conv1 = nn.ConvTranspose2d(maps, c, *sizes.narrow)
        self.px_conv2 = nn.ConvTranspose2d(c, c, *WIDE)
        self.px_conv3 = nn.ConvTranspose2d(c, colours, *WIDE)

    def q2_trunk(self, x: Tensor) -> Tensor:
        """The first two convolutions of q(z_L | x)."""
        return F.relu(self.q2_conv2(F.relu(self.q2_conv1(x))))

    def q2_top(self, d: Tensor) -> Gaussian:
        """The rest of q(z_L | x)."""
        return self.q2_heads(F.relu(self.q2_conv3(d)).flatten(1))

    def prior(self, z_above: Sequence[Tensor]) -> Gaussian:
        if not z_above:
            return Gaussian(self.zero, self.one)
        return self.p1_heads(F.relu(self.p1_fc(z_above[-1])))

    def likelihood(self, z: Sequence[Tensor]) -> Gaussian | Bernoulli:
        h = F.relu(self.px_conv2(F.relu(self.px_conv1(z[-1]))))
        mean = self.px_conv3(h).to(self.px_conv3.weight.dtype)  # as in `Heads`
        return Bernoulli(mean) if self.binary else Gaussian(mean, self.sigma_x)


Parts = dict[str, dict[str, tuple[str, ...]]]

GENERATIVE_PARTS: Parts = {
    "p(z_1|z_2)": {"on z_2": ("p1_fc",), "mean": ("p1_heads.mean",), "std": ("p1_heads.std",)},
    "p(x|z_1)": {"on z_1": ("px_conv1", "px_conv2", "px_conv3")},
}
TOP_POSTERIOR_PARTS: dict[str, tuple[str, ...]] = {
    "on x": ("q2_conv1", "q2_conv2", "q2_conv3"),
    "mean": ("q2_heads.mean",),
    "std": ("q2_heads.std",),
}
