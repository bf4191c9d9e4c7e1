"""A batch on a real Slurm: one node with two GPUs that are only files (tests/cluster/slurm.sh).

Whatever happens to a job, the results are those of a run without Slurm, bit for bit, and nothing is trained twice.
The training itself is on the CPU. No test depends on how fast the machine is: an objective holds the trainings up.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import Batch
from safetensors.torch import load_file

from hvae_core.files import ROOT
from hvae_core.pipeline import stages
from hvae_core.runs.weights import block_folder

MISSING = [name for name in ("slurmctld", "slurmd", "munged") if not shutil.which(name)]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)} here: apt-get install slurm-wlm munge"),
    pytest.mark.timeout(2400),  # alone it takes two minutes, mostly of waiting
    pytest.mark.skipif(os.getuid() != 0, reason="to start a Slurm takes root"),
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
        reason="no snakemake-executor-plugin-slurm here: uv sync --locked --inexact --only-group slurm",
    ),
]
SCRIPT = ROOT / "tests" / "cluster" / "slurm.sh"
CHANGES = {
    "model": ["---"],
    "betas": [[0.5, 1.0, 2.0]],
    "width": 0.1,
    "epochs": 3,
    "train_images": 60,
    "test_images": 20,
    "batch_size": 20,
    "likelihood_images": 2,
    "blocks": 3,
    "device": "cpu",
}
BLOCKS = ("000", "001", "002")
UPDATES, HELD_AT = 9, 4  # of a block in all, and in which it is held up: the first one after a checkpoint
OBJECTIVE = '''\
import os
import time
from pathlib import Path

from hvae_core.training import trainer

trainer.CHECKPOINT_EVERY_S = 0.0
PLACE = Path({place!r})


def objective(terms, betas):
    """Writes its updates down, and waits in the second epoch of a job while there is a file `hold`."""
    log = PLACE / Path(os.environ.get("HVAE_PROGRESS", "none")).with_suffix(".log").name
    if len(terms.distortion) == 20:
        with open(log, "a") as file:
            print(os.getpid(), file=file)
        while len(log.read_text().splitlines()) >= {held_at} and log.stem != "none" and (PLACE / "hold").exists():
            time.sleep(0.1)
    return (terms.distortion + terms.rates @ betas).mean()
'''


@pytest.fixture(scope="module")
def slurm():
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # sockets need a short path
    try:
        started = subprocess.run(
            ["bash", SCRIPT, "start", folder, str(os.getpid())],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if started.returncode == 3:
            pytest.skip(started.stderr.strip())
        assert started.returncode == 0, started.stderr
        yield
    finally:
        subprocess.run(["bash", SCRIPT, "stop", folder], timeout=60, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place(tmp_path, slurm):
    """Where a batch is: the profile of a cluster as it is shipped, but quicker; and the objective."""
    config = yaml.safe_load((ROOT / "profiles/cluster/slurm/config.yaml").read_text())
    config |= {"latency-wait": 20, "slurm-init-seconds-before-status-checks": 1}
    config["set-threads"] = dict.fromkeys(config["set-threads"], 1)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "held.py").write_text(OBJECTIVE.format(place=str(tmp_path), held_at=HELD_AT))
    (tmp_path / "hold").touch()
    return tmp_path


def begin(place, *more):
    """The command, in a session of its own."""
    changes = [
        f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}" for key, value in CHANGES.items()
    ]
    command = ["rd-quick", "--name", "there", "--objective", "held.py", "--on", "cluster", "--set", *changes, *more]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "hvae_core", *command],
        cwd=place,
        env=Batch(ROOT, place).environment(HVAE_PROGRESS=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process):
    """Of a test that failed: the command, with all that it submitted."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()


def jobs():
    """The jobs of Slurm by what they compute, and the states of the jobs that ever were for that, the last one last."""
    out = subprocess.run(
        ["squeue", "--states=all", "--noheader", "--sort=i", "--format=%i %T %k"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {}
    for line in out.splitlines():
        number, state, comment = line.split()
        found.setdefault(comment.removeprefix("rule_").replace("train_wildcards_", ""), []).append((number, state))
    return found


def states(name):
    return [state for _, state in jobs().get(name, [])]


def until(condition, process, seconds=900):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"not in {seconds} s: {jobs()}"
        time.sleep(0.2)


def scontrol(*words):
    done = subprocess.run(["scontrol", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def updates(place, block):
    """The processes of the updates of a block, one each."""
    log = place / f"10_train-{block}.log"
    return list(map(int, log.read_text().split())) if log.exists() else []


def held(place):
    """The blocks whose training was held up so far."""
    return [block for block in BLOCKS if len(updates(place, block)) >= HELD_AT]


def local_run(place, monkeypatch):
    """The same trainings and likelihoods here, in this process."""
    monkeypatch.setenv("HVAE_OUTPUT", str(place))
    monkeypatch.setenv("HVAE_JOBS", "1")
    monkeypatch.delenv("HVAE_PROGRESS", raising=False)
    spec = importlib.util.spec_from_file_location("held", place / "held.py")
    held = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(held)
    config = stages.begin("rd-quick", CHANGES, "here")
    data = stages.load_data(config)
    stages.train_members(config, data, held.objective)
    stages.bound_likelihood(config, data)
    return config


def test_killed_out_of_time_preempted_and_drained(place, monkeypatch):
    process = begin(place)
    host = os.uname().nodename.partition(".")[0]
    try:
        # Two GPUs: two blocks are trained, in whatever order, and the third waits.
        until(lambda: len(held(place)) == 2, process)
        (a, b), [c] = held(place), set(BLOCKS) - set(held(place))
        assert [states(block) for block in (a, b, c)] == [["RUNNING"], ["RUNNING"], ["PENDING"]]
        tried = {name: of[0][0] for name, of in jobs().items()}

        scontrol("update", f"nodename={host}", "state=drain", "reason=test")
        scontrol("update", f"jobid={tried[b]}", "endtime=now+3")  # its time limit
        os.kill(updates(place, a)[-1], signal.SIGKILL)
        until(lambda: states(a) == ["FAILED", "PENDING"], process)
        assert states(c) == ["PENDING"], "nothing is started on a node that is drained"
        scontrol("update", f"nodename={host}", "state=resume")

        until(lambda: c in held(place), process)
        scontrol("requeue", tried[c])  # as after preemption
        until(lambda: states(c) == ["PENDING"], process)
        config = local_run(place, monkeypatch)
        until(lambda: states(b)[:1] == ["TIMEOUT"], process)
        (place / "hold").unlink()
        said = process.communicate(timeout=900)[0]
    finally:
        end(process)
    print(said, jobs(), sep="\n")
    assert process.returncode == 0, said + (place / "runs/there/log.txt").read_text()
    assert states(a) == ["FAILED", "COMPLETED"]
    assert states(b) == ["TIMEOUT", "COMPLETED"]
    assert jobs()[c] == [(tried[c], "COMPLETED")]
    for block in BLOCKS:
        by = updates(place, block)
        assert len(by) == UPDATES + 1, "one update was interrupted, and is the only one that was done twice"
        assert by == [by[0]] * HELD_AT + [by[-1]] * (UPDATES + 1 - HELD_AT), "two processes, one after the other"

    there = place / "runs/there"
    for number in range(3):
        here = block_folder(config, number)
        other = there / here.relative_to(place / "runs/here")
        a, b = load_file(here / "weights.safetensors"), load_file(other / "weights.safetensors")
        assert list(a) == list(b) and all(a[name].equal(b[name]) for name in a)
        for table in ("training", "history"):
            pd.testing.assert_frame_equal(*(pd.read_parquet(of / f"{table}.parquet") for of in (here, other)))
    tables = [pd.read_parquet(place / "runs" / run / "tables/likelihood.parquet") for run in ("here", "there")]
    pd.testing.assert_frame_equal(*tables)

    # Each block had a GPU and nothing else had; the front end showed how far it is; a failed job left its log.
    log = (there / "log.txt").read_text()
    asked = dict(re.findall(r"^rule (\w+):.*?^    resources: (.*?)$", log, re.MULTILINE | re.DOTALL))
    assert {name: "gpu=1" in resources for name, resources in asked.items()} == {
        "train": True,
        "likelihood": False,
        "figures": False,
    }
    assert re.search(r"^jobs: 7/7 done$", said, re.MULTILINE) and "likelihood: images" in said
    assert len(list((there / "logs").rglob("*.log"))) == 2

    process = begin(place)
    assert "nothing to do" in process.communicate(timeout=300)[0] and process.returncode == 0


def test_ctrl_c_cancels_what_was_submitted(place):
    before = {number for of in jobs().values() for number, _ in of}
    process = begin(place)

    def submitted():
        return sorted(state for of in jobs().values() for number, state in of if number not in before)

    try:
        until(lambda: submitted() == ["PENDING", "RUNNING", "RUNNING"], process)
        os.kill(process.pid, signal.SIGINT)
        said = process.communicate(timeout=300)[0]
    finally:
        end(process)
    assert process.returncode == 130 and "the same command goes on from here" in said
    stop = time.monotonic() + 300
    while submitted() != ["CANCELLED"] * 3:
        assert time.monotonic() < stop, jobs()
        time.sleep(0.2)
