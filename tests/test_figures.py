"""The figures say what the results say: each test reads back what was drawn."""

import itertools

import numpy as np
import pandas as pd

from hvae_core import figures
from hvae_core.store import PROBES, columns
from hvae_core.terms import layer_numbers


def grid(size):
    """Betas from 0.1 to 100 in equal steps of the logarithm, with the nearest one to 1 replaced by 1."""
    steps = np.logspace(-1, 2, size)
    steps[np.abs(np.log(steps)).argmin()] = 1
    return steps


def synthetic(size=5, seeds=1, L=2, *, tied=False, diverged=0, labels=True, samples=True):
    """Results as of a trained grid: the cheaper layer takes the rate, and layers collapse where beta is high."""
    rng = np.random.default_rng(0)
    numbers = layer_numbers(L)
    settings = [(b, *[a] * (L - 1)) for b in grid(size) for a in grid(size)] if tied else list(
        itertools.product(grid(size), repeat=L)
    )  # fmt: skip
    rows = []
    for betas, seed in itertools.product(settings, range(seeds)):
        cheap = min(betas)
        share = np.exp(-4 * np.log(np.array(betas) / cheap)) * np.linspace(1.3, 0.7, L)
        capacity = np.linspace(60, 150, L) * np.log1p((9 / np.array(betas)) ** 1.5) / np.log1p(90**1.5)
        rates = capacity * share / share.sum() * np.exp(0.08 * rng.normal(size=L)) * (np.array(betas) < 40)
        rates += 10 ** rng.uniform(-5, -3, L)
        rate, top = rates.sum(), rates[0]
        noise = 0.01 * rng.normal(size=20)
        distortion = 60 + 145 * np.exp(-rate / 45)
        diversity, sharpness = (
            9 - 3 * np.exp(-rate / 10) + noise[0],
            0.3 + 0.5 * np.exp(-((np.log1p(rate) - 3) ** 2)) + noise[1],
        )
        information = 2.3 * (1 - np.exp(-top / 4))
        known = 1 - np.exp(-(top + 0.05) / 3)
        row = {
            "dataset": "mnist", "model": "ghvae", "seed": seed, "epochs": 200, "status": "ok",
            **{f"beta_{n}": b for n, b in zip(numbers, betas, strict=True)},
            **{f"{kind}rate_{n}": r for n, r in zip(numbers, rates, strict=True) for kind in ("", "train_")},
            "distortion": distortion, "train_distortion": distortion, "rate": rate, "elbo": -distortion - rate,
            "psnr": 10 + 9 * (1 - np.exp(-rate / 60)) + noise[2], "psnr_pooled": 10.0,
            "inception_score": diversity * sharpness, "inception_score_std": 0.1, "diversity": diversity,
            "sharpness": sharpness, f"mi_z{L}": information, "accuracy_bound_mi": 0.5, "accuracy_bound_rate": 0.9,
        }  # fmt: skip
        for latent, k in itertools.product([*(f"mu{n}" for n in numbers), f"z{L}"], range(4)):
            floor = 0.1 if latent.startswith("z") else 0.6
            row[f"acc_{latent}_{PROBES[k]}"] = min(
                floor + (0.85 + 0.03 * k - floor) * known + noise[3 + k], 0.99
            )
        rows.append(row)
    results = pd.DataFrame(rows).reindex(columns=columns(L))
    if not labels:
        results[[c for c in results if c.startswith(("acc", "mi_", "inception", "div", "sharp"))]] = None
    if not samples:
        results[["inception_score", "diversity", "sharpness"]] = None
    lost = np.linspace(0, len(results) - 1, diverged + 2).astype(int)[1:-1]
    results.loc[lost, "status"] = ["diverged", "missing"] * (diverged // 2) + ["diverged"] * (diverged % 2)
    results.loc[lost, [c for c in results.columns[7:]]] = np.nan
    return results


def pictures(members, n=18, shape=(1, 28, 28)):
    rng = np.random.default_rng(0)
    make = lambda *lead: rng.integers(0, 256, (*lead, n, *shape), dtype=np.uint8)
    return figures.Images(make(), make(members), make(members))


PROBABILITIES = np.full(10, 0.1)
