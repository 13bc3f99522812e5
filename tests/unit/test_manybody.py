"""Stillinger-Weber and Tersoff: against LAMMPS' values, ASE's Tersoff, the formulae written out, finite differences."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.tersoff import Tersoff as AseTersoff
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import neighbor_list
from ase.units import fs, kB

from ostwald.app.potentials import Neighbourhoods, load

# the published parameters (Phys. Rev. B 31, 5262; 37, 6991; 39, 5566 with erratum 41, 3248)
SW_SI = "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333333333 7.049556277 0.6022245584 4.0 0.0 0.0\n"
TERSOFF_SI = "Si Si Si 3 1.0 1.3258 4.8381 2.0417 0.0 22.956 0.33675 1.3258 95.373 3.0 0.2 3.2394 3264.7\n"
# two species that differ in everything: powers, a gamma below one, a cutoff shortened by tol, angles
SW_TWO = """# a comment, and entries over several lines
Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333333333
         7.049556277 0.6022245584 4.0 0.0 0.0
C  C  C  1.9 1.65 1.85 25.0 0.9 -0.3 6.5 0.63 4.5 0.25 0.0001   # tol cuts at 99 %
Si C  C  2.0 1.90 1.80 22.0 1.10 -0.32 7.0 0.61 4.2 0.1 0.0
C  Si Si 2.0 1.90 1.80 23.0 1.10 -0.31 7.0 0.61 4.2 0.1 0.0
Si Si C  1.7 0 0 20.0 0 -0.25 0 0 0 0 0
Si C  Si 1.7 0 0 20.0 0 -0.25 0 0 0 0 0
C  C  Si 1.6 0 0 19.0 0 -0.35 0 0 0 0 0
C  Si C  1.6 0 0 19.0 0 -0.35 0 0 0 0 0
"""
TERSOFF_SIC = """
C   C   C   3 1 0 38049  4.3484 -0.57058 0.72751 1.5724e-7 2.2119  346.7   1.95 0.15 3.4879 1393.6
Si  Si  Si  3 1 0 100390 16.217 -0.59825 0.78734 1.1e-6    1.73222 471.18  2.85 0.15 2.4799 1830.8
Si  Si  C   3 1 0 100390 16.217 -0.59825 0 0 0 0 2.36 0.15 0 0
Si  C   C   3 1 0 100390 16.217 -0.59825 0.78734 1.1e-6    1.97205 395.126 2.36 0.15 2.9839 1597.3111
C   Si  Si  3 1 0 38049  4.3484 -0.57058 0.72751 1.5724e-7 1.97205 395.126 2.36 0.15 2.9839 1597.3111
C   Si  C   3 1 0 38049  4.3484 -0.57058 0 0 0 0 1.95 0.15 0 0
C   C   Si  3 1 0 38049  4.3484 -0.57058 0 0 0 0 2.36 0.15 0 0
Si  C   Si  3 1 0 100390 16.217 -0.59825 0 0 0 0 2.85 0.15 0 0
"""
# lambda3 with m = 1 and m = 3, gamma, and cutoffs of zeta that depend on all three atoms
TERSOFF_ODD = """
C   C   C   1 0.9 0.8 38049  4.3484 -0.57058 0.72751 1.5724e-7 2.2119  346.7   1.95 0.15 3.4879 1393.6
Si  Si  Si  3 1.1 1.1 100390 16.217 -0.59825 0.78734 1.1e-6    1.73222 471.18  2.85 0.15 2.4799 1830.8
Si  Si  C   1 1.2 0.7 100390 16.217 -0.55 0 0 0 0 2.30 0.25 0 0
Si  C   C   3 1.0 0.9 100390 16.217 -0.59825 0.78734 1.1e-6    1.97205 395.126 2.36 0.15 2.9839 1597.3111
C   Si  Si  1 1.0 0.6 38049  4.3484 -0.57058 0.72751 1.5724e-7 1.97205 395.126 2.36 0.15 2.9839 1597.3111
C   Si  C   3 0.8 0.5 38049  4.3484 -0.60 0 0 0 0 1.90 0.15 0 0
C   C   Si  3 1.3 0.4 38049  4.3484 -0.57058 0 0 0 0 2.45 0.25 0 0
Si  C   Si  1 1.0 0.9 100390 16.217 -0.59825 0 0 0 0 2.70 0.20 0 0
"""
FILES = {
    "Si.sw": SW_SI,
    "two.sw": SW_TWO,
    "Si.tersoff": TERSOFF_SI,
    "SiC.tersoff": TERSOFF_SIC,
    "odd.tersoff": TERSOFF_ODD,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("potentials")
    for name, text in FILES.items():
        (path / name).write_text(text)
    return path


def triclinic(atoms, seed=0, amplitude=0.12):
    """The same crystal in a sheared cell in a general orientation, rattled."""
    rng = np.random.default_rng(seed)
    deformation = np.array([[1.02, 0.0, 0.0], [0.06, 0.98, 0.0], [-0.05, 0.08, 1.01]])
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    atoms.set_cell(atoms.cell.array @ deformation @ rotation, scale_atoms=True)
    atoms.positions += rng.normal(0, amplitude, atoms.positions.shape)
    return atoms


def sample(name, shape):
    """Rattled atoms for a file: a cubic cell below and a sheared one above the cutoff."""
    two = name not in ("Si.sw", "Si.tersoff")
    atoms = bulk("SiC", "zincblende", a=4.4, cubic=True) if two else bulk("Si", "diamond", a=5.431, cubic=True)
    if shape == "triclinic":
        return triclinic(atoms * (2, 1, 1))
    atoms.positions += np.random.default_rng(3).normal(0, 0.1, atoms.positions.shape)
    return atoms


# ---- against the peers' values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family, name, species",
    [
        ("sw", "Si.sw", None),
        ("tersoff", "Si.tersoff", None),
        ("tersoff", "Ge.tersoff", None),
        ("tersoff", "SiC.tersoff", None),
        ("tersoff", "SiCGe.tersoff", ("Si(D)", "Ge")),
    ],
)
def test_lammps_reference(reference_data, family, name, species):
    path = reference_data / "potentials_lammps" / name
    double, mixed = load(path, species).ase(), load(path, species, precision="mixed").ase()
    frames = ase.io.read(reference_data / "reference" / family / f"{name}.xyz", ":")
    assert len(frames) >= 14
    for atoms in frames:
        expected = atoms.calc.results
        size, label = len(atoms), atoms.info["label"]
        largest = max(1.0, np.abs(expected["forces"]).max())
        for calculator, tolerance in ((double, 1e-10), (mixed, 2e-5)):
            atoms.calc = calculator
            assert abs(atoms.get_potential_energy() - expected["energy"]) < tolerance * size, label
            assert np.abs(atoms.get_forces() - expected["forces"]).max() < tolerance * largest, label
            assert np.abs(atoms.get_potential_energies() - expected["energies"]).max() < 3 * tolerance, label
            assert np.abs(atoms.get_stress() - expected["stress"]).max() < tolerance, label
            assert atoms.get_stresses().shape == (size, 6)
            assert np.abs(atoms.get_stresses().sum(axis=0) - expected["stress"]).max() < tolerance, label


@pytest.mark.parametrize("name, a, energy", [("Si.sw", 5.431, -4.3366000), ("Si.tersoff", 5.432, -4.6304111)])
def test_cohesive_energy(folder, name, a, energy):
    atoms = bulk("Si", "diamond", a=a)
    atoms.calc = load(folder / name).ase()
    assert atoms.get_potential_energy() / 2 == pytest.approx(energy, abs=1e-7)
    assert np.abs(atoms.get_forces()).max() < 1e-12


# ---- against the formulae -----------------------------------------------------------------------------------------------


def stillinger_weber_energies(atoms, text):
    """The formula of the kernel, atom by atom, with the shares of the reference: pairs 1/2, triplets 1/3."""
    names = ("epsilon", "sigma", "a", "strength", "gamma", "cos0", "A", "B", "p", "q", "tol")
    words = " ".join(line.split("#")[0] for line in text.splitlines()).split()
    table = {}
    for k in range(0, len(words), 14):
        table[tuple(words[k : k + 3])] = dict(zip(names, map(float, words[k + 3 : k + 14])))
    symbols, energies = atoms.get_chemical_symbols(), np.zeros(len(atoms))

    def reach(p):
        tail = min(p["gamma"], 1.0) * p["sigma"] / np.log(min(p["tol"], 0.01)) if p["tol"] > 0 else 0.0
        return p["a"] * p["sigma"] + tail

    i_, j_, d_ = neighbor_list("ijD", atoms, 4.0)
    for i in range(len(atoms)):
        near = []
        for j, d in zip(j_[i_ == i], d_[i_ == i]):
            p, r = table[symbols[i], symbols[j], symbols[j]], np.linalg.norm(d)
            if r >= reach(p):
                continue
            near.append((j, d / r, np.exp(p["gamma"] * p["sigma"] / (r - p["a"] * p["sigma"]))))
            x = p["sigma"] / r
            pair = p["epsilon"] * p["A"] * (p["B"] * x ** p["p"] - x ** p["q"])
            pair *= np.exp(p["sigma"] / (r - p["a"] * p["sigma"]))
            energies[[i, j]] += pair / 4 if i != j else 0
            energies[i] += pair / 2 if i == j else 0
        for a, (j, uj, gj) in enumerate(near):
            for k, uk, gk in near[a + 1 :]:
                p = table[symbols[i], symbols[j], symbols[k]]
                triplet = p["strength"] * p["epsilon"] * (uj @ uk - p["cos0"]) ** 2 * gj * gk
                for atom in (i, j, k):
                    energies[atom] += triplet / 3
    return energies


@pytest.mark.parametrize("name", ["Si.sw", "two.sw"])
@pytest.mark.parametrize("shape", ["cubic", "triclinic"])
def test_stillinger_weber_formula(folder, name, shape):
    atoms = sample(name, shape)
    expected = stillinger_weber_energies(atoms, FILES[name])
    atoms.calc = load(folder / name).ase()
    assert np.abs(atoms.get_potential_energies() - expected).max() < 1e-11
    assert atoms.get_potential_energy() == pytest.approx(expected.sum(), abs=1e-10)


@pytest.mark.parametrize("name", ["Si.tersoff", "SiC.tersoff", "odd.tersoff"])
def test_tersoff_as_ase(folder, name):
    atoms = sample(name, "triclinic")
    ours = load(folder / name).ase()
    theirs = AseTersoff.from_lammps(folder / name)
    atoms.calc = theirs
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = ours
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-8)
    assert np.abs(atoms.get_forces() - forces).max() < 1e-7
    assert np.abs(atoms.get_stress() - stress).max() < 1e-8


# ---- forces and virial are the energy's derivatives ------------------------------------------------------------------------


def derivative(energy_at, step):
    """5-point central difference."""
    e = [energy_at(k * step) for k in (-2, -1, 1, 2)]
    return (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)


@pytest.mark.parametrize("precision, tolerance", [("double", 2e-8), ("mixed", 1e-5)])
@pytest.mark.parametrize("shape", ["cubic", "triclinic"])
@pytest.mark.parametrize("name", list(FILES))
def test_finite_differences(folder, name, shape, precision, tolerance, step=1e-3):
    atoms = sample(name, shape)
    atoms.calc = load(folder / name, precision=precision).ase()
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    scale = max(1.0, np.abs(forces).max())
    assert np.abs(forces.sum(axis=0)).max() < 1e-5 * scale
    rng = np.random.default_rng(11)
    positions, cell = atoms.positions.copy(), atoms.cell.array.copy()
    moved = atoms.copy()
    moved.calc = load(folder / name).ase()  # a difference of float energies would show their rounding only
    for _ in range(4):
        direction = rng.normal(size=positions.shape)
        direction /= np.linalg.norm(direction)

        def displaced(h, direction=direction):
            moved.positions = positions + h * direction
            return moved.get_potential_energy()

        assert -derivative(displaced, step) == pytest.approx((forces * direction).sum(), abs=tolerance * scale)
    for _ in range(3):
        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) / 2

        def strained(h, strain=strain):
            moved.set_cell(cell @ (np.eye(3) + h * strain))
            moved.positions = positions @ (np.eye(3) + h * strain)
            return moved.get_potential_energy()

        expected = atoms.get_volume() * (stress * strain).sum()
        assert derivative(strained, 0.1 * step) == pytest.approx(expected, abs=20 * tolerance * scale)


# ---- kernels -------------------------------------------------------------------------------------------------------------------


def neighbourhoods(potential, atoms, style="full"):
    """What a potential is given, made by the ASE calculator."""
    calculator = potential.ase()
    calculator.atoms = atoms.copy()
    nb = calculator.neighbourhoods(atoms)
    nb.style = style
    nb.keep = calculator
    return nb


@pytest.mark.parametrize("precision", ["double", "mixed"])
@pytest.mark.parametrize("name", ["two.sw", "Si.tersoff", "odd.tersoff"])
def test_threads_agree_and_calls_repeat(folder, name, precision):
    potential = load(folder / name, precision=precision)
    atoms = triclinic(
        (bulk("Si", cubic=True) if name == "Si.tersoff" else bulk("SiC", "zincblende", a=4.4, cubic=True)) * 4
    )
    nb = neighbourhoods(potential, atoms)
    runs = []
    for threads in (1, 1, 2, 3):
        forces, energies, virials = np.zeros((nb.nall, 3)), np.zeros(nb.nall), np.zeros((nb.nall, 6))
        energy, virial = potential.compute(nb, forces, energies=energies, virials=virials, threads=threads)
        runs.append((np.array(energy), virial, forces, energies, virials))
    for a, b in zip(runs[0], runs[1]):
        assert np.array_equal(a, b)
    for run in runs[2:]:
        for a, b in zip(runs[0], run):  # lanes are grouped otherwise, so mixed differs by float rounding
            assert np.abs(a - b).max() <= (1e-11 if precision == "double" else 2e-5) * max(1.0, np.abs(a).max())
    energy, virial, _, energies, virials = runs[0]
    assert energies.sum() == pytest.approx(energy, rel=1e-6 if precision == "mixed" else 1e-12)
    assert np.abs(virials.sum(axis=0) - virial).max() < (1e-2 if precision == "mixed" else 1e-9)


def test_compute_adds(folder):
    potential = load(folder / "Si.sw")
    nb = neighbourhoods(potential, sample("Si.sw", "cubic"))
    energy, virial = potential.compute(nb, np.zeros((nb.nall, 3)), energy=False, virial=False)
    assert np.isnan(energy) and np.isnan(virial).all()  # not asked for
    once, twice = np.zeros((nb.nall, 3)), np.zeros((nb.nall, 3))
    potential.compute(nb, once)
    potential.compute(nb, twice)
    potential.compute(nb, twice)
    assert np.abs(once).max() > 0.1
    assert np.array_equal(2 * once, twice)


@pytest.mark.parametrize("precision", ["double", "mixed"])
@pytest.mark.parametrize("name", ["Si.sw", "two.sw", "Si.tersoff", "SiC.tersoff"])
def test_nan_stays_visible(folder, name, precision):
    potential = load(folder / name, precision=precision)
    nb = neighbourhoods(potential, sample(name, "triclinic"))
    nb.positions[3, 1] = np.nan
    forces = np.zeros((nb.nall, 3))
    energy, virial = potential.compute(nb, forces)
    assert np.isnan(energy) and np.isnan(virial).all() and np.isnan(forces[3]).all()


def test_wrong_arrays_are_refused(folder):
    potential = load(folder / "Si.tersoff")
    nb = neighbourhoods(potential, sample("Si.tersoff", "cubic"))
    forces = np.zeros((nb.nall, 3))

    def changed(**new):
        values = {**{k: getattr(nb, k) for k in ("positions", "types", "nlocal", "offsets", "indices")}, **new}
        return Neighbourhoods(style=new.get("style", "full"), **{k: v for k, v in values.items() if k != "style"})

    for bad in (
        changed(positions=nb.positions.astype(np.float32)),
        changed(positions=nb.positions[:, :2]),
        changed(types=nb.types.astype(np.int64)),
        changed(types=nb.types + 1),
        changed(types=nb.types[:-1]),
        changed(offsets=nb.offsets[:-1]),
        changed(indices=nb.indices[:-1]),
        changed(indices=nb.indices[::2]),
        changed(style="half"),
    ):
        with pytest.raises(ValueError):
            potential.compute(bad, forces)
    with pytest.raises(ValueError):
        potential.compute(nb, forces[:-1])
    with pytest.raises(ValueError):
        potential.compute(nb, np.zeros((3, nb.nall)).T)
    assert np.all(forces == 0)


def test_no_neighbours_and_no_atoms(folder):
    for name in ("Si.sw", "Si.tersoff"):
        potential = load(folder / name)
        for n in (0, 1):
            nb = Neighbourhoods(
                np.zeros((n, 3)), np.zeros(n, np.int32), n, np.zeros(n + 1, np.int64), np.zeros(0, np.int32)
            )
            forces = np.zeros((n, 3))
            energy, virial = potential.compute(nb, forces)
            assert energy == 0 and not virial.any() and not forces.any()


# ---- dynamics ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Si.sw", "SiC.tersoff"])
def test_nve_conserves_energy(folder, name):
    """Verlet's energy error is of second order: a quarter for half the step, and no drift."""
    ranges = []
    for dt, steps in ((2.0, 100), (1.0, 200)):
        atoms = (bulk("Si", cubic=True) if name == "Si.sw" else bulk("SiC", "zincblende", a=4.36, cubic=True)) * 2
        momenta = (
            np.random.default_rng(5).normal(size=(len(atoms), 3)) * np.sqrt(600 * kB * atoms.get_masses())[:, None]
        )
        atoms.set_momenta(momenta - momenta.mean(axis=0))
        atoms.calc = load(folder / name).ase()
        totals = []
        dynamics = VelocityVerlet(atoms, dt * fs)
        dynamics.attach(lambda: totals.append(atoms.get_total_energy()))  # noqa: B023
        dynamics.run(steps)
        ranges.append(np.ptp(totals) / len(atoms))
        assert atoms.calc.builds < steps / 4
    assert ranges[0] < 2e-3
    assert ranges[1] < 0.35 * ranges[0]


# ---- pairs without interaction ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_zeros_mean_no_interaction(tmp_path, precision):
    """Two species that only meet their own kind: the energy is that of the two crystals apart."""
    zero = {"sw": " 0" * 11, "tersoff": " 3" + " 0" * 13}
    for name, text in (("sw", SW_SI), ("tersoff", TERSOFF_SI)):
        others = [(a, b, c) for a in ("Si", "Ge") for b in ("Si", "Ge") for c in ("Si", "Ge") if not a == b == c]
        lines = [text, text.replace("Si Si Si", "Ge Ge Ge"), *(" ".join(o) + zero[name] + "\n" for o in others)]
        path = tmp_path / f"two.{name}"
        path.write_text("".join(lines))
        potential = load(path, ["Si", "Ge"], precision=precision)
        atoms = sample("Si.sw", "triclinic")
        ghosts = atoms.copy()
        ghosts.symbols[:] = "Ge"
        ghosts.positions += [0.4, 0.3, 0.2]
        atoms.calc = potential.ase()
        alone, forces = atoms.get_potential_energy(), atoms.get_forces()
        both = atoms + ghosts
        both.calc = potential.ase()
        assert both.get_potential_energy() == pytest.approx(2 * alone, rel=1e-6 if precision == "mixed" else 1e-12)
        tolerance = 1e-4 if precision == "mixed" else 1e-11
        assert np.abs(both.get_forces() - np.concatenate([forces, forces])).max() < tolerance
