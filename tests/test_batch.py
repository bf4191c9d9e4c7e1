"""``./run_all.sh`` as its users see it: every notebook executed on small settings, and what is said when they err."""

import ast
import json
import re
import resource
import shutil
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from conftest import TINY, Batch, executed, run_here
from matplotlib.figure import Figure

from hvae_core.files import ROOT, locked
from hvae_core.pipeline import job, stages
from hvae_core.pipeline.command import last_error, main, snakemake_command
from hvae_core.pipeline.job import GPUS, environment
from hvae_core.runs.config import Config
from hvae_core.runs.folder import load_config, open_run
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.kinds import NOTEBOOKS as STAGE_NOTEBOOKS
from hvae_core.runs.profiles import load_profile
from hvae_core.runs.results import columns, load_results

ROOT = Path(ROOT)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def run_all(*arguments, output, **env):
    """The command in this checkout; returns (status, what it printed, what it printed to stderr)."""
    return Batch(ROOT, output).run_all(*arguments, **env)


def times(output):
    """When each file of the run was written; what the batch says of itself is left out."""
    files = [path for path in (output / "runs/tiny").rglob("*") if path.is_file() and ".progress" not in path.parts]
    return {path.name: path.stat().st_mtime for path in files if path.name != "log.txt"}


def test_a_run_has_everything_that_the_contract_names(tiny_run):
    (_, output), (_, printed, errors) = tiny_run
    figures = {path.name for path in (output / "figures/tiny").iterdir()}
    assert figures == {f"fig{n}.{kind}" for n in (1, 3, 4, 5, 6, 7, 8, 9) for kind in ("pdf", "png", "json")} | {
        f"table{n}.{kind}" for n in (1, 2, 3) for kind in ("csv", "md", "json")
    } | {"explorer.html", "index.html", "notebooks"}
    results = pd.read_parquet(output / "runs/tiny/results.parquet")
    assert len(results) == 9
    assert not results.isna().any().any()
    assert (results["status"] == "ok").all()
    np.testing.assert_allclose(results["rate"], results["rate_2"] + results["rate_1"])
    spread = (results["inception_score"] - results["diversity"] * results["sharpness"]).abs()
    assert (spread <= 2 * results["inception_score_std"] + 1e-6).all()
    assert {p.stem for p in (output / "runs/tiny/notebooks").iterdir()} == {
        "10_train-000",
        "10_train-001",
        "20_reconstruction",
        "30_generation",
        "40_representation",
        "50_figures",
    }
    about = json.loads((output / "runs/tiny/provenance.json").read_text())
    assert about["command"].startswith("./run_all.sh")
    assert "30_generation" in about["stages"]
    assert "9 ok" in printed
    assert re.search(r"^\w.*: \d+/\d+ models", errors, re.M), "progress is shown in plain lines"
    assert 0 < json.loads((output / "runs/tiny/tables/classifier.json").read_text())["test_accuracy"] < 1


def test_figures_name_their_inputs(tiny_run):
    output = tiny_run[0].output
    about = json.loads((output / "figures/tiny/fig3.json").read_text())
    import hashlib

    raw = (output / "runs/tiny/results.parquet").read_bytes()
    assert about["inputs"]["runs/tiny/results.parquet"] == hashlib.sha256(raw).hexdigest()
    assert about["script"] == "notebooks/50_figures.ipynb"
    assert "commit" in about


def test_the_second_time_there_is_nothing_to_do(own_run):
    before = times(own_run.output)
    done = own_run.run_all(*TINY)
    assert done.status == 0
    assert "nothing to do" in done.printed
    assert times(own_run.output) == before


def test_a_failed_notebook_is_named_and_the_rest_is_kept(own_run):
    """A generation that cannot be: its classifiers have no place."""
    runs = own_run.output / "runs"
    (runs / "tiny/tables/generation.parquet").unlink()
    shutil.rmtree(runs / ".classifiers")
    (runs / ".classifiers").write_text("in the way")
    kept = times(own_run.output)
    done = own_run.run_all(*TINY)
    assert done.status == 1, "not the user's mistake"
    assert re.search(r"^error: 30_generation: .*\.classifiers", done.errors, re.M)
    after = times(own_run.output)
    assert all(after[name] == kept[name] for name in ("reconstruction.parquet", "weights.safetensors"))


def test_without_labels_what_needs_them_is_null_and_the_rest_runs(output, capfd):
    generator = np.random.default_rng(0)
    x = (generator.random((60, 28, 28)) < 0.3).astype(np.uint8) * 255
    np.savez(output / "mine.npz", x_train=x[:40], x_test=x[40:])
    changes = [f"dataset={output / 'mine.npz'}", "betas=[1, 10]", "epochs=1", "batch_size=20", "blocks=1"]
    assert main(["quick", "--set", *changes, "--name", "mine", "--dry-run"]) == 0
    assert "labels missing" in capfd.readouterr().out
    run_here("quick", changes, "mine")
    results = load_results("mine")
    assert (results["dataset"] == "mine").all()
    computed = ["distortion", "rate_2", "rate_1", "elbo", "psnr"]
    assert not results[computed].isna().any().any()
    assert results[["inception_score", "mi_z2", "acc_mu2_knn", "accuracy_bound_rate"]].isna().all().all()


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=1", "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_jobs_ask_for_large_pages_unless_the_user_decides(given, seen, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if given is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", given)
    for _ in range(2):  # in a job of a job, too
        assert environment()["GLIBC_TUNABLES"] == seen
        monkeypatch.setenv("GLIBC_TUNABLES", seen)


def test_processes_that_train_nothing_do_without_pytorch():
    """It takes seconds to import, and Snakemake, each job, `collect` and `join` are processes of their own."""
    code = """
import sys

from hvae_core.files import timestamp
from hvae_core.pipeline.job import environment
from hvae_core.runs.profiles import load_profile

config = load_profile("quick-conditioned", ["batch_size=100"], None)
assert config.layers == 2 and config.members() and environment() and timestamp()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- bad input: one plain line, status 2, earlier results as they were -------------------------------------------


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


X = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
Y = np.arange(20) % 2
BAD = {
    "unknown profile": (lambda p: ["nothing"], "no profile 'nothing'"),
    "unknown key": (lambda p: ["--set", "epoch=3"], "did you mean 'epochs'"),
    "no equals sign": (lambda p: ["--set", "epochs"], "key=value"),
    "unknown data set": (lambda p: ["--set", "dataset=imagenet"], "imagenet"),
    "unknown model": (lambda p: ["--set", "model=vqvae"], "vqvae"),
    "negative beta": (lambda p: ["--set", "betas=[1, -1]"], "betas"),
    "zero beta": (lambda p: ["--set", "betas=[0]"], "betas"),
    "NaN beta": (lambda p: ["--set", "betas=[.nan]"], "betas"),
    "empty grid": (lambda p: ["--set", "betas=[]"], "betas"),
    "no cores": (lambda p: ["--cores", "0"], "--cores 0"),
    "bad name": (lambda p: ["--name", "a/b"], "name = a/b"),
    "no GPU": (lambda p: ["--set", "device=cuda"], "device = cuda"),
    "too many images": (lambda p: ["--set", "train_images=5000"], "5000"),
    "no such file": (lambda p: ["--set", f"dataset={p / 'none.npz'}"], "none.npz"),
    "no such user": (lambda p: ["--set", "dataset=~nobody-of-this-name/a.npz"], "dataset = ~nobody-of-this-name/a.npz"),
    "a date": (lambda p: ["--set", "epochs=2024-13-45"], "epochs = 2024-13-45"),
    "long name": (lambda p: ["--name", "a" * 300], "name = aaa"),
    "long profile": (lambda p: ["a" * 300], "File name too long"),
    "long data set": (lambda p: ["--set", "dataset=" + "a" * 300], "File name too long"),
    "no x_train": (lambda p: ["--set", "dataset=" + npz(p / "a.npz", x_test=X)], "x_train"),
    "floats outside 0 to 1": (
        lambda p: ["--set", "dataset=" + npz(p / "b.npz", x_train=X * 1.0, x_test=X)],
        "x_train has floats",
    ),
    "one class only": (
        lambda p: ["--set", "dataset=" + npz(p / "c.npz", x_train=X, x_test=X, y_train=Y * 0, y_test=Y * 0)],
        "two classes",
    ),
    "images of 1x1": (
        lambda p: ["--set", "dataset=" + npz(p / "d.npz", x_train=X[:, :1, :1], x_test=X[:, :1, :1])],
        "1x1",
    ),
    "few groups": (
        lambda p: ["quick-conditioned", "--set", "batch_size=97"],
        "batch_size = 97: a batch of a conditioned network",
    ),
    "labels of another length": (
        lambda p: ["--set", "dataset=" + npz(p / "e.npz", x_train=X, x_test=X, y_train=Y[:3], y_test=Y)],
        "y_train",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case, output, capfd, monkeypatch):
    if case == "no GPU":
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments, named = BAD[case]
    for more in ([], ["--dry-run"]):
        assert main([*arguments(output), *more]) == 2
        errors = capfd.readouterr().err
        assert named in errors
        assert len(errors.strip().splitlines()) == 1
        assert errors.startswith("error: ")
        assert not (output / "runs").exists(), "nothing was begun"


def test_a_corrupt_jpeg_in_a_folder_is_named(output, capfd):
    from PIL import Image

    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = output / "pets" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(folder / "1.jpg")
    bad = output / "pets/train/dog/1.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    assert main(["--set", f"dataset={output / 'pets'}"]) == 2
    assert str(bad) in capfd.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "checksum"])
def test_a_damaged_mnist_is_named(damage, output, capfd, monkeypatch):
    import gzip
    import struct

    monkeypatch.setenv("HVAE_DATA", str(output))
    for split, count in (("train", 6), ("t10k", 2)):
        x = struct.pack(">4I", 2051, count, 28, 28) + bytes(count * 784)
        y = struct.pack(">2I", 2049, count) + bytes(count)
        x = x[:-9] if damage == "truncated" else x
        (output / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(x))
        (output / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(y))
    assert main(["--set", "dataset=mnist"]) == 2
    errors = capfd.readouterr().err
    assert "train-images-idx3-ubyte.gz" in errors
    assert ("md5" if damage == "checksum" else "bytes") in errors


def test_a_place_that_cannot_be_written_is_named(output, capfd):
    (output / "runs").write_text("in the way")
    assert main(["--set", "betas=[1]"]) == 2
    assert "cannot write" in capfd.readouterr().err


def test_one_name_has_one_configuration(output, capfd):
    open_run(Config.make({"name": "mine", "epochs": 3}))
    before = (output / "runs/mine/config.yaml").read_bytes()
    assert main(["quick", "--name", "mine", "--set", "epochs=5"]) == 2
    assert "epochs is 3 there and 5 here" in capfd.readouterr().err
    assert (output / "runs/mine/config.yaml").read_bytes() == before


def test_a_run_that_another_process_computes_is_left_to_it(output, capfd):
    folder = open_run(load_profile("quick", ["betas=[1]"]))
    with locked(folder / ".lock"):
        assert main(["quick", "--set", "betas=[1]"]) == 2
    assert "another process" in capfd.readouterr().err


def test_list_and_dry_run(output, capfd, monkeypatch):
    assert main(["--list"]) == 0
    listed = capfd.readouterr().out
    assert re.search(r"^svhn-lvae +441 models", listed, re.M)
    assert main(["quick", "--dry-run"]) == 0
    assert "would train" in capfd.readouterr().out
    assert not (output / "runs").exists()
    monkeypatch.setenv("HVAE_DATA", str(output / "none"))
    assert main(["mnist-9x9", "--dry-run"]) == 0, "what is to be downloaded is no mistake"
    assert "would train 81 models" in capfd.readouterr().out
    assert not (output / "runs").exists()


def test_on_a_gpu_blocks_of_few_models_are_said_to_be_slow(output, capfd, monkeypatch):
    monkeypatch.setenv("HVAE_DATA", str(output / "none"))
    slow = "see --set blocks="
    for gpus, profile, changes, said in (
        ("1", "mnist-9x9", ["blocks=81"], True),
        ("1", "mnist-9x9", [], False),
        ("1", "mnist-9x9", ["blocks=2"], False),
        ("1", "mnist-9x9", ["device=cpu", "blocks=81"], False),
        ("0", "mnist-9x9", ["blocks=81"], False),
        (
            "1",
            "rd-mnist",
            ["model=[---, +--]", "betas=[[0.1, 1]]", "blocks=2"],
            False,
        ),  # a family at a time, whatever the blocks
        ("1", "mnist-9x9", ["betas=[[1], [1]]", "seeds=9", "blocks=9"], False),  # and a seed
    ):
        monkeypatch.setenv(GPUS, gpus)
        assert main([profile, "--dry-run", *(["--set", *changes] if changes else [])]) == 0
        assert (slow in capfd.readouterr().out) is said, (gpus, profile, changes)
    open_run(load_profile("mnist-9x9", ["blocks=81"], "mnist-9x9"))
    monkeypatch.setenv(GPUS, "1")
    main(["mnist-9x9", "--dry-run"])  # without its data
    assert slow not in capfd.readouterr().out, "a run that is there keeps its blocks"


def test_a_processor_without_bfloat16_is_told_that_float32_is_faster(output, capfd, monkeypatch):
    x86 = {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}
    for able, changes, gpus, said in (
        (x86, ["precision=bfloat16"], "0", True),
        (x86, ["precision=bfloat16"], "1", False),
        (x86, ["epochs=2"], "0", False),
        (x86 | {"amx_bf16": True}, ["precision=bfloat16"], "0", False),
        (x86 | {"avx512_bf16": True}, ["precision=bfloat16"], "0", False),
        ({"architecture": "arm64"}, ["precision=bfloat16"], "0", False),
    ):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda able=able: able)
        monkeypatch.setenv(GPUS, gpus)
        assert main(["quick", "--dry-run", "--set", *changes]) == 0
        assert ("float32 is several times faster" in capfd.readouterr().out) is said, (able, changes, gpus)


def test_gpus_are_shared_out_on_a_machine_and_not_in_a_folder(tmp_path, monkeypatch):
    """One kernel each, the name that the scheduler gave; jobs of a cluster number theirs from 0."""
    monkeypatch.setattr(job.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    waited = []

    def release(seconds):
        waited.append(seconds)
        first.close()

    monkeypatch.setattr(job.time, "sleep", release)
    with ExitStack() as first, ExitStack() as second, ExitStack() as third, ExitStack() as elsewhere:
        assert job._claim_gpu(first, ["3", "GPU-5"]) == "3"
        assert job._claim_gpu(second, ["3", "GPU-5"]) == "GPU-5" and not waited
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        assert job._claim_gpu(elsewhere, ["3"]) == "3" and not waited
        monkeypatch.delenv("SLURM_JOB_ID")
        assert job._claim_gpu(third, ["3", "GPU-5"]) == "3" and waited, "it waited until one was free"


def test_a_dry_run_leaves_a_run_as_it_is(output, capfd):
    folder = open_run(load_profile("quick", ["betas=[1]"]))
    (folder / ".progress").mkdir()
    (folder / ".progress/10_train-000.json").write_text("{}")
    for damaged in ("5", "[]", "{}", '{"fingerprint": "f"}', "other data"):
        (folder / "data.json").write_text(damaged)
        assert main(["quick", "--set", "betas=[1]", "--dry-run"]) == 0
        assert "the data have changed; all would be made anew" in capfd.readouterr().out
        assert (folder / "data.json").read_text() == damaged
    assert (folder / ".progress/10_train-000.json").exists()


def test_the_console_names_the_last_error_of_a_batch_that_stopped(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("=== first ./run_all.sh\nValueError: of another batch\n=== second ./run_all.sh\nBuilding DAG\n")
    assert last_error(log, "second") == "Building DAG"
    with open(log, "ab") as file:
        file.write(b"OSError: [Errno 30] Read-only file system: \xff\n\nExiting.\n")
    assert last_error(log, "second") == "OSError: [Errno 30] Read-only file system: \ufffd"
    assert last_error(log, "third") == "it said nothing"


def test_a_name_may_look_like_a_number(output):
    """Snakemake reads what it is given as YAML."""
    open_run(Config.make({"name": "01", "betas": [1.0], "epochs": 1}))
    command = [*snakemake_command(load_config("01"), 1), "--dry-run", "--quiet", "rules"]
    (output / "runs/01/data.json").write_text("{}")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^train +1$", done.stdout, re.M)


# --- Paper B ------------------------------------------------------------------------------------------------------

FAMILIES = [
    "model=['---', '+-v', '-+v']",  # of the last one each image that it draws takes a pass a pixel
    "betas=[[0.5]]",
    "width=0.1",
    "pseudo_inputs=5",
    "epochs=1",
    "train_images=40",
    "test_images=10",
    "batch_size=20",
    "likelihood_images=2",
    "blocks=1",
]


def test_a_run_of_families_has_its_table_and_figures(output, capfd, monkeypatch):
    monkeypatch.setattr(stages, "DECODED", 1)
    assert main(["rd-quick", "--set", *FAMILIES, "--name", "rd", "--dry-run"]) == 0
    assert "3 models 3 families" in capfd.readouterr().out
    run_here("rd-quick", FAMILIES, "rd")
    results = load_results("rd")
    assert results["model"].tolist() == ["---", "+-v", "-+v"]
    assert (results["status"] == "ok").all()
    assert list(results) == columns(1, ["likelihood"])
    assert not results.isna().any().any()
    np.testing.assert_allclose(results["rate"], results["rate_1"])
    assert (results["iwae_5"] > results["elbo"] - 2).all(), "the bound is above the ELBO but for noise"
    made = {path.name for path in (output / "figures/rd").iterdir()}
    assert made == {f"{name}.{kind}" for name in ("b_fig3", "b_fig4") for kind in ("pdf", "png", "json")} | {
        f"b_table1.{kind}" for kind in ("csv", "md", "json")
    } | {"index.html"}


def test_families_of_colour_images_are_refused_and_leave_nothing(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8).transpose(0, 3, 1, 2)
    np.savez(tmp_path / "colour.npz", x_train=x, x_test=x)
    status, _, errors = run_all("rd-quick", "--set", f"dataset={tmp_path / 'colour.npz'}", output=tmp_path)
    assert status == 2
    assert errors.strip().splitlines() == ["error: model ---: images of 3x32x32; it is made for 1x28x28"]
    assert not (tmp_path / "runs").exists()


def test_where_too_few_files_may_be_open_nothing_begins(output, monkeypatch, capfd):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 100))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: None)
    assert main(["rd-toy"]) == 2
    assert "error: a process may open 100 files here; 128 are needed: ulimit -n 1024" in capfd.readouterr().err
    assert not list((output / "runs").glob("*/notebooks"))


@pytest.fixture
def hostile(tmp_path):
    """A folder to stand in, and what else may be in the way of a batch: its environment."""
    kernel = tmp_path / "jupyter/kernels/python3/kernel.json"
    for path, text in {
        tmp_path / "here/random.py": "raise SystemExit('another random')",
        tmp_path / "here/hvae_core/__init__.py": "raise SystemExit('another hvae_core')",
        tmp_path / "ipython/profile_default/startup/mine.py": "raise SystemExit('my start')",
        kernel: json.dumps({"argv": ["false"], "display_name": "foreign", "language": "python"}),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "here", {
        "HOME": "/dev/null/none",
        "SNAKEMAKE_PROFILE": "mine",
        "PYTHONINSPECT": "1",
        "JUPYTER_PATH": str(tmp_path / "jupyter"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "HVAE_OUTPUT": str(tmp_path / "{out}"),
    }


def test_the_toy_run_is_one_notebook_wherever_it_is_called(tmp_path, hostile):
    """Its own code runs in its own environment, with as many open files as it needs."""
    here, environment = hostile
    few_files = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    command = [sys.executable, "-P", "-m", "hvae_core", "rd-toy", "--set", "seeds=2", "epochs=300", "--name", "toy"]
    done = subprocess.run(
        command,
        cwd=here,
        env={**Batch(ROOT, tmp_path).environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=few_files,
    )
    assert "toy: done in" in done.stdout, done.stdout + done.stderr  # the status is Python's, which was to go on
    tmp_path = tmp_path / "{out}"
    results = pd.read_parquet(tmp_path / "runs/toy/results.parquet")
    assert sorted(results["objective"]) == ["elbo"] * 4 + ["target_rate"] * 2
    kept = (tmp_path / "runs/toy/objective.txt").read_text()
    assert kept.startswith("Eq. 8, then not Eq. 8 but") and "def elbo" in kept and "def target_rate" in kept
    assert {path.name for path in (tmp_path / "figures/toy").iterdir()} == {
        f"b_fig2.{kind}" for kind in ("pdf", "png", "json")
    } | {"index.html", "notebooks"}


# --- notebooks --------------------------------------------------------------------------------------------------


GIVEN = {"profile", "name", "block"}  # by the batch, where the notebook asks for them
BATCHED = {"10_train", *STAGE_NOTEBOOKS.values(), *(kind.notebook for kind in KINDS.values())}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}  # as JupyterLab writes it


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem != "99_paper_vs_ours"], ids=lambda p: p.stem)
def test_the_parameters_cell_is_the_configuration(path):
    """It names a run, or a profile and changes of it; what else the reader may turn says so in its line."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    (cell,) = cells
    lines = [
        re.fullmatch(r"(\w+) = (.+?)(?:  # (.+))?", line) for line in cell.splitlines() if not line.startswith("#")
    ]
    assert all(lines), "one name a line, then what it is"
    values = {line[1]: ast.literal_eval(line[2]) for line in lines}
    assert set(papermill.inspect_notebook(path)) == set(values), "papermill reads the same"
    assert all(line[3] for line in lines if line[1] not in GIVEN), "what a reader may turn is explained"
    used = "".join(cell.source for cell in notebook.cells if cell.cell_type == "code").replace(cell, "")
    assert all(re.search(rf"\b{name}\b", used) for name in values)
    if path.stem in BATCHED:
        assert "name" in values
        assert ("block" in values) == (path.stem == "10_train")
        assert set(values) <= GIVEN | {"changes"}
    if "profile" in values:
        load_profile(values["profile"], values.get("changes", {}), values.get("name"))
    elif "name" in values:
        assert load_profile(values["name"]).name == values["name"], "a run that ./run_all.sh can make"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_thin_and_stored_without_outputs(path):
    """And as the git filter of setup.sh leaves them, so that running and saving one is no change."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
            assert not re.search(r"^\s*class |\.backward\(", cell.source, re.M)
        else:
            assert not re.search(r"[\b\t\f\r]", cell.source), "LaTeX, not the escapes of JSON"
    assert sum(cell.cell_type == "markdown" for cell in notebook.cells) >= 2
    assert notebook.metadata == {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    assert path.read_text() == nbformat.writes(notebook) + "\n"


def test_start_here_trains_and_moves_rate_between_the_layers():
    """What its text says happens, and it ends in a picture."""
    shown = executed("00_start_here")
    models, held = (value for value in shown if isinstance(value, pd.DataFrame))
    assert list(zip(models["beta_2"], models["beta_1"], strict=True)) == [(1, 1), (0.1, 1), (1, 0.1)]
    vae, cheap_2, cheap_1 = models.to_dict("records")
    assert cheap_2["rate_2"] > vae["rate_2"], "a lower beta_2 draws rate into z_2"
    assert cheap_1["rate_1"] > vae["rate_1"], "a lower beta_1 draws rate into z_1"
    assert held["rate_2"].item() == pytest.approx(5, abs=1.5), "the changed objective asks for 5 nats"
    assert sum(isinstance(value, Figure) for value in shown) == 4
    assert isinstance(shown[-1], Figure)
