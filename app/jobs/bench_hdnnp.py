"""`ostwald bench hdnnp`: microseconds·core per atom and step of neural-network potentials in whole NVE runs.

Without --potential the symmetry functions are those of published sets, the networks random: speed does not depend on weights.
Peers' figures are of the same functions on the same kind of machine (docs/hdnnp.md says which and how they were measured).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase import Atoms as Structure
from ase.build import bulk, molecule
from ase.data import atomic_masses, atomic_numbers, reference_states
from ase.spacegroup import crystal

from ostwald.app import dynamics, potentials
from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.jobs.bench import choose, require_folder, write_figures
from ostwald.app.jobs.bench_md import measure
from ostwald.app.jobs.timing import resident_bytes
from ostwald.app.potentials.hdnnp import HDNNP, models
from ostwald.app.potentials.hdnnp.model import BOHR, HARTREE, Element, Layer, Model, SymmetryFunction, sort_key
from ostwald.parallel import CollectiveError

PEERS = {"Cu2S": "n2p2 362 to 423", "water": "n2p2 259 to 300"}
"""µs·core/atom/step of whole NVE runs on one core."""


@dataclass(frozen=True)
class Case:
    """A potential directory, or "" for generated networks on a published set of functions; its structure; K; ps; skin (Å)."""

    name: str
    structure: str
    potential: str = ""
    units: tuple[str, str] | None = None
    temperature: float = 300.0
    timestep: float = 0.001
    skin: float = 1.0


CASES = [
    Case("Cu2S", "Cu2S", temperature=600.0),
    Case("water", "water", timestep=0.0005),
    Case("Ni", "Ni", temperature=1500.0),
]


_STEEP = [(0.2222, -1, 1), (0.2222, -1, 6), (0.2222, 1, 1), (0.2222, 1, 6)]
_LAST = [(0.2222, -1, 6)]
CU2S_LEFT_OUT = {
    (3, "S", "S", "S"): _LAST,
    (3, "S", "S", "Cu"): _LAST,
    (3, "S", "Cu", "Cu"): [_STEEP[0], _STEEP[1], _STEEP[3]],
    (3, "Cu", "S", "S"): _LAST,
    (3, "Cu", "S", "Cu"): [*_STEEP, (0.04082, -1, 6), (0.01653, -1, 6)],
    (3, "Cu", "Cu", "Cu"): _STEEP,
    (9, "S", "S", "S"): _LAST,
    (9, "S", "S", "Cu"): [],
    (9, "S", "Cu", "Cu"): _LAST,
    (9, "Cu", "S", "S"): _LAST,
    (9, "Cu", "S", "Cu"): _LAST,
    (9, "Cu", "Cu", "Cu"): [_STEEP[1], _STEEP[3]],
}
"""(kind, centre, neighbours) -> (eta, lambda, zeta) that the published set does not have of all combinations."""


def functions_of(name: str) -> tuple[list[SymmetryFunction], dict]:
    """The symmetry functions of n2p2's examples Cu2S_PBE and H2O_RPBE-D3 and of the nickel set of Zuo et al. (2020).

    Also the other arguments of their Model.
    """
    make = SymmetryFunction
    found = []
    if name == "Cu2S":
        found += [make(2, "S", ("S",), 6.0, 2.0, s) for s in (1.5, 2.0, 2.5)]
        found += [make(2, "S", ("Cu",), 6.0, 2.0, s) for s in (1.5, 2.0, 2.5, 3.0)]
        found += [make(2, "Cu", ("S",), 6.0, 2.0, s) for s in (1.5, 2.0, 2.5, 3.0, 4.0, 5.0)]
        found += [make(2, "Cu", ("Cu",), 6.0, 2.0, s) for s in (2.0, 2.5, 3.0)]
        for (kind, centre, *pair), left_out in CU2S_LEFT_OUT.items():
            every = [
                (eta, lam, zeta) for eta in (0.2222, 0.04082, 0.01653) for lam in (-1.0, 1.0) for zeta in (1.0, 6.0)
            ]
            found += [
                make(kind, centre, tuple(pair), 6.0, e, 0.0, lam, z)
                for e, lam, z in every
                if (e, lam, z) not in left_out
            ]
        return found, dict(cutoff_type=6)
    if name == "water":
        for centre in ("H", "O"):
            for other, shift in (("H", 1.9 if centre == "H" else 0.9), ("O", 0.9 if centre == "H" else 4.0)):
                found += [make(2, centre, (other,), 12.0, eta, 0.0) for eta in (0.001, 0.01, 0.03, 0.06)]
                found += [make(2, centre, (other,), 12.0, eta, shift) for eta in (0.15, 0.3, 0.6, 1.5)]
        near = [(0.07, 1, 1), (0.07, -1, 1), (0.03, 1, 1), (0.03, -1, 1), (0.01, 1, 4), (0.01, -1, 4)]
        far = [(0.03, 1, 1), (0.03, -1, 1), (0.001, 1, 4), (0.001, -1, 4)]
        sets = {("H", ("H", "O")): [(0.2, 1, 1), *near], ("O", ("H", "H")): near}
        sets |= {("H", ("O", "O")): far, ("O", ("H", "O")): far, ("O", ("O", "O")): far}
        for (centre, pair), values in sets.items():
            found += [make(3, centre, pair, 12.0, e, 0.0, float(lam), float(z)) for e, lam, z in values]
        return found, dict(cutoff_type=2, length_unit=BOHR, energy_unit=HARTREE)
    for eta in (0.01, 0.02, 0.05):
        found.append(make(2, "Ni", ("Ni",), 7.3699319, eta))
        for lam in (-1.0, 1.0):
            found += [make(3, "Ni", ("Ni", "Ni"), 7.3699319, eta, 0.0, lam, zeta) for zeta in (1.0, 2.0, 4.0, 16.0)]
    return found, dict(cutoff_type=1, length_unit=BOHR, energy_unit=HARTREE)


def generated(name: str) -> Model:
    """Those functions with random networks of 25-25 nodes, their energies of the order of an meV: the crystal holds."""
    found, given = functions_of(name)
    species = sorted({f.centre for f in found}, key=atomic_numbers.get)
    rng = np.random.default_rng(1)
    elements = []
    for symbol in species:
        own = sorted((f for f in found if f.centre == symbol), key=lambda f: sort_key(f, species))
        own = [f if f.kind == 2 else _ordered(f, species) for f in own]
        own.sort(key=lambda f: sort_key(f, species))
        sizes = [len(own), 25, 25, 1]
        layers = [
            Layer(rng.normal(0, 1 / a, (b, a)), np.zeros(b), "linear" if b == 1 else "tanh") for a, b in pairwise(sizes)
        ]
        zeros, ones = np.zeros(len(own)), np.ones(len(own))
        elements.append(Element(symbol, own, zeros, ones, zeros, ones, layers))
    return Model(elements, scaling="none", conv_energy=given.get("energy_unit", 1.0) * 1e3, **given)


def _ordered(f: SymmetryFunction, species) -> SymmetryFunction:
    pair = tuple(sorted(f.neighbours, key=species.index))
    return SymmetryFunction(f.kind, f.centre, pair, f.cutoff, f.eta, f.shift, f.lam, f.zeta)


def structure(name: str, atoms: int) -> Structure:
    """About this many atoms: Cu2S (antifluorite), water at 1 g/cm³, or the cubic crystal of an element; displaced as if hot."""
    if name == "Cu2S":
        cell = crystal(("S", "Cu"), [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[5.58] * 3 + [90] * 3)
        made = cell * ((max(round((atoms / len(cell)) ** (1 / 3)), 1),) * 3)
        made.rattle(0.15, seed=1)
    elif name == "water":
        edge = max(round((atoms / 3) ** (1 / 3)), 2)
        spacing, rng = 3.104, np.random.default_rng(1)
        grid = spacing * np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
        form = molecule("H2O").positions
        turns = np.linalg.qr(rng.normal(size=(len(grid), 3, 3)))[0]
        places = grid[:, None] + np.einsum("nij,aj->nai", turns, form - form.mean(0))
        made = Structure("OHH" * len(grid), places.reshape(-1, 3), cell=[edge * spacing] * 3, pbc=True)
    else:
        state = reference_states[atomic_numbers.get(name, 0)] or {}
        if state.get("symmetry") not in ("fcc", "bcc", "diamond"):
            raise CollectiveError(f"no structure of {name} is known to time it on: Cu2S, water, and cubic elements are")
        cell = bulk(name, cubic=True)
        made = cell * ((max(round((atoms / len(cell)) ** (1 / 3)), 1),) * 3)
        made.rattle(0.1, seed=1)
    return made


def case_of(path: str) -> Case:
    """A case for a potential's directory or file: Cu2S, water, or the crystal of its only element. Unstated units: as they look."""
    model = models(path)[0]
    name = {("S", "Cu"): "Cu2S", ("H", "O"): "water"}.get(model.species)
    if name is None and len(model.species) > 1:
        raise CollectiveError(f"{path}: no structure of {' '.join(model.species)} is known to time it on")
    name = name or model.species[0]
    usual = next((case for case in CASES if case.structure == name), Case(name, name))
    longest = max(f.cutoff for element in model.elements for f in element.functions)
    atomic_units = not model.units_stated and longest > 7.0  # no set has so long a cutoff in Å
    return Case(
        Path(path).name,
        name,
        str(path),
        ("bohr", "Hartree") if atomic_units else None,
        usual.temperature,
        usual.timestep,
    )


def make_system(world, case: Case, atoms: int, precision: str) -> System:
    """The structure of a case with Maxwell–Boltzmann velocities, forces computed."""
    if case.potential:
        potential = potentials.load(case.potential, precision=precision, units=case.units)
    else:
        potential = HDNNP(generated(case.structure), precision=precision)
    whole = structure(case.structure, atoms)
    mine = np.arange(world.rank, len(whole), world.size)
    types = np.array([potential.species.index(s) for s in whole.get_chemical_symbols()], np.int32)[mine]
    masses = [atomic_masses[atomic_numbers[s]] for s in potential.species]
    rows = Atoms(potential.species, masses, whole.positions[mine], types, mine)
    system = System(world, Cell(whole.cell.array, periodic=whole.pbc), rows, potential, skin=case.skin)
    dynamics.initialise_velocities(system, case.temperature, seed=1)
    system.update()
    system.compute()
    return system


def bench(world, given) -> int:
    """The command; prints a table on rank 0."""
    cases = [case_of(path) for path in given.potential] or list(CASES)
    names = [case.name for case in cases]
    if given.case == ["list"]:
        world.log("\n".join(names))
        return 0
    chosen = choose(names, given.case)
    cases = [case for case in cases if case.name in chosen]
    require_folder(given.json)
    runs: dict = {(case, p): [] for case in cases for p in (given.precision or ["double", "mixed"])}
    facts: dict = {}
    for _ in range(given.repeat):
        for case, precision in runs:
            system = make_system(world, case, given.atoms, precision)
            runs[case, precision].append(measure(world, system, case, given.steps, warm=3))
            elements = system.potential.model.elements
            facts[case, precision] = dict(
                atoms=system.total,
                neighbours=world.allreduce(len(system.neighbours.indices)) / system.total,
                functions="/".join(str(len(element.functions)) for element in elements),
                resident_bytes_per_atom=world.allreduce(resident_bytes()) / system.total,
            )
            del system
    world.log(
        f"{'case':<18}{'precision':<10}{'atoms':>7}{'ranks':>6}{'functions':>11}{'list':>7}{'µs·core/atom/step':>19}{'median':>8}{'CPU':>8}"
        f"{'force':>8}   peer"
    )
    results = []
    for (case, precision), samples in runs.items():
        have = facts[case, precision]
        unit = 1e6 * world.size / (have["atoms"] * given.steps)
        best = min(samples, key=lambda sample: sample["wall"])
        row = dict(
            case=case.name, potential=case.potential, precision=precision, ranks=world.size, steps=given.steps, **have
        )
        row["us_core_min"] = best["wall"] * unit
        row["us_core_median"] = statistics.median(sample["wall"] for sample in samples) * unit
        row["us_cpu_min"] = min(sample["cpu"] for sample in samples) * unit / world.size
        row["us_force"] = best["sections"]["force"] * unit
        row["builds"] = best["builds"]
        results.append(row)
        world.log(
            f"{row['case']:<18}{precision:<10}{row['atoms']:>7}{row['ranks']:>6}{row['functions']:>11}{row['neighbours']:>7.1f}"
            f"{row['us_core_min']:>19.2f}{row['us_core_median']:>8.2f}{row['us_cpu_min']:>8.2f}{row['us_force']:>8.2f}   "
            f"{PEERS.get(case.structure, '')}"
        )
    write_figures(world, given.json, "hdnnp", results=results)
    return 0
