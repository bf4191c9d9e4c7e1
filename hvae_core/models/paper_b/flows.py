"""Autoregressive flows that shift means only: MADE, IAF and MAF (Paper B, Appendix F)."""

from itertools import pairwise

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

    Example:
        >>> made = MADE(3, hidden=(8, 8))
        >>> torch.autograd.functional.jacobian(made, torch.ones(3)).triu().count_nonzero().item()
        0
    """

    def __init__(self, dimensions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        inputs = torch.arange(1, dimensions + 1)
        spread = [1 + torch.arange(units) * max(dimensions - 1, 1) // units for units in hidden]
        masks = [above[:, None] >= below for below, above in pairwise([inputs, *spread])]
        masks.append(inputs[:, None] > [inputs, *spread][-1])
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in masks)
        self.notation = f"MADE({', '.join(map(str, (dimensions, *hidden, dimensions)))})"

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x)


class AutoregressiveFlow(nn.Module):
    """What IAF and MAF share: steps v -> v + shift, the shift of each dimension given by those before it.

    The Jacobian of a step is triangular with ones on its diagonal, so volumes are kept. Every step reverses the
    order of the dimensions.

    Arguments:
        dimensions: of what flows.
        hidden: units of each hidden layer of each step's MADE.
        steps: 4 in the paper.
    """

    def __init__(self, dimensions: int, hidden: tuple[int, ...] = (640, 640, 640), steps: int = 4) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.steps = nn.ModuleList(MADE(dimensions, hidden) for _ in range(steps))

    def _solve(self, made: nn.Module, v: Tensor, sign: int) -> Tensor:
        """The y with y + sign * made(y) = v, dimension by dimension: as many passes as there are dimensions."""
        y = torch.zeros_like(v)
        known = torch.arange(self.dimensions, device=v.device)
        for dimension in range(self.dimensions):
            y = (v - sign * made(y)) * (known <= dimension)
        return y


class IAF(AutoregressiveFlow):
    """Mean-only inverse autoregressive flow (Kingma et al., 2016): fast from u to z, slow back.

    Each step is z = u + MADE(u), in one pass; its inverse takes a pass a dimension.

    Example:
        >>> flow, u = IAF(3, hidden=(8,)), torch.randn(5, 3)
        >>> torch.allclose(flow.inverse(flow(u)), u, atol=1e-5)
        True
    """

    def forward(self, u: Tensor) -> Tensor:
        for made in self.steps:
            u = (u + made(u)).flip(-1)
        return u

    def inverse(self, z: Tensor) -> Tensor:
        for made in reversed(self.steps):
            z = self._solve(made, z.flip(-1), 1)
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
            u = self._solve(made, u.flip(-1), -1)
        return u

    def inverse(self, z: Tensor) -> Tensor:
        for made in self.steps:
            z = (z - made(z)).flip(-1)
        return z
