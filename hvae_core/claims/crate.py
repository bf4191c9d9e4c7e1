"""A finished run -> an RO-Crate: the run's folder described for machines, to be deposited as it is.

    .venv/bin/python -m hvae_core.claims.crate NAME

Writes ``ro-crate-metadata.json`` into the folder of the run, from its ``provenance.json``: who made what from what,
when, with which versions. Each file is there with its size and SHA-256, so write it last: what is computed later is not
in it. NAME may be the path of a published run.

Source: RO-Crate 1.1 (w3id.org/ro/crate) and its profile for runs of a process (w3id.org/ro/wfrun/process).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from hvae_core.errors import InputError
from hvae_core.files import ROOT, read_text, write_text
from hvae_core.runs.folder import load_config, run_folder

NAME = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
DESCRIBED = {
    "config.yaml": "the resolved configuration",
    "data.json": "the data set: its name, checksum and size",
    "history.parquet": "terms of every epoch, one row a model and epoch",
    "objective.txt": "the objective that was minimised",
    "provenance.json": "command, code, versions; device and time of every stage",
    "results.csv": "the results, one row a model",
    "results.parquet": "the results, one row a model",
}
NEEDED = ("command", "commit", "device", "python", "stages", "start", "versions", "wall_time_s")
"""Of ``provenance.json``."""
MADE = {"collect": ("history.parquet",), "join": ("results.csv", "results.parquet")}
"""By stages that are no notebooks."""
INPUTS = ("config.yaml", "data.json", "objective.txt")
MEDIA = {
    ".csv": "text/csv",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".npz": "application/zip",
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/octet-stream",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}


def describe(run: str | Path) -> dict[str, Any]:
    """The RO-Crate of a finished run, as JSON-LD. Equal files and provenance, equal text.

    Raises:
        InputError: when the run is not finished, or its provenance is damaged.

    Example:
        >>> described = describe(ROOT / "published/runs/rd-toy")["@graph"]
        >>> [entity["name"] for entity in described if entity["@type"] == "Dataset"]
        ['rd-toy']
    """
    from rocrate.model import ContextEntity
    from rocrate.rocrate import ROCrate

    config, folder = load_config(run), run_folder(run)
    about = _provenance(folder)
    cite = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    crate = ROCrate(version="1.1")

    def add(identifier: str, kind: str, **properties: Any) -> Any:
        return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))

    crate.metadata.extra_terms["sha256"] = "https://schema.org/sha256"  # which RO-Crate 1.1 has no word for
    models, data = ", ".join(config.models), Path(config.dataset).name
    crate.name = folder.name
    crate.description = f"A run of {cite['title']}: {len(config.members())} models, {models}, on {data}"
    crate.datePublished = about["start"]
    crate.license = add("https://spdx.org/licenses/MIT", "CreativeWork", name="MIT License")
    crate.root_dataset["conformsTo"] = add(PROFILE, "CreativeWork", name="Process Run Crate", version="0.5")
    author = add("#authors", "Organization", name=cite["authors"][0]["name"])
    crate.root_dataset["author"] = crate.root_dataset["publisher"] = author

    files = {path: crate.add_file(path, path, properties=_file(folder / path)) for path in _files(folder)}
    python = add("#python", "SoftwareApplication", name="Python", softwareVersion=about["python"])
    libraries = [
        add(f"#{name}", "SoftwareApplication", name=name, softwareVersion=version)
        for name, version in about["versions"].items()
    ]
    software = add(
        "#hvae-companion",
        "SoftwareApplication",
        name=cite["title"],
        softwareVersion=about["commit"] or about.get("code", "unknown"),
        softwareRequirements=[python, *libraries],
        author=author,
    )
    device = add("#device", "Thing", name=about["device"])

    def action(identifier: str, start: str, seconds: float, **properties: Any) -> Any:
        began = datetime.fromisoformat(start)
        times = {"startTime": began.isoformat(), "endTime": (began + timedelta(seconds=round(seconds))).isoformat()}
        made = add(identifier, "CreateAction", **times, **properties)
        made["instrument"] = software
        crate.root_dataset.append_to("mentions", made)
        return made

    whole = action("#run", about["start"], about["wall_time_s"], name=about["command"], description="all stages")
    whole["object"] = [files[name] for name in INPUTS if name in files]
    whole["result"] = [file for name, file in files.items() if name not in INPUTS]
    whole["location"] = device
    for name, stage in about["stages"].items():
        said = [f"{key} {stage[key]}" for key in ("commit", "code", "device") if stage.get(key)]
        made = action(f"#{name}", stage["start"], stage["wall_time_s"], name=name, description=", ".join(said))
        made["result"] = [files[path] for path in MADE.get(name, (f"notebooks/{name}.ipynb",)) if path in files]
    found: dict[str, Any] = crate.metadata.generate()
    return found


def write(run: str | Path) -> Path:
    """Write the RO-Crate of a finished run into its folder."""
    path = run_folder(run) / NAME
    write_text(path, json.dumps(describe(run), indent=2, ensure_ascii=False) + "\n")
    return path


def _provenance(folder: Path) -> dict[str, Any]:
    path = folder / "provenance.json"
    if not (folder / "results.parquet").exists() or not path.exists():
        raise InputError(f"run '{folder.name}' is not finished; ./run_all.sh makes what is missing")
    try:
        about = json.loads(read_text(path))
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise InputError(f"{path} is damaged; ./run_all.sh writes it anew")
    if lacking := [name for name in NEEDED if name not in about]:
        raise InputError(f"{path} does not say {', '.join(lacking)}; ./run_all.sh writes it anew")
    return about


def _files(folder: Path) -> list[str]:
    """What belongs to the run: all but states to resume from, locks, and the crate itself."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        path.as_posix()
        for path in paths
        if path.name != NAME and "resume" not in path.parts and not any(part.startswith(".") for part in path.parts)
    ]


def _file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    about = {"contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
    if path.suffix in MEDIA:
        about["encodingFormat"] = MEDIA[path.suffix]
    return about | {"name": DESCRIBED.get(path.name, path.name)}


def main(argv: Sequence[str] | None = None) -> int:
    """Describe the run that is named; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", help="of the run, or its path")
    try:
        print(write(parser.parse_args(argv).name))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
