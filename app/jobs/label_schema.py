"""The run file of a labelling job: tables, keys, units, ranges."""

from ostwald.app.jobs.md_schema import JOB as MD_JOB
from ostwald.app.jobs.md_schema import PARALLEL as MD_PARALLEL
from ostwald.app.jobs.md_schema import POTENTIAL, STRUCTURE
from ostwald.app.runfile import Key, Table, reference
from ostwald.app.training.generate import MODES

JOB = Table(
    "job",
    {**MD_JOB.keys, "kind": Key("str", choices=("label",), doc="job kind")},
    doc="What to run.",
    required=True,
)


def _check_teacher(v, error):
    if (v["file"] is None) == (v["calculator"] is None):
        raise error("", "give either file (a potential) or calculator (of ASE)")
    for given, lacking in (("length_unit", "energy_unit"), ("energy_unit", "length_unit")):
        if v[given] is not None and v[lacking] is None:
            raise error(given, f"needs {lacking} too")
    for key in ("length_unit", "energy_unit"):
        if v[key] is not None and v["calculator"]:
            raise error(key, "has no effect on a calculator")


_SOURCE = {
    **POTENTIAL.keys,
    "file": Key(
        "str|str*", None, doc="potential file or directory, or a built-in one such as zhou:Al; several: their mean"
    ),
    "calculator": Key(
        "str", None, doc="ASE calculator: MODULE:NAME or FILE.py:NAME, which is called without arguments and returns it"
    ),
}
TEACHER = Table("teacher", _SOURCE, doc="What labels the structures.", required=True, check=_check_teacher)


def _check_driver(v, error):
    if v["file"] is not None or v["calculator"] is not None:
        _check_teacher(v, error)


DRIVER = Table(
    "driver", _SOURCE, doc="What moves the atoms of snapshots and packings; default: the teacher.", check=_check_driver
)

_START = ("file", "lattice", "a", "c", "cells", "species", "composition", "vacancies", "volume")
KINDS = {
    "given": ("file", "cells", "volume"),
    "rattled": (*_START, "count", "rattle", "strain"),
    "strained": (*_START, "count", "strain", "modes"),
    "snapshots": (*_START, "count", "snapshots", "temperature", "time", "timestep", "damping", "melt", "melt_time"),
    "dimers": ("species", "count", "distances", "box"),
    "packing": ("species", "composition", "count", "atoms", "per_atom", "gap", "strain", "relax"),
}
_NEEDED = {
    "given": ("file",),
    "rattled": ("count",),
    "strained": ("count", "strain"),
    "snapshots": ("count", "snapshots", "temperature", "time"),
    "dimers": ("species", "count", "distances"),
    "packing": ("species", "count", "atoms", "per_atom", "gap"),
}


def _check_set(v, error):
    kind, taken = v["kind"], KINDS[v["kind"]]
    for key in _NEEDED[kind]:
        if v[key] is None or (key == "strain" and not v[key]):
            raise error(key, f"is required for kind = '{kind}'")
    for key, declared in SET.keys.items():
        if key not in ("name", "kind", *taken) and v[key] != declared.default:
            raise error(key, f"has no effect with kind = '{kind}'")
    if "lattice" in taken:
        if (v["file"] is None) == (v["lattice"] is None):
            raise error("", "give either file or lattice")
        for key in ("a", "species"):
            if v["lattice"] is not None and v[key] is None:
                raise error(key, "is required with a lattice")
        for key in ("a", "c", "species", "composition"):
            if v["file"] is not None and v[key] is not None:
                raise error(key, "belongs to a lattice, not to a file")
        if v["file"] is not None and v["vacancies"]:
            raise error("vacancies", "belongs to a lattice, not to a file")
    for key in ("volume", "distances", "per_atom"):
        if v[key] is not None and not v[key][0] <= v[key][1]:
            raise error(key, f"is a range, [smallest, largest], got {v[key]}")
    if (v["melt"] is None) != (v["melt_time"] == 0):
        raise error("melt", "needs melt_time (ps), and melt_time needs melt")
    if kind == "packing" and v["composition"] and set(v["composition"]) != set(v["species"]):
        raise error("composition", f"must be of the species {', '.join(v['species'])}")
    if v["composition"] and abs(sum(v["composition"].values()) - 1) > 1e-9:
        raise error("composition", f"must sum to 1, not to {sum(v['composition'].values()):g}")


SET = Table(
    "set",
    {
        "name": Key("str", doc="group of its structures in the data set"),
        "kind": Key("str", choices=tuple(KINDS), doc="how the structures are made"),
        "file": Key("path", None, doc="structures to begin from, in any format that is read, one after another"),
        **{key: STRUCTURE.keys[key] for key in ("lattice", "a", "c", "cells", "species", "composition", "vacancies")},
        "volume": Key(
            "float*2", [1.0, 1.0], above=0, doc="range of the factor of the volume, drawn for each structure"
        ),
        "count": Key(
            "int",
            None,
            low=1,
            doc="structures; of snapshots: trajectories; of strained: for each mode; of dimers: for each pair",
        ),
        "rattle": Key(
            "float", 0.0, unit="Å", low=0, doc="largest standard deviation of the displacements; drawn below it"
        ),
        "strain": Key("float", 0.0, low=0, high=0.5, doc="largest component of the strain"),
        "modes": Key("str*", ["isotropic"], choices=tuple(MODES), doc="components that are strained in even steps"),
        "snapshots": Key("int", None, low=1, doc="structures of a trajectory, evenly in time"),
        "temperature": Key(
            "number|ramp", None, unit="K", low=0, doc="of the trajectory; two numbers: a quench or heating"
        ),
        "time": Key("float", None, unit="ps", above=0, doc="length of the trajectory"),
        "timestep": Key("float", 0.002, unit="ps", above=0, doc="of the trajectory"),
        "damping": Key("float", 0.1, unit="ps", above=0, doc="time constant of the Langevin thermostat"),
        "melt": Key("float", None, unit="K", above=0, doc="temperature before the trajectory, to melt"),
        "melt_time": Key("float", 0.0, unit="ps", low=0, doc="how long that lasts"),
        "distances": Key("float*2", None, unit="Å", above=0, doc="smallest and largest distance of dimers"),
        "box": Key(
            "float", None, unit="Å", above=0, doc="edge of a periodic cube around a dimer; default: not periodic"
        ),
        "atoms": Key("int", None, low=1, doc="atoms of a packing"),
        "per_atom": Key("float*2", None, unit="Å³", above=0, doc="range of the volume of a packing, per atom"),
        "gap": Key("float", None, unit="Å", above=0, doc="smallest distance in a packing"),
        "relax": Key("int", 0, low=0, doc="steps of relaxation of a packing with the driver"),
    },
    doc="Structures of one kind.",
    many=True,
    required=True,
    check=_check_set,
)

KEEP = Table(
    "keep",
    {
        "force": Key("float", None, unit="eV/Å", above=0, doc="structures with a larger force are left out"),
        "distance": Key(
            "float",
            None,
            unit="Å",
            above=0,
            doc="structures with a smaller distance are left out, before they are labelled",
        ),
    },
    doc="What does not get into the data set.",
)

PARALLEL = Table("parallel", {"threads": MD_PARALLEL.keys["threads"]}, doc="Threads of the project's potentials.")

TABLES = [JOB, TEACHER, DRIVER, SET, KEEP, PARALLEL]


def page() -> str:
    """docs/label-run-file.md."""
    return f"""# The run file of a labelling job: all tables and keys

Made from the declarations that every run file is checked against (`python -m ostwald.app.jobs.label_schema >
docs/label-run-file.md`). How they go together: [labelling](labelling.md). An empty default means: not given, or what the meaning
says. Paths are relative to the run file.

{reference(TABLES)}"""


if __name__ == "__main__":  # python -m ostwald.app.jobs.label_schema writes docs/label-run-file.md
    print(page())
