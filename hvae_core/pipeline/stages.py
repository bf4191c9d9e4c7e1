"""The stages of a run, each one call of a notebook: data and checkpoints in, tables and images out."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hvae_core.data.dataset import Dataset, pixels
from hvae_core.data.readers import load
from hvae_core.evaluation import generation, likelihood, reconstruction, representation
from hvae_core.evaluation.classifier import Classifier, classifier_for
from hvae_core.evaluation.stacked import Measurement, Tensors
from hvae_core.files import write_text
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.pipeline.drawing import (
    beta_grids,
    comparable,
    decoded_family,
    decodings,
    figure_inputs,
    only,
    provenance,
    save_all,
    separate_grids,
)
from hvae_core.pipeline.measuring import draw_images, evaluate, nothing, sparse, to_look_at
from hvae_core.pipeline.place import device, jobs
from hvae_core.pipeline.training import train_members
from hvae_core.runs.code import code_of, running
from hvae_core.runs.config import Config
from hvae_core.runs.folder import (
    load_config,
    open_run,
    output_root,
    run_folder,
    settled,
)
from hvae_core.runs.profiles import load_profile

__all__ = [
    "begin",
    "beta_grids",
    "bound_likelihood",
    "comparable",
    "decoded_family",
    "decodings",
    "device",
    "evaluate",
    "figure_inputs",
    "generate",
    "load_data",
    "provenance",
    "reconstruct",
    "represent",
    "save_all",
    "separate_grids",
    "train_members",
]

SHOWN = 12  # images of each model that are kept to look at
DECODED = 6  # latents of a model that are decoded several times
GENERATED = 100  # images for the bounds on the generative information


def begin(
    profile: str | None, changes: Mapping[str, Any] | None = None, name: str | None = None, block: int | None = None
) -> Config:
    """Open the run that is to be trained: its folder is made, if need be, with the configuration in it.

    Arguments:
        profile: the name of a profile, or the path of one; None: the run ``name`` as it was begun.
        changes: keys of the profile and their values, such as ``{"epochs": 5}``.
        name: of the run; None: the profile's.
        block: which part of the grid is to be trained here; None: all.

    Raises:
        InputError: for what is unknown or not allowed, or a name that belongs to another run.
    """
    config = load_profile(profile, changes or {}, name) if profile else load_config(str(name))
    config = Config.make({**settled(config).dump(), "block": block})
    open_run(config)
    return config


def load_data(config: Config) -> Dataset:
    """The data set of a run, on its device."""
    return load(config.dataset).first(config.train_images, config.test_images).to(device(config))


def reconstruct(config: Config, data: Dataset) -> pd.DataFrame:
    """The reconstruction table, and the reconstructions of the first test images."""
    measured = Measurement(
        lambda model, seed: {"errors": reconstruction.errors(model, data.x_test)},
        lambda tensors: reconstruction.measured(tensors["errors"]),
    )
    table = evaluate(config, "reconstruction", measured, key=data.fingerprint)
    shown = data.x_test[:SHOWN]
    drawn = Measurement(lambda model, seed: {"images": model.reconstruct(pixels(shown))}, to_look_at)
    shapes: dict[str, tuple[int, ...]] = {"images": tuple(shown.shape)}
    originals = shown.cpu().numpy()
    draw_images(config, "reconstruction", drawn, shapes, data.fingerprint, originals, wanted=sparse(config))
    return table


def generate(config: Config, data: Dataset) -> tuple[pd.DataFrame, Classifier | None]:
    """The generation table, a few samples of each model, and the classifier; without labels the table is empty."""
    only(config, "hierarchical", "deep", "conditioned", "targets", "shares")
    classifier = (
        classifier_for(
            data,
            output_root() / "runs" / ".classifiers",
            config.classifier_epochs,
            precision=config.precision,
            code=running(code_of(config, "generation")).fingerprint,
        )
        if data.num_classes
        else None
    )
    place, count = device(config), min(SHOWN, len(data.x_test))

    def compute(model: HierarchicalVAE, seed: int) -> Tensors:
        assert classifier is not None
        return {"p": classifier.probabilities(generation.samples(model, config.generated_samples, seed, place))}

    measured = Measurement(compute, lambda tensors: generation.inception_score(tensors["p"])) if classifier else nothing
    described = [config.generated_samples, classifier and [classifier.architecture, classifier.epochs]]
    table = evaluate(config, "generation", measured, key=f"{data.fingerprint} {described}", wanted=sparse(config))
    drawn = Measurement(lambda model, seed: {"images": generation.samples(model, count, seed, place)}, to_look_at)
    draw_images(config, "generation", drawn, {"images": (count, *data.image_shape)}, wanted=sparse(config))
    if classifier:
        about = {
            "architecture": classifier.architecture,
            "epochs": classifier.epochs,
            "precision": config.precision,
            "test_accuracy": classifier.test_accuracy,
        }
        write_text(run_folder(config.name) / "tables" / "classifier.json", json.dumps(about, indent=2) + "\n")
    return table, classifier


def represent(config: Config, data: Dataset) -> pd.DataFrame:
    """The representation table; without labels it is empty."""
    if data.y_test is None:
        return evaluate(config, "representation", nothing, key=data.fingerprint)
    y, classes = data.y_test.cpu(), data.num_classes  # all that the scores take along to other processes
    measured = Measurement(
        lambda model, seed: representation.latents(model, data.x_test, seed),
        lambda tensors: representation.scores(tensors, y, classes),
    )

    return evaluate(config, "representation", measured, key=data.fingerprint, processes=jobs(), wanted=sparse(config))


def bound_likelihood(config: Config, data: Dataset) -> pd.DataFrame:
    """The likelihood table (Paper B), and several decodings of the same latents of one family's models.

    An autoregressive decoder takes a pass through its network for each pixel, so the other families keep none.
    """

    # One at a time on a GPU too: a powerful decoder fills its pixels in place, one after the other, not for
    # `torch.vmap`.
    def score(model: HierarchicalVAE, seed: int) -> dict[str, float]:
        return likelihood.evaluate(
            model, data.x_test, seed, images=config.likelihood_images, generated=config.likelihood_images or GENERATED
        )

    described = f"{data.fingerprint} {config.likelihood_images} {GENERATED}"
    table = evaluate(config, "likelihood", score, key=described, processes=jobs())
    shown = data.x_test[:DECODED]
    shape: tuple[int, ...] = (len(shown), likelihood.REPEATS, *data.image_shape)
    shapes = dict.fromkeys(("reconstructions", "generated"), shape)

    def draw(model: HierarchicalVAE, seed: int) -> dict[str, np.ndarray]:
        return dict(zip(shapes, likelihood.decodings(model, shown, seed), strict=True))

    family = decoded_family(config)
    draw_images(
        config,
        "likelihood",
        draw,
        shapes,
        data.fingerprint,
        shown.cpu().numpy(),
        jobs(),
        lambda member: member.model == family,
    )
    return table
