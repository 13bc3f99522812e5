"""`ostwald bench phasefield --solution`: how long each method takes to the same time with the same error, in the same periodic box.

From one evolved field (ε = 3, spacing 1, φ about ½) every method goes on for a time with steps, or a tolerance, that are halved until the
root mean square error of φ at the end is at most --error; then it is timed, in turns with the others. Errors are those of the steps: against
what the method tends to on this grid, which for the spectral methods are steps of second order 4096 times shorter than the run, for
differences explicit steps extrapolated to length 0. How far these two solutions are apart is told, too: that is the error of differences in space.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ostwald.app.jobs.bench import choose, require_folder, write_figures
from ostwald.app.jobs.bench_phasefield import EPSILON, timed
from ostwald.app.phasefield import (
    Adaptive,
    CahnHilliard,
    Diverged,
    FiniteDifference,
    Implicit,
    SecondOrder,
    UniformNoise,
    double_well,
)

BEGIN, LENGTH = {2: 20.0, 3: 5.0}, {2: 20.0, 3: 5.0}
"""Time of the field that all start from, and how long they go on, in two and in three dimensions."""
HALVINGS = 14


def steps_of(solver, length, dt):
    count = math.ceil(length / dt * (1 - 1e-9))
    solver.step(length / count, count)


def steps_within(solver, length, tolerance):
    steps, end = Adaptive(solver, tolerance), solver.time + length
    while solver.time < end:
        steps.step(end)


@dataclass(frozen=True)
class Method:
    """make: a solver of these arguments. advance(solver, length, setting); first: the setting to start with, None: the longest stable step."""

    make: Callable
    advance: Callable
    first: float | None
    unit: str

    @property
    def spectral(self) -> bool:
        return issubclass(self.make, CahnHilliard)


METHODS = {
    "spectral, order 1": Method(CahnHilliard, steps_of, 0.2, "dt"),
    "spectral, order 2": Method(SecondOrder, steps_of, 0.4, "dt"),
    "spectral, tolerance": Method(SecondOrder, steps_within, 0.04, "tolerance"),
    "explicit": Method(FiniteDifference, steps_of, None, "dt"),
    "petsc": Method(Implicit, steps_of, 3.2, "dt"),
    "petsc, tolerance": Method(Implicit, steps_within, 0.32, "tolerance"),
}


def rms(world, field) -> float:
    square, count = world.allreduce(np.array([float(np.sum(np.square(field))), float(field.size)]))
    return math.sqrt(square / count)


def evolved(world, shape, make, phi, length, advance, setting):
    solver = make(world, shape, double_well(EPSILON), EPSILON)
    solver.set_field(phi)
    advance(solver, length, setting)
    field = np.array(solver.field())
    solver.close()
    return field


def exact(world, shape, phi, length):
    """(of the spectral methods, of differences)"""
    spectral = evolved(world, shape, SecondOrder, phi, length, steps_of, length / 4096)
    solver = FiniteDifference(world, shape, double_well(EPSILON), EPSILON)
    one, two = (evolved(world, shape, FiniteDifference, phi, length, steps_of, solver.longest_step / k) for k in (2, 4))
    solver.close()
    return spectral, 2 * two - one


def compete(world, names, shape, error, repeat) -> dict:
    """One row of the table: how far the exact solutions are apart, {name: figures}."""
    axes = len(shape)
    length = LENGTH[axes]
    noise = UniformNoise(shape, seed=1, mean=0.5, amplitude=0.1)
    first = CahnHilliard(world, shape, double_well(EPSILON), EPSILON)
    phi = evolved(world, shape, CahnHilliard, noise.source(first.parts), BEGIN[axes], steps_of, 0.01)
    first.close()
    ends = exact(world, shape, phi, length)
    found, runs = {}, {}
    for name in names:
        method = METHODS[name]
        solver = method.make(world, shape, double_well(EPSILON), EPSILON)
        setting = method.first or solver.longest_step
        for _ in range(HALVINGS):
            solver.set_field(phi)
            try:
                method.advance(solver, length, setting)
                off = rms(world, solver.field() - ends[0 if method.spectral else 1])
            except Diverged:
                off = math.inf
            if off <= error:
                break
            setting *= 0.5
        found[name] = dict(setting=setting, unit=method.unit, steps=solver.steps, error=off)
        runs[name] = (solver, method, setting)
    times = {name: [] for name in names}

    def run(solver, method, setting):
        solver.set_field(phi)
        method.advance(solver, length, setting)

    for _ in range(repeat):
        for name, given in runs.items():
            times[name].append(timed(world, lambda given=given: run(*given)))
    for name, pairs in times.items():
        wall, cpu = zip(*pairs)
        found[name] |= dict(wall_ms=min(wall), wall_median_ms=statistics.median(wall), cpu_ms=min(cpu))
        runs[name][0].close()
    return dict(length=length, apart=rms(world, ends[0] - ends[1]), methods=found)


def bench(world, given) -> int:
    """The command; prints a table on rank 0."""
    if given.case == ["list"]:
        world.log("\n".join(METHODS))
        return 0
    names = choose(list(METHODS), given.case)
    require_folder(given.json)
    if given.threads:
        world.threads = given.threads[0]
    squares, cubes = (given.square, given.grid) if given.square or given.grid else ([64, 128], [48])
    shapes = [(n, n) for n in squares or []] + [(n, n, n) for n in cubes or []]
    results = []
    for shape in shapes:
        row = compete(world, names, shape, given.error, given.repeat)
        world.log(
            f"{shape[0]}{'²³'[len(shape) - 2]}, {world.size} ranks × {world.threads} threads, {row['length']:g} units of time to an error of "
            f"{given.error:g}; differences and waves are {row['apart']:.1e} apart"
        )
        best = min(f["cpu_ms"] for f in row["methods"].values())
        for name, f in row["methods"].items():
            world.log(
                f"  {name:<20}{f['steps']:>7} steps, {f['unit']} {f['setting']:<9.3g} error {f['error']:.1e} {f['wall_ms']:>10.1f} ms wall"
                f"{f['cpu_ms']:>10.1f} ms CPU{f['cpu_ms'] / best:>7.1f} ×"
            )
        results.append(dict(shape=shape, ranks=world.size, threads=world.threads, error=given.error, **row))
    write_figures(world, given.json, "phasefield-solution", repeats=given.repeat, results=results)
    return 0
