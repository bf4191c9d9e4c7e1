"""Is a model that was driven to its target rates as good as one trained with fixed betas that ends at the same rates?

    .venv/bin/python benchmarks/equal_rates.py digits-grid # a finished grid of betas with several seeds
    .venv/bin/python benchmarks/equal_rates.py digits-targets --seeds 5 --every 3     # a finished run with target rates

Of a **grid** each setting of the betas where every layer carries at least half a nat gives targets: the mean rates of
its seeds on training images. With each of these seeds a model is driven to them, in as many epochs and with the same
settings, and its L = D + beta_2 R_2 + beta_1 R_1 on training images
is compared with that of the model with fixed betas and the same seed: they share initial weights, batches and noise,
and at one setting all have nearly the same rates, so that this is the difference of
their distortions.

Of a run with **target rates** the betas at which its models ended are taken, and ordinary models are trained with them
from the start. These may end at other rates, where the betas that were found are no slopes of the surface, and at a
minimum of L there; so what is found against the driven models is an upper bound.

There the model that was driven would, were it just another seed, lie between the lowest and the highest of n seeds with
probability (n - 1) / (n + 1), and below or above all of them with 1 / (n + 1) each. Prints how often it does. An
interrupted measurement goes on.

Percentages are of L without what the unit of a pixel alone adds to D.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from hvae_core.analysis.surface import objective_values
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.files import write_table
from hvae_core.models import build
from hvae_core.pipeline.stages import load_data
from hvae_core.runs import provenance
from hvae_core.runs.about import about
from hvae_core.runs.code import code_fingerprint, code_of
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, run_folder
from hvae_core.runs.results import training_table
from hvae_core.terms import layer_numbers
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train
from hvae_core.training.target_rates import HIGHEST, LOWEST, tolerance


def trained(config: Config, member: Member) -> dict[str, float]:
    """The terms on training images of a model trained as those of the run were."""
    torch.set_num_threads(1)
    data = load_data(config)
    make = partial(build, config.models[0], data.image_shape, **config.options)
    asked = ", ".join(f"{value:.4g}" for value in member.targets or member.betas)
    population = train(
        make,
        [member],
        data.x_train,
        Plan(
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            schedule=config.schedule,
            precision=config.precision,
            normalise_gradients=config.normalise_gradients,
        ),
        label=f"{'rates' if member.targets else 'betas'} {asked}, seed {member.seed}",
    )
    return average_terms(population.member(0), data.x_train, member.seed)


def cache(run: str, config: Config, *start: float) -> Path:
    """Where what is measured is kept: results of other training code, or of another start, are not mixed with it."""
    code = code_fingerprint([*code_of(config, "training"), "hvae_core.training.target_rates"])
    return run_folder(run) / "tables" / f"equal_rates-{'-'.join([code, *(f'{beta:g}' for beta in start)])}.parquet"


def from_grid(run: str, every: int, jobs: int, start: Sequence[float] | None) -> pd.DataFrame:
    """One row a setting and seed of a grid of betas.

    ``driven`` and ``fixed``, L in nats per image, and the distortions.
    """
    config, results = load_config(run), training_table(run)
    numbers = layer_numbers(config.layers)
    start = start or [0.1] * len(numbers)
    path = cache(run, config, *start)
    if len(start) != len(numbers):
        raise InputError(f"--start: {len(start)} betas for the {len(numbers)} layers of run '{run}'")
    betas, rates = [f"beta_{n}" for n in numbers], [f"train_rate_{n}" for n in numbers]
    if config.seeds < 2 or config.warm_up:
        raise InputError(f"run '{run}': needs several seeds at a setting, and no warm-up")
    well = results[results["status"] == "ok"]
    well = well.assign(fixed=objective_values(well, config.layers, "train_"))
    means = well.groupby(betas)[rates].mean()
    means = means[(means >= 0.5).all(axis=1)].iloc[::every]
    if means.empty:
        raise InputError(f"run '{run}': nowhere do all layers carry half a nat")
    wanted = well[[*betas, "seed", "fixed", "train_distortion"]].merge(
        means.add_prefix("target_").reset_index(), on=betas
    )
    targets = [f"target_{rate}" for rate in rates]
    done = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=[*betas, "seed", *targets])
    keys = [*betas, "seed", *targets]
    todo = [
        row
        for _, row in wanted.iterrows()
        if not np.isclose(done[keys].astype(float), row[keys].astype(float)).all(1).any()
    ]
    calls = (
        delayed(trained)(config, Member(tuple(start), int(row["seed"]), targets=tuple(row[targets]))) for row in todo
    )
    for row, terms in zip(todo, Parallel(n_jobs=jobs, return_as="generator")(calls), strict=True):
        driven = terms["distortion"] + sum(row[f"beta_{n}"] * terms[f"rate_{n}"] for n in numbers)
        off = max(
            abs(terms[f"rate_{n}"] - row[f"target_train_rate_{n}"]) / tolerance(row[f"target_train_rate_{n}"])
            for n in numbers
        )
        new = pd.DataFrame([{**row, "driven": driven, "driven_distortion": terms["distortion"], "off": off}])
        done = pd.concat([done, new], ignore_index=True) if len(done) else new
        write_table(path, done)
    return wanted[keys].merge(done, on=keys)


def report_grid(run: str, table: pd.DataFrame, betas: list[str]) -> None:
    """Paired differences, beside the spread of the seeds."""
    unit = about(run)["constant"]
    table = table.assign(driven=table["driven"] - unit, fixed=table["fixed"] - unit)
    table = table.assign(percent=100 * (table["driven"] / table["fixed"] - 1))
    print(table.drop(columns=["fixed", "driven"]).round(2).to_string(index=False))
    by_setting = table.groupby(betas)
    mean, low, high = (by_setting["fixed"].transform(how) for how in ("mean", "min", "max"))
    table = table.assign(
        beyond=100 * (table["driven"] / mean - 1), place=(table["driven"] > high).astype(int) - (table["driven"] < low)
    )
    spread, seeds = 100 * by_setting["fixed"].std() / by_setting["fixed"].mean(), int(by_setting.size().min())
    print(
        f"{run}: {len(table)} models driven to the rates of {len(spread)} settings, "
        f"{(table['off'] <= 1).mean():.0%} hold them (off, in tolerances, at most 1); the following is of these"
    )
    table = table[table["off"] <= 1]
    by_setting = table.groupby(betas)
    print(
        f"L beside the model with fixed betas and the same seed: median {table['percent'].median():+.2f} %, "
        f"{table['percent'].min():+.2f} to {table['percent'].max():+.2f} %; "
        f"by settings {', '.join(f'{value:+.1f}' for value in by_setting['percent'].mean())}"
    )
    print(
        f"L beside the mean of the seeds with fixed betas: median {table['beyond'].median():+.2f} %, where their "
        f"standard deviation is {spread.median():.2f} % (median of the settings); "
        f"below all of them {(table['place'] < 0).mean():.0%}, above all {(table['place'] > 0).mean():.0%} (of "
        f"one more seed: {1 / (seeds + 1):.0%} each)"
    )


def from_targets(run: str, seeds: int, every: int, jobs: int) -> pd.DataFrame:
    """One row a model of the run and seed: ``driven`` and ``fixed``, L in nats per image, and the distortions."""
    config, results = load_config(run), training_table(run)
    numbers, path = layer_numbers(config.layers), cache(run, config)
    names = [f"beta_{n}" for n in numbers]
    rows = results[(results["status"] == "ok") & (results["target_status"] == "reached")].iloc[::every]
    if rows.empty:
        raise InputError(f"run '{run}': no model holds its target rates")
    done = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=["row", *names, "seed"])
    todo = [
        (row, seed)
        for seed in range(seeds)
        for row in rows.index
        if not ((done["row"] == row) & (done["seed"] == seed) & (done[names] == rows.loc[row, names]).all(axis=1)).any()
    ]
    calls = (delayed(trained)(config, Member(tuple(rows.loc[row, names].astype(float)), seed)) for row, seed in todo)
    for (row, seed), terms in zip(todo, Parallel(n_jobs=jobs, return_as="generator")(calls), strict=True):
        at = rows.loc[[row], names].reset_index(drop=True)
        ended = pd.concat([at, pd.DataFrame([terms])], axis=1)
        driven = float(objective_values(rows.loc[[row]], config.layers, "train_")[0])
        new = at.assign(
            row=row,
            seed=seed,
            driven=driven,
            fixed=objective_values(ended, config.layers),
            driven_distortion=rows.loc[row, "train_distortion"],
            fixed_distortion=terms["distortion"],
        )
        done = pd.concat([done, new], ignore_index=True) if len(done) else new
        write_table(path, done)
    return done[done["row"].isin(rows.index) & (done["seed"] < seeds)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run")
    parser.add_argument(
        "--seeds", type=int, default=3, help="models with the betas that were found; a grid has its own seeds"
    )
    parser.add_argument("--every", type=int, default=1, help="only every so many models of the run")
    parser.add_argument(
        "--start",
        type=float,
        nargs="+",
        metavar="BETA",
        help="of a grid: where the multipliers start, top layer first; default: 0.1 for each",
    )
    parser.add_argument(
        "--jobs", type=int, default=provenance.cores(), help="processes at once; default: one for each core"
    )
    args = parser.parse_args()
    if args.seeds < 1 or args.every < 1:
        parser.error("--seeds and --every are at least 1")
    if not all(LOWEST <= beta <= HIGHEST for beta in args.start or ()):
        parser.error(f"--start: betas from {LOWEST:g} to {HIGHEST:g}")
    try:
        config = load_config(args.run)
        if config.target_rates is None:
            report_grid(
                args.run,
                from_grid(args.run, args.every, args.jobs, args.start),
                [f"beta_{n}" for n in layer_numbers(config.layers)],
            )
            return 0
        table = from_targets(args.run, args.seeds, args.every, args.jobs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    unit = about(args.run)["constant"]
    by_row = table.assign(driven=table["driven"] - unit, fixed=table["fixed"] - unit).groupby("row")
    driven, spread = by_row["driven"].first(), by_row["fixed"]
    low, mean, high = spread.min(), spread.mean(), spread.max()
    seeds = args.seeds
    print(f"{args.run}: {len(driven)} models driven to their rates, beside {seeds} seeds each with fixed betas")
    for name, base in (("the mean of the seeds", mean), ("the lowest seed", low)):
        off = 100 * (driven / base - 1)
        print(f"L against {name}: median {off.median():+.2f} %, {off.min():+.2f} to {off.max():+.2f} %")
    spread_of_seeds = 100 * (spread.std() / mean).median()
    print(f"standard deviation of the seeds: {spread_of_seeds:.2f} % (median)")
    expected = 100 / (seeds + 1)
    print(
        f"below all seeds {100 * np.mean(driven < low):.0f} %, between "
        f"{100 * np.mean((driven >= low) & (driven <= high)):.0f} %, "
        f"above all {100 * np.mean(driven > high):.0f} % (of one more seed: {expected:.0f}, "
        f"{100 - 2 * expected:.0f}, {expected:.0f} %)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
