"""The evaluation of surrogates: protocols, each with many cases, dealt to ranks that are free; then all results in one page."""

from __future__ import annotations

import hashlib
import math
import time

import numpy as np

from ostwald.app.jobs import timing
from ostwald.app.jobs.ending import leave_report
from ostwald.app.jobs.evaluation_cases import Protocol, truth_of
from ostwald.app.jobs.evaluation_models import Models, load, longest_interval, meter
from ostwald.app.jobs.evaluation_schema import KIND, TABLES
from ostwald.app.jobs.phasefield_check import BASE_BYTES
from ostwald.app.jobs.progress import Progress, clock
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.phasefield import Diverged
from ostwald.app.runfile import RunFileError, dumps
from ostwald.app.surrogate.metrics import ERRORS, Descriptors
from ostwald.app.surrogate.resampling import resampled
from ostwald.app.surrogate.scores import summarise
from ostwald.io.arrayfile import ArrayFile, open_arrays
from ostwald.io.rundirectory import RunDirectory
from ostwald.parallel import CollectiveError, WorkQueue

SECTIONS = ("truth", "prediction", "measurement", "output")
SHOTS, SHOWN = 5, 2
"""Frames of which pictures are kept; cases of a protocol for which they are."""
LOOK = 1.0
"""Seconds between looks at how many cases are done."""


class Evaluation:
    """A run file as it is to be worked on. RunFileError.

    protocols, models; cases: (number of the protocol, number of the case in it), the longest first; grids: of each protocol, for
    each model.
    """

    def __init__(self, values, path):
        self.values, self.path = values, path
        loaded = load(values["model"], path)
        self.models = Models(values["model"], loaded, path)
        self.protocols = [Protocol(table, longest_interval(loaded), path) for table in values["protocol"]]
        names = [protocol.name for protocol in self.protocols]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise RunFileError(f"{path}: [[protocol]] name: '{twice}' stands twice")
        self.grids = [self.models.grids(protocol) for protocol in self.protocols]
        places = [(p, c) for p, protocol in enumerate(self.protocols) for c in range(len(protocol.cases))]
        self.cases = sorted(places, key=lambda place: -self.work(self.protocols[place[0]]))

    def digest(self, protocol, number) -> str:
        """Of all that a case depends on but files of frames."""
        of = self.protocols[protocol]
        hashes = [surrogate and surrogate.hash for surrogate in self.models.loaded]
        case, table = of.cases[number], [self.values["model"], self.grids[protocol], of.table["rollout"], hashes]
        told = repr([table, case.values, str(case.file), case.number, case.start, of.times.tolist()])
        return hashlib.sha256(told.encode()).hexdigest()

    @staticmethod
    def work(protocol) -> float:
        return math.prod(protocol.shape) * protocol.frames

    def try_all(self, alone) -> None:
        """Whether everything can be built, for the first case of each protocol."""
        for number in range(len(self.protocols)):
            CaseRun(alone, self, number, 0).close()


class CaseRun:
    """One case: the truth and all models side by side, frame by frame. world: of one rank."""

    def __init__(self, world, evaluation, protocol, number):
        self.world = world
        self.protocol, self.digest = evaluation.protocols[protocol], evaluation.digest(protocol, number)
        self.case, self.grids = self.protocol.cases[number], evaluation.grids[protocol]
        self._open = []
        try:
            self.truth = self._keep(truth_of(world, self.case))
            self.models = [
                self._keep(evaluation.models.make(k, world, self.protocol, self.case, grid))
                for k, grid in enumerate(self.grids)
            ]
            meters = {
                grid: self._keep(meter(world, self.protocol, self.case, grid)) for grid in dict.fromkeys(self.grids)
            }
        except BaseException:
            self.close()
            raise
        self.descriptors = {grid: Descriptors(solver) for grid, solver in meters.items()}
        self.columns = next(iter(self.descriptors.values())).columns
        self.shots = np.unique(np.rint(np.geomspace(1, self.protocol.frames, SHOTS)).astype(int) - 1)
        self.shown = number < SHOWN

    def _keep(self, made):
        self._open.append(made)
        return made

    def close(self):
        for made in self._open:
            made.close()
        self._open = []

    def frames(self):
        """Does the case, and stops after each frame for whoever waits; then `results` are there."""
        frames, count = self.protocol.frames, len(self.models)
        self.of_truth = {grid: np.full((frames, len(self.columns)), np.nan) for grid in self.descriptors}
        self.errors = np.full((count, frames, len(ERRORS)), np.nan)
        self.numbers = np.full((count, frames, len(self.columns)), np.nan)
        self.means, self.seconds = np.full((count, frames), np.nan), np.zeros(1 + count)
        self.seconds[1:][[not model.timed for model in self.models]] = np.nan
        self.lost = [None] * count
        self.spectra, self.planes = {}, {}
        for frame, now in enumerate(self.protocol.times):
            with self.world.timers("truth"):
                begun = time.process_time()
                fine = self.truth.advance(now) if frame else self.truth.start()
                self.seconds[0] += (time.process_time() - begun) * bool(frame)
            if not np.isfinite(fine).all():
                raise Diverged(f"the truth of {self.protocol.name} is not finite in frame {frame}")
            self._frame(frame, now, fine)
            yield frame

    def _frame(self, frame, now, fine):
        truths = {}
        for grid, descriptors in self.descriptors.items():
            with self.world.timers("measurement"):
                field = np.ascontiguousarray(resampled(fine, *grid))
                truths[grid] = field, descriptors.measure(field)
                self.of_truth[grid][frame] = list(truths[grid][1][0].values())
            self._remember(f"truth.{self.grids.index(grid)}", frame, field, truths[grid][1][1])
        for k, (model, grid) in enumerate(zip(self.models, self.grids)):
            if self.lost[k] is not None:
                continue
            try:
                with self.world.timers("prediction"):
                    begun = time.process_time()
                    model.advance(now) if frame else model.start(fine)
                    self.seconds[1 + k] += (time.process_time() - begun) * bool(frame)
                    guess = model.field()
                if not np.abs(guess).max() <= self.case.values["limits"]["field"]:
                    raise Diverged("the field is beyond [limits] field")
                with self.world.timers("measurement"):
                    found = self.descriptors[grid].measure(guess)
                    field, numbers = truths[grid]
                    compared = self.descriptors[grid].compare(
                        field, guess, numbers, found, fine if grid[0] > 1 else None
                    )
                self.errors[k, frame] = [compared[name] for name in ERRORS]
                self.numbers[k, frame] = list(found[0].values())
                self.means[k, frame] = model.mean()
                self._remember(f"model.{k}", frame, guess, found[1])
            except Diverged:
                self.lost[k] = frame

    def _remember(self, name, frame, field, profiles):
        """The plane in the middle at a few frames, and S(k) of the last one."""
        if self.shown and frame in self.shots:
            plane = field if field.ndim == 2 else field[len(field) // 2]
            self.planes.setdefault(name, np.full((len(self.shots), *plane.shape), np.nan, np.float32))
            self.planes[name][list(self.shots).index(frame)] = plane
        if frame == self.protocol.frames - 1 and profiles:
            self.spectra[name] = np.stack([profiles["wave_number"], profiles["structure_factor"]])

    def save(self, path):
        """Writes what was found, whole or not at all."""
        arrays = {f"truth.{self.grids.index(grid)}": rows for grid, rows in self.of_truth.items()}
        arrays |= dict(errors=self.errors, numbers=self.numbers, means=self.means, seconds=self.seconds)
        arrays |= {f"spectrum.{name}": found for name, found in self.spectra.items()}
        arrays |= {f"planes.{name}": found for name, found in self.planes.items()}
        places = [self.grids.index(grid) for grid in self.grids]
        meta = dict(
            columns=self.columns,
            truths=places,
            lost=self.lost,
            digest=self.digest,
            shots=self.shots.tolist(),
            solved=self.case.file is None,
        )
        with ArrayFile(path, self.world, {name: (a.shape, a.dtype) for name, a in arrays.items()}, meta) as file:
            for name, array in arrays.items():
                file.write(name, 0, np.ascontiguousarray(array))


class EvaluationJob:
    """The job on this rank: its share of the cases that are not there yet."""

    def __init__(self, world, evaluation, directory):
        self.world, self.evaluation, self.directory = world, evaluation, directory
        self.alone = world if world.size == 1 else world.split(world.rank)
        there = world.bcast([self._is_there(*place) for place in evaluation.cases] if world.root else None)
        self.missing = [place for place, done in zip(evaluation.cases, there) if not done]
        self.queue = WorkQueue(world, len(self.missing))
        self.stopping = Stopping(
            self.alone, evaluation.values["job"]["walltime"], dict(every=0, interval=math.inf), every=1
        )
        self.progress = Progress(world, len(there), done=sum(there), what="case")
        self.started = self.looked = time.monotonic()
        self.point_steps = 0

    def _is_there(self, protocol, case) -> bool:
        """Whether a case has its file; one of other models or another truth is removed."""
        file = self._file(protocol, case)
        if not file.exists():
            return False
        if open_arrays(file)[1]["digest"] == self.evaluation.digest(protocol, case):
            return True
        file.unlink()
        return False

    def _file(self, protocol, case):
        return self.directory.cases / f"case-{protocol}-{case}.h5"

    def run(self) -> int:
        """Does what is missing. 0 when all is there, EXIT_RESUME when stopped early."""
        reason, problem = None, None
        with self.stopping:
            try:
                while reason is None and (k := self.queue.take()) is not None:
                    reason = self._case(*self.missing[k])
            except (Diverged, RunFileError, OSError) as error:
                problem = error
            busy = time.monotonic() - self.started
            while not self.queue.everybody_done():
                time.sleep(0.02)
                self._look()
            self.queue.close()
            self.progress.close()
        self.world.agree(problem)
        return self._finish(reason, busy)

    def _case(self, protocol, number):
        """One case, or as much of it as there is time for: then why it was left."""
        work = CaseRun(self.alone, self.evaluation, protocol, number)
        try:
            for frame in work.frames():
                _, reason = self.stopping.test(frame)
                self.queue.progress()
                self._look()
                if reason:
                    return reason
            with self.world.timers("output"):
                work.save(self._file(protocol, number))
        finally:
            work.close()
        return None

    def _look(self):
        if self.world.root and time.monotonic() - self.looked > LOOK:
            self.looked = time.monotonic()
            self.progress.update(sum(self._file(*place).exists() for place in self.evaluation.cases))

    def _finish(self, reason, busy):
        world, evaluation = self.world, self.evaluation
        world.barrier()
        done = world.bcast(sum(self._file(*place).exists() for place in evaluation.cases) if world.root else None)
        reasons = [text for text in world.allgather(reason) if text]
        wall, finished = time.monotonic() - self.started, done == len(evaluation.cases)
        if self.alone is not world:
            world.timers.add(self.alone.timers)
        local = dict(resident_bytes=timing.resident_bytes(), busy_seconds=busy)
        sections, per_rank = timing.over_ranks(world, SECTIONS, wall, local)
        figures = dict(
            kind=KIND, ranks=world.size, threads=world.threads, cases=done, count=len(evaluation.cases),
            models=len(evaluation.models.names), wall_seconds=wall, sections=sections, per_rank=per_rank, finished=finished,
        )  # fmt: skip
        self.directory.write_json(self.directory.timing_file, figures)
        world.log("\n".join(["", *timing.section_lines(sections)]))
        if not finished:
            why = reasons[0] if reasons else "some are missing"
            world.log(
                f"stopped: {why}; {done} of {len(evaluation.cases)} cases are there. "
                f"To go on: ostwald resume {self.directory.path}"
            )
            return EXIT_RESUME
        found = self._results() if world.root else None
        self.directory.write_json(self.directory.evaluation_file, found)
        if world.root:
            for line in told(found):
                world.log(line)
        leave_report(world, self.directory)
        return 0

    def _results(self):
        found = []
        for p, protocol in enumerate(self.evaluation.protocols):
            cases = [open_arrays(self._file(p, c)) for c in range(len(protocol.cases))]
            found.append(summarise(protocol, self.evaluation.models.names, self.evaluation.models.tables, cases))
        return dict(protocols=found)


def told(found) -> list[str]:
    """The results for the log."""
    lines = []
    for protocol in found["protocols"]:
        lines += [
            "",
            f"{protocol['name']}: {protocol['count']} cases, {len(protocol['times'])} frames up to t = {protocol['times'][-1]:g}",
        ]
        lines.append(f"{'model':<24}{'RMSE':>10}{'δ':>10}{'|ΔF|/F':>10}{'SSIM':>10}{'drift':>10}{'CPU s':>10}")
        for name, model in protocol["models"].items():
            last = {key: model["errors"][key]["median"][-1] for key in ("rmse", "delta", "energy_error", "ssim")}
            cells = [*last.values(), model["drift"], model["seconds"]]
            lines.append(f"{name:<24}" + "".join(f"{x:>10.3g}" if x is not None else f"{'–':>10}" for x in cells))
    return lines


# ---- entry points ----------------------------------------------------------------------------------------------------


def plan(world, values, path, thorough=False) -> Evaluation:
    """Collective. RunFileError on every rank. One rank reads: a set of sequences may grow meanwhile."""
    problem = made = None
    alone = world if world.size == 1 else world.split(world.rank)
    if world.root:
        try:
            made = Evaluation(values, path)
            if thorough:
                made.try_all(alone)
        except RunFileError as error:
            problem = error
        except CollectiveError as error:  # a field that cannot be
            problem = RunFileError(str(error))
    world.agree(problem)
    return world.bcast(made)


def run(world, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    values = read_run_file(world, path, TABLES)
    world.use_threads(values["parallel"]["threads"])
    made = plan(world, values, path, thorough=True)
    where = directory or values["job"]["directory"] or default_directory(path)
    values["job"]["directory"] = None
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        return _go(world, made, target)


def resume(world, directory, walltime=None) -> int:
    """Does what is missing in a run directory."""
    with RunDirectory.open(directory, world) as target:
        values = read_run_file(world, target.run_file, TABLES)
        world.use_threads(values["parallel"]["threads"])
        if walltime is not None:
            values["job"]["walltime"] = walltime
        return _go(world, plan(world, values, target.run_file), target)


def _go(world, evaluation, target) -> int:
    title = evaluation.values["job"]["title"]
    world.log(f"Ostwald evaluation{': ' + title if title else ''}")
    world.log(f"run directory {target.path}")
    world.log(world.describe())
    target.make(target.cases)
    for line in described(evaluation):
        world.log(line)
    return EvaluationJob(world, evaluation, target).run()


def described(evaluation) -> list[str]:
    """What is evaluated: the head of the log."""
    lines = [f"models           {', '.join(evaluation.models.names)}"]
    for protocol in evaluation.protocols:
        shape = " × ".join(map(str, protocol.shape))
        source = "frames of" if protocol.made else "solved from"
        lines.append(
            f"{protocol.name:<17}{len(protocol.cases)} case{'s' * (len(protocol.cases) > 1)}, {shape} points, {protocol.frames} "
            f"frames up to t = {protocol.times[-1]:g}, {source} {protocol.place}"
        )
    return lines


def check(world, path, ranks=None) -> int:
    """Validates a run file and prints what it would take: memory of a rank, time from the first frames of each protocol."""
    values = read_run_file(world, path, TABLES)
    world.use_threads(values["parallel"]["threads"])
    made = plan(world, values, path, thorough=True)
    ranks = ranks or world.size
    for line in described(made):
        world.log(line)
    if not world.root:
        return 0
    alone, total, before = world if world.size == 1 else world.split(0), 0.0, timing.resident_bytes()
    for number, protocol in enumerate(made.protocols):
        work, begun, frames = CaseRun(alone, made, number, 0), time.perf_counter(), 0
        for frame in work.frames():
            if frame == 0:
                first = time.perf_counter() - begun
            frames = frame
            if frame and time.perf_counter() - begun > 1.0:
                break
        each = (time.perf_counter() - begun - first) / frames
        work.close()
        seconds = len(protocol.cases) * (first + each * (protocol.frames - 1))
        total += seconds
        world.log(
            f"{protocol.name:<17}about {clock(seconds)} of one rank, {1e3 * each:.3g} ms a frame, all models included"
        )
    memory = max(timing.resident_bytes() - before, 0) + BASE_BYTES
    world.log(f"memory       about {memory / 1e6:.0f} MB per rank")
    world.log(f"time         about {clock(total / min(ranks, len(made.cases)))} on {ranks} ranks like this one")
    return 0
