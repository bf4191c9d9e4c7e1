"""What is said to have moved has moved: truths, error rates under the null, refusals, and the command."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.testing import assert_allclose
from test_figures import words

from hvae_core.analysis.compare import MOVED, NOT_SETTLED, WELCH_ERRS, WITHIN, compare, shown_metric
from hvae_core.errors import InputError
from hvae_core.figures.compare import compare as drawn
from hvae_core.files import ROOT
from hvae_core.pipeline.command import main
from hvae_core.runs.config import Config
from hvae_core.runs.results import columns

GRID = (0.1, 1.0, 10.0)


def results(seeds=3, shift=0.0, spread=0.1, grid=GRID, start=0, run="", **more):
    """A grid of betas with seeds from `start`; PSNR (settings, seeds) is drawn about 20 + `shift`."""
    rng = np.random.default_rng(start)
    betas = [(b2, b1) for b2 in grid for b1 in grid]
    rows = [
        {
            "dataset": "digits",
            "model": "ghvae",
            "seed": seed,
            "beta_2": b2,
            "beta_1": b1,
            "epochs": 3,
            "status": "ok",
            "distortion": 80 + rng.normal(),
            "rate_2": 10 / b2 + 0.1 * rng.normal(),
            "rate_1": 20 / b1 + 0.1 * rng.normal(),
            "psnr": 20 + shift + spread * rng.normal(),
        }
        for b2, b1 in betas
        for seed in range(start, start + seeds)
    ]
    frame = pd.DataFrame(rows).assign(**more)
    frame.attrs = {"run": run, "objective": "", "scored": 100}
    return frame


def of(found, metric):
    return found.table[found.table["metric"] == metric].reset_index(drop=True)


# --- truths -------------------------------------------------------------------------------------------------


def test_equal_runs_do_not_differ():
    found = compare(results(), results())
    assert (found.table["difference"] == 0).all() and (found.overall["difference"] == 0).all()
    assert set(found.table["verdict"]) == set(found.overall["verdict"]) == {WITHIN}
    assert found.metrics == ["distortion", "rate_2", "rate_1", "psnr"] and len(found.table) == 4 * 9


def test_a_shift_is_found_where_it_is_and_its_error_is_that_of_the_seeds():
    a, b = results(seeds=4), results(seeds=5, start=10)
    there = b["beta_2"].eq(0.1)
    b.loc[there, "psnr"] -= 3
    psnr = of(compare(a, b), "psnr")
    assert psnr["verdict"].eq(MOVED).tolist() == psnr["beta_2"].eq(0.1).tolist()
    row = psnr.iloc[0]
    one, other = (frame[frame["beta_2"].eq(0.1) & frame["beta_1"].eq(0.1)]["psnr"] for frame in (a, b))
    assert_allclose(row["difference"], other.mean() - one.mean())
    assert_allclose(row["standard_error"], np.sqrt(one.var() / 4 + other.var() / 5))
    assert (row["seeds_a"], row["seeds_b"]) == (4, 5)


def test_the_p_value_is_welchs():
    from scipy.stats import ttest_ind

    a, b = results(), results(start=10, spread=0.4)
    row = of(compare(a, b), "psnr").iloc[4]
    one, other = (frame[frame["beta_2"].eq(1) & frame["beta_1"].eq(1)]["psnr"] for frame in (a, b))
    assert_allclose(row["p_value"], ttest_ind(one, other, equal_var=False).pvalue)


def test_turned_round_it_is_the_same_with_the_other_sign():
    a, b = results(), results(start=10, shift=5)
    there, back = compare(a, b), compare(b, a)
    for one, other in ((there.table, back.table), (there.overall, back.overall)):
        assert_allclose(one["difference"], -other["difference"])
        assert_allclose(one["q_value"], other["q_value"])
        assert one["verdict"].tolist() == other["verdict"].tolist()
    assert set(of(there, "psnr")["verdict"]) == {MOVED}


def test_without_two_seeds_in_each_nothing_is_settled():
    for found in (compare(results(seeds=1), results(shift=5)), compare(results(shift=5), results(seeds=1))):
        assert set(found.table["verdict"]) == set(found.overall["verdict"]) == {NOT_SETTLED}
        assert found.table["standard_error"].isna().all() and found.table["difference"].notna().all()
        assert "nothing is settled without the spread over seeds" in str(found)
    assert compare(results(seeds=1), results(shift=5)).notes[2].startswith("a has one seed:")


def test_a_seed_that_diverged_is_left_out_and_a_setting_with_one_left_is_not_settled():
    a, b = results(seeds=2), results(seeds=2, start=10, shift=9)
    a.loc[0, ["status", "psnr"]] = ["diverged", 1e9]
    psnr = of(compare(a, b), "psnr")
    assert psnr["verdict"][0] == NOT_SETTLED and psnr["seeds_a"].tolist() == [1] + [2] * 8
    assert psnr["a"].max() < 21
    overall = compare(a, b).overall.set_index("metric")
    assert overall.loc["psnr", "settings"] == 8, "of that setting one seed of a knows nothing"


def test_what_differs_without_any_spread_is_not_settled():
    """As accuracies of few images do: two seeds agree by chance."""
    found = compare(results(acc_z2_knn=0.90), results(start=10, acc_z2_knn=0.91))
    assert of(found, "acc_z2_knn")["p_value"].isna().all()
    assert set(of(found, "acc_z2_knn")["verdict"]) == {NOT_SETTLED}
    third = results(start=10, acc_z2_knn=0.3 / 3), results(start=20, acc_z2_knn=0.1)
    assert set(of(compare(*third), "acc_z2_knn")["verdict"]) == {WITHIN}, "rounding is no difference"


def test_a_metric_is_not_compared_where_one_run_has_none():
    a, b = results(mi_z2=1.0), results(mi_z2=np.nan)
    b.loc[b["beta_2"] > 1, "mi_z2"] = 2.0
    found = compare(a, b)
    assert len(of(found, "mi_z2")) == 3
    assert found.overall.set_index("metric").loc["mi_z2", "settings"] == 3
    assert "mi_z2" not in compare(a, results(mi_z2=np.nan)).metrics


def test_information_that_may_be_the_rates_is_said_to_be():
    def run(start=0, **more):
        return results(start=start, mi_z2=1.0, **more)

    of_rate = results()["beta_2"].eq(0.1)
    controlled = run(mi_z2_permuted=np.where(of_rate, 2.0, 0.0), mi_z2_lower=0.5)
    said = [note for note in compare(run(mi_z2_permuted=0.0, mi_z2_lower=0.4), controlled).notes if "mi_z2" in note]
    assert said == [
        "mi_z2 may be the rate's, not the labels', at 3 of 9 settings: mi_z2_permuted is above 0.1 there or not known; "
        "mi_z2_lower holds anywhere"
    ]
    for known, settings in ((run(mi_z2_permuted=0.0), 0), (run(), 9), (run(mi_z2_permuted=np.nan), 9)):
        notes = str(compare(run(mi_z2_permuted=0.0), known).notes)
        assert (f"at {settings} of 9 settings" in notes) == ("mi_z2 may be" in notes) == (settings > 0)
    assert "mi_z2" not in str(compare(controlled, controlled, ["psnr"]).notes)
    assert [name for name in compare(controlled, controlled).headline if "mi_" in name] == ["mi_z2_lower"]


# --- many questions -----------------------------------------------------------------------------------------


def noise(rng, settings, seeds, scale, shared=0.0, spread=1.0, shift=0.0):
    """Eight metrics at so many settings; a part `shared` of the variance is the seed's, at all settings alike."""
    own, seed = rng.normal(size=(settings, seeds, 8)), rng.normal(size=(1, seeds, 8))
    values = spread * scale[:, None] * (np.sqrt(1 - shared) * own + np.sqrt(shared) * seed) + shift
    frame = pd.DataFrame(values.reshape(-1, 8), columns=["rate_1", *(f"m{k}" for k in range(7))])
    return frame.assign(beta_1=np.repeat(np.arange(1.0, settings + 1), seeds), seed=np.tile(np.arange(seeds), settings))


def scales(rng, settings):
    """Spreads that differ by orders of magnitude between settings, as they do."""
    return np.exp(2 * rng.normal(size=(settings, 8)))


@pytest.mark.parametrize(("seeds", "spread"), [((2, 2), 1), ((3, 3), 1), ((2, 5), 1), ((3, 3), 10), ((2, 2), 10)])
def test_a_single_question_is_answered_wrongly_at_most_twice_as_often_as_said(seeds, spread):
    rng = np.random.default_rng(0)
    scale = scales(rng, 2000)
    a, b = (noise(rng, 2000, count, scale, spread=width) for count, width in zip(seeds, (1, spread), strict=True))
    p = compare(a, b).table["p_value"]
    assert len(p) == 16_000
    for level in (0.05, 0.01):
        assert (p <= level).mean() < WELCH_ERRS * level + 3 * np.sqrt(WELCH_ERRS * level / len(p))


@pytest.mark.parametrize(("seeds", "shared"), [(2, 0.0), (3, 0.9)])
def test_runs_that_differ_in_seeds_alone_do_not_move(seeds, shared):
    rng = np.random.default_rng(1)
    wrong = np.zeros(2)
    for _ in range(40):
        scale = scales(rng, 16)
        found = compare(*(noise(rng, 16, seeds, scale, shared) for _ in range(2)))
        wrong += [table["verdict"].eq(MOVED).any() for table in (found.table, found.overall)]
    assert (wrong <= 4).all(), "5 % of 40 are 2"


def test_of_what_moved_at_most_a_twentieth_did_not():
    rng = np.random.default_rng(2)
    scale = scales(rng, 1000)
    shifted = rng.random((1000, 8)) < 0.3
    shift = (20 * scale * shifted)[:, None]
    found = compare(noise(rng, 1000, 4, scale), noise(rng, 1000, 4, scale, shift=shift))
    moved = found.table["verdict"].eq(MOVED).to_numpy().reshape(8, 1000).T
    assert moved[shifted].mean() > 0.9
    assert 0 < (moved & ~shifted).sum() / moved.sum() < 0.05


def test_a_seed_is_one_experiment_for_the_mean_over_settings():
    a, b = results(seeds=3, spread=0), results(seeds=3, spread=0)
    a["psnr"] += a["seed"] * 0.1
    b["psnr"] += b["seed"] * 0.1 + 0.05
    row = compare(a, b, ["psnr"]).overall.iloc[0]
    assert_allclose(row["standard_error"], np.sqrt(2 * 0.01 / 3))
    assert (row["verdict"], row["settings"], row["higher"]) == (WITHIN, 9, 9)


# --- settings -----------------------------------------------------------------------------------------------


def test_settings_of_one_run_alone_are_left_out_and_counted():
    found = compare(results(grid=(0.1, 1.0)), results(grid=(1.0, 10.0, 100.0), start=10))
    assert len(found.points[0]) == len(found.points[1]) == 1
    assert found.notes[-1] == "1 setting in both are compared; left out: 3 of 4 of a, 8 of 9 of b"
    third = 10 ** (1 / 3)
    close = compare(results(grid=(third,)), results(grid=(float(f"{third:.8g}"),)))
    assert len(close.points[0]) == 1, "a beta that was written and read is the same"


def test_families_are_told_apart():
    a = pd.concat([results(model=model, shift=shift) for model, shift in (("one", 0), ("two", 50))])
    found = compare(a, results(model="two", shift=50))
    assert found.keys == ["model", "beta_2", "beta_1"]
    assert set(found.table["model"]) == {"two"} and (found.table["difference"] == 0).all()
    lone = compare(results(model="ghvae"), results(model="lvae"))
    assert lone.keys == ["beta_2", "beta_1"] and "ghvae" in lone.notes[0] and "lvae" in lone.notes[1]


def test_target_rates_are_settings_where_both_have_them():
    a, b = (results(start=s, target_2=5.0, target_1=results()["seed"] * 0 + 7.0) for s in (0, 10))
    a, b = (frame[frame["beta_2"].eq(1) & frame["beta_1"].eq(1)] for frame in (a, b))
    found = compare(a, b.assign(beta_2=b["seed"] + 0.5))
    assert found.keys == ["target_2", "target_1"] and "beta_2" in found.metrics
    with pytest.raises(InputError, match="share no setting of beta_2, beta_1"):
        compare(a.assign(beta_2=0.77), results())


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (results(grid=(5.0,)), "share no setting of beta_2, beta_1"),
        (results(dataset="mnist"), "run 'a' is of digits and run 'b' of mnist"),
        (results().assign(rate_3=1.0, beta_3=1.0), "has 2 layers of latents and run 'b' has 3"),
        (results().assign(beta_1=np.nan), "run 'b': some of its models have no beta_1"),
        (pd.concat([results(), results()]), "run 'b' has several models at one setting with one seed"),
        (results()[:0], "the results have no rows"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(other, said):
    with pytest.raises(InputError, match=said) as error:
        compare(results(), other)
    assert "\n" not in str(error.value)


def test_metrics_can_be_chosen():
    found = compare(results(), results(start=10), ["psnr"])
    assert found.metrics == found.headline == ["psnr"] and len(found.table) == 9
    with pytest.raises(InputError, match="metric 'pnsr': allowed are distortion, rate_2, rate_1, psnr"):
        compare(results(), results(), ["pnsr"])


def test_objectives_that_differ_are_named():
    a, b = results(run="quick"), results(run="mine", epochs=9)
    a.attrs["objective"], b.attrs["objective"] = "Eq. 8", "not Eq. 8 but f(x)"
    found = compare(a, b)
    assert found.names == ("quick", "mine")
    assert found.notes[0].startswith("a: quick: digits, ghvae, 3 epochs") and found.notes[0].endswith("; Eq. 8")
    assert "9 epochs" in found.notes[1] and found.notes[1].endswith("; not Eq. 8 but f(x)")


def test_every_stored_column_has_a_name_and_accuracies_are_percent():
    for column in columns(2):
        assert shown_metric(column, 2).column == column
    assert (shown_metric("acc_mu2_knn", 2).factor, shown_metric("psnr", 2).unit) == (100, "dB")


# --- the figure ---------------------------------------------------------------------------------------------


def dots(fig, gid):
    return sum(len(one.get_offsets()) for one in fig.findobj(lambda artist: artist.get_gid() == gid))


def test_the_figure_marks_what_moved_and_names_the_runs():
    a, b = results(run="quick", inception_score=2.0), results(run="mine", start=10, inception_score=2.5)
    b.loc[b["beta_2"].eq(0.1), "psnr"] -= 3
    found = compare(a, b)
    fig = drawn(found)
    assert (dots(fig, "a"), dots(fig, "b"), dots(fig, "lower"), dots(fig, "higher")) == (9, 9, 3, 0)
    assert (dots(fig, WITHIN), dots(fig, NOT_SETTLED)) == (6, 9)
    text = words(fig)
    assert "a: quick: digits" in text and "b: mine: digits" in text and "moved at 3 of 9 settings" in text
    assert "Inception Score" in text and "PSNR of quick (dB)" in text and "difference (dB)" in text
    assert "moved, higher in mine" not in text and "at most 5 % has not" in fig.caption


def test_one_layer_has_a_figure_too():
    frame = results().drop(columns=["rate_2", "beta_2"]).drop_duplicates(["beta_1", "seed"])
    fig = drawn(compare(frame, frame))
    assert dots(fig, "a") == dots(fig, "b") == 3 and "$D$" in words(fig)


# --- the command --------------------------------------------------------------------------------------------


def finished(output, name, shift=0.0, seeds=3, fingerprint="f", test_images=500, start=0, **changes):
    """A finished run as far as its results go."""
    config = Config.make(
        {"name": name, "epochs": 3, "betas": list(GRID), "seeds": seeds, "classifier_epochs": 1} | changes
    )
    folder = output / "runs" / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**config.dump(), "block": None}))
    data = {"name": "digits", "fingerprint": fingerprint, "train_images": 1000, "test_images": test_images}
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "objective.txt").write_text("Eq. 8\n\nsha256 0")
    frame = results(seeds=seeds, shift=shift, start=start, inception_score=2.0)
    frame["inception_score"] += shift + 0.01 * np.random.default_rng(start).normal(size=len(frame))
    frame.reindex(columns=columns(2)).to_parquet(folder / "results.parquet")
    return folder


def test_the_command_writes_a_figure_and_a_table_and_says_what_moved(output, capsys):
    finished(output, "quick")
    folder = finished(output, "my-idea", shift=3, start=10)
    assert main(["compare", "quick", str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"^  psnr +\+[23]\.\d+ ± 0\.\d+ dB, moved; higher at 9, lower at 0 of 9; moved at 9, most", said, re.M
    )
    assert "9 settings in both are compared" in said and "my-idea minus quick" in said
    place = output / "figures/compare-quick-my-idea"
    assert {path.name for path in place.iterdir()} == {
        *(f"compare.{kind}" for kind in ("pdf", "png", "json")),
        *(f"compare_table.{kind}" for kind in ("csv", "md", "json")),
    }
    assert str(place / "compare.png") in said and str(place / "compare_table.csv") in said
    table = pd.read_csv(place / "compare_table.csv")
    assert table[table["metric"].eq("psnr")]["verdict"].eq(MOVED).all() and len(table) == 5 * 9
    note = json.loads((place / "compare.json").read_text())
    assert note["runs"] == ["quick", "my-idea"] and len(note["inputs"]) == 2 and "moved" in note["caption"]


def test_scores_that_were_measured_in_different_ways_are_not_settled(output, capsys):
    finished(output, "a")
    finished(output, "b", shift=3, start=10, classifier_epochs=2, learning_rate=0.5)
    assert main(["compare", "a", "b", "--metric", "inception_score", "psnr"]) == 0
    said = capsys.readouterr().out
    assert "learning_rate is 0.0003 in a and 0.5 in b" in said
    assert "inception_score: measured in different ways (classifier_epochs), not settled" in said
    table = pd.read_csv(output / "figures/compare-a-b/compare_table.csv").set_index("metric")["verdict"]
    assert set(table["inception_score"]) == {NOT_SETTLED} and set(table["psnr"]) == {MOVED}


def test_other_code_of_an_objective_without_a_name_is_said(output):
    for name, code in (("a", "1"), ("b", "2"), ("c", "2")):
        folder = finished(output, name)
        (folder / "objective.txt").write_text(f"not Eq. 8 but f, see objective.txt\n\n{code}\n\nsha256 {code}")
    differ = "the objectives differ: see objective.txt in both folders"
    assert differ in compare("a", "b").notes and differ not in compare("b", "c").notes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "compare: give two finished runs, such as ./run_all.sh compare quick my-idea, not 0; there are a, other"),
        (["a"], "not 1"),
        (["a", "nowhere"], "no run 'nowhere'; there are a, begun, other, other-test"),
        (["a", "begun"], "run 'begun' has no results yet"),
        (["a", "other"], "of different images, though both data sets are called digits"),
        (["a", "other-test"], "measured on different numbers of test images"),
        (["a", "a", "--metric", "no"], "metric 'no': allowed are"),
    ],
)
def test_the_command_refuses_in_one_line(output, capsys, words, said):
    finished(output, "a")
    finished(output, "other", fingerprint="g")
    finished(output, "other-test", test_images=300)
    (finished(output, "begun") / "results.parquet").unlink()
    assert main(["compare", *words]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1
    assert not printed.out and not (output / "figures").exists()


def test_published_runs_can_be_compared():
    runs = ROOT / "published/runs"
    found = compare(runs / "mnist-7x7", runs / "mnist-9x9", ["psnr"])
    assert found.notes[-1] == "49 settings in both are compared; left out: 0 of 49 of a, 32 of 81 of b"
    assert found.overall["verdict"].tolist() == [NOT_SETTLED] and found.overall["difference"][0] > 0, "one has one seed"
