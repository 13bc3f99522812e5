#!/usr/bin/env python3
"""Energy conservation of aluminium at 300 K: drift over 100 ps at 2 fs, and how the fluctuation grows with the step.

usage: [mpirun -n N] python benchmarks/nve_drift.py [--potential zhou:Al] [--cells 8] [--time 100] [--json FILE]

2048 atoms (8³ cells), NVE after 5 ps of Langevin at 300 K. Drift: slope of a straight line through the total energy
(eV/atom/ps). Fluctuation: its standard deviation about that line, over 10 ps from one state with steps of 1, 2 and 4 fs.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ostwald.app import dynamics, potentials
from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.build import build_lattice
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.parallel import World


def energies(system, dt, steps, every):
    """(time in ps, total energy in eV/atom) along `steps` steps of NVE."""
    integrator = dynamics.NVE(dt)
    rows = []
    for step in range(steps):
        integrator.step(system, step, energy=(step + 1) % every == 0)
        if (step + 1) % every == 0:
            rows.append((dt * (step + 1), (system.potential_energy() + system.kinetic_energy()) / system.total))
    return np.array(rows)


def line(rows):
    """(slope, standard deviation about the line)."""
    slope, offset = np.polyfit(rows[:, 0], rows[:, 1], 1)
    return slope, float(np.std(rows[:, 1] - slope * rows[:, 0] - offset))


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--potential", default="zhou:Al")
    options.add_argument("--cells", type=int, default=8)
    options.add_argument("--time", type=float, default=100.0, help="ps")
    options.add_argument("--json")
    given = options.parse_args()
    world = World()
    results = []
    for precision in ("double", "mixed"):
        share = build_lattice(world, "fcc", 4.06, "Al", (given.cells,) * 3)
        potential = potentials.load(given.potential, species=("Al",), precision=precision)
        atoms = Atoms(("Al",), [26.982], share.positions, share.types, share.ids)
        system = System(world, Cell(share.matrix), atoms, potential)
        dynamics.initialise_velocities(system, 600.0, seed=1)
        system.update()
        system.compute()
        bath = dynamics.Langevin(0.002, dynamics.Ramp(300.0), 0.2, seed=1)
        for step in range(2500):
            bath.step(system, step)
        dynamics.remove_momentum(system)
        system.compute()
        start = [np.array(a[: atoms.n]) for a in (atoms.positions, atoms.velocities, atoms.ids)]
        fluctuation = {}
        for dt in (0.001, 0.002, 0.004):
            order = np.argsort(atoms.ids[: atoms.n])[np.argsort(np.argsort(start[2]))]
            atoms.positions[order], atoms.velocities[order] = start[0], start[1]
            system.invalidate()
            system.update()
            system.compute()
            fluctuation[dt] = line(energies(system, dt, round(10.0 / dt), 5))[1]
        slope, spread = line(energies(system, 0.002, round(given.time / 0.002), 50))
        ratio = fluctuation[0.004] / fluctuation[0.002], fluctuation[0.002] / fluctuation[0.001]
        results.append(
            dict(
                potential=given.potential, precision=precision, atoms=system.total, drift_ev_per_atom_per_ps=slope,
                spread_ev_per_atom=spread, fluctuation_ev_per_atom={f"{k:g}": v for k, v in fluctuation.items()},
                temperature=system.temperature(),
            )
        )  # fmt: skip
        world.log(
            f"{given.potential} {precision}: {system.total} atoms, {system.temperature():.0f} K, {given.time:g} ps at 2 fs: "
            f"drift {slope:+.2e} eV/atom/ps, spread {spread:.2e} eV/atom; "
            f"fluctuation {' '.join(f'{1e3 * k:g} fs {v:.2e}' for k, v in fluctuation.items())} eV/atom "
            f"(ratios {ratio[1]:.2f}, {ratio[0]:.2f}; dt² gives 4)"
        )
    if given.json and world.root:
        Path(given.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
