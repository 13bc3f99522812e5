"""High-dimensional neural-network potentials evaluated natively (equations in model.py, how in kernels/hdnnp.cpp)."""

import numpy as np
from ase.data import atomic_numbers

from ostwald.app.kernels import _hdnnp

from ..base import Extrapolation, Potential, PotentialError, check_precision
from . import n2p2
from .model import ACTIVATIONS, ANGULAR, COMPACT, RADIAL, WEIGHTED, Element, Model, SymmetryFunction

CORES = {"e": 4, "p1": 5, "p2": 6, "p3": 7, "p4": 8}
"""Shapes of the compact functions by the kernel's numbers, which are those of the cutoff types."""

SMALLEST = 1e-25
"""Functions that stay below this all over the training set are beyond single precision, with the derivatives they need."""


class HDNNP(Potential):
    """One network for each element, or several on the same symmetry functions: their mean.

    models: a Model, or models that differ in networks, scaling and offsets only; species: the types' symbols among the
    models' elements, None: all of them. After `watch()` each compute() fills `extrapolation`, by the first model's ranges.
    """

    family = "HDNNP"
    list_style = "full"
    reverse = True

    def __init__(self, models, species=None, precision="double", path=None):
        self.models = [models] if isinstance(models, Model) else list(models)
        first = self.model = self.models[0]
        self.precision = check_precision(precision, path)
        self.path = None if path is None else str(path)
        self.species = first.species if species is None else tuple(species)
        for symbol in self.species:
            if symbol not in first.species:
                raise PotentialError(f"no network for {symbol}: the potential has {', '.join(first.species)}", path)
        if len(set(self.species)) != len(self.species):
            raise PotentialError(f"a species is named twice: {' '.join(self.species)}", path)
        for other in self.models[1:]:
            if not same_functions(first, other):
                raise PotentialError("these models have different symmetry functions", path)
        self._elements = [first.elements[first.species.index(symbol)] for symbol in self.species]
        self._mixed = precision == "mixed" and all(
            np.all(
                (element.maximum == element.minimum)
                | (np.maximum(abs(element.maximum), abs(element.minimum)) > SMALLEST)
            )
            for element in first.elements
        )
        self._kernel = functions_kernel(first, self.species, self._mixed)
        for model in self.models:
            self._kernel.add_member([_network(model, element) for element in model.elements])
        for index, element in enumerate(first.elements):
            self._kernel.set_range(index, _array(element.minimum), _array(element.maximum))
        self.cutoff = first.cutoff
        self.extrapolation = None
        self._watching = False

    def parameters(self):
        yield repr([[f for f in element.functions] for element in self.model.elements])
        for model in self.models:
            yield repr((model.cutoff_type, model.cutoff_inner, model.length_unit, model.network_energy))
            for element in model.elements:
                yield from model.scale_and_shift(element)
                yield model.atom_energy(element)
                for layer in model.network(element):
                    yield from (layer.weights, layer.bias, layer.activation)

    def describe(self):
        parts = []
        for element in self._elements:
            nodes = "-".join(str(len(layer.bias)) for layer in element.layers[:-1])
            parts.append(f"{element.symbol} {len(element.functions)} functions, nodes {nodes or 'none'}")
        if self.precision == "mixed" and not self._mixed:
            parts.append(f"evaluated in double: some functions are below {SMALLEST:g} all over the training set")
        several = f"{len(self.models)} networks, " if len(self.models) > 1 else ""
        length, energy = n2p2.units_of(self.model)
        assumed = "" if self.model.units_stated else " (assumed: they do not say)"
        return f"{super().describe()}, {several}{'; '.join(parts)}; files in {length} and {energy}{assumed}"

    def watch(self, on=True):
        """Whether compute() also fills `extrapolation`."""
        self._watching = bool(on)
        if not on:
            self.extrapolation = None

    def function_name(self, type_: int, function: int) -> str:
        """One line naming a function of the atoms of a type, lengths in file units."""
        return describe_function(self._elements[type_].functions[function])

    def compute(self, nb, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        e, w = self._kernel.compute(*_rows(self, nb), forces, energies, virials, threads, *self._watched(nb))
        e = e if energy or energies is not None else np.nan
        return e, w if virial or virials is not None else np.full(6, np.nan)

    def _watched(self, nb):
        """The arrays of `extrapolation`, for the kernel to fill."""
        if not self._watching:
            return ()
        n = nb.nlocal
        self.extrapolation = Extrapolation(np.zeros(n, np.float32), np.zeros(n, np.int16), np.zeros(n, np.int16))
        return self.extrapolation.excess, self.extrapolation.function, self.extrapolation.count

    @classmethod
    def together(cls, members):
        """One evaluator of all their networks; None where their symmetry functions differ."""
        models = [model for member in members for model in member.models]
        if not all(same_functions(models[0], model) for model in models[1:]):
            return None
        return cls(models, members[0].species, members[0].precision)

    @property
    def common_range(self) -> bool:
        """Whether the models were trained on the same range of every symmetry function."""
        return all(
            np.array_equal(a.minimum, b.minimum) and np.array_equal(a.maximum, b.maximum)
            for model in self.models[1:]
            for a, b in zip(self.model.elements, model.elements)
        )

    def compute_members(self, nb, forces, threads=1):
        """Adds the forces of each model to forces (models, n+nghost, 3), eV/Å; returns this rank's share of each energy,
        (models,) eV, and of the mean virial, (6,) eV."""
        return self._kernel.compute_members(*_rows(self, nb), forces, threads, *self._watched(nb))

    def symmetry_functions(self, nb, threads=1):
        """By type: (rows, G). rows (k,) its local atoms; G (k, functions): their symmetry functions, unscaled."""
        out = np.zeros((nb.nlocal, max(len(element.functions) for element in self.model.elements)))
        self._kernel.functions(*_rows(self, nb), out, threads)
        rows = [np.flatnonzero(nb.types[: nb.nlocal] == type_) for type_ in range(len(self.species))]
        return [(own, out[own, : len(element.functions)]) for own, element in zip(rows, self._elements)]


def functions_kernel(model: Model, species, mixed=False):
    """The kernel of a model's symmetry functions, without networks. species: of the types, some of the model's."""
    return _hdnnp.HDNNP(
        [np.array([_row(f, model) for f in element.functions]) for element in model.elements],
        [model.species.index(symbol) for symbol in species],
        [float(atomic_numbers[symbol]) for symbol in model.species],
        model.cutoff_type,
        model.cutoff_inner,
        mixed,
    )


def same_functions(a: Model, b: Model) -> bool:
    """Whether both models have the same symmetry functions, elements and units of length."""
    keys = ("species", "cutoff_type", "cutoff_inner", "length_unit")
    if any(getattr(a, key) != getattr(b, key) for key in keys):
        return False
    return all(x.functions == y.functions for x, y in zip(a.elements, b.elements))


def describe_function(f: SymmetryFunction) -> str:
    """One line: what the function is, its elements and parameters in file units."""
    kind = "radial" if f.kind in RADIAL else "narrow angular" if f.kind in (3, 13, 21, 24) else "wide angular"
    words = [f"{f.centre}: {'weighted ' if f.kind in WEIGHTED else ''}{kind} {f.kind}"]
    if f.neighbours:
        words[0] += " with " + " ".join(f.neighbours)
    if f.kind in COMPACT:
        words.append(f"{f.subtype} {f.r_low:g} to {f.cutoff:g}")
        if f.kind in ANGULAR:
            words.append(f"angles {f.angle_low:g} to {f.angle_high:g}")
    else:
        words.append(f"eta {f.eta:g}")
        if f.shift:
            words.append(f"shift {f.shift:g}")
        if f.kind in ANGULAR:
            words.append(f"lambda {f.lam:g}, zeta {f.zeta:g}")
        words.append(f"cutoff {f.cutoff:g}")
    return ", ".join(words)


def _rows(potential, nb):
    if nb.style != "full":
        raise ValueError(f"{potential.family} needs a full neighbour list, not a {nb.style} one")
    return nb.positions, nb.types, nb.nlocal, nb.offsets, nb.indices


def _array(values):
    return np.ascontiguousarray(values, dtype=np.float64)


def _row(f: SymmetryFunction, model: Model):
    """The kernel's columns, lengths in Å."""
    unit = model.length_unit
    of = [model.species.index(symbol) for symbol in f.neighbours] + [-1, -1]
    core = CORES[f.subtype.removesuffix("a")] if f.kind in COMPACT else 0
    angles = (f.angle_low, f.angle_high)
    lengths = (f.cutoff * unit, f.eta / unit**2, f.shift * unit, f.lam, f.zeta, f.r_low * unit)
    return (f.kind, *of[:2], *lengths, *angles, core, f.subtype.endswith("a"))


def _network(model: Model, element: Element):
    factor, shift = model.scale_and_shift(element)
    names = list(ACTIVATIONS.values())
    layers = [(_array(a.weights), _array(a.bias), names.index(a.activation)) for a in model.network(element)]
    return layers, _array(factor), _array(shift), model.network_energy, model.atom_energy(element)
