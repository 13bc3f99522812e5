"""What every optimiser of a training offers to the loop that drives it (app.jobs.training_loop)."""

from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np
import torch


class Trainer:
    """The parameters of a torch module and what makes them better, the same on every rank.

    module: torch.nn.Module. updates: steps done so far; per_epoch: updates of an epoch; batch: items of an update, of all ranks.
    value: the loss that the last step began with or ended at, math.nan before. pace, pace_name: learning rate or damping, for the log.
    look_every: updates between looks at signals and due checkpoints.

    Subclasses give `step() -> bool` (collective; False: no step lowers the loss any more), `state() -> dict` of f8 arrays and
    numbers, and `restore(state)`.
    """

    updates, value, per_epoch, batch, pace, pace_name, look_every = 0, math.nan, 1, 1, math.nan, "rate", 1

    def __init__(self, module):
        self.module = module

    @property
    def theta(self) -> np.ndarray:
        """(p,) f8: all parameters, one behind the other; a copy."""
        return vector(self.module.parameters())

    @theta.setter
    def theta(self, values):
        fill(self.module.parameters(), values)

    @property
    def best_theta(self) -> np.ndarray:
        """(p,) f8: the parameters to be used."""
        return self.theta

    def validated(self, found: float):
        """Is told what each validation finds, the same on every rank."""

    @contextmanager
    def using(self, theta):
        """The module has these parameters for a while."""
        kept = self.theta
        self.theta = theta
        try:
            yield
        finally:
            self.theta = kept


def vector(tensors) -> np.ndarray:
    """(p,) f8: tensors one behind the other; a copy."""
    return np.concatenate([tensor.detach().to("cpu", torch.float64).numpy().ravel() for tensor in tensors])


def fill(tensors, values):
    """The inverse of `vector`: puts numbers into tensors."""
    begin, values = 0, torch.as_tensor(values)
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(values[begin : begin + tensor.numel()].view(tensor.shape))
            begin += tensor.numel()
