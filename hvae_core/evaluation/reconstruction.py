"""Data reconstruction (Paper A, Section 5.4): x -> z_L -> ... -> z_1 -> x' by modes, and its PSNR."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvae_core.data.dataset import pixels, to_uint8
from hvae_core.evaluation.paired import OF_IMAGES
from hvae_core.evaluation.rates import BATCH
from hvae_core.models.hierarchy import HierarchicalVAE


@torch.no_grad()
def reconstructions(model: HierarchicalVAE, x: Tensor) -> np.ndarray:
    """Reconstructions by modes of uint8 images, as uint8, ``(images, C, H, W)``."""
    return to_uint8(model.reconstruct(pixels(x)))


def psnr(mean_squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for data of range 1.

    Example:
        >>> psnr(torch.tensor(0.01)).item()
        20.0
    """
    return -10 * torch.log10(mean_squared_error)


@torch.no_grad()
def errors(model: HierarchicalVAE, x: Tensor) -> Tensor:
    """Mean squared errors of the reconstructions by modes of uint8 images, ``(images,)``."""
    return torch.cat(
        [(model.reconstruct(images) - images).square().flatten(1).mean(1) for images in map(pixels, x.split(BATCH))]
    )


def scores(errors: Tensor) -> dict[str, float]:
    """``psnr``, the mean of the images' PSNRs, and ``psnr_pooled``, the PSNR of the pooled error; both in dB.

    The paper describes the first (E_x[log D] up to shift and scale); its authors' code computes the second.

    Arguments:
        errors: mean squared errors of images, ``(images,)``.
    """
    return {"psnr": psnr(errors).mean().item(), "psnr_pooled": psnr(errors.mean()).item()}


def measured(errors: Tensor) -> dict[str, Any]:
    """`scores`, and each image's PSNR to compare models by, which half precision gives to 0.01 dB."""
    return {**scores(errors), OF_IMAGES: {"psnr": psnr(errors).cpu().numpy().astype(np.float16)}}
