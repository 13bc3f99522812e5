"""Structure files: round trips through every format, ASE as the judge, errors with file and line."""

import gzip

import ase.build
import ase.io
import numpy as np
import pytest

from ostwald.io import table
from ostwald.io.structures import (
    Structure,
    StructureError,
    convert,
    format_of,
    iterate_structures,
    read_structure,
    with_species,
    write_structure,
)

TILTED = np.array([[8.0, 0, 0], [1.5, 7.0, 0], [-0.7, 2.0, 9.0]])
ROTATED = np.array([[1.0, 7.0, 2.0], [-6.0, 1.0, 1.0], [0.5, -1.0, 9.0]])
FORMATS = ["data.some", "some.lmp", "some.dump", "some.lammpstrj", "some.xyz", "some.extxyz.gz", "some.h5md"]


def make(matrix=TILTED, n=50, seed=1, **kwargs):
    rng = np.random.default_rng(seed)
    return Structure(
        positions=rng.random((n, 3)) @ matrix + [1, 2, 3],
        matrix=matrix,
        origin=[1.0, 2.0, 3.0],
        species=("Al", "Ni"),
        types=np.arange(n) % 2,
        velocities=rng.normal(size=(n, 3)),
        ids=rng.permutation(n) + 1,
        images=rng.integers(-3, 4, (n, 3)),
        masses=np.array([26.98, 58.69]),
        **kwargs,
    )


def by_id(s):
    return s.ids.argsort()


def assert_same(a, b, tolerance=1e-12, rotated=False):
    both = a.ids is not None and b.ids is not None
    i, j = (by_id(a), by_id(b)) if both else (slice(None), slice(None))
    assert np.array_equal(a.symbols[i], b.symbols[j])
    turn = np.linalg.solve(a.matrix, b.matrix) if rotated else np.eye(3)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(a.matrix @ turn, b.matrix, atol=tolerance)
    np.testing.assert_allclose(a.origin @ turn, b.origin, atol=tolerance)
    np.testing.assert_allclose(a.positions[i] @ turn, b.positions[j], atol=tolerance)
    if a.velocities is not None:
        np.testing.assert_allclose(a.velocities[i] @ turn, b.velocities[j], atol=tolerance)
    if a.images is not None and b.images is not None:
        assert np.array_equal(a.images[i], b.images[j])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("matrix", [TILTED, ROTATED, np.diag([5.0, 6, 7])], ids=["tilted", "rotated", "orthogonal"])
def test_round_trip(tmp_path, name, matrix):
    s = make(matrix)
    write_structure(tmp_path / name, s)
    assert not list(tmp_path.glob(".*"))
    back = read_structure(tmp_path / name)
    lammps = "xyz" not in name and "h5" not in name
    assert_same(s, back, rotated=lammps and matrix is ROTATED)
    if "dump" not in name and "lammpstrj" not in name:
        np.testing.assert_allclose(dict(zip(back.species, back.masses))["Ni"], 58.69)
    assert np.linalg.det(back.matrix) == pytest.approx(np.linalg.det(matrix))


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_convert(tmp_path, source, target):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    s = make()
    write_structure(tmp_path / "a" / source, s)
    assert convert(tmp_path / "a" / source, tmp_path / "b" / target) == 1
    assert_same(s, read_structure(tmp_path / "b" / target))


@pytest.mark.parametrize("name", ["some.dump", "some.xyz"])
def test_frames(tmp_path, name):
    path = tmp_path / name
    written = [make(seed=k, info={"step": 10 * k, "time": 0.5 * k}) for k in range(5)]
    write_structure(path, written)
    for index in (0, 2, 4, -1, -3, -5):
        found = read_structure(path, index)
        assert_same(written[index], found, 1e-9)
        assert found.info["step"] == written[index].info["step"] and found.info["time"] == written[index].info["time"]
    assert len(list(iterate_structures(path))) == 5
    for index in (5, -6):
        with pytest.raises(StructureError, match=f"has no frame {index}"):
            read_structure(path, index)
    assert convert(path, tmp_path / "all.xyz") == 5
    for index, chosen in (("::2", [0, 2, 4]), ("-2:", [3, 4]), (slice(1, 3), [1, 2]), ("3", [3]), ("-1", [4])):
        assert convert(path, tmp_path / "chosen.xyz", index) == len(chosen)
        steps = [s.info["step"] for s in iterate_structures(tmp_path / "chosen.xyz")]
        assert steps == [10 * k for k in chosen]
    assert convert(path, tmp_path / "one.data", ":3") == 1
    np.testing.assert_allclose(
        read_structure(tmp_path / "one.data").positions[0], written[2].positions[written[2].ids == 1][0]
    )
    with pytest.raises(StructureError, match="index 'last' is neither"):
        convert(path, tmp_path / "one.xyz", "last")
    assert convert(path, tmp_path / "one.xyz", 1) == 1
    assert_same(written[1], read_structure(tmp_path / "one.xyz"), 1e-9)


def test_extxyz_agrees_with_ase(tmp_path):
    atoms = ase.build.bulk("NaCl", "rocksalt", 5.6).repeat(2)
    atoms.rattle(0.1, seed=3)
    atoms.set_momenta(np.random.default_rng(0).normal(size=(16, 3)))
    atoms.pbc = [True, False, True]
    atoms.arrays["flag"] = np.arange(16) % 2 == 0
    atoms.arrays["label"] = np.array([f"w{k}" for k in range(16)])
    ase.io.write(tmp_path / "a.extxyz", atoms)
    ours = read_structure(tmp_path / "a.extxyz")
    theirs = Structure.from_ase(ase.io.read(tmp_path / "a.extxyz"))
    assert_same(theirs, ours, 1e-9)
    assert list(ours.periodic) == [True, False, True]
    assert np.array_equal(ours.arrays["flag"], atoms.arrays["flag"])
    assert np.array_equal(ours.arrays["label"], atoms.arrays["label"])
    s = make(ROTATED, arrays={"q6": np.arange(50.0), "pressures": np.arange(300.0).reshape(50, 6)})
    write_structure(tmp_path / "b.xyz", s)
    theirs = ase.io.read(tmp_path / "b.xyz")
    np.testing.assert_allclose(theirs.positions, s.positions, atol=1e-12)
    np.testing.assert_allclose(theirs.cell, s.matrix, atol=1e-12)
    np.testing.assert_allclose(theirs.arrays["pressures"], s.arrays["pressures"])
    assert list(theirs.symbols) == list(s.symbols)


@pytest.mark.parametrize("matrix", [TILTED, ROTATED], ids=["tilted", "rotated"])
def test_ase_reads_our_lammps_files(tmp_path, matrix):
    s = make(matrix)
    write_structure(tmp_path / "a.lmp", s)
    write_structure(tmp_path / "a.dump", s)
    back = read_structure(tmp_path / "a.lmp")
    data = ase.io.read(tmp_path / "a.lmp", format="lammps-data", units="metal")
    order = np.argsort(data.arrays["id"])
    np.testing.assert_allclose(
        data.get_all_distances(mic=True)[order][:, order], back.to_ase().get_all_distances(mic=True), atol=1e-8
    )
    np.testing.assert_allclose(Structure.from_ase(data).velocities[order], back.velocities, atol=1e-8)
    dump = ase.io.read(tmp_path / "a.dump", format="lammps-dump-text")
    np.testing.assert_allclose(dump.cell, back.matrix, atol=1e-9)
    assert list(dump.symbols) == list(back.symbols)  # ASE sorts by id


def test_we_read_ase_lammps_data(tmp_path):
    atoms = ase.build.bulk("Ti", "hcp").repeat((2, 3, 2))
    ase.io.write(tmp_path / "a.lmp", atoms, format="lammps-data", masses=True)
    s = read_structure(tmp_path / "a.lmp")
    assert set(s.symbols) == {"Ti"} and s.masses[0] == pytest.approx(47.867)
    np.testing.assert_allclose(s.to_ase().get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-6)


DATA = """a title

3 atoms   # how many
2 atom types
0.0 4.0 xlo xhi
-1 4.0 ylo yhi
0.0 6e0 zlo zhi
0.5 0.25 -.5 xy xz yz

Masses

1 26.98  # Al
2 58.69

Atoms # atomic

3 2 0.1 0.2 0.3 # a comment
1 1 1.0 1.0 1.0

2 1 2.0 2.0 2.0

Velocities

1 1 0 0
2 2 0 0
3 3 0 0
"""


def test_lammps_data_by_hand(tmp_path):
    path = tmp_path / "x.data"
    path.write_text(DATA.replace("1.0\n\n2", "1.0\n2"))
    s = read_structure(path)
    assert s.species == ("Al", "Ni") and list(s.symbols) == ["Al", "Al", "Ni"]
    np.testing.assert_array_equal(s.matrix, [[4, 0, 0], [0.5, 5, 0], [0.25, -0.5, 6]])
    np.testing.assert_array_equal(s.origin, [0, -1, 0])
    np.testing.assert_array_equal(s.velocities[:, 0], [1, 2, 3])
    np.testing.assert_array_equal(s.positions[2], [0.1, 0.2, 0.3])
    assert read_structure(path, species=("Cu", "Zr")).species == ("Cu", "Zr")
    labelled = DATA.replace("1.0\n\n2", "1.0\n2").replace("Masses", "Atom Type Labels\n\n1 Fe\n2 Cr\n\nMasses")
    path.write_text(
        labelled.replace("3 2 0.1", "3 Cr 0.1").replace("1 1 1.0", "1 Fe 1.0").replace("2 1 2.0", "2 Fe 2.0")
    )
    assert list(read_structure(path).symbols) == ["Fe", "Fe", "Cr"]
    path.write_text("""general

1 atoms
1 atom types
1 2 3 avec
-2 1 0 bvec
0 0 7 cvec
1 1 1 abc origin

Atoms

1 1 0 0 0
""")
    np.testing.assert_array_equal(read_structure(path).matrix, [[1, 2, 3], [-2, 1, 0], [0, 0, 7]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1 1 1.0 1.0 1.0", "1 1 1.0 1.O 1.0", r"x\.data, line 18: column 4 should be a number, not '1\.O'"),
        ("1 1 1.0 1.0 1.0", "1 1 1.0 1.0", r"x\.data, line 18: 5 columns expected, 4 found"),
        ("1 1 1.0 1.0 1.0", "1 7 1.0 1.0 1.0", r"x\.data, line 18: type 7 of 2 atom types"),
        ("2 1 2.0 2.0 2.0\n", "", r"x\.data, line 19: the file ends; 3 lines expected, 2 found"),
        ("2 1 2.0", "3 1 2.0", r"x\.data: atom id 3 occurs twice"),
        ("-1 4.0 ylo yhi\n", "", r"x\.data: no line 'ylo yhi'"),
        ("-1 4.0 ylo yhi", "9 4.0 ylo yhi", r"x\.data: the box has no volume"),
        ("1 26.98  # Al", "1 many", r"x\.data, line 12: 'TYPE MASS' expected"),
        ("# atomic", "# sphere", r"x\.data, line 15: atom style 'sphere'"),
        ("3 3 0 0", "4 3 0 0", r"x\.data: the ids of the sections Velocities and Atoms differ"),
        ("Masses", "Massen", r"x\.data, line 10: 'Massen'"),
    ],
)
def test_lammps_data_errors(tmp_path, old, new, message):
    good = DATA.replace("1.0\n\n2", "1.0\n2")
    assert old in good
    (tmp_path / "x.data").write_text(good.replace(old, new, 1))
    with pytest.raises(StructureError, match=message):
        read_structure(tmp_path / "x.data")


def test_dump_details(tmp_path):
    path = tmp_path / "dump.x"
    head = "ITEM: TIMESTEP\n{}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp ff pp\n0 4\n0 4\n1 5\n"
    body = "ITEM: ATOMS id type xs ys zs fx fy fz q\n2 1 0.5 0.5 0.5 1 2 3 7\n1 2 0 0.25 0 0 0 0 8\n"
    path.write_text(head.format(0) + body + head.format(100) + body + head.format(200) + body[:-12])
    s = list(iterate_structures(path))
    assert [f.info["step"] for f in s] == [0, 100]  # the frame cut short by a kill is left out
    np.testing.assert_array_equal(s[0].positions, [[0, 1, 1], [2, 2, 3]])
    np.testing.assert_array_equal(s[0].arrays["forces"][1], [1, 2, 3])
    assert list(s[0].arrays["q"]) == [8, 7] and list(s[0].symbols) == ["2", "1"]
    assert list(s[0].periodic) == [True, False, True]
    assert read_structure(path, species=("Cu", "Zr")).species == ("Cu", "Zr")
    path.write_text(head.format(0) + body.replace("0.25", "x.25") + head.format(1) + body)
    with pytest.raises(StructureError, match=r"dump\.x, line 11: column 4 should be a number"):
        read_structure(path, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2\nx=1\nAl 0 0 0\n", r"line 1: 2 atoms announced, but the file ends before"),
        ("two\nx=1\nAl 0 0 0\n", r"line 1: the number of atoms expected, not 'two'"),
        ("1\nx=1\nAl 0 0 q\n", r"line 3: column 4 should be a number, not 'q'"),
        ("1\nx=1\nAl 0 0\n", r"line 3: 4 columns expected, 3 found"),
        ("1\nProperties=species:S:1:pos:R\nAl 0 0 0\n", r"line 2: Properties=species:S:1:pos:R cannot be understood"),
        ("1\nProperties=species:S:1:foo:R:3\nAl 0 0 0\n", r"line 2: no positions"),
    ],
)
def test_xyz_errors(tmp_path, text, message):
    (tmp_path / "x.xyz").write_text(text)
    with pytest.raises(StructureError, match=r"x\.xyz, " + message):
        read_structure(tmp_path / "x.xyz")


def test_other_errors(tmp_path):
    with pytest.raises(StructureError, match="no such file"):
        read_structure(tmp_path / "nothing.xyz")
    (tmp_path / "x.cif").write_text("nonsense")
    with pytest.raises(StructureError, match=r"x\.cif: ASE cannot read it"):
        read_structure(tmp_path / "x.cif")
    write_structure(tmp_path / "good.xyz", make())
    before = (tmp_path / "good.xyz").read_bytes()
    with pytest.raises(StructureError, match="left-handed"):
        write_structure(tmp_path / "good.lmp", make(TILTED[::-1]))
    with pytest.raises(StructureError):
        convert(tmp_path / "x.cif", tmp_path / "good.xyz")
    assert (tmp_path / "good.xyz").read_bytes() == before  # a failed write leaves what was there
    assert {p.name for p in tmp_path.iterdir()} == {"x.cif", "good.xyz"}


def test_plain_xyz_and_molecule(tmp_path):
    water = ase.build.molecule("H2O")
    ase.io.write(tmp_path / "w.xyz", water, plain=True)
    s = read_structure(tmp_path / "w.xyz")
    assert list(s.symbols) == ["O", "H", "H"] and not s.periodic.any()
    inside = (s.positions - s.origin) @ np.linalg.inv(s.matrix)
    assert np.all((inside > 0) & (inside < 1))
    np.testing.assert_allclose(Structure.from_ase(water).matrix, s.matrix, atol=1e-6)


def test_ase_formats_and_sniffing(tmp_path):
    s = make()
    write_structure(tmp_path / "a.vasp", s)
    back = read_structure(tmp_path / "a.vasp")
    assert sorted(back.symbols) == sorted(s.symbols)
    np.testing.assert_allclose(back.matrix, s.matrix)
    write_structure(tmp_path / "b", s, format="lammps-data")
    assert format_of(tmp_path / "b") == "lammps-data"
    write_structure(tmp_path / "c", s, format="lammps-dump")
    assert format_of(tmp_path / "c") == "lammps-dump"
    with gzip.open(tmp_path / "d.lmp.gz", "wb") as file:
        file.write((tmp_path / "b").read_bytes())
    assert_same(s, read_structure(tmp_path / "d.lmp.gz"))


@pytest.mark.parametrize("name", ["a.xyz", "a.dump"])
@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_files_larger_than_what_is_read_at_once(tmp_path, monkeypatch, name, size):
    written = [make(seed=k, info={"step": k}) for k in range(3)]
    write_structure(tmp_path / name, written)
    read = table.LineReader.__init__

    def small(self, file):
        read(self, file)
        self.file = type("Small", (), {"read": lambda _, n: file.read(min(n, size))})()

    monkeypatch.setattr(table.LineReader, "__init__", small)
    for a, b in zip(written, iterate_structures(tmp_path / name), strict=True):
        assert_same(a, b)
    assert_same(written[2], read_structure(tmp_path / name))
    text = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(text.rstrip(b"\n"))  # without the last line break
    complete = list(iterate_structures(tmp_path / name))
    assert len(complete) == (3 if name == "a.xyz" else 2)


def test_damaged_gzip(tmp_path):
    write_structure(tmp_path / "a.xyz.gz", make(n=500))
    good = (tmp_path / "a.xyz.gz").read_bytes()
    (tmp_path / "a.xyz.gz").write_bytes(good[: len(good) // 2])
    with pytest.raises(StructureError, match=r"a\.xyz\.gz: the compressed file is truncated"):
        read_structure(tmp_path / "a.xyz.gz")


def test_with_species():
    s = with_species(make(), ("Cu", "Ni", "Al"))
    assert list(s.symbols) == list(make().symbols) and s.masses is None
    with pytest.raises(StructureError, match="species Al is not among Cu, Ni"):
        with_species(make(), ("Cu", "Ni"))
