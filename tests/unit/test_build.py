"""Lattices, alloys, vacancies, seeds: against crystallography, and the same on any number of ranks (tests/mpi)."""

from math import sqrt

import numpy as np
import pytest

from ostwald.app.atoms import build


def distances(share, cutoff):
    """Sorted distances around atom 0, all images within cutoff."""
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(share.matrix), axis=0)).astype(int)
    shifts = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3)
    delta = (share.positions - share.positions[0]) + (shifts @ share.matrix)[:, None]
    d = np.sort(np.linalg.norm(delta, axis=2).ravel())
    return d[(d > 1e-6) & (d < cutoff)]


def shells(share, cutoff):
    values, counts = np.unique(np.round(distances(share, cutoff), 6), return_counts=True)
    return list(zip(values.tolist(), counts.tolist()))


# (lattice, species, sites of the conventional cell, first two shells of the first atom: distance / a, number)
KNOWN = [
    ("sc", "Po", 1, [(1, 6), (sqrt(2), 12)]),
    ("bcc", "Fe", 2, [(sqrt(3) / 2, 8), (1, 6)]),
    ("fcc", "Al", 4, [(1 / sqrt(2), 12), (1, 6)]),
    ("diamond", "Si", 8, [(sqrt(3) / 4, 4), (1 / sqrt(2), 12)]),
    ("hcp", "Mg", 4, [(1, 12), (sqrt(2), 6)]),
    ("dhcp", "La", 8, [(1, 12), (sqrt(2), 6)]),
    ("b2", ("Ni", "Al"), 2, [(sqrt(3) / 2, 8), (1, 6)]),
    ("l1_2", ("Ni", "Al"), 4, [(1 / sqrt(2), 12), (1, 6)]),
    ("l1_0", ("Ti", "Al"), 4, [(1 / sqrt(2), 12), (1, 6)]),
    ("d0_3", ("Fe", "Al"), 16, [(sqrt(3) / 4, 8), (0.5, 6)]),
    ("l2_1", ("Cu", "Mn", "Al"), 16, [(sqrt(3) / 4, 8), (0.5, 6)]),
    ("rocksalt", ("Na", "Cl"), 8, [(0.5, 6), (1 / sqrt(2), 12)]),
    ("zincblende", ("Ga", "As"), 8, [(sqrt(3) / 4, 4), (1 / sqrt(2), 12)]),
    ("fluorite", ("Ca", "F"), 12, [(sqrt(3) / 4, 8), (1 / sqrt(2), 12)]),
    ("wurtzite", ("Zn", "O"), 8, [(sqrt(3 / 8), 4), (1, 12)]),
    ("perovskite", ("Sr", "Ti", "O"), 5, [(1 / sqrt(2), 12), (sqrt(3) / 2, 8)]),
    ("a15", ("Nb", "Sn"), 8, [(0.5, 2), (sqrt(5) / 4, 4)]),
]


@pytest.mark.parametrize("primitive", [False, True])
@pytest.mark.parametrize("name, species, sites, expected", KNOWN, ids=[k[0] for k in KNOWN])
def test_shells_of_lattices(world, name, species, sites, expected, primitive):
    a = 4.0
    share = build.build_lattice(world, name, a, species, (2, 3, 2), primitive=primitive)
    assert np.linalg.det(share.matrix) > 0
    conventional = build.build_lattice(world, name, a, species, 1)
    assert conventional.total == sites
    volume = np.linalg.det(share.matrix) / share.total
    assert volume == pytest.approx(np.linalg.det(conventional.matrix) / sites, rel=1e-12)
    found = shells(share, 1.55 * a)
    assert [n for _, n in found[:2]] == [n for _, n in expected]
    assert [d / a for d, _ in found[:2]] == pytest.approx([d for d, _ in expected], abs=1e-6)
    assert np.array_equal(np.sort(share.ids), np.arange(share.total))


def test_beta_tin_of_germanium(world):
    share = build.build_lattice(world, "beta-tin", 4.884, "Ge", (2, 2, 4), c=2.692)
    (d1, n1), (d2, n2) = shells(share, 3.0)[:2]
    assert (n1, n2) == (4, 2)
    assert d1 == pytest.approx(sqrt((4.884 / 2) ** 2 + (2.692 / 4) ** 2), abs=1e-6)
    assert d2 == pytest.approx(2.692, abs=1e-6)
    with pytest.raises(ValueError, match="c/a"):
        build.build_lattice(world, "beta-tin", 4.884, "Ge", 1)


def test_l1_2_composition_and_neighbours(world):
    share = build.build_lattice(world, "L12", 3.57, ("Ni", "Al"), 3)
    assert share.species == ("Ni", "Al")
    assert np.bincount(share.types).tolist() == [81, 27]
    aluminium = share.positions[share.types == 1]
    delta = share.positions[:, None] - aluminium
    delta -= np.rint(delta / share.matrix[0, 0]) * share.matrix[0, 0]
    near = np.linalg.norm(delta, axis=2) < 3.57 * 0.8
    assert (near[share.types == 1].sum() == 27) and (near[share.types == 0].sum(axis=0) == 12).all()


@pytest.mark.parametrize(
    "orientation, lengths",
    [
        (((1, -1, 0), (1, 1, -2), (1, 1, 1)), (1 / sqrt(2), sqrt(6) / 2, sqrt(3))),
        (((1, 1, 0), (-1, 1, 0), (0, 0, 1)), (1 / sqrt(2), 1 / sqrt(2), 1)),
    ],
)
def test_orientation(world, orientation, lengths):
    share = build.build_lattice(world, "fcc", 4.0, "Al", (3, 2, 2), orientation=orientation)
    assert np.allclose(share.matrix, np.diag(4.0 * np.array(lengths) * (3, 2, 2)), atol=1e-12)
    assert np.linalg.det(share.matrix) / share.total == pytest.approx(16)
    assert shells(share, 4.1) == [(pytest.approx(4 / sqrt(2)), 12), (pytest.approx(4), 6)]


def test_mistakes_get_one_sentence(world):
    with pytest.raises(ValueError, match="unknown lattice 'fc'"):
        build.build_lattice(world, "fc", 4.0, "Al", 2)
    with pytest.raises(ValueError, match="2 kinds of site but 1 species"):
        build.build_lattice(world, "rocksalt", 4.0, "Al", 2)
    with pytest.raises(ValueError, match="right-handed"):
        build.build_lattice(world, "fcc", 4.0, "Al", 2, orientation=((1, 1, 0), (1, -1, 0), (0, 0, 1)))
    with pytest.raises(ValueError, match="sum to 1"):
        build.substitute(world, build.build_lattice(world, "fcc", 4.0, "Al", 2), {"Al": 0.7, "Cu": 0.2}, 1)


def test_substitution_is_exact_and_random(world):
    crystal = build.build_lattice(world, "fcc", 4.0, "Al", 12)
    alloy = build.substitute(world, crystal, {"Al": 0.5, "Ni": 0.3, "Ti": 0.2}, seed=5)
    assert alloy.species == ("Al", "Ni", "Ti")
    assert np.bincount(alloy.types).tolist() == [3456, 2074, 1382]  # of 6912: 3456, 2073.6, 1382.4
    other = build.substitute(world, crystal, {"Al": 0.5, "Ni": 0.3, "Ti": 0.2}, seed=6)
    assert 0.30 < (alloy.types == other.types).mean() < 0.46  # Σ x² = 0.38 by chance
    # Unlike neighbours as in a random solution: 1 − Σ x² = 0.62.
    delta = alloy.positions[:200, None] - alloy.positions
    delta -= np.rint(delta / 48) * 48
    i, j = np.nonzero((np.linalg.norm(delta, axis=2) < 3) & (np.linalg.norm(delta, axis=2) > 0))
    assert (alloy.types[i] != alloy.types[j]).mean() == pytest.approx(0.62, abs=0.04)


def test_substitution_of_one_species_only(world):
    salt = build.build_lattice(world, "rocksalt", 5.6, ("Na", "Cl"), 4)
    mixed = build.substitute(world, salt, {"Na": 0.25, "K": 0.75}, seed=1, of="Na")
    assert mixed.species == ("Na", "Cl", "K")
    assert np.bincount(mixed.types).tolist() == [64, 256, 192]
    assert ((mixed.types == 1) == (salt.types == 1)).all()
    replaced = build.substitute(world, salt, {"K": 1.0}, seed=1, of="Na")
    assert replaced.species == ("Cl", "K") and np.bincount(replaced.types).tolist() == [256, 256]


def test_select_smallest_breaks_ties_by_id(world):
    keys = np.array([0.5, 0.25, 0.25, 0.25, 0.0, 0.75])
    ids = np.array([5, 4, 3, 2, 1, 0])
    assert build.select_smallest(world, keys, ids, 3).tolist() == [False, False, True, True, True, False]
    assert not build.select_smallest(world, keys, ids, 0).any()
    assert build.select_smallest(world, keys, ids, 6).all()


def test_vacancies(world):
    crystal = build.build_lattice(world, "bcc", 3.0, "Fe", 10)
    holey = build.vacancies(world, crystal, 0.05, seed=3)
    assert holey.total == 1900 and np.array_equal(holey.ids, np.arange(1900))
    kept = (holey.positions[:, None] == crystal.positions).all(axis=2).any(axis=1)
    assert kept.all()
    assert build.vacancies(world, crystal, 7, seed=3).total == 1993


def test_regions():
    matrix, origin, periodic = np.diag([10.0, 12.0, 14.0]), np.array([1.0, 0, 0]), np.ones(3, bool)
    frame = (matrix, origin, periodic)
    points = np.array([[6.0, 6, 7], [6, 6, 9.5], [1.2, 0.1, 0.1], [10.8, 11.8, 13.9]])
    assert build.Sphere(2.4).contains(points, *frame).tolist() == [True, False, False, False]
    corner = build.Sphere(1.0, center=(1, 0, 0))
    assert corner.contains(points, *frame).tolist() == [False, False, True, True]  # across the faces
    assert corner.contains(points, matrix, origin, ~periodic).tolist() == [False, False, True, False]
    assert build.Cylinder(0.5, axis=2).contains(points, *frame).tolist() == [True, True, False, False]
    assert build.Block((0, 0, 0), (6, 6, 8)).contains(points, *frame).tolist() == [True, False, True, False]
    assert build.Slab(0.45, 0.55).contains(points, *frame).tolist() == [True, False, False, False]
    assert build.Slab(-0.1, 0.1).contains(points, *frame).tolist() == [False, False, True, True]
    assert build.Slab(0.25, 0.5).distance(points[1:2], *frame) == pytest.approx([9.5 - 7])


def test_rattle_is_gaussian_and_keyed_by_id(world):
    crystal = build.build_lattice(world, "fcc", 4.0, "Al", 10)
    moved = build.rattle(crystal, 0.1, seed=2).positions - crystal.positions
    assert moved.std() == pytest.approx(0.1, rel=0.03) and abs(moved.mean()) < 0.003
    assert not np.array_equal(moved, build.rattle(crystal, 0.1, seed=3).positions - crystal.positions)


def test_embedded_seed(world):
    host = build.build_lattice(world, "sc", 2.5, "Al", 16)
    guest = build.build_lattice(world, "fcc", 4.0, "Ni", 10)
    region = build.Sphere(9.0)
    share, seeded = build.embed(world, host, guest, region, gap=1.5)
    frame = (share.matrix, share.origin, share.periodic)
    assert share.total == len(share.ids) and np.array_equal(np.sort(share.ids), np.arange(share.total))
    assert share.species == ("Al", "Ni") and np.array_equal(seeded, share.types == 1)
    assert (region.distance(share.positions, *frame)[seeded] <= 0).all()
    assert (region.distance(share.positions, *frame)[~seeded] > 1.5).all()
    assert seeded.sum() == region.contains(guest.positions, *frame).sum()
    with pytest.raises(ValueError, match="same cell"):
        build.embed(world, host, build.build_lattice(world, "fcc", 4.1, "Ni", 10), region)
