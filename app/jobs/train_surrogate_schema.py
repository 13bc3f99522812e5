"""The run file of a surrogate's training: tables, keys, ranges."""

from dataclasses import replace

from ostwald.app.jobs.md_schema import CHECKPOINT
from ostwald.app.jobs.md_schema import JOB as MD_JOB
from ostwald.app.jobs.train_schema import MINIBATCH, OWN, PARALLEL, check_optimiser
from ostwald.app.jobs.train_schema import OPTIMISER as ANY_OPTIMISER
from ostwald.app.jobs.train_schema import VALIDATION as ANY_VALIDATION
from ostwald.app.runfile import Key, RunFileError, Table, reference
from ostwald.app.surrogate.architecture import CELLS, CONSERVING, HEADS, PADDINGS, PRESETS, Architecture
from ostwald.app.surrogate.model import RESAMPLINGS

JOB = Table(
    "job",
    {**MD_JOB.keys, "kind": Key("str", choices=("train-surrogate",), doc="job kind")},
    doc="What to run.",
    required=True,
)
SEQUENCES = Table(
    "sequences",
    {
        "file": Key(
            "path",
            doc="what a job of kind = 'sequences' made: its file, its run directory, or a pattern of those of its parts",
        )
    },
    doc="Sets to learn from, of the same grid, frames and parameters. Which sequences are for validation is said in them.",
    many=True,
    required=True,
)
DATA = Table(
    "data",
    {
        "resampling": Key(
            "str", "none", choices=RESAMPLINGS, doc="halve the resolution: every second point, or means over 2^d points"
        ),
        "every": Key("int", 1, low=1, doc="one of so many frames is taken: the network's step is that many intervals"),
        "frames": Key("int", None, low=2, doc="of a sequence of the training; default: all"),
        "windows": Key(
            "bool", False, doc="sequences begin at any frame of the file, anew in each epoch, not at its first"
        ),
    },
    doc="What is taken of them.",
)
PARAMETER = Table(
    "parameter",
    {
        "key": Key("str", doc='what differs between sequences, such as "elasticity.misfit"'),
        "name": Key("str", None, doc="by which the network knows it; default: the last part of the key"),
        "complement": Key("bool", False, doc="where φ becomes 1 - φ, it becomes 1 - itself (a composition)"),
    },
    doc="What the network is given beside φ, scaled by mean and standard deviation of the training set.",
    many=True,
)

_BUILD = ("dimensions", "blocks", "channels", "kernel", "cell", "head", "padding")


def _check_network(v, error):
    if v["start"] is not None:
        for key in ("preset", *_BUILD):
            if v[key] is not None:
                raise error(key, "has no effect beside start")
    elif v["preset"] is None:
        for key in ("dimensions", "blocks", "channels", "kernel"):
            if v[key] is None:
                raise error(key, "is required without a preset")


NETWORK = Table(
    "network",
    {
        "preset": Key("str", None, choices=tuple(PRESETS), doc="a network of the literature; keys below change it"),
        "dimensions": Key("int", None, low=2, high=3, doc="of space"),
        "blocks": Key("int", None, low=1, doc="recurrent blocks, one behind the other"),
        "channels": Key("int", None, low=1, doc="of each hidden state"),
        "kernel": Key("int", None, low=1, doc="points along each axis, odd"),
        "cell": Key("str", None, choices=CELLS, doc="of a block; default deep"),
        "head": Key("str", None, choices=HEADS, doc="what becomes of the last hidden state; default flux"),
        "padding": Key(
            "str", None, choices=PADDINGS, doc="what lies beyond the grid; default circular: it is periodic"
        ),
        "start": Key("path", None, doc="a surrogate's model file: train it further"),
        "precision": Key("str", "single", choices=("single", "double"), doc="of φ, hidden states and parameters"),
        "compute": Key(
            "str", None, choices=("bfloat16",), doc="of convolutions, all but the last; default: as precision"
        ),
        "device": Key("str", "cpu", doc="of torch: cpu, cuda (the GPUs of a node in turn), cuda:1 …"),
    },
    doc="The network.",
    required=True,
    check=_check_network,
)


def _check_loss(v, error):
    if v["energy"] and v["epsilon"] is None:
        raise error("epsilon", "is required with energy")
    if v["epsilon"] is not None and not v["energy"]:
        raise error("epsilon", "has no effect without energy")


LOSS = Table(
    "loss",
    {
        "gradient": Key("float", 0.0, low=0, doc="weight of the mean square error of |∇φ|²; 60 in the literature"),
        "energy": Key("float", 0.0, low=0, doc="of the energy density 36/ε φ² (1 - φ)²; 150 in the literature"),
        "mean": Key(
            "float", 0.0, low=0, doc="of the mean of φ, for heads that do not conserve it; 2 in the literature"
        ),
        "epsilon": Key("float", None, above=0, doc="ε of the phase field"),
    },
    doc="What is made small, beside the mean square error of φ, whose weight is 1.",
    check=_check_loss,
)
CURRICULUM = Table(
    "curriculum",
    {
        "epochs": Key(
            "int",
            25,
            low=0,
            doc="in which what the network is given falls from all frames but the last to the first; 0: none",
        )
    },
    doc="From one step to the closed loop.",
)
AUGMENTATION = Table(
    "augmentation",
    {
        "rotations": Key("bool", True, doc="quarter turns"),
        "reflections": Key("bool", True, doc="of axes"),
        "exchange": Key("bool", True, doc="φ becomes 1 - φ; not for wells or elastic constants that tell them apart"),
        "noise": Key(
            "float",
            0.0,
            low=0,
            doc="standard deviation of noise, without a mean, on the frames that the network is given",
        ),
    },
    doc="What sequences are turned into, anew in each epoch.",
)
OPTIMISER = Table(
    "optimiser",
    {
        "kind": Key("str", "adam", choices=MINIBATCH, doc="how"),
        **{
            name: replace(
                key, doc=key.doc.replace("structures", "sequences").replace("; iterations of levenberg-marquardt", "")
            )
            for name, key in ANY_OPTIMISER.keys.items()
            if name in ("epochs", *OWN["adamw"])
        },
    },
    doc="Adam, and AdamW, whose weights decay.",
    required=True,
    check=check_optimiser,
)
VALIDATION = Table(
    "validation",
    {
        "every": ANY_VALIDATION.keys["every"],
        "objective": Key(
            "str",
            "loss",
            choices=("loss", "rmse", "last_rmse"),
            doc="what decides which parameters are the best: the loss, or the root-mean-square error of φ, of all frames or of the last",
        ),
        **{name: ANY_VALIDATION.keys[name] for name in ("patience", "gain")},
    },
    doc="In closed loop from the first frame. The network with the lowest objective on the validation set is kept.",
)
MEMORY = Table(
    "memory",
    {
        "limit": Key(
            "float",
            2.0,
            above=0,
            unit="GB",
            doc="of a rank for what the backward pass needs; less makes steps be computed twice",
        )
    },
    doc="Steps through time are kept for the backward pass, or computed again.",
)
TABLES = [
    JOB,
    SEQUENCES,
    DATA,
    PARAMETER,
    NETWORK,
    LOSS,
    CURRICULUM,
    AUGMENTATION,
    OPTIMISER,
    VALIDATION,
    MEMORY,
    PARALLEL,
    CHECKPOINT,
]


def parameter_names(values) -> tuple[str, ...]:
    """By which the network knows its parameters."""
    return tuple(p["name"] or p["key"].rpartition(".")[2] for p in values["parameter"])


def architecture(values, path) -> Architecture:
    """The network of a run file without [network] start. RunFileError."""
    given, names = values["network"], parameter_names(values)
    chosen = {key: given[key] for key in _BUILD if given[key] is not None}
    try:
        if given["preset"] is None:
            return Architecture(parameters=names, **chosen)
        preset = PRESETS[given["preset"]]
        for name in preset.parameters:
            if name not in names:
                raise RunFileError(
                    f"{path}: [network] preset: {given['preset']} is given {name}: name the key of the sequences in [[parameter]]"
                )
        return replace(preset, parameters=names, **chosen)
    except ValueError as error:
        if isinstance(error, RunFileError):
            raise
        raise RunFileError(f"{path}: [network] {error}") from None


def check_whole(values, path):
    """What several tables must agree on. RunFileError."""
    if values["network"]["start"] is None:
        head = architecture(values, path).head
        if values["loss"]["mean"] and head in CONSERVING:
            raise RunFileError(f"{path}: [loss] mean: has no effect with the head {head}, which conserves the mean")


def page() -> str:
    """docs/train-surrogate-run-file.md."""
    return f"""# The run file of a surrogate's training: all tables and keys

Made from the declarations that every run file is checked against (`python -m ostwald.app.jobs.train_surrogate_schema >
docs/train-surrogate-run-file.md`). How they go together: [surrogates](surrogate.md). An empty default means: not given, or what the meaning says.
Paths are relative to the run file. Durations: `"90s"`, `"2h30m"`, `"02:00:00"`.

{reference(TABLES)}"""


if __name__ == "__main__":  # python -m ostwald.app.jobs.train_surrogate_schema writes docs/train-surrogate-run-file.md
    print(page())
