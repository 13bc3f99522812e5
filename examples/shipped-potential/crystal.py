#!/usr/bin/env python3
"""Crystals, defects and phonons of nickel after several potentials, side by side.

usage: crystal.py POTENTIAL POTENTIAL ... [--json FILE] [--plot FILE.png]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk, fcc100, fcc110, fcc111
from scipy.optimize import minimize_scalar

from ostwald.app import dynamics, potentials
from ostwald.app.atoms import atoms as rows
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.parallel import World

CRYSTALS = {"fcc": 3.52, "bcc": 2.80, "hcp": 2.49, "sc": 2.35, "diamond": 5.05}
"""Lattice parameters (Å) near the minimum, hcp with the ideal ratio of axes."""
SUPERCELL = 4
"""Conventional cells along each axis for vacancies and phonons."""
PHONONS = {"X": (0.0, 0.0, 1.0), "L": (0.5, 0.5, 0.5)}
"""Wave vectors in units of 2π/a."""


def crystal(kind, a, factor=1.0):
    return bulk("Ni", kind, a=a * factor, cubic=kind not in ("hcp", "sc"))


def energy(potential, atoms):
    """eV per atom."""
    atoms.calc = potential.ase()
    return atoms.get_potential_energy() / len(atoms)


def relaxed(potential, atoms):
    """The energy (eV) of atoms at rest in their cell."""
    world = World()
    numbers = np.arange(len(atoms))
    mine = rows.Atoms(("Ni",), [58.6934], atoms.positions, np.zeros(len(atoms), np.int32), numbers)
    system = System(world, Cell(atoms.cell.array, np.zeros(3), np.ones(3, bool)), mine, potential)
    found = dynamics.minimise(system, force_tolerance=1e-4)
    if not found.converged:
        raise SystemExit(f"{potential.describe()}: {found.describe()}")
    return found.energy


def cohesion(potential):
    """By crystal: lattice parameter (Å), energy (eV/atom), and the curve: volumes (Å³/atom), energies."""
    found = {}
    for kind, a in CRYSTALS.items():
        best = minimize_scalar(
            lambda f, kind=kind, a=a: energy(potential, crystal(kind, a, f)),
            bounds=(0.93, 1.07), method="bounded", options={"xatol": 1e-7},
        )  # fmt: skip
        factors = np.linspace(0.93, 1.09, 33)
        cells = [crystal(kind, a, f) for f in factors]
        curve = [[c.get_volume() / len(c), energy(potential, c)] for c in cells]
        found[kind] = dict(a=a * best.x, energy=best.fun, curve=curve)
    return found


def elastic(potential, a, size=1e-4):
    """C11, C12, C44 in GPa."""

    def stress(strain):
        atoms = crystal("fcc", a)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.calc = potential.ase()
        return atoms.get_stress() / units.GPa

    long, shear = np.zeros((3, 3)), np.zeros((3, 3))
    long[0, 0], shear[0, 1], shear[1, 0] = size, size / 2, size / 2
    one, two = ((stress(s) - stress(-s)) / (2 * size) for s in (long, shear))
    return dict(C11=one[0], C12=one[1], C44=two[5])


def vacancy(potential, a, cohesive):
    """Formation energy of a vacancy, eV."""
    atoms = crystal("fcc", a) * (SUPERCELL, SUPERCELL, SUPERCELL)
    del atoms[0]
    return relaxed(potential, atoms) - len(atoms) * cohesive


def surfaces(potential, a, cohesive):
    """Energies of relaxed surfaces, J/m²."""
    found = {}
    for name, slab in (
        ("100", fcc100("Ni", (2, 2, 12), a, vacuum=8)),
        ("110", fcc110("Ni", (2, 2, 16), a, vacuum=8)),
        ("111", fcc111("Ni", (2, 2, 12), a, vacuum=8)),
    ):
        slab.pbc = True
        area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
        excess = relaxed(potential, slab) - len(slab) * cohesive
        found[name] = excess / (2 * area) * units.m**2 / units.J
    return found


def stacking_fault(potential, a, cohesive):
    """Energy of the intrinsic fault, mJ/m²: twelve (111) planes, and the cell's next image shifted by a partial."""
    slab = fcc111("Ni", (1, 1, 12), a, periodic=True)
    slab.cell[2] = [0, 0, 12 * a / 3**0.5]
    shift = (slab.cell[0] + slab.cell[1]) / 3
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    # of the two senses of the shift one puts equal planes on top of each other
    energies = []
    for sense in (1, -1):
        faulted = slab.copy()
        faulted.cell[2] += sense * shift
        energies.append(relaxed(potential, faulted))
    return (min(energies) - len(slab) * cohesive) / area * units.m**2 / units.J * 1000


def phonons(potential, a, size=0.01):
    """Frequencies (THz) at X and L, ascending, from the forces of one displaced atom."""
    atoms = crystal("fcc", a) * (SUPERCELL, SUPERCELL, SUPERCELL)
    atoms.calc = potential.ase()
    place = atoms.positions.copy()
    constants = np.empty((len(atoms), 3, 3))  # of atom j along b, when atom 0 moves along a
    for axis in range(3):
        forces = []
        for sign in (1, -1):
            atoms.positions = place
            atoms.positions[0, axis] += sign * size
            forces.append(atoms.get_forces())
        constants[:, axis] = -(forces[0] - forces[1]) / (2 * size)
    found = {}
    for name, q in PHONONS.items():
        phases = np.cos(2 * np.pi / a * (place - place[0]) @ np.array(q))
        matrix = np.einsum("j,jab->ab", phases, constants) / 58.6934
        squares = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))
        # eV/(Å² amu) -> (rad/s)²
        factor = units._e / (1e-20 * units._amu)
        found[name] = (np.sign(squares) * np.sqrt(np.abs(squares) * factor) / (2 * np.pi * 1e12)).tolist()
    return found


def properties(name):
    potential = potentials.load(name)
    crystals = cohesion(potential)
    a, cohesive = crystals["fcc"]["a"], crystals["fcc"]["energy"]
    return dict(
        crystals=crystals,
        elastic_GPa=elastic(potential, a),
        vacancy_eV=vacancy(potential, a, cohesive),
        surfaces_J_per_m2=surfaces(potential, a, cohesive),
        stacking_fault_mJ_per_m2=stacking_fault(potential, a, cohesive),
        phonons_THz=phonons(potential, a),
    )


def table(found):
    """Rows of text, one a property."""
    first = next(iter(found.values()))

    def row(label, form, get):
        return f"{label:<34}" + "".join(f"{form.format(get(p)):>16}" for p in found.values())

    lines = [" " * 34 + "".join(f"{Path(name).name:>16}" for name in found)]
    lines.append(row("a, Å", "{:.4f}", lambda p: p["crystals"]["fcc"]["a"]))
    lines.append(row("cohesive energy, eV/atom", "{:.4f}", lambda p: p["crystals"]["fcc"]["energy"]))
    for kind in list(CRYSTALS)[1:]:
        lines.append(
            row(
                f"{kind} above fcc, meV/atom", "{:.1f}",
                lambda p, kind=kind: 1000 * (p["crystals"][kind]["energy"] - p["crystals"]["fcc"]["energy"]),
            )
        )  # fmt: skip
    for name in first["elastic_GPa"]:
        lines.append(row(f"{name}, GPa", "{:.1f}", lambda p, name=name: p["elastic_GPa"][name]))
    lines.append(row("vacancy, eV", "{:.3f}", lambda p: p["vacancy_eV"]))
    for name in first["surfaces_J_per_m2"]:
        lines.append(row(f"surface ({name}), J/m²", "{:.3f}", lambda p, name=name: p["surfaces_J_per_m2"][name]))
    lines.append(row("intrinsic fault, mJ/m²", "{:.1f}", lambda p: p["stacking_fault_mJ_per_m2"]))
    for q in PHONONS:
        for k, branch in enumerate(("transverse", "", "longitudinal")):
            if branch:
                lines.append(row(f"phonon {q} {branch}, THz", "{:.2f}", lambda p, q=q, k=k: p["phonons_THz"][q][k]))
    return lines


def plot(found, path):
    """E(V) of the crystals: lines of the first potential, points of the others."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2))
    colours = ["#1f5fa8", "#c0392b", "#27ae60", "#8e44ad", "#b9770e"]
    for colour, kind in zip(colours, CRYSTALS):
        for number, (name, p) in enumerate(found.items()):
            volumes, energies = np.array(p["crystals"][kind]["curve"]).T
            style = dict(lw=1.2) if number == 0 else dict(ls="", marker="o", ms=3.5, mfc="none")
            axes.plot(volumes, energies, color=colour, label=f"{kind}, {Path(name).name}", **style)
    axes.set(xlabel="volume, Å³/atom", ylabel="energy, eV/atom")
    axes.legend(frameon=False, fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("potential", nargs="+")
    options.add_argument("--json")
    options.add_argument("--plot")
    given = options.parse_args()
    found = {name: properties(name) for name in given.potential}
    print("\n".join(table(found)))
    if given.plot:
        plot(found, given.plot)
    if given.json:
        for each in found.values():
            for kind in each["crystals"].values():
                del kind["curve"]
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
