"""`ostwald check` of a molecular-dynamics job: what it would take, without running it."""

from __future__ import annotations

import time
from math import pi

import numpy as np

from ostwald.app import dynamics
from ostwald.app.atoms.system import System
from ostwald.app.jobs import md_setup, watch
from ostwald.app.jobs.observer import Observer
from ostwald.app.jobs.progress import clock
from ostwald.app.runfile import RunFileError
from ostwald.parallel import choose_grid

SAMPLE_STEPS = 10
BASE_BYTES = 130e6
"""Interpreter, libraries and MPI of one rank."""


def plan(world, values, path, ranks=None) -> str:
    """Text: system, decomposition, memory per rank, and the time that a few measured steps extrapolate to. Collective.

    Memory: bytes of the state (100 B/atom and its ghosts), the packed copy of a force kernel and the neighbour list;
    the list length follows from density and cutoff. Time: SAMPLE_STEPS steps of the starting structure, timed here, on
    as many ranks as this command runs on, and scaled to `ranks` by atoms and ghosts.
    """
    system, grid, ranks = _decomposed(world, values, path, ranks)
    potential, cell, total = system.potential, system.cell, system.total
    edges, reach, atoms = cell.heights / np.array(grid), system.list_cutoff, total / ranks
    ghosts, neighbours, state = footprint(system, grid)
    steps = sum(md_setup.stage_steps(s) for s in values["stage"])
    lines = [
        f"system       {total} atoms, {' '.join(system.atoms.species)}; {cell.describe()}; {system.density():.4g} g/cm³",
        f"potential    {potential.describe()}",
        f"ranks        {ranks}, grid {' × '.join(map(str, grid))}, bricks {' × '.join(f'{e:.1f}' for e in edges)} Å",
        f"per rank     {atoms:.0f} atoms, about {ghosts:.0f} ghosts ({ghosts / max(atoms, 1):.2f} per atom), "
        f"{neighbours:.0f} neighbours per atom ({system.style} list)",
        f"memory       about {(BASE_BYTES + state) / 1e6:.0f} MB per rank ({state / max(atoms, 1):.0f} B/atom + {BASE_BYTES / 1e6:.0f} MB)",
    ]
    if min(edges) < reach:
        lines.append(
            f"             note: bricks are thinner than cutoff + skin ({reach:.2f} Å); ghosts come from several bricks"
        )
    for k, stage in enumerate(values["stage"], 1):
        lines.append(
            f"stage {k:<7}{stage['name'] or stage['ensemble']}: {md_setup.describe_stage(stage, md_setup.stage_steps(stage))}"
        )
    if values["analysis"]["every"]:
        lines.append(f"analysis     {Observer(values['analysis'], system.atoms.species).describe()}")
    for name in ("trigger", "stop"):
        limits = [f"{key} {values[name][key]:g}" for key in ("largest_cluster", "solid_fraction") if values[name][key]]
        if limits:
            lines.append(f"{name:<13}at {' or '.join(limits)}, from stage {values[name]['from'] or 'the last'} on")
    if any(values[name]["every"] for name in watch.SCHEMA):
        lines.append(f"watched      {watch.describe(values)}")
    rate = _sample(world, system, values)
    wall = rate * steps * (atoms + 0.15 * ghosts) / max(system.atoms.n + 0.15 * system.atoms.nghost, 1)
    lines.append(
        f"time         {steps} steps, about {clock(wall)} on {ranks} ranks like this one ({1e3 * wall / max(steps, 1):.3g} ms/step)"
    )
    every, interval = values["checkpoint"]["every"], values["checkpoint"]["interval"]
    lines.append(f"checkpoint   {124 * total / 1e6:.1f} MB, every {f'{every} steps' if every else f'{interval:g} s'}")
    if values["trajectory"]["every"]:
        frames = steps // values["trajectory"]["every"]
        size = total * (12 if values["trajectory"]["precision"] == "single" else 24) * frames
        lines.append(f"trajectory   {frames} frames, about {size / 1e6:.1f} MB of positions")
    return "\n".join(lines)


def memory(world, values, path, ranks) -> float:
    """Bytes of a rank, as `plan` tells them, without a step. Collective."""
    system, grid, _ = _decomposed(world, values, path, ranks)
    return BASE_BYTES + footprint(system, grid)[-1]


def _decomposed(world, values, path, ranks):
    """The system on the ranks at hand, the grid of bricks of the ranks that are planned for, and their number."""
    grid = values["parallel"]["grid"]
    ranks = ranks or (int(np.prod(grid)) if grid else world.size)
    if ranks < 1:
        raise RunFileError(f"--ranks must be at least 1, got {ranks}")
    if grid and np.prod(grid) != ranks:
        raise RunFileError(f"{path}: [parallel] grid: {' × '.join(map(str, grid))} bricks do not match {ranks} ranks")
    # what is measured here runs on the ranks at hand, in any grid
    system = md_setup.build_system(world, {**values, "parallel": {**values["parallel"], "grid": None}}, path)
    cell = system.cell
    return system, grid or choose_grid(ranks, tuple(cell.heights), tuple(cell.periodic)), ranks


def footprint(system, grid) -> tuple[float, float, float]:
    """Of one rank of a grid of bricks: ghosts, neighbours of an atom, bytes of the state."""
    cell, reach, atoms = system.cell, system.list_cutoff, system.total / np.prod(grid)
    edges = cell.heights / np.array(grid)
    expanded = np.prod(np.where(cell.periodic | (np.array(grid) > 1), edges + 2 * reach, edges)) / np.prod(edges)
    ghosts = atoms * (expanded - 1.0)
    density = system.total / cell.volume
    neighbours = density * 4 / 3 * pi * reach**3 * (0.5 if system.style == "half" else 1.0)
    return ghosts, neighbours, 124 * atoms + 60 * ghosts + 32 * (atoms + ghosts) + 4.2 * neighbours * atoms


def _sample(world, system: System, values) -> float:
    """Seconds per step, measured."""
    moving = [s for s in values["stage"] if s["ensemble"] != "minimise"]
    dt = moving[0]["timestep"] if moving else 0.001
    temperature = next((s["temperature"] for s in moving if s["temperature"]), None)
    if isinstance(temperature, tuple):
        temperature = max(temperature)
    temperature = temperature or next((s["velocities"] for s in moving if s["velocities"]), None) or 300.0
    dynamics.initialise_velocities(system, temperature, seed=1)
    integrator = dynamics.NVE(dt)
    system.update()
    system.compute()
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        for step in range(SAMPLE_STEPS):
            integrator.first_half(system, step)
            system.update()
            system.compute(energy=False, virial=True)
            integrator.second_half(system, step)
        best = min(best, (time.perf_counter() - start) / SAMPLE_STEPS)
    return float(world.allreduce(best, op="max"))
