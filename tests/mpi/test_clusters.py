"""Clusters over bricks and periodic images, beside brute force on one rank."""

import itertools
from collections import deque

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ostwald.app.analysis import clusters, structure
from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.potentials.base import Potential

pytestmark = pytest.mark.mpi

MASSES = np.array([26.98, 58.69])


class Reach(Potential):
    """No forces; only says how far the ghosts must reach."""

    species = ("Al", "Ni")

    def __init__(self, cutoff):
        self.cutoff = cutoff

    def parameters(self):
        return [self.cutoff]


def make(world, positions, matrix, periodic=(True, True, True), reach=4.0, types=None):
    """A system of atoms anywhere; ids are the rows."""
    mine = np.arange(len(positions)) % world.size == world.rank
    types = np.zeros(len(positions), np.int32) if types is None else np.asarray(types, np.int32)
    atoms = Atoms(Reach.species, MASSES, positions[mine], types[mine], np.flatnonzero(mine))
    system = System(world, Cell(matrix, periodic=periodic), atoms, Reach(reach))
    system.update()
    return system


def mine(system, values):
    """Rows of this rank of an array by id."""
    return np.asarray(values)[system.atoms.ids[: system.atoms.n]]


def by_id(system, values):
    """Values of all ranks in the order of ids, on every rank."""
    ids = np.concatenate(system.world.allgather(system.atoms.ids[: system.atoms.n]))
    return np.concatenate(system.world.allgather(np.asarray(values)))[np.argsort(ids)]


def bonds_of(positions, matrix, periodic, cutoff):
    """All (i, j, image): x_j + image @ matrix is within the cutoff of x_i."""
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(matrix), axis=0)).astype(int) + 1
    images = [range(-r, r + 1) if p else (0,) for r, p in zip(reach, periodic)]
    tree = cKDTree(positions)
    found = []
    for image in itertools.product(*images):
        moved = cKDTree(positions + np.array(image) @ matrix)
        for i, row in enumerate(tree.query_ball_tree(moved, cutoff * (1 - 1e-13))):
            found += [(i, j, image) for j in row if j != i or any(image)]
    return found


def brute_force(positions, matrix, periodic, solid, bonds, weights):
    """{cluster id: (sorted atoms, spans (3,), gyration tensor or None, centre or None)} by walking along the bonds."""
    around = {i: [] for i in np.flatnonzero(solid)}
    for i, j, image in bonds:
        if solid[i] and solid[j]:
            around[i].append((j, np.array(image)))
            around[j].append((i, -np.array(image)))
    seen, result = {}, {}
    for start in sorted(around):
        if start in seen:
            continue
        seen[start], atoms, queue, spans = np.zeros(3, int), [start], deque([start]), np.zeros(3, bool)
        while queue:
            i = queue.popleft()
            for j, image in around[i]:
                at = seen[i] + image
                if j in seen:
                    spans |= seen[j] != at
                else:
                    seen[j] = at
                    atoms.append(j)
                    queue.append(j)
        gyration = centre = None
        if not spans.any():
            x = positions[atoms] + np.array([seen[i] for i in atoms]) @ matrix
            w = weights[atoms] / weights[atoms].sum()
            centre = w @ x
            gyration = (x - centre).T @ ((x - centre) * w[:, None])
        result[start] = np.sort(atoms), spans, gyration, centre
    return result


def compare(system, found, reference, matrix, periodic, types):
    ids = by_id(system, found.ids)
    expected = np.full(len(ids), -1)
    for name, (atoms, *_) in reference.items():
        expected[atoms] = name
    np.testing.assert_array_equal(ids, expected)
    order = sorted(reference, key=lambda name: (-len(reference[name][0]), name))
    assert found.count == len(order) and found.atoms == (ids >= 0).sum()
    assert found.largest == (len(reference[order[0]][0]) if order else 0)
    sizes, numbers = np.unique([len(r[0]) for r in reference.values()], return_counts=True)
    np.testing.assert_array_equal(found.sizes, sizes)
    np.testing.assert_array_equal(found.numbers, numbers)
    np.testing.assert_array_equal(found.table["id"], order)
    inverse = np.linalg.inv(matrix)
    for row in found.table:
        atoms, spans, gyration, centre = reference[row["id"]]
        assert row["size"] == len(atoms)
        np.testing.assert_array_equal(row["spans"], spans)
        np.testing.assert_array_equal(row["species"], np.bincount(types[atoms], minlength=2))
        if gyration is None:
            assert np.isnan(row["radius"]) and np.isnan(row["centre"]).all() and np.isnan(row["asphericity"])
            continue
        six = [gyration[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
        np.testing.assert_allclose(row["gyration"], six, rtol=1e-10, atol=1e-9)
        low, middle, high = np.linalg.eigvalsh(gyration)
        assert row["radius"] == pytest.approx(np.sqrt(np.trace(gyration)), rel=1e-10, abs=1e-6)
        assert row["asphericity"] == pytest.approx(high - (low + middle) / 2, rel=1e-9, abs=1e-9)
        away = (row["centre"] - centre) @ inverse
        away -= np.where(periodic, np.rint(away), 0.0)
        np.testing.assert_allclose(away, 0, atol=1e-10)


@pytest.mark.parametrize(
    ("density", "share", "periodic", "reach"),
    [
        (0.03, 0.5, (True, True, True), 4.0),
        (0.03, 1.0, (True, True, True), 2.0),  # the potential's halo is too thin
        (0.022, 1.0, (True, True, True), 4.0),  # many clusters near the threshold of percolation
        (0.024, 1.0, (True, False, True), 4.0),
        (0.02, 1.0, (False, False, False), 4.0),
        (0.002, 1.0, (True, True, True), 4.0),  # nearly all alone
        (0.05, 1.0, (True, True, True), 4.0),  # all in one
    ],
)
def test_random_atoms_in_an_oblique_cell(world, density, share, periodic, reach):
    random = np.random.default_rng(int(1e4 * density))
    matrix = np.array([[31.0, 0, 0], [7, 29, 0], [-6, 9, 26]])
    count = int(density * np.linalg.det(matrix))
    positions = random.random((count, 3)) @ matrix
    types = random.integers(0, 2, count)
    solid = random.random(count) < share
    system = make(world, positions, matrix, periodic, reach, types)
    found = clusters.find_clusters(system, mine(system, solid), cutoff=3.6)
    reference = brute_force(
        positions, matrix, periodic, solid, bonds_of(positions, matrix, periodic, 3.6), MASSES[types]
    )
    compare(system, found, reference, matrix, periodic, types)
    listed = clusters.find_clusters(system, mine(system, solid), cutoff=3.6, smallest=4)
    np.testing.assert_array_equal(listed.table["id"], found.table["id"][found.table["size"] >= 4])
    np.testing.assert_array_equal(listed.ids, found.ids)
    assert listed.count == found.count and listed.largest == found.largest


def test_cells_smaller_than_the_cutoff(world):
    """Atoms that are neighbours of their own images, and of several images of others."""
    random = np.random.default_rng(2)
    matrix = np.array([[3.0, 0, 0], [0.5, 14, 0], [0, 1, 5.0]])
    positions = random.random((9, 3)) @ matrix
    types = np.zeros(9, int)
    system = make(world, positions, matrix, reach=3.7)
    solid = np.ones(9, bool)
    for cutoff in (2.0, 2.9, 3.1):
        bonds = bonds_of(positions, matrix, (True, True, True), cutoff)
        reference = brute_force(positions, matrix, (True, True, True), solid, bonds, MASSES[types])
        found = clusters.find_clusters(system, mine(system, solid), cutoff=cutoff)
        compare(system, found, reference, matrix, (True, True, True), types)
    assert found.table["spans"][:, 0].all()


def snake(turns, radius, length, step):
    """A helix along x, (n, 3)."""
    t = np.arange(0, 2 * np.pi * turns, step / radius)
    return np.stack([t / (2 * np.pi * turns) * length, radius * np.cos(t), radius * np.sin(t)], axis=1)


@pytest.mark.parametrize("gap", [0.0, 9.0])
def test_a_spiral_through_all_bricks_and_images(world, gap):
    """A helix far longer than the cell; it comes round on itself only where nothing is left out (gap)."""
    matrix = np.diag([40.0, 23.0, 23.0])
    line = snake(5, 17.0, 40.0 - gap, 1.0)  # wider than the cell: it winds through the images of y and z
    random = np.random.default_rng(5)
    order = random.permutation(len(line))
    positions = line[order]
    wrapped = positions - np.floor(positions @ np.linalg.inv(matrix)) @ matrix
    periodic = (True, True, True)
    types = np.zeros(len(line), int)
    system = make(world, wrapped, matrix, reach=3.0, types=types)
    solid = np.ones(len(line), bool)
    bonds = bonds_of(wrapped, matrix, periodic, 1.3)
    reference = brute_force(wrapped, matrix, periodic, solid, bonds, MASSES[types])
    found = clusters.find_clusters(system, mine(system, solid), cutoff=1.3)
    compare(system, found, reference, matrix, periodic, types)


def test_a_coil_keeps_its_extent(world):
    """One unbranched line, longer than the cell in two directions, that does not wind: unwrapped to what it was."""
    matrix = np.diag([30.0, 30.0, 30.0])
    t = np.arange(140)
    line = np.stack([0.55 * t, 0.4 * t, 12.0 + 0.05 * t], axis=1)  # 77 Å along x, 56 Å along y
    wrapped = line - np.floor(line / 30) * 30
    assert len(bonds_of(wrapped, matrix, (True,) * 3, 0.9)) == 2 * (len(line) - 1)
    system = make(world, wrapped, matrix, reach=2.0)
    found = clusters.find_clusters(system, np.ones(system.atoms.n, bool), cutoff=0.9)
    assert found.count == 1 and not found.table["spans"].any()
    gyration = np.cov(line.T, bias=True)
    assert found.table["radius"][0] == pytest.approx(np.sqrt(np.trace(gyration)), rel=1e-12)
    assert found.table["anisotropy"][0] == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(found.table["centre"][0], line.mean(0) % 30, atol=1e-10)


def test_shapes_that_are_known(world):
    """A ball, a rod, and an atom alone in one melt of nothing; the ball lies across a corner of the cell."""
    matrix = np.diag([48.0, 44.0, 40.0])
    grid = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 3, indexing="ij"), -1).reshape(-1, 3).astype(float)
    ball = grid[(grid**2).sum(1) <= 10.4**2]
    rod = np.stack([np.arange(21.0), np.full(21, 20.0), np.full(21, 20.0)], axis=1) + np.array([14, 0, 0])
    alone = np.array([[30.0, 30.0, 28.0]])
    positions = np.concatenate([ball, rod, alone])
    positions -= np.floor(positions @ np.linalg.inv(matrix)) @ matrix
    system = make(world, positions, matrix, reach=2.0)
    found = clusters.find_clusters(system, np.ones(system.atoms.n, bool), cutoff=1.2)
    big, line, one = found.table
    assert [row["size"] for row in found.table] == [len(ball), 21, 1]
    assert big["radius"] == pytest.approx(np.sqrt(0.6) * 10.4, rel=0.02) and abs(big["asphericity"]) < 1e-9
    np.testing.assert_allclose(np.minimum(big["centre"], np.diag(matrix) - big["centre"]), 0, atol=1e-10)
    assert line["radius"] == pytest.approx(np.sqrt((21**2 - 1) / 12)) and line["anisotropy"] == pytest.approx(1)
    assert line["asphericity"] == pytest.approx((21**2 - 1) / 12)
    assert one["radius"] == one["asphericity"] == one["anisotropy"] == 0
    np.testing.assert_allclose(one["centre"], alone[0])
    assert np.all(found.table["composition"][:, structure.OTHER] == found.table["size"])


def test_nothing_solid(world):
    matrix = np.diag([20.0] * 3)
    system = make(world, np.random.default_rng(0).random((50, 3)) * 20, matrix)
    found = clusters.find_clusters(system, np.zeros(system.atoms.n, bool))
    assert (found.count, found.atoms, found.largest, len(found.table)) == (0, 0, 0, 0)
    assert (found.ids == -1).all()


def test_only_atoms_with_solid_neighbours(world):
    """core: two balls that touch through a thread of atoms fall apart, and their skin is left out."""
    matrix = np.diag([44.0, 30.0, 30.0])
    grid = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij"), -1).reshape(-1, 3).astype(float)
    ball = grid[(grid**2).sum(1) <= 25]
    thread = np.stack([np.arange(6.0, 15.0), np.zeros(9), np.zeros(9)], axis=1)
    positions = np.concatenate([ball, ball + np.array([20, 0, 0]), thread]) + np.array([12, 2, 15])
    positions -= np.floor(positions @ np.linalg.inv(matrix)) @ matrix
    system = make(world, positions, matrix, reach=3.0)
    solid = np.ones(len(positions), bool)
    whole = clusters.find_clusters(system, mine(system, solid), cutoff=1.2)
    assert list(whole.table["size"]) == [len(positions)]
    degree = np.bincount([i for i, *_ in bonds_of(positions, matrix, (True,) * 3, 1.2)], minlength=len(positions))
    apart = clusters.find_clusters(system, mine(system, solid), cutoff=1.2, core=4)
    assert apart.atoms == (degree >= 4).sum() and len(apart.table) == 2
    np.testing.assert_array_equal(by_id(system, apart.ids) >= 0, degree >= 4)


def test_nearest_neighbours_as_bonds(world):
    random = np.random.default_rng(3)
    matrix = np.array([[24.0, 0, 0], [3, 22, 0], [0, -4, 25]])
    count = 700
    positions = random.random((count, 3)) @ matrix
    types = random.integers(0, 2, count)
    solid = random.random(count) < 0.12
    system = make(world, positions, matrix, reach=7.0, types=types)
    found = clusters.find_clusters(system, mine(system, solid), nearest=12)
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    bonds = []
    for i in range(count):
        moved = positions[None] + (images @ matrix)[:, None] - positions[i]
        distance = np.sqrt((moved**2).sum(-1))
        distance[13, i] = np.inf
        for k in np.argsort(distance, axis=None)[:12]:
            image, j = np.unravel_index(k, distance.shape)
            bonds.append((i, j, tuple(images[image])))
    reference = brute_force(positions, matrix, (True,) * 3, solid, bonds, MASSES[types])
    compare(system, found, reference, matrix, (True,) * 3, types)


def test_wrong_requests(world):
    system = make(world, np.random.default_rng(0).random((50, 3)) * 20, np.diag([20.0] * 3))
    solid = np.ones(system.atoms.n, bool)
    with pytest.raises(ValueError, match="either"):
        clusters.find_clusters(system, solid, cutoff=3.0, nearest=12)
    with pytest.raises(ValueError, match="positive"):
        clusters.find_clusters(system, solid, cutoff=-1.0)
    with pytest.raises(ValueError, match="shape"):
        clusters.find_clusters(system, solid[:-1], cutoff=3.0)


def test_orientations_of_grains_across_bricks(world):
    """Two grains over all bricks: means and spreads are those of one rank, whatever equivalent an atom is given as."""
    random = np.random.default_rng(11)
    grid = np.stack(np.meshgrid(*[np.arange(16) * 2.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    grain = (grid[:, 0] > 14).astype(int)
    positions = grid + np.where(grain[:, None], [3.0, 0, 0], 0)  # gaps of 3 Å and more between them
    matrix = np.diag([40.0, 32.0, 32.0])
    labels = np.array([structure.FCC, structure.HCP], np.int8)[grain]
    labels[random.random(len(labels)) < 0.2] = structure.BCC
    truths = random.normal(size=(2, 4))
    truths /= np.linalg.norm(truths, axis=1)[:, None]
    q = truths[grain] + random.normal(0, 0.01, (len(grain), 4))
    q /= np.linalg.norm(q, axis=1)[:, None]
    for kind in (0, 1):
        turns = clusters._TURNS[bool(kind)]
        rows = np.flatnonzero(grain == kind)
        q[rows] = np.einsum("kab,kb->ka", turns[random.integers(0, len(turns), len(rows))], q[rows])
    system = make(world, positions, matrix)
    found = clusters.find_clusters(
        system, np.ones(system.atoms.n, bool), labels=mine(system, labels), orientations=mine(system, q), cutoff=2.1
    )
    assert len(found.table) == 2 and found.table["spans"][:, 1:].all() and not found.table["spans"][:, 0].any()
    for row in found.table:
        kind = int(grain[row["id"]])
        assert row["composition"][(structure.FCC, structure.HCP)[kind]] > 0.7 * row["size"]
        closest = np.abs(clusters._TURNS[bool(kind)] @ truths[kind] @ row["orientation"]).max()
        assert closest > 1 - 1e-6
        assert row["spread"] == pytest.approx(np.degrees(2 * 0.01 * np.sqrt(3)), rel=0.05)
