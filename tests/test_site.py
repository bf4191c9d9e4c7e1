"""The site of published results has every run and page, every link leads somewhere, and nothing else is replaced."""

import re
import shutil

import pytest
from test_explorer import browser, browsing  # noqa: F401  # a fixture, by its name
from test_report import check_links

from hvae_core.claims import site as sites
from hvae_core.claims.site import main, site
from hvae_core.data import readers
from hvae_core.errors import InputError
from hvae_core.figures import composed
from hvae_core.files import ROOT
from hvae_core.pages.site import Card, front

RUNS = ("cifar10-5x5", "cifar10-conditioned", "rd-toy")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three published runs, without their notebooks, which take a second each."""
    root = tmp_path_factory.mktemp("published")
    for name in RUNS:
        for part in ("runs", "figures"):
            shutil.copytree(
                ROOT / "published" / part / name, root / part / name, ignore=shutil.ignore_patterns("notebooks")
            )
    return root


def test_a_site_has_all_runs_and_their_pages(root, output, capsys, monkeypatch):
    monkeypatch.setattr(readers, "load", lambda name: pytest.fail("no weights, so no data"))
    own = output / "figures/cifar10-conditioned/explorer.html"
    own.parent.mkdir(parents=True)
    own.write_text("<!doctype html>of the run itself")
    shutil.copytree(root / "runs/cifar10-conditioned", output / "runs/cifar10-conditioned")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    page = site(output / "site", root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    pages = sorted(page.parent.rglob("index.html"))
    assert len(pages) == 1 + len(RUNS)
    for one in pages:
        check_links(one)
        assert "not finished" not in one.read_text(), "weights are not published, and not missed"
    text = page.read_text()
    assert re.findall("<h3>(.*?)</h3>", text) == list(RUNS)
    assert text.count(">explorer</a>") == 2
    assert "of the run itself" in (page.parent / "figures/cifar10-conditioned/explorer.html").read_text()
    assert 'id="betas"' in (page.parent / "figures/cifar10-5x5/explorer.html").read_text()
    assert "a beta controls the rate of its own layer" in text and "target rate: R = 0.4999 nats" in text
    assert not list(page.parent.rglob("*.npz"))
    for one in page.parent.rglob("*.html"):
        assert str(output) not in one.read_text() and ".making" not in one.read_text(), "no path of this machine"
    assert "Made of the run cifar10-5x5;" in (page.parent / "figures/cifar10-5x5/explorer.html").read_text()

    results = output / "runs/cifar10-conditioned/results.csv"
    results.write_text(results.read_text().replace("0", "1"))  # another run of that name
    text = site(output / "site", root).read_text()
    assert text.count(">explorer</a>") == 1, "the site is replaced, and the other run is not shown"
    assert "cifar10-conditioned has no explorer here: " in capsys.readouterr().err


@browsing
@pytest.mark.parametrize("width", [1280, 390])
def test_the_front_page_is_accessible_and_fits(browser, width, tmp_path):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here; uv sync installs it")
    image = (ROOT / "published/figures/rd-toy/b_fig2.png").as_uri()
    cards = [
        Card(f"a-run-{'long-' * 9}{n}", "GHVAE on digits", image if n else "", {"report": "#runs"}) for n in range(4)
    ]
    table = composed.table1({"a-run": "not there"})
    page = tmp_path / "index.html"
    page.write_text(front("Results", cards, {"Table 1": ("Accuracies.", table)}), encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(page.as_uri())
    found = axe.Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.close()


def test_what_is_no_site_stays(root, output, capsys, monkeypatch):
    (output / "mine").mkdir()
    (output / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is no site of this command; name another folder"):
        site(output / "mine", root)
    assert (output / "mine/thesis.tex").exists()
    monkeypatch.setattr(sites, "site", lambda folder: site(folder, output / "none"))
    assert main([str(output / "new")]) == 2
    assert "nothing is published" in capsys.readouterr().err
    assert not (output / "new").exists()
