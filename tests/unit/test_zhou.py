"""The analytic metals of Zhou, Johnson and Wadley: cohesive energies, zero pressure, alloys, tables of another source."""

import numpy as np
import pytest
from ase.build import bulk

from ostwald.app import potentials
from ostwald.app.potentials import eam, zhou

# eV/atom and lattice parameters that the parameters were fitted to (Phys. Rev. B 69, 144113 (2004), table I)
COHESIVE = dict(
    Cu=3.54, Ag=2.85, Au=3.93, Ni=4.45, Pd=3.91, Pt=5.77, Al=3.58, Pb=2.02, Fe=4.29, Mo=6.81, Ta=8.09, W=8.76
)
COHESIVE |= dict(Mg=1.55, Co=4.41, Ti=4.87, Zr=6.36)


@pytest.mark.parametrize("symbol", COHESIVE)
def test_crystal_is_in_equilibrium(symbol):
    a = zhou.lattice_parameter(symbol)
    shape = {"c": a * (8 / 3) ** 0.5} if zhou.LATTICES[symbol] == "hcp" else {}
    atoms = bulk(symbol, zhou.LATTICES[symbol], a=a, **shape)
    atoms.calc = potentials.load(f"zhou:{symbol}").ase()
    assert atoms.get_potential_energy() / len(atoms) == pytest.approx(-COHESIVE[symbol], abs=1e-3)
    assert abs(atoms.get_stress()[:3].mean()) * 160.2 < 0.05  # GPa


def test_tables_of_another_source(reference_data):
    theirs = eam.read_tables(reference_data / "potentials_lammps" / "W_zhou.eam.alloy")
    r = theirs.dr * np.arange(theirs.pair.shape[-1])
    inside = r > 0.5
    assert np.abs(theirs.pair[0, 0][inside] / r[inside] - zhou.pair("W", "W", r[inside])).max() < 1e-9
    assert np.abs(theirs.density[0, 0] - zhou.density("W", r))[inside].max() < 1e-9
    rho = theirs.drho * np.arange(theirs.embed.shape[-1])
    assert np.abs(theirs.embed[0] - zhou.embedding("W", rho)).max() < 1e-9


def test_alloy_mixing_and_species_order():
    r = np.linspace(2.0, 6.0, 50)
    mixed = zhou.pair("Ni", "Al", r)
    assert np.allclose(mixed, zhou.pair("Al", "Ni", r), rtol=1e-12)
    ratio = zhou.density("Al", r) / zhou.density("Ni", r)
    assert np.allclose(mixed, 0.5 * (ratio * zhou.pair("Ni", "Ni", r) + zhou.pair("Al", "Al", r) / ratio), rtol=1e-12)
    atoms = bulk("NiAl", "cesiumchloride", a=2.9) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    energies = []
    for species in (("Ni", "Al"), ("Al", "Ni")):
        atoms.calc = potentials.load("zhou:Ni-Al", species=species).ase()
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


def test_wrong_names():
    with pytest.raises(potentials.PotentialError, match="'Xx' is none of the metals"):
        potentials.load("zhou:Xx")
    with pytest.raises(potentials.PotentialError, match="'Cu' is not among its species"):
        potentials.load("zhou:Ni-Al", species=("Cu",))


def test_written_table_reads_back_the_same(tmp_path):
    eam.write_setfl(tmp_path / "NiAl.eam.alloy", zhou.tables(("Ni", "Al")))
    atoms = bulk("Ni", "fcc", a=3.52, cubic=True) * (2, 2, 2)
    atoms.symbols[::3] = "Al"
    atoms.rattle(0.05, seed=2)
    results = []
    for name in ("zhou:Ni-Al", tmp_path / "NiAl.eam.alloy"):
        atoms.calc = potentials.load(name).ase()
        results.append((atoms.get_potential_energy(), atoms.get_forces()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-7)
    assert np.abs(results[0][1] - results[1][1]).max() < 1e-6
