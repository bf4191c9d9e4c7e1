"""What a command need not find out anew: of which data a run is, and what its code does.

To read data takes PyTorch, which takes seconds to import, and the code has to be parsed. What was found is kept beside
the run with a checksum of all that it follows from: what was asked for, the bytes of the data's files, the package, the
libraries. Where any of them is another, or what is kept is damaged, it is found out anew.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection
from contextlib import suppress
from importlib.metadata import version

from hvae_core.data.sources import checksum
from hvae_core.files import write_text
from hvae_core.runs.code import code_fingerprint, code_of, package_digest
from hvae_core.runs.config import Config
from hvae_core.runs.folder import Described, run_folder

DATA, CODE = ".progress/data.known", ".progress/code.known"
"""In a run's folder: what was found, each behind a checksum of it and of what it was found for."""
LIBRARIES = ("numpy", "pillow", "scikit-learn", "scipy", "torch")


def asked(config: Config, given: Collection[str] = ()) -> str | None:
    """A checksum of a configuration, of which keys of it were set, and of all that its data are read from and by.

    Returns:
        None where a file of the data cannot be read.
    """
    files = checksum(config.dataset)
    versions = [platform.python_version(), *map(version, LIBRARIES)]
    described = json.dumps([config.dump(), sorted(given), files, package_digest(), versions])
    return hashlib.sha256(described.encode()).hexdigest() if files else None


def known_data(config: Config, question: str | None) -> Described | None:
    """The data of a run of which the same was `asked` before; None where they have to be read."""
    folder = run_folder(config.name)
    with suppress(OSError, ValueError, TypeError):  # not there, or damaged
        answer = (folder / "data.json").read_text(encoding="utf-8")
        if question and (folder / DATA).read_text(encoding="utf-8") == _checksum(question, answer):
            return Described(**json.loads(answer)) if (folder / "config.yaml").exists() else None
    return None


def remember_data(config: Config, question: str) -> None:
    """Keep that ``data.json`` is the answer to what was `asked`."""
    folder = run_folder(config.name)
    write_text(folder / DATA, _checksum(question, (folder / "data.json").read_text(encoding="utf-8")))


def stage_fingerprint(config: Config, stage: str) -> str:
    """A hash of the code that computes a stage of a run (see `code_of`), as it was kept, or else worked out."""
    found: str = _kept_code(config).get(stage) or code_fingerprint(code_of(config, stage))
    return found


def remember_code(config: Config, stages: Collection[str]) -> None:
    """Keep what computes these stages, for this package and configuration: to work it out takes a second."""
    if set(stages) <= set(_kept_code(config)):
        return
    answer = json.dumps({stage: stage_fingerprint(config, stage) for stage in sorted(set(stages))})
    write_text(run_folder(config.name) / CODE, _checksum(_coded(config), answer) + answer)


def _kept_code(config: Config) -> dict[str, str]:
    with suppress(OSError, ValueError):  # not there, or damaged
        first, _, answer = (run_folder(config.name) / CODE).read_text(encoding="utf-8").partition("\n")
        if f"{first}\n" == _checksum(_coded(config), answer):
            found: dict[str, str] = json.loads(answer)
            return found
    return {}


def _coded(config: Config) -> str:
    return f"{package_digest()} {json.dumps(config.dump())}"


def _checksum(question: str, answer: str) -> str:
    return hashlib.sha256(f"{question}\n{answer}".encode()).hexdigest() + "\n"
