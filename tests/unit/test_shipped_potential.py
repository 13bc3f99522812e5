"""The neural network that comes along, beside the potential that labelled its data."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk, fcc111
from ase.md.verlet import VelocityVerlet

from ostwald.app.cli import main
from ostwald.app.potentials import load


@pytest.fixture(scope="module")
def calculators():
    return load("ni-zhou.ostwald").ase(), load("zhou:Ni").ase()


def compared(atoms, calculators):
    """Differences of the energy (eV/atom), of forces (n, 3) eV/Å, of stress (6,) GPa."""
    found = []
    for calculator in calculators:
        atoms.calc = calculator
        found.append((atoms.get_potential_energy() / len(atoms), atoms.get_forces(), atoms.get_stress() / units.GPa))
    return [a - b for a, b in zip(*found)]


@pytest.mark.parametrize("a, rattle", [(3.52, 0.05), (3.40, 0.12), (3.62, 0.15)])
def test_rattled_crystals_are_those_of_its_teacher(calculators, a, rattle):
    atoms = bulk("Ni", "fcc", a=a, cubic=True) * (3, 3, 3)
    atoms.rattle(rattle, seed=8)
    energy, forces, stress = compared(atoms, calculators)
    assert abs(energy) < 1e-3
    assert np.sqrt(np.mean(forces**2)) < 0.05
    assert np.abs(stress).max() < 0.2


@pytest.mark.parametrize("kind, a", [("fcc", 3.52), ("bcc", 2.80), ("hcp", 2.49), ("diamond", 5.05)])
def test_energies_of_crystals(calculators, kind, a):
    for factor in (0.97, 1.0, 1.03):
        energy, _, stress = compared(bulk("Ni", kind, a=a * factor), calculators)
        assert abs(energy) < 1.5e-3
        assert np.abs(stress).max() < 0.5


def test_a_surface_with_a_vacancy(calculators):
    slab = fcc111("Ni", (4, 4, 5), a=3.52, vacuum=7)
    slab.pbc = True
    del slab[30]
    slab.rattle(0.05, seed=3)
    energy, forces, _ = compared(slab, calculators)
    assert abs(energy) < 2e-3
    assert np.sqrt(np.mean(forces**2)) < 0.03


def test_a_hot_crystal_stays_in_the_training_range_and_conserves_energy(calculators):
    atoms = bulk("Ni", "fcc", a=3.58, cubic=True) * (3, 3, 3)
    atoms.calc = calculators[0]
    widths = np.sqrt(units.kB * 2600 * atoms.get_masses())
    atoms.set_momenta(widths[:, None] * np.random.default_rng(5).standard_normal((len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, timestep=2 * units.fs)
    dynamics.run(250)
    start = atoms.get_total_energy()
    for _ in range(5):
        dynamics.run(100)
        assert atoms.calc.results["extrapolation"].max() < 0.05
        assert abs(atoms.get_total_energy() - start) < 2e-4 * len(atoms)
    energy, forces, _ = compared(atoms, calculators)
    assert abs(energy) < 1e-3
    assert np.sqrt(np.mean(forces**2)) < 0.03


def test_it_is_found_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["info", "ni-zhou.ostwald"]) == 0
    assert "529 weights" in capsys.readouterr().out
    assert main(["convert", "ni-zhou.ostwald", "n2p2"]) == 0
    atoms = bulk("Ni", "fcc", a=3.4, cubic=True)
    atoms.rattle(0.05, seed=1)
    energies = []
    for name in ("n2p2", "ni-zhou.ostwald"):
        atoms.calc = load(name).ase()
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1]
