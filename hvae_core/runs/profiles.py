"""Profiles: configurations with a name, one YAML file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.names import DATASETS
from hvae_core.runs.config import Config

PROFILES = ROOT / "profiles"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: when the file cannot be read or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a profile is a list of 'key: value' lines")
    return values


def profiles() -> list[str]:
    """The names of the profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(profile: str, changes: Sequence[str] | Mapping[str, Any] = (), name: str | None = None) -> Config:
    """The configuration of a profile, with changes; dotted keys reach into ``betas``.

    Arguments:
        profile: its name, or the path of a YAML file.
        changes: ``key=value`` texts, as after ``--set``, or a dictionary of keys and values.
        name: of the run; None: the profile's.

    Raises:
        InputError: for an unknown profile or key, or a value that is not allowed.

    Example:
        >>> load_profile("quick", ["epochs=5"], name="short").epochs
        5
        >>> load_profile("quick", {"betas.points": 3}).betas.points
        3
    """
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    if not path.is_file():
        there = ", ".join(profiles())
        raise InputError(f"no profile '{profile}'; there are {there}, or give a path to a .yaml file")
    values = {"name": path.stem, **read_yaml(path)}
    pairs = changes.items() if isinstance(changes, Mapping) else map(_parsed, changes)
    for key, value in pairs:
        values |= _changed(values, key, value)
    if name is not None:
        values["name"] = name
    if isinstance(values.get("dataset"), str):
        values["dataset"] = _absolute(values["dataset"])
    return Config.make(values, source=f"profile {path.stem}")


def _parsed(change: str) -> tuple[str, Any]:
    """The key and the value of a text such as ``epochs=5``."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise InputError(f"--set {change}: write key=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # such as 2024-13-45, a date that there is not
        raise InputError(f"--set {change}: '{text}' is not a value") from None
    if key == "model" and value is None:
        value = text  # the family --- is the mark of a document's start to YAML
    return key, value


def _changed(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The key of the profile that a change is of, with its new value."""
    outer, dot, inner = key.partition(".")
    if not dot:
        return {key: value}
    if not isinstance(values.get(outer), dict):
        raise InputError(f"--set {key}={value}: '{outer}' has no parts in this profile")
    return {outer: {**values[outer], inner: value}}


def _absolute(dataset: str) -> str:
    """A path that is good in the folder of a job, too; the name of a data set as it is."""
    try:
        path = Path(dataset).expanduser()
    except RuntimeError as error:  # no such user's home
        raise InputError(f"dataset = {dataset}: {error}") from None
    return str(path.resolve()) if path.exists() and dataset not in DATASETS else dataset
