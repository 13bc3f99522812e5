"""The command line: ostwald run | resume | check | submit | status | learning-rate | info | convert | bench | nucleation | report.

Only the standard library is imported here, so that help and usage errors answer at once; a command imports what it needs.
"""

from __future__ import annotations

import argparse
import sys


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    try:
        if (number := int(text)) > 0:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"takes a whole number above 0, not {text!r}")


def above_zero(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        if (number := float(text)) > 0:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"takes a number above 0, not {text!r}")


def _add_bench(commands):
    bench = commands.add_parser("bench", help="measure the speed of this machine and build")
    kinds = bench.add_subparsers(dest="what", metavar="KIND", required=True)
    kind = {
        "md": kinds.add_parser("md", help="molecular dynamics with classical potentials"),
        "hdnnp": kinds.add_parser("hdnnp", help="molecular dynamics with neural-network potentials"),
        "analysis": kinds.add_parser("analysis", help="structure analyses, beside OVITO and freud"),
        "phasefield": kinds.add_parser("phasefield", help="the Cahn–Hilliard step, beside FFTW, scipy, mpi4py-fft"),
        "surrogate": kinds.add_parser("surrogate", help="steps of a surrogate network, beside torch"),
        "training": kinds.add_parser(
            "training", help="training of potentials, on 1, 2, 4 … ranks, and what a cluster takes"
        ),
    }
    for one in kind.values():
        one.add_argument("--case", action="append", help="only these cases (repeatable); 'list' names them")
        one.add_argument(
            "--repeat", type=positive, default=3, help="repeats; minimum and median are reported (default 3)"
        )
        one.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    for name in ("md", "hdnnp", "analysis"):
        kind[name].add_argument("--atoms", type=positive, default=32000, help="about this many atoms (default 32000)")
    for name in ("md", "hdnnp"):
        kind[name].add_argument("--steps", type=positive, default=100, help="timed steps of one repeat (default 100)")
        kind[name].add_argument("--precision", choices=["double", "mixed"], action="append", help="default: both")
        kind[name].add_argument(
            "--potential", action="append", default=[], help="potential file to time too (repeatable)"
        )
    training = kind["training"]
    training.add_argument("--atoms", type=positive, default=8640, help="of the set, about (default 8640)")
    training.add_argument("--steps", type=positive, default=5, help="timed updates of one repeat (default 5)")
    training.add_argument("--nodes", type=positive, action="append", help="to predict for (repeatable; default 1 8 64)")
    training.add_argument("--cores", type=positive, default=64, help="of a node, to predict for (default 64)")
    training.add_argument("--rate", type=above_zero, default=12.5, help="of a node's link, GB/s (default 12.5)")
    training.add_argument("--latency", type=above_zero, default=2.0, help="of a link, µs (default 2)")
    field = kind["phasefield"]
    field.add_argument(
        "--grid", type=positive, action="append", help="points of an edge (repeatable; default 64 128 256)"
    )
    for name in ("phasefield", "surrogate"):
        kind[name].add_argument(
            "--threads", type=positive, action="append", help="of a rank (repeatable; default as for a run)"
        )
    network = kind["surrogate"]
    network.add_argument(
        "--grid",
        type=positive,
        action="append",
        help="points of an edge (repeatable; default 32 64 128, or 128 256 512)",
    )
    network.add_argument("--network", choices=["crane-3d", "misfit-2d"], action="append", help="default: both")
    network.add_argument("--precision", choices=["float32", "bfloat16"], action="append", help="default: both")
    field.add_argument("--precision", choices=["double", "single"], action="append", help="default: both")
    field.add_argument(
        "--solution",
        action="store_true",
        help="time to the same solution instead: spectral, explicit and implicit steps",
    )
    field.add_argument(
        "--square",
        type=positive,
        action="append",
        help="with --solution: squares of this edge (default 64 128, and a cube of 48)",
    )
    field.add_argument(
        "--error", type=above_zero, default=1e-3, help="with --solution: of φ at the end (default 0.001)"
    )


def _add_batch(commands):
    submit = commands.add_parser(
        "submit",
        help="submit a job to SLURM",
        description="Render a batch script for a run file, show it, submit it and print the number of the job. The job queues itself "
        "again until it is done. What is done or in the queue already is left alone, so the same command submits failed members again.",
    )
    submit.add_argument("file", help="run file (TOML)")
    submit.add_argument("--nodes", type=positive, default=1, help="(default 1)")
    submit.add_argument("--time", required=True, help="limit of the wall time, such as 4h or 04:00:00")
    submit.add_argument(
        "--ntasks-per-node",
        type=positive,
        metavar="N",
        help="ranks of a node (default: its cores over threads, as sinfo tells)",
    )
    submit.add_argument(
        "--memory",
        metavar="SIZE",
        help="of a rank, such as 2G (default: what `ostwald check` tells, and half as much again)",
    )
    submit.add_argument("--partition", help="(default: the cluster's)")
    submit.add_argument("--account", help="(default: the cluster's)")
    submit.add_argument(
        "--array",
        metavar="seeds=1..8",
        help="one run for each seed: FILE with that [job] seed, in a directory of its own; parts=10: a set of sequences in parts",
    )
    submit.add_argument(
        "--chain", action="store_true", help="go on in a job that depends on this one, instead of queueing it again"
    )
    submit.add_argument("--directory", "-d", help="run directory (default: as for ostwald run)")
    submit.add_argument(
        "--site", metavar="FILE", help="shell file that loads the modules of the cluster (default: $OSTWALD_SITE)"
    )
    submit.add_argument("--launch", default="srun --mpi=pmix", help="what starts the ranks (default: srun --mpi=pmix)")
    submit.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="further option of sbatch, such as constraint=rome (repeatable)",
    )
    submit.add_argument("--dry-run", action="store_true", help="show the script, submit nothing")

    status = commands.add_parser(
        "status", help="what became of jobs: queued, running, waiting to be resumed, failed, done"
    )
    status.add_argument("directory", nargs="+", metavar="DIR", help="run directories")


def parser() -> argparse.ArgumentParser:
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("ostwald")
    except PackageNotFoundError:
        release = "(not installed)"
    top = argparse.ArgumentParser(
        prog="ostwald",
        description="From the melt to the microstructure: MPI-parallel molecular dynamics with trained potentials, "
        "phase field, and their networks.",
        epilog="On several ranks: mpirun -n N ostwald run FILE. Exit status 85: stopped early with a checkpoint, resume it.",
    )
    top.add_argument("--version", action="version", version=f"ostwald {release}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    run = commands.add_parser("run", help="run a job", description="Run the job of a run file in its own directory.")
    run.add_argument("file", help="run file (TOML)")
    run.add_argument(
        "--directory", "-d", help="run directory (default: [job] directory, else runs/<name of the run file>)"
    )
    run.add_argument("--force", action="store_true", help="replace an existing run directory")

    resume = commands.add_parser("resume", help="continue a run directory from its last checkpoint")
    resume.add_argument("directory", help="run directory")
    resume.add_argument("--walltime", help="new limit of the wall time, such as 2h30m")

    check = commands.add_parser(
        "check", help="validate a run file; tell decomposition, memory and time without running"
    )
    check.add_argument("file", help="run file (TOML)")
    check.add_argument(
        "--ranks", type=positive, default=None, help="number of ranks to plan for (default: those it runs on)"
    )

    _add_batch(commands)

    rate = commands.add_parser(
        "learning-rate",
        help="find the learning rate of a training",
        description="Train with a learning rate that rises from update to update until the loss blows up; tell where it falls fastest.",
    )
    rate.add_argument("file", help="run file of a training by adam or adamw (TOML)")
    rate.add_argument("--from", dest="low", type=above_zero, default=1e-6, metavar="RATE", help="(default 1e-6)")
    rate.add_argument("--to", dest="high", type=above_zero, default=1.0, metavar="RATE", help="(default 1)")
    rate.add_argument("--updates", type=positive, default=100, help="from the one to the other (default 100)")
    rate.add_argument("--directory", "-d", help="run directory (default: runs/<name of the run file>-learning-rate)")
    rate.add_argument("--force", action="store_true", help="replace an existing run directory")

    info = commands.add_parser("info", help="what a file or run directory holds")
    info.add_argument(
        "path", nargs="+", help="potential, structure, trajectory, checkpoint, time series, run file or run directory"
    )

    convert = commands.add_parser(
        "convert",
        help="convert structures, trajectories and data sets between formats",
        description="Convert structures and trajectories, or make a data set: a target NAME.dataset takes labelled structures "
        "from extended XYZ, n2p2's input.data, directories of DeePMD-kit, VASP's OUTCAR and vasprun.xml, ASE databases and "
        "other data sets, checks them and tells what is wrong. From a data set to the others, too.",
    )
    convert.add_argument(
        "source", nargs="+", help="structure, trajectory, run directory (its trajectory), or labelled structures"
    )
    convert.add_argument("target", help="file; NAME.dataset, input.data or DIRECTORY/ for labelled structures")
    convert.add_argument(
        "--index",
        default=None,
        help="frame or slice of the source, as in ASE, such as 0, ::10, or with an equals sign where it begins with a minus: "
        "--index=-1, --index=-2: (default: all frames)",
    )
    labelled = convert.add_argument_group("labelled structures")
    labelled.add_argument(
        "--from", dest="format", help="dataset, extxyz, n2p2, deepmd or ase (default: what it looks like)"
    )
    labelled.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="LABEL=NAME",
        help="the source's name of energy, forces, stress, virial, weight or group, such as energy=REF_energy (repeatable)",
    )
    labelled.add_argument(
        "--group", help="name of the group of all structures (default: as the source says, else its name)"
    )
    labelled.add_argument(
        "--units",
        nargs=2,
        metavar=("LENGTH", "ENERGY"),
        help="of the source, such as bohr Hartree (default: angstrom eV)",
    )
    labelled.add_argument(
        "--stress-order", metavar="ORDER", help="of the source's stresses (default: xx,yy,zz,yz,xz,xy)"
    )
    labelled.add_argument(
        "--stress-groups", nargs="+", metavar="GROUP", help="the groups that --stress-order is for (default: all)"
    )
    labelled.add_argument(
        "--species", nargs="+", default=(), help="elements of the types, where a DeePMD set does not name them"
    )
    labelled.add_argument("--clean", action="store_true", help="leave out copies and structures with an error")
    labelled.add_argument(
        "--primitive", action="store_true", help="cut structures that repeat a smaller cell down to it"
    )

    _add_bench(commands)

    nucleation = commands.add_parser(
        "nucleation",
        help="rates and critical sizes from replicas of a nucleation run",
        description="Nucleation statistics of run directories: groups of one potential, size, temperature and pressure. "
        "Writes nucleation.json, replicas.csv and nucleation.html.",
    )
    nucleation.add_argument("directories", nargs="+", metavar="DIR", help="run directories, each one replica")
    nucleation.add_argument("--stage", help="name of the isothermal stage, where the clock starts (default: the last)")
    nucleation.add_argument(
        "--threshold",
        type=above_zero,
        help="size in atoms below which a melt has not nucleated (default: the critical size and twice its width)",
    )
    nucleation.add_argument(
        "--grown", type=above_zero, help="size in atoms that a nucleus must reach (default: twice the threshold)"
    )
    nucleation.add_argument("--lag", type=float, help="ps before which nothing can nucleate (default: fitted)")
    nucleation.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default 0.95)")
    nucleation.add_argument("--melting", type=above_zero, metavar="K", help="melting temperature, for classical theory")
    nucleation.add_argument("--latent-heat", type=above_zero, metavar="EV", help="heat of fusion, eV/atom")
    nucleation.add_argument(
        "--heat-capacity",
        type=float,
        default=0.0,
        metavar="EV/K",
        help="of the liquid less that of the solid, eV/(atom K)",
    )
    nucleation.add_argument(
        "--density", type=above_zero, help="of the solid, atoms/Å³ (default: the most solid replica's)"
    )
    nucleation.add_argument("--attachment", type=above_zero, help="attachment rate at the critical size, 1/ps")
    nucleation.add_argument("--output", "-o", default="nucleation", help="folder of the results (default: nucleation)")

    evaluate = commands.add_parser(
        "evaluate",
        help="errors of a potential on a data set",
        description="Root-mean-square and mean absolute errors of energies, forces and stresses by group of a data set. Several "
        "potentials: of their mean.",
    )
    evaluate.add_argument("set", help="data set")
    evaluate.add_argument("potential", nargs="+", help="what [potential] file of a run may name")
    evaluate.add_argument("--run", metavar="DIRECTORY", help="only structures of a training that has run")
    evaluate.add_argument(
        "--part", choices=("validation", "training"), default="validation", help="which of --run (default: validation)"
    )
    evaluate.add_argument(
        "--units", nargs=2, metavar=("LENGTH", "ENERGY"), help="of files that do not state them, such as bohr Hartree"
    )
    evaluate.add_argument("--json", metavar="FILE", help="write the numbers there, too")

    report = commands.add_parser(
        "report",
        help="write the report page of a run directory",
        description="Write the report page of a run, or one that compares cost and accuracy of several trainings.",
    )
    report.add_argument("directory", nargs="+")
    report.add_argument("--output", "-o", help="HTML file (default: DIRECTORY/report.html; comparison.html of several)")
    return top


def main(arguments=None) -> int:
    """Runs one command; returns the exit status."""
    top = parser()
    given = top.parse_args(arguments)
    if given.command is None:
        top.print_help()
        return 0
    from ostwald.app import commands
    from ostwald.parallel import run_collectively

    return run_collectively(lambda: getattr(commands, given.command.replace("-", "_"))(given))


if __name__ == "__main__":
    sys.exit(main())
