"""Nucleation statistics against closed forms and against chains whose rates are known exactly."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf

from ostwald.app.analysis import nucleation
from ostwald.app.analysis.nucleation import NucleationError
from ostwald.app.atoms.units import BOLTZMANN

# --- times of one replica


def test_first_passage_interpolates_the_running_maximum():
    time = np.arange(6.0)
    size = np.array([1.0, 3.0, 2.0, np.nan, 7.0, 5.0])
    passed = nucleation.first_passage(time, size, [0.5, 1, 2, 3, 5, 7, 8])
    assert passed[:4] == pytest.approx([0, 0, 0.5, 1.0]) and passed[5] == 4.0 and passed[6] == np.inf
    assert passed[4] == pytest.approx(2 + 2 * 0.5)  # from 3, at t = 2 still, to 7 at t = 4: the row between is unknown
    assert nucleation.first_passage([1.0], [4.0], [3, 5]).tolist() == [1.0, np.inf]
    assert nucleation.transformation_time([0, 10, 20], [0, 0.2, 0.6]) == pytest.approx(15.0)
    with pytest.raises(NucleationError, match="no row"):
        nucleation.first_passage([0.0], [np.nan], [1])


def test_induction_time_is_the_last_below_the_threshold():
    time = np.arange(8.0)
    size = np.array([2, 12, 4, 3, 9, 15, 30, 8.0])  # an embryo of 12 dissolves; 8 at the end is after growth
    assert nucleation.induction_time(time, size, 10) == (pytest.approx(4 + 1 / 6), True)
    assert nucleation.induction_time(time, size, 10, grown=12) == (pytest.approx(0.8), True)
    assert nucleation.induction_time(time, size, 10, grown=40) == (7.0, False)
    assert nucleation.induction_time(time[:6], size[:6], 10) == (4.0, False)  # growing, but not yet grown: until 4
    with pytest.raises(NucleationError, match="threshold"):
        nucleation.induction_time(time, size, 10, grown=5)


# --- survival


def test_survival_closed_form():
    found = nucleation.survival([1.0, 2.0, 5.0, 5.0], [True, True, False, False], volumes=2.0, lag=0.0)
    assert found.rate == pytest.approx(2 / 26) and found.exposure == 26 and found.events == 2 and not found.lag_fitted
    fitted = nucleation.survival([3.0, 4.0, 8.0], [True] * 3, volumes=[1.0, 2.0, 4.0])
    assert fitted.rate == pytest.approx(2 / (2 * 1 + 4 * 5)) and fitted.lag == pytest.approx(3 - 1 / (fitted.rate * 7))
    assert fitted.probability(fitted.lag + 1 / fitted.rate, 1.0) == pytest.approx(np.exp(-1))
    nothing = nucleation.survival([10.0, 10.0], [False, False])
    assert nothing.rate == 0 and nothing.interval[0] == 0
    assert nothing.interval[1] == pytest.approx(-np.log(0.025) / 20)  # P(no event) = 2.5 % at the upper bound
    with pytest.raises(NucleationError, match="before the lag"):
        nucleation.survival([1.0], [True], lag=2.0)


@pytest.mark.parametrize("lag", [0.0, None])
@pytest.mark.parametrize("end", [np.inf, 12.0])
def test_survival_covers_the_rate_as_often_as_it_says(lag, end):
    """Exponential times behind a lag of 3, 500 times over 12 replicas: interval, bias and trend are as stated."""
    random = np.random.default_rng(7)
    rate, true_lag, volume = 0.02, 0.0 if lag == 0.0 else 3.0, 5.0
    inside, inverse, trends = 0, [], []
    for _ in range(500):
        times = true_lag + random.exponential(1 / (rate * volume), 12)
        nucleated = times < end
        if nucleated.sum() < 2:
            continue
        found = nucleation.survival(np.minimum(times, end), nucleated, volume, lag)
        inside += found.interval[0] <= rate <= found.interval[1]
        inverse.append(found.exposure / max(found.events - found.lag_fitted, 1))
        trends.append(found.hazard_trend)
    share = inside / len(inverse)
    assert (0.925 if end == np.inf else 0.94) < share < (0.975 if end == np.inf else 0.995)
    assert np.median(inverse) == pytest.approx(1 / rate, rel=0.08)
    trends = np.array(trends)[np.isfinite(trends)]
    assert abs(trends.mean()) < 0.2 and 0.85 < trends.std() < 1.15


def test_censoring_does_not_bias_the_rate():
    """Many replicas stopped early, at times of their own: the rate is that of the uncensored, leaving them out is not."""
    random = np.random.default_rng(3)
    times, ends = 2 + random.exponential(10.0, 20000), random.uniform(3, 15, 20000)
    nucleated = times < ends
    assert nucleated.mean() < 0.5
    found = nucleation.survival(np.minimum(times, ends), nucleated, lag=2.0)
    assert found.rate == pytest.approx(0.1, rel=0.03) and found.interval[0] < 0.1 < found.interval[1]
    assert nucleation.survival(times[nucleated], nucleated[nucleated], lag=2.0).rate > 0.2
    at, p, low, high = nucleation.kaplan_meier(np.minimum(times, ends), nucleated)
    exact = np.exp(-0.1 * (at - 2))
    early = at < 10
    assert (
        np.abs(p - exact)[early].max() < 0.015
        and (low <= p).all()
        and ((low < exact) & (exact < high))[early].mean() > 0.7
    )


def test_hazard_trend_sees_what_is_not_a_poisson_process():
    random = np.random.default_rng(5)
    late = random.weibull(4.0, 30) * 10  # gets likelier with time
    assert nucleation.survival(late, [True] * 30, lag=0.0).hazard_trend > 3
    mixed = np.concatenate([random.exponential(1.0, 15), random.exponential(40.0, 15)])
    assert nucleation.survival(mixed, [True] * 30, lag=0.0).hazard_trend < -3


def test_kaplan_meier_of_the_book():
    """Remission times of the 6-MP group of Freireich et al. (1963), the example of every textbook."""
    times = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    died = [True] * 9 + [False] * 12
    at, p, low, high = nucleation.kaplan_meier(times, died)
    assert at.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert p == pytest.approx([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], abs=6e-4)
    assert (low[0], high[0]) == (pytest.approx(0.620, abs=2e-3), pytest.approx(0.952, abs=2e-3))
    assert (low < p).all() and (p < high).all()


# --- first passage: a Becker–Döring chain on a classical barrier


class Chain:
    """Attachment β_n = β n^(2/3), detachment by detailed balance with ΔG(n)/kT = −δ n + s n^(2/3), from n = 1."""

    def __init__(self, driving=0.5, critical=30.0, attachment=0.004, sizes=400):
        n = self.n = np.arange(1, sizes + 1, dtype=float)
        surface = 1.5 * driving * critical ** (1 / 3)
        self.barrier = -driving * n + surface * n ** (2 / 3)
        self.up = attachment * n ** (2 / 3)  # probability in one step of time 1
        self.down = np.zeros(sizes)
        self.down[1:] = self.up[:-1] * np.exp(self.barrier[1:] - self.barrier[:-1])
        assert (self.up + self.down).max() < 1

    def passage(self):
        """(sizes,) exact mean first-passage times from 1 to each size."""
        weight = np.exp(-(self.barrier - self.barrier[0]))
        step = np.cumsum(weight) / (self.up * weight)
        return np.concatenate([[0], np.cumsum(step)[:-1]])

    def steady_rate(self):
        """The Becker–Döring sum J = 1/Σ 1/(β_n c_n), c_n normalised over the sizes below the top."""
        weight = np.exp(-(self.barrier - self.barrier[0]))
        return 1 / (1 / (self.up * weight)).sum() / weight[: np.argmax(self.barrier)].sum()

    def run(self, replicas, steps, every, seed):
        """[(time, size)] of chains that stop at the largest size, sampled at intervals."""
        random = np.random.default_rng(seed)
        k, kept = np.zeros(replicas, int), []
        for step in range(steps + 1):
            if step % every == 0:
                kept.append(self.n[k])
            u = random.random(replicas)
            k = np.where(k == len(self.n) - 1, k, k + (u < self.up[k]) - (u > 1 - self.down[k]))
        return [(every * np.arange(len(kept)), size) for size in np.array(kept).T]


REPLICAS = 250


@pytest.fixture(scope="module")
def chain():
    found = Chain(driving=0.45, critical=25.0, attachment=0.021, sizes=110)
    return found, found.run(REPLICAS, 160000, 10, seed=11)


def test_first_passages_of_a_chain_are_the_exact_ones(chain):
    chain, series = chain
    exact = chain.passage()
    levels = np.array([5, 10, 20, 25, 40, 60, 100])
    passages = np.array([nucleation.first_passage(*one, levels) for one in series])
    tau = nucleation.mean_first_passage(passages, [time[-1] for time, _ in series])
    error = tau / np.sqrt(np.isfinite(passages).sum(axis=0))
    assert (np.abs(tau - exact[levels - 1])[2:] < 3 * error[2:]).all() and (error[2:] < 0.08 * tau[2:]).all()


def test_first_passage_fit_recovers_the_chain(chain):
    chain, series = chain
    found = nucleation.fit_first_passage(series, volumes=4.0)
    top = np.argmax(chain.barrier)
    curvature = -(chain.barrier[top + 1] - 2 * chain.barrier[top] + chain.barrier[top - 1])
    assert found.critical == pytest.approx(chain.n[top], abs=3)
    assert found.zeldovich == pytest.approx(np.sqrt(curvature / (2 * np.pi)), rel=0.2)
    low, high = found.intervals["rate"]
    exact = chain.steady_rate() / 4.0
    assert low < exact < high and found.rate == pytest.approx(exact, rel=0.2)
    assert found.errors["rate"] / found.rate == pytest.approx(1 / np.sqrt(REPLICAS), rel=0.5)
    assert found.residual < 0.02 and found.critical < found.committed < 3 * found.critical
    # width and place of the top give its height above the continuous ΔG(0) = 0
    assert found.barrier == pytest.approx(0.45 * 25 / 2, rel=0.35)
    again = nucleation.fit_first_passage(series, volumes=4.0)
    assert again.errors == found.errors and again.rate == found.rate


@pytest.mark.parametrize("growth, within", [(False, (0.005, 0.02, 0.01)), (True, (0.045, 0.075, 0.025))])
def test_fit_of_exact_passage_times(growth, within):
    """Without noise: how far the error function is from the Becker–Döring sum for barriers of 5.5, 4.5 and 10 kT."""
    for critical, driving, error in zip((20.0, 30.0, 60.0), (0.8, 0.4, 0.4), within):
        chain = Chain(driving, critical, attachment=0.004, sizes=300)
        levels = chain.n[: int(4 * critical)]
        tau, n, slope, per_atom = nucleation._fit(levels, chain.passage()[: len(levels)], growth=growth)
        assert 1 / tau == pytest.approx(chain.steady_rate(), rel=error)
        assert n == pytest.approx(critical, abs=1.0)
        top = np.argmax(chain.barrier)
        curvature = -(chain.barrier[top + 1] - 2 * chain.barrier[top] + chain.barrier[top - 1])
        assert slope / np.sqrt(np.pi) == pytest.approx(np.sqrt(curvature / (2 * np.pi)), rel=0.1 if growth else 0.03)
        assert (per_atom > 0) == growth and per_atom * (levels[-1] - n) < 0.2 * tau


def test_short_runs_give_the_same_rate(chain):
    """Series cut at one mean time of nucleation: a third of the replicas is censored, the rate stays."""
    chain, series = chain
    end = 1 / chain.steady_rate()
    cut = [(time[time < end], size[time < end]) for time, size in series]
    assert 0.25 < np.mean([size.max() < 100 for _, size in cut]) < 0.55
    found = nucleation.fit_first_passage(cut, top=90)
    assert found.rate == pytest.approx(chain.steady_rate(), rel=0.25)
    times, nucleated = zip(*(nucleation.induction_time(*one, 50) for one in cut))
    low, high = nucleation.survival(times, nucleated).interval
    assert low < chain.steady_rate() < high


def test_growth_takes_the_time_it_takes():
    """Behind the top τ(n) rises by 1/drift an atom: the fit tells it from τ_J; its form is the integral it claims."""
    levels = np.arange(1.0, 200.0)
    exact = [
        500 * 0.5 * (1 + erf(0.1 * (n - 40))) + quad(lambda m: 0.2 * (1 + erf(0.1 * (m - 40))), -100, n)[0]
        for n in levels
    ]
    assert nucleation.first_passage_model(levels, 500.0, 40.0, 0.1, 0.4) == pytest.approx(exact, rel=1e-6, abs=1e-6)
    assert nucleation._fit(levels, np.array(exact)) == pytest.approx([500, 40, 0.1, 0.4], rel=1e-3)
    random = np.random.default_rng(2)
    time = np.linspace(0, 600, 1201)
    series = []
    for born in random.exponential(60.0, 100):  # embryos come and go; then a nucleus grows by 2 atoms a unit of time
        embryos = np.minimum(random.geometric(0.1, len(time)), 25)
        series.append((time, np.maximum(embryos, 20 + 2 * (time - born) * (time > born))))
    found = nucleation.fit_first_passage(series, top=200)
    assert found.growth == pytest.approx(2.0, rel=0.1) and found.tau == pytest.approx(60, rel=0.2)


def test_what_cannot_be_fitted_is_refused(chain):
    _, series = chain
    with pytest.raises(NucleationError, match="need 3 replicas"):
        nucleation.fit_first_passage(series[:2])
    quiet = [(time[:5], size[:5]) for time, size in series[:5]]
    with pytest.raises(NucleationError, match="fewer than 3 replicas grew"):
        nucleation.fit_first_passage(quiet)
    time = np.linspace(0, 10, 200)
    with pytest.raises(NucleationError, match=r"not separated|plateau"):  # steady growth from the start: no barrier
        nucleation.fit_first_passage([(time, 30 * time + k) for k in range(5)])


# --- classical theory


def test_classical_nucleus_is_the_top_of_the_barrier():
    temperature, driving, gamma, density = 600.0, 0.045, 0.0075, 0.058
    found = nucleation.classical(temperature, driving, gamma, density, attachment=50.0)
    r = np.linspace(0.1, 40, 400001)
    work = -4 / 3 * np.pi * r**3 * density * driving + 4 * np.pi * r**2 * gamma
    assert found.radius == pytest.approx(r[work.argmax()], abs=2e-4) and found.barrier == pytest.approx(work.max())
    # In the source, equation 2.62 lacks the cube: n* = (4π/3) ρ r*³, and ΔG* = n* Δμ / 2.
    assert found.size == pytest.approx(4 / 3 * np.pi * density * found.radius**3)
    assert found.barrier == pytest.approx(found.size * driving / 2)
    n = np.array([-1, 0, 1]) + found.size
    surface = 4 * np.pi * gamma * (3 / (4 * np.pi * density)) ** (2 / 3)
    of_n = -driving * n + surface * n ** (2 / 3)
    kt = BOLTZMANN * temperature
    assert found.zeldovich == pytest.approx(np.sqrt(-(of_n[0] - 2 * of_n[1] + of_n[2]) / (2 * np.pi * kt)), rel=1e-3)
    assert found.rate == pytest.approx(density * found.zeldovich * 50 * np.exp(-found.barrier / kt))
    assert nucleation.interfacial_energy(found.size, driving, density) == pytest.approx(gamma)
    assert 3 * np.pi * (found.zeldovich * found.size) ** 2 == pytest.approx(found.reduced)
    with pytest.raises(NucleationError, match="positive"):
        nucleation.classical(1000.0, -0.01, gamma, density)


def test_classical_rate_is_the_becker_doering_sum():
    """ρ Z f⁺ exp(−ΔG*/kT) against the sum over all sizes, for a barrier of 25 kT."""
    temperature, driving, gamma, density = 600.0, 0.03, 0.0075, 0.058
    found = nucleation.classical(temperature, driving, gamma, density)
    jump, diffusion = 1.0, 0.5
    n = np.arange(1, 1000, dtype=float)
    surface = 4 * np.pi * gamma * (3 / (4 * np.pi * density)) ** (2 / 3)
    work = (-driving * n + surface * n ** (2 / 3)) / (BOLTZMANN * temperature)
    attach = nucleation.attachment_rate(diffusion, n, jump)
    exact = density / np.sum(1 / (attach * np.exp(-work)))
    rate = nucleation.classical(
        temperature, driving, gamma, density, nucleation.attachment_rate(diffusion, found.size, jump)
    ).rate
    assert found.reduced > 20 and rate == pytest.approx(exact, rel=0.05)


def test_driving_force_of_constant_heat_capacities():
    melting, latent, excess = 930.0, 0.11, 2e-5
    temperatures = np.linspace(500, 1000, 101)
    difference = latent - excess * (melting - temperatures)
    for t in (550.0, 700.0, 930.0):
        exact = nucleation.driving_force(t, melting, latent, excess)
        found = nucleation.driving_force_from_enthalpies(
            t, melting, temperatures, difference + 1.3, 1.3 + 0 * difference
        )
        assert found == pytest.approx(exact, rel=1e-6, abs=1e-12)
        assert nucleation.driving_force(t, melting, latent) == pytest.approx(latent * (melting - t) / melting)
    assert nucleation.driving_force(600, melting, latent, excess) < nucleation.driving_force(600, melting, latent)
    with pytest.raises(NucleationError, match="must reach from 400 to 930 K"):
        nucleation.driving_force_from_enthalpies(400, melting, temperatures, difference, 0 * difference)
