"""What general compressors make of the same images: files to set beside those of a model."""

import bz2
import gzip
import lzma
import math
import shutil
import subprocess
from io import BytesIO
from typing import Any

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


def lossy_pictures(images: NDArray[np.uint8]) -> list[tuple[str, float, float]]:
    """What JPEG, JPEG 2000 and WebP make of all images side by side in one picture, from coarse to fine.

    Returns:
        Name, bits a pixel and colour, and PSNR in dB of all pixels together.
    """
    picture, found = side_by_side(images), []
    settings: dict[str, list[dict[str, Any]]] = {
        "JPEG": [{"quality": quality} for quality in (1, 3, 5, 10, 20, 40, 60)],
        "JPEG2000": [
            {"quality_mode": "rates", "quality_layers": [ratio]} for ratio in (200, 100, 60, 40, 25, 15, 10, 6)
        ],
        "WebP": [{"quality": quality, "method": 6} for quality in (0, 5, 20, 40, 60, 80)],
    }
    for kind, options in settings.items():
        shown = picture.convert("RGB") if kind == "WebP" else picture
        for option in options:
            data = _encoded(shown, kind, **option)
            back = np.asarray(Image.open(BytesIO(data)).convert(picture.mode), float)
            error = np.square(back - np.asarray(picture, float)).mean() / 255**2
            found.append((kind, 8 * len(data) / images.size, -10 * math.log10(max(error, 1e-12))))
    return found


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
