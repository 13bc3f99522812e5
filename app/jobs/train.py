"""The training job: from a data set to a potential that the native evaluator runs."""

from __future__ import annotations

import math
import time

import numpy as np

from ostwald.app.jobs import timing
from ostwald.app.jobs.ending import leave_report
from ostwald.app.jobs.progress import Progress
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.jobs.stopping import STOP_EVERY, Stopped, Stopping
from ostwald.app.jobs.train_schema import MINIBATCH, TABLES, check_whole
from ostwald.app.jobs.train_setup import Setup
from ostwald.app.runfile import dumps
from ostwald.app.training.errors import UNITS
from ostwald.io.checkpoint import read_checkpoint, write_checkpoint
from ostwald.io.rundirectory import RunDirectory
from ostwald.io.timeseries import TimeSeries
from ostwald.parallel import CollectiveError

COLUMNS = {
    "step": "",  # updates
    "epoch": "",
    "loss": "",
    "validation_loss": "",
    "energy_rmse": "meV/atom",
    "force_rmse": "eV/Angstrom",
    "stress_rmse": "GPa",
    "rate": "",  # learning rate, or damping
    "seconds": "s",
}
SECTIONS = (
    "descriptors",
    "data",
    "gradient",
    "Jacobian",
    "normal equations",
    "solve",
    "evaluate",
    "optimiser",
    "validation",
    "communication",
    "output",
)


class Training:
    """A training job on this rank.

    setup: Setup. position: what a checkpoint says about the job, None for a new one.
    """

    def __init__(self, world, values, directory, setup, position=None):
        self.world, self.values, self.directory, self.setup = world, values, directory, setup
        self.trainer, self.network = setup.trainer, setup.network
        position = position or {}
        self.resumed = bool(position)
        self.wall_before = position.get("wall", 0.0)
        self.best, self.waited = position.get("best", math.inf), position.get("waited", 0)
        self.best_epoch = position.get("best_epoch", 0)
        self.losses, self.trained = list(position.get("losses", [])), position.get("structures", 0)
        self.best_theta = setup.best_theta
        self.first = self.trainer.updates
        self.total = values["optimiser"]["epochs"] * self.trainer.per_epoch
        self.finished = position.get("finished", False)
        self.started = time.monotonic()
        each = STOP_EVERY if values["optimiser"]["kind"] in MINIBATCH else 1
        self.stopping = Stopping(world, values["job"]["walltime"], values["checkpoint"], each)
        if self.resumed and directory.series_file.exists():
            self.series = TimeSeries.resume(directory.series_file, world, self.first)
        else:
            self.series = TimeSeries.create(directory.series_file, world, columns=COLUMNS)
        self.progress = Progress(world, self.total, done=self.first)

    def run(self) -> int:
        """Trains until done. 0 when done, EXIT_RESUME when stopped early with a checkpoint."""
        world, trainer = self.world, self.trainer
        with self.stopping:
            try:
                if not self.resumed:
                    self._validate()
                    self.write_checkpoint()
                while not self.finished and trainer.updates < self.total:
                    self._update()
                    if trainer.updates % self.stopping.every == 0:
                        self._service()
                self.finished = True
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
            raise CollectiveError(
                f"the loss is {trainer.value} at update {trainer.updates}: the learning rate or the data are at fault. "
                f"The last checkpoint stays: {self.directory.checkpoints}"
            )
        self.losses.append(trainer.value)
        self.trained += trainer.batch
        if not lower:
            self.world.log("no step lowers the loss any more")
            self.finished = True
        if trainer.updates % trainer.per_epoch == 0 or self.finished:
            epoch = trainer.updates // trainer.per_epoch
            if epoch % self.values["validation"]["every"] == 0 or trainer.updates >= self.total or self.finished:
                self._validate()
                patience = self.values["validation"]["patience"]
                if patience and self.waited >= patience:
                    self.world.log(f"no better potential for {patience} validations")
                    self.finished = True

    def _validate(self):
        """Errors on the validation set: a row, and the best parameters."""
        trainer, setup = self.trainer, self.setup
        with self.world.timers("validation"):
            found = setup.errors(trainer.best_theta, "validation")
        loss = float(np.mean(self.losses)) if self.losses else math.nan
        self.losses = []
        epoch = trainer.updates // trainer.per_epoch
        if found.loss < self.best:
            self.best, self.best_epoch, self.waited = found.loss, epoch, 0
            self.best_theta[:] = trainer.best_theta.detach().to("cpu").numpy()
        else:
            self.waited += 1
        rmse = {f"{name}_rmse": found.rmse(name) for name in ("energy", "force", "stress")}
        seconds = self.wall_before + time.monotonic() - self.started
        row = dict(step=trainer.updates, epoch=epoch, loss=loss, validation_loss=found.loss, **rmse, rate=trainer.pace)
        with self.world.timers("output"):
            self.series.append(**row, seconds=seconds)
        shown = "  ".join(
            f"{rmse[f'{name}_rmse']:.4g} {unit}" for name, unit in UNITS.items() if math.isfinite(rmse[f"{name}_rmse"])
        )
        self.progress.line(
            f"epoch {epoch:>5}  loss {loss:.5g}  validation {found.loss:.5g}{'*' if not self.waited else ' '}  RMSE {shown}  "
            f"{trainer.pace_name} {trainer.pace:.2g}",
            trainer.updates,
        )

    def _service(self):
        """Signals, wall time, due checkpoints: decided together."""
        due, reason = self.stopping.test(self.trainer.updates)
        self.progress.update(self.trainer.updates)
        if due:
            self.write_checkpoint()
        if reason:
            raise Stopped(reason)

    def write_checkpoint(self):
        """All that `resume` needs to go on as if nothing had happened."""
        world, begun = self.world, time.monotonic()
        with world.timers("output"):
            self.series.sync()
            arrays, numbers = self.setup.state()
            arrays = {name: array if world.root else array[:0] for name, array in arrays.items()}
            job = dict(
                wall=self.wall_before + begun - self.started,
                best=self.best,
                best_epoch=self.best_epoch,
                waited=self.waited,
                losses=self.losses,
                structures=self.trained,
                finished=self.finished,
            )
            meta = dict(optimiser=numbers, job=job)
            write_checkpoint(self.directory.checkpoints, world, arrays, meta, self.trainer.updates)
        self.stopping.written(begun)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _finish(self, status):
        world, setup, directory = self.world, self.setup, self.directory
        wall = time.monotonic() - self.started
        world.log(f"\nbest: epoch {self.best_epoch}, validation loss {self.best:.6g}")
        setup.export(self.best_theta, directory.potential)
        found = {}
        for part in ("training", "validation"):
            errors = setup.errors(self.best_theta, part)
            found[part] = errors.as_json()
            world.log(f"\n{part}, {len(setup.indices[part])} structures\n{errors.table()}")
        difference = setup.deployed(directory.potential)
        world.log(
            f"\npotential  {directory.potential}; as the native evaluator reads it, forces differ by {difference:.1e} eV/Å"
        )
        if difference > 1e-9:
            world.log.warning(
                f"the potential on the disk does not give the network's forces: {difference:.1e} eV/Å apart"
            )
        directory.write_json(directory.errors_file, found)
        setup.write_predictions(self.best_theta, directory.predictions_file)
        updates = self.trainer.updates - self.first
        local = dict(resident_bytes=timing.resident_bytes(), cpu_seconds=time.process_time())
        sections, per_rank = timing.over_ranks(world, SECTIONS, wall, local)
        cpu = per_rank["cpu_seconds"]["mean"] * world.size
        structures = updates * self.trainer.batch
        figures = dict(
            kind="train",
            ranks=world.size,
            threads=world.threads,
            optimiser=self.values["optimiser"]["kind"],
            parameters=self.network.size,
            updates=updates,
            wall_seconds=wall,
            structures_per_second=structures / wall,
            atoms_per_second=structures * setup.atoms_per_structure / wall,
            communication=sections["communication"]["mean"] / wall if wall else 0.0,
            sections=sections,
            per_rank=per_rank,
            total_wall_seconds=self.wall_before + wall,
            total_updates=self.trainer.updates,
            best_epoch=self.best_epoch,
            finished=status == 0,
            checkpoint_seconds=self.stopping.checkpoint_seconds,
        )
        world.log(
            f"\n{updates} updates in {wall:.1f} s on {world.size} ranks × {world.threads} threads ({cpu:.1f} s of processor time): {figures['structures_per_second']:.4g} "
            f"structures/s, {figures['atoms_per_second']:.4g} atoms/s, {100 * figures['communication']:.1f} % in communication\n\n"
            + "\n".join(timing.section_lines({name: s for name, s in sections.items() if s["max"] > 0}))
        )
        self.series.close()
        directory.write_json(directory.timing_file, figures)
        setup.close(keep=status != 0)
        if status == 0:
            leave_report(world, directory)


def run(world, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    values = read_run_file(world, path, TABLES, check_whole)
    world.use_threads(values["parallel"]["threads"])
    setup = Setup(world, values, path)  # what is wrong is said before anything is written
    where = directory or values["job"]["directory"] or default_directory(path)
    values["job"]["directory"] = None
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        begin(world, values, setup, target)
        return Training(world, values, target, setup).run()


def resume(world, directory, walltime=None) -> int:
    """Continues a run directory from its newest valid checkpoint."""
    with RunDirectory.open(directory, world) as target:
        values = read_run_file(world, target.run_file, TABLES, check_whole)
        world.use_threads(values["parallel"]["threads"])
        if walltime is not None:
            values["job"]["walltime"] = walltime
        setup = Setup(world, values, target.run_file)
        begin(world, values, setup, target)
        arrays = {name: np.empty(setup.network.size) for name in setup.state()[0]}
        checkpoint = read_checkpoint(target.checkpoints, world, targets={name: (0, a) for name, a in arrays.items()})
        for message in checkpoint.messages:
            world.log.warning(message)
        position = checkpoint.meta["job"]
        setup.restore(arrays, checkpoint.meta["optimiser"])
        if position["finished"]:
            setup.close()
            world.log("this run is complete; nothing is left to do")
            return 0
        world.log(f"resumed at update {setup.trainer.updates}, written by {checkpoint.ranks} ranks")
        return Training(world, values, target, setup, position).run()


def begin(world, values, setup, directory):
    """The head of the log; then the setup is prepared."""
    title = values["job"]["title"]
    world.log(f"Ostwald training{': ' + title if title else ''}")
    world.log(f"run directory {directory.path}")
    world.log(world.describe())
    world.log(setup.describe())
    for line in world.bcast(setup.findings() if world.root else None):
        world.log.warning(line)
    setup.prepare(directory)


def check(world, path, ranks=None) -> int:
    """Validates a run file and prints what it would take."""
    values = read_run_file(world, path, TABLES, check_whole)
    setup = Setup(world, values, path)
    world.log(setup.describe())
    v, structures = values["optimiser"], len(setup.indices["training"])
    updates = v["epochs"] * (-(-structures // v["batch"]) if v["kind"] in MINIBATCH else 1)
    world.log(f"{v['kind']}, {v['epochs']} epochs, {updates} updates")
    for line in setup.findings() if world.root else ():
        world.log.warning(line)
    return 0
