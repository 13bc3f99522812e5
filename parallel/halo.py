"""The halo: copies of other ranks' atoms, and of periodic images of the own, within a distance of this rank's brick."""

from __future__ import annotations

import numpy as np
from ostwald.app.kernels import _halo

POSITIONS, FORWARD, REVERSE, COUNTS = 11, 12, 13, 14  # message tags


class Halo:
    """Plans, and carries out, the exchange of ghost rows.

    build() finds which local rows every other brick needs, under which lattice translation. Ghost rows are
    [n, n + nghost), ordered by source rank, then image, then row on the source; those of a source are contiguous, so
    they are received in place. Each exchange is one message to each neighbouring rank and one from it; images on the
    same rank are copied. All methods but the properties are collective over the world.

    nlocal, nghost: rows. bytes_per_step: bytes this rank sends in one forward_positions(). neighbours: the ranks it
    sends to.
    """

    def __init__(self, world, bricks):
        self.world, self.bricks = world, bricks
        self.nlocal = self.nghost = 0
        self.cutoff = 0.0
        self._position_bytes = np.empty(0, np.uint8)  # buffers grow, never shrink
        self._send_bytes = np.empty(0, np.uint8)
        self._receive_bytes = np.empty(0, np.uint8)
        self._wired = None  # (address, rows) of the positions that the persistent requests belong to
        self._requests = self._receives = self._sends = ()
        self._rows, self._offsets = np.empty(0, np.int32), np.zeros(1, np.int64)
        self._shifts, self._vectors = np.empty((0, 3)), np.empty((0, 3))
        self._matrix = np.zeros((3, 3))
        self._to, self._from, self._self = [], [], None
        self._sent_rows = 0

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
        rows, counts = _halo.select_rows(
            positions, n, np.ascontiguousarray(origin, float), inverse, lo[targets] - shifts, hi[targets] - shifts,
            cutoff * (1 + 1e-12) + 1e-9,
        )  # fmt: skip
        self.nlocal, self.cutoff = n, cutoff
        self._rows = rows
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        self._shifts = np.ascontiguousarray(shifts, float)
        self._matrix[:] = np.nan

        # Candidates are symmetric: who may send to me is whom I may send to.
        ranks, first = np.unique(targets, return_index=True)
        last = np.append(first[1:], len(targets))
        sent = {int(r): int(self._offsets[b] - self._offsets[a]) for r, a, b in zip(ranks, first, last)}
        received = self._swap_counts(sent)
        self._to, self._from, self._self = [], [], None
        ghost = at = 0
        for rank, a, b in zip(ranks.tolist(), first.tolist(), last.tolist()):
            begin, end = int(self._offsets[a]), int(self._offsets[b])
            if rank == me:
                if end > begin:
                    self._self = (a, b, begin, end, ghost)
            else:
                if end > begin:
                    self._to.append((rank, a, b, begin, end, at))
                    at += end - begin
                if received[rank]:
                    self._from.append((rank, ghost, ghost + received[rank]))
            ghost += received[rank]
        self._sent_rows, self.nghost = at, ghost
        self._unwire()
        return ghost

    def _open_boxes(self):
        """Every brick's fractional bounds, infinite at the open faces of the cell."""
        lo, hi = self.bricks.boxes()
        open_axes = ~self.bricks.periodic
        lo[(lo == 0.0) & open_axes] = -np.inf
        hi[(hi == 1.0) & open_axes] = np.inf
        return lo, hi

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

    def _swap_counts(self, sent: dict[int, int]) -> dict[int, int]:
        me, comm = self.world.rank, self.world.comm
        others = [rank for rank in sent if rank != me]
        outgoing = np.array([sent[rank] for rank in others], np.int64)
        incoming = np.empty_like(outgoing)
        requests = [comm.Irecv(incoming[i : i + 1], rank, COUNTS) for i, rank in enumerate(others)]
        requests += [comm.Isend(outgoing[i : i + 1], rank, COUNTS) for i, rank in enumerate(others)]
        self._wait(requests)
        received = dict(zip(others, incoming.tolist()))
        if me in sent:
            received[me] = sent[me]
        return received

    @property
    def bytes_per_step(self) -> int:
        return 24 * self._sent_rows

    @property
    def neighbours(self) -> list[int]:
        return [entry[0] for entry in self._to]

    # --- positions, every step

    def forward_positions(self, positions, matrix) -> None:
        """Fills the ghost rows of positions (>= n + nghost, 3) from their owners' rows, translations applied."""
        self.start(positions, matrix)
        self.finish()

    def start(self, positions, matrix) -> None:
        """First half of forward_positions(): sends; ghost rows are not valid until finish(). Local rows may be read."""
        if not np.array_equal(matrix, self._matrix):
            self._matrix[:] = matrix
            self._vectors = self._shifts @ self._matrix
        if self._requests or self._to or self._from:
            wiring = (positions.__array_interface__["data"][0], len(positions))
            if wiring != self._wired:
                self._unwire()
                self._wire(positions)
                self._wired = wiring
            prequest = self.world._mpi.Prequest
            if self._receives:
                prequest.Startall(self._receives)
            if self._sends:
                outbox = self._outbox
                for _, a, b, _, _, at in self._to:
                    _halo.pack_positions(positions, self._rows, self._offsets, self._vectors, a, b, outbox, at)
                prequest.Startall(self._sends)
        if self._self is not None:
            a, b, _, _, ghost = self._self
            _halo.pack_positions(
                positions, self._rows, self._offsets, self._vectors, a, b, positions, self.nlocal + ghost
            )

    def finish(self) -> None:
        """Second half of forward_positions(): returns when the ghost rows have arrived."""
        if self._requests:
            self.world._mpi.Request.Waitall(self._requests)

    def _unwire(self):
        for request in self._requests:
            request.Free()
        self._requests = self._receives = self._sends = ()
        self._wired = None

    def _wire(self, positions):
        """Makes the persistent requests: receive into the ghost rows themselves, send from a buffer."""
        self._check(positions)
        if positions.dtype != np.float64 or positions.shape[1:] != (3,):
            raise ValueError("positions must be (n, 3) float64")
        comm, n = self.world.comm, self.nlocal
        self._outbox = self._buffer("_position_bytes", 24 * self._sent_rows).view(np.float64).reshape(-1, 3)
        self._receives = [comm.Recv_init(positions[n + a : n + b], rank, POSITIONS) for rank, a, b in self._from]
        self._sends = [
            comm.Send_init(self._outbox[at : at + end - begin], rank, POSITIONS)
            for rank, _, _, begin, end, at in self._to
        ]
        self._requests = self._receives + self._sends

    # --- other arrays

    def forward(self, array) -> None:
        """Copies owners' rows into the ghost rows of array (>= n + nghost[, k]), any dtype without references."""
        self._check(array)
        n, comm = self.nlocal, self.world.comm
        requests = [comm.Irecv(_bytes(array[n + a : n + b]), rank, FORWARD) for rank, a, b in self._from]
        width = _row_bytes(array)
        outbox = self._buffer("_send_bytes", width * self._sent_rows)
        for rank, _, _, begin, end, at in self._to:
            _halo.pack_rows(array, self._rows, begin, end - begin, outbox, at)
            requests.append(comm.Isend(outbox[width * at : width * (at + end - begin)], rank, FORWARD))
        if self._self is not None:
            _, _, begin, end, ghost = self._self
            _halo.pack_rows(array, self._rows, begin, end - begin, array, n + ghost)
        self._wait(requests)

    def reverse(self, array) -> None:
        """Adds ghost rows of array (>= n + nghost[, k]) to their owners' rows: float64, float32, int32 or int64.

        The sums run in the order of the ranks that hold the ghosts, then image, then row. Ghost rows stay as they are.
        """
        self._check(array)
        n, comm = self.nlocal, self.world.comm
        width = _row_bytes(array)
        inbox = self._buffer("_receive_bytes", width * self._sent_rows)
        requests = [
            comm.Irecv(inbox[width * at : width * (at + end - begin)], rank, REVERSE)
            for rank, _, _, begin, end, at in self._to
        ]
        requests += [comm.Isend(_bytes(array[n + a : n + b]), rank, REVERSE) for rank, a, b in self._from]
        self._wait(requests)
        me, pending = self.world.rank, self._self
        for rank, _, _, begin, end, at in self._to:
            if pending is not None and rank > me:
                pending = self._add_own(array, pending)
            _halo.add_rows(array, self._rows, begin, end - begin, inbox, at)
        if pending is not None:
            self._add_own(array, pending)

    def _add_own(self, array, images) -> None:
        _, _, begin, end, ghost = images
        _halo.add_rows(array, self._rows, begin, end - begin, array, self.nlocal + ghost)

    # --- helpers

    def _check(self, array):
        if len(array) < self.nlocal + self.nghost or not array.flags.c_contiguous:
            raise ValueError(
                f"the array must be C-contiguous with at least {self.nlocal + self.nghost} rows "
                f"({self.nlocal} atoms and {self.nghost} ghosts), not {array.shape}"
            )

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


def _row_bytes(array) -> int:
    return array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))


def _bytes(rows):
    """Contiguous rows seen as bytes."""
    return rows.view(np.uint8).reshape(-1) if rows.size else np.empty(0, np.uint8)
