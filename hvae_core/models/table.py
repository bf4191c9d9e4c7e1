"""An architecture as a table, read off the module itself."""

from __future__ import annotations

from typing import Any

import pandas as pd
from torch import nn

from hvae_core.errors import InputError
from hvae_core.models.contract import uncovered
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.models.paper_b.pixelcnn import Gated


def describe(layer: nn.Module) -> str:
    """A layer in the paper's notation, such as Conv(3, 32, 4, 2, 1): in, out, kernel, stride, padding."""
    if isinstance(layer, Gated):
        return f"Gated{_describe(layer.layer, 2)}"
    return _describe(layer)


def _describe(layer: nn.Module, outputs: int = 1) -> str:
    """The layer, with its outputs counted in groups of ``outputs``."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        kind = "ConvTransp" if layer.transposed else "Conv"
        kernel, padding = (
            "x".join(map(str, dict.fromkeys(size) if size[0] == size[1] else size))
            for size in (layer.kernel_size, layer.padding)
        )
        return f"{kind}({layer.in_channels}, {layer.out_channels // outputs}, {kernel}, {layer.stride[0]}, {padding})"
    if isinstance(layer, nn.Linear):
        return f"FC({layer.in_features}, {layer.out_features // outputs})"
    return getattr(layer, "notation", type(layer).__name__)


def architecture_table(model: HierarchicalVAE) -> pd.DataFrame:
    """The architecture as a table, read off the module itself (Paper A, Tables 2 and 3; Paper B, Appendix F).

    One row a step of a distribution (columns distribution, step, layers, parameters) and a last row with the total.

    Example:
        >>> from hvae_core.models import build
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
        raise InputError(
            f"the parts of {type(model).__name__} leave out {', '.join(left_out)}"
            if (left_out := uncovered(model))
            else f"the parts of {type(model).__name__} name a layer twice"
        )
    rows.append({"distribution": "total", "step": "", "layers": "", "parameters": total})
    table = pd.DataFrame(rows)
    table.attrs["caption"] = (
        f"The architecture {getattr(model, 'family', type(model).__name__)} for images of "
        f"{'x'.join(map(str, model.image_shape))}, read off the code."
    )
    return table
