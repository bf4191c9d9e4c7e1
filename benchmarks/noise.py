"""Is it the noise? Models trained on a CPU, with the noise that PyTorch's own generator gives on a GPU.

    HVAE_DATA=data .venv/bin/python benchmarks/noise.py [--betas 0.1,0.1 1,0.1] [--keep FOLDER]

Prints L = D + beta_2 R_2 + beta_1 R_1 of MNIST's test images beside that of `published/runs/mnist-9x9`, seed 0, which
was trained on an H200 with that noise, and of `published/cpu`, with a CPU's. Ten minutes a setting. Trainings draw
their noise by `hvae_core.randomness.Noise` today, which is the same everywhere.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hvae_core.data import load
from hvae_core.evaluation.rates import average_terms
from hvae_core.models import build
from hvae_core.randomness import WORD, Purpose, philox
from hvae_core.training import trainer
from hvae_core.training.checkpoints import Checkpoints
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

THREADS = 132 * 8 * 256  # of an H200's grid: a call of fewer numbers has a thread a number


class CudaNoise:
    """Numbers of `torch.randn` on an H200, with a generator of its own for each seed, purpose and epoch.

    Thread i of call k has Philox's words at the counter (k, 0, i, 0); the first of its four normal numbers is used.
    """

    def __init__(self, seed: int, purpose: Purpose, index: int, device: object) -> None:
        state = int(np.random.SeedSequence([seed, purpose, index]).generate_state(1, np.uint64)[0]) >> 1
        self.key, self.call = (state & WORD, state >> 32), 0

    def normal(self, *shape: int) -> Tensor:
        count = math.prod(shape)
        assert count <= THREADS
        thread, zero = torch.arange(count), torch.zeros(count, dtype=torch.int64)
        first, second, *_ = philox((zero + self.call, zero, thread, zero), self.key)
        self.call += 1
        radius = torch.sqrt(-2 * torch.log((first.double() + 0.5) * 2.0**-32))
        return (radius * torch.sin(2 * math.pi * (second.double() + 0.5) * 2.0**-32)).float().view(shape)


def published(path: str, betas: tuple[float, ...]) -> float:
    """L of one model, seed 0; NaN where it is not there."""
    table = pd.read_csv(Path(__file__).parent.parent / "published" / path)
    row = table[(table["seed"] == 0) & np.isclose(table[["beta_2", "beta_1"]], betas, rtol=1e-3).all(1)]
    return float("nan") if row.empty else weighted(row.iloc[0], betas)


def weighted(terms: dict[str, float] | pd.Series, betas: tuple[float, ...]) -> float:
    return float(terms["distortion"] + betas[0] * terms["rate_2"] + betas[1] * terms["rate_1"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--betas", nargs="+", default=["0.1,0.1", "1,0.1"])
    parser.add_argument("--keep", type=Path, help="where checkpoints lie, to go on from")
    args = parser.parse_args()
    torch.set_num_threads(1)
    trainer.Noise = CudaNoise  # type: ignore[assignment,misc]  # another class in its place is meant
    data = load("mnist")
    settings = [tuple(map(float, words.split(","))) for words in args.betas]
    plan = Plan(epochs=40, batch_size=128, learning_rate=1e-3, schedule="two-phase")
    members = [Member(betas, 0) for betas in settings]
    checkpoints = args.keep and Checkpoints(args.keep, f"noise {args.betas}")
    trained = train(lambda: build("ghvae", (1, 28, 28)), members, data.x_train, plan, checkpoints=checkpoints)
    rows = []
    for i, betas in enumerate(settings):
        history = trained.history[i].double() @ torch.tensor([1.0, *betas], dtype=torch.float64)
        row = {"betas": betas, "here": weighted(average_terms(trained.member(i), data.x_test, 0), betas)}
        row |= {"H200": published("runs/mnist-9x9/results.csv", betas)}
        rows.append(row | {"CPU": published("cpu/mnist-9x9.csv", betas), "epochs": history[:2].tolist()})
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
