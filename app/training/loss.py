"""The loss of a training: weighted mean squares of the errors of energies, forces and stresses.

    L = e / N_E sum_s w_s h(dE_s / n_s) + f / N_F sum_s w_s sum_jk h(dF_jk) + v / (9 N_V) sum_s w_s sum_ab h(V_s dsigma_ab / n_s)

sums over structures s with n_s atoms, weights w_s; N_E, N_F, N_V: the numbers of energies, of force components and of stresses of
the training set that are known. Errors in eV/atom, eV/Å, eV/atom.

h(x) = x², or with a threshold d beyond which errors are outliers (P. J. Huber, Ann. Math. Stat. 35, 73, 1964, doubled):
h(x) = x² for |x| <= d, 2 d |x| - d² beyond. As a sum of squares it is that of g(x) = x, or ± sqrt(h(x)) beyond.
"""

from dataclasses import dataclass

import numpy as np
import torch

MULTIPLICITY = (1.0, 1.0, 1.0, 2.0, 2.0, 2.0)
"""How often each of xx yy zz yz xz xy is among the nine components."""


@dataclass
class Loss:
    """energy, force, stress: e, f, v. counts: (N_E, N_F, N_V), from `of`. huber: d of energies, forces, stresses; None: squares."""

    energy: float
    force: float
    stress: float
    counts: tuple[int, int, int] = (1, 1, 1)
    huber: tuple[float | None, float | None, float | None] = (None, None, None)

    def of(self, dataset) -> "Loss":
        """This loss for a training set."""
        known = [
            int(np.isfinite(dataset.energy).sum()),
            int(np.isfinite(dataset.forces).sum()),
            int(np.isfinite(dataset.stress).all(axis=1).sum()),
        ]
        return Loss(self.energy, self.force, self.stress, tuple(max(1, n) for n in known), self.huber)

    @property
    def forces_wanted(self) -> bool:
        return self.force > 0

    @property
    def stress_wanted(self) -> bool:
        return self.stress > 0

    def residuals(self, outputs, batch, labels) -> list[torch.Tensor]:
        """Weighted g, whose squares add up to this batch's part of L; labels that are not known add nothing."""
        return [(weight * _outlying(error, d)).flatten() for error, _, weight, d in self._terms(outputs, batch, labels)]

    def slopes(self, outputs, batch, labels) -> list[torch.Tensor]:
        """Derivatives of the residuals by energies (b,), forces (n, 3) and stresses (b, 6), as far as they are wanted."""
        return [weight * scale * _slope(error, d) for error, scale, weight, d in self._terms(outputs, batch, labels)]

    def _terms(self, outputs, batch, labels):
        """Of energies, forces and stresses, as far as they are wanted: errors in their units (0: not known), what makes them of those of
        the outputs, the square root of their weight (0: not known), the threshold."""
        counts, root = labels.counts, labels.weight.sqrt()
        factors = [np.sqrt(f / n) for f, n in zip((self.energy, self.force, self.stress), self.counts)]
        yield *_known(outputs.energy, labels.energy, 1 / counts, factors[0] * root), self.huber[0]
        if self.forces_wanted:
            weight = (factors[1] * root).repeat_interleave(counts.long())[:, None]
            yield *_known(outputs.forces, labels.forces, torch.ones_like(weight), weight), self.huber[1]
        if self.stress_wanted:
            each = root.new_tensor(MULTIPLICITY).div_(9).sqrt_()
            scale, weight = (batch.volume / counts)[:, None], (factors[2] * root)[:, None] * each
            yield *_known(outputs.stress, labels.stress, scale, weight), self.huber[2]


def _known(output, label, scale, weight):
    missing = torch.isnan(label)
    error = torch.where(missing, torch.zeros_like(output), (output - label) * scale)
    return error, scale, torch.where(missing, torch.zeros_like(weight), weight)


def _outlying(error, threshold):
    """g of errors."""
    if threshold is None:
        return error
    far = error.abs().clamp(min=threshold)
    return torch.where(error.abs() <= threshold, error, error.sign() * (2 * threshold * far - threshold**2).sqrt())


def _slope(error, threshold):
    """dg/dx of errors."""
    if threshold is None:
        return torch.ones_like(error)
    far = error.abs().clamp(min=threshold)
    return threshold / (2 * threshold * far - threshold**2).sqrt()
