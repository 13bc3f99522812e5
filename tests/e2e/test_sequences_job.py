"""Sets of sequences as their users make them: killed, stopped, continued on other rank counts, always the same set."""

import signal

import numpy as np
import pytest

from ostwald.io.sequences import Sequences

SET = """
[job]
kind = "sequences"
seed = 5
[grid]
shape = [16, 18, 32]
[model]
epsilon = 3.0
[initial]
kind = "perlin"
cells = 4
amplitude = 0.2
[set]
count = 30
frames = 5
interval = 4.0
timestep = 0.02
stride = 2
ranks = {ranks}
[[vary]]
key = "initial.exact_mean"
normal = [0.5, 0.1]
[[vary]]
key = "set.start"
values = [0.0, 16.0]
"""


def contents(directory):
    with Sequences(directory / "sequences.h5") as data:
        assert data.state.tolist() == [1] * 30
        return [data.read(k) for k in range(30)], data.table("energy"), data.table("steps")


def finished(directory):
    try:
        with Sequences(directory / "sequences.h5") as data:
            return int(data.state.sum())
    except Exception:
        return 0  # not there yet


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    from .conftest import Program

    folder = tmp_path_factory.mktemp("whole")
    (folder / "set.toml").write_text(SET.format(ranks=1))
    status, out, err = Program()("run", folder / "set.toml", "-d", folder / "run")
    assert status == 0, out + err
    return contents(folder / "run")


def test_killed_outright_again_and_again(ostwald, run_file, tmp_path, whole):
    """kill -9 of all ranks at some moment, on 3, 2 and 1 ranks: what was finished stays, and the set is bit for bit that of
    an undisturbed run on one rank."""
    path, arguments = tmp_path / "run", ("run", run_file(SET.format(ranks=1)), "-d", tmp_path / "run")
    for ranks, upto in ((3, 4), (2, 11), (1, 17)):
        ostwald.kill_when(lambda upto=upto: finished(path) >= upto, *arguments, ranks=ranks)
        have = finished(path)
        assert upto <= have < 30
        with Sequences(path / "sequences.h5") as data:
            for k in data.numbers():
                assert np.array_equal(data.read(k), whole[0][k])
        status, out, _ = ostwald("info", path)
        assert status == 0 and f"{have} finished" in out
        arguments = ("resume", path)
    status, out, err = ostwald("report", path)
    assert status == 0 and f"{have} of 30" in (path / "report.html").read_text(), err
    status, out, err = ostwald("resume", path, ranks=3)
    assert status == 0 and f"{30 - have} of 30 sequences are to be made" in out, out + err
    fields, energy, steps = contents(path)
    assert all(np.array_equal(a, b) for a, b in zip(fields, whole[0]))
    assert np.array_equal(energy, whole[1]) and np.array_equal(steps, whole[2])


def test_a_signal_and_the_wall_time_ask_to_be_resumed(ostwald, run_file, tmp_path, whole):
    path = tmp_path / "run"
    status, out, err = ostwald.kill_when(
        lambda: finished(path) >= 3, "run", run_file(SET.format(ranks=1)), "-d", path, ranks=2, number=signal.SIGUSR1
    )
    assert status == 85 and "SIGUSR1" in out and f"resume {path}" in out, out + err
    assert 3 <= finished(path) < 30
    status, out, err = ostwald("resume", path, "--walltime", "0.1s")
    assert status == 85 and "wall-time" in out, out + err
    assert ostwald("resume", path)[0] == 0
    assert all(np.array_equal(a, b) for a, b in zip(contents(path)[0], whole[0]))


def test_a_set_resumed_on_fewer_ranks_than_a_sequence_wants_says_so(ostwald, run_file, tmp_path):
    text = SET.replace("count = 30", "count = 2").replace("interval = 4.0", "interval = 0.2").replace("16.0", "0.1")
    status, out, err = ostwald("run", run_file(text.format(ranks=3)), "-d", tmp_path / "never", ranks=2)
    said = [line for line in err.splitlines() if line.startswith("ostwald:")]
    assert (
        status == 1 and len(said) == 1 and "[set] ranks: 3 are to work on one sequence, but there are 2" in said[0]
    ), err
    assert not (tmp_path / "never").exists() and "Traceback" not in err
    path = tmp_path / "run"
    file = run_file(text.format(ranks=2).replace("seed = 5", 'seed = 5\nwalltime = "0.1s"'))
    assert ostwald("run", file, "-d", path, ranks=2)[0] == 85
    status, out, err = ostwald("resume", path, "--walltime", "1h")
    assert status == 0 and "[set] ranks is 2, there are 1: all work on each sequence" in err, out + err
    with Sequences(path / "sequences.h5") as data:
        assert data.state.tolist() == [1, 1]


def test_several_ranks_on_each_sequence(ostwald, run_file, tmp_path):
    """Two groups, of two ranks and of three: the same to rounding."""
    text = SET.replace("count = 30", "count = 4").replace("interval = 4.0", "interval = 0.2").replace("16.0", "0.1")
    found = []
    for ranks, together in ((1, 1), (5, 2)):
        path = tmp_path / f"{ranks}"
        status, out, err = ostwald("run", run_file(text.format(ranks=together)), "-d", path, ranks=ranks)
        assert status == 0, out + err
        with Sequences(path / "sequences.h5") as data:
            assert data.state.tolist() == [1] * 4
            found.append(([data.read(k) for k in range(4)], data.table("energy")))
    (one, alone), (many, shared) = found
    assert max(np.abs(a - b).max() for a, b in zip(one, many)) < 1e-6 and np.allclose(alone, shared, rtol=1e-9)
    assert not np.array_equal(alone, shared)  # other sums: they did work together
