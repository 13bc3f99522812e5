"""The halo: copies of other ranks' atoms, and of periodic images of the own, within a distance of this rank's brick."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ostwald.app.kernels import _halo
from ostwald.parallel.mailbox import Mailbox

POSITIONS, FORWARD, REVERSE, PLAN = 11, 12, 13, 14  # message tags
WHOLE = 16  # rows: what a rank sends to another begins at a multiple, on a cache line for any row of 4-byte words


class Outgoing(NamedTuple):
    """Rows of this rank that another rank holds as ghosts."""

    rank: int
    first: int  # targets first ... last - 1: one image each
    last: int
    begin: int  # their rows: entries begin ... end - 1 of the row list
    end: int
    at: int  # where they stand in this rank's outbox, in rows
    there: int  # where they stand in the other rank's outbox when it sends the ghosts back


class Incoming(NamedTuple):
    """Ghosts of this rank that another rank owns."""

    rank: int
    begin: int  # ghosts begin ... end - 1
    end: int
    back: int  # where they stand in this rank's outbox when they are sent back, in rows
    there: int  # where they stand in the owner's outbox


class Halo:
    """Plans, and carries out, the exchange of ghost rows.

    build() finds which local rows every other brick needs, under which lattice translation. Ghost rows are
    [n, n + nghost), ordered by source rank, then image, then row on the source; those of a source are contiguous.
    An exchange is one message to each neighbouring rank and one from it, received in place; ranks of one node pass
    the rows through memory they share, and images on the same rank are copied. All methods are collective over the
    world; a start() and its finish() have no other exchange between them.

    shared: whether ranks of one node use shared memory.
    nlocal, nghost: rows. bytes_per_step: bytes this rank sends in one forward_positions(). neighbours: the ranks it
    sends to.
    """

    def __init__(self, world, bricks, shared: bool = True):
        self.world, self.bricks = world, bricks
        self.nlocal = self.nghost = 0
        self.cutoff = 0.0
        self._mailbox = Mailbox.of(world) if shared and world.size > 1 else None
        self._on_node = self._mailbox.ranks if self._mailbox else {}
        self._position_bytes = np.empty(0, np.uint8)  # buffers grow, never shrink
        self._send_bytes = np.empty(0, np.uint8)
        self._receive_bytes = np.empty(0, np.uint8)
        self._requests = self._receives = self._sends = ()
        self._wired = None  # (address, rows) of the positions that the persistent requests belong to
        self._rows, self._offsets = np.empty(0, np.int32), np.zeros(1, np.int64)
        self._shifts, self._vectors = np.empty((0, 3)), np.empty((0, 3))
        self._matrix = np.zeros((3, 3))
        self._to: list[Outgoing] = []
        self._from: list[Incoming] = []
        self._own: Outgoing | None = None
        self._far_rows = self._near_rows = 0  # rows in the outboxes
        self._near_ranks: list[int] = []  # ranks of this node that ghosts come from or go to
        self._width = 24  # bytes of the widest rows that shared memory is reserved for
        self._started = False

    # --- planning

    def build(self, positions, matrix, origin, cutoff: float) -> int:
        """Plans the halo of the local rows positions (n, 3) float64 Å, cutoff in Å (skin included); returns nghost.

        Every atom within `cutoff` of this rank's brick becomes a ghost here, as often as it has such images; any ratio
        of cutoff to cell and brick is served. Local rows must lie in this rank's brick, which migrate() sees to.
        """
        me, n = self.world.rank, len(positions)
        matrix = np.ascontiguousarray(matrix, float)
        inverse = np.linalg.inv(matrix)
        targets, shifts = self._candidates(cutoff * np.linalg.norm(inverse, axis=0))
        lo, hi = self._open_boxes()
        self._rows, counts = _halo.select_rows(
            positions, n, np.ascontiguousarray(origin, float), inverse, np.array([lo[me], hi[me]]), lo[targets] - shifts,
            hi[targets] - shifts, cutoff * (1 + 1e-12) + 1e-9,
        )  # fmt: skip
        self.nlocal, self.cutoff = n, cutoff
        self._offsets = offsets = np.concatenate([[0], np.cumsum(counts)])
        self._shifts = np.ascontiguousarray(shifts, float)
        self._matrix[:] = np.nan

        # Candidates are symmetric: who may send to me is whom I may send to.
        ranks, first = np.unique(targets, return_index=True)
        last = np.append(first[1:], len(targets))
        ranks, begin, end = ranks.tolist(), offsets[first].tolist(), offsets[last].tolist()
        others = [rank for rank in ranks if rank != me]
        sent = {rank: b - a for rank, a, b in zip(ranks, begin, end)}
        received = dict(sent) | self._swap(others, {rank: (sent[rank],) for rank in others})[0]

        # Where rows stand: ghosts by source rank; outboxes by destination, one for shared memory, one for messages.
        layout, ghost, filled, returned = {}, 0, [0, 0], [0, 0]
        for rank in ranks:
            box = rank in self._on_node
            layout[rank] = ghost, filled[box], returned[box]
            ghost += received[rank]
            if rank != me:
                filled[box] += sent[rank] + -sent[rank] % WHOLE
                returned[box] += received[rank] + -received[rank] % WHOLE
        self.nghost = ghost
        busy = [rank for rank in others if sent[rank] or received[rank]]
        forth, back = self._swap(busy, {rank: layout[rank][1:] for rank in busy}) if busy else ({}, {})
        self._to, self._from, self._own = [], [], None
        for rank, a, b, t0, t1 in zip(ranks, begin, end, first.tolist(), last.tolist()):
            at, there = layout[rank][1], back.get(rank, 0)
            outgoing = Outgoing(rank, t0, t1, a, b, at, there)
            if rank == me:
                self._own = outgoing._replace(at=layout[me][0]) if b > a else None
                continue
            if b > a:
                self._to.append(outgoing)
            if received[rank]:
                ghost, _, returning = layout[rank]
                self._from.append(Incoming(rank, ghost, ghost + received[rank], returning, forth[rank]))
        self._far_rows, self._near_rows = filled[0], max(filled[1], returned[1])
        self._near_ranks = [rank for rank in busy if rank in self._on_node]
        if self._on_node:
            self._mailbox.reserve(self._width * self._near_rows)
        self._unwire()
        return self.nghost

    def _open_boxes(self):
        """Every brick's fractional bounds, infinite at the open faces of the cell."""
        lo, hi = self.bricks.boxes()
        open_axes = ~self.bricks.periodic
        return np.where((lo == 0.0) & open_axes, -np.inf, lo), np.where((hi == 1.0) & open_axes, np.inf, hi)

    def _candidates(self, reach):
        """(rank, image) pairs that may need rows of this rank: targets (t,), shifts (t, 3), sorted by rank, then shift.

        The row sent has fractional position s + shift. reach (3,): the cutoff in fractional units along each normal.
        Both ranks of a pair come to the same answer: the gap between two bricks is computed in one way for both.
        """
        lo, hi = self.bricks.boxes()
        me, size = self.world.rank, self.world.size
        other_first = (np.arange(size) < me)[:, None]
        near, spans = [], []
        for axis in range(3):
            hops = int(reach[axis] + 1 + 1e-9) if self.bricks.periodic[axis] else 0
            span = np.arange(-hops, hops + 1)
            # Brick of the lower rank as it is, brick of the higher rank moved by the image as seen from the lower one.
            low_lo, low_hi = (np.where(other_first, b[:, axis, None], b[me, axis]) for b in (lo, hi))
            high_lo, high_hi = (np.where(other_first, b[me, axis], b[:, axis, None]) for b in (lo, hi))
            image = np.where(other_first, span, -span)
            gap = np.maximum(high_lo + image - low_hi, low_lo - (high_hi + image))
            near.append(gap <= reach[axis] + 1e-9)
            spans.append(span)
        pairs = near[0][:, :, None, None] & near[1][:, None, :, None] & near[2][:, None, None, :]
        middle = [len(span) // 2 for span in spans]
        pairs[me, middle[0], middle[1], middle[2]] = False
        rank, *image = np.nonzero(pairs)
        return rank, np.stack([span[i] for span, i in zip(spans, image)], axis=1)

    def _swap(self, ranks, numbers) -> list[dict[int, int]]:
        """Sends each of these ranks its tuple of numbers; returns theirs, one dict per place in the tuple."""
        comm = self.world.comm
        if not ranks:
            return [{}]
        outgoing = np.array([numbers[rank] for rank in ranks], np.int64)
        incoming = np.empty_like(outgoing)
        requests = [comm.Irecv(row, rank, PLAN) for row, rank in zip(incoming, ranks)]
        requests += [comm.Isend(row, rank, PLAN) for row, rank in zip(outgoing, ranks)]
        self._wait(requests)
        return [dict(zip(ranks, column)) for column in incoming.T.tolist()]

    @property
    def bytes_per_step(self) -> int:
        return 24 * sum(out.end - out.begin for out in self._to)

    @property
    def neighbours(self) -> list[int]:
        return [out.rank for out in self._to]

    # --- positions, every step

    def forward_positions(self, positions, matrix) -> None:
        """Fills the ghost rows of positions (>= n + nghost, 3) from their owners' rows, translations applied."""
        self.start(positions, matrix)
        self.finish()

    def start(self, positions, matrix) -> None:
        """First half of forward_positions(): sends; ghost rows are not valid until finish(). Local rows may be read."""
        mailbox = self._mailbox
        if not np.array_equal(matrix, self._matrix):
            self._matrix[:] = matrix
            self._vectors = self._shifts @ self._matrix
        wiring = positions.__array_interface__["data"][0], len(positions), mailbox and mailbox.generation
        if wiring != self._wired:
            self._wire(positions)
            self._wired = wiring
        pack, rows, offsets, vectors = _halo.pack_positions, self._rows, self._offsets, self._vectors
        prequest = self.world._mpi.Prequest if self._requests else None
        if self._receives:
            prequest.Startall(self._receives)
        for first, last, outbox, at in self._far_packing:
            pack(positions, rows, offsets, vectors, first, last, outbox, at)
        if self._sends:
            prequest.Startall(self._sends)
        if self._on_node:
            mailbox.begin(self)
            for first, last, outboxes, at in self._near_packing:
                pack(positions, rows, offsets, vectors, first, last, outboxes[mailbox.sequence & 1], at, True)
            mailbox.publish()
        if self._own is not None:
            own = self._own
            pack(positions, rows, offsets, vectors, own.first, own.last, positions, self.nlocal + own.at)
        self._started = True

    def finish(self) -> None:
        """Second half of forward_positions(): returns when the ghost rows have arrived."""
        self._started = False
        if self._requests:
            self.world._mpi.Request.Waitall(self._requests)
        if self._near_ranks:
            mailbox = self._mailbox
            mailbox.wait(self._near_ranks)
            turn = mailbox.sequence & 1
            for ghosts, inboxes in self._near_copies:
                ghosts[:] = inboxes[turn]

    def _unwire(self):
        for request in self._requests:
            request.Free()
        self._requests = self._receives = self._sends = ()
        self._wired = None

    def _wire(self, positions):
        """Prepares every step's exchange: persistent requests into the ghost rows themselves, views of shared boxes."""
        self._unwire()
        self._check(positions)
        if positions.dtype != np.float64 or positions.shape[1:] != (3,):
            raise ValueError("positions must be (n, 3) float64")
        comm, n, near = self.world.comm, self.nlocal, self._on_node
        outbox = self._buffer("_position_bytes", 24 * self._far_rows).view(np.float64).reshape(-1, 3)
        far = [out for out in self._to if out.rank not in near]
        self._far_packing = [(out.first, out.last, outbox, out.at) for out in far]
        self._sends = [
            comm.Send_init(outbox[out.at : out.at + out.end - out.begin], out.rank, POSITIONS) for out in far
        ]
        self._receives = [
            comm.Recv_init(positions[n + inc.begin : n + inc.end], inc.rank, POSITIONS)
            for inc in self._from
            if inc.rank not in near
        ]
        self._requests = self._receives + self._sends
        self._near_packing, self._near_copies = [], []
        if near:
            mailbox, mine = self._mailbox, self._mailbox.halves(self.world.rank, np.float64, 3)
            self._near_packing = [(out.first, out.last, mine, out.at) for out in self._to if out.rank in near]
            for inc in self._from:
                if inc.rank in near:
                    boxes = mailbox.halves(inc.rank, np.float64, 3)
                    rows = slice(inc.there, inc.there + inc.end - inc.begin)
                    self._near_copies.append((positions[n + inc.begin : n + inc.end], [box[rows] for box in boxes]))

    # --- other arrays

    def forward(self, array) -> None:
        """Copies owners' rows into the ghost rows of array (>= n + nghost[, k]), any dtype without references."""
        n, comm, width, near = self.nlocal, self.world.comm, self._check(array), self._on_node
        requests = [
            comm.Irecv(_bytes(array[n + inc.begin : n + inc.end]), inc.rank, FORWARD)
            for inc in self._from
            if inc.rank not in near
        ]
        far, mine = self._buffer("_send_bytes", width * self._far_rows), self._begin(width)
        for out in self._to:
            count = out.end - out.begin
            box = mine if out.rank in near else far
            _halo.pack_rows(array, self._rows, out.begin, count, box, out.at, box is mine)
            if box is far:
                requests.append(comm.Isend(far[width * out.at : width * (out.at + count)], out.rank, FORWARD))
        self._publish()
        if self._own is not None:
            own = self._own
            _halo.pack_rows(array, self._rows, own.begin, own.end - own.begin, array, n + own.at)
        self._wait(requests)
        self._wait_near()
        for inc in self._from:
            if inc.rank in near:
                box = self._mailbox.half(inc.rank)
                ghosts = _bytes(array[n + inc.begin : n + inc.end])
                ghosts[:] = box[width * inc.there : width * inc.there + len(ghosts)]

    def reverse(self, array) -> None:
        """Adds ghost rows of array (>= n + nghost[, k]) to their owners' rows: float64, float32, int32 or int64.

        The sums run in the order of the ranks that hold the ghosts, then image, then row. Ghost rows stay as they are.
        """
        n, comm, width, near = self.nlocal, self.world.comm, self._check(array), self._on_node
        far, mine = self._buffer("_receive_bytes", width * self._far_rows), self._begin(width)
        requests = [
            comm.Irecv(far[width * out.at : width * (out.at + out.end - out.begin)], out.rank, REVERSE)
            for out in self._to
            if out.rank not in near
        ]
        for inc in self._from:
            ghosts = _bytes(array[n + inc.begin : n + inc.end])
            if inc.rank in near:
                _halo.stream_bytes(ghosts, mine[width * inc.back :])
            else:
                requests.append(comm.Isend(ghosts, inc.rank, REVERSE))
        self._publish()
        self._wait(requests)
        self._wait_near()
        me, own = self.world.rank, self._own
        for out in self._to:
            if own is not None and out.rank > me:
                self._add_own(array)
                own = None
            count = out.end - out.begin
            if out.rank in near:
                _halo.add_rows(array, self._rows, out.begin, count, self._mailbox.half(out.rank), out.there)
            else:
                _halo.add_rows(array, self._rows, out.begin, count, far, out.at)
        if own is not None:
            self._add_own(array)

    def _add_own(self, array):
        own = self._own
        _halo.add_rows(array, self._rows, own.begin, own.end - own.begin, array, self.nlocal + own.at)

    # --- shared memory

    def _begin(self, width: int):
        """Opens an exchange of rows of `width` bytes through shared memory; this rank's box, or None."""
        if not self._on_node:
            return None
        if width > self._width:  # the same on every rank: they exchange the same kind of array
            self._width = width
            self._mailbox.reserve(width * self._near_rows)
        self._mailbox.begin(self)
        return self._mailbox.half(self.world.rank)

    def _publish(self):
        if self._on_node:
            self._mailbox.publish()

    def _wait_near(self):
        if self._near_ranks:
            self._mailbox.wait(self._near_ranks)

    # --- helpers

    def _check(self, array) -> int:
        """The bytes of a row of an array that has a place for every atom and ghost."""
        if self._started:
            raise RuntimeError("another exchange between start() and finish()")
        if len(array) < self.nlocal + self.nghost or not array.flags.c_contiguous:
            raise ValueError(
                f"the array must be C-contiguous with at least {self.nlocal + self.nghost} rows "
                f"({self.nlocal} atoms and {self.nghost} ghosts), not {array.shape}"
            )
        return array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))

    def _wait(self, requests):
        if requests:
            self.world._mpi.Request.Waitall(requests)

    def _buffer(self, name: str, size: int):
        """The first `size` bytes of a buffer that is kept between exchanges."""
        buffer = getattr(self, name)
        if len(buffer) < size:
            buffer = np.empty(size + size // 4, np.uint8)
            setattr(self, name, buffer)
        return buffer[:size]


def _bytes(rows):
    """Contiguous rows seen as bytes."""
    return rows.view(np.uint8).reshape(-1) if rows.size else np.empty(0, np.uint8)
