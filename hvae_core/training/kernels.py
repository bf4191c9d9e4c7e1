"""Convolutions of many models at once as Triton kernels of our own, for a GPU; chosen by `hvae_core.training.ways.Way`.

**What is computed.** A convolution is a matrix product: at each place of the output map, what its window sees, times
the kernel. Here the windows are never written down (an implicit product): `_apply` reads, for a tile of places and a
tile of window entries, straight from the map, multiplies by the kernel and adds the bias. A transposed convolution with
stride s is s x s convolutions, one for the places of each phase (row mod s, column mod s). The gradient of the input of
one is the other, of the same weights. The gradient of the weights sums, over all places, what the window saw times what
came back: `_correlate`, for both. Products are summed in float32. ReLUs are the model's, and stay passes of their own.

**What moves.** Each map is read from memory and written once a pass, and read once a window entry from the caches;
`hvae_core.training.convolutions` writes every window, and reads it in both passes. Maps and weights are read by their
strides, whatever their order; a map that all models share has stride 0 from model to model.

**What bounds it.** The layer from 16 channels to 16 with kernel 4 and stride 2 makes 8,192 operations for each place,
which reads 64 numbers and writes 16: 26 operations a byte in float32. Cards that compute such products at hundreds of
operations a byte of memory wait for the memory.

A program computes ``PLACES`` places of one model. Kernels are multiples of strides, and maps have few channels, as in
the paper's layers.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # where there is none, such as on macOS
    triton = tl = None

PLACES = 64  # of the output map, in a tile
ENTRIES = 32  # of a window, in a tile


def _apply(  # type: ignore[no-untyped-def]  # Triton reads it
    x, weight, bias, y, places, height, width, rows, columns, high, wide,
    x_m, x_b, x_c, x_h, x_w, w_m, w_o, w_c, w_i, w_j, b_m, y_m, y_b, y_c, y_h, y_w,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr,
    UP: tl.constexpr, BIAS: tl.constexpr, PRECISION: tl.constexpr,
    PLACES: tl.constexpr, ENTRIES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """A tile of places of a (transposed) convolution; ``rows x columns`` places an image, in each phase if ``UP``."""
    phase, model = tl.program_id(1), tl.program_id(2).to(tl.int64)
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    image, row, column = place // (rows * columns), place // columns % rows, place % columns
    TAPS: tl.constexpr = KERNEL // STRIDE if UP else KERNEL
    if UP:
        row_phase, column_phase = phase // STRIDE, phase % STRIDE
        first_i, first_j = (row_phase + PADDING) % STRIDE, (column_phase + PADDING) % STRIDE
        top, left = row + (row_phase + PADDING) // STRIDE, column + (column_phase + PADDING) // STRIDE
        to_row, to_column = row * STRIDE + row_phase, column * STRIDE + column_phase
    else:
        top, left = row * STRIDE - PADDING, column * STRIDE - PADDING
        to_row, to_column = row, column
    channel = tl.arange(0, CHANNELS)
    total = tl.full((PLACES, CHANNELS), 0.0, tl.float32)
    for start in range(0, TAPS * TAPS * INPUTS, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        of, tap = entry % INPUTS, entry // INPUTS
        i, j = tap // TAPS, tap % TAPS
        if UP:
            h, w = top[:, None] - i[None, :], left[:, None] - j[None, :]
            i, j = first_i + STRIDE * i, first_j + STRIDE * j
        else:
            h, w = top[:, None] + i[None, :], left[:, None] + j[None, :]
        there = (entry < TAPS * TAPS * INPUTS)[None, :] & (place < places)[:, None]
        there = there & (h >= 0) & (h < height) & (w >= 0) & (w < width)
        at = model * x_m + image[:, None] * x_b + of[None, :] * x_c + h * x_h + w * x_w
        seen = tl.load(x + at, mask=there, other=0.0)
        at = model * w_m + of * w_c + i * w_i + j * w_j
        known = (entry < TAPS * TAPS * INPUTS)[:, None] & (channel < OUTPUTS)[None, :]
        kernel = tl.load(weight + at[:, None] + channel[None, :] * w_o, mask=known, other=0.0)
        total = tl.dot(seen, kernel, total, input_precision=PRECISION)
    if BIAS:
        total += tl.load(bias + model * b_m + channel, mask=channel < OUTPUTS, other=0.0).to(tl.float32)[None, :]
    there = (place < places) & (to_row < high) & (to_column < wide)
    at = model * y_m + image * y_b + to_row * y_h + to_column * y_w
    inside = there[:, None] & (channel < OUTPUTS)[None, :]
    tl.store(y + at[:, None] + channel[None, :] * y_c, total.to(y.dtype.element_ty), mask=inside)


def _correlate(  # type: ignore[no-untyped-def]  # Triton reads it
    large, small, result, places, height, width, rows, columns,
    l_m, l_b, l_c, l_h, l_w, s_m, s_b, s_c, s_h, s_w, r_m, r_l, r_s, r_i, r_j,
    LARGE: tl.constexpr, SMALL: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr,
    PRECISION: tl.constexpr, PLACES: tl.constexpr, ENTRIES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """A tile of window entries of a gradient of weights: the large map's windows times the small map, over places."""
    model = tl.program_id(1).to(tl.int64)
    entry = tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    of, tap = entry % LARGE, entry // LARGE
    i, j = tap // KERNEL, tap % KERNEL
    channel = tl.arange(0, CHANNELS)
    total = tl.full((ENTRIES, CHANNELS), 0.0, tl.float32)
    for start in range(0, places, PLACES):
        place = start + tl.arange(0, PLACES)
        image, row, column = place // (rows * columns), place // columns % rows, place % columns
        h, w = row[None, :] * STRIDE - PADDING + i[:, None], column[None, :] * STRIDE - PADDING + j[:, None]
        there = (entry < KERNEL * KERNEL * LARGE)[:, None] & (place < places)[None, :]
        there = there & (h >= 0) & (h < height) & (w >= 0) & (w < width)
        at = model * l_m + image[None, :] * l_b + of[:, None] * l_c + h * l_h + w * l_w
        seen = tl.load(large + at, mask=there, other=0.0)
        at = model * s_m + image * s_b + row * s_h + column * s_w
        known = (place < places)[:, None] & (channel < SMALL)[None, :]
        back = tl.load(small + at[:, None] + channel[None, :] * s_c, mask=known, other=0.0)
        total = tl.dot(seen, back, total, input_precision=PRECISION)
    at = model * r_m + of * r_l + i * r_i + j * r_j
    known = (entry < KERNEL * KERNEL * LARGE)[:, None] & (channel < SMALL)[None, :]
    tl.store(result + at[:, None] + channel[None, :] * r_s, total.to(result.dtype.element_ty), mask=known)


@cache
def _compiled() -> tuple[Any, Any]:
    if triton is None:
        raise ImportError("the kernels of our own need Triton, which PyTorch brings along on Linux")
    return triton.jit(_apply), triton.jit(_correlate)


def _precision() -> str:
    """As `hvae_core.training.precision.tf32` asks for."""
    exact = torch.get_float32_matmul_precision() == "highest" or os.environ.get("TRITON_INTERPRET") == "1"
    return "ieee" if exact else "tf32"


def _strides(value: Tensor, members: int) -> list[int]:
    """Of each axis; 0 from model to model where all share it."""
    own = list(value.stride())
    return [0 if len(value) == 1 < members else own[0], *own[1:]]


def _tile(channels: int) -> int:
    return max(16, 1 << (channels - 1).bit_length())


def applied(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, up: bool = False) -> Tensor:
    """The convolutions of many models, or with ``up`` the transposed ones.

    Arguments:
        x: ``(members or 1, batch, inputs, H, W)``; 1 where all models share it.
        weight: ``(members, outputs, inputs, kernel, kernel)``, whose axes may be those of another order in memory.
        bias: ``(members, outputs)``.

    Returns:
        ``(members, batch, outputs, H', W')``, channels last in memory.
    """
    members, outputs, inputs, kernel, _ = weight.shape
    batch, height, width = x.shape[1], *x.shape[3:]
    if up:
        high, wide = ((side - 1) * stride - 2 * padding + kernel for side in (height, width))
        rows, columns = -(-high // stride), -(-wide // stride)
    else:
        high, wide = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
        rows, columns = high, wide
    y = x.new_empty(members, batch, high, wide, outputs).permute(0, 1, 4, 2, 3)
    places = batch * rows * columns
    bias = None if bias is None else bias.contiguous()
    grid = (-(-places // PLACES), stride**2 if up else 1, members)
    _compiled()[0][grid](
        x, weight, x if bias is None else bias, y, places, height, width, rows, columns, high, wide,
        *_strides(x, members), *weight.stride(), outputs, *y.stride(),
        INPUTS=inputs, OUTPUTS=outputs, KERNEL=kernel, STRIDE=stride, PADDING=padding, UP=up, BIAS=bias is not None,
        PRECISION=_precision(), PLACES=PLACES, ENTRIES=ENTRIES, CHANNELS=_tile(outputs),
    )  # fmt: skip
    return y


def correlated(large: Tensor, small: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The gradient of the weights that lead from the large maps to the small ones, or back.

    Arguments:
        large: ``(members or 1, batch, C, H, W)``.
        small: ``(members or 1, batch, c, h, w)``.

    Returns:
        ``(members, c, C, kernel, kernel)``.
    """
    members = max(len(large), len(small))
    (batch, many, height, width), (few, rows, columns) = large.shape[1:], small.shape[2:]
    result = small.new_empty(members, few, many, kernel, kernel)
    r_m, r_s, r_l, r_i, r_j = result.stride()
    _compiled()[1][(-(-kernel * kernel * many // ENTRIES), members)](
        large, small, result, batch * rows * columns, height, width, rows, columns,
        *_strides(large, members), *_strides(small, members), r_m, r_l, r_s, r_i, r_j,
        LARGE=many, SMALL=few, KERNEL=kernel, STRIDE=stride, PADDING=padding, PRECISION=_precision(),
        PLACES=PLACES, ENTRIES=ENTRIES, CHANNELS=_tile(few),
    )  # fmt: skip
    return result


class _Convolution(torch.autograd.Function):
    """`applied`, with gradients; ``weight`` as PyTorch keeps it, ``(members, inputs, outputs, ...)`` if ``up``."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, up: bool) -> Tensor:
        return applied(x, weight.transpose(1, 2) if up else weight, bias, stride, padding, up)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, weight, _, *ctx.rest = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        stride, padding, up = ctx.rest
        back = None
        if ctx.needs_input_grad[0]:  # a map that models share has none: it is the images
            back = applied(gradient, weight if up else weight.transpose(1, 2), None, stride, padding, not up)
        large, small = (gradient, x) if up else (x, gradient)
        weights = correlated(large, small, weight.shape[-1], stride, padding)
        return back, weights, gradient.sum((1, 3, 4)), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> tuple[Tensor, int]:
        """Models one level up take the place of the single model that each call speaks of."""
        stacked = [
            value if dim is None else value.movedim(dim, 0).squeeze(1)
            for value, dim in zip((x, weight, bias), in_dims, strict=False)
        ]
        members = info.batch_size
        own = [stacked[0], *(value.expand(members, *value.shape[1:]) for value in stacked[1:])]
        return _Convolution.apply(*own, *rest).unsqueeze(1), 0


def convolution(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, up: bool) -> Tensor:
    """One model's convolution or, with ``up``, transposed convolution; under `torch.vmap` those of all models at once.

    Arguments:
        x: ``(batch, inputs, H, W)``.
        weight, bias: as PyTorch keeps them.
    """
    result: Tensor = _Convolution.apply(x[None], weight[None], bias[None], stride, padding, up)
    return result.squeeze(0)
