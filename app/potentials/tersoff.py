"""Tersoff potentials in LAMMPS' file format (pair_style tersoff; https://docs.lammps.org/pair_tersoff.html)."""

from itertools import product

from ostwald.app.kernels import _tersoff
from ostwald.io.text import read_text

from . import entries
from .base import PotentialError
from .entry_potential import EntryPotential

SUFFIXES = (".tersoff",)
FIELDS = ("m", "gamma", "lambda3", "c", "d", "cos theta0", "n", "beta", "lambda2", "B", "R", "D", "lambda1", "A")


class Tersoff(EntryPotential):
    """J. Tersoff, Phys. Rev. B 37, 6991 (1988) and 39, 5566 (1989), any number of species; equations in the kernel.

    table (nt, nt, nt, 14): FIELDS of each ordered triple, A, B in eV, lambdas in 1/Å, R, D in Å, the rest without unit.
    The repulsion counts half with each of the two entries (i, j, j) and (j, i, i), which agree in every published file.
    """

    family = "Tersoff"
    kernel = _tersoff.Tersoff
    fields = FIELDS


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
        if get["d"] == 0 and get["c"] != 0:
            raise PotentialError(f"d is 0, it must not be as c is {get['c']:g} (entry {label})", path, line)
        if get["D"] > get["R"]:
            message = f"D is {get['D']:g}, more than R, which is {get['R']:g} Å (entry {label})"
            raise PotentialError(message, path, line)
        bond = index[1] == index[2] and (get["A"] != 0 or get["B"] != 0)
        if bond and get["R"] + get["D"] == 0:
            raise PotentialError(f"the cutoff R + D must be positive, as A or B is (entry {label})", path, line)
        if bond and get["B"] != 0 and get["n"] == 0:
            raise PotentialError(f"n is 0, it must be positive, as B is (entry {label})", path, line)
    potential = Tersoff([entries.element(name) for name in names], values, precision, path)
    if potential.cutoff <= 0:
        raise PotentialError("no entry has a positive cutoff R + D", path)
    return potential
