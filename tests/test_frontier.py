import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvae_core.analysis.frontier import lower_hull, pareto_frontier, upper_hull

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
            ra < r < rb and (v - va) * (rb - ra) <= (vb - va) * (r - ra) for ra, va in others for rb, vb in others
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


@given(st.floats(0, 50), st.floats(0.1, 5), st.integers(3, 9))
def test_all_points_of_a_bent_curve_are_corners_and_all_below_its_chords_are_not(start, step, count):
    """The rising half of a parabola, wherever it begins, and the middles of its chords, a bit lower."""
    rate = start + step * np.arange(count)
    value = 7 - (rate - rate[-1]) ** 2
    middle, chord = (rate[1:] + rate[:-1]) / 2, (value[1:] + value[:-1]) / 2
    hull = upper_hull([*middle, *rate], [*(chord - 0.01 * step**2), *value])
    assert hull.tolist() == list(range(count - 1, 2 * count - 1))
    assert lower_hull([*middle, *rate], [*(0.01 * step**2 - chord), *-value]).tolist() == hull.tolist()


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


def frontier_by_definition(rate, distortion):
    """Every point that is beaten by none: no more rate and no more distortion, and one of them less."""
    points = list(zip(rate, distortion, strict=True))
    finite = [i for i, p in enumerate(points) if np.isfinite(p).all()]
    values = [points[i] for i in finite]
    kept = [
        i
        for i in finite
        if not any(a <= points[i][0] and b <= points[i][1] and (a, b) != points[i] for a, b in values)
        and not any(points[j] == points[i] for j in finite if j < i)
    ]
    return sorted(kept, key=lambda i: rate[i])


@given(st.lists(st.tuples(coordinate, coordinate), max_size=14))
def test_the_frontier_agrees_with_the_definition(points):
    rate, distortion = [p[0] for p in points], [p[1] for p in points]
    assert pareto_frontier(rate, distortion).tolist() == frontier_by_definition(rate, distortion)


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 300)), min_size=1, max_size=40))
def test_the_lower_hull_lies_below_the_frontier_and_touches_it(points):
    rate, distortion = np.array(points).T
    frontier, hull = pareto_frontier(rate, distortion), lower_hull(rate, distortion)
    assert set(hull) <= set(frontier)
    assert (hull[0], hull[-1]) == (frontier[0], frontier[-1])
    below = np.interp(rate[frontier], rate[hull], distortion[hull])
    assert (below <= distortion[frontier] + 1e-6).all()


def test_the_frontier_falls_and_shapes_must_agree():
    assert pareto_frontier([2, 0, 1, NAN], [3, 9, 9, 0]).tolist() == [1, 0]
    assert pareto_frontier([], []).dtype.kind == "i"
    with pytest.raises(ValueError, match="equally long"):
        pareto_frontier([0, 1], [0])
