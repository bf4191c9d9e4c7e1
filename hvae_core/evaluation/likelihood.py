"""Likelihood and information beyond the ELBO (Paper B).

Importance-weighted bounds, generative information, active units.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hvae_core.data.dataset import pixels, to_uint8
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.randomness import Noise, Purpose

BATCH = 100  # an autoregressive decoder has large activations
FEW, MANY = 5, 500  # samples of the two importance-weighted bounds
REPEATS = 5  # decodings of one latent, of which Paper B, Fig. 4 shows the first and the mean
# Streams of their own beside the one of `average_terms`, index 0.
IWAE_STREAM, GENERATED_STREAM, DECODED_STREAM = 1, 2, 3


def log_weights(model: HierarchicalVAE, x: Tensor, noise: list[Tensor]) -> Tensor:
    r"""Log importance weights, one a row, ``(batch,)``, in nats; their mean is the ELBO.

    .. math:: \log p(x|z) + \sum_l [\log p(z_l|z_{>l}) - \log q(z_l|z_{>l}, x)], \quad z \sim q(z|x)

    Arguments:
        x: ``(batch, C, H, W)`` in [0, 1].
        noise: one standard-normal tensor a layer, top layer first.

    Source: Burda et al. 2016.
    """
    features = model.features(x)
    z: list[Tensor] = []
    rate = x.new_zeros(len(x))
    for epsilon in noise:
        q, p = model.conditionals(x, z, features)
        sample, ratio = q.log_ratio(p, epsilon)
        rate = rate + ratio
        z.append(sample)
    return model.likelihood(z).log_prob(x) - rate


@torch.no_grad()
def importance_bound(model: HierarchicalVAE, x: Tensor, samples: int, source: Noise) -> Tensor:
    r"""The importance-weighted bound on log p(x) of each image, ``(images,)`` float64, in nats.

    .. math:: \log \frac{1}{K} \sum_{k=1}^{K} w_k \quad\text{with the weights of } \texttt{log\_weights}

    In expectation it rises with K, from the ELBO (K = 1) towards log p(x), and never exceeds it. At most `BATCH`
    weights are computed at once.

    Arguments:
        x: ``(images, C, H, W)`` in [0, 1].
        samples: K.
        source: of the noise, on the device of x.
    """
    bounds = []
    for images in x.split(max(1, BATCH // samples)):
        weights = []
        for size in _batches(samples):
            rows = images.repeat_interleave(size, 0)
            weights.append(log_weights(model, rows, model.noise(len(rows), source)).unflatten(0, (-1, size)))
        bounds.append(torch.cat(weights, 1).double().logsumexp(1) - math.log(samples))
    return torch.cat(bounds)


def iwae(model: HierarchicalVAE, x: Tensor, samples: int, seed: int) -> float:
    """The mean importance-weighted bound over images, in nats per image; like an ELBO, higher is better.

    Arguments:
        x: ``(images, C, H, W)`` uint8.
        samples: K posterior samples an image; 1 gives the ELBO, with sampled rates.
        seed: of the member; the noise is a function of it and of K.

    Source: Burda et al. 2016; Paper B, Section 4 (K = 5).
    """
    source = _source(seed, IWAE_STREAM, x.device)
    parts = [importance_bound(model, pixels(images), samples, source) for images in x.split(BATCH)]
    return torch.cat(parts).mean().item()


@torch.no_grad()
def generative_bounds(
    model: HierarchicalVAE, generated: int, seed: int, samples: int = MANY, device: str | torch.device = "cpu"
) -> tuple[float, float]:
    r"""Bounds E <= I_gen <= G on the mutual information of image and latent in what the model generates, in nats.

    .. math::
        E = E_{m(z) d(x|z)} \log \frac{e(z|x)}{m(z)}, \qquad G = E_{m(z) d(x|z)} \log \frac{d(x|z)}{q(x)}

    Averages over one sample x of each z. For q(x) stands the model's own marginal, for which G would be I_gen itself,
    estimated by the importance-weighted bound. That lies below log q(x) in expectation, so its error only raises G,
    which stays an upper bound. Both are noisy: for few samples E > G can happen where they are tight.

    Arguments:
        generated: images to average over.
        seed: of the member.
        samples: K of the estimate of q(x).

    Returns:
        ``(E, G)``. E has no lower limit: an encoder that does not know generated images is far off.

    Raises:
        ValueError: for a model with more than one layer.

    Source: Paper B, Appendix C, Eqs. 7-9.
    """
    if model.layers != 1:
        raise ValueError(f"the bounds on generative information are for one layer of latents, not {model.layers}")
    source = _source(seed, GENERATED_STREAM, device)
    lower, upper = 0.0, 0.0
    for size in _batches(generated):
        prior = model.prior([])
        z = prior.sample(model.noise(size, source)[0])
        decoder = model.likelihood([z])
        x = decoder.sample(_image_noise(model, size, source))
        lower += (model.posterior(x, []).log_prob(z) - prior.log_prob(z)).double().sum().item()
        upper += (decoder.log_prob(x) - importance_bound(model, x, samples, source)).double().sum().item()
    return lower / generated, upper / generated


@torch.no_grad()
def active_units(model: HierarchicalVAE, x: Tensor, threshold: float = 0.01) -> int:
    """How many dimensions of z_L the posterior moves: those whose mean varies over images by more than a threshold.

    The variance is over the images of the posterior's mode, for a Gaussian its mean. For a mean-only flow the mode is
    the image of the base's mean.

    Arguments:
        x: ``(images, C, H, W)`` uint8.
        threshold: on the variance.

    Source: Burda et al. 2016.
    """
    means = torch.cat([model.posterior(pixels(images), []).mode.flatten(1) for images in x.split(BATCH)])
    return int((means.double().var(0, correction=0) > threshold).sum())


@torch.no_grad()
def decodings(model: HierarchicalVAE, x: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Several samples of p(x | z) from one latent: what it does not determine differs between them.

    Returns:
        Reconstructions of the images, by z ~ q(z | x), and as many generated images, by z ~ p(z); each
        ``(images, REPEATS, C, H, W)`` uint8.

    Arguments:
        x: ``(images, C, H, W)`` uint8.

    Source: Paper B, Fig. 4.
    """
    source = _source(seed, DECODED_STREAM, x.device)
    noise = model.noise(len(x), source)
    inferred = [q.sample(epsilon) for q, epsilon in zip(model.infer(pixels(x), noise), noise, strict=True)]
    generated: list[Tensor] = []
    for epsilon in model.noise(len(x), source):
        generated.append(model.prior(generated).sample(epsilon))
    # Both at once: an autoregressive decoder takes a pass a pixel, of however many images.
    z = [torch.cat(layers).repeat_interleave(REPEATS, 0) for layers in zip(inferred, generated, strict=True)]
    decoded = model.likelihood(z).sample(_image_noise(model, 2 * REPEATS * len(x), source))
    images = to_uint8(decoded.unflatten(0, (2, len(x), REPEATS)))
    return images[0], images[1]


def evaluate(
    model: HierarchicalVAE, x: Tensor, seed: int, *, images: int | None = None, generated: int = 64
) -> dict[str, float]:
    """The bounds on the likelihood, the bounds on the generative information, and the active units.

    Arguments:
        x: ``(images, C, H, W)`` uint8, test images.
        images: the 500-sample bound is over the first so many only; None: all.
        generated: images for the bounds on the generative information.

    Returns:
        ``iwae_5``, ``iwae_500``, ``mi_lower`` (E) and ``mi_upper`` (G), in nats (per image), and ``active_units``,
        of z_L. Of a model with several layers the information is null.
    """
    lower, upper = (math.nan, math.nan)
    if model.layers == 1:
        lower, upper = generative_bounds(model, generated, seed, device=x.device)
    return {
        "iwae_5": iwae(model, x, FEW, seed),
        "iwae_500": iwae(model, x[:images], MANY, seed),
        "mi_lower": lower,
        "mi_upper": upper,
        "active_units": active_units(model, x),
    }


def _batches(count: int) -> list[int]:
    """Sizes of at most `BATCH` that add up to ``count``."""
    return [min(BATCH, count - start) for start in range(0, count, BATCH)]


def _source(seed: int, stream: int, device: str | torch.device) -> Noise:
    return Noise(seed, Purpose.EVALUATION, stream, device)


def _image_noise(model: HierarchicalVAE, count: int, source: Noise) -> Tensor:
    return source.normal(count, *model.image_shape)
