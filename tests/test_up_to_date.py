"""What is up to date follows from content; what is finished stays; the same command goes on."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import TINY, Batch, server
from safetensors.numpy import load_file

from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.pipeline.batch import holds, jobs
from hvae_core.pipeline.command import main
from hvae_core.pipeline.job import job
from hvae_core.runs.folder import keep_data, open_run
from hvae_core.runs.identity import give_objective, read_objective
from hvae_core.runs.profiles import load_profile

JOBS = [
    "10_train-000",
    "10_train-001",
    "collect",
    "20_reconstruction",
    "30_generation",
    "40_representation",
    "join",
    "explorer",
    "50_figures",
]


def would_do(batch: Batch) -> list[str]:
    """The jobs that are out of date, as ``--dry-run`` names them."""
    code = "from hvae_core.pipeline.batch import stale; from hvae_core.runs.folder import load_config as config"
    command = [sys.executable, "-P", "-c", f"{code}; print(*stale(config('tiny')))"]
    done = subprocess.run(command, env=batch.environment(), capture_output=True, text=True, check=True)
    return done.stdout.split()


def edit(notebook: Path, change) -> None:
    """Write a notebook anew with its cells changed."""
    content = json.loads(notebook.read_text())
    change(content["cells"])
    notebook.write_text(json.dumps(content))


def add_cell(notebook: Path, *lines: str) -> None:
    cell = {"cell_type": "code", "id": "more", "metadata": {}, "source": "\n".join(lines)}
    edit(notebook, lambda cells: cells.append(cell | {"outputs": [], "execution_count": None}))


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """What files hold; of weights the tensors, since the order in which a file names them is of no account."""
    found = {str(path.relative_to(folder)): path for p in patterns for path in sorted(folder.glob(p)) if path.is_file()}
    return {name: tensors(path) if path.suffix == ".safetensors" else path.read_bytes() for name, path in found.items()}


def tensors(path: Path) -> bytes:
    held = load_file(path)
    return b"".join(name.encode() + held[name].tobytes() for name in sorted(held))


def test_no_time_of_a_file_counts(own_run):
    """A clock that was ahead, a copy to another machine, a checkout anew."""
    rng = np.random.default_rng(0)
    for folder in (own_run.output, own_run.checkout):
        for path in folder.rglob("*"):
            os.utime(path, (time.time(), time.time() + rng.uniform(-1e6, 1e4)))
    assert would_do(own_run) == []
    (own_run.output / "runs/tiny/tables/training.parquet").unlink()
    done = own_run.run_all(*TINY)
    assert done.status == 0, done.errors
    assert would_do(own_run) == []


def test_what_counts_of_a_notebook_is_the_text_of_its_cells(own_run):
    notebook = own_run.checkout / "notebooks/30_generation.ipynb"

    def run_and_saved(cells):
        for cell in cells:
            cell["metadata"]["editable"] = True
            cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
            if cell["cell_type"] == "code":
                cell |= {"execution_count": 3, "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}]}

    edit(notebook, run_and_saved)
    assert would_do(own_run) == []
    edit(notebook, lambda cells: cells[-1].update(source="".join(cells[-1]["source"]) + "\n"))
    assert would_do(own_run) == ["30_generation", "join", "explorer", "50_figures"]


def test_what_counts_of_a_module_is_what_it_does(own_run):
    module = own_run.checkout / "hvae_core/evaluation/reconstruction.py"
    text = module.read_text()
    module.write_text(f"{text}\n# a word more\n")
    assert would_do(own_run) == []
    module.write_text(f"{text}\nedited = 1\n")
    assert would_do(own_run) == ["20_reconstruction", "join", "explorer", "50_figures"]
    module.write_text(f"{text}\nedited = (\n")
    done = own_run.run_all(*TINY)
    assert done.status == 2
    assert re.fullmatch(rf"error: {module}, line \d+: .*\n", done.errors)


def test_what_is_missing_or_damaged_is_made_again_and_nothing_else(own_run):
    run = own_run.output / "runs/tiny"
    before = contents(run, "checkpoints/*/*", "tables/*", "results.*")
    (run / "tables/classifier.json").write_text("{}")
    assert "30_generation" in would_do(own_run)
    times = {path: path.stat().st_mtime_ns for path in run.glob("tables/*.parquet")}
    damaged, lost = (run / f"checkpoints/block-00{block}/weights.safetensors" for block in (0, 1))
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"\0" * 9)
    assert would_do(own_run) == [job for job in JOBS if job != "10_train-001"]
    lost.unlink()
    assert would_do(own_run) == JOBS
    (run / ".progress/40_representation.job").write_text("")
    (run / "tables/generation.parquet").write_bytes(b"no table")
    (own_run.output / "figures/tiny/explorer.html").unlink()
    done = own_run.run_all(*TINY)
    assert done.status == 0, done.errors
    assert contents(run, "checkpoints/*/*", "tables/*", "results.*") == before
    again = {path.stem for path, at in times.items() if path.stat().st_mtime_ns != at}
    assert "generation" in again
    assert "reconstruction" not in again, "it is of the same weights"
    assert would_do(own_run) == []


def test_a_failing_cell_loses_nothing(own_run):
    """At the end of a training, which is kept, and of a measurement of a run that is finished."""
    run = own_run.output / "runs/tiny"
    kept = contents(run, "checkpoints/*/*", "tables/*", "results.*")
    saved = {}
    for name in ("10_train", "40_representation"):
        notebook = own_run.checkout / f"notebooks/{name}.ipynb"
        saved[notebook] = notebook.read_text()
        add_cell(notebook, "1 / 0")
    shutil.rmtree(run / "checkpoints/block-001")
    done = own_run.job("10_train", "--block", "1")
    assert done.status == 1
    assert re.search(r"^10_train-001: .*ZeroDivisionError", done.errors, re.M)
    assert contents(run, "checkpoints/*/*", "tables/*", "results.*") == kept, "trained anew, and the rest untouched"
    for notebook, text in saved.items():
        if notebook.stem == "10_train":
            notebook.write_text(text)
    done = own_run.run_all(*TINY)
    assert done.status == 1
    assert "error: 40_representation: RuntimeError: ZeroDivisionError" in done.errors
    assert "what is done stays" in done.errors
    assert contents(run, "checkpoints/*/*", "tables/*", "results.*") == kept
    for notebook, text in saved.items():
        notebook.write_text(text)
    done = own_run.run_all(*TINY)
    assert done.status == 0, done.errors
    assert "models" not in done.errors, "nothing was trained or measured: there was no progress to be shown"
    assert contents(run, "checkpoints/*/*", "tables/*", "results.*") == kept


def test_a_run_is_its_folder(own_run):
    """Renamed, with another run in its old place."""
    runs, figures = own_run.output / "runs", own_run.output / "figures"
    (runs / "tiny").rename(runs / "old")
    shutil.copytree(runs / "old", runs / "tiny")
    for path in (runs / "tiny").glob("results.*"):
        path.unlink()
    before = contents(figures / "tiny", "*")
    arguments = [argument if argument != "tiny" else "old" for argument in TINY]
    done = own_run.run_all(*arguments)
    assert done.status == 0, done.errors
    assert "models" not in done.errors, "only figures were missing"
    assert contents(figures / "tiny", "*") == before
    assert json.loads((figures / "old/fig3.json").read_text())["run"] == "old"
    assert "runs/old/results.parquet" in json.loads((figures / "old/fig3.json").read_text())["inputs"]
    assert not (runs / "tiny/results.parquet").exists()


def test_a_notebook_that_takes_no_parameters_is_refused(own_run):
    """Job by job, and then as a user sees it."""
    run = own_run.output / "runs/tiny"
    kept = contents(run, "checkpoints/*/*", "tables/*", "results.*")

    def untagged(cells):
        for cell in cells:
            cell["metadata"].pop("tags", None)

    def misspelt(cells):
        for cell in cells:
            if "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = "".join(cell["source"]).replace("name =", "nmae =")

    for name, change, block in (
        ("20_reconstruction", untagged, ()),
        ("20_reconstruction", misspelt, ()),
        ("10_train", misspelt, ("--block", "0")),
        ("10_train", untagged, ("--block", "0")),
    ):
        notebook = own_run.checkout / f"notebooks/{name}.ipynb"
        text = notebook.read_text()
        edit(notebook, change)
        done = own_run.job(name, *block)
        assert done.status == 1
        said = f"notebooks/{name}.ipynb: it has no cell with the tag parameters"
        assert said in done.errors
        if (name, change) == ("10_train", untagged):
            done = own_run.run_all(*TINY)
            assert done.status == 2
            lines = [line for line in done.errors.splitlines() if line.startswith("error")]
            assert len(lines) == 2, "one a block"
            assert all(said in line for line in lines)
        assert contents(run, "checkpoints/*/*", "tables/*", "results.*") == kept
        assert [path.name for path in (own_run.output / "runs").glob("[!.]*")] == ["tiny"]
        notebook.write_text(text)


def test_what_is_edited_meanwhile_is_seen_by_the_next_command(own_run):
    """The notebook and the module edit themselves while they run."""
    notebook = own_run.checkout / "notebooks/20_reconstruction.ipynb"
    add_cell(
        notebook,
        "import json, pathlib",
        f"path = pathlib.Path({str(notebook)!r})",
        "content = json.loads(path.read_text())",
        "content['cells'][-1]['source'] = '2 + 2'",
        "path.write_text(json.dumps(content))",
    )
    done = own_run.job("20_reconstruction")
    assert done.status == 0, done.errors
    assert would_do(own_run) == ["20_reconstruction", "join", "explorer", "50_figures"]
    module = own_run.checkout / "hvae_core/evaluation/reconstruction.py"
    text = module.read_text()

    def edit_module_first(cells):
        measuring = next(cell for cell in cells if "reconstruct(" in "".join(cell["source"]))
        before = f"import pathlib\npathlib.Path({str(module)!r}).write_text({text + 'edited = 1'!r})"
        measuring["source"] = "".join(measuring["source"]).replace("reconstruct(", f"{before}\nreconstruct(", 1)

    kept = notebook.read_text()
    edit(notebook, edit_module_first)
    table = own_run.output / "runs/tiny/tables/reconstruction.parquet"
    before = table.read_bytes()
    done = own_run.job("20_reconstruction")
    assert done.status == 1
    assert "reconstruction.py was edited since this process began" in done.errors
    assert table.read_bytes() == before
    notebook.write_text(kept)
    done = own_run.job("20_reconstruction")
    assert done.status == 0, done.errors
    assert "20_reconstruction" not in would_do(own_run)


def test_another_objective_is_refused_and_one_that_trained_nothing_is_forgotten(own_run):
    run = own_run.output / "runs/tiny"
    notebook = own_run.checkout / "notebooks/10_train.ipynb"

    def returns(what):
        def change(cells):
            for cell in cells:
                cell["source"] = re.sub(r"return .*lagrangian.*|return .*distortion.*", what, "".join(cell["source"]))

        return change

    text = notebook.read_text()
    edit(notebook, returns("return terms.distortion.mean() + (terms.rates @ betas**2).mean()"))
    kept = contents(run, "checkpoints/block-000/*", "objective.txt")
    done = own_run.job("10_train", "--block", "0")
    assert done.status == 1
    assert "trained for another objective" in done.errors
    assert "undo the change, or choose another --name" in done.errors
    assert contents(run, "checkpoints/block-000/*", "objective.txt") == kept
    for path in run.iterdir():  # the run as it was begun
        if path.name not in ("config.yaml", "data.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for wrong, said in (("return terms.distortion", r"a tensor of shape \(3,\)"), ("return 1.0", r"1.0 \(float\)")):
        notebook.write_text(text)
        edit(notebook, returns(wrong))
        done = own_run.job("10_train", "--block", "0")
        assert done.status == 1
        assert re.search(rf"^10_train-000: the objective must return one number .* {said}$", done.errors, re.M)
    notebook.write_text(text)
    done = own_run.job("10_train", "--block", "0")
    assert done.status == 0, done.errors
    assert contents(run, "checkpoints/block-000/*", "objective.txt") == kept


IDEA = """# An idea of mine.
def objective(terms, betas):
    return terms.distortion.mean() + (terms.rates @ betas**2).mean()
"""


def test_an_objective_of_ones_own_lives_beside_the_original(output, capfd, monkeypatch):
    for name, value in server().items():
        monkeypatch.setenv(name, value)
    idea = output / "my_idea.py"
    idea.write_text(IDEA)
    config = load_profile(
        "quick", ["betas=[1, 2]", "epochs=1", "train_images=40", "test_images=30", "blocks=1"], "idea"
    )
    open_run(config)
    keep_data(config, load(config.dataset).first(40, 30))
    give_objective(config, read_objective(idea))
    assert job(["idea", "10_train", "--block", "0"]) == 0, capfd.readouterr().err
    run = output / "runs/idea"
    executed = nbformat.read(run / "notebooks/10_train-000.ipynb", as_version=4)
    assert any(cell.source == IDEA.rstrip() for cell in executed.cells), "what trained is what one reads there"
    assert (run / "objective.txt").read_text().startswith("not Eq. 8 but terms.distortion.mean() + ")
    give_objective(config, IDEA.replace("# An idea of mine.", ""))
    assert holds(config, jobs(config)["10_train-000"]) is False, "the text that is shown has changed"
    with pytest.raises(InputError, match="'idea' was trained for another objective; choose another --name"):
        give_objective(config, IDEA.replace("**2", ""))
    assert "**2" in (run / "objective.py").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("def loss(terms, betas):\n    return 0\n", r"it defines no function objective\(terms, betas\)"),
        ("def objective(:\n", "line 1: "),
        ("\0", "null|not a text"),
    ],
)
def test_a_file_without_an_objective_is_refused(output, capfd, text, said):
    if text is not None:
        (output / "idea.py").write_text(text)
    assert main(["quick", "--objective", str(output / "idea.py")]) == 2
    errors = capfd.readouterr().err
    assert re.fullmatch(rf"error: --objective {output / 'idea.py'}.*({said}).*\n", errors)
    assert not (output / "runs").exists()


def test_the_toy_takes_no_objective(output, capfd):
    (output / "idea.py").write_text(IDEA)
    assert main(["rd-toy", "--objective", str(output / "idea.py")]) == 2
    assert "70_toy trains toy for objectives of its own" in capfd.readouterr().err
