"""The atoms of all ranks, as one rank sees them: where cell, bricks, halo, neighbour list and potential meet."""

from __future__ import annotations

import numpy as np

from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.neighbours import NeighbourList
from ostwald.app.atoms.units import BOLTZMANN, DENSITY, GPA, MVV2E
from ostwald.app.kernels import _integrate, _neighbour
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.parallel import Bricks, CollectiveError, Halo, migrate


class System:
    """Atoms, cell and potential, decomposed over the ranks of a world.

    world: World. cell: Cell (same on every rank). atoms: Atoms, any distribution over the ranks; the first update
    moves each to the rank that owns its place. potential: Potential.
    skin: Å added to the cutoff in the neighbour list; a list is renewed as soon as atoms and cell may have moved so far
    that a pair inside the cutoff is missing, tested every `check_every` steps, never before `delay` steps have gone by.
    grid: ranks along each axis (default: least surface). sort_every: builds between spatial sorts of the rows.
    balance: "none", "static" (even atom counts at the first build) or "dynamic" (measured cost, every `balance_every` steps).
    """

    def __init__(
        self,
        world,
        cell: Cell,
        atoms: Atoms,
        potential,
        *,
        skin=1.0,
        check_every=1,
        delay=0,
        grid=None,
        cuts=None,
        sort_every=4,
        balance="static",
        balance_every=200,
        threads=None,
    ):
        self.world, self.cell, self.atoms, self.potential = world, cell, atoms, potential
        self.skin, self.check_every, self.delay = float(skin), int(check_every), int(delay)
        self.sort_every, self.balance, self.balance_every = int(sort_every), balance, int(balance_every)
        self.threads = world.threads if threads is None else int(threads)
        self.total = int(world.allreduce(atoms.n))
        counts = np.bincount(atoms.types[: atoms.n], minlength=len(atoms.masses))
        self.mass = float(world.allreduce(counts) @ atoms.masses)
        self.bricks = Bricks(world, cell.periodic, grid=grid, lengths=tuple(cell.heights), cuts=cuts)
        self.halo = Halo(world, self.bricks)
        # per-rank lists can differ in style only through the potential, which is the same on every rank
        self.neighbours = NeighbourList(threads=self.threads)
        self.style = potential.list_style if self.threads == 1 else "full"
        self.reference = np.empty((0, 3))
        self.reference_matrix = cell.matrix.copy()
        self.reference_origin = cell.origin.copy()
        self.builds, self.age = 0, 0
        self.dangerous = 0
        self.energy, self.virial = np.nan, np.full(6, np.nan)
        self.frozen_mask = 0
        self.conserves_momentum = True
        self._cost_mark = 0.0
        self._since_balance = 0
        self._stale = True

    # ---- geometry ---------------------------------------------------------------------------------------------

    @property
    def list_cutoff(self) -> float:
        """Å: the potential's cutoff plus the skin."""
        return self.potential.cutoff + self.skin

    def invalidate(self):
        """The next update builds everything anew (atoms were added, removed or displaced at will)."""
        self._stale = True

    def update(self) -> bool:
        """Makes ghosts and neighbour list valid for the present positions and cell. Collective; True when it rebuilt."""
        self.age += 1
        self._since_balance += 1
        if self._stale or self._balance_due() or self._outrun():
            self.rebuild()
            return True
        with self.world.timers("halo"):
            self.halo.forward_positions(self.atoms.positions, self.cell.matrix)
        return False

    def _balance_due(self) -> bool:
        return self.balance == "dynamic" and self.world.size > 1 and self._since_balance >= self.balance_every

    def _outrun(self) -> bool:
        """Whether a pair now inside the cutoff might be missing from the list.

        With F the deformation since the build and u the largest displacement beyond it, a pair at distance d < r_c was
        within (r_c + 2u)/σ_min(F) then, which the list covers up to r_c + skin.
        """
        if self.age < self.delay or self.age % self.check_every:
            return False
        with self.world.timers("neighbour"):
            deformed = (self.reference_matrix != self.cell.matrix).any()
            deformation = np.linalg.solve(self.reference_matrix, self.cell.matrix) if deformed else np.eye(3)
            moved2 = _neighbour.max_displacement2(
                self.atoms.positions,
                self.reference,
                self.atoms.n,
                deformation,
                self.reference_origin,
                self.cell.origin,
            )
            # not (<=) rather than (>): a NaN position must reach the rebuild, which reports it
            moved2 = self.world.allreduce(moved2 if moved2 == moved2 else np.inf, op="max")
            smallest = float(np.linalg.svd(deformation, compute_uv=False)[-1]) if deformed else 1.0
            outrun = not self.potential.cutoff + 2.0 * moved2**0.5 <= smallest * self.list_cutoff
            if outrun and self.age > 1 and self.age == max(self.delay, self.check_every):
                self.dangerous += 1
        return outrun

    def rebuild(self):
        """Wraps, migrates and sorts the atoms, then plans the halo and builds the neighbour list. Collective."""
        world, atoms, cell = self.world, self.atoms, self.cell
        timers = world.timers
        with timers("neighbour"):
            if self.builds and self._balance_due():
                self._since_balance = 0
                spent = timers.seconds("force") + timers.seconds("neighbour")
                self.bricks.rebalance(cell.fractional(atoms.positions[: atoms.n]), (spent - self._cost_mark))
                self._cost_mark = spent
            elif self.balance != "none" and world.size > 1 and self.builds == 0:
                self.bricks.rebalance(cell.fractional(atoms.positions[: atoms.n]), float(max(atoms.n, 1)))
            moving = migrate(world, self.bricks, cell.matrix, cell.origin, atoms.moving_arrays())
            order = None
            if self.builds % self.sort_every == 0:
                positions = moving["positions"]
                order = _neighbour.spatial_order(positions, len(positions), 0.5 * self.list_cutoff)
            atoms.take(moving, order)
            count = int(world.allreduce(atoms.n))
            if count != self.total:
                self._name_the_lost(count)
        self.builds += 1
        self._connect()
        self.reference = self._kept(atoms.positions[: atoms.n])
        self.reference_matrix = cell.matrix.copy()
        self.reference_origin = cell.origin.copy()

    def _name_the_lost(self, count):
        present = np.concatenate(self.world.allgather(self.atoms.ids[: self.atoms.n]))
        lost = np.setdiff1d(np.arange(self.total), present)
        raise CollectiveError(f"{self.total - count} of {self.total} atoms were lost, the first has id {lost[0]}")

    def _kept(self, positions):
        if len(self.reference) == len(positions):
            self.reference[:] = positions
            return self.reference
        return positions.copy()

    def _connect(self):
        """Halo and neighbour list of the rows as they stand."""
        atoms, cell, timers = self.atoms, self.cell, self.world.timers
        with timers("halo"):
            local = atoms.positions[: atoms.n]
            nghost = self.halo.build(local, cell.matrix, cell.origin, self.list_cutoff)
            atoms.nghost = 0
            atoms.set_ghosts(nghost)
            self.halo.forward_positions(atoms.positions, cell.matrix)
            self.halo.forward(atoms.types)
            self.halo.forward(atoms.ids)
        with timers("neighbour"):
            self.neighbours.build(atoms.positions, atoms.n, nghost, self.potential.cutoff, self.skin, self.style)
        self._stale = False
        self.age = 0

    # ---- forces -----------------------------------------------------------------------------------------------

    def neighbourhoods(self) -> Neighbourhoods:
        """What a potential or an analysis is given: rows, list and exchanges of this rank."""
        atoms = self.atoms
        return Neighbourhoods(
            positions=atoms.positions,
            types=atoms.types,
            nlocal=atoms.n,
            offsets=self.neighbours.offsets,
            indices=self.neighbours.indices,
            style=self.style,
            forward=self._forward,
            reverse=self._reverse,
        )

    def _forward(self, array):
        with self.world.timers("halo"):
            self.halo.forward(array)

    def _reverse(self, array):
        with self.world.timers("halo"):
            self.halo.reverse(array)

    def compute(self, energy=True, virial=True, energies=None, virials=None):
        """Forces of the present positions; this rank's share of energy (eV) and virial (6,) eV where asked.

        energies (n+nghost,), virials (n+nghost, 6): filled per atom where given.
        """
        atoms, timers = self.atoms, self.world.timers
        forces = atoms.forces
        with timers("force"):
            forces.fill(0.0)
            for array in (energies, virials):
                if array is not None:
                    array.fill(0.0)
            self.energy, self.virial = self.potential.compute(
                self.neighbourhoods(),
                forces,
                energy=energy,
                virial=virial,
                energies=energies,
                virials=virials,
                threads=self.threads,
            )
        if self.potential.reverse:
            for array in (forces, energies, virials):
                if array is not None:
                    self._reverse(array)

    # ---- global numbers ---------------------------------------------------------------------------------------

    def potential_energy(self) -> float:
        """eV, of all ranks, at the last compute(energy=True)."""
        return float(self.world.allreduce(self.energy))

    def kinetic_tensor(self) -> np.ndarray:
        """Σ m v⊗v of all ranks, (6,) eV."""
        return self.world.allreduce(self.local_kinetic_tensor()) if self.world.size > 1 else self.local_kinetic_tensor()

    def local_kinetic_tensor(self) -> np.ndarray:
        atoms = self.atoms
        return MVV2E * _integrate.kinetic_tensor(atoms.velocities, atoms.types, atoms.masses, atoms.n)

    def kinetic_energy(self) -> float:
        """eV, of all ranks."""
        return 0.5 * float(self.kinetic_tensor()[:3].sum())

    @property
    def mobile(self) -> int:
        """Atoms that are not frozen, on all ranks."""
        if not self.frozen_mask:
            return self.total
        groups = self.atoms.groups
        return int(self.world.allreduce(int(np.count_nonzero((groups & np.uint32(self.frozen_mask)) == 0))))

    @property
    def degrees_of_freedom(self) -> int:
        """3 per mobile atom, less 3 for the centre of mass where its momentum is conserved and nothing is frozen."""
        if self.frozen_mask or not self.conserves_momentum:
            return 3 * self.mobile
        return max(3 * self.total - 3, 1)

    def temperature(self) -> float:
        """K"""
        return 2.0 * self.kinetic_energy() / (max(self.degrees_of_freedom, 1) * BOLTZMANN)

    def pressure(self) -> np.ndarray:
        """(6,) GPa, positive in compression, at the last compute(virial=True)."""
        virial = self.world.allreduce(np.asarray(self.virial))
        return GPA * (self.kinetic_tensor() + virial) / self.cell.volume

    def density(self) -> float:
        """g/cm³"""
        return DENSITY * self.mass / self.cell.volume

    # ---- restart ----------------------------------------------------------------------------------------------

    def checkpoint(self) -> tuple[dict[str, np.ndarray], dict]:
        """(per-atom arrays of this rank, small state): all that `restore` needs for the same bits on the same ranks."""
        atoms = self.atoms
        arrays = {name: array for name, array in atoms.moving_arrays().items()}
        arrays["reference"] = self.reference
        meta = dict(
            matrix=self.cell.matrix.tolist(),
            origin=self.cell.origin.tolist(),
            periodic=self.cell.periodic.tolist(),
            reference_matrix=self.reference_matrix.tolist(),
            reference_origin=self.reference_origin.tolist(),
            grid=[int(g) for g in self.bricks.grid],
            cuts=[np.asarray(c).tolist() for c in self.bricks.cuts],
            builds=self.builds,
            age=self.age,
            dangerous=self.dangerous,
            total=self.total,
            species=list(atoms.species),
            masses=atoms.masses.tolist(),
            group_names=atoms.group_names,
            style=self.style,
            frozen_mask=self.frozen_mask,
        )
        return arrays, meta

    @classmethod
    def restore(cls, world, arrays, meta, potential, *, exact, **options) -> System:
        """The system of a checkpoint. exact: this rank holds the rows it wrote, so the list is built as it was then."""
        arrays = dict(arrays)
        reference = arrays.pop("reference")
        state = {name: a for name, a in arrays.items() if not name.startswith("extra:")}
        atoms = Atoms(meta["species"], meta["masses"], **state)
        atoms.extra = {name[6:]: np.ascontiguousarray(a) for name, a in arrays.items() if name.startswith("extra:")}
        atoms.group_names = list(meta["group_names"])
        cell = Cell(meta["matrix"], meta["origin"], meta["periodic"])
        chosen = options.get("grid") is not None
        if exact:
            options.update(grid=meta["grid"], cuts=[np.array(c) for c in meta["cuts"]])
        system = cls(world, cell, atoms, potential, **options)
        system.bricks.fixed_grid = chosen
        if system.total != meta["total"]:
            raise CollectiveError(f"the checkpoint holds {system.total} atoms but says {meta['total']}")
        system.builds, system.dangerous = meta["builds"], meta["dangerous"]
        system.frozen_mask = int(meta["frozen_mask"])
        if not exact:
            system.builds = 0
            system.rebuild()
            system.builds = max(system.builds, meta["builds"])
            return system
        current = atoms.positions[: atoms.n].copy()
        atoms.positions[:] = reference
        cell.matrix = np.array(meta["reference_matrix"])
        cell.origin = np.array(meta["reference_origin"])
        system._connect()
        system.reference = np.ascontiguousarray(reference)
        system.reference_matrix, system.reference_origin = cell.matrix.copy(), cell.origin.copy()
        atoms.positions[: atoms.n] = current
        cell.matrix, cell.origin = np.array(meta["matrix"]), np.array(meta["origin"])
        system.halo.forward_positions(atoms.positions, cell.matrix)
        system.age = meta["age"]
        return system
