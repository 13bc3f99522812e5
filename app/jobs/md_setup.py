"""From a validated run file to a System, its groups, integrators and writers."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace

import numpy as np

from ostwald.app import dynamics, potentials
from ostwald.app.atoms import build
from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.dynamics.barostat import CellModes
from ostwald.app.jobs import watch
from ostwald.app.jobs.conditions import conditions, stage_index
from ostwald.app.potentials.hdnnp import n2p2
from ostwald.app.runfile import RunFileError

# ---- structure ------------------------------------------------------------------------------------------------------


def load_potential(values, species, log):
    """The potential of the run file for these species (None: its own); doubts about it are logged. PotentialError with file
    and line."""
    table = values["potential"]
    units = None if table["length_unit"] is None else (table["length_unit"], table["energy_unit"])
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always", UserWarning)
        species = None if species is None else tuple(species)
        potential = potentials.load(table["file"], species=species, precision=table["precision"], units=units)
    for doubt in doubts:
        log.warning(str(doubt.message))
    return potential


def resolve_potential(values, path):
    """Makes the potential's path absolute when it is a file beside the run file; built-in names stay as they are."""

    def absolute(name):
        beside = os.path.join(os.path.dirname(os.path.abspath(path)), os.path.expanduser(name))
        return os.path.abspath(beside) if os.path.exists(beside) else name

    names = values["potential"]["file"]
    values["potential"]["file"] = list(map(absolute, names)) if isinstance(names, list) else absolute(names)


def portable_potential(values) -> dict[str, str]:
    """{name: source} of the potential files that a run directory keeps; the run file then names them, beside itself.

    Of a directory, the files that the potential is made of. A file that names other files (TOML) stays where it is.
    """
    kept, names = {}, set()

    def portable(source):
        if not os.path.exists(source) or source.endswith(".toml"):
            return source
        name = os.path.basename(source)
        if name in names:  # members of an ensemble often differ in their folders only
            name = f"{len(names) + 1}-{name}"
        names.add(name)
        if os.path.isdir(source):
            kept.update({f"{name}/{file}": os.path.join(source, file) for file in n2p2.files(source)})
        else:
            kept[name] = source
        return name

    sources = values["potential"]["file"]
    values["potential"]["file"] = list(map(portable, sources)) if isinstance(sources, list) else portable(sources)
    return kept


def build_share(world, values) -> tuple[build.Share, dict]:
    """This rank's share of the starting structure, and what else there is of it: velocities (n, 3) and masses
    {symbol: amu} where a file holds them, the mask (n,) of the seed's atoms."""
    table, seed = values["structure"], values["job"]["seed"]
    further, axes = {}, [0, 1, 2]
    if table["lattice"] is not None:
        composition = table["composition"]
        share = build.build_lattice(
            world,
            table["lattice"],
            table["a"],
            tuple(table["species"]),
            table["cells"],
            c=table["c"],
            periodic=table["periodic"] or (True, True, True),
        )
    else:
        share, further, axes = _share_of_file(world, table)
        composition = table["composition"]
    if composition:
        share = build.substitute(world, share, composition, seed)
    if table["vacancies"]:
        share = build.vacancies(world, share, table["vacancies"], seed)
        further.pop("velocities", None)
    if table["rattle"]:
        share = build.rattle(share, table["rattle"], seed)
    if values["seed"]["radius"] is not None:
        share, further["seed"] = _embed_seed(world, share, values["seed"])
        further.pop("velocities", None)
    vacuum = np.array(table["vacuum"])[axes]
    if vacuum.any():
        heights = Cell(share.matrix).heights
        share.matrix = share.matrix * (1.0 + vacuum / heights)[:, None]
    return share, further


def _embed_seed(world, host, seed):
    """The structure with a crystalline sphere in it, and the mask (n,) of the sphere's atoms."""
    radius = seed["radius"]
    room = Cell(host.matrix).heights[np.asarray(host.periodic)].min(initial=np.inf)
    if 2 * radius + seed["gap"] > room:
        raise RunFileError(
            f"[seed] radius: a sphere of {2 * radius:g} Å and the gap of {seed['gap']:g} Å to its images do not fit into "
            f"the cell, which is {room:.4g} Å wide"
        )
    centre = Cell(host.matrix, host.origin, host.periodic).cartesian(np.array(seed["centre"]))
    matrix, _, _ = build.unit_cell(seed["lattice"], seed["a"], seed["c"])
    cells = np.ceil(2 * radius / Cell(matrix).heights).astype(int) + 1
    corner = centre - 0.5 * cells @ matrix
    guest = build.build_lattice(
        world, seed["lattice"], seed["a"], tuple(seed["species"]), cells, c=seed["c"], origin=corner
    )
    # only the sphere of it is used, so the crystal need not fit the cell of the melt; not periodic: what sticks out of
    # that cell must not come in again on the other side
    guest = replace(guest, matrix=host.matrix, origin=host.origin, periodic=np.zeros(3, bool))
    return build.embed(world, host, guest, build.Sphere(radius, tuple(centre)), seed["gap"])


def _share_of_file(world, table):
    """A file is read on one rank; each rank keeps an even share of the ids. Also returned: the order of the file's axes.

    In a left-handed cell the first two axes change places, which moves no atom; [structure] speaks of the file's axes.
    """
    from ostwald.io.structures import StructureError, named_types, read_structure, right_handed_axes

    order = table["species"]
    structure, problem = None, None
    if world.root:
        try:
            structure = read_structure(table["file"])
            if order is not None:
                structure = named_types(structure, order)
        except StructureError as error:
            named = table["file"] in str(error)
            problem = error if named else RunFileError(f"[structure] species: {table['file']}: {error}")
        except (OSError, ValueError) as error:
            problem = error
    world.agree(problem)
    structure = world.bcast(structure)
    species = tuple(structure.species)
    types = np.asarray(structure.types, dtype=np.int32)
    if order is not None:
        missing = set(species) - set(order)
        if missing:
            raise RunFileError(f"[structure] species: {sorted(missing)[0]} of {table['file']} is not among {order}")
        types = np.array([order.index(s) for s in species], dtype=np.int32)[types]
        species = tuple(order)
    repeats = tuple(table["cells"])
    copies = int(np.prod(repeats))
    total = len(types) * copies
    low, high = build.share_of(world, total)
    ids = np.arange(low, high, dtype=np.int64)
    copy, atom = np.divmod(ids, len(types))
    matrix = np.asarray(structure.matrix, dtype=float)
    periodic = np.asarray(table["periodic"] if table["periodic"] is not None else structure.periodic, dtype=bool)
    axes = right_handed_axes(matrix)
    if axes != [0, 1, 2]:
        world.log(f"{table['file']}: the cell is left-handed; from here on its first two axes change places")
    shift = np.stack(np.unravel_index(copy, repeats), axis=1) if len(ids) else np.zeros((0, 3))
    share = build.Share(
        positions=np.ascontiguousarray(structure.positions[atom] + shift @ matrix),
        ids=ids,
        types=np.ascontiguousarray(types[atom]),
        matrix=(matrix * np.array(repeats)[:, None])[axes],
        origin=np.asarray(structure.origin, dtype=float),
        periodic=periodic[axes],
        species=species,
        total=total,
    )
    further = {}
    if structure.velocities is not None:
        further["velocities"] = np.ascontiguousarray(structure.velocities[atom])
    if structure.masses is not None:
        further["masses"] = dict(zip(structure.species, map(float, structure.masses)))
    return share, further, axes


def masses_of(values, species, potential, of_file=None) -> np.ndarray:
    """Masses in amu by type: of the run file, else of the structure's file ({symbol: amu}), else of the potential, else
    the standard atomic weights."""
    from ase.data import atomic_masses, atomic_numbers

    given = values["structure"]["masses"] or {}
    for symbol in given:
        if symbol not in species:
            raise RunFileError(f"[structure] masses: {symbol} is not in the structure ({', '.join(species)})")
    masses = []
    for t, symbol in enumerate(species):
        mass = given.get(symbol) or (of_file or {}).get(symbol)
        if mass is None and potential.masses is not None and potential.masses[t] > 0:
            mass = float(potential.masses[t])
        if mass is None:
            if symbol not in atomic_numbers:
                raise RunFileError(
                    f"[structure] masses: no standard mass for '{symbol}'; give masses = {{ {symbol} = … }}"
                )
            mass = float(atomic_masses[atomic_numbers[symbol]])
        masses.append(mass)
    return np.array(masses)


def system_options(values) -> dict:
    """Keyword arguments of System from [neighbours] and [parallel]."""
    neighbours, parallel = values["neighbours"], values["parallel"]
    return dict(
        skin=neighbours["skin"],
        check_every=neighbours["check_every"],
        delay=neighbours["delay"],
        grid=parallel["grid"],
        balance=parallel["balance"],
    )


def build_system(world, values, path) -> System:
    """Structure, potential and groups of a run file. Collective; nothing is written."""
    grid = values["parallel"]["grid"]
    if grid and np.prod(grid) != world.size:
        bricks = " × ".join(map(str, grid))
        raise RunFileError(f"{path}: [parallel] grid: {bricks} bricks do not match {world.size} ranks")
    resolve_potential(values, path)
    try:
        share, further = build_share(world, values)
        cell = Cell(share.matrix, share.origin, share.periodic)
    except RunFileError:
        raise
    except ValueError as error:
        raise RunFileError(f"{path}: [structure]: {error}") from error
    check_cells(values, cell, path)
    potential = load_potential(values, share.species, world.log)
    watch.complete(values, potential, path)
    masses = masses_of(values, share.species, potential, further.pop("masses", None))
    seed = further.pop("seed", None)
    atoms = Atoms(share.species, masses, share.positions, share.types, share.ids, **further)
    if seed is not None:
        atoms.groups[seed] |= np.uint32(atoms.group_mask("seed"))
    for group in values["group"]:
        mark_group(atoms, cell, group)
    return System(world, cell, atoms, potential, **system_options(values))


def check_names(values, path):
    """Groups that stages and trajectory name must exist; what an analysis feeds must be switched on."""
    names = {g["name"] for g in values["group"]}
    if values["seed"]["radius"] is not None:
        names.add("seed")
    for k, stage in enumerate(values["stage"], 1):
        for name in stage["freeze"]:
            if name not in names:
                raise RunFileError(
                    f"{path}: [stage {k}] freeze: no group '{name}'; known: {', '.join(sorted(names)) or 'none'}"
                )
    group = values["trajectory"]["group"]
    if group is not None and group not in names:
        raise RunFileError(
            f"{path}: [trajectory] group: no group '{group}'; known: {', '.join(sorted(names)) or 'none'}"
        )
    check_analysis(values, path)


def check_analysis(values, path):
    """What needs an analysis must have one; what nobody would see or do is a mistake of somebody."""
    analysis, trajectory = values["analysis"], values["trajectory"]
    frames = trajectory["every"] or values["trigger"]["trajectory_every"]
    needs = {
        "[trajectory] structure": trajectory["structure"],
        "[trajectory] select": trajectory["select"],
        "[stop] solid_fraction": values["stop"]["solid_fraction"],
        "[trigger] solid_fraction": values["trigger"]["solid_fraction"],
    }
    clustered = {
        "[trajectory] select: 'largest'": trajectory["select"] == "largest",
        "[stop] largest_cluster:": values["stop"]["largest_cluster"],
        "[trigger] largest_cluster:": values["trigger"]["largest_cluster"],
    }
    for name, asked in needs.items():
        if asked and not analysis["every"]:
            raise RunFileError(f"{path}: {name}: needs [analysis] every")
    for name, asked in clustered.items():
        if asked and not (analysis["every"] and analysis["clusters"]):
            raise RunFileError(f"{path}: {name} needs [analysis] every and clusters = true")
    if analysis["fields"] and not frames:
        raise RunFileError(f"{path}: [analysis] fields: are recorded by the trajectory; give [trajectory] every")
    for table, key in (("stop", "from"), ("trigger", "from"), ("analysis", "nuclei_from")):
        try:
            stage_index(values, values[table][key], 0)
        except RunFileError as error:
            raise RunFileError(f"{path}: [{table}] {key}: {error}") from None
    for table in ("stop", "trigger"):
        if values[table]["from"] and conditions(values, table) is None:
            raise RunFileError(f"{path}: [{table}] from: has no effect without a limit")


def inside_region(atoms, cell, region):
    """(n,) bool: which atoms are in the sphere, block or cylinder, or of the species, that a table gives."""
    positions = atoms.positions[: atoms.n]
    if region.get("sphere") is not None:
        centre = cell.cartesian(np.array(region["sphere"][:3]))
        sphere = build.Sphere(region["sphere"][3], centre)
        return sphere.contains(positions, cell.matrix, cell.origin, cell.periodic)
    if region.get("block") is not None:
        bounds = np.array(region["block"]).reshape(3, 2)
        s = cell.fractional(positions) - bounds[:, 0]
        s = np.where(cell.periodic, s % 1.0, s)  # across periodic faces, as spheres and cylinders
        s[(s == 1.0) & cell.periodic] = 0.0  # what a tiny negative number becomes
        return ((s >= 0.0) & (s < bounds[:, 1] - bounds[:, 0])).all(1)
    if region.get("cylinder") is not None:
        axis, u, v, radius = region["cylinder"]
        axis = int(axis)
        others = [k for k in range(3) if k != axis]
        s = cell.fractional(positions)[:, others] - (u, v)
        s -= np.where(cell.periodic[others], np.rint(s), 0.0)
        return (np.square(s @ cell.matrix[others]).sum(1)) <= radius**2
    wanted = [atoms.species.index(s) for s in region["species"] if s in atoms.species]
    return np.isin(atoms.types[: atoms.n], wanted)


def mark_group(atoms, cell, group):
    """Sets the group's bit on the atoms inside its region."""
    inside = inside_region(atoms, cell, group)
    if group["invert"]:
        inside = ~inside
    atoms.groups[inside] |= np.uint32(atoms.group_mask(group["name"]))


# ---- stages -----------------------------------------------------------------------------------------------------------


def stage_steps(stage) -> int:
    """Length of a stage in steps."""
    return int(stage["steps"]) if stage["steps"] is not None else round(stage["time"] / stage["timestep"])


def describe_stage(stage, steps) -> str:
    """One line for the log."""

    def ramp(value, unit):
        return f"{value[0]:g} → {value[1]:g} {unit}" if isinstance(value, tuple) else f"{value:g} {unit}"

    if stage["ensemble"] == "minimise":
        cell = f" with {stage['cell']} cell" if stage["relax_cell"] else ""
        return f"minimise by {stage['method']}{cell} to {stage['force_tolerance']:g} eV/Å, at most {steps} iterations"
    parts = [f"{stage['ensemble'].upper()}, {steps} steps of {1e3 * stage['timestep']:g} fs"]
    if stage["temperature"] is not None:
        kind = stage["thermostat"] if stage["ensemble"] == "nvt" else "MTK"
        parts.append(f"T {ramp(stage['temperature'], 'K')} ({kind}, {stage['thermostat_time']:g} ps)")
    if stage["pressure"] is not None:
        parts.append(f"p {ramp(stage['pressure'], 'GPa')} ({stage['cell']}, {stage['barostat_time']:g} ps)")
    if stage["stress"] is not None:
        parts.append(f"pressure tensor {stage['stress']} GPa ({stage['cell']}, {stage['barostat_time']:g} ps)")
    if stage["freeze"]:
        parts.append("frozen: " + ", ".join(stage["freeze"]))
    return "; ".join(parts)


def cell_modes(stage):
    """The strains that a stage leaves free, as CellModes takes them."""
    if stage["cell"] == "anisotropic":
        return [name for name, free in zip(("xx", "yy", "zz"), stage["axes"]) if free]
    return stage["cell"]


def check_cells(values, cell, path):
    """A stage that cannot move its cell is refused before the first one runs."""
    for k, stage in enumerate(values["stage"], 1):
        if stage["ensemble"] in ("npt", "nph") or (stage["ensemble"] == "minimise" and stage["relax_cell"]):
            try:
                CellModes(cell_modes(stage)).check(cell)
            except ValueError as error:
                raise RunFileError(f"{path}: [stage {k}] cell: {error}") from error


def freeze(system, stage):
    """The groups that do not move in this stage; their velocities are zero."""
    mask = 0
    for name in stage["freeze"]:
        mask |= system.atoms.group_mask(name)
    system.frozen_mask = mask
    if mask:
        if system.mobile == 0:
            raise RunFileError(f"freeze: {', '.join(stage['freeze'])} leave no atom that can move")
        still = (system.atoms.groups & np.uint32(mask)) != 0
        system.atoms.velocities[still] = 0.0


def start_stage(system, stage, seed, index):
    """What happens once, at the first step of a stage."""
    if stage["velocities"] is not None and stage["velocities"] > 0:
        dynamics.initialise_velocities(system, stage["velocities"], seed=seed, step=index)
    elif stage["velocities"] == 0:
        system.atoms.velocities[:] = 0.0


def make_integrator(system, stage, steps, seed, first):
    """The integrator of a stage of `steps` steps whose first step is number `first` of the run."""

    def target(value):
        if isinstance(value, tuple):
            return dynamics.Ramp(value[0], value[1], first, steps)
        return None if value is None else dynamics.Ramp(value)

    dt, ensemble = stage["timestep"], stage["ensemble"]
    temperature, tau = target(stage["temperature"]), stage["thermostat_time"]
    if ensemble == "nve":
        return dynamics.NVE(dt)
    if ensemble == "nvt":
        if stage["thermostat"] == "langevin":
            return dynamics.Langevin(dt, temperature, tau, seed=seed)
        if stage["thermostat"] == "bussi":
            return dynamics.Bussi(dt, temperature, tau, seed=seed)
        return dynamics.NoseHoover(dt, temperature, tau, length=stage["chain"])
    if stage["stress"] is not None:
        pressure = dynamics.Ramp(np.array(stage["stress"]))
    else:
        pressure = target(stage["pressure"])
    heat = dict(temperature=temperature, tau=tau, length=stage["chain"]) if ensemble == "npt" else {}
    return dynamics.MTK(dt, pressure, stage["barostat_time"], modes=cell_modes(stage), **heat)
