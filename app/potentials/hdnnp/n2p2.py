"""Directories of n2p2 and RuNNer: input.nn, scaling.data and weights.ZZZ.data (ZZZ: the atomic number) <-> Model.

Formats: https://compphysvienna.github.io/n2p2 (keywords, symmetry functions) and RuNNer's keyword reference. The files do
not say their units: the writer adds a comment `# units bohr Hartree` to input.nn, which the reader understands.
"""

import difflib
import math
import re
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np

from ostwald.io.text import read_text, write_text

from ..base import PotentialError
from ..text import number
from . import keywords as known
from .model import (
    ACTIVATIONS,
    ANGULAR,
    BOHR,
    COMPACT,
    CUTOFF_NAMES,
    HARTREE,
    KINDS,
    SUBTYPES,
    WEIGHTED,
    Element,
    Layer,
    Model,
    SymmetryFunction,
    sort_key,
)

LENGTH_UNITS = {"angstrom": 1.0, "bohr": BOHR, "nm": 10.0}
"""Å per unit, by names in lower case."""

ENERGY_UNITS = {
    "ev": 1.0,
    "hartree": HARTREE,
    "rydberg": HARTREE / 2,
    "kcal/mol": 0.0433641042418009,  # 4184 J / N_A, SI constants of 2019
    "kj/mol": 0.0103642696562621,
}
"""eV per unit, by names in lower case."""

SYNONYMS = {"å": "angstrom", "ang": "angstrom", "a": "angstrom", "a0": "bohr", "ha": "hartree", "ry": "rydberg"}
NAMES = {"ev": "eV", "hartree": "Hartree", "kj/mol": "kJ/mol"}

FIELDS = {
    2: ("eta", "shift", "cutoff"),
    3: ("eta", "lam", "zeta", "cutoff"),
    9: ("eta", "lam", "zeta", "cutoff"),
    12: ("eta", "shift", "cutoff"),
    13: ("eta", "shift", "lam", "zeta", "cutoff"),
    20: ("r_low", "cutoff", "subtype"),
    21: ("r_low", "cutoff", "angle_low", "angle_high", "subtype"),
    22: ("r_low", "cutoff", "angle_low", "angle_high", "subtype"),
    23: ("r_low", "cutoff", "subtype"),
    24: ("r_low", "cutoff", "angle_low", "angle_high", "subtype"),
    25: ("r_low", "cutoff", "angle_low", "angle_high", "subtype"),
}
"""What follows the elements on a line of each kind; 3 and 9 may add a shift."""


def unit(name: str, table: dict, what: str) -> float:
    """Å per unit of length or eV per unit of energy of this name; PotentialError if there is none."""
    word = SYNONYMS.get(name.lower(), name.lower())
    if word not in table:
        raise PotentialError(f"unknown {what} unit {name!r}: known are {', '.join(NAMES.get(k, k) for k in table)}")
    return table[word]


def unit_name(value: float, table: dict) -> str | None:
    return next((NAMES.get(word, word) for word, size in table.items() if size == value), None)


def units_of(model: Model) -> tuple[str, str]:
    """The names of the model's units of length and energy, numbers (Å, eV) where they have none."""
    length, energy = unit_name(model.length_unit, LENGTH_UNITS), unit_name(model.energy_unit, ENERGY_UNITS)
    return length or f"{model.length_unit!r} Å", energy or f"{model.energy_unit!r} eV"


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path, units: tuple[str, str] | None = None) -> Model:
    """Reads a directory. units: the files' (length, energy), e.g. ("bohr", "Hartree").

    None: what a line `# units LENGTH ENERGY` of input.nn says, else Å and eV; `Model.units_stated` tells the difference.
    PotentialError: one sentence naming file and line.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file: name the directory" if folder.exists() else "no such directory"
        raise PotentialError(
            f"{what} of a neural-network potential (with input.nn, scaling.data, weights.*.data)", path
        )
    settings = _Settings(folder / "input.nn")
    model = settings.model(units)
    scaling = _read_scaling(folder / "scaling.data", model)
    for element, columns in zip(model.elements, scaling):
        element.minimum, element.maximum, element.mean, element.sigma = columns
    _check_scaling(folder / "scaling.data", model)
    for element in model.elements:
        element.layers = _read_weights(folder, element, settings.topologies(element.symbol))
    model.check()
    return model


def files(folder) -> list[str]:
    """The names of the files of a directory that the potential is made of."""
    weights = sorted(file.name for file in Path(folder).glob("weights.*.data"))
    return [name for name in ("input.nn", "scaling.data") if (Path(folder) / name).is_file()] + weights


def _text(path: Path, what: str) -> str:
    if not path.is_file():
        raise PotentialError(f"{what} is missing", path)
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise PotentialError(
            f"cannot be read: {getattr(error, 'strerror', None) or 'it is not a text file'}", path
        ) from error


def _atomic_number(symbol: str) -> int:
    """Of a chemical symbol; 0: it is none."""
    from ase.data import atomic_numbers

    return atomic_numbers.get(symbol, 0)


class _Settings:
    """The lines of input.nn: found[name] = [(line, words), ...] of what the model is made of; kept: the other keywords."""

    def __init__(self, path: Path):
        self.path = path
        self.found: dict[str, list[tuple[int, list[str]]]] = {}
        self.kept: list[tuple[str, str]] = []
        self.units: tuple[float, float] | None = None
        for line, raw in enumerate(_text(path, "the file").splitlines(), 1):
            self._units_comment(line, raw)
            words = re.split("[#!]", raw, maxsplit=1)[0].split()
            if words:
                self._keyword(line, words[0], words[1:])

    def fail(self, message, line=None):
        raise PotentialError(message, self.path, line)

    def _units_comment(self, line, raw):
        stated = re.fullmatch(r"\s*#\s*units\s+(\S+)\s+(\S+)\s*", raw, re.IGNORECASE)
        if stated:
            try:
                units = (unit(stated[1], LENGTH_UNITS, "length"), unit(stated[2], ENERGY_UNITS, "energy"))
            except PotentialError as error:
                self.fail(str(error), line)
            if self.units not in (None, units):
                self.fail("the units were stated before, and differently", line)
            self.units = units

    def _keyword(self, line, word, words):
        name = known.ALIASES.get(word, word)
        if name in known.BEYOND:
            self.fail(f"{word} asks for {known.BEYOND[name]}, which this program does not have", line)
        if name in known.KEPT:
            self.kept.append((word, " ".join(words)))
            return
        if name not in known.MODEL:
            near = difflib.get_close_matches(word, known.KNOWN, n=1)
            self.fail(f"unknown keyword {word!r}" + (f"; did you mean {near[0]}?" if near else ""), line)
        lines = self.found.setdefault(name, [])
        if lines and name not in known.SEVERAL:
            self.fail(f"{word} was given before, on line {lines[0][0]}", line)
        lines.append((line, words))

    def value(self, name, kind, default=None):
        """The one value of a keyword: (value, line)."""
        if name not in self.found:
            if default is None:
                self.fail(f"there is no line {name}")
            return default, None
        line, words = self.found[name][0]
        if len(words) != 1:
            self.fail(f"{name} takes one value, not {len(words)}", line)
        return self.convert(words[0], kind, name, line), line

    def convert(self, word, kind, what, line):
        try:
            value = int(word) if kind is int else number(word)
        except ValueError:
            self.fail(f"{word!r} is not {'a whole number' if kind is int else 'a number'} (in {what})", line)
        if not math.isfinite(value):
            self.fail(f"{word!r} is not finite (in {what})", line)
        return value

    def model(self, units) -> Model:
        """All but scaling data and weights."""
        self._generation()
        self.species = self._elements()
        self.cutoff_type, self.cutoff_inner = self._cutoff()
        functions = self._functions()
        empty = np.empty(0)
        offsets = self._atom_energies()
        elements = [Element(s, functions[s], empty, empty, empty, empty, [], offsets[s]) for s in self.species]
        mean_energy, conv_energy, conv_length = self._normalisation()
        stated = self.units
        if units is not None:
            stated = (unit(units[0], LENGTH_UNITS, "length"), unit(units[1], ENERGY_UNITS, "energy"))
        length_unit, energy_unit = stated or (1.0, 1.0)
        scale_min, scale_max = (
            self.value("scale_min_short", float, 0.0)[0],
            self.value("scale_max_short", float, 1.0)[0],
        )
        scaling = self._scaling()
        if scaling not in ("none", "center") and not scale_max > scale_min:
            line = self.found.get("scale_max_short", self.found.get("scale_min_short"))[0][0]
            self.fail(f"scale_max_short ({scale_max:g}) must be above scale_min_short ({scale_min:g})", line)
        return Model(
            elements=elements,
            cutoff_type=self.cutoff_type,
            cutoff_inner=self.cutoff_inner,
            scaling=scaling,
            scale_min=scale_min,
            scale_max=scale_max,
            normalize_nodes=self._flag("normalize_nodes"),
            mean_energy=mean_energy,
            conv_energy=conv_energy,
            conv_length=conv_length,
            length_unit=length_unit,
            energy_unit=energy_unit,
            keywords=self.kept,
            units_stated=stated is not None,
        )

    def _flag(self, name) -> bool:
        if name not in self.found:
            return False
        line, words = self.found[name][0]
        if words:
            self.fail(f"{name} takes no value, not {words[0]!r}", line)
        return True

    def _generation(self):
        for name, short_range in (("nnp_type", ("2", "2G", "2G-HDNNP")), ("nn_type_short", ("1",))):
            for line, words in self.found.get(name, []):
                if len(words) != 1 or words[0] not in short_range:
                    self.fail(
                        f"{name} {' '.join(words)} is not a short-range potential of atoms ({short_range[-1]})", line
                    )

    def _elements(self) -> list[str]:
        if "elements" not in self.found:
            self.fail("there is no line elements")
        line, symbols = self.found["elements"][0]
        for symbol in symbols:
            if not _atomic_number(symbol):
                self.fail(f"{symbol!r} is not a chemical symbol", line)
        repeated = next((s for s in symbols if symbols.count(s) > 1), None)
        if repeated or not symbols:
            self.fail(f"{repeated} stands twice among the elements" if repeated else "elements names none", line)
        count, count_line = self.value("number_of_elements", int, len(symbols))
        if count != len(symbols):
            self.fail(
                f"number_of_elements is {count}, but line {line} names {len(symbols)}: {' '.join(symbols)}", count_line
            )
        return sorted(symbols, key=_atomic_number)

    def element(self, words, what, line) -> str:
        """The first of the words, which must be one of the potential's elements."""
        if not words:
            self.fail(f"{what} names no element", line)
        if words[0] not in self.species:
            self.fail(f"{what} of {words[0]}, which is not among the elements {' '.join(self.species)}", line)
        return words[0]

    def _atom_energies(self) -> dict[str, float]:
        offsets, lines = dict.fromkeys(self.species, 0.0), {}
        for line, words in self.found.get("atom_energy", []):
            symbol = self.element(words, "atom_energy", line)
            if len(words) != 2:
                self.fail("atom_energy takes an element and an energy", line)
            if symbol in lines:
                self.fail(f"atom_energy of {symbol} was given before, on line {lines[symbol]}", line)
            offsets[symbol], lines[symbol] = self.convert(words[1], float, "atom_energy", line), line
        return offsets

    def _cutoff(self) -> tuple[int, float]:
        line, words = self.found.get("cutoff_type", [(None, ["1"])])[0]
        if len(words) not in (1, 2):
            self.fail("cutoff_type takes a number from 0 to 8 and perhaps the fraction of an inner cutoff", line)
        kind = self.convert(words[0], int, "cutoff_type", line)
        if kind not in CUTOFF_NAMES:
            self.fail(f"unknown cutoff_type {kind}: 0 to 8 are known", line)
        inner = self.convert(words[1], float, "cutoff_type", line) if len(words) == 2 else 0.0
        alpha, alpha_line = self.value("cutoff_alpha", float, inner)
        if len(words) == 2 and alpha != inner:
            self.fail(f"cutoff_alpha is {alpha:g}, but line {line} says {inner:g}", alpha_line)
        if not 0 <= alpha < 1:
            self.fail(f"the inner cutoff must be a fraction from 0 to below 1, not {alpha:g}", alpha_line or line)
        return kind, alpha

    def _scaling(self) -> str:
        """n2p2's precedence: sigma scaling only where neither of the others is asked for."""
        scale, center = self._flag("scale_symmetry_functions"), self._flag("center_symmetry_functions")
        sigma = self._flag("scale_symmetry_functions_sigma")
        if scale or center:
            return "scale_center" if scale and center else "scale" if scale else "center"
        return "sigma" if sigma else "none"

    def _normalisation(self) -> tuple[float, float, float]:
        names = ("mean_energy", "conv_energy", "conv_length")
        given = [name for name in names if name in self.found]
        if not given:
            return 0.0, 1.0, 1.0
        if len(given) < 3:
            lacking = next(name for name in names if name not in given)
            self.fail(f"{given[0]} needs {lacking} too", self.found[given[0]][0][0])
        values = [self.value(name, float) for name in names]
        for name, (value, line) in zip(names[1:], values[1:]):
            if value <= 0:
                self.fail(f"{name} must be positive, not {value:g}", line)
        return tuple(value for value, _ in values)

    def _functions(self) -> dict[str, list[SymmetryFunction]]:
        """Of each element, sorted; shorthands for all neighbours, or for all elements, written out."""
        lines: dict[SymmetryFunction, int] = {}
        for name in ("symfunction_short", "element_symfunction_short", "global_symfunction_short"):
            for line, words in self.found.get(name, []):
                for function in self._line_of_functions(name, words, line):
                    if function in lines:
                        self.fail(f"the same symmetry function was given before, on line {lines[function]}", line)
                    lines[function] = line
        functions = {symbol: [f for f in lines if f.centre == symbol] for symbol in self.species}
        for symbol, own in functions.items():
            if not own:
                self.fail(f"{symbol} has no symmetry function")
            own.sort(key=lambda f: sort_key(f, self.species))
        return functions

    def _line_of_functions(self, name, words, line):
        words = list(words)
        centres = self.species if name == "global_symfunction_short" else [self.element(words, name, line)]
        if name != "global_symfunction_short":
            words.pop(0)
        if not words:
            self.fail(f"{name} names no type", line)
        kind = self.convert(words.pop(0), int, name, line)
        if kind not in KINDS:
            self.fail(f"unknown symmetry function type {kind}: known are {', '.join(map(str, KINDS))}", line)
        count = 0 if kind in WEIGHTED else 2 if kind in ANGULAR else 1
        if name != "symfunction_short":
            sets = list(combinations_with_replacement(self.species, count))
        else:
            named = [self.element(words[k:], f"a neighbour in {name}", line) for k in range(count)]
            sets = [tuple(sorted(named, key=self.species.index))]
            del words[:count]
        parameters = self._parameters(kind, words, line)
        return [SymmetryFunction(kind, centre, neighbours, **parameters) for centre in centres for neighbours in sets]

    def _parameters(self, kind, words, line) -> dict:
        fields = FIELDS[kind] + (("shift",) if kind in (3, 9) and len(words) > len(FIELDS[kind]) else ())
        if len(words) != len(fields):
            expected = " ".join(fields) + (" [shift]" if kind in (3, 9) and "shift" not in fields else "")
            self.fail(f"type {kind} needs {expected}: {len(words)} values given for {len(fields)}", line)
        values = {}
        for field, word in zip(fields, words):
            values[field] = word if field == "subtype" else self.convert(word, float, field, line)
        if values["cutoff"] <= 0:
            self.fail(f"the cutoff must be positive, not {values['cutoff']:g}", line)
        if values.get("zeta", 1.0) <= 0:
            self.fail(f"zeta must be positive, not {values['zeta']:g}", line)
        if values.get("eta", 0.0) < 0:
            self.fail(f"eta must not be negative, it is {values['eta']:g}", line)
        if kind in COMPACT:
            self._check_compact(values, line)
        return values

    def _check_compact(self, values, line):
        if values["subtype"] not in SUBTYPES:
            self.fail(f"unknown compact function {values['subtype']!r}: known are {', '.join(SUBTYPES)}", line)
        if values["r_low"] >= values["cutoff"]:
            self.fail(f"the inner radius {values['r_low']:g} must be below the outer, {values['cutoff']:g}", line)
        if "angle_low" in values:
            low, high = values["angle_low"], values["angle_high"]
            if low >= high or high - low > 360:
                self.fail(f"the angles {low:g} and {high:g} must be in this order and at most 360 degrees apart", line)
            if (low < 0 and low + high != 0) or (high > 180 and low + high != 360):
                self.fail(f"angles {low:g} to {high:g} beyond 0 or 180 degrees must be centred there", line)

    def topologies(self, symbol):
        """What the nodes of an element's hidden layers may be, and the activations: ([[nodes, ...], ...], names).

        Several where n2p2 and RuNNer read a line element_nodes_short differently (a node count for each hidden layer; a
        layer and its count; with n2p2, the last of the counts has no effect): the number of weights decides.
        """
        layers, _ = self.value("global_hidden_layers_short", int, 0)
        overall = layers
        for _, words in self._own("element_hidden_layers_short", symbol, 1):
            layers = words[0]
        nodes = self._global("global_nodes_short", overall, int) if overall and overall == layers else [0] * layers
        letters = (
            self._global("global_activation_short", overall + 1, str) if overall == layers else [""] * (layers + 1)
        )
        candidates = self._nodes(symbol, nodes)
        for line, words in self._own("element_activation_short", symbol):
            if len(words) == len(letters) and not words[0].isdigit():
                letters = list(words)
            elif len(words) in (2, 3) and words[0].isdigit() and 1 <= int(words[0]) <= len(letters):
                if len(words) == 3:
                    self.fail("an activation of a single node (RuNNer) is not supported, only of whole layers", line)
                letters[int(words[0]) - 1] = words[1]
            else:
                self.fail(
                    f"element_activation_short of {symbol} needs {len(letters)} letters, one for each layer", line
                )
        for letter in letters:
            if letter not in ACTIVATIONS:
                what = (
                    f"unknown activation {letter!r}: known are {' '.join(ACTIVATIONS)}" if letter else "no activations"
                )
                self.fail(f"{what} (network of {symbol})", self._line_of("activation_short"))
        return candidates, [ACTIVATIONS[letter] for letter in letters]

    def _line_of(self, end):
        lines = [entries[0][0] for name, entries in self.found.items() if name.endswith(end)]
        return lines[0] if lines else None

    def _nodes(self, symbol, nodes) -> list[list[int]]:
        count = len(nodes)
        listed, by_layer, first_only = list(nodes), list(nodes), list(nodes)
        for line, words in self._own("element_nodes_short", symbol):
            values = [self.convert(word, int, "element_nodes_short", line) for word in words]
            is_layer = len(values) == 2 and 1 <= values[0] <= count
            if len(values) == count:
                listed, first_only = values, values[:-1] + first_only[-1:]
            elif not is_layer:
                self.fail(f"element_nodes_short of {symbol} needs {count} numbers, one for each hidden layer", line)
            if is_layer:
                by_layer[values[0] - 1] = values[1]
        candidates = []
        for candidate in (listed, by_layer, first_only):
            if candidate not in candidates and all(n > 0 for n in candidate):
                candidates.append(candidate)
        if not candidates:
            self.fail(
                f"the nodes of the hidden layers of {symbol} are not given, or not positive",
                self._line_of("nodes_short"),
            )
        return candidates

    def _own(self, name, symbol, count=None):
        """Lines of a keyword for this element, its symbol removed; with a count: that many whole numbers."""
        for line, words in self.found.get(name, []):
            if self.element(words, name, line) != symbol:
                continue
            own = words[1:]
            if count is not None:
                if len(own) != count:
                    self.fail(f"{name} takes an element and {count} number", line)
                own = [self.convert(word, int, name, line) for word in own]
                if min(own) < 0:
                    self.fail(f"{name} must not be negative", line)
            yield line, own

    def _global(self, name, count, kind):
        if name not in self.found:
            return [0 if kind is int else ""] * count
        line, words = self.found[name][0]
        if len(words) != count:
            self.fail(f"{name} needs {count} values for the hidden layers given, not {len(words)}", line)
        return [self.convert(word, int, name, line) for word in words] if kind is int else list(words)


def _rows(path: Path, what: str):
    """(line, words) of the lines that are neither blank nor comments."""
    rows = ((line, raw.split("#", 1)[0].split()) for line, raw in enumerate(_text(path, what).splitlines(), 1))
    return [(line, words) for line, words in rows if words]


def _finite(path, line, word, what) -> float:
    try:
        value = number(word)
    except ValueError:
        raise PotentialError(f"{word!r} is not a number ({what})", path, line) from None
    if not math.isfinite(value):
        raise PotentialError(f"{what} is {word}, not a finite number", path, line)
    return value


def _read_scaling(path: Path, model: Model):
    """(4, nf) of each element: minimum, maximum, mean, sigma (nan where there is no such column)."""
    rows = _rows(path, "the file of scaling data")
    needed = sum(len(element.functions) for element in model.elements)
    if len(rows) == needed + 1 and len(rows[-1][1]) == 2:
        rows.pop()  # RuNNer ends with the range of the training energies
    result, at = [], 0
    for index, element in enumerate(model.elements, 1):
        columns = np.full((len(element.functions), 4), np.nan)
        for k in range(len(element.functions)):
            want = f"function {k + 1} of {element.symbol} (element {index})"
            if at == len(rows):
                raise PotentialError(
                    f"the file ends before {want}: {len(rows)} rows for the {needed} functions of input.nn",
                    path,
                    rows[-1][0] if rows else None,
                )
            line, words = rows[at]
            if words[:2] != [str(index), str(k + 1)]:
                found = f"found {' '.join(words[:2])}"
                raise PotentialError(
                    f"expected {index} {k + 1}, {want}, {found}: this file belongs to other functions", path, line
                )
            if len(words) not in (5, 6):
                raise PotentialError(f"a row has 5 or 6 columns, this one has {len(words)}", path, line)
            for column, word in enumerate(words[2:]):
                columns[k, column] = _finite(path, line, word, ("minimum", "maximum", "mean", "sigma")[column])
            at += 1
        result.append(np.ascontiguousarray(columns.T))
    if at < len(rows):
        message = f"{len(rows)} rows for the {needed} functions of input.nn: this file belongs to other functions"
        raise PotentialError(message, path, rows[at][0])
    return result


def _check_scaling(path: Path, model: Model):
    """The statistics must be possible and the scaling not divide by zero."""
    lines = iter(_rows(path, "the file of scaling data"))
    for element in model.elements:
        for k in range(len(element.functions)):
            line, _ = next(lines)
            low, high, sigma = element.minimum[k], element.maximum[k], element.sigma[k]
            if low > high:
                raise PotentialError(f"the minimum {low:g} is above the maximum {high:g}", path, line)
            if model.scaling in ("scale", "scale_center") and low == high:
                raise PotentialError(
                    "minimum and maximum are equal, so the function cannot be scaled by its range", path, line
                )
            if model.scaling == "sigma" and not sigma > 0:
                what = "there is no sigma" if math.isnan(sigma) else f"sigma is {sigma:g}"
                raise PotentialError(
                    f"{what}, by which input.nn asks to scale (scale_symmetry_functions_sigma)", path, line
                )


def _read_weights(folder: Path, element: Element, topology) -> list[Layer]:
    path = folder / f"weights.{_atomic_number(element.symbol):03d}.data"
    rows = _rows(path, f"the file of the weights of {element.symbol}")
    candidates, activations = topology
    inputs = len(element.functions)
    counts = []
    for nodes in candidates:
        sizes = [inputs, *nodes, 1]
        counts.append(sum((a + 1) * b for a, b in pairwise(sizes)))
    if len(rows) not in counts:
        network = "-".join(map(str, [inputs, *candidates[0], 1]))
        how = "the file ends early" if len(rows) < counts[0] else "too many"
        message = (
            f"{len(rows)} weights and biases where the network {network} of {element.symbol} has {counts[0]}: {how}"
        )
        raise PotentialError(message, path, rows[-1][0] if rows else None)
    values = np.empty(len(rows))
    for k, (line, words) in enumerate(rows):
        values[k] = _finite(path, line, words[0], "a weight")
        if len(words) > 2 and words[2] != str(k + 1):
            raise PotentialError(f"connection {words[2]} where number {k + 1} should be", path, line)
    layers, at, before = [], 0, inputs
    for size, activation in zip([*candidates[counts.index(len(rows))], 1], activations):
        weights = values[at : at + before * size].reshape(before, size)
        at += before * size
        layers.append(Layer(np.ascontiguousarray(weights.T), values[at : at + size].copy(), activation))
        at += size
        before = size
    return layers


# -- doubts ------------------------------------------------------------------------------------------------------------


def doubt(model: Model) -> str | None:
    """A sentence where units were taken for Å and eV without being stated, and do not look so; None where all seems well.

    Signs of bohr: a cutoff above 9.5. Signs of Hartree: an atom_energy within a tenth of the whole atom's energy in
    Hartree, by the semiclassical series -0.7687 Z^(7/3) + Z²/2 - 0.2699 Z^(5/3) (J. Schwinger, Phys. Rev. A 24, 2353, 1981).
    """
    if model.units_stated:
        return None
    signs = []
    if model.cutoff > 9.5:
        signs.append(f"a cutoff of {model.cutoff:g} looks like bohr")
    for element in model.elements:
        z = _atomic_number(element.symbol)
        whole = -0.7687 * z ** (7 / 3) + z**2 / 2 - 0.2699 * z ** (5 / 3)
        if abs(element.offset - whole) < 0.1 * abs(whole):
            signs.append(f"the atom_energy {element.offset:g} of {element.symbol} looks like Hartree")
            break
    if not signs:
        return None
    return f"the files' units are not stated and taken for Å and eV, but {' and '.join(signs)}: state length_unit and energy_unit (Python: units)"


# -- writing -----------------------------------------------------------------------------------------------------------


def write(model: Model, path):
    """Writes input.nn, scaling.data and weights.ZZZ.data into a directory, which is made if need be.

    Numbers keep every bit. Networks that differ between elements get element_* lines, as n2p2 documents them.
    """
    model.check()
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for element in model.elements:
        write_text(folder / f"weights.{_atomic_number(element.symbol):03d}.data", _weights_text(element))
    write_text(folder / "scaling.data", _scaling_text(model))
    write_text(folder / "input.nn", _input_text(model))


def _input_text(model: Model) -> str:
    out = ["# High-dimensional neural-network potential"]
    length, energy = unit_name(model.length_unit, LENGTH_UNITS), unit_name(model.energy_unit, ENERGY_UNITS)
    if length is None or energy is None:
        raise ValueError("the model's units have no names, so a file cannot state them")
    out += [f"# units {length} {energy}", ""]

    def line(name, *values):
        out.append(f"{name:<32}{' '.join(v if isinstance(v, str) else repr(v) for v in values)}".rstrip())

    if (model.mean_energy, model.conv_energy, model.conv_length) != (0.0, 1.0, 1.0):
        line("mean_energy", float(model.mean_energy))
        line("conv_energy", float(model.conv_energy))
        line("conv_length", float(model.conv_length))
    line("number_of_elements", len(model.elements))
    line("elements", *model.species)
    for element in model.elements:
        if element.offset:
            line("atom_energy", element.symbol, float(element.offset))
    line("cutoff_type", int(model.cutoff_type), float(model.cutoff_inner))
    if model.scaling in ("scale", "scale_center"):
        line("scale_symmetry_functions")
    if model.scaling in ("center", "scale_center"):
        line("center_symmetry_functions")
    if model.scaling == "sigma":
        line("scale_symmetry_functions_sigma")
    line("scale_min_short", float(model.scale_min))
    line("scale_max_short", float(model.scale_max))
    letter = {name: letter for letter, name in ACTIVATIONS.items()}
    networks = [
        ([len(a.bias) for a in e.layers[:-1]], [letter[a.activation] for a in e.layers]) for e in model.elements
    ]
    nodes, letters = networks[0]
    line("global_hidden_layers_short", len(nodes))
    if nodes:
        line("global_nodes_short", *nodes)
    line("global_activation_short", *letters)
    for symbol, (own_nodes, own_letters) in zip(model.species, networks):
        if len(own_nodes) != len(nodes):
            line("element_hidden_layers_short", symbol, len(own_nodes))
        if own_nodes != nodes and own_nodes:
            line("element_nodes_short", symbol, *own_nodes)
        if own_letters != letters:
            line("element_activation_short", symbol, *own_letters)
    if model.normalize_nodes:
        line("normalize_nodes")
    for name, words in model.keywords:
        line(name, words)
    for element in model.elements:
        out.append("")
        for f in element.functions:
            fields = FIELDS[f.kind] + (("shift",) if f.kind in (3, 9) and f.shift else ())
            values = [getattr(f, name) for name in fields]
            text = " ".join(v if isinstance(v, str) else repr(float(v)) for v in values)
            out.append(f"symfunction_short {f.centre:2s} {f.kind:2d} {''.join(f'{s:2s} ' for s in f.neighbours)}{text}")
    return "\n".join(out) + "\n"


def _scaling_text(model: Model) -> str:
    out = ["# Scaling data of symmetry functions: element, function, minimum, maximum, mean, standard deviation."]
    for index, element in enumerate(model.elements, 1):
        for k, values in enumerate(zip(element.minimum, element.maximum, element.mean, element.sigma), 1):
            out.append(f"{index:10d} {k:10d}" + "".join(f" {v:24.16E}" for v in values if not math.isnan(v)))
    return "\n".join(out) + "\n"


def _weights_text(element: Element) -> str:
    sizes = "-".join(map(str, [len(element.functions), *(len(layer.bias) for layer in element.layers)]))
    out = [
        f"# Weights (a) and biases (b) of {element.symbol}, network {sizes}: value, type, number, from layer and node, to."
    ]
    count = 0
    for k, layer in enumerate(element.layers, 1):
        for j, column in enumerate(layer.weights.T, 1):
            for i, value in enumerate(column, 1):
                count += 1
                out.append(f"{value:24.16E} a {count:9d} {k - 1:5d} {j:5d} {k:5d} {i:5d}")
        for i, value in enumerate(layer.bias, 1):
            count += 1
            out.append(f"{value:24.16E} b {count:9d} {k:5d} {i:5d}")
    return "\n".join(out) + "\n"
