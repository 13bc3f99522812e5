"""The phase-field job: a Cahn–Hilliard run with everything that is written on the way."""

from __future__ import annotations

import math
import time

import numpy as np

from ostwald.app.jobs import timing
from ostwald.app.jobs.phasefield_grid import build_on_grid, check_method, check_parts, footprint
from ostwald.app.jobs.phasefield_outputs import Outputs, make_analyses
from ostwald.app.jobs.phasefield_schema import KINDS, TABLES, heterogeneous
from ostwald.app.jobs.phasefield_stages import Stages, adaptive, check_order, described, order, stage_steps, stage_time
from ostwald.app.jobs.progress import Progress, clock
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.jobs.schedule import Schedule
from ostwald.app.jobs.stopping import STOP_EVERY, Stopped, Stopping
from ostwald.app.phasefield import (
    AllenCahn,
    CahnHilliard,
    Diverged,
    Elasticity,
    Given,
    HeterogeneousElasticity,
    Mesh,
    Noise,
    RegularSolution,
    SecondOrder,
    VariableMobility,
    Well,
    cubic,
    double_well,
    quantities,
    quartic_well,
)
from ostwald.app.phasefield.adaptive import fastest_growth_time
from ostwald.app.phasefield.variable_mobility import greatest_mobility
from ostwald.app.runfile import RunFileError, dumps
from ostwald.io.checkpoint import list_checkpoints, read_checkpoint, write_checkpoint
from ostwald.io.fields import FieldsError, open_field
from ostwald.io.meshes import read_mesh
from ostwald.io.rates import LEAST, Rate, disk_rate
from ostwald.io.rates import lines as lines_of_rates
from ostwald.io.rundirectory import RunDirectory
from ostwald.io.timeseries import TimeSeries
from ostwald.parallel import CollectiveError

COLUMNS = ("step", "time", "energy", "bulk", "gradient", "elastic", "mean", "low", "high", "point_steps_per_second")
ADAPTIVE_COLUMNS = ("timestep", "error")
"""Of steps of second order: length of the step that led to a row, and its error."""
SECTIONS = ("step", "analysis", "output")
SMALL = 50_000
"""Points of a rank below which signals and wall time are looked at every STOP_EVERY steps, not at each."""
BASE_BYTES = 80e6
"""Interpreter, libraries and MPI of one rank."""
NETWORK = 12.5e9
"""Bytes a second that `check` assumes between nodes: 100 Gbit/s."""
SAMPLE = 128**3
"""Points of the grid on which `check` times a few steps."""


class PhaseField:
    """A phase-field job on this rank.

    values: the validated run file. directory: RunDirectory. solver: CahnHilliard with its field.
    position: what a checkpoint says about the job, or None for a new one.

    Row and frame of a step are written when the step is left, so those of a checkpoint's step are not yet there.
    """

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
                kept = self.resumed or self.checkpoints.count
                stays = f". The last checkpoint stays: {self.directory.checkpoints}" if kept else ""
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
            more = f"L {n['length']:.4g}  " if "length" in n else ""
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
                    f"the free energy rose from {self.energy:.9g} to {energy:.9g} up to step {step}: the time step is too long"
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
        self.stopping.written(begun)

    def _finish(self, status):
        world, solver = self.world, self.solver
        wall, steps = time.monotonic() - self.started, solver.steps - self.first_step
        local = dict(points=math.prod(solver.parts.local), resident_bytes=timing.resident_bytes())
        sections, per_rank = timing.over_ranks(world, SECTIONS, wall, local)
        p0, p1 = solver.parts.ranks
        figures = dict(
            kind="phasefield",
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
        if status == 0 and world.root:
            from ostwald.app.report import write_report

            try:
                world.log(f"report     {write_report(self.directory.path)}")
            except (OSError, ValueError, ImportError) as error:  # a report that fails does not fail the run
                world.log.warning(f"no report was written: {error}")

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


# ---- what the run file means --------------------------------------------------------------------------------------


def make_well(model) -> Well | RegularSolution:
    if model["well"] == "double":
        return double_well(model["epsilon"])
    if model["well"] == "quartic":
        return quartic_well(model["height"], model["low"], model["high"])
    if model["well"] == "regular-solution":
        cut = {} if model["cut"] is None else dict(cut=model["cut"])
        return RegularSolution(model["omega"], model["temperature"], **cut)
    return Well(model["centre"], tuple(model["coefficients"]))


def tensor(numbers) -> list:
    """(3, 3) of xx, yy, zz, yz, xz, xy."""
    xx, yy, zz, yz, xz, xy = numbers
    return [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]


def constants(table, prefix="") -> np.ndarray:
    """(6, 6)"""
    if table[prefix + "constants"] is not None:
        return np.reshape(table[prefix + "constants"], (6, 6))
    return cubic(*(table[prefix + key] for key in ("c11", "c12", "c44")))


def make_elasticity(table, dimensions, well) -> Elasticity | HeterogeneousElasticity | None:
    """ValueError where it cannot be."""
    if table["misfit"] is None and table["eigenstrain"] is None:
        return None
    strain = table["misfit"] if table["eigenstrain"] is None else tensor(table["eigenstrain"])
    given = {key: tensor(table[key]) for key in ("mean_strain", "mean_stress") if table[key] is not None}
    if not heterogeneous(table):
        return Elasticity(constants(table), strain, dimensions, **given)
    between = table["between"]
    if between is None:
        minima = well.minima()
        if len(minima) < 2:
            raise ValueError("between: is required with a well of one minimum")
        between = minima[0], minima[-1]
    if table["tolerance"] is not None:
        given["tolerance"] = table["tolerance"]
    smooth = table["interpolation"] != "linear"
    return HeterogeneousElasticity(
        constants(table), constants(table, "high_"), strain, dimensions, between, smooth, **given
    )


def make_noise(values) -> Noise | None:
    return Noise(values["job"]["seed"], **values["noise"]) if any(values["noise"].values()) else None


def precision(values) -> np.dtype:
    return np.dtype(np.float64 if values["grid"]["precision"] == "double" else np.float32)


def initial_field(values, path, shape, spacing):
    """The InitialField of a run file. RunFileError where it does not fit the grid."""
    table = values["initial"]
    kind, keys = KINDS[table["kind"]]
    given = {key: table[key] for key in keys if table[key] is not None}
    if "width" in keys:
        given["epsilon"] = given.pop("width", values["model"]["epsilon"])
    if "amplitude" in keys and table["kind"] != "pfhub":
        given["seed"] = values["job"]["seed"]
    try:
        if kind is Given:
            field = Given(
                open_field(table["file"], table["dataset"], -1 if table["frame"] is None else table["frame"]), spacing
            )
            if field.shape != tuple(shape):
                sizes = (" × ".join(map(str, n)) for n in (field.shape, shape))
                raise ValueError("{}: a field of {} points, the grid has {}".format(table["file"], *sizes))
            return field
        if kind is Mesh:
            given["triangles"] = read_mesh(given.pop("file"))
        if len(given.get("centres", ())) % len(shape):
            raise ValueError(f"centres must have {len(shape)} coordinates each, got {len(given['centres'])} numbers")
        return kind(shape, spacing, **given)
    except (ValueError, FieldsError) as error:
        raise RunFileError(f"{path}: [initial]: {error}") from None


def build(world, values, path, shape=None, ranks=None) -> CahnHilliard:
    """The solver of a run file, without its field. RunFileError, the same on every rank, where it cannot be."""
    grid, model = values["grid"], values["model"]
    shape = shape or grid["shape"]
    try:
        well = make_well(model)
        if model["mobility_coefficients"] is not None:
            greatest_mobility(model["mobility_coefficients"], well)
    except ValueError as error:
        raise RunFileError(f"{path}: [model]: {error}") from None
    if Schedule(values["analysis"]):
        if len(well.minima()) < 2:
            raise RunFileError(f"{path}: [analysis]: needs a well of two minima")
        try:
            make_analyses(values["analysis"], grid["shape"])
        except ValueError as error:
            raise RunFileError(f"{path}: [analysis]: {error}") from None
    try:
        elasticity = make_elasticity(values["elasticity"], len(shape), well)
    except ValueError as error:
        raise RunFileError(f"{path}: [elasticity]: {error}") from None
    equation, form = {"cahn-hilliard": CahnHilliard, "allen-cahn": AllenCahn}[model["equation"]], []
    if model["mobility_coefficients"] is not None:
        equation, form = VariableMobility, [model["mobility_coefficients"]]
        if make_noise(values):
            raise RunFileError(f"{path}: [noise]: goes with a constant mobility only")
    if elasticity is not None and elasticity.loaded and not equation.conserved:
        raise RunFileError(f"{path}: [elasticity]: mean_strain and mean_stress need equation = 'cahn-hilliard'")
    for name in values["fields"]["names"]:
        if name != "phi" and elasticity is None:
            raise RunFileError(f"{path}: [fields] names: '{name}' needs the table [elasticity]")
    check_method(values, path)
    check_order(values, path)
    try:
        if values["solver"]["method"] != "spectral":
            return build_on_grid(world, values, path, well, shape, precision(values), ranks)
        rest = model["mobility"], grid["spacing"], precision(values), elasticity, ranks
        if order(values) == 2:
            return SecondOrder(world, shape, well, model["epsilon"], *rest)
        return equation(world, shape, well, model["epsilon"], *form, *rest, noise=make_noise(values))
    except RunFileError:
        raise
    except ValueError as error:
        raise RunFileError(f"{path}: [grid]: {error}") from None


def set_initial(solver, values, path) -> None:
    """Collective. The field that the run starts from. CollectiveError where it is not finite."""
    field = initial_field(values, path, solver.parts.shape, solver.spacing)
    if values["initial"]["exact_mean"] is not None:
        field = field.with_mean(values["initial"]["exact_mean"], solver.parts)
    try:
        solver.set_field(field.source(solver.parts))
    except CollectiveError as error:
        raise CollectiveError(f"{path}: [initial]: {error}", error.rank) from None


# ---- entry points -------------------------------------------------------------------------------------------------


def run(world, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    values = read_run_file(world, path, TABLES)
    world.use_threads(values["parallel"]["threads"])
    check_parts(values, path, world.size)
    solver = build(world, values, path, ranks=values["parallel"]["grid"])
    set_initial(solver, values, path)
    where = directory or values["job"]["directory"] or default_directory(path)
    values["job"]["directory"] = None
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        announce(world, values, solver, target)
        return PhaseField(world, values, target, solver).run()


def resume(world, directory, walltime=None) -> int:
    """Continues a run directory from its newest valid checkpoint."""
    with RunDirectory.open(directory, world) as target:
        values = read_run_file(world, target.run_file, TABLES)
        world.use_threads(values["parallel"]["threads"])
        if walltime is not None:
            values["job"]["walltime"] = walltime
        ranks = values["parallel"]["grid"]
        if ranks and math.prod(ranks) != world.size:
            ranks = None  # it was for those ranks
        solver = build(world, values, target.run_file, ranks=ranks)
        _same_grid(world, target, solver.parts.shape)
        checkpoint = read_checkpoint(target.checkpoints, world, targets=solver.targets(), convert=solver.converter)
        for message in checkpoint.messages:
            world.log.warning(message)
        solver.restore(checkpoint.meta["solver"])
        if Stages(values["stage"], solver, checkpoint.meta["job"]["stages"]).finished:
            world.log("this run is complete; nothing is left to do")
            return 0
        announce(world, values, solver, target)
        world.log(f"resumed at step {solver.steps} (time {solver.time:g}), written by {checkpoint.ranks} ranks")
        return PhaseField(world, values, target, solver, position=checkpoint.meta["job"]).run()


def _same_grid(world, directory, shape):
    """Collective: RunFileError where the newest checkpoint is of another grid than the run file."""
    found = [each.grid for each in list_checkpoints(directory.checkpoints) if each.valid] if world.root else None
    found = world.bcast(found)
    if found and found[-1] != tuple(shape):
        grids = (" × ".join(map(str, grid)) for grid in (shape, found[-1]))
        raise RunFileError(
            "{}: [grid] shape: {}, but the checkpoint is of {} points".format(directory.run_file, *grids)
        )


def announce(world, values, solver, directory):
    """What runs, where and on what: the head of the log."""
    title = values["job"]["title"]
    world.log(f"Ostwald phase field{': ' + title if title else ''}")
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
    """Validates a run file and prints what it would take: memory of a rank, time from a few steps measured here."""
    values = read_run_file(world, path, TABLES)
    shape, grid = values["grid"]["shape"], values["parallel"]["grid"]
    ranks = ranks or (math.prod(grid) if grid else world.size)
    check_parts(values, path, ranks)
    dtype = precision(values)
    try:
        plan = footprint(values, dtype, ranks, grid)
    except ValueError as error:
        raise RunFileError(f"{path}: [grid]: {error}") from None
    points, (p0, p1) = math.prod(shape), plan.ranks
    small = list(shape)
    while math.prod(small) > SAMPLE:
        k = small.index(max(small))
        small[k] //= next((p for p in (2, 3, 5, 7) if small[k] % p == 0), 2)
    alone = world if world.size == 1 else world.split(world.rank)
    solver = build(alone, values, path, shape=small)
    initial_field(values, path, tuple(shape), solver.spacing)
    seconds = world.allreduce(seconds_of_a_step(solver, values), "max")
    steps = sum(stage_steps(stage) for stage in values["stage"])
    factor = plan.work(points) / plan.work(solver.points) / ranks
    more = solver.elasticity.arrays if solver.equilibrium is not None else 0
    memory = BASE_BYTES + (plan.memory + more * plan.checkpoint) / ranks
    world.log(f"grid         {' × '.join(map(str, shape))} points, {dtype.name}, spacing {values['grid']['spacing']}")
    world.log(f"ranks        {ranks}, {'slabs' if p1 == 1 else 'pencils'}, {p0} × {p1} parts")
    world.log(f"memory       about {memory / 1e6:.0f} MB per rank")
    for k, stage in enumerate(values["stage"], 1):
        world.log(f"stage {k:<7}{stage['name'] or k}: {described(stage)}")
    each = f"{1e3 * seconds * factor:.3g} ms/step, from {' × '.join(map(str, small))} points"
    if any(adaptive(stage) for stage in values["stage"]):
        world.log(f"time         {each}; how many steps a tolerance takes shows as the run goes")
    else:
        time_taken = clock(seconds * factor * steps)
        world.log(f"time         {steps} steps, about {time_taken} on {ranks} ranks like this one ({each})")
    if ranks > 1 and values["solver"]["method"] == "spectral":
        world.log(f"messages     {messages(plan.checkpoint / ranks, p0, p1)}")
    every, interval = values["checkpoint"]["every"], values["checkpoint"]["interval"]
    if frames := Schedule(values["fields"]).count(steps, sum(stage_time(stage) for stage in values["stage"])):
        size = points * (4 if values["fields"]["precision"] == "single" else 8)
        size *= len(quantities.components(solver, values["fields"]["names"]))
        world.log(f"fields       {frames} frames, {frames * size / 1e6:.1f} MB")
    saved = plan.checkpoint * (1 + (2 * len(shape) if solver.equilibrium is not None else 0))
    world.log(f"checkpoint   {saved / 1e6:.1f} MB, every {f'{every} steps' if every else f'{interval:g} s'}")
    return 0


def messages(share: float, p0: int, p1: int) -> str:
    """What the ranks of a transform send each other in a step; share: bytes of a rank's spectrum.

    Rows go from planes to columns and back, and in pencils twice along the planes: each time all but the rank's own part.
    """
    across, along = (2 * share * (1 - 1 / p) for p in (p0, p1))
    sent = across + along
    here = "nothing" if p1 == 1 else f"{along / 1e6:.3g} MB a step from each rank"
    return (
        f"within a node {here} (planes lie in shared memory); each rank on a node of its own {sent / 1e6:.3g} MB a step, "
        f"{1e3 * sent / NETWORK:.3g} ms at 100 Gbit/s, on top of the time above"
    )


def seconds_of_a_step(solver, values) -> float:
    """The best of a few, from noise about the middle of the spinodal range."""
    middle = np.mean(solver.well.spinodal() or [solver.well.centre])
    rng = np.random.default_rng(1)
    solver.set_field(lambda first, last: rng.normal(middle, 0.01, (last - first, *solver.parts.local[1:])))
    dt, best = values["stage"][0]["timestep"] or 0.01 * fastest_growth_time(solver), math.inf
    for _ in range(5):
        start = time.perf_counter()
        solver.step(dt)
        best = min(best, time.perf_counter() - start)
    return best
