"""The roll-out job: what its run file may say, what it writes, restarts, what `check` tells."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.jobs.rollout_schema import page
from ostwald.app.surrogate.architecture import Architecture
from ostwald.app.surrogate.model import Parameter, Surrogate
from ostwald.io.checkpoint import list_checkpoints
from ostwald.io.fields import field_frames, open_field
from ostwald.io.timeseries import read_series

JOB = """
[job]
kind = "rollout"
seed = 3
[surrogate]
file = "network.ostwald"
parameters = { misfit = 0.004 }
[grid]
shape = [18, 20]
[model]
epsilon = 3.0
[initial]
kind = "uniform"
exact_mean = 0.45
amplitude = 0.1
[[stage]]
steps = 10
[[stage]]
time = 6.0
[series]
every = 4
[fields]
every = 11
[analysis]
every = 11
[checkpoint]
every = 5
"""


def network(path, padding="circular", channels=4, scale=0.05, resampling="none"):
    architecture = Architecture(2, 2, channels, 3, "gru", "potential", ("misfit",), padding)
    rng = np.random.default_rng(1)
    arrays = {name: rng.normal(0, scale, shape) for name, shape in architecture.shapes().items()}
    misfit = Parameter("misfit", "elasticity.misfit", 0.0, 0.01, 0.0, 0.012)
    Surrogate(architecture, arrays, 0.5, (2.0, 2.0), resampling, (misfit,)).save(path)


@pytest.fixture
def folder(tmp_path):
    network(tmp_path / "network.ostwald")
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


@pytest.fixture
def no_report(monkeypatch):
    return lambda: monkeypatch.setattr("ostwald.app.jobs.phasefield.leave_report", lambda world, directory: None)


def arrays_of(directory):
    with h5py.File(list_checkpoints(directory / "checkpoints")[-1].path) as file:
        return {name: file["data"][name][()] for name in file["data"]}


def test_a_run_and_the_same_in_two_pieces(folder, capsys, no_report):
    assert main(["run", str(folder / "job.toml"), "-d", str(folder / "whole")]) == 0
    rows = read_series(folder / "whole" / "series.h5")
    assert rows["step"].tolist() == [0, 4, 8, 11, 12, 16, 20, 22]
    assert rows["time"][-1] == pytest.approx(11.0) and np.ptp(rows["mean"]) < 1e-14
    assert rows["mean"][0] == pytest.approx(0.45, abs=1e-15) and np.ptp(rows["high"]) > 1e-5
    assert np.isfinite(rows["interface"][[0, 3, -1]]).all()
    assert field_frames(folder / "whole" / "fields.h5")[0].tolist() == [0, 11, 22]
    page_text = (folder / "whole" / "report.html").read_text()
    assert "steps of the network network.ostwald, misfit 0.004" in page_text and "Free energy" in page_text

    no_report()
    (folder / "short.toml").write_text(JOB.replace("time = 6.0", "time = 2.5"))
    part = folder / "part"
    assert main(["run", str(folder / "short.toml"), "-d", str(part)]) == 0
    text = (part / "run.toml").read_text()
    assert "spacing = [2.0, 2.0]" in text and text.count("timestep = 0.5") == 2
    (part / "run.toml").write_text(text.replace("time = 2.5", "time = 6.0"))
    assert main(["resume", str(part)]) == 0
    whole, pieces = arrays_of(folder / "whole"), arrays_of(part)
    assert set(whole) == {"phi", *(f"hidden{block}.{channel}" for block in range(2) for channel in range(4))}
    assert all(np.array_equal(whole[name], pieces[name]) for name in whole)
    assert max(np.abs(array).max() for name, array in whole.items() if name != "phi") > 1e-3
    capsys.readouterr()
    assert main(["info", str(part)]) == 0
    assert "finished at step 22: 18 × 20 points" in capsys.readouterr().out


def test_another_network_does_not_go_on_from_a_checkpoint(folder, capsys, no_report):
    no_report()
    assert main(["run", str(folder / "job.toml"), "-d", str(folder / "a")]) == 0
    network(folder / "network.ostwald", scale=0.04)
    assert main(["resume", str(folder / "a")]) == 1
    assert "the checkpoint is of another network" in capsys.readouterr().err
    network(folder / "network.ostwald", channels=5)
    assert main(["resume", str(folder / "a")]) == 1
    assert "hidden0.4 is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('file = "network.ostwald"', 'file = "absent.ostwald"', "[surrogate] file: "),
        ('file = "network.ostwald"', 'file = "job.toml"', "[surrogate] file: "),
        ("parameters = { misfit = 0.004 }", "", "[surrogate] parameters: the network is given misfit: misfit is missing"),
        ("misfit = 0.004", "misfit = 0.004, heat = 1.0", "heat is none of them"),
        ("parameters =", 'precision = "half"\nparameters =', "[surrogate] precision: 'half' is not known"),
        ("[18, 20]", "[18, 20, 4]", "[grid] shape: the network is one of 2 dimensions"),
        ("[18, 20]", "[18]", "[grid] shape: has two or three lengths, not 1"),
        ("[18, 20]", "[18, 20]\nspacing = 1.0", "[grid] spacing: the network's is [2.0, 2.0], not 1.0"),
        ("steps = 10", "steps = 10\ntimestep = 0.1", "[stage 1] timestep: a step of the network is 0.5, not 0.1"),
        ("steps = 10", "steps = 10\ntime = 3.0", "give either steps or time"),
        ("epsilon = 3.0", "epsilon = 3.0\nmobility = 2.0", "[model] mobility: "),
        ("epsilon = 3.0", 'epsilon = 3.0\nwell = "quartic"', "[model] height: is required"),
        ("every = 11\n[analysis]", 'every = 11\nnames = ["stress"]\n[analysis]', "a roll-out has no field but phi"),
        ("every = 11\n[checkpoint]", "every = 11\nmodes = [1]\n[checkpoint]", "[analysis]: modes must be 2 integers each"),
    ],
)  # fmt: skip
def test_mistakes(folder, refused, old, new, message):
    assert JOB.count(old) >= 1
    refused(JOB.replace(old, new, 1), message, "run", "check")


@pytest.mark.parametrize("resampling", ["nearest", "mean"])
def test_starts_from_a_field_of_twice_the_points(folder, refused, no_report, resampling):
    no_report()
    network(folder / "network.ostwald", resampling=resampling)
    finer = np.random.default_rng(2).uniform(size=(36, 40))
    np.save(folder / "finer.npy", finer)
    start = 'kind = "uniform"\nexact_mean = 0.45\namplitude = 0.1'
    text = JOB.replace(start, 'kind = "file"\nfile = "finer.npy"')
    (folder / "job.toml").write_text(text + "[limits]\nfield = 1e9\n")
    assert main(["check", str(folder / "job.toml")]) == 0
    assert main(["run", str(folder / "job.toml"), "-d", str(folder / "run")]) == 0
    field = open_field(folder / "run" / "fields.h5", frame=0)
    first = np.asarray(field[:, :])
    field.close()
    wanted = finer[::2, ::2] if resampling == "nearest" else finer.reshape(18, 2, 20, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(first, wanted, atol=1e-7)
    np.save(folder / "finer.npy", finer[:, :38])
    refused(text, "a field of 36 × 38 points, the grid has 18 × 20", "run", "check")


def test_walls_have_no_structure_factor(folder, refused, no_report):
    no_report()
    network(folder / "network.ostwald", padding="reflect")
    refused(JOB, "[analysis]: needs a periodic box, and this network has walls", "run", "check")
    (folder / "job.toml").write_text(JOB.replace("[analysis]\nevery = 11\n", ""))
    assert main(["run", str(folder / "job.toml"), "-d", str(folder / "walls")]) == 0
    assert np.ptp(read_series(folder / "walls" / "series.h5")["mean"]) < 1e-14


def test_a_network_that_leads_astray_ends_the_run(folder, capsys):
    network(folder / "network.ostwald", scale=3.0)
    (folder / "job.toml").write_text(JOB + "[limits]\nevery = 1\nfield = 2.0\n")
    assert main(["run", str(folder / "job.toml"), "-d", str(folder / "astray")]) == 1
    assert "beyond [limits] field = 2" in capsys.readouterr().err
    assert list_checkpoints(folder / "astray" / "checkpoints")[-1].valid


def test_check_tells_memory_time_and_messages(folder, capsys):
    assert main(["check", str(folder / "job.toml"), "--ranks", "3"]) == 0
    said = capsys.readouterr().out
    for part in ("3, slabs, 3 × 1 parts", "memory ", "22 steps", "each rank sends", "3 frames", "stage 2", "ms/step"):
        assert part in said, said


def test_the_page_of_keys_is_up_to_date():
    assert (Path(__file__).parents[2] / "docs" / "rollout-run-file.md").read_text() == page() + "\n"
