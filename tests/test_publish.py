"""What is published: a finished run without its weights, the committed files, and the page made from them."""

import base64
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import executed
from PIL import Image
from safetensors import safe_open

from hvae_core import figures
from hvae_core.analysis.fidelity import differences
from hvae_core.claims import publish
from hvae_core.claims.publish import LIMIT, PUBLISHED
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.files import ROOT, save_tensors, write_text
from hvae_core.models import build
from hvae_core.models.conditioning import Conditioned, covering
from hvae_core.pipeline.stages import load_data
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, load_images, save_images
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.results import columns, load_results
from hvae_core.runs.weights import are_whole, copy_weights, load_model, load_network

TINY = {"dataset": "digits", "epochs": 3, "train_images": 100, "betas": [[0.1], [0.1, 10]]}


def write_run(output, name, **changes):
    """A finished run as far as `publish` looks at it, with numbers that tell where they come from."""
    config = Config.make({**TINY, "name": name, **changes})
    folder = output / "runs" / name
    folder.mkdir(parents=True)
    values = {key: value for key, value in config.dump().items() if key != "block"}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    about = {"fingerprint": "f", "name": "digits", "train_images": 100, "test_images": 50}
    (folder / "data.json").write_text(json.dumps(about))
    (folder / "objective.txt").write_text("f")
    (folder / "weights.safetensors").write_text("heavy")
    common = {
        "dataset": "digits",
        "model": "ghvae",
        "epochs": 3,
        "status": "ok",
        "rate_2": 1.0,
        "rate_1": 1.0,
    }
    rows = [
        {
            **common,
            "seed": m.seed,
            "beta_2": m.betas[0],
            "beta_1": m.betas[1],
            "psnr": 10 * m.betas[0] + m.seed,
        }
        for m in config.members()
    ]
    results = pd.DataFrame(rows).reindex(columns=columns(2))
    results.to_parquet(folder / "results.parquet")
    results[["model", "seed", "beta_2", "beta_1"]].to_parquet(folder / "history.parquet")
    write_text(folder / "provenance.json", json.dumps({"command": f"./run_all.sh {name}"}))
    for stage, more in {
        "reconstruction": {"originals": np.zeros((2, 1, 4, 4), np.uint8)},
        "generation": {},
    }.items():
        save_images(folder, stage, images=np.full((len(rows), 2, 1, 4, 4), 7, np.uint8), **more)
    (output / "figures" / name).mkdir(parents=True)
    (output / "figures" / name / "fig3.json").write_text("{}")
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(output, monkeypatch):
    monkeypatch.setattr(publish, "_draw", lambda name, root: None)
    monkeypatch.setattr(publish, "_finished", lambda run: None)
    return output


def test_a_run_is_published_as_it_is_but_for_its_weights(finished):
    folder = write_run(finished, "a")
    (folder / "ro-crate-metadata.json").write_text("weights.safetensors")
    root = finished / "published"
    published = publish.publish("a", root)
    assert published == root / "runs/a"
    assert files(folder).keys() - files(published).keys() == {"weights.safetensors", "ro-crate-metadata.json"}
    pd.testing.assert_frame_equal(load_results(published), load_results(folder))
    assert {**load_config(published).dump(), "name": "a"} == load_config(folder).dump()
    assert files(root / "figures/a") == files(finished / "figures/a")
    assert [path.name for path in sorted(root.iterdir())] == ["figures", "runs"]


def test_a_run_that_is_published_again_replaces_what_was_there(finished):
    folder = write_run(finished, "a")
    root = finished / "published"
    write_text(root / "runs/a/old.json", "{}")
    write_text(root / "figures/a/old.json", "{}")
    write_text(root / "runs/b/kept.json", "{}")
    published = publish.publish("a", root)
    assert not (published / "old.json").exists() and not (root / "figures/a/old.json").exists()
    assert (root / "runs/b/kept.json").exists() and folder.exists()


def test_of_several_blocks_one_notebook_is_published(finished):
    folder = write_run(finished, "a")
    (folder / "notebooks").mkdir()
    for name in ("10_train-000", "10_train-001", "10_train-010", "20_reconstruction", "70_toy"):
        cell = nbformat.v4.new_code_cell(f"'{name}'")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / f"notebooks/{name}.ipynb")
    published = publish.publish("a", finished / "published")
    names = sorted(path.stem for path in published.glob("notebooks/*"))
    assert names == ["10_train-000", "20_reconstruction", "70_toy"]


def test_a_published_grid_is_drawn_anew_of_what_is_stored(finished, monkeypatch):
    write_run(finished, "grid")
    driven = write_run(finished, "driven", betas=[[0.1], [0.1]], target_rates=[[5], [10]])
    root = finished / "published"
    folder = publish.publish("grid", root)
    shutil.copytree(driven, root / "runs/driven")
    before = files(folder)
    for beside in ("grid", "gone"):
        inputs = {"runs/grid/results.parquet": "1", f"runs/{beside}/results.parquet": "2", "mnist": "3"}
        write_text(root / f"figures/grid/fidelity_{beside}.json", json.dumps({"inputs": inputs}))
        write_text(root / f"figures/grid/fidelity_{beside}.pdf", "a figure")
    new = json.dumps({"inputs": {"runs/grid/results.parquet": "new"}})
    monkeypatch.setattr(publish, "_draw", lambda name, root: write_text(root / "figures" / name / "fig3.json", new))
    assert publish.publish("grid", root, redraw=True) == folder
    made = files(root / "figures/grid")
    assert made["fig3.json"] == new.encode()
    assert files(folder) == before
    assert {name for name in made if name.startswith("fidelity")} == {"fidelity_grid.json", "fidelity_grid.pdf"}, (
        "what was drawn beside a run that is gone goes, too"
    )
    for name in ("driven", "nothing"):
        with pytest.raises(InputError, match=f"{name} is not published, or its figures need more"):
            publish.publish(name, root, redraw=True)


def test_paths_and_the_published_run_itself_are_refused_and_nothing_is_lost(finished):
    folder = write_run(finished, "a")
    for name in (str(folder), "runs/a", "../a"):
        with pytest.raises(InputError, match="name"):
            publish.publish(name, finished / "published")
    with pytest.raises(InputError, match="run 'a' is the published one"):
        publish.publish("a", finished)
    assert len(load_results("a")) == 2


def test_what_fails_half_way_leaves_what_was_there(finished, monkeypatch):
    write_run(finished, "a")
    root = finished / "published"
    publish.publish("a", root)
    before = files(root)

    def broken(name, root):
        raise InputError("no figures")

    monkeypatch.setattr(publish, "_draw", broken)
    with pytest.raises(InputError, match="no figures"):
        publish.publish("a", root, redraw=True)
    assert files(root) == before


def test_an_unfinished_run_is_refused_in_one_line(output, capsys):
    write_run(output, "half")
    assert publish.main(["half"]) == 2
    assert re.fullmatch(
        r"error: run 'half' is not finished: \S+ is missing; ./run_all.sh makes it\n", capsys.readouterr().err
    )
    assert not (PUBLISHED / "runs/half").exists()


def test_notebooks_lose_the_folders_they_were_executed_in_and_images_most_of_their_size(finished):
    folder = write_run(finished, "a")
    (folder / "notebooks").mkdir()
    noisy = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(noisy, "PNG")
    cell = nbformat.v4.new_code_cell(f"print('written to {finished.resolve()}/figures/a, {ROOT}/hvae_core')")
    cell.outputs = [
        nbformat.v4.new_output(
            "display_data",
            {"image/png": base64.b64encode(noisy.getvalue()).decode(), "text/plain": "a figure"},
        ),
        nbformat.v4.new_output("display_data", {"text/html": "<table></table>", "text/plain": "a table"}),
    ]
    cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    executed = nbformat.v4.new_notebook(
        cells=[cell],
        metadata={
            "papermill": {
                "input_path": "/another/checkout/notebooks/10_train.ipynb",
                "output_path": "/another/runs/a/notebooks/10_train.ipynb",
            }
        },
    )
    nbformat.write(executed, folder / "notebooks/10_train.ipynb")
    (finished / "figures/a/fig3.png").write_bytes(noisy.getvalue())
    published = publish.publish("a", finished / "published")
    kept_whole = nbformat.read(published / "notebooks/10_train.ipynb", as_version=4)
    (kept,) = kept_whole.cells
    assert kept_whole.metadata.papermill.input_path == "notebooks/10_train.ipynb"
    assert kept_whole.metadata.papermill.output_path == "runs/a/notebooks/10_train.ipynb"
    assert kept.source == "print('written to figures/a, hvae_core')"
    assert kept.outputs[0]["data"]["text/plain"] == "a figure"
    assert kept.outputs[1]["data"] == {"text/html": "<table></table>"} and "execution" not in kept.metadata, (
        "nothing is kept twice"
    )
    for image in (
        base64.b64decode(kept.outputs[0]["data"]["image/png"]),
        (finished / "published/figures/a/fig3.png").read_bytes(),
    ):
        with Image.open(io.BytesIO(image)) as shown:
            assert shown.size == (50, 50) and len(shown.convert("RGB").getcolors()) <= 256
        assert len(image) < 0.6 * len(noisy.getvalue())


def test_a_notebook_that_was_executed_as_it_was_read_does_not_hold_itself(finished):
    folder = write_run(finished, "a")
    (folder / "notebooks").mkdir()
    read = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    for name in ("50_figures", "10_train-000"):
        executed = nbformat.v4.new_notebook(cells=read.cells, metadata={"papermill": {"input_path": dict(read)}})
        nbformat.write(executed, folder / f"notebooks/{name}.ipynb")
    published = publish.publish("a", finished / "published")
    for name, source in (("50_figures", "50_figures"), ("10_train-000", "10_train")):
        kept = nbformat.read(published / f"notebooks/{name}.ipynb", as_version=4)
        assert kept.metadata.papermill.input_path == f"notebooks/{source}.ipynb"


def test_images_are_packed_and_the_figures_notes_name_the_new_files(finished):
    folder = write_run(finished, "a")
    images = np.random.default_rng(0).integers(0, 4, (2, 50, 1, 28, 28), np.uint8)
    save_images(folder, "generation", images=images)
    before = (folder / "images/generation.npz").read_bytes()
    note = {"inputs": {"runs/a/images/generation.npz": hashlib.sha256(before).hexdigest()}}
    (finished / "figures/a/fig4.json").write_text(json.dumps(note))
    published = publish.publish("a", finished / "published")
    after = (published / "images/generation.npz").read_bytes()
    assert (load_images(published, "generation")["images"] == images).all()
    assert len(after) < len(before) and (folder / "images/generation.npz").read_bytes() == before
    assert json.loads((finished / "published/figures/a/fig4.json").read_text())["inputs"] == {
        "runs/a/images/generation.npz": hashlib.sha256(after).hexdigest()
    }
    publish.publish("a", finished / "published")
    assert (published / "images/generation.npz").read_bytes() == after, "equal arrays, equal bytes"


def test_images_are_published_of_the_first_seed_that_is_well(finished):
    folder = write_run(finished, "a", seeds=3)
    results = pd.read_parquet(folder / "results.parquet")
    lost = (results["seed"] == 0) & (results["beta_1"] == 10)
    results.assign(status=np.where(lost, "diverged", "ok")).to_parquet(folder / "results.parquet")
    save_images(folder, "generation", images=np.ones((6, 3, 1, 28, 28), np.uint8))
    published = publish.publish("a", finished / "published")
    there = load_images(published, "generation")["images"].any((1, 2, 3, 4))
    assert set(zip(results["beta_1"][there], results["seed"][there], strict=True)) == {(0.1, 0), (10.0, 1)}


@pytest.mark.parametrize("name", [".", "données 数", "a folder with a name so long that YAML breaks its line " * 2])
def test_a_run_on_ones_own_images_loses_the_folder_they_lie_in(finished, tmp_path, name):
    tmp_path = tmp_path / name
    folder = write_run(finished, "a", dataset=str(tmp_path / "mine.npz"))
    (folder / "notebooks").mkdir()
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f'dataset = "{tmp_path / "mine.npz"}"')]),
        folder / "notebooks/10_train.ipynb",
    )
    published = publish.publish("a", finished / "published")
    assert load_config(published).dataset == "mine.npz"
    assert tmp_path.parent.name not in (published / "config.yaml").read_text()
    assert nbformat.read(published / "notebooks/10_train.ipynb", as_version=4).cells[0].source == 'dataset = "mine.npz"'


def test_pages_with_weights_are_not_published(finished, monkeypatch):
    folder = write_run(finished, "a")
    monkeypatch.setattr(publish, "_finished", lambda run: None)
    page = nbformat.v4.new_output("display_data", data={"text/html": ['<div><iframe srcdoc="', 'weights"></iframe>']})
    (folder / "notebooks").mkdir()
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("framed(name)", outputs=[page])]),
        folder / "notebooks/95_conditioned.ipynb",
    )
    for name in ("explorer.html", "notebooks/95_conditioned.html"):
        write_text(finished / "figures/a" / name, "weights")
    published = publish.publish("a", finished / "published")
    assert "weights" not in (published / "notebooks/95_conditioned.ipynb").read_text()
    assert not list((finished / "published/figures").rglob("*.html"))


def test_a_run_can_be_published_without_figures_and_notebooks(finished):
    folder = write_run(finished, "a")
    (folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(), folder / "notebooks/10_train.ipynb")
    published = publish.publish("a", finished / "published")
    assert (published / "notebooks").exists()
    assert (finished / "published/figures/a").exists()
    publish.publish("a", finished / "published", drawn=False)
    assert load_results(published).equals(load_results("a"))
    assert not (published / "notebooks").exists()
    assert not (finished / "published/figures/a").exists()


# --- weights --------------------------------------------------------------------------------------------------


def write_weights(folder, network=None):
    """Weights of a run that nobody trained: model i of a grid has i in its first bias, or one network a seed."""
    config = load_config(folder)
    (name,), members = config.models, config.members()
    if network:
        each = [network(seed).state_dict() for seed in range(config.seeds)]
        rows = [member.seed for member in members]
    else:
        each = [build(name, (1, 28, 28)).state_dict() for _ in members]
        rows = list(range(len(members)))
        for i, weights in enumerate(each):
            next(value for key, value in weights.items() if key.endswith("bias"))[0] = i
    tensors = {f"{name}/{key}": torch.stack([weights[key] for weights in each]) for key in each[0]}
    about = {"identity": "i", "image_shape": "[1, 28, 28]", "sets": json.dumps({name: [[*range(len(members))], rows]})}
    save_tensors(folder / "checkpoints/block-000/weights.safetensors", tensors, about)
    return [{key: weights[key] for key in weights} for weights in each]


def test_the_best_models_are_published_as_they_are(finished):
    folder = write_run(finished, "a", betas=[[0.1, 1], [0.1, 10]], seeds=2)
    results = pd.read_parquet(folder / "results.parquet")  # eight models: settings (0.1, 0.1), ... of seed 0, then 1
    results["psnr"] = [9, 1, 2, 3, 9, 1, 2, 3]
    results["inception_score"] = [1, 2, 9, 3, 1, 2, 9, 3]
    results["acc_mu2_rbf_svm"] = [1, 2, 3, 9, 1, 2, 3, 9]
    results["rate"] = 2.0
    assert (results.loc[2, "beta_2"], results.loc[2, "beta_1"], results.loc[6, "seed"]) == (1, 0.1, 1)
    results.loc[2, "status"] = "diverged"  # the same setting, with seed 1
    results.to_parquet(folder / "results.parquet")
    trained = write_weights(folder)
    published = publish.publish("a", finished / "published", weights=True)
    for index in (0, 3, 6):
        weights = load_model(published, index).state_dict()
        assert all(torch.equal(weights[key], value) for key, value in trained[index].items())
    with pytest.raises(InputError, match="run 'a' has no weights of model 2, but of 0, 3, 6; "):
        load_model(published, 2)
    (path,) = published.glob(f"checkpoints/*/{publish.WEIGHTS}")
    assert publish.size(finished / "published", weights=True) == path.stat().st_size
    before = files(finished / "published")
    publish.publish("a", finished / "published", redraw=True)
    assert files(finished / "published") == before, "drawn anew, it keeps them"
    path.write_bytes(path.read_bytes()[:-4] + b"gone")
    with pytest.raises(InputError, match=r"weights.safetensors is damaged; restore it"):
        load_model(published, 0)
    path.unlink()
    with pytest.raises(InputError, match="run 'a' has no weights of model 0; "):
        load_model(published, 0)


def test_published_models_have_the_terms_of_the_results(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HVAE_OUTPUT", str(tiny_run[0].output))
    published = publish.publish("tiny", tmp_path / "published", weights=True)
    results, x = load_results(published), load_data(load_config(published)).x_test
    indices = publish.chosen(results)
    assert 1 <= len(indices) <= 3 and results["psnr"].idxmax() in indices
    for index in indices:
        terms = average_terms(load_model(published, index), x, results["seed"][index])
        for name in ("distortion", "rate_2", "rate_1"):
            assert terms[name] == pytest.approx(results[name][index], rel=1e-5, abs=1e-5)


def test_a_conditioned_network_is_published_in_half_the_space(finished):
    folder = write_run(finished, "a", model="ghvae-conditioned", seeds=2, batch_size=50)
    results = pd.read_parquet(folder / "results.parquet").assign(model="ghvae-conditioned")
    results.loc[0, "status"] = "ok"
    results.to_parquet(folder / "results.parquet")

    def network(seed):
        made = Conditioned(build("ghvae", (1, 28, 28)), covering(m.betas for m in load_config(folder).members()))
        torch.nn.init.normal_(made.changes.values, std=1e-2)
        return made

    first, _ = write_weights(folder, network)
    published = publish.publish("a", finished / "published", weights=True)
    found = load_network(published).state_dict()
    assert any(not torch.equal(found[key], value) for key, value in first.items())
    for key, value in first.items():
        assert found[key].dtype == torch.float32
        assert torch.allclose(found[key], value, rtol=2**-11, atol=2**-25), "rounded to the nearest float16"
    at = load_network(published).at((0.1, 10.0)).state_dict()
    assert all(torch.equal(value, at[key]) for key, value in load_model(published, 1).state_dict().items())
    sizes = [next(place.rglob(publish.WEIGHTS)).stat().st_size for place in (published, folder / "checkpoints")]
    assert sizes[0] < 0.26 * sizes[1], "half the digits of one network of two"
    with pytest.raises(InputError, match="run 'a' has no weights of model 2"):
        load_network(published, seed=1)


def test_weights_that_cannot_be_published_are_named_and_nothing_is_lost(finished):
    folder = write_run(finished, "a")
    root = finished / "published"
    publish.publish("a", root)
    before = files(root)
    with pytest.raises(InputError, match=r"--weights: the best models .*; there is none here"):
        publish.publish("a", root, weights=True)
    results = pd.read_parquet(folder / "results.parquet")
    results.assign(psnr=[1, 2], rate=1.0).to_parquet(folder / "results.parquet")
    with pytest.raises(InputError, match=r"run 'a' has no weights of model 1; ./run_all.sh trains it"):
        publish.publish("a", root, weights=True)
    assert files(root) == before
    write_weights(folder)
    path = folder / "checkpoints/block-000/weights.safetensors"
    with safe_open(path, "pt") as file:
        tensors, about = {key: file.get_tensor(key) * 1e9 for key in file.keys()}, file.metadata()  # noqa: SIM118
    save_tensors(path, tensors, about)
    with pytest.raises(InputError, match="beyond the range of float16"):
        copy_weights("a", finished / "other", [0], half=True)
    assert not (finished / "other").exists()


# --- what is committed --------------------------------------------------------------------------------------

RUNS = sorted(path.parent.name for path in (PUBLISHED / "runs").glob("*/config.yaml"))
DRAWN = [name for name in RUNS if (PUBLISHED / "figures" / name).exists()]
GRIDS = [name for name in DRAWN if load_config(PUBLISHED / "runs" / name).kind is KINDS["hierarchical"]]


def test_the_published_files_are_small_and_name_no_machine():
    assert RUNS
    assert publish.size() <= LIMIT
    files = [path for path in PUBLISHED.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix in (".json", ".csv", ".md", ".yaml", ".txt"):
            assert not re.search(r"(?<![\w.…])/(tmp|home|root|work|mnt|var)/", path.read_text()), path
        if path.suffix == ".ipynb":  # not in its images
            texts = [line for line in path.read_text().splitlines() if '"image/png"' not in line]
            assert not re.search(r"(?<![\w.…])/(tmp|home|root|work|mnt)/", "\n".join(texts)), path


def test_the_published_weights_are_small_and_whole():
    assert publish.size(weights=True) <= publish.WEIGHTS_LIMIT
    assert all(are_whole(path) for path in PUBLISHED.rglob(publish.WEIGHTS))


def test_the_three_optima_can_be_loaded_after_a_clone():
    """On the 1,000 test images of mnist-mini they cost what they cost on all: weights are those of the row."""
    folder = PUBLISHED / "runs/mnist-optima"
    results, digits = load_results(folder), load_data(Config.make({"dataset": "mnist-mini"}))
    best = publish.chosen(results)
    assert len(best) == 3
    for model in best:
        terms = average_terms(load_model(folder, model), digits.x_test, seed=0)
        for name in ("distortion", "rate_2", "rate_1"):
            assert terms[name] == pytest.approx(results.loc[model, name], rel=0.1, abs=0.5), (model, name)


def test_the_figures_were_made_from_what_lies_beside_them():
    notes = [json.loads(path.read_text()) for path in PUBLISHED.glob("figures/*/*.json")]
    inputs = {(name, digest) for note in notes for name, digest in note["inputs"].items()}
    assert {Path(name).parts[1] for name, _ in inputs} == set(DRAWN)
    for name, digest in inputs:
        assert hashlib.sha256((PUBLISHED / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", GRIDS)
def test_a_published_figure_and_table_are_those_of_the_stored_results(name, tmp_path):
    """Drawn again from results.parquet alone, in as few colours: the same picture and the same table."""
    results = load_results(PUBLISHED / "runs" / name)
    figures.save_figure(figures.fig3(results), tmp_path, "fig3", provenance={})
    (tmp_path / "fig3.png").write_bytes(publish.few_colours((tmp_path / "fig3.png").read_bytes()))
    ours, stored = (
        np.asarray(Image.open(folder / "fig3.png").convert("L"), float)
        for folder in (tmp_path, PUBLISHED / "figures" / name)
    )
    assert ours.shape == stored.shape
    assert (np.abs(ours - stored) > 8).mean() < 1e-5, "share of pixels that differ"
    figures.save_table(figures.table1(results), tmp_path, "table1", provenance={})
    assert (tmp_path / "table1.csv").read_text() == (PUBLISHED / "figures" / name / "table1.csv").read_text()


@pytest.mark.parametrize("name", RUNS)
def test_a_published_run_says_what_made_it(name):
    folder = PUBLISHED / "runs" / name
    about = json.loads((folder / "provenance.json").read_text())
    assert about["command"].startswith("./run_all.sh")
    assert re.fullmatch("[0-9a-f]{40}", about["commit"])
    assert about["device"]
    assert all(stage["wall_time_s"] > 0 for stage in about["stages"].values())
    results = pd.read_csv(folder / "results.csv")
    pd.testing.assert_frame_equal(results, load_results(folder), check_dtype=False, rtol=1e-12)


@pytest.mark.parametrize("name", ["mnist-9x9", "mnist-lvae-9x9"])
def test_what_is_said_of_models_of_a_cpu_beside_those_of_a_gpu(name):
    """L of both at the settings that both have, as published/README.md has it."""
    table = differences(load_results(PUBLISHED / "runs" / name), pd.read_csv(PUBLISHED / "cpu" / f"{name}.csv"))
    low = table["beta_1"] < 0.11
    said = f"| {name} | {len(table)} | " + " | ".join(
        f"{group.mean():+.1f} | {group.abs().mean():.1f} | {group.min():+.1f} to {group.max():+.1f}"
        for group in (table["percent"][~low], table["percent"][low])
    )
    assert said in (PUBLISHED / "README.md").read_text(), said


def test_the_page_is_what_the_notebook_writes(tmp_path):
    page, table = tmp_path / "page.md", tmp_path / "verdicts.csv"
    executed("99_paper_vs_ours", target=str(page), table=str(table))
    assert page.read_text() == Path(ROOT / "docs/paper-vs-ours.md").read_text()
    assert table.read_text() == (PUBLISHED / "verdicts.csv").read_text()
