"""Polyhedral template matching and identification of diamond: what crystals are made of, and OVITO atom by atom."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from surroundings import crystal, icosahedron, lennard_jones, with_images

from ostwald.app.analysis import structure
from ostwald.app.atoms import build
from ostwald.app.kernels import _ptm
from ostwald.parallel import World

ALL = structure.TEMPLATES
FIELDS = ("rmsd", "distance", "orientation", "deformation", "ordering")
CELLS = {
    "fcc": ("fcc", 3.6, (5, 6, 5), 6.5),
    "hcp": ("hcp", 2.5, (9, 5, 5), 5.5),
    "bcc": ("bcc", 2.9, (7, 6, 7), 6.0),
    "sc": ("sc", 2.5, (7, 8, 7), 6.0),
    "cubic_diamond": ("diamond", 5.4, (4, 5, 4), 8.0),
    "hexagonal_diamond": ("wurtzite", 3.8, (7, 4, 4), 8.0),
}
DISTANCE = {"fcc": 3.6 / 2**0.5, "hcp": 2.5, "bcc": 2.9 * 0.75**0.5, "sc": 2.5, "cubic_diamond": 5.4 * 3**0.5 / 4}


def atoms(lattice, a, cells, noise=0.0, seed=3):
    """(positions, matrix, types)"""
    pairs = ("wurtzite", "zincblende", "b2", "l1_2", "l1_0", "rocksalt")
    share = build.build_lattice(World(), lattice, a, ("A", "B") if lattice in pairs else "A", cells)
    return build.rattle(share, noise, seed).positions if noise else share.positions, share.matrix, share.types


def match(positions, matrix, reach, types=None, templates=ALL, cutoff=np.inf):
    nb = with_images(positions, matrix, reach, types)
    return structure.match_templates(nb, reach, templates, FIELDS, cutoff=cutoff)


def misorientation(a, b):
    """Degrees between rotations given as quaternions w, x, y, z."""
    return np.degrees(2 * np.arccos(np.clip(np.abs((a * b).sum(axis=-1)), 0, 1)))


def symmetry(label):
    cubic, hexagonal = Rotation.create_group("O"), Rotation.create_group("D6")
    return hexagonal if label in ("hcp", "hexagonal_diamond") else cubic


@pytest.mark.parametrize("noise", [0.0, 1e-10, 0.01, 0.1])
@pytest.mark.parametrize("label", CELLS)
def test_crystals_are_recognised_however_they_are_turned(label, noise):
    lattice, a, cells, reach = CELLS[label]
    positions, matrix, types = atoms(lattice, a, cells, noise)
    turn = Rotation.random(random_state=5)
    for rotation in (Rotation.identity(), turn):
        labels, fields = match(rotation.apply(positions), rotation.apply(matrix), reach, types)
        assert (labels == structure.LABELS.index(label)).all()
        assert fields["rmsd"].max() < 1e-6 + 1.3 * noise
        if noise < 1e-9:
            assert label not in DISTANCE or np.abs(fields["distance"] - DISTANCE[label]).max() < 1e-6
        # the crystal's axes, up to its rotations, and of these the least angle
        found = fields["orientation"]
        assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-12 and (found[:, 0] >= 0).all()
        group = symmetry(label)
        equivalent = (rotation * group).as_quat()[:, [3, 0, 1, 2]]
        error = np.min([misorientation(found, q) for q in equivalent], axis=0)
        assert error.max() < (1e-4 if noise < 1e-9 else 250 * noise / DISTANCE.get(label, 2.3))
        least = np.degrees(min((rotation * g).magnitude() for g in group))
        assert np.abs(misorientation(found, np.array([1.0, 0, 0, 0])) - least).max() < error.max() + 1e-4


@pytest.mark.parametrize("label", ["fcc", "bcc", "sc", "cubic_diamond"])
def test_deformation_is_that_of_a_strained_crystal(label):
    lattice, a, cells, reach = CELLS[label]
    positions, matrix, _ = atoms(lattice, a, cells)
    rotation = Rotation.random(random_state=8)
    strained = rotation.as_matrix() @ np.array([[1.02, 0.01, 0], [0.01, 0.99, -0.02], [0, -0.02, 1.01]])
    nb = with_images(positions @ strained.T, matrix @ strained.T, reach)
    labels, fields = structure.match_templates(nb, reach, ALL, ("deformation", "distance"), cutoff=np.inf)
    assert (labels == structure.LABELS.index(label)).all()
    found = fields["deformation"].reshape(-1, 3, 3)
    found = found / np.cbrt(np.linalg.det(found))[:, None, None]
    expected = strained / np.cbrt(np.linalg.det(strained)) @ Rotation.create_group("O").as_matrix()
    off = np.abs(found[:, None] - expected[None]).max(axis=(2, 3)).min(axis=1)
    assert off.max() < 1e-9


def test_icosahedra():
    rng = np.random.default_rng(1)
    centres = np.stack(np.meshgrid(*[np.arange(3) * 9.0] * 3), -1).reshape(-1, 3)
    turns = Rotation.random(len(centres), random_state=2)
    shells = np.stack([turn.apply(icosahedron() * 1.3) for turn in turns])
    positions = (centres[:, None] + shells).reshape(-1, 3) + rng.normal(0, 0.05, (len(centres) * 13, 3))
    labels, fields = match(positions, np.eye(3) * 27, 12.0)
    assert (labels[::13] == structure.ICO).all() and fields["rmsd"][::13].max() < 0.06
    axes = np.array([np.abs(Rotation.from_quat(q[[1, 2, 3, 0]]).apply([0, 0, 1])) for q in fields["orientation"][::13]])
    assert len(np.unique(axes.round(3), axis=0)) > 20


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(
    "lattice, a, cells, reach, expected",
    [
        ("fcc", 3.6, 4, 6.5, {"pure": 1.0}),
        ("l1_0", 3.6, 5, 6.5, {"L1_0": 1.0}),
        ("l1_2", 3.6, 5, 6.5, {"L1_2 majority": 0.75, "L1_2 minority": 0.25}),
        ("b2", 2.9, 6, 6.0, {"B2": 1.0}),
        ("zincblende", 5.6, 4, 8.0, {"zincblende or wurtzite": 1.0}),
        ("wurtzite", 3.8, (7, 4, 4), 8.0, {"zincblende or wurtzite": 1.0}),
        ("rocksalt", 5.0, 4, 6.5, {"none": 1.0}),
    ],
)
def test_orderings(lattice, a, cells, reach, expected, noise):
    positions, matrix, types = atoms(lattice, a, cells, noise)
    _, fields = match(positions, matrix, reach, types)
    fractions = np.bincount(fields["ordering"], minlength=len(structure.ORDERINGS)) / len(types)
    assert {n: f for n, f in zip(structure.ORDERINGS, fractions) if f} == expected
    if lattice == "b2":  # an atom of a third species, its first and its second neighbours are not ordered
        types = types.copy()
        types[0] = 2
        _, fields = match(positions, matrix, reach, types)
        assert np.count_nonzero(fields["ordering"] == 0) == 15


def brute_force(shell, template):
    """The least RMSD of a shell (with its atom at 0) and a template over all permutations of six points."""
    from itertools import permutations

    x = np.vstack([np.zeros(3), shell])
    x = x - x.mean(axis=0)
    t = np.vstack([np.zeros(3), template])
    best = np.inf
    for order in permutations(range(6)):
        s = np.vstack([t[:1], t[1:][list(order)]])
        u, d, v = np.linalg.svd(s.T @ x)
        top = d.sum() - (2 * d[2] if np.linalg.det(u @ v) < 0 else 0)
        best = min(best, np.sqrt(max(0, ((s**2).sum() - top**2 / (x**2).sum()) / 7)))
    return best


def test_rmsd_is_the_least_over_all_permutations():
    positions, matrix, _ = atoms("sc", 2.5, 4, 0.2)
    labels, fields = match(positions, matrix, 6.0, templates=("sc",))
    nb = with_images(positions, matrix, 6.0)
    assert (labels == structure.SC).mean() > 0.9
    template = np.array(_ptm.templates()[structure.TEMPLATES.index("sc")])
    _, indices = structure.neighbours(nb, 6.0, nearest=6)
    for atom in np.flatnonzero(labels == structure.SC)[:6]:
        shell = nb.positions[indices[6 * atom : 6 * atom + 6]] - nb.positions[atom]
        assert fields["rmsd"][atom] == pytest.approx(brute_force(shell, template), abs=1e-9)


def test_templates_are_normalised():
    for name, points in zip(ALL, _ptm.templates()):
        points = np.array(points)
        assert np.linalg.norm(points, axis=1).mean() == pytest.approx(1), name
        assert np.abs(points.sum(axis=0)).max() < 1e-12, name


def test_threshold_threads_and_restriction():
    positions, matrix, _ = atoms("fcc", 3.6, 6, 0.2)
    labels, fields = match(positions, matrix, 6.5)
    cut, cut_fields = match(positions, matrix, 6.5, cutoff=0.12)
    assert np.array_equal(cut, np.where(fields["rmsd"] <= 0.12, labels, structure.OTHER))
    assert 0.05 < (cut == structure.OTHER).mean() < 0.9 and (cut_fields["ordering"][cut == structure.OTHER] == 0).all()
    assert np.array_equal(cut_fields["rmsd"], fields["rmsd"], equal_nan=True)
    assert np.array_equal(np.isnan(fields["rmsd"]), labels == structure.OTHER)
    only, _ = match(positions, matrix, 6.5, templates=("bcc", "sc"))
    assert set(only.tolist()) <= {structure.OTHER, structure.BCC, structure.SC}
    nb = with_images(positions, matrix, 6.5)
    for threads in (2, 3):
        again, values = structure.match_templates(nb, 6.5, ALL, FIELDS, cutoff=np.inf, threads=threads)
        assert np.array_equal(again, labels) and np.array_equal(values["orientation"], fields["orientation"])
    with pytest.raises(ValueError, match="templates are fcc"):
        structure.match_templates(nb, 6.5, ("fcc", "cubic"))


def test_few_or_no_atoms():
    sheet = np.array([(x, y, 0.0) for x in range(0, 50, 2) for y in range(0, 50, 2)])
    pairs = np.repeat(np.random.default_rng(1).uniform(0, 12, (200, 3)), 2, axis=0)  # atoms on one another
    for positions in (np.zeros((0, 3)), np.ones((1, 3)), icosahedron()[:5], np.zeros((20, 3)), sheet, pairs):
        nb = with_images(positions, np.eye(3) * 50, 6.0)
        labels, fields = structure.match_templates(nb, 6.0, ALL, FIELDS)
        assert (labels == structure.OTHER).all() and np.isnan(fields["rmsd"]).all()
        assert (structure.diamond(nb, 6.0) == 0).all()


def test_methods_of_the_interface():
    positions, matrix, types = atoms("b2", 2.9, 6, 0.15)
    nb = with_images(positions, matrix, 6.0, types)
    found = structure.labelled(nb, 6.0, "ptm", fields=("orientation", "q6"))
    assert set(found.fields) == {"rmsd", "ordering", "orientation", "q6"} and found.solid.mean() > 0.95
    assert np.array_equal(found.solid, found.labels == structure.BCC)
    assert "fcc, hcp, bcc, ico" in found.describe() and "0.12" in found.describe()
    assert structure.labelled(nb, 6.0, "q6", fields=("ordering",)).fields["ordering"].mean() > 4
    positions, matrix, _ = atoms("diamond", 5.4, 4, 0.1)
    nb = with_images(positions, matrix, 8.0)
    for method in ("diamond", "ptm"):
        found = structure.labelled(nb, 8.0, method, templates=("fcc", "cubic_diamond"))
        assert (found.labels == structure.CUBIC_DIAMOND).all() and found.solid_fraction == 1
    assert structure.labels_of("ptm", ("bcc", "sc")) == ("bcc", "sc")


# --- diamond by second neighbours


def bilayers(stack, n=8, a=3.8, noise=0.0, seed=1):
    """(positions, matrix) of a tetrahedral polytype: h layers are hexagonal, k layers cubic."""
    at = {"A": (0, 0), "B": (a / 2, a / 12**0.5), "C": (0, a / 3**0.5)}
    bond = a * (3 / 8) ** 0.5
    i, j = (x.ravel() for x in np.meshgrid(np.arange(n), np.arange(n // 2)))
    net = np.stack([i * a, j * a * 3**0.5, 0 * i], 1)
    net = np.concatenate([net, net + np.array([a / 2, a * 3**0.5 / 2, 0])])
    layers = [net + np.array([*at[s], k * bond * 4 / 3 + up]) for k, s in enumerate(stack) for up in (0, bond)]
    positions = np.concatenate(layers) + np.random.default_rng(seed).normal(0, noise, (len(net) * 2 * len(stack), 3))
    return positions, np.diag([n * a, n // 2 * a * 3**0.5, len(stack) * bond * 4 / 3])


def test_diamond_polytypes():
    positions, matrix = bilayers("ABCACB", noise=0.05)  # 6H: two cubic for each hexagonal double layer
    labels = structure.labelled(with_images(positions, matrix, 7.0), 7.0, "diamond").labels
    layer = np.repeat(np.arange(12), len(labels) // 12)
    fractions = [(labels[layer == k] == structure.HEXAGONAL_DIAMOND).mean() for k in range(12)]
    assert set(fractions) == {0.0, 1.0} and sum(fractions) == 4
    templates = structure.labelled(with_images(positions, matrix, 8.0), 8.0, "ptm", templates=ALL).labels
    assert np.array_equal(labels, templates)


def test_shells_around_diamond():
    positions, matrix, _ = atoms("diamond", 5.4, 6)
    slab = positions[:, 0] < 27.0 - 2.0  # the last layers taken out: two surfaces
    nb = with_images(positions[slab], matrix, 8.0)
    shells = structure.diamond(nb, 8.0)
    assert set(shells.tolist()) == {0, 1, 2, 3} or set(shells.tolist()) == {1, 2, 3}
    x = positions[slab][:, 0]
    depth = np.minimum(x - x.min(), x.max() - x)
    assert [depth[shells == k].min() > depth[shells == k + 1].max() - 1e-9 for k in (1, 2)] == [True, True]


# --- OVITO


def ovito(positions, matrix, types=None):
    pytest.importorskip("ovito", reason="the comparison needs ovito")
    from ovito.data import DataCollection, Particles, SimulationCell
    from ovito.modifiers import IdentifyDiamondModifier, PolyhedralTemplateMatchingModifier

    data = DataCollection()
    cell = SimulationCell(pbc=(True, True, True))
    with cell:
        cell[...] = np.column_stack([matrix.T, np.zeros(3)])
    data.objects.append(cell)
    particles = Particles()
    particles.create_property("Position", data=positions)
    if types is not None:
        particles.create_property("Particle Type", data=types + 1)
    data.objects.append(particles)
    data.apply(IdentifyDiamondModifier())
    diamond = np.array(data.particles["Structure Type"])
    options = dict(output_rmsd=True, output_orientation=True, output_interatomic_distance=True)
    options |= dict(output_deformation_gradient=True)
    modifier = PolyhedralTemplateMatchingModifier(rmsd_cutoff=0.0, output_ordering=types is not None, **options)
    kinds = PolyhedralTemplateMatchingModifier.Type
    names = ("FCC", "HCP", "BCC", "ICO", "SC", "CUBIC_DIAMOND", "HEX_DIAMOND")
    numbers = [int(getattr(kinds, name)) for name in names]
    for kind in modifier.structures:
        kind.enabled = kind.id in numbers
    data.apply(modifier)
    labels = np.zeros(len(positions), int)
    for name, number in zip(ALL, numbers):
        labels[np.array(data.particles["Structure Type"]) == number] = structure.LABELS.index(name)
    result = dict(labels=labels, diamond=diamond)
    for name in ("RMSD", "Interatomic Distance", "Orientation", "Ordering Type", "Elastic Deformation Gradient"):
        if name in data.particles:
            result[name] = np.array(data.particles[name])
    return result


def against_ovito(positions, matrix, reach, types=None, cutoffs=(0.1, 0.15, 0.2), differing=1e-3):
    nb = with_images(positions, matrix, reach, types)
    expected = ovito(nb.positions[: nb.nlocal], matrix, types)
    labels, fields = structure.match_templates(nb, reach, ALL, FIELDS, cutoff=np.inf)
    for cutoff in cutoffs:
        mine = np.where(fields["rmsd"] <= cutoff, labels, 0)
        theirs = np.where(expected["RMSD"] <= cutoff, expected["labels"], 0)
        assert (mine != theirs).mean() < differing
    same = (labels == expected["labels"]) & (labels != 0)
    assert same.any()
    off = np.abs(fields["rmsd"] - expected["RMSD"])[same] > 1e-6
    off |= np.abs(fields["distance"] - expected["Interatomic Distance"])[same] > 1e-6
    assert not off.any() if differing == 1e-3 else off.mean() < 2 * differing
    turned = misorientation(fields["orientation"], expected["Orientation"][:, [3, 0, 1, 2]])[same]
    assert (turned < 0.1).mean() > 1 - 2 * differing  # the rest at the border of the fundamental zone
    deformation = expected["Elastic Deformation Gradient"].reshape(-1, 3, 3).transpose(0, 2, 1).reshape(-1, 9)
    assert (np.abs(fields["deformation"] - deformation)[same].max(axis=1) < 1e-6).mean() > 1 - 2 * differing
    if types is not None:
        assert np.array_equal(fields["ordering"][same], expected["Ordering Type"][same])
    shells = structure.diamond(nb, reach)
    assert np.array_equal(np.isin(shells, (1, 4)) * shells, np.isin(expected["diamond"], (1, 4)) * expected["diamond"])
    assert np.array_equal(shells == 0, expected["diamond"] == 0)
    both = np.count_nonzero(np.isin(shells, (1, 2, 3)) != np.isin(expected["diamond"], (1, 2, 3)))
    assert both == 0 or (np.isin(shells, (4, 5, 6)).any() and both < 0.05 * len(shells))
    return labels


NOISY = [
    ("fcc", 3.615, 8, 6.5),
    ("bcc", 2.87, 10, 6.0),
    ("hcp", 2.556, (12, 7, 7), 6.0),
    ("dhcp", 2.556, (12, 7, 4), 6.0),
    ("sc", 2.5, 12, 6.0),
    ("diamond", 5.43, 6, 9.0),
    ("wurtzite", 3.8, (9, 6, 5), 9.0),
    ("l1_0", 3.6, 7, 6.5),
    ("l1_2", 3.6, 7, 6.5),
    ("b2", 2.9, 9, 6.0),
    ("zincblende", 5.6, 5, 9.0),
]


@pytest.mark.parametrize("noise", [0.05, 0.15, 0.25])
@pytest.mark.parametrize("lattice, a, cells, reach", NOISY)
def test_ovito_on_noisy_crystals(lattice, a, cells, reach, noise):
    positions, matrix, types = atoms(lattice, a, cells, noise, seed=11)
    against_ovito(positions, matrix, reach, types)


def test_ovito_on_melts_interfaces_and_defects():
    lattice, matrix = crystal("fcc", 1.65, 8, noise=0.05)
    liquid = lennard_jones(lattice, matrix, 250, 2.0, 1)
    against_ovito(liquid, matrix, 4.0)
    quenched = lennard_jones(liquid, matrix, 250, 0.05, 2)
    seen = set(against_ovito(quenched, matrix, 4.0).tolist())
    against_ovito(np.where((lattice[:, 0] < matrix[0, 0] / 2)[:, None], lattice, liquid), matrix, 4.0)
    assert {structure.FCC, structure.HCP, structure.BCC, structure.ICO, structure.SC} <= seen
    rng = np.random.default_rng(2)
    for name, a, cells, reach in (("fcc", 3.6, 7, 9.0), ("bcc", 2.87, 8, 9.0), ("diamond", 5.43, 6, 14.0)):
        positions, matrix, _ = atoms(name, a, cells, 0.08)
        # Beside a vacancy of diamond two inner atoms can claim an outer one at the same rank, which OVITO leaves to chance.
        differing = 5e-3 if name == "diamond" else 1e-3
        against_ovito(positions[rng.random(len(positions)) > 0.05], matrix, reach, differing=differing)
        against_ovito(positions[positions[:, 2] > matrix[2, 2] / 2], matrix, 2 * reach, differing=differing)
    against_ovito(*bilayers("ABCABABCBABC", 12, noise=0.15), 9.0)
