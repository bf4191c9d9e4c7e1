"""The files that a data set is read from, and what is in them: to know that it is the same without reading it.

Without PyTorch, which takes seconds to import.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from hvae_core.data.download import SOURCES, root_of
from hvae_core.errors import InputError
from hvae_core.names import DATASETS


def files(name: str, root: Path | str | None = None) -> list[Path]:
    """All files and folders that `hvae_core.data.readers.load` may look for, whether they are there or not.

    Example:
        >>> [path.name for path in files("mnist-mini")], [path.name for path in files("mine.npz")]
        (['mnist_mini.npy'], ['mine.npz'])
    """
    if name in ("digits", "digits-colour"):
        package = importlib.util.find_spec("sklearn")
        return [Path(str(package and package.origin)).parent / "datasets" / "data" / "digits.csv.gz"]
    if name == "mnist-mini":
        return [Path(__file__).with_name("mnist_mini.npy")]
    if name not in DATASETS:
        path = Path(name).expanduser()
        return [path / "train", path / "test"] if path.is_dir() else [path]
    found = []
    for source in (SOURCES[of] for of in ((name, "mnist") if name == "static-mnist" else (name,))):
        names = [*source.files, *(file.removesuffix(".gz") for file in source.files), *source.others]
        found += [root_of(root) / folder / file for folder in source.folders for file in dict.fromkeys(names)]
    return found


def checksum(name: str, root: Path | str | None = None) -> str | None:
    """A checksum of all bytes in these files, with their names and which of them there are; not of where they lie.

    Returns:
        None where one of them cannot be read.
    """
    try:
        called = Path(name).expanduser().resolve().name  # what a link leads to, as a data set of pictures is called
        described = [called, [[path.name, _content(path)] for path in files(name, root)]]
    except (OSError, InputError, ValueError):
        return None
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _content(path: Path, below: int = 2) -> Any:
    """Of a file its checksum, of a folder those of what is in it, as far down as a reader looks; None of neither."""
    if path.is_dir():
        return [[one.name, _content(one, below - 1)] for one in sorted(path.iterdir())] if below else []
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
