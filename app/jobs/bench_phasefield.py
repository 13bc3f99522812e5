"""`ostwald bench phasefield`: the spectral Cahn–Hilliard step beside what others offer, on the same grid, in turns.

    step           one semi-implicit step of ours: two transforms, all pointwise work, the new spectrum
    FFTW           raw r2c and c2r of FFTW in place (pyfftw, FFTW_MEASURE), nothing else: what a step must cost at least with it
    scipy          rfftn and irfftn of scipy.fft
    pyfftw+numba   the same step as a Python user writes it best: spectrum kept, FFTW, fused numba passes
    mpi4py-fft     raw r2c and c2r of mpi4py-fft, on the ranks of the run

Each repeat runs every contestant once; wall time and processor time of all ranks and threads, minimum and median. What is not
installed, or cannot run on several ranks, is left out and named. The floors are those of this machine, measured before: bytes that
a fused step must move over the rate of an update in place, and its arithmetic over the rate of a matrix product.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from ostwald.app.jobs.bench import choose, require_folder, write_figures
from ostwald.app.phasefield import CahnHilliard, UniformNoise, double_well

EPSILON, STEP = 3.0, 0.02
PAUSE = 0.05
"""Seconds before each run: threads of OpenMP spin for a while after the one before."""
TRAFFIC = 6
"""Numbers a cell and step: planes read and written, columns of planes and of the spectrum read and written."""


@dataclass
class Contestant:
    """run: one step, or one pair of transforms. field: φ after it, or None. close: gives memory back.

    nbytes: of all its arrays on this rank, 0 where it does not tell.
    """

    run: Callable
    field: Callable | None = None
    close: Callable = lambda: None
    nbytes: int = 0


def initial(shape):
    return UniformNoise(shape, seed=1, mean=0.5, amplitude=0.05)


def step(world, shape, dtype):
    solver = CahnHilliard(world, shape, double_well(EPSILON), EPSILON, dtype=dtype)
    solver.set_field(initial(shape).source(solver.fourier))
    return Contestant(
        lambda: solver.step(STEP), solver.field, solver.close, solver.fourier.nbytes + solver.spectrum.nbytes
    )


def threads_here() -> int:
    return len(os.sched_getaffinity(0))


def plans(shape, dtype, threads):
    """(real, complex, forth, back) of FFTW in place: padded rows, one plan each way."""
    os.environ["OMP_NUM_THREADS"] = str(
        threads_here()
    )  # its OpenMP reads it once, on import, and gives no plan more threads
    import pyfftw

    n = shape[-1]
    waves = pyfftw.empty_aligned((*shape[:-1], n // 2 + 1), dtype=np.result_type(dtype, np.complex64))
    real = waves.view(dtype)[..., :n]
    given = dict(axes=(0, 1, 2), threads=threads, flags=("FFTW_MEASURE", "FFTW_DESTROY_INPUT"))
    forth = pyfftw.FFTW(real, waves, direction="FFTW_FORWARD", **given)
    back = pyfftw.FFTW(waves, real, direction="FFTW_BACKWARD", normalise_idft=False, **given)
    waves[:] = 0
    return real, waves, forth, back


def fftw(world, shape, dtype):
    _, _, forth, back = plans(shape, dtype, world.threads)

    def run():
        forth.execute()
        back.execute()

    return Contestant(run)


def scipy_fft(world, shape, dtype):
    import scipy.fft

    field, threads = np.full(shape, 0.001, dtype), world.threads

    def run():
        scipy.fft.irfftn(scipy.fft.rfftn(field, workers=threads), shape, workers=threads, overwrite_x=True)

    return Contestant(run)


def pyfftw_numba(world, shape, dtype):
    import numba

    real, waves, forth, back = plans(shape, dtype, world.threads)
    numba.set_num_threads(min(world.threads, numba.config.NUMBA_NUM_THREADS))
    points, one = math.prod(shape), dtype.type(1)
    x, y = (2 * np.pi * np.fft.fftfreq(n) for n in shape[:2])
    z = 2 * np.pi * np.fft.rfftfreq(shape[2])
    xx, yy, zz = ((k * k).astype(dtype) for k in (x, y, z))
    rate, stiff, height = dtype.type(STEP), dtype.type(EPSILON), dtype.type(36 / EPSILON)

    @numba.njit(parallel=True, fastmath=True)
    def slope(c):
        for i in numba.prange(c.shape[0]):
            for j in range(c.shape[1]):
                for k in range(c.shape[2]):
                    u = c[i, j, k]
                    c[i, j, k] = height * u * (one - u) * (one - u - u)

    @numba.njit(parallel=True, fastmath=True)
    def update(spectrum, g, scale):
        for i in numba.prange(g.shape[0]):
            for j in range(g.shape[1]):
                for k in range(g.shape[2]):
                    q = rate * (xx[i] + yy[j] + zz[k])
                    c = (spectrum[i, j, k] - q * scale * g[i, j, k]) / (one + q * stiff * (xx[i] + yy[j] + zz[k]))
                    spectrum[i, j, k] = c
                    g[i, j, k] = c

    scale = dtype.type(1 / points)
    real[:] = initial(shape).box((0, 0, 0), shape)
    forth.execute()
    spectrum = waves * scale
    waves[:] = spectrum
    back.execute()

    def run():
        slope(real)
        forth.execute()
        update(spectrum, waves, scale)
        back.execute()

    return Contestant(run, lambda: real)


def mpi4py_fft(world, shape, dtype):
    from mpi4py_fft import PFFT, newDistArray

    plan = PFFT(world.comm, shape, axes=(0, 1, 2), dtype=dtype.char)
    field, waves = newDistArray(plan, False), newDistArray(plan, True)
    field[:] = 0.001

    def run():
        plan.forward(field, waves)
        plan.backward(waves, field)

    return Contestant(run, close=plan.destroy)


@dataclass(frozen=True)
class Entry:
    """make(world, shape, dtype) -> Contestant; the packages it needs; whether it runs on several ranks."""

    make: Callable
    needs: tuple[str, ...] = ()
    ranks: bool = False


CASES = {
    "step": Entry(step, ranks=True),
    "FFTW": Entry(fftw, ("pyfftw",)),
    "scipy": Entry(scipy_fft, ("scipy",)),
    "pyfftw+numba": Entry(pyfftw_numba, ("pyfftw", "numba")),
    "mpi4py-fft": Entry(mpi4py_fft, ("mpi4py_fft",), ranks=True),
}


def rates(dtype) -> tuple[float, float]:
    """Of one core: bytes/s of an update in place (too large for any cache), flops/s of a matrix product."""
    best_copy = best_product = 0.0
    field, a = np.zeros(1 << 26, dtype), np.ones((1024, 1024), dtype)
    for _ in range(5):
        begun = time.process_time()
        np.add(field, 1, out=field)
        best_copy = max(best_copy, 2 * field.nbytes / (time.process_time() - begun))
        begun = time.process_time()
        a @ a
        best_product = max(best_product, 2 * len(a) ** 3 / (time.process_time() - begun))
    return best_copy, best_product


def floors(points, dtype, bandwidth, flops) -> tuple[float, float]:
    """Processor milliseconds that a fused step needs for its bytes and for its arithmetic."""
    work = points * (5 * math.log2(points) + 25)
    return 1e3 * TRAFFIC * dtype.itemsize * points / bandwidth, 1e3 * work / flops


def timed(world, run) -> tuple[float, float]:
    """Wall and processor milliseconds of a run; those of all ranks."""
    time.sleep(PAUSE)
    world.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    world.barrier()
    return 1e3 * (time.perf_counter() - wall), 1e3 * world.allreduce(time.process_time() - cpu)


def compete(world, names, shape, dtype, repeat) -> dict:
    """One row of the table: {name: figures}."""
    contestants = {name: CASES[name].make(world, shape, dtype) for name in names}
    times = {name: [] for name in names}
    for each in contestants.values():
        each.run()
    for _ in range(repeat):
        for name, each in contestants.items():
            times[name].append(timed(world, each.run))
    row = {}
    for name, pairs in times.items():
        wall, cpu = zip(*pairs)
        row[name] = dict(wall_ms=min(wall), wall_median_ms=statistics.median(wall), cpu_ms=min(cpu))
        if contestants[name].nbytes:
            row[name]["bytes"] = world.allreduce(contestants[name].nbytes)
    if "step" in contestants:
        mine = contestants["step"].field()
        for name, each in contestants.items():
            if each.field is not None and name != "step":
                row[name]["difference"] = float(np.abs(each.field() - mine).max())
    for each in contestants.values():
        each.close()
    return row


def bench(world, given) -> int:
    """The command; prints a table on rank 0."""
    if given.solution:
        from ostwald.app.jobs import bench_solution  # which takes from here

        return bench_solution.bench(world, given)
    if given.case == ["list"]:
        world.log("\n".join(CASES))
        return 0
    names = choose(list(CASES), given.case)
    require_folder(given.json)
    absent = {name: [p for p in CASES[name].needs if find_spec(p) is None] for name in names}
    for name in list(names):
        if absent[name]:
            world.log(f"{name}: left out, {' and '.join(absent[name])} not installed")
        elif world.size > 1 and not CASES[name].ranks:
            world.log(f"{name}: left out, it runs on one rank only")
        else:
            continue
        names.remove(name)
    threads = given.threads or [world.threads]
    results = []
    world.log(
        f"{world.size} ranks; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; ms: wall minimum, median, CPU minimum"
    )
    for precision in given.precision or ["double", "single"]:
        dtype = np.dtype(np.float64 if precision == "double" else np.float32)
        bandwidth, flops = rates(dtype)
        world.log(
            f"{precision}: {bandwidth / 1e9:.0f} GB/s update in place, {flops / 1e9:.0f} Gflop/s matrix product, of one core"
        )
        for n in given.grid or [64, 128, 256]:
            moving, computing = floors(n**3, dtype, bandwidth, flops)
            for count in threads:
                world.threads = count
                row = compete(world, names, (n, n, n), dtype, given.repeat)
                world.log(
                    f"{n}³ {precision}, {world.size} ranks × {count} threads; floors of CPU time: bytes {moving:.2f}, "
                    f"arithmetic {computing:.2f} ms"
                )
                for name, f in row.items():
                    ratio = f["wall_ms"] / row["step"]["wall_ms"] if "step" in row else math.nan
                    line = f"  {name:<14}{f['wall_ms']:>10.2f}{f['wall_median_ms']:>10.2f}{f['cpu_ms']:>10.2f}{ratio:>7.2f} ×"
                    if "difference" in f:
                        line += f"   φ differs by {f['difference']:.1e}"
                    if "bytes" in f:
                        line += f"   {f['bytes'] / 2**20:.0f} MiB"
                    world.log(line)
                results.append(
                    dict(
                        grid=n, precision=precision, ranks=world.size, threads=count, floor_bytes_ms=moving, floor_flops_ms=computing, contestants=row,
                    )
                )  # fmt: skip
    write_figures(world, given.json, "phasefield", load=os.getloadavg()[0], repeats=given.repeat, results=results)
    return 0
