"""Numbers of a phase field: structure factor, interfaces, domains, topology. The same on every rank and any number of ranks.

An analysis has `.columns` (name -> unit of each number) and `.measure(solver)` -> (numbers, profiles), a float or int for each
column and some arrays. A solver has what CahnHilliard has: world, parts, dtype, spacing, boundaries, volume, pieces(), for S(k) and
amplitudes fourier and spectrum and, where no phases are given, well. Collective; the solver is left as it is.
"""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.kernels import _clusters, _morphology


class StructureFactor:
    """The radially averaged structure factor S(k) = V <|φ^(q)|²> over the wave vectors q of each shell, q = 0 left out,
    φ^ = 1/N Σ (φ - <φ>) exp(-iq·x); so the integral of S over d^dq/(2π)^d is the variance of φ. Read from the solver's
    spectrum: no further transform.

    width: of a shell, whose wave numbers round to the same multiple of it; None is the smallest wave number of the box.

    numbers: variance of φ; length = 2π Σ S/Σ k S over shells, the first moment of S(k). (The moment over all wave vectors
    would weigh S by k² in three dimensions, and diverge with the grid for the k⁻⁴ of sharp interfaces.) NaN where φ^ is zero.
    profiles: wave_number, the mean |q| of each shell; structure_factor; modes, the wave vectors in it. Shells without any
    are left out: the same shells at any time.
    """

    columns = {"variance": "1", "length": "length"}

    def __init__(self, width: float | None = None):
        if width is not None and not width > 0:
            raise ValueError(f"the width of a shell of wave numbers must be positive, not {width}")
        self.width = width

    def measure(self, solver) -> tuple[dict, dict]:
        f = solver.fourier
        units = [2 * math.pi / (n * h) for n, h in zip(f.shape, solver.spacing)]
        width = min(units) if self.width is None else float(self.width)
        most = math.hypot(*(u * (n // 2) for u, n in zip(units, f.shape)))
        ky = f.ky * units[1] if len(units) == 3 else np.zeros(f.columns_here)
        shells = _morphology.shells(
            solver.spectrum, f.kx * units[0], ky, f.kz * units[-1], f.weights.astype(float), width, int(most / width + 1.5),
            solver.world.threads,
        )  # fmt: skip
        number, moment, power = solver.world.allreduce(shells).T
        number[0] -= 1  # q = 0 is in the first shell, with nothing in it
        there = number > 0
        number, k = number[there], (moment[there] / number[there])
        s = solver.volume * power[there] / number
        mean = float((k * s).sum())
        length = 2 * math.pi * float(s.sum()) / mean if mean > 0 else math.nan
        profiles = dict(wave_number=k, structure_factor=s, modes=np.rint(number).astype(np.int64))
        return dict(variance=float(power.sum()), length=length), profiles


def amplitudes(solver, modes) -> np.ndarray:
    """φ^ (m,) complex of wave vectors 2π modes/L, modes (m, d) integers. Collective, the same on every rank.

    Of two times they give the growth rates: log(|later/earlier|)/(t2 - t1).
    """
    f = solver.fourier
    modes = np.asarray(modes)
    if modes.ndim != 2 or modes.shape[1] != len(f.shape) or modes.dtype.kind not in "iu":
        raise ValueError(f"modes must be integers (m, {len(f.shape)}), not {modes.dtype} {modes.shape}")
    n = np.array(f.shape)
    modes = modes % n
    turned = 2 * modes[:, -1] > n[-1]  # the spectrum holds -k
    modes[turned] = -modes[turned] % n
    place = np.empty(f.shape[0], np.int64)
    place[f.order] = np.arange(f.shape[0])
    parts = np.zeros((len(modes), 2))
    for row, mode in enumerate(modes):
        y = mode[1] if len(n) == 3 else 0
        y = y if len(n) == 2 or 2 * y < n[1] else y - n[1]
        column, lane = np.nonzero((f.ky == y)[:, None] & (f.kz == mode[-1]) & (f.weights > 0))
        if len(column):
            entry = solver.spectrum[column[0], place[mode[0]]]
            parts[row] = entry[lane[0]], entry[lane[0] + f.lanes]
    real, imaginary = solver.world.allreduce(parts).T
    return real + 1j * np.where(turned, -imaginary, imaginary)


class Modes:
    """Amplitudes |φ^| of some wave vectors 2π modes/L, and their growth rates log(|later|/|earlier|)/(t2 - t1) since the
    measurement before; NaN in the first one.

    modes: integers, (m, d) or one after another. shape: of the grid. earlier: what .earlier was, to go on behind a restart: (time, amplitudes).
    """

    def __init__(self, modes, shape, earlier=None):
        modes, dimensions = np.asarray(modes), len(shape)
        if modes.size % dimensions or not modes.size or modes.dtype.kind not in "iu":
            raise ValueError(f"modes must be {dimensions} integers each")
        self.modes, self.earlier = modes.reshape(-1, dimensions), earlier
        if not self.modes.any(axis=1).all():
            raise ValueError("a mode must have a wave number that is not 0")
        if (2 * np.abs(self.modes) > np.array(shape)).any():
            raise ValueError("modes must lie within half of the grid's points along each axis: it has no shorter waves")
        names = ["_".join(str(k).replace("-", "m") for k in mode) for mode in self.modes.tolist()]
        self.columns = {f"amplitude_{name}": "1" for name in names} | {f"growth_{name}": "1/time" for name in names}

    def measure(self, solver) -> tuple[dict, dict]:
        now, rate = np.abs(amplitudes(solver, self.modes)), np.full(len(self.modes), math.nan)
        if self.earlier is not None and solver.time > self.earlier[0]:
            with np.errstate(divide="ignore", invalid="ignore"):
                rate = np.log(now / self.earlier[1]) / (solver.time - self.earlier[0])
        self.earlier = solver.time, now.tolist()
        return dict(zip(self.columns, [*now.tolist(), *rate.tolist()])), {}


class Morphology:
    """Interfaces and domains of the two phases φ > level (high) and φ <= level (low), in one pass over the field.

    phases: the values (low, high) of φ in the two phases; None takes the outermost minima of the solver's well.
    level: of the interface; None is the middle of the phases. domains: whether domains are looked for.

    numbers (points are grid points; a phase is joined through faces, edges in two dimensions: 6 or 4 neighbours):
      interface           area (in two dimensions length) of the level set of φ, linear in the six tetrahedra (two triangles)
                          of each grid cell: marching tetrahedra
      interface_gradient  ∫|∇φ| dx / (high - low), ∇φ from the corners of each cell: the mean area of the level sets
                          between the phases (coarea formula), which also counts what fluctuates within a phase
      interface_length    2 V / interface: the period of lamellae, as the structure factor's length is; inf without interface
      fraction            of the points that is high
      euler_high, _low    Euler number V - E + F - C of each phase: domains - handles + cavities (domains - holes in two dimensions);
                          the genus of a phase's surface of c pieces is c - its Euler number
      domains_high, _low  number of domains, those that touch through the periodic faces being one
      largest_high, _low  points of the largest one over all of the phase, 0 without any
      spans_high, _low    axes along which some domain joins its own periodic image: 0 to 3
    profiles: sizes_high, numbers_high, sizes_low, numbers_low: points of domains, ascending, and how many have so many.
    """

    def __init__(self, phases=None, level: float | None = None, domains: bool = True):
        if phases is not None and not phases[0] < phases[1]:
            raise ValueError(f"the values of the phases must ascend, not {phases}")
        self.phases, self.level, self.domains = phases, level, domains
        self.columns = {
            "interface": "area",
            "interface_gradient": "area",
            "interface_length": "length",
            "fraction": "1",
        }
        kinds = ("euler", "domains", "largest", "spans") if domains else ("euler",)
        self.columns |= {f"{kind}_{phase}": "1" for kind in kinds for phase in ("high", "low")}

    def measure(self, solver) -> tuple[dict, dict]:
        world, f = solver.world, solver.parts
        low, high = self.phases if self.phases is not None else phases_of(solver.well)
        level = 0.5 * (low + high) if self.level is None else float(self.level)
        variation, area, mask = _scan(solver, level)
        counts = np.array([_euler(solver, mask, low) for low in (False, True)])
        variation, area = world.allreduce(np.array([variation, area])).tolist()
        (points, euler_high), (_, euler_low) = world.allreduce(counts).tolist()
        numbers = dict(
            interface=area, interface_gradient=variation / (high - low),
            interface_length=2 * solver.volume / area if area > 0 else math.inf, fraction=points / math.prod(f.shape),
            euler_high=euler_high, euler_low=euler_low,
        )  # fmt: skip
        profiles = {}
        for phase in ("high", "low") if self.domains else ():
            sizes, how_many, spans = _domains(solver, mask, phase == "low")
            numbers[f"domains_{phase}"] = int(how_many.sum())
            numbers[f"largest_{phase}"] = float(sizes.max(initial=0) / max(1, sizes @ how_many))
            numbers[f"spans_{phase}"] = spans
            profiles |= {f"sizes_{phase}": sizes, f"numbers_{phase}": how_many}
        return {name: numbers[name] for name in self.columns}, profiles


def phases_of(well) -> tuple[float, float]:
    """The outermost minima of a well. ValueError where it has fewer than two."""
    minima = well.minima()
    if len(minima) < 2:
        raise ValueError("the free energy has fewer than two minima: give the values of φ in the phases")
    return minima[0], minima[-1]


def _scan(solver, level):
    """(∫|∇φ|, area of the level set) of this rank's cells, and its mask (see morphology.cpp), whose ghosts at walls are not set.

    Walls lie half a spacing beyond the outermost points, and φ has no slope there: the cells between are half as thick, and all their
    points those of the end. Lines that end at walls are taken with their mirror images, and halved.
    """
    f, threads, spacing = solver.parts, solver.world.threads, list(solver.spacing)
    walls = [kind == "mirror" for kind in solver.boundaries]
    three, n = len(f.shape) == 3, f.shape[-1]
    planes, ny = f.local[0], f.local[1] if three else 1
    mask = np.zeros((planes + 1, ny + three, -(-n // 64)), np.uint64)
    sums, begin, before = [], None, None
    front, back = (np.empty((planes, n), solver.dtype) for _ in range(2))  # the first and the last line of each plane

    def add(block, *thin):
        """Cells, half as thick along the axes `thin`."""
        share = 1.0
        if walls[-1]:
            block, share = np.concatenate([block, block[..., ::-1]], axis=-1), 0.5
        size = [h * (0.5 if axis in thin else 1.0) for axis, h in enumerate(spacing)]
        found = _morphology.surface(np.ascontiguousarray(block), level, size, threads)
        sums.append([share * x for x in found])

    def add_sides(front, back, beyond, *thin):
        """Cells between the last line of planes and the next one along axis 1, and at a wall before the first."""
        if three:
            add(np.stack([back, beyond], 1), *thin, *((1,) if f.hi[1] == f.shape[1] and walls[1] else ()))
            if f.lo[1] == 0 and walls[1]:
                add(np.stack([front, front], 1), *thin, 1)

    for first, last, piece in solver.pieces():
        piece = piece.reshape(last - first, ny, n)
        _morphology.pack(piece, level, mask, n, three, first, threads)
        front[first:last], back[first:last] = piece[:, 0], piece[:, -1]
        if before is None:
            begin = piece[0].copy()
        else:
            add(np.stack([before, piece[0]]))
        add(piece)
        before = piece[-1].copy()
    beyond = back
    if three:
        beyond = f.from_next(front, 1)
        if f.hi[1] == f.shape[1] and walls[1]:
            beyond = back
        mask[:-1, -1] = f.from_next(mask[:-1, 0].copy(), 1)
    after = f.from_next((begin, beyond[:1]), 0)
    at_end = walls[0] and f.hi[0] == f.shape[0]
    if at_end:
        after = before, beyond[-1:]
    gaps = [(before, *after, beyond[-1:], (0,) if at_end else ())]
    if walls[0] and f.lo[0] == 0:
        gaps.append((begin, begin, beyond[:1], beyond[:1], (0,)))
    for one, two, beyond_two, beyond_one, thin in gaps:
        pair = np.stack([one, two])
        add(pair, *thin)
        add_sides(pair[:, 0], pair[:, -1], np.concatenate([beyond_one, beyond_two]), *thin)
    add_sides(front, back, beyond)
    mask[-1] = f.from_next(mask[0].copy(), 0)
    variation, area = zip(*sums)
    return math.fsum(variation), math.fsum(area), mask


def _euler(solver, mask, low):
    """(points, Euler number) of this rank's share of a phase: what lies behind a wall is not of it."""
    f = solver.parts
    for axis in range(len(f.shape) - 1):
        if solver.boundaries[axis] == "mirror" and f.hi[axis] == f.shape[axis]:
            mask[(slice(None),) * axis + (-1,)] = ~np.uint64(0) if low else 0
    walls = solver.boundaries[-1] == "mirror"
    return _morphology.euler(mask, f.shape[-1], len(f.shape) == 3, low, walls, solver.world.threads)


def _domains(solver, mask, low):
    """(sizes, how many domains have each, axes spanned) of one phase. Collective."""
    world, f, walls = solver.world, solver.parts, [kind == "mirror" for kind in solver.boundaries]
    three, n = len(f.shape) == 3, f.shape[-1]
    parts = _morphology.Domains(mask, n, three, low)
    ny, (n1, y0) = (f.local[1], (f.shape[1], f.lo[1])) if three else (1, (1, 0))
    x, y, z = np.unravel_index(parts.first, (f.local[0], ny, n))
    first = ((x + f.lo[0]) * n1 + y + y0) * n + z  # the first point of a part in the whole grid is its name

    def edges(a, b, axis, beyond):
        shift = np.zeros((len(a), 3), np.int64)
        shift[:, axis] = beyond
        return np.column_stack([first[a], b, shift])

    end, begin = ([], []) if walls[-1] else parts.around()
    found = [edges(end, first[begin], 2, 1)]
    for axis in range(1 + three):
        beyond, last = f.from_next(first[parts.face(axis)], axis), f.hi[axis] == f.shape[axis]
        if not (last and walls[axis]):
            found.append(edges(*parts.across(axis, beyond), axis, last))
    found = np.concatenate(found)
    found = np.concatenate(world.allgather(found[_clusters.components(found)[-1]]))
    names, domain, _, spans, _ = _clusters.components(found)

    rows = np.searchsorted(names, first)
    joint = np.append(names, -1)[rows] == first
    sizes = np.zeros(len(names), np.int64)
    sizes[rows[joint]] = parts.sizes[joint]
    sizes = world.allreduce(sizes)
    roots, which = np.unique(domain, return_inverse=True)
    whole = np.zeros(len(roots), np.int64)
    np.add.at(whole, which, sizes)
    alone = np.unique(parts.sizes[~joint], return_counts=True)
    shares = [*world.allgather(alone), (whole, np.ones(len(whole), np.int64))]
    size, number = (np.concatenate(a) for a in zip(*shares))
    distinct, which = np.unique(size, return_inverse=True)
    how_many = np.zeros(len(distinct), np.int64)
    np.add.at(how_many, which, number)
    return distinct, how_many, int(spans.any(axis=0).sum()) if len(spans) else 0
