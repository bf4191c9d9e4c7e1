"""Representation learning (Paper A, Section 5.6): I_q(y; z) and classifiers on the latents."""

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from hvae_core.data.dataset import pixels
from hvae_core.evaluation.bounds import accuracy_bound, label_probabilities
from hvae_core.evaluation.rates import BATCH
from hvae_core.models.distributions import Gaussian, Product, kl
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.names import PROBES
from hvae_core.randomness import Purpose, generator
from hvae_core.terms import layer_numbers

if TYPE_CHECKING:  # imported where it is used: it takes seconds, which every stage would pay
    from sklearn.base import ClassifierMixin

TRAIN_SHARE = 0.8  # of the labelled test set, as in the paper
NEIGHBOURS = 5


@torch.no_grad()
def posteriors(model: HierarchicalVAE, x: Tensor, seed: int) -> tuple[list[Gaussian], Tensor]:
    """The posteriors of all layers (top first), each given a sample of the layers above, and a sample of z_L.

    The means are mu_L, ..., mu_1 of the paper, flattened to ``(images, dimensions)``.
    """
    source = generator(seed, Purpose.REPRESENTATION, device=x.device)
    layers: list[list[Gaussian]] = [[] for _ in range(model.layers)]
    top = []
    for images in x.split(BATCH):
        noise = model.noise(len(images), source)
        for layer, q in zip(layers, model.infer(pixels(images), noise), strict=True):
            if not isinstance(q, Gaussian | Product):
                raise TypeError(f"representations are of Gaussian posteriors, not of {type(q).__name__}")
            layer.append(Gaussian(q.mean.flatten(1), q.std.flatten(1)))
        top.append(layers[0][-1].sample(noise[0].flatten(1)))
    joined = [Gaussian(torch.cat([q.mean for q in layer]), torch.cat([q.std for q in layer])) for layer in layers]
    return joined, torch.cat(top)


def mutual_information(q: Gaussian, z: Tensor, y: Tensor, rows: int = 500) -> float:
    """I_q(y; z) in nats (Paper A, Eq. 10), by Monte Carlo over the images with exact mixtures.

    The mean over images j of log [ mean_{i: y_i = y_j} q(z_j | x_i) / mean_i q(z_j | x_i) ].

    Arguments:
        q: the posteriors q(z | x_i), ``(images, dimensions)`` each.
        z: one sample of each, ``(images, dimensions)``.
        y: labels, ``(images,)``.
        rows: samples computed at once; a block takes rows x images x 8 bytes.
    """
    mean, precision = q.mean.double(), q.std.double().pow(-2)
    offset = (mean.square() * precision - precision.log()).sum(1)
    y = y.unique(return_inverse=True)[1]
    counts = torch.bincount(y).double()
    order = y.argsort(stable=True)
    ends = counts.cumsum(0).long().tolist()
    total = 0.0
    for part, labels in zip(z.double().split(rows), y.split(rows), strict=True):
        # log q(z_j | x_i) up to a constant, as matrix products: (rows, images), images sorted by class.
        log_q = part @ (mean * precision)[order].T - 0.5 * (part.square() @ precision[order].T + offset[order])
        by_class = torch.stack(
            [log_q[:, start:end].logsumexp(1) for start, end in zip([0, *ends], ends, strict=False)], 1
        )
        own = by_class.gather(1, labels[:, None]).squeeze(1) - counts[labels].log()
        total += (own - (by_class.logsumexp(1) - counts.sum().log())).sum().item()
    return total / len(z)


@torch.no_grad()
def latents(model: HierarchicalVAE, x: Tensor, seed: int) -> dict[str, Tensor]:
    """What `scores` needs of a model.

    Returns:
        ``mu{L}`` ... ``mu1`` and the sample ``z{L}``, ``(images, dimensions)``; ``std``, of q(z_L | x), of the same
        shape; and ``rate``, R(z_L) of each image, ``(images,)``, in nats.
    """
    layers, z = posteriors(model, x, seed)
    prior = model.prior([])
    if not isinstance(prior, Gaussian):
        raise TypeError(f"representations are of models with a Gaussian prior, not {type(prior).__name__}")
    means = {f"mu{n}": q.mean for n, q in zip(layer_numbers(model.layers), layers, strict=True)}
    return means | {f"z{model.layers}": z, "std": layers[0].std, "rate": kl(layers[0], prior)}


def probes() -> dict[str, "ClassifierMixin"]:
    """The paper's four classifiers, with scikit-learn's settings, on unscaled features.

    The linear SVM is the one with a linear kernel, as the paper says. Its tolerance changes accuracies by less than
    0.1 points and spares time; liblinear's SVM is another classifier (one against the rest) and on the 256 dimensions
    of mu_1 a slower one. Measured in ``benchmarks/README.md``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    return dict(
        zip(
            PROBES,
            (
                LogisticRegression(max_iter=1000),
                SVC(kernel="linear", tol=1e-2),
                SVC(kernel="rbf"),
                KNeighborsClassifier(NEIGHBOURS),
            ),
            strict=True,
        )
    )


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads of their own that `probes` has loaded.

    To look for them takes as long as a small classifier.
    """
    return ThreadpoolController()


def score(probe: Any, features: np.ndarray, y: np.ndarray) -> float:
    """The accuracy of a classifier trained on a fixed 80 % of the images, on the rest; NaN where they are too few."""
    from sklearn.exceptions import ConvergenceWarning

    order = np.random.default_rng(0).permutation(len(y))
    cut = int(TRAIN_SHARE * len(y))
    train, test = order[:cut], order[cut:]
    if len(np.unique(y[train])) < 2 or len(train) < NEIGHBOURS or not len(test):
        return float("nan")  # too few labelled images to train on
    # Threads of the linear algebra spin against each other here: one is up to a hundred times faster than two.
    with _libraries().limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near-constant features of a collapsed layer
        return float(probe.fit(features[train], y[train]).score(features[test], y[test]))


def evaluate(model: HierarchicalVAE, x: Tensor, y: Tensor, classes: int, seed: int) -> dict[str, float]:
    """I_q(y; z_L), its accuracy bounds (Eq. 11), and the four probes on mu_L ... mu_1 and on a sample of z_L.

    ``accuracy_bound_mi`` is f^{-1}(I_q(y; z_L)), ``accuracy_bound_rate`` is f^{-1}(R(z_L)); both bound the probes
    on the sampled z_L only. Accuracies are fractions, information is in nats.

    Arguments:
        x: labelled test images, ``(images, C, H, W)`` uint8.
        y: their labels, 0 ... M-1.
        classes: M >= 2, of the data set; a class may be absent from these images.
    """
    return scores(latents(model, x, seed), y, classes)


def scores(latents: dict[str, Tensor], y: Tensor, classes: int) -> dict[str, float]:
    """The columns of `evaluate`, of what the function `latents` gives."""
    features = {name: value for name, value in latents.items() if name not in ("std", "rate")}
    top = len(features) - 1
    information = mutual_information(Gaussian(latents[f"mu{top}"], latents["std"]), latents[f"z{top}"], y)
    labels = y.cpu().numpy()
    bounds = accuracy_bound([information, latents["rate"].mean().item()], label_probabilities(labels, classes))
    tasks = {
        f"acc_{latent}_{name}": (probe, values.cpu().numpy())
        for latent, values in features.items()
        for name, probe in probes().items()
    }
    accuracies = [score(probe, values, labels) for probe, values in tasks.values()]
    return {
        f"mi_z{top}": information,
        "accuracy_bound_mi": float(bounds[0]),
        "accuracy_bound_rate": float(bounds[1]),
        **dict(zip(tasks, accuracies, strict=True)),
    }
