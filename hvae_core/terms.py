"""What every model here returns: one distortion and one rate a layer, in nats per image."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Terms(NamedTuple):
    """The terms of the rate/distortion objective, unweighted, in nats per image.

    Attributes:
        distortion: ``(batch,)``, a sample of D = -log p(x | z).
        rates: ``(batch, L)``, the layer-wise rates of Paper A, Eq. 7; index 0 is the top layer z_L.

    Example:
        >>> import torch
        >>> terms = Terms(torch.tensor([80.0]), torch.tensor([[10.0, 5.0]]))
        >>> rate(terms).item(), elbo(terms).item()
        (15.0, -95.0)
    """

    distortion: Tensor
    rates: Tensor


def rate(terms: Terms) -> Tensor:
    """The total rate R, ``(batch,)``, in nats per image: the sum of the layers' rates (Paper A, Eq. 6)."""
    return terms.rates.sum(-1)


def elbo(terms: Terms) -> Tensor:
    """The evidence lower bound -(D + R), ``(batch,)``, in nats per image."""
    return -(terms.distortion + rate(terms))


def layer_numbers(layers: int) -> range:
    """The paper's numbers of the layers, from the top: L, ..., 1.

    Example:
        >>> [f"rate_{number}" for number in layer_numbers(2)]
        ['rate_2', 'rate_1']
    """
    return range(layers, 0, -1)
