"""Do models whose layers are computed in bfloat16 while they train end where those of float32 do?

    .venv/bin/python benchmarks/precision.py --dataset cifar10 --epochs 10

Trains GHVAEs at a few betas with a few seeds in both precisions, and compares L = D + beta_2 R_2 + beta_1 R_1 on test
images, always evaluated in float32, with the spread over seeds. In nats: of colour images L holds a constant that the
unit of a pixel sets, so that percentages of it mean nothing.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd
import torch

from hvae_core.data.readers import load
from hvae_core.evaluation.rates import average_terms
from hvae_core.models import build
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

BETAS = ((0.1, 0.1), (1.0, 1.0), (1.0, 10.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load(args.dataset)
    members = [Member(betas, seed) for betas in BETAS for seed in range(args.seeds)]
    table = pd.DataFrame(index=pd.MultiIndex.from_tuples([(m.betas, m.seed) for m in members], names=["betas", "seed"]))
    for precision in ("float32", "bfloat16"):
        population = train(
            lambda: build("ghvae", data.image_shape),
            members,
            data.x_train,
            Plan(epochs=args.epochs, batch_size=args.batch, learning_rate=args.learning_rate, precision=precision),
            label=precision,
        )
        found = []
        for i, member in enumerate(members):
            terms = average_terms(population.member(i), data.x_test, member.seed)
            found.append(terms["distortion"] + member.betas[0] * terms["rate_2"] + member.betas[1] * terms["rate_1"])
        table[precision] = found
    difference = table["difference"] = table["bfloat16"] - table["float32"]
    print(f"{data.name}, {args.epochs} epochs, L on test images, nats per image\n\n{table.round(3).to_string()}\n")
    spread = table["float32"].groupby("betas").std()
    print(
        f"differences from {difference.min():+.2f} to {difference.max():+.2f} nats, mean {difference.mean():+.2f}; "
        f"standard deviation over seeds in float32: {', '.join(f'{value:.2f}' for value in spread)}"
    )


if __name__ == "__main__":
    main()
