"""What a run was trained for: kept to be read and compared, and said on its figures."""

from functools import partial

import pytest
import torch
import yaml

from hvae_core import load_results
from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.models import build
from hvae_core.objective import lagrangian, target_rate
from hvae_core.runs.about import about, constant
from hvae_core.runs.code import described_function
from hvae_core.runs.config import Config
from hvae_core.runs.identity import keep_objective, kept_objective, named_objective

TARGET = 5.0


def call(terms, betas):
    return lagrangian(terms, betas)


def written_out(terms, betas):
    total = terms.distortion.mean()
    for rate, beta in zip(terms.rates.mean(0), betas, strict=True):
        total = total + beta * rate
    return total


def free_bits(terms, betas):
    """Three nats of each layer cost nothing."""
    return terms.distortion.mean() + terms.rates.mean(0).clamp(min=3.0) @ betas


def without_gradient(terms, betas):
    return (terms.distortion + terms.rates.detach() @ betas).mean()


def given_rate(terms, betas):
    rate_2, rate_1 = terms.rates.mean(0)
    return terms.distortion.mean() + 10 * (rate_2 - TARGET).abs() + betas[1] * rate_1


def only_two_layers(terms, betas):
    return (terms.distortion + betas[0] * terms.rates[:, 0] + betas[1] * terms.rates[:, 1]).mean()


@pytest.mark.parametrize("function", [lagrangian, call, written_out, lambda t, b: (t.distortion + t.rates @ b).mean()])
def test_all_that_has_the_values_of_eq_8_is_eq_8(function):
    assert named_objective(function, 2) == named_objective(function, 1) == named_objective(function, 3) == "Eq. 8"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (free_bits, "terms.distortion.mean() + terms.rates.mean(0).clamp(min=3.0) @ betas"),
        (without_gradient, "(terms.distortion + terms.rates.detach() @ betas).mean()"),
        (given_rate, "given_rate, see objective.txt"),
        (lambda t, b: 2 * lagrangian(t, b), "2 * lagrangian(t, b)"),
        (partial(target_rate, weight=2.0), " with weight = 2.0"),
        (lambda terms, betas: lagrangian(terms, [1.0]), "lagrangian(terms, [1.0])"),
    ],
)
def test_what_has_other_values_or_gradients_is_named(function, said):
    line = named_objective(function, 2)
    assert line.startswith("not Eq. 8 but ") and line.endswith(said)


def test_eq_8_of_two_layers_need_not_be_that_of_three():
    assert named_objective(only_two_layers, 2) == "Eq. 8"
    assert named_objective(only_two_layers, 3).startswith("not Eq. 8")


def begun(output, name="mine", **changes):
    config = Config.make({"name": name, **changes})
    folder = output / "runs" / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**config.dump(), "block": None}))
    (folder / "results.parquet").touch()  # something was trained
    return config, folder


def test_what_a_run_is_trained_for_can_be_read_and_compared(output):
    config, folder = begun(output)
    keep_objective(config, given_rate)
    text = (folder / "objective.txt").read_text()
    first, *_, last = text.splitlines()
    assert first == "not Eq. 8 but given_rate, see objective.txt" and last == f"sha256 {kept_objective('mine')}"
    assert "    return terms.distortion.mean() + 10 * (rate_2 - TARGET).abs() + betas[1] * rate_1\n" in text
    assert "\nTARGET = 5.0\n" in text and "Module(" not in text
    keep_objective(config, given_rate)
    assert (folder / "objective.txt").read_text() == text
    with pytest.raises(InputError, match="another objective"):
        keep_objective(config, free_bits)
    assert about("mine")["objective"] == first


def test_comments_and_layout_of_an_objective_do_not_matter(output, monkeypatch):
    config, _ = begun(output)
    keep_objective(config, free_bits)

    def free_bits_again(terms, betas):
        # told in another way
        return (
            terms.distortion.mean() + terms.rates.mean(0).clamp(min=3.0) @ betas  # and laid out in another way
        )

    source = "free_bits_again"
    monkeypatch.setattr(
        "hvae_core.runs.identity.described_function",
        lambda function: described_function(function).replace(source, "free_bits"),
    )
    keep_objective(config, free_bits_again)
    monkeypatch.undo()
    keep_objective(config, free_bits)


def test_a_changed_constant_is_another_objective(output, monkeypatch):
    config, _ = begun(output)
    keep_objective(config, given_rate)
    monkeypatch.setitem(given_rate.__globals__, "TARGET", 6.0)
    with pytest.raises(InputError, match="another objective"):
        keep_objective(config, given_rate)


def test_an_objective_that_was_kept_as_a_syntax_tree_is_known_and_made_readable(output):
    config, folder = begun(output)
    (folder / "objective.txt").write_text(described_function(call) + "\n")
    assert about("mine")["objective"] == ""
    keep_objective(config, call)
    assert about("mine")["objective"] == "Eq. 8"
    with pytest.raises(InputError, match="another objective"):
        keep_objective(config, free_bits)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Eq. 8"),
        ({"warm_up": 0.2}, "Eq. 8, betas rising from 0 over the first 20% of training"),
        ({"target_rates": [[5], [10]], "betas": [[0.1], [0.1]]}, "not Eq. 8 but target rates"),
    ],
)
def test_warm_up_and_target_rates_are_said(output, changes, said):
    config, _ = begun(output, **changes)
    keep_objective(config, call)
    assert about("mine")["objective"].startswith(said)


def test_published_results_know_their_run():
    results = load_results(ROOT / "published/runs/mnist-9x9")
    assert results.attrs == {
        "run": "mnist-9x9",
        "objective": "Eq. 8",
        "scored": 2000,
        "constant": 0.0,
        "encoder_context": "none",
    }


def test_colour_images_have_a_constant_and_binary_ones_have_none():
    assert load_results("published/runs/cifar10-5x5").attrs["constant"] == pytest.approx(1770.8, abs=0.05)
    assert load_results("published/runs/mnist-9x9").attrs["constant"] == 0


def test_the_constant_is_what_a_perfect_reconstruction_costs():
    model = build("ghvae", (3, 32, 32), sigma_x=0.5)
    likelihood = model.likelihood([torch.zeros(1, *shape) for shape in model.latent_shapes])
    assert -likelihood.log_prob(likelihood.mode).item() == pytest.approx(constant((3, 32, 32), 0.5), rel=1e-5)
