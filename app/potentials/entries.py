"""Parameter files made of entries: three species and a fixed count of numbers each (Stillinger-Weber, Tersoff).

The format is that of LAMMPS: `#` starts a comment, an entry may run over several lines and begins on a new one,
every ordered triple of the species in use needs an entry, entries of other species are left aside.
"""

from itertools import permutations, product

import numpy as np

from .base import PotentialError


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def split_entries(text: str):
    """The entries of a text, each a list of (line number, word); one begins with every line that has three names.

    Words before the first entry are a list of their own.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        begins = len(words) >= 3 and not any(map(is_number, words[:3]))
        if words and (begins or not found):
            found.append([])
        if words:
            found[-1] += [(number, word) for word in words]
    return found


def looks_like(text: str, count: int) -> bool:
    """Whether the first entry of the text is three words and exactly `count` numbers."""
    first = next(iter(split_entries(text)), [])
    numeric = [is_number(word) for _, word in first]
    return numeric == [False] * 3 + [True] * count


def read_entries(path, text: str, fields: tuple[str, ...]):
    """{(species 1, species 2, species 3): (line number, values (len(fields),))} in the file's order.

    PotentialError names file and line of a number that is none (or NaN or infinite), of an entry cut short or too
    long, and of one given twice.
    """
    entries = {}
    for words in split_entries(text):
        start = words[0][0]
        names = tuple(word for _, word in words[:3])
        label = " ".join(names)
        if len(names) < 3 or any(map(is_number, names)):
            raise PotentialError(f"an entry begins with three species, not with {label}", path, start)
        given = words[3:]
        for (line, word), name in zip(given, fields):
            if not is_number(word):
                raise PotentialError(f"{word!r} is not a number ({name} of the entry {label})", path, line)
            if not np.isfinite(float(word)):
                raise PotentialError(f"{name} of the entry {label} is {word}, not a finite number", path, line)
        if len(given) < len(fields):
            raise PotentialError(f"the entry {label} has only {len(given)} of its {len(fields)} numbers", path, start)
        if len(given) > len(fields):
            line, word = given[len(fields)]
            raise PotentialError(f"{word!r} follows the {len(fields)} numbers of the entry {label}", path, line)
        if names in entries:
            raise PotentialError(f"the entry {label} was given before, on line {entries[names][0]}", path, start)
        entries[names] = (start, np.array([float(word) for _, word in given]))
    if not entries:
        raise PotentialError("no entry (three species and their numbers) in this file", path)
    return entries


def element(name: str) -> str:
    """The chemical symbol in a name such as Si(D), one of several parameter sets of an element."""
    return name.split("(", 1)[0]


def choose(path, entries, species):
    """The file's names for these species: each as written, or the one labelled variant with a complete set of entries.

    species: chemical symbols or names in the file; None: all of the file's, in order. PotentialError where a species is
    unknown, an entry is missing, or several variants would do.
    """
    known = list(dict.fromkeys(name for names in entries for name in names))

    def missing(names):
        distinct = dict.fromkeys(names)
        return [triple for triple in product(distinct, repeat=3) if triple not in entries]

    if species is None:
        lacking = missing(known)
        if lacking:
            message = f"no entry for {' '.join(lacking[0])}: choose the types' species among {', '.join(known)}"
            raise PotentialError(message, path)
        return known
    candidates = []
    for name in species:
        variants = [name] if name in known else [k for k in known if element(k) == name]
        if not variants:
            raise PotentialError(f"no entry for species {name}: the file has {', '.join(known)}", path)
        candidates.append(variants)
    complete = [names for names in product(*candidates) if not missing(names)]
    if not complete:
        triple = missing([variants[0] for variants in candidates])[0]
        near = next((entries[p][0] for p in permutations(triple) if p in entries), None)
        hint = "" if near is None else f" (the same three in another order are on line {near})"
        raise PotentialError(f"no entry for {' '.join(triple)}{hint}", path)
    if len(complete) > 1:
        options = " or ".join(" ".join(names) for names in complete)
        raise PotentialError(f"{' '.join(species)} may be {options}: name the one you mean", path)
    return list(complete[0])


def table(entries, names, count: int):
    """(nt, nt, nt, count) values of the chosen names, and the line of each (nt, nt, nt)."""
    nt = len(names)
    values, lines = np.empty((nt, nt, nt, count)), np.empty((nt, nt, nt), dtype=np.int64)
    for index in product(range(nt), repeat=3):
        lines[index], values[index] = entries[tuple(names[k] for k in index)]
    return values, lines
