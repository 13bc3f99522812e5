#!/usr/bin/env python3
"""Melting point from a coexistence run: mean temperature of the last part of the NPH stage, with its standard error.

usage: melting_point.py RUN_DIRECTORY [--last 100] [--published 1042] [--plot FILE.png] [--json FILE]

The run counts only if both phases are there to the end: the solid fraction must stay between 0.1 and 0.9.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ostwald.io.timeseries import read_series


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("directory", type=Path)
    options.add_argument("--last", type=float, default=100.0, help="ps that are averaged")
    options.add_argument("--published", type=float, default=1042.0, help="K")
    options.add_argument("--plot")
    options.add_argument("--json")
    given = options.parse_args()
    rows = read_series(given.directory / "series.h5")
    time, temperature = rows["time"], rows["temperature"]
    tail = time > time[-1] - given.last
    blocks = [b.mean() for b in np.array_split(temperature[tail], 10)]
    mean, error = float(np.mean(blocks)), float(np.std(blocks, ddof=1) / len(blocks) ** 0.5)
    solid = rows["solid_fraction"]
    known = np.isfinite(solid)
    share = solid[tail & known]
    pressure = rows["pressure"][tail][:, :3].mean()
    coexist = bool(share.min() > 0.1 and share.max() < 0.9)
    print(
        f"T = {mean:.1f} ± {error:.1f} K over the last {given.last:g} ps (published {given.published:g} K, difference "
        f"{mean - given.published:+.1f} K); pressure {pressure:+.3f} GPa; solid fraction {share.min():.2f}–{share.max():.2f}"
        + ("" if coexist else ": NOT two phases, choose another starting temperature")
    )
    if given.json:
        result = dict(
            melting_point_K=mean, standard_error_K=error, published_K=given.published, averaged_ps=given.last,
            pressure_GPa=float(pressure), solid_fraction=[float(share.min()), float(share.max())], coexistence=coexist,
        )  # fmt: skip
        Path(given.json).write_text(json.dumps(result, indent=1) + "\n")
    if given.plot:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, (top, bottom) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 4.6), height_ratios=(2, 1))
        top.plot(time, temperature, lw=0.5, color="#7aa6d8")
        width = max(len(time) // 200, 1)
        smooth = np.convolve(temperature, np.ones(width) / width, mode="valid")
        top.plot(time[width - 1 :], smooth, lw=1.2, color="#1f5fa8", label="temperature")
        top.axhline(
            given.published, color="#c0392b", lw=1, ls="--", label=f"published melting point {given.published:g} K"
        )
        top.axhspan(
            mean - error, mean + error, color="#27ae60", alpha=0.4, label=f"this run {mean:.0f} ± {error:.0f} K"
        )
        top.set(ylabel="temperature (K)", ylim=(given.published - 150, given.published + 150))
        top.legend(frameon=False, fontsize=8)
        bottom.plot(time[known], solid[known], color="#27ae60", lw=1)
        bottom.set(xlabel="time (ps)", ylabel="solid fraction", ylim=(0, 1))
        figure.tight_layout()
        figure.savefig(given.plot, dpi=110)


if __name__ == "__main__":
    main()
