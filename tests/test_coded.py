"""Codes as files, images as streams, and the commands code and decode: whole, or one plain line."""

import hashlib
import json
import os
import re
import subprocess
import sys
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Chain, executed
from matplotlib.figure import Figure
from test_coding import model, some_images

from hvae_core import load
from hvae_core.analysis.code_lengths import code_lengths
from hvae_core.coding import decode, decode_lossy, encode, encode_lossy
from hvae_core.coding.files import (
    KIND,
    LENGTH,
    images_in,
    is_lossy,
    read_code,
    read_streams,
    write_code,
    write_images,
    write_streams,
)
from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.pipeline import stages
from hvae_core.pipeline.command import main
from hvae_core.runs.weights import load_model

CHANGES = ["betas=[1, 10]", "epochs=1", "train_images=50", "test_images=12", "blocks=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run ``tiny`` with four models, and a file that its model 2 coded."""
    folder = tmp_path_factory.mktemp("coded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVAE_OUTPUT", str(folder))
        config = stages.begin("quick", dict(change.split("=") for change in CHANGES[1:4]) | {"betas": [1, 10]}, "tiny")
        stages.train_members(config, load(config.dataset).first(50, 12))
        assert main(["code", "tiny", "--member", "2", "test", str(folder / "test.bits")]) == 0
    return folder


@pytest.fixture
def run(place, monkeypatch, capfd):
    """A command beside that run; returns its status and what it printed."""
    monkeypatch.setenv("HVAE_OUTPUT", str(place))

    def command(*words):
        status = main([str(word) for word in words])
        printed, errors = capfd.readouterr()
        return status, printed + errors

    return command


@pytest.fixture
def images():
    return load("mnist-mini").first(50, 12).x_test.numpy()


# --- the commands ---------------------------------------------------------------------------------------------------


def test_images_go_to_a_file_and_back(run, place, tmp_path, images):
    stored = tmp_path / "mine.npz"
    np.savez_compressed(stored, x_test=images[:, 0], y_test=np.arange(12))
    coded, back = tmp_path / "mine.bits", tmp_path / "back.npz"
    status, printed = run("code", "tiny", "--member", 2, stored, coded, "--check")
    assert status == 0 and "12 images are equal in every pixel, and the initial words came back" in printed
    assert run("decode", "tiny", coded, back) == (0, f"12 images: {back}\n")
    with np.load(back) as found:
        assert list(found) == ["x_test"]
        np.testing.assert_array_equal(found["x_test"], images[:, 0])
    np.testing.assert_array_equal(read_code(coded)[0].words, read_code(place / "test.bits")[0].words)


def test_the_account_is_printed_beside_the_results(run, tmp_path, images):
    status, printed = run("code", "tiny", "--member", 0, "test", tmp_path / "x.bits")
    rows = {line.split()[0]: [float(cell) for cell in line.split()[1:]] for line in printed.splitlines()[2:6]}
    assert status == 0 and list(rows) == ["z_2", "z_1", "x", "all"]
    table = encode(load_model("tiny", 0), images).account.table()
    assert rows["z_1"][:4] == [round(value, 3) for value in table.loc["z_1"][:4]]
    assert rows["all"][0] == pytest.approx(table["coded"].sum(), abs=1e-3)
    assert rows["x"][-1] == pytest.approx(rows["x"][0], rel=0.05), "the distortion of the results, in bits"
    assert rows["z_2"][-1] == pytest.approx(rows["z_2"][3], rel=1e-3), "q(z_2 | x) and p(z_2) have no sample"


def test_all_models_of_a_run_are_coded_for_its_figure(run, place, images):
    with pytest.raises(InputError, match="images = 13: there are 12 test images"):
        code_lengths(place / "runs/tiny", 13)
    lengths = code_lengths(place / "runs/tiny", 5)
    assert len(lengths) == 4 * 3 and lengths.attrs["images"] == 5 and lengths.attrs["run"] == "tiny"
    row = lengths[(lengths["beta_2"] == 10) & (lengths["beta_1"] == 1) & (lengths["layer"] == "z_1")].iloc[0]
    wanted = encode(load_model("tiny", 2), images[:5]).account.table().loc["z_1"]
    some = code_lengths(place / "runs/tiny", 5, wanted=lambda member: member.betas == (10, 1))
    assert set(some["member"]) == {2}
    assert row["member"] == 2 and row[wanted.index].tolist() == wanted.tolist()


def test_a_run_has_its_figure(run, place):
    status, printed = run("code", "tiny")
    assert status == 0 and printed.startswith("figure: ")
    made = {path.name for path in (place / "figures/tiny").iterdir()}
    assert {f"bits.{kind}" for kind in ("pdf", "png", "json")} | {"bits_table.csv", "bits_table.md"} <= made
    assert "12 test images" in (place / "figures/tiny/bits.json").read_text()
    about = json.loads((place / "figures/tiny/bits.json").read_text())
    assert about["script"] == "./run_all.sh code tiny" and about["weights"]


def test_the_notebook(place, monkeypatch, capsys):
    monkeypatch.setenv("HVAE_OUTPUT", str(place))
    shown = executed("25_bits", name="tiny", images_of_each=5)
    assert sum(isinstance(value, Figure) for value in shown) == 4
    assert "every pixel came back: True" in capsys.readouterr().out
    assert any(value is np.True_ for value in shown), "the bins come back by hand"


def test_another_process_with_other_threads_decodes_it(place, tmp_path, images):
    back = tmp_path / "back.npz"
    env = {**os.environ, "HVAE_OUTPUT": str(place), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "4"}
    words = [sys.executable, "-P", "-m", "hvae_core", "decode", "tiny", place / "test.bits", back]
    subprocess.run(words, env=env, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(back)["x"], images)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("code", "tiny", "--member", 9, "test", "OUT"), "no trained model 9; its rows are 0 to 3"),
        (("code", "tiny", "--member", 0), "give RUN alone, or RUN --member N FILE.npz OUT"),
        (("code", "none", "--member", 0, "test", "OUT"), "none"),
        (("code", "tiny", "--member", 0, "gone.npz", "OUT"), "gone.npz is missing"),
        (("code", "tiny", "--member", 0, "test", "/proc/none/OUT"), "cannot write"),
        (("decode", "tiny", "gone.bits", "OUT"), "gone.bits: No such file"),
        (("decode", "tiny", ROOT / "uv.lock", "OUT"), "is no file that ./run_all.sh code wrote"),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    status, printed = run(*words)
    assert status == 2 and printed.startswith("error: ") and printed.count("\n") == 1 and named in printed
    assert list(tmp_path.iterdir()) == []


def test_images_are_not_overwritten_by_their_code(run, tmp_path, images):
    stored = tmp_path / "mine.npz"
    np.savez(stored, x=images)
    before = stored.read_bytes()
    status, printed = run("code", "tiny", "--member", 0, stored, stored)
    assert status == 2 and "holds the images" in printed and stored.read_bytes() == before


def test_the_weights_of_another_model_are_refused(run, place, tmp_path):
    code, about = read_code(place / "test.bits")
    write_code(tmp_path / "other.bits", code, **about | {"member": 1})
    status, printed = run("decode", "tiny", tmp_path / "other.bits", tmp_path / "back.npz")
    assert status == 2 and "other weights" in printed and "model 1 of run 'tiny'" in printed
    write_code(tmp_path / "bare.bits", code)
    status, printed = run("decode", "tiny", tmp_path / "bare.bits", tmp_path / "back.npz")
    assert status == 2 and "does not say by which model" in printed
    assert not (tmp_path / "back.npz").exists()


# --- damage ---------------------------------------------------------------------------------------------------------


def header(**changes):
    """A file with another header, and the checksum that belongs to it."""

    def changed(content):
        (length,) = LENGTH.unpack_from(content, len(KIND))
        start = len(KIND) + LENGTH.size
        fields = json.loads(content[start : start + length])
        text = json.dumps({name: value for name, value in (fields | changes).items() if value is not None}).encode()
        return sealed(KIND + LENGTH.pack(len(text)) + text + content[start + length : -32])

    return changed


def sealed(content):
    return content + hashlib.sha256(content).digest()


def flipped(place):
    def changed(content):
        at = int(place * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]

    return changed


DAMAGE = {
    "empty": lambda content: b"",
    "its kind alone": lambda content: KIND,
    "another kind": lambda content: b"PK" + content,
    "an older version": lambda content: content.replace(b"bits 1", b"bits 0", 1),
    "cut in the header": lambda content: content[:80],
    "cut in the words": lambda content: content[:-200],
    "without the last byte": lambda content: content[:-1],
    "without the first byte": lambda content: content[1:],
    "twice": lambda content: content + content,
    "one byte more": lambda content: content + b"\0",
    **{f"flipped at {place}": flipped(place) for place in (0, 0.01, 0.1, 0.3, 0.5, 0.9, 1)},
    "zeros in the middle": lambda content: content[:500] + bytes(64) + content[564:],
    "as text": lambda content: content.decode("latin-1").encode(),
    "line ends of Windows": lambda content: content.replace(b"\n", b"\r\n"),
    "no words": lambda content: sealed(content[: content.index(b"}}") + 2]),
    "a word less": lambda content: sealed(content[:-36]),
    "half a word": lambda content: sealed(content[:-34]),
    "a longer header": lambda content: sealed(KIND + LENGTH.pack(2**31) + content[len(KIND) + 4 : -32]),
    "no number of images": header(images=None),
    "fewer images": header(images=3),
    "more images": header(images=13),
    "no images": header(images=0),
    "a number in words": header(images="many"),
    "another shape": header(image_shape=[1, 28, 29]),
    "no shape": header(image_shape=7),
    "other bins": header(grid={"width": 2**-5, "reach": 8.0}),
    "bins of no width": header(grid={"width": 0.0, "reach": 8.0}),
    "bins that are no number": header(grid={"width": float("nan"), "reach": 8.0}),
    "other weights": header(weights="0" * 64),
    "other initial words": header(initial=9),
    "more initial words than words": header(initial=10**9),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_gives_one_line_and_no_images(run, place, tmp_path, kind):
    path, back = tmp_path / "damaged.bits", tmp_path / "back.npz"
    path.write_bytes(DAMAGE[kind]((place / "test.bits").read_bytes()))
    status, printed = run("decode", "tiny", path, back)
    assert status == 2 and printed.startswith(f"error: {path}") and printed.count("\n") == 1, printed
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_holds_all_of_a_code(tmp_path):
    made = Chain(layers=3)
    code = encode(made, some_images(3, (1, 4, 4)))
    write_code(tmp_path / "a.bits", code, run="a", member=3)
    again, about = read_code(tmp_path / "a.bits")
    np.testing.assert_array_equal(again.words, code.words)
    assert again[1:-1] == code[1:-1] and about == {"run": "a", "member": 3}
    np.testing.assert_array_equal(decode(made, again), some_images(3, (1, 4, 4)))
    write_code(tmp_path / "one.bits", encode(made, some_images(1, (1, 4, 4)), initial=0))
    np.testing.assert_array_equal(decode(made, read_code(tmp_path / "one.bits")[0]), some_images(1, (1, 4, 4)))
    (tmp_path / "other.bits").write_bytes(b"P" + (tmp_path / "a.bits").read_bytes())
    with pytest.raises(InputError, match="is no file that"):
        read_code(tmp_path / "other.bits")


# --- with loss ------------------------------------------------------------------------------------------------------


@pytest.fixture
def lossy(run, tmp_path):
    """A lossy file of the run's test images, and where it may be cut."""
    path = tmp_path / "lossy.bits"
    status, printed = run("code", "tiny", "--member", 2, "test", path, "--dials", 0.1, 0.3)
    assert status == 0
    first, second = re.findall(r"^(?:cut behind z_2|all of it): ([\d,]+) bytes", printed, re.MULTILINE)
    assert int(second.replace(",", "")) == path.stat().st_size
    return path, int(first.replace(",", ""))


def test_a_lossy_file_may_be_cut_between_its_layers(run, lossy, tmp_path, images):
    path, end = lossy
    made = load_model("tiny", 2)
    streams = encode_lossy(made, torch.from_numpy(images), [0.1, 0.3])
    preview = tmp_path / "preview.bits"
    preview.write_bytes(path.read_bytes()[:end])
    for coded, layers in ((path, 2), (preview, 1)):
        assert run("decode", "tiny", coded, tmp_path / "back.npz")[0] == 0
        wanted = decode_lossy(made, streams._replace(words=streams.words[:layers]))
        np.testing.assert_array_equal(np.load(tmp_path / "back.npz")["x"], wanted)


def test_a_lossy_file_is_read_where_it_may_be_cut_and_refused_where_it_was_cut_or_altered_elsewhere(tmp_path):
    path, made = tmp_path / "a.bits", Chain(layers=3)
    streams = encode_lossy(made, torch.from_numpy(some_images(3, (1, 4, 4))), [0.1, 0.1, 0.1])
    ends = write_streams(path, streams, "its weights", member=2)
    content = path.read_bytes()
    assert ends[-1] == len(content) and is_lossy(path)
    header = ends[0] - streams.words[0].nbytes - 36  # where it ends, before the length of a stream and its checksum
    for length in sorted({*range(0, len(content), 19), *(end + by for end in (header, *ends) for by in (-1, 0, 1))}):
        path.write_bytes((content + b"0")[:length])
        if length not in ends:
            with pytest.raises(InputError, match=r"a\.bits is damaged"):
                read_streams(path)
            continue
        found, weights, about = read_streams(path)
        layers = ends.index(length) + 1
        assert (found.images, weights, about, len(found.words)) == (3, "its weights", {"member": 2}, layers)
        for words, wanted in zip(found.words, streams.words[:layers], strict=True):
            np.testing.assert_array_equal(words, wanted)
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InputError, match="is damaged"):
            read_streams(path)
    path.write_bytes(b"")
    assert not is_lossy(path) and not is_lossy(tmp_path / "missing")


def test_a_file_that_cannot_be_written_to_its_end_is_as_it_was(tmp_path, monkeypatch):
    path, made, images = tmp_path / "a", Chain(layers=1), some_images(2, (1, 4, 4))
    code, streams = encode(made, images), encode_lossy(made, torch.from_numpy(images), [0.1])
    path.write_bytes(b"before")

    def full(file, content):
        with open(file, "wb") if isinstance(file, Path) else file as begun:
            begun.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    for write in (
        lambda: write_code(path, code),
        lambda: write_streams(path, streams, "its weights"),
        lambda: write_images(path, "x", images.shape, enumerate(images)),
    ):
        with pytest.raises(InputError, match="No space left"):
            write()
        assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["cut within", "cut early", "header alone", "flipped", "more", "another run's"])
def test_a_damaged_lossy_file_gives_one_line_and_no_images(run, lossy, tmp_path, kind):
    path, end = lossy
    content = path.read_bytes()
    changed = {
        "cut within": content[: end + 9],
        "cut early": content[:60],
        "header alone": content[: content.index(b"}}") + 34],
        "flipped": content[: end - 40] + bytes([content[end - 40] ^ 1]) + content[end - 39 :],
        "more": content + content[-60:],
        "another run's": content,
    }[kind]
    path.write_bytes(changed)
    if kind == "another run's":
        streams, weights, about = read_streams(path)
        write_streams(path, streams, weights, **about | {"member": 1})
    status, printed = run("decode", "tiny", path, tmp_path / "back.npz")
    assert status == 2 and printed.startswith(f"error: {path}") and printed.count("\n") == 1, printed
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("test", "OUT", "--dials", 0.1), "needed is one above 0 for each of the 2 layers"),
        (("test", "OUT", "--dials", 0.1, 0.1, "--check"), "leave one of them out"),
        (("--dials", 0.1, 0.1), "give RUN alone, or RUN --member N FILE.npz OUT"),
    ],
)
def test_wrong_dials_are_one_line(run, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    status, printed = run("code", "tiny", "--member", 2, *words)
    assert status == 2 and printed.count("\n") == 1 and named in printed
    assert list(tmp_path.iterdir()) == []


# --- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(7, 4, 4), (7, 1, 4, 4), (7, 3, 2, 5)])
def test_images_are_read_as_numpy_reads_them(tmp_path, save, shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for names in (["x"], ["x_test", "x"], ["alone"]):
        save(tmp_path / "a.npz", **{name: array if name == names[0] else 1 - array for name in names})
        found = images_in(tmp_path / "a.npz")
        assert (len(found), found.name) == (7, names[0])
        np.testing.assert_array_equal(np.stack(list(found)), array.reshape(7, -1, *shape[-2:]))


def test_images_are_written_in_any_order(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (9, 1, 4, 4)).astype(np.uint8)
    write_images(tmp_path / "a.npz", "x", (9, 4, 4), ((number, array[number]) for number in reversed(range(9))))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["x"], array[:, 0])


def test_one_image_at_a_time_is_in_memory():
    alive = []

    def images():
        for image in some_images(30, (1, 4, 4)):
            array = image.copy()
            alive.append(weakref.ref(array))
            yield array
            assert sum(one() is not None for one in alive) <= 2

    encode(Chain(layers=2), images())
    assert len(alive) == 30


def no_zip(path: Path):
    path.write_text("no zip")


def cut(path: Path):
    """An array that has fewer images than it says."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (3, 28, 28)})
        file.write(bytes(2 * 784))


FILES = {
    "no zip": (no_zip, "is no .npz file"),
    "floats": (lambda path: np.savez(path, x=np.zeros((2, 28, 28))), "x is float64"),
    "one image": (lambda path: np.savez(path, x=np.zeros((28, 28), np.uint8)), r"allowed is uint8 \(N, H, W\)"),
    "other order": (lambda path: np.savez(path, x=np.zeros((2, 28, 28), np.uint8, "F")), "Fortran"),
    "two arrays": (lambda path: np.savez(path, a=np.zeros(2), b=np.zeros(2)), "holds a, b; needed is x_test, x or a"),
    "pickled": (lambda path: np.savez(path, x=np.array([None])), "x is object"),
    "cut": (cut, "x ends at image 2 of 3"),
    "no array": (lambda path: zipfile.ZipFile(path, "w").writestr("x.npy", b"nothing"), "cannot be read"),
}


@pytest.mark.parametrize("kind", FILES)
def test_other_files_of_images_are_refused(tmp_path, kind):
    path = tmp_path / "a.npz"
    make, named = FILES[kind]
    make(path)
    with pytest.raises(InputError, match=named) as caught:
        encode(model(), images_in(path))
    assert str(path) in str(caught.value)
