"""Two runs beside each other, setting by setting: what moved by more than other seeds would move it?

::

    compare       two runs in, a `Comparison` out
    Comparison    its tables, and as text a summary to read
    shown_metric  a column of the results as it is shown: name, unit, factor
"""

import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hvae_core.analysis.control import SATURATED, at_least, is_saturated, is_uncontrolled
from hvae_core.analysis.points import (
    CLASSIFIERS,
    ELBO,
    INCEPTION,
    PSNR,
    Metric,
    accuracy,
    count_layers,
    described,
    drawable,
    information,
    rate_name,
    settings,
)
from hvae_core.errors import InputError
from hvae_core.runs.folder import load_config, run_folder
from hvae_core.runs.identity import kept_objective
from hvae_core.runs.results import load_results
from hvae_core.terms import layer_numbers

MOVED, WITHIN, NOT_SETTLED = "moved", "within the spread", "not settled"
FALSE_SHARE = 0.05  # of all that is said to have moved, at most this share has not, on average
WELCH_ERRS = 2  # with few seeds and unlike spreads it is wrong up to about so many times as often as it says
ALIKE = 1e-9  # values whose relative difference is below that differ by rounding alone

NO_METRICS = ("dataset", "model", "seed", "epochs", "status", "target_status", "target_reason", "member")
NOT_COMPARED = ("_std", "_behind", "_behind_se")  # ends of columns: what is relative to the run itself
MEASURED_BY = {
    ("inception_score", "diversity", "sharpness"): (
        "train_images",
        "generated_samples",
        "classifier_epochs",
        "precision",
    ),
    ("iwae_500", "mi_lower", "mi_upper"): ("likelihood_images",),
}
"""Metrics, and the keys of a configuration that change how they are measured."""
SAID_ELSEWHERE = (
    *("name", "dataset", "model", "epochs", "betas", "bins", "target_rates", "seeds"),
    *("blocks", "block", "device"),  # no result depends on blocks; devices are those that were there
)


@dataclass(frozen=True)
class Comparison:
    """Two runs, a and b, at the settings that both have. Differences are b - a.

    Attributes:
        names: of the two runs.
        keys: the columns that name a setting, ``model`` first where there are several.
        notes: what is to be known of the runs, a line each: what they are, how they differ, what is left out.
        table: a row a metric and setting: the setting, ``metric``, the means over seeds ``a`` and ``b``,
            ``difference``, ``standard_error``, ``seeds_a``, ``seeds_b``, ``p_value``, ``q_value`` (the p-value
            corrected as `compare` says) and ``verdict``. In stored units: accuracies are shares.
        overall: a row a metric, its mean over the settings: the same columns, and ``settings`` (how many the mean is
            over), ``higher`` and ``lower`` (in how many settings b is that) and ``moved`` (in how many by the table).
        points: the means over seeds of both runs, a row a setting, in the same order.

    Its text is a summary.
    """

    names: tuple[str, str]
    keys: list[str]
    notes: list[str]
    table: pd.DataFrame
    overall: pd.DataFrame
    points: tuple[pd.DataFrame, pd.DataFrame]

    def __str__(self) -> str:
        return "\n".join([*self.notes, *_summary(self)])

    @property
    def metrics(self) -> list[str]:
        """What is compared."""
        return self.overall["metric"].tolist()

    @property
    def headline(self) -> list[str]:
        """Those of the metrics that a summary names: the terms, and one or two of each application."""
        top = count_layers(self.points[0])
        first = [*(f"rate_{n}" for n in layer_numbers(top)), "distortion", "elbo", "psnr", "inception_score"]
        first += [at_least(top).column, f"acc_mu{top}_rbf_svm", f"acc_z{top}_rbf_svm", "iwae_500"]
        return [metric for metric in first if metric in self.metrics] or self.metrics


def compare(
    a: str | Path | pd.DataFrame, b: str | Path | pd.DataFrame, metrics: Sequence[str] | None = None
) -> Comparison:
    """Which metrics moved from run a to run b, at which settings, beyond the spread over seeds.

    A setting is what was chosen before training: betas, or target rates where both runs have the same kind. Only
    settings of both are compared, models that diverged or are missing are left out, and means are over seeds.

    **The test.** At each setting and for each metric, Welch's t of the two means, from the spread over the seeds of
    each run at that setting, with no more degrees of freedom than if both runs had the fewer seeds. No spread is lent
    from one setting to another: in published runs it differs between settings by orders of magnitude. Equal seeds
    share initial weights, order of images and noise, and could be compared in pairs. They are not: training forgets
    most of what they share (in published runs, results of equal seeds go together little), and pairs would halve the
    degrees of freedom. Where results of equal seeds do go together, the error is towards "within the spread". For the
    mean over all settings a seed is one experiment: the mean is taken seed by seed first, so that it does not matter
    how much settings go together.

    **Many questions at once.** The p-values of all settings and metrics are corrected together as Benjamini and
    Hochberg do, those of the means over settings apart, and then doubled: with few seeds Welch's test is wrong up to
    about twice as often as it says where one run spreads three times as much as the other. So in each table at most
    5 % of all that is said to have moved has not, on average (it may be a few times that where one spreads ten times as
    much as the other); and of tables of runs that differ in nothing but seeds, at most 5 % say that anything has
    moved. Fewer `metrics` are fewer questions, and smaller differences are found.

    **Not settled** is what has one seed in either run, since its spread is unknown; what differs although neither run
    has any spread, which a coarse metric can do by chance; and what the two runs measured in different ways.
    "Within the spread" does not say that nothing moved: more seeds may show it, and with two only large differences
    are found. The test trusts that results spread about as a bell: where some seeds lose a latent and others do not,
    look at the seeds, and give more of them.

    Arguments:
        a, b: finished runs (name or folder), or their results, one row a model, as `hvae_core.load_results` returns.
            Only of runs is it known in which keys their configurations differ.
        metrics: columns of the results; None: all that both have.

    Raises:
        InputError: a run is not there or not finished, the data differ, no setting is shared, or a metric is not in
            both.

    Source: Welch (1947); Benjamini and Hochberg (1995).

    Example:
        >>> a = pd.DataFrame({"beta_1": 1.0, "seed": [0, 1, 2], "rate_1": [9.0, 9.1, 9.2], "psnr": [15, 15.5, 16]})
        >>> found = compare(a, a.assign(psnr=a["psnr"] + 3))
        >>> found.table[["metric", "difference", "verdict"]].to_numpy().tolist()
        [['rate_1', 0.0, 'within the spread'], ['psnr', 3.0, 'moved']]
    """
    first, second = (_results(run) for run in (a, b))
    names = _names(first, second)
    _check_data(names, first, second)
    keys = _keys(names, first, second)
    frames = tuple(_prepared(name, frame, keys) for name, frame in zip(names, (first, second), strict=True))
    chosen = _chosen(frames, keys, metrics)
    unlike, notes = _how_they_differ(a, b, first, second, chosen)
    index, left_out = _shared(names, keys, frames)
    cubes = [_cube(name, frame, index, chosen) for name, frame in zip(names, frames, strict=True)]
    table = _by_setting(cubes, index, chosen, unlike)
    overall = _over_settings(cubes, chosen, unlike, table)
    points = tuple(frame.groupby(keys).mean(numeric_only=True).loc[index].reset_index() for frame in frames)
    few = [f"{letter} has one seed" for letter, frame in zip("ab", frames, strict=True) if frame["seed"].nunique() < 2]
    if few:
        notes.append(f"{' and '.join(few)}: nothing is settled without the spread over seeds (--set seeds=3)")
    notes += _of_the_rate((points[0], points[1]), chosen)
    return Comparison(names, keys, [*notes, left_out], table, overall, (points[0], points[1]))


def _of_the_rate(points: tuple[pd.DataFrame, pd.DataFrame], chosen: Sequence[str]) -> list[str]:
    """A line on the settings whose I_q(y; z_L) may say more of the rate than of the labels, if there are any."""
    top = count_layers(points[0])
    told, bound = information(top), at_least(top).column
    if told.column not in chosen:
        return []
    both = np.logical_and.reduce([np.isfinite(frame[told.column]) for frame in points])
    doubted = both & np.logical_or.reduce([is_saturated(frame) | is_uncontrolled(frame) for frame in points])
    if not doubted.any():
        return []
    instead = f"; {bound} holds anywhere" if bound in chosen else ""
    count = f"{doubted.sum()} of {both.sum()} {_settings(both.sum())}"
    return [
        f"{told.column} may be the rate's, not the labels', at {count}: "
        f"{told.column}_permuted is above {SATURATED} there or not known{instead}"
    ]


def shown_metric(column: str, top: int) -> Metric:
    """A column of the results as it is shown, for a hierarchy of ``top`` layers.

    Example:
        >>> shown_metric("acc_mu2_knn", 2).label, shown_metric("train_rate_1", 2).unit
        ('kNN on $\\\\mu_2$ (%)', 'nats per image')
    """
    known = {metric.column: metric for metric in (PSNR, ELBO, INCEPTION, information(top), at_least(top))}
    known |= {f"rate_{n}": Metric(f"rate_{n}", rate_name(n, top), "nats per image") for n in layer_numbers(top)}
    known["distortion"] = Metric("distortion", "D", "nats per image")
    if column in known:
        return known[column]
    _, _, rest = column.partition("acc_")
    latent, _, probe = rest.partition("_")
    if latent and probe in CLASSIFIERS and column == f"acc_{rest}":
        return accuracy(latent, probe)
    if column.startswith("accuracy_bound"):
        return Metric(column, column, "%", 100)
    nats = ("rate", "distortion", "train_", "iwae_", "mi_")
    unit = "nats per image" if column.startswith(nats) else "dB" if column.startswith("psnr") else ""
    return Metric(column, column, unit)


# --- what is compared ---------------------------------------------------------------------------------------


def _results(run: str | Path | pd.DataFrame) -> pd.DataFrame:
    frame = run if isinstance(run, pd.DataFrame) else load_results(run)
    if frame.empty:
        raise InputError("the results have no rows; give those of a finished run")
    try:
        count_layers(frame)
    except ValueError as error:
        raise InputError(f"run '{frame.attrs.get('run', '')}': {error}") from None
    return frame if "seed" in frame else frame.assign(seed=0)


def _names(a: pd.DataFrame, b: pd.DataFrame) -> tuple[str, str]:
    first, second = (str(frame.attrs.get("run") or letter) for frame, letter in ((a, "a"), (b, "b")))
    return (first, second) if first != second else (f"{first} (a)", f"{second} (b)")


def _check_data(names: tuple[str, str], a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Metrics on other images are no metrics to compare."""
    data = [", ".join(map(str, frame["dataset"].unique())) if "dataset" in frame else "" for frame in (a, b)]
    if data[0] != data[1]:
        raise InputError(
            f"run '{names[0]}' is of {data[0]} and run '{names[1]}' of {data[1]}; metrics compare on the same data only"
        )
    scored = [frame.attrs.get("scored") for frame in (a, b)]
    if None not in scored and scored[0] != scored[1]:
        raise InputError(
            f"runs '{names[0]}' and '{names[1]}' were measured on different numbers of test images; give both the "
            "same test_images"
        )


def _keys(names: tuple[str, str], a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    depths = [count_layers(frame) for frame in (a, b)]
    if depths[0] != depths[1]:
        raise InputError(
            f"run '{names[0]}' has {depths[0]} layers of latents and run '{names[1]}' has {depths[1]}; "
            "settings compare at equal numbers of layers only"
        )
    betas = [f"beta_{n}" for n in layer_numbers(depths[0])]
    keys = settings(a) if settings(a) == settings(b) else betas
    several = any(frame["model"].nunique() > 1 for frame in (a, b) if "model" in frame)
    return ["model", *keys] if several else keys


def _prepared(name: str, frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The models that are well, their settings rounded so that equal ones are equal, and numbers as floats."""
    well = frame[drawable(frame)].reset_index(drop=True)
    for key in keys:
        if well[key].isna().any():
            raise InputError(
                f"run '{name}': some of its models have no {key}, so that they are at no setting to compare"
            )
    numbers = [c for c in well if c not in NO_METRICS and not str(c).endswith(NOT_COMPARED)]
    values = well[numbers].apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    for key in keys:
        if key != "model":
            values[key] = values[key].map(lambda value: float(f"{value:.6g}"))
    return values.assign(**{name: well[name] for name in ("model", "seed") if name in well})


def _chosen(frames: Sequence[pd.DataFrame], keys: list[str], metrics: Sequence[str] | None) -> list[str]:
    first, second = (set(frame.columns[frame.notna().any()]) for frame in frames)
    both = [c for c in frames[0] if c in first & second and c not in (*keys, *NO_METRICS)]
    for metric in metrics or ():
        if metric not in both:
            raise InputError(f"metric '{metric}': allowed are {', '.join(both)}")
    return list(dict.fromkeys(metrics)) if metrics else both


def _shared(names: tuple[str, str], keys: list[str], frames: Sequence[pd.DataFrame]) -> tuple[pd.Index, str]:
    """The settings of both, and a line on what is left out."""
    first, second = (frame.set_index(keys).index.unique() for frame in frames)
    index = first.intersection(second).sort_values()
    if index.empty:
        raise InputError(
            f"runs '{names[0]}' and '{names[1]}' share no setting of {', '.join(keys)} with a finished model; "
            "give both some that are the same"
        )
    only = [f"{len(own) - len(index)} of {len(own)} of {letter}" for own, letter in ((first, "a"), (second, "b"))]
    line = f"{len(index)} {_settings(len(index))} in both are compared"
    return index, f"{line}; left out: {', '.join(only)}" if len(index) < max(len(first), len(second)) else line


def _settings(count: int) -> str:
    return "setting" if count == 1 else "settings"


# --- how the runs differ ------------------------------------------------------------------------------------


def _how_they_differ(
    a: str | Path | pd.DataFrame,
    b: str | Path | pd.DataFrame,
    first: pd.DataFrame,
    second: pd.DataFrame,
    chosen: Sequence[str],
) -> tuple[dict[str, str], list[str]]:
    """Metrics that were measured in different ways, each with the reason, and lines on what the runs are."""
    objectives = [str(frame.attrs.get("objective", "")) for frame in (first, second)]
    notes: list[str] = []
    unlike: dict[str, str] = {}
    for letter, frame, objective in zip("ab", (first, second), objectives, strict=True):
        several = "model" in frame and frame["model"].nunique() > 1
        line = described(frame.drop(columns="model") if several else frame)
        plain = objective in ("", "Eq. 8") and objectives[0] != objectives[1]
        notes.append(f"{letter}: {line}" + (f"; {objective or 'its objective is not known'}" if plain else ""))
    if isinstance(a, pd.DataFrame) or isinstance(b, pd.DataFrame):
        return {}, notes
    _check_images(a, b)
    if objectives[0] == objectives[1] != "Eq. 8" and _objective(a) != _objective(b):
        notes.append("the objectives differ: see objective.txt in both folders")
    one, other = (load_config(run).dump() for run in (a, b))
    changed = {key: f"{key} is {one[key]} in a and {other[key]} in b" for key in one if one[key] != other[key]}
    notes += [line for key, line in changed.items() if key not in SAID_ELSEWHERE]
    devices = [_devices(run) for run in (a, b)]
    if all(devices) and devices[0] != devices[1]:
        notes.append(f"a was trained on {devices[0]} and b on {devices[1]}")
    for metrics, keys in MEASURED_BY.items():
        reasons = [key for key in keys if key in changed]
        unlike |= dict.fromkeys(metrics if reasons else (), ", ".join(reasons))
    there = [metric for metric in unlike if metric in chosen]
    if there:
        notes.append(f"{', '.join(there)}: measured in different ways ({', '.join(set(unlike.values()))}), not settled")
    return unlike, notes


def _objective(run: str | Path) -> str:
    """Its checksum; "" where none was kept."""
    return kept_objective(load_config(run).name) if (run_folder(run) / "objective.txt").exists() else ""


def _check_images(a: str | Path, b: str | Path) -> None:
    """Data of one name may be different images."""
    kept = [_json(run_folder(run) / "data.json") for run in (a, b)]
    counts = [(data.get("train_images"), data.get("test_images")) for data in kept]
    if all(kept) and counts[0] == counts[1] and kept[0].get("fingerprint") != kept[1].get("fingerprint"):
        raise InputError(
            f"runs '{run_folder(a).name}' and '{run_folder(b).name}' are of different images, though both data sets "
            f"are called {kept[0].get('name')}; metrics compare on the same data only"
        )


def _devices(run: str | Path) -> str:
    stages = _json(run_folder(run) / "provenance.json").get("stages", {})
    return ", ".join(sorted({of["device"] for name, of in stages.items() if "train" in name and "device" in of}))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# --- the test -----------------------------------------------------------------------------------------------


def _cube(name: str, frame: pd.DataFrame, index: pd.Index, metrics: list[str]) -> np.ndarray:
    """The results of a run, ``(metrics, settings, seeds)``, null where there is none."""
    keys = list(index.names)
    if frame.duplicated([*keys, "seed"]).any():
        raise InputError(f"run '{name}' has several models at one setting with one seed; give one row a model")
    place, (seed, seeds) = index.get_indexer(frame.set_index(keys).index), pd.factorize(frame["seed"])
    cube = np.full((len(metrics), len(index), len(seeds)), np.nan)
    cube[:, place[place >= 0], seed[place >= 0]] = frame.loc[place >= 0, metrics].to_numpy(float).T
    return cube


def _by_setting(
    cubes: Sequence[np.ndarray], index: pd.Index, metrics: list[str], unlike: Iterable[str]
) -> pd.DataFrame:
    """A row a metric and setting that both runs have a value of."""
    rows = pd.concat([index.to_frame(index=False)] * len(metrics), ignore_index=True)
    tested = _tested(*(cube.reshape(-1, cube.shape[2]) for cube in cubes))
    table = pd.concat([rows.assign(metric=np.repeat(metrics, len(index))), tested], axis=1)
    return _judged(table[(table["seeds_a"] > 0) & (table["seeds_b"] > 0)].reset_index(drop=True), unlike)


def _over_settings(
    cubes: Sequence[np.ndarray], metrics: list[str], unlike: Iterable[str], table: pd.DataFrame
) -> pd.DataFrame:
    """A row a metric: for each seed the mean over the settings that all seeds of both runs have, then as ever."""
    whole = np.logical_and.reduce([np.isfinite(cube).all(axis=2) for cube in cubes])
    sums = [np.where(whole[:, :, None], cube, 0).sum(axis=1) for cube in cubes]
    count = np.where(whole.any(axis=1), whole.sum(axis=1), np.nan)
    overall = pd.concat([pd.DataFrame({"metric": metrics}), _tested(*(sum_ / count[:, None] for sum_ in sums))], axis=1)
    there = {
        "higher": table["difference"] > 0,
        "lower": table["difference"] < 0,
        "moved": table["verdict"] == MOVED,
    }
    counts = pd.DataFrame(there).groupby(table["metric"]).sum().reindex(metrics, fill_value=0)
    return _judged(overall.assign(settings=whole.sum(axis=1), **{key: counts[key].to_numpy() for key in there}), unlike)


def _tested(a: np.ndarray, b: np.ndarray) -> pd.DataFrame:
    """The test of the means of b and a, ``(questions, seeds)`` each; null where a spread is not known."""
    (mean_a, error_a, n_a), (mean_b, error_b, n_b) = (_mean(values) for values in (a, b))
    scale = ALIKE * np.maximum(np.abs(mean_a), np.abs(mean_b))
    difference = np.where(np.abs(mean_b - mean_a) <= scale, 0 * scale, mean_b - mean_a)
    square_a, square_b = (np.where(error <= scale, 0 * error, error) ** 2 for error in (error_a, error_b))
    error = np.sqrt(square_a + square_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.square(square_a + square_b) / (square_a**2 / (n_a - 1) + square_b**2 / (n_b - 1))
        freedom = np.minimum(freedom, 2 * (np.minimum(n_a, n_b) - 1))
        p = 2 * stats.t.sf(np.abs(difference) / error, freedom)
    columns = {"a": mean_a, "b": mean_b, "difference": difference, "standard_error": error}
    columns |= {"seeds_a": n_a, "seeds_b": n_b}
    alike = np.where((error == 0) & (difference == 0), 1.0, np.nan)
    return pd.DataFrame(columns | {"p_value": np.where(error > 0, p, alike)})


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, its standard error and how many it is over, ``(questions,)`` each, of what is known of each row."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, values, 0).sum(axis=1) / count
        squares = np.where(known, values - mean[:, None], 0) ** 2
        error = np.sqrt(squares.sum(axis=1) / (count - 1) / count)
    return mean, np.where(count > 1, error, np.nan), count


def _judged(table: pd.DataFrame, unlike: Iterable[str]) -> pd.DataFrame:
    """The same with p-values corrected for their number, and verdicts."""
    p = table["p_value"].where(~table["metric"].isin(list(unlike)))
    q = pd.Series(np.nan, index=table.index)
    if p.notna().any():
        q[p.notna()] = np.minimum(1, WELCH_ERRS * stats.false_discovery_control(p.dropna()))
    verdict = np.select([q <= FALSE_SHARE, q.notna()], [MOVED, WITHIN], NOT_SETTLED)
    return table.assign(p_value=p, q_value=q, verdict=verdict)


# --- in words -----------------------------------------------------------------------------------------------


def _summary(found: Comparison) -> list[str]:
    """A line a metric, and a last one on others that moved."""
    headline, rows = found.headline, found.overall.to_dict("records")
    widest = max(map(len, headline))
    lines = [f"{found.names[1]} minus {found.names[0]}, mean over settings ± standard error:"]
    lines += [f"  {row['metric']:{widest}}  {_line(found, row)}" for row in rows if row["metric"] in headline]
    moved = [row["metric"] for row in rows if row["verdict"] == MOVED or row["moved"]]
    others = [metric for metric in moved if metric not in headline]
    return [*lines, f"moved, too: {', '.join(others)}"] if others else lines


def _line(found: Comparison, row: dict[Hashable, Any]) -> str:
    """One metric: how far it moved over all settings, at how many, and where most."""
    metric = shown_metric(row["metric"], count_layers(found.points[0]))
    unit = f" {metric.unit}" if metric.unit else ""
    of_metric = found.table[found.table["metric"] == metric.column]
    error = f" ± {metric.factor * row['standard_error']:.2g}" if np.isfinite(row["standard_error"]) else ""
    line = f"{metric.factor * row['difference']:+.3g}{error}{unit}, {row['verdict']}"
    line += f"; higher at {row['higher']}, lower at {row['lower']} of {len(of_metric)}"
    moved = of_metric[of_metric["verdict"] == MOVED].to_dict("records")
    if not moved:
        return line
    most = max(moved, key=lambda one: abs(one["difference"]))
    where = ", ".join(f"{key} {_short(most[key])}" for key in found.keys)
    return f"{line}; moved at {len(moved)}, most by {metric.factor * most['difference']:+.3g} at {where}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
