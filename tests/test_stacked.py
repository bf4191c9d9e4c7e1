"""Many models measured at once: the same numbers as one after the other, whatever the block."""

import time

import numpy as np
import pandas as pd
import pytest
import torch

from hvae_core.data.dataset import pixels
from hvae_core.evaluation import classifier, generation, rates, reconstruction, representation, stacked
from hvae_core.evaluation.stacked import Measurement
from hvae_core.models import build
from hvae_core.names import FAMILIES
from hvae_core.objective import lagrangian
from hvae_core.pipeline import measuring, stages
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_images, open_run, run_folder
from hvae_core.runs.profiles import load_profile
from hvae_core.runs.results import collect, training_table
from hvae_core.runs.weights import load_model
from hvae_core.training.plan import Member

SHAPES = {"ghvae": (1, 28, 28), "lvae": (3, 32, 32)}


def models(count, name="ghvae"):
    """Fresh models, two seeds in turn."""
    torch.manual_seed(0)
    made = [build(name, SHAPES[name]).requires_grad_(False).eval() for _ in range(count)]
    return made, {i: Member((1.0, 1.0), seed=i % 2, model=name) for i in range(count)}


def everything(x, name):
    """All that the stages compute."""
    torch.manual_seed(1)
    network = classifier.ARCHITECTURES[name](x.shape[1:], 10).requires_grad_(False).eval()
    judge = classifier.Classifier(network, name, 1, 0.1, torch.device("cpu"))

    def compute(model, seed):
        return {
            "terms": rates.mean_terms(model, x, seed),
            "errors": reconstruction.errors(model, x),
            "p": judge.probabilities(generation.samples(model, 9, seed)),
            **representation.latents(model, x, seed),
        }

    return compute


@pytest.mark.parametrize(("name", "judge"), [("ghvae", "small-cnn"), ("lvae", "resnet-18")])
def test_a_block_gives_what_each_model_gives(name, judge, monkeypatch):
    x = torch.randint(0, 256, (8, *SHAPES[name]), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    for module in (rates, reconstruction, generation, representation):
        monkeypatch.setattr(module, "BATCH", 5)  # the last batch is smaller
    made, members = models(5, name)
    compute = everything(x, judge)
    together = dict(stacked.each(compute, members, made.__getitem__, 3))
    assert sorted(together) == list(members)
    for index, tensors in together.items():
        alone = compute(made[index], members[index].seed)
        assert set(tensors) == set(alone)
        for key, value in tensors.items():
            torch.testing.assert_close(value, alone[key], rtol=1e-5, atol=1e-6)
            assert value.untyped_storage().nbytes() == value.nbytes, "a view would take its block along"


def test_models_computed_side_by_side_give_the_same_bits():
    x = torch.randint(0, 256, (8, *SHAPES["ghvae"]), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    made, members = models(5)
    compute = everything(x, "small-cnn")
    one_by_one, at_once = (dict(stacked.each(compute, members, made.__getitem__, 1, threads)) for threads in (1, 3))
    assert list(at_once) == list(members)
    for index, tensors in one_by_one.items():
        assert all(torch.equal(value, at_once[index][key]) for key, value in tensors.items())


@pytest.mark.parametrize("name", [*FAMILIES, "deep"])
def test_rates_of_every_architecture_pass_through_in_blocks(name, images, double, monkeypatch):
    monkeypatch.setattr(rates, "pixels", lambda x: pixels(x).double())
    torch.manual_seed(0)
    options = {"latent_sizes": [8, 20, 256]} if name == "deep" else {"width": 0.1, "pseudo_inputs": 5}
    made = [
        build("ghvae" if name == "deep" else name, (1, 28, 28), **options).requires_grad_(False).eval()
        for _ in range(2)
    ]

    def compute(model, seed):
        return {"terms": rates.mean_terms(model, images[:3], seed)}

    members = dict.fromkeys(range(2), Member((1.0,), 3))
    for index, tensors in stacked.each(compute, members, made.__getitem__, 2):
        torch.testing.assert_close(tensors["terms"], compute(made[index], 3)["terms"], rtol=1e-9, atol=1e-9)


def test_a_block_is_of_one_seed_and_one_architecture(monkeypatch):
    made, members = models(4)
    members[2] = Member((1.0, 1.0), 0, "another")
    seen = []

    def block(compute, models, seed):
        seen.append(([made.index(model) for model in models], seed))
        return {"x": torch.zeros(len(models))}

    monkeypatch.setattr(stacked, "_block", block)
    assert [index for index, _ in stacked.each(None, members, made.__getitem__, 9)] == [0, 1, 3, 2]
    assert seen == [([0], 0), ([1, 3], 1), ([2], 0)]


def scarce(monkeypatch, room):
    """A device with memory for so many models."""
    vmap, sizes = stacked.vmap, []

    def small_device(function, **how):
        def run(parameters):
            sizes.append(len(next(iter(parameters.values()))))
            if sizes[-1] > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return vmap(function, **how)(parameters)

        return run

    monkeypatch.setattr(stacked, "vmap", small_device)
    return sizes


def test_out_of_memory_halves_the_block_and_changes_nothing(images, monkeypatch, capsys):
    made, members = models(10)

    def compute(model, seed):
        return {"terms": rates.mean_terms(model, images[:4], seed)}

    sizes = scarce(monkeypatch, 2)
    halved = dict(stacked.each(compute, members, made.__getitem__, 5))
    assert sizes == [5, 3, 2, 2, 2, 2], "and the next seed begins with what suffices; one model needs no stack"
    assert "out of memory with 5 models at once; going on with 3" in capsys.readouterr().err
    for index, tensors in halved.items():
        torch.testing.assert_close(
            tensors["terms"], compute(made[index], members[index].seed)["terms"], rtol=1e-5, atol=0
        )


def test_out_of_memory_of_a_single_model_is_an_error():
    made, members = models(3)

    def compute(model, seed):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(stacked.each(compute, members, made.__getitem__, 2))


# --- through the stages -----------------------------------------------------------------------------------------

SETTINGS = [
    "betas=[1, 10]",
    "seeds=2",
    "epochs=1",
    "train_images=40",
    "test_images=30",
    "batch_size=20",
    "blocks=1",
    "generated_samples=20",
    "classifier_epochs=1",
    "device=cpu",
]


def in_blocks(monkeypatch, size=2):
    """As on a GPU."""
    monkeypatch.setattr(stacked, "at_once", lambda device: size)


def run(name):
    """Eight models of two seeds; the last one of each has diverged."""
    config = load_profile("quick", SETTINGS, name)
    open_run(config)
    data = stages.load_data(config)
    stages.train_members(
        config, data, lambda terms, betas: lagrangian(terms, betas) * torch.where((betas == 10).all(), torch.nan, 1.0)
    )
    collect(name)
    return config, data


def tables(config, data):
    return {
        "training": training_table(config.name),
        "reconstruction": stages.reconstruct(config, data),
        "generation": stages.generate(config, data)[0],
        "representation": stages.represent(config, data),
    }


def assert_close(a, b, **tolerance):
    """Columns of numbers; accuracies are of six images, of which one may fall to the other side of a boundary.

    Information is a difference of logarithms of float32 densities: near 0 its rounding is theirs.
    """
    assert list(a) == list(b)
    for name in a:
        if name.startswith("acc_"):
            np.testing.assert_allclose(a[name], b[name], atol=0.17)
        elif a[name].dtype == float:
            atol = max(tolerance["atol"], 1e-6 * name.startswith("mi_"))
            np.testing.assert_allclose(a[name], b[name], rtol=tolerance["rtol"], atol=atol, err_msg=name)
        else:
            pd.testing.assert_series_equal(a[name], b[name])


def test_the_stages_in_blocks_are_as_without(output, monkeypatch):
    monkeypatch.setenv("HVAE_JOBS", "1")
    one = tables(*run("one"))
    in_blocks(monkeypatch)
    together = tables(*run("together"))
    for stage, table in together.items():
        assert_close(table, one[stage], rtol=1e-5, atol=1e-9)
        assert table.iloc[:, -1].notna().tolist() == [True, True, True, False] * 2 or stage == "training"
    assert together["training"]["status"].tolist() == ["ok", "ok", "ok", "diverged"] * 2
    for stage in ("reconstruction", "generation"):
        a, b = (load_images(name, stage)["images"].astype(int) for name in ("one", "together"))
        assert a[:3].any(axis=(1, 2, 3, 4)).all()
        assert np.abs(a - b).max() <= 1, "rounded to 8 bits"


def test_scores_run_in_processes_and_go_on_where_they_were_stopped(output, monkeypatch):
    config, data = run("stopped")
    in_blocks(monkeypatch)
    log = run_folder("stopped") / "tables" / ".reconstruction.jsonl"
    broken = output / "broken"
    broken.touch()
    loaded, load = [], load_model

    def kept():
        return len(log.read_text().splitlines()) if log.exists() else 0

    def compute(model, seed):
        return {"errors": reconstruction.errors(model, data.x_test), "seed": torch.tensor(seed)}

    def score(tensors):
        if tensors["seed"] == 1 and broken.exists():
            while kept() < 3:  # however busy the machine is; the test itself has a limit
                time.sleep(0.01)
            raise ZeroDivisionError
        return reconstruction.scores(tensors["errors"])

    def counted(folder, index, device):
        loaded.append(index)
        return load(folder, index, device)

    with pytest.raises(ZeroDivisionError):
        stages.evaluate(config, "reconstruction", Measurement(compute, score), processes=2)
    assert kept() == 3, "the models of the first seed"
    broken.unlink()
    monkeypatch.setattr(measuring, "load_model", counted)
    table = stages.evaluate(config, "reconstruction", Measurement(compute, score))
    assert loaded == [4, 5, 6]
    expected = [
        reconstruction.scores(reconstruction.errors(load("stopped", i), data.x_test))["psnr"]
        for i in (0, 1, 2, 4, 5, 6)
    ]
    np.testing.assert_allclose(table["psnr"].dropna(), expected, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_stages_on_a_gpu(output, monkeypatch):
    """Blocks as one at a time, and as on the CPU."""
    monkeypatch.setenv("HVAE_JOBS", "2")
    config, data = run("gpu")
    cpu = stages.reconstruct(config, data)
    information = stages.represent(config, data)["mi_z2"]
    config = Config.make({**config.dump(), "device": "cuda"})
    data = stages.load_data(config)
    together = tables(config, data)
    np.testing.assert_allclose(together["reconstruction"]["psnr"], cpu["psnr"], atol=0.02)
    np.testing.assert_allclose(together["representation"]["mi_z2"], information, atol=0.02)
    in_blocks(monkeypatch, 1)
    one = tables(config, data)
    for stage, table in together.items():
        assert_close(table, one[stage], rtol=1e-2, atol=1e-2)
