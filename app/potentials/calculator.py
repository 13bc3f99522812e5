"""An ASE calculator for any potential of this package."""

from contextlib import suppress

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.data import chemical_symbols
from ase.geometry import complete_cell

from ostwald.app.atoms.neighbours import NeighbourList

from .base import Neighbourhoods, PotentialError
from .ensemble import Ensemble
from .images import Images


class OstwaldCalculator(Calculator):
    """Energy, forces and stress of ASE atoms, any periodicity and cell, however small.

    potential: Potential. skin (Å): how far beyond the cutoff the neighbour list reaches; it is kept while no atom has
    moved by more than half of it and cell, periodicity and species are the same. threads: of the kernels.
    energy (eV), free_energy (the same), energies (n,); forces (n, 3) eV/Å; stress (6,) eV/Å³ in ASE's sign and order
    (xx yy zz yz xz xy) and stresses (n, 6), the atoms' shares of it. Of an ensemble also force_deviation (n,) eV/Å; where
    the potential has a training range also extrapolation (n,), how far each atom is outside: the distance over the width
    of the range. Both are in `results` after every calculation.
    """

    implemented_properties = ("energy", "free_energy", "energies", "forces", "stress", "stresses")
    ignored_changes = frozenset(("initial_charges", "initial_magmoms"))
    default_parameters = {}
    nolabel = True

    def __init__(self, potential, skin=1.0, threads=1):
        super().__init__()
        self.potential = potential
        self._further = ["force_deviation"] if isinstance(potential, Ensemble) else []
        with suppress(PotentialError):
            potential.watch(True)
            potential.watch(False)
            self._further.append("extrapolation")
        self.implemented_properties = (*self.implemented_properties, *self._further)
        self.skin = float(skin)
        self.threads = int(threads)
        self.builds = 0
        self._type_of_number = np.full(len(chemical_symbols), -1, dtype=np.int32)
        for type_, symbol in reversed(list(enumerate(potential.species))):
            if symbol in chemical_symbols:
                self._type_of_number[chemical_symbols.index(symbol)] = type_
        self._list = NeighbourList(threads=self.threads)
        self._images = None
        self._reference = None  # what the list was built from: positions, cell, pbc, numbers

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        n = len(atoms)
        if n == 0:
            raise PotentialError("there are no atoms to compute")
        nb = self.neighbourhoods(atoms)
        watched = {"force_deviation": "watch_deviation", "extrapolation": "watch"}
        for name in self._further:
            getattr(self.potential, watched[name])(True)
        forces = np.zeros((nb.nall, 3))
        energies = np.zeros(nb.nall) if "energies" in properties else None
        virials = np.zeros((nb.nall, 6)) if "stresses" in properties else None
        energy, virial = self.potential.compute(nb, forces, energies=energies, virials=virials, threads=self.threads)
        if self.potential.reverse:
            for array in (forces, energies, virials):
                if array is not None:
                    nb.reverse(array)
        self.results = {"energy": float(energy), "free_energy": float(energy), "forces": forces[:n].copy()}
        if energies is not None:
            self.results["energies"] = energies[:n].copy()
        if "force_deviation" in self._further:
            self.results["force_deviation"] = self.potential.deviation
        if "extrapolation" in self._further:
            self.results["extrapolation"] = np.array(self.potential.extrapolation.excess, float)
        if atoms.cell.rank == 3:
            volume = atoms.get_volume()
            self.results["stress"] = -np.asarray(virial) / volume
            if virials is not None:
                self.results["stresses"] = -virials[:n] / volume
        elif "stress" in properties or "stresses" in properties:
            raise PropertyNotImplementedError("stress needs three cell vectors")

    def forget(self):
        """The next calculation begins as the first one did: in the same order of sums, whatever was computed before."""
        self.reset()
        self._reference = None

    def neighbourhoods(self, atoms) -> Neighbourhoods:
        """What the potential is given for these atoms; the list is built where the last one does not serve."""
        positions, n = atoms.positions, len(atoms)
        if not np.isfinite(positions).all():
            lost = int(np.argmin(np.isfinite(positions).all(axis=1)))
            raise PotentialError(f"the position of atom {lost} is not finite")
        if not self._valid(atoms):
            numbers = atoms.numbers
            types = self._type_of_number[numbers]
            if (types < 0).any():
                unknown = chemical_symbols[numbers[np.argmax(types < 0)]]
                raise PotentialError(
                    f"the potential has no species {unknown} (it has {', '.join(self.potential.species)})",
                    self.potential.path,
                )
            cutoff = self.potential.cutoff
            self._images = Images(positions, complete_cell(atoms.cell), atoms.pbc, cutoff + self.skin)
            self._types = types[self._images.owners]
            self._list.build(
                self._images.rows(positions), n, self._images.nghost, cutoff, self.skin, self.potential.list_style
            )
            self._reference = (positions.copy(), atoms.cell.array.copy(), atoms.pbc.copy(), numbers.copy())
            self.builds += 1
        return Neighbourhoods(
            positions=self._images.rows(positions),
            types=self._types,
            nlocal=n,
            offsets=self._list.offsets,
            indices=self._list.indices,
            style=self.potential.list_style,
            forward=self._images.forward,
            reverse=self._images.reverse,
        )

    def _valid(self, atoms) -> bool:
        if self._reference is None:
            return False
        positions, cell, pbc, numbers = self._reference
        if len(positions) != len(atoms) or not np.array_equal(numbers, atoms.numbers):
            return False
        if not np.array_equal(cell, atoms.cell.array) or not np.array_equal(pbc, atoms.pbc):
            return False
        moved = atoms.positions - positions
        return float(np.einsum("ij,ij->i", moved, moved).max()) <= (0.5 * self.skin) ** 2
