"""`mnist-mini`: 4,000 images of MNIST that come with this package, so that a first run needs no download.

They lie in ``mnist_mini.npy``, a bit a pixel; ``mnist_mini.md`` says whose they are, and `make_mini` makes them again.
"""

from __future__ import annotations

import hashlib
import math
from io import BytesIO
from pathlib import Path

import numpy as np

from hvae_core.data.dataset import GREY, Array
from hvae_core.data.download import reading
from hvae_core.errors import InputError

FILE = Path(__file__).with_name("mnist_mini.npy")
SHA256 = "1b3ec411c9c7b00f88747971dcb57a4c2e6a9a29519fcb655a7b9d58a11de1f6"
CLASSES, TRAIN, TEST = 10, 300, 100  # training and test images of each class
NOTES = (f"the first {TRAIN} training and {TEST} test images of each digit", "official split")


def images(path: Path = FILE) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Training images and labels, and test images and labels: uint8 (N, 1, 28, 28), 0 or 255, and int64 (N,).

    In either part the digits 0, 1, ..., 9 take turns, so that the first few images hold all classes.

    Raises:
        InputError: if the file is missing or damaged.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = images()
        >>> x_train.shape, x_test.shape, y_test[:12].tolist()
        ((3000, 1, 28, 28), (1000, 1, 28, 28), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
    """
    with reading(path):
        raw = path.read_bytes()
    if (actual := hashlib.sha256(raw).hexdigest()) != SHA256:
        raise InputError(
            f"{path} has SHA-256 {actual}, expected is {SHA256}: take {FILE.name} from the repository again"
        )
    bits = np.load(BytesIO(raw), allow_pickle=False)
    x = np.unpackbits(bits, axis=1).reshape(-1, *GREY) * np.uint8(255)
    y = np.arange(len(x)) % CLASSES
    train = CLASSES * TRAIN
    return (x[:train], y[:train]), (x[train:], y[train:])


def packed(x_train: Array, y_train: Array, x_test: Array, y_test: Array) -> bytes:
    """The stored file, of all of MNIST in its official order: uint8 (N, 1, 28, 28), 0 or 255, and labels (N,).

    The file is an array of bytes (4000, 98): for each image 784 bits, row by row from the top left, 1 for ink.

    Example:
        >>> x, y = np.zeros((4000, 1, 28, 28), np.uint8), np.arange(4000) % 10
        >>> len(packed(x, y, x, y)) - 128  # 128 bytes say what kind of array it is
        392000
    """
    chosen = [x_train[_turns(y_train, TRAIN)], x_test[_turns(y_test, TEST)]]
    file = BytesIO()
    np.save(file, np.packbits(np.concatenate(chosen).reshape(-1, math.prod(GREY)) > 0, axis=1))
    return file.getvalue()


def _turns(y: Array, count: int) -> Array:
    """Places of the first ``count`` images of each class, the classes taking turns."""
    return np.stack([np.flatnonzero(y == label)[:count] for label in range(CLASSES)], axis=1).ravel()
