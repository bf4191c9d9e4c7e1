"""Objectives turn `Terms` into the one number that training minimises. Only here does a beta meet a rate.

An objective is any function ``f(terms, betas) -> loss`` with ``betas`` of shape ``(L,)``, top layer first, and a
scalar loss. Pass your own to `hvae_core.population.train`.
"""

from collections.abc import Callable

from torch import Tensor

from hvae_core.terms import Terms

Objective = Callable[[Terms, Tensor], Tensor]


def lagrangian(terms: Terms, betas: Tensor) -> Tensor:
    r"""The layer-wise objective of Paper A, Eq. 8, averaged over the batch.

    .. math:: D + \beta_L R(z_L) + \dots + \beta_1 R(z_1 | z_{\geq 2})

    With all betas equal it is the beta-VAE (Eq. 2); with all betas 1 it is the negative ELBO.

    Arguments:
        terms: of a batch, nats per image.
        betas: ``(L,)``, top layer first like ``terms.rates``.

    Returns:
        A scalar, nats per image.

    Example:
        >>> import torch
        >>> terms = Terms(torch.tensor([80.0]), torch.tensor([[10.0, 5.0]]))
        >>> lagrangian(terms, torch.tensor([1.0, 2.0])).item()
        100.0
    """
    return (terms.distortion + terms.rates @ betas).mean()


def warm_up(step: int, steps: int, fraction: float) -> float:
    """The factor on all betas at 0-based ``step`` of ``steps``: a linear ramp over the first ``fraction`` of them.

    The ramp grows from the first step. Were it exactly 0 for a while, posterior widths would shrink to nothing
    and the first non-zero factor would kill the network. Source: the LVAE protocol of Paper A.

    Example:
        >>> [warm_up(step, 10, 0.4) for step in (0, 3, 9)]
        [0.25, 1.0, 1.0]
    """
    ramp = fraction * steps
    return min(1.0, (step + 1) / ramp) if ramp > 1 else 1.0
