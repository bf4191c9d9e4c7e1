"""What the classifiers on the latents cost, and which setting of the linear SVM is the fastest that is as accurate.

    .venv/bin/python benchmarks/probes.py                       # on MNIST if it is there, else on the digits
    .venv/bin/python benchmarks/probes.py --dataset digits --epochs 2

Trains GHVAEs at a few betas, takes the latents of 10,000 test images (8,000 to train a classifier, 2,000 to test it, as
`hvae_core.evaluation.representation` does), and times every classifier, one thread, on mu_2, mu_1 and a sample of z_2.
The linear SVM is timed in several settings against scikit-learn's `SVC(kernel="linear")`, and its accuracies are
compared.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from hvae_core.data.readers import load
from hvae_core.evaluation import representation
from hvae_core.models import build
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

LINEAR = {
    "SVC(linear)": SVC(kernel="linear"),
    "SVC(linear, cache_size=1000)": SVC(kernel="linear", cache_size=1000),
    "SVC(linear, tol=1e-2)": SVC(kernel="linear", tol=1e-2),
    "LinearSVC(dual)": LinearSVC(dual=True),
    "LinearSVC(primal)": LinearSVC(dual=False),
    "LinearSVC(primal, tol=1e-2)": LinearSVC(dual=False, tol=1e-2),
}
BETAS = ((0.1, 0.1), (1.0, 1.0), (1.0, 10.0), (10.0, 1.0))


def timed(probe: Any, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Seconds and accuracy of one probe."""
    start = time.perf_counter()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        accuracy = representation.score(probe, x, y)
    return time.perf_counter() - start, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load(args.dataset)
    assert data.y_test is not None
    y = data.y_test.numpy()
    members = [Member(betas, 0) for betas in BETAS]
    population = train(
        lambda: build("ghvae", data.image_shape), members, data.x_train, Plan(epochs=args.epochs, learning_rate=1e-3)
    )
    result: dict[str, dict[str, Any]] = {}
    for i, member in enumerate(members):
        model = population.member(i)
        start = time.perf_counter()
        layers, z = representation.posteriors(model, data.x_test, 0)
        middle = time.perf_counter()
        representation.mutual_information(layers[0], z, data.y_test)
        row: dict[str, Any] = {"latents": middle - start, "I_q(y; z_2)": time.perf_counter() - middle}
        for latent, q in zip(("mu2", "mu1"), layers, strict=True):
            for name, probe in {**representation.probes(), **LINEAR}.items():
                row[f"{latent} {name}"] = timed(probe, q.mean.numpy(), y)
        for name, probe in representation.probes().items():
            row[f"sampled z2 {name}"] = timed(probe, z.numpy(), y)
        result[f"betas {member.betas}"] = row
    columns = list(result)
    print(f"{data.name}, {len(y)} labelled images; seconds on one thread (accuracy) at {', '.join(columns)}")
    for name in result[columns[0]]:
        cells = [result[column][name] for column in columns]
        print(
            f"| {name} | "
            + " | ".join(f"{c[0]:.2f} ({c[1]:.4f})" if isinstance(c, tuple) else f"{c:.2f}" for c in cells)
            + " |"
        )
    if args.json:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
