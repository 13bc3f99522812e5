"""Lennard-Jones, ZBL and embedded atoms: parity with LAMMPS, finite differences, list styles, threads, files."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read as read_frames

from ostwald.app.atoms.neighbours import NeighbourList
from ostwald.app.potentials import PotentialError, eam, load, zhou
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.app.potentials.images import Images
from ostwald.app.potentials.lennard_jones import LennardJones
from ostwald.app.potentials.zbl import Zbl

TOLERANCE = dict(double=1e-12, mixed=3e-6)  # of the largest force


def evaluate(atoms, potential, style="half", threads=1, per_atom=True, **asked):
    """(energy, forces, energies, virial, virials) of ASE atoms through ghosts, as a rank without MPI would."""
    n = len(atoms)
    cell = atoms.cell.array if atoms.pbc.any() else np.eye(3)
    images = Images(atoms.positions, cell, atoms.pbc, potential.cutoff + 0.3)
    rows = images.rows(atoms.positions)
    types = np.array([potential.species.index(s) for s in atoms.symbols], np.int32)[images.owners]
    nb = NeighbourList(threads)
    nb.build(rows, n, images.nghost, potential.cutoff, 0.3, style)
    around = Neighbourhoods(rows, types, n, nb.offsets, nb.indices, style, images.forward, images.reverse)
    forces, energies, virials = np.zeros((len(rows), 3)), np.zeros(len(rows)), np.zeros((len(rows), 6))
    shares = dict(energies=energies, virials=virials) if per_atom else {}
    energy, virial = potential.compute(around, forces, threads=threads, **shares, **asked)
    for array in (forces, energies, virials):
        assert not array[n:].any(), "ghost rows were touched"
    return energy, forces[:n], energies[:n], virial, virials[:n]


def alloy():
    """Ni-Al tables that need no file: mixed densities and pair terms, 500 to 2000 knots."""
    return zhou.tables(("Ni", "Al"))


def finnis():
    """Tables whose density depends on both species."""
    t = alloy()
    density = np.concatenate([t.density, 0.8 * t.density], axis=1)
    density[1, 0] *= 1.3
    return eam.EamTables(
        t.species, t.numbers, t.masses, t.constants, t.lattices, t.drho, t.embed, t.dr, density, t.pair, t.cutoff
    )


POTENTIALS = {
    "lj": lambda p: LennardJones(["Ni"], 0.4, 2.3, 4.9, precision=p),
    "lj shifted, mixed pairs": lambda p: LennardJones(["Ni", "Al"], [0.4, 0.2], [2.3, 2.6], 5.0, True, p),
    "lj, three species": lambda p: LennardJones(
        ["Cu", "Ni", "Al"], [0.3, 0.4, 0.2], 2.3, np.array([[4.0, 5, 4], [5, 5, 4.5], [4, 4.5, 5.5]]), True, p
    ),
    "zbl": lambda p: Zbl(["Ni", "Al"], 2.5, 4.0, precision=p),
    "eam": lambda p: eam.Eam(alloy().select(["Ni"]), p),
    "eam alloy": lambda p: eam.Eam(alloy(), p),
    "eam fs": lambda p: eam.Eam(finnis(), p),
}


def crystal(potential, cell="orthogonal", size=(2, 2, 2), seed=1):
    atoms = bulk("Ni", "fcc", a=3.6, cubic=True) * size
    rng = np.random.default_rng(seed)
    if len(potential.species) > 1:
        atoms.symbols = rng.choice(["Ni", "Al"], len(atoms))
    if cell == "triclinic":
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.15, 0.15, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
    return atoms


# ---- against LAMMPS ---------------------------------------------------------------------------------------------------


def check_frames(frames, potential):
    for atoms in frames:
        theirs = atoms.calc.results
        for style in ("half", "full"):
            energy, forces, energies, virial, _ = evaluate(atoms, potential, style)
            scale = max(1.0, np.abs(theirs["forces"]).max())
            assert energy == pytest.approx(theirs["energy"], rel=1e-11, abs=1e-11), atoms.info
            assert np.abs(forces - theirs["forces"]).max() < 1e-11 * scale, atoms.info
            assert np.abs(energies - theirs["energies"]).max() < 1e-10 * max(1.0, np.abs(energies).max()), atoms.info
            if atoms.pbc.all():
                scale = max(1.0, np.abs(theirs["stress"]).max())
                assert np.abs(-virial / atoms.get_volume() - theirs["stress"]).max() < 1e-11 * scale, atoms.info


@pytest.mark.parametrize(
    "name",
    [
        "Al99.eam.alloy",
        "Al_mm.eam.fs",
        "CuNi.eam.alloy",
        "Cu_mishin1.eam.alloy",
        "Mishin-Ni-Al-2009.eam.alloy",
        "Ni_u3.eam",
    ],
)
def test_embedded_atoms_as_lammps(reference_data, name):
    frames = read_frames(reference_data / "reference" / "eam" / f"{name}.xyz", ":")
    check_frames(frames, load(reference_data / "potentials_lammps" / name))


@pytest.mark.parametrize("cutoff", [2.5, 2.8])
def test_lennard_jones_as_lammps(reference_data, cutoff):
    frames = read_frames(reference_data / "reference" / "lj" / f"lj_cut_{cutoff}.xyz", ":")
    check_frames(frames, LennardJones(["Ar"], 1.0, 1.0, cutoff))


def test_zbl_as_lammps(reference_data):
    frames = read_frames(reference_data / "reference" / "snap" / "Ta06A_ZBLonly.xyz", ":")
    check_frames(frames, Zbl(["Ta"], 4.0, 4.8))


# ---- by themselves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["double", "mixed"])
@pytest.mark.parametrize("name", POTENTIALS)
def test_styles_threads_and_what_is_asked(name, precision):
    """Half and full lists, one and three threads, with and without energy and virial: the same numbers."""
    potential = POTENTIALS[name](precision)
    atoms = crystal(potential, "triclinic", (5, 4, 4))
    energy, forces, energies, virial, virials = evaluate(atoms, potential)
    assert np.abs(forces).max() > 0.1
    tolerance = TOLERANCE[precision] * max(1.0, np.abs(forces).max())
    assert energies.sum() == pytest.approx(energy, rel=10 * tolerance)
    assert np.abs(virials.sum(0) - virial).max() < tolerance * len(atoms)
    assert np.abs(forces.sum(0)).max() < tolerance * len(atoms)
    for style, threads in (("half", 3), ("full", 1), ("full", 3)):
        again = evaluate(atoms, potential, style, threads)
        assert again[0] == pytest.approx(energy, rel=10 * tolerance)
        for ours, reference in zip(again[1:], (forces, energies, virial / len(atoms), virials)):
            ours = ours / len(atoms) if ours.shape == (6,) else ours
            assert np.abs(ours - reference).max() < tolerance
    for style in ("half", "full"):
        for asked in ((False, False), (False, True), (True, True)):
            e, f, _, w, _ = evaluate(atoms, potential, style, per_atom=False, energy=asked[0], virial=asked[1])
            assert np.abs(f - forces).max() < tolerance
            assert e == pytest.approx(energy, rel=10 * tolerance) if asked[0] else np.isnan(e)
            assert np.abs(w - virial).max() < tolerance * len(atoms) if any(asked) else np.isnan(w).all()


@pytest.mark.parametrize("cell", ["orthogonal", "triclinic"])
@pytest.mark.parametrize("precision", ["double", "mixed"])
@pytest.mark.parametrize("name", POTENTIALS)
def test_finite_differences(name, precision, cell):
    """Forces and virial of each precision are the derivatives of the double-precision energy."""
    exact, potential = POTENTIALS[name]("double"), POTENTIALS[name](precision)
    atoms = crystal(potential, cell)
    _, forces, _, virial, _ = evaluate(atoms, potential)
    tolerance = dict(double=2e-7, mixed=3e-5)[precision] * max(1.0, np.abs(forces).max())
    cut = name.startswith("lj")  # energies jump at the cutoff, or forces do: keep away from it
    h = 1e-5 if cut else 1e-4

    def energy(moved):
        return evaluate(moved, exact, per_atom=False)[0]

    def derivative(move):
        return (8 * (move(h) - move(-h)) - (move(2 * h) - move(-2 * h))) / (12 * h)

    if cut:  # the shift takes the jump of the energy away and changes no force
        exact = LennardJones(exact.species, exact.epsilon, exact.sigma, exact.cutoffs, True)
    for i, axis in ((0, 0), (7, 1), (13, 2)):

        def displaced(d, i=i, axis=axis):
            moved = atoms.copy()
            moved.positions[i, axis] += d
            return energy(moved)

        assert -derivative(displaced) == pytest.approx(forces[i, axis], abs=tolerance)
    for c, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):

        def strained(d, a=a, b=b):
            moved, strain = atoms.copy(), np.eye(3)
            strain[a, b] += d / 2
            strain[b, a] += d / 2
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            return energy(moved)

        assert -derivative(strained) == pytest.approx(virial[c], abs=tolerance * len(atoms))


def test_mixed_precision_far_from_the_origin():
    """Coordinates far from zero must not coarsen distances."""
    potential = POTENTIALS["eam"]("mixed")
    atoms = crystal(potential)
    near = evaluate(atoms, potential)
    atoms.positions += [1e4, -3e4, 2e4]
    far = evaluate(atoms, potential)
    assert np.abs(near[1] - far[1]).max() < 3e-5
    assert far[0] == pytest.approx(near[0], rel=1e-6)


@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_a_nan_is_not_hidden(precision):
    potential = POTENTIALS["eam"](precision)
    atoms = crystal(potential)
    images = Images(atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff)
    rows = images.rows(atoms.positions)
    nb = NeighbourList()
    nb.build(rows, len(atoms), images.nghost, potential.cutoff, 0.0, "half")
    rows[3, 1] = np.nan
    types = np.zeros(len(rows), np.int32)
    around = Neighbourhoods(rows, types, len(atoms), nb.offsets, nb.indices, "half", images.forward, images.reverse)
    assert np.isnan(potential.compute(around, np.zeros_like(rows))[0])


def test_arrays_are_checked():
    potential = POTENTIALS["eam"]("double")
    x, types = np.zeros((2, 3)), np.zeros(2, np.int32)
    offsets, indices = np.zeros(3, np.int64), np.zeros(0, np.int32)
    with pytest.raises(ValueError, match="forces"):
        potential.compute(Neighbourhoods(x, types, 2, offsets, indices), np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="types"):
        potential.compute(Neighbourhoods(x, types.astype(np.int64), 2, offsets, indices), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="species"):
        potential.compute(Neighbourhoods(x, types + 1, 2, offsets, indices), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="indices"):
        potential.compute(Neighbourhoods(x, types, 2, np.arange(3), indices), np.zeros((2, 3)))


def test_embedding_goes_on_linearly_beyond_its_table():
    tables = alloy().select(["Ni"])
    potential = eam.Eam(tables)
    end = (tables.embed.shape[-1] - 1) * tables.drho
    curve = eam.cubics(tables.embed)[0]
    slope = (3 * curve[-2, 0] + 2 * curve[-2, 1] + curve[-2, 2]) / tables.drho
    r = np.linspace(0.3, 2.4, 22)
    atoms = Atoms("Ni2", positions=np.zeros((2, 3)))
    beyond = 0
    for distance in r:
        atoms.positions[1, 0] = distance
        k, p = divmod(distance / tables.dr, 1.0)
        rho, phi = (
            (((c[0] * p + c[1]) * p + c[2]) * p + c[3])
            for c in (eam.cubics(tables.density)[0, 0, int(k)], eam.cubics(tables.pair)[0, 0, int(k)])
        )
        if rho > end:
            beyond += 1
            embedding = tables.embed[0, -1] + slope * (rho - end)
            assert evaluate(atoms, potential)[0] == pytest.approx(2 * embedding + phi / distance, rel=1e-12)
    if not beyond:  # a shorter table then
        pytest.fail("no distance reaches beyond the table")


def test_half_and_full_hold_for_lists_longer_than_a_buffer():
    """Hundreds of neighbours an atom."""
    potential = LennardJones(["Ni"], 0.01, 2.3, 11.0)
    atoms = crystal(potential, "triclinic", (2, 2, 2))
    half, full = evaluate(atoms, potential, "half"), evaluate(atoms, potential, "full")
    assert np.abs(half[1] - full[1]).max() < 1e-11
    assert half[0] == pytest.approx(full[0], rel=1e-13)
    r = np.linalg.norm(
        atoms.positions[:, None, None]
        - atoms.positions[None, :, None]
        - np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), -1).reshape(-1, 3) @ atoms.cell.array,
        axis=-1,
    )
    r = r[(r > 0) & (r < 11.0)]
    assert half[0] == pytest.approx((0.5 * 4 * 0.01 * ((2.3 / r) ** 12 - (2.3 / r) ** 6)).sum(), rel=1e-12)


# ---- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def setfl(tmp_path):
    path = tmp_path / "NiAl.eam.alloy"
    eam.write_setfl(path, alloy(), "made by a test")
    return path


@pytest.mark.parametrize(
    "make, name", [(alloy, "a.eam.alloy"), (finnis, "a.eam.fs"), (finnis, "a.txt"), (alloy, "b.txt")]
)
def test_written_tables_read_back(tmp_path, make, name):
    tables = make()
    eam.write_setfl(tmp_path / name, tables)
    back = load(tmp_path / name).tables
    for field in ("embed", "density", "pair", "masses", "numbers"):
        ours, theirs = getattr(back, field), getattr(tables, field)
        assert np.allclose(ours, theirs, rtol=1e-9 if field == "pair" else 0, atol=1e-12), field
    assert (back.drho, back.dr, back.cutoff, back.species) == (tables.drho, tables.dr, tables.cutoff, tables.species)


def test_species_of_a_table(setfl):
    one, turned = load(setfl, ["Al"]), load(setfl, ["Al", "Ni"])
    assert one.species == ("Al",) and one.masses == pytest.approx([26.98], abs=0.01)
    atoms = crystal(turned)
    a, b = evaluate(atoms, load(setfl)), evaluate(atoms, turned)
    assert a[0] == pytest.approx(b[0], rel=1e-13) and np.abs(a[1] - b[1]).max() < 1e-12
    assert load(setfl).hash != turned.hash != load(setfl, precision="mixed").hash
    assert load(setfl).hash == load(setfl).hash


def wrong_element(lines):
    return lines, "no element Cu here, only Ni Al", 4


def truncated(lines):
    return lines[:-3], "ends inside the pair function of Al and Al", len(lines) - 3


def not_a_number(lines):
    lines[8] = lines[8].replace("e", "x", 1)
    return lines, "is not a number", 9


def not_finite(lines):
    lines[20] = "nan " + lines[20].split(" ", 1)[1]
    return lines, "'nan' is not finite", 21


def wrong_count(lines):
    lines[3] = "3 Ni Al"
    return lines, "the number of elements", 4


def bad_grid(lines):
    lines[4] = "2000 0.1 2000"
    return lines, "expected the numbers nrho, drho, nr, dr, cutoff", 5


def too_much(lines):
    return [*lines, "1.0 2.0"], "more numbers than the header announces", len(lines) + 1


def only_a_header(lines):
    return lines[:2], "ends in its header", 2


@pytest.mark.parametrize(
    "spoil", [wrong_element, truncated, not_a_number, not_finite, wrong_count, bad_grid, too_much, only_a_header]
)
def test_mistakes_in_a_table_are_named(setfl, spoil):
    lines, message, line = spoil(setfl.read_text().splitlines())
    setfl.write_text("\n".join(lines) + "\n")
    with pytest.raises(PotentialError, match=message) as error:
        load(setfl, ["Cu"] if spoil is wrong_element else None)
    assert str(error.value).startswith(f"{setfl}, line {line}: ")


def test_funcfl(tmp_path):
    """Fortran exponents, and the pair term Z² / r in the old rounded units."""
    n, dr = 50, 0.1
    r = dr * np.arange(n)
    charge, density, embed = 5 * np.exp(-r), 3 * np.exp(-0.5 * r), -np.sqrt(np.arange(n) * 0.2)
    numbers = "\n".join(f"{v:.12e}".replace("e", "D") for part in (embed, charge, density) for v in part)
    (tmp_path / "x.eam").write_text(f"a comment\n 28 58.71 3.52 fcc\n {n} 0.2 {n} {dr} 4.5\n{numbers}\n")
    potential = load(tmp_path / "x.eam")
    assert potential.species == ("Ni",) and potential.cutoff == 4.5
    atoms = Atoms("Ni2", positions=[[0, 0, 0], [2.0, 0, 0]])  # on a knot
    k = round(np.interp(3 * np.exp(-1.0), [0, 9.8], [0, 49]))
    energy = evaluate(atoms, potential)[0]
    pair = 27.2 * 0.529 * charge[20] ** 2 / 2.0
    assert energy - pair == pytest.approx(2 * embed[k], abs=0.1)
    tables = potential.tables
    assert np.allclose(tables.pair[0, 0], 27.2 * 0.529 * charge**2, rtol=1e-11)
    assert np.allclose(tables.embed[0], embed, rtol=1e-11) and np.allclose(tables.density[0, 0], density, rtol=1e-11)


def test_pair_files(tmp_path):
    path = tmp_path / "lj.toml"
    path.write_text(
        'potential = "lennard-jones"\ncutoff = 8.5\nshifted = true\n[pairs]\n'
        "Ar-Ar = { epsilon = 0.010, sigma = 3.4 }\nKr-Kr = { epsilon = 0.014, sigma = 3.6, cutoff = 9.0 }\n"
    )
    potential = load(path, ["Kr", "Ar"], "mixed")
    assert potential.cutoffs.tolist() == [[9.0, 8.5], [8.5, 8.5]]
    assert potential.sigma[0, 1] == pytest.approx(3.5) and potential.epsilon[1, 0] == pytest.approx(0.00014**0.5)
    path.write_text(path.read_text().replace("sigma = 3.6", "sgima = 3.6"))
    with pytest.raises(PotentialError, match="line 6: unknown key sgima; did you mean sigma"):
        load(path)
    path.write_text('potential = "zbl"\nspecies = ["Ta"]\ninner = 4.0\nouter = 4.8\n')
    assert load(path).cutoff == 4.8
    path.write_text('potential = "zbl"\nspecies = ["Ta"]\ninner = 5.0\nouter = 4.8\n')
    with pytest.raises(PotentialError, match="0 < inner < outer"):
        load(path)
