"""What results depend on, as text and as hashes: code, objective, data and configuration."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import textwrap
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hvae_core.errors import InputError
from hvae_core.files import read_text, write_text
from hvae_core.runs.code import code_of, described_function, does, referred, running
from hvae_core.runs.config import Config
from hvae_core.runs.folder import run_folder
from hvae_core.runs.weights import trained_for

CHECKSUM = "sha256 "
OBJECTIVE = "objective.py"
"""In a run's folder: the objective that takes the place of its notebook's."""


def keep_objective(config: Config, *objectives: Callable[..., Any]) -> None:
    """Keep with the run what it is trained for, to be read and to be compared; of the toy run, for two in turn.

    ``objective.txt`` begins with a line for figures, "Eq. 8" or what it is instead; then comes the source, with what
    it refers to; its last line is a checksum, which comments and layout do not change.

    Raises:
        InputError: when the run was trained for something else.
    """
    path = run_folder(config.name) / "objective.txt"
    checksum = objective_checksum(*objectives)
    trained = trained_for(config.name)
    if not trained and path.exists() and _begun(path.parent):
        trained = {kept_objective(config.name)}
    if trained and checksum not in trained:
        raise InputError(
            f"run '{config.name}' was trained for another objective than its notebook has now (objective.txt there "
            "shows it); undo the change, or choose another --name for the new one, or give it by --objective FILE"
        )
    if not path.exists() or not read_text(path).endswith(f"{CHECKSUM}{checksum}\n"):
        line = ", then ".join(named_objective(function, config.layers) for function in objectives)
        parts = dict.fromkeys(part for function in objectives for part in _sources(function))
        write_text(path, "\n\n".join([line, *parts, f"{CHECKSUM}{checksum}"]) + "\n")


def kept_objective(run: str | Path) -> str:
    """What a run was begun with, to compare: the checksum of `keep_objective`."""
    text = read_text(run_folder(run) / "objective.txt").strip()
    *_, last = text.splitlines() or [""]
    return last.removeprefix(CHECKSUM) if last.startswith(CHECKSUM) else _checksum(text)


def read_objective(path: str | Path) -> str:
    """The text of a Python file that defines ``objective(terms, betas)``.

    Raises:
        InputError: when it cannot be read, is not Python or defines no such function.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except OSError as error:
        raise InputError(f"--objective {path}: {error.strerror}") from None
    except SyntaxError as error:
        raise InputError(f"--objective {path}, line {error.lineno}: {error.msg}") from None
    except ValueError:  # not UTF-8, or null bytes
        raise InputError(f"--objective {path}: not a text in UTF-8") from None
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    defined += [target.id for target in assigned if isinstance(target, ast.Name)]
    if "objective" not in defined:
        raise InputError(f"--objective {path}: it defines no function objective(terms, betas)")
    return text


def give_objective(config: Config, text: str) -> None:
    """Give a run the objective that it is trained for, in the place of its notebook's.

    Raises:
        InputError: when it was trained for another, or its models are not trained by the notebook that asks for one.
    """
    if not config.kind.stages:
        raise InputError(f"--objective: {config.kind.notebook} trains {config.models[0]} for objectives of its own")
    path = run_folder(config.name) / OBJECTIVE
    there = path.read_text(encoding="utf-8") if path.exists() else None
    if _begun(path.parent) and (there is None or does(there, OBJECTIVE) != does(text, OBJECTIVE)):
        raise InputError(f"run '{config.name}' was trained for another objective; choose another --name for this one")
    if there != text:
        write_text(path, text)


def objective_checksum(*objectives: Callable[..., Any]) -> str:
    """What objectives do, as a hash: comments and layout do not change it."""
    return _checksum(" ".join(map(described_function, objectives)))


def _begun(folder: Path) -> bool:
    """Whether anything was trained there that is kept."""
    return (folder / "results.parquet").exists() or any(folder.glob("checkpoints/**/*.safetensors"))


def check_objective(objective: Callable[..., Any], layers: int) -> None:
    """Raise unless an objective gives one number for a batch, that of a tensor which training can minimise.

    Raises:
        InputError: it fails, or returns something else.
    """
    import torch

    from hvae_core.terms import Terms

    terms = Terms(torch.rand(3, requires_grad=True), torch.rand(3, layers, requires_grad=True))
    try:
        loss = objective(terms, torch.ones(layers))
    except Exception as error:  # whatever somebody's own code raises
        raise InputError(
            f"the objective fails{_line(objective, error)}: {type(error).__name__}: {error}; it is called as "
            "objective(terms, betas): terms.distortion is (batch,), terms.rates (batch, L), betas (L,)"
        ) from error
    if isinstance(loss, torch.Tensor) and not loss.shape and loss.requires_grad:
        return
    if isinstance(loss, torch.Tensor):
        found = f"a tensor of shape {tuple(loss.shape)}" if loss.shape else "one that does not depend on the terms"
    else:
        found = f"{loss!r} ({type(loss).__name__})"
    raise InputError(
        f"the objective must return one number for the batch: a tensor without "
        f"dimensions, such as (terms.distortion + terms.rates @ betas).mean(); it returned {found}"
    )


def _line(function: Callable[..., Any], error: Exception) -> str:
    """The last line in the file of a function that an error went through, as far as it is known."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file and frame.line]
    return f" at '{lines[-1]}'" if lines else ""


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def named_objective(function: Callable[..., Any], layers: int) -> str:
    """An objective in a line: "Eq. 8" for all that has its values and gradients, otherwise its formula or its name.

    Example:
        >>> from hvae_core.objective import lagrangian, target_rate
        >>> named_objective(lagrangian, 2)
        'Eq. 8'
        >>> named_objective(target_rate, 2)
        'not Eq. 8 but terms.distortion.mean() + weight * (terms.rates.mean(0) - targets).abs().sum()'
    """
    return "Eq. 8" if is_eq_8(function, layers) else f"not Eq. 8 but {_formula(function)}"


def is_eq_8(function: Callable[..., Any], layers: int) -> bool:
    """Whether an objective has the values and the gradients of `lagrangian`, tried at random terms and betas."""
    import torch  # takes seconds

    from hvae_core.objective import lagrangian
    from hvae_core.terms import Terms

    random = torch.Generator().manual_seed(0)

    def spread(low: float, high: float, *shape: int) -> torch.Tensor:
        """Evenly spread in the logarithm."""
        return low * (high / low) ** torch.rand(shape, generator=random, dtype=torch.float64)

    for _ in range(8):
        terms = Terms(spread(1, 1e3, 6).requires_grad_(), spread(1e-3, 1e2, 6, layers).requires_grad_())
        betas, found = spread(0.05, 200, layers), []
        for objective in (function, lagrangian):
            try:
                loss = objective(terms, betas)
                found.append(torch.cat([part.ravel() for part in (loss, *torch.autograd.grad(loss, list(terms)))]))
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AttributeError):
                return False
        given, wanted = found
        if given.shape != wanted.shape or not torch.allclose(given, wanted, rtol=1e-5):
            return False
    return True


def _formula(function: Callable[..., Any]) -> str:
    """What a function returns, if that is all it does; otherwise its name."""
    if isinstance(function, partial):
        given = [*map(str, function.args), *(f"{name} = {value}" for name, value in function.keywords.items())]
        return f"{_formula(function.func)} with {', '.join(given)}"
    with suppress(OSError, TypeError, SyntaxError, StopIteration):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        body = next(node.body for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda)))
        if isinstance(body, ast.expr):
            return ast.unparse(body)
        code = [node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
        if len(code) == 1 and isinstance(code[0], ast.Return) and code[0].value:
            return ast.unparse(code[0].value)
    return f"{function.__name__}, see objective.txt"


def _sources(function: Callable[..., Any], depth: int = 3) -> list[str]:
    """The source of a function, then that of what it refers to; of this package's functions where they are from."""
    if isinstance(function, partial):
        return [f"# {_formula(function)}", *_sources(function.func, depth)]
    if function.__module__.startswith("hvae_core."):
        return [f"from {function.__module__} import {function.__name__}"]
    try:
        parts = [textwrap.dedent(inspect.getsource(function)).strip()]
    except (OSError, TypeError):
        parts = [f"# the source of {function.__name__} is not known"]
    for name, value in referred(function).items():
        if depth and (inspect.isfunction(value) or (isinstance(value, partial) and inspect.isfunction(value.func))):
            parts += _sources(value, depth - 1)
        elif not inspect.ismodule(value) and not isinstance(value, type):
            parts.append(f"{name} = {re.sub(r' at 0x[0-9a-f]+', '', repr(value))}")
    return parts


def training_identity(config: Config, fingerprint: str, objective: Callable[..., Any]) -> str:
    """What the weights of a block are a function of, as a hash: data, configuration, objective and code."""
    unrelated = {
        "name",
        "dataset",
        "generated_samples",
        "classifier_epochs",
        "device",
        "blocks",
        "test_images",
        "likelihood_images",
    }
    values = {key: value for key, value in config.dump().items() if key not in unrelated}
    members = config.block_members()
    code = running(code_of(config, "training")).fingerprint
    described = json.dumps([values, [members.start, members.stop], fingerprint, described_function(objective), code])
    return hashlib.sha256(described.encode()).hexdigest()[:16]
