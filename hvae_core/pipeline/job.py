"""One job of the batch, called by the Snakefile."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hvae_core.errors import InputError
from hvae_core.files import ROOT, locked, read_text, short_folder, timestamp, write_text
from hvae_core.pipeline.batch import Job, holds, jobs, key, made, missing, read_notebook, record_file
from hvae_core.progress import STATUS_FILE
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, output_root, run_folder
from hvae_core.runs.identity import OBJECTIVE
from hvae_core.runs.provenance import commit, device_name

KERNEL = "hvae-companion"
OWN_KERNEL = {
    "argv": [sys.executable, "-P", "-m", "hvae_core.pipeline.warm", "ipykernel", "-f", "{connection_file}"],
    "display_name": "Python 3",
    "language": "python",
}
BATCH = "HVAE_BATCH"  # which command the jobs are of
GPUS = "HVAE_GPUS"  # how many there are, for the jobs: to count them takes PyTorch, which takes seconds to import
GPU = "HVAE_GPU"  # the one that a notebook was given
TUNABLES, LARGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
"""Whether glibc asks for large pages of memory: to find many megabytes of activations by small ones takes 3 to 6 % of a
GHVAE's training on a CPU, and a sixth of that of a PixelCNN."""
OF_GPUS = re.compile("cuda|cudnn|cublas|gpu|outofmemory|accelerator", re.IGNORECASE)
"""In the errors of GPUs, and in no others that a notebook raises."""
MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG),
    *(errno.EMFILE, errno.ENFILE),
)


FUNCTIONS = {"collect": "runs.results", "join": "runs.results", "explorer": "pipeline.paging"}
"""Jobs that are no notebooks, and the modules of their functions."""


def function(name: str) -> Callable[[str], Any]:
    """What a job without a notebook calls with the name of the run."""
    found: Callable[[str], Any] = getattr(importlib.import_module(f"hvae_core.{FUNCTIONS[name]}"), name)
    return found


def named_error(error: OSError) -> str:
    return (
        f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"
    )  # to write and to flush name no file


class GPUError(RuntimeError):
    """What a GPU did to a notebook, which may go well on another."""


def environment() -> dict[str, str]:
    """What the processes of a batch see: this checkout, and its environment's programs first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # The jobs run in another folder: paths that the user gave are made absolute.
    given = {
        name: str(Path(os.environ[name]).expanduser().resolve())
        for name in ("HVAE_DATA", "HVAE_OUTPUT")
        if os.environ.get(name)
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SNAKEMAKE_") and name != "PYTHONINSPECT"  # a prompt at the end of each process
    }
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/"), ".cache"), "snakemake")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        writable = os.access(cache, os.W_OK)
    except OSError:
        writable = False
    if not writable:  # as in a container without a home
        given["XDG_CACHE_HOME"] = str(output_root().resolve() / ".snakemake" / "cache")
    if LARGE_PAGES not in (tunables := inherited.get(TUNABLES, "")):
        given[TUNABLES] = f"{tunables}:{LARGE_PAGES}=1".lstrip(":")
    return {**inherited, **given, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def gpus(config: Config) -> int:
    """How many GPUs the run may use."""
    if config.device == "cpu":
        return 0
    if counted := os.environ.get(GPUS):
        return int(counted)
    import torch

    return torch.cuda.device_count()


def job(argv: Sequence[str]) -> int:
    """``python -m hvae_core.pipeline.job RUN JOB [--block N] [--jobs N] [--gpus N]``.

    One job of the batch, with its progress and its errors kept; nothing if what it made still holds. Of two processes
    for one job, as when a cluster was thought to have lost it, the second waits for the first.

    JOB is one of `FUNCTIONS`, or the name of a notebook, which papermill executes.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("job")
    parser.add_argument("--block", type=int)
    parser.add_argument("--jobs", type=int, default=1, help="processes that the notebook may use")
    parser.add_argument("--gpus", help="how many it asked a cluster for; default: those that the batch counted")
    args = parser.parse_args(argv)
    if args.gpus is not None:
        os.environ[GPUS] = args.gpus
    name = args.job if args.block is None else f"{args.job}-{args.block:03d}"
    kept = record_file(args.run, name)
    kept.parent.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        if stack.enter_context(locked(kept.with_suffix(".lock"), wait=False)) is None:
            print(f"{name}: waiting for another process that is at it", file=sys.stderr, flush=True)
            stack.enter_context(locked(kept.with_suffix(".lock")))
        return _job(args, name, kept)


def _job(args: argparse.Namespace, name: str, kept: Path) -> int:
    started = time.time()
    record: dict[str, Any] = {
        "start": timestamp(),
        "batch": os.environ.get(BATCH),
        "error": None,
        "mendable": False,
        **commit(),
    }
    try:
        config = load_config(args.run)
        asked = jobs(config)[name]
        if holds(config, asked):
            return 0
        # Read once: what is executed is what the record says, whatever is edited meanwhile.
        text = read_notebook(asked.notebook) if asked.notebook else None
        made_from = key(config, asked, text)
        if text is None:
            os.environ[STATUS_FILE] = str(kept.with_suffix(".json"))
            function(args.job)(args.run)
        else:
            record["device"] = execute(config, asked, text, args.jobs)
        if lost := missing(asked.makes):
            raise RuntimeError(f"{lost} was not made")
        record |= {"key": made_from, "made": made(config, asked)}
    except InputError as error:
        record |= {"error": str(error), "mendable": True}
    except OSError as error:
        record |= {"error": named_error(error), "mendable": error.errno in MENDABLE}
    except Exception as error:  # whatever a notebook may raise: it is recorded here and named in the end
        record |= {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    record["wall_time_s"] = round(time.time() - started, 1)
    with contextlib.suppress(InputError):  # of a full disk the command speaks itself
        write_text(kept, json.dumps(record))
    if record["error"]:
        print(f"{name}: {record['error']}", file=sys.stderr)
    return 1 if record["error"] else 0


def execute(config: Config, asked: Job, text: str, processes: int) -> str:
    """Execute a notebook on a run, which is its parameter; returns the device that it was given.

    It runs in this environment and sees this checkout, whatever kernels and settings of Jupyter the user has. Kernels
    talk over sockets of their own in a temporary folder: over TCP parallel kernels race for ports and can hang. The
    GPUs present are shared out by locks, one kernel each.

    Raises:
        InputError: what the notebook raised as such, or when it would not take its parameters.
        RuntimeError: for any other error in a cell, or a kernel that died.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config as Traits

    notebook, parameters = prepared(config, asked, text)
    target = run_folder(config.name) / "notebooks" / f"{asked.name}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(short_folder())  # the kernel's sockets lie there
        os.environ |= environment() | {
            STATUS_FILE: str(record_file(config.name, asked.name).with_suffix(".json")),
            "OMP_NUM_THREADS": "1",  # the batch runs as many notebooks at once as there are cores
            "HVAE_JOBS": str(processes),
            "JUPYTER_PATH": str(place),
            "IPYTHONDIR": str(place / "ipython"),
        }
        write_text(place / "kernels" / KERNEL / "kernel.json", json.dumps(OWN_KERNEL))
        source = place / f"{asked.notebook}.ipynb"
        nbformat.write(notebook, source)
        count = gpus(config)

        def papermilled() -> None:
            try:
                papermill.execute_notebook(
                    source,
                    str(target).replace("{", "{{").replace("}", "}}"),  # papermill fills braces in
                    parameters,
                    kernel_name=KERNEL,
                    progress_bar=False,
                    start_timeout=600,  # a busy machine takes its time
                    cwd=str(ROOT),
                    config=Traits({"KernelManager": {"transport": "ipc", "ip": f"{place}/k"}}),
                )
            except PapermillExecutionError as error:
                full = any(os.strerror(number) in error.evalue for number in MENDABLE)
                if error.ename == "InputError" or full:
                    raise InputError(error.evalue) from None
                said = f"{error.ename}: {error.evalue}"
                kind = GPUError if count and OF_GPUS.search(said) else RuntimeError
                raise kind(f"{said} (see {target})") from None
            except DeadKernelError:
                kind = GPUError if count else RuntimeError
                raise kind(f"the notebook's process died, perhaps out of memory (see {target})") from None

        if count:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
            on_a_gpu(visible.split(","), papermilled)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
            papermilled()
        device = device_name(gpu=count > 0)
        written = nbformat.read(target, as_version=4)
        written.metadata.papermill["input_path"] = f"notebooks/{asked.notebook}.ipynb"
        written.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(written, target)
    return device


def prepared(config: Config, asked: Job, text: str) -> tuple[Any, dict[str, Any]]:
    """The notebook of a job as it is to be executed, and the parameters that it is given.

    Raises:
        InputError: when it is no notebook, or would not take its parameters or the objective of the run.
    """
    import nbformat
    import papermill

    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat has no error of its own for all that may be wrong
        raise InputError(f"notebooks/{asked.notebook}.ipynb is damaged: {error}; restore it") from None
    # The run is there already, with its configuration; a notebook that can begin one is told so by the empty profile.
    parameters: dict[str, Any] = {"name": config.name}
    if asked.stage == "training":
        parameters |= {"profile": None}
    if asked.block is not None:
        parameters |= {"block": asked.block}
    if unknown := sorted(set(parameters) - set(papermill.inspect_notebook(notebook))):
        raise InputError(
            f"notebooks/{asked.notebook}.ipynb: it has no cell with the tag parameters in which {unknown[0]} is set; "
            "restore it"
        )
    given = run_folder(config.name) / OBJECTIVE
    if asked.block is not None and given.exists():
        of_objective(notebook).source = given.read_text(encoding="utf-8").rstrip()
    return notebook, parameters


def of_objective(notebook: Any) -> Any:
    """The cell in which a notebook defines its objective.

    Raises:
        InputError: when there is none.
    """
    for cell in notebook.cells:
        if "objective" in cell.metadata.get("tags", []):
            return cell
    raise InputError("notebooks/10_train.ipynb: it has no cell with the tag objective, to take that of --objective")


def on_a_gpu(visible: Sequence[str], call: Callable[[], None]) -> None:
    """Call with one of the GPUs that are visible, alone on it, and with another one when it fails.

    All jobs of the batch then leave out the one that failed, while another works: as it is free soonest, it would take
    one after the other.

    Raises:
        GPUError: that of the last one, when all failed.
    """
    left = list(visible)
    while True:
        with contextlib.ExitStack() as stack:
            name = _claim_gpu(stack, left)
            os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[GPU] = name
            try:
                return call()
            except GPUError as error:
                left.remove(name)
                if not left:
                    raise
                print(f"GPU {name} failed: {error}; another goes on", file=sys.stderr, flush=True)
                write_text(_lock_of(name).with_suffix(".failed"), _this_batch())


def _claim_gpu(stack: contextlib.ExitStack, visible: Sequence[str]) -> str:
    """One of the GPUs that are visible, for as long as the stack is open; waits for one.

    The locks lie on this machine, whatever run they are for: results may be in a folder that machines share, each with
    GPUs of its own. A job of a cluster has its GPUs to itself, and numbers them anew.
    """
    while True:
        for name in visible:
            with contextlib.ExitStack() as one:
                free = one.enter_context(locked(_lock_of(name), wait=False)) is not None
                if free and (not _failed(name) or all(map(_failed, visible))):
                    stack.push(one.pop_all())
                    return name
        time.sleep(1)


def _lock_of(gpu: str) -> Path:
    place = Path(tempfile.gettempdir(), f"hvae-gpus-{os.getuid()}")
    return place / f"{os.environ.get('SLURM_JOB_ID', '')}.{gpu}.lock"


def _failed(gpu: str) -> bool:
    """Whether a GPU failed in this batch; the next command tries it again."""
    path = _lock_of(gpu).with_suffix(".failed")
    return path.exists() and read_text(path) == _this_batch()


def _this_batch() -> str:
    return os.environ.get(BATCH, "")


if __name__ == "__main__":
    sys.exit(job(sys.argv[1:]))
