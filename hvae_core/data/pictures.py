"""Picture files of every kind, as a user stored them, to arrays of one kind.

What a file may hold besides its pixels decides how all of them are read, so they are looked at first:

    form = survey([header(p) for p in paths], folder)  # grey or colour, and what transparent parts lie on
    x = [read(p, form, shape) for p in paths]

* A set is grey when every picture is, however it is stored; one with colours makes all of it colour.
* Where every picture is drawn in one ink on nothing, the drawing is in the opacity, and that is read: light on dark.
  Else transparent parts of all pictures are laid on white, black or grey, on which the least visible is seen best.
* Pictures are turned upright as their EXIF data say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from hvae_core.data.dataset import Array
from hvae_core.data.download import reading
from hvae_core.errors import InputError

SMALLEST = 4  # pixels a side; less than this is more likely a mistake than an image
GREYS = ("1", "L", "LA", "La")
USUAL = (*GREYS, "P", "PA", "RGB", "RGBA", "RGBa")
SAME = 24  # levels by which one ink may differ: so much programs change it at edges when they scale a drawing
GROUNDS = {"white": 255, "black": 0, "grey": 128}


class Form(NamedTuple):
    """How the pictures of a data set are read.

    Attributes:
        coloured: the name of the first picture in colour, for which all have three channels; None: all have one.
        ground: the level that transparent parts are laid on; None where the opacity itself is read.
        notes: what was done to the pictures, a phrase each.
    """

    coloured: str | None
    ground: int | None
    notes: tuple[str, ...]

    def said_of_colour(self, *x: Array) -> list[str]:
        """A note where pictures (N, 3, H, W) are in colour because of others."""
        grey = sum(int((part == part[:, :1]).all((1, 2, 3)).sum()) for part in x)
        said = f"in colour, because {self.coloured} is; {grey:,} of {sum(map(len, x)):,} files are grey"
        return [said] if self.coloured and grey else []


class Header(NamedTuple):
    """What a file says of its picture, before it is decoded: upright height and width, Pillow's mode, and more."""

    path: Path
    size: tuple[int, int]
    mode: str
    transparent: bool
    turned: bool


def header(path: Path) -> Header:
    """The header of a picture file.

    Raises:
        InputError: for what is no picture, or several, too small, or has more than 8 bits a channel.
    """
    with reading(path), Image.open(path) as image:
        if min(image.size) < SMALLEST:
            raise InputError(f"{path} is {image.height}x{image.width}; allowed is {SMALLEST}x{SMALLEST} or more")
        if image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in image.tile):
            raise InputError(f"{path} has more than 8 bits a channel (mode {image.mode}); allowed are 1 or 8")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a photograph and its preview
            raise InputError(f"{path} holds {frames} pictures, as an animation does; allowed is one a file")
        turned = image.getexif().get(0x0112, 1) in range(2, 9)
        upright = ImageOps.exif_transpose(image).size if turned else image.size
        return Header(path, (upright[1], upright[0]), image.mode, image.has_transparency_data, turned)


def survey(headers: Sequence[Header], root: Path) -> Form:
    """How these pictures, below ``root``, are to be read, all in one way."""
    ground, notes = _ground(headers)
    coloured = None if ground is None else _first_in_colour(headers, ground)
    stored = sum(head.mode not in GREYS for head in headers)
    if stored and not coloured and ground is not None:
        notes.append(f"in grey: {_share(stored, headers)} are stored in colour, but have none")
    notes += [f"converted from {mode} to RGB" for mode in sorted({head.mode for head in headers} - set(USUAL))]
    if turned := sum(head.turned for head in headers):
        notes.append(f"turned upright as EXIF says: {_share(turned, headers)}")
    return Form(str(coloured.relative_to(root)) if coloured else None, ground, tuple(notes))


def _share(count: int, headers: Sequence[Header]) -> str:
    return f"{count:,} of {len(headers):,} files"


def read(path: Path, form: Form, shape: tuple[int, int, int]) -> Array:
    """uint8 (C, H, W) of a picture file, resized where needed."""
    with reading(path):
        picture = _picture(path)
        flat = picture.getchannel("A") if form.ground is None else _flat(picture, form.ground)
        return resized(flat.convert("RGB" if form.coloured else "L"), shape)


def resized(picture: Image.Image, shape: tuple[int, int, int]) -> Array:
    """uint8 (C, H, W), by Pillow's LANCZOS filter where the size is another."""
    if picture.size != (shape[2], shape[1]):
        picture = picture.resize((shape[2], shape[1]), Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)


def _picture(file: Path | IO[bytes]) -> Image.Image:
    """The picture upright, in mode L or RGB, or with its opacity in LA or RGBA."""
    with Image.open(file) as image:
        mode = ("L" if image.mode in GREYS else "RGB") + "A" * image.has_transparency_data
        return ImageOps.exif_transpose(image).convert(mode)


def _flat(picture: Image.Image, ground: int) -> Image.Image:
    """Without transparent parts, in L or RGB."""
    if not picture.mode.endswith("A"):
        return picture
    under = Image.new("RGBA", picture.size, (ground, ground, ground, 255))
    laid = Image.alpha_composite(under, picture.convert("RGBA"))
    return laid.convert("L" if picture.mode == "LA" else "RGB")


def _ground(headers: Sequence[Header]) -> tuple[int | None, list[str]]:
    """What transparent parts lie on, and a note where there are any; None: the opacity is what is drawn."""
    inks = [_ink(head.path) for head in headers if head.transparent]
    shown = [ink for ink in inks if not ink.opaque]
    if not shown:
        return GROUNDS["white"], []
    if len(inks) == len(headers) and (all(ink.is_grey() for ink in inks) or _is_one(inks)):
        return None, ["drawn in one ink on transparent ground: the opacity is read, light on dark"]
    light = np.array([ink.light for ink in shown if ink.light is not None] or [0.0])
    name = max(GROUNDS, key=lambda name: abs(light - GROUNDS[name]).min())
    return GROUNDS[name], [f"transparent parts laid on {name}: {_share(len(shown), headers)}"]


class Ink(NamedTuple):
    """What is drawn in a picture that may be transparent.

    Attributes:
        low, high: the least and the greatest level of each of three channels, where it is rather opaque.
        light: the mean level of grey, weighted by opacity; None where nothing is drawn.
        opaque: nothing is transparent.
    """

    low: Array
    high: Array
    light: float | None
    opaque: bool

    def is_grey(self) -> bool:
        """One level of grey alone."""
        return bool(self.high.max() - self.low.min() <= SAME)


def _is_one(inks: Sequence[Ink]) -> bool:
    """Whether all is drawn in the same ink."""
    return bool((np.max([ink.high for ink in inks], 0) - np.min([ink.low for ink in inks], 0) <= SAME).all())


def _ink(path: Path) -> Ink:
    with reading(path):
        picture = _picture(path)
    levels, opacity = np.asarray(picture.convert("RGBA"))[..., :3].astype(int), np.asarray(picture.getchannel("A"))
    drawn = levels[opacity >= 128]
    low, high = (drawn.min(0), drawn.max(0)) if len(drawn) else (np.full(3, 255), np.full(3, 0))
    grey = np.asarray(picture.convert("L"))
    light = float(np.average(grey, weights=opacity)) if opacity.any() else None
    return Ink(low, high, light, bool(opacity.min() == 255))


def _first_in_colour(headers: Sequence[Header], ground: int) -> Path | None:
    """The first picture whose channels differ."""
    for head in headers:
        if head.mode in GREYS:
            continue
        with reading(head.path):
            levels = np.asarray(_flat(_picture(head.path), ground).convert("RGB"))
        if (levels != levels[..., :1]).any():
            return head.path
    return None
