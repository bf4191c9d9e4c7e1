"""What a benchmark chooses by: no test image, and nothing beyond the budget. What its percentages are of."""

import importlib.util
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from hvae_core.files import ROOT
from hvae_core.runs.about import COLOUR, constant
from hvae_core.runs.folder import load_config
from hvae_core.runs.profiles import load_profile


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"benchmarks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def conditioning():
    return benchmark("conditioning")


def test_a_tenth_of_the_training_images_is_held_out_and_the_same_one_each_time(conditioning):
    x = torch.arange(997)
    learn, judge = conditioning.held_out(x)
    assert len(judge) == 99
    assert sorted([*learn.tolist(), *judge.tolist()]) == x.tolist()
    assert all(torch.equal(*pair) for pair in zip((learn, judge), conditioning.held_out(x), strict=True))


def trained(distortion, seconds):
    rows = [{"beta_2": 1.0, "beta_1": beta, "distortion": distortion, "rate_2": 10.0, "rate_1": 1.0} for beta in (1, 2)]
    return {"rows": rows, "seconds": seconds, "one": 10.0, "parameters": 5, "constant": 50.0}


def test_the_lowest_L_within_the_budget_is_chosen(conditioning, capsys):
    variants = {"plain": trained(100, 40), "better": trained(90, 44), "dear": trained(70, 46)}
    assert conditioning.choose(variants, budget=4.5) == "better"
    printed = capsys.readouterr().out
    assert "| plain | 4.00 | 40 | 5 | +19.42 |" in printed  # 61 and 62 nats beside 51 and 52, without the constant
    with pytest.raises(SystemExit, match="no variant costs at most 3 models"):
        conditioning.choose(variants, budget=3)


def test_the_signed_difference_comes_before_the_better_points_as_0(conditioning, capsys):
    models = {"rows": [{**row, "seed": 0} for row in trained(100, 0)["rows"]], "parameters": 7, "constant": 50.0}
    network = trained(100, 40)
    network["rows"][0]["distortion"] -= 6.1  # of 61 nats
    network["rows"][1]["distortion"] += 3.1  # of 62
    conditioning.report({0: network}, models)
    head, _, row = capsys.readouterr().out.strip().splitlines()[-3:]
    assert head.index("mean, %") < head.index("mean size") < head.index("better points as 0")
    assert row == "| 0 | 4.00 | 40 | 5 | -2.5 | 7.5 | -10.0 | +5.0 (1, 2) | 2.50 | 1 of 2 |"


def test_networks_beside_a_grid_that_was_trained_otherwise_are_trained_anew(conditioning):
    def identity(*changes):
        return conditioning.identity(load_profile("quick", changes, "g"), "fingerprint")

    assert identity() == identity("generated_samples=10")
    assert identity() != identity("epochs=7")
    assert identity() != identity("betas.points=3")
    assert conditioning.identity(load_config(ROOT / "published/runs/mnist-7x7"), "f").startswith("mnist-7x7-")


# --- of colour images percentages are of L without the constant that the unit of a pixel sets


UNIT = constant(COLOUR, 0.71)
IMAGES = SimpleNamespace(x_test=torch.zeros(4, *COLOUR))


def terms(distortion):
    return {"distortion": UNIT + distortion, "rate_2": 10.0, "rate_1": 10.0}


class Network:
    """A network in the place of one that was trained; its terms are given beside it."""

    def half(self):
        return self

    float = half

    def at(self, betas):
        return self


def test_rounding_of_weights_is_told_in_percent_of_what_models_can_change(monkeypatch):
    half = benchmark("half")
    before = pd.DataFrame([{"seed": 0, "beta_2": 1.0, "beta_1": 1.0, **terms(80)}])
    given = {"load_results": before, "load_config": SimpleNamespace(sigma_x=0.71), "load_network": Network()}
    for name, value in {**given, "load_data": IMAGES, "average_terms": terms(81)}.items():
        monkeypatch.setattr(half, name, lambda *_, value=value: value)
    assert half.measure("run")["L, %"].tolist() == pytest.approx([1.0], rel=1e-4)


def test_dialled_and_driven_models_are_compared_in_percent_of_what_models_can_change(monkeypatch):
    dial = benchmark("dial")
    dialled = Network()
    driven = pd.DataFrame([{"status": "ok", "target_2": 10.0, "target_1": 10.0}])
    member = SimpleNamespace(targets=(10.0, 10.0))
    config = SimpleNamespace(target_rates=True, members=lambda: [member], layers=2, sigma_x=0.71)
    network = SimpleNamespace(model=dialled, betas=(1.0, 1.0))
    given = {"load_config": config, "training_table": driven, "load_data": IMAGES, "load_model": "driven"}
    for name, value in {**given, "load_network": dialled}.items():
        monkeypatch.setattr(dial, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(dial, "dial", lambda *_, **__: network)
    monkeypatch.setattr(dial, "average_terms", lambda model, *_: terms(81 if model is dialled else 80))
    assert dial.measure("conditioned", "driven")["percent"].tolist() == pytest.approx([1.0])


def test_driven_models_are_told_in_percent_of_what_models_can_change(monkeypatch, capsys):
    equal_rates = benchmark("equal_rates")
    monkeypatch.setattr(equal_rates, "about", lambda run: {"constant": UNIT})
    rows = [
        {"beta_2": 1.0, "beta_1": 1.0, "seed": seed, "fixed": UNIT + fixed, "driven": UNIT + 101, "off": 0.5}
        for seed, fixed in enumerate((99, 101))
    ]
    equal_rates.report_grid("run", pd.DataFrame(rows), ["beta_2", "beta_1"])
    printed = capsys.readouterr().out
    assert "the same seed: median +1.01 %, +0.00 to +2.02 %" in printed
    assert "beside the mean of the seeds with fixed betas: median +1.00 %" in printed
    assert "standard deviation is 1.41 %" in printed

    table = pd.DataFrame(rows).assign(row=0)
    monkeypatch.setattr(equal_rates, "load_config", lambda run: SimpleNamespace(target_rates=True))
    monkeypatch.setattr(equal_rates, "from_targets", lambda *_: table)
    monkeypatch.setattr("sys.argv", ["equal_rates.py", "run", "--seeds", "2"])
    assert equal_rates.main() == 0
    printed = capsys.readouterr().out
    assert "against the mean of the seeds: median +1.00 %" in printed
    assert "standard deviation of the seeds: 1.41 %" in printed
