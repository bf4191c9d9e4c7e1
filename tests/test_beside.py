"""What the notebooks call: an answer where there is one, and elsewhere the reason."""

import re

import numpy as np
import pandas as pd
import pytest
import test_figures
import torch
from conftest import Chain
from test_conditioned import KnownNetwork, X, rows
from test_rate_distortion_figures import synthetic as families
from test_surface import GRID, at

from hvae_core import Member, Plan, figures, recommend, train
from hvae_core.analysis import beside, dial, plane
from hvae_core.analysis.surface import compare
from hvae_core.errors import InputError
from hvae_core.evaluation import toy as measured
from hvae_core.evaluation.controllers import Rule, compared, drive, target_pairs
from hvae_core.models.paper_b import toy
from hvae_core.training.target_rates import GECO, PI

DRIVEN = pd.DataFrame([at((b2, b1), target_2=5.0, target_1=9.0) for b2, b1 in ((0.5, 0.7), (1.3, 2.1), (0.2, 4.0))])


# --- beside grids -----------------------------------------------------------------------------------------------


def test_beside_a_surface_each_model_has_its_row_and_a_poor_grid_its_reason() -> None:
    poor = GRID[GRID["beta_2"] == GRID["beta_2"].max()]
    found = beside.beside_surfaces(DRIVEN, {"good": GRID, "poor": poor})
    assert list(found.summary) == ["good", "poor"]
    assert found.summary.loc["models", "good"] == 3
    assert "too few for a surface" in found.summary.loc[beside.WHY_NOT, "poor"]
    assert found.summary.loc[beside.WHY_NOT, "good"] == ""
    assert list(found.tables) == ["targets_surface_good"]
    table = found.tables["targets_surface_good"]
    assert list(table)[:3] == ["seed", "target_2", "target_1"]
    np.testing.assert_allclose(table["percent"], compare(DRIVEN, GRID, 2)["percent"], atol=1e-3)


def test_models_of_a_grid_that_diverged_do_not_count_for_its_surface() -> None:
    lost = GRID.assign(status=np.where(GRID.index == 3, "diverged", "ok"), distortion=1e9)
    found = beside.beside_surfaces(DRIVEN, {"grid": lost.assign(train_distortion=GRID["train_distortion"])})
    assert found.summary.loc["models", "grid"] == 3


def test_beside_grids_a_run_has_its_tables_and_each_other_grid_its_reason() -> None:
    own = rows([0.1, 1, 10], lambda *_: 95, lambda b2, b1: 20 - abs(np.log10(b2)))
    models = rows([0.1, 1, 10], lambda b2, b1, s: 90 + s, lambda *_: 19, seeds=2)
    found = beside.beside_grids(own, {"models": models, "far": rows([3, 4], lambda *_: 90, lambda *_: 19)})
    assert list(found.tables) == ["fidelity_table_models", "optima_table_models"]
    assert list(found.compared) == ["models"]
    assert len(found.compared["models"]) == 9
    assert found.summary.loc[("models", "L, nats"), "points"] == 9
    assert "share no betas" in found.summary.loc[("far", ""), beside.WHY_NOT]
    drawn = figures.fidelities(found.compared, "own")
    assert list(drawn) == ["fidelity_models"]
    drawn["fidelity_models"].draw_without_rendering()
    alone = beside.beside_grids(own, {"models": models})
    assert beside.WHY_NOT not in alone.summary


def test_without_a_grid_that_is_said() -> None:
    targets, network = beside.beside_surfaces(DRIVEN, {}), beside.beside_grids(DRIVEN, {})
    assert targets.summary.loc[beside.WHY_NOT, beside.NONE].startswith("no finished grid")
    assert network.summary.loc[(beside.NONE, ""), beside.WHY_NOT].startswith("no finished grid")
    assert targets.tables == network.tables == targets.compared == network.compared == {}
    assert beside.first({"one": DRIVEN, "two": GRID}) is DRIVEN


# --- budgets ----------------------------------------------------------------------------------------------------


def test_the_usual_rate_is_that_of_the_vae_or_of_the_median_model() -> None:
    results = test_figures.synthetic(3)
    vae = results[(results["beta_2"] == 1) & (results["beta_1"] == 1)]
    assert beside.usual_rate(results) == pytest.approx(vae["rate"].item())
    rest = results.drop(index=vae.index)
    assert beside.usual_rate(rest) == pytest.approx(rest["rate"].median())
    with pytest.raises(InputError, match="one model"):
        beside.usual_rate(results.assign(model=["ghvae", "lvae", *["ghvae"] * 7]))
    with pytest.raises(InputError, match="no finished model"):
        beside.usual_rate(results.assign(status="diverged"))


def test_advice_is_that_of_recommend_and_says_why_there_is_none() -> None:
    results = test_figures.synthetic(3, seeds=2)
    highest, lowest = results["rate"].max(), results["rate"].min()
    table = beside.advice(results, "generation", [highest / 2, lowest / 1e6, None])
    best = recommend(results, "generation", highest / 2)
    first = table.iloc[0]
    assert first[["beta_2", "beta_1"]].tolist() == [round(beta, 3) for beta in best.betas]
    assert first["R"] == pytest.approx(best.total_rate, abs=1e-3)
    assert first["inception_score"] == pytest.approx(best.value, abs=1e-3)
    assert table[beside.WHY_NOT].map(bool).tolist() == [False, True, False]
    assert "below the lowest total rate" in table[beside.WHY_NOT].iloc[1]
    assert table.index.tolist()[-1] == "any"


def test_advice_without_labels_gives_the_reason_and_not_the_columns() -> None:
    table = beside.advice(test_figures.synthetic(3, labels=False), "representation", [10, None])
    assert set(table[beside.WHY_NOT]) == {"task 'representation': acc_z2_rbf_svm was not computed"}
    assert table.drop(columns=beside.WHY_NOT).isna().all(axis=None)


# --- the dial ---------------------------------------------------------------------------------------------------


def test_what_is_dialled_is_a_row_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    results = rows([0.5, 1, 2], lambda *_: 95, lambda *_: 20).assign(rate_2=8.0, rate_1=8 / 1.1, rate=8 + 8 / 1.1)

    def refused(*_: object, **__: object) -> None:
        raise InputError("no model is within the budget")

    monkeypatch.setattr(beside, "load_network", lambda *_, **__: KnownNetwork())
    monkeypatch.setattr(dial, "best", refused)
    table = beside.dialled("run", results, X)
    assert table.iloc[0][["beta_2", "beta_1"]].tolist() == pytest.approx([1, 1], rel=0.03)
    assert table[beside.WHY_NOT].tolist() == ["", "no model is within the budget"]
    assert table.iloc[1].drop(beside.WHY_NOT).isna().all()
    lost = beside.dialled("run", results.assign(status="diverged"), X)
    assert lost[beside.WHY_NOT].tolist() == ["no point of the network is finished"]


# --- the plane of rate and distortion ---------------------------------------------------------------------------


def test_questions_to_the_plane_count_what_is_there() -> None:
    results = families(points=4, seeds=2, diverged=5)
    well = results[results["status"] == "ok"]
    strong = well[well["model"].str[1] == "+"]
    frontier = plane.on_frontier(results)
    assert frontier["rate"].is_monotonic_increasing and frontier["distortion"].is_monotonic_decreasing
    rates = plane.rates_by_beta(results)
    assert set(rates.index) == set(strong["model"])
    counts = plane.collapsed(results)
    lost = sum(int(text.split()[0]) for text in counts.to_numpy().ravel() if text)
    assert lost == (strong["rate"] < plane.NEXT_TO_NOTHING).sum()
    near = plane.near_best(results)
    assert near["iwae_5"].min() >= well["iwae_5"].max() - plane.AS_GOOD - 0.01
    assert len(near) == (well["iwae_5"] > well["iwae_5"].max() - plane.AS_GOOD).sum()
    one = well[(well["model"] == "---") & (well["beta_1"] == well["beta_1"].min())]
    gap = plane.information_gap(results).loc["---"].iloc[0]
    assert gap == pytest.approx((one["mi_upper"] - one["mi_lower"]).median(), abs=0.01)


@pytest.mark.parametrize("results", [families(points=3, diverged=4), families(["-+v"], points=1)], ids=["many", "one"])
def test_the_bounds_are_drawn_where_the_results_say(results: pd.DataFrame) -> None:
    fig = figures.b_bounds(results, images=8)
    well = results[results["status"] == "ok"]
    for ax, column in zip(fig.axes, ("iwae_5", "iwae_500"), strict=True):
        marks = np.vstack([c.get_offsets() for c in ax.collections if str(c.get_gid()).startswith("family")])
        assert len(marks) == len(well)
        np.testing.assert_allclose(np.sort(marks[:, 1]), np.sort(well[column]))
    assert "first 8 test images" in fig.axes[1].get_title()
    assert "all test images" in figures.b_bounds(results).axes[1].get_title()


@pytest.mark.parametrize("results", [families(points=3), families(["---", "++v"], points=2)], ids=["many", "few"])
def test_the_text_of_the_bounds_is_legible(results: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(test_figures.FIGURES, "bounds", lambda results: figures.b_bounds(results, 1000))
    test_figures.test_text_is_legible("bounds", results)


def test_bounds_that_were_not_computed_are_said() -> None:
    fig = figures.b_bounds(families(["---"]).assign(iwae_500=np.nan))
    assert [text.get_text() for text in fig.axes[1].texts] == ["not computed"]
    assert "not computed" in test_figures.words(figures.b_bounds(families(["---"]).assign(status="diverged")))


# --- rules for target rates -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driven():
    x = torch.randint(0, 256, (30, 1, 4, 4), dtype=torch.uint8)
    rules = {"PI": Rule(PI()), "GECO": Rule(GECO(), start=1.0), "slow": Rule(PI(integral=1e-6, proportional=0.0))}
    return drive(lambda: Chain(2), [(0.5, 1.0), (2.0, 0.0)], x, Plan(epochs=4, batch_size=10), rules)


def test_every_rule_drives_a_model_to_each_target(driven) -> None:
    assert driven.held.index.tolist() == ["PI"] * 2 + ["GECO"] * 2 + ["slow"] * 2
    assert driven.held["target_1"].tolist() == [1.0, 0.0] * 3
    assert driven.held.loc["slow", "beta_2"].to_numpy() == pytest.approx(0.1, rel=1e-3), "it stays where it starts"
    off = (driven.held["rate_1"] - driven.held["target_1"]).abs() / 0.1
    np.testing.assert_allclose(driven.held["off_1"], off)
    assert len(driven.history) == 3 * 2 * 2 * 4
    last = driven.history[driven.history["epoch"] == 4]
    np.testing.assert_allclose(last.loc[last["layer"] == 1, "beta"], driven.held["beta_1"])
    table = compared(driven)
    assert table.index.tolist() == ["PI", "GECO", "slow"]
    worst = driven.held[["off_2", "off_1"]].max(axis=1).groupby(level="rule").max()
    np.testing.assert_allclose(table["worst"], worst[table.index], atol=0.01)


def test_two_rules_are_drawn_and_all_are_named(driven) -> None:
    fig = figures.two_rules(driven.held, driven.history, "noise")
    assert [ax.get_title() for ax in fig.axes][:2] == ["PI", "GECO"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["PI", "GECO", "slow"]
    assert len([line for line in fig.axes[0].get_lines() if str(line.get_gid()).startswith("layer")]) == 4
    fig.draw_without_rendering()
    alone = driven.history[driven.history["rule"] == "PI"]
    figures.two_rules(driven.held.loc[["PI"]], alone).draw_without_rendering()


def test_targets_are_one_a_layer() -> None:
    with pytest.raises(InputError, match="2 layers"):
        drive(lambda: Chain(2), [(1.0,)], torch.zeros(2, 1, 4, 4, dtype=torch.uint8), Plan(epochs=1), {})
    for members in ([Member((1.0, 1.0), 0)], [Member((1.0, 1.0), 0, targets=(1.0, None))]):
        with pytest.raises(InputError, match="every layer needs one"):
            target_pairs(members)


# --- the toy model ----------------------------------------------------------------------------------------------


def test_the_toy_models_stand_beside_the_paper() -> None:
    plan = Plan(epochs=20, batch_size=30, learning_rate=0.02)
    members = [Member((1.0,), seed) for seed in range(3)]
    populations = [("elbo", train(toy.Toy, members, toy.data(), plan))]
    table, name = measured.point_by_point(populations), "elbo, spread 1"
    rates = [populations[0][1].member(i).tables().rate for i in range(3)]
    assert table[name, "lowest"]["R"] == pytest.approx(min(rates), abs=1e-4)
    assert table[name, "highest"]["R"] == pytest.approx(max(rates), abs=1e-4)
    assert table[name, "paper"]["R"] == 0.0002 and np.isnan(table[name, "paper"]["I(z; z*)"])
    assert table["hand-made", "exact"]["R"] == pytest.approx(0.5)
    assert (table[name, "median"] <= table[name, "highest"]).all()
    results = measured.results(populations).assign(rate=[0.001, 0.001, 0.2], kl_to_data=[0.001, 0.1, 0.001])
    results["elbo"] = -toy.entropy() - 0.001
    counted = measured.fits(results).loc[("elbo", 1.0)]
    assert counted[["starts", "rate and data are right", "bound is tight, too"]].tolist() == [3, 1, 1]
    assert counted[["R, lowest", "R, median", "R, highest"]].tolist() == [0.001, 0.001, 0.2]


def test_no_function_here_is_without_its_line_in_the_table_of_its_file() -> None:
    for module in (beside, plane):
        named = set(re.findall(r"^    (\w+)  ", str(module.__doc__), re.MULTILINE))
        public = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
        assert named == {name for name in public if not name.startswith("_")} - {"Beside"}
