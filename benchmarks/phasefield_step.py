#!/usr/bin/env python3
"""The semi-implicit Cahn–Hilliard step beside raw FFTW and scipy (one r2c and one c2r of the same grid), interleaved.

Wall milliseconds (minimum and median over repeats) and CPU milliseconds of all threads (minimum). On a machine that does other work
only the CPU time means something. FFTW comes with `pip install pyfftw`, planned with FFTW_MEASURE, in place as its users run
it for large grids: padded rows, one plan each way. A step of ours does both transforms, the pointwise work, and the new spectrum.

usage: phasefield_step.py [--grids 64 128 256] [--threads 1 2] [--repeat 7] [--precision double single] [--json FILE]
       mpirun -n 2 phasefield_step.py --threads 1 ...      # ours on ranks (FFTW and scipy only where there is one rank)
"""

import argparse
import json
import os
import resource
import statistics
import time

import numpy as np

from ostwald.app.phasefield import CahnHilliard, double_well
from ostwald.parallel import World


def fftw(n, dtype, threads):
    """Both transforms of FFTW, in place."""
    import pyfftw

    padded = pyfftw.empty_aligned((n, n, n // 2 + 1), dtype=np.result_type(dtype, np.complex64))
    real = padded.view(dtype)[:, :, :n]
    given = dict(axes=(0, 1, 2), threads=threads, flags=("FFTW_MEASURE", "FFTW_DESTROY_INPUT"))
    there = pyfftw.FFTW(real, padded, direction="FFTW_FORWARD", **given)
    back = pyfftw.FFTW(padded, real, direction="FFTW_BACKWARD", normalise_idft=False, **given)
    padded[:] = 0
    real[:] = 0.001

    def run():
        there.execute()
        back.execute()

    return run


def scipy_fft(n, dtype, threads):
    import scipy.fft

    field = np.full((n, n, n), 0.001, dtype)

    def run():
        scipy.fft.irfftn(scipy.fft.rfftn(field, workers=threads), (n, n, n), workers=threads, overwrite_x=True)

    return run


def ours(world, n, dtype, threads):
    world.threads = threads
    solver = CahnHilliard(world, (n, n, n), double_well(3.0), 3.0, dtype=dtype)
    rng = np.random.default_rng(world.rank)
    solver.set_field(
        lambda first, last: 0.5 + 0.05 * rng.standard_normal((last - first, *solver.fourier.local[1:]), dtype)
    )

    def run():
        world.threads = threads
        solver.step(0.02)

    return solver, run


def measured(world, run, times):
    world.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    world.barrier()
    times.append((time.perf_counter() - wall, world.allreduce(time.process_time() - cpu)))


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--grids", type=int, nargs="+", default=[64, 128, 256])
    given.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given.add_argument("--repeat", type=int, default=7)
    given.add_argument("--precision", nargs="+", default=["double", "single"])
    given.add_argument("--peers", nargs="*", default=["FFTW", "scipy"])
    given.add_argument("--json")
    given = given.parse_args()
    world, rows = World(threads=1), []
    world.log(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for precision in given.precision:
        dtype = np.dtype(np.float64 if precision == "double" else np.float32)
        for n in given.grids:
            for threads in given.threads:
                solver, step = ours(world, n, dtype, threads)
                contestants = {"step": step}
                makers = {"FFTW": fftw, "scipy": scipy_fft} if world.size == 1 else {}
                for name, make in makers.items():
                    if name in given.peers:
                        contestants[name] = make(n, dtype, threads)
                times = {name: [] for name in contestants}
                for run in contestants.values():
                    run()
                for _ in range(given.repeat):
                    for name, run in contestants.items():
                        measured(world, run, times[name])
                row = dict(precision=precision, grid=n, ranks=world.size, threads=threads)
                row["MiB"] = round(world.allreduce(solver.fourier.nbytes + solver.spectrum.nbytes) / 2**20)
                for name, pairs in times.items():
                    wall, cpu = zip(*pairs)
                    row[name] = dict(
                        wall=min(wall) * 1e3, median=statistics.median(wall) * 1e3, cpu=min(cpu) * 1e3
                    )  # fmt: skip
                row["ns_core_per_cell"] = row["step"]["cpu"] * 1e6 / n**3
                rows.append(row)
                text = f"{precision} {n}³ {world.size} x {threads}: {row['MiB']} MiB"
                for name in times:
                    t = row[name]
                    text += f" | {name} wall {t['wall']:.1f} ({t['median']:.1f}) cpu {t['cpu']:.1f} ms"
                world.log(text)
                solver.close()
                del solver, step, contestants
    world.log(f"load average at the end: {os.getloadavg()[0]:.1f}")
    if given.json and world.root:
        report = dict(unit="ms", load=os.getloadavg(), cores=os.cpu_count(), repeat=given.repeat, rows=rows)
        report["resident_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
