"""Where random numbers come from: every stream is a function of a seed, a purpose and an index."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """What random numbers are for. Each purpose has a stream of its own."""

    WEIGHTS, ORDER, NOISE, EVALUATION, GENERATION, REPRESENTATION, BETAS = range(7)


def generator(seed: int, purpose: Purpose, index: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator that is a function of its arguments alone: no state has to be kept to resume."""
    state = np.random.SeedSequence([seed, purpose, index]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def initial_weights(make: Callable[[], torch.nn.Module], seed: int) -> dict[str, Tensor]:
    """The parameters of a fresh model with this seed, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, Purpose.WEIGHTS).get_state())
        return {name: value.detach() for name, value in make().named_parameters()}
