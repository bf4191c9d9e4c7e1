"""Lossless coding by bits-back, layer by layer: each layer of latents takes its rate, and the image its distortion.

::

    encode an image      take z_L from the stack under q(z_L | x), ..., z_1 under q(z_1 | z_>1, x)
                         put x under p(x | z), z_1 under p(z_1 | z_>1), ..., z_L under p(z_L)
    decode an image      the same, backwards

A layer's taking and putting cost log q(z) - log p(z) together, whose mean is the rate (Paper A, Eq. 7); x costs the
distortion. Images lie on one stack, the last on top, and what one puts there the next one takes. The first takes
initial words, which come back in the end.

Source: Townsend, Bird and Barber, Practical lossless compression with latent variables using bits back coding, 2019.
"""

from __future__ import annotations

import copy
import math
from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_core.coding.stack import Integers, Stack, Words
from hvae_core.coding.symbols import Grid, check_distributions, pixel_bits, pixels_under
from hvae_core.errors import InputError
from hvae_core.files import digest
from hvae_core.models.distributions import Bernoulli
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.terms import layer_numbers
from hvae_core.training.threads import threads_of_an_operation

if TYPE_CHECKING:
    import pandas as pd

SPARE = 4
"""Initial words beyond those that the first image takes."""
Images = NDArray[np.uint8]


class Account(NamedTuple):
    """Where the bits of a code went, in bits; of each image a row, top layer first and the pixels last.

    Attributes:
        coded: ``(images, L + 1)``, what the stack grew by: put less taken.
        wanted: ``(images, L + 1)``, log2 q(z) - log2 p(z) at the coded z, and -log2 p(x | z).
        rates: ``(images, L)``, KL[q || p] given the coded layers above.
        taken: ``(images, L)``, what was taken of the layers' bits, before they were put.
    """

    coded: NDArray[np.float64]
    wanted: NDArray[np.float64]
    rates: NDArray[np.float64]
    taken: NDArray[np.float64]

    def table(self) -> pd.DataFrame:
        """Means over the images, in bits an image, one row a layer and one for x.

        Columns: ``coded``, ``wanted``, the standard error ``error`` of their difference, the ``rate``, and the standard
        error ``rate_error`` of ``coded`` less ``rate``. Of x there is no rate.
        """
        import pandas as pd  # takes a second

        columns = {
            "coded": self.coded.mean(0),
            "wanted": self.wanted.mean(0),
            "error": _standard_error(self.coded - self.wanted),
            "rate": [*self.rates.mean(0), math.nan],
            "rate_error": [*_standard_error(self.coded[:, :-1] - self.rates), math.nan],
        }
        names = [*(f"z_{number}" for number in layer_numbers(self.rates.shape[1])), "x"]
        return pd.DataFrame(columns, index=pd.Index(names, name="layer"))


class Code(NamedTuple):
    """Images as a stack of bits, and what is needed to decode them.

    Attributes:
        words: the stack, ``(n,)`` uint32.
        images: how many.
        image_shape, latent_shapes: of the model.
        weights: checksum of the model that coded them.
        grid: the bins of the latents.
        initial: how many words lay there before the first image. They are those of `initial_words`.
        account: of what was just encoded; None of what was read from a file.
    """

    words: Words
    images: int
    image_shape: tuple[int, ...]
    latent_shapes: tuple[tuple[int, ...], ...]
    weights: str
    grid: Grid
    initial: int
    account: Account | None = None

    @property
    def bits(self) -> int:
        """Length of the stack."""
        return 32 * len(self.words)

    @property
    def net_bits(self) -> int:
        """Length of the stack less the initial words, which come back."""
        return self.bits - 32 * self.initial


@torch.inference_mode()
def encode(
    model: HierarchicalVAE,
    images: Tensor | Images | Iterable[Images],
    grid: Grid | None = None,
    initial: int | None = None,
) -> Code:
    """Images as bits, from which `decode` gives them back exactly.

    Arguments:
        model: a hierarchy of Gaussians; its pixels are Bernoulli, or Gaussian for images in colour.
        images: uint8, one after the other of the model's shape ``(C, H, W)``; those of a Bernoulli are 0 or 255.
        grid: the bins of the latents.
        initial: how many words lie there before the first image; None: so many as it takes. With fewer the code is
            longer, and exact all the same.

    Raises:
        InputError: for other images or models.

    Example:
        >>> from hvae_core.models import build
        >>> model, images = build("ghvae", (1, 28, 28)), np.zeros((3, 1, 28, 28), np.uint8)
        >>> code = encode(model, images)
        >>> bool((decode(model, code) == images).all())
        True
    """
    coder, rows, count = Coder(model, grid or Grid()), array("d"), 0
    stack = None if initial is None else Stack(initial_words(initial))
    for image in images:
        levels = coder.levels(np.asarray(image), count)
        if stack is None or initial is None:
            initial = coder.needed(levels)
            stack = Stack(initial_words(initial))
        rows.extend(coder.push(stack, levels))
        count += 1
        stack.mix(pad(count, initial))
    if stack is None or initial is None or not count:
        raise InputError("there are no images to code")
    layers = model.layers
    table = np.array(rows).reshape(count, 4 * layers + 2)
    account = Account(*np.split(table, np.cumsum([layers + 1, layers + 1, layers]), 1))
    shapes = (tuple(model.image_shape), tuple(model.latent_shapes))
    return Code(stack.words(), count, *shapes, coder.weights, coder.grid, initial, account)


def decode(model: HierarchicalVAE, code: Code) -> Images:
    """The images that were encoded, ``(images, C, H, W)`` uint8.

    Raises:
        InputError: when the code is of another model or damaged.
    """
    images = np.empty((code.images, *code.image_shape), np.uint8)
    for number, image in decoded(model, code):
        images[number] = image
    return images


@torch.inference_mode()
def decoded(model: HierarchicalVAE, code: Code) -> Iterator[tuple[int, Images]]:
    """Number and image, one after the other, the last first. All are right only if it ends without an error.

    Raises:
        InputError: when the code is of another model or damaged; the latter may be known in the end only.
    """
    coder = Coder(model, code.grid)
    check_model(coder, code)
    stack = Stack(code.words, state=True)
    wrong = InputError("what was decoded is wrong: the code is damaged, or this machine computes otherwise")
    for number in reversed(range(code.images)):
        stack.mix(pad(number + 1, code.initial), back=True)
        try:
            image = coder.pop(stack)
        except LookupError:  # latents that the posterior of this image cannot have
            raise wrong from None
        yield number, image
    initial = stack.initial()
    if initial is None or not np.array_equal(initial, initial_words(code.initial)):
        raise wrong


def check_model(coder: Coder, code: Code) -> None:
    """Whether the model is the one that coded.

    Raises:
        InputError: if not.
    """
    model = coder.model
    if (tuple(model.image_shape), tuple(model.latent_shapes)) != (code.image_shape, code.latent_shapes):
        raise InputError(
            f"the code is of images {_shape(code.image_shape)} and latents {_shapes(code.latent_shapes)}; this model "
            f"has {_shape(model.image_shape)} and {_shapes(model.latent_shapes)}"
        )
    if coder.weights != code.weights:
        raise InputError("the code was made with other weights; give the model that made it")


def weights_of(model: HierarchicalVAE) -> str:
    """The checksum of a model, by which a file knows it."""
    return digest({name: value.cpu().double() for name, value in model.state_dict().items()})


def initial_words(count: int) -> Words:
    """Random words, always the same, to begin a stack with."""
    return np.random.RandomState(0).randint(0, 2**32, count, dtype=np.uint32)


def pad(images: int, initial: int) -> NDArray[np.uint16]:
    """What is mixed into the bits on top after so many images: random numbers, as many bits as the first one took."""
    return np.random.RandomState(images).randint(0, 2**16, 2 * initial, dtype=np.uint16)


class Coder:
    """One image to and from a stack, by a model in float64 on the CPU.

    A network sees one image at a time, so that an image is coded alike alone and among others.
    """

    def __init__(self, model: HierarchicalVAE, grid: Grid) -> None:
        self.model = copy.deepcopy(model).cpu().double().requires_grad_(False).eval()
        self.weights = weights_of(self.model)
        self.grid = grid
        self.sizes = [int(np.prod(shape)) for shape in model.latent_shapes]
        x = torch.zeros(1, *model.image_shape, dtype=torch.float64)
        z: list[Tensor] = []
        for _ in self.sizes:
            q, p = self._conditionals(x, z, None)
            check_distributions(q, p, Bernoulli(x))
            z.append(q.mode)
        likelihood = self.model.likelihood(z)
        check_distributions(q, p, likelihood)
        self.binary = isinstance(likelihood, Bernoulli)

    def levels(self, image: Images, number: int) -> Integers:
        """The levels of an image, ``(pixels,)``: 0 and 1 where pixels are Bernoulli.

        Raises:
            InputError: for an image that the model cannot code.
        """
        if image.dtype != np.uint8 or image.shape != tuple(self.model.image_shape):
            raise InputError(
                f"image {number} is {image.dtype} {_shape(image.shape)}; this model codes uint8 "
                f"{_shape(self.model.image_shape)}"
            )
        if self.binary and not np.isin(image, (0, 255)).all():
            raise InputError(f"image {number} has other levels than 0 and 255; this model codes black and white images")
        return image.ravel().astype(np.int64) // (255 if self.binary else 1)

    @threads_of_an_operation(1)
    def needed(self, levels: Integers) -> int:
        """How many initial words an image takes, and a few to spare."""
        stack = Stack(initial_words(sum(self.sizes)))  # more than 24 bits a latent are never taken
        full = stack.bits
        self._infer(stack, self._pixels(levels))
        return int((full - stack.bits) / 32) + SPARE

    @threads_of_an_operation(1)
    def push(self, stack: Stack, levels: Integers) -> list[float]:
        """Put an image; returns its row of each part of an `Account`, one after the other."""
        z, ks, coded, wanted, rates = self._infer(stack, self._pixels(levels))
        likelihood: Any = self.model.likelihood(z)
        taken, before = list(coded), stack.bits
        stack.put(pixels_under(likelihood), levels)
        coded.append(stack.bits - before)
        wanted.append(pixel_bits(likelihood, levels))
        for layer in reversed(range(len(ks))):
            before = stack.bits
            stack.put(self.grid.prior(self.sizes[layer]), ks[layer])
            coded[layer] += stack.bits - before
        return [*coded, *wanted, *rates, *(-bits for bits in taken)]

    @threads_of_an_operation(1)
    def pop(self, stack: Stack) -> Images:
        """Take the image that was put last."""
        z: list[Tensor] = []
        ks = []
        for size, shape in zip(self.sizes, self.model.latent_shapes, strict=True):
            p: Any = self.model.prior(z)
            ks.append(stack.take(self.grid.prior(size)))
            z.append(self.grid.value(p, ks[-1], shape))
        likelihood: Any = self.model.likelihood(z)
        levels = stack.take(pixels_under(likelihood))
        x = self._pixels(levels)
        features = self.model.features(x)
        for layer in reversed(range(len(ks))):
            q, p = self._conditionals(x, z[:layer], features)
            self.grid.put(stack, q, p, ks[layer])
        return (levels * (255 if self.binary else 1)).astype(np.uint8).reshape(self.model.image_shape)

    def _infer(
        self, stack: Stack, x: Tensor
    ) -> tuple[list[Tensor], list[Integers], list[float], list[float], list[float]]:
        """Take the latents of an image, top layer first."""
        z: list[Tensor] = []
        ks, coded, wanted, rates = [], [], [], []
        features = self.model.features(x)
        for shape in self.model.latent_shapes:
            q, p = self._conditionals(x, z, features)
            before = stack.bits
            k = self.grid.take(stack, q, p)
            ks.append(k)
            coded.append(stack.bits - before)
            wanted.append(self.grid.log_ratio(q, p, k))
            rates.append(q.rate(p, torch.zeros(1, *shape, dtype=torch.float64))[1].item() / math.log(2))
            z.append(self.grid.value(p, k, shape))
        return z, ks, coded, wanted, rates

    def _conditionals(self, x: Tensor, z_above: list[Tensor], features: Any) -> tuple[Any, Any]:
        return self.model.posterior(x, z_above, features), self.model.prior(z_above)

    def _pixels(self, levels: Integers) -> Tensor:
        """The image as the network sees it, ``(1, C, H, W)``."""
        x = torch.from_numpy(levels.astype(float)) / (1 if self.binary else 255)
        return x.view(1, *self.model.image_shape)


def _standard_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean over the rows; of a single one null."""
    if len(values) < 2:
        return np.full(values.shape[1], math.nan)
    return values.std(0, ddof=1) / math.sqrt(len(values))


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _shapes(shapes: Iterable[Iterable[int]]) -> str:
    return ", ".join(map(_shape, shapes))
