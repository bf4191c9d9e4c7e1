"""A run folder of version 0.10 stays readable: its configuration, tables, weights and images.

The folder in ``expected/run`` is kept as it was made, by this command. A version that cannot read it any more says so
in CHANGELOG and makes another::

    ./run_all.sh rd-quick --set "model=['---']" "betas=[[0.5]]" width=0.1 pseudo_inputs=5 epochs=1 train_images=40 \\
        test_images=10 batch_size=20 likelihood_images=2 blocks=1 dataset=digits --name kept
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hvae_core import load, load_model, load_results
from hvae_core.analysis.points import grid_means
from hvae_core.errors import InputError
from hvae_core.evaluation import rates
from hvae_core.pipeline.command import main
from hvae_core.randomness import generator
from hvae_core.runs.about import about
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, load_images, open_run, run_folder
from hvae_core.runs.profiles import load_profile
from hvae_core.runs.results import training_history


@pytest.fixture
def kept(output):
    shutil.copytree(Path(__file__).parent / "expected/run", output / "runs/kept")
    return load_config("kept")


def test_the_configuration_is_what_it_was(kept):
    assert kept == Config.make(
        {
            "name": "kept",
            "dataset": "digits",
            "train_images": 40,
            "test_images": 10,
            "model": "---",
            "width": 0.1,
            "pseudo_inputs": 5,
            "betas": [[0.5]],
            "epochs": 1,
            "batch_size": 20,
            "learning_rate": 0.003,
            "schedule": "two-phase",
            "likelihood_images": 2,
            "blocks": 1,
        }
    )


def test_results_are_read_and_nothing_is_written(kept):
    def files():
        return {path: path.read_bytes() for path in run_folder("kept").rglob("*") if path.is_file()}

    before = files()
    results = load_results("kept")
    pd.testing.assert_frame_equal(results, pd.read_csv(run_folder("kept") / "results.csv"), check_dtype=False)
    assert about("kept")["objective"] == "Eq. 8"
    assert len(training_history(kept)) == 1
    assert len(grid_means(results)) == 1
    assert load_images("kept", "likelihood")["generated"].shape[:1] == (1,)
    assert files() == before


class Earlier:
    """The noise of version 0.10: PyTorch's own."""

    def __init__(self, seed, purpose, device):
        self.source = generator(seed, purpose)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.source)


def test_weights_give_the_terms_that_were_measured(kept, monkeypatch):
    monkeypatch.setattr(rates, "Noise", Earlier)
    data = load("digits").first(40, 10)
    model, row = load_model("kept", 0), load_results("kept").iloc[0]
    found = rates.named(rates.mean_terms(model, data.x_test, int(row["seed"])))
    np.testing.assert_allclose(
        [found[name] for name in ("distortion", "rate_1")], [row["distortion"], row["rate_1"]], 1e-4
    )


def test_the_command_knows_the_run(kept, capfd):
    changes = ["width=0.1", "pseudo_inputs=5", "epochs=1", "train_images=40", "test_images=10", "batch_size=20"]
    changes += ["model=['---']", "betas=[[0.5]]", "likelihood_images=2", "blocks=1", "dataset=digits"]
    assert main(["rd-quick", "--set", *changes, "--name", "kept", "--dry-run"]) == 0
    assert "would do" in capfd.readouterr().out


def test_keys_that_had_no_effect_are_left_out(output):
    open_run(load_profile("quick", ["blocks=1"], "old"))
    path = run_folder("old") / "config.yaml"
    path.write_text(
        path.read_text().replace("width: 1.0", "width: 0.5").replace("pseudo_inputs: 500", "pseudo_inputs: 5")
    )
    assert "width: 0.5" in path.read_text()
    assert load_config("old").width == 1
    open_run(load_profile("quick", ["blocks=1"], "old"))  # the same command, as today's version takes it
    with pytest.raises(InputError, match="epochs is"):
        open_run(load_profile("quick", ["blocks=1", "epochs=1"], "old"))


@pytest.mark.parametrize("model", ["{}", "[]", "[[a]]", "5"])
def test_a_configuration_whose_model_is_no_name_is_refused_in_a_line(output, model):
    folder = output / "runs/odd"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"model: {model}\nwidth: 0.5\n")
    with pytest.raises(InputError, match=r"config\.yaml: model"):
        load_config("odd")
