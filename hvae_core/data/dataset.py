"""A data set as the rest sees it: uint8 images and labels, in whole, on one device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_core.errors import InputError

Array = NDArray[Any]
GREY, COLOUR = (1, 28, 28), (3, 32, 32)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, in whole, on one device.

    x_train, x_test: uint8 (N, C, H, W), 0 to 255; (C, H, W) is (1, 28, 28) or (3, 32, 32).
    y_train, y_test: int64 (N,), classes 0 to M-1, or None without labels.
    class_names: M names, () without labels.
    notes: what was done to the images and which split this is, a phrase each.
    """

    name: str
    x_train: Tensor
    y_train: Tensor | None
    x_test: Tensor
    y_test: Tensor | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.x_train.shape[1], self.x_train.shape[2], self.x_train.shape[3])

    @property
    def num_classes(self) -> int:
        """Number of classes M; 0 without labels."""
        return len(self.class_names)

    @property
    def binary(self) -> bool:
        """True if every pixel is 0 or 255, as the Bernoulli likelihood of 1x28x28 wants it."""
        return self.image_shape == GREY

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of images, labels and class names; the name of the data set does not enter."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for field in ("x_train", "y_train", "x_test", "y_test"):
            values: Tensor | None = getattr(self, field)
            digest.update(f"{field}{None if values is None else tuple(values.shape)}".encode())
            if values is not None:
                digest.update(values.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set on `device`."""
        y_train, y_test = (None if y is None else y.to(device) for y in (self.y_train, self.y_test))
        return replace(
            self, x_train=self.x_train.to(device), y_train=y_train, x_test=self.x_test.to(device), y_test=y_test
        )

    def first(self, train: int | None = None, test: int | None = None) -> Dataset:
        """The first `train` training and `test` test images (None: all); the classes stay the same.

        Raises InputError for less than 1 or more than there are.
        """
        kept, notes = {}, list(self.notes)
        for split, wanted in (("train", train), ("test", test)):
            x, y = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            if wanted is not None and not 1 <= wanted <= len(x):
                raise InputError(f"{wanted} {split} images asked for; {self.name} allows 1 to {len(x)}")
            if wanted is not None and wanted < len(x):
                notes.append(f"only the first {wanted:,} of {len(x):,} {split} images")
            kept[f"x_{split}"], kept[f"y_{split}"] = x[:wanted], None if y is None else y[:wanted]
        return replace(self, notes=tuple(notes), **kept)


def pixels(x: Tensor) -> Tensor:
    """uint8 levels 0 to 255 as float32 within [0, 1]; any shape. Floats are what a model sees already.

    Returned as they are.

    >>> pixels(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return x if x.is_floating_point() else x.to(torch.float32) / 255


def to_uint8(x: Tensor) -> np.ndarray:
    """Images in [0, 1] (what lies outside is clipped) as uint8 arrays."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
