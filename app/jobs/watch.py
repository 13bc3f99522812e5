"""How far a run may trust its potential: extrapolation beyond the training range, disagreement of an ensemble.

Either is one number per atom, looked at every so many steps. Over ranks the largest is found, with the atom it belongs to;
thresholds decide whether it is told in the log, whether the configuration is written to a file, whether the run ends.
"""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.jobs.md_schema import DEVIATION, EXTRAPOLATION
from ostwald.app.potentials import Ensemble, PotentialError
from ostwald.app.runfile import RunFileError
from ostwald.io.structures import Structure

WHOLE = 2000
"""Configurations of up to so many atoms are written whole, of larger systems a sphere around the worst atom."""
EVERY = 100
"""Steps between looks where the run file does not say otherwise."""
LIMITS = ("warn", "dump", "stop")
LISTED = 10
"""Functions in the summary at the end of the log."""


class Watch:
    """One number per atom that the potential gives when it is asked to, watched over a run.

    table: its table of the run file. state: what `state()` gave at a checkpoint. columns: name -> unit in the time series.
    All methods but `due` and `ask` are collective.
    """

    name = ""  # of its table, its key in checkpoints, the folder of its configurations
    field = ""  # the number in trajectories and files of configurations
    columns: dict[str, str] = {}

    def __init__(self, system, directory, table, *, frames=False, state=None):
        self.system, self.directory, self.table, self.frames = system, directory, table, frames
        self.world, self.potential = system.world, system.potential
        self.on = False
        self.per_atom = None  # (n,) of this rank's atoms, at the last look
        state = state or {}
        self.looks = state.get("looks", 0)
        self.atoms_max = state.get("atoms_max", 0)
        self.worst = state.get("worst")
        self.kept = [tuple(k) for k in state.get("kept", [])]  # (value, step) of each configuration written
        self.last_dump = tuple(state["last_dump"]) if state.get("last_dump") else None
        self.news = state.get("news")  # what the log has not told yet
        self.told = state.get("told", False)
        self.ended = None  # the number that ended the run
        self.since_row = state.get("since_row") or self._nothing()
        if state:
            self._drop_future(state["step"])

    # ---- what it is about: of the kinds below -------------------------------------------------------------------

    def _switch(self, on):
        raise NotImplementedError

    def _take(self):
        """(n,) numbers of the local atoms as the last compute() left them."""
        raise NotImplementedError

    def _floor(self) -> float:
        """The number above which atoms count."""
        return self.table["warn"] or 0.0

    def _about(self, row):
        """Two numbers more of the local atom `row`."""
        return 0.0, 0.0

    def _tell(self, event) -> str:
        """The worst atom of an event, in words."""
        raise NotImplementedError

    # ---- in a step ----------------------------------------------------------------------------------------------

    def due(self, step, frame=False) -> bool:
        return step % self.table["every"] == 0 or (frame and self.frames)

    def ask(self, on):
        """Whether the next compute() also finds the numbers."""
        if on != self.on:
            self._switch(on)
            self.on = on

    def look(self, step, time) -> str | None:
        """Takes the numbers of the last compute(); says and writes what the thresholds ask for.

        Returns why the run must end, or None.
        """
        world, table = self.world, self.table
        self.per_atom = values = np.asarray(self._take())
        top = float(values.max()) if len(values) else 0.0
        top = float(world.allreduce(top if top == top else math.inf, "max"))  # NaN is the worst there is
        event = self._event(step, time, values, top)
        self.looks += 1
        self.atoms_max = max(self.atoms_max, event["atoms"])
        self._count(values, event)
        if self.worst is None or top > self.worst["value"]:
            self.worst = event
        beyond = {name: table[name] is not None and top > table[name] for name in LIMITS}
        if beyond["warn"]:
            self._note(event)
        if beyond["stop"] or (beyond["dump"] and self._worth_keeping(event)):
            self._dump(event)
        if not beyond["stop"]:
            return None
        self.ended = top
        return f"{self._tell(event)}, above [{self.name}] stop = {table['stop']:g}"

    def _event(self, step, time, values, top) -> dict:
        """The atom with the number `top`, the lowest id where there are several; the same on every rank.

        value: top; atoms: how many are above the number from which on they count; mean: over all atoms.
        """
        event = dict(step=step, time=time, value=top, atoms=0, mean=0.0, atom=-1)
        if not top > 0.0:
            return event
        world, atoms = self.world, self.system.atoms
        rows = np.flatnonzero(values == top if math.isfinite(top) else ~np.isfinite(values))
        ids = atoms.ids[rows]
        none = np.iinfo(np.int64).max
        mine = int(ids.min()) if len(ids) else none
        event["atom"] = int(world.allreduce(mine, "min"))
        sums = np.zeros(8)
        sums[:2] = np.count_nonzero(values > self._floor()), values.sum(dtype=float)
        if mine == event["atom"]:
            row = int(rows[np.argmin(ids)])
            sums[2:] = atoms.types[row], *atoms.positions[row], *self._about(row)
        sums = world.allreduce(sums)
        event["atoms"], event["mean"] = int(sums[0]), float(sums[1]) / self.system.total
        event["species"] = atoms.species[int(sums[2])]
        event["place"] = sums[3:6].tolist()
        return event | self._named(int(sums[2]), *sums[6:])

    def _named(self, type_, first, second) -> dict:
        """What of `_about` becomes part of the event."""
        return {}

    def _count(self, values, event):
        """Adds a look to what the next row and the summary tell."""
        raise NotImplementedError

    # ---- time series ---------------------------------------------------------------------------------------------

    def _nothing(self) -> dict:
        return dict.fromkeys(self.columns, math.nan)

    def row(self) -> dict:
        """Value of each column, over the looks since the last row; nan where there was none."""
        row, self.since_row = self.since_row, self._nothing()
        return {name: row[name] for name in self.columns}

    # ---- the log --------------------------------------------------------------------------------------------------

    def _note(self, event):
        """The first event is told at once, later ones together, by `tell`."""
        if not self.told:
            self.told = True
            self.world.log.warning(self._alone(event))
            return
        if self.news is None:
            self.news = dict(first=event["step"], looks=0, worst=event, atoms=0)
        self.news["looks"] += 1
        self.news["atoms"] = max(self.news["atoms"], event["atoms"])
        if event["value"] > self.news["worst"]["value"]:
            self.news["worst"] = event

    def tell(self, step):
        """A warning that sums up what came since the last one."""
        news, self.news = self.news, None
        if news is not None and news["looks"] == 1:
            self.world.log.warning(self._alone(news["worst"]))
        elif news is not None:
            self.world.log.warning(
                f"{self._tell(news['worst'])}: the worst of steps {news['first']} to {step}, where {news['looks']} looks "
                f"found up to {self._crowd(news['atoms'])}"
            )

    def _alone(self, event) -> str:
        return f"{self._tell(event)}; {self._crowd(event['atoms'])} in all"

    def _crowd(self, atoms) -> str:
        """So many atoms, and what is said of them."""
        raise NotImplementedError

    def finish(self, step) -> dict:
        """The summary: for people in the log, for programs as returned."""
        self.tell(step)
        found = dict(looks=self.looks, worst=self.worst, configurations=[self._file(step) for _, step in self.kept])
        self.world.log(f"{self.name:<14}{self.looks} steps looked at")
        if self.worst is not None and self.worst["value"] > 0.0:
            self.world.log(f"{'':<14}worst: {self._tell(self.worst)}")
        if self.kept:
            self.world.log(f"{'':<14}{len(self.kept)} configurations in {self.directory.path / self.name}")
        return found

    # ---- configurations --------------------------------------------------------------------------------------------

    def _file(self, step) -> str:
        return f"{self.name}/step-{step:012d}.xyz"

    def _worth_keeping(self, event) -> bool:
        """Whether it is among the worst, and another configuration than the last one."""
        full = len(self.kept) >= self.table["dump_limit"]
        if full and event["value"] <= min(self.kept)[0]:
            return False
        if self.last_dump is None:
            return True
        value, step = self.last_dump
        return event["step"] - step >= self.table["dump_every"] or event["value"] > 2.0 * value

    def _dump(self, event):
        """Writes the configuration; the mildest of more than dump_limit goes."""
        step = event["step"]
        if event["atom"] < 0 or not np.isfinite(event["place"]).all() or any(step == k for _, k in self.kept):
            return
        with self.world.timers("output"):
            self.directory.write_structure(self._file(step), self._configuration(event))
        self.last_dump = (event["value"], step)
        self.kept.append((event["value"], step))
        if len(self.kept) > self.table["dump_limit"]:
            mildest = min(k for k in self.kept if k[1] != step) if len(self.kept) > 1 else self.kept[0]
            self.kept.remove(mildest)
            self.directory.remove(self._file(mildest[1]))

    def _configuration(self, event) -> Structure | None:
        """On the root: all atoms of a small system in their cell, or a sphere around the worst atom of a large one, nearest
        first, without a cell; with the forces and energies of the whole system. None on the other ranks."""
        world, system, atoms = self.world, self.system, self.system.atoms
        n = atoms.n
        fields = {name: np.array(values) for name, values in self._fields().items()}
        watched, self.per_atom = self.on, np.array(self.per_atom)
        self.ask(False)
        nb = system.neighbourhoods()
        forces, energies = np.zeros((nb.nall, 3)), np.zeros(nb.nall)
        energy, _ = self.potential.compute(nb, forces, virial=False, energies=energies, threads=system.threads)
        if self.potential.reverse:
            nb.reverse(energies)
        self.ask(watched)
        energy = world.allreduce(float(energy))
        whole = system.total <= WHOLE
        radius = self.table["dump_radius"] or 2.0 * self.potential.cutoff
        rows, places = (np.arange(n), atoms.positions[:n]) if whole else self._sphere(event["place"], radius)
        part = dict(
            ids=atoms.ids[rows],
            types=atoms.types[rows],
            positions=places,
            forces=atoms.forces[rows],
            energies=energies[rows],
            **{name: values[rows] for name, values in fields.items()},
        )
        parts = world.gather(part)
        if not world.root:
            return None
        part = {name: np.concatenate([p[name] for p in parts]) for name in part}
        centre = np.array(event["place"])
        distance = np.linalg.norm(part["positions"] - centre, axis=1)
        order = np.lexsort((part["ids"], distance)) if not whole else np.argsort(part["ids"])
        part = {name: values[order] for name, values in part.items()}
        info = dict(step=event["step"], time=event["time"], atom=event["atom"], **self._info(event))
        if whole:
            cell = dict(matrix=system.cell.matrix, origin=system.cell.origin, periodic=system.cell.periodic)
            info["energy"] = energy
        else:
            box = 2.0 * radius + 10.0
            part["positions"] = part["positions"] - centre + 0.5 * box
            cell = dict(matrix=box * np.eye(3), periodic=np.zeros(3, bool))
            info |= dict(radius=radius, centre=centre)
        return Structure(
            positions=part.pop("positions"),
            species=atoms.species,
            types=part.pop("types"),
            ids=part.pop("ids"),
            arrays=part,
            info=info,
            **cell,
        )

    def _sphere(self, centre, radius):
        """(rows, positions (rows, 3)) of this rank's atoms, and their images, within `radius` (Å) of a place."""
        atoms, cell = self.system.atoms, self.system.cell
        positions = atoms.positions[: atoms.n]
        low, high = np.fmin.reduce(positions, initial=np.inf), np.fmax.reduce(positions, initial=-np.inf)
        reach = np.where(cell.periodic, np.ceil(radius / cell.heights) + 1, 0).astype(int)
        rows, places = [np.empty(0, np.int64)], [np.empty((0, 3))]
        for shift in np.ndindex(*(2 * reach + 1)):
            move = (np.array(shift) - reach) @ cell.matrix
            away = np.maximum(np.maximum(low + move - centre, centre - high - move), 0.0)
            if not np.square(away).sum() <= radius**2:
                continue  # of most images not even the box around the atoms is that near
            moved = positions + move
            inside = np.flatnonzero(np.square(moved - centre).sum(1) <= radius**2)
            rows.append(inside)
            places.append(moved[inside])
        return np.concatenate(rows), np.concatenate(places)

    def _fields(self) -> dict:
        """name -> (n,) of the local atoms, for the files of configurations."""
        return {self.field: self.per_atom}

    def _info(self, event) -> dict:
        return {self.field: event["value"]}

    # ---- restart ----------------------------------------------------------------------------------------------------

    def state(self, step) -> dict:
        """All that the next part of the run must know. Collective; the root's counts."""
        return dict(
            step=step,
            looks=self.looks,
            atoms_max=self.atoms_max,
            worst=self.worst,
            kept=[list(k) for k in self.kept],
            last_dump=list(self.last_dump) if self.last_dump else None,
            news=self.news,
            told=self.told,
            ended=self.ended,
            since_row=self.since_row,
        )

    def _drop_future(self, step):
        """Configurations written after the checkpoint belong to a run that never was; those removed are gone."""
        present = self.directory.configurations(self.name)
        for later in [s for s in present if s > step]:
            self.directory.remove(self._file(later))
        self.kept = [k for k in self.kept if k[1] in present]


class Extrapolation(Watch):
    """How far atoms are outside the range of the potential's training set: the distance over the width of the range, for
    the function of each atom that is farthest out (`Potential.watch`)."""

    name = field = "extrapolation"
    columns = {"extrapolating_atoms": "", "extrapolation_max": ""}

    def __init__(self, system, directory, table, *, frames=False, state=None):
        super().__init__(system, directory, table, frames=frames, state=state)
        # (type, function) -> [times it was the worst of an atom, largest excess], of this rank
        self.functions = {}
        if state and self.world.root:
            self.functions = {(t, k): [times, most] for t, k, times, most in state["functions"]}

    def _switch(self, on):
        self.potential.watch(on)

    def _take(self):
        return self.potential.extrapolation.excess

    def _floor(self):
        return 0.0

    def _about(self, row):
        found = self.potential.extrapolation
        return found.function[row], found.count[row]

    def _named(self, type_, function, count):
        name = self.potential.function_name(type_, int(function)) if function >= 0 else "no function"
        return dict(function=int(function), name=name, outside=int(count))

    def _count(self, values, event):
        for name, now in zip(self.columns, (event["atoms"], event["value"])):
            self.since_row[name] = float(np.fmax(self.since_row[name], now))
        rows = np.flatnonzero(values > 0.0)
        if len(rows):
            keys = self.system.atoms.types[rows].astype(np.int64) << 16 | self.potential.extrapolation.function[rows]
            found, which, times = np.unique(keys, return_inverse=True, return_counts=True)
            most = np.zeros(len(found))
            np.maximum.at(most, which, values[rows])
            for key, count, largest in zip(found.tolist(), times.tolist(), most.tolist()):
                self._add(key >> 16, key & 0xFFFF, count, largest)

    def _add(self, type_, function, times, most):
        entry = self.functions.setdefault((type_, function), [0, 0.0])
        entry[0] += times
        entry[1] = max(entry[1], most)

    def _tell(self, event):
        if event["value"] <= 0.0:
            return f"step {event['step']}: all atoms inside the training range"
        others = event["outside"] - 1
        more = f" (and {others} more function{'s' * (others > 1)})" if others > 0 else ""
        return (
            f"extrapolation at step {event['step']}: atom {event['atom']} ({event['species']}) is outside the training range "
            f"by {event['value']:.3g} of its width in {event['name']}{more}"
        )

    def _crowd(self, atoms):
        return f"{atoms} atom{'s' * (atoms != 1)} outside"

    def _alone(self, event):
        text = super()._alone(event)
        if event["atoms"] == self.system.total and event["value"] > 1.0:
            text += ": are length_unit and energy_unit of [potential] right?"
        return text

    def _fields(self):
        found = self.potential.extrapolation
        return {self.field: self.per_atom, "extrapolation_function": found.function.astype(np.int32)}

    def _info(self, event):
        return {self.field: event["value"], "function": event["name"]}

    def _gathered(self):
        """The counts of all ranks, moved to the root. Collective."""
        everyone = self.world.gather(self.functions)
        self.functions = {}
        for functions in everyone or ():
            for key, (times, most) in functions.items():
                self._add(*key, times, most)
        return self.functions

    def state(self, step):
        functions = [[t, k, times, most] for (t, k), (times, most) in sorted(self._gathered().items())]
        return super().state(step) | dict(functions=functions)

    def finish(self, step):
        found = super().finish(step)
        ranking = sorted(self._gathered().items(), key=lambda item: (-item[1][0], item[0]))
        species = self.system.atoms.species
        table = [
            dict(species=species[t], function=k, name=self.potential.function_name(t, k), times=times, largest=most)
            for (t, k), (times, most) in ranking
        ]
        if table:
            self.world.log(f"{'':<14}at most {self.atoms_max} atoms at once outside the training range; per function:")
            for line in table[:LISTED]:
                self.world.log(f"{'':<14}{line['times']:>9} ×  by up to {line['largest']:<9.3g}{line['name']}")
            if len(table) > LISTED:
                self.world.log(f"{'':<14}and {len(table) - LISTED} more functions")
        return found | dict(atoms_max=self.atoms_max, functions=table)


class Deviation(Watch):
    """How far the members of an ensemble disagree about the force on each atom (`Ensemble.watch_deviation`), eV/Å."""

    name, field = "deviation", "force_deviation"
    columns = {
        "force_deviation_mean": "eV/Angstrom",
        "force_deviation_max": "eV/Angstrom",
        "force_deviation_atom": "",
    }

    def _switch(self, on):
        self.potential.watch_deviation(on)

    def _take(self):
        return self.potential.deviation

    def _nothing(self):
        return super()._nothing() | dict(looks=0)

    def _count(self, values, event):
        row = self.since_row
        row["looks"] += 1
        before = row["force_deviation_mean"] if row["looks"] > 1 else 0.0
        row["force_deviation_mean"] = before + (event["mean"] - before) / row["looks"]
        if not row["force_deviation_max"] >= event["value"]:
            row["force_deviation_max"], row["force_deviation_atom"] = event["value"], event["atom"]

    def _tell(self, event):
        if event["atom"] < 0:
            return f"step {event['step']}: all members agree"
        return (
            f"force deviation at step {event['step']}: {event['value']:.4g} eV/Å on atom {event['atom']} "
            f"({event['species']})"
        )

    def _crowd(self, atoms):
        return f"{atoms} atom{'s' * (atoms != 1)} above {self._floor():g} eV/Å"


SCHEMA = {table.name: table for table in (EXTRAPOLATION, DEVIATION)}
KINDS = {Extrapolation.name: Extrapolation, Deviation.name: Deviation}


def complete(values, potential, path):
    """Fills in how often to look, where the run file leaves it open; what cannot be watched is a RunFileError."""
    able = {
        "deviation": None if isinstance(potential, Ensemble) else "the potential is not an ensemble: give file a list"
    }
    try:
        potential.watch(True)
        potential.watch(False)
        able["extrapolation"] = None
    except PotentialError as error:
        able["extrapolation"] = str(error)
    for name, reason in able.items():
        table = values[name]
        if reason and table["every"]:
            raise RunFileError(f"{path}: [{name}] every: {reason}")
        if table["every"] is None:
            table["every"] = 0 if reason else EVERY
        idle = [key for key, value in table.items() if key != "every" and value != SCHEMA[name].keys[key].default]
        if not table["every"] and idle:
            raise RunFileError(f"{path}: [{name}] {idle[0]}: {reason or 'has no effect with every = 0'}")
        if values["trajectory"][name] and not table["every"]:
            raise RunFileError(f"{path}: [trajectory] {name}: {reason or f'needs [{name}] every'}")


def describe(values) -> str:
    """One line: what is watched, how often, and above which numbers something is done."""
    parts = []
    for name, schema in SCHEMA.items():
        table = values[name]
        if table["every"]:
            unit = schema.keys["stop"].unit
            limits = [f"{key} above {table[key]:g}{unit and ' ' + unit}" for key in LIMITS if table[key] is not None]
            parts.append(", ".join([f"{name} every {table['every']} steps", *limits]))
    return "; ".join(parts) or "nothing"


def still_ended(values, states) -> str | None:
    """Why a run that has ended for a limit of its own would do so again; None where it may go on."""
    for name, state in (states or {}).items():
        limit = values[name]["stop"]
        if state["ended"] is not None and values[name]["every"] and limit is not None and state["ended"] > limit:
            return f"[{name}] stop: {state['ended']:.4g} is above {limit:g}"
    return None


def watches(values, system, directory, states=None) -> list[Watch]:
    """Those that the run file asks for. states: name -> state of a checkpoint."""
    return [
        kind(system, directory, values[name], frames=values["trajectory"][name], state=(states or {}).get(name))
        for name, kind in KINDS.items()
        if values[name]["every"]
    ]
