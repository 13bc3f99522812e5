"""The regular solution: closed forms, its smooth continuation, and what a field of it does."""

import numpy as np
import pytest

from ostwald.app.phasefield import CahnHilliard, RegularSolution


def density(phi, omega=3.0, kt=1.2):
    """As it is written in textbooks, for 0 < φ < 1."""
    return omega * phi * (1 - phi) + kt * (phi * np.log(phi) + (1 - phi) * np.log(1 - phi))


def test_energy_and_derivatives():
    well, phi = RegularSolution(3.0, 1.2), np.linspace(0.002, 0.998, 499)
    assert well.energy(phi) == pytest.approx(density(phi), rel=1e-13)
    assert well.energy(phi, 1) == pytest.approx(3 * (1 - 2 * phi) + 1.2 * np.log(phi / (1 - phi)), abs=1e-12)
    assert well.energy(phi, 2) == pytest.approx(-6 + 1.2 / (phi * (1 - phi)), rel=1e-12)
    with pytest.raises(ValueError, match="derivative 3"):
        well.energy(0.5, 3)


@pytest.mark.parametrize("cut", [0.19, 0.01, 1e-4])
def test_the_continuation_is_twice_differentiable(cut):
    """g, g', g'' are continuous at the cuts, and each is the derivative of the one before on both sides."""
    well = RegularSolution(3.0, 1.2, cut)
    for edge in (cut, 1 - cut):
        for derivative in (0, 1, 2):
            below, above = well.energy([edge - 1e-9, edge + 1e-9], derivative)
            assert below == pytest.approx(above, abs=3e-9 * (1 + 1.2 / cut**2))
    h = 1e-3 * cut
    phi = np.concatenate([np.linspace(-0.5, cut - 2 * h, 40), np.linspace(1 - cut + 2 * h, 1.5, 40)])
    for derivative in (0, 1):
        slope = (well.energy(phi + h, derivative) - well.energy(phi - h, derivative)) / (2 * h)
        assert slope == pytest.approx(well.energy(phi, derivative + 1), rel=1e-6, abs=1e-6)
    assert (well.energy(np.linspace(-3, 4, 701), 2) <= 1.2 * (1 / cut + 1 / (1 - cut)) - 6 + 1e-9).all()
    assert (well.energy(np.array([-3.0, -1.0, 2.0, 4.0]), 2) > 0).all(), "bounded below"


def test_phases_and_spinodal():
    """kT = Ω/3.2: φ = 0.0593 …, the roots of Ω (1-2φ) = kT ln((1-φ)/φ); above Ω/2 there is one phase."""
    well = RegularSolution(3.2, 1.0)
    low, high = well.minima()
    assert low + high == pytest.approx(1, abs=1e-15)
    assert 3.2 * (1 - 2 * low) == pytest.approx(np.log((1 - low) / low), abs=1e-13)
    assert well.energy(low, 2) > 0
    assert well.spinodal() == pytest.approx(0.5 + np.array([-0.5, 0.5]) * np.sqrt(1 - 2 / 3.2), abs=1e-15)
    assert well.energy(np.array(well.spinodal()), 2) == pytest.approx(0, abs=1e-13)
    cold = RegularSolution(40.0, 1.0, 1e-3)  # the phases lie beyond the cut
    assert cold.energy(cold.minima()[0], 1) == pytest.approx(0, abs=1e-12) and cold.minima()[0] < 1e-3
    for hot in (RegularSolution(2.0, 1.0), RegularSolution(-1.0, 1.0)):
        assert hot.spinodal() == [] and hot.minima() == [0.5]
    for bad in [(3, 0), (3, -1), (np.nan, 1), (3, 1, 0), (3, 1, 0.17), (-3, 1, 0.5)]:
        with pytest.raises(ValueError, match="regular solution"):
            RegularSolution(*bad)


@pytest.mark.parametrize("shape", [(32, 24, 20), (64, 48)])
@pytest.mark.parametrize("mean", [0.5, 0.3, 0.04])
def test_growth_of_small_waves(world, shape, mean):
    """A step multiplies a small wave by (1 - dt q² g'') / (1 + dt ε q⁴): the kernel's g' has the slope g''."""
    well, dt, epsilon, amplitude = RegularSolution(3.0, 1.1), 0.01, 2.0, 1e-7
    x = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), -1)
    k = np.array([3, -2, 4])[: len(shape)]
    wave, q2 = np.cos(2 * np.pi * (x @ k)), ((2 * np.pi * k / shape) ** 2).sum()
    solver = CahnHilliard(world, shape, well, epsilon)
    solver.set_field(mean + amplitude * wave)
    solver.step(dt, 5)
    growth = (1 - dt * q2 * (-6 + 1.1 / (mean * (1 - mean)))) / (1 + dt * epsilon * q2**2)
    assert ((solver.field() - mean) * wave).sum() / (amplitude * (wave**2).sum()) == pytest.approx(growth**5, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bulk_energy_by_quadrature(world, dtype):
    """∫g of a wave that passes both cuts, against a sum over the textbook's formula and its parabolas."""
    well = RegularSolution(3.0, 1.2, cut=0.02)
    shape = (16, 24, 96)
    x = np.arange(96) / 96
    solver = CahnHilliard(world, shape, well, 1.0, spacing=0.5, dtype=dtype)
    solver.set_field(np.broadcast_to(0.45 + 0.6 * np.cos(2 * np.pi * x), shape))
    phi = 0.45 + 0.6 * np.cos(2 * np.pi * x)
    exact = 3.0 * phi * (1 - phi)
    for share in (phi, 1 - phi):
        d, inside = share - 0.02, np.maximum(share, 0.02)
        parabola = 0.02 * np.log(0.02) + (1 + np.log(0.02)) * d + d**2 / (2 * 0.02)
        exact += 1.2 * np.where(d < 0, parabola, inside * np.log(inside))
    assert (phi < 0).any() and (phi > 1).any()
    found = solver.measure()
    assert found["bulk"] == pytest.approx(exact.mean() * solver.volume, rel=1e-12 if dtype == np.float64 else 2e-6)


def test_decomposes_into_the_phases(world):
    """A slab of phases at the binodal keeps them; energy never rises, the mean never changes."""
    well, n, epsilon = RegularSolution(3.0, 1.2), 128, 4.0
    low, high = well.minima()
    x = np.arange(n)
    phi = np.where((x > 32) & (x < 96), 0.8, 0.2) + 0.01 * np.cos(2 * np.pi * x / n)
    solver = CahnHilliard(world, (n, 4, 4), well, epsilon)
    solver.set_field(np.broadcast_to(phi[:, None, None], (n, 4, 4)))
    mean, last = solver.mean, np.inf
    for _ in range(4000):
        energy = solver.measured_step(0.25)["energy"]
        assert energy <= last * (1 + 1e-14) + 1e-14
        last = energy
    found = solver.measure()
    assert found["low"] == pytest.approx(low, abs=2e-4) and found["high"] == pytest.approx(high, abs=2e-4)
    assert solver.mean == mean
    # interfacial energy ∫ √(2 ε (g - g_phase)) dφ, by quadrature
    phi = np.linspace(low, high, 20001)[1:-1]
    tension = np.sqrt(2 * epsilon * (density(phi, 3.0, 1.2) - density(low, 3.0, 1.2))).sum() * (phi[1] - phi[0])
    excess = found["energy"] - density(low, 3.0, 1.2) * solver.volume
    assert excess / (2 * 16) == pytest.approx(tension, rel=1e-3)
