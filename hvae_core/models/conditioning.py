"""One network for all betas: a hierarchical VAE whose layers are scaled and shifted as functions of them.

After every convolution and linear layer, output channel c of an image with betas beta becomes

    y_c (1 + s_c(log beta)) + t_c(log beta).

At fixed betas that is the same layer with other weights, W_c (1 + s_c), and biases, b_c (1 + s_c) + t_c. So a conditioned
network *at* its betas is an ordinary model of the same class, `Conditioned.at`: what evaluates, stores and draws models
needs to know of no betas. All s and t start at 0, where it is the unconditioned model.

Source: the idea is that of Multi-Rate VAEs (Bae et al., ICLR 2023), for one beta of a single layer, by gates; scale and
shift are feature-wise modulation (Perez et al., AAAI 2018).
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.errors import InputError
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.terms import Terms, layer_numbers

KNOTS = (2, 4, 7)  # of a table's grids, along each log beta: the last has one every half decade from 0.1 to 100
COMPARED = 7  # values of each beta at which the networks of an atlas are compared
HIDDEN = 48  # units of the network instead: about as many parameters
STARTS = ((0.1, 3.0), (100.0, 0.1))  # beta_L and that of each layer below where training begins: with z_L in use, and without
Range = Sequence[tuple[float, float]]  # the lowest and highest beta of each layer, top first


def linear(position: Tensor, knots: int) -> Tensor:
    """The weights of the points of a grid in the linear interpolation at ``position`` ``(batch, L)``, from 0 to 1: ``(batch, knots ** L)``."""
    at = torch.arange(knots, device=position.device)
    hats = (1 - (position[..., None] * (knots - 1) - at).abs()).clamp_min(0)  # (batch, L, knots)
    weights = hats[:, 0]
    for layer in range(1, hats.shape[1]):
        weights = (weights[:, :, None] * hats[:, layer, None]).flatten(1)
    return weights


class Table(nn.Module):
    """The sum of values at grids of log betas, each linear between its points along each axis (bilinear for L = 2); zero at the start.

    What neighbouring betas have in common is learned from all of them, by the coarse grids; one fine grid could represent the same, but
    learns it half as fast.

    Arguments:
        betas: the range of each layer's beta, which the grids cover.
        outputs: numbers at each point.
        knots: values of each beta in each of the grids.
    """

    def __init__(self, betas: Range, outputs: int, knots: Sequence[int] = KNOTS) -> None:
        super().__init__()
        self.knots = tuple(knots)
        self.values = nn.Parameter(torch.zeros(sum(k ** len(betas) for k in self.knots), outputs))

    def forward(self, position: Tensor) -> Tensor:
        """``(batch, L)``, positions from 0 to 1 within the range of each log beta -> ``(batch, outputs)``."""
        return torch.cat([linear(position, k) for k in self.knots], 1) @ self.values


class Network(nn.Module):
    """The same as a small network of log betas, with one hidden layer; zero at the start."""

    def __init__(self, betas: Range, outputs: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(len(betas), hidden), nn.Linear(hidden, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, position: Tensor) -> Tensor:
        return self.out(F.silu(self.hidden(4 * position - 2)))


MECHANISMS: dict[str, Callable[..., nn.Module]] = {"table": Table, "mlp": Network}


class Conditioned(nn.Module):
    """A model with a context: the betas of each image.

    Arguments:
        model: any hierarchical VAE; its convolutions and linear layers are scaled and shifted.
        betas: the lowest and highest beta of each layer, top first. Outside of it nothing is known.
        mechanism: ``table`` or ``mlp``; see `Table` and `Network`.
        options: of the mechanism.

    Example:
        >>> from hvae_core.models import build
        >>> network = Conditioned(build("ghvae", (1, 28, 28)), [(0.1, 100), (0.1, 100)])
        >>> type(network.at((1.0, 10.0))).__name__
        'GHVAE'
        >>> network.at((1.0, 200.0))
        Traceback (most recent call last):
        hvae_core.errors.InputError: beta_1 = 200: the model is conditioned on beta_2 from 0.1 to 100, beta_1 from 0.1 to 100
    """

    low: Tensor
    high: Tensor

    def __init__(self, model: HierarchicalVAE, betas: Range, mechanism: str = "table", **options: Any) -> None:
        super().__init__()
        self.model = model
        self.betas = [(float(low), float(high)) for low, high in betas]
        bounds = torch.tensor([[math.log(beta) for beta in pair] for pair in self.betas])
        self.register_buffer("low", bounds[:, 0].clone(), persistent=False)
        self.register_buffer("high", bounds[:, 1].clone(), persistent=False)
        self.names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
        self.channels = [_layer(model, name).bias.numel() for name in self.names]
        self.modulation = MECHANISMS[mechanism](self.betas, 2 * sum(self.channels), **options)

    def position(self, log_betas: Tensor) -> Tensor:
        """Where log betas lie in their range, from 0 to 1, ``(batch, L)``."""
        return ((log_betas - self.low) / torch.where(self.high > self.low, self.high - self.low, 1)).clamp(0, 1)

    def scales_and_shifts(self, log_betas: Tensor) -> list[tuple[Tensor, Tensor]]:
        """1 + s and t of every layer, each ``(batch, channels)``, for ``log_betas`` ``(batch, L)``."""
        with torch.autocast(log_betas.device.type, enabled=False):  # as precise as `at` folds them
            values = self.modulation(self.position(log_betas))
        scales, shifts = values.chunk(2, 1)
        return list(zip((1 + scales).split(self.channels, 1), shifts.split(self.channels, 1), strict=True))

    def forward(self, x: Tensor, noise: Sequence[Tensor], log_betas: Tensor) -> Terms:
        """The terms of ``x``, each image at its own ``log_betas`` ``(batch, L)``, top layer first."""
        hooks = [
            _layer(self.model, name).register_forward_hook(partial(_modulate, scale, shift))
            for name, (scale, shift) in zip(self.names, self.scales_and_shifts(log_betas), strict=True)
        ]
        try:
            return self.model(x, noise)
        finally:
            for hook in hooks:
                hook.remove()

    def check(self, betas: Sequence[float]) -> None:
        """Whether the model is conditioned on these betas.

        Raises:
            InputError: if not; it names the range.
        """
        numbers = layer_numbers(len(self.betas))
        known = ", ".join(f"beta_{n} from {low:g} to {high:g}" for n, (low, high) in zip(numbers, self.betas, strict=True))
        if len(betas) != len(self.betas):
            raise InputError(f"{len(betas)} betas for {len(self.betas)} layers; the model is conditioned on {known}")
        for n, beta, (low, high) in zip(numbers, betas, self.betas, strict=True):
            if not low * (1 - 1e-9) <= beta <= high * (1 + 1e-9):
                raise InputError(f"beta_{n} = {beta:g}: the model is conditioned on {known}")

    @torch.no_grad()
    def at(self, betas: Sequence[float]) -> HierarchicalVAE:
        """The ordinary model that this is at ``betas``, top layer first: scales and shifts are folded into its weights.

        Raises:
            InputError: outside the range.
        """
        self.check(betas)
        log_betas = self.low.new_tensor([[math.log(beta) for beta in betas]])
        model = copy.deepcopy(self.model)
        for name, (scale, shift) in zip(self.names, self.scales_and_shifts(log_betas), strict=True):
            layer = _layer(model, name)
            axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0  # of the weight, the outputs'
            layer.weight.mul_(scale[0].view([-1 if i == axis else 1 for i in range(layer.weight.ndim)]))
            layer.bias.mul_(scale[0]).add_(shift[0])
        return model.requires_grad_(False).eval()


class Atlas(nn.Module):
    """Conditioned networks that share the range of the betas: at each betas the one that was trained best there.

    A network that learned to use z_L keeps doing so where a model without would be better, and the other way round. So there
    is one of each kind, and a small map of which is better where.

    Arguments:
        networks: with one range.

    Attributes:
        losses: ``(networks, COMPARED ** L)``, the logarithm of L on the training images at a grid of betas.
    """

    losses: Tensor

    def __init__(self, networks: Sequence[Conditioned]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("losses", torch.zeros(len(networks), COMPARED ** len(networks[0].betas)))

    @property
    def betas(self) -> list[tuple[float, float]]:
        """The range of each layer's beta, top first."""
        return self._charts[0].betas

    @property
    def _charts(self) -> list[Conditioned]:
        return cast(list[Conditioned], list(self.networks))

    def points(self) -> list[tuple[float, ...]]:
        """The betas of the grid of `losses`, top layer first and slowest."""
        return list(itertools.product(*([low * (high / low) ** (k / (COMPARED - 1)) for k in range(COMPARED)] for low, high in self.betas)))

    def which(self, betas: Sequence[float]) -> int:
        """The network for these betas: of the lowest loss, interpolated between the points of the grid."""
        first = self._charts[0]
        first.check(betas)
        weights = linear(first.position(first.low.new_tensor([[math.log(beta) for beta in betas]])), COMPARED)[0]
        return int((self.losses @ weights).argmin())

    def at(self, betas: Sequence[float]) -> HierarchicalVAE:
        """The ordinary model at ``betas``; see `Conditioned.at`.

        Raises:
            InputError: outside the range.
        """
        return self._charts[self.which(betas)].at(betas)


def atlas(make: Callable[[], HierarchicalVAE], betas: Iterable[Sequence[float]], mechanism: str = "table", **options: Any) -> Atlas:
    """Fresh networks for the range of these betas ``(points, L)``, one for each of `starts`; ``make`` makes a fresh model."""
    known = covering(betas)
    return Atlas([Conditioned(make(), known, mechanism, **options) for _ in starts(known)])


def starts(betas: Range) -> list[tuple[float, ...]]:
    """`STARTS`, for each layer, within this range; where they are the same point, once.

    Example:
        >>> starts([(0.1, 100), (0.1, 100)]), starts([(1, 1), (2, 2)])
        ([(0.1, 3.0), (100.0, 0.1)], [(1, 2)])
    """
    within = [tuple(min(max(start[min(i, 1)], low), high) for i, (low, high) in enumerate(betas)) for start in STARTS]
    return list(dict.fromkeys(within))


def covering(betas: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
    """The lowest and highest beta of each layer among points, ``(points, L)``.

    Example:
        >>> covering([(0.1, 3.0), (10.0, 1.0)])
        [(0.1, 10.0), (1.0, 3.0)]
    """
    return [(min(axis), max(axis)) for axis in zip(*betas, strict=True)]


def _layer(model: nn.Module, name: str) -> Any:
    return model.get_submodule(name)


def _modulate(scale: Tensor, shift: Tensor, _: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    shape = (*scale.shape, *[1] * (output.ndim - 2))
    return output * scale.view(shape) + shift.view(shape)
