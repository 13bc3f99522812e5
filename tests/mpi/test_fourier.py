"""The distributed transform against NumPy's, on any number of ranks, in slabs and pencils, through memory and messages."""

import itertools

import numpy as np
import pytest

from ostwald.app.kernels import _fft
from ostwald.io.checkpoint import read_checkpoint, write_checkpoint
from ostwald.parallel import Fourier

pytestmark = pytest.mark.mpi

SHAPES = [(8, 12, 20), (30, 14, 64), (9, 25, 21), (16, 18), (50, 42)]
TOLERANCE = {"float64": 1e-14, "float32": 2e-6}


def grids(world, shape, dtype):
    """Every process grid that this number of ranks allows: planes, and blocks of lanes along the last axis."""
    lanes = _fft.lanes(np.dtype(dtype))
    blocks = (shape[-1] // 2 + lanes) // lanes
    most = min(shape[1], blocks) if len(shape) == 3 else 1
    return [(world.size // p, p) for p in range(1, most + 1) if world.size % p == 0 and world.size // p <= shape[0]]


def brick(fourier, array):
    return array[tuple(slice(a, b) for a, b in zip(fourier.lo, fourier.hi))].astype(fourier.dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_transform_is_that_of_numpy(world, shape, shared, dtype):
    whole = np.random.default_rng(3).normal(size=shape)
    wanted = np.fft.rfftn(whole).reshape(shape[0], -1, shape[-1] // 2 + 1)
    for ranks in grids(world, shape, dtype):
        f = Fourier(world, shape, dtype, ranks, shared)
        mine = brick(f, whole)
        spectrum = f.forward(mine)
        here = f.weights[:, None, :] > 0
        values = np.where(here, wanted[np.arange(shape[0])[None, :, None], f.ky[:, None, None], f.kz[:, None, :]], 0)
        error = np.abs(f.natural(spectrum) - values).max(initial=0) / np.abs(wanted).max()
        back = np.abs(f.backward(spectrum) / whole.size - mine).max(initial=0)
        assert world.allreduce(error, "max") < TOLERANCE[dtype], (ranks, error)
        assert world.allreduce(back, "max") < TOLERANCE[dtype], (ranks, back)
        assert f.restore(spectrum) is None and np.array_equal(f.read(), f.read()), "reading keeps the planes"
        f.close()


def test_parts_fit_together(world):
    """Every point and every wave number belongs to one rank; weights count the whole spectrum."""
    for shape, dtype in itertools.product([(10, 6, 36), (14, 30)], ["float64", "float32"]):
        for ranks in grids(world, shape, dtype):
            f = Fourier(world, shape, dtype, ranks)
            boxes = world.allgather((f.lo, f.hi))
            count = np.zeros(shape, int)
            for lo, hi in boxes:
                count[tuple(slice(a, b) for a, b in zip(lo, hi))] += 1
            assert (count == 1).all()
            assert world.allreduce(int(f.weights.sum())) * shape[0] == np.prod(shape)
            pairs = [p for part in world.allgather([(y, z) for y, row in zip(f.ky, f.kz) for z in row]) for p in part]
            lanes = [w for part in world.allgather(f.weights.ravel().tolist()) for w in part]
            real = [p for p, w in zip(pairs, lanes) if w]
            n1 = shape[1] if len(shape) == 3 else 1
            assert len(set(real)) == len(real) == n1 * (shape[-1] // 2 + 1)
            f.close()


def test_parseval(world):
    f = Fourier(world, (12, 10, 28))
    whole = np.random.default_rng(5).normal(size=(12, 10, 28))
    spectrum = f.natural(f.forward(brick(f, whole), None, 1 / whole.size))
    power = world.allreduce(float((f.weights[:, None] * np.abs(spectrum) ** 2).sum()))
    assert power == pytest.approx((whole**2).mean(), rel=1e-13)
    f.close()


def test_threads_change_nothing(world):
    whole = np.random.default_rng(5).normal(size=(24, 40, 42))
    results = []
    for threads in (1, 3):
        world.threads = threads
        f = Fourier(world, whole.shape)
        spectrum = f.forward(brick(f, whole))
        results.append((spectrum, f.backward(spectrum)))
        f.close()
    assert np.array_equal(results[0][0], results[1][0]) and np.array_equal(results[0][1], results[1][1])


def test_sizes_that_cannot_be(world):
    for shape in [(11, 8, 8), (8, 26), (8,), (4, 4, 4, 4), (0, 8)]:
        with pytest.raises(ValueError, match="grid"):
            Fourier(world, shape)
    with pytest.raises(ValueError, match="process grid"):
        Fourier(world, (8, 8, 8), ranks=(world.size + 1, 1))
    if world.size > 1:
        with pytest.raises(ValueError, match="too many"):
            Fourier(world, (1, 8))
    f = Fourier(world, (8, 8, 8))
    with pytest.raises(ValueError, match="wanted"):
        f.forward(np.zeros((8, 8, 9)))
    f.close()


def columns_of(whole, lanes, order):
    """The spectrum of a field in vectors of another width."""
    n0, n1, n2 = whole.shape if whole.ndim == 3 else (whole.shape[0], 1, whole.shape[1])
    values = np.fft.rfftn(whole).reshape(n0, n1, -1)
    blocks = (n2 // 2 + lanes) // lanes
    values = np.pad(values, ((0, 0), (0, 0), (0, blocks * lanes - values.shape[2])))[order]
    values = values.reshape(n0, n1, blocks, lanes).transpose(2, 1, 0, 3).reshape(blocks * n1, n0, lanes)
    return np.concatenate([values.real, values.imag], axis=2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lanes", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("shape", SHAPES)
def test_checkpoints_of_machines_with_other_vectors(world, mpi_tmp_path, shape, lanes, dtype):
    """A spectrum that was written in vectors of any width is read into those of this machine, on any process grid."""
    whole = np.random.default_rng(3).normal(size=shape)
    for number, ranks in enumerate(grids(world, shape, dtype)):
        f = Fourier(world, shape, dtype, ranks)
        theirs, folder = columns_of(whole, lanes, f.order).astype(dtype), mpi_tmp_path / str(number)
        if world.root:
            folder.mkdir()
        lo, hi = (len(theirs) * k // world.size for k in (world.rank, world.rank + 1))
        world.barrier()
        write_checkpoint(folder, world, {"spectrum": theirs[lo:hi]}, {}, 1, starts={"spectrum": lo})
        spectrum = f.spectrum()
        spectrum[:] = np.nan
        targets = {"spectrum": (f.first_column, spectrum)}
        read_checkpoint(folder, world, targets=targets, convert=f.fill_columns)
        wanted = f.forward(brick(f, whole))
        assert np.abs(spectrum - wanted).max(initial=0) < TOLERANCE[dtype] * whole.size
        with pytest.raises(ValueError, match="are not of a grid"):
            f.fill_columns(spectrum, None, (len(theirs) + 1, *theirs.shape[1:]))
        f.close()
