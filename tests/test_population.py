"""A member's training is a function of (data, model, betas, seed): not of its neighbours, nor of interruptions."""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import Chain, grid
from torch._dynamo.backends.common import aot_autograd

from hvae_core.data.dataset import pixels
from hvae_core.models import build
from hvae_core.objective import lagrangian
from hvae_core.randomness import Noise, Purpose, generator, initial_weights
from hvae_core.training import population as engine
from hvae_core.training import trainer
from hvae_core.training.checkpoints import Checkpoints
from hvae_core.training.conditioned import train_conditioned
from hvae_core.training.plan import Member, Plan, scheduled
from hvae_core.training.population import train
from hvae_core.training.ways import Way


def MAKE():
    return build("ghvae", (1, 28, 28))


GRID = grid(0.1, 1.0, 10.0)
SETTINGS = Plan(epochs=2, batch_size=8, learning_rate=1e-3)


def weights(population, index):
    return {name: value[index] for name, value in population.parameters.items()}


def assert_same(a, b, **tolerance):
    for name in a:
        torch.testing.assert_close(a[name], b[name], **(tolerance or {"rtol": 0, "atol": 0}))


def test_agrees_with_a_loop_that_anyone_would_write(double, images):
    """One model, torch.optim.Adam on its own parameters, the same order and noise: the same weights.

    In double precision: Adam makes a step of any rounding where a gradient is about 0.
    """
    images, member = images.double() / 255, Member((0.5, 2.0), seed=3)
    ours = train(MAKE, [member], images, SETTINGS)
    model = MAKE()
    model.load_state_dict(initial_weights(MAKE, 3), strict=False)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for epoch in range(2):
        order = torch.randperm(32, generator=generator(3, Purpose.ORDER, epoch))
        source = Noise(3, Purpose.NOISE, epoch)
        for batch in order.split(8):
            terms = model(pixels(images[batch]), model.noise(8, source))
            loss = (terms.distortion + 0.5 * terms.rates[:, 0] + 2 * terms.rates[:, 1]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert_same(weights(ours, 0), {n: p.detach() for n, p in model.named_parameters()}, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_neighbours_do_not_matter(images):
    """Alone, in a population of 2 and of 25 with two seeds: after 50 steps bit for bit the same on the CPU."""
    members = [*grid(0.1, 1.0, 10.0, seeds=2), *grid(0.3, 3.0), *grid(30.0), *[Member((b, 0.5), 1) for b in (0.1, 1.0)]]
    assert len(members) == 25
    settings = replace(SETTINGS, epochs=13)
    everyone = train(MAKE, members, images, settings)
    two = train(MAKE, [members[13], members[4]], images, settings)
    for index in (4, 13):
        alone = train(MAKE, [members[index]], images, settings)
        assert_same(weights(everyone, index), weights(alone, 0))
        assert_same(weights(two, [13, 4].index(index)), weights(alone, 0))
        assert torch.equal(everyone.history[index], alone.history[0])


@pytest.mark.parametrize("make", [MAKE, lambda: build("lvae", (1, 28, 28))], ids=["ghvae", "lvae"])
def test_stacked_and_one_at_a_time_agree(double, images, make):
    """vmap over stacked parameters, and convolutions of our own, are another order of the same arithmetic.

    After 20 steps weights agree to 1e-10 relative in double precision.
    """
    settings = replace(SETTINGS, epochs=5, learning_rate=3e-4, warm_up=0.2)
    loop = train(make, GRID[:4], images.double() / 255, settings, chunk=1)
    stacked = train(make, GRID[:4], images.double() / 255, settings, chunk=3)
    for name, value in loop.parameters.items():
        distance = (value - stacked.parameters[name]).norm() / value.norm()
        assert distance < 1e-10, name
    torch.testing.assert_close(loop.history, stacked.history, rtol=1e-6, atol=0)  # kept in float32


def test_stacked_and_one_at_a_time_agree_in_float32(images):
    """An input of a ReLU may round to the other side of 0 in one of the two: a few weights move by a part of a step.

    So terms and weights agree to 1e-3 on any processor; computed in bfloat16 by mistake, they would differ by 1e-2.
    """
    settings = replace(SETTINGS, epochs=5, learning_rate=3e-4)
    loop, stacked = (train(MAKE, GRID[:4], images, settings, chunk=chunk) for chunk in (1, 3))
    torch.testing.assert_close(loop.history, stacked.history, rtol=1e-3, atol=0)
    for name, value in loop.parameters.items():
        distances = (value - stacked.parameters[name]).flatten(1).norm(dim=1) / value.flatten(1).norm(dim=1)
        assert distances.max() < 1e-3, name


@pytest.mark.parametrize("layers", [1, 3])
def test_any_number_of_layers(layers):
    x = (torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8) * 255
    members = [Member((beta,) * layers, 0) for beta in (0.1, 10.0)]
    result = train(lambda: Chain(layers), members, x, Plan(epochs=60, batch_size=8, learning_rate=1e-2))
    assert result.history.shape == (2, 60, 1 + layers)
    cheap, dear = result.history[:, -1, 1:].sum(1)
    assert cheap > dear, "a higher beta buys less rate"


def test_the_two_phase_schedule_holds_and_then_falls_to_nothing():
    factors = [scheduled("two-phase", step, 1000) for step in range(1000)]
    assert factors[:500] == [1.0] * 500
    assert np.diff(factors[500:]) == pytest.approx([-0.002] * 499)
    assert factors[-1] == pytest.approx(0.002)
    assert {scheduled("constant", step, 10) for step in range(10)} == {1.0}


def test_normalised_gradients_have_norm_one_for_each_member_alone():
    gradient = torch.randn(3, 4, 5) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    directions = gradient.clone()
    engine.normalise(gradient)
    assert gradient.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert torch.nn.functional.cosine_similarity(gradient.flatten(1), directions.flatten(1)).tolist() == pytest.approx(
        [1, 1, 1]
    )
    nothing = torch.zeros(2, 3)
    engine.normalise(nothing)
    assert not nothing.any()
    scalars = torch.tensor([2.0, -3.0])
    engine.normalise(scalars)
    assert scalars.tolist() == [1, -1]


def test_training_with_schedule_and_normalised_gradients_is_stacked_alike(double, images):
    images = images.double() / 255
    how = replace(SETTINGS, schedule="two-phase", normalise_gradients=True)
    members = grid(0.1, 10.0)
    one, stacked = (train(MAKE, members, images, how, chunk=chunk) for chunk in (1, 4))
    plain = train(MAKE, members, images, SETTINGS)
    for i in range(4):
        assert_same(weights(one, i), weights(stacked, i), rtol=1e-8, atol=1e-12)
    assert any(not torch.equal(weights(one, 0)[name], value) for name, value in weights(plain, 0).items())


def test_members_with_one_seed_start_alike_and_those_with_another_do_not():
    population = engine.Population(MAKE, [Member((1.0, 1.0), 0), Member((2.0, 3.0), 0), Member((1.0, 1.0), 1)])
    assert_same(weights(population, 0), weights(population, 1))
    assert not torch.equal(population.parameters["q2_conv1.weight"][0], population.parameters["q2_conv1.weight"][2])


@pytest.mark.parametrize("chunk", [1, 5])
def test_a_member_that_becomes_nan_changes_nothing_for_the_others(images, chunk):
    poisoned = GRID[:3]

    def poison(terms, betas):
        return lagrangian(terms, betas) * torch.where(betas[1] == 1.0, torch.nan, 1.0)

    ill = train(MAKE, poisoned, images, SETTINGS, chunk=chunk, objective=poison)
    assert ill.diverged_epoch == [None, 1, None]
    assert ill.history[1, 1].isnan().all()
    well = train(MAKE, poisoned, images, SETTINGS, chunk=chunk)
    # Of fewer models at once a batched product may round otherwise.
    tolerance = {} if chunk == 1 else {"rtol": 1e-5, "atol": 1e-8}
    for index in (0, 2):
        assert_same(weights(ill, index), weights(well, index), **tolerance)


DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
        ],
    ),
]


def compiling(monkeypatch, device, backend="aot_eager"):
    """From the first update, whatever the device.

    On a CPU graphs are traced, but not translated, which would take a minute.
    """
    monkeypatch.setattr(engine, "COMPILED_ON", (device,))
    monkeypatch.setattr(engine, "COMPILED_FROM", 1)
    graphs, real = [], torch.compile

    def counted(graph, inputs):
        graphs.append(graph)
        return (torch._dynamo.lookup_backend(backend) if isinstance(backend, str) else backend)(graph, inputs)

    if device == "cpu":
        monkeypatch.setattr(
            torch, "compile", lambda function, mode, **options: real(function, backend=counted, **options)
        )
    return graphs


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("device", DEVICES)
def test_compiled_it_is_the_same_training(double, images, monkeypatch, capsys, device):
    """The last batch of an epoch is smaller, and computed without; betas change from step to step."""
    images = images.double() / 255
    settings = replace(SETTINGS, batch_size=12, warm_up=0.5)
    plain = train(MAKE, GRID, images.to(device), settings, chunk=9)
    graphs = compiling(monkeypatch, device)
    compiled = train(MAKE, GRID, images.to(device), settings, chunk=9)
    assert graphs or device == "cuda"
    assert "cannot compile" not in capsys.readouterr().err
    torch.testing.assert_close(compiled.history, plain.history, rtol=1e-5, atol=1e-5)
    assert_same(compiled.parameters, plain.parameters, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", [Way(whole=True, compiled=False), Way(shared=True, compiled=False)])
def test_other_ways_are_the_same_training(double, images, monkeypatch, device, way):
    """Of a whole update everything that changes is handed over: batch, noise, betas and learning rate."""
    monkeypatch.setattr(engine, "COMPILED_FROM", 1)
    images = images.double() / 255
    settings = replace(SETTINGS, batch_size=12, warm_up=0.5, schedule="two-phase")
    plain, other = (
        train(MAKE, GRID, images.to(device), settings, chunk=9, way=chosen) for chosen in (Way(compiled=False), way)
    )
    torch.testing.assert_close(other.history, plain.history, rtol=1e-6, atol=1e-6)
    assert_same(other.parameters, plain.parameters, rtol=1e-6, atol=1e-8)


def test_adam_counts_its_steps_in_float32_also_in_double_precision(double, images, monkeypatch):
    """PyTorch's fused kernel on a GPU reads them as float32 whatever their type.

    Of a float64 it reads zero, and divides by it.
    """
    made, real = [], torch.optim.Adam

    def kept(*args, **options):
        made.append(real(*args, **options))
        return made[-1]

    monkeypatch.setattr(torch.optim, "Adam", kept)
    train(MAKE, GRID[:2], images.double() / 255, SETTINGS)
    train_conditioned(MAKE, GRID[:2], images.double() / 255, Plan(epochs=1, batch_size=8))
    states = [state for optimiser in made for state in optimiser.state.values()]
    assert len(made) > 2 and {state["step"].dtype for state in states} == {torch.float32}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("fails", ["to trace", "the pass back"])
def test_what_cannot_be_compiled_is_trained_all_the_same(double, images, monkeypatch, capsys, fails):
    images = images.double() / 255

    def objective(terms, betas):
        if fails == "to trace":
            torch._dynamo.graph_break()
        return lagrangian(terms, betas)

    def broken(graph, inputs):
        raise RuntimeError("there is no compiler")

    without_a_pass_back = aot_autograd(fw_compiler=lambda graph, inputs: graph, bw_compiler=broken)
    plain = train(MAKE, GRID, images, SETTINGS, chunk=9, objective=objective)
    compiling(monkeypatch, "cpu", "aot_eager" if fails == "to trace" else without_a_pass_back)
    found = train(MAKE, GRID, images, SETTINGS, chunk=9, objective=objective)
    assert capsys.readouterr().err.count("cannot compile this training") == 1
    assert_same(found.parameters, plain.parameters)


def test_out_of_memory_halves_the_chunk_and_changes_nothing(double, images, monkeypatch, capsys):
    images = images.double() / 255
    step, sizes = engine._Chunk.step, []

    def small_device(chunk, *args):
        sizes.append(len(chunk.indices))
        if len(chunk.indices) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(chunk, *args)

    expected = train(MAKE, GRID[:5], images, SETTINGS, chunk=1)
    monkeypatch.setattr(engine._Chunk, "step", small_device)
    halved = train(MAKE, GRID[:5], images, SETTINGS, chunk=5)
    assert sizes[:4] == [5, 3, 2, 1]
    assert 5 not in sizes[1:]
    assert "out of memory with 5 models at once; going on with 3" in capsys.readouterr().err
    for index in range(5):
        assert_same(weights(halved, index), weights(expected, index), rtol=1e-8, atol=1e-12)


def test_out_of_memory_of_a_single_model_is_an_error(images, monkeypatch):
    def tiny_device(chunk, *args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._Chunk, "step", tiny_device)
    with pytest.raises(torch.OutOfMemoryError):
        train(MAKE, GRID[:2], images, SETTINGS, chunk=2)


def test_the_objective_is_the_readers_to_change(images):
    def five_nats(terms, betas):
        return terms.distortion.mean() + 100 * (terms.rates[:, 0].mean() - 5).abs() + terms.rates[:, 1].mean()

    result = train(
        MAKE, [Member((1.0, 1.0), 0)], images, Plan(epochs=60, batch_size=32, learning_rate=3e-3), objective=five_nats
    )
    assert result.history[0, -1, 1].item() == pytest.approx(5, abs=1)


# --- resuming ---------------------------------------------------------------------------------------------------


def _train_small(folder, slow_disk=False, epochs=60):
    torch.set_num_threads(1)
    trainer.CHECKPOINT_EVERY_S = 0.0
    if slow_disk:  # so that kills fall into the writing of a checkpoint, too

        def save_in_halves(tensors, path, metadata, save=safetensors.torch.save_file):
            save(tensors, path, metadata)
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            time.sleep(0.01)
            path.write_bytes(whole)

        safetensors.torch.save_file = save_in_halves
    x = (torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8) * 255
    checkpoints = Checkpoints(folder, "small") if folder else None
    members = [Member((b2, b1), seed) for b2 in (0.1, 10.0) for b1 in (0.1, 10.0) for seed in (0, 1)]
    return train(lambda: Chain(2), members, x, Plan(epochs=epochs, batch_size=16), checkpoints=checkpoints)


@pytest.mark.slow
def test_killed_at_twenty_random_moments_and_resumed_is_as_if_uninterrupted(tmp_path):
    """SIGKILL, also in the middle of writing a checkpoint; after each, every checkpoint left behind is whole."""
    expected = _train_small(None)
    context, moments, epochs = multiprocessing.get_context("fork"), random.Random(0), [0]
    for _ in range(20):
        process = context.Process(target=_train_small, args=(tmp_path, True))
        process.start()
        wanted = epochs[-1] + moments.randint(0, 4)  # epochs to wait for, and then a moment within one
        while (
            process.is_alive() and wanted > epochs[-1] and not (tmp_path / f"epoch-{wanted:06d}.safetensors").exists()
        ):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was not over yet"
        files = sorted(tmp_path.glob("epoch-*.safetensors"))
        assert len(files) <= 3, "two are kept, and one more for a moment"
        state = Checkpoints(tmp_path, "small").load(torch.device("cpu"))
        epochs.append(state[0] if state else 0)
        assert not files or epochs[-1] == int(files[-1].stem.split("-")[1]), "the newest is readable"
    assert epochs == sorted(epochs)
    assert len(set(epochs)) > 8, "kills and resumes alternate with progress"
    resumed = _train_small(tmp_path)
    for name, value in expected.parameters.items():
        assert torch.equal(value, resumed.parameters[name]), name
    assert torch.equal(expected.history, resumed.history)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, capsys):
    expected = _train_small(tmp_path, epochs=6)
    last = sorted(tmp_path.glob("epoch-*.safetensors"))[-1]
    raw = bytearray(last.read_bytes())
    raw[-1] ^= 1
    last.write_bytes(raw)
    resumed = _train_small(tmp_path, epochs=6)
    assert "damaged" in capsys.readouterr().err
    assert all(torch.equal(expected.parameters[n], resumed.parameters[n]) for n in expected.parameters)
    last.write_bytes(raw[: len(raw) // 2])
    _train_small(tmp_path, epochs=6)
    assert "cannot be read" in capsys.readouterr().err


def test_damaged_checkpoints_do_not_take_the_place_of_new_ones(tmp_path):
    checkpoints, state = Checkpoints(tmp_path, "small"), {"weight": torch.ones(3)}
    for epoch in (99, 100):
        checkpoints.save(epoch, state)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert checkpoints.load(torch.device("cpu")) is None
    checkpoints.save(1, state)
    assert checkpoints.load(torch.device("cpu"))[0] == 1


def test_a_checkpoint_of_another_training_is_not_continued(tmp_path, capsys):
    _train_small(tmp_path, epochs=6)
    assert Checkpoints(tmp_path, "other").load(torch.device("cpu")) is None
    assert "another training" in capsys.readouterr().err
