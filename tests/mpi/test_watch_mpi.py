"""The worst atom of all ranks, its configuration and the counts are those that one process finds."""

import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from hdnnp_reference import make_model, random_atoms
from model_systems import ARGON, SmoothLennardJones, fcc

from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.jobs import watch
from ostwald.app.jobs.md_schema import DEVIATION, EXTRAPOLATION
from ostwald.app.potentials import Ensemble
from ostwald.app.potentials.base import Extrapolation
from ostwald.app.potentials.hdnnp import HDNNP
from ostwald.io.rundirectory import RunDirectory

pytestmark = pytest.mark.mpi


class Trained(SmoothLennardJones):
    """Knows coordination numbers within 4.2 Å from 9 on and up to 12, of nearest distances those above 3.4 Å."""

    list_style, watching = "full", False

    def watch(self, on=True):
        self.watching = on

    def function_name(self, type_, function):
        return ("coordination", "nearest distance")[function]

    def compute(self, nb, forces, **options):
        if self.watching:
            i = np.repeat(np.arange(nb.nlocal), np.diff(nb.offsets))
            r = np.linalg.norm(nb.positions[i] - nb.positions[nb.indices], axis=1)
            count = np.bincount(i[r < 4.2], minlength=nb.nlocal)
            near = np.full(nb.nlocal, np.inf)
            np.minimum.at(near, i, r)
            excess = np.stack([np.maximum(9 - count, count - 12) / 3, (3.4 - near) / 0.5], 1).clip(0.0)
            worst = excess.max(1)
            self.extrapolation = Extrapolation(
                worst.astype(np.float32), np.where(worst > 0, excess.argmax(1), -1), (excess > 0).sum(1)
            )
        return super().compute(nb, forces, **options)


def table(schema, **given):
    return {name: key.default for name, key in schema.keys.items()} | dict(every=1) | given


def make(world, potential):
    positions, matrix = fcc((5, 4, 6), 5.4)
    positions += np.random.default_rng(2).normal(0, 0.22, positions.shape)
    mine = np.arange(len(positions)) % world.size == world.rank
    atoms = Atoms(("Ar",), np.array([ARGON]), positions[mine], np.zeros(mine.sum(), np.int32), np.flatnonzero(mine))
    system = System(world, Cell(matrix), atoms, potential)
    system.update()
    return system, ase.Atoms(f"Ar{len(positions)}", positions=positions, cell=matrix, pbc=True)


@pytest.fixture
def directory(world, tmp_path):
    with RunDirectory.create(world.bcast(str(tmp_path)), world, "") as directory:
        yield directory


def test_extrapolation(world, directory):
    system, whole = make(world, Trained())
    looking = watch.Extrapolation(system, directory, table(EXTRAPOLATION, dump=0.5))
    looking.ask(True)
    system.compute()
    assert looking.look(7, 0.5) is None
    alone = Trained()
    alone.watch()
    whole.calc = alone.ase()
    forces = whole.get_forces()
    excess = alone.extrapolation.excess
    event = looking.worst
    assert event["atom"] == excess.argmax() and event["value"] == pytest.approx(excess.max(), rel=1e-6)
    assert event["atoms"] == (excess > 0).sum() > 5
    assert event["name"] == alone.function_name(0, alone.extrapolation.function[excess.argmax()])
    assert world.allgather(event) == [event] * world.size
    assert looking.row() == dict(extrapolating_atoms=event["atoms"], extrapolation_max=event["value"])
    state = looking.state(7)
    if world.root:
        times = np.bincount(alone.extrapolation.function[excess > 0], minlength=2)
        assert [line[2] for line in state["functions"]] == list(times[times > 0])
        written = ase.io.read(directory.path / "extrapolation/step-000000000007.xyz", parallel=False)
        assert np.array_equal(written.arrays["id"], np.arange(len(whole)))
        assert np.abs(written.arrays["extrapolation"] - excess).max() < 1e-6
        assert np.abs(written.get_forces() - forces).max() < 1e-7
        assert written.get_potential_energy() == pytest.approx(whole.get_potential_energy(), rel=1e-12)
    json.dumps(state)
    again = watch.Extrapolation(system, directory, table(EXTRAPOLATION, dump=0.5), state=world.bcast(state))
    assert again.state(7)["functions"] == state["functions"] or not world.root


def test_a_sphere_is_the_same_on_any_ranks(world, directory, monkeypatch):
    monkeypatch.setattr(watch, "WHOLE", 10)
    system, whole = make(world, Trained())
    looking = watch.Extrapolation(system, directory, table(EXTRAPOLATION, stop=0.1, dump_radius=14.0))
    looking.ask(True)
    system.compute()
    assert "above [extrapolation] stop = 0.1" in looking.look(1, 0.0)
    if world.root:
        written = ase.io.read(directory.path / "extrapolation/step-000000000001.xyz", parallel=False)
        images = whole * (5, 5, 5)
        centre = whole.positions[looking.worst["atom"]] + 2 * whole.cell.array.sum(0)
        d = np.linalg.norm(images.positions - centre, axis=1)
        assert np.array_equal(np.sort(np.arange(len(d))[d <= 14.0] % len(whole)), np.sort(written.arrays["id"]))
        away = np.linalg.norm(written.positions - written.positions[0], axis=1)
        assert np.abs(np.sort(d[d <= 14.0]) - away).max() < 1e-6


@pytest.mark.parametrize("style", ["half", "full"])
def test_deviation(world, directory, style):
    def members():
        return [SmoothLennardJones(epsilon=e, sigma=s) for e, s in ((0.0100, 3.4), (0.0103, 3.42), (0.011, 3.38))]

    system, whole = make(world, Ensemble(members()))
    system.style = style
    system.rebuild()
    looking = watch.Deviation(system, directory, table(DEVIATION, warn=0.04, stop=5.0))
    looking.ask(True)
    system.compute()
    assert looking.look(3, 0.1) is None
    forces = []
    for member in members():
        whole.calc = member.ase()
        forces.append(whole.get_forces())
    deviation = np.sqrt(((np.array(forces) - np.mean(forces, 0)) ** 2).sum(2).mean(0))
    n = system.atoms.n
    assert np.abs(looking.per_atom - deviation[system.atoms.ids[:n]]).max(initial=0) < 1e-12
    assert np.abs(system.atoms.forces[:n] - np.mean(forces, 0)[system.atoms.ids[:n]]).max(initial=0) < 1e-12
    row = looking.row()
    assert row["force_deviation_mean"] == pytest.approx(deviation.mean(), rel=1e-10)
    assert row["force_deviation_max"] == pytest.approx(deviation.max(), rel=1e-10)
    assert row["force_deviation_atom"] == deviation.argmax()
    assert looking.worst["atoms"] == (deviation > 0.04).sum() > 0


def test_networks(world, directory):
    """An ensemble of networks on shared functions, all of whose forces come home from ghosts."""
    first = make_model(51, kinds=(2, 3), cutoff=4.0)
    models = [first]
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        elements = [
            replace(
                e, layers=[replace(l, weights=l.weights + 0.1 * rng.normal(size=l.weights.shape)) for l in e.layers]
            )
            for e in first.elements
        ]
        models.append(replace(first, elements=elements))
    whole = random_atoms(5, count=60, length=14.0)
    types = np.array([first.species.index(s) for s in whole.get_chemical_symbols()], np.int32)
    mine = np.arange(len(whole)) % world.size == world.rank
    ensemble = Ensemble([HDNNP(model) for model in models])
    atoms = Atoms(ensemble.species, np.ones(2), whole.positions[mine], types[mine], np.flatnonzero(mine))
    system = System(world, Cell(whole.cell.array), atoms, ensemble)
    system.update()
    looks = [
        watch.Extrapolation(system, directory, table(EXTRAPOLATION)),
        watch.Deviation(system, directory, table(DEVIATION, dump=0.0)),
    ]
    for looking in looks:
        looking.ask(True)
    energies = np.zeros(len(atoms.positions))
    for given in ({}, dict(energies=energies)):
        system.compute(**given)
        whole.calc = Ensemble([HDNNP(model) for model in models]).ase()
        n, ids = atoms.n, atoms.ids[: atoms.n]
        assert np.abs(atoms.forces[:n] - whole.get_forces()[ids]).max(initial=0) < 1e-11
        assert system.potential_energy() == pytest.approx(whole.get_potential_energy(), rel=1e-12)
        volume = whole.get_volume()
        assert np.abs(world.allreduce(system.virial) + whole.get_stress() * volume).max() < 1e-9
        for looking in looks:
            assert looking.look(1, 0.0) is None
            alone = whole.calc.results[looking.field]
            assert np.abs(looking.per_atom - alone[ids]).max(initial=0) < 1e-6
            assert looking.worst["atom"] == alone.argmax() and alone.max() > 0.01
    assert np.abs(energies[:n] - whole.get_potential_energies()[ids]).max(initial=0) < 1e-11
