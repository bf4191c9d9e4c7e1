"""Collections: several runs, and what is shown of them together, one YAML file each in ``profiles/collections/``.

::

    runs:
      svhn: svhn-ghvae                                        # a profile
      short: {profile: svhn-ghvae, set: {epochs: 20}}         # with changes
    show:
      fig1: svhn                                              # the run's own figure
      fig9: short/fig8                                        # under another name
      fig3: [svhn, short]                                     # composed of several runs
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hvae_core.errors import InputError
from hvae_core.runs.config import Config
from hvae_core.runs.profiles import PROFILES, load_profile, parsed_change, profiles, read_yaml

COLLECTIONS = PROFILES / "collections"
COMPOSED = ("fig3", "fig5", "fig7", "table1")
"""What several runs can be shown in together: see `hvae_core.figures.composed`."""
APART = ("name", "dataset", "model")
"""What tells the runs of a collection from each other."""
NAME = r"[A-Za-z0-9_]+(-[A-Za-z0-9_-]+)?"


class Shown(NamedTuple):
    """A figure or a table of a collection.

    Attributes:
        runs: the runs that it is of.
        file: the figure or table of a single run that it is; None: it is composed, see `composed_as`.
    """

    runs: tuple[str, ...]
    file: str | None


class Collection(NamedTuple):
    """Several runs, and what is shown of them.

    Attributes:
        name: of the folder of its figures.
        about: its first line.
        runs: by the name that they have in the file.
        changed: the keys in which each differs from its profile.
        show: figures and tables, by name.
    """

    name: str
    about: str
    runs: dict[str, Config]
    changed: dict[str, list[str]]
    show: dict[str, Shown]


def collections() -> list[str]:
    """The names of the collections."""
    return sorted(path.stem for path in COLLECTIONS.glob("*.yaml"))


def is_collection(name: str) -> bool:
    """Whether this is the name of a collection, or the path of a file that holds one.

    Example:
        >>> is_collection("paper"), is_collection("quick")
        (True, False)
    """
    path = _path(name)
    return path.is_file() and (path.parent == COLLECTIONS or "runs" in read_yaml(path))


def _path(name: str) -> Path:
    return Path(name) if name.lower().endswith((".yaml", ".yml")) else COLLECTIONS / f"{name}.yaml"


def load_collection(collection: str, changes: Sequence[str] = (), name: str | None = None) -> Collection:
    """A collection with its runs' configurations.

    A run without changes has its profile's name: it is the one that the profile makes. Others are called after the
    collection.

    Arguments:
        collection: its name, or the path of a YAML file.
        changes: ``key=value`` texts, as after ``--set``, for every run.
        name: of the folder of its figures; None: the collection's.

    Raises:
        InputError: for a file that is wrong, or changes that would make its runs the same or take another's place.

    Example:
        >>> found = load_collection("paper")
        >>> list(found.runs), found.show["fig3"].runs
        (['svhn', 'cifar10', 'mnist', 'lvae'], ('svhn', 'cifar10'))
    """
    path = _path(collection)
    where = f"collection {path.stem}"
    if path.stem in profiles() and path.parent == COLLECTIONS:
        raise InputError(f"{where}: there is a profile of that name; rename {path}")
    values = read_yaml(path)
    if unknown := sorted(set(values) - {"runs", "show"}):
        raise InputError(f"{where}: unknown key '{unknown[0]}'; allowed are runs, show")
    if changes and name is None:
        raise InputError(f"--set changes all runs of {where}, so its figures are others: give it a --name, too")
    called = Config.make({"name": name or path.stem}, source=where).name
    pairs = [parsed_change(change) for change in changes]
    if apart := [key for key, _ in pairs if key in APART]:
        raise InputError(f"--set {apart[0]}: the runs of {where} differ in it; write a collection of your own")
    runs: dict[str, Config] = {}
    changed: dict[str, list[str]] = {}
    for key, of in _named(values, "runs", where).items():
        profile, given = _profile(of, f"{where}: run '{key}'")
        own = f"{called}-{key}" if given or pairs else None
        try:
            runs[key] = load_profile(profile, changes, own, given)
        except InputError as error:
            raise InputError(f"{where}: run '{key}': {error}") from None
        changed[key] = [*given, *dict(pairs)]
        if twice := [other for other in runs if other != key and runs[other].name == runs[key].name]:
            raise InputError(f"{where}: '{twice[0]}' and '{key}' are the same run, {runs[key].name}; leave one out")
    show = {key: _shown(key, of, runs, where) for key, of in _named(values, "show", where).items()}
    about = path.read_text(encoding="utf-8").splitlines()[0]
    return Collection(called, about.lstrip("# ") if about.startswith("#") else "", runs, changed, show)


def composed_as(name: str) -> str:
    """What a composed figure or table is, by its name, which may go on after a dash.

    Example:
        >>> composed_as("fig3"), composed_as("fig3-grey")
        ('fig3', 'fig3')
    """
    return name.partition("-")[0]


def is_table(name: str, shown: Shown, runs: Mapping[str, Config]) -> bool:
    """Whether it is a table, not a figure."""
    if shown.file is None:
        return composed_as(name).startswith("table")
    return shown.file in runs[shown.runs[0]].kind.tables


def _named(values: Mapping[str, Any], part: str, where: str) -> dict[str, Any]:
    """The part of the file that names runs, or figures and tables."""
    found = values.get(part)
    if not isinstance(found, dict) or not found:
        example = "svhn: svhn-ghvae" if part == "runs" else "fig3: [svhn, mnist]"
        raise InputError(f"{where}: {part}: needed are lines such as '{example}'")
    if wrong := [key for key in found if not re.fullmatch(NAME, key)]:
        raise InputError(f"{where}: {part}: '{wrong[0]}': allowed are letters, digits, _ and -, such as fig3-mnist")
    return found


def _profile(of: Any, where: str) -> tuple[str, dict[str, Any]]:
    """A profile and the changes to it."""
    if isinstance(of, str):
        return of, {}
    wrong = not isinstance(of, dict) or set(of) - {"profile", "set"} or not isinstance(of.get("profile"), str)
    given = {} if wrong else of.get("set") or {}
    if wrong or not isinstance(given, dict):
        raise InputError(f"{where}: allowed are a profile, such as quick, and {{profile: quick, set: {{epochs: 5}}}}")
    if "name" in given:
        raise InputError(f"{where}: set: name: the collection names it; leave it out")
    return of["profile"], given


def _shown(key: str, of: Any, runs: Mapping[str, Config], where: str) -> Shown:
    where = f"{where}: show: {key}"
    several = isinstance(of, list)
    names = [str(one) for one in of] if several else [str(of).partition("/")[0]]
    if not names:
        raise InputError(f"{where}: it is of no run; there are {', '.join(runs)}")
    for name in names:
        if name not in runs:
            raise InputError(f"{where}: there is no run '{name}'; there are {', '.join(runs)}")
    if several:
        if composed_as(key) not in COMPOSED:
            raise InputError(f"{where}: of a list of runs there are {', '.join(COMPOSED)}; name one run")
        if len(set(names)) < len(names):
            raise InputError(f"{where}: a run is named twice")
        if other := [name for name in names if "reconstruction" not in runs[name].kind.stages]:
            raise InputError(f"{where}: run '{other[0]}' has no models of Paper A")
        return Shown(tuple(names), None)
    file = str(of).partition("/")[2] or composed_as(key)
    kind = runs[names[0]].kind
    if file not in (*kind.figures, *kind.tables):
        raise InputError(
            f"{where}: run '{names[0]}' has no '{file}'; it has {', '.join((*kind.figures, *kind.tables))}"
        )
    return Shown(tuple(names), file)
