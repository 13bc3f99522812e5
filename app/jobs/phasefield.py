"""The phase-field job: a Cahn–Hilliard run with everything that is written on the way."""

from __future__ import annotations

import math
import time

import numpy as np

from ostwald.app.jobs import timing
from ostwald.app.jobs.ending import leave_report
from ostwald.app.jobs.phasefield_grid import check_parts
from ostwald.app.jobs.phasefield_outputs import Outputs
from ostwald.app.jobs.phasefield_schema import TABLES
from ostwald.app.jobs.phasefield_setup import build, initial_field, make_noise, set_initial
from ostwald.app.jobs.phasefield_stages import Stages, described, order
from ostwald.app.jobs.progress import Progress
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.jobs.stopping import STOP_EVERY, Stopped, Stopping
from ostwald.app.phasefield import Diverged
from ostwald.app.runfile import RunFileError, dumps
from ostwald.io.checkpoint import list_checkpoints, read_checkpoint, write_checkpoint
from ostwald.io.rates import LEAST, Rate, disk_rate
from ostwald.io.rates import lines as lines_of_rates
from ostwald.io.rundirectory import RunDirectory
from ostwald.io.timeseries import TimeSeries

COLUMNS = ("step", "time", "energy", "bulk", "gradient", "elastic", "mean", "low", "high", "point_steps_per_second")
ADAPTIVE_COLUMNS = ("timestep", "error")
"""Of steps of second order: length of the step that led to a row, and its error."""
SECTIONS = ("step", "analysis", "output")
SMALL = 50_000
"""Points of a rank below which signals and wall time are looked at every STOP_EVERY steps, not at each."""


class PhaseField:
    """A phase-field job on this rank.

    values: the validated run file. directory: RunDirectory. solver: CahnHilliard with its field.
    position: what a checkpoint says about the job, or None for a new one. kept: the step of the newest checkpoint, None where
    there is none yet.

    Row and frame of a step are written when the step is left, so those of a checkpoint's step are not yet there.

    title, tables, build, initial: of the kind of job. completed(values, solver): the values of a run file, and what the solver knows beyond them.
    rising: why the free energy may rise.
    """

    title, tables, rising = "phase field", TABLES, "the time step is too long"
    build, initial = staticmethod(build), staticmethod(initial_field)

    @staticmethod
    def completed(values, solver) -> dict:
        return values

    def __init__(self, world, values, directory, solver, *, position=None):
        self.world, self.values, self.directory, self.solver = world, values, directory, solver
        self.resumed = position is not None
        position = position or {}
        self.wall_before = position.get("wall", 0.0)
        self.energy, self.rises = position.get("energy"), position.get("rises", 0)
        self.stages = Stages(values["stage"], solver, position.get("stages"))
        self.first_step = self.series_mark = solver.steps
        self.started = self.series_time = time.monotonic()
        each = STOP_EVERY if solver.points < SMALL * world.size else 1
        self.stopping = Stopping(world, values["job"]["walltime"], values["checkpoint"], each)
        self.checkpoints = Rate()
        self.kept = solver.steps if self.resumed else None
        self.outputs = Outputs(world, values, directory, solver, position.get("outputs", {}) if self.resumed else None)
        if self.resumed and directory.series_file.exists():
            self.series = TimeSeries.resume(directory.series_file, world, solver.steps - 1)
        else:
            more = ADAPTIVE_COLUMNS if order(values) == 2 else ()
            columns = dict.fromkeys((*COLUMNS, *more, *self.outputs.columns), "")
            self.series = TimeSeries.create(directory.series_file, world, columns=columns)
        self.progress = Progress(world, self.stages.total, done=self.stages.done)

    # ---- the run ----------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Runs what is left. 0 when done, EXIT_RESUME when stopped early with a checkpoint."""
        world, solver, stages = self.world, self.solver, self.stages
        with self.stopping:
            try:
                if not self.resumed:
                    self.write_checkpoint()
                while not stages.finished:
                    number, stage = stages.number + 1, stages.stage
                    world.log(f"stage {number} of {len(stages.stages)}, {stage['name'] or number}: {described(stage)}")
                    self._run_stage()
                    stages.next()
                numbers = self._tested(solver.measure())
                self._row(solver.steps, solver.time, numbers | self.outputs.look(last=True), last=True)
                self.write_checkpoint()
                status = 0
            except Stopped as reason:
                status = reason.status
                world.log(
                    f"stopped: {reason}; checkpoint at step {solver.steps}. To go on: ostwald resume {self.directory.path}"
                )
            except Diverged as error:
                kept = f". The checkpoint of step {self.kept} stays: {self.directory.checkpoints}"
                stays = "" if self.kept is None else kept
                raise Diverged(f"{error}{stays}") from error
            finally:
                self.progress.close()
        self._finish(status)
        return status

    def _run_stage(self):
        solver, timers, stages = self.solver, self.world.timers, self.stages
        series, log, limits = (self.values[table]["every"] for table in ("series", "log", "limits"))
        while not stages.ended:
            step, now = solver.steps, solver.time
            looked = self.outputs.look()
            row = step % series == 0 or step % log == 0 or looked
            with timers("step"):
                numbers = stages.advance(row or step % limits == 0, self.outputs.next_time(now))
            if numbers is not None:
                self._tested(numbers, step, now)
            if row:
                self._row(step, now, numbers | looked)
            if solver.steps % self.stopping.every == 0:
                self._service()

    def _tested(self, numbers, step=None, now=None) -> dict:
        """The numbers of a state, by default the present one. Raises Diverged where φ is beyond the limit."""
        solver, limit = self.solver, self.values["limits"]["field"]
        if max(-numbers["low"], numbers["high"]) > limit:
            step, now = (solver.steps, solver.time) if step is None else (step, now)
            raise Diverged(
                f"the field runs from {numbers['low']:.6g} to {numbers['high']:.6g} at step {step}, time {now:g}: beyond "
                f"[limits] field = {limit:g}"
            )
        return numbers

    def _service(self):
        """Signals, wall time, due checkpoints: decided together."""
        due, reason = self.stopping.test(self.solver.steps)
        self.progress.update(self.stages.done)
        if due:
            self.write_checkpoint()
        if reason:
            raise Stopped(reason)

    # ---- what is written --------------------------------------------------------------------------------------

    def _row(self, step, now, numbers, last=False):
        solver, clock_now = self.solver, time.monotonic()
        speed = solver.points * (step - self.series_mark) / max(clock_now - self.series_time, 1e-9)
        self.series_mark, self.series_time = step, clock_now
        self._watch_energy(step, numbers["energy"])
        row = dict(step=step, time=now, **numbers, point_steps_per_second=speed)
        with self.world.timers("output"):
            self.series.append(**{name: row.get(name, math.nan) for name in self.series.columns})
        if last or step % self.values["log"]["every"] == 0:
            n = numbers
            parts = f"bulk {n['bulk']:.6g}, gradient {n['gradient']:.6g}"
            if solver.elasticity is not None:
                parts += f", elastic {n['elastic']:.6g}"
            if solver.equilibrium is not None:
                parts += f" in {solver.equilibrium.iterations} iterations"
            length = n.get("length", n.get("interface_length"))
            more = f"L {length:.4g}  " if length is not None else ""
            self.progress.line(
                f"step {step:>9}  time {now:.6g}  F/V {n['energy'] / solver.volume:.9g}  ({parts})  φ {n['low']:.4f} … "
                f"{n['high']:.4f}  {more}{speed:.3g} point-steps/s",
                self.stages.done,
            )

    def _watch_energy(self, step, energy):
        """Neither equation ever raises the free energy; a step that is too long does, and noise."""
        if make_noise(self.values):
            return
        close = 1e-10 if self.solver.dtype == np.float64 else 1e-5
        if self.energy is not None and energy - self.energy > close * abs(self.energy) + self.solver.uncertainty:
            self.rises += 1
            if self.rises == 1:
                self.world.log.warning(
                    f"the free energy rose from {self.energy:.9g} to {energy:.9g} up to step {step}: {self.rising}"
                )
        self.energy = energy

    def write_checkpoint(self):
        """The whole state, so that `resume` goes on as if nothing had happened. A state that is not finite is not written."""
        world, solver = self.world, self.solver
        begun = time.monotonic()
        self._tested(solver.measure())
        with world.timers("output"):
            self.series.sync()  # first, so that no checkpoint on the disk is ever ahead of what it says was written
            self.outputs.sync()
            arrays, starts, numbers = solver.state()
            job = dict(wall=self.wall_before + begun - self.started, energy=self.energy, rises=self.rises)
            job["outputs"], job["stages"] = self.outputs.state(), self.stages.state()
            meta = dict(grid=list(solver.parts.shape), time=solver.time, solver=numbers, job=job)
            size = int(world.allreduce(float(sum(array.nbytes for array in arrays.values()))))
            with self.checkpoints.adding(size):
                write_checkpoint(self.directory.checkpoints, world, arrays, meta, solver.steps, starts)
        self.kept = solver.steps
        self.stopping.written(begun)

    def _finish(self, status):
        world, solver = self.world, self.solver
        wall, steps = time.monotonic() - self.started, solver.steps - self.first_step
        local = dict(points=math.prod(solver.parts.local), resident_bytes=timing.resident_bytes())
        sections, per_rank = timing.over_ranks(world, SECTIONS, wall, local)
        p0, p1 = solver.parts.ranks
        figures = dict(
            kind=self.values["job"]["kind"],
            ranks=world.size,
            threads=world.threads,
            grid=[p0, p1],
            shape=list(solver.parts.shape),
            precision=self.values["grid"]["precision"],
            points=solver.points,
            steps=steps,
            wall_seconds=wall,
            point_steps_per_second=solver.points * steps / wall if wall else 0.0,
            milliseconds_per_step=1e3 * sections["step"]["max"] / max(steps, 1),
            energy_rises=self.rises,
            adaptive=self.stages.figures(),
            sections=sections,
            per_rank=per_rank,
            total_wall_seconds=self.wall_before + wall,
            total_steps=solver.steps,
            time=solver.time,
            finished=status == 0,
            checkpoint_seconds=self.stopping.checkpoint_seconds,
            files=self._rates(status),
        )
        world.log("\n" + timing_table(figures))
        self.series.close()
        self.outputs.close()
        self.directory.write_json(self.directory.timing_file, figures)
        if status == 0:
            leave_report(world, self.directory)

    def _rates(self, status) -> dict:
        """How fast checkpoints and frames went, beside the disk: measured where that was much and there is time."""
        found = dict(checkpoints=self.checkpoints.figures(), frames=self.outputs.rate.figures())
        largest = max(f["bytes"] // max(f["count"], 1) for f in found.values())
        if status == 0 and largest >= LEAST:
            found["disk"] = disk_rate(self.world, self.directory.path, largest)
        return found


def timing_table(f) -> str:
    """Where the time went, for people."""
    lines = [
        f"{' × '.join(map(str, f['shape']))} points, {f['precision']} precision, {f['steps']} steps in {f['wall_seconds']:.2f} s "
        f"on {f['ranks']} ranks × {f['threads']} threads ({f['grid'][0]} × {f['grid'][1]} parts)",
        f"{f['milliseconds_per_step']:.4g} ms/step   {f['point_steps_per_second']:.4g} point-steps/s, all included",
        "",
        *timing.section_lines(f["sections"]),
        "",
        "memory of a rank: {min:.0f} to {max:.0f} MB".format(
            **{k: v / 1e6 for k, v in f["per_rank"]["resident_bytes"].items()}
        ),
        *lines_of_rates(f["files"]),
    ]
    return "\n".join(lines)


# ---- entry points -------------------------------------------------------------------------------------------------


def run(world, path, directory=None, force=False, job=PhaseField) -> int:
    """Starts the job of a run file; job: PhaseField or what is derived from it."""
    values = read_run_file(world, path, job.tables)
    world.use_threads(values["parallel"]["threads"])
    check_parts(values, path, world.size)
    solver = job.build(world, values, path, ranks=values["parallel"]["grid"])
    set_initial(solver, values, path, job.initial)
    where = directory or values["job"]["directory"] or default_directory(path)
    values["job"]["directory"] = None
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        values = job.completed(values, solver)
        announce(world, values, solver, target, job.title)
        return job(world, values, target, solver).run()


def resume(world, directory, walltime=None, job=PhaseField) -> int:
    """Continues a run directory from its newest valid checkpoint."""
    with RunDirectory.open(directory, world) as target:
        values = read_run_file(world, target.run_file, job.tables)
        world.use_threads(values["parallel"]["threads"])
        if walltime is not None:
            values["job"]["walltime"] = walltime
        ranks = values["parallel"]["grid"]
        if ranks and math.prod(ranks) != world.size:
            ranks = None  # it was for those ranks
        solver = job.build(world, values, target.run_file, ranks=ranks)
        values = job.completed(values, solver)
        _same_grid(world, target, solver.parts.shape)
        checkpoint = read_checkpoint(target.checkpoints, world, targets=solver.targets(), convert=solver.converter)
        for message in checkpoint.messages:
            world.log.warning(message)
        solver.restore(checkpoint.meta["solver"])
        if Stages(values["stage"], solver, checkpoint.meta["job"]["stages"]).finished:
            world.log("this run is complete; nothing is left to do")
            return 0
        announce(world, values, solver, target, job.title)
        world.log(f"resumed at step {solver.steps} (time {solver.time:g}), written by {checkpoint.ranks} ranks")
        return job(world, values, target, solver, position=checkpoint.meta["job"]).run()


def _same_grid(world, directory, shape):
    """Collective: RunFileError where the newest checkpoint is of another grid than the run file."""
    found = [each.grid for each in list_checkpoints(directory.checkpoints) if each.valid] if world.root else None
    found = world.bcast(found)
    if found and found[-1] != tuple(shape):
        grids = (" × ".join(map(str, grid)) for grid in (shape, found[-1]))
        raise RunFileError(
            "{}: [grid] shape: {}, but the checkpoint is of {} points".format(directory.run_file, *grids)
        )


def announce(world, values, solver, directory, job):
    """What runs, where and on what: the head of the log."""
    title = values["job"]["title"]
    world.log(f"Ostwald {job}{': ' + title if title else ''}")
    world.log(f"run directory {directory.path}")
    world.log(world.describe())
    world.log(solver.describe())
    box = " × ".join(f"{n * h:g}" for n, h in zip(solver.parts.shape, solver.spacing))
    spinodal = ", ".join(f"{x:.4g}" for x in solver.well.spinodal())
    world.log(f"box {box}; mean of φ {solver.mean:.9g}; g'' changes its sign at φ = {spinodal or 'none'}")
    if solver.elasticity is not None:
        of = " of the mean of two phases" if solver.equilibrium is not None else ""
        world.log(f"coherent elasticity: ε*:C:ε* = {solver.elasticity.energy0:.6g}{of}")
    if noise := make_noise(values):
        world.log(f"noise: kT {noise.temperature:g}, amplitude of each step {noise.amplitude:g}")


def check(world, path, ranks=None) -> int:
    """Validates a run file and prints what it would take, without running it."""
    from ostwald.app.jobs.phasefield_check import plan

    return plan(world, path, ranks)


def memory(world, path, ranks) -> float:
    """Validates a run file; bytes of one of `ranks` ranks."""
    from ostwald.app.jobs import phasefield_check

    return phasefield_check.memory(world, path, ranks)
