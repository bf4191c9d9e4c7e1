"""Rows of images, to look at in a notebook."""

from collections.abc import Sequence

import numpy as np

from hvae_core.figures.panels import PaperFigure, new_figure
from hvae_core.figures.paper import styled


@styled
def image_rows(rows: Sequence[np.ndarray], names: Sequence[str] = (), title: str = "") -> PaperFigure:
    """A figure of images, one row for each array.

    Arguments:
        rows: ``(images, C, H, W)`` uint8 each, all of equal length.
        names: what stands at the left of each row, such as its betas; none for no names.
        title: what was trained, such as the data set.

    Example:
        >>> fig = image_rows([np.zeros((4, 1, 8, 8), np.uint8)] * 2, ["test images", "β = (1, 1)"])
        >>> [label.get_text() for label in fig.axes[0].get_yticklabels()]
        ['test images', 'β = (1, 1)']
    """
    strips = [np.concatenate(list(row.transpose(0, 2, 3, 1)), axis=1) for row in rows]
    picture = np.concatenate(strips, axis=0)
    fig = new_figure((4.5 if names else 5.5) * picture.shape[0] / picture.shape[1] + (0.25 if title else 0), title)
    ax = fig.add_subplot(xticks=[])
    ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    height = len(picture) / len(rows)
    ax.set_yticks(height * (np.arange(len(names)) + 0.5) - 0.5, names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return fig
