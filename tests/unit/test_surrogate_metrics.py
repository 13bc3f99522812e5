"""Numbers that compare a predicted field with the true one, on fields for which they are known."""

import math

import numpy as np
import pytest

from ostwald.app.phasefield import CahnHilliard, Elasticity, FiniteDifference, cubic, double_well
from ostwald.app.surrogate.metrics import (
    ERRORS,
    Descriptors,
    LinearTheory,
    decay_exponent,
    decomposed,
    least_area,
    morphology,
    pointwise,
    relative,
    ssim,
)
from ostwald.app.surrogate.resampling import repeated, resampled
from ostwald.app.surrogate.scores import clock, cost_at, front, stationary

EPSILON = 3.0


def layer(n, position, spacing=0.25, across=8):
    """A flat layer of half of the box about `position`, with interfaces of their own shape."""
    x = spacing * np.arange(n) - position
    x = np.abs((x + n * spacing / 2) % (n * spacing) - n * spacing / 2)
    profile = 0.5 * (1 + np.tanh(3 * (n * spacing / 4 - x) / EPSILON))
    return np.repeat(profile[:, None], across, axis=1)


@pytest.fixture
def fine(world):
    """A meter for layers of 256 × 8 points."""
    return Descriptors(FiniteDifference(world, (256, 8), double_well(EPSILON), EPSILON, 1.0, 0.25))


def compared(descriptors, truth, guess, given=None):
    return descriptors.compare(truth, guess, descriptors.measure(truth), descriptors.measure(guess), given)


def test_a_field_is_like_itself(fine):
    truth = layer(256, 20.0)
    found = compared(fine, truth, truth)
    assert set(found) == set(ERRORS)
    zero = [key for key in ERRORS if key not in ("iou", "pearson", "ssim", "psnr")]
    assert all(found[key] == 0 for key in zero) and found["psnr"] == math.inf
    assert found["iou"] == 1 and found["pearson"] == pytest.approx(1) and found["ssim"] == pytest.approx(1)


def test_the_displacement_is_that_of_the_interfaces(fine):
    for shift in (0.1, 0.25, 0.5):
        found = compared(fine, layer(256, 20.0), layer(256, 20.0 + shift))
        assert found["delta"] == pytest.approx(shift, rel=0.02)
        assert found["energy_error"] < 1e-3 and found["interface_error"] < 1e-3 and found["spectrum_error"] < 1e-6
    # RMSE² = δ² A/(ε V), section 2.8 of the notes on the paper: ∫|∇φ|² = A/ε
    assert found["rmse"] ** 2 == pytest.approx(found["delta"] ** 2 * 2 / (EPSILON * 64), rel=0.01)


def test_numbers_of_squares():
    truth, guess = np.zeros((20, 20)), np.zeros((20, 20))
    truth[2:12, 2:12], guess[2:12, 7:17] = 1, 1
    found = pointwise(truth, guess, 1.0, (0.0, 1.0))
    assert found["iou"] == pytest.approx(50 / 150) and found["misplaced"] == pytest.approx(0.25)
    assert found["mae"] == 0.25 and found["rmse"] == 0.5 and found["largest"] == 1
    assert found["psnr"] == pytest.approx(20 * math.log10(2)) and found["rmse_fine"] == found["rmse"]
    assert found["pearson"] == pytest.approx(np.corrcoef(truth.ravel(), guess.ravel())[0, 1])
    assert pointwise(truth, 1 - truth, 1.0, (0.0, 1.0))["pearson"] == pytest.approx(-1)
    nothing = pointwise(0 * truth, 0 * truth, 0.0, (0.0, 1.0))
    assert nothing["iou"] == 1 and math.isnan(nothing["pearson"]) and math.isnan(nothing["delta"])


@pytest.mark.parametrize("shape", [(24, 20), (14, 12, 13)])
def test_structural_similarity_is_that_of_its_formula(shape):
    rng = np.random.default_rng(1)
    a, b = rng.uniform(size=shape), rng.uniform(size=shape)
    b = 0.6 * a + 0.4 * b
    offsets = np.arange(-5, 6)
    one = np.exp(-0.5 * (offsets / 1.5) ** 2)
    window = one / one.sum()
    weights = window
    for _ in shape[1:]:
        weights = np.multiply.outer(weights, window)
    total = []
    for point in np.ndindex(*shape):
        where = np.ix_(*[(p + offsets) % n for p, n in zip(point, shape)])
        x, y = a[where], b[where]
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        cov = (weights * (x - mx) * (y - my)).sum()
        c1, c2 = 0.01**2, 0.03**2
        total.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert ssim(a, b, 1.0) == pytest.approx(np.mean(total), rel=1e-10)


def test_error_on_the_finer_grid():
    fine = np.arange(16.0).reshape(4, 4)
    nearest = resampled(fine, 2, "nearest")
    assert nearest.tolist() == [[0, 2], [8, 10]] and resampled(fine, 2, "mean").tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert np.array_equal(resampled(repeated(nearest, 2), 2, "mean"), nearest)
    several = np.stack([fine, 2 * fine])
    assert np.array_equal(resampled(several, 2, "mean", frames=True)[1], 2 * resampled(fine, 2, "mean"))
    found = pointwise(nearest, nearest, 1.0, (0.0, 1.0), fine=fine)
    assert found["rmse"] == 0 and found["rmse_fine"] == pytest.approx(math.sqrt(np.mean([0, 1, 16, 25])))
    with pytest.raises(ValueError, match="4 × 4 points cannot be divided by 3"):
        resampled(fine, 3, "mean")


def test_the_exponent_of_a_decay():
    t = np.linspace(0, 1000, 101)
    energy = np.where(t < 100, 7.0, 3 * np.maximum(t, 1) ** (-1 / 3))
    p, error = decay_exponent(t, energy)
    assert p == pytest.approx(-1 / 3, abs=1e-12) and error < 1e-12
    assert decay_exponent(t, energy, (10, 90))[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(decay_exponent(t, energy, (995, 1000))).all()
    rough = energy * np.exp(np.random.default_rng(1).normal(0, 0.01, len(t)))
    p, error = decay_exponent(t, rough)
    assert abs(p + 1 / 3) < 3 * error and 1e-4 < error < 1e-2
    assert relative(1.1, 1.0) == pytest.approx(0.1) and relative(0, 0) == 0 and math.isnan(relative(1, 0))


@pytest.mark.parametrize("misfit", [None, 0.1])
def test_small_waves_grow_as_linear_theory_says(world, misfit):
    elasticity = None if misfit is None else Elasticity(cubic(30.0, 15.0, 30.0), misfit, 2)
    start = 0.5 + 1e-5 * np.random.default_rng(1).normal(size=(32, 40))
    solver = CahnHilliard(world, start.shape, double_well(EPSILON), EPSILON, 1.0, 1.0, elasticity=elasticity)
    solver.set_field(start)
    theory = LinearTheory(start, (1.0, 1.0), double_well(EPSILON), EPSILON, 1.0, elasticity)
    assert np.abs(theory.field(0.0) - start).max() < 1e-15
    solver.step(1e-4, 5000)
    grown = solver.field() - 0.5
    solver.close()
    assert np.abs(theory.field(0.5) - 0.5 - grown).max() < 0.01 * np.abs(grown).max() < 1e-2
    late = theory.field(20.0)
    assert late.min() == pytest.approx(0, abs=1e-15) and late.max() == pytest.approx(1)  # cut at the phases


@pytest.mark.parametrize("shape", [(24, 24), (16, 16, 16)])
def test_shapes_of_stationary_states(world, shape):
    descriptors = Descriptors(FiniteDifference(world, shape, double_well(EPSILON), EPSILON))
    x = np.indices(shape) - np.array(shape).reshape(-1, *[1] * len(shape)) / 2

    def of(field):
        return morphology(descriptors.measure(field.astype(float))[0], len(shape))

    assert of((x**2).sum(axis=0) < 25) == "droplet" and of((x**2).sum(axis=0) >= 25) == "droplet"
    assert of(np.abs(x[0]) < 4) == "layer" and of(0.5 + 0 * x[0]) == "homogeneous"
    if len(shape) == 3:
        assert of((x[1:] ** 2).sum(axis=0) < 16) == "cylinder"
        assert of((np.sort(np.abs(x), axis=0)[:2] <= 2).all(axis=0)) == "network"
    assert not decomposed(0.48, 0.52) and decomposed(0.0, 1.0)


def test_the_least_area():
    assert [least_area(f, 3) for f in (0.1, 0.2, 0.5, 0.75, 0.95)] == [
        "droplet",
        "cylinder",
        "layer",
        "cylinder",
        "droplet",
    ]
    assert [least_area(f, 2) for f in (0.3, 0.5, 0.7)] == ["droplet", "layer", "droplet"]


def test_when_a_shape_has_settled():
    columns = ("energy", "low", "high", "spans_high", "spans_low")
    rows = np.array([[5.0, 0, 1, 2, 2], [4.0, 0, 1, 1, 1], [2.0, 0, 1, 1, 1], [2.0, 0, 1, 1, 1]])
    found = stationary(rows, columns, np.arange(4) * 10.0, 2)
    assert found == dict(shape="layer", settled=10.0, creep=0.0)
    assert stationary(np.full((4, 5), np.nan), columns, np.arange(4), 2)["shape"] == "lost"


def test_costs_at_the_same_error():
    points = [(1.0, 0.1), (10.0, 0.01), (5.0, 0.2), (100.0, 0.001)]
    assert front(points) == [(1.0, 0.1), (10.0, 0.01), (100.0, 0.001)]
    cost, bound = cost_at(0.03, points)
    assert cost == pytest.approx(0.1 / 0.03) and bound == ""
    assert cost_at(0.5, points) == (1.0, "at most") and cost_at(1e-4, points) == (100.0, "at least")
    assert cost_at(1e-4, [*points, (1000.0, 0.0)]) == (1000.0, "at most")

    def model(kind, seconds, error, noise=None):
        return dict(kind=kind, seconds=seconds, noise=noise, lost=0, average=dict.fromkeys(["delta", "rmse", "energy_error", "interface_error", "length_error"], error))  # fmt: skip

    models = {
        "a": model("solver", 1.0, 0.1),
        "b": model("solver", 10.0, 0.01),
        "noisy": model("solver", 0.1, 1e-6, 0.1),
    }
    rows = clock(dict(seconds=None, models=models | {"net": model("surrogate", 2.0, 0.03)}))
    assert [row["faster"] for row in rows] == pytest.approx([0.1 / 0.03 / 2] * 5, rel=1e-6)
