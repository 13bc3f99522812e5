"""What the potentials read from entries share: a table of parameters and a kernel made from it."""

import numpy as np

from .base import Potential, PotentialError, check_precision


class EntryPotential(Potential):
    """A potential of triplets on full lists; its forces, energies and virials straddle onto ghost rows.

    species (nt,) symbols; table (nt, nt, nt, fields): the parameters of every ordered triple of species.
    """

    list_style = "full"
    reverse = True
    kernel: type  # kernel(table, mixed): of the family
    fields: tuple[str, ...]

    def __init__(self, species, table, precision="double", path=None):
        self.species = tuple(species)
        self.precision = check_precision(precision, path)
        self.path = None if path is None else str(path)
        self.table = np.array(table, dtype=np.float64, order="C")
        size = len(self.species)
        if self.table.shape != (size, size, size, len(self.fields)):
            wanted = (size, size, size, len(self.fields))
            raise PotentialError(f"the table of {size} species has the shape {wanted}, not {self.table.shape}", path)
        self._kernel = self.kernel(self.table, precision == "mixed")
        self.cutoff = self._kernel.cutoff

    def parameters(self):
        return (self.table,)

    def compute(self, nb, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        if nb.style != "full":
            raise ValueError(f"{self.family} needs a full neighbour list, not a {nb.style} one")
        rows = nb.positions, nb.types, nb.nlocal, nb.offsets, nb.indices
        e, w = self._kernel.compute(*rows, forces, energies, virials, threads)  # both cost next to nothing
        e = e if energy or energies is not None else np.nan
        return e, w if virial or virials is not None else np.full(6, np.nan)
