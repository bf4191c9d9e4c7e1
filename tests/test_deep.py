"""Hierarchies of more than two layers.

The paper's model where they have two, and the same promises where they have more.
"""

import math

import numpy as np
import pandas as pd
import pytest
import test_figures
import torch
from conftest import run_here
from test_figures import FIGURES, synthetic, words
from test_models import COLOUR, GREY, check_hierarchy
from test_population import assert_same, weights

from hvae_core import figures
from hvae_core.analysis.points import bins, split_betas, split_rates
from hvae_core.errors import InputError
from hvae_core.models import build
from hvae_core.models.distributions import kl
from hvae_core.models.heads import SIZES
from hvae_core.models.table import architecture_table
from hvae_core.randomness import Noise
from hvae_core.runs.config import Config
from hvae_core.runs.profiles import load_profile
from hvae_core.runs.results import columns, load_results
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

PAPER = {GREY: (20, 256), COLOUR: (32, 512)}
DEEP = [(GREY, (8, 20, 256)), (GREY, (3, 5, 7, 64)), (COLOUR, (8, 32, 512)), (COLOUR, (4, 8, 16, 128))]


def make(shape, sizes, seed=0):
    torch.manual_seed(seed)
    return build("ghvae", shape, latent_sizes=sizes)


def run(model, x):
    return model(x, model.noise(len(x), Noise(1)))


# --- the model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "count"), [(GREY, 122_713), (COLOUR, 475_811)])
def test_two_layers_of_the_papers_sizes_are_the_papers_model(shape, count):
    """Names, initial weights, terms and gradients, bit for bit."""
    torch.manual_seed(0)
    paper, ours = build("ghvae", shape), make(shape, PAPER[shape])
    assert list(paper.state_dict()) == list(ours.state_dict())
    assert_same(paper.state_dict(), ours.state_dict())
    assert {name.split("_")[0] for name, _ in ours.named_parameters()} == {"q2", "p1", "px", "q1"}
    x = torch.rand(4, *shape)
    a, b = run(paper, x), run(ours, x)
    assert torch.equal(a.distortion, b.distortion) and torch.equal(a.rates, b.rates)
    for terms in (a, b):
        (terms.distortion + terms.rates @ torch.tensor([0.3, 2.0])).mean().backward()
    for p, q in zip(paper.parameters(), ours.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    assert sum(p.numel() for p in ours.parameters()) == count
    pd.testing.assert_frame_equal(architecture_table(paper), architecture_table(ours))


@pytest.mark.parametrize(("shape", "sizes"), DEEP)
def test_more_layers_are_a_hierarchy_like_any_other(shape, sizes, double):
    model = make(shape, sizes)
    assert [math.prod(latent) for latent in model.latent_shapes] == list(sizes)
    assert model.latent_shapes[-1] == (sizes[-1] // 16, 4, 4)
    check_hierarchy(model, torch.rand(3, *shape).round())


@pytest.mark.parametrize(("shape", "sizes"), DEEP)
def test_the_table_covers_every_distribution_and_parameter(shape, sizes):
    model = make(shape, sizes)
    table = architecture_table(model)
    top = len(sizes)
    assert list(dict.fromkeys(table["distribution"])) == [
        f"q(z_{top}|x)",
        *(f"q(z_{n}|z_{n + 1},x)" for n in range(top - 1, 0, -1)),
        *(f"p(z_{n}|z_{n + 1})" for n in range(top - 1, 0, -1)),
        "p(x|z_1)",
        "total",
    ]
    assert table["parameters"].iloc[-1] == sum(p.numel() for p in model.parameters())
    layers = table.set_index(["distribution", "step"])["layers"]
    hidden = SIZES[shape].channels * 8
    for i, number in enumerate(range(top - 1, 1, -1), 1):
        given, on = f"z_{number + 1}", f"on z_{number + 1}"
        assert (
            layers[f"q(z_{number}|{given},x)", on]
            == layers[f"p(z_{number}|{given})", on]
            == f"FC({sizes[i - 1]}, {hidden})"
        )
        assert (
            layers[f"q(z_{number}|{given},x)", "std"]
            == layers[f"p(z_{number}|{given})", "mean"]
            == f"FC({hidden}, {sizes[i]})"
        )


@pytest.mark.parametrize("sizes", [(8, 20, 256), (3, 5, 7, 64)])
def test_the_rate_of_every_layer_is_its_kl(sizes, double):
    """Closed form against the mean of log q - log p over samples, given the layers above."""
    model, x, samples = make(GREY, sizes), torch.rand(1, *GREY).round(), 20_000
    noise = model.noise(1, Noise(1))
    rates = model(x, noise).rates[0]
    source, z = torch.Generator().manual_seed(2), []
    for i, shape in enumerate(model.latent_shapes):
        q, p = model.posterior(x, z), model.prior(z)
        draws = q.sample(torch.randn(samples, *shape, generator=source))
        ratio = q.log_prob(draws) - p.log_prob(draws)
        assert abs(ratio.mean() - rates[i]) < 5 * ratio.std() / math.sqrt(samples)
        assert kl(q, p).item() == pytest.approx(rates[i].item())
        z.append(q.sample(noise[i]))


@pytest.mark.parametrize("layer", range(4))
def test_a_rate_depends_on_its_own_networks_and_those_above(layer):
    """R(z_l | z_{l+1}) on q and p of its layer, and through the samples on q of the layers above.

    On no network below.
    """
    model = make(GREY, (3, 5, 7, 64))
    run(model, torch.rand(2, *GREY)).rates[:, layer].sum().backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    groups = [["q2_"], ["between.z_3.q_", "between.z_3.p_"], ["between.z_2.q_", "between.z_2.p_"], ["q1_", "p1_"]]
    expected = tuple(groups[layer] + [group[0] for group in groups[:layer]])
    assert touched == {name for name, _ in model.named_parameters() if name.startswith(expected)}


def test_inference_goes_from_the_top():
    """z_l follows from x and the noise of its own layer and of those above."""
    model = make(GREY, (3, 5, 7, 64))
    x, noise = torch.rand(2, *GREY), model.noise(2, Noise(1))
    before = [q.mean for q in model.infer(x, noise)]
    for changed in range(4):
        other = [e + (i == changed) for i, e in enumerate(noise)]
        after = [q.mean for q in model.infer(x, other)]
        assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [i <= changed for i in range(4)]


def test_generation_is_markov():
    """p(z_l | z_{>l}) and p(x | z) see the layer next above alone, and q(z_l | z_{>l}, x) besides only x."""
    model = make(GREY, (3, 5, 7, 64))
    z = [torch.randn(2, *shape) for shape in model.latent_shapes]
    x = torch.rand(2, *GREY)
    other = [torch.randn_like(value) for value in z]
    for i in range(2, 5):
        near = [*other[: i - 1], z[i - 1]]
        far = [*z[: i - 1], other[i - 1]]
        of = (lambda above: model.likelihood(above).mode) if i == 4 else (lambda above: model.prior(above).mean)
        assert torch.equal(of(z[:i]), of(near)) and not torch.equal(of(z[:i]), of(far))
        if i < 4:
            assert torch.equal(model.posterior(x, z[:i]).mean, model.posterior(x, near).mean)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"latent_sizes": (5,)}, r"latent_sizes: \[5\]"),
        ({"latent_sizes": (8, 20, 250)}, "multiple of 16"),
        ({"latent_sizes": (0, 20, 256)}, "latent_sizes"),
        ({"latent_sizes": ()}, "latent_sizes"),
    ],
)
def test_sizes_that_make_no_model_are_named(options, named):
    with pytest.raises(InputError, match=named):
        build("ghvae", GREY, **options)


def test_the_ladder_has_two_layers():
    with pytest.raises(InputError, match="latent_sizes"):
        build("lvae", GREY, latent_sizes=(8, 20, 256))


# --- populations and configurations -----------------------------------------------------------------------------


def test_a_population_of_deep_models_trains_as_each_alone(images):
    members = [Member(betas, 0) for betas in ((0.1, 1.0, 1.0), (1.0, 0.1, 1.0), (1.0, 1.0, 10.0))]
    how = Plan(epochs=2, batch_size=8, learning_rate=1e-3)

    def deep():
        return build("ghvae", GREY, latent_sizes=(3, 5, 64))

    together = train(deep, members, images, how, chunk=1)
    stacked = train(deep, members, images, how, chunk=3)
    assert together.history.shape == (3, 2, 4)
    for i, member in enumerate(members):
        alone = train(deep, [member], images, how)
        assert_same(weights(together, i), weights(alone, 0))
        assert_same(weights(stacked, i), weights(alone, 0), rtol=1e-4, atol=1e-5)


def deep_config(*changes):
    return load_profile("deep-quick", list(changes))


def test_bins_share_a_beta():
    betas = {member.betas for member in deep_config().members()}
    assert len(betas) == 25
    assert all(len(b) == 3 and b[1] == b[2] for b in betas)
    four = load_profile("deep4-quick")
    assert [m.betas for m in four.members()][:2] == [(0.1, 0.1, 0.1, 0.1), (0.1, 0.1, 1.0, 1.0)]
    own = deep_config("bins=null", "betas=[[0.1, 1], [1], [1, 10]]").members()
    assert [m.betas for m in own] == [(0.1, 1, 1), (0.1, 1, 10), (1, 1, 1), (1, 1, 10)]


def test_what_kind_of_run_it_is():
    assert deep_config().kind.notebook == "90_deep_hierarchies"
    assert deep_config("latent_sizes=[20, 256]", "bins=null").kind == load_profile("quick").kind
    assert Config.make(deep_config().dump()) == deep_config()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("latent_sizes=[8, 20, 250]", "multiple of 16"),
        ("latent_sizes=[256]", "at least two layers"),
        ("latent_sizes=[8, 0, 256]", "latent_sizes"),
        ("latent_sizes=many", "latent_sizes"),
        ("model=lvae", "only ghvae"),
        ("bins=[1, 1]", r"bins: \[1, 1\] hold 2 layers, ghvae has 3"),
        ("bins=[0, 3]", "bins"),
        ("betas=[[1], [1], [1]]", "3 lists for the 2 bins"),
        ("betas=[0, 1]", "betas"),
    ],
)
def test_bad_input_is_one_line(change, named):
    with pytest.raises(InputError, match=named) as caught:
        deep_config(change)
    assert "\n" not in str(caught.value)


# --- figures ----------------------------------------------------------------------------------------------------


def binned(L, *counts, size=5):
    """Synthetic results with bins of so many layers."""
    results = synthetic(size, L=L)
    number, keep = L, np.ones(len(results), bool)
    for count in counts:
        for n in range(number - 1, number - count, -1):
            keep &= (results[f"beta_{n}"] == results[f"beta_{number}"]).to_numpy()
        number -= count
    return results[keep].reset_index(drop=True)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((1, 2), [(3,), (2, 1)]), ((2, 1), [(3, 2), (1,)]), ((1, 1, 1), [(3,), (2,), (1,)]), ((3,), [(3, 2, 1)])],
)
def test_the_axes_of_the_figures_follow_the_bins(counts, expected):
    results = binned(3, *counts, size=3)
    assert bins(results) == expected
    upper = expected[0] if len(expected) > 1 else (3,)
    lower = [n for n in (3, 2, 1) if n not in upper]
    x, y = split_rates(results)
    np.testing.assert_allclose(x, results[[f"rate_{n}" for n in upper]].sum(axis=1))
    np.testing.assert_allclose(y, results[[f"rate_{n}" for n in lower]].sum(axis=1))
    np.testing.assert_allclose(split_betas(results)[0], results["beta_3"])
    np.testing.assert_allclose(
        split_betas(results)[1] ** len(lower), results[[f"beta_{n}" for n in lower]].prod(axis=1)
    )


def bars(ax, gid):
    """Base and height of the bars of a kind, left to right."""
    return np.array([(patch.get_y(), patch.get_height()) for patch in ax.patches if patch.get_gid() == gid])


def test_the_layers_are_stacked_along_each_beta():
    results = binned(3, 1, 2)
    fig = figures.layers(results)
    panels = np.array(fig.axes).reshape(3, 3)
    assert [ax.get_xlabel() for ax in panels[-1]] == [r"$\beta_3$", r"$\beta_2 = \beta_1$", r"all $\beta$"]
    for column, query in enumerate(("beta_1 == 1", "beta_3 == 1", "beta_1 == beta_3")):
        rows = results.query(query).sort_values(["beta_3", "beta_1"])
        rate, share, distortion = panels[:, column]
        base = np.zeros(5)
        for number in (1, 2, 3):
            drawn = bars(rate, f"rate_{number}")
            np.testing.assert_allclose(drawn, np.column_stack([base, rows[f"rate_{number}"]]))
            part = bars(share, f"rate_{number}")[:, 1]
            known = rows["rate"].to_numpy() >= 0.1
            np.testing.assert_allclose(part[known], (100 * rows[f"rate_{number}"] / rows["rate"])[known])
            assert np.isnan(part[~known]).all(), "a share of next to nothing says nothing"
            base += rows[f"rate_{number}"].to_numpy()
        np.testing.assert_allclose(bars(distortion, "distortion")[:, 1], rows["distortion"])
        assert rate.get_ylim()[1] > base.max()
        (vae,) = next(c for c in rate.collections if c.get_gid() == "VAE").get_offsets()
        np.testing.assert_allclose(vae, [1, results.query("beta_3 == beta_1 == 1")["rate"].iloc[0]])
    assert fig.caption.endswith("25 models.")


def test_a_model_that_is_not_there_leaves_a_gap():
    results = binned(3, 1, 2)
    results.loc[(results["beta_3"] == 0.1) & (results["beta_1"] == 1), "status"] = "diverged"
    fig = figures.layers(results)
    drawn = bars(fig.axes[0], "rate_1")
    assert np.isnan(drawn[0, 1]) and np.isfinite(drawn[1:, 1]).all()
    assert "1 not drawn (1 diverged)" in words(fig)


@pytest.mark.parametrize(
    "results",
    [
        synthetic(3, L=1),
        synthetic(4),
        synthetic(3, L=3),
        binned(3, 3),
        synthetic(3).iloc[[4]],
        synthetic(3).assign(status="diverged"),
    ],
    ids=["one layer", "two", "three", "one beta", "one model", "none"],
)
def test_the_figure_is_made_of_any_run(results):
    figures.layers(results.reset_index(drop=True)).draw_without_rendering()


@pytest.mark.parametrize("counts", [(1, 3), (2, 2), (3, 1)])
@pytest.mark.parametrize("name", ["layers", "fig3", "fig9"])
def test_text_of_deep_runs_is_legible(name, counts, monkeypatch):
    monkeypatch.setitem(FIGURES, "layers", figures.layers)
    test_figures.test_text_is_legible(name, binned(4, *counts, size=3))


def test_two_bins_make_a_grid_of_cells():
    ax = figures.fig9(binned(4, 2, 2, size=3)).axes[0]
    cells = next(c for c in ax.collections if c.get_gid() == "models")
    assert len(cells.get_paths()) == 9
    assert (ax.get_xlim(), ax.get_ylim()) == (ax.get_ylim(), ax.get_xlim())


# --- a whole run ------------------------------------------------------------------------------------------------

SMALL = [
    "latent_sizes=[2, 3, 4, 64]",
    "bins=[1, 1, 2]",
    "betas=[[0.1, 1], [1], [1, 10]]",
    "epochs=1",
    "train_images=60",
    "test_images=60",
    "batch_size=20",
    "generated_samples=20",
    "classifier_epochs=1",
    "blocks=1",
]


def test_a_deep_run_reports_every_layer(output):
    run_here("deep-quick", SMALL, "deep")
    results = load_results("deep")
    assert list(results) == columns(4)
    assert results[["beta_4", "beta_3", "beta_2", "beta_1"]].to_numpy().tolist() == [
        [0.1, 1, 1, 1],
        [0.1, 1, 10, 10],
        [1, 1, 1, 1],
        [1, 1, 10, 10],
    ]
    rates = results[[f"rate_{n}" for n in (4, 3, 2, 1)]]
    assert (rates >= 0).all(axis=None) and not rates.isna().any(axis=None)
    np.testing.assert_allclose(results["rate"], rates.sum(axis=1))
    made = {path.name for path in (output / "figures/deep").iterdir()}
    names = ["layers", *(f"fig{n}" for n in (1, 3, 4, 5, 6, 7, 8, 9))]
    assert made == {f"{name}.{kind}" for name in names for kind in ("pdf", "png", "json")} | {
        f"table{n}.{kind}" for n in (1, 2) for kind in ("csv", "md", "json")
    } | {"index.html"}
    assert "q(z_3\\|z_4,x)" in (output / "figures/deep/table2.md").read_text()
