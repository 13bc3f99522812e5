"""The fields that a frame can hold: φ, and what follows from it."""

from __future__ import annotations

from ostwald.app.phasefield import stress

NAMES = ("phi", *stress.NAMES)


def components(solver, names) -> tuple[str, ...]:
    """Names of the scalar fields of these quantities, φ first: a tensor is one scalar a component. ValueError where the
    solver has none of a name.
    """
    out = []
    for name in sorted(names, key=NAMES.index):
        if name != "phi" and solver.elasticity is None:
            raise ValueError(f"there is no {name} without elasticity")
        out += [name] if name in ("phi", "elastic_energy") else stress.components(solver, name)
    return tuple(out)


def frame(solver, names) -> dict:
    """name of a scalar -> its pieces as FieldSeries.append takes them, each made when it is asked for."""
    return {part: _pieces(solver, part) for part in components(solver, names)}


def _pieces(solver, part):
    yield from solver.pieces() if part == "phi" else stress.elastic_pieces(solver, part)
