"""Compressed chunks of files that ranks write together: each rank compresses its share of them, by HDF5's own filters."""

import h5py
import numpy as np

from ostwald.parallel.migration import block_range, exchange


def whole_chunks(world, data, lo: int, hi: int, total: int, rows: int, row_bytes: int) -> dict:
    """Collective. The chunks of `rows` rows that this rank compresses, an equal share of all: number -> bytes.

    data: the bytes of this rank's rows lo ... hi - 1 of `total`; the rows of all ranks follow one another.
    """
    count = -(-total // rows)
    shares = [block_range(count, rank, world.size) for rank in range(world.size)]
    outgoing = {}
    for rank, (first, last) in enumerate(shares):
        a, b = max(first * rows, lo), min(last * rows, hi)
        if a < b:
            outgoing[rank] = data[(a - lo) * row_bytes : (b - lo) * row_bytes]
    incoming = exchange(world, outgoing)
    whole = np.concatenate([incoming[rank] for rank in sorted(incoming)] or [np.empty(0, np.uint8)])
    first, last = shares[world.rank]
    size = rows * row_bytes
    return {k: whole[(k - first) * size : (k - first + 1) * size] for k in range(first, last)}


def filters(dataset) -> dict:
    """What compress() needs to know of a chunked h5py dataset."""
    return {
        "chunk": dataset.chunks,
        "dtype": dataset.dtype,
        "compression": dataset.compression,
        "compression_opts": dataset.compression_opts,
        "shuffle": dataset.shuffle,
    }


def compress(piece, options) -> tuple[bytes, int]:
    """A chunk through the filters of its dataset: (bytes, filter mask). A chunk at the edge is filled up with zeros."""
    chunk, dtype = options["chunk"], options["dtype"]
    whole = np.zeros(int(np.prod(chunk)) * dtype.itemsize, np.uint8)
    whole[: len(piece)] = piece
    rest = {key: options[key] for key in ("compression", "compression_opts", "shuffle") if options[key] is not None}
    with h5py.File("chunk", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("x", chunk, dtype, chunks=chunk, **rest)
        dataset[...] = whole.view(dtype).reshape(chunk)
        file.flush()
        mask, data = dataset.id.read_direct_chunk((0,) * len(chunk))
    return data, mask
