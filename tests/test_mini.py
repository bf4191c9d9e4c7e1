"""The images of MNIST that come with the package: whole, balanced, and those of the official files."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hvae_core.data import load, mini
from hvae_core.data.make_mini import made_of, main
from hvae_core.errors import InputError
from hvae_core.files import ROOT

REAL = Path(os.environ.get("HVAE_TEST_DATA", "/nonexistent"))


def test_it_comes_with_the_package(tmp_path: Path) -> None:
    """Without a download, and wherever data sets lie."""
    data = load("mnist-mini", tmp_path / "none", download=False)
    assert data.name == "mnist-mini" and data.binary and data.num_classes == 10
    assert data.x_train.shape == (3000, 1, 28, 28) and data.x_test.shape == (1000, 1, 28, 28)
    assert data.x_train.dtype == torch.uint8 and set(data.x_train.unique().tolist()) == {0, 255}
    assert data.notes == (
        "the first 300 training and 100 test images of each digit",
        "official split",
        "binarised by rounding",
    )
    assert data.fingerprint == "522f1d0234b762696504272279ef80fb15a3b1728e4fc958386345a3201557da"
    assert not (tmp_path / "none").exists()


def test_the_first_images_hold_all_classes() -> None:
    data = load("mnist-mini")
    assert data.y_train is not None and data.y_test is not None
    for y, each in ((data.y_train, 300), (data.y_test, 100), (data.first(200).y_train, 20)):
        assert y is not None and torch.bincount(y).tolist() == [each] * 10
    assert data.y_test[:12].tolist() == [*range(10), 0, 1], "as figures show them"


def test_it_is_small() -> None:
    assert mini.FILE.stat().st_size < 500_000


@pytest.mark.parametrize("damage", [lambda raw: raw[:5000], lambda raw: raw[:-1] + b"\x01", lambda raw: b""])
def test_a_damaged_file_is_refused(tmp_path: Path, damage) -> None:
    path = tmp_path / mini.FILE.name
    path.write_bytes(damage(mini.FILE.read_bytes()))
    with pytest.raises(InputError, match=r"mnist_mini.npy has SHA-256 [0-9a-f]{64}, expected is \w{64}: take .* again"):
        mini.images(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.npy cannot be read: No such file"):
        mini.images(tmp_path / "none.npy")


def test_the_command_refuses_a_damaged_file_in_one_line(tmp_path: Path) -> None:
    for part in ("hvae_core", "profiles"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "hvae_core/data/mnist_mini.npy").write_bytes(b"\x93NUMPY")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hvae_core", "quick", "--set", "dataset=mnist-mini"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "HVAE_OUTPUT": str(tmp_path / "output")},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stderr.strip()
    assert done.returncode == 2, done.stderr
    assert said.count("\n") == 0 and "mnist_mini.npy has SHA-256" in said and "from the repository again" in said


def images_of(classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Binary images, of which no two are equal, and shuffled labels."""
    random = np.random.RandomState(0)
    x = random.randint(0, 2, (classes * each, 1, 28, 28)).astype(np.uint8) * np.uint8(255)
    return x, random.permutation(np.arange(classes * each) % classes)


def test_what_is_packed_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of each class in the order given, from either part its own."""
    (x_train, y_train), (x_test, y_test) = images_of(10, 310), images_of(10, 110)
    x_test = 255 - x_test
    path = tmp_path / "packed.npy"
    path.write_bytes(mini.packed(x_train, y_train, x_test, y_test))
    monkeypatch.setattr(mini, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    for (x, y), (all_x, all_y), each in zip(
        mini.images(path), ((x_train, y_train), (x_test, y_test)), (300, 100), strict=True
    ):
        for digit in range(10):
            assert np.array_equal(x[y == digit], all_x[all_y == digit][:each])


def test_whose_they_are_stands_beside_them() -> None:
    text = mini.FILE.with_suffix(".md").read_text()
    for part in ("Yann LeCun", "Corinna Cortes", "creativecommons.org/licenses/by-sa/3.0", "make_mini"):
        assert part in text


def test_made_again_without_the_official_files(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    monkeypatch.setattr("hvae_core.data.download._fetch", lambda name, *_: tmp_path / "train-images-idx3-ubyte")
    assert main([str(tmp_path / "made.npy")]) == 2
    assert "train-images-idx3-ubyte is not an idx file" in capsys.readouterr().err
    assert not (tmp_path / "made.npy").exists()


@pytest.mark.skipif(not (REAL / "MNIST/raw").is_dir(), reason="HVAE_TEST_DATA has no MNIST/raw")
def test_they_are_those_of_the_official_files(tmp_path: Path, monkeypatch) -> None:
    mnist, small = load("mnist", REAL, download=False), load("mnist-mini")
    for split, each in (("train", 300), ("test", 100)):
        x, y, all_x, all_y = (getattr(data, f"{part}_{split}") for data in (small, mnist) for part in ("x", "y"))
        for digit in range(10):
            assert torch.equal(x[y == digit], all_x[all_y == digit][:each])
    assert made_of(mnist) == mini.FILE.read_bytes(), "byte for byte"
    monkeypatch.setenv("HVAE_DATA", str(REAL))
    assert main([str(tmp_path / "made.npy")]) == 0
    assert (tmp_path / "made.npy").read_bytes() == mini.FILE.read_bytes()
