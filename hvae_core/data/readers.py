"""Named data sets and your own, as uint8 tensors.

    data = load("mnist")                   # or another of DATASETS, mine.npz, my_folder/
    batch = pixels(data.x_train[:128])     # float32 within [0, 1], shape (128, 1, 28, 28)

Paper A has two image sizes, and each has its likelihood: 1x28x28 is binary (Bernoulli), 3x32x32 has
256 levels. Everything is brought to one of the two; what was done to the images stands in `Dataset.notes`.
Files are looked for under `HVAE_DATA` (default: `data/` of this repository), then downloaded.
"""

from __future__ import annotations

import codecs
import math
import os
import pickle
import re
import struct
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hvae_core.data import mini, pictures
from hvae_core.data.dataset import COLOUR, GREY, Array, Dataset
from hvae_core.data.download import SOURCES, Files, Opener, reading, root_of, verify
from hvae_core.data.pictures import SMALLEST
from hvae_core.errors import InputError
from hvae_core.names import DATASETS

# ---------------------------------------------------------------------------------------- the data set


def load(
    name: str, root: Path | str | None = None, download: bool = True, *, opener: Opener = urllib.request.urlopen
) -> Dataset:
    """A data set by its name (see `DATASETS`), or by the path of an .npz file or a folder of images.

    An .npz holds x_train and x_test (uint8, or floats within 0 to 1; N x C x H x W or N x H x W), and
    y_train and y_test (integers) or neither of them. A folder holds train/<class>/* and test/<class>/*,
    or, without labels, train/* and test/*, in any format that Pillow reads (see `pictures`). Each class of the
    test set is one of the training set, too. Other image sizes are scaled, grey ones to 28x28 and colour ones to
    32x32, and 28x28 images are binarised by rounding; `notes` says so.

    root: folder of the named data sets' files; default: the variable HVAE_DATA, else `data/` here.
    download: fetch missing files into `root`, checked by md5, from the first mirror that works.
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
        return _LOADERS[name](Files(root_of(root), download, opener))
    path = Path(name).expanduser()
    if name and os.path.isdir(path):
        return _image_folder(path)
    if path.suffix.lower() == ".npz" and os.path.isfile(path):
        return _npz(path)
    trouble = "is neither an .npz file nor a folder" if name and os.path.exists(path) else "does not exist"
    raise InputError(
        f"data set {name!r} {trouble}; allowed are {', '.join(DATASETS)}, "
        "the path of an .npz file, and the path of a folder with train/ and test/"
    )


# ------------------------------------------------------------------------- from arrays to the two shapes


def _dataset(
    name: str,
    train: tuple[Array, Array | None],
    test: tuple[Array, Array | None],
    class_names: Sequence[str],
    notes: Sequence[str],
) -> Dataset:
    """Resize and binarise where needed. train, test: x uint8 (N, C, H, W) and labels 0 to M-1 or None."""
    done: list[str] = []
    x_train, x_test = (
        _to_target(f"{name}: x_{split}", x, done) for split, x in (("train", train[0]), ("test", test[0]))
    )
    y_train, y_test = (None if y is None else torch.from_numpy(y.astype(np.int64)) for y in (train[1], test[1]))
    return Dataset(name, x_train, y_train, x_test, y_test, tuple(class_names), tuple(dict.fromkeys([*notes, *done])))


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
    for i in range(0, len(x), 1024):  # a part at a time: as floats all of them may not fit
        part = torch.from_numpy(x[i : i + 1024]).to(torch.float32)
        part = F.interpolate(part, size=size, mode="bilinear", antialias=True, align_corners=False)
        out[i : i + 1024] = part.round().clamp(0, 255).to(torch.uint8).numpy()
    return out


def _shuffled(*arrays: Array) -> tuple[Array, ...]:
    """In one fixed random order, so that the first n are a fair sample of images stored by class."""
    # RandomState, because its streams are frozen for good; those of default_rng may change.
    order = np.random.RandomState(0).permutation(len(arrays[0]))
    return tuple(a[order] for a in arrays)


# ----------------------------------------------------------------------------- files of named data sets


DIGITS = tuple("0123456789")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")

STATIC_MNIST = (50_000, 10_000)  # images for training and test


# ---------------------------------------------------------------------------------------------- download


# -------------------------------------------------------------------------------------- named data sets


def _digits(files: Files) -> Dataset:
    """1,797 digits of 8x8 pixels, levels 0 to 16 (UCI "optdigits"), which come with scikit-learn."""
    levels, full, y = _digit_levels(28)
    x = (2 * levels >= full) * np.uint8(255)
    return _stratified("digits", x[:, None], y, ["resized from 8x8 to 28x28"])


def _digits_colour(files: Files) -> Dataset:
    """The same digits, each in one of eight light colours on one of eight dark ones: a small stand-in for SVHN."""
    levels, full, y = _digit_levels(32)
    draw = np.random.RandomState(0)
    ground = 96 * draw.randint(0, 2, (len(y), 3, 1, 1))
    ink = 160 + 95 * draw.randint(0, 2, ground.shape)
    x = (ground * full + (ink - ground) * levels[:, None] + full // 2) // full
    return _stratified("digits-colour", x.astype(np.uint8), y, ["resized from 8x8 to 32x32", "coloured at random"])


def _digit_levels(size: int) -> tuple[Array, int, Array]:
    """scikit-learn's digits enlarged to size x size, as whole numbers; the highest possible level; the labels.

    Bilinear interpolation from 8 to 28 has weights in fourteenths, to 32 in sixteenths. In whole numbers it is exact,
    ties included, so these images are the same bit for bit on every machine.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    unit = size // 2
    position = np.clip((16 * np.arange(size) + 8 - size) // 4, 0, 7 * unit)
    weights = np.maximum(0, unit - abs(position[:, None] - unit * np.arange(8)))  # (size, 8), rows sum to unit
    return weights @ x.reshape(-1, 8, 8).astype(np.int64) @ weights.T, 16 * unit**2, y


def _stratified(name: str, x: Array, y: Array, notes: Sequence[str]) -> Dataset:
    """1,000 training images, and the others to test."""
    x, y = _shuffled(x, y)
    # Sorted by class, the images at 1,000 evenly spaced places are as stratified as can be.
    place = np.empty(len(y), np.int64)
    place[np.argsort(y, kind="stable")] = np.arange(len(y))
    train = (place + 1) * 1000 // len(y) > place * 1000 // len(y)
    split = (x[train], y[train]), (x[~train], y[~train])
    return _dataset(name, *split, DIGITS, [*notes, "fixed stratified split"])


def _mnist(files: Files) -> Dataset:
    """60,000 and 10,000 handwritten digits, the official split."""
    x_train, y_train, x_test, y_test = (_idx(path) for path in files.get("mnist"))
    return _dataset("mnist", (x_train[:, None], y_train), (x_test[:, None], y_test), DIGITS, ["official split"])


def _mnist_mini(files: Files) -> Dataset:
    """3,000 and 1,000 images of MNIST, which come with this package: see `mini`."""
    return _dataset("mnist-mini", *mini.images(), DIGITS, mini.NOTES)


def _idx(path: Path) -> Array:
    """The uint8 array of an idx file, plain or gzipped: zeros, type, number of sizes, sizes, values."""
    with reading(path):
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = zlib.decompressobj(wbits=31).decompress(raw)  # of a file cut short: as far as it goes
    dims = 3 if "idx3" in path.name else 1
    magic, header = bytes([0, 0, 8, dims]), 4 + 4 * dims
    if len(raw) < header or raw[:4] != magic:
        raise InputError(
            f"{path} is not an idx file of {dims}-dimensional bytes: it begins with "
            f"{raw[:4].hex(' ') or 'nothing'}, expected is {magic.hex(' ')}"
        )
    shape = struct.unpack(f">{dims}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        raise InputError(
            f"{path} holds {len(raw):,} bytes{' unpacked' * (path.suffix == '.gz')}, "
            f"expected are {expected:,} for {' x '.join(map(str, shape))}: "
            "delete it to download it again"
        )
    verify(path)  # last, because the lines above say more
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _static_mnist(files: Files) -> Dataset:
    """MNIST binarised once and for all, 50,000 and 10,000 digits (Paper B, Appendix F).

    The files of Larochelle and Murray (2011), where they lie under the root, have no labels; else one draw is made
    here, in which a pixel is 1 with the probability that is its grey level. Either way the last 10,000 training images
    of MNIST,
    their validation set, are left out.
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
    x_train, y_train = x_train[: STATIC_MNIST[0]], y_train[: STATIC_MNIST[0]]
    # Levels from 0 to 254, so that 0 is never ink and 255 always. RandomState, because its streams are frozen.
    random = np.random.RandomState(0)
    x_train, x_test = ((random.randint(0, 255, x.shape, np.uint8) < x) * np.uint8(255) for x in (x_train, x_test))
    notes = [
        "one random binarisation of MNIST by its grey levels, seed 0, not that of Larochelle and Murray (2011)",
        left_out,
    ]
    return replace(
        _dataset("static-mnist", (x_train[:, None], y_train), (x_test[:, None], y_test), DIGITS, notes),
        notes=tuple(notes),
    )


def _amat(path: Path, images: int) -> Array:
    """uint8 (images, 1, 28, 28), 0 or 255, of a text file with a line of 784 zeros and ones for each image."""
    with reading(path):
        text = np.frombuffer(path.read_bytes(), np.uint8)
        digits = text[text > ord(" ")]  # all else is white space
        lines = np.count_nonzero(text == ord("\n"))  # the last one may end without
    width = math.prod(GREY)
    other = digits[(digits != ord("0")) & (digits != ord("1"))]
    if len(other):
        raise InputError(f"{path} holds {chr(other[0])!r}; allowed are 0 and 1, {width} of them a line")
    if len(digits) != images * width or lines < images - 1:
        raise InputError(
            f"{path} holds {len(digits):,} digits and {lines:,} line ends, expected are {images:,} lines of "
            f"{width}: without the .amat files a binarisation is made here"
        )
    return (digits.reshape(images, *GREY) - np.uint8(ord("0"))) * np.uint8(255)


def _cifar10(files: Files) -> Dataset:
    """50,000 and 10,000 photographs in ten classes, the official split."""
    folder = files.find("cifar10", "cifar-10-batches-py")
    if folder is not None and all((folder / name).is_file() for name in CIFAR10_BATCHES):
        where = folder
        for name in CIFAR10_BATCHES:
            verify(folder / name)
        raw = {name: (folder / name).read_bytes() for name in CIFAR10_BATCHES}
    else:
        (where,) = files.get("cifar10")
        verify(where)
        with reading(where), tarfile.open(where) as tar:
            raw = {Path(m.name).name: (tar.extractfile(m) or BytesIO()).read() for m in tar}
    parts = [_cifar10_batch(where / name, raw.get(name, b"")) for name in CIFAR10_BATCHES]
    x, y = ([part[i] for part in parts] for i in (0, 1))
    return _dataset(
        "cifar10", (np.concatenate(x[:5]), np.concatenate(y[:5])), (x[5], y[5]), CIFAR10_CLASSES, ["official split"]
    )


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, bytes, lists and dicts, and nothing that could run code of the file's author."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "_codecs.encode": codecs.encode,
            "numpy.core.multiarray._reconstruct": np.zeros(0).__reduce__()[0],
        }
        full_name = f"{module}.{name}".replace("numpy._core", "numpy.core")  # the name since numpy 2
        if full_name not in allowed:
            raise pickle.UnpicklingError(f"it asks for {full_name}, which is not allowed")
        return allowed[full_name]


def _cifar10_batch(path: Path, raw: bytes) -> tuple[Array, Array]:
    with reading(path):
        batch = _ArrayUnpickler(BytesIO(raw), encoding="bytes").load()
        return batch[b"data"].reshape(-1, 3, 32, 32), np.array(batch[b"labels"])


def _svhn(files: Files) -> Dataset:
    """73,257 and 26,032 photographs of house numbers, the official split without "extra"."""
    from scipy.io import loadmat

    def read(path: Path) -> tuple[Array, Array]:
        verify(path)
        with reading(path):
            mat = loadmat(path, variable_names=["X", "y"])
            return mat["X"].transpose(3, 2, 0, 1), mat["y"].ravel() % 10  # 10 stands for digit 0

    train, test = files.get("svhn")
    return _dataset("svhn", read(train), read(test), DIGITS, ["official split, without extra"])


def _omniglot(files: Files) -> Dataset:
    """Drawings of letters; the class is the alphabet, and the split is by drawer within each alphabet.

    The official halves share no alphabet, so a classifier trained on one could not judge the other.
    Here each character has its drawers 1 to 16 in training and 17 to 20 in test.
    """
    small = files.find("omniglot", "omniglot_small.npz")
    official = all(files.find("omniglot", name) for name in SOURCES["omniglot"].files)
    if small is not None and not official:
        with reading(small), np.load(small, allow_pickle=False) as stored:
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
    return _dataset(
        "omniglot",
        (x[train], alphabet[train]),
        (x[~train], alphabet[~train]),
        names,
        [*notes, "split by drawer: 1 to 16 train, 17 to 20 test", "classes are alphabets"],
    )


def _omniglot_zip(path: Path) -> list[tuple[str, int, Array]]:
    """(alphabet, drawer, image uint8 (28, 28) with ink 255) of each drawing, in the order of their names."""
    verify(path)
    entry = re.compile(r"images_\w+/([^/]+)/character\d+/\d+_(\d+)\.png")
    with reading(path), zipfile.ZipFile(path) as archive:
        matches = filter(None, map(entry.fullmatch, sorted(archive.namelist())))
        return [(m[1], int(m[2]), 255 - _drawing(archive, m[0])) for m in matches]


def _drawing(archive: zipfile.ZipFile, name: str) -> Array:
    with Image.open(archive.open(name)) as image:
        return pictures.resized(image.convert("L"), GREY)[0]


_LOADERS: dict[str, Callable[[Files], Dataset]] = {
    "digits": _digits,
    "digits-colour": _digits_colour,
    "mnist": _mnist,
    "mnist-mini": _mnist_mini,
    "static-mnist": _static_mnist,
    "omniglot": _omniglot,
    "svhn": _svhn,
    "cifar10": _cifar10,
}


# ------------------------------------------------------------------------------------------ your own data


def _npz(path: Path) -> Dataset:
    """x_train and x_test, and y_train and y_test or neither of them."""
    if not zipfile.is_zipfile(path):  # asked first, because numpy would only speak of pickles
        raise InputError(f"{path} is not an .npz file, or not all of one; allowed is what numpy.savez writes")
    with reading(path), np.load(path, allow_pickle=False) as stored:
        keys = {"x_train", "x_test", "y_train", "y_test"} & set(stored)
        arrays = {key: np.asarray(stored[key]) for key in keys}
        held = ", ".join(stored) or "nothing"
    for key in ("x_train", "x_test"):
        if key not in arrays:
            raise InputError(
                f"{path} has no {key}; it holds {held}; "
                "needed are x_train, x_test, and y_train, y_test or neither of them"
            )
    x_train, x_test = (_checked_images(f"{path}: {key}", arrays[key]) for key in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(
            f"{path}: x_train holds images of shape {x_train.shape[1:]}, x_test of "
            f"{x_test.shape[1:]}; allowed is one shape for both"
        )
    if ("y_train" in arrays) != ("y_test" in arrays):
        lone, other = ("y_train", "y_test") if "y_train" in arrays else ("y_test", "y_train")
        raise InputError(f"{path} has {lone} but no {other}; allowed are both or neither of them")
    if "y_train" not in arrays:
        return _dataset(
            path.stem, (x_train, None), (x_test, None), [], ["split as given", "labels missing: no y_train, y_test"]
        )
    for split, x in (("train", x_train), ("test", x_test)):
        y = arrays[f"y_{split}"]
        if y.dtype.kind not in "iu" or y.shape != (len(x),):
            raise InputError(
                f"{path}: y_{split} is {y.dtype} of shape {y.shape}; allowed are integers, one "
                f"for each of the {len(x)} images of x_{split}: shape ({len(x)},)"
            )
    y_train, y_test = (arrays[key].astype(np.int64) for key in ("y_train", "y_test"))
    classes = np.unique(y_train)
    if unknown := sorted(set(y_test.tolist()) - set(classes.tolist())):
        raise InputError(
            f"{path}: y_test has the class {unknown[0]}, which y_train has not, so that no classifier can know it; "
            f"allowed are {_few(classes.tolist())}"
        )
    if len(classes) < 2:
        raise InputError(
            f"{path}: every label is {classes[0]}: needs at least two classes; "
            "leave y_train and y_test out to run without labels"
        )
    train, test = (x_train, np.searchsorted(classes, y_train)), (x_test, np.searchsorted(classes, y_test))
    return _dataset(path.stem, train, test, [str(c) for c in classes], ["split as given"])


def _few(names: Sequence[object], most: int = 20) -> str:
    return ", ".join(map(str, names[:most])) + f" and {len(names) - most} more" * (len(names) > most)


def _checked_images(where: str, x: Array) -> Array:
    """uint8 (N, C, H, W) from what the user stored, or an InputError that begins with `where`."""
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        last = x.ndim == 4 and x.shape[3] in (1, 3)
        raise InputError(
            f"{where} has shape {x.shape}; allowed are N x H x W and N x C x H x W, C = 1 or 3"
            + "; its channels are last: store x.transpose(0, 3, 1, 2)" * last
        )
    if len(x) == 0 or min(x.shape[2:]) < SMALLEST:
        raise InputError(
            f"{where} holds {len(x)} images of {x.shape[2]}x{x.shape[3]}; "
            f"allowed are 1 or more images of {SMALLEST}x{SMALLEST} or more"
        )
    if x.dtype.kind == "f":
        if not (x.min() >= 0 and x.max() <= 1):  # also catches NaN, of which every comparison is false
            raise InputError(
                f"{where} has floats from {x.min():g} to {x.max():g}; "
                "allowed are floats within 0 to 1 without NaN, or uint8"
            )
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
            raise InputError(
                f"{path / 'test' / name} is a class that train/ has not, so that no classifier can know it; "
                f"allowed are {_few(names)}"
            )
    if len(names) == 1 and labelled:
        raise InputError(
            f"{path}: the only class is {names[0]}: needs at least two classes; "
            "put the images straight into train/ and test/ to run without labels"
        )
    paths = [p for split in (train, test) for name in sorted(split) for p in split[name]]
    headers = [pictures.header(p) for p in paths]
    form = pictures.survey(headers, path)
    shape = COLOUR if form.coloured else GREY

    def read(split: dict[str, list[Path]]) -> tuple[Array, Array | None]:
        x = np.stack([pictures.read(p, form, shape) for name in sorted(split) for p in split[name]])
        y = np.array([names.index(name) for name in sorted(split) for _ in split[name]])
        x, y = _shuffled(x, y)
        return x, y if labelled else None

    read_train, read_test = read(train), read(test)
    other = sorted({f"{h}x{w}" for h, w in (head.size for head in headers) if (h, w) != shape[1:]})
    was = other[0] if len(other) == 1 else f"{len(other)} sizes"
    notes = (
        [*form.notes, *form.said_of_colour(read_train[0], read_test[0])]
        + [f"resized from {was} to {shape[1]}x{shape[2]}"] * bool(other)
        + ["split as given, shuffled"]
        + ["labels missing: no class folders"] * (not labelled)
    )
    return _dataset(path.resolve().name, read_train, read_test, names if labelled else [], notes)


def _listing(folder: Path, parent: Path) -> dict[str, list[Path]]:
    """Paths by class, each sorted; images that lie straight in `folder` are of class ''."""
    if not folder.is_dir():
        raise InputError(
            f"{parent} has no folder {folder.name}/; needed are train/ and test/ with images, "
            "in one folder a class or, without labels, none"
        )
    with reading(folder):
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        classes = [p for p in entries if p.is_dir()]
        if classes and len(classes) < len(entries):
            stray = next(p for p in entries if p not in classes)
            raise InputError(f"{stray} lies beside class folders; allowed are only folders or only images")
        found = (
            {c.name: sorted(p for p in c.iterdir() if not p.name.startswith(".")) for c in classes}
            if classes
            else {"": entries}
        )
    for name, paths in found.items():
        if not paths:
            raise InputError(f"{folder / name} holds no images; needed is at least one")
    return found
