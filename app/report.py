"""`ostwald report`: one self-contained HTML page about a run.

Read from the run directory: run.toml, provenance.json, timing.json, the time series, the first and last frame of the
trajectory, log.txt. What is absent (a run that was killed, a run without a trajectory) leaves its section out.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from html import escape
from io import StringIO
from pathlib import Path

import numpy as np

from ostwald.app import picture
from ostwald.app.analysis.structure import LABELS, describe
from ostwald.io.text import read_text, write_text

# Colours of the plots; in the page they become variables, so that light and dark have their own.
PAPER = {"#101112": "--ink", "#707172": "--muted", "#d0d1d2": "--grid", "#e8e9ea": "--band"}
INK, MUTED, GRID, BAND = PAPER
LINES = ("#1f6fd1", "#d9622b", "#2f9e5b", "#8a56c9", "#c43c6b", "#8a7a2e")
PAPER |= {colour: f"--line{k}" for k, colour in enumerate(LINES)}


class ReportError(ValueError):
    """There is nothing to report on; one sentence."""


@dataclass
class Stage:
    """A stage of the run as far as the page needs it: its name, and when it ends (ps), where that is known before."""

    name: str
    table: dict
    end: float | None


@dataclass
class Run:
    """What a run directory tells."""

    path: Path
    text: str
    title: str
    stages: list[Stage]
    series: dict[str, np.ndarray]
    timing: dict | None
    provenance: list[dict]
    frames: list = field(default_factory=list)
    atoms: int | None = None
    settings: dict = field(default_factory=dict)

    @property
    def time(self):
        """(rows,) ps"""
        return self.series["time"]

    def has(self, *names):
        return len(self.series.get("time", ())) > 0 and all(name in self.series for name in names)

    def last_stage(self):
        """(name, rows of the series (rows,) bool) of the last stage that the run reached."""
        begin, name = None, "run"
        for stage in self.stages:
            name = stage.name
            if stage.end is None or stage.end >= self.time[-1] - 1e-9:
                break
            begin = stage.end
        rows = self.time >= 0 if begin is None else self.time > begin + 1e-9  # a row at the border is of the one before
        return (name, rows) if rows.any() else (name, np.ones(len(rows), bool))


def read_run(directory) -> Run:
    """Everything the page shows. ReportError where the directory holds no run."""
    path = Path(directory)
    run_file = path / "run.toml"
    if not run_file.exists():
        raise ReportError(f"{path}: not a run directory (it has no run.toml)")
    from ostwald.io import h5md, timeseries

    text = read_text(run_file)
    settings = tomllib.loads(text)
    stages, now = [], 0.0
    for number, table in enumerate(settings.get("stage", []), 1):
        length = table.get("time")
        if length is None:
            length = table.get("steps", 0) * table.get("timestep", 0.001)
        if table.get("ensemble") == "minimise":
            length = 0.0
        now += length
        stages.append(Stage(table.get("name") or f"{number}: {table.get('ensemble', '')}", table, now))

    def json_of(name):
        file = path / name
        return json.loads(read_text(file)) if file.exists() else None

    provenance = json_of("provenance.json") or []
    job = settings.get("job", {})
    run = Run(
        path=path,
        text=text,
        title=job.get("title") or path.resolve().name,
        stages=stages,
        series=_columns(timeseries.read_series(path / "series.h5")) if (path / "series.h5").exists() else {},
        timing=json_of("timing.json"),
        provenance=provenance if isinstance(provenance, list) else [provenance],
        settings=settings,
    )
    trajectory = path / "trajectory.h5"
    if trajectory.exists():
        run.frames = [f for k in _chosen(trajectory, run.series) for f in h5md.frames(trajectory, index=k)]
    if run.timing:
        run.atoms = run.timing["atoms"]
    elif run.frames:
        run.atoms = len(run.frames[0])
    return run


def _columns(rows) -> dict[str, np.ndarray]:
    """One array a number: the pressure tensor and the cell of a structured array are taken apart."""
    columns = {}
    parts = {"pressure": ("xx", "yy", "zz", "yz", "xz", "xy"), "cell": [v + k for v in "abc" for k in "xyz"]}
    for name in rows.dtype.names:
        values = np.asarray(rows[name], float)
        if values.ndim == 1:
            columns[name] = values
            continue
        columns |= {f"{name}_{part}": values[:, k] for k, part in enumerate(parts[name])}
        if name == "pressure":
            columns[name] = values[:, :3].mean(axis=1)
    return columns


def _chosen(trajectory, series) -> list[int]:
    """The frames to show: the first, the one nearest to the least solid moment, the last."""
    from ostwald.io import h5md

    times = h5md.times(trajectory)
    chosen = {0, len(times) - 1} if len(times) else set()
    if "solid_fraction" in series and len(times) > 2 and np.isfinite(series["solid_fraction"]).any():
        least = series["time"][np.nanargmin(series["solid_fraction"])]
        chosen.add(int(np.argmin(np.abs(times - least))))
    return sorted(chosen)


def write_report(directory, output=None) -> Path:
    """Writes the page (default: DIRECTORY/report.html) and returns its path. On one rank; no communication.

    Errors: ReportError where the directory holds no run, or the page cannot be written.
    """
    run = read_run(directory)
    target = Path(output) if output else run.path / "report.html"
    if not target.parent.is_dir():
        raise ReportError(f"{target}: cannot be written, there is no folder {target.parent}")
    text = page(run)
    try:
        write_text(target, text)
    except OSError as error:
        raise ReportError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target


# --- plots ----------------------------------------------------------------------------------------------------------


def _svg(figure, name) -> str:
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


def _plot(run, name, ylabel, lines, *, floor=None, ceiling=None, zero=False, areas=None):
    """A plot over time: lines is [(label, values)]; areas [(label, colour, values)] are stacked instead. SVG text."""
    from matplotlib.figure import Figure

    time = run.time
    unit, scale = ("ns", 1e-3) if time[-1] > 5000 else ("ps", 1.0)
    figure = Figure(figsize=(6.2, 2.75), layout="constrained")
    axes = figure.add_subplot()
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
    axes.set_xlabel(f"time ({unit})", color=INK, fontsize=9)
    axes.set_ylabel(ylabel, color=INK, fontsize=9)
    axes.tick_params(colors=INK, labelsize=8.5, color=MUTED)
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.ticklabel_format(useOffset=False, axis="y")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    if len(lines) + len(areas or ()) > 1:
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
    return _svg(figure, name)


def _method(how) -> tuple:
    """(method, threshold) of the table [analysis]."""
    return how.get("method", "q6"), how.get("threshold")


def _classified(how) -> str:
    """How atoms were classified, as a sentence without its stop."""
    text = describe(*_method(how))
    return text[0].upper() + text[1:]


def _figures(run) -> list[tuple[str, str, str]]:
    """(title, SVG, caption) of each plot that the series can fill."""
    found = []
    s, n = run.series, run.atoms
    per, unit = (1.0 / n, "eV/atom") if n else (1.0, "eV")

    def add(title, svg, caption=""):
        found.append((title, svg, caption))

    if run.has("solid_fraction"):
        names = [name for name in LABELS[1:] if f"{name}_fraction" in s and np.nanmax(s[f"{name}_fraction"]) > 0.002]
        areas = [(name, picture.COLOURS[name], s[f"{name}_fraction"]) for name in names]
        how = run.settings.get("analysis", {})
        caption = f"Line: solid atoms; areas: their types, stacked. {_classified(how)}."
        svg = _plot(
            run, "solid", "fraction of atoms", [("solid", s["solid_fraction"])], floor=0, ceiling=1, areas=areas
        )
        add("Solid fraction", svg, caption)
    if run.has("temperature"):
        add("Temperature", _plot(run, "temperature", "temperature (K)", [("T", s["temperature"])]))
    if run.has("potential_energy"):
        lines = [("potential", s["potential_energy"] * per)]
        if "enthalpy" in s:
            lines.append(("enthalpy", s["enthalpy"] * per))
        add("Potential energy and enthalpy", _plot(run, "energy", f"energy ({unit})", lines))
    if run.has("pressure"):
        lines = [("mean", s["pressure"])]
        spread = [f"pressure_{k}" for k in ("xx", "yy", "zz")]
        if run.has(*spread) and run.stages and any(stage.table.get("cell") != "isotropic" for stage in run.stages):
            lines = [(k[-2:], s[k]) for k in spread] if _anisotropic(run) else lines
        add("Pressure", _plot(run, "pressure", "pressure (GPa)", lines, zero=True), "Positive in compression.")
    if run.has("density"):
        add("Density", _plot(run, "density", "density (g/cm³)", [("density", s["density"])]))
    if run.has("cell_ax", "cell_cz"):
        vectors = np.array([[s[f"cell_{v}{k}"] for k in "xyz"] for v in "abc"])
        lengths = np.linalg.norm(vectors, axis=1)
        if np.ptp(lengths, axis=1).max() > 1e-9:
            same = np.abs(lengths - lengths[0]).max() < 1e-9 * lengths.max()
            lines = [("a = b = c", lengths[0])] if same else list(zip("abc", lengths))
            add("Cell", _plot(run, "cell", "cell vectors (Å)", lines), "All three are equal." if same else "")
    if run.has("conserved"):
        drift = _drift(run) * (1e3 * per if n else 1.0)
        unit = "meV/atom" if n else "eV"
        caption = "Change of the conserved quantity since the start of its stage."
        add("Conserved energy", _plot(run, "conserved", f"change ({unit})", [("change", drift)], zero=True), caption)
    if run.has("atom_steps_per_second") and len(run.time) > 2:
        speed = s["atom_steps_per_second"] / 1e6
        svg = _plot(run, "speed", "10⁶ atom-steps/s", [("speed", np.where(speed > 0, speed, np.nan))], floor=0)
        add("Speed", svg, "All ranks together, between rows of the series, output included.")
    return found


def _anisotropic(run):
    return any(
        stage.table.get("ensemble") in ("npt", "nph") and stage.table.get("cell") in ("anisotropic", "triclinic")
        for stage in run.stages
    )


def _drift(run):
    """The conserved quantity less its first value in each stage."""
    value = np.array(run.series["conserved"], float)
    begin = 0.0
    for stage in run.stages:
        inside = (run.time > begin + 1e-9) & (run.time <= (stage.end or np.inf) + 1e-9)
        if begin == 0.0:
            inside |= run.time <= 1e-9
        if inside.any():
            value[inside] -= value[inside][0]
        begin = stage.end or np.inf
    return value


# --- the page ---------------------------------------------------------------------------------------------------------

STYLE = """
:root{color-scheme:light dark;--paper:#fbfbfa;--card:#ffffff;--ink:#1b1d22;--muted:#6d727c;--grid:#e7e8ec;--band:#f1f2f5;
--edge:#e3e5ea;--accent:#1f6fd1;--line0:#1f6fd1;--line1:#d9622b;--line2:#2f9e5b;--line3:#8a56c9;--line4:#c43c6b;
--line5:#8a7a2e}
@media (prefers-color-scheme:dark){:root{--paper:#14161a;--card:#1c1f25;--ink:#e8eaee;--muted:#9aa1ad;--grid:#2c3038;
--band:#23272e;--edge:#2c3038;--accent:#6ea8f0;--line0:#6ea8f0;--line1:#f08b58;--line2:#5cc887;--line3:#b48aeb;
--line4:#ec7ba0;--line5:#cdbb63}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-font-smoothing:antialiased}
main{max-width:1180px;margin:0 auto;padding:40px 24px 72px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 6px;letter-spacing:-.015em}
h2{font-size:1.15rem;margin:44px 0 14px;letter-spacing:-.005em}
h3{font-size:.95rem;margin:0 0 8px;font-weight:600}
.lead,.note,figcaption,.unit{color:var(--muted)}
.lead{margin:0;max-width:75ch}.note,figcaption{font-size:.85rem;margin:6px 0 0}
.state{display:inline-block;font-size:.8rem;font-weight:600;padding:1px 9px;border-radius:99px;border:1px solid var(--edge);
vertical-align:middle;margin-left:8px;white-space:nowrap}
.state.done{color:var(--line2)}.state.open{color:var(--line1)}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:28px 0 0}
.card{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:14px 16px}
.number b{display:block;white-space:nowrap;font-size:1.4rem;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums;
letter-spacing:-.01em}
.number b .unit{font-size:.85rem;font-style:normal;font-weight:500}
.number span{font-size:.82rem;color:var(--muted);display:block}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:16px}
.three{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:16px}
figure{margin:0}.plot,.slice{width:100%;height:auto;display:block}
.slice{max-height:620px}.plot *{stroke-linejoin:round;stroke-linecap:butt}
.key{display:flex;flex-wrap:wrap;gap:6px 18px;font-size:.88rem;margin:12px 0 0}
.key i{display:inline-block;width:12px;height:12px;border-radius:50%;margin-right:6px;vertical-align:-1px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--edge);vertical-align:top}
th{font-weight:600;color:var(--muted);font-size:.82rem}
td.n,th.n{text-align:right}tr:last-child td{border-bottom:0}
.bar{display:flex;height:26px;border-radius:7px;overflow:hidden;margin:0 0 14px}
.bar i{display:block;min-width:1px}
.dot{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:5px 18px;margin:0;font-size:.9rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
details{margin-top:14px}summary{cursor:pointer;font-weight:600;font-size:.95rem}
pre{background:var(--band);border-radius:10px;padding:14px 16px;overflow:auto;font:13px/1.45 ui-monospace,SFMono-Regular,
Menlo,Consolas,monospace;max-height:520px}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media print{body{background:#fff}.card{break-inside:avoid}details{display:none}}
"""

SECTION_COLOURS = ("--line0", "--line1", "--line2", "--line3", "--line4", "--line5", "--muted")


def _number(value, digits=4) -> str:
    """A number for people: significant digits, thin spaces between thousands, powers of ten for very large ones."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        power = int(np.floor(np.log10(size)))
        return f"{value / 10.0**power:.{max(digits - 2, 1)}f} × 10<sup>{power}</sup>".replace("-", "−")
    places = max(0, digits - 1 - int(np.floor(np.log10(size))))
    text = f"{value:,.{places}f}" if size >= 1e4 else f"{value:.{places}f}"
    return text.replace(",", "\u2009").replace("-", "−")


def _seconds(value) -> str:
    if value < 120:
        return f"{_number(value, 3)} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _tiles(run) -> list[tuple[str, str, str]]:
    """(value, unit, what) of the numbers at the top."""
    tiles = []
    s = run.series
    if run.has("solid_fraction"):
        solid = s["solid_fraction"]
        solid = solid[np.isfinite(solid)]
        if len(solid):
            low = solid[np.argmin(solid) :][0]
            tiles.append((f"{_number(100 * low, 3)} → {_number(100 * solid[-1], 3)}", "%", "solid: least → end"))
    if run.has("enthalpy") and run.atoms:
        name, rows = run.last_stage()
        time, enthalpy = run.time[rows], s["enthalpy"][rows] / run.atoms
        part = np.floor(20 * (time - time[0]) / max(time[-1] - time[0], 1e-12))
        if (part == 1).any():  # the first twentieth is left to thermostat and barostat
            change = 1e3 * (enthalpy[part >= 19].mean() - enthalpy[part == 1].mean())
            what = f"enthalpy, last twentieth of {escape(name)} less its second"
            tiles.append((_number(change, 3), "meV/atom", what))
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
        tiles.append((_number(time * (1e-3 if time > 5000 else 1), 4), "ns" if time > 5000 else "ps", "simulated time"))
    if run.timing:
        t = run.timing
        tiles.append((_seconds(t.get("total_wall_seconds", t["wall_seconds"])), "", f"wall time, {t['ranks']} ranks"))
        tiles.append((_number(t["microseconds_core_per_atom_step"], 3), "µs·core", "per atom and step, all included"))
        tiles.append((_number(t["ns_per_day"], 3), "ns/day", "speed"))
    return tiles


def _pictures(run) -> str:
    how = run.settings.get("analysis", {})
    items, seen = [], set()
    for frame in run.frames:
        stored = frame.arrays.get("structure")
        labels = picture.labels_of(frame, *_method(how)) if stored is None else np.asarray(stored).astype(int)
        seen |= set(np.unique(labels).tolist())
        when = frame.info.get("time")
        caption = f"{_number(float(when), 4)} ps" if when is not None and when else "start"
        items.append(
            f'<figure class="card">{picture.slice_svg(frame, labels)}<figcaption>{caption}, '
            f"step {frame.info.get('step', 0)}</figcaption></figure>"
        )
    names = [name for k, name in enumerate(LABELS) if k in seen]
    key = "".join(
        f'<span><i style="background:{picture.COLOURS[name]}"></i>{escape(picture.MEANING[name])}</span>'
        for name in sorted(names, key=list(picture.COLOURS).index)
    )
    return (
        f'<h2>Structure</h2><div class="{"three" if len(items) > 2 else "two"}">{"".join(items)}</div><p class="key">{key}</p>'
        f'<p class="note">A slab of about four layers of atoms through the middle of the cell. {_classified(how)}.</p>'
    )


def _timing(run) -> str:
    t = run.timing
    sections = [(name, v) for name, v in t["sections"].items() if v["max"] > 0]
    colours = {name: SECTION_COLOURS[min(k, len(SECTION_COLOURS) - 1)] for k, (name, _) in enumerate(sections)}
    bar = "".join(
        f'<i style="width:{100 * v["share"]:.2f}%;background:var({colours[name]})" '
        f'title="{escape(name)} {100 * v["share"]:.1f} %"></i>'
        for name, v in sections
    )
    rows = "".join(
        f'<tr><td><i class="dot" style="background:var({colours[name]})"></i>{escape(name)}</td>'
        + "".join(f'<td class="n">{_number(v[k], 3)}</td>' for k in ("min", "mean", "max"))
        + f'<td class="n">{100 * v["share"]:.1f} %</td></tr>'
        for name, v in sections
    )
    p = t["per_rank"]
    ranks = "".join(
        f"<tr><td>{what}</td>"
        + "".join(f'<td class="n">{_number(p[name][k] / by, 4)}</td>' for k in ("min", "mean", "max"))
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
        '<h2>Where the time went</h2><div class="two"><div class="card"><h3>Seconds, over ranks</h3>'
        f'<div class="bar">{bar}</div><div class="scroll"><table><tr>{head}<th class="n">share</th></tr>{rows}</table>'
        '</div></div><div class="card"><h3>Per rank</h3>'
        f'<div class="scroll"><table><tr>{head}</tr>{ranks}</table></div><p class="note">'
        f"{_number(t['atom_steps_per_second'] / 1e6, 3)} million atom-steps/s; grid "
        f"{' × '.join(map(str, t['grid']))}, {t['threads']} thread{'s' if t['threads'] > 1 else ''} per rank; imbalance "
        f"{t['imbalance']:.3f}; {t['builds']} neighbour builds, {t['dangerous_builds']} dangerous; "
        f"{_number(t['bytes_per_atom'], 3)} bytes per atom resident.</p></div></div>"
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


def _provenance(run) -> str:
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
    state, kind = "no end recorded", "open"
    if run.timing:
        state, kind = ("finished", "done") if run.timing.get("finished") else ("stopped, to be resumed", "open")
    structure = run.settings.get("structure", {})
    about = []
    if run.atoms:
        species = structure.get("species") or (list(run.frames[0].species) if run.frames else [])
        about.append(f"{run.atoms:,} atoms".replace(",", "\u2009") + (f" of {', '.join(species)}" if species else ""))
    if run.settings.get("potential", {}).get("file"):
        about.append(f"potential {Path(str(run.settings['potential']['file'])).name}")
    if run.stages:
        about.append("stages: " + " → ".join(stage.name for stage in run.stages))
    tiles = "".join(
        f'<div class="card number"><b>{value} <i class="unit">{unit}</i></b><span>{what}</span></div>'
        for value, unit, what in _tiles(run)
    )
    body = [
        f'<h1>{escape(run.title)} <span class="state {kind}">{state}</span></h1>',
        f'<p class="lead">{escape("; ".join(about))}</p>',
        f'<div class="numbers">{tiles}</div>',
    ]
    if run.frames:
        body.append(_pictures(run))
    figures = _figures(run)
    if figures:
        plots = "".join(
            f'<figure class="card"><h3>{escape(title)}</h3>{svg}'
            + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "")
            + "</figure>"
            for title, svg, caption in figures
        )
        note = (
            '<p class="note">Numbers above a plot are the stages, in the table below.</p>'
            if len(run.stages) > 1
            else ""
        )
        body.append(f'<h2>Over time</h2><div class="two">{plots}</div>{note}')
    if run.timing:
        body.append(_timing(run))
    body.append(f'<h2>How the run was made</h2><div class="two" style="grid-template-columns:1fr">{_stages(run)}')
    body.append(_provenance(run) + "</div>")
    body.append(f"<details><summary>Run file</summary><pre>{escape(run.text)}</pre></details>")
    log = run.path / "log.txt"
    if log.exists():
        lines = read_text(log).splitlines()
        shown = lines if len(lines) <= 400 else [*lines[:150], "…", *lines[-250:]]
        body.append(f"<details><summary>Log</summary><pre>{escape(chr(10).join(shown))}</pre></details>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.title)}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )
