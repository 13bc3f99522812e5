"""What a potential is, and what it is given."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

PRECISIONS = ("double", "mixed")


class PotentialError(ValueError):
    """A potential that cannot be read or used, in one sentence naming the file and, where there is one, the line."""

    def __init__(self, message: str, path=None, line: int | None = None):
        where = "" if path is None else f"{path}: " if line is None else f"{path}, line {line}: "
        super().__init__(where + message)
        self.path, self.line = path, line


def _no_ghosts(array):
    return None


@dataclass
class Neighbourhoods:
    """The atoms of a rank and their neighbours, as a potential sees them.

    positions (n+nghost, 3) float64, Å; types (n+nghost,) int32, index into the potential's species;
    offsets (n+1,) int64 and indices (m,) int32: the neighbours of local atom i are indices[offsets[i]:offsets[i+1]].
    style: "full", or "half" (each local-local pair once, each local-ghost pair with the local atom).
    forward(array) copies the rows of owners to the ghost rows of an (n+nghost[, k]) float64 array;
    reverse(array) adds the ghost rows to their owners. Without ghosts both do nothing.
    """

    positions: np.ndarray
    types: np.ndarray
    nlocal: int
    offsets: np.ndarray
    indices: np.ndarray
    style: Literal["half", "full"] = "full"
    forward: Callable[[np.ndarray], object] = field(default=_no_ghosts, repr=False)
    reverse: Callable[[np.ndarray], object] = field(default=_no_ghosts, repr=False)

    @property
    def nall(self) -> int:
        return len(self.types)


@dataclass
class Extrapolation:
    """How far the local atoms of a compute() are outside the range of the training set.

    excess (n,) float32: of the function that is farthest outside, the distance over the width of its range; 0 inside.
    function (n,) integer: that function, -1 inside. count (n,) integer: how many functions are outside.
    Functions that did not vary in training are not looked at.
    """

    excess: np.ndarray
    function: np.ndarray
    count: np.ndarray

    MEMBER = 1024
    """What a function's number of the second of several potentials begins with."""

    @classmethod
    def worst_of(cls, several):
        """The worst of several potentials on the same atoms; functions of the k-th are numbered from k * MEMBER on."""
        several = list(several)
        if len(several) == 1:
            return several[0]
        excess = np.array([each.excess for each in several])
        which = excess.argmax(0)  # the first, where they are as bad
        rows = np.arange(excess.shape[1])
        function = np.array([each.function for each in several], np.int32)[which, rows]
        function[function >= 0] += (cls.MEMBER * which)[function >= 0]
        count = np.array([each.count for each in several])[which, rows]
        return cls(excess[which, rows], function, count)


class Potential:
    """A potential: energies, forces and virial of neighbourhoods.

    species (ntypes,) chemical symbols, by type index; cutoff (Å) the largest interaction distance;
    list_style the list it works fastest on ("half" or "full"); reverse: whether compute() leaves forces
    (or per-atom energies and virials) on ghost rows, to be sent home by the caller; masses (ntypes,) amu or None;
    precision "double" or "mixed" (float pair arithmetic, double sums); path: where it was read, or None.
    """

    family = "potential"
    species: tuple[str, ...] = ()
    cutoff: float = 0.0
    list_style: Literal["half", "full"] = "full"
    reverse: bool = False
    masses: np.ndarray | None = None
    precision: Literal["double", "mixed"] = "double"
    path: str | None = None
    extrapolation: Extrapolation | None = None

    def parameters(self):
        """What the hash covers: arrays, numbers and strings that determine every energy."""
        raise NotImplementedError

    @property
    def hash(self) -> str:
        """Of family, species, precision and parameters; 16 hexadecimal digits."""
        digest = hashlib.sha256(repr((self.family, self.species, self.precision)).encode())
        for value in self.parameters():
            array = np.ascontiguousarray(value)
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> str:
        """One line: family, file, species, cutoff, precision."""
        source = f" {self.path}" if self.path else ""
        return f"{self.family}{source}, {' '.join(self.species)}, cutoff {self.cutoff:.4g} Å, {self.precision}"

    def compute(
        self, nb: Neighbourhoods, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1
    ) -> tuple[float, np.ndarray]:
        """Adds this rank's forces; returns its share of the energy and virial.

        forces (n+nghost, 3) float64, eV/Å, added to; energies (n+nghost,) and virials (n+nghost, 6), per atom, added to
        where given. Returns (E, W): E in eV (nan unless `energy` or `energies`), W (6,) in eV, order xx yy zz yz xz xy
        (nan unless `virial` or `virials`). Ghost rows are added to only where `reverse` is True.
        """
        raise NotImplementedError

    def watch(self, on=True):
        """Whether compute() also fills `extrapolation`. PotentialError of a kind that has no training range."""
        if on:
            raise PotentialError(f"a potential of the kind {self.family} has no training range that atoms could leave")

    def function_name(self, type_: int, function: int) -> str:
        """One line that names a function of `extrapolation` for atoms of a type."""
        raise NotImplementedError

    @classmethod
    def together(cls, members) -> "Potential | None":
        """The mean of several of this kind as one potential that does their common work once, and has

            compute_members(nb, forces, threads)    adds each member's forces to forces (members, n+nghost, 3);
                                                    returns energies (members,) and the mean virial (6,)
            common_range: bool                      whether its `extrapolation` is that of each member

        None where they have nothing in common.
        """
        return None

    def ase(self, skin=1.0, threads=1):
        """An ASE calculator of this potential; skin (Å) of its neighbour list."""
        from .calculator import OstwaldCalculator

        return OstwaldCalculator(self, skin, threads)


def check_precision(precision: str, path=None) -> str:
    if precision not in PRECISIONS:
        raise PotentialError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}", path)
    return precision
