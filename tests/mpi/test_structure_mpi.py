"""Structure analysis over bricks: the same labels, numbers and distributions on any number of ranks."""

import numpy as np
import pytest

from ostwald.app.analysis import structure
from ostwald.app.analysis.distribution import MeanSquareDisplacement, PairDistribution
from ostwald.app.atoms import build
from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.jobs.md_schema import ANALYSIS
from ostwald.app.jobs.observer import Observer
from ostwald.app.potentials.base import Potential

pytestmark = pytest.mark.mpi


class Reach(Potential):
    """No forces; only says how far the ghosts must reach."""

    species = ("Al", "Ni")

    def __init__(self, cutoff):
        self.cutoff = cutoff

    def parameters(self):
        return [self.cutoff]


def make(world, cutoff, primitive=True):
    """A crystal with half of it so rattled that it is hardly one, two species."""
    share = build.build_lattice(world, "fcc", 4.05, "Al", (11, 9, 10), primitive=primitive)
    share = build.substitute(world, share, {"Al": 0.7, "Ni": 0.3}, seed=3)
    hot = build.Slab(0.0, 0.5, axis=0).contains(share.positions, share.matrix, share.origin, share.periodic)
    noise = build.rattle(share, 1.0, seed=1).positions - share.positions
    share.positions += noise * np.where(hot, 0.5, 0.12)[:, None]
    atoms = Atoms(share.species, [26.98, 58.69], share.positions, share.types, share.ids)
    system = System(world, Cell(share.matrix), atoms, Reach(cutoff))
    system.update()
    return system


def by_id(system, values):
    """Values of all ranks in the order of ids, on every rank."""
    ids = np.concatenate(system.world.allgather(system.atoms.ids[: system.atoms.n]))
    return np.concatenate(system.world.allgather(np.asarray(values)))[np.argsort(ids)]


def test_the_analysis_of_a_job_as_columns(world):
    system = make(world, 6.0)
    for method in structure.METHODS:
        table = {name: key.default for name, key in ANALYSIS.keys.items()}
        analysis = Observer({**table, "method": method, "clusters": True}, system.atoms.species)
        numbers, fields = analysis.measure(system)
        labels = fields["structure"]
        assert list(numbers) == list(analysis.columns) and len(labels) == system.atoms.n
        sizes = np.unique(by_id(system, fields["cluster"]), return_counts=True)
        assert (
            numbers["largest_cluster"]
            == sizes[1][sizes[0] >= 0].max(initial=0)
            == by_id(system, fields["largest"]).sum()
        )
        all_labels = by_id(system, labels)
        for name in structure.labels_of(method):
            assert numbers[f"{name}_fraction"] == (all_labels == structure.LABELS.index(name)).mean()
        named = sum(
            numbers.get(f"{name}_fraction", 0) for name, solid in zip(structure.LABELS, structure.CRYSTALLINE) if solid
        )
        assert numbers["solid_fraction"] == pytest.approx(named, abs=0.01)  # an icosahedron of high q̄₆ is solid too
        if method in ("q6", "bonds"):
            assert numbers["crystal_fraction"] > 0.1
        assert (numbers["solid_fraction"] > 0.2) == (method != "diamond")


@pytest.mark.parametrize("cutoff", [6.0, 3.0])  # the shorter needs a halo of the analysis itself
def test_structure_does_not_depend_on_ranks(world, cutoff):
    system = make(world, cutoff)
    alone = make(world.split(world.rank), 6.0)
    found, expected = structure.structure(system), structure.structure(alone)
    assert np.array_equal(by_id(system, found.labels), by_id(alone, expected.labels))
    assert np.abs(by_id(system, found.q6) - by_id(alone, expected.q6)).max() < 1e-12
    assert np.array_equal(found.counts, expected.counts) and found.solid_count == expected.solid_count
    assert 0.4 < found.solid_fraction < 0.7 and 0.2 < found.fractions["fcc"] < 0.6
    names = ("q4", "w4", "w6", "local_q6", "local_w6", "bonds")
    several, reference = (
        structure.structure(system, "bonds", fields=names),
        structure.structure(alone, "bonds", fields=names),
    )
    assert np.array_equal(by_id(system, several.labels), by_id(alone, reference.labels)) and set(several.fields) == set(
        names
    )
    for name in names:
        assert np.abs(by_id(system, several.fields[name]) - by_id(alone, reference.fields[name])).max() < 1e-9, name
    fields = ("rmsd", "distance", "orientation", "deformation", "ordering", "diamond")
    matched = structure.structure(system, "ptm", 0.2, fields, structure.TEMPLATES)
    reference = structure.structure(alone, "ptm", 0.2, fields, structure.TEMPLATES)
    assert np.array_equal(by_id(system, matched.labels), by_id(alone, reference.labels))
    assert matched.fractions == reference.fractions and matched.fractions["fcc"] > 0.4
    for name in fields:
        a, b = by_id(system, matched.fields[name]), by_id(alone, reference.fields[name])
        assert np.allclose(a, b, rtol=0, atol=1e-9, equal_nan=True), name
    plain = structure.structure(system, "cna")
    assert plain.q6 is None and plain.solid_fraction == pytest.approx(plain.fractions["fcc"] + plain.fractions["hcp"])
    for within in (3.4, 6.5):  # the longer is beyond every halo that there is
        fixed = structure.structure(system, "cna", fields=("coordination",), cutoff=within)
        by_hand = structure.surroundings(alone, within)
        expected = structure.common_neighbours(*by_hand, cutoff=within), structure.coordination(*by_hand, within)
        for mine, reference in zip((fixed.labels, fixed.fields["coordination"]), expected):
            assert np.array_equal(by_id(system, mine), by_id(alone, reference))
        assert f"within {within} Å" in fixed.describe() and "adaptive" not in fixed.describe()
    nb, reach = structure.surroundings(system, 6.0)
    nb1, reach1 = structure.surroundings(alone, 6.0)
    for measure in (
        lambda nb, reach: structure.solid_bonds(nb, reach),
        lambda nb, reach: structure.solid_bonds(nb, reach, degree=4, threshold=0.5, cutoff=3.5),
        lambda nb, reach: structure.coordination(nb, reach, 3.5),
        lambda nb, reach: structure.common_neighbours(nb, reach, cutoff=3.45),
    ):
        assert np.array_equal(by_id(system, measure(nb, reach)), by_id(alone, measure(nb1, reach1)))
    csp = by_id(system, structure.centrosymmetry(nb, reach))
    assert np.abs(csp - by_id(alone, structure.centrosymmetry(nb1, reach1))).max() < 1e-12


def test_pair_distribution_does_not_depend_on_ranks(world):
    pairs = []
    for system in (make(world, 4.0), make(world.split(world.rank), 4.0)):
        pairs.append(PairDistribution(9.0, 60, 2))
        pairs[-1].sample(system)
        pairs[-1].sample(system)
    assert np.array_equal(pairs[0].g, pairs[1].g)
    assert pairs[0].g[0, 0].max() > 1.5 and pairs[0].samples == 2


def test_mean_square_displacement_through_migration(world):
    system = make(world, 4.0, primitive=False)
    before = MeanSquareDisplacement(system)
    assert before.sample(system).tolist() == [0.0, 0.0]
    rng = np.random.default_rng(5)  # the same steps for the same ids on any rank
    steps = rng.normal(0, 1, (system.total, 3))
    steps -= steps.mean(axis=0)
    types = by_id(system, system.atoms.types[: system.atoms.n])
    for _ in range(4):  # and a drift that carries every atom across the cell
        n = system.atoms.n
        system.atoms.positions[:n] += steps[system.atoms.ids[:n]] + 12.3
        system.update()
    expected = [16 * (steps[types == t] ** 2).sum(axis=1).mean() for t in (0, 1)]
    assert before.sample(system) == pytest.approx(expected, rel=1e-9)


def test_diamond_does_not_depend_on_ranks(world):
    """Neighbours of neighbours across bricks, and marks that travel home."""
    results = []
    for group in (world, world.split(world.rank)):
        share = build.rattle(build.build_lattice(group, "diamond", 5.43, "Al", (4, 5, 4)), 0.25, seed=2)
        atoms = Atoms(share.species, [26.98], share.positions, share.types, share.ids)
        system = System(group, Cell(share.matrix), atoms, Reach(4.0))
        system.update()
        found = structure.structure(
            system, "diamond", fields=("rmsd",), templates=("cubic_diamond", "hexagonal_diamond")
        )
        results.append([by_id(system, found.labels), *(by_id(system, found.fields[k]) for k in ("diamond", "rmsd"))])
    for mine, alone in zip(*results):
        assert np.allclose(mine, alone, rtol=0, atol=1e-9, equal_nan=True)
    assert {0, 1, 2, 3} <= set(results[0][1].tolist()) or {1, 2, 3} <= set(results[0][1].tolist())
    assert np.nanmax(results[0][2]) < 0.4


def test_equal_distances_of_a_perfect_crystal_are_taken_the_same_on_any_number_of_ranks(world):
    """The 12 nearest of 8 + 6 neighbours are a choice, which must not follow from the order of ghosts."""

    def numbers(world):
        share = build.build_lattice(world, "bcc", 2.87, "Fe", (8, 7, 6), primitive=False)
        atoms = Atoms(share.species, [55.85], share.positions, share.types, share.ids)
        system = System(world, Cell(share.matrix), atoms, Reach(5.0))
        system.update()
        found = structure.structure(system, "q6", fields=("q4", "w6", "local_q6", "centrosymmetry"))
        return {name: by_id(system, values) for name, values in found.fields.items()}

    here, alone = numbers(world), numbers(world.split(world.rank))
    for name in alone:
        np.testing.assert_allclose(here[name], alone[name], atol=1e-9, err_msg=name)
        assert np.ptp(alone[name]) < 1e-9, f"{name} differs between atoms that are alike"
