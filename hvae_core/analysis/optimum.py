"""Which settings may be the best one: those that seeds and test images do not tell apart from it."""

from functools import cache

import numpy as np
import pandas as pd

from hvae_core.analysis.points import INCEPTION, PARTS, Metric, best, compared, values

DOUBT = 0.05  # the chance that any setting as good as the best is told apart from it
SHARE = 4  # one in so many settings, the best ones, give the spread over seeds: two or three seeds of one say little
FEWEST = 5  # settings that give it, at least
KNOWN = np.inf  # degrees of freedom of a standard deviation that is known


def optimum(points: pd.DataFrame, metric: Metric) -> np.ndarray:
    """Which settings may be the best one by a metric, ``(points,)``; with one seed, all that were `compared`.

    The best of many settings is the luckiest, too, and any of them could have come out as the best. So a setting is
    told apart only by a difference that the lowest and the highest of so many *equal* settings exceed in one grid of
    twenty: Tukey's range, with as many degrees of freedom as the seeds leave.

    The standard error of a difference of two means over seeds has two parts. One is the spread over seeds, taken
    together over the best quarter of the settings. The other comes from the test images, which all models share: the
    columns ``…_behind_se``, or, of an accuracy without them, the binomial errors of both. A score that is drawn anew
    with each seed has the larger of its own error and that of the seeds. How far another seed would move a setting is
    not known of one seed: in published runs the spread over seeds is several times what samples or images explain.

    Arguments:
        points: as `hvae_core.analysis.points.grid_means` returns them; ``scored`` among their ``attrs``.

    Source: Tukey (1949); Kramer (1956) for unequal numbers of seeds.

    Example: of three settings with two seeds each, the second is within the spread, the first is not.
        >>> frame = pd.DataFrame({"rate_1": [1.0, 2.0, 3.0], "rate": [1.0, 2.0, 3.0], "beta_1": [9, 3, 1]})
        >>> frame = frame.assign(seeds=2, psnr=[10.0, 14.9, 15.0], psnr_sd=0.1)
        >>> from hvae_core.analysis.points import PSNR
        >>> optimum(frame, PSNR)
        array([False,  True,  True])
    """
    value = np.where(compared(points), values(points, metric) / metric.factor, np.nan)
    known = np.isfinite(value)
    if not known.any():
        return known
    spread, freedom = _spread(points, metric, value)
    return known & _tied(points, metric, value, spread, freedom) if freedom else known


def as_good(points: pd.DataFrame, metric: Metric) -> tuple[np.ndarray, str]:
    """Rows of the other settings that are as good as the best one, for a figure, and what does not tell them apart.

    With several seeds they are those of `optimum`. With one, by which all may be the best, they are those that test
    images or samples alone do not tell apart; another seed moves them further. None, and "", where that is not known.

    Example: accuracies of three settings on 100 test images
        >>> from hvae_core.analysis.points import accuracy
        >>> frame = pd.DataFrame({"rate_1": [1.0, 2.0, 3.0], "beta_1": [4.0, 2.0, 1.0]})
        >>> frame = frame.assign(rate=frame["rate_1"], seeds=1, acc_mu1_knn=[0.5, 0.89, 0.9])
        >>> frame.attrs["scored"] = 100
        >>> as_good(frame, accuracy("mu1", "knn"))
        (array([1]), 'test images')
    """
    value = np.where(compared(points), values(points, metric) / metric.factor, np.nan)
    if not np.isfinite(value).any():
        return np.empty(0, int), ""
    spread, freedom = _spread(points, metric, value)
    if not freedom and not _of_one_seed(points, metric, value, int(np.nanargmax(value))).any():
        return np.empty(0, int), ""
    near = np.flatnonzero(_tied(points, metric, value, spread, freedom))
    source = "seeds" if freedom else "samples" if metric == INCEPTION else "test images"
    return near[near != best(points, metric)], source


def _tied(points: pd.DataFrame, metric: Metric, value: np.ndarray, spread: float, freedom: int) -> np.ndarray:
    """Whether a setting is not told apart from the best one; without freedom, by the errors that one seed has."""
    row = int(np.nanargmax(value))
    variance = _of_one_seed(points, metric, value, row)
    if freedom:
        seeds = points["seeds"].clip(lower=1).to_numpy(float)
        of_seeds = spread**2 * (1 / seeds + 1 / seeds[row])
        variance = np.fmax(of_seeds, variance) if metric == INCEPTION else of_seeds + variance
    with np.errstate(invalid="ignore"):
        near = value[row] - value <= _range(int(np.isfinite(value).sum()), freedom or KNOWN) * np.sqrt(variance)
    return np.asarray(near)


def _of_one_seed(points: pd.DataFrame, metric: Metric, value: np.ndarray, row: int) -> np.ndarray:
    """The variance of a difference from the best by samples or test images, which one seed has as well."""
    return _own(points, metric, row) if metric == INCEPTION else _of_images(points, metric, value, row) ** 2


def bests_differ(points: pd.DataFrame, a: Metric, b: Metric) -> bool:
    """Whether the best settings by two accuracies differ in them by more than chance would make of equal ones.

    Each is the best of all settings, so that there are twice as many of which it may be the lowest and the highest.
    The errors are as in `optimum`, but with one seed those of the test images alone. Not, where it is not known on how
    many images they were measured.
    """
    if not points.attrs.get("scored"):
        return False
    variance, highest, settings = 0.0, [], 0
    freedom: float = KNOWN
    for metric in (a, b):
        value = values(points, metric) / metric.factor
        if not np.isfinite(value).any():
            return False
        row = int(np.nanargmax(value))
        spread, left = _spread(points, metric, value)
        variance += spread**2 / points["seeds"].iloc[row] if left else 0.0
        variance += max(0.0, value[row] * (1 - value[row])) / points.attrs["scored"]
        freedom = min(freedom, left or KNOWN)
        settings += int(np.isfinite(value).sum())
        highest.append(value[row])
    return bool(abs(highest[0] - highest[1]) > _range(settings, freedom) * np.sqrt(variance))


def _spread(points: pd.DataFrame, metric: Metric, value: np.ndarray) -> tuple[float, int]:
    """The standard deviation over seeds of the best settings, taken together, and its degrees of freedom."""
    order = np.argsort(np.where(np.isfinite(value), -value, np.inf), kind="stable")
    top = order[: max(FEWEST, int(np.isfinite(value).sum()) // SHARE)]
    deviation = points.get(f"{metric.column}_sd", pd.Series(np.nan, index=points.index)).to_numpy(float)[top]
    left = np.where(np.isfinite(deviation), points["seeds"].to_numpy(float)[top] - 1, 0)
    freedom = int(left.sum())
    return float(np.sqrt((left * np.nan_to_num(deviation) ** 2).sum() / freedom)) if freedom else np.nan, freedom


def _own(points: pd.DataFrame, metric: Metric, row: int) -> np.ndarray:
    """The variance of a difference of Inception Scores by the samples alone; 0 where it is not known.

    What is stored is the spread of the parts as it is, so that the mean of n of them has an error of it / sqrt(n - 1).
    """
    if f"{metric.column}_std" not in points:
        return np.zeros(len(points))
    seeds = points["seeds"].clip(lower=1).to_numpy(float)
    one = points[f"{metric.column}_std"].fillna(0).to_numpy(float) ** 2 / (PARTS - 1) / seeds
    return one + one[row]


def _of_images(points: pd.DataFrame, metric: Metric, value: np.ndarray, row: int) -> np.ndarray:
    """The standard error of a difference by the test images, ``(points,)``; 0 where it is not known."""
    if f"{metric.column}_behind_se" in points:
        paired = points[f"{metric.column}_behind_se"].to_numpy(float)  # from the best that evaluation found
        if np.isfinite(paired[row]):
            return np.nan_to_num(paired + paired[row])
    if metric.column.startswith("acc_") and points.attrs.get("scored"):
        one = np.clip(value * (1 - value), 0, None) / points.attrs["scored"]
        return np.sqrt(np.nan_to_num(one + one[row]))
    return np.zeros(len(points))


@cache
def _range(settings: int, freedom: float) -> float:
    """How many standard errors of a difference the lowest and the highest of so many equal settings are apart.

    At most, but in a share `DOUBT` of all grids.
    """
    from scipy.stats import studentized_range  # half a second, and most reports of one seed do without

    return float(studentized_range.isf(DOUBT, settings, freedom)) / np.sqrt(2) if settings > 1 else 0.0
