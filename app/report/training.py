"""The page of a training."""

from __future__ import annotations

import json
from html import escape

import numpy as np

from ostwald.app.atoms.units import GPA
from ostwald.app.report import ensemble
from ostwald.app.report.page import heading, provenance, seconds_card, sources
from ostwald.app.report.plots import INK, LINES, MUTED, blank, dress, legend, svg_of
from ostwald.app.report.run import Run
from ostwald.app.report.style import cards, document, number, seconds, table, tile_row
from ostwald.io.arrayfile import open_arrays
from ostwald.io.text import read_text

SHOWN = 1500
"""Points of a scatter plot, at most; of more, those with the largest errors and some of the others are drawn."""
UNITS = ensemble.UNITS


def page(run: Run) -> str:
    """The HTML of a run."""
    s, file = run.settings, run.path / "errors.json"
    errors = json.loads(read_text(file)) if file.exists() else {}
    nodes = s.get("network", {}).get("nodes") or [20, 20]
    optimiser = s.get("optimiser", {})
    about = f"{s.get('data', {}).get('file', '')}; nodes {'-'.join(map(str, nodes))}; {optimiser.get('kind', 'levenberg-marquardt')}"
    body = [heading(run), f'<p class="lead">{escape(about)}</p>', tile_row(tiles(run, errors))]
    folders = member_folders(run)
    if curves := ensemble.learning(folders) if folders else learning(run):
        body.append(f'<h2>Learning</h2><div class="two">{cards(curves)}</div>')
    if "smooth_loss" in run.series:
        body.append(f'<h2>Learning rate</h2><div class="two">{cards(rates(run.series))}</div>')
    if folders:
        body.append(ensemble.members(folders))
    body.append(tables(errors))
    file = run.path / "predictions.h5"
    if file.exists():
        arrays, meta = open_arrays(file)
        plots = parity(arrays, meta["groups"]) + (ensemble.spread(arrays) if "spread" in arrays else [])
        body.append(f'<h2>Validation set</h2><div class="two">{cards(plots)}</div>')
        body.append(worst(arrays, meta["groups"]))
    file = run.path / "curves.json"
    if file.exists():
        curves = json.loads(read_text(file))
        drawn = [*map(energy_volume, curves["energy_volume"]), *map(dimer, curves["dimers"])]
        body.append(f'<h2>Crystals and pairs</h2><div class="two">{cards(drawn)}</div>')
    if run.timing:
        t = run.timing
        rows = [
            *(
                (f"evaluation, {precision} (µs·core/atom)", number(figure, 3))
                for precision, figure in t.get("microseconds_per_atom", {}).items()
            ),
            ("structures/s", number(t["structures_per_second"], 4)),
            ("atoms/s", number(t["atoms_per_second"], 4)),
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


def member_folders(run) -> list:
    """The run directories of the members, of an ensemble."""
    how = run.settings.get("ensemble", {})
    if how.get("members", 1) == 1 or how.get("member"):
        return []
    return [run.path / "members" / str(number) for number in range(1, how["members"] + 1)]


def tiles(run, errors) -> list[tuple[str, str, str]]:
    """(value, unit, what) of the numbers at the top."""
    found = []
    for quantity, unit in UNITS.items():
        numbers = errors.get("validation", {}).get("all", {}).get(quantity)
        if numbers:
            found.append((number(numbers["rmse"], 3), unit, f"{quantity}, RMSE of the validation set"))
    if run.timing:
        t = run.timing
        found += [
            (str(t["parameters"]), "", "parameters"),
            (str(t["members"]), "", "members") if "members" in t else (str(t["best_epoch"]), "", "best epoch"),
            (seconds(t["total_wall_seconds"]), "", f"wall time, {t['ranks']} ranks"),
        ]
    return found


def over_epochs(series, plots) -> list[tuple[str, str, str]]:
    """Plots of columns, what is positive of them. plots: (title, (name, column) of each line, label of the axis[, scale: "log"])."""
    found = []
    for title, lines, label, *scale in plots:
        figure, axes = blank()
        axes.set_yscale(*scale or ("log",))
        drawn = False
        for (name, column), colour in zip(lines, LINES):
            good = np.isfinite(series[column]) & (series[column] > 0)
            axes.plot(series["epoch"][good], series[column][good], color=colour, linewidth=1.4, label=name)
            drawn |= good.any()
        if drawn:
            dress(axes, "epoch", label)
            if len(lines) > 1:
                legend(figure, axes)
            found.append((title, svg_of(figure, title), ""))
    return found


def learning(run) -> list[tuple[str, str, str]]:
    """Loss and errors over epochs."""
    s = run.series
    if "epoch" not in s or len(s["epoch"]) < 2:
        return []
    plots = [
        ("Loss", (("training", "loss"), ("validation", "validation_loss")), "loss"),
        ("Energy", (("validation", "energy_rmse"),), "RMSE (meV/atom)"),
        ("Forces", (("validation", "force_rmse"),), "RMSE (eV/Å)"),
        ("Stress", (("validation", "stress_rmse"),), "RMSE (GPa)"),
    ]
    return over_epochs(s, plots)


def rates(series) -> list[tuple[str, str, str]]:
    """The loss against a learning rate that rises from update to update."""
    figure, axes = blank()
    axes.loglog(series["rate"], series["loss"], color=MUTED, linewidth=0.8, label="each update")
    axes.loglog(series["rate"], series["smooth_loss"], color=LINES[0], linewidth=1.6, label="running mean")
    dress(axes, "learning rate", "loss")
    legend(figure, axes)
    return [("Loss while the rate rises", svg_of(figure, "rates"), "Good rates are where it falls fastest.")]


def tables(errors) -> str:
    """Errors of each group of both sets."""
    made = []
    for part, groups in errors.items():
        head, rows = ["group"], []
        for quantity, unit in UNITS.items():
            head += [f">{quantity}: number", f">RMSE ({unit})", ">MAE", ">largest"]
        for name, found in groups.items():
            cells = [escape(name)]
            for quantity in UNITS:
                e = found.get(quantity)
                cells += (
                    [str(e["number"]), *(number(e[key], 3) for key in ("rmse", "mae", "largest"))] if e else ["–"] * 4
                )
            rows.append(cells)
        made.append(f'<div class="card"><h3>{escape(part)}</h3><div class="scroll">{table(head, rows)}</div></div>')
    return f'<h2>Errors</h2><div class="two" style="grid-template-columns:1fr">{"".join(made)}</div>' if made else ""


def parity(arrays, groups) -> list[tuple[str, str, str]]:
    """Labels against the network, and histograms of errors."""
    group, counts, found = arrays["group"], arrays["counts"], []
    rows = {
        "energy": (arrays["energy"], group, "eV/atom", 1.0),
        "force": (arrays["forces"].reshape(-1, 2), np.repeat(group, 3 * counts), "eV/Å", 1.0),
        "stress": (arrays["stress"].reshape(-1, 2), np.repeat(group, 6), "GPa", GPA),
    }
    for quantity, (values, of, unit, factor) in rows.items():
        known = np.isfinite(values).all(axis=1)
        if not known.any():
            continue
        values, of = factor * values[known], of[known]
        error = values[:, 1] - values[:, 0]
        order = np.argsort(-np.abs(error))
        chosen = (
            order[:SHOWN]
            if len(order) <= SHOWN
            else np.concatenate(
                [order[: SHOWN // 3], order[np.linspace(SHOWN // 3, len(order) - 1, SHOWN - SHOWN // 3).astype(int)]]
            )
        )
        figure, axes = blank(height=3.4)
        for k in np.unique(of):
            mine = chosen[of[chosen] == k]
            axes.plot(*values[mine].T, ".", color=LINES[k % len(LINES)], markersize=2.5, label=groups[k])
        ends = [values.min(), values.max()]
        axes.plot(ends, ends, color=MUTED, linewidth=0.8, zorder=0)
        dress(axes, f"label ({unit})", f"network ({unit})")
        if 1 < len(np.unique(of)) <= len(LINES):
            legend(figure, axes)
        caption = f"{len(chosen)} of {len(values)}, the largest errors among them." if len(chosen) < len(values) else ""
        found.append((quantity.capitalize(), svg_of(figure, quantity), caption))
        figure, axes = blank()
        scale = 1e3 if quantity == "energy" else 1.0
        width = np.quantile(np.abs(error), 0.99) * scale or 1.0
        axes.hist(np.clip(scale * error, -width, width), bins=61, color=INK, linewidth=0)
        dress(axes, f"error ({UNITS[quantity]})", "number")
        found.append(
            (
                f"{quantity.capitalize()}: errors",
                svg_of(figure, f"{quantity}-errors"),
                "The ends hold what lies beyond.",
            )
        )
    return found


def energy_volume(curves) -> tuple[str, str, str]:
    """E(V) of the crystals of an element, from curves.json, and the structures of the set that are at rest."""
    figure, axes = blank(height=3.2)
    volume, known = np.array(curves["volume"]), curves["set"]
    for (name, curve), colour in zip(curves["crystals"].items(), LINES):
        _known_and_beyond(axes, volume, np.array(curve["energy"]), np.array(curve["inside"]), colour, name)
    axes.plot(known["volume"], known["energy"], "o", color=INK, markersize=2.6, zorder=4, label="set")
    lowest = min((np.array(curve["energy"]) for curve in curves["crystals"].values()), key=np.min)
    axes.set_ylim(lowest.min() - 0.05 * np.ptp(lowest), lowest.max() + 0.1 * np.ptp(lowest))
    axes.set_xlim(volume[0], volume[-1])
    dress(axes, "volume (Å³/atom)", "energy (eV/atom)")
    legend(figure, axes)
    title = f"{curves['element']}: energy and volume"
    caption = "Dots: structures of the training set at rest. Dashed: beyond the training range."
    return title, svg_of(figure, f"volume-{curves['element']}"), caption


def dimer(curve) -> tuple[str, str, str]:
    """The energy of two atoms alone, from curves.json."""
    figure, axes = blank(height=3.2)
    distance, energy = np.array(curve["distance"]), np.array(curve["energy"])
    _known_and_beyond(axes, distance, energy, np.array(curve["inside"]), LINES[0], "network")
    known = curve["set"]
    if known["distance"]:
        axes.plot(known["distance"], known["energy"], "o", color=INK, markersize=2.6, zorder=4, label="set")
    apart, deepest = energy[-1], min([energy.min(), *known["energy"]])
    axes.set_ylim(max(deepest, apart - 20.0) - 0.3, apart + max(2.0, 0.5 * min(apart - deepest, 20.0)))  # not the wall
    dress(axes, "distance (Å)", "energy (eV)")
    legend(figure, axes)
    return f"{curve['pair']} alone", svg_of(figure, f"dimer-{curve['pair']}"), "Dashed: beyond the training range."


def _known_and_beyond(axes, x, y, inside, colour, label):
    """A line, dashed where the network extrapolates."""
    axes.plot(x, y, color=colour, linewidth=1.0, linestyle=(0, (2, 2)))
    axes.plot(x, np.where(inside, y, np.nan), color=colour, linewidth=1.8, label=label)


def worst(arrays, groups, most=10) -> str:
    """The structures that the network is worst at."""
    offsets = np.concatenate([[0], np.cumsum(arrays["counts"])])
    energy = 1e3 * (arrays["energy"][:, 1] - arrays["energy"][:, 0])
    squares = np.nan_to_num((arrays["forces"][..., 1] - arrays["forces"][..., 0]) ** 2).sum(axis=1)
    force = np.sqrt(np.add.reduceat(squares, offsets[:-1]) / (3 * arrays["counts"]))
    spread = [np.sqrt(np.nanmean(x**2)) or 1.0 if np.isfinite(x).any() else 1.0 for x in (energy, force)]
    order = np.argsort(-np.maximum(np.nan_to_num(np.abs(energy)) / spread[0], force / spread[1]))[:most]
    rows = [
        (
            str(arrays["structures"][i]),
            escape(groups[arrays["group"][i]]),
            str(arrays["counts"][i]),
            number(energy[i], 3),
            number(force[i], 3),
        )
        for i in order
    ]
    head = [">number in the set", "group", ">atoms", ">energy error (meV/atom)", ">force RMSE (eV/Å)"]
    return f'<div class="two" style="grid-template-columns:1fr"><div class="card"><h3>Worst structures</h3>{table(head, rows)}</div></div>'
