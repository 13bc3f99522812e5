"""Fields on coarser grids."""

from __future__ import annotations

import numpy as np


def resampled(fields, ratio: int, how: str, frames: bool = False):
    """Fields (n0, n1[, n2]), or with `frames` (t, n0, n1[, n2]), with 1/ratio of the points along each axis of space: every so many-th
    ("nearest"), or means over blocks ("mean"), in single precision or better. ValueError where the ratio does not divide an axis."""
    lead, shape = fields.shape[:frames], fields.shape[frames:]
    if ratio == 1:
        return fields
    if any(n % ratio for n in shape):
        raise ValueError(f"{' × '.join(map(str, shape))} points cannot be divided by {ratio}")
    if how == "nearest":
        return fields[(slice(None),) * frames + (slice(None, None, ratio),) * len(shape)]
    blocks = fields.reshape([*lead, *(k for n in shape for k in (n // ratio, ratio))])
    within = tuple(range(frames + 1, frames + 2 * len(shape), 2))
    return blocks.mean(axis=within, dtype=np.result_type(fields, np.float32))


def repeated(field, ratio: int):
    """The inverse of "nearest": each point stands for a block of ratio^d points."""
    for axis in range(field.ndim):
        field = field.repeat(ratio, axis)
    return field
