"""The page of a run."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from ostwald.app.report.run import Run
from ostwald.app.report.series import figures
from ostwald.app.report.structure import pictures
from ostwald.app.report.style import cards, document, number, seconds, tile_row
from ostwald.io.text import read_text

SECTION_COLOURS = ("--line0", "--line1", "--line2", "--line3", "--line4", "--line5", "--muted")


def tiles(run) -> list[tuple[str, str, str]]:
    """(value, unit, what) of the numbers at the top."""
    tiles = []
    s = run.series
    if run.has("solid_fraction"):
        solid = s["solid_fraction"]
        solid = solid[np.isfinite(solid)]
        if len(solid):
            low = solid[np.argmin(solid) :][0]
            tiles.append((f"{number(100 * low, 3)} → {number(100 * solid[-1], 3)}", "%", "solid: least → end"))
    if run.has("enthalpy") and run.atoms:
        name, rows = run.last_stage()
        time, enthalpy = run.time[rows], s["enthalpy"][rows] / run.atoms
        part = np.floor(20 * (time - time[0]) / max(time[-1] - time[0], 1e-12))
        if (part == 1).any():  # the first twentieth is left to thermostat and barostat
            change = 1e3 * (enthalpy[part >= 19].mean() - enthalpy[part == 1].mean())
            what = f"enthalpy, last twentieth of {escape(name)} less its second"
            tiles.append((number(change, 3), "meV/atom", what))
    if run.has("temperature"):
        name, rows = run.last_stage()
        half = np.flatnonzero(rows)[np.count_nonzero(rows) // 2 :]
        for quantity, unit, places in (("temperature", "K", 1), ("pressure", "GPa", 3), ("density", "g/cm³", 4)):
            if quantity in s:
                value = f"{float(np.mean(s[quantity][half])):.{places}f}".replace("-", "−")
                tiles.append((value, unit, f"mean {quantity}, second half of {escape(name)}"))
    if run.atoms:
        tiles.append((f"{run.atoms:,}".replace(",", "\u2009"), "", "atoms"))
    if run.has("time"):
        time = run.time[-1]
        tiles.append((number(time * (1e-3 if time > 5000 else 1), 4), "ns" if time > 5000 else "ps", "simulated time"))
    if run.timing:
        t = run.timing
        tiles.append((seconds(t.get("total_wall_seconds", t["wall_seconds"])), "", f"wall time, {t['ranks']} ranks"))
        tiles.append((number(t["microseconds_core_per_atom_step"], 3), "µs·core", "per atom and step, all included"))
        tiles.append((number(t["ns_per_day"], 3), "ns/day", "speed"))
    return tiles


def seconds_card(t) -> str:
    """Where the time went: a bar and a table of the sections of timing.json."""
    sections = [(name, v) for name, v in t["sections"].items() if v["max"] > 0]
    colours = {name: SECTION_COLOURS[min(k, len(SECTION_COLOURS) - 1)] for k, (name, _) in enumerate(sections)}
    bar = "".join(
        f'<i style="width:{100 * v["share"]:.2f}%;background:var({colours[name]})" '
        f'title="{escape(name)} {100 * v["share"]:.1f} %"></i>'
        for name, v in sections
    )
    rows = "".join(
        f'<tr><td><i class="dot" style="background:var({colours[name]})"></i>{escape(name)}</td>'
        + "".join(f'<td class="n">{number(v[k], 3)}</td>' for k in ("min", "mean", "max"))
        + f'<td class="n">{100 * v["share"]:.1f} %</td></tr>'
        for name, v in sections
    )
    head = "<th></th>" + "".join(f'<th class="n">{k}</th>' for k in ("min", "mean", "max"))
    return (
        '<div class="card"><h3>Seconds, over ranks</h3>'
        f'<div class="bar">{bar}</div><div class="scroll"><table><tr>{head}<th class="n">share</th></tr>{rows}</table>'
        "</div></div>"
    )


def _timing(run) -> str:
    t = run.timing
    p = t["per_rank"]
    ranks = "".join(
        f"<tr><td>{what}</td>"
        + "".join(f'<td class="n">{number(p[name][k] / by, 4)}</td>' for k in ("min", "mean", "max"))
        + "</tr>"
        for name, what, by in (
            ("atoms", "atoms", 1),
            ("ghosts", "ghosts", 1),
            ("neighbours_per_atom", f"neighbours per atom ({escape(str(t['list_style']))} list)", 1),
            ("resident_bytes", "memory (MB)", 1e6),
            ("halo_bytes_per_step", "halo (kB/step)", 1e3),
        )
        if name in p
    )
    head = "<th></th>" + "".join(f'<th class="n">{k}</th>' for k in ("min", "mean", "max"))
    return (
        f'<h2>Where the time went</h2><div class="two">{seconds_card(t)}<div class="card"><h3>Per rank</h3>'
        f'<div class="scroll"><table><tr>{head}</tr>{ranks}</table></div><p class="note">'
        f"{number(t['atom_steps_per_second'] / 1e6, 3)} million atom-steps/s; grid "
        f"{' × '.join(map(str, t['grid']))}, {t['threads']} thread{'s' if t['threads'] > 1 else ''} per rank; imbalance "
        f"{t['imbalance']:.3f}; {t['builds']} neighbour builds, {t['dangerous_builds']} dangerous; "
        f"{number(t['bytes_per_atom'], 3)} bytes per atom resident.</p></div></div>"
    )


def _stages(run) -> str:
    def target(value, unit):
        if value is None:
            return ""
        if isinstance(value, list):
            return " → ".join(f"{x:g}" for x in value) + f" {unit}" if len(value) == 2 else ", ".join(map(str, value))
        return f"{value:g} {unit}"

    rows = []
    for k, stage in enumerate(run.stages, 1):
        t = stage.table
        ensemble = str(t.get("ensemble", "")).upper() if t.get("ensemble") != "minimise" else "minimise"
        if t.get("ensemble") == "nvt" and t.get("thermostat"):
            ensemble += f", {t['thermostat']}"
        if t.get("ensemble") in ("npt", "nph") and t.get("cell"):
            ensemble += f", {t['cell']}"
        length = target(t.get("time"), "ps") or f"{t.get('steps', 0)} steps"
        step = f"{1e3 * t['timestep']:g} fs" if "timestep" in t and ensemble != "minimise" else ""
        pressure = target(t.get("pressure"), "GPa") or (target(t.get("stress"), "") if t.get("stress") else "")
        frozen = ", ".join(t.get("freeze") or [])
        cells = [str(k), stage.name, ensemble, length, step, target(t.get("temperature"), "K"), pressure, frozen]
        rows.append("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>")
    head = ("", "stage", "ensemble", "length", "step", "temperature", "pressure", "frozen")
    return (
        '<div class="card scroll"><h3>Stages</h3><table><tr>'
        + "".join(f"<th>{h}</th>" for h in head)
        + f"</tr>{''.join(rows)}</table></div>"
    )


def provenance(run) -> str:
    """How each start of the run was made."""
    if not run.provenance:
        return ""
    p = run.provenance[-1]
    versions = p.get("versions", {})
    hosts = p.get("hosts", {})
    facts = {
        "started": ", ".join(str(start.get("date", "")) for start in run.provenance),
        "command": " ".join(map(str, p.get("command", []))),
        "potential": run.settings.get("potential", {}).get("file"),
        "precision": run.settings.get("potential", {}).get("precision"),
        "seed": run.settings.get("job", {}).get("seed"),
        "ranks × threads": f"{p.get('ranks')} × {p.get('threads')}",
        "hosts": ", ".join(f"{host} ({n} ranks)" for host, n in hosts.items()),
        "processor": f"{p.get('processor')}, {p.get('cores')} cores",
        "Ostwald": " ".join(str(x) for x in (versions.get("ostwald"), p.get("revision")) if x),
        "libraries": ", ".join(f"{name} {version}" for name, version in versions.items() if name != "ostwald"),
        "MPI": p.get("mpi"),
        "HDF5": (lambda h: h and f"{h.get('version')}{', parallel' if h.get('parallel') else ''}")(p.get("hdf5")),
        "system": f"{p.get('system')}, Python {p.get('python')}",
        "kernels built for": p.get("march"),
        "SLURM job": p.get("slurm_job"),
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items() if v not in (None, ""))
    return f'<div class="card"><h3>Provenance</h3><dl>{items}</dl></div>'


def page(run: Run) -> str:
    """The HTML of a run."""
    structure = run.settings.get("structure", {})
    about = []
    if run.atoms:
        species = structure.get("species") or (list(run.frames[0].species) if run.frames else [])
        about.append(f"{run.atoms:,} atoms".replace(",", "\u2009") + (f" of {', '.join(species)}" if species else ""))
    if run.settings.get("potential", {}).get("file"):
        about.append(f"potential {Path(str(run.settings['potential']['file'])).name}")
    if run.stages:
        about.append("stages: " + " → ".join(stage.name for stage in run.stages))
    body = [
        heading(run),
        f'<p class="lead">{escape("; ".join(about))}</p>',
        tile_row(tiles(run)),
    ]
    if run.frames:
        body.append(pictures(run))
    if (run.path / "nuclei.h5").exists():
        from ostwald.app.report.nuclei import nuclei

        body.append(nuclei(run))
    plots = figures(run)
    if plots:
        staged = len(run.stages) > 1
        note = '<p class="note">Numbers above a plot are the stages, in the table below.</p>' if staged else ""
        body.append(f'<h2>Over time</h2><div class="two">{cards(plots)}</div>{note}')
    if run.timing:
        body.append(_timing(run))
    body.append(f'<h2>How the run was made</h2><div class="two" style="grid-template-columns:1fr">{_stages(run)}')
    body.append(provenance(run) + "</div>")
    body += sources(run)
    return document(run.title, body)


def heading(run) -> str:
    """The title, and whether the run is finished."""
    state, kind = "no end recorded", "open"
    if run.timing:
        state, kind = ("finished", "done") if run.timing.get("finished") else ("stopped, to be resumed", "open")
    return f'<h1>{escape(run.title)} <span class="state {kind}">{state}</span></h1>'


def sources(run) -> list[str]:
    """The run file and the log, to be unfolded."""
    body = [f"<details><summary>Run file</summary><pre>{escape(run.text)}</pre></details>"]
    log = run.path / "log.txt"
    if log.exists():
        lines = read_text(log).splitlines()
        shown = lines if len(lines) <= 400 else [*lines[:150], "…", *lines[-250:]]
        body.append(f"<details><summary>Log</summary><pre>{escape(chr(10).join(shown))}</pre></details>")
    return body
