"""Stored results -> figures and tables of the papers, one function each. Nothing is trained or evaluated here.

::

    points.py           what a figure is about: grid points, baselines, optima, the surface over the grid of betas
    panels.py           how one panel is drawn
    paper.py            fig1 ... fig9, table1 of Paper A
    composed.py         fig3, fig5, fig7, table1 of several runs
    rate_distortion.py  b_fig3, b_fig4, b_table1 of Paper B
    toy.py              b_fig2 of Paper B
    story.py            what notebooks 00 to 40 show beside them
    deep.py             how the rate is spread over more than two layers
    guidance.py         what is recommended under a rate budget
    bits.py             what each layer takes in a file beside its rate; the stack
    lossy.py            lossy files of one model beside other formats
    compare.py          two runs in the same axes, and what moved from one to the other
    conditioned.py      a conditioned network beside models trained one by one
    targets.py          rates asked for and held, and shares of a fixed total
    files.py            figures and tables -> files, with their provenance

Every function takes ``results``, one row a model, as `hvae_core.load_results` returns it. With several seeds a
grid point, the mean over seeds is drawn (in Paper B's plane every model is a point). What was not computed is said to
be so; it is never drawn as 0 or filled in.
"""

from hvae_core.analysis.points import grid_means
from hvae_core.figures.bits import bits, on_the_stack
from hvae_core.figures.conditioned import fidelities, fidelity, sliding, surface
from hvae_core.figures.deep import layers
from hvae_core.figures.files import save_figure, save_table
from hvae_core.figures.grids import image_rows
from hvae_core.figures.guidance import recommendation
from hvae_core.figures.lossy import lossy
from hvae_core.figures.panels import PaperFigure
from hvae_core.figures.paper import (
    Images,
    all_metrics,
    fig1,
    fig3,
    fig4,
    fig5,
    fig6,
    fig7,
    fig8,
    fig9,
    paper_a,
    table1,
)
from hvae_core.figures.rate_distortion import Decodings, b_bounds, b_fig3, b_fig4, b_table1
from hvae_core.figures.story import (
    accuracy_and_bound,
    best_and_typical,
    diversity_sharpness,
    hierarchy,
    information_trap,
    rate_split,
    rates_in_training,
)
from hvae_core.figures.targets import equal_betas_table, shares, shares_table, targets, targets_table, two_rules
from hvae_core.figures.toy import b_fig2

__all__ = [
    "Decodings",
    "Images",
    "PaperFigure",
    "accuracy_and_bound",
    "all_metrics",
    "b_bounds",
    "b_fig2",
    "b_fig3",
    "b_fig4",
    "b_table1",
    "best_and_typical",
    "bits",
    "diversity_sharpness",
    "equal_betas_table",
    "fidelities",
    "fidelity",
    "fig1",
    "fig3",
    "fig4",
    "fig5",
    "fig6",
    "fig7",
    "fig8",
    "fig9",
    "grid_means",
    "hierarchy",
    "image_rows",
    "information_trap",
    "layers",
    "lossy",
    "on_the_stack",
    "paper_a",
    "rate_split",
    "rates_in_training",
    "recommendation",
    "save_figure",
    "save_table",
    "shares",
    "shares_table",
    "sliding",
    "surface",
    "table1",
    "targets",
    "targets_table",
    "two_rules",
]
