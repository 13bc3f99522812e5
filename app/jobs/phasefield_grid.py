"""The methods of a phase-field run file: what each can do, takes and costs."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

from ostwald.app.jobs.phasefield_stages import order
from ostwald.app.phasefield import FiniteDifference, Implicit
from ostwald.app.runfile import RunFileError
from ostwald.parallel import deal, extents, process_grid, spectrum_bytes

IMPLICIT_ARRAYS = 20
"""Fields that an implicit step needs: Newton's vectors and those of GMRES."""
BOUNDARIES = {"periodic": "periodic", "no-flux": "mirror"}


def boundaries(values) -> tuple[str, ...]:
    """Of each axis, as parallel.Ghosts calls them."""
    given, axes = values["solver"]["boundaries"], len(values["grid"]["shape"])
    return tuple(BOUNDARIES[name] for name in ([given] * axes if isinstance(given, str) else given))


def check_method(values, path) -> None:
    """RunFileError where the method of a run cannot do what its other tables ask for."""
    method, given, axes = values["solver"]["method"], values["solver"]["boundaries"], len(values["grid"]["shape"])
    if not isinstance(given, str) and len(given) != axes:
        raise RunFileError(f"{path}: [solver] boundaries: is one or one for each of {axes} axes, not {len(given)}")
    walls = "mirror" in boundaries(values)
    if method == "spectral":
        if walls:
            raise RunFileError(
                f"{path}: [solver] boundaries: the spectral method is periodic; no-flux needs another method"
            )
        return
    if values["model"]["equation"] != "cahn-hilliard":
        raise RunFileError(f"{path}: [solver] method: '{method}' solves the Cahn–Hilliard equation only")
    if values["model"]["mobility_coefficients"] is not None and method != "petsc":
        raise RunFileError(f"{path}: [solver] method: '{method}' takes a constant mobility")
    if values["elasticity"]["misfit"] is not None or values["elasticity"]["eigenstrain"] is not None:
        raise RunFileError(f"{path}: [solver] method: '{method}' knows no elasticity")
    if any(values["noise"].values()):
        raise RunFileError(f"{path}: [noise]: '{method}' makes no noise")
    if method == "petsc":
        if values["solver"]["order"] is not None:
            raise RunFileError(
                f"{path}: [solver] order: has no effect with method = 'petsc', whose steps are of second order"
            )
        if values["grid"]["precision"] == "single":
            raise RunFileError(f"{path}: [grid] precision: '{method}' works in double precision")
        if importlib.util.find_spec("petsc4py") is None:
            raise RunFileError(f"{path}: [solver] method: 'petsc' needs petsc4py, which is not installed")


def check_parts(values, path, ranks: int) -> None:
    """RunFileError where [parallel] grid is for another number of ranks."""
    grid = values["parallel"]["grid"]
    if grid and math.prod(grid) != ranks:
        raise RunFileError(f"{path}: [parallel] grid: {grid[0]} × {grid[1]} parts do not match {ranks} ranks")


def build_on_grid(world, values, path, well, shape, dtype, ranks) -> FiniteDifference:
    """The solver of a run file whose method is not the spectral one, without its field."""
    model = values["model"]
    if values["solver"]["method"] == "petsc":
        mobility = [model["mobility"] * c for c in model["mobility_coefficients"] or (1.0,)]
        return Implicit(
            world, shape, well, model["epsilon"], mobility, values["grid"]["spacing"], boundaries(values), ranks
        )  # fmt: skip
    solver = FiniteDifference(
        world, shape, well, model["epsilon"], model["mobility"], values["grid"]["spacing"], dtype, boundaries(values), ranks
    )  # fmt: skip
    for number, stage in enumerate(values["stage"], 1):
        if stage["timestep"] > solver.longest_step:
            raise RunFileError(
                f"{path}: [stage {number}] timestep: explicit steps are stable up to {solver.longest_step:.4g} here, "
                f"got {stage['timestep']:g}"
            )
    return solver


@dataclass(frozen=True)
class Footprint:
    """ranks: the process grid. memory, checkpoint: bytes of all ranks together. logarithmic: a step takes N log N, else N."""

    ranks: tuple[int, int]
    memory: float
    checkpoint: float
    logarithmic: bool

    def work(self, points: int) -> float:
        return points * (math.log(points) if self.logarithmic else 1.0)


def footprint(values, dtype, size: int, ranks=None) -> Footprint:
    """Of a run on `size` ranks. ValueError where they do not fit the grid."""
    shape = values["grid"]["shape"]
    if values["solver"]["method"] == "spectral":
        spectrum, held = spectrum_bytes(shape, dtype), 3 if order(values) == 2 else 1
        memory = (1 + held) * spectrum
        if values["model"]["mobility_coefficients"] is not None:
            memory += 2 * spectrum + math.prod(shape) * dtype.itemsize
        return Footprint(process_grid(shape, dtype, size, ranks), memory, held * spectrum, True)
    field = math.prod(shape) * dtype.itemsize
    arrays = IMPLICIT_ARRAYS if values["solver"]["method"] == "petsc" else 1
    return Footprint(deal(shape, size, extents(shape)[1], ranks), arrays * field, field, False)
