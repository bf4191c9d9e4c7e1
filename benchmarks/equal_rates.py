"""Is a model that was driven to its target rates as good as one trained with those betas from the start?

    .venv/bin/python benchmarks/equal_rates.py digits-targets               # a finished run with target rates
    .venv/bin/python benchmarks/equal_rates.py digits-targets --seeds 5 --every 3

Takes the betas at which the models of a run ended, trains ordinary models with them (Eq. 8), the same data, epochs and settings
and a few seeds, and compares L = D + beta_2 R_2 + beta_1 R_1 on training images at those betas. To first order that is the
difference of the distortions at equal rates, since the betas are the slopes of the surface; nothing is interpolated, unlike
beside a grid (notebook 80).

Were the model driven to its rates just another seed, it would lie between the lowest and the highest of n seeds with probability
(n - 1) / (n + 1), and below or above all of them with 1 / (n + 1) each. Prints how often it does. An interrupted
measurement goes on.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from hvae_core.config import Config, Member
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.models import build
from hvae_core.population import train
from hvae_core.stages import load_data
from hvae_core.store import load_config, run_folder, training_table, write_table
from hvae_core.surface import lagrangian
from hvae_core.terms import layer_numbers


def fixed(config: Config, betas: tuple[float, ...], seed: int) -> dict[str, float]:
    """The terms on training images of a model trained with these betas from the start."""
    torch.set_num_threads(1)
    data = load_data(config)
    make = partial(build, config.models[0], data.image_shape, **config.options)
    population = train(make, [Member(betas, seed)], data.x_train, epochs=config.epochs, batch_size=config.batch_size,
                       learning_rate=config.learning_rate, schedule=config.schedule, precision=config.precision,
                       normalise_gradients=config.normalise_gradients, label=f"betas {betas}, seed {seed}")  # fmt: skip
    return average_terms(population.member(0), data.x_train, seed)


def measure(run: str, seeds: int, every: int, jobs: int) -> pd.DataFrame:
    """One row a model of the run and seed: ``driven`` and ``fixed``, L in nats per image, and the distortions."""
    config, results = load_config(run), training_table(run)
    if config.target_rates is None:
        raise InputError(f"run '{run}' has no target rates; digits-targets is a profile that has")
    numbers, path = layer_numbers(config.layers), run_folder(run) / "tables" / "equal_rates.parquet"
    names = [f"beta_{n}" for n in numbers]
    rows = results[(results["status"] == "ok") & (results["target_status"] == "reached")].iloc[::every]
    if rows.empty:
        raise InputError(f"run '{run}': no model holds its target rates")
    done = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=["row", *names, "seed"])
    todo = [(row, seed) for seed in range(seeds) for row in rows.index
            if not ((done["row"] == row) & (done["seed"] == seed) & (done[names] == rows.loc[row, names]).all(axis=1)).any()]  # fmt: skip
    calls = (delayed(fixed)(config, tuple(rows.loc[row, names].astype(float)), seed) for row, seed in todo)
    for (row, seed), terms in zip(todo, Parallel(n_jobs=jobs, return_as="generator")(calls), strict=True):
        at = rows.loc[[row], names].reset_index(drop=True)
        trained = pd.concat([at, pd.DataFrame([terms])], axis=1)
        driven = float(lagrangian(rows.loc[[row]], config.layers, "train_")[0])
        new = at.assign(row=row, seed=seed, driven=driven, fixed=lagrangian(trained, config.layers),
                        driven_distortion=rows.loc[row, "train_distortion"], fixed_distortion=terms["distortion"])  # fmt: skip
        done = pd.concat([done, new], ignore_index=True) if len(done) else new
        write_table(path, done)
    return done[done["row"].isin(rows.index) & (done["seed"] < seeds)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="only every so many models of the run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once; default: all cores")
    args = parser.parse_args()
    if args.seeds < 1 or args.every < 1:
        parser.error("--seeds and --every are at least 1")
    try:
        table = measure(args.run, args.seeds, args.every, args.jobs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    by_row = table.groupby("row")
    driven, spread = by_row["driven"].first(), by_row["fixed"]
    low, mean, high = spread.min(), spread.mean(), spread.max()
    seeds = args.seeds
    print(f"{args.run}: {len(driven)} models that hold their target rates, beside {seeds} seeds each with their betas from the start")
    for name, base in (("the mean of the seeds", mean), ("the lowest seed", low)):
        off = 100 * (driven / base - 1)
        print(f"L against {name}: median {off.median():+.2f} %, {off.min():+.2f} to {off.max():+.2f} %")
    spread_of_seeds = 100 * (spread.std() / mean).median()
    print(f"standard deviation of the seeds: {spread_of_seeds:.2f} % (median)")
    expected = 100 / (seeds + 1)
    print(f"below all seeds {100 * np.mean(driven < low):.0f} %, between {100 * np.mean((driven >= low) & (driven <= high)):.0f} %, "
          f"above all {100 * np.mean(driven > high):.0f} % (of one more seed: {expected:.0f}, {100 - 2 * expected:.0f}, {expected:.0f} %)")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
