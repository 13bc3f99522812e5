"""From a teacher to molecular dynamics as its users do it: label, train, run; and training under horovodrun."""

import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from ostwald.io.timeseries import read_series

LABEL = """
[job]
kind = "label"
seed = 2
[teacher]
file = "zhou:Ni"
[[set]]
name = "volume"
kind = "strained"
lattice = "fcc"
a = 3.52
species = ["Ni"]
strain = 0.05
count = 11
[[set]]
name = "rattled"
kind = "rattled"
lattice = "fcc"
a = 3.52
species = ["Ni"]
cells = [2, 2, 2]
volume = [0.92, 1.08]
rattle = 0.12
strain = 0.03
count = 24
[[set]]
name = "hot"
kind = "snapshots"
lattice = "fcc"
a = 3.55
species = ["Ni"]
cells = [2, 2, 2]
temperature = 1200
time = 0.3
snapshots = 4
count = 3
"""
TRAIN = """
[job]
kind = "train"
[data]
file = "runs/label/labelled.dataset"
fraction = 0.2
[[radial]]
cutoff = 5.5
centred = 1
shifted = 6
first = 2.0
[[angular]]
cutoff = 4.5
narrow = false
zetas = [1, 2]
shifted = 3
first = 2.0
[network]
nodes = [8, 8]
precision = "single"
[optimiser]
"""
MD = """
[job]
kind = "md"
seed = 5
[structure]
lattice = "fcc"
a = 3.54
species = ["Ni"]
cells = [4, 4, 4]
[potential]
file = "runs/train/potential"
[[stage]]
ensemble = "nve"
velocities = 1200.0
timestep = 0.002
steps = 400
[series]
every = 10
[trajectory]
every = 400
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, ostwald):
    """A folder with the labels of Zhou's nickel, in runs/label."""
    folder = tmp_path_factory.mktemp("nickel")
    (folder / "label.toml").write_text(LABEL)
    status, out, err = ostwald("run", folder / "label.toml")
    assert status == 0, out + err
    return folder


def test_from_a_teacher_to_molecular_dynamics(ostwald, labelled):
    for name, text in (("train", TRAIN + "epochs = 50\n"), ("md", MD)):
        (labelled / f"{name}.toml").write_text(text)
        status, out, err = ostwald("run", labelled / f"{name}.toml")
        assert status == 0, out + err
    errors = json.loads((labelled / "runs/train/errors.json").read_text())["validation"]["all"]
    assert errors["energy"]["rmse"] < 1.0 and errors["force"]["rmse"] < 0.05

    rows = read_series(labelled / "runs/md/series.h5")
    atoms = 4 * 4**3
    assert np.ptp(rows["potential_energy"]) > 0.03 * atoms  # from rest into motion
    total = rows["potential_energy"] + rows["kinetic_energy"]
    assert np.ptp(total) < 2e-4 * atoms
    assert abs(np.polyfit(rows["time"], total, 1)[0]) < 1e-4 * atoms  # eV/ps

    # the teacher agrees with what the net found on its way
    from ase.io import read

    from ostwald.app.potentials import load

    status, out, err = ostwald("convert", labelled / "runs/md", labelled / "last.extxyz", "--index=-1")
    assert status == 0, out + err
    last = read(labelled / "last.extxyz")
    forces = []
    for potential in ("zhou:Ni", labelled / "runs/train/potential"):
        last.calc = load(potential).ase()
        forces.append(last.get_forces())
    assert np.sqrt(np.mean((forces[1] - forces[0]) ** 2)) < 0.05 < 0.2 * np.sqrt(np.mean(forces[0] ** 2))


ADAM = TRAIN + 'kind = "adam"\nepochs = 6\nbatch = 4\nclip = 10.0\naverage = 0.9\n'


@pytest.fixture(scope="module")
def curve(labelled, ostwald):
    """The series of a training by adam on one rank."""
    (labelled / "alone.toml").write_text(ADAM)
    status, out, err = ostwald("run", labelled / "alone.toml")
    assert status == 0, out + err
    return read_series(labelled / "runs/alone/series.h5")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_ended_goes_on_as_if_it_had_not(ostwald, labelled, curve, number):
    """Killed, or told to stop, which leaves a checkpoint and asks to be resumed."""
    path, where = labelled / f"{number.name}.toml", labelled / f"runs/{number.name}"
    path.write_text(ADAM + "[checkpoint]\nevery = 10\n" if number == signal.SIGKILL else ADAM)
    there = 2 if number == signal.SIGKILL else 1
    status, out, err = ostwald.kill_when(
        lambda: len(list((where / "checkpoints").glob("checkpoint-*.h5"))) >= there, "run", path, number=number
    )
    assert status == (85 if number == signal.SIGTERM else -number), out + err
    status, out, err = ostwald("resume", where)
    assert status == 0 and "resumed at update" in out, out + err
    rows = read_series(where / "series.h5")
    for name in ("step", "loss", "validation_loss", "force_rmse"):
        np.testing.assert_array_equal(rows[name][1:], curve[name][1:])


@pytest.mark.parametrize("ranks", [2, 4])
def test_horovodrun_gives_the_loss_curve_of_one_rank(program, labelled, curve, ranks):
    launcher = Path(sys.executable).with_name("horovodrun")
    if not launcher.exists() or shutil.which("mpirun") is None:
        pytest.skip("needs horovodrun and mpirun")
    path = labelled / f"horovod-{ranks}.toml"
    path.write_text(ADAM + 'communication = "horovod"\n')
    command = program(launcher, "--mpi", "-np", ranks, sys.executable, "-m", "ostwald.app.cli")
    status, out, err = command("run", path)
    assert status == 0, out + err
    assert json.loads((labelled / f"runs/{path.stem}/timing.json").read_text())["ranks"] == ranks
    rows = read_series(labelled / f"runs/{path.stem}/series.h5")
    assert len(rows["loss"]) == 7 and rows["loss"][-1] < 0.8 * rows["loss"][1]
    for name in ("loss", "validation_loss", "force_rmse"):
        np.testing.assert_allclose(rows[name][1:], curve[name][1:], rtol=2e-5)  # single precision
