"""Ensembles: means and deviations against the members one by one, and members that do not belong together."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from hdnnp_reference import make_model, random_atoms

from ostwald.app.potentials import Ensemble, PotentialError, load
from ostwald.app.potentials.eam import read_tables, write_setfl
from ostwald.app.potentials.hdnnp import n2p2
from ostwald.app.potentials.zhou import tables

SW = "Si Si Si 2.1683 2.0951 1.80 {} 1.20 -0.333333333333 7.049556277 0.6022245584 4.0 0.0 0.0\n"


@pytest.fixture(scope="module")
def copper(tmp_path_factory):
    """Three EAM files of copper that differ a little."""
    folder = tmp_path_factory.mktemp("copper")
    table = tables(("Cu",))
    paths = []
    for k, factor in enumerate((0.97, 1.0, 1.05)):
        paths.append(folder / f"Cu_{k}.eam.alloy")
        write_setfl(paths[-1], replace(table, pair=table.pair * factor))
    return paths


@pytest.fixture(scope="module")
def silicon(tmp_path_factory):
    """Three Stillinger-Weber files: many-body, so that forces come home from ghosts."""
    folder = tmp_path_factory.mktemp("silicon")
    paths = []
    for lam in (20.0, 21.0, 23.5):
        paths.append(folder / f"Si_{lam:g}.sw")
        paths[-1].write_text(SW.format(lam))
    return paths


@pytest.fixture(params=["copper", "silicon"])
def case(request):
    paths = request.getfixturevalue(request.param)
    atoms = bulk("Cu", "fcc", a=3.6) if request.param == "copper" else bulk("Si", "diamond", a=5.4)
    atoms *= (2, 3, 2)
    atoms.positions += np.random.default_rng(1).normal(0, 0.12, atoms.positions.shape)
    return paths, atoms


def forces_of(atoms, potential):
    atoms = atoms.copy()
    atoms.calc = potential.ase()
    return atoms.get_forces()


def test_mean_and_deviation_of_the_members(case):
    paths, atoms = case
    ensemble = load(paths)
    each = [atoms.copy() for _ in paths]
    for one, path in zip(each, paths):
        one.calc = load(path).ase()
    atoms.calc = ensemble.ase()
    mean = lambda what: np.mean([what(one) for one in each], axis=0)  # noqa: E731
    assert atoms.get_potential_energy() == pytest.approx(mean(lambda a: a.get_potential_energy()), rel=1e-13)
    for what in ("get_forces", "get_potential_energies", "get_stress", "get_stresses"):
        theirs = mean(lambda a, what=what: getattr(a, what)())
        assert np.abs(getattr(atoms, what)() - theirs).max() < 1e-12, what
    members = np.array([one.get_forces() for one in each])
    deviation = np.sqrt(((members - members.mean(0)) ** 2).sum(2).mean(0))
    assert deviation.max() > 0.05
    assert np.abs(atoms.calc.results["force_deviation"] - deviation).max() < 1e-12
    assert np.abs(atoms.calc.get_property("force_deviation", atoms) - deviation).max() < 1e-12


def test_deviation_only_where_asked(case):
    paths, atoms = case
    ensemble = load(paths)
    calculator = ensemble.ase()
    atoms.calc = calculator
    watched = atoms.get_forces()
    nb = calculator.neighbourhoods(atoms)
    ensemble.watch_deviation(False)
    assert ensemble.deviation is None
    reversals = []
    nb.reverse = reversals.append
    forces = np.zeros((nb.nall, 3))
    ensemble.compute(nb, forces)
    assert ensemble.deviation is None and not reversals
    if ensemble.reverse:
        calculator._images.reverse(forces)
    assert np.abs(forces[: nb.nlocal] - watched).max() < 1e-12


def test_compute_adds(copper):
    """To forces that hold something already, as every potential."""
    ensemble = load(copper)
    atoms = bulk("Cu", "fcc", a=3.6) * (3, 3, 3)
    atoms.rattle(0.1, seed=3)
    nb = ensemble.ase().neighbourhoods(atoms)
    once, twice = np.zeros((nb.nall, 3)), np.zeros((nb.nall, 3))
    ensemble.compute(nb, once)
    for watch in (False, True):
        ensemble.watch_deviation(watch)
        ensemble.compute(nb, twice)
    assert np.abs(twice - 2 * once).max() < 1e-12


def test_of_overlays(tmp_path, silicon):
    """Members may be sums, such as a many-body potential with ZBL at short range."""
    paths = []
    for k, path in enumerate(silicon):
        paths.append(tmp_path / f"sum_{k}.toml")
        paths[-1].write_text(
            f'potential = "overlay"\n[[terms]]\nfile = "{path}"\n[[terms]]\npotential = "zbl"\ninner = 1.0\nouter = 2.0\n'
        )
    atoms = bulk("Si", "diamond", a=5.2) * 2
    atoms.rattle(0.1, seed=3)
    assert np.allclose(forces_of(atoms, load(paths)), np.mean([forces_of(atoms, load(p)) for p in paths], axis=0))


def test_describe_and_hash(copper):
    ensemble = load(copper)
    text = ensemble.describe()
    assert text.startswith("ensemble of 3 eam potentials") and all(str(p) in text for p in copper) and "Cu" in text
    assert load(copper).hash == ensemble.hash
    assert len({load(copper[:2]).hash, ensemble.hash, load(copper[::-1]).hash, load(copper[0]).hash}) == 4
    assert ensemble.masses is not None


def test_species_in_another_order(tmp_path):
    table = tables(("Ni", "Al"))
    write_setfl(tmp_path / "a.eam.alloy", table)
    write_setfl(tmp_path / "b.eam.alloy", replace(table, pair=1.05 * table.pair).select(("Al", "Ni")))
    ensemble = load([tmp_path / "a.eam.alloy", tmp_path / "b.eam.alloy"])
    assert [m.species for m in ensemble.members] == [("Ni", "Al")] * 2
    assert load([tmp_path / "a.eam.alloy", tmp_path / "b.eam.alloy"], species=["Al"]).species == ("Al",)


def test_members_that_do_not_belong_together(tmp_path, copper, silicon):
    write_setfl(tmp_path / "Ni.eam.alloy", tables(("Ni",)))
    write_setfl(tmp_path / "same.eam.alloy", read_tables(copper[1]))
    for paths, message in (
        ([copper[0], silicon[0]], r"Si_20\.sw: is of the kind Stillinger-Weber, .*Cu_0.eam.alloy\) is eam"),
        ([copper[0], tmp_path / "Ni.eam.alloy"], r"Ni\.eam\.alloy: the species are Ni, .* are Cu"),
        ([copper[0], copper[1], tmp_path / "same.eam.alloy"], r"same\.eam\.alloy: is the same potential as .*Cu_1"),
        ([copper[0]], "at least two members"),
        ([], "at least two members"),
        ([copper[0], tmp_path / "Cu_9.eam.alloy"], "no such file"),
    ):
        with pytest.raises(PotentialError, match=message):
            load(paths)
    with pytest.raises(PotentialError, match="same precision"):
        Ensemble([load(copper[0]), load(copper[1], precision="mixed")])
    with pytest.raises(PotentialError, match=r"Cu_0\.eam\.alloy.*Ag"):
        load(copper, species=["Ag"])


# ---- neural networks ------------------------------------------------------------------------------------------------


def networks(tmp_path, count=3, functions_of=31, **changes):
    """Directories of neural networks on the same symmetry functions."""
    model = make_model(functions_of, kinds=(2, 3), cutoff=4.0)
    rng = np.random.default_rng(3)
    paths = []
    for k in range(count):
        elements = [
            replace(
                e, layers=[replace(l, weights=l.weights + 0.1 * rng.normal(size=l.weights.shape)) for l in e.layers]
            )
            for e in model.elements
        ]
        for name, change in changes.items():
            elements = [replace(e, **{name: change(k, getattr(e, name))}) for e in elements]
        paths.append(tmp_path / f"network-{k}")
        n2p2.write(replace(model, elements=elements), paths[-1])
    return paths


def test_networks_on_the_same_functions_share_them(tmp_path):
    paths = networks(tmp_path)
    ensemble = load(paths)
    for member in ensemble.members:
        member.compute = None  # nobody evaluates the members one by one
    atoms = random_atoms(16, count=12, length=7.0)
    atoms.calc = ensemble.ase()
    forces, deviation = atoms.get_forces(), atoms.calc.results["force_deviation"]
    members = np.array([forces_of(atoms, load(path)) for path in paths])
    assert np.abs(forces - members.mean(0)).max() < 1e-11
    expected = np.sqrt(((members - members.mean(0)) ** 2).sum(2).mean(0))
    assert np.abs(deviation - expected).max() < 1e-11 and expected.max() > 0.1
    for what in ("get_potential_energy", "get_stress", "get_potential_energies"):
        each = []
        for path in paths:
            one = atoms.copy()
            one.calc = load(path).ase()
            each.append(getattr(one, what)())
        assert np.abs(getattr(atoms, what)() - np.mean(each, axis=0)).max() < 1e-11, what


def test_networks_on_other_functions(tmp_path):
    """Evaluated one by one, to the same mean."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = networks(tmp_path / "a", 1) + networks(tmp_path / "b", 1, functions_of=32)
    atoms = random_atoms(16, count=10, length=7.0)
    assert np.abs(forces_of(atoms, load(paths)) - np.mean([forces_of(atoms, load(p)) for p in paths], 0)).max() < 1e-11


@pytest.mark.parametrize("same", [True, False])
def test_extrapolation_of_networks(tmp_path, same):
    """The worst of the members, where they were trained on different sets; else that of any."""
    wider = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    if not same:
        wider = (0.3, 0.3, 0.0), (0.0, 0.3, 0.3)  # below, above
    paths = networks(tmp_path, minimum=lambda k, x: x - wider[0][k], maximum=lambda k, x: x + wider[1][k])
    ensemble = load(paths)
    atoms = random_atoms(17, count=14, length=6.0)
    ensemble.watch()
    atoms.calc = ensemble.ase()
    atoms.get_forces()
    found = ensemble.extrapolation
    assert np.allclose(atoms.calc.results["extrapolation"], found.excess)
    nb = atoms.calc.neighbourhoods(atoms)
    for type_, (rows, values) in enumerate(load(paths[0]).symmetry_functions(nb)):
        names = [
            [load(p).function_name(type_, k) + ("" if same else f" of {p}") for k in range(values.shape[1])]
            for p in paths
        ]
        ranges = [load(p).model.elements[type_] for p in paths]
        excess = np.array(
            [np.maximum(e.minimum - values, values - e.maximum) / (e.maximum - e.minimum) for e in ranges]
        ).clip(0.0)
        worst = excess.max((0, 2))
        assert np.allclose(found.excess[rows], worst, rtol=1e-6) and worst.max() > 0.1
        for row, each in zip(rows[worst > 0], excess[:, worst > 0].transpose(1, 0, 2)):
            member, function = np.unravel_index(each.argmax(), each.shape)
            assert ensemble.function_name(type_, found.function[row]) == names[member][function]
            assert found.count[row] == (each[member] > 0).sum()
    ensemble.watch(False)
    assert ensemble.extrapolation is None
