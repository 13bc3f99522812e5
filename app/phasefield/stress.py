"""Stress, strain and elastic energy of a phase field as fields in space, one component after another.

Components are those of the grid's axes, x the first; a strain is measured from the stress-free lattice of the mean composition, and its
shears are ε_ij. The elastic energy is per volume; its sum over the box is measure()["elastic"], the work of an applied stress apart.
"""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _elastic
from ostwald.app.phasefield.equilibrium import slopes

NAMES = ("stress", "strain", "elastic_energy")


def components(solver, kind) -> tuple[str, ...]:
    """stress_xx, … of the "stress" or "strain" of a solver."""
    return tuple(f"{kind}_{c}" for c in solver.elasticity.components)


def elastic_pieces(solver, name: str):
    """Collective. A field stress_xx, …, strain_xx, … or elastic_energy piece by piece: (first, last, planes first ... last - 1 of
    this rank's brick), in memory that is used again.
    """
    kind, _, component = name.partition("_")
    e = solver.elasticity
    if name != "elastic_energy" and (kind not in ("stress", "strain") or component not in e.components):
        raise ValueError(f"there is no elastic field '{name}'")
    if solver.equilibrium is not None:
        if name == "elastic_energy":
            return solver.equilibrium.pieces(of_energy=1.0)
        row = np.eye(len(e.axes))[e.components.index(component)]
        if kind == "stress":
            return solver.equilibrium.pieces(of_stress=row)
        return solver.equilibrium.pieces(of_strain=row * (1.0 if component[0] == component[1] else 0.5))
    if name == "elastic_energy":
        return _energy(solver)
    a = e.axes[e.components.index(component)]
    if kind == "stress":
        return _combination(solver, e.voigt[a], stress_free=True)
    return _combination(solver, np.eye(6)[a] * (1.0 if a < 3 else 0.5), stress_free=False)


def elastic_field(solver, name: str) -> np.ndarray:
    """Collective. The same as a whole: this rank's brick."""
    out = solver.fourier.field()
    for first, last, piece in elastic_pieces(solver, name):
        out[first:last] = piece
    return out


# --- homogeneous moduli, in closed form


def _combination(solver, row, stress_free):
    """row·(ε - ε*), or row·ε; row (6,) takes strains with shears 2 ε_ij."""
    e, spectrum = solver.elasticity, solver.fourier.spectrum()
    of_phi = float(row @ e.eigenstrain) if stress_free else 0.0
    _elastic.homogeneous(
        solver.spectrum, spectrum, *slopes(solver), e.kernel(), (row / e.scale).tolist(), -of_phi, solver.world.threads
    )
    mean = float(row @ e.applied_strain)
    for first, last, piece in solver.fourier.pieces_of(spectrum, solver.spectrum):
        piece += mean
        yield first, last, piece


def _energy(solver):
    """½ e:C:e, e = ε - ε*, as the sum of squares along the principal axes of C."""
    e = solver.elasticity
    moduli, vectors = np.linalg.eigh(e.voigt[np.ix_(e.axes, e.axes)])
    whole = solver.fourier.field()
    whole[:] = 0
    for modulus, vector in zip(moduli, vectors.T):
        row = np.zeros(6)
        row[e.axes] = vector * np.sqrt(0.5 * modulus)
        for first, last, piece in _combination(solver, row, stress_free=True):
            np.square(piece, out=piece)
            whole[first:last] += piece
    yield 0, len(whole), whole
