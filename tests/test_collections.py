"""A collection: what its file may say, what is drawn of several runs, and what is said where one is missing."""

import json
import shutil

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D
from numpy.testing import assert_allclose
from test_explorer import browser, browsing  # noqa: F401  # a fixture, by its name
from test_figures import controlled, drawn, synthetic
from test_report import check_links

from hvae_core.analysis.points import PSNR, best, grid_means, values
from hvae_core.data import readers
from hvae_core.errors import InputError
from hvae_core.figures import composed, save_figure
from hvae_core.files import ROOT
from hvae_core.names import PROBES
from hvae_core.pages.collection import page
from hvae_core.pipeline.collecting import draw
from hvae_core.pipeline.command import main
from hvae_core.runs.collections import COMPOSED, collections, load_collection
from hvae_core.runs.profiles import load_profile, profiles

WHY = "train_32x32.mat could not be downloaded; put it into data (tried nowhere)"


# --- figures of several runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs():
    grey, colour = synthetic(size=3), synthetic(size=4)
    colour["psnr"] += np.linspace(0, 1, len(colour))
    return {"SVHN": colour, "MNIST": grey}


def dots(ax):
    return next(
        found.get_offsets() for found in ax.collections if found.get_gid() == "models" and type(found) is PathCollection
    )


def said(ax):
    return " ".join(" ".join(text.get_text().split()) for text in ax.texts)


def panels(fig):
    """Without colour bars."""
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def test_fig3_is_a_surface_of_the_first_run_and_a_plane_of_each(runs):
    surface, *planes = panels(composed.fig3(runs))
    assert isinstance(surface, Axes3D)
    assert surface.get_title() == "SVHN, PSNR (dB)"
    for ax, (name, results) in zip(planes, runs.items(), strict=True):
        points = grid_means(results)
        assert_allclose(dots(ax), points[["rate_2", "rate_1"]])
        (star,) = (found.get_offsets() for found in ax.collections if found.get_gid() == "best")
        assert_allclose(star[0], points.loc[best(points, PSNR), ["rate_2", "rate_1"]].to_numpy(float))
        assert ax.get_title().startswith(f"{name}\nbest {values(points, PSNR).max():.3g}")


def test_fig7_has_a_row_a_run_with_axes_of_its_own(runs):
    found = np.array(panels(composed.fig7(runs))).reshape(2, 5)
    for line, (name, results) in zip(found, runs.items(), strict=True):
        assert line[0].get_ylabel().startswith(f"{name}\n")
        for ax in line:
            assert len(dots(ax)) == len(results)
            assert ax.get_xlabel() and ax.xaxis.get_tick_params()["labelbottom"], "rates of rows differ"


def test_what_is_said_of_strokes_names_the_run(runs):
    fig = composed.fig7({**runs, "SVHN": controlled(runs["SVHN"], [2, 5])})
    first = panels(fig)[0]
    assert_allclose(drawn(first, "saturated"), runs["SVHN"].loc[[2, 5], ["rate_2", "rate_1"]])
    assert sum(len(drawn(ax, "saturated")) for ax in panels(fig)) == 2
    assert "SVHN: Strokes: 2 of 16 settings" in fig.caption
    assert "MNIST: I_q of labels at random was not computed:" in fig.caption
    assert "labels at random" not in composed.fig5(runs).caption


@pytest.mark.parametrize("compose", composed.COMPOSED.values(), ids=composed.COMPOSED)
def test_the_panels_of_a_missing_run_say_so_and_the_others_are_drawn(compose, runs):
    for gone in runs:
        fig = compose({**runs, gone: WHY})
        short = [ax for ax in panels(fig) if "not there: train_32x32.mat could not be downloaded" in said(ax)]
        assert len(short) == (2 if compose is composed.fig3 and gone == "SVHN" else 1)
        assert {ax.get_title() for ax in short} == {gone}
        assert f"{gone} is not there: {WHY}." in fig.caption
        assert fig.caption.count("Drawn: ") == 1
        assert fig._repr_png_()
    assert compose(dict.fromkeys(runs, WHY))._repr_png_()


def test_table_1_is_beside_the_papers(runs):
    table = composed.table1({**runs, "CIFAR-10": WHY}).set_index(["results", "latent"])
    assert table.loc[("SVHN, paper", "mu_2"), "RBF SVM"] == 77.60, "Paper A, Table 1"
    for name, results in runs.items():
        for n in (1, 2):
            best = [round(100 * results[f"acc_mu{n}_{probe}"].max(), 2) for probe in PROBES]
            assert table.loc[(name, f"mu_{n}")].tolist() == best
    assert table.loc["CIFAR-10"].isna().all(axis=None)
    assert WHY in table.attrs["caption"]


# --- the file ---------------------------------------------------------------------------------------------------


def test_all_collections_are_valid_and_named_like_no_profile():
    assert {"paper", "paper-quick", "paper-small", "paper-b"} <= set(collections())
    assert not set(collections()) & set(profiles())
    for name in collections():
        assert load_collection(name).about
    assert set(COMPOSED) == {*composed.COMPOSED, *composed.TABLES}


def test_the_papers_runs_are_its_profiles_own():
    found = load_collection("paper")
    assert found.runs == {
        key: load_profile(profile)
        for key, profile in zip(
            ("svhn", "cifar10", "mnist", "lvae"),
            ("svhn-ghvae", "cifar10-ghvae", "mnist-ghvae", "svhn-lvae"),
            strict=True,
        )
    }
    items = [f"fig{n}" for n in (1, 3, 4, 5, 6, 7)] + ["table1", "table2", "table2-mnist", "table3", "fig8", "fig9"]
    assert list(found.show) == items


def test_changes_are_for_all_runs_which_are_then_called_after_the_collection():
    found = load_collection("paper-quick", ["epochs=1", "betas.points=2"], "mine")
    assert found.name == "mine"
    for key, config in found.runs.items():
        assert (config.name, config.epochs, config.betas.points) == (f"mine-{key}", 1, 2)
    assert found.runs["lvae"].model == "lvae"
    assert load_collection("paper-quick", name="mine").runs["mnist-mini"].name == "quick"


GOOD = "runs: {a: quick, b: {profile: quick, set: {epochs: 1}}}\n"
BAD = {
    "no runs": ("runs: {}\nshow: {fig1: a}", "runs: needed are lines"),
    "nothing shown": ("runs: {a: quick}", "show: needed are lines"),
    "unknown key": (GOOD + "figures: {fig1: a}", "unknown key 'figures'; allowed are runs, show"),
    "unknown run": (GOOD + "show: {fig1: c}", "show: fig1: there is no run 'c'; there are a, b"),
    "unknown profile": ("runs: {a: quikc}\nshow: {fig1: a}", "run 'a': no profile 'quikc'"),
    "unknown figure": (GOOD + "show: {fig2: a}", "run 'a' has no 'fig2'; it has fig1, fig3"),
    "not composed": (GOOD + "show: {fig4: [a, b]}", "show: fig4: of a list of runs there are fig3, fig5, fig7, table1"),
    "named twice": (GOOD + "show: {fig3: [a, a]}", "show: fig3: a run is named twice"),
    "none": (GOOD + "show: {fig3: []}", "show: fig3: it is of no run"),
    "the same": ("runs: {a: quick, b: quick}\nshow: {fig1: a}", "'a' and 'b' are the same run, quick"),
    "a bad value": (
        "runs: {a: {profile: quick, set: {epochs: 0}}}\nshow: {fig1: a}",
        "run 'a': profile quick: epochs = 0",
    ),
    "a name": ("runs: {a: {profile: quick, set: {name: x}}}\nshow: {fig1: a}", "set: name: the collection names it"),
    "no profile": ("runs: {a: {set: {epochs: 1}}}\nshow: {fig1: a}", "run 'a': allowed are a profile"),
    "a path": ("runs: {a/b: quick}\nshow: {fig1: a}", "runs: 'a/b': allowed are letters"),
    "Paper B": ("runs: {a: quick, b: rd-quick}\nshow: {fig3: [a, b]}", "run 'b' has no models of Paper A"),
    "no YAML": ("runs: {a: quick", "not YAML"),
}


@pytest.mark.parametrize(("text", "error"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_plain_line(text, error, output, capfd):
    path = output / "mine.yaml"
    path.write_text(f"{text}\n# runs: \n")
    assert main([str(path)]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert error in said
    assert not (output / "runs").exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--set", "epochs=1"], "give it a --name, too"),
        (["--set", "dataset=mnist", "--name", "x"], "--set dataset: the runs of collection paper-quick differ in it"),
        (["--set", "epochs=x", "--name", "x"], "epochs = x"),
        (["--name", "a/b"], "name = a/b"),
        (["--objective", "mine.py"], "--objective is for one run"),
    ],
)
def test_what_makes_no_sense_for_several_runs_is_refused(words, error, output, capfd):
    assert main(["paper-quick", *words]) == 2
    assert error in capfd.readouterr().err
    assert not (output / "runs").exists()


def test_the_list_has_collections_and_a_dry_run_does_nothing(output, capfd, monkeypatch):
    monkeypatch.setenv("HVAE_DATA", str(output / "none"))
    assert main(["--list"]) == 0
    assert "\npaper               4 runs: svhn, cifar10, mnist, lvae. " in capfd.readouterr().out
    assert main(["paper", "--dry-run"]) == 0
    printed = capfd.readouterr().out
    for name in ("svhn-ghvae", "cifar10-ghvae", "mnist-ghvae", "svhn-lvae"):
        assert f"{name}: would train 441 models" in printed
    assert "paper: would draw 12 figures and tables of 4 runs" in printed
    assert list(output.iterdir()) == []


# --- from runs to figures ---------------------------------------------------------------------------------------


@pytest.fixture
def place(tiny_run, tmp_path, monkeypatch):
    """A copy of the outputs of the run ``tiny``, and a profile of that name beside it; SVHN cannot be had."""
    shutil.copytree(tiny_run[0].output, tmp_path / "output", symlinks=True)
    monkeypatch.setenv("HVAE_OUTPUT", str(tmp_path / "output"))
    shutil.copy(tmp_path / "output/runs/tiny/config.yaml", tmp_path / "tiny.yaml")

    def load(name, download=True):
        if name == "svhn":
            raise InputError(WHY)
        return found(name, download=download)

    found = readers.load
    monkeypatch.setattr(readers, "load", load)
    return tmp_path


def test_what_is_missing_is_named_and_all_else_is_drawn(place, capfd):
    path, figures = place / "two.yaml", place / "output/figures/two"
    show = "fig1: digits, fig3: [digits, svhn], fig4: svhn, table1: [digits, svhn], table3: svhn, fig9: digits/fig8"
    svhn = f"{{profile: {place}/tiny.yaml, set: {{dataset: svhn}}}}"
    path.write_text(f"# Two data sets.\nruns:\n  digits: {place}/tiny.yaml\n  svhn: {svhn}\nshow: {{{show}}}\n")
    assert main([str(path)]) == 1
    done = capfd.readouterr()
    assert f"error: two-svhn: {WHY}" in done.err
    assert "error: two: 1 of 2 runs were not made: two-svhn" in done.err
    assert "tiny: nothing to do" in done.out
    assert f"report: {figures / 'index.html'}" in done.out
    for name, own in (("fig1", "fig1"), ("fig9", "fig8")):
        for kind in ("png", "pdf", "json"):
            assert (figures / f"{name}.{kind}").read_bytes() == (
                place / f"output/figures/tiny/{own}.{kind}"
            ).read_bytes()
    notes = {name: json.loads((figures / f"{name}.json").read_text()) for name in ("fig3", "fig4", "table1", "table3")}
    assert all(WHY in note["caption"] for name, note in notes.items() if name != "table3")
    assert WHY in (figures / "table3.csv").read_text()
    assert notes["fig3"]["runs"] == ["tiny", "two-svhn"]
    assert set(notes["fig3"]["inputs"]) == {"runs/tiny/results.parquet", "runs/two-svhn/results.parquet"}
    check_links(figures / "index.html")
    text = (figures / "index.html").read_text()
    assert "Two data sets." in text and "two-svhn</b>: train_32x32.mat" in text
    assert text.index('id="fig1"') < text.index('id="fig3"') < text.index("Table 1") < text.index('id="fig9"')
    before = {file.name: file.stat().st_mtime_ns for file in figures.iterdir()}
    assert main([str(path)]) == 1
    assert {file.name: file.stat().st_mtime_ns for file in figures.iterdir()} == before, "nothing is drawn again"
    capfd.readouterr()

    path.write_text(f"runs:\n  digits: {place}/tiny.yaml\nshow:\n  fig3: [digits]\n")
    assert main([str(path)]) == 0
    assert "nothing to do, everything" not in capfd.readouterr().out.partition("tiny: nothing to do, everything")[2]
    assert "not there" not in json.loads((figures / "fig3.json").read_text())["caption"]
    (figures / "fig3.png").unlink()
    assert main([str(path)]) == 0
    assert (figures / "fig3.png").exists()
    capfd.readouterr()
    assert main([str(path)]) == 0
    assert "two: nothing to do, everything is there and up to date" in capfd.readouterr().out


@browsing
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible_and_fits(browser, width, output):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here; uv sync installs it")
    collection = load_collection("paper-quick")
    path = output / "figures/paper-quick/index.html"
    path.parent.mkdir(parents=True)
    why = {"lvae": f"tried https://{'long.' * 40}org"}
    for key in ("fig1", "fig3"):
        fig = composed.absent(key, why["lvae"])
        save_figure(fig, path.parent, key, provenance={})
    path.write_text(page(collection, why), encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(path.as_uri())
    found = axe.Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.close()


def test_a_run_and_a_collection_have_names_of_their_own(place, capfd):
    path = place / "tiny-both.yaml"
    path.write_text(f"runs:\n  digits: {place}/tiny.yaml\nshow:\n  fig1: digits\n")
    assert main([str(path), "--name", "tiny"]) == 2
    assert "'tiny' is a run" in capfd.readouterr().err
    (place / "output/figures/both").mkdir()
    (place / "output/figures/both/collection.json").write_text("{}")
    assert main(["quick", "--name", "both"]) == 2
    assert "'both' is a collection" in capfd.readouterr().err


def test_paper_b_takes_over_what_its_runs_have_drawn(output):
    for part in ("runs", "figures"):
        for name in ("rd-toy", "rd-quick"):
            shutil.copytree(ROOT / "published" / part / name, output / part / name)
    collection = load_collection("paper-b-quick")
    assert draw(collection, {})
    for name, shown in collection.show.items():
        (key,) = shown.runs
        for file in (output / "figures" / collection.runs[key].name).glob(f"{name}.*"):
            assert (output / "figures/paper-b-quick" / file.name).read_bytes() == file.read_bytes()
    assert len(list((output / "figures/paper-b-quick").glob("b_*"))) == 12
    assert not draw(collection, {})
    assert draw(collection, {"toy": "interrupted"}), "what is said of a run is part of it"


def test_the_papers_numbers_stand_in_the_docs_as_in_the_code():
    docs = (ROOT / "docs/paper-vs-ours.md").read_text()
    for (name, latent), numbers in composed.PAPER_TABLE_1.items():
        assert f"| {name} | {latent} | {' | '.join(f'{number:g}' for number in numbers)} |" in docs
