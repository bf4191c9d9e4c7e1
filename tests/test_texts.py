"""What the texts point to exists, and README's table of published models says what their results say."""

import re
from pathlib import Path

import pandas as pd
import pytest

from hvae_core.config import ROOT
from hvae_core.figures.points import grid_means

TEXTS = [path for folder in (".", "docs", "benchmarks", "published") for path in sorted((ROOT / folder).glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in LINK.findall(path.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert not broken


def test_anchors_are_githubs() -> None:
    assert anchors("# A b, c-d: e_f?\n## Second\ntext # none\n```\n# a comment\n```\n") == {"a-b-c-d-e_f", "second"}


COLUMNS = ("distortion", "rate_2", "rate_1", "elbo", "psnr", "inception_score", "mi_z2", "acc_mu2_rbf_svm", "acc_z2_rbf_svm", "accuracy_bound_mi", "acc_mu1_rbf_svm")


def test_the_table_of_published_models_is_theirs() -> None:
    section = (ROOT / "README.md").read_text().partition("**`mnist-9x9`**")[2].partition("\n**")[0]
    rows = re.findall(r"^\| \(([\d.]+), ([\d.]+)\) \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) >= 5
    results = grid_means(pd.read_csv(ROOT / "published/runs/mnist-9x9/results.csv"))
    for beta_2, beta_1, cells in rows:
        near = (results["beta_2"] / float(beta_2) - 1).abs() + (results["beta_1"] / float(beta_1) - 1).abs()
        model = results.loc[near.idxmin()]
        assert near.min() < 1e-2
        for column, cell in zip(COLUMNS, cells.split(" | "), strict=True):
            value = model[column] * (100 if column.startswith("acc") else 1)
            assert f"{value:.{len(cell.partition('.')[2])}f}".replace("-0.00", "0.00") == cell, (beta_2, beta_1, column)
