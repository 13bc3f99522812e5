"""Sums of potentials.

A file is TOML:

    potential = "overlay"
    species = ["Si", "C"]          # the types of atoms, in order; default: the species of the first term

    [[terms]]
    file = "SiC.tersoff"           # beside this file, or a name that load() knows (Si.sw, zhou:Ni-Al)
    species = ["Si(D)", "C"]       # its names for the types, where they differ

    [[terms]]
    potential = "zbl"              # or a term in place: what a file of its own would say
    inner = 0.6
    outer = 1.2
"""

import difflib
import tomllib
from pathlib import Path

import numpy as np

from ostwald.io.text import read_text

from . import pair_file
from .base import Extrapolation, Potential, PotentialError


class Overlay(Potential):
    """The sum of potentials with the same species, evaluated on one neighbour list (full if any of them needs it)."""

    family = "overlay"

    def __init__(self, terms, path=None):
        self.terms = tuple(terms)
        self.path = None if path is None else str(path)
        if not self.terms:
            raise PotentialError("a sum needs at least one term", path)
        first = self.terms[0]
        for term in self.terms[1:]:
            if term.species != first.species:
                wrong, right = " ".join(term.species), " ".join(first.species)
                raise PotentialError(f"the species of the term {term.family} are {wrong}, of the first {right}", path)
            if term.precision != first.precision:
                raise PotentialError("all terms must have the same precision", path)
        self.species, self.precision = first.species, first.precision
        self.cutoff = max(term.cutoff for term in self.terms)
        self.list_style = "full" if any(term.list_style == "full" for term in self.terms) else "half"
        self.reverse = any(term.reverse for term in self.terms)
        self._ranged, self._watching = [], False  # terms with a training range, once asked for
        self.masses = next((term.masses for term in self.terms if term.masses is not None), None)

    def parameters(self):
        return [term.hash for term in self.terms]

    def describe(self):
        return f"overlay {self.path or ''} of " + " + ".join(term.describe() for term in self.terms)

    def watch(self, on=True):
        """Of the terms that have a training range."""
        if on and not self._ranged:
            for term in self.terms:
                try:
                    term.watch()
                    self._ranged.append(term)
                except PotentialError as error:
                    refusal = error
            if not self._ranged:
                raise refusal
        for term in self._ranged:
            term.watch(on)
        self._watching = bool(on)

    @property
    def extrapolation(self):
        return Extrapolation.worst_of(term.extrapolation for term in self._ranged) if self._watching else None

    def function_name(self, type_, function):
        term, function = divmod(function, Extrapolation.MEMBER)
        return self._ranged[term].function_name(type_, function)

    def compute(self, nb, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        total, w = 0.0, np.zeros(6)
        for term in self.terms:
            e, v = term.compute(
                nb, forces, energy=energy, virial=virial, energies=energies, virials=virials, threads=threads
            )
            total += e
            w += v
        return total, w


def matches(path, text) -> bool:
    return pair_file.kind(text) == "overlay"


def read(path, species=None, precision="double") -> Overlay:
    """The sum in a TOML file; species: the types of atoms, in order. PotentialError names file and, in a term, its line."""
    from .registry import families, load

    text = read_text(path)
    table = tomllib.loads(text)
    terms = table.get("terms", [])
    lines = [k for k, line in enumerate(text.splitlines(), 1) if line.split("#")[0].strip() == "[[terms]]"]
    for key in table:
        if key not in ("potential", "species", "terms"):
            near = difflib.get_close_matches(key, ("species", "terms"), n=1)
            raise PotentialError(f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else ""), path)
    if not isinstance(terms, list) or not terms or not all(isinstance(term, dict) for term in terms):
        raise PotentialError("a sum needs at least one [[terms]]", path)
    if species is None and "species" in table:
        species = _symbols(table["species"], path)
    found = []
    for k, term in enumerate(terms):
        line = lines[k] if len(lines) == len(terms) else None
        names = _symbols(term["species"], path, line) if "species" in term and "file" in term else species
        if "file" in term:
            unknown = [key for key in term if key not in ("file", "species")]
            if unknown or not isinstance(term["file"], str):
                raise PotentialError(
                    f"a term from a file has the keys file and species, not {unknown or term['file']}", path, line
                )
            beside = Path(path).parent / term["file"]
            found.append(load(beside if beside.exists() else term["file"], names, precision))
        else:
            family = next((f for f in families() if getattr(f, "KIND", None) == term.get("potential")), None)
            if family is None or "potential" not in term:
                known = ", ".join(f.KIND for f in families() if hasattr(f, "KIND"))
                raise PotentialError(f"a term needs file = ..., or potential = one of {known}", path, line)
            if species is not None:
                term = {"species": list(species), **term}
            found.append(family.read(path, species, precision, term))
        if species is None:
            species = found[0].species
    return Overlay(found, path)


def _symbols(value, path, line=None):
    if not isinstance(value, list) or not value or not all(isinstance(s, str) for s in value):
        raise PotentialError(f"species must be a list of names, not {value!r}", path, line)
    return tuple(value)
