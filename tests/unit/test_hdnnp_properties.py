"""What holds for any neural-network potential, through the native kernel: symmetries, smoothness, forces from energies."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from hdnnp_reference import make_model, random_atoms
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ostwald.app.potentials.hdnnp import HDNNP
from ostwald.app.potentials.hdnnp.model import (
    ACTIVATIONS,
    ANGULAR,
    COMPACT,
    CUTOFF_NAMES,
    KINDS,
    SUBTYPES,
    WEIGHTED,
    Element,
    Layer,
    Model,
    SymmetryFunction,
)

plain = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def results(model, atoms, precision="double"):
    """Energies per atom, forces, virial (3, 3; None without a volume)."""
    atoms = atoms.copy()
    atoms.calc = HDNNP(model, precision=precision).ase()
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume() if atoms.pbc.all() else None
    return atoms.get_potential_energies(), atoms.get_forces(), virial


@st.composite
def potentials_and_atoms(draw):
    kinds = draw(st.sets(st.sampled_from(KINDS), min_size=1, max_size=4))
    elements = draw(st.sampled_from([("Al",), ("S", "Cu"), ("H", "O", "Ti")]))
    model = make_model(
        draw(st.integers(0, 1000)),
        elements=elements,
        kinds=tuple(sorted(kinds)),
        cutoff_type=draw(st.integers(1, 8)),
        cutoff_inner=draw(st.sampled_from([0.0, 0.3])),
        activations=(draw(st.sampled_from(list(ACTIVATIONS.values()))), "linear"),
        nodes=(draw(st.integers(1, 20)),),
        cutoff=draw(st.sampled_from([3.0, 4.5])),
        count=1,
    )
    seed, count = draw(st.integers(0, 1000)), draw(st.integers(2, 14))
    return model, random_atoms(seed, elements, count=count, length=6.5, periodic=draw(st.booleans()))


@plain
@given(potentials_and_atoms(), st.integers(0, 1000), st.booleans())
def test_symmetries_of_space_and_of_equal_atoms(case, seed, mirrored):
    """Turned, mirrored, moved, renumbered: energies stay, forces and virial follow; the forces sum to zero."""
    model, atoms = case
    energies, forces, virial = results(model, atoms)
    scale = max(1.0, np.abs(forces).max())
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-11 * scale)
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=rng).as_matrix() * (-1 if mirrored else 1)
    order = rng.permutation(len(atoms))
    other = Atoms(
        atoms.numbers[order],
        positions=atoms.positions[order] @ turn + rng.uniform(-9, 9, 3),
        cell=atoms.cell.array @ turn,
        pbc=atoms.pbc,
    )
    if mirrored:  # a left-handed cell: the same lattice by other vectors
        other.set_cell(-other.cell.array, scale_atoms=False)
    energies_2, forces_2, virial_2 = results(model, other)
    np.testing.assert_allclose(energies_2, energies[order], rtol=0, atol=1e-10 * max(1.0, np.abs(energies).max()))
    np.testing.assert_allclose(forces_2, forces[order] @ turn, rtol=0, atol=1e-9 * scale)
    if virial is not None:
        np.testing.assert_allclose(virial_2, turn.T @ virial @ turn, rtol=0, atol=1e-9 * max(1.0, np.abs(virial).max()))


@plain
@given(potentials_and_atoms(), st.integers(1, 3), st.integers(0, 2))
def test_a_repeated_cell_has_the_same_forces(case, times, axis):
    model, atoms = case
    atoms.pbc = True
    energies, forces, _ = results(model, atoms)
    repeated = atoms.repeat(tuple(times if k == axis else 1 for k in range(3)))
    energies_2, forces_2, _ = results(model, repeated)
    scale = max(1.0, np.abs(forces).max())
    np.testing.assert_allclose(
        energies_2, np.tile(energies, times), rtol=0, atol=1e-10 * max(1.0, np.abs(energies).max())
    )
    np.testing.assert_allclose(forces_2, np.tile(forces, (times, 1)), rtol=0, atol=1e-10 * scale)


@plain
@given(potentials_and_atoms())
def test_mixed_precision_stays_near(case):
    """Float arithmetic: forces within 1e-4 of the largest."""
    model, atoms = case
    energies, forces, _ = results(model, atoms)
    energies_2, forces_2, _ = results(model, atoms, "mixed")
    assert np.abs(forces_2 - forces).max() < 1e-4 * max(1.0, np.abs(forces).max())
    assert np.abs(energies_2 - energies).max() < 1e-4 * max(1.0, np.abs(energies).max())


COMBINATIONS = [
    (kind, cutoff_type) for kind in KINDS for cutoff_type in CUTOFF_NAMES if kind not in COMPACT or cutoff_type == 1
]


@pytest.mark.parametrize(("kind", "cutoff_type"), COMBINATIONS)
def test_forces_are_the_slope_of_the_energy(kind, cutoff_type):
    """Every kind of function with every cutoff function and every activation, by differences of the kernel's own energies."""
    given = dict(cutoff_type=cutoff_type, cutoff_inner=0.2, cutoff=4.0, nodes=(4,), activations=("tanh", "tanh"))
    model = make_model(kind, kinds=(kind,), **given)
    atoms = random_atoms(kind, count=8, length=6.0)
    step = 1e-5 * np.random.default_rng(cutoff_type).normal(size=(len(atoms), 3))
    for activation in ACTIVATIONS.values():
        for element in model.elements:
            element.layers = [replace(element.layers[0], activation=activation), *element.layers[1:]]
        atoms.calc = HDNNP(model).ase()
        forces = atoms.get_forces()
        energies = {}
        for k in (-2, -1, 1, 2):
            moved = atoms.copy()
            moved.positions += k * step
            moved.calc = atoms.calc
            energies[k] = moved.get_potential_energy()
        difference = (8 * (energies[1] - energies[-1]) - (energies[2] - energies[-2])) / 12
        smooth = activation != "relu" and kind not in COMPACT and cutoff_type not in (0, 1, 5)
        size = np.linalg.norm(forces) * np.linalg.norm(step)
        assert size > 1e-7
        assert difference == pytest.approx(-(forces * step).sum(), abs=(3e-8 if smooth else 1e-5) * size), activation


def single(function, cutoff_type):
    """A potential whose energy is this one symmetry function of sulphur atoms."""
    none, one = np.zeros(1), np.ones(1)
    own = Element("S", [function], none, one, none, one, [Layer(np.ones((1, 1)), np.zeros(1), "linear")])
    other = replace(own, symbol="Cu", functions=[replace(function, centre="Cu")])
    other.layers = [Layer(np.zeros((1, 1)), np.zeros(1), "linear")]
    return Model([own, other], cutoff_type)


ORDER = {
    1: 2,
    2: 3,
    3: 3,
    5: 2,
    6: 3,
    7: 4,
    8: 5,
    "p1": 2,
    "p2": 3,
    "p3": 4,
    "p4": 5,
    "p1a": 4,
    "p2a": 6,
    "p3a": 8,
    "p4a": 10,
}
"""With which power of the distance to the cutoff each function becomes zero; those not here: faster than any, or not at all."""


@pytest.mark.parametrize("shape", [*CUTOFF_NAMES, *SUBTYPES])
@pytest.mark.parametrize("kind", KINDS)
def test_how_smoothly_an_atom_enters(kind, shape):
    """Energy and force of an atom at a distance d inside the cutoff go as d^p and d^(p-1); outside they are zero."""
    if (kind in COMPACT) != (shape in SUBTYPES):
        return
    cutoff = 5.0
    values = {"subtype": shape, "r_low": 0.5} if kind in COMPACT else {"eta": 0.05, "shift": 0.3}
    if kind in ANGULAR:
        values |= {"angle_low": 10.0, "angle_high": 120.0} if kind in COMPACT else {"lam": 1.0, "zeta": 2.0}
    neighbours = () if kind in WEIGHTED else ("Cu", "Cu") if kind in ANGULAR else ("Cu",)
    function = SymmetryFunction(kind, "S", neighbours, cutoff, **values)
    potential = HDNNP(single(function, shape if kind not in COMPACT else 1))
    near = [[2.2, 1.2, 0.0]] if kind in ANGULAR else []

    def energy_and_force(distance):
        positions = [[0, 0, 0], [distance, 0, 0], *near]
        atoms = Atoms(["S", *["Cu"] * (len(positions) - 1)], positions=positions, calculator=potential.ase())
        return np.array([atoms.get_potential_energy(), atoms.get_forces()[1, 0]])

    assert (np.abs(energy_and_force(cutoff)) < 1e-14).all() and (np.abs(energy_and_force(cutoff + 0.1)) < 1e-14).all()
    inside, further = energy_and_force(cutoff - 0.04), energy_and_force(cutoff - 0.08)
    if shape == 0:
        assert energy_and_force(cutoff - 1e-9)[0] > 1e-3
        return
    order = ORDER.get(shape, 100)
    for now, then, power in zip(inside, further, (order, order - 1), strict=True):
        if abs(now) > 1e-9 and power < 20:
            assert np.log2(then / now) == pytest.approx(power, abs=0.3)
        else:
            assert abs(now) < 1e-9 or then / now > 2**10
