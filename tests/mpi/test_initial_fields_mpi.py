"""Initial fields on any number of ranks, in slabs and pencils: the same bits as on one."""

import numpy as np
import pytest

from ostwald.app.phasefield import GaussianNoise, Perlin, PFHub, Spheres, UniformNoise
from ostwald.parallel import Fourier, World

pytestmark = pytest.mark.mpi


def fields(shape):
    yield UniformNoise(shape, seed=1)
    yield GaussianNoise(shape, seed=1)
    yield GaussianNoise(shape, seed=1, correlation=2.0)
    yield Perlin(shape, seed=1, cells=4, octaves=2)
    yield Spheres(shape, 1.0, [[3.0] * len(shape), [12.0] * len(shape)], 4.0)
    if len(shape) == 2:
        yield PFHub(shape)


@pytest.mark.parametrize("shape", [(20, 18, 64), (36, 50)])
def test_ranks_change_nothing(world, shape):
    from mpi4py import MPI

    alone = Fourier(World(MPI.COMM_SELF), shape)
    for field in fields(shape):
        everything = field.box((0,) * len(shape), shape)
        wanted = field.with_mean(0.3, alone).box((0,) * len(shape), shape)
        for p1 in range(1, world.size + 1 if len(shape) == 3 else 2):
            if world.size % p1:
                continue
            fourier = Fourier(world, shape, ranks=(world.size // p1, p1))
            part = tuple(slice(a, b) for a, b in zip(fourier.lo, fourier.hi))
            for given, expected in ((field, everything), (field.with_mean(0.3, fourier), wanted)):
                source = given.source(fourier)
                planes = [source(i, min(i + 3, fourier.local[0])) for i in range(0, fourier.local[0], 3)]
                assert np.array_equal(np.concatenate(planes), expected[part]), (field, p1)
            fourier.close()
