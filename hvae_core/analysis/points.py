"""What a figure is about: one point a setting of the betas, the baselines and the optima among them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hvae_core.analysis.frontier import upper_hull
from hvae_core.names import CONDITIONED, PROBES
from hvae_core.terms import layer_numbers

CLASSIFIERS = dict(zip(PROBES, ("LR", "linear SVM", "RBF SVM", "kNN"), strict=True))


@dataclass(frozen=True)
class Metric:
    """A column of the results as it is shown: its name, its unit and the factor from stored to shown values."""

    column: str
    name: str
    unit: str = ""
    factor: float = 1.0

    @property
    def label(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


PSNR = Metric("psnr", "PSNR", "dB")
ELBO = Metric("elbo", "ELBO", "nats per image")
INCEPTION = Metric("inception_score", "Inception Score")
DIVERSITY = Metric("diversity", "diversity")
SHARPNESS = Metric("sharpness", "sharpness")


def latent_name(latent: str) -> str:
    """A latent in the paper's symbols: ``mu2`` is the mode of q(z_2|x), ``z2`` a sample of it."""
    return rf"$\mu_{latent[2:]}$" if latent.startswith("mu") else rf"$z_{latent[1:]}\sim q$"


def rate_name(n: int, top: int) -> str:
    """The rate of layer n of ``top`` in the paper's symbols, given the layer above it if there is one."""
    return f"$R(z_{n})$" if n == top else rf"$R(z_{n}\,|\,z_{n + 1})$"


def accuracy(latent: str, probe: str) -> Metric:
    return Metric(f"acc_{latent}_{probe}", f"{CLASSIFIERS[probe]} on {latent_name(latent)}", "%", 100)


def information(top: int) -> Metric:
    return Metric(f"mi_z{top}", f"$I_q(y; z_{top})$", "nats")


def count_layers(frame: pd.DataFrame) -> int:
    """The number L of latent layers, from the columns ``rate_L`` ... ``rate_1`` and ``beta_L`` ... ``beta_1``.

    Raises:
        ValueError: a layer's column is missing.
    """
    found = [int(match[1]) for match in map(re.compile(r"rate_(\d+)").fullmatch, frame.columns) if match]
    wanted = [f"{kind}_{n}" for kind in ("rate", "beta") for n in layer_numbers(max(found, default=1))]
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise ValueError(f"results lack the columns {', '.join(missing)}")
    return max(found)


def betas(frame: pd.DataFrame) -> np.ndarray:
    """The betas, ``(points, L)``, the top layer's first."""
    return frame[[f"beta_{n}" for n in layer_numbers(count_layers(frame))]].to_numpy(float)


def settings(results: pd.DataFrame) -> list[str]:
    """The columns that were chosen before training, top layer first.

    A layer's target rate if it has one, or else its beta.
    """
    targeted = {
        n
        for n in layer_numbers(count_layers(results))
        if f"target_{n}" in results and results[f"target_{n}"].notna().any()
    }
    return [f"{'target' if n in targeted else 'beta'}_{n}" for n in layer_numbers(count_layers(results))]


def grid_means(results: pd.DataFrame) -> pd.DataFrame:
    """One row a setting (of betas, or of target rates): the mean over its seeds, and the spread.

    Models that diverged or are missing are left out of the mean; a setting without any model left keeps its row,
    with nulls. Values that are not finite count as not computed.

    Returns:
        A frame sorted by setting, with ``seeds`` (models that the means are over), every number of ``results``,
        and ``<column>_sd``, its standard deviation over seeds (null for a single seed).

    Raises:
        ValueError: no rows, a layer's column is missing, or rows of more than one data set or model.
    """
    numbers = layer_numbers(count_layers(results))
    if results.empty:
        raise ValueError("results have no rows")
    for name in ("dataset", "model"):
        kinds = list(results[name].unique()) if name in results else []
        if len(kinds) > 1:
            raise ValueError(f"a figure is about one {name}, not {', '.join(map(str, kinds))}")
    keys = settings(results)
    words = {"dataset", "model", "seed", "status", *keys}
    values = results[[column for column in results.columns if column not in words]]
    values = values.apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    if "rate" not in values:
        values["rate"] = values[[f"rate_{n}" for n in numbers]].sum(axis=1, skipna=False)
    ok = drawable(results)
    groups = values.where(ok).groupby([results[key] for key in keys])
    seeds = ok.groupby([results[key] for key in keys]).sum().rename("seeds")
    points = pd.concat([seeds, groups.mean(), groups.std().add_suffix("_sd")], axis=1).reset_index()
    points = points.assign(**{name: results[name].iloc[0] for name in ("dataset", "model") if name in results})
    points.attrs = dict(results.attrs)
    return points


def by_setting(points: pd.DataFrame, columns: Iterable[str], digits: int = 2) -> pd.DataFrame:
    """Some columns of these points, to be read: a row a setting, its betas (or target rates) first.

    Arguments:
        points: as `grid_means` returns them, or some of them.
        columns: what is to be shown, besides the setting.
        digits: decimals.

    Example:
        >>> table = by_setting(pd.DataFrame({"beta_1": [0.5623], "rate_1": [9.876], "psnr": [15.0]}), ["rate_1"])
        >>> table.to_dict("index")
        {0.56: {'rate_1': 9.88}}
    """
    keys = settings(points)
    return (points[[*keys, *columns]].round(digits) + 0.0).set_index(keys)  # a zero has no sign


def status(results: pd.DataFrame) -> pd.Series:
    """ "ok", "diverged" or "missing", ``(models,)``; nothing known counts as missing."""
    return results["status"].fillna("missing") if "status" in results else pd.Series("ok", index=results.index)


def drawable(results: pd.DataFrame) -> pd.Series:
    """Whether a model neither diverged nor is missing, ``(models,)``."""
    return status(results).eq("ok")


def described(results: pd.DataFrame) -> str:
    """What is drawn and what is left out, in one line: the run, if its table names it, data, training, models.

    What it was trained for is said, too, if that is not plainly Eq. 8.

    Example:
        >>> frame = pd.DataFrame({"dataset": "digits", "epochs": 5, "seed": 0, "beta_1": [1, 10], "rate_1": 9.0})
        >>> frame.attrs["run"] = "mine"
        >>> described(frame)
        'mine: digits, 5 epochs, 1 seed, 2 models'
    """
    names = [str(results[name].iloc[0]) for name in ("dataset", "model") if name in results]
    for column, word in (("epochs", "epoch"), ("seed", "seed")):
        if column in results:
            number = results[column].nunique() if column == "seed" else results[column].max()
            names.append(f"{number:g} {word}{'s' if number != 1 else ''}")
    left_out = status(results)[~drawable(results)].value_counts()
    keys = settings(results)
    count = len(results.groupby(keys))
    what = " of the target rates" if any(key.startswith("target") for key in keys) else ""
    if "model" in results and results["model"].iloc[0] in CONDITIONED:
        networks = len(results) // count
        models = f"{'one network' if networks == 1 else f'{networks} networks'} at {count} settings{what}"
    else:
        models = f"{len(results)} models" + (f" at {count} settings{what}" if count < len(results) else "")
    parts = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
    line = ", ".join([*names, models]) + (f", of which {left_out.sum()} not drawn ({parts})" if parts else "")
    return of_run(results, line)


def of_run(frame: pd.DataFrame, line: str) -> str:
    """The line, between the name of the run and what it was trained for; of tables that do not know, as it is."""
    objective = str(frame.attrs.get("objective", ""))
    before = f"{frame.attrs['run']}: " if frame.attrs.get("run") else ""
    return before + line + (f"; {objective}" if objective not in ("", "Eq. 8") else "")


def values(points: pd.DataFrame, metric: Metric) -> np.ndarray:
    """The metric in the unit shown, ``(points,)``; null where it was not computed or the model's rate is unknown."""
    stored = points[metric.column].to_numpy(float) if metric.column in points else np.nan
    return np.where(np.isfinite(points["rate"].to_numpy(float)), metric.factor * stored, np.nan)


def bins(points: pd.DataFrame) -> list[tuple[int, ...]]:
    """The numbers of neighbouring layers that share a beta in all points, top first.

    Example:
        >>> frame = pd.DataFrame({"rate_3": [9, 9], "rate_2": [9, 9], "rate_1": [9, 9]})
        >>> bins(frame.assign(beta_3=[1, 10], beta_2=[1, 1], beta_1=[1, 1]))
        [(3,), (2, 1)]
    """
    columns = betas(points).T
    found: list[tuple[int, ...]] = []
    for i, number in enumerate(layer_numbers(len(columns))):
        if i and np.isclose(columns[i], columns[i - 1]).all():
            found[-1] += (number,)
        else:
            found.append((number,))
    return found


def split(points: pd.DataFrame) -> tuple[list[int], list[int]]:
    """The layers of the two axes: the top layer, or all that share its beta, and the others; none if L = 1."""
    numbers = layer_numbers(count_layers(points))
    first, *others = bins(points)
    count = len(first) if others else 1
    return list(numbers[:count]), list(numbers[count:])


def split_rates(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The two rate axes of `split`: R(z_L), or a sum of rates, and the sum of the rest.

    ``(points,)``, nats per image.
    """
    upper, lower = (points[[f"rate_{n}" for n in numbers]].sum(axis=1, skipna=False) for numbers in split(points))
    return upper.to_numpy(float), lower.to_numpy(float)


def split_betas(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The two beta axes of `split`: beta_L, and the geometric mean of the others' betas (1 without other layers)."""
    top, *_ = betas(points).T
    others = betas(points)[:, len(split(points)[0]) :]
    return top, np.exp(np.log(others).mean(1)) if others.size else np.ones_like(top)


def is_eq_8(frame: pd.DataFrame) -> bool:
    """Whether models of equal betas are VAEs and beta-VAEs: not, if another objective than Eq. 8 trained them."""
    return not str(frame.attrs.get("objective", "")).startswith("not")


def is_vae(points: pd.DataFrame) -> np.ndarray:
    """Whether all betas are 1, ``(points,)``; none is a VAE under another objective than Eq. 8."""
    return is_eq_8(points) & np.isclose(betas(points), 1).all(1)


def is_beta_vae(points: pd.DataFrame) -> np.ndarray:
    """Whether all betas are equal, ``(points,)`` (Paper A, Eq. 2); none under another objective than Eq. 8."""
    return is_eq_8(points) & np.isclose(betas(points), betas(points)[:, :1]).all(1)


def known_together(points: pd.DataFrame, metrics: Iterable[Metric]) -> np.ndarray:
    """Whether all of these metrics are known of a model, ``(points,)``.

    Of a conditioned network's points few have been classified.
    """
    return np.logical_and.reduce([np.isfinite(values(points, metric)) for metric in metrics])


def compared(points: pd.DataFrame) -> np.ndarray:
    """Which models may be the best, ``(points,)``: those that were measured for all three applications.

    An application that was measured for none does not count. All but a conditioned network's points usually are.
    """
    metrics = (PSNR, INCEPTION, accuracy(f"mu{count_layers(points)}", "rbf_svm"))
    known = [np.isfinite(values(points, metric)) for metric in metrics]
    return np.logical_and.reduce([np.isfinite(points["rate"].to_numpy(float)), *(one for one in known if one.any())])


def optimal(points: pd.DataFrame, metric: Metric) -> np.ndarray:
    """Rows of the models that are best for their total rate, by rate (Paper A, Section 5.3), of those `compared`."""
    return upper_hull(points["rate"], np.where(compared(points), values(points, metric), np.nan))


def best(points: pd.DataFrame, metric: Metric) -> int | None:
    """Row of the highest value of a metric, of equal ones that of the lowest rate; None if it was not computed.

    Among the models `compared`, so that all figures of a run agree.
    """
    hull = optimal(points, metric)
    return int(hull[-1]) if len(hull) else None


def optima(points: pd.DataFrame) -> dict[str, int]:
    """Rows of the best models for the three applications, of those that were measured.

    For reconstruction by PSNR, for representation by an RBF SVM on the mode of z_L, for generation by the Inception
    Score.
    """
    metrics = {
        "best PSNR": PSNR,
        "best accuracy": accuracy(f"mu{count_layers(points)}", "rbf_svm"),
        "best samples": INCEPTION,
    }
    rows = {name: best(points, metric) for name, metric in metrics.items()}
    return {name: row for name, row in rows.items() if row is not None}


PARTS = 5  # of the samples, which the Inception Score is the mean over; its stored deviation is divided by them


def chosen(points: pd.DataFrame) -> dict[str, int]:
    """The three models of Fig. 4, as rows: the best reconstruction, the best samples, and one between.

    That between is the best compromise of those whose PSNR and Inception Score both lie between the scores of the
    two. Where one model is the best of both, or nothing lies between, the VAE and the model with the highest ELBO
    follow; there may be fewer than three. They are among those with terms on training images, if some have them: of a
    conditioned network's points the others keep no images.

    Returns:
        Rows by name, the VAE's with that word in it.
    """
    seen = np.isfinite(points["train_distortion"]) if "train_distortion" in points else np.zeros(len(points), bool)
    shown = points.assign(rate=points["rate"].where(seen)) if seen.any() else points
    vae = np.flatnonzero(is_vae(shown) & np.isfinite(shown["rate"].to_numpy(float)))
    rows = {
        "best reconstruction": best(shown, PSNR),
        "best samples": best(shown, INCEPTION),
        "between": _between(shown),
        "VAE": int(vae[0]) if len(vae) else None,
        "highest ELBO": best(shown, ELBO),
    }
    names: dict[int, str] = {}
    for name, row in rows.items():
        if row is not None and row not in names and len(names) < 3:
            both = name == "best reconstruction" and row == rows["best samples"]
            named = row in vae and name != "VAE"
            names[row] = f"{name}{' and samples' if both else ''}{' (VAE)' if named else ''}"
    return {name: row for row, name in names.items()}


def _between(points: pd.DataFrame) -> int | None:
    """The row of the best compromise between the best PSNR and the best Inception Score; None if there is none."""
    first, second = best(points, PSNR), best(points, INCEPTION)
    if first is None or second is None or first == second:
        return None
    shares = []
    for metric, high, low in ((PSNR, first, second), (INCEPTION, second, first)):
        value = values(points, metric)
        shares.append((value - value[low]) / (value[high] - value[low] or np.nan))
    lower = np.where(compared(points), np.min(shares, axis=0), np.nan)
    lower[[first, second]] = np.nan
    return int(np.nanargmax(lower)) if (lower > 0).any() else None


def triangles(points: pd.DataFrame, known: np.ndarray | None = None) -> np.ndarray:
    """The surface over a two-way grid of betas, as rows of its triangles' corners, ``(triangles, 3)``.

    Neighbours in the grid are joined, also where their rates fold over; next to a model that is not known the
    surface has a hole. Empty if the betas do not form a two-way grid (layers that share a beta count once).

    Arguments:
        known: which points it is of, ``(points,)``, by default those that have a rate. Betas at which none is known are
            not of the grid: of a finer one may be known every second.
    """
    drawn = np.flatnonzero(np.isfinite(points["rate"]) if known is None else known)
    distinct = np.unique(betas(points)[drawn].round(12), axis=1).T
    axes = [np.unique(axis, return_inverse=True)[1] for axis in distinct if len(axis) and np.ptp(axis) > 0]
    if len(axes) != 2:
        return np.empty((0, 3), int)
    row_of = np.full([axis.max() + 1 for axis in axes], -1)
    row_of[axes[0], axes[1]] = drawn
    found = []
    for i, j in np.ndindex(row_of.shape[0] - 1, row_of.shape[1] - 1):
        corners = [row_of[i, j], row_of[i + 1, j], row_of[i + 1, j + 1], row_of[i, j + 1]]
        there = [corner for corner in corners if corner >= 0]
        found += [there[:3]] if len(there) > 2 else []
        found += [[there[2], there[3], there[0]]] if len(there) > 3 else []
    return np.array(found, int).reshape(-1, 3)
