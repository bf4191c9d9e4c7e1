"""Is a rate that is dialled on a conditioned network as good as one that a model was trained to hold?

    .venv/bin/python benchmarks/dial.py quick-conditioned digits-targets

For every target of a finished run with target rates, `hvae_core.dial` looks for betas on the first half of the test
images, without training. Its rates are then measured on the second half, beside those of the model that was driven to
the same target on training images, and so is L = D + beta_2 R_2 + beta_1 R_1 at the betas that were dialled, without
what the unit of a pixel alone adds to D: both models at about the same rates, so that to first order it compares their
distortions.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import torch

from hvae_core.analysis.dial import dial
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.pipeline.stages import load_data
from hvae_core.progress import track
from hvae_core.runs.about import constant
from hvae_core.runs.folder import load_config
from hvae_core.runs.results import training_table
from hvae_core.runs.weights import load_model, load_network
from hvae_core.terms import layer_numbers
from hvae_core.training.target_rates import tolerance


def measure(conditioned: str, driven: str) -> pd.DataFrame:
    """One row a target.

    ``off`` in tolerances (largest of the layers) of the dialled and the driven model on the second half, and both L.
    """
    config, results = load_config(driven), training_table(driven)
    results = results[results["status"] == "ok"]
    if config.target_rates is None or None in (config.members()[0].targets or (None,)):
        raise InputError(f"run '{driven}' has no target rates in every layer; digits-targets is a profile that has")
    x = load_data(load_config(conditioned)).x_test
    network = load_network(conditioned, device=x.device)
    first, second = x[: len(x) // 2], x[len(x) // 2 :]
    unit = constant(x.shape[1:], config.sigma_x)
    numbers, rows = layer_numbers(config.layers), []
    with track("targets", len(results), "targets") as progress:
        for row, result in results.iterrows():
            targets = [float(result[f"target_{n}"]) for n in numbers]
            allowed = np.array([tolerance(target) for target in targets])

            def off(terms: dict[str, float], targets=targets, allowed=allowed) -> float:
                return float((np.abs([terms[f"rate_{n}"] for n in numbers] - np.array(targets)) / allowed).max())

            trained = average_terms(load_model(driven, int(row)), second, 0)
            line = {
                **{f"target_{n}": target for n, target in zip(numbers, targets, strict=True)},
                "driven_off": off(trained),
            }
            try:
                found = dial(
                    network, first, **{f"rate_{n}": target for n, target in zip(numbers, targets, strict=True)}
                )
            except InputError as error:
                line["refused"] = str(error)
            else:
                dialled = average_terms(found.model, second, 0)
                both = [
                    terms["distortion"]
                    + sum(beta * terms[f"rate_{n}"] for n, beta in zip(numbers, found.betas, strict=True))
                    - unit
                    for terms in (dialled, trained)
                ]
                line |= {"dialled_off": off(dialled), "percent": 100 * (both[0] / both[1] - 1)}
            rows.append(line)
            progress.update(len(rows))
    return pd.DataFrame(rows).reindex(
        columns=[*(f"target_{n}" for n in numbers), "driven_off", "dialled_off", "percent", "refused"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("conditioned", help="a finished run of a conditioned model")
    parser.add_argument("driven", help="a finished run with target rates in every layer, of the same data")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        table = measure(args.conditioned, args.driven)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table.drop(columns="refused").round(2).to_string(index=False))
    found = table["dialled_off"].notna()
    print(
        f"{args.conditioned}: {found.sum()} of {len(table)} targets dialled; the others are refused, the first "
        f"with: {table['refused'].dropna().iloc[0] if (~found).any() else 'none'}"
    )
    for name in ("dialled", "driven"):
        off = table.loc[found, f"{name}_off"]
        print(
            f"{name}: within the tolerance on other images {100 * (off <= 1).mean():.0f} %, median "
            f"{off.median():.2f} tolerances, worst {off.max():.2f}"
        )
    percent = table["percent"].dropna()
    print(
        f"L of the dialled beside the driven model: median {percent.median():+.1f} %, from {percent.min():+.1f} "
        f"to {percent.max():+.1f} %"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
