"""The rate/rate/distortion surface that a grid of betas found, between its points.

For each beta let L(beta) be the lowest value of the objective, D + beta_L R_L + ... + beta_1 R_1 (Paper A, Eq. 8).
Where training reaches it, L is concave in the betas and its slopes are the rates: it holds the whole surface, and is
smoother than any of its terms. So models with other betas are compared with a grid by L at their own betas, which to
first order is the difference of the distortions at equal rates.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hvae_core.analysis.points import drawable
from hvae_core.errors import InputError
from hvae_core.terms import layer_numbers


def objective_values(results: pd.DataFrame, layers: int, on: str = "") -> np.ndarray:
    """D + sum of beta R of each model at its own betas, ``(models,)``, nats per image; ``on="train_"``.

    Training images.

    Example:
        >>> rates, betas = {"rate_2": [10.0], "rate_1": [5.0]}, {"beta_2": [1.0], "beta_1": [2.0]}
        >>> frame = pd.DataFrame({"distortion": [80.0], **rates, **betas})
        >>> objective_values(frame, layers=2).tolist()
        [100.0]
    """
    weighted = [results[f"beta_{n}"] * results[f"{on}rate_{n}"] for n in layer_numbers(layers)]
    return (results[f"{on}distortion"] + sum(weighted)).to_numpy(float)


def constant_of(results: pd.DataFrame) -> float:
    """What all L of these models have in common whatever they learn, nats per image; 0 of binary images.

    Results of a run carry it, see `hvae_core.runs.about`. Nothing is relative to L before it is taken off.
    """
    return float(results.attrs.get("constant", 0.0))


class Surface:
    """L(beta) of a two-way (or L-way) grid of betas, interpolated over log beta.

    Arguments:
        betas: ``(points, L)``.
        values: ``(points, seeds)``, L(beta) of each seed, nats per image.
        constant: of L, see `constant_of`.
    """

    def __init__(self, betas: ArrayLike, values: ArrayLike, constant: float = 0.0) -> None:
        self.constant = constant
        self.betas, self.values = np.log(np.asarray(betas, float)), np.asarray(values, float)

    @classmethod
    def of(cls, results: pd.DataFrame, layers: int, on: str = "") -> "Surface":
        """The surface of a finished grid of betas; a setting with a seed that diverged is left out.

        Raises:
            InputError: the grid has too few values of a beta to interpolate between.
        """
        names = [f"beta_{n}" for n in layer_numbers(layers)]
        table = (
            results.assign(L=objective_values(results, layers, on))
            .pivot_table(index=names, columns="seed", values="L")
            .dropna()
        )
        points = np.array(table.index.to_list()).reshape(len(table), layers)
        fewest = min(len(np.unique(axis)) for axis in points.T) if len(points) else 0
        if fewest < 3 or len(table) < 3**layers:
            raise InputError(
                f"{len(table)} settings of the betas are too few for a surface: it takes three values of each beta"
            )
        return cls(points, table.to_numpy(), constant_of(results))

    def __call__(self, betas: ArrayLike) -> np.ndarray:
        """L at ``betas`` ``(models, L)``, for each seed of the grid: ``(models, seeds)``.

        NaN outside the grid's convex hull.
        """
        from scipy.spatial import Delaunay  # only where it is asked for: a report imports this module, too

        at = np.log(np.asarray(betas, float))
        inside = Delaunay(self.betas).find_simplex(at, tol=1e-9) >= 0
        found = np.full((len(at), self.values.shape[1]), np.nan)
        if inside.any():
            found[inside] = _interpolated(self.betas, self.values, at[inside])
        return found

    def error(self) -> np.ndarray:
        """How wrong the interpolation is at inner points when they are left out, ``(points inside,)``.

        Relative to L without its constant.

        With a point left out the grid is twice as coarse there, so this overstates the error between points.
        """
        low, high = self.betas.min(0), self.betas.max(0)
        inside = np.flatnonzero(((self.betas > low) & (self.betas < high)).all(1))
        rest = [np.arange(len(self.betas)) != i for i in inside]
        guessed = [
            _interpolated(self.betas[keep], self.values[keep], self.betas[[i]])[0]
            for i, keep in zip(inside, rest, strict=True)
        ]
        if not guessed:
            return np.empty(0)
        values = self.values[inside]
        return np.abs((np.array(guessed) - values) / (values - self.constant)).mean(1)


def slopes(results: pd.DataFrame, layers: int, on: str = "train_") -> pd.DataFrame:
    """How far betas that hold target rates are the slopes -dD/dR of the surface.

    Between neighbouring targets of one layer, the others' and the seed being equal, the slope of D is compared with the
    logarithmic mean of the two betas.

    Returns:
        One row a pair of models: ``layer``, ``slope`` and ``beta``, both nats per nat, and ``ratio``, 1 on a surface
            that training reached.
    """
    numbers = layer_numbers(layers)
    given = {n: f"target_{n}" if results[f"target_{n}"].notna().any() else f"beta_{n}" for n in numbers}
    rows = []
    for n in [n for n in numbers if given[n].startswith("target")]:
        others = [given[other] for other in numbers if other != n]
        for _, line in results.sort_values(given[n]).groupby([*others, "seed"]):
            rate, distortion, beta = (
                line[name].to_numpy(float) for name in (f"{on}rate_{n}", f"{on}distortion", f"beta_{n}")
            )
            slope = -np.diff(distortion) / np.diff(rate)
            mean = np.diff(beta) / np.diff(np.log(beta))
            rows += [{"layer": n, "slope": s, "beta": b, "ratio": s / b} for s, b in zip(slope, mean, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "slope", "beta", "ratio"])


def slope_ratios(results: pd.DataFrame, layers: int, on: str = "train_") -> pd.DataFrame:
    """How the ratio of `slopes` spreads, of models that are well.

    Returns:
        A row a layer: how many pairs of models differ in its target alone, and quantiles of their ratios. Empty where
        no two do, as where targets share a total.
    """
    well = results[drawable(results)]
    found = slopes(well, layers, on).astype({"ratio": float})
    found["layer"] = "z_" + found["layer"].astype(str)
    ratio = found.groupby("layer", sort=False)["ratio"]
    shares = {"lowest tenth": 0.1, "median": 0.5, "highest tenth": 0.9}
    table = pd.DataFrame({"pairs": ratio.count(), **{name: ratio.quantile(share) for name, share in shares.items()}})
    return table.round(2)


def _interpolated(points: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    from scipy.interpolate import RBFInterpolator  # as above

    return RBFInterpolator(points, values, kernel="cubic")(at)


def compare(results: pd.DataFrame, grid: pd.DataFrame, layers: int, on: str = "train_") -> pd.DataFrame:
    """Models with betas of their own beside the surface of a grid, at their own betas.

    Returns:
        For each model ``lagrangian``, ``surface`` (mean over the grid's seeds), ``lowest`` (of the seeds),
        ``difference`` (``lagrangian`` minus ``surface``; to first order that of the distortions at equal rates),
        ``spread`` (standard deviation over the grid's seeds, null for one seed), all in nats per image; ``percent`` and
        ``percent_lowest``, the difference from the mean and from the lowest, relative to them without their constant.
        Null outside the grid. Where some seeds collapsed, mean and lowest are far apart.
    """
    betas = results[[f"beta_{n}" for n in layer_numbers(layers)]].to_numpy(float)
    surface = Surface.of(grid, layers, on)(betas)
    mean, lowest = surface.mean(1), surface.min(1)
    own = objective_values(results, layers, on)
    spread = surface.std(1, ddof=1) if surface.shape[1] > 1 else np.full(len(own), np.nan)
    return pd.DataFrame(
        {
            "lagrangian": own,
            "surface": mean,
            "lowest": lowest,
            "difference": own - mean,
            "spread": spread,
            "percent": 100 * (own - mean) / (mean - constant_of(grid)),
            "percent_lowest": 100 * (own - lowest) / (lowest - constant_of(grid)),
        },
        index=results.index,
    )


def summary(compared: pd.DataFrame, surface: Surface) -> pd.Series:
    """`compare` in a few numbers: shares of the models within the grid, percent of L.

    Arguments:
        compared: what `compare` returns.
        surface: of the grid that it was made with.
    """
    inside = compared.dropna(subset="surface")
    difference, spread = inside["difference"], inside["spread"]
    shares = (
        {"within": difference.abs() <= spread, "below": difference < -spread, "above": difference > spread}
        if spread.notna().any()
        else {}
    )
    found = {
        "models": len(compared),
        "of these within the grid": len(inside),
        "L against the mean over the grid's seeds, %: median": inside["percent"].median(),
        "… lowest": inside["percent"].min(),
        "… highest": inside["percent"].max(),
        "L against the lowest seed, %: median": inside["percent_lowest"].median(),
        **{
            f"{name} one standard deviation over the seeds, % of models": 100 * share.mean()
            for name, share in shares.items()
        },
        "a point of the grid that is left out is missed by, %: median": 100 * np.median(surface.error()),
    }
    return pd.Series(
        {name: value if isinstance(value, int) else round(float(value), 2) for name, value in found.items()},
        dtype=object,
    )
