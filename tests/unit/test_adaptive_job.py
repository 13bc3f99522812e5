"""Phase-field runs in steps as long as a tolerance allows: times, columns, restart, what is refused, what `check` tells."""

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.io.checkpoint import list_checkpoints, read_checkpoint
from ostwald.io.fields import field_frames, open_field
from ostwald.io.timeseries import read_series
from ostwald.parallel import World

JOB = """
[job]
kind = "phasefield"
seed = 3
[grid]
shape = [48, 40]
[model]
epsilon = 3.0
[initial]
kind = "uniform"
mean = 0.5
amplitude = 0.1
[[stage]]
timestep = 0.01
steps = 10
[[stage]]
time = 3.0
tolerance = 0.01
[[stage]]
time = 5.0
tolerance = 0.02
longest = 0.5
[series]
every = 1
[fields]
times = [0.5, 2.0]
precision = "double"
[checkpoint]
every = 40
[log]
every = 1000
"""


@pytest.mark.parametrize("method", ["spectral", "petsc"])
def test_times_are_met_and_a_run_resumes_bit_for_bit(tmp_path, method):
    if method == "petsc":
        pytest.importorskip("petsc4py")
    (tmp_path / "run.toml").write_text(JOB.replace("[[stage]]", f'[solver]\nmethod = "{method}"\n[[stage]]', 1))
    where = tmp_path / "out"
    assert main(["run", str(tmp_path / "run.toml"), "--directory", str(where)]) == 0
    series = read_series(where / "series.h5")
    time, dt, energy = series["time"], series["timestep"], series["energy"]
    assert time[-1] == pytest.approx(8.1, abs=1e-12) and {0.5, 2.0} <= set(time)
    assert np.nanmax(dt) <= 0.5 and np.allclose(np.diff(time)[:-1], dt[1:-1], rtol=1e-9)
    assert (np.diff(energy) <= 1e-10 * energy[0]).all() and len(time) < 400
    _, times = field_frames(where / "fields.h5")
    assert list(times) == pytest.approx([0.0, 0.5, 2.0, 8.1])
    whole = open_field(where / "fields.h5")[:]
    checkpoints = list_checkpoints(where / "checkpoints")
    assert len(checkpoints) > 1
    max(checkpoints, key=lambda info: info.step).path.unlink()
    assert read_checkpoint(where / "checkpoints", World()).meta["time"] < 8.0
    assert main(["resume", str(where)]) == 0
    again = read_series(where / "series.h5")
    for name in ("time", "timestep", "energy", "error"):
        assert np.array_equal(series[name], again[name], equal_nan=True), name
    assert np.array_equal(open_field(where / "fields.h5")[:], whole)
    assert main(["resume", str(where)]) == 0  # nothing is left


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("timestep = 0.01\n", "", "[stage 1] timestep: is required without a tolerance"),
        (
            "timestep = 0.01\n",
            "timestep = 0.01\nlongest = 1.0\n",
            "[stage 1] longest: has no effect without a tolerance",
        ),
        ("time = 3.0", "steps = 3", "[stage 2] time: is required with a tolerance"),
        ("longest = 0.5", "longest = 0.5\nshortest = 1.0", "[stage 3] longest: must not be below shortest"),
        (
            "longest = 0.5",
            "longest = 0.5\ntimestep = 1.0",
            "[stage 3] longest: must not be below timestep (1), got 0.5",
        ),
        ("tolerance = 0.01", "tolerance = 2.0", "[stage 2] tolerance: must be at most 1"),
        ("[[stage]]\ntimestep", "[solver]\norder = 1\n[[stage]]\ntimestep", "needs steps of second order"),
        (
            "epsilon = 3.0",
            'epsilon = 3.0\n[solver]\nmethod = "finite-difference"',
            "tolerance: needs steps of second order, 'finite-difference' has none",
        ),
        ("epsilon = 3.0", 'epsilon = 3.0\nequation = "allen-cahn"', "for the spectral Cahn–Hilliard equation"),
        ("epsilon = 3.0", "epsilon = 3.0\n[noise]\ntemperature = 0.1", "steps of second order take no noise"),
    ],
)
def test_mistakes(tmp_path, capsys, old, new, words):
    assert old in JOB
    (tmp_path / "run.toml").write_text(JOB.replace(old, new, 1))
    assert main(["run", str(tmp_path / "run.toml")]) != 0
    assert words in capsys.readouterr().err


def test_check_tells_memory(tmp_path, capsys):
    big = JOB.replace("[48, 40]", "[256, 256, 256]")
    (tmp_path / "second.toml").write_text(big)
    (tmp_path / "first.toml").write_text(big.split("[[stage]]\ntime =")[0] + "[series]\nevery = 10\n")
    told = []
    for name in ("first", "second"):
        assert main(["check", str(tmp_path / f"{name}.toml")]) == 0
        told.append(next(line for line in capsys.readouterr().out.splitlines() if line.startswith("memory")))
    first, second = (float(line.split("about")[1].split()[0]) for line in told)
    spectrum = 256 * 256 * 136 * 16 / 1e6  # MB
    assert second - first == pytest.approx(2 * spectrum, abs=1.0)
