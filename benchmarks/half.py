"""What does a conditioned network lose when its weights are published in float16?

    .venv/bin/python benchmarks/half.py mnist-conditioned

Distortion and rates of a finished run, which are of float32 weights, beside those of the same weights rounded: on all
test images, with the same noise, at five betas of each layer. The table has the differences, in nats per image; L is D
+ beta_2 R_2 + beta_1 R_1, in percent, without what the unit of a pixel alone adds to D.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from hvae_core.analysis.points import betas
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.pipeline.stages import load_data
from hvae_core.progress import track
from hvae_core.runs.about import constant
from hvae_core.runs.config import few
from hvae_core.runs.folder import load_config
from hvae_core.runs.results import load_results
from hvae_core.runs.weights import load_network
from hvae_core.terms import layer_numbers


def measure(run: str) -> pd.DataFrame:
    """One row a setting: its betas, and by how much float16 changes each term and L."""
    config, results, network = load_config(run), load_results(run), load_network(run)
    x = load_data(config).x_test
    unit = constant(x.shape[1:], config.sigma_x)
    results = results[results["seed"] == 0]
    at = betas(results)
    shown = np.logical_and.reduce([np.isin(column, sorted(few(column, 5))) for column in at.T])
    rounded = network.half().float()
    numbers = layer_numbers(at.shape[1])
    terms, rows = ["distortion", *(f"rate_{n}" for n in numbers)], []
    with track("float16", int(shown.sum()), "settings") as progress:
        for (_, row), point in zip(results[shown].iterrows(), at[shown], strict=True):
            found = average_terms(rounded.at(point.tolist()), x, 0)
            before, after = (np.array([values[name] for name in terms], float) for values in (row, found))
            change, weights = after - before, np.array([1, *point])
            named = dict(zip([f"beta_{n}" for n in numbers] + terms, [*point, *change], strict=True))
            rows.append(named | {"L, %": 100 * (weights @ change) / (weights @ before - unit)})
            progress.update(len(rows))
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", help="of a conditioned network, with its weights")
    try:
        table = measure(parser.parse_args().run)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table.round(4).to_string(index=False))
    print("\nlargest change:", table.filter(regex="distortion|rate|L").abs().max().round(4).to_dict())
    return 0


if __name__ == "__main__":
    sys.exit(main())
