"""Implicit steps and functions of the Laplacian on any number of ranks."""

import numpy as np
import pytest

from ostwald.app.phasefield import Implicit, double_well
from ostwald.parallel import Diagonal, Parts, World

pytestmark = pytest.mark.mpi


def grids(world, axes):
    return [(world.size // p, p) for p in range(1, world.size + 1) if world.size % p == 0 and (axes == 3 or p == 1)]


@pytest.mark.parametrize("shape", [(8, 9, 7), (12, 10)])
def test_functions_of_the_laplacian(world, shape):
    kinds, spacing = ("periodic", "mirror", "periodic"), (0.9, 1.1, 1.3)[: len(shape)]
    field = np.random.default_rng(1).normal(size=shape)
    for boundaries in (kinds[: len(shape)], ("mirror",) * len(shape)):
        applied = -sum(difference(field, a, h, kind) for a, (h, kind) in enumerate(zip(spacing, boundaries)))
        for ranks in grids(world, len(shape)):
            parts = Parts(world, shape, ranks)
            diagonal = Diagonal(parts, spacing, boundaries)
            brick = np.ascontiguousarray(parts.brick(field))
            assert np.abs(diagonal.apply(brick, lambda q2: q2) - parts.brick(applied)).max() < 1e-12
            back = diagonal.apply(diagonal.apply(brick, lambda q2: 1 / (1 + q2)), lambda q2: 1 + q2)
            assert np.abs(back - brick).max() < 1e-12


def difference(a, axis, h, kind):
    around = [(0, 0)] * a.ndim
    around[axis] = 1, 1
    p = np.moveaxis(np.pad(a, around, "wrap" if kind == "periodic" else "symmetric"), axis, 0)
    return np.moveaxis(p[:-2] - 2 * p[1:-1] + p[2:], 0, axis) / h**2


@pytest.mark.parametrize("shape", [(12, 9, 8), (24, 18)])
def test_ranks_change_nothing(world, shape):
    from mpi4py import MPI

    phi = 0.5 + 0.1 * np.random.default_rng(3).normal(size=shape)

    def make(world, ranks=None):
        mobility = (0.2, 2.0, -2.0)
        return Implicit(world, shape, double_well(3.0), 3.0, mobility, boundaries="mirror", ranks=ranks)

    one = make(World(MPI.COMM_SELF))
    one.set_field(phi)
    one.step(0.05, 3)
    for ranks in grids(world, len(shape)):
        many = make(world, ranks)
        many.set_field(many.parts.brick(phi))
        many.step(0.05, 3)
        assert world.allreduce(float(np.abs(many.field() - many.parts.brick(one.field())).max()), "max") < 1e-8
        assert many.measure()["mean"] == pytest.approx(phi.mean(), abs=1e-13)
        many.close()
    one.close()
