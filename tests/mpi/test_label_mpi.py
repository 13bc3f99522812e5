"""The labelling job on several ranks gives the set of one rank; a set left by some ranks is finished by others."""

import numpy as np
import pytest

from ostwald.app.jobs import label
from ostwald.io.datasets import open_dataset

pytestmark = pytest.mark.mpi

RUN = """
[job]
kind = "label"
[teacher]
file = "zhou:Al"
[[set]]
name = "rattled"
kind = "rattled"
lattice = "fcc"
a = 4.05
species = ["Al"]
rattle = 0.2
count = 9
[[set]]
name = "hot"
kind = "snapshots"
lattice = "fcc"
a = 4.05
species = ["Al"]
temperature = 800
time = 0.02
snapshots = 2
count = 3
"""


def test_any_ranks_make_the_same_set(world, mpi_tmp_path):
    path = mpi_tmp_path / "run.toml"
    if world.root:
        path.write_text(RUN)
    world.barrier()
    assert label.run(world, path, mpi_tmp_path / "all") == 0
    alone = world.split(world.rank)
    mine = mpi_tmp_path / f"alone-{world.rank}"
    assert label.run(alone, path, mine) == 0
    together, single = (open_dataset(folder / "labelled.dataset") for folder in (mpi_tmp_path / "all", mine))
    assert len(together) == 15 and together.digest() == single.digest()
    assert np.isfinite(together.stress).all()
