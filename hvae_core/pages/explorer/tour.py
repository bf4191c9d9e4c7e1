"""The paper's findings as questions about a run: the reader guesses, the results answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hvae_core.analysis.points import (
    INCEPTION,
    PSNR,
    accuracy,
    best,
    betas,
    compared,
    is_beta_vae,
    is_vae,
    known_together,
    values,
)

Step = dict[str, Any]
"""``title``, ``question``, ``choices``, ``answer`` (which of them), ``text`` (what the results say), the betas ``from``
which and ``to`` which the point moves, and the ``metric`` that colours the planes."""
SVM = accuracy("mu2", "rbf_svm")
TASKS = {"reconstruction": PSNR, "representation": SVM, "generation": INCEPTION}
SAME = 0.02  # of a change, relative: less is none
FOLLOWS = 0.5  # rank correlation, from which on a metric follows a rate


def optima(points: pd.DataFrame) -> dict[str, int]:
    """The rows that are best for each application, of those that were measured."""
    return {task: row for task, metric in TASKS.items() if (row := best(points, metric)) is not None}


def tour(points: pd.DataFrame) -> list[Step]:
    """The questions that these points can answer.

    Arguments:
        points: of a run of two layers, as `hvae_core.analysis.points.grid_means` returns them.

    Example: on a grid in which each beta lowers its own rate.
        >>> grid = [(b2, b1) for b2 in (0.1, 1, 10) for b1 in (0.1, 1, 10)]
        >>> frame = pd.DataFrame(grid, columns=["beta_2", "beta_1"])
        >>> frame = frame.assign(rate_2=10 - frame["beta_2"], rate_1=20 - frame["beta_1"], seeds=1)
        >>> step = tour(frame.assign(rate=frame["rate_2"] + frame["rate_1"]))[0]
        >>> step["choices"][step["answer"]], step["from"], step["to"]
        ('It falls', [0.1, 1.0], [10.0, 1.0])
    """
    return [step for make in STEPS for step in make(points)]


def _own_rate(points: pd.DataFrame) -> Iterator[Step]:
    known = points[np.isfinite(points["rate"])]
    if known.empty:
        return
    middle = min(known["beta_1"].unique(), key=lambda beta: abs(np.log(beta)))
    line = known[known["beta_1"] == middle].sort_values("beta_2")
    if len(line) < 2:
        return
    first, last = line.iloc[0], line.iloc[-1]
    change = last["rate_2"] - first["rate_2"]
    small = abs(change) <= max(0.1, SAME * first["rate_2"])
    yield {
        "title": "A beta and its rate",
        "question": f"β₂ rises from {_n(first['beta_2'])} to {_n(last['beta_2'])}, β₁ stays. What does R(z₂) do?",
        "choices": ["It rises", "It falls", "It stays"],
        "answer": 2 if small else int(change < 0),
        "text": f"R(z₂) goes from {_n(first['rate_2'])} to {_n(last['rate_2'])} nats, R(z₁|z₂) from "
        f"{_n(first['rate_1'])} to {_n(last['rate_1'])}. The paper: a beta controls the rate of its own layer.",
        "from": _betas(first),
        "to": _betas(last),
        "metric": "rate_2",
    }


def _three_optima(points: pd.DataFrame) -> Iterator[Step]:
    found = optima(points)
    if len(found) < 3:
        return
    distinct = len(set(found.values()))
    places = "; ".join(f"{task} at {_setting(points, row)}" for task, row in found.items())
    yield {
        "title": "Three applications",
        "question": "Which model is best for reconstruction, which for classification, which for samples?",
        "choices": ["One for all three", "Two share one", "Three different ones"],
        "answer": distinct - 1,
        "text": f"Best are, as (β₂, β₁): {places}. The paper, of SVHN: no model is best for all three.",
        "from": _betas(points.iloc[found["reconstruction"]]),
        "to": _betas(points.iloc[found["generation"]]),
        "metric": "psnr",
    }


def _the_vae(points: pd.DataFrame) -> Iterator[Step]:
    found, vae = optima(points), np.flatnonzero(is_vae(points) & compared(points))
    if len(found) < 3 or not len(vae):
        return
    row = int(vae[0])
    behind = {task: values(points, TASKS[task])[[at, row]] for task, at in found.items()}
    words = ", ".join(
        f"{task} {_n(top)} and {_n(own)} {TASKS[task].unit}".strip() for task, (top, own) in behind.items()
    )
    yield {
        "title": "The plain VAE",
        "question": "Both betas are 1: this is the VAE, with the ELBO as its objective. For how many of the three "
        "applications is it the best?",
        "choices": ["None", "One", "Two", "All three"],
        "answer": sum(at == row for at in found.values()),
        "text": f"The best and the VAE: {words}. The ELBO does not know what a model is for.",
        "from": _betas(points.iloc[row]),
        "to": _betas(points.iloc[row]),
        "metric": "inception_score",
    }


def _psnr_moves(points: pd.DataFrame) -> Iterator[Step]:
    """Of the beta-VAEs the one that gains most PSNR at no more rate with unequal betas."""
    psnr = np.where(known_together(points, [PSNR]), values(points, PSNR), np.nan)
    rate = points["rate"].to_numpy(float)
    line = np.flatnonzero(is_beta_vae(points) & np.isfinite(psnr) & (rate > 1))
    others = np.flatnonzero(~is_beta_vae(points) & np.isfinite(psnr))
    pairs = []
    for row in line:
        allowed = others[rate[others] <= rate[row]]
        if len(allowed):
            better = int(allowed[np.argmax(psnr[allowed])])
            pairs.append((float(psnr[better] - psnr[row]), int(row), better))
    if not pairs:
        return
    gain, start, at = max(pairs)
    shares = [points["rate_1"].iloc[one] / rate[one] for one in (start, at)]
    yield {
        "title": "Where the rate should lie",
        "question": f"This β-VAE has R = {_n(rate[start])} nats. Can unequal betas rebuild images better with no more?",
        "choices": ["No", "Yes, with a larger share in z₁", "Yes, with a larger share in z₂"],
        "answer": 0 if gain <= 0 else 1 if shares[1] > shares[0] else 2,
        "text": f"At {_setting(points, at)} R is {_n(rate[at])} nats, {shares[1]:.0%} of it in z₁, and PSNR "
        f"{psnr[at]:.2f} dB; here it is {psnr[start]:.2f} dB with {shares[0]:.0%}. The paper: PSNR gains when rate "
        "moves from z₂ to z₁.",
        "from": _betas(points.iloc[start]),
        "to": _betas(points.iloc[at]),
        "metric": "psnr",
    }


def _samples(points: pd.DataFrame) -> Iterator[Step]:
    row, score = best(points, INCEPTION), values(points, INCEPTION)
    if row is None:
        return
    line = np.flatnonzero((points["beta_1"] == points["beta_1"].iloc[row]) & np.isfinite(score))
    last = int(line[np.argmax(points["beta_2"].to_numpy()[line])])
    if last == row:
        return
    before, after = score[row], score[last]
    yield {
        "title": "An empty z₂",
        "question": f"The best samples are here. Now β₂ rises to {_n(points['beta_2'].iloc[last])}, and z₂ is emptied. "
        "What happens to the samples?",
        "choices": ["They get better", "They get worse", "Nothing much"],
        "answer": 2 if abs(after - before) <= 0.05 * before else int(after < before),
        "text": f"The Inception Score goes from {_n(before)} to {_n(after)}, R(z₂) from "
        f"{_n(points['rate_2'].iloc[row])} to {_n(points['rate_2'].iloc[last])} nats. Samples begin in z₂: where it "
        "says nothing, nothing makes the strokes agree.",
        "from": _betas(points.iloc[row]),
        "to": _betas(points.iloc[last]),
        "metric": "inception_score",
    }


def _representation(points: pd.DataFrame) -> Iterator[Step]:
    known = points[known_together(points, [SVM])]
    if len(known) < 5:
        return
    ranks = known[[SVM.column, "rate_2", "rate_1"]].rank().corr()[SVM.column].fillna(0)
    upper, lower = ranks["rate_2"], ranks["rate_1"]
    follows = [rate > FOLLOWS for rate in (upper, lower)]
    order = np.argsort(known[SVM.column].to_numpy(float))
    poor, top = known.iloc[int(order[0])], known.iloc[int(order[-1])]
    yield {
        "title": "What a classifier needs",
        "question": "An RBF SVM is given μ₂, the mode of z₂. Which rate does its accuracy follow?",
        "choices": ["R(z₂)", "R(z₁|z₂)", "Neither"],
        "answer": 2 if not any(follows) else int(lower > upper),
        "text": f"The rank correlation is {upper:.2f} with R(z₂) and {lower:.2f} with R(z₁|z₂). Accuracies go from "
        f"{100 * poor[SVM.column]:.0f} to {100 * top[SVM.column]:.0f} %. The paper, of SVHN: it follows R(z₂).",
        "from": _betas(poor),
        "to": _betas(top),
        "metric": SVM.column,
    }


STEPS: tuple[Callable[[pd.DataFrame], Iterator[Step]], ...] = (
    _own_rate,
    _three_optima,
    _the_vae,
    _psnr_moves,
    _samples,
    _representation,
)


def _betas(row: Mapping[str, Any] | pd.Series) -> list[float]:
    return [float(row["beta_2"]), float(row["beta_1"])]


def _setting(points: pd.DataFrame, row: int) -> str:
    return f"({', '.join(map(_n, betas(points)[row]))})"


def _n(value: float) -> str:
    """Three digits, as they are read.

    Example:
        >>> _n(123.4), _n(3.1623), _n(1.0), _n(8e-5)
        ('123', '3.16', '1', '0')
    """
    value = 0.0 if abs(value) < 5e-3 else value
    return f"{value:.0f}" if abs(value) >= 99.5 else f"{float(f'{value:.3g}'):g}"
