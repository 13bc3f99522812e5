"""Extrapolation and deviation in the molecular-dynamics job: what is counted, told, written, and when a run ends."""

import json

import ase.io
import h5py
import numpy as np
import pytest
from model_systems import ARGON, SmoothLennardJones, fcc

from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.dynamics.velocities import initialise_velocities
from ostwald.app.jobs import watch
from ostwald.app.jobs.md import MolecularDynamics
from ostwald.app.jobs.md_schema import TABLES
from ostwald.app.potentials import Ensemble
from ostwald.app.potentials.base import Extrapolation, PotentialError
from ostwald.app.runfile import RunFileError, dumps, validate
from ostwald.io.checkpoint import read_checkpoint
from ostwald.io.rundirectory import RunDirectory
from ostwald.io.timeseries import read_series

NARROW = 0.35  # Å, the width of the training range of the nearest distance
"""The nearest distance of the training set lies in [3.6, 3.95], the coordination within 4.5 Å in [10, 13]."""


class Trained(SmoothLennardJones):
    """Lennard-Jones that claims to know nearest distances and coordination numbers of some range only."""

    low, high, few, many = 3.6, 3.6 + NARROW, 10, 13
    watching, list_style = False, "full"

    def watch(self, on=True):
        self.watching, self.extrapolation = on, None

    def function_name(self, type_, function):
        return f"{self.species[type_]} {('nearest distance', 'coordination')[function]}"

    def functions(self, nb):
        """(n, 2) excess of each function."""
        near, count = np.full(nb.nlocal, np.inf), np.zeros(nb.nlocal, int)
        i = np.repeat(np.arange(nb.nlocal), np.diff(nb.offsets))
        r = np.linalg.norm(nb.positions[i] - nb.positions[nb.indices], axis=1)
        np.minimum.at(near, i, r)
        np.add.at(count, i, r < 4.5)
        excess = np.zeros((nb.nlocal, 2))
        excess[:, 0] = np.maximum(self.low - near, near - self.high) / NARROW
        excess[:, 1] = np.maximum(self.few - count, count - self.many) / (self.many - self.few)
        return np.maximum(excess, 0.0)

    def compute(self, nb, forces, **options):
        if self.watching:
            excess = self.functions(nb)
            worst = excess.max(1)
            self.extrapolation = Extrapolation(
                worst.astype(np.float32),
                np.where(worst > 0, excess.argmax(1), -1).astype(np.int16),
                (excess > 0).sum(1).astype(np.int16),
            )
        return super().compute(nb, forces, **options)


def job(world, folder, tables, potential=None, cells=4, steps=60, temperature=150.0, position=None, arrays=None):
    """A job on argon, ready to run; with `position` and `arrays`, that of a checkpoint."""
    potential = potential or Trained()
    raw = dict(
        job=dict(kind="md", seed=3),
        structure=dict(lattice="fcc", a=5.4, species=["Ar"]),
        potential=dict(file="none"),
        stage=[dict(ensemble="nve", timestep=0.005, steps=steps)],
        series=dict(every=5),
        log=dict(every=20),
        checkpoint=dict(every=20),
        **tables,
    )
    values = validate(raw, TABLES, folder / "run.toml")
    watch.complete(values, potential, "run.toml")
    if position is not None:
        directory = RunDirectory.open(folder, world)
        system = System.restore(world, arrays, position["system"], potential, exact=True)
        return MolecularDynamics(world, values, directory, system, position=position["job"])
    directory = RunDirectory.create(folder, world, dumps(values))
    positions, matrix = fcc(cells, 5.4)
    mine = np.arange(len(positions)) % world.size == world.rank
    atoms = Atoms(
        ("Ar",),
        np.array([ARGON]),
        positions[mine],
        np.zeros(mine.sum(), np.int32),
        np.flatnonzero(mine).astype(np.int64),
    )
    system = System(world, Cell(matrix), atoms, potential)
    initialise_velocities(system, temperature, seed=5)
    return MolecularDynamics(world, values, directory, system)


def finish(run):
    status = run.run()
    run.directory.close()
    return status


def brute_force(path):
    """Worst excess of each atom of a configuration, from the distances of its images."""
    atoms = ase.io.read(path)
    d = atoms.get_all_distances(mic=True) + 100 * np.eye(len(atoms))
    excess = np.maximum(np.maximum(Trained.low - d.min(1), d.min(1) - Trained.high) / NARROW, 0)
    count = (d < 4.5).sum(1)
    return atoms, np.maximum(excess, np.maximum(Trained.few - count, count - Trained.many) / 3)


def test_what_is_outside_is_counted_told_and_written(world, tmp_path, capsys):
    tables = dict(
        extrapolation=dict(every=2, dump=0.2, dump_limit=3, dump_every=4),
        trajectory=dict(every=10, precision="double", extrapolation=True),
    )
    assert finish(job(world, tmp_path, tables)) == 0
    text = capsys.readouterr()
    rows = read_series(tmp_path / "series.h5")
    assert rows["extrapolation_max"][0] == 0.0 and rows["extrapolating_atoms"][0] == 0  # a perfect crystal
    assert rows["extrapolation_max"][-1] > 0.2 and rows["extrapolating_atoms"][-1] > 20
    figures = json.loads((tmp_path / "timing.json").read_text())["extrapolation"]
    assert figures["looks"] == 31
    worst = figures["worst"]
    assert worst["value"] == pytest.approx(rows["extrapolation_max"].max()) and "nearest distance" in worst["name"]
    assert sum(f["times"] for f in figures["functions"]) > 100
    # the configurations are the worst ones, and say what a search over their atoms finds
    files = sorted((tmp_path / "extrapolation").iterdir())
    assert [f"extrapolation/{f.name}" for f in files] == sorted(figures["configurations"]) and len(files) == 3
    for file in files:
        atoms, excess = brute_force(file)
        assert len(atoms) == 256
        assert np.abs(atoms.arrays["extrapolation"] - excess).max() < 1e-5
        assert (atoms.info["atom"] == excess.argmax()) and atoms.info["extrapolation"] == pytest.approx(
            excess.max(), abs=1e-5
        )
        assert (atoms.arrays["extrapolation_function"][excess == 0] == -1).all()
        forces, energy = atoms.get_forces(), atoms.get_potential_energy()
        atoms.calc = Trained().ase()
        assert np.abs(atoms.get_forces() - forces).max() < 1e-7 and atoms.get_potential_energy() == pytest.approx(
            energy
        )
    assert any(f"step-{worst['step']:012d}" in file.name for file in files)
    # the first at once, then one line for all of an interval of the log
    warnings = [line for line in text.err.splitlines() if line.startswith("WARNING: extrapolation")]
    assert len(warnings) == 4, text.err
    assert any(f"step {worst['step']}: atom {worst['atom']} (Ar)" in line for line in warnings)
    assert all("looks found up to" in line for line in warnings[1:])
    assert "nearest distance" in text.out and "31 steps looked at" in text.out
    with h5py.File(tmp_path / "trajectory.h5") as f:
        per_atom = f["particles/trajectory/extrapolation/value"][:]
        assert per_atom.shape == (7, 256)
        assert per_atom[-1].max() == pytest.approx(rows["extrapolation_max"][rows["step"] == 60][0], abs=0.2)


def test_stop_ends_the_run_for_good(world, tmp_path, capsys):
    run = job(world, tmp_path, dict(extrapolation=dict(every=1, stop=0.3)))
    assert finish(run) == 0
    figures = json.loads((tmp_path / "timing.json").read_text())
    step = figures["total_steps"]
    assert 0 < step < 60 and figures["finished"]
    worst = figures["extrapolation"]["worst"]
    assert worst["step"] == step and worst["value"] > 0.3
    for word in (f"atom {worst['atom']} (Ar)", f"step {step}", "nearest distance", "[extrapolation] stop = 0.3"):
        assert word in figures["ended"]
    assert f"ended: {figures['ended']}; checkpoint at step {step}" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "checkpoints", world).step == step
    assert [f.name for f in (tmp_path / "extrapolation").iterdir()] == [f"step-{step:012d}.xyz"]


def test_goes_on_as_if_uninterrupted(world, tmp_path):
    tables = dict(extrapolation=dict(every=2, dump=0.1, dump_limit=4, dump_every=2))
    assert finish(job(world, tmp_path / "whole", tables)) == 0
    run = job(world, tmp_path / "broken", tables)

    class Killed(Exception):
        pass

    service = run._service

    def killed():
        service()
        if run.step == 50:  # ten steps after the last checkpoint, with configurations from in between
            raise Killed

    run._service = killed
    with pytest.raises(Killed):
        run.run()
    run.directory.close()
    checkpoint = read_checkpoint(tmp_path / "broken/checkpoints", world)
    assert checkpoint.step == 40
    again = job(world, tmp_path / "broken", tables, position=checkpoint.meta, arrays=checkpoint.arrays)
    assert finish(again) == 0
    a, b = (json.loads((tmp_path / name / "timing.json").read_text())["extrapolation"] for name in ("whole", "broken"))
    assert a["worst"] == b["worst"] and a["functions"] == b["functions"] and a["looks"] == b["looks"]
    a, b = (read_series(tmp_path / name / "series.h5") for name in ("whole", "broken"))
    for name in ("step", "extrapolating_atoms", "extrapolation_max"):
        assert np.array_equal(a[name], b[name], equal_nan=True)
    names = [sorted(f.name for f in (tmp_path / name / "extrapolation").iterdir()) for name in ("whole", "broken")]
    assert set(names[1]) <= set(names[0]) | {n for n in names[1] if int(n[5:17]) <= 40}


def test_a_sphere_of_a_large_system(world, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "WHOLE", 100)
    tables = dict(extrapolation=dict(every=10, dump=0.0, dump_limit=1, dump_radius=12.5))
    assert finish(job(world, tmp_path, tables, steps=20)) == 0
    (file,) = (tmp_path / "extrapolation").iterdir()
    atoms = ase.io.read(file)
    d = np.linalg.norm(atoms.positions - atoms.positions[0], axis=1)
    assert atoms.arrays["id"][0] == atoms.info["atom"] and not atoms.pbc.any()
    assert (np.diff(d) >= 0).all() and d[-1] <= 12.5
    assert len(atoms) == pytest.approx(
        4 / 3 * np.pi * 12.5**3 * 4 / 5.4**3, rel=0.06
    )  # wider than half the cell: images
    assert len(set(map(tuple, np.round(atoms.positions, 6)))) == len(atoms)
    assert atoms.arrays["extrapolation"][0] == pytest.approx(atoms.info["extrapolation"], rel=1e-5)


def test_off_asks_for_nothing(world, tmp_path):
    potential = Trained()
    asked = []
    potential.watch = asked.append
    run = job(world, tmp_path, dict(extrapolation=dict(every=0)), potential, steps=10)
    asked.clear()
    assert finish(run) == 0
    assert not asked and "extrapolation_max" not in read_series(tmp_path / "series.h5").dtype.names
    assert not (tmp_path / "extrapolation").exists()


def test_asked_for_only_when_due(world, tmp_path):
    potential = Trained()
    watched = []
    compute = potential.compute
    potential.compute = lambda *a, **k: (watched.append(potential.watching), compute(*a, **k))[1]
    assert finish(job(world, tmp_path, dict(extrapolation=dict(every=5, warn=9.0)), potential, steps=20)) == 0
    assert watched == [step % 5 == 0 for step in range(21)]


def test_default_is_a_look_now_and_then(world, tmp_path):
    run = job(world, tmp_path, {})
    assert [w.name for w in run.watches] == ["extrapolation"] and run.watches[0].table["every"] == 100
    run.directory.close()


def test_not_a_number_is_the_worst(world, tmp_path):
    run = job(world, tmp_path, dict(extrapolation=dict(every=1)))
    run.system.update()
    (looking,) = run.watches
    looking.ask(True)
    run.system.compute()
    run.system.potential.extrapolation.excess[17] = np.nan
    looking.look(1, 0.0)
    assert looking.worst["atom"] == run.system.atoms.ids[17] and looking.worst["value"] == np.inf
    run.directory.close()


@pytest.mark.parametrize(
    "tables, message",
    [
        (dict(extrapolation=dict(every=5)), r"\[extrapolation\] every: .*no training range"),
        (dict(extrapolation=dict(stop=0.5)), r"\[extrapolation\] stop: .*no training range"),
        (dict(trajectory=dict(every=5, extrapolation=True)), r"\[trajectory\] extrapolation: .*no training range"),
        (dict(deviation=dict(every=5)), r"\[deviation\] every: the potential is not an ensemble"),
        (dict(deviation=dict(warn=0.5)), r"\[deviation\] warn: the potential is not an ensemble"),
        (dict(trajectory=dict(every=5, deviation=True)), r"\[trajectory\] deviation: .*not an ensemble"),
    ],
)
def test_what_the_potential_cannot_tell_is_refused(world, tmp_path, tables, message):
    with pytest.raises(RunFileError, match=message):
        job(world, tmp_path, tables, SmoothLennardJones())


def test_idle_keys_are_refused(world, tmp_path):
    with pytest.raises(RunFileError, match=r"\[extrapolation\] dump: has no effect with every = 0"):
        job(world, tmp_path, dict(extrapolation=dict(every=0, dump=0.1)))
    with pytest.raises(RunFileError, match=r"\[extrapolation\] warn: must be at least 0"):
        job(world, tmp_path, dict(extrapolation=dict(warn=-0.1)))


def test_ensembles_are_as_far_out_as_their_worst_member(world, tmp_path):
    wide, narrow = Trained(), Trained(epsilon=0.0104)
    wide.low, narrow.low = 3.3, 3.7
    ensemble = Ensemble([wide, narrow])
    run = job(world, tmp_path, dict(extrapolation=dict(every=10)), ensemble, steps=20)
    assert finish(run) == 0
    for line in json.loads((tmp_path / "timing.json").read_text())["extrapolation"]["functions"]:
        if "nearest" in line["name"]:
            member = 0 if line["function"] < Extrapolation.MEMBER else 1
            assert member == 1 and line["name"].endswith("of member 2")
    assert [w.name for w in run.watches] == ["extrapolation", "deviation"]


def test_overlays_watch_the_terms_that_can(tmp_path):
    from ostwald.app.potentials.overlay import Overlay

    total = Overlay([SmoothLennardJones(), Trained()])
    total.watch()
    assert total.terms[1].watching and total.function_name(0, 1) == "Ar coordination"
    total.watch(False)
    assert not total.terms[1].watching and total.extrapolation is None
    with pytest.raises(PotentialError, match="training range"):
        Overlay([SmoothLennardJones(), SmoothLennardJones()]).watch()
