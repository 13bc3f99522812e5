"""The run directory: everything that a run reads again or leaves behind, in one place.

run.toml          the resolved run file
provenance.json   how the run was made (one entry a start)
log.txt           what was printed
series.h5, .csv   scalars over time
trajectory.h5     H5MD
nuclei.h5         nuclei over time
fields.h5, .xdmf  fields over time
sequences.h5      many short runs, each a sequence of fields
labelled.dataset  structures that a teacher labelled; parts/ while they are made
profiles.h5       structure factors over time
checkpoints/      the newest two
extrapolation/, deviation/   configurations outside the potential's range, step-<number>.xyz
potential.ostwald, potential/   what a training made: a model file; input.nn, scaling.data, weights.*.data
surrogate.ostwald what a surrogate's training made: a model file
taken.json        which sequences a surrogate's training learns from
members/          of an ensemble: the run directories of its members, 1, 2, …
errors.json       its errors
predictions.h5    what it says of the validation set, beside the labels
descriptors.h5    its symmetry functions, while it runs
evaluation.json   results of an evaluation; cases/ has those of each case
timing.json       where the time went
report.html
slurm-job         the number of the last batch job; batch.sbatch, slurm-<job>.log: its script, and what it printed
.lock             held while a run is active
"""

import json
import shutil
from pathlib import Path

from ostwald.io.lock import RunLock
from ostwald.io.provenance import provenance
from ostwald.io.structures import write_structure
from ostwald.io.text import read_text, write_text

CONFIGURATIONS = ("extrapolation", "deviation")
"""Folders of configurations that a run may write."""


class RunDirectoryError(RuntimeError):
    """A run directory cannot be used; one sentence that names it and the reason."""


class RunDirectory:
    """A locked run directory; `create` starts a run, `open` continues one. Collective; close() releases the lock."""

    def __init__(self, path, world):
        self.path = Path(path)
        self.world = world
        self.run_file = self.path / "run.toml"
        self.provenance_file = self.path / "provenance.json"
        self.log_file = self.path / "log.txt"
        self.series_file = self.path / "series.h5"
        self.series_csv = self.path / "series.csv"
        self.trajectory_file = self.path / "trajectory.h5"
        self.nuclei_file = self.path / "nuclei.h5"
        self.fields_file = self.path / "fields.h5"
        self.sequences_file = self.path / "sequences.h5"
        self.dataset_file = self.path / "labelled.dataset"
        self.parts = self.path / "parts"
        self.profiles_file = self.path / "profiles.h5"
        self.checkpoints = self.path / "checkpoints"
        self.potential = self.path / "potential"
        self.surrogate_file = self.path / "surrogate.ostwald"
        self.taken_file = self.path / "taken.json"
        self.members = self.path / "members"
        self.model_file = self.path / "potential.ostwald"
        self.errors_file = self.path / "errors.json"
        self.predictions_file = self.path / "predictions.h5"
        self.curves_file = self.path / "curves.json"
        self.descriptors_file = self.path / "descriptors.h5"
        self.evaluation_file = self.path / "evaluation.json"
        self.cases = self.path / "cases"
        self.timing_file = self.path / "timing.json"
        self.report_file = self.path / "report.html"
        self._lock = None
        self._log = None

    @classmethod
    def create(cls, path, world, run_toml: str, overwrite: bool = False) -> "RunDirectory":
        """A fresh directory with the resolved run file. One that holds a run already is refused, unless `overwrite`.

        `overwrite` removes the earlier run's files, by their names above, after the lock is held; nothing else.
        """
        run = cls(path, world)
        run._on_root(lambda: run.path.mkdir(parents=True, exist_ok=True))
        run._lock = RunLock(run.path, world)
        try:
            run._on_root(lambda: run._begin(run_toml, overwrite))
            run._start()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path, world) -> "RunDirectory":
        """The directory of a run to be continued. RunDirectoryError's sentence where there is no run."""
        run = cls(path, world)
        run._on_root(run._check)
        run._lock = RunLock(run.path, world)
        try:
            run._start()
        except BaseException:
            run.close()
            raise
        return run

    def read_run_file(self) -> str:
        """The text of the resolved run file, on every rank."""
        return self.world.bcast(self._on_root(lambda: read_text(self.run_file)))

    def write_json(self, path, content) -> None:
        """Writes JSON whole or not at all; collective."""
        self._on_root(lambda: write_text(path, json.dumps(content, indent=2) + "\n"))

    def write_text(self, path, text: str) -> None:
        self._on_root(lambda: write_text(path, text))

    def write_structure(self, name, structure) -> None:
        """Writes rank 0's structure to a file of the directory, in a folder that is made where it is missing; collective."""
        path = self.path / name

        def write():
            path.parent.mkdir(exist_ok=True)
            write_structure(path, structure)

        self._on_root(write)

    def configurations(self, folder) -> list[int]:
        """The steps of the files step-<number>.xyz in a folder of the directory, the same on every rank; collective."""
        return self.world.bcast(self._on_root(lambda: [int(p.stem[5:]) for p in self._configurations(folder)]))

    def make(self, folder) -> None:
        """Makes a folder of the directory; collective."""
        self._on_root(lambda: folder.mkdir(exist_ok=True))

    def remove(self, name) -> None:
        """Removes a file of the directory if it is there; collective."""
        self._on_root(lambda: (self.path / name).unlink(missing_ok=True))

    def keep(self, source, name=None) -> None:
        """Copies a file that the run needs again into the directory, under its name or another, perhaps in a folder of its
        own; collective."""
        target = self.path / (name or Path(source).name)

        def copy():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)

        self._on_root(copy)

    def close(self) -> None:
        """Closes the log and releases the lock."""
        if self._log is not None:
            if self._log in self.world.log.files:
                self.world.log.files.remove(self._log)
            self._log.close()
            self._log = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- inside

    def _on_root(self, action):
        """The action's result on rank 0, None elsewhere; its failure is everybody's."""
        result = error = None
        if self.world.root:
            try:
                result = action()
            except Exception as caught:
                error = caught
                if isinstance(caught, OSError) and caught.strerror:
                    error = RunDirectoryError(f"{caught.filename or self.path}: {caught.strerror}")
        self.world.agree(error)
        return result

    def _files(self) -> list[Path]:
        mine = [self.run_file, self.provenance_file, self.log_file, self.series_file, self.series_csv]
        mine += [self.trajectory_file, self.nuclei_file, self.fields_file, self.fields_file.with_suffix(".xdmf")]
        mine += [self.sequences_file, self.profiles_file, self.timing_file, self.report_file, self.taken_file]
        mine = [p for p in mine if p.exists()] + sorted(self.checkpoints.glob("checkpoint-*.h5"))
        mine += [p for p in [self.dataset_file] if p.exists()] + sorted(self.parts.glob("part-*.dataset"))
        mine += [p for p in [self.evaluation_file] if p.exists()] + sorted(self.cases.glob("case-*.h5"))
        mine += [p for folder in CONFIGURATIONS for p in self._configurations(folder)]
        return mine + [
            p for folder in sorted(self.members.glob("*")) for p in RunDirectory(folder, self.world)._files()
        ]

    def _configurations(self, folder) -> list[Path]:
        return sorted(p for p in (self.path / folder).glob("step-*.xyz") if p.stem[5:].isdigit())

    def _begin(self, run_toml, overwrite):
        present = self._files()
        if present and not overwrite:
            raise RunDirectoryError(
                f"{self.path}: holds a run already ({present[0].name}); resume it, or choose another directory"
            )
        for file in present:
            file.unlink()
        self.checkpoints.mkdir(exist_ok=True)
        write_text(self.run_file, run_toml)

    def _check(self):
        if not self.path.is_dir():
            raise RunDirectoryError(f"{self.path}: no such directory")
        if not self.run_file.exists():
            raise RunDirectoryError(f"{self.path}: not a run directory (it has no {self.run_file.name})")

    def _start(self):
        facts = provenance(self.world)

        def begin():
            before = json.loads(read_text(self.provenance_file)) if self.provenance_file.exists() else []
            write_text(self.provenance_file, json.dumps([*before, facts], indent=2) + "\n")
            self._log = open(self.log_file, "a", encoding="utf-8")
            self.world.log.files.append(self._log)

        self._on_root(begin)
