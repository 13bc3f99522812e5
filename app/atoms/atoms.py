"""The atoms of one rank: plain arrays with spare capacity, local rows first, ghost rows after them."""

from __future__ import annotations

import numpy as np

# name -> (row shape, dtype, has ghost rows)
STATE = {
    "positions": ((3,), np.float64, True),
    "types": ((), np.int32, True),
    "ids": ((), np.int64, True),
    "forces": ((3,), np.float64, True),
    "velocities": ((3,), np.float64, False),
    "images": ((3,), np.int32, False),
    "groups": ((), np.uint32, False),
}


class Atoms:
    """Arrays of one rank (shapes and units: docs/developer.md).

    Attributes of STATE are views of the valid rows; `n` local rows, `nghost` ghost rows.
    Further arrays that follow the atoms when they migrate: `add(name, array)`, `atoms[name]`, `drop(name)`.
    """

    def __init__(self, species, masses, positions, types, ids, velocities=None, images=None, groups=None):
        self.species = tuple(species)
        self.masses = np.asarray(masses, dtype=np.float64)
        n = len(positions)
        self.n, self.nghost = n, 0
        self.extra: dict[str, np.ndarray] = {}
        self.group_names: list[str] = ["all"]
        self._store: dict[str, np.ndarray] = {}
        given = dict(positions=positions, types=types, ids=ids, velocities=velocities, images=images, groups=groups)
        for name, (row, dtype, _) in STATE.items():
            value = given.get(name)
            if value is None:
                value = np.zeros((n, *row), dtype)
                if name == "groups":
                    value[:] = 1
            self._store[name] = np.ascontiguousarray(value, dtype=dtype).reshape(n, *row)

    def __getattr__(self, name):
        store = self.__dict__.get("_store", {})
        if name in store:
            ghosts = self.nghost if STATE[name][2] else 0
            return store[name][: self.n + ghosts]
        raise AttributeError(name)

    def __getitem__(self, name):
        return self.extra[name]

    def add(self, name, array):
        """Adds a per-atom array ((n, …), local rows only) that migrates with the atoms."""
        array = np.ascontiguousarray(array)
        if len(array) != self.n or name in STATE:
            raise ValueError(f"per-atom array {name!r} needs {self.n} rows and a name of its own")
        self.extra[name] = array

    def drop(self, name):
        self.extra.pop(name, None)

    def group_mask(self, name) -> int:
        """Bit of a named group; makes the group when it is new."""
        if name not in self.group_names:
            if len(self.group_names) == 32:
                raise ValueError("at most 31 groups besides 'all'")
            self.group_names.append(name)
        return 1 << self.group_names.index(name)

    def moving_arrays(self) -> dict[str, np.ndarray]:
        """What migrates: everything of the local rows but forces, which are computed anew."""
        arrays = {name: self._store[name][: self.n] for name in STATE if name != "forces"}
        arrays.update({"extra:" + name: value for name, value in self.extra.items()})
        return arrays

    def take(self, arrays: dict[str, np.ndarray], order=None):
        """Replaces the local rows (`moving_arrays` after migration), in the given order; ghosts are dropped."""
        n = len(arrays["positions"])
        self.n, self.nghost = n, 0
        for name in list(arrays):
            value = arrays.pop(name)
            value = value if order is None else value[order]
            if name.startswith("extra:"):
                self.extra[name[6:]] = np.ascontiguousarray(value)
                continue
            store = self._store[name]
            if len(store) < n:
                self._store[name] = store = np.empty((n + n // 50 + 16, *store.shape[1:]), store.dtype)
            store[:n] = value

    def set_ghosts(self, nghost):
        """Makes room for the ghost rows (their contents are undefined) and for the forces of all rows."""
        rows = self.n + nghost
        for name, (row, dtype, ghosts) in STATE.items():
            store = self._store[name]
            need = rows if ghosts else self.n
            if len(store) < need:
                grown = np.empty((need + need // 50 + 16, *row), dtype)
                if name != "forces":
                    grown[: self.n] = store[: self.n]
                self._store[name] = grown
        self.nghost = nghost

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self._store.values()) + sum(a.nbytes for a in self.extra.values())
