"""One page about several trainings: what an evaluation costs against what it is worth."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np

from ostwald.app.report.plots import INK, LINES, blank, dress, plain_log, svg_of
from ostwald.app.report.run import ReportError, Run, read_run
from ostwald.app.report.style import cards, document, number, seconds, table
from ostwald.io.text import read_text, write_text

UNITS = {"energy": "meV/atom", "force": "eV/Å", "stress": "GPa"}


def write_comparison(directories, output="comparison.html") -> Path:
    """Writes the page of several run directories of trainings that are complete. ReportError where one is something else."""
    runs = [read_run(directory, frames=False) for directory in directories]
    for run in runs:
        kind = run.settings.get("job", {}).get("kind", "md")
        if kind != "train" or run.timing is None or not (run.path / "errors.json").exists():
            raise ReportError(
                f"{run.path}: not a training that has come to its end; pages of several runs compare trainings"
            )
    errors = [json.loads(read_text(run.path / "errors.json"))["validation"]["all"] for run in runs]
    body = [
        "<h1>Cost and accuracy</h1>",
        '<p class="lead">Root-mean-square errors of the validation sets; processor time of one core an atom and evaluation.</p>',
        f'<div class="two">{cards(plots(runs, errors))}</div>',
        f'<div class="card">{summary(runs, errors)}</div>',
    ]
    try:
        write_text(output, document("Cost and accuracy", body))
    except OSError as error:
        raise ReportError(f"{output}: cannot be written ({error.strerror or error})") from error
    return Path(output)


def summary(runs: list[Run], errors) -> str:
    """A row each, the cheapest first."""
    head = ["run", ">parameters", "optimiser", ">epochs", ">wall time"]
    head += [f">{name} ({unit})" for name, unit in UNITS.items()] + [">double (µs)", ">mixed (µs)"]
    rows = []
    for run, error in sorted(zip(runs, errors), key=lambda pair: _cost(pair[0], "double")):
        t = run.timing
        found = [number(error[name]["rmse"], 3) if name in error else "–" for name in UNITS]
        rows.append(
            (
                escape(run.title),
                str(t["parameters"]),
                escape(t["optimiser"]),
                str(t["best_epoch"]),
                seconds(t["total_wall_seconds"]),
                *found,
                number(_cost(run, "double"), 3),
                number(_cost(run, "mixed"), 3),
            )
        )
    return table(head, rows)


def plots(runs, errors) -> list[tuple[str, str, str]]:
    """Errors over cost; the line joins those that nothing cheaper beats."""
    found = []
    for quantity, unit in UNITS.items():
        points = [
            (_cost(run, "double"), error[quantity]["rmse"], run.title)
            for run, error in zip(runs, errors)
            if quantity in error and np.isfinite(_cost(run, "double")) and error[quantity]["rmse"] > 0
        ]
        if not points:
            continue
        figure, axes = blank(height=3.2)
        front, best = [], np.inf
        for cost, rmse, _ in sorted(points):
            if rmse < best:
                front.append((cost, rmse))
                best = rmse
        axes.loglog(*np.transpose(front), color=LINES[1], linewidth=1.2, zorder=1)
        for cost, rmse, title in points:
            axes.plot(cost, rmse, "o", color=LINES[0], markersize=5)
            axes.annotate(title, (cost, rmse), textcoords="offset points", xytext=(5, 4), fontsize=8, color=INK)
        axes.margins(0.15)
        dress(axes, "µs·core/atom, double precision", f"{quantity} RMSE ({unit})")
        plain_log(axes.xaxis)
        plain_log(axes.yaxis)
        found.append((quantity.capitalize(), svg_of(figure, f"cost-{quantity}"), ""))
    return found


def _cost(run, precision) -> float:
    return run.timing.get("microseconds_per_atom", {}).get(precision, np.nan)
