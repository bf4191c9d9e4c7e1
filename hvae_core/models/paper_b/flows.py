"""Autoregressive flows that shift means only: MADE, IAF and MAF (Paper B, Appendix F).

The library zuko has them, too: its `MaskedAutoregressiveTransform` with `AdditiveTransform` shifts means, takes a
context, is inverted in as many passes, and runs under `torch.func.vmap`. Written here, they are no dependency, keep
their masks out of stored weights, and each MADE says its layers in the paper's notation.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedLinear(nn.Module):
    """A linear layer some of whose weights are held at zero.

    Arguments:
        mask: ``(outputs, inputs)``; true where a weight is used.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        start = nn.Linear(mask.shape[1], mask.shape[0])
        self.weight, self.bias = start.weight, start.bias
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """A network whose output i is a function of the inputs before i alone (Germain et al., 2015); ReLU between layers.

    Each unit has a degree, the number of inputs it may see; the degrees of a hidden layer spread evenly over
    1, ..., dimensions - 1.

    Arguments:
        dimensions: of input and output.
        hidden: units of each hidden layer.
        context: numbers that every output may see, besides; they enter the first layer.

    Example:
        >>> made = MADE(3, hidden=(8, 8))
        >>> torch.autograd.functional.jacobian(made, torch.ones(3)).triu().count_nonzero().item()
        0
    """

    def __init__(self, dimensions: int, hidden: tuple[int, ...], context: int = 0) -> None:
        super().__init__()
        inputs = torch.arange(1, dimensions + 1)
        spread = [1 + torch.arange(units) * max(dimensions - 1, 1) // units for units in hidden]
        masks = [above[:, None] >= below for below, above in pairwise([inputs, *spread])]
        masks.append(inputs[:, None] > [inputs, *spread][-1])
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in masks)
        self.context = nn.Linear(context, (*hidden, dimensions)[0], bias=False) if context else None
        seen = f" + {context}" if context else ""
        self.notation = f"MADE({dimensions}{seen}, {', '.join(map(str, (*hidden, dimensions)))})"

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        first, *others = self.layers
        x = first(x)
        if self.context is not None:
            x = x + self.context(context)
        for layer in others:
            x = layer(F.relu(x))
        return x


class AutoregressiveFlow(nn.Module):
    """What IAF and MAF share: steps v -> v + shift, the shift of each dimension given by those before it.

    The Jacobian of a step is triangular with ones on its diagonal, so volumes are kept. Every step reverses the
    order of the dimensions.

    Arguments:
        dimensions: of what flows.
        hidden: units of each hidden layer of each step's MADE.
        steps: 4 in the paper.
        context: numbers that every step may see, besides.
    """

    def __init__(
        self, dimensions: int, hidden: tuple[int, ...] = (640, 640, 640), steps: int = 4, context: int = 0
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.steps = nn.ModuleList(MADE(dimensions, hidden, context) for _ in range(steps))

    def _solve(self, made: nn.Module, v: Tensor, sign: int, context: Tensor | None) -> Tensor:
        """The y with y + sign * made(y) = v, dimension by dimension: as many passes as there are dimensions."""
        y = torch.zeros_like(v)
        known = torch.arange(self.dimensions, device=v.device)
        for dimension in range(self.dimensions):
            y = (v - sign * made(y, context)) * (known <= dimension)
        return y


class IAF(AutoregressiveFlow):
    """Mean-only inverse autoregressive flow (Kingma et al., 2016): fast from u to z, slow back.

    Each step is z = u + MADE(u), in one pass; its inverse takes a pass a dimension.

    Example:
        >>> flow, u = IAF(3, hidden=(8,)), torch.randn(5, 3)
        >>> torch.allclose(flow.inverse(flow(u)), u, atol=1e-5)
        True
    """

    def forward(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        for made in self.steps:
            u = (u + made(u, context)).flip(-1)
        return u

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        for made in reversed(self.steps):
            z = self._solve(made, z.flip(-1), 1, context)
        return z


class MAF(AutoregressiveFlow):
    """Mean-only masked autoregressive flow (Papamakarios et al., 2017): slow from u to z, fast back.

    Each step back is u = z - MADE(z), in one pass: that is what a density takes. A sample takes a pass a dimension.

    Example:
        >>> flow, u = MAF(3, hidden=(8,)), torch.randn(5, 3)
        >>> torch.allclose(flow.inverse(flow(u)), u, atol=1e-5)
        True
    """

    def forward(self, u: Tensor) -> Tensor:
        for made in reversed(self.steps):
            u = self._solve(made, u.flip(-1), -1, None)
        return u

    def inverse(self, z: Tensor) -> Tensor:
        for made in self.steps:
            z = (z - made(z)).flip(-1)
        return z


class Given(NamedTuple):
    """A flow whose context is given, so that it is a bijection of z alone.

    Attributes:
        flow: one with a context.
        context: ``(batch, numbers)``.
    """

    flow: IAF
    context: Tensor

    def __call__(self, u: Tensor) -> Tensor:
        return self.flow(u, self.context.expand(len(u), -1))

    def inverse(self, z: Tensor) -> Tensor:
        return self.flow.inverse(z, self.context.expand(len(z), -1))
