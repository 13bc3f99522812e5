"""The world of a run: its ranks, threads, log, timers, collective errors. MPI is spoken in this package only."""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import suppress

import numpy as np

WAIT = 1.5  # s that a failing rank waits for the others to fail or end too, before it ends them


class CollectiveError(RuntimeError):
    """An error that every rank raises together. `rank` is where it happened (None: everywhere alike)."""

    collective = True  # run_collectively() ends cleanly on errors marked so: no rank is left waiting

    def __init__(self, message: str, rank: int | None = None):
        super().__init__(message)
        self.rank = rank


def launched_size() -> int:
    """The number of ranks that the MPI launcher says it started (1 without a launcher)."""
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "PMIX_SIZE"):
        with suppress(KeyError, ValueError):
            return int(os.environ[name])
    return 1


def is_root() -> bool:
    """Whether this is the first rank, for what one rank does alone; without a launcher MPI is not started for it."""
    if launched_size() == 1:
        return True
    from mpi4py import MPI

    return MPI.COMM_WORLD.Get_rank() == 0


class World:
    """A communicator with what a run needs from it.

    comm: an mpi4py communicator; None is MPI.COMM_WORLD.
    threads: threads per rank for the kernels. None takes OMP_NUM_THREADS, or 1; a number that the cores of the node
    cannot hold is used with one warning when given here and reduced to 1 when it came from the environment;
    "auto" shares the cores that the ranks of this node may run on.
    """

    def __init__(self, comm=None, threads: int | str | None = None):
        from mpi4py import MPI

        self._mpi = MPI
        self._ops = {"sum": MPI.SUM, "min": MPI.MIN, "max": MPI.MAX}
        whole = comm is None
        self.comm = MPI.COMM_WORLD if whole else comm
        self.rank = self.comm.Get_rank()
        self.size = self.comm.Get_size()
        self.root = self.rank == 0
        self.log = Log(self.root)
        self.timers = Timers(self)
        if whole:
            _Watch.start(self.comm)
        if self.size > 1:
            _quiet_ase()
        self._place()
        self.threads = self._choose_threads(threads)

    # --- where the ranks run

    def _place(self):
        try:
            mine = os.sched_getaffinity(0)
        except AttributeError:  # not Linux
            mine = set(range(os.cpu_count() or 1))
        self.hostname = self._mpi.Get_processor_name()
        everyone = self.allgather((self.hostname, sorted(mine)))
        here = [cores for host, cores in everyone if host == self.hostname]
        self.node_ranks = len(here)
        self.node_rank = sum(host == self.hostname for host, _ in everyone[: self.rank])
        self.node_cores = len(set().union(*here))
        self.affinity = sorted(mine)
        self.nodes = len({host for host, _ in everyone})
        self._places = everyone

    def use_threads(self, threads: int | str | None) -> int:
        """Collective: sets the threads per rank from now on, as the constructor does; returns their number."""
        self.threads = self._choose_threads(threads)
        return self.threads

    def _choose_threads(self, threads) -> int:
        fitting = max(1, self.node_cores // self.node_ranks)
        asked = threads is not None and threads != "auto"
        if threads == "auto":
            count = fitting
        elif asked:
            count = int(threads)
            if count < 1:
                raise ValueError(f"threads must be at least 1, not {threads}")
        else:
            text = os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]
            count = int(text) if text.isdigit() and int(text) > 0 else 1
        too_many = self.allreduce(int(self.node_ranks * count > self.node_cores), "max")
        if too_many:
            if not asked:
                count = 1
            crowded = self.allgather(self.node_ranks * count > self.node_cores)
            if any(crowded):
                self.log.warning(
                    f"{self.node_ranks} ranks x {count} threads share {self.node_cores} cores of {self.hostname}: "
                    "they will wait for each other"
                )
            else:
                self.log.warning(
                    f"OMP_NUM_THREADS asks for more threads than {self.hostname} has cores for "
                    f"({self.node_ranks} ranks, {self.node_cores} cores): using 1 thread per rank"
                )
        return count

    def describe(self) -> str:
        """One or a few lines: ranks, nodes, threads, and the cores each rank is bound to. The same on every rank."""
        ranks = f"{self.size} rank{'s' * (self.size > 1)}"
        nodes = f"{self.nodes} node{'s' * (self.nodes > 1)}"
        lines = [f"{ranks} x {self.threads} thread{'s' * (self.threads > 1)} on {nodes}"]
        for host in dict.fromkeys(host for host, _ in self._places):
            bindings = [f"{r}: {_ranges(cores)}" for r, (h, cores) in enumerate(self._places) if h == host]
            if len(bindings) > 16:
                bindings = [*bindings[:8], "...", *bindings[-4:]]
            lines.append(f"  {host}, cores of rank " + "; ".join(bindings))
        return "\n".join(lines)

    # --- collectives

    def allreduce(self, x, op: str = "sum"):
        """Sum, minimum or maximum over ranks of a number or an array; the same kind and bits on every rank."""
        if isinstance(x, np.ndarray) and x.dtype != object:
            if self.size == 1:
                return x.copy()
            out = np.empty_like(x, order="C")
            self.comm.Allreduce(np.ascontiguousarray(x), out, self._ops[op])
            return out
        kind = float if isinstance(x, (float, np.floating)) else int if isinstance(x, (int, np.integer)) else None
        if kind is None:
            raise TypeError(f"allreduce takes numbers and arrays, not {type(x).__name__}")
        if self.size == 1:
            return kind(x)
        buffer = np.array([x], dtype=np.float64 if kind is float else np.int64)
        out = np.empty_like(buffer)
        self.comm.Allreduce(buffer, out, self._ops[op])
        return kind(out[0])

    def bcast(self, obj=None, root: int = 0):
        """The root's object, on every rank."""
        return self.comm.bcast(obj, root) if self.size > 1 else obj

    def gather(self, obj, root: int = 0):
        """The list of every rank's object on the root, None elsewhere."""
        return self.comm.gather(obj, root) if self.size > 1 else [obj]

    def allgather(self, obj) -> list:
        """The list of every rank's object, on every rank."""
        return self.comm.allgather(obj) if self.size > 1 else [obj]

    def barrier(self):
        if self.size > 1:
            self.comm.Barrier()

    def split(self, color: int) -> World:
        """A world of the ranks that gave the same color, in the same order."""
        return World(self.comm.Split(color, self.rank), threads=self.threads)

    def agree(self, error: BaseException | str | None) -> None:
        """Collective: where any rank has an error, every rank raises the lowest rank's as CollectiveError."""
        if self.size == 1:
            if error is None:
                return
            raise CollectiveError(_sentence(error), 0) from (error if isinstance(error, BaseException) else None)
        first = self.allreduce(self.size if error is None else self.rank, "min")
        if first == self.size:
            return
        message = self.bcast(_sentence(error) if self.rank == first else None, first)
        raise CollectiveError(message, first) from (error if isinstance(error, BaseException) else None)

    def imbalance(self, x: float) -> float:
        """max / mean over ranks of a cost (1 where there is none)."""
        total = self.allreduce(float(x))
        return self.allreduce(float(x), "max") * self.size / total if total > 0 else 1.0


class Log:
    """Prints on rank 0: to standard output and to every file object in `files` (opened and closed by `io`)."""

    def __init__(self, root: bool):
        self.root = root
        self.files = []
        self.screen = True
        self._warned = set()

    def __call__(self, *text):
        if self.root:
            line = " ".join(map(str, text))
            if self.screen:
                print(line, flush=True)
            for file in self.files:
                print(line, file=file, flush=True)

    def warning(self, text: str):
        """A warning, on standard error and in the files, once per text."""
        if self.root and text not in self._warned:
            self._warned.add(text)
            if self.screen:
                print(f"WARNING: {text}", file=sys.stderr, flush=True)
            for file in self.files:
                print(f"WARNING: {text}", file=file, flush=True)


class Timers:
    """Where the time of a rank goes: `with timers("force"): ...`. Sections may nest; each counts its own time only.

    clock: what is counted; time.process_time makes it processor time.
    """

    def __init__(self, world: World):
        self._world = world
        self._sections: dict[str, _Section] = {}
        self._stack: list[_Section] = []
        self._mark = 0.0
        self.clock = time.perf_counter

    def __call__(self, name: str) -> _Section:
        try:
            return self._sections[name]
        except KeyError:
            section = self._sections[name] = _Section(self, name)
            return section

    def seconds(self, name: str) -> float:
        """Seconds of this rank in a section so far (0 if it never ran)."""
        return self._sections[name].seconds if name in self._sections else 0.0

    def reset(self):
        for section in self._sections.values():
            section.seconds, section.calls = 0.0, 0

    def add(self, other: Timers):
        """Counts the seconds of this rank in another world, a part of this one, as well."""
        for name, section in other._sections.items():
            mine = self(name)
            mine.seconds, mine.calls = mine.seconds + section.seconds, mine.calls + section.calls

    def report(self) -> dict[str, tuple[float, float, float]]:
        """Collective: section -> (min, mean, max) seconds over ranks, the longest first."""
        mine = {name: section.seconds for name, section in self._sections.items()}
        everyone = self._world.allgather(mine)
        table = {}
        for name in dict.fromkeys(name for sections in everyone for name in sections):
            values = [sections.get(name, 0.0) for sections in everyone]
            table[name] = (min(values), sum(values) / len(values), max(values))
        return dict(sorted(table.items(), key=lambda item: -item[1][1]))


class _Section:
    __slots__ = ("_timers", "calls", "name", "seconds")

    def __init__(self, timers: Timers, name: str):
        self._timers, self.name, self.seconds, self.calls = timers, name, 0.0, 0

    def __enter__(self):
        timers = self._timers
        now = timers.clock()
        stack = timers._stack
        if stack:
            stack[-1].seconds += now - timers._mark
        stack.append(self)
        timers._mark = now
        return self

    def __exit__(self, *error):
        timers = self._timers
        now = timers.clock()
        self.seconds += now - timers._mark
        self.calls += 1
        timers._stack.pop()
        timers._mark = now


def require_one_mpi(world: World) -> None:
    """Raises CollectiveError where parallel output could not work: a launcher of another MPI than mpi4py's, an h5py
    without MPI, or an h5py linked to another MPI library. One rank alone works with any h5py."""
    error = None
    if world.size == 1:
        if launched_size() > 1:
            error = (
                f"the launcher started {launched_size()} processes, but mpi4py sees one rank in each: "
                "mpirun belongs to another MPI than the one mpi4py was built with"
            )
    else:
        import h5py

        loaded = _loaded_mpi()
        if not h5py.get_config().mpi:
            error = "h5py was built without MPI: several ranks need one with parallel HDF5 (make install builds it)"
        elif len(loaded) > 1:
            error = f"mpi4py and h5py were built against different MPI libraries: {', '.join(loaded)}"
    world.agree(error)


def _quiet_ase() -> None:
    """ASE, where it finds mpi4py loaded, broadcasts what it reads and draws to all ranks of MPI.COMM_WORLD by itself: then a
    rank that reads a file or moves atoms alone waits for ever. Here every rank is on its own for ASE."""
    with suppress(ImportError):
        from ase import parallel

        parallel.world.comm = parallel.DummyMPI()


def _loaded_mpi() -> list[str]:
    """The MPI libraries (libmpi*.so) that this process has loaded, without the companions of one installation."""
    found = set()
    with suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            path = line.rstrip("\n").partition("/")[2]
            name = path.rpartition("/")[2]
            if name.startswith(("libmpi.so", "libmpich.so", "libmpi_cray", "libmpi_mt.so")):
                found.add(os.path.realpath("/" + path))
    return sorted(found)


# --- ending together


class _Watch:
    """A private channel over which ranks tell each other that they have ended or failed, whatever the others are in."""

    comm = None

    @classmethod
    def start(cls, comm=None):
        """Opens the channel once, where there is more than one rank. comm None: all ranks."""
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_WORLD
        if cls.comm is None and comm.Get_size() > 1:
            cls.comm = comm.Dup()

    @classmethod
    def meet(cls, message: str | None, patience: float | None):
        """Every rank's message (None: no error), or None when not all ranks came within `patience` seconds."""
        comm = cls.comm
        text = (message or "").encode()[:4000]
        mine = np.zeros(4096, np.uint8)
        mine[: len(text) + 1] = np.frombuffer(bytes([message is not None]) + text, np.uint8)
        everyone = np.empty((comm.Get_size(), 4096), np.uint8)
        # Two stages keep the usual end light: one flag each, and the texts only when somebody failed.
        flag, flags = mine[:1].copy(), np.empty(comm.Get_size(), np.uint8)
        if not _complete(comm.Iallgather(flag, flags), patience):
            return None
        if not flags.any():
            return [None] * comm.Get_size()
        if not _complete(comm.Iallgather(mine, everyone), patience):
            return None
        return [bytes(row[1:]).rstrip(b"\0").decode(errors="replace") if row[0] else None for row in everyone]


def _complete(request, patience: float | None) -> bool:
    start, pause = time.monotonic(), 1e-5
    while not request.Test():
        if patience is not None and time.monotonic() - start > patience:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    return True


def run_collectively(main) -> int:
    """Runs main() on every rank and returns the exit status for the process; no rank is left waiting for a failed one.

    main() returns an exit status (None is 0). An exception on some ranks ends all: the message of the lowest failing
    rank goes to standard error once, the status is 1. An exception that all ranks raise alike is printed once, without
    a rank. OSTWALD_DEBUG=1 adds tracebacks. An exception's `exit_status` attribute, where there is one, is the status.
    """
    if launched_size() > 1:
        _Watch.start()  # before anything can fail on one rank only
    status, message, trace = 0, None, ""
    try:
        status = main() or 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            status = end.code or 0
        else:
            status, message = 1, str(end.code)
    except KeyboardInterrupt:
        status, message = 130, "interrupted"
    except BaseException as error:
        status, message = getattr(error, "exit_status", 1), _sentence(error)
        if os.environ.get("OSTWALD_DEBUG", "0") not in ("", "0"):
            trace = traceback.format_exc()
        elif not isinstance(error, EXPECTED) and not getattr(error, "collective", False):
            message += f" [{_place_of(error)}; OSTWALD_DEBUG=1 shows the traceback]"
        if isinstance(error, CollectiveError) and error.rank is not None and _Watch.comm is not None:
            message = f"rank {error.rank} of {_Watch.comm.Get_size()}: {message}"
    if _Watch.comm is None:
        if message is not None:
            _complain(message, trace)
        return status
    rank, size = _Watch.comm.Get_rank(), _Watch.comm.Get_size()
    # Lower ranks lose patience first, so that one of several failing ranks speaks and ends the rest.
    patience = None if message is None else WAIT + min(0.2 * rank, 3.0)
    met = _Watch.meet(message, patience)
    if met is None:
        _complain(f"rank {rank} of {size}: {message}", trace)
        sys.stdout.flush()
        _Watch.comm.Abort(status or 1)
    failed = [r for r, text in enumerate(met) if text is not None]
    if not failed:
        return status
    if rank == failed[0]:
        alike = len(failed) == size and len(set(met)) == 1
        _complain(message if alike else f"rank {rank} of {size}: {message}", trace)
    return status or 1


EXPECTED = (OSError, ValueError, KeyError, MemoryError, ImportError)  # whose message says it all


def _sentence(error) -> str:
    if not isinstance(error, BaseException):
        return "" if error is None else str(error)
    if isinstance(error, KeyError):
        return f"missing {error}"
    return str(error) or type(error).__name__


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + where


def _complain(message: str, trace: str):
    print(f"{trace}ostwald: {message}", file=sys.stderr, flush=True)


def _ranges(cores: list[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5"."""
    parts = []
    for core in cores:
        if parts and core == parts[-1][1] + 1:
            parts[-1][1] = core
        else:
            parts.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
