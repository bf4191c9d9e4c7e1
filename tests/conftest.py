"""Shared by all tests.

Double precision where truths are checked, places for results, and one small run of the batch.
"""

import ast
import contextlib
import gc
import json
import linecache
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pandas as pd
import pytest
import torch

from hvae_core.claims.report import report
from hvae_core.files import ROOT, locked, write_table
from hvae_core.models.distributions import Bernoulli, Gaussian
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.pipeline import stages, warm
from hvae_core.pipeline.batch import jobs, missing
from hvae_core.pipeline.job import function
from hvae_core.runs.config import Config
from hvae_core.runs.folder import keep_data, open_run
from hvae_core.runs.identity import keep_objective
from hvae_core.training.plan import Member

torch.set_num_threads(1)
hypothesis.settings.register_profile("suite", deadline=None)  # no test depends on how busy the machine is
hypothesis.settings.load_profile("suite")


class Chain(HierarchicalVAE):
    """A hierarchy of any depth made of linear layers: nothing in the core may assume two layers."""

    def __init__(self, layers: int = 3, size: int = 4, width: int = 2) -> None:
        super().__init__()
        self.image_shape = (1, size, size)
        self.latent_shapes = tuple((width + i,) for i in range(layers))
        sizes = [shape[0] for shape in self.latent_shapes]
        self.q = torch.nn.ModuleList(
            torch.nn.Linear(size**2 + (sizes[i - 1] if i else 0), 2 * sizes[i]) for i in range(layers)
        )
        self.p = torch.nn.ModuleList(torch.nn.Linear(sizes[i - 1], 2 * sizes[i]) for i in range(1, layers))
        self.px = torch.nn.Linear(sizes[-1], size**2)

    @staticmethod
    def _gaussian(h: torch.Tensor) -> Gaussian:
        mean, raw = h.chunk(2, -1)
        return Gaussian(mean, torch.nn.functional.softplus(raw) + 1e-3)

    def posterior(self, x, z_above, features=None):
        h = torch.cat([x.flatten(1), *z_above[-1:]], 1)
        return self._gaussian(self.q[len(z_above)](h))

    def prior(self, z_above):
        if not z_above:
            shape = (1, *self.latent_shapes[0])
            return Gaussian(self.px.weight.new_zeros(shape), self.px.weight.new_ones(shape))
        return self._gaussian(self.p[len(z_above) - 1](z_above[-1]))

    def likelihood(self, z):
        return Bernoulli(self.px(z[-1]).unflatten(1, self.image_shape))


@pytest.fixture
def chain():
    return Chain


@pytest.fixture
def double():
    """Computes in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def output(tmp_path, monkeypatch):
    """An empty place for runs/ and figures/."""
    monkeypatch.setenv("HVAE_OUTPUT", str(tmp_path))
    monkeypatch.delenv("HVAE_PROGRESS", raising=False)
    return tmp_path


@pytest.fixture
def images():
    """A few binary images, uint8 (32, 1, 28, 28)."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(32, 1, 28, 28, generator=generator) < 0.3).to(torch.uint8) * 255


def grid(*betas, seeds=1):
    return [Member((b2, b1), seed) for seed in range(seeds) for b2 in betas for b1 in betas]


TINY = [
    "--set",
    "betas=[0.1, 1, 10]",
    "blocks=2",
    "epochs=2",
    "train_images=200",
    "test_images=150",
    "generated_samples=200",
    "classifier_epochs=3",
    "--name",
    "tiny",
]


class Done(NamedTuple):
    """A command that has ended: its status and what it printed."""

    status: int
    printed: str
    errors: str


class Batch(NamedTuple):
    """A copy of the checkout, in which files may be touched, and a place for results."""

    checkout: Path
    output: Path

    def run_all(self, *arguments: str, **env: str) -> Done:
        """``./run_all.sh`` without its set-up, in a process of its own; its jobs are forked from `server`."""
        return self._done("hvae_core", *arguments, **env)

    def job(self, *arguments: str) -> Done:
        """A job of the run ``tiny``, as the batch starts it, without the batch: see `hvae_core.pipeline.job.job`."""
        return self._done("hvae_core.pipeline.job", TINY[-1], *arguments)

    def _done(self, module: str, *arguments: str, **env: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "hvae_core.pipeline.warm", module, *arguments],
            cwd=self.checkout,
            capture_output=True,
            text=True,
            env=self.environment(**(server() | env)),
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def environment(self, **more: str) -> dict[str, str]:
        places = {"HVAE_OUTPUT": str(self.output), "PYTHONPATH": str(self.checkout)}
        return {**os.environ, **places, **more}


SERVER: dict[str, str] = {}
END = contextlib.ExitStack()  # of all tests


def server() -> dict[str, str]:
    """Where processes begin with PyTorch loaded: one server for all tests, in all processes that run them."""
    if not SERVER:
        SERVER.update(END.enter_context(warm.server(os.environ)))
    return SERVER


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Batch, Done]:
    """The run ``tiny``, made once for the whole suite, in all its processes.

    Who changes it takes a copy of it (`own_run`).
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    batch = Batch(place / "checkout", place / "output")
    said = [place / name for name in ("status", "printed", "errors")]
    with locked(place / ".lock"):
        if not said[0].exists():
            for name in ("hvae_core", "notebooks", "profiles"):
                shutil.copytree(ROOT / name, batch.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy2(ROOT / "Snakefile", batch.checkout)
            done = batch.run_all(*TINY, **{"HVAE_PROGRESS": "", warm.WARM: ""})  # with a server of its own
            for path, value in zip(reversed(said), reversed(done), strict=True):
                path.write_text(str(value))
    done = Done(int(said[0].read_text()), said[1].read_text(), said[2].read_text())
    assert done.status == 0, done.printed + done.errors
    return batch, done


@pytest.fixture
def own_run(tiny_run: tuple[Batch, Done], tmp_path: Path) -> Batch:
    """A copy of the run ``tiny`` and of the checkout that made it, both to be changed."""
    batch, _ = tiny_run
    for place in ("checkout", "output"):
        shutil.copytree(getattr(batch, place), tmp_path / place, symlinks=True)
    return Batch(tmp_path / "checkout", tmp_path / "output")


def executed(notebook: str, **parameters: Any) -> list[Any]:
    """What the cells of a notebook show, executed in this process: no kernel starts, and no figure is drawn twice."""
    shown: list[Any] = []
    names: dict[str, Any] = {"__name__": "__main__", "display": lambda *values: shown.extend(values)}
    cells = json.loads((ROOT / f"notebooks/{notebook}.ipynb").read_text())["cells"]
    with pd.option_context("display.max_colwidth", 50):  # notebooks set it
        for number, cell in enumerate(cells):
            if cell["cell_type"] != "code":
                continue
            source, place = "".join(cell["source"]), f"<{notebook}, cell {number}>"
            linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)  # for `inspect`
            body = ast.parse(source).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), place, "exec"), names)
            if last and (value := eval(compile(ast.Expression(last.value), place, "eval"), names)) is not None:
                shown.append(value)
            if "parameters" in cell["metadata"].get("tags", []):
                assert set(parameters) <= set(names)
                names |= parameters
    return shown


def run_here(profile: str | None, changes: Any, name: str) -> list[Any]:
    """Make a run in this process, job after job, without Snakemake and kernels; returns what its last notebook shows.

    It shows what a run makes, not how a batch makes it. Without a profile it is a run that was begun.
    """
    config, shown = stages.begin(profile, changes, name), []
    if config.kind.stages:
        keep_data(config, stages.load_data(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVAE_JOBS", "1")
        for job in jobs(config).values():
            if job.notebook is None:
                function(job.name)(name)
            else:
                begun = {"profile": None} if job.stage == "training" else {}
                block = {} if job.block is None else {"block": job.block}
                shown = executed(job.notebook, name=name, **begun, **block)
            assert (lost := missing(job.makes)) is None, f"{job.name} did not make {lost}"
        report(name)
    return shown


def objective(terms, betas):  # as 10_train has it
    return (terms.distortion + terms.rates @ betas).mean()


def keep_results(config: Config, results: pd.DataFrame) -> None:
    """A run as others find it that look for one to be compared with: its data, its objective and these results."""
    folder = open_run(config)
    keep_data(config, stages.load_data(config))
    keep_objective(config, objective)
    write_table(folder / "results.parquet", results)


SLOW = [
    "slurm",
    "up_to_date",
    "conditioned",
    "chaos",
    "batch",
    "target_rates",
    "deep",
    "families",
    "stacked",
    "store",
    "publish",
    "guidance",
    "own_images",
    "beside",
    "coded",
    "gpus",
    "toy",
    "known",
    "collections",
]
"""Files of tests that train, or execute notebooks, the longest first: ``./run_tests.sh fast`` leaves them out."""
LONG = ["gpu_kit", "report", "figures", "explorer", "findings", "population", "shell", "style", "warm", "convolutions"]
"""Of the others, those that take longest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", type=int, default=3, help="how many mishaps of a batch to try (tests/test_chaos.py)")


def pytest_configure(config: pytest.Config) -> None:
    SERVER.update(getattr(config, "workerinput", {}).get("server", {}))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["server"] = server()


def pytest_collection_finish() -> None:
    """Let the collector pass over what is there to the end, which took it a quarter of the time of a drawing."""
    gc.freeze()
    gc.set_threshold(10_000)


def pytest_unconfigure() -> None:
    gc.unfreeze()
    END.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return order.index(name) if name in order else len(order)

    order = SLOW + LONG
    for item in items:
        if place(item) < len(SLOW) or "tiny_run" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
    items.sort(key=place)  # processes take files in this order: none is left alone with a long one in the end
