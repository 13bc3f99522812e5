"""What a failing rank leaves behind: one message, a status, and no rank that waits for ever."""

import signal

import pytest

PROLOGUE = """
import os, sys, time
from ostwald.parallel import CollectiveError, World, run_collectively
"""
SPEAKS_ALONE = "ostwald: rank 2 of 4: the disk of rank 2 is full"


@pytest.fixture
def run(program, tmp_path):
    def start(body, ranks=4, **more):
        path = tmp_path / "program.py"
        path.write_text(PROLOGUE + body + "\nsys.exit(run_collectively(main))\n")
        return program(path)(ranks=ranks, timeout=60, **more)

    return start


def spoken(err):
    return [line for line in err.splitlines() if line.startswith("ostwald:")]


@pytest.mark.parametrize(
    "others",
    [
        "world.barrier()",
        "world.allreduce(1.0)",
        "world.comm.recv(source=2)",
        "time.sleep(50)",
        "halo.forward_positions(x, np.eye(3))",
        "pass",
    ],
)
def test_one_failing_rank_ends_all(run, others):
    """Whatever the other ranks are in: a collective, a message, their own work, shared memory, or done."""
    status, _, err = run(f"""
import numpy as np
from ostwald.parallel import Bricks, Halo
def main():
    world = World()
    halo = Halo(world, Bricks(world, (True,) * 3))
    s = np.random.default_rng(0).random((400, 3))
    s = s[halo.bricks.owners(s) == world.rank]
    x = np.zeros((len(s) + halo.build(s, np.eye(3), np.zeros(3), 0.3), 3))
    if world.rank == 2:
        raise OSError("the disk of rank 2 is full")
    {others}
""")
    assert status != 0
    assert spoken(err) == [SPEAKS_ALONE]
    assert "Traceback" not in err


def test_two_failing_ranks_speak_once(run):
    status, _, err = run("""
def main():
    world = World()
    if world.rank in (1, 3):
        raise OSError(f"the disk of rank {world.rank} is full")
    world.barrier()
""")
    assert status != 0
    assert spoken(err) == ["ostwald: rank 1 of 4: the disk of rank 1 is full"]


def test_an_error_of_all_ranks_is_said_once_without_a_rank(run):
    status, out, err = run("""
def main():
    world = World()
    print("ending", world.rank, flush=True)
    raise ValueError("run.toml: [md] steps must be positive, not -3")
""")
    assert status == 1
    assert spoken(err) == ["ostwald: run.toml: [md] steps must be positive, not -3"]
    assert "MPI_ABORT" not in out + err and out.count("ending") == 4


def test_an_agreed_error_ends_cleanly(run):
    status, out, err = run("""
def main():
    world = World()
    try:
        world.agree("the disk of rank 2 is full" if world.rank == 2 else None)
    finally:
        print("closed", flush=True)
""")
    assert status == 1
    assert spoken(err) == [SPEAKS_ALONE]
    assert "MPI_ABORT" not in out + err and out.count("closed") == 4


@pytest.mark.parametrize("ranks", [1, 3])
def test_statuses_pass_through(run, ranks):
    assert run("def main():\n    World()\n    return 85", ranks)[0] == 85
    assert run("def main():\n    World()", ranks)[0] == 0
    assert run("def main():\n    World()\n    sys.exit(3)", ranks)[0] == 3
    body = "class Resume(Exception):\n    exit_status = 85\ndef main():\n    World()\n    raise Resume('resume me')"
    status, _, err = run(body, ranks)
    assert status == 85 and len(spoken(err)) == 1


def test_unexpected_errors_say_where_and_debugging_shows_the_traceback(run, monkeypatch):
    body = "def main():\n    World()\n    return 1 / 0"
    _, _, err = run(body, 1)
    assert len(spoken(err)) == 1 and "ZeroDivisionError at program.py:" in err and "Traceback" not in err
    monkeypatch.setenv("OSTWALD_DEBUG", "1")
    _, _, err = run(body, 2)
    assert "Traceback (most recent call last)" in err and spoken(err) == ["ostwald: division by zero"]


def test_without_a_world_mpi_is_not_even_imported(run):
    status, out, _ = run("def main():\n    print('mpi4py' in sys.modules)", 1)
    assert status == 0 and out == "False\n"


def test_crowded_cores_are_said_once(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    _, out, err = run("""
os.sched_getaffinity = lambda pid: {0, 1}
def main():
    world = World(threads=2)
    print(world.threads)
""")
    assert sorted("".join(out.split())) == ["2"] * 4
    assert err.count("4 ranks x 2 threads share 2 cores") == 1


def test_interrupt_ends_all(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        PROLOGUE
        + """
def main():
    world = World()
    world.barrier()
    open(sys.argv[1], "w").close()
    while True:
        world.barrier()
sys.exit(run_collectively(main))
"""
    )
    ready = tmp_path / "ready"
    status, _, _ = program(path).kill_when(ready.exists, ready, ranks=2, number=signal.SIGINT, timeout=60)
    assert status != 0
