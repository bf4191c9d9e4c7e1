"""What code does, as text and as a hash: comments, docstrings and layout do not change it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.models import module_of
from hvae_core.runs.config import Config


def _code(node: ast.AST) -> str:
    """A syntax tree as text, without docstrings.

    The same in every version of Python, which differ in the empty lists that they name.
    """
    for part in ast.walk(node):
        body = getattr(part, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body.pop(0)  # a docstring
    return _spelled(node)


def _spelled(node: Any) -> str:
    if isinstance(node, list):
        return f"[{', '.join(map(_spelled, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    there = [
        (name, value)
        for name, value in ast.iter_fields(node)
        if value != [] and (value is not None or (isinstance(node, ast.Constant) and name == "value"))
    ]
    return f"{type(node).__name__}({', '.join(f'{name}={_spelled(value)}' for name, value in there)})"


def code_of(config: Config, stage: str) -> list[str]:
    """The modules and functions of `hvae_core` that compute a stage of a run: all that they import is among them.

    Only `NEUTRAL` modules are left out. When what these do changes, the stage is out of date.

    Example:
        >>> "hvae_core.models.ghvae" in code_of(Config(model="ghvae"), "training")
        True
    """
    if stage in WRITTEN:
        return sorted(set().union(*(_closure(start) for start in WRITTEN[stage]())))
    starts, functions = MEASURES[stage]
    if stage == "training":
        deep = config.latent_sizes is not None
        starts = (*starts, config.kind.trainer, *(module_of(name, deep) for name in config.models))
        if not config.kind.stages:  # one notebook trains and measures
            starts = (*starts, "hvae_core.evaluation.toy")
    modules = set().union(*(_closure(start) for start in starts))
    return [*sorted(modules), *functions]


MEASURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "training": (
        ("hvae_core.evaluation.rates", "hvae_core.evaluation.stacked"),
        ("hvae_core.pipeline.training", "hvae_core.pipeline.measuring:sparse"),
    ),
    **{
        stage: (("hvae_core.evaluation.stacked", *modules), (f"hvae_core.pipeline.stages:{function}",))
        for stage, modules, function in (
            ("reconstruction", ("hvae_core.evaluation.reconstruction",), "reconstruct"),
            ("generation", ("hvae_core.evaluation.generation", "hvae_core.evaluation.classifier"), "generate"),
            ("representation", ("hvae_core.evaluation.representation",), "represent"),
            ("likelihood", ("hvae_core.evaluation.likelihood",), "bound_likelihood"),
        )
    },
}
"""Where each stage is computed: modules with all that they import, then modules and functions by themselves."""
WRITTEN: dict[str, Callable[[], Iterable[str]]] = {
    "tables": lambda: ["hvae_core.runs.results"],
    "figures": lambda: [
        "hvae_core.pipeline.drawing",
        "hvae_core.models.table",
        *(
            f"hvae_core.{room}.{path.stem}"
            for room in ("analysis", "figures")
            for path in (ROOT / "hvae_core" / room).glob("[!_]*.py")
        ),
    ],
    "pages": lambda: ["hvae_core.pipeline.paging"],
}
"""What writes tables, figures and pages. They are made again in seconds, so all that is imported there counts."""
NEUTRAL = {f"hvae_core.{name}" for name in ("errors", "files", "models", "names", "progress")}
"""They hold names, messages and files, and compute nothing: to register a model makes no other run out of date."""


@cache
def _closure(module: str) -> frozenset[str]:
    """A module, and all of this package that it imports, however far down; types alone do not count."""
    found, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _imports(source(name), name) - found - NEUTRAL
    return frozenset(found)


@cache
def _imports(text: str, module: str) -> set[str]:
    """The modules of this package that a module of this text imports, in functions too."""
    names: set[str] = set()
    for node in _computing(_parsed(text, module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hvae_core"):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if _file(name)}
            names |= modules or {str(node.module)}
            names |= {str(node.module)} if len(modules) < len(inner) else set()
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("hvae_core.")}
    return names


def _computing(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements but those under ``if TYPE_CHECKING``, and the outermost nodes of what is in them."""
    waiting = [tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                continue
            yield node
            if not isinstance(node, ast.expr):  # in which nothing is imported
                waiting.append(node)


TEXTS = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("hvae_core/**/*.py"))}
"""The package as it was when this process began."""


def _file(module: str) -> Path | None:
    """The file of a module of this package; None if there is none."""
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file in TEXTS), None)


def source(module: str) -> str:
    """The text of a module of this package, or of one of its functions, named ``module:function``.

    As it was when this process began: what is edited meanwhile is not what runs here.
    """
    name, _, function = module.partition(":")
    path = _file(name)
    assert path is not None, f"there is no module {name}"
    text = TEXTS[path]
    if not function:
        return text
    node = next(node for node in _parsed(text, name).body if getattr(node, "name", "") == function)
    return ast.get_source_segment(text, node) or ""


def code_fingerprint(names: Iterable[str]) -> str:
    """A hash of what these modules and functions do (see `source`).

    Comments, docstrings and layout do not change it.
    """
    digest = hashlib.sha256()
    for name in names:
        digest.update(does(source(name), name).encode())
    return digest.hexdigest()[:16]


@cache
def does(text: str, module: str) -> str:
    """What a text in Python does: the text without comments, docstrings and layout.

    Raises:
        InputError: when it is not Python; it names ``module`` and the line.
    """
    return _code(_parsed(text, module))


@cache
def _parsed(text: str, module: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise InputError(f"{module}, line {error.lineno}: {error.msg}") from None


class Running(NamedTuple):
    """The code that a process computes with.

    Attributes:
        names: modules and functions, as `code_of` gives them.
        fingerprint: of them (see `code_fingerprint`).
        package: see `package_digest`.
    """

    names: tuple[str, ...]
    fingerprint: str
    package: str

    def check(self) -> None:
        """Raise unless the process that calls this, too, computes with this code.

        Raises:
            InputError: when a module was edited between the starts of the two.
        """
        if package_digest() != self.package and code_fingerprint(self.names) != self.fingerprint:
            raise InputError("hvae_core was edited while it computes; give the same command again")


@cache
def package_digest() -> str:
    """A hash of all files of the package and their names, as it was when this process began."""
    named = [f"{path.relative_to(ROOT)}\0{text}" for path, text in TEXTS.items()]
    return hashlib.sha256("\0".join(named).encode()).hexdigest()


def running(names: Iterable[str]) -> Running:
    """What this process computes with: the modules are imported, if they were not yet.

    Raises:
        InputError: when one of them was edited since the process began, so that it is not known what runs.
    """
    names = tuple(names)
    modules = sorted({name.partition(":")[0] for name in names})
    for module in modules:
        importlib.import_module(module)
    for module in modules:
        path = _file(module)
        assert path is not None
        now = path.read_text(encoding="utf-8") if path.exists() else ""
        if now != TEXTS[path] and does(now, module) != does(TEXTS[path], module):
            raise InputError(
                f"{path} was edited since this process began; restart the kernel, or give the command again"
            )
    return Running(names, code_fingerprint(names), package_digest())


def described_function(function: Callable[..., Any], depth: int = 3) -> str:
    """What a function does, as text: its code without comments, and the values and functions that it refers to.

    Raises:
        InputError: when it is neither a function nor a `functools.partial` of one.
    """
    if isinstance(function, partial):
        given = [*enumerate(function.args), *sorted(function.keywords.items())]
        return (
            f"{described_function(function.func, depth)} given "
            f"{', '.join(f'{name} = {_described_value(value)}' for name, value in given)}"
        )
    if not inspect.isfunction(function):
        raise InputError(f"{function!r} is no function; give one, or a functools.partial of one")
    try:
        text = _code(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):
        code = function.__code__
        text = f"{code.co_code.hex()} {code.co_consts} {code.co_names}"
    for name, value in referred(function).items():
        if inspect.isfunction(value) or (isinstance(value, partial) and inspect.isfunction(value.func)):
            text += (
                f" {name}: "
                f"{described_function(value, depth - 1) if depth else getattr(value, '__qualname__', 'partial')}"
            )
        elif not inspect.ismodule(value) and not isinstance(value, type):
            text += f" {name} = {_described_value(value)}"
    return text


def referred(function: Callable[..., Any]) -> dict[str, Any]:
    """What a function refers to outside of itself, by name: values, functions, modules and types."""
    names: set[str] = set()
    codes = [function.__code__]
    while codes:  # comprehensions and inner functions have code of their own
        code = codes.pop()
        names.update(code.co_names)
        codes += [part for part in code.co_consts if inspect.iscode(part)]
    known = {name: function.__globals__[name] for name in names if name in function.__globals__}
    return dict(sorted({**known, **inspect.getclosurevars(function).nonlocals}.items()))


def _described_value(value: Any) -> str:
    """A value as text.

    Of a large array, which shows but its ends, with a checksum, and of an object without its address.
    """
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return (
        f"{text} {hashlib.sha256(repr(value.tolist()).encode()).hexdigest()[:16]}"
        if hasattr(value, "tolist") and "..." in text
        else text
    )
