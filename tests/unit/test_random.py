"""Philox: the published vectors, the distributions, the independence of streams."""

import numpy as np
import pytest
from scipy import stats

from ostwald.app.kernels import _random
from ostwald.parallel import philox_generator, philox_normal, philox_uniform

IDS = np.arange(200_000)


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [  # Random123, tests/kat_vectors, philox4x32 10
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers(counter, key, answer):
    counter, key, answer = (
        np.array([int(word, 16) for word in text.split()], np.uint32) for text in (counter, key, answer)
    )
    assert np.array_equal(_random.block(counter[None], key)[0], answer)


def test_numbers_follow_from_the_cipher():
    """The documented layout: counter (id, step, block), 52 bits of each half to the middle of its interval."""
    key = np.array([_random.key(9, 4) & 0xFFFFFFFF, _random.key(9, 4) >> 32], np.uint32)
    ids, step = np.array([0, 1, 5_000_000_000]), (3 << 32) + 17
    got = philox_uniform(9, 4, ids, step, 5)
    for row, atom in zip(got, ids):
        words = []
        for block in range(3):
            counter = [atom & 0xFFFFFFFF, atom >> 32, 17, (3 << 16) + block]
            words += _random.block(np.array([counter], np.uint32), key)[0].tolist()
        pairs = [(words[2 * i + 1] << 32 | words[2 * i]) >> 12 for i in range(5)]
        assert row.tolist() == [(pair + 0.5) / 2**52 for pair in pairs]


def test_normals_are_box_and_muller():
    u = philox_uniform(1, "x", IDS, 3, 2)
    radius, angle = np.sqrt(-2 * np.log(u[:, 0])), 2 * np.pi * u[:, 1]
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    assert np.allclose(philox_normal(1, "x", IDS, 3, 2), expected, rtol=0, atol=1e-14)


def test_uniform_distribution():
    u = philox_uniform(2024, "test", IDS, 0, 3)
    assert u.min() > 0 and u.max() < 1
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 0.01


def test_normal_distribution():
    x = philox_normal(2024, "test", IDS, 0, 4)
    for column in x.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(x.T) - np.eye(4)).max() < 0.01
    assert stats.kurtosis(x.ravel()) == pytest.approx(0, abs=0.02)
    assert 4.2 < np.abs(x).max() < 6.5


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"purpose": "b"}, {"step": 1}, {"seed": 1 + (1 << 40)}, {"step": 1 << 40}]
)
def test_streams_are_unrelated(change):
    base = {"seed": 1, "purpose": "a", "ids": IDS, "step": 0, "k": 1}
    a, b = philox_uniform(**base), philox_uniform(**(base | change))
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01
    assert not (a == b).any()


def test_more_numbers_do_not_change_the_first():
    assert np.array_equal(philox_normal(1, "x", IDS[:100], 0, 7)[:, :3], philox_normal(1, "x", IDS[:100], 0, 3))


def test_generator_is_reproducible():
    draws = [philox_generator(1, "bath", step).normal(size=4).tolist() for step in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_limits():
    with pytest.raises(ValueError, match="step"):
        philox_uniform(1, "x", IDS, 1 << 48)
    with pytest.raises(ValueError, match="k must"):
        philox_uniform(1, "x", IDS, 0, 0)
    with pytest.raises(ValueError, match="ids"):
        philox_uniform(1, "x", IDS[None])
    assert philox_uniform(1, "x", IDS[:0], 0, 3).shape == (0, 3)
