"""A conditioned network on images of one's own: how long to train it, and how long that takes here."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from hvae_core.errors import InputError
from hvae_core.names import CONDITIONED, DATASETS
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config
from hvae_core.runs.kinds import KINDS

if TYPE_CHECKING:  # PyTorch takes seconds to import
    from hvae_core.data.dataset import Dataset

MANY = 10_000  # training images, from which on a training is as that of mnist-conditioned, below as quick-conditioned
SHORT = {"batch_size": 50, "learning_rate": 2.8e-3}
LONG = {"batch_size": 128, "learning_rate": 1.4e-3}
UPDATES = {True: 5_600, False: 3_600}
TRIED = 6  # updates that are timed


def fitted(config: Config, given: Collection[str], images: int) -> Config:
    """A configuration with batches, learning rate and epochs for so many training images.

    Only of a conditioned run on images of one's own, and only what was not given. A run that has begun keeps its own.

    Arguments:
        given: the keys that the user has set.

    Example:
        >>> mine = Config(dataset="/there/mine.npz", model="ghvae-conditioned", epochs=180, name="none-there")
        >>> [fitted(mine, [], images).epochs for images in (300, 3_000, 30_000)]
        [600, 60, 24]
        >>> fitted(mine, ["epochs"], 300).epochs
        180
    """
    if config.kind is not KINDS["conditioned"] or config.dataset in DATASETS:
        return config
    try:
        begun = load_config(config.name)
        chosen = {key: getattr(begun, key) for key in (*SHORT, "epochs")}
    except InputError:  # there is none yet
        chosen = dict(LONG if images >= MANY else SHORT)
        chosen["batch_size"] = _batch(int(chosen["batch_size"]), images)
        chosen |= {key: getattr(config, key) for key in given if key in chosen}
        batches = math.ceil(images / chosen["batch_size"])
        chosen["epochs"] = max(1, round(UPDATES[images >= MANY] / batches))
    return Config.make({**config.dump(), **{key: value for key, value in chosen.items() if key not in given}})


def _batch(most: int, images: int) -> int:
    """The largest batch of at most so many that can be in groups; of fewer than four images one."""
    from hvae_core.training.conditioned import FEWEST, groups

    return next((size for size in range(min(most, images), 0, -1) if groups(size) >= FEWEST), min(most, images))


def training_time(config: Config, data: Dataset) -> float:
    """About how many seconds the training of a conditioned network takes on one core here: a few updates are timed."""
    import torch

    from hvae_core.data.dataset import pixels
    from hvae_core.models import build
    from hvae_core.models.conditioning import Conditioned, covering
    from hvae_core.randomness import Noise
    from hvae_core.training.conditioned import groups

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the batch
    try:
        members = config.members()
        model = build(CONDITIONED[config.models[0]], data.image_shape, **config.options)
        network = Conditioned(model, covering(member.betas for member in members))
        x = pixels(data.x_train[: config.batch_size])
        log_betas = network.low.repeat(groups(len(x)), 1)
        optimiser = torch.optim.Adam(network.parameters(), lr=0)
        times = []
        for _ in range(TRIED):
            start = time.perf_counter()
            terms = network(x, model.noise(len(x), Noise(0)), log_betas)
            optimiser.zero_grad()
            (terms.distortion.mean() + terms.rates.mean()).backward()
            optimiser.step()
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    updates = config.epochs * math.ceil(len(data.x_train) / config.batch_size)
    return sorted(times)[TRIED // 2] * updates * len({member.seed for member in members})
