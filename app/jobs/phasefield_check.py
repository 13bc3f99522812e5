"""What a phase-field run would take: memory, time, messages, files (`ostwald check`)."""

from __future__ import annotations

import math
import time

import numpy as np

from ostwald.app.jobs.phasefield_grid import check_parts, footprint
from ostwald.app.jobs.phasefield_schema import TABLES
from ostwald.app.jobs.phasefield_setup import build, check_finite, initial_field, precision
from ostwald.app.jobs.phasefield_stages import adaptive, described, stage_steps, stage_time
from ostwald.app.jobs.progress import clock
from ostwald.app.jobs.runfiles import read_run_file
from ostwald.app.jobs.schedule import Schedule
from ostwald.app.phasefield import quantities
from ostwald.app.phasefield.adaptive import fastest_growth_time
from ostwald.app.runfile import RunFileError

BASE_BYTES = 80e6
"""Interpreter, libraries and MPI of one rank."""
NETWORK = 12.5e9
"""Bytes a second that `check` assumes between nodes: 100 Gbit/s."""
SAMPLE = 128**3
"""Points of the grid on which `check` times a few steps."""


def plan(world, path, ranks=None) -> int:
    """Collective. Validates a run file and prints what it would take: memory of a rank, time from a few steps measured here."""
    values, needs, ranks = _decomposed(world, path, ranks)
    shape, dtype = values["grid"]["shape"], precision(values)
    points, (p0, p1) = math.prod(shape), needs.ranks
    small = _small(shape)
    alone = world if world.size == 1 else world.split(world.rank)
    solver = build(alone, values, path, shape=small)
    check_finite(initial_field(values, path, tuple(shape), solver.spacing), values, path)
    seconds = world.allreduce(seconds_of_a_step(solver, values), "max")
    steps = sum(stage_steps(stage) for stage in values["stage"])
    factor = needs.work(points) / needs.work(solver.points) / ranks
    world.log(f"grid         {' × '.join(map(str, shape))} points, {dtype.name}, spacing {values['grid']['spacing']}")
    world.log(f"ranks        {ranks}, {'slabs' if p1 == 1 else 'pencils'}, {p0} × {p1} parts")
    world.log(f"memory       about {_memory(needs, solver, ranks) / 1e6:.0f} MB per rank")
    for k, stage in enumerate(values["stage"], 1):
        world.log(f"stage {k:<7}{stage['name'] or k}: {described(stage)}")
    each = f"{1e3 * seconds * factor:.3g} ms/step, from {' × '.join(map(str, small))} points"
    if any(adaptive(stage) for stage in values["stage"]):
        world.log(f"time         {each}; how many steps a tolerance takes shows as the run goes")
    else:
        time_taken = clock(seconds * factor * steps)
        world.log(f"time         {steps} steps, about {time_taken} on {ranks} ranks like this one ({each})")
    if ranks > 1 and values["solver"]["method"] == "spectral":
        world.log(f"messages     {messages(needs.checkpoint / ranks, p0, p1)}")
    every, interval = values["checkpoint"]["every"], values["checkpoint"]["interval"]
    if frames := Schedule(values["fields"]).count(steps, sum(stage_time(stage) for stage in values["stage"])):
        size = points * (4 if values["fields"]["precision"] == "single" else 8)
        size *= len(quantities.components(solver, values["fields"]["names"]))
        packed = " before compression" * (values["fields"]["compression"] != "none")
        world.log(f"fields       {frames} frames, {frames * size / 1e6:.1f} MB{packed}")
    saved = needs.checkpoint * (1 + (2 * len(shape) if solver.equilibrium is not None else 0))
    world.log(f"checkpoint   {saved / 1e6:.1f} MB, every {f'{every} steps' if every else f'{interval:g} s'}")
    return 0


def memory(world, path, ranks) -> float:
    """Collective. Validates a run file; bytes of a rank, as `plan` tells them, without a step."""
    values, needs, ranks = _decomposed(world, path, ranks)
    alone = world if world.size == 1 else world.split(world.rank)
    return _memory(needs, build(alone, values, path, shape=_small(values["grid"]["shape"])), ranks)


def _decomposed(world, path, ranks):
    """Values of the run file, what the ranks that are planned for need, and their number."""
    values = read_run_file(world, path, TABLES)
    grid = values["parallel"]["grid"]
    ranks = ranks or (math.prod(grid) if grid else world.size)
    check_parts(values, path, ranks)
    try:
        return values, footprint(values, precision(values), ranks, grid), ranks
    except ValueError as error:
        raise RunFileError(f"{path}: [grid]: {error}") from None


def _small(shape) -> list[int]:
    """A grid of the same proportions, near enough, on which steps can be timed at once."""
    small = list(shape)
    while math.prod(small) > SAMPLE:
        k = small.index(max(small))
        small[k] //= next((p for p in (2, 3, 5, 7) if small[k] % p == 0), 2)
    return small


def _memory(needs, solver, ranks) -> float:
    more = solver.elasticity.arrays if solver.equilibrium is not None else 0
    return BASE_BYTES + (needs.memory + more * needs.checkpoint) / ranks


def messages(share: float, p0: int, p1: int) -> str:
    """What the ranks of a transform send each other in a step; share: bytes of a rank's spectrum.

    Rows go from planes to columns and back, and in pencils twice along the planes: each time all but the rank's own part.
    """
    across, along = (2 * share * (1 - 1 / p) for p in (p0, p1))
    sent = across + along
    here = "nothing" if p1 == 1 else f"{along / 1e6:.3g} MB a step from each rank"
    return (
        f"within a node {here} (planes lie in shared memory); each rank on a node of its own {sent / 1e6:.3g} MB a step, "
        f"{1e3 * sent / NETWORK:.3g} ms at 100 Gbit/s, on top of the time above"
    )


def seconds_of_a_step(solver, values) -> float:
    """The best of a few, from noise about the middle of the spinodal range."""
    middle = np.mean(solver.well.spinodal() or [solver.well.centre])
    rng = np.random.default_rng(1)
    solver.set_field(lambda first, last: rng.normal(middle, 0.01, (last - first, *solver.parts.local[1:])))
    dt, best = values["stage"][0]["timestep"] or 0.01 * fastest_growth_time(solver), math.inf
    for _ in range(5):
        start = time.perf_counter()
        solver.step(dt)
        best = min(best, time.perf_counter() - start)
    return best
