"""A stack of bits on which numbers are put, and from which they are taken, each under a distribution of its own.

To put a symbol of probability P makes the stack longer by -log2 P bits; to take one makes it shorter by as much, and
draws it from its distribution, if the bits that lie there are random. Taking undoes putting and the other way round,
bit for bit.

Source: asymmetric numeral systems (Duda 2013), by the library constriction (Bamler 2022). Its probabilities have 24
bits, and no symbol of a range has less than 2^-24.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvae_core.errors import InputError

PRECISION = 24
"""Bits of a probability; the most that one symbol can cost."""
Words = NDArray[np.uint32]
Integers = NDArray[np.int64]


def library() -> Any:
    """constriction, imported when it is first needed.

    Raises:
        InputError: where it is not installed.
    """
    try:
        import constriction
    except ImportError:
        raise InputError("coding needs the package constriction, which has no wheel for this machine") from None
    return constriction.stream


class Symbols(NamedTuple):
    """Independent whole numbers and their distributions.

    Attributes:
        model: of constriction.
        parameters: of each number, ``(size,)`` each; none where all have one distribution.
        size: how many numbers.
    """

    model: Any
    parameters: tuple[NDArray[np.float64], ...]
    size: int


class Stack:
    """A stack of bits that begins with the given words, whatever they are.

    Arguments:
        words: ``(n,)`` uint32.
        state: whether they are what `words` gave; otherwise they are bits of any kind.

    Example:
        >>> stack = Stack(np.arange(1, 20, dtype=np.uint32))
        >>> coins = Symbols(library().model.Bernoulli(perfect=False), (np.full(64, 0.5),), 64)
        >>> before = stack.bits
        >>> taken = stack.take(coins)
        >>> round(before - stack.bits)
        64
        >>> stack.put(coins, taken)
        >>> stack.bits == before
        True
    """

    def __init__(self, words: Words, state: bool = False) -> None:
        # Sealed, any words can begin a stack: without, the last must not be 0.
        self._coder = library().stack.AnsCoder(words, seal=not state)

    @property
    def bits(self) -> float:
        """How many bits lie there: the logarithm of the number of stacks as high as this."""
        words, state = self._coder.pos()
        return 32.0 * words + (math.log2(state) if state else 0.0)

    def take(self, symbols: Symbols) -> Integers:
        """Numbers from the top of the stack, ``(size,)``. From an empty stack come the lowest ones."""
        given = symbols.parameters or (symbols.size,)
        return self._coder.decode(symbols.model, *given).astype(np.int64)

    def put(self, symbols: Symbols, values: Integers) -> None:
        """Numbers on top of the stack, so that `take` gives them in their order."""
        self._coder.encode_reverse(values.astype(np.int32), symbols.model, *symbols.parameters)

    def mix(self, pad: NDArray[np.uint16], back: bool = False) -> None:
        """Add a pad to the bits on top, 16 at a time, or with ``back`` take it off again; the length stays.

        What is put is random only if it is what the model expects. With a pad of random numbers what lies on top is
        random in any case, and so is what is taken next: a sample of its distribution.
        """
        symbols = Symbols(library().model.Uniform(1 << 16), (), len(pad))
        taken = self.take(symbols)
        self.put(symbols, (taken - pad if back else taken + pad) % (1 << 16))

    def words(self) -> Words:
        """The whole stack, ``(n,)`` uint32, the top last."""
        return self._coder.get_compressed()

    def initial(self) -> Words | None:
        """The words that the stack began with, if it is as it began; otherwise others, or None."""
        try:
            return self._coder.clone().get_compressed(unseal=True)
        except Exception:  # it is no stack that began with words; constriction names no kind of its own
            return None
