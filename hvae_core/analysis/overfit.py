"""Whether a run's models know their training images by heart: then they had too few, or too long a training."""

import numpy as np
import pandas as pd

from hvae_core.analysis.points import count_layers, drawable
from hvae_core.analysis.surface import constant_of, objective_values

TOO_FEW = 0.2  # of L, by which test images may cost more than training images


def gap(results: pd.DataFrame) -> float:
    """How much more test images cost than training images, relative to L: median over the models; NaN if unknown.

    L is taken without what it has in common whatever a model learns, see `hvae_core.analysis.surface.constant_of`.

    Example:
        >>> frame = pd.DataFrame({"beta_1": [1.0], "rate_1": [10.0], "distortion": [100.0], "status": ["ok"]})
        >>> round(gap(frame.assign(train_rate_1=10.0, train_distortion=90.0)), 2)
        0.1
    """
    layers = count_layers(results)
    well = results[drawable(results)]
    if "train_distortion" not in well or well["train_distortion"].isna().all():
        return float("nan")
    test, train = objective_values(well, layers), objective_values(well, layers, "train_")
    return float(np.nanmedian((test - train) / (train - constant_of(results))))


def too_few(results: pd.DataFrame) -> str:
    """What is to be said where training images were too few for the training; empty where they were enough."""
    more = gap(results)
    if not more > TOO_FEW:
        return ""
    return (
        f"Too few images: L is {more:.0%} higher on test images than on training images, in the median of the models. "
        "They know training images by heart. Give more images, or fewer epochs."
    )
