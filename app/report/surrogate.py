"""The page of a surrogate's training."""

from __future__ import annotations

import json
from html import escape

import numpy as np

from ostwald.app import picture
from ostwald.app.report.page import heading, provenance, seconds_card, sources
from ostwald.app.report.plots import INK, LINES, blank, dress, legend, svg_of
from ostwald.app.report.run import Run
from ostwald.app.report.style import cards, document, number, seconds, table, tile_row
from ostwald.app.report.training import over_epochs, rates
from ostwald.app.surrogate import model
from ostwald.io.arrayfile import open_arrays
from ostwald.io.text import read_text

ROWS = ("truth", "prediction", "error")


def page(run: Run) -> str:
    """The HTML of a run."""
    errors, file = run.path / "errors.json", run.path / "predictions.h5"
    found = json.loads(read_text(errors))["validation"] if errors.exists() else {}
    surrogate = run.path / "surrogate.ostwald"
    about = model.load(surrogate).describe() if surrogate.exists() else ""
    body = [heading(run), f'<p class="lead">{escape(about)}</p>', tile_row(_tiles(run, found))]
    if curves := _learning(run):
        body.append(f'<h2>Learning</h2><div class="two">{cards(curves)}</div>')
    if "smooth_loss" in run.series:
        body.append(f'<h2>Learning rate</h2><div class="two">{cards(rates(run.series))}</div>')
    if file.exists():
        arrays, meta = open_arrays(file)
        body.append(f'<h2>Validation set</h2><div class="two">{cards(_over_time(arrays, meta["interval"]))}</div>')
        body.append(_snapshots(arrays["planes"], meta))
    if run.timing:
        t = run.timing
        rate = t["point_steps_per_second"]
        rows = [
            ("sequences/s", number(t["sequences_per_second"], 4)),
            ("million point-steps/s", number(rate / 1e6, 4)),
            (
                "GFLOP/s of the convolutions, forwards and backwards",
                number(3e-9 * rate * t["point_step_operations"], 4),
            ),
            ("in communication", f"{100 * t['communication']:.1f} %"),
            ("ranks × threads", f"{t['ranks']} × {t['threads']}"),
            ("memory of a rank (MB)", number(t["per_rank"]["resident_bytes"]["max"] / 1e6, 4)),
        ]
        card = f'<div class="card"><h3>Speed</h3>{table(["", ">"], rows)}</div>'
        body.append(f'<h2>Where the time went</h2><div class="two">{seconds_card(t)}{card}</div>')
    body.append(
        f'<h2>How the run was made</h2><div class="two" style="grid-template-columns:1fr">{provenance(run)}</div>'
    )
    return document(run.title, body + sources(run))


def _tiles(run, found) -> list[tuple[str, str, str]]:
    """(value, unit, what) of the numbers at the top."""
    tiles = []
    if found:
        tiles = [
            (number(found["rmse"], 3), "", "RMSE of φ, validation set"),
            (number(found["last_rmse"], 3), "", "of the last frame"),
            (number(found["persistence_rmse"], 3), "", "RMSE of fields that stay as they are"),
            (number(found["mean_drift"], 2), "", "largest drift of the mean of φ"),
        ]
    if run.timing:
        t = run.timing
        tiles += [
            (str(t["parameters"]), "", "parameters"),
            (str(t["best_epoch"]), "", "best epoch"),
            (seconds(t["total_wall_seconds"]), "", f"wall time, {t['ranks']} ranks"),
        ]
    return tiles


def _learning(run) -> list[tuple[str, str, str]]:
    """Losses and errors over epochs; what the network was given."""
    s = run.series
    if "given" not in s or len(s["epoch"]) < 2:
        return []
    return over_epochs(
        s,
        [
            ("Loss", (("training", "loss"), ("validation, closed loop", "validation_loss")), "loss"),
            (
                "RMSE of the validation set",
                (("all frames", "validation_rmse"), ("last frame", "last_rmse")),
                "RMSE of φ",
            ),
            ("Frames that the network is given", (("", "given"),), "frames", "linear"),
        ],
    )


def _over_time(arrays, interval) -> list[tuple[str, str, str]]:
    """Errors of the closed loop and drift of the mean."""
    time = interval * np.arange(arrays["rmse"].shape[1])
    figure, axes = blank()
    for (name, column), colour in zip({"surrogate": "rmse", "unchanged field": "persistence"}.items(), LINES):
        low, middle, high = np.quantile(arrays[column], [0.25, 0.5, 0.75], axis=0)
        axes.fill_between(time, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(time, middle, color=colour, linewidth=1.4, label=name)
    dress(axes, "time", "RMSE of φ")
    legend(figure, axes)
    caption = "Median over sequences; the bands hold the middle half."
    found = [("Error", svg_of(figure, "rmse"), caption)]
    figure, axes = blank()
    axes.plot(time, np.abs(arrays["drift"]).max(0), color=INK, linewidth=1.4)
    dress(axes, "time", "|<φ> − <φ>₀|")
    found.append(("Largest drift of the mean", svg_of(figure, "drift"), ""))
    return found


def _snapshots(planes, meta) -> str:
    """Rows of pictures: truth, prediction, error of the best, the middling and the worst sequence."""
    body, frames = [], meta["frames"]
    for sequence, rmse, (truth, guess) in zip(meta["sequences"], meta["last_rmse"], planes):
        pictures = []
        for name, row in zip(ROWS, (truth, guess, 0.5 + 0.5 * (guess - truth))):
            for frame, plane in zip(frames, row):
                height = max(1, round(180 * plane.shape[0] / plane.shape[1]))
                image = picture.field_image(np.clip(plane, 0, 1), (180, height))
                pictures.append((f"{name}, t = {frame * meta['interval']:.4g}", image, ""))
        style = f"grid-template-columns:repeat({len(frames)},minmax(0,1fr))"
        title = f"Sequence {sequence}: RMSE of the last frame {rmse:.3f}"
        body.append(f'<h2>{escape(title)}</h2><div class="many" style="{style}">{cards(pictures)}</div>')
    note = "φ from 0, dark, to 1, bright; errors from −1 to 1, grey where there is none. Of three dimensions the plane in the middle of the first axis."
    return "".join(body) + f'<p class="note">{note}</p>'
