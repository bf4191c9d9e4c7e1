"""Representation learning (Paper A, Section 5.6): I_q(y; z) and classifiers on the latents."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from hvae_core.data.dataset import pixels
from hvae_core.evaluation.bounds import accuracy_bound, information, label_entropy, label_probabilities
from hvae_core.evaluation.paired import OF_IMAGES
from hvae_core.evaluation.rates import BATCH
from hvae_core.models.distributions import Gaussian, Product, kl
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.names import PROBES
from hvae_core.randomness import Noise, Purpose
from hvae_core.terms import layer_numbers

if TYPE_CHECKING:  # imported where it is used: it takes seconds, which every stage would pay
    from sklearn.base import ClassifierMixin

TRAIN_SHARE = 0.8  # of the labelled test set, as in the paper
NEIGHBOURS = 5
LANDMARKS = 300  # images whose kernel values are the features of `learned_information`


@torch.no_grad()
def posteriors(model: HierarchicalVAE, x: Tensor, seed: int) -> tuple[list[Gaussian], Tensor]:
    """The posteriors of all layers (top first), each given a sample of the layers above, and a sample of z_L.

    The means are mu_L, ..., mu_1 of the paper, flattened to ``(images, dimensions)``.
    """
    source = Noise(seed, Purpose.REPRESENTATION, device=x.device)
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


def mutual_information(q: Gaussian, z: Tensor, y: Tensor, rows: int = 100) -> float:
    """I_q(y; z) in nats (Paper A, Eq. 10), by Monte Carlo over the images with exact mixtures.

    The mean over images j of log [ mean_{i: y_i = y_j} q(z_j | x_i) / mean_i q(z_j | x_i) ].

    It counts the component of image j itself. Where posteriors hardly overlap, from a rate of about the log of the
    number of images on, that is the only one left: then any labels give their entropy, true or not. `information_of`
    says what permuted labels give, and `learned_information` is a bound that this does not touch.

    Arguments:
        q: the posteriors q(z | x_i), ``(images, dimensions)`` each.
        z: one sample of each, ``(images, dimensions)``.
        y: labels, ``(images,)``.
        rows: samples computed at once; a block takes rows x images x 8 bytes.
    """
    return information_of(q, z, [y], rows)[0]


def information_of(q: Gaussian, z: Tensor, labelings: Sequence[Tensor], rows: int = 100) -> list[float]:
    """`mutual_information` of several labelings of the same images, which costs hardly more than of one."""
    mean, precision = q.mean.double(), q.std.double().pow(-2)
    offset = 0.5 * (mean.square() * precision - precision.log()).sum(1, keepdim=True)
    components = torch.cat([mean * precision, -0.5 * precision, -offset], 1).T.contiguous()
    codes = [y.unique(return_inverse=True)[1] for y in labelings]
    members = [torch.nn.functional.one_hot(code).to(mean) for code in codes]
    counts = [member.sum(0) for member in members]
    together, classes = torch.cat(members, 1), [len(count) for count in counts]
    totals = [0.0] * len(codes)
    for start in range(0, len(z), rows):
        part = z[start : start + rows].double()
        # log q(z_j | x_i) up to a constant, as one matrix product: (rows, images). In place: it is most of the time.
        log_q = torch.cat([part, part.square(), torch.ones_like(part[:, :1])], 1) @ components
        densities = log_q.sub_(log_q.amax(1, keepdim=True)).exp_() @ together
        for i, (code, of_classes) in enumerate(zip(codes, densities.split(classes, 1), strict=True)):
            own = code[start : start + rows]
            of_class = (of_classes.gather(1, own[:, None]).squeeze(1) / of_classes.sum(1)).log()
            for row in (~of_class.isfinite()).nonzero().flatten().tolist():  # too small for a share
                exact = torch.cat([part[row], part[row].square(), part.new_ones(1)]) @ components
                of_class[row] = exact[code == own[row]].logsumexp(0) - exact.logsumexp(0)
            totals[i] += (of_class - (counts[i][own] / len(z)).log()).sum().item()
    return [total / len(z) for total in totals]


def permuted(y: Tensor) -> Tensor:
    """The same labels at other images: a fixed permutation, so that they tell nothing of the images."""
    order = np.random.default_rng(1).permutation(len(y))
    return y[torch.from_numpy(order).to(y.device)]


class Learned(NamedTuple):
    """What a classifier found out about the labels, in nats.

    Attributes:
        lower: H(y) minus the cross-entropy of its probabilities on held-out images. Its expectation is at most
            I(y; z), whatever the classifier; below 0 the classifier is worse than none.
        error: the standard error of ``lower``, over held-out images.
        fano: the information that its accuracy needs (Fano's inequality; f of Paper A, Eq. 11).
    """

    lower: float
    error: float
    fano: float


def learned_information(features: np.ndarray, y: np.ndarray, classes: int) -> Learned:
    """Lower bounds on I(y; z) of the population, by logistic regression on values of an RBF kernel.

    It learns from 80 % of the images and is judged by the others. The values are at most `LANDMARKS` of Nyström's,
    of standardised features. NaN where images are too few.

    Arguments:
        features: ``(images, dimensions)``, samples of z.
        y: labels 0 ... classes-1.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = _split(len(y))
    seen = np.unique(y[train])
    if len(seen) < 2 or len(train) < NEIGHBOURS or len(test) < 2:
        return Learned(*[float("nan")] * 3)
    classifier = make_pipeline(
        StandardScaler(),
        Nystroem(gamma=1 / features.shape[1], n_components=min(LANDMARKS, len(train)), random_state=0),
        LogisticRegression(max_iter=1000),
    )
    with _quietly():
        classifier.fit(features[train], y[train])
        logs = np.full((len(test), classes), -np.log(len(train)))  # of a class that no training image has
        logs[:, seen] = classifier.predict_log_proba(features[test])
    logs -= np.logaddexp.reduce(logs, axis=1, keepdims=True)
    told = logs[np.arange(len(test)), y[test]]
    frequencies = label_probabilities(y, classes)
    right = max(float((logs.argmax(1) == y[test]).mean()), 1 / classes)
    return Learned(
        float(label_entropy(frequencies) + told.mean()),
        float(told.std(ddof=1) / len(test) ** 0.5),
        max(0.0, float(information(right, frequencies))),
    )


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
    of mu_1 a slower one. Measured in ``benchmarks/README.md``. Logistic regression by Newton's method ends at its
    optimum; scikit-learn's own choice does not within 1,000 steps on mu_1, and takes twice as long.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    return dict(
        zip(
            PROBES,
            (
                LogisticRegression(solver="newton-cg", tol=1e-3),
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


def _split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A fixed 80 % of the images, and the rest."""
    order = np.random.default_rng(0).permutation(count)
    cut = int(TRAIN_SHARE * count)
    return order[:cut], order[cut:]


@contextmanager
def _quietly() -> Iterator[None]:
    """Classifiers learn on one thread, and say nothing of near-constant features of a collapsed layer.

    Threads of the linear algebra spin against each other here: one is up to a hundred times faster than two.
    """
    from sklearn.exceptions import ConvergenceWarning

    with _libraries().limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def right(probe: Any, features: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which labels a classifier trained on a fixed 80 % of the images has right, as 0 or 1, of the rest.

    None where they are too few to learn from.
    """
    train, test = _split(len(y))
    if len(np.unique(y[train])) < 2 or len(train) < NEIGHBOURS:
        return np.empty(0, np.uint8)
    with _quietly():
        return (probe.fit(features[train], y[train]).predict(features[test]) == y[test]).astype(np.uint8)


def score(probe: Any, features: np.ndarray, y: np.ndarray) -> float:
    """The accuracy of a classifier, see `right`; NaN where images are too few."""
    return accuracy_of(right(probe, features, y))


def accuracy_of(hits: np.ndarray) -> float:
    return float(hits.mean()) if len(hits) else float("nan")


def evaluate(model: HierarchicalVAE, x: Tensor, y: Tensor, classes: int, seed: int) -> dict[str, Any]:
    """Information on the label, accuracy bounds (Eq. 11), and four probes on mu_L ... mu_1 and on a sample of z_L.

    ``mi_z2`` is the paper's I_q(y; z_L), and ``mi_z2_permuted`` the same of permuted labels: what is above 0 there
    is not learned. ``mi_z2_lower`` (with its standard error) and ``mi_z2_fano`` are lower bounds on the population's
    I(y; z_L), see `learned_information`.

    ``accuracy_bound_mi`` is f^{-1}(I_q(y; z_L)), ``accuracy_bound_rate`` is f^{-1}(R(z_L)); both bound the probes
    on the sampled z_L only. Accuracies are fractions, information is in nats. `OF_IMAGES` has what `right` gives.

    Arguments:
        x: labelled test images, ``(images, C, H, W)`` uint8.
        y: their labels, 0 ... M-1.
        classes: M >= 2, of the data set; a class may be absent from these images.
    """
    return scores(latents(model, x, seed), y, classes)


def scores(latents: dict[str, Tensor], y: Tensor, classes: int) -> dict[str, Any]:
    """The columns of `evaluate`, of what the function `latents` gives."""
    features = {name: value for name, value in latents.items() if name not in ("std", "rate")}
    top = len(features) - 1
    z = latents[f"z{top}"]
    told, by_chance = information_of(Gaussian(latents[f"mu{top}"], latents["std"]), z, [y, permuted(y)])
    labels = y.cpu().numpy()
    learned = learned_information(z.cpu().numpy(), labels, classes)
    bounds = accuracy_bound([told, latents["rate"].mean().item()], label_probabilities(labels, classes))
    tasks = {
        f"acc_{latent}_{name}": (probe, values.cpu().numpy())
        for latent, values in features.items()
        for name, probe in probes().items()
    }
    hits = {name: right(probe, values, labels) for name, (probe, values) in tasks.items()}
    return {
        f"mi_z{top}": told,
        f"mi_z{top}_permuted": by_chance,
        f"mi_z{top}_lower": learned.lower,
        f"mi_z{top}_lower_se": learned.error,
        f"mi_z{top}_fano": learned.fano,
        "accuracy_bound_mi": float(bounds[0]),
        "accuracy_bound_rate": float(bounds[1]),
        **{name: accuracy_of(of_images) for name, of_images in hits.items()},
        OF_IMAGES: {name: of_images for name, of_images in hits.items() if len(of_images)},
    }
