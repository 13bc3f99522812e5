"""The run file of a training: tables, keys, ranges."""

from ostwald.app.jobs.md_schema import CHECKPOINT
from ostwald.app.jobs.md_schema import JOB as MD_JOB
from ostwald.app.potentials.hdnnp.model import ACTIVATIONS
from ostwald.app.runfile import Key, RunFileError, Table, reference
from ostwald.parallel.training import BACKENDS, COMPRESSIONS

JOB = Table(
    "job",
    {**MD_JOB.keys, "kind": Key("str", choices=("train",), doc="job kind")},
    doc="What to run.",
    required=True,
)


def _check_data(v, error):
    if v["validation"] is not None and v["fraction"] is not None:
        raise error("fraction", "has no effect beside validation: give one of them")


DATA = Table(
    "data",
    {
        "file": Key("path", doc="data set (ostwald convert FILE NAME.dataset makes one)"),
        "validation": Key("path", None, doc="another data set, to validate with"),
        "fraction": Key(
            "float",
            None,
            above=0,
            high=0.5,
            doc="of the structures of each group that is kept for validation; default 0.1 without a validation set",
        ),
        "seed": Key(
            "int",
            None,
            low=0,
            high=2**31 - 1,
            doc="of the split; default: of the job. Alike in runs that make an ensemble",
        ),
        "block": Key("int", 1, low=1, doc="structures that follow each other in a group stay together in the split"),
        "energies": Key(
            "table", {}, unit="eV", doc="reference energies of elements; those not given are fitted (least squares)"
        ),
    },
    doc="What to learn from.",
    required=True,
    check=_check_data,
)

_FACTORS = {
    "centred": Key("int", 0, low=0, doc="Gaussians about zero; widths from `first` to the cutoff in equal ratios"),
    "shifted": Key(
        "int",
        0,
        low=0,
        doc="Gaussians about equidistant places from `first` up to the cutoff, as wide as their distance",
    ),
    "first": Key("float", 1.5, above=0, unit="Å", doc="the narrowest width; the nearest place"),
}


def _check_functions(v, error):
    if not v["centred"] + v["shifted"]:
        raise error("", "give centred or shifted, or both")
    if v["first"] >= v["cutoff"]:
        raise error("first", f"must be below the cutoff ({v['cutoff']:g} Å), got {v['first']:g}")


def _check_angular(v, error):
    _check_functions(v, error)
    if not v["zetas"]:
        raise error("zetas", "names none")


RADIAL = Table(
    "radial",
    {"cutoff": Key("float", above=0, unit="Å", doc="cutoff"), **_FACTORS},
    doc="Radial symmetry functions, for each neighbour element; further tables add to them.",
    many=True,
    check=_check_functions,
)
ANGULAR = Table(
    "angular",
    {
        "cutoff": Key("float", above=0, unit="Å", doc="cutoff"),
        "narrow": Key("bool", True, doc="with the third side of the triangle; wide ones (false) are far cheaper"),
        "zetas": Key(
            "float*", [1.0, 4.0], low=1, doc="powers of 1 ± cos θ; wide ones of whole powers up to 8 are cheapest"
        ),
        **_FACTORS,
    },
    doc="Angular symmetry functions, for each two neighbour elements.",
    many=True,
    check=_check_angular,
)


def _check_network(v, error):
    if v["start"] is not None and v["nodes"] is not None:
        raise error("nodes", "has no effect beside start")


NETWORK = Table(
    "network",
    {
        "nodes": Key("int*", None, low=1, doc="of the hidden layers; default 20, 20"),
        "activation": Key("str", "tanh", choices=tuple(ACTIVATIONS.values()), doc="of the hidden layers"),
        "cutoff_function": Key(
            "int", 6, low=0, high=8, doc="type, as in n2p2; 6: polynomial with two smooth derivatives"
        ),
        "start": Key(
            "path",
            None,
            doc="a potential (NAME.ostwald, or a directory of n2p2): train it further, functions and scaling as they are",
        ),
        "precision": Key(
            "str", "double", choices=("double", "single"), doc="of training; the potential is double always"
        ),
        "device": Key("str", "cpu", doc="of torch: cpu, cuda (the GPUs of a node in turn), cuda:1 …"),
    },
    doc="One network for each element.",
    check=_check_network,
)

LOSS = Table(
    "loss",
    {
        "energy": Key("float", 100.0, low=0, doc="weight of the mean square error of energies, (eV/atom)²"),
        "force": Key("float", 1.0, low=0, doc="of force components, (eV/Å)²"),
        "stress": Key("float", 1.0, low=0, doc="of virials, (eV/atom)²"),
        "energy_start": Key("float", None, low=0, doc="weights at the start, approached as the learning rate falls"),
        "force_start": Key("float", None, low=0, doc="as energy_start"),
        "stress_start": Key("float", None, low=0, doc="as energy_start"),
        "energy_huber": Key(
            "float", None, above=0, unit="eV/atom", doc="errors beyond it count linearly (Huber); default: all squared"
        ),
        "force_huber": Key("float", None, above=0, unit="eV/Å", doc="as energy_huber"),
        "stress_huber": Key("float", None, above=0, unit="eV/atom", doc="as energy_huber, of virials"),
    },
    doc="What is made small.",
)

MINIBATCH = ("adam", "adamw")
OWN = {
    "levenberg-marquardt": ("damping", "ridge", "part"),
    "l-bfgs": ("memory", "ridge"),
    "adam": (
        "batch",
        "rate",
        "final_rate",
        "schedule",
        "period",
        "drop",
        "wait",
        "warmup",
        "clip",
        "average",
        "communication",
        "compression",
    ),
}
OWN["adamw"] = (*OWN["adam"], "decay")
_DEFAULTS = {
    "damping": 1e-2,
    "ridge": 1e-9,
    "memory": 20,
    "part": 1.0,
    "batch": 8,
    "rate": 3e-3,
    "final_rate": 1e-5,
    "schedule": "exponential",
    "warmup": 0,
    "decay": 1e-4,
    "communication": "mpi",
    "compression": "none",
}
"""Of the keys that only some optimisers have."""


def check_optimiser(v, error):
    own = OWN[v["kind"]]
    for keys in OWN.values():
        for key in keys:
            if key not in own and v.get(key) is not None:
                raise error(key, f"has no effect with kind = '{v['kind']}'")
    for key in own:
        if v[key] is None:
            v[key] = _DEFAULTS.get(key)
    if v["kind"] in MINIBATCH:
        if v["compression"] != "none" and v["communication"] != "horovod":
            raise error("compression", "is of communication = 'horovod'")
        for key, schedule in (("period", "cosine"), ("drop", "plateau"), ("wait", "plateau")):
            if v[key] is not None and v["schedule"] != schedule:
                raise error(key, f"is of schedule = '{schedule}'")
        if v["schedule"] == "plateau":
            v["drop"], v["wait"] = v["drop"] or 0.5, v["wait"] or 10
        if v["final_rate"] > v["rate"]:
            raise error("final_rate", f"must not be above rate ({v['rate']:g})")


OPTIMISER = Table(
    "optimiser",
    {
        "kind": Key("str", "levenberg-marquardt", choices=tuple(OWN), doc="how"),
        "epochs": Key("int", 100, low=1, doc="passes over the training set; iterations of levenberg-marquardt"),
        "damping": Key("float", None, above=0, doc="μ at the start; default 0.01"),
        "ridge": Key("float", None, low=0, doc="weight of the sum of squares of all parameters; default 1e-9"),
        "part": Key(
            "float",
            None,
            above=0,
            high=1,
            doc="of the forces whose second derivatives an iteration uses, drawn anew; loss and gradient are of all; default 1",
        ),
        "batch": Key("int", None, low=1, doc="structures of an update, of all ranks together; default 8"),
        "rate": Key("float", None, above=0, doc="learning rate at the start; default 0.003"),
        "final_rate": Key("float", None, above=0, doc="learning rate at the end; default 1e-5"),
        "memory": Key("int", None, low=1, doc="steps that l-bfgs remembers; default 20"),
        "schedule": Key(
            "str", None, choices=("exponential", "cosine", "plateau", "constant"), doc="default exponential"
        ),
        "period": Key("int", None, low=1, doc="epochs of the first cosine; then warm restarts, each twice as long"),
        "drop": Key("float", None, above=0, high=0.99, doc="plateau: what the rate is multiplied with; default 0.5"),
        "wait": Key(
            "int", None, low=1, doc="plateau: validations without a better one, after which it drops; default 10"
        ),
        "warmup": Key("int", None, low=0, doc="updates in which the rate rises from zero; default 0"),
        "decay": Key("float", None, low=0, doc="of weights, apart from the gradient; default 1e-4"),
        "clip": Key("float", None, above=0, doc="largest norm of the gradient"),
        "average": Key(
            "float", None, above=0, high=0.99999, doc="moving average of the parameters: what stays in an update"
        ),
        "communication": Key("str", None, choices=BACKENDS, doc="how ranks add up gradients; default mpi"),
        "compression": Key("str", None, choices=COMPRESSIONS, doc="of gradients under way (horovod); default none"),
    },
    doc="levenberg-marquardt: whole set, dense normal equations, up to a few thousand parameters. l-bfgs: whole set, any number. "
    "adam, adamw: small batches.",
    check=check_optimiser,
)

VALIDATION = Table(
    "validation",
    {
        "every": Key("int", 1, low=1, doc="epochs between validations"),
        "objective": Key(
            "str",
            "loss",
            choices=("loss", "energy", "force", "stress"),
            doc="what decides which parameters are the best: the loss, or a root-mean-square error",
        ),
        "patience": Key("int", None, low=1, doc="validations without a better one, after which training stops"),
        "gain": Key("float", 0.0, low=0, doc="how much lower the objective must be to count as better for patience"),
    },
    doc="The potential with the lowest objective on the validation set is kept.",
)


def _check_ensemble(v, error):
    if v["members"] == 1 and v["resample"] != "none":
        raise error("resample", "has no effect on one member: set members")
    if v["member"] is not None and v["member"] > v["members"]:
        raise error("member", f"is {v['member']}, but there are {v['members']} members")


ENSEMBLE = Table(
    "ensemble",
    {
        "members": Key(
            "int", 1, low=1, high=100, doc="potentials trained alike but for their random numbers: seed, seed + 1, …"
        ),
        "resample": Key(
            "str",
            "none",
            choices=("none", "bootstrap", "folds"),
            doc="none: all have the same training set; bootstrap: each has one of its own, drawn from it with replacement; folds: the set is "
            "divided into as many parts as there are members, each validates with one of them and is trained on the others",
        ),
        "member": Key("int", None, low=1, doc="train only this one, from 1 (for the tasks of a job array)"),
    },
    doc="Several potentials in one job, by groups of ranks of their own; they make one potential, whose members' spread tells its uncertainty.",
    check=_check_ensemble,
)
MEMORY = Table(
    "memory",
    {
        "descriptors": Key(
            "path", None, doc="file of the descriptors, kept and used again; default: in the run directory, removed"
        ),
        "limit": Key("float", 50.0, above=0, unit="GB", doc="refuse where the descriptors would be larger"),
    },
    doc="Symmetry functions and their derivatives are computed once and mapped from a file.",
)
PARALLEL = Table(
    "parallel",
    {"threads": Key("int", None, low=1, doc="threads per rank; default 1, or OMP_NUM_THREADS")},
    doc="Ranks share structures.",
)

TABLES = [JOB, DATA, RADIAL, ANGULAR, NETWORK, LOSS, OPTIMISER, VALIDATION, ENSEMBLE, MEMORY, PARALLEL, CHECKPOINT]


def check_whole(values, path):
    """What several tables must agree on. RunFileError."""
    functions = values["radial"] or values["angular"]
    if values["network"]["start"] is None and not functions:
        raise RunFileError(f"{path}: no symmetry functions: give [[radial]] or [[angular]], or [network] start")
    if values["network"]["start"] is not None and functions:
        raise RunFileError(
            f"{path}: [network] start: its symmetry functions are used, [[radial]] and [[angular]] have no effect"
        )
    ensemble, data = values["ensemble"], values["data"]
    if ensemble["resample"] == "folds" and (key := next((k for k in ("validation", "fraction") if data[k]), None)):
        raise RunFileError(f"{path}: [data] {key}: has no effect with [ensemble] resample = 'folds'")
    if ensemble["members"] > 1 and values["optimiser"].get("communication") == "horovod":
        raise RunFileError(
            f"{path}: [optimiser] communication: Horovod knows all ranks of a process only: for an ensemble take mpi or torch"
        )
    loss = values["loss"]
    if not any(loss[name] for name in ("energy", "force", "stress")):
        raise RunFileError(f"{path}: [loss]: all weights are zero")
    starts = [name for name in ("energy_start", "force_start", "stress_start") if loss[name] is not None]
    if starts and values["optimiser"]["kind"] not in MINIBATCH:
        raise RunFileError(
            f"{path}: [loss] {starts[0]}: has no effect with [optimiser] kind = '{values['optimiser']['kind']}'"
        )


def page() -> str:
    """docs/train-run-file.md."""
    return f"""# The run file of a training: all tables and keys

Made from the declarations that every run file is checked against (`python -m ostwald.app.jobs.train_schema >
docs/train-run-file.md`). How they go together: [training](training.md). An empty default means: not given, or what the meaning says. Paths are
relative to the run file. Durations: `"90s"`, `"2h30m"`, `"02:00:00"`.

{reference(TABLES)}"""


if __name__ == "__main__":  # python -m ostwald.app.jobs.train_schema writes docs/train-run-file.md
    print(page())
