#!/usr/bin/env python3
"""Melt, hot crystal and melting point from the runs of several potentials, side by side; the first one is the reference.

usage: trajectories.py FOLDER REFERENCE NAME ... [--json FILE] [--plot FILE.png]

The runs are FOLDER/NAME-liquid, -pairs, -hot and -coexistence, made by the run files of this folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ostwald.app import potentials
from ostwald.app.runfile import load_toml
from ostwald.io.h5md import frames, times
from ostwald.io.timeseries import read_series

REACH, BINS = 7.5, 150
"""Å of g(r), and intervals up to there."""
DIFFUSIVE = (1.0, 6.0)
"""ps between which the mean square displacement is fitted."""


def mean(values, blocks=10):
    """Mean and standard error from the means of consecutive blocks."""
    means = [b.mean() for b in np.array_split(values, blocks)]
    return [float(np.mean(means)), float(np.std(means, ddof=1) / blocks**0.5)]


def window(directory, length, until=0.0):
    """Rows of the series of the last `length` ps, up to `until` ps before the end, and the number of atoms."""
    rows = read_series(directory / "series.h5")
    end = rows["time"][-1] - until
    atoms = json.loads((directory / "timing.json").read_text())["atoms"]
    return rows[(rows["time"] > end - length) & (rows["time"] <= end)], atoms


def slope(time, values):
    return np.polynomial.polynomial.polyfit(time - time.mean(), values, 1)[1]


def extrapolation(directory):
    """Largest excess over the training range, and the largest number of atoms beyond it at once; None without a look."""
    found = json.loads((directory / "timing.json").read_text()).get("extrapolation")
    if not found:
        return None
    worst = found["worst"] or {"value": 0.0}
    return dict(looks=found["looks"], largest=worst["value"], atoms=int(found["atoms_max"]))


def liquid(directory):
    rows, atoms = window(directory, 90.0)
    return dict(density=mean(rows["density"]), enthalpy=mean(rows["enthalpy"] / atoms))


def hot(directory):
    """The crystal at zero pressure for 100 ps, then 50 ps of constant energy."""
    rows, atoms = window(directory, 90.0, until=50.0)
    alone, _ = window(directory, 50.0)
    total = alone["conserved"] / atoms
    drift = slope(alone["time"], total)
    return dict(
        density=mean(rows["density"]),
        enthalpy=mean(rows["enthalpy"] / atoms),
        drift=float(drift),
        fluctuation=float(np.std(total - drift * alone["time"])),
    )


def coexistence(directory, length=90.0):
    rows, _ = window(directory, length)
    solid = rows["solid_fraction"][np.isfinite(rows["solid_fraction"])]
    return dict(
        temperature=mean(rows["temperature"]),
        pressure=mean(rows["pressure"][:, :3].mean(axis=1)),
        solid=[float(solid.min()), float(solid.max())],
    )


def pairs(directory, length=40.0):
    """g(r), diffusion (1e-9 m²/s) by the mean square displacement over all origins, pressure (GPa)."""
    file = directory / "trajectory.h5"
    time = times(file)
    chosen = np.flatnonzero(time > time[-1] - length)
    edges = np.linspace(0, REACH, BINS + 1)
    counts, places = np.zeros(BINS), []
    for number, frame in enumerate(frames(file)):
        if number < chosen[0]:
            continue
        edge = np.diag(frame.matrix)
        tree = cKDTree(frame.positions % edge, boxsize=edge)
        counts += np.diff(tree.count_neighbors(tree, edges))
        order = np.argsort(frame.ids) if frame.ids is not None else slice(None)
        places.append(frame.positions[order])
    n, volume = len(places[0]), abs(np.linalg.det(frame.matrix))
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    g = counts / len(places) / (n * (n - 1) / volume * shells)
    places = np.array(places)
    places -= places.mean(axis=1, keepdims=True)
    step = time[chosen[1]] - time[chosen[0]]
    lags = np.arange(round(DIFFUSIVE[0] / step), round(DIFFUSIVE[1] / step) + 1)
    # each quarter of the trajectory for itself: their scatter is the error
    found = []
    for part in np.array_split(places, 4):
        square = [np.mean(np.sum((part[k:] - part[:-k]) ** 2, axis=2)) for k in lags]
        found.append(slope(lags * step, np.array(square)) / 6 * 10)
    rows, _ = window(directory, length)
    return dict(
        r=(0.5 * (edges[1:] + edges[:-1])).tolist(),
        g=g.tolist(),
        diffusion=[float(np.mean(found)), float(np.std(found, ddof=1) / 2)],
        pressure=mean(rows["pressure"][:, :3].mean(axis=1)),
    )


def difference(directory, reference, count=10):
    """RMSE of energies (meV/atom, their common shift included) and forces (eV/Å) on frames of a potential's own run."""
    name = load_toml(directory / "run.toml")["potential"]["file"]
    copy = directory / name  # a run keeps the file of its potential, but for those that come along
    mine, theirs = (potentials.load(each).ase() for each in (copy if copy.exists() else name, reference))
    total = len(times(directory / "trajectory.h5"))
    energy, force = [], []
    for number in np.unique(np.linspace(1, total - 1, count).astype(int)):
        atoms = next(frames(directory / "trajectory.h5", int(number))).to_ase()
        found = []
        for calculator in (mine, theirs):
            atoms.calc = calculator
            found.append((atoms.get_potential_energy() / len(atoms), atoms.get_forces()))
        energy.append(found[0][0] - found[1][0])
        force.append(np.mean((found[0][1] - found[1][1]) ** 2))
    return dict(energy=1000 * float(np.mean(np.square(energy)) ** 0.5), force=float(np.mean(force) ** 0.5))


def properties(folder, name, reference):
    found = {}
    for kind, evaluate in (("liquid", liquid), ("pairs", pairs), ("hot", hot), ("coexistence", coexistence)):
        directory = folder / f"{name}-{kind}"
        if not (directory / "timing.json").exists():
            continue
        found[kind] = evaluate(directory)
        found[kind]["extrapolation"] = extrapolation(directory)
        if reference:
            found[kind]["difference"] = difference(directory, reference)
    return found


def table(found):
    def row(label, form, *path):
        cells = []
        for p in found.values():
            for key in path:
                p = p.get(key) if isinstance(p, dict) else None
            if p is None:
                cells.append("–")
            else:
                cells.append(" ± ".join(form.format(x) for x in p) if isinstance(p, list) else form.format(p))
        return f"{label:<40}" + "".join(f"{cell:>24}" for cell in cells)

    lines = [" " * 40 + "".join(f"{name:>24}" for name in found)]
    lines.append(row("melting point, K", "{:.1f}", "coexistence", "temperature"))
    lines.append(row("  pressure there, GPa", "{:.3f}", "coexistence", "pressure"))
    for kind in ("liquid", "hot"):
        lines.append(row(f"{kind}: density, g/cm³", "{:.4f}", kind, "density"))
        lines.append(row(f"{kind}: enthalpy, eV/atom", "{:.4f}", kind, "enthalpy"))
    lines.append(row("hot: NVE drift, eV/atom/ps", "{:.1e}", "hot", "drift"))
    lines.append(row("hot: NVE fluctuation, eV/atom", "{:.1e}", "hot", "fluctuation"))
    lines.append(row("melt: diffusion, 1e-9 m²/s", "{:.3f}", "pairs", "diffusion"))
    lines.append(row("melt: pressure, GPa", "{:.3f}", "pairs", "pressure"))
    for kind in ("liquid", "pairs", "hot", "coexistence"):
        lines.append(row(f"{kind}: worst extrapolation", "{:.3f}", kind, "extrapolation", "largest"))
        lines.append(row(f"{kind}: force difference, eV/Å", "{:.4f}", kind, "difference", "force"))
        lines.append(row(f"{kind}: energy difference, meV/atom", "{:.3f}", kind, "difference", "energy"))
    return lines


def plot(found, folder, path):
    """g(r) of the melt, and the temperature of coexistence."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 3.6))
    for number, (name, p) in enumerate(found.items()):
        colour = ["#1f5fa8", "#c0392b", "#27ae60"][number % 3]
        if "pairs" in p:
            every = slice(None) if number == 0 else slice(number, None, 2)
            style = dict(lw=1.4) if number == 0 else dict(ls="", marker="o", ms=3.2, mfc="none")
            left.plot(
                np.array(p["pairs"]["r"])[every], np.array(p["pairs"]["g"])[every], color=colour, label=name, **style
            )
        if "coexistence" in p:
            rows = read_series(folder / f"{name}-coexistence" / "series.h5")
            after = rows["time"] > 18
            width = 20
            smooth = np.convolve(rows["temperature"][after], np.ones(width) / width, mode="valid")
            right.plot(rows["time"][after][width - 1 :], smooth, lw=0.9, color=colour, label=name)
            right.axhline(p["coexistence"]["temperature"][0], color=colour, lw=0.8, ls="--")
    left.set(xlabel="r, Å", ylabel="g(r)", xlim=(1.5, REACH), ylim=(0, None))
    right.set(xlabel="time, ps", ylabel="temperature at coexistence, K")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("name", nargs="+")
    options.add_argument("--json")
    options.add_argument("--plot")
    given = options.parse_args()
    first = next(given.folder.glob(f"{given.name[0]}-*/run.toml"))
    reference = load_toml(first)["potential"]["file"]
    found = {name: properties(given.folder, name, k and reference) for k, name in enumerate(given.name)}
    print("\n".join(table(found)))
    if given.plot:
        plot(found, given.folder, given.plot)
    if given.json:
        for each in found.values():
            for curve in ("r", "g"):
                each.get("pairs", {}).pop(curve, None)
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
