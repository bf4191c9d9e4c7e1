"""What is to be done on a GPU within a quarter of an hour, tried on a CPU."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from hvae_core.errors import InputError
from hvae_core.files import ROOT, write_text

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu


def run(*options, out):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HVAE_JOBS": "1"})


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    """A dry run, and what it kept."""
    out = tmp_path_factory.mktemp("gpu")
    # Minutes enough for a busy machine; they are used only if need be.
    done = run("--dry-run", "--minutes", "120", "--piece", "0.5", out=out)
    assert done.returncode == 0, done.stderr
    return out, {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}


@pytest.mark.slow
def test_a_dry_run_comes_to_the_end_of_every_part(dry):
    _, found = dry
    assert set(found) == {"tests", "card", "ways", "training", "evaluation"}
    rows = [*found["ways"], *found["training"], *found["evaluation"], found["tests"], found["card"]]
    assert [row for row in rows if "error" in row or "failed" in row] == []
    assert found["tests"]["exit"] == 0
    assert {(row["run"], row["block"]) for row in found["training"]} == {
        (run, f"{block} of 2") for run in ("mnist-ghvae", "cifar10-ghvae") for block in (1, 2)
    }
    assert [row["stage"] for row in found["evaluation"]] == ["reconstruct", "generate", "represent"]


@pytest.mark.slow
def test_the_ways_of_a_dry_run_agree(dry):
    """Each from the same weights on the same images and noise: after six updates the losses are near."""
    _, found = dry
    losses = {row["way"]: row["loss"] for row in found["ways"] if "loss" in row}
    assert len(losses) > 1
    assert list(losses.values()) == pytest.approx([losses[gpu.FIRST]] * len(losses), rel=5e-3)


@pytest.mark.slow
def test_a_dry_run_says_what_noise_takes_of_an_epoch(dry):
    _, found = dry
    shares = [row["noise_share"] for row in found["ways"] if row["way"] != gpu.AUTHORS]
    assert len(shares) == len(gpu.TINY.ways) - 1
    assert all(0 < share < 1 for share in shares)


def test_the_share_of_noise_is_said_where_it_is_known():
    row = {"images": "28x28x1", "members": 81, "way": gpu.FIRST, "model_steps_per_s": 10}
    assert gpu.said(row | {"noise_share": 0.012}).endswith("10.0 model-steps/s, noise, share of an epoch: 1.20%")
    assert gpu.said(row).endswith("10.0 model-steps/s")


def test_of_an_unfinished_block_the_last_state_is_packed(tmp_path):
    args = SimpleNamespace(out=tmp_path, dry_run=False, piece=1.0)
    kit = gpu.Kit(args)
    kit.started -= 60
    resume = tmp_path / "runs/a/checkpoints/block-000/resume/00000"
    for name in ("epoch-000001.safetensors", "epoch-000002.safetensors", ".epoch-000003.safetensors.7.part"):
        write_text(resume / name, name)
    gpu.pack(kit)
    assert [path.name for path in (tmp_path / "pieces").iterdir()] == ["a.block-000.01of01"]
    gpu.unpack(tmp_path / "pieces", tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").rglob("*") if path.is_file()] == ["epoch-000002.safetensors"]


@pytest.mark.slow
def test_a_later_quarter_of_an_hour_goes_on_from_the_pieces(dry, tmp_path):
    out, _ = dry
    pieces = sorted((out / "pieces").iterdir())
    assert any(path.name.endswith("02of02") for path in pieces)
    assert max(path.stat().st_size for path in pieces) <= 2**19
    gpu.unpack(out / "pieces", tmp_path)
    files = [path.relative_to(tmp_path) for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len([path for path in files if path.name == "weights.safetensors"]) == 4
    for path in files:
        assert (tmp_path / path).read_bytes() == (out / path).read_bytes()
    stamps = {path: (tmp_path / path).stat().st_mtime_ns for path in files if path.name == "weights.safetensors"}
    done = run(
        "--dry-run", "--from", str(out / "pieces"), "--skip", "tests", "ways", "evaluation", "--runs", "mnist-ghvae",
        out=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained already") == 2
    assert {path: (tmp_path / path).stat().st_mtime_ns for path in stamps} == stamps
    pieces[0].unlink()
    with pytest.raises(InputError, match=r"of cifar10-ghvae\.block-000 there are \d pieces, not \d"):
        gpu.unpack(out / "pieces", tmp_path)


def fails():
    yield 1
    raise ValueError("a card\nmay do this")


def dies():
    yield 1
    os._exit(7)


def hangs():
    yield gpu.READY


@pytest.mark.parametrize(
    ("steps", "answer"),
    [(fails, "ValueError: a card may do this"), (dies, "the process died, exit status 7")],
)
def test_a_process_that_fails_is_one_line(steps, answer):
    child = gpu.Child(False, steps)
    until = time.monotonic() + 300
    assert child.answer(until) == 1
    assert child.answer(until) == {"error": answer}
    child.end()


def test_a_process_that_hangs_is_out_of_time():
    child = gpu.Child(False, hangs)
    assert child.answer(time.monotonic() + 300) == gpu.READY
    assert child.answer(time.monotonic() + 0.1) == {"error": "out of time"}
    child.end()
    assert not child.process.is_alive()


def test_the_best_way_is_fast_and_agrees():
    row = {"images": "28x28x1", "members": 81, "batch": 256, "precision": "float32", "loss": 100.0}
    rows = [
        row | {"way": gpu.AUTHORS, "model_steps_per_s": 1e6},
        row | {"way": gpu.FIRST, "model_steps_per_s": 10},
        row | {"way": "whole", "model_steps_per_s": 30, "loss": 100.5},
        row | {"way": "wrong", "model_steps_per_s": 40, "loss": 110.0},
        row | {"way": "smaller", "model_steps_per_s": 50, "batch": 128},
        row | {"way": "broken", "error": "no memory"},
        row | {"way": "rough", "model_steps_per_s": 20, "precision": "bfloat16"},
    ]
    assert gpu.best(rows, "28x28x1")["way"] == "whole"
    few = row | {"members": 441, "way": gpu.FIRST, "model_steps_per_s": 99, "loss": 1.0}
    assert gpu.best([*rows, few], "28x28x1")["way"] == "whole"
    assert gpu.best(rows, "28x28x1", precision="bfloat16")["way"] == "rough"
    assert gpu.best(rows, "32x32x3") is None


def test_the_roofline_is_the_nearer_of_two_walls():
    counts = {"layers": 1000, "copies": 3000, "flop": 1e6}
    found = gpu.roofline(counts, bandwidth=1e-3, rates={"float32": 1e-3, "bfloat16": 1.0}, batch=10)
    assert found["float32, layers, model_steps_per_s"] == 100  # 1e7 operations at 1e9 a second
    assert found["float32, all, model_steps_per_s"] == 100
    assert found["bfloat16, all, model_steps_per_s"] == round(1e9 / (6 * 2 * 4000 * 10))


def test_what_one_image_is_counted_for():
    """Of Table 2 by hand: maps of 14, 7 and 4, vectors of the dense layers, and the image itself."""
    maps = 2 * 16 * 14**2 + 2 * 16 * 7**2 + 16 * 4**2  # q(z_2 | x) and the first of q(z_1 | z_2, x)
    decoder = 16 * 7**2 + 16 * 14**2 + 28**2
    joint = 256 + 16 * 7**2 + 3 * 16 * 4**2
    dense = 2 * 20 + 128 + 2 * 256
    assert gpu.counted((1, 28, 28))["layers"] == maps + decoder + joint + dense


def test_without_a_gpu_it_says_so(tmp_path):
    if gpu_there():
        pytest.skip("there is a CUDA device")
    done = run(out=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: PyTorch finds no CUDA device here; --dry-run makes every step on a CPU\n"
    done = run("--from", str(tmp_path), out=tmp_path)
    assert done.returncode == 2 and "there are no pieces" in done.stderr


def gpu_there():
    import torch

    return torch.cuda.is_available()
