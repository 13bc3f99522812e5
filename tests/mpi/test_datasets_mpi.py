"""A data set written by several ranks is that of one."""

import numpy as np
import pytest

from ostwald.io.datasets import COLUMNS, DataSetError, LabelledStructure, open_dataset, write_dataset
from ostwald.parallel import CollectiveError

pytestmark = pytest.mark.mpi


def structure(k):
    rng = np.random.default_rng(k)
    n = 1 + k % 4
    return LabelledStructure(
        rng.random((n, 3)), np.full(n, 13), np.eye(3), energy=k, forces=rng.random((n, 3)), group=f"g{k % 3}"
    )


def test_ranks_write_one_set(world, mpi_tmp_path):
    mine = [structure(k) for k in range(10) if k % world.size == world.rank]
    if world.rank == world.size - 1 and world.size > 2:
        mine = []  # a rank without structures
    path, single = mpi_tmp_path / "set.h5", mpi_tmp_path / "single.h5"
    write_dataset(path, mine, world, {"ranks": world.size})
    everyone = [s for part in world.allgather(mine) for s in part]
    if world.root:
        write_dataset(single, everyone, provenance={"ranks": world.size})
    world.barrier()
    a, b = open_dataset(path), open_dataset(single)
    assert a.digest() == b.digest() and a.groups == b.groups and a.provenance == {"ranks": world.size}
    shard = a.shard(world.rank, world.size)
    assert world.allreduce(len(shard)) == len(a) == len(everyone)
    for name in COLUMNS:
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name in ("energy", "forces", "stress"))


def test_a_failing_rank_is_everybodys(world, mpi_tmp_path):
    def mine():
        yield structure(world.rank)
        if world.rank == world.size - 1:
            raise ValueError("the source ended")

    with pytest.raises((CollectiveError, DataSetError), match="the source ended"):
        write_dataset(mpi_tmp_path / "set.h5", mine(), world)
    world.barrier()
    assert not list(mpi_tmp_path.iterdir())
