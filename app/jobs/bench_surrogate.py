"""`ostwald bench surrogate`: steps of a surrogate network beside torch's, in turns with the matrix product that bounds both.

    step                 ours: one pass over the grid, on the ranks of the run
    torch                the same network in torch (app.surrogate.network), arrays as they come
    torch-channels-last  and with channels as the fastest axis

The floor of a step is its multiplications and additions (two for each weight and point; activations are not counted) at the rate of a
matrix product of 1024² numbers in that precision, by torch, on as many threads, measured in turn with the contestants. Each repeat
runs every contestant once; minima and medians of wall time, minima of processor time of all ranks and threads. φ of all
is compared after the same steps from the same start.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ostwald.app.jobs.bench import choose, require_folder, write_figures
from ostwald.app.jobs.bench_phasefield import timed
from ostwald.app.phasefield import UniformNoise, double_well
from ostwald.app.surrogate.architecture import PRESETS
from ostwald.app.surrogate.model import Parameter, Surrogate
from ostwald.app.surrogate.rollout import RollOut

CASES = ("step", "torch", "torch-channels-last")
SIZE = 1024
"""Of the matrices."""
GRIDS = {"crane-3d": (32, 64, 128), "misfit-2d": (128, 256, 512)}


@dataclass
class Contestant:
    """run: one step. field: φ after it, of this rank."""

    run: Callable
    field: Callable


def surrogate_of(name) -> Surrogate:
    """A network of the right shape; how fast it is depends on nothing else."""
    architecture, rng = PRESETS[name], np.random.default_rng(1)
    arrays = {
        name: (rng.normal(0, 0.5, shape) / math.sqrt(max(1, math.prod(shape[1:])))).astype(np.float32)
        for name, shape in architecture.shapes().items()
    }
    parameters = tuple(Parameter(name, name, 0.0, 1.0, 0.0, 1.0) for name in architecture.parameters)
    return Surrogate(architecture, arrays, 0.5, (1.0,) * architecture.dimensions, parameters=parameters)


def ours(world, shape, surrogate, precision) -> Contestant:
    given = dict.fromkeys(surrogate.architecture.parameters, 0.4)
    solver = RollOut(world, shape, surrogate, double_well(3.0), 3.0, given, precision)
    solver.set_field(UniformNoise(shape, seed=1, mean=0.5, amplitude=0.3).source(solver.parts))
    return Contestant(solver.step, solver.field)


def torchs(world, shape, surrogate, precision, last: bool) -> Contestant:
    import torch

    from ostwald.app.surrogate.network import Network

    torch.set_num_threads(world.threads)
    network = Network(surrogate.architecture, compute=getattr(torch, precision))
    network.load(surrogate.arrays)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[len(shape)] if last else torch.contiguous_format
    phi = UniformNoise(shape, seed=1, mean=0.5, amplitude=0.3).box((0,) * len(shape), shape)
    phi = torch.from_numpy(phi.astype(np.float32))[None, None].contiguous(memory_format=layout)
    given = torch.full((1, len(surrogate.parameters)), 0.4) if surrogate.parameters else None
    state = [phi, [h.contiguous(memory_format=layout) for h in network.start(phi)]]
    tensors = {
        name: tensor.detach().contiguous(memory_format=layout) if tensor.ndim == phi.ndim else tensor.detach()
        for name, tensor in network.tensors().items()
    }

    def run():
        with torch.no_grad():
            state[0], state[1], _ = network.step(state[0], state[1], given, tensors)

    return Contestant(run, lambda: state[0][0, 0].numpy())


def product(world, precision) -> Callable:
    """A matrix product in torch, of SIZE."""
    import torch

    torch.set_num_threads(world.threads)
    a = torch.randn(SIZE, SIZE).to(getattr(torch, precision))
    return lambda: a @ a


def compete(world, names, shape, surrogate, precision, repeat) -> dict:
    """One row of the table: {name: figures}, and the rate of the product, per core."""
    contestants = {}
    for name in names:
        if name == "step":
            contestants[name] = ours(world, shape, surrogate, precision)
        else:
            contestants[name] = torchs(world, shape, surrogate, precision, name != "torch")
    multiply, times, rate = product(world, precision), {name: [] for name in names}, 0.0
    for each in contestants.values():
        each.run()
    for _ in range(repeat):
        for name, each in contestants.items():
            for _ in range(4):
                begun = time.process_time()
                multiply()
                rate = max(rate, 2 * SIZE**3 / max(time.process_time() - begun, 1e-9))
            times[name].append(timed(world, each.run))
    rate = world.allreduce(rate, "max")
    points, work = math.prod(shape), surrogate.architecture.operations * math.prod(shape)
    row = {}
    for name, pairs in times.items():
        wall, cpu = zip(*pairs)
        row[name] = dict(
            wall_ms=min(wall),
            wall_median_ms=statistics.median(wall),
            cpu_ms=min(cpu),
            nanoseconds_point=1e6 * min(cpu) / points,
            points_per_second=1e3 * points / min(wall),
            flops=1e3 * work / min(cpu),
            share=1e3 * work / min(cpu) / rate,
        )
        if "step" in contestants and name != "step":
            row[name]["difference"] = float(np.abs(contestants[name].field() - contestants["step"].field()).max())
    return dict(product_flops=rate, floor_ms=1e3 * work / rate, contestants=row)


def bench(world, given) -> int:
    """The command; prints a table on rank 0."""
    if given.case == ["list"]:
        world.log("\n".join(CASES))
        return 0
    names = choose(list(CASES), given.case)
    require_folder(given.json)
    if world.size > 1 and (absent := [name for name in names if name != "step"]):
        world.log(f"{', '.join(absent)}: left out, runs on one rank only")
        names = [name for name in names if name == "step"]
    threads, results = given.threads or [world.threads], []
    world.log(
        f"{world.size} ranks; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; ms: wall minimum, median, CPU minimum; "
        "ns of CPU a point; Gflop/s of a core; share of the matrix product's; million points × steps/s of wall time"
    )
    for network in given.network or list(PRESETS):
        surrogate = surrogate_of(network)
        for n in given.grid or GRIDS[network]:
            shape = (n,) * surrogate.architecture.dimensions
            for precision in given.precision or ["float32", "bfloat16"]:
                for world.threads in threads:
                    row = compete(world, names, shape, surrogate, precision, given.repeat)
                    head = f"{network}, {' × '.join(map(str, shape))}, {precision}, {world.size} ranks × {world.threads} threads"
                    world.log(
                        f"{head}; product {row['product_flops'] / 1e9:.0f} Gflop/s of a core, floor {row['floor_ms']:.1f} ms of CPU"
                    )
                    for name, f in row["contestants"].items():
                        line = f"  {name:<20}{f['wall_ms']:>10.1f}{f['wall_median_ms']:>10.1f}{f['cpu_ms']:>10.1f}"
                        line += f"{f['nanoseconds_point']:>9.0f}{f['flops'] / 1e9:>8.1f}{100 * f['share']:>6.0f} %"
                        line += f"{f['points_per_second'] / 1e6:>9.3f}"
                        if "difference" in f:
                            line += f"   φ differs by {f['difference']:.1e}"
                        world.log(line)
                    results.append(
                        dict(
                            network=network, grid=n, precision=precision, ranks=world.size, threads=world.threads, **row
                        )
                    )
    write_figures(world, given.json, "surrogate", load=os.getloadavg()[0], repeats=given.repeat, results=results)
    return 0
