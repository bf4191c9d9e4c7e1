"""``./run_all.sh PROFILE --on FOLDER``: what is refused, and how Snakemake is called."""

import errno
import importlib.util
import os
import subprocess
import sys
import threading

import pytest

from hvae_core.errors import InputError
from hvae_core.files import ROOT, locked
from hvae_core.pipeline import cluster, job
from hvae_core.pipeline.cluster import Cluster
from hvae_core.pipeline.command import main, snakemake_command
from hvae_core.runs.config import Config

SLURM = "profiles/cluster/slurm"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "there is no config.yaml in it"),
        ("jobs: 8", "executor: name one of Snakemake's, such as slurm"),
        ("executor: slurm", "jobs: how many to submit at once, a whole number from 1"),
        ("executor: slurm\njobs: 0", "jobs: how many to submit at once, a whole number from 1"),
        ("executor: nowhere\njobs: 8", "pip install snakemake-executor-plugin-nowhere"),
        ("executor: slurm\njobs: 8\njobs: 9", "'jobs' is given twice"),
    ],
)
def test_what_is_no_cluster_is_refused_in_one_line(config, said, output, capfd):
    if config is not None:
        (output / "config.yaml").write_text(config)
    assert main(["quick", "--on", str(output)]) == 2
    errors = capfd.readouterr().err
    assert said in errors and str(output) in errors and len(errors.splitlines()) == 1
    assert not (output / "runs").exists(), "nothing was begun"


def test_without_the_plugin_it_is_said_how_to_install_it(output, capfd, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["quick", "--on", str(ROOT / SLURM)]) == 2
    assert f"executor slurm: it is not installed; install it by: cd {ROOT} && " in capfd.readouterr().err


def test_on_a_cluster_no_gpu_of_this_machine_counts(output, capfd, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    assert main(["quick", "--on", str(ROOT / SLURM), "--set", "device=cuda"]) == 2
    assert "device = cuda: which jobs get a GPU says" in capfd.readouterr().err
    monkeypatch.setattr("torch.cuda.device_count", lambda: pytest.fail("counted"))
    assert main(["quick", "--on", str(ROOT / SLURM), "--dry-run"]) == 0
    assert "would train 25 models in 3 block(s)" in capfd.readouterr().out
    command = snakemake_command(Config(name="a.b"), 2, Cluster(ROOT / SLURM, "slurm", 8, True))
    assert not {"--cores", "--resources", "--latency-wait"} & set(command)
    assert command[command.index("--slurm-jobname-prefix") + 1] == "a_b"


def test_of_two_processes_for_one_job_the_second_waits(output, capfd, monkeypatch):
    """As when a job still runs that the front end has lost."""
    ran = threading.Event()
    monkeypatch.setattr(job, "_job", lambda args, name, kept: ran.set() or 0)
    (output / "runs/there/.progress").mkdir(parents=True)
    second = threading.Thread(target=job.job, args=(["there", "10_train", "--block", "7"],))
    with locked(output / "runs/there/.progress/10_train-007.lock"):
        second.start()
        assert not ran.wait(0.5)
    assert ran.wait(60)
    second.join()
    assert "10_train-007: waiting for another process" in capfd.readouterr().err


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def without(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("hvae_core.files.fcntl.flock", without)
    with pytest.raises(InputError, match=r"cannot lock .*a\.lock: No locks available"), locked(tmp_path / "a.lock"):
        pytest.fail("it was not locked")


def test_an_interruption_cancels_what_snakemake_does_not_know_of(tmp_path, monkeypatch):
    """One that would go on: it ends, and its jobs are cancelled by their name, which its log has."""
    (tmp_path / "scancel").write_text(f"#!/bin/sh\necho $* > {tmp_path}/cancelled\n")
    (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    deaf = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint(flush=True)\ntime.sleep(600)"
    monkeypatch.setattr(cluster, "SECONDS_TO_CANCEL", 0.5)
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        cluster.cancel(process, Cluster(tmp_path, "slurm", 8, True), "Using ...\nSLURM run ID: there_1-2\nJob 1 ...\n")
    assert process.returncode < 0
    assert (tmp_path / "cancelled").read_text() == "--name there_1-2\n"
