"""One-dimensional transforms of every length, on every axis, against NumPy's."""

import numpy as np
import pytest

from ostwald.app.kernels import _fft
from ostwald.parallel import Fourier

LENGTHS = [n for n in range(1, 290) if _fft.smooth(n)] + [320, 343, 384, 400, 432, 448, 500, 512, 625, 640, 729, 768]
LENGTHS += [1000, 1024, 1050, 1536, 2048, 2187, 2401, 4096]
TOLERANCE = {"float64": 4e-16, "float32": 2.5e-7}


def test_smooth_numbers():
    assert [n for n in range(1, 40) if not _fft.smooth(n)] == [11, 13, 17, 19, 22, 23, 26, 29, 31, 33, 34, 37, 38, 39]
    assert not _fft.smooth(0) and not _fft.smooth(-4)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_length_on_every_axis(world, axis, dtype):
    rng = np.random.default_rng(axis)
    for n in LENGTHS:
        shape = [4, 3, 6]
        shape[axis] = n
        f = Fourier(world, shape, dtype)
        field = rng.normal(size=shape).astype(dtype)
        wanted = np.fft.rfftn(field.astype(float))
        spectrum = f.forward(field)
        got = f.natural(spectrum)
        here = f.weights[:, None, :] > 0
        values = np.where(here, wanted[np.arange(shape[0])[None, :, None], f.ky[:, None, None], f.kz[:, None, :]], 0)
        # rounding grows like the root of log n, in the norm
        error = np.linalg.norm(got - values) / np.linalg.norm(values)
        assert error < TOLERANCE[dtype] * np.sqrt(1 + np.log2(np.prod(shape))), (n, error)
        back = f.backward(spectrum) / field.size
        error = np.linalg.norm(back - field) / np.linalg.norm(field)
        assert error < 2 * TOLERANCE[dtype] * np.sqrt(1 + np.log2(np.prod(shape))), (n, error)


def test_single_waves(world):
    """A plane wave is one entry of the spectrum, and nothing else but rounding."""
    shape = (24, 20, 36)
    f = Fourier(world, shape)
    x = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), -1)
    for k in [(0, 0, 0), (3, -2, 5), (-11, 7, 1), (12, 10, 18), (0, 0, 18), (5, 0, 0)]:
        spectrum = f.natural(f.forward(np.cos(2 * np.pi * (x @ k) + 0.3), None, 1 / np.prod(shape)))
        q = [k, tuple(-a for a in k)]
        want = np.zeros(shape, complex)
        for sign, (a, b, c) in zip((1, -1), q):
            want[a % 24, b % 20, c % 36] += 0.5 * np.exp(0.3j * sign)
        want = want[np.arange(24)[None, :, None], f.ky[:, None, None], f.kz[:, None, :]] * (f.weights[:, None] > 0)
        assert np.abs(spectrum - want).max() < 5e-15  # that of the argument 2π k·x


def test_wrong_arrays_are_refused():
    rows = np.zeros((4, 64 * 64))
    with pytest.raises(ValueError, match="dtype"):
        _fft.forward_planes(np.zeros((4, 4, 8), "f4"), rows, 4, 8)
    with pytest.raises(ValueError, match="planes"):
        _fft.forward_planes(np.zeros((3, 4, 8)), rows, 4, 8)
    with pytest.raises(ValueError, match="too small"):
        _fft.forward_planes(np.zeros((4, 64, 640)), rows, 64, 640)
    with pytest.raises(ValueError, match="products"):
        _fft.forward_planes(np.zeros((4, 4, 22)), rows, 4, 22)
    with pytest.raises(ValueError, match="spectrum"):
        _fft.forward_columns([rows], np.zeros((3, 4, 16)))
    with pytest.raises(ValueError, match="float"):
        _fft.lanes(np.dtype("i4"))
