"""How fast files are written, beside what the disk does with plain writes."""

import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ostwald.io.shared import SharedFile

LEAST = 16 << 20
"""Bytes below which a rate says more about the system's calls than about the disk."""
MOST = 256 << 20
"""Bytes that a measurement of the disk writes at most."""


class Rate:
    """Bytes and seconds of things written one after another."""

    def __init__(self):
        self.count, self.bytes, self.seconds = 0, 0, 0.0

    @contextmanager
    def adding(self, size: int):
        """Around the writing of `size` bytes."""
        begun = time.monotonic()
        yield
        self.count, self.bytes, self.seconds = (
            self.count + 1,
            self.bytes + size,
            self.seconds + time.monotonic() - begun,
        )

    def figures(self) -> dict:
        """For timing.json."""
        rate = self.bytes / self.seconds if self.seconds else 0.0
        return dict(count=self.count, bytes=self.bytes, seconds=self.seconds, bytes_per_second=rate)


def disk_rate(world, directory, size: int) -> dict:
    """Collective: writes `size` bytes (at most MOST), a part from each rank, into a file of the directory that is removed again.

    Returns bytes, bytes_per_second into the system's memory, and flushed_per_second until they are on the disk; {} where that
    fails on any rank.
    """
    part = min(size, MOST) // world.size
    data = np.random.default_rng(world.rank).integers(0, 256, min(part, 8 << 20), np.uint8)
    path, file, failed = Path(directory) / ".rate.part", None, False
    if world.root:
        with suppress(OSError):
            path.touch()
    world.barrier()
    try:
        file = SharedFile(path)
    except OSError:
        failed = True
    world.barrier()
    begun = time.monotonic()
    with suppress(OSError):
        for at in range(0, 0 if failed else part, max(len(data), 1)):
            file.write(world.rank * part + at, data[: part - at])
    world.barrier()
    written = time.monotonic() - begun
    if file:
        try:
            file.sync()
            failed = file.size < (world.rank + 1) * part
        except OSError:
            failed = True
        file.close()
    failed = world.allreduce(float(failed), "max") > 0
    flushed = time.monotonic() - begun
    if world.root:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    if failed or not part:
        return {}
    total = part * world.size
    return dict(bytes=total, bytes_per_second=total / written, flushed_per_second=total / flushed)


def lines(figures: dict) -> list[str]:
    """For people: a line for each kind of file in `figures` (name -> Rate.figures()) that has bytes enough, and for the disk."""
    out = []
    for name, f in figures.items():
        if name != "disk" and f["bytes"] >= LEAST:
            out.append(
                f"{name:<12}{f['count']} of {f['bytes'] / f['count'] / 1e6:.1f} MB: {f['bytes_per_second'] / 1e6:.0f} MB/s"
            )
    if disk := figures.get("disk"):
        out.append(
            f"{'the disk':<12}plain writes of {disk['bytes'] / 1e6:.0f} MB: {disk['bytes_per_second'] / 1e6:.0f} MB/s into "
            f"memory, {disk['flushed_per_second'] / 1e6:.0f} MB/s until flushed"
        )
    return out
