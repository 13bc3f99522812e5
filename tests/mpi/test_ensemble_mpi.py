"""Ensembles on any number of ranks: members side by side or in turn, each what one rank makes of it; stopped on some, resumed on one."""

import json
from pathlib import Path

import numpy as np
import pytest
from training_systems import RUN, nickel

from ostwald.app.jobs import train
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.potentials.hdnnp import models
from ostwald.io.datasets import write_dataset
from ostwald.parallel import World

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    world = World()
    path = Path(world.bcast(str(tmp_path_factory.mktemp("ensemble")) if world.root else None))
    if world.root:
        write_dataset(path / "set.h5", nickel())
        (path / "run.toml").write_text(RUN + "epochs = 3\n[ensemble]\nmembers = 3\n")
    world.barrier()
    return path


def weights(path):
    return [np.concatenate([layer.weights.ravel() for layer in m.elements[0].layers]) for m in models(path)]


def test_any_number_of_ranks(folder, monkeypatch):
    """As one rank does it, whole or stopped: where the groups have one rank each bit for bit."""
    world = World()
    assert train.run(world, folder / "run.toml", folder / "together") == 0
    mine = world.split(world.rank)
    if world.root:
        assert train.run(mine, folder / "run.toml", folder / "alone") == 0
    world.barrier()

    test, calls = Stopping.test, []

    def stop(self, step):
        calls.append(step)
        return (True, "SIGTERM") if world.rank == 0 and len(calls) == 3 else test(self, step)

    with monkeypatch.context() as patch:
        if world.size <= 3:  # a group is one rank: the others go on
            patch.setattr(Stopping, "test", stop)
        status = train.run(world, folder / "run.toml", folder / "parts")
    assert status == (EXIT_RESUME if world.size <= 3 else 0)
    if world.root:  # on another number of ranks
        assert train.resume(mine, folder / "parts") == 0
    world.barrier()

    alone = weights(folder / "alone/potential.ostwald")
    for name in ("together", "parts"):
        for one, other in zip(alone, weights(folder / name / "potential.ostwald"), strict=True):
            assert np.array_equal(one, other) or (world.size > 3 and np.abs(one - other).max() < 1e-6)
    figures = json.loads((folder / "together/timing.json").read_text())
    assert figures["ranks"] == world.size and figures["members_finished"] == 3
