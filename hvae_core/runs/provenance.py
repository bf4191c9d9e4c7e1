"""What a result needs to be made again: commit, versions and device."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hvae_core.files import ROOT


@cache
def commit() -> dict[str, Any]:
    """The commit that the code comes from, and whether files (but for results and texts) differ from it.

    Nulls outside a repository.
    """
    try:
        head, status = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", ".", ":!published", ":!docs"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(status)}


def provenance() -> dict[str, Any]:
    """Commit, versions and device: what a result needs to be made again."""
    import torch

    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib")
    return {
        **commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "device": device_name(gpu=torch.cuda.is_available()),
        "cores": os.cpu_count(),
    }


def device_name(gpu: bool) -> str:
    """The GPU's name, or the processor's, where Linux tells it, or else its kind."""
    if gpu:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
