"""The molecular-dynamics job: stages of integration or minimisation with everything that is written on the way."""

from __future__ import annotations

import math
import time

import numpy as np

from ostwald.app import dynamics
from ostwald.app.atoms.system import System
from ostwald.app.atoms.units import BOLTZMANN, GPA
from ostwald.app.jobs import md_setup, timing, watch
from ostwald.app.jobs.conditions import Rates, conditions, stage_index
from ostwald.app.jobs.ending import leave_report
from ostwald.app.jobs.frames import Frames
from ostwald.app.jobs.md_schema import TABLES
from ostwald.app.jobs.observer import Observer
from ostwald.app.jobs.progress import Progress
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.jobs.stopping import STOP_EVERY, Stopped, Stopping
from ostwald.app.runfile import dumps
from ostwald.io.checkpoint import read_checkpoint, write_checkpoint
from ostwald.io.rundirectory import RunDirectory
from ostwald.io.timeseries import TimeSeries
from ostwald.parallel import CollectiveError


class MolecularDynamics:
    """A molecular-dynamics job on this rank.

    values: the validated run file. directory: RunDirectory. system: System.
    """

    def __init__(self, world, values, directory, system, *, position=None):
        self.world, self.values, self.directory, self.system = world, values, directory, system
        position = position or {}
        self.stage = position.get("stage", 0)
        self.stage_step = position.get("stage_step", 0)
        self.step = position.get("step", 0)
        self.time = position.get("time", 0.0)
        self.wall_before = position.get("wall", 0.0)
        self.integrator_state = position.get("integrator")
        # what the last forces were computed with: a kernel that also sums energies may round differently
        self.computed = position.get("computed", [True, True, True, []])
        self.watches = watch.watches(values, system, directory, position.get("watches"))
        self.ended = None
        self.resumed = bool(position)
        self.integrator = None
        self.started, self.cpu_started = time.monotonic(), time.process_time()
        self.first_step = self.step
        self.simulated = 0.0
        self.stopping = Stopping(world, values["job"]["walltime"], values["checkpoint"])
        self.row_mark = (time.monotonic(), self.step)
        self.stop, self.trigger = conditions(values, "stop"), conditions(values, "trigger")
        self.triggered = position.get("triggered")  # the step that did it
        self.rates = Rates.of(values, self.triggered is not None)
        self.reached, self.measured = None, {}  # why [stop] is met, and the numbers that it saw
        self.analysis = None
        if values["analysis"]["every"]:
            self.analysis = Observer(values["analysis"], system.atoms.species, labels=values["trajectory"]["structure"])
            self.followed = stage_index(values, values["analysis"]["nuclei_from"], len(values["stage"]) - 1)
        columns = dict(self.analysis.columns) if self.analysis else {}
        columns |= {name: "" for name, asked in (("triggered", self.trigger), ("stop", self.stop)) if asked}
        notes = {"analysis": self.analysis.describe()} if self.analysis else {}
        for each in self.watches:
            columns |= each.columns
        # rows and frames of this step are written already, but for a run that has only just begun
        kept = self.step if self.resumed and self.step > 0 else -1
        self.last_row = kept
        if self.resumed and directory.series_file.exists():
            self.series = TimeSeries.resume(directory.series_file, world, kept)
        else:
            self.series = TimeSeries.create(directory.series_file, world, columns, notes)
        if self.analysis:
            self.analysis.open(directory.nuclei_file, world, kept if self.resumed else None, position.get("nuclei"))
        self.trajectory = None
        if values["trajectory"]["every"] or values["trigger"]["trajectory_every"]:
            table, file = values["trajectory"], directory.trajectory_file
            observed = self.analysis.results if self.analysis else {}
            resume = kept if self.resumed else None
            self.trajectory = Frames(world, table, file, system, resume, observed=observed, notes=notes)
        self.steps = [md_setup.stage_steps(s) for s in values["stage"]]
        self.progress = Progress(world, sum(self.steps), done=self.step)

    # ---- the run ----------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Runs what is left. 0 when done, EXIT_RESUME when stopped early with a checkpoint."""
        with self.stopping:
            try:
                if not self.resumed:
                    self.system.update()
                    self.write_checkpoint()
                while self.stage < len(self.values["stage"]):
                    self._run_stage(self.values["stage"][self.stage])
                    self.stage, self.stage_step, self.integrator_state = self.stage + 1, 0, None
                    self.integrator = None
                    self.write_checkpoint()
                status = 0
            except Stopped as reason:
                status = reason.status
                self.ended = str(reason) if status == 0 else None
                self.world.log(
                    f"{'stopped' if status else 'ended'}: {reason}; checkpoint at step {self.step}. To go on: "
                    f"{'' if status else f'change that limit in {self.directory.run_file}, then '}"
                    f"ostwald resume {self.directory.path}"
                )
            finally:
                self.progress.close()
        self._finish(status)
        return status

    def _run_stage(self, stage):
        world, system = self.world, self.system
        label = stage["name"] or stage["ensemble"]
        total = self.steps[self.stage]
        md_setup.freeze(system, stage)
        if self.stage_step == 0:
            md_setup.start_stage(system, stage, self.values["job"]["seed"], self.stage)
            world.log(
                f"stage {self.stage + 1} of {len(self.values['stage'])}, {label}: {md_setup.describe_stage(stage, total)}"
            )
        if system.builds == 0:
            system.update()
        if stage["ensemble"] == "minimise":
            return self._minimise(stage)
        self.integrator = integrator = md_setup.make_integrator(
            system, stage, total, self.values["job"]["seed"], self.step - self.stage_step
        )
        if self.integrator_state is not None:
            integrator.restore(self.integrator_state)
        if self.stage_step == 0:
            self.computed = [True, True, True, self._watched()]
        self._compute(*self.computed)
        dt = stage["timestep"]
        if self.stage_step == 0:
            dynamics.check_timestep(system, dt)
            if self.step == 0:
                reason = self._look()
                self._observe(row=True, frame=bool(self.rates.trajectory), analyse=True)
                self._stop_for(reason or self.reached)
        timers, log_every, limits_every = world.timers, self.values["log"]["every"], self.values["limits"]["every"]
        while self.stage_step < total:
            step = self.step + 1
            last = self.stage_step + 1 == total
            rates = self.rates
            frame = bool(rates.trajectory) and step % rates.trajectory == 0
            analyse = bool(rates.analysis) and step % rates.analysis == 0
            row = step % rates.series == 0 or last or step % log_every == 0 or analyse
            with timers("integrate"):
                integrator.first_half(system, self.step)
            try:
                system.update()
            except (CollectiveError, ValueError) as error:
                raise type(error)(f"step {step}: {error}") from error
            self.computed = [row, row or integrator.needs_virial, frame, self._watched(step, frame)]
            self._compute(*self.computed)
            with timers("integrate"):
                integrator.second_half(system, self.step)
                if stage["remove_momentum"] and step % stage["remove_momentum"] == 0:
                    dynamics.remove_momentum(system)
                    integrator.prepare(system)
            self.step, self.stage_step = step, self.stage_step + 1
            self.time += dt
            self.simulated += dt
            reason = self._look()
            if step % limits_every == 0:
                self._guard()
            if row or frame or analyse:
                self._observe(row, frame, analyse)
            self._stop_for(reason or self.reached)
            if step % STOP_EVERY == 0:
                self._service()

    def _watched(self, step=None, frame=False) -> list[str]:
        """Names of what is watched in a step; None: of all."""
        return [w.name for w in self.watches if step is None or w.due(step, frame)]

    def _look(self) -> str | None:
        """What the last forces say about the potential; why the run must end."""
        reasons = []
        with self.world.timers("analysis"):
            for each in self.watches:
                if each.on:
                    reasons.append(each.look(self.step, self.time))
        return next((reason for reason in reasons if reason), None)

    def _stop_for(self, reason):
        """Ends the run where a condition of the run file is met; the last row of the time series is of this step."""
        if not reason:
            return
        if self.last_row < self.step:
            self.computed = [True, True, False, self.computed[3]]
            self._compute(*self.computed)
            self._observe(row=True, frame=False, analyse=False)
        self.write_checkpoint()
        raise Stopped(reason, status=0)

    def _compute(self, energy, virial, frame, watched=()):
        """Forces, and what the step's output needs."""
        for each in self.watches:
            each.ask(each.name in watched)
        per_atom = self.trajectory.wanted(self.system.atoms) if frame and self.trajectory else {}
        self.system.compute(energy=energy, virial=virial, **per_atom)

    def _minimise(self, stage):
        world, system = self.world, self.system
        target = np.zeros(6)
        if stage["stress"] is not None:
            target[:] = stage["stress"]
        elif stage["pressure"] is not None:
            pressure = stage["pressure"]
            target[:3] = pressure[-1] if isinstance(pressure, tuple) else pressure
        first, done, every = self.step, self.stage_step, self.values["log"]["every"]
        self.integrator = None
        for each in self.watches:
            each.ask(False)

        def report(at):
            self.step, self.stage_step = first + at.iterations, done + at.iterations
            if at.iterations % STOP_EVERY == 0:
                self._service()
            if at.iterations % every == 0:
                world.log(
                    f"iteration {at.iterations:>6}  E_pot {at.energy / system.total:.8f} eV/atom  largest force "
                    f"{at.force:.3e} eV/Å" + (f"  stress error {at.stress:.3e} GPa" if stage["relax_cell"] else "")
                )

        found = dynamics.minimise(
            system,
            method=stage["method"],
            force_tolerance=stage["force_tolerance"],
            stress_tolerance=stage["stress_tolerance"],
            cell=md_setup.cell_modes(stage) if stage["relax_cell"] else None,
            pressure=target,
            max_iterations=self.steps[self.stage] - done,
            report=report,
        )
        world.log(
            f"{found.reason} after {found.iterations} iterations ({found.evaluations} evaluations): E_pot "
            f"{found.energy / system.total:.8f} eV/atom, largest force {found.force:.3e} eV/Å"
        )
        system.atoms.velocities[:] = 0.0
        self._compute(True, True, True, self._watched())
        reason = self._look()
        self._observe(row=True, frame=bool(self.rates.trajectory), analyse=True)
        self._stop_for(reason or self.reached)

    # ---- what is written --------------------------------------------------------------------------------------

    def scalars(self) -> dict:
        """A row of the time series: the thermodynamic state, from one reduction over ranks."""
        world, system = self.world, self.system
        packed = np.concatenate([[system.energy], system.virial, system.local_kinetic_tensor()])
        packed = world.allreduce(packed)
        energy, virial, kinetic = float(packed[0]), packed[1:7], packed[7:]
        volume = system.cell.volume
        e_kin = 0.5 * float(kinetic[:3].sum())
        pressure = GPA * (kinetic + virial) / volume
        extended = self.integrator.conserved(system) if self.integrator else 0.0
        now, mark = time.monotonic(), self.row_mark
        self.row_mark = (now, self.step)
        return dict(
            step=self.step,
            time=self.time,
            temperature=2 * e_kin / (system.degrees_of_freedom * BOLTZMANN),
            potential_energy=energy,
            kinetic_energy=e_kin,
            conserved=energy + e_kin + extended,
            enthalpy=energy + e_kin + float(pressure[:3].mean()) / GPA * volume,
            pressure=pressure,
            cell=system.cell.matrix,
            density=system.density(),
            atom_steps_per_second=system.total * (self.step - mark[1]) / max(now - mark[0], 1e-9),
        )

    def _observe(self, row, frame, analyse):
        system, timers = self.system, self.world.timers
        numbers, fields = {}, {}
        if self.analysis and (analyse or (frame and self._frames_need_analysis())):
            with timers("analysis"):
                follow = analyse and self.stage >= self.followed and self.step > self.last_row
                numbers, fields = self.analysis.measure(system, self.step, self.time, follow)
            self._test(numbers)
        if row and self.step > self.last_row:
            self.last_row = self.step
            values = self.scalars() | numbers
            for each in self.watches:
                values |= each.row()
            if not math.isfinite(values["potential_energy"]):
                self._guard()
            values |= dict(triggered=self.triggered is not None, stop=self.reached is not None)
            with timers("output"):
                self.series.append(**{name: values.get(name, math.nan) for name in self.series.columns})
            if (
                self.step % self.values["log"]["every"] == 0
                or self.step == 0
                or self.stage_step == self.steps[self.stage]
            ):
                self._log_line(values)
                for each in self.watches:
                    each.tell(self.step)
        if frame and self.trajectory:
            with timers("output"):
                fields |= {w.field: w.per_atom for w in self.watches if w.frames}
                self.trajectory.append(self.step, self.time, system, fields)

    def _frames_need_analysis(self):
        return bool(self.analysis.results) or self.values["trajectory"]["select"] is not None

    def _test(self, numbers):
        """Whether the run has come to what [trigger] or [stop] wait for. The numbers are the same on every rank."""
        if self.trigger and self.triggered is None and (why := self.trigger.met(numbers, self.stage)):
            self.triggered = self.step
            self.rates = Rates.of(self.values, triggered=True)
            self.world.log(f"step {self.step}: [trigger]: {why}; from here on {self.rates}")
        if self.stop:
            self.reached = self.stop.met(numbers, self.stage)
            self.measured = {name: float(numbers[name]) for name in self.stop.limits}

    def _log_line(self, v):
        text = (
            f"step {self.step:>9}  {self.time:10.4f} ps  T {v['temperature']:8.2f} K  E_pot {v['potential_energy'] / self.system.total:11.6f}"
            f"  conserved {v['conserved'] / self.system.total:11.6f} eV/atom  p {v['pressure'][:3].mean():8.4f} GPa"
            f"  ρ {v['density']:7.4f} g/cm³"
        )
        if math.isfinite(v.get("solid_fraction", math.nan)):
            text += f"  solid {v['solid_fraction']:.4f}"
        if math.isfinite(v.get("largest_cluster", math.nan)):
            text += f"  clusters {v['clusters']:.0f}, largest {v['largest_cluster']:.0f}"
        self.progress.line(text + f"  {v['atom_steps_per_second']:.3g} atom-steps/s", self.step)

    def _guard(self):
        """Raises on the first atom that is lost or on its way: step, id, rank."""
        limits = self.values["limits"]
        trouble = dynamics.diagnose(self.system, limits["temperature"])
        if trouble:
            for each in self.watches:
                each.tell(self.step)
            raise dynamics.Unstable(
                f"step {self.step}: {trouble}. The last checkpoint stays: {self.directory.path / 'checkpoints'}"
            )

    def _service(self):
        """Signals, wall time, due checkpoints: decided together."""
        due, reason = self.stopping.test(self.step)
        self.progress.update(self.step)
        if due:
            self.write_checkpoint()
        if reason:
            raise Stopped(reason)

    def write_checkpoint(self):
        """The whole state, so that `resume` goes on as if nothing had happened."""
        world, system = self.world, self.system
        begun = time.monotonic()
        with world.timers("output"):
            # first, so that no checkpoint on the disk is ever ahead of what it says was written
            self.series.sync()
            if self.analysis:
                self.analysis.sync()
            if self.trajectory:
                self.trajectory.file.sync()
            arrays, meta = system.checkpoint()
            # a resumed minimisation starts from here: the vectors of its method are not kept
            arrays = {name: array for name, array in arrays.items() if not name.startswith("extra:minimise.")}
            integrator = {}
            if self.integrator is not None and self.stage < len(self.steps):
                integrator = {k: np.asarray(v).tolist() for k, v in self.integrator.state().items()}
            meta = dict(
                system=meta,
                job=dict(
                    stage=self.stage,
                    stage_step=self.stage_step,
                    step=self.step,
                    time=self.time,
                    wall=self.wall_before + time.monotonic() - self.started,
                    integrator=integrator or None,
                    computed=[*map(bool, self.computed[:3]), *self.computed[3:]],
                    watches={each.name: each.state(self.step) for each in self.watches},
                    nuclei=self.analysis.state() if self.analysis else None,
                    triggered=self.triggered,
                    ended=self.measured if self.reached else None,
                ),
                potential=system.potential.hash,
            )
            write_checkpoint(self.directory.checkpoints, world, arrays, meta, self.step)
        self.stopping.written(begun)

    def _finish(self, status):
        world = self.world
        wall = time.monotonic() - self.started
        cpu = time.process_time() - self.cpu_started
        figures = timing.summary(world, self.system, wall, self.step - self.first_step, self.simulated, cpu)
        figures["total_wall_seconds"] = self.wall_before + wall
        figures["total_steps"] = self.step
        figures["finished"] = status == 0
        figures["checkpoint_seconds"] = self.stopping.checkpoint_seconds
        figures["ended"] = self.ended
        for each in self.watches:
            figures[each.name] = each.finish(self.step)
        world.log("\n" + timing.table(figures))
        self.series.close()
        if self.analysis:
            self.analysis.close()
        if self.trajectory:
            self.trajectory.close()
        self.directory.write_json(self.directory.timing_file, figures)
        if status == 0:
            leave_report(self.world, self.directory)


# ---- entry points -------------------------------------------------------------------------------------------------


def prepare(world, path) -> dict:
    """Values of a run file, read on one rank and checked; RunFileError on every rank."""
    return read_run_file(world, path, TABLES, md_setup.check_names)


def run(world, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    values = prepare(world, path)
    world.use_threads(values["parallel"]["threads"])
    system = md_setup.build_system(world, values, path)
    where = directory or values["job"]["directory"] or default_directory(path)
    values["job"]["directory"] = None
    kept = md_setup.portable_potential(values)
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        for name, source in kept.items():
            target.keep(source, name)
        announce(world, values, system, target)
        return MolecularDynamics(world, values, target, system).run()


def resume(world, directory, walltime=None) -> int:
    """Continues a run directory from its newest valid checkpoint."""
    with RunDirectory.open(directory, world) as target:
        values = prepare(world, target.run_file)
        md_setup.resolve_potential(values, target.run_file)
        world.use_threads(values["parallel"]["threads"])
        if walltime is not None:
            values["job"]["walltime"] = walltime
        checkpoint = read_checkpoint(target.checkpoints, world)
        for message in checkpoint.messages:
            world.log.warning(message)
        position, state = checkpoint.meta["job"], checkpoint.meta["system"]
        if position["stage"] >= len(values["stage"]):
            world.log("this run is complete; nothing is left to do")
            return 0
        stop = conditions(values, "stop")
        why = watch.still_ended(values, position.get("watches"))
        if stop and position.get("ended") and (met := stop.met(position["ended"], position["stage"])):
            why = f"[stop]: {met}"
        if why:
            world.log(
                f"this run has ended, as it was asked to: {why}; nothing is left to do. To go on: raise or remove that limit "
                f"in {target.run_file}"
            )
            return 0
        potential = md_setup.load_potential(values, state["species"], world.log)
        if potential.hash != checkpoint.meta["potential"]:
            world.log.warning(f"the potential {values['potential']['file']} is not the one that the run started with")
        if not checkpoint.same_ranks:
            world.log(f"written by {checkpoint.ranks} ranks: the atoms are redistributed over {world.size}")
            grid = values["parallel"]["grid"]
            if grid and np.prod(grid) != world.size:
                values["parallel"]["grid"] = None  # it was for those ranks
        system = System.restore(
            world, checkpoint.arrays, state, potential, exact=checkpoint.same_ranks, **md_setup.system_options(values)
        )
        announce(world, values, system, target)
        world.log(f"resumed at step {position['step']} ({position['time']:g} ps)")
        return MolecularDynamics(world, values, target, system, position=position).run()


def announce(world, values, system, directory):
    """What runs, where and on what: the head of the log."""
    title = values["job"]["title"]
    world.log(f"Ostwald molecular dynamics{': ' + title if title else ''}")
    world.log(f"run directory {directory.path}")
    world.log(world.describe())
    world.log(f"system     {system.total} atoms, {' '.join(system.atoms.species)}; {system.cell.describe()}")
    world.log(f"potential  {system.potential.describe()}")
    grid = " × ".join(map(str, system.bricks.grid))
    world.log(f"bricks     {grid}; skin {system.skin:g} Å; {system.style} neighbour lists")
    if values["analysis"]["every"]:
        world.log(f"analysis   {Observer(values['analysis'], system.atoms.species).describe()}")
    if any(values[name]["every"] for name in watch.SCHEMA):
        world.log(f"watched    {watch.describe(values)}")
    world.log("units      Å, eV, ps, K, amu, GPa")


def check(world, path, ranks=None) -> int:
    """Validates a run file and prints what it would take."""
    from ostwald.app.jobs.md_check import plan

    values = prepare(world, path)
    world.log(plan(world, values, path, ranks))
    return 0


def memory(world, path, ranks) -> float:
    """Validates a run file; bytes of one of `ranks` ranks."""
    from ostwald.app.jobs import md_check

    return md_check.memory(world, prepare(world, path), path, ranks)
