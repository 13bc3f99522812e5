#!/usr/bin/env python3
"""Exponents of coarsening of a run: F ~ t^-1/3, length ~ t^1/3 (Lifshitz, Slyozov, Wagner), and the time step.

usage: python exponent.py RUN [--from 10] [--to T] [--save DIRECTORY]

For V/F and for the two lengths, over points at equal ratios of time: the slope of a straight line through the logarithms (from --slope-from
on), and the exponent n of a + b t^n, which allows for the length that coarsening begins with; each with its standard error. --to: by
default the end of the run. --save: writes exponents.csv and coarsening.png there.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from ostwald.io.timeseries import read_series

NAMES = dict(inverse="V/F", length="length of S(k)", interface_length="2 V/area")


def power_law(t, y):
    """(a, b, n) of y = a + b t^n with the least relative residuals, their standard errors, and the largest residual."""
    a, b, n = 0.0, y[-1] / np.cbrt(t[-1]), 1 / 3
    for _ in range(50):
        slopes = np.column_stack([np.ones_like(t), t**n, b * t**n * np.log(t)]) / y[:, None]
        rest = 1 - (a + b * t**n) / y
        step = np.linalg.lstsq(slopes, rest, rcond=None)[0]
        a, b, n = np.array([a, b, n]) + step
    spread = rest @ rest / (len(t) - 3)
    return (a, b, n), np.sqrt(spread * np.diag(np.linalg.inv(slopes.T @ slopes))), np.abs(rest).max()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--from", type=float, default=10.0, dest="first")
    parser.add_argument("--slope-from", type=float, default=100.0)
    parser.add_argument("--to", type=float, default=np.inf)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    series = read_series(options.run / "series.h5")
    rows = series[np.isfinite(series["length"]) & (series["time"] >= 1)]
    time, volume = rows["time"], rows["interface"] * rows["interface_length"] / 2
    values = dict(inverse=volume / rows["energy"], length=rows["length"], interface_length=rows["interface_length"])
    fits = {}
    for name, what in NAMES.items():
        late, used = (
            (time >= first * (1 - 1e-9)) & (time <= options.to * (1 + 1e-9))
            for first in (options.slope_from, options.first)
        )
        if late.sum() > 2:
            line, spread = np.polyfit(np.log(time[late]), np.log(values[name][late]), 1, cov=True)
            print(
                f"{what} ~ t^({line[0]:.3f} ± {spread[0, 0] ** 0.5:.3f}) from {time[late][0]:.4g} to {time[late][-1]:.4g}"
            )
        (a, b, n), errors, worst = fits[name] = power_law(time[used], values[name][used])
        print(
            f"{what} = {a:.2f} + {b:.3f} t^({n:.3f} ± {errors[2]:.3f}) within {worst:.1%} from {time[used][0]:.4g} to "
            f"{time[used][-1]:.4g}"
        )
    dt = np.diff(series["time"])
    middle = 0.5 * (series["time"][1:] + series["time"][:-1])
    steps = [(middle[part].mean(), dt[part].mean()) for part in np.array_split(np.arange(len(dt)), 60)]
    print(
        f"{series['step'][-1]:.0f} steps, their length {dt[:200].mean():.3g} at first and {dt[-200:].mean():.3g} at the end"
    )
    if options.save:
        save(options.save, time, values, fits, np.array(steps))


def save(directory, time, values, fits, steps):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "exponents.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "energy_per_volume", "length", "interface_length"])
        columns = 1 / values["inverse"], values["length"], values["interface_length"]
        writer.writerows([f"{x:.6g}" for x in row] for row in zip(time, *columns))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    left.loglog(time, 1 / values["inverse"], "k.", ms=4)
    left.loglog(
        time[9:], 1.2 / values["inverse"][-1] * (time[9:] / time[-1]) ** (-1 / 3), "0.6", lw=1, label="t^(−1/3)"
    )
    left.set(xlabel="time", ylabel="F/V")
    left.legend()
    for name, what in NAMES.items():
        middle.plot(np.cbrt(time), values[name], ".", ms=4, label=what)
        a, b, n = fits[name][0]
        middle.plot(np.cbrt(time), a + b * time**n, "k", lw=0.6)
    middle.set(xlabel="time^(1/3)", ylabel="length")
    middle.legend(fontsize=8)
    right.loglog(*steps.T, "k.", ms=4)
    right.set(xlabel="time", ylabel="time step, mean")
    figure.savefig(directory / "coarsening.png", dpi=100)


if __name__ == "__main__":
    main()
