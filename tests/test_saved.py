"""Opened, run and saved as JupyterLab does it, a notebook is no change to git."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_server.services.contents.filemanager import FileContentsManager

from hvae_core.files import ROOT

HOOK = "hvae_core.pipeline.saved.refresh"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """``clone(*words)``: git in a small repository with a notebook, set up by setup.sh."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/20_reconstruction.ipynb", tmp_path / "notebooks")
    for name in ("setup.sh", ".gitattributes", ".gitignore", "uv.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)

    def git(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    subprocess.run(["bash", "-c", "source ./setup.sh"], cwd=tmp_path, check=True, capture_output=True)
    git("add", "notebooks", ".gitattributes")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    return git


def saved(place: Path, change, **options) -> None:
    """The notebook run and saved by JupyterLab's server."""
    path = place / "notebooks/20_reconstruction.ipynb"
    content = nbformat.read(path, as_version=4)
    for number, cell in enumerate(content.cells):
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text="shown " * number)]
            cell.execution_count = number
    content.metadata.language_info = {"name": "python", "version": "3.99", "nbconvert_exporter": "python"}
    change(content.cells)
    manager = FileContentsManager(root_dir=str(place), **options)
    manager.save({"type": "notebook", "content": content}, "notebooks/20_reconstruction.ipynb")


def nothing(cells) -> None:
    pass


def one_more_line(cells) -> None:
    cells[-1].source += "\n# mine"


def test_a_notebook_run_and_saved_is_clean(clone, tmp_path):
    command = [sys.executable, "-m", "jupyter_server", "--show-config-json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(shown)["FileContentsManager"]["post_save_hook"] == HOOK, "setup.sh asks JupyterLab for it"
    saved(tmp_path, nothing, post_save_hook=HOOK)
    assert clone("status", "--porcelain", "notebooks") == ""
    assert clone("diff") == ""
    saved(tmp_path, one_more_line, post_save_hook=HOOK)
    assert clone("status", "--porcelain", "notebooks") == " M notebooks/20_reconstruction.ipynb\n", "nothing is staged"
    assert clone("diff").count("\n+") == 1 + 2, "a line, and the comma of the one before"


def test_a_file_that_git_does_not_know_stays_unknown(clone, tmp_path):
    shutil.copy(ROOT / "notebooks/10_train.ipynb", tmp_path / "notebooks/mine.ipynb")
    manager = FileContentsManager(root_dir=str(tmp_path), post_save_hook=HOOK)
    content = nbformat.read(tmp_path / "notebooks/mine.ipynb", as_version=4)
    manager.save({"type": "notebook", "content": content}, "notebooks/mine.ipynb")
    assert clone("status", "--porcelain", "notebooks") == "?? notebooks/mine.ipynb\n"
