"""One network for all betas: a hierarchical VAE whose weights are functions of them.

The weights of a layer with betas beta, and its bias, are

    W(beta) = (W + dW(beta)) (1 + s(beta)),    b(beta) = (b + db(beta)) (1 + s(beta)) + t(beta),

with a scale s_c and a shift t_c for each output channel c. dW, db, s and t are sums of tables over log beta, linear
between their points: coarse ones for the weights, which tell the corners of the range apart, and finer ones for the
channels. At fixed betas that is an ordinary model of the same class, `Conditioned.at`: what evaluates, stores and draws
models needs to know of no betas. All tables start at 0, where it is the unconditioned model.

Source: the idea is that of Multi-Rate VAEs (Bae et al., ICLR 2023), for one beta of a single layer, by gates; scale and
shift are feature-wise modulation (Perez et al., AAAI 2018).
"""

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hvae_core.errors import InputError
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.terms import Terms, layer_numbers

COARSE = (2, 3)  # of the tables of weights: points along each log beta
FINE = (2, 4, 7)  # of those of scales and shifts: the last has a point every half decade from 0.1 to 100
Range = Sequence[tuple[float, float]]  # the lowest and highest beta of each layer, top first


def linear(position: Tensor, knots: int) -> Tensor:
    """The weights of the points of a grid in the linear interpolation at ``position`` ``(batch, L)``, from 0 to 1.

    ``(batch, knots ** L)``.
    """
    at = torch.arange(knots, device=position.device)
    hats = (1 - (position[..., None] * (knots - 1) - at).abs()).clamp_min(0)  # (batch, L, knots)
    weights = hats[:, 0]
    for layer in range(1, hats.shape[1]):
        weights = (weights[:, :, None] * hats[:, layer, None]).flatten(1)
    return weights


class Table(nn.Module):
    """The sum of values at grids of log betas, each linear between its points along each axis (bilinear for L = 2).

    Zero at the start.

    What neighbouring betas have in common is learned from all of them, by the coarse grids; one fine grid could
    represent the same, but learns it half as fast.

    Arguments:
        layers: L, the number of betas.
        outputs: numbers at each point.
        knots: values of each beta in each of the grids; without grids the sum is 0.
    """

    def __init__(self, layers: int, outputs: int, knots: Sequence[int]) -> None:
        super().__init__()
        self.knots = tuple(knots)
        self.values = nn.Parameter(torch.zeros(sum(k**layers for k in self.knots), outputs))

    def forward(self, position: Tensor) -> Tensor:
        """``(batch, L)``, positions from 0 to 1 within the range of each log beta -> ``(batch, outputs)``."""
        hats = [linear(position, k) for k in self.knots]
        return torch.cat([position[:, :0], *hats], 1) @ self.values


class Conditioned(nn.Module):
    """A model with a context: the betas.

    Arguments:
        model: any hierarchical VAE.
        betas: the lowest and highest beta of each layer, top first. Outside of it nothing is known.
        coarse: the grids of the tables of weights, see `Table`.
        fine: those of the tables of scales and shifts.

    Example:
        >>> from hvae_core.models import build
        >>> network = Conditioned(build("ghvae", (1, 28, 28)), [(0.1, 100), (0.1, 100)])
        >>> type(network.at((1.0, 10.0))).__name__
        'GHVAE'
        >>> network.at((1.0, 200.0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        hvae_core.errors.InputError: beta_1 = 200: the model is conditioned on beta_2 from 0.1 to 100, ...
    """

    low: Tensor
    high: Tensor

    def __init__(
        self, model: HierarchicalVAE, betas: Range, coarse: Sequence[int] = COARSE, fine: Sequence[int] = FINE
    ) -> None:
        super().__init__()
        self.model = model
        self.betas = [(float(low), float(high)) for low, high in betas]
        bounds = torch.tensor([[math.log(beta) for beta in pair] for pair in self.betas])
        self.register_buffer("low", bounds[:, 0].clone(), persistent=False)
        self.register_buffer("high", bounds[:, 1].clone(), persistent=False)
        self.modulated = {
            name: layer
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        }
        self.channels = [layer.weight.shape[_outputs(layer)] for layer in self.modulated.values()]
        self.changes = Table(len(self.betas), sum(parameter.numel() for parameter in model.parameters()), coarse)
        self.modulation = Table(len(self.betas), 2 * sum(self.channels), fine)

    def position(self, log_betas: Tensor) -> Tensor:
        """Where log betas lie in their range, from 0 to 1, ``(settings, L)``."""
        return ((log_betas - self.low) / torch.where(self.high > self.low, self.high - self.low, 1)).clamp(0, 1)

    def weights(self, log_betas: Tensor) -> dict[str, Tensor]:
        """The parameters of the model at ``log_betas`` ``(settings, L)``, by name, ``(settings, *shape)``."""
        named, position = dict(self.model.named_parameters()), self.position(log_betas)
        with torch.autocast(log_betas.device.type, enabled=False):  # as precise as the parameters
            changed = torch.cat([value.flatten() for value in named.values()]) + self.changes(position)
            parts = changed.split([value.numel() for value in named.values()], 1)
            found = {
                name: part.view(-1, *value.shape) for (name, value), part in zip(named.items(), parts, strict=True)
            }
            scales, shifts = self.modulation(position).chunk(2, 1)
            for (name, layer), scale, shift in zip(
                self.modulated.items(),
                (1 + scales).split(self.channels, 1),
                shifts.split(self.channels, 1),
                strict=True,
            ):
                axis = 1 + _outputs(layer)
                found[f"{name}.weight"] = found[f"{name}.weight"] * scale.view(
                    -1, *[scale.shape[1] if i == axis else 1 for i in range(1, layer.weight.ndim + 1)]
                )
                found[f"{name}.bias"] = found[f"{name}.bias"] * scale + shift
        return found

    def forward(self, x: Tensor, noise: Sequence[Tensor], log_betas: Tensor) -> Terms:
        """The terms of ``x``, which is as many groups of equal size as there are ``log_betas`` ``(groups, L)``.

        Each group has one setting of the betas.
        """

        def grouped(values: Tensor) -> Tensor:
            return values.view(len(log_betas), -1, *values.shape[1:])

        def one(weights: dict[str, Tensor], x: Tensor, *noise: Tensor) -> Terms:
            return functional_call(self.model, weights, (x, list(noise)))

        terms = vmap(one)(self.weights(log_betas), grouped(x), *map(grouped, noise))
        return Terms(terms.distortion.flatten(), terms.rates.flatten(0, 1))

    def check(self, betas: Sequence[float]) -> None:
        """Whether the model is conditioned on these betas.

        Raises:
            InputError: if not; it names the range.
        """
        numbers = layer_numbers(len(self.betas))
        known = ", ".join(
            f"beta_{n} from {low:g} to {high:g}" for n, (low, high) in zip(numbers, self.betas, strict=True)
        )
        if len(betas) != len(self.betas):
            raise InputError(f"{len(betas)} betas for {len(self.betas)} layers; the model is conditioned on {known}")
        for n, beta, (low, high) in zip(numbers, betas, self.betas, strict=True):
            if not low * (1 - 1e-9) <= beta <= high * (1 + 1e-9):
                raise InputError(f"beta_{n} = {beta:.10g}: the model is conditioned on {known}")

    @torch.no_grad()
    def at(self, betas: Sequence[float]) -> HierarchicalVAE:
        """The ordinary model that this is at ``betas``, top layer first.

        Raises:
            InputError: outside the range.
        """
        self.check(betas)
        model = copy.deepcopy(self.model)
        weights = self.weights(self.low.new_tensor([[math.log(beta) for beta in betas]]))
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name][0])
        return model.requires_grad_(False).eval()


def covering(betas: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
    """The lowest and highest beta of each layer among points, ``(points, L)``.

    Example:
        >>> covering([(0.1, 3.0), (10.0, 1.0)])
        [(0.1, 10.0), (1.0, 3.0)]
    """
    return [(min(axis), max(axis)) for axis in zip(*betas, strict=True)]


def _outputs(layer: Any) -> int:
    """The axis of a layer's weights that counts its outputs."""
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0
