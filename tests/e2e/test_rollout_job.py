"""The roll-out job as it is used: on ranks, killed, resumed on another number of them."""

import h5py
import numpy as np

from ostwald.app.surrogate.architecture import Architecture
from ostwald.app.surrogate.model import Surrogate
from ostwald.io.checkpoint import list_checkpoints
from ostwald.io.timeseries import read_series

JOB = """
[job]
kind = "rollout"
[surrogate]
file = "network.ostwald"
precision = "bfloat16"
[grid]
shape = [16, 14, 24]
[model]
epsilon = 3.0
[initial]
kind = "perlin"
cells = 2
[[stage]]
steps = 1200
[series]
every = 100
[fields]
every = 100
[checkpoint]
every = 60
"""


def arrays_of(directory):
    with h5py.File(list_checkpoints(directory / "checkpoints")[-1].path) as file:
        return {name: file["data"][name][()] for name in file["data"]}


def test_killed_on_two_ranks_and_resumed_on_one(ostwald, run_file, tmp_path):
    architecture = Architecture(3, 2, 6, 3)
    rng = np.random.default_rng(1)
    arrays = {name: rng.normal(0, 0.05, shape) for name, shape in architecture.shapes().items()}
    Surrogate(architecture, arrays, 0.5, (2.0, 2.0, 2.0), "nearest").save(tmp_path / "network.ostwald")
    file, whole, part = run_file(JOB), tmp_path / "whole", tmp_path / "part"
    status, out, err = ostwald("run", file, "-d", whole)
    assert status == 0, out + err
    assert "Ostwald roll-out" in out and "point-steps/s" in out

    def far_enough():
        return len(found := list_checkpoints(part / "checkpoints")) > 1 and found[-1].step >= 100

    ostwald.kill_when(far_enough, "run", file, "-d", part, ranks=2)
    assert list_checkpoints(part / "checkpoints")[-1].step < 1200
    status, out, err = ostwald("resume", part)
    assert status == 0, out + err
    assert "written by 2 ranks" in out
    one, two = arrays_of(whole), arrays_of(part)
    assert len(one) == 13 and all(np.array_equal(one[name], two[name]) for name in one)
    rows, again = (read_series(path / "series.h5") for path in (whole, part))
    assert rows["step"].tolist() == again["step"].tolist() == list(range(0, 1201, 100))
    np.testing.assert_allclose(again["energy"], rows["energy"], rtol=1e-12)
    assert np.ptp(rows["mean"]) < 1e-14 and np.ptp(rows["energy"]) > 0
