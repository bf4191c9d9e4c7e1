"""What is published: parts of a grid put together, the committed files, and the page that is made from them."""

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
import papermill
import pytest
import yaml
from PIL import Image

from hvae_core import figures, publish, store
from hvae_core.config import KINDS, ROOT, Config
from hvae_core.errors import InputError
from hvae_core.fidelity import fidelity
from hvae_core.publish import LIMIT, PUBLISHED

PART = {"dataset": "digits", "epochs": 3, "train_images": 100}


def write_part(output, name, betas, seeds=1, offset=0.0, **changes):
    """A finished run as far as `publish` looks at it, with numbers that tell where they come from."""
    config = Config.make({**PART, "name": name, "betas": betas, "seeds": seeds, **changes})
    folder = output / "runs" / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({key: value for key, value in config.dump().items() if key != "block"}))
    (folder / "data.json").write_text('{"fingerprint": "f", "name": "digits", "train_images": 100, "test_images": 50}')
    (folder / "objective.txt").write_text("f")
    rows = [{"dataset": "digits", "model": "ghvae", "seed": m.seed, "beta_2": m.betas[0], "beta_1": m.betas[1], "epochs": 3, "status": "ok", "rate_2": 1.0, "rate_1": 1.0,
             "psnr": 10 * m.betas[0] + m.betas[1] + 1000 * m.seed + offset} for m in config.members()]  # fmt: skip
    results = pd.DataFrame(rows).reindex(columns=store.columns(2))
    results.to_parquet(folder / "results.parquet")
    results.assign(member=range(len(results)), epoch=1)[["member", "model", "seed", "beta_2", "beta_1", "epoch"]].to_parquet(folder / "history.parquet")
    store.write_text(folder / "provenance.json", json.dumps({"command": f"./run_all.sh {name}"}))
    values = np.array([row["psnr"] for row in rows]) % 256
    for stage in ("reconstruction", "generation"):
        images = np.broadcast_to(values[:, None, None, None, None], (len(rows), 2, 1, 4, 4)).astype(np.uint8)
        more = {"originals": np.zeros((2, 1, 4, 4), np.uint8)} if stage == "reconstruction" else {}
        store.save_images(folder, stage, images=images, **more)
    return folder


@pytest.fixture
def parts(output, monkeypatch):
    monkeypatch.setattr(publish, "_draw", lambda name, root: None)
    monkeypatch.setattr(publish, "_finished", lambda run: None)
    (output / "figures").mkdir()
    return output


def test_parts_make_the_grid_that_one_run_would_have_made(parts):
    write_part(parts, "a", [[0.1, 1], [0.1, 10]], seeds=2)
    write_part(parts, "b", [[0.1, 1], [1]], seeds=2)
    folder = publish.publish("whole", ["a", "b"], parts / "published")
    whole = write_part(parts, "whole", [[0.1, 1], [0.1, 1, 10]], seeds=2)
    pd.testing.assert_frame_equal(store.load_results(folder), store.load_results(whole))
    assert store.load_config(folder).members() == store.load_config(whole).members()
    keys = ["member", "seed", "beta_2", "beta_1", "epoch"]
    joined, single = (pd.read_parquet(path / "history.parquet").sort_values("member", ignore_index=True) for path in (folder, whole))
    pd.testing.assert_frame_equal(joined[keys], single[keys])
    for stage in ("reconstruction", "generation"):
        images = store.load_images(whole, stage)["images"]
        images[[member.seed > 0 for member in store.load_config(whole).members()]] = 0  # see below
        np.testing.assert_array_equal(store.load_images(folder, stage)["images"], images)


def test_a_part_added_later_makes_the_same_as_all_at_once(parts):
    for name, betas in {"a": [[0.1], [0.1, 10]], "b": [[1], [1]], "c": [[1], [10]]}.items():
        write_part(parts, name, betas)
    at_once = publish.publish("once", ["a", "b", "c"], parts / "published")
    publish.publish("later", ["a"], parts / "published")
    publish.publish("later", ["b"], parts / "published")
    later = publish.publish("later", ["c"], parts / "published")
    pd.testing.assert_frame_equal(store.load_results(later), store.load_results(at_once))
    np.testing.assert_array_equal(store.load_images(later, "generation")["images"], store.load_images(at_once, "generation")["images"])
    assert set(json.loads((later / "provenance.json").read_text())["parts"]) == {"a", "b", "c"}


def test_a_point_that_no_part_has_is_missing_and_has_no_numbers(parts):
    write_part(parts, "a", [[0.1], [0.1, 10]])
    write_part(parts, "b", [[1], [10]])
    results = store.load_results(publish.publish("holes", ["a", "b"], parts / "published"))
    assert list(results["status"]) == ["ok", "ok", "missing", "ok"]
    assert results.loc[2, "psnr":].isna().all()
    assert (results.loc[2, ["beta_2", "beta_1"]] == [1, 0.1]).all()


def test_a_part_that_stopped_early_brings_what_it_has(parts):
    folder = write_part(parts, "a", [[0.1, 1, 10], [0.1, 10]])
    results = store.load_results("a")
    results.loc[2:4, "status"] = "missing"  # all of beta_2 = 1, half of 10
    results.to_parquet(folder / "results.parquet")
    results = store.load_results(publish.publish("early", ["a"], parts / "published"))
    assert results[["beta_2", "beta_1", "status"]].to_numpy().tolist() == [[0.1, 0.1, "ok"], [0.1, 10, "ok"], [10, 0.1, "missing"], [10, 10, "ok"]]


def test_of_a_setting_in_two_parts_the_later_counts(parts):
    write_part(parts, "a", [[0.1], [0.1, 10]])
    write_part(parts, "b", [[0.1], [10]], offset=5)
    results = store.load_results(publish.publish("twice", ["a", "b"], parts / "published"))
    assert list(results["psnr"]) == [1.1, 16.0]


def test_runs_that_are_no_parts_of_one_grid_are_refused(parts):
    write_part(parts, "a", [[0.1], [0.1, 10]])
    write_part(parts, "b", [[1], [10]], epochs=4)
    with pytest.raises(InputError, match=r"a and b are no parts of one grid: they differ in epochs$"):
        publish.publish("mixed", ["a", "b"], parts / "published")
    other = write_part(parts, "c", [[1], [10]])
    (other / "data.json").write_text("{}")
    with pytest.raises(InputError, match=r"they differ in data\.json$"):
        publish.publish("mixed", ["a", "c"], parts / "published")
    assert not (parts / "published/runs/mixed").exists()


def test_betas_that_differ_in_a_far_digit_are_refused(parts):
    write_part(parts, "a", [[0.1], [3.16227766017]])
    write_part(parts, "b", [[1], [3.1623]])
    with pytest.raises(InputError, match=r"beta_1 is 3\.16227766017 in one part and 3\.1623 in another"):
        publish.publish("near", ["a", "b"], parts / "published")


def test_runs_of_another_kind_have_no_parts(parts):
    write_part(parts, "driven", [[0.1], [0.1]], target_rates=[[5], [10]])
    with pytest.raises(InputError, match="driven: only grids of betas of ghvae and lvae have parts"):
        publish.publish("grid", ["driven"], parts / "published")


def test_a_whole_run_keeps_its_images_and_takes_parts_later(parts):
    write_part(parts, "a", [[0.1], [0.1, 10]])
    write_part(parts, "b", [[1], [0.1, 10]])
    store.write_text(parts / "figures/a/fig1.json", "{}")
    folder = publish.publish("a", root=parts / "published")
    assert store.load_images(folder, "reconstruction")["originals"].shape == (2, 1, 4, 4)
    publish.publish("a", ["b"], parts / "published")
    assert (store.load_results(folder)["status"] == "ok").all() and len(store.load_results(folder)) == 4
    assert set(json.loads((folder / "provenance.json").read_text())["parts"]) == {"a", "b"}


def test_a_published_grid_is_drawn_anew_of_what_is_stored(parts, monkeypatch):
    write_part(parts, "a", [[0.1], [0.1, 10]])
    write_part(parts, "driven", [[0.1], [0.1]], target_rates=[[5], [10]])
    root = parts / "published"
    folder = publish.publish("grid", ["a"], root)
    shutil.copytree(parts / "runs/driven", root / "runs/driven")
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(publish, "_draw", lambda name, root: store.write_text(root / "figures" / name / "fig3.json", "new"))
    assert publish.publish("grid", root=root, redraw=True) == folder
    assert (root / "figures/grid/fig3.json").read_text() == "new"
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    for name in ("driven", "nothing"):
        with pytest.raises(InputError, match=f"{name} is no published grid"):
            publish.publish(name, root=root, redraw=True)
    with pytest.raises(InputError, match="--redraw is for what is published"):
        publish.publish("grid", ["a"], root, redraw=True)


def test_paths_and_the_published_run_itself_are_refused_and_nothing_is_lost(parts, monkeypatch):
    folder = write_part(parts, "a", [[0.1], [0.1, 10]])
    for name in (str(folder), "runs/a", "../a"):
        with pytest.raises(InputError, match="name"):
            publish.publish(name, root=parts / "published")
    with pytest.raises(InputError, match="run 'a' is the published one itself"):
        publish.publish("a", root=parts)
    assert len(store.load_results("a")) == 2


def test_what_fails_half_way_leaves_what_was_there(parts, monkeypatch):
    write_part(parts, "a", [[0.1], [0.1, 10]])
    write_part(parts, "b", [[1], [0.1, 10]])
    folder = publish.publish("grid", ["a"], parts / "published")

    def broken(name, root):
        raise InputError("no figures")

    monkeypatch.setattr(publish, "_draw", broken)
    with pytest.raises(InputError, match="no figures"):
        publish.publish("grid", ["b"], parts / "published")
    assert len(store.load_results(folder)) == 2
    assert [path.name for path in (parts / "published").iterdir()] == ["runs"]
    monkeypatch.setattr(publish, "_draw", lambda name, root: None)
    assert len(store.load_results(publish.publish("grid", ["b"], parts / "published"))) == 4


def test_an_unfinished_run_is_refused_in_one_line(output, capsys):
    write_part(output, "half", [[1], [1]])
    assert publish.main(["half"]) == 2
    assert re.fullmatch(r"error: run 'half' is not finished: \S+ is missing; ./run_all.sh makes it\n", capsys.readouterr().err)
    assert not (PUBLISHED / "runs/half").exists()


def test_notebooks_lose_the_folders_they_were_executed_in_and_images_most_of_their_size(parts):
    folder = write_part(parts, "a", [[0.1], [0.1, 10]])
    (folder / "notebooks").mkdir()
    noisy = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(noisy, "PNG")
    cell = nbformat.v4.new_code_cell(f"print('written to {parts.resolve()}/figures/a, {ROOT}/hvae_core')")
    cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(noisy.getvalue()).decode(), "text/plain": "a figure"}),
                    nbformat.v4.new_output("display_data", {"text/html": "<table></table>", "text/plain": "a table"})]  # fmt: skip
    cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    executed = nbformat.v4.new_notebook(cells=[cell], metadata={"papermill": {
        "input_path": "/another/checkout/notebooks/10_train.ipynb", "output_path": "/another/runs/a/notebooks/10_train.ipynb"}})  # fmt: skip
    nbformat.write(executed, folder / "notebooks/10_train.ipynb")
    (parts / "figures/a").mkdir(parents=True)
    (parts / "figures/a/fig3.png").write_bytes(noisy.getvalue())
    published = publish.publish("a", root=parts / "published")
    kept_whole = nbformat.read(published / "notebooks/10_train.ipynb", as_version=4)
    (kept,) = kept_whole.cells
    assert kept_whole.metadata.papermill.input_path == "notebooks/10_train.ipynb"
    assert kept_whole.metadata.papermill.output_path == "runs/a/notebooks/10_train.ipynb"
    assert kept.source == "print('written to figures/a, hvae_core')"
    assert kept.outputs[0]["data"]["text/plain"] == "a figure"
    assert kept.outputs[1]["data"] == {"text/html": "<table></table>"} and "execution" not in kept.metadata, "nothing is kept twice"
    for image in (base64.b64decode(kept.outputs[0]["data"]["image/png"]), (parts / "published/figures/a/fig3.png").read_bytes()):
        with Image.open(io.BytesIO(image)) as shown:
            assert shown.size == (50, 50) and len(shown.convert("RGB").getcolors()) <= 256
        assert len(image) < 0.6 * len(noisy.getvalue())


def test_images_are_packed_and_the_figures_notes_name_the_new_files(parts):
    folder = write_part(parts, "a", [[0.1], [0.1, 10]])
    images = np.random.default_rng(0).integers(0, 4, (2, 50, 1, 28, 28), np.uint8)
    store.save_images(folder, "generation", images=images)
    (parts / "figures/a").mkdir(parents=True)
    before = (folder / "images/generation.npz").read_bytes()
    note = {"inputs": {"runs/a/images/generation.npz": hashlib.sha256(before).hexdigest()}}
    (parts / "figures/a/fig4.json").write_text(json.dumps(note))
    published = publish.publish("a", root=parts / "published")
    after = (published / "images/generation.npz").read_bytes()
    assert (store.load_images(published, "generation")["images"] == images).all()
    assert len(after) < len(before) and (folder / "images/generation.npz").read_bytes() == before
    assert json.loads((parts / "published/figures/a/fig4.json").read_text())["inputs"] == {"runs/a/images/generation.npz": hashlib.sha256(after).hexdigest()}
    publish.publish("a", root=parts / "published")
    assert (published / "images/generation.npz").read_bytes() == after, "equal arrays, equal bytes"


def test_images_are_published_of_the_first_seed_that_is_well(parts):
    folder = write_part(parts, "a", [[0.1], [0.1, 10]], seeds=3)
    results = pd.read_parquet(folder / "results.parquet")
    lost = (results["seed"] == 0) & (results["beta_1"] == 10)
    results.assign(status=np.where(lost, "diverged", "ok")).to_parquet(folder / "results.parquet")
    store.save_images(folder, "generation", images=np.ones((6, 3, 1, 28, 28), np.uint8))
    (parts / "figures/a").mkdir(parents=True)
    published = publish.publish("a", root=parts / "published")
    there = store.load_images(published, "generation")["images"].any((1, 2, 3, 4))
    assert set(zip(results["beta_1"][there], results["seed"][there], strict=True)) == {(0.1, 0), (10.0, 1)}


def test_a_run_on_ones_own_images_loses_the_folder_they_lie_in(parts, tmp_path):
    folder = write_part(parts, "a", [[0.1], [0.1, 10]], dataset=str(tmp_path / "mine.npz"))
    (folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f'dataset = "{tmp_path / "mine.npz"}"')]), folder / "notebooks/10_train.ipynb")
    (parts / "figures/a").mkdir(parents=True)
    published = publish.publish("a", root=parts / "published")
    assert store.load_config(published).dataset == "mine.npz"
    assert nbformat.read(published / "notebooks/10_train.ipynb", as_version=4).cells[0].source == 'dataset = "mine.npz"'


# --- what is committed ------------------------------------------------------------------------------------------

RUNS = sorted(path.parent.name for path in (PUBLISHED / "runs").glob("*/config.yaml"))
GRIDS = [name for name in RUNS if store.load_config(PUBLISHED / "runs" / name).kind is KINDS["hierarchical"]]


def test_the_published_files_are_small_and_name_no_machine():
    assert RUNS
    assert publish.size() <= LIMIT
    files = [path for path in PUBLISHED.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".safetensors"]
    for path in files:
        if path.suffix in (".json", ".csv", ".md", ".yaml", ".txt"):
            assert not re.search(r"(?<![\w.…])/(tmp|home|root|work|mnt|var)/", path.read_text()), path
        if path.suffix == ".ipynb":  # not in its images
            texts = [line for line in path.read_text().splitlines() if '"image/png"' not in line]
            assert not re.search(r"(?<![\w.…])/(tmp|home|root|work|mnt)/", "\n".join(texts)), path


def test_the_figures_were_made_from_what_lies_beside_them():
    notes = [json.loads(path.read_text()) for path in PUBLISHED.glob("figures/*/*.json")]
    inputs = {(name, digest) for note in notes for name, digest in note["inputs"].items()}
    assert {Path(name).parts[1] for name, _ in inputs} == set(RUNS)
    for name, digest in inputs:
        assert hashlib.sha256((PUBLISHED / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", GRIDS)
def test_a_published_figure_and_table_are_those_of_the_stored_results(name, tmp_path):
    """Drawn again from results.parquet alone and given as few colours: the same picture, pixel by pixel, and the same table."""
    results = store.load_results(PUBLISHED / "runs" / name)
    figures.save_figure(figures.fig3(results), tmp_path, "fig3", provenance={})
    (tmp_path / "fig3.png").write_bytes(publish.few_colours((tmp_path / "fig3.png").read_bytes()))
    ours, stored = (np.asarray(Image.open(folder / "fig3.png").convert("L"), float) for folder in (tmp_path, PUBLISHED / "figures" / name))
    assert ours.shape == stored.shape
    assert (np.abs(ours - stored) > 8).mean() < 1e-5, "share of pixels that differ"
    figures.save_table(figures.table1(results), tmp_path, "table1", provenance={})
    assert (tmp_path / "table1.csv").read_text() == (PUBLISHED / "figures" / name / "table1.csv").read_text()


@pytest.mark.parametrize("name", RUNS)
def test_a_published_run_says_what_made_it(name):
    folder = PUBLISHED / "runs" / name
    about = json.loads((folder / "provenance.json").read_text())
    for part in about.get("parts", {name: about}).values():
        assert part["command"].startswith("./run_all.sh")
        assert re.fullmatch("[0-9a-f]{40}", part["commit"])
        assert part["device"]
        assert all(stage["wall_time_s"] > 0 for stage in part["stages"].values())
    results = pd.read_csv(folder / "results.csv")
    pd.testing.assert_frame_equal(results, store.load_results(folder), check_dtype=False, rtol=1e-12)


@pytest.mark.parametrize("name", ["mnist-9x9", "mnist-lvae-9x9"])
def test_what_is_said_of_models_of_a_cpu_beside_those_of_a_gpu(name):
    """L of both at the settings that both have, as published/README.md has it."""
    table = fidelity(store.load_results(PUBLISHED / "runs" / name), pd.read_csv(PUBLISHED / "cpu" / f"{name}.csv"))
    low = table["beta_1"] < 0.11
    said = f"| {name} | {len(table)} | " + " | ".join(
        f"{group.mean():+.1f} | {group.abs().mean():.1f} | {group.min():+.1f} to {group.max():+.1f}" for group in (table["percent"][~low], table["percent"][low])
    )  # fmt: skip
    assert said in (PUBLISHED / "README.md").read_text(), said


def test_the_page_is_what_the_notebook_writes(tmp_path):
    target = tmp_path / "page.md"
    papermill.execute_notebook(ROOT / "notebooks/99_paper_vs_ours.ipynb", tmp_path / "99.ipynb", {"target": str(target)}, kernel_name="python3",
                               progress_bar=False, cwd=str(ROOT))  # fmt: skip
    assert target.read_text() == Path(ROOT / "docs/paper-vs-ours.md").read_text()
