"""Nucleation statistics of replicas, and classical nucleation theory.

What goes in is the size n(t) of the largest crystalline cluster (or any other order parameter that counts atoms) of
independent runs of one state. Three ways lead to the rate J, the number of nuclei per volume and time:

induction times   `induction_time` of each replica, then `survival`: P(t) = exp(−J V (t − t0))
first passage     `fit_first_passage`: the mean time τ(n) at which size n is first reached; J, n*, Zeldovich factor
theory            `classical`: from driving force Δμ, interfacial free energy γ and attachment rate

Units: ps, Å, eV, K; J in 1/(Å³ ps), of which one is `PER_M3_S` nuclei/(m³ s).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares
from scipy.special import erf
from scipy.stats import chi2, norm

from ostwald.app.atoms.units import BOLTZMANN

PER_M3_S = 1e42
"""1/(Å³ ps) in 1/(m³ s)"""
J_PER_M2 = 16.02176634
"""eV/Å² in J/m²"""
LEVELS = 300
"""At most so many sizes at which first passages are taken."""


class NucleationError(ValueError):
    """The data do not allow what was asked; one sentence."""


# --- times of one replica


def _known(time, size):
    """The rows that hold a number, as floats."""
    time, size = np.asarray(time, float), np.asarray(size, float)
    good = np.isfinite(size) & np.isfinite(time)
    if not good.any():
        raise NucleationError("the series has no row with a number")
    return time[good], size[good]


def first_passage(time, size, levels):
    """(levels,) ps: when `size` (rows,) first reaches each of `levels` (ascending); inf where it never does.

    Between two rows the running maximum is interpolated linearly, so the resolution is that of the rows.
    """
    time, size = _known(time, size)
    most = np.maximum.accumulate(size)
    levels = np.asarray(levels, float)
    after = np.searchsorted(most, levels)
    reached = after < len(most)
    k = np.clip(after, 1, len(most) - 1) if len(most) > 1 else np.zeros(len(levels), int)
    before = np.maximum(k - 1, 0)
    rise = most[k] - most[before]
    part = np.divide(levels - most[before], rise, out=np.ones(len(levels)), where=rise > 0)
    at = time[before] + np.clip(part, 0, 1) * (time[k] - time[before])
    return np.where(reached, np.where(after == 0, time[0], at), np.inf)


def induction_time(time, size, threshold, grown=None):
    """(ps, whether it nucleated): the last time that `size` is below `threshold` before it first reaches `grown`.

    Excursions above the threshold that dissolve do not count. grown: default twice the threshold. A series that never
    reaches `grown` is censored: its time is the last one below the threshold, until which it surely had not nucleated.
    """
    time, size = _known(time, size)
    grown = 2 * threshold if grown is None else grown
    if not 0 < threshold <= grown:
        raise NucleationError(f"the threshold {threshold:g} must be above 0 and not above the grown size {grown:g}")
    above = np.flatnonzero(size >= grown)
    end = above[0] if len(above) else len(size)
    below = np.flatnonzero(size[:end] < threshold)
    if not len(below):
        return float(time[0]), bool(len(above))
    k = below[-1]
    if not len(above):
        return float(time[k]), False
    part = (threshold - size[k]) / (size[k + 1] - size[k])
    return float(time[k] + part * (time[k + 1] - time[k])), True


def transformation_time(time, fraction, level=0.4):
    """ps: when the solid fraction first reaches `level`, the time of a TTT diagram; inf if it does not."""
    return float(first_passage(time, fraction, [level])[0])


# --- survival


@dataclass
class Survival:
    """P(t) = exp(−J V (t − lag)) of a set of replicas.

    rate J and interval (low, high) 1/(Å³ ps) at `confidence`; lag ps, of which lag_fitted tells whether it was fitted;
    events nucleated of `replicas`; exposure Å³ ps: Σ V (t − lag); hazard_trend: Barlow and Proschan's test of constancy
    of the rate, standard normal if nucleation is a Poisson process: above 2 it speeds up with time, below −2 it slows
    down (NaN with fewer than 3 events).
    """

    rate: float
    interval: tuple[float, float]
    confidence: float
    lag: float
    lag_fitted: bool
    events: int
    replicas: int
    exposure: float
    hazard_trend: float

    def probability(self, time, volume, rate=None):
        """P that a `volume` (Å³) has not nucleated at `time` (ps)."""
        later = np.maximum(np.asarray(time, float) - self.lag, 0.0)
        return np.exp(-(self.rate if rate is None else rate) * volume * later)


def survival(times, nucleated, volumes=1.0, lag=None, confidence=0.95) -> Survival:
    """The rate by maximum likelihood with right-censored replicas.

    times (replicas,) ps: of nucleation, or until when a replica had not; nucleated (replicas,) bool; volumes (replicas,)
    or one, Å³. lag: ps during which nothing can nucleate; None: fitted.

    With exposure X = Σ V (t − t0) and r events, J = r/X and 2 J X is χ² with 2r degrees of freedom (exact without
    censoring; with it the upper bound takes 2r + 2, which is never too narrow, and gives a bound where r = 0). A fitted
    lag costs the first event: J = (r − 1)/X with X from the first event on, 2r − 2 degrees of freedom, and
    t0 = t_1 − 1/(J Σ V). Lawless, Statistical Models and Methods for Lifetime Data (2003), ch. 4.
    """
    times, nucleated = np.asarray(times, float), np.asarray(nucleated, bool)
    volumes = np.broadcast_to(np.asarray(volumes, float), times.shape)
    if not len(times) or not np.isfinite(times).all() or (volumes <= 0).any():
        raise NucleationError("survival needs replicas with finite times and positive volumes")
    events = int(nucleated.sum())
    fitted = lag is None and events >= 2
    start = float(times[nucleated].min()) if fitted else float(lag or 0.0)
    used = events - 1 if fitted else events
    later = np.maximum(times - start, 0.0)
    exposure = float(volumes @ later)
    if not fitted and events and (times[nucleated] < start).any():
        raise NucleationError(f"a replica nucleated before the lag of {start:g} ps")
    if exposure <= 0:
        raise NucleationError("the replicas were not observed for any time")
    rate = used / exposure
    tail = 0.5 * (1 - confidence)
    spare = 0 if nucleated.all() else 2
    low = chi2.ppf(tail, 2 * used) / (2 * exposure) if used else 0.0
    high = chi2.ppf(1 - tail, 2 * used + spare) / (2 * exposure)
    trend = np.nan
    if used >= 3:
        # between one event and the next the exposures of all replicas at risk add up to exponential numbers
        marks = np.sort(times[nucleated])[-used:]
        total = np.array([volumes @ np.maximum(np.minimum(times, t) - start, 0.0) for t in marks])
        trend = ((total[:-1] / total[-1]).sum() - (used - 1) / 2) / np.sqrt((used - 1) / 12)
    if fitted:
        at_risk = volumes[times >= start].sum()
        start = max(start - 1 / (rate * at_risk), 0.0)
    return Survival(rate, (low, high), confidence, start, fitted, events, len(times), exposure, float(trend))


def kaplan_meier(times, nucleated, confidence=0.95):
    """(t (k,), P (k,), low (k,), high (k,)): the survival function without a model, as steps at the events t (ps).

    Intervals: Greenwood's variance of log(−log P) (Kalbfleisch and Prentice); NaN where P is 0.
    """
    times, nucleated = np.asarray(times, float), np.asarray(nucleated, bool)
    at = np.unique(times[nucleated])
    died = np.array([(nucleated & (times == t)).sum() for t in at], float)
    risk = np.array([(times >= t).sum() for t in at], float)
    p = np.cumprod(1 - died / risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = norm.ppf(0.5 + confidence / 2) * np.sqrt(np.cumsum(died / (risk * (risk - died)))) / np.log(p)
        low, high = p ** np.exp(-width), p ** np.exp(width)
    low, high = np.where(p > 0, low, np.nan), np.where(p > 0, high, np.nan)
    return at, p, np.minimum(low, high), np.maximum(low, high)


# --- mean first-passage time


def mean_first_passage(passages, ends):
    """(levels,) ps: mean first-passage times of passages (replicas, levels), inf where not reached before ends (replicas,).

    Censored replicas count with the time they were observed (maximum likelihood of an exponential): Σ min(T, end)/r.
    NaN where no replica got there.
    """
    reached = np.isfinite(passages).sum(axis=0)
    total = np.minimum(passages, np.asarray(ends, float)[:, None]).sum(axis=0)
    return np.divide(total, reached, out=np.full(len(total), np.nan), where=reached > 0)


def first_passage_model(levels, tau, critical, slope, per_atom=0.0):
    """τ(n) (levels,) ps of `fit_first_passage`; slope b; per_atom: ps that growth takes for each atom."""
    x = slope * (levels - critical)
    passed = 0.5 * (1 + erf(x))
    return tau * passed + per_atom * ((levels - critical) * passed + np.exp(-(x**2)) / (2 * slope * np.sqrt(np.pi)))


@dataclass
class FirstPassageFit:
    """The fit τ(n), with `errors` (half of the middle 68 %) and `intervals` (95 %) over bootstrapped replicas.

    rate J 1/(Å³ ps); tau τ_J ps; critical n*; zeldovich Z = b/√π; growth: atoms/ps, about, of a nucleus past n* (inf: too
    fast to matter, left out).
    levels, passage (k,): the mean first-passage times that were fitted; residual: root mean square, in units of τ_J.
    """

    rate: float
    tau: float
    critical: float
    zeldovich: float
    growth: float
    errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    levels: np.ndarray
    passage: np.ndarray
    residual: float
    replicas: int

    @property
    def slope(self):
        """b"""
        return self.zeldovich * np.sqrt(np.pi)

    @property
    def committed(self):
        """The size n* + 2/b, of which 99.8 % go on to grow."""
        return self.critical + 2 / self.slope

    @property
    def barrier(self):
        """ΔG*/k_BT = 3π (Z n*)²: what the width and place of the top mean for a barrier of classical shape."""
        return 3 * np.pi * (self.zeldovich * self.critical) ** 2

    def curve(self, levels):
        return first_passage_model(levels, self.tau, self.critical, self.slope, 1 / self.growth)


def fit_first_passage(series, volumes=1.0, top=None, bootstrap=200, seed=1) -> FirstPassageFit:
    """J, n* and Z from τ(n) = τ_J/2 [1 + erf(b (n − n*))], J = 1/(τ_J V), Z = b/√π.

    series: [(time (rows,) ps, size (rows,))] of each replica, time counted from when the state was reached.
    volumes: Å³, one or of each replica. top: the largest size fitted; default: enough beyond n* to see the plateau.
    Wedekind, Strey, Reguera, J. Chem. Phys. 126, 134103 (2007). Growth is not instantaneous at deep undercooling:
    where it takes more than a fifth of τ_J to pass the sizes fitted, the fit adds its time beyond n*,
    g ∫ ½[1 + erf(b (m − n*))] dm up to n with g ≥ 0 (after Yi and Rutledge, J. Chem. Phys. 131, 134902 (2009)).
    Errors: replicas are drawn anew `bootstrap` times.

    The form is that of a parabolic top: from the exact passage times of a classical barrier J comes out within 1.5 % of
    the Becker–Döring sum, n* within one atom, for barriers of 4.5 k_BT and more; with the growth term, which leans on the
    foot of the plateau, J is up to 7 % high at 4.5 k_BT, 14 % at 3.2 (tests/unit/test_nucleation.py).

    NucleationError: fewer than 3 replicas grew; no barrier with a plateau within the sizes; growth as slow as nucleation.
    """
    series = [_known(*one) for one in series]
    maxima = np.sort([size.max() for _, size in series])
    ends = np.array([time[-1] for time, _ in series])
    if len(series) < 3:
        raise NucleationError(f"first-passage times need 3 replicas, there are {len(series)}")
    grown = maxima[maxima >= maxima[-1] / 3]
    highest = float(top) if top is not None else float(0.9 * np.median(grown))
    if len(grown) < 3 or highest < 8:
        raise NucleationError("fewer than 3 replicas grew: no mean first-passage times")
    reach = highest if top is not None else min(highest, 1000.0)
    for _ in range(6):
        levels = np.unique(np.rint(np.linspace(1, reach, LEVELS)))
        passages = np.array([first_passage(time, size, levels) for time, size in series])
        passage = mean_first_passage(passages, ends)
        found = _fit(levels, passage)
        if found[3] * (levels[-1] - found[1]) < 0.2 * found[0]:
            found = _fit(levels, passage, found, growth=False)
        if top is not None:
            break
        wanted = min(highest, max(4 * found[1], found[1] + 3 / found[2], 12.0))
        if abs(wanted - reach) <= 0.05 * reach:
            break
        reach = wanted
    tau, critical, slope, per_atom = found
    if not levels[0] < critical < levels[-1] - 1.2 / slope:
        raise NucleationError(
            f"no barrier with a plateau behind it in the first-passage times up to size {levels[-1]:g}"
        )
    if per_atom * critical > 0.5 * tau:
        raise NucleationError(
            f"growth to size {critical:.0f} takes {per_atom * critical:.3g} ps, about as long as nucleation ({tau:.3g} ps): "
            "the two times are not separated, and first-passage times hold no rate"
        )
    residual = float(np.sqrt(np.mean((first_passage_model(levels, *found) - passage) ** 2)) / tau)
    volume = float(np.mean(volumes))
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(bootstrap):
        chosen = random.integers(len(series), size=len(series))
        if np.isfinite(passages[chosen, -1]).any():
            drawn.append(_fit(levels, mean_first_passage(passages[chosen], ends[chosen]), found, found[3] > 0))

    def numbers(fits):
        tau, critical, slope, per_atom = np.asarray(fits, float).T
        growth = np.divide(1.0, per_atom, out=np.full(np.shape(per_atom), np.inf), where=np.asarray(per_atom) > 0)
        zeldovich = slope / np.sqrt(np.pi)
        return dict(
            rate=1 / (tau * volume),
            tau=tau,
            critical=critical,
            zeldovich=zeldovich,
            growth=growth,
            barrier=3 * np.pi * (zeldovich * critical) ** 2,
        )

    spread = numbers(drawn) if drawn else {}
    intervals, errors = {}, {}
    for name, values in spread.items():
        ends = np.quantile(values, (0.025, 0.16, 0.84, 0.975), method="closest_observation")
        intervals[name] = float(ends[0]), float(ends[3])
        if np.isfinite(ends[1:3]).all():
            errors[name] = float(ends[2] - ends[1]) / 2
    best = {k: float(v[0]) for k, v in numbers([found]).items() if k != "barrier"}
    return FirstPassageFit(
        **best,
        errors=errors,
        intervals=intervals,
        levels=levels,
        passage=passage,
        residual=residual,
        replicas=len(series),
    )


def _fit(levels, passage, guess=None, growth=True):
    """(τ_J, n*, b, ps per atom) by least squares; without growth the last is 0."""
    scale, top = float(np.max(passage)), float(levels[-1])
    if guess is None:
        low, middle = (levels[min(np.searchsorted(passage, part * scale), len(levels) - 1)] for part in (0.2, 0.5))
        guess = scale, middle, 1 / max(middle - low, 0.05 * top), 0.0
    unit = np.array([scale, top, 1 / top, scale / top])
    lower, upper = np.array([1e-3, 0.0, 0.2, 0.0]), np.array([3.0, 1.5, 20.0 * top, 5.0])
    start = np.clip(np.asarray(guess) / unit, lower + 1e-6, upper - 1e-6)
    free = 4 if growth else 3

    def misfit(p):
        return (first_passage_model(levels, *(p * unit[:free])) - passage) / scale

    fit = least_squares(misfit, start[:free], bounds=(lower[:free], upper[:free]), x_scale="jac")
    return np.append(fit.x * unit[:free], [0.0] * (4 - free))


# --- classical nucleation theory


def driving_force(temperature, melting, latent_heat, heat_capacity=0.0):
    """Δμ = μ_liquid − μ_solid (eV/atom), positive below the melting temperature, with T and T_m in K.

    latent_heat L: eV/atom at T_m; heat_capacity: c_p(liquid) − c_p(solid), eV/(atom K). Δμ = L (T_m − T)/T_m (Turnbull)
    − Δc_p [(T_m − T) − T ln(T_m/T)].
    """
    undercooling = melting - temperature
    return latent_heat * undercooling / melting - heat_capacity * (
        undercooling - temperature * np.log(melting / temperature)
    )


def driving_force_from_enthalpies(temperature, melting, temperatures, liquid, solid):
    """Δμ (eV/atom) by the Gibbs–Helmholtz relation, T ∫_T^{T_m} [h_liquid − h_solid](T')/T'² dT'.

    temperatures (k,) K, ascending, that reach from T to T_m; liquid, solid (k,): enthalpies of the phases, eV/atom.
    """
    temperatures = np.asarray(temperatures, float)
    low, high = sorted((temperature, melting))
    if len(temperatures) < 2 or temperatures[0] > low or temperatures[-1] < high:
        raise NucleationError(f"the enthalpies must reach from {low:g} to {high:g} K")
    difference = PchipInterpolator(temperatures, np.asarray(liquid, float) - np.asarray(solid, float))
    return temperature * quad(lambda t: difference(t) / t**2, temperature, melting, epsabs=0, epsrel=1e-10)[0]


def attachment_rate(diffusion, size, jump):
    """f⁺ = 24 D n^(2/3)/λ² (1/ps) of a nucleus of `size` atoms; D Å²/ps, jump length λ Å.

    Kelton's form; Auer and Frenkel, J. Chem. Phys. 120, 3015 (2004).
    """
    return 24 * diffusion * size ** (2 / 3) / jump**2


def interfacial_energy(critical, driving, density):
    """γ (eV/Å²) of a spherical nucleus of `critical` atoms: n* = 32π γ³/(3 ρ² Δμ³). driving eV/atom, density 1/Å³."""
    return (3 * density**2 * driving**3 * critical / (32 * np.pi)) ** (1 / 3)


@dataclass
class Classical:
    """Spherical nucleus of classical theory: radius r* Å, size n* atoms, barrier ΔG* eV and reduced ΔG*/k_BT,
    zeldovich Z, rate J 1/(Å³ ps) (None without an attachment rate)."""

    radius: float
    size: float
    barrier: float
    reduced: float
    zeldovich: float
    rate: float | None


def classical(temperature, driving, gamma, density, attachment=None, liquid_density=None) -> Classical:
    """ΔG(r) = −(4π/3) r³ ρ Δμ + 4π r² γ at its top.

    temperature K; driving Δμ > 0 eV/atom; gamma γ eV/Å²; density ρ of the solid, atoms/Å³ (that of the liquid too unless
    given); attachment: f⁺ at n*, 1/ps. r* = 2γ/(ρΔμ), n* = (4π/3) ρ r*³, ΔG* = 16π γ³/(3 ρ² Δμ²),
    Z = √(Δμ/(6π k_BT n*)), J = ρ_liquid Z f⁺ exp(−ΔG*/k_BT).
    """
    if not (driving > 0 and gamma > 0 and density > 0 and temperature > 0):
        raise NucleationError(
            "classical theory needs positive temperature, driving force, interfacial energy and density"
        )
    kt = BOLTZMANN * temperature
    radius = 2 * gamma / (density * driving)
    size = 4 / 3 * np.pi * density * radius**3
    barrier = 16 * np.pi * gamma**3 / (3 * (density * driving) ** 2)
    zeldovich = np.sqrt(driving / (6 * np.pi * kt * size))
    rate = None
    if attachment is not None:
        rate = (liquid_density or density) * zeldovich * attachment * np.exp(-barrier / kt)
    return Classical(radius, size, barrier, barrier / kt, zeldovich, rate)
