"""The world: collectives, blocks by id, random numbers, errors that all ranks share."""

import os

import numpy as np
import pytest

from ostwald.parallel import (
    Blocks,
    CollectiveError,
    block_range,
    from_blocks,
    philox_generator,
    philox_normal,
    require_one_mpi,
    to_blocks,
)

pytestmark = pytest.mark.mpi


def test_collectives_keep_kinds(world):
    ranks = range(world.size)
    assert world.allreduce(world.rank) == sum(ranks) and type(world.allreduce(1)) is int
    assert world.allreduce(0.5 + world.rank, "max") == world.size - 0.5
    assert type(world.allreduce(np.float64(1))) is float and type(world.allreduce(np.int32(1))) is int
    array = world.allreduce(np.array([[world.rank, -world.rank]], np.int32), "min")
    assert array.dtype == np.int32 and array.tolist() == [[0, 1 - world.size]]
    assert world.allgather(str(world.rank)) == [str(r) for r in ranks]
    assert world.gather(world.rank) == (list(ranks) if world.root else None)
    assert world.bcast({"from": world.rank}) == {"from": 0}
    with pytest.raises(TypeError, match="str"):
        world.allreduce("1")


def test_split(world):
    half = world.split(world.rank % 2)
    assert half.size == len(range(world.rank % 2, world.size, 2))
    assert half.allreduce(world.rank) == sum(range(world.rank % 2, world.size, 2))


def test_agree(world):
    world.agree(None)
    with pytest.raises(CollectiveError, match=f"disk of {world.size - 1} is full") as caught:
        world.agree(OSError(f"disk of {world.rank} is full") if world.rank == world.size - 1 else None)
    assert caught.value.rank == world.size - 1
    with pytest.raises(CollectiveError, match="error of 0"):
        world.agree(f"error of {world.rank}")


def test_description_counts_ranks_and_threads(world):
    text = world.describe()
    assert len(set(world.allgather(text))) == 1
    assert f"{world.size} rank" in text and f"{world.threads} thread" in text
    assert all(f"{core}" in text for core in sorted(os.sched_getaffinity(0))[:1])


def test_one_mpi_here(world):
    require_one_mpi(world)


def test_timers_over_ranks(world):
    with world.timers("outer"), world.timers("inner"):
        pass
    if world.root:
        with world.timers("root only"):
            pass
    report = world.timers.report()
    assert set(report) == {"outer", "inner", "root only"}
    for low, mean, high in report.values():
        assert 0 <= low <= mean <= high
    assert (report["root only"][0] == 0) == (world.size > 1)


@pytest.mark.parametrize("total", [0, 1, 3, 1000])
def test_blocks(world, total):
    rng = np.random.default_rng(total)
    owner, order = rng.integers(0, world.size, total), rng.permutation(total)
    ids = order[owner[order] == world.rank]
    values = {
        "f8": rng.random((total, 3)),
        "u1": rng.integers(0, 255, total).astype("u1"),
        "i4": np.arange(2 * total, dtype="i4").reshape(total, 2, 1),
    }
    plan = Blocks(world, ids, total)
    for value in values.values():
        block, lo, hi = to_blocks(world, ids, value[ids], total)
        assert (lo, hi) == block_range(total, world.rank, world.size)
        assert block.dtype == value.dtype and np.array_equal(block, value[lo:hi])
        assert np.array_equal(from_blocks(world, ids, block, total), value[ids])
        assert np.array_equal(plan.to_blocks(value[ids]), block)
        assert np.array_equal(plan.from_blocks(value[lo:hi]), value[ids])


def test_blocks_want_every_id_once(world):
    ids = np.arange(10)[np.arange(10) % world.size == world.rank]
    twice = np.where(ids == 9, 8, ids)
    with pytest.raises(CollectiveError, match="id 8 occurs 2 times"):
        to_blocks(world, twice, twice, 10)
    with pytest.raises(CollectiveError, match="id 10 is missing"):
        to_blocks(world, ids, ids, 11)
    with pytest.raises(CollectiveError, match=r"outside 0 \.\.\. 8"):
        to_blocks(world, ids, ids, 9)


def test_random_numbers_do_not_know_ranks(world):
    """Any share of the ids, in any order and at any place of the array, gives each id its own numbers."""
    ids = np.arange(1001)
    whole = philox_normal(5, "velocities", ids, 7, 3)
    mine = np.random.default_rng(world.rank).permutation(ids[world.rank :: world.size])
    assert np.array_equal(philox_normal(5, "velocities", mine, 7, 3), whole[mine])
    assert len(set(world.allgather(philox_generator(5, "bath", 3).normal()))) == 1


def test_the_ranks_of_a_node_are_numbered(world):
    places = world.allgather((world.hostname, world.node_rank, world.node_ranks))
    mine = [rank for host, rank, _ in places if host == world.hostname]
    assert mine == list(range(world.node_ranks))
