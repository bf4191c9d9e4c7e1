"""Progress is visible, says what there is to know, and does not flood a log."""

import json

import torch

from hvae_core import progress
from hvae_core.models import build
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train


def test_a_line_says_what_how_far_and_how_long():
    status = {
        "label": "training",
        "done": 3.7,
        "total": 10,
        "unit": "epochs of 4 models",
        "note": "mean D 90.1, R 20.0",
        "elapsed": 60.0,
        "left": 102.0,
    }
    assert progress.describe(status) == "training: 3/10 epochs of 4 models, mean D 90.1, R 20.0, 1 min 42 s left"
    assert progress.describe({**status, "done": 10}).endswith("done in 1 min 0 s")
    unknown = {**status, "label": "downloading", "total": None, "unit": "MB", "note": "", "left": None}
    assert progress.describe(unknown) == "downloading: 3 MB"


def test_a_log_gets_few_lines_and_a_short_task_none(capsys, monkeypatch):
    monkeypatch.delenv(progress.STATUS_FILE, raising=False)
    clock = iter(range(10_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock) / 10)  # 0.1 s a look
    with progress.track("long", 500, "models") as bar:
        for i in range(500):
            bar.update(i + 1, note=lambda: "fine")
    lines = capsys.readouterr().err.splitlines()
    assert 5 < len(lines) < 20, "a line every five seconds"
    assert "500/500 models, fine, done in" in lines[-1]
    with progress.track("short", 3, "models") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_in_a_batch_training_writes_members_epochs_and_terms_to_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.STATUS_FILE, str(tmp_path / "status.json"))
    x = torch.randint(0, 2, (8, 1, 28, 28), dtype=torch.uint8) * 255
    train(lambda: build("ghvae", (1, 28, 28)), [Member((1.0, 1.0), 0), Member((2.0, 1.0), 0)], x, Plan(epochs=2))
    status = json.loads((tmp_path / "status.json").read_text())
    line = progress.describe(status)
    assert line.startswith("training: 2/2 epochs of 2 models, mean loss ")
    assert "(D " in line
