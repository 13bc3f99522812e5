"""How a run was made: versions, machine, ranks, command. Written beside the results as provenance.json."""

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

_PACKAGES = ("ostwald", "numpy", "mpi4py", "h5py", "ase", "scipy", "torch", "petsc4py", "horovod")


def provenance(world, **extra) -> dict:
    """Versions, host, ranks, threads, git revision, command line, MPI library, HDF5 and compile target; JSON-able.

    Collective (the hosts of all ranks are gathered); the same on every rank. `extra` is added as given.
    Nothing is imported for it that the run has not imported itself: packages are asked for their version only.
    """
    hosts = world.allgather(platform.node())
    facts = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": list(sys.orig_argv),
        "directory": os.getcwd(),
        "user": os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid()),
        "hosts": {host: hosts.count(host) for host in dict.fromkeys(hosts)},
        "ranks": world.size,
        "threads": world.threads,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "revision": _revision(),
        "mpi": _mpi(),
        "hdf5": _hdf5(),
        "march": os.environ.get("OSTWALD_MARCH", "native"),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        **extra,
    }
    return world.bcast(facts)


def origin(facts: dict) -> dict:
    """What of the provenance of a run goes with a model that it made, wherever that is taken: nothing of places and people."""
    return {name: facts[name] for name in ("date", "ranks", "threads", "versions", "revision", "processor", "march")}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The git revision of the source tree (with "+" where it was changed), where this is one."""
    here = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(here)]
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10)
        if tracked.returncode:
            return None
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
        return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _mpi() -> str | None:
    module = sys.modules.get("mpi4py.MPI")
    return module.Get_library_version().strip("\0 \n").splitlines()[0] if module else None


def _hdf5() -> dict:
    import h5py

    return {"version": h5py.version.hdf5_version, "parallel": bool(h5py.get_config().mpi)}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
