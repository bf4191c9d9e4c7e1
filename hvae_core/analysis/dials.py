"""Lossy files of one trained model by the dials of its layers: how good are they, and how are their bits spread?"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from torch import Tensor

from hvae_core.coding.compressors import lossy_pictures
from hvae_core.coding.lossy import decode_lossy, encode_lossy
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.progress import track
from hvae_core.terms import layer_numbers

DIALS = (0.03, 0.1, 0.3, 0.6, 1.0, 2.0, 5.0)


def lossy_files(model: HierarchicalVAE, images: Tensor, dials: Sequence[float] = DIALS) -> pd.DataFrame:
    """Files of images by every pair (triple, …) of dials: a row each.

    Arguments:
        images: ``(N, C, H, W)`` uint8.

    Returns:
        The dials ``dial_2``, ``dial_1``; the bits a pixel and colour ``bits_2``, ``bits_1`` and their sum ``bits``;
        ``psnr`` in dB of all pixels together, and ``preview`` of the top layer's stream alone.
    """
    numbers, x = list(layer_numbers(model.layers)), images.cpu().numpy()
    rows = []
    with track("lossy files", len(dials) ** len(numbers), "files") as progress:
        for given in product(dials, repeat=len(numbers)):
            streams = encode_lossy(model, images, given)
            row = {f"dial_{n}": dial for n, dial in zip(numbers, given, strict=True)}
            row |= {f"bits_{n}": bits / x.size for n, bits in zip(numbers, streams.bits, strict=True)}
            row |= {"bits": sum(streams.bits) / x.size, "psnr": _psnr(decode_lossy(model, streams), x)}
            rows.append(row | {"preview": _psnr(decode_lossy(model, streams._replace(words=streams.words[:1])), x)})
            progress.update(len(rows))
    return pd.DataFrame(rows)


def others_files(images: Tensor) -> pd.DataFrame:
    """The same of JPEG, JPEG 2000 and WebP: ``name``, ``bits`` a pixel and colour, ``psnr``."""
    return pd.DataFrame(lossy_pictures(images.cpu().numpy()), columns=["name", "bits", "psnr"])


def _psnr(made: np.ndarray, images: np.ndarray) -> float:
    error = np.square((made.astype(float) - images) / 255).mean()
    return float(-10 * np.log10(max(error, 1e-12)))
