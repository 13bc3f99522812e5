"""L-BFGS: quasi-Newton steps of all parameters on the whole training set.

D. C. Liu, J. Nocedal, Math. Program. 45, 503 (1989); step lengths satisfy the strong Wolfe conditions (J. Nocedal, S. J. Wright,
Numerical Optimization, 2nd ed., algorithms 3.5, 3.6 and 7.4). It needs gradients only, so it is for networks with more parameters
than dense normal equations can have. The gradients of all ranks are added up; then every rank computes the same step.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .trainer import Trainer, vector

DECREASE, CURVATURE = 1e-4, 0.9
"""Constants of the Wolfe conditions."""


class LBFGS(Trainer):
    """objective: as of Minibatch, with `chunks(indices)`. ridge: weight of the sum of squares of all parameters; memory: how many
    pairs of steps and changes of the gradient are kept. `step()` is one iteration of at most `tries` gradients."""

    pace_name = "step"

    def __init__(self, world, objective, ridge=0.0, memory=20, tries=25):
        super().__init__(objective.module)
        self.world, self.objective, self.ridge, self.tries = world, objective, ridge, tries
        self.batch, self.length = len(objective.items), math.nan
        mine = objective.shares(objective.items, world.size)[world.rank]
        self.chunks = objective.chunks(mine) if len(mine) else []
        self.parameters = list(self.module.parameters())
        size = len(self.theta)
        self.gradient, self.known, self.pairs = np.zeros(size), False, 0  # known: value and gradient are those of theta
        self.steps, self.changes = np.zeros((memory, size)), np.zeros((memory, size))  # the newest last

    @property
    def pace(self) -> float:
        return self.length

    def step(self) -> bool:
        self.updates += 1
        if not self.known:
            self.value, self.gradient = self._at(self.theta)
            self.known = True
        while not self._descend(-self._inverse_times(self.gradient)):
            if not self.pairs:
                return False
            self.pairs = 0  # once more, along the gradient
        return True

    def _descend(self, direction) -> bool:
        """A step along a direction; False where none lowers the loss."""
        theta, seen = self.theta, {}

        def along(length):
            seen[length] = self._at(theta + length * direction)
            return seen[length][0], float(seen[length][1] @ direction)

        # without a history lengths mean nothing: begin with changes of the parameters by 0.01
        first = 1.0 if self.pairs else 0.01 * math.sqrt(len(theta)) / max(float(np.linalg.norm(direction)), 1e-300)
        length = wolfe(along, self.value, float(self.gradient @ direction), first, self.tries)
        if not length:
            self.theta = theta
            return False
        self.theta = theta + length * direction
        value, gradient = seen[length]
        self._remember(self.theta - theta, gradient - self.gradient)
        self.value, self.gradient, self.length = value, gradient, length
        return True

    def _remember(self, step, change):
        if step @ change > 1e-12 * np.linalg.norm(step) * np.linalg.norm(
            change
        ):  # else the matrix would not stay positive
            for kept, new in ((self.steps, step), (self.changes, change)):
                kept[:-1] = kept[1:]
                kept[-1] = new
            self.pairs = min(self.pairs + 1, len(self.steps))

    def _inverse_times(self, q):
        """The approximate inverse of the second derivatives, times a vector."""
        q, factors = q.copy(), []
        kept = list(zip(self.steps, self.changes))[len(self.steps) - self.pairs :]
        for s, y in reversed(kept):
            factors.append((s @ q) / (s @ y))
            q -= factors[-1] * y
        if kept:
            s, y = kept[-1]
            q *= (s @ y) / (y @ y)
        for (s, y), factor in zip(kept, reversed(factors)):
            q += (factor - (y @ q) / (s @ y)) * s
        return q

    def _at(self, theta):
        """(loss, gradient (p,)) of the whole training set; leaves the parameters there. Collective."""
        self.theta = theta
        total, gradient = 0.0, np.zeros(len(theta))
        with self.world.timers("gradient"):
            for indices in self.chunks:
                value = self.objective.loss(indices, self.updates, 0.0)
                gradient += vector(torch.autograd.grad(value, self.parameters))
                total += float(value.detach())
        with self.world.timers("communication"):
            summed = self.world.allreduce(np.concatenate([gradient, [total]]))
        theta = self.theta
        return summed[-1] + self.ridge * float(theta @ theta), summed[:-1] + 2 * self.ridge * theta

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict:
        history = np.stack([self.steps, self.changes])
        numbers = dict(updates=self.updates, known=self.known, pairs=self.pairs, value=self.value, length=self.length)
        return numbers | {"gradient": self.gradient, "history": history}

    def restore(self, state):
        self.updates, self.known, self.pairs = int(state["updates"]), bool(state["known"]), int(state["pairs"])
        self.value, self.length = state["value"], state["length"]
        self.gradient[:] = state["gradient"]
        self.steps[:], self.changes[:] = state["history"]


def wolfe(function, value, slope, length, tries=25):
    """A step length that lowers a function enough and leaves it flat enough (strong Wolfe conditions), or the best one found.

    function(length) -> (value, slope); value, slope: at 0; length: the first that is tried. None where nothing lowers it.
    """
    low, high = (0.0, value, slope), None  # low: the lowest so far that falls enough; a good one is between it and high
    if not slope < 0:
        return None
    for _ in range(tries):
        found = length, *function(length)
        if not (math.isfinite(found[1]) and found[1] <= value + DECREASE * length * slope and found[1] < low[1]):
            high = found
        elif abs(found[2]) <= -CURVATURE * slope:
            return length
        else:
            if found[2] * (high[0] - low[0] if high else 1.0) >= 0:
                high = low
            low = found
        if high is None:
            length *= 4.0
            continue
        length = _lowest(low, high)
        if abs(high[0] - low[0]) <= 1e-12 * abs(low[0]):
            break
    return low[0] or None


def _lowest(one, two) -> float:
    """Where the cubic through two (length, value, slope) is lowest, but not too near to either."""
    (a, fa, da), (b, fb, db) = one, two
    where = math.nan
    if math.isfinite(fb) and math.isfinite(db):
        d = da + db - 3 * (fa - fb) / (a - b)
        root = d * d - da * db
        if root >= 0 and (bottom := db - da + 2 * math.copysign(math.sqrt(root), b - a)):
            where = b - (b - a) * (db + math.copysign(math.sqrt(root), b - a) - d) / bottom
    margin = 0.1 * abs(b - a)
    if not math.isfinite(where):
        return 0.5 * (a + b)
    return min(max(where, min(a, b) + margin), max(a, b) - margin)
