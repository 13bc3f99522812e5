"""Work that ranks take when they are free."""

import time

import pytest

from ostwald.parallel import WorkQueue

pytestmark = pytest.mark.mpi


def work(queue, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        queue.progress()
        time.sleep(0.001)


def test_every_number_is_taken_once_by_whoever_is_free(world):
    queue, mine = WorkQueue(world, 40), []
    while (number := queue.take()) is not None:
        mine.append(number)
        work(queue, 0.05 if world.root else 0.001)
    assert queue.take() is None
    while not queue.everybody_done():
        time.sleep(0.001)
    queue.close()
    assert mine == sorted(mine)
    everyone = world.allgather(mine)
    assert sorted(number for some in everyone for number in some) == list(range(40))
    if world.size > 1:
        assert len(everyone[0]) < 40 / world.size  # the slow one took fewer


def test_nobody_is_done_before_all_are(world):
    queue = WorkQueue(world, 0)
    assert queue.take() is None
    if world.root and world.size > 1:
        work(queue, 0.2)
    begun = time.monotonic()
    while not queue.everybody_done():
        time.sleep(0.001)
    waited = world.allgather(time.monotonic() - begun)
    assert world.size == 1 or min(waited[1:]) > 0.1
    queue.close()
