"""Rows on the move: to the rank that owns their place, or to the rank that owns their id."""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _halo
from ostwald.parallel.world import CollectiveError

ROWS = 21  # message tag
PIECE = 1 << 30  # bytes of the largest single message: MPI counts are 32-bit


def exchange(world, outgoing: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Collective: sends bytes (uint8 arrays) to ranks and returns what other ranks sent here, in the order of ranks."""
    if world.size == 1:
        return {rank: data for rank, data in outgoing.items() if len(data)}
    sizes, arriving = np.zeros(world.size, np.int64), np.empty(world.size, np.int64)
    for rank, data in outgoing.items():
        sizes[rank] = len(data)
    world.comm.Alltoall(sizes, arriving)
    incoming = {int(rank): np.empty(arriving[rank], np.uint8) for rank in np.nonzero(arriving)[0]}
    requests = []
    for rank, data in incoming.items():
        if rank == world.rank:
            incoming[rank] = outgoing[rank]
        else:
            requests += [world.comm.Irecv(data[a : a + PIECE], rank, ROWS) for a in range(0, len(data), PIECE)]
    for rank, data in outgoing.items():
        if rank != world.rank:
            requests += [world.comm.Isend(data[a : a + PIECE], rank, ROWS) for a in range(0, len(data), PIECE)]
    if requests:
        world._mpi.Request.Waitall(requests)
    return incoming


def migrate(world, bricks, matrix, origin, arrays: dict) -> dict:
    """Collective. Wraps positions along the periodic axes and sends every row to the rank that owns its place.

    arrays: name -> (n, ...) array, C-contiguous, the same names, dtypes and row shapes on every rank; "positions"
    (n, 3) float64 Å and "images" (n, 3) int32 must be among them and are wrapped in place:
    unwrapped = wrapped + images @ matrix does not change. "ids" (n,), where present, names rows in errors.
    Returns new arrays, the rows that stay in their order, then those received, by source rank; where no row
    leaves or arrives, the given arrays themselves. Rows may travel any distance.
    Raises CollectiveError on every rank where a position is not finite.
    """
    matrix = np.ascontiguousarray(matrix, float)
    positions = arrays["positions"]
    owners, bad = _halo.wrap(
        positions, arrays["images"], matrix, np.ascontiguousarray(origin, float), np.linalg.inv(matrix),
        bricks.periodic, *bricks.cuts,
    )  # fmt: skip
    error = None
    if bad >= 0:
        name = f"atom {arrays['ids'][bad]}" if "ids" in arrays else f"row {bad}"
        error = f"{name} on rank {world.rank} has no finite position: {positions[bad]}"
    if world.size == 1:
        world.agree(error)
        return dict(arrays)
    leaving = np.nonzero(owners != world.rank)[0]
    flags = np.array([world.size if error is None else world.rank, -min(len(leaving), 1)])
    flags = world.allreduce(flags, "min")
    if flags[0] < world.size:
        world.agree(error)
    if flags[1] == 0:
        return dict(arrays)
    leaving = leaving[np.argsort(owners[leaving], kind="stable")]
    destinations, first = np.unique(owners[leaving], return_index=True)
    names = sorted(arrays)
    outgoing = {}
    for rank, rows in zip(destinations.tolist(), np.split(leaving, first[1:])):
        outgoing[rank] = np.concatenate([_as_bytes(arrays[name][rows]) for name in names])
    incoming = exchange(world, outgoing)
    row = {name: arrays[name].itemsize * int(np.prod(arrays[name].shape[1:], dtype=np.int64)) for name in names}
    width = sum(row.values())
    pieces = {name: [] for name in names}
    for data in incoming.values():
        rows, at = len(data) // width, 0
        for name in names:
            array = arrays[name]
            size = rows * row[name]
            pieces[name].append(data[at : at + size].copy().view(array.dtype).reshape(rows, *array.shape[1:]))
            at += size
    if not len(leaving):
        return {name: np.concatenate([arrays[name], *pieces[name]]) for name in arrays}
    staying = np.nonzero(owners == world.rank)[0]
    return {name: np.concatenate([arrays[name][staying], *pieces[name]]) for name in arrays}


def _as_bytes(array):
    array = np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8)


def block_range(total: int, rank: int, size: int) -> tuple[int, int]:
    """The ids [lo, hi) of a rank when ids 0 ... total - 1 are dealt in equal blocks."""
    return total * rank // size, total * (rank + 1) // size


class Blocks:
    """Rows by id: the plan to bring distributed rows into blocks sorted by id, and back, for any number of arrays.

    ids: (n,) int64 of this rank's rows; `total` ids 0 ... total - 1 in all. Rank r holds the block of ids [lo, hi).
    """

    def __init__(self, world, ids, total: int):
        self.world, self.total = world, int(total)
        ids = np.ascontiguousarray(ids, np.int64)
        outside = len(ids) > 0 and (ids.min() < 0 or ids.max() >= total)
        world.agree(f"an id lies outside 0 ... {total - 1}" if outside else None)
        self.lo, self.hi = block_range(self.total, world.rank, world.size)
        edges = np.array([block_range(self.total, r, world.size)[0] for r in range(world.size)])
        holder = np.searchsorted(edges, ids, side="right") - 1  # the last of equal edges: the others hold nothing
        order = np.argsort(holder, kind="stable")
        ranks, first = np.unique(holder[order], return_index=True)
        self.rows = dict(zip(ranks.tolist(), np.split(order, first[1:]) if len(ranks) else []))  # holder -> my rows
        self.n = len(ids)
        incoming = exchange(world, {rank: _as_bytes(ids[rows]) for rank, rows in self.rows.items()})
        self.places = {rank: data.view(np.int64) - self.lo for rank, data in incoming.items()}  # source -> block rows

    def to_blocks(self, array):
        """Collective: block (hi - lo[, ...]) sorted by id of an array (n[, ...]), in which every id is exactly once."""
        array = self._checked(array, self.n)
        block = np.empty((self.hi - self.lo, *array.shape[1:]), array.dtype)
        times = np.zeros(len(block), np.int64)
        incoming = exchange(self.world, {rank: _as_bytes(array[rows]) for rank, rows in self.rows.items()})
        for rank, data in incoming.items():
            block[self.places[rank]] = data.view(array.dtype).reshape(-1, *array.shape[1:])
            np.add.at(times, self.places[rank], 1)
        wrong = np.nonzero(times != 1)[0]
        error = None
        if len(wrong):
            how = "is missing" if times[wrong[0]] == 0 else f"occurs {times[wrong[0]]} times"
            error = f"id {self.lo + wrong[0]} {how} among the {self.total} rows"
        self.world.agree(error)
        return block

    def from_blocks(self, block):
        """Collective: the rows (n[, ...]) of this rank's ids, from the blocks of all ranks."""
        block = self._checked(block, self.hi - self.lo)
        outgoing = {rank: _as_bytes(block[places]) for rank, places in self.places.items()}
        array = np.empty((self.n, *block.shape[1:]), block.dtype)
        for rank, data in exchange(self.world, outgoing).items():
            array[self.rows[rank]] = data.view(block.dtype).reshape(-1, *block.shape[1:])
        return array

    def _checked(self, array, rows: int):
        array = np.asarray(array)
        self.world.agree(None if len(array) == rows else f"an array has {len(array)} rows where {rows} were planned")
        return array


def to_blocks(world, ids, array, total: int):
    """Collective: (block, lo, hi), the rows of ids [lo, hi) sorted by id, from rows (n[, ...]) in any order."""
    plan = Blocks(world, ids, total)
    return plan.to_blocks(array), plan.lo, plan.hi


def from_blocks(world, ids, block, total: int):
    """Collective: the rows (n[, ...]) of these ids (n,), fetched from the blocks of all ranks."""
    return Blocks(world, ids, total).from_blocks(block)


__all__ = ["Blocks", "CollectiveError", "block_range", "exchange", "from_blocks", "migrate", "to_blocks"]
