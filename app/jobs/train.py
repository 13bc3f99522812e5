"""The training job of a potential: from a data set to what the native evaluator runs."""

from __future__ import annotations

from pathlib import Path

from ostwald.app.jobs import train_ensemble, training_loop
from ostwald.app.jobs.runfiles import read_run_file
from ostwald.app.jobs.train_schema import TABLES, check_whole
from ostwald.app.jobs.train_setup import Setup

KIND = training_loop.Kind(TABLES, check_whole, Setup)


def run(world, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    values = read_run_file(world, path, TABLES, check_whole)
    if train_ensemble.wanted(values):
        return train_ensemble.run(world, values, path, directory, force)
    return training_loop.run(world, KIND, path, directory, force)


def resume(world, directory, walltime=None) -> int:
    """Continues a run directory from its newest valid checkpoint."""
    if train_ensemble.wanted(read_run_file(world, Path(directory) / "run.toml", TABLES, check_whole)):
        return train_ensemble.resume(world, directory, walltime)
    return training_loop.resume(world, KIND, directory, walltime)


def check(world, path, ranks=None) -> int:
    """Validates a run file and prints what it would take."""
    return training_loop.check(world, KIND, path, ranks)
