"""A conditioned run beside models that were trained one at each setting of the betas: how far it is from them.

Compared is L = D + beta_L R_L + ... + beta_1 R_1 at equal betas, which is what either minimises; never D alone, since a
lower D at a higher rate is no gain.
"""

from typing import Any

import numpy as np
import pandas as pd

from hvae_core.analysis.control import at_least
from hvae_core.analysis.frontier import upper_hull
from hvae_core.analysis.points import count_layers, grid_means
from hvae_core.analysis.surface import constant_of, objective_values
from hvae_core.errors import InputError
from hvae_core.terms import layer_numbers


def applications(top: int) -> dict[str, str]:
    """Metrics of the three applications that are compared, and their units.

    Information is a lower bound: I_q(y; z_L) is that of labels at random, too, where rates are high.
    """
    return {
        "psnr": "dB",
        "inception_score": "",
        at_least(top).column: "nats",
        f"acc_z{top}_rbf_svm": "",
        f"acc_mu{top}_rbf_svm": "",
    }


def differences(results: pd.DataFrame, separate: pd.DataFrame) -> pd.DataFrame:
    """Point by point, at the betas that both have.

    Arguments:
        results: of a conditioned run, one row a point and seed.
        separate: of a grid of models trained one by one, one row a model.

    Returns:
        A row a setting of the betas: ``lagrangian`` (mean over the conditioned seeds), ``separate`` (mean over the
            models'
        seeds), ``difference`` between them and ``spread``, the standard deviation over the models' seeds (null for
        one seed), in nats per image; ``percent`` and ``spread_percent``, the same relative to the models' L without
        its constant (`hvae_core.analysis.surface.constant_of`); the rates of both; and for each metric of
        `applications` its ``<metric>`` minus that of the models, and ``<metric>_spread``.

    Raises:
        InputError: they share no betas, or all models of one have diverged.
    """
    numbers = layer_numbers(count_layers(separate))
    names = [f"beta_{n}" for n in numbers]
    own, other = (
        grid_means(
            frame.assign(
                L=objective_values(frame, len(numbers)), **{name: frame[name].astype(float).round(6) for name in names}
            )
        ).dropna(subset=["L"])
        for frame in (results, separate)
    )
    for frame, words in ((own, "the conditioned run"), (other, "the grid")):
        if frame.empty:
            raise InputError(f"{words} has no model to compare: all have diverged")
    both = own.merge(other, on=names, suffixes=("", "_of_models"))
    if both.empty:
        raise InputError("the conditioned run and the grid share no betas; give the run betas that the grid has")
    table = both[names].assign(
        lagrangian=both["L"],
        separate=both["L_of_models"],
        difference=both["L"] - both["L_of_models"],
        spread=both["L_sd_of_models"],
        percent=100 * (both["L"] - both["L_of_models"]) / (both["L_of_models"] - constant_of(separate)),
        spread_percent=100 * both["L_sd_of_models"] / (both["L_of_models"] - constant_of(separate)),
    )
    for n in numbers:
        table[f"rate_{n}"], table[f"separate_rate_{n}"] = both[f"rate_{n}"], both[f"rate_{n}_of_models"]
    for metric in applications(numbers[0]):
        if metric in own and metric in other:
            table[metric] = both[metric] - both[f"{metric}_of_models"]
            table[f"{metric}_spread"] = both[f"{metric}_sd_of_models"]
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """`differences` in a few numbers: of L in nats and in percent, of the other metrics in their own units."""
    compared = {"L, nats": ("difference", "spread"), "L without its constant, %": ("percent", "spread_percent")}
    compared |= {str(name): (str(name), f"{name}_spread") for name in table if f"{name}_spread" in table}
    rows: list[dict[str, Any]] = []
    for name, (column, spread) in compared.items():
        difference = table[column].dropna()
        if difference.empty:
            continue
        rows.append(
            {
                "of": name,
                "points": len(difference),
                "mean |difference|": difference.abs().mean(),
                "mean difference": difference.mean(),
                "mean of those above 0, others as 0": difference.clip(lower=0).mean(),
                "lowest": difference.min(),
                "highest": difference.max(),
                "standard deviation over the models' seeds": table[spread].mean(),
            }
        )
    return pd.DataFrame(rows).round(3)


def optima(results: pd.DataFrame, separate: pd.DataFrame) -> pd.DataFrame:
    """Where in the grid each metric is best, by the conditioned network and by the models.

    The same point, or how many steps away.

    ``lost`` is how far the models' metric at the conditioned network's optimum lies below their best.
    """
    numbers = layer_numbers(count_layers(separate))
    names = [f"beta_{n}" for n in numbers]
    own, other = (
        grid_means(frame.assign(**{name: frame[name].astype(float).round(6) for name in names}))
        for frame in (results, separate)
    )
    both = own.merge(other, on=names, suffixes=("", "_of_models"))
    steps = np.stack([np.unique(both[name], return_inverse=True)[1] for name in names], 1)
    rows = []
    for metric in applications(numbers[0]):
        if metric not in own or metric not in other:
            continue
        values = both[[metric, f"{metric}_of_models"]].to_numpy(float)
        if not np.isfinite(values).all(1).any():
            continue
        values[~np.isfinite(values).all(1)] = np.nan
        rates = both[["rate", "rate_of_models"]].to_numpy(float)
        here, there = (
            int(upper_hull(rates[:, i], values[:, i])[-1]) for i in (0, 1)
        )  # of equal ones that of the lowest rate
        rows.append(
            {
                "metric": metric,
                "conditioned": _words(both, names, here),
                "models": _words(both, names, there),
                "steps apart": int(np.abs(steps[here] - steps[there]).max()),
                "lost": values[there, 1] - values[here, 1],
                "standard deviation over seeds": both[f"{metric}_sd_of_models"][there],
            }
        )
    return pd.DataFrame(rows).round(4)


def _words(points: pd.DataFrame, names: list[str], row: int) -> str:
    return ", ".join(f"{points[name].iloc[row]:.4g}" for name in names)
