"""The labelling job: structures are made and labelled by a teacher, dealt to ranks that are free, and become one data set."""

from __future__ import annotations

import math
import os
import time

import numpy as np

from ostwald.app.jobs import md_setup, timing
from ostwald.app.jobs.label_schema import TABLES
from ostwald.app.jobs.progress import Progress, clock
from ostwald.app.jobs.runfiles import default_directory, read_run_file
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopped, Stopping
from ostwald.app.potentials import PotentialError
from ostwald.app.potentials.calculator import OstwaldCalculator
from ostwald.app.runfile import RunFileError, dumps
from ostwald.app.training.checks import check as check_set
from ostwald.app.training.generate import Recipe
from ostwald.app.training.teacher import TeacherError, calculator_of, label
from ostwald.io.datasets import DataSetError, open_dataset, write_dataset
from ostwald.io.labelled import read_starts
from ostwald.io.rundirectory import RunDirectory
from ostwald.parallel import CollectiveError, WorkQueue

SECTIONS = ("make", "label", "output")
FLUSH = 30.0
"""Seconds of work of a rank after which it is put on the disk: what a killed run loses at most."""


class Labelling:
    """The job on this rank.

    values: the validated run file. recipes: of its sets. teacher, driver: ASE calculators of this rank.

    A piece is what is made alone: a structure, or a trajectory. Whoever is free takes the next. A rank's pieces go to the disk
    together, as a data set in parts/ whose provenance names them; the whole is put together in the order of the run file.
    """

    def __init__(self, world, values, directory, recipes, teacher, driver):
        self.world, self.values, self.directory, self.recipes = world, values, directory, recipes
        self.teacher, self.driver = teacher, driver
        self.pieces = [(k, piece) for k, recipe in enumerate(recipes) for piece in range(recipe.pieces)]
        done = set(world.bcast(sorted(_index(directory)) if world.root else None))
        # the longest first, so that none of them comes last
        missing = [number for number in range(len(self.pieces)) if number not in done]
        self.missing = sorted(missing, key=lambda number: (-recipes[self.pieces[number][0]].steps(), number))
        self.before = len(done)
        alone = world.split(world.rank)
        self.stopping = Stopping(alone, values["job"]["walltime"], dict(every=0, interval=math.inf), every=1)
        self.queue = WorkQueue(world, len(self.missing))
        self.progress = Progress(world, len(self.pieces), done=self.before, what="piece")
        self.waiting, self.made, self.evaluations, self.left_out = {}, [], 0, 0
        self.flushed = self.started = time.monotonic()

    def run(self) -> int:
        """Labels what is missing. 0 when all is there, EXIT_RESUME when stopped early."""
        reason = None
        with self.stopping:
            try:
                while (place := self.queue.take()) is not None:
                    number = self.missing[place]
                    self.waiting[number] = self._make(number)
                    self.progress.update(self.before + place + 1)
                    if time.monotonic() - self.flushed > FLUSH:
                        self._flush()
                    self._look()
            except Stopped as stop:
                reason = str(stop)
            finally:
                self.progress.close()
                self._flush()  # also where another piece failed
            while not self.queue.everybody_done():
                time.sleep(0.02)
            self.queue.close()
        return self._finish(reason)

    def _make(self, number):
        """The labelled structures of a piece: the same bits whatever this rank has made before."""
        for calculator in (self.driver, self.teacher):
            if isinstance(calculator, OstwaldCalculator):
                calculator.forget()
        k, piece = self.pieces[number]
        recipe, keep, found = self.recipes[k], self.values["keep"], []
        timers = self.world.timers
        made = recipe.make(piece, self.driver, self._look)
        try:
            while True:
                with timers("make"):
                    atoms = next(made, None)
                if atoms is None:
                    return found
                if keep["distance"] and _closest(atoms) < keep["distance"]:
                    self.left_out += 1
                    continue
                with timers("label"):
                    structure = label(atoms, self.teacher, recipe.name)
                self.evaluations += 1
                if keep["force"] and np.linalg.norm(structure.forces, axis=1).max() > keep["force"]:
                    self.left_out += 1
                    continue
                found.append(structure)
        except (TeacherError, PotentialError, ValueError) as error:
            raise TeacherError(f"[set {k + 1}] '{recipe.name}', piece {piece}: {error}") from error

    def _look(self):
        """Stopped where this rank must stop."""
        self.queue.progress()
        if reason := self.stopping.test(0)[1]:
            raise Stopped(reason)

    def _flush(self):
        """Puts what this rank has made on the disk."""
        structures = [s for number in self.waiting for s in self.waiting[number]]
        with self.world.timers("output"):
            if structures:
                numbers = [[number, len(found)] for number, found in self.waiting.items()]
                file = self.directory.parts / f"part-{numbers[0][0]:08d}.dataset"
                write_dataset(file, structures, provenance={"pieces": numbers})
        self.made += self.waiting
        self.waiting, self.flushed = {}, time.monotonic()

    def _finish(self, reason):
        world, directory = self.world, self.directory
        index = world.bcast(_index(directory) if world.root else None)
        done = set(index).union(*world.allgather(self.made))
        complete = len(done) == len(self.pieces)
        structures, atoms = (sum(entry[k] for entry in index.values()) for k in (2, 3))
        wall = time.monotonic() - self.started
        sections, per_rank = timing.over_ranks(world, SECTIONS, wall, dict(resident_bytes=timing.resident_bytes()))
        evaluations = world.allreduce(self.evaluations)
        figures = dict(
            kind="label",
            ranks=world.size,
            count=len(self.pieces),
            pieces=len(done),
            structures=structures,
            atoms=atoms,
            labelled=evaluations,
            left_out=world.allreduce(self.left_out),
            wall_seconds=wall,
            structures_per_second=evaluations / wall,
            sections=sections,
            per_rank=per_rank,
            finished=complete,
        )
        world.log("\n" + timing_table(figures))
        directory.write_json(directory.timing_file, figures)
        reasons = [text for text in world.allgather(reason) if text]
        if not complete:
            world.log(
                f"stopped: {reasons[0] if reasons else 'some are missing'}; {len(done)} of {len(self.pieces)} pieces are there. "
                f"To go on: ostwald resume {directory.path}"
            )
            return EXIT_RESUME
        if not structures:
            raise CollectiveError("[keep] left nothing: every structure has too large a force or too small a distance")
        self._put_together(index)
        return 0

    def _put_together(self, index):
        """The data set of all parts, written by all ranks, then without them."""
        world, directory = self.world, self.directory
        numbers = sorted(index)
        low, high = (len(numbers) * r // world.size for r in (world.rank, world.rank + 1))
        with world.timers("output"):
            parts = {name: open_dataset(directory.parts / name) for name in {index[n][0] for n in numbers[low:high]}}
            mine = (
                parts[name][i]
                for name, first, count, _ in (index[number] for number in numbers[low:high])
                for i in range(first, first + count)
            )
            origin = {"job": self.values["job"]["title"], "teacher": _named(self.values["teacher"])}
            origin |= {"sets": [{k: v for k, v in table.items() if v is not None} for table in self.values["set"]]}
            write_dataset(directory.dataset_file, mine, world, origin | {"seed": self.values["job"]["seed"]})
        for name in sorted({entry[0] for entry in index.values()}):
            directory.remove(f"{directory.parts.name}/{name}")
        if world.root:
            world.log("")
            world.log(check_set(open_dataset(directory.dataset_file)))
        world.barrier()


def _index(directory) -> dict:
    """number of a piece -> (part, its first structure there, how many, their atoms), of all parts on the disk."""
    found = {}
    for file in sorted(directory.parts.glob("part-*.dataset")):
        part = open_dataset(file)
        first = 0
        for number, count in part.provenance["pieces"]:
            atoms = int(part.offsets[first + count] - part.offsets[first])
            found[number] = file.name, first, count, atoms
            first += count
    return found


def _closest(atoms) -> float:
    """Å: the smallest distance, images included; up to 5 Å."""
    from ase.neighborlist import neighbor_list

    return float(neighbor_list("d", atoms, 5.0).min(initial=np.inf))


def timing_table(f) -> str:
    """What was labelled and where the time went, for people."""
    out = f", {f['left_out']} left out" if f["left_out"] else ""
    memory = f["per_rank"]["resident_bytes"]
    lines = [
        f"{f['labelled']} structures labelled{out} in {f['wall_seconds']:.2f} s on {f['ranks']} ranks: "
        f"{f['structures_per_second']:.4g} structures/s",
        "",
        *timing.section_lines(f["sections"]),
        "",
        f"memory of a rank: {memory['min'] / 1e6:.0f} to {memory['max'] / 1e6:.0f} MB",
    ]
    return "\n".join(lines)


def described(values) -> list[str]:
    """A line for the teacher, and for each set what it is."""
    lines = [f"teacher      {_named(values['teacher'])}"]
    if values["driver"]["file"] or values["driver"]["calculator"]:
        lines.append(f"driver       {_named(values['driver'])}")
    for k, table in enumerate(values["set"], 1):
        what = table["lattice"] or (
            os.path.basename(table["file"]) if table["file"] else " ".join(table["species"] or ())
        )
        count = table["count"] or "all"
        lines.append(f"set {k:<9}{table['name']}: {count} {table['kind']}, {what}")
    return lines


def _named(table) -> str:
    names = table["calculator"] or table["file"]
    return ", ".join(names) if isinstance(names, list) else names


# ---- entry points -------------------------------------------------------------------------------------------------


def make_calculator(world, values, name, path):
    """The ASE calculator of [teacher] or [driver]; None where nothing is said. RunFileError."""
    table = values[name]
    if table["calculator"]:
        try:
            return calculator_of(table["calculator"])
        except TeacherError as error:
            raise RunFileError(f"{path}: [{name}] calculator: {error}") from None
    if table["file"] is None:
        return None
    calculator = md_setup.load_potential({"potential": table}, None, world.log).ase()
    calculator.threads = world.threads
    return calculator


def make_recipes(world, values, path) -> list[Recipe]:
    """The sets of a run file; files are read on one rank. RunFileError, the same on every rank."""
    alone, recipes = world.split(world.rank), []
    for k, table in enumerate(values["set"]):
        starts, problem = None, None
        if table["file"] and world.root:
            try:
                starts = read_starts(table["file"])
            except (OSError, ValueError) as error:
                problem = RunFileError(f"{path}: [set {k + 1}] file: {error}")
        world.agree(problem)
        recipes.append(Recipe(table, k, values["job"]["seed"], alone, world.bcast(starts)))
    return recipes


def _tried(recipes, calculators, path):
    """A structure of each set, made and labelled: seconds of each. RunFileError for what cannot be."""
    seconds = []
    for recipe in recipes:
        try:
            atoms = recipe.example()
            for calculator in calculators:
                label(atoms, calculator, recipe.name)
            begun = time.perf_counter()
            label(atoms, calculators[0], recipe.name)
            seconds.append((len(atoms), time.perf_counter() - begun))
        except (TeacherError, PotentialError, ValueError) as error:
            raise RunFileError(f"{path}: [set {recipe.number + 1}] '{recipe.name}': {error}") from None
    return seconds


def _prepared(world, values, path):
    """Recipes, teacher and driver, each tried on one structure of every set, and what that took."""
    world.use_threads(values["parallel"]["threads"])
    recipes = make_recipes(world, values, path)
    result = problem = None
    try:
        teacher = make_calculator(world, values, "teacher", path)
        driver = make_calculator(world, values, "driver", path) or teacher
        calculators = [teacher] if driver is teacher else [teacher, driver]
        result = recipes, teacher, driver, _tried(recipes, calculators, path) if world.root else None
    except (RunFileError, PotentialError) as error:
        problem = error
    world.agree(problem)
    return result


def _resolved(values, path):
    """Makes the paths of potentials and calculators absolute where they are files beside the run file."""
    for name in ("teacher", "driver"):
        table = values[name]
        if table["file"]:
            md_setup.resolve_potential({"potential": table}, path)
        file, colon, what = (table["calculator"] or "").rpartition(":")
        if file.endswith(".py"):
            beside = os.path.join(os.path.dirname(os.path.abspath(path)), os.path.expanduser(file))
            table["calculator"] = os.path.abspath(beside) + colon + what


def _portable(values) -> dict[str, str]:
    """{name: source} of the files that the run directory keeps; the run file then names them, beside itself."""
    kept = {}
    for name in ("teacher", "driver"):
        table = values[name]
        if table["file"]:
            kept |= md_setup.portable_potential({"potential": table})
        file, colon, what = (table["calculator"] or "").rpartition(":")
        if file.endswith(".py"):
            kept[f"{name}.py"] = file
            table["calculator"] = f"{name}.py{colon}{what}"
    for k, table in enumerate(values["set"], 1):
        if table["file"] and os.path.isfile(table["file"]):
            # the whole name: formats go by its ends
            place = f"set-{k}/{os.path.basename(table['file'])}"
            kept[place], table["file"] = table["file"], place
    return kept


def run(world, path, directory=None, force=False) -> int:
    """Starts the job of a run file."""
    values = read_run_file(world, path, TABLES)
    _resolved(values, path)
    recipes, teacher, driver, _ = _prepared(world, values, path)
    where = directory or values["job"]["directory"] or default_directory(path)
    values["job"]["directory"] = None
    lines = described(values)
    kept = _portable(values)
    with RunDirectory.create(where, world, dumps(values), overwrite=force) as target:
        for name, source in kept.items():
            target.keep(source, name)
        return _go(world, values, target, recipes, teacher, driver, lines)


def resume(world, directory, walltime=None) -> int:
    """Labels what is missing in a run directory."""
    with RunDirectory.open(directory, world) as target:
        if world.bcast(target.dataset_file.exists() if world.root else None):
            world.log("this data set is complete; nothing is left to do")
            return 0
        values = read_run_file(world, target.run_file, TABLES)
        _resolved(values, target.run_file)
        if walltime is not None:
            values["job"]["walltime"] = walltime
        recipes, teacher, driver, _ = _prepared(world, values, target.run_file)
        return _go(world, values, target, recipes, teacher, driver, described(values))


def _go(world, values, target, recipes, teacher, driver, lines) -> int:
    title = values["job"]["title"]
    world.log(f"Ostwald labelling{': ' + title if title else ''}")
    world.log(f"run directory {target.path}")
    world.log(world.describe())
    for line in lines:
        world.log(line)
    target.make(target.parts)
    try:
        return Labelling(world, values, target, recipes, teacher, driver).run()
    except DataSetError as error:
        raise CollectiveError(str(error)) from error


def check(world, path, ranks=None) -> int:
    """Validates a run file, labels one structure of each set, and tells what all of them would take."""
    values = read_run_file(world, path, TABLES)
    _resolved(values, path)
    recipes, _, _, tried = _prepared(world, values, path)
    ranks = ranks or world.size
    if world.root:
        total = structures = 0
        for line in described(values):
            world.log(line)
        for recipe, (atoms, seconds) in zip(recipes, tried):
            count = recipe.pieces * recipe.each
            took = recipe.pieces * recipe.steps() * seconds
            total, structures = total + took, structures + count
            world.log(
                f"{recipe.name}: {count} structures of {atoms} atoms, {recipe.pieces * recipe.steps()} evaluations of "
                f"{1e3 * seconds:.3g} ms, {clock(took)} of one rank"
            )
        longest = max(recipe.steps() * seconds for recipe, (_, seconds) in zip(recipes, tried))
        world.log(
            f"all: {structures} structures, about {clock(max(total / ranks, longest))} on {ranks} ranks like this one"
        )
    return 0
