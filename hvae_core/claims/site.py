"""The published results as a static site: one folder, to open by double-click or to put on any host.

    .venv/bin/python -m hvae_core.claims.site [FOLDER]

It has a gallery, the papers' statements beside the results, and of each run the report, the notebooks and the
explorer. An explorer that computes a network needs its weights and test images: where they are not published, it is
taken along if the run itself is here, too.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from hvae_core.claims import comparison
from hvae_core.claims.comparison import Published, published
from hvae_core.claims.publish import PUBLISHED
from hvae_core.claims.report import notebooks, verdicts
from hvae_core.errors import InputError
from hvae_core.figures import composed
from hvae_core.files import ROOT, write_text
from hvae_core.pages.report import report
from hvae_core.pages.site import Card, front
from hvae_core.pipeline.paging import explorer
from hvae_core.progress import track
from hvae_core.runs.folder import figure_folder, load_config, output_root
from hvae_core.runs.kinds import KINDS

MARK = ".made-by-hvae-companion"
LEFT_OUT = ("*.md", "*.parquet", "*.npz", "checkpoints", "cpu")
"""What pages are made of, and do not link."""


def site(target: Path, root: Path = PUBLISHED) -> Path:
    """Make the site of all runs that are published in ``root``; an earlier one is replaced when all of it is made.

    Returns:
        Its front page.

    Raises:
        InputError: there is something else in ``target``, or nothing is published.
    """
    if target.exists() and not (target / MARK).exists():
        raise InputError(f"{target} is there and is no site of this command; name another folder")
    runs = published(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as folder:
        whole, new = Path(folder) / "whole", Path(folder) / "new"
        shutil.copytree(root, whole)
        cards, own = [], output_root().resolve()
        with _results_in(whole), track("site", len(runs), "runs") as progress:
            for name, run in runs.items():
                cards.append(_pages(whole, name, run, own))
                progress.update(progress.done + 1)
        shutil.copytree(whole, new, ignore=shutil.ignore_patterns(*LEFT_OUT))
        write_text(new / "index.html", front("hvae-companion: published results", cards, _tables(runs)))
        write_text(new / MARK, "")
        if target.exists():
            target.rename(Path(folder) / "replaced")
        new.rename(target)
    return target / "index.html"


@contextlib.contextmanager
def _results_in(root: Path) -> Iterator[None]:
    """Runs are looked for in this folder, by name: their pages name no other."""
    before = os.environ.get("HVAE_OUTPUT")
    os.environ["HVAE_OUTPUT"] = str(root)
    try:
        yield
    finally:
        os.environ.pop("HVAE_OUTPUT")
        if before is not None:
            os.environ["HVAE_OUTPUT"] = before


def _pages(whole: Path, name: str, run: Published, own: Path) -> Card:
    """Make the pages of a run; returns its place in the gallery.

    Arguments:
        whole: all that is published, and the pages so far.
        own: where runs of one's own lie.
    """
    figures, made = figure_folder(name), own / "figures" / name / "explorer.html"
    results = [folder / "runs" / name / "results.csv" for folder in (own, whole)]
    if made.exists() and results[0].exists() and results[0].read_bytes() == results[1].read_bytes():
        shutil.copyfile(made, figures / "explorer.html")
    elif run.config.kind.pages:
        try:
            explorer(name)
        except InputError as error:
            print(f"{name} has no explorer here: {error}", file=sys.stderr)
    config = load_config(name)
    text = report(config, run.results, verdicts(config, run.results), notebooks=notebooks(config))
    write_text(figures / "index.html", text)
    links = {"report": "index.html", "explorer": "explorer.html"}
    there = {word: f"figures/{name}/{file}" for word, file in links.items() if (figures / file).exists()}
    there["results.csv"] = f"runs/{name}/results.csv"
    drawn = (f"figures/{name}/{figure}.png" for figure in config.kind.figures)
    return Card(name, comparison.about(run), next((at for at in drawn if (whole / at).exists()), ""), there)


def _tables(runs: dict[str, Published]) -> dict[str, tuple[str, pd.DataFrame]]:
    found = {name: verdicts(run.config, run.results) for name, run in runs.items()}
    data = {name: str(run.data.get("name", "toy")) for name, run in runs.items()}
    grids = {name: run.results for name, run in runs.items() if run.config.kind is KINDS["hierarchical"]}
    said = (
        "A rule makes each verdict from these results. Trainings are shorter than the paper's and grids coarser. In "
        "brackets: the paper says it of other data."
    )
    papers = {"Paper A": ("hierarchical", "conditioned"), "Paper B": ("families", "toy")}
    tables: dict[str, tuple[str, pd.DataFrame]] = {}
    for paper, kinds in papers.items():
        of = {name: found[name] for name, run in runs.items() if run.config.kind in [KINDS[kind] for kind in kinds]}
        if any(of.values()):
            tables[f"{paper} beside these results"] = said, comparison.verdicts(of, data)
    if grids:
        tables["Table 1"] = "The best accuracy of each classifier over all models, in %.", composed.table1(grids)
    untested = comparison.untested().map(lambda cell: cell.replace("`", ""))
    tables["What was not run"] = "Commands, and the projected cost of their training.", untested
    return tables


def main(argv: Sequence[str] | None = None) -> int:
    """Make the site; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "site", help="default: site/ here")
    args = parser.parse_args(argv)
    try:
        page = site(args.folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file())
    print(f"{page}: {size / 1e6:.0f} MB with all that it links")
    return 0


if __name__ == "__main__":
    sys.exit(main())
