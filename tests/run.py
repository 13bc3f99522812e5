"""Runs every test and sums up: the MPI tests on 1, 2, 3 and 4 ranks, the unit and end-to-end tests in one process.

    .venv/bin/python tests/run.py [--parts 1,2,3,4,unit] [pytest arguments: -k halo, tests/mpi/test_halo.py, ...]

Each part is one pytest session (rank 0 writes to the terminal, the other ranks to build/test/). Every rank keeps a
journal of its tests, so that a part that crashes or hangs still tells what it did, and which test it died in.
A test of several ranks passes if it passes on all of them. The exit status is 0 only if everything passed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "test"
FOLDERS = {"unit": ["tests/unit", "tests/e2e"], "mpi": ["tests/mpi"]}
PART_SECONDS = {"unit": 1200, "mpi": 420}  # a part is killed after this,
TOTAL_SECONDS = 1560  # and all of it after this
TEST_SECONDS = {"unit": 300, "mpi": 120}
SETTINGS = {  # more ranks than cores, as root in a container, on one machine; mpirun of Open MPI 4 and of 5
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_btl": "self,vader,tcp",
    "OMPI_MCA_pml": "ob1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMP_NUM_THREADS": "1",
}
ORDER = ["passed", "skipped", "xfailed", "xpassed", "error", "failed"]  # from best to worst


class Journal:
    """A pytest plugin: one line of JSON for each beginning and each outcome, on disk at once."""

    def __init__(self, path):
        self.file = open(path, "w", buffering=1)

    def write(self, **entry):
        self.file.write(json.dumps(entry) + "\n")

    def pytest_runtest_logstart(self, nodeid):
        self.write(begin=nodeid)

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        outcome = report.outcome if report.when == "call" or report.skipped else "error"
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed"
        self.write(test=report.nodeid, outcome=outcome, message=self.message(report))

    def pytest_collectreport(self, report):
        if report.failed:
            self.write(test=report.nodeid, outcome="error", message=self.message(report))

    def pytest_sessionfinish(self, exitstatus):
        self.write(end=int(exitstatus))

    @staticmethod
    def message(report):
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr or "")
        return text.strip().splitlines()[0][:200] if text.strip() and not report.skipped else ""


def session(part, arguments):
    """What one process does: this rank's pytest."""
    import pytest

    rank = 0
    if part != "unit":
        from mpi4py import MPI

        rank = MPI.COMM_WORLD.rank
        if rank > 0:  # only one rank speaks; the reports of the others are in files
            log = os.open(REPORTS / f"{part}.{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
    status = pytest.main(arguments, plugins=[Journal(REPORTS / f"{part}.{rank}.json")])
    sys.stdout.flush()
    if part != "unit" and status not in (0, 5):
        os._exit(status)  # MPI_Finalize would wait for ranks that are still in a test
    sys.exit(0 if status == 5 else status)  # 5: -k selected none of this part


def launch(part, arguments, seconds):
    """Runs a part; its exit status, or None if it had to be killed."""
    for old in REPORTS.glob(f"{part}.*"):
        old.unlink()
    kind = "unit" if part == "unit" else "mpi"
    command = [] if part == "unit" else [os.environ.get("MPIRUN", "mpirun"), "-n", part]
    command += [sys.executable, __file__, "--session", part, *arguments]
    command += [f"--timeout={TEST_SECONDS[kind]}", "--timeout-method=thread", "-p", "no:cacheprovider"]
    if part != "unit":
        command += ["--with-mpi"]
    title = "unit tests" if part == "unit" else f"MPI tests on {part} rank{'s' * (part != '1')}"
    print(f"\n>>>>>> {title}", flush=True)
    process = subprocess.Popen(
        command, cwd=ROOT, env={**SETTINGS, **os.environ}, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(min(PART_SECONDS[kind], seconds))
    except subprocess.TimeoutExpired:
        return None
    finally:  # nothing of a part outlives it, also when the user stops it
        for kill in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, kill)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass


def collect(part, status):
    """The worst outcome of each test over the ranks: {test: (outcome, where, message)}."""
    outcomes = {}
    for journal in sorted(REPORTS.glob(f"{part}.*.json")):
        rank = journal.name.split(".")[1]
        where = "" if part == "unit" else f" [{part} ranks, rank {rank}]"
        running = None
        for line in journal.read_text().splitlines():
            entry = json.loads(line)
            running = entry.get("begin", running)
            if "end" in entry:
                running = None
            elif "test" in entry:
                running = None
                name, new = entry["test"], (entry["outcome"], where, entry["message"])
                if name not in outcomes or ORDER.index(new[0]) > ORDER.index(outcomes[name][0]):
                    outcomes[name] = new
        if running:
            outcomes[running] = ("failed", where, "the process ended here" if status else "no outcome")
    if status != 0 and not any(outcome in ("failed", "error") for outcome, _, _ in outcomes.values()):
        reason = "killed at its time limit" if status is None else f"exit status {status}"
        outcomes[f"part {part}"] = ("error", "", reason)
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="1,2,3,4,unit", help="rank counts and unit, with commas")
    parser.add_argument("--session", help=argparse.SUPPRESS)
    options, arguments = parser.parse_known_args()
    if options.session:
        session(options.session, arguments)

    REPORTS.mkdir(parents=True, exist_ok=True)
    paths = [a for a in arguments if (ROOT / a.split("::")[0]).exists()]
    arguments = [a for a in arguments if a not in paths]
    begin = time.monotonic()
    counts, troubles = Counter(), []
    for part in options.parts.split(","):
        folders = FOLDERS["unit" if part == "unit" else "mpi"]
        chosen = [p for p in paths if p.startswith(tuple(folders))] if paths else folders
        if not chosen:
            continue
        status = launch(part, chosen + arguments, max(10, TOTAL_SECONDS - (time.monotonic() - begin)))
        for name, (outcome, where, message) in collect(part, status).items():
            counts[outcome] += 1
            if outcome in ("failed", "error"):
                troubles.append(f"{outcome.upper():6s} {name}{where}" + (f" - {message}" if message else ""))
                rank = where.rpartition(" ")[2].rstrip("]")
                log = REPORTS / f"{part}.{rank}.log"
                if rank not in ("", "0") and log.exists():  # rank 0 has already said its own
                    print(f"\n>>>>>> the end of {log.relative_to(ROOT)}")
                    print("\n".join(log.read_text(errors="replace").splitlines()[-60:]), flush=True)

    seconds = time.monotonic() - begin
    print(f"\n>>>>>> all parts: {options.parts}")
    if troubles:
        print(f"{' short test summary info ':=^80}")
        print("\n".join(troubles))
    words = {"error": "errors" if counts["error"] > 1 else "error"}
    shown = ("failed", "passed", "skipped", "xfailed", "xpassed", "error")
    summary = ", ".join(f"{counts[k]} {words.get(k, k)}" for k in shown if counts[k]) or "no tests ran"
    clock = f" ({timedelta(seconds=int(seconds))})" if seconds >= 60 else ""
    print(f"{f' {summary} in {seconds:.2f}s{clock} ':=^80}", flush=True)
    sys.exit(1 if troubles or not counts["passed"] else 0)


if __name__ == "__main__":
    main()
