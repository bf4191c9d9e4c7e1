"""The figures of Paper B say what the results say: each test reads back what was drawn."""

import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from test_figures import drawn, labels_of, words

from hvae_core import figures
from hvae_core.analysis.frontier import lower_hull, pareto_frontier
from hvae_core.figures import rate_distortion as rd

FAMILIES = ["".join(signs) for signs in itertools.product("-+", "-+", "-+v")]
FIGURE_COLUMNS = ["iwae_5", "iwae_500", "mi_lower", "mi_upper", "active_units"]


def synthetic(families=FAMILIES, points=3, seeds=1, *, diverged=0, dataset="mnist"):
    """Results as of trained families.

    Autoregressive decoders collapse at beta >= 1, the others are best near 22 nats.
    """
    rng = np.random.default_rng(0)
    rows = []
    for family, seed in itertools.product(families, range(seeds)):
        strong = family[1] == "+"
        gap = {"-": 1.0, "+": 0.0, "v": 0.3}[family[2]] + {"-": 0.6, "+": 0.1}[family[0]] + 0.3 * rng.random()
        scale = np.exp(0.15 * rng.normal())
        for beta in np.geomspace(0.1, 1.1 if strong else 10, points):
            gap *= np.exp(0.2 * rng.normal())
            if strong:
                rate = 130 * scale * max(0, (1.0 + 0.06 * (family[2] == "v") - beta)) ** 1.5 + 10 ** rng.uniform(-5, -3)
                excess = 0.1 + gap * min(1, rate / 5) + 0.0034 * rate**2
            else:
                rate = 22 * scale * beta**-0.6 * (beta < 8) + 10 ** rng.uniform(-5, -3)
                excess = 2 + gap + 124 * np.exp(-rate / 5) + 0.006 * max(0, rate - 22) ** 2
            total = 80.2 + excess
            bound = -total + 0.02 * rate
            rows.append(
                {
                    "dataset": dataset,
                    "model": family,
                    "seed": seed,
                    "epochs": 200,
                    "status": "ok",
                    "beta_1": beta,
                    "distortion": total - rate,
                    "rate_1": rate,
                    "rate": rate,
                    "elbo": -total,
                    "iwae_5": bound - 0.3,
                    "iwae_500": bound,
                    "mi_lower": 0.8 * rate,
                    "mi_upper": 1.1 * rate,
                    "active_units": min(64, 2 * rate // 1),
                }
            )
    results = pd.DataFrame(rows)
    lost = np.linspace(0, len(results) - 1, diverged + 2).astype(int)[1:-1]
    results.loc[lost, "status"] = ["diverged", "missing"] * (diverged // 2) + ["diverged"] * (diverged % 2)
    results.loc[lost, results.columns[6:]] = np.nan
    return results


def hierarchical(name="ghvae"):
    """A run of Paper A: total rates of a two-layer grid."""
    rate = np.linspace(0, 12, 49) ** 2
    total = 88 + 118 * np.exp(-rate / 8) + 0.004 * (rate - 20) ** 2
    return pd.DataFrame(
        {
            "dataset": "mnist",
            "model": name,
            "status": "ok",
            "rate_2": rate / 3,
            "rate_1": 2 * rate / 3,
            "rate": rate,
            "distortion": total - rate,
            "elbo": -total,
        }
    )


def pictures(models, n=6, repeats=5):
    """Discs of many sizes: no two alike."""
    rng = np.random.default_rng(0)
    place = np.arange(28) - 13.5
    radius = rng.uniform(2, 13, (models, n, 2 * repeats + 1))[..., None, None]
    discs = (255 * (place[:, None] ** 2 + place**2 < radius**2)).astype(np.uint8)[:, :, :, None]
    return figures.Decodings(discs[0, :, -1], discs[:, :, :repeats], discs[:, :, repeats : 2 * repeats])


def families_drawn(ax):
    """The places of all models by family, read off the panel."""
    gids = {c.get_gid() for c in ax.collections if (c.get_gid() or "").startswith("family ")}
    return {gid.removeprefix("family "): drawn(ax, gid) for gid in gids}


def line(ax, gid):
    return next(line for line in ax.lines if line.get_gid() == gid).get_xydata()


# --- Fig. 3 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["sqrt", "linear"])
def test_every_model_is_a_point_in_both_panels(scale):
    results = synthetic(seeds=2, diverged=5)
    plane, skew = figures.b_fig3(results, rate_scale=scale).axes
    for family, models in results[results["status"] == "ok"].groupby("model"):
        assert_allclose(families_drawn(plane)[family], models[["rate", "distortion"]])
        assert_allclose(families_drawn(skew)[family], np.column_stack([models["rate"], -models["elbo"]]))
    assert plane.get_xscale() == skew.get_xscale() == ("function" if scale == "sqrt" else "linear")


def test_the_best_elbo_is_the_dashed_line_and_is_said():
    results = synthetic(diverged=3)
    best = -results["elbo"].max()
    plane, skew = figures.b_fig3(results).axes
    assert_allclose(line(plane, "best ELBO").sum(1), best)
    assert_allclose(line(skew, "best ELBO")[:, 1], best)
    for ax in (plane, skew):
        assert f"{best:.1f}" in next(t for t in ax.texts if t.get_gid() == "best").get_text()


def test_the_frontier_is_a_staircase_and_the_hull_lies_below_it():
    results = synthetic(points=6)
    rate, distortion = results["rate"].to_numpy(), results["distortion"].to_numpy()
    plane, skew = figures.b_fig3(results).axes
    steps = line(plane, "frontier")
    assert (np.diff(steps[:, 0]) >= 0).all() and (np.diff(steps[:, 1]) <= 0).all()
    flat = np.isclose(np.diff(steps[:, 0]), 0) | np.isclose(np.diff(steps[:, 1]), 0)
    assert flat.all(), "every piece of a staircase runs along an axis"
    frontier = pareto_frontier(rate, distortion)
    for r, d in zip(rate[frontier], distortion[frontier], strict=True):
        assert np.isclose(steps, [r, d]).all(1).any()
    for r, d in zip(rate, distortion, strict=True):  # at no rate is a model below the stairs
        assert d >= steps[steps[:, 0] <= r + 1e-9, 1].min() - 1e-9
    corners = lower_hull(rate, distortion)
    hull = line(plane, "hull")
    assert_allclose(hull[:, 1], np.interp(hull[:, 0], rate[corners], distortion[corners]))
    for gid in ("frontier", "hull"):  # panel (b) is panel (a), skewed
        assert_allclose(line(skew, gid), np.column_stack([line(plane, gid)[:, 0], line(plane, gid).sum(1)]))


def test_models_on_the_frontier_are_crossed_on_the_right_edge():
    results = synthetic(points=6)
    frontier = results.iloc[pareto_frontier(results["rate"], results["distortion"])]
    for ax, values in zip(figures.b_fig3(results).axes, (frontier["distortion"], -frontier["elbo"]), strict=True):
        for family in FAMILIES:
            crosses = drawn(ax, f"frontier {family}")
            assert_allclose(sorted(crosses[:, 1]), sorted(values[frontier["model"] == family]))
            assert (crosses[:, 0] > 0.95).all()


def test_every_family_looks_different():
    looks = {rd.look_of(family, []) for family in FAMILIES}
    others = {rd.look_of(name, ["ghvae", "lvae"]) for name in ("ghvae", "lvae")}
    assert len(looks) == 12 and len(others) == 2 and not looks & others


def test_colours_differ_for_the_colour_blind_and_in_grey():
    # Viénot et al. 1999: what people without L (red) or M (green) cones see, in linear RGB.
    red = [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
    green = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]
    grey = [[0.2126, 0.7152, 0.0722]] * 3
    colours = [colour for colour, _ in rd.MARGINALS.values()]
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    for matrix in (np.eye(3), red, green, grey):
        seen = np.clip(rgb**2.2 @ np.transpose(matrix), 0, 1) ** (1 / 2.2)
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.2


def test_other_runs_share_the_plane_and_the_frontier():
    results, ghvae = synthetic(diverged=1), hierarchical()
    ghvae.loc[0, "status"] = "diverged"
    fig = figures.b_fig3(results, {"GHVAE": ghvae})
    assert_allclose(families_drawn(fig.axes[0])["GHVAE"], ghvae[["rate", "distortion"]][1:])
    assert "85 models, of which 2 not drawn (2 diverged)" in fig.caption
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert "GHVAE" in legend and "v  VampPrior" in legend
    better = ghvae.assign(distortion=lambda f: f["distortion"] - 20)
    best = (better["rate"] + better["distortion"])[1:].min()
    assert f"R + D = {best:.1f}" in words(figures.b_fig3(results, {"GHVAE": better}))


def test_what_is_not_drawn_is_said():
    results = synthetic(diverged=3)
    results.loc[10, "rate"] = np.inf
    fig = figures.b_fig3(results)
    message = "12 families, 36 models, of which 4 not drawn (2 diverged, 1 missing, 1 not evaluated)"
    assert message in words(fig).replace("\n", " ") and message in fig.caption
    nothing = figures.b_fig3(results.assign(status="diverged"))
    assert words(nothing).count("no model to draw") == 2 and nothing.caption.endswith("(36 diverged).")


def test_collapsed_models_and_high_rates_are_within_the_axes():
    results = synthetic(points=8)
    assert results["rate"].min() < 1e-4 and results["rate"].max() > 100
    for ax in figures.b_fig3(results).axes:
        places = np.concatenate(list(families_drawn(ax).values()))
        inside = ax.transAxes.inverted().transform(ax.transData.transform(places))
        assert (inside > 0.01).all() and (inside < 0.99).all()
        near, far = (
            inside[np.isclose(places[:, 0], r), 0].max() for r in (results["rate"].min(), results["rate"].max())
        )
        assert near < 0.05 and far > 0.9


def test_a_plane_is_about_one_data_set():
    with pytest.raises(ValueError, match="one dataset, not mnist, omniglot"):
        figures.b_fig3(synthetic(), {"other": hierarchical().assign(dataset="omniglot")})


def test_few_and_odd_results_are_drawn():
    for results in (synthetic(["-+v"], points=1), synthetic().astype(object), synthetic().drop(columns="dataset")):
        fig = figures.b_fig3(results)
        fig.draw_without_rendering()
        assert fig.caption.endswith(".")
    negative = synthetic()
    negative.loc[0, "rate"] = -0.01  # a sampled rate of a collapsed model
    figures.b_fig3(negative).draw_without_rendering()


@pytest.mark.parametrize("best", [80.2, 0.5, 1200.0])
@pytest.mark.parametrize("excess", [0.3, 12.0, 700.0])
def test_excess_levels_are_round_and_within(best, excess):
    levels = rd.excess_levels(best, best + excess)
    assert 3 <= len(levels) <= 5 and (np.diff(levels) > 0).all()
    assert (levels >= best).all() and (levels <= best + excess).all()
    round_to = 10.0 ** np.floor(np.log10(excess / 25))  # the power of ten of the smallest gap
    assert_allclose(levels / round_to, (levels / round_to).round(), rtol=1e-9)


# --- Fig. 4 -----------------------------------------------------------------------------------------------------


def test_fig4_shows_the_models_it_names():
    results = synthetic(points=7, seeds=2, diverged=4)
    images = pictures(len(results))
    fig = figures.b_fig4(results, images, "-+v")
    family = results[(results["model"] == "-+v") & (results["status"] == "ok")]
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    shown = [family.index[[f"β = {b:.3g}\n" in title for b in family["beta_1"]]] for title in titles]
    assert len(titles) == 4 and all(map(len, shown))
    betas = [family["beta_1"][rows[0]] for rows in shown]
    assert betas == sorted(betas, reverse=True)
    assert f"D = {family.loc[family['rate'].idxmax(), 'distortion']:.3g}" in titles[-1]
    assert "R < 0.001" in titles[0]
    row = next(row for row in shown[-1] if f"D = {results['distortion'][row]:.3g}" in titles[-1])
    panels = np.array(fig.axes).reshape(2, 5)
    for panel, decoded in ((panels[0, 4], images.reconstructions[row]), (panels[1, 4], images.generated[row])):
        sheet = np.asarray(panel.images[0].get_array())
        assert_allclose(sheet[:28, :28], decoded[0, 0, 0])
        assert_allclose(sheet[29:57, 29:57], decoded[1].astype(float).mean(0)[0], atol=0.5)
    assert_allclose(np.asarray(panels[0, 0].images[0].get_array())[:28], images.originals[0, 0])
    heads = [tick.get_text() for ax in panels[:, 1:].flat for tick in ax.get_xticklabels()]
    assert heads == ["sample", "average of 5"] * 8 and "−+v" in words(fig)


def test_fig4_of_another_family_of_few_models_or_of_none():
    results = synthetic(points=2)
    images = pictures(len(results), n=2)
    fig = figures.b_fig4(results, images, "--+")
    assert "−−+" in words(fig) and "family --+" in fig.caption
    assert sum(bool(ax.get_title()) for ax in fig.axes) == 2
    assert "not computed" in words(figures.b_fig4(results, None, "-+v"))
    assert "not computed" in words(figures.b_fig4(results.assign(status="diverged"), images, "-+v"))
    with pytest.raises(ValueError, match="24 models"):
        figures.b_fig4(results, pictures(23), "-+v")
    with pytest.raises(ValueError, match="'ghvae' is not in"):
        figures.b_fig4(results, images, "ghvae")


# --- table ------------------------------------------------------------------------------------------------------


def test_the_table_has_the_best_model_of_each_family():
    results = synthetic(points=5, seeds=2, diverged=4)
    results.loc[results["model"] == "+++", "status"] = "diverged"
    table = figures.b_table1(results)
    assert list(table.index) == FAMILIES
    assert table.loc["+++"].isna().all() and table.drop("+++").notna().all(axis=None)
    for family in ("---", "-+v"):
        models = results[(results["model"] == family) & (results["status"] == "ok")]
        best = models.loc[models["elbo"].idxmax()]
        for shown, column in rd.COLUMNS.items():
            assert table.loc[family, shown] == pytest.approx(best[column], rel=1e-3)
    assert "not drawn" in table.attrs["caption"] and "E <= I_gen <= G" in table.attrs["caption"]
    without = figures.b_table1(results.drop(columns=FIGURE_COLUMNS))
    assert without[["IWAE-5", "E", "active units"]].isna().all(axis=None) and without["ELBO"].notna().sum() == 11


# --- nothing is clipped, nothing overlaps, files ------------------------------------------------------------------

LEGIBLE = {
    "few": lambda: figures.b_fig3(synthetic(diverged=3)),
    "many": lambda: figures.b_fig3(synthetic(points=28, seeds=3)),
    "others": lambda: figures.b_fig3(synthetic(), {"GHVAE": hierarchical(), "LVAE": hierarchical()}),
    "one family": lambda: figures.b_fig3(synthetic(["-+v"], points=9)),
    "fig4": lambda: figures.b_fig4(synthetic(points=9), pictures(108), "-+v"),
    "fig4, two models": lambda: figures.b_fig4(synthetic(points=2), pictures(24), "-+v"),
}


@pytest.mark.parametrize("name", LEGIBLE)
def test_text_is_legible(name):
    fig = LEGIBLE[name]()
    fig.draw_without_rendering()
    boxes = [(text, text.get_window_extent()) for text, _ in labels_of(fig)]
    assert len(boxes) > 6
    for text, box in boxes:
        assert text.get_fontsize() >= 7, text
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < fig.bbox.width + 1 and box.y1 < fig.bbox.height + 1, text
    for (text, a), (other, b) in itertools.combinations(boxes, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide < 1 or high < 1.5, (text, other)


def test_figures_and_table_are_saved(tmp_path):
    figures.save_figure(figures.b_fig3(synthetic()), tmp_path, "b_fig3", provenance={})
    first = (tmp_path / "b_fig3.png").read_bytes()
    figures.save_figure(figures.b_fig3(synthetic()), tmp_path, "b_fig3", provenance={})
    assert (tmp_path / "b_fig3.png").read_bytes() == first
    with Image.open(tmp_path / "b_fig3.png") as image:
        assert image.size[0] >= 200 * 5.5
    figures.save_table(figures.b_table1(synthetic(diverged=3)), tmp_path, "b_table1", provenance={})
    assert (tmp_path / "b_table1.md").read_text().startswith("| family | ELBO | beta | R | D |")
