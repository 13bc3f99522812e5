"""The run file of a set of sequences: the tables of a phase-field run, what the set is, and what varies in it."""

import numpy as np

from ostwald.app.jobs import phasefield_schema as phasefield
from ostwald.app.jobs.md_schema import JOB as MD_JOB
from ostwald.app.runfile import Key, RunFileError, Table, reference, validate
from ostwald.parallel import philox_generator, philox_uniform

JOB = Table(
    "job",
    {**MD_JOB.keys, "kind": Key("str", choices=("sequences",), doc="job kind")},
    doc="What to run.",
    required=True,
)


STEPPING = ("timestep", "tolerance", "shortest", "longest")
"""Keys of [[stage]] that [set] has, too."""


def _check_set(v, error):
    if v["tolerance"] is None:
        if v["timestep"] is None:
            raise error("timestep", "is required without a tolerance")
        if any(v[key] is not None for key in STEPPING[2:]):
            raise error("tolerance", "is required with shortest and longest")
    if v["validation"] * v["count"] > v["count"] - 1 and v["validation"] > 0:
        raise error("validation", "leaves nothing to train on")


SET = Table(
    "set",
    {
        "count": Key("int", low=1, high=2**31 - 1, doc="sequences"),
        "first": Key(
            "int",
            0,
            low=0,
            high=2**31 - 1,
            doc="number of the first: a set may be made in parts, the same numbers in any",
        ),
        "frames": Key("int", low=1, doc="of a sequence"),
        "interval": Key("float", above=0, doc="time between frames, a whole number of steps of one length"),
        "start": Key(
            "float", 0.0, low=0, doc="time of the first frame, rounded to whole steps; 0: the initial field itself"
        ),
        **{key: phasefield.STAGE.keys[key] for key in STEPPING},
        "precision": Key("str", "single", choices=("half", "single", "double"), doc="of the numbers in the file"),
        "stride": Key("int", 1, low=1, doc="every so many points along each axis are kept (2: half the resolution)"),
        "validation": Key("float", 0.0, low=0, high=1, doc="share of the sequences that is not to be trained on"),
        "ranks": Key("int", 1, low=1, doc="ranks that work on one sequence together"),
    },
    doc="What is made.",
    required=True,
    check=_check_set,
)

LAWS = ("uniform", "normal", "values", "grid")


def _check_vary(v, error):
    if sum(v[law] is not None for law in LAWS) != 1:
        raise error("", f"give one of {', '.join(LAWS)}")
    if v["uniform"] is not None and not v["uniform"][0] < v["uniform"][1]:
        raise error("uniform", "takes a lower and a higher number")
    if v["normal"] is not None and v["normal"][1] <= 0:
        raise error("normal", "takes a mean and a standard deviation above 0")
    if v["limits"] is not None:
        if v["normal"] is None:
            raise error("limits", "has an effect with normal only")
        if not v["limits"][0] < v["limits"][1]:
            raise error("limits", "takes a lower and a higher number")
    if v["grid"] is not None and (v["grid"][2] != int(v["grid"][2]) or v["grid"][2] < 1):
        raise error("grid", "takes the first and the last value and the number of values")


VARY = Table(
    "vary",
    {
        "key": Key(
            "str", doc='what varies: a table and a key with a number, such as "elasticity.misfit", or "set.start"'
        ),
        "uniform": Key("float*2", None, doc="drawn between two numbers"),
        "normal": Key("float*2", None, doc="drawn from a normal law: mean, standard deviation"),
        "limits": Key("float*2", None, doc="of a normal law, which is cut off there"),
        "values": Key("float*", None, doc="one of these, drawn with equal chances"),
        "grid": Key(
            "float*3",
            None,
            doc="first, last, number of values in equal steps; several grids are combined, the last runs fastest, and start over when they are through",
        ),
    },
    doc="What differs from sequence to sequence, besides the seed of the initial field.",
    many=True,
    check=_check_vary,
)

PARALLEL = Table("parallel", {"threads": phasefield.PARALLEL.keys["threads"]}, doc="Threads.")
OWN = [JOB, SET, VARY, PARALLEL]
LEFT_OUT = ("job", "parallel", "stage", "series", "fields", "analysis", "checkpoint", "log")
"""Tables of a phase-field run that a set has not."""
SHARED = [table for table in phasefield.TABLES if table.name not in LEFT_OUT]
SEEDS = 2**31


class Plan:
    """A run file and what each of its sequences is. Raises RunFileError, for sequences too.

    raw: tables as read. values: those of OWN. count; together: ranks that work on one sequence; seed, start (count,), parameters {key: (count,)}; interval: from frame to
    frame; steps_before, steps_between: until the first frame (count,), from frame to frame, 0 where they are not known (adaptive).
    """

    def __init__(self, raw: dict, path):
        self.path, shared = path, [table.name for table in SHARED]
        self.raw = {name: table for name, table in raw.items() if name in shared}
        if unknown := next((name for name in raw if name in LEFT_OUT and name not in [t.name for t in OWN]), None):
            raise RunFileError(f"{path}: a set of sequences has no table [{unknown}]")
        self.values = validate({k: v for k, v in raw.items() if k not in self.raw}, OWN, path)
        table = self.values["set"]
        self.count, self.together, number = table["count"], table["ranks"], table["first"] + np.arange(table["count"])
        seed = self.values["job"]["seed"]
        base = philox_generator(seed, "sequences").integers(SEEDS)
        self.seed = (base + number) % SEEDS  # no two alike
        self.validation = _share(table["validation"], number)
        self.adaptive = table["tolerance"] is not None
        self.steps_between = 0 if self.adaptive else _whole_steps(table, path)
        self.interval = table["interval"] if self.adaptive else self.steps_between * table["timestep"]
        self.parameters = self._draw(seed, number)
        start = self.parameters.get("set.start", np.full(self.count, table["start"]))
        if start.min() < 0:
            k = int(np.argmin(start))
            raise RunFileError(f"{path}: [set] start: must be at least 0, is {start[k]:g} in sequence {number[k]}")
        if self.adaptive:
            self.start, self.steps_before = start, np.zeros(self.count, np.int64)
        else:
            self.steps_before = np.rint(start / table["timestep"]).astype(np.int64)
            self.start = self.steps_before * table["timestep"]

    def _draw(self, seed, number) -> dict:
        laws, found = self.values["vary"], {}
        for place, law in enumerate(laws, 1):
            if law["key"] in found:
                raise self._error(place, f"'{law['key']}' varies already")
            self._check_key(place, law["key"])
            u = philox_uniform(seed, f"vary {law['key']}", number)[:, 0]
            found[law["key"]] = None if law["grid"] is not None else _drawn(law, u)
        rest = number
        for law in reversed([law for law in laws if law["grid"] is not None]):
            low, high, points = law["grid"][0], law["grid"][1], int(law["grid"][2])
            rest, place = np.divmod(rest, points)
            found[law["key"]] = np.linspace(low, high, points)[place]
        return found

    def _check_key(self, place, key):
        table, _, name = key.partition(".")
        if key == "set.start":
            known, given = SET.keys["start"], self.values["set"]["start"] != 0
        else:
            tables = {t.name: t for t in SHARED if not t.many and t.name != "grid"}
            known = tables[table].keys.get(name) if table in tables else None
            given = name in self.raw.get(table, {})
        if known is None:
            raise self._error(place, f"there is no '{key}' that could vary")
        if known.kind not in ("float", "int", "float|float*"):
            raise self._error(place, f"'{key}' is not a number")
        if given:
            raise self._error(place, f"'{key}' has a value in its table, too; give one of the two")

    def _error(self, place, why):
        return RunFileError(f"{self.path}: [vary {place}] key: {why}")

    def of(self, k: int) -> dict:
        """The values of a phase-field run that makes sequence k (from 0, in this part), with one stage until its end."""
        table = self.values["set"]
        raw = {name: dict(given) if isinstance(given, dict) else given for name, given in self.raw.items()}
        for key, values in self.parameters.items():
            name, _, entry = key.partition(".")
            if name != "set":
                raw.setdefault(name, {})[entry] = float(values[k])
        steps = int(self.steps_before[k]) + (table["frames"] - 1) * self.steps_between
        length = float(self.start[k]) + max(table["frames"] - 1, 1) * self.interval
        raw["job"] = dict(kind="phasefield", seed=int(self.seed[k]))
        given = {key: table[key] for key in STEPPING if table[key] is not None}
        raw["stage"] = [given | (dict(time=length) if self.adaptive else dict(steps=max(steps, 1)))]
        try:
            return validate(raw, phasefield.TABLES, self.path)
        except RunFileError as error:
            if not self.parameters:
                raise
            which = ", ".join(f"{key} = {values[k]:.6g}" for key, values in self.parameters.items())
            text = str(error).removeprefix(f"{self.path}: ")
            raise RunFileError(f"{self.path}: sequence {table['first'] + k} ({which}): {text}") from None

    def resolved(self) -> dict:
        """The whole run file with its defaults; what varies is left out of its table."""
        values = {"job": self.values["job"]}
        first = self.of(0)
        for table in SHARED:
            values[table.name] = first[table.name]
        for key in self.parameters:
            name, _, entry = key.partition(".")
            if name != "set":
                del values[name][entry]
        for name in ("set", "vary", "parallel"):
            values[name] = self.values[name]
        return {name: table for name, table in values.items() if table}


def _whole_steps(table, path) -> int:
    steps = table["interval"] / table["timestep"]
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-6 * steps:
        raise RunFileError(
            f"{path}: [set] interval: {table['interval']:g} is not a whole number of time steps of {table['timestep']:g}"
        )
    return round(steps)


def _share(share, number):
    """Every so many-th sequence: of n sequences round(share n), whatever parts they are made in."""
    return np.floor((number + 1) * share + 1e-9) > np.floor(number * share + 1e-9)


def _drawn(law, u):
    """Numbers of the law from uniform ones in (0, 1)."""
    if law["uniform"] is not None:
        low, high = law["uniform"]
        return low + (high - low) * u
    if law["values"] is not None:
        return np.asarray(law["values"])[(u * len(law["values"])).astype(int)]
    from scipy.special import ndtr, ndtri

    mean, deviation = law["normal"]
    if law["limits"] is None:
        return mean + deviation * ndtri(u)
    low, high = ((np.array(law["limits"])) - mean) / deviation
    return np.clip(mean + deviation * ndtri(ndtr(low) + (ndtr(high) - ndtr(low)) * u), *law["limits"])


def page() -> str:
    """docs/sequences-run-file.md."""
    shared = ", ".join(f"`[{table.name}]`" for table in SHARED)
    return f"""# The run file of a set of sequences: all tables and keys

Made from the declarations that every run file is checked against (`python -m ostwald.app.jobs.sequences_schema >
docs/sequences-run-file.md`). Besides these there are tables of [the phase field](phasefield-run-file.md), as there: {shared}.
What a set is and does: [sequences](sequences.md).

{reference(OWN)}"""


if __name__ == "__main__":  # python -m ostwald.app.jobs.sequences_schema writes docs/sequences-run-file.md
    print(page())
