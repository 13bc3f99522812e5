"""When something is due: every so many steps, at equal distances in time, at given times, at times of equal ratios."""

from __future__ import annotations

import math
from itertools import pairwise

from ostwald.app.runfile import Key

CLOSE = 1e-9
"""Relative difference of times that are the same."""


def keys(what: str, every: int = 0) -> dict[str, Key]:
    """The keys of a table of the run file that say when."""
    return {
        "every": Key("int", every, low=0, doc=f"steps between {what}; 0: none by steps"),
        "interval": Key("float", None, above=0, doc=f"time between {what}"),
        "times": Key("float*", None, above=0, doc=f"of {what}, ascending"),
        "first": Key("float", None, above=0, doc=f"time of the first of {what} at equal ratios of time"),
        "per_decade": Key("int", None, low=1, doc="how many of these a factor of ten in time has"),
    }


def check(v, error) -> None:
    """What the values of keys() must be together."""
    if (v["first"] is None) != (v["per_decade"] is None):
        raise error("per_decade", "goes together with first")
    times = v["times"] or []
    if any(b <= a for a, b in pairwise(times)):
        raise error("times", "must ascend")


class Schedule:
    """What keys() said; besides, there is one at the start and one at the end, where there are any.

    table: the values of keys(). last: the time of the last one, or None. A fixed time step meets times with the first step
    that is not before them; an adaptive one asks next_time() and ends a step there.
    """

    def __init__(self, table, last: float | None = None):
        self.every, self.interval, self.times = table["every"], table["interval"], table["times"] or []
        self.first, self.per_decade = table["first"], table["per_decade"]
        self.last = last

    def __bool__(self):
        return bool(self.every or self.interval or self.times or self.first)

    def next_time(self, now: float) -> float:
        """The first time after `now` at which one is due; inf where none is."""
        now += CLOSE * abs(now)
        found = [t for t in self.times if t > now][:1]
        if self.interval:
            found.append((math.floor(now / self.interval) + 1) * self.interval)
        if self.first:
            decades = math.log10(now / self.first) if now > self.first else -1.0 / self.per_decade
            found.append(self.first * 10 ** ((math.floor(decades * self.per_decade) + 1) / self.per_decade))
        return min(found, default=math.inf)

    def due(self, step: int, now: float) -> bool:
        """Whether one is due in this state; asked once in each, in order."""
        if not self:
            return False
        stepped = bool(self.every) and step % self.every == 0
        found = self.last is None or stepped or self.next_time(self.last) <= now * (1 + CLOSE)
        if found:
            self.last = now
        return found

    def count(self, steps: int, end: float) -> int:
        """How many there are, about, in so many steps up to the time `end`."""
        if not self:
            return 0
        found, last, now = 0, -math.inf, self.next_time(0.0)
        while now <= end * (1 + CLOSE):
            found, last, now = found + 1, now, self.next_time(now)
        met = (self.every and steps % self.every == 0) or end - last <= CLOSE * end
        return 1 + (steps // self.every if self.every else 0) + found + (not met)
