"""Run folders: whole files, one configuration a name, results joined."""

import ast
import errno
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from hvae_core.errors import InputError
from hvae_core.evaluation.paired import OF_IMAGES
from hvae_core.files import locked, save_tensors, short_folder, whole_file, write_table, write_text
from hvae_core.objective import lagrangian
from hvae_core.pipeline import measuring, stages, training
from hvae_core.runs.code import _code
from hvae_core.runs.config import Config
from hvae_core.runs.folder import (
    comparable_runs,
    figure_folder,
    images_key,
    keep_data,
    load_config,
    load_images,
    open_run,
    run_folder,
    save_images,
)
from hvae_core.runs.identity import described_function
from hvae_core.runs.profiles import load_profile
from hvae_core.runs.results import (
    collect,
    columns,
    join,
    load_results,
    load_scores,
    read_table,
    training_table,
)
from hvae_core.runs.weights import block_folder, load_model

TINY = ["betas=[1, 10]", "epochs=2", "train_images=40", "test_images=30", "batch_size=20", "blocks=1"]


def tiny(name="tiny", *changes):
    changed = {change.partition("=")[0] for change in changes}
    return load_profile("quick", [*(key for key in TINY if key.partition("=")[0] not in changed), *changes], name)


CONTRACT = [
    "dataset",
    "model",
    "seed",
    "beta_2",
    "beta_1",
    "epochs",
    "status",
    "distortion",
    "rate_2",
    "rate_1",
    "rate",
    "elbo",
    "train_distortion",
    "train_rate_2",
    "train_rate_1",
    "psnr",
    "psnr_pooled",
    "psnr_behind",
    "psnr_behind_se",
    "inception_score",
    "inception_score_std",
    "diversity",
    "sharpness",
    "mi_z2",
    "accuracy_bound_mi",
    "accuracy_bound_rate",
    "acc_mu2_logistic",
    "acc_mu2_linear_svm",
    "acc_mu2_rbf_svm",
    "acc_mu2_knn",
    "acc_mu1_logistic",
    "acc_mu1_linear_svm",
    "acc_mu1_rbf_svm",
    "acc_mu1_knn",
    "acc_z2_logistic",
    "acc_z2_linear_svm",
    "acc_z2_rbf_svm",
    "acc_z2_knn",
]


CONTROLS = [f"mi_z2_{kind}" for kind in ("permuted", "lower", "lower_se", "fano")]
CONTROLS += [f"acc_mu2_rbf_svm_{kind}" for kind in ("behind", "behind_se")]


def test_columns_of_the_contract():
    assert columns(2) == CONTRACT + CONTROLS
    assert {"rate_3", "beta_3", "train_rate_3", "mi_z3", "acc_mu3_knn", "acc_z3_knn"} <= set(columns(3))
    assert not [c for c in columns(1) if "2" in c]


def test_one_name_has_one_configuration(output):
    folder = open_run(tiny())
    before = (folder / "config.yaml").read_text()
    open_run(tiny())
    with pytest.raises(InputError, match="epochs is 2 there and 3 here"):
        open_run(tiny("tiny", "epochs=3"))
    assert (folder / "config.yaml").read_text() == before
    assert load_config("tiny") == tiny()
    assert load_config(folder) == tiny()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    write_text(path, "whole")
    with pytest.raises(ZeroDivisionError), whole_file(path) as part:
        part.write_text(f"ha{1 // 0}")
    assert path.read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(InputError, match=r"cannot write .*runs"):
        write_text(tmp_path / "runs" / "quick" / "config.yaml", "")


def test_missing_runs_and_results_are_named(output):
    with pytest.raises(InputError, match="no run 'nothing'; there is none yet"):
        load_results("nothing")
    open_run(tiny())
    with pytest.raises(InputError, match="no run 'nothing'; there are tiny"):
        load_results("nothing")
    with pytest.raises(InputError, match="no results yet"):
        load_results("tiny")
    with pytest.raises(InputError, match="no trained model"):
        collect("tiny")


@pytest.fixture
def trained(output):
    config = tiny()
    open_run(config)
    data = stages.load_data(config)
    table = stages.train_members(config, data)
    collect(config.name)
    return config, data, table


def test_weights_come_back_with_their_terms(trained):
    config, data, table = trained
    model = load_model(config.name, 3)
    from hvae_core.evaluation.rates import average_terms

    terms = average_terms(model, data.x_test, 0)
    assert terms["distortion"] == pytest.approx(table["distortion"][3], rel=1e-6)
    assert not any(p.requires_grad for p in model.parameters())
    assert len({float(load_model(config.name, i).px_conv3.bias[0]) for i in (3, np.int64(3), torch.tensor(3))}) == 1
    for index in (9, -1, np.int64(9)):
        with pytest.raises(InputError, match=f"no trained model {index}; its rows are 0 to"):
            load_model(config.name, index)
    for index in ("3", 3.0, np.float64(3), True, None, [3]):
        with pytest.raises(InputError, match=r"index = .*: allowed are whole numbers"):
            load_model(config.name, index)


def test_a_finished_block_is_trained_anew_only_for_a_reason(trained, capsys, monkeypatch):
    config, data, table = trained
    monkeypatch.setattr(training, "train", lambda *a, **k: pytest.fail("trained"))
    pd.testing.assert_frame_equal(stages.train_members(config, data), table)
    assert "trained already" in capsys.readouterr().out

    def other(terms, betas):
        return lagrangian(terms, betas) + 1

    with pytest.raises(BaseException, match=r"^trained$"):
        stages.train_members(config, data.first(39))
    with pytest.raises(InputError, match="another objective"):
        stages.train_members(config, data, other)


def test_code_fingerprint_is_of_what_code_does():
    import ast

    same = ast.parse("def f(x):\n    '''Doc.'''\n    return x + 1  # why\n")
    assert _code(same) == _code(ast.parse("def f(x):\n\n    return (x + 1)\n"))
    assert _code(same) != _code(ast.parse("def f(x):\n    return x + 2\n"))


def test_training_table_and_history(trained):
    config, _, _ = trained
    table = pd.read_parquet(run_folder("tiny") / "tables" / "training.parquet")
    assert (table["status"] == "ok").all()
    assert table[["seed", "beta_2", "beta_1"]].to_numpy().tolist() == [[m.seed, *m.betas] for m in config.members()]
    np.testing.assert_allclose(table["rate"], table["rate_2"] + table["rate_1"])
    np.testing.assert_allclose(table["elbo"], -(table["distortion"] + table["rate"]))
    history = pd.read_parquet(run_folder("tiny") / "history.parquet")
    assert list(history.groupby(["beta_2", "beta_1"])["epoch"].apply(list)) == [[1, 2]] * 4
    for member in range(4):
        per_epoch = history[history["member"] == member]["train_distortion"]
        assert per_epoch.iloc[1] < per_epoch.iloc[0]


def test_evaluation_goes_on_where_it_was_stopped(trained):
    config, _, _ = trained
    seen = []

    def measure(model, seed):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return {"psnr": float(len(seen))}

    with pytest.raises(KeyboardInterrupt):
        stages.evaluate(config, "reconstruction", measure)
    table = stages.evaluate(config, "reconstruction", measure)
    assert table["psnr"].tolist() == [1, 2, 4, 5], "two rows were kept, the third was made again"
    stages.evaluate(config, "reconstruction", measure, key="other data")
    assert len(seen) == 9


def test_what_was_measured_of_each_image_is_kept_and_models_are_compared_by_it(trained):
    config, _, _ = trained
    images = np.random.default_rng(0).normal(20, 3, (4, 30)).astype(np.float16)
    seen = []

    def measure(model, seed):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        index = len(seen) - (len(seen) > 3) - 1
        return {"psnr": float(images[index].mean()), OF_IMAGES: {"psnr": images[index], "right": images[index] > 20}}

    with pytest.raises(InputError, match=r"no readable tables/reconstruction.npz; 20_reconstruction makes it"):
        load_scores("tiny", "reconstruction")
    with pytest.raises(KeyboardInterrupt):
        stages.evaluate(config, "reconstruction", measure)
    table = stages.evaluate(config, "reconstruction", measure)
    kept = load_scores("tiny", "reconstruction")
    np.testing.assert_array_equal(kept["psnr"], images, "also of those before the interruption")
    assert kept["psnr"].dtype == np.float16
    np.testing.assert_array_equal(kept["right"], images > 20)
    differences = (images[images.mean(1, float).argmax()] - images.astype(float)).T
    np.testing.assert_allclose(table["psnr_behind"], differences.mean(0), atol=1e-12)
    np.testing.assert_allclose(table["psnr_behind_se"], differences.std(0, ddof=1) / 30**0.5, atol=1e-12)


def test_results_are_a_join_with_nulls_for_what_was_not_computed(trained):
    config, _, _ = trained
    stages.evaluate(config, "reconstruction", lambda model, seed: {"psnr": 1.0, "psnr_pooled": 2.0})
    stages.evaluate(config, "generation", lambda model, seed: {})
    stages.evaluate(config, "representation", lambda model, seed: {})
    results = join(config.name)
    assert list(results.columns) == CONTRACT + CONTROLS
    assert len(results) == 4
    assert results["psnr"].tolist() == [1.0] * 4
    assert results["inception_score"].isna().all()
    pd.testing.assert_frame_equal(load_results("tiny"), results)
    by_hand = pd.read_csv(run_folder("tiny") / "results.csv")
    np.testing.assert_allclose(by_hand["distortion"], results["distortion"])


def test_a_diverged_model_keeps_its_row_and_is_not_evaluated(output):
    config = tiny("ill")
    open_run(config)
    data = stages.load_data(config)

    def poison(terms, betas):
        return lagrangian(terms, betas) * torch.where(betas[0] == 10, torch.nan, 1.0)

    stages.train_members(config, data, poison)
    collect("ill")
    seeds = []
    for stage in config.kind.stages:
        stages.evaluate(config, stage, lambda model, seed: seeds.append(seed) or {})
    results = join("ill")
    assert results["status"].tolist() == ["ok", "ok", "diverged", "diverged"]
    assert seeds == [0, 0] * 3, "only the two that are well are evaluated"
    assert results["distortion"].isna().tolist() == [False, False, True, True]
    table = pd.read_parquet(run_folder("ill") / "tables" / "training.parquet")
    assert table["diverged_epoch"].tolist()[2:] == [1, 1]
    measuring.draw_images(
        config, "generation", lambda model, seed: {"shown": np.ones((2, 28, 28), np.uint8)}, {"shown": (2, 28, 28)}
    )
    images = load_images("ill", "generation")["shown"]
    assert images[:2].all()
    assert not images[2:].any()


def test_a_block_that_was_not_trained_is_missing(output):
    config = tiny("half", "blocks=2")
    open_run(config)
    first = Config.make({**config.dump(), "block": 0})
    assert first.block_members() == range(2)
    stages.train_members(first, stages.load_data(first))
    collect("half")
    table = pd.read_parquet(run_folder("half") / "tables" / "training.parquet")
    assert table["status"].tolist() == ["ok", "ok", "missing", "missing"]


def test_a_short_folder_is_made_where_one_can_be(tmp_path, monkeypatch):
    """Where /tmp may not be written to, in the next of them that may; a long path is of no use to a socket."""
    made = tempfile.TemporaryDirectory
    refused = {"/tmp"}

    def temporary(prefix, dir):
        if dir in refused:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return made(prefix=prefix, dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryDirectory", temporary)
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with short_folder() as folder:
        assert folder.is_dir() and len(str(folder)) < 80 and not list(long.iterdir())
        (folder / "file").touch()
    assert not folder.exists()
    with made(prefix="t", dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        with short_folder() as folder:
            assert folder.parent == Path(short)
        refused |= {short, "/var/tmp", "/dev/shm"}
        with pytest.raises(InputError, match="cannot write /tmp: Read-only file system; TMPDIR can be another folder"):
            short_folder().__enter__()


def test_only_one_process_has_a_lock(tmp_path):
    with locked(tmp_path / "lock") as first, locked(tmp_path / "lock", wait=False) as second:
        assert first is not None
        assert second is None
    with locked(tmp_path / "lock", wait=False) as third:
        assert third


def test_the_text_of_code_is_the_same_whatever_python_reads_it():
    """Python 3.12 has a list of type parameters, mostly empty, and 3.13 does not write empty lists down."""
    tree = ast.parse("def f(x, y=None):\n    return g('a=[], b', [], x)\n")
    (function,) = tree.body
    text = _code(tree)
    function.type_params = []
    assert _code(tree) == text
    assert "value='a=[], b'" in text and "Constant(value=None)" in text and "type_params" not in text


class Values(NamedTuple):
    layers: list


def test_an_objective_is_known_by_its_code_and_what_it_refers_to():
    def make(target, text="lambda t, b: (t - target).mean()"):
        scope = {"target": target}
        return eval(text, scope)

    same = described_function(make(5))
    assert same == described_function(make(5))
    assert same != described_function(make(50))
    assert same != described_function(make(5, "lambda t, b: (t + target).mean()"))


WEIGHTS = [1.0, 2.0]


def test_an_objective_is_known_by_what_its_parts_refer_to(monkeypatch):
    """Comprehensions, generators and lambdas have code of their own in most versions of Python."""
    functions = [
        lambda terms, betas: sum([x * WEIGHTS[0] for x in betas]),
        lambda terms, betas: sum(x * WEIGHTS[0] for x in betas),
        lambda terms, betas: (lambda x: x * WEIGHTS[0])(betas),
        partial(lambda weights, terms, betas: weights, torch.arange(5000)),
        partial(lambda terms, betas, *, scale: scale, scale=1.0),
    ]
    before = [described_function(function) for function in functions]
    assert before == [described_function(function) for function in functions]
    monkeypatch.setattr(
        "tests.test_store.WEIGHTS" if __name__.startswith("tests.") else f"{__name__}.WEIGHTS", [3.0, 2.0]
    )
    functions[3:] = [
        partial(functions[3].func, torch.arange(5000).index_fill(0, torch.tensor(2500), 0)),
        partial(functions[4].func, scale=2.0),
    ]
    assert not set(before) & {described_function(function) for function in functions}


def test_what_is_no_function_is_no_objective():
    class Objective:
        def __call__(self, terms, betas):
            return terms.distortion

    with pytest.raises(InputError, match=r"is no function; give one, or a functools.partial of one"):
        described_function(Objective())
    held, mean = Objective(), partial(torch.mean, dim=0)  # what it refers to may be anything

    def objective(terms, betas):
        return mean(held(terms, betas))

    assert "Objective object>" in described_function(objective)
    assert " at 0x" not in described_function(objective), "an address is another one in every process"


def test_damaged_weights_are_not_used(trained):
    config, _, _ = trained
    path = block_folder(config, 0) / "weights.safetensors"
    raw = bytearray(path.read_bytes())
    for wrong in (raw[:-1] + bytes([raw[-1] ^ 1]), raw[: len(raw) // 2]):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match=r"weights.safetensors is damaged; ./run_all.sh tiny trains"):
            load_model(config.name, 0)
    path.write_bytes(raw)
    load_model(config.name, 0)


def test_measurements_of_other_weights_are_not_joined_with_new_ones(trained):
    config, data, _ = trained
    for stage in config.kind.stages:
        stages.evaluate(config, stage, lambda model, seed: {})
    results = load_results(config.name)
    block_folder(config, 0).joinpath("weights.safetensors").unlink()
    stages.train_members(config, data.first(39))
    with pytest.raises(
        InputError,
        match=r"run 'tiny' was trained anew after its reconstruction was measured; ./run_all.sh or 20_reconstruction",
    ):
        load_results(config.name)
    for stage in config.kind.stages:
        stages.evaluate(config, stage, lambda model, seed: {})
    assert (load_results(config.name)["distortion"] != results["distortion"]).all()


def test_a_word_is_a_name_wherever_the_reader_is(output, monkeypatch):
    open_run(tiny())
    monkeypatch.chdir(output / "runs")
    assert run_folder("tiny") == output / "runs/tiny"
    assert figure_folder("tiny") == figure_folder("./tiny") == output / "figures/tiny"
    (output / "elsewhere").mkdir()
    (output / "runs/tiny").rename(output / "elsewhere/tiny")
    monkeypatch.chdir(output / "elsewhere")
    assert run_folder("tiny") == output / "runs/tiny", "not what happens to lie here"


@pytest.mark.usefixtures("trained")
def test_runs_whose_data_are_not_known_are_not_compared():
    for name, text in (("empty", ""), ("list", "[]"), ("without", "{}")):
        folder = open_run(tiny(name))
        (folder / "data.json").write_text(text)
        (folder / "results.parquet").touch()
        assert comparable_runs(name) == []
    (run_folder("tiny") / "results.parquet").touch()
    assert comparable_runs("tiny") == ["tiny"], "trained in a notebook, it knows its data too"
    open_run(tiny("unknown"))
    assert comparable_runs("unknown") == []


def test_a_model_of_colour_images_comes_back_with_its_sigma(output, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "colour.npz",
        **{f"x_{split}": rng.integers(0, 256, (20, 3, 32, 32), np.uint8) for split in ("train", "test")},
    )
    config = load_profile(
        "quick",
        ["betas=[1]", "epochs=1", "batch_size=20", "blocks=1", "sigma_x=0.3", f"dataset={tmp_path / 'colour.npz'}"],
        "colour",
    )
    open_run(config)
    data = stages.load_data(config)
    table = stages.train_members(config, data)
    from hvae_core.evaluation.rates import average_terms

    model = load_model("colour", 0)
    assert model.sigma_x.item() == pytest.approx(0.3)
    assert average_terms(model, data.x_test, 0)["distortion"] == pytest.approx(table["distortion"][0], rel=1e-5)


def test_read_in_order_without_the_batch(output):
    """10, 20, 30, 40 as a reader executes them: each finds what it needs, or says what is missing."""
    config = tiny("by-hand", "betas=[1, 3, 10]", "blocks=2")
    open_run(config)
    data = stages.load_data(config)
    with pytest.raises(InputError, match="no trained models yet"):
        stages.reconstruct(config, data)
    stages.train_members(config, data)
    with pytest.raises(InputError, match=r"missing: reconstruction, generation, representation"):
        load_results("by-hand")
    stages.reconstruct(config, data)
    stages.generate(Config.make({**config.dump(), "generated_samples": 50, "classifier_epochs": 1}), data)
    stages.represent(config, data)
    results = load_results("by-hand")
    assert len(results) == 9
    assert not results.isna().any().any()
    assert stages.figure_inputs(config, data)[0].samples.shape[0] == 9


# --- several architectures in one run -------------------------------------------------------------------------------


def families(name, *changes):
    small = [
        "model=['---', '--v', '+--']",
        "betas=[[0.1, 1.0]]",
        "width=0.1",
        "pseudo_inputs=5",
        "epochs=1",
        "batch_size=20",
    ]
    return load_profile("rd-quick", [*small, "train_images=40", "test_images=30", *changes], name)


def test_blocks_may_cut_through_the_models_of_a_run(output):
    """Two runs of three families, in one block and in four: the same rows and the same weights."""
    whole, cut = families("whole", "blocks=1"), families("cut", "blocks=4")
    for config in (whole, cut):
        open_run(config)
        stages.train_members(config, stages.load_data(config))
    a, b = (training_table(name) for name in ("whole", "cut"))
    pd.testing.assert_frame_equal(a, b)
    assert a["model"].tolist() == ["---", "---", "--v", "--v", "+--", "+--"]
    assert a["beta_1"].tolist() == [0.1, 1.0] * 3
    for i in range(6):
        models = [load_model(name, i) for name in ("whole", "cut")]
        assert {model.family for model in models} == {a["model"][i]}
        first, second = (model.state_dict() for model in models)
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluation_in_processes_is_as_without(output):
    config = families("processes")
    open_run(config)
    data = stages.load_data(config)
    stages.train_members(config, data)

    def score(model, seed):
        return {"iwae_5": sum(p.abs().sum().item() for p in model.parameters()), "active_units": seed}

    one, two = (stages.evaluate(config, "likelihood", score, processes=count) for count in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert one["iwae_5"].nunique() == 6


def test_hierarchical_runs_on_the_same_data_are_comparable(output):
    table = pd.DataFrame({"dataset": ["whatever it was called"], "rate": [1.0]})
    digits = "dataset=digits"
    same = tiny("same", digits)
    for config in (families("plane"), same, tiny("other", digits, "test_images=29"), families("no-grid")):
        open_run(config)
        keep_data(config, stages.load_data(config))
        write_table(
            run_folder(config.name) / "results.parquet",
            table.assign(dataset="digits" if config.name == "plane" else "copy"),
        )
    found = stages.comparable(families("plane"))
    assert list(found) == ["same"]
    assert found["same"]["dataset"].tolist() == ["digits"]


def test_what_a_kind_of_run_does_not_have_is_said(output):
    with pytest.raises(InputError, match="of ghvae, which has no stage likelihood; it has reconstruction"):
        stages.evaluate(tiny(), "likelihood", lambda model, seed: {})
    with pytest.raises(InputError, match="of ---, which has no stage reconstruction; it has likelihood"):
        stages.evaluate(families("rd"), "reconstruction", lambda model, seed: {})
    with pytest.raises(InputError, match="its figures are in 50_figures"):
        stages.comparable(tiny())


def test_a_table_or_image_that_was_altered_is_not_used(output):
    """Also where it can be read: each keeps a checksum of what it holds."""
    path = output / "a.parquet"
    write_table(path, pd.DataFrame({"member": [0, 1], "psnr": [20.0, np.nan], "status": ["ok", "diverged"]}))
    pd.testing.assert_frame_equal(read_table(path), read_table(path))
    table = pd.read_parquet(path)
    table.loc[0, "psnr"] = 21.0
    table.to_parquet(path, index=False)
    with pytest.raises(InputError, match=r"a\.parquet is damaged"):
        read_table(path)
    open_run(tiny())
    rng = np.random.default_rng(0)
    save_images("tiny", "generation", "key", images=rng.integers(0, 255, (4, 8, 8), dtype=np.uint8))
    assert images_key("tiny", "generation") == "key"
    path = run_folder("tiny") / "images/generation.npz"
    raw = path.read_bytes()
    for place in range(60, 300, 20):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 255]) + raw[place + 1 :])
        assert images_key("tiny", "generation") is None
        with pytest.raises(InputError, match=r"generation\.npz is damaged"):
            load_images("tiny", "generation")


def test_weights_of_an_earlier_version_are_named(output):
    config = tiny()
    open_run(config)
    save_tensors(block_folder(config, 0) / "weights.safetensors", {"w": torch.zeros(4)}, {"members": "[0, 4]"})
    with pytest.raises(InputError, match="made by an earlier version"):
        load_model("tiny", 0)


def test_the_models_of_a_published_run_stand_in_its_results(output):
    folder = output / "runs/published"
    (folder / "tables").mkdir(parents=True)
    results = pd.DataFrame({"status": ["ok"], "rate_1": [2.0]})
    results.to_parquet(folder / "results.parquet")
    assert training_table("published").equals(results)
    results.to_parquet(folder / "tables/generation.parquet")  # a run's own, of which the first table is lost
    with pytest.raises(InputError, match="no trained models yet"):
        training_table("published")
