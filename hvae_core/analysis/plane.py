"""What Paper B asks of the models in the plane of rate and distortion, each answer a table.

::

    on_frontier       which models reach the lowest distortion for their rate
    rates_by_beta     how much rate a powerful decoder leaves at each beta
    collapsed         how many of these leave next to none, from beta 1 on and below
    near_best         models that one likelihood does not tell apart, and their rates
    information_gap   how far apart the bounds on the information in generated images are

Every function takes results of a run of Paper B's families, one row a model, as `hvae_core.load_results` returns.
All numbers are in nats per image.
"""

import pandas as pd

from hvae_core.analysis.frontier import pareto_frontier
from hvae_core.analysis.points import drawable

NEXT_TO_NOTHING = 0.5  # nats per image; of less a latent says nothing that is worth the name
AS_GOOD = 2.0  # nats per image; Paper B, Section 4: "within 2 nats"


def on_frontier(results: pd.DataFrame) -> pd.DataFrame:
    """The models on the monotone Pareto frontier of rate and distortion, from the lowest rate to the highest.

    Example:
        >>> results = pd.DataFrame({"model": ["---", "-+v", "+--"], "beta_1": [1, 1, 0.1], "rate": [20.0, 0.1, 25.0],
        ...                         "distortion": [70.0, 81.0, 75.0], "elbo": [-90.0, -81.1, -100.0]})
        >>> on_frontier(results).index.tolist()
        ['-+v', '---']
    """
    models = _well(results)
    found = models.iloc[pareto_frontier(models["rate"], models["distortion"])]
    return _table(found, "rate", "distortion", "elbo")


def rates_by_beta(results: pd.DataFrame) -> pd.DataFrame:
    """The rates of the families with a powerful decoder, mean over seeds: a row a family, a column a beta."""
    return _strong(results).pivot_table(index="model", columns="beta_1", values="rate").round(4)


def collapsed(results: pd.DataFrame) -> pd.DataFrame:
    """How many models with a powerful decoder have less than half a nat, from beta 1 on and below, by family."""
    strong = _strong(results)
    sides = strong["beta_1"].ge(1).map({True: "beta >= 1", False: "beta < 1"})
    lost = strong["rate"].lt(NEXT_TO_NOTHING).groupby([strong["model"], sides]).agg(["sum", "count"])
    counts = lost["sum"].astype(str) + " of " + lost["count"].astype(str)
    return counts.unstack(fill_value="").rename_axis(columns=None)


def near_best(results: pd.DataFrame, nats: float = AS_GOOD) -> pd.DataFrame:
    """The models within so many nats of the best 5-sample bound, from the lowest rate to the highest."""
    models = _well(results)
    near = models[models["iwae_5"] > models["iwae_5"].max() - nats]
    return _table(near.sort_values("rate"), "rate", "distortion", "elbo", "iwae_5")


def information_gap(results: pd.DataFrame) -> pd.DataFrame:
    """G - E, between the bounds on I_gen (Paper B, Appendix C), median over seeds: a row a family, a column a beta."""
    gap = _well(results).assign(gap=lambda models: models["mi_upper"] - models["mi_lower"])
    return gap.pivot_table(index="model", columns="beta_1", values="gap", aggfunc="median").round(2)


def _well(results: pd.DataFrame) -> pd.DataFrame:
    """The models that neither diverged nor are missing."""
    return results[drawable(results)].reset_index(drop=True)


def _strong(results: pd.DataFrame) -> pd.DataFrame:
    """Those of them with a powerful, autoregressive decoder."""
    models = _well(results)
    return models[models["model"].str[1] == "+"]


def _table(models: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """A row a model, by the name of its family."""
    table = models[["model", "beta_1", *columns]].rename(columns={"model": "family"})
    return table.set_index("family").round({"rate": 4} | dict.fromkeys(columns[1:], 2))
