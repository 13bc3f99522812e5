"""What each command does once it is asked for (the command line itself: cli.py)."""

from __future__ import annotations

import functools
import json
import sys
from importlib import import_module
from pathlib import Path

from ostwald.app.runfile import RunFileError, load_toml, nearest, parse_duration
from ostwald.io.text import write_text
from ostwald.parallel import CollectiveError, World, is_root, require_one_mpi

KINDS = ("md", "phasefield", "sequences", "train", "label", "train-surrogate", "rollout", "evaluate-surrogate")


def job_module(raw: dict, path):
    """The module that runs the kind of job that a run file names."""
    kind = raw.get("job", {}).get("kind") if isinstance(raw.get("job"), dict) else None
    if kind is None:
        raise RunFileError(f"{path}: [job] kind is required; known: {', '.join(KINDS)}")
    if kind not in KINDS:
        raise RunFileError(f"{path}: [job] kind: '{kind}' is not known{nearest(kind, KINDS)}")
    try:
        return import_module(f"ostwald.app.jobs.{kind.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if (error.name or "ostwald").startswith("ostwald"):
            raise
        raise RunFileError(f"{path}: [job] kind: '{kind}' needs {error.name}, which is not installed") from None


def _module_for(world, path):
    """The job module of a run file, read once; the same error on every rank."""
    kind, problem = None, None
    if world.root:
        try:
            kind = load_toml(path)
            job_module(kind, path)
        except RunFileError as error:
            problem = error
    world.agree(problem)
    return job_module(world.bcast(kind), path)


def on_root(command):
    """A command for one rank: under mpirun the others return at once."""

    @functools.wraps(command)
    def act(given) -> int:
        return command(given) if is_root() else 0

    return act


def run(given) -> int:
    world = World()
    require_one_mpi(world)
    return _module_for(world, given.file).run(world, given.file, given.directory, given.force)


def resume(given) -> int:
    world = World()
    require_one_mpi(world)
    walltime = None
    if given.walltime:
        try:
            walltime = parse_duration(given.walltime)
        except ValueError:
            raise CollectiveError(f"--walltime takes a duration such as 2h30m, not {given.walltime!r}") from None
    run_file = Path(given.directory) / "run.toml"
    if not run_file.exists():
        raise CollectiveError(f"{given.directory}: not a run directory (it has no run.toml)")
    return _module_for(world, run_file).resume(world, given.directory, walltime)


def check(given) -> int:
    world = World()
    return _module_for(world, given.file).check(world, given.file, given.ranks)


@on_root
def submit(given) -> int:
    from ostwald.app.submit import submit

    return submit(given)


@on_root
def status(given) -> int:
    from ostwald.app.status import describe

    for directory in given.directory:
        print(describe(directory))
    return 0


def learning_rate(given) -> int:
    world = World()
    require_one_mpi(world)
    if given.low >= given.high:
        raise CollectiveError(f"--from {given.low:g} must be below --to {given.high:g}")
    kind = getattr(_module_for(world, given.file), "KIND", None)
    if kind is None:
        raise CollectiveError(f"{given.file}: not the run file of a training")
    from ostwald.app.jobs.learning_rate import find

    return find(world, kind, given.file, given.low, given.high, given.updates, given.directory, given.force)


def bench(given) -> int:
    world = World()
    return import_module(f"ostwald.app.jobs.bench_{given.what}").bench(world, given)


@on_root
def report(given) -> int:
    from ostwald.app.report import write_comparison, write_report

    if len(given.directory) == 1:
        target = write_report(*given.directory, given.output)
    else:
        target = write_comparison(given.directory, given.output or "comparison.html")
    print(target)
    return 0


def evaluate(given) -> int:
    import numpy as np

    from ostwald.app.potentials import load
    from ostwald.app.training.errors import errors_of_calculator, structures_of
    from ostwald.io.datasets import open_dataset

    world = World()
    dataset = open_dataset(given.set)
    chosen = structures_of(given.run, given.part, dataset) if given.run else np.arange(len(dataset))
    names = given.potential[0] if len(given.potential) == 1 else given.potential
    potential = load(names, units=given.units and tuple(given.units))
    found = errors_of_calculator(world, potential.ase(), dataset, chosen)
    world.log(f"{potential.describe()}\n{dataset.path}, {len(chosen)} structures\n\n{found.table()}")
    if given.json and world.root:
        write_json(given.json, dict(potential=given.potential, set=str(given.set), errors=found.as_json()))
    return 0


@on_root
def nucleation(given) -> int:
    from ostwald.app import replicas
    from ostwald.app.report.replicas import write_page

    if (given.melting is None) != (given.latent_heat is None):
        raise ValueError("classical theory needs both --melting and --latent-heat")
    if not 0 < given.confidence < 1:
        raise ValueError(f"--confidence takes a number between 0 and 1, not {given.confidence:g}")
    if given.grown and given.threshold and given.grown < given.threshold:
        raise ValueError(f"--grown {given.grown:g} must not be below --threshold {given.threshold:g}")
    theory = None
    if given.melting is not None:
        theory = replicas.Theory(given.melting, given.latent_heat, given.heat_capacity, given.density, given.attachment)
    groups = replicas.groups_of([replicas.read_replica(directory, given.stage) for directory in given.directories])
    how = dict(threshold=given.threshold, grown=given.grown, lag=given.lag, confidence=given.confidence, theory=theory)
    for group in groups:
        replicas.evaluate(group, **how)
    folder = Path(given.output)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "nucleation.json", replicas.as_json(groups))
    write_text(folder / "replicas.csv", replicas.as_csv(groups))
    print(replicas.describe(groups))
    print(write_page(groups, folder / "nucleation.html"))
    return 0


@on_root
def convert(given) -> int:
    from ostwald.app.potentials.hdnnp import convert as trained
    from ostwald.app.training import convert as labelled
    from ostwald.io.structures import convert

    if trained.is_potential(given.source, given.target):
        print("\n".join(trained.convert(given.source, given.target)))
        return 0
    if labelled.is_labelled(given.source, given.target):
        return _convert_labelled(given)
    source = Path(given.source[0])
    if source.is_dir():
        source /= "trajectory.h5"
        if not source.exists():
            raise ValueError(f"{given.source[0]}: a directory without a trajectory.h5")
    frames = convert(source, given.target, given.index)
    print(f"{given.target}: {frames} frame{'s' * (frames != 1)}")
    return 0


def _convert_labelled(given) -> int:
    from ostwald.app.training.convert import convert, reading, shear_order

    if given.index is not None:
        raise ValueError("--index is for trajectories, not for labelled structures")
    how = reading(given.label, given.group, given.units, given.species)
    order = shear_order(given.stress_order, given.stress_groups) if given.stress_order else None
    options = dict(format=given.format, order=order, clean=given.clean, cut=given.primitive)
    count, report = convert(given.source, given.target, how, **options)
    print(report)
    print(f"\n{given.target}: {count} structure{'s' * (count != 1)} written")
    return 0


@on_root
def info(given) -> int:
    from ostwald.app.info import describe

    status = 0
    for path in given.path:
        try:
            print(describe(path))
        except (OSError, ValueError) as error:
            print(f"ostwald: {error}", file=sys.stderr)
            status = 1
    return status


def write_json(path, figures):
    """For `--json`: figures of a bench."""
    write_text(path, json.dumps(figures, indent=1) + "\n")
