"""The toy model of Paper B (Appendix E), measured exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hvae_core.models.paper_b.toy import Toy

if TYPE_CHECKING:  # it imports the models
    from hvae_core.training.population import Population


def results(populations: Mapping[str, Population]) -> pd.DataFrame:
    """One row a model, all in nats, exact.

    Arguments:
        populations: trained `Toy` models by their objective, ``elbo`` (or another with betas) or ``target_rate``.

    Returns:
        Columns dataset, model, seed, objective, target, beta_1, epochs, status, distortion, rate_1, rate, elbo,
        kl_to_data. ``target`` is null without a target rate, ``beta_1`` with one.
    """
    rows = []
    for objective, population in populations.items():
        targeted = objective == "target_rate"
        for index, member in enumerate(population.members):
            diverged = population.diverged_epoch[index] is not None
            row: dict[str, Any] = {
                "dataset": "toy", "model": "toy", "seed": member.seed, "objective": objective,
                "target": member.betas[0] if targeted else np.nan,
                "beta_1": np.nan if targeted else member.betas[0],
                "epochs": population.history.shape[1], "status": "diverged" if diverged else "ok",
            }  # fmt: skip
            terms: dict[str, float] = dict.fromkeys(("distortion", "rate_1", "rate", "elbo", "kl_to_data"), np.nan)
            model = population.member(index)
            if not diverged and isinstance(model, Toy):
                tables = model.tables()
                terms = {
                    "distortion": tables.distortion, "rate_1": tables.rate, "rate": tables.rate,
                    "elbo": -(tables.distortion + tables.rate), "kl_to_data": tables.kl_to_data,
                }  # fmt: skip
            rows.append(row | terms)
    return pd.DataFrame(rows)
