"""The explorer in a real browser: the network in the page is PyTorch's, and all that it says is the run's."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hvae_core.analysis.points import grid_means
from hvae_core.data.dataset import pixels
from hvae_core.evaluation.rates import average_terms
from hvae_core.evaluation.reconstruction import errors, scores
from hvae_core.files import ROOT
from hvae_core.models import build
from hvae_core.models.conditioning import Conditioned
from hvae_core.pages.explorer.page import Live, Pictures, explorer
from hvae_core.pages.explorer.tour import tour
from hvae_core.pages.explorer.weights import IMAGES, LETTERS, SHOWN, merged, packed, rounded, rounding
from hvae_core.pipeline.batch import jobs
from hvae_core.pipeline.paging import framed
from hvae_core.randomness import Noise, Purpose
from hvae_core.runs.code import code_of
from hvae_core.runs.config import Config
from hvae_core.runs.results import load_results

CHROMIUM = shutil.which("chromium")
browsing = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt-get install chromium")
RANGE = [(0.1, 100.0), (0.1, 100.0)]
NETWORKS = {
    "ghvae": ("ghvae", (1, 28, 28)),
    "lvae": ("lvae", (1, 28, 28)),
    "colour": ("ghvae", (3, 32, 32)),
}
NINE = [(b2, b1) for b2 in (0.1, 1.7, 100.0) for b1 in (0.1, 3.16, 100.0)]
CLOSE = 1e-4


def network_of(name: str) -> Conditioned:
    """A network with random weights, whose latents the betas open and shut."""
    model, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Conditioned(build(model, shape), RANGE)
        for table in (network.changes, network.modulation):
            table.values.data = 0.03 * torch.randn(table.values.shape)
    return network.requires_grad_(False).eval()


def images_of(network: Conditioned, count: int) -> torch.Tensor:
    shape = network.model.image_shape
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))
    return (255 * (x > 0.7 if shape[0] == 1 else x)).to(torch.uint8)


def results_of(network: Conditioned, x: torch.Tensor, axis: Sequence[float]) -> pd.DataFrame:
    rows = []
    for b2 in axis:
        for b1 in axis:
            model = network.at((b2, b1))
            terms = average_terms(model, x, 0)
            rows.append({"beta_2": b2, "beta_1": b1, "seed": 0, **terms, **scores(errors(model, x))})
    frame = pd.DataFrame(rows).assign(dataset="made", model="ghvae-conditioned", epochs=1, status="ok")
    frame.attrs = {"run": "made-up", "objective": "Eq. 8"}
    return frame


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pages of networks with random weights, by name; each is made once."""
    folder, there = tmp_path_factory.mktemp("pages"), {}

    def page(name: str) -> tuple[Path, Conditioned, torch.Tensor, pd.DataFrame]:
        if name not in there:
            network = network_of(name)
            x = images_of(network, 40 if name == "ghvae" else SHOWN)
            results = results_of(network, x, (0.1, 1.0, 10.0, 100.0) if name == "ghvae" else (0.1, 100.0))
            path = folder / f"{name}.html"
            path.write_text(explorer(results, Live(network, x, 0)), encoding="utf-8")
            there[name] = (path, network, x, results)
        return there[name]

    return page


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here; uv sync installs it")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens a page from the file system; in the end it has asked for nothing, and nothing has gone wrong in it."""
    said, pages = [], []

    def open_page(path: Path, address: str = "", width: int = 1280, of=lambda page: page):
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        page.goto(f"{path.as_uri()}{address}")
        said[:] = [line for line in said if not line.startswith((path.as_uri(), "blob:"))]
        settle(of(page))
        return of(page)

    yield open_page
    for page in pages:
        page.close()
    assert [line for line in said if not line.startswith("blob:")] == []


def settle(page) -> None:
    """Wait until the page shows what was asked for last, with all of its terms."""
    page.wait_for_function("document.body.dataset.settled === String(asked)", timeout=120_000)


def go(page, betas) -> None:
    page.evaluate("betas => move(betas)", list(betas))
    settle(page)


def betas_of(page) -> list[float]:
    return page.evaluate("state.betas")


def terms_of(page) -> list[float]:
    names = ("distortion", "rate_2", "rate_1", "psnr")
    return [float(page.get_attribute(f"#terms tr[data-key={name}]", "data-value")) for name in names]


def pixels_of(page, name: str) -> np.ndarray:
    """Images as the page's network made them, ``(images, C, H, W)``."""
    found = page.evaluate(f"(({{data, ...shape}}) => [Array.from(data), shape])(latest.images.{name})")
    shape = [found[1][axis] for axis in "nhwc"]
    return np.array(found[0]).reshape(shape).transpose(0, 3, 1, 2)


def halved(noise: list[torch.Tensor], count: int) -> list[torch.Tensor]:
    return [part[:count].half().float() for part in noise]


# --- the network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_the_same_with_one_grid_a_table(name, double):
    network = network_of(name).double()
    one = merged(network)
    for betas in NINE[1::3]:
        for wanted, found in zip(network.at(betas).parameters(), one.at(betas).parameters(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "bits"), [("ghvae", 16), ("lvae", 16), ("colour", 8)])
def test_rounding_moves_no_number_by_more_than_half_its_step(name, bits):
    network = network_of(name)
    exact, of = merged(network), rounded(network)
    assert of.bits == bits
    most = 2 ** (bits - 1) - 1
    assert max(of.changes.abs().max(), of.modulation.abs().max()) == most, "the largest of a group is exact"
    for (table, found), steps in (
        ((exact.changes.values, of.network.changes.values), of.change_steps.amax(1, keepdim=True)),
        ((exact.modulation.values, of.network.modulation.values), of.modulation_steps),
    ):
        assert ((table - found).abs() <= 0.5001 * steps + 1e-7).all()
    name = next(iter(of.network.modulated))
    start = 0
    for one, parameter in of.network.model.named_parameters():
        if one == f"{name}.weight":
            whole = of.changes[0, start : start + parameter.numel()].view(parameter.shape)
            assert (whole.abs().flatten(1).amax(1) == most).all(), "each output of a layer has its own step"
        start += parameter.numel()


def test_what_rounding_changes_is_measured():
    network = network_of("colour")
    x = images_of(network, SHOWN)
    found = rounding(network, x, 0)
    at, same = (average_terms(of.at((0.1, 100.0)), x, 0) for of in (network, rounded(network).network))
    for term, most in found.items():
        assert 0 < abs(at[term] - same[term]) <= most < 0.02 * abs(at[term]) + 0.5


def test_a_colour_page_of_full_width_has_7_mb_at_most_whatever_its_weights():
    """Random numbers cannot be packed any closer, and a trained network's are fewer."""
    network = network_of("colour")
    x = images_of(network, 300)
    results = results_of(network, x[:2], np.logspace(-1, 2, 2))
    page = explorer(results, Live(network, x, 0))
    assert packed(network, x, 0)["about"]["images"] == IMAGES[3] == 128
    assert len(page.encode()) < 6_850_000, "0.15 MB are left for the points of a run"
    assert "rounded to 8 bits. On 128 test images" in page
    assert not set(LETTERS) & set("\"&'<>\\`") and len(set(LETTERS)) == 85


@browsing
@pytest.mark.parametrize(
    "name", [name if name == "ghvae" else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_the_network_in_the_page_is_pytorchs(name, made, visit):
    path, network, x, _ = made(name)
    same = rounded(network).network
    model = network.model
    noise = halved(model.noise(len(x), Noise(0, Purpose.EVALUATION)), len(x))
    held = halved(model.noise(SHOWN, Noise(0, Purpose.GENERATION)), SHOWN)
    page = visit(path)
    for betas in NINE[:: 2 if name == "colour" else 1]:  # colour takes five times as long
        go(page, betas)
        at = same.at(betas)
        terms = at(pixels(x), noise)
        wanted = [terms.distortion.mean(), *terms.rates.mean(0), scores(errors(at, x))["psnr"]]
        np.testing.assert_allclose(terms_of(page), [float(value) for value in wanted], rtol=CLOSE)
        for images, drawn in (("reconstructions", at.reconstruct(pixels(x[:SHOWN]))), ("samples", at.generate(held))):
            np.testing.assert_allclose(pixels_of(page, images), drawn.numpy(), atol=CLOSE)


@browsing
def test_a_drawing_has_the_terms_that_pytorch_gives_it(made, visit):
    path, network, _, _ = made("ghvae")
    page = visit(path, "#beta_2=0.4&beta_1=2")
    box = page.locator("#pad").bounding_box()
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    for x, y in ((0.7, 0.2), (0.4, 0.8)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
    page.mouse.up()
    settle(page)
    drawn = torch.tensor(page.evaluate("Array.from(drawing)"), dtype=torch.float32).view(1, 1, 28, 28)
    assert 40 < drawn.sum() < 150, "a seven, two pixels thick"
    assert drawn[0, 0, 5:7, 10:18].all(), "its bar, where the pointer went"
    noise = halved(network.model.noise(40, Noise(0, Purpose.EVALUATION)), 1)
    model = rounded(network).network.at((0.4, 2.0))
    terms = model(drawn, noise)
    found = json.loads(page.get_attribute("#drawn-terms", "data-values"))
    np.testing.assert_allclose(found, [terms.distortion.item(), *terms.rates[0].tolist()], rtol=CLOSE)
    shown = np.array(page.evaluate("Array.from(latest.images.drawn.rebuilt.data)"))
    np.testing.assert_allclose(shown, model.reconstruct(drawn).flatten().numpy(), atol=CLOSE)


@browsing
def test_the_terms_are_those_of_the_results(made, visit):
    """At a point of the grid; the network was measured before its numbers were rounded."""
    path, _, _, results = made("ghvae")
    page = visit(path)
    for _, row in results.iloc[::5].iterrows():
        go(page, (row["beta_2"], row["beta_1"]))
        np.testing.assert_allclose(
            terms_of(page), row[["distortion", "rate_2", "rate_1", "psnr"]].to_numpy(float), rtol=5e-3
        )
        assert float(page.get_attribute("#stored tr[data-key=psnr]", "data-value")) == pytest.approx(row["psnr"], 1e-5)


@browsing
def test_a_damaged_network_is_said_and_the_still_picture_stays(made, tmp_path, browser):
    path, network, x, _ = made("ghvae")
    live = packed(network, x, 0)["tables"]
    broken = tmp_path / "broken.html"
    broken.write_text(path.read_text(encoding="utf-8").replace(live, live[:-400]), encoding="utf-8")
    page = browser.new_page()
    page.goto(broken.as_uri())
    page.wait_for_selector("#error:not([hidden])")
    assert "the network is damaged" in page.inner_text("#error")
    assert page.evaluate("document.querySelector('#samples img').naturalWidth") > 100
    page.close()


@browsing
def test_the_page_works_in_the_frame_of_a_notebook(made, tmp_path, visit):
    path, *_ = made("ghvae")
    (tmp_path / "runs/framed").mkdir(parents=True)
    (tmp_path / "figures/framed").mkdir(parents=True)
    (tmp_path / "runs/framed/config.yaml").write_text("model: ghvae-conditioned\n")
    shutil.copy(path, tmp_path / "figures/framed/explorer.html")
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><body>{framed(tmp_path / 'runs/framed').data}", encoding="utf-8")
    page = visit(notebook, of=lambda page: page.frames[1])
    go(page, (5, 0.3))
    assert betas_of(page) == [5, 0.3]


# --- moving ------------------------------------------------------------------------------------------------------


def place(page, plane: str, at: list[float]) -> tuple[float, float]:
    """Where on the screen a point of a plane is, in the plane's own coordinates."""
    page.locator(f"#{plane}").scroll_into_view_if_needed()
    box = page.locator(f"#{plane}").bounding_box()
    limits, margin = page.evaluate(f"[{'betaLimits' if plane == 'betas' else 'rateLimits'}, MARGIN]")
    wide, high = box["width"] - margin["left"] - margin["right"], box["height"] - margin["top"] - margin["bottom"]
    shares = [(value - low) / (top - low) for value, (low, top) in zip(at, limits, strict=True)]
    return box["x"] + margin["left"] + shares[0] * wide, box["y"] + margin["top"] + (1 - shares[1]) * high


@browsing
def test_a_drag_in_either_plane_moves_the_point_in_both(made, visit):
    path, _, _, results = made("ghvae")
    page = visit(path)
    page.mouse.move(*place(page, "betas", [math.log(1), math.log(1)]))
    page.mouse.down()
    page.mouse.move(*place(page, "betas", [math.log(10), math.log(0.1)]), steps=4)
    page.mouse.up()
    settle(page)
    assert betas_of(page) == pytest.approx([10, 0.1], rel=0.05)
    row = results[(results["beta_2"] == 1.0) & (results["beta_1"] == 100.0)].iloc[0]
    page.mouse.click(*place(page, "rates", [math.sqrt(row["rate_2"]), math.sqrt(row["rate_1"])]))
    settle(page)
    rates = page.evaluate("ratesAt(state.betas)")
    assert rates == pytest.approx([row["rate_2"], row["rate_1"]], rel=0.1)


@browsing
def test_everything_is_reached_by_keys(made, visit):
    path, *_ = made("ghvae")
    page = visit(path)
    wanted, reached = ["beta_2", "beta_1", "metric", "betas", "rates", "clear", "take"], []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert [name for name in reached if name in wanted][: len(wanted)] == wanted
    page.focus("#betas")
    page.keyboard.press("ArrowRight")
    assert betas_of(page) == pytest.approx([10, 1])
    page.keyboard.press("Shift+ArrowDown")
    assert betas_of(page) == pytest.approx([10, 10**-0.25])
    page.keyboard.press("Home")
    assert betas_of(page) == [1, 1]
    page.focus("#rates")
    page.keyboard.press("ArrowUp")  # more rate in z_1: a lower beta_1
    assert betas_of(page) == pytest.approx([1, 0.1])
    page.focus("#beta_2")
    page.keyboard.press("End")
    assert betas_of(page) == pytest.approx([100, 0.1])
    page.focus("#pad")
    for key in (" ", "ArrowRight", "ArrowRight", " "):
        page.keyboard.press(key)
    settle(page)
    assert page.evaluate("drawing.reduce((sum, one) => sum + one)") >= 6
    assert "R(z₂)" in page.inner_text("#status")


@browsing
def test_a_view_has_an_address(made, visit):
    path, *_ = made("ghvae")
    page = visit(path, "#beta_2=3.5&beta_1=0.25&colour=rate_1")
    assert betas_of(page) == [3.5, 0.25]
    assert page.input_value("#metric") == "rate_1"
    page.select_option("#metric", "elbo")
    go(page, (20, 40))
    address = page.evaluate("location.hash")
    again = visit(path, address)
    assert betas_of(again) == [20, 40]
    assert again.input_value("#metric") == "elbo"
    page.evaluate("location.hash = '#beta_2=1e9&beta_1=nonsense&tour=99'")
    settle(page)
    assert betas_of(page) == [100, 40], "within the range, and else as it was"


# --- the tour ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return load_results(ROOT / "published/runs/mnist-9x9")


def test_the_tours_answers_are_the_results(published):
    points = grid_means(published)
    steps = {step["title"]: step for step in tour(points)}
    assert len(steps) == 6

    def said(title: str) -> str:
        return steps[title]["choices"][steps[title]["answer"]]

    def row(betas: list[float]) -> pd.Series:
        return points[np.isclose(points["beta_2"], betas[0]) & np.isclose(points["beta_1"], betas[1])].iloc[0]

    step = steps["A beta and its rate"]
    assert said("A beta and its rate") == "It falls"
    assert row(step["from"])["rate_2"] > row(step["to"])["rate_2"] + 1
    best = {name: points[name].idxmax() for name in ("psnr", "inception_score", "acc_mu2_rbf_svm")}
    assert (
        said("Three applications")
        == {1: "One for all three", 2: "Two share one", 3: "Three different ones"}[len(set(best.values()))]
    )
    vae = row([1.0, 1.0]).name
    assert said("The plain VAE") == ["None", "One", "Two", "All three"][sum(vae == at for at in best.values())]
    step = steps["Where the rate should lie"]
    assert row(step["to"])["rate"] <= row(step["from"])["rate"]
    assert step["from"][0] == step["from"][1]
    assert (row(step["to"])["psnr"] > row(step["from"])["psnr"]) == said("Where the rate should lie").startswith("Yes")
    step = steps["An empty z₂"]
    assert row(step["from"])["inception_score"] == points["inception_score"].max()
    assert said("An empty z₂") == "They get worse"
    assert row(step["to"])["inception_score"] < 0.95 * row(step["from"])["inception_score"]
    assert said("What a classifier needs") == "R(z₂)"


def test_a_beta_that_moves_nothing_is_said_to_move_nothing(published):
    flat = grid_means(published.assign(rate_2=5.0))
    step = tour(flat)[0]
    assert step["choices"][step["answer"]] == "It stays"
    rising = grid_means(published.assign(rate_2=published["beta_2"]))
    step = tour(rising)[0]
    assert step["choices"][step["answer"]] == "It rises"


def test_without_labels_the_tour_asks_what_it_can(published):
    bare = published.drop(columns=[name for name in published if str(name).startswith(("acc", "mi_", "inception"))])
    assert [step["title"] for step in tour(grid_means(bare))] == ["A beta and its rate", "Where the rate should lie"]


# --- a grid of models --------------------------------------------------------------------------------------------


def kept(results: pd.DataFrame, channels: int = 1) -> Pictures:
    """Pictures of each model in a grey of its own."""
    size = 28 if channels == 1 else 32
    shades = np.arange(len(results), dtype=np.uint8)[:, None, None, None, None]
    images = np.broadcast_to(shades, (len(results), 12, channels, size, size))
    return Pictures(np.zeros((12, channels, size, size), np.uint8), images, 255 - images)


@browsing
def test_a_grid_shows_the_pictures_of_the_nearest_model(published, tmp_path, visit):
    path = tmp_path / "grid.html"
    path.write_text(explorer(published, kept(published)), encoding="utf-8")
    page = visit(path, "#beta_2=3&beta_1=0.5&colour=psnr")
    assert betas_of(page) == pytest.approx([3.1623, 0.5623], rel=1e-3)
    here = np.isclose(published["beta_2"], 3.16, rtol=0.01) & np.isclose(published["beta_1"], 0.562, rtol=0.01)
    index, means = int(np.flatnonzero(here)[0]), published[here].mean(numeric_only=True)
    shade = "Array.from(document.querySelector('#{} canvas').getContext('2d').getImageData(5, 5, 1, 1).data)"
    assert page.evaluate(shade.format("reconstructions"))[:3] == [index] * 3
    assert page.evaluate(shade.format("samples"))[:3] == [255 - index] * 3
    brighter = [round(255 - index / 255 * (255 - full)) for full in (211, 84, 0)]
    np.testing.assert_allclose(page.evaluate(shade.format("difference"))[:3], brighter, atol=1)
    for table, column in (("stored", "inception_score"), ("terms", "rate_2"), ("terms", "distortion")):
        shown = float(page.get_attribute(f"#{table} tr[data-key={column}]", "data-value"))
        assert shown == pytest.approx(means[column], rel=1e-4)
    page.focus("#betas")
    page.keyboard.press("ArrowLeft")
    settle(page)
    below = max(beta for beta in published["beta_2"] if beta < 3)
    assert betas_of(page) == pytest.approx([below, 0.562], rel=1e-2)
    assert not page.is_visible("#draw")


def test_of_many_models_fewer_pictures_are_kept(published, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (2, len(published), 12, 1, 28, 28), np.uint8)
    shown = Pictures(noise[0, 0], *noise)
    whole = explorer(published, shown)
    monkeypatch.setattr("hvae_core.pages.explorer.page.LARGEST", len(whole) // 3)
    assert len(explorer(published, shown)) < len(whole) / 2


def test_a_model_that_diverged_has_no_picture(published):
    results = published.copy()
    lost = (results["beta_2"] == results["beta_2"].min()) & (results["beta_1"] == results["beta_1"].min())
    results.loc[lost, "status"] = "diverged"
    text = explorer(results, kept(results))
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0].replace("<\\/", "</"))
    assert [picture is None for picture in data["pictures"]] == [True] + [False] * 80
    assert data["points"]["rate_2"][0] is None


def test_where_nothing_is_well_the_page_says_so(published):
    results = published.assign(status="diverged")
    assert "No model of this run is well" in explorer(results, kept(results))


def test_a_name_is_no_markup(published):
    results = published.assign(dataset="<script>alert(1)</script>")
    text = explorer(results, kept(results))
    assert "<script>alert" not in text


# --- in the batch ------------------------------------------------------------------------------------------------


def test_a_page_is_made_anew_when_anything_changes_that_it_is_made_of():
    parts = {path.name for path in (ROOT / "hvae_core/pages").rglob("*") if path.suffix in (".html", ".css", ".js")}
    assert parts >= {"page.html", "page.css", "page.js", "network.js", "worker.js"}
    for model, notebook in (("ghvae", "50_figures"), ("ghvae-conditioned", "95_conditioned")):
        config = Config(name="none-there", model=model)
        there = jobs(config)
        assert {path.name for path in there["explorer"].reads} > parts | {"results.parquet", "weights.safetensors"}
        assert ("explorer" in there[notebook].after) == (notebook == "95_conditioned"), "it shows the page"
        code = code_of(config, "pages")
        assert {f"hvae_core.pages.explorer.{name}" for name in ("page", "tour", "weights")} <= set(code)
    assert "explorer" not in jobs(Config(name="none-there", latent_sizes=[4, 20, 256]))


# --- for everybody ------------------------------------------------------------------------------------------------


@browsing
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible_and_fits(width, made, visit):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here; uv sync installs it")
    path, *_ = made("ghvae")
    page = visit(path, "#tour=1", width=width)
    page.click("#choices button")
    settle(page)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@browsing
def test_a_guess_comes_before_the_answer(made, visit):
    path, *_, results = made("ghvae")
    page = visit(path, "#tour=1")
    step = tour(grid_means(results))[0]
    assert page.inner_text("#question") == step["question"]
    assert page.inner_text("#answer") == ""
    assert betas_of(page) == [1, 1]
    wrong = (step["answer"] + 1) % len(step["choices"])
    page.click(f"#choices button:nth-child({wrong + 1})")
    settle(page)
    assert page.inner_text("#answer") == f"No: {step['choices'][step['answer']].lower()}. {step['text']}"
    assert betas_of(page) == pytest.approx(step["to"])


def test_without_a_script_there_is_a_picture(made):
    text = made("ghvae")[0].read_text(encoding="utf-8")
    assert text.count('src="data:image/webp;base64,') == 4
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
