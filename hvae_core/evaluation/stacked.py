"""Measure many trained models.

What a device computes, for a block of them at once, apart from what follows for each on the CPU.

A GPU computes the models of a block together, by `torch.func.vmap` over their stacked parameters, as in training. A CPU
is fastest one model after the other; there a block is one model as it is.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.training.plan import Member

LARGEST = 64  # models in a block on a GPU; their tensors wait in the computer's memory until they are scored

Tensors = dict[str, Tensor]
Compute = Callable[[HierarchicalVAE, int], Tensors]


@dataclass(frozen=True)
class Measurement:
    """What is measured of a model; calling it does that for one.

    Attributes:
        compute: ``compute(model, seed)`` gives tensors, by name, on the model's device. It passes through `torch.vmap`:
            no numbers are read off tensors, and all noise is a function of the seed, so that a block shares it.
        score: makes the result of these tensors, on the CPU; it may be slow, and may run in another process.
    """

    compute: Compute
    score: Callable[[Tensors], Any]

    @torch.no_grad()
    def __call__(self, model: HierarchicalVAE, seed: int) -> Any:
        return self.score({name: value.cpu() for name, value in self.compute(model, seed).items()})


def at_once(device: torch.device) -> int:
    """How many models are computed at once."""
    return 1 if device.type == "cpu" else LARGEST


def each(
    compute: Compute, members: Mapping[int, Member], load: Callable[[int], HierarchicalVAE], size: int, threads: int = 1
) -> Iterator[tuple[int, Tensors]]:
    """``compute(model, seed)`` of these members, as (index, tensors on the CPU).

    A block is of one architecture and one seed, and of at most ``size`` models; out of memory halves it.

    Arguments:
        members: by index.
        load: gives the model of an index, on the device.
        threads: how many models are computed side by side, where a block is of one.
    """
    if size == 1 and threads > 1:

        def alone(index: int) -> tuple[int, Tensors]:
            tensors = _block(compute, [load(index)], members[index].seed)
            assert tensors is not None
            return index, {name: value[0] for name, value in tensors.items()}

        with ThreadPoolExecutor(threads) as pool:
            try:
                yield from pool.map(alone, members)
            finally:
                pool.shutdown(cancel_futures=True)
        return
    groups: dict[tuple[str, int], list[int]] = {}
    for index, member in members.items():
        groups.setdefault((member.model, member.seed), []).append(index)
    for (_, seed), waiting in groups.items():
        while waiting:
            block = waiting[:size]
            tensors = _block(compute, [load(index) for index in block], seed)
            if tensors is None:
                size = math.ceil(len(block) / 2)
                print(f"out of memory with {len(block)} models at once; going on with {size}", file=sys.stderr)
                torch.cuda.empty_cache()
                continue
            waiting = waiting[size:]
            for row, index in enumerate(block):
                # A copy: a view would take the whole block along to another process.
                yield index, {name: value[row].clone() for name, value in tensors.items()}


@torch.no_grad()
def _block(compute: Compute, models: list[HierarchicalVAE], seed: int) -> Tensors | None:
    """Stacked tensors of the models, ``(models, *shape)``, on the CPU; None when the memory does not suffice."""
    calls = [_Calls(model) for model in models]

    def one(parameters: Tensors) -> Tensors:
        return functional_call(calls[0], parameters, (lambda model: compute(model, seed),))

    try:
        if len(models) == 1:
            stacked = {name: value.unsqueeze(0) for name, value in compute(models[0], seed).items()}
        else:  # buffers, such as masks, are the same in all models
            stacked = vmap(one, randomness="same")(stack_module_state(calls)[0])
        return {name: value.cpu() for name, value in stacked.items()}
    except torch.OutOfMemoryError:
        if len(models) == 1:
            raise
        return None


class _Calls(nn.Module):
    """Applies functions to a model, where only ``forward`` may be called."""

    def __init__(self, model: HierarchicalVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[HierarchicalVAE], Any]) -> Any:
        return function(self.model)
