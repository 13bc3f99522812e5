#!/usr/bin/env python3
"""Exponents of coarsening of a run: F ~ t^-1/3, length ~ t^1/3 (Lifshitz, Slyozov, Wagner), and the time step.

usage: python exponent.py RUN [--from 10] [--to T] [--save DIRECTORY]

Slopes of straight lines through the logarithms, over points at equal ratios of time. --to: by default the end of the run.
--save: writes exponents.csv (time, energy per volume, length, time step) and coarsening.png there.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from ostwald.io.timeseries import read_series


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--from", type=float, default=10.0, dest="first")
    parser.add_argument("--to", type=float, default=np.inf)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    series = read_series(options.run / "series.h5")
    rows = series[np.isfinite(series["length"]) & (series["time"] >= 1)]
    used = (rows["time"] >= options.first * (1 - 1e-9)) & (rows["time"] <= options.to * (1 + 1e-9))
    names = dict(energy="energy", length="length", timestep="time step")
    lengths = np.interp(rows["time"], series["time"][1:-1], series["timestep"][1:-1])
    values = dict(energy=rows["energy"], length=rows["length"], timestep=lengths)
    slopes = {}
    for name, what in names.items():
        slopes[name] = np.polyfit(np.log(rows["time"][used]), np.log(values[name][used]), 1)
        print(f"{what} ~ t^{slopes[name][0]:+.3f}")
    print(f"from t = {rows['time'][used][0]:g} to {rows['time'][used][-1]:g}; {series['step'][-1]:.0f} steps in all")
    if options.save:
        save(options.save, rows["time"], values, slopes, names, rows["time"][used])


def save(directory, time, values, slopes, names, used):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "exponents.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *names])
        writer.writerows([f"{x:.6g}" for x in row] for row in zip(time, *values.values()))
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.9), layout="constrained")
    for axis, (name, what) in zip(axes, names.items()):
        axis.loglog(time, values[name], "k.", ms=4)
        axis.loglog(used, np.exp(np.polyval(slopes[name], np.log(used))), "r", lw=1, label=f"t^{slopes[name][0]:+.3f}")
        axis.set(xlabel="time", ylabel=what)
        axis.legend()
    figure.savefig(directory / "coarsening.png", dpi=100)


if __name__ == "__main__":
    main()
