"""Native evaluation of neural-network potentials: against plain NumPy with exact derivatives, against n2p2's own numbers."""

import json
import warnings
from argparse import Namespace
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from hdnnp_reference import Reference, make_model, random_atoms

from ostwald.app.atoms.neighbours import NeighbourList
from ostwald.app.jobs import bench_hdnnp
from ostwald.app.potentials import Neighbourhoods, PotentialError, load
from ostwald.app.potentials.hdnnp import HDNNP, n2p2
from ostwald.app.potentials.hdnnp.model import ACTIVATIONS, CUTOFF_NAMES, KINDS, sort_key
from ostwald.app.potentials.images import Images
from ostwald.parallel import CollectiveError


def neighbourhoods(atoms, potential):
    """Atoms of an ASE object and ghosts around them, in the potential's types."""
    images = Images(atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff + 0.5)
    positions = np.ascontiguousarray(images.rows(atoms.positions))
    types = np.array([potential.species.index(s) for s in atoms.get_chemical_symbols()], np.int32)[images.owners]
    found = NeighbourList()
    found.build(positions, images.n, images.nghost, potential.cutoff, 0.3)
    return Neighbourhoods(
        positions, types, len(atoms), found.offsets, found.indices, "full", images.forward, images.reverse
    )


def check(model, atoms, precision="double", threads=1):
    """Energies, forces, stress of the kernel against the reference; returns the kernel's."""
    reference = Reference(model, atoms)
    calculator = HDNNP(model, precision=precision).ase(threads=threads)
    atoms = atoms.copy()
    atoms.calc = calculator
    energies, forces = reference.energies().real, reference.forces()
    scale = max(1.0, abs(forces).max())
    tight = 1e-11 if precision == "double" else 2e-5
    np.testing.assert_allclose(
        atoms.get_potential_energies(), energies, rtol=0, atol=tight * max(1, abs(energies).max())
    )
    np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=10 * tight * scale)
    if atoms.pbc.all():
        virial = reference.virial()
        got = -atoms.get_stress(voigt=False) * atoms.get_volume()
        np.testing.assert_allclose(got, virial, rtol=0, atol=50 * tight * max(1.0, abs(virial).max()))
        np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), rtol=0, atol=tight)
    return forces


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_function(kind):
    check(make_model(kind, kinds=(2, kind), cutoff=4.0), random_atoms(1, count=10, length=6.5))


@pytest.mark.parametrize("cutoff_type", CUTOFF_NAMES)
@pytest.mark.parametrize("inner", [0.0, 0.4])
def test_every_cutoff_function(cutoff_type, inner):
    model = make_model(3, kinds=(2, 3, 9), cutoff_type=cutoff_type, cutoff_inner=inner, cutoff=4.0)
    check(model, random_atoms(2, count=10, length=6.5))


@pytest.mark.parametrize("activation", ACTIVATIONS.values())
def test_every_activation(activation):
    model = make_model(5, kinds=(2, 3), activations=(activation, "tanh", activation), nodes=(19, 3), cutoff=4.0)
    check(model, random_atoms(3, count=8, length=6.5))


@pytest.mark.parametrize("scaling", ["none", "scale", "center", "scale_center", "sigma"])
def test_scaling_units_and_normalisation(scaling):
    given = dict(length_unit=n2p2.BOHR, energy_unit=n2p2.HARTREE, spread=3.0)
    model = make_model(7, kinds=(2, 3, 9), scaling=scaling, normalised=True, normalize_nodes=True, cutoff=4.0, **given)
    check(model, random_atoms(4, count=8, length=6.5))


@pytest.mark.parametrize("elements", [("H",), ("H", "O", "S", "Cu", "Au")])
def test_one_and_five_elements(elements):
    model = make_model(9, elements=elements, kinds=(2, 3, 9, 13), cutoff=3.5, count=1)
    check(model, random_atoms(5, elements=elements, count=10, length=6.0))


@pytest.mark.parametrize("nodes", [(), (1,), (40,), (17, 9, 8, 33)])
def test_depth_and_width_of_networks(nodes):
    model = make_model(11, kinds=(2, 9), activations=("softplus",) * len(nodes) + ("linear",), nodes=nodes, cutoff=4.0)
    check(model, random_atoms(6, count=8, length=6.5))


@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_atoms_see_their_own_images_and_surfaces(precision):
    """Cells far smaller than the cutoff; open boundaries; more neighbours than one vector holds; several threads."""
    model = make_model(13, kinds=(2, 3, 9, 22), cutoff=4.5)
    tiny = random_atoms(7, count=2, length=3.2, nearest=1.2)
    check(model, tiny, precision, threads=3)
    cluster = random_atoms(8, count=14, length=7.0, periodic=False)
    check(model, cluster, precision)


def test_an_atom_alone_and_a_pair():
    model = make_model(15, kinds=(2, 3, 9), cutoff=4.0)
    alone = random_atoms(9, count=2, length=30.0)
    alone.positions[1] = alone.positions[0] + [12.0, 0, 0]
    check(model, alone)
    alone.positions[1] = alone.positions[0] + [1.5, 0.2, -0.4]
    check(model, alone)


def test_order_of_species_and_part_of_them():
    model = make_model(17, kinds=(2, 3, 9), cutoff=4.0)
    atoms = random_atoms(10, count=8, length=6.5)
    atoms.calc = HDNNP(model).ase()
    expected = atoms.get_forces()
    for species in (("Cu", "S"), ("S", "Cu")):
        atoms.calc = HDNNP(model, species).ase()
        np.testing.assert_allclose(atoms.get_forces(), expected, atol=1e-12)
    copper = bulk("Cu", cubic=True) * 2
    copper.rattle(0.2, seed=1)
    copper.calc = HDNNP(model, ("Cu",)).ase()
    assert np.isfinite(copper.get_potential_energy())
    with pytest.raises(PotentialError, match="no network for Au"):
        HDNNP(model, ("Au",))


def test_half_lists_are_refused():
    potential = HDNNP(make_model(19, kinds=(2,), cutoff=3.0))
    nb = neighbourhoods(random_atoms(11, count=4), potential)
    nb.style = "half"
    with pytest.raises(ValueError, match="full neighbour list"):
        potential.compute(nb, np.zeros((nb.nall, 3)))


def test_nan_stays_visible():
    potential = HDNNP(make_model(21, kinds=(3, 9), cutoff=4.0))
    nb = neighbourhoods(random_atoms(12, count=8, length=6.5), potential)
    nb.positions[2, 1] = np.nan
    forces = np.zeros((nb.nall, 3))
    energy, _ = potential.compute(nb, forces)
    assert np.isnan(energy) and np.isnan(forces).any()


@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_neighbours_just_beyond_the_cutoff(precision):
    """In large boxes they pass the coarse first look, several at once: no term of theirs may remain."""
    potential = HDNNP(make_model(33, kinds=(2, 3, 9, 21, 22), cutoff=4.0), precision=precision)
    directions = np.array([[1, 0, 0], [0.1, 1, 0], [0.2, 0.1, 1], [-1, 0.3, 0], [0, -1, 0.2]])
    shell = (4.0 + 1e-5) * directions / np.linalg.norm(directions, axis=1)[:, None]
    inside = np.array([[1.9, 0.1, 0.0], [0.3, 2.1, 0.4], [-1.2, -0.8, 1.6]])
    forces = []
    for extra in (shell, 1.5 * shell):
        near = np.concatenate([[[0, 0, 0]], inside, extra, [[3000.0, 0, 0]]]) + 500.0
        types = (np.arange(len(near)) % 2).astype(np.int32)
        indices = np.arange(1, len(near), dtype=np.int32)
        nb = Neighbourhoods(near, types, 1, np.array([0, len(indices)]), indices, "full")
        forces.append(np.zeros((nb.nall, 3)))
        potential.compute(nb, forces[-1])
    assert np.isfinite(forces[0]).all() and (forces[0][1:4] != 0).any()
    np.testing.assert_array_equal(*forces)


@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_symmetry_functions(precision):
    model = make_model(23, cutoff=4.0)
    atoms = random_atoms(13, count=8, length=6.5)
    potential, reference = HDNNP(model, precision=precision), Reference(model, atoms)
    found = potential.symmetry_functions(neighbourhoods(atoms, potential))
    assert sorted(np.concatenate([rows for rows, _ in found])) == list(range(len(atoms)))
    for rows, values in found:
        expected = np.array([reference.functions(row) for row in rows])
        tight = 1e-11 if precision == "double" else 3e-6
        np.testing.assert_allclose(values, expected, rtol=tight, atol=tight)


def test_functions_too_small_for_single_precision():
    """Published sets have functions of 1e-136, scaled to one: mixed precision then is double, and says so."""
    model = make_model(24, kinds=(2, 3), cutoff=4.0)
    element = model.elements[0]
    k = next(k for k, f in enumerate(element.functions) if f.kind == 3)
    element.functions[k] = replace(element.functions[k], eta=30.0)
    element.functions.sort(key=lambda f: sort_key(f, model.species))
    k = next(k for k, f in enumerate(element.functions) if f.eta == 30.0)
    element.minimum[k], element.maximum[k], element.mean[k], element.sigma[k] = 0.0, 1e-60, 5e-61, 1e-61
    potential = HDNNP(model, precision="mixed")
    assert "evaluated in double" in potential.describe()
    atoms = random_atoms(13, count=8, length=6.5)
    atoms.calc = potential.ase()
    forces = atoms.get_forces()
    atoms.calc = HDNNP(model).ase()
    np.testing.assert_array_equal(forces, atoms.get_forces())
    assert np.isfinite(forces).all()


def test_extrapolation():
    """A stretched range: the worst function, how far, how many; nothing else changes."""
    model = make_model(25, kinds=(2, 3), cutoff=4.0)
    atoms = random_atoms(14, count=8, length=6.5)
    potential = HDNNP(model)
    nb = neighbourhoods(atoms, potential)
    values = potential.symmetry_functions(nb)
    for element, (_, g) in zip(model.elements, values):
        element.minimum, element.maximum = g.min(axis=0), g.max(axis=0) + 1e-9
    row, k = values[1][0][0], 3
    g = values[1][1][0, k]
    width = 0.25
    model.elements[1].maximum[k], model.elements[1].minimum[k] = g - 0.5 * width, g - 1.5 * width
    potential = HDNNP(model)
    before, after = np.zeros((nb.nall, 3)), np.zeros((nb.nall, 3))
    potential.compute(nb, before)
    assert potential.extrapolation is None
    potential.watch()
    potential.compute(nb, after)
    np.testing.assert_array_equal(before, after)
    seen = potential.extrapolation
    assert seen.function[row] == k and seen.count[row] == 1 and seen.excess[row] == pytest.approx(0.5, abs=1e-6)
    assert (seen.excess[nb.types[: nb.nlocal] == 0] < 1e-6).all()
    assert "Cu" in potential.function_name(1, k) and "cutoff" in potential.function_name(1, k)
    potential.watch(False)
    potential.compute(nb, after)
    assert potential.extrapolation is None


def test_several_networks_on_the_same_functions():
    first, second = make_model(27, kinds=(2, 3, 9), cutoff=4.0), make_model(27, kinds=(2, 3, 9), cutoff=4.0)
    rng = np.random.default_rng(0)
    for element in second.elements:
        for layer in element.layers:
            layer.weights = layer.weights + rng.normal(0, 0.1, layer.weights.shape)
        element.mean = element.mean * 1.1
    atoms = random_atoms(15, count=10, length=6.5)
    one, two, both = HDNNP(first), HDNNP(second), HDNNP([first, second])
    nb = neighbourhoods(atoms, both)
    forces = np.zeros((3, nb.nall, 3))
    results = [p.compute(nb, f, threads=2) for p, f in zip((one, two, both), forces)]
    np.testing.assert_allclose(forces[2], forces[:2].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(results[2][1], (results[0][1] + results[1][1]) / 2, atol=1e-11)
    assert results[2][0] == pytest.approx((results[0][0] + results[1][0]) / 2, abs=1e-11)
    each = np.zeros((2, nb.nall, 3))
    energies, virial = both.compute_members(nb, each, threads=2)
    np.testing.assert_allclose(virial, results[2][1], atol=1e-10)
    np.testing.assert_allclose(each, forces[:2], atol=1e-12)
    np.testing.assert_allclose(energies, [results[0][0], results[1][0]], atol=1e-11)
    with pytest.raises(PotentialError, match="different symmetry functions"):
        HDNNP([first, make_model(28, kinds=(2, 3), cutoff=4.0)])


def test_from_files(tmp_path):
    """Written, found by its content, read with and without units, hashed."""
    model = make_model(29, kinds=(2, 3, 9), cutoff=4.0, length_unit=n2p2.BOHR, energy_unit=n2p2.HARTREE)
    n2p2.write(model, tmp_path / "stated")
    potential = load(tmp_path / "stated")
    atoms = random_atoms(16, count=8, length=6.5)
    atoms.calc = potential.ase()
    np.testing.assert_allclose(atoms.get_potential_energies(), Reference(model, atoms).energies().real, atol=1e-10)
    assert "bohr" in potential.describe() and "Hartree" in potential.describe()
    assert potential.hash == load(tmp_path / "stated").hash != load(tmp_path / "stated", precision="mixed").hash
    text = (tmp_path / "stated" / "input.nn").read_text()
    (tmp_path / "stated" / "input.nn").write_text(text.replace("# units bohr Hartree\n", ""))
    given = load(tmp_path / "stated", units=("bohr", "Hartree"))
    assert given.cutoff == pytest.approx(4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load(tmp_path / "stated").cutoff == pytest.approx(4.0 / n2p2.BOHR)
    with pytest.raises(PotentialError, match="units of this kind of file are fixed"):
        load("Si.sw", units=("bohr", "eV"))
    with pytest.raises(PotentialError, match="zhou:Al: the units of this potential are fixed"):
        load("zhou:Al", units=("bohr", "Hartree"))


PUBLISHED = {
    "Cu2S_PBE": ("n2p2_examples/potentials/Cu2S_PBE", None),
    "H2O_RPBE-D3": ("n2p2_examples/potentials/H2O_RPBE-D3", True),
}
PUBLISHED |= {f"mlearn_{s}": (f"mlearn/potentials/{s}", True) for s in ("Ni", "Cu", "Si", "Ge", "Mo", "Li")}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parity_with_n2p2(reference_data, name):
    """Energies, forces and stress that n2p2 itself gave, in its own units; mixed precision on the hot liquids."""
    folder, atomic_units = PUBLISHED[name]
    units = ("bohr", "Hartree") if atomic_units else None
    frames = ase.io.read(reference_data / "reference" / "n2p2" / f"n2p2_{name}.xyz", ":")
    double = load(reference_data / folder, units=units).ase()
    mixed = load(reference_data / folder, units=units, precision="mixed").ase()
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = double
        expected = frame.get_forces()
        tight = 1e-8 * max(1.0, abs(expected).max() / 1e3)
        np.testing.assert_allclose(atoms.get_forces(), expected, rtol=0, atol=tight)
        assert atoms.get_potential_energy() == pytest.approx(frame.get_potential_energy(), rel=1e-10)
        np.testing.assert_allclose(
            atoms.get_potential_energies(), frame.calc.results["energies"], rtol=1e-10, atol=1e-9
        )
        if frame.pbc.all():
            np.testing.assert_allclose(atoms.get_stress(), frame.get_stress(), rtol=0, atol=1e-10)
        if frame.info["label"] in ("liquid", "large"):
            atoms.calc = mixed
            assert np.sqrt(np.mean((atoms.get_forces() - expected) ** 2)) < 2e-5


@pytest.mark.parametrize(
    "name, folder",
    [
        ("Cu2S", "n2p2_examples/potentials/Cu2S_PBE"),
        ("water", "n2p2_examples/potentials/H2O_RPBE-D3"),
        ("Ni", "mlearn/potentials/Ni"),
    ],
)
def test_the_benchmark_has_the_published_functions(reference_data, name, folder):
    published = n2p2.read(reference_data / folder)
    for ours, theirs in zip(bench_hdnnp.generated(name).elements, published.elements, strict=True):
        assert ours.functions == theirs.functions


def test_benchmark_command(tmp_path, world, capsys):
    given = Namespace(
        potential=[], case=["Ni"], atoms=200, steps=2, repeat=1, precision=["mixed"], json=str(tmp_path / "r.json")
    )
    assert bench_hdnnp.bench(world, given) == 0
    (row,) = json.loads((tmp_path / "r.json").read_text())["results"]
    assert row["case"] == "Ni" and row["functions"] == "27" and row["atoms"] == 256 and row["us_cpu_min"] > 0
    given.case = ["Nickel"]
    with pytest.raises(CollectiveError, match="no case 'Nickel'"):
        bench_hdnnp.bench(world, given)
