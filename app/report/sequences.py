"""The page of a set of sequences."""

from __future__ import annotations

from html import escape

import numpy as np

from ostwald.app import picture
from ostwald.app.jobs.sequences_schema import Plan
from ostwald.app.report.page import heading, provenance, seconds_card, sources
from ostwald.app.report.plots import INK, LINES, blank, dress, legend, svg_of
from ostwald.app.report.run import Run
from ostwald.app.report.style import cards, document, number, seconds, table, tile_row
from ostwald.io.sequences import FINISHED, GIVEN_UP, Sequences

MOST = 24
"""Sequences in the montage."""
HOMOGENEOUS = 0.05
"""Span of φ below which a field has not decomposed (Lanzoni et al., section 7.5)."""


def page(run: Run) -> str:
    """The HTML of a set."""
    file = run.path / "sequences.h5"
    plan = Plan(run.settings, run.path / "run.toml")
    values = plan.of(0)
    body = [heading(run), f'<p class="lead">{escape(_about(plan, values))}</p>']
    if file.exists():
        with Sequences(file) as data:
            body += [tile_row(_tiles(run, data)), _montage(data), _evolution(data)]
            if plots := _figures(plan, data):
                body.append(f'<h2>The set</h2><div class="two">{cards(plots)}</div>')
            body.append(_parameters(data))
    if run.timing:
        t = run.timing
        memory, busy = t["per_rank"]["resident_bytes"], t["per_rank"]["busy_seconds"]
        rows = [
            ("sequences/min", number(60 * t["sequences"] / t["wall_seconds"], 4)),
            ("million point-steps/s", number(t["point_steps_per_second"] / 1e6, 4)),
            ("ranks × threads", f"{t['ranks']} × {t['threads']}"),
            ("a rank was busy for (s)", f"{number(busy['min'], 4)} to {number(busy['max'], 4)}"),
            ("memory of a rank (MB)", f"{number(memory['min'] / 1e6, 4)} to {number(memory['max'] / 1e6, 4)}"),
        ]
        card = f'<div class="card"><h3>Speed of the last part</h3>{table(["", ">"], rows)}</div>'
        body.append(f'<h2>Where the time went</h2><div class="two">{seconds_card(t)}{card}</div>')
    body.append(
        f'<h2>How the set was made</h2><div class="two" style="grid-template-columns:1fr">{provenance(run)}</div>'
    )
    return document(run.title, body + sources(run))


def _about(plan, values) -> str:
    grid, model, given = values["grid"], values["model"], plan.values["set"]
    text = f"{given['count']} sequences of {given['frames']} frames, {given['interval']:g} apart, on "
    text += f"{' × '.join(map(str, grid['shape']))} points; {model['well']} well, ε = {model['epsilon']:g}"
    return text + f"; 1 of {given['stride']} points along each axis is kept" * (given["stride"] > 1)


def _tiles(run, data):
    state, energy = data.state, data.table("energy")
    done, lost = int(np.sum(state == FINISHED)), int(np.sum(state == GIVEN_UP))
    size = data.dtype.itemsize * float(np.prod(data.shape))
    found = [(f"{done} of {len(data)}", "", "sequences finished")]
    if lost:
        found.append((str(lost), "", "given up"))
    found.append((number(size / 1e9, 3), "GB", f"the whole set, {data.dtype.name}"))
    if done:
        volume = _volume(data)
        found.append(
            (
                f"{number(np.nanmean(energy[:, 0]) / volume, 3)} → {number(np.nanmean(energy[:, -1]) / volume, 3)}",
                "",
                "mean energy per volume, first and last frame",
            )
        )
        found.append((number(np.nanmean(data.table("mean")), 4), "", "mean of φ over the set"))
        found.append((seconds(np.nanmean(data.table("seconds"))), "", "wall time of a sequence"))
    if data.validation.any():
        found.append((f"{int(np.sum(~data.validation))} : {int(np.sum(data.validation))}", "", "training : validation"))
    return found


def _volume(data) -> float:
    """Of the whole grid."""
    return float(np.prod(data.shape[2:]) * np.prod(data.spacing))


def _name(key) -> str:
    return key.rpartition(".")[2]


def _label(data, k) -> str:
    return ", ".join(f"{_name(key)} {values[k]:.3g}" for key, values in data.parameters.items())


def _plane(data, k, frame):
    field = data.read(k, frame, frame + 1)[0].astype(float)
    return field[len(field) // 2] if field.ndim == 3 else field


def _image(plane, width):
    height = max(1, round(width * plane.shape[0] / plane.shape[1]))
    return picture.field_image(np.clip(plane, 0, 1), (width, height))


def _montage(data) -> str:
    numbers = data.numbers()
    if not len(numbers):
        return ""
    chosen = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(MOST, len(numbers))).round().astype(int))]
    pictures = [(f"{data.first[k]}", _image(_plane(data, k, -1 % data.shape[1]), 220), _label(data, k)) for k in chosen]
    where = "The plane in the middle of the first axis. " if len(data.shape) == 5 else ""
    note = f'<p class="note">{where}Dark: φ = 0, bright: 1.</p>'
    return f'<h2>Last frames</h2><div class="many">{cards(pictures)}</div>{note}'


def _evolution(data, most=6) -> str:
    numbers = data.numbers()
    if not len(numbers) or data.shape[1] < 2:
        return ""
    energy = data.table("energy")[numbers]
    k = int(numbers[np.argmax(energy[:, 0] - energy[:, -1])])  # where most happens
    frames = np.unique(np.linspace(0, data.shape[1] - 1, most).round().astype(int))
    pictures = [
        (f"t = {data.start[k] + f * data.interval:.4g}", _image(_plane(data, k, f), 220), f"frame {f}") for f in frames
    ]
    return f'<h2>Sequence {data.first[k]}</h2><div class="many">{cards(pictures)}</div>'


def _figures(plan, data):
    done = data.state == FINISHED
    if not done.any():
        return []
    found = []
    if diagram := _diagram(plan, data):
        found.append(diagram)
    energy = data.table("energy")[done] / _volume(data)
    time = data.interval * np.arange(data.shape[1])
    low, middle, high = np.quantile(energy, [0.1, 0.5, 0.9], axis=0)
    figure, axes = blank()
    axes.fill_between(time, low, high, color=LINES[0], alpha=0.2, linewidth=0, label="10 to 90 %")
    axes.plot(time, middle, color=LINES[0], linewidth=1.4, label="median")
    dress(axes, "time since the first frame", "energy / volume")
    legend(figure, axes)
    found.append(("Free energy", svg_of(figure, "energy"), ""))
    found.append(("Means", _histogram(data.table("mean")[done], "mean of φ"), ""))
    for key, values in data.parameters.items():
        found.append((key, _histogram(values[done], _name(key), f"of {key}"), ""))
    span = (data.table("high") - data.table("low"))[done, -1]
    found.append(("Span of φ in the last frame", _histogram(span, "highest − lowest φ"), ""))
    return found


def _histogram(values, xlabel, name=None) -> str:
    figure, axes = blank()
    if len(values) and np.ptp(values) <= 1e-9 * np.abs(values).max(initial=0):  # means that differ by rounding only
        values = np.full(len(values), values[0])
    distinct = np.unique(values)
    if len(distinct) <= 12 and len(distinct) < len(values):
        axes.bar([f"{x:g}" for x in distinct], [np.sum(values == x) for x in distinct], color=LINES[0], width=0.6)
    else:
        axes.hist(values, min(40, max(8, int(np.sqrt(len(values))))), color=LINES[0])
    dress(axes, xlabel, "sequences")
    return svg_of(figure, f"histogram {name or xlabel}")


def _diagram(plan, data):
    """Which sequences decomposed, over mean and misfit, with the line of linear stability."""
    if "elasticity.misfit" not in data.parameters:
        return None
    mean, span = data.table("mean"), (data.table("high") - data.table("low"))[:, -1]
    misfit, done = 100 * data.parameters["elasticity.misfit"], data.state == FINISHED
    line = stability_line(plan)
    figure, axes = blank(6.2, 4.2)
    for k, (label, chosen) in enumerate((("decomposed", span >= HOMOGENEOUS), ("homogeneous", span < HOMOGENEOUS))):
        chosen = chosen & done
        axes.plot(mean[chosen], misfit[chosen], "os"[k], color=LINES[1 - k], markersize=3, label=label, linewidth=0)
    if line is not None:
        axes.plot(line[:, 1], 100 * line[:, 0], color=INK, linewidth=1.2, label="linear stability")
    dress(axes, "mean of φ", "misfit (%)")
    legend(figure, axes)
    return (
        "Phase diagram",
        svg_of(figure, "diagram"),
        f"Homogeneous: φ spans less than {HOMOGENEOUS:g} in the last frame.",
    )


def stability_line(plan, points=400) -> np.ndarray | None:
    """(misfit, φ) of the border between stable and unstable mixtures, as one line, from a misfit of zero to where it closes;
    None where the elastic energy of a wave does not go with the square of the misfit, and where there is one phase only.
    """
    from ostwald.app.jobs.phasefield_setup import make_elasticity, make_well
    from ostwald.app.phasefield import Elasticity
    from ostwald.app.phasefield.stability import softest, unstable

    values = plan.of(0)
    well, minima = make_well(values["model"]), make_well(values["model"]).minima()
    elasticity = make_elasticity(values["elasticity"] | dict(misfit=1.0), len(values["grid"]["shape"]), well)
    if not isinstance(elasticity, Elasticity) or len(minima) < 2 or softest(elasticity) <= 0:
        return None
    unit, low, high = softest(elasticity), minima[0], minima[-1]
    closing = np.sqrt(max(0.0, -float(np.min(well.energy(np.linspace(low, high, 4097), 2)))) / unit)
    misfits = closing * np.sqrt(1 - np.linspace(1, 0, points) ** 4)
    found = [(m, unstable(well, unit * m * m, low, high)) for m in misfits]
    left = [(m, edges[0]) for m, edges in found if edges]
    right = [(m, edges[1]) for m, edges in found if edges]
    return np.array(left + right[::-1])


def _parameters(data) -> str:
    if not data.parameters:
        return ""
    rows = [
        (f"<code>{escape(key)}</code>", *(number(f(values), 4) for f in (np.min, np.mean, np.max, np.std)))
        for key, values in data.parameters.items()
    ]
    return (
        f'<h2>What varies</h2><div class="card">{table(["", ">lowest", ">mean", ">highest", ">deviation"], rows)}</div>'
    )
