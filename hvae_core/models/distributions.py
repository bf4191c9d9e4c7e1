"""The conditional distributions that models hand out.

Like `torch.distributions`, but as plain tuples of tensors without data-dependent checks, so that they pass through
`torch.func.vmap`. The first dimension is the batch; all others belong to one event, and log-probabilities and
divergences are sums over them, in nats.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Distribution(Protocol):
    """What a posterior, prior or likelihood can do."""

    @property
    def mode(self) -> Tensor:
        """The mode of a latent; of an image the mean, in [0, 1], where its pixels are independent."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``, ``(batch,)``, in nats."""

    def sample(self, noise: Tensor) -> Tensor:
        """The value that belongs to standard-normal ``noise``."""


class Prior(Distribution, Protocol):
    """What a prior can do besides."""

    def kl_from(self, q: "Gaussian") -> Tensor | None:
        """KL[q || this] of a Gaussian, ``(batch,)``, in nats, or None where it has no closed form."""

    def log_ratio_from(self, q: "Gaussian", noise: Tensor) -> Tensor:
        """Log q(z) - log p(z) of a Gaussian at ``q.sample(noise)``, ``(batch,)``, in nats.

        Not by way of z: its rounding may be as large as a narrow prior is wide.
        """


class Posterior(Distribution, Protocol):
    """What a posterior can do besides; its samples are differentiable in the parameters."""

    def log_prob_of_sample(self, noise: Tensor) -> Tensor:
        """Log-density at ``sample(noise)``, ``(batch,)``, in nats; never slower than the sample."""

    def log_ratio(self, prior: Prior, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The sample z that belongs to ``noise``, and log q(z) - log p(z), ``(batch,)``, in nats.

        Its mean is KL[q || p]: what stands for the rate where there is no closed form (Paper B, Section 2).
        """

    def rate(self, prior: Prior, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The sample z that belongs to ``noise``, and the rate against ``prior``, ``(batch,)``, in nats.

        That is KL[q || p] where it has a closed form, or else log q(z) - log p(z) at z, which may be negative.
        """


class Bijection(Protocol):
    """An invertible map of vectors, ``(batch, dimensions)``, that keeps volumes: its log-determinant is 0."""

    def __call__(self, u: Tensor) -> Tensor: ...

    def inverse(self, z: Tensor) -> Tensor: ...


class Gaussian(NamedTuple):
    """A Gaussian with diagonal covariance; ``mean`` and ``std`` may broadcast over the batch.

    Example:
        >>> q = Gaussian(torch.ones(1, 2), torch.ones(1, 2))
        >>> p = Gaussian(torch.zeros(1, 2), torch.ones(1, 2))
        >>> z, rate = q.rate(p, torch.zeros(1, 2))
        >>> z.tolist(), rate.item()
        ([[1.0, 1.0]], 1.0)
    """

    mean: Tensor
    std: Tensor

    @property
    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.mean) / self.std
        return (-0.5 * z.square() - self.std.log() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + self.std * noise

    def log_prob_of_sample(self, noise: Tensor) -> Tensor:
        return (-0.5 * noise.square() - self.std.log() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def kl_from(self, q: "Gaussian") -> Tensor:
        return kl(q, self)

    def log_ratio_from(self, q: "Gaussian", noise: Tensor) -> Tensor:
        distance = ((q.mean - self.mean) + q.std * noise) / self.std
        return (0.5 * (distance.square() - noise.square()) - (q.std / self.std).log()).flatten(1).sum(1)

    def log_ratio(self, prior: Prior, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.sample(noise), prior.log_ratio_from(self, noise)

    def rate(self, prior: Prior, noise: Tensor) -> tuple[Tensor, Tensor]:
        divergence = prior.kl_from(self)
        return self.log_ratio(prior, noise) if divergence is None else (self.sample(noise), divergence)


class Product(NamedTuple):
    """The normalised product of two Gaussians, weighted by their precisions.

    The posterior of a ladder VAE (Sønderby et al. 2016).

    Attributes:
        evidence: what the image says of z.
        prior: p(z), what the layers above say.
    """

    evidence: Gaussian
    prior: Gaussian

    @property
    def share(self) -> Tensor:
        """Of the evidence in the mean, from 0 to 1."""
        return self.prior.std.square() / (self.prior.std.square() + self.evidence.std.square())

    @property
    def mean(self) -> Tensor:
        return self.prior.mean + self.share * (self.evidence.mean - self.prior.mean)

    @property
    def std(self) -> Tensor:
        return (self.prior.std.pow(-2) + self.evidence.std.pow(-2)).rsqrt()

    @property
    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        return Gaussian(self.mean, self.std).log_prob(value)

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + self.std * noise

    def log_prob_of_sample(self, noise: Tensor) -> Tensor:
        return Gaussian(self.mean, self.std).log_prob_of_sample(noise)

    def log_ratio(self, prior: Prior, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Posterior.log_ratio`; ``prior`` is the one in the product."""
        distance = self._shift + (1 - self.share).sqrt() * noise
        ratio = 0.5 * (distance.square() - noise.square() + self._log_narrowing)
        return self.sample(noise), ratio.flatten(1).sum(1)

    def rate(self, prior: Prior, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Posterior.rate`; ``prior`` is the one in the product.

        Never by the difference of the means, whose rounding is as large as the width of a narrow prior: a layer
        that says nothing would seem to cost nats where p(z_1 | z_2) has a standard deviation of 1e-6.
        """
        divergence = 0.5 * (self._shift.square() - self.share + self._log_narrowing)
        return self.sample(noise), divergence.flatten(1).sum(1)

    @property
    def _shift(self) -> Tensor:
        """The mean seen from the prior's, in units of the prior's width."""
        variance, other = self.prior.std.square(), self.evidence.std.square()
        return (self.evidence.mean - self.prior.mean) * self.prior.std / (variance + other)

    @property
    def _log_narrowing(self) -> Tensor:
        """Log of the prior's variance over that of the product."""
        return (self.prior.std.square() / self.evidence.std.square()).log1p()


class Mixture(NamedTuple):
    """A mixture of Gaussians with diagonal covariances, without a batch, such as Paper B's VampPrior.

    Attributes:
        mean, std: of the components, ``(components, dimensions)``.
        log_weights: ``(components,)``; their exponentials sum to 1.
    """

    mean: Tensor
    std: Tensor
    log_weights: Tensor

    @property
    def mode(self) -> Tensor:
        """Of the components' means the one with the highest density, ``(1, dimensions)``.

        The mode has no closed form.
        """
        return self.mean[self.log_prob(self.mean).argmax()].unsqueeze(0)

    def log_prob(self, value: Tensor) -> Tensor:
        z = (value.unsqueeze(1) - self.mean) / self.std
        offset = self.log_weights - (self.std.log() + 0.5 * math.log(2 * math.pi)).sum(1)
        return (offset - 0.5 * z.square().sum(2)).logsumexp(1)

    def sample(self, noise: Tensor) -> Tensor:
        """Samples from noise ``(batch, dimensions)``, not differentiable in the weights.

        The first number of the noise is spent twice. As a uniform number it falls into one component's share of
        [0, 1]: that is the choice. Where in the share it falls is again uniform, and independent of the choice.
        """
        weights = self.log_weights.double().softmax(0)
        ends = weights.cumsum(0)
        uniform = torch.special.ndtr(noise[:, 0].double())
        chosen = torch.searchsorted(ends, uniform, right=True).clamp(max=len(ends) - 1)
        rest = 1 - (ends[chosen] - uniform) / weights[chosen]
        first = torch.special.ndtri(rest.clamp(1e-9, 1 - 1e-9)).to(noise.dtype)
        noise = torch.cat([first.unsqueeze(1), noise[:, 1:]], 1)
        return self.mean[chosen] + self.std[chosen] * noise

    def log_prob_of_sample(self, noise: Tensor) -> Tensor:
        return self.log_prob(self.sample(noise))

    def kl_from(self, q: Gaussian) -> None:
        return None

    def log_ratio_from(self, q: Gaussian, noise: Tensor) -> Tensor:
        shift = (q.mean.unsqueeze(1) - self.mean) + (q.std * noise).unsqueeze(1)
        # Each component's log-density over that of q, whose constants cancel before the sum.
        own = 0.5 * noise.square().unsqueeze(1) + (q.std.unsqueeze(1) / self.std).log()
        ratios = (own - 0.5 * (shift / self.std).square()).sum(2)
        return -(self.log_weights + ratios).logsumexp(1)


class Pushforward(NamedTuple):
    """The distribution of flow(u) for u from ``base``; densities carry over, since the flow keeps volumes."""

    base: Gaussian | Mixture
    flow: Bijection

    @property
    def mode(self) -> Tensor:
        return self.flow(self.base.mode)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(self.flow.inverse(value))

    def sample(self, noise: Tensor) -> Tensor:
        return self.flow(self.base.sample(noise))

    def log_prob_of_sample(self, noise: Tensor) -> Tensor:
        return self.base.log_prob_of_sample(noise)

    def kl_from(self, q: Gaussian) -> None:
        return None

    def log_ratio_from(self, q: Gaussian, noise: Tensor) -> Tensor:
        return q.log_prob_of_sample(noise) - self.log_prob(q.sample(noise))

    def log_ratio(self, prior: Prior, noise: Tensor) -> tuple[Tensor, Tensor]:
        z = self.sample(noise)
        return z, self.log_prob_of_sample(noise) - prior.log_prob(z)

    def rate(self, prior: Prior, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_ratio(prior, noise)


class PushedWithPrior(Pushforward):
    """A posterior whose prior is pushed forward by the same flow.

    A bijection of both changes no ratio of densities, and its inverse, which may be slow, is not needed.
    """

    def log_ratio(self, prior: Any, noise: Tensor) -> tuple[Tensor, Tensor]:
        base: Any = self.base
        u, ratio = base.log_ratio(prior.base, noise)
        return self.flow(u), ratio


class Bernoulli(NamedTuple):
    """Independent binary pixels; images are 0 or 1 in each."""

    logits: Tensor

    @property
    def mode(self) -> Tensor:
        # The paper measures PSNR and shows images by the mean, not by pixels rounded to 0 or 1.
        return self.logits.sigmoid()

    def log_prob(self, value: Tensor) -> Tensor:
        # The textbook's log-sigmoids, written so that PyTorch runs them twenty times faster on a CPU.
        return (self.logits * value - F.softplus(self.logits)).flatten(1).sum(1)

    def sample(self, noise: Tensor) -> Tensor:
        uniform = torch.special.ndtr(noise)
        return (uniform < self.logits.sigmoid()).to(noise.dtype)


class Autoregressive(Protocol):
    """What gives the logits of binary pixels, each from the pixels before it in raster order and from a condition."""

    def __call__(self, x: Tensor, condition: Tensor) -> Tensor:
        """The logits of all pixels."""

    def in_order(self, x: Tensor, condition: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Row, column and logits of one pixel after the other; the caller fills x while they come."""


class AutoregressiveBernoulli(NamedTuple):
    """Binary pixels, each given those before it in raster order: p(x) is the product of p(x_i | x_{<i}).

    Such a distribution has no mean and no mode that could be computed. ``mode`` is the greedy image: pixel by pixel
    the likelier value, given the pixels chosen before. It is binary, and may be improbable as a whole.

    Attributes:
        condition: ``(batch, 1, H, W)``.
    """

    network: Autoregressive
    condition: Tensor

    @property
    def mode(self) -> Tensor:
        return self._fill(torch.full_like(self.condition, 0.5))

    def log_prob(self, value: Tensor) -> Tensor:
        return Bernoulli(self.network(value, self.condition)).log_prob(value)

    def sample(self, noise: Tensor) -> Tensor:
        """One pixel after the other, each by a pass through part of the network."""
        return self._fill(torch.special.ndtr(noise))

    def _fill(self, thresholds: Tensor) -> Tensor:
        """Images whose pixels are 1 where the threshold is below their probability."""
        x = torch.zeros_like(thresholds)
        for row, column, logits in self.network.in_order(x, self.condition):
            x[:, :, row, column] = (thresholds[:, :, row, column] < logits.sigmoid()).to(x.dtype)
        return x


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL[q || p] in closed form, ``(batch,)``, in nats.

    Example:
        >>> q = Gaussian(torch.ones(1, 2), torch.ones(1, 2))
        >>> p = Gaussian(torch.zeros(1, 2), torch.ones(1, 2))
        >>> kl(q, p).item()
        1.0
    """
    ratio = q.std / p.std
    shift = (q.mean - p.mean) / p.std
    return (0.5 * (ratio.square() + shift.square() - 1) - ratio.log()).flatten(1).sum(1)
