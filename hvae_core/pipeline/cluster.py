"""Where jobs are submitted instead of run here: a workflow profile of Snakemake's, named by ``--on``."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.runs.config import Config
from hvae_core.runs.profiles import read_yaml

TOGETHER = 8  # with fewer models in a block a GPU is hardly busy
SECONDS_TO_CANCEL = 10.0  # for Snakemake, which has then done so, and waits for what it asked the queue


class Cluster(NamedTuple):
    """A cluster as Snakemake knows it.

    Attributes:
        folder: the workflow profile, with a ``config.yaml``.
        executor: the name of Snakemake's executor, such as ``slurm``.
        jobs: how many are submitted at once.
        gpus: whether a block asks for a GPU.
    """

    folder: Path
    executor: str
    jobs: int
    gpus: bool


def read_cluster(folder: str) -> Cluster:
    """The cluster of a workflow profile.

    Raises:
        InputError: when there is none, it lacks a key, or its executor is not installed.

    Example:
        >>> read_cluster("profiles/cluster/none")
        Traceback (most recent call last):
            ...
        hvae_core.errors.InputError: --on profiles/cluster/none: there is no config.yaml in it
    """
    path = Path(folder, "config.yaml")
    if not path.is_file():
        raise InputError(f"--on {folder}: there is no config.yaml in it")
    values = read_yaml(path)
    executor, jobs = values.get("executor"), values.get("jobs")
    if not isinstance(executor, str):
        raise InputError(f"{path}: executor: name one of Snakemake's, such as slurm")
    if not isinstance(jobs, int) or jobs < 1:
        raise InputError(f"{path}: jobs: how many to submit at once, a whole number from 1")
    if not importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}"):
        raise InputError(f"{path}: executor {executor}: it is not installed; {_installed_by(executor)}")
    asked = values.get("set-resources")
    train = asked.get("train") if isinstance(asked, dict) else None
    gpus = isinstance(train, dict) and gpus_asked(train) > 0
    return Cluster(Path(folder).resolve(), executor, jobs, gpus)


def _installed_by(executor: str) -> str:
    uv = ".uv/bin/uv" if (ROOT / ".uv/bin/uv").exists() else "uv"
    install = (
        f"sync --locked --inexact --only-group {executor}"
        if executor == "slurm"
        else f"pip install snakemake-executor-plugin-{executor}"
    )
    return f"install it by: cd {ROOT} && {uv} {install}"


def gpus_asked(resources: Mapping[str, Any]) -> int:
    """How many GPUs a job asks for, in one of the ways that the executor of Slurm knows.

    Example:
        >>> [gpus_asked(asked) for asked in ({"mem_mb": 8000}, {"gpu": 2}, {"gres": "gpu:a100:4"})]
        [0, 2, 4]
    """
    kind, *more = str(resources.get("gres", "")).split(":")
    if kind == "gpu":
        return int(more[-1]) if more and more[-1].isdecimal() else 1
    return int(resources.get("gpu", 1 if resources.get("gpu_model") else 0))


def check_answers(cluster: Cluster) -> None:
    """Check that a cluster is there, as far as is known how.

    Raises:
        InputError: when Slurm does not answer, or its commands are not on this machine.
    """
    if cluster.executor != "slurm":
        return
    try:
        done = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise InputError(f"--on {cluster.folder}: no sinfo here; give the command on a login node of Slurm") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"--on {cluster.folder}: Slurm does not answer within a minute") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"sinfo ended with {done.returncode}"]
        raise InputError(f"--on {cluster.folder}: Slurm does not answer: {said[0]}")


def cancel(process: subprocess.Popen[bytes], cluster: Cluster, said: str) -> None:
    """Interrupt Snakemake, which cancels its jobs. Of Slurm then cancel those that it did not know of.

    It does not know of them while it asks for their state, or submits them; and it may wait for minutes in the end.

    Arguments:
        said: its log, which names its jobs.
    """
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    if cluster.executor != "slurm":
        process.wait()
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_CANCEL)
    process.kill()
    for name in re.findall(r"SLURM run ID: (\S+)", said):
        done = subprocess.run(["scancel", "--name", name], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"warning: jobs may be left, see squeue --name {name}: {done.stderr.strip()}", file=sys.stderr)


def suggested_blocks(config: Config, cores: int, gpus: int = 0, cluster: Cluster | None = None) -> int:
    """In how many blocks a run is best trained, where nobody says.

    A CPU trains one model after the other: a block for each core. A GPU trains those of one kind and seed at once,
    as many as its memory holds: a block for each kind and seed, and all GPUs have equally many. On a cluster as many
    as may be submitted, but no GPU gets fewer than `TOGETHER` models.

    Example:
        >>> grid = Config(seeds=3)  # 75 models
        >>> [suggested_blocks(grid, cores=16, gpus=gpus) for gpus in (0, 1, 2, 8)]
        [16, 3, 4, 8]
    """
    if cluster:
        return max(1, min(cluster.jobs, len(config.members()) // (TOGETHER if cluster.gpus else 1)))
    return math.ceil(len(config.models) * config.seeds / gpus) * gpus if gpus else cores
