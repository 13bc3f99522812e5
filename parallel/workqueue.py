"""Independent work for ranks that are free."""

from __future__ import annotations

import numpy as np


class WorkQueue:
    """The numbers 0 … count - 1, each handed to one of the ranks that ask: whoever is free takes the next.

    No rank serves the others: the counter lies in memory of rank 0 that the others add to by themselves. On networks that
    cannot do this without rank 0, it happens while that rank is in some MPI call: progress() is one.

    Made by all ranks together; take() and progress() are not collective. At its end every rank calls everybody_done()
    until it is true, and all of them close().
    """

    def __init__(self, world, count: int):
        self.world, self.count = world, int(count)
        self._taken, self._window, self._end = 0, None, None
        if world.size > 1:
            mpi = world._mpi
            self._window = mpi.Win.Allocate(8 * world.root, 8, comm=world.comm)
            if world.root:
                np.frombuffer(self._window.tomemory(), np.int64)[:] = 0
            world.barrier()
            self._window.Lock_all()

    def take(self) -> int | None:
        """The next number, or None where none is left."""
        if self._window is None:
            number, self._taken = self._taken, self._taken + 1
        else:
            one, got = np.ones(1, np.int64), np.empty(1, np.int64)
            self._window.Fetch_and_op(one, got, 0)
            self._window.Flush(0)
            number = int(got[0])
        return number if number < self.count else None

    def progress(self) -> None:
        """Gives the MPI library a chance to serve the others; only rank 0 has something to serve."""
        if self._window is not None and self.world.root:
            self.world.comm.Iprobe()

    def everybody_done(self) -> bool:
        """This rank takes no more numbers; whether that holds for all ranks. Returns at once: a rank that waits may sleep
        in between."""
        if self._window is None:
            return True
        if self._end is None:
            self._end = self.world.comm.Ibarrier()
        return self._end.Test()

    def close(self) -> None:
        """Collective."""
        if self._window is not None:
            self._window.Unlock_all()
            self._window.Free()
            self._window = None
