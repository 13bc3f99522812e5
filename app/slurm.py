"""What is asked of SLURM, by its commands."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass


class SlurmError(RuntimeError):
    """SLURM refused, or is not there; one sentence."""


@dataclass(frozen=True)
class QueuedJob:
    """A job, or a task of an array, as squeue tells. state: PENDING, RUNNING, …; reason: why it waits; start: when it may begin, or ""."""

    state: str
    reason: str
    start: str


def present() -> bool:
    """Whether this machine can ask a SLURM."""
    return shutil.which("squeue") is not None


def submit(script: str) -> str:
    """Submits a script; the number of the job."""
    return _ask("sbatch", "--parsable", script).strip().partition(";")[0]


def cores_of_a_node(partition: str | None) -> int | None:
    """Cores of the smallest node of a partition (the default one where None is given); None where there is no SLURM to ask."""
    if shutil.which("sinfo") is None:
        return None
    lines = _ask("sinfo", "-h", "-N", "-o", "%P %X %Y", *([f"--partition={partition}"] if partition else [])).split(
        "\n"
    )
    nodes = [line.split() for line in lines if line.strip()]
    found = [int(x) * int(y) for name, x, y in nodes if partition or name.endswith("*")]
    return min(found, default=None)


def queued(job: str) -> QueuedJob | None:
    """The job in the queue; None where it is there no more."""
    try:
        text = _ask("squeue", "-h", "-j", job, "-o", "%T|%r|%S")
    except SlurmError as error:
        if "Invalid job id" in str(error):
            return None
        raise
    lines = [line.split("|") for line in text.splitlines() if line.strip()]
    if not lines or lines[0][0] in (
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "OUT_OF_MEMORY",
    ):
        return None
    state, reason, start = lines[0]
    return QueuedJob(state, reason, "" if start in ("N/A", "(null)") else start)


def _ask(command: str, *arguments) -> str:
    try:
        done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise SlurmError(f"{command}: not found; is this a machine of a cluster with SLURM?") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command} did not answer within a minute") from None
    if done.returncode:
        raise SlurmError(f"{command}: {' '.join(done.stderr.split()) or f'exit status {done.returncode}'}")
    return done.stdout
