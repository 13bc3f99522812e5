"""The nuclei of a run, from nuclei.h5: their sizes over time, what became of each, and the bracket of the critical size."""

from __future__ import annotations

from html import escape

import numpy as np

from ostwald.app import picture
from ostwald.app.analysis.nuclei import DISSOLVE, EVENTS, MERGE, SPLIT, critical_size
from ostwald.app.analysis.structure import LABELS
from ostwald.app.report.plots import INK, LINES, MUTED, blank, dress, legend, svg_of, time_unit
from ostwald.app.report.style import cards, number, table
from ostwald.io.nuclei import read_nuclei

ROWS = 15
"""So many nuclei are listed, those that were largest."""


def nuclei(run) -> str:
    """The section; empty where the run followed no nuclei, or there were none."""
    path = run.path / "nuclei.h5"
    if not path.exists():
        return ""
    rows, events, _ = read_nuclei(path)
    if not len(rows):
        return ""
    bracket = critical_size(rows, events)
    histories = _histories(rows)
    low, high = bracket.bracket
    counts = np.bincount(events["kind"], minlength=len(EVENTS)) if len(events) else np.zeros(len(EVENTS), int)
    said = f"{len(histories)} nuclei: {counts[DISSOLVE]} dissolved, {counts[MERGE]} merged into another, {counts[SPLIT]} split off."
    if np.isfinite(low):
        said += f" The largest that fell back had {low:.0f} atoms"
        said += (
            f"; the smallest from which one grew for good, {high:.0f}."
            if np.isfinite(high)
            else "; none that was seen to form has grown for good."
        )
    figures = [
        (
            "Size",
            _sizes(histories, events, bracket),
            "One line a nucleus; crosses: dissolved; rings: merged into another. Band: bracket of the critical size.",
        )
    ]
    if len(bracket.grown):
        caption = "Of all that reached a size, the fraction that grew and did not fall back."
        figures.append(("Embryos that went on to grow", _fates(bracket), caption))
    return (
        f'<h2>Nuclei</h2><div class="two">{cards(figures)}</div><p class="note">{said}</p>'
        f'<div class="card" style="margin-top:14px"><h3>The largest</h3>{_list(histories, events)}</div>'
    )


def _histories(rows) -> dict[int, np.ndarray]:
    """number -> its rows, in time."""
    order = np.lexsort((rows["step"], rows["number"]))
    numbers, start = np.unique(rows["number"][order], return_index=True)
    return {int(k): rows[at] for k, at in zip(numbers, np.split(order, start[1:]))}


def _ends(events) -> dict[int, np.void]:
    """number -> the event with which it ended."""
    return {int(e["number"]): e for e in events if e["kind"] in (MERGE, DISSOLVE)}


def _sizes(histories, events, bracket):
    ends, grown = _ends(events), set(bracket.grown.tolist())
    unit, scale = time_unit(max(h["time"][-1] for h in histories.values()))
    figure, axes = blank(6.2, 3.1)
    for k, history in histories.items():
        colour = LINES[0] if k in grown else MUTED
        axes.plot(history["time"] * scale, history["size"], color=colour, linewidth=1.2 if k in grown else 0.7)
    for kind, mark, label in ((DISSOLVE, "x", "dissolved"), (MERGE, "o", "merged")):
        at = [
            (histories[k]["time"][-1] * scale, histories[k]["size"][-1]) for k, e in ends.items() if e["kind"] == kind
        ]
        at = [point for point in at if point[1] > 0]
        if at:
            axes.plot(
                *zip(*at), mark, color=LINES[1], markersize=4, markerfacecolor="none", linestyle="none", label=label
            )
    if np.isfinite(bracket.bracket).all():
        axes.axhspan(*sorted(bracket.bracket), color=LINES[2], alpha=0.25, linewidth=0)
    axes.set_yscale("log")
    dress(axes, f"time ({unit})", "size (atoms)")
    if axes.get_legend_handles_labels()[0]:
        legend(figure, axes)
    return svg_of(figure, "nuclei-size")


def _fates(bracket):
    figure, axes = blank(6.2, 3.1)
    sizes = np.unique(np.concatenate([bracket.dissolved, bracket.started]))
    if len(sizes):
        sizes = np.append(sizes, sizes[-1] + 1)
        fraction = [bracket.growing(size) for size in sizes]
        axes.step(sizes, fraction, where="post", color=LINES[0], linewidth=1.5)
    if np.isfinite(bracket.bracket).all():
        axes.axvspan(*sorted(bracket.bracket), color=LINES[2], alpha=0.25, linewidth=0)
    axes.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylim(0, 1.05)
    dress(axes, "size (atoms)", "fraction that grew")
    return svg_of(figure, "nuclei-fate")


def _list(histories, events) -> str:
    ends = _ends(events)
    largest = sorted(histories, key=lambda k: -int(histories[k]["size"].max()))[:ROWS]
    lines = []
    for k in largest:
        history = histories[k]
        last, top = history[-1], history[np.argmax(history["size"])]
        shares = top["composition"] / max(top["composition"].sum(), 1)
        what = ", ".join(
            f"{100 * shares[j]:.0f} % {escape(picture.MEANING[LABELS[j]])}"
            for j in np.argsort(-shares)[:3]
            if shares[j] > 0.005
        )
        end = ends.get(k)
        fate = "lives" if end is None else "dissolved" if end["kind"] == DISSOLVE else f"merged into {end['other']}"
        radius = number(float(top["radius"]), 3) if np.isfinite(top["radius"]) else "spans the cell"
        born, until = number(float(history["time"][0]), 4), number(float(last["time"]), 4)
        lines.append((str(k), born, until, str(top["size"]), radius, what, fate))
    head = (
        ">number",
        ">born (ps)",
        ">last seen (ps)",
        ">largest (atoms)",
        ">radius of gyration (Å)",
        "then made of",
        "fate",
    )
    return table(head, lines)
