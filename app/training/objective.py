"""What a training of a potential makes small: the loss of structures with labels."""

from __future__ import annotations

import numpy as np

from .loss import Loss


class PotentialObjective:
    """The loss of a network on the structures of a training set, in parts that add up.

    module: Network; data: Described; items (m,): numbers of the training set's structures in it; loss: Loss of that set. prefactors: None,
    or (energy, force, stress) at the beginning, from which those of the loss are approached as the learning rate falls:
    p = p_end (1 - rate / start) + p_begin rate / start (L. Zhang et al., PRL 120, 143001, 2018).
    """

    def __init__(self, network, data, items, loss, prefactors=None):
        self.module, self.data, self.items = network, data, np.asarray(items, np.int64)
        self.function, self.prefactors = loss, prefactors

    def shares(self, indices, size) -> list[np.ndarray]:
        """Structures, by number, shared out over ranks, even in cost."""
        return self.data.shares(indices, size)

    def chunks(self, indices) -> list[np.ndarray]:
        """Structures, by number, in parts that are small enough for one call of `loss`."""
        return self.data.chunks(indices)

    def weights(self) -> list:
        """Of each parameter of the module, True where it is a weight (that AdamW lets decay)."""
        return [self.module.weights_mask()]

    def loss(self, indices, update=0, share=0.0):
        """A differentiable tensor: what structures add to the loss of the whole set. share: the learning rate over that at the start."""
        network, loss = self.module, self._at(share)
        batch, labels = self.data.batch(indices, network.theta.dtype, network.theta.device)
        outputs = network.evaluate(batch, loss.forces_wanted, loss.stress_wanted)
        return sum(r.square().sum() for r in loss.residuals(outputs, batch, labels))

    def _at(self, share) -> Loss:
        if self.prefactors is None:
            return self.function
        end = self.function
        mixed = [b * share + e * (1 - share) for b, e in zip(self.prefactors, (end.energy, end.force, end.stress))]
        return Loss(*mixed, end.counts, end.huber)
