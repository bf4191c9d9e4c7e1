r"""Hold a given rate in a layer: its beta becomes a multiplier that follows the rate while the model trains.

Minimise D subject to R(z_l) = r_l. The Lagrangian is Eq. 8 of Paper A again, with betas that are sought instead of
given: where a layer's rate is above its target its beta rises, where it is below, it falls. At the end beta_l is the
slope of the rate/rate/distortion surface, -dD/dR_l, at the rates asked for, as far as training has converged. Paper A
closes by wishing for this (Section 6).

Two rules are here, both on the logarithm of beta, which therefore stays positive, and both pure functions of a state
that belongs to a member: ``(..., L, 2)``, for each layer the logarithm of its beta and the moving average of its rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

LOWEST, HIGHEST = 1e-3, 1e3  # betas beyond these are not tried
# of training: so long betas stay where they start, for a layer that is squeezed before it is of use may never be
FILLING = 0.1
TRAVEL = 60.0  # how far log beta may move in a whole training, were its layer far off all the time; see `paced`
OFFSET = 0.05  # nats per image; added to rates before their ratio is taken, so that a target may be 0


class Controller(Protocol):
    """How multipliers follow rates."""

    def paced(self, steps: int) -> "Controller":
        """The rule for a training of so many updates."""
        ...

    def multipliers(self, state: Tensor, targets: Tensor) -> Tensor:
        """The betas to train with, ``(..., L)``."""
        ...

    def follow(self, state: Tensor, rates: Tensor, targets: Tensor) -> Tensor:
        """The state after a batch of mean rates ``(..., L)``, nats per image."""
        ...


def start(betas: Tensor) -> Tensor:
    """The state before the first batch: these betas, ``(..., L)``, and no rate seen (NaN)."""
    return torch.stack([betas.log(), torch.full_like(betas, torch.nan)], -1)


def paced(gain: float, steps: int) -> float:
    """The gain a batch in a training of so many updates.

    As given, or such that log beta moves by no more than `TRAVEL` in all.

    In a long training a layer is squeezed slowly, so that the model can follow. On MNIST (2,814 updates, rates held
    either way) this lowered L by 6.6 % where z_2 was to carry 45 nats and z_1 1.3, by 1.7 % at 21 and 2 nats, and
    changed it by less than 1 % where z_1 carries more.

    Example:
        >>> paced(0.05, steps=400), paced(0.05, steps=6000)
        (0.05, 0.01)
    """
    return min(gain, TRAVEL / steps)


def _average(state: Tensor, rates: Tensor, memory: float) -> Tensor:
    before = state[..., 1]
    return torch.where(before.isnan(), rates, memory * before + (1 - memory) * rates)


def _bounded(log_beta: Tensor) -> Tensor:
    return log_beta.clamp(math.log(LOWEST), math.log(HIGHEST))


@dataclass(frozen=True)
class PI:
    """A proportional-integral controller of log beta (in the spirit of ControlVAE, Shao et al. 2020).

    The error of a layer is log(R / r), a ratio, so that one pair of gains serves targets of 1 and of 100 nats. The
    integral finds the beta that holds the target; the proportional part acts at once and damps what the integral
    overshoots.

    Attributes:
        integral, proportional: the gains, a batch; training paces the first.
        memory: of the moving average of the rates.
    """

    integral: float = 0.05
    proportional: float = 1.0
    memory: float = 0.9

    def paced(self, steps: int) -> "PI":
        """The rule for a training of so many updates."""
        return replace(self, integral=paced(self.integral, steps))

    def error(self, state: Tensor, targets: Tensor) -> Tensor:
        """log(R / r), at most 1 in size, ``(..., L)``; 0 before a rate was seen."""
        return ((state[..., 1] + OFFSET) / (targets + OFFSET)).log().clamp(-1, 1).nan_to_num(0.0)

    def multipliers(self, state: Tensor, targets: Tensor) -> Tensor:
        return _bounded(state[..., 0] + self.proportional * self.error(state, targets)).exp()

    def follow(self, state: Tensor, rates: Tensor, targets: Tensor) -> Tensor:
        log_beta, average = state[..., 0], _average(state, rates, self.memory)
        state = torch.stack([log_beta, average], -1)
        return torch.stack([_bounded(log_beta + self.integral * self.error(state, targets)), average], -1)


@dataclass(frozen=True)
class GECO:
    """Multiplicative updates on a moving average of the constraint (Rezende & Viola 2018).

    Attributes:
        rate: the gain, a batch, on (R - r) / r; training paces it.
        memory: of the moving average.
    """

    rate: float = 0.05
    memory: float = 0.9

    def paced(self, steps: int) -> "GECO":
        """The rule for a training of so many updates."""
        return replace(self, rate=paced(self.rate, steps))

    def multipliers(self, state: Tensor, targets: Tensor) -> Tensor:
        return state[..., 0].exp()

    def follow(self, state: Tensor, rates: Tensor, targets: Tensor) -> Tensor:
        average = _average(state, rates, self.memory)
        violation = ((average - targets) / (targets + OFFSET)).clamp(-1, 1)
        return torch.stack([_bounded(state[..., 0] + self.rate * violation), average], -1)


def tolerance(target: float) -> float:
    """How far a rate may be from its target and still count as held, nats per image: 2 %, or 0.1."""
    return max(0.02 * target, 0.1)


def verdict(targets: Sequence[float | None], rates: Sequence[float], multipliers: Tensor) -> dict[str, str | None]:
    """Whether a trained model holds its target rates, and if not, why.

    Arguments:
        targets, rates: one a layer, top layer first, nats per image; rates on the training images.
        multipliers: ``(epochs, L)``, the betas after each epoch.

    Returns:
        ``target_status``, ``reached`` or ``unreached``, and ``target_reason``, None or a sentence a layer.

    Example:
        >>> verdict([10.0, None], [10.1, 30.0], torch.ones(5, 2))
        {'target_status': 'reached', 'target_reason': None}
    """
    reasons = []
    for layer, (target, rate) in enumerate(zip(targets, rates, strict=True)):
        if target is None or abs(rate - target) <= tolerance(target):
            continue
        if not math.isfinite(rate):
            reasons.append(f"R(z_{len(rates) - layer}) is not finite")
            continue
        number, beta = len(rates) - layer, float(multipliers[-1, layer])
        earlier = multipliers[max(0, len(multipliers) - 1 - max(1, len(multipliers) // 10)), layer]
        drift = math.log(beta / float(earlier))
        if rate < target and beta <= 1.01 * LOWEST:
            why = f"beta_{number} is at the lowest that is tried, {LOWEST:g}: here z_{number} carries no more"
        elif rate > target and beta >= HIGHEST / 1.01:
            why = f"beta_{number} is at the highest that is tried, {HIGHEST:g}: here z_{number} carries no less"
        elif abs(drift) > 0.05:
            why = (
                f"beta_{number} is still {'rising' if drift > 0 else 'falling'}: it wants more epochs, or the "
                "targets are in conflict"
            )
        elif len(multipliers) < 2:
            why = "one epoch is too short to find its beta"
        else:
            why = f"beta_{number} moves no more, at {beta:.3g}, and this is as near as it came"
        reasons.append(f"R(z_{number}) is {rate:.2f} nats, not {target:g}: {why}")
    return {"target_status": "unreached" if reasons else "reached", "target_reason": "; ".join(reasons) or None}
