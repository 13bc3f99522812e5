"""A world of one rank: threads, log, timers; bricks and wrapping where rounding matters."""

import io

import numpy as np
import pytest

from ostwald.parallel import Bricks, CollectiveError, World, choose_grid, migrate, require_one_mpi


def test_threads(monkeypatch, capsys):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert World().threads == 1
    assert World(threads="auto").threads == 4
    assert World(threads=3).threads == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert World().threads == 4
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert World().threads == 1  # not asked for by this run: not done
    assert "OMP_NUM_THREADS asks for more threads" in capsys.readouterr().err
    assert World(threads=5).threads == 5  # asked for: done, and said
    assert "1 ranks x 5 threads share 4 cores" in capsys.readouterr().err
    with pytest.raises(ValueError, match="at least 1"):
        World(threads=0)
    world = World(threads=1)
    assert world.use_threads(4) == world.threads == 4 and capsys.readouterr().err == ""
    assert world.use_threads(6) == world.threads == 6
    assert "1 ranks x 6 threads share 4 cores" in capsys.readouterr().err


def test_log_goes_to_screen_and_files(world, capsys):
    world.log.files.append(io.StringIO())
    world.log("one", 2)
    world.log.warning("careful")
    world.log.warning("careful")
    out, err = capsys.readouterr()
    assert out == "one 2\n" and err == "WARNING: careful\n"
    assert world.log.files[0].getvalue() == "one 2\nWARNING: careful\n"


def test_nested_sections_count_their_own_time(world):
    timers = world.timers
    timers.clock = iter([0.0, 1.0, 1.5, 4.0, 4.0, 4.25]).__next__
    with timers("force"):
        with timers("halo"):
            pass
    with timers("force"):
        pass
    assert timers.seconds("force") == 1.0 + 2.5 + 0.25 and timers.seconds("halo") == 0.5
    assert timers.seconds("never") == 0.0
    assert list(timers.report()) == ["force", "halo"]
    other = type(timers)(world)
    other.add(timers)
    other.add(timers)
    assert other.seconds("force") == 2 * 3.75 and other.seconds("halo") == 1.0


def test_a_launcher_of_another_mpi_is_noticed(world, monkeypatch):
    require_one_mpi(world)
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
    with pytest.raises(CollectiveError, match="started 4 processes, but mpi4py sees one rank"):
        require_one_mpi(world)


@pytest.mark.parametrize(
    ("ranks", "lengths", "periodic", "grid"),
    [
        (8, (1, 1, 1), (True,) * 3, (2, 2, 2)),
        (7, (1, 1, 1), (True,) * 3, (7, 1, 1)),
        (4, (40, 40, 5), (True,) * 3, (2, 2, 1)),
        (6, (10, 30, 20), (True,) * 3, (1, 3, 2)),
        (4, (10, 10, 60), (True,) * 3, (1, 1, 4)),
        (12, (1, 1, 1), (True,) * 3, (3, 2, 2)),
    ],
)
def test_least_surface(ranks, lengths, periodic, grid):
    assert choose_grid(ranks, lengths, periodic) == grid


@pytest.mark.parametrize(
    "value", [-1e-18, -1e-17, 0.0, 1.0, 1 - 1e-16, 1 + 1e-16, -1e-9, 3.999999999999999999, -2.0, 7.5]
)
@pytest.mark.parametrize("skewed", [False, True])
def test_wrapped_is_below_one_and_stays(world, value, skewed):
    matrix = np.diag([7.3, 7.3, 7.3])
    if skewed:
        matrix = np.array([[7.3, 0.1, 0.0], [2.1, 6.6, -0.4], [-1.7, 0.9, 8.2]])
    bricks = Bricks(world, (True,) * 3)
    start = np.array([[value, 0.5, value]]) @ matrix
    rows = {"positions": start.copy(), "images": np.zeros((1, 3), np.int32)}
    rows = migrate(world, bricks, matrix, np.zeros(3), rows)
    first = rows["positions"].copy(), rows["images"].copy()
    s = rows["positions"] @ np.linalg.inv(matrix)
    assert (s > -1e-15).all() and (s < 1 + 1e-15).all()
    if not skewed:
        assert (rows["positions"] >= 0).all() and (rows["positions"] <= 7.3).all()
    assert np.allclose(rows["positions"] + rows["images"] @ matrix, start, rtol=0, atol=1e-13)
    rows = migrate(world, bricks, matrix, np.zeros(3), rows)
    assert np.array_equal(rows["positions"], first[0]) and np.array_equal(rows["images"], first[1])
