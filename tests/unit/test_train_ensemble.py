"""Ensembles in one job: their members, stopping and resuming, the one potential that they make."""

import json

import numpy as np
import pytest
from training_systems import RUN, nickel

from ostwald.app.jobs import md, train
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.potentials import Ensemble, load
from ostwald.app.potentials.hdnnp import models
from ostwald.app.runfile import RunFileError
from ostwald.io.arrayfile import open_arrays
from ostwald.io.datasets import open_dataset, write_dataset
from ostwald.io.modelfile import read_model
from ostwald.io.rundirectory import RunDirectoryError
from ostwald.parallel import CollectiveError, World

SHORT = RUN + "epochs = 4\n"
THREE = SHORT + "[ensemble]\nmembers = 3\n"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    path = tmp_path_factory.mktemp("nickel") / "set.h5"
    write_dataset(path, nickel())
    return path


@pytest.fixture
def trained(tmp_path, labelled, world):
    def act(text, name, **how):
        path = tmp_path / f"{name}.toml"
        path.write_text(text.replace("set.h5", str(labelled)))
        return train.run(world, path, tmp_path / name, **how)

    return act


@pytest.fixture(scope="module")
def whole(tmp_path_factory, labelled):
    """The run directory of three members."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "all.toml").write_text(THREE.replace("set.h5", str(labelled)))
    assert train.run(World(), folder / "all.toml", folder / "all") == 0
    return folder / "all"


def predictions(folder):
    return open_arrays(folder / "predictions.h5")[0]


def test_one_potential_of_all_members(trained, whole, tmp_path, world, labelled):
    """The members are the trainings with seeds one apart; the ensemble is their mean; a run watches their spread."""
    folders = [whole / "members" / str(k) for k in (1, 2, 3)]
    together = models(whole / "potential.ostwald")
    assert together == [models(folder / "potential")[0] for folder in folders]
    assert trained(SHORT, "first") == 0
    assert trained(THREE + "member = 2", "second") == 0
    assert [models(tmp_path / name / "potential.ostwald")[0] for name in ("first", "second")] == together[:2]
    assert together[0] != together[1]

    each = [predictions(folder) for folder in folders]
    mean = predictions(whole)
    forces = np.array([arrays["forces"][..., 1] for arrays in each])
    assert np.abs(mean["forces"][..., 1] - forces.mean(0)).max() < 1e-14
    assert np.allclose(mean["spread"], np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0)), rtol=1e-12)
    potential = load(whole / "potential.ostwald")
    assert isinstance(potential, Ensemble)
    ds = open_dataset(labelled)
    atoms = ds[int(mean["structures"][1])].to_ase()
    atoms.calc = potential.ase()
    rows = slice(mean["counts"][0], mean["counts"][:2].sum())
    assert np.abs(atoms.get_forces() - mean["forces"][rows, :, 1]).max() < 1e-10
    assert np.abs(atoms.calc.results["force_deviation"] - mean["spread"][rows]).max() < 1e-10

    errors = json.loads((whole / "errors.json").read_text())["validation"]
    error = mean["forces"][..., 1] - mean["forces"][..., 0]
    assert errors["all"]["force"]["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    single = [json.loads((f / "errors.json").read_text())["validation"]["all"]["force"]["rmse"] for f in folders]
    assert errors["all"]["force"]["rmse"] < np.sqrt(np.mean(np.square(single)))  # by convexity
    assert read_model(whole / "potential.ostwald").provenance["errors"]["validation"] == errors["all"]
    report = (whole / "report.html").read_text()
    for text in ("Members", "Spread and error", "member 3", "Worst structures", "Crystals and pairs"):
        assert text in report
    assert not list((whole).glob("descriptors*"))
    assert train.resume(world, whole) == 0  # nothing is left
    with pytest.raises((RunDirectoryError, CollectiveError), match="holds a run already"):
        train.run(world, whole / "run.toml", whole)

    run = f"""
[job]
kind = "md"
[structure]
lattice = "fcc"
a = 3.52
species = ["Ni"]
cells = [3, 3, 3]
rattle = 0.3
[potential]
file = "{whole}/potential.ostwald"
[[stage]]
ensemble = "nve"
steps = 2
[deviation]
every = 1
warn = 1e-4
"""
    (tmp_path / "md.toml").write_text(run)
    assert md.run(world, tmp_path / "md.toml", tmp_path / "md") == 0
    assert "force deviation at step 0" in (tmp_path / "md/log.txt").read_text()
    assert (tmp_path / "md/potential.ostwald").exists()


@pytest.mark.parametrize("stop", [3, 8])
def test_stopped_and_resumed(trained, whole, tmp_path, world, monkeypatch, stop):
    """In the first member, in the second: in the end as if it had not been."""
    test, calls = Stopping.test, []

    def count(self, step):
        calls.append(step)
        return (True, "SIGTERM") if len(calls) == stop else test(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "test", count)
        assert trained(THREE, "parts") == EXIT_RESUME
    figures = json.loads((tmp_path / "parts/timing.json").read_text())
    assert not figures["finished"] and figures["members_finished"] == (0 if stop < 7 else 1)
    assert not (tmp_path / "parts/potential.ostwald").exists()
    members = [tmp_path / f"parts/members/{k}/timing.json" for k in (1, 2, 3)]
    done = [json.loads(file.read_text())["total_updates"] if file.exists() else 0 for file in members]
    assert train.resume(world, tmp_path / "parts") == 0
    again = json.loads((tmp_path / "parts/timing.json").read_text())  # speeds are of what was done since
    assert again["structures_per_second"] * again["wall_seconds"] == pytest.approx(24 * (12 - sum(done)))
    assert again["total_wall_seconds"] == figures["wall_seconds"] + again["wall_seconds"]
    assert models(tmp_path / "parts/potential.ostwald") == models(whole / "potential.ostwald")
    assert (tmp_path / "parts/errors.json").read_text() == (whole / "errors.json").read_text()


def test_a_run_that_is_replaced_leaves_no_members(trained, tmp_path):
    """Members of an earlier run are not gone on with."""
    two = THREE.replace("members = 3", "members = 2")
    assert trained(two, "run") == 0
    before = models(tmp_path / "run/potential.ostwald")
    other = two.replace('kind = "train"', 'kind = "train"\nseed = 77')
    assert trained(other, "run", force=True) == 0
    assert all(a != b for a, b in zip(before, models(tmp_path / "run/potential.ostwald")))


def test_folds(trained, tmp_path, labelled):
    """Every structure is in one validation set; errors are those of the members that have not seen it."""
    text = THREE.replace("fraction = 0.2\n", "") + 'resample = "folds"'
    assert trained(text, "run") == 0
    each = [predictions(tmp_path / f"run/members/{k}") for k in (1, 2, 3)]
    assert sorted(np.concatenate([arrays["structures"] for arrays in each])) == list(range(30))
    found, ds = predictions(tmp_path / "run"), open_dataset(labelled)
    assert np.array_equal(found["structures"], np.arange(30)) and "spread" not in found
    assert np.array_equal(found["forces"][..., 0], np.asarray(ds.forces))
    assert np.allclose(found["energy"][:, 0], ds.energy / ds.counts)
    for arrays in each:
        for row, number in enumerate(arrays["structures"]):
            assert found["energy"][number, 1] == arrays["energy"][row, 1]
    count = json.loads((tmp_path / "run/errors.json").read_text())["validation"]["all"]["energy"]["number"]
    assert count == 30


def test_bootstrap(trained, tmp_path):
    """Members see other structures, some of them twice, and validate with the same."""
    assert trained(THREE + 'resample = "bootstrap"', "run") == 0
    each = [predictions(tmp_path / f"run/members/{k}") for k in (1, 2, 3)]
    assert all(np.array_equal(each[0]["structures"], arrays["structures"]) for arrays in each)
    first, second, _ = models(tmp_path / "run/potential.ostwald")
    assert not np.array_equal(first.elements[0].mean, second.elements[0].mean)
    seen = read_model(tmp_path / "run/members/1/potential.ostwald").description["training"]
    assert seen["structures"] == 24


WRONG = [
    ("members = 0", r"\[ensemble\] members: must be at least 1"),
    ("members = 2\nmember = 3", r"\[ensemble\] member: is 3, but there are 2 members"),
    ('resample = "folds"', r"\[ensemble\] resample: has no effect on one member: set members"),
    ('members = 3\nresample = "folds"', r"\[data\] fraction: has no effect with \[ensemble\] resample = 'folds'"),
    ('members = 3\nresample = "fold"', r"\[ensemble\] resample: .*folds"),
]


@pytest.mark.parametrize("lines, message", WRONG)
def test_what_is_wrong_is_said(trained, tmp_path, lines, message):
    with pytest.raises((RunFileError, CollectiveError), match=rf"bad.toml: {message}"):
        trained(f"{SHORT}[ensemble]\n{lines}\n", "bad")
    assert not (tmp_path / "bad").exists()


def test_too_many_folds(trained, tmp_path):
    text = SHORT.replace("fraction = 0.2\n", "") + '[ensemble]\nmembers = 31\nresample = "folds"'
    with pytest.raises((RunFileError, CollectiveError), match=r"\[ensemble\] members: .*30 structures .* 31 folds"):
        trained(text, "bad")
    text = SHORT + 'kind = "adam"\ncommunication = "horovod"\n[ensemble]\nmembers = 2'
    with pytest.raises((RunFileError, CollectiveError), match=r"\[optimiser\] communication: Horovod knows all ranks"):
        trained(text, "bad")
