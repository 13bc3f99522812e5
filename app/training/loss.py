"""The loss of a training: weighted mean squares of the errors of energies, forces and stresses.

    L = e / N_E sum_s w_s (dE_s / n_s)² + f / N_F sum_s w_s sum_jk dF_jk² + v / (9 N_V) sum_s w_s sum_ab (V_s dsigma_ab / n_s)²

sums over structures s with n_s atoms, weights w_s; N_E, N_F, N_V: the numbers of energies, of force components and of stresses of
the training set that are known. Errors in eV/atom, eV/Å, eV/atom.
"""

from dataclasses import dataclass

import numpy as np
import torch

MULTIPLICITY = (1.0, 1.0, 1.0, 2.0, 2.0, 2.0)
"""How often each of xx yy zz yz xz xy is among the nine components."""


@dataclass
class Loss:
    """energy, force, stress: e, f, v. counts: (N_E, N_F, N_V), from `of`."""

    energy: float
    force: float
    stress: float
    counts: tuple[int, int, int] = (1, 1, 1)

    def of(self, dataset) -> "Loss":
        """This loss for a training set."""
        known = [
            int(np.isfinite(dataset.energy).sum()),
            int(np.isfinite(dataset.forces).sum()),
            int(np.isfinite(dataset.stress).all(axis=1).sum()),
        ]
        return Loss(self.energy, self.force, self.stress, tuple(max(1, n) for n in known))

    @property
    def forces_wanted(self) -> bool:
        return self.force > 0

    @property
    def stress_wanted(self) -> bool:
        return self.stress > 0

    def factors(self, batch, labels):
        """What errors of energy (b,), forces (n,) and stress (b, 6) are multiplied with, so that the squares add up to L."""
        weight, counts = labels.weight.sqrt(), labels.counts
        each = labels.energy.new_tensor(MULTIPLICITY)
        energy = weight / counts * np.sqrt(self.energy / self.counts[0])
        force = weight.repeat_interleave(counts.long()) * np.sqrt(self.force / self.counts[1])
        stress = (weight * batch.volume / counts)[:, None] * (each * (self.stress / (9 * self.counts[2]))).sqrt()
        return energy, force, stress

    def residuals(self, outputs, batch, labels) -> list[torch.Tensor]:
        """Errors times factors, whose squares add up to this batch's part of L; labels that are not known add nothing."""
        energy, force, stress = self.factors(batch, labels)
        parts = [_known((outputs.energy - labels.energy) * energy, labels.energy)]
        if self.forces_wanted:
            parts.append(_known((outputs.forces - labels.forces) * force[:, None], labels.forces).flatten())
        if self.stress_wanted:
            parts.append(_known((outputs.stress - labels.stress) * stress, labels.stress).flatten())
        return parts


def _known(error, label):
    return torch.where(torch.isnan(label), torch.zeros_like(error), error)
