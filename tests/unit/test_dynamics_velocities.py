"""Initial velocities, and the checks on a run."""

import numpy as np
import pytest
from model_systems import ARGON, IdealGas, SmoothLennardJones, argon, fcc, make_system, run
from scipy.stats import kstest

from ostwald.app.atoms.units import BOLTZMANN, MVV2E, thermal_speed
from ostwald.app.dynamics import (
    NVE,
    Unstable,
    check_timestep,
    diagnose,
    initialise_velocities,
    remove_momentum,
    remove_rotation,
    rescale,
)
from ostwald.parallel import CollectiveError


def gas(world, cells=5, **options):
    positions, matrix = fcc(cells, 5.3)
    return make_system(world, IdealGas(), positions, matrix, **options)


def test_the_temperature_is_exact_and_nothing_drifts(world):
    potential = SmoothLennardJones(species=("A", "B"), masses=(20.0, 80.0))
    positions, matrix = fcc(3, 5.31)
    system = make_system(world, potential, positions, matrix, types=np.arange(len(positions)) % 2)
    initialise_velocities(system, 321.0, seed=1)
    atoms = system.atoms
    assert np.isclose(system.temperature(), 321.0, rtol=1e-13)
    assert system.degrees_of_freedom == 3 * 108 - 3
    momentum = atoms.masses[atoms.types[: atoms.n]] @ atoms.velocities
    assert np.abs(momentum).max() < 1e-10
    initialise_velocities(system, 0.0, seed=1)
    assert (atoms.velocities == 0.0).all()
    with pytest.raises(ValueError, match="all zero"):
        rescale(system, 300.0)


def test_each_component_is_normal(world):
    system = gas(world, cells=8)
    initialise_velocities(system, 300.0, seed=3, zero_momentum=False, exact=False)
    for axis in range(3):
        assert kstest(system.atoms.velocities[:, axis] / thermal_speed(300.0, ARGON), "norm").pvalue > 0.01
    first = system.atoms.velocities.copy()
    initialise_velocities(system, 300.0, seed=3, zero_momentum=False, exact=False)
    assert (first == system.atoms.velocities).all()
    for other in (dict(seed=4), dict(seed=3, step=1)):
        initialise_velocities(system, 300.0, **other, zero_momentum=False, exact=False)
        assert abs(np.corrcoef(first.ravel(), system.atoms.velocities.ravel())[0, 1]) < 0.04


def test_angular_momentum_of_a_cluster(world):
    positions, matrix = fcc(2, 5.31)
    system = make_system(
        world, SmoothLennardJones(), positions + 20.0, matrix + 40.0 * np.eye(3), periodic=(False,) * 3
    )
    initialise_velocities(system, 100.0, seed=5, zero_angular_momentum=True)
    atoms = system.atoms
    x, v = atoms.positions[: atoms.n] - atoms.positions[: atoms.n].mean(0), atoms.velocities
    assert np.abs(np.cross(x, v).sum(0)).max() < 1e-9 and np.abs(v.sum(0)).max() < 1e-10
    twice = ARGON * MVV2E * (v * v).sum()
    assert np.isclose(twice / (BOLTZMANN * (3 * atoms.n - 6)), 100.0)
    with pytest.raises(ValueError, match="open"):
        remove_rotation(argon(world, cells=2))


def test_groups_regions_and_frozen_atoms(world):
    system = gas(world)
    atoms = system.atoms
    n = atoms.n
    lower = atoms.positions[:n, 2] < 10.0
    atoms.groups[lower] |= np.uint32(atoms.group_mask("lower"))
    wall = atoms.positions[:n, 2] < 3.0
    atoms.groups[wall] |= np.uint32(atoms.group_mask("wall"))
    system.frozen_mask = atoms.group_mask("wall")
    initialise_velocities(system, 100.0, seed=1, select=~lower)
    upper = atoms.velocities[~lower].copy()
    initialise_velocities(system, 400.0, seed=1, group="lower", zero_momentum=False)
    assert (atoms.velocities[~lower] == upper).all() and (atoms.velocities[wall] == 0.0).all()
    for chosen, temperature, removed in ((~lower, 100.0, 3), (lower & ~wall, 400.0, 0)):
        twice = ARGON * MVV2E * (atoms.velocities[chosen] ** 2).sum()
        assert np.isclose(twice / BOLTZMANN / (3 * chosen.sum() - removed), temperature)
    assert system.degrees_of_freedom == 3 * (n - wall.sum())
    rescale(system, 250.0)
    assert np.isclose(system.temperature(), 250.0)
    atoms.velocities[:] += 1.0
    remove_momentum(system, group="lower")
    assert np.abs(atoms.velocities[lower & ~wall].sum(0)).max() < 1e-9
    with pytest.raises(ValueError, match="no group 'upper'"):
        initialise_velocities(system, 1.0, seed=1, group="upper")
    with pytest.raises(ValueError, match="rows"):
        initialise_velocities(system, 1.0, seed=1, select=np.ones(3, bool))


def test_a_step_that_is_too_long_is_named(world):
    system = argon(world, temperature=50.0)
    check_timestep(system, 0.004)
    with pytest.raises(Unstable, match=r"a step of 0\.5 ps moves the fastest atom .* take at most 0\.\d+ ps"):
        check_timestep(system, 0.5)
    system.atoms.positions[0] = system.atoms.positions[1] + 0.5
    system.invalidate()
    system.update()
    system.compute()
    with pytest.raises(Unstable, match="minimise the structure first"):
        check_timestep(system, 0.004)


def test_the_first_thing_wrong_is_named(world):
    system = argon(world, temperature=50.0)
    atoms = system.atoms
    assert diagnose(system, 100.0, max_speed=50.0, max_force=10.0) is None
    hot = diagnose(system, 20.0)
    fastest = atoms.ids[(atoms.velocities**2).sum(1).argmax()]
    assert hot.id == fastest and "temperature is 50 K, above 20 K" in str(hot)
    assert "beyond 0.1 Å/ps" in str(diagnose(system, max_speed=0.1))
    assert "beyond 1e-06 eV/Å" in str(diagnose(system, max_force=1e-6)) or np.abs(atoms.forces).max() < 1e-6
    for name, noun in (("forces", "force"), ("velocities", "velocity"), ("positions", "position")):
        for bad in (np.nan, np.inf):
            array = getattr(atoms, name)
            kept = array[17, 2]
            array[17, 2] = bad
            fault = diagnose(system)
            assert (fault.id, fault.rank) == (atoms.ids[17], 0) and f"{noun} is not finite" in str(fault)
            array[17, 2] = kept
    assert diagnose(system) is None


def test_an_explosion_is_found(world):
    """Far too long a step: within a few steps the temperature, or a number, gives it away."""
    system = argon(world, cells=2, temperature=300.0)
    with pytest.raises((CollectiveError, ValueError)), np.errstate(all="ignore"):
        for step in range(200):
            run(system, NVE(0.15), 1, first=step)
            fault = diagnose(system, 2000.0)
            if fault:
                assert fault.id >= 0
                raise Unstable(str(fault))
