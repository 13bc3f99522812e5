"""Labelled structures through every format; the sign and order of stresses against finite differences of an EAM potential."""

import gzip
import lzma
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from ostwald.app import potentials
from ostwald.app.cli import main
from ostwald.app.training.convert import convert, reading, shear_order
from ostwald.io.datasets import COLUMNS, DataSetError, LabelledStructure, open_dataset
from ostwald.io.labelled import iterate_labelled, voigt, write_labelled

RNG = np.random.default_rng(5)


def sheared(k):
    """A rattled cell of the alloy, strained in every component."""
    rng = np.random.default_rng(k)
    atoms = bulk("Ni", cubic=True) * (2, 1, 1)
    atoms.numbers[1 + k % 3] = 13
    atoms.set_cell(atoms.cell @ (np.eye(3) + rng.uniform(-0.06, 0.06, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(0, 0.08, (len(atoms), 3))
    return atoms


@pytest.fixture(scope="module")
def calculator():
    return potentials.load("zhou:Ni-Al").ase()


@pytest.fixture(scope="module")
def structures(calculator):
    found = []
    for k in range(5):
        atoms = sheared(k)
        atoms.calc = calculator
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        found.append(
            LabelledStructure(
                atoms.positions, atoms.numbers, atoms.cell, True, energy, forces, stress, group=f"g{k % 2}"
            )
        )
    return found


def assert_same(found, expected, tolerance=1e-9, without=()):
    found = list(found)
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        for name in COLUMNS:
            if name in without or name in ("group", "numbers", "periodic"):
                assert name in without or np.all(getattr(a, name) == getattr(b, name))
            else:
                assert np.allclose(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance, equal_nan=True), name


@pytest.mark.parametrize("name", ["set.dataset", "set.xyz", "set.xyz.xz", "set.extxyz.gz", "set.db", "dp/"])
def test_stress_is_the_derivative_of_the_energy_in_every_format(tmp_path, structures, calculator, name):
    """(1/V) dE/dε of what was read back, each of the nine components, by five points."""
    write_labelled(f"{tmp_path}/{name}", structures[:2])
    for s in iterate_labelled(tmp_path / name):
        assert np.abs(s.stress).min() > 1e-5  # every component tells
        assert np.allclose(derivative(s, calculator) / s.volume, s.stress, rtol=0, atol=1e-8)


def derivative(s, calculator, h=1e-4):
    """(6,) eV: dE/dε of a structure."""
    atoms, found = s.to_ase(), np.zeros((3, 3))
    atoms.calc = calculator
    for a in range(3):
        for b in range(3):
            for k, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                strain = np.eye(3)
                strain[a, b] += k * h
                atoms.set_cell(s.cell @ strain, scale_atoms=False)
                atoms.positions = s.positions @ strain
                found[a, b] += weight * atoms.get_potential_energy() / (12 * h)
    return voigt(found)


@pytest.mark.parametrize("name", ["set.dataset", "set.xyz", "set.xyz.xz", "set.extxyz.gz", "input.data", "set.db"])
def test_round_trips(tmp_path, structures, name):
    assert write_labelled(tmp_path / name, structures) == 5
    without = ("stress",) if name == "input.data" else ("group", "weight") if name == "set.db" else ()
    assert_same(iterate_labelled(tmp_path / name), structures, without=without)
    assert not list(tmp_path.glob(".*"))


def test_deepmd_round_trip(tmp_path, structures):
    """Systems are told apart by their composition; atoms are sorted by element."""
    write_labelled(f"{tmp_path}/dp/", structures)
    found = {round(s.energy, 8): s for s in iterate_labelled(tmp_path / "dp")}
    assert len(found) == 5
    for s in structures:
        order = np.argsort(s.numbers, kind="stable")
        same = found[round(s.energy, 8)]
        assert np.array_equal(same.numbers, s.numbers[order]) and np.array_equal(same.forces, s.forces[order])
        assert np.allclose(same.stress, s.stress, rtol=0, atol=1e-15)


@pytest.mark.parametrize("form", ["deepmd/npy", "deepmd/raw", "deepmd/npy/mixed"])
def test_what_dpdata_writes(tmp_path, structures, form):
    dpdata = pytest.importorskip("dpdata")
    systems = dpdata.MultiSystems()
    for s in structures:
        systems.append(dpdata.LabeledSystem(s.to_ase(), fmt="ase/structure"))
    systems.to(form, str(tmp_path / "dp"))
    found = {round(s.energy, 6): s for s in iterate_labelled(tmp_path / "dp")}
    for s in structures:
        same = found[round(s.energy, 6)]
        assert np.allclose(same.stress, s.stress, rtol=0, atol=1e-7)
        assert np.isclose(np.abs(same.forces).sum(), np.abs(s.forces).sum(), rtol=1e-5)
        assert sorted(same.numbers) == sorted(s.numbers)


def test_dpdata_reads_what_is_written(tmp_path, structures):
    dpdata = pytest.importorskip("dpdata")
    write_labelled(f"{tmp_path}/dp/", structures[:1])
    (system,) = (tmp_path / "dp").iterdir()
    atoms = dpdata.LabeledSystem(str(system), fmt="deepmd/npy").to("ase/structure")[0]
    s = structures[0]
    assert np.isclose(atoms.get_potential_energy(), s.energy)
    found = atoms.get_stress() if "stress" in atoms.calc.results else -voigt(atoms.calc.results["virial"]) / s.volume
    assert np.allclose(found, s.stress, atol=1e-9)


def test_vasp(tmp_path):
    """OUTCAR of ASE's test data: the stress is minus the line `in kB`, whose shear is xy yz zx."""
    file = Path(ase.__file__).parent / "test/testdata/vasp/OUTCAR_example_1"
    if not file.exists():
        pytest.skip("ASE came without its test data")
    path = tmp_path / "OUTCAR"
    path.write_bytes(file.read_bytes())
    found = list(iterate_labelled(path))
    lines = [line.split()[2:] for line in path.read_text().splitlines() if line.strip().startswith("in kB")]
    kbar = np.array(lines, float)[:, [0, 1, 2, 4, 5, 3]]
    assert len(found) == len(kbar)
    assert np.allclose([s.stress for s in found], -kbar / 1602.176634, atol=1e-8)
    assert all(np.isfinite(s.forces).all() and s.group == "OUTCAR" for s in found)


def test_labels_by_other_names(tmp_path, structures):
    s = structures[0]
    atoms = s.to_ase()
    atoms.calc = None
    atoms.info = {"dft_energy": s.energy, "dft_virial": -s.volume * voigt_matrix(s.stress), "config_type": "strained"}
    atoms.set_array("dft_forces", s.forces)
    ase.io.write(tmp_path / "a.xyz", atoms)
    with pytest.raises(
        DataSetError, match=r"a\.xyz, frame 0: has no 'energy', but dft_energy: name it, as in energy=dft"
    ):
        list(iterate_labelled(tmp_path / "a.xyz"))
    how = reading(["energy=dft_energy", "forces=dft_forces", "virial=dft_virial"])
    (found,) = iterate_labelled(tmp_path / "a.xyz", how=how)
    assert found.group == "strained"
    assert_same([found], [s], 1e-7, without=("group",))  # ASE writes eight decimals
    with pytest.raises(ValueError, match="has no 'energies' for the energy; it has"):
        list(iterate_labelled(tmp_path / "a.xyz", how=reading(["energy=energies"])))


def voigt_matrix(s):
    return np.array([[s[0], s[5], s[4]], [s[5], s[1], s[3]], [s[4], s[3], s[2]]])


def test_units(tmp_path, structures):
    """A file in bohr and Hartree gives the same set."""
    bohr, hartree = 0.529177210903, 27.211386245988
    scaled = [
        LabelledStructure(
            s.positions / bohr, s.numbers, s.cell / bohr, True, s.energy / hartree, s.forces / hartree * bohr, None
        )
        for s in structures
    ]
    write_labelled(tmp_path / "input.data", scaled)
    found = iterate_labelled(tmp_path / "input.data", how=reading(units=("bohr", "Hartree"), group="all"))
    assert_same(found, structures, 1e-6, without=("stress", "group"))


def test_clusters_get_a_box(tmp_path):
    atoms = ase.Atoms("Ni3", [[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0.3]])
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.ones((3, 3)))
    ase.io.write(tmp_path / "a.xyz", atoms)
    (found,) = iterate_labelled(tmp_path / "a.xyz")
    assert not found.periodic.any() and found.volume > 1
    between = found.positions - found.positions[0]
    assert np.allclose(between, atoms.positions)
    write_labelled(tmp_path / "input.data", [found])
    (again,) = iterate_labelled(tmp_path / "input.data")
    assert not again.periodic.any() and np.allclose(again.positions - again.positions[0], between)


@pytest.mark.parametrize(
    "text, message",
    [
        ("begin\natom 0 0 0 Ni 0 0 0 0\nenergy 1\nend\n", "line 2: 10 columns expected, 9 found"),
        ("begin\natom 0 0 0 Qq 0 0 0 0 0\nenergy 1\nend\n", "line 2: 'Qq' is not a chemical symbol"),
        ("begin\nlattice 1 0 0\natom 0 0 0 Ni 0 0 0 0 0\nend\n", "line 1: a structure with 1 lattice vectors"),
        ("begin\nlattice 1 0\natom 0 0 0 Ni 0 0 0 0 0\nend\n", "line 2: 'lattice 1 0'"),
        ("begin\natom 0 0 0 Ni 0 0 0 0 0\nenergy x\nend\n", "line 3: 'energy x'"),
        ("begin\natom 0 0 0 Ni 0 0 0 0 0\n", "ends inside the structure that begins in line 1"),
        ("begin\nenergy 1\nbegin\n", "line 3: begin, but the structure of line 1 has not ended"),
        ("end\n", "line 1: end without begin"),
    ],
)
def test_broken_n2p2_files(tmp_path, text, message):
    path = tmp_path / "input.data"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        list(iterate_labelled(path, "n2p2"))
    assert str(path) in str(caught.value)


def test_broken_deepmd_directories(tmp_path, structures):
    with pytest.raises(DataSetError, match=r"no type\.raw in this directory"):
        list(iterate_labelled(tmp_path))
    write_labelled(f"{tmp_path}/dp/", structures[:1])
    (system,) = (tmp_path / "dp").iterdir()
    names = (system / "type_map.raw").read_text().split()
    (system / "type_map.raw").unlink()
    with pytest.raises(DataSetError, match="which elements the types are"):
        list(iterate_labelled(tmp_path / "dp"))
    (found,) = iterate_labelled(tmp_path / "dp", how=reading(species=names))
    assert sorted(found.numbers) == sorted(structures[0].numbers)
    np.save(system / "set.000/force.npy", np.zeros((1, 5)))
    with pytest.raises(DataSetError, match=r"force has 5 numbers, not 24 for each of 1 frames"):
        list(iterate_labelled(tmp_path / "dp", how=reading(species=names)))
    with pytest.raises(DataSetError, match="not empty"):
        write_labelled(f"{tmp_path}/dp/", structures)


def test_other_broken_files(tmp_path, structures):
    with pytest.raises(DataSetError, match="no such file"):
        list(iterate_labelled(tmp_path / "missing.xyz"))
    write_labelled(tmp_path / "set.xyz.xz", structures)
    whole = (tmp_path / "set.xyz.xz").read_bytes()
    (tmp_path / "set.xyz.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"set\.xyz\.xz: the compressed file is truncated or damaged"):
        list(iterate_labelled(tmp_path / "set.xyz.xz"))
    with pytest.raises(DataSetError, match="no energy or forces, which this format cannot say"):
        write_labelled(tmp_path / "input.data", [LabelledStructure([[0, 0, 0]], [28], np.eye(3))])
    assert not (tmp_path / "input.data").exists()
    for words, message in (("volume=V", "--label takes LABEL=NAME"), ("energy", "--label takes")):
        with pytest.raises(ValueError, match=message):
            reading([words])
    with pytest.raises(ValueError, match="unknown length unit 'parsec'"):
        reading(units=("parsec", "eV"))
    with pytest.raises(ValueError, match="--stress-order takes the six"):
        shear_order("xx,yy,zz")


def test_stress_order(tmp_path, structures):
    """A set whose stresses are in VASP's order, xx yy zz xy yz xz."""
    for s in structures:
        assert len(set(np.round(s.stress, 8))) == 6
    foreign = [LabelledStructure(**vars(s) | {"stress": s.stress[[0, 1, 2, 5, 3, 4]]}) for s in structures]
    write_labelled(tmp_path / "a.xyz", foreign)
    order = shear_order("xx,yy,zz,xy,yz,xz")
    count, _ = convert([tmp_path / "a.xyz"], tmp_path / "b.dataset", reading(), order=order)
    assert count == 5
    assert_same(open_dataset(tmp_path / "b.dataset"), structures)
    convert([tmp_path / "a.xyz"], tmp_path / "b.dataset", reading(), order=shear_order("xx yy zz xy yz xz", ["g1"]))
    found = open_dataset(tmp_path / "b.dataset")
    assert np.allclose(found.stress[1], structures[1].stress) and np.allclose(found.stress[0], foreign[0].stress)


def test_command(tmp_path, structures, capsys):
    """Several sources make one set; copies go with --clean; info tells the same report."""
    write_labelled(tmp_path / "a.xyz", structures[:3])
    write_labelled(tmp_path / "input.data", structures[2:])
    target = tmp_path / "all.dataset"
    assert main(["convert", str(tmp_path / "a.xyz"), str(tmp_path / "input.data"), str(target)]) == 0
    said = capsys.readouterr().out
    assert "6 structures, 48 atoms, Al Ni; 6 energies, 48 forces, 3 stresses" in said
    assert "the same as an earlier structure, perhaps turned (1 structure: 3)" in said
    assert len(open_dataset(target)) == 6
    assert [Path(p).name for p in open_dataset(target).provenance["sources"]] == ["a.xyz", "input.data"]
    assert main(["convert", "--clean", str(tmp_path / "a.xyz"), str(tmp_path / "input.data"), str(target)]) == 0
    assert len(open_dataset(target)) == 5
    capsys.readouterr()
    assert main(["info", str(target)]) == 0
    assert "5 structures, 40 atoms" in capsys.readouterr().out
    assert main(["convert", str(target), str(tmp_path / "back.xyz")]) == 0
    assert len(list(iterate_labelled(tmp_path / "back.xyz"))) == 5
    assert main(["convert", str(target), str(tmp_path / "nowhere" / "x.dataset")]) == 1
    assert "there is no directory" in capsys.readouterr().err


def test_compressed_frames_by_the_ordinary_way(tmp_path, structures):
    """xz is read and written wherever gz is."""
    from ostwald.io.structures import read_structure, write_structure

    write_labelled(tmp_path / "a.xyz.xz", structures)
    assert lzma.open(tmp_path / "a.xyz.xz").readline() == b"8\n"
    found = read_structure(tmp_path / "a.xyz.xz", 1)
    assert found.info["energy"] == structures[1].energy
    write_structure(tmp_path / "b.data.gz", found)
    assert gzip.open(tmp_path / "b.data.gz").readline()


def test_reference_sets(reference_data):
    """Counts and labels of sets of several sources."""
    expected = {
        "mlearn/Mo_train.xyz.xz": (194, 10087, 4, 194),
        "tio2_aenet/TiO2_train.xyz.xz": (900, 19142, 1, 0),
        "pacemaker_examples/Al_FHIaims_ref.xyz.xz": (6, 152, 1, 0),
    }
    for name, (count, atoms, groups, stresses) in expected.items():
        found = list(iterate_labelled(reference_data / name))
        assert len(found) == count and sum(map(len, found)) == atoms
        assert len({s.group for s in found}) == groups
        assert sum(np.isfinite(s.stress).all() for s in found) == stresses
        assert all(np.isfinite(s.energy) and np.isfinite(s.forces).all() for s in found)
