"""Parameter files made of entries: three species and a fixed count of numbers each (Stillinger-Weber, Tersoff).

The format is that of LAMMPS: `#` starts a comment, an entry may run over several lines and begins on a new one,
every ordered triple of the species in use needs an entry, entries of other species are left aside.
"""

from itertools import permutations, product

import numpy as np

from .base import PotentialError


def logical_entries(text: str):
    """[(line number, word), ...] of the text without comments, one list per physical line that has words."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if words:
            yield [(number, word) for word in words]


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def looks_like(text: str, count: int) -> bool:
    """Whether the first entry of the text is three words and exactly `count` numbers."""
    words = []
    for line in logical_entries(text):
        line = [word for _, word in line]
        if len(words) >= 3 + count and not is_number(line[0]):
            break
        words += line
        if len(words) > 3 + count:
            return False
    return len(words) == 3 + count and not any(map(is_number, words[:3])) and all(map(is_number, words[3:]))


def read_entries(path, text: str, fields: tuple[str, ...]):
    """{(species 1, species 2, species 3): (line number, values (len(fields),))} in the file's order.

    PotentialError names file and line of a number that is none (or NaN or infinite), of an entry cut short or too
    long, and of one given twice.
    """
    entries, size = {}, 3 + len(fields)
    pending = []

    def close():
        start = pending[0][0]
        names = tuple(word for _, word in pending[:3])
        label = " ".join(names)
        for line, name in pending[:3]:
            if is_number(name):
                message = f"expected three species at the start of an entry, found the number {name}"
                raise PotentialError(message, path, line)
        values = np.empty(len(fields))
        for k, (line, word) in enumerate(pending[3:]):
            if not is_number(word):
                what = f"{word!r} is not a number ({fields[k]} of the entry {label})"
                if k and all(not is_number(w) for _, w in pending[3 + k : 6 + k]):
                    what = f"the entry {label} that starts here ends after {k} of its {len(fields)} numbers"
                    line = start
                raise PotentialError(what, path, line)
            values[k] = float(word)
            if not np.isfinite(values[k]):
                raise PotentialError(f"{fields[k]} of the entry {label} is {word}, not a finite number", path, line)
        if names in entries:
            raise PotentialError(f"the entry {label} was given before, on line {entries[names][0]}", path, start)
        entries[names] = (start, values)

    for line in logical_entries(text):
        pending += line
        if len(pending) > size:
            extra_line, extra = pending[size]
            label = " ".join(word for _, word in pending[:3])
            raise PotentialError(
                f"{extra!r} follows the {len(fields)} numbers of the entry {label} that starts on line {pending[0][0]}"
                if is_number(pending[min(size - 1, len(pending) - 1)][1])
                else f"the entry {label} that starts on line {pending[0][0]} has fewer than {len(fields)} numbers",
                path,
                extra_line,
            )
        if len(pending) == size:
            close()
            pending = []
    if pending:
        label = " ".join(word for _, word in pending[:3])
        have = max(len(pending) - 3, 0)
        message = f"the file ends within the entry {label}, which has {have} of its {len(fields)} numbers"
        raise PotentialError(message, path, pending[0][0])
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
