"""The moving picture shows what the network makes of the betas that it shows."""

import itertools

import numpy as np
import pytest
from PIL import Image
from test_explorer import images_of, network_of, results_of

from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.evaluation.reconstruction import reconstructions
from hvae_core.figures.paper import montage
from hvae_core.pages import animation as module
from hvae_core.pages.animation import animation, frames, main, path


def test_the_way_is_closed_round_the_middle_and_within_the_range():
    way = np.log10(path((0.1, 1.0), (100.0, 10.0), 40))
    np.testing.assert_allclose(way.mean(0), [0.5, 0.5], atol=1e-9)
    np.testing.assert_allclose([way.min(0), way.max(0)], [[0.5 - 1.35, 0.05], [0.5 + 1.35, 0.95]], atol=1e-9)
    steps = np.linalg.norm((way - 0.5) / [3, 1] - (np.roll(way, 1, 0) - 0.5) / [3, 1], axis=1)
    np.testing.assert_allclose(steps, steps[0])


def test_a_frame_is_of_its_betas(monkeypatch):
    network = network_of("ghvae")
    x = images_of(network, 20)
    results = results_of(network, x, (0.1, 100.0))
    scenes = []
    made = module._scene
    monkeypatch.setattr(module, "_scene", lambda *given: scenes.append(made(*given)) or scenes[-1])
    found = []
    for frame, betas in zip(frames(network, results, x, 0, 3), path((0.1, 0.1), (100, 100), 3), strict=True):
        (scene,), model = scenes, network.at(betas)
        terms = average_terms(model, x, 0)
        np.testing.assert_allclose(
            [point.get_offsets()[0] for point in scene.points], [betas, (terms["rate_2"], terms["rate_1"])]
        )
        np.testing.assert_array_equal(scene.pictures[0].get_array(), montage(reconstructions(model, x), 4, 4))
        assert f"D = {terms['distortion']:.0f}" in scene.said.get_text()
        found.append(np.asarray(frame))
    assert len({frame.shape for frame in found}) == 1
    assert all((a != b).any() for a, b in itertools.pairwise(found))


def test_the_file_is_small_enough_or_not_there(tiny_network, tmp_path, monkeypatch, capsys):
    file = animation("made", tmp_path / "a.webp", 2)
    with Image.open(file) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("WEBP", 2, 0)
    monkeypatch.setattr(module, "LIMIT", 1000)
    with pytest.raises(InputError, match=r"more than 0\.001"):
        animation("made", tmp_path / "b.webp", 2)
    assert not (tmp_path / "b.webp").exists()
    assert main(["none-such", str(tmp_path / "c.webp")]) == 2
    assert "no run 'none-such'" in capsys.readouterr().err


@pytest.fixture
def tiny_network(output, monkeypatch):
    """A run of a network with random weights."""
    network = network_of("ghvae")
    x = images_of(network, 20)
    (output / "runs/made").mkdir(parents=True)
    (output / "runs/made/config.yaml").write_text("model: ghvae-conditioned\n")
    monkeypatch.setattr(module, "load_results", lambda run: results_of(network, x, (0.1, 100.0)))
    monkeypatch.setattr(module, "load_network", lambda run, seed: network)
