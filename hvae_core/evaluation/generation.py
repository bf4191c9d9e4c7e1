"""Generative modelling (Paper A, Section 5.5): Inception Score = diversity x sharpness."""

import torch
from torch import Tensor

from hvae_core.evaluation.rates import BATCH
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.randomness import Noise, Purpose

SPLITS = 5


@torch.no_grad()
def samples(model: HierarchicalVAE, count: int, seed: int, device: str | torch.device = "cpu") -> Tensor:
    """Images in [0, 1], ``(count, C, H, W)``: the means of p(x | z_1), with z_2 and z_1 sampled from the priors."""
    source = Noise(seed, Purpose.GENERATION, device=device)
    sizes = [min(BATCH, count - start) for start in range(0, count, BATCH)]
    return torch.cat([model.generate(model.noise(size, source)) for size in sizes]).clamp(0, 1)


def inception_score(probabilities: Tensor, splits: int = SPLITS) -> dict[str, float]:
    r"""The Inception Score and its two factors (Paper A, Eq. 12), over equal splits of the samples.

    .. math:: IS = e^{H[p(y)]} \cdot e^{-E_x H[p(y|x)]}

    Arguments:
        probabilities: ``(samples, classes)``, p(y | x) of each sample by the classifier.

    Returns:
        ``inception_score`` and ``inception_score_std`` (over splits, divided by their number), and the means over
        splits of ``diversity`` exp(H[p(y)]) and ``sharpness`` exp(-E H[p(y|x)]). A mean of products differs from
        the product of means, so the score is their product up to the spread over splits.

    Example:
        >>> inception_score(torch.eye(10).repeat(5, 1))["inception_score"]
        10.0
    """
    diversity, sharpness = [], []
    for part in probabilities.double().tensor_split(splits):
        diversity.append(torch.special.entr(part.mean(0)).sum().exp())
        sharpness.append((-torch.special.entr(part).sum(1).mean()).exp())
    scores = torch.stack(diversity) * torch.stack(sharpness)
    return {
        "inception_score": round(scores.mean().item(), 12),
        "inception_score_std": scores.std(correction=0).item(),
        "diversity": torch.stack(diversity).mean().item(),
        "sharpness": torch.stack(sharpness).mean().item(),
    }
