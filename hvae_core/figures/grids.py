"""Rows of images, to look at in a notebook."""

from collections.abc import Sequence

import numpy as np

from hvae_core.figures.panels import PaperFigure, new_figure


def image_rows(rows: Sequence[np.ndarray]) -> PaperFigure:
    """A figure of images, one row for each array ``(images, C, H, W)`` uint8; all rows of equal length."""
    strips = [np.concatenate(list(row.transpose(0, 2, 3, 1)), axis=1) for row in rows]
    picture = np.concatenate(strips, axis=0)
    fig = new_figure(height=5.5 * picture.shape[0] / picture.shape[1], title="")
    ax = fig.add_subplot()
    ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    return fig
