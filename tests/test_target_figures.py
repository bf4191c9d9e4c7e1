"""Figures and tables of runs with target rates say what the results say."""

import numpy as np
import pandas as pd
import pytest

from hvae_core import figures
from hvae_core.analysis.points import grid_means, settings
from hvae_core.errors import InputError
from hvae_core.figures.targets import deviations, fixed_totals, optimum, share_metrics


def row(r2, r1, seed=0, off=(0.0, 0.0), **more):
    """A model asked for r2 and r1 nats."""
    held = all(abs(o) <= max(0.02 * r, 0.1) for o, r in zip(off, (r2, r1), strict=True))
    return {
        "dataset": "digits",
        "model": "ghvae",
        "seed": seed,
        "status": "ok",
        "target_2": r2,
        "target_1": r1,
        "target_status": "reached" if held else "unreached",
        "target_reason": None,
        "beta_2": 9 / (1 + r2) + 0.01 * seed,
        "beta_1": 5 / (1 + r1),
        "train_rate_2": r2 + off[0],
        "train_rate_1": r1 + off[1],
        "rate_2": r2 * 1.1,
        "rate_1": r1 * 1.1,
        "rate": 1.1 * (r2 + r1),
        "distortion": 200 - 3 * r1 - r2,
        "psnr": 10 + r1 + seed,
        "inception_score": 2 + r2 * r1 / 100,
        "mi_z2": min(2.3, r2),
        "mi_z2_permuted": min(2.3, r2),
        "mi_z2_lower": r2 * r1 / 100,
        "acc_z2_rbf_svm": min(1, 0.1 + r2 / 20),
        "acc_mu2_rbf_svm": np.nan,
        **more,
    }


GRID = pd.DataFrame([row(r2, r1) for r2 in (1, 4, 10) for r1 in (2, 8)])
SHARES = pd.DataFrame([row(20 * s, 20 * (1 - s), seed) for seed in (0, 1, 2) for s in (0, 0.25, 0.5, 1)])


def test_deviations_are_in_tolerances():
    frame = pd.DataFrame([row(10, 2, off=(0.3, 0.05)), row(4, 8, status="diverged")])
    table = deviations(frame)
    assert table["layer"].tolist() == [2, 2, 1, 1]
    assert table["deviation"].to_numpy() == pytest.approx([0.3, np.nan, 0.05, np.nan], nan_ok=True)
    assert table["allowed"].to_numpy() == pytest.approx([1.5, np.nan, 0.5, np.nan], nan_ok=True)
    assert figures.targets_table(frame)["held, %"].tolist() == [0, 50, 0], "who diverged holds nothing"
    figures.targets(frame.assign(status="diverged")).draw_without_rendering()


def test_the_table_counts_what_is_held():
    frame = pd.concat([GRID, pd.DataFrame([row(20, 4, off=(1, 0)), row(20, 8, off=(0, 0.1))])], ignore_index=True)
    table = figures.targets_table(frame).set_index("layer")
    assert table.loc["z_2", "held, %"] == pytest.approx(100 * 7 / 8)
    assert table.loc["z_1", "held, %"] == 100
    assert table.loc["all", "held, %"] == pytest.approx(100 * 7 / 8)
    assert table.loc["z_2", "worst, in tolerances"] == pytest.approx(2.5)
    assert "Not held: 1 models" in table.attrs["caption"]


@pytest.mark.parametrize(
    "frame",
    [GRID, SHARES, GRID.assign(target_1=np.nan), GRID.assign(target_2=np.nan, target_1=np.nan)],
    ids=["grid", "shares", "one layer", "none"],
)
def test_the_figure_of_targets_is_made_of_any_run(frame):
    if frame["target_2"].isna().all():
        with pytest.raises(InputError, match="without target rates"):
            figures.targets(frame)
        return
    fig = figures.targets(frame)
    held = next(ax for ax in fig.axes if ax.get_title() == "asked and held, training images")
    drawn = {c.get_gid(): np.asarray(c.get_offsets()) for c in held.collections if c.get_gid()}
    np.testing.assert_allclose(drawn["layer 2"], frame[["target_2", "train_rate_2"]].to_numpy())
    assert ("layer 1" in drawn) == frame["target_1"].notna().any()
    fig.draw_without_rendering()


def test_settings_are_targets_where_a_layer_has_one():
    assert settings(GRID) == ["target_2", "target_1"]
    assert settings(GRID.assign(target_1=np.nan)) == ["target_2", "beta_1"]
    points = grid_means(SHARES)
    assert len(points) == 4
    assert (points["seeds"] == 3).all()
    assert points["psnr_sd"].to_numpy() == pytest.approx([1, 1, 1, 1])


def test_shares_of_a_total():
    points = fixed_totals(SHARES)
    assert points["share"].tolist() == [0, 0.25, 0.5, 1]
    assert (points["total"] == 20).all()
    assert points["held"].all()
    broken = SHARES.copy()
    broken.loc[1, "target_status"] = "unreached"
    assert fixed_totals(broken)["held"].tolist() == [True, False, True, True], "one seed that misses is enough"
    with pytest.raises(ValueError, match="every layer has a target"):
        fixed_totals(SHARES.assign(target_1=np.nan))


def test_the_best_share_is_the_highest_and_of_the_distortion_the_lowest():
    points = fixed_totals(SHARES)
    best = {metric.column: optimum(points, metric) for metric in share_metrics(SHARES)}
    assert points["share"][best["psnr"]] == 0
    assert points["share"][best["inception_score"]] == 0.5
    assert points["share"][best["distortion"]] == 0
    assert best["acc_mu2_rbf_svm"] is None
    table = figures.shares_table(SHARES).set_index("metric")
    assert table.loc["psnr", "best share"] == 0
    assert table.loc["psnr", "lead"] == pytest.approx(5)
    assert table.loc["psnr", "settled"]
    assert "acc_mu2_rbf_svm" not in table.index
    assert table.loc["mi_z2_lower", "best share"] == 0.5, "and not 1, where labels at random have the most"
    assert "mi_z2" not in table.index
    unbounded = figures.shares_table(SHARES.drop(columns="mi_z2_lower"))
    assert not unbounded["metric"].str.startswith("mi_").any(), "of an older run nothing is said"
    missed = SHARES.assign(target_status=SHARES["target_status"].where(SHARES["target_2"] > 0, "unreached"))
    assert figures.shares_table(missed).set_index("metric").loc["psnr", "best share"] == 0.25, (
        "what is not held does not win"
    )
    nothing = figures.shares_table(SHARES.assign(target_status="unreached"))
    assert len(nothing) == 5 and nothing["best share"].isna().all(), "and where nothing is held nothing wins"
    single = figures.shares_table(SHARES[SHARES["seed"] == 0])
    assert single["settled"].isna().all(), "one seed settles nothing"


def test_what_a_nat_is_worth_where_betas_are_equal():
    """A known truth: PSNR gains 0.3 and 0.5 dB a nat of R(z_1|z_2) in two seeds; D is lowest where betas are equal."""

    def model(share, seed, **more):
        r2, r1 = 20 * share, 20 * (1 - share)
        learned = 100 + 0.5 * (share - 0.45) ** 2
        psnr = 10 + (0.3 + 0.2 * seed) * 1.1 * r1 + 5 * (share == 0.8)
        betas = {"beta_2": 2.0 ** (4.5 - 10 * share), "beta_1": 2.0 ** (10 * share - 4.5)}
        return row(r2, r1, seed, **betas, **{"psnr": psnr, "train_distortion": learned} | more)

    shares = (0.1, 0.3, 0.4, 0.5, 0.6, 0.8)
    frame = pd.DataFrame([model(share, seed) for seed in (0, 1) for share in shares])
    table = figures.equal_betas_table(frame).set_index("metric")
    assert table["share"].tolist() == pytest.approx([0.45] * len(table))
    gain = table.loc["psnr"]
    assert gain["a nat to z_1"] == pytest.approx(0.4), "and what lies far away, at 0.8, does not count"
    assert gain["standard error"] == pytest.approx(0.1)
    assert gain["seeds"] == 2
    assert table.loc["train_distortion", "a nat to z_1"] == pytest.approx(0, abs=1e-4)
    assert table.loc["acc_z2_rbf_svm", "a nat to z_1"] == pytest.approx(-100 / 20 / 1.1, rel=1e-4), "in percent"
    assert "acc_mu2_rbf_svm" not in table.index
    one = figures.equal_betas_table(frame[frame["seed"] == 0])
    assert one["standard error"].isna().all(), "one seed has no error"
    broken = frame.assign(psnr=frame["psnr"].where((frame["seed"] == 0) | (frame["target_2"] != 10), 99.0))
    missed = broken["target_status"].where(broken["target_2"] != 10, "unreached")
    left = figures.equal_betas_table(broken.assign(target_status=missed)).set_index("metric")
    assert left.loc["psnr", "a nat to z_1"] == pytest.approx(0.4), "a share that is not held does not count"
    lost = broken.assign(status=broken["status"].where(broken["psnr"] < 99, "diverged"))
    assert figures.equal_betas_table(lost).set_index("metric").loc["psnr", "a nat to z_1"] == pytest.approx(0.4)
    assert figures.equal_betas_table(frame.assign(beta_2=1.0, beta_1=2.0)).empty, "betas are equal nowhere"
    restless = frame.assign(beta_1=1.0, beta_2=[0.5, 2.0] * 6)
    assert figures.equal_betas_table(restless).empty, "betas that cross more than once are no slopes"
    deep = frame.assign(target_3=1.0, beta_3=1.0, rate_3=1.0)
    assert figures.equal_betas_table(deep).empty, "with three layers there is more than one way to move a nat"


def test_the_figure_of_shares_marks_the_optimum():
    fig = figures.shares(SHARES)
    titles = [ax.get_title() for ax in fig.axes]
    assert any("PSNR" in title for title in titles)
    assert "$I(y; z_2)$, at least (nats)" in titles and not any("I_q" in title for title in titles)
    assert "total rate is held fixed" in fig.caption
    fig.draw_without_rendering()
