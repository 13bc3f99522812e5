"""`ostwald bench md`: microseconds·core per atom and step of whole NVE runs, case by case.

Every case is a hot crystal run at constant energy: neighbour lists, halo, integration and Python included. Contestants are
interleaved (each repeat runs every case once), and minimum and median over repeats are reported.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from ostwald.app import dynamics, potentials
from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.build import build_lattice, unit_cell
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.atoms.units import BOLTZMANN, MVV2E
from ostwald.app.jobs.bench import choose, require_folder, write_figures
from ostwald.app.jobs.timing import SECTIONS, resident_bytes
from ostwald.parallel import CollectiveError

REDUCED_TIME = MVV2E**0.5
"""ps: the Lennard-Jones time unit for σ = 1 Å, ε = 1 eV, m = 1 amu."""


@dataclass(frozen=True)
class Case:
    """One system: potential (for `potentials.load`), crystal, temperature (K), time step (ps), skin (Å)."""

    name: str
    potential: str
    lattice: str
    a: float
    species: str
    mass: float
    temperature: float
    timestep: float = 0.001
    skin: float = 1.0


CASES = [
    Case("lj", "lj.toml", "fcc", (4 / 0.8442) ** (1 / 3), "Ar", 1.0, 1.44 / BOLTZMANN, 0.005 * REDUCED_TIME, 0.4),
    Case("eam-Cu", "zhou:Cu", "fcc", 3.615, "Cu", 63.55, 1600.0),
    Case("eam-Al", "zhou:Al", "fcc", 4.05, "Al", 26.98, 900.0),
    Case("sw-Si", "Si.sw", "diamond", 5.431, "Si", 28.06, 1000.0),
    Case("tersoff-Si", "Si.tersoff", "diamond", 5.431, "Si", 28.06, 1000.0),
]


def case_of_file(path: str) -> Case:
    """A case for a potential file: the crystal of its first element at its usual lattice parameter."""
    from ase.data import atomic_numbers, reference_states

    potential = potentials.load(path)
    symbol = potential.species[0]
    state = reference_states[atomic_numbers[symbol]] or {}
    lattice, a = state.get("symmetry"), state.get("a")
    if lattice not in ("fcc", "bcc", "diamond"):
        raise CollectiveError(f"{path}: no cubic crystal of {symbol} is known to time it on")
    mass = float(potential.masses[0]) if potential.masses is not None else 50.0
    hot = {"fcc": 1600.0, "bcc": 1600.0, "diamond": 1000.0}[lattice]
    return Case(Path(path).name, path, lattice, a, symbol, mass, hot)


def cells_for(lattice: str, a: float, atoms: int) -> tuple[int, int, int]:
    """The cube of conventional cells nearest to the asked number of atoms."""
    per_cell = len(unit_cell(lattice, a)[1])
    edge = max(round((atoms / per_cell) ** (1 / 3)), 1)
    return (edge, edge, edge)


def make_system(world, case: Case, atoms: int, precision: str) -> System:
    """The crystal of a case with Maxwell–Boltzmann velocities, forces computed."""
    share = build_lattice(world, case.lattice, case.a, case.species, cells_for(case.lattice, case.a, atoms))
    potential = potentials.load(case.potential, species=share.species, precision=precision)
    mine = Atoms(share.species, [case.mass], share.positions, share.types, share.ids)
    system = System(world, Cell(share.matrix, share.origin, share.periodic), mine, potential, skin=case.skin)
    dynamics.initialise_velocities(system, case.temperature, seed=1)
    system.update()
    system.compute()
    return system


def advance(system: System, integrator, steps: int):
    """`steps` steps of NVE as the md job makes them."""
    timers = system.world.timers
    for step in range(steps):
        with timers("integrate"):
            integrator.first_half(system, step)
        system.update()
        system.compute(energy=False, virial=False)
        with timers("integrate"):
            integrator.second_half(system, step)


def measure(world, system, case, steps, warm) -> dict:
    """One timed run of `steps` steps after `warm` steps; the slowest rank counts."""
    integrator = dynamics.NVE(case.timestep)
    advance(system, integrator, warm)
    world.barrier()
    before = {name: world.timers.seconds(name) for name in SECTIONS}
    builds = system.builds
    start, cpu = time.perf_counter(), time.process_time()
    advance(system, integrator, steps)
    cpu = time.process_time() - cpu
    world.barrier()
    wall = time.perf_counter() - start
    sections = {name: world.allreduce(world.timers.seconds(name) - before[name]) / world.size for name in SECTIONS}
    return dict(
        wall=wall,
        cpu=world.allreduce(cpu),
        builds=(system.builds - builds),
        sections=sections,
    )


def bench(world, given) -> int:
    """The command; prints a table on rank 0."""
    cases = list(CASES) + [case_of_file(p) for p in given.potential]
    if given.case == ["list"]:
        world.log("\n".join(f"{c.name:<16}{c.potential}" for c in cases))
        return 0
    chosen = choose([c.name for c in cases], given.case)
    cases = [c for c in cases if c.name in chosen]
    require_folder(given.json)
    contestants = [(c, p) for c in cases for p in (given.precision or ["double", "mixed"])]
    runs: dict = {key: [] for key in contestants}
    sizes: dict = {}
    for _ in range(given.repeat):
        for key in contestants:
            case, precision = key
            system = make_system(world, case, given.atoms, precision)
            runs[key].append(measure(world, system, case, given.steps, warm=10))
            sizes[key] = (
                system.total,
                world.allreduce(len(system.neighbours.indices)) / system.total,
                world.allreduce(system.atoms.nghost) / system.total,
                world.allreduce(resident_bytes()) / system.total,
            )
            del system
    results = []
    for (case, precision), samples in runs.items():
        atoms, neighbours, ghosts, resident = sizes[case, precision]
        unit = 1e6 * world.size / (atoms * given.steps)
        walls = [s["wall"] for s in samples]
        best = min(samples, key=lambda s: s["wall"])
        results.append(
            dict(
                case=case.name,
                potential=case.potential,
                precision=precision,
                ranks=world.size,
                atoms=atoms,
                steps=given.steps,
                us_core_min=min(walls) * unit,
                us_core_median=statistics.median(walls) * unit,
                us_cpu_min=min(s["cpu"] for s in samples) * 1e6 / (atoms * given.steps),
                atom_steps_per_second=atoms * given.steps / min(walls),
                neighbours_per_atom=neighbours,
                list_style="",
                ghosts_per_atom=ghosts,
                resident_bytes_per_atom=resident,
                builds=best["builds"],
                sections={k: v * unit / world.size for k, v in best["sections"].items()},
            )
        )
    head = (
        f"{'case':<22}{'precision':<10}{'atoms':>8}{'ranks':>6}{'µs·core/atom/step':>19}{'median':>8}{'list':>7}{'ghosts':>8}"
        f"{'builds':>7}  force neigh  halo integ  (µs·core)"
    )
    world.log(head)
    for r in results:
        s = {k: v * r["ranks"] for k, v in r["sections"].items()}
        world.log(
            f"{r['case']:<22}{r['precision']:<10}{r['atoms']:>8}{r['ranks']:>6}{r['us_core_min']:>19.3f}{r['us_core_median']:>8.3f}"
            f"{r['neighbours_per_atom']:>7.1f}{r['ghosts_per_atom']:>8.2f}{r['builds']:>7}  "
            f"{s['force']:5.3f} {s['neighbour']:5.3f} {s['halo']:5.3f} {s['integrate']:5.3f}"
        )
    write_figures(world, given.json, "md", results=results)
    return 0
