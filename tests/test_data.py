"""Data sets: every format from files made here, every kind of bad input, downloads from this machine only."""

from __future__ import annotations

import email.message
import gzip
import hashlib
import io
import os
import pickle
import resource
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from hvae_core.data import download, readers
from hvae_core.data.dataset import Dataset, pixels
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.progress import Progress

RNG = np.random.RandomState(1)
REAL = Path(os.environ.get("HVAE_TEST_DATA", "/nonexistent"))


def levels(*shape: int) -> np.ndarray:
    """Random uint8 images."""
    return RNG.randint(0, 256, shape).astype(np.uint8)


def offline(name: str, root: Path) -> Dataset:
    return load(name, root, download=False)


# ------------------------------------------------------------------------------- files like the official ones


def write(root: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch | None) -> None:
    """The files below `root`; with `monkeypatch` their md5 sums become the expected ones."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if monkeypatch:
            monkeypatch.setitem(download.MD5, path.name, hashlib.md5(content).hexdigest())


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def mnist_files(pack: bool = True) -> dict[str, bytes]:
    label = np.arange(12, dtype="u1") % 10
    files = {
        "train-images-idx3-ubyte": levels(12, 28, 28),
        "train-labels-idx1-ubyte": label,
        "t10k-images-idx3-ubyte": levels(5, 28, 28),
        "t10k-labels-idx1-ubyte": label[:5],
    }
    return {name + ".gz" * pack: gzip.compress(idx(v)) if pack else idx(v) for name, v in files.items()}


def cifar10_files() -> dict[str, bytes]:
    return {
        f"cifar-10-batches-py/{name}": pickle.dumps(
            {b"data": levels(3, 3072), b"labels": [i, 0, 9], b"batch_label": name.encode()}, protocol=2
        )
        for i, name in enumerate(readers.CIFAR10_BATCHES)
    }


def cifar10_archive(files: dict[str, bytes]) -> dict[str, bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return {"cifar-10-python.tar.gz": buffer.getvalue()}


def svhn_files() -> dict[str, bytes]:
    files = {}
    for name, n in (("train_32x32.mat", 11), ("test_32x32.mat", 4)):
        buffer: Any = io.BytesIO()
        savemat(buffer, {"X": levels(32, 32, 3, n), "y": (np.arange(n, dtype="u1")[:, None] % 10) + 1})
        files[name] = buffer.getvalue()
    return files


def png(x: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(x)
    (image.convert(mode) if mode else image).save(buffer, "PNG")
    return buffer.getvalue()


def omniglot_files() -> dict[str, bytes]:
    """Two alphabets with two characters of 20 drawers; a drawing is a block at the drawer's height."""
    files = {}
    for half, alphabet in (("background", "Greek"), ("evaluation", "Angelic")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"images_{half}/", "")
            for character in (1, 2):
                for drawer in range(1, 21):
                    paper = np.full((105, 105), 255, np.uint8)
                    paper[4 * drawer : 4 * drawer + 16, 10:40] = 0
                    name = f"{alphabet}/character{character:02}/{character:04}_{drawer:02}.png"
                    archive.writestr(f"images_{half}/{name}", png(paper, "1"))
        files[f"images_{half}.zip"] = buffer.getvalue()
    return files


def omniglot_small(path: Path) -> None:
    """Three characters of two alphabets by 20 drawers; character 2 is stored twice, in both splits."""
    character = np.repeat([0, 1, 2, 2], 20).astype("u2")
    drawer = np.tile(np.arange(1, 21, dtype="u1"), 4)
    x = np.zeros((80, 28, 28), np.uint8)
    x[np.arange(80), character, drawer] = 255  # a drawing says who drew what
    np.savez(
        path,
        x=x,
        character=character,
        drawer=drawer,
        alphabet=(character == 2).astype("u1"),
        split=np.repeat([1, 1, 1, 2], 20),
        alphabet_names=np.array(["Greek", "Latin"]),
    )


# ----------------------------------------------------------------------------------------------- the data set


def test_digits_are_the_same_everywhere() -> None:
    d = load("digits")
    assert d.name == "digits" and d.binary and d.image_shape == (1, 28, 28) and d.num_classes == 10
    assert (len(d.x_train), len(d.x_test)) == (1000, 797)
    assert d.x_train.dtype == torch.uint8 and set(d.x_train.flatten().tolist()) == {0, 255}
    assert d.y_train is not None and d.y_test is not None and d.y_train.dtype == torch.int64
    train, test = torch.bincount(d.y_train), torch.bincount(d.y_test)
    assert (train - (train + test) * 1000 / 1797).abs().max() < 1, "stratified as well as whole images allow"
    assert d.fingerprint == "9eb378eaf8d127be7a2799fffb97b34898822ba2601bdac411306bf21dc3df18"


def test_digits_in_colour_are_those_digits_in_two_colours_each() -> None:
    grey, colour = load("digits"), load("digits-colour")
    assert colour.image_shape == (3, 32, 32) and (len(colour.x_train), len(colour.x_test)) == (1000, 797)
    assert torch.equal(colour.y_train, grey.y_train) and torch.equal(colour.y_test, grey.y_test)
    x = colour.x_test.to(torch.float64).flatten(2)
    ground, ink = x[:, :, :1], x - x[:, :, :1]  # the corner is empty
    assert ink.min() >= 0 and (ink.amax(2) >= 60).double().mean() > 0.95, "lighter in every channel"
    share = (ink / ink.abs().amax(2, keepdim=True)).abs()
    assert (share - share[:, :1]).abs().max() < 0.04, "one colour over another: channels have one shape"
    assert len(ground.flatten(1).unique(dim=0)) == 8, "grounds"
    assert colour.fingerprint == "6a7e4a31430785a2784bc869cbaa9a42bebae59b56a635cc7becfe6eb86b8b39"


def test_first_keeps_the_classes_and_says_so() -> None:
    d = load("digits")
    few = d.first(train=20, test=797)
    assert (len(few.x_train), len(few.x_test), few.num_classes) == (20, 797, 10)
    assert few.y_train is not None and d.y_train is not None and torch.equal(few.y_train, d.y_train[:20])
    assert few.notes == (*d.notes, "only the first 20 of 1,000 train images")
    assert few.fingerprint != d.fingerprint == d.first().fingerprint == d.to("cpu").fingerprint


@pytest.mark.parametrize("wanted", [{"train": 0}, {"train": -3}, {"test": 798}])
def test_first_refuses_what_is_not_there(wanted: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"images asked for; digits allows 1 to (1000|797)$"):
        load("digits").first(**wanted)


def test_fingerprint_sees_every_part() -> None:
    x, y = torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1, 1])
    d = Dataset("a", x, y, x, y, ("p", "q"), ())
    assert replace(d, name="b", notes=("c",)).fingerprint == d.fingerprint
    others = [
        replace(d, x_train=x + 1),
        replace(d, x_test=x + 1),
        replace(d, y_train=1 - y),
        replace(d, y_test=None),
        replace(d, class_names=("p", "r")),
    ]
    assert len({d.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_pixels() -> None:
    x = pixels(torch.arange(256, dtype=torch.uint8))
    assert x.dtype == torch.float32 and x[0] == 0 and x[255] == 1
    assert torch.equal((x * 255).round().long(), torch.arange(256))


def test_pixels_leaves_floats_alone() -> None:
    for x in (torch.tensor([0.0, 0.3, 7.0]), torch.tensor([0.5], dtype=torch.float64)):
        assert pixels(x) is x


def test_input_error_is_one_line() -> None:
    assert "\n" not in str(InputError("first\nsecond"))


# ----------------------------------------------------------------------------------- named data sets, offline


@pytest.mark.parametrize("pack", [True, False], ids=["gz", "unpacked"])
@pytest.mark.parametrize("folder", ["", "MNIST/raw", "mnist"])
def test_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, pack: bool) -> None:
    files = mnist_files(pack)
    write(tmp_path / folder, files, monkeypatch)
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    d = load("mnist", download=False)
    raw = next(iter(files.values()))
    x = np.frombuffer((gzip.decompress(raw) if pack else raw)[16:], np.uint8).reshape(12, 1, 28, 28)
    assert np.array_equal(d.x_train.numpy(), np.where(x >= 128, 255, 0))
    assert d.y_train is not None and d.y_train.tolist() == [*range(10), 0, 1] and len(d.x_test) == 5
    assert d.notes == ("official split", "binarised by rounding") and d.class_names[3] == "3"


def amat(x: np.ndarray, end: str = "\n") -> bytes:
    """Binary images (N, 28, 28) as Larochelle and Murray's text."""
    return "".join(" ".join(map(str, row)) + end for row in x.reshape(len(x), 784)).encode()


@pytest.fixture
def amat_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "STATIC_MNIST", (7, 3))


@pytest.mark.parametrize("end", ["\n", " \r\n"], ids=["plain", "with white space"])
@pytest.mark.parametrize("folder", ["static-mnist", "binarized_mnist"])
def test_static_mnist_of_larochelle_and_murray(tmp_path: Path, amat_sizes: None, folder: str, end: str) -> None:
    x = levels(10, 28, 28) % 2
    write(
        tmp_path / folder,
        {
            "binarized_mnist_train.amat": amat(x[:7], end),
            "binarized_mnist_valid.amat": b"not read",
            "binarized_mnist_test.amat": amat(x[7:], end).rstrip(),
        },
        None,
    )
    write(tmp_path, mnist_files(), None)  # stand back
    d = offline("static-mnist", tmp_path)
    assert np.array_equal(d.x_train[:, 0].numpy(), x[:7] * 255) and np.array_equal(d.x_test[:, 0].numpy(), x[7:] * 255)
    assert d.x_train.dtype == torch.uint8 and d.binary and d.name == "static-mnist"
    assert d.y_train is d.y_test is None and d.num_classes == 0
    assert d.notes[0] == "fixed binarisation of Larochelle and Murray (2011)" and not any(
        "rounding" in n for n in d.notes
    )


def test_static_mnist_drawn_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amat_sizes: None) -> None:
    train, test = levels(12, 28, 28), levels(5, 28, 28)
    train[:, :10], train[:, 10:20] = 0, 255
    files = mnist_files() | {
        "train-images-idx3-ubyte.gz": gzip.compress(idx(train)),
        "t10k-images-idx3-ubyte.gz": gzip.compress(idx(test)),
    }
    write(tmp_path, files, monkeypatch)
    d = offline("static-mnist", tmp_path)
    assert (len(d.x_train), len(d.x_test)) == (7, 5) and d.binary and set(d.x_train.flatten().tolist()) == {0, 255}
    assert d.y_train is not None and d.y_train.tolist() == list(range(7)) and d.num_classes == 10
    assert d.x_train[:, :, :10].eq(0).all() and d.x_train[:, :, 10:20].eq(255).all(), "black and white are certain"
    drawn, level = (d.x_test[:, 0].numpy() == 255).ravel(), test.ravel() / 255
    assert (drawn - level).mean() == pytest.approx(0, abs=4 * (level * (1 - level)).mean() ** 0.5 / len(level) ** 0.5)
    grey = (level > 0.25) & (level < 0.75)
    assert 0.2 < (drawn[grey] != (level[grey] >= 0.5)).mean() < 0.5, "drawn, not rounded"
    assert d.fingerprint == offline("static-mnist", tmp_path).fingerprint
    assert "seed 0, not that of Larochelle and Murray" in d.notes[0] and not any("rounding" in n for n in d.notes)


STATIC: dict[str, tuple[dict[str, bytes | None], str]] = {
    "half of them": ({"binarized_mnist_test.amat": None}, r"train.amat is there, but binarized_mnist_test.amat is not"),
    "other half": ({"binarized_mnist_train.amat": None}, r"test.amat is there, but binarized_mnist_train.amat is not"),
    "cut short": (
        {"binarized_mnist_train.amat": amat(np.ones((6, 28, 28), int))},
        "4,704 digits and 6 line ends, .* 7 lines",
    ),
    "one line": ({"binarized_mnist_test.amat": amat(np.ones((3, 28, 28), int), " ")}, "2,352 digits and 0 line ends"),
    "grey levels": ({"binarized_mnist_test.amat": amat(np.full((3, 28, 28), 2))}, "holds '2'; allowed are 0 and 1"),
    "empty": ({"binarized_mnist_test.amat": b""}, "holds 0 digits"),
}


@pytest.mark.parametrize("case", STATIC)
def test_wrong_amat_files_get_one_plain_line(tmp_path: Path, amat_sizes: None, case: str) -> None:
    changes, message = STATIC[case]
    files = {
        "binarized_mnist_train.amat": amat(levels(7, 28, 28) % 2),
        "binarized_mnist_test.amat": amat(levels(3, 28, 28) % 2),
    }
    write(tmp_path / "static-mnist", {k: v for k, v in (files | changes).items() if v is not None}, None)
    with pytest.raises(InputError, match=message) as caught:
        offline("static-mnist", tmp_path)
    assert "\n" not in str(caught.value)


def test_static_mnist_without_any_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz is not under"):
        offline("static-mnist", tmp_path)


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    files = cifar10_files()
    write(tmp_path, cifar10_archive(files) if packed else files, monkeypatch)
    d = offline("cifar10", tmp_path)
    second = pickle.loads(files["cifar-10-batches-py/data_batch_2"])[b"data"]
    assert d.x_train.shape == (15, 3, 32, 32) and d.x_test.shape == (3, 3, 32, 32) and not d.binary
    assert np.array_equal(d.x_train[3:6].numpy().reshape(3, 3072), second)
    assert d.y_train is not None and d.y_train.tolist() == [n for i in range(5) for n in (i, 0, 9)]
    assert d.class_names[0] == "airplane" and d.notes == ("official split",)


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = svhn_files()
    write(tmp_path / "SVHN", files, monkeypatch)
    d = offline("svhn", tmp_path)
    stored = loadmat(str(tmp_path / "SVHN/train_32x32.mat"))["X"]  # (row, column, channel, image)
    assert d.x_train.shape == (11, 3, 32, 32) and d.x_train.is_contiguous() and len(d.x_test) == 4
    assert np.array_equal(d.x_train[7, 2].numpy(), stored[:, :, 2, 7])
    assert d.y_train is not None and d.y_train.tolist() == [*range(1, 10), 0, 1], "10 stands for digit 0"


def test_omniglot_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, omniglot_files(), monkeypatch)
    omniglot_small(tmp_path / "omniglot_small.npz")  # stands back behind the official files
    d = offline("omniglot", tmp_path)
    assert d.class_names == ("Angelic", "Greek") and (len(d.x_train), len(d.x_test)) == (64, 16)
    assert d.y_test is not None and torch.bincount(d.y_test).tolist() == [8, 8], "both alphabets are in test"
    top = [(x[0] > 0).any(1).nonzero().min().item() for x in (*d.x_train, *d.x_test)]
    assert max(top[:64]) < min(top[64:]), "drawers 17 to 20, whose squares are lowest, are the test set"
    assert "resized from 105x105 to 28x28" in d.notes and pixels(d.x_train).mean() < 0.2, "ink is 1"


def test_omniglot_small_drops_doubles(tmp_path: Path) -> None:
    omniglot_small(tmp_path / "omniglot_small.npz")
    d = offline("omniglot", tmp_path)
    assert (len(d.x_train), len(d.x_test)) == (48, 12) and d.class_names == ("Greek", "Latin")
    drawn = [tuple((x[0] > 0).nonzero()[0].tolist()) for x in (*d.x_train, *d.x_test)]  # (character, drawer)
    assert len(set(drawn)) == 60 and max(who for _, who in drawn[:48]) == 16
    assert d.y_train is not None and d.y_train.tolist() == [int(which == 2) for which, _ in drawn[:48]]
    assert d.notes[0] == "omniglot_small.npz, 60 drawings without doubles"


# ---------------------------------------------------------------------------------------------- your own data


def npz(path: Path, **arrays: Any) -> str:
    """A good .npz, but for the arrays given; None leaves one out."""
    good: dict[str, Any] = {
        "x_train": levels(6, 28, 28),
        "y_train": np.arange(6) % 3,
        "x_test": levels(4, 28, 28),
        "y_test": np.arange(4) % 3,
    }
    np.savez(path / "mine.npz", **{k: v for k, v in (good | arrays).items() if v is not None})
    return str(path / "mine.npz")


def test_npz(tmp_path: Path) -> None:
    x = levels(6, 28, 28)
    y_train, y_test = np.array([7, -2, 7, 40, 40, 99], "i2"), np.array([99, 7, 7, 7], "u4")
    d = load(npz(tmp_path, x_train=x, y_train=y_train, y_test=y_test))
    assert np.array_equal(d.x_train[:, 0].numpy(), np.where(x >= 128, 255, 0))
    assert d.class_names == ("-2", "7", "40", "99") and d.name == "mine"
    assert d.y_train is not None and d.y_train.tolist() == [1, 0, 1, 2, 2, 3]
    assert d.y_test is not None and d.y_test.tolist() == [3, 1, 1, 1]
    assert d.notes == ("split as given", "binarised by rounding")


def test_npz_without_labels_is_scaled(tmp_path: Path) -> None:
    half = np.zeros((2, 3, 64, 48))
    half[:, :, :32] = 1.0  # floats, upper half white
    d = load(npz(tmp_path, x_train=half, x_test=half, y_train=None, y_test=None))
    assert d.x_train.shape == (2, 3, 32, 32) and d.y_train is d.y_test is None and d.num_classes == 0
    assert d.x_train[:, :, :15].eq(255).all() and d.x_train[:, :, 17:].eq(0).all()
    assert d.notes == ("split as given", "labels missing: no y_train, y_test", "resized from 64x48 to 32x32")


def test_npz_floats_are_rounded_and_shrinking_averages(tmp_path: Path) -> None:
    x = levels(6, 3, 32, 32)
    d = load(npz(tmp_path, x_train=x / 255, x_test=x.astype("f4") / 255, y_test=np.arange(6) % 3))
    assert np.array_equal(d.x_train.numpy(), x) and np.array_equal(d.x_test.numpy(), x)
    chess = np.zeros((6, 3, 96, 96), np.uint8)
    chess[..., ::2, ::2] = chess[..., 1::2, 1::2] = 255
    grey = load(npz(tmp_path, x_train=chess, x_test=chess[:4])).x_train[..., 1:-1, 1:-1]
    assert grey.min() > 90 and grey.max() < 165


def folder(root: Path, files: dict[str, bytes]) -> str:
    write(root / "pictures", files, None)
    return str(root / "pictures")


def grey_folder(root: Path, **changes: bytes | None) -> str:
    """A good folder, but for the files given; None leaves one out."""
    files = {
        f"{split}/{name}/{i}.png": png(levels(28, 28))
        for split in ("train", "test")
        for name in ("ant", "bee")
        for i in range(3)
    }
    return folder(root, {k: v for k, v in (files | changes).items() if v is not None})


def test_folder(tmp_path: Path) -> None:
    files = {
        f"{split}/{name}/{i}.png": png(np.full((40, 20, 3), [shade + i, 0, 0], np.uint8))
        for split in ("train", "test")
        for name, shade in (("ant", 10), ("bee", 100))
        for i in range(5)
    }
    files["train/ant/0.png"] = png(np.full((8, 8), 14, np.uint8))  # one grey, one of another size
    files["train/.hidden"] = b""
    d = load(folder(tmp_path, files))
    assert d.x_train.shape == (10, 3, 32, 32) and d.class_names == ("ant", "bee") and d.name == "pictures"
    assert d.y_train is not None and d.y_train.tolist() == [int(x.max() >= 100) for x in d.x_train]
    assert set(d.y_train[:5].tolist()) == {0, 1}, "shuffled, so that the first few hold both classes"
    assert d.notes == (
        "in colour, because train/ant/1.png is; 1 of 20 files are grey",
        "resized from 2 sizes to 32x32",
        "split as given, shuffled",
    )


def test_folder_of_grey_images_without_classes(tmp_path: Path) -> None:
    x = levels(28, 28)
    d = load(folder(tmp_path, {"train/a.png": png(x), "test/b.png": png(x, "1")}))
    assert d.image_shape == (1, 28, 28) and d.num_classes == 0 and d.y_train is None
    assert np.array_equal(d.x_train[0, 0].numpy(), np.where(x >= 128, 255, 0))
    assert d.notes[:2] == ("split as given, shuffled", "labels missing: no class folders")


# -------------------------------------------------------------------------------------------------- bad input


def text_as_npz(path: Path) -> str:
    (path / "mine.npz").write_text("not a zip file")
    return str(path / "mine.npz")


def cut_npz(path: Path) -> str:
    whole = Path(npz(path))
    whole.write_bytes(whole.read_bytes()[:3000])
    return str(whole)


def text_file(path: Path) -> str:
    (path / "mine.csv").write_text("1,2,3")
    return str(path / "mine.csv")


def nan_pixel() -> np.ndarray:
    x = np.zeros((6, 28, 28), np.float32)
    x[3, 5, 5] = np.nan
    return x


def wrong(**arrays: Any) -> Callable[[Path], str]:
    return lambda path: npz(path, **arrays)


def grey(name: str, content: bytes) -> Callable[[Path], str]:
    return lambda path: grey_folder(path, **{name: content})


def only(*names: str) -> Callable[[Path], str]:
    return lambda path: folder(path, dict.fromkeys(names, b""))


BAD: dict[str, tuple[Callable[[Path], str], str]] = {
    # what is wrong: (makes the file and returns the name to load, what the message must say)
    "unknown name": (lambda _: "minst", "'minst' does not exist; allowed are digits, digits-colour, mnist, .*cifar10"),
    "empty name": (lambda _: "", "'' does not exist; allowed are digits"),
    "name of two lines": (lambda _: "a\nb", r"'a\\nb' does not exist"),
    "no such npz": (lambda p: f"{p}/none.npz", "none.npz' does not exist"),
    "another file": (text_file, "mine.csv' is neither an .npz file nor a folder"),
    "text named npz": (text_as_npz, "mine.npz is not an .npz file"),
    "npz cut short": (cut_npz, "mine.npz is not an .npz file, or not all of one"),
    "pickled objects": (wrong(x_train=np.array([None] * 6)), "mine.npz cannot be read: Object arrays"),
    "no x_test": (wrong(x_test=None), "has no x_test; it holds x_train, y_train, y_test"),
    "only one y": (wrong(y_test=None), "has y_train but no y_test; allowed are both or neither"),
    "floats to 255": (wrong(x_train=levels(6, 28, 28) * 1.0), "floats from 0 to 255; .* within 0 to 1"),
    "floats below 0": (wrong(x_test=-np.ones((4, 28, 28))), "x_test has floats from -1 to -1"),
    "NaN": (wrong(x_train=nan_pixel()), "x_train has floats from nan to nan"),
    "wide integers": (wrong(x_train=levels(6, 28, 28).astype(int)), "x_train is int64; allowed are uint8"),
    "0 and 1 as uint8": (wrong(x_train=levels(6, 28, 28) // 128), "only 0 and 1; .* multiply by 255"),
    "all black": (wrong(x_train=levels(6, 28, 28) // 3), "x_train has level 0 in every pixel once binarised"),
    "channels last": (wrong(x_train=levels(6, 32, 32, 3)), r"\(6, 32, 32, 3\).* x.transpose\(0, 3, 1, 2\)"),
    "two channels": (wrong(x_train=levels(6, 2, 32, 32)), "C = 1 or 3"),
    "flat images": (wrong(x_train=levels(6, 784)), r"x_train has shape \(6, 784\)"),
    "no images": (wrong(x_test=levels(0, 28, 28), y_test=np.arange(0)), "x_test holds 0 images"),
    "tiny images": (wrong(x_train=levels(6, 3, 3)), "6 images of 3x3; allowed are 1 or more images of 4x4"),
    "two sizes": (wrong(x_test=levels(4, 3, 32, 32)), r"\(1, 28, 28\), x_test of \(3, 32, 32\)"),
    "too few labels": (wrong(y_train=np.arange(5)), r"y_train is int64 of shape \(5,\); .* of the 6 images"),
    "labels as columns": (wrong(y_train=np.eye(6, dtype=int)), r"y_train is int64 of shape \(6, 6\)"),
    "labels as floats": (wrong(y_test=np.zeros(4)), "y_test is float64"),
    "one class": (wrong(y_train=np.full(6, 4), y_test=np.full(4, 4)), "every label is 4: needs at least two"),
    "folder without test": (only("train/ant/0.png"), "pictures has no folder test/"),
    "damaged image": (grey("train/bee/1.png", png(levels(28, 28))[:200]), "train/bee/1.png cannot be read"),
    "text as image": (grey("test/ant/note.txt", b"hello"), "test/ant/note.txt cannot be read"),
    "16-bit image": (grey("train/ant/1.png", png(levels(28, 28).astype("u2"))), "1.png has more than 8 bits"),
    "tiny image": (grey("train/ant/1.png", png(levels(2, 28))), "ant/1.png is 2x28; allowed is 4x4"),
    "unknown class": (grey("test/cat/0.png", b""), "test/cat is a class that train/ has not, .* ant, bee"),
    "image beside classes": (grey("train/0.png", b""), "train/0.png lies beside class folders"),
    "empty class": (grey("train/cat/.hidden", b""), "train/cat holds no images"),
    "classes in train only": (only("train/ant/0.png", "test/0.png"), "train/ holds class folders and test/"),
    "one class folder": (only("train/ant/0.png", "test/ant/0.png"), "only class is ant: needs at least two"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_plain_line(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    name = make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load(name, tmp_path, download=False)
    assert "\n" not in str(caught.value)


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "cut short": (IMAGES, lambda b: b[:5000], r"\d,\d+ bytes unpacked, expected are 9,424 for 12 x 28 x 28"),
    "too long": (LABELS, lambda b: gzip.compress(gzip.decompress(b) + b"x"), "14 bytes .* are 13 for 5"),
    "two dimensions": (LABELS, lambda b: gzip.compress(idx(levels(2, 2))), "08 02, expected is 00 00 08 01"),
    "empty": (LABELS, lambda b: b"", "it begins with nothing"),
    "web page": (LABELS, lambda b: b"<html>", "cannot be read"),
    "other labels": (
        LABELS,
        lambda b: gzip.compress(idx(np.ones(5, "u1"))),
        "has md5 [0-9a-f]{32}, expected is [0-9a-f]{32}: delete it to download it again",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    name, damage, message = DAMAGE[case]
    files = mnist_files()
    write(tmp_path, files, monkeypatch)
    (tmp_path / name).write_bytes(damage(files[name]))
    with pytest.raises(InputError, match=f"{name} .*{message}"):
        offline("mnist", tmp_path)


@pytest.mark.parametrize(
    ("dataset", "files"),
    [
        ("cifar10", cifar10_files),
        ("cifar10", lambda: cifar10_archive({})),
        ("svhn", svhn_files),
        ("omniglot", omniglot_files),
    ],
)
def test_other_files_are_checked_before_they_are_read(
    tmp_path: Path, dataset: str, files: Callable[[], dict[str, bytes]]
) -> None:
    write(tmp_path, files(), None)
    with pytest.raises(InputError, match=r"has md5 .* expected is .* delete it"):
        offline(dataset, tmp_path)


def test_a_pickle_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "was here"),)

    files = cifar10_files() | {"cifar-10-batches-py/test_batch": pickle.dumps(Evil())}
    write(tmp_path, cifar10_archive(files), monkeypatch)
    with pytest.raises(InputError, match=r"test_batch cannot be read: it asks for \w+.mkdir, which is not"):
        offline("cifar10", tmp_path)
    assert not (tmp_path / "was here").exists()


def test_missing_files_are_named_with_their_place(tmp_path: Path) -> None:
    write(tmp_path, {"train-images-idx3-ubyte.gz": gzip.compress(idx(levels(2, 28, 28)))}, None)
    (tmp_path / "mnist").mkdir()
    with pytest.raises(InputError) as caught:
        offline("svhn", tmp_path)
    assert f"put train_32x32.mat, test_32x32.mat into {tmp_path / 'svhn'}" in str(caught.value)
    with pytest.raises(InputError, match=r"put train-labels-idx1-ubyte.gz, t10k-images-\S* t10k-labels"):
        offline("mnist", tmp_path)


# --------------------------------------------------------------------------------------------------- download


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A web server here with three mirrors of MNIST: /broken/ (nothing), /wrong/ (other bytes) and /good/."""
    files = mnist_files()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, mirror, name = self.path.split("/")
            body = {"wrong": b"<html>", "good": files.get(name)}.get(mirror)
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: Any) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    mirrors = tuple(f"http://127.0.0.1:{httpd.server_port}/{name}/" for name in ("broken", "wrong", "good"))
    monkeypatch.setitem(download.SOURCES, "mnist", replace(download.SOURCES["mnist"], mirrors=mirrors))
    for name, content in files.items():
        monkeypatch.setitem(download.MD5, name, hashlib.md5(content).hexdigest())
    yield files
    httpd.shutdown()
    httpd.server_close()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_download_tries_mirrors_in_turn(tmp_path: Path, server: dict[str, bytes]) -> None:
    d = load("mnist", tmp_path / "new")
    assert len(d.x_train) == 12 and names(tmp_path / "new" / "mnist") == sorted(server), "no .part is left"
    assert offline("mnist", tmp_path / "new").fingerprint == d.fingerprint


def test_download_fetches_only_what_is_missing_and_reports(
    tmp_path: Path, server: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {k: v for k, v in server.items() if "images" in k}, None)
    seen: list[tuple[float, int | None]] = []
    monkeypatch.setattr(Progress, "update", lambda self, done: seen.append((done, self.total)))
    load("mnist", tmp_path)
    assert names(tmp_path / "mnist") == ["t10k-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    size = len(server["train-labels-idx1-ubyte.gz"]) / 1e6
    assert (size, round(size)) in seen


def test_download_when_no_mirror_works(tmp_path: Path, server: dict[str, bytes]) -> None:
    server.clear()  # the good mirror has nothing either
    with pytest.raises(InputError) as caught:
        load("mnist", tmp_path)
    message = str(caught.value)
    assert message.startswith("train-images-idx3-ubyte.gz could not be downloaded; put train-images")
    assert "t10k-labels-idx1-ubyte.gz" in message, "all four files, for whoever fetches them by hand"
    assert f"into {tmp_path / 'mnist'}" in message and message.count("http://") == 3 and "\n" not in message
    assert "broken/train-images-idx3-ubyte.gz: HTTP Error 404" in message and "wrong md5" in message
    assert names(tmp_path / "mnist") == []


def test_download_breaks_off(tmp_path: Path, server: dict[str, bytes]) -> None:
    class Unplugged(io.BytesIO):
        headers = email.message.Message()

        def read(self, *_: Any) -> bytes:
            raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(InputError, match="Connection reset by peer"):
        load("mnist", tmp_path, opener=lambda request, timeout: Unplugged())
    assert names(tmp_path / "mnist") == []


def test_download_onto_a_full_disk(tmp_path: Path, server: dict[str, bytes]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # as good as a full disk, and works for root too
    try:
        with pytest.raises(InputError, match=r"train-images\S* cannot be written .*mnist: File too large"):
            load("mnist", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path / "mnist") == []


def test_download_into_a_place_that_is_no_folder(tmp_path: Path, server: dict[str, bytes]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written into .*/file/mnist: Not a directory"):
        load("mnist", tmp_path / "file")


# --------------------------------------------------------------------------- real files, where there are any


@pytest.mark.skipif(not (REAL / "MNIST/raw").is_dir(), reason="HVAE_TEST_DATA has no MNIST/raw")
def test_real_mnist() -> None:
    d = offline("mnist", REAL)
    assert d.x_train.shape == (60_000, 1, 28, 28) and d.x_test.shape == (10_000, 1, 28, 28)
    assert d.y_train is not None and d.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert pixels(d.x_train).mean().item() == pytest.approx(0.1308, abs=0.005)


@pytest.mark.skipif(not (REAL / "MNIST/raw").is_dir(), reason="HVAE_TEST_DATA has no MNIST/raw")
def test_real_static_mnist_drawn_here() -> None:
    d = offline("static-mnist", REAL)
    assert d.x_train.shape == (50_000, 1, 28, 28) and d.x_test.shape == (10_000, 1, 28, 28)
    assert pixels(d.x_train).mean().item() == pytest.approx(0.1310, abs=1e-4)
    assert d.fingerprint == "88728d96fcc0852d2e0e406da449743cc8ac8d2f764046ca7ac96428f0b14e0c", "the draw is for good"


@pytest.mark.skipif(not (REAL / "omniglot_small.npz").is_file(), reason="no small Omniglot there")
def test_real_omniglot_small() -> None:
    d = offline("omniglot", REAL)
    assert (len(d.x_train), len(d.x_test)) == (242 * 16, 242 * 4) and d.num_classes == 8
    assert d.y_test is not None and set(d.y_test.tolist()) == set(range(8))
    assert d.binary and set(d.x_train.unique().tolist()) == {0, 255}
