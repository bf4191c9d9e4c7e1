"""Several GPUs on one machine: blocks are shared out, and a GPU that fails loses only its block, which another takes.

A stand-in takes the place of the GPUs, where the batch hands them out: no CUDA is needed.
"""

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import torch
from conftest import Batch, server

from hvae_core.files import ROOT
from hvae_core.pipeline import job, stages
from hvae_core.pipeline.cluster import Cluster, suggested_blocks
from hvae_core.pipeline.command import main
from hvae_core.pipeline.place import device
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, open_run, settled
from hvae_core.runs.profiles import load_profile

# --- how many blocks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "gpus", "blocks"),
    [
        ({}, 0, 16),  # one a core
        ({}, 1, 1),  # all at once
        ({}, 3, 3),
        ({"seeds": 3}, 1, 3),  # which are trained apart anyhow
        ({"seeds": 3}, 2, 4),  # as many on each
        ({"model": ["---", "+--"], "betas": [[0.5, 1]]}, 1, 2),
        ({"betas": [1, 2]}, 8, 4),  # no more than models
        ({"model": "ghvae-conditioned", "seeds": 2}, 0, 2),  # or networks
    ],
)
def test_blocks_follow_from_the_machine(values, gpus, blocks):
    config = Config.make(values)
    assert settled(config, suggested_blocks(config, 16, gpus)).blocks == blocks
    assert config.block_count == 1, "who trains in a notebook trains all"


def test_blocks_follow_from_what_a_cluster_gives(tmp_path):
    config = Config.make({})  # 25 models
    for jobs, gpus, blocks in ((4, False, 4), (40, False, 25), (8, True, 3), (2, True, 2)):
        assert (
            settled(config, suggested_blocks(config, 1, cluster=Cluster(tmp_path, "slurm", jobs, gpus))).blocks
            == blocks
        )


def test_a_run_keeps_its_blocks_whatever_the_machine(output, monkeypatch, capfd):
    open_run(load_profile("quick", ["betas=[1, 10]", "blocks=3"]))
    assert stages.begin("quick", {"betas": [1, 10]}).blocks == 3
    monkeypatch.setenv(job.GPUS, "2")
    assert main(["quick", "--set", "betas=[1, 10]", "--dry-run"]) == 0
    assert load_config("quick").blocks == 3
    assert main(["quick", "--set", "betas=[1, 10]", "blocks=2", "--dry-run"]) == 2
    assert "blocks is 3 there and 2 here" in capfd.readouterr().err


def test_no_profile_says_how_many_blocks():
    assert [path.name for path in (ROOT / "profiles").glob("*.yaml") if "blocks" in path.read_text()] == []


# --- which GPU --------------------------------------------------------------------------------------------------


def several(log, number, works):
    """A job on one of two GPUs; what happens on them is written down."""

    def call():
        name = os.environ["CUDA_VISIBLE_DEVICES"]
        with open(log, "a") as file:
            print("begins", name, number, file=file, flush=True)
            time.sleep(0.2)
            print("ends", name, number, file=file, flush=True)
        if name not in works:
            raise job.GPUError(f"{name} fell off the bus")

    job.on_a_gpu(["0", "1"], call)


@pytest.mark.parametrize("works", ["01", "0", ""])
def test_each_gpu_has_one_job_and_the_blocks_of_a_bad_one_go_to_another(works, tmp_path, monkeypatch):
    monkeypatch.setattr(job.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv(job.BATCH, "this one")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=several, args=(tmp_path / "log", number, works)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    for process in processes:
        process.kill()  # no more than one of them waits for another for ever
    assert [process.exitcode for process in processes] == [0 if works else 1] * 4
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    tried = {number: [gpu for what, gpu, of in lines if what == "begins" and of == number] for number in "0123"}
    for name in "01":
        events = [(what, number) for what, gpu, number in lines if gpu == name]
        pairs = list(zip(events[::2], events[1::2], strict=True))
        assert all(a == ("begins", number) and b == ("ends", number) for a, b in pairs for number in [a[1]])
    if works == "0":
        assert sum("1" in gpus for gpus in tried.values()) == 1, "the bad one is left out by all others"
    for gpus in tried.values():
        assert len(gpus) == len(set(gpus)), "none is tried again"
        assert (gpus[-1] in works) if works else sorted(gpus) == ["0", "1"]


def test_a_gpu_that_was_given_and_is_gone_is_no_reason_to_compute_without(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device(Config()).type == "cpu"
    monkeypatch.setenv(job.GPU, "3")
    assert device(Config(device="cpu")).type == "cpu"
    for asked in ("auto", "cuda"):
        with pytest.raises(RuntimeError, match=r"GPU 3 of .* does not answer"):
            device(Config(device=asked))


STAND_IN = """

def device(config):  # a stand-in for two GPUs, of which one fails
    if os.environ[GPU] == "1":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return torch.device("cpu")
"""


@pytest.mark.slow
def test_a_block_whose_gpu_fails_is_trained_on_another(tmp_path):
    """The jobs of two blocks as the batch starts them: processes, notebooks and training are real."""
    batch = Batch(tmp_path / "checkout", tmp_path / "output")
    for name in ("hvae_core", "notebooks", "profiles"):
        shutil.copytree(ROOT / name, batch.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    with open(batch.checkout / "hvae_core/pipeline/place.py", "a") as file:
        file.write(STAND_IN)
    begin = """
from hvae_core.pipeline import stages
from hvae_core.runs.folder import keep_data

stages.device = lambda config: "cpu"
config = stages.begin("quick", {"betas": [1, 10], "epochs": 1, "train_images": 40, "test_images": 20, "blocks": 2})
keep_data(config, stages.load_data(config))
"""
    (batch.checkout / "begin.py").write_text(begin)
    run = [sys.executable, "-P", "-m", "hvae_core.pipeline.warm"]
    env = batch.environment(**{job.GPUS: "2", "TMPDIR": str(tmp_path)} | server())
    env.pop("CUDA_VISIBLE_DEVICES", None)
    subprocess.run([*run, "begin"], env=env, check=True)
    started = [
        subprocess.Popen(
            [*run, "hvae_core.pipeline.job", "quick", "10_train", "--block", block],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for block in "01"
    ]
    said = "".join(process.communicate(timeout=300)[1] for process in started)
    assert [process.returncode for process in started] == [0, 0], said
    assert re.findall(r"^GPU (\d) failed: .*illegal memory access.*; another goes on$", said, re.M) == ["1"]
    assert len(list(batch.output.glob("runs/quick/checkpoints/*/weights.safetensors"))) == 2
