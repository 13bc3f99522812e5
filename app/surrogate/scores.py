"""From the cases of an evaluation to its results: medians, quartiles, means and deviations over cases, decay exponents, who decomposes, what
becomes stationary, and at what cost."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np

from ostwald.app.surrogate.metrics import ERRORS, decay_exponent, decomposed, least_area, morphology

DESCRIBED = (
    "energy", "bulk", "gradient", "elastic", "low", "high", "mean", "variance", "length", "interface", "interface_length", "fraction",
    "euler_high", "euler_low", "domains_high", "domains_low", "fractal_dimension", "isotropy",
)  # fmt: skip
"""Numbers of Descriptors whose course is kept."""
EXTENSIVE = ("energy", "bulk", "gradient", "elastic", "interface")
"""Those that are kept per volume."""
GLOBAL = ("energy", "elastic", "interface", "length", "fractal_dimension", "isotropy")
"""Those of the last frame that are kept for each case."""
CLOCKED = ("delta", "rmse", "energy_error", "interface_error", "length_error")
"""Errors at which costs are compared."""


def summarise(protocol, names, tables, cases) -> dict:
    """The results of a protocol, JSON-able.

    protocol: has name, kind, times (F,), cases, table["fit"], shape, volume. names, tables: of the models. cases: (arrays, meta) of each case's file.
    """
    meta = cases[0][1]
    columns, arrays = meta["columns"], [found for found, _ in cases]
    stacked = {name: np.stack([found[name] for found in arrays]) for name in ("errors", "numbers", "means", "seconds")}
    truths = {place: np.stack([found[f"truth.{place}"] for found in arrays]) for place in sorted(set(meta["truths"]))}
    solved, times = meta["solved"], np.asarray(protocol.times)
    window = protocol.table["fit"]
    found = dict(
        name=protocol.name, kind=protocol.kind, count=len(cases), times=times.tolist(), shape=list(protocol.shape),
        parameters={key: [case.parameters[key] for case in protocol.cases] for key in protocol.cases[0].parameters},
        seconds=_number(np.median(stacked["seconds"][:, 0])) if solved else None,
        truth={str(place): _described(rows, columns, times, window, protocol.volume) for place, rows in truths.items()},
        models={},
    )  # fmt: skip
    for k, (name, table) in enumerate(zip(names, tables)):
        errors, rows, truth = stacked["errors"][:, k], stacked["numbers"][:, k], truths[meta["truths"][k]]
        mean = stacked["means"][:, k]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all NaN: a model that was lost at once
            found["models"][name] = _described(rows, columns, times, window, protocol.volume) | dict(
                kind=table["kind"],
                noise=table["noise"],
                truth=str(meta["truths"][k]),
                errors={column: _spread(errors[:, :, e]) for e, column in enumerate(ERRORS)},
                average={column: _number(np.nanmean(errors[:, 1:, e])) for e, column in enumerate(ERRORS)},
                drift=_number(np.nanmax(np.abs(mean - mean[:, :1]))),
                seconds=_number(np.median(stacked["seconds"][:, 1 + k])),
                lost=sum(each["lost"][k] is not None for _, each in cases),
                agreement=agreement(truth, rows, columns),
                together=together(truth, rows, columns, times),
            )
        if protocol.kind == "stationary" and "spans_high" in columns:
            found["models"][name]["stationary"] = [stationary(one, columns, times, len(protocol.shape)) for one in rows]
    if protocol.kind == "stationary" and "spans_high" in columns:
        rows = truths[min(truths)]
        found["stationary"] = [
            stationary(one, columns, times, len(protocol.shape))
            | dict(least_area=least_area(one[-1, columns.index("fraction")], len(protocol.shape)))
            for one in rows
        ]
    found["clock"] = clock(found)
    return found


def _described(rows, columns, times, window, volume) -> dict:
    """numbers: {column: spread over cases}; last: {column: [each case]}; decay: exponents of F. rows (cases, frames, columns)."""
    numbers = {
        name: rows[:, :, columns.index(name)] / (volume if name in EXTENSIVE else 1.0)
        for name in DESCRIBED
        if name in columns
    }
    exponents = np.array([decay_exponent(times, energy, window)[0] for energy in numbers["energy"]])
    together, error = decay_exponent(times, numbers["energy"].mean(axis=0), window)
    return dict(
        numbers={name: _spread(values) for name, values in numbers.items()},
        last={name: _list(numbers[name][:, -1]) for name in GLOBAL if name in numbers},
        decay=dict(exponent=_number(together), error=_number(error), each=_list(exponents)),
    )


def _spread(values) -> dict:
    """Over cases, (cases, frames) -> {"median": [frames], "low", "high" (quartiles), "mean", "deviation"}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # frames that no case has
        finite = np.where(np.isfinite(values), values, np.nan)
        low, middle, high = np.nanquantile(finite, [0.25, 0.5, 0.75], axis=0)
        mean, deviation = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
    return dict(median=_list(middle), low=_list(low), high=_list(high), mean=_list(mean), deviation=_list(deviation))


def _number(x) -> float | None:
    return float(f"{x:.7g}") if math.isfinite(x) else None


def _list(values) -> list:
    return [_number(x) for x in values]


def together(truth, rows, columns, times) -> float | None:
    """The last time up to which the medians over cases of the free energies of truth and model lie within each other's quartiles; None of
    fewer than four cases."""
    if len(rows) < 4:
        return None
    energy = columns.index("energy")
    a, b = (np.quantile(of[:, :, energy], [0.25, 0.5, 0.75], axis=0) for of in (truth, rows))
    within = (a[0] <= b[1]) & (b[1] <= a[2]) & (b[0] <= a[1]) & (a[1] <= b[2])
    apart = np.flatnonzero(~within)
    return float(times[apart[0] - 1]) if len(apart) and apart[0] else None if len(apart) else float(times[-1])


def agreement(truth, rows, columns) -> dict:
    """Which cases have decomposed in the last frame: {"truth": [bool], "model": [bool or None where it was lost], "right": number}."""
    low, high = columns.index("low"), columns.index("high")
    true, said = (decomposed(of[:, -1, low], of[:, -1, high]) for of in (truth, rows))
    there = np.isfinite(rows[:, -1, low])
    return dict(
        truth=true.tolist(),
        model=[bool(x) if known else None for x, known in zip(said, there)],
        right=int(np.sum((true == said) & there)),
    )


def stationary(rows, columns, times, dimensions) -> dict:
    """What one case (frames, columns) comes to: shape; settled: the time from which on it has that shape; creep: relative change of F over
    the last tenth of the frames."""
    if not np.isfinite(rows[-1, 0]):
        return dict(shape="lost", settled=None, creep=None)
    shapes = [morphology(dict(zip(columns, row)), dimensions) for row in rows]
    settled = len(shapes) - 1
    while settled and shapes[settled - 1] == shapes[-1]:
        settled -= 1
    energy = rows[-max(2, len(rows) // 10) :, columns.index("energy")]
    creep = float(np.ptp(energy) / abs(energy[-1])) if energy[-1] else math.nan
    return dict(shape=shapes[-1], settled=float(times[settled]), creep=_number(creep))


# ---- the clock -------------------------------------------------------------------------------------------------------


def front(points) -> list[tuple[float, float]]:
    """(cost, error) of those that nothing cheaper beats, by cost."""
    found, best = [], math.inf
    for cost, error in sorted(points):
        if error < best:
            found.append((cost, error))
            best = error
    return found


def cost_at(error: float, points) -> tuple[float, str]:
    """What the front of (cost, error) points takes to reach an error: (cost, "") between two of them, by their logarithms; (that of the
    cheapest, "at most") where already that is as good; (that of the dearest, "at least") where none is."""
    points = front(points)
    if points[0][1] <= error:
        return points[0][0], "at most"
    for (c0, e0), (c1, e1) in pairwise(points):
        if e1 <= error:
            if e1 <= 0:
                return c1, "at most"
            share = math.log(e0 / error) / math.log(e0 / e1)
            return c0 * (c1 / c0) ** share, ""
    return points[-1][0], "at least"


def clock(found) -> list[dict]:
    """Surrogates against solvers at the same error and the same physical time: for each surrogate and kind of error (mean over frames and
    cases) the processor time of both, and how many times faster the surrogate is; below 1 it is slower."""
    solvers = {name: m for name, m in found["models"].items() if m["kind"] == "solver" and not m["noise"]}
    rows = []
    for column in CLOCKED:
        points = [
            (m["seconds"], m["average"][column])
            for m in solvers.values()
            if m["seconds"] and m["average"][column] is not None and not m["lost"]
        ]
        if found["seconds"]:
            points.append((found["seconds"], 0.0))
        for name, m in found["models"].items():
            error = m["average"][column]
            if m["kind"] != "surrogate" or error is None or not m["seconds"] or not points:
                continue
            cost, bound = cost_at(error, points)
            rows.append(
                dict(surrogate=name, error=column, value=error, seconds=m["seconds"], solver_seconds=_number(cost), bound=bound,
                     faster=_number(cost / m["seconds"]))
            )  # fmt: skip
    return rows
