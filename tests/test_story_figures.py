"""The pictures of notebooks 00 to 40 say what the results say."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from numpy.testing import assert_allclose

from hvae_core import figures
from hvae_core.evaluation.bounds import accuracy_bound
from hvae_core.evaluation.rates import terms_table
from hvae_core.names import PROBES
from hvae_core.runs.results import columns
from hvae_core.terms import layer_numbers
from hvae_core.training.plan import Member

BETAS = (0.1, 1.0, 10.0)
CLASSES = np.full(10, 0.1)
MADE_OF_RESULTS = {
    "diversity_sharpness": figures.diversity_sharpness,
    "accuracy_and_bound": lambda results: figures.accuracy_and_bound(results, CLASSES),
    "best_and_typical": lambda results: figures.best_and_typical(results, "psnr", pictures(len(results))),
}


def results_of(layers: int = 2) -> pd.DataFrame:
    """A grid of models, all numbers different."""
    rng = np.random.default_rng(0)
    settings = np.array(list(itertools.product(BETAS, repeat=layers)))
    frame = pd.DataFrame(rng.uniform(1, 9, (len(settings), len(columns(layers)))), columns=columns(layers)).assign(
        dataset="digits", model="ghvae", seed=0, status="ok", epochs=4
    )
    numbers = layer_numbers(layers)
    frame[[f"beta_{n}" for n in numbers]] = settings
    frame["rate"] = frame[[f"rate_{n}" for n in numbers]].sum(axis=1)
    frame["sharpness"] = rng.uniform(0.2, 0.9, len(frame))
    frame["inception_score"] = frame["diversity"] * frame["sharpness"]
    accuracies = [f"acc_{latent}_{probe}" for latent in (f"mu{layers}", f"z{layers}") for probe in PROBES]
    frame[accuracies] = rng.uniform(0.1, 1, (len(frame), len(accuracies)))
    frame[f"mi_z{layers}"] = rng.uniform(-0.01, 2.3, len(frame))
    return frame


def history_of(layers: int = 2, kind: str = "beta", model: str = "ghvae", epochs: int = 3) -> pd.DataFrame:
    settings = list(itertools.product(BETAS, repeat=layers))
    rows = pd.DataFrame(
        list(itertools.product(range(len(settings)), range(1, epochs + 1))), columns=["member", "epoch"]
    ).assign(dataset="digits", model=model, seed=0)
    rows["train_distortion"] = 100 / rows["epoch"] + rows["member"]
    for place, number in enumerate(layer_numbers(layers)):
        rows[f"{kind}_{number}"] = [settings[member][place] for member in rows["member"]]
        rows[f"train_rate_{number}"] = rows["epoch"] * number + rows["member"]
    return rows


def pictures(models: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (models, 4, 1, 8, 8), np.uint8)


def words(fig) -> str:
    return "\n".join(text.get_text() for text in fig.findobj(Text))


def marked(ax, gid: str) -> np.ndarray:
    return np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections if c.get_gid() == gid])


def lines(fig, gid: str) -> list:
    return [line for ax in fig.axes for line in ax.lines if line.get_gid() == gid]


# --- the hierarchy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_the_hierarchy_names_every_term_and_price(layers):
    fig = figures.hierarchy(layers)
    said = words(fig)
    for number in layer_numbers(layers):
        assert rf"price $\beta_{number}$" in said
        assert (f"$R(z_{number})$" if number == layers else rf"$R(z_{number}\,|\,z_{number + 1})$") in said
    assert "$D$" in said and "Eq. 8" in said
    (ax,) = fig.axes
    arrows = sum(patch.get_gid() == "arrow" for patch in ax.patches)
    ladder = 4 if layers == 2 else 0  # x, d_1 twice, z_2
    assert arrows == layers + layers + (layers - 1) + ladder
    assert ("LVAE" in said) == (layers == 2)


# --- training -------------------------------------------------------------------------------------------------


def test_training_is_drawn_as_it_was():
    history = history_of()
    fig = figures.rates_in_training(history)
    panels = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title() for ax in panels] == [
        "distortion $D$",
        "rate $R(z_2)$",
        r"rate $R(z_1\,|\,z_2)$",
    ]
    assert [ax.get_ylabel() for ax in panels] == ["nats per image", *["nats per image, √ scale"] * 2]
    assert all(ax.get_xlabel() == "epoch" for ax in panels)
    named = {"β = (1, 1), VAE": 4, "β = (0.1, 10)": 2, "β = (10, 0.1)": 6, "β = (0.1, 0.1)": 0}
    for ax, term in zip(panels, ("train_distortion", "train_rate_2", "train_rate_1"), strict=True):
        drawn = {line.get_label(): line for line in ax.lines if line.get_gid() == "model"}
        assert set(drawn) == set(named)
        for label, member in named.items():
            own = history[history["member"] == member]
            assert_allclose(drawn[label].get_xydata(), own[["epoch", term]].to_numpy())
    assert "digits, ghvae" in fig.caption and "4 of 9 models" in fig.caption


@pytest.mark.parametrize(
    "history",
    [
        history_of(3),
        history_of(1),
        history_of(kind="target").assign(beta_2=1.0, beta_1=2.0, target_1=np.nan),
        history_of(epochs=1),
        pd.concat([history_of(1, model="---"), history_of(1, model="-+v").eval("member = member + 3")]),
        history_of(model="ghvae-conditioned").query("member == 0"),
        history_of().assign(train_rate_2=np.nan),
        history_of().assign(train_distortion=np.nan),
        history_of().iloc[:0],
    ],
    ids=[
        "three layers",
        "one layer",
        "targets",
        "one epoch",
        "families",
        "a network",
        "NaN",
        "all NaN",
        "nothing",
    ],
)
def test_training_of_any_run_is_drawn(history):
    fig = figures.rates_in_training(history)
    known = len(history) and history["train_distortion"].notna().any()
    assert ("not computed" in words(fig)) == (not known)
    if known and "target_2" in history:
        assert "r = (0.1, –)" in words(fig)
    if known and history["model"].nunique() > 1:
        assert "---: β = 1, VAE" in words(fig) and "-+v: β = 1, VAE" in words(fig)


def test_bars_are_the_rates(chain, images):
    class Known:
        """Two models that were trained."""

        members = (Member((0.1, 1.0, 10.0), 0), Member((1.0, 1.0, 1.0), 0))

        def member(self, index):
            return chain(3, size=28)

    table = terms_table(Known(), images)
    assert list(table)[:5] == ["beta_3", "beta_2", "beta_1", "distortion", "rate_3"]
    fig = figures.rate_split(table)
    left, right = fig.axes
    widths = {n: [p.get_width() for p in left.patches if p.get_gid() == f"rate_{n}"] for n in (3, 2, 1)}
    for number, width in widths.items():
        assert_allclose(width, table[f"rate_{number}"])
    assert_allclose([p.get_width() for p in right.patches], table["distortion"])
    assert [label.get_text().replace("\N{NO-BREAK SPACE}", " ") for label in left.get_yticklabels()] == [
        "β = (0.1, 1, 10)",
        "β = (1, 1, 1)",
    ]
    assert all("(nats per image)" in ax.get_xlabel() for ax in (left, right))
    assert [label.get_text() for label in figures.rate_split(table, ["a", "b"]).axes[0].get_yticklabels()] == [
        "a",
        "b",
    ]


# --- the applications -----------------------------------------------------------------------------------------


def test_curves_join_equal_scores_and_the_star_is_the_best():
    results = results_of()
    fig = figures.diversity_sharpness(results)
    ax = fig.axes[0]
    assert_allclose(marked(ax, "models"), results[["diversity", "sharpness"]])
    best = results.loc[[results["inception_score"].idxmax()], ["diversity", "sharpness"]]
    assert_allclose(marked(ax, "best"), best)
    curves, labels = lines(fig, "equal score"), [t for t in ax.texts if t.get_text().startswith("IS ")]
    assert len(curves) == len(labels) >= 3
    for curve, label in zip(curves, labels, strict=True):
        score = float(label.get_text()[3:])
        assert score >= 1
        assert_allclose(curve.get_xdata() * curve.get_ydata(), score)
        assert_allclose(np.prod(label.get_position()), score)
    model = results.iloc[3]  # a curve of its score passes through its dot
    assert_allclose(model["inception_score"] / marked(ax, "models")[3, 0], marked(ax, "models")[3, 1], rtol=1e-9)
    assert "classes" in ax.get_xlabel() and "nats per image" in fig.axes[1].get_ylabel()
    assert "digits, ghvae, 4 epochs, 1 seed, 9 models" in fig.caption


@pytest.mark.parametrize("layers", [2, 3])
def test_mode_and_sample_stand_where_their_nats_are_and_the_bound_is_that_of_eq_11(layers):
    results = results_of(layers)
    fig = figures.accuracy_and_bound(results, CLASSES)
    for ax, column in zip(fig.axes, (f"rate_{layers}", f"mi_z{layers}"), strict=True):
        nats = results[column].clip(lower=0)
        for gid, latent in (("mode", f"mu{layers}"), ("sample", f"z{layers}")):
            accuracy = 100 * results[f"acc_{latent}_rbf_svm"]
            assert_allclose(marked(ax, gid), np.column_stack([nats, accuracy]))
        (bound,) = (line for line in ax.lines if line.get_gid() == "bound")
        assert_allclose(bound.get_ydata(), 100 * accuracy_bound(bound.get_xdata(), CLASSES))
        assert ax.get_xlabel().endswith("(nats per image, √ scale)")
    assert fig.axes[0].get_ylabel().endswith("(%)")
    assert not lines(figures.accuracy_and_bound(results), "bound"), "without the labels' frequencies"


@pytest.mark.parametrize("layers", [2, 3])
def test_strokes_are_where_information_is_that_of_random_labels(layers):
    results = results_of(layers).assign(**{f"mi_z{layers}_permuted": 0.09})
    results.loc[[1, 4], f"mi_z{layers}_permuted"] = [0.11, 2.3]
    results.loc[1, f"mi_z{layers}"] = -0.005
    fig = figures.accuracy_and_bound(results, CLASSES)
    by_rate, by_information = fig.axes
    marks = results.loc[[1, 4], [f"mi_z{layers}", f"acc_z{layers}_rbf_svm"]].clip(lower=0) * [1, 100]
    assert_allclose(marked(by_information, "saturated"), marks)
    assert "saturated" not in {artist.get_gid() for artist in by_rate.collections}
    assert f"Strokes: 2 of {len(results)} settings" in fig.caption and "random labels: > 0.1 nats" in words(fig)


@pytest.mark.parametrize(("permuted", "said"), [(0.09, False), (np.nan, True)])
def test_where_random_labels_have_nothing_or_are_unknown_are_no_strokes(permuted, said):
    fig = figures.accuracy_and_bound(results_of().assign(mi_z2_permuted=permuted), CLASSES)
    assert "saturated" not in {artist.get_gid() for ax in fig.axes for artist in ax.collections}
    assert "random labels" not in words(fig) and "Strokes" not in fig.caption
    assert ("I_q of labels at random was not computed: from an R(z_2)" in fig.caption) == said


def test_the_trap_is_drawn_of_true_and_random_labels_and_the_bound():
    results = results_of().assign(mi_z2_lower_se=0.02)
    results.loc[3, ["mi_z2_permuted", "mi_z2_lower", "mi_z2_lower_se"]] = np.nan
    results.loc[5, "status"] = "diverged"
    fig = figures.information_trap(results, CLASSES, 5_000)
    (ax,) = fig.axes
    there = {"mi_z2": [5], "mi_z2_permuted": [3, 5], "mi_z2_lower": [3, 5]}
    for column, lost in there.items():
        (line,) = lines(fig, column)
        assert_allclose(line.get_xydata(), results.drop(lost)[["rate_2", column]])
    (bars,) = (c for c in ax.collections if isinstance(c, LineCollection))
    ends = np.array(bars.get_segments())[:, :, 1]
    assert_allclose(ends, results.drop([3, 5])["mi_z2_lower"].to_numpy()[:, None] + [-0.04, 0.04])
    assert lines(fig, "entropy")[0].get_ydata() == pytest.approx([np.log(10)] * 2)
    assert lines(fig, "log N")[0].get_xdata() == pytest.approx([np.log(5_000)] * 2)
    assert "5,000 images" in words(fig) and "permuted labels" in words(fig) and "lower bound" in words(fig)
    assert ax.get_xlabel() == "$R(z_2)$ (nats per image, √ scale)" and ax.get_ylabel().endswith("(nats)")
    assert "two standard errors" in fig.caption and "1 not drawn (1 diverged)" in fig.caption


def test_the_trap_of_a_run_without_control_has_its_information_only():
    fig = figures.information_trap(results_of().assign(mi_z2_permuted=np.nan, mi_z2_lower=np.nan))
    assert lines(fig, "mi_z2")
    assert not any(lines(fig, gid) for gid in ("mi_z2_permuted", "mi_z2_lower", "entropy", "log N"))
    nothing = results_of().assign(mi_z2=np.nan, mi_z2_permuted=np.nan, mi_z2_lower=np.nan)
    assert "not computed" in words(figures.information_trap(nothing, CLASSES, 5_000))


def test_the_best_the_vae_and_the_middle_are_shown_below_the_originals():
    results, images = results_of(), pictures(9)
    images[results["psnr"].idxmax()] = 0  # keeps none, as a point of a network that nobody looks at
    fig = figures.best_and_typical(results, "psnr", images, pictures(1)[0])
    seen = results.drop(results["psnr"].idxmax())["psnr"]
    vae = int(results.query("beta_2 == 1 and beta_1 == 1").index[0])
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles[0] == "test images"
    assert not any(ax.axison for ax in fig.axes), "images have no scales"
    middle = seen.sort_values().index[(len(seen) - 1) // 2]
    for (name, row), ax in zip(
        (("best", seen.idxmax()), ("VAE", vae), ("in the middle", middle)), fig.axes[1:], strict=True
    ):
        setting = ", ".join(f"{beta:g}" for beta in results.loc[row, ["beta_2", "beta_1"]])
        wanted = f"{name}: PSNR {seen[row]:.3g} dB at β = ({setting})"
        assert ax.get_title(loc="left").replace("\N{NO-BREAK SPACE}", " ") == wanted
        assert_allclose(np.asarray(ax.images[0].get_array())[:, :8], images[row, 0, 0])
    without = figures.best_and_typical(results.assign(inception_score=np.nan), "inception_score", images)
    assert [ax.get_title(loc="left").split(" ")[0] for ax in without.axes] == ["VAE"]
    assert "no model keeps images" in words(figures.best_and_typical(results, "psnr", 0 * images))


def test_rows_of_images_carry_what_they_are():
    fig = figures.image_rows([pictures(1)[0]] * 3, ["test images", "β = (1, 1)", "β = (0.1, 1)"], "digits, 2 epochs")
    (ax,) = fig.axes
    height = ax.images[0].get_array().shape[0] / 3
    for row, (label, place) in enumerate(zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)):
        assert label.get_text() in ("test images", "β = (1, 1)", "β = (0.1, 1)")
        assert row * height < place + 0.5 < (row + 1) * height
    assert fig.texts[0].get_text() == "digits, 2 epochs"


def test_bars_and_lines_say_what_was_trained():
    history = history_of()
    history.attrs = {"run": "mine", "objective": "not Eq. 8 but my own"}
    fig = figures.rates_in_training(history)
    assert fig.texts[0].get_text() == "mine: digits, ghvae, 3 epochs; not Eq. 8 but my own"
    assert "VAE" not in words(fig).replace("ghvae", "")


@pytest.mark.parametrize("name", MADE_OF_RESULTS)
@pytest.mark.parametrize("lost", ["some", "all", "labels"])
def test_what_is_not_known_breaks_nothing(name, lost):
    results = results_of()
    rows = {"some": [0, 4], "all": list(results.index), "labels": []}[lost]
    results.loc[rows, results.columns[7:]] = np.nan
    results.loc[rows, "status"] = "diverged"
    if lost == "labels":
        gone = results.columns.str.startswith(("acc_", "mi_", "inception", "div", "sharp", "accuracy"))
        results.loc[:, gone] = np.nan
    fig = MADE_OF_RESULTS[name](results)
    if lost == "some":
        fig.draw_without_rendering()
    said = words(fig) + fig.caption
    if lost == "some":
        assert "2 not drawn (2 diverged)" in fig.caption and "not computed" not in words(fig)
    elif lost == "all" or name != "best_and_typical":
        assert "not computed" in said or "no model keeps images" in said


@pytest.mark.parametrize("name", MADE_OF_RESULTS)
def test_results_without_rows_are_refused_as_by_every_figure(name):
    with pytest.raises(ValueError, match="no rows"):
        MADE_OF_RESULTS[name](results_of().iloc[:0])
