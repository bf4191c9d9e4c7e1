"""How many bits each layer of a run's models takes in a file, beside its rate."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from hvae_core.coding import encode
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.progress import track
from hvae_core.runs.about import about
from hvae_core.runs.folder import load_config
from hvae_core.runs.results import training_table
from hvae_core.runs.weights import load_model
from hvae_core.terms import layer_numbers
from hvae_core.training.plan import Member

IMAGES = 100


def code_lengths(
    run: str | Path, images: int | None = None, wanted: Callable[[Member], bool] = lambda member: True
) -> pd.DataFrame:
    """Code the first test images by every model of a run: one row a model and layer, and one for x.

    Arguments:
        images: how many; None: a hundred, or all if there are fewer. A model takes about two milliseconds for each.
        wanted: which models; of a conditioned network's points, for one, not all.

    Returns:
        ``member``, the betas, ``layer`` (``z_2``, ``z_1``, ``x``), and the columns of
        `hvae_core.coding.Account.table`, in bits an image. ``attrs`` has the name of the run and ``images``.

    Raises:
        InputError: when the run is not trained, or its models cannot be coded.
    """
    config = load_config(run)
    status = training_table(run)["status"]
    data = load(config.dataset).first(config.train_images, config.test_images)
    images = min(IMAGES, len(data.x_test)) if images is None else images
    if not 1 <= images <= len(data.x_test):
        raise InputError(f"images = {images}: there are {len(data.x_test)} test images")
    members, tables = config.members(), []
    todo = [index for index in range(len(members)) if status[index] == "ok" and wanted(members[index])]
    with track("coding", len(todo), "models") as progress:
        for index in todo:
            account = encode(load_model(run, index), data.x_test[:images].numpy()).account
            assert account is not None
            betas = {
                f"beta_{n}": beta for n, beta in zip(layer_numbers(config.layers), members[index].betas, strict=True)
            }
            tables.append(account.table().reset_index().assign(member=index, **betas))
            progress.update(len(tables))
    if not tables:
        raise InputError(f"run '{config.name}' has no trained model to code with")
    lengths = pd.concat(tables, ignore_index=True)
    first = ["member", *(f"beta_{n}" for n in layer_numbers(config.layers))]
    lengths = lengths[[*first, *(column for column in lengths if column not in first)]]
    lengths.attrs = {**about(run), "images": images}
    return lengths
