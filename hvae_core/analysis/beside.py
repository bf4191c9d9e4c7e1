"""A run beside others, and questions that may have no answer: tables, with the reason where there is none.

::

    beside_surfaces    a run with target rates, beside the surface of each grid of betas
    beside_grids       a conditioned network, beside each grid of models trained one by one
    first              the first of these grids, to draw
    usual_rate         the total rate of the VAE, to measure budgets by
    advice             what `recommend` says for several budgets
    dialled            what `dial` and `best` find at the usual rates

Nothing here raises for lack of data: a notebook shows the table, and its column ``why not`` says the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from hvae_core.analysis import dial, fidelity, surface
from hvae_core.analysis.guidance import TASKS, Recommendation, recommend
from hvae_core.analysis.points import count_layers, drawable, grid_means, is_vae
from hvae_core.errors import InputError
from hvae_core.runs.weights import load_network
from hvae_core.terms import layer_numbers

WHY_NOT = "why not"
NONE = "no grid"


class Beside(NamedTuple):
    """A run beside grids of models.

    Attributes:
        summary: the comparison with each grid in a few numbers, or why there is none.
        compared: point by point, by the name of the grid; without those that cannot be compared.
        tables: what is to be kept, by the name of its file.
    """

    summary: pd.DataFrame
    compared: dict[str, pd.DataFrame]
    tables: dict[str, pd.DataFrame]


def beside_surfaces(results: pd.DataFrame, grids: Mapping[str, pd.DataFrame]) -> Beside:
    """A run with target rates, beside the surface L(beta) of each grid of betas, at the run's own betas.

    Arguments:
        results: of the run, one row a model.
        grids: results of grids of betas, by name.

    Returns:
        ``summary`` has a column a grid. ``tables`` has a ``targets_surface_<grid>`` for each: seed, targets and
        what `hvae_core.analysis.surface.compare` returns, one row a model.
    """
    depth = count_layers(results)
    given = [f"target_{n}" for n in layer_numbers(depth) if f"target_{n}" in results]

    def compare(grid: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
        grid = grid[drawable(grid)]
        compared = surface.compare(results, grid, depth)
        about = surface.summary(compared, surface.Surface.of(grid, depth, "train_"))
        return about, pd.concat([results[["seed", *given]], compared], axis=1).round(3)

    found, refused = _each(grids, compare)
    columns = {name: about for name, (about, _) in found.items()}
    columns |= {name: pd.Series({WHY_NOT: reason}) for name, reason in refused.items()}
    if not grids:
        columns = {NONE: pd.Series({WHY_NOT: "no finished grid of betas has these data and settings"})}
    compared = {name: table for name, (_, table) in found.items()}
    tables = {f"targets_surface_{name}": table for name, table in compared.items()}
    return Beside(pd.DataFrame(columns).fillna(""), compared, tables)


def beside_grids(results: pd.DataFrame, grids: Mapping[str, pd.DataFrame]) -> Beside:
    """A conditioned network, beside each grid of models that were trained one by one.

    Arguments:
        results: of the conditioned run, one row a point and seed.
        grids: results of grids of plain models, by name.

    Returns:
        ``summary`` has a row a grid and what is compared. ``tables`` has a ``fidelity_table_<grid>`` and an
        ``optima_table_<grid>`` for each; see `hvae_core.analysis.fidelity`.
    """

    def compare(grid: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        return fidelity.differences(results, grid).round(3), fidelity.optima(results, grid)

    found, refused = _each(grids, compare)
    reasons = refused if grids else {NONE: "no finished grid of models has these data and settings"}
    parts = [fidelity.summary(table).assign(grid=name) for name, (table, _) in found.items()]
    parts += [pd.DataFrame({"grid": [name], "of": "", WHY_NOT: reason}) for name, reason in reasons.items()]
    summary = pd.concat(parts).set_index(["grid", "of"])
    if WHY_NOT in summary:
        summary = summary.fillna({WHY_NOT: ""})
    compared = {name: table for name, (table, _) in found.items()}
    tables = {f"fidelity_table_{name}": table for name, table in compared.items()}
    tables |= {f"optima_table_{name}": optima for name, (_, optima) in found.items()}
    return Beside(summary, compared, tables)


def first(grids: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The results of the first grid; None where there is none.

    Example:
        >>> first({}) is None
        True
    """
    return next(iter(grids.values()), None)


def _each(
    grids: Mapping[str, pd.DataFrame], compare: Callable[[pd.DataFrame], Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What comes of each grid, and of the others why nothing does."""
    found, refused = {}, {}
    for name, grid in grids.items():
        try:
            found[name] = compare(grid)
        except InputError as error:
            refused[name] = str(error)
    return found, refused


# --- budgets ------------------------------------------------------------------------------------------------


def usual_rate(results: pd.DataFrame) -> float:
    """The total rate of the VAE (all betas 1) on test images, nats per image; without one, of the median model.

    Raises:
        InputError: the results are of several models or data sets, or no model is finished.

    Example:
        >>> usual_rate(pd.DataFrame({"beta_1": [0.1, 1, 10], "rate_1": [80, 30, 5], "psnr": [22, 18, 12]}))
        30.0
    """
    try:
        points = grid_means(results)
    except ValueError as error:
        raise InputError(f"the results: {error}") from None
    vae = points.loc[is_vae(points), "rate"]
    rate = float((vae if vae.notna().any() else points["rate"]).median())
    if not np.isfinite(rate):
        raise InputError("the results: no finished model has a rate")
    return rate


def advice(results: pd.DataFrame, task: str, budgets: Sequence[float | None]) -> pd.DataFrame:
    """What `hvae_core.recommend` says for several budgets.

    Arguments:
        results: of a finished run, one row a model.
        task: as `recommend` takes it.
        budgets: total rates, nats per image; None: any.

    Returns:
        A row a budget: the betas, their total rate ``R`` on test images, the metric, and ``why not`` where nothing
        can be recommended.

    Example:
        >>> results = pd.DataFrame({"beta_1": [0.1, 1, 10], "rate_1": [80, 30, 5], "psnr": [22, 18, 12]})
        >>> table = advice(results, "reconstruction", [40, 1, None])
        >>> table["beta_1"].tolist(), table.index.tolist(), table["why not"]["1"][:24]
        ([1.0, nan, 0.1], ['40', '1', 'any'], 'The budget is below the ')
    """
    names = [f"beta_{n}" for n in layer_numbers(count_layers(results))]
    metric = TASKS.get(task, task).format(top=count_layers(results))
    rows = []
    for budget in budgets:
        found, reason = _recommended(results, task, budget)
        row: dict[str, Any] = {"R at most": "any" if budget is None else f"{budget:.4g}"}
        if found is not None and found.betas:
            row |= dict(zip(names, found.betas, strict=True)) | {"R": found.total_rate, metric: found.value}
        rows.append(row | {WHY_NOT: reason})
    table = pd.DataFrame(rows, columns=["R at most", *names, "R", metric, WHY_NOT]).set_index("R at most")
    return table.astype(dict.fromkeys([*names, "R", metric], float)).round(3)


def _recommended(results: pd.DataFrame, task: str, budget: float | None) -> tuple[Recommendation | None, str]:
    """The recommendation, or why there is none."""
    try:
        found = recommend(results, task, budget)
    except InputError as error:  # such as a metric that needs labels; what else there is stands after the semicolon
        return None, str(error).partition("; ")[0]
    if found.betas:
        return found, ""
    return found, found.warnings[0] if found.warnings else "no model is within the budget"


# --- the dial -----------------------------------------------------------------------------------------------


def dialled(run: str | Path, results: pd.DataFrame, x: Tensor, task: str = "reconstruction") -> pd.DataFrame:
    """Two questions to a conditioned network: the rates of its middle point, and the best at that total rate.

    Arguments:
        run: a finished run of a conditioned model.
        results: its results.
        x: held-out images, uint8.
        task: what is to be best; as `hvae_core.recommend` takes it.

    Returns:
        A row a question: the betas found, their rates and distortion on these images, nats per image, and
        ``why not`` where there are none.
    """
    numbers = layer_numbers(count_layers(results))
    names = [*(f"beta_{n}" for n in numbers), *(f"rate_{n}" for n in numbers), "distortion"]
    well = results[drawable(results) & results["seed"].eq(0) & results["rate"].notna()]
    if well.empty:
        return pd.DataFrame({WHY_NOT: ["no point of the network is finished"]}, index=["any"])
    median = float(well["rate"].median())
    typical = well.iloc[int((well["rate"] - median).abs().argmin())]
    asked = {f"rate_{n}": round(float(typical[f"rate_{n}"]), 2) for n in numbers}
    network = load_network(run, device=x.device)
    questions: dict[str, Callable[[], dial.Dialled]] = {
        f"rates {', '.join(f'{rate:g}' for rate in asked.values())}": lambda: dial.dial(network, x, seed=0, **asked),
        f"best {task} at R = {median:.3g}": lambda: dial.best(run, task, x, total_rate=median)[0],
    }
    rows = {question: _answer(names, ask) for question, ask in questions.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*names, WHY_NOT])


def _answer(names: Sequence[str], ask: Callable[[], dial.Dialled]) -> list[Any]:
    """Where the dial stands, as a row; or nulls, and why."""
    try:
        found = ask()
    except InputError as error:
        return [*[np.nan] * len(names), str(error)]
    return [*(round(value, 3) for value in (*found.betas, *found.rates, found.distortion)), ""]
