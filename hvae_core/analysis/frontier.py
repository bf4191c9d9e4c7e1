"""The best model for a given total rate: hulls of a metric, or frontiers of the distortion, against the rate."""

import numpy as np
from numpy.typing import ArrayLike


def upper_hull(rate: ArrayLike, value: ArrayLike) -> np.ndarray:
    """Indices of the vertices of the upper convex hull of `value` against `rate`.

    The hull runs from the point of lowest rate to the point of highest value (the one of lowest rate, if
    several share it), so both rate and value increase strictly along the result. Points that are not finite
    are left out. Only corners count: a point in the middle of an edge is not part of the result, and of equal
    points the first one is.

    Arguments:
        rate: shape (n,), nats per image.
        value: shape (n,), any unit, higher is better.

    Returns:
        Integer array of shape (k,), 0 <= k <= n, ordered by rate.

    Raises:
        ValueError: `rate` and `value` are not one-dimensional and of equal length.

    Source: Paper A, Section 5.3 and Fig. 6.
    """
    r, v = np.asarray(rate, float), np.asarray(value, float)
    hull: list[int] = []
    for i in _undominated(r, v):
        while len(hull) > 1 and _is_below(hull[-1], hull[-2], i, r, v):
            hull.pop()
        hull.append(i)
    return np.array(hull, dtype=int)


def lower_hull(rate: ArrayLike, distortion: ArrayLike) -> np.ndarray:
    """Indices of the vertices of the lower convex hull of the frontier (`pareto_frontier`), by rate.

    The hull is that of `upper_hull` upside down: from the lowest rate to the lowest distortion.

    Arguments:
        rate, distortion: shape (n,), nats per image.

    Source: Paper B, Fig. 3 (grey line).

    Example:
        >>> lower_hull([0.0, 1.0, 2.0, 3.0], [9.0, 8.0, 2.0, 5.0])
        array([0, 2])
    """
    return upper_hull(rate, -np.asarray(distortion, float))


def pareto_frontier(rate: ArrayLike, distortion: ArrayLike) -> np.ndarray:
    """Indices of the models that no other one beats.

    None has less distortion at no more rate, or less rate at no more distortion.

    Along the result the rate rises and the distortion falls, both strictly. Of equal points the first one counts;
    points that are not finite are left out.

    Arguments:
        rate, distortion: shape (n,), nats per image.

    Returns:
        Integer array of shape (k,), 0 <= k <= n, ordered by rate.

    Raises:
        ValueError: the two are not one-dimensional and of equal length.

    Source: Paper B, Fig. 3 (the monotone Pareto frontier).

    Example:
        >>> pareto_frontier([0.0, 1.0, 2.0, 3.0], [9.0, 8.0, 2.0, 5.0])
        array([0, 1, 2])
    """
    return np.array(_undominated(np.asarray(rate, float), -np.asarray(distortion, float)), dtype=int)


def _undominated(r: np.ndarray, v: np.ndarray) -> list[int]:
    """Points with a value that no smaller or equal rate reaches, by rate; of equal points the first."""
    if r.ndim != 1 or r.shape != v.shape:
        raise ValueError(f"rate and value must be one-dimensional and equally long, not {r.shape} and {v.shape}")
    finite = np.flatnonzero(np.isfinite(r) & np.isfinite(v))
    kept: list[int] = []
    for i in finite[np.lexsort((finite, -v[finite], r[finite]))]:  # by rate, then highest value, then first
        if not kept or v[i] > v[kept[-1]]:  # no more rate is worth paying for a value already reached
            kept.append(int(i))
    return kept


def _is_below(middle: int, left: int, right: int, r: np.ndarray, v: np.ndarray) -> bool:
    """Whether point `middle` lies on or below the line from `left` to `right`."""
    return bool((v[middle] - v[left]) * (r[right] - r[left]) <= (v[right] - v[left]) * (r[middle] - r[left]))
