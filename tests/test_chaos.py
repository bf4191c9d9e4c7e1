"""Whatever happens to a batch, the same command ends well, with the results of one that nothing happened to.

``./run_tests.sh tests/test_chaos.py --chaos 200`` tries 200 mishaps, each drawn from its number. The suite tries a few.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, Batch, Done
from test_up_to_date import contents

KEPT = ("checkpoints/*/*.parquet", "checkpoints/*/weights.safetensors", "tables/*.parquet", "results.*", "history.*")
PATIENCE_S = 1800  # a busy machine takes its time
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def pytest_generate_tests(metafunc):
    if "mishap" in metafunc.fixturenames:
        metafunc.parametrize("mishap", range(metafunc.config.getoption("--chaos")))


def results(batch: Batch) -> list[Path]:
    """Files that the batch makes, and its own records."""
    run = batch.output / "runs/tiny"
    places = ("checkpoints", "tables", "images", "notebooks", ".progress")
    found = [path for place in places for path in (run / place).rglob("*") if path.is_file()]
    found += [*run.glob("results.*"), *run.glob("*.parquet"), *run.glob("data.json"), *run.glob("objective.txt")]
    return sorted(found + [path for path in (batch.output / "figures").rglob("*") if path.is_file()])


def begin(batch: Batch, few_bytes: int | None = None) -> subprocess.Popen[bytes]:
    """The command, in a session of its own; with ``few_bytes`` no file may be longer, as on a full disk."""

    def full_disk() -> None:
        assert few_bytes is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (few_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return subprocess.Popen(
        [sys.executable, "-P", "-m", "hvae_core", *TINY],
        cwd=batch.checkout,
        env=batch.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=full_disk if few_bytes else None,
    )


def processes(batch: Batch) -> list[int]:
    """All processes of a batch: those that see its place for results."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"HVAE_OUTPUT={batch.output}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def damage(path: Path, draw: random.Random) -> None:
    raw = path.read_bytes()
    how = draw.choice(("cut", "other", "empty"))
    place = draw.randrange(len(raw)) if raw else 0
    path.write_bytes({"cut": raw[:place], "other": raw[:place] + b"\xff\x00" + raw[place + 2 :], "empty": b""}[how])


def edit(notebook: Path, draw: random.Random) -> None:
    """A change of no account, as a reader makes it; it is executed again."""
    content = json.loads(notebook.read_text())
    cell = draw.choice(content["cells"])
    cell["source"] = "".join(cell["source"]) + "\n"
    notebook.write_text(json.dumps(content))


def touch(path: Path, draw: random.Random) -> None:
    os.utime(path, (time.time(), time.time() + draw.uniform(-1e6, 1e5)))


def same_command(batch: Batch) -> Done:
    """It waits until what was killed has let go of the run."""
    for _ in range(2 * PATIENCE_S):
        done = batch.run_all(*TINY)
        if "is being computed by another process" not in done.errors:
            return done
        time.sleep(0.5)
    raise AssertionError(done.errors)


@pytest.mark.timeout(3 * PATIENCE_S)
def test_the_same_command_ends_well(own_run, mishap):
    draw = random.Random(mishap)
    wanted = contents(own_run.output / "runs/tiny", *KEPT)
    run = own_run.output / "runs/tiny"
    # What is to be done again, so that there is something to be disturbed.
    for lost in draw.sample(["checkpoints/block-000", "checkpoints/block-001", "tables", "images", "."], 2):
        if lost != ".":
            shutil.rmtree(run / lost)
    process = begin(own_run, few_bytes=draw.choice((2_000, 50_000, 300_000)) if draw.random() < 0.2 else None)
    for _ in range(draw.randint(1, 3)):
        time.sleep(draw.uniform(0, 12))
        what = draw.choice(("one", "all", "delete", "damage", "touch", "edit"))
        files = results(own_run)
        if what == "one" and process.poll() is None:
            os.kill(process.pid, draw.choice(SIGNALS))
        elif what == "all" and (there := processes(own_run)):
            os.kill(draw.choice(there), draw.choice(SIGNALS))
        elif what in ("delete", "damage") and files:
            path = draw.choice(files)
            if path.exists():
                path.unlink() if what == "delete" else damage(path, draw)
        elif what == "touch":
            for path in draw.sample(files, min(20, len(files))):
                if path.exists():
                    touch(path, draw)
        elif what == "edit":
            edit(draw.choice(sorted((own_run.checkout / "notebooks").glob("[1-5]0_*.ipynb"))), draw)
    try:
        process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        pytest.fail("the command does not end")
    done = same_command(own_run)
    assert done.status == 0, f"mishap {mishap}: {done.printed}{done.errors}"
    assert contents(run, *KEPT) == wanted, f"mishap {mishap}"
    done = own_run.run_all(*TINY, "--dry-run")
    assert "nothing to do" in done.printed, f"mishap {mishap}: {done.printed}"
