"""What must hold for a potential that was trained here, natively and in torch: symmetries, derivatives, smoothness."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation
from training_systems import nickel

from ostwald.app.jobs import train
from ostwald.app.jobs.train_setup import single
from ostwald.app.potentials import load
from ostwald.app.potentials.hdnnp.descriptors import Descriptors
from ostwald.app.potentials.hdnnp.network import Network
from ostwald.io.datasets import LabelledStructure, write_dataset
from ostwald.parallel import World

RUN = """
[job]
kind = "train"
[data]
file = "set.h5"
[[radial]]
cutoff = 5.0
centred = 1
shifted = 5
first = 2.0
[[angular]]
cutoff = 4.5
narrow = false
zetas = [1, 2]
centred = 1
first = 2.0
[[angular]]
cutoff = 4.0
zetas = [2]
centred = 1
first = 2.0
[network]
nodes = [8]
[optimiser]
epochs = 15
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(folder / "set.h5", nickel())
    (folder / "train.toml").write_text(RUN)
    assert train.run(World(), folder / "train.toml", folder / "run") == 0
    return load(folder / "run/potential.ostwald")


def natively(potential, atoms):
    atoms = atoms.copy()
    atoms.calc = potential.ase()
    return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)


def in_torch(potential, atoms):
    structure = LabelledStructure(atoms.positions, atoms.numbers, np.array(atoms.cell), atoms.pbc)
    with torch.no_grad():
        out = Network(potential.model).evaluate(single(structure, Descriptors(potential.model).describe(structure)))
    xx, yy, zz, yz, xz, xy = out.stress[0].tolist()
    return float(out.energy[0]), out.forces.numpy(), np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def crystal():
    atoms = bulk("Ni", cubic=True, a=3.55) * (2, 2, 1)
    atoms.rattle(0.15, seed=3)
    return atoms


evaluators = pytest.mark.parametrize("evaluate", [natively, in_torch])


@evaluators
def test_symmetries(trained, evaluate):
    """Turned, mirrored, moved, put in another order and cell: energies stay, forces and stresses turn."""
    atoms, rng = crystal(), np.random.default_rng(4)
    energy, forces, stress = evaluate(trained, atoms)
    turn = -Rotation.random(random_state=5).as_matrix()
    order = rng.permutation(len(atoms))
    other = atoms[order]
    other.set_cell(atoms.cell.array @ turn.T)
    other.positions = (
        atoms.positions[order] @ turn.T + rng.normal(size=3) + rng.integers(-2, 3, (len(atoms), 3)) @ other.cell.array
    )
    found = evaluate(trained, other)
    assert found[0] == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(found[1], forces[order] @ turn.T, atol=1e-10)
    np.testing.assert_allclose(found[2], turn @ stress @ turn.T, atol=1e-12)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)


@evaluators
def test_forces_and_stress_are_slopes_of_the_energy(trained, evaluate):
    atoms, rng, step = crystal(), np.random.default_rng(6), 1e-4
    _, forces, stress = evaluate(trained, atoms)
    for atom, axis in zip(rng.choice(len(atoms), 5, replace=False), (0, 1, 2, 0, 1)):
        values = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            values.append(evaluate(trained, moved)[0])
        assert (values[1] - values[0]) / (2 * step) == pytest.approx(forces[atom, axis], abs=2e-6)
    for a, b in ((0, 0), (1, 1), (1, 2), (0, 2), (0, 1)):
        values = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            values.append(evaluate(trained, strained)[0])
        slope = (values[0] - values[1]) / (2 * step * atoms.get_volume())
        assert slope == pytest.approx(stress[a, b], abs=2e-7)


def test_torch_is_native(trained):
    for one, two in zip(natively(trained, crystal()), in_torch(trained, crystal())):
        np.testing.assert_allclose(one, two, atol=1e-10)


@evaluators
def test_smoothness_at_the_cutoffs(trained, evaluate):
    """Where an atom leaves the reach of the functions its force goes to zero as the square of what is left, in steps that shrink
    with the distance: nothing jumps."""
    for cutoff, others in ((5.0, []), (4.5, [(0, 2.3, 0)]), (4.0, [(0, 2.3, 0)])):
        pulls = {}
        for gap in (0.02, 0.01, 0.005, 0.0025, -0.01):
            positions = [(0, 0, 0), *others, (cutoff - gap, 0, 0)]
            atoms = Atoms(f"Ni{len(positions)}", positions, cell=[30, 30, 30], pbc=True)
            pulls[gap] = evaluate(trained, atoms)[1]
        if not others:
            assert abs(pulls[-0.01]).max() < 1e-12
            sizes = np.array([abs(pulls[gap]).max() for gap in (0.02, 0.01, 0.005)])
            assert 0 < sizes[0] < 1e-3
            assert np.all(sizes[1:] < 0.3 * sizes[:-1])
        steps = [
            abs(pulls[0.01] - pulls[0.02]).max(),
            abs(pulls[0.005] - pulls[0.01]).max(),
            abs(pulls[0.0025] - pulls[0.005]).max(),
        ]
        assert steps[1] < 0.6 * steps[0] and steps[2] < 0.6 * steps[1]
        assert abs(pulls[-0.01] - pulls[0.01]).max() < 2.2 * (steps[0] + steps[1])
