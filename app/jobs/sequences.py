"""A set of sequences: many short phase-field runs, each over the same frames, dealt to ranks that are free, in one file."""

from __future__ import annotations

import math
import os
import shutil
import time

import numpy as np

from ostwald.app.jobs import timing
from ostwald.app.jobs.ending import leave_report
from ostwald.app.jobs.phasefield_check import BASE_BYTES, seconds_of_a_step
from ostwald.app.jobs.phasefield_grid import footprint
from ostwald.app.jobs.phasefield_setup import build, check_finite, initial_field, make_noise, precision, set_initial
from ostwald.app.jobs.phasefield_stages import Stages
from ostwald.app.jobs.progress import Progress, clock
from ostwald.app.jobs.runfiles import default_directory
from ostwald.app.jobs.sequences_schema import Plan
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.phasefield import Diverged
from ostwald.app.runfile import RunFileError, dumps, load_toml
from ostwald.io.rundirectory import RunDirectory
from ostwald.io.sequences import (
    FINISHED,
    GIVEN_UP,
    SequencesError,
    SequenceWriter,
    create_sequences,
    sequences_bytes,
)
from ostwald.parallel import WorkQueue

SECTIONS = ("initial", "step", "output")
SETTLE = 0.5
"""Seconds between waits for the disk, where a rank works alone: so long a finished sequence may not count yet."""
LOOK = 1.0
"""Seconds between looks at how many sequences all ranks have finished."""


class SequenceSet:
    """A set on this rank: its share of the sequences that are not there yet.

    world: all ranks. plan: Plan. directory: RunDirectory with the file of sequences.

    The ranks are dealt to groups of [set] ranks; a group takes the next sequence when it is free. What a killed run had not
    finished is made anew, from its own seed.
    """

    def __init__(self, world, plan, directory):
        self.world, self.plan, self.directory = world, plan, directory
        groups = max(1, world.size // plan.together)
        self.group = world if groups == 1 else world.split(world.rank * groups // world.size)
        leaders = world if groups == world.size else world.split(int(not self.group.root))
        self.writer = SequenceWriter(directory.sequences_file)
        state = world.bcast(self.writer.state() if world.root else None)
        self.missing = sorted(
            np.flatnonzero(state == 0).tolist(), key=lambda k: (-plan.start[k], k)
        )  # the longest first
        self.queue = WorkQueue(leaders, len(self.missing)) if self.group.root else None
        nothing_due = dict(every=0, interval=math.inf)
        self.stopping = Stopping(self.group, plan.values["job"]["walltime"], nothing_due, every=1)
        self.finished, self.looked = int(np.sum(state != 0)), time.monotonic()
        self.progress = Progress(world, plan.count, done=self.finished, what="sequence")
        self.started = self.settled = time.monotonic()
        self.steps, self.lost = 0, []
        self.solver = self.model = None

    def run(self) -> int:
        """Makes what is missing. 0 when all is there, EXIT_RESUME when stopped early. Raises Diverged at the end where some
        had to be given up."""
        reason, wall = None, 0.0
        with self.stopping:
            try:
                while reason is None and (k := self._take()) is not None:
                    reason = self._make(k)
                self._settle()
                if self.solver is not None:
                    self.solver.close()
                wall = time.monotonic() - self.started
                self._wait()
            finally:
                self.progress.close()
        return self._finish(reason, wall)

    def _take(self):
        """The next sequence for this group, or None."""
        place = self.queue.take() if self.group.root else None
        place = self.group.bcast(place)
        return None if place is None else self.missing[place]

    def _make(self, k):
        """Sequence k, or as much of it as there is time for: then why it was left."""
        plan, world, begun = self.plan, self.world, time.monotonic()
        values = plan.of(k)
        frames = plan.values["set"]["frames"]
        with world.timers("initial"):
            solver = self._solver_of(values)
            set_initial(solver, values, plan.path)
        rows, state, stages = np.full((frames, 3), np.nan), FINISHED, Stages(values["stage"], solver)
        try:
            for frame in range(frames):
                if reason := self._advance(k, frame, solver, stages):
                    return reason
                numbers = solver.measure()
                if max(-numbers["low"], numbers["high"]) > values["limits"]["field"]:
                    raise Diverged(f"|φ| is above [limits] field = {values['limits']['field']:g} in frame {frame}")
                rows[frame] = [numbers[name] for name in ("energy", "low", "high")]
                with world.timers("output"):
                    self.writer.write_frame(k, frame, solver.pieces(), solver.parts.lo, solver.parts.hi)
        except Diverged as error:
            state = GIVEN_UP
            if self.group.root:
                self.lost.append((k, str(error)))
        if self.group.root:
            energy, low, high = rows.T
            took = time.monotonic() - begun
            self.writer.finish(
                k, state, energy=energy, low=low, high=high, mean=solver.mean, steps=solver.steps, seconds=took
            )
        if self.group.size > 1 or time.monotonic() - self.settled > SETTLE:
            self._settle()
        return None

    def _solver_of(self, values):
        """The solver of these values; that of the sequence before where they differ in the initial field only."""
        model = {name: table for name, table in values.items() if name not in ("job", "initial", "stage")}
        model["seed"] = values["job"]["seed"] if make_noise(values) else None
        if model != self.model:
            if self.solver is not None:
                self.solver.close()
            self.solver, self.model = build(self.group, values, self.plan.path), model
        return self.solver

    def _settle(self):
        """What is finished is on the disk, and counts."""
        with self.world.timers("output"):
            if not self.group.root:
                self.writer.settle()
            self.group.barrier()
            if self.group.root:
                self.writer.settle()
        self.settled = time.monotonic()

    def _advance(self, k, frame, solver, stages):
        """From frame to frame, or from the initial field to the first one. Why this group must stop on the way, if it must."""
        plan = self.plan
        until, left = plan.start[k] + frame * plan.interval, plan.steps_between if frame else int(plan.steps_before[k])
        while left or (plan.adaptive and solver.time < until):
            begun, pause = solver.steps, min(until, solver.time + plan.interval)
            with self.world.timers("step"):
                if plan.adaptive:
                    while solver.time < pause:
                        stages.advance(False, pause)
                else:
                    solver.step(stages.stage["timestep"], count := min(left, plan.steps_between))
                    left -= count
            self.steps += solver.steps - begun
            if reason := self._service():
                return reason
        return None

    def _service(self):
        """Why this group must stop, if it must; how far all are."""
        _, reason = self.stopping.test(self.steps)
        if self.queue is not None:
            self.queue.progress()
        self._look()
        return reason

    def _look(self):
        if self.world.root and time.monotonic() - self.looked > LOOK:
            self.looked = time.monotonic()
            self.finished = int(np.sum(self.writer.state() != 0))
            self.progress.update(self.finished)

    def _wait(self):
        """Until the others have no more to do, without keeping a core busy."""
        if self.queue is not None:
            while not self.queue.everybody_done():
                time.sleep(0.02)
                self._look()
            self.queue.close()
        self.group.barrier()

    def _finish(self, reason, wall):
        world, plan = self.world, self.plan
        state = world.bcast(self.writer.state() if world.root else None)
        lost = [each for some in world.gather(self.lost) or [] for each in some]
        reasons = [text for text in world.allgather(reason) if text]
        local = dict(resident_bytes=timing.resident_bytes(), busy_seconds=wall)
        steps = world.allreduce(self.steps if self.group.root else 0)
        total = time.monotonic() - self.started
        sections, per_rank = timing.over_ranks(world, SECTIONS, total, local)
        points = math.prod(plan.of(0)["grid"]["shape"])
        complete = bool((state != 0).all())
        figures = dict(
            kind="sequences",
            ranks=world.size,
            threads=world.threads,
            shape=plan.of(0)["grid"]["shape"],
            count=plan.count,
            sequences=int(np.sum(state == FINISHED)),
            given_up=int(np.sum(state == GIVEN_UP)),
            steps=steps,
            wall_seconds=total,
            point_steps_per_second=points * steps / total if total else 0.0,
            sections=sections,
            per_rank=per_rank,
            finished=complete,
        )
        for k, text in sorted(lost):
            world.log(f"sequence {plan.values['set']['first'] + k} was given up: {text}")
        world.log("\n" + timing_table(figures))
        self.writer.close()
        self.directory.write_json(self.directory.timing_file, figures)
        if not complete:
            why = reasons[0] if reasons else "some are missing"
            world.log(
                f"stopped: {why}; {figures['sequences']} of {plan.count} sequences are there. "
                f"To go on: ostwald resume {self.directory.path}"
            )
            return EXIT_RESUME
        leave_report(self.world, self.directory)
        if figures["given_up"]:
            raise Diverged(
                f"{figures['given_up']} of {plan.count} sequences diverged and were given up (log.txt names them); the others are "
                f"in {self.directory.sequences_file}"
            )
        return 0


def timing_table(f) -> str:
    """Where the time went, for people."""
    busy, memory = f["per_rank"]["busy_seconds"], f["per_rank"]["resident_bytes"]
    lines = [
        f"{f['sequences']} of {f['count']} sequences on {' × '.join(map(str, f['shape']))} points; {f['steps']} steps in "
        f"{f['wall_seconds']:.2f} s on {f['ranks']} ranks × {f['threads']} threads: {f['point_steps_per_second']:.4g} point-steps/s",
        f"ranks were busy for {busy['min']:.2f} to {busy['max']:.2f} s",
        "",
        *timing.section_lines(f["sections"]),
        "",
        f"memory of a rank: {memory['min'] / 1e6:.0f} to {memory['max'] / 1e6:.0f} MB",
    ]
    return "\n".join(lines)


# ---- entry points -------------------------------------------------------------------------------------------------


def read_plan(world, path, thorough=False, ranks=None) -> Plan:
    """The plan of a run file, read on one rank; RunFileError on every rank. thorough: every sequence is looked at, and whether
    `ranks` (by default those of the world) can make it."""
    raw, problem, alone = None, None, world.split(world.rank) if thorough and world.size > 1 else world
    if world.root:
        try:
            raw = load_toml(path)
            plan = Plan(raw, path)
            if thorough:
                _try(alone, plan, ranks or world.size)
        except RunFileError as error:
            problem = RunFileError(str(error).replace("[stage 1]", "[set]"))  # the stage is of the program's making
    world.agree(problem)
    return Plan(world.bcast(raw), path)


def _try(alone, plan, ranks):
    """Whether all sequences have valid values, those at the ends of what varies can be built, and there are ranks for them."""
    every = [plan.of(k) for k in range(plan.count)]
    if plan.together > ranks:
        raise RunFileError(
            f"{plan.path}: [set] ranks: {plan.together} are to work on one sequence, but there are {ranks}"
        )
    for size in _group_sizes(ranks, plan.together):
        try:
            footprint(every[0], precision(every[0]), size)
        except ValueError as error:
            raise RunFileError(f"{plan.path}: [set] ranks: {error}") from None
    ends = {0} | {int(pick(values)) for values in plan.parameters.values() for pick in (np.argmin, np.argmax)}
    for k in sorted(ends):
        grid, stride = every[k]["grid"], plan.values["set"]["stride"]
        if any(n % stride for n in grid["shape"]):
            raise RunFileError(f"{plan.path}: [set] stride: {stride} does not divide the grid {grid['shape']}")
        check_finite(initial_field(every[k], plan.path, grid["shape"], grid["spacing"]), every[k], plan.path)
        build(alone, every[k], plan.path).close()


def _group_sizes(ranks, together) -> set[int]:
    """Ranks of the groups that SequenceSet makes."""
    groups = max(1, ranks // together)
    return {ranks // groups, -(-ranks // groups)}


def kept_shape(plan) -> list[int]:
    """Of the points in the file."""
    return [n // plan.values["set"]["stride"] for n in plan.of(0)["grid"]["shape"]]


def run(world, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    plan = read_plan(world, path, thorough=True)
    world.use_threads(plan.values["parallel"]["threads"])
    where = directory or plan.values["job"]["directory"] or default_directory(path)
    plan.values["job"]["directory"] = None
    with RunDirectory.create(where, world, dumps(plan.resolved()), overwrite=force) as target:
        problem = None
        if world.root:
            try:
                _create(plan, target.sequences_file)
            except (OSError, SequencesError) as error:
                problem = error
        world.agree(problem)
        return _go(world, plan, target)


def resume(world, directory, walltime=None) -> int:
    """Makes what is missing in a run directory."""
    with RunDirectory.open(directory, world) as target:
        plan = read_plan(world, target.run_file)
        world.use_threads(plan.values["parallel"]["threads"])
        if walltime is not None:
            plan.values["job"]["walltime"] = walltime
        problem = None
        if world.root and not target.sequences_file.exists():  # killed in its first moment
            try:
                _create(plan, target.sequences_file)
            except (OSError, SequencesError) as error:
                problem = error
        world.agree(problem)
        return _go(world, plan, target)


def _create(plan, path):
    table, grid = plan.values["set"], plan.of(0)["grid"]
    shape, stride = kept_shape(plan), table["stride"]
    create_sequences(
        path,
        frames=table["frames"],
        shape=shape,
        seed=plan.seed,
        start=plan.start,
        validation=plan.validation,
        parameters=plan.parameters,
        precision=table["precision"],
        spacing=np.multiply(grid["spacing"], stride),
        stride=stride,
        interval=plan.interval,
        first=table["first"],
        notes={} if plan.values["job"]["title"] is None else dict(title=plan.values["job"]["title"]),
    )


def _go(world, plan, target) -> int:
    title = plan.values["job"]["title"]
    world.log(f"Ostwald sequences{': ' + title if title else ''}")
    world.log(f"run directory {target.path}")
    world.log(world.describe())
    job = SequenceSet(world, plan, target)
    if not job.missing:
        world.log("this set is complete; nothing is left to do")
        return 0
    for line in described(plan):
        world.log(line)
    if world.size < plan.together:
        world.log.warning(f"[set] ranks is {plan.together}, there are {world.size}: all work on each sequence")
    world.log(f"{len(job.missing)} of {plan.count} sequences are to be made")
    return job.run()


def described(plan) -> list[str]:
    """What the set is: the head of the log."""
    table, values = plan.values["set"], plan.of(0)
    size = sequences_bytes(plan.count, table["frames"], kept_shape(plan), table["precision"])
    apart = f"{plan.interval:g} time units" if plan.adaptive else f"{plan.steps_between} steps of {table['timestep']:g}"
    lines = [
        f"{plan.count} sequences of {table['frames']} frames, {apart} apart, on "
        f"{' × '.join(map(str, values['grid']['shape']))} points; {' × '.join(map(str, kept_shape(plan)))} of them are kept in "
        f"{table['precision']} precision: {size / 1e9:.3g} GB",
    ]
    for key, numbers in plan.parameters.items():
        lines.append(f"{key} from {numbers.min():.6g} to {numbers.max():.6g}, mean {numbers.mean():.6g}")
    if plan.validation.any():
        lines.append(f"{int((~plan.validation).sum())} for training, {int(plan.validation.sum())} for validation")
    return lines


def check(world, path, ranks=None) -> int:
    """Validates a run file and prints what it would take: bytes, memory of a rank, time from a few steps measured here."""
    ranks = ranks or max(world.size, read_plan(world, path).together)
    plan = read_plan(world, path, thorough=True, ranks=ranks)
    values = plan.of(0)
    alone = world if world.size == 1 else world.split(world.rank)
    solver = build(alone, values, path)
    seconds = world.allreduce(seconds_of_a_step(solver, values), "max")
    table = plan.values["set"]
    steps = int(plan.steps_before.sum()) + plan.count * (table["frames"] - 1) * plan.steps_between
    for line in described(plan):
        world.log(line)
    world.log(f"memory       about {_memory(plan) / 1e6:.0f} MB per rank")
    folder = os.path.dirname(os.path.abspath(path))
    world.log(f"disk         {shutil.disk_usage(folder).free / 1e9:.3g} GB are free in {folder}")
    if plan.adaptive:
        world.log(f"time         steps as long as the tolerance allows, {1e3 * seconds:.3g} ms each")
        return 0
    world.log(
        f"time         {steps} steps, about {clock(seconds * steps / ranks)} on {ranks} ranks like this one "
        f"({1e3 * seconds:.3g} ms/step)"
    )
    return 0


def memory(world, path, ranks) -> float:
    """Validates a run file; bytes of one of `ranks` ranks."""
    return _memory(read_plan(world, path, thorough=True, ranks=ranks))


def _memory(plan) -> float:
    values = plan.of(0)
    return BASE_BYTES + footprint(values, precision(values), plan.together).memory / plan.together
