"""What the page of a training tells of an ensemble: its members' learning, errors, and whether their spread tells the error."""

from __future__ import annotations

import json

import numpy as np

from ostwald.app.report.plots import INK, LINES, MUTED, blank, dress, legend, svg_of
from ostwald.app.report.run import columns_of
from ostwald.app.report.style import number, seconds, table
from ostwald.io.text import read_text
from ostwald.io.timeseries import read_series

UNITS = {"energy": "meV/atom", "force": "eV/Å", "stress": "GPa"}
BINS = 20


def learning(folders) -> list[tuple[str, str, str]]:
    """Validation errors of every member over epochs."""
    series = [columns_of(read_series(folder / "series.h5")) for folder in folders if (folder / "series.h5").exists()]
    found = []
    for quantity, unit in UNITS.items():
        column = f"{quantity}_rmse"
        if not any(np.isfinite(s[column]).sum() > 1 for s in series):
            continue
        figure, axes = blank()
        for k, s in enumerate(series):
            good = np.isfinite(s[column]) & (s[column] > 0)
            colour = LINES[k % len(LINES)]
            axes.semilogy(s["epoch"][good], s[column][good], color=colour, linewidth=1.2, label=f"member {k + 1}")
        dress(axes, "epoch", f"validation RMSE ({unit})")
        if len(series) <= len(LINES):
            legend(figure, axes)
        found.append((quantity.capitalize(), svg_of(figure, f"members-{quantity}"), ""))
    return found


def members(folders) -> str:
    """A table of the members."""
    head = [
        ">member",
        ">best epoch",
        *(f">{quantity}, RMSE ({unit})" for quantity, unit in UNITS.items()),
        ">wall time",
    ]
    rows = []
    for k, folder in enumerate(folders, 1):
        files = folder / "errors.json", folder / "timing.json"
        if not all(file.exists() for file in files):
            continue
        errors, timing = (json.loads(read_text(file)) for file in files)
        own = errors["validation"]["all"]
        cells = [number(own[quantity]["rmse"], 3) if quantity in own else "–" for quantity in UNITS]
        rows.append([str(k), str(timing["best_epoch"]), *cells, seconds(timing["total_wall_seconds"])])
    card = f'<div class="card"><h3>Each on its validation set</h3><div class="scroll">{table(head, rows)}</div></div>'
    return f'<h2>Members</h2><div class="two" style="grid-template-columns:1fr">{card}</div>'


def spread(arrays) -> list[tuple[str, str, str]]:
    """The members' spread of the force on each atom against the error of their mean."""
    error = np.sqrt(((arrays["forces"][..., 1] - arrays["forces"][..., 0]) ** 2).sum(axis=1))
    own, known = arrays["spread"], np.isfinite(error)
    order = np.argsort(own[known], kind="stable")
    if len(order) < BINS or not own[known].any():
        return []
    own, error = own[known][order], error[known][order]
    bins = np.array_split(np.arange(len(own)), BINS)
    x, y = (np.array([np.sqrt(np.mean(v[b] ** 2)) for b in bins]) for v in (own, error))
    figure, axes = blank(height=3.4)
    axes.loglog(np.maximum(own, own[own > 0][0]), error, ".", color=MUTED, markersize=1.5)
    axes.loglog(x, y, "o-", color=INK, markersize=3, linewidth=1.2)
    axes.plot(x, x, color=MUTED, linewidth=0.8)
    dress(axes, "spread of the members (eV/Å)", "error of the mean (eV/Å)")
    ratio = np.sqrt(np.mean(error**2) / np.mean(own**2))
    caption = f"Each atom's force; circles: {BINS} equal parts. On the whole the error is {ratio:.2g} times the spread."
    return [("Spread and error", svg_of(figure, "spread"), caption)]
