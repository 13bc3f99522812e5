"""Tersoff potentials in LAMMPS' file format (pair_style tersoff; https://docs.lammps.org/pair_tersoff.html)."""

from itertools import product

import numpy as np

from ostwald.app.kernels import _tersoff
from ostwald.io.text import read_text

from . import entries
from .base import Potential, PotentialError, check_precision
from .stillinger_weber import require_full

SUFFIXES = (".tersoff",)
FIELDS = ("m", "gamma", "lambda3", "c", "d", "cos theta0", "n", "beta", "lambda2", "B", "R", "D", "lambda1", "A")


class Tersoff(Potential):
    """J. Tersoff, Phys. Rev. B 37, 6991 (1988) and 39, 5566 (1989), any number of species; equations in the kernel.

    table (nt, nt, nt, 14): FIELDS of each ordered triple, A, B in eV, lambdas in 1/Å, R, D in Å, the rest without unit.
    The repulsion counts half with each of the two entries (i, j, j) and (j, i, i), which agree in every published file.
    """

    family = "Tersoff"
    list_style = "full"
    reverse = True

    def __init__(self, species, table, precision="double", path=None):
        self.species = tuple(species)
        self.precision = check_precision(precision, path)
        self.path = None if path is None else str(path)
        self._table = np.ascontiguousarray(table, dtype=np.float64)
        self._kernel = _tersoff.Tersoff(self._table, precision == "mixed")
        self.cutoff = self._kernel.cutoff

    def parameters(self):
        return (self._table,)

    def compute(self, nb, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        require_full(self, nb)
        total, w = self._kernel.compute(
            nb.positions, nb.types, nb.nlocal, nb.offsets, nb.indices, forces, energies, virials, threads
        )
        return total, w


def matches(path, text: str) -> bool:
    """Whether this is the content of a Tersoff file."""
    return text is not None and entries.looks_like(text, len(FIELDS))


def read(path, species=None, precision="double") -> Tersoff:
    """Reads the file. species: the types' symbols, None for all of the file's. PotentialError names file and line."""
    found = entries.read_entries(path, read_text(path), FIELDS)
    names = entries.choose(path, found, species)
    values, lines = entries.table(found, names, len(FIELDS))
    for index in product(range(len(names)), repeat=3):
        get = dict(zip(FIELDS, values[index]))
        label, line = " ".join(names[k] for k in index), int(lines[index])
        if get["m"] not in (1.0, 3.0):
            raise PotentialError(f"m is {get['m']:g}, it must be 1 or 3 (entry {label})", path, line)
        for name in ("gamma", "c", "n", "beta", "lambda2", "B", "D", "lambda1", "A"):
            if get[name] < 0:
                raise PotentialError(f"{name} is {get[name]:g}, it must not be negative (entry {label})", path, line)
        if get["d"] <= 0:
            raise PotentialError(f"d is {get['d']:g}, it must be positive (entry {label})", path, line)
        if get["R"] + get["D"] <= 0 or get["D"] > get["R"]:
            raise PotentialError(
                f"the cutoff runs from R - D = {get['R'] - get['D']:g} to R + D = {get['R'] + get['D']:g} Å,"
                f" both must be positive (entry {label})",
                path,
                line,
            )
        if index[1] == index[2] and get["n"] <= 0:
            raise PotentialError(f"n is {get['n']:g}, it must be positive (entry {label})", path, line)
    return Tersoff([entries.element(name) for name in names], values, precision, path)
