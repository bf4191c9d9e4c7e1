"""How many models at once are computed on a GPU: one arithmetic, in one order or another.

What is chosen here moves results by rounding only, so no configuration names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

GRAPHS = "reduce-overhead"  # PyTorch's name of what replays two CUDA graphs, of the forward and of the backward pass
WARM = 3  # calls before a graph is recorded: libraries set themselves up in the first ones


@dataclass(frozen=True)
class Way:
    """How updates of many models at once are computed; as it stands, what `train` does.

    Attributes:
        shared: layers on the images, which are the same for all models, are one plain product, not one a model.
        compiled: by `torch.compile`, where a training is long enough for it.
        native: the compiler writes matrix products itself, so that what comes before and after goes into them.
        whole: forward, backward and Adam are one CUDA graph, instead of two graphs and launches between them.
        kernels: convolutions are kernels of our own, see `hvae_core.training.kernels`, and nothing is compiled.

    Example:
        >>> Way(native=True).compiled, Way(kernels=True).compiled
        (True, False)
    """

    shared: bool = False
    compiled: bool = True
    native: bool = False
    whole: bool = False
    kernels: bool = False

    def __post_init__(self) -> None:
        if self.kernels:
            object.__setattr__(self, "compiled", False)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, to be compiled when it is first called."""
        torch.compiler.reset()  # few graphs are kept of one function, and those of earlier trainings are among them
        mode = "default" if self.whole else GRAPHS
        if self.native:
            options = {**torch._inductor.list_mode_options(mode), "triton.native_matmul": True}
            return torch.compile(function, dynamic=False, fullgraph=True, options=options)
        return torch.compile(function, dynamic=False, fullgraph=True, mode=mode)


class Recorded:
    """Records a function of tensors as one CUDA graph, and replays it on copies of what it is given.

    The function may change tensors of its own in place, such as parameters, and gives one tensor, which the next call
    writes over. It is the same in all calls. On a CPU it is called each time.

    Example:
        >>> total, recorded = torch.zeros(1), Recorded()
        >>> [recorded(total.add_, torch.full((1,), float(i))).item() for i in range(6)]
        [0.0, 1.0, 3.0, 6.0, 10.0, 15.0]
    """

    def __init__(self) -> None:
        self.calls = 0
        self.given: list[Tensor] = []
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        on_gpu = tensors[0].device.type == "cuda"
        self.calls += 1
        if self.calls <= WARM:
            return _beside(function, tensors) if on_gpu else function(*tensors)
        if not self.given:
            self.given = [value.clone() for value in tensors]
        for kept, value in zip(self.given, tensors, strict=True):
            kept.copy_(value)
        if not on_gpu:
            return function(*self.given)
        if self.graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.result = function(*self.given)
            self.graph = graph
        self.graph.replay()
        return self.result


def _beside(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """Call on another stream than the usual one, as what will be recorded has to be called before."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = function(*tensors)
    torch.cuda.current_stream().wait_stream(stream)
    return result
