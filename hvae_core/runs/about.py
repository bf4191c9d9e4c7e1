"""What a figure says of the run that it is drawn of: tables carry it along, in their ``attrs``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hvae_core.files import read_text
from hvae_core.runs.folder import load_config, run_folder

COLOUR, GREY = (3, 32, 32), (1, 28, 28)
COLOUR_SETS = ("cifar10", "digits-colour", "svhn")
SCORED = 0.2  # of the test images: those on which classifiers are scored


def about(run: str | Path) -> dict[Any, Any]:
    """What the columns of a run's results do not say.

    Arguments:
        run: its name or its folder.

    Returns:
        ``run``: its name. ``objective``: what it was trained for, a line that begins with "Eq. 8" if all betas 1 make
        a VAE of it, and "" where this is not known. ``scored``: on how many images an accuracy was measured, or None.
        ``constant``: what D has that no model can change, in nats per image, see `constant`.
        ``encoder_context``: as in the configuration.

    Raises:
        InputError: there is no such run.
    """
    config, folder = load_config(run), run_folder(run)
    kept, data = folder / "objective.txt", folder / "data.json"
    line = read_text(kept).partition("\n")[0] if kept.exists() else ""
    objective = line if line.startswith(("Eq. 8", "not Eq. 8")) else ""
    if config.target_rates is not None:
        objective = "not Eq. 8 but target rates"
    elif config.warm_up and objective == "Eq. 8":
        objective = f"Eq. 8, betas rising from 0 over the first {config.warm_up:.0%} of training"
    images, shape = None, COLOUR if config.dataset in COLOUR_SETS else GREY
    with suppress(OSError, ValueError, LookupError, TypeError):  # not there yet, or damaged
        described = json.loads(read_text(data))
        images = described["test_images"]
        shape = tuple(described.get("image_shape", COLOUR if described["name"].startswith(COLOUR_SETS) else GREY))
    return {
        "run": folder.name,
        "objective": objective,
        "scored": images and round(SCORED * images),
        "constant": constant(shape, config.sigma_x),
        "encoder_context": config.encoder_context,
    }


def constant(image_shape: Sequence[int], sigma_x: float) -> float:
    """What D of a Gaussian likelihood has that depends on sigma_x and the unit of a pixel alone, nats per image.

    Measure pixels in a unit half as large, and it grows by log 2 for each of them. So no share of D, or of L, means
    anything before it is taken off. Of binary images it is 0.

    Example:
        >>> round(constant((3, 32, 32), 0.71), 1), constant((1, 28, 28), 0.71)
        (1770.8, 0.0)
    """
    if tuple(image_shape) == GREY:
        return 0.0
    return math.prod(image_shape) * 0.5 * math.log(2 * math.pi * sigma_x**2)
