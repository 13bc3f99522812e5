"""The embedded-atom method: setfl (eam/alloy), Finnis-Sinclair (eam/fs) and funcfl tables.

E = Σ_i F_i(ρ_i) + Σ_{i<j} φ_ij(r_ij),  ρ_i = Σ_j ρ_{j→i}(r_ij)

(Daw and Baskes, Phys. Rev. B 29, 6443 (1984); Finnis and Sinclair, Philos. Mag. A 50, 45 (1984).) F, ρ and r φ are
piecewise cubics through the table with five-point slopes, as LAMMPS interpolates them, so that its results are met to
rounding; beyond the last tabulated density F goes on linearly. Formats: LAMMPS documentation, pair_style eam.
"""

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from ostwald.app.kernels import _pair
from ostwald.io.text import read_text, write_text

from .base import Neighbourhoods, Potential, PotentialError, check_precision
from .text import Lines

# the product of rounded Hartree and bohr that turns the funcfl effective charges Z(r)² / r into eV: 27.2 eV, 0.529 Å
FUNCFL_COULOMB = 27.2 * 0.529


@dataclass(frozen=True)
class EamTables:
    """Tables of an embedded-atom potential.

    species (N,); numbers (N,) atomic; masses (N,) amu; constants (N,) Å and lattices (N,), as the file says them;
    embed (N, nrho): F(k drho), eV; density (N, N, nr) or (N, 1, nr): [a, b] what an atom of species a contributes at
    one of species b, at r = k dr (one column where it is the same for all b); pair (N, N, nr): r φ(r), eV Å; cutoff Å.
    """

    species: tuple[str, ...]
    numbers: np.ndarray
    masses: np.ndarray
    constants: np.ndarray
    lattices: tuple[str, ...]
    drho: float
    embed: np.ndarray
    dr: float
    density: np.ndarray
    pair: np.ndarray
    cutoff: float

    def select(self, species) -> "EamTables":
        """The tables of some of the species, in the order asked for."""
        rows = [self.species.index(s) for s in species]
        columns = rows if self.density.shape[1] > 1 else [0]
        return EamTables(
            species=tuple(species),
            numbers=self.numbers[rows],
            masses=self.masses[rows],
            constants=self.constants[rows],
            lattices=tuple(self.lattices[k] for k in rows),
            drho=self.drho,
            embed=self.embed[rows],
            dr=self.dr,
            density=self.density[np.ix_(rows, columns)],
            pair=self.pair[np.ix_(rows, rows)],
            cutoff=self.cutoff,
        )


def cubics(values) -> np.ndarray:
    """Coefficients (..., n, 4) of ((c0 p + c1) p + c2) p + c3, p in [0, 1] from each knot of values (..., n) on.

    Slopes at the knots are five-point differences, three-point beside the ends and two-point at them.
    """
    f = np.asarray(values, float)
    n = f.shape[-1]
    slope = np.empty_like(f)
    slope[..., 0] = f[..., 1] - f[..., 0]
    slope[..., -1] = f[..., -1] - f[..., -2]
    if n > 2:
        slope[..., 1:-1] = 0.5 * (f[..., 2:] - f[..., :-2])
    if n > 4:
        slope[..., 2:-2] = ((f[..., :-4] - f[..., 4:]) + 8.0 * (f[..., 3:-1] - f[..., 1:-3])) / 12.0
    c = np.zeros((*f.shape, 4))
    rise = f[..., 1:] - f[..., :-1]
    c[..., 3] = f
    c[..., 2] = slope
    c[..., :-1, 1] = 3.0 * rise - 2.0 * slope[..., :-1] - slope[..., 1:]
    c[..., :-1, 0] = slope[..., :-1] + slope[..., 1:] - 2.0 * rise
    return c


class Eam(Potential):
    """An embedded-atom potential. tables: EamTables, whose species become the potential's."""

    family = "eam"
    list_style = "half"

    def __init__(self, tables: EamTables, precision="double", path=None):
        self.tables = tables
        self.species = tuple(tables.species)
        self.cutoff = float(tables.cutoff)
        self.masses = np.array(tables.masses, float)
        self.precision = check_precision(precision, path)
        self.path = None if path is None else str(path)
        if len(self.species) > 64:
            raise PotentialError("at most 64 species", path)
        n = len(self.species)
        rho, phi = cubics(tables.density), cubics(tables.pair)
        pair = np.empty((n, n, rho.shape[-2], 8))
        pair[..., :4] = np.broadcast_to(rho, (n, n, *rho.shape[2:])).swapaxes(0, 1)  # [at i, from j]
        pair[..., 4:] = phi
        kernel = _pair.Eam if precision == "double" else _pair.EamMixed
        self._kernel = kernel(cubics(tables.embed), tables.drho, pair, tables.dr, self.cutoff)
        self._slope = np.empty(0)

    def parameters(self):
        t = self.tables
        return t.embed, t.drho, t.density, t.pair, t.dr, t.cutoff

    def compute(self, nb: Neighbourhoods, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        rows = (nb.positions, nb.types, nb.nlocal, nb.offsets, nb.indices, nb.style == "half")
        if len(self._slope) < nb.nall:
            self._slope = np.empty(nb.nall + nb.nall // 8)
        slope = self._slope[: nb.nall]
        slope[nb.nlocal :] = 0.0
        energy = bool(energy or energies is not None)
        want = 2 if energy else 1 if virial else 0
        embedding = self._kernel.density(*rows, slope, energy, energies, threads)
        nb.forward(slope)
        pair, w = self._kernel.forces(*rows, slope, forces, want, energies, virials, threads)
        return embedding + pair, w


# ---- files -----------------------------------------------------------------------------------------------------------


def matches(path, text) -> bool:
    """Whether this is setfl, eam/fs or funcfl, by suffix or by its head; text None: a directory."""
    if text is None:
        return False
    if PurePath(str(path).removesuffix(".gz")).suffix.lower() in (".eam", ".alloy", ".fs", ".setfl", ".funcfl"):
        return True
    lines = text[:4000].splitlines()
    return _is_setfl(lines) or _is_funcfl(lines)


def _numeric(words) -> bool:
    try:
        [float(w.replace("D", "E").replace("d", "e")) for w in words]
    except ValueError:
        return False
    return True


def _is_setfl(lines) -> bool:
    if len(lines) < 6:
        return False
    names, grid = lines[3].split(), lines[4].split()
    return bool(names and names[0].isdigit() and len(names) == int(names[0]) + 1 and len(grid) == 5 and _numeric(grid))


def _is_funcfl(lines) -> bool:
    if len(lines) < 4:
        return False
    element, grid = lines[1].split(), lines[2].split()
    return len(element) == 4 and _numeric(element[:3]) and len(grid) == 5 and _numeric(grid)


def read(path, species=None, precision="double") -> Eam:
    """The potential in a setfl, Finnis-Sinclair or funcfl file; species: which of its elements, in the order of types.

    PotentialError names file and line.
    """
    tables = read_tables(path)
    if species is not None:
        for s in species:
            if s not in tables.species:
                line = 2 if _is_funcfl(read_text(path).splitlines()) else 4
                raise PotentialError(f"no element {s} here, only {' '.join(tables.species)}", path, line)
        tables = tables.select(species)
    return Eam(tables, precision, path)


def read_tables(path) -> EamTables:
    """The tables of a setfl, Finnis-Sinclair or funcfl file."""
    text = read_text(path)
    lines = text.splitlines()
    suffix = PurePath(str(path).removesuffix(".gz")).suffix.lower()
    if _is_setfl(lines) or suffix in (".alloy", ".fs", ".setfl"):
        return _read_setfl(Lines(path, text), suffix)
    if _is_funcfl(lines) or suffix in (".eam", ".funcfl"):
        return _read_funcfl(Lines(path, text))
    raise PotentialError("neither a setfl (eam/alloy, eam/fs) nor a funcfl file", path)


def _grid(source: Lines):
    nrho, drho, nr, dr, cutoff = source.record("the numbers nrho, drho, nr, dr, cutoff", int, float, int, float, float)
    if nrho < 5 or nr < 5:
        source.fail("a table needs at least 5 knots")
    if not (drho > 0 and dr > 0 and cutoff > 0):
        source.fail("drho, dr and the cutoff must be positive")
    return nrho, drho, nr, dr, cutoff


def _read_setfl(source: Lines, suffix: str) -> EamTables:
    source.skip(3)
    names = source.words("the number of elements and their names")
    if not names[0].isdigit() or int(names[0]) != len(names) - 1 or len(names) < 2:
        source.fail("expected the number of elements and as many names")
    names = tuple(names[1:])
    if len(set(names)) < len(names):
        source.fail("an element is named twice")
    n = len(names)
    nrho, drho, nr, dr, cutoff = _grid(source)
    alloy = n * (nrho + nr) + n * (n + 1) // 2 * nr
    finnis = alloy + n * (n - 1) * nr
    per_pair = n > 1 and (suffix == ".fs" or (suffix not in (".alloy", ".setfl") and source.words_left() >= finnis))
    numbers, masses, constants, lattices = np.empty(n, int), np.empty(n), np.empty(n), []
    embed, density = np.empty((n, nrho)), np.empty((n, n if per_pair else 1, nr))
    for a, name in enumerate(names):
        numbers[a], masses[a], constants[a], lattice = source.record(
            f"atomic number, mass, lattice constant and lattice of {name}", int, float, float, str
        )
        if not masses[a] > 0:
            source.fail(f"the mass of {name} must be positive")
        lattices.append(lattice)
        embed[a] = source.floats(nrho, f"the embedding function of {name}")
        for b in range(density.shape[1]):
            what = f"the density of {name} at {names[b]}" if per_pair else f"the density of {name}"
            density[a, b] = source.floats(nr, what)
    pair = np.empty((n, n, nr))
    for a in range(n):
        for b in range(a + 1):
            pair[a, b] = pair[b, a] = source.floats(nr, f"the pair function of {names[a]} and {names[b]}")
    if source.words_left():
        source.next_line()
        source.fail("more numbers than the header announces")
    return EamTables(names, numbers, masses, constants, tuple(lattices), drho, embed, dr, density, pair, cutoff)


def _read_funcfl(source: Lines) -> EamTables:
    from ase.data import chemical_symbols

    source.skip(1)
    what = "atomic number, mass, lattice constant, lattice"
    number, mass, constant, lattice = source.record(what, int, float, float, str)
    if not 0 < number < len(chemical_symbols):
        source.fail(f"{number} is no atomic number")
    if not mass > 0:
        source.fail("the mass must be positive")
    name = chemical_symbols[number]
    nrho, drho, nr, dr, cutoff = _grid(source)
    embed = source.floats(nrho, "the embedding function")
    charge = source.floats(nr, "the effective charge")
    density = source.floats(nr, "the density")
    return EamTables(
        species=(name,),
        numbers=np.array([number]),
        masses=np.array([mass]),
        constants=np.array([constant]),
        lattices=(lattice,),
        drho=drho,
        embed=embed[None],
        dr=dr,
        density=density[None, None],
        pair=(FUNCFL_COULOMB * charge**2)[None, None],
        cutoff=cutoff,
    )


def write_setfl(path, tables: EamTables, comment: str = "") -> None:
    """Writes eam/alloy, or eam/fs where the density depends on both species; 17 digits, so nothing is lost.

    comment: up to three lines for the head of the file.
    """
    head = [*comment.splitlines(), "", "", ""][:3]
    n = len(tables.species)
    nrho, nr = tables.embed.shape[-1], tables.density.shape[-1]
    grid = f"{nrho} {tables.drho:.17g} {nr} {tables.dr:.17g} {tables.cutoff:.17g}"
    out = [*head, f"{n} {' '.join(tables.species)}", grid]

    def numbers(values):
        out.extend(" ".join(f"{v:.16e}" for v in values[k : k + 5]) for k in range(0, len(values), 5))

    for a in range(n):
        out.append(f"{tables.numbers[a]} {tables.masses[a]:.17g} {tables.constants[a]:.17g} {tables.lattices[a]}")
        numbers(tables.embed[a])
        for b in range(tables.density.shape[1]):
            numbers(tables.density[a, b])
    for a in range(n):
        for b in range(a + 1):
            numbers(tables.pair[a, b])
    write_text(path, "\n".join(out) + "\n")
