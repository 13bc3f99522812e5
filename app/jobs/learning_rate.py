"""The learning-rate finder: the loss while the rate rises from update to update (L. N. Smith, WACV 2017, 464)."""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.jobs import training_loop
from ostwald.app.jobs.ending import leave_report
from ostwald.app.jobs.progress import Progress
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.runfile import RunFileError, dumps
from ostwald.app.training.minibatch import Minibatch
from ostwald.app.training.schedules import Rising
from ostwald.io.rundirectory import RunDirectory
from ostwald.io.timeseries import TimeSeries

COLUMNS = {"step": "", "rate": "", "loss": "", "smooth_loss": ""}
KEPT = 0.9
"""How much of the running mean of the losses stays in an update."""
FEW = round(1 / (1 - KEPT))
"""Updates that the running mean is of."""
BLOWN = 4.0
"""Times its lowest value at which the running mean ends the search."""


def find(world, kind: training_loop.Kind, path, low, high, updates, directory=None, force=False) -> int:
    """Trains with rates that rise from low to high in equal ratios until the loss blows up; tells at which it falls fastest.

    Its own run directory has the curve: series.csv, report.html.
    """
    values = read_run_file(world, path, kind.tables, kind.check_whole)
    if values["optimiser"].get("rate") is None:
        raise RunFileError(
            f"{path}: [optimiser] kind: '{values['optimiser']['kind']}' has no learning rate to be found"
        )
    world.use_threads(values["parallel"]["threads"])
    setup = kind.setup(world, values, path)
    standard = default_directory(path)
    where = directory or standard.with_name(f"{standard.name}-learning-rate")
    values["job"]["directory"] = None
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        training_loop.begin(world, values, setup, target)
        found = _rising(world, setup.trainer, Rising("exponential", low, high, updates), target)
        setup.close()
        rates, smooth = found[:, 1], found[:, 3]
        best = suggestion(rates, smooth)
        if best is None:
            world.log("no rate lowers the loss")
        else:
            world.log(
                f"the loss falls fastest at a rate of {best:.2g}, is lowest at {rates[np.argmin(smooth)]:.2g}, "
                f"of {rates[0]:.2g} … {rates[-1]:.2g}"
            )
        leave_report(world, target)
    return 0


def _rising(world, trainer: Minibatch, rates, directory):
    """(k, 4) of COLUMNS: as many updates as it takes until the loss blows up."""
    trainer.rate, mean, rows, lowest = rates, 0.0, [], math.inf
    series = TimeSeries.create(directory.series_file, world, columns=COLUMNS)
    progress = Progress(world, rates.updates)
    try:
        for k in range(rates.updates):
            trainer.step()
            mean = KEPT * mean + (1 - KEPT) * trainer.value
            smooth = mean / (1 - KEPT ** (k + 1))
            if not math.isfinite(smooth) or smooth > BLOWN * lowest:
                break
            lowest = min(lowest, smooth)
            rows.append((k + 1, rates(k), trainer.value, smooth))
            series.append(**dict(zip(COLUMNS, rows[-1])))
            progress.update(k + 1)
    finally:
        progress.close()
        series.close()
    return np.array(rows).reshape(-1, len(COLUMNS))


def suggestion(rates, losses) -> float | None:
    """The rate about which the logarithm of the running mean falls fastest with that of the rate, over a tenth of the curve; its
    beginning, which is a mean of few, does not count. None where it never falls."""
    x, y = np.log(rates[FEW:]), np.log(losses[FEW:])
    half = max(1, len(rates) // 20)
    if len(x) <= 2 * half:
        return None
    slopes = (y[2 * half :] - y[: -2 * half]) / (x[2 * half :] - x[: -2 * half])
    return float(rates[FEW + half + slopes.argmin()]) if slopes.min() < 0 else None
