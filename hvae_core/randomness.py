"""Where random numbers come from: every stream is a function of a seed, a purpose and an index."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

WORD = 0xFFFFFFFF  # of 32 bits
ROUNDS = 10
FACTORS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)
AT_ONCE = {"cpu": 2**14}  # counters, by the kind of device: as many as a processor's cache holds
MANY_AT_ONCE = 2**20  # counters on other devices, which count launches


class Purpose(IntEnum):
    """What random numbers are for. Each purpose has a stream of its own."""

    WEIGHTS, ORDER, NOISE, EVALUATION, GENERATION, REPRESENTATION, BETAS = range(7)


def _state(seed: int, purpose: Purpose, index: int) -> int:
    return int(np.random.SeedSequence([seed, purpose, index]).generate_state(1, np.uint64)[0])


def generator(seed: int, purpose: Purpose, index: int = 0) -> torch.Generator:
    """A generator of PyTorch's on the CPU, for orders, betas and weights.

    It is a function of its arguments alone: no state has to be kept to resume.
    """
    return torch.Generator().manual_seed(_state(seed, purpose, index) >> 1)


class Noise:
    """A stream of standard-normal numbers, the same on every device.

    PyTorch's own generators give other numbers on a GPU than on a CPU, and two trainings that differ by their noise
    are as far apart as two seeds. Here number i is a function of (seed, purpose, index) and i: Philox gives the
    random words, and Box and Muller's formula makes normal numbers of them, in double precision. Devices agree but
    for a last digit now and then. How numbers are drawn, one by one or many at once, makes no difference.

    On a CPU that is 3 % of an update of one GHVAE (28x28, batches of 128), where PyTorch's generator would be 0.6 %;
    models of one seed share it. On a GPU it was not measured: `benchmarks/gpu.py` prints it.

    Attributes:
        device: where the numbers lie.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011): Philox4x32-10.

    Example:
        >>> noise = Noise(seed=0)
        >>> first, second = noise.normal(2, 3), noise.normal(6)
        >>> torch.equal(torch.cat([first.flatten(), second]), Noise(seed=0).normal(12))
        True
    """

    def __init__(
        self, seed: int, purpose: Purpose = Purpose.NOISE, index: int = 0, device: str | torch.device = "cpu"
    ) -> None:
        state = _state(seed, purpose, index)
        self.device = torch.device(device)
        self._key = (state & WORD, state >> 32)
        self._counter = 0
        self._ready = torch.empty(0, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """The next numbers of the stream, of this shape and of PyTorch's default type."""
        count = math.prod(shape)
        parts, have = [self._ready], len(self._ready)
        while have < count:
            parts.append(self._next())
            have += len(parts[-1])
        numbers = parts[0] if len(parts) == 1 else torch.cat(parts)
        self._ready = numbers[count:]
        return numbers[:count].view(shape)

    def _next(self) -> Tensor:
        size = AT_ONCE.get(self.device.type, MANY_AT_ONCE)
        place = torch.arange(self._counter, self._counter + size, device=self.device)
        self._counter += size
        zero = torch.zeros_like(place)
        a, b, c, d = philox((place & WORD, place >> 32, zero, zero), self._key)
        radius = torch.stack([a, c], 1).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        angle = torch.stack([b, d], 1).double().mul_(2 * math.pi * 2.0**-32)
        pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], 2)
        return pairs.flatten().to(torch.get_default_dtype())


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10: four random words of 32 bits for each counter of four words.

    Arguments:
        counter: four tensors of one shape, int64, each word in [0, 2^32).
        key: two words.

    Example:
        >>> [f"{int(word):08x}" for word in philox([torch.tensor(0)] * 4, (0, 0))]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(ROUNDS):
        # Products of 64 bits wrap around in int64; their upper halves are right all the same, once masked.
        left, right = a * FACTORS[0], c * FACTORS[1]
        a = (right >> 32).bitwise_xor_(b).bitwise_xor_(first).bitwise_and_(WORD)
        c = (left >> 32).bitwise_xor_(d).bitwise_xor_(second).bitwise_and_(WORD)
        b, d = right.bitwise_and_(WORD), left.bitwise_and_(WORD)
        first, second = (first + STEPS[0]) & WORD, (second + STEPS[1]) & WORD
    return a, b, c, d


def initial_weights(make: Callable[[], torch.nn.Module], seed: int) -> dict[str, Tensor]:
    """The parameters of a fresh model with this seed, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, Purpose.WEIGHTS).get_state())
        return {name: value.detach() for name, value in make().named_parameters()}
