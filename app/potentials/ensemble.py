"""Ensembles (committees): several potentials of one kind, trained alike, whose disagreement tells where none is known.

The ensemble's energy, forces and virial are the means over its M members. The disagreement on atom i is

    ε_i = sqrt(⟨|F_i^m − ⟨F_i⟩|²⟩_m)

over the members m, without Bessel's correction: DP-GEN's model deviation (Zhang, Lin, Wang, Car, E, Phys. Rev.
Materials 3, 023804 (2019), eq. 1).
"""

from __future__ import annotations

import numpy as np

from .base import Extrapolation, Potential, PotentialError


class Ensemble(Potential):
    """The mean of several potentials of one family with the same species.

    members: two or more Potentials; those whose kind can do its common work once (`Potential.together`: networks on the
    same symmetry functions) do. After `watch_deviation(True)` each compute() fills `deviation` (n,) float64, eV/Å:
    the force deviation ε of the local atoms; else it is None and nothing is spent on it. path: of the one file that
    holds them all, or None.
    """

    def __init__(self, members, path=None):
        self.members = tuple(members)
        self.path = None if path is None else str(path)
        if len(self.members) < 2:
            raise PotentialError("an ensemble needs at least two members", *[m.path for m in self.members])
        first = self.members[0]
        for member in self.members[1:]:
            if member.family != first.family:
                raise PotentialError(
                    f"is of the kind {member.family}, the first member of the ensemble ({_name(first)}) is {first.family}",
                    _name(member),
                )
            if tuple(member.species) != tuple(first.species):
                raise PotentialError(
                    f"the species are {' '.join(member.species)}, those of the first member of the ensemble "
                    f"({_name(first)}) are {' '.join(first.species)}",
                    _name(member),
                )
            if member.precision != first.precision:
                raise PotentialError("all members of an ensemble must have the same precision", _name(member))
        self.family = f"ensemble of {first.family}"
        self.species, self.precision = first.species, first.precision
        self.cutoff = max(member.cutoff for member in self.members)
        styles = {member.list_style for member in self.members}
        self.list_style = "full" if "full" in styles else "half"
        self.reverse = any(member.reverse for member in self.members)
        self.masses = next((m.masses for m in self.members if m.masses is not None), None)
        self.deviation = None
        self._deviating = self._watching = False
        self._forces = np.empty((0, 3))
        same = all(type(member) is type(first) for member in self.members)
        self._shared = type(first).together(self.members) if same else None

    def parameters(self):
        return [member.hash for member in self.members]

    def describe(self):
        names = self.path or ", ".join(_name(member) for member in self.members)
        return (
            f"ensemble of {len(self.members)} {self.members[0].family} potentials ({names}), {' '.join(self.species)}, "
            f"cutoff {self.cutoff:.4g} Å, {self.precision}"
        )

    def watch_deviation(self, on=True):
        """Whether compute() also fills `deviation`; the forces then differ from those without in rounding at most."""
        self._deviating = bool(on)
        if not on:
            self.deviation = None

    def watch(self, on=True):
        for potential in self._ranged:
            potential.watch(on)
        self._watching = bool(on)

    @property
    def _ranged(self):
        """What knows the training range: the shared evaluator, or every member where their training sets differ."""
        return [self._shared] if self._shared is not None and self._shared.common_range else self.members

    @property
    def extrapolation(self):
        """The worst of the members: their training sets, and so their ranges, may differ."""
        return Extrapolation.worst_of(each.extrapolation for each in self._ranged) if self._watching else None

    def function_name(self, type_, function):
        if len(self._ranged) == 1:
            return self._ranged[0].function_name(type_, function)
        member, function = divmod(function, Extrapolation.MEMBER)
        name = self.members[member].path or f"member {member + 1}"
        return f"{self.members[member].function_name(type_, function)} of {name}"

    def compute(self, nb, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        given = dict(energy=energy, virial=virial, energies=energies, virials=virials, threads=threads)
        if self._shared is None:
            return self._one_by_one(nb, forces, **given)
        mean = not self._deviating or energies is not None or virials is not None
        if mean:
            e, w = self._shared.compute(nb, forces, **given)
        if self._deviating:
            spread = _Spread(nb.nlocal)
            each = np.zeros((len(self.members), nb.nall, 3))
            of_each, virial_of_all = self._shared.compute_members(nb, each, threads)
            if not mean:
                e, w = float(of_each.mean()), virial_of_all
                forces += each.mean(0)
            for one in each:
                if self.reverse:
                    nb.reverse(one)
                spread.add(one[: nb.nlocal])
            self.deviation = spread.deviation
        if self._watching and not self._shared.common_range:
            for member in self.members:
                member.compute(nb, np.zeros((nb.nall, 3)), energy=False, virial=False, threads=threads)
        return e, w

    def _one_by_one(self, nb, forces, *, energy, virial, energies, virials, threads):
        """compute() of members that have nothing in common."""
        scale = 1.0 / len(self.members)
        if len(self._forces) < nb.nall:
            self._forces = np.empty((nb.nall + nb.nall // 8, 3))
        total = self._forces[: nb.nall]
        total.fill(0.0)
        share = np.zeros(nb.nall) if energies is not None else None
        shares = np.zeros((nb.nall, 6)) if virials is not None else None
        given = dict(energy=energy, virial=virial, energies=share, virials=shares, threads=threads)
        e, w = 0.0, np.zeros(6)
        spread = _Spread(nb.nlocal) if self._deviating else None
        one = np.empty((nb.nall, 3)) if self._deviating else total
        for member in self.members:
            if spread is not None:
                one.fill(0.0)
            em, wm = member.compute(nb, one, **given)
            e, w = e + em, w + wm
            if spread is not None:
                total += one
                if member.reverse:  # an atom's force is complete only with what other ranks have computed of it
                    nb.reverse(one)
                spread.add(one[: nb.nlocal])
        np.multiply(total, scale, out=total)
        forces += total
        for sums, out in ((share, energies), (shares, virials)):
            if out is not None:
                out += scale * sums
        if spread is not None:
            self.deviation = spread.deviation
        return scale * e, scale * w


class _Spread:
    """√ of the mean square distance from the mean of vectors (n, 3) that come one set at a time (Welford, 1962)."""

    def __init__(self, n):
        self.count = 0
        self.mean, self.squares = np.zeros((n, 3)), np.zeros(n)

    def add(self, vectors):
        self.count += 1
        before = vectors - self.mean
        self.mean += before / self.count
        self.squares += np.einsum("ij,ij->i", before, vectors - self.mean)

    @property
    def deviation(self):
        return np.sqrt(np.maximum(self.squares, 0.0) / self.count)


def _name(member) -> str:
    return member.path or member.family


def read(paths, load) -> Ensemble:
    """The ensemble of the potentials at these paths. load(path, species): reads one; species None: its own."""
    members = [load(paths[0], None)] if paths else []
    for path in paths[1:]:
        member = load(path, None)
        species = members[0].species
        if member.species != species and sorted(member.species) == sorted(species):
            member = load(path, species)  # the same, in another order
        for path_before, before in zip(paths, members):
            if before.hash == member.hash:
                raise PotentialError(f"is the same potential as {path_before}", path)
        members.append(member)
    return Ensemble(members)
