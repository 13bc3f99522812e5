"""How far a predicted phase field is from the true one: point by point, and in what they say about the microstructure.

Sources: Lanzoni et al., Mach. Learn.: Sci. Technol. 5 (2024) 045017, section III.C (RMSE, δ̄, free energy, decay exponent); Lanzoni,
thesis, sections 7.2 to 7.5 (MAE, interface length, isotropy, fractal dimension, phase diagram); structural similarity: Wang et al., IEEE
Trans. Image Process. 13 (2004) 600, doi:10.1109/TIP.2003.819861.
"""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.phasefield import Boundary, Isotropy, Morphology, StructureFactor
from ostwald.app.surrogate.resampling import repeated

HOMOGENEOUS = 0.05
"""Span of φ below which a field has not decomposed (Lanzoni, thesis, section 7.5)."""
SSIM_WIDTH, SSIM_CUT = 1.5, 5
"""Standard deviation of the window of structural similarity, and where it is cut off, in points."""
K1, K2 = 0.01, 0.03

POINTWISE = {
    "rmse": "root of the mean squared difference",
    "mae": "mean absolute difference",
    "largest": "largest absolute difference",
    "rmse_fine": "RMSE on the truth's own grid, each predicted point repeated",
    "delta": "root-mean-square displacement of interfaces, δ̄ = (∫(φ-φ̂)² dx/∫|∇φ|² dx)^½, a length",
    "iou": "intersection over union of the phase φ > level",
    "misplaced": "share of points that are in the other phase",
    "pearson": "correlation of φ and its prediction",
    "psnr": "peak signal over noise, dB; the peak is the distance of the phases",
    "ssim": "mean structural similarity",
}
RELATIVE = {"energy_error": "energy", "interface_error": "interface", "length_error": "length"}
"""Errors relative to what the truth has: column -> the number of Descriptors."""
ERRORS = (*POINTWISE, "spectrum_error", *RELATIVE)
"""Columns of what compares two fields. spectrum_error = Σ |Ŝ - S| / Σ S over wave vectors."""


def pointwise(truth, guess, steepness, phases, periodic=True, fine=None) -> dict[str, float]:
    """The numbers of POINTWISE, NaN where one is not defined.

    truth, guess: fields of one shape. steepness: mean of |∇φ|² of the truth. phases: (low, high) φ of the two phases; level is their middle.
    fine: the truth on a grid that is finer by a whole number, for rmse_fine; None: it is rmse.
    """
    difference = guess - truth
    square = float(np.mean(difference**2))
    low, high = phases
    a, b = truth > 0.5 * (low + high), guess > 0.5 * (low + high)
    union = np.count_nonzero(a | b)
    spread = float(truth.std() * guess.std())
    covariance = float(np.mean((truth - truth.mean()) * (guess - guess.mean())))
    fine_square = square
    if fine is not None:
        fine_square = float(np.mean((repeated(guess, fine.shape[0] // guess.shape[0]) - fine) ** 2))
    return dict(
        rmse=math.sqrt(square),
        mae=float(np.mean(np.abs(difference))),
        largest=float(np.max(np.abs(difference))),
        rmse_fine=math.sqrt(fine_square),
        delta=math.sqrt(square / steepness) if steepness > 0 else math.nan,
        iou=np.count_nonzero(a & b) / union if union else 1.0,
        misplaced=float(np.mean(a != b)),
        pearson=covariance / spread if spread > 0 else math.nan,
        psnr=20 * math.log10((high - low) / math.sqrt(square)) if square > 0 else math.inf,
        ssim=ssim(truth, guess, high - low, periodic),
    )


def ssim(a, b, peak: float, periodic: bool = True) -> float:
    """Mean structural similarity of two fields of any number of dimensions, in Gaussian windows."""
    from scipy.ndimage import gaussian_filter

    def mean(x):
        return gaussian_filter(x, SSIM_WIDTH, mode="wrap" if periodic else "reflect", radius=SSIM_CUT)

    a, b = np.asarray(a, float), np.asarray(b, float)
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    likeness = (2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return float(likeness.mean())


class Descriptors:
    """What one field says of the microstructure: free energy and its parts, extremes, structure factor, interface, topology, domains,
    fractal dimension, in two dimensions isotropy.

    solver: one of app.phasefield on the grid of the fields, whose field is overwritten; it measures the free energy as it does in a run.
    columns: the numbers of measure(); those of wave numbers need a periodic box, those of phases a well of two minima.
    """

    def __init__(self, solver):
        self.solver = solver
        self.phases = minima[:: len(minima) - 1] if len(minima := solver.well.minima()) > 1 else None
        self.periodic = set(solver.boundaries) == {"periodic"}
        analyses = [StructureFactor()] if self.periodic else []
        if self.phases is not None:
            analyses += [Morphology(tuple(self.phases)), Boundary(0.5 * sum(self.phases))]
        if len(solver.spacing) == 2 and self.periodic:
            analyses.append(Isotropy())
        self._analyses = analyses
        parts = ("energy", "bulk", "gradient", "elastic", "low", "high", "mean")
        self.columns = (*parts, *(name for each in analyses for name in each.columns))

    def measure(self, field) -> tuple[dict, dict]:
        """Numbers, and S(k) over k: {"wave_number", "structure_factor", "modes"} where there is one. Diverged where not finite."""
        self.solver.set_field(np.ascontiguousarray(field, self.solver.dtype))
        numbers, profiles = dict(self.solver.measure()), {}
        numbers["mean"] = float(np.mean(field, dtype=np.float64))
        for analysis in self._analyses:
            found, more = analysis.measure(self.solver)
            numbers |= found
            profiles |= more
        return {name: float(numbers[name]) for name in self.columns}, profiles

    def compare(self, truth, guess, of_truth, of_guess, fine=None) -> dict[str, float]:
        """The numbers of ERRORS. of_truth, of_guess: what measure() gave for them."""
        numbers, spectrum = of_truth
        steepness = 2 * numbers["gradient"] / (self.solver.epsilon * self.solver.volume)
        found = pointwise(truth, guess, steepness, self.phases or (0.0, 1.0), self.periodic, fine)
        found["spectrum_error"] = math.nan
        if "structure_factor" in spectrum:
            s, modes = spectrum["structure_factor"], spectrum["modes"]
            total = float(s @ modes)
            apart = float(np.abs(of_guess[1]["structure_factor"] - s) @ modes)
            found["spectrum_error"] = apart / total if total > 0 else math.nan
        for column, name in RELATIVE.items():
            found[column] = relative(of_guess[0].get(name, math.nan), numbers.get(name, math.nan))
        return found


def relative(value: float, true: float) -> float:
    """|value - true|/|true|; 0 of two zeros, NaN of what is not finite."""
    if value == true:
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        found = float(np.abs(np.float64(value) - true) / np.abs(np.float64(true)))
    return found if math.isfinite(found) else math.nan


def decay_exponent(time, energy, window=None) -> tuple[float, float]:
    """(p, its standard error) of energy ~ t^p by least squares of the logarithms within `window` of times (first, last); by default the
    last factor of ten. NaN where there are fewer than three points, all times and energies above zero."""
    time, energy = np.asarray(time, float), np.asarray(energy, float)
    first, last = window or (time[-1] / 10, time[-1])
    near = 1e-9 * abs(last)
    used = (time > 0) & (time >= first - near) & (time <= last + near) & np.isfinite(energy) & (energy > 0)
    if np.count_nonzero(used) < 3:
        return math.nan, math.nan
    x, y = np.log(time[used]), np.log(energy[used])
    x = x - x.mean()
    slope = float(x @ (y - y.mean()) / (x @ x))
    rest = y - y.mean() - slope * x
    return slope, math.sqrt(float(rest @ rest) / (len(x) - 2) / float(x @ x))


def decomposed(low, high):
    """Whether fields of these lowest and highest φ have decomposed."""
    return np.asarray(high) - np.asarray(low) >= HOMOGENEOUS


def morphology(numbers, dimensions: int) -> str:
    """The shape of what a field has come to, from along how many axes its phases join themselves: "homogeneous", "droplet",
    "cylinder", "layer", or "network" where both phases do so along every axis."""
    if not decomposed(numbers["low"], numbers["high"]):
        return "homogeneous"
    across = int(min(numbers["spans_high"], numbers["spans_low"]))
    names = {dimensions: "network", dimensions - 1: "layer", 0: "droplet"}
    return names.get(across, "cylinder")


def least_area(fraction: float, dimensions: int) -> str:
    """The shape of least interface in a periodic cube or square, whose minority phase fills a fraction of it: droplets below 4π/81 (1/π in
    two dimensions), cylinders below 1/π, else layers."""
    fraction = min(fraction, 1 - fraction)
    if fraction < (1 / math.pi if dimensions == 2 else 4 * math.pi / 81):
        return "droplet"
    return "cylinder" if dimensions == 3 and fraction < 1 / math.pi else "layer"


class LinearTheory:
    """Waves that grow by themselves: φ^(q, t) = φ^(q, 0) exp(s t), s = -M q² (g''(<φ>) + ε q² + Y(n)), cut at the values of the
    phases; the baseline of early times (Lanzoni, thesis, Eq. 6.9). A periodic box."""

    def __init__(self, field, spacing, well, epsilon, mobility, elasticity=None):
        self._shape, self._mean = field.shape, float(field.mean())
        waves = [2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(field.shape[:-1], spacing)]
        waves.append(2 * np.pi * np.fft.rfftfreq(field.shape[-1], spacing[-1]))
        q = np.meshgrid(*waves, indexing="ij")
        square, stiff = sum(k * k for k in q), float(well.energy(self._mean, 2))
        if elasticity is not None:
            q[0][square == 0] = 1.0  # has no direction; its rate is zero anyhow
            stiff = stiff + elasticity.factor(*q)
        self._rate = -mobility * square * (stiff + epsilon * square)
        self._start = np.fft.rfftn(field - self._mean)
        minima = well.minima()
        self._between = (minima[0], minima[-1]) if len(minima) > 1 else (-np.inf, np.inf)

    def field(self, time: float) -> np.ndarray:
        """φ this long after the start."""
        grown = self._start * np.exp(np.minimum(self._rate * time, 200.0))
        return np.clip(self._mean + np.fft.irfftn(grown, self._shape, axes=range(len(self._shape))), *self._between)
