"""Which results become out of date when which code changes; and that names are imported when they are first used."""

import ast
import importlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

import hvae_core
from hvae_core.files import ROOT
from hvae_core.models import module_of
from hvae_core.names import HIERARCHICAL
from hvae_core.runs import code
from hvae_core.runs.config import Config
from hvae_core.runs.kinds import KINDS

HELD = {"betas": [[0.1], [0.1]]}
RUNS = {
    name: Config.make(values)
    for name, values in {
        "ghvae": {},
        "lvae": {"model": "lvae"},
        "deep": {"latent_sizes": [8, 20, 256]},
        "conditioned": {"model": "ghvae-conditioned"},
        "conditioned lvae": {"model": "lvae-conditioned"},
        "targets": {"target_rates": [[5], [10]], **HELD},
        "shares": {"target_rates": {"total": [40], "shares": [0.5]}, **HELD},
        "families": {"model": ["---", "++v"]},
        "toy": {"model": "toy", "dataset": "toy", "betas": [[1.0]]},
    }.items()
}
STAGES = [(run, stage) for run, config in RUNS.items() for stage in ("training", *config.kind.stages)]


def training(*runs):
    """The training of these runs, or of all but those that begin with "not "."""
    left_out = {run.removeprefix("not ") for run in runs if run.startswith("not ")}
    return {(run, "training") for run in (set(runs) & set(RUNS) or set(RUNS) - left_out)}


def measuring(*stages):
    return {(run, stage) for run, stage in STAGES if stage in stages}


GHVAES = ("ghvae", "deep", "conditioned", "targets", "shares")
CONDITIONED = ("conditioned", "conditioned lvae")
PAPER_A = ("reconstruction", "generation", "representation")
# What is out of date by itself. All measurements are, too, when weights are trained anew: their key holds whose they
# are.
STALE = {
    # what all results are computed with
    "terms": set(STAGES),
    "randomness": set(STAGES),
    "data.dataset": set(STAGES),
    "models.hierarchy": set(STAGES),
    "models.distributions": set(STAGES),
    "training.plan": set(STAGES),
    "evaluation.stacked": set(STAGES),
    # architectures
    "models.heads": training("not toy"),
    "models.ghvae": training(*GHVAES),
    "models.deep": training("deep"),
    "models.lvae": training("lvae", "conditioned lvae"),
    "models.conditioning": training(*CONDITIONED),
    "models.paper_b.families": training("families"),
    "models.paper_b.flows": training("families"),
    "models.paper_b.pixelcnn": training("families"),
    "models.paper_b.toy": training("toy"),
    # training
    "objective": training(),
    "training.trainer": training(),
    "training.checkpoints": training() | measuring("generation"),  # the classifier is trained, too
    "training.ways": training(*(f"not {run}" for run in CONDITIONED)),
    "training.convolutions": training(),
    "training.kernels": training(),
    "training.population": training(*(f"not {run}" for run in CONDITIONED)),
    "training.threads": training(*(f"not {run}" for run in CONDITIONED)),
    "training.target_rates": training(*(f"not {run}" for run in CONDITIONED)),
    "training.conditioned": training(*CONDITIONED),
    "training.precision": training() | measuring("generation"),
    # measurements
    "evaluation.rates": training() | measuring(*PAPER_A),  # the training table; and they share its batch size
    "evaluation.paired": measuring("reconstruction", "representation"),
    "evaluation.reconstruction": measuring("reconstruction"),
    "evaluation.generation": measuring("generation"),
    "evaluation.classifier": measuring("generation"),
    "evaluation.representation": measuring("representation"),
    "evaluation.bounds": measuring("representation"),
    "evaluation.likelihood": measuring("likelihood"),
}
NOTHING = {
    "models": "finds a class by its name and checks options; what it makes is all in the class",
    "models.contract": "refuses a model, or says nothing",
    "models.table": "describes an architecture; notebooks compute it whenever they draw",
    "models.paper_b": "a docstring",
    "training": "a docstring",
    "evaluation": "a docstring",
    "evaluation.controllers": "of a notebook that belongs to no run and keeps nothing",
}
ROOMS = ("models", "training", "evaluation")
# All of data/ but `data.dataset` reads files: data enter by the fingerprint of their content.
SINGLE = ("terms", "objective", "randomness", "data.dataset")


def modules():
    """All modules that compute results, without the name of the package."""
    package = Path(ROOT, "hvae_core")
    found = {
        ".".join(path.relative_to(package).with_suffix("").parts)
        for room in ROOMS
        for path in (package / room).rglob("*.py")
    }
    own = {module_of(name).removeprefix("hvae_core.") for name in HIERARCHICAL if name not in RUNS}  # somebody's
    return {name.removesuffix(".__init__") for name in found} - own | set(SINGLE)


@pytest.fixture(scope="module")
def stale():
    """``stale(module, edit)``: what is out of date when ``edit`` makes another text of a module's text."""
    text = cache(code.source)

    def fingerprints(patch, source):
        patch.setattr(code, "source", source)
        lists = {(run, stage): tuple(code.code_of(RUNS[run], stage)) for run, stage in STAGES}
        found = {names: code.code_fingerprint(names) for names in set(lists.values())}
        return {key: found[names] for key, names in lists.items()}

    # Each text is read, parsed and spelled once: that takes nearly all of the time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "ast", SimpleNamespace(**{**vars(ast), "parse": cache(ast.parse)}))
        patch.setattr(code, "_code", cache(code._code))
        patch.setattr(code, "_closure", cache(code._closure.__wrapped__))
        before = fingerprints(patch, text)

        def stale(module, edit):
            name = f"hvae_core.{module}"
            after = fingerprints(patch, lambda other: edit(text(other)) if other == name else text(other))
            return {key for key in before if after[key] != before[key]}

        yield stale


def one_statement_more(text):
    return f"{text}\nedited = 1\n"


def test_every_kind_of_run_is_among_these():
    assert {id(config.kind) for config in RUNS.values()} == {id(kind) for kind in KINDS.values()}


def test_a_change_of_a_module_makes_stale_what_depends_on_it_and_nothing_else(stale):
    found = {module: stale(module, one_statement_more) for module in modules()}
    for module, expected in STALE.items():
        assert found.pop(module, None) == expected, module
    found.pop("evaluation.toy", None)  # the test below
    without = {module for module, stages in found.items() if not stages}
    assert without == set(NOTHING), "a module that no result depends on needs a reason in NOTHING"
    assert set(found) == without, "a module needs a line in STALE"


def test_a_change_of_what_measures_the_toy_model_makes_its_run_stale(stale):
    assert stale("evaluation.toy", one_statement_more) == training("toy")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("training", training()),
        ("measuring:sparse", training()),
        ("stages:reconstruct", measuring("reconstruction")),
        ("stages:generate", measuring("generation")),
        ("stages:represent", measuring("representation")),
        ("stages:bound_likelihood", measuring("likelihood")),
    ],
)
def test_a_change_in_the_pipeline_makes_its_own_stage_stale(stale, function, expected):
    assert stale(f"pipeline.{function}", one_statement_more) == expected


def test_comments_docstrings_and_layout_make_nothing_stale(stale):
    for module in STALE:
        assert not stale(module, lambda text: "# Why.\n\n" + text.replace('"""', '"""Otherwise. ', 1)), module


@pytest.mark.parametrize(
    ("statement", "counts"),
    [
        ("from hvae_core.analysis import frontier", True),
        ("from hvae_core.analysis.frontier import upper_hull", True),
        ("import hvae_core.analysis.frontier", True),
        ("def f():\n    from hvae_core.analysis import frontier", True),
        ("if TYPE_CHECKING:\n    from hvae_core.analysis import frontier", False),
        ("import numpy", False),
        ("from hvae_core.files import ROOT", False),
    ],
)
def test_what_a_module_imports_counts_but_for_types_and_what_computes_nothing(monkeypatch, statement, counts):
    before, text = code._closure("hvae_core.terms"), code.source
    monkeypatch.setattr(
        code, "source", lambda name: text(name) + (f"\n{statement}\n" if name == "hvae_core.terms" else "")
    )
    after = code._closure.__wrapped__("hvae_core.terms")
    assert after - before == ({"hvae_core.analysis.frontier"} if counts else set())


def test_to_register_a_model_makes_no_other_run_out_of_date():
    for stage in (*code.MEASURES, *code.WRITTEN):
        assert not {"hvae_core.models", "hvae_core.names"} & set(code.code_of(Config(model="lvae"), stage)), stage


# --- names that are imported when they are first used ---------------------------------------------------------------


def test_the_package_its_models_names_and_a_configuration_do_without_pytorch():
    program = "import sys, hvae_core, hvae_core.models, hvae_core.runs.code; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("given", "seen"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_that_wait_give_way_unless_the_user_says_otherwise(given, seen):
    program = "import os, hvae_core; print(os.environ.get('GOMP_SPINCOUNT'))"
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=others | given, capture_output=True, check=True
    )
    assert printed.stdout.decode().strip() == str(seen)


def test_pytorch_hears_how_long_threads_wait():
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run(
        [sys.executable, "-c", "from hvae_core import build; build('ghvae', (1, 28, 28))"],
        cwd=ROOT,
        env=others | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        check=True,
    )
    assert "GOMP_SPINCOUNT = '1000'" in said.stderr.decode()


def test_the_public_names_are_those_of_their_modules():
    assert set(hvae_core.__all__) == set(hvae_core._PLACES) <= set(dir(hvae_core))
    for name, place in hvae_core._PLACES.items():
        assert getattr(hvae_core, name) is getattr(importlib.import_module(f"hvae_core.{place}"), name)
    with pytest.raises(AttributeError, match="'trian'"):
        _ = hvae_core.trian
