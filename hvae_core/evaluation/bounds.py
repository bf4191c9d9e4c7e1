"""The theory of Paper A, Section 4, as numbers: Eqs. 9, 10 and 11."""

import numpy as np
import numpy.typing as npt
from scipy.special import entr, xlogy

Array = npt.NDArray[np.float64]


def distortion_bound(rate: npt.ArrayLike, entropy: float) -> Array:
    """The least distortion at a total rate, in nats per image: D >= H[p_data] - R (Paper A, Eqs. 3 and 9).

    Arguments:
        rate: R, in nats per image.
        entropy: H[p_data], or the upper bound on it that a trained VAE gives (`entropy_bound`); the bound on D is
            then an estimate that real models may undercut.
    """
    return entropy - np.asarray(rate, dtype=float)


def entropy_bound(distortion: npt.ArrayLike, rate: npt.ArrayLike) -> float:
    """The least D + R over models trained at any betas: an upper bound on H[p_data], in nats per image."""
    total = np.asarray(distortion, dtype=float) + np.asarray(rate, dtype=float)
    return float(np.nanmin(total))


def label_probabilities(y: npt.ArrayLike, classes: int) -> Array:
    """Empirical probabilities of the M classes, of labels 0 ... M-1."""
    counts = np.bincount(np.asarray(y), minlength=classes)
    return counts / counts.sum()


def label_entropy(probabilities: npt.ArrayLike) -> float:
    """H[p(y)], in nats: all there is to know about the label."""
    return float(entr(np.asarray(probabilities, dtype=float)).sum())


def information(accuracy: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    r"""f of Paper A, Eq. 11: the least information on the label, in nats, that a classifier of this accuracy needs.

    .. math:: f(a) = H[p(y)] + a \log a + (1 - a) \log\frac{1 - a}{M - 1}

    Arguments:
        accuracy: in [1/M, 1]; f increases there.
        probabilities: of the M >= 2 labels.

    Example:
        >>> bool(abs(information(0.1, [0.1] * 10)) < 1e-12)  # chance needs nothing
        True
    """
    a = np.asarray(accuracy, dtype=float)
    p = np.asarray(probabilities, dtype=float)
    return entr(p).sum() + xlogy(a, a) + xlogy(1 - a, 1 - a) - (1 - a) * np.log(len(p) - 1)


def accuracy_bound(information_nats: npt.ArrayLike, label_probabilities: npt.ArrayLike) -> Array:
    """f^{-1} of Paper A, Eq. 11: no classifier that sees so much information on the label is more accurate.

    It bounds classifiers that see a *sample* z ~ q(z | x): the information is measured through the noise. It does
    not bound classifiers on the mode, a noiseless function of x.

    Arguments:
        information_nats: I_q(y; z), or a rate, any shape; clipped to the range of f.
        label_probabilities: of the M >= 2 labels.

    Returns:
        Accuracies in [1/M, 1], NaN where the information is NaN.

    Example:
        >>> accuracy_bound([0.0, 1.0, 100.0], [0.1] * 10).round(3)
        array([0.1  , 0.689, 1.   ])
    """
    target = np.asarray(information_nats, dtype=float)
    classes = len(np.asarray(label_probabilities))
    if classes < 2:
        raise ValueError(f"label_probabilities: {classes} class; the bound needs at least two")
    low, high = np.full(target.shape, 1 / classes), np.ones(target.shape)
    for _ in range(60):  # halves the interval down to float precision
        middle = (low + high) / 2
        below = information(middle, label_probabilities) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    bound = np.where(target >= information(1.0, label_probabilities), 1.0, (low + high) / 2)
    bound = np.where(target <= information(1 / classes, label_probabilities), 1 / classes, bound)
    return np.where(np.isnan(target), np.nan, bound)
