"""`ostwald nucleation`: what the replicas of a nucleation experiment say together.

Each run directory is one replica. Its clock starts with the isothermal stage; its size n(t) is the column
`largest_cluster` of the time series, or the number of solid atoms where clusters were not sought. Replicas of one
potential, number of atoms, temperature and pressure are a group (`Group`), and each group has its rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ostwald.app.analysis import nucleation
from ostwald.app.analysis.nucleation import J_PER_M2, PER_M3_S, NucleationError
from ostwald.app.report.run import ReportError, classified, read_run

SIZES = {"largest_cluster": "atoms of the largest cluster", "solid_fraction": "solid atoms"}
LEVEL = 0.4
"""Solid fraction at which a melt counts as transformed, for the TTT diagram."""


class ReplicaError(ValueError):
    """A run cannot take part; one sentence that names it and the reason."""


@dataclass
class Replica:
    """One run in its isothermal stage.

    time (rows,) ps since the stage began, size (rows,) atoms, solid (rows,): solid fraction; measure: the column that
    size is from; volume Å³, mean over the stage while less than half is solid; density atoms/Å³, of the last rows.
    pressure: GPa, None at constant volume. stop: largest cluster at which the run would have ended, or None.
    """

    path: Path
    potential: str
    species: tuple[str, ...]
    atoms: int
    temperature: float
    pressure: float | None
    seed: int
    analysis: str
    measure: str
    time: np.ndarray
    size: np.ndarray
    solid: np.ndarray
    volume: float
    density: float
    stop: int | None

    @property
    def state(self):
        """What replicas of a group have in common."""
        return self.potential, self.species, self.atoms, self.temperature, self.pressure


def read_replica(directory, stage=None) -> Replica:
    """The run of a directory; stage: name of the isothermal stage, by default the last. ReplicaError."""
    try:
        run = read_run(directory, frames=False)
    except ReportError as error:
        raise ReplicaError(str(error)) from error
    where = str(directory)
    names = [one.name for one in run.stages]
    if stage is not None and stage not in names:
        raise ReplicaError(f"{where}: has no stage '{stage}'; its stages: {', '.join(names)}")
    if not run.stages:
        raise ReplicaError(f"{where}: the run file has no stage")
    number = len(names) - 1 if stage is None else names.index(stage)
    table = run.stages[number].table
    temperature = table.get("temperature")
    if table.get("ensemble") not in ("nvt", "npt") or not isinstance(temperature, int | float):
        raise ReplicaError(f"{where}: stage '{names[number]}' does not hold one temperature")
    pressure = table.get("pressure") if table["ensemble"] == "npt" else None
    if isinstance(pressure, list):
        raise ReplicaError(f"{where}: stage '{names[number]}' does not hold one pressure")
    measure = next((name for name in SIZES if run.has(name)), None)
    if measure is None:
        raise ReplicaError(f"{where}: its time series has no largest_cluster and no solid_fraction (needs [analysis])")
    if run.atoms is None:
        raise ReplicaError(f"{where}: neither timing.json nor a checkpoint tells its number of atoms")
    begin = run.stages[number - 1].end if number else 0.0
    end = run.stages[number].end
    series = run.series
    inside = (run.time >= begin - 1e-9) & (run.time <= end + 1e-9) & np.isfinite(series[measure])
    if inside.sum() < 2:
        raise ReplicaError(f"{where}: fewer than two analyses in stage '{names[number]}'")
    solid = series["solid_fraction"][inside] if run.has("solid_fraction") else np.full(inside.sum(), np.nan)
    size = series[measure][inside] * (1 if measure == "largest_cluster" else run.atoms)
    volume = run.volume[inside]
    liquid = ~(solid >= 0.5)
    settings = run.settings
    potential = settings.get("potential", {}).get("file", "")
    return Replica(
        path=Path(directory),
        potential=" + ".join(map(str, potential)) if isinstance(potential, list) else str(potential),
        species=tuple(settings.get("structure", {}).get("species") or ()),
        atoms=run.atoms,
        temperature=float(temperature),
        pressure=None if pressure is None else float(pressure),
        seed=settings.get("job", {}).get("seed", 1),
        analysis=classified(settings.get("analysis", {})),
        measure=measure,
        time=run.time[inside] - begin,
        size=size,
        solid=solid,
        volume=float(volume[liquid].mean() if liquid.any() else volume.mean()),
        density=float(run.atoms / volume[-max(len(volume) // 10, 1) :].mean()),
        stop=settings.get("stop", {}).get("largest_cluster") if measure == "largest_cluster" else None,
    )


@dataclass
class Group:
    """Replicas of one state and what follows from them. Lists run over replicas.

    induction [(ps, nucleated)]; transformed ps (inf: not within the run); survival, first_passage: None where
    `refused` tells why, by these names; threshold and grown: sizes, None without an induction time.
    """

    replicas: list[Replica]
    threshold: float | None = None
    grown: float | None = None
    induction: list[tuple[float, bool]] = field(default_factory=list)
    transformed: np.ndarray = None
    survival: nucleation.Survival | None = None
    first_passage: nucleation.FirstPassageFit | None = None
    classical: nucleation.Classical | None = None
    refused: dict[str, str] = field(default_factory=dict)
    driving: float | None = None
    gamma: float | None = None

    @property
    def volume(self):
        """Å³, mean over replicas"""
        return float(np.mean([r.volume for r in self.replicas]))

    @property
    def title(self):
        r = self.replicas[0]
        held = "constant volume" if r.pressure is None else f"{r.pressure:g} GPa"
        species = "".join(r.species) or "run"
        return f"{species}, {Path(r.potential).name}, {r.atoms} atoms, {r.temperature:g} K, {held}"

    @property
    def half_transformed(self):
        """ps: when half of the replicas have reached `LEVEL`; None where fewer did within the run."""
        at = np.sort(self.transformed)
        middle = at[(len(at) - 1) // 2]
        return float(middle) if np.isfinite(middle) else None


def groups_of(replicas) -> list[Group]:
    """Replicas sorted into groups, by temperature. ReplicaError where some of one group cannot be taken together."""
    found = {}
    for replica in replicas:
        found.setdefault(replica.state, []).append(replica)
    for members in found.values():
        first = members[0]
        seeds = {}
        for one in members:
            if one.measure != first.measure:
                raise ReplicaError(
                    f"{first.path} has the size of the largest cluster and {one.path} has not, or the other way round: "
                    "they cannot be taken together"
                )
            if one.analysis != first.analysis:
                raise ReplicaError(
                    f"{first.path} and {one.path} call different atoms solid: they cannot be taken together"
                )
            if one.seed in seeds:
                raise ReplicaError(
                    f"{seeds[one.seed]} and {one.path} have the same seed {one.seed}: they are one replica"
                )
            seeds[one.seed] = one.path
    return [Group(members) for _, members in sorted(found.items(), key=lambda item: (item[0][:3], item[0][3]))]


@dataclass
class Theory:
    """Inputs of classical theory: melting temperature K, latent heat eV/atom, difference of the heat capacities of
    liquid and solid eV/(atom K), density of the solid atoms/Å³ (None: of the most solid replica), attachment rate 1/ps."""

    melting: float
    latent_heat: float
    heat_capacity: float = 0.0
    density: float | None = None
    attachment: float | None = None


def evaluate(group, *, threshold=None, grown=None, lag=None, confidence=0.95, theory=None) -> Group:
    """Fills in what the group's replicas allow; what they do not is in `refused`, one sentence each.

    threshold: size; default: n* + 2/b of the first-passage fit. grown: default twice the threshold, but no more than the
    size at which the runs stop by themselves. lag: ps, None: fitted.
    """
    replicas = group.replicas
    series = [(r.time, r.size) for r in replicas]
    group.transformed = np.array([nucleation.transformation_time(r.time, r.solid, LEVEL) for r in replicas])
    try:
        group.first_passage = nucleation.fit_first_passage(series, group.volume)
    except NucleationError as error:
        group.refused["first_passage"] = str(error)
    if threshold is None and group.first_passage:
        threshold = float(np.ceil(group.first_passage.committed))
    if threshold is None:
        group.refused["survival"] = "without a critical size the threshold must be given (--threshold)"
    else:
        stops = [r.stop for r in replicas if r.stop]
        group.threshold, group.grown = threshold, grown or max(threshold, min([2 * threshold, *stops]))
        try:
            group.induction = [nucleation.induction_time(*one, group.threshold, group.grown) for one in series]
            times, nucleated = zip(*group.induction)
            volumes = [r.volume for r in replicas]
            group.survival = nucleation.survival(times, nucleated, volumes, lag, confidence)
        except NucleationError as error:
            group.refused["survival"] = str(error)
    if theory:
        _classical(group, theory)
    return group


def _classical(group, theory):
    if not group.first_passage:
        group.refused["classical"] = "classical theory takes the critical size from the first-passage times"
        return
    temperature = group.replicas[0].temperature
    density = theory.density or max(group.replicas, key=lambda r: r.solid[-1]).density
    driving = nucleation.driving_force(temperature, theory.melting, theory.latent_heat, theory.heat_capacity)
    try:
        if driving <= 0:
            raise NucleationError(f"no driving force at {temperature:g} K, above the melting temperature")
        group.gamma = nucleation.interfacial_energy(group.first_passage.critical, driving, density)
        group.driving = float(driving)
        group.classical = nucleation.classical(temperature, driving, group.gamma, density, theory.attachment)
    except NucleationError as error:
        group.refused["classical"] = str(error)


# --- results


def as_json(groups) -> dict:
    """Everything that was found, with units in the names."""
    return {"groups": [_group_json(group) for group in groups]}


def _group_json(g):
    r = g.replicas[0]
    result = dict(
        potential=Path(r.potential).name,
        species=list(r.species),
        atoms=r.atoms,
        temperature_K=r.temperature,
        pressure_GPa=r.pressure,
        volume_A3=g.volume,
        size=SIZES[r.measure],
        solid=r.analysis,
        threshold=g.threshold,
        grown=g.grown,
        replicas=[
            dict(
                directory=one.path.name,
                seed=one.seed,
                observed_ps=round(float(one.time[-1]), 6),
                largest=float(one.size.max()),
                induction_ps=round(g.induction[k][0], 6) if g.induction else None,
                nucleated=g.induction[k][1] if g.induction else None,
                transformed_ps=round(float(at), 6) if np.isfinite(at) else None,
            )
            for k, (one, at) in enumerate(zip(g.replicas, g.transformed))
        ],
        transformed_level=LEVEL,
        half_transformed_ps=g.half_transformed,
        refused=g.refused,
    )
    if s := g.survival:
        result["survival"] = dict(
            rate_per_m3_s=s.rate * PER_M3_S,
            interval_per_m3_s=[x * PER_M3_S for x in s.interval],
            confidence=s.confidence,
            lag_ps=s.lag,
            lag_fitted=s.lag_fitted,
            events=s.events,
            replicas=s.replicas,
            hazard_trend=s.hazard_trend if np.isfinite(s.hazard_trend) else None,
        )
    if f := g.first_passage:
        factor = dict(rate=PER_M3_S)
        name = dict(rate="rate_per_m3_s", tau="tau_ps", critical="critical_size", growth="growth_atoms_per_ps")
        values = {k: getattr(f, k) for k in ("rate", "tau", "critical", "zeldovich", "growth", "barrier")}
        result["first_passage"] = {name.get(k, k): _finite(v * factor.get(k, 1)) for k, v in values.items()}
        result["first_passage"] |= dict(
            standard_error={name.get(k, k): v * factor.get(k, 1) for k, v in f.errors.items()},
            interval_95={name.get(k, k): [_finite(x * factor.get(k, 1)) for x in v] for k, v in f.intervals.items()},
            residual=f.residual,
            fitted_to=float(f.levels[-1]),
        )
    if c := g.classical:
        result["classical"] = dict(
            driving_force_eV=g.driving,
            interfacial_energy_J_per_m2=g.gamma * J_PER_M2,
            critical_radius_A=c.radius,
            critical_size=c.size,
            barrier_eV=c.barrier,
            barrier_kT=c.reduced,
            zeldovich=c.zeldovich,
            rate_per_m3_s=None if c.rate is None else c.rate * PER_M3_S,
        )
    return result


def _finite(x):
    return float(x) if np.isfinite(x) else None


def as_csv(groups) -> str:
    """One line a replica."""
    head = "temperature_K,pressure_GPa,atoms,directory,seed,observed_ps,largest,induction_ps,nucleated,transformed_ps"
    lines = [head]
    for found in as_json(groups)["groups"]:
        for one in found["replicas"]:
            state = found["temperature_K"], found["pressure_GPa"], found["atoms"]
            cells = (*state, *one.values())
            lines.append(",".join("" if c is None else str(int(c)) if isinstance(c, bool) else str(c) for c in cells))
    return "\n".join(lines) + "\n"


def rate_text(rate, interval=None) -> str:
    """A rate in 1/(m³ s) with its interval."""
    text = f"{rate * PER_M3_S:.2e}"
    if interval:
        text += f" ({interval[0] * PER_M3_S:.2e} to {interval[1] * PER_M3_S:.2e})"
    return text + " /(m³ s)"


def lines_of(group) -> list[tuple[str, str]]:
    """(what, value) of a group for the terminal and the page."""
    g, lines = group, []
    if g.induction:
        times = np.array([t for t, _ in g.induction])
        done = np.array([n for _, n in g.induction])
        if done.any():
            low, high = times[done].min(), times[done].max()
            lines.append(
                ("induction times", f"{low:.1f} to {high:.1f} ps, {done.sum()} of {len(done)} replicas nucleated")
            )
        else:
            lines.append(("induction times", f"none of {len(done)} replicas nucleated"))
        rule = f"last time below {g.threshold:g} before {g.grown:g}, {SIZES[g.replicas[0].measure]}"
        lines.append(("nucleated at", rule))
    if s := g.survival:
        percent = f"{100 * s.confidence:g} %"
        lines.append(("J, survival", f"{rate_text(s.rate, s.interval)}, {percent}"))
        lag = f"{s.lag:.1f} ps{', fitted' if s.lag_fitted else ''}"
        if np.isfinite(s.hazard_trend):
            poisson = abs(s.hazard_trend) < 2
            lag += f"; trend of the rate {s.hazard_trend:+.1f}" + ("" if poisson else ": not a Poisson process")
        lines.append(("lag", lag))
    if f := g.first_passage:

        def with_error(name, digits):
            error = f.errors.get(name)
            return f"{getattr(f, name):.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")

        lines.append(("J, first passage", f"{rate_text(f.rate, f.intervals.get('rate'))}, 95 %"))
        lines.append(("critical size n*", f"{with_error('critical', 0)} atoms"))
        lines.append(("Zeldovich factor", with_error("zeldovich", 4)))
        lines.append(("ΔG*/kT = 3π(Zn*)²", f"{with_error('barrier', 1)}"))
    at = g.transformed[np.isfinite(g.transformed)]
    if len(at):
        half = g.half_transformed
        text = f"{at.min():.1f} to {at.max():.1f} ps, {len(at)} of {len(g.transformed)} replicas"
        lines.append((f"{100 * LEVEL:g} % solid", text + (f", half of them by {half:.1f} ps" if half else "")))
    if c := g.classical:
        lines.append(("Δμ", f"{g.driving:.4f} eV/atom"))
        lines.append(("γ from n* and Δμ", f"{g.gamma * J_PER_M2:.4f} J/m²; r* {c.radius:.2f} Å"))
        lines.append(("ΔG*, classical", f"{c.barrier:.3f} eV = {c.reduced:.1f} kT; Z {c.zeldovich:.4f}"))
        if c.rate is not None:
            lines.append(("J, classical", rate_text(c.rate)))
    names = dict(survival="J, survival", first_passage="J, first passage", classical="classical theory")
    lines += [(names[k], f"none: {reason}") for k, reason in g.refused.items()]
    return lines


def describe(groups) -> str:
    """The results as text for a terminal."""
    blocks = []
    for g in groups:
        lines = lines_of(g)
        width = max(len(what) for what, _ in lines)
        blocks.append("\n".join([g.title, *(f"  {what:<{width}}  {value}" for what, value in lines)]))
    return "\n\n".join(blocks)
