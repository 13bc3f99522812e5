#!/usr/bin/env python3
"""Neural-network potentials: time of the kernel alone, errors of mixed precision, energy conservation, accuracy of exp and tanh.

usage: python benchmarks/hdnnp.py --data DIR [--repeat 30] [--time 5] [--json FILE]

DIR holds n2p2's examples and the mlearn potentials (n2p2_examples/potentials, mlearn/potentials). Structures are those of `ostwald
bench hdnnp`, heated: 1 ps of Langevin dynamics at a temperature far above melting, where errors are largest. Times are processor
time of one thread, the least of many calls, µs per atom. Errors are of mixed against double precision on the same positions.
Drift: slope of a straight line through the total energy along NVE (eV/atom/ps), fluctuation: standard deviation about it.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ostwald.app import dynamics, potentials
from ostwald.app.jobs.bench_hdnnp import Case, make_system
from ostwald.parallel import World

CASES = [
    Case("Cu2S", "Cu2S", "n2p2_examples/potentials/Cu2S_PBE", None, 1500.0),
    Case("water", "water", "n2p2_examples/potentials/H2O_RPBE-D3", ("bohr", "Hartree"), 600.0, 0.0005),
    Case("Ni", "Ni", "mlearn/potentials/Ni", ("bohr", "Hartree"), 3000.0),
]


def work(nb, cutoff, sample=300):
    """Means over some atoms: neighbours within the cutoff, pairs of them, and those whose third side is below it too."""
    rows = np.linspace(0, nb.nlocal - 1, min(sample, nb.nlocal)).astype(int)
    found = []
    for i in rows:
        d = nb.positions[nb.indices[nb.offsets[i] : nb.offsets[i + 1]]] - nb.positions[i]
        d = d[(d**2).sum(1) < cutoff**2]
        sides = ((d[:, None] - d) ** 2).sum(-1)[np.triu_indices(len(d), 1)]
        found.append((len(d), len(sides), (sides < cutoff**2).sum()))
    return dict(zip(("neighbours", "pairs", "narrow"), np.mean(found, axis=0).round(1).tolist()))


def timed(potential, nb, repeat):
    """µs/atom of one thread: the least of `repeat` calls."""
    forces, times = np.zeros((nb.nall, 3)), []
    for _ in range(repeat):
        start = time.thread_time()
        potential.compute(nb, forces, energy=False, virial=False)
        times.append(time.thread_time() - start)
    return 1e6 * min(times) / nb.nlocal


def evaluated(potential, system):
    nb = system.neighbourhoods()
    forces, energies = np.zeros((nb.nall, 3)), np.zeros(nb.nall)
    _, virial = potential.compute(nb, forces, energies=energies)
    nb.reverse(forces)
    return energies[: nb.nlocal], forces[: nb.nlocal], virial


def conserved(world, case, precision, atoms, length):
    """Drift (eV/atom/ps) and fluctuation (eV/atom) over `length` ps of NVE after 0.5 ps of Langevin."""
    system = make_system(world, case, atoms, precision)
    bath = dynamics.Langevin(case.timestep, dynamics.Ramp(case.temperature), 0.1, seed=1)
    for step in range(round(0.5 / case.timestep)):
        bath.step(system, step)
    integrator, rows = dynamics.NVE(case.timestep), []
    for step in range(round(length / case.timestep)):
        look = (step + 1) % 10 == 0
        integrator.step(system, step, energy=look)
        if look:
            total = (system.potential_energy() + system.kinetic_energy()) / system.total
            rows.append((case.timestep * (step + 1), total))
    rows = np.array(rows)
    slope, offset = np.polyfit(rows[:, 0], rows[:, 1], 1)
    return dict(drift=slope, fluctuation=float(np.std(rows[:, 1] - slope * rows[:, 0] - offset)), atoms=system.total)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--data", required=True)
    options.add_argument("--repeat", type=int, default=30)
    options.add_argument("--time", type=float, default=5.0, help="ps of NVE; 0: none")
    options.add_argument("--atoms", type=int, default=4000)
    options.add_argument("--only", nargs="*")
    options.add_argument("--json")
    given = options.parse_args()
    world, results = World(), []
    for case in CASES:
        if given.only and case.name not in given.only:
            continue
        case = replace(case, potential=str(Path(given.data) / case.potential))
        system = make_system(world, case, given.atoms, "double")
        bath = dynamics.Langevin(case.timestep, dynamics.Ramp(case.temperature), 0.1, seed=1)
        for step in range(round(1.0 / case.timestep)):
            bath.step(system, step)
        mixed = potentials.load(case.potential, precision="mixed", units=case.units)
        nb = system.neighbourhoods()
        row = dict(case=case.name, atoms=system.total, temperature=case.temperature, **work(nb, mixed.cutoff))
        row["double_us"], row["mixed_us"] = (timed(p, nb, given.repeat) for p in (system.potential, mixed))
        (e, f, w), (em, fm, wm) = evaluated(system.potential, system), evaluated(mixed, system)
        row["force_rms"] = float(np.sqrt(np.mean(f**2)))
        row["force_error_rms"], row["force_error_max"] = (
            float(np.sqrt(np.mean((fm - f) ** 2))),
            float(abs(fm - f).max()),
        )
        row["energy_error_per_atom"] = float(abs(em.sum() - e.sum()) / len(e))
        row["pressure_error_relative"] = float(abs(wm - w).max() / abs(w[:3]).max())
        if given.time > 0:
            cool = replace(case, temperature={"Cu2S": 600.0, "water": 300.0, "Ni": 1000.0}[case.name])
            for precision in ("double", "mixed"):
                row["nve_" + precision] = conserved(world, cool, precision, given.atoms // 4, given.time)
        results.append(row)
        world.log(json.dumps(row))
    if given.json:
        Path(given.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
