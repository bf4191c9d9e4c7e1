"""Convolutions, computed in other ways: one is faster on a CPU, the other for many models at once.

`for_cpu`: a convolution with kernel 4, stride 2 and padding 1 halves the side of a map; its transpose doubles it, and is
also what passes the gradient back through the first. PyTorch's CPU library is slow at the transpose where there are few
channels. Written as an ordinary convolution it is not: each of the four outputs of an input pixel sees 2 x 2 inputs, so a
convolution with kernel 2 gives all four, one group of channels each, and what is left is to put them in their places.

`for_vmap`: many models' convolutions at once are one grouped convolution, at which GPU libraries are slow where a group has
few channels. Here they are one batched matrix product, between copies that a compiler fuses with their neighbours.

Same layers, same parameters, same values up to the order of additions; layers of other shapes stay as they are.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.hierarchy import HierarchicalVAE

SMALL = 64  # pixels of a map that may be copied as often as a kernel has weights
FEW = 32  # with as many output channels or more, PyTorch's own transpose is as fast (2 cores of an AMD EPYC)


def doubled(x: Tensor, weight: Tensor) -> Tensor:
    """The transposed convolution with kernel 4, stride 2, padding 1.

    Arguments:
        x: ``(batch, inputs, H, W)``.
        weight: ``(inputs, outputs, 4, 4)``.

    Returns:
        ``(batch, outputs, 2 H, 2 W)``, channels last in memory.

    Example:
        >>> x, weight = torch.randn(2, 3, 5, 5), torch.randn(3, 4, 4, 4)
        >>> torch.allclose(doubled(x, weight), F.conv_transpose2d(x, weight, stride=2, padding=1), atol=1e-5)
        True
    """
    inputs, outputs = weight.shape[:2]
    if outputs >= FEW:
        return F.conv_transpose2d(x, weight, stride=2, padding=1)
    batch, _, height, width = x.shape
    # Output row 2 i + p is made of the input rows i + p - 1 and i + p, by rows 3 - p and 1 - p of the kernel; so with columns.
    by_place = weight.flip(2, 3).unflatten(3, (2, 2)).unflatten(2, (2, 2)).permute(3, 5, 1, 0, 2, 4)
    kernel = by_place.reshape(4 * outputs, inputs, 2, 2).contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x.contiguous(memory_format=torch.channels_last), kernel, padding=1).permute(0, 2, 3, 1)
    out = y.new_empty(batch, height, 2, width, 2, outputs)
    for p in (0, 1):
        for q in (0, 1):
            group = slice((2 * p + q) * outputs, (2 * p + q + 1) * outputs)
            out[:, :, p, :, q] = y[:, p : p + height, q : q + width, group]
    return out.view(batch, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)


def _weight_gradient(wide: Tensor, weight: Tensor, narrow: Tensor) -> Tensor:
    """Of the convolution that leads from ``wide`` to ``narrow``, or of its transpose that leads back."""
    backward = torch.ops.aten.convolution_backward
    gradient: Tensor = backward(narrow, wide, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False])[1]
    return gradient


class _Halve(torch.autograd.Function):
    """A convolution whose gradient passes back through `doubled`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        back = doubled(gradient, weight) if ctx.needs_input_grad[0] else None
        return back, _weight_gradient(x, weight, gradient), gradient.sum((0, 2, 3))


class _Double(torch.autograd.Function):
    """A transposed convolution, forward through `doubled`; its gradient is an ordinary convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return doubled(x, weight) + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        back = F.conv2d(gradient, weight, stride=2, padding=1) if ctx.needs_input_grad[0] else None
        return back, _weight_gradient(gradient, weight, x), gradient.sum((0, 2, 3))


def _cast(*tensors: Tensor | None) -> Any:
    """In the type that autocast asks for; it does not see into functions of our own."""
    device = next(tensor for tensor in tensors if tensor is not None).device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(None if tensor is None else tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


class _Conv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        if input.shape[-1] % 2 or input.shape[-2] % 2:  # a side that cannot be halved
            return super().forward(input)
        result: Tensor = _Halve.apply(*_cast(input, self.weight, self.bias))
        return result


class _ConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        result: Tensor = _Double.apply(*_cast(input, self.weight, self.bias))
        return result


def for_cpu(model: HierarchicalVAE) -> HierarchicalVAE:
    """The same model, in place: convolutions that halve or double the side are computed as above. Not for `torch.vmap`.

    Example:
        >>> from hvae_core.models import build
        >>> model = for_cpu(build("lvae", (1, 28, 28)))
        >>> type(model.px_conv2).__name__, type(model.px_conv1).__name__
        ('_ConvTranspose2d', 'ConvTranspose2d')
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None and (
            (module.kernel_size, module.stride, module.padding, module.groups) == ((4, 4), (2, 2), (1, 1), 1)
            and (module.dilation, module.output_padding, module.padding_mode) == ((1, 1), (0, 0), "zeros")
        ):  # fmt: skip
            module.__class__ = _ConvTranspose2d if isinstance(module, nn.ConvTranspose2d) else _Conv2d
    return model


def layout(model: HierarchicalVAE) -> Callable[[Tensor], Tensor]:
    """How a model wants images and weights in memory: maps with channels last for one of `for_cpu`, the others as they are."""
    ours = any(isinstance(module, _Conv2d | _ConvTranspose2d) for module in model.modules())

    def lay(value: Tensor) -> Tensor:
        # A copy: with one channel `contiguous` thinks that both orders are the same, and the layers do not.
        return value.clone(memory_format=torch.channels_last) if ours and value.ndim == 4 else value

    return lay


def _blocks(x: Tensor, side: int) -> Tensor:
    """``(batch, C, H side, W side)`` as ``(batch, H, W, side^2 C)``: the pixels of each square block in one row."""
    return x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 3, 5, 1).flatten(3)


def _windows(x: Tensor, size: int) -> Tensor:
    """``(batch, H, W, C)`` as ``(batch, H - size + 1, W - size + 1, size^2 C)``: what each window sees."""
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    return torch.cat([x[:, i : i + height, j : j + width] for i, j in _places(size)], -1)


def _product(x: Tensor, kernel: Tensor) -> Tensor:
    """``(batch, H, W, C)`` times ``(C, outputs)``."""
    return (x.flatten(0, 2) @ kernel).unflatten(0, x.shape[:3])


def convolved(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """A convolution by a matrix product, with the kernel and the padded image cut into blocks of stride x stride pixels.

    Arguments:
        x: ``(batch, inputs, H, W)``; with the padding, sides are multiples of the stride.
        weight: ``(outputs, inputs, kernel, kernel)``; the kernel too.

    Returns:
        ``(batch, outputs, H', W')``, channels last in memory: copies that move channels about would take most of the time.

    Example:
        >>> x, weight = torch.randn(2, 3, 6, 6), torch.randn(5, 3, 4, 4)
        >>> torch.allclose(convolved(x, weight, 2, 1), F.conv2d(x, weight, stride=2, padding=1), atol=1e-5)
        True
    """
    outputs, _, kernel, _ = weight.shape
    size = kernel // stride
    x = _blocks(F.pad(x, (padding,) * 4), stride)
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    # Of each axis of the kernel, which block and where in it: (outputs, inputs, i, p, j, q).
    by_block = weight.unflatten(3, (size, stride)).unflatten(2, (size, stride))
    seen, made = size**2 * x.shape[3], size**2 * outputs  # values per position, either way
    if height * width * seen <= x.shape[1] * x.shape[2] * (made + x.shape[3]):
        y = _product(_windows(x, size), by_block.permute(2, 4, 3, 5, 1, 0).reshape(seen, outputs))
    else:
        parts = _product(x, by_block.permute(3, 5, 1, 2, 4, 0).reshape(x.shape[3], made)).unflatten(3, (size**2, outputs)).unbind(3)
        y = _sum(part[:, i : i + height, j : j + width] for (i, j), part in zip(_places(size), parts, strict=True))
    return y.permute(0, 3, 1, 2)


def transposed(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The transpose of `convolved`, from ``(batch, inputs, H, W)`` by ``(inputs, outputs, kernel, kernel)``.

    Example:
        >>> x, weight = torch.randn(2, 3, 5, 5), torch.randn(3, 4, 4, 4)
        >>> torch.allclose(transposed(x, weight, 2, 1), F.conv_transpose2d(x, weight, stride=2, padding=1), atol=1e-5)
        True
    """
    inputs, outputs, kernel, _ = weight.shape
    size = kernel // stride
    x, rim = x.permute(0, 2, 3, 1), size - 1
    height, width = x.shape[1] + rim, x.shape[2] + rim  # in blocks
    by_block = weight.unflatten(3, (size, stride)).unflatten(2, (size, stride))
    seen, made = size**2 * inputs, stride**2 * outputs
    if x.shape[1] * x.shape[2] * size**2 * made <= height * width * (seen + made):
        parts = _product(x, by_block.permute(0, 2, 4, 3, 5, 1).reshape(inputs, size**2 * made)).unflatten(3, (size**2, made)).unbind(3)
        y = _sum(F.pad(part, (0, 0, j, rim - j, i, rim - i)) for (i, j), part in zip(_places(size), parts, strict=True))
    else:
        # What reaches a block comes from the pixels before it, the nearest by the kernel's first block.
        turned = by_block.flip(2, 4).permute(2, 4, 0, 3, 5, 1).reshape(seen, made)
        y = _product(_windows(F.pad(x, (0, 0, rim, rim, rim, rim)), size), turned)
    y = y.unflatten(3, (stride, stride, outputs)).permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
    return y[:, padding : y.shape[1] - padding, padding : y.shape[2] - padding].permute(0, 3, 1, 2)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _places(size: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(size) for j in range(size)]


# Under vmap autocast is not applied to convolutions: those that stay PyTorch's are cast here too.
class _ProductConv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        input, weight, bias = _cast(input, self.weight, self.bias)
        if not _suits(self, input) or any((side + 2 * int(self.padding[0])) % self.stride[0] for side in input.shape[2:]):
            return self._conv_forward(input, weight, bias)
        return convolved(input, weight, self.stride[0], int(self.padding[0])) + bias[:, None, None]


class _ProductConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        input, weight, bias = _cast(input, self.weight, self.bias)
        if not _suits(self, input) or self.output_padding != (0, 0):
            rest = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
            return F.conv_transpose2d(input, weight, bias, *rest)  # type: ignore[arg-type]  # padding is a tuple here
        return transposed(input, weight, self.stride[0], int(self.padding[0])) + bias[:, None, None]


def _suits(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    """Whether a layer is written as a product: a square kernel of whole strides, which does not copy a large map too often."""
    if layer.bias is None or layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros":
        return False
    (size, other), stride = layer.kernel_size, layer.stride[0]
    square = size == other and all(len({*axes}) == 1 for axes in (layer.stride, layer.padding))
    return square and size % stride == 0 and (size <= 2 * stride or x.shape[-2] * x.shape[-1] <= SMALL)


def for_vmap(model: HierarchicalVAE) -> HierarchicalVAE:
    """The same model, in place: square convolutions as matrix products, which `torch.vmap` makes one of all its models.

    Example:
        >>> from hvae_core.models import build
        >>> model = for_vmap(build("lvae", (1, 28, 28)))
        >>> type(model.px_conv2).__name__
        '_ProductConvTranspose2d'
    """
    for module in model.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = _ProductConv2d
        elif type(module) is nn.ConvTranspose2d:
            module.__class__ = _ProductConvTranspose2d
    return model
