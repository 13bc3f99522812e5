"""The critical size from a history; clusters beside OVITO; orientations of grains."""

import numpy as np
import pytest

from ostwald.app.analysis import structure
from ostwald.app.analysis.clusters import _TURNS, find_clusters, first_shell
from ostwald.app.analysis.nuclei import BIRTH, DISSOLVE, EVENT, MERGE, SPLIT, Nuclei, critical_size
from ostwald.app.atoms import build
from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.kernels import _clusters
from ostwald.app.potentials.base import Potential

ROW = np.dtype([("step", "i8"), ("number", "i8"), ("size", "i8")])


def history(sizes, ends=()):
    """(rows, events) of {number: sizes at steps 0, 1, 2 …}; ends: (step, kind, number, other)."""
    rows = [(step, number, size) for number, all_of in sizes.items() for step, size in enumerate(all_of) if size]
    events = [(step, 0.0, kind, number, other, 0, 0, 0.0) for step, kind, number, other in ends]
    return np.array(sorted(rows), ROW), np.array(events, EVENT)


def test_bracket_of_the_critical_size():
    sizes = {
        1: [20, 60, 80, 45, 22],  # dissolves from 80
        2: [20, 30, 25],  # dissolves from 30
        3: [25, 70, 30, 60, 120, 250, 700],  # falls back from 70, then grows; first seen beyond 80 at 120
        4: [20, 40, 75, 95, 300, 2000, 5000],  # grows; 95
        5: [30, 90, 0, 0],  # merges
    }
    ends = [(5, DISSOLVE, 1, 0), (3, DISSOLVE, 2, 0), (2, MERGE, 5, 4)]
    found = critical_size(*history(sizes, [*ends[1:2], ends[0]]))
    assert found.bracket == (80, 95)
    np.testing.assert_array_equal(found.dissolved, [30, 70, 80])
    np.testing.assert_array_equal(found.grown, [3, 4])
    np.testing.assert_array_equal(found.started, [120, 95])
    assert found.growing(20) == 2 / 5 and found.growing(75) == 2 / 3 and found.growing(81) == 1
    # what a nucleus is after it took in another is not its own doing: the fourth counts up to step 1
    found = critical_size(*history(sizes, ends))
    np.testing.assert_array_equal(found.grown, [3])
    assert found.bracket == (80, 120)
    # nor is what split off, or the loss of that part
    sizes[6], sizes[3][4:] = [0, 0, 0, 0, 150, 100], [120, 250, 100, 700]
    found = critical_size(*history(sizes, [*ends[:2], (4, SPLIT, 6, 3), (6, DISSOLVE, 6, 0)]))
    assert found.bracket == (80, 95) and list(found.grown) == [4]


def test_no_embryo_and_no_nucleus():
    found = critical_size(*history({}))
    assert np.isnan(found.bracket).all() and np.isnan(found.growing(10))
    found = critical_size(*history({1: [20, 30, 10]}, [(3, DISSOLVE, 1, 0)]))
    assert found.bracket[0] == 30 and np.isnan(found.bracket[1])
    # one that was there at the beginning does not tell from where it grew
    found = critical_size(*history({1: [20, 300, 1000], 2: [0, 30, 400]}))
    assert np.isnan(found.bracket[0]) and found.bracket[1] == 30 and list(found.grown) == [2]


def test_state_is_plain_and_complete():
    import json

    t = Nuclei()
    names, events = t._match([50, 40], {}, 1, 0.5)
    assert names == [1, 2] and list(events["kind"]) == [BIRTH, BIRTH]
    again = Nuclei()
    again.restore(json.loads(json.dumps(t.state())))
    pairs = {(1, 0): 45, (2, 0): 35}
    assert [np.asarray(x).tolist() for x in again._match([90], pairs, 2, 1.0)] == [
        np.asarray(x).tolist() for x in t._match([90], pairs, 2, 1.0)
    ]
    assert again.state() == t.state()


def test_wrong_settings():
    for wrong in (dict(overlap=0.0), dict(overlap=1.5), dict(patience=0)):
        with pytest.raises(ValueError, match="overlap"):
            Nuclei(**wrong)


# ---- beside OVITO ---------------------------------------------------------------------------------------------------


class Reach(Potential):
    species, cutoff = ("Al",), 5.0

    def parameters(self):
        return [self.cutoff]


def make(world, positions, matrix):
    atoms = Atoms(
        Reach.species, [26.98], positions.copy(), np.zeros(len(positions), np.int32), np.arange(len(positions))
    )
    system = System(world, Cell(matrix), atoms, Reach())
    system.update()
    return system


def test_clusters_as_in_ovito(world):
    """The same partition of the atoms of a crystal that was thinned out."""
    pytest.importorskip("ovito")
    from ovito.data import DataCollection, Particles, SimulationCell
    from ovito.modifiers import ClusterAnalysisModifier

    share = build.rattle(build.build_lattice(world, "fcc", 4.05, "Al", (12, 11, 10)), 0.1, seed=2)
    solid = np.random.default_rng(1).random(len(share.positions)) < 0.14
    system = make(world, share.positions, share.matrix)
    order = np.argsort(system.atoms.ids[: system.atoms.n])
    cutoff = first_shell(system)
    assert cutoff == pytest.approx(4.05 * (0.5**0.5 + 1) / 2)
    found = find_clusters(system, solid[system.atoms.ids[: system.atoms.n]], cutoff=cutoff)
    data = DataCollection()
    cell = SimulationCell(pbc=(True, True, True))
    cell[:, :3] = share.matrix.T
    data.objects.append(cell)
    particles = Particles()
    particles.create_property("Position", data=share.positions)
    particles.create_property("Selection", data=solid.astype(np.int32))
    data.objects.append(particles)
    data.apply(ClusterAnalysisModifier(cutoff=cutoff, only_selected=True))
    theirs, ours = np.array(data.particles["Cluster"])[solid], found.ids[order][solid]
    assert (found.ids[order][~solid] == -1).all()
    assert found.count == data.attributes["ClusterAnalysis.cluster_count"] > 200
    pairs = np.unique(np.stack([theirs, ours], axis=1), axis=0)
    assert len(pairs) == found.count == len(np.unique(theirs)) == len(np.unique(ours))  # one of theirs is one of ours


# ---- orientations ---------------------------------------------------------------------------------------------------


def quaternion(axis, degrees):
    axis, half = np.array(axis, float), np.radians(degrees) / 2
    return np.append(np.cos(half), np.sin(half) * axis / np.linalg.norm(axis))


def product(p, q):
    return np.append(p[0] * q[0] - p[1:] @ q[1:], p[0] * q[1:] + q[0] * p[1:] + np.cross(p[1:], q[1:]))


@pytest.mark.parametrize(("label", "hexagonal"), [(structure.FCC, False), (structure.HCP, True)])
def test_mean_orientation_does_not_depend_on_the_equivalent(world, label, hexagonal):
    """Atoms of one grain, each given as any of the equivalents and with noise: the mean is the grain's orientation."""
    random = np.random.default_rng(6)
    positions = np.stack(np.meshgrid(*[np.arange(9) * 2.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    matrix = np.eye(3) * 30
    system = make(world, positions, matrix)
    n = system.atoms.n
    truth = quaternion((1, 2, 3), 25.0)
    turns = _TURNS[hexagonal]
    noise = [quaternion(random.normal(size=3), a) for a in 4.0 * np.sqrt(random.random(n))]
    q = np.array([turns[random.integers(len(turns))] @ product(e, truth) for e in noise])
    q *= random.choice([-1.0, 1.0], (n, 1))
    labels = np.full(n, label, np.int8)
    labels[::7], q[::7] = structure.OTHER, 0.0  # atoms without an orientation
    found = find_clusters(system, np.ones(n, bool), labels=labels, orientations=q, cutoff=2.1)
    row = found.table[0]
    assert row["size"] == n and row["composition"][label] == (labels == label).sum()
    closest = np.abs(turns @ truth @ row["orientation"]).max()
    assert np.degrees(2 * np.arccos(min(closest, 1.0))) < 0.4
    assert row["orientation"][0] == pytest.approx(np.abs(turns @ truth)[:, 0].max(), abs=0.01)
    assert row["spread"] == pytest.approx(4.0 / np.sqrt(2), rel=0.1)
    nothing = find_clusters(system, np.ones(n, bool), labels=np.zeros(n, np.int8), orientations=q, cutoff=2.1).table[0]
    assert np.isnan(nothing["orientation"]).all() and np.isnan(nothing["spread"])


def test_grain_found_by_templates(world):
    """A rotated crystal in a cell: labels, orientation and composition as polyhedral template matching gives them."""
    turned = quaternion((0, 0, 1), 20.0)
    share = build.build_lattice(world, "fcc", 4.05, "Al", (12, 12, 12))
    middle = share.matrix.diagonal() / 2
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    x = (share.positions - middle) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + middle
    x = x[((x - middle) ** 2).sum(1) < 16.0**2]
    x += np.random.default_rng(0).normal(0, 0.05, x.shape)
    system = make(world, x, share.matrix)
    found = structure.structure(system, "ptm", fields=("orientation",))
    row = find_clusters(
        system, found.solid, labels=found.labels, orientations=found.fields["orientation"], cutoff=3.5
    ).table[0]
    assert row["composition"][structure.FCC] > 0.5 * len(x)
    closest = np.abs(_TURNS[False] @ turned @ row["orientation"]).max()
    assert np.degrees(2 * np.arccos(min(closest, 1.0))) < 0.3 and row["spread"] < 5


# ---- the kernel -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.01, 0.022, 0.06])
def test_threads_find_the_same_fragments(density):
    """The root of a component is its first atom, whatever the order of the unions."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    x = np.random.default_rng(8).random((20_000, 3)) * (20_000 / density) ** (1 / 3)
    member = np.random.default_rng(9).random(len(x)) < 0.9
    one, four = (_clusters.Near(x, len(x), member, 3.6, threads) for threads in (1, 4))
    np.testing.assert_array_equal(one.fragments, four.fragments)
    pairs = cKDTree(x[member]).query_pairs(3.6, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), shape=(member.sum(),) * 2)
    count, expected = connected_components(graph, directed=False)
    assert one.count == count and (one.fragments[~member] == -1).all()
    assert len(np.unique(np.stack([one.fragments[member], expected]), axis=1).T) == count


def test_the_kernel_refuses_what_it_cannot_use():
    x, member = np.zeros((4, 3)), np.ones(4, bool)
    with pytest.raises(ValueError, match="positive"):
        _clusters.Near(x, 4, member, 0.0)
    with pytest.raises(ValueError, match="positions"):
        _clusters.Near(x.astype(np.float32), 4, member, 1.0)
    with pytest.raises(ValueError, match="member"):
        _clusters.Near(x, 4, member[:3], 1.0)
    with pytest.raises(ValueError, match="not finite"):
        _clusters.Near(np.full((4, 3), np.nan), 4, member, 1.0)
    with pytest.raises(ValueError, match="indices"):
        _clusters.join_bonds(np.array([0, 2]), np.array([0, 7], np.int32), 1, member)
    with pytest.raises(ValueError, match="edges"):
        _clusters.components(np.zeros((3, 4), np.int64))


def test_loops_of_the_graph():
    """Shifts along a chain add up; a loop that does not close names its axes; other edges tell nothing new."""
    edges = np.array(
        [[5, 9, 1, 0, 0], [9, 2, 0, -1, 0], [2, 5, -1, 1, 0], [7, 8, 0, 0, 2], [8, 7, 0, 0, -1], [8, 7, 0, 0, -2]]
    )
    labels, clusters, images, spans, kept = _clusters.components(edges)
    np.testing.assert_array_equal(labels, [2, 5, 7, 8, 9])
    np.testing.assert_array_equal(clusters, [2, 2, 7, 7, 2])
    np.testing.assert_array_equal(images, [[0, 0, 0], [-1, 1, 0], [0, 0, 0], [0, 0, 2], [0, 1, 0]])
    np.testing.assert_array_equal(spans.any(axis=1), [False, False, True, True, False])
    np.testing.assert_array_equal(spans[2], [False, False, True])
    np.testing.assert_array_equal(kept, [True, True, False, True, True, False])
