"""Gated layers, and the gated PixelCNN of Paper B's powerful decoder (after PixelCNN++, Salimans et al., 2017)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Gated(nn.Module):
    """The linearly gated activation (W1 x + b1) * sigmoid(W2 x + b2) (Dauphin et al., 2017; Paper B, Appendix F).

    Initial weights are scaled so that a chain of such layers keeps the size of its signals. With PyTorch's own they
    shrink to nothing, and training is slow to start.

    Arguments:
        layer: W1 and W2 in one: it gives twice the features, the gates second.
        inputs: how many numbers each output is a sum over; default all that a weight row holds.

    Example:
        >>> Gated(nn.Linear(3, 2 * 5))(torch.ones(4, 3)).shape
        torch.Size([4, 5])
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, inputs: float | None = None) -> None:
        super().__init__()
        self.layer = layer
        outputs_first = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        scale = (inputs or outputs_first[0].numel()) ** -0.5
        values, gates = outputs_first.detach().chunk(2)
        values.normal_(0, 1.5 * scale)  # a gate lets about half of its value through
        gates.normal_(0, scale)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.layer(x), 1)


class Shifted(nn.Module):
    """A convolution whose window ends at its own row (and column): it sees nothing below (nor to the right).

    ::

        vertical (2x3)    o o o      horizontal (2x2)    o o
                          o * o                          o *

    Arguments:
        vertical: the kind of window.
        stride: 2 halves the sides, rounded up.
    """

    def __init__(self, inputs: int, outputs: int, vertical: bool, stride: int = 1) -> None:
        super().__init__()
        self.padding = (1, 1, 1, 0) if vertical else (1, 0, 1, 0)  # left, right, top, bottom
        self.layer = nn.Conv2d(inputs, outputs, (2, 3 if vertical else 2), stride)
        self.notation = f"Shifted({inputs}, {outputs}, {'2x3' if vertical else '2'}, {stride})"

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(F.pad(x, self.padding))


class Residual(nn.Module):
    """A residual layer of two gated convolutions, in each of the two stacks.

    Arguments:
        features: of every map.
        shortcut: whether maps of an earlier layer join.
    """

    def __init__(self, features: int, shortcut: bool) -> None:
        super().__init__()
        twice = 2 * features
        self.v_in, self.v_out = (Shifted(features, twice, vertical=True) for _ in range(2))
        self.h_in, self.h_out = (Shifted(features, twice, vertical=False) for _ in range(2))
        self.v_side = nn.Conv2d(features, twice, 1) if shortcut else None
        self.h_side = nn.Conv2d(twice if shortcut else features, twice, 1)
        self.notation = f"Residual({features})"

    def forward(self, v: Tensor, h: Tensor, earlier: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        inside, beside = self.v_in(v), []
        if self.v_side is not None and earlier is not None:
            inside = inside + self.v_side(earlier[0])
            beside = [earlier[1]]
        v = v + F.glu(self.v_out(F.glu(inside, 1)), 1)
        inside = self.h_in(h) + self.h_side(torch.cat([v, *beside], 1))
        return v, h + F.glu(self.h_out(F.glu(inside, 1)), 1)


class PixelCNN(nn.Module):
    """Logits of binary pixels, each given the pixels before it in raster order and a condition known in full.

    The vertical stack sees the rows above a pixel, the horizontal one also what is to its left, so that there is no
    blind spot within their reach (eight columns or more to each side, and all rows above). Both go through six blocks
    of two residual layers, on maps of full, half, quarter, quarter, half and full size (28, 14, 7, 7, 14, 28); a layer
    of the second half also gets the output of its mirror image in the
    first. What leads from one size to the next is linear (Paper B, Appendix F.2).

    The paper concatenates image and condition. Here the image alone is shifted first, so that no pixel sees itself,
    while the condition is seen from where it belongs: even the first pixel depends on it.

    Arguments:
        features: of every map; 64 in the paper.

    Example:
        >>> network = PixelCNN(features=8)
        >>> network(torch.zeros(5, 1, 28, 28), torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 1, 28, 28])
    """

    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "input": ("v_first", "h_first_above", "h_first_left"),
        "28x28": ("residual.0", "residual.1"),
        "to 14x14": ("v_down.0", "h_down.0"),
        "14x14": ("residual.2", "residual.3"),
        "to 7x7": ("v_down.1", "h_down.1"),
        "7x7": ("residual.4", "residual.5"),
        "7x7, back": ("residual.6", "residual.7"),
        "to 14x14, back": ("v_up.0", "h_up.0"),
        "14x14, back": ("residual.8", "residual.9"),
        "to 28x28, back": ("v_up.1", "h_up.1"),
        "28x28, back": ("residual.10", "residual.11"),
        "logits": ("last",),
    }

    def __init__(self, features: int) -> None:
        super().__init__()
        self.v_first = Shifted(2, features, vertical=True)
        self.h_first_above = nn.Conv2d(2, features, (1, 3), padding=(0, 1))
        self.h_first_left = nn.Conv2d(2, features, (2, 1), padding=(1, 0))
        self.residual = nn.ModuleList(Residual(features, shortcut=layer >= 6) for layer in range(12))
        self.v_down, self.h_down = (
            nn.ModuleList(Shifted(features, features, vertical, stride=2) for _ in range(2))
            for vertical in (True, False)
        )
        self.v_up = nn.ModuleList(
            nn.ConvTranspose2d(features, features, (2, 3), 2, padding=(0, 1), output_padding=(0, 1)) for _ in range(2)
        )
        self.h_up = nn.ModuleList(nn.ConvTranspose2d(features, features, 2, 2) for _ in range(2))
        self.last = nn.Conv2d(features, 1, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = 2 * x - 1  # black pixels differ from the padding
        above = torch.cat([F.pad(x, (0, 0, 1, 0))[:, :, :-1], condition], 1)
        left = torch.cat([F.pad(x, (1, 0))[:, :, :, :-1], condition], 1)
        v = self.v_first(above)
        h = self.h_first_above(above) + self.h_first_left(left)[:, :, :-1]
        maps: list[tuple[Tensor, Tensor]] = []
        for block in range(3):
            if block > 0:
                v, h = self.v_down[block - 1](v), self.h_down[block - 1](h)
            for layer in self.residual[2 * block : 2 * block + 2]:
                v, h = layer(v, h)
                maps.append((v, h))
        for block in range(3, 6):
            if block > 3:
                height, width = maps[-1][0].shape[2:]
                v, h = self.v_up[block - 4](v)[:, :, :height, :width], self.h_up[block - 4](h)[:, :, :height, :width]
            for layer in self.residual[2 * block : 2 * block + 2]:
                v, h = layer(v, h, maps.pop())
        return self.last(h)
