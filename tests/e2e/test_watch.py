"""Committees and their disagreement in the molecular-dynamics job, as users run it."""

import json
from dataclasses import replace

import ase.io
import h5py
import numpy as np
import pytest

from ostwald.app.potentials import load, zhou
from ostwald.app.potentials.eam import write_setfl
from ostwald.io.timeseries import read_series

JOB = """
[job]
kind = "md"
seed = 7
[structure]
lattice = "fcc"
a = 3.62
species = ["Cu"]
cells = [4, 4, 4]
rattle = 0.02
[potential]
file = ["a/Cu.eam.alloy", "b/Cu.eam.alloy", "zhou:Cu"]
[[stage]]
ensemble = "nvt"
thermostat = "langevin"
thermostat_time = 0.02
velocities = 300.0
temperature = [300.0, 4000.0]
timestep = 0.002
steps = 200
[series]
every = 10
[trajectory]
every = 50
precision = "double"
deviation = true
[checkpoint]
every = 50
[log]
every = 50
[deviation]
every = 5
warn = 0.05
"""


@pytest.fixture
def members(tmp_path):
    for k, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        table = zhou.tables(("Cu",))
        write_setfl(tmp_path / folder / "Cu.eam.alloy", replace(table, pair=(0.95 + 0.08 * k) * table.pair))
    (tmp_path / "Cu.sw").write_text("Cu Cu Cu 2.1 2.0 1.8 21.0 1.2 -0.3 7.0 0.6 4.0 0.0 0.0\n")
    return [tmp_path / "a/Cu.eam.alloy", tmp_path / "b/Cu.eam.alloy", "zhou:Cu"]


def deviation(atoms, members):
    forces = []
    for path in members:
        atoms.calc = load(path).ase()
        forces.append(atoms.get_forces())
    return np.sqrt(((np.array(forces) - np.mean(forces, 0)) ** 2).sum(2).mean(0))


def test_a_committee_stops_where_it_disagrees(ostwald, run_file, tmp_path, members):
    text = JOB + "dump = 0.1\ndump_limit = 2\nstop = 0.3\n"
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run", ranks=2)
    assert status == 0, out + err
    figures = json.loads((tmp_path / "run/timing.json").read_text())
    worst, step = figures["deviation"]["worst"], figures["total_steps"]
    assert worst["step"] == step < 200 and step % 5 == 0 and worst["value"] > 0.3
    assert f"ended: {figures['ended']}" in out and "[deviation] stop = 0.3" in figures["ended"]
    assert f"atom {worst['atom']} (Cu)" in figures["ended"] and "WARNING: force deviation" in err
    # the members came along, so that the configurations can be looked at where the run directory is
    files = sorted((tmp_path / "run/deviation").iterdir())
    assert len(files) == 2
    kept = [tmp_path / "run" / name for name in ("Cu.eam.alloy", "2-Cu.eam.alloy")]
    for file in files:
        atoms = ase.io.read(file)
        theirs = deviation(atoms.copy(), [*kept, "zhou:Cu"])
        assert np.abs(atoms.arrays["force_deviation"] - theirs).max() < 1e-6
        assert atoms.info["atom"] == atoms.arrays["id"][theirs.argmax()]
    # going on from there is possible, and ends again at the next look
    status, out, err = ostwald("resume", tmp_path / "run")
    again = json.loads((tmp_path / "run/timing.json").read_text())
    assert status == 0 and again["total_steps"] > step and "[deviation] stop = 0.3" in again["ended"], out + err


def test_series_and_trajectory_on_any_ranks_and_through_a_restart(ostwald, run_file, tmp_path, members):
    text = JOB.replace("steps = 200", "steps = 120")
    for ranks in (1, 4):
        status, out, err = ostwald("run", run_file(text), "-d", tmp_path / f"run{ranks}", ranks=ranks)
        assert status == 0, out + err
    a, b = (read_series(tmp_path / f"run{ranks}/series.h5") for ranks in (1, 4))
    assert np.isfinite(a["force_deviation_mean"]).all() and (np.diff(a["force_deviation_max"]) != 0).all()
    for name in ("force_deviation_mean", "force_deviation_max", "force_deviation_atom"):
        assert np.allclose(a[name], b[name], rtol=1e-6), name
    with h5py.File(tmp_path / "run4/trajectory.h5") as f:
        group = f["particles/trajectory"]
        values, positions = group["force_deviation/value"][:], group["position/value"][:]
    atoms = ase.Atoms("Cu256", positions=positions[-1], cell=a["cell"][0].reshape(3, 3), pbc=True)
    assert np.abs(deviation(atoms, members) - values[-1]).max() < 1e-6
    row = a[a["step"] == 100]
    assert values[-1].max() <= row["force_deviation_max"] * (1 + 1e-6)
    # bitwise through a stop that nobody chose
    broken = tmp_path / "broken"
    status, out, err = ostwald.kill_when(
        lambda: (broken / "series.csv").exists() and (broken / "series.csv").read_text().count("\n") > 4,
        "run", run_file(text), "-d", broken, number=10,
    )  # fmt: skip
    assert status == 85, out + err
    status, out, err = ostwald("resume", broken)
    assert status == 0, out + err
    again = read_series(broken / "series.h5")
    for name in ("step", "potential_energy", "force_deviation_mean", "force_deviation_max", "force_deviation_atom"):
        assert np.array_equal(a[name], again[name]), name


@pytest.mark.parametrize(
    "tables, message",
    [
        ('file = ["a/Cu.eam.alloy"]', "an ensemble needs at least two members"),
        ('file = ["a/Cu.eam.alloy", "a/Cu.eam.alloy"]', "is the same potential as"),
        ('file = ["a/Cu.eam.alloy", "Cu.sw"]', "Cu.sw: is of the kind Stillinger-Weber"),
        ('file = ["a/Cu.eam.alloy", "zhou:Ni"]', "zhou:Ni: "),
        ('file = ["a/Cu.eam.alloy", 3]', "[potential] file: must be a non-empty string, got 3"),
        ('file = "zhou:Cu"', "[deviation] every: the potential is not an ensemble"),
        (
            'file = ["a/Cu.eam.alloy", "zhou:Cu"]\n[extrapolation]\nevery = 5',
            "[extrapolation] every: a potential of the kind",
        ),
        ('file = ["a/Cu.eam.alloy", "zhou:Cu"]\n[extrapolation]\nstp = 5', "did you mean 'stop'?"),
    ],
)
def test_mistakes(ostwald, run_file, tmp_path, members, tables, message):
    text = JOB.replace('file = ["a/Cu.eam.alloy", "b/Cu.eam.alloy", "zhou:Cu"]', tables)
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run")
    assert status == 1 and message in err and "Traceback" not in err, out + err
    assert not (tmp_path / "run").exists()
