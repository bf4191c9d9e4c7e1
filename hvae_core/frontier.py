"""The best model for a given total rate: the upper convex hull of a metric against the rate."""

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
    if r.ndim != 1 or r.shape != v.shape:
        raise ValueError(
            f"rate and value must be one-dimensional and equally long, not {r.shape} and {v.shape}"
        )
    finite = np.flatnonzero(np.isfinite(r) & np.isfinite(v))
    hull: list[int] = []
    for i in finite[np.lexsort((finite, -v[finite], r[finite]))]:  # by rate, then highest value, then first
        if hull and v[i] <= v[hull[-1]]:
            continue  # no more rate is worth paying for a value already reached
        while len(hull) > 1 and _is_below(hull[-1], hull[-2], i, r, v):
            hull.pop()
        hull.append(int(i))
    return np.array(hull, dtype=int)


def _is_below(middle: int, left: int, right: int, r: np.ndarray, v: np.ndarray) -> bool:
    """Whether point `middle` lies on or below the line from `left` to `right`."""
    return bool((v[middle] - v[left]) * (r[right] - r[left]) <= (v[right] - v[left]) * (r[middle] - r[left]))
