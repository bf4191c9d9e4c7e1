"""What is recommended is within the budget, the best there, and says what speaks against it."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import test_figures
from conftest import executed
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from test_figures import drawn, synthetic, words

from hvae_core import figures
from hvae_core.analysis.frontier import upper_hull
from hvae_core.analysis.guidance import recommend
from hvae_core.errors import InputError
from hvae_core.files import write_table
from hvae_core.runs.config import Config
from hvae_core.runs.folder import open_run
from hvae_core.runs.profiles import load_profile
from hvae_core.terms import layer_numbers

BETAS = (0.1, 1.0, 10.0)
NAN = float("nan")


def made(values, L=2, betas=BETAS, rates=None, seeds=1, column="psnr"):
    """Results over a grid of betas: `values` (settings, seeds).

    Without `rates` (settings, L) the rate of each layer is 30 / beta.
    """
    numbers = layer_numbers(L)
    rows = []
    for (i, setting), seed in itertools.product(enumerate(itertools.product(betas, repeat=L)), range(seeds)):
        layer_rates = [30 / beta for beta in setting] if rates is None else rates[i]
        rows.append(
            {f"beta_{n}": b for n, b in zip(numbers, setting, strict=True)}
            | {f"rate_{n}": r for n, r in zip(numbers, layer_rates, strict=True)}
            | {
                "rate": sum(layer_rates),
                "seed": seed,
                "status": "ok",
                column: np.atleast_2d(values)[:, seed][i] if seeds > 1 else values[i],
            }
        )
    return pd.DataFrame(rows)


finite = st.floats(0.001, 100).map(lambda x: round(x, 3))


@st.composite
def runs(draw):
    """Any number of layers, any rates and values, some lost or not computed, and one or more seeds."""
    L, seeds = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    betas = (1.0, 10.0) if L > 2 else BETAS
    count = len(betas) ** L
    rates = draw(st.lists(st.lists(finite, min_size=L, max_size=L), min_size=count, max_size=count))
    values = draw(st.lists(finite, min_size=count * seeds, max_size=count * seeds))
    results = made(np.reshape(values, (count, seeds)) if seeds > 1 else values, L, betas, rates, seeds)
    lost = draw(
        st.lists(
            st.sampled_from(["ok", "ok", "ok", "diverged", "missing", "NaN"]),
            min_size=len(results),
            max_size=len(results),
        )
    )
    results["status"] = [status if status != "NaN" else "ok" for status in lost]
    results.loc[[status != "ok" for status in lost], "psnr"] = NAN
    return results


@settings(max_examples=40, deadline=None)
@given(runs(), finite, finite)
def test_the_best_within_the_budget_and_more_budget_is_never_worse(results, budget, more):
    ok = results[results["status"] == "ok"]
    if ok["psnr"].notna().sum() == 0:
        with pytest.raises(InputError):
            recommend(results, "reconstruction", budget)
        return
    keys = [column for column in results if column.startswith("beta_")]
    means = ok.groupby(keys)[["rate", "psnr"]].mean().dropna()
    advice = recommend(results, "reconstruction", budget)
    within = means[means["rate"] <= budget]
    if within.empty:
        assert advice.betas == () and not advice.model and advice.interpolated is None
        assert np.isnan(advice.value) and "below the lowest" in advice.warnings[0]
        return
    assert advice.total_rate <= budget
    assert advice.value == within["psnr"].max()
    assert within.loc[advice.betas if len(keys) > 1 else advice.betas[0], "psnr"] == advice.value
    assert sum(advice.rates) == pytest.approx(advice.total_rate)
    assert recommend(results, "reconstruction", budget + more).value >= advice.value
    assert recommend(results, "reconstruction").value == means["psnr"].max()
    assert advice.evidence["role"][0].startswith("recommended") and advice.evidence["psnr"][0] == advice.value


@settings(max_examples=60, deadline=None)
@given(runs(), finite)
def test_interpolated_rates_add_up_to_the_budget_and_lie_between_two_models(results, budget):
    try:
        advice = recommend(results, "reconstruction", budget)
    except InputError:
        return
    points = figures.grid_means(results)
    hull = upper_hull(points["rate"], points["psnr"])
    rate, value = points["rate"].to_numpy()[hull], points["psnr"].to_numpy()[hull]
    inside = rate[0] < budget < rate[-1]
    if advice.interpolated is None:
        assert not inside or advice.value >= np.interp(budget, rate, value) - 1e-9
        return
    assert inside
    rates, promised = advice.interpolated.rates, advice.interpolated.value
    ends = advice.evidence[advice.evidence["role"].str.contains("interpolated")].sort_values("rate")
    assert len(ends) == 2
    assert ends["rate"].iloc[0] < budget < ends["rate"].iloc[1]
    assert sum(rates) == pytest.approx(budget)
    for layer, n in zip(rates, layer_numbers(len(rates)), strict=True):
        assert ends[f"rate_{n}"].min() - 1e-9 <= layer <= ends[f"rate_{n}"].max() + 1e-9
    assert promised == pytest.approx(np.interp(budget, rate, value)) and promised > advice.value


def test_at_a_corner_of_the_hull_nothing_is_interpolated():
    results = made([10, 20, 30], L=1, betas=(10, 1, 0.1))
    assert recommend(results, "reconstruction", 30).interpolated is None
    advice = recommend(results, "reconstruction", 165)
    assert advice.interpolated.rates == (165.0,) and advice.interpolated.value == pytest.approx(25)
    assert advice.interpolated.between == ("beta_1 = 1", "beta_1 = 0.1")
    assert recommend(results, "reconstruction").interpolated is None


def test_targets_are_rates_on_training_images():
    """There they are held; the budget counts on test images. Without them, these are the targets."""
    results = made([10, 20, 30], L=1, betas=(10, 1, 0.1))
    assert recommend(results, "reconstruction", 40).targets == (30.0,)
    advice = recommend(results.assign(train_rate_1=0.9 * results["rate_1"]), "reconstruction", 165)
    assert advice.rates == (30.0,) and advice.targets == (27.0,)
    assert advice.interpolated.rates == (165.0,) and advice.interpolated.targets == pytest.approx((148.5,))
    assert "target rates (27) nats on training images" in str(advice) and "R = 30, (30) nats on test images" in str(
        advice
    )


def test_of_equal_models_the_one_of_less_rate():
    assert recommend(made([5, 5, 5], L=1), "reconstruction").betas == (10.0,)


@pytest.mark.parametrize("L", [1, 2, 3, 4])
def test_tasks_of_any_number_of_layers(L):
    results = synthetic(3, L=L)
    for task, column in {
        "reconstruction": "psnr",
        "representation": f"acc_z{L}_rbf_svm",
        "generation": "inception_score",
    }.items():
        advice = recommend(results, task, 60)
        assert advice.metric == column and advice.task == task
        assert advice.value == results.loc[results["rate"] <= 60, column].max()
        row = results[
            np.all([results[f"beta_{n}"] == b for n, b in zip(layer_numbers(L), advice.betas, strict=True)], 0)
        ]
        assert_allclose(advice.rates, row[[f"rate_{n}" for n in layer_numbers(L)]].to_numpy()[0])
    assert recommend(results, f"acc_mu{L}_rbf_svm").value == results[f"acc_mu{L}_rbf_svm"].max()


def test_the_evidence_is_the_model_and_one_step_each_way():
    results = synthetic(5)
    value = np.zeros(25)
    value[12], value[0] = 2, 1
    results["psnr"] = value
    advice = recommend(results, "reconstruction")
    table = advice.evidence
    assert list(table) == ["role", "beta_2", "beta_1", "rate_2", "rate_1", "rate", "psnr", "psnr_sd", "seeds"]
    roles = {row.role: (row.beta_2, row.beta_1) for row in table.itertuples()}
    assert roles["recommended"] == tuple(results.loc[12, ["beta_2", "beta_1"]])
    assert roles["runner-up"] == tuple(results.loc[0, ["beta_2", "beta_1"]])
    beside = set(zip(*(table.loc[table["role"] == "neighbour", f"beta_{n}"] for n in (2, 1)), strict=True))
    assert beside == set(zip(*(results.loc[[7, 11, 13, 17], f"beta_{n}"] for n in (2, 1)), strict=True))
    assert advice.spread == 2 and advice.spread_over == "neighbours"


def test_where_nothing_is_within_the_budget_the_evidence_is_the_lowest_rate():
    advice = recommend(made([10, 20, 30], L=1, betas=(10, 1, 0.1)), "reconstruction", 1)
    assert advice.evidence["role"].tolist() == ["lowest rate", "neighbour"]
    assert advice.evidence["beta_1"].tolist() == [10, 1]
    assert (advice.betas, advice.rates, advice.targets, advice.spread_over) == ((), (), (), "")
    assert len(advice.warnings) == 1


def test_of_one_network_neighbours_are_among_the_points_that_were_scored():
    scored = made([1, NAN, 5, NAN, 2], L=1, betas=(10.0, 3.0, 1.0, 0.3, 0.1))
    advice = recommend(scored.assign(model="ghvae-conditioned"), "reconstruction")
    assert advice.evidence["beta_1"].tolist() == [1.0, 0.1, 10.0]
    assert advice.targets == (), "it holds none"
    assert not any("not evaluated" in sentence for sentence in advice.warnings)
    between = recommend(scored.assign(model="ghvae-conditioned"), "reconstruction", 20)
    assert "interpolated, not trained: rates (20) nats, for a dial" in str(between)


def test_layers_that_share_a_beta_step_together():
    results = synthetic(4, L=3, tied=True)
    results["psnr"] = np.eye(16)[5]
    table = recommend(results, "reconstruction").evidence
    assert table["role"].str.contains("neighbour").sum() == 4
    assert (table["beta_2"] == table["beta_1"]).all()


def held(seeds=1):
    """Results at target rates that share a total of 40 nats, held by betas that differ from seed to seed."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "target_2": upper,
            "target_1": 40 - upper,
            "beta_2": rng.uniform(0.1, 9),
            "beta_1": rng.uniform(0.1, 9),
            "seed": seed,
            "status": "ok",
            "rate_2": upper + 0.1,
            "rate_1": 40.1 - upper,
            "rate": 40.2,
            "psnr": psnr + 0.01 * seed,
        }
        for seed in range(seeds)
        for upper, psnr in zip([0.0, 10.0, 20.0, 30.0, 40.0], [10, 12, 18, 15, 11], strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [1, 3])
def test_models_of_target_rates_are_told_apart_by_these(seeds):
    results = held(seeds)
    advice = recommend(results, "reconstruction", 41)
    assert advice.model == "target_2 = 20, target_1 = 20" and advice.rates == pytest.approx((20.1, 20.1))
    assert advice.betas == pytest.approx(tuple(results.loc[results["target_2"] == 20, ["beta_2", "beta_1"]].mean()))
    assert advice.evidence["target_2"].tolist() == [20, 30, 10] and advice.evidence["seeds"].eq(seeds).all()
    assert not any("edge" in sentence for sentence in advice.warnings)
    top = recommend(results.assign(psnr=results["target_2"]), "reconstruction")
    assert any("at target_2 = 40 (the highest); a better" in sentence for sentence in top.warnings), (
        "no rate is below 0"
    )
    assert "target_2=20, target_1=20" in figures.recommendation(results, 41).axes[0].get_title().replace("\n", " ")


def test_the_spread_is_over_seeds_where_there_are_several():
    value = np.array([[1.0, 1.2], [2.0, 3.0], [0.0, 0.2]])
    advice = recommend(made(value, L=1, seeds=2), "reconstruction")
    assert advice.spread_over == "seeds" and advice.spread == pytest.approx(np.std(value[1], ddof=1))
    assert advice.value == 2.5 and advice.evidence["seeds"].eq(2).all()
    assert "standard deviation over seeds 0.7071 dB" in str(advice)
    assert np.isnan(recommend(made([1.0], L=1, betas=(1.0,)), "reconstruction").spread)
    assert recommend(made([NAN, 5, 2], L=1), "reconstruction").spread == 3, "of those that are known"


# --- warnings -----------------------------------------------------------------------------------------------

MIDDLE = np.array([0, 1, 0, 1, 5, 1, 0, 1, 0.0])  # the best of a 3 x 3 grid is in its middle


def seeded(noise=0.1, value=MIDDLE):
    return made(np.stack([value - noise, value + noise], 1), seeds=2)


def test_a_settled_choice_has_no_warning():
    assert recommend(seeded(), "reconstruction", 100).warnings == ()


@pytest.mark.parametrize(
    ("results", "budget", "warning"),
    [
        (seeded(), 5, "The budget is below the lowest total rate explored, 6 nats, at beta_2 = 10, beta_1 = 10"),
        (seeded(), 601, "The budget is above the highest total rate explored, 600 nats, at beta_2 = 0.1, beta_1 = 0.1"),
        (
            seeded(value=np.roll(MIDDLE, 3)),
            None,
            "on the edge of the grid, at beta_2 = 10 (the highest); a better one may lie outside",
        ),
        (seeded(value=np.roll(MIDDLE, -4)), None, "at beta_2 = 0.1 (the lowest), beta_1 = 0.1 (the lowest)"),
        (made([1, 3, 2], L=2, betas=(1.0,), rates=[[1, 1]]), None, "beta_2 = 1 (the only one explored)"),
        (
            seeded(5),
            None,
            "not settled: the runner-up, beta_2 = 1, beta_1 = 10, reaches 1 dB, "
            "which is closer than the standard deviation over seeds, 7.071 dB",
        ),
        (
            made(MIDDLE),
            None,
            "a single seed, so its spread over seeds is unknown; the runner-up, beta_2 = 1, beta_1 = 10, reaches 1 dB",
        ),
        (
            seeded().assign(status=["ok"] * 6 + ["diverged"] * 2 + ["ok"] * 10),
            None,
            "were not evaluated: beta_2 = 1, beta_1 = 0.1.",
        ),
        (
            seeded().assign(status=["ok"] * 8 + ["missing"] + ["ok"] * 9),
            None,
            "were not evaluated: beta_2 = 1, beta_1 = 1.",
        ),
    ],
)
def test_warnings(results, budget, warning):
    warnings = recommend(results, "reconstruction", budget).warnings
    assert sum(warning in sentence for sentence in warnings) == 1
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in warnings)
    assert f"warning: {warnings[0]}" in str(recommend(results, "reconstruction", budget))


@pytest.mark.parametrize(("apart", "settled"), [(0.6, True), (0.8, False)])
def test_a_choice_is_settled_beyond_the_larger_spread_of_the_two(apart, settled):
    """The best has no spread, the runner-up, 1 dB below, one of 0.85 or 1.13 dB."""
    results = made(np.array([[0, 0], [5, 5], [4 - apart, 4 + apart]]), L=1, seeds=2)
    warnings = recommend(results, "reconstruction").warnings
    assert any("not settled" in sentence for sentence in warnings) is not settled


def test_targets_that_are_not_held_are_said():
    results = held()
    results["rate"] = np.where(results["target_2"] == 20, 39.9, 40.2)
    exceeded = "4 settings ask for no more than the budget but exceed it on test images"
    advice = recommend(results.assign(target_status="reached"), "reconstruction", 40)
    assert advice.model == "target_2 = 20, target_1 = 20"
    assert [exceeded in sentence for sentence in advice.warnings].count(True) == 1
    assert not any("does not hold" in sentence for sentence in advice.warnings)
    warnings = recommend(results.assign(target_status="budget spent"), "reconstruction").warnings
    assert sum("does not hold all of its target rates" in sentence for sentence in warnings) == 1
    assert not any("exceed" in sentence for sentence in warnings)


def test_a_metric_that_was_not_computed_next_to_it_is_said():
    value = MIDDLE.copy()
    value[5] = NAN
    assert "not evaluated: beta_2 = 1, beta_1 = 10." in recommend(made(value), "reconstruction").warnings[-1]
    value[5], value[0] = 1, NAN
    assert len(recommend(made(value), "reconstruction").warnings) == 1, "far away it does not matter"


def test_interpolation_between_models_far_apart_is_said():
    results = made([0, 9, 1, 8], betas=(1.0, 10.0), rates=[[10, 90], [1, 9], [40, 10], [1, 1]])
    advice = recommend(results.assign(psnr=[9, 3, 1, 2]), "reconstruction", 60)
    assert not any("interpolated" in sentence for sentence in advice.warnings), "(1, 1) and (1, 10) are neighbours"
    advice = recommend(results.assign(psnr=[9, 1, 1, 3]), "reconstruction", 60)
    assert advice.interpolated.between == ("beta_2 = 10, beta_1 = 10", "beta_2 = 1, beta_1 = 1")
    assert any("not neighbours" in sentence for sentence in advice.warnings)


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((synthetic(3), "reconstuction"), "did you mean reconstruction"),
        (
            (synthetic(3), "distortion"),
            "allowed are reconstruction (psnr), representation (acc_z2_rbf_svm), generation",
        ),
        ((synthetic(3), "dataset"), "'dataset' is unknown"),
        ((synthetic(3), None), "'None' is unknown"),
        (
            (synthetic(3).drop(columns="acc_z2_rbf_svm"), "representation"),
            "acc_z2_rbf_svm was not computed; allowed are reconstruction",
        ),
        (
            (synthetic(3, labels=False), "generation"),
            "inception_score was not computed; allowed are reconstruction (psnr)",
        ),
        ((synthetic(3), "generation", 0), "total_rate = 0: allowed is a positive number"),
        ((synthetic(3), "generation", -2.0), "total_rate = -2.0"),
        ((synthetic(3), "generation", NAN), "total_rate = nan"),
        ((synthetic(3), "generation", float("inf")), "total_rate = inf"),
        ((synthetic(3), "generation", "40"), "total_rate = 40"),
        ((synthetic(3).assign(status="diverged"), "generation"), "no finished model to recommend (9 diverged)"),
        ((synthetic(3).iloc[:0], "generation"), "no rows"),
        ((pd.DataFrame({"a": [1]}), "generation"), "lack the columns"),
        ((pd.concat([synthetic(3), synthetic(3).assign(model="lvae")]), "generation"), "one model, not ghvae, lvae"),
    ],
)
def test_bad_input_is_one_plain_line(arguments, named):
    with pytest.raises(InputError, match=re.escape(named)) as error:
        recommend(*arguments)
    assert "\n" not in str(error.value)


def keep(results, output, name="made"):
    """A finished run of these results."""
    config = Config.make({**load_profile("quick", ["betas={low: 0.1, high: 100, points: 3}"]).dump(), "name": name})
    folder = open_run(config)
    write_table(folder / "results.parquet", results)
    return config


def test_a_run_by_its_name(output):
    results = synthetic(3)
    keep(results, output)
    assert str(recommend("made", "generation", 50)) == str(recommend(results, "generation", 50))
    keep(results.assign(status="missing"), output, "lost")
    with pytest.raises(InputError, match=r"run 'lost': no finished model to recommend \(9 missing\)"):
        recommend("lost", "generation")
    with pytest.raises(InputError, match="nowhere"):
        recommend("nowhere", "generation")


def test_results_are_left_as_they_were():
    results = synthetic(3, seeds=2, diverged=2)
    before = results.copy()
    figures.recommendation(results, 40)
    pd.testing.assert_frame_equal(results, before)


# --- as it is shown -----------------------------------------------------------------------------------------


def test_it_shows_itself_in_plain_lines():
    advice = recommend(synthetic(5), "representation", 20)
    lines = str(advice).splitlines()
    assert lines[0] == "representation (acc_z2_rbf_svm), total rate at most 20 nats per image"
    assert lines[1].startswith(f"use: {advice.model}; or target rates (") and lines[2].startswith("gives: R = ")
    assert lines[3].startswith("expect: ") and " %;" in lines[3]
    assert (
        lines[4].startswith("interpolated, not trained: target rates (") and advice.interpolated.between[1] in lines[4]
    )
    assert repr(advice) == str(advice)
    html = advice._repr_html_()
    assert "<table" in html and "&" not in advice.model and html.count("<tr") == len(advice.evidence) + 1
    assert str(recommend(synthetic(5), "psnr")).startswith("psnr, any total rate\n")
    assert "use: no model explored is within the budget" in str(recommend(synthetic(5), "psnr", 1e-9))


@pytest.mark.parametrize("budget", [None, 1e-9, 20.0, 1e4])
def test_the_figure_marks_what_is_recommended(budget):
    results = synthetic(5, seeds=2, diverged=3)
    fig = figures.recommendation(results, budget)
    fig.draw_without_rendering()
    assert len(fig.axes) == 3
    for ax, task in zip(fig.axes, ("reconstruction", "representation", "generation"), strict=True):
        advice = recommend(results, task, budget)
        factor = 100 if task == "representation" else 1
        assert len(drawn(ax, "models")) == 25
        assert_allclose(
            drawn(ax, "best"),
            [[advice.total_rate, factor * advice.value]] if advice.betas else np.empty((0, 2)),
        )
        assert_allclose(
            drawn(ax, "interpolated"),
            [[budget, factor * advice.interpolated.value]] if advice.interpolated else np.empty((0, 2)),
        )
        lines = {line.get_gid(): line.get_xdata() for line in ax.lines}
        assert ("budget" in lines) == (budget is not None)
        assert budget is None or ax.get_xlim()[1] >= budget
        shown = ", ".join(f"{float(f'{b:.2g}'):g}" for b in advice.betas)
        assert (
            f"({shown})" in ax.get_title().replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
            if advice.betas
            else "no model within" in ax.get_title()
        )
    assert fig.caption.endswith(".") and "3 not drawn" in fig.caption


def test_the_figure_of_any_run():
    for L in (1, 3, 4):
        figures.recommendation(synthetic(3, L=L), 40).draw_without_rendering()
    assert words(figures.recommendation(synthetic(3, labels=False), 40)).count("not computed") == 2
    assert words(figures.recommendation(synthetic(3).assign(status="diverged"), 40)).count("not computed") == 3
    with pytest.raises(InputError, match="total_rate"):
        figures.recommendation(synthetic(3), -1)


@pytest.mark.parametrize(
    "results",
    [synthetic(5, seeds=2, diverged=3), synthetic(3, L=4), synthetic(21)],
    ids=["seeds", "L4", "many"],
)
@pytest.mark.parametrize("budget", [None, 54.9, 1e-9])
def test_its_text_is_legible(results, budget, monkeypatch):
    monkeypatch.setitem(test_figures.FIGURES, "advice", lambda results: figures.recommendation(results, budget))
    test_figures.test_text_is_legible("advice", results)


@pytest.mark.parametrize("labels", [True, False])
def test_the_notebook(labels, output):
    config = keep(synthetic(3, labels=labels), output)
    advised, *tables, figure = executed("85_recommend", name=config.name)
    assert "<table" in advised._repr_html_()
    assert isinstance(figure, Figure)
    said = ["was not computed" in str(table.to_dict()) for table in tables]
    assert said == [False, not labels, not labels]
    assert {path.suffix for path in (output / "figures/made").glob("recommendation.*")} == {
        ".pdf",
        ".png",
        ".json",
    }
