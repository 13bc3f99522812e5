"""Integrators: exact trajectories, order, reversibility, conserved quantities, restart."""

import json

import numpy as np
import pytest
from model_systems import (
    ARGON,
    Einstein,
    SmoothLennardJones,
    argon,
    fcc,
    make_system,
    run,
    total_energy,
)

from ostwald.app.atoms.units import BOLTZMANN, FORCE_TO_ACCELERATION, GPA
from ostwald.app.dynamics import MTK, NVE, Bussi, CellModes, Langevin, NoseHoover, Ramp, Unstable, initialise_velocities

SHEARED = [0.1, 0.0, 0.2, 0.02, 0.01, -0.02]
ENSEMBLES = {
    "NVE": lambda dt, steps: NVE(dt),
    "Nosé-Hoover": lambda dt, steps: NoseHoover(dt, 40.0, 0.2),
    "Nosé-Hoover, one link": lambda dt, steps: NoseHoover(dt, 40.0, 0.2, length=1, order=1),
    "Nosé-Hoover, five links": lambda dt, steps: NoseHoover(dt, 40.0, 0.2, length=5, order=7, repeats=2),
    "Nosé-Hoover, ramp": lambda dt, steps: NoseHoover(dt, Ramp(40.0, 80.0, 0, steps), 0.2),
    "Langevin": lambda dt, steps: Langevin(dt, 40.0, 5.0, seed=3),
    "Bussi": lambda dt, steps: Bussi(dt, Ramp(40.0, 60.0, 0, steps), 0.5, seed=3),
    "NPT": lambda dt, steps: MTK(dt, 0.1, 0.5, temperature=40.0, tau=0.2),
    "NPT, axes": lambda dt, steps: MTK(dt, 0.1, 0.5, temperature=40.0, tau=0.2, modes="anisotropic"),
    "NPT, x = y": lambda dt, steps: MTK(dt, 0.1, 0.5, temperature=40.0, tau=0.2, modes=(("xx", "yy"), "zz")),
    "NPT, z and a shear": lambda dt, steps: MTK(dt, 0.1, 0.5, temperature=40.0, tau=0.2, modes=("zz", "xy")),
    "NPT, ramps": lambda dt, steps: MTK(
        dt, Ramp(0.0, 0.3, 0, steps), 0.5, temperature=Ramp(40.0, 60.0, 0, steps), tau=0.2
    ),
    "NPT, stress, h0 renewed": lambda dt, steps: MTK(
        dt, SHEARED, 0.5, temperature=40.0, tau=0.2, modes="triclinic", renew_every=steps // 4
    ),
    "NPH": lambda dt, steps: MTK(dt, 0.1, 0.5),
    "NPH, uniaxial": lambda dt, steps: MTK(dt, [0.0, 0.0, 0.3, 0.0, 0.0, 0.0], 0.5, modes="anisotropic"),
}


def test_a_harmonic_oscillator_follows_verlet_exactly(world):
    """Velocity Verlet on a spring is x_k = A cos(kΩΔt) with cos ΩΔt = 1 - (ωΔt)²/2."""
    sites = np.array([[5.0, 5.0, 5.0]])
    potential = Einstein(sites, 1.0)
    system = make_system_einstein(world, potential, sites + np.array([0.1, 0.0, -0.2]))
    dt = 0.02
    omega = np.sqrt(FORCE_TO_ACCELERATION / ARGON)
    phase = np.arccos(1.0 - 0.5 * (omega * dt) ** 2)
    x = run(system, NVE(dt), 200, sample=lambda s: s.atoms.positions[0].copy())
    k = np.arange(1, 201)
    assert np.allclose(x - sites[0], np.cos(phase * k)[:, None] * [0.1, 0.0, -0.2], rtol=0, atol=1e-12)


def make_system_einstein(world, potential, positions, **options):
    """Springs need the system they belong to."""
    from ostwald.app.atoms.atoms import Atoms
    from ostwald.app.atoms.cell import Cell
    from ostwald.app.atoms.system import System

    n = len(positions)
    atoms = Atoms(potential.species, potential.masses, positions, np.zeros(n, np.int32), np.arange(n))
    system = System(world, Cell([10.0, 10.0, 10.0]), atoms, potential, **options)
    potential.system = system
    system.update()
    system.compute()
    return system


def test_nve_is_reversible(world):
    system = argon(world, cells=2, temperature=60.0)
    order = np.argsort(system.atoms.ids[: system.atoms.n])
    start = system.atoms.positions[order].copy()
    run(system, NVE(0.004), 100)
    moved = np.abs(system.cell.fractional(system.atoms.positions[: system.atoms.n]))
    assert moved.max() > 0.0
    system.atoms.velocities[:] *= -1.0
    run(system, NVE(0.004), 100)
    atoms = system.atoms
    order = np.argsort(atoms.ids[: atoms.n])
    end = (atoms.positions[: atoms.n] + atoms.images @ system.cell.matrix)[order]
    assert np.abs(end - start).max() < 1e-9


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_conserved_quantity_is_flat(world, name):
    """Its fluctuation is of order Δt²: halving the step divides it by four, along the same trajectory."""
    spread, drift = [], []
    for dt, steps in ((0.004, 250), (0.002, 500)):
        system = argon(world, cells=2, temperature=40.0)
        integrator = ENSEMBLES[name](dt, steps)
        first = system.potential_energy() + system.kinetic_energy() + integrator.conserved(system)
        energies = run(system, integrator, steps, sample=total_energy(integrator), every=steps // 250)
        spread.append(np.abs(energies - first).max())
        drift.append(energies.std())
    # the random path of a stochastic thermostat is another one at half the step
    low, high = (2.0, 8.0) if name in ("Langevin", "Bussi") else (3.5, 4.5)
    assert low < spread[0] / spread[1] < high, (spread, drift)
    assert spread[1] < 5e-5 * 32


def test_ramps_reach_their_ends(world):
    system = argon(world, cells=3, temperature=20.0)
    steps = 1000
    integrator = MTK(
        0.004, Ramp(0.0, 0.5, 0, steps), 0.3, temperature=Ramp(20.0, 60.0, 0, steps), tau=0.1, modes="anisotropic"
    )
    sample = run(
        system, integrator, steps, sample=lambda s: np.append(s.pressure()[:3].mean(), s.temperature()), every=2
    )
    start, end = sample[:25].mean(0), sample[-50:].mean(0)
    assert np.allclose(end, (0.4875, 59.0), rtol=0.15), end
    assert start[0] < 0.15 and start[1] < 30.0
    assert integrator.target(steps - 1) == 0.5 and integrator.temperature(steps + 7) == 60.0
    assert Ramp(2.0, 4.0, 10, 4)(11) == 3.0 and Ramp(2.0, 4.0, 10, 4)(3) == 2.0


@pytest.mark.parametrize("name", ENSEMBLES)
def test_a_restored_integrator_goes_on_with_the_same_bits(world, name):
    def trajectory(stop):
        system = argon(world, cells=2, temperature=40.0)
        integrator = ENSEMBLES[name](0.004, 40)
        for step in range(40):
            if step == stop:
                state = json.loads(json.dumps({k: np.asarray(v).tolist() for k, v in integrator.state().items()}))
                arrays, meta = system.checkpoint()
                arrays = {k: np.array(v) for k, v in arrays.items()}
                meta = json.loads(json.dumps(meta))
                system = type(system).restore(world, arrays, meta, system.potential, exact=True)
                system.compute()
                integrator = ENSEMBLES[name](0.004, 40)
                integrator.restore(state)
            integrator.step(system, step)
        return system.atoms.positions.tobytes(), system.atoms.velocities.tobytes(), integrator.conserved(system)

    assert trajectory(None) == trajectory(23)


@pytest.mark.parametrize("name", ["NVE", "Nosé-Hoover", "Langevin", "Bussi", "NPT"])
def test_frozen_atoms_stay(world, name):
    system = argon(world, cells=2)
    atoms = system.atoms
    wall = np.flatnonzero(atoms.positions[: atoms.n, 2] < 2.0)
    atoms.groups[wall] |= atoms.group_mask("wall")
    system.frozen_mask = atoms.group_mask("wall")
    initialise_velocities(system, 80.0, seed=5)
    fractional = {i: s for i, s in zip(atoms.ids, system.cell.fractional(atoms.positions[: atoms.n]))}
    integrator = ENSEMBLES[name](0.004, 100)
    run(system, integrator, 100)
    assert integrator.degrees_of_freedom == 3 * (atoms.n - len(wall))
    still = (atoms.groups & system.frozen_mask) != 0
    now = system.cell.fractional(atoms.positions[: atoms.n] + atoms.images @ system.cell.matrix)
    moved = np.array([np.abs(s - fractional[i]).max() for i, s in zip(atoms.ids, now)])
    assert still.sum() == len(wall) and moved[still].max() < 1e-13 and moved[~still].min() > 1e-6
    assert (atoms.velocities[still] == 0.0).all()


def test_momentum_is_conserved_and_two_species_move_right(world):
    """Under all that conserves it; and the heavy atoms of a pair move by the ratio of masses."""
    potential = SmoothLennardJones(species=("A", "B"), masses=(20.0, 80.0), mixed=0.8)
    positions, matrix = fcc(2, 5.31)
    for name in ("NVE", "Nosé-Hoover", "Bussi", "NPT, stress, h0 renewed"):
        system = make_system(world, potential, positions, matrix, types=np.arange(len(positions)) % 2)
        initialise_velocities(system, 60.0, seed=2)
        run(system, ENSEMBLES[name](0.004, 100), 100)
        atoms = system.atoms
        momentum = atoms.masses[atoms.types[: atoms.n]] @ atoms.velocities
        assert np.abs(momentum).max() < 1e-9 * np.abs(atoms.velocities).max() * 80.0 * atoms.n


def test_mistakes_are_refused(world):
    with pytest.raises(ValueError, match="time step"):
        NVE(0.0)
    with pytest.raises(ValueError, match="above 0 K"):
        NoseHoover(0.001, 0.0, 0.1).prepare(argon(world, cells=2))
    with pytest.raises(ValueError, match="both a temperature and a time"):
        MTK(0.001, 0.0, 0.1, temperature=300.0)
    with pytest.raises(ValueError, match="six"):
        MTK(0.001, [1.0, 2.0, 3.0], 0.1)
    for modes, said in (("cubic", "coupled"), (("xx", "xx"), "one mode"), ((("xx", "xy"),), "normal"), (("aa",), "aa")):
        with pytest.raises(ValueError, match=said):
            CellModes(modes)
    open_z = argon(world, cells=2, periodic=(True, True, False))
    with pytest.raises(ValueError, match="open"):
        MTK(0.001, 0.0, 0.5).prepare(open_z)
    MTK(0.001, 0.0, 0.5, modes=("xx", "yy", "xy")).prepare(open_z)


def test_the_target_stress_is_reached(world):
    """A crystal under a target with uniaxial part and shears settles at it, in the mean."""
    system = argon(world, cells=3, temperature=20.0)
    target = np.array([0.05, 0.05, 0.12, 0.01, -0.005, 0.015])
    integrator = MTK(0.006, target, 0.3, temperature=20.0, tau=0.1, modes="triclinic", renew_every=200)
    run(system, integrator, 1500)
    pressures = run(system, integrator, 2500, first=1500, sample=lambda s: s.pressure(), every=2)
    assert np.allclose(pressures.mean(0), target, rtol=0, atol=0.006), pressures.mean(0)
    lengths = system.cell.lengths
    assert lengths[2] < lengths[:2].min() and not system.cell.orthogonal


def test_a_cell_that_runs_away_is_reported(world):
    system = argon(world, cells=2, temperature=20.0)
    with pytest.raises(Unstable, match="the cell deforms"):
        run(system, MTK(0.004, -20.0, 0.02, temperature=20.0, tau=0.1), 200)


def test_uniaxial_compression_leaves_the_other_axes_alone(world):
    system = argon(world, cells=3, temperature=20.0)
    before = system.cell.lengths
    integrator = MTK(0.006, [0.0, 0.0, 0.4, 0.0, 0.0, 0.0], 0.3, temperature=20.0, tau=0.1, modes=("zz",))
    run(system, integrator, 800)
    pressures = run(system, integrator, 1000, first=800, sample=lambda s: s.pressure()[2], every=2)
    after = system.cell.lengths
    assert abs(pressures.mean() - 0.4) < 0.015
    assert (after[:2] == before[:2]).all() and after[2] < 0.97 * before[2]


def test_the_energy_of_a_load_matches_its_stress(world):
    """∂U/∂strain by finite differences, at a cell away from the reference."""
    from ostwald.app.dynamics.barostat import Load, tensor

    cell = argon(world, cells=2).cell
    load = Load(CellModes("triclinic"))
    load.aim(np.array([1.0, 2.0, 4.0, 0.3, -0.5, 0.7]))
    load.renew(cell)
    assert np.allclose(load.stress(cell) / cell.volume * GPA, [1.0, 2.0, 4.0, 0.3, -0.5, 0.7], rtol=1e-12)
    r = np.random.default_rng(0)
    cell.matrix = cell.matrix @ (np.eye(3) + 0.05 * r.normal(size=(3, 3)))
    matrix, stress = cell.matrix.copy(), load.stress(cell)
    for k in range(6):
        e = np.zeros(6)
        e[k] = 1e-5
        ends = []
        for sign in (1.0, -1.0):
            cell.matrix = matrix @ (np.eye(3) + sign * tensor(e)).T
            ends.append(load.energy(cell))
        weight = 1.0 if k < 3 else 2.0
        assert np.isclose((ends[0] - ends[1]) / 2e-5, weight * stress[k], rtol=1e-7, atol=1e-9)


def test_nose_hoover_holds_a_mean_temperature(world):
    """Also away from the crystal's classical value at the start: the thermostat, not the start, decides."""
    system = argon(world, cells=3, temperature=120.0)
    integrator = NoseHoover(0.005, 50.0, 0.1)
    run(system, integrator, 400)
    kinetic = run(system, integrator, 1200, first=400, sample=lambda s: s.kinetic_energy(), every=4)
    temperature = 2.0 * kinetic.mean() / (integrator.degrees_of_freedom * BOLTZMANN)
    assert abs(temperature - 50.0) < 1.5
