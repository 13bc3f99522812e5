"""What labels structures: a potential of this project, or any ASE calculator."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from ostwald.io.datasets import LabelledStructure
from ostwald.io.structures import boxed


class TeacherError(ValueError):
    """A teacher cannot be made or fails at a structure; one sentence that names it."""


def calculator_of(where: str) -> Calculator:
    """The ASE calculator that `MODULE:NAME` or `FILE.py:NAME` makes when NAME is called without arguments.

    TeacherError where there is none.
    """
    place, colon, name = where.rpartition(":")
    if not colon or not name.isidentifier():
        raise TeacherError(f"'{where}' is neither MODULE:NAME nor FILE.py:NAME")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        made = getattr(module, name)()
    except FileNotFoundError:
        raise TeacherError(f"{place}: no such file") from None
    except Exception as error:  # whatever a foreign module does
        raise TeacherError(f"'{where}' makes no calculator ({type(error).__name__}: {error})") from error
    if not hasattr(made, "get_property"):
        raise TeacherError(f"'{where}' makes a {type(made).__name__}, not an ASE calculator")
    return made


def label(atoms, calculator, group: str) -> LabelledStructure:
    """A structure with the calculator's energy and forces, and its stress where it is periodic and has one. TeacherError."""
    atoms = atoms.copy()
    atoms.calc = calculator
    try:
        # the energy that belongs to the forces, where a calculator tells them apart (smeared electrons)
        energy, forces, stress = (
            atoms.get_potential_energy(force_consistent=_consistent(calculator)),
            atoms.get_forces(),
            None,
        )
        if atoms.pbc.all():
            try:
                stress = atoms.get_stress()
            except PropertyNotImplementedError:
                pass
    except Exception as error:
        raise TeacherError(f"{type(error).__name__}: {error}") from error
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise TeacherError("energy or forces are not finite")
    cell, origin = boxed(atoms.positions, atoms.cell.array)
    return LabelledStructure(
        atoms.positions - origin, atoms.numbers, cell, atoms.pbc, energy, forces, stress, group=group
    )


def _consistent(calculator) -> bool:
    return "free_energy" in getattr(calculator, "implemented_properties", ())
