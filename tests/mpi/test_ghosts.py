"""Ghost layers of any width, in any channels, on any parts: what the whole grid has there."""

import itertools

import numpy as np
import pytest

from ostwald.parallel import Ghosts, Parts, World

pytestmark = pytest.mark.mpi

MODES = {"periodic": "wrap", "mirror": "symmetric"}


def grids(world, three):
    return [(world.size // p, p) for p in range(1, world.size + 1) if world.size % p == 0 and (three or p == 1)]


@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("shape", [(9, 10, 6), (16, 5, 7), (13, 8)])
def test_ghosts_are_those_of_the_whole_grid(world, shape, channels):
    lead = () if channels is None else (channels,)
    rng = np.random.default_rng(4)
    axes = len(shape)
    kinds = ("periodic", "mirror", "mirror", "periodic", "mirror")
    for width, ranks in itertools.product((0, 1, 10), grids(world, axes == 3)):
        for boundaries in (kinds[width % 3 :][:axes], ("periodic",) * axes):
            parts = Parts(world, shape, ranks)
            ghosts = Ghosts(parts, width, np.float32, channels, boundaries=boundaries)
            whole = rng.normal(size=(*lead, *shape)).astype(np.float32)
            padded = whole
            for axis, kind in enumerate(boundaries):
                around = [(0, 0)] * padded.ndim
                around[axis + len(lead)] = width, width
                padded = np.pad(padded, around, MODES[kind])
            array = ghosts.empty()
            array[:] = np.nan
            ghosts.inner(array)[:] = whole[(..., *(slice(a, b) for a, b in zip(parts.lo, parts.hi)))]
            ghosts.start(array)
            ghosts.finish()
            wanted = padded[(..., *(slice(a, b + 2 * width) for a, b in zip(parts.lo, parts.hi)))]
            same = np.array_equal(array, wanted)
            assert world.allreduce(int(same), "min"), (width, ranks, boundaries)


def test_lines_of_a_given_length_are_left_as_they_are(world):
    parts = Parts(world, (8, 6, 5))
    ghosts = Ghosts(parts, 2, row=8)
    array = ghosts.empty()
    array[:] = -1
    whole = np.arange(240.0).reshape(8, 6, 5)
    ghosts.inner(array)[:] = parts.brick(whole)
    ghosts.exchange(array)
    planes = np.arange(parts.lo[0] - 2, parts.hi[0] + 2) % 8
    lines = np.arange(parts.lo[1] - 2, parts.hi[1] + 2) % 6
    assert np.array_equal(array[..., :5], whole[planes][:, lines]) and (array[..., 5:] == -1).all()


def test_whole_planes_and_back(world):
    whole = np.arange(7 * 5 * 3).reshape(7, 5, 3)
    for ranks in grids(world, True):
        parts = Parts(world, whole.shape, ranks)
        planes = parts.to_planes(parts.brick(whole))
        assert planes.shape == parts.planes_shape
        assert np.array_equal(planes, whole[parts.first_plane : parts.first_plane + len(planes)])
        assert sum(world.allgather(len(planes))) == len(whole)
        assert np.array_equal(parts.from_planes(planes), parts.brick(whole))


def test_what_does_not_fit_is_refused(world):
    alone = World(world.comm.Split(world.rank))
    parts = Parts(alone, (4, 4, 4))
    with pytest.raises(ValueError, match="periodic or mirror"):
        Ghosts(parts, 1, boundaries="open")
    with pytest.raises(ValueError, match="layers"):
        Ghosts(parts, -1)
    ghosts = Ghosts(parts, 1)
    with pytest.raises(ValueError, match="is wanted here"):
        ghosts.start(np.zeros((6, 6, 6), np.float32))
    ghosts.start(ghosts.empty())
    with pytest.raises(RuntimeError, match="under way"):
        ghosts.start(ghosts.empty())
    ghosts.finish()
