"""Ensembles against the distributions of statistical mechanics, by hypothesis tests with fixed seeds.

Samples are thinned to three integrated correlation times, so that they may be taken for independent.
"""

import numpy as np
import pytest
from model_systems import ARGON, Einstein, IdealGas, argon, fcc, make_system, run
from scipy import stats

from ostwald.app.atoms.units import BOLTZMANN, FORCE_TO_ACCELERATION, GPA, thermal_speed
from ostwald.app.dynamics import MTK, Bussi, Langevin, NoseHoover, initialise_velocities

KT = BOLTZMANN * 300.0


def independent(series):
    """Every k-th sample, k three integrated correlation times."""
    a = series - series.mean()
    n = len(a)
    f = np.fft.rfft(a, 2 * n)
    c = np.fft.irfft(f * f.conj())[:n]
    c /= c[0]
    time = 0.5 + c[1 : np.argmax(c < 0.02)].sum()
    thinned = series[:: max(1, int(np.ceil(3.0 * time)))]
    assert len(thinned) > 100, f"{len(thinned)} independent samples are too few to test anything"
    return thinned


def check_kinetic(kinetic, dof, kT):
    """K/kT follows Gamma(dof/2), and would not if the temperature were 6 % off or the momentum counted wrongly."""
    sample = independent(kinetic) / kT
    assert stats.kstest(sample, stats.gamma(0.5 * dof).cdf).pvalue > 0.01
    return sample


def gas(world, cells=2):
    positions, matrix = fcc(cells, 10.0)
    return make_system(world, IdealGas(), positions, matrix)


def test_bussi_samples_the_kinetic_energy(world):
    system = gas(world)
    initialise_velocities(system, 900.0, seed=1)
    integrator = Bussi(0.02, 300.0, 0.1, seed=4)
    run(system, integrator, 200)
    kinetic = run(system, integrator, 6000, first=200, sample=lambda s: s.kinetic_energy())
    dof = 3 * system.total - 3
    sample = check_kinetic(kinetic, dof, KT)
    assert stats.kstest(sample / 1.06, stats.gamma(0.5 * dof).cdf).pvalue < 1e-4  # the test can fail
    # relaxation: <K(t) K(0)> decays by exp(-dt/tau) a step
    a = kinetic - kinetic.mean()
    assert abs((a[1:] @ a[:-1]) / (a @ a) - np.exp(-0.2)) < 0.02


def test_langevin_velocities_relax_to_maxwell(world):
    """Free particles, from rest: after k steps the variance is (1 - c^2k) kT/m exactly; different seeds differ."""
    system = gas(world, cells=8)
    system.atoms.velocities[:] = 0.0
    integrator = Langevin(0.01, 300.0, 0.05, seed=11)
    run(system, integrator, 4)
    assert integrator.degrees_of_freedom == 3 * system.total
    width = thermal_speed(300.0, ARGON) * np.sqrt(1.0 - np.exp(-2.0 * 4 * 0.2))
    v = system.atoms.velocities
    assert all(stats.kstest(v[:, axis] / width, "norm").pvalue > 0.01 for axis in range(3))
    assert abs(v.var() / width**2 - 1.0) < 3.0 * np.sqrt(2.0 / v.size)
    other = gas(world, cells=8)
    other.atoms.velocities[:] = 0.0
    run(other, Langevin(0.01, 300.0, 0.05, seed=12), 4)
    order = np.argsort(system.atoms.ids[: system.atoms.n])
    other_order = np.argsort(other.atoms.ids[: other.atoms.n])
    assert abs(np.corrcoef(v[order].ravel(), other.atoms.velocities[other_order].ravel())[0, 1]) < 0.04


def test_langevin_places_oscillators_exactly(world):
    """BAOAB gives the spring's position its exact variance kT/k at any step, here ωΔt = 1."""
    from ostwald.app.atoms.atoms import Atoms
    from ostwald.app.atoms.cell import Cell
    from ostwald.app.atoms.system import System

    positions, matrix = fcc(8, 10.0)
    n, stiffness = len(positions), 2.0
    potential = Einstein(positions, stiffness)
    atoms = Atoms(potential.species, potential.masses, positions, np.zeros(n, np.int32), np.arange(n))
    system = System(world, Cell(matrix), atoms, potential)
    potential.system = system
    system.update()
    system.compute()
    dt = 1.0 / np.sqrt(stiffness * FORCE_TO_ACCELERATION / ARGON)
    run(system, Langevin(dt, 300.0, 2.0 * dt, seed=7), 60)
    moved = atoms.positions[:n] + atoms.images @ system.cell.matrix - positions[atoms.ids[:n]]
    width = np.sqrt(KT / stiffness)
    assert stats.kstest(moved.ravel() / width, "norm").pvalue > 0.01
    assert abs(moved.var() / width**2 - 1.0) < 3.0 * np.sqrt(2.0 / moved.size)


@pytest.mark.parametrize("kind", ("Nosé-Hoover", "Langevin"))
def test_thermostats_on_a_hot_crystal(world, kind):
    system = argon(world, cells=2, temperature=60.0)
    if kind == "Langevin":
        integrator = Langevin(0.006, 60.0, 0.1, seed=2)
    else:
        integrator = NoseHoover(0.006, 60.0, 0.06)
    run(system, integrator, 500)
    kinetic = run(system, integrator, 6000, first=500, sample=lambda s: s.kinetic_energy(), every=4)
    # the velocities of BAOAB are off by (ωΔt)²/8 or so at the end of a step, far below what the test sees
    check_kinetic(kinetic, system.degrees_of_freedom, BOLTZMANN * 60.0)


def test_the_volume_of_an_ideal_gas(world):
    """N free atoms at rest as a whole under MTK: the volume follows V^(N-1) exp(-PV/kT), Gamma(N), exactly."""
    system = gas(world)
    n, volume = system.total, system.cell.volume
    initialise_velocities(system, 300.0, seed=2)
    pressure = n * KT / volume * GPA
    integrator = MTK(0.01, pressure, 0.5, temperature=300.0, tau=0.2)
    run(system, integrator, 500)
    sample = run(system, integrator, 12000, first=500, sample=lambda s: (s.cell.volume, s.kinetic_energy()), every=10)
    reduced = independent(sample[:, 0]) * n / volume
    assert stats.kstest(reduced, stats.gamma(n).cdf).pvalue > 0.01
    assert stats.kstest(reduced / 1.06, stats.gamma(n).cdf).pvalue < 1e-3
    assert abs(sample[:, 0].var() / (volume**2 / n) - 1.0) < 0.15
    check_kinetic(sample[:, 1], 3 * n - 3, KT)
