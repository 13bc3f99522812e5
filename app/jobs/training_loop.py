"""The loop of every training job: updates, validations, the best parameters, checkpoints, early stops, the end.

What is trained comes from the job's setup; the loop knows parameters as one vector, and errors as columns of numbers.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ostwald.app.jobs import timing
from ostwald.app.jobs.ending import leave_report
from ostwald.app.jobs.progress import Progress
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.jobs.stopping import Stopped, Stopping
from ostwald.app.runfile import dumps
from ostwald.io.checkpoint import list_checkpoints, read_checkpoint, write_checkpoint
from ostwald.io.rundirectory import RunDirectory
from ostwald.io.text import read_text
from ostwald.io.timeseries import TimeSeries
from ostwald.parallel import CollectiveError

SECTIONS = ("gradient", "evaluate", "optimiser", "validation", "communication", "output")


@dataclass(frozen=True)
class Kind:
    """A kind of training: the tables of its run file, `check_whole(values, path)` of them together, and its setup.

    setup(world, values, path) -> an object that says what is wrong before anything is written, with

    describe() -> str; findings() -> [str] of doubts, on rank 0
    prepare(directory): the work before the first update; makes .trainer (app.training.trainer.Trainer)
    columns: {name: unit} of the series, beside those of the loop; sections: names of timers, beside SECTIONS
    validate() -> (the number that decides which parameters are the best, {column: value} with validation_loss, words for the log)
    finish(directory) -> figures for timing.json: the trainer has the best parameters; writes what the job is for
    work: {"structures": 1, "atoms": 12.5}: what an item of the training set amounts to, in what speeds are told in
    close(keep): at the end; keep: the run is to be resumed

    validate and finish are collective and find the parameters in place.
    """

    tables: list
    check_whole: Callable
    setup: Callable


class Training:
    """A training job on this rank.

    setup: of a Kind, prepared. position: what a checkpoint says about the job, None for a new one; best (p,): the best parameters so far.
    """

    def __init__(self, world, values, directory, setup, position=None, best=None):
        self.world, self.values, self.directory, self.setup = world, values, directory, setup
        self.trainer = setup.trainer
        self.resumed, position = position is not None, position or {}
        self.wall_before = position.get("wall", 0.0)
        self.best, self.waited = position.get("best", math.inf), position.get("waited", 0)
        self.best_epoch, self.mark = position.get("best_epoch", 0), position.get("mark", math.inf)
        self.losses = list(position.get("losses", []))
        self.best_theta = self.trainer.theta if best is None else best
        self.first = self.trainer.updates
        self.total = values["optimiser"]["epochs"] * self.trainer.per_epoch
        self.ended = position.get("ended")  # why the updates are over, if they are; then only the end is left to do
        if self.ended == "epochs" and self.first < self.total:  # the run file has more of them now
            self.ended = None
        self.started = time.monotonic()
        self.stopping = Stopping(world, values["job"]["walltime"], values["checkpoint"], self.trainer.look_every)
        if self.resumed and directory.series_file.exists():
            self.series = TimeSeries.resume(directory.series_file, world, self.first)
        else:
            columns = {"step": "", "epoch": "", "loss": "", "validation_loss": ""}  # a step is an update
            columns |= setup.columns | {"rate": "", "seconds": "s"}  # learning rate, or damping
            self.series = TimeSeries.create(directory.series_file, world, columns=columns)
        self.progress = Progress(world, self.total, done=self.first)

    def run(self) -> int:
        """Trains until done. 0 when done, EXIT_RESUME when stopped early with a checkpoint."""
        world, trainer = self.world, self.trainer
        with self.stopping:
            try:
                if not self.resumed:
                    self._validate()
                    self.write_checkpoint()
                while not self.ended and trainer.updates < self.total:
                    self._update()
                    if trainer.updates % self.stopping.every == 0:
                        self._service()
                self.ended = self.ended or "epochs"
                self.write_checkpoint()
                status = 0
            except Stopped as reason:
                status = reason.status
                world.log(
                    f"stopped: {reason}; checkpoint at update {trainer.updates}. To go on: ostwald resume {self.directory.path}"
                )
            finally:
                self.progress.close()
        self._finish(status)
        return status

    # ---- on the way -------------------------------------------------------------------------------------------------

    def _update(self):
        """One update, and what follows an epoch."""
        trainer = self.trainer
        lower = trainer.step()
        if not math.isfinite(trainer.value):
            self._lost(f"the loss is {trainer.value} at")
        self.losses.append(trainer.value)
        if not lower:
            self.world.log("no step lowers the loss any more")
            self.ended = "level"
        if trainer.updates % trainer.per_epoch == 0 or self.ended:
            epoch = trainer.updates // trainer.per_epoch
            if epoch % self.values["validation"]["every"] == 0 or trainer.updates >= self.total or self.ended:
                self._validate()
                patience = self.values["validation"]["patience"]
                if patience and self.waited >= patience:
                    self.world.log(f"nothing better for {patience} validations")
                    self.ended = "patience"

    def _lost(self, what):
        raise CollectiveError(
            f"{what} update {self.trainer.updates}: the learning rate or the data are at fault. "
            f"The last checkpoint stays: {self.directory.checkpoints}"
        )

    def _validate(self):
        """Errors on the validation set: a row, and the best parameters."""
        trainer = self.trainer
        theta = trainer.best_theta
        with self.world.timers("validation"), trainer.using(theta):
            found, row, words = self.setup.validate()
        loss = float(np.mean(self.losses)) if self.losses else math.nan
        self.losses = []
        epoch = trainer.updates // trainer.per_epoch
        better = found < self.best
        if better:
            self.best, self.best_epoch, self.best_theta = found, epoch, theta
        self.waited += 1
        if found < self.mark - self.values["validation"]["gain"]:
            self.mark, self.waited = found, 0
        trainer.validated(found)
        seconds = self.wall_before + time.monotonic() - self.started
        with self.world.timers("output"):
            self.series.append(step=trainer.updates, epoch=epoch, loss=loss, **row, rate=trainer.pace, seconds=seconds)
        self.progress.line(
            f"epoch {epoch:>5}  loss {'–' if math.isnan(loss) else f'{loss:.5g}'}  validation {row['validation_loss']:.5g}{'*' if better else ' '}  {words}  "
            f"{trainer.pace_name} {trainer.pace:.2g}",
            trainer.updates,
        )

    def _service(self):
        """Signals, wall time, due checkpoints: decided together."""
        due, reason = self.stopping.test(self.trainer.updates)
        self.progress.update(self.trainer.updates)
        if due:
            if not np.isfinite(self.trainer.theta).all():  # no checkpoint of it: those that are there stay good
                self._lost("a parameter is infinite or no number after")
            self.write_checkpoint()
        if reason:
            raise Stopped(reason)

    def write_checkpoint(self):
        """All that `resume` needs to go on as if nothing had happened."""
        world, begun = self.world, time.monotonic()
        with world.timers("output"):
            self.series.sync()
            arrays, numbers = {"theta": self.trainer.theta, "best": self.best_theta}, {}
            for name, value in self.trainer.state().items():
                (arrays if isinstance(value, np.ndarray) else numbers)[name] = value
            if not world.root:
                arrays = {name: array[:0] for name, array in arrays.items()}
            job = dict(
                wall=self.wall_before + begun - self.started,
                best=self.best,
                best_epoch=self.best_epoch,
                mark=self.mark,
                waited=self.waited,
                losses=self.losses,
                ended=self.ended,
            )
            meta = dict(optimiser=numbers, job=job)
            write_checkpoint(self.directory.checkpoints, world, arrays, meta, self.trainer.updates)
        self.stopping.written(begun)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _finish(self, status):
        world, setup, directory, trainer = self.world, self.setup, self.directory, self.trainer
        wall = time.monotonic() - self.started
        world.log(f"\nbest: epoch {self.best_epoch}, {self.values['validation']['objective']} {self.best:.6g}")
        with trainer.using(self.best_theta):
            own = setup.finish(directory)
        updates = trainer.updates - self.first
        local = dict(resident_bytes=timing.resident_bytes(), cpu_seconds=time.process_time())
        names = dict.fromkeys((*setup.sections, *SECTIONS))
        sections, per_rank = timing.over_ranks(world, names, wall, local)
        speeds = {what: updates * trainer.batch * each / wall for what, each in setup.work.items()}
        figures = dict(
            kind=self.values["job"]["kind"],
            ranks=world.size,
            threads=world.threads,
            optimiser=self.values["optimiser"]["kind"],
            parameters=len(self.best_theta),
            updates=updates,
            wall_seconds=wall,
            **{f"{what}_per_second": speed for what, speed in speeds.items()},
            communication=sections["communication"]["mean"] / wall,
            sections=sections,
            per_rank=per_rank,
            total_wall_seconds=self.wall_before + wall,
            total_updates=trainer.updates,
            best_epoch=self.best_epoch,
            best=self.best,
            finished=status == 0,
            checkpoint_seconds=self.stopping.checkpoint_seconds,
            **own,
        )
        cpu = per_rank["cpu_seconds"]["mean"] * world.size
        world.log(
            f"\n{updates} updates in {wall:.1f} s on {world.size} ranks × {world.threads} threads ({cpu:.1f} s of processor time): "
            + "".join(f"{speed:.4g} {what}/s, " for what, speed in speeds.items())
            + f"{100 * figures['communication']:.1f} % in communication\n\n"
            + "\n".join(timing.section_lines({name: s for name, s in sections.items() if s["max"] > 0}))
        )
        self.series.close()
        directory.write_json(directory.timing_file, figures)
        setup.close(keep=status != 0)
        if status == 0:
            leave_report(world, directory)


def run(world, kind: Kind, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    values = read_run_file(world, path, kind.tables, kind.check_whole)
    world.use_threads(values["parallel"]["threads"])
    setup = kind.setup(world, values, path)  # what is wrong is said before anything is written
    where = directory or values["job"]["directory"] or default_directory(path)
    values["job"]["directory"] = None
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        begin(world, values, setup, target)
        return Training(world, values, target, setup).run()


def resume(world, kind: Kind, directory, walltime=None) -> int:
    """Continues a run directory from its newest valid checkpoint."""
    with RunDirectory.open(directory, world) as target:
        values = read_run_file(world, target.run_file, kind.tables, kind.check_whole)
        world.use_threads(values["parallel"]["threads"])
        if walltime is not None:
            values["job"]["walltime"] = walltime
        return go_on(world, values, kind.setup(world, values, target.run_file), target)


def go_on(world, values, setup, directory) -> int:
    """Continues an open run directory from its newest valid checkpoint."""
    begin(world, values, setup, directory)
    trainer = setup.trainer
    arrays = {"theta": trainer.theta, "best": trainer.theta}
    arrays |= {name: value for name, value in trainer.state().items() if isinstance(value, np.ndarray)}
    _require_same_network(world, directory, len(arrays["theta"]))
    checkpoint = read_checkpoint(directory.checkpoints, world, targets={name: (0, a) for name, a in arrays.items()})
    for message in checkpoint.messages:
        world.log.warning(message)
    position = checkpoint.meta["job"]
    trainer.theta = arrays["theta"]
    trainer.restore(checkpoint.meta["optimiser"] | arrays)
    training = Training(world, values, directory, setup, position, arrays["best"])
    if training.ended and is_finished(world, directory.timing_file):
        training.series.close()
        setup.close()
        world.log("this run is complete; nothing is left to do")
        return 0
    world.log(f"resumed at update {trainer.updates}, written by {checkpoint.ranks} ranks")
    return training.run()


def _require_same_network(world, directory, parameters):
    """Collective. CollectiveError where the newest checkpoint is of another network than the run file's."""
    newest = world.bcast([found.rows for found in list_checkpoints(directory.checkpoints)][-1:] if world.root else None)
    if newest and newest[0] not in (parameters, 0):
        raise CollectiveError(
            f"{directory.checkpoints}: of a network with {newest[0]} parameters, that of {directory.run_file} has {parameters}: "
            "the run file was changed"
        )


def is_finished(world, timing_file) -> bool:
    """Collective: whether what is written at the end of a training is all there; the figures are the last of it."""
    return world.bcast(world.root and figures_of(timing_file).get("finished", False))


def figures_of(timing_file) -> dict:
    """What the last end of a training left; {} where there was none."""
    return json.loads(read_text(timing_file)) if timing_file.exists() else {}


def begin(world, values, setup, directory):
    """The head of the log; then the setup is prepared."""
    introduce(world, values, setup, directory)
    setup.prepare(directory)


def introduce(world, values, setup, directory):
    """The head of the log."""
    title = values["job"]["title"]
    world.log(f"Ostwald training{': ' + title if title else ''}")
    world.log(f"run directory {directory.path}")
    world.log(world.describe())
    world.log(setup.describe())
    for line in world.bcast(setup.findings() if world.root else None):
        world.log.warning(line)


def check(world, kind: Kind, path, ranks=None) -> int:
    """Validates a run file and prints what it would take."""
    values = read_run_file(world, path, kind.tables, kind.check_whole)
    setup = kind.setup(world, values, path)
    world.log(setup.describe())
    for line in setup.findings() if world.root else ():
        world.log.warning(line)
    return 0
