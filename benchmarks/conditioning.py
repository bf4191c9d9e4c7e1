"""What makes a conditioned network close to models trained one by one: loss scaling, mechanism, width, budget.

    .venv/bin/python benchmarks/conditioning.py digits-singles # the table; what is cached is not trained again
    .venv/bin/python benchmarks/conditioning.py digits-singles --only "budget 4x" --seed 0 1 2

``digits-singles`` is a finished (or at least partly trained) grid of the plain model, made by

    ./run_all.sh quick --set dataset=digits epochs=100 batch_size=50 schedule=two-phase seeds=3 --name digits-singles

or, of MNIST, ``mnist-singles`` by ``./run_all.sh mnist-small --set schedule=two-phase seeds=3 --name mnist-singles``.

Every variant is trained with the grid's batch size and schedule, and looked at where the grid has models. L = D +
beta_2 R_2 + beta_1 R_1 is compared with the mean over the grid's seeds, on the second half of the test images; settings
are to be chosen on the
first (``--choose``). Costs are processor seconds, in units of one model of the grid, a part of which is trained right
before and after the
variant to measure it: the speed of a machine changes within the hour.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd
import torch
from torch import Tensor

from hvae_core.analysis.surface import objective_values
from hvae_core.data.dataset import Dataset
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.files import write_text
from hvae_core.models import build
from hvae_core.models.heads import SIZES, Sizes
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.runs.code import code_fingerprint, code_of
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, output_root, run_folder
from hvae_core.runs.weights import load_model, saved_identity
from hvae_core.training import conditioned
from hvae_core.training.conditioned import train_conditioned
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

SETTINGS = {name: getattr(conditioned, name) for name in ("GROWING", "RISING", "ENDS", "GROUPS", "START", "spread")}
# Epochs and learning rate are in units of the grid's. An update takes about twice as long as a single model's.
VARIANTS: dict[str, dict[str, Any]] = {
    "budget 4x: tables of weights and channels, log, ends, learning rate 1.4x": {"epochs": 1.8},
    "budget 1x": {"epochs": 0.5},
    "budget 2x": {},
    "2x, loss scaling none": {"scaling": "none"},
    "2x, loss scaling sqrt": {"scaling": "sqrt"},
    "2x, tables of channels only": {"options": {"coarse": ()}},
    "2x, tables of weights only": {"options": {"fine": ()}},
    "2x, tables of weights up to 4 x 4": {"options": {"coarse": (2, 4)}},
    "2x, tables of channels up to 13 x 13": {"options": {"fine": (2, 4, 7, 13)}},
    "2x, learning rate 1x": {"learning_rate": 1.0},
    "2x, learning rate 2x": {"learning_rate": 2.0},
    "2x, betas independent of each other": {
        "spread": lambda count, layers, random: torch.rand(count, layers, generator=random)
    },
    "2x, no betas at the ends": {"ENDS": 0.0},
    "4x, begun at (0.1, 3) only, which grows over 0.3": {
        "epochs": 1.8,
        "START": {"GHVAE": ((0.1, 0.1), (3.0, 3.0))},
        "GROWING": 0.3,
    },
    "4x, begun on both sides, which grow over 0.3": {"epochs": 1.8, "GROWING": 0.3},
    "4x, learning rate 1x, 170 epochs for 100": {"epochs": 1.7, "learning_rate": 1.0},
    "2x, begun without z_2": {"START": {"GHVAE": ((100.0, 100.0), (0.1, 0.1))}},
    "2x, all betas at once": {"GROWING": 1e-9},
    "2x, full learning rate at once": {"RISING": 1e-9},
    "2x, at most 8 groups": {"GROUPS": 8},
    "as many epochs as 2x, width 2x": {"channels": 32},
}


def widened(shape: tuple[int, int, int], channels: int) -> Callable[[], HierarchicalVAE]:
    """Makes a GHVAE with so many channels and the paper's latents."""
    sizes = SIZES[shape]

    def make() -> HierarchicalVAE:
        SIZES[shape] = Sizes(channels, sizes.z2, sizes.narrow)
        try:
            return build("ghvae", shape, latent_sizes=(sizes.z2, sizes.channels * 16))
        finally:
            SIZES[shape] = sizes

    return make


def measure(grid: Config, data: Dataset, variant: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train a variant; processor seconds, and the terms at every point of the grid."""
    points = sorted({member.betas for member in grid.members()})
    make = (
        widened(data.image_shape, variant["channels"])
        if "channels" in variant
        else partial(build, grid.model, data.image_shape)
    )
    for name, value in SETTINGS.items():
        setattr(conditioned, name, variant.get(name, value))
    before = one_model(grid, data)
    start = time.process_time()
    trained = train_conditioned(
        make,
        [Member(betas, seed) for betas in points],
        data.x_train,
        Plan(
            epochs=round(variant.get("epochs", 1.0) * grid.epochs),
            batch_size=grid.batch_size,
            learning_rate=grid.learning_rate * variant.get("learning_rate", 1.4),
            schedule=grid.schedule,
            warm_up=grid.warm_up or 0.0,
        ),
        scaling=variant.get("scaling", "log"),
        **variant.get("options", {}),
    )
    seconds = time.process_time() - start
    one = (before + one_model(grid, data)) / 2
    rows = [
        row for i, betas in enumerate(points) for row in on_halves(trained.member(i), data.x_test, Member(betas, seed))
    ]
    return {
        "seconds": seconds,
        "one": one,
        "parameters": sum(p.numel() for p in trained.networks[0].parameters()),
        "rows": rows,
    }


def on_halves(model: HierarchicalVAE, x: Tensor, member: Member) -> list[dict[str, Any]]:
    """The terms of a model on either half of the images."""
    return [
        {
            "half": i,
            "beta_2": member.betas[0],
            "beta_1": member.betas[1],
            "seed": member.seed,
            **average_terms(model, part, member.seed),
        }
        for i, part in enumerate(x.tensor_split(2))
    ]


def models_of(grid: Config, data: Dataset) -> dict[str, Any]:
    """The terms of the grid's models, as far as they are trained."""
    rows: list[dict[str, Any]] = []
    for i, member in enumerate(grid.members()):
        try:
            rows += on_halves(load_model(grid.name, i), data.x_test, member)
        except InputError:
            continue
    return {"rows": rows}


def one_model(grid: Config, data: Dataset) -> float:
    """Processor seconds of one model of the grid, from a part of its epochs."""

    def seconds(epochs: int) -> float:
        start = time.process_time()
        train(
            partial(build, grid.model, data.image_shape),
            [Member((1.0, 1.0), 0)],
            data.x_train,
            Plan(
                epochs=epochs,
                batch_size=grid.batch_size,
                learning_rate=grid.learning_rate,
                schedule=grid.schedule,
                warm_up=grid.warm_up or 0.0,
            ),
        )
        return time.process_time() - start

    seconds(1)  # the first calls take longer
    part = max(1, grid.epochs // 4)
    return seconds(part) * grid.epochs / part


def cached(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.exists():
        write_text(path, json.dumps(compute()))
    return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("grid", help="a run of the plain model")
    parser.add_argument("--only", nargs="+", default=[""], help="variants whose name contains one of these")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--cache", type=Path, default=output_root() / "runs" / ".conditioning")
    parser.add_argument("--choose", action="store_true", help="the first half of the test images instead of the second")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        grid = load_config(args.grid)
    except InputError as error:
        parser.error(str(error))
    code = code_fingerprint(code_of(Config.make({**grid.dump(), "model": f"{grid.model}-conditioned"}), "training"))
    cache = args.cache / f"{grid.name}-{code}"
    data = load(grid.dataset).first(grid.train_images, grid.test_images)
    weights = sorted((run_folder(grid.name) / "checkpoints").glob("block-*/weights.safetensors"))
    which = hashlib.sha256(repr([saved_identity(path) for path in weights]).encode()).hexdigest()[:16]
    models = pd.DataFrame(cached(cache / f"models-{which}.json", partial(models_of, grid, data))["rows"])
    models = models[models["half"] == (0 if args.choose else 1)]
    models["L"] = objective_values(models, 2)
    by_betas = models.groupby(["beta_2", "beta_1"])["L"]
    mean, spread = by_betas.mean(), 100 * by_betas.std() / by_betas.mean()
    print(
        f"{len(models)} models of {grid.epochs} epochs; their standard deviation over seeds is "
        f"{spread.mean():.1f} % of L "
        f"(mean), {spread.max():.1f} % (worst)\n"
    )
    print(
        "| variant | seed | cost, models | processor seconds | parameters | mean size of the difference, % | "
        "mean, % | mean with better points as 0, % | lowest, % | highest, % (at beta_2, beta_1) | points above +3 % |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    wanted = [
        (name, variant, seed)
        for name, variant in VARIANTS.items()
        if any(text in name for text in args.only)
        for seed in args.seed
    ]
    for name, variant, seed in wanted:
        file = cache / f"{seed}-{''.join(c if c.isalnum() else '-' for c in name)}.json"
        found = cached(file, partial(measure, grid, data, variant, seed))
        rows = pd.DataFrame(found["rows"])
        rows = rows[rows["half"] == (0 if args.choose else 1)].set_index(["beta_2", "beta_1"])
        own = pd.Series(objective_values(rows.reset_index(), 2), rows.index)
        percent = (100 * (own / mean - 1)).dropna()
        worst = percent.idxmax()
        print(
            f"| {name} | {seed} | {found['seconds'] / found['one']:.2f} | {found['seconds']:.0f} | "
            f"{found['parameters']:,} | {percent.abs().mean():.1f} | "
            f"{percent.mean():+.1f} | {percent.clip(lower=0).mean():.2f} | {percent.min():+.1f} | "
            f"{percent.max():+.1f} ({worst[0]:.3g}, {worst[1]:.3g}) | {(percent > 3).sum()} of {len(percent)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
