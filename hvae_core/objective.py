"""Objectives turn `Terms` into the one number that training minimises. Only here does a beta meet a rate.

An objective is any function ``f(terms, betas) -> loss`` with ``betas`` of shape ``(L,)``, top layer first, and a
scalar loss. Pass your own to `hvae_core.training.population.train`.
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


def target_rate(terms: Terms, targets: Tensor, weight: float = 1.0) -> Tensor:
    r"""The distortion, with a penalty where a layer's rate is not the one asked for (Paper B, Section 4).

    .. math:: D + w \sum_l |R_l - r_l|

    The paper minimises D subject to R = R*; its text does not say whether by this penalty. Where a rate is below its
    target this penalty asks for more of it; above, the objective is that of the beta-VAE with beta = w.

    Let D(R) be the lowest distortion at rate R, convex and falling. The optimum is at R* if, and only if, D falls there
    by no more than w nats per nat of rate; otherwise it is the beta-VAE with beta = w, whose rate is above R*. So w = 1
    holds every target that is no lower than the rate of the best ELBO, and lower ones need a larger w.

    If the slope is -w just above R* (w = 1 and a decoder so powerful that D = H - R), all those rates are equally good:
    R rises to R* and stops, but nothing leads it back; any w > 1 does.

    Arguments:
        terms: of a batch, nats per image. The penalty is on the mean rates of the batch.
        targets: ``(L,)``, in the place of the betas: rates in nats per image, top layer first.
        weight: w, the same for all layers.

    Returns:
        A scalar, nats per image.

    Example:
        >>> import torch
        >>> terms = Terms(torch.tensor([80.0, 70.0]), torch.tensor([[12.0], [6.0]]))
        >>> target_rate(terms, torch.tensor([10.0])).item()
        76.0
    """
    return terms.distortion.mean() + weight * (terms.rates.mean(0) - targets).abs().sum()


def warm_up(step: int, steps: int, fraction: float) -> float:
    """The factor on all betas at 0-based ``step`` of ``steps``: a linear ramp over the first ``fraction`` of them.

    The ramp grows from the first step. Up to version 0.8 one that was exactly 0 for the first epoch let posterior
    widths shrink to nothing, and the first non-zero factor killed the network. Source: the LVAE protocol of Paper A.

    Example:
        >>> [warm_up(step, 10, 0.4) for step in (0, 3, 9)]
        [0.25, 1.0, 1.0]
    """
    ramp = fraction * steps
    return min(1.0, (step + 1) / ramp) if ramp > 1 else 1.0
