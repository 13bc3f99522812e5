"""Fields that a frame can hold: φ, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """A scalar, or a tensor as its components.

    components: solver -> their names. pieces: solver, component -> (first, last, planes first ... last - 1 of this rank's
    brick) one after another; collective when it starts, so components are made one at a time. doc: what it is.
    """

    components: Callable[[object], tuple[str, ...]]
    pieces: Callable[[object, str], Iterable]
    doc: str


QUANTITIES = {"phi": Quantity(lambda solver: ("phi",), lambda solver, component: solver.pieces(), "φ")}
"""What [fields] names may name."""


def components(solver, names) -> list[str]:
    """Names of the scalars of these quantities."""
    return [part for name in names for part in QUANTITIES[name].components(solver)]


def frame(solver, names) -> dict:
    """name of a scalar -> its pieces, made when they are asked for: what FieldSeries.append takes."""
    return {
        part: _later(QUANTITIES[name].pieces, solver, part)
        for name in names
        for part in QUANTITIES[name].components(solver)
    }


def _later(pieces, solver, part):
    yield from pieces(solver, part)
