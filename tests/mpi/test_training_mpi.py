"""Training on several ranks gives what one rank gives, through MPI, Horovod and torch.distributed."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from training_systems import dataset, small_model

from ostwald.app.jobs import train, training_loop
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.potentials.hdnnp.descriptors import Descriptors
from ostwald.app.potentials.hdnnp.network import Network
from ostwald.app.runfile import RunFileError
from ostwald.app.training import described
from ostwald.app.training.lbfgs import LBFGS
from ostwald.app.training.levenberg_marquardt import LevenbergMarquardt
from ostwald.app.training.loss import Loss
from ostwald.app.training.minibatch import Minibatch
from ostwald.app.training.objective import PotentialObjective
from ostwald.app.training.schedules import Rate
from ostwald.io.datasets import write_dataset
from ostwald.io.timeseries import read_series
from ostwald.parallel import CollectiveError, World
from ostwald.parallel.training import BACKENDS, exchange, shares

pytestmark = pytest.mark.mpi


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """Drawing takes longer than these trainings."""
    monkeypatch.setattr(training_loop, "leave_report", lambda world, directory: None)


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """(model, data, the same on one rank): each rank also has a file of its own."""
    world = World()
    folder = world.bcast(str(tmp_path_factory.mktemp("training")) if world.root else None)
    model = small_model(1, elements=("S", "Cu"), activations=("tanh", "linear"), nodes=(3,))
    teacher = small_model(1, elements=("S", "Cu"), activations=("tanh", "linear"), nodes=(3,))
    for element in teacher.elements:
        element.layers[0].weights[:] *= 0.7
    path = f"{folder}/set.h5"
    if world.root:
        dataset(path, 5, model, count=7, teacher=teacher)
    world.barrier()
    from ostwald.io.datasets import open_dataset

    data = open_dataset(path)
    return model, described.describe(data, Descriptors(model), f"{folder}/d.h5", world, np.float64)


@pytest.fixture(scope="module")
def alone():
    whole = World()
    return whole.split(whole.rank)


def trained(world, model, data, backend, updates=9, compression="none", prefactors=None, **options):
    network, loss = Network(model), Loss(10.0, 1.0, 1.0).of(data.dataset)
    link = exchange(backend, world, compression)
    objective = PotentialObjective(network, data, np.arange(len(data)), loss, prefactors)
    trainer = Minibatch(world, objective, link, Rate("exponential", 1e-2, 1e-3, 9), 4, seed=3, **options)
    values = []
    try:
        for _ in range(updates):
            trainer.step()
            values.append(trainer.value)
    finally:
        link.close()
    return np.array(values), network.theta.detach().numpy().copy()


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_and_parameters_are_those_of_one_rank(problem, alone, world, backend):
    options = dict(decay=1e-3, clip=5.0, average=0.9, prefactors=(1.0, 30.0, 0.1))
    want = trained(alone, *problem, "mpi", **options)
    got = trained(world, *problem, backend, **options)
    assert want[0][-1] < want[0][0]
    np.testing.assert_allclose(got[0], want[0], rtol=1e-11)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-9, atol=1e-12)


def test_compressed_gradients_are_near(problem, alone, world):
    want, got = trained(alone, *problem, "mpi"), trained(world, *problem, "horovod", compression="half")
    np.testing.assert_allclose(got[0], want[0], rtol=0.02)
    assert world.size == 1 or not np.array_equal(got[1], want[1])


@pytest.mark.parametrize("kind", [LevenbergMarquardt, partial(LevenbergMarquardt, part=0.5), LBFGS])
def test_full_batches_are_those_of_one_rank(problem, alone, world, kind):
    model, data = problem
    results = []
    for where in (alone, world):
        network, loss = Network(model), Loss(10.0, 1.0, 1.0).of(data.dataset)
        optimiser = kind(where, PotentialObjective(network, data, np.arange(7), loss), ridge=1e-6)
        values = []
        for _ in range(5):
            assert optimiser.step()
            values.append(optimiser.value)
        results.append((values, network.theta.detach().numpy().copy()))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-9)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-6, atol=1e-9)


def test_descriptors_of_several_ranks_are_those_of_one(problem, alone, tmp_path):
    model, data = problem
    mine = described.describe(data.dataset, Descriptors(model), tmp_path / "own.h5", alone, np.float64)
    for a, b in zip(mine.batch(np.arange(7))[0].elements, data.batch(np.arange(7))[0].elements):
        for name in ("values", "strain", "centres", "derivatives", "counts"):
            assert bool((getattr(a, name) == getattr(b, name)).all())


RUN = """
[job]
kind = "train"
[data]
file = "set.h5"
fraction = 0.3
[[radial]]
cutoff = 4.0
shifted = 4
[network]
nodes = [4]
[optimiser]
kind = "KIND"
epochs = 4
"""


KINDS = ["levenberg-marquardt", "l-bfgs", *(f'adam"\nbatch = 4\ncommunication = "{name}' for name in BACKENDS)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_job_is_that_of_one_rank(problem, alone, world, tmp_path, kind):
    """To rounding, through descriptors, training, errors and export."""
    folder = Path(world.bcast(str(tmp_path)))
    if world.root:
        (folder / "train.toml").write_text(RUN.replace("set.h5", str(problem[1].dataset.path)).replace("KIND", kind))
    world.barrier()
    if world.root:
        assert train.run(alone, folder / "train.toml", folder / "own") == 0
    assert train.run(world, folder / "train.toml", folder / "all") == 0
    texts = [(folder / name / "errors.json").read_text() for name in ("own", "all")]
    own, everyone = (json.loads(text)["validation"]["all"] for text in texts)
    for quantity in own:
        assert everyone[quantity]["rmse"] == pytest.approx(own[quantity]["rmse"], rel=1e-6)
    curves = [read_series(folder / name / "series.h5")["loss"][1:] for name in ("own", "all")]
    assert len(curves[0]) == 4 and curves[0][-1] < curves[0][0]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-8)
    world.barrier()


@pytest.mark.parametrize("kind", ["levenberg-marquardt", "l-bfgs", 'adam"\nbatch = 4\nschedule = "plateau'])
def test_a_run_of_one_rank_is_resumed_on_all(problem, alone, world, tmp_path, monkeypatch, kind):
    """And gives what it would have given, to rounding."""
    folder = Path(world.bcast(str(tmp_path)))
    if world.root:
        text = (
            RUN.replace("set.h5", str(problem[1].dataset.path))
            .replace("KIND", kind)
            .replace("epochs = 4", "epochs = 12")
        )
        (folder / "train.toml").write_text(text)
        assert train.run(alone, folder / "train.toml", folder / "whole") == 0
        with monkeypatch.context() as patch:
            patch.setattr(Stopping, "test", lambda self, step: (True, "SIGTERM"))
            assert train.run(alone, folder / "train.toml", folder / "parts") == EXIT_RESUME
    world.barrier()
    stopped = len(read_series(folder / "parts/series.h5")["loss"])
    world.barrier()
    assert train.resume(world, folder / "parts") == 0
    rows = [read_series(folder / name / "series.h5") for name in ("whole", "parts")]
    assert 1 < stopped < len(rows[0]["loss"]) == 13
    for name in ("step", "loss", "validation_loss", "rate"):
        np.testing.assert_allclose(rows[1][name], rows[0][name], rtol=1e-6)
    world.barrier()


@pytest.mark.mpi(min_size=2)
def test_too_many_ranks_are_refused_by_all(problem, world, tmp_path):
    folder = Path(world.bcast(str(tmp_path)))
    for kind, key in (('adam"\nbatch = 1\nrate = 0.1 #', "batch"), ("l-bfgs", "file")):
        if world.root:
            few = folder / "few.h5"
            write_dataset(few, list(problem[1].dataset)[:2])
            (folder / "train.toml").write_text(RUN.replace("set.h5", str(few)).replace("KIND", kind))
        world.barrier()
        count = 1  # of two structures one is for validation
        with pytest.raises(
            RunFileError, match=f"{key}: .*{count} structures cannot be shared out over {world.size} ranks"
        ):
            train.run(world, folder / "train.toml", folder / "none")
        world.barrier()
    assert not (folder / "none").exists()


def test_compression_is_horovods(world):
    with pytest.raises(CollectiveError, match="compression of gradients is Horovod's"):
        exchange("torch", world, "half")


def test_a_backend_that_is_missing_is_refused_by_all(world, monkeypatch):
    """Also where it is missing on one rank only."""
    if world.rank == world.size - 1:
        monkeypatch.setitem(__import__("sys").modules, "horovod.torch", None)
    with pytest.raises(CollectiveError, match="horovod was asked for, but cannot be used here"):
        exchange("horovod", world)


def test_torch_without_a_place_to_meet_is_refused_by_all(world, monkeypatch):
    def fail(*_):
        raise OSError("no such network")

    monkeypatch.setattr("ostwald.parallel.training._address", fail)
    with pytest.raises(CollectiveError, match=r"torch was asked for, but cannot be used here: (no such|rank 0 cannot)"):
        exchange("torch", world)


def test_shares_are_even():
    costs = np.random.default_rng(1).uniform(1, 10, 60)
    parts = shares(costs, 4)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(60))
    sums = [costs[part].sum() for part in parts]
    assert max(sums) - min(sums) < 10
