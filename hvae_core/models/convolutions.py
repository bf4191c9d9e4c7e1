"""The convolutions that halve or double the side of a map, computed in another way that is faster on a CPU.

A convolution with kernel 4, stride 2 and padding 1 halves the side; its transpose doubles it, and is also what passes the
gradient back through the first. PyTorch's CPU library is slow at the transpose where there are few channels. Written as
an ordinary convolution it is not: each of the four outputs of an input pixel sees 2 x 2 inputs, so a convolution with
kernel 2 gives all four, one group of channels each, and what is left is to put them in their places.

Same layers, same parameters, same values up to the order of additions; layers of other shapes stay as they are.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.hierarchy import HierarchicalVAE

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
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return (None if tensor is None else tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors)


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
