"""Surrogate networks in torch: conservation, equivariance, reach, walls, gradients through time, the model file."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ostwald.app.surrogate.architecture import CONSERVING, HEADS, PRESETS, Architecture
from ostwald.app.surrogate.model import Parameter, Surrogate, load
from ostwald.app.surrogate.network import Network, initial_arrays
from ostwald.io.modelfile import ModelFileError, write_model

DEEP = Architecture(dimensions=3, blocks=2, channels=3, kernel=3)
GRU = Architecture(2, 2, 4, 5, cell="gru", head="potential", parameters=("misfit",))


def lively(architecture, dtype=torch.float64, scale=2.0, **more):
    """A network whose parameters are large enough that its states matter."""
    network = Network(architecture, dtype, **more)
    network.load({name: scale * array for name, array in initial_arrays(architecture, 5).items()})
    return network


def field(architecture, points=12, dtype=torch.float64, batch=2):
    shape = [points + 2 * k for k in range(architecture.dimensions)]
    return torch.from_numpy(np.random.default_rng(3).uniform(0, 1, (batch, 1, *shape))).to(dtype)


def given(architecture, batch=2, dtype=torch.float64):
    values = [[0.3 + 0.2 * k] for k in range(batch)]
    return torch.tensor(values, dtype=dtype) if architecture.parameters else None


def steps(network, phi, count=3):
    hidden, u = network.start(phi), None
    parameters = given(network.architecture, len(phi), phi.dtype)
    for _ in range(count):
        phi, hidden, u = network.step(phi, hidden, parameters)
    return phi, hidden, u


def reference(architecture, arrays, phi, hidden, parameters):
    """One step with circular padding, point by point: sums over shifted arrays, equations as they stand."""

    def convolve(x, name):
        weight, bias = (arrays[f"{name}.{part}"].astype(float) for part in ("weight", "bias"))
        radius, axes = weight.shape[2] // 2, tuple(range(1, x.ndim))
        out = np.zeros((len(bias), *x.shape[1:])) + bias.reshape(-1, *[1] * len(axes))
        for place in np.ndindex(*weight.shape[2:]):
            moved = np.roll(x, [radius - p for p in place], axes)
            out += np.tensordot(weight[(slice(None), slice(None), *place)], moved, 1)
        return out

    def twice(x, name):
        return convolve(np.tanh(convolve(x, name)), f"{name}.mix")

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    x, c, new = np.concatenate([phi, parameters]), architecture.channels, []
    for block, h in enumerate(hidden):
        name = f"block{block}"
        if architecture.cell == "deep":
            a, b = twice(x, f"{name}.input"), twice(h, f"{name}.hidden")
            r, z = sigmoid(a[:c] + b[:c]), sigmoid(a[c : 2 * c] + b[c:])
            n = np.tanh(a[2 * c :] + twice(r * h, f"{name}.candidate"))
            x = (1 - z) * n + z * h
        else:
            gates = sigmoid(convolve(np.concatenate([h, x]), f"{name}.gates"))
            z, r = gates[:c], gates[c:]
            x = (1 - z) * h + z * np.tanh(convolve(np.concatenate([r * h, x]), f"{name}.candidate"))
        new.append(x)
    for layer in architecture.layers():
        if layer.name.startswith("head"):
            x = convolve(x, layer.name)
            x = np.tanh(x) if layer.activation == "tanh" else x
    if architecture.head == "flux":
        change = sum(np.roll(x[a], 1, a) - np.roll(x[a], -1, a) for a in range(len(x)))
    elif architecture.head == "staggered-flux":
        change = sum(np.roll(x[a], 1, a) - x[a] for a in range(len(x)))
    else:
        change = sum(np.roll(x[0], s, a) - x[0] for a in range(architecture.dimensions) for s in (1, -1))
    return phi + change, new


@pytest.mark.parametrize("architecture", [DEEP, GRU, replace(DEEP, head="staggered-flux", parameters=("a",))])
def test_a_step_is_the_equations(architecture):
    network, phi = lively(architecture), field(architecture, 6, batch=1)
    hidden = [torch.from_numpy(np.random.default_rng(k).normal(size=h.shape)) for k, h in enumerate(network.start(phi))]
    parameters = torch.full((1, 1), 0.3, dtype=phi.dtype) if architecture.parameters else None
    wanted, states = reference(
        architecture,
        network.arrays(),
        phi[0].numpy(),
        [h[0].numpy() for h in hidden],
        np.full((len(architecture.parameters), *phi.shape[2:]), 0.3),
    )
    with torch.no_grad():
        found, new, _ = network.step(phi, hidden, parameters)
    assert np.abs(wanted - phi[0].numpy()).max() > 0.1
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=1e-13)
    for a, b in zip(new, states):
        np.testing.assert_allclose(a[0].numpy(), b, atol=1e-13)


@pytest.mark.parametrize("padding", ["circular", "reflect", "zero"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("base", [DEEP, GRU], ids=["deep", "gru"])
def test_what_conserves_the_mean_does_so_to_rounding(base, head, padding):
    network = lively(replace(base, head=head, padding=padding))
    phi = field(base)
    with torch.no_grad():
        later, _, _ = steps(network, phi)
    moved, drift = (later - phi).abs().max(), (later - phi).flatten(1).mean(1).abs().max()
    assert moved > 0.05
    assert (drift < 1e-14) == network.conserves == (head in CONSERVING)


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
def test_the_mean_stays_in_single_precision_too(compute):
    network, phi = lively(DEEP, torch.float32, compute=compute), field(DEEP, dtype=torch.float32)
    with torch.no_grad():
        later, _, _ = steps(network, phi, 20)
    assert (later - phi).abs().max() > 0.05
    assert (later.double() - phi.double()).flatten(1).mean(1).abs().max() < 1e-8


def test_bfloat16_is_close():
    phi = field(DEEP, dtype=torch.float32)
    with torch.no_grad():
        exact, _, _ = steps(lively(DEEP, torch.float32, 0.6), phi, 4)
        found, _, _ = steps(lively(DEEP, torch.float32, 0.6, compute=torch.bfloat16), phi, 4)
    assert 0 < (exact - found).norm() < 0.1 * (exact - phi).norm()  # what moves φ are differences of features


@pytest.mark.parametrize("architecture", [DEEP, GRU])
def test_shifts_go_through(architecture):
    network, phi = lively(architecture), field(architecture)
    by, axes = [3, -2, 5][: architecture.dimensions], tuple(range(2, phi.ndim))
    with torch.no_grad():
        first, _, _ = steps(network, phi.roll(by, axes))
        then = steps(network, phi)[0].roll(by, axes)
    assert torch.allclose(first, then, atol=1e-12)


def test_centred_differences_leave_sublattices_alone_and_staggered_ones_do_not():
    means = {}
    for head in ("flux", "staggered-flux"):
        phi = field(DEEP)
        with torch.no_grad():
            change = steps(lively(DEEP.with_head(head)), phi)[0] - phi
        means[head] = change[:, :, ::2, ::2, ::2].mean().abs()
    assert means["flux"] < 1e-15 < 1e-4 < means["staggered-flux"]


@pytest.mark.parametrize("architecture", [DEEP, GRU, replace(GRU, head="allen-cahn"), DEEP.with_head("sigmoid")])
def test_reach_is_what_the_architecture_says(architecture):
    """A changed point of φ or of a hidden state changes φ as far away as `halo` tells, and no further."""
    network, points = lively(architecture), 2 * max(architecture.halo) + 3
    shape = (1, 1, *[points] * architecture.dimensions)
    rng, middle = np.random.default_rng(1), (0, 0, *[points // 2] * architecture.dimensions)
    phi = torch.from_numpy(rng.uniform(0, 1, shape))
    hidden = [torch.from_numpy(rng.normal(0, 0.5, h.shape)) for h in network.start(phi)]
    parameters = given(architecture, 1)
    with torch.no_grad():
        before = network.step(phi, hidden, parameters)[0]
        for which, reach in enumerate(architecture.halo):
            other = [x.clone() for x in (phi, *hidden)]
            other[which][middle] += 0.1
            found = (network.step(other[0], other[1:], parameters)[0] - before).abs() > 1e-17
            away = [int((place - points // 2).abs().max()) for place in found.nonzero().T[2:]]
            assert max(away) == reach


def test_walls_are_mirrors():
    """A network with mirror symmetry does between walls what it does in a periodic box of twice the length, mirrored."""
    architecture = replace(GRU, padding="reflect")
    arrays = initial_arrays(architecture, 2)
    for name, array in arrays.items():
        for axis in range(2, array.ndim):
            arrays[name] = arrays[name] + np.flip(arrays[name], axis)
    phi, found = field(architecture), []
    twice = torch.cat([phi, phi.flip(2)], 2)
    for padding, whole in (("reflect", phi), ("circular", torch.cat([twice, twice.flip(3)], 3))):
        network = Network(replace(architecture, padding=padding), torch.float64)
        network.load(arrays)
        with torch.no_grad():
            found.append(steps(network, whole)[0][:, :, : phi.shape[2], : phi.shape[3]])
    assert (found[0] - phi).abs().max() > 0.05
    assert torch.allclose(*found, atol=1e-12)


@pytest.mark.parametrize("architecture", [replace(DEEP, channels=2), replace(GRU, channels=2)])
@pytest.mark.parametrize("segment", [None, 2])
def test_gradients_through_time(architecture, segment):
    """Against finite differences in double precision, teacher-forced at first, with and without segments computed again."""
    network, frames, count = lively(architecture, scale=1.3), 2, 5
    phi = torch.cat([field(architecture, 6, batch=1)] * frames, 1) * torch.tensor([1.0, 0.8]).view(
        1, 2, *[1] * architecture.dimensions
    )
    target = 0.5

    def loss():
        return (network.roll_out(phi, count, given(architecture, 1), segment) - target).square().mean()

    (slope,) = torch.autograd.grad(loss(), network.theta)
    rng, step = np.random.default_rng(0), 1e-5
    with torch.no_grad():
        for _ in range(4):
            direction = torch.from_numpy(rng.normal(size=network.size))
            kept, values = network.theta.clone(), []
            for sign in (1, -1):
                network.theta.copy_(kept + sign * step * direction)
                values.append(float(loss()))
            network.theta.copy_(kept)
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(slope @ direction), rel=1e-6)


def test_segments_change_nothing():
    found = []
    for segment in (None, 1, 2, 3, 7):
        network, phi = lively(DEEP), field(DEEP, 6)
        (network.roll_out(phi, 7, None, segment) ** 3).sum().backward()
        found.append(network.theta.grad.clone())
    assert all(torch.allclose(found[0], other, rtol=1e-10, atol=1e-13 * found[0].abs().max()) for other in found)


def test_a_grid_too_small_is_told():
    with pytest.raises(ValueError, match="a grid of 1 × 8 points is too small for a kernel of 5"):
        steps(Network(GRU), torch.zeros(1, 1, 1, 8))


def test_parameters_must_be_given():
    with pytest.raises(ValueError, match="the network is given misfit"):
        Network(GRU).step(field(GRU, dtype=torch.float32), Network(GRU).start(field(GRU)))
    with pytest.raises(ValueError, match="the network is given no parameters"):
        Network(DEEP).step(field(DEEP), Network(DEEP).start(field(DEEP)), torch.zeros(2, 1))


def test_the_model_file(tmp_path):
    arrays = initial_arrays(GRU, 3)
    misfit = Parameter("misfit", "elasticity.misfit", 0.006, 0.003, 0.0, 0.012)
    surrogate = Surrogate(GRU, arrays, 1.0, (2.0, 2.0), "nearest", (misfit,), {"steps": 49})
    surrogate.save(tmp_path / "a.ostwald", {"author": "test"})
    found = load(tmp_path / "a.ostwald")
    assert found.hash and replace(found, hash="", arrays=arrays) == surrogate
    for name, array in arrays.items():
        assert np.array_equal(found.arrays[name], array) and found.arrays[name].dtype == np.float32
    assert found.scaled({"misfit": 0.009}) == pytest.approx([1.0])
    with pytest.raises(ValueError, match="misfit is missing"):
        found.scaled({})
    with pytest.raises(ValueError, match="composition is none of them"):
        found.scaled({"misfit": 0.0, "composition": 0.5})
    write_model(tmp_path / "b.ostwald", "hdnnp", {}, {}, {})
    with pytest.raises(ModelFileError, match="a model of kind 'hdnnp', not a surrogate"):
        load(tmp_path / "b.ostwald")
    with pytest.raises(ValueError, match="parameters of another network"):
        replace(surrogate, architecture=PRESETS["misfit-2d"]).save(tmp_path / "c.ostwald")
