"""The run file of an evaluation: the models that predict, and the protocols that tell what."""

from ostwald.app.jobs import phasefield_schema as phasefield
from ostwald.app.jobs.md_schema import JOB as MD_JOB
from ostwald.app.runfile import Key, Table, reference
from ostwald.app.surrogate.inference import PRECISIONS

KIND = "evaluate-surrogate"
JOB = Table(
    "job",
    {name: key for name, key in MD_JOB.keys.items() if name != "seed"}
    | {"kind": Key("str", choices=(KIND,), doc="job kind")},
    doc="What to run.",
    required=True,
)

MODELS = {
    "surrogate": ("file", "precision"),
    "solver": ("method", "order", "timestep", "tolerance", "longest", "coarsening", "noise"),
    "persistence": (),
    "linear": (),
}
"""kind of model -> keys that it takes"""


def _check_model(v, error):
    for key, value in v.items():
        if value is not None and key not in ("name", "kind", *MODELS[v["kind"]]):
            raise error(key, f"has no effect with kind = '{v['kind']}'")
    if v["kind"] == "surrogate" and v["file"] is None:
        raise error("file", "is required for kind = 'surrogate'")
    if v["tolerance"] is None and v["longest"] is not None:
        raise error("longest", "has no effect without a tolerance")


MODEL = Table(
    "model",
    {
        "name": Key("str", None, doc="in tables and plots; default: that of the file, or the kind"),
        "kind": Key(
            "str",
            "surrogate",
            choices=tuple(MODELS),
            doc="surrogate: a trained network; solver: the truth's own, or a cheaper or noisier one; persistence: the field stays as it is; "
            "linear: waves grow by themselves",
        ),
        "file": Key("path", None, doc="model file of a surrogate"),
        "precision": Key("str", None, choices=PRECISIONS, doc="of a surrogate's convolutions; default float32"),
        "method": Key("str", None, choices=phasefield.SOLVER.keys["method"].choices, doc="default: the truth's"),
        "order": Key("int", None, low=1, high=2, doc="of time steps; default: the truth's"),
        "timestep": Key("float", None, above=0, doc="default: the truth's"),
        "tolerance": Key("float", None, above=0, high=1, doc="instead of a timestep"),
        "longest": Key("float", None, above=0, doc="step that a tolerance takes"),
        "coarsening": Key("int", None, low=1, doc="of the truth's grid: so many points along each axis become one"),
        "noise": Key(
            "float", None, above=0, doc="standard deviation of white noise that each step adds to φ, the mean kept"
        ),
    },
    doc="What predicts: surrogates, and what they are to be measured against.",
    many=True,
    required=True,
    check=_check_model,
)

PROTOCOLS = {
    "test-set": (),
    "larger-domain": ("factor",),
    "longer-time": (),
    "shape": ("mesh", "size"),
    "central-slab": ("within",),
    "inhomogeneous": ("within", "outside"),
    "amplitude-pair": ("amplitudes",),
    "stationary": (),
    "phase-diagram": (),
}
"""kind of protocol -> keys that change the truth's run file"""
CHANGES = tuple(dict.fromkeys(key for keys in PROTOCOLS.values() for key in keys))


def _check_protocol(v, error):
    for key in CHANGES:
        if v[key] is not None and key not in PROTOCOLS[v["kind"]]:
            raise error(key, f"has no effect with kind = '{v['kind']}'")
    if v["fit"] is not None and not 0 < v["fit"][0] < v["fit"][1]:
        raise error("fit", "takes two times that ascend, the first above 0")
    if v["within"] is not None and not 0 <= v["within"][0] < v["within"][1] <= 1:
        raise error("within", "takes two shares of the box that ascend, between 0 and 1")


PROTOCOL = Table(
    "protocol",
    {
        "kind": Key(
            "str",
            choices=tuple(PROTOCOLS),
            doc="test-set: the truth as it is; larger-domain: `factor` times as many points an axis; longer-time: `frames`; shape: begins with a "
            "mesh; central-slab: noise in a slab; inhomogeneous: another mean outside of it; amplitude-pair: the same noise, two amplitudes; "
            "stationary: what it comes to in the end; phase-diagram: which cases decompose",
        ),
        "name": Key("str", None, doc="default: its kind"),
        "truth": Key(
            "path",
            doc="run file of sequences or of a phase field, which is solved here, or the directory of such a run, whose frames are read",
        ),
        "count": Key("int", None, low=1, doc="cases, of a set of sequences; default: all that there are"),
        "part": Key(
            "str", None, choices=("training", "validation"), doc="of a set's directory; default: all its sequences"
        ),
        "frames": Key("int", None, low=2, doc="that are compared, the first one included; default: all of the truth"),
        "interval": Key(
            "float",
            None,
            above=0,
            doc="time from frame to frame; default: a step of the slowest surrogate; of a phase-field run's directory all frames that are whole steps",
        ),
        "rollout": Key(
            "path",
            None,
            doc="directory of a roll-out, whose frames are the predictions of the first surrogate: long ones are made on many ranks before",
        ),
        "fit": Key(
            "float*2", None, doc="times since the first frame between which F ~ t^p; default: last factor of 10"
        ),
        "factor": Key("int", None, low=2, doc="of a larger domain, noise no coarser; default 2"),
        "mesh": Key("path", None, doc="closed mesh in STL or OBJ"),
        "size": Key("float", None, above=0, doc="longest extent of the mesh; default: 3/4 of the box"),
        "within": Key(
            "float*2",
            None,
            doc="shares of axis 0 that noise is confined between; default 3/8 and 5/8, inhomogeneous 1/4 and 3/4",
        ),
        "outside": Key("float", None, doc="φ beyond, of inhomogeneous boxes; default 0.2"),
        "amplitudes": Key("float*2", None, above=0, doc="of noise; default 0.02 and 0.2"),
    },
    doc="What is predicted.",
    many=True,
    required=True,
    check=_check_protocol,
)

TABLES = [JOB, MODEL, PROTOCOL, Table("parallel", {"threads": phasefield.PARALLEL.keys["threads"]}, doc="Threads.")]


def model_name(model) -> str:
    """Of a table [[model]]."""
    from pathlib import Path

    return model["name"] or (Path(model["file"]).stem if model["file"] else model["kind"])


def protocol_name(protocol) -> str:
    """Of a table [[protocol]]."""
    return protocol["name"] or protocol["kind"]


def page() -> str:
    """docs/evaluation-run-file.md."""
    return f"""# The run file of an evaluation: all tables and keys

Made from the declarations that every run file is checked against (`python -m ostwald.app.jobs.evaluation_schema >
docs/evaluation-run-file.md`). What an evaluation is: [evaluation](evaluation.md). An empty default means: not given, or what the
meaning says. Paths are relative to the run file.

{reference(TABLES)}""".rstrip()


if __name__ == "__main__":
    print(page())
