"""What made a result: the code that ran, with git and without."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hvae_core.files import ROOT
from hvae_core.runs.provenance import code_hash, provenance


def git(folder: Path, *words: str) -> str:
    """Git in a folder, whoever the user is."""
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, env=without_git(), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def without_git() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def repository(folder: Path) -> str:
    """Make a folder a repository of all that is in it; returns its commit."""
    (folder / "file").write_text(str(folder))
    git(folder, "init", "-q")
    git(folder, "add", "file")
    git(folder, "commit", "-qm", "one")
    return git(folder, "rev-parse", "HEAD")


def copied(folder: Path) -> Path:
    for name in ("hvae_core", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Snakefile", folder)
    return folder


def said(checkout: Path, **env: str) -> dict[str, str | None]:
    """What a checkout says of its code, asked in a process of its own."""
    code = "import json; from hvae_core.runs.provenance import commit; print(json.dumps(commit()))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**without_git(), "PYTHONPATH": str(checkout), **env},
        cwd=checkout.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_provenance_is_json_and_names_code_and_versions():
    made = json.loads(json.dumps(provenance()))
    assert set(made) >= {"commit", "dirty", "code", "versions", "device", "python", "cores"}
    assert made["versions"]["torch"] == torch.__version__.split("+")[0]
    assert made["code"] == code_hash(ROOT)


def test_the_commit_is_that_of_this_checkout_and_of_no_repository_around_it(tmp_path):
    repository(tmp_path)
    inside = copied(tmp_path / "unpacked")
    elsewhere = {"GIT_DIR": str(tmp_path / ".git"), "GIT_WORK_TREE": str(inside), "GIT_INDEX_FILE": "none"}
    for environment in ({}, elsewhere, {"GIT_DIR": elsewhere["GIT_DIR"]}):
        about = said(inside, **environment)
        assert about == {"commit": None, "dirty": None, "code": code_hash(inside)}
    own = repository(inside)
    for environment in ({}, elsewhere, {"GIT_DIR": elsewhere["GIT_DIR"]}):
        about = said(inside, **environment)
        assert about == {"commit": own, "dirty": True, "code": code_hash(inside)}
    git(inside, "add", "-A")
    git(inside, "commit", "-qm", "two")
    assert said(inside, **elsewhere) == {
        "commit": git(inside, "rev-parse", "HEAD"),
        "dirty": False,
        "code": code_hash(inside),
    }


@pytest.mark.parametrize("name", ["hvae_core/errors.py", "hvae_core/models/ghvae.py", "Snakefile"])
def test_the_hash_of_the_code_changes_with_each_of_its_files(name, tmp_path):
    copy = copied(tmp_path)
    before = code_hash(copy)
    assert before == code_hash(ROOT)
    with open(copy / name, "a") as file:
        file.write("# changed\n")
    assert code_hash(copy) != before


def test_of_a_notebook_the_cells_count_and_not_what_running_leaves(tmp_path):
    copy = copied(tmp_path)
    before, path = code_hash(copy), copy / "notebooks/50_figures.ipynb"
    content = json.loads(path.read_text())
    content["metadata"]["language_info"] = {"version": "9"}
    cell = next(cell for cell in content["cells"] if cell["cell_type"] == "code")
    cell |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["x"]}]}
    cell["source"] = "".join(cell["source"])
    path.write_text(json.dumps(content))
    assert code_hash(copy) == before
    cell["source"] += "\n1"
    path.write_text(json.dumps(content))
    changed = code_hash(copy)
    path.write_text(json.dumps(content)[:-1])
    assert len({before, changed, code_hash(copy)}) == 3, "a damaged notebook is another"
