"""The training job of a surrogate: from sequences of a phase field to a network that goes on with them."""

from __future__ import annotations

from ostwald.app.jobs import training_loop
from ostwald.app.jobs.train_surrogate_schema import TABLES, check_whole
from ostwald.app.jobs.train_surrogate_setup import Setup

KIND = training_loop.Kind(TABLES, check_whole, Setup)


def run(world, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    return training_loop.run(world, KIND, path, directory, force)


def resume(world, directory, walltime=None) -> int:
    """Continues a run directory from its newest valid checkpoint."""
    return training_loop.resume(world, KIND, directory, walltime)


def check(world, path, ranks=None) -> int:
    """Validates a run file and prints what it would take."""
    return training_loop.check(world, KIND, path, ranks)
