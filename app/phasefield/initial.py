"""Initial fields, as functions of the global grid index: the same bits on any number of ranks and any decomposition.

Every field gives any box of the grid, box(lo, hi), so a rank makes its own part, piece by piece:

    solver.set_field(Perlin(shape, seed=1, cells=16, mean=0.5, amplitude=0.3).source(solver.parts))

Point i of an axis lies at i times the spacing. Fields of one grid can be added. Periodic but for PFHub's formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ostwald.parallel import philox_normal, philox_uniform

BLOCK = 1 << 17  # points that are made at a time: their temporary arrays stay in the cache
LACUNARITY = 2  # lattice cells of an octave over those of the one before


class InitialField:
    """A field on a grid: shape (2 or 3 lengths), spacing (one number or one per axis), and what defines it."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def box(self, lo, hi) -> np.ndarray:
        """The points from index `lo` to `hi` (exclusive): float64, shape hi - lo."""
        lo, hi = tuple(int(i) for i in lo), tuple(int(i) for i in hi)
        if len(lo) != len(self.shape) or any(not 0 <= a <= b <= n for a, b, n in zip(lo, hi, self.shape)):
            raise ValueError(f"there is no box {lo} to {hi} in a grid of {' x '.join(map(str, self.shape))}")
        out = np.empty(tuple(b - a for a, b in zip(lo, hi)))
        step = max(1, BLOCK // max(1, math.prod(out.shape[1:])))
        for first in range(lo[0], hi[0], step):
            last = min(first + step, hi[0])
            out[first - lo[0] : last - lo[0]] = self._block((first, *lo[1:]), (last, *hi[1:]))
        return out

    def source(self, parts):
        """(first, last) -> planes first ... last - 1 of this rank's brick, for CahnHilliard.set_field."""
        self._check_grid(parts.shape)
        lo, hi = parts.lo, parts.hi
        return lambda first, last: self.box((lo[0] + first, *lo[1:]), (lo[0] + last, *hi[1:]))

    def with_mean(self, mean: float, parts) -> InitialField:
        """Collective. This field with a constant added, so that its mean over the grid is `mean` to rounding.

        The field is made once to find the constant, which is the same on any decomposition: lines along the last axis,
        never divided, are summed in floating point, and the lines as whole numbers.
        """
        source, error, total = self.source(parts), None, 0
        try:
            lines = max(1, math.prod(parts.local[1:-1]))
            step = max(1, BLOCK // max(1, lines * self.shape[-1]))
            for first in range(0, parts.local[0], step):
                sums = source(first, min(first + step, parts.local[0])).sum(axis=-1)
                total += sum(int(math.ldexp(x, 200)) for x in sums.ravel().tolist())
        except (OverflowError, ValueError):  # from int(inf), int(nan)
            error = ValueError("the initial field is not finite")
        except Exception as caught:
            error = caught
        parts.world.agree(error)
        total = sum(parts.world.allgather(total))
        found = total / (math.prod(self.shape) << 200)  # of whole numbers: rounded once
        return Sum((self, Constant(self.shape, self.spacing, mean - found)))

    def __add__(self, other: InitialField) -> InitialField:
        return Sum((self, other))

    def _block(self, lo, hi) -> np.ndarray:
        raise NotImplementedError

    def _check_grid(self, shape):
        if tuple(shape) != self.shape:
            raise ValueError(f"the initial field is of a grid {self.shape}, not {tuple(shape)}")

    def __post_init__(self):
        set_ = object.__setattr__
        set_(self, "shape", tuple(int(n) for n in self.shape))
        set_(self, "spacing", tuple(float(h) for h in np.broadcast_to(self.spacing, len(self.shape))))
        if len(self.shape) not in (2, 3) or min(self.shape) < 1 or not min(self.spacing) > 0:
            raise ValueError(f"a grid has two or three positive lengths and spacings, not {self.shape}, {self.spacing}")

    @property
    def lengths(self) -> tuple[float, ...]:
        """Of the box."""
        return tuple(n * h for n, h in zip(self.shape, self.spacing))


@dataclass(frozen=True)
class Constant(InitialField):
    """The same value everywhere."""

    shape: Sequence[int]
    spacing: float | Sequence[float] = 1.0
    value: float = 0.0

    def _block(self, lo, hi):
        return np.full(tuple(b - a for a, b in zip(lo, hi)), float(self.value))


@dataclass(frozen=True)
class Sum(InitialField):
    """The sum of fields of one grid."""

    fields: tuple[InitialField, ...]

    def __post_init__(self):
        first = self.fields[0]
        for field in self.fields[1:]:
            field._check_grid(first.shape)
        object.__setattr__(self, "shape", first.shape)
        object.__setattr__(self, "spacing", first.spacing)

    def _block(self, lo, hi):
        out = self.fields[0].box(lo, hi)
        for field in self.fields[1:]:
            out += field.box(lo, hi)
        return out


@dataclass(frozen=True)
class UniformNoise(InitialField):
    """mean + amplitude u, u uniform in (-1, 1), independent at every point."""

    shape: Sequence[int]
    spacing: float | Sequence[float] = 1.0
    seed: int = 0
    mean: float = 0.5
    amplitude: float = 0.1

    def _block(self, lo, hi):
        ids = _ids(self.shape, lo, hi)
        out = philox_uniform(self.seed, "uniform field", ids.ravel())[:, 0].reshape(ids.shape)
        out -= 0.5
        out *= 2 * self.amplitude
        out += self.mean
        return out


@dataclass(frozen=True)
class GaussianNoise(InitialField):
    """mean + amplitude g, g normal with standard deviation 1 at every point.

    correlation: the length ℓ in <g(0) g(r)> = exp(-r²/(2ℓ²)), in the unit of the spacing; 0 is white noise. Correlated
    noise is white noise convolved with a Gaussian (of width ℓ/√2, to six times that, periodic), plane by plane through
    a transform and across planes in a sliding window, which holds about 8.5 ℓ/spacing planes of the box.
    """

    shape: Sequence[int]
    spacing: float | Sequence[float] = 1.0
    seed: int = 0
    mean: float = 0.5
    amplitude: float = 0.1
    correlation: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.correlation < math.inf:
            raise ValueError(f"a correlation length is 0 or more, not {self.correlation}")
        object.__setattr__(self, "_planes", {})  # number -> plane, smoothed along its own axes
        object.__setattr__(self, "_part", None)  # of the planes
        kernels = [_gaussian(n, h, self.correlation / math.sqrt(2)) for n, h in zip(self.shape, self.spacing)]
        object.__setattr__(self, "_across", kernels[0])
        factor = np.fft.rfft(kernels[-1]).real
        if len(self.shape) == 3:
            factor = np.fft.fft(kernels[1]).real[:, None] * factor
        object.__setattr__(self, "_factor", factor)

    def _block(self, lo, hi):
        if self.correlation == 0:
            ids = _ids(self.shape, lo, hi)
            out = philox_normal(self.seed, "normal field", ids.ravel())[:, 0].reshape(ids.shape)
        else:
            out = np.empty(tuple(b - a for a, b in zip(lo, hi)))
            part = tuple(slice(a, b) for a, b in zip(lo[1:], hi[1:]))
            for i in range(lo[0], hi[0]):
                self._smooth(i, part, out[i - lo[0]])
        out *= self.amplitude
        out += self.mean
        return out

    def _smooth(self, i, part, out):
        """A plane of g: planes i - k and i + k of the window have the same weight."""
        n, weights = self.shape[0], self._across
        reach = np.flatnonzero(weights[: n // 2 + 1])[-1]
        if part != self._part:
            self._planes.clear()
            object.__setattr__(self, "_part", part)
        window = {j % n for j in range(i - reach, i + reach + 1)}
        for j in self._planes.keys() - window:
            del self._planes[j]
        for j in window - self._planes.keys():
            self._planes[j] = self._plane(j)[part].copy()
        np.multiply(self._planes[i], weights[0], out=out)
        both = np.empty_like(out)
        for k in range(1, reach + 1):
            if 2 * k == n:
                np.multiply(self._planes[(i + k) % n], weights[k], out=both)
            else:
                np.add(self._planes[(i - k) % n], self._planes[(i + k) % n], out=both)
                both *= weights[k]
            out += both

    def _plane(self, j):
        size = math.prod(self.shape[1:])
        white = philox_normal(self.seed, "normal field", np.arange(j * size, (j + 1) * size))
        axes = tuple(range(len(self.shape) - 1))
        white = white.reshape(self.shape[1:])
        return np.fft.irfftn(np.fft.rfftn(white, axes=axes) * self._factor, s=self.shape[1:], axes=axes)


@dataclass(frozen=True)
class Perlin(InitialField):
    """mean + amplitude Σ_k persistence^k noise_k: periodic gradient noise of Perlin, with his improved fade.

    cells: lattice cells along each axis in the first octave (a number or one per axis; they need not divide the grid);
    each further octave has twice as many. The gradients are of unit length and all directions are alike; a noise of one
    octave lies within ±√d/2 (d dimensions), is 0 at lattice points and varies over L/cells.
    Source: K. Perlin, ACM Trans. Graph. 21, 681 (2002), doi:10.1145/566654.566636.
    """

    shape: Sequence[int]
    spacing: float | Sequence[float] = 1.0
    seed: int = 0
    mean: float = 0.5
    amplitude: float = 0.1
    cells: int | Sequence[int] = 8
    octaves: int = 1
    persistence: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "cells", tuple(int(c) for c in np.broadcast_to(self.cells, len(self.shape))))
        if min(self.cells) < 1 or self.octaves < 1:
            raise ValueError(f"Perlin noise has one cell and one octave at least, not {self.cells}, {self.octaves}")
        if any(c * LACUNARITY ** (self.octaves - 1) > n for c, n in zip(self.cells, self.shape)):
            raise ValueError(f"{self.octaves} octaves from {self.cells} cells are finer than the grid {self.shape}")
        object.__setattr__(self, "_layers", {})  # (octave, number) -> gradients of a layer of the lattice

    def _block(self, lo, hi):
        out = np.zeros(tuple(b - a for a, b in zip(lo, hi)))
        for octave in range(self.octaves):
            noise = self._noise(octave, lo, hi)
            noise *= self.amplitude * self.persistence**octave
            out += noise
        out += self.mean
        return out

    def _noise(self, octave, lo, hi):
        """Interpolated axis by axis: `value` is what the axes done so far give, `slopes` the gradients along others."""
        cells = tuple(c * LACUNARITY**octave for c in self.cells)
        layers = sorted({(i * cells[0] // self.shape[0] + up) % cells[0] for i in range(lo[0], hi[0]) for up in (0, 1)})
        gradients = np.stack([self._layer(octave, cells, j) for j in layers], axis=1)  # (d, layers, ...)
        value, slopes = None, list(gradients)
        for axis, (n, c) in enumerate(zip(self.shape, cells)):
            i = np.arange(lo[axis], hi[axis])
            cell, rest = np.divmod(i * c, n)
            above = (cell + 1) % c
            if axis == 0:
                cell, above = np.searchsorted(layers, cell), np.searchsorted(layers, above)
            form = [1] * len(self.shape)
            form[axis] = -1
            t = (rest / n).reshape(form)
            fade = t * t * t * (t * (6 * t - 15) + 10)
            down, up = 1 - fade, fade
            slope = slopes.pop(0)
            first = _blend(slope, axis, cell, above, down * t, up * (t - 1))
            if value is None:
                value = first
            else:
                value = _blend(value, axis, cell, above, down, up)
                value += first
            slopes = [_blend(s, axis, cell, above, down, up) for s in slopes]
        return value

    def _layer(self, octave, cells, j):
        """Unit vectors (d, cells[1], ...) of layer j of the lattice."""
        found = self._layers.get((octave, j))
        if found is None:
            if len(self._layers) > 4 * self.octaves + 64:
                self._layers.clear()
            size = math.prod(cells[1:])
            ids = np.arange(j * size, (j + 1) * size)
            u, v = np.ascontiguousarray(philox_uniform(self.seed, "perlin", ids, octave, 2).T)
            c, s = np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)
            if len(cells) == 3:
                z = 2 * v - 1
                r = np.sqrt(1 - z * z)
                c, s = r * c, r * s
            vectors = (c, s) if len(cells) == 2 else (c, s, z)
            found = self._layers[octave, j] = np.stack(vectors).reshape(len(cells), *cells[1:])
        return found


@dataclass(frozen=True)
class Spheres(InitialField):
    """Spheres (discs in two dimensions) of the value `inside`; where they overlap they are one.

    centres (k, d), radii (k,) or one for all. epsilon: interfaces have the profile ½(1 + tanh 3x/ε), that of
    double_well(ε) in equilibrium; 0 makes them sharp. Distances are to the nearest periodic image, for radii up to
    half of the box.
    """

    shape: Sequence[int]
    spacing: float | Sequence[float] = 1.0
    centres: Sequence = ()
    radii: float | Sequence[float] = 1.0
    epsilon: float = 3.0
    inside: float = 1.0
    outside: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        centres = np.array(self.centres, float).reshape(-1, len(self.shape))
        radii = np.asarray(self.radii, float)
        if radii.ndim and radii.shape != (len(centres),):
            raise ValueError(
                f"radii are one for all spheres or one for each, not {radii.size} for {len(centres)} centres"
            )
        radii = np.broadcast_to(radii, len(centres))
        if not (np.isfinite(centres).all() and (radii > 0).all() and self.epsilon >= 0):
            raise ValueError("spheres have finite centres, positive radii and an interface width of 0 or more")
        if len(radii) and 2 * radii.max() > min(self.lengths):
            raise ValueError(f"a sphere of radius {radii.max():g} is larger than the box")
        object.__setattr__(self, "centres", centres)
        object.__setattr__(self, "radii", radii)

    def _block(self, lo, hi):
        rest = np.ones(tuple(b - a for a, b in zip(lo, hi)))  # share of `outside`
        for centre, radius in zip(self.centres, self.radii):
            far = radius + 6.5 * self.epsilon  # beyond, tanh is 1 in double precision
            near, squares = [], []
            for axis, (h, length) in enumerate(zip(self.spacing, self.lengths)):
                x = np.arange(lo[axis], hi[axis]) * h - centre[axis]
                x -= length * np.round(x / length)
                chosen = np.flatnonzero(np.abs(x) <= far)
                near.append(chosen)
                squares.append(x[chosen] ** 2)
            if all(len(chosen) for chosen in near):
                place = np.ix_(*near)
                r = np.sqrt(sum(np.ix_(*squares)))
                rest[place] *= _step(r - radius, self.epsilon)
        return rest * self.outside + (1 - rest) * self.inside


@dataclass(frozen=True)
class Layers(InitialField):
    """Flat layers of the value `inside` across `axis`: a slab (count 1) or lamellae, a share `fraction` of the box.

    centre: of the first layer, as a share of the box. epsilon: as for Spheres.
    """

    shape: Sequence[int]
    spacing: float | Sequence[float] = 1.0
    axis: int = 0
    count: int = 1
    fraction: float = 0.5
    centre: float = 0.5
    epsilon: float = 3.0
    inside: float = 1.0
    outside: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not (0 <= self.axis < len(self.shape) and self.count >= 1 and 0 < self.fraction < 1 and self.epsilon >= 0):
            raise ValueError("layers have an axis of the grid, a count of 1 or more and a fraction between 0 and 1")

    def _block(self, lo, hi):
        period = self.lengths[self.axis] / self.count
        x = np.arange(self.shape[self.axis]) * self.spacing[self.axis] - self.centre * self.lengths[self.axis]
        x -= period * np.round(x / period)
        rest = _step(np.abs(x) - 0.5 * self.fraction * period, self.epsilon)
        line = rest * self.outside + (1 - rest) * self.inside
        form = [1] * len(self.shape)
        form[self.axis] = -1
        return np.broadcast_to(
            line[lo[self.axis] : hi[self.axis]].reshape(form), tuple(b - a for a, b in zip(lo, hi))
        ).copy()


@dataclass(frozen=True)
class Within(InitialField):
    """A field between two shares of the box along an axis (start <= x/L < stop), and the value `outside` elsewhere."""

    field: InitialField
    axis: int = 0
    start: float = 0.25
    stop: float = 0.75
    outside: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "shape", self.field.shape)
        object.__setattr__(self, "spacing", self.field.spacing)
        if not (0 <= self.axis < len(self.shape) and 0 <= self.start < self.stop <= 1):
            raise ValueError("a part of the box has an axis of the grid, and 0 <= start < stop <= 1")

    def _block(self, lo, hi):
        out = self.field.box(lo, hi)
        x = np.arange(lo[self.axis], hi[self.axis]) / self.shape[self.axis]
        np.moveaxis(out, self.axis, 0)[(x < self.start) | (x >= self.stop)] = self.outside
        return out


@dataclass(frozen=True)
class PFHub(InitialField):
    """The initial field of PFHub's benchmark 1 (a and b alike), two dimensions:

        c0 + ε [cos 0.105x cos 0.11y + (cos 0.13x cos 0.087y)² + cos(0.025x - 0.15y) cos(0.07x - 0.02y)].

    offset: of the points from multiples of the spacing, 0.5 for cell centres. Not periodic.
    Source: A. M. Jokisaari et al., Comput. Mater. Sci. 126, 139 (2017), doi:10.1016/j.commatsci.2016.09.022.
    """

    shape: Sequence[int]
    spacing: float | Sequence[float] = 1.0
    mean: float = 0.5
    amplitude: float = 0.01
    offset: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if len(self.shape) != 2:
            raise ValueError("PFHub's initial field has two dimensions")

    def _block(self, lo, hi):
        x, y = ((np.arange(n) + self.offset) * h for n, h in zip(self.shape, self.spacing))

        def wave(kx, ky):
            """cos(kx x - ky y), from tables of whole axes"""
            (cx, sx), (cy, sy) = (
                (np.cos(k * r)[a:b], np.sin(k * r)[a:b]) for k, r, a, b in zip((kx, ky), (x, y), lo, hi)
            )
            return np.multiply.outer(cx, cy) + np.multiply.outer(sx, sy)

        def product(kx, ky):
            return np.multiply.outer(np.cos(kx * x)[lo[0] : hi[0]], np.cos(ky * y)[lo[1] : hi[1]])

        bracket = product(0.105, 0.11) + product(0.13, 0.087) ** 2 + wave(0.025, 0.15) * wave(0.07, 0.02)
        return self.mean + self.amplitude * bracket


class Given(InitialField):
    """Values of an array, or of anything with a shape that slices give arrays of (io.fields.open_field)."""

    def __init__(self, values, spacing=1.0):
        self.values, self.shape, self.spacing = values, values.shape, spacing
        self.__post_init__()

    def _block(self, lo, hi):
        return np.asarray(self.values[tuple(slice(a, b) for a, b in zip(lo, hi))], np.float64)


def _ids(shape, lo, hi) -> np.ndarray:
    """Numbers of the points of a box in the C-ordered grid."""
    out = np.zeros(1, np.int64)
    for n, a, b in zip(shape, lo, hi):
        out = out[..., None] * n + np.arange(a, b)
    return out.reshape(tuple(b - a for a, b in zip(lo, hi)))


def _blend(array, axis, cell, above, down, up):
    """down array[cell] + up array[above] along an axis."""
    out = array.take(cell, axis)
    out *= down
    other = array.take(above, axis)
    other *= up
    out += other
    return out


def _gaussian(n, h, width):
    """Weights (n,) at distances 0, 1, ... of a periodic axis, cut off at six widths, their squares summing to 1."""
    if width == 0:
        return np.eye(1, n)[0]
    reach = math.ceil(6 * width / h)
    k = np.arange(-reach, reach + 1)
    weights = np.bincount(k % n, np.exp(-0.5 * (k * h / width) ** 2), n)
    return weights / math.sqrt(np.sum(weights**2))


def _step(distance, epsilon):
    """0 where distance << 0, 1 where >> 0; sharp for ε = 0."""
    if epsilon == 0:
        return (distance > 0).astype(float)
    return 0.5 * (1 + np.tanh((3 / epsilon) * np.ascontiguousarray(distance)))
