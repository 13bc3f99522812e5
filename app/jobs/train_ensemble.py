"""Ensembles: several potentials in one training job, alike but for their random numbers or the part of the data they see.

Each member is a training of its own (training_loop), in a run directory of its own, members/<number>. The ranks form groups, as many as
there are members or ranks; each group trains members in turn. Descriptors are computed once, by all ranks, and mapped by all groups.
"""

from __future__ import annotations

import time
from copy import deepcopy

import numpy as np

from ostwald.app.jobs import timing, training_loop
from ostwald.app.jobs.ending import leave_report
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.jobs.train_schema import TABLES, check_whole
from ostwald.app.jobs.train_setup import Setup, portable
from ostwald.app.potentials.hdnnp import modelfile, models
from ostwald.app.runfile import dumps
from ostwald.app.training.data import seen
from ostwald.app.training.errors import errors_of
from ostwald.io.arrayfile import ArrayFile, open_arrays
from ostwald.io.checkpoint import list_checkpoints
from ostwald.io.provenance import origin, provenance
from ostwald.io.rundirectory import RunDirectory


def wanted(values) -> bool:
    """Whether a run file asks for an ensemble, and not for one of its members."""
    return values["ensemble"]["members"] > 1 and values["ensemble"]["member"] is None


def run(world, values, path, directory=None, force=False) -> int:
    """Starts the job of a run file that was read."""
    world.use_threads(values["parallel"]["threads"])
    setup = Setup(world, values, path)  # what is wrong is said before anything is written
    where = directory or values["job"]["directory"] or default_directory(path)
    values["job"]["directory"] = None
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        return Members(world, values, target, setup).run()


def resume(world, directory, walltime=None) -> int:
    """Continues a run directory: members that are finished stay, those that were begun go on, the others start."""
    with RunDirectory.open(directory, world) as target:
        values = read_run_file(world, target.run_file, TABLES, check_whole)
        world.use_threads(values["parallel"]["threads"])
        if walltime is not None:
            values["job"]["walltime"] = walltime
        if training_loop.is_finished(world, target.timing_file):
            world.log("this run is complete; nothing is left to do")
            return 0
        return Members(world, values, target, Setup(world, values, target.run_file)).run()


class Members:
    """The members of an ensemble, on all ranks. setup: of the whole job, not prepared."""

    def __init__(self, world, values, directory, setup):
        self.world, self.values, self.directory, self.setup = world, values, directory, setup
        self.count = values["ensemble"]["members"]
        self.folders = [directory.members / str(number) for number in range(1, self.count + 1)]
        self.before = [self._timing(folder) for folder in self.folders]
        self.wall_before = self._timing(directory.path).get("total_wall_seconds", 0.0)

    def run(self) -> int:
        """Trains all members. 0 when done, EXIT_RESUME when stopped early."""
        world, begun = self.world, time.monotonic()
        training_loop.introduce(world, self.values, self.setup, self.directory)
        self.setup.compute_descriptors(self.directory)
        self.directory.make(self.directory.members)
        groups = min(world.size, self.count)
        colour = world.rank * groups // world.size
        mine = world.split(colour)
        if colour == 0:
            mine.log = world.log
        mine.log.screen = colour == 0  # the others tell in the logs of their members
        stopped = max(world.allgather(self._train(mine, range(1 + colour, self.count + 1, groups))))
        cost = {} if stopped else {"microseconds_per_atom": self._combine()}
        self._finish(time.monotonic() - begun, stopped, cost)
        return stopped

    def _train(self, world, numbers) -> int:
        """Trains some members, on the ranks of `world`."""
        with Stopping(world, self.values["job"]["walltime"], self.values["checkpoint"], 1) as stopping:
            for number in numbers:
                _, reason = stopping.test(0)
                if reason or (status := self._member(world, number)):
                    return EXIT_RESUME if reason else status
        return 0

    def _member(self, world, number) -> int:
        values, folder = deepcopy(self.values), self.folders[number - 1]
        values["ensemble"]["member"] = number
        text = dumps(values)
        values["memory"]["descriptors"] = str(self.setup.data["training"].path)
        if training_loop.is_finished(world, folder / "timing.json"):
            return 0
        begun = world.bcast(world.root and any(found.valid for found in list_checkpoints(folder / "checkpoints")))
        world.timers.reset()
        world.log(f"\nmember {number} of {self.count}")
        setup = Setup(world, values, self.directory.run_file)
        if begun:
            with RunDirectory.open(folder, world) as target:
                status = training_loop.go_on(world, values, setup, target)
        else:
            with RunDirectory.create(folder, world, text, overwrite=True) as target:
                training_loop.begin(world, values, setup, target)
                status = training_loop.Training(world, values, target, setup).run()
        self.world.timers.add(world.timers)
        return status

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _combine(self) -> dict:
        """One potential of all members, its errors and predictions; returns what an evaluation costs. Collective."""
        world, facts, error = self.world, provenance(self.world), None
        arrays, groups = {}, []
        if world.root:
            try:
                arrays, groups = self._predictions()
                whole = errors_of(arrays, groups)
                world.log(f"\nvalidation, {self._how()}, {len(arrays['counts'])} structures\n{whole.table()}")
                found = {"validation": whole.as_json()}
                training = self.setup.sets["training"]
                if self.values["ensemble"]["resample"] != "folds":
                    training = self.setup.parts["training"]
                made = origin(facts) | {
                    "errors": {"validation": found["validation"]["all"]},
                    "job": portable(self.values),
                }
                members = [models(folder / "potential.ostwald")[0] for folder in self.folders]
                modelfile.write(self.directory.model_file, members, seen(training), made)
            except (OSError, ValueError) as caught:
                error = caught
        world.agree(error)
        shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        with ArrayFile(self.directory.predictions_file, world, shapes, {"groups": groups}) as file:
            for name, array in arrays.items():
                file.write(name, 0, array)
        self.directory.write_json(self.directory.errors_file, found if world.root else None)
        world.log(f"\npotential  {self.directory.model_file}, {self.count} members")
        return self.setup.appraise(self.directory)

    def _how(self) -> str:
        folds = self.values["ensemble"]["resample"] == "folds"
        return "each by the member that has not seen it" if folds else f"the mean of {self.count} members"

    def _predictions(self) -> tuple[dict, list[str]]:
        """What the ensemble says of the validation set, as training.errors.predictions; of folds each structure by the member that
        has not seen it, else the mean, and spread (n,) eV/Å: how far the members disagree on the force of each atom."""
        each = []
        for folder in self.folders:
            arrays, meta = open_arrays(folder / "predictions.h5")
            each.append(arrays)
        if self.values["ensemble"]["resample"] == "folds":
            found = {name: np.concatenate([arrays[name] for arrays in each]) for name in each[0]}
            return _by_structure(found), meta["groups"]
        found = {name: np.array(array) for name, array in each[0].items()}
        for name in ("energy", "forces", "stress"):
            found[name][..., 1] = np.mean([arrays[name][..., 1] for arrays in each], axis=0)
        apart = [((arrays["forces"][..., 1] - found["forces"][..., 1]) ** 2).sum(axis=1) for arrays in each]
        return found | {"spread": np.sqrt(np.mean(apart, axis=0))}, meta["groups"]

    def _finish(self, wall, stopped, cost):
        """timing.json, the report."""
        world, members = self.world, [self._timing(folder) for folder in self.folders]
        now = [m for m, before in zip(members, self.before) if m != before]  # that were trained since the start
        finished = sum(member.get("finished", False) for member in members)
        local = dict(resident_bytes=timing.resident_bytes(), cpu_seconds=time.process_time())
        names = dict.fromkeys((*self.setup.sections, *training_loop.SECTIONS))
        sections, per_rank = timing.over_ranks(world, names, wall, local)
        figures = dict(
            kind="train",
            ranks=world.size,
            threads=world.threads,
            optimiser=self.values["optimiser"]["kind"],
            members=self.count,
            members_finished=finished,
            parameters=sum(member.get("parameters", 0) for member in members),
            best_epoch=[member.get("best_epoch") for member in members],
            total_updates=sum(member.get("total_updates", 0) for member in members),
            wall_seconds=wall,
            total_wall_seconds=self.wall_before + wall,
            **{
                f"{what}_per_second": sum(m[f"{what}_per_second"] * m["wall_seconds"] for m in now) / wall
                for what in self.setup.work
            },
            communication=sections["communication"]["mean"] / wall,
            sections=sections,
            per_rank=per_rank,
            finished=not stopped,
            **cost,
        )
        world.log(
            f"\n{finished} of {self.count} members finished; {wall:.1f} s on {world.size} ranks × {world.threads} threads\n\n"
            + "\n".join(timing.section_lines({name: s for name, s in sections.items() if s["max"] > 0}))
        )
        if stopped:
            world.log(f"stopped. To go on: ostwald resume {self.directory.path}")
        self.directory.write_json(self.directory.timing_file, figures)
        self.setup.close(keep=bool(stopped))
        if not stopped:
            leave_report(world, self.directory)

    def _timing(self, folder) -> dict:
        return self.world.bcast(training_loop.figures_of(folder / "timing.json") if self.world.root else None)


def _by_structure(found: dict) -> dict:
    """Predictions in the order of their structures' numbers."""
    order = np.argsort(found["structures"], kind="stable")
    first = np.concatenate([[0], np.cumsum(found["counts"])])
    atoms = np.concatenate([np.arange(first[k], first[k + 1]) for k in order])
    return {name: array[atoms if name == "forces" else order] for name, array in found.items()}
