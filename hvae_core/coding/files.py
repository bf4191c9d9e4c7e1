"""Codes as files, and images that are read and written one after the other.

A file is a line that names its kind, the length of a header and the header as JSON, the words of the stack, and a
checksum of all that. So what is cut or altered is known before anything is decoded.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from hvae_core.coding.bitsback import Code, Images
from hvae_core.coding.lossy import Streams
from hvae_core.coding.symbols import Grid
from hvae_core.data.download import reading
from hvae_core.errors import InputError
from hvae_core.files import whole_file

KIND = b"hvae-companion bits 1\n"
LOSSY = b"hvae-companion lossy bits 1\n"
LENGTH = struct.Struct("<I")
NAMES = ("x_test", "x")
"""Of the array of images in an .npz file; with others it may hold but one."""


def write_code(path: str | Path, code: Code, **about: Any) -> None:
    """A code as a file, whole or not at all; ``about`` is kept in it, such as the name of the run.

    Raises:
        InputError: when it cannot be written.
    """
    header = {
        "images": code.images,
        "image_shape": code.image_shape,
        "latent_shapes": code.latent_shapes,
        "batch_shape": [1, *code.image_shape],
        "weights": code.weights,
        "grid": code.grid._asdict(),
        "initial": code.initial,
        "about": about,
    }
    text = json.dumps(header).encode()
    content = KIND + LENGTH.pack(len(text)) + text + code.words.astype("<u4").tobytes()
    with whole_file(Path(path)) as part:
        part.write_bytes(content + hashlib.sha256(content).digest())


def read_code(path: str | Path) -> tuple[Code, dict[str, Any]]:
    """A code from a file, and what was kept with it.

    Raises:
        InputError: when it is no such file, cut or altered.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not content.startswith(KIND):
        raise InputError(f"{path} is no file that ./run_all.sh code wrote")
    content, checksum = content[:-32], content[-32:]
    damaged = InputError(f"{path} is damaged: it was cut or altered")
    if hashlib.sha256(content).digest() != checksum:
        raise damaged
    try:
        (length,) = LENGTH.unpack_from(content, len(KIND))
        start = len(KIND) + LENGTH.size
        header = json.loads(content[start : start + length])
        shape, latents = tuple(map(int, header["image_shape"])), (tuple(map(int, s)) for s in header["latent_shapes"])
        grid = Grid(**{name: float(value) for name, value in header["grid"].items()})
        images, initial, weights = int(header["images"]), int(header["initial"]), str(header["weights"])
        words = np.frombuffer(content[start + length :], "<u4").astype(np.uint32)
        if images < 1 or not 0 <= initial <= len(words) + 1 or not (0 < grid.width <= grid.reach <= 2**10):
            raise damaged
        return Code(words, images, shape, tuple(latents), weights, grid, initial), dict(header["about"])
    except (struct.error, LookupError, ValueError, TypeError, AttributeError, OverflowError):
        raise damaged from None


def is_lossy(path: str | Path) -> bool:
    """Whether a file begins as one that `write_streams` wrote."""
    try:
        with open(path, "rb") as file:
            return file.read(len(LOSSY)) == LOSSY
    except OSError:  # reading it will tell
        return False


def write_streams(path: str | Path, streams: Streams, weights: str, **about: Any) -> list[int]:
    """Lossy streams as a file, whole or not at all, the top layer's first.

    Returns:
        Where the file may be cut: its length after each stream. Without what follows it is a preview.

    Raises:
        InputError: when it cannot be written.
    """
    header = json.dumps({"images": streams.images, "weights": weights, "about": about}).encode()
    content, ends = LOSSY + _sealed(header), []
    for words in streams.words:
        content += _sealed(words.astype("<u4").tobytes())
        ends.append(len(content))
    with whole_file(Path(path)) as part:
        part.write_bytes(content)
    return ends


def read_streams(path: str | Path) -> tuple[Streams, str, dict[str, Any]]:
    """The lossy streams that a file still has, the checksum of their model, and what was kept with them.

    Raises:
        InputError: when it is no such file, altered, or cut within a stream.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    damaged = InputError(f"{path} is damaged: it was altered, or cut elsewhere than between two streams")
    parts, place = [], len(LOSSY)
    while place < len(content):
        start = place + LENGTH.size
        end = start + int.from_bytes(content[place:start], "little")
        part, place = content[start:end], end + 32
        if len(content) < place or hashlib.sha256(part).digest() != content[end:place]:
            raise damaged
        parts.append(part)
    if not content.startswith(LOSSY) or len(parts) < 2:
        raise damaged
    try:
        header = json.loads(parts[0])
        words = tuple(np.frombuffer(part, "<u4").astype(np.uint32) for part in parts[1:])
        return Streams(words, int(header["images"])), str(header["weights"]), dict(header["about"])
    except (LookupError, ValueError, TypeError):
        raise damaged from None


def _sealed(part: bytes) -> bytes:
    """A part with its length before and its checksum behind."""
    return LENGTH.pack(len(part)) + part + hashlib.sha256(part).digest()


@dataclass(frozen=True)
class ImageFile:
    """The images of an .npz file, of which one at a time is in memory.

    Attributes:
        path: of the file.
        name: of the array in it.
        shape: of the array, ``(N, H, W)`` or ``(N, C, H, W)``.
    """

    path: Path
    name: str
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Images]:
        """The images, ``(C, H, W)`` uint8.

        Raises:
            InputError: when the file cannot be read to its end.
        """
        shape = self.shape[1:] if len(self.shape) == 4 else (1, *self.shape[1:])
        size = int(np.prod(shape))
        with reading(self.path), zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as file:
            _header(file)
            for number in range(self.shape[0]):
                pixels = file.read(size)
                if len(pixels) < size:
                    raise InputError(f"{self.path}: {self.name} ends at image {number} of {self.shape[0]}")
                yield np.frombuffer(pixels, np.uint8).reshape(shape)


def images_in(path: str | Path) -> ImageFile:
    """The images of an .npz file: the array ``x_test``, or else ``x``, or else its only one.

    Raises:
        InputError: for what is no such file or holds no such images.
    """
    path = Path(path)
    if not zipfile.is_zipfile(path):  # of a file that is missing, too
        raise InputError(f"{path} is {'no .npz file' if path.exists() else 'missing'}; give what numpy.savez writes")
    with reading(path), zipfile.ZipFile(path) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        name = next((name for name in NAMES if name in held), held[0] if len(held) == 1 else None)
        if name is None:
            raise InputError(f"{path} holds {', '.join(held) or 'nothing'}; needed is x_test, x or a single array")
        with archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = _header(file)
    if dtype != np.uint8 or fortran or len(shape) not in (3, 4):
        order = " in Fortran's order" if fortran else ""
        raise InputError(f"{path}: {name} is {dtype} {shape}{order}; allowed is uint8 (N, H, W) or (N, C, H, W)")
    return ImageFile(path, name, shape)


def write_images(path: str | Path, name: str, shape: tuple[int, ...], images: Iterable[tuple[int, Images]]) -> None:
    """An array of images as an .npz file, whole or not at all, from images with their numbers in any order.

    Raises:
        InputError: when it cannot be written, or by ``images``.
    """
    path = Path(path)
    with whole_file(path) as part, tempfile.TemporaryFile(dir=path.parent) as raw:
        for number, image in images:
            raw.seek(number * image.size)
            raw.write(image.tobytes())
        raw.seek(0)
        with (
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(f"{name}.npy", "w", force_zip64=True) as file,
        ):
            described = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(file, described)
            while block := raw.read(1 << 20):
                file.write(block)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
