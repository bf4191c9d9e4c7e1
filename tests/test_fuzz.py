"""Whatever is asked for either runs or ends in one plain line with status 2: 300 inputs, drawn anew from one seed."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.pipeline.batch import jobs, key
from hvae_core.pipeline.command import main
from hvae_core.pipeline.job import prepared
from hvae_core.runs.config import Config
from hvae_core.runs.profiles import load_profile, profiles

KEYS = [*sorted(set(Config.model_fields) - {"dataset"}), "betas.points", "betas.low", "epoch", "", "Betas"]
WORDS = """
0 1 2 7 -1 1e9 1e-30 .nan .inf 010 0x10 1_000 1:30 null ~ true no yes on off [] {} [1] [[1],[2]] [1,,2] {a:1} ' " # :
ghvae lvae --- +-v toy ghvae-conditioned cpu cuda auto float32 bfloat16 two-phase constant 2024-13-45 01 [1,null]
[0.1,1,10] [[0.1,1],[1]] [[[1]]] [-1] [0] {total:[40],shares:[0.5]} [[5],[10]] [8,20,256] [3,16]
"""
PLAIN = st.sampled_from(WORDS.split())
VALUES = PLAIN | st.integers(-5, 5000).map(str) | st.floats(-1, 1e4).map(str) | st.text(max_size=8)


def tried(arguments: list[str]) -> None:
    """Run or refused: no traceback, one line."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = main([*arguments, "--dry-run"])
    said = errors.getvalue()
    assert status in (0, 2), (arguments, said)
    if status == 2:
        assert said.startswith("error: "), (arguments, said)
        assert len(said.splitlines()) == 1, (arguments, said)
        assert len(said) > len("error: \n") + 10, (arguments, said)
    else:
        assert not said, (arguments, said)


@pytest.fixture
def nothing_there(output, monkeypatch):
    monkeypatch.setenv("HVAE_DATA", str(output / "data"))
    return output


few = settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(st.sampled_from(profiles()), st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))
def test_configurations(nothing_there, profile, changes):
    tried([profile, "--set", *(f"{name}={value}" for name, value in changes)])
    assert not (nothing_there / "runs").exists()


NAMES = st.sampled_from(["x_train", "x_test", "y_train", "y_test", "x", "arr_0"])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 10, 28, 32]), max_size=5).map(tuple)
TYPES = st.sampled_from(["uint8", "float32", "float64", "int64", "bool", "complex64", "U3", "M8[s]", "object"])


@st.composite
def arrays(draw):
    shape, kind = draw(st.sampled_from([(12, 28, 28), (12, 3, 32, 32), (12,)]) | SHAPES), draw(TYPES)
    values = np.random.default_rng(draw(st.integers(0, 9))).integers(0, draw(st.sampled_from([2, 3, 256])), shape)
    return values.astype(kind) if kind != "M8[s]" else values.astype("M8[s]")


@settings(few, max_examples=100)
@given(st.dictionaries(NAMES, arrays(), min_size=1), st.none() | st.integers(0, 400))
def test_data_files(nothing_there, held, cut):
    path = nothing_there / "mine.npz"
    np.savez(path, **held)
    if cut is not None:
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) * cut // 400])
    tried(["quick", "--set", f"dataset={path}", "batch_size=2"])


@st.composite
def notebooks(draw):
    """A notebook of the batch with one thing changed, or cut."""
    name = draw(st.sampled_from(["10_train-000", "20_reconstruction", "50_figures"]))
    text = (ROOT / "notebooks" / f"{name.removesuffix('-000')}.ipynb").read_text()
    if draw(st.booleans()):
        return name, text[: draw(st.integers(0, len(text)))]
    content = json.loads(text)
    cell = draw(st.sampled_from(content["cells"]))
    part = draw(st.sampled_from(sorted(cell)))
    cell[part] = draw(st.none() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=3)) | st.just({}))
    return name, json.dumps(content)


@settings(few, max_examples=50)
@given(notebooks())
def test_notebooks(output, drawn):
    name, text = drawn
    config = load_profile("quick", {"blocks": 1})
    asked = jobs(config)[name]
    with contextlib.suppress(InputError):
        key(config, asked, text)
        notebook, parameters = prepared(config, asked, text)
        assert notebook.cells
        assert parameters["name"] == "quick"
