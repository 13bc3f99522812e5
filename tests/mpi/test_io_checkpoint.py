"""Checkpoints written and read by several ranks."""

import subprocess

import numpy as np
import pytest

from ostwald.io.checkpoint import CheckpointError, list_checkpoints, read_checkpoint, write_checkpoint
from ostwald.parallel import CollectiveError, World

pytestmark = pytest.mark.mpi


def arrays(rank, seed=0):
    n = 100 * rank + 50  # another number of rows on every rank, and unsorted ids
    rng = np.random.default_rng([seed, rank])
    ids = rng.permutation(n) + sum(100 * r + 50 for r in range(rank))
    return {"ids": ids, "x": np.stack([ids, ids * 0.1, rng.random(n)], axis=1), "reference": rng.random((n, 3))}


@pytest.fixture
def directory(mpi_tmp_path):
    return mpi_tmp_path


def test_same_ranks_bitwise(directory):
    world = World()
    for step in (1, 2, 3):
        write_checkpoint(directory, world, arrays(world.rank, step), {"time": 0.1 * step}, step)
    found = read_checkpoint(directory, world)
    assert found.step == 3 and found.same_ranks and found.ranks == world.size and found.meta == {"time": 0.1 * 3}
    for name, array in arrays(world.rank, 3).items():
        assert np.array_equal(found.arrays[name], array) and found.arrays[name].dtype == array.dtype
    assert [i.step for i in list_checkpoints(directory)] == [2, 3]


def test_other_rank_count(directory):
    world = World()
    write_checkpoint(directory, world, arrays(world.rank), {}, 1)
    sub = world.split(int(world.rank == 0))  # one rank alone, and the rest
    found = read_checkpoint(directory, sub)
    assert found.same_ranks == (sub.size == world.size)
    rows = found.arrays["ids"]
    total = sum(100 * r + 50 for r in range(world.size))
    assert abs(len(rows) - total / sub.size) < 1 or sub.size == world.size
    assert np.array_equal(np.sort(np.concatenate(sub.allgather(rows))), np.arange(total))
    assert np.array_equal(found.arrays["x"][:, 0], rows)  # rows of different arrays stay together


def test_damage_on_one_rank_is_everybodys(directory):
    world = World()
    write_checkpoint(directory, world, arrays(world.rank, 1), {}, 1)
    path = write_checkpoint(directory, world, arrays(world.rank, 2), {}, 2)
    if world.root:
        import h5py

        with h5py.File(path, "r") as file:
            offset = (
                file["data/x"].id.get_offset() + file["data/x"].id.get_storage_size() - 5
            )  # in the last rank's part
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))
    world.barrier()
    found = read_checkpoint(directory, world)
    assert found.step == 1 and f"x is damaged (checksum of rank {world.size - 1})" in found.messages[0]
    assert np.array_equal(found.arrays["x"], arrays(world.rank, 1)["x"])
    with pytest.raises(CheckpointError, match="x is damaged"):
        read_checkpoint(directory, world, path)


def test_ranks_that_differ(directory):
    world = World()
    data = arrays(world.rank)
    if world.rank == world.size - 1 and world.size > 1:
        data["x"] = data["x"].astype(np.float32)
        with pytest.raises(CollectiveError, match="gives other arrays"):
            write_checkpoint(directory, world, data, {}, 1)
    elif world.size > 1:
        with pytest.raises(CollectiveError, match="gives other arrays"):
            write_checkpoint(directory, world, data, {}, 1)
    world.barrier()
    assert not list(directory.iterdir())


def test_full_disk(directory, monkeypatch):
    """The disk fills while the ranks write: one sentence on every rank, the older checkpoint stays, no rank hangs."""
    world = World()
    code = 1
    if world.root:
        code = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True
        ).returncode
    if world.bcast(code):
        pytest.skip("a small tmpfs cannot be mounted here")
    try:
        write_checkpoint(directory, world, arrays(world.rank), {}, 1)
        big = {"x": np.zeros((400_000 // world.size, 3))}
        with pytest.raises(CollectiveError, match="the checkpoint was not written: No space left on device"):
            write_checkpoint(directory, world, big, {}, 2)
        # the free space looked sufficient at first, and was taken by somebody else meanwhile
        import ostwald.io.checkpoint as module

        monkeypatch.setattr(module.os, "statvfs", lambda _: type("Disk", (), {"f_bavail": 1 << 40, "f_frsize": 4096}))
        with pytest.raises(CollectiveError, match="the checkpoint was not written: No space left on device"):
            write_checkpoint(directory, world, big, {}, 2)
        world.barrier()
        assert [p.name for p in directory.iterdir()] == ["checkpoint-000000000001.h5"]
        assert np.array_equal(read_checkpoint(directory, world).arrays["x"], arrays(world.rank)["x"])
    finally:
        world.barrier()
        if world.root:
            subprocess.run(["umount", "-l", directory], check=True)
