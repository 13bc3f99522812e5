"""What all tests share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run import SETTINGS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference_data():
    """The folder of reference data: $OSTWALD_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("OSTWALD_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} does not exist (set OSTWALD_DATA)")
    return folder


@pytest.fixture
def world():
    """All ranks."""
    from ostwald.parallel import World

    return World()


@pytest.fixture(scope="session")
def mpirun():
    """Starts a program on its own ranks: mpirun(2, "-m", "mpi4py", "x.py", cwd=..., timeout=120) -> CompletedProcess.

    The arguments go to this Python; output is text. The variables of an MPI that this process runs under are left out:
    an mpirun that inherits them believes to be a part of that job. With wait=False the Popen is returned instead.
    """
    own = ("PMIX_", "PMI_", "ORTE_", "OMPI_COMM_", "OMPI_UNIVERSE", "OMPI_APP", "OMPI_FIRST", "OMPI_NUM_", "OMPI_FILE")
    own += ("OMPI_COMMAND", "OMPI_ARGV", "OMPI_MCA_orte_", "OMPI_MCA_ess", "OMPI_MCA_initial", "OMPI_MCA_mpi_oversub")

    def run(ranks, *arguments, cwd=None, timeout=120, env=None, wait=True):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(own)}
        command = [os.environ.get("MPIRUN", "mpirun"), "-n", str(ranks), sys.executable, *map(str, arguments)]
        pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process = subprocess.Popen(command, cwd=cwd, env={**SETTINGS, **clean, **(env or {})}, **pipes)
        if not wait:
            return process
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            pytest.fail(f"{' '.join(command)} took more than {timeout} s\n{output[-2000:]}\n{errors[-2000:]}")
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    return run
