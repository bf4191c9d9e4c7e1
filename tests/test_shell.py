"""The scripts and the command as a shell starts them: through links, from odd places, in terminals of all kinds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.pipeline import command
from hvae_core.pipeline.place import jobs
from hvae_core.runs.provenance import cores

SCRIPTS = ("run_all.sh", "run_tests.sh")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts beside an environment that is made already, whose Python says where it is and what it is told."""
    folder = tmp_path / "a checkout"
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\ncase "$*" in *cpu_count*) echo 3;; *) echo "{python}" "$@";; esac\n')
    python.chmod(0o755)
    for name in (*SCRIPTS, "setup.sh", "uv.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder)
    stamp = "cat uv.lock pyproject.toml | cksum > .venv/.made-from-lock"
    subprocess.run(["sh", "-c", stamp], cwd=folder, check=True)
    return folder


@pytest.fixture
def old_readlink(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``readlink`` takes no options."""
    path = tmp_path / "old/readlink"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\ncase "$1" in -*) exit 1;; esac\nexec {shutil.which("readlink")} "$1"\n')
    path.chmod(0o755)
    return {**os.environ, "PATH": f"{path.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_work_through_links(name, checkout, tmp_path, old_readlink):
    places = [tmp_path / part for part in ("bin", "sub/x y", "sub/deep")]
    for place in places:
        place.mkdir(parents=True)
    (places[0] / "first").symlink_to(checkout / name)
    (places[1] / "second").symlink_to("../../bin/first")
    (tmp_path / "folder").symlink_to("sub/x y")
    (places[2] / "third").symlink_to("../../folder/second")
    for link in (checkout / name, places[0] / "first", places[1] / "second", places[2] / "third"):
        for words, folder in (
            ([str(link)], tmp_path),
            ([f"./{link.name}"], link.parent),
            (["bash", link.name], link.parent),
        ):
            done = subprocess.run(
                [*words, "-k", "a b"], cwd=folder, env=old_readlink, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith(f"{checkout}/.venv/bin/python "), done.stdout
            assert done.stdout.endswith("-k a b\n")


def test_a_search_path_for_folders_leads_nowhere_else(checkout, tmp_path):
    """With CDPATH, ``cd`` goes elsewhere and says so."""
    (tmp_path / "other" / checkout.name).mkdir(parents=True)
    done = subprocess.run(
        ["bash", f"{checkout.name}/run_all.sh"],
        cwd=tmp_path,
        env={**os.environ, "CDPATH": str(tmp_path / "other")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{checkout}/.venv/bin/python ")


def test_all_tests_run_on_the_cores_that_may_be_used(checkout):
    done = subprocess.run([checkout / "run_tests.sh"], capture_output=True, text=True, check=True)
    assert "-m pytest -n 4 --dist loadfile" in done.stdout


def test_setting_up_leaves_other_repositories_alone(checkout, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path / "other"], check=True)
    config = tmp_path / "other/.git/config"
    before = config.read_text()
    env = {**os.environ, "GIT_DIR": str(tmp_path / "other/.git")}
    subprocess.run([checkout / "run_all.sh"], env=env, capture_output=True, check=True)
    assert config.read_text() == before


@pytest.fixture
def one_core():
    """Of all processors this process may use but one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_the_cores_are_those_that_may_be_used(one_core, monkeypatch):
    seen = []
    monkeypatch.delenv("HVAE_JOBS", raising=False)
    monkeypatch.setattr(command, "run", lambda config, cores, *more: seen.append(cores) or 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert command.main(["quick"]) == command.main(["quick", "--cores", "5"]) == 0
    assert seen == [1, 5]
    assert jobs() == cores() == 1


def test_a_backend_of_figures_is_not_passed_on(monkeypatch):
    """With one that is not there Matplotlib is not even imported."""
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.setattr(command, "run", lambda config, cores, *more: int("MPLBACKEND" in os.environ))
    assert command.main(["quick"]) == 0


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_jobs_is_named(given, monkeypatch):
    monkeypatch.setenv("HVAE_JOBS", given)
    with pytest.raises(InputError, match=f"HVAE_JOBS = {given}"):
        jobs()


def run_all(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "hvae_core", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}]
)
def test_names_in_all_letters_end_in_no_traceback(env, tmp_path):
    random = np.random.RandomState(0)
    for split in ("train", "test"):
        for letter in ("α", "Ж"):
            folder = tmp_path / "données 数" / split / letter
            folder.mkdir(parents=True)
            for i in range(3):
                Image.fromarray(random.randint(0, 256, (28, 28)).astype(np.uint8)).save(folder / f"{i}.png")
    env |= {"HVAE_OUTPUT": str(tmp_path / "резултати")}
    done = run_all("quick", "--set", "dataset=données 数", "--name", "x", "--dry-run", cwd=tmp_path, **env)
    assert "Traceback" not in done.stderr
    if env.get("PYTHONUTF8") == "0":  # the name is not text there
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    else:
        assert done.returncode == 0, done.stderr
        assert "x: 25 models" in done.stdout
        assert ("\\u6570" if "PYTHONIOENCODING" in env else "数") in done.stdout
    for changes in (["dataset=数.npz"], ["Ж=3"], ["name=数"]):
        done = run_all("quick", "--set", *changes, "--dry-run", cwd=tmp_path, **env)
        assert (done.returncode, done.stderr.count("\n"), done.stderr[:7]) == (2, 1, "error: ")


def test_a_lost_working_directory_is_named(tmp_path):
    (tmp_path / "gone").mkdir()
    script = f'rmdir "$PWD"; exec "{sys.executable}" -P -m hvae_core quick --dry-run'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path / "gone", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the working directory")
    assert "Traceback" not in done.stderr
