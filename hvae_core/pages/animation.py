"""A conditioned network in motion: its betas go round, and reconstructions, samples and rates follow.

    .venv/bin/python -m hvae_core.pages.animation RUN FILE.webp

The noise is held, so that only the betas change what is seen. The file loops, for a README or a slide.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from hvae_core.analysis.points import described, drawable, grid_means
from hvae_core.data.dataset import to_uint8
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.evaluation.generation import samples
from hvae_core.evaluation.rates import average_terms
from hvae_core.evaluation.reconstruction import reconstructions
from hvae_core.figures import panels as draw
from hvae_core.figures.paper import montage
from hvae_core.files import whole_file
from hvae_core.models.conditioning import Conditioned
from hvae_core.progress import track
from hvae_core.runs.folder import load_config
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.results import load_results
from hvae_core.runs.weights import load_network

FRAMES, MILLISECONDS = 60, 120
SHOWN, MEASURED = 16, 256  # test images
LIMIT = 1_500_000  # bytes
QUALITIES = (80, 60, 40, 20)
DPI = 150


def path(low: Sequence[float], high: Sequence[float], frames: int = FRAMES) -> list[tuple[float, float]]:
    """Betas on a closed way round the middle of their range, in equal steps of the logarithm.

    Example:
        >>> [(round(b2, 2), round(b1, 2)) for b2, b1 in path((0.1, 0.1), (100, 100), 4)]
        [(70.79, 3.16), (3.16, 70.79), (0.14, 3.16), (3.16, 0.14)]
    """
    ends = [(math.log(a), math.log(b)) for a, b in zip(low, high, strict=True)]
    turns = [2 * math.pi * frame / frames for frame in range(frames)]
    return [
        tuple(  # type: ignore[misc]  # of two betas
            math.exp((a + b) / 2 + 0.45 * (b - a) * wave(turn))
            for (a, b), wave in zip(ends, (math.cos, math.sin), strict=True)
        )
        for turn in turns
    ]


@torch.no_grad()
def frames(
    network: Conditioned, results: pd.DataFrame, x: Tensor, seed: int, count: int = FRAMES
) -> Iterator[Image.Image]:
    """Pictures of equal size, one for each setting of `path`.

    Arguments:
        network: of two layers.
        results: of its run.
        x: test images ``(images, C, H, W)`` uint8.
        seed: of the noise.
    """
    way = path([low for low, _ in network.betas], [high for _, high in network.betas], count)
    models = [network.at(betas) for betas in way]
    terms = pd.DataFrame([average_terms(model, x[:MEASURED], seed) for model in models])
    with rc_context(draw.STYLE):
        scene = _scene(results, x[:SHOWN].numpy(), way, terms)
    canvas = FigureCanvasAgg(scene.fig)
    scene.fig.set_dpi(DPI)
    for number, (betas, model) in enumerate(zip(way, models, strict=True)):
        distortion, *rates = (float(terms[name].iloc[number]) for name in ("distortion", "rate_2", "rate_1"))
        for point, place in zip(scene.points, (betas, rates), strict=True):
            point.set_offsets(np.array([place]))
        shown = (reconstructions(model, x[:SHOWN]), to_uint8(samples(model, SHOWN, seed)))
        for picture, images in zip(scene.pictures, shown, strict=True):
            picture.set_data(montage(images, 4, 4))
        told = f"$\\beta_2$ = {betas[0]:.2g},  $\\beta_1$ = {betas[1]:.2g}:   D = {distortion:.0f},  "
        scene.said.set_text(f"{told}$R(z_2)$ = {rates[0]:.1f},  $R(z_1|z_2)$ = {rates[1]:.1f} nats per image")
        with rc_context(draw.STYLE):
            canvas.draw()
        scene.fig.set_layout_engine(None)  # it is laid out once, so that nothing jumps
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


class Scene(NamedTuple):
    """The picture, and what of it moves."""

    fig: draw.PaperFigure
    points: tuple[PathCollection, PathCollection]
    pictures: tuple[AxesImage, AxesImage]
    said: Text


def _scene(results: pd.DataFrame, originals: np.ndarray, way: Sequence[Sequence[float]], terms: pd.DataFrame) -> Scene:
    """Both planes with the run's points and the way through them, and three sheets of images."""
    points = grid_means(results)
    fig = draw.new_figure(3.6, described(results), 1.2 * draw.WIDTH)
    grid = fig.add_gridspec(2, 3, height_ratios=(1, 1))
    planes = (draw.beta_plane(points), draw.rate_plane(points))
    colour, known = draw.colour_code(points), np.isfinite(points["rate"].to_numpy())
    moving = []
    for row, (plane, route) in enumerate(
        zip(planes, (np.array(way), terms[["rate_2", "rate_1"]].to_numpy()), strict=True)
    ):
        ax = fig.add_subplot(grid[row, 0])
        draw.set_plane(ax, plane)
        ax.scatter(plane.x[known], plane.y[known], c=colour[known], s=draw.dot_area(points), lw=0, alpha=0.6)
        draw.baselines(ax, points, known, (plane.x, plane.y), circles=False)
        ax.plot(*np.vstack([route, route[:1]]).T, color=draw.BLACK, lw=0.7)
        style: Any = {"s": 60, "c": "white", "edgecolors": draw.BLACK, "linewidths": 1.4, "zorder": 9}
        moving.append(ax.scatter(*route[0], clip_on=False, **style))
        plane.label(ax, "nats")
    sheets = []
    for column, name in ((1, "reconstructions"), (2, "samples")):
        ax = fig.add_subplot(grid[:, column], xticks=[], yticks=[], title=name)
        ax.spines[:].set_visible(False)
        sheets.append(ax.imshow(montage(originals, 4, 4), cmap="gray", vmin=0, vmax=255, interpolation="nearest"))
    said = fig.supxlabel(" ", fontsize=9)
    return Scene(fig, (moving[0], moving[1]), (sheets[0], sheets[1]), said)


def animation(run: str | Path, file: Path, count: int = FRAMES) -> Path:
    """Write the animation of a conditioned run, as WebP of at most `LIMIT` bytes.

    Raises:
        InputError: the run is of other models, is not finished, or the file cannot be so small.
    """
    config = load_config(run)
    if config.kind is not KINDS["conditioned"]:
        raise InputError(f"run '{config.name}' is of {config.models[0]}; one network for all betas is needed")
    results = load_results(run)
    data = load(config.dataset).first(config.train_images, config.test_images)
    seed = int(results.loc[drawable(results), "seed"].min())
    network = load_network(config.name, seed).to("cpu")
    with track("animation", count, "frames") as progress:
        found = []
        for frame in frames(network, results, data.x_test.cpu(), seed, count):
            found.append(frame)
            progress.update(len(found))
    for quality in QUALITIES:
        made = io.BytesIO()
        found[0].save(
            made,
            "WEBP",
            save_all=True,
            append_images=found[1:],
            duration=MILLISECONDS,
            loop=0,
            quality=quality,
            method=4,
        )
        if made.tell() <= LIMIT:
            with whole_file(file) as part:
                part.write_bytes(made.getvalue())
            return file
    raise InputError(f"{file} would have {made.tell() / 1e6:.1f} MB, more than {LIMIT / 1e6:g}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write an animation; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", help="a finished run of one network for all betas: its name or its folder")
    parser.add_argument("file", type=Path, help="such as docs/images/betas.webp")
    args = parser.parse_args(argv)
    try:
        file = animation(args.run, args.file)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
