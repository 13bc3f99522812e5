"""TOML files of pair potentials: `potential = "..."`, settings, and a table [pairs] with keys A-B."""

import difflib
import math
import tomllib

from ostwald.io.text import read_text

from .base import PotentialError


def kind(text) -> str | None:
    """What `potential = "..."` says in a TOML text; None where it says nothing or the text is no TOML."""
    if not text or "potential" not in text or "=" not in text:
        return None
    try:
        name = tomllib.loads(text).get("potential")
    except tomllib.TOMLDecodeError:
        return None
    return name if isinstance(name, str) else None


class PairFile:
    """A parsed file, or a table in it. settings: its keys besides `potential`, `species` and [pairs]; keys: those of a
    pair."""

    def __init__(self, path, settings: set[str], keys: set[str], table: dict | None = None):
        self.path = path
        text = read_text(path)
        self.lines = text.splitlines()
        self.table = tomllib.loads(text) if table is None else table
        self.settings, self.keys = settings, keys
        self._known(self.table, settings | {"potential", "species", "pairs"}, None)
        self.pairs = {}
        for name, entry in self.table.get("pairs", {}).items():
            ends = name.split("-")
            line = self._find(name)
            if len(ends) != 2 or not all(ends) or not isinstance(entry, dict):
                raise PotentialError(f"a pair is named A-B and has a table, not {name} = {entry!r}", path, line)
            self._known(entry, keys, line)
            if frozenset(ends) in self.pairs:
                raise PotentialError(f"the pair {name} is given twice", path, line)
            self.pairs[frozenset(ends)] = {key: self._number(key, value, line) for key, value in entry.items()}
        named = [s for name in self.table.get("pairs", {}) for s in name.split("-")]
        self.species = tuple(self.table.get("species", dict.fromkeys(named)))

    def _find(self, word) -> int | None:
        return next((k for k, line in enumerate(self.lines, 1) if word in line.split("#")[0]), None)

    def _known(self, table, names, line):
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise PotentialError(f"unknown key {key}{hint}", self.path, line or self._find(key))

    def _number(self, key, value, line) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise PotentialError(f"{key} must be a finite number, not {value!r}", self.path, line)
        return float(value)

    def number(self, key, **default) -> float | None:
        if key not in self.table:
            if "default" in default:
                return default["default"]
            raise PotentialError(f"{key} is missing", self.path)
        return self._number(key, self.table[key], self._find(key))

    def pair(self, a, b) -> dict | None:
        return self.pairs.get(frozenset((a, b)))

    def line_of(self, a, b) -> int | None:
        return self._find(f"{a}-{b}") or self._find(f"{b}-{a}")

    def choose(self, species) -> tuple[str, ...]:
        """The species asked for, checked against those of the file; None: all of the file."""
        if not self.species:
            raise PotentialError("it names no species", self.path)
        for s in species or ():
            if s not in self.species:
                raise PotentialError(f"no species {s} here, only {' '.join(self.species)}", self.path)
        return tuple(species) if species is not None else self.species
