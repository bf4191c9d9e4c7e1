"""A run as an RO-Crate: every file, and what made it."""

import hashlib
import json
import shutil

import pytest
from rocrate.rocrate import ROCrate

from hvae_core.claims import crate
from hvae_core.errors import InputError
from hvae_core.files import ROOT

RUN = ROOT / "published/runs/rd-toy"


@pytest.fixture
def run(tmp_path):
    """A published run, and beside its files what a run has while it is made."""
    folder = tmp_path / "runs/toy"
    shutil.copytree(RUN, folder)
    for name in (".lock", ".progress/10_train.json", "checkpoints/block-000/resume/00000/a.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("passing")
    return folder


def test_a_crate_names_every_file_and_what_made_it(run, capsys):
    assert crate.main([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / crate.NAME}\n"
    read = ROCrate(run)
    wanted = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    wanted -= {".lock", ".progress/10_train.json", "checkpoints/block-000/resume/00000/a.safetensors", crate.NAME}
    assert {entity.id for entity in read.data_entities} == wanted
    for entity in read.data_entities:
        content = (run / entity.id).read_bytes()
        assert entity["contentSize"] == str(len(content)) and entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert entity["encodingFormat"]
    about = json.loads((RUN / "provenance.json").read_text())
    whole = read.get("#run")
    assert (whole["name"], whole["startTime"]) == (about["command"], about["start"].replace("Z", "+00:00"))
    assert {file.id for file in whole["object"]} == wanted & set(crate.INPUTS)
    assert {file.id for file in whole["result"]} == wanted - set(crate.INPUTS)
    assert read.get("#torch")["softwareVersion"] == about["versions"]["torch"]
    assert {action.id for action in read.root_dataset["mentions"]} == {
        "#run",
        *(f"#{name}" for name in about["stages"]),
    }
    before = (run / crate.NAME).read_text()
    crate.write(run)
    assert (run / crate.NAME).read_text() == before, "equal files, equal text"


def test_the_end_of_a_stage_is_its_start_and_its_time(run):
    path = run / "provenance.json"
    about = json.loads(path.read_text())
    about |= {"start": "2026-02-28T23:59:00Z", "wall_time_s": 90.0}
    path.write_text(json.dumps(about))
    (whole,) = [entity for entity in crate.describe(run)["@graph"] if entity["@id"] == "#run"]
    assert (whole["startTime"], whole["endTime"]) == ("2026-02-28T23:59:00+00:00", "2026-03-01T00:00:30+00:00")


def test_what_cannot_be_described_is_named_in_one_line(run, capsys):
    path = run / "provenance.json"
    about = json.loads(path.read_text())
    for text, said in (
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps({key: about[key] for key in about if key != "start"}), "does not say start"),
    ):
        path.write_text(text)
        assert crate.main([str(run)]) == 2
        printed = capsys.readouterr().err
        assert said in printed and printed.count("\n") == 1 and not (run / crate.NAME).exists()
    path.unlink()
    with pytest.raises(InputError, match="run 'toy' is not finished"):
        crate.describe(run)
