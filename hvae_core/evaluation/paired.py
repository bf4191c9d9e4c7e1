"""Models on the same test images: how far each setting is behind the best one, and how sure the images make that."""

from collections.abc import Hashable, Sequence

import numpy as np

OF_IMAGES = "of_images"
"""Where the result of a model has what was measured of each image: arrays ``(images,)`` by the name of the metric."""


def behind(values: np.ndarray, settings: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """How far a setting's mean over seeds is behind that of the best setting, and the standard error of this.

    Images differ far more than models do, and all models see the same ones. So the error is that of the differences
    image by image. It says how other images would move them, and not how other seeds would.

    Arguments:
        values: of a metric, higher is better, ``(models, images)``; NaN where a model was not measured.
        settings: of each model: what it has apart from its seed.

    Returns:
        Differences and errors, ``(models,)`` each, in the unit of the metric: those of its setting, 0 for the best.

    Example: of two settings one is worse by 1 or 2 on every image, however much images differ.
        >>> images = np.array([10.0, 20.0, 30.0, 40.0])
        >>> difference, error = behind(np.stack([images, images - [1, 2, 1, 2]]), ["a", "b"])
        >>> difference, error.round(3)
        (array([0. , 1.5]), array([0.   , 0.289]))
    """
    models, images = values.shape
    known = np.isfinite(values).all(1)
    found = np.full((2, models), np.nan)
    if not known.any():
        return found[0], found[1]
    rows: dict[Hashable, list[int]] = {}
    for row in np.flatnonzero(known).tolist():
        rows.setdefault(settings[row], []).append(row)
    means = {setting: values[of].astype(float).mean(0) for setting, of in rows.items()}
    best = max(means.values(), key=lambda mean: float(mean.mean()))
    for setting, of in rows.items():
        difference = best - means[setting]
        error = difference.std(ddof=1) / np.sqrt(images) if images > 1 else np.nan
        found[:, of] = [[difference.mean()], [error]]
    return found[0], found[1]
