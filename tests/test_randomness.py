"""Random numbers: published test vectors, normal numbers, and independence of how they are drawn."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from hvae_core import randomness
from hvae_core.randomness import Noise, Purpose, generator, philox

ONES = 0xFFFFFFFF
# philox4x32-10 of kat_vectors in Random123, the library of the paper's authors: counter, key, words.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), VECTORS)
def test_philox_gives_the_published_words(counter, key, words):
    assert tuple(int(word) for word in philox([torch.tensor(part) for part in counter], key)) == words


def test_noise_is_box_and_mullers_formula_on_philox():
    """In plain Python, number by number, across the end of a block."""
    noise = Noise(5, Purpose.EVALUATION, 2)
    first = 4 * randomness.AT_ONCE["cpu"] - 8
    noise.normal(first)
    drawn = noise.normal(16).tolist()
    for i in range(4):
        place = [torch.tensor(part) for part in (first // 4 + i, 0, 0, 0)]
        a, b, c, d = (int(word) for word in philox(place, noise._key))
        expected = []
        for radius, angle in ((a, b), (c, d)):
            r, t = math.sqrt(-2 * math.log((radius + 0.5) / 2**32)), 2 * math.pi * angle / 2**32
            expected += [r * math.cos(t), r * math.sin(t)]
        assert drawn[4 * i : 4 * i + 4] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 7))
def test_numbers_do_not_depend_on_how_they_are_drawn(sizes, at_once):
    whole = Noise(3).normal(sum(sizes))
    before = randomness.AT_ONCE["cpu"]
    randomness.AT_ONCE["cpu"] = at_once
    try:
        noise = Noise(3)
        parts = [noise.normal(size) for size in sizes]
    finally:
        randomness.AT_ONCE["cpu"] = before
    assert torch.equal(torch.cat([torch.empty(0), *parts]), whole)


def test_numbers_are_standard_normal_and_independent():
    drawn = Noise(0).normal(400_000).double()
    assert kstest(drawn.numpy(), "norm").pvalue > 0.01
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        values = drawn**power
        assert abs(values.mean() - moment) < 4 * values.std() / len(drawn) ** 0.5
    for lag in range(1, 9):  # neighbours share words of Philox, or radius and angle
        for function in (lambda x: x, torch.square):
            pair = torch.corrcoef(torch.stack([function(drawn[lag:]), function(drawn[:-lag])]))[0, 1]
            assert abs(pair) < 4 / len(drawn) ** 0.5


def test_streams_differ_by_seed_purpose_and_index():
    streams = [(0,), (1,), (0, Purpose.EVALUATION), (0, Purpose.NOISE, 1), (2**31,)]
    drawn = torch.stack([Noise(*stream).normal(10_000) for stream in streams])
    assert (torch.corrcoef(drawn) - torch.eye(len(streams))).abs().max() < 0.05


def test_noise_has_the_default_type_and_any_shape(double):
    assert Noise(0).normal(2, 3, 4).shape == (2, 3, 4)
    assert Noise(0).normal(5).dtype == torch.float64
    assert Noise(0).normal(0, 3).shape == (0, 3)


def test_generators_are_functions_of_their_arguments():
    first, again, other = (generator(seed, Purpose.ORDER, 3) for seed in (1, 1, 2))
    assert torch.equal(torch.randperm(50, generator=first), torch.randperm(50, generator=again))
    assert not torch.equal(
        torch.randperm(50, generator=generator(1, Purpose.ORDER, 3)), torch.randperm(50, generator=other)
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_draws_the_same_numbers():
    here, there = Noise(0).normal(1_000_000), Noise(0, device="cuda").normal(1_000_000).cpu()
    assert (here != there).float().mean() < 1e-3
    torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-7)
