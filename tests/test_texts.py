"""What the texts point to exists, their table of published models says what the results say, and they stay short."""

import re
from pathlib import Path

import pandas as pd
import pytest

from hvae_core.analysis.points import grid_means
from hvae_core.files import ROOT

FOLDERS = (".", "docs", "benchmarks", "published")
TEXTS = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

every_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))


# --- links ------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(FENCED.sub("", text))
    }


@every_text
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in LINK.findall(FENCED.sub("", path.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert not broken


def test_anchors_are_githubs() -> None:
    assert anchors("# A b, c-d: e_f?\n## Second\ntext # none\n```\n# a comment\n```\n") == {
        "a-b-c-d-e_f",
        "second",
    }


# --- numbers ----------------------------------------------------------------------------------------------------

COLUMNS = (
    "distortion",
    "rate_2",
    "rate_1",
    "elbo",
    "psnr",
    "inception_score",
    "acc_mu2_rbf_svm",
    "acc_z2_rbf_svm",
)


def test_the_table_of_published_models_is_theirs() -> None:
    section = (ROOT / "docs/results.md").read_text().partition("**`mnist-9x9`**")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \(([\d.]+), ([\d.]+)\) \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) >= 5
    results = grid_means(pd.read_csv(ROOT / "published/runs/mnist-9x9/results.csv"))
    for beta_2, beta_1, cells in rows:
        near = (results["beta_2"] / float(beta_2) - 1).abs() + (results["beta_1"] / float(beta_1) - 1).abs()
        model = results.loc[near.idxmin()]
        assert near.min() < 1e-2
        for column, cell in zip(COLUMNS, cells.split(" | "), strict=True):
            value = model[column] * (100 if column.startswith("acc") else 1)
            assert f"{value:.{len(cell.partition('.')[2])}f}".replace("-0.00", "0.00") == cell, (
                beta_2,
                beta_1,
                column,
            )


# --- length -----------------------------------------------------------------------------------------------------

WORDS = {
    "README.md": 900,
    "docs/paper-vs-ours.md": 4000,
    "benchmarks/README.md": 800,
    "published/README.md": 600,
}
"""How many words a text may have, everything counted; other texts in docs/ 800."""
LONGEST = 35
"""How many words a sentence may have."""


def sentences(text: str) -> list[str]:
    """Those of the prose: without code, tables, HTML and formulas."""
    text = re.sub(r"^\s*\|.*$", "\n", FENCED.sub("\n\n", text), flags=re.MULTILINE)
    text = re.sub(r"</?[a-z][^>]*>|\$\$.*?\$\$", "", text, flags=re.DOTALL)
    text = re.sub(r"^#+ (.*)$", r"\n\1\n", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`\n]+`", "code", text))
    parts = re.split(r"(?<=[.!?])[*\")]*\s+|\n\s*\n", text)
    return [" ".join(part.split()) for part in parts if part.strip()]


def test_sentences_are_told_apart() -> None:
    text = (
        "# A title\nOne. Two\ngoes on!\n\n| a <= | table. |\n|---|---|\n\n* a `bullet. of code`\n* "
        "another\n```\ncode. code.\n```\n"
    )
    assert sentences(text) == ["A title", "One.", "Two goes on!", "a code", "another"]


@every_text
def test_sentences_are_short(path: Path) -> None:
    assert [sentence for sentence in sentences(path.read_text()) if len(sentence.split()) > LONGEST] == []


@every_text
def test_texts_are_short(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    words = len(path.read_text().split())
    assert words <= WORDS.get(name, 800 if name.startswith("docs/") else words), f"{name}: {words} words"


def test_the_changelog_has_five_lines_a_version() -> None:
    versions = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    assert [text for text in versions if len([line for line in text.splitlines()[1:] if line.strip()]) > 5] == []
