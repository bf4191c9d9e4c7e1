"""A conditioned network, and the images and noise it is shown with, as text for a page: five letters a four bytes.

A sum of tables that are linear between their points is one table, if its grid has all their points. So the weights with
all that is added to them are one table of 3 x 3 settings of the betas, and scales and shifts one of 7 x 7. That loses
nothing, and takes a third less room. Then numbers are rounded: to whole multiples of a step, of 16 bits or, of large
networks, 8. Each point of the grid has a step for every output of a layer, so that small weights keep their digits.
"""

import copy
import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hvae_core.evaluation.rates import BATCH, average_terms
from hvae_core.models.conditioning import Conditioned, Table
from hvae_core.randomness import Noise, Purpose

IMAGES = {1: 256, 3: 128}  # test images, on which a page computes terms, by their channels
SHOWN = 16  # of them are shown, and as many samples
LARGE = 2_000_000  # numbers, from which on they have 8 bits
LETTERS = "".join(chr(code) for code in range(33, 127) if chr(code) not in "\"&'<>\\`")[:85]
"""The digits of numbers to base 85: such as need no escape in HTML, JSON or JavaScript."""


@torch.no_grad()
def merged(network: Conditioned) -> Conditioned:
    """The same network with one grid in each of its tables, and no weights beside them.

    Example:
        >>> from hvae_core.models import build
        >>> one = merged(Conditioned(build("ghvae", (1, 28, 28)), [(0.1, 100), (0.1, 100)]))
        >>> one.changes.knots, one.modulation.knots
        ((3,), (7,))
    """
    layers, model = len(network.betas), copy.deepcopy(network.model).cpu()
    weights = torch.cat([parameter.double().flatten() for parameter in model.parameters()])
    for parameter in model.parameters():
        parameter.zero_()
    tables = (network.changes, network.modulation)
    coarse, fine = (_knots(table) for table in tables)
    found = Conditioned(model, network.betas, (coarse,), (fine,))
    found.changes.values.copy_(weights + _at_points(network.changes, coarse, layers))
    found.modulation.values.copy_(_at_points(network.modulation, fine, layers))
    return found.requires_grad_(False).eval()


def _knots(table: Table) -> int:
    """How many points along each axis a grid has that holds those of all grids of a table."""
    return math.lcm(*(knots - 1 for knots in table.knots if knots > 1)) + 1 if table.knots else 1


def _at_points(table: Table, knots: int, layers: int) -> Tensor:
    axis = torch.linspace(0, 1, knots, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * layers).view(-1, layers)
    exact = copy.deepcopy(table).cpu().double()
    return exact(points)


class Rounded(NamedTuple):
    """A network whose numbers are whole multiples of steps.

    Attributes:
        network: `merged`, and rounded.
        bits: of each number.
        changes, modulation: the whole numbers, ``(points, numbers)``.
        change_steps: of the weights, ``(points, channels + layers)``: for each output of each layer, then for the
            biases of each.
        modulation_steps: ``(numbers,)``.
    """

    network: Conditioned
    bits: int
    changes: Tensor
    change_steps: Tensor
    modulation: Tensor
    modulation_steps: Tensor


@torch.no_grad()
def rounded(network: Conditioned) -> Rounded:
    """The network as a page has it: no number is off by more than half its step.

    Example:
        >>> from hvae_core.models import build
        >>> of = rounded(Conditioned(build("ghvae", (1, 28, 28)), [(0.1, 100), (0.1, 100)]))
        >>> of.bits, tuple(of.changes.shape)
        (16, (9, 122713))
    """
    one = merged(network)
    tables = one.changes.values, one.modulation.values
    bits = 8 if sum(table.numel() for table in tables) > LARGE else 16
    groups = _groups(one)
    changes, change_steps = _whole(tables[0], groups, bits)
    modulation, steps = _whole(tables[1].T, torch.zeros(tables[1].shape[0], dtype=torch.long), bits)
    tables[0].copy_(changes * change_steps[:, groups])
    tables[1].copy_((modulation * steps).T)
    return Rounded(one, bits, changes, change_steps, modulation.T, steps[:, 0])


def rounding(network: Conditioned, x: Tensor, seed: int) -> dict[str, float]:
    """By how much rounding changes terms, in nats per image: the most, in the middle and the corners of the betas.

    Arguments:
        network: as it was trained.
        x: images ``(images, C, H, W)`` uint8, on which both are measured, with the same noise of this seed.
    """
    same, found = rounded(network).network, {"distortion": 0.0, "rate_2": 0.0, "rate_1": 0.0}
    ends = [(low, high) for low, high in network.betas]
    for betas in (*itertools.product(*ends), [math.sqrt(low * high) for low, high in ends]):
        one, other = (average_terms(of.at(betas), x, seed) for of in (network, same))
        found = {term: max(most, abs(other[term] - one[term])) for term, most in found.items()}
    return found


def _whole(values: Tensor, groups: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Values ``(rows, numbers)`` as whole numbers of so many bits, and the step of each row and group."""
    largest = values.new_zeros(len(values), int(groups.max()) + 1)
    largest.scatter_reduce_(1, groups.expand_as(values), values.abs(), "amax")
    steps = largest / (2 ** (bits - 1) - 1)
    steps[steps == 0] = 1
    return (values / steps[:, groups]).round(), steps


def _groups(network: Conditioned) -> Tensor:
    """Which numbers of the weights share a step."""
    found: dict[str, Tensor] = {}
    start, layers = 0, list(network.modulated.items())
    for number, ((name, layer), outputs) in enumerate(zip(layers, network.channels, strict=True)):
        weight: Tensor = layer.get_parameter("weight")
        of_outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        shape = [outputs if axis == of_outputs else 1 for axis in range(weight.ndim)]
        found[f"{name}.weight"] = (start + torch.arange(outputs)).view(shape).expand_as(weight)
        found[f"{name}.bias"] = torch.full((outputs,), sum(network.channels) + number)
        start += outputs
    return torch.cat([found[name].flatten() for name, _ in network.model.named_parameters()])


def packed(network: Conditioned, x: Tensor, seed: int) -> dict[str, Any]:
    """What ``worker.js`` loads.

    Arguments:
        network: with two layers.
        x: test images, ``(images, C, H, W)`` uint8; the first of them, see `IMAGES`, are taken along.
        seed: of the network; the noise is that with which the run was measured.
    """
    of, model = rounded(network), network.model
    one = of.network
    x = x[:BATCH].cpu()
    places, order = _layers(one)
    many = IMAGES[model.image_shape[0]]
    taken, shown = x[:many].numpy(), min(SHOWN, len(x))
    sigma_x: Any = model.sigma_x
    numbers = torch.cat([of.changes[:, order].flatten(), of.modulation.flatten()]).numpy()
    text = _text(numbers.astype(f"<i{of.bits // 8}"))
    steps = torch.cat([of.change_steps.flatten(), of.modulation_steps])
    binary = model.image_shape[0] == 1
    about = {
        "family": type(model).__name__,
        "image_shape": list(model.image_shape),
        "pixel_bits": 1 if binary else 8,
        "bits": of.bits,
        "sigma_x": float(sigma_x),
        "latents": [math.prod(shape) for shape in model.latent_shapes],
        "betas": [list(pair) for pair in network.betas],
        "low": one.low.tolist(),
        "high": one.high.tolist(),
        "coarse": one.changes.knots[0],
        "fine": one.modulation.knots[0],
        "parameters": len(order),
        "channels": sum(one.channels),
        "layers": places,
        "shown": shown,
        "images": len(taken),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    drawn = model.noise(len(x), Noise(seed, Purpose.EVALUATION))
    generated = model.noise(shown, Noise(seed, Purpose.GENERATION))
    return {
        "about": about,
        "letters": LETTERS,
        "tables": text,
        "steps": _text(steps.numpy().astype("<f4")),
        "images": _text(np.packbits(taken > 127) if binary else taken),
        "noise": _noise([part[:many] for part in drawn]),
        "generation": _noise(generated),
    }


def _layers(network: Conditioned) -> tuple[dict[str, dict[str, int]], Tensor]:
    """Where the numbers of each layer are, and the order in which the page has the weights: inputs last.

    A convolution's are by output, row, column and input; a transposed one's by row, column, output and input.
    """
    places: dict[str, dict[str, int]] = {}
    orders, start, channel = [], 0, 0
    starts = {}
    for name, parameter in network.model.named_parameters():
        own = torch.arange(start, start + parameter.numel()).view(parameter.shape)
        layer = network.modulated[name.rpartition(".")[0]]
        if own.ndim == 4:
            own = own.permute(2, 3, 1, 0) if isinstance(layer, nn.ConvTranspose2d) else own.permute(0, 2, 3, 1)
        orders.append(own.flatten())
        starts[name] = start
        start += parameter.numel()
    for (name, layer), outputs in zip(network.modulated.items(), network.channels, strict=True):
        weight: Tensor = layer.get_parameter("weight")
        places[name] = {
            "weight": starts[f"{name}.weight"],
            "bias": starts[f"{name}.bias"],
            "count": weight.numel(),
            "outputs": outputs,
            "inner": weight.shape[0] if isinstance(layer, nn.ConvTranspose2d) else weight.numel() // outputs,
            "channel": channel,
        }
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            sizes: Any = (layer.kernel_size, layer.stride, layer.padding)
            places[name] |= {word: size[0] for word, size in zip(("kernel", "stride", "padding"), sizes, strict=True)}
        channel += outputs
    return places, torch.cat(orders)


def _noise(parts: Sequence[Tensor]) -> str:
    return _text(torch.cat([part.flatten() for part in parts]).numpy().astype("<f2"))


def _text(values: np.ndarray) -> str:
    """The bytes of an array, with zeros up to a multiple of four: five `LETTERS` each, the highest digit first."""
    raw = np.ascontiguousarray(values).tobytes()
    words = np.frombuffer(raw + bytes(-len(raw) % 4), ">u4")
    digits = words[:, None] // 85 ** np.arange(4, -1, -1) % 85
    return np.frombuffer(LETTERS.encode(), np.uint8)[digits].tobytes().decode()
