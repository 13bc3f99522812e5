"""Random numbers keyed by what they are for: seed, purpose, global id and step. The same on any number of ranks.

Philox4x32-10 (Salmon et al., SC11, 2011, doi:10.1145/2063384.2063405): counter = (id, step, block), key = Philox of
(seed, purpose).
"""

from __future__ import annotations

import zlib

import numpy as np

from ostwald.app.kernels import _random


def _purpose(purpose: str | int) -> int:
    return zlib.crc32(purpose.encode()) | 1 << 32 if isinstance(purpose, str) else int(purpose)


def philox_uniform(seed: int, purpose: str | int, ids, step: int = 0, k: int = 1):
    """(n, k) float64, uniform in the open interval (0, 1), one row per id (n,) int64.

    seed: 0 ... 2^64 - 1; purpose: a short name, or a number below 2^32, that separates uses of one seed;
    step: 0 ... 2^48 - 1. Raises ValueError or TypeError beyond these.
    """
    return _random.uniform(seed, _purpose(purpose), np.ascontiguousarray(ids, np.int64), step, k)


def philox_normal(seed: int, purpose: str | int, ids, step: int = 0, k: int = 1):
    """(n, k) float64 standard normal numbers (Box and Muller), one row per id; arguments as philox_uniform()."""
    return _random.normal(seed, _purpose(purpose), np.ascontiguousarray(ids, np.int64), step, k)


def philox_key(seed: int, purpose: str | int) -> int:
    """The key of a stream, for kernels that draw from it by themselves (philox.hpp)."""
    return _random.key(seed, _purpose(purpose))


def philox_generator(seed: int, purpose: str | int, step: int = 0) -> np.random.Generator:
    """A numpy Generator for the few numbers that belong to the run and not to an atom: the same on every rank."""
    return np.random.Generator(np.random.Philox(key=philox_key(seed, purpose), counter=[0, 0, 0, step]))
