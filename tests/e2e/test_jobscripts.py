"""The batch scripts, run as SLURM runs them, with stand-ins for srun and scontrol."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ostwald.app.jobs.sequences_schema import Plan
from ostwald.app.runfile import load_toml
from ostwald.io.sequences import Sequences

from .conftest import clean_environment

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "jobscripts").glob("*.sbatch"))
JOB = """
[job]
kind = "md"
[structure]
lattice = "fcc"
a = 3.62
species = ["Cu"]
cells = [4, 4, 4]
[potential]
file = "zhou:Cu"
[[stage]]
ensemble = "nve"
velocities = 300.0
steps = {steps}
[series]
every = 20
"""


@pytest.fixture
def cluster(tmp_path):
    """A folder like the project's top, and an environment in which srun starts one rank and scontrol takes notes."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {
        "srun": '[ "$1" = --mpi=pmix ] || exit 9\nshift\nexec "$@"',
        "ostwald": f'exec {sys.executable} -m ostwald.app.cli "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol.txt',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    (tmp_path / "jobscripts").symlink_to(ROOT / "jobscripts")
    environment = clean_environment() | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "4711",
    }
    return tmp_path, environment


def test_a_job_warned_by_slurm_queues_itself_again_and_ends(cluster):
    top, environment = cluster
    script = ROOT / "jobscripts/nucleation-small.sbatch"
    folder = top / "examples/nucleation"
    folder.mkdir(parents=True)
    (folder / "small.toml").write_text(JOB.format(steps=10**7))
    start = dict(env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    process = subprocess.Popen(["bash", str(script)], **start)
    rows = folder / "runs/small/series.csv"
    try:
        deadline = time.monotonic() + 60
        while not (rows.exists() and rows.read_text().count("\n") > 3):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR1)  # to the script alone, as B: says
        out, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 85, out
    assert (top / "scontrol.txt").read_text() == "requeue 4711\n"
    resolved = folder / "runs/small/run.toml"
    done = int(rows.read_text().splitlines()[-1].split(",")[0])
    resolved.write_text(resolved.read_text().replace(str(10**7), str(done + 100)))
    again = subprocess.run(["bash", str(script)], timeout=120, check=False, **{**start, "start_new_session": False})
    assert again.returncode == 0 and "resumed at step" in again.stdout, again.stdout
    assert rows.read_text().splitlines()[-1].startswith(f"{done + 100},")
    assert (top / "scontrol.txt").read_text() == "requeue 4711\n"


def test_each_task_of_the_array_is_a_replica_of_its_own_seed(cluster):
    top, environment = cluster
    folder = top / "examples/nucleation"
    folder.mkdir(parents=True)
    (folder / "replica.toml").write_text(JOB.format(steps=20).replace('"md"', '"md"\nseed = 1'))
    script = ROOT / "jobscripts/nucleation-replicas.sbatch"
    done = subprocess.run(
        ["bash", str(script)],
        env=environment | {"SLURM_ARRAY_TASK_ID": "3"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed = 3\n" in (folder / "runs/replica-3/run.toml").read_text()


def test_each_task_of_the_array_makes_its_part_of_a_set(cluster):
    """Parts of 185 sequences, each with the parameters that it has in the whole set."""
    top, environment = cluster
    folder = top / "examples/dataset-3d"
    folder.mkdir(parents=True)
    text = (ROOT / "examples/dataset-3d/train.toml").read_text()
    for old, new in {
        "[64, 64, 64]": "[16, 16, 16]",
        "frames = 50": "frames = 2",
        "interval = 0.5": "interval = 1.25e-3",
        "[4, 8, 16]": "[4, 8]",
        "24.5, 49.0": "0.005, 0.01",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "train.toml").write_text(text)
    done = subprocess.run(
        ["bash", str(ROOT / "jobscripts/dataset-3d.sbatch")],
        env=environment | {"SLURM_ARRAY_TASK_ID": "9"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    whole = Plan(load_toml(folder / "train.toml"), folder / "train.toml")
    with Sequences(folder / "runs/train-9/sequences.h5") as data:
        assert data.first[0] == 1665 and data.shape == (185, 2, 8, 8, 8) and len(data.numbers()) == 185
        for key, values in whole.parameters.items():
            assert np.array_equal(data.parameters[key], values[1665:])
        assert np.array_equal(data.seed, whole.seed[1665:]) and np.array_equal(data.validation, whole.validation[1665:])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_batch_scripts_run_what_there_is(script):
    text = script.read_text()
    run_file = next(line.split("=")[1] for line in text.splitlines() if line.startswith("run_file="))
    assert (ROOT / run_file.replace("-$SLURM_ARRAY_TASK_ID", "")).exists()
    for option in ("--signal=B:USR1@300", "--requeue", "--time=", f"--job-name={script.stem}"):
        assert f"#SBATCH {option}" in text
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
