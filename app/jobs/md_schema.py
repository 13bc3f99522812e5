"""The run file of a molecular-dynamics job: tables, keys, units, ranges."""

from ostwald.app.analysis.inherent import FORCE, ITERATIONS
from ostwald.app.analysis.structure import METALS, METHODS, SOLID, TEMPLATES
from ostwald.app.atoms.build import LATTICES
from ostwald.app.jobs.observer import check_field
from ostwald.app.runfile import Key, Table, reference

ENSEMBLES = ("nve", "nvt", "npt", "nph", "minimise")

JOB = Table(
    "job",
    {
        "kind": Key("str", choices=("md",), doc="job kind"),
        "title": Key("str", None, doc="shown in the log and the report"),
        "directory": Key(
            "path", None, doc="run directory, relative to the run file; default runs/<name of the run file>"
        ),
        "seed": Key("int", 1, doc="seed of every random stream", low=0, high=2**31 - 1),
        "walltime": Key("duration", None, doc="stop with a checkpoint before this much wall time has passed"),
    },
    doc="What to run.",
    required=True,
)


def _check_structure(v, error):
    if (v["file"] is None) == (v["lattice"] is None):
        raise error("", "give either file or lattice")
    if v["lattice"] is not None:
        if v["a"] is None:
            raise error("a", "is required with a lattice (lattice parameter in Å)")
        if v["species"] is None:
            raise error("species", "is required with a lattice")
    else:
        for key in ("a", "c", "composition"):
            if v[key] is not None and key != "composition":
                raise error(key, "belongs to a lattice, not to a file")


STRUCTURE = Table(
    "structure",
    {
        "file": Key("path", None, doc="any file ASE reads, LAMMPS data, extxyz"),
        "lattice": Key(
            "str",
            None,
            doc="lattice to build",
            choices=tuple(LATTICES),
        ),
        "a": Key("float", None, unit="Å", above=0, doc="lattice parameter"),
        "c": Key("float", None, unit="Å", above=0, doc="second lattice parameter (hcp, wurtzite, L1₀)"),
        "cells": Key("int*3", [1, 1, 1], low=1, doc="conventional cells along each axis (repeats of a file's cell)"),
        "species": Key("str*", None, doc="elements of the lattice sites, in order; for a file: the order of types"),
        "composition": Key("table", None, low=0, doc="random substitution, e.g. { Ni = 0.5, Al = 0.5 }"),
        "vacancies": Key("float", 0.0, low=0, high=0.99, doc="fraction of sites left empty at random"),
        "rattle": Key("float", 0.0, unit="Å", low=0, doc="Gaussian displacement of every coordinate"),
        "periodic": Key("bool*3", None, doc="default: all periodic, or what the file says"),
        "vacuum": Key("float*3", [0.0, 0.0, 0.0], unit="Å", low=0, doc="empty space added along each axis"),
        "masses": Key(
            "table", None, unit="amu", above=0, doc="masses by element; default: the potential's, else standard"
        ),
    },
    doc="The atoms to start from.",
    required=True,
    check=_check_structure,
)


def _check_seed(v, error):
    if all(v[key] is None for key in ("radius", "lattice", "a", "species")):
        return
    if v["radius"] is None:
        raise error("radius", "is required (Å)")
    for key in ("lattice", "a", "species"):
        if v[key] is None:
            raise error(key, "is required")


SEED = Table(
    "seed",
    {
        "radius": Key("float", None, unit="Å", above=0, doc="radius of the sphere that is cut out and filled"),
        "lattice": Key("str", None, choices=tuple(LATTICES), doc="crystal of the seed"),
        "a": Key("float", None, unit="Å", above=0, doc="its lattice parameter"),
        "c": Key("float", None, unit="Å", above=0, doc="its second lattice parameter"),
        "species": Key("str*", None, doc="elements of its sites"),
        "centre": Key("float*3", [0.5, 0.5, 0.5], doc="in fractional coordinates"),
        "gap": Key("float", 1.5, unit="Å", low=0, doc="atoms of the melt nearer than this to the sphere are removed"),
    },
    doc="A crystalline sphere embedded in the structure; its atoms form the group 'seed'.",
    check=_check_seed,
)


def _check_potential(v, error):
    for given, lacking in (("length_unit", "energy_unit"), ("energy_unit", "length_unit")):
        if v[given] is not None and v[lacking] is None:
            raise error(given, f"needs {lacking} too")


POTENTIAL = Table(
    "potential",
    {
        "file": Key(
            "str|str*",
            doc="potential file or directory, or a built-in one such as zhou:Al; several of one kind: their mean",
        ),
        "precision": Key("str", "double", choices=("double", "mixed"), doc="arithmetic of the force kernels"),
        "length_unit": Key(
            "str",
            None,
            doc="of files that do not say it (neural networks): angstrom, bohr, nm; default: as they say, else Å",
        ),
        "energy_unit": Key(
            "str", None, doc="the same: eV, Hartree, rydberg, kcal/mol, kJ/mol; default: as they say, else eV"
        ),
    },
    doc="The interatomic potential.",
    required=True,
    check=_check_potential,
)

NEIGHBOURS = Table(
    "neighbours",
    {
        "skin": Key("float", 1.0, unit="Å", low=0, high=10, doc="distance beyond the cutoff kept in the lists"),
        "check_every": Key("int", 1, low=1, doc="steps between tests whether atoms outran the skin"),
        "delay": Key("int", 0, low=0, doc="steps after a build before the first test"),
    },
    doc="Neighbour lists.",
)

PARALLEL = Table(
    "parallel",
    {
        "grid": Key("int*3", None, low=1, doc="ranks along each axis; default: least surface"),
        "balance": Key(
            "str",
            "static",
            choices=("none", "static", "dynamic"),
            doc="move brick boundaries: never, to equal atom counts at the start, or by measured cost as the run goes "
            "(dynamic gives up bitwise reproducibility)",
        ),
        "threads": Key("int", None, low=1, doc="threads per rank; default 1, or OMP_NUM_THREADS"),
    },
    doc="Decomposition.",
)


def _check_group(v, error):
    shapes = [k for k in ("sphere", "block", "species", "cylinder") if v[k] is not None]
    if len(shapes) != 1:
        raise error("", "give exactly one of sphere, block, cylinder, species")
    if v["cylinder"] is not None and v["cylinder"][0] not in (0, 1, 2):
        raise error("cylinder", f"the axis, its first number, is 0, 1 or 2, not {v['cylinder'][0]:g}")
    for shape in ("sphere", "cylinder"):
        if v[shape] is not None and not v[shape][3] > 0:
            raise error(shape, f"the radius, its last number, must be above 0 Å, got {v[shape][3]:g}")
    if v["species"] == []:
        raise error("species", "names no element")


GROUP = Table(
    "group",
    {
        "name": Key("str", doc="name of the group"),
        "sphere": Key("float*4", None, doc="centre in fractional coordinates (3) and radius in Å"),
        "block": Key("float*6", None, doc="fractional bounds: x_lo, x_hi, y_lo, y_hi, z_lo, z_hi"),
        "cylinder": Key(
            "float*4", None, doc="axis 0, 1 or 2; centre in the two other fractional coordinates; radius in Å"
        ),
        "species": Key("str*", None, doc="all atoms of these elements"),
        "invert": Key("bool", False, doc="all atoms but these"),
    },
    doc="A named set of atoms, fixed at the start of the run.",
    many=True,
    check=_check_group,
)


def _check_stage(v, error):
    ensemble = v["ensemble"]
    if (v["steps"] is None) == (v["time"] is None):
        raise error("", "give either steps or time (ps)")
    if ensemble in ("nvt", "npt") and v["temperature"] is None:
        raise error("temperature", f"is required for {ensemble} (K)")
    if ensemble in ("npt", "nph") and v["pressure"] is None and v["stress"] is None:
        raise error("pressure", f"is required for {ensemble} (GPa), or stress with six components")
    if v["pressure"] is not None and v["stress"] is not None:
        raise error("", "give either pressure or stress, not both")
    if ensemble in ("nve", "nvt") and (v["pressure"] is not None or v["stress"] is not None):
        raise error("pressure", f"has no meaning in {ensemble}; use npt or nph")
    if ensemble in ("nve", "nph") and v["temperature"] is not None:
        raise error("temperature", f"has no meaning in {ensemble}; to start from a temperature set velocities")
    if v["stress"] is not None and v["cell"] == "isotropic":
        raise error("stress", "six components need cell = 'anisotropic' or 'triclinic'")
    if v["steps"] is None and ensemble == "minimise":
        raise error("steps", "is required for minimise (largest number of iterations)")
    _refuse_idle_keys(v, error)


def _refuse_idle_keys(v, error):
    """A key that was changed but would do nothing is a mistake of somebody."""
    ensemble, minimise = v["ensemble"], v["ensemble"] == "minimise"
    chained = ensemble == "npt" or (ensemble == "nvt" and v["thermostat"] == "nose-hoover")
    cell = ensemble in ("npt", "nph") or (minimise and v["relax_cell"])
    works = {
        "thermostat": ensemble == "nvt",
        "thermostat_time": ensemble in ("nvt", "npt"),
        "chain": chained,
        "temperature": not minimise,
        "velocities": not minimise,
        "timestep": not minimise,
        "remove_momentum": not minimise
        and not v["freeze"]
        and not (ensemble == "nvt" and v["thermostat"] == "langevin"),
        "pressure": cell,
        "stress": cell,
        "cell": cell,
        "axes": cell and v["cell"] == "anisotropic",
        "barostat_time": ensemble in ("npt", "nph"),
        **dict.fromkeys(("method", "force_tolerance", "stress_tolerance", "relax_cell"), minimise),
    }
    for name, does in works.items():
        if not does and v[name] != STAGE.keys[name].default:
            raise error(name, f"has no effect in this stage ({ensemble})")
    if v["stress"] is not None and v["cell"] == "anisotropic" and any(v["stress"][3:]):
        raise error("stress", "shear components need cell = 'triclinic'")


STAGE = Table(
    "stage",
    {
        "name": Key("str", None, doc="shown in the log"),
        "ensemble": Key("str", choices=ENSEMBLES, doc="statistical ensemble, or minimise"),
        "steps": Key("int", None, low=0, doc="number of steps"),
        "time": Key("float", None, unit="ps", low=0, doc="length instead of steps"),
        "timestep": Key("float", 0.001, unit="ps", above=0, high=1, doc="time step"),
        "velocities": Key(
            "float", None, unit="K", low=0, doc="draw Maxwell–Boltzmann velocities at the start of the stage"
        ),
        "temperature": Key("number|ramp", None, unit="K", above=0, doc="target, or [start, end] of a linear ramp"),
        "thermostat": Key("str", "nose-hoover", choices=("nose-hoover", "langevin", "bussi"), doc="of nvt"),
        "thermostat_time": Key("float", 0.1, unit="ps", above=0, doc="relaxation time"),
        "chain": Key("int", 3, low=1, high=20, doc="length of the Nosé–Hoover chain"),
        "pressure": Key(
            "number|ramp", None, unit="GPa", doc="target, or [start, end] of a ramp; positive in compression"
        ),
        "stress": Key(
            "float*6", None, unit="GPa", doc="target pressure tensor xx, yy, zz, yz, xz, xy; positive in compression"
        ),
        "cell": Key(
            "str", "isotropic", choices=("isotropic", "anisotropic", "triclinic"), doc="what the barostat may change"
        ),
        "axes": Key("bool*3", [True, True, True], doc="axes that the barostat moves (anisotropic)"),
        "barostat_time": Key("float", 1.0, unit="ps", above=0, doc="relaxation time"),
        "freeze": Key("str*", [], doc="groups that do not move"),
        "remove_momentum": Key(
            "int", 0, low=0, doc="every so many steps; 0: never (the total momentum is conserved anyway)"
        ),
        "method": Key("str", "lbfgs", choices=("lbfgs", "fire"), doc="of minimise"),
        "force_tolerance": Key("float", 1e-4, unit="eV/Å", above=0, doc="of minimise: largest force component"),
        "stress_tolerance": Key("float", 0.01, unit="GPa", above=0, doc="of minimise with a relaxed cell"),
        "relax_cell": Key("bool", False, doc="of minimise: the cell too, to the given pressure (default 0) or stress"),
    },
    doc="One stage of the run; they follow one another.",
    many=True,
    required=True,
    check=_check_stage,
)


def series_table(every: int, what: str) -> Table:
    """[series] of a job whose rows hold `what`."""
    keys = {"every": Key("int", every, low=1, doc="steps between rows of the time series")}
    return Table("series", keys, doc=f"{what} over time, in HDF5 and CSV.")


SERIES = series_table(100, "Scalars")


def _check_trajectory(v, error):
    if v["sphere"] is not None and not v["sphere"][3] > 0:
        raise error("sphere", f"the radius, its last number, must be above 0 Å, got {v['sphere'][3]:g}")
    if v["sphere"] is not None and v["block"] is not None:
        raise error("", "give sphere or block, not both")


TRAJECTORY = Table(
    "trajectory",
    {
        "every": Key("int", 0, low=0, doc="steps between frames; 0: none"),
        "precision": Key("str", "single", choices=("single", "double"), doc="of the numbers in the file"),
        "unwrapped": Key("bool", False, doc="unwrapped positions instead of wrapped ones with image flags"),
        "velocities": Key("bool", False, doc="Å/ps"),
        "forces": Key("bool", False, doc="kJ/(mol Å) in the file, as readers of H5MD expect"),
        "energies": Key("bool", False, doc="energy per atom, eV"),
        "stresses": Key("bool", False, doc="virial per atom, eV: xx, yy, zz, yz, xz, xy"),
        "structure": Key("bool", False, doc="structure label per atom (needs [analysis])"),
        "extrapolation": Key("bool", False, doc="how far each atom is outside the training range, in widths of it"),
        "deviation": Key("bool", False, doc="force deviation of an ensemble per atom, eV/Å"),
        "group": Key("str", None, doc="only the atoms of this group"),
        "select": Key(
            "str",
            None,
            choices=("solid", "largest"),
            doc="in each frame only solid atoms, or those of the largest cluster",
        ),
        "sphere": Key("float*4", None, doc="in each frame only atoms in it: fractional centre (3), radius in Å"),
        "block": Key(
            "float*6", None, doc="in each frame only atoms in it: fractional x_lo, x_hi, y_lo, y_hi, z_lo, z_hi"
        ),
        "compression": Key(
            "int", 0, low=0, high=9, doc="gzip level; 0: none, but 1 where the frames hold selected atoms"
        ),
    },
    doc="H5MD trajectory.",
    check=_check_trajectory,
)

CHECKPOINT = Table(
    "checkpoint",
    {
        "every": Key("int", 0, low=0, doc="steps between checkpoints; 0: by time only"),
        "interval": Key("duration", 1800.0, doc="wall time between checkpoints"),
    },
    doc="Checkpoints are also written at the end, on SIGTERM and SIGUSR1, and before the wall-time limit.",
)


def _check_analysis(v, error):
    if v["threshold"] is not None and METHODS[v["method"]].threshold is None and v["threshold"] != SOLID:
        raise error("threshold", f"has no effect with method = '{v['method']}'")
    if v["templates"] != list(METALS) and v["method"] != "ptm":
        raise error("templates", f"has no effect with method = '{v['method']}'")
    if v["cutoff"] is not None and v["method"] in ("ptm", "diamond") and "coordination" not in v["fields"]:
        raise error("cutoff", f"has no effect with method = '{v['method']}', but for the field 'coordination'")
    if v["cutoff"] is None and "coordination" in v["fields"]:
        raise error("fields", "'coordination' needs a cutoff (Å)")
    if not v["templates"]:
        raise error("templates", "names no template")
    needs = {
        "cluster_cutoff": ("clusters", v["clusters"]),
        "smallest": ("clusters", v["clusters"]),
        "core": ("clusters", v["clusters"]),
        "nuclei": ("clusters", v["clusters"]),
        "nuclei_from": ("nuclei", v["nuclei"]),
        "inherent_force": ("inherent", v["inherent"]),
        "inherent_iterations": ("inherent", v["inherent"]),
    }
    for name, (other, there) in needs.items():
        if v[name] != ANALYSIS.keys[name].default and not there:
            raise error(name, f"has no effect without {other} = true")
    for name, other in (("cluster", "clusters"), ("nucleus", "nuclei")):
        if name in v["fields"] and not v[other]:
            raise error("fields", f"'{name}' needs {other} = true")
    for name in v["fields"]:
        try:
            check_field(name)
        except ValueError as problem:
            raise error("fields", str(problem)) from None


ANALYSIS = Table(
    "analysis",
    {
        "every": Key("int", 0, low=0, doc="steps between analyses; 0: none"),
        "method": Key(
            "str", "q6", choices=tuple(METHODS), doc="what decides that an atom is solid; cna misses hot crystals"
        ),
        "threshold": Key(
            "float",
            None,
            low=0,
            doc="above which an atom is solid: q̄₆ (default 0.33), bonds (7); for ptm the largest RMSD (0.12)",
        ),
        "templates": Key("str*", list(METALS), choices=TEMPLATES, doc="what ptm looks for"),
        "cutoff": Key(
            "float", None, unit="Å", above=0, doc="of conventional CNA instead of adaptive; of the field coordination"
        ),
        "fields": Key("str*", [], doc="numbers of each atom that the trajectory records, such as q4, q6, cluster"),
        "clusters": Key("bool", False, doc="clusters of solid atoms: their number and the largest"),
        "cluster_cutoff": Key(
            "float",
            None,
            unit="Å",
            above=0,
            doc="solid atoms nearer than this are of one cluster; default: 1.355 (volume of an atom)^⅓",
        ),
        "smallest": Key("int", 20, low=1, doc="clusters of fewer atoms are neither counted nor followed"),
        "core": Key("int", 0, low=0, doc="only atoms with at least so many solid neighbours belong to clusters"),
        "nuclei": Key("bool", False, doc="follow the clusters in time: birth, merging, dissolution; nuclei.h5"),
        "nuclei_from": Key("str", None, doc="name of the stage from which on they are followed; default: the last"),
        "inherent": Key("bool", False, doc="classify a minimised copy of the atoms, their inherent structure"),
        "inherent_force": Key("float", FORCE, unit="eV/Å", above=0, doc="largest force at which the copy is at rest"),
        "inherent_iterations": Key("int", ITERATIONS, low=1, doc="of the minimisation, at most"),
    },
    doc="Structure of the atoms on the fly: solid fraction, crystal structures, clusters, nuclei.",
    check=_check_analysis,
)

LIMITED = {
    "largest_cluster": Key("int", None, low=1, doc="atoms of the largest cluster (needs [analysis] clusters)"),
    "solid_fraction": Key("float", None, above=0, high=1, doc="fraction of solid atoms (needs [analysis])"),
    "from": Key("str", None, doc="name of the stage from which on this is tested; default: the last"),
}

STOP = Table(
    "stop",
    LIMITED,
    doc="The run ends, with a checkpoint and status 0, at the first analysis that finds one of these reached.",
)


def _check_trigger(v, error):
    rates = ("series_every", "trajectory_every", "analysis_every")
    limits = [name for name in ("largest_cluster", "solid_fraction") if v[name] is not None]
    if not limits and any(value is not None for value in v.values()):
        raise error("", "give largest_cluster or solid_fraction")
    if limits and all(v[name] is None for name in rates):
        raise error("", f"give at least one of {', '.join(rates)}")


TRIGGER = Table(
    "trigger",
    {
        **LIMITED,
        "series_every": Key("int", None, low=1, doc="steps between rows of the time series from then on"),
        "trajectory_every": Key("int", None, low=1, doc="steps between frames from then on"),
        "analysis_every": Key("int", None, low=1, doc="steps between analyses from then on"),
    },
    doc="The first analysis that finds one of the limits reached switches to other output rates, once and for all.",
    check=_check_trigger,
)


def _limits(unit, of, warn):
    """Keys that both kinds of doubt about the potential have."""
    return {
        "every": Key("int", None, low=0, doc=f"steps between looks; 0: never; default 100 where the potential {of}"),
        "warn": Key("float", warn, unit=unit, low=0, doc="told in the log where it is above this"),
        "dump": Key("float", None, unit=unit, low=0, doc="the configuration is written where it is above this"),
        "stop": Key("float", None, unit=unit, low=0, doc="the run ends, with a checkpoint, where it is above this"),
        "dump_limit": Key("int", 20, low=1, doc="configurations kept: the worst"),
        "dump_every": Key("int", 100, low=1, doc="least steps between two of them, but for one twice as bad"),
        "dump_radius": Key(
            "float", None, unit="Å", above=0, doc="of what is written of a large system; default: twice the cutoff"
        ),
    }


EXTRAPOLATION = Table(
    "extrapolation",
    _limits("", "has a training range", 0.0),
    doc="Atoms outside the training range: the distance over the width of the range (0: any) of the worst function.",
)

DEVIATION = Table(
    "deviation",
    _limits("eV/Å", "is an ensemble", None),
    doc="Atoms on whose force the members of an ensemble disagree: sqrt of the mean of |F - ⟨F⟩|² over the members.",
)

LOG = Table("log", {"every": Key("int", 1000, low=1, doc="steps between lines of the log")}, doc="The log.")

LIMITS = Table(
    "limits",
    {
        "every": Key("int", 100, low=1, doc="steps between tests for lost atoms, NaN, and exploding temperature"),
        "temperature": Key("float", 1e5, unit="K", above=0, doc="stop when hotter than this"),
    },
    doc="When to give up.",
)

TABLES = [
    JOB,
    STRUCTURE,
    SEED,
    POTENTIAL,
    NEIGHBOURS,
    PARALLEL,
    GROUP,
    STAGE,
    SERIES,
    TRAJECTORY,
    CHECKPOINT,
    ANALYSIS,
    STOP,
    TRIGGER,
    EXTRAPOLATION,
    DEVIATION,
    LOG,
    LIMITS,
]


def page() -> str:
    """docs/run-file.md."""
    return f"""# The run file of molecular dynamics: all tables and keys

Made from the declarations that every run file is checked against (`python -m ostwald.app.jobs.md_schema > docs/run-file.md`). How they
go together: [molecular dynamics](molecular-dynamics.md). An empty default means: not given, or what the meaning says. Paths are relative to
the run file. Durations: `"90s"`, `"2h30m"`, `"02:00:00"`.

{reference(TABLES)}"""


if __name__ == "__main__":  # python -m ostwald.app.jobs.md_schema writes docs/run-file.md
    print(page())
