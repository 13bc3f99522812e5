"""Conditions on what a run measures: when it ends by itself ([stop]), when it begins to write more often ([trigger])."""

from __future__ import annotations

from dataclasses import dataclass

from ostwald.app.runfile import RunFileError


@dataclass(frozen=True)
class Conditions:
    """Limits of measured numbers (columns of the time series); one that reaches its limit meets the condition.

    limits: name -> limit. first: index of the stage from which on they are tested.
    """

    limits: dict
    first: int = 0

    def met(self, numbers, stage) -> str | None:
        """The first number at or above its limit, in words; None where there is none. numbers: name -> value."""
        if stage < self.first:
            return None
        for name, limit in self.limits.items():
            if numbers.get(name, limit - 1) >= limit:
                return f"{name} is {numbers[name]:g}, at or above {limit:g}"
        return None


QUANTITIES = ("largest_cluster", "solid_fraction")
"""Keys of [stop] and [trigger] that are limits."""


def stage_index(values, name, default) -> int:
    """Index of the stage of that name; `default` for None. RunFileError's sentence starts with the name."""
    if name is None:
        return default
    names = [stage["name"] for stage in values["stage"]]
    if name not in names:
        known = ", ".join(n for n in names if n) or "none has a name"
        raise RunFileError(f"no stage is named '{name}'; known: {known}")
    return names.index(name)


def conditions(values, table) -> Conditions | None:
    """Those of the table ("stop", "trigger") of a run file; None without limits. By default for the last stage only."""
    limits = {name: values[table][name] for name in QUANTITIES if values[table][name] is not None}
    if not limits:
        return None
    return Conditions(limits, stage_index(values, values[table]["from"], len(values["stage"]) - 1))


@dataclass
class Rates:
    """Steps between rows of the time series, frames and analyses; 0: none."""

    series: int
    trajectory: int
    analysis: int

    @classmethod
    def of(cls, values, triggered=False) -> Rates:
        """Those of a run file, or those after its trigger."""
        rates = cls(*(values[name]["every"] for name in ("series", "trajectory", "analysis")))
        if triggered:
            faster = {name: values["trigger"][f"{name}_every"] for name in ("series", "trajectory", "analysis")}
            for name, every in faster.items():
                if every is not None:
                    setattr(rates, name, every)
        return rates

    def __str__(self):
        parts = [("time series", self.series), ("frames", self.trajectory), ("analysis", self.analysis)]
        return ", ".join(f"{name} every {every} steps" for name, every in parts if every)
