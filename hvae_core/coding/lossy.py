"""Lossy coding by one trained model: each layer has a stream of bits of its own, and a dial for its length.

A latent, in units of its prior, becomes a quantile of N(0, 1) that has few binary digits and lies close to the
posterior's mean: among all it is the one that minimises

    (z - mean)^2 / (2 std^2) + dial * digits.

Where the posterior is wide, few digits do. z_1 is coded given what z_2 became, so it mends what z_2 lost. The stream of
z_2 alone is a preview: z_1 is the mode of its prior then.

Source: Yang, Bamler and Mandt, Variational Bayesian quantization, ICML 2020, for one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_core.coding.stack import Integers, Words, library
from hvae_core.coding.symbols import Floats, finite
from hvae_core.data.dataset import pixels, to_uint8
from hvae_core.errors import InputError
from hvae_core.models.distributions import Gaussian, Product
from hvae_core.models.hierarchy import HierarchicalVAE

DIGITS = 12
"""The most binary digits of a quantile."""
PRIOR = 2.0
"""Images that what is known of a whole layer weighs as much as, for each of its latents."""
BATCH = 100


class Streams(NamedTuple):
    """Images as a stream of bits a layer.

    Attributes:
        words: of each layer, the top layer first, ``(n,)`` uint32; those at the end may be left out.
        images: how many.
    """

    words: tuple[Words, ...]
    images: int

    @property
    def bits(self) -> list[int]:
        """Length of each stream, the top layer's first."""
        return [32 * len(words) for words in self.words]


@torch.inference_mode()
def encode_lossy(model: HierarchicalVAE, images: Tensor, dials: Sequence[float]) -> Streams:
    """Images as a stream of bits a layer, from which `decode_lossy` makes images like them.

    Arguments:
        model: a hierarchy of Gaussians.
        images: ``(N, C, H, W)`` uint8.
        dials: of each layer, top layer first: what a binary digit costs, in nats. Higher ones make shorter files.

    Raises:
        InputError: for another number of dials, or one that is not above 0; when the model gives no numbers.

    Example:
        >>> from hvae_core.models import build
        >>> model, images = build("ghvae", (1, 28, 28)), torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
        >>> streams = encode_lossy(model, images, [0.1, 0.1])
        >>> decode_lossy(model, streams).shape, decode_lossy(model, streams._replace(words=streams.words[:1])).shape
        ((3, 1, 28, 28), (3, 1, 28, 28))
    """
    if len(dials) != model.layers or not all(dial > 0 for dial in dials):
        raise InputError(f"dials {list(dials)}: needed is one above 0 for each of the {model.layers} layers")
    writers = [_Stream(int(np.prod(shape))) for shape in model.latent_shapes]
    for batch in images.split(BATCH):
        x = pixels(batch)
        features, z = model.features(x), list[Tensor]()
        for writer, dial in zip(writers, dials, strict=True):
            q, p = _gaussians(model.posterior(x, z, features), model.prior(z))
            relative = (q.mean - p.mean) / p.std, q.std / p.std
            mean, std = (finite(values.double()).reshape(len(batch), -1) for values in relative)
            digits, order = quantised(mean, std, dial)
            for row in zip(digits, order, strict=True):
                writer.put(*row)
            z.append(_latents(p, digits, order, q.mean.shape))
    return Streams(tuple(writer.words() for writer in writers), len(images))


@torch.inference_mode()
def decode_lossy(model: HierarchicalVAE, streams: Streams) -> NDArray[np.uint8]:
    """Images ``(N, C, H, W)`` uint8 from the streams that there are; of other layers the mode of the prior is taken.

    Raises:
        InputError: for more streams than layers, or none.
    """
    if not 1 <= len(streams.words) <= model.layers:
        raise InputError(f"{len(streams.words)} streams: needed are 1 to {model.layers}, the top layer's first")
    readers = [
        _Stream(int(np.prod(shape)), words) for shape, words in zip(model.latent_shapes, streams.words, strict=False)
    ]
    made = []
    for size in _batches(streams.images):
        z: list[Tensor] = []
        for layer, shape in enumerate(model.latent_shapes):
            p: Any = model.prior(z)
            if layer >= len(readers):
                z.append(p.mode.expand(size, *shape))
                continue
            rows = [readers[layer].take() for _ in range(size)]
            digits, order = (np.stack(part) for part in zip(*rows, strict=True))
            z.append(_latents(p, digits, order, torch.Size((size, *shape))))
        made.append(to_uint8(model.likelihood(z).mode))
    return np.concatenate(made)


def quantised(mean: Floats, std: Floats, dial: float) -> tuple[Integers, Integers]:
    """The quantiles of N(0, 1) that stand for latents, in units of their priors.

    Returns:
        ``digits`` n and ``order`` i of each, so that the quantile is (2 i + 1) / 2^n.

    Example:
        >>> quantised(np.array([0.0, 0.7]), np.array([1.0, 0.01]), 0.1)[0].tolist()
        [1, 7]
    """
    from scipy.special import ndtr

    below = ndtr(mean)
    best = np.full(mean.shape, np.inf)
    digits, order = np.zeros((2, *mean.shape), np.int64)
    for n in range(1, DIGITS + 1):
        # The interval in which the mean lies has one such number; to any other there is one of fewer digits on the way.
        i = np.minimum(below * 2 ** (n - 1), 2 ** (n - 1) - 1).astype(np.int64)
        cost = (latent(n, i) - mean) ** 2 / (2 * std**2) + dial * n
        better = cost < best
        best[better], digits[better], order[better] = cost[better], n, i[better]
    return digits, order


def latent(digits: Any, order: Any) -> Floats:
    """The number whose quantile of N(0, 1) is (2 order + 1) / 2^digits."""
    from scipy.special import ndtri

    return ndtri((2.0 * order + 1) * np.exp2(-np.asarray(digits, float)))


class _Stream:
    """A layer's bits, an image after the other; how many digits each latent needs is learned on the way.

    Reader and writer count alike, so that nothing else has to be sent.
    """

    def __init__(self, latents: int, words: Words | None = None) -> None:
        queue = library().queue
        self._coder = queue.RangeEncoder() if words is None else queue.RangeDecoder(words)
        self._counts = np.zeros((latents, DIGITS))

    def put(self, digits: Integers, order: Integers) -> None:
        self._coder.encode((digits - 1).astype(np.int32), self._model(), self._probabilities())
        for n, rows in self._groups(digits):
            self._coder.encode(order[rows].astype(np.int32), library().model.Uniform(2 ** (n - 1)))
        self._count(digits)

    def take(self) -> tuple[Integers, Integers]:
        digits = self._coder.decode(self._model(), self._probabilities()).astype(np.int64) + 1
        order = np.zeros_like(digits)
        for n, rows in self._groups(digits):
            order[rows] = self._coder.decode(library().model.Uniform(2 ** (n - 1)), len(rows))
        self._count(digits)
        return digits, order

    def words(self) -> Words:
        return self._coder.get_compressed()

    def _model(self) -> Any:
        return library().model.Categorical(perfect=False)

    def _probabilities(self) -> Floats:
        """Of each number of digits, ``(latents, DIGITS)``: from all latents of the layer first, then from its own."""
        whole = 1 + self._counts.sum(0)
        expected = self._counts + PRIOR * whole / whole.sum()
        return expected / expected.sum(1, keepdims=True)

    def _count(self, digits: Integers) -> None:
        self._counts[np.arange(len(digits)), digits - 1] += 1

    @staticmethod
    def _groups(digits: Integers) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """The latents with n digits, for each n > 1: with a single one there is nothing left to say."""
        for n in range(2, DIGITS + 1):
            (rows,) = np.nonzero(digits == n)
            if len(rows):
                yield n, rows


def _latents(p: Any, digits: Integers, order: Integers, shape: torch.Size) -> Tensor:
    u = torch.from_numpy(latent(digits, order)).to(p.mean.dtype).view(shape)
    return p.mean + p.std * u


def _gaussians(q: Any, p: Any) -> tuple[Any, Any]:
    if not isinstance(q, Gaussian | Product) or not isinstance(p, Gaussian):
        raise InputError(f"lossy coding: a layer of this model is a {type(q).__name__}; allowed are Gaussians")
    return q, p


def _batches(count: int) -> Iterator[int]:
    yield from (min(BATCH, count - start) for start in range(0, count, BATCH))
