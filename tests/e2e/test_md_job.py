"""The molecular-dynamics job as its users run it: outputs, stops, restarts on the same and other rank counts, mistakes."""

import json
import signal

import h5py
import numpy as np
import pytest

from ostwald.io.checkpoint import list_checkpoints, read_checkpoint
from ostwald.io.timeseries import read_series
from ostwald.parallel import World

JOB = """
[job]
kind = "md"
seed = 7
[structure]
lattice = "fcc"
a = 3.62
species = ["Cu"]
cells = [6, 5, 4]
rattle = 0.02
[potential]
file = "zhou:Cu"
precision = "{precision}"
[[stage]]
name = "heat"
ensemble = "nvt"
thermostat = "{thermostat}"
velocities = 300.0
temperature = [300.0, 900.0]
timestep = 0.002
steps = 60
[[stage]]
name = "hold"
ensemble = "npt"
cell = "{cell}"
temperature = 900.0
pressure = 0.0
timestep = 0.002
steps = {steps}
[series]
every = 10
[trajectory]
every = 20
velocities = true
[analysis]
every = 50
[checkpoint]
every = {checkpoint}
[log]
every = 50
"""


def job(precision="double", thermostat="nose-hoover", cell="isotropic", steps=140, checkpoint=50):
    return JOB.format(precision=precision, thermostat=thermostat, cell=cell, steps=steps, checkpoint=checkpoint)


def final_state(directory):
    """Arrays of the last checkpoint, sorted by id, and its meta."""
    checkpoint = read_checkpoint(directory / "checkpoints", World())
    order = np.argsort(checkpoint.arrays["ids"])
    return {k: v[order] for k, v in checkpoint.arrays.items()}, checkpoint.meta


def test_run_leaves_everything(ostwald, run_file, tmp_path):
    status, out, err = ostwald("run", run_file(job()), "-d", tmp_path / "run")
    assert status == 0, out + err
    for word in ("atom-steps/s", "ns/day", "neighbour", "halo", "memory", "stage 2 of 2"):
        assert word in out
    figures = json.loads((tmp_path / "run/timing.json").read_text())
    assert figures["atoms"] == 480 and figures["total_steps"] == 200 and figures["finished"]
    for name in ("series.h5", "series.csv"):
        rows = read_series(tmp_path / "run" / name)
        assert list(rows["step"]) == list(range(0, 201, 10))
        assert np.isfinite(rows["solid_fraction"][::5]).all()
    with h5py.File(tmp_path / "run/trajectory.h5") as f:
        frames = f["particles/trajectory/position/step"][:]
        assert list(frames) == list(range(0, 201, 20))
        assert f["particles/trajectory/position/value"].shape == (11, 480, 3)
    assert (tmp_path / "run/log.txt").read_text().count("stage") >= 2
    status, out, err = ostwald("report", tmp_path / "run")
    page = (tmp_path / "run/report.html").read_text()
    assert (status == 0 and "<svg" in page) or "data:image" in page
    status, out, err = ostwald("info", tmp_path / "run")
    assert status == 0 and "480" in out


@pytest.mark.parametrize(
    "ranks, thermostat, cell, precision",
    [
        (1, "nose-hoover", "isotropic", "double"),
        (2, "langevin", "triclinic", "mixed"),
        (2, "bussi", "anisotropic", "double"),
    ],
)
def test_resumed_run_is_bitwise_the_uninterrupted_one(ostwald, run_file, tmp_path, ranks, thermostat, cell, precision):
    text = job(precision, thermostat, cell)
    assert ostwald("run", run_file(text), "-d", tmp_path / "whole", ranks=ranks)[0] == 0
    # stopped by a signal at some step that nobody chose
    broken = tmp_path / "broken"
    log = broken / "series.csv"
    status, out, err = ostwald.kill_when(
        lambda: log.exists() and log.read_text().count("\n") > 5,
        "run", run_file(text), "-d", broken, ranks=ranks, number=signal.SIGUSR1,
    )  # fmt: skip
    assert status == 85, out + err
    assert "resume" in out
    status, out, err = ostwald("resume", broken, ranks=ranks)
    assert status == 0, out + err
    a, ma = final_state(tmp_path / "whole")
    b, mb = final_state(broken)
    for name in ("positions", "velocities", "images", "ids"):
        assert np.array_equal(a[name], b[name]), name
    assert ma["system"]["matrix"] == mb["system"]["matrix"]
    with h5py.File(tmp_path / "whole/trajectory.h5") as f, h5py.File(broken / "trajectory.h5") as g:
        assert np.array_equal(f["particles/trajectory/position/step"][:], g["particles/trajectory/position/step"][:])
        assert np.array_equal(f["particles/trajectory/position/value"][:], g["particles/trajectory/position/value"][:])


def test_restart_on_other_rank_counts(ostwald, run_file, tmp_path):
    text = job(steps=90)
    assert ostwald("run", run_file(text), "-d", tmp_path / "whole")[0] == 0
    reference, meta = final_state(tmp_path / "whole")
    path = tmp_path / "moved"
    ranks = [1, 4, 3, 2]
    begun = False
    for n in ranks[:-1]:
        before = len(list_checkpoints(path / "checkpoints")) and list_checkpoints(path / "checkpoints")[-1].step
        arguments = ("resume", path) if begun else ("run", run_file(text), "-d", path)
        log = path / "series.csv"
        lines = log.read_text().count("\n") if log.exists() else 0
        status, out, err = ostwald.kill_when(
            lambda lines=lines, log=log: log.exists() and log.read_text().count("\n") > lines + 1,
            *arguments,
            ranks=n,
            number=signal.SIGUSR1,
        )
        assert status == 85, out + err
        assert list_checkpoints(path / "checkpoints")[-1].step > before
        begun = True
    assert ostwald("resume", path, ranks=ranks[-1])[0] == 0
    moved, moved_meta = final_state(path)
    assert np.array_equal(reference["ids"], moved["ids"])
    inverse = np.linalg.inv(np.array(meta["system"]["matrix"]))
    delta = (reference["positions"] - moved["positions"]) @ inverse
    delta -= np.rint(delta)
    assert np.abs(delta).max() < 1e-9
    assert np.allclose(meta["system"]["matrix"], moved_meta["system"]["matrix"], rtol=1e-10)


def test_wall_time_limit_asks_to_be_resumed(ostwald, run_file, tmp_path):
    text = job(steps=1000000).replace("seed = 7", 'seed = 7\nwalltime = "3s"')
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run", timeout=60)
    assert status == 85, out + err
    assert list_checkpoints(tmp_path / "run/checkpoints")


RELAX = (
    JOB[: JOB.index("[[stage]]")].format(precision="double").replace("0.02", "0.3")
    + """
[[stage]]
ensemble = "minimise"
method = "fire"
force_tolerance = 1e-300
steps = 10000
[log]
every = 20
"""
)


def test_a_signal_stops_a_minimisation(ostwald, run_file, tmp_path):
    path = tmp_path / "run"
    log = path / "log.txt"
    started = ostwald.kill_when(
        lambda: log.exists() and "iteration     40" in log.read_text(),
        *("run", run_file(RELAX), "-d", path),
        number=signal.SIGTERM,
    )
    assert started[0] == 85, started
    step = list_checkpoints(path / "checkpoints")[-1].step
    assert step >= 40
    again = ostwald.kill_when(
        lambda: log.read_text().count("iteration     40") > 1, "resume", path, number=signal.SIGTERM
    )
    assert again[0] == 85 and f"resumed at step {step}" in again[1], again
    assert list_checkpoints(path / "checkpoints")[-1].step >= step + 40


def test_the_end_of_a_stage_is_kept(ostwald, run_file, tmp_path):
    """A later stage that fails does not take the finished ones with it."""
    path = tmp_path / "run"
    status, _, err = ostwald(
        "run",
        run_file(job(checkpoint=0).replace("timestep = 0.002\nsteps = 140", "timestep = 0.5\nsteps = 1")),
        "-d",
        path,
    )
    assert status == 1 and "in one step" in err, err
    assert [found.step for found in list_checkpoints(path / "checkpoints")] == [0, 60]


def test_kill_nine_loses_nothing_before_the_last_checkpoint(ostwald, run_file, tmp_path):
    text = job(steps=400, checkpoint=30)
    path = tmp_path / "run"
    folder = path / "checkpoints"
    ostwald.kill_when(
        lambda: folder.exists() and len(list(folder.glob("checkpoint-*.h5"))) > 1,
        "run",
        run_file(text),
        "-d",
        path,
        ranks=2,
    )
    status, out, err = ostwald("resume", path, ranks=2)
    assert status == 0, out + err
    with h5py.File(path / "trajectory.h5") as f:
        assert list(f["particles/trajectory/position/step"][:]) == list(range(0, 461, 20))


def test_two_runs_in_one_directory_are_refused(ostwald, run_file, tmp_path):
    path = tmp_path / "run"
    first = ostwald.start("run", run_file(job(steps=1000000)), "-d", path)
    try:
        import time

        deadline = time.monotonic() + 60
        while not (path / "series.csv").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status, _, err = ostwald("resume", path)
        assert status not in (0, 85) and len(err.strip().splitlines()) == 1, err
    finally:
        first.kill()
        first.communicate()
    # the dead one does not keep the directory
    status, _, err = ostwald("run", run_file(job(steps=20)), "-d", path, "--force")
    assert status == 0, err


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_mistake_gives_one_sentence_and_writes_nothing(ostwald, run_file, tmp_path, ranks):
    for old, new, word in [
        ("zhou:Cu", "zhou:Xx", "Xx"),
        ("steps = 60", "stps = 60", "did you mean 'steps'"),
        ('species = ["Cu"]', 'species = ["Fe", "Ni"]', "species"),
        ('kind = "md"', 'kind = "mdx"', "did you mean 'md'"),
        ("zhou:Cu", "no-such-file.eam", "no-such-file.eam"),
    ]:
        status, _, err = ostwald("run", run_file(job().replace(old, new)), "-d", tmp_path / "never", ranks=ranks)
        said = [line for line in err.splitlines() if line.startswith("ostwald:")]
        assert status not in (0, 85) and len(said) == 1 and word in said[0], (status, err)
        assert "Traceback" not in err
        assert not (tmp_path / "never").exists()


def test_exploding_system_is_reported_with_step_and_atom(ostwald, run_file, tmp_path):
    text = job().replace("timestep = 0.002", "timestep = 0.002").replace("velocities = 300.0", "velocities = 3000000.0")
    status, _, err = ostwald("run", run_file(text), "-d", tmp_path / "run")
    assert status not in (0, 85)
    assert "Traceback" not in err and len(err.strip().splitlines()) == 1, err


def test_check_tells_without_writing(ostwald, run_file, tmp_path):
    before = set(tmp_path.iterdir())
    path = run_file(job())
    status, out, err = ostwald("check", path, "--ranks", 12)
    assert status == 0, err
    for word in ("480 atoms", "12", "grid", "memory", "time", "checkpoint"):
        assert word in out
    assert set(tmp_path.iterdir()) - before == {path}


def test_a_grid_set_by_the_user(ostwald, run_file, tmp_path):
    path = run_file(job(steps=10) + "[parallel]\ngrid = [1, 2, 1]\n")
    status, out, err = ostwald("check", path)
    assert status == 0 and "grid 1 × 2 × 1" in out, err
    for command in (("check", path, "--ranks", 3), ("run", path, "-d", tmp_path / "run")):
        status, out, err = ostwald(*command)
        assert status == 1 and "[parallel] grid: 1 × 2 × 1 bricks do not match" in err, err
    assert ostwald("check", path, "--ranks", -1)[0] == 2
    before = job(steps=100000) + "[parallel]\ngrid = [1, 2, 1]\n"
    checkpoints = tmp_path / "run/checkpoints"
    ostwald.kill_when(
        lambda: checkpoints.exists() and any(checkpoints.glob("checkpoint-*.h5")),
        *("run", run_file(before), "-d", tmp_path / "run"),
        ranks=2,
    )
    status, out, err = ostwald("resume", tmp_path / "run", "--walltime", "2s")
    assert status == 85, out + err  # on one rank, whatever the grid was


def test_a_run_that_dies_at_once_starts_again(ostwald, run_file, tmp_path):
    """There is a checkpoint from the first moment on; what was written after it is written once."""
    path = tmp_path / "run"
    folder = path / "checkpoints"
    text = job(checkpoint=0)
    ostwald.kill_when(
        lambda: folder.exists() and any(folder.glob("checkpoint-*.h5")), "run", run_file(text), "-d", path
    )
    assert list_checkpoints(folder)[0].step == 0
    assert ostwald("resume", path)[0] == 0
    assert list(read_series(path / "series.h5")["step"]) == list(range(0, 201, 10))
    with h5py.File(path / "trajectory.h5") as f:
        assert list(f["particles/trajectory/position/step"][:]) == list(range(0, 201, 20))


def test_a_run_directory_can_be_moved(ostwald, run_file, tmp_path):
    """It keeps its potential."""
    from ostwald.app.potentials import eam, zhou

    eam.write_setfl(tmp_path / "Cu.eam.alloy", zhou.tables(("Cu",)))
    text = job(steps=100000).replace("zhou:Cu", "Cu.eam.alloy")
    log = tmp_path / "run/series.csv"
    status, out, err = ostwald.kill_when(
        lambda: log.exists() and log.read_text().count("\n") > 3,
        *("run", run_file(text), "-d", tmp_path / "run"),
        number=signal.SIGUSR1,
    )
    assert status == 85, out + err
    (tmp_path / "Cu.eam.alloy").unlink()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    status, out, err = ostwald("resume", tmp_path / "elsewhere", "--walltime", "2s")
    assert status == 85 and "WARNING: the potential" not in err, out + err
