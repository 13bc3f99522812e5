#!/usr/bin/env python3
"""One million EAM atoms: speed, resident memory, time and size of a checkpoint and of a trajectory frame.

usage: [mpirun -n N] python benchmarks/million_atoms.py [--potential zhou:Cu] [--precision mixed] [--json FILE]
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from ostwald.app.jobs import bench_md
from ostwald.app.jobs.timing import resident_bytes
from ostwald.io.checkpoint import read_checkpoint, write_checkpoint
from ostwald.parallel import World


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--potential", default="zhou:Cu")
    options.add_argument("--atoms", type=int, default=1_000_188)
    options.add_argument("--directory", help="where the checkpoint goes (default: the temporary folder)")
    options.add_argument("--precision", default="double", choices=("double", "mixed"))
    options.add_argument("--json")
    given = options.parse_args()
    world = World()
    case = next((c for c in bench_md.CASES if c.potential == given.potential), None) or bench_md.case_of_file(
        given.potential
    )
    begin = time.perf_counter()
    system = bench_md.make_system(world, case, given.atoms, given.precision)
    built = time.perf_counter() - begin
    steps = 20
    figures = bench_md.measure(world, system, case, steps, warm=3)
    system.invalidate()
    begin = time.perf_counter()
    system.update()
    rebuild = time.perf_counter() - begin
    resident = world.allreduce(resident_bytes()) / system.total
    folder = Path(world.bcast(tempfile.mkdtemp(dir=given.directory) if world.root else None))
    arrays, meta = system.checkpoint()
    begin = time.perf_counter()
    path = write_checkpoint(folder, world, arrays, meta, 1)
    written = time.perf_counter() - begin
    begin = time.perf_counter()
    read_checkpoint(folder, world)
    read = time.perf_counter() - begin
    size = path.stat().st_size
    world.barrier()
    if world.root:
        shutil.rmtree(folder)
    row = dict(
        potential=given.potential, precision=given.precision, ranks=world.size, atoms=system.total, build_seconds=built,
        us_core_per_atom_step=1e6 * figures["wall"] * world.size / (steps * system.total), rebuild_seconds=rebuild,
        resident_bytes_per_atom=resident, checkpoint_seconds=written, checkpoint_read_seconds=read, checkpoint_bytes=size,
    )  # fmt: skip
    world.log(
        f"{given.potential} {given.precision}, {world.size} ranks: {system.total} atoms built in {built:.2f} s; "
        f"{row['us_core_per_atom_step']:.3f} µs·core/atom/step; list rebuilt in {rebuild:.2f} s; "
        f"{resident:.0f} B/atom resident in all; checkpoint {size / 1e6:.0f} MB written and synced in {written:.2f} s, "
        f"read and verified in {read:.2f} s"
    )
    if given.json and world.root:
        Path(given.json).write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
