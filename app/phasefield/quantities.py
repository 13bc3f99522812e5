"""The fields that a frame can hold: φ, and what follows from it."""

from __future__ import annotations

from contextlib import contextmanager

from ostwald.app.phasefield import stress

NAMES = ("phi", *stress.NAMES)


def components(solver, names) -> tuple[str, ...]:
    """Names of the scalar fields of these quantities, φ first: a tensor is one scalar a component. ValueError where the
    solver has none of a name.
    """
    for name in names:
        if name != "phi" and solver.elasticity is None:
            raise ValueError(f"there is no {name} without elasticity")
    return stress.field_names(sorted(names, key=NAMES.index), solver.elasticity)


@contextmanager
def frame(solver, names):
    """Collective: name of a scalar -> its pieces as FieldSeries.append takes them, each made when it is asked for.

    To be asked for in the order of components(), within the context; it leaves the solver as it was.
    """
    parts = components(solver, names)
    if parts == ("phi",):
        yield {"phi": solver.pieces()}
        return
    with stress.ElasticFields(solver) as elastic:  # φ comes first: the others take the rows that it is read from
        yield {part: solver.pieces() if part == "phi" else elastic.pieces(part) for part in parts}
