"""Building systems: crystals of any size rank-locally, alloys, vacancies, seeds and rattled atoms.

Every function gives the same atoms with the same ids on any number of ranks: what is random is Philox keyed by the
global id, what is global (exact counts, new ids) is agreed between the ranks without gathering the atoms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from ostwald.parallel import Blocks, block_range, philox_normal, philox_uniform

__all__ = [
    "LATTICES",
    "Block",
    "Cylinder",
    "Lattice",
    "Share",
    "Slab",
    "Sphere",
    "build_lattice",
    "embed",
    "keep",
    "rattle",
    "select_smallest",
    "share_of",
    "substitute",
    "unit_cell",
    "vacancies",
]

# Primitive vectors (rows) of the centrings, in units of the conventional ones.
CENTRING = {
    "P": np.eye(3),
    "F": np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "C": np.array([[0.5, -0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]),
}
FCC = ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))


@dataclass(frozen=True)
class Lattice:
    """A crystal structure in its conventional orthogonal cell a × (b_ratio a) × c.

    `sites[k]` are the fractional coordinates of the k-th kind of site (of the k-th species); `centring` is P, F, I or
    C; `c_ratio` is the default c/a, None where there is no natural one. Structures: Strukturbericht; hexagonal ones in
    their orthohexagonal cell a × √3 a × c.
    """

    sites: tuple[tuple[tuple[float, float, float], ...], ...]
    centring: str = "P"
    b_ratio: float = 1.0
    c_ratio: float | None = 1.0


def _shifted(points, dx, dy, dz):
    return tuple(((x + dx) % 1, (y + dy) % 1, (z + dz) % 1) for x, y, z in points)


def _layers(*stacks):
    """Orthohexagonal sites from close-packed layers: (site letter A, B or C; height z) each."""
    base = {"A": (0.0, 0.0), "B": (0.0, 1 / 3), "C": (0.0, 2 / 3)}
    kinds = []
    for stack in stacks:
        points = []
        for letter, z in stack:
            x, y = base[letter]
            points += [(x, y, z), ((x + 0.5) % 1, (y + 0.5) % 1, z)]
        kinds.append(tuple(points))
    return tuple(kinds)


_BCC = ((0, 0, 0), (0.5, 0.5, 0.5))
_TETRAHEDRAL = _shifted(FCC, 0.25, 0.25, 0.25)
_FLUORINE = _TETRAHEDRAL + _shifted(FCC, 0.75, 0.75, 0.75)  # all tetrahedral sites
_SQRT3, _IDEAL = sqrt(3), sqrt(8 / 3)

LATTICES = {
    "sc": Lattice((((0, 0, 0),),)),
    "bcc": Lattice((_BCC,), "I"),
    "fcc": Lattice((FCC,), "F"),
    "diamond": Lattice((FCC + _TETRAHEDRAL,), "F"),
    "hcp": Lattice(_layers([("A", 0), ("B", 0.5)]), "C", _SQRT3, _IDEAL),
    "dhcp": Lattice(_layers([("A", 0), ("B", 0.25), ("A", 0.5), ("C", 0.75)]), "C", _SQRT3, 2 * _IDEAL),
    "beta-tin": Lattice((((0, 0, 0), (0, 0.5, 0.25), (0.5, 0.5, 0.5), (0.5, 0, 0.75)),), "I", 1.0, None),
    "a15": Lattice(
        (
            ((0.25, 0, 0.5), (0.75, 0, 0.5), (0.5, 0.25, 0), (0.5, 0.75, 0), (0, 0.5, 0.25), (0, 0.5, 0.75)),
            _BCC,
        )
    ),
    "b2": Lattice((((0, 0, 0),), ((0.5, 0.5, 0.5),))),
    "l1_2": Lattice((FCC[1:], FCC[:1])),  # A3B: A on the faces, B on the corners
    "l1_0": Lattice((((0, 0, 0), (0.5, 0.5, 0)), ((0.5, 0, 0.5), (0, 0.5, 0.5))), "C"),
    "d0_3": Lattice((_FLUORINE + _shifted(FCC, 0.5, 0.5, 0.5), FCC), "F"),  # A3B: A tetrahedral and octahedral
    "l2_1": Lattice((_FLUORINE, _shifted(FCC, 0.5, 0.5, 0.5), FCC), "F"),  # A2BC
    "rocksalt": Lattice((FCC, _shifted(FCC, 0.5, 0.5, 0.5)), "F"),
    "zincblende": Lattice((FCC, _TETRAHEDRAL), "F"),
    "fluorite": Lattice((FCC, _FLUORINE), "F"),  # AB2
    "wurtzite": Lattice(_layers([("A", 0), ("B", 0.5)], [("A", 0.375), ("B", 0.875)]), "C", _SQRT3, _IDEAL),
    "perovskite": Lattice((((0, 0, 0),), ((0.5, 0.5, 0.5),), ((0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)))),  # ABX3
}
ALIASES = {"cscl": "b2", "b1": "rocksalt", "nacl": "rocksalt", "b3": "zincblende", "b4": "wurtzite", "a1": "fcc"}
ALIASES |= {"a2": "bcc", "a3": "hcp", "a4": "diamond", "a5": "beta-tin", "l12": "l1_2", "l10": "l1_0", "d03": "d0_3"}
ALIASES |= {"l21": "l2_1", "heusler": "l2_1", "c1": "fluorite"}


@dataclass
class Share:
    """One rank's share of a structure; any split of the atoms over ranks will do.

    positions : (n, 3) float64, Å;  ids : (n,) int64, 0 … total−1 over all ranks;  types : (n,) int32, of species
    matrix : (3, 3) float64, rows a, b, c in Å;  origin : (3,) Å;  periodic : (3,) bool
    species : chemical symbols;  total : atoms over all ranks
    """

    positions: np.ndarray
    ids: np.ndarray
    types: np.ndarray
    matrix: np.ndarray
    origin: np.ndarray
    periodic: np.ndarray
    species: tuple[str, ...]
    total: int


# --- regions --------------------------------------------------------------------------------------------------------


def _centre(center, matrix, origin):
    return origin + 0.5 * matrix.sum(axis=0) if center is None else np.asarray(center, float)


def _separation(positions, center, matrix, periodic):
    """positions − center, to the nearest image along periodic axes (exact up to half the smallest cell height)."""
    delta = positions - center
    turns = np.rint(delta @ np.linalg.inv(matrix))
    turns[:, ~np.asarray(periodic, bool)] = 0
    return delta - turns @ matrix


class Region:
    """Where a point is: `distance` is negative inside, zero on the surface, positive outside (Å)."""

    def distance(self, positions, matrix, origin, periodic):
        """(n,) signed distance of positions (n, 3) to the surface; a lower bound of it outside of a block's edges."""
        raise NotImplementedError

    def contains(self, positions, matrix, origin, periodic):
        """(n,) bool: inside or on the surface."""
        return self.distance(positions, matrix, origin, periodic) <= 0


@dataclass(frozen=True)
class Sphere(Region):
    """Points within `radius` (Å) of `center` (Å; None: the middle of the cell), across periodic faces."""

    radius: float
    center: tuple[float, float, float] | None = None

    def distance(self, positions, matrix, origin, periodic):
        delta = _separation(positions, _centre(self.center, matrix, origin), matrix, periodic)
        return np.linalg.norm(delta, axis=1) - self.radius


@dataclass(frozen=True)
class Cylinder(Region):
    """Points within `radius` (Å) of the line through `center` (Å; None: the middle) along Cartesian `axis`."""

    radius: float
    axis: int = 2
    center: tuple[float, float, float] | None = None

    def distance(self, positions, matrix, origin, periodic):
        delta = _separation(positions, _centre(self.center, matrix, origin), matrix, periodic)
        return np.linalg.norm(np.delete(delta, self.axis, axis=1), axis=1) - self.radius


@dataclass(frozen=True)
class Block(Region):
    """Points of the Cartesian box low … high (Å); infinities leave a side open. Not continued periodically."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def distance(self, positions, matrix, origin, periodic):
        return np.maximum(np.subtract(self.low, positions), np.subtract(positions, self.high)).max(axis=1)


@dataclass(frozen=True)
class Slab(Region):
    """Points whose fractional coordinate along cell axis `axis` lies in [low, high) of the cell, 0 … 1."""

    low: float
    high: float
    axis: int = 2

    def distance(self, positions, matrix, origin, periodic):
        inverse = np.linalg.inv(matrix)
        s = ((positions - origin) @ inverse)[:, self.axis]
        middle, half = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
        away = s - middle
        if np.asarray(periodic, bool)[self.axis]:
            away -= np.rint(away)
        height = 1.0 / np.linalg.norm(inverse[:, self.axis])
        return (np.abs(away) - half) * height


# --- lattices -------------------------------------------------------------------------------------------------------


def _lookup(name):
    key = name.lower().replace(" ", "")
    key = ALIASES.get(key, key)
    if key not in LATTICES:
        raise ValueError(f"unknown lattice {name!r}; known are {', '.join(sorted(LATTICES))}")
    return LATTICES[key]


def _unique(fractions, kinds):
    """Sites that differ modulo 1 (to 1e-6), in the order of kinds, then of coordinates."""
    fractions = fractions - np.floor(fractions + 1e-6)
    fractions[np.abs(fractions) < 1e-9] = 0.0
    keys = np.column_stack([kinds, np.rint(fractions[:, ::-1] * 1e6)]).astype(np.int64)
    _, first = np.unique(keys, axis=0, return_index=True)
    return fractions[first], kinds[first]


def unit_cell(lattice, a, c=None, *, primitive=False, orientation=None):
    """Cell and sites of a lattice: (matrix (3, 3) Å, fractions (m, 3), kinds (m,) int32).

    lattice : a name of `LATTICES` (or an alias, any case) or a `Lattice`;  a, c : lattice parameters in Å
    primitive : the primitive cell (mostly triclinic) in place of the conventional orthogonal one
    orientation : three crystal directions [uvw] of the conventional cell that shall point along the rows of the new
        cell; the first is laid along x, the second into the xy plane. Mutually perpendicular directions give an
        orthogonal cell. Each row is the shortest lattice vector in its direction.
    Errors: ValueError for an unknown lattice, a missing c, or directions that are not three independent, right-handed
    integer triples.
    """
    structure = lattice if isinstance(lattice, Lattice) else _lookup(lattice)
    if not a > 0:
        raise ValueError(f"the lattice parameter a must be positive, not {a}")
    if c is None:
        if structure.c_ratio is None:
            raise ValueError(f"lattice {lattice!r} has no natural c/a: give c in Å")
        c = a * structure.c_ratio
    conventional = np.diag([a, a * structure.b_ratio, c])
    fractions = np.array([point for sites in structure.sites for point in sites], float)
    kinds = np.repeat(np.arange(len(structure.sites)), [len(sites) for sites in structure.sites]).astype(np.int32)
    centring = CENTRING[structure.centring]

    if orientation is not None:
        directions = np.asarray(orientation)
        if directions.shape != (3, 3) or not np.array_equal(directions, np.rint(directions)):
            raise ValueError("orientation is three triples of integers, the crystal directions along the new cell rows")
        steps = np.rint(directions @ np.linalg.inv(centring)).astype(np.int64)
        steps //= np.maximum(np.gcd.reduce(steps, axis=1), 1)[:, None]
        rows = steps @ centring
    elif primitive:
        rows = centring
    else:
        return conventional, fractions, kinds

    volume = np.linalg.det(rows)
    if volume < 1e-6:
        raise ValueError("the orientation's directions must be independent and right-handed")
    # All lattice translations that can reach into the new cell, times all sites, folded back: duplicates drop out.
    reach = np.ceil(np.abs(rows).sum(axis=0)).astype(int) + 1
    shifts = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 1, 3)
    points = ((shifts + fractions) @ np.linalg.inv(rows)).reshape(-1, 3)
    fractions, kinds = _unique(points, np.tile(kinds, len(shifts)))
    expected = sum(len(sites) for sites in structure.sites) * volume
    if len(kinds) != round(expected):
        raise ValueError(f"the {lattice} cell of these rows has {len(kinds)} sites, not {expected:.3f}")
    # Lay the first row along x and the second into the xy plane: rows = lower triangle × rotation.
    _, r = np.linalg.qr((rows @ conventional).T)
    return np.ascontiguousarray((r * np.sign(np.diag(r))[:, None]).T), fractions, kinds


def share_of(world, total):
    """(lo, hi): the ids of this rank when 0 … total−1 are shared evenly."""
    return block_range(total, world.rank, world.size)


def build_lattice(
    world, lattice, a, species, cells, *, c=None, primitive=False, orientation=None, origin=(0, 0, 0), periodic=True
):
    """A crystal of cells = (nx, ny, nz) unit cells, each rank making an even share of the ids: a `Share`.

    lattice, a, c, primitive, orientation : as for `unit_cell` (Å)
    species : a chemical symbol, or one for each kind of site of the lattice, e.g. ("Ni", "Al") for L1_2 Ni3Al
    origin : corner of the cell, Å;  periodic : one flag or three
    Ids run through the sites of a cell, then the cells along c, b, a: a rank's share is a slab.
    Errors: ValueError for a wrong lattice, number of species or of cells.
    """
    matrix, fractions, kinds = unit_cell(lattice, a, c, primitive=primitive, orientation=orientation)
    species = (species,) if isinstance(species, str) else tuple(species)
    if len(species) != kinds.max() + 1:
        raise ValueError(f"lattice {lattice} has {kinds.max() + 1} kinds of site but {len(species)} species are given")
    cells = tuple(int(n) for n in np.broadcast_to(cells, 3))
    if min(cells) < 1:
        raise ValueError(f"a crystal needs at least one cell along each axis, not {cells}")
    symbols = tuple(dict.fromkeys(species))
    type_of_site = np.array([symbols.index(symbol) for symbol in species], np.int32)[kinds]

    sites = len(kinds)
    total = sites * cells[0] * cells[1] * cells[2]
    low, high = share_of(world, total)
    first, last = low // sites, -(-high // sites)  # the cells that hold these ids; the outer ones perhaps in part
    index = np.stack(np.unravel_index(np.arange(first, last), cells), axis=1)
    origin = np.array(origin, float)
    positions = ((index @ matrix + origin)[:, None] + fractions @ matrix).reshape(-1, 3)
    own = slice(low - first * sites, high - first * sites)
    return Share(
        positions=np.ascontiguousarray(positions[own]),
        ids=np.arange(low, high, dtype=np.int64),
        types=np.tile(type_of_site, last - first)[own].copy(),
        matrix=matrix * np.array(cells)[:, None],
        origin=origin,
        periodic=np.broadcast_to(np.asarray(periodic, bool), 3).copy(),
        species=symbols,
        total=total,
    )


# --- what is done to a share ----------------------------------------------------------------------------------------


def select_smallest(world, keys, ids, count):
    """(n,) bool: whether an atom's key (float64 ≥ 0) is among the `count` smallest of all ranks; ties go by id.

    The threshold is bisected over the bits of the float, 64 rounds of one summed integer; no atom is gathered.
    """
    keys = np.ascontiguousarray(keys, np.float64)
    total = int(world.allreduce(len(keys)))
    if count >= total:
        return np.ones(len(keys), bool)
    if count <= 0:
        return np.zeros(len(keys), bool)
    bits = np.sort(keys.view(np.int64))  # non-negative floats are ordered as their bits
    low, high = -1, np.iinfo(np.int64).max
    while high - low > 1:  # the smallest threshold with at least `count` keys ≤ it
        middle = low + (high - low) // 2
        if int(world.allreduce(int(np.searchsorted(bits, middle, side="right")))) >= count:
            high = middle
        else:
            low = middle
    threshold = np.array(high, np.int64).view(np.float64)
    chosen = keys < threshold
    missing = count - int(world.allreduce(int(chosen.sum())))
    tied = keys == threshold
    tied_ids = np.sort(np.concatenate(world.allgather(ids[tied])))
    chosen[tied] = np.isin(ids[tied], tied_ids[:missing])
    return chosen


def _renumber(world, ids, kept, total):
    """New ids of the kept atoms, the order of the old ids preserved: (ids of the kept rows, new total)."""
    blocks = Blocks(world, ids, total)
    block = blocks.to_blocks(kept.astype(np.int64))
    numbers = world.allgather(int(block.sum()))
    new = sum(numbers[: world.rank]) + np.cumsum(block) - block
    return blocks.from_blocks(new)[kept], sum(numbers)


def keep(world, share, kept):
    """The share with only the atoms of the mask `kept` (n,), ids renumbered to 0 … N−1 in their old order."""
    kept = np.asarray(kept, bool)
    ids, total = _renumber(world, share.ids, kept, share.total)
    return replace(share, positions=share.positions[kept], ids=ids, types=share.types[kept], total=total)


def vacancies(world, share, amount, seed):
    """Removes a random fraction (amount < 1) or number (int amount) of the atoms, exactly that many."""
    count = int(amount) if isinstance(amount, int | np.integer) else round(float(amount) * share.total)
    if not 0 <= count <= share.total:
        raise ValueError(f"cannot remove {count} of {share.total} atoms")
    keys = philox_uniform(seed, "vacancies", share.ids, 0, 1)[:, 0]
    return keep(world, share, ~select_smallest(world, keys, share.ids, count))


def substitute(world, share, composition, seed, of=None):
    """A random solid solution of an exact composition.

    composition : {symbol: fraction}, fractions summing to 1; counts are rounded by the largest remainder
    of : only the atoms of this species are redistributed (None: all)
    Errors: ValueError for fractions that do not sum to 1, or an absent species.
    """
    symbols, fractions = list(composition), np.array(list(composition.values()), float)
    if (fractions < 0).any() or abs(fractions.sum() - 1) > 1e-9:
        raise ValueError(f"the composition's fractions must be positive and sum to 1, not to {fractions.sum():g}")
    if of is not None and of not in share.species:
        raise ValueError(f"there is no {of} to substitute; the species are {', '.join(share.species)}")
    affected = np.ones(len(share.ids), bool) if of is None else share.types == share.species.index(of)
    number = int(world.allreduce(int(affected.sum())))
    exact = fractions * number
    counts = np.floor(exact + 1e-9).astype(np.int64)
    by_remainder = np.argsort(-(exact - counts), kind="stable")
    counts[by_remainder[: number - counts.sum()]] += 1

    remaining = share.species if of is not None else ()  # redistributing all leaves nothing of the old species
    species = tuple(s for s in dict.fromkeys((*remaining, *symbols)) if s != of or s in symbols)
    types = np.array([species.index(s) if s in species else -1 for s in share.species], np.int32)[share.types]
    ids = share.ids[affected]
    keys = philox_uniform(seed, "substitute", ids, 0, 1)[:, 0]
    assigned = np.empty(len(ids), np.int32)
    left = np.ones(len(ids), bool)
    for symbol, end in reversed(list(zip(symbols, np.cumsum(counts)))):
        # From the last species down: those among the `end` smallest keys are for this and the earlier species.
        left &= select_smallest(world, keys, ids, int(end))
        assigned[left] = species.index(symbol)
    types[affected] = assigned
    return replace(share, types=types, species=species)


def rattle(share, amplitude, seed):
    """Displaces every atom by Gaussian noise of standard deviation `amplitude` (Å) per component."""
    noise = philox_normal(seed, "rattle", share.ids, 0, 3)
    return replace(share, positions=share.positions + amplitude * noise)


def embed(world, host, guest, region, gap=1.0):
    """Carves `region` out of `host` and fills it with the atoms of `guest` that lie in it: a seed in its melt.

    Both shares must have the same cell; a guest that is not periodic is taken as it lies, without its images. Host atoms
    closer than `gap` (Å) to the region are removed, so that no pair
    is closer than about `gap`. Host atoms keep their order and come first; guest atoms follow. Returns the share and
    the mask (n,) of its guest atoms on this rank.
    Errors: ValueError where the cells differ.
    """
    if not (np.allclose(host.matrix, guest.matrix) and np.allclose(host.origin, guest.origin)):
        raise ValueError("a seed can only be embedded from a structure of the same cell")
    frame = (host.matrix, host.origin, host.periodic)
    outer = keep(world, host, region.distance(host.positions, *frame) > gap)
    inner = keep(world, guest, region.contains(guest.positions, guest.matrix, guest.origin, guest.periodic))
    species = tuple(dict.fromkeys((*outer.species, *inner.species)))
    to_types = [np.array([species.index(s) for s in part.species], np.int32)[part.types] for part in (outer, inner)]
    share = replace(
        outer,
        positions=np.concatenate([outer.positions, inner.positions]),
        ids=np.concatenate([outer.ids, inner.ids + outer.total]),
        types=np.concatenate(to_types),
        species=species,
        total=outer.total + inner.total,
    )
    return share, np.repeat([False, True], [len(outer.ids), len(inner.ids)])
