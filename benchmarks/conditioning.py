"""What makes a conditioned network close to models trained one by one: loss scaling, mechanism, width, budget.

    .venv/bin/python benchmarks/conditioning.py digits-singles # choose a variant, then report it
    .venv/bin/python benchmarks/conditioning.py digits-singles --choose # the first half of it
    .venv/bin/python benchmarks/conditioning.py published/runs/mnist-7x7 --only "budget 4x" # report that one

``digits-singles`` is a grid of the plain model, of which the training is enough, made by

    ./run_all.sh quick --set dataset=digits epochs=100 batch_size=50 schedule=two-phase seeds=3 --name digits-singles

**Choose.** Every variant is trained on nine tenths of the training images, with the grid's batch size and schedule and
seed 0. The one with the lowest mean of log L, L = D + beta_2 R_2 + beta_1 R_1, on the other tenth is chosen, of those
that cost at most ``--budget`` models. No test image and no model of the grid is looked at.

**Report.** The chosen one is trained on all training images, for each seed, and its L on the test images is compared
with the mean over the grid's seeds, at the settings that the grid has.

What was trained is kept and not trained again. Costs are processor seconds, in units of one model of the grid, a part
of which is trained right before and after the variant to measure it: the speed of a machine changes within the hour.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd
import torch
from pandas.api.typing import DataFrameGroupBy
from torch import Tensor

from hvae_core.analysis.surface import objective_values
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.files import write_text
from hvae_core.models import build
from hvae_core.models.heads import SIZES, Sizes
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.objective import lagrangian
from hvae_core.runs.about import constant
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, output_root
from hvae_core.runs.identity import training_identity
from hvae_core.runs.results import training_table
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


def held_out(x: Tensor) -> tuple[Tensor, Tensor]:
    """Nine tenths of the training images to learn from, and a tenth to choose by: the same ones each time."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    cut = len(x) // 10
    return x[order[cut:]], x[order[:cut]]


def measure(grid: Config, learn: Tensor, judge: Tensor, variant: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train a variant on some images; processor seconds, and the terms on others at every point of the grid."""
    points = sorted({member.betas for member in grid.members()})
    shape = (learn.shape[1], learn.shape[2], learn.shape[3])
    make = widened(shape, variant["channels"]) if "channels" in variant else partial(build, grid.model, shape)
    for name, value in SETTINGS.items():
        setattr(conditioned, name, variant.get(name, value))
    before = one_model(grid, learn)
    start = time.process_time()
    trained = train_conditioned(
        make,
        [Member(betas, seed) for betas in points],
        learn,
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
    one = (before + one_model(grid, learn)) / 2
    return {
        "seconds": seconds,
        "one": one,
        "constant": constant(shape, grid.sigma_x),
        "parameters": sum(p.numel() for p in trained.networks[0].parameters()),
        "rows": [on(judge, trained.member(i), Member(betas, seed)) for i, betas in enumerate(points)],
    }


def on(x: Tensor, model: HierarchicalVAE, member: Member) -> dict[str, Any]:
    """The terms of a model on images, and what it is."""
    beta_2, beta_1 = member.betas
    return {"beta_2": beta_2, "beta_1": beta_1, "seed": member.seed, **average_terms(model, x, member.seed)}


def models_of(run: str) -> dict[str, Any]:
    """The terms of the grid's models on the test images, as far as they are trained; and the parameters of one."""
    grid, table = load_config(run), training_table(run)
    rows = table.loc[table["status"] == "ok", ["beta_2", "beta_1", "seed", "distortion", "rate_2", "rate_1"]]
    shape = load(grid.dataset).image_shape
    return {
        "rows": rows.to_dict("records"),
        "parameters": sum(p.numel() for p in build(grid.model, shape).parameters()),
        "constant": constant(shape, grid.sigma_x),
    }


def one_model(grid: Config, x: Tensor) -> float:
    """Processor seconds of one model of the grid, from a part of its epochs."""

    def seconds(epochs: int) -> float:
        start = time.process_time()
        train(
            partial(build, grid.model, (x.shape[1], x.shape[2], x.shape[3])),
            [Member((1.0, 1.0), 0)],
            x,
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


def identity(grid: Config, fingerprint: str) -> str:
    """What networks beside a grid are functions of: its name, and a hash of its training, of data and of code."""
    name = Path(grid.name).name  # of a published run it is a folder
    network = Config.make({**grid.dump(), "name": name, "model": f"{grid.model}-conditioned"})
    return f"{name}-{training_identity(network, fingerprint, lagrangian)}"


def cached(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.exists():
        write_text(path, json.dumps(compute()))
    return json.loads(path.read_text())


def by_betas(found: dict[str, Any]) -> DataFrameGroupBy:
    """Models by (beta_2, beta_1), with ``L`` in nats, without what depends on the unit of a pixel alone."""
    rows = pd.DataFrame(found["rows"])
    rows["L"] = objective_values(rows, 2) - found["constant"]
    return rows.groupby(["beta_2", "beta_1"])


def line(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def cost(found: dict[str, Any]) -> tuple[str, str, str]:
    return f"{found['seconds'] / found['one']:.2f}", f"{found['seconds']:.0f}", f"{found['parameters']:,}"


def choose(trained: dict[str, dict[str, Any]], budget: float) -> str:
    """Print how the variants do on the held-out training images, and name the best of those within the budget."""
    logs = {name: float(by_betas(found)["L"].mean().map(math.log).mean()) for name, found in trained.items()}
    within = [name for name, found in trained.items() if found["seconds"] <= budget * found["one"]]
    if not within:
        raise SystemExit(f"error: no variant costs at most {budget:g} models; --budget allows more")
    best = min(within, key=logs.__getitem__)
    line("variant", "cost, models", "processor seconds", "parameters", "L above that of the chosen one, mean, %")
    line(*["---"] * 5)
    for name, found in trained.items():
        line(name, *cost(found), f"{100 * math.expm1(logs[name] - logs[best]):+.2f}")
    print(f"\nchosen on a tenth of the training images, of {len(within)} within {budget:g} models: {best}\n")
    return best


def report(found: dict[int, dict[str, Any]], models: dict[str, Any]) -> None:
    """Print how a network of each seed does beside the models, on test images."""
    groups = by_betas(models)["L"]
    spread = 100 * groups.std() / groups.mean()
    seeds = (
        f"; their standard deviation over seeds is {spread.mean():.1f} % of L (mean)" if spread.notna().any() else ""
    )
    print(f"beside {len(models['rows'])} models of {models['parameters']:,} parameters, on test images{seeds}\n")
    line(
        *("seed", "cost, models", "processor seconds", "parameters", "mean, %", "mean size of the difference, %"),
        *("lowest, %", "highest, % (at beta_2, beta_1)", "better points as 0, mean, %", "points above +3 %"),
    )
    line(*["---"] * 10)
    for seed, one in found.items():
        percent = (100 * (by_betas(one)["L"].mean() / groups.mean() - 1)).dropna()
        worst = percent.idxmax()
        line(
            *(seed, *cost(one), f"{percent.mean():+.1f}", f"{percent.abs().mean():.1f}", f"{percent.min():+.1f}"),
            f"{percent.max():+.1f} ({worst[0]:.3g}, {worst[1]:.3g})",
            *(f"{percent.clip(lower=0).mean():.2f}", f"{(percent > 3).sum()} of {len(percent)}"),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("grid", help="a run of the plain model: its name or folder")
    parser.add_argument("--only", nargs="+", default=[""], help="variants whose name contains one of these")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of the networks that are reported")
    parser.add_argument("--budget", type=float, default=4.5, help="what a variant may cost, in models")
    parser.add_argument("--cache", type=Path, default=output_root() / "runs" / ".conditioning")
    parser.add_argument("--choose", action="store_true", help="choose, and report nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [name for name in VARIANTS if any(text in name for text in args.only)]
    if not wanted:
        parser.error(f"--only {' '.join(args.only)}: no variant is named so; there are: {'; '.join(VARIANTS)}")
    try:
        grid = load_config(args.grid)
    except InputError as error:
        parser.error(str(error))
    data = load(grid.dataset).first(grid.train_images, grid.test_images)
    cache = args.cache / identity(grid, data.fingerprint)

    def trained(part: str, name: str, seed: int) -> dict[str, Any]:
        learn, judge = held_out(data.x_train) if part == "choose" else (data.x_train, data.x_test)
        file = cache / f"{part}-{seed}-{''.join(c if c.isalnum() else '-' for c in name)}.json"
        return cached(file, partial(measure, grid, learn, judge, VARIANTS[name], seed))

    best = wanted[0]
    if len(wanted) > 1 or args.choose:
        best = choose({name: trained("choose", name, 0) for name in wanted}, args.budget)
    if args.choose:
        return
    try:
        models = models_of(args.grid)
    except InputError as error:
        parser.error(f"{error}; --choose needs no models")
    print(f"{best}:")
    report({seed: trained("report", best, seed) for seed in args.seed}, models)


if __name__ == "__main__":
    main()
