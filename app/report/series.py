"""The plots over time of a run."""

from __future__ import annotations

import numpy as np

from ostwald.app import picture
from ostwald.app.analysis.structure import LABELS
from ostwald.app.report.plots import time_plot
from ostwald.app.report.run import classified


def figures(run) -> list[tuple[str, str, str]]:
    """(title, SVG, caption) of each plot that the series can fill."""
    found = []
    s, n, how = run.series, run.atoms, run.settings.get("analysis", {})
    per, unit = (1.0 / n, "eV/atom") if n else (1.0, "eV")

    def add(title, svg, caption=""):
        found.append((title, svg, caption))

    if run.has("solid_fraction"):
        names = [name for name in LABELS[1:] if f"{name}_fraction" in s and np.nanmax(s[f"{name}_fraction"]) > 0.002]
        areas = [(name, picture.COLOURS[name], s[f"{name}_fraction"]) for name in names]
        caption = f"Line: solid atoms; areas: their types, stacked. {classified(how)}."
        svg = time_plot(
            run, "solid", "fraction of atoms", [("solid", s["solid_fraction"])], floor=0, ceiling=1, areas=areas
        )
        add("Solid fraction", svg, caption)
    if run.has("largest_cluster") and np.nanmax(s["largest_cluster"], initial=0) > 0:
        sizes = np.where(s["largest_cluster"] > 0, s["largest_cluster"], np.nan)
        svg = time_plot(run, "largest", "atoms", [("largest", sizes)], logarithmic=True)
        add("Largest cluster", svg, "Atoms of the largest cluster of solid atoms.")
    if run.has("clusters") and np.isfinite(s["clusters"]).any():
        least = how.get("smallest")
        add(
            "Clusters",
            time_plot(run, "clusters", "clusters", [("clusters", s["clusters"])], floor=0),
            f"Of at least {least} atoms." if least else "",
        )
    if run.has("temperature"):
        add("Temperature", time_plot(run, "temperature", "temperature (K)", [("T", s["temperature"])]))
    if run.has("potential_energy"):
        lines = [("potential", s["potential_energy"] * per)]
        if "enthalpy" in s:
            lines.append(("enthalpy", s["enthalpy"] * per))
        add("Potential energy and enthalpy", time_plot(run, "energy", f"energy ({unit})", lines))
    if run.has("pressure"):
        lines = [("mean", s["pressure"])]
        spread = [f"pressure_{k}" for k in ("xx", "yy", "zz")]
        if run.has(*spread) and run.stages and any(stage.table.get("cell") != "isotropic" for stage in run.stages):
            lines = [(k[-2:], s[k]) for k in spread] if _anisotropic(run) else lines
        add("Pressure", time_plot(run, "pressure", "pressure (GPa)", lines, zero=True), "Positive in compression.")
    if run.has("density"):
        add("Density", time_plot(run, "density", "density (g/cm³)", [("density", s["density"])]))
    if run.has("cell_ax", "cell_cz"):
        vectors = np.array([[s[f"cell_{v}{k}"] for k in "xyz"] for v in "abc"])
        lengths = np.linalg.norm(vectors, axis=1)
        if np.ptp(lengths, axis=1).max() > 1e-9:
            same = np.abs(lengths - lengths[0]).max() < 1e-9 * lengths.max()
            lines = [("a = b = c", lengths[0])] if same else list(zip("abc", lengths))
            add("Cell", time_plot(run, "cell", "cell vectors (Å)", lines), "All three are equal." if same else "")
    if run.has("conserved"):
        drift = drift_of(run) * (1e3 * per if n else 1.0)
        unit = "meV/atom" if n else "eV"
        caption = "Change of the conserved quantity since the start of its stage."
        add(
            "Conserved energy", time_plot(run, "conserved", f"change ({unit})", [("change", drift)], zero=True), caption
        )
    if run.has("extrapolating_atoms") and np.isfinite(s["extrapolating_atoms"]).any():
        svg = time_plot(run, "extrapolating", "atoms", [("atoms", s["extrapolating_atoms"])], floor=0)
        add("Extrapolation", svg, "Atoms with a symmetry function outside of the range of the training data.")
    if run.has("extrapolation_max") and np.isfinite(s["extrapolation_max"]).any():
        svg = time_plot(run, "extrapolation", "excess / range", [("largest", s["extrapolation_max"])], floor=0)
        add(
            "Largest extrapolation", svg, "How far the worst function of any atom lies outside, in widths of its range."
        )
    deviations = [(k, s[f"force_deviation_{k}"]) for k in ("mean", "max") if run.has(f"force_deviation_{k}")]
    deviations = [(k, values) for k, values in deviations if np.isfinite(values).any()]
    if deviations:
        svg = time_plot(run, "deviation", "ε (eV/Å)", deviations, floor=0)
        add(
            "Force deviation of the ensemble",
            svg,
            "Root mean square deviation of the force on an atom among the potentials.",
        )
    if run.has("atom_steps_per_second") and len(run.time) > 2:
        speed = s["atom_steps_per_second"] / 1e6
        svg = time_plot(run, "speed", "10⁶ atom-steps/s", [("speed", np.where(speed > 0, speed, np.nan))], floor=0)
        add("Speed", svg, "All ranks together, between rows of the series, output included.")
    return found


def _anisotropic(run):
    return any(
        stage.table.get("ensemble") in ("npt", "nph") and stage.table.get("cell") in ("anisotropic", "triclinic")
        for stage in run.stages
    )


def drift_of(run):
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
