#!/usr/bin/env python3
"""Mass of a Cahn–Hilliard run over many steps: the mean of φ that the solver keeps, and the mean summed anew over the grid.

usage: [mpirun -n N] python benchmarks/phasefield_mass.py [--points 48] [--steps 100000] [--json FILE]

Double and single precision, first- and second-order steps of 0.05 from noise about φ = 0.45 (ε = 3, M = 1, spacing 1).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from ostwald.app.phasefield import CahnHilliard, SecondOrder, UniformNoise, double_well
from ostwald.parallel import World


def grid_mean(solver) -> float:
    """Of the field as it comes back from the spectrum, summed in double precision."""
    total = sum(float(piece.sum(dtype=np.float64)) for _, _, piece in solver.pieces())
    return solver.world.allreduce(total) / solver.points


def drift(world, solver_class, dtype, points, steps) -> dict:
    shape = (points,) * 3
    solver = solver_class(world, shape, double_well(3.0), 3.0, dtype=dtype)
    solver.set_field(UniformNoise(shape, seed=1, mean=0.45, amplitude=0.1).source(solver.parts))
    kept, summed, begun = solver.mean, grid_mean(solver), time.process_time()
    solver.step(0.05, steps)
    found = dict(
        solver=solver_class.__name__,
        dtype=np.dtype(dtype).name,
        steps=steps,
        mean=kept,
        kept_changed_by=solver.mean - kept,
        grid_changed_by=grid_mean(solver) - summed,
        cpu_seconds=time.process_time() - begun,
    )
    solver.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=48, help="along each axis")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    world, results = World(), []
    for solver_class in (CahnHilliard, SecondOrder):
        for dtype in (np.float64, np.float32):
            results.append(drift(world, solver_class, dtype, options.points, options.steps))
            r = results[-1]
            world.log(
                f"{r['solver']:<13} {r['dtype']}: {r['steps']} steps of {options.points}³, kept mean {r['kept_changed_by']:+.1e}, "
                f"mean over the grid {r['grid_changed_by']:+.1e}, {r['cpu_seconds']:.0f} s of CPU"
            )
    if options.json and world.root:
        options.json.write_text(json.dumps(dict(points=options.points, results=results), indent=1) + "\n")


if __name__ == "__main__":
    main()
