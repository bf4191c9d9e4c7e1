"""The measurements against truths that are known."""

import copy
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from hvae_core import data as D
from hvae_core.evaluation import bounds, classifier, generation, rates, reconstruction, representation
from hvae_core.evaluation.paired import OF_IMAGES
from hvae_core.models import build
from hvae_core.models.distributions import Gaussian
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.randomness import Noise, Purpose

probabilities = st.lists(st.floats(0.05, 1), min_size=2, max_size=12).map(lambda p: np.array(p) / sum(p))


# --- images -----------------------------------------------------------------------------------------------------


def test_pixels_and_levels_are_inverse_to_each_other():
    levels = torch.arange(256, dtype=torch.uint8)
    x = D.pixels(levels)
    assert x.dtype == torch.float32 and (x[0], x[-1]) == (0, 1)
    assert D.to_uint8(x).tolist() == levels.tolist()
    torch.testing.assert_close(D.pixels(torch.from_numpy(D.to_uint8(x))), x, rtol=0, atol=0)
    assert D.pixels(x) is x, "what a model sees already"
    between = torch.tensor([-3.0, 0.49 / 255, 0.51 / 255, 254.49 / 255, 254.51 / 255, 3.0])
    assert D.to_uint8(between).tolist() == [0, 0, 1, 254, 255, 255]


# --- bounds -----------------------------------------------------------------------------------------------------


@given(probabilities, st.floats(0, 1))
def test_f_and_its_inverse_invert_each_other(p, share):
    accuracy = 1 / len(p) + share * (1 - 1 / len(p))
    assert bounds.accuracy_bound(bounds.information(accuracy, p), p) == pytest.approx(accuracy, abs=1e-6)


@given(st.integers(2, 100))
def test_chance_needs_no_information_and_certainty_the_entropy(classes):
    p = np.full(classes, 1 / classes)
    assert bounds.information(1 / classes, p) == pytest.approx(0, abs=1e-12)
    assert bounds.information(1, p) == pytest.approx(math.log(classes))
    assert bounds.accuracy_bound(0, p) == pytest.approx(1 / classes)
    assert bounds.accuracy_bound(math.log(classes), p) == 1


@given(probabilities, st.lists(st.floats(-1, 10), min_size=2, max_size=20))
def test_more_information_allows_more_accuracy(p, nats):
    bound = bounds.accuracy_bound(sorted(nats), p)
    assert (np.diff(bound) >= 0).all()
    assert (bound >= 1 / len(p)).all()
    assert (bound <= 1).all()


def test_the_accuracy_bound_is_fanos_inequality_for_a_symmetric_channel():
    """A label that is flipped with probability e: I = log 2 - H(e), and the best classifier reaches 1 - e."""
    for flipped in (0.01, 0.1, 0.3):
        entropy = -flipped * math.log(flipped) - (1 - flipped) * math.log(1 - flipped)
        assert bounds.accuracy_bound(math.log(2) - entropy, [0.5, 0.5]) == pytest.approx(1 - flipped)


def test_unknown_information_gives_an_unknown_bound_and_one_class_is_refused():
    assert np.isnan(bounds.accuracy_bound([np.nan, 1.0], [0.5, 0.5])).tolist() == [True, False]
    with pytest.raises(ValueError, match="at least two"):
        bounds.accuracy_bound(1.0, [1.0])


def test_label_probabilities_count_classes_that_are_absent():
    assert bounds.label_probabilities([0, 0, 2, 0], classes=4).tolist() == [0.75, 0, 0.25, 0]


def test_distortion_bound():
    assert bounds.entropy_bound([80.0, 70.0, np.nan], [10.0, 30.0, 1.0]) == 90
    assert bounds.distortion_bound([0.0, 40.0], 90.0).tolist() == [90.0, 50.0]


# --- reconstruction ---------------------------------------------------------------------------------------------


class Shifted(torch.nn.Module):
    """Reconstructs every image too bright by `error`, or by twice that for the second half of a batch."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def reconstruct(self, x):
        factor = torch.ones(len(x), 1, 1, 1)
        factor[len(x) // 2 :] = 2
        return x + self.error * factor


def psnr(model, x):
    return reconstruction.scores(reconstruction.errors(model, x))


def test_psnr_of_a_known_error():
    x = torch.zeros(10, 1, 28, 28, dtype=torch.uint8)
    scores = psnr(Shifted(0.1), x)
    assert scores["psnr"] == pytest.approx((20 + (20 - 20 * math.log10(2))) / 2, abs=1e-4)
    assert scores["psnr_pooled"] == pytest.approx(-10 * math.log10((0.01 + 0.04) / 2), abs=1e-4)
    found = reconstruction.measured(reconstruction.errors(Shifted(0.1), x))
    assert {name: found[name] for name in scores} == scores
    assert found[OF_IMAGES]["psnr"].dtype == np.float16
    assert found[OF_IMAGES]["psnr"] == pytest.approx([20] * 5 + [20 - 20 * math.log10(2)] * 5, abs=0.01)


class Grey(torch.nn.Module):
    """Reconstructs a grey image whatever it sees."""

    def reconstruct(self, x):
        return torch.full_like(x, 0.25)


def test_the_error_of_an_image_is_the_mean_over_its_colours_and_pixels():
    x = torch.randint(0, 256, (5, 3, 6, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = ((x.numpy() / 255 - 0.25) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(reconstruction.errors(Grey(), x), expected, rtol=1e-5)
    assert (reconstruction.reconstructions(Grey(), x) == 64).all(), "0.25 * 255, rounded"


def test_psnr_does_not_depend_on_the_batches():
    model = build("ghvae", (1, 28, 28))
    x = (torch.rand(1003, 1, 28, 28) < 0.5).to(torch.uint8) * 255
    whole = psnr(model, x)["psnr"]
    halves = [psnr(model, part)["psnr"] * len(part) for part in x.split(500)]
    assert whole == pytest.approx(sum(halves) / len(x), abs=1e-4)


# --- generation -------------------------------------------------------------------------------------------------


def test_a_constant_classifier_scores_one():
    scores = generation.inception_score(torch.full((100, 10), 0.1))
    assert scores["inception_score"] == pytest.approx(1)


@given(st.integers(2, 20))
def test_perfect_balanced_predictions_score_the_number_of_classes(classes):
    scores = generation.inception_score(torch.eye(classes).repeat(5 * 3, 1))
    assert scores["inception_score"] == pytest.approx(classes)
    assert scores["inception_score_std"] == pytest.approx(0, abs=1e-9)
    assert scores["sharpness"] == pytest.approx(1)


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_score_is_diversity_times_sharpness_and_the_exponent_of_a_divergence(seed):
    p = torch.randn(50, 7, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(1).double()
    one = generation.inception_score(p, splits=1)
    assert one["inception_score"] == pytest.approx(one["diversity"] * one["sharpness"])
    divergence = (p * (p / p.mean(0)).log()).sum(1).mean().exp()
    assert one["inception_score"] == pytest.approx(divergence.item())
    five = generation.inception_score(p)
    assert five["inception_score"] == pytest.approx(five["diversity"] * five["sharpness"], rel=0.1)


def test_the_deviation_of_the_score_is_over_the_splits_themselves():
    """Perfect predictions of 1, ..., 5 classes, one number a split: scores 1, ..., 5, whose variance is 2."""
    splits = [torch.eye(5)[:classes].repeat(60 // classes, 1) for classes in range(1, 6)]
    scores = generation.inception_score(torch.cat(splits))
    assert scores["inception_score"] == scores["diversity"] == pytest.approx(3)
    assert scores["inception_score_std"] == pytest.approx(math.sqrt(2))


def test_samples_are_a_function_of_the_seed():
    model = build("ghvae", (1, 28, 28))
    a, b, c = (generation.samples(model, 7, seed) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == (7, 1, 28, 28)


class Bright(torch.nn.Module):
    """Generates its noise, brighter than white and darker than black."""

    def noise(self, batch, source):
        return [source.normal(batch, 1, 2, 3)]

    def generate(self, noise):
        return 0.5 + noise[0]


def test_samples_lie_between_black_and_white_and_are_as_many_as_asked_for(monkeypatch):
    monkeypatch.setattr(generation, "BATCH", 3)
    x = generation.samples(Bright(), 10, seed=11)
    assert (x.min(), x.max()) == (0, 1)
    whole = 0.5 + Noise(11, Purpose.GENERATION).normal(10, 1, 2, 3)
    torch.testing.assert_close(x, whole.clamp(0, 1))  # batches take their noise from one stream


def test_the_classifier_is_trained_once_and_kept(tmp_path, monkeypatch):
    data = D.load("digits").first(400, 200)
    other = classifier.classifier_for(data, tmp_path, epochs=6, precision="bfloat16")
    first = classifier.classifier_for(data, tmp_path, epochs=6)
    assert other.test_accuracy == pytest.approx(first.test_accuracy, abs=0.1)
    assert not torch.equal(*(next(one.model.parameters()) for one in (first, other))), "each is kept by itself"
    monkeypatch.setattr(classifier, "_train", lambda *a: pytest.fail("trained again"))
    second = classifier.classifier_for(data, tmp_path, epochs=6)
    x = D.pixels(data.x_test[:5])
    torch.testing.assert_close(first.probabilities(x), second.probabilities(x))
    assert first.test_accuracy == second.test_accuracy > 0.5
    right = (first.probabilities(D.pixels(data.x_test)).argmax(1) == data.y_test).double().mean().item()
    assert right == pytest.approx(first.test_accuracy)


def test_a_classifier_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    """Stopped within an epoch: what was trained since the last whole one is trained again."""
    data = D.load("digits").first(300, 50)
    batch_norm = torch.nn.Sequential(torch.nn.BatchNorm2d(1), classifier.small_cnn((1, 28, 28), 10))
    monkeypatch.setitem(classifier.ARCHITECTURES, "small-cnn", lambda shape, classes: copy.deepcopy(batch_norm))
    monkeypatch.setattr(classifier, "CHECKPOINT_EVERY_S", 0)
    whole = classifier.classifier_for(data, tmp_path / "whole", epochs=5)
    cross_entropy, calls = classifier.F.cross_entropy, itertools.count(1)

    def stopped(*arguments):
        if next(calls) == 3 * 3 + 2:
            raise KeyboardInterrupt
        return cross_entropy(*arguments)

    monkeypatch.setattr(classifier.F, "cross_entropy", stopped)
    with pytest.raises(KeyboardInterrupt):
        classifier.classifier_for(data, tmp_path / "parts", epochs=5)
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = classifier.classifier_for(data, tmp_path / "parts", epochs=5)
    assert next(calls) == 3 * 5 + 2 + 1, "the epoch that was stopped again, and the last"
    assert all(map(torch.equal, whole.model.state_dict().values(), parts.model.state_dict().values()))
    assert not list((tmp_path / "parts").glob("*.resume"))


class Watched(torch.nn.Module):
    """Keeps the images that it is trained on, and says the same of each."""

    def __init__(self, classes):
        super().__init__()
        self.logits, self.seen = torch.nn.Parameter(torch.zeros(classes)), []

    def forward(self, x):
        if self.training:
            self.seen.append(x)
        return self.logits.expand(len(x), -1)


def test_the_classifier_sees_each_batch_shifted_by_up_to_two_pixels_with_its_labels(tmp_path, monkeypatch):
    """Every image is a class of its own, so that its label tells what it was before the shift."""
    x = torch.randint(1, 256, (50, 1, 6, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    y, labels, cross_entropy = torch.arange(50), [], classifier.F.cross_entropy
    data, model = D.Dataset("x", x, y, x, y, tuple(map(str, range(50))), ()), Watched(50)
    monkeypatch.setattr(classifier, "BATCH", 2)
    monkeypatch.setitem(classifier.ARCHITECTURES, "small-cnn", lambda shape, classes: model)
    monkeypatch.setattr(classifier.F, "cross_entropy", lambda logits, y: labels.append(y) or cross_entropy(logits, y))
    classifier.classifier_for(data, tmp_path, epochs=16)
    assert [torch.cat(labels[i : i + 25]).sort()[0].tolist() for i in range(0, 400, 25)] == [y.tolist()] * 16
    steps, shifts = range(-2, 3), []
    for images, of in zip(model.seen, labels, strict=True):
        framed = torch.nn.functional.pad(D.pixels(x[of]), (2, 2, 2, 2))  # black
        shifts += [
            (down, right)
            for down, right in itertools.product(steps, steps)
            if torch.equal(images, framed[:, :, 2 - down : 8 - down, 2 - right : 9 - right])
        ]
    assert len(shifts) == 400, "one shift for both images of a batch"
    assert set(shifts) == set(itertools.product(steps, steps))


@pytest.mark.parametrize("name", ["resnet-18", "densenet-121"])
def test_the_papers_classifiers_take_small_images(name):
    model = classifier.ARCHITECTURES[name]((3, 32, 32), 10).eval()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_each_data_set_has_the_papers_classifier():
    x = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    chosen = {
        name: classifier.architecture_for(D.Dataset(name, x, None, x, None, (), ())) for name in ("svhn", "cifar10")
    }
    assert chosen == {"svhn": "resnet-18", "cifar10": "densenet-121"}
    assert classifier.architecture_for(D.load("digits")) == "small-cnn"


# --- representation ---------------------------------------------------------------------------------------------


def labelled_gaussians(separation, std, count=2000, dimensions=1, classes=2):
    source = torch.Generator().manual_seed(0)
    y = torch.arange(count) % classes
    mean = (y * separation).double()[:, None].expand(count, dimensions)
    q = Gaussian(mean, torch.full_like(mean, std))
    return q, q.sample(torch.randn(count, dimensions, generator=source, dtype=torch.float64)), y


@pytest.mark.parametrize("separation", [0.0, 0.5, 1.0, 2.0, 8.0])
def test_mutual_information_of_a_mixture_with_a_known_value(separation):
    """Two equal Gaussians: I(y; z) = h(mixture) - h(component), by numerical integration."""

    def minus_p_log_p(z):
        p = (norm.pdf(z) + norm.pdf(z - separation)) / 2
        return -p * math.log(p) if p > 0 else 0.0

    exact = quad(minus_p_log_p, -12, 12 + separation, limit=200)[0] - 0.5 * math.log(2 * math.pi * math.e)
    q, z, y = labelled_gaussians(separation, 1.0)
    assert representation.mutual_information(q, z, y) == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("std", [1e-4, 0.1, 1.0, 1e3])
@pytest.mark.parametrize("classes", [2, 10])
def test_mutual_information_lies_between_zero_and_the_entropy_of_the_labels(std, classes):
    q, z, y = labelled_gaussians(1.0, std, count=500, dimensions=5, classes=classes)
    value = representation.mutual_information(q, z, y)
    error = 3 / math.sqrt(len(y))
    assert -error < value < math.log(classes) + 1e-9


def test_mutual_information_in_matrix_form_equals_the_definition_pair_by_pair():
    source = torch.Generator().manual_seed(0)
    mean = torch.randn(60, 3, generator=source, dtype=torch.float64)
    q = Gaussian(mean, torch.rand(60, 3, generator=source, dtype=torch.float64) + 0.1)
    z, y = q.sample(torch.randn(60, 3, generator=source, dtype=torch.float64)), torch.arange(60) % 4
    expected = 0.0
    for j in range(60):
        density = torch.distributions.Normal(q.mean, q.std).log_prob(z[j]).sum(1).exp()
        expected += math.log(density[y == y[j]].mean() / density.mean()) / 60
    assert representation.mutual_information(q, z, y, rows=7) == pytest.approx(expected)
    assert representation.mutual_information(q, z, y * 5 + 3) == pytest.approx(expected), "labels are names only"


@pytest.mark.parametrize("std", [0.02, 0.3, 3.0])
def test_of_random_labels_the_permuted_value_is_the_true_one(std):
    """Where posteriors hardly overlap both are the entropy: nothing was learned, and the estimator does not see it."""
    source = torch.Generator().manual_seed(0)
    mean = torch.randn(3000, 20, generator=source, dtype=torch.float64)
    q = Gaussian(mean, torch.full_like(mean, std))
    z = q.sample(torch.randn(3000, 20, generator=source, dtype=torch.float64))
    y = torch.randint(0, 10, (3000,), generator=source)
    told, by_chance = representation.information_of(q, z, [y, representation.permuted(y)])
    assert told == pytest.approx(by_chance, abs=0.02)
    saturated = math.log(10) if std == 0.02 else told
    assert told == pytest.approx(saturated, abs=0.02)
    learned = representation.learned_information(z.numpy(), y.numpy(), 10)
    assert learned.lower < 3 * learned.error, "a bound that is not taken in"
    assert learned.fano < 0.02


def test_permuted_labels_are_the_same_labels_at_other_images():
    y = torch.arange(1000) % 7
    moved = representation.permuted(y)
    assert torch.equal(moved.sort().values, y.sort().values)
    assert (moved == y).float().mean() < 0.25


@pytest.mark.parametrize("separation", [0.0, 1.0, 2.0, 8.0])
def test_learned_information_is_close_below_a_known_value(separation):
    _, z, y = labelled_gaussians(separation, 1.0, count=20_000)

    def minus_p_log_p(value):
        p = (norm.pdf(value) + norm.pdf(value - separation)) / 2
        return -p * math.log(p) if p > 0 else 0.0

    exact = quad(minus_p_log_p, -12, 12 + separation, limit=200)[0] - 0.5 * math.log(2 * math.pi * math.e)
    learned = representation.learned_information(z.numpy(), y.numpy(), 2)
    assert exact - 0.02 - 3 * learned.error < learned.lower < exact + 3 * learned.error
    assert learned.fano < exact + 3 * learned.error
    # The accuracy of the best classifier, at the middle of two Gaussians, and what it needs to know.
    best = norm.cdf(separation / 2)
    assert learned.fano == pytest.approx(float(bounds.information(best, [0.5, 0.5])), abs=0.02)
    assert 0 < learned.error < 0.02


def test_a_class_that_is_not_in_the_training_images_does_not_break_the_bound():
    features = np.random.default_rng(0).normal(size=(200, 2))
    y = np.zeros(200, int)
    y[100:] = 1
    y[representation._split(200)[1][0]] = 2
    learned = representation.learned_information(features, y, 4)
    assert np.isfinite(list(learned)).all()
    few = representation.learned_information(features[:4], y[:4], 4)
    assert np.isnan(list(few)).all()


def test_what_is_learned_needs_two_classes_and_seven_images():
    """Of seven it learns from five and is judged by two, of six it would learn from four."""
    features, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    for count, classes, known in ((7, 2, True), (6, 2, False), (20, 1, False)):
        learned = representation.learned_information(features[:count], y[:count] % classes, 2)
        assert np.isfinite(list(learned)).tolist() == [known] * 3


def test_a_class_far_below_all_others_is_not_lost():
    """Its share of the density is 0 in double precision, and its logarithm is not."""
    mean = torch.tensor([[0.0], [0.02], [1.1], [1.101]], dtype=torch.float64)
    q, z = Gaussian(mean, torch.tensor([[1.0], [1.1], [1.2], [1.3]]).double() / 100), torch.full_like(mean, 1.1)
    y = torch.tensor([0, 0, 1, 1])
    expected = 0.0
    log_q = torch.distributions.Normal(q.mean, q.std).log_prob(z[0]).sum(1)
    for own in (0, 0, 1, 1):
        of_class = log_q[y == own].logsumexp(0) - math.log(int((y == own).sum()))
        expected += float(of_class - log_q.logsumexp(0) + math.log(4)) / 4
    assert expected < -1000
    assert representation.mutual_information(q, z, y) == pytest.approx(expected)


def test_information_of_single_precision_is_computed_in_double():
    """Squares of means far from 0 cancel: of numbers in single precision not a digit would be left."""
    source = torch.Generator().manual_seed(0)
    mean = 1000 + torch.randn(50, 3, generator=source)
    q = Gaussian(mean, torch.full_like(mean, 0.3))
    z, y = q.sample(torch.randn(50, 3, generator=source)), torch.arange(50) % 3
    exact = representation.mutual_information(Gaussian(q.mean.double(), q.std.double()), z.double(), y)
    assert exact > 0 and representation.mutual_information(q, z, y) == pytest.approx(exact, rel=1e-9)


def test_without_features_labels_have_their_frequencies_and_an_unseen_class_the_share_of_one_image():
    """Of 80 images to learn from none is of class 2 or 3: both are given 1/80 each before shares are made to sum to 1.

    Of the others 0 and 1 have three quarters and one, whatever the images.
    """
    train, test = representation._split(100)
    y = np.empty(100, int)
    y[train], y[test] = np.arange(80) % 4 == 0, np.arange(20) % 3
    shares = np.array([0.75, 0.25, 1 / 80, 1 / 80]) / (1 + 2 / 80)
    told = np.log(shares)[y[test]]
    frequencies = np.bincount(y, minlength=4) / 100
    entropy = -sum(p * math.log(p) for p in frequencies if p)
    found = representation.learned_information(np.ones((100, 3)), y, 4)
    assert found.lower == pytest.approx(entropy + told.mean(), abs=1e-3)
    assert found.error == pytest.approx(np.std(told, ddof=1) / math.sqrt(20), abs=1e-3)
    assert found.fano == 0, "with the likeliest class at 7 of 20 it knows less than nothing"


def test_neither_units_nor_features_twice_change_what_is_learned():
    _, z, y = labelled_gaussians(1.5, 1.0, count=400, dimensions=2)
    once = list(representation.learned_information(z.numpy(), y.numpy(), 2))
    assert once[0] > 0.2
    for same in (z.numpy() * [1e3, 1e-3] + 7, np.repeat(z.numpy(), 3, axis=1)):
        assert list(representation.learned_information(same, y.numpy(), 2)) == pytest.approx(once, abs=1e-3)


def test_latents_are_named_from_the_top_and_the_rate_is_that_of_each_image(chain):
    torch.manual_seed(0)
    x = torch.randint(0, 2, (20, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8) * 255
    found = representation.latents(chain(3), x, seed=0)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        **{"mu3": (20, 2), "mu2": (20, 3), "mu1": (20, 4)},
        **{"z3": (20, 2), "std": (20, 2), "rate": (20,)},
    }
    mean, std = found["mu3"], found["std"]
    rate = (0.5 * (mean**2 + std**2 - 1) - std.log()).sum(1)
    torch.testing.assert_close(found["rate"], rate)
    with pytest.raises(TypeError, match="not Pushforward"):
        representation.latents(build("--+", (1, 28, 28), width=0.1), torch.zeros(2, 1, 28, 28).to(torch.uint8), 0)


def test_scores_are_of_the_top_layer():
    q, z, y = labelled_gaussians(0.5, 0.5, count=60, dimensions=2)
    latents = {"mu2": q.mean, "mu1": torch.zeros(60, 3), "z2": z, "std": q.std, "rate": torch.linspace(0.1, 0.3, 60)}
    found = representation.scores(latents, y, 2)
    assert found["mi_z2"] == pytest.approx(representation.mutual_information(q, z, y))
    assert found["mi_z2_permuted"] == pytest.approx(representation.mutual_information(q, z, representation.permuted(y)))
    learned = representation.learned_information(z.numpy(), y.numpy(), 2)
    assert [found[f"mi_z2_{name}"] for name in ("lower", "lower_se", "fano")] == list(learned)
    for of, nats in (("mi", found["mi_z2"]), ("rate", 0.2)):
        assert found[f"accuracy_bound_{of}"] == pytest.approx(float(bounds.accuracy_bound(nats, [0.5, 0.5])))
    assert found["acc_mu2_knn"] == 1 > found["acc_z2_knn"], "modes of two classes are two points"
    assert found["acc_mu1_knn"] < 0.8


def test_representation_of_a_model():
    torch.manual_seed(0)
    data, model = D.load("digits"), build("ghvae", (1, 28, 28))
    scores = representation.evaluate(model, data.x_test, data.y_test, 10, seed=0)
    assert set(scores) == {"accuracy_bound_mi", "accuracy_bound_rate"} | {
        f"mi_z2{kind}" for kind in ("", "_permuted", "_lower", "_lower_se", "_fano")
    } | {f"acc_{latent}_{probe}" for latent in ("mu2", "mu1", "z2") for probe in representation.PROBES} | {OF_IMAGES}
    for name, hits in scores[OF_IMAGES].items():
        assert len(hits) == 160 and set(hits) <= {0, 1} and hits.mean() == scores[name], "a fifth of 800 images"
    assert all(0 <= scores[name] <= 1 for name in scores if name.startswith("acc"))
    # Even the modes of an untrained model can be read; samples of it say nothing, and the bound knows that.
    assert scores["acc_mu2_knn"] > 0.5
    error = 3 * 0.5 / math.sqrt(160)
    for probe in representation.PROBES:
        assert scores[f"acc_z2_{probe}"] < scores["accuracy_bound_mi"] + error
    assert scores["accuracy_bound_mi"] < scores["accuracy_bound_rate"] + error


def test_the_probes_are_scikit_learns_with_two_kernels_a_looser_linear_one_and_newtons_method():
    plain = {
        "logistic": LogisticRegression(solver="newton-cg", tol=1e-3),
        "linear_svm": SVC(kernel="linear", C=1, tol=0.01),
        "rbf_svm": SVC(kernel="rbf", C=1, gamma="scale", tol=0.001),
        "knn": KNeighborsClassifier(n_neighbors=5),
    }
    probes = representation.probes()
    assert list(probes) == list(representation.PROBES) == list(plain)
    for name, probe in probes.items():
        assert type(probe) is type(plain[name])
        assert probe.get_params() == plain[name].get_params(), name


class Kept:
    """A classifier that keeps what it is given."""

    def fit(self, features, y):
        self.train = features, y
        return self

    def predict(self, features):
        self.test = features
        return np.zeros(len(features), int)


def test_a_probe_learns_from_a_fixed_four_fifths_of_the_features_as_they_are():
    probe, source = Kept(), np.random.default_rng(1)
    features, y = source.normal(size=(101, 3)) * [1e-3, 1, 1e3] + 7, np.arange(101) % 10
    order = np.random.default_rng(0).permutation(101)
    right = (y[order[80:]] == 0).astype(float)
    assert representation.score(probe, features, y) == right.mean()
    hits = representation.right(probe, features, y)
    np.testing.assert_array_equal(hits, right)
    assert hits.dtype == np.uint8
    for seen, wanted in zip(
        (*probe.train, probe.test), (features[order[:80]], y[order[:80]], features[order[80:]]), strict=True
    ):
        np.testing.assert_array_equal(seen, wanted)


def test_a_probe_that_does_not_converge_says_nothing():
    features, y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2
    probe = LogisticRegression(max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(representation.right(probe, features, y)) == 10
    with pytest.warns(ConvergenceWarning):
        probe.fit(features, y)


def test_a_probe_needs_two_classes_and_as_many_images_as_it_looks_at_neighbours():
    """Of seven images it learns from five, of six from four."""
    two, one = np.array([0, 1, 0, 1, 0, 1, 0]), np.zeros(7, int)
    assert representation.score(Kept(), np.ones((7, 2)), two) in (0, 0.5, 1)
    assert math.isnan(representation.score(Kept(), np.ones((6, 2)), two[:6]))
    assert math.isnan(representation.score(Kept(), np.ones((7, 2)), one))


def test_mu_1_is_taken_at_a_sample_of_z_2(images):
    model = build("ghvae", (1, 28, 28))
    x = D.pixels(images)
    (top, low), z2 = representation.posteriors(model, images, seed=11)
    noise = model.noise(len(x), Noise(11, Purpose.REPRESENTATION))
    q2 = model.posterior(x, [])
    torch.testing.assert_close(top.mean, q2.mean)
    torch.testing.assert_close(z2, q2.sample(noise[0]))
    q1 = model.posterior(x, [z2])
    for found, expected in zip(low, q1, strict=True):
        torch.testing.assert_close(found, expected.flatten(1))


class Maps(HierarchicalVAE):
    """z_2 is a map: a quarter of the image and its brightness."""

    def __init__(self):
        super().__init__()
        self.image_shape, self.latent_shapes = (1, 4, 4), ((1, 2, 2),)

    def posterior(self, x, z_above, features=None):
        mean = x[:, :, :2, :2]
        return Gaussian(mean, (0.1 + x.mean((1, 2, 3), keepdim=True)).expand_as(mean))


def test_posteriors_and_samples_of_maps_are_vectors_whatever_the_batches(monkeypatch):
    x = torch.randint(0, 256, (10, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    monkeypatch.setattr(representation, "BATCH", 4)
    (q,), z = representation.posteriors(Maps(), x, seed=3)
    torch.testing.assert_close(q.mean, D.pixels(x)[:, 0, :2, :2].flatten(1))
    torch.testing.assert_close(q.std, (0.1 + D.pixels(x).mean((1, 2, 3)))[:, None].expand(10, 4))
    torch.testing.assert_close(z, q.sample(Noise(3, Purpose.REPRESENTATION).normal(10, 4)))


def test_too_few_labels_to_learn_from_are_not_scored(images):
    model = build("ghvae", (1, 28, 28))
    scores = representation.evaluate(model, images[:6], torch.tensor([0, 0, 0, 0, 0, 1]), 2, seed=0)
    assert math.isnan(scores["acc_mu2_knn"]) and not scores[OF_IMAGES]


# --- rates ------------------------------------------------------------------------------------------------------


def test_average_terms_are_the_means_over_images_of_the_terms_in_batches(monkeypatch, images):
    model, source = build("lvae", (1, 28, 28)), Noise(11, Purpose.EVALUATION)
    monkeypatch.setattr(rates, "BATCH", 5)
    with torch.no_grad():
        parts = [model(D.pixels(x), model.noise(len(x), source)) for x in images.split(5)]
    scores = rates.average_terms(model, images, seed=11)
    assert list(scores) == ["distortion", "rate_2", "rate_1", "rate", "elbo"]
    assert scores["distortion"] == pytest.approx(torch.cat([terms.distortion for terms in parts]).mean().item())
    rate_2, rate_1 = torch.cat([terms.rates for terms in parts]).mean(0).tolist()
    assert (scores["rate_2"], scores["rate_1"]) == (pytest.approx(rate_2), pytest.approx(rate_1))
    assert scores["rate"] == pytest.approx(rate_2 + rate_1)
    assert scores["elbo"] == pytest.approx(-(scores["distortion"] + scores["rate"]))
    assert rates.mean_terms(model, images, seed=11).dtype == torch.float64


def test_average_terms_weigh_every_image_alike(monkeypatch, images):
    model = build("ghvae", (1, 28, 28))
    scores = rates.average_terms(model, images, seed=0)
    assert scores["rate"] == pytest.approx(scores["rate_2"] + scores["rate_1"])
    assert scores["elbo"] == pytest.approx(-(scores["distortion"] + scores["rate"]))
    # R(z_2) has a closed form and needs no sample: whatever the batches, it is the same.
    monkeypatch.setattr(rates, "BATCH", 5)
    assert rates.average_terms(model, images, seed=0)["rate_2"] == pytest.approx(scores["rate_2"], rel=1e-5)
