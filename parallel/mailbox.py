"""Memory that the ranks of a node share: a rank writes what others read, without a message."""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _halo

LINE = 128  # bytes before each box: its counter has a cache line pair of its own


class Mailbox:
    """One box per rank of this node, two halves each, used in turns.

    An exchange is: begin(), write into `half(own rank)`, publish(), wait(readers and writers), read `half(their rank)`.
    Every rank of the node takes part in every exchange, even if only to publish(), and waits for all ranks that it
    reads from or that read from it. So whoever has waited knows that its readers published the present exchange and
    are done with the one before: its other half is free again. reserve() lies between exchanges with different readers.
    """

    def __init__(self, world):
        self._mpi = world._mpi
        self._node = world.comm.Split_type(self._mpi.COMM_TYPE_SHARED, world.rank)
        members = self._node.allgather(world.rank)
        self.ranks = {rank: place for place, rank in enumerate(members)} if len(members) > 1 else {}
        self.me = world.rank
        self._spins = 0 if world.node_ranks * world.threads > world.node_cores else 4096  # to waste no core of another
        self.capacity = 0  # bytes of a half
        self.sequence = 0
        self.generation = 0  # of the memory: arrays of an earlier one must not be touched
        self._window = None
        self._user = None
        self._counters, self._halves = {}, {}

    @classmethod
    def of(cls, world) -> Mailbox:
        """Collective: the mailbox of a world, made at the first call."""
        if not hasattr(world, "_mailbox"):
            world._mailbox = cls(world)
        return world._mailbox

    def reserve(self, size: int) -> None:
        """Collective over the node: every half holds at least `size` bytes afterwards, whatever ranks ask for."""
        if not self.ranks:
            return
        want = np.array([size], np.int64)
        self._node.Allreduce(self._mpi.IN_PLACE, want, self._mpi.MAX)
        if self._window is not None and want[0] <= self.capacity:
            return
        self.generation += 1
        self.capacity = int(want[0] + want[0] // 4 + LINE) // LINE * LINE
        if self._window is not None:
            self._counters, self._halves = {}, {}
            self._window.Unlock_all()
            self._window.Free()
        self._window = self._mpi.Win.Allocate_shared(2 * LINE + 2 * self.capacity, 1, comm=self._node)
        self._window.Lock_all(self._mpi.MODE_NOCHECK)
        for rank, place in self.ranks.items():
            memory = np.frombuffer(self._window.Shared_query(place)[0], np.uint8)
            memory = memory[-memory.ctypes.data % LINE :]  # the same for all: pages are mapped whole
            self._counters[rank] = memory[:8].view(np.uint64)
            boxes = memory[LINE : LINE + 2 * self.capacity].reshape(2, self.capacity)
            self._halves[rank] = boxes[0], boxes[1]
        _halo.publish(self._counters[self.me], self.sequence)
        self._node.Barrier()

    def begin(self, user) -> None:
        """Starts an exchange of `user`, a halo. Another one has other readers: all must be done with its last exchange."""
        if user is not self._user:
            self._node.Barrier()
            self._user = user
        self.sequence += 1

    def half(self, rank: int):
        """The half box (capacity,) uint8 of a rank in the present exchange."""
        return self._halves[rank][self.sequence & 1]

    def halves(self, rank: int, dtype, columns: int):
        """Both half boxes of a rank as arrays (rows, columns), for exchanges of even and odd sequence numbers."""
        row = np.dtype(dtype).itemsize * columns
        return tuple(half[: self.capacity // row * row].view(dtype).reshape(-1, columns) for half in self._halves[rank])

    def publish(self) -> None:
        """What this rank wrote can be read."""
        _halo.publish(self._counters[self.me], self.sequence)

    def wait(self, ranks: list[int]) -> None:
        """Returns when those ranks have published the present exchange. Signals are seen while waiting."""
        counters = [self._counters[rank] for rank in ranks]
        while not _halo.wait_for(counters, self.sequence, self._spins, 0.05):
            pass
