"""The batch as a list of jobs: what each reads and makes, and whether what it made still holds.

What is up to date follows from content: the cells of its notebook, the code, the settings and the files that a job
reads make its key; the files that it made are known by their checksums. Both are kept in the record of the job,
``.progress/<job>.job``. No time of any file counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.runs.config import Config
from hvae_core.runs.folder import comparable_runs, figure_folder, run_folder
from hvae_core.runs.identity import OBJECTIVE
from hvae_core.runs.kinds import NOTEBOOKS
from hvae_core.runs.known import remember_code, stage_fingerprint
from hvae_core.runs.weights import block_folder, saved_training

SHOWN = ("reconstruction", "generation", "likelihood")
"""Stages that keep images to look at."""
PARALLEL = ("representation", "likelihood")
"""The heaviest stages, which evaluate several models at once."""
BESIDE = ("60_rate_distortion", "80_target_rates", "95_conditioned")
"""Notebooks that draw other runs on the same data, too."""
FRAMED = ("95_conditioned",)
"""Notebooks that show a page of the run."""
ASSETS = [path for path in (ROOT / "hvae_core" / "pages").rglob("*") if path.suffix in (".html", ".css", ".js")]
"""What pages are made of, besides results and the code of `hvae_core.pages`."""
MARKS = ".progress/done"
"""Of the jobs that hold, for Snakemake: empty files with their names."""
FREE = {"name", "device", "block", "blocks"}
"""Settings on which no result depends."""


class Job(NamedTuple):
    """A job of the batch.

    Attributes:
        name: of its record, and of the notebook as it was executed.
        stage: what it computes, as `hvae_core.runs.code.code_of` knows it.
        after: names of the jobs whose files it reads.
        makes: the files that are there when it is done.
        reads: the files that it reads.
        notebook: that it executes; None: a function, by the job's name (see `hvae_core.pipeline.job.FUNCTIONS`).
        block: the part of the grid that it trains.
        may: files that it makes where the data allow it.
    """

    name: str
    stage: str
    after: tuple[str, ...]
    makes: tuple[Path, ...]
    reads: tuple[Path, ...]
    notebook: str | None = None
    block: int | None = None
    may: tuple[Path, ...] = ()


def jobs(config: Config) -> dict[str, Job]:
    """The jobs of a run by name, each after those that it needs.

    Example:
        >>> list(jobs(Config(blocks=1)))[:3]
        ['10_train-000', 'collect', '20_reconstruction']
    """
    return {job.name: job for job in _jobs(config)}


def _jobs(config: Config) -> Iterator[Job]:
    run, kind = run_folder(config.name), config.kind
    data, results = run / "data.json", (run / "results.parquet", run / "results.csv")
    given, classifier = run / OBJECTIVE, run / "tables" / "classifier.json"
    if not kind.stages:  # one notebook trains, evaluates and draws
        yield Job(kind.notebook, "training", (), (*results, *figure_files(config)), (), kind.notebook)
        return
    trained = []
    for block in range(config.block_count):
        folder = block_folder(config, block)
        makes = tuple(folder / name for name in ("weights.safetensors", "training.parquet", "history.parquet"))
        trained.append(Job(f"10_train-{block:03d}", "training", (), makes, (data, given), "10_train", block))
    yield from trained
    weights = tuple(job.makes[0] for job in trained)
    table, history = run / "tables" / "training.parquet", run / "history.parquet"
    parts = tuple(path for job in trained for path in job.makes[1:])
    yield Job("collect", "tables", tuple(job.name for job in trained), (table, history), parts)
    tables, images = [table], []
    for stage in kind.stages:
        makes = (run / "tables" / f"{stage}.parquet",)
        if stage in SHOWN:
            images.append(run / "images" / f"{stage}.npz")
            makes += (images[-1],)
        tables.append(makes[0])
        may = (classifier,) if stage == "generation" else ()  # without labels there is none
        yield Job(NOTEBOOKS[stage], stage, ("collect",), makes, (data, table, *weights), NOTEBOOKS[stage], may=may)
    measured = ("collect", *(NOTEBOOKS[stage] for stage in kind.stages))
    yield Job("join", "tables", measured, results, tuple(tables))
    beside = [run_folder(name) / "results.parquet" for name in comparable_runs(config.name)]
    others = tuple(beside) if kind.notebook in BESIDE else ()
    for page in kind.pages:
        reads = (results[0], data, *images, *weights, *others, *sorted(ASSETS))
        yield Job(page, "pages", ("join",), (figure_folder(config.name) / f"{page}.html",), reads)
    reads = (results[0], history, data, run / "objective.txt", classifier, *images, *weights)
    framed = kind.pages if kind.notebook in FRAMED else ()
    reads += (*others, *(figure_folder(config.name) / f"{page}.html" for page in framed))
    yield Job(kind.notebook, "figures", ("join", *framed), figure_files(config), reads, kind.notebook)


def figure_files(config: Config) -> tuple[Path, ...]:
    """The figures and tables of a run."""
    names = [f"{name}.{kind}" for name in config.kind.figures for kind in ("pdf", "png", "json")]
    names += [f"{name}.{kind}" for name in config.kind.tables for kind in ("csv", "md", "json")]
    return tuple(figure_folder(config.name) / name for name in names)


def record_file(run: str, job: str) -> Path:
    """What a job says of itself: see `hvae_core.pipeline.job.job`."""
    return run_folder(run) / ".progress" / f"{job}.job"


def read_record(path: Path) -> dict[str, Any]:
    """A record; empty if there is none or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def key(config: Config, job: Job, notebook: str | None = None) -> str:
    """What the files of a job are a function of, as a hash.

    Arguments:
        notebook: the text of its notebook; None: as it is now.

    Raises:
        InputError: when the notebook is missing or cannot be read.
    """
    values = {name: value for name, value in config.dump().items() if name not in FREE}
    if job.block is not None:
        values |= {"blocks": config.block_count, "block": job.block}
    if job.notebook and notebook is None:
        notebook = read_notebook(job.notebook)
    described = [
        values,
        cells(notebook) if notebook else None,
        [stage_fingerprint(config, stage) for stage in _stages(config, job)],
        [[_named(config, path), _content(path)] for path in job.reads],
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def _stages(config: Config, job: Job) -> tuple[str, ...]:
    """The stages whose code a job runs."""
    return (job.stage,) if config.kind.stages else ("training", "figures")


def read_notebook(name: str) -> str:
    """The text of a notebook.

    Raises:
        InputError: when it is missing or cannot be read.
    """
    path = ROOT / "notebooks" / f"{name}.ipynb"
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', 'no text')}; restore it") from None


def cells(notebook: str) -> list[list[str]]:
    """Kind and text of the cells of a notebook, and which takes the parameters: all of it that counts.

    Raises:
        InputError: when it is no notebook.
    """
    try:
        return [
            [cell["cell_type"], "".join(cell["source"]), *(tag for tag in _tags(cell) if tag == "parameters")]
            for cell in json.loads(notebook)["cells"]
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError("a notebook in notebooks/ is damaged; restore it") from None


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def made(config: Config, job: Job) -> dict[str, str | None]:
    """Checksums of the files of a job; None for one that is missing.

    The commit is no part of a figure: beside it, the file that names its inputs need only be there.
    """
    drawn = figure_folder(config.name)
    return {
        _named(config, path): str(path.exists()) if (path.parent, path.suffix) == (drawn, ".json") else _checksum(path)
        for path in (*job.makes, *job.may)
    }


def holds(config: Config, job: Job) -> bool:
    """Whether a job need not be done: it was, from what is there now, and its files are as it left them."""
    record = read_record(record_file(config.name, job.name))
    return bool(record.get("key")) and record["key"] == key(config, job) and record.get("made") == made(config, job)


def stale(config: Config) -> list[str]:
    """The names of the jobs that are to be done, each after those that it needs."""
    found: list[str] = []
    for job in jobs(config).values():
        if set(job.after) & set(found) or not holds(config, job):
            found.append(job.name)
    return found


def mark(config: Config) -> list[str]:
    """Leave marks of the jobs that hold, and of no others; returns the names of those that are to be done."""
    to_do, folder = stale(config), run_folder(config.name) / MARKS
    remember_code(config, {stage for job in jobs(config).values() for stage in _stages(config, job)})
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name in jobs(config):
        if name not in to_do:
            (folder / name).touch()
            os.utime(folder / name, (0, 0))  # none is newer than another, whatever the clock says
    return to_do


def outputs(config: Config) -> list[Path]:
    """Every file that a finished run has."""
    folder = run_folder(config.name)
    made = [path for job in jobs(config).values() for path in job.makes]
    return [folder / "config.yaml", folder / "provenance.json", *made]


def missing(paths: Iterable[Path]) -> Path | None:
    """The first of these files that is not there."""
    return next((path for path in paths if not path.exists()), None)


def _named(config: Config, path: Path) -> str:
    """A file by its place in its own run, whatever the run is called."""
    for start, folder in (("run", run_folder(config.name)), ("figures", figure_folder(config.name))):
        if path.is_relative_to(folder):
            return f"{start}/{path.relative_to(folder)}"
    return str(Path(*path.parts[-2:]))


def _content(path: Path) -> Any:
    """What a file holds: of weights their training and checksum, which are quickly read; None if it is missing."""
    return saved_training(path) if path.suffix == ".safetensors" else _checksum(path)


def _checksum(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
