"""The phase diagram of run.toml: which mixtures decomposed, beside the line of linear stability.

    python diagram.py RUN [RUN ...]

Writes diagram.png and, for each run, NAME.csv with what the diagram shows into the folder `results`.
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

from ostwald.app.jobs.phasefield import make_elasticity, make_well
from ostwald.app.jobs.sequences_schema import Plan
from ostwald.app.phasefield.stability import softest, unstable
from ostwald.app.report.sequences import HOMOGENEOUS, stability_line
from ostwald.app.runfile import load_toml
from ostwald.io.sequences import Sequences

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"


def read(run):
    """Table (n, 6) of a run: misfit, mean, span of φ in the first and the last frame, whether linearly unstable, growth rate
    of the fastest wave; its last frames; its plan."""
    plan = Plan(load_toml(run / "run.toml"), run / "run.toml")
    values = plan.of(0)
    well, epsilon = make_well(values["model"]), values["model"]["epsilon"]
    unit = softest(make_elasticity(values["elasticity"] | dict(misfit=1.0), len(values["grid"]["shape"]), well))
    with Sequences(run / "sequences.h5") as data:
        missing = len(data) - len(data.numbers())
        if missing:
            sys.exit(f"{run}: {missing} sequences are missing")
        misfit, mean = data.parameters["elasticity.misfit"], data.table("mean")
        span = data.table("high") - data.table("low")
        last = np.stack([data.read(k, data.shape[1] - 1)[0] for k in range(len(data))])
    stiffness = well.energy(mean, 2) + unit * misfit**2
    rate = np.where(stiffness < 0, stiffness**2 / (4 * epsilon), 0.0)  # of q² = -stiffness / 2ε
    return np.stack([misfit, mean, span[:, 0], span[:, -1], stiffness < 0, rate], -1), last, plan, (well, unit)


def summary(table):
    """What the diagram says in numbers."""
    span, predicted, rate = table.T[3:]
    found = span >= HOMOGENEOUS
    wrong = found != predicted.astype(bool)
    return dict(
        points=len(table),
        decomposed=int(found.sum()),
        homogeneous=int((~found).sum()),
        linearly_unstable=int(predicted.sum()),
        as_linear_stability_says=int((~wrong).sum()),
        decomposed_though_stable=int((found & (predicted == 0)).sum()),
        homogeneous_though_unstable=int((~found & (predicted == 1)).sum()),
        fastest_growth_of_a_homogeneous_one=float(rate[~found].max()),
        slowest_growth_of_a_decomposed_one=float(rate[found & (predicted == 1)].min()),
    )


def rounded(value):
    """Six digits are plenty."""
    return (
        [rounded(x) for x in value]
        if isinstance(value, list)
        else float(f"{value:.6g}")
        if isinstance(value, float)
        else value
    )


def draw(runs):
    figure, panels = plt.subplots(1, len(runs) + 1, figsize=(5.2 * (len(runs) + 1), 4.4), layout="constrained")
    for panel, (title, (table, _, plan, _)) in zip(panels, runs.items()):
        misfit, mean, _, span, *_ = table.T
        found = span >= HOMOGENEOUS
        panel.plot(mean[~found], 100 * misfit[~found], "s", ms=3.5, color="#9aa4b2", label="homogeneous at t = 100")
        panel.plot(mean[found], 100 * misfit[found], "o", ms=3.5, color="#d9622b", label="decomposed")
        line = stability_line(plan)
        panel.plot(line[:, 1], 100 * line[:, 0], color="#1b1d22", lw=1.3, label="linear stability")
        panel.set(xlabel="mean composition", ylabel="misfit (%)", title=title, ylim=(-0.04, 1.34))
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=8, frameon=False)
    table, last, _, _ = next(iter(runs.values()))
    misfits, means = (np.unique(np.round(column, 9)) for column in table.T[:2])
    rows, columns = np.arange(0, len(misfits), 4)[::-1], np.arange(0, len(means), 4)
    tiles = last.reshape(len(misfits), len(means), *last.shape[1:])[np.ix_(rows, columns)]
    tiles = np.pad(tiles, ((0, 0), (0, 0), (3, 3), (3, 3)), constant_values=np.nan)
    mosaic = np.concatenate(np.concatenate(tiles, axis=1), axis=1)
    panel = panels[-1]
    panel.imshow(mosaic, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    size = tiles.shape[-1]
    panel.set_xticks(size * (np.arange(len(columns)) + 0.5), [f"{means[k]:.2f}" for k in columns])
    panel.set_yticks(size * (np.arange(len(rows)) + 0.5), [f"{100 * misfits[k]:.2f}" for k in rows])
    panel.set(xlabel="mean composition", ylabel="misfit (%)", title=f"{next(iter(runs))}: φ at t = 100")
    panel.tick_params(length=0)
    for side in panel.spines.values():
        side.set_visible(False)
    return figure


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    RESULTS.mkdir(exist_ok=True)
    found, runs = {}, {}
    for directory in map(Path, sys.argv[1:]):
        table, last, plan, (well, unit) = read(directory)
        amplitude = plan.of(0)["initial"]["amplitude"]
        title = f"noise of amplitude {amplitude:g}"
        runs[title] = (table, last, plan, (well, unit))
        closing = np.sqrt(-well.energy(0.5, 2) / unit)
        found[title] = summary(table) | dict(closing_misfit=closing, spinodal=list(unstable(well)))
        head = "misfit,mean,span_first,span_last,linearly_unstable,fastest_growth_rate"
        np.savetxt(RESULTS / f"amplitude-{amplitude:g}.csv", table, fmt="%.6g", delimiter=",", header=head, comments="")
    draw(runs).savefig(RESULTS / "diagram.png", dpi=110)
    found = {title: {k: rounded(v) for k, v in numbers.items()} for title, numbers in found.items()}
    (RESULTS / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
