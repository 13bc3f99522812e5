"""Plots of the report pages: drawn by matplotlib, put into the page as SVG in the page's own colours and fonts."""

from __future__ import annotations

import re
from html import escape
from io import StringIO

import numpy as np

# Colours of the plots; in the page they become variables, so that light and dark have their own.
PAPER = {"#101112": "--ink", "#707172": "--muted", "#d0d1d2": "--grid", "#e8e9ea": "--band"}
INK, MUTED, GRID, BAND = PAPER
LINES = ("#1f6fd1", "#d9622b", "#2f9e5b", "#8a56c9", "#c43c6b", "#8a7a2e")
PAPER |= {colour: f"--line{k}" for k, colour in enumerate(LINES)}


def svg_of(figure, name) -> str:
    """The figure as an inline SVG element whose colours and fonts are the page's."""
    import matplotlib

    stream = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.S)  # a style here would rule the whole page
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ((?:\d+ )?)([\d.]+)px [^;\"]*", r"font-size: \2px", text)
    for number in sorted(set(re.findall(r'id="([^"]+)"', text)), key=len, reverse=True):
        text = re.sub(rf'(id="|url\(#|href="#){re.escape(number)}(["\)])', rf"\1{name}-{number}\2", text)
    for colour, variable in PAPER.items():
        text = text.replace(colour, f"var({variable})")
    return text.replace("<svg ", f'<svg class="plot" role="img" aria-label="{escape(name)}" ', 1)


def blank(width=6.2, height=2.75):
    """(figure, axes) of a plot that is this many inches wide and high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def time_unit(longest) -> tuple[str, float]:
    """("ps" or "ns", factor from ps) for times up to `longest` ps."""
    return ("ns", 1e-3) if longest > 5000 else ("ps", 1.0)


def dress(axes, xlabel, ylabel):
    """Labels, grid, ticks and spines as all plots have them."""
    axes.set_xlabel(xlabel, color=INK, fontsize=9)
    axes.set_ylabel(ylabel, color=INK, fontsize=9)
    axes.tick_params(colors=INK, labelsize=8.5, color=MUTED)
    axes.tick_params(which="minor", color=GRID)
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)


def plain_log(axis):
    """Labels of a logarithmic axis that spans few decades: 1, 2, 5 × 10^k as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    many = high > 30 * low
    axis.set_major_locator(LogLocator(subs=(1,) if high > 1000 * low else (1, 3) if many else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(figure, axes):
    """The legend in a row above the plot, flush right."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper right",
        ncols=len(labels),
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
        handlelength=1.2,
        columnspacing=1.2,
    )


def time_plot(run, name, ylabel, lines, *, floor=None, ceiling=None, zero=False, areas=None, logarithmic=False):
    """A plot over time: lines is [(label, values)]; areas [(label, colour, values)] are stacked instead. SVG text."""
    time = run.time
    unit, scale = time_unit(time[-1]) if run.time_unit == "ps" else (run.time_unit, 1.0)
    figure, axes = blank()
    x = time * scale
    if areas:
        base = np.zeros(len(x))
        for label, colour, values in areas:
            good = np.isfinite(values)
            axes.fill_between(x[good], base[good], (base + values)[good], color=colour, linewidth=0, label=label)
            base = base + np.where(good, values, 0.0)
    for k, (label, values) in enumerate(lines):
        good = np.isfinite(values)
        colour = INK if areas else LINES[k % len(LINES)]  # areas have colours of their own
        axes.plot(x[good], values[good], color=colour, linewidth=1.4, label=label)
    if logarithmic:
        axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low if floor is None else floor, high if ceiling is None else ceiling)
    if zero:
        axes.axhline(0, color=MUTED, linewidth=0.7)
    axes.set_xlim(x[0], max(x[-1], x[0] + 1e-9))
    begin = 0.0
    width = max(time[-1] - time[0], 1e-12)
    for k, stage in enumerate(run.stages):
        if stage.end is None or begin >= time[-1] or stage.end <= begin:
            continue
        end = min(stage.end, time[-1])
        if k % 2:
            axes.axvspan(begin * scale, end * scale, color=BAND, zorder=-2, linewidth=0)
        if (end - begin) / width > 0.03 and len(run.stages) > 1:
            middle = 0.5 * (begin + end) * scale
            place = axes.get_xaxis_transform()
            axes.text(middle, 1.02, str(k + 1), transform=place, ha="center", va="bottom", fontsize=8, color=MUTED)
        begin = stage.end
    dress(axes, f"time ({unit})" if unit else "time", ylabel)
    if not logarithmic:
        axes.ticklabel_format(useOffset=False, axis="y")
    if len(lines) + len(areas or ()) > 1:
        legend(figure, axes)
    return svg_of(figure, name)
