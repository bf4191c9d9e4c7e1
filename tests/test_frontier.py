import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvae_core.frontier import upper_hull

NAN = float("nan")


def hull_by_definition(rate, value):
    """A corner of the hull: dominated by no other point, and above every chord between two others."""
    points = [(r, v) for r, v in zip(rate, value, strict=True)]
    finite = [i for i, p in enumerate(points) if np.isfinite(p).all()]
    corners = []
    for i in finite:
        r, v = points[i]
        others = [points[j] for j in finite if points[j] != points[i]]
        dominated = any(rj <= r and vj >= v for rj, vj in others)
        duplicate = any(points[j] == points[i] for j in finite if j < i)
        under_chord = any(
            ra < r < rb and (v - va) * (rb - ra) <= (vb - va) * (r - ra)
            for ra, va in others
            for rb, vb in others
        )
        if not (dominated or duplicate or under_chord):
            corners.append(i)
    return sorted(corners, key=lambda i: rate[i])


# Small whole numbers: exact arithmetic, and many ties, duplicates and points on one line.
coordinate = st.one_of(st.integers(0, 8).map(float), st.just(NAN))


@given(st.lists(st.tuples(coordinate, coordinate), max_size=14))
def test_agrees_with_the_definition(points):
    rate, value = [p[0] for p in points], [p[1] for p in points]
    assert upper_hull(rate, value).tolist() == hull_by_definition(rate, value)


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(-50, 50)), min_size=1, max_size=40))
def test_runs_from_lowest_rate_to_highest_value(points):
    rate, value = np.array(points).T
    hull = upper_hull(rate, value)
    assert rate[hull[0]] == rate.min() and value[hull[-1]] == value.max()
    assert (np.diff(rate[hull]) > 0).all() and (np.diff(value[hull]) > 0).all()


def test_points_that_are_not_finite_are_left_out():
    assert upper_hull([0, NAN, 1, 2, np.inf], [0, 9, 5, NAN, 9]).tolist() == [0, 2]
    assert upper_hull([NAN], [1.0]).size == 0
    assert upper_hull([], []).dtype.kind == "i"


def test_ties():
    assert upper_hull([1, 1, 1], [0, 2, 2]).tolist() == [1]
    assert upper_hull([0, 1, 2], [3, 3, 3]).tolist() == [0]
    assert upper_hull([0, 1, 2], [0, 1, 2]).tolist() == [0, 2]


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="equally long"):
        upper_hull([0, 1], [0])
    with pytest.raises(ValueError, match="one-dimensional"):
        upper_hull([[0, 1]], [[0, 1]])
