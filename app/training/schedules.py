"""How the learning rate changes over the updates of a training."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """rate(update), update from 0 to updates - 1.

    kind "constant": start. "exponential": from start to stop in equal ratios. "cosine": half a cosine from start to stop, then again
    from start (warm restarts, I. Loshchilov, F. Hutter, ICLR 2017), the first period `period` updates long, each next one twice
    as long as the one before; period None: one for all. warmup: updates at the beginning that lead from 0 to it in equal steps.
    """

    kind: str
    start: float
    stop: float
    updates: int
    period: int | None = None
    warmup: int = 0

    def __call__(self, update: int) -> float:
        if self.kind == "constant":
            rate = self.start
        elif self.kind == "exponential":
            rate = self.start * (self.stop / self.start) ** (update / max(self.updates - 1, 1))
        else:
            first, length = 0, self.period or self.updates
            if self.period:
                k = int(math.log2(update / length + 1))
                first, length = length * (2**k - 1), length * 2**k
            rate = self.stop + 0.5 * (self.start - self.stop) * (1 + math.cos(math.pi * (update - first) / length))
        return rate * min(1.0, (update + 1) / self.warmup) if self.warmup else rate
