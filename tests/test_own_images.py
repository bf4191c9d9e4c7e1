"""A conditioned network on images of a stranger's: training is fitted to their number, and ends in pages."""

import numpy as np
import pytest
from test_conditioned import finished

from hvae_core.analysis.overfit import gap, too_few
from hvae_core.claims.report import report
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.pipeline.own_images import fitted, training_time
from hvae_core.pipeline.paging import explorer
from hvae_core.runs.config import Config
from hvae_core.runs.folder import open_run
from hvae_core.runs.profiles import load_profile
from hvae_core.runs.results import load_results
from hvae_core.training.conditioned import check_batch_size

MINE = {"dataset": "/there/mine.npz", "name": "mine"}


def profile(name: str = "quick-conditioned", **changes) -> Config:
    return load_profile(name, {**MINE, **changes})


def test_any_number_of_images_gets_batches_that_can_be_in_groups(output):
    for images in [*range(4, 200), 9_999, 10_000, 60_000]:
        config = fitted(profile(), [], images)
        check_batch_size(config.batch_size, images)
        updates = config.epochs * -(-images // config.batch_size)
        assert 3_000 <= updates <= 6_500, images


def test_what_is_given_stays(output):
    config = fitted(profile(epochs=7, batch_size=32), ["epochs", "batch_size"], 500)
    assert (config.epochs, config.batch_size) == (7, 32)
    assert fitted(profile(batch_size=25), ["batch_size"], 1_000).epochs == 90


def test_other_runs_stay_as_they_are(output):
    for config in (load_profile("quick-conditioned"), load_profile("quick", MINE)):
        assert fitted(config, [], 300) == config


def test_a_run_that_has_begun_keeps_its_own(output):
    config = fitted(profile(), [], 300)
    open_run(config)
    assert fitted(profile(), [], 5_000) == config
    with pytest.raises(InputError, match="epochs is 600 there and 9 here"):
        open_run(fitted(profile(epochs=9), ["epochs"], 5_000))


def test_the_time_is_as_many_updates_as_there_are(output, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))  # each update takes a second
    config, data = load_profile("quick-conditioned", ["epochs=7", "batch_size=64"]), load("digits")
    assert training_time(config, data) == 7 * 16


def test_images_known_by_heart_are_said_to_be_too_few():
    results = load_results(ROOT / "published/runs/mnist-7x7")
    assert too_few(results) == ""
    assert abs(gap(results)) < 0.02
    colour = results.assign(**{name: results[name] + 1770.8 for name in ("distortion", "train_distortion")})
    colour.attrs["constant"] = 1770.8
    assert gap(colour) == pytest.approx(gap(results)), "it does not depend on the unit of a pixel"
    easy = {name: 0.8 * results[name] for name in ("train_distortion", "train_rate_2", "train_rate_1")}
    assert too_few(results.assign(**easy)).startswith("Too few images: L is 24% higher")
    assert too_few(results.drop(columns=list(easy))) == ""


def test_from_a_file_to_a_recommendation(tmp_path, output):
    """Squares and rings of a made kind, in another size than ours and without labels."""
    source = np.random.default_rng(0)
    y, x = np.mgrid[:20, :20]
    far = [
        np.maximum(abs(x - a), abs(y - b)) if i % 2 else np.hypot(x - a, y - b)
        for i, (a, b) in enumerate(source.uniform(7, 12, (160, 2)))
    ]
    images = np.array([255 * ((one > 3) & (one < 6)) for one in far], np.uint8)
    np.savez(tmp_path / "mine.npz", x_train=images[:120], x_test=images[120:])
    path = tmp_path / "mine.npz"
    finished(load_profile("quick-conditioned", {"dataset": str(path), "betas.points": 2, "epochs": 2}, "mine"))
    explorer("mine")
    report("mine")
    text = (tmp_path / "figures/mine/index.html").read_text(encoding="utf-8")
    assert "use: beta_2 = " in text
    page = (tmp_path / "figures/mine/explorer.html").read_text(encoding="utf-8")
    assert '"network":{' in page
    assert "acc_mu2" not in page, "there are no labels"
