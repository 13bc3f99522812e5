"""The run file of a roll-out: a phase-field run whose steps a trained network makes."""

from ostwald.app.jobs import phasefield_schema as phasefield
from ostwald.app.jobs.md_schema import CHECKPOINT
from ostwald.app.runfile import Key, Table, reference
from ostwald.app.surrogate.inference import PRECISIONS

JOB = Table(
    "job",
    {**phasefield.JOB.keys, "kind": Key("str", choices=("rollout",), doc="job kind")},
    doc="What to run.",
    required=True,
)

SURROGATE = Table(
    "surrogate",
    {
        "file": Key("path", doc="model file of a surrogate"),
        "precision": Key(
            "str",
            "float32",
            choices=PRECISIONS,
            doc="of convolutions; φ is in double precision always, hidden states in single (double with double)",
        ),
        "parameters": Key(
            "table", None, doc="what the network is given, by the names in its file, such as { misfit = 0.006 }"
        ),
    },
    doc="The network. It brings the length of its step and the spacing of its grid.",
    required=True,
)


def _check_grid(v, error):
    phasefield.GRID.check(v | dict(spacing=1.0 if v["spacing"] is None else v["spacing"]), error)


GRID = Table(
    "grid",
    {
        "shape": Key("int*", low=1, doc="points of the network's grid along each axis, any number"),
        "spacing": Key("float|float*", None, above=0, doc="of points; default: the network's, no other fits"),
    },
    doc="The box.",
    required=True,
    check=_check_grid,
)

MODEL = Table(
    "model",
    {name: key for name, key in phasefield.MODEL.keys.items() if name not in phasefield.MOTION},
    doc="The free energy that is measured: ∫ g(φ) + ε/2 |∇φ|² dx with differences between neighbouring points of this grid.",
    required=True,
    check=phasefield.check_well,
)


def _check_stage(v, error):
    if (v["steps"] is None) == (v["time"] is None):
        raise error("", "give either steps or time")


STAGE = Table(
    "stage",
    {
        **{name: phasefield.STAGE.keys[name] for name in ("name", "steps", "time")},
        "timestep": Key("float", None, above=0, doc="default: the network's, no other fits"),
    },
    doc="One stage of the run; they follow one another.",
    many=True,
    required=True,
    check=_check_stage,
)

TABLES = [
    JOB,
    SURROGATE,
    GRID,
    MODEL,
    phasefield.INITIAL,
    phasefield.PARALLEL,
    STAGE,
    phasefield.SERIES,
    phasefield.FIELDS,
    phasefield.ANALYSIS,
    CHECKPOINT,
    phasefield.LOG,
    phasefield.LIMITS,
]


def page() -> str:
    """docs/rollout-run-file.md."""
    return f"""# The run file of a roll-out: all tables and keys

Made from the declarations that every run file is checked against (`python -m ostwald.app.jobs.rollout_schema >
docs/rollout-run-file.md`). How they go together: [roll-outs](rollout.md). An empty default means: not given, or what the meaning
says.

{reference(TABLES)}""".rstrip()


if __name__ == "__main__":
    print(page())
