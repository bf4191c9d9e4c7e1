"""The toy model of Paper B (Appendix E), measured exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hvae_core.models.paper_b.toy import Tables, Toy, entropy, hand_made, mutual_information
from hvae_core.randomness import initial_weights

if TYPE_CHECKING:  # it imports the models
    from hvae_core.training.population import Population

NEAR, FITS = 0.01, 0.005  # nats: how near a rate is to the one asked for, and g(x) to the data
STILL = 0.001  # nats: by how much less the rate and the objective of a converged model move in the last tenth
PAPER = {
    "elbo": {"R": 0.0002},
    "target_rate": {"R": 0.4999, "mass of class-0 states": 0.7},
}
"""What Paper B prints of the two, by objective (Section 4 and Fig. 2)."""
RANGE = {"lowest": "min", "median": "median", "highest": "max"}


def results(trained: Iterable[tuple[str, Population]]) -> pd.DataFrame:
    """One row a model, all in nats, exact.

    Arguments:
        trained: populations of `Toy` models, each with its objective: ``elbo`` (or another with betas) or
            ``target_rate``.

    Returns:
        Columns dataset, model, seed, objective, spread, target, beta_1, epochs, status, start_rate, distortion,
        rate_1, rate, elbo, kl_to_data, rate_change, objective_change, converged. ``spread`` is that of the initial
        parameters, and ``start_rate`` the rate with them. ``target`` is null without a target rate, ``beta_1`` with
        one. The two changes are those over the last tenth of the epochs, null for fewer than ten; ``converged`` says
        that both are smaller than 0.001 nats. A learning rate that falls to 0 makes them small, too: a model that has
        not converged by them is on its way, one that has may still be slow.
    """
    rows = []
    for objective, population in trained:
        targeted = objective == "target_rate"
        for index, member in enumerate(population.members):
            diverged = population.diverged_epoch[index] is not None
            row: dict[str, Any] = {
                "dataset": "toy",
                "model": "toy",
                "seed": member.seed,
                "objective": objective,
                "spread": population.model.spread if isinstance(population.model, Toy) else np.nan,
                "target": member.betas[0] if targeted else np.nan,
                "beta_1": np.nan if targeted else member.betas[0],
                "epochs": population.history.shape[1],
                "status": "diverged" if diverged else "ok",
                "start_rate": _start(population, member.seed).rate,
            }
            terms: dict[str, float] = dict.fromkeys(("distortion", "rate_1", "rate", "elbo", "kl_to_data"), np.nan)
            model = population.member(index)
            if not diverged and isinstance(model, Toy):
                tables = model.tables()
                terms = {
                    "distortion": tables.distortion,
                    "rate_1": tables.rate,
                    "rate": tables.rate,
                    "elbo": -(tables.distortion + tables.rate),
                    "kl_to_data": tables.kl_to_data,
                }
            rows.append(row | terms | _last_tenth(population, index, targeted))
    return pd.DataFrame(rows)


def _last_tenth(population: Population, index: int, targeted: bool) -> dict[str, Any]:
    """By how much the rate and the objective of a model moved at the end of its training, nats."""
    history, (value, *_) = population.history[index].double(), population.members[index].betas
    tenth = len(history) // 10
    if not tenth or population.diverged_epoch[index] is not None:
        return {"rate_change": np.nan, "objective_change": np.nan, "converged": False}
    distortion, rate = history.T
    objective = distortion + ((rate - value).abs() if targeted else value * rate)
    changes = [float(values[-1] - values[-1 - tenth]) for values in (rate, objective)]
    return {
        "rate_change": changes[0],
        "objective_change": changes[1],
        "converged": all(abs(change) < STILL for change in changes),
    }


def _start(population: Population, seed: int) -> Tables:
    """A model as it is before training."""
    model = population.make()
    assert isinstance(model, Toy)
    model.load_state_dict(initial_weights(population.make, seed), strict=False)
    return model.tables()


def fits(results: pd.DataFrame) -> pd.DataFrame:
    """How many random starts of each objective do what the paper says all do.

    Arguments:
        results: as `results` returns them.

    Returns:
        A row an objective and a spread: ``starts``; the median rate before training and the lowest, median and
        highest after; those that converged; those with the rate and the data right (R within 0.01 nats of the one
        asked for, KL[p* || g] below 0.005); and those of them with a tight bound, D + R - H < 0.01.
    """
    aim = results["target"].fillna(0)
    fit = ((results["rate"] - aim).abs() < NEAR) & (results["kl_to_data"] < FITS)
    tight = fit & (-results["elbo"] - entropy() < NEAR)
    keys = [results["objective"], results["spread"]]
    rates = pd.DataFrame(
        {
            "starts": results.groupby(keys).size(),
            "R at first, median": results["start_rate"].groupby(keys).median(),
            **{f"R, {word}": results["rate"].groupby(keys).agg(how) for word, how in RANGE.items()},
        }
    )
    counted = pd.DataFrame(
        {"converged": results["converged"], "rate and data are right": fit, "bound is tight, too": tight}
    )
    counted = counted.groupby(keys).sum()
    return rates.round(4).join(counted)


def point_by_point(trained: Iterable[tuple[str, Population]]) -> pd.DataFrame:
    """What Paper B says of its toy models, beside the optimum made by hand and the quantiles over all starts.

    Arguments:
        trained: as `results` takes them.

    Returns:
        A row a quantity, nats but for the mass. Columns: hand-made (exact); for each objective and spread the paper's
        number, null where it prints none, and the lowest, the median and the highest of the starts.
    """
    columns: dict[tuple[str, str], pd.Series] = {("hand-made", "exact"): pd.Series(_measured(hand_made()))}
    for objective, population in trained:
        models = [population.member(index) for index in range(len(population.members))]
        starts = pd.DataFrame([_measured(model.tables()) for model in models if isinstance(model, Toy)])
        spread = population.model.spread if isinstance(population.model, Toy) else np.nan
        name = f"{objective}, spread {spread:g}"
        columns[name, "paper"] = pd.Series(PAPER.get(objective, {}), dtype=float)
        for words, share in (("lowest", 0.0), ("median", 0.5), ("highest", 1.0)):
            columns[name, words] = starts.quantile(share)
    return pd.DataFrame(columns).reindex(list(_measured(hand_made()))).round(4) + 0.0  # no minus before a 0


def _measured(tables: Tables) -> dict[str, float]:
    """All that is said of one model, by its name in the table."""
    return {
        "R": tables.rate,
        "D + R - H": tables.distortion + tables.rate - entropy(),
        "KL[p* || g]": tables.kl_to_data,
        "KL[p* || d]": tables._replace(marginal=tables.aggregate).kl_to_data,
        "mass of class-0 states": tables.class_0_mass,
        "I(z; z*)": mutual_information(tables.with_class),
    }
