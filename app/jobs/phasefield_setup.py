"""From a validated run file of the phase field to free energy, elasticity, noise, initial field and solver."""

from __future__ import annotations

import numpy as np

from ostwald.app.jobs.phasefield_grid import boundaries, build_on_grid, check_method
from ostwald.app.jobs.phasefield_outputs import make_analyses
from ostwald.app.jobs.phasefield_schema import KINDS, PART, heterogeneous
from ostwald.app.jobs.phasefield_stages import check_order, order
from ostwald.app.jobs.schedule import Schedule
from ostwald.app.phasefield import (
    AllenCahn,
    CahnHilliard,
    Elasticity,
    Given,
    HeterogeneousElasticity,
    Mesh,
    Noise,
    RegularSolution,
    SecondOrder,
    VariableMobility,
    Well,
    Within,
    cubic,
    double_well,
    quartic_well,
)
from ostwald.app.phasefield.variable_mobility import greatest_mobility
from ostwald.app.runfile import RunFileError
from ostwald.io.fields import FieldsError, open_field
from ostwald.io.meshes import read_mesh
from ostwald.parallel import CollectiveError


def make_well(model) -> Well | RegularSolution:
    if model["well"] == "double":
        return double_well(model["epsilon"])
    if model["well"] == "quartic":
        return quartic_well(model["height"], model["low"], model["high"])
    if model["well"] == "regular-solution":
        cut = {} if model["cut"] is None else dict(cut=model["cut"])
        return RegularSolution(model["omega"], model["temperature"], **cut)
    return Well(model["centre"], tuple(model["coefficients"]))


def tensor(numbers) -> list:
    """(3, 3) of xx, yy, zz, yz, xz, xy."""
    xx, yy, zz, yz, xz, xy = numbers
    return [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]


def constants(table, prefix="") -> np.ndarray:
    """(6, 6)"""
    if table[prefix + "constants"] is not None:
        return np.reshape(table[prefix + "constants"], (6, 6))
    return cubic(*(table[prefix + key] for key in ("c11", "c12", "c44")))


def make_elasticity(table, dimensions, well) -> Elasticity | HeterogeneousElasticity | None:
    """ValueError where it cannot be."""
    if table["misfit"] is None and table["eigenstrain"] is None:
        return None
    strain = table["misfit"] if table["eigenstrain"] is None else tensor(table["eigenstrain"])
    given = {key: tensor(table[key]) for key in ("mean_strain", "mean_stress") if table[key] is not None}
    if not heterogeneous(table):
        return Elasticity(constants(table), strain, dimensions, **given)
    between = table["between"]
    if between is None:
        minima = well.minima()
        if len(minima) < 2:
            raise ValueError("between: is required with a well of one minimum")
        between = minima[0], minima[-1]
    if table["tolerance"] is not None:
        given["tolerance"] = table["tolerance"]
    smooth = table["interpolation"] != "linear"
    return HeterogeneousElasticity(
        constants(table), constants(table, "high_"), strain, dimensions, between, smooth, **given
    )


def make_noise(values) -> Noise | None:
    return Noise(values["job"]["seed"], **values["noise"]) if any(values["noise"].values()) else None


def precision(values) -> np.dtype:
    return np.dtype(np.float64 if values["grid"]["precision"] == "double" else np.float32)


def initial_field(values, path, shape, spacing):
    """The InitialField of a run file. RunFileError where it does not fit the grid."""
    table = values["initial"]
    kind, keys = KINDS[table["kind"]]
    given = {key: table[key] for key in keys if table[key] is not None}
    if "width" in keys:
        given["epsilon"] = given.pop("width", values["model"]["epsilon"])
    if "amplitude" in keys and table["kind"] != "pfhub":
        given["seed"] = values["job"]["seed"]
    try:
        if kind is Given:
            field = Given(
                open_field(table["file"], table["dataset"], -1 if table["frame"] is None else table["frame"]), spacing
            )
            if field.shape != tuple(shape):
                sizes = (" × ".join(map(str, n)) for n in (field.shape, shape))
                raise ValueError("{}: a field of {} points, the grid has {}".format(table["file"], *sizes))
            return field
        if kind is Mesh:
            given["triangles"] = read_mesh(given.pop("file"))
        if len(given.get("centres", ())) % len(shape):
            raise ValueError(f"centres must have {len(shape)} coordinates each, got {len(given['centres'])} numbers")
        part = {key: given.pop(key) for key in PART if key in given and "within" in keys}
        field = kind(shape, spacing, **given)
        if "within" not in part:
            return field
        start, stop = part.pop("within")
        return Within(field, part.get("axis", 0), start, stop, part.get("outside", field.mean))
    except (ValueError, FieldsError) as error:
        raise RunFileError(f"{path}: [initial]: {error}") from None


def check_finite(field, values, path) -> None:
    """RunFileError where a field that a file gives is not finite somewhere. It is read plane by plane."""
    if isinstance(field, Given):
        for k in range(field.values.shape[0]):
            if not np.isfinite(field.values[k]).all():
                raise RunFileError(
                    f"{path}: [initial]: {values['initial']['file']}: the field must be finite, plane {k} is not"
                )


def build(world, values, path, shape=None, ranks=None) -> CahnHilliard:
    """The solver of a run file, without its field. RunFileError, the same on every rank, where it cannot be."""
    grid, model = values["grid"], values["model"]
    shape = shape or grid["shape"]
    try:
        well = make_well(model)
        if model["mobility_coefficients"] is not None:
            greatest_mobility(model["mobility_coefficients"], well)
    except ValueError as error:
        raise RunFileError(f"{path}: [model]: {error}") from None
    if Schedule(values["analysis"]):
        if len(well.minima()) < 2:
            raise RunFileError(f"{path}: [analysis]: needs a well of two minima")
        try:
            make_analyses(values["analysis"], grid["shape"], "mirror" in boundaries(values))
        except ValueError as error:
            raise RunFileError(f"{path}: [analysis]: {error}") from None
    try:
        elasticity = make_elasticity(values["elasticity"], len(shape), well)
    except ValueError as error:
        raise RunFileError(f"{path}: [elasticity]: {error}") from None
    equation, form = {"cahn-hilliard": CahnHilliard, "allen-cahn": AllenCahn}[model["equation"]], []
    if model["mobility_coefficients"] is not None:
        equation, form = VariableMobility, [model["mobility_coefficients"]]
        if make_noise(values):
            raise RunFileError(f"{path}: [noise]: goes with a constant mobility only")
    if elasticity is not None and elasticity.loaded and not equation.conserved:
        raise RunFileError(f"{path}: [elasticity]: mean_strain and mean_stress need equation = 'cahn-hilliard'")
    for name in values["fields"]["names"]:
        if name != "phi" and elasticity is None:
            raise RunFileError(f"{path}: [fields] names: '{name}' needs the table [elasticity]")
    check_method(values, path)
    check_order(values, path)
    try:
        if values["solver"]["method"] != "spectral":
            return build_on_grid(world, values, path, well, shape, precision(values), ranks)
        rest = model["mobility"], grid["spacing"], precision(values), elasticity, ranks
        if order(values) == 2:
            return SecondOrder(world, shape, well, model["epsilon"], *rest)
        return equation(world, shape, well, model["epsilon"], *form, *rest, noise=make_noise(values))
    except RunFileError:
        raise
    except ValueError as error:
        raise RunFileError(f"{path}: [grid]: {error}") from None


def set_initial(solver, values, path, initial=initial_field) -> None:
    """Collective. The field that the run starts from, which `initial` makes. CollectiveError where it is not finite."""
    field = initial(values, path, solver.parts.shape, solver.spacing)
    if values["initial"]["exact_mean"] is not None:
        field = field.with_mean(values["initial"]["exact_mean"], solver.parts)
    try:
        solver.set_field(field.source(solver.parts))
    except CollectiveError as error:
        raise CollectiveError(f"{path}: [initial]: {error}", error.rank) from None
