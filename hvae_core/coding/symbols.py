"""Latents and pixels as whole numbers, and the distributions of a model over them.

A latent z is coded as the number k of a bin: z = mu_p + sigma_p * width * k. In these units every prior is the same
N(0, 1), and the width of a bin needs no choice by layer or model. What a network computes is rounded before it is
used. So a machine that differs in the last digits of a float64 still codes with the same distributions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from hvae_core.coding.stack import PRECISION, Integers, Stack, Symbols, library
from hvae_core.errors import InputError
from hvae_core.models.distributions import Bernoulli, Gaussian, Product

LEVELS = 256
TAIL = 6.0
"""Standard deviations of a posterior, on both sides of its mean, within which latents are taken."""
STEPS = 64.0
"""Steps in 1 by which means in bins, binary logarithms of standard deviations, and logits are rounded."""
Floats = NDArray[np.float64]


class Grid(NamedTuple):
    """The bins in which latents are coded.

    Attributes:
        width: of a bin, in standard deviations of the prior.
        reach: standard deviations of the prior, on both sides of its mean, that have bins. A posterior beyond is held
            at the last bin, which costs bits and never exactness.

    Example:
        >>> zero, one = torch.zeros(1, 1), torch.ones(1, 1)
        >>> Grid(width=0.5).value(Gaussian(zero, 2 * one), np.array([3]), (1,)).item()
        3.0
    """

    width: float = 2.0**-6
    reach: float = 8.0

    @property
    def last(self) -> int:
        """The number of the last bin; that of the first is its negative."""
        return round(self.reach / self.width)

    def prior(self, size: int) -> Symbols:
        """p(z_l | z_>l) over the bins of so many latents."""
        model = library().model.QuantizedGaussian(-self.last, self.last, 0.0, 1 / self.width)
        return Symbols(model, (), size)

    def take(self, stack: Stack, q: Gaussian | Product, p: Gaussian) -> Integers:
        """The bins of the latents of one image, ``(latents,)``, under q(z_l | z_>l, x)."""
        centre, groups = self._posterior(q, p)
        k = np.empty_like(centre)
        for rows, symbols in groups:
            k[rows] = stack.take(symbols)
        return centre + k

    def put(self, stack: Stack, q: Gaussian | Product, p: Gaussian, k: Integers) -> None:
        """Undo `take`."""
        centre, groups = self._posterior(q, p)
        for rows, symbols in reversed(groups):
            stack.put(symbols, (k - centre)[rows])

    def _posterior(self, q: Gaussian | Product, p: Gaussian) -> tuple[Integers, list[tuple[NDArray[np.intp], Symbols]]]:
        """The middle bin of each latent, and the distributions about it, of latents of about equal width together.

        A narrow one among wide ones would have a chance of 2^-24 in many bins where it has none.
        """
        mean, std = self.relative(q, p)
        mean = _rounded(np.clip(mean, -4.0 * self.last, 4.0 * self.last))
        std = np.exp2(np.clip(_rounded(np.log2(std)), -8, PRECISION))
        tail = np.minimum(2.0 ** np.ceil(np.log2(TAIL * std)).clip(0), self.last)
        centre = np.clip(np.rint(mean), tail - self.last, self.last - tail)
        groups = []
        for width in np.unique(tail):
            (rows,) = np.nonzero(tail == width)
            model = library().model.QuantizedGaussian(-int(width), int(width))
            groups.append((rows, Symbols(model, ((mean - centre)[rows], std[rows]), len(rows))))
        return centre.astype(np.int64), groups

    def value(self, p: Gaussian, k: Integers, shape: tuple[int, ...]) -> Tensor:
        """z in the middle of the bins ``k``, ``(1, *shape)``."""
        return p.mean + p.std * self.width * torch.from_numpy(k.astype(float)).view(1, *shape)

    def relative(self, q: Gaussian | Product, p: Gaussian) -> tuple[Floats, Floats]:
        """Mean and standard deviation of a posterior of one image, in bins, ``(latents,)`` each.

        Raises:
            InputError: when the model gives no numbers.
        """
        bin_ = p.std * self.width
        mean, std = (finite(values) for values in ((q.mean - p.mean) / bin_, q.std / bin_))
        return mean, std

    def log_ratio(self, q: Gaussian | Product, p: Gaussian, k: Integers) -> float:
        """log2 q(z) - log2 p(z) in the middle of the bins ``k``: what the layer should cost, in bits."""
        mean, std = self.relative(q, p)
        nats = 0.5 * (k * self.width) ** 2 - 0.5 * ((k - mean) / std) ** 2 - np.log(std * self.width)
        return float(nats.sum()) / math.log(2)


def pixels_under(likelihood: Bernoulli | Gaussian) -> Symbols:
    """p(x | z) of one image over its levels: 0 and 1 of a binary one, 0 to 255 of one in colour.

    Of a Gaussian a level has the mass of its bin, which is 1/255 wide; the first and the last have the tails, too.
    """
    model = library().model
    if isinstance(likelihood, Bernoulli):
        logits = _rounded(finite(likelihood.logits))
        return Symbols(model.Bernoulli(perfect=False), (expit(logits),), len(logits))
    mean = _rounded(np.clip(finite(likelihood.mean) * (LEVELS - 1), -(2.0**20), 2.0**20))
    std = np.exp2(_rounded(np.log2(finite(likelihood.std) * (LEVELS - 1))))
    return Symbols(model.QuantizedGaussian(0, LEVELS - 1), (mean, np.broadcast_to(std, mean.shape).copy()), len(mean))


def pixel_bits(likelihood: Bernoulli | Gaussian, levels: Integers) -> float:
    """-log2 p(x | z) of one image, by the network's numbers as they are."""
    x = torch.from_numpy(levels.astype(float))
    if isinstance(likelihood, Bernoulli):
        return -Bernoulli(likelihood.logits.view(1, -1)).log_prob(x.view(1, -1)).item() / math.log(2)
    mean, std = likelihood.mean.flatten() * (LEVELS - 1), likelihood.std * (LEVELS - 1)
    ends = torch.stack([x - 0.5, x + 0.5])
    ends[0, x == 0], ends[1, x == LEVELS - 1] = -math.inf, math.inf
    below, above = (torch.special.ndtr((end - mean) / std) for end in ends)
    return -(above - below).clamp_min(2.0**-PRECISION).log2().sum().item()


def check_distributions(q: Any, p: Any, likelihood: Any) -> None:
    """Whether a model's distributions can be coded.

    Raises:
        InputError: if not; it names the one that cannot.
    """
    if not isinstance(q, Gaussian | Product) or not isinstance(p, Gaussian):
        found = type(p if isinstance(q, Gaussian | Product) else q).__name__
        raise InputError(f"coding: a layer of this model is a {found}; allowed are Gaussians, as of ghvae and lvae")
    if not isinstance(likelihood, Bernoulli | Gaussian):
        found = type(likelihood).__name__
        raise InputError(f"coding: pixels of this model are {found}; allowed are Bernoulli and Gaussian ones")


def _rounded(values: Floats) -> Floats:
    return np.rint(values * STEPS) / STEPS


def finite(values: Tensor) -> Floats:
    """All numbers of a tensor, one after the other.

    Raises:
        InputError: when one is infinite, or no number.
    """
    numbers = values.detach().flatten().numpy()
    if not np.isfinite(numbers).all():
        raise InputError("coding: the model gives no numbers; was it trained well?")
    return numbers
