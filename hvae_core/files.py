"""Files that are written whole or not at all, and locks.

Without PyTorch and pandas, which take seconds to import: the command itself needs neither.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from safetensors import SafetensorError

from hvae_core.errors import InputError

if TYPE_CHECKING:  # PyTorch takes seconds to import, and most processes of a batch read no weights
    import pandas as pd
    from torch import Tensor

SHORT = 50  # letters of a folder in which sockets lie


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path that becomes ``path`` when the block ends well, durably and at once.

    Raises:
        InputError: when the disk is full or may not be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """A text file, damaged or not: what is no UTF-8 in it is replaced, and will not be taken for what it was."""
    return path.read_text(encoding="utf-8", errors="replace")


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A Parquet file with a checksum of its values, whole or not at all."""
    table = table.copy()
    table.attrs = {**table.attrs, "sha256": table_digest(table)}
    with whole_file(path) as part:
        table.to_parquet(part, index=False)


def table_digest(table: pd.DataFrame) -> str:
    """A checksum of the values of a table and their names, as a text has them."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def digest(tensors: dict[str, Tensor]) -> str:
    """A checksum of tensors and their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Tensors as safetensors, with a checksum."""
    from safetensors.torch import save_file

    tensors = {name: value.contiguous().cpu() for name, value in tensors.items()}
    with whole_file(path) as part:
        save_file(tensors, part, {**metadata, "sha256": digest(tensors)})


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder for as long as the block lasts, with a short path: a socket's has at most 107 bytes.

    Raises:
        InputError: when none can be made.
    """
    problem = ""
    for place in ("/tmp", os.environ.get("TMPDIR", ""), "/var/tmp", "/dev/shm"):
        if not place or len(place) > SHORT:
            continue
        try:
            folder = tempfile.TemporaryDirectory(prefix="hvae-", dir=place)
        except OSError as error:
            problem = problem or f"cannot write {place}: {error.strerror}; TMPDIR can be another folder"
            continue
        with folder as path:
            yield Path(path)
            return
    raise InputError(f"{problem}, whose path has at most {SHORT} letters")


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[IO[str] | None]:
    """Hold the lock ``path``; yields its open file, or None if another process has it and ``wait`` is false.

    The system releases it when the last process that has the file open ends, however it ends.

    Raises:
        InputError: when the file may not be made there, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = open(path, "a")  # noqa: SIM115
    except (NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        except OSError as error:  # as on a network file system that is mounted without locks
            raise InputError(f"cannot lock {path}: {error.strerror}; results need a file system with locks") from None
        yield file


def timestamp() -> str:
    """Now, in UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


ROOT = Path(__file__).resolve().parents[1]
