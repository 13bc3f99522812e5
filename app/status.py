"""`ostwald status`: what became of the jobs of run directories."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ostwald.app import slurm
from ostwald.app.batch import JOB
from ostwald.io.checkpoint import list_checkpoints
from ostwald.io.lock import holder
from ostwald.io.text import read_text

RATES = r"([\d.e+]+ (?:atom-steps|point-steps|structures|sequences)/s)"


@dataclass(frozen=True)
class Status:
    """name: absent, queued, running, waiting to be resumed, failed, done. words: what else there is to say."""

    name: str
    words: str = ""


def describe(directory) -> str:
    state = of(directory)
    return f"{directory}: {state.name}" + (f", {state.words}" if state.words else "")


def of(directory) -> Status:
    """The state of a run, from its directory and, where it was submitted, from SLURM's queue."""
    directory = Path(directory)
    name = read_text(directory / JOB).strip() if (directory / JOB).exists() else None
    job = slurm.queued(name) if name and slurm.present() else None
    begun = (directory / "run.toml").exists()
    if job is not None and job.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "CONFIGURING"):
        again = f", goes on from step {at}" if begun and (at := _newest(directory)) is not None else ""
        when = f", may start at {job.start}" if job.start else ""
        return Status("queued", f"job {name} ({job.reason}){when}{again}")
    if job is not None or (begun and holder(directory)):
        return Status("running", "; ".join(filter(None, [f"job {name}" if job else "", _progress(directory)])))
    if not begun:
        why = _last_words(directory, name)
        return Status("failed", why or f"job {name} ended before the run began") if name else Status("absent")
    figures = _json(directory / "timing.json") if _ended(directory) else None
    if figures and figures.get("finished"):
        return Status("done", _where(figures))
    at = _newest(directory)
    resumable = f"checkpoint at step {at}" if at is not None else "no checkpoint yet"
    if figures:
        return Status("waiting to be resumed", resumable)
    why = _last_words(directory, name)
    return Status("failed", f"{why or 'it was killed, or its node failed'}; {resumable}")


def _ended(directory: Path) -> bool:
    """Whether the last start of the run came to an end of its own, which is when its figures are written."""
    figures, start = directory / "timing.json", directory / "provenance.json"
    if not figures.exists() or not start.exists():
        return False
    return figures.stat().st_mtime_ns >= start.stat().st_mtime_ns


def _newest(directory: Path) -> int | None:
    found = list_checkpoints(directory / "checkpoints")
    return found[-1].step if found else None


def _where(figures: dict) -> str:
    for key, word in (
        ("total_steps", "steps"),
        ("total_updates", "updates"),
        ("sequences", "sequences"),
        ("structures", "structures"),
    ):
        if figures.get(key) is not None:
            return f"{figures[key]} {word}"
    return ""


def _progress(directory: Path) -> str:
    """How far it is, how long it takes still and how fast it goes, as its log said last."""
    log = directory / "log.txt"
    if not log.exists():
        return "starts"
    lines = read_text(log).splitlines()
    heads = [k for k, line in enumerate(lines) if line.startswith("Ostwald ")]
    at = eta = rate = None
    for line in lines[heads[-1] if heads else 0 :]:
        if match := re.match(r"(?:resumed at )?(step|update|epoch|iteration|sequence|piece)s?\s+(\d+)", line):
            at = f"{match[1]} {match[2]}"
        if match := re.search(r"ETA ([\d:]+)", line):
            eta = f"ETA {match[1]}"
        if match := re.search(RATES, line):
            rate = match[1]
    return ", ".join(filter(None, [at, eta, rate])) or "starts"


def _last_words(directory: Path, job: str | None) -> str:
    """The sentence with which the job failed; "" where it left none."""
    log = directory / f"slurm-{job}.log"
    if not log.is_file():
        return ""
    said = [
        line
        for line in read_text(log).splitlines()
        if line.startswith(("ostwald: ", "slurmstepd: error: ", "srun: error: "))
    ]
    own = [line for line in said if line.startswith("ostwald: ")]
    return (own or said or [""])[-1].removeprefix("ostwald: ")


def _json(path: Path):
    try:
        return json.loads(read_text(path)) if path.exists() else None
    except ValueError:
        return None
