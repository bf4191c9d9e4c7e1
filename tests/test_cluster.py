"""``./run_all.sh PROFILE --on FOLDER``: what is refused, and how Snakemake is called."""

import importlib.util

import pytest

from hvae_core.files import ROOT
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
