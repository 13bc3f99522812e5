#!/usr/bin/env python3
"""Free energy of a run of PFHub's benchmark 1a beside steps of one length (results/converged.csv) and published curves.

usage: python compare.py RUN [--published FILE.csv ...] [--save DIRECTORY]

RUN: a run directory. --published: files with the columns time and total_energy, as people upload them to PFHub.
--save: writes energy.csv (the benchmark's columns time, total_energy; at the times of converged.csv) and energy.png there.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from ostwald.io.timeseries import read_series

CONVERGED = Path(__file__).parent / "results/converged.csv"


def curve(path):
    """(times, energies) of a file with the columns time and total_energy."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(np.array([float(row[name]) for row in rows]) for name in ("time", "total_energy"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--published", type=Path, nargs="*", default=[])
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    series = read_series(options.run / "series.h5")
    times, exact = curve(CONVERGED)
    at = np.searchsorted(series["time"], times * (1 - 1e-9))
    if at[-1] == len(series) or np.abs(series["time"][at] - times).max() > 1e-6:
        parser.error(f"{options.run} has no rows at the times of {CONVERGED.name}: is it another run, or not finished?")
    found = series["energy"][at]
    print(f"{'time':>8} {'energy':>12} {'converged':>12} {'difference':>11}")
    for row in zip(times, found, exact, found / exact - 1):
        print("{:>8g} {:>12.5f} {:>12.5f} {:>+11.1e}".format(*row))
    print(f"{series['step'][-1]:.0f} steps, the longest {np.nanmax(series['timestep']):.3g}")
    others = [(path.stem, *curve(path)) for path in options.published]
    for name, t, energy in others:
        inside = (t >= 1) & (t <= times[-1])
        apart = energy[inside] / np.interp(t[inside], series["time"], series["energy"]) - 1
        print(
            f"{name}: {apart.min():+.1%} to {apart.max():+.1%} of this curve, t = {t[inside][0]:g} to {t[inside][-1]:g}"
        )
    if options.save:
        save(options.save, series, times, found, others)


def save(directory, series, times, found, others):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "energy.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "total_energy"])
        writer.writerows([f"{t:g}", f"{energy:.6f}"] for t, energy in zip(times, found))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for name, t, energy in others:
        left.loglog(t[t > 0], energy[t > 0], lw=1, label=name)
    rows = series["time"] > 0
    left.loglog(series["time"][rows], series["energy"][rows], "k", lw=1.2, label="Ostwald")
    left.set(xlim=(1, times[-1]), xlabel="time", ylabel="free energy")
    left.legend(fontsize=6)
    right.loglog(series["time"][rows], series["timestep"][rows], "k", lw=0.6)
    right.set(xlim=(1, times[-1]), xlabel="time", ylabel="time step")
    figure.savefig(directory / "energy.png", dpi=110)


if __name__ == "__main__":
    main()
