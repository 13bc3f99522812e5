"""Loss and optimisers."""

import numpy as np
import pytest
import torch
from training_systems import dataset, small_model

from ostwald.app.potentials.hdnnp.descriptors import Descriptors
from ostwald.app.potentials.hdnnp.network import Network
from ostwald.app.training import described
from ostwald.app.training.lbfgs import LBFGS, wolfe
from ostwald.app.training.levenberg_marquardt import LevenbergMarquardt
from ostwald.app.training.loss import Loss
from ostwald.app.training.minibatch import Minibatch
from ostwald.app.training.objective import PotentialObjective
from ostwald.app.training.schedules import Plateau, Rate
from ostwald.parallel import philox_uniform
from ostwald.parallel.training import exchange


@pytest.fixture
def problem(tmp_path, world):
    """(model, data): labels are of another network of the same functions."""
    model = small_model(1, elements=("Cu",), activations=("tanh", "linear"), nodes=(3,))
    other = small_model(1, elements=("Cu",), activations=("tanh", "linear"), nodes=(3,))
    for element in other.elements:
        element.layers[0].weights[:] *= 0.7
        element.layers[0].bias[:] += 0.2
        element.layers[1].weights[:] *= -1.3
    data = dataset(tmp_path / "set.h5", 5, model, count=6, teacher=other)
    return model, described.describe(data, Descriptors(model), tmp_path / "d.h5", world, np.float64)


def test_the_loss_is_what_its_docstring_says(problem):
    model, data = problem
    network, loss = Network(model), Loss(10.0, 2.0, 5.0).of(data.dataset)
    batch, labels = data.batch(np.arange(len(data)))
    labels.weight[2] = 3.0
    with torch.no_grad():
        out = network.evaluate(batch)
    total = sum(float(r.square().sum()) for r in loss.residuals(out, batch, labels))
    want, offsets = 0.0, batch.offsets.tolist()
    for s in range(len(data)):
        w, n = float(labels.weight[s]), offsets[s + 1] - offsets[s]
        want += 10.0 / len(data) * w * (float(out.energy[s] - labels.energy[s]) / n) ** 2
        error = (out.forces - labels.forces)[offsets[s] : offsets[s + 1]]
        want += 2.0 / (3 * batch.atoms) * w * float(error.square().sum())
        xx, yy, zz, yz, xz, xy = (float(batch.volume[s]) * (out.stress[s] - labels.stress[s]) / n).tolist()
        matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        want += 5.0 / (9 * len(data)) * w * (matrix**2).sum()
    assert total == pytest.approx(want, rel=1e-12)


def test_outliers_count_linearly(problem):
    """Huber's loss, its gradient, and the slopes that Levenberg–Marquardt multiplies its rows with."""
    model, data = problem
    network, batch, labels = Network(model), *data.batch(np.arange(len(data)))
    out = network.evaluate(batch)
    n, volume = labels.counts, batch.volume[:, None]
    errors = [
        (out.energy - labels.energy) / n,
        out.forces - labels.forces,
        volume * (out.stress - labels.stress) / n[:, None],
    ]
    thresholds = [float(e.detach().abs().median()) for e in errors]
    loss = Loss(10.0, 2.0, 5.0, huber=tuple(thresholds)).of(data.dataset)

    def h(x, d):
        return torch.where(x.abs() <= d, x**2, 2 * d * x.abs() - d**2)

    each = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    energy, force, stress = (h(e, d) for e, d in zip(errors, thresholds))
    m = len(data)
    want = 10 / m * energy.sum() + 2 / (3 * batch.atoms) * force.sum() + 5 / (9 * m) * (stress * each).sum()
    residuals = loss.residuals(out, batch, labels)
    got = sum(r.square().sum() for r in residuals)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    assert float(got.detach()) < 0.95 * sum(
        float(r.square().sum().detach()) for r in Loss(10.0, 2.0, 5.0).of(data.dataset).residuals(out, batch, labels)
    )
    outputs = out.energy, out.forces, out.stress
    for slope, residual, output in zip(loss.slopes(out, batch, labels), residuals, outputs):
        (want,) = torch.autograd.grad(residual.sum(), output, retain_graph=True)
        torch.testing.assert_close(slope.expand_as(want), want, rtol=1e-10, atol=1e-12)


def test_labels_that_are_missing_count_for_nothing(problem):
    model, data = problem
    network, loss = Network(model), Loss(10.0, 2.0, 5.0)
    batch, labels = data.batch([0, 1, 2])
    labels.energy[1], labels.stress[0], labels.forces[:2] = torch.nan, torch.nan, torch.nan
    total = sum(r.square().sum() for r in loss.residuals(network.evaluate(batch), batch, labels))
    (gradient,) = torch.autograd.grad(total, network.theta)
    assert torch.isfinite(total) and torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_levenberg_marquardt_finds_the_teacher(problem, world):
    """Every step lowers the loss, down to rounding."""
    model, data = problem
    network = Network(model)
    optimiser = LevenbergMarquardt(world, objective(network, data))
    values = []
    for _ in range(60):
        if not optimiser.step():
            break
        values.append(optimiser.value)
    values = np.array(values)
    assert np.all(np.diff(values[values > 1e-24]) < 0)
    assert values[0] > 1e-3 and values[-1] < 1e-24


def test_l_bfgs_finds_the_teacher(problem, world):
    """Every iteration lowers the loss; a few hundred bring it down by many orders of magnitude."""
    model, data = problem
    optimiser = LBFGS(world, objective(Network(model), data))
    values = []
    for _ in range(400):
        if not optimiser.step():
            break
        values.append(optimiser.value)
    assert np.all(np.diff(values) < 0)
    assert values[0] > 1e-3 and values[-1] < 1e-7


def test_l_bfgs_solves_an_ill_conditioned_quadratic_form(world):
    """Second derivatives that spread over six decades; scipy's L-BFGS-B takes 37 iterations to 4e-19."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(6, 6))

    class Form:
        module, items = torch.nn.Linear(6, 1, bias=False, dtype=torch.float64), np.arange(1)

        def shares(self, indices, size):
            return [indices]

        def chunks(self, indices):
            return [indices]

        def loss(self, indices, update, share):
            return (self.module.weight.flatten() @ torch.as_tensor(root) - 1.0).square().sum()

    optimiser = LBFGS(world, Form(), memory=10)
    optimiser.theta = np.zeros(6)
    for _ in range(37):
        optimiser.step()
    np.testing.assert_allclose(optimiser.theta @ root, 1.0, atol=1e-6)


@pytest.mark.parametrize("first", [1e-3, 1.0, 50.0])
def test_step_lengths_satisfy_the_wolfe_conditions(first):
    """On functions with a far and a near minimum, with waves on them, and with a cliff."""
    functions = [
        lambda x: (-x / (x * x + 2), (x * x - 2) / (x * x + 2) ** 2),
        lambda x: ((x + 0.004) ** 5 - 2 * (x + 0.004) ** 4, 5 * (x + 0.004) ** 4 - 8 * (x + 0.004) ** 3),
        lambda x: (x * x - 3 * x + 0.1 * np.sin(20 * x), 2 * x - 3 + 2 * np.cos(20 * x)),
        lambda x: (-x if x < 2 else np.nan, -1.0 + 0.4 * x),
    ]
    for function in functions:
        value, slope = function(0.0)
        length = wolfe(function, value, slope, first)
        found, there = function(length)
        assert found <= value + 1e-4 * length * slope and abs(there) <= 0.9 * abs(slope)
    assert wolfe(lambda x: (x, 1.0), 0.0, 1.0, first) is None


@pytest.mark.parametrize("part", [1.0, 0.4])
def test_a_step_of_levenberg_marquardt_solves_its_equations(problem, world, part):
    """The gradient is of all residuals; the matrix of those of energies, stresses and the part of the forces, weighted up."""
    model, data = problem
    network, mine = Network(model), np.arange(len(data))
    loss = Loss(3.0, 1.0, 2.0, huber=(1e-3, 0.05, None)).of(data.dataset)
    optimiser = LevenbergMarquardt(world, objective(network, data, loss), 1e-3, damping=0.1, part=part, seed=7)
    batch, labels = data.batch(mine)
    theta = network.theta.detach().clone()

    def residuals(values):
        outputs = torch.func.functional_call(_Evaluate(network), {"network.theta": values}, (batch,))
        return torch.cat(loss.residuals(outputs, batch, labels))

    rows = torch.autograd.functional.jacobian(residuals, theta)
    r = residuals(theta).detach()
    right = -(rows.T @ r + 1e-3 * theta)
    if part < 1:
        chosen = torch.from_numpy(philox_uniform(7, "forces", np.arange(batch.atoms), 1)[:, 0] < part)
        assert 0 < int(chosen.sum()) < batch.atoms
        rows[len(batch) : len(batch) + 3 * batch.atoms] *= (chosen.repeat_interleave(3) / part**0.5)[:, None]
    normal = rows.T @ rows + 1e-3 * torch.eye(len(theta), dtype=theta.dtype)
    want = torch.linalg.solve(normal + 0.1 * normal.diagonal().mean() * torch.eye(len(theta), dtype=theta.dtype), right)
    assert optimiser.step()
    torch.testing.assert_close(network.theta.detach() - theta, want, rtol=1e-7, atol=1e-9)


def test_the_choice_of_forces_goes_on_after_a_checkpoint(problem, world):
    model, data = problem
    loss = Loss(3.0, 1.0, 0.0).of(data.dataset)

    def optimiser():
        return LevenbergMarquardt(world, objective(Network(model), data, loss), 1e-6, part=0.3, seed=2)

    whole = optimiser()
    for _ in range(3):
        assert whole.step()
    again = optimiser()
    again.restore(whole.state())
    again.theta = whole.theta
    for each in (whole, again):
        assert each.step() and each.step()
    assert again.value == whole.value and np.array_equal(again.theta, whole.theta)


class _Evaluate(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, batch):
        return self.network.evaluate(batch)


@pytest.mark.parametrize("schedule", ["constant", "exponential", "cosine"])
def test_rates_begin_and_end_where_they_should(schedule):
    rate = Rate(schedule, 1e-2, 1e-4, 101, warmup=4)
    assert rate(0) == pytest.approx(rate(3) / 4, rel=0.2) and rate(3) == pytest.approx(1e-2, rel=0.2)
    assert rate(100) == pytest.approx({"constant": 1e-2, "exponential": 1e-4, "cosine": 1e-4}[schedule], rel=0.05)


def test_warm_restarts_double_their_period():
    rate = Rate("cosine", 1.0, 0.0, 1000, period=10)
    assert [k for k in range(1, 160) if rate(k) == 1.0] == [10, 30, 70, 150]
    assert rate(5) == pytest.approx(0.5) and rate(20) == pytest.approx(0.5)


def test_the_rate_drops_where_nothing_gets_better():
    rate, rates = Plateau(1.0, 0.2, drop=0.5, wait=2), []
    for found in (5.0, 4.0, 4.0, 4.5, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0):
        rate.validated(found)
        rates.append(rate(100))
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    assert Plateau(1.0, 0.1, warmup=4)(1) == 0.5 and rate.share(100) == 0.2


def test_minibatches_take_every_structure_once_an_epoch(problem, world):
    model, data = problem
    chosen = np.array([5, 0, 3, 2, 1])
    trainer = minibatch(world, model, data, chosen=chosen, batch=2)
    epochs = []
    for _ in range(2):
        batches = []
        for _ in range(trainer.per_epoch):
            batches.append(trainer._batch())
            trainer.updates += 1
        assert [len(b) for b in batches] == [2, 2, 1]
        epochs.append(np.concatenate(batches).tolist())
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(chosen) and epochs[0] != epochs[1]


def minibatch(world, model, data, chosen=None, batch=4, **options):
    rate = Rate("exponential", 1e-2, 1e-3, 40)
    what = objective(Network(model), data, Loss(10.0, 1.0, 1.0).of(data.dataset), chosen)
    return Minibatch(world, what, exchange("mpi", world), rate, batch, **options)


def objective(network, data, loss=None, chosen=None):
    loss = loss or Loss(1.0, 1.0, 1.0).of(data.dataset)
    return PotentialObjective(network, data, np.arange(len(data)) if chosen is None else chosen, loss)


def test_a_full_batch_has_the_gradient_of_the_loss(problem, world):
    model, data = problem
    trainer = minibatch(world, model, data, batch=len(data))
    batch, labels = data.batch(np.arange(len(data)))
    function, network = trainer.objective.function, trainer.module
    total = sum(r.square().sum() for r in function.residuals(network.evaluate(batch), batch, labels))
    (want,) = torch.autograd.grad(total, network.theta)
    before = network.theta.detach().clone()
    trainer.step()
    assert trainer.value == pytest.approx(float(total.detach()), rel=1e-12)
    torch.testing.assert_close(network.theta.grad, want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        network.theta.detach() - before, -1e-2 * want.sign(), rtol=1e-4, atol=1e-6
    )  # Adam's first


def test_gradients_are_clipped_to_their_norm(problem, world):
    model, data = problem
    free, clipped, loose = (minibatch(world, model, data, clip=clip) for clip in (None, 1e-3, 1e9))
    for trainer in (free, clipped, loose):
        trainer.step()
    gradient = free.module.theta.grad
    assert float(gradient.norm()) > 1e-3
    torch.testing.assert_close(clipped.module.theta.grad, gradient * 1e-3 / gradient.norm(), rtol=1e-12, atol=0)
    assert torch.equal(loose.module.theta.grad, gradient)


def test_weights_decay_and_biases_do_not(problem, world):
    model, data = problem
    kept, decayed = (minibatch(world, model, data, decay=decay) for decay in (0.0, 0.3))
    start, mask = kept.module.theta.detach().clone(), kept.module.weights_mask()
    for trainer in (kept, decayed):
        trainer.step()
    moved = decayed.module.theta.detach() - kept.module.theta.detach()
    torch.testing.assert_close(moved, torch.where(mask, -1e-2 * 0.3 * start, torch.zeros_like(start)))
    assert 0 < int(mask.sum()) < len(mask)


@pytest.mark.parametrize("kind", ["levenberg-marquardt", "l-bfgs", "adam"])
def test_a_restored_optimiser_goes_on_bit_by_bit(problem, world, kind):
    model, data = problem

    def make():
        if kind == "adam":
            return minibatch(world, model, data, average=0.9, clip=1.0, decay=1e-3)
        return {"l-bfgs": LBFGS, "levenberg-marquardt": LevenbergMarquardt}[kind](
            world, objective(Network(model), data)
        )

    one, two = make(), make()
    for _ in range(7):
        one.step()
    theta, state = one.module.theta.detach().clone(), one.state()
    with torch.no_grad():
        two.module.theta.copy_(theta)
    two.restore(state)
    for _ in range(6):
        one.step()
        two.step()
    assert torch.equal(one.module.theta, two.module.theta) and one.value == two.value
    if kind == "adam":
        assert np.array_equal(one.best_theta, two.best_theta) and not np.array_equal(one.best_theta, one.theta)
