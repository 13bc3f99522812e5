"""What the runs of this folder made: pictures and numbers of morphology against misfit.

    python figure.py two-dimensions RUN soft-along-11 RUN two-phases RUN three-dimensions RUN

Each name is followed by its run directory; those left out are left out. Writes NAME.png and morphology.json into the folder `results`.
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

from ostwald.io.fields import field_frames, open_field
from ostwald.io.sequences import Sequences
from ostwald.io.timeseries import read_series

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"


def aligned(phi) -> float:
    """Σ |q̂_i|⁴ weighted with q² |φ^|², 1 where all gradients are along axes; 3/5 for an isotropic field of three dimensions, 3/4 of two."""
    power = np.abs(np.fft.fftn(phi - phi.mean())) ** 2
    q = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in phi.shape), indexing="ij"))
    square = (q**2).sum(0)
    square[(0,) * phi.ndim] = 1.0
    return float((power * (q**4).sum(0) / square).sum() / (power * (q**2).sum(0)).sum())


def length(phi) -> float:
    """2π over the mean wave number of |φ^|² q^(d-1) — 2π Σ S/Σ k S over shells."""
    power = np.abs(np.fft.fftn(phi - phi.mean())) ** 2
    k = np.sqrt(sum(a**2 for a in np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n) for n in phi.shape), indexing="ij")))
    k[(0,) * phi.ndim] = np.inf
    per_shell = power / k ** (phi.ndim - 1)
    k[(0,) * phi.ndim] = 0.0
    return float(2 * np.pi * per_shell.sum() / (k * per_shell).sum())


def slice_of(phi):
    return phi if phi.ndim == 2 else phi[phi.shape[0] // 2]


def pictures(name, fields, titles, rows=1, **options):
    """One row of grey pictures, dark where φ is high."""
    columns = -(-len(fields) // rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.1 * columns, 2.35 * rows), dpi=90, squeeze=False, layout="constrained"
    )
    for axis, field, title in zip(axes.flat, fields, titles):
        axis.imshow(field.T, origin="lower", **({"cmap": "Greys", "vmin": 0, "vmax": 1} | options))
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(RESULTS / f"{name}.png")
    plt.close(figure)


def of_sequences(name, run):
    with Sequences(Path(run) / "sequences.h5") as data:
        misfits, last = data.parameters["elasticity.misfit"], data.shape[1] - 1
        fields = [np.asarray(data.read(k, last)[0], float) for k in range(len(data))]
        energies = data.table("energy")[:, last]
    pictures(name, [slice_of(phi) for phi in fields], [f"misfit {100 * m:.2g} %" for m in misfits])
    return [
        dict(misfit=float(m), energy_per_volume=float(e / phi.size), low=float(phi.min()), high=float(phi.max()),
             aligned=aligned(phi), length=length(phi))
        for m, e, phi in zip(misfits, energies, fields)
    ]  # fmt: skip


def of_run(name, run):
    file = Path(run) / "fields.h5"
    _, times = field_frames(file)
    phi = np.asarray(open_field(file, "phi")[:], float)
    pressure = -0.5 * (np.asarray(open_field(file, "stress_xx")[:]) + np.asarray(open_field(file, "stress_yy")[:]))
    early = np.asarray(open_field(file, "phi", int(np.searchsorted(times, times[-1] / 5)))[:], float)
    titles = [f"φ, t = {times[-1] / 5:g}", f"φ, t = {times[-1]:g}"]
    pictures(name, [early, phi], titles)
    most = np.abs(pressure).max()
    pictures(f"{name}-pressure", [pressure], [f"pressure, t = {times[-1]:g}"], cmap="RdBu_r", vmin=-most, vmax=most)
    rows = read_series(Path(run) / "series.h5")
    told = {key: float(rows[key][-1]) for key in ("time", "energy", "bulk", "gradient", "elastic")}
    for key in ("domains_high", "domains_low", "interface"):
        if key in rows.dtype.names:
            told[key] = float(rows[key][np.isfinite(rows[key])][-1])
    timing = json.loads((Path(run) / "timing.json").read_text())
    return told | dict(aligned=aligned(phi), length=length(phi), pressure=[float(pressure.min()), float(pressure.max())],
                       energy_rises=timing["energy_rises"])  # fmt: skip


def main(arguments):
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / "morphology.json"
    numbers = json.loads(out.read_text()) if out.exists() else {}
    for name, run in zip(arguments[::2], arguments[1::2]):
        numbers[name] = (of_sequences if (Path(run) / "sequences.h5").exists() else of_run)(name, run)
    out.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
