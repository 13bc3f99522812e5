"""Runs the program as a user does, in processes of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest


def clean_environment():
    """This process may be an MPI rank itself; what it starts must not believe so."""
    own = (
        "OMPI_COMM",
        "OMPI_UNIVERSE",
        "OMPI_APP",
        "OMPI_ARGV",
        "OMPI_COMMAND",
        "OMPI_NUM",
        "OMPI_FILE",
        "PMIX_",
        "PMI_",
        "ORTE_",
    )
    return {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(own) and k not in ("OMPI_MCA_ess", "OMPI_MCA_orte_launch")
    }


class Program:
    """`ostwald` (or another Python program) on some ranks."""

    def __init__(self, *program):
        self.program = program or ("-m", "ostwald.app.cli")

    def command(self, *arguments, ranks=1):
        program = [sys.executable, *map(str, self.program + arguments)]
        if ranks == 1:
            return program
        if shutil.which("mpirun") is None:
            pytest.skip("needs mpirun")
        return ["mpirun", "-n", str(ranks), *program]

    def start(self, *arguments, ranks=1):
        return subprocess.Popen(
            self.command(*arguments, ranks=ranks),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
            start_new_session=True,
        )

    def __call__(self, *arguments, ranks=1, timeout=240):
        """(exit status, standard output, standard error); ends the whole group when it takes too long."""
        process = self.start(*arguments, ranks=ranks)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"{self.program} {' '.join(map(str, arguments))} did not end:\n{out}\n{err}") from None
        return process.returncode, out, err

    def kill_when(self, condition, *arguments, ranks=1, number=signal.SIGKILL, timeout=120):
        """Starts, waits for condition(), sends the signal to every process of the group; the exit status. SIGKILL goes to
        the ranks too, which a launcher keeps in groups of their own and which would outlive it for a while."""
        process = self.start(*arguments, ranks=ranks)
        deadline = time.monotonic() + timeout
        while not condition():
            if process.poll() is not None:
                out, err = process.communicate()
                raise AssertionError(f"ended before it could be stopped ({process.returncode}):\n{out}\n{err}")
            assert time.monotonic() < deadline, "never came so far"
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.killpg(process.pid, number)
        for child in children if number == signal.SIGKILL else ():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err


@pytest.fixture(scope="session")
def ostwald():
    return Program()


@pytest.fixture(scope="session")
def program():
    """program("file.py") starts a Python program the way `ostwald` starts the command."""
    return Program


@pytest.fixture
def run_file(tmp_path):
    """Writes a run file; `more` is appended."""

    def write(text, name="job.toml"):
        path = Path(tmp_path) / name
        path.write_text(text)
        return path

    return write
