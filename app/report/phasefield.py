"""The page of a phase-field run."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from ostwald.app import picture
from ostwald.app.report.page import heading, provenance, seconds_card, sources
from ostwald.app.report.plots import LINES, MUTED, blank, dress, legend, plain_log, svg_of, time_plot
from ostwald.app.report.run import Run
from ostwald.app.report.style import cards, document, number, seconds, table, tile_row
from ostwald.io.rates import LEAST


def page(run: Run) -> str:
    """The HTML of a run."""
    grid, model = run.settings.get("grid", {}), run.settings.get("model", {})
    surrogate = run.settings.get("surrogate")
    precision = (surrogate or grid).get("precision", "double")
    about = [f"{' × '.join(map(str, grid.get('shape', [])))} points, {precision} precision"]
    mobility = "" if surrogate else f", M = {model.get('mobility', 1.0)}"
    about.append(f"{model.get('well', 'double')} well, ε = {model.get('epsilon')}{mobility}")
    if surrogate:
        given = "".join(f", {name} {value:g}" for name, value in surrogate.get("parameters", {}).items())
        about.append(f"steps of the network {Path(surrogate['file']).name}{given}")
    misfit = run.settings.get("elasticity", {}).get("misfit")
    if misfit is not None:
        about.append(f"coherent, misfit {100 * misfit:g} %")
    body = [heading(run), f'<p class="lead">{escape("; ".join(about))}</p>', tile_row(tiles(run))]
    body += [slices(run), body_of(run)]
    plots = figures(run)
    if plots:
        body.append(f'<h2>Over time</h2><div class="two">{cards(plots)}</div>')
    if run.timing:
        t, memory = run.timing, run.timing["per_rank"]["resident_bytes"]
        rows = [
            ("ms/step", number(t["milliseconds_per_step"], 4)),
            ("million point-steps/s", number(t["point_steps_per_second"] / 1e6, 4)),
            ("ranks × threads", f"{t['ranks']} × {t['threads']}, {' × '.join(map(str, t['grid']))} parts"),
            ("memory of a rank (MB)", f"{number(memory['min'] / 1e6, 4)} to {number(memory['max'] / 1e6, 4)}"),
            ("a checkpoint (s)", number(t["checkpoint_seconds"], 3)),
        ]
        for name, what in (("checkpoints", "a checkpoint"), ("frames", "a frame")):
            f = t.get("files", {}).get(name, {})
            if f.get("bytes", 0) >= LEAST:
                mean = number(f["bytes"] / f["count"] / 1e6, 3)
                rows.append((f"{what} (MB, MB/s)", f"{mean}, {number(f['bytes_per_second'] / 1e6, 3)}"))
        if disk := t.get("files", {}).get("disk"):
            rates = [number(disk[key] / 1e6, 3) for key in ("bytes_per_second", "flushed_per_second")]
            rows.append(("the disk (MB/s), until flushed", ", ".join(rates)))
        card = f'<div class="card"><h3>Speed</h3>{table(["", ">"], rows)}</div>'
        body.append(f'<h2>Where the time went</h2><div class="two">{seconds_card(t)}{card}</div>')
    rows = []
    for k, stage in enumerate(run.stages, 1):
        t = stage.table
        length = f"{t['steps']} steps" if "steps" in t else f"time {t['time']:g}"
        rows.append((str(k), escape(t.get("name") or ""), step_length(t), length))
    stages = table(["", "stage", ">time step", "length"], rows)
    body.append(
        '<h2>How the run was made</h2><div class="two" style="grid-template-columns:1fr">'
        f'<div class="card"><h3>Stages</h3>{stages}</div>{provenance(run)}</div>'
    )
    return document(run.title, body + sources(run))


def step_length(stage) -> str:
    return f"tolerance {stage['tolerance']:g}" if stage.get("tolerance") else f"{stage['timestep']:g}"


def slices(run, most=4, width=480) -> str:
    """Planes through the middle of a few frames, from the first to the last, at times that grow like a power."""
    file = run.path / "fields.h5"
    if not file.exists():
        return ""
    from ostwald.io.fields import field_frames, open_field

    steps, times = field_frames(file)
    if not len(steps):
        return ""
    wanted = np.geomspace(1, times[-1] - times[0] + 1, most) - 1 + times[0] if len(times) > 1 else times
    chosen = sorted({int(np.argmin(np.abs(times - t))) for t in wanted})
    h = np.broadcast_to(run.settings["grid"].get("spacing", 1.0), len(run.settings["grid"]["shape"]))
    found, last = [], None
    for frame in reversed(chosen):
        field = open_field(file, frame=frame)
        plane = np.asarray(field[field.shape[0] // 2] if len(field.shape) == 3 else field[:, :], float)
        field.close()
        if last is None:
            last = plane.min(), plane.max()
        shade = np.clip((plane - last[0]) / max(last[1] - last[0], 1e-12), 0, 1)
        size = width, max(1, round(width * plane.shape[0] * h[-2] / (plane.shape[1] * h[-1])))
        found.append((f"t = {times[frame]:.4g}", picture.field_image(shade, size), f"step {steps[frame]}"))
    where = "The plane in the middle of the first axis." if len(h) == 3 else ""
    low, high = (number(x, 3) for x in last)
    note = f'<p class="note">{where} Dark: φ = {low}, bright: {high}, the range of the last picture.</p>'
    return f'<h2>The field</h2><div class="three">{cards(found[::-1])}</div>{note}'


def body_of(run) -> str:
    """The last frame of three dimensions as a body."""
    file = run.path / "fields.h5"
    if not file.exists() or len(run.settings["grid"]["shape"]) != 3:
        return ""
    from ostwald.app import surface
    from ostwald.io.fields import field_frames, open_field

    _, times = field_frames(file)
    if not len(times):
        return ""
    field = open_field(file)
    phi = surface.coarse(field)
    lengths = np.array(field.shape) * np.broadcast_to(run.settings["grid"].get("spacing", 1.0), 3)
    field.close()
    level = run.settings.get("analysis", {}).get("level", 0.5 * (phi.min() + phi.max()))
    if not phi.min() < level < phi.max():
        return ""
    shown = surface.image(phi, level, lengths / phi.shape)
    caption = f"Where φ > {level:.4g}; on the faces of the box φ itself, averaged over {_times(phi.shape)} points."
    return f'<h2>The body</h2><div class="two">{cards([(f"t = {times[-1]:.4g}", shown, caption)])}</div>'


def _times(shape) -> str:
    return " × ".join(map(str, shape))


def tiles(run) -> list[tuple[str, str, str]]:
    """(value, unit, what) of the numbers at the top."""
    found, s = [], run.series
    if run.has("energy"):
        volume = _volume(run)
        found.append((number(s["energy"][-1] / volume, 5), "", "free energy per volume at the end"))
        found.append((number(s["mean"][-1], 6), "", "mean of φ"))
        drift = np.ptp(s["mean"])
        found.append(("0" if drift == 0 else number(drift, 2), "", "drift of the mean"))
        found.append((number(run.time[-1], 5), "", "time"))
    if run.timing:
        t = run.timing
        found.append((str(t["total_steps"]), "", "steps"))
        found.append((seconds(t["total_wall_seconds"]), "", f"wall time, {t['ranks']} ranks"))
        found.append((number(t["point_steps_per_second"] / 1e6, 3), "million/s", "points × steps, all included"))
    return found


def _volume(run) -> float:
    grid = run.settings["grid"]
    return float(np.prod(grid["shape"]) * np.prod(np.broadcast_to(grid.get("spacing", 1.0), len(grid["shape"]))))


def figures(run) -> list[tuple[str, str, str]]:
    """(title, SVG, caption) of each plot that the series can fill."""
    if not run.has("energy", "bulk", "gradient"):
        return []
    s, volume = run.series, _volume(run)
    names = ["energy", "bulk", "gradient"] + (["elastic"] if np.any(s["elastic"]) else [])
    lines = [("F" if name == "energy" else name, s[name] / volume) for name in names]
    found = [
        (
            "Free energy",
            time_plot(run, "energy", "energy / volume", lines, floor=0 if s["bulk"].min() >= 0 else None),
            "",
        )
    ]
    later = (run.time > 0) & (s["energy"] > 0)
    if np.count_nonzero(later) > 5:
        caption = "Both axes logarithmic; late coarsening goes with t to the power −1/3 (dashed)."
        found.append(("Decay of the free energy", _decay(run.time[later], s["energy"][later] / volume), caption))
    found.append(
        (
            "Range of φ",
            time_plot(run, "range", "φ", [("highest", s["high"]), ("mean", s["mean"]), ("lowest", s["low"])]),
            "",
        )
    )
    if run.has("interface_length") and np.isfinite(s["interface_length"]).any():
        lengths = [("2 V/area", np.where(np.isfinite(s["interface_length"]), s["interface_length"], np.nan))]
        if run.has("length"):  # a box with walls has no structure factor
            lengths.insert(0, ("2π Σ S/Σ k S", s["length"]))
        found.append(
            (
                "Characteristic lengths",
                time_plot(run, "length", "length", lengths, floor=0),
                "Of the structure factor, and of the interface." if run.has("length") else "Of the interface.",
            )
        )
    found += spectra(run)
    if run.has("euler_high"):
        lines = [(f"φ {phase}", s[f"euler_{phase}"]) for phase in ("high", "low")]
        found.append(("Euler numbers", time_plot(run, "euler", "domains − handles + cavities", lines, zero=True), ""))
    if run.has("domains_high"):
        lines = [(f"φ {phase}", np.maximum(s[f"domains_{phase}"], 0.5)) for phase in ("high", "low")]
        found.append(
            (
                "Domains",
                time_plot(run, "domains", "domains", lines, logarithmic=True),
                "Connected regions of each phase.",
            )
        )
    if run.has("timestep") and np.ptp(s["timestep"][np.isfinite(s["timestep"])]) > 0:
        svg = time_plot(run, "timestep", "time step", [("dt", s["timestep"])], logarithmic=True)
        found.append(("Time step", svg, "Of the step before each row."))
    if len(run.time) > 2:
        speed = s["point_steps_per_second"] / 1e6
        speed = np.where(speed > 0, speed, np.nan)
        svg = time_plot(run, "speed", "10⁶ point-steps/s", [("speed", speed)], floor=0)
        found.append(("Speed", svg, "All ranks together, between rows of the series, output included."))
    return found


def spectra(run, most=5) -> list[tuple[str, str, str]]:
    """Structure factors of a few times, as they are and over the length that they have then."""
    file = run.path / "profiles.h5"
    if not file.exists():
        return []
    from ostwald.io.profiles import read_profiles

    rows, over = read_profiles(file)
    rows = rows[rows["structure_factor"].max(axis=1) > 0] if len(rows) else rows
    if not len(rows):
        return []
    wanted = np.geomspace(1, rows["time"][-1] - rows["time"][0] + 1, most) - 1 + rows["time"][0]
    rows = rows[sorted({int(np.argmin(np.abs(rows["time"] - t))) for t in wanted})]
    k, dimensions = over["wave_number"], len(run.settings["grid"]["shape"])
    s = rows["structure_factor"]
    plain = [(f"t = {t:.3g}", k, row) for t, row in zip(rows["time"], s)]
    found = [
        ("Structure factor", _powers(plain, "structure", "k", "S(k)"), "Mean over directions, both axes logarithmic.")
    ]
    length = 2 * np.pi * s.sum(axis=1) / (s @ k)
    variance = s @ over["modes"] / _volume(run)
    scaled = [
        (f"t = {t:.3g}", k * a / (2 * np.pi), row / (v * a**dimensions))
        for t, a, v, row in zip(rows["time"], length, variance, s)
        if t > 0
    ]
    if not scaled:
        return found
    caption = "Where coarsening is self-similar the curves of late times fall on one another; dashed: Porod's law."
    plot = _powers(scaled, "scaling", "k L/2π", f"S/(L{'²³'[dimensions - 2]} variance)", -(dimensions + 1))
    return [*found, ("Structure factor, scaled", plot, caption)]


def _powers(curves, name, xlabel, ylabel, power=None) -> str:
    """Curves (label, x, y) on logarithmic axes, over five decades of y, and behind the last one a power of x."""
    figure, axes = blank()
    for (label, x, y), colour in zip(curves, LINES):
        axes.loglog(x[y > 0], y[y > 0], color=colour, linewidth=1.3, label=label)
    top = max(y.max() for _, _, y in curves)
    axes.set_ylim(1e-5 * top, 2 * top)
    if power is not None:
        _, x, y = curves[-1]
        tail = (x > 1.5) & (x < 4) & (y > 0)
        if tail.any():
            height = np.exp(np.mean(np.log(y[tail] / x[tail] ** power)))
            axes.loglog(x[tail], 2 * height * x[tail] ** power, color=MUTED, linewidth=1.0, linestyle=(0, (5, 3)))
    plain_log(axes.xaxis)
    dress(axes, xlabel, ylabel)
    legend(figure, axes)
    return svg_of(figure, name)


def _decay(time, energy) -> str:
    """log F over log t, beside the power law of coarsening through the last point."""
    figure, axes = blank()
    axes.loglog(time, energy, color=LINES[0], linewidth=1.4, label="F / volume")
    late = time >= time[-1] / 10
    axes.loglog(
        time[late],
        1.15 * energy[-1] * (time[late] / time[-1]) ** (-1 / 3),
        color=LINES[1],
        linewidth=1.0,
        linestyle=(0, (5, 3)),
        label="t^(−1/3)",
    )
    plain_log(axes.yaxis)
    dress(axes, "time", "energy / volume")
    legend(figure, axes)
    return svg_of(figure, "decay")
