"""The report of a run says what is there and what is not, and every link leads somewhere."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import Batch
from test_explorer import CHROMIUM, browser, browsing  # noqa: F401  # a fixture, by its name

from hvae_core.claims import report as reports
from hvae_core.claims.report import report, verdicts
from hvae_core.files import ROOT
from hvae_core.pages.report import LOOK
from hvae_core.pages.report import report as page
from hvae_core.runs.folder import load_config
from hvae_core.runs.results import load_results

PUBLISHED = sorted(path.parent for path in (ROOT / "published/runs").glob("*/results.parquet"))


class Links(HTMLParser):
    """What a page points to, and the elements that are open."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_links(path: Path) -> None:
    links = Links(path.read_text(encoding="utf-8"))
    assert links.open == []
    for link in links.found:
        if link.startswith("#"):
            assert link[1:] in links.ids
        elif not link.startswith("data:"):
            assert (path.parent / link).exists(), link


def test_every_run_ends_with_its_report(tiny_run):
    batch, done = tiny_run
    path = batch.output / "figures/tiny/index.html"
    assert f"report: {path}" in done.printed
    check_links(path)
    text = path.read_text(encoding="utf-8")
    for name in ("explorer.html", "results.csv", "fig1.png", "fig9.png", "table1.csv", "50_figures.html"):
        assert f'{name}"' in text
    assert "not finished" not in text
    assert "./run_all.sh" in text, "the command"
    assert len(text) < 3e6
    assert "1 / 0" not in text


def test_its_verdicts_are_those_of_the_rules(tiny_run):
    folder = tiny_run[0].output / "runs/tiny"
    found = verdicts(load_config(folder), load_results(folder))
    assert len(found) == 16
    text = (tiny_run[0].output / "figures/tiny/index.html").read_text(encoding="utf-8")
    assert text.count("<tr><td><b>") == 16
    for one in found:
        assert f"<b>{one.verdict}</b>" in text


@pytest.fixture
def copied(tiny_run, tmp_path, monkeypatch) -> Batch:
    """A copy of the outputs of the run, of which this process reports."""
    shutil.copytree(tiny_run[0].output, tmp_path / "output", symlinks=True)
    monkeypatch.setenv("HVAE_OUTPUT", str(tmp_path / "output"))
    return Batch(ROOT, tmp_path / "output")


def test_a_run_that_failed_has_its_report_too(copied):
    run, figures = copied.output / "runs/tiny", copied.output / "figures/tiny"
    (figures / "fig3.png").unlink()
    (run / "results.parquet").unlink()
    (run / "tables/generation.parquet").unlink()
    record = run / ".progress/30_generation.job"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"error": "a <b>bold</b> mistake"}))
    (run / "notebooks/20_reconstruction.ipynb").write_text("{ no notebook")
    (figures / "notebooks/20_reconstruction.html").unlink()
    path = report("tiny")
    check_links(path)
    text = path.read_text(encoding="utf-8")
    assert "This run is not finished" in text
    assert "<b>30_generation</b>: a &lt;b&gt;bold&lt;/b&gt; mistake" in text
    assert re.search(r"Missing: .*generation\.parquet.*fig3\.png", text)
    assert "There are no results yet" in text
    assert "20_reconstruction.html" not in text
    assert "fig4.png" in text


def test_what_says_the_same_is_not_written_again(copied, monkeypatch):
    path = report("tiny")
    written = []
    monkeypatch.setattr(reports, "write_text", lambda path, text: written.append(path))
    assert report("tiny") == path
    assert written == []


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_every_kind_of_run_has_a_report(folder):
    config, results = load_config(folder), load_results(folder)
    text = page(config, results, verdicts(config, results))
    assert Links(text).open == []
    assert "The papers&#x27; statements" in text or config.target_rates is not None
    assert ("Which betas" in text) == ("reconstruction" in config.kind.stages)


def test_without_labels_the_rest_is_reported():
    folder = ROOT / "published/runs/mnist-9x9"
    results = load_results(folder)
    labelled = [name for name in results if str(name).startswith(("acc", "mi_", "inception", "diversity", "sharp"))]
    bare = results.assign(**dict.fromkeys(labelled, float("nan")))
    bare.attrs = results.attrs
    text = page(load_config(folder), bare, verdicts(load_config(folder), bare))
    assert "not tested" in text
    assert "psnr" in text


def test_a_run_whose_models_all_diverged_says_so():
    folder = ROOT / "published/runs/mnist-9x9"
    results = load_results(folder)
    lost = results.assign(status="diverged")
    lost.attrs = results.attrs
    text = page(load_config(folder), lost, verdicts(load_config(folder), lost))
    assert "162 diverged" in text
    assert "Which betas" not in text


def test_what_to_look_for_is_what_the_docs_say():
    docs = (ROOT / "docs/figures.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in docs.splitlines() if line.startswith("|")]
    said = {name: row[3] for row in rows if len(row) == 4 for name in re.findall(r"`(\w+)`", row[2])}
    assert {name: said[name] for name in LOOK} == LOOK


def test_no_name_is_markup():
    folder = ROOT / "published/runs/mnist-9x9"
    results = load_results(folder)
    named = results.assign(dataset="<script>")
    named.attrs = results.attrs
    assert "<script>" not in page(load_config(folder), named)


@browsing
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_is_accessible_and_fits(browser, width, tiny_run):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here; uv sync installs it")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto((tiny_run[0].output / "figures/tiny/index.html").as_uri())
    found = axe.Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.close()
