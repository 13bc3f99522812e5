"""Stillinger-Weber potentials in LAMMPS' file format (pair_style sw; https://docs.lammps.org/pair_sw.html)."""

from itertools import product

from ostwald.app.kernels import _stillinger_weber
from ostwald.io.text import read_text

from . import entries
from .base import PotentialError
from .entry_potential import EntryPotential

SUFFIXES = (".sw",)
FIELDS = ("epsilon", "sigma", "a", "lambda", "gamma", "cos theta0", "A", "B", "p", "q", "tol")


class StillingerWeber(EntryPotential):
    """F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985), any number of species; equations in the kernel.

    table (nt, nt, nt, 11): FIELDS of each ordered triple, energies in eV, lengths in Å, the rest without unit.
    Pair terms count half with each of the two entries (i, j, j) and (j, i, i), which agree in every published file.
    """

    family = "Stillinger-Weber"
    kernel = _stillinger_weber.StillingerWeber
    fields = FIELDS


def matches(path, text: str) -> bool:
    """Whether this is the content of a Stillinger-Weber file."""
    return text is not None and entries.looks_like(text, len(FIELDS))


def read(path, species=None, precision="double") -> StillingerWeber:
    """Reads the file. species: the types' symbols, None for all of the file's. PotentialError names file and line."""
    found = entries.read_entries(path, read_text(path), FIELDS)
    names = entries.choose(path, found, species)
    values, lines = entries.table(found, names, len(FIELDS))
    column = {name: k for k, name in enumerate(FIELDS)}

    def fail(index, message):
        label = " ".join(names[k] for k in index)
        raise PotentialError(f"{message} (entry {label})", path, int(lines[index]))

    for index in product(range(len(names)), repeat=3):
        get = dict(zip(FIELDS, values[index]))
        for name in ("epsilon", "sigma", "a", "lambda", "gamma", "A", "B", "p", "q", "tol"):
            if get[name] < 0:
                fail(index, f"{name} is {get[name]:g}, it must not be negative")
        i, j, k = index
        if j == k and get["sigma"] * get["a"] == 0 and get["epsilon"] * get["A"] != 0:
            fail(index, "the cutoff a sigma must be positive, as A is")
        other = values[i, k, j]
        strength, other_strength = get["lambda"] * get["epsilon"], other[column["lambda"]] * other[column["epsilon"]]
        if strength != other_strength or (strength and get["cos theta0"] != other[column["cos theta0"]]):
            fail(index, f"lambda epsilon or cos theta0 differ from line {lines[i, k, j]}, of the same triplets")
    potential = StillingerWeber([entries.element(name) for name in names], values, precision, path)
    if potential.cutoff <= 0:
        raise PotentialError("no pair has a positive cutoff a sigma", path)
    return potential
