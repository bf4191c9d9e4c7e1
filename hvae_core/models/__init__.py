"""The architectures, by name. One file each; what the paper's two share is in `layers`."""

import inspect
from typing import Any

import pandas as pd
from torch import nn

from hvae_core.errors import InputError
from hvae_core.models.distributions import Bernoulli, Gaussian, kl
from hvae_core.models.ghvae import GHVAE
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.models.layers import SIZES
from hvae_core.models.lvae import LVAE

__all__ = ["LAYERS", "MODELS", "Bernoulli", "Gaussian", "HierarchicalVAE", "architecture_table", "build", "kl"]

MODELS: dict[str, type[HierarchicalVAE]] = {"ghvae": GHVAE, "lvae": LVAE}
LAYERS = {"ghvae": 2, "lvae": 2}  # L of each


def build(model: str, image_shape: tuple[int, int, int], **options: Any) -> HierarchicalVAE:
    """The model called ``model`` for images of ``image_shape`` (C, H, W), with fresh random weights.

    Arguments:
        model: ``ghvae`` or ``lvae``.
        image_shape: ``(1, 28, 28)`` or ``(3, 32, 32)``.
        options: ``sigma_x``, the fixed standard deviation of the Gaussian likelihood (default 0.71).

    Raises:
        InputError: for a model, shape or option that is not there.

    Example:
        >>> sum(p.numel() for p in build("ghvae", (3, 32, 32)).parameters())
        475811
    """
    if model not in MODELS:
        raise InputError(f"model: no model is called {model!r}; there are {', '.join(MODELS)}")
    shape: Any = tuple(image_shape)
    if shape not in SIZES:
        allowed = " and ".join("x".join(map(str, shape)) for shape in SIZES)
        raise InputError(f"model {model}: images of {'x'.join(map(str, image_shape))}; it is made for {allowed}")
    allowed_options = list(inspect.signature(MODELS[model]).parameters)[1:]
    for name in options:
        if name not in allowed_options:
            raise InputError(f"model {model}: no option is called {name!r}; there are {', '.join(allowed_options)}")
    return MODELS[model](shape, **options)


def describe(layer: nn.Module) -> str:
    """A layer in the paper's notation, such as Conv(3, 32, 4, 2, 1): in, out, kernel, stride, padding."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        kind = "ConvTransp" if layer.transposed else "Conv"
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0], layer.padding[0])
        return f"{kind}({', '.join(map(str, sizes))})"
    if isinstance(layer, nn.Linear):
        return f"FC({layer.in_features}, {layer.out_features})"
    return type(layer).__name__


def architecture_table(model: HierarchicalVAE) -> pd.DataFrame:
    """The architecture as a table, read off the module itself (Paper A, Tables 2 and 3).

    One row a step of a distribution (columns distribution, step, layers, parameters) and a last row with the total.

    Example:
        >>> table = architecture_table(build("lvae", (1, 28, 28)))
        >>> int(table["parameters"].iloc[-1])
        104745
    """
    rows: list[dict[str, Any]] = []
    for distribution, steps in model.parts.items():
        for step, names in steps.items():
            layers = [model.get_submodule(name) for name in names]
            count = sum(p.numel() for layer in layers for p in layer.parameters())
            text = ", ".join(describe(layer) for layer in layers)
            rows.append({"distribution": distribution, "step": step, "layers": text, "parameters": count})
    total = sum(p.numel() for p in model.parameters())
    if total != sum(row["parameters"] for row in rows):
        raise AssertionError("the parts of the model do not cover all its parameters")
    rows.append({"distribution": "total", "step": "", "layers": "", "parameters": total})
    table = pd.DataFrame(rows)
    table.attrs["caption"] = (
        f"The architecture {type(model).__name__} for images of {'x'.join(map(str, model.image_shape))}, read off the code."
    )
    return table
