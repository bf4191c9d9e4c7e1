"""A conditioned network, and the images and noise it is shown with, as text for a page: numbers in base64.

A sum of tables that are linear between their points is one table, if its grid has all their points. So the weights with
all that is added to them are one table of 3 x 3 settings of the betas, and scales and shifts one of 7 x 7. That loses
nothing, and takes a third less room. Then numbers are rounded to float16.
"""

import base64
import copy
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvae_core.evaluation.rates import BATCH
from hvae_core.models.conditioning import Conditioned, Table
from hvae_core.randomness import Noise, Purpose

IMAGES = 256  # test images, on which a page computes terms
SHOWN = 16  # of them are shown, and as many samples


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


def packed(network: Conditioned, x: Tensor, seed: int) -> dict[str, Any]:
    """What ``worker.js`` loads.

    Arguments:
        network: with two layers.
        x: test images, ``(images, C, H, W)`` uint8; the first `IMAGES` of them are taken along.
        seed: of the network; the noise is that with which the run was measured.
    """
    one, model = merged(network), network.model
    x = x[:BATCH].cpu()
    places, order = _layers(one)
    taken, shown = x[:IMAGES].numpy(), min(SHOWN, len(x))
    sigma_x: Any = model.sigma_x
    tables = torch.cat([one.changes.values[:, order].flatten(), one.modulation.values.flatten()])
    text = _float16(tables)
    binary = model.image_shape[0] == 1
    about = {
        "family": type(model).__name__,
        "image_shape": list(model.image_shape),
        "bits": 1 if binary else 8,
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
        "tables": text,
        "images": _base64(np.packbits(taken > 127) if binary else taken),
        "noise": _noise([part[:IMAGES] for part in drawn]),
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
    return _float16(torch.cat([part.flatten() for part in parts]))


def _float16(values: Tensor) -> str:
    return _base64(values.numpy().astype("<f2"))


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
