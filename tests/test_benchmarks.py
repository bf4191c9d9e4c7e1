"""What a benchmark chooses by: no test image, and nothing beyond the budget."""

import importlib.util

import pytest
import torch

from hvae_core.files import ROOT
from hvae_core.runs.profiles import load_profile


@pytest.fixture(scope="module")
def conditioning():
    spec = importlib.util.spec_from_file_location("conditioning", ROOT / "benchmarks/conditioning.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
