"""The batch scripts, run as SLURM runs them, with stand-ins for srun and scontrol."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import clean_environment

ROOT = Path(__file__).parents[2]
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
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol.txt',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    installed = tmp_path / ".venv/bin/ostwald"
    installed.parent.mkdir(parents=True)
    installed.write_text(f'#!/bin/bash\nexec {sys.executable} -m ostwald.app.cli "$@"\n')
    installed.chmod(0o755)
    environment = clean_environment() | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "4711",
        "SLURM_CPUS_PER_TASK": "1",
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
