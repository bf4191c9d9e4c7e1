"""The figures say what the results say: each test reads back what was drawn."""

import itertools
import json
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.text import Text
from mpl_toolkits.mplot3d.axes3d import Axes3D
from numpy.testing import assert_allclose
from PIL import Image
from scipy.spatial import ConvexHull
from scipy.stats import sem, studentized_range

from hvae_core import figures
from hvae_core.analysis.control import SATURATED
from hvae_core.analysis.frontier import upper_hull
from hvae_core.analysis.optimum import as_good, optimum
from hvae_core.analysis.points import (
    INCEPTION,
    PSNR,
    accuracy,
    best,
    chosen,
    grid_means,
    triangles,
)
from hvae_core.errors import InputError
from hvae_core.evaluation.bounds import accuracy_bound
from hvae_core.evaluation.representation import TRAIN_SHARE
from hvae_core.figures.panels import CORNERS, NO_BREAK, colour_code, neighbours, rate_plane, round_levels, wrapped
from hvae_core.names import PROBES
from hvae_core.runs.about import SCORED
from hvae_core.runs.results import columns
from hvae_core.terms import layer_numbers


def grid(size):
    """Betas from 0.1 to 100 in equal steps of the logarithm, with the nearest one to 1 replaced by 1."""
    steps = np.logspace(-1, 2, size)
    steps[np.abs(np.log(steps)).argmin()] = 1
    return steps


def synthetic(size=5, seeds=1, L=2, *, tied=False, diverged=0, labels=True):
    """Results as of a trained grid: the cheaper layer takes the rate, and layers collapse where beta is high."""
    rng = np.random.default_rng(0)
    numbers = layer_numbers(L)
    settings = (
        [(b, *[a] * (L - 1)) for b in grid(size) for a in grid(size)]
        if tied
        else list(itertools.product(grid(size), repeat=L))
    )
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
            "dataset": "mnist",
            "model": "ghvae",
            "seed": seed,
            "epochs": 200,
            "status": "ok",
            **{f"beta_{n}": b for n, b in zip(numbers, betas, strict=True)},
            **{f"{kind}rate_{n}": r for n, r in zip(numbers, rates, strict=True) for kind in ("", "train_")},
            "distortion": distortion,
            "train_distortion": distortion,
            "rate": rate,
            "elbo": -distortion - rate,
            "psnr": 10 + 9 * (1 - np.exp(-rate / 60)) + noise[2],
            "psnr_pooled": 10.0,
            "inception_score": diversity * sharpness,
            "inception_score_std": 0.1,
            "diversity": diversity,
            "sharpness": sharpness,
            f"mi_z{L}": information,
            "accuracy_bound_mi": 0.5,
            "accuracy_bound_rate": 0.9,
        }
        for latent, k in itertools.product([*(f"mu{n}" for n in numbers), f"z{L}"], range(4)):
            floor = 0.1 if latent.startswith("z") else 0.6
            row[f"acc_{latent}_{PROBES[k]}"] = min(floor + (0.85 + 0.03 * k - floor) * known + noise[3 + k], 0.99)
        rows.append(row)
    results = pd.DataFrame(rows).reindex(columns=columns(L))
    if not labels:
        results[[c for c in results if c.startswith(("acc", "mi_", "inception", "div", "sharp"))]] = None
    lost = np.linspace(0, len(results) - 1, diverged + 2).astype(int)[1:-1]
    results.loc[lost, "status"] = ["diverged", "missing"] * (diverged // 2) + ["diverged"] * (diverged % 2)
    results.loc[lost, results.columns[7:]] = np.nan
    return results


def pictures(members, n=18, shape=(1, 28, 28)):
    rng = np.random.default_rng(0)
    originals, *others = (
        rng.integers(0, 256, (*lead, n, *shape), dtype=np.uint8) for lead in ((), (members,), (members,))
    )
    return figures.Images(originals, *others)


OBJECTIVE = "not Eq. 8 but terms.distortion.mean() + terms.rates.mean(0).clamp(min=3.0) @ betas"


def of_run(results, name="a-run-with-a-name", objective=OBJECTIVE, scored=2000):
    """As `hvae_core.load_results` returns it."""
    results.attrs |= {"run": name, "objective": objective, "scored": scored}
    return results


PROBABILITIES = np.full(10, 0.1)
FIGURES = {
    "fig1": figures.fig1,
    "fig3": figures.fig3,
    "fig4": lambda r: figures.fig4(r, pictures(len(r))),
    "fig5": figures.fig5,
    "fig6": lambda r: figures.fig6(r, PROBABILITIES),
    "fig7": figures.fig7,
    "fig8": figures.fig8,
    "fig9": figures.fig9,
}


SHOWN = {
    "rate_split": lambda r: figures.rate_split(r, title="digits, ghvae, 20 epochs; Eq. 8"),
    "diversity_sharpness": figures.diversity_sharpness,
    "accuracy_and_bound": lambda r: figures.accuracy_and_bound(r, PROBABILITIES),
    "layers": figures.layers,
    "surface": lambda r: figures.surface(r, r),
}


def controlled(results, rows, top=2):
    """With I_q of labels at random: just above what is marked at some rows, and just below at the others."""
    value = np.where(results.index.isin(rows), 1.01 * SATURATED, 0.99 * SATURATED)
    return results.assign(**{f"mi_z{top}_permuted": value})


def drawn(ax, gid):
    """The places of all marks of a kind in a panel, (marks, 2)."""
    marks = [np.asarray(c.get_offsets()) for c in ax.collections if c.get_gid() == gid]
    return np.concatenate(marks) if marks else np.empty((0, 2))


def rates(results, rows):
    return results.loc[rows, ["rate_2", "rate_1"]].to_numpy()


def colour_panel(fig):
    return next(ax for ax in fig.axes if not isinstance(ax, Axes3D))


def words(fig):
    return "\n".join(text.get_text() for text in fig.findobj(Text))


# --- grid points ----------------------------------------------------------------------------------------------


def test_the_models_of_fig_4_are_among_those_that_keep_images():
    points = synthetic(4)
    first = chosen(grid_means(points))
    assert list(first) == ["best reconstruction", "best samples", "between"]
    hidden = points.assign(train_distortion=points["train_distortion"].where(~points.index.isin(first.values())))
    second = chosen(grid_means(hidden))
    assert len(second) == 3 and not set(second.values()) & set(first.values())
    assert chosen(grid_means(points.assign(train_distortion=np.nan))) == first, "none known: all of them"


def test_grid_means_are_over_the_seeds_that_are_there():
    results = synthetic(3, seeds=3)
    results.loc[0, ["status", "psnr"]] = ["diverged", 1e9]
    results.loc[4, "psnr"] = np.inf
    before = results.copy()
    points = figures.grid_means(results)
    pd.testing.assert_frame_equal(results, before)
    assert len(points) == 9 and points["seeds"].tolist() == [2] + [3] * 8
    assert points["psnr"][0] == pytest.approx(results["psnr"][1:3].mean())
    assert points["psnr_sd"][0] == pytest.approx(results["psnr"][1:3].std())
    assert points["psnr"][1] == pytest.approx(results["psnr"][[3, 5]].mean())


def test_a_setting_without_models_stays_as_a_hole():
    results = synthetic(5, diverged=2)
    points = figures.grid_means(results)
    lost = results["status"] != "ok"
    assert len(points) == 25 and lost.sum() == 2
    assert points.loc[lost, ["rate", "psnr"]].isna().all(axis=None) and points.loc[~lost, "psnr"].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.drop(columns="beta_1"), "beta_1"),
        (lambda r: r.drop(columns=["rate_2", "rate_1"]), "rate_1"),
        (lambda r: r.assign(dataset=["a"] * 8 + ["b"]), "one dataset, not a, b"),
        (lambda r: r.iloc[:0], "no rows"),
    ],
)
def test_frames_that_no_figure_can_be_about(change, message):
    with pytest.raises(ValueError, match=message):
        figures.grid_means(change(synthetic(3)))


def test_the_surface_joins_neighbours_and_has_holes():
    whole = triangles(figures.grid_means(synthetic(5)))
    assert whole.shape == (2 * 4 * 4, 3)
    index = np.stack([whole // 5, whole % 5])  # rows are sorted by betas
    assert (np.ptp(index, axis=2) == 1).all()
    results = synthetic(5)
    results.loc[12, "status"] = "diverged"
    holed = triangles(figures.grid_means(results))
    assert (12 not in holed and len(holed) == 32 - 4 - 2 + 0) or len(holed) == 28
    assert triangles(figures.grid_means(synthetic(4, L=3, tied=True))).shape == (18, 3)
    known = np.add.outer(np.arange(5) % 2, np.arange(5) % 2).ravel() == 0
    coarse = triangles(figures.grid_means(synthetic(5)), known)
    assert coarse.shape == (2 * 2 * 2, 3) and known[coarse].all(), "over every second beta"
    assert len(triangles(figures.grid_means(synthetic(5)), np.zeros(25, bool))) == 0
    assert len(triangles(figures.grid_means(synthetic(3, L=3)))) == 0
    assert len(triangles(figures.grid_means(synthetic(5, L=1)))) == 0


# --- which run, which objective -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "more"),
    [("fig3", ""), *((name, ", betas rising from 0 over the first 20% of training") for name in FIGURES)],
)
def test_figures_say_what_they_are_of(name, more):
    fig = FIGURES[name](of_run(synthetic(4, seeds=2), objective=f"Eq. 8{more}"))
    (line,) = fig.texts
    said = "a-run-with-a-name: mnist, ghvae, 200 epochs, 2 seeds, 32 models at 16 settings"
    shown = line.get_text().replace("\n", " ")
    assert shown.startswith(said) and said in fig.caption
    assert shown.endswith(more) if more else shown == said, "Eq. 8 goes without saying"
    assert "VAE (all β = 1)" in words(fig) or name == "fig4"


@pytest.mark.parametrize("name", FIGURES)
def test_under_another_objective_nothing_is_called_a_vae(name):
    fig = FIGURES[name](of_run(synthetic(4)))
    assert OBJECTIVE in fig.texts[0].get_text().replace("\n", " ")
    for ax in fig.axes:
        assert not [a for a in ax.get_children() if a.get_gid() in ("VAE", "β-VAE", "β-VAE line")]
    assert "VAE" not in (words(fig) + fig.caption).replace("ghvae", "").replace("highest ELBO", "") or name == "fig4"


# --- near ties ------------------------------------------------------------------------------------------------


def test_models_as_good_as_the_best_have_small_stars():
    results = synthetic(5, seeds=3)
    points = grid_means(results)
    near = points[optimum(points, PSNR)].index
    assert 1 < len(near) < len(points), "the seeds differ by noise"
    fig = figures.fig3(results)
    stars = drawn(colour_panel(fig), "as good")
    best_one = drawn(colour_panel(fig), "best")
    assert_allclose(np.sort(np.vstack([stars, best_one]), axis=0), np.sort(rates(points, near), axis=0))
    assert "as good" in words(fig) and "by seeds and test images" in fig.caption


def test_of_one_seed_the_estimators_own_error_counts():
    """Of 25 equal settings the lowest and the highest are 5.3 standard deviations apart in one grid of twenty."""
    apart = studentized_range.isf(0.05, 25, np.inf) / np.sqrt(2)
    points = grid_means(of_run(synthetic(5)))
    five = np.array([3.0, 3.1, 2.8, 3.3, 2.9])  # parts of the samples; `std()` divides by 5, not 4
    limit = apart * np.sqrt(2) * sem(five)
    scores = np.full(25, 3.0)
    scores[[4, 9]] += 0.99 * limit, limit
    known = points.assign(inception_score=scores, inception_score_std=five.std())
    rows, source = as_good(known, INCEPTION)
    assert source == "samples" and set(rows) == set(range(25)) - {9}
    known.loc[9, "inception_score"] += 0.01 * limit
    assert as_good(known, INCEPTION)[0].tolist() == [4]
    rbf = accuracy("mu2", "rbf_svm")
    share = 0.9 - 0.004 * np.arange(25)
    near = 0.9 - share <= apart * np.sqrt((0.9 * 0.1 + share * (1 - share)) / 2000)
    rows, source = as_good(points.assign(**{rbf.column: share}), rbf)
    assert source == "test images" and rows.tolist() == np.flatnonzero(near)[1:].tolist() and 2 < near.sum() < 20
    assert as_good(points, PSNR)[1] == "" and not len(as_good(points, PSNR)[0])
    behind = np.where(np.arange(25) > 0, 1 / apart, 0)
    paired = points.assign(psnr=20 - 1.01 * np.arange(25), psnr_behind_se=behind)
    assert as_good(paired, PSNR)[0].tolist() == []
    assert as_good(paired.assign(psnr=20 - 0.99 * np.arange(25)), PSNR)[0].tolist() == [1]
    unknown = grid_means(synthetic(5))
    assert not as_good(unknown, rbf)[1], "on how many images is not known"
    assert "as good" not in words(figures.fig3(synthetic(5)))


def test_accuracies_are_of_the_images_that_classifiers_do_not_learn_from():
    assert pytest.approx(1 - TRAIN_SHARE) == SCORED


# --- the three of Fig. 4 --------------------------------------------------------------------------------------


def test_the_model_between_has_both_scores_between():
    points = grid_means(synthetic(5))
    high, good, between = chosen(points).values()
    psnr, score = points["psnr"], points["inception_score"]
    assert psnr[good] < psnr[between] < psnr[high] and score[high] < score[between] < score[good]
    share = np.minimum(
        (psnr - psnr[good]) / (psnr[high] - psnr[good]), (score - score[high]) / (score[good] - score[high])
    )
    assert share.drop([high, good]).idxmax() == between


def test_where_one_model_is_best_at_both_the_vae_stands_in():
    points = grid_means(synthetic(5))
    row = points.index[(points["beta_2"] == 1) & (points["beta_1"] == 1)][0]
    points.loc[3, ["psnr", "inception_score"]] = 99.0
    assert list(chosen(points).items())[:2] == [("best reconstruction and samples", 3), ("VAE", row)]
    points.loc[row, ["psnr", "inception_score"]] = 100.0
    assert next(iter(chosen(points).items())) == ("best reconstruction and samples (VAE)", row)
    unlabelled = chosen(grid_means(synthetic(5, labels=False)))
    assert list(unlabelled)[:2] == ["best reconstruction", "VAE"]


def test_crosses_are_in_both_panels_of_fig3_and_their_numbers_name_the_columns_of_fig4():
    results = synthetic(5)
    fig = figures.fig3(results)
    space, plane = fig.axes[:2]
    points = figures.grid_means(results)
    rows = list(chosen(points).values())
    marks = [c._offsets3d for c in space.collections if c.get_gid() == "chosen"]
    places = [tuple(float(axis[0]) for axis in mark) for mark in marks]
    assert_allclose(places, points.loc[rows, ["rate_2", "rate_1", "psnr"]].to_numpy(float))
    for ax in (space, plane):
        assert [text.get_text() for text in ax.texts if text.get_text() in "123"] == ["1", "2", "3"]
    titles = [ax.get_title().splitlines()[0] for ax in figures.fig4(results, pictures(25)).axes[:3]]
    assert titles == ["1: best reconstruction", "2: best samples", "3: between (VAE)"]


# --- what is drawn --------------------------------------------------------------------------------------------


def test_colours_between_models_are_of_values_between_theirs():
    results = synthetic(5)
    ax = colour_panel(figures.fig3(results, rate_scale="linear"))
    (image,) = [image for image in ax.images if image.get_array() is not None]
    shown = image.get_array()
    assert image.get_clim() == (results["psnr"].min(), results["psnr"].max())
    assert shown.min() >= results["psnr"].min() and shown.max() <= results["psnr"].max()
    to_axes = ax.transData + ax.transAxes.inverted()
    close = 0
    for place, psnr in zip(to_axes.transform(rates(results, results.index)), results["psnr"], strict=True):
        x, y = (np.clip(np.round(place * len(shown) - 0.5), 0, len(shown) - 1)).astype(int)
        around = shown[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].compressed()
        close += len(around) > 0 and np.abs(around - psnr).min() < 0.3
    assert close >= 20, "at a model it is the model's own, but where several share a place"


def test_colours_over_the_rates_do_not_fold():
    """Each place of a panel has one colour: no two triangles overlap."""
    results = synthetic(7)
    results["rate_2"] *= np.random.default_rng(1).uniform(0.5, 2, len(results))  # crosses the lines of the grid
    points = grid_means(results)
    fig = figures.fig3(results)
    ax = colour_panel(fig)
    corners = neighbours(ax, points, rate_plane(points), np.ones(len(points), bool))
    place = np.sqrt(points[["rate_2", "rate_1"]].to_numpy())
    (x, y), (u, v) = (np.moveaxis(place[corners[:, k]] - place[corners[:, 0]], -1, 0) for k in (1, 2))
    hull = ConvexHull(place).volume
    assert np.abs(x * v - y * u).sum() / 2 <= hull * (1 + 1e-9)
    assert len(corners) > 40


@pytest.mark.parametrize("scale", ["sqrt", "linear"])
def test_marks_are_where_the_results_say(scale):
    results = synthetic(5, diverged=1)
    ok = results[results["status"] == "ok"]
    ax = colour_panel(figures.fig3(results, rate_scale=scale))
    assert ax.get_xscale() == ("function" if scale == "sqrt" else "linear")
    assert_allclose(drawn(ax, "VAE"), rates(ok, ok.query("beta_2 == 1 and beta_1 == 1").index))
    assert_allclose(drawn(ax, "β-VAE"), rates(ok, ok.query("beta_2 == beta_1").index))
    assert_allclose(drawn(ax, "hull"), rates(ok, ok.index[upper_hull(ok["rate"], ok["psnr"])]))
    assert_allclose(drawn(ax, "best"), rates(ok, [ok["psnr"].idxmax()]))
    shown = list(chosen(figures.grid_means(results)).values())
    assert shown[:2] == [ok["psnr"].idxmax(), ok["inception_score"].idxmax()] and len(shown) == 3
    assert_allclose(drawn(ax, "chosen"), rates(results, shown))
    assert len(drawn(ax, "models")) == 24
    totals = [line.get_xydata().sum(1) for line in ax.lines if line.get_gid() == "diagonal"]
    assert len(totals) >= 2
    for total in totals:
        assert_allclose(total, total[0])
        assert f"{total[0]:g}" in [text.get_text() for text in ax.texts]


def test_several_seeds_are_drawn_as_one_point():
    fig = figures.fig3(synthetic(5, seeds=3))
    assert len(drawn(colour_panel(fig), "models")) == 25
    assert "75 models at 25 settings" in words(fig) and "Means over up to 3 seeds" in fig.caption


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_not_drawn_is_said(name):
    results = synthetic(4, diverged=3)
    fig = FIGURES[name](results)
    message = "16 models, of which 3 not drawn (2 diverged, 1 missing)"
    assert message in words(fig) and message in fig.caption


def test_metrics_that_were_not_computed():
    fig = figures.fig5(synthetic(4, labels=False))
    assert words(fig).count("not computed") == 3 and len(drawn(colour_panel(fig), "best")) == 0
    without = synthetic(4).drop(columns=["diversity", "inception_score"])
    assert words(figures.fig5(without)).count("not computed") == 2
    some = synthetic(4)
    some.loc[:9, "sharpness"] = None
    assert "6 of 16 known" in words(figures.fig5(some)).replace(NO_BREAK, " ")
    assert "not computed:\nRBF SVM" in words(figures.fig1(synthetic(4).drop(columns="acc_mu2_rbf_svm")))


RUNS = {
    "L1": (synthetic(4, L=1), FIGURES),
    "L3": (synthetic(3, L=3), FIGURES),
    "L3-tied": (synthetic(3, L=3, tied=True), ("fig1", "fig3", "fig4")),
    "no labels": (synthetic(3, labels=False), ("fig1", "fig4", "fig6", "fig9")),
    "all diverged": (synthetic(3).assign(status="diverged"), ("fig1", "fig3", "fig4", "fig6", "fig9")),
    "one model": (synthetic(3).iloc[[4]], ("fig1", "fig3", "fig4", "fig6")),
    "nulls as objects": (synthetic(3).astype(object), ("fig1", "fig6")),
}


@pytest.mark.parametrize(("run", "name"), [(run, name) for run, (_, names) in RUNS.items() for name in names])
def test_every_figure_is_made_of_any_run(run, name):
    fig = FIGURES[name](RUNS[run][0])
    assert fig.caption.endswith(".")
    if name in ("fig1", "fig3", "fig6"):
        fig.draw_without_rendering()


def test_axes_name_the_layers():
    ax = colour_panel(figures.fig3(synthetic(3, L=3)))
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "$R(z_3)$ (nats, √ scale)",
        r"$R(z_{<3}\,|\,z_3)$ (nats, √ scale)",
    )
    results = synthetic(3, L=3)
    assert_allclose(
        drawn(ax, "VAE")[0, 1],
        results.query("beta_3 == beta_2 == beta_1 == 1")[["rate_2", "rate_1"]].sum(axis=1),
    )


def test_all_metrics_over_betas_has_a_cell_for_each_model():
    results = synthetic(5, diverged=1)
    ax = colour_panel(figures.fig9(results))
    cells = next(c for c in ax.collections if c.get_gid() == "models")
    assert ax.get_xscale() == ax.get_yscale() == "log"
    for path, shade in zip(cells.get_paths(), cells.get_array(), strict=True):
        (left, low), (right, high) = path.vertices.min(0), path.vertices.max(0)
        inside = results["beta_2"].between(left, right) & results["beta_1"].between(low, high)
        assert results["psnr"][inside].tolist() == [shade]
    with pytest.raises(ValueError, match="'rates' or 'betas'"):
        figures.all_metrics(results, "colours")


def test_fig4_shows_the_models_it_names():
    results, images = synthetic(4, seeds=2, diverged=2), pictures(32, n=5, shape=(3, 8, 8))
    fig = figures.fig4(results, images)
    points = figures.grid_means(results)
    first = points.loc[points["psnr"].idxmax(), ["beta_2", "beta_1"]]
    ok = (results["beta_2"] == first["beta_2"]) & (results["beta_1"] == first["beta_1"]) & (results["status"] == "ok")
    shown = fig.axes[3].images[0].get_array()
    assert_allclose(shown[:8, 9:17], images.reconstructions[np.flatnonzero(ok)[0], 1].transpose(1, 2, 0))
    model = points.loc[points["psnr"].idxmax()]  # its numbers are means over seeds, as in the other figures
    title = fig.axes[0].get_title()
    assert title.startswith("1: best reconstruction\n")
    assert f"= {model['rate_1']:.3g}" in title and f"PSNR {model['psnr']:.3g} dB" in title
    with pytest.raises(ValueError, match="32 models"):
        figures.fig4(results, pictures(31))
    assert "not computed" in words(figures.fig4(results, None))


def test_fig6_draws_the_bound_and_the_hull():
    results = synthetic(5)
    mode, sample = figures.fig6(results, PROBABILITIES).axes
    for ax, latent in ((mode, "mu2"), (sample, "z2")):
        nats, bound = next(line for line in ax.lines if line.get_gid() == "bound").get_data()
        assert_allclose(bound, 100 * accuracy_bound(nats, PROBABILITIES))
        hull = upper_hull(results["rate"], results[f"acc_{latent}_rbf_svm"])
        assert_allclose(drawn(ax, "hull")[:, 1], 100 * results[f"acc_{latent}_rbf_svm"][hull])
    assert "does not apply" in mode.get_title() and "bound applies" in sample.get_title()
    unknown = figures.fig6(results)
    assert "not drawn" in unknown.caption and "Eq. 11" not in words(unknown)


def test_the_colour_code_can_be_read_by_the_colour_blind():
    colours = colour_code(figures.grid_means(synthetic(5)))
    assert_allclose(colours[[0, 4, 20, 24]], CORNERS.reshape(4, 3))
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    # Machado, Oliveira and Fernandes (2009), severity 1: protanopia, deuteranopia, tritanopia.
    for matrix in (
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ):
        seen = np.clip(linear @ np.transpose(matrix), 0, 1) ** (1 / 2.2)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert distance[~np.eye(25, dtype=bool)].min() > 0.04


SHOWS_INFORMATION = {
    "fig7": ["rate_2", "rate_1"],
    "fig8": ["rate_2", "rate_1"],
    "fig9": ["beta_2", "beta_1"],
}


@pytest.mark.parametrize("name", SHOWS_INFORMATION)
def test_strokes_go_through_the_settings_where_random_labels_have_information_and_no_others(name):
    rows = [3, 7, 12]
    results = controlled(synthetic(5), rows)
    fig = FIGURES[name](results)
    for ax in fig.axes:
        marked = rows if ax.get_title().startswith("$I_q(y; z_2)$") else []
        assert_allclose(drawn(ax, "saturated"), results.loc[marked, SHOWS_INFORMATION[name]])
    assert "Strokes: 3 of 25 settings whose labels at random have more than 0.1 nats" in fig.caption
    assert "was not computed" not in fig.caption and "random labels: > 0.1 nats" in words(fig)


@pytest.mark.parametrize("name", SHOWS_INFORMATION)
def test_without_control_there_are_no_strokes_and_the_caption_says_so(name):
    results = synthetic(5)
    partly = controlled(results, [3])
    partly.loc[[7, 12], "mi_z2_permuted"] = np.nan
    for known, strokes, said in (
        (controlled(results, []), 0, ""),
        (results, 0, "was not computed: from an R(z_2) a few nats below log N on"),
        (results.drop(columns="mi_z2_permuted"), 0, "was not computed: from"),
        (partly, 1, "was not computed at 2 of 25 settings, which have no strokes: from"),
        (synthetic(5, labels=False), 0, ""),
    ):
        fig = FIGURES[name](known)
        assert sum(len(drawn(ax, "saturated")) for ax in fig.axes) == strokes
        assert said in fig.caption and ("was not computed" in fig.caption) == bool(said)
        assert ("Strokes: 1 of 23" in fig.caption) == ("random labels" in words(fig)) == bool(strokes)


def test_of_some_points_measured_the_others_count_as_neither():
    results = controlled(synthetic(5), [3, 7, 12])
    rest = results.index.difference([0, 3, 7, 11])
    results.loc[rest, [c for c in results if c.startswith(("acc", "mi_", "inception", "div", "sharp"))]] = np.nan
    assert "Strokes: 2 of 4 settings" in (said := figures.fig7(results).caption) and "not computed" not in said


def test_table1_is_the_best_of_all_models():
    results = synthetic(5, diverged=2)
    results["acc_z2_knn"] = None
    table = figures.table1(results)
    assert table.index.tolist() == ["mu_2", "mu_1", "z_2 (sampled)"]
    row = results["acc_mu1_rbf_svm"].idxmax()
    assert table.loc["mu_1", "RBF SVM (%)"] == pytest.approx(100 * results["acc_mu1_rbf_svm"][row], abs=0.005)
    assert table.loc["mu_1", "RBF SVM: betas"] == f"({results['beta_2'][row]:.3g}, {results['beta_1'][row]:.3g})"
    assert pd.isna(table.loc["z_2 (sampled)", "kNN (%)"])


# --- nothing is clipped, nothing overlaps -----------------------------------------------------------------------


def labels_of(fig):
    """Titles, axis labels, tick labels and legend entries, with whether they are tilted (of a 3-d axis)."""

    def walk(artist):
        if not artist.get_visible():
            return
        if isinstance(artist, Axis):
            tilted = isinstance(artist.axes, Axes3D)
            if artist.axes.axison:
                ticks = [] if tilted else artist._update_ticks()
                yield from ((label, False) for tick in ticks for label in (tick.label1, tick.label2))
                yield artist.label, tilted
        elif isinstance(artist, Text):
            yield artist, False
        else:
            inside = getattr(artist, "texts", []) if isinstance(artist, Axes) else []
            for child in artist.get_children():
                if child not in inside:  # labels among the data, with a halo
                    yield from walk(child)

    return [(text, tilted) for text, tilted in walk(fig) if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("fig1", synthetic(21, diverged=9)),
        ("fig1", of_run(synthetic(5, seeds=2))),
        ("fig3", synthetic(5, seeds=2, diverged=3)),
        ("fig3", of_run(synthetic(5))),
        ("fig5", synthetic(5)),
        ("fig6", synthetic(5)),
        ("fig7", of_run(synthetic(5, seeds=2))),
        ("fig7", controlled(synthetic(5), range(12))),
        ("fig4", synthetic(4)),
        ("fig8", synthetic(5)),
        ("fig9", synthetic(3, L=3)),
        ("rate_split", synthetic(3).iloc[:3]),
        ("diversity_sharpness", of_run(synthetic(4))),
        ("accuracy_and_bound", of_run(synthetic(4))),
        ("accuracy_and_bound", controlled(synthetic(4), range(6))),
        ("layers", of_run(synthetic(4))),
        ("surface", of_run(synthetic(4))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_text_is_legible(name, results):
    fig = (FIGURES | SHOWN)[name](results)
    fig.draw_without_rendering()
    labels = labels_of(fig)
    boxes = [(text, text.get_window_extent(), tilted) for text, tilted in labels]
    assert len(boxes) > 6
    for text, box, _ in boxes:
        assert text.get_fontsize() >= 7, text
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < fig.bbox.width + 1 and box.y1 < fig.bbox.height + 1, text
    for (text, a, tilted), (other, b, also_tilted) in itertools.combinations(boxes, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert tilted or also_tilted or wide < 1 or high < 1.5, (text, other)


@given(st.lists(st.text("abc-/_$β", min_size=1, max_size=60), max_size=8), st.integers(5, 40))
def test_lines_are_broken_between_words_only(parts, letters):
    text = " ".join(parts)
    assert wrapped(text, letters).split() == text.split()


def test_wide_words_at_the_left_are_whole_in_a_notebook():
    names = ["a name that is as wide as a third of the figure or more", "b"]
    terms = synthetic(3)[["beta_2", "beta_1", "distortion", "rate_2", "rate_1"]].iloc[:2]
    shown = np.asarray(Image.open(BytesIO(figures.rate_split(terms, names)._repr_png_())).convert("L"))
    assert (shown[:, :3] == 255).all() and (shown[:, -3:] == 255).all() and (shown < 128).any()


# --- files ------------------------------------------------------------------------------------------------------


def test_saving_writes_three_files_and_the_same_bytes_again(tmp_path):
    results = synthetic(3)
    paths = figures.save_figure(figures.fig3(results), tmp_path / "new", "fig3", provenance={"commit": "abc"})
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["fig3.json", "fig3.pdf", "fig3.png"]
    first = [path.read_bytes() for path in paths]
    figures.save_figure(figures.fig3(results), tmp_path / "new", "fig3", provenance={"commit": "abc"})
    assert [path.read_bytes() for path in paths] == first
    note = json.loads((tmp_path / "new/fig3.json").read_text())
    assert note["commit"] == "abc" and note["caption"].startswith("PSNR")
    with Image.open(tmp_path / "new/fig3.png") as image:
        assert image.size[0] >= 200 * 5.5


def test_a_figure_shows_itself_in_a_notebook():
    assert figures.fig6(synthetic(3))._repr_png_().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        figures.save_table(figures.table1(synthetic(3)), tmp_path / "file", "table1", provenance={})


def test_tables_are_saved_for_people_and_programs(tmp_path):
    table = figures.table1(synthetic(3, labels=False))
    figures.save_table(table, tmp_path, "table1", provenance={"inputs": ["results.parquet"]})
    lines = (tmp_path / "table1.md").read_text().splitlines()
    assert lines[0].startswith("| latent | LR (%) |") and "not computed" in lines[2]
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    back = pd.read_csv(tmp_path / "table1.csv", index_col="latent")
    assert back["LR (%)"].isna().all() and list(back.columns) == list(table.columns)
    assert json.loads((tmp_path / "table1.json").read_text())["inputs"] == ["results.parquet"]
    plain = pd.DataFrame({"layer": ["Conv(1,\n2)"], "parameters": [7]})
    figures.save_table(plain, tmp_path, "table2", provenance={})
    assert (tmp_path / "table2.md").read_text().splitlines()[2] == "| Conv(1,<br>2) | 7 |"


@settings(deadline=None)
@given(
    st.floats(1e-9, 1e9) | st.integers(-6, 6).map(lambda k: float(np.nextafter(10.0**k, 0))),
    st.sampled_from(["sqrt", "linear"]),
    st.integers(2, 5),
)
def test_round_levels_lie_within_the_axis(highest, scale, count):
    levels = round_levels(highest, scale, count)
    assert len(levels) >= (scale == "sqrt")
    assert (np.diff(levels) > 0).all()
    assert ((levels > 0) & (levels <= highest)).all()


def test_a_figure_in_a_notebook_has_its_caption_below(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    fig = figures.fig6(synthetic(3))
    fig._ipython_display_()
    assert shown[0].data.startswith(b"\x89PNG") and shown[1].data == fig.caption


def test_optima_of_fig1_are_among_the_models_of_which_all_metrics_are_known():
    results = synthetic(5)
    row = results["psnr"].idxmax()
    results.loc[row, "acc_mu2_rbf_svm"] = np.nan
    fig = figures.fig1(results)
    landscape = next(ax for ax in fig.axes if ax.get_title().startswith("reconstruction"))
    place = drawn(landscape, "best")[0]
    rest = results.drop(row)
    assert_allclose(place, rest.loc[rest["psnr"].idxmax(), ["beta_2", "beta_1"]].astype(float))
    assert "among the 24 settings" in fig.caption and "24 of 25 compared" in landscape.get_title().replace(
        "\N{NO-BREAK SPACE}", " "
    )
    for whole in (synthetic(5), synthetic(5, labels=False), synthetic(5, diverged=3)):
        fig = figures.fig1(whole)
        assert "compared" not in fig.caption + " ".join(ax.get_title() for ax in fig.axes)


def test_markers_of_a_model_that_is_best_for_several_lie_in_each_other():
    results = synthetic(5)
    metrics = ["inception_score", "psnr", "acc_mu2_rbf_svm"]
    vae = (results["beta_2"] == 1) & (results["beta_1"] == 1)
    for row, innermost in (
        (results.index[~vae][3], 22),
        (results.index[vae][0], 22 * 2.4),
    ):  # the VAE has a circle, too
        results[metrics] = results[metrics].clip(upper=0.5)
        results.loc[row, metrics] = 0.9
        (marks,) = [
            [c for c in ax.collections if c.get_gid() == "best"]
            for ax in figures.fig1(results).axes
            if ax.get_title() == "colour code"
        ]
        assert len({tuple(mark.get_offsets()[0]) for mark in marks}) == 1
        areas = [float(mark.get_sizes()[0]) for mark in marks]
        assert len(areas) == 3 and areas == sorted(areas, reverse=True) and areas[-1] == pytest.approx(innermost)
        assert np.diff(areas).max() <= -22, "wide enough apart to be seen"


def test_of_equally_good_models_the_one_of_the_lowest_rate_is_best():
    results = synthetic(5)
    results["psnr"] = results["psnr"].clip(upper=results["psnr"].median())
    good = results[results["psnr"] == results["psnr"].max()]
    assert len(good) > 2
    assert best(grid_means(results), PSNR) == good["rate"].idxmin()


def test_edges_of_the_hull_are_straight_in_the_rate_not_on_the_axis():
    results = synthetic(5)
    (line,) = [line for line in figures.fig6(results).axes[0].lines if line.get_gid() == "hull line"]
    rate, value = results["rate"].to_numpy(), 100 * results["acc_mu2_rbf_svm"].to_numpy()
    hull = upper_hull(rate, value)
    assert_allclose(line.get_ydata(), np.interp(line.get_xdata(), rate[hull], value[hull]))
    assert len(line.get_xdata()) == 50 * (len(hull) - 1), "enough places for a smooth curve"
    (baseline,) = [line for line in figures.fig6(results).axes[0].lines if line.get_gid() == "β-VAE line"]
    own = np.flatnonzero(results["beta_2"] == results["beta_1"])
    for start, stop, edge in zip(own[:-1], own[1:], baseline.get_xydata().reshape(-1, 50, 2), strict=True):
        assert_allclose(edge[[0, -1]], np.column_stack([rate, value])[[start, stop]])
        assert_allclose(
            edge[:, 1],
            np.interp(edge[:, 0], *np.column_stack([rate, value])[sorted((start, stop), key=lambda i: rate[i])].T),
        )


def test_numbers_of_the_fidelity_stand_in_the_middle_of_their_cells():
    table = synthetic(5)[["beta_2", "beta_1", "rate_2", "rate_1"]].assign(
        percent=np.arange(25.0), difference=np.arange(25.0), spread_percent=np.nan
    )
    ax = figures.fidelity(table).axes[0]
    (cells,) = [c for c in ax.collections if c.get_gid() == "models"]
    middles = {
        tuple(((path.vertices[:4].min(0) + path.vertices[:4].max(0)) / 2).round(9)) for path in cells.get_paths()
    }
    assert {tuple(np.round(text.get_position(), 9)) for text in ax.texts} == middles


def test_one_network_is_not_called_many_models():
    results = synthetic(3).assign(model="ghvae-conditioned")
    assert "one network at 9 settings" in figures.fig3(results).caption
