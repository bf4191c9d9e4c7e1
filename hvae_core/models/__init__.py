"""The architectures, by name: Paper A's two, one file each, with what they share in `layers`; Paper B's `families`."""

import inspect
from typing import Any

import pandas as pd
from torch import nn

from hvae_core.errors import InputError
from hvae_core.models.distributions import (
    Bernoulli,
    Distribution,
    Gaussian,
    Posterior,
    Product,
    kl,
    log_ratio,
)
from hvae_core.models.families import Family
from hvae_core.models.ghvae import GHVAE
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.models.layers import SIZES
from hvae_core.models.lvae import LVAE
from hvae_core.models.pixelcnn import Gated
from hvae_core.names import CONDITIONED, FAMILIES, LAYERS, check_sizes

__all__ = ["CONDITIONED", "FAMILIES", "LAYERS", "MODELS", "Bernoulli", "Distribution", "Gaussian", "HierarchicalVAE", "Posterior", "Product",
           "architecture_table", "build", "check_shape", "check_sizes", "kl", "log_ratio"]  # fmt: skip

MODELS: dict[str, type[HierarchicalVAE]] = {"ghvae": GHVAE, "lvae": LVAE}


def build(model: str, image_shape: tuple[int, int, int], **options: Any) -> HierarchicalVAE:
    """The model called ``model`` for images of ``image_shape`` (C, H, W), with fresh random weights.

    Arguments:
        model: ``ghvae``, ``lvae``, or one of Paper B's twelve families (`FAMILIES`), such as ``-+v``. Of ``ghvae-conditioned``
            and ``lvae-conditioned`` it is the model that is conditioned, which is also what it is at given betas.
        image_shape: ``(1, 28, 28)``; for ``ghvae`` and ``lvae`` also ``(3, 32, 32)``.
        options: ``sigma_x`` (``ghvae``, ``lvae``), the fixed standard deviation of the Gaussian likelihood (default
            0.71). ``latent_sizes`` (``ghvae``), the numbers of latents of z_L, ..., z_1 (default: the paper's two layers).
            ``width`` (families), a factor on the numbers of features and hidden units (default 1), and
            ``pseudo_inputs`` (families), the number of components of the VampPrior (default 500), which marginals
            - and + do without.

    Raises:
        InputError: for a model, shape or option that is not there.

    Example:
        >>> sum(p.numel() for p in build("ghvae", (3, 32, 32)).parameters())
        475811
        >>> sum(p.numel() for p in build("---", (1, 28, 28)).parameters())
        2998177
    """
    check_shape(model, image_shape)
    model = CONDITIONED.get(model, model)
    make: Any = MODELS.get(model, Family)
    shape: Any = tuple(image_shape)
    allowed_options = [name for name in inspect.signature(make).parameters if name not in ("image_shape", "family")]
    for name in options:
        if name not in allowed_options:
            raise InputError(f"model {model}: no option is called {name!r}; there are {', '.join(allowed_options)}")
    return make(shape, **options) if model in MODELS else make(shape, model, **options)


def check_shape(model: str, image_shape: tuple[int, int, int]) -> None:
    """Whether there is such a model for such images.

    Raises:
        InputError: if not.
    """
    if model == "toy":
        raise InputError("model toy: it is no model of images; 70_toy is its notebook, ./run_all.sh rd-toy its profile")
    if model not in LAYERS:
        raise InputError(f"model: no model is called {model!r}; there are {', '.join(MODELS)}, {', '.join(FAMILIES)}")
    allowed_shapes = list(SIZES) if CONDITIONED.get(model, model) in MODELS else [(1, 28, 28)]
    if tuple(image_shape) not in allowed_shapes:
        allowed = " and ".join("x".join(map(str, shape)) for shape in allowed_shapes)
        raise InputError(f"model {model}: images of {'x'.join(map(str, image_shape))}; it is made for {allowed}")


def describe(layer: nn.Module) -> str:
    """A layer in the paper's notation, such as Conv(3, 32, 4, 2, 1): in, out, kernel, stride, padding."""
    if isinstance(layer, Gated):
        return f"Gated{_describe(layer.layer, 2)}"
    return _describe(layer)


def _describe(layer: nn.Module, outputs: int = 1) -> str:
    """The layer, with its outputs counted in groups of ``outputs``."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        kind = "ConvTransp" if layer.transposed else "Conv"
        kernel, padding = ("x".join(map(str, dict.fromkeys(size) if size[0] == size[1] else size))
                           for size in (layer.kernel_size, layer.padding))  # fmt: skip
        return f"{kind}({layer.in_channels}, {layer.out_channels // outputs}, {kernel}, {layer.stride[0]}, {padding})"
    if isinstance(layer, nn.Linear):
        return f"FC({layer.in_features}, {layer.out_features // outputs})"
    return getattr(layer, "notation", type(layer).__name__)


def architecture_table(model: HierarchicalVAE) -> pd.DataFrame:
    """The architecture as a table, read off the module itself (Paper A, Tables 2 and 3; Paper B, Appendix F).

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
        f"The architecture {getattr(model, 'family', type(model).__name__)} for images of {'x'.join(map(str, model.image_shape))}, read off the code."
    )
    return table
