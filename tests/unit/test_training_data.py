"""Splits, folds and reference energies; checks that find what was put into a data set, and nothing in a clean one."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from ostwald.app import potentials
from ostwald.app.training.checks import check, consistency, duplicates
from ostwald.app.training.data import folds, reference_energies, split
from ostwald.io.datasets import DataSetError, LabelledStructure, open_dataset, write_dataset


def made(tmp_path, structures):
    write_dataset(tmp_path / "set.dataset", structures)
    return open_dataset(tmp_path / "set.dataset")


@pytest.fixture(scope="module")
def clean():
    """Trajectories of rattled and strained cells of Ni-Al, labelled by an EAM potential."""
    rng, found = np.random.default_rng(2), []
    calculator = potentials.load("zhou:Ni-Al").ase()
    for k in range(24):
        if k % 12 == 0:
            start = bulk("Ni", cubic=True) * (1 + k // 12, 1, 1)
            start.numbers[1] = 13
            start.rattle(0.1, seed=k)
            start.set_cell(start.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        start = start.copy()
        if k < 12:
            start.set_cell(start.cell @ (np.eye(3) + rng.normal(0, 0.01, (3, 3))), scale_atoms=True)
        else:
            start.positions += rng.normal(0, 0.05, start.positions.shape)
        start.calc = calculator
        found.append(
            LabelledStructure(
                start.positions,
                start.numbers,
                start.cell,
                True,
                start.get_potential_energy(),
                start.get_forces(),
                start.get_stress(),
                group="strained" if k < 12 else "rattled",
            )
        )
    return found


def texts(report, level=None):
    return [f.text for f in report.findings if level in (None, f.level)]


def test_a_clean_set(tmp_path, clean):
    report = check(made(tmp_path, clean))
    assert not report.findings and "nothing suspicious" in str(report)
    assert "24 structures, 144 atoms, Al Ni; 24 energies, 144 forces, 24 stresses" in str(report)
    assert [row[:2] for row in report.groups[1:]] == [["strained", "12"], ["rattled", "12"]]
    assert [row[0] for row in report.distances[1:]] == ["Al-Al", "Al-Ni", "Ni-Ni"]
    # the nearest pairs against all images
    from ase.geometry import get_distances

    for s, nearest in zip(clean, report.nearest):
        atoms = s.to_ase() * (3, 3, 3)
        away = get_distances(atoms.positions)[1]
        assert np.isclose(np.min(away[away > 0]), nearest)


def test_copies_are_found_moved_turned_and_renumbered(tmp_path, clean):
    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    s = clean[15]
    order = rng.permutation(len(s))
    copy = replace(
        s,
        positions=((s.positions + np.array([0.3, 5, -2]))[order]) @ turn,
        numbers=s.numbers[order],
        cell=(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ s.cell) @ turn,  # another cell of the same crystal
        forces=s.forces[order] @ turn,
    )
    near = replace(s, positions=s.positions + 1e-3 * (np.arange(len(s)) == 2)[:, None])
    swapped = replace(s, numbers=s.numbers[::-1])
    ds = made(tmp_path, [*clean, copy, near, swapped, replace(copy, energy=s.energy + 1)])
    assert list(duplicates(ds)[24:]) == [15, 25, 26, 15]
    report = check(ds)
    assert list(report.repeated) == [24, 27] and list(report.unusable) == [27]
    assert any("with another energy, by up to 125 meV/atom" in text for text in texts(report, "error"))


@pytest.mark.parametrize(
    "change, level, message",
    [
        ({"energy": None, "forces": None}, "error", "neither energy nor forces"),
        ({"forces": None}, "warning", "no forces"),
        ({"energy": None}, "warning", "no energy"),
        ({"stress": None}, "note", "no stress, though others have one"),
        ({"energy": np.inf}, "error", "labels that are infinite"),
        ({"forces": "partly"}, "error", "no numbers on some of the atoms"),
        ({"forces": "large"}, "warning", "forces up to "),
        ({"forces": "net"}, "warning", "do not sum to zero"),
        ({"stress": np.full(6, 3.0)}, "warning", "stresses up to 3 eV/Å³ (481 GPa)"),
        ({"positions": "touching"}, "error", "atoms on top of each other: 0.300 Å"),
        ({"positions": "lost"}, "error", "positions that are no numbers"),
    ],
)
def test_what_is_put_in_is_found(tmp_path, clean, change, level, message):
    s = clean[5]
    spoilt = {
        "partly": np.where(np.arange(len(s))[:, None] == 1, np.nan, s.forces),
        "large": s.forces + 80 * np.array([[1, 0, 0], [-1, 0, 0], *np.zeros((len(s) - 2, 3))]),
        "net": s.forces + 0.05,
        "touching": np.vstack([s.positions[1] + [0.3, 0, 0], s.positions[1:]]),
        "lost": np.vstack([[np.nan] * 3, s.positions[1:]]),
    }
    change = {name: spoilt[value] if isinstance(value, str) else value for name, value in change.items()}
    report = check(made(tmp_path, [*clean[:5], replace(s, **change), *clean[6:]]))
    found = [f for f in report.findings if message in f.text]
    assert found and found[0].level == level and list(found[0].structures) == [5]


@pytest.mark.parametrize("name, factor", [("meV", 1e3), ("kJ/mol", 96.485), ("kcal/mol", 23.06)])
def test_energies_of_another_unit(tmp_path, clean, name, factor):
    wrong = [replace(s, energy=factor * s.energy, forces=factor * s.forces, stress=factor * s.stress) for s in clean]
    assert any("look like kJ/mol, kcal/mol or meV" in text for text in texts(check(made(tmp_path, wrong))))


def test_lengths_in_bohr(tmp_path, clean):
    wrong = [replace(s, positions=s.positions / 0.529177, cell=s.cell / 0.529177) for s in clean]
    assert any("lengths look like Bohr taken as Å" in text for text in texts(check(made(tmp_path, wrong))))


def test_energies_per_atom(tmp_path):
    atoms, rng = bulk("Ni"), np.random.default_rng(1)
    cells = [
        LabelledStructure((atoms * n).positions, [28] * n[0], (atoms * n).cell) for n in [(1, 1, 1), (2, 1, 1)] * 3
    ]
    right = [replace(s, energy=len(s) * (-5.7 + 0.01 * rng.normal())) for s in cells]
    assert not any("per atom" in text for text in texts(check(made(tmp_path, right))))
    wrong = [replace(s, energy=s.energy / len(s)) for s in right]
    assert any("look like energies per atom" in text for text in texts(check(made(tmp_path, wrong))))


def test_whole_atoms_in_hartree(tmp_path):
    """Two water molecules at the energy of all their electrons, -76.4 Hartree each."""
    molecule = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    s = LabelledStructure(
        np.vstack([molecule, molecule + 3]), [8, 1, 1] * 2, np.eye(3) * 8, True, -152.8, np.zeros((6, 3))
    )
    assert any("look like Hartree" in text for text in texts(check(made(tmp_path, [s]))))
    assert not any("Hartree" in text for text in texts(check(made(tmp_path, [replace(s, energy=-152.8 * 27.2)]))))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: {"forces": -s.forces}, "forces of the wrong sign"),
        (lambda s: {"forces": s.forces / 51.422}, "of the work of the forces: their units do not belong together"),
        (lambda s: {"stress": -s.stress}, "stresses of the wrong sign"),
        (lambda s: {"stress": 160.2 * s.stress}, "of the work of the stresses: their units do not belong together"),
        (
            lambda s: {"stress": s.stress[[0, 1, 2, 5, 3, 4]]},
            "to stresses in the order xx,yy,zz,xy,yz,xz (--stress-order)",
        ),
    ],
)
def test_labels_that_contradict_each_other(tmp_path, clean, change, message):
    """Energies must change by the work of forces and stresses."""
    assert not consistency(made(tmp_path, clean))
    found = consistency(made(tmp_path, [replace(s, **change(s)) for s in clean]))
    assert any(message in finding.text for finding in found)


# --- splits


@pytest.fixture
def grouped(tmp_path):
    counts = {"a": 100, "b": 37, "c": 3, "d": 1}
    return made(
        tmp_path,
        [
            LabelledStructure([[0, 0, k]], [28], np.eye(3) * 9, energy=k, group=name)
            for name, count in counts.items()
            for k in range(count)
        ],
    )


def test_split_is_stratified_and_complete(grouped):
    parts = split(grouped, [0.8, 0.15, 0.05], seed=3)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(141))
    for part, fraction in zip(parts, (0.8, 0.15, 0.05)):
        assert abs(len(part) - 141 * fraction) < 1.5
        per_group = np.bincount(grouped.group[part], minlength=4)
        assert np.all(np.abs(per_group - fraction * np.array([100, 37, 3, 1])) < 2)
    again, other = split(grouped, [0.8, 0.15, 0.05], seed=3), split(grouped, [0.8, 0.15, 0.05], seed=4)
    assert all(map(np.array_equal, parts, again)) and not np.array_equal(parts[1], other[1])
    gaps = np.diff(parts[1][parts[1] < 100])  # drawn, not every n-th
    assert len(np.unique(gaps)) > 3


def test_blocks_and_copies_stay_together(grouped):
    train, rest = split(grouped, [0.8, 0.2], seed=1, block=10)
    blocks = {(int(grouped.group[k]), k // 10 if k < 100 else (k - 100) // 10) for k in rest}
    for group, block in blocks:
        first = {0: 0, 1: 100, 2: 137, 3: 140}[group]
        members = [k for k in range(141) if grouped.group[k] == group and (k - first) // 10 == block]
        assert set(members) <= set(rest.tolist())
    together = np.arange(141) // 2 * 2
    train, rest = split(grouped, [0.5, 0.5], seed=1, together=together)
    assert not set(together[train]) & set(together[rest])


@pytest.mark.parametrize("k", [2, 5, 141])
def test_folds(grouped, k):
    found = folds(grouped, k, seed=2)
    assert len(found) == k
    assert np.array_equal(np.sort(np.concatenate([v for _, v in found])), np.arange(141))
    for train, validation in found:
        assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(141))
        assert abs(np.sum(grouped.group[validation] == 0) - 100 / k) < 1.5


def test_splits_that_cannot_be(grouped):
    with pytest.raises(DataSetError, match=r"sum to 1, not to 0\.9"):
        split(grouped, [0.8, 0.1], seed=1)
    with pytest.raises(DataSetError, match=r"too few for a part of 0\.001"):
        split(grouped, [0.999, 0.001], seed=1)
    with pytest.raises(DataSetError, match="cannot make 142 folds"):
        folds(grouped, 142, seed=1)


# --- reference energies


def test_reference_energies(tmp_path):
    rng = np.random.default_rng(0)
    true = {13: -3.5, 28: -5.1, 29: -4.0}
    structures = []
    for _ in range(40):
        numbers = rng.choice(list(true), rng.integers(1, 12))
        energy = sum(true[z] for z in numbers) + 1e-3 * rng.normal() * len(numbers)
        structures.append(LabelledStructure(rng.random((len(numbers), 3)), numbers, np.eye(3), energy=energy))
    structures.append(LabelledStructure([[0, 0, 0]], [13], np.eye(3)))  # without an energy
    ds = made(tmp_path, structures)
    found = reference_energies(ds)
    assert found.unique and all(abs(found.energies[z] - e) < 2e-3 for z, e in true.items())
    assert np.nanmax(np.abs(found.of(ds) - ds.energy) / ds.counts) < 5e-3
    fixed = reference_energies(ds, {"Ni": -5.2})
    assert fixed.unique and fixed.energies[28] == -5.2 and abs(fixed.energies[13] + 3.5) > 5e-3
    assert reference_energies(ds, {"Ni": -5.1, "Al": -3, "Cu": 0}).energies == {13: -3, 28: -5.1, 29: 0}
    with pytest.raises(DataSetError, match="reference energy of Fe is given, which is not in the set"):
        reference_energies(ds, {"Fe": -8})


def test_compositions_that_do_not_tell_elements_apart(tmp_path):
    water = [LabelledStructure(np.zeros((3 * n, 3)), [8, 1, 1] * n, np.eye(3), energy=-15.0 * n) for n in (1, 2, 5)]
    found = reference_energies(made(tmp_path, water))
    assert not found.unique and found.rank == 1
    assert np.isclose(found.energies[8] + 2 * found.energies[1], -15.0)
