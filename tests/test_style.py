"""Figures are drawn in the paper's style, whatever the user has set for figures of their own."""

import os
import subprocess
import sys

import matplotlib
import pytest

from hvae_core import load_results
from hvae_core.figures import fig3, hierarchy
from hvae_core.files import ROOT

DRAW = """
import sys
from pathlib import Path
import numpy as np
from hvae_core import figures, load_results
from hvae_core.figures.grids import image_rows

fig3 = figures.fig3(load_results(Path(sys.argv[1])))
figures.save_figure(fig3, sys.argv[2], "fig3", provenance={})
rows = image_rows([np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8)])
for name, figure in (("shown", figures.fig3(load_results(Path(sys.argv[1])))), ("rows", rows)):
    Path(sys.argv[2], f"{name}.png").write_bytes(figure._repr_png_())
"""
SETTINGS = """
backend: nonsense
text.usetex: True
figure.facecolor: black
axes.facecolor: black
axes.edgecolor: white
text.color: white
axes.labelcolor: white
xtick.color: white
savefig.bbox: tight
savefig.dpi: 30
savefig.transparent: True
font.family: serif
font.size: 20
axes.grid: True
axes.spines.top: False
axes.prop_cycle: cycler('color', ['r'])
figure.autolayout: True
image.interpolation: bicubic
image.origin: lower
"""


@pytest.mark.slow
def test_the_users_settings_change_no_byte_of_a_figure(tmp_path, monkeypatch):
    """As files and as a notebook shows them, drawn here, and by a process of a user who has set much."""
    (tmp_path / "matplotlibrc").write_text(SETTINGS)
    own, plain = tmp_path / "own", tmp_path / "plain"
    own.mkdir()
    plain.mkdir()
    words = [str(ROOT / "published/runs/mnist-9x9"), str(own)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "svg"}
    subprocess.run([sys.executable, "-P", "-c", DRAW, *words], env=env, check=True, capture_output=True)
    monkeypatch.setattr(sys, "argv", ["-c", words[0], str(plain)])
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        exec(DRAW, {})
    files = {path.name: path.read_bytes() for path in plain.iterdir()}
    assert set(files) == {"fig3.pdf", "fig3.png", "fig3.json", "shown.png", "rows.png"}
    assert {path.name: path.read_bytes() for path in own.iterdir()} == files


@pytest.mark.parametrize("name", ["a$b$", r"$\x$", "${$", "100 %", "a_b^c", "\\"])
def test_a_data_set_may_have_any_name(name):
    results = load_results(ROOT / "published/runs/mnist-9x9").assign(dataset=name)
    figure = fig3(results)
    assert figure._repr_png_()
    assert name in figure.get_suptitle()


@pytest.mark.parametrize("usetex", [False, True])
def test_the_users_settings_are_left_as_they_were(usetex):
    with matplotlib.rc_context({"text.usetex": usetex, "font.size": 20, "backend": "svg"}):
        before = dict(matplotlib.rcParams)
        hierarchy()._repr_png_()
        assert dict(matplotlib.rcParams) == before
