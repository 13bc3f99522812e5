"""The page of a nucleation experiment: rates, critical sizes and TTT diagram from replicas."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from ostwald.app.analysis import nucleation
from ostwald.app.analysis.nucleation import PER_M3_S
from ostwald.app.replicas import LEVEL, SIZES, lines_of
from ostwald.app.report.plots import INK, LINES, MUTED, blank, dress, legend, plain_log, svg_of, time_unit
from ostwald.app.report.style import cards, document, number, table
from ostwald.io.text import write_text


def write_page(groups, target) -> Path:
    """Writes the page of evaluated groups (`app.replicas`) and returns its path."""
    write_text(target, page(groups))
    return Path(target)


def page(groups) -> str:
    """The HTML of evaluated groups."""
    count = sum(len(g.replicas) for g in groups)
    body = [
        "<h1>Nucleation</h1>",
        f'<p class="lead">{count} replicas in {len(groups)} group{"s" if len(groups) > 1 else ""}. Sizes are '
        f"{SIZES[groups[0].replicas[0].measure]}; the clock of a replica starts with its isothermal stage.</p>",
    ]
    across = [f for f in (_ttt(groups), _rates(groups)) if f]
    if len(groups) > 1 and across:
        body.append(f'<h2>All temperatures</h2><div class="two">{cards(across)}</div>')
    for k, group in enumerate(groups):
        body.append(f'<h2>{escape(group.title)}</h2><p class="note">{escape(group.replicas[0].analysis)}.</p>')
        body.append(f'<div class="two">{cards(_figures(group, f"g{k}"))}{_facts(group)}</div>')
        body.append(_replicas(group))
    return document("Nucleation", body)


def _facts(group) -> str:
    items = "".join(f"<dt>{escape(what)}</dt><dd>{escape(value)}</dd>" for what, value in lines_of(group))
    return f'<div class="card"><h3>Results</h3><dl>{items}</dl></div>'


def _replicas(group) -> str:
    rows = []
    for k, (one, at) in enumerate(zip(group.replicas, group.transformed)):
        time, nucleated = group.induction[k] if group.induction else (np.nan, False)
        rows.append(
            (
                escape(one.path.name),
                str(one.seed),
                number(one.time[-1], 4),
                number(time, 4) if nucleated else ("" if not np.isfinite(time) else f"not by {number(time, 4)}"),
                number(one.size.max(), 4),
                number(at, 4) if np.isfinite(at) else "",
            )
        )
    level = f">{100 * LEVEL:g} % solid (ps)"
    head = ("run", ">seed", ">observed (ps)", ">induction time (ps)", ">largest (atoms)", level)
    return f'<details><summary>Replicas</summary><div class="card" style="margin-top:10px">{table(head, rows)}</div></details>'


def _figures(group, name):
    """(title, SVG, caption) of the plots of a group."""
    found = [("Growth", _sizes(group, name), _sizes_caption(group))]
    if group.survival and group.survival.events:
        percent = f"{100 * group.survival.confidence:g} %"
        caption = f"Steps: Kaplan–Meier; ticks: replicas whose run ended. Line and band: exp(−J\u00a0V\u00a0(t\u00a0−\u00a0t₀)) and its {percent} interval."
        found.append(("Melts that have not nucleated", _survival(group, name), caption))
    if group.first_passage:
        caption = "Points: mean over replicas. Line: τ_J/2 [1 + erf(b(n − n*))]"
        caption += " and the time that growth takes." if np.isfinite(group.first_passage.growth) else "."
        found.append(("Mean first-passage time", _passage(group, name), caption))
    return found


def _sizes(group, name):
    """n(t) of all replicas."""
    figure, axes = blank()
    unit, scale = time_unit(max(r.time[-1] for r in group.replicas))
    colours = {True: LINES[0], False: MUTED}
    for k, one in enumerate(group.replicas):
        nucleated = group.induction[k][1] if group.induction else True
        axes.plot(one.time * scale, np.maximum(one.size, 1), color=colours[nucleated], linewidth=0.7, alpha=0.75)
    for time, nucleated in group.induction:
        if nucleated:
            axes.plot(time * scale, group.threshold, "o", color=LINES[1], markersize=3.5, zorder=5)
    axes.set_yscale("log")
    if group.threshold:
        axes.axhline(group.threshold, color=LINES[1], linewidth=0.9, zorder=4)
    if group.first_passage:
        axes.axhline(group.first_passage.critical, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=4)
    axes.set_xlim(0, None)
    dress(axes, f"time ({unit})", "size n (atoms)")
    return svg_of(figure, f"{name}-sizes")


def _sizes_caption(group):
    text = f"n(t): {SIZES[group.replicas[0].measure]}, one line a replica"
    if group.first_passage:
        text += "; dashed: critical size n*"
    if group.threshold:
        text += "; orange: the threshold, a dot where a replica nucleated; grey: those that did not"
    return text + "."


def _survival(group, name):
    found = group.survival
    times, nucleated = (np.array(x) for x in zip(*group.induction))
    unit, scale = time_unit(times.max())
    figure, axes = blank()
    at, p, _, _ = nucleation.kaplan_meier(times, nucleated)
    last = times.max() * 1.03
    axes.step(
        np.concatenate([[0], at, [last]]) * scale,
        np.concatenate([[1], p, p[-1:]]),
        where="post",
        color=LINES[0],
        linewidth=1.5,
        label="replicas",
    )
    ended = times[~nucleated]
    height = p[np.searchsorted(at, ended, side="right") - 1] * (ended >= at[0]) + (ended < at[0])
    axes.plot(ended * scale, height, "|", color=LINES[0], markersize=7)
    t = np.linspace(0, last, 300)
    axes.plot(t * scale, found.probability(t, group.volume), color=LINES[1], linewidth=1.4, label="fit")
    low, high = (found.probability(t, group.volume, rate) for rate in found.interval)
    axes.fill_between(t * scale, high, low, color=LINES[1], alpha=0.18, linewidth=0)
    axes.set_xlim(0, last * scale)
    axes.set_ylim(0, 1.02)
    dress(axes, f"time ({unit})", "P(t)")
    legend(figure, axes)
    return svg_of(figure, f"{name}-survival")


def _passage(group, name):
    found = group.first_passage
    unit, scale = time_unit(found.passage.max())
    figure, axes = blank()
    n = np.linspace(found.levels[0], found.levels[-1], 400)
    few = max(len(found.levels) // 60, 1)
    axes.plot(found.levels[::few], found.passage[::few] * scale, "o", color=LINES[0], markersize=3, label="replicas")
    axes.plot(n, found.curve(n) * scale, color=LINES[1], linewidth=1.4, label="fit")
    axes.axvline(found.critical, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    if "critical" in found.intervals:
        axes.axvspan(*found.intervals["critical"], color=INK, alpha=0.08, linewidth=0)
    axes.axhline(found.tau * scale, color=MUTED, linewidth=0.8)
    axes.annotate(
        "mean time of nucleation",
        (1, found.tau * scale),
        xycoords=("axes fraction", "data"),
        xytext=(-2, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8.5,
        color=MUTED,
    )
    axes.annotate(
        "n*",
        (found.critical, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -2),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8.5,
        color=INK,
    )
    axes.set_ylim(0, None)
    axes.set_xlim(0, found.levels[-1])
    dress(axes, "size n (atoms)", f"τ(n) ({unit})")
    legend(figure, axes)
    return svg_of(figure, f"{name}-passage")


def _ttt(groups):
    """Time to `LEVEL` solid against temperature; None where no replica got there."""
    if not any(np.isfinite(g.transformed).any() for g in groups):
        return None
    figure, axes = blank(6.2, 3.1)
    line = []
    for g in groups:
        temperature = g.replicas[0].temperature
        done = np.isfinite(g.transformed)
        axes.plot(g.transformed[done], np.full(done.sum(), temperature), "o", color=LINES[0], markersize=3.5, alpha=0.7)
        ended = np.array([r.time[-1] for r in g.replicas])[~done]
        axes.plot(ended, np.full(len(ended), temperature), ">", color=MUTED, markersize=4)
        if g.half_transformed:
            line.append((g.half_transformed, temperature))
    if len(line) > 1:
        axes.plot(*zip(*line), color=LINES[1], linewidth=1.4)
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    axes.margins(y=0.12)
    dress(axes, "time (ps)", "temperature (K)")
    caption = (
        f"Time to {100 * LEVEL:g} % solid of each replica; arrows: not within the run. Line: half of the replicas."
    )
    return "Time, temperature, transformation", svg_of(figure, "ttt"), caption


def _rates(groups):
    """J against temperature, both ways; None with fewer than two temperatures."""
    figure, axes = blank(6.2, 3.1)
    shown = 0
    for k, (name, label) in enumerate((("survival", "survival"), ("first_passage", "first passage"))):
        points = []
        for g in groups:
            found = getattr(g, name)
            if found and found.rate > 0:
                interval = found.interval if name == "survival" else found.intervals.get("rate", (found.rate,) * 2)
                points.append((g.replicas[0].temperature, found.rate, *interval))
        if points:
            t, rate, low, high = np.array(points).T
            rate, low, high = rate * PER_M3_S, low * PER_M3_S, high * PER_M3_S
            error = np.maximum([rate - low, high - rate], 0)
            axes.errorbar(t + 2 * k, rate, error, fmt="os"[k], color=LINES[k], markersize=4, capsize=2, label=label)
            shown = max(shown, len(points))
    if shown < 2:
        return None
    axes.set_yscale("log")
    dress(axes, "temperature (K)", "J (m⁻³ s⁻¹)")
    legend(figure, axes)
    return "Nucleation rate", svg_of(figure, "rates"), "With the intervals of the tables below."
