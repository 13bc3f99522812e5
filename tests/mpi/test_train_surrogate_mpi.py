"""The training of a surrogate on several ranks is that of one, at the same batch, through MPI, Horovod and torch.distributed."""

from pathlib import Path

import numpy as np
import pytest
from surrogate_systems import make_sequences

from ostwald.app.jobs import train_surrogate
from ostwald.app.surrogate import model
from ostwald.parallel import World
from ostwald.parallel.training import BACKENDS

pytestmark = pytest.mark.mpi

RUN = """
[job]
kind = "train-surrogate"
[[sequences]]
file = "set/sequences.h5"
[network]
dimensions = 2
blocks = 2
channels = 3
kernel = 3
precision = "double"
[curriculum]
epochs = 2
[augmentation]
noise = 1e-3
[optimiser]
epochs = 2
batch = 5
rate = 1e-2
clip = 0.1
communication = "BACKEND"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    world = World()
    folder = Path(world.bcast(str(tmp_path_factory.mktemp("surrogate")) if world.root else None))
    make_sequences(world, folder, count=12, frames=6)
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """Columns and parameters of a training on one rank, which each rank does."""
    whole = World()
    return trained(whole.split(whole.rank), folder, "mpi", f"own{whole.rank}")


def trained(world, folder, backend, name):
    path = folder / f"{name}.toml"
    if world.root:
        path.write_text(RUN.replace("BACKEND", backend))
    world.barrier()
    assert train_surrogate.run(world, path, folder / name) == 0
    rows = np.genfromtxt(folder / name / "series.csv", delimiter=",", names=True)
    arrays = model.load(folder / name / "surrogate.ostwald").arrays
    return rows, arrays


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_and_parameters_are_those_of_one_rank(folder, alone, world, backend):
    rows, arrays = trained(world, folder, backend, f"all-{backend}")
    for name in ("loss", "validation_loss", "validation_rmse", "last_rmse"):
        np.testing.assert_allclose(rows[name], alone[0][name], rtol=1e-9, err_msg=name)
    assert rows["validation_loss"][-1] < rows["validation_loss"][0]
    for name, array in arrays.items():
        np.testing.assert_allclose(array, alone[1][name], rtol=1e-6, atol=1e-7, err_msg=name)
