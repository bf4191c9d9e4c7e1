"""Paper B's toy model: the truth, exact terms, what training from random starts ends at, and its figure."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch.func import functional_call, stack_module_state, vmap

from hvae_core.evaluation import toy as measured
from hvae_core.figures.toy import b_fig2
from hvae_core.models.paper_b import toy
from hvae_core.models.paper_b.toy import (
    STATES,
    Tables,
    Toy,
    data,
    entropy,
    hand_made,
    mutual_information,
    p_x,
    truth,
)
from hvae_core.names import SPREADS
from hvae_core.objective import lagrangian, target_rate
from hvae_core.randomness import Noise
from hvae_core.terms import Terms
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

seeds = st.integers(0, 2**31)
spreads = st.sampled_from([0.01, 0.1, 1.0, 3.0])


def model(seed: int, spread: float = 1.0) -> Toy:
    """Any model of the family, float64."""
    source = torch.Generator().manual_seed(seed)
    made = Toy().double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    return made


def expected_terms(made: Toy) -> Terms:
    """Means over p*, as training computes them."""
    return Terms(*(value.mean(0) for value in made(data().double(), made.noise(STATES, Noise(0)))))


# --- the truth ----------------------------------------------------------------------------------------------


def test_the_data_hold_half_a_nat_of_their_class():
    assert mutual_information(truth()) == pytest.approx(0.5, abs=1e-9)
    assert truth().sum().item() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(truth().sum(1), [0.7, 0.3], atol=1e-12)
    assert (truth() > 0).all(), "no bin is empty, so that every logarithm is finite"


def test_bins_are_equal_and_hold_what_the_gaussians_put_there():
    joint = toy.joint(3.0).numpy()
    edges = np.linspace(-4, 7, 31)
    for z, mean in enumerate((0.0, 3.0)):
        for j in (3, 15, 27):
            mass = quad(lambda h, mean=mean: norm.pdf(h, mean), edges[j], edges[j + 1], epsabs=1e-14)[0]
            assert joint[z, j] == pytest.approx((0.7, 0.3)[z] * mass, rel=1e-9)
    assert joint[1, 0] == pytest.approx(0.3 * norm.cdf(edges[1] - 3), rel=1e-9), "tails belong to the outermost bins"
    assert joint[0, -1] == pytest.approx(0.7 * norm.sf(edges[-2]), rel=1e-9)


def test_mutual_information_of_known_tables():
    joint = torch.tensor([[0.5, 0.0], [0.0, 0.5]], dtype=torch.float64)
    assert mutual_information(joint) == pytest.approx(np.log(2))
    assert mutual_information(torch.outer(p_x(), p_x())) == pytest.approx(0, abs=1e-12)


def test_the_training_set_is_the_distribution():
    np.testing.assert_allclose(data().mean(0), p_x(), rtol=1e-6)
    assert torch.equal(data().diag().diag(), data())


# --- terms --------------------------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None)
@given(seeds, spreads)
def test_terms_are_the_sums_they_stand_for(seed, spread):
    made = model(seed, spread)
    w_e, b_e, w_d, b_d, m = (
        p.detach().numpy() for p in (made.encoder.w, made.encoder.b, made.decoder.w, made.decoder.b, made.marginal)
    )
    code = np.linspace(-1, 1, STATES)
    m = np.exp(m) / np.exp(m).sum()
    distortion, rate = np.zeros(STATES), np.zeros(STATES)
    for j in range(STATES):
        e = np.exp(-((w_e * code[j] - b_e) ** 2))
        e /= e.sum()
        for i in range(STATES):
            d = np.exp(-((w_d * code[i] - b_d) ** 2))
            distortion[j] -= e[i] * np.log(d[j] / d.sum())
            rate[j] += e[i] * np.log(e[i] / m[i])
    terms = made(torch.eye(STATES, dtype=torch.float64), [])
    assert terms.rates.shape == (STATES, 1)
    np.testing.assert_allclose(terms.distortion.detach(), distortion, rtol=1e-5)  # the codes are float32
    np.testing.assert_allclose(terms.rates[:, 0].detach(), rate, rtol=1e-5, atol=1e-9)
    mean = expected_terms(made)
    np.testing.assert_allclose(mean.distortion.detach(), p_x().numpy() @ distortion, rtol=1e-5)
    np.testing.assert_allclose(mean.rates[0].detach(), p_x().numpy() @ rate, rtol=1e-5, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seeds, spreads)
def test_the_sandwich_of_the_information(seed, spread):
    """Paper B, Eq. 1: H - D <= I <= R, with equality where marginal and decoder are the best for the encoder."""
    tables = model(seed, spread).tables()
    assert entropy() - tables.distortion <= tables.information + 1e-9
    assert tables.information <= tables.rate + 1e-9
    posterior = (p_x()[:, None] * tables.encoder / tables.aggregate).T
    best = Tables(tables.encoder, posterior, tables.aggregate)
    assert best.rate == pytest.approx(tables.information, abs=1e-9)
    assert best.distortion == pytest.approx(entropy() - tables.information, abs=1e-9)
    assert best.kl_to_data == pytest.approx(0, abs=1e-9)
    assert tables.information >= mutual_information(tables.with_class) - 1e-9, "z knows of z* only through x"


@settings(max_examples=10, deadline=None)
@given(seeds, spreads)
def test_tables_hold_what_is_trained(seed, spread):
    made = model(seed, spread)
    tables, terms = made.tables(), expected_terms(made)
    assert tables.rate == pytest.approx(terms.rates.item(), rel=1e-5, abs=1e-9)
    assert tables.distortion == pytest.approx(terms.distortion.item(), rel=1e-5)
    for table in (*tables, tables.generated, tables.reconstructed, tables.aggregate, tables.reconstruction):
        torch.testing.assert_close(table.sum(-1), torch.ones_like(table.sum(-1)))
    torch.testing.assert_close(tables.with_class.sum(0), tables.aggregate)
    torch.testing.assert_close(p_x() @ tables.reconstruction, tables.reconstructed)


def test_gradients_are_right_and_reach_every_parameter():
    made = model(3, 0.5)
    parameters = dict(made.named_parameters())
    x = data().double()

    def loss(*values: torch.Tensor) -> torch.Tensor:
        terms = functional_call(made, dict(zip(parameters, values, strict=True)), (x, []))
        return lagrangian(terms, torch.ones(1, dtype=torch.float64))

    assert torch.autograd.gradcheck(loss, tuple(parameters.values()))
    loss(*parameters.values()).backward()
    assert all((p.grad != 0).all() for p in parameters.values())


def test_a_population_may_be_computed_at_once():
    makers = [model(seed) for seed in range(3)]
    parameters, buffers = stack_module_state(makers)
    x = data().double()
    together = vmap(lambda p, b: functional_call(makers[0], (p, b), (x, [])))(parameters, buffers)
    for one, *row in zip(makers, *together, strict=True):
        torch.testing.assert_close(tuple(row), tuple(one(x, [])))


# --- what is learnt -----------------------------------------------------------------------------------------


def test_the_hand_made_optimum():
    best = hand_made()
    assert best.rate == pytest.approx(0.5, abs=1e-9)
    assert best.information == pytest.approx(0.5, abs=1e-9)
    assert best.distortion == pytest.approx(entropy() - 0.5, abs=1e-9)
    for distribution in (best.generated, best.reconstructed):
        torch.testing.assert_close(distribution, p_x())
    torch.testing.assert_close(best.aggregate, best.marginal)
    assert best.class_0_mass == pytest.approx(0.7)
    assert best.class_0_states.tolist() == [True] * 15 + [False] * 15


def trained(objective, value: float, starts=range(3), epochs: int = 3000):
    return train(
        Toy,
        [Member((value,), seed) for seed in starts],
        data(),
        Plan(epochs=epochs, batch_size=STATES, learning_rate=0.015, schedule="two-phase"),
        objective=objective,
    )


@pytest.fixture(scope="module")
def populations():
    return {"elbo": trained(lagrangian, 1.0), "target_rate": trained(target_rate, 0.5)}


def test_a_target_rate_is_held_and_the_elbo_holds_none(populations):
    """Paper B, Fig. 2: R = 0.4999 with p*(x) = g(x) = d(x), and R = 0.0002 without a target.

    Here the ELBO lets rates fall, far from all the way to 0: on the line D + R = H nothing draws them on.
    """
    results = measured.results(populations.items())
    assert (results["kl_to_data"] < 0.005).all()
    assert (-results["elbo"] - entropy() < 0.02).all(), "near the bound D + R >= H"
    elbo, target = (results[results["objective"] == name] for name in populations)
    assert (elbo["start_rate"] > 0.15).all()
    assert (elbo["rate"] < elbo["start_rate"]).all() and elbo["rate"].median() < 0.05
    assert ((target["rate"] - 0.5).abs() < 0.01).all()
    for i in range(3):
        ignored, used = (populations[name].member(i).tables() for name in populations)
        assert mutual_information(ignored.with_class) < ignored.rate + 1e-6
        assert mutual_information(used.with_class) > 0.2
        assert 0.6 < used.class_0_mass < 0.8


def test_a_start_is_a_start_whoever_its_neighbours_are():
    alone = trained(lagrangian, 1.0, [1], epochs=20).member(0)
    beside = trained(lagrangian, 1.0, [0, 1], epochs=20).member(1)
    for one, other in zip(alone.parameters(), beside.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(alone.encoder.w, trained(lagrangian, 1.0, [2], epochs=20).member(0).encoder.w)


def test_results_are_rows_of_exact_terms(populations):
    results = measured.results(populations.items())
    assert list(results) == [
        "dataset",
        "model",
        "seed",
        "objective",
        "spread",
        "target",
        "beta_1",
        "epochs",
        "status",
        "start_rate",
        "distortion",
        "rate_1",
        "rate",
        "elbo",
        "kl_to_data",
        "rate_change",
        "objective_change",
        "converged",
    ]
    assert results["objective"].tolist() == ["elbo"] * 3 + ["target_rate"] * 3
    assert results["beta_1"].tolist()[:3] == [1.0] * 3 and results["beta_1"][3:].isna().all()
    assert results["target"].tolist()[3:] == [0.5] * 3 and results["target"][:3].isna().all()
    assert (results["epochs"] == 3000).all() and results["seed"].tolist() == [0, 1, 2] * 2
    last = torch.cat([population.history[:, -1] for population in populations.values()])
    np.testing.assert_allclose(results["distortion"], last[:, 0], atol=1e-3)
    np.testing.assert_allclose(results["rate_1"], last[:, 1], atol=1e-3)
    np.testing.assert_allclose(results["elbo"], -results["distortion"] - results["rate"])
    second = populations["target_rate"].member(1).tables()
    assert results["kl_to_data"][4] == second.kl_to_data


@pytest.mark.parametrize(("spread", "low", "high"), [(SPREADS[0], 0.1, 0.4), (SPREADS[1], 0.7, 1.6)])
def test_models_start_with_a_rate(spread, low, high):
    """And the table says which: a start near 0 would decide where the ELBO ends."""
    population = train(
        lambda: Toy(spread), [Member((1.0,), seed) for seed in range(5)], data(), Plan(epochs=1, batch_size=STATES)
    )
    results = measured.results([("elbo", population)])
    assert (results["spread"] == spread).all() and results["start_rate"].between(low, high).all()
    np.testing.assert_allclose(results["start_rate"], population.history[:, 0, 1], rtol=1e-4)
    table = measured.fits(results)
    assert table.loc[("elbo", spread), "R at first, median"] == pytest.approx(results["start_rate"].median(), abs=1e-4)


def test_what_still_moves_at_the_end_has_not_converged():
    """By the rate or by the objective, over the last tenth of the epochs."""
    for name, (objective, value) in {"elbo": (lagrangian, 1.0), "target_rate": (target_rate, 0.5)}.items():
        population = trained(objective, value, epochs=50)
        results = measured.results([(name, population)])
        assert not results["converged"].any() and measured.fits(results)["converged"].tolist() == [0]
        rates = population.history[:, :, 1].double()
        losses = population.history[:, :, 0].double() + ((rates - 0.5).abs() if name == "target_rate" else rates)
        for column, values in (("rate_change", rates), ("objective_change", losses)):
            np.testing.assert_allclose(results[column], values[:, 49] - values[:, 44])

    def ended(rate, distortion):
        """A population of two models whose terms change once, in the last tenth."""
        population = trained(lagrangian, 1.0, [0, 1], epochs=1)
        population.history = torch.full((2, 20, 2), 1.0)
        population.history[1, 19] = torch.tensor([distortion, rate])
        return measured.results([("elbo", population)])["converged"].tolist()

    assert ended(1.0, 1.0) == [True, True]
    assert ended(1.002, 0.998) == [True, False], "the rate moves along D + R"
    assert ended(1.0, 0.998) == [True, False]
    assert ended(1.0005, 1.0002) == [True, True]
    assert measured.results([("elbo", trained(lagrangian, 1.0, [0], epochs=9))])["converged"].tolist() == [False]


def test_a_diverged_start_is_a_row_without_numbers():
    population = trained(lambda terms, betas: terms.distortion.mean() / 0, 1.0, [0], epochs=2)
    (row,) = measured.results([("elbo", population)]).to_dict("records")
    assert row["status"] == "diverged"
    names = ("distortion", "rate_1", "rate", "elbo", "kl_to_data", "rate_change", "objective_change")
    assert all(pd.isna(row[name]) for name in names) and not row["converged"]


# --- the figure ---------------------------------------------------------------------------------------------


def by_gid(ax, gid):
    return [artist for artist in ax.get_children() if artist.get_gid() == gid]


def test_figure_2_shows_the_tables():
    models = {"hand-made": hand_made(), "one": model(0).tables(), "two": model(1).tables()}
    fig = b_fig2(models)
    titles = [ax.get_title() for ax in fig.axes]
    assert len(fig.axes) == 15 and titles.count("$p(x'|x)$") == 3
    for column, (name, tables) in enumerate(models.items()):
        above, middle, *matrices = fig.axes[5 * column : 5 * column + 5]
        assert above.get_title().startswith(f"{name}\nR = {tables.rate:.4f}, D = {tables.distortion:.4f}")
        (generated,), (reconstructed,) = (by_gid(above, gid) for gid in ("generated", "reconstructed"))
        np.testing.assert_allclose(generated.get_ydata(), tables.generated)
        np.testing.assert_allclose(reconstructed.get_ydata(), tables.reconstructed)
        np.testing.assert_allclose([bar.get_height() for bar in by_gid(above, "data")], p_x())
        lower, upper = (by_gid(middle, f"class {c}") for c in range(2))
        np.testing.assert_allclose([bar.get_height() for bar in lower], tables.with_class[0])
        np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in upper], tables.aggregate)
        (marginal,) = by_gid(middle, "marginal")
        np.testing.assert_allclose(marginal.get_data().values, tables.marginal)
        shown = [ax.images[0].get_array() for ax in matrices]
        for matrix, table in zip(shown, (tables.encoder, tables.decoder, tables.reconstruction), strict=True):
            np.testing.assert_allclose(matrix, table)
    assert "p(z*) e(z|z*)" in fig.caption and "converged" not in fig.caption
    noted = b_fig2(models, moving=["one"])
    titles = [ax.get_title().partition("\n")[0] for ax in noted.axes[::5]]
    assert titles == ["hand-made", "one, not converged", "two"]
    assert "moved by 0.001 nats or more" in noted.caption
    assert fig._repr_png_()[:4] == b"\x89PNG"
