"""The roll-out job: a phase-field run whose steps a trained network makes (docs/rollout.md)."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial

import numpy as np

from ostwald.app.jobs import phasefield
from ostwald.app.jobs.phasefield_check import BASE_BYTES, NETWORK
from ostwald.app.jobs.phasefield_grid import check_parts
from ostwald.app.jobs.phasefield_outputs import make_analyses
from ostwald.app.jobs.phasefield_setup import check_finite, initial_field, make_well
from ostwald.app.jobs.phasefield_stages import described, stage_steps
from ostwald.app.jobs.progress import clock
from ostwald.app.jobs.rollout_schema import TABLES
from ostwald.app.jobs.runfiles import read_run_file
from ostwald.app.jobs.schedule import Schedule
from ostwald.app.phasefield import Given
from ostwald.app.runfile import RunFileError
from ostwald.app.surrogate import model
from ostwald.app.surrogate.inference import FAR, ROW, Inference
from ostwald.app.surrogate.resampling import resampled
from ostwald.app.surrogate.rollout import RollOut
from ostwald.io.fields import FieldsError, open_field
from ostwald.io.modelfile import ModelFileError
from ostwald.parallel import deal, extents

SAMPLE = 48
"""Points along an axis (but the first) of the brick on which `check` times a step; of two dimensions its square."""


def load(values, path) -> model.Surrogate:
    """The model of a run file. RunFileError."""
    try:
        return model.load(values["surrogate"]["file"])
    except ModelFileError as error:
        raise RunFileError(f"{path}: [surrogate] file: {error}") from None


def build(world, values, path, ranks=None) -> RollOut:
    """What steps, without its field. RunFileError, the same on every rank, where it cannot be."""
    surrogate, shape = load(values, path), values["grid"]["shape"]
    resolve(values, path, surrogate)
    well = check_tables(values, path, surrogate)
    try:
        surrogate.scaled(values["surrogate"]["parameters"] or {})
    except ValueError as error:
        raise RunFileError(f"{path}: [surrogate] parameters: {error}") from None
    try:
        given = values["surrogate"]["parameters"], values["surrogate"]["precision"]
        return RollOut(world, shape, surrogate, well, values["model"]["epsilon"], *given, ranks)
    except ValueError as error:
        raise RunFileError(f"{path}: [grid] shape: {error}") from None


def resolve(values, path, surrogate) -> None:
    """Puts what the network brings into the values: spacing and time steps. RunFileError where they say otherwise."""
    grid, spacing = values["grid"], list(surrogate.spacing)
    if len(grid["shape"]) != len(spacing):
        raise RunFileError(f"{path}: [grid] shape: the network is one of {len(spacing)} dimensions")
    if grid["spacing"] is not None and not np.allclose(grid["spacing"], spacing, rtol=1e-9):
        raise RunFileError(f"{path}: [grid] spacing: the network's is {spacing}, not {grid['spacing']}")
    grid["spacing"] = spacing
    for number, stage in enumerate(values["stage"], 1):
        if not math.isclose(stage["timestep"] or surrogate.interval, surrogate.interval):
            raise RunFileError(
                f"{path}: [stage {number}] timestep: a step of the network is {surrogate.interval:g}, not {stage['timestep']:g}"
            )
        stage["timestep"] = surrogate.interval


def check_tables(values, path, surrogate):
    """The well of a run file. RunFileError where what it asks for cannot be had with this network."""
    try:
        well = make_well(values["model"])
    except ValueError as error:
        raise RunFileError(f"{path}: [model]: {error}") from None
    if values["fields"]["names"] != ["phi"]:
        raise RunFileError(f"{path}: [fields] names: a roll-out has no field but phi")
    if Schedule(values["analysis"]):
        if len(well.minima()) < 2:
            raise RunFileError(f"{path}: [analysis]: needs a well of two minima")
        if surrogate.architecture.padding != "circular":
            raise RunFileError(f"{path}: [analysis]: needs a periodic box, and this network has walls")
        try:
            make_analyses(values["analysis"], values["grid"]["shape"])
        except ValueError as error:
            raise RunFileError(f"{path}: [analysis]: {error}") from None
    return well


def initial(values, path, shape, spacing):
    """The InitialField of a run file. One of a file with twice the points along each axis is resampled as the network's training was."""
    table, how = values["initial"], load(values, path).resampling
    if table["kind"] == "file" and how != "none":
        with suppress(FieldsError):  # initial_field tells what is wrong with the file
            field = open_field(table["file"], table["dataset"], -1 if table["frame"] is None else table["frame"])
            if tuple(field.shape) == tuple(2 * n for n in shape):
                return Resampled(field, spacing, how)
    return initial_field(values, path, shape, spacing)


class Resampled(Given):
    """Values on twice as many points along each axis, brought to this grid ("nearest" or "mean")."""

    def __init__(self, values, spacing, how):
        self.how = how
        super().__init__(values, spacing)
        self.shape = tuple(n // 2 for n in values.shape)

    def _block(self, lo, hi):
        finer = np.asarray(self.values[tuple(slice(2 * a, 2 * b) for a, b in zip(lo, hi))], np.float64)
        return resampled(finer, 2, self.how)


class RollOutJob(phasefield.PhaseField):
    """The job on this rank: that of the phase field with another solver."""

    title, tables, rising = "roll-out", TABLES, "nothing keeps a network from that"
    build, initial = staticmethod(build), staticmethod(initial)

    @staticmethod
    def completed(values, solver) -> dict:
        grid = values["grid"] | dict(precision=values["surrogate"]["precision"])
        return values | dict(grid=grid, solver=dict(order=1), noise={})


run = partial(phasefield.run, job=RollOutJob)
resume = partial(phasefield.resume, job=RollOutJob)


# ---- what it would take ----------------------------------------------------------------------------------------------


def check(world, path, ranks=None) -> int:
    """Collective. Validates a run file and prints what it would take: memory of a rank, time from a few steps measured here."""
    values = read_run_file(world, path, TABLES)
    shape, parts = values["grid"]["shape"], values["parallel"]["grid"]
    ranks = ranks or (math.prod(parts) if parts else world.size)
    check_parts(values, path, ranks)
    alone = world if world.size == 1 else world.split(world.rank)
    surrogate = load(values, path)
    architecture = surrogate.architecture
    resolve(values, path, surrogate)
    small = [max(ROW, architecture.kernel)] * len(shape)
    small = build(alone, values | dict(grid=values["grid"] | dict(shape=small)), path)
    values = RollOutJob.completed(values, small)
    check_finite(initial(values, path, tuple(shape), small.spacing), values, path)
    try:
        p0, p1 = deal(shape, ranks, extents(shape)[1], parts)
    except ValueError as error:
        raise RunFileError(f"{path}: [grid] shape: {error}") from None
    brick = [-(-shape[0] // p0), *([-(-shape[1] // p1)] if len(shape) == 3 else []), shape[-1]]
    seconds, rings = (
        world.allreduce(x, "max") for x in sample(surrogate, brick, (p0 > 1, p1 > 1), small, world.threads)
    )
    memory, sent = footprint(architecture, brick, ranks > 1, small.inference.dtype.itemsize)
    world.log(surrogate.describe())
    world.log(
        f"grid         {' × '.join(map(str, shape))} points, {values['grid']['precision']}, spacing {surrogate.spacing}"
    )
    world.log(f"ranks        {ranks}, {'slabs' if p1 == 1 else 'pencils'}, {p0} × {p1} parts")
    world.log(f"memory       about {(BASE_BYTES + memory + rings) / 1e6:.0f} MB per rank")
    for k, stage in enumerate(values["stage"], 1):
        world.log(f"stage {k:<7}{stage['name'] or k}: {described(stage)}")
    steps = sum(map(stage_steps, values["stage"]))
    world.log(
        f"time         {steps} steps, about {clock(seconds * steps)} on {ranks} ranks like this one ({1e3 * seconds:.4g} ms/step, "
        f"ghosts computed twice included)"
    )
    if ranks > 1:
        world.log(
            f"messages     each rank sends {sent / 1e6:.3g} MB a step, {1e3 * sent / NETWORK:.3g} ms at 100 Gbit/s, "
            "on top of the time above"
        )
    every, interval = values["checkpoint"]["every"], values["checkpoint"]["interval"]
    points = math.prod(shape)
    if frames := Schedule(values["fields"]).count(steps, steps * surrogate.interval):
        size = points * (4 if values["fields"]["precision"] == "single" else 8)
        packed = " before compression" * (values["fields"]["compression"] != "none")
        world.log(f"fields       {frames} frames, {frames * size / 1e6:.1f} MB{packed}")
    saved = points * (8 + architecture.blocks * architecture.channels * small.inference.dtype.itemsize)
    world.log(f"checkpoint   {saved / 1e6:.1f} MB, every {f'{every} steps' if every else f'{interval:g} s'}")
    return 0


def footprint(architecture, brick, ghosts: bool, itemsize: int) -> tuple[float, float]:
    """Bytes of φ, hidden states and the field that is measured on a rank; those that it sends in a step."""
    row = -(-brick[-1] // ROW) * ROW
    memory, sent = math.prod(brick) * 8.0, 0.0
    for k, halo in enumerate(architecture.halo):
        size = row * (8 if k == 0 else architecture.channels * itemsize)
        width = 2 * halo if ghosts else 0
        around = math.prod(n + width for n in brick[:-1])
        memory += around * size
        sent += (around - math.prod(brick[:-1])) * size
    return memory, sent


def sample(surrogate, brick, ghosts, like, threads) -> tuple[float, float]:
    """Seconds of a step on a brick, and bytes of the planes under way: from one as thick along axis 0, but with shorter lines."""
    few = SAMPLE if len(brick) == 3 else SAMPLE**2
    points = [min(brick[0], SAMPLE), *(min(n, few) for n in brick[1:])]
    inference = Inference(surrogate.architecture, surrogate.arrays, like.inference.precision, threads)
    width = max(surrogate.architecture.halo) if any(ghosts) else 0
    shape = [n + 2 * width for n in points[:-1]] + [-(-points[-1] // ROW) * ROW]
    phi = np.full(shape, 0.5)
    hidden = [
        np.zeros((surrogate.architecture.channels, *shape), inference.dtype)
        for _ in range(surrogate.architecture.blocks)
    ]
    beyond, best = [FAR * ghost for ghost in ghosts for _ in range(2)], math.inf
    for _ in range(3):
        begun = time.perf_counter()
        inference.step(phi, hidden, points, like.given, beyond)
        best = min(best, time.perf_counter() - begun)
    # planes of ghosts are computed too, so many for each plane of the brick: fewer where the brick is thicker
    extra = 2 * max(surrogate.architecture.halo) * ghosts[0]
    planes = (brick[0] + extra) / (points[0] + extra)
    lines = math.prod(brick[1:]) / math.prod(points[1:])
    return best * planes * lines, inference.nbytes * lines
