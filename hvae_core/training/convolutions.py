"""Convolutions, computed in other ways: one is faster on a CPU, the other for many models at once.

`for_cpu`: a convolution with kernel 4, stride 2 and padding 1 halves the side of a map; its transpose doubles it, and
is also what passes the gradient back through the first. PyTorch's CPU library is slow at the transpose where there are
few channels. Written as an ordinary convolution it is not: each of the four outputs of an input pixel sees 2 x 2
inputs, so a convolution with kernel 2 gives all four, one group of channels each, and what is left is to put them in
their places. A convolution with kernel 1 is a matrix product an image.

`for_vmap`: many models' convolutions at once are one grouped convolution, at which GPU libraries are slow where a group
has few channels. Here they are one batched matrix product, between copies that a compiler fuses with their neighbours.

Same parameters, same values up to the order of additions; layers of other shapes stay as they are. Axes are named by
letters, and `torch.einsum` of one tensor puts them in order::

    b  image     c  channel in     o  channel out     h, w  place (in blocks, where there are blocks)
    i, j  which block of a kernel's rows and columns     p, q  which row and column within a block
"""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, einsum, nn

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
    # Output row 2 i + p is made of the input rows i + p - 1 and i + p, by rows 3 - p and 1 - p of the kernel; so with
    # columns.
    by_place = einsum("coipjq->pqocij", _kernel_blocks(weight.flip(2, 3), 2))
    kernel = by_place.reshape(4 * outputs, inputs, 2, 2).contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x.contiguous(memory_format=torch.channels_last), kernel, padding=1)
    y = einsum("bohw->bhwo", y)
    out = y.new_empty(batch, height, 2, width, 2, outputs)
    for p in (0, 1):
        for q in (0, 1):
            group = slice((2 * p + q) * outputs, (2 * p + q + 1) * outputs)
            out[:, :, p, :, q] = y[:, p : p + height, q : q + width, group]
    return einsum("bhwo->bohw", out.view(batch, 2 * height, 2 * width, outputs))


def _weight_gradient(wide: Tensor, weight: Tensor, narrow: Tensor) -> Tensor:
    """Of the convolution that leads from ``wide`` to ``narrow``, or of its transpose that leads back."""
    backward = torch.ops.aten.convolution_backward
    gradient: Tensor = backward(
        narrow, wide, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]
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


class _Layer(nn.Module):
    """A layer in the place of one of PyTorch's, with the same parameters under the same names."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.stride, self.padding = layer.stride, layer.padding
        self.transposed = isinstance(layer, nn.ConvTranspose2d)
        self.output_padding = layer.output_padding
        self.groups, self.dilation = layer.groups, layer.dilation

    def torchs(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As PyTorch computes it."""
        if self.transposed:
            rest: Any = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
            return F.conv_transpose2d(x, weight, bias, *rest)
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class CPUConvolution(_Layer):
    """Halves or doubles the side of a map; faster on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if self.transposed:
            doubled: Tensor = _Double.apply(*_cast(x, self.weight, self.bias))
            return doubled
        if x.shape[-1] % 2 or x.shape[-2] % 2:  # a side that cannot be halved
            return self.torchs(x, self.weight, self.bias)
        halved: Tensor = _Halve.apply(*_cast(x, self.weight, self.bias))
        return halved


class CPUPointwise(_Layer):
    """A convolution with kernel 1, as a matrix product of each image; two to seven times as fast on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        x, weight, bias = _cast(x, self.weight, self.bias)
        weight = weight.flatten(1).expand(len(x), -1, -1)
        return torch.baddbmm(bias[:, None].expand(len(x), -1, -1), weight, x.flatten(2)).unflatten(2, x.shape[2:])


class StackableConvolution(_Layer):
    """A convolution as a matrix product, which `torch.vmap` makes one of all its models.

    Arguments:
        shared: all models see the same maps.
        kernels: by kernels of our own, see `hvae_core.training.kernels`.
    """

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d, shared: bool = False, kernels: bool = False) -> None:
        super().__init__(layer)
        self.shared, self.kernels = shared, kernels

    def forward(self, x: Tensor) -> Tensor:
        # Under vmap autocast is not applied to convolutions: those that stay PyTorch's are cast here too.
        x, weight, bias = _cast(x, self.weight, self.bias)
        if not self._suits(x):
            return self.torchs(x, weight, bias)
        stride, padding = self.stride[0], int(self.padding[0])
        if self.kernels:
            from hvae_core.training.kernels import convolution  # of Triton, which not every machine has

            return convolution(x, weight, bias, stride, padding, self.transposed)
        if self.transposed:
            return transposed(x, weight, stride, padding) + bias[:, None, None]
        return convolved(x, weight, stride, padding, self.shared) + bias[:, None, None]

    def _suits(self, x: Tensor) -> bool:
        """Whether it is written as a product: a square kernel of whole strides that copies no large map too often."""
        if self.bias is None or self.groups != 1 or self.dilation != (1, 1):
            return False
        size, other, stride = *self.weight.shape[2:], self.stride[0]
        if size != other or size % stride or any(len({*axes}) > 1 for axes in (self.stride, self.padding)):
            return False
        if size > 2 * stride and x.shape[-2] * x.shape[-1] > SMALL:
            return False
        if self.transposed:
            return self.output_padding == (0, 0)
        return not any((side + 2 * int(self.padding[0])) % stride for side in x.shape[2:])


def _replaced(model: HierarchicalVAE, make: Callable[[Any], nn.Module | None]) -> HierarchicalVAE:
    """The model, with each convolution replaced by what ``make`` gives for it, if that is not None."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            ours = type(layer) in (nn.Conv2d, nn.ConvTranspose2d) and layer.padding_mode == "zeros"
            if ours and (new := make(layer)) is not None:
                setattr(parent, name, new)
    return model


def for_cpu(model: HierarchicalVAE) -> HierarchicalVAE:
    """The same model, in place. Not for `torch.vmap`.

    Convolutions that halve or double the side are computed as above, and so are those with kernel 1.

    Example:
        >>> from hvae_core.models import build
        >>> model = for_cpu(build("lvae", (1, 28, 28)))
        >>> type(model.px_conv2).__name__, type(model.px_conv1).__name__
        ('CPUConvolution', 'ConvTranspose2d')
    """

    def faster(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module | None:
        if layer.bias is None or (layer.groups, layer.dilation, layer.output_padding) != (1, (1, 1), (0, 0)):
            return None
        shape = (layer.kernel_size, layer.stride, layer.padding)
        if shape == ((4, 4), (2, 2), (1, 1)):
            return CPUConvolution(layer)
        pointwise = shape == ((1, 1), (1, 1), (0, 0)) and not layer.transposed
        return CPUPointwise(layer) if pointwise else None

    return _replaced(model, faster)


def layout(model: HierarchicalVAE) -> Callable[[Tensor], Tensor]:
    """How a model wants images and weights in memory.

    Maps with channels last for one of `for_cpu`, the others as they are.
    """
    ours = any(isinstance(module, CPUConvolution) for module in model.modules())

    def lay(value: Tensor) -> Tensor:
        # A copy: with one channel `contiguous` thinks that both orders are the same, and the layers do not.
        return value.clone(memory_format=torch.channels_last) if ours and value.ndim == 4 else value

    return lay


def _blocks(x: Tensor, side: int) -> Tensor:
    """``(batch, C, H side, W side)`` as ``(batch, H, W, side^2 C)``: the pixels of each square block in one row."""
    return einsum("bchpwq->bhwpqc", x.unflatten(3, (-1, side)).unflatten(2, (-1, side))).flatten(3)


def _kernel_blocks(weight: Tensor, stride: int) -> Tensor:
    """A kernel ``(., ., size stride, size stride)``, each axis split into which block and where in it.

    ``(., ., i, p, j, q)``.
    """
    size = weight.shape[2] // stride
    return weight.unflatten(3, (size, stride)).unflatten(2, (size, stride))


def _windows(x: Tensor, size: int) -> Tensor:
    """``(batch, H, W, C)`` as ``(batch, H - size + 1, W - size + 1, size^2 C)``: what each window sees."""
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    return torch.cat([x[:, i : i + height, j : j + width] for i, j in _places(size)], -1)


def _product(x: Tensor, kernel: Tensor, shared: bool = False) -> Tensor:
    """``(batch, H, W, C)`` times ``(C, outputs)``.

    Where models share x, the kernels come first: `torch.vmap` then puts the rows of all of them below each other, and
    makes one plain product of members x outputs rows instead of a batched one.
    """
    rows = x.flatten(0, 2)
    return ((kernel.T.contiguous() @ rows.T).T if shared else rows @ kernel).unflatten(0, x.shape[:3])


def convolved(x: Tensor, weight: Tensor, stride: int, padding: int, shared: bool = False) -> Tensor:
    """A convolution by a matrix product, kernel and padded image cut into blocks of stride x stride pixels.

    Arguments:
        x: ``(batch, inputs, H, W)``; with the padding, sides are multiples of the stride.
        weight: ``(outputs, inputs, kernel, kernel)``; the kernel too.
        shared: under `torch.vmap` it is the same x for all models.

    Returns:
        ``(batch, outputs, H', W')``, channels last in memory: copies that move channels about would take most of the
        time.

    Example:
        >>> x, weight = torch.randn(2, 3, 6, 6), torch.randn(5, 3, 4, 4)
        >>> torch.allclose(convolved(x, weight, 2, 1), F.conv2d(x, weight, stride=2, padding=1), atol=1e-5)
        True
    """
    outputs, _, kernel, _ = weight.shape
    size = kernel // stride
    x = _blocks(F.pad(x, (padding,) * 4), stride)
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    by_block = _kernel_blocks(weight, stride)
    seen, made = size**2 * x.shape[3], size**2 * outputs  # values per position, either way
    if height * width * seen <= x.shape[1] * x.shape[2] * (made + x.shape[3]):
        y = _product(_windows(x, size), einsum("ocipjq->ijpqco", by_block).reshape(seen, outputs), shared)
    else:
        spread = _product(x, einsum("ocipjq->pqcijo", by_block).reshape(x.shape[3], made), shared)
        parts = spread.unflatten(3, (size**2, outputs)).unbind(3)
        y = _sum(part[:, i : i + height, j : j + width] for (i, j), part in zip(_places(size), parts, strict=True))
    return einsum("bhwo->bohw", y)


def transposed(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The transpose of `convolved`, from ``(batch, inputs, H, W)`` by ``(inputs, outputs, kernel, kernel)``.

    Example:
        >>> x, weight = torch.randn(2, 3, 5, 5), torch.randn(3, 4, 4, 4)
        >>> torch.allclose(transposed(x, weight, 2, 1), F.conv_transpose2d(x, weight, stride=2, padding=1), atol=1e-5)
        True
    """
    inputs, outputs, kernel, _ = weight.shape
    size = kernel // stride
    x, rim = einsum("bchw->bhwc", x), size - 1
    height, width = x.shape[1] + rim, x.shape[2] + rim  # in blocks
    by_block = _kernel_blocks(weight, stride)
    seen, made = size**2 * inputs, stride**2 * outputs
    if x.shape[1] * x.shape[2] * size**2 * made <= height * width * (seen + made):
        spread = _product(x, einsum("coipjq->cijpqo", by_block).reshape(inputs, size**2 * made))
        parts = spread.unflatten(3, (size**2, made)).unbind(3)
        y = _sum(F.pad(part, (0, 0, j, rim - j, i, rim - i)) for (i, j), part in zip(_places(size), parts, strict=True))
    else:
        # What reaches a block comes from the pixels before it, the nearest by the kernel's first block.
        turned = einsum("coipjq->ijcpqo", by_block.flip(2, 4)).reshape(seen, made)
        y = _product(_windows(F.pad(x, (0, 0, rim, rim, rim, rim)), size), turned)
    y = einsum("bhwpqo->bhpwqo", y.unflatten(3, (stride, stride, outputs))).flatten(3, 4).flatten(1, 2)
    return einsum("bhwo->bohw", y[:, padding : y.shape[1] - padding, padding : y.shape[2] - padding])


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _places(size: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(size) for j in range(size)]


def for_vmap(model: HierarchicalVAE, shared: bool = False, kernels: bool = False) -> HierarchicalVAE:
    """The same model, in place: square convolutions as matrix products, which `torch.vmap` makes one of all its models.

    Arguments:
        shared: models see the same images; layers with as many channels as an image are taken for those on it.
        kernels: products by kernels of our own, see `hvae_core.training.kernels`; not to be compiled.

    Example:
        >>> from hvae_core.models import build
        >>> model = for_vmap(build("lvae", (1, 28, 28)))
        >>> type(model.px_conv2).__name__
        'StackableConvolution'
    """
    colours = model.image_shape[0]
    return _replaced(model, lambda layer: StackableConvolution(layer, shared and layer.in_channels == colours, kernels))
