"""The commands ``./run_all.sh code`` and ``decode``: images to a file by a trained model, and back."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hvae_core.errors import InputError
from hvae_core.progress import duration, track
from hvae_core.runs.folder import figure_folder, load_config, run_folder

if TYPE_CHECKING:  # PyTorch takes seconds to import
    from hvae_core.coding import Code

CODE, DECODE = "code", "decode"
TEST = "test"
"""Stands for the test images of the run."""
HEADS = {"coded": "coded", "wanted": "log q/p", "error": "± of both", "rate": "rate", "results": "in results"}
T = TypeVar("T")


def code_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"./run_all.sh {CODE}",
        description="Code images without loss by a trained model, and show what each layer takes beside its rate. "
        "With RUN alone, do so for all of its models and draw the figure bits.",
        epilog="Exit status: 0 when the file or the figure is written, 2 for a mistake in what was asked.",
    )
    parser.add_argument("run", metavar="RUN", help="a run with trained models, a name or a folder")
    parser.add_argument("--member", type=int, metavar="N", help="the row of the model in the results")
    parser.add_argument(
        "images",
        nargs="?",
        metavar="FILE.npz",
        help=f"images, uint8: its array x_test or x; {TEST}: the run's own test images",
    )
    parser.add_argument("out", nargs="?", metavar="OUT", help="the file to be written")
    parser.add_argument(
        "--dials",
        type=float,
        nargs="+",
        metavar="D",
        help="code with loss: of each layer, top layer first, what a binary digit costs, such as 0.1 0.3",
    )
    parser.add_argument("--check", action="store_true", help="decode it again and compare every pixel")
    return parser.parse_intermixed_args(argv)  # FILE.npz may be left out, and stand behind --member


def decode_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"./run_all.sh {DECODE}",
        description="Decode a file that ./run_all.sh code wrote, by the model that coded it.",
        epilog="Exit status: 0 when the images are written, 2 for a mistake in what was asked.",
    )
    parser.add_argument("run", metavar="RUN", help="the run whose model coded it")
    parser.add_argument("coded", metavar="CODED", help="what ./run_all.sh code wrote")
    parser.add_argument("out", metavar="FILE.npz", help="the images to be written")
    return parser.parse_args(argv)


def code(args: argparse.Namespace) -> int:
    """Code images, print the account, and with ``--check`` decode them again; returns the exit status.

    Raises:
        InputError: for images or a model that cannot be coded, or that do not come back.
    """
    from hvae_core.coding import encode
    from hvae_core.coding.files import ImageFile, images_in, read_code, write_code
    from hvae_core.runs.results import training_table
    from hvae_core.runs.weights import load_model

    _check_run(args.run)
    given = [args.member is not None, args.images is not None, args.out is not None]
    if not any(given) and args.dials is None:
        return draw(args.run)
    if not all(given):
        raise InputError(f"{CODE}: give RUN alone, or RUN --member N FILE.npz OUT")
    images: Any = _test_images(args.run) if args.images == TEST else images_in(args.images)
    model, out = load_model(args.run, args.member), Path(args.out)
    if out.exists() and args.images != TEST and out.samefile(args.images):
        raise InputError(f"{out} holds the images; give another file for their code")
    name, shape = (images.name, images.shape) if isinstance(images, ImageFile) else ("x", images.shape)
    if args.dials is not None and args.check:
        raise InputError("--check: with --dials no image comes back as it was; leave one of them out")
    if args.dials is not None:
        return _with_loss(args, model, images, name, shape)
    # What the run knows of its own test images; read first, so that nothing is coded in vain.
    known = training_table(args.run).iloc[args.member] if args.images == TEST else None
    start = time.monotonic()
    coded = encode(model, _tracked("coding", images, len(images)))
    spent = time.monotonic() - start
    write_code(out, coded, run=run_folder(args.run).name, member=args.member, array=name, shape=shape)
    print("\n".join(_described(args, coded, known, out.stat().st_size)))
    print(f"coded in {duration(spent)}, {1000 * spent / coded.images:.2g} ms an image: {out}")
    if args.check:
        start = time.monotonic()
        _compare(model, read_code(out)[0], images)
        print(
            f"checked: {coded.images:,} images are equal in every pixel, and the initial words came back; "
            f"{duration(time.monotonic() - start)}"
        )
    return 0


def _with_loss(args: argparse.Namespace, model: Any, images: Any, name: str, shape: tuple[int, ...]) -> int:
    """Code images with loss; returns the exit status."""
    import numpy as np
    import torch

    from hvae_core.coding import decode_lossy, encode_lossy
    from hvae_core.coding.bitsback import Coder, weights_of
    from hvae_core.coding.files import write_streams
    from hvae_core.coding.symbols import Grid
    from hvae_core.terms import layer_numbers

    coder = Coder(model, Grid())
    for number, image in enumerate(images):
        coder.levels(np.asarray(image), number)  # what cannot be coded is named
    every = torch.from_numpy(np.stack(list(images)))
    streams = encode_lossy(model, every, args.dials)
    kept = {"run": run_folder(args.run).name, "member": args.member, "array": name, "shape": shape}
    ends = write_streams(args.out, streams, weights_of(model), **kept)
    x = every.numpy() / 255
    for layers, (number, end) in enumerate(zip(layer_numbers(len(ends)), ends, strict=True), start=1):
        back = decode_lossy(model, streams._replace(words=streams.words[:layers])) / 255
        quality = -10 * math.log10(max(float(((back - x) ** 2).mean()), 1e-12))
        until = "all of it" if layers == len(ends) else f"cut behind z_{number}"
        print(f"{until}: {end:,} bytes, {8 * end / x.size:.4f} bits a pixel and colour, PSNR {quality:.2f} dB")
    print(f"{streams.images:,} images: {args.out}")
    return 0


def draw(run: str) -> int:
    """Code some test images by every model of a run, and write the figure ``bits`` and its table.

    Raises:
        InputError: for a run whose models cannot be coded.
    """
    from hvae_core.analysis.code_lengths import code_lengths
    from hvae_core.figures import bits, save_figure, save_table
    from hvae_core.pipeline.measuring import sparse
    from hvae_core.runs.provenance import commit
    from hvae_core.runs.results import results_so_far
    from hvae_core.runs.weights import identities

    lengths = code_lengths(run, wanted=sparse(load_config(run)))
    figure = bits(lengths, results_so_far(run))
    name = run_folder(run).name
    made_from = {"run": name, "weights": identities(run), "script": f"./run_all.sh {CODE} {name}"} | commit()
    folder = figure_folder(run)
    table = lengths.map(lambda value: float(f"{value:.6g}") if isinstance(value, float) else value)
    table.attrs["caption"] = figure.caption
    function = {"function": "hvae_core.figures.bits"}
    paths = save_figure(figure, folder, "bits", provenance=made_from | function)
    function = {"function": "hvae_core.analysis.code_lengths.code_lengths"}
    paths += save_table(table, folder, "bits_table", provenance=made_from | function)
    print(f"figure: {paths[1]}\ntable: {paths[3]}")
    return 0


def decode(args: argparse.Namespace) -> int:
    """Decode a file to images; returns the exit status.

    Raises:
        InputError: for a file that is damaged or of another model.
    """
    from hvae_core.coding import decode_lossy
    from hvae_core.coding.bitsback import decoded, weights_of
    from hvae_core.coding.files import is_lossy, read_code, read_streams, write_images
    from hvae_core.runs.weights import load_model

    _check_run(args.run)
    lossy = is_lossy(args.coded)
    coded: Any
    if lossy:
        coded, weights, about = read_streams(args.coded)
    else:
        coded, about = read_code(args.coded)
        weights = coded.weights
    if {"member", "array", "shape"} - set(about):
        raise InputError(f"{args.coded} does not say by which model it was coded; decode it by hvae_core.coding")
    model = load_model(args.run, about["member"])
    try:
        if weights_of(model) != weights:
            raise InputError("the code was made with other weights; give the model that made it")
        every = enumerate(decode_lossy(model, coded)) if lossy else decoded(model, coded)
        write_images(args.out, about["array"], about["shape"], _tracked("decoding", every, coded.images))
    except InputError as error:
        made_by = f"it was coded by model {about['member']} of run '{about.get('run')}'"
        raise InputError(f"{args.coded}: {error}; {made_by}") from None
    print(f"{coded.images:,} images: {args.out}")
    return 0


def _check_run(run: str) -> None:
    """Raise unless there is such a run.

    Raises:
        InputError: if not.
    """
    load_config(run)


def _test_images(run: str) -> Any:
    """The test images of a run, ``(N, C, H, W)`` uint8."""
    from hvae_core.data.readers import load

    config = load_config(run)
    return load(config.dataset).first(config.train_images, config.test_images).x_test.numpy()


def _tracked(label: str, values: Iterable[T], total: int) -> Iterator[T]:
    with track(label, total, "images") as progress:
        for done, value in enumerate(values, start=1):
            yield value
            progress.update(done)


def _compare(model: Any, coded: Code, images: Any) -> None:
    """Raise unless a code gives back the images.

    They come back the last first, so what is compared with a file is kept in another, not in memory.
    """
    import tempfile

    from hvae_core.coding.bitsback import decoded
    from hvae_core.coding.files import images_in, write_images

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "back.npz"
        back = _tracked("checking", decoded(model, coded), coded.images)
        write_images(path, "x", (coded.images, *coded.image_shape), back)
        for number, (image, again) in enumerate(zip(images, images_in(path), strict=True)):
            if (image != again).any():
                raise InputError(f"image {number} did not come back as it was; please report it")


def _described(args: argparse.Namespace, coded: Code, known: Any, file_bytes: int) -> Iterator[str]:
    """The account of a code: of each layer its bits beside its rate."""
    from hvae_core.terms import layer_numbers

    assert coded.account is not None
    table = coded.account.table().drop(columns="rate_error")
    if known is not None:
        terms = [*(f"rate_{n}" for n in layer_numbers(len(coded.latent_shapes))), "distortion"]
        table["results"] = [float(known[term]) / math.log(2) for term in terms]
    table.loc["all"] = table.sum(min_count=len(table))
    table.loc["all", "error"] = math.nan
    yield f"{coded.images:,} images by model {args.member} of run '{run_folder(args.run).name}', bits an image:"
    yield "".join(f"{name:>11}" for name in ("", *(HEADS[str(column)] for column in table)))
    for layer, values in table.iterrows():
        cells = ("" if math.isnan(value) else f"{value:.3f}" for value in values)
        yield "".join(f"{cell:>11}" for cell in (layer, *cells))
    pixels = coded.images * math.prod(coded.image_shape)
    yield f"bits a pixel and colour: {coded.net_bits / pixels:.4f}, with the initial bits {coded.bits / pixels:.4f}"
    yield f"initial bits, which come back: {32 * coded.initial:,}; the file has {file_bytes:,} bytes"
