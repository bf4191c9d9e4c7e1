"""The figure bits shows the lengths that it is given, a stack adds up, and other compressors get the same pixels."""

import gzip
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_coding import COLOUR, model, some_images
from test_figures import labels_of, of_run, synthetic, words

from hvae_core import figures
from hvae_core.coding import encode
from hvae_core.coding.compressors import compressed_bits, side_by_side


def lengths_of(results, images=100):
    """Code lengths as of a run with these results, close to its rates."""
    random, parts = np.random.default_rng(0), []
    layers = [name for name in results if str(name).startswith("rate_")]
    for member, row in results.iterrows():
        for name in [*layers, "distortion"]:
            rate = float(row[name]) / np.log(2)
            part = {"member": member, **{beta: row[beta] for beta in results if str(beta).startswith("beta_")}}
            part |= {"layer": name.replace("rate_", "z_").replace("distortion", "x"), "coded": rate + random.normal()}
            part |= {"wanted": part["coded"] + 0.01, "error": 0.01, "rate": rate, "rate_error": 0.5}
            parts.append(part | ({} if name in layers else {"rate": np.nan, "rate_error": np.nan}))
    table = pd.DataFrame(parts)
    table.attrs = {"run": "mine", "objective": "", "images": images}
    return table


def points_of(ax):
    """What error bars are about, ``{layer: (points, 2)}``, and how long they are."""
    return {box.get_label(): np.column_stack(box.lines[0].get_data()) for box in ax.containers}


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_every_layer_of_every_model_is_a_point(layers):
    results = synthetic(3, L=layers)
    lengths = lengths_of(results)
    fig = figures.bits(lengths, results)
    main, rest = (points_of(ax) for ax in fig.axes[:2])
    rows = lengths.set_index("layer")
    assert list(main) == [f"$z_{n}$" for n in range(layers, 0, -1)]
    for name, there in main.items():
        wanted = rows.loc[[name.strip("$")], ["rate", "coded"]]
        np.testing.assert_allclose(there.astype(float), wanted)
    differences = np.concatenate(list(rest.values()))[:, 1].astype(float)
    np.testing.assert_allclose(np.sort(differences), np.sort((lengths["coded"] - lengths["rate"]).dropna()))
    assert "mine" in words(fig) and "100 test images" in fig.caption and "0.01 bits" in fig.caption


def test_bars_are_the_files_at_the_optima():
    results = synthetic(5)
    lengths = lengths_of(results)
    ax = figures.bits(lengths, results).axes[2]
    names = [label.get_text().splitlines()[0] for label in ax.get_yticklabels()]
    assert names == ["best PSNR", "best accuracy", "best samples", "shortest"]
    totals = lengths.groupby("member")["coded"].sum()
    ends = [sum(bar.get_width() for bar in bars) for bars in zip(*ax.containers, strict=True)]
    assert ends[0] == pytest.approx(totals[results["psnr"].idxmax()], abs=1)  # what is below 0 is no bar
    assert ends[3] == pytest.approx(totals.min(), abs=1)
    alone = figures.bits(lengths).axes[2]
    assert len(alone.get_yticks()) == 1, "without results nothing is the best"


@pytest.mark.parametrize("results", [of_run(synthetic(5)), synthetic(3, L=3), synthetic(21, diverged=9)])
def test_its_text_is_legible(results):
    fig = figures.bits(lengths_of(results[results["status"] == "ok"]), results)
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text, _ in labels_of(fig)]
    for box in boxes:
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < fig.bbox.width + 1 and box.y1 < fig.bbox.height + 1
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1.5


def test_the_stack_goes_down_and_up_again():
    account = encode(model(), some_images(2)).account
    ax = figures.on_the_stack(account).axes[0]
    changes = [bars[0].get_height() for bars in ax.containers]
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "take $z_2$",
        "take $z_1$",
        "put x",
        "put $z_1$",
        "put $z_2$",
    ]
    assert (np.sign(changes) == [-1, -1, 1, 1, 1]).all()
    assert sum(changes) == pytest.approx(account.coded[0].sum())
    assert changes[0] + changes[4] == pytest.approx(account.coded[0, 0])


# --- other compressors ----------------------------------------------------------------------------------------------


def test_pictures_lie_side_by_side():
    images = some_images(5, (1, 4, 5))
    picture = np.asarray(side_by_side(images))
    assert picture.shape == (2 * 4, 3 * 5)
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        np.testing.assert_array_equal(picture[4 * row : 4 * row + 4, 5 * column : 5 * column + 5], image[0])
    assert (picture[4:, 10:] == 0).all()
    colour = some_images(4, COLOUR)
    np.testing.assert_array_equal(np.asarray(side_by_side(colour))[:32, 32:], colour[1].transpose(1, 2, 0))


def test_others_pack_eight_pixels_in_a_byte():
    images = some_images(20)
    found = compressed_bits(images)
    assert found["gzip"] == 8 * len(gzip.compress(np.packbits(images[:, 0] == 255).tobytes(), 9)) / images.size
    buffer = BytesIO()
    Image.fromarray(np.asarray(side_by_side(images))).convert("1").save(buffer, "PNG", optimize=True)
    assert found["PNG"] == 8 * len(buffer.getvalue()) / images.size


@pytest.mark.parametrize(("shape", "entropy"), [((1, 28, 28), 1), ((3, 32, 32), 8)])
def test_no_compressor_makes_noise_shorter(shape, entropy):
    random = np.random.default_rng(0)
    noise = random.integers(0, 2, (99, *shape)) * 255 if shape[0] == 1 else random.integers(0, 256, (9, *shape))
    found = compressed_bits(noise.astype(np.uint8))
    assert {"gzip", "bz2", "xz", "PNG", "WebP"} <= set(found)
    assert all(entropy < bits < 1.2 * entropy for bits in found.values())
