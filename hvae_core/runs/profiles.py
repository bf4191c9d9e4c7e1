"""Profiles: configurations with a name, one YAML file each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.names import DATASETS
from hvae_core.runs.config import Config, shortened

PROFILES = ROOT / "profiles"
TEXT = ("name", "dataset", "model", "encoder_context", "schedule", "precision", "device")
"""The keys whose values are text: it is taken as it is written, also where YAML would see a number."""
NULLS = ("null", "Null", "NULL", "~")


class Loader(yaml.SafeLoader):
    """YAML as people mean it: the core schema of version 1.2, no key twice, and text where a key takes text.

    PyYAML's own schema, of version 1.1, reads ``010`` as 8, ``1:30`` as 90, ``no`` as false and ``1e-3`` as text.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's way

    def construct_document(self, node: yaml.Node) -> Any:
        self.deep_construct = True  # so that a list that holds itself is refused
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            where = f"line {key.start_mark.line + 1}: "
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{where}a key is one word")
            if key.value in values:
                raise InputError(f"{where}'{key.value}' is given twice")
            text = _text(value) if key.value in TEXT else None
            values[key.value] = self.construct_object(value, deep=deep) if text is None else text
        return values

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


def _text(node: yaml.Node) -> str | list[str] | None:
    """Text, or a list of texts, as it is written; None for anything else."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [str(item.value) for item in node.value]
    return None


for _tag, _pattern, _first in (
    ("null", "null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)


class Words(Loader):
    """All of it is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as above


def parse_yaml(text: str, loader: type[Loader] = Loader) -> Any:
    """What a YAML text says.

    Raises:
        InputError: when it is not YAML, or names a key twice.

    Example:
        >>> parse_yaml("{epochs: 010, learning_rate: 1e-3, name: 010, device: no}")
        {'epochs': 10, 'learning_rate': 0.001, 'name': '010', 'device': 'no'}
    """
    try:
        return yaml.load(text, loader)
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"not YAML: {line}{error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError("not YAML: too deep") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, by `Loader`.

    Raises:
        InputError: when the file cannot be read, holds no mapping, or names a key twice.
    """
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a profile is a list of 'key: value' lines")
    return values


def profiles() -> list[str]:
    """The names of the profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(
    profile: str,
    changes: Sequence[str] | Mapping[str, Any] = (),
    name: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of a profile, with changes; dotted keys reach into ``betas``.

    Arguments:
        profile: its name, or the path of a YAML file.
        changes: ``key=value`` texts, as after ``--set``, or a dictionary of keys and values.
        name: of the run; None: the profile's.
        given: keys and values that stand for the profile's, before any change; of a collection.

    Raises:
        InputError: for an unknown profile or key, or a value that is not allowed.

    Example:
        >>> load_profile("quick", ["epochs=5"], name="short").epochs
        5
        >>> load_profile("quick", {"betas.points": 3}).betas.points
        3
    """
    path = Path(profile) if profile.lower().endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    if not path.is_file():
        there = ", ".join(profiles())
        raise InputError(f"no profile '{profile}'; there are {there}, or give a path to a .yaml file")
    values = {"name": path.stem, **read_yaml(path)}
    for key, value in (given or {}).items():
        values |= _changed(values, key, value)
    pairs = list(changes.items() if isinstance(changes, Mapping) else map(parsed_change, changes))
    if name is not None:
        pairs.append(("name", name))
    _check_once([key for key, _ in pairs])
    for key, value in pairs:
        values |= _changed(values, key, value)
    if isinstance(values.get("dataset"), str):
        values["dataset"] = _absolute(values["dataset"])
    return Config.make(values, source=f"profile {path.stem}")


def parsed_change(change: str) -> tuple[str, Any]:
    """The key and the value of a text such as ``epochs=5``."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise InputError(f"--set {change}: write key=value")
    if key in TEXT and not (key == "model" and text.startswith("[")):
        return key, text
    try:
        value = parse_yaml(text, Words if key == "model" else Loader)
    except InputError as error:
        raise InputError(f"--set {key}: '{shortened(text)}' is not a value: {error}") from None
    if value is None and text.strip() not in NULLS:
        raise InputError(f"--set {key}: '{text}' is not a value; write null for none")
    return key, value


def _check_once(keys: Sequence[str]) -> None:
    """No key is changed twice, nor a part of it beside the whole."""
    for index, key in enumerate(keys):
        for other in keys[:index]:
            if key == other:
                raise InputError(f"'{key}' is given twice, by --set or by --name; give it once")
            if key.startswith(f"{other}.") or other.startswith(f"{key}."):
                raise InputError(f"'{other}' and '{key}' are given, a whole and its part; give one of them")


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
    return str(path.resolve()) if dataset and dataset not in DATASETS and path.exists() else dataset
