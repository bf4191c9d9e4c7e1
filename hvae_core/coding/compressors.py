"""What general compressors make of the same images: files to set beside those of a model."""

import bz2
import gzip
import lzma
import math
import shutil
import subprocess
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def compressed_bits(images: NDArray[np.uint8]) -> dict[str, float]:
    """Bits a pixel and colour of all images in one file, by compressor.

    Those of bytes get the images one after the other, eight pixels of 0 and 255 in a byte; those of pictures get them
    side by side in one. JBIG is there where Debian's jbigkit-bin is installed, and for black and white alone.

    Arguments:
        images: ``(N, C, H, W)``; of one colour 0 and 255.

    Example:
        >>> found = compressed_bits(np.zeros((99, 1, 28, 28), np.uint8))
        >>> sorted(found)[-5:], max(found.values()) < 0.1
        (['PNG', 'WebP', 'bz2', 'gzip', 'xz'], True)
    """
    binary = images.shape[1] == 1
    data = np.packbits(images > 0).tobytes() if binary else images.tobytes()
    sizes = {
        "gzip": len(gzip.compress(data, 9)),
        "bz2": len(bz2.compress(data, 9)),
        "xz": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }
    picture = side_by_side(images)
    if binary:
        picture = picture.convert("1", dither=Image.Dither.NONE)
    sizes["PNG"] = _size(picture, "PNG", optimize=True)
    sizes["WebP"] = _size(picture.convert("RGB"), "WebP", lossless=True, quality=100, method=6)
    if binary and (program := shutil.which("pbmtojbg")):
        sizes["JBIG"] = len(
            subprocess.run([program], input=_encoded(picture, "PPM"), capture_output=True, check=True).stdout
        )
    return {name: 8 * size / images.size for name, size in sizes.items()}


def side_by_side(images: NDArray[np.uint8]) -> Image.Image:
    """Images ``(N, C, H, W)`` as one picture, about as wide as it is high; what is left over is black."""
    count, colours, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    filled = np.zeros((rows * columns, colours, height, width), np.uint8)
    filled[:count] = images
    grid = filled.reshape(rows, columns, colours, height, width).transpose(0, 3, 1, 4, 2)
    return Image.fromarray(grid.reshape(rows * height, columns * width, colours).squeeze())


def _size(picture: Image.Image, kind: str, **options: object) -> int:
    return len(_encoded(picture, kind, **options))


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
