"""How the learning rate changes over the updates of a training.

A schedule is called with the number of an update, from 0, and returns its learning rate; `share` is that over the rate at the start;
`validated` is told what each validation finds; `state` and `restore` are for checkpoints.
"""

import math
from dataclasses import dataclass, field


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
        return rate * _risen(update, self.warmup)

    def share(self, update: int) -> float:
        return self(update) / self.start

    def validated(self, found: float):
        pass

    def state(self) -> dict:
        return {}

    def restore(self, state):
        pass


class Rising(Rate):
    """To look for a good rate: weights of the loss that change as the rate falls stay as at the start."""

    def share(self, update: int) -> float:
        return 1.0


@dataclass
class Plateau:
    """start, times `drop` after each `wait` validations that find nothing better, down to stop. warmup: as of Rate."""

    start: float
    stop: float
    drop: float = 0.5
    wait: int = 10
    warmup: int = 0
    rate: float = field(init=False)
    best: float = field(default=math.inf, init=False)
    waited: int = field(default=0, init=False)

    def __post_init__(self):
        self.rate = self.start

    def __call__(self, update: int) -> float:
        return self.rate * _risen(update, self.warmup)

    def share(self, update: int) -> float:
        return self(update) / self.start

    def validated(self, found: float):
        if found < self.best:
            self.best, self.waited = found, 0
            return
        self.waited += 1
        if self.waited >= self.wait:
            self.rate, self.waited = max(self.rate * self.drop, self.stop), 0

    def state(self) -> dict:
        return {"plateau_rate": self.rate, "plateau_best": self.best, "plateau_waited": self.waited}

    def restore(self, state):
        self.rate, self.best, self.waited = (state[f"plateau_{name}"] for name in ("rate", "best", "waited"))


def _risen(update, warmup) -> float:
    return min(1.0, (update + 1) / warmup) if warmup else 1.0
