"""Nuclei followed in time, their file, and inherent structures that leave the run alone; on any number of ranks."""

import numpy as np
import pytest
from model_systems import ARGON, SmoothLennardJones, argon, fcc, make_system

from ostwald.app import dynamics
from ostwald.app.analysis import nuclei, structure
from ostwald.app.analysis.clusters import find_clusters
from ostwald.app.analysis.inherent import InherentStructure
from ostwald.app.analysis.nuclei import BIRTH, DISSOLVE, MERGE, SPLIT, Nuclei
from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.potentials.base import Potential
from ostwald.io.nuclei import NucleiFile, nuclei_info, read_nuclei
from ostwald.parallel import CollectiveError

pytestmark = pytest.mark.mpi


class Reach(Potential):
    species, cutoff = ("Ar",), 2.0

    def parameters(self):
        return [self.cutoff]


SIDE = 24


@pytest.fixture
def lattice(world):
    """Atoms on a simple cubic lattice of constant 1 Å; the id of (x, y, z) is (x * SIDE + y) * SIDE + z."""
    grid = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), -1).reshape(-1, 3) + 0.5
    mine = np.arange(len(grid)) % world.size == world.rank
    atoms = Atoms(Reach.species, [ARGON], grid[mine], np.zeros(mine.sum(), np.int32), np.flatnonzero(mine))
    system = System(world, Cell(np.eye(3) * SIDE), atoms, Reach())
    system.update()
    return system


def solid_in(system, *boxes):
    """(n,) bool: atoms in any of the boxes ((x, X), (y, Y), (z, Z)), half open, periodic."""
    ids = system.atoms.ids[: system.atoms.n]
    place = np.stack([ids // SIDE**2, ids // SIDE % SIDE, ids % SIDE], axis=1)
    inside = np.zeros(len(ids), bool)
    for box in boxes:
        lo, hi = np.transpose(box)
        inside |= ((place - lo) % SIDE < hi - lo).all(axis=1)
    return inside


def box(x, y, z, dx, dy=None, dz=None):
    return (x, x + dx), (y, y + (dy or dx)), (z, z + (dz or dy or dx))


def follow(tracker, system, step, *boxes, smallest=8):
    found = find_clusters(system, solid_in(system, *boxes), cutoff=1.1, smallest=smallest)
    rows, events = tracker.follow(system, found, step, 0.5 * step)
    return {int(r["number"]): int(r["size"]) for r in rows}, [
        tuple(map(int, e[["kind", "number", "other"]])) for e in events
    ]


def test_a_life(lattice):
    """Two are born, grow across the faces of the cell, merge, split again; a third flickers and dissolves."""
    t = Nuclei(patience=2)
    assert follow(t, lattice, 1, box(2, 2, 2, 3), box(9, 2, 2, 2)) == ({1: 27, 2: 8}, [(BIRTH, 1, 0), (BIRTH, 2, 0)])
    assert follow(t, lattice, 2, box(-2, 1, 1, 7), box(9, 2, 2, 3)) == ({1: 343, 2: 27}, [])
    # side by side now: the larger share keeps its name
    assert follow(t, lattice, 3, box(-2, 1, 1, 11), box(9, 2, 2, 4)) == ({1: 11**3 + 64}, [(MERGE, 2, 1)])
    numbers, events = follow(t, lattice, 4, box(-2, 1, 1, 8), box(7, 2, 2, 6), box(15, 15, 15, 2))
    assert (numbers, events) == ({1: 512, 3: 216, 4: 8}, [(SPLIT, 3, 1), (BIRTH, 4, 0)])
    # the small one is too small for the table once, comes back, and goes for good
    assert follow(t, lattice, 5, box(-2, 1, 1, 8), box(7, 2, 2, 6), box(15, 15, 15, 1)) == ({1: 512, 3: 216}, [])
    assert t.numbers["nuclei"] == 2
    assert follow(t, lattice, 6, box(-2, 1, 1, 8), box(7, 2, 2, 6), box(15, 15, 15, 2, 2, 3))[0] == {
        1: 512,
        3: 216,
        4: 12,
    }
    assert follow(t, lattice, 7, box(-2, 1, 1, 8), box(7, 2, 2, 6))[1] == []
    assert follow(t, lattice, 8, box(-2, 1, 1, 8), box(7, 2, 2, 6))[1] == [(DISSOLVE, 4, 0)]
    assert t.numbers == dict(nuclei=2, nuclei_born=4, nuclei_merged=1, nuclei_dissolved=1, largest_dissolved=12)
    assert not (lattice.atoms[nuclei.ATOMS] == 4).any()


def test_a_neighbour_that_takes_a_few_atoms_is_another(lattice):
    """One atom in common makes no kinship; a name goes with the atoms, not with the place."""
    t = Nuclei()
    follow(t, lattice, 1, box(2, 2, 2, 4))
    numbers, events = follow(t, lattice, 2, box(5, 5, 5, 4))  # one atom, (5, 5, 5), of 64
    assert numbers == {2: 64} and events == [(BIRTH, 2, 0)]
    assert t.numbers["nuclei"] == 1 and t.alive[1].missed == 1
    numbers, events = follow(t, lattice, 3, box(7, 5, 5, 4), box(2, 2, 2, 4))
    assert numbers == {1: 64, 2: 64} and events == []


def test_names_survive_migration_and_restart(world, lattice):
    """The same names and events with and without a restart in between, after the atoms changed hands."""
    history = [
        [box(k, 3, 3, 5), box(12 - k // 2, 3, 3, 4), *([box(3, 16, 16, 2)] if k in (1, 2, 5) else [])] for k in range(9)
    ]
    whole, parts = Nuclei(patience=3), Nuclei(patience=3)
    expected = [follow(whole, lattice, k, *boxes) for k, boxes in enumerate(history)]
    lattice.atoms.drop(nuclei.ATOMS)
    got = [follow(parts, lattice, k, *boxes) for k, boxes in enumerate(history[:4])]
    state = parts.state()
    arrays, meta = lattice.checkpoint()
    moved = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    again = System.restore(world, moved, meta, Reach(), exact=False)
    again.atoms.positions[: again.atoms.n] += [0.0, 0.0, 7.3]  # other bricks
    again.invalidate()
    again.update()
    fresh = Nuclei(patience=3)
    fresh.restore(state)
    got += [follow(fresh, again, 4 + k, *boxes) for k, boxes in enumerate(history[4:])]
    assert got == expected and fresh.numbers == whole.numbers
    assert any(e for _, e in expected[4:])


def test_file_of_nuclei(world, lattice, tmp_path):
    path = world.bcast(str(tmp_path / "nuclei.h5"))
    tracker, everything, all_events = Nuclei(), [], []
    file = None
    for step in range(60):
        boxes = [box(3 * k % SIDE, 8 * (k // 8), 4, 2) for k in range(24) if (step + k) % 7]
        found = find_clusters(lattice, solid_in(lattice, *boxes), cutoff=1.1, smallest=8)
        rows, events = tracker.follow(lattice, found, step, 0.1 * step)
        if file is None:
            file = NucleiFile.create(
                path, world, rows.dtype, events.dtype, {"labels": list(structure.LABELS), "smallest": 8}
            )
        everything.append(rows)
        all_events.append(events)
        file.append(rows, events)
        if step == 40:  # at any time, while it grows
            got, _, notes = read_nuclei(path)
            assert len(got) == sum(map(len, everything)) and notes["labels"] == list(structure.LABELS)
        world.barrier()
    file.sync()
    file.close()
    everything, all_events = np.concatenate(everything), np.concatenate(all_events)
    rows, events, notes = read_nuclei(path)
    np.testing.assert_array_equal(rows, everything)
    np.testing.assert_array_equal(events, all_events)
    assert notes["smallest"] == 8 and "1 rows" not in nuclei_info(path)
    world.barrier()
    with NucleiFile.resume(path, world, 33) as file:
        file.append(everything[everything["step"] == 34], all_events[all_events["step"] == 34])
    world.barrier()
    rows, events, _ = read_nuclei(path)
    np.testing.assert_array_equal(rows, everything[everything["step"] <= 34])
    np.testing.assert_array_equal(events, all_events[all_events["step"] <= 34])
    world.barrier()
    if world.root:
        with open(path, "r+b") as damaged:
            damaged.truncate(1000)
    world.barrier()
    with pytest.raises(CollectiveError, match=r"nuclei\.h5"):
        NucleiFile.resume(path, world, 3)


def bits(system):
    """What a run would go on from, by id: positions, velocities, forces."""
    atoms, n = system.atoms, system.atoms.n
    order = np.argsort(atoms.ids[:n])
    return [array[:n][order].tobytes() for array in (atoms.positions, atoms.velocities, atoms.forces, atoms.ids)]


def hot(world, **options):
    positions, matrix = fcc((6, 5, 5), 5.4)
    system = make_system(world, SmoothLennardJones(), positions, matrix, **options)
    dynamics.initialise_velocities(system, 60.0, seed=2)
    return system


@pytest.mark.parametrize("options", [{}, {"skin": 0.4}])
def test_inherent_structures_do_not_disturb_the_run(world, options):
    runs = []
    for quench in (False, True):
        system = hot(world, **options)
        integrator = dynamics.Langevin(0.004, 60.0, 0.2, seed=7)
        for step in range(60):
            integrator.step(system, step, energy=True, virial=True)
            if quench and step % 15 == 10:
                before = bits(system), system.builds, system.age
                InherentStructure(system, iterations=20)
                assert (bits(system), system.builds, system.age) == before
                assert "minimise.gradient" not in system.atoms.extra
        runs.append((bits(system), system.energy, system.virial.tobytes(), system.builds))
    assert runs[0] == runs[1]


def test_inherent_structure_is_the_crystal(world):
    """A hot crystal is recognised in full once it is cold; what is found maps back to the atoms' own rows."""
    system = hot(world)
    integrator = dynamics.Langevin(0.004, 60.0, 0.2, seed=7)
    for step in range(150):
        integrator.step(system, step)
    system.compute()
    hot_fcc = structure.structure(system, "cna").counts[structure.FCC]
    quenched = InherentStructure(system, iterations=100, force_tolerance=1e-4)
    assert quenched.minimum.converged and quenched.minimum.force < 1e-4 and quenched.seconds > 0
    found = structure.structure(quenched.system, "cna")
    assert found.counts[structure.FCC] == system.total > hot_fcc
    ids = quenched.home(quenched.system.atoms.ids[: quenched.system.atoms.n])
    np.testing.assert_array_equal(ids, system.atoms.ids[: system.atoms.n])
    cold = quenched.home(quenched.system.atoms.positions[: quenched.system.atoms.n])
    away = system.cell.fractional(cold - system.atoms.positions[: system.atoms.n])
    away -= np.rint(away)
    assert np.abs(away @ system.cell.matrix).max() < 1.5  # the nearest minimum, not some other


def test_frozen_atoms_stay_in_the_copy(world):
    system = argon(world, cells=4)
    random = np.random.default_rng(4).normal(0, 0.1, (system.total, 3))
    system.atoms.positions[: system.atoms.n] += random[system.atoms.ids[: system.atoms.n]]
    mask = system.atoms.group_mask("held")
    system.atoms.groups[system.atoms.ids[: system.atoms.n] < 20] |= np.uint32(mask)
    system.frozen_mask = mask
    system.invalidate()
    system.update()
    copy = InherentStructure(system, iterations=30)
    moved = copy.home(copy.system.atoms.positions[: copy.system.atoms.n]) - system.atoms.positions[: system.atoms.n]
    moved -= np.rint(system.cell.fractional(moved)) @ system.cell.matrix
    held = system.atoms.ids[: system.atoms.n] < 20
    assert np.abs(moved[held]).max(initial=0) < 1e-12 and np.abs(moved[~held]).max(initial=1) > 0.05
