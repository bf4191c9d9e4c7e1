"""What is made of a run, by the kind of its models."""

from typing import NamedTuple


class Kind(NamedTuple):
    """What is made of a run. Command, store and Snakefile read it here.

    Attributes:
        stages: each makes a table, in the notebook of that name.
        notebook: draws the figures.
        figures, tables: what it draws.
        pages: what is made for a browser.
        trainer: the module that trains the run's models.
    """

    stages: tuple[str, ...]
    notebook: str
    figures: tuple[str, ...]
    tables: tuple[str, ...]
    trainer: str = "hvae_core.training.population"
    pages: tuple[str, ...] = ()


_APPLICATIONS = ("reconstruction", "generation", "representation")
_PAPER_A = tuple(f"fig{n}" for n in (1, 3, 4, 5, 6, 7, 8, 9))

KINDS = {
    "hierarchical": Kind(  # Paper A
        _APPLICATIONS, "50_figures", _PAPER_A, ("table1", "table2", "table3"), pages=("explorer",)
    ),
    "deep": Kind(  # Paper A, Section 3.2, with more than two layers
        _APPLICATIONS, "90_deep_hierarchies", ("layers", *_PAPER_A), ("table1", "table2")
    ),
    "conditioned": Kind(  # one network for all betas
        _APPLICATIONS,
        "95_conditioned",
        ("surface", "sliding", *_PAPER_A),
        ("table1",),
        "hvae_core.training.conditioned",
        ("explorer",),
    ),
    "targets": Kind(_APPLICATIONS, "80_target_rates", ("targets",), ("targets_table",)),
    "shares": Kind(
        _APPLICATIONS, "80_target_rates", ("targets", "shares"), ("targets_table", "shares_table", "equal_betas_table")
    ),
    "families": Kind(  # Paper B, Appendix F
        ("likelihood",), "60_rate_distortion", ("b_fig3", "b_fig4"), ("b_table1",)
    ),
    "toy": Kind((), "70_toy", ("b_fig2",), ()),  # Paper B, Appendix E
}
NOTEBOOKS = {
    "reconstruction": "20_reconstruction",
    "generation": "30_generation",
    "representation": "40_representation",
    "likelihood": "65_likelihood",
}
"""The notebook of each stage."""
