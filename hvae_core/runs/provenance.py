"""What a result needs to be made again: code, versions and device."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hvae_core.files import ROOT

CODE = ("hvae_core/**/*.py", "notebooks/*.ipynb", "Snakefile")


@cache
def commit() -> dict[str, Any]:
    """Which code runs here: a hash of it, its commit, and whether files (but for results and texts) differ from that.

    Commit and ``dirty`` are null where this checkout is not a git repository itself, whatever repository it lies in.

    Example:
        >>> sorted(commit())
        ['code', 'commit', 'dirty']
    """
    return {**_commit(ROOT), "code": code_hash(ROOT)}


def _commit(root: Path) -> dict[str, Any]:
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return {"commit": None, "dirty": None}
        status = _git(root, "status", "--porcelain", "--", ".", ":!published", ":!docs")
        return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": bool(status)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _git(root: Path, *words: str) -> str:
    # GIT_DIR and its like, which a hook of git sets, speak of another repository; GIT_CONFIG_* may say whom to trust.
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")
    }
    done = subprocess.run(["git", *words], cwd=root, env=own, capture_output=True, check=True)
    return os.fsdecode(done.stdout).removesuffix("\n")


def code_hash(root: Path) -> str:
    """A hash of the code in a checkout: `hvae_core`, the notebooks' cells without their outputs, and the Snakefile.

    Equal hashes mean equal code, with git or without.

    Example:
        >>> len(code_hash(ROOT))
        16
    """
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in root.glob(pattern)):
        content = path.read_bytes() if path.suffix != ".ipynb" else _cells(path.read_bytes())
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


def _cells(notebook: bytes) -> bytes:
    """What stands in the cells of a notebook; of a damaged one, all that is there."""
    try:
        cells = json.loads(notebook)["cells"]
        return json.dumps([[cell["cell_type"], "".join(cell["source"])] for cell in cells]).encode()
    except (ValueError, TypeError, KeyError):
        return notebook


def provenance() -> dict[str, Any]:
    """Code, versions and device: what a result needs to be made again."""
    import torch

    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib")
    return {
        **commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "device": device_name(gpu=torch.cuda.is_available()),
        "cores": cores(),
    }


def cores() -> int:
    """How many processors this process may use: affinity and the limits of a container count.

    Example:
        >>> 1 <= cores() <= os.cpu_count()
        True
    """
    from joblib import cpu_count

    return int(cpu_count())


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
