#!/usr/bin/env python3
"""What the runs of this folder showed, as numbers (JSON) and figures.

summary.py growth RUN [--json FILE] [--plot FILE]            crystals over time: one run
summary.py ranks RUN RUN ... [--json FILE] [--plot FILE]     the same run on other numbers of ranks: when they part
summary.py cost RUN [--json FILE]                            speed, memory, checkpoints; what a nanosecond would take

The cost of a step on many nodes is a model: t = c n (1 + w g) / (1 + w g₀) + m λ + b n g k / B + r λ log₂ P. Measured: c, the
processor time of an atom and step (with its share of the analyses), and g₀, the ghosts per atom there. n atoms a rank, P
ranks, k ranks a node, g = (1 + 2 R / L)³ − 1 ghosts per atom for bricks of edge L and a reach R, b = 24 bytes a ghost. Assumed:
w, m messages, λ latency, B bandwidth of a node, r reductions: the constants below.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ostwald.app.analysis.nuclei import critical_size
from ostwald.io.checkpoint import list_checkpoints
from ostwald.io.h5md import frames
from ostwald.io.nuclei import read_nuclei
from ostwald.io.timeseries import read_series

CORES_PER_NODE = 64
LATENCY = 2e-6
"""s, of a message between nodes."""
BANDWIDTH = 12.5e9
"""B/s, in and out of a node (100 Gbit/s), shared by its cores."""
MESSAGES = 26
"""Neighbouring bricks that a rank sends ghosts to."""
REDUCTIONS = 3
"""Global sums a step: the test of the neighbour lists, thermostat and barostat."""
GHOST_COST = 0.15
"""What a ghost costs in processor time, in units of an atom (as in `ostwald check`)."""
PHASES = {"fcc": "#41ab5d", "hcp": "#e0524a", "bcc": "#4a7fe0", "ico": "#e8b030"}


def analysed(run):
    """Rows of the series that hold an analysis."""
    rows = read_series(run / "series.h5")
    return rows[np.isfinite(rows["solid_fraction"])]


def axes(count, **options):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(count, 1, sharex=True, figsize=(7, 2.3 * count), layout="constrained", **options)


def growth(given):
    run = given.runs[0]
    rows = analysed(run)
    start = rows["time"][np.argmin(rows["solid_fraction"])]
    rows = rows[rows["time"] >= start]
    time, largest, solid = rows["time"], rows["largest_cluster"], rows["solid_fraction"]

    def first(mask):
        return float(time[np.argmax(mask)]) if mask.any() else None

    last = rows[-1]
    result = dict(
        atoms=int(json.loads((run / "timing.json").read_text())["atoms"]),
        temperature_K=float(rows["temperature"][-len(rows) // 2 :].mean()),
        largest_above_200_ps=first(largest >= 200),
        solid_above={f"{x:g}": first(solid >= x) for x in (0.1, 0.4, 0.5, 0.9, 0.95)},
        end=dict(
            time_ps=float(last["time"]),
            largest_cluster=int(last["largest_cluster"]),
            clusters=int(last["clusters"]),
            **{name: round(float(last[name]), 4) for name in rows.dtype.names if name.endswith("_fraction")},
        ),
    )
    nuclei = run / "nuclei.h5"
    if nuclei.exists():
        history, events, _ = read_nuclei(nuclei)
        result["nuclei"] = dict(
            followed_from_ps=float(history["time"].min()),
            followed=len(np.unique(history["number"])),
            living_at_the_end=int((history["step"] == history["step"].max()).sum()),
        )
        if result["nuclei"]["followed_from_ps"] < time[np.argmax(largest >= 200)]:
            low, high = critical_size(history, events).bracket
            result["nuclei"] |= dict(largest_dissolved=low, smallest_grown=high)
    if given.plot:
        figure, (top, middle, bottom) = axes(3)
        top.semilogy(time, np.maximum(largest, 1), color="#1f5fa8")
        top.set_ylabel("largest cluster (atoms)")
        middle.plot(time, solid, color="#333333", label="solid")
        for name, colour in PHASES.items():
            if f"{name}_fraction" in rows.dtype.names:
                middle.plot(time, rows[f"{name}_fraction"], color=colour, label=name)
        middle.set_ylabel("fraction of atoms")
        middle.legend(frameon=False)
        bottom.plot(time, rows["clusters"], color="#8a56c9")
        bottom.set_ylabel("clusters")
        bottom.set_xlabel("time (ps)")
        figure.savefig(given.plot, dpi=110)
    return result


def ranks(given):
    runs = {json.loads((run / "timing.json").read_text())["ranks"]: run for run in given.runs}
    series = {count: analysed(run) for count, run in runs.items()}
    begin = max(rows["step"][0] for rows in series.values())
    counts = sorted(series)
    steps = sorted(set.intersection(*(set(rows["step"][rows["step"] >= begin]) for rows in series.values())))
    series = {count: rows[np.isin(rows["step"], steps)] for count, rows in series.items()}
    time = series[counts[0]]["time"] - series[counts[0]]["time"][0]
    result = dict(atoms=None, ranks=counts, steps=[int(steps[0]), int(steps[-1])], ps_between_analyses=float(time[1]))
    same = {}
    for name in ("solid_fraction", "fcc_fraction", "hcp_fraction", "clusters", "largest_cluster"):
        values = np.array([series[count][name] for count in counts])
        differ = (values != values[0]).any(axis=0)
        same[name] = float(time[np.argmax(differ)]) if differ.any() else None
    result["ps_until_they_differ"] = same
    result["at_the_end"] = {
        str(count): {name: float(series[count][name][-1]) for name in ("solid_fraction", "clusters", "largest_cluster")}
        for count in counts
    }
    apart = {}
    first = {f.info["step"]: f for f in frames(runs[counts[0]] / "trajectory.h5")}
    for count in counts[1:]:
        distances = []
        for frame in frames(runs[count] / "trajectory.h5"):
            other = first.get(frame.info["step"])
            if other is None or len(frame.positions) != len(other.positions):
                continue
            s = np.linalg.solve(frame.matrix.T, (frame.positions - other.positions).T).T
            distance = np.linalg.norm((s - np.rint(s)) @ frame.matrix, axis=1)
            distances.append((frame.info["time"], float(np.sqrt((distance**2).mean())), float(distance.max())))
            result["atoms"] = len(distance)
        apart[count] = np.array(distances)
    result["apart_in_Angstrom"] = {
        f"{count} ranks from {counts[0]}": [
            dict(ps=round(t - apart[count][0, 0], 4), rms=float(f"{r:.3g}"), largest=float(f"{m:.3g}"))
            for t, r, m in apart[count]
        ]
        for count in apart
    }
    if given.plot:
        figure, (top, middle, bottom) = axes(3)
        for k, count in enumerate(counts):
            style = dict(lw=3.5 - 1.2 * k, alpha=0.8, label=f"{count} rank{'s' if count > 1 else ''}")
            top.plot(time, series[count]["largest_cluster"], **style)
            middle.plot(time, series[count]["clusters"], **style)
        for count, distances in apart.items():
            bottom.semilogy(
                distances[:, 0] - distances[0, 0], np.maximum(distances[:, 1], 1e-8), label=f"{count} ranks"
            )
        top.set_ylabel("largest cluster (atoms)")
        middle.set_ylabel("clusters")
        bottom.set_ylabel(f"rms distance from {counts[0]} rank (Å)")
        bottom.set_xlabel("time since the common checkpoint (ps)")
        top.legend(frameon=False)
        bottom.legend(frameon=False)
        figure.savefig(given.plot, dpi=110)
    return result


def step_seconds(atoms, core_seconds, ghosts_measured, edge, reach, nodes):
    """Seconds of a step on so many nodes: atoms of a rank and what its ghosts cost, plus messages, bytes and reductions.

    core_seconds: of one atom and step where there were ghosts_measured ghosts an atom; edge: of the cubic cell, Å; reach:
    of the ghosts, Å.
    """
    count = nodes * CORES_PER_NODE
    brick = edge / count ** (1 / 3)
    ghosts = (1 + 2 * reach / brick) ** 3 - 1
    share = atoms / count
    compute = share * core_seconds * (1 + GHOST_COST * ghosts) / (1 + GHOST_COST * ghosts_measured)
    halo = MESSAGES * LATENCY + 24 * share * ghosts * CORES_PER_NODE / BANDWIDTH
    reduce = REDUCTIONS * LATENCY * np.log2(count)
    return compute + halo + reduce, compute, halo, reduce


def cost(given):
    run = given.runs[0]
    figures = json.loads((run / "timing.json").read_text())
    rows = read_series(run / "series.h5")
    per_rank, atoms, steps = figures["per_rank"], figures["atoms"], figures["steps"]
    edge = float(abs(np.linalg.det(rows["cell"][-1].reshape(3, 3))) ** (1 / 3))
    used = per_rank["cpu_seconds"]["mean"] * figures["ranks"]
    analyses = np.count_nonzero(np.isfinite(rows["solid_fraction"]) & (rows["step"] > figures["total_steps"] - steps))
    share = figures["sections"]["analysis"]["share"]
    plain, analysis = used * (1 - share) / (atoms * steps), used * share / (atoms * max(analyses, 1))
    core_seconds = plain + analysis / given.every
    checkpoint = max(list_checkpoints(run / "checkpoints"), key=lambda c: c.step)
    dt = given.timestep
    model = {}
    for nodes in (1, 8, 64):
        total, compute, halo, reduce = step_seconds(
            atoms, core_seconds, per_rank["ghosts"]["mean"] / per_rank["atoms"]["mean"], edge, given.reach, nodes
        )
        hours = total * 1e3 / dt / 3600
        model[str(nodes)] = dict(
            ms_per_step=float(f"{1e3 * total:.3g}"), compute_ms=float(f"{1e3 * compute:.3g}"),
            halo_ms=float(f"{1e3 * halo:.3g}"), reductions_ms=float(f"{1e3 * reduce:.3g}"),
            hours_per_ns=float(f"{hours:.3g}"), node_hours_per_ns=float(f"{hours * nodes:.3g}"),
        )  # fmt: skip
    return dict(
        atoms=atoms, ranks=figures["ranks"], steps=steps, model_timestep_ps=dt,
        wall_seconds=round(figures["wall_seconds"], 1),
        atom_steps_per_second=float(f"{figures['atom_steps_per_second']:.4g}"),
        microseconds_cpu_per_atom_step=float(f"{1e6 * plain:.4g}"),
        microseconds_cpu_per_atom_analysis=float(f"{1e6 * analysis:.4g}"),
        seconds={name: round(s["mean"], 2) for name, s in figures["sections"].items()},
        memory_MB_per_rank=round(per_rank["resident_bytes"]["mean"] / 1e6, 1),
        bytes_per_atom=round(figures["bytes_per_atom"]),
        checkpoint=dict(seconds=round(figures["checkpoint_seconds"], 2), MB=round(checkpoint.size / 1e6, 1)),
        model_on_nodes=model,
        model_assumes=dict(
            cores_per_node=CORES_PER_NODE, latency_s=LATENCY, bandwidth_B_per_s=BANDWIDTH, messages=MESSAGES,
            reductions=REDUCTIONS, ghost_cost=GHOST_COST, reach_Angstrom=given.reach, steps_between_analyses=given.every,
        ),
    )  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("growth", "ranks", "cost"))
    options.add_argument("runs", type=Path, nargs="+")
    options.add_argument("--reach", type=float, default=7.5, help="Å: cutoff and skin (cost)")
    options.add_argument("--timestep", type=float, default=0.003, help="ps: of the stage that the model is for (cost)")
    options.add_argument("--every", type=int, default=300, help="steps between analyses (cost)")
    options.add_argument("--json", type=Path)
    options.add_argument("--plot", type=Path)
    given = options.parse_args()
    text = json.dumps({"growth": growth, "ranks": ranks, "cost": cost}[given.what](given), indent=1)
    if given.json:
        given.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
