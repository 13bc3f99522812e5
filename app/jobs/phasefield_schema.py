"""The run file of a phase-field job: tables, keys, ranges. Units are the user's own: energies, lengths and times that fit."""

from ostwald.app.jobs import schedule
from ostwald.app.jobs.md_schema import CHECKPOINT, series_table
from ostwald.app.jobs.md_schema import JOB as MD_JOB
from ostwald.app.phasefield import initial, quantities
from ostwald.app.phasefield.mesh import Mesh
from ostwald.app.phasefield.wells import TERMS
from ostwald.app.runfile import Key, Table, reference

JOB = Table(
    "job",
    {**MD_JOB.keys, "kind": Key("str", choices=("phasefield",), doc="job kind")},
    doc="What to run.",
    required=True,
)


def _check_grid(v, error):
    if len(v["shape"]) not in (2, 3):
        raise error("shape", f"has two or three lengths, not {len(v['shape'])}")
    if isinstance(v["spacing"], list) and len(v["spacing"]) != len(v["shape"]):
        raise error("spacing", f"is one number or one for each of {len(v['shape'])} axes, not {len(v['spacing'])}")


GRID = Table(
    "grid",
    {
        "shape": Key(
            "int*", low=1, doc="points along each axis, two or three; for the spectral method products of 2, 3, 5 and 7"
        ),
        "spacing": Key("float|float*", 1.0, above=0, doc="distance of points, one number or one for each axis"),
        "precision": Key("str", "double", choices=("double", "single"), doc="of the field; sums are double always"),
    },
    doc="The box.",
    required=True,
    check=_check_grid,
)

_WELLS = {
    "double": (),
    "quartic": ("height", "low", "high"),
    "polynomial": ("centre", "coefficients"),
    "regular-solution": ("omega", "temperature"),
}


MOTION = ("equation", "mobility", "mobility_coefficients")
"""The keys of [model] that tell how φ moves; the others are those of the free energy."""


def check_well(v, error):
    """Of the keys of a free energy."""
    for key in (key for keys in _WELLS.values() for key in keys):
        needed = key in _WELLS[v["well"]]
        if needed and v[key] is None:
            raise error(key, f"is required for well = '{v['well']}'")
        if not needed and v[key] is not None:
            raise error(key, f"has no effect with well = '{v['well']}'")
    if v["cut"] is not None and v["well"] != "regular-solution":
        raise error("cut", f"has no effect with well = '{v['well']}'")
    if v["well"] == "quartic" and not v["low"] < v["high"]:
        raise error("high", f"must be above low ({v['low']:g}), got {v['high']:g}")
    if v["coefficients"] is not None:
        if not 2 <= len(v["coefficients"]) <= TERMS + 1:
            raise error("coefficients", f"takes 2 to {TERMS + 1} numbers, got {len(v['coefficients'])}")
        degree, last = max(((k, c) for k, c in enumerate(v["coefficients"]) if c), default=(0, 0.0))
        if degree % 2 or last <= 0:
            raise error(
                "coefficients",
                "must give a well with a lower bound: the last one that is not 0 belongs to an even "
                f"power and is above 0, got {last:g} (φ - centre)^{degree}",
            )


def _check_model(v, error):
    check_well(v, error)
    if v["mobility_coefficients"] is not None:
        if v["equation"] != "cahn-hilliard":
            raise error("mobility_coefficients", f"has no effect with equation = '{v['equation']}'")
        if not 1 <= len(v["mobility_coefficients"]) <= TERMS + 1:
            raise error("mobility_coefficients", f"takes 1 to {TERMS + 1} numbers")


MODEL = Table(
    "model",
    {
        "equation": Key(
            "str",
            "cahn-hilliard",
            choices=("cahn-hilliard", "allen-cahn"),
            doc="cahn-hilliard: ∂φ/∂t = M ∇²μ, the mean is conserved; allen-cahn: ∂φ/∂t = -M μ, it is not",
        ),
        "well": Key(
            "str",
            "double",
            choices=tuple(_WELLS),
            doc="g(φ): double: (18/ε) φ²(1-φ)²; quartic: height (φ-low)²(high-φ)²; polynomial: Σ c_k (φ-centre)^k; "
            "regular-solution: Ω φ(1-φ) + kT [φ ln φ + (1-φ) ln(1-φ)]",
        ),
        "epsilon": Key("float", above=0, doc="ε of the gradient energy ε/2 |∇φ|² (κ elsewhere); width of interfaces"),
        "mobility": Key("float", 1.0, above=0, doc="M"),
        "mobility_coefficients": Key(
            "float*", None, doc="c_0, c_1, …: M(φ) = mobility Σ c_k φ^k, 0 where that is negative; default: constant"
        ),
        "height": Key("float", None, above=0, doc="of a quartic well"),
        "low": Key("float", None, doc="lower minimum of a quartic well"),
        "high": Key("float", None, doc="upper minimum of a quartic well"),
        "centre": Key("float", None, doc="of a polynomial: a point between its minima"),
        "coefficients": Key("float*", None, doc="c_0, c_1, … of a polynomial that has a lower bound"),
        "omega": Key("float", None, doc="Ω of a regular solution; two phases below kT = Ω/2"),
        "temperature": Key("float", None, above=0, doc="kT of a regular solution, an energy"),
        "cut": Key(
            "float", None, above=0, doc="δ of a regular solution: parabolas go on beyond δ and 1-δ; default 0.001"
        ),
    },
    doc="The equation of φ, with μ = g'(φ) - ε∇²φ + Yφ.",
    required=True,
    check=_check_model,
)


_CUBIC = ("c11", "c12", "c44")
_OF_HIGH = ("between", "interpolation", "tolerance")


def _check_constants(v, error, prefix):
    cubic = [v[prefix + key] is not None for key in _CUBIC]
    whole = prefix + "constants"
    if any(cubic) == (v[whole] is not None) or (any(cubic) and not all(cubic)):
        raise error("", f"give either {prefix}c11, {prefix}c12 and {prefix}c44, or {whole}")
    if v[whole] is not None and len(v[whole]) != 36:
        raise error(whole, f"takes the 36 numbers of the matrix, row by row, got {len(v[whole])}")


def _check_elasticity(v, error):
    if all(value is None for value in v.values()):
        return
    _check_constants(v, error, "")
    if heterogeneous(v):
        _check_constants(v, error, "high_")
        if v["between"] is not None and not v["between"][0] < v["between"][1]:
            raise error("between", "must ascend")
    for key in _OF_HIGH:
        if v[key] is not None and not heterogeneous(v):
            raise error(key, "has no effect without high_c11, … or high_constants")
    if (v["misfit"] is None) == (v["eigenstrain"] is None):
        raise error("", "give either misfit or eigenstrain")
    if v["mean_strain"] is not None and v["mean_stress"] is not None:
        raise error("", "give either mean_strain or mean_stress")


def heterogeneous(elasticity) -> bool:
    """Whether that table gives constants of two phases."""
    return any(elasticity["high_" + key] is not None for key in (*_CUBIC, "constants"))


ELASTICITY = Table(
    "elasticity",
    {
        "c11": Key("float", None, above=0, doc="of a cubic crystal, axes along the grid's (energy per volume)"),
        "c12": Key("float", None, doc="of a cubic crystal"),
        "c44": Key("float", None, above=0, doc="of a cubic crystal"),
        "constants": Key("float*", None, doc="C (6, 6) row by row, in the order xx yy zz yz xz xy"),
        "misfit": Key("float", None, doc="η: the stress-free strain is η (φ - <φ>) along all axes"),
        "eigenstrain": Key("float*6", None, doc="per unit of φ: xx, yy, zz, yz, xz, xy"),
        "mean_stress": Key("float*6", None, doc="applied: xx, yy, zz, yz, xz, xy; without it and mean_strain: none"),
        "mean_strain": Key("float*6", None, doc="that the box is held at, from the stress-free lattice of the mean φ"),
        "high_c11": Key("float", None, above=0, doc="of the phase of high φ; c11, … are then those of low φ"),
        "high_c12": Key("float", None, doc="of the phase of high φ"),
        "high_c44": Key("float", None, above=0, doc="of the phase of high φ"),
        "high_constants": Key("float*", None, doc="C (6, 6) of the phase of high φ"),
        "between": Key("float*2", None, doc="the two φ of the constants; default: the outermost minima of the well"),
        "interpolation": Key(
            "str",
            None,
            choices=("smooth", "linear"),
            doc="of constants: u³ (10 - 15 u + 6 u²) from one φ to the other (default), or linear in φ everywhere",
        ),
        "tolerance": Key(
            "float", None, above=0, high=0.1, doc="of strains, relative to those of misfit and load; default 1e-6"
        ),
    },
    doc="Coherent elasticity, of one set of constants or of two phases; without this table there is none.",
    check=_check_elasticity,
)

NOISE = Table(
    "noise",
    {
        "temperature": Key(
            "float",
            0.0,
            low=0,
            doc="kT of thermal noise (Cook's), for which a phase fluctuates by S(q) = kT/(g'' + εq² + Y)",
        ),
        "amplitude": Key(
            "float", 0.0, low=0, doc="standard deviation of white noise added to φ at each step, whatever its length"
        ),
    },
    doc="Gaussian noise in every step, which leaves a conserved mean as it is; without this table there is none.",
)

SOLVER = Table(
    "solver",
    {
        "method": Key(
            "str",
            "spectral",
            choices=("spectral", "finite-difference", "petsc"),
            doc="spectral: semi-implicit in Fourier space; finite-difference: explicit, for short time steps; petsc: implicit "
            "finite differences for long ones, double precision",
        ),
        "order": Key(
            "int",
            None,
            low=1,
            high=2,
            doc="of time steps; default: 2 where a stage has a tolerance, which needs it, else 1; not for petsc, whose is 2",
        ),
        "boundaries": Key(
            "str|str*",
            "periodic",
            choices=("periodic", "no-flux"),
            doc="one for all axes or one for each; no-flux: walls, not for the spectral method",
        ),
    },
    doc="How the equation is solved.",
)

PART = ("within", "axis", "outside")
"""Keys of noise in a part of the box."""
KINDS = {
    "uniform": (initial.UniformNoise, ("mean", "amplitude", *PART)),
    "gaussian": (initial.GaussianNoise, ("mean", "amplitude", "correlation", *PART)),
    "perlin": (initial.Perlin, ("mean", "amplitude", "cells", "octaves", "persistence", *PART)),
    "spheres": (initial.Spheres, ("centres", "radii", "width", "inside", "outside")),
    "layers": (initial.Layers, ("axis", "count", "fraction", "centre", "width", "inside", "outside")),
    "pfhub": (initial.PFHub, ("mean", "amplitude", "offset")),
    "file": (initial.Given, ("file", "dataset", "frame")),
    "mesh": (Mesh, ("file", "scale", "size", "position", "samples", "inside", "outside")),
}
"""kind of initial field -> (class, keys that it takes)"""


def _check_initial(v, error):
    taken = KINDS[v["kind"]][1]
    for key, value in v.items():
        if value is not None and key not in ("kind", "exact_mean", *taken):
            raise error(key, f"has no effect with kind = '{v['kind']}'")
    if v["exact_mean"] is not None and "mean" in taken and v["mean"] is not None:
        raise error("exact_mean", "give either mean or exact_mean")
    if v["within"] is None and "within" in taken:
        for key in PART[1:]:
            if v[key] is not None:
                raise error(key, "has no effect without within")
    for key in {"spheres": ("centres", "radii"), "file": ("file",), "mesh": ("file",)}.get(v["kind"], ()):
        if v[key] is None:
            raise error(key, f"is required for kind = '{v['kind']}'")


INITIAL = Table(
    "initial",
    {
        "kind": Key("str", choices=tuple(KINDS), doc="what the field is at the start"),
        "mean": Key("float", None, doc="of noise; default 0.5"),
        "exact_mean": Key("float", None, doc="a constant is added, so that the mean over the grid is this"),
        "amplitude": Key("float", None, doc="of noise; default 0.1 (pfhub: 0.01)"),
        "correlation": Key("float", None, low=0, doc="length of gaussian noise; default 0: white"),
        "cells": Key("int", None, low=1, doc="of the first octave of perlin noise along each axis; default 8"),
        "octaves": Key("int", None, low=1, doc="of perlin noise; default 1"),
        "persistence": Key(
            "float", None, above=0, doc="amplitude of an octave over that of the one before; default 0.5"
        ),
        "centres": Key("float*", None, doc="of spheres, one after another"),
        "radii": Key("float|float*", None, above=0, doc="of spheres, one for all or one for each"),
        "within": Key(
            "float*2", None, doc="shares of the box along an axis that noise is confined between; default: everywhere"
        ),
        "axis": Key("int", None, low=0, high=2, doc="that layers lie across, or that `within` belongs to; default 0"),
        "count": Key("int", None, low=1, doc="layers; default 1"),
        "fraction": Key("float", None, above=0, high=1, doc="of the box that layers fill; default 0.5"),
        "centre": Key("float", None, doc="of the first layer, as a share of the box; default 0.5"),
        "width": Key("float", None, low=0, doc="of interfaces of spheres and layers; default ε of the model"),
        "inside": Key("float", None, doc="value in spheres, layers and meshes; default 1"),
        "outside": Key("float", None, doc="value elsewhere; default 0, of noise its mean"),
        "offset": Key("float", None, doc="of PFHub's points from multiples of the spacing; default 0"),
        "scale": Key("float", None, above=0, doc="of a mesh: lengths of the grid over those of the file; default 1"),
        "size": Key("float", None, above=0, doc="of a mesh instead of its scale: its longest extent in the grid"),
        "position": Key("float*3", None, doc="of the middle of a mesh's bounding box; default: the middle of the box"),
        "samples": Key(
            "int",
            None,
            low=1,
            doc="lines of a cell, along each of two axes, that tell how much of it lies in a mesh; default 2",
        ),
        "file": Key(
            "path",
            None,
            doc="fields.h5 of a run, another HDF5 file or .npy, of the grid's shape; a closed mesh in STL or OBJ",
        ),
        "dataset": Key("str", None, doc="of the file; default: the first field, or the only dataset"),
        "frame": Key("int", None, doc="of fields.h5; default: the last"),
    },
    doc="The field at the start: the same on any number of ranks.",
    required=True,
    check=_check_initial,
)

PARALLEL = Table(
    "parallel",
    {
        "grid": Key(
            "int*2", None, low=1, doc="parts of the first and the second axis; default: slabs while they suffice"
        ),
        "threads": Key("int", None, low=1, doc="threads per rank; default 1, or OMP_NUM_THREADS"),
    },
    doc="Decomposition.",
)


def _check_stage(v, error):
    if (v["steps"] is None) == (v["time"] is None):
        raise error("", "give either steps or time")
    if v["tolerance"] is None:
        if v["timestep"] is None:
            raise error("timestep", "is required without a tolerance")
        for key in ("shortest", "longest"):
            if v[key] is not None:
                raise error(key, "has no effect without a tolerance")
        return
    if v["time"] is None:
        raise error("time", "is required with a tolerance, and steps are not known then")
    for short, long in (("shortest", "longest"), ("shortest", "timestep"), ("timestep", "longest")):
        if v[short] is not None and v[long] is not None and v[short] > v[long]:
            raise error(long, f"must not be below {short} ({v[short]:g}), got {v[long]:g}")


STAGE = Table(
    "stage",
    {
        "name": Key("str", None, doc="shown in the log"),
        "timestep": Key(
            "float", None, above=0, doc="dt; with a tolerance that of the first step, by default found from the model"
        ),
        "steps": Key("int", None, low=1, doc="number of steps"),
        "time": Key(
            "float", None, above=0, doc="length instead of steps; the number of steps of one length is rounded"
        ),
        "tolerance": Key(
            "float",
            None,
            above=0,
            high=1,
            doc="steps as long as their errors are this share of what φ moves; 0.003 is good",
        ),
        "shortest": Key(
            "float", None, above=0, doc="step that a tolerance takes; only what ends at a given time is shorter"
        ),
        "longest": Key("float", None, above=0, doc="step that a tolerance takes"),
    },
    doc="One stage of the run; they follow one another.",
    many=True,
    required=True,
    check=_check_stage,
)

SERIES = series_table(10, "Energies, mean, lowest and highest φ")


def _check_scheduled(v, error, table):
    """A table that says what, but not when, would do nothing."""
    if not schedule.Schedule(v):
        for name, key in table.keys.items():
            if v[name] != key.default:
                raise error(name, "has no effect without every, interval, times or first")


def _check_fields(v, error):
    schedule.check(v, error)
    if not v["names"] or len(set(v["names"])) != len(v["names"]):
        raise error("names", "must be different names, one or more")
    _check_scheduled(v, error, FIELDS)


FIELDS = Table(
    "fields",
    {
        **schedule.keys("frames"),
        "names": Key(
            "str*", ["phi"], choices=quantities.NAMES, doc="what a frame holds; all but phi need [elasticity]"
        ),
        "precision": Key("str", "single", choices=("single", "double"), doc="of the numbers in the file"),
        "compression": Key(
            "str", "none", choices=("none", "gzip"), doc="without loss: smaller files, which take longer to write"
        ),
    },
    doc="Fields over time, in HDF5 with XDMF. A frame at the start and one at the end, and when the keys say.",
    check=_check_fields,
)


def _check_analysis(v, error):
    schedule.check(v, error)
    _check_scheduled(v, error, ANALYSIS)


ANALYSIS = Table(
    "analysis",
    {
        **schedule.keys("analyses"),
        "domains": Key("bool", True, doc="count domains, too"),
        "modes": Key(
            "int*", None, doc="wave vectors, one after another, in units of 2π/L: their amplitudes and growth rates"
        ),
        "roughness": Key("bool", False, doc="the fractal dimension of the boundary, too"),
        "isotropy": Key("bool", False, doc="the isotropy of a field of two dimensions, too"),
        "level": Key("float", None, doc="φ of the interface; default: the middle of the well's outermost minima"),
    },
    doc="Characteristic lengths, interfaces, topology and domains on the fly, in the time series.",
    check=_check_analysis,
)

LOG = Table("log", {"every": Key("int", 100, low=1, doc="steps between lines of the log")}, doc="The log.")

LIMITS = Table(
    "limits",
    {
        "every": Key("int", 100, low=1, doc="steps between tests (each row of the series is one, too)"),
        "field": Key("float", 100.0, above=0, doc="the run is given up where |φ| is larger, or not finite"),
    },
    doc="When to give up.",
)

TABLES = [
    JOB,
    GRID,
    MODEL,
    ELASTICITY,
    NOISE,
    SOLVER,
    INITIAL,
    PARALLEL,
    STAGE,
    SERIES,
    FIELDS,
    ANALYSIS,
    CHECKPOINT,
    LOG,
    LIMITS,
]


def page() -> str:
    """docs/phasefield-run-file.md."""
    return f"""# The run file of the phase field: all tables and keys

Made from the declarations that every run file is checked against (`python -m ostwald.app.jobs.phasefield_schema >
docs/phasefield-run-file.md`). How they go together: [phase field](phasefield.md). An empty default means: not given, or what the meaning
says. Paths are relative to the run file. Durations: `"90s"`, `"2h30m"`, `"02:00:00"`.

{reference(TABLES)}"""


if __name__ == "__main__":  # python -m ostwald.app.jobs.phasefield_schema writes docs/phasefield-run-file.md
    print(page())
