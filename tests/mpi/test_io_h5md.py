"""Trajectories written by several ranks together."""

import functools
import hashlib

import h5py
import numpy as np
import pytest

from ostwald.io.h5md import Group, Result, Trajectory
from ostwald.parallel import CollectiveError, World

pytestmark = pytest.mark.mpi
N = 150_000  # more than one chunk per frame
GROUPS = (Group(fields=("position", "velocity", "q6")), Group("marked", ("position",), ids=np.arange(0, N, 977)))


@functools.cache
def by_id(k):
    rng = np.random.default_rng([5, k])
    return {"positions": rng.normal(size=(N, 3)), "velocities": rng.normal(size=(N, 3)), "q6": rng.random((N, 2))}


def mine(world, k):
    """This rank's ids: another random share each frame, and none on the last of several ranks in frame 1."""
    owner = np.random.default_rng([6, k]).integers(0, world.size - (k == 1 and world.size > 1), N)
    ids = np.flatnonzero(owner == world.rank)
    return np.random.default_rng([world.rank, k]).permutation(ids)


def put(trajectory, world, k):
    ids = mine(world, k)
    trajectory.append(k, 0.1 * k, np.eye(3) * 9, np.zeros(3), ids, **{n: a[ids] for n, a in by_id(k).items()})


def create(path, world, compression=None):
    ids = mine(world, 0)
    return Trajectory.create(
        path,
        world,
        ids=ids,
        types=(ids % 2).astype(np.int32),
        species=("Cu", "Zr"),
        total=N,
        groups=GROUPS,
        results={"q6": Result((2,), "u")},
        compression=compression,
        level=1 if compression else None,
    )


def check(path, count):
    with h5py.File(path, "r") as file:
        here = file["particles/trajectory"]
        assert here["position/value"].shape == (count, N, 3) and here["q6/value"].shape == (count, N, 2)
        assert here["position/value"].chunks[1] < N
        assert np.array_equal(here["species"][:], np.arange(N) % 2) and np.array_equal(here["id"][:], np.arange(N))
        assert list(here["position/step"]) == list(range(count))
        for k in range(count):
            expected = {name: array.astype(np.float32) for name, array in by_id(k).items()}
            assert np.array_equal(here["position/value"][k], expected["positions"])
            assert np.array_equal(here["velocity/value"][k], expected["velocities"])
            assert np.array_equal(here["q6/value"][k], expected["q6"])
            marked = file["particles/marked/position/value"][k]
            assert np.array_equal(marked, expected["positions"][::977])
        return hashlib.sha256(b"".join(here[f"{n}/value"][:].tobytes() for n in ("position", "velocity"))).hexdigest()


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_ranks_write_one_file(mpi_tmp_path, compression):
    world = World()
    path = mpi_tmp_path / "t.h5"
    with create(path, world, compression) as trajectory:
        for k in range(4):
            put(trajectory, world, k)
    assert len(set(world.allgather(check(path, 4)))) == 1
    world.barrier()
    with Trajectory.resume(path, world, 1) as trajectory:
        assert trajectory.frames == 2
        for k in range(2, 5):
            put(trajectory, world, k)
        trajectory.sync()
    check(path, 5)


def test_a_mistake_on_one_rank_stops_all(mpi_tmp_path):
    world = World()
    path = mpi_tmp_path / "t.h5"
    with create(path, world) as trajectory:
        put(trajectory, world, 0)
        ids = mine(world, 1)
        data = {n: a[ids] for n, a in by_id(1).items()}
        if world.rank == world.size - 1:
            data["q6"] = None
        with pytest.raises(CollectiveError, match="was given no q6"):
            trajectory.append(1, 0.1, np.eye(3), np.zeros(3), ids, **data)
        put(trajectory, world, 1)
    check(path, 2)
