"""What the architectures share: the sizes of Paper A's two, and heads that give a Gaussian."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.distributions import Gaussian

SMALLEST_STD = 1e-6  # softplus underflows to 0 in float32, and the log of a standard deviation must exist
Parts = dict[str, dict[str, tuple[str, ...]]]
"""The layers that make each distribution, ``{distribution: {step: module names}}``."""


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
    """Heads that are dense layers."""
    return Heads(lambda: nn.Linear(inputs, math.prod(shape)), shape)


def heads_conv(channels: int, maps: int) -> Heads:
    """Heads that are convolutions of 4x4 maps."""
    return Heads(lambda: nn.Conv2d(channels, maps, 3, 1, 1), (maps, 4, 4))
