"""What is to be trained, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Member(NamedTuple):
    """One model of a population.

    Attributes:
        betas: one a layer, top layer first; where a layer has a target, the beta that it starts from.
        seed: of weights, order of images and noise.
        model: its name, in a run of several models.
        targets: the rate to hold, nats per image, or None, one a layer; empty where no layer has one.
    """

    betas: tuple[float, ...]
    seed: int
    model: str = ""
    targets: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How members are trained; the same for all of them.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in an update; the last one of an epoch may have fewer.
        learning_rate: of Adam.
        schedule: of the learning rate, ``constant`` or ``two-phase``; see `scheduled`.
        warm_up: over this fraction of the updates all betas rise from 0.
        normalise_gradients: give each gradient norm 1 before Adam (Paper B); not for conditioned networks.
        precision: ``float32``, or ``bfloat16`` for the networks' layers. That is faster where the processor knows it.
            Distributions, divergences, parameters and Adam stay in float32.

    Example:
        >>> Plan(epochs=20, learning_rate=2e-3).batch_size
        256
    """

    epochs: int
    batch_size: int = 256
    learning_rate: float = 3e-4
    schedule: str = "constant"
    warm_up: float = 0.0
    normalise_gradients: bool = False
    precision: str = "float32"


def scheduled(schedule: str, step: int, steps: int) -> float:
    """The factor on the learning rate at 0-based ``step`` of ``steps``.

    ``constant``: always 1. ``two-phase``: 1 for the first half, then linearly towards 0 (Paper B, Appendix F.4).

    Example:
        >>> [scheduled("two-phase", step, 10) for step in (0, 4, 5, 9)]
        [1.0, 1.0, 1.0, 0.2]
    """
    return 1.0 if schedule == "constant" else min(1.0, 2 * (steps - step) / steps)
