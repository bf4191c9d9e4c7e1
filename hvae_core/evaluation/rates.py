"""Distortion and layer-wise rates of a trained model, averaged over images (Paper A, Eqs. 6-8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from hvae_core.data.dataset import pixels
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.randomness import Noise, Purpose
from hvae_core.terms import layer_numbers

if TYPE_CHECKING:
    from hvae_core.training.trainer import Trained

BATCH = 1000


@torch.no_grad()
def mean_terms(model: HierarchicalVAE, x: Tensor, seed: int) -> Tensor:
    """What `average_terms` gives, as a tensor: the distortion and the rates, top layer first, ``(1 + L,)`` float64."""
    source = Noise(seed, Purpose.EVALUATION, device=x.device)
    sums = torch.zeros(1 + model.layers, dtype=torch.float64, device=x.device)
    for images in x.split(BATCH):
        terms = model(pixels(images), model.noise(len(images), source))
        sums = sums + torch.cat([terms.distortion.double().sum().unsqueeze(0), terms.rates.double().sum(0)])
    return sums / len(x)


def average_terms(model: HierarchicalVAE, x: Tensor, seed: int) -> dict[str, float]:
    """Mean terms over images, in nats per image, with one posterior sample an image.

    Arguments:
        x: ``(images, C, H, W)`` uint8.
        seed: of the member; the noise is a function of it, so that members are compared on equal noise.

    Returns:
        ``distortion``, ``rate_L`` ... ``rate_1``, their sum ``rate``, and ``elbo`` = -(distortion + rate).
    """
    return named(mean_terms(model, x, seed))


def named(means: Tensor) -> dict[str, float]:
    """The columns of `average_terms`, of mean distortion and rates, ``(1 + L,)``."""
    distortion, *rates = means.tolist()
    return {
        "distortion": distortion,
        **{f"rate_{n}": value for n, value in zip(layer_numbers(len(rates)), rates, strict=True)},
        "rate": sum(rates),
        "elbo": -(distortion + sum(rates)),
    }


def terms_table(trained: Trained, x: Tensor) -> pd.DataFrame:
    """`average_terms` of models that were trained together: one row a member, its betas first.

    Arguments:
        x: ``(images, C, H, W)`` uint8, on the device of the models.
    """
    rows = [
        {
            **{f"beta_{n}": beta for n, beta in zip(layer_numbers(len(member.betas)), member.betas, strict=True)},
            **average_terms(trained.member(i), x, member.seed),
        }
        for i, member in enumerate(trained.members)
    ]
    return pd.DataFrame(rows)
