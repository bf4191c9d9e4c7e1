"""What a command need not find out anew, and that it does find out whatever may be another."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from test_data import (
    amat,
    cifar10_archive,
    cifar10_files,
    grey_folder,
    levels,
    mnist_files,
    npz,
    omniglot_files,
    omniglot_small,
    svhn_files,
    write,
)

from hvae_core.data import readers
from hvae_core.data.readers import load
from hvae_core.data.sources import checksum, files
from hvae_core.files import ROOT
from hvae_core.pipeline import command
from hvae_core.pipeline.batch import mark
from hvae_core.runs import code, known
from hvae_core.runs.config import Config
from hvae_core.runs.folder import described_data, keep_data, open_run

opened: list[Path] = []
watched: list[Path] = []


@sys.addaudithook
def _watch(event: str, arguments: tuple) -> None:
    if watched and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = Path(os.fsdecode(arguments[0]))
        if path.is_relative_to(watched[0]):
            opened.append(path)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Writes the files of a data set, reads it and returns its name with the files that the reader opened."""
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    monkeypatch.setattr(readers, "STATIC_MNIST", (7, 3))

    def read(name: str, content: dict[str, bytes] | None) -> tuple[str, list[Path]]:
        made = {"npz": npz, "folder": grey_folder}
        if name in made:
            name = made[name](tmp_path)
        elif content is None:
            omniglot_small(tmp_path / "omniglot_small.npz")
        else:
            write(tmp_path, content, monkeypatch)
        opened.clear()
        watched.append(tmp_path)
        try:
            load(name, download=False)
        finally:
            watched.clear()
        return name, sorted(set(opened))

    return read


STATIC = {
    f"static-mnist/binarized_mnist_{split}.amat": amat(levels(count, 28, 28) % 2)
    for split, count in (("train", 7), ("test", 3))
}
SETS = {
    "mnist": ("mnist", mnist_files()),
    "mnist unpacked": ("mnist", {f"MNIST/raw/{name}": raw for name, raw in mnist_files(pack=False).items()}),
    "static-mnist": ("static-mnist", STATIC),
    "static-mnist drawn": ("static-mnist", mnist_files()),
    "omniglot": ("omniglot", omniglot_files()),
    "omniglot small": ("omniglot", None),
    "svhn": ("svhn", svhn_files()),
    "cifar10": ("cifar10", cifar10_archive(cifar10_files())),
    "cifar10 folder": ("cifar10", cifar10_files()),
    "npz": ("npz", None),
    "folder": ("folder", None),
}


@pytest.mark.parametrize("case", SETS)
def test_a_checksum_is_of_every_byte_that_a_reader_reads(read, case):
    """However a file is edited: with the size and the times that it had, too."""
    name, paths = read(*SETS[case])
    before = checksum(name)
    assert len(paths) > (case in ("mnist", "mnist unpacked", "folder")) and before
    for path in paths[:: max(1, len(paths) // 6)]:
        raw, times = path.read_bytes(), path.stat()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert checksum(name) != before, f"{path.name} was edited"
        path.unlink()
        assert checksum(name) != before, f"{path.name} was deleted"
        path.write_bytes(raw)
        assert checksum(name) == before, "of times nothing depends on"
        path.rename(path.with_name("other" + path.name))
        assert checksum(name) != before, f"{path.name} was renamed"
        path.with_name("other" + path.name).rename(path)


@pytest.mark.parametrize(
    ("case", "name", "content"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte", b"x"),
        ("static-mnist drawn", "binarized_mnist/binarized_mnist_train.amat", b"0"),
        ("omniglot small", "omniglot-py/images_background.zip", b"x"),
        ("cifar10", "cifar-10-batches-py/test_batch", b"x"),
        ("folder", "pictures/train/ant/more.png", b"x"),
        ("folder", "pictures/test/wasp/0.png", b"x"),
    ],
)
def test_a_file_that_a_reader_would_take_instead_counts(read, tmp_path, case, name, content):
    given, _ = read(*SETS[case])
    before = checksum(given)
    write(tmp_path, {name: content}, None)
    assert checksum(given) != before


@pytest.mark.parametrize("name", ["digits", "digits-colour", "mnist-mini"])
def test_what_comes_with_packages_is_there(name):
    assert all(path.is_file() for path in files(name))


def test_data_are_the_same_wherever_they_lie_but_not_by_another_name(tmp_path, monkeypatch):
    found = []
    for place in ("one", "two"):
        monkeypatch.setenv("HVAE_DATA", str(tmp_path / place))
        write(tmp_path / place, SETS["mnist"][1], None)
        found.append(checksum("mnist"))
    write(tmp_path / "two/MNIST/raw", SETS["mnist"][1], None)
    assert found[0] == found[1] != checksum("mnist"), "more of them"
    first = Path(grey_folder(tmp_path))
    shutil.copytree(first, first.with_name("others"))
    link = tmp_path / "link"
    named = []
    for target in (first, first.with_name("others")):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        named.append(checksum(str(link)))
    assert named[0] == checksum(str(first)) != named[1]


# ------------------------------------------------------------------------------------------------ a run


@pytest.fixture
def begun(output):
    """A configuration of images of one's own, and the same run when its data were read once."""
    config = Config(name="mine", dataset=npz(output), train_images=6, test_images=4)
    open_run(config)
    data = load(config.dataset).first(6, 4)
    keep_data(config, data)
    question = known.asked(config)
    assert known.known_data(config, question) is None
    known.remember_data(config, question)
    found = known.known_data(config, known.asked(config))
    assert found is not None
    there = described_data(data)._asdict()
    assert found._asdict() == {**there, "image_shape": list(data.image_shape), "notes": list(data.notes)}
    return config


def is_known(config, given=()):
    return known.known_data(config, known.asked(config, given)) is not None


@pytest.mark.parametrize(
    "changed", [{"train_images": 5}, {"test_images": 3}, {"batch_size": 7}, {"model": "lvae"}, {"sigma_x": 0.6}]
)
def test_another_setting_is_another_question(begun, changed):
    assert not is_known(Config.make({**begun.dump(), **changed}))


def test_what_was_set_by_hand_counts(begun):
    assert not is_known(begun, ["epochs"])


@pytest.mark.parametrize("module", ["data/readers.py", "data/pictures.py", "training/conditioned.py"])
def test_another_code_is_another_question(begun, monkeypatch, module):
    code.package_digest.cache_clear()
    try:
        path = ROOT / "hvae_core" / module
        with monkeypatch.context() as patch:
            patch.setitem(code.TEXTS, path, code.TEXTS[path] + "edited = 1\n")
            assert not is_known(begun)
            code.package_digest.cache_clear()
    finally:
        code.package_digest.cache_clear()
    assert is_known(begun)


def test_another_library_is_another_question(begun, monkeypatch):
    monkeypatch.setattr(known, "version", lambda name: version(name) + "1" * (name == "pillow"))
    assert not is_known(begun)


@pytest.mark.parametrize("what", ["data.json", known.DATA])
@pytest.mark.parametrize("how", ["damaged", "empty", "deleted"])
def test_what_is_kept_may_be_lost(begun, output, what, how):
    path = output / "runs/mine" / what
    raw = path.read_bytes()
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "empty" else raw.replace(b"1", b"2").replace(b"a", b"b"))
    assert not is_known(begun)


def test_a_file_that_cannot_be_read_is_no_answer(begun, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("hashlib.file_digest", refuse)
    assert known.asked(begun) is None
    assert known.known_data(begun, None) is None


def test_the_code_of_a_stage_is_known_for_its_package(begun, output, monkeypatch):
    wanted = code.code_fingerprint(code.code_of(begun, "training"))
    known.remember_code(begun, ["training", "tables"])
    monkeypatch.setattr(known, "code_fingerprint", lambda names: "worked out")
    assert known.stage_fingerprint(begun, "training") == wanted
    assert known.stage_fingerprint(begun, "pages") == "worked out"
    assert known.stage_fingerprint(Config.make({**begun.dump(), "model": "lvae"}), "training") == "worked out"
    path = output / "runs/mine" / known.CODE
    path.write_text(path.read_text().replace(wanted, wanted[::-1]))
    assert known.stage_fingerprint(begun, "training") == "worked out", "it was damaged"
    known.remember_code(begun, ["training"])
    assert known.stage_fingerprint(begun, "training") == "worked out", "written anew"
    monkeypatch.setattr(known, "package_digest", lambda: "another")
    monkeypatch.setattr(known, "code_fingerprint", lambda names: "of the other")
    assert known.stage_fingerprint(begun, "training") == "of the other"


def test_the_command_reads_data_once_and_again_when_they_are_others(output, monkeypatch, capsys):
    """What it says is the same either way; data that are damaged are refused as before."""
    asked: list[str] = []
    monkeypatch.setattr(command, "_run", lambda config, *_: 0)
    read = command.read_data
    monkeypatch.setattr(command, "read_data", lambda config, dry: asked.append(config.name) or read(config, dry))
    path = Path(npz(output))
    words = [str(ROOT / "profiles" / "quick.yaml"), "--name", "mine", "--set", f"dataset={path}", "train_images=6"]
    words += ["test_images=4"]

    def said(*more: str) -> str:
        assert command.main([*words, *more]) == 0
        return capsys.readouterr().out

    first = said()
    assert [said(), said()] == [first, first] and asked == ["mine"]
    times = path.stat()
    kept = (output / "runs/mine/data.json").read_text()
    old = np.load(path)
    np.savez(path, **{name: old[name] ^ 255 if name == "x_train" else old[name] for name in old})
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert "the data have changed" in said("--dry-run")
    assert said() == first and (output / "runs/mine/data.json").read_text() != kept
    assert len(asked) == 3
    path.write_bytes(path.read_bytes()[:-50])
    assert command.main(words) == 2
    assert "is not an .npz file, or not all of one" in capsys.readouterr().err
    path.unlink()
    assert command.main(words) == 2
    assert "does not exist" in capsys.readouterr().err


def test_data_that_change_while_they_are_read_are_not_remembered(output, monkeypatch):
    monkeypatch.setattr(command, "_run", lambda config, *_: 0)
    path, read = Path(npz(output)), command.read_data

    def meanwhile(config, dry):
        data = read(config, dry)
        npz(output)  # other images
        return data

    words = ["quick", "--name", "mine", "--set", f"dataset={path}", "train_images=6", "test_images=4"]
    monkeypatch.setattr(command, "read_data", meanwhile)
    assert command.main(words) == 0
    assert not (output / "runs/mine" / known.DATA).exists()


def test_a_finished_run_needs_no_pytorch(own_run):
    """Nor does a list of profiles, and a refusal, pandas."""
    code = (
        "import sys; from hvae_core.__main__ import report; from hvae_core.pipeline.command import main; "
        "status = main(report=report); print(status, *(name for name in ('torch', 'pandas') if name in sys.modules))"
    )

    def needed(*words: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *words],
            env=own_run.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1], done.stdout

    status, said = needed(*TINY)
    assert status == "0 pandas" and "nothing to do" in said
    assert needed("--list")[0] == "0"
    assert needed("quick", "--set", "betaz=3")[0] == "2"


def test_marks_are_of_the_code_as_it_is(begun, output):
    """What is kept of the code is kept by the command, for its jobs."""
    mark(begun)
    assert (output / "runs/mine" / known.CODE).exists()
    assert known.stage_fingerprint(begun, "figures") == code.code_fingerprint(code.code_of(begun, "figures"))
