"""Gated layers, and the gated PixelCNN of Paper B's powerful decoder (after PixelCNN++, Salimans et al., 2017)."""

from collections.abc import Callable, Iterator
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COARSEST = 4  # rows of an image in one row of the smallest maps


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


class Above:
    """Of everything that a window moves over, the row above the rows that are computed now.

    So an image can be computed a few rows at a time, each from what the rows before have left.
    """

    def __init__(self) -> None:
        self.rows: dict[nn.Module, Tensor] = {}
        self.lowest: dict[nn.Module, Tensor] = {}

    def on(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The maps that a layer sees, below the row that is above them; at the top of an image zeros."""
        self.lowest[layer] = x[:, :, -1:]
        return torch.cat([self.rows[layer], x], 2) if layer in self.rows else F.pad(x, (0, 0, 1, 0))

    def go_on(self) -> None:
        """From here on what was computed last is above."""
        self.rows = dict(self.lowest)


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

    def forward(self, x: Tensor, above: Above | None = None) -> Tensor:
        if above is None:
            return self.layer(F.pad(x, self.padding))
        return self.layer(F.pad(above.on(self, x), self.padding[:2]))


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

    def vertical(self, v: Tensor, earlier: Tensor | None = None, above: Above | None = None) -> Tensor:
        inside = self.v_in(v, above)
        if self.v_side is not None and earlier is not None:
            inside = inside + self.v_side(earlier)
        return v + F.glu(self.v_out(F.glu(inside, 1), above), 1)

    def horizontal(self, h: Tensor, v: Tensor, earlier: Tensor | None = None, above: Above | None = None) -> Tensor:
        """From the map of this stack, and what this layer's `vertical` gave."""
        beside = v if earlier is None else torch.cat([v, earlier], 1)
        inside = self.h_in(h, above) + self.h_side(beside)
        return h + F.glu(self.h_out(F.glu(inside, 1), above), 1)


class PixelCNN(nn.Module):
    """Logits of binary pixels, each given the pixels before it in raster order and a condition known in full.

    The vertical stack sees the rows above a pixel, the horizontal one also what is to its left, so that there is no
    blind spot within their reach (eight columns or more to each side, and all rows above). Both go through six blocks
    of two residual layers, on maps of full, half, quarter, quarter, half and full size (28, 14, 7, 7, 14, 28); a layer
    of the second half also gets the output of its mirror image in the first. What leads from one size to the next is
    linear (Paper B, Appendix F.2).

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
        over, beside = self._rows_above(x, condition), self._pixels_left(x, condition)
        return self._horizontal(over, beside, self._vertical(over))

    @torch.no_grad()
    def in_order(self, x: Tensor, condition: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Row, column and the logits of each pixel, ``(batch, 1)``, in raster order; fill x while they come.

        They are those of `forward` on x as it is then, for a fraction of the work: what is above stays, and the
        vertical stack is computed once a row.

        Example:
            >>> x = torch.zeros(5, 1, 28, 28)
            >>> for row, column, logits in PixelCNN(features=8).in_order(x, torch.zeros_like(x)):
            ...     x[:, :, row, column] = (logits > 0).float()  # the likelier value
        """
        height, width = x.shape[2:]
        above = Above()
        for top in range(0, height, COARSEST):
            for row in range(top, min(top + COARSEST, height)):
                here = slice(top, row + 1)
                over = self._rows_above(x[:, :, : row + 1], condition[:, :, : row + 1])[:, :, here]
                vertical = self._vertical(over, above)
                for column in range(width):
                    beside = self._pixels_left(x[:, :, here], condition[:, :, here])
                    yield row, column, self._horizontal(over, beside, vertical, above)[:, :, -1, column]
            above.go_on()

    def _rows_above(self, x: Tensor, condition: Tensor) -> Tensor:
        # Black pixels differ from the padding.
        return torch.cat([F.pad(2 * x - 1, (0, 0, 1, 0))[:, :, :-1], condition], 1)

    def _pixels_left(self, x: Tensor, condition: Tensor) -> Tensor:
        return torch.cat([F.pad(2 * x - 1, (1, 0))[:, :, :, :-1], condition], 1)

    def _vertical(self, over: Tensor, above: Above | None = None) -> list[Tensor]:
        """What the vertical stack gives in each residual layer."""

        def layer(i: int, v: Tensor, earlier: Tensor | None) -> Tensor:
            return cast(Residual, self.residual[i]).vertical(v, earlier, above)

        return _through(self.v_first(over, above), layer, self.v_down, self.v_up, above)

    def _horizontal(self, over: Tensor, beside: Tensor, vertical: list[Tensor], above: Above | None = None) -> Tensor:
        """The logits."""

        def layer(i: int, h: Tensor, earlier: Tensor | None) -> Tensor:
            return cast(Residual, self.residual[i]).horizontal(h, vertical[i], earlier, above)

        if above is None:
            left = self.h_first_left(beside)[:, :, :-1]
        else:
            left = self.h_first_left(above.on(self.h_first_left, beside))[:, :, 1:-1]
        return self.last(_through(self.h_first_above(over) + left, layer, self.h_down, self.h_up, above)[-1])


def _through(
    x: Tensor,
    layer: Callable[[int, Tensor, Tensor | None], Tensor],
    down: nn.ModuleList,
    up: nn.ModuleList,
    above: Above | None,
) -> list[Tensor]:
    """A stack's map after each residual layer; the second half gets the mirror images of the first."""
    maps: list[Tensor] = []
    for block in range(6):
        if block in (1, 2):
            x = down[block - 1](x, above)
        if block in (4, 5):
            x = _cut(up[block - 4](x), maps[11 - 2 * block])
        for i in range(2 * block, 2 * block + 2):
            x = layer(i, x, maps[11 - i] if i >= 6 else None)
            maps.append(x)
    return maps


def _cut(x: Tensor, like: Tensor) -> Tensor:
    """A map of twice the size, without the row or column that an odd side does not have."""
    return x[:, :, : like.shape[2], : like.shape[3]]
