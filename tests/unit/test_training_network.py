"""Descriptors with derivatives, and the torch network: against exact derivatives, against the native evaluator."""

import numpy as np
import pytest
import torch
from hdnnp_reference import Reference, random_atoms
from training_systems import dataset, small_model, structures

from ostwald.app.potentials import PotentialError
from ostwald.app.potentials.hdnnp import HDNNP, grids
from ostwald.app.potentials.hdnnp.descriptors import VOIGT, Descriptors
from ostwald.app.potentials.hdnnp.model import sort_key
from ostwald.app.potentials.hdnnp.network import ACTIVATION, Network, _State
from ostwald.app.training import described
from ostwald.parallel import World


@pytest.mark.parametrize("small", [False, True])
def test_derivatives_of_descriptors_are_exact(small):
    """By the place of every atom and by strain, of functions of all ways in which the kernel computes them."""
    model = small_model(1, kinds=(2, 3, 9, 13, 21, 22))
    options = dict(count=3, length=3.2, nearest=1.2) if small else dict(count=8, length=6.3)
    atoms = random_atoms(3, **options)
    structure = _structure(atoms)
    parts, reference = Descriptors(model).describe(structure), Reference(model, atoms)
    assert [len(part.centres) for part in parts] == Descriptors(model).pairs(structure)
    for part in parts:

        def exact(positions, cell=None, part=part):
            rows = [reference.functions(atom, positions, cell) for atom in part.atoms]
            return np.reshape(rows, part.values.shape)

        np.testing.assert_allclose(part.values, exact(atoms.positions), rtol=1e-11, atol=1e-13)
        seen = np.repeat(np.arange(len(atoms)), part.counts)
        for atom in range(len(atoms)):
            for axis in range(3):
                moved = atoms.positions.astype(complex)
                moved[atom, axis] += 1e-20j
                got = np.zeros(part.values.shape)
                np.add.at(got, part.centres[seen == atom], part.derivatives[seen == atom, axis])
                np.testing.assert_allclose(got, exact(moved).imag / 1e-20, rtol=1e-9, atol=1e-11)
        for k, (a, b) in enumerate(VOIGT):
            strain = np.eye(3, dtype=complex)
            strain[a, b] += 0.5e-20j
            strain[b, a] += 0.5e-20j
            want = exact(atoms.positions @ strain, np.array(atoms.cell) @ strain).imag / 1e-20
            np.testing.assert_allclose(part.strain[:, k], want, rtol=1e-9, atol=1e-10)


def _structure(atoms):
    from ostwald.io.datasets import LabelledStructure

    return LabelledStructure(atoms.positions, atoms.numbers, np.array(atoms.cell), atoms.pbc)


NETWORKS = [
    dict(activations=("tanh", "softplus", "linear"), nodes=(6, 5)),
    dict(activations=("gaussian", "logistic", "cos", "harmonic"), nodes=(4, 3, 5)),
    dict(activations=("exp",), nodes=()),
    dict(activations=("revlogistic", "linear"), nodes=(3,), normalize_nodes=True, scaling="scale_center"),
    dict(activations=("tanh", "linear"), nodes=(4,), length_unit=0.529177210903, energy_unit=27.2, normalised=True),
]


@pytest.fixture(params=range(len(NETWORKS)))
def case(request, tmp_path):
    """(model, network, data, native results) of a few structures of two elements."""
    model = small_model(request.param, **NETWORKS[request.param])
    data = dataset(tmp_path / "set.h5", 5, model)
    return model, Network(model), described.describe(data, Descriptors(model), tmp_path / "d.h5", World(), np.float64)


def test_torch_equals_the_native_evaluator(case):
    _, network, data = case
    batch, labels = data.batch(np.arange(len(data)))
    with torch.no_grad():
        out = network.evaluate(batch)
    scale = max(1.0, float(labels.forces.abs().max()))
    assert float((out.energy - labels.energy).abs().max()) < 1e-11 * max(1.0, float(labels.energy.abs().max()))
    assert float((out.forces - labels.forces).abs().max()) < 1e-11 * scale
    assert float((out.stress - labels.stress).abs().max()) < 1e-11 * scale


def test_jacobian_equals_autograd(case):
    _, network, data = case
    batch, _ = data.batch([3, 0, 1])
    out, (again, jacobian) = network.evaluate(batch), network.jacobian(batch)
    generator = torch.Generator().manual_seed(1)
    for name in ("energy", "forces", "stress"):
        value, rows = getattr(out, name), getattr(jacobian, name)
        torch.testing.assert_close(getattr(again, name), value, rtol=1e-11, atol=1e-11)
        along = torch.rand(value.shape, generator=generator, dtype=value.dtype) - 0.5
        (want,) = torch.autograd.grad((value * along).sum(), network.theta, retain_graph=True)
        got = (rows * along.unsqueeze(-1)).flatten(0, -2).sum(0)
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10 * float(want.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_kernel_of_tangents_is_torchs(case, dtype, monkeypatch):
    """Also for atoms that no centre of an element sees, and on two threads."""
    model, _, data = case
    network = Network(model, dtype)
    batch, _ = data.batch([2, 1], dtype)
    part = batch.elements[0]
    kept = part.atoms != 3
    part.counts[3] = 0
    part.atoms, part.centres, part.derivatives = part.atoms[kept], part.centres[kept], part.derivatives[kept]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        out, jacobian = network.jacobian(batch)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(_State, "_native_tangents", _State.torch_tangents)
    want_out, want = network.jacobian(batch)
    tight = 1e-11 if dtype == torch.float64 else 3e-5
    for name in ("forces", "stress"):
        for a, b in ((getattr(out, name), getattr(want_out, name)), (getattr(jacobian, name), getattr(want, name))):
            assert float((a - b).abs().max()) <= tight * float(b.abs().max())


def test_gradients_by_parameters_are_those_of_differences(case):
    """Of a sum of energies, forces and stresses, by central differences in double precision."""
    _, network, data = case
    batch, _ = data.batch([0, 2])

    def total():
        out = network.evaluate(batch)
        return out.energy.sum() + (out.forces * out.forces).sum() + out.stress.square().sum()

    (gradient,) = torch.autograd.grad(total(), network.theta)
    rng = np.random.default_rng(0)
    for k in rng.choice(network.size, 12, replace=False):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                network.theta[k] += step
                values.append(float(total()))
                network.theta[k] -= step
        slope = (values[0] - values[1]) / 2e-5
        assert abs(slope - float(gradient[k])) < 2e-6 * max(1.0, float(gradient.abs().max()))


def test_export_gives_the_model_back(case):
    model, network, data = case
    atoms = data.dataset[0].to_ase()
    forces = []
    for made in (model, network.export(), network.export(network.theta + 0.1)):
        atoms.calc = HDNNP(made).ase()
        forces.append(atoms.get_forces())
    np.testing.assert_allclose(forces[1], forces[0], rtol=0, atol=1e-12 * abs(forces[0]).max())
    assert abs(forces[2] - forces[0]).max() > 1e-3


@pytest.mark.parametrize("name", ACTIVATION)
def test_activations_have_their_derivatives(name):
    x = torch.linspace(-3, 3, 31, dtype=torch.float64, requires_grad=True)
    value, first, second = ACTIVATION[name](x)
    (want,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    torch.testing.assert_close(first.expand_as(x), want)
    if want.requires_grad:
        torch.testing.assert_close(second.expand_as(x), torch.autograd.grad(want.sum(), x)[0])
    else:
        assert not second.any()


def test_energies_do_not_change_under_rotation_translation_and_permutation():
    model = small_model(3)
    (structure,) = structures(8, model, count=1)
    descriptors, rng = Descriptors(model), np.random.default_rng(1)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(len(structure))
    parts = descriptors.describe(structure)
    structure.positions = (structure.positions @ q + [0.3, -2.0, 11.0])[order]
    structure.cell, structure.numbers = structure.cell @ q, structure.numbers[order]
    for a, b in zip(parts, descriptors.describe(structure)):
        where = {atom: k for k, atom in enumerate(a.atoms)}
        rows = [where[order[atom]] for atom in b.atoms]
        np.testing.assert_allclose(b.values, a.values[rows], rtol=1e-9, atol=1e-12)


def test_grids():
    species = ("Li", "Al")
    chosen = [
        grids.Radial(6.0, centred=2, shifted=3, first=2.0),
        grids.Angular(5.0, True, (1, 4), centred=2),
        grids.Angular(4.0, False, (2,), shifted=2),
    ]
    found = grids.functions(chosen, "Al", species)
    assert len(found) == 2 * 5 + 3 * 2 * 2 * 2 + 3 * 2 * 2 == len(set(found))
    assert found == sorted(found, key=lambda f: sort_key(f, species))
    radial = [f for f in found if f.kind == 2 and f.shift > 0 and f.neighbours == ("Li",)]
    assert [f.shift for f in radial] == pytest.approx([2.0, 2.0 + 4 / 3, 2.0 + 8 / 3])
    assert radial[0].eta == pytest.approx(0.5 / (4 / 3) ** 2)
    widths = [1 / np.sqrt(2 * f.eta) for f in found if f.kind == 2 and f.shift == 0 and f.neighbours == ("Al",)]
    assert sorted(widths) == pytest.approx([2.0, 6.0])


def test_an_element_without_functions_is_named(tmp_path):
    model = small_model(4, elements=("Cu",))
    (structure,) = structures(1, small_model(4), count=1)
    with pytest.raises(PotentialError, match="no symmetry functions for S: there are some for Cu"):
        Descriptors(model).describe(structure)


def test_descriptors_are_computed_once(tmp_path, world):
    model = small_model(2)
    data = dataset(tmp_path / "set.h5", 5, model)
    descriptors, path = Descriptors(model), tmp_path / "d.h5"
    pairs, size = described.size(data, descriptors, world, np.float32)
    first = described.describe(data, descriptors, path, world, np.float32, pairs)
    assert abs(path.stat().st_size - size) < 12000  # and HDF5's own
    made = path.stat().st_mtime_ns
    described.describe(data, descriptors, path, world, np.float32)
    assert path.stat().st_mtime_ns == made
    again = described.describe(data, descriptors, path, world, np.float64)
    assert path.stat().st_mtime_ns != made
    one, two = (d.batch([4, 1])[0].elements[1] for d in (first, again))
    torch.testing.assert_close(one.derivatives, two.derivatives, rtol=1e-6, atol=1e-6)
    assert torch.equal(one.centres, two.centres)
