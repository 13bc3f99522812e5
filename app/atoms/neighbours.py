"""Neighbour list of a rank."""

from typing import Literal

import numpy as np

from ostwald.app.kernels import _neighbour


class NeighbourList:
    """CSR over local atoms: the neighbours of atom i are indices[offsets[i]:offsets[i+1]], rows of the n + nghost.

    offsets (n+1,) int64, indices (m,) int32: all pairs within cutoff + skin at the time of the build, none beyond.
    style "full": every j ≠ i; "half": each local-local pair once, each local-ghost pair with the local atom.
    Both arrays are valid until the next build, which may reuse their memory. builds: how many there have been.
    """

    def __init__(self, threads: int = 1):
        self.threads = threads
        self.builds = 0
        self.style: Literal["full", "half"] = "full"
        self.cutoff = self.skin = 0.0
        self._list = _neighbour.List()
        self.offsets = np.zeros(1, np.int64)
        self.indices = np.zeros(0, np.int32)

    def build(self, positions, nlocal: int, nghost: int, cutoff: float, skin: float = 0.0, style="full") -> None:
        """Finds the neighbours of rows [0, nlocal) of positions (nlocal + nghost, 3) float64, Å.

        Positions may lie anywhere. ValueError names the first row that is not finite.
        """
        if style not in ("full", "half"):
            raise ValueError(f"the style of a neighbour list is full or half, not {style!r}")
        self.offsets = self.indices = None  # so that their memory is free to be used again
        try:
            rows = positions[: nlocal + nghost]
            self._list.build(rows, nlocal, cutoff + skin, style == "half", self.threads)
        except BaseException:
            self.offsets, self.indices = np.zeros(1, np.int64), np.zeros(0, np.int32)
            raise
        self.offsets, self.indices = self._list.offsets, self._list.indices
        self.cutoff, self.skin, self.style = float(cutoff), float(skin), style
        self.builds += 1

    @property
    def pairs(self) -> int:
        """Entries of the list."""
        return len(self.indices)

    @property
    def per_atom(self) -> float:
        """Entries per local atom; in a half list about half the neighbours."""
        n = len(self.offsets) - 1
        return len(self.indices) / n if n else 0.0
