"""What results depend on, as text and as hashes: code, objective, data and configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hvae_core.errors import InputError
from hvae_core.files import write_text
from hvae_core.runs.code import code_fingerprint, code_of, described_function
from hvae_core.runs.config import Config
from hvae_core.runs.folder import run_folder


def keep_objective(config: Config, *objectives: Callable[..., Any]) -> None:
    """Keep with the run what it is trained for; of the toy run, for two in turn.

    Raises:
        InputError: when the run was trained for something else.
    """
    path = run_folder(config.name) / "objective.txt"
    described = " ".join(map(described_function, objectives))
    if not path.exists():
        write_text(path, described + "\n")
    elif kept_objective(config.name) != described:
        raise InputError(
            f"run '{config.name}' was begun with another objective than its notebook has now; "
            f"choose another --name, or remove {path.parent}"
        )


def kept_objective(run: str | Path) -> str:
    """What a run was begun with, to compare: as `described_function` gives it."""
    return (run_folder(run) / "objective.txt").read_text().strip()


def training_identity(config: Config, fingerprint: str, objective: Callable[..., Any]) -> str:
    """What the weights of a block are a function of, as a hash: data, configuration, objective and code."""
    unrelated = {
        "name",
        "dataset",
        "generated_samples",
        "classifier_epochs",
        "device",
        "blocks",
        "test_images",
        "likelihood_images",
    }
    values = {key: value for key, value in config.dump().items() if key not in unrelated}
    members = config.block_members()
    code = code_fingerprint(code_of(config, "training"))
    described = json.dumps([values, [members.start, members.stop], fingerprint, described_function(objective), code])
    return hashlib.sha256(described.encode()).hexdigest()[:16]
