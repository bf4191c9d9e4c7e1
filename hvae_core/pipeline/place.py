"""Where a run is computed: the device, and how many processes and threads."""

from __future__ import annotations

import os
import platform

import torch

from hvae_core.errors import InputError
from hvae_core.pipeline.job import GPU
from hvae_core.runs.config import Config
from hvae_core.runs.provenance import cores


def device(config: Config) -> torch.device:
    """The device of a run: the GPU if there is one and the configuration allows it.

    Raises:
        InputError: when ``device: cuda`` is asked for and there is none.
        RuntimeError: when the GPU that the batch gave does not answer, rather than compute without for days.
    """
    given = os.environ.get(GPU)
    if given and config.device != "cpu" and not torch.cuda.is_available():
        raise RuntimeError(f"GPU {given} of {platform.node()} does not answer: PyTorch finds no CUDA device")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device = cuda: PyTorch finds no CUDA device here; use auto or cpu")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def jobs() -> int:
    """How many processes a stage may use: ``HVAE_JOBS``, or as many as there are `cores`.

    Raises:
        InputError: when ``HVAE_JOBS`` is no number from 1.
    """
    given = os.environ.get("HVAE_JOBS") or str(cores())
    if not (given.isdecimal() and int(given)):
        raise InputError(f"HVAE_JOBS = {given}: allowed are whole numbers from 1")
    return int(given)


def threads() -> int:
    """How many threads may compute at once: `jobs`, where an operation does not take all cores itself."""
    return jobs() if torch.get_num_threads() == 1 else 1
