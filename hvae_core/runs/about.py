"""What a figure says of the run that it is drawn of: tables carry it along, in their ``attrs``."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from hvae_core.files import read_text
from hvae_core.runs.folder import load_config, run_folder

SCORED = 0.2  # of the test images: those on which classifiers are scored


def about(run: str | Path) -> dict[Any, Any]:
    """What the columns of a run's results do not say.

    Arguments:
        run: its name or its folder.

    Returns:
        ``run``: its name. ``objective``: what it was trained for, a line that begins with "Eq. 8" if all betas 1 make
        a VAE of it, and "" where this is not known. ``scored``: on how many images an accuracy was measured, or None.

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
    images = None
    with suppress(OSError, ValueError, LookupError, TypeError):  # not there yet, or damaged
        images = json.loads(read_text(data))["test_images"]
    return {"run": folder.name, "objective": objective, "scored": images and round(SCORED * images)}
