"""Structure analysis: closed numbers of perfect crystals, and OVITO atom by atom."""

from math import sqrt

import numpy as np
import pytest
from scipy.special import sph_harm_y
from surroundings import crystal, icosahedron, lennard_jones, with_images

from ostwald.app.analysis import structure
from ostwald.app.analysis.distribution import PairDistribution
from ostwald.app.kernels import _structure
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.parallel import World


@pytest.fixture(scope="module")
def melts():
    """(name, positions, matrix): a Lennard-Jones liquid, an undercooled one and a hot crystal, in units of σ."""
    lattice, matrix = crystal("fcc", 1.65, 8, noise=0.05)
    liquid = lennard_jones(lattice, matrix, 250, 2.0, 1)
    quenched = lennard_jones(liquid, matrix, 250, 0.05, 2)
    cold, dense = crystal("fcc", 1.56, 7, noise=0.03)
    hot = lennard_jones(cold, dense, 100, 0.6, 3)
    return [("liquid", liquid, matrix), ("quenched", quenched, matrix), ("hot crystal", hot, dense)]


def ovito_labels(positions, matrix, cutoff=None):
    pytest.importorskip("ovito", reason="the comparison needs ovito")
    from ovito.data import DataCollection, Particles, SimulationCell
    from ovito.modifiers import CentroSymmetryModifier, CommonNeighborAnalysisModifier

    data = DataCollection()
    cell = SimulationCell(pbc=(True, True, True))
    with cell:
        cell[...] = np.column_stack([matrix.T, np.zeros(3)])
    data.objects.append(cell)
    particles = Particles()
    particles.create_property("Position", data=positions)
    data.objects.append(particles)
    mode = CommonNeighborAnalysisModifier.Mode
    options = dict(mode=mode.FixedCutoff, cutoff=cutoff) if cutoff else dict(mode=mode.AdaptiveCutoff)
    data.apply(CommonNeighborAnalysisModifier(**options))
    data.apply(CentroSymmetryModifier(num_neighbors=12))
    return np.array(data.particles["Structure Type"]), np.array(data.particles["Centrosymmetry"])


CRYSTALS = [
    ("fcc", 3.615, 12, False),
    ("fcc", 3.615, 19, True),
    ("bcc", 2.87, 15, False),
    ("bcc", 2.87, 19, True),
    ("hcp", 2.556, (18, 10, 11), False),
    ("hcp", 2.556, (15, 15, 14), True),
    ("dhcp", 2.556, (14, 8, 5), False),
    ("diamond", 5.43, 9, False),
]


@pytest.mark.parametrize("noise", [0.02, 0.08, 0.15, 0.25])
@pytest.mark.parametrize("lattice, a, cells, primitive", CRYSTALS)
def test_labels_are_ovitos_on_noisy_crystals(lattice, a, cells, primitive, noise):
    positions, matrix = crystal(lattice, a, cells, noise, seed=7, primitive=primitive)
    nb = with_images(positions, matrix, 6.0)
    cutoff = {"bcc": 1.2 * a, "hcp": 1.2 * a, "dhcp": 1.2 * a}.get(lattice, 0.85 * a)
    adaptive, csp = ovito_labels(positions, matrix)
    fixed, _ = ovito_labels(positions, matrix, cutoff)
    labels = structure.common_neighbours(nb, 6.0)
    assert np.count_nonzero(labels != adaptive) == 0
    assert np.count_nonzero(structure.common_neighbours(nb, 6.0, cutoff=cutoff) != fixed) == 0
    assert np.abs(structure.centrosymmetry(nb, 6.0) - csp).max() < 1e-9
    if noise == 0.02 and lattice in ("fcc", "bcc", "hcp"):
        assert (labels == structure.LABELS.index(lattice)).all()


def test_labels_are_ovitos_in_melts(melts):
    seen = set()
    for name, positions, matrix in melts:
        nb = with_images(positions, matrix, 2.5)
        adaptive, csp = ovito_labels(positions, matrix)
        labels = structure.common_neighbours(nb, 2.5)
        assert np.count_nonzero(labels != adaptive) == 0, name
        for cutoff in (1.35, 1.5):
            fixed, _ = ovito_labels(positions, matrix, cutoff)
            assert np.count_nonzero(structure.common_neighbours(nb, 2.5, cutoff=cutoff) != fixed) == 0, name
        assert np.abs(structure.centrosymmetry(nb, 2.5) - csp).max() < 1e-9
        seen |= set(labels.tolist())
    assert {structure.OTHER, structure.FCC, structure.HCP, structure.BCC} <= seen  # the comparison met these kinds


def test_icosahedron():
    nb = with_images(icosahedron(), np.eye(3) * 20, 6.0)
    assert structure.common_neighbours(nb, 6.0).tolist() == [structure.ICO] + 12 * [structure.OTHER]


# q4 and q6 of perfect shells (Steinhardt et al. 1983; Mickel et al., J. Chem. Phys. 138, 044501 (2013), table I).
PERFECT = [
    ("fcc", 4.0, 12, sqrt(7 / 192), sqrt(169 / 512)),
    ("hcp", 3.0, 12, sqrt(49 / 5184), 0.4847617),
    ("bcc", 3.0, 8, sqrt(7 / 27), sqrt(32 / 81)),
    ("bcc", 3.0, 14, sqrt(7 / 27) / 14 * 8 - sqrt(7 / 12) / 14 * 6, None),
    ("sc", 3.0, 6, sqrt(7 / 12), sqrt(1 / 8)),
    ("diamond", 5.0, 4, sqrt(7 / 27), sqrt(32 / 81)),
]


# ŵ4 and ŵ6 of perfect shells (Steinhardt et al. 1983, fig. 2; Mickel et al. 2013): for the cubic ones one value, either sign.
THIRD = [
    ("fcc", 4.0, 12, -0.1593174, -0.0131606),
    ("hcp", 3.0, 12, 0.1340970, -0.0124420),
    ("bcc", 3.0, 8, -0.1593174, 0.0131606),
    ("bcc", 3.0, 14, 0.1593174, 0.0131606),
    ("sc", 3.0, 6, 0.1593174, 0.0131606),
    ("ico", None, 12, None, -0.1697539),
]


@pytest.mark.parametrize("lattice, a, count, w4, w6", THIRD)
def test_third_order_invariants_of_perfect_crystals(lattice, a, count, w4, w6):
    if lattice == "ico":
        positions, matrix = icosahedron(), np.eye(3) * 20
    else:
        positions, matrix = crystal(lattice, a, 4)
    nb = with_images(positions, matrix, 6.0)
    found = structure.order_parameters(nb, 6.0, ("local_w4", "local_w6", "local_q4"), nearest=count)
    if w4 is None:
        assert found["local_q4"][0] < 1e-12
        assert found["local_w6"][0] == pytest.approx(w6, abs=1e-7)
    else:
        assert np.abs(found["local_w4"] - w4).max() < 1e-6 and np.abs(found["local_w6"] - w6).max() < 1e-6


@pytest.mark.parametrize("lattice, a, count, q4, q6", PERFECT)
def test_bond_order_of_perfect_crystals(lattice, a, count, q4, q6):
    positions, matrix = crystal(lattice, a, 4)
    nb = with_images(positions, matrix, 6.0)
    single = structure.bond_order(nb, 6.0, nearest=count, averaged=False)
    averaged = structure.bond_order(nb, 6.0, nearest=count)
    assert np.abs(single[4] - abs(q4)).max() < 1e-10
    if q6 is not None:
        assert np.abs(single[6] - q6).max() < 1e-7
    if lattice in ("fcc", "bcc", "sc"):  # all atoms alike: averaging changes nothing
        assert np.abs(averaged[4] - abs(q4)).max() < 1e-10


def test_harmonics_against_scipy(melts):
    _, positions, matrix = melts[0]
    nb = with_images(positions, matrix, 2.0)
    degrees = (2, 3, 4, 6, 8, 11, 12)
    offsets, indices = structure.neighbours(nb, 2.0, cutoff=1.5)
    q = structure.harmonics(nb, (offsets, indices), degrees)
    found = structure.invariants(q, degrees)
    assert np.array_equal(q[nb.nlocal :].shape, (nb.nall - nb.nlocal, q.shape[1]))
    for atom in (0, 5, nb.nlocal - 1):
        near = nb.positions[indices[offsets[atom] : offsets[atom + 1]]] - nb.positions[atom]
        r = np.linalg.norm(near, axis=1)
        theta, phi = np.arccos(near[:, 2] / r), np.arctan2(near[:, 1], near[:, 0])
        for l in degrees:
            qlm = np.array([sph_harm_y(l, m, theta, phi).mean() for m in range(-l, l + 1)])
            expected = sqrt(4 * np.pi / (2 * l + 1) * (np.abs(qlm) ** 2).sum())
            assert found[l][atom] == pytest.approx(expected, abs=1e-12)


def test_third_order_invariants_against_sympy(melts):
    wigner_3j = pytest.importorskip("sympy.physics.wigner").wigner_3j
    _, positions, matrix = melts[1]
    nb = with_images(positions, matrix, 2.0)
    offsets, indices = structure.neighbours(nb, 2.0, cutoff=1.5)
    degrees = (4, 5, 6)
    found = structure.third_invariants(structure.harmonics(nb, (offsets, indices), degrees), degrees)
    for l in degrees:
        terms = [(a, b, -a - b) for a in range(-l, l + 1) for b in range(-l, l + 1) if abs(a + b) <= l]
        weights = np.array([float(wigner_3j(l, l, l, *t)) for t in terms])
        columns = np.array(terms) + l
        for atom in (0, 7, nb.nlocal - 1):
            near = nb.positions[indices[offsets[atom] : offsets[atom + 1]]] - nb.positions[atom]
            theta = np.arccos(near[:, 2] / np.linalg.norm(near, axis=1))
            phi = np.arctan2(near[:, 1], near[:, 0])
            qlm = np.array([sph_harm_y(l, m, theta, phi).mean() for m in range(-l, l + 1)])
            w = (weights * qlm[columns].prod(axis=1)).sum() / (np.abs(qlm) ** 2).sum() ** 1.5
            assert found[l][atom] == pytest.approx(w.real, abs=1e-12)


def test_bond_order_is_freuds(melts):
    freud = pytest.importorskip("freud", reason="the comparison needs freud")
    twelve = {"num_neighbors": 12, "exclude_ii": True}
    for _, positions, matrix in melts:
        nb = with_images(positions, matrix, 2.5)
        box = freud.box.Box.from_matrix(matrix.T)
        system = (box, box.wrap(nb.positions[: nb.nlocal] - matrix.sum(axis=0) / 2))
        for averaged in (False, True):
            prefix = "" if averaged else "local_"
            found = structure.order_parameters(nb, 2.5, [prefix + name for name in ("q4", "q6", "w4", "w6")])
            for l in (4, 6):
                for third in (False, True):
                    options = dict(average=averaged, wl=third, wl_normalize=third)
                    theirs = freud.order.Steinhardt(l=l, **options).compute(system, neighbors=twelve).particle_order
                    mine = found[f"{prefix}{'w' if third else 'q'}{l}"]
                    # a tie for the twelfth place may be decided either way in single precision
                    assert (np.abs(mine - theirs) > 2e-4).mean() < 1e-3
        theirs = freud.order.SolidLiquid(l=6, q_threshold=0.7, solid_threshold=7).compute(system, neighbors=twelve)
        assert (structure.solid_bonds(nb, 2.5) != theirs.num_connections).mean() < 1e-3


def test_order_parameters_are_those_asked_one_by_one(melts):
    _, positions, matrix = melts[1]
    nb = with_images(positions, matrix, 2.5)
    names = ("q4", "q6", "w4", "w6", "local_q4", "local_q6", "local_w6", "bonds")
    found = structure.order_parameters(nb, 2.5, names)
    assert set(found) == set(names) and all(len(x) == nb.nlocal for x in found.values())
    averaged, local = structure.bond_order(nb, 2.5), structure.bond_order(nb, 2.5, averaged=False)
    for l in (4, 6):
        assert np.array_equal(found[f"q{l}"], averaged[l]) and np.array_equal(found[f"local_q{l}"], local[l])
    assert np.array_equal(found["bonds"], structure.solid_bonds(nb, 2.5))
    assert np.abs(found["w6"] - found["local_w6"]).max() > 0.01
    with pytest.raises(ValueError, match="no bond order parameter 'z6'"):
        structure.order_parameters(nb, 2.5, ["z6"])


def test_methods_of_one_interface(melts):
    _, positions, matrix = melts[2]
    nb = with_images(positions, matrix, 2.5)
    cna = structure.common_neighbours(nb, 2.5)
    for method in ("q6", "bonds"):
        found = structure.labelled(nb, 2.5, method, fields=("w4", "centrosymmetry"))
        assert found.solid.mean() > 0.95 and set(found.fields) == {
            "w4",
            "centrosymmetry",
            *structure.METHODS[method].fields,
        }
        assert np.array_equal(found.labels[cna > 0], cna[cna > 0])
        assert np.array_equal(found.labels == structure.CRYSTAL, found.solid & (cna == structure.OTHER))
        assert found.counts.sum() == found.total == nb.nlocal and found.solid_count == found.solid.sum()
        assert f"{found.threshold:g}" in found.describe()
        none = structure.labelled(nb, 2.5, method, threshold=13)
        assert not none.solid.any() and np.array_equal(none.labels, cna)
    with pytest.raises(ValueError, match="one of q6, cna"):
        structure.labelled(nb, 2.5, "q5")


def test_averaging_and_solid_bonds_against_numpy(melts):
    for _, positions, matrix in melts[1:]:
        nb = with_images(positions, matrix, 2.5)
        bonds = _, indices = structure.neighbours(nb, 2.5, nearest=12)
        q = structure.harmonics(nb, bonds, (6,))
        table = indices.reshape(-1, 12)
        mean = (q[: nb.nlocal] + q[table].sum(axis=1)) / 13
        expected = np.sqrt(4 * np.pi / 13 * (mean**2).sum(axis=1))
        assert np.abs(structure.bond_order(nb, 2.5, (6,))[6] - expected).max() < 1e-12
        unit = q / np.linalg.norm(q, axis=1)[:, None]
        cosine = np.einsum("ik,ijk->ij", unit[: nb.nlocal], unit[table])
        assert np.array_equal(structure.solid_bonds(nb, 2.5, threshold=0.7), (cosine > 0.7).sum(axis=1))


def test_solid_threshold_separates_crystal_from_melt(melts):
    q6 = {name: structure.bond_order(with_images(x, m, 2.5), 2.5, (6,))[6] for name, x, m in melts}
    assert (q6["liquid"] > structure.SOLID).mean() < 0.02
    assert (q6["hot crystal"] > structure.SOLID).mean() > 0.99


def test_neighbours_are_exact_whatever_the_density():
    """A dense cluster in a large empty box: the first search radius is far too large or small for most atoms."""
    rng = np.random.default_rng(4)
    positions = np.concatenate([rng.normal(30, 1.0, (400, 3)), rng.uniform(0, 60, (300, 3))])
    nb = with_images(positions, np.eye(3) * 60, 14.0)
    d = np.linalg.norm(nb.positions[: nb.nlocal, None] - nb.positions, axis=2)
    d[np.arange(nb.nlocal), np.arange(nb.nlocal)] = np.inf
    for count, reach in ((14, 14.0), (40, 14.0), (64, 5.0)):
        offsets, indices = structure.neighbours(nb, reach, nearest=count)
        order = np.argsort(d, axis=1)[:, :count]
        for i in range(nb.nlocal):
            expected = [j for j in order[i] if d[i, j] < reach]
            assert indices[offsets[i] : offsets[i + 1]].tolist() == expected
    assert np.array_equal(structure.coordination(nb, 14.0, 3.0), (d < 3.0).sum(axis=1))


def test_threads_change_nothing(melts):
    _, positions, matrix = melts[1]
    nb = with_images(positions, matrix, 2.5)
    assert np.array_equal(structure.common_neighbours(nb, 2.5, threads=3), structure.common_neighbours(nb, 2.5))
    one, three = structure.bond_order(nb, 2.5), structure.bond_order(nb, 2.5, threads=3)
    assert np.array_equal(one[6], three[6]) and np.array_equal(one[4], three[4])


def test_mistakes_are_refused():
    nb = with_images(np.zeros((1, 3)), np.eye(3) * 5, 2.0)
    with pytest.raises(ValueError, match="at most the reach"):
        structure.coordination(nb, 2.0, 3.0)
    with pytest.raises(ValueError, match="number"):
        structure.neighbours(nb, 2.0)
    with pytest.raises(ValueError, match="float64"):
        _structure.adaptive_cna(np.zeros((4, 3), np.float32), 4, 2.0)
    with pytest.raises(ValueError, match="not finite"):
        _structure.adaptive_cna(np.full((4, 3), np.nan), 4, 2.0)
    with pytest.raises(ValueError, match="columns"):
        _structure.harmonics(np.zeros((4, 3)), np.zeros(5, np.int64), np.zeros(0, np.int32), [6], np.zeros((4, 12)))


def test_few_or_no_atoms():
    empty = Neighbourhoods(np.zeros((0, 3)), np.zeros(0, np.int32), 0, np.zeros(1, np.int64), np.zeros(0, np.int32))
    assert len(structure.common_neighbours(empty, 3.0)) == 0 and len(structure.bond_order(empty, 3.0)[6]) == 0
    alone = with_images(np.ones((1, 3)), np.eye(3) * 50, 6.0)
    assert structure.common_neighbours(alone, 6.0).tolist() == [structure.OTHER]
    assert structure.bond_order(alone, 6.0)[6].tolist() == [0.0]


class OneRank:
    """What PairDistribution asks of a system."""

    def __init__(self, positions, matrix, types, reach):
        from ostwald.app.atoms.cell import Cell

        self.world, self.cell, self.total, self.threads = World(), Cell(matrix), len(positions), 1
        self.potential = type("Reach", (), {"cutoff": reach})
        self.nb = with_images(positions, matrix, reach, types)

    def neighbourhoods(self):
        return self.nb


def test_pair_distribution():
    rng = np.random.default_rng(1)
    matrix = np.array([[12.0, 0, 0], [3, 11, 0], [-2, 4, 13]])
    gas = rng.uniform(size=(4000, 3)) @ matrix
    types = rng.permutation(np.repeat([0, 1], [1000, 3000]))
    pairs = PairDistribution(4.0, 20, 2)
    pairs.sample(OneRank(gas, matrix, types, 4.0))
    assert np.abs(pairs.g[:, :, 4:] - 1).max() < 0.15 and np.abs(pairs.g[:, :, 12:] - 1).max() < 0.06
    assert np.allclose(pairs.g[0, 1], pairs.g[1, 0])

    positions, matrix = crystal("fcc", 4.0, 5)
    pairs = PairDistribution(5.0, 100, 1)
    pairs.sample(OneRank(positions, matrix, np.zeros(500, np.int32), 5.0))
    shell = 4 / 3 * np.pi * np.diff(pairs.edges**3)
    running = np.cumsum(pairs.g[0, 0] * shell * 499 / 8000)
    assert running[np.searchsorted(pairs.r, 3.3)] == pytest.approx(12)
    assert running[-1] == pytest.approx(12 + 6 + 24)
