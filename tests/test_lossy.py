"""Lossy streams: what is decoded is what the chosen latents give, the dials turn, and a stream alone is a preview."""

import zlib
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from test_coding import COLOUR, GREY, MODELS, Grey, model, plain, some_images, squares
from test_figures import labels_of, words

from hvae_core import figures
from hvae_core.analysis.dials import lossy_files, others_files
from hvae_core.coding.compressors import lossy_pictures, side_by_side
from hvae_core.coding.lossy import DIGITS, Streams, _Stream, decode_lossy, encode_lossy, latent, quantised
from hvae_core.data.dataset import pixels, to_uint8
from hvae_core.errors import InputError
from hvae_core.figures.lossy import best_files
from hvae_core.models import build


def tensor(count, shape=GREY):
    return torch.from_numpy(some_images(count, shape))


def all_latents():
    """Digits and order of every number that a latent may become."""
    return np.array([(n, i) for n in range(1, DIGITS + 1) for i in range(2 ** (n - 1))]).T


@pytest.mark.parametrize("dial", [1e-6, 0.1, 3.0])
def test_no_other_quantile_costs_less(dial):
    random = np.random.default_rng(0)
    mean, std = 2 * random.normal(size=200), np.exp(random.uniform(-5, 1, 200))
    digits, order = quantised(mean, std, dial)
    every = all_latents()
    costs = (latent(*every)[:, None] - mean) ** 2 / (2 * std**2) + dial * every[0][:, None]
    found = (latent(digits, order) - mean) ** 2 / (2 * std**2) + dial * digits
    assert_allclose(found, costs.min(0))


@pytest.mark.parametrize("name", MODELS)
def test_with_low_dials_it_is_the_reconstruction(name):
    made = MODELS[name]()
    images = tensor(5, made.image_shape)
    back = decode_lossy(made, encode_lossy(made, images, [1e-9] * made.layers))
    with torch.no_grad():
        wanted = to_uint8(made.reconstruct(pixels(images)))
    assert abs(back.astype(int) - wanted).max() <= 2, "12 digits are fine"


def test_with_high_dials_it_is_one_image_for_all():
    made, images = model(), tensor(50)
    streams = encode_lossy(made, images, [1e9, 1e9])
    with torch.no_grad():
        middle = made.prior([]).mode
        wanted = to_uint8(made.likelihood([middle, made.prior([middle]).mode]).mode)
    assert_array_equal(decode_lossy(made, streams), np.repeat(wanted, 50, 0))
    assert sum(streams.bits) < 50 * 25, "of 276 latents"


@pytest.mark.parametrize("count", [1, 100, 203])
def test_images_do_not_depend_on_each_other(count):
    """But the length of their streams does: what latents need is learned."""
    made, images = model(scale=1.5), tensor(count)
    streams = encode_lossy(made, images, [0.1, 0.2])
    back = decode_lossy(made, streams)
    assert back.shape == tuple(images.shape)
    some = decode_lossy(made, encode_lossy(made, images[-3:], [0.1, 0.2]))
    assert abs(back[-3:].astype(int) - some).max() <= 1, "but for the rounding of batches of other sizes"


def test_each_dial_turns_its_own_stream():
    made, images = model(scale=1.5), tensor(40)
    bits = {dials: encode_lossy(made, images, dials).bits for dials in [(0.01, 0.01), (1, 0.01), (0.01, 1)]}
    assert bits[1, 0.01][0] < 0.7 * bits[0.01, 0.01][0]
    assert bits[0.01, 1][0] == bits[0.01, 0.01][0] and bits[0.01, 1][1] < 0.7 * bits[0.01, 0.01][1]


def test_learned_digits_cost_little_more_than_their_entropy():
    """Of a layer that is the same in every image next to nothing."""
    made = model()
    streams = encode_lossy(made, torch.zeros(400, *GREY, dtype=torch.uint8), [0.1, 0.1])
    one = encode_lossy(made, torch.zeros(1, *GREY, dtype=torch.uint8), [0.1, 0.1])
    images = (np.array(streams.bits) - one.bits) / 399
    digits, _ = quantised(*(np.zeros(1), np.ones(1)), 0.1)
    assert digits == 1 and (images < one.bits).all()


def test_every_number_that_a_latent_may_become_comes_back():
    every = all_latents()
    writer = _Stream(every.shape[1])
    writer.put(*every)
    assert_array_equal(_Stream(every.shape[1], writer.words()).take(), every)


def test_how_many_digits_a_latent_needs_is_learned_from_its_layer_and_then_from_itself():
    """Of three latents two needed one digit and one needed two. Of the layer that makes 3, 2 and ten times 1 of 15."""
    stream = _Stream(3)
    assert_allclose(stream._probabilities(), np.full((3, DIGITS), 1 / 12))
    stream.put(np.array([1, 1, 2]), np.array([0, 0, 1]))
    first, _, last = stream._probabilities()
    assert_allclose(first[:3], [(1 + 2 * 3 / 15) / 3, (2 * 2 / 15) / 3, (2 * 1 / 15) / 3])
    assert_allclose(last[:3], [(2 * 3 / 15) / 3, (1 + 2 * 2 / 15) / 3, (2 * 1 / 15) / 3])
    digits, order = _Stream(3, stream.words()).take()
    assert (digits.tolist(), order.tolist()) == ([1, 1, 2], [0, 0, 1])


def test_a_lossy_file_keeps_its_meaning():
    """Other sums of these bits are another format, and need another number in `files.LOSSY`: old files would break."""
    streams = encode_lossy(plain(Grey), torch.from_numpy(squares(100)), [0.01, 0.05, 0.2])
    sums = [zlib.crc32(words.astype("<u4").tobytes()) for words in streams.words]
    assert sums == [4172588593, 1746445508, 3635471300]
    assert streams.bits == [8 * words.nbytes for words in streams.words]


def test_the_first_stream_alone_is_a_preview():
    made, images = MODELS["three layers"](), tensor(6)
    streams = encode_lossy(made, images, [0.05, 0.05, 0.05])
    errors = []
    for layers in (1, 2, 3):
        back = decode_lossy(made, streams._replace(words=streams.words[:layers]))
        with torch.no_grad():
            z = [q.mode for q in made.infer(pixels(images))][:layers]
            while len(z) < 3:
                z.append(made.prior(z).mode)
            wanted = to_uint8(made.likelihood(z).mode)
        errors.append(abs(back.astype(int) - wanted).mean())
    assert max(errors) < 4, "by modes of the prior where there is no stream"


def test_what_cannot_be_is_named():
    made, images = model(), tensor(2)
    for dials in ([0.1], [0.1, 0], [0.1, float("nan")]):
        with pytest.raises(InputError, match="one above 0 for each of the 2 layers"):
            encode_lossy(made, images, dials)
    streams = encode_lossy(made, images, [0.1, 0.1])
    for words_ in ((), (*streams.words, streams.words[0])):
        with pytest.raises(InputError, match="needed are 1 to 2"):
            decode_lossy(made, Streams(words_, 2))
    with pytest.raises(InputError, match="Pushforward"):
        encode_lossy(build("+--", GREY, width=0.1), images, [0.1])


# --- tables and the figure ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_finer_pictures_are_longer_and_better(shape):
    images = np.kron(some_images(9, (shape[0], 4, 4)), np.ones((1, 1, shape[1] // 4, shape[2] // 4))).astype(np.uint8)
    found = pd.DataFrame(lossy_pictures(images), columns=["name", "bits", "psnr"])
    assert set(found["name"]) == {"JPEG", "JPEG2000", "WebP"}
    for _, rows in found.groupby("name"):
        assert rows["bits"].is_monotonic_increasing and rows["psnr"].iloc[-1] > rows["psnr"].iloc[0]


def test_a_picture_s_bits_and_decibels_are_those_of_its_file():
    images = some_images(7)
    picture, buffer = side_by_side(images), BytesIO()
    picture.save(buffer, "JPEG", quality=60)
    error = np.square(np.asarray(Image.open(buffer), float) - np.asarray(picture)).mean()
    (bits, psnr) = [row[1:] for row in lossy_pictures(images) if row[0] == "JPEG"][-1]
    assert bits == 8 * len(buffer.getvalue()) / (7 * 28 * 28)
    assert psnr == pytest.approx(20 * np.log10(255) - 10 * np.log10(error))
    exact = lossy_pictures(np.zeros((4, *GREY), np.uint8))
    assert max(row[2] for row in exact) == pytest.approx(120), "an error of 0 counts as 1e-12"


def test_the_table_is_of_the_streams():
    made, images = model(scale=1.5), tensor(20)
    files = lossy_files(made, images, (0.1, 1.0))
    row = files.set_index(["dial_2", "dial_1"]).loc[(1.0, 0.1)]
    streams = encode_lossy(made, images, [1.0, 0.1])
    assert len(files) == 4 and row["bits_1"] == streams.bits[1] / images.numel()
    assert row["bits"] == pytest.approx(row["bits_2"] + row["bits_1"])
    error = np.square(decode_lossy(made, streams) / 255.0 - images.numpy() / 255.0).mean()
    assert row["psnr"] == pytest.approx(-10 * np.log10(error))
    alone = np.square(decode_lossy(made, streams._replace(words=streams.words[:1])) / 255.0 - images.numpy() / 255.0)
    assert row["preview"] == pytest.approx(-10 * np.log10(alone.mean()))


def test_the_figure_shows_the_best_files_and_their_shares():
    images = tensor(20)
    files, others = lossy_files(model(scale=1.5), images, (0.03, 0.3, 3.0)), others_files(images)
    fig = figures.lossy(files, others, pd.Series({"rate_2": 1.0, "rate_1": 3.0}), "a title")
    left, right = fig.axes
    best = best_files(files)
    drawn = {line.get_label(): np.column_stack(line.get_data()) for line in left.lines}
    assert_allclose(drawn["this model, best dials"], best[["bits", "psnr"]])
    assert len(drawn["its $z_2$ alone"]) == 3
    assert_allclose(right.lines[0].get_ydata(), 100 * best["bits_2"] / best["bits"])
    assert set(right.lines[1].get_ydata()) == {25.0}
    assert "a title" in words(fig) and "25 %" in fig.caption
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text, _ in labels_of(fig)]
    for i, a in enumerate(boxes):
        assert a.x0 > -1 and a.y0 > -1 and a.x1 < fig.bbox.width + 1 and a.y1 < fig.bbox.height + 1
        for b in boxes[:i]:
            assert min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1.5
