"""Pictures as users store them: transparent, turned, in colours or without, in many modes and formats."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hvae_core.data.dataset import COLOUR, GREY, Dataset
from hvae_core.data.readers import load
from hvae_core.errors import InputError

SHAPES = np.zeros((6, 28, 28), np.uint8)
for index, shape in enumerate(SHAPES):
    shape[8 : 12 + index, 6:20] = 255
BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (220, 20, 20), (120, 255, 120)
RGB_SHAPES = [Image.fromarray(shape).convert("RGB") for shape in SHAPES]


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def folder(root: Path, contents: list[bytes], suffix: str = "png") -> Path:
    """Six pictures in two classes: the first four for training."""
    for index, content in enumerate(contents):
        path = root / "mine" / ("train" if index < 4 else "test") / "ab"[index % 2] / f"{index}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "mine"


def read(root: Path, contents: list[bytes], suffix: str = "png") -> Dataset:
    return load(str(folder(root, contents, suffix)))


def as_drawn(data: Dataset) -> bool:
    """Whether the pictures are `SHAPES`, white on black."""
    found = {x.tobytes() for x in [*data.x_train.numpy()[:, 0], *data.x_test.numpy()[:, 0]]}
    return data.image_shape == GREY and found == {shape.tobytes() for shape in SHAPES}


def inked(shape: np.ndarray, ink: tuple[int, int, int]) -> Image.Image:
    """A shape drawn in one ink on nothing."""
    image = Image.new("RGBA", shape.shape[::-1], (*ink, 0))
    image.putalpha(Image.fromarray(shape))
    return image


# --- transparency -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ink", [BLACK, WHITE, RED, (90, 90, 90)])
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
def test_what_is_drawn_in_one_ink_on_nothing_is_seen(tmp_path, ink, kind, options):
    data = read(tmp_path, [stored(inked(shape, ink), kind, **options) for shape in SHAPES], kind.lower())
    assert as_drawn(data)
    assert data.notes[0] == "drawn in one ink on transparent ground: the opacity is read, light on dark"


def grey_ink(shape: np.ndarray) -> Image.Image:
    return inked(shape, BLACK).convert("LA")


def transparent_palette(shape: np.ndarray) -> Image.Image:
    """Two colours, black and black, of which the first is transparent."""
    image = Image.fromarray(shape // 255, "L").convert("P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.info["transparency"] = 0
    return image


def transparent_level(shape: np.ndarray) -> Image.Image:
    """Grey levels without a channel of opacity, of which 7 is transparent, and the ink is black."""
    image = Image.fromarray(np.where(shape, 0, 7).astype(np.uint8))
    image.info["transparency"] = 7
    return image


@pytest.mark.parametrize("make", [grey_ink, transparent_palette, transparent_level])
def test_opacity_may_be_stored_in_many_ways(tmp_path, make):
    images = [make(shape) for shape in SHAPES]
    options = [{"transparency": t} if (t := image.info.get("transparency")) is not None else {} for image in images]
    data = read(tmp_path, [stored(image, **more) for image, more in zip(images, options, strict=True)])
    assert as_drawn(data)
    assert "the opacity is read" in data.notes[0]


def test_soft_edges_of_an_ink_are_kept(tmp_path):
    soft = np.tile(np.linspace(0, 255, 28).astype(np.uint8), (28, 1))
    data = read(tmp_path, [stored(inked(soft, (98 + index, 100, 100))) for index in range(6)])
    assert np.array_equal(data.x_train[0, 0].numpy(), np.where(soft >= 128, 255, 0))


@pytest.mark.parametrize("ink", [BLACK, RED, (30, 60, 200), (128, 128, 128)])
def test_a_drawing_that_was_scaled_is_in_one_ink_still(tmp_path, ink):
    scaled = [
        inked(shape.repeat(8, 0).repeat(8, 1), ink).resize((56, 56), Image.Resampling.LANCZOS) for shape in SHAPES
    ]
    data = read(tmp_path, [stored(image) for image in scaled])
    assert as_drawn(data)


def test_inks_of_different_grey_are_no_colours_and_are_seen(tmp_path):
    """On any ground one of them would be lost."""
    inks = (BLACK, WHITE, (128, 128, 128))
    pictures = [inked(shape, inks[i % 3]) for i, shape in enumerate(SHAPES)]
    pictures[2] = Image.new("RGBA", (28, 28), (0, 0, 0, 255))  # all of it is drawn
    data = read(tmp_path, [stored(picture) for picture in pictures])
    assert data.image_shape == GREY and data.x_train[data.x_train.flatten(1).float().mean(1).argmax()].eq(255).all()
    assert {x.tobytes() for x in data.x_test.numpy()[:, 0]} == {shape.tobytes() for shape in SHAPES[4:]}


@pytest.mark.parametrize(
    ("inks", "ground", "word"),
    [
        ((RED, BLACK), 255, "white"),
        ((GREEN, WHITE), 0, "black"),
        ((RED, WHITE), 0, "black"),
        ((RED, WHITE, BLACK), 128, "grey"),
    ],
)
def test_pictures_in_colours_lie_on_a_ground_that_shows_them(tmp_path, inks, ground, word):
    data = read(tmp_path, [stored(inked(shape, inks[i % len(inks)])) for i, shape in enumerate(SHAPES)])
    assert data.image_shape == COLOUR
    assert (data.x_train[:, :, 0, 0] == ground).all() and (data.x_test[:, :, 0, 0] == ground).all()
    assert f"transparent parts laid on {word}: 6 of 6 files" in data.notes
    for x in (*data.x_train, *data.x_test):
        assert (x[:, 10, 12].float() - ground).abs().mean() > 40, "there is something to see"


def test_what_is_drawn_in_several_greys_keeps_them(tmp_path):
    """A grey picture, cut out: its opacity is not all of it."""
    pictures = []
    for shape in SHAPES:
        cut = Image.fromarray(np.tile(np.linspace(0, 200, 28).astype(np.uint8), (28, 1))).convert("LA")
        cut.putalpha(Image.fromarray(shape))
        pictures.append(cut)
    data = read(tmp_path, [stored(picture) for picture in pictures])
    assert data.image_shape == GREY and "transparent parts laid on white: 6 of 6 files" in data.notes
    assert (data.x_train[:, 0, 0, 0] == 255).all() and (data.x_train[:, 0, 10, 7] == 0).all()


def test_all_lie_on_the_same_ground_also_beside_opaque_ones(tmp_path):
    """Black ink on nothing, and black ink on white paper: both black on white."""
    opaque = [Image.fromarray(255 - shape) for shape in SHAPES]
    pictures = [inked(shape, BLACK) if i % 2 else opaque[i] for i, shape in enumerate(SHAPES)]
    data = read(tmp_path, [stored(picture) for picture in pictures])
    assert data.image_shape == GREY and (data.x_train[:, 0, 0, 0] == 255).all()
    assert "transparent parts laid on white: 3 of 6 files" in data.notes


def test_an_empty_picture_has_no_say(tmp_path):
    pictures = [Image.fromarray(shape) for shape in SHAPES]
    pictures[0] = Image.new("LA", (28, 28), (0, 0))
    data = read(tmp_path, [stored(picture) for picture in pictures])
    assert data.image_shape == GREY and "transparent parts laid on white: 1 of 6 files" in data.notes


def test_a_channel_of_opacity_that_is_full_says_nothing(tmp_path):
    for mode in ("RGBA", "LA"):
        data = read(tmp_path / mode, [stored(Image.fromarray(shape).convert(mode)) for shape in SHAPES])
        assert as_drawn(data)
        assert not [note for note in data.notes if "transparent" in note]


# --- grey or colour -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA"])
@pytest.mark.parametrize("only_one", [False, True])
def test_grey_is_grey_however_it_is_stored(tmp_path, mode, only_one):
    modes = ["L", mode, "L", "L", "L", "L"] if only_one else [mode] * 6
    pictures = [Image.fromarray(shape).convert(m) for shape, m in zip(SHAPES, modes, strict=True)]
    data = read(tmp_path, [stored(picture) for picture in pictures])
    assert as_drawn(data)
    count = sum(m in ("P", "RGB", "RGBA") for m in modes)
    said = [f"in grey: {count} of 6 files are stored in colour, but have none"] if count else []
    assert list(data.notes) == [*said, "split as given, shuffled", "binarised by rounding"]


def test_a_jpeg_of_grey_in_colour_is_grey(tmp_path):
    assert as_drawn(read(tmp_path, [stored(picture, "JPEG", quality=95) for picture in RGB_SHAPES], "jpg"))


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
@pytest.mark.parametrize("others", ["L", "1", "P", "LA", "RGB"])
def test_the_file_that_makes_a_set_coloured_is_named(tmp_path, mode, others):
    pictures = [Image.fromarray(shape).convert(others) for shape in SHAPES]
    pictures[3] = Image.new("RGB", (28, 28), RED).convert(mode)
    data = read(tmp_path, [stored(picture) for picture in pictures])
    assert data.image_shape == COLOUR
    assert data.notes[0] == "in colour, because train/b/3.png is; 5 of 6 files are grey"
    assert str(tmp_path) not in " ".join(data.notes)


def test_a_set_in_colours_has_no_more_to_say(tmp_path):
    pictures = [Image.fromarray(np.random.RandomState(i).randint(0, 256, (32, 32, 3)).astype("u1")) for i in range(6)]
    assert read(tmp_path, [stored(picture) for picture in pictures]).notes == ("split as given, shuffled",)


def test_other_colour_spaces_are_converted_and_named(tmp_path):
    data = read(
        tmp_path,
        [stored(Image.new("RGB", (32, 32), RED if i else GREEN).convert("CMYK"), "TIFF") for i in range(6)],
        "tif",
    )
    assert data.image_shape == COLOUR and "converted from CMYK to RGB" in data.notes
    assert (data.x_test == np.array(RED)[:, None, None]).all()


# --- turned -------------------------------------------------------------------------------------------------

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_pictures_are_turned_upright(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = [Image.fromarray(shape).transpose(TURNS[orientation]) for shape in SHAPES]
    options = {"lossless": True} if kind == "WEBP" else {}
    contents = [stored(Image.fromarray(SHAPES[0]), kind, **options)]
    contents += [stored(picture, kind, exif=exif, **options) for picture in turned[1:]]
    data = read(tmp_path, contents, kind.lower())
    assert as_drawn(data)
    assert "turned upright as EXIF says: 5 of 6 files" in data.notes


def test_the_size_is_that_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.zeros((20, 40), np.uint8)
    wide[:, :20] = 255
    data = read(tmp_path, [stored(Image.fromarray(wide), exif=exif)] * 6)
    assert "resized from 40x20 to 28x28" in data.notes
    assert data.x_train[0, 0, :13].eq(255).all() and data.x_train[0, 0, 15:].eq(0).all()


# --- what is refused ----------------------------------------------------------------------------------------


def deep_png(channels: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow would cut to 8 without a word."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + bytes(range(8 * channels)) * 2 for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def several(kind: str, **options: Any) -> bytes:
    return stored(RGB_SHAPES[0], kind, save_all=True, append_images=RGB_SHAPES[1:3], **options)


REFUSED = {
    **{f"16 bits, {n} channels": (deep_png(n), "has more than 8 bits a channel") for n in (1, 2, 3, 4)},
    "whole numbers": (stored(Image.new("I", (28, 28)), "TIFF"), "has more than 8 bits"),
    "floats": (stored(Image.new("F", (28, 28)), "TIFF"), "has more than 8 bits"),
    "animated GIF": (several("GIF"), "holds 3 pictures"),
    "animated PNG": (several("PNG"), "holds 3 pictures"),
    "animated WebP": (several("WEBP"), "holds 3 pictures"),
    "several pages": (several("TIFF"), "holds 3 pictures"),
    "cut short": (stored(RGB_SHAPES[0])[:60], "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_named(tmp_path, case):
    content, said = REFUSED[case]
    contents = [stored(picture) for picture in RGB_SHAPES]
    contents[2] = content
    with pytest.raises(InputError, match=rf"train/a/2\.png {said}") as caught:
        read(tmp_path, contents)
    assert "\n" not in str(caught.value)


def test_a_photograph_with_a_preview_is_one_picture(tmp_path):
    contents = [stored(p, "MPO", save_all=True, append_images=[p.resize((8, 8))], quality=95) for p in RGB_SHAPES]
    with Image.open(io.BytesIO(contents[0])) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    assert as_drawn(read(tmp_path, contents, "jpg"))


# --- classes ------------------------------------------------------------------------------------------------


def test_a_class_of_the_test_set_alone_is_refused_in_both_forms(tmp_path):
    path = folder(tmp_path, [stored(picture) for picture in RGB_SHAPES])
    (path / "test/b").rename(path / "test/c")
    with pytest.raises(InputError, match=r"test/c is a class that train/ has not, so .*; allowed are a, b"):
        load(str(path))
    y = {"y_train": np.array([3, 5, 3, 5]), "y_test": np.array([3, 7])}
    np.savez(tmp_path / "mine.npz", x_train=SHAPES[:4], x_test=SHAPES[4:], **y)
    with pytest.raises(InputError, match=r"y_test has the class 7, which y_train has not, so .*; allowed are 3, 5"):
        load(str(tmp_path / "mine.npz"))


def test_a_class_of_the_training_set_alone_is_taken_in_both_forms(tmp_path):
    path = folder(tmp_path, [stored(picture) for picture in RGB_SHAPES])
    (path / "test/b/5.png").rename(path / "test/a/5.png")
    (path / "test/b").rmdir()
    y = {"y_train": np.array([3, 5, 3, 5]), "y_test": np.array([3, 3])}
    np.savez(tmp_path / "mine.npz", x_train=SHAPES[:4], x_test=SHAPES[4:], **y)
    for data in (load(str(path)), load(str(tmp_path / "mine.npz"))):
        assert data.num_classes == 2 and data.y_test.tolist() == [0, 0]


def test_the_suffix_of_an_npz_may_be_in_capitals(tmp_path):
    with open(tmp_path / "MINE.NPZ", "wb") as file:
        np.savez(file, x_train=SHAPES[:4], x_test=SHAPES[4:])
    assert as_drawn(load(str(tmp_path / "MINE.NPZ")))
