"""Stress, strain and elastic energy of a phase field as fields in space, one component after another."""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _elastic

NAMES = ("stress", "strain", "elastic_energy")


def field_names(names, elasticity) -> tuple[str, ...]:
    """The names of scalar fields behind "stress", "strain" (a component each: stress_xx, …), "elastic_energy" and others."""
    out = []
    for name in names:
        tensor = name in ("stress", "strain")
        out += [f"{name}_{c}" for c in elasticity.components] if tensor else [name]
    return tuple(out)


def slopes(solver) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """kx (n0,), ky (columns,), kz (columns, W) of derivatives: 0 where an even length's last wave number stands for both signs."""
    f, h = solver.fourier, solver.spacing
    n0, n1, n2 = f.shape if len(f.shape) == 3 else (f.shape[0], 1, f.shape[1])
    kx = np.fft.fftfreq(n0, 1 / n0)
    out = []
    for k, n, spacing in ((kx, n0, h[0]), (f.ky, n1, h[1]), (f.kz, n2, h[-1])):
        out.append(np.where(2 * np.abs(k) < n, 2 * np.pi / (n * spacing) * k, 0).astype(f.dtype))
    return tuple(out)


class ElasticFields:
    """The elastic fields of a solver with homogeneous moduli, in closed form.

        with ElasticFields(solver) as fields:
            for first, last, planes in fields.pieces("stress_xy"): ...

    Inside, the rows of the solver's transform hold what was read last: the solver must not step. Collective.
    Components are those of the grid's axes, x the first; a strain is measured from the stress-free lattice of the mean composition, and
    its shears are ε_ij. The elastic energy is per volume; its sum over the box is measure()["elastic"] (the work of an applied stress apart).
    """

    def __init__(self, solver):
        self.solver, self.elasticity = solver, solver.elasticity
        self._waves = slopes(solver)
        self._spectrum = solver.fourier.spectrum()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.solver.fourier.restore(self.solver.spectrum)

    def pieces(self, name: str):
        """A field piece by piece: (first, last, planes first ... last - 1 of this rank's brick), in memory that is used again."""
        if name == "elastic_energy":
            return self._energy()
        kind, _, component = name.partition("_")
        if kind not in ("stress", "strain") or component not in self.elasticity.components:
            raise ValueError(f"there is no elastic field '{name}'")
        a, strain = self.elasticity.axes[self.elasticity.components.index(component)], np.zeros(6)
        if kind == "stress":
            return self._pieces(self.elasticity.voigt[a])
        strain[a] = 1.0 if a < 3 else 0.5
        return self._pieces(strain, stress_free=False)

    def field(self, name: str) -> np.ndarray:
        """The same as a whole: this rank's brick."""
        out = self.solver.fourier.field()
        for first, last, piece in self.pieces(name):
            out[first:last] = piece
        return out

    def _pieces(self, row, stress_free=True):
        """row·(ε - ε*), or row·ε; row (6,) takes strains with shears 2 ε_ij."""
        solver, e = self.solver, self.elasticity
        energy0, stress, tensor = e.kernel()
        of_phi = float(row @ e.eigenstrain) if stress_free else 0.0
        row = np.asarray(row, float)
        _elastic.homogeneous(
            solver.spectrum, self._spectrum, *self._waves, (energy0, stress, tensor), (row / e.scale).tolist(), -of_phi,
            solver.world.threads,
        )  # fmt: skip
        solver.fourier.restore(self._spectrum)
        mean = float(row @ e.applied_strain)
        for first, last, piece in solver.fourier.pieces():
            piece += mean
            yield first, last, piece

    def _energy(self):
        """½ e:C:e, e = ε - ε*, as the sum of squares along the principal axes of C."""
        e = self.elasticity
        here = np.ix_(e.axes, e.axes)
        moduli, vectors = np.linalg.eigh(e.voigt[here])
        whole = self.solver.fourier.field()
        whole[:] = 0
        for modulus, vector in zip(moduli, vectors.T):
            row = np.zeros(6)
            row[e.axes] = vector * np.sqrt(0.5 * modulus)
            for first, last, piece in self._pieces(row):
                np.square(piece, out=piece)
                whole[first:last] += piece
        yield 0, len(whole), whole
