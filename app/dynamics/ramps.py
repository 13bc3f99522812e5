"""Targets that stay or change linearly over a stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ramp:
    """A number or array that goes linearly from `start` to `stop` over `steps` steps from step number `first` on.

    Called with the number of a step, it gives the target at the end of that step: `stop` at step first + steps - 1 and
    ever after. `stop` None: constant.
    """

    start: float | np.ndarray
    stop: float | np.ndarray | None = None
    first: int = 0
    steps: int = 0

    def __post_init__(self):
        if self.stop is not None and np.array_equal(self.start, self.stop):
            object.__setattr__(self, "stop", None)

    def __call__(self, step: int):
        if self.stop is None:
            return self.start
        fraction = 1.0 if self.steps <= 0 else min(max((step + 1 - self.first) / self.steps, 0.0), 1.0)
        return self.start + fraction * (self.stop - self.start)

    @property
    def constant(self) -> bool:
        return self.stop is None


def ramp(value) -> Ramp:
    """A Ramp from a Ramp, a number or an array."""
    return value if isinstance(value, Ramp) else Ramp(value)
