"""What sets up: setup.sh with CUDA and without; the workflow, images, Binder and conda take what the lock has."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from hvae_core.files import ROOT

LOCK = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UV = """#!/bin/sh
echo "$*" >> "$LOG"
case $1 in
    export) cat "$LOG.pins" ;;
    pip) cat >> "$LOG.asked" ;;
esac
case $1 in venv | sync) mkdir -p .venv ;; esac
"""


@pytest.fixture
def setting_up(tmp_path: Path):
    """``setup.sh`` in a folder of its own, with a stand-in for uv: runs it, and returns what uv was told."""
    for name in ("setup.sh", "uv.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uv").write_text(UV)
    (tmp_path / "bin/uv").chmod(0o755)
    log = tmp_path / "log"
    (tmp_path / "log.pins").write_text("".join(f"{p['name']}=={p['version']}\n" for p in LOCK if "version" in p))

    def run(status: int = 0, **env: str) -> str:
        log.unlink(missing_ok=True)
        clean = {
            name: value for name, value in os.environ.items() if name not in ("HVAE_TORCH", "PYTHONDONTWRITEBYTECODE")
        }
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "source ./setup.sh"],
            cwd=tmp_path,
            env={**clean, "LOG": str(log), "PATH": path, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return (log.read_text() if log.exists() else "") if status == 0 else done.stderr

    return run


def test_the_build_of_pytorch_that_was_asked_for_is_kept(setting_up):
    assert setting_up() == "sync --locked\n"
    assert setting_up() == ""
    assert "pip sync" in setting_up(HVAE_TORCH="cpu")
    assert setting_up() == setting_up(HVAE_TORCH="cpu") == ""
    assert setting_up(HVAE_TORCH="cuda") == "sync --locked\n"
    assert setting_up() == setting_up(HVAE_TORCH="cuda") == ""
    assert setting_up(2, HVAE_TORCH="gpu") == "error: HVAE_TORCH = gpu: allowed are cpu and cuda\n"


def test_without_cuda_all_else_is_as_in_the_lock(setting_up, tmp_path):
    assert "--torch-backend cpu" in setting_up(HVAE_TORCH="cpu")
    asked = set((tmp_path / "log.asked").read_text().split())
    locked = {f"{package['name']}=={package['version']}" for package in LOCK if "version" in package}
    torch = {pin for pin in locked if re.match("torch(vision)?==", pin)}
    assert len(torch) == 2 and {f"{pin}+cpu" for pin in torch} == asked - locked
    left_out = {pin.partition("==")[0] for pin in locked - asked - torch}
    (wheel,) = [package for package in LOCK if package["name"] == "torch"]
    of_cuda = {need["name"] for need in wheel["dependencies"] if "'linux'" in need.get("marker", "")}
    needed_by = {
        package["name"] for package in LOCK for need in package.get("dependencies", []) if need["name"] in left_out
    }
    assert of_cuda <= left_out, "what PyTorch needs on Linux alone"
    assert needed_by <= left_out | {"torch"}, "nothing that is left needs it"


def has_wheel(package: dict[str, Any], minor: int) -> bool:
    """Whether a package needs no compiler on Linux, under CPython 3.``minor``."""
    files = [wheel["url"].rpartition("/")[2].removesuffix(".whl").split("-")[-3:] for wheel in package["wheels"]]
    for python, abi, platform in files:
        if platform != "any" and not ("manylinux" in platform and "x86_64" in platform):
            continue
        oldest = [int(tag[3:]) for tag in python.split(".") if re.fullmatch(r"cp3\d+", tag)]
        if abi == f"cp3{minor}" or (abi == "none" and ("py3" in python or minor in oldest)):
            return True
        if abi == "abi3" and min(oldest, default=minor + 1) <= minor:
            return True
    return False


def test_the_workflow_runs_what_ci_runs_on_the_oldest_and_the_newest_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    job = workflow["jobs"]["tests"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    names: dict[str, list[dict[str, Any]]] = {}
    for package in LOCK:
        if package.get("wheels") and not package["name"].startswith("pywin"):  # of Windows
            names.setdefault(package["name"], []).append(package)
    oldest = int(re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])[1])
    known = [
        minor
        for minor in range(oldest, 30)
        if all(any(has_wheel(package, minor) for package in versions) for versions in names.values())
    ]
    assert job["strategy"]["matrix"]["python"] == [f"3.{known[0]}", f"3.{known[-1]}"]
    assert job["env"]["UV_PYTHON"] == "${{ matrix.python }}"


def test_images_and_binder_are_made_by_setup_sh():
    for name in ("Dockerfile", "apptainer.def", "binder/postBuild"):
        assert "source ./setup.sh" in (ROOT / name).read_text()
    assert os.access(ROOT / "binder/postBuild", os.X_OK)


def test_an_image_gets_all_that_git_keeps(tmp_path):
    """Of what is left out nothing is committed: the rules of .dockerignore, which for these names are git's."""
    try:
        kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    rules = tmp_path / "rules"
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    rules.write_text("".join(f"{line if line.startswith('**') else '/' + line.lstrip('/')}\n" for line in lines))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    left_out = subprocess.run(
        ["git", "-c", f"core.excludesFile={rules}", "check-ignore", "--no-index", "--stdin"],
        cwd=tmp_path,
        input="\n".join([*kept, ".venv/bin/python", "hvae_core/__pycache__/a.pyc"]),
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert left_out == [".venv/bin/python", "hvae_core/__pycache__/a.pyc"]


def test_conda_users_get_all_packages_of_the_lock():
    """Those that the project needs and what they need in turn, each in all its versions; none of the development's."""
    pins = set(re.findall(r'^ +- "([\w.-]+)==([^ "]+)', (ROOT / "environment.yml").read_text(), re.MULTILINE))
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in LOCK:
        by_name.setdefault(package["name"], []).append(package)
    (project,) = by_name.pop(PROJECT["name"])
    wanted, to_do = set(), [(need["name"], tuple(need.get("extra", ()))) for need in project["dependencies"]]
    while to_do:
        name, extras = to_do.pop()
        if (name, extras) in wanted:
            continue
        wanted.add((name, extras))
        for package in by_name[name]:
            needs = package.get("dependencies", []) + [
                need for extra in extras for need in package.get("optional-dependencies", {}).get(extra, [])
            ]
            to_do += [(need["name"], tuple(need.get("extra", ()))) for need in needs]
    assert pins == {(name, package["version"]) for name, _ in wanted for package in by_name[name]}
