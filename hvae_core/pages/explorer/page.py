"""Results, and pictures or a network -> the explorer, one HTML file."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from hvae_core.analysis.points import (
    CLASSIFIERS,
    Metric,
    described,
    drawable,
    grid_means,
    is_beta_vae,
    is_vae,
    optimal,
)
from hvae_core.names import PROBES
from hvae_core.pages.explorer.tour import optima, tour
from hvae_core.progress import track

if TYPE_CHECKING:  # PyTorch takes seconds to import, and a page of stored pictures needs none
    from torch import Tensor

    from hvae_core.models.conditioning import Conditioned

HERE = Path(__file__).parent
LARGEST = 5_500_000  # letters of all pictures of a grid: a page has 7 MB at most, so that of many models fewer are kept
COLUMNS = 4  # images in a row of a mosaic, as in page.js
GAP = 128  # the grey between them
DIGITS = 6
BRIGHTER, DARKER = (211, 84, 0), (31, 95, 168)  # of a difference, where they differ by all
NOTHING = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Nothing to explore</title>'
    "<h1>Nothing to explore</h1><p>No model of this run is well: {}.</p></html>"
)
TERMS = (
    ("distortion", "D", "nats", True),
    ("rate_2", "R(z₂)", "nats", False),
    ("rate_1", "R(z₁|z₂)", "nats", False),
    ("rate", "R, the total rate", "nats", False),
    ("elbo", "ELBO", "nats", False),
)
MEASURED = (
    ("psnr", "PSNR", "dB", 1),
    ("inception_score", "Inception Score", "", 1),
    ("diversity", "diversity of samples", "", 1),
    ("sharpness", "sharpness of samples", "", 1),
    ("mi_z2", "I_q(y; z₂)", "nats", 1),
    ("mi_z2_permuted", "I_q of labels at random", "nats", 1),
    ("mi_z2_lower", "I(y; z₂), at least", "nats", 1),
    *((f"acc_mu2_{probe}", f"{CLASSIFIERS[probe]} on μ₂", "%", 100) for probe in PROBES),
    ("acc_z2_rbf_svm", "RBF SVM on sampled z₂", "%", 100),
    ("acc_mu1_rbf_svm", "RBF SVM on μ₁", "%", 100),
)


class Pictures(NamedTuple):
    """What a run keeps to look at: uint8, ``(models, images, C, H, W)``; of test images ``(images, C, H, W)``."""

    originals: np.ndarray
    reconstructions: np.ndarray
    samples: np.ndarray


class Live(NamedTuple):
    """A conditioned network, test images ``(images, C, H, W)`` uint8 and the seed of the noise."""

    network: Conditioned
    x: Tensor
    seed: int


def explorer(
    results: pd.DataFrame, shown: Pictures | Live, separate: Mapping[str, pd.DataFrame] | None = None, footer: str = ""
) -> str:
    """The page, as HTML.

    Arguments:
        results: of a run of two layers, one row a model, as `hvae_core.load_results` returns them.
        shown: pictures of each row of the results, or a network that makes them in the page.
        separate: results of grids of models trained one by one, by name, to stand beside a network.
        footer: what the page is made of, a line.

    Returns:
        The page; where no model is well, one that says so.
    """
    points = grid_means(results)
    if not np.isfinite(points[["rate_2", "rate_1"]].to_numpy(float)).all(1).any():
        return NOTHING.format(escape(described(results)))
    metrics = _metrics(points)
    data: dict[str, Any] = {
        "points": _columns(points, [column for column, *_ in (*TERMS, *MEASURED)]),
        "axes": [sorted(map(_number, points[name].unique())) for name in ("beta_2", "beta_1")],
        "metrics": metrics,
        "metric": next((one["column"] for one in metrics if one["column"] == "psnr"), metrics[0]["column"]),
        "marks": _marks(points, metrics),
        "tour": tour(points),
        "separate": [row for frame in (separate or {}).values() for row in _rows(frame)],
        "separateRuns": list(separate or {}),
    }
    if isinstance(shown, Live):
        data["start"] = [min(max(1.0, low), high) for low, high in shown.network.betas]
        network, stills = _network(shown, data["start"])
        data["network"] = network
        footer = f"{footer} {_said_of_rounding(shown, network['about'])}".strip()
        lead = (
            "A hierarchical VAE spends information in two layers of latents, each at a price, its beta. This "
            "network knows all betas, and is computed in your browser."
        )
    else:
        data["pictures"], data["start"], stills = _pictures(points, results, shown)
        data["size"] = shown.originals.shape[2:]
        lead = (
            "A hierarchical VAE spends information in two layers of latents, each at a price, its beta. Move "
            "them, and see what the models make of the same images and the same noise."
        )
    name = str(results.attrs.get("run", "")) or str(results["dataset"].iloc[0])
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    template = Template((HERE / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{name}: explorer"),
        heading=escape(f"Two betas: {name}"),
        lead=lead,
        about=escape(described(results)),
        footer=escape(footer),
        css=_asset("page.css"),
        script=_asset("page.js"),
        data=text.replace("</", "<\\/"),
        **stills,
    )


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _metrics(points: pd.DataFrame) -> list[dict[str, Any]]:
    """What planes can be coloured by: all that was measured of some point."""
    named = [
        *({"column": c, "name": n, "unit": u, "factor": 1, "log": log, "stored": False} for c, n, u, log in TERMS),
        *({"column": c, "name": n, "unit": u, "factor": f, "log": False, "stored": True} for c, n, u, f in MEASURED),
    ]
    return [one for one in named if one["column"] in points and points[one["column"]].notna().any()]


def _columns(points: pd.DataFrame, names: Sequence[str]) -> dict[str, list[float | None]]:
    kept = ["beta_2", "beta_1", *(name for name in names if name in points and points[name].notna().any())]
    kept += [f"{name}_sd" for name in names if f"{name}_sd" in points and points[f"{name}_sd"].notna().any()]
    return {name: list(map(_number, points[name])) for name in kept}


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def _rows(results: pd.DataFrame) -> list[dict[str, float | None]]:
    well = results[drawable(results)]
    names = [name for name in ("beta_2", "beta_1", *(c for c, *_ in (*TERMS, *MEASURED))) if name in well]
    return [{name: _number(row[name]) for name in names} for _, row in well[names].iterrows()]


def _marks(points: pd.DataFrame, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows that stand out: the VAE, the line of beta-VAEs, the optima, and each metric's best for their total rate."""
    known = np.isfinite(points["rate"].to_numpy(float))
    vae, line = np.flatnonzero(is_vae(points) & known), np.flatnonzero(is_beta_vae(points) & known)
    return {
        "vae": int(vae[0]) if len(vae) else None,
        "line": line[np.argsort(points["beta_2"].to_numpy()[line])].tolist(),
        "optima": optima(points),
        "hulls": {
            one["column"]: optimal(points, Metric(one["column"], one["name"])).tolist()
            for one in metrics
            if one["stored"]
        },
    }


# --- what is seen -------------------------------------------------------------------------------------------------


def _network(live: Live, start: Sequence[float]) -> tuple[dict[str, Any], dict[str, str]]:
    from hvae_core.data.dataset import to_uint8
    from hvae_core.evaluation.generation import samples
    from hvae_core.evaluation.reconstruction import reconstructions
    from hvae_core.pages.explorer.weights import SHOWN, packed

    network, x = live.network.to("cpu"), live.x.cpu()
    packing = packed(network, x, live.seed)
    packing["script"] = _asset("network.js") + _asset("worker.js")
    model, first = network.at(start), x[:SHOWN]
    drawn = to_uint8(samples(model, len(first), live.seed))
    return packing, _stills(first.numpy(), reconstructions(model, first), drawn)


def _said_of_rounding(live: Live, about: Mapping[str, Any]) -> str:
    from hvae_core.pages.explorer.weights import rounding

    off = rounding(live.network.to("cpu"), live.x.cpu()[: about["images"]], live.seed)
    rate = max(off["rate_2"], off["rate_1"])
    return (
        f"The weights here are rounded to {about['bits']} bits. On {about['images']} test images, at the corners and "
        f"in the middle of the betas, that changes D by at most {off['distortion']:.2g} nats and a rate by at most "
        f"{rate:.2g}."
    )


def _pictures(
    points: pd.DataFrame, results: pd.DataFrame, kept: Pictures
) -> tuple[list[str | None], list[float], dict[str, str]]:
    """Of each point the pictures of its first seed that is well, as one image; where to begin; and that one's."""
    well = results[drawable(results)].reset_index(names="row").groupby(["beta_2", "beta_1"])["row"].min()
    rows = [well.get((point["beta_2"], point["beta_1"])) for _, point in points.iterrows()]
    many = len(kept.originals)
    found = _strips(rows, kept, many)
    while many > 1 and (letters := sum(map(len, filter(None, found)))) > LARGEST:
        many = max(1, min(many - 1, int(many * LARGEST / letters)))
        found = _strips(rows, kept, many)
    far = [
        np.inf if row is None else np.square(np.log(points.loc[i, ["beta_2", "beta_1"]].to_numpy(float))).sum()
        for i, row in enumerate(rows)
    ]
    at = int(np.argmin(far))
    row = rows[at]
    start = [float(points[name].iloc[at]) for name in ("beta_2", "beta_1")]
    return found, start, _stills(kept.originals[:many], kept.reconstructions[row][:many], kept.samples[row][:many])


def _strips(rows: Sequence[Any], kept: Pictures, many: int) -> list[str | None]:
    """Reconstructions beside samples, an image for each of these rows."""
    colour = kept.originals.shape[1] > 1
    found: list[str | None] = []
    with track("explorer", len(rows), "pictures") as progress:
        for row in rows:
            if row is None:
                found.append(None)
            else:
                halves = [_mosaic(images[row][:many]) for images in (kept.reconstructions, kept.samples)]
                found.append(_uri(np.concatenate(halves, 1), lossless=not colour))
            progress.update(len(found))
    return found


def _stills(originals: np.ndarray, reconstructions: np.ndarray, samples: np.ndarray) -> dict[str, str]:
    names = ("reconstructions", "difference", "samples")
    pictures = dict(zip(names, _mosaics(originals, reconstructions, samples), strict=True))
    return {name: _uri(picture) for name, picture in {"originals": _mosaic(originals), **pictures}.items()}


def _mosaics(originals: np.ndarray, reconstructions: np.ndarray, samples: np.ndarray) -> list[np.ndarray]:
    """Three of equal size: reconstructions, how they differ from the images, and samples."""
    off = (reconstructions.astype(float) - originals).mean(1, keepdims=True) / 255
    full = np.where(off[..., None] > 0, np.array(BRIGHTER), np.array(DARKER))  # (images, 1, H, W, 3)
    shades = 255 - np.abs(off)[..., None] * (255 - full)
    difference = shades[:, 0].transpose(0, 3, 1, 2).round().astype(np.uint8)
    return [_mosaic(reconstructions), _mosaic(difference), _mosaic(samples)]


def _mosaic(images: np.ndarray) -> np.ndarray:
    """Images ``(n, C, H, W)`` in rows of `COLUMNS`, ``(height, width, 3)``."""
    n, _, height, width = images.shape
    rows = -(-n // COLUMNS)
    found = np.full((rows * (height + 1) - 1, COLUMNS * (width + 1) - 1, 3), GAP, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // COLUMNS) * (height + 1), (i % COLUMNS) * (width + 1)
        found[y : y + height, x : x + width] = np.broadcast_to(image, (3, height, width)).transpose(1, 2, 0)
    return found


def _uri(picture: np.ndarray, lossless: bool = True) -> str:
    """A picture as WebP, in which pictures of digits are smaller than as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", lossless=lossless, quality=80, method=2)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
