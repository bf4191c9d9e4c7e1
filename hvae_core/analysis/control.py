"""What of I_q(y; z_L) is about the label: its control, by labels at random, and a bound that needs none.

The estimator counts each image's own posterior. About N exp(-R) of N test images have posteriors that overlap: where
these are few, any labels have information. So labels at random have some from a few nats below log N on, and above it
all there is. A lower bound by a classifier, judged on images that it has not seen, has none of that.
"""

import numpy as np
import pandas as pd

from hvae_core.analysis.points import Metric, count_layers, information

SATURATED = 0.1  # nats that permuted labels may have: above, I_q(y; z_L) says more of the rate than of the labels


def at_least(top: int) -> Metric:
    """The lower bound on I(y; z_L): what settings are compared by, whatever their rates."""
    return Metric(f"mi_z{top}_lower", f"$I(y; z_{top})$, at least", "nats")


def is_saturated(points: pd.DataFrame) -> np.ndarray:
    """The models whose I_q(y; z_L) labels at random have, too, ``(points,)``; none where that is not known."""
    column = f"mi_z{count_layers(points)}_permuted"
    if column not in points:
        return np.zeros(len(points), bool)
    return points[column].to_numpy(float) > SATURATED


def is_uncontrolled(points: pd.DataFrame) -> np.ndarray:
    """The models with I_q(y; z_L) for which labels at random were not computed, ``(points,)``.

    Example:
        >>> frame = pd.DataFrame({"beta_1": 1.0, "rate_1": 9.0, "mi_z1": [2.3, 2.3, None]})
        >>> is_uncontrolled(frame.assign(mi_z1_permuted=[2.3, None, None])).tolist()
        [False, True, False]
    """
    column = information(count_layers(points)).column
    known, controlled = (
        np.isfinite(points[name].to_numpy(float)) if name in points else np.zeros(len(points), bool)
        for name in (column, f"{column}_permuted")
    )
    return known & ~controlled
