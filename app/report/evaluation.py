"""The page of an evaluation of surrogates."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np

from ostwald.app import picture
from ostwald.app.jobs.sequences_schema import Plan
from ostwald.app.report.page import heading, provenance, seconds_card, sources
from ostwald.app.report.plots import INK, LINES, MUTED, blank, dress, legend, plain_log, svg_of
from ostwald.app.report.run import Run
from ostwald.app.report.sequences import stability_line
from ostwald.app.report.style import cards, document, number, seconds, table, tile_row
from ostwald.app.runfile import load_toml
from ostwald.app.surrogate.scores import front
from ostwald.io.arrayfile import open_arrays
from ostwald.io.text import read_text

CURVES = (
    ("rmse", "RMSE of φ"), ("delta", "displacement of interfaces, δ̄"), ("mae", "mean |φ − φ̂|"), ("energy_error", "|F̂ − F|/F"),
    ("interface_error", "relative error of the interface"), ("length_error", "relative error of the length of S(k)"),
    ("spectrum_error", "relative error of S(k)"), ("ssim", "structural similarity"), ("iou", "intersection over union"),
    ("pearson", "correlation"),
)  # fmt: skip
COURSES = (
    ("energy", "F/V"), ("elastic", "elastic energy/V"), ("interface", "interface/V"), ("length", "length of S(k)"),
    ("euler_high", "Euler number of high φ"), ("fractal_dimension", "fractal dimension"), ("isotropy", "isotropy"),
)  # fmt: skip
PARITY = (
    ("energy", "F/V"), ("elastic", "elastic energy/V"), ("interface", "interface/V"), ("length", "length of S(k)"),
    ("fractal_dimension", "fractal dimension"), ("isotropy", "isotropy"),
)  # fmt: skip
NAMES = dict(CURVES)
PICTURE = 170
"""Pixels."""


def page(run: Run) -> str:
    """The HTML of an evaluation."""
    file = run.path / "evaluation.json"
    found = json.loads(read_text(file))["protocols"] if file.exists() else []
    names = [t.get("name") or t.get("file") or t["kind"] for t in run.settings.get("model", [])]
    body = [heading(run), f'<p class="lead">{escape(f"{len(names)} models, {len(found)} protocols")}</p>']
    if run.timing:
        t = run.timing
        body.append(
            tile_row(
                [
                    (f"{t['cases']} of {t['count']}", "", "cases"),
                    (seconds(t["wall_seconds"]), "", f"wall time, {t['ranks']} ranks"),
                ]
            )
        )
    for place, protocol in enumerate(found):
        body.append(_protocol(run, place, protocol))
    if run.timing:
        body.append(f'<h2>Where the time went</h2><div class="two">{seconds_card(run.timing)}</div>')
    body.append(
        f'<h2>How the run was made</h2><div class="two" style="grid-template-columns:1fr">{provenance(run)}</div>'
    )
    return document(run.title, body + sources(run))


def _protocol(run, place, found) -> str:
    shape, several = " × ".join(map(str, found["shape"])), found["count"] > 1
    about = f"{found['count']} case{'s' * several}, {shape} points, {len(found['times'])} frames up to t = {found['times'][-1]:g}."
    body = [f"<h2>{escape(found['name'])}</h2>", f'<p class="note">{about}</p>', _scores(found)]
    body += _snapshots(run, place, found)
    bands = "Medians over cases; bands hold the middle half." if several else ""
    plots = [(_upper(title), _errors(found, place, column, title), bands) for column, title in CURVES]
    plots += [(_upper(title), _course(found, place, column, title), bands) for column, title in COURSES]
    if several:
        means = _course(found, place, "energy", "F/V", moments=True)
        plots.append(("F/V, means", means, "Means over cases; bands: one standard deviation on either side."))
    plots += [(f"{_upper(title)}, last frame", _parity(found, place, column, title), "") for column, title in PARITY]
    plots += [("Structure factor, last frame, first case", _spectra(run, place, found), "")]
    plots += [
        (f"Cost and error: {NAMES[c]}", _costs(found, place, c), _CLOCK)
        for c in ("delta", "energy_error", "length_error")
    ]
    plots += [
        (
            "Who decomposes",
            _diagram(run, found, place),
            "Filled: the truth decomposes; crosses: the model says otherwise.",
        )
    ]
    plots = [plot for plot in plots if plot[1]]
    body.append(f'<div class="two">{cards(plots)}</div>')
    body += [_clock(found), _stationary(found), _amplitudes(found)]
    return "".join(body)


_CLOCK = "Processor seconds of a case; errors are means over frames and cases. The line joins the solvers that nothing cheaper beats."


def _upper(title) -> str:
    return title[0].upper() + title[1:]


def _card(title, head, rows, note="") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    inside = f'<h3>{escape(title)}</h3><div class="scroll">{table(head, rows)}</div>{note}'
    return f'<div class="two" style="grid-template-columns:1fr;margin-top:16px"><div class="card">{inside}</div></div>'


def _cell(x, digits=3) -> str:
    return "–" if x is None else number(x, digits)


def _scores(found) -> str:
    head = [
        "model",
        ">RMSE",
        ">δ̄",
        ">MAE",
        ">IoU",
        ">correlation",
        ">SSIM",
        ">|ΔF|/F",
        ">interface",
        ">length",
        ">S(k)",
    ]
    head += [">F ~ t^p", ">F as one until", ">largest drift of the mean", ">CPU s", ">lost"]
    columns = ("rmse", "delta", "mae", "iou", "pearson", "ssim", "energy_error", "interface_error", "length_error")
    rows = []
    for name, m in found["models"].items():
        cells = [_cell(m["errors"][c]["median"][-1]) for c in (*columns, "spectrum_error")]
        rows.append(
            (
                escape(name),
                *cells,
                _exponent(m),
                _cell(m["together"]),
                _cell(m["drift"], 2),
                _cell(m["seconds"]),
                str(m["lost"]),
            )
        )
    blank_cells = ["–"] * (len(columns) + 1)
    truth = next(iter(found["truth"].values()))
    rows.append(("truth", *blank_cells, _exponent(truth), "–", "–", _cell(found["seconds"]), ""))
    note = "Errors: medians over cases in the last frame. p: of the mean over cases, with its standard error. F as one: until then "
    note += "the medians of truth and model lie within each other's quartiles."
    return _card("Last frame", head, rows, note)


def _exponent(m) -> str:
    d = m["decay"]
    return "–" if d["exponent"] is None else f"{d['exponent']:.3f}\u00a0±\u00a0{d['error']:.3f}".replace("-", "−")


def _lines(models):
    """(label, model, colour): the first models in colours, further ones grey, with one label for all of them."""
    found = []
    for k, (name, m) in enumerate(models.items()):
        beyond = k - len(LINES)
        found.append((name, m, LINES[k]) if beyond < 0 else ("others" if beyond == 0 else "_other", m, MUTED))
    return found


def _array(values):
    return np.array([np.nan if x is None else x for x in values])


def _band(axes, times, spread, colour, label, moments=False):
    """Medians and quartiles over cases, or (moments) means and standard deviations."""
    if moments:
        middle, deviation = (_array(spread[key]) for key in ("mean", "deviation"))
        low, high = middle - deviation, middle + deviation
    else:
        low, middle, high = (_array(spread[key]) for key in ("low", "median", "high"))
    if colour != MUTED:
        axes.fill_between(times, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(times, middle, color=colour, linewidth=1.4, label=label)


def _errors(found, place, column, title) -> str:
    """Errors over time, of models that make some."""
    figure, axes = blank()
    times, shown = np.array(found["times"]), 0
    for name, m, colour in _lines(found["models"]):
        values = _array(m["errors"][column]["median"])
        if np.isfinite(values).any() and (column in ("ssim", "iou", "pearson") or np.nanmax(np.abs(values)) > 0):
            _band(axes, times, m["errors"][column], colour, name)
            shown += 1
    if not shown:
        return ""
    dress(axes, "time", title)
    _legend(figure, axes)
    return svg_of(figure, f"p{place}-{column}")


def _legend(figure, axes):
    if len(axes.get_legend_handles_labels()[0]) <= 4:
        legend(figure, axes)
        return
    axes.legend(fontsize=7, frameon=False, labelcolor=INK, handlelength=1.2, ncols=2)


def _course(found, place, column, title, moments=False) -> str:
    """A number of the field over time: the truth and all models; free energies and lengths on logarithmic axes."""
    truth, times = next(iter(found["truth"].values())), np.array(found["times"])
    if column not in truth["numbers"]:
        return ""
    values = _array(truth["numbers"][column]["median"])
    if not np.isfinite(values).any() or not np.any(values):
        return ""
    figure, axes = blank()
    for name, m, colour in _lines(found["models"]):
        if m["kind"] != "linear":
            _band(axes, times, m["numbers"][column], colour, name, moments)
    _band(axes, times, truth["numbers"][column], INK, "truth", moments)
    if column in ("energy", "interface", "length") and np.nanmin(values) > 0 and len(times) > 3:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(times[1], times[-1])
        plain_log(axes.yaxis)
    dress(axes, "time", title)
    _legend(figure, axes)
    return svg_of(figure, f"p{place}-course-{column}{'-moments' * moments}")


def _parity(found, place, column, title) -> str:
    """Each case's number in the last frame: truth and model."""
    if found["count"] < 3 or column not in next(iter(found["truth"].values()))["last"]:
        return ""
    figure, axes = blank(height=3.4)
    ends = []
    for name, m, colour in _lines(found["models"]):
        if m["kind"] in ("persistence", "linear"):
            continue
        true, said = _array(found["truth"][m["truth"]]["last"][column]), _array(m["last"][column])
        axes.plot(true, said, ".", color=colour, markersize=4, label=name)
        ends += [x for x in true if np.isfinite(x)]
    if not ends or not np.any(ends):
        return ""
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=MUTED, linewidth=0.8, zorder=0)
    dress(axes, f"{title}, truth", f"{title}, model")
    _legend(figure, axes)
    return svg_of(figure, f"p{place}-parity-{column}")


def _spectra(run, place, found) -> str:
    arrays, meta = open_arrays(run.path / "cases" / f"case-{place}-0.h5")
    figure, axes = blank()
    shown = [(name, f"spectrum.model.{k}", colour) for k, (name, _, colour) in enumerate(_lines(found["models"]))]
    for name, key, colour in [*shown, ("truth", f"spectrum.truth.{meta['truths'][0]}", INK)]:
        if key in arrays:
            k, s = arrays[key]
            axes.loglog(k[s > 0], s[s > 0], color=colour, linewidth=1.3, label=name)
    if not axes.lines:
        return ""
    top = max(line.get_ydata().max(initial=0) for line in axes.lines)
    axes.set_ylim(1e-5 * top, 2 * top)
    plain_log(axes.xaxis)
    dress(axes, "k", "S(k)")
    _legend(figure, axes)
    return svg_of(figure, f"p{place}-spectra")


def _costs(found, place, column) -> str:
    """Errors over processor time; solvers are joined by their front."""
    points = [
        (m["seconds"], m["average"][column], name, m)
        for name, m in found["models"].items()
        if m["kind"] in ("surrogate", "solver") and m["seconds"] and m["average"][column] and not m["lost"]
    ]
    if len(points) < 2:
        return ""
    figure, axes = blank(height=3.2)
    solvers = [(x, y) for x, y, _, m in points if m["kind"] == "solver" and not m["noise"]]
    if solvers:
        axes.loglog(*np.transpose(front(solvers)), color=LINES[1], linewidth=1.2, zorder=1)
    for x, y, name, m in points:
        axes.loglog(
            x,
            y,
            "o" if m["kind"] == "surrogate" else "s",
            color=LINES[0 if m["kind"] == "surrogate" else 1],
            markersize=5,
        )
        axes.annotate(name, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8, color=INK)
    if found["seconds"]:
        axes.axvline(found["seconds"], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate("truth", (found["seconds"], 0.02), xycoords=("data", "axes fraction"), fontsize=8, color=MUTED)
    axes.margins(0.15)
    dress(axes, "processor seconds", NAMES[column])
    return svg_of(figure, f"p{place}-cost-{column}")


def _clock(found) -> str:
    rows = [
        (
            escape(r["surrogate"]),
            NAMES[r["error"]],
            number(r["value"], 3),
            number(r["seconds"], 3),
            f"{r['bound']} {number(r['solver_seconds'], 3)}".strip(),
            f"{r['bound']} {number(r['faster'], 3)} ×".strip(),
        )
        for r in found["clock"]
    ]
    if not rows:
        return ""
    head = ["surrogate", "error", ">value", ">CPU s", ">a solver as good, CPU s", ">the surrogate is faster by"]
    note = "Below 1 the surrogate is slower. At most: the cheapest solver tried is better; at least: none tried is as good."
    return _card("The clock: same error, same physical time", head, rows, note)


def _diagram(run, found, place) -> str:
    """Which cases decompose, over the two parameters that vary."""
    if found["kind"] != "phase-diagram":
        return ""
    keys = [key for key in ("initial.exact_mean", "initial.mean", "elasticity.misfit") if key in found["parameters"]]
    keys += [key for key in found["parameters"] if key not in keys]
    name, m = next(iter(found["models"].items()))
    if len(keys) < 2:
        return ""
    x, y = (np.array(found["parameters"][key]) for key in keys[:2])
    true = np.array(m["agreement"]["truth"])
    wrong = np.array([a is None or a != b for a, b in zip(m["agreement"]["model"], true)])
    figure, axes = blank(height=3.6)
    axes.plot(x[true], y[true], "o", color=LINES[1], markersize=3.5, label="decomposes")
    axes.plot(x[~true], y[~true], "o", color=LINES[0], markersize=3.5, markerfacecolor="none", label="stays mixed")
    axes.plot(x[wrong], y[wrong], "x", color=INK, markersize=7, label=f"{name} differs")
    line = _stability(run, place) if keys[1] == "elasticity.misfit" else None
    if line is not None:
        axes.plot(line[:, 1], line[:, 0], color=INK, linewidth=1.1, label="linear stability")
    dress(axes, keys[0], keys[1])
    legend(figure, axes)
    return svg_of(figure, f"p{place}-diagram")


def _stability(run, place):
    """(misfit, φ) of the border of stable mixtures, where the truth's run file is still there."""
    path = Path(run.settings["protocol"][place]["truth"])
    path = path / "run.toml" if path.is_dir() else path
    return stability_line(Plan(load_toml(path), path)) if path.exists() else None


def _amplitudes(found) -> str:
    """Who says right which cases decompose."""
    if found["kind"] not in ("phase-diagram", "amplitude-pair"):
        return ""
    rows = []
    for name, m in found["models"].items():
        said = m["agreement"]
        count = [sum(a and b for a, b in pairs) for pairs in _pairs(said)]
        rows.append((escape(name), f"{said['right']} of {found['count']}", *map(str, count)))
    head = ["model", ">right", ">decompose, rightly", ">wrongly", ">stay mixed, rightly", ">wrongly"]
    return _card("Who decomposes", head, rows, "By the span of φ in the last frame, below 0.05: mixed.")


def _pairs(said):
    true, model = said["truth"], said["model"]
    for wanted in (True, False):
        for right in (True, False):
            yield [(m is wanted, (t is wanted) is right) for t, m in zip(true, model)]


def _stationary(found) -> str:
    if "stationary" not in found:
        return ""
    rows = []
    for k, truth in enumerate(found["stationary"]):
        rows.append(
            (str(k), "truth", truth["shape"], _cell(truth["settled"], 4), _cell(truth["creep"], 2), truth["least_area"])
        )
        for name, m in found["models"].items():
            s = m["stationary"][k]
            rows.append((str(k), escape(name), s["shape"], _cell(s["settled"], 4), _cell(s["creep"], 2), ""))
    head = [
        ">case",
        "model",
        "shape in the end",
        ">since t",
        ">change of F in the last tenth",
        "shape of least interface",
    ]
    return _card("The stationary state", head, rows)


def _snapshots(run, place, found) -> list[str]:
    """Rows of pictures: the truth, then prediction and error of each surrogate, or of the first models where there is none."""
    body = []
    shown = [k for k, m in enumerate(found["models"].values()) if m["kind"] == "surrogate"] or [0]
    names = list(found["models"])
    for case in range(found["count"]):
        file = run.path / "cases" / f"case-{place}-{case}.h5"
        if not file.exists():
            break
        arrays, meta = open_arrays(file)
        if "planes.truth.0" not in arrays:
            break
        rows = []
        for k in shown:
            truth, guess = arrays[f"planes.truth.{meta['truths'][k]}"], arrays.get(f"planes.model.{k}")
            if k == shown[0]:
                rows.append(("truth", truth))
            if guess is not None:
                rows += [(names[k], guess), ("error", 0.5 + 0.5 * (guess - truth))]
        pictures = []
        for name, planes in rows:
            for frame, plane in zip(meta["shots"], planes):
                size = PICTURE, max(1, round(PICTURE * plane.shape[0] / plane.shape[1]))
                image = picture.field_image(np.clip(np.nan_to_num(plane), 0, 1), size)
                pictures.append((f"{name}, t = {found['times'][frame]:.4g}", image, ""))
        given = ", ".join(f"{key} {values[case]:.4g}" for key, values in found["parameters"].items())
        style = f"grid-template-columns:repeat({len(meta['shots'])},minmax(0,1fr));margin-top:16px"
        body.append(f'<h3 style="margin-top:18px">Case {case}{escape(": " + given if given else "")}</h3>')
        body.append(f'<div class="many" style="{style}">{cards(pictures)}</div>')
    if body:
        where = " The plane in the middle of the first axis." if len(found["shape"]) == 3 else ""
        body.append(
            f'<p class="note">φ from 0, dark, to 1, bright; errors from −1 to 1, grey where there is none.{where}</p>'
        )
    return body
