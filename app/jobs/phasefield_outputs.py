"""What a phase-field run writes about its states on the way: frames of fields and analyses."""

from __future__ import annotations

from ostwald.app.jobs.schedule import Schedule
from ostwald.app.phasefield import Morphology, StructureFactor, quantities
from ostwald.io.fields import FieldSeries


class Outputs:
    """Frames and analyses of a run, each when its own schedule says.

    state: what state() told a checkpoint, or None for a new run. Frames of the solver's step and later ones, from before an
    interruption, are removed: a state is looked at when it is left.
    """

    def __init__(self, world, values, directory, solver, state=None):
        self.world, self.solver = world, solver
        table, last = values["analysis"], state or {}
        self.analysed, self.analyses = Schedule(table, last.get("analysis")), []
        if self.analysed:
            self.analyses = [StructureFactor(), Morphology(level=table["level"], domains=table["domains"])]
        table = values["fields"]
        self.framed, self.names, self.fields = Schedule(table, last.get("fields")), table["names"], None
        if self.framed:
            file = directory.fields_file
            if state is not None and file.exists():
                self.fields = FieldSeries.resume(file, solver.parts, solver.steps - 1)
            else:
                parts = quantities.components(solver, self.names)
                self.fields = FieldSeries.create(file, solver.parts, parts, solver.spacing, table["precision"])

    @property
    def columns(self) -> list[str]:
        """Names of the numbers that look() finds."""
        return [name for each in self.analyses for name in each.columns]

    def next_time(self, now: float) -> float:
        """The first time after `now` that something is to be written at; inf where there is none."""
        return min(self.framed.next_time(now), self.analysed.next_time(now))

    def look(self, last: bool = False) -> dict:
        """Collective, once in each state: the frame and the analyses that are due; the numbers of the latter."""
        solver, timers, found = self.solver, self.world.timers, {}
        if self.framed.due(solver.steps, solver.time) or (last and self.framed):
            with timers("output"), quantities.frame(solver, self.names) as frame:
                self.fields.append(solver.steps, solver.time, **frame)
        if self.analysed.due(solver.steps, solver.time) or (last and self.analysed):
            with timers("analysis"):
                for each in self.analyses:
                    found |= each.measure(solver)[0]
        return found

    def state(self) -> dict:
        """For a checkpoint."""
        return dict(fields=self.framed.last, analysis=self.analysed.last)

    def sync(self) -> None:
        """Collective: all of it is on the disk."""
        if self.fields:
            self.fields.sync()

    def close(self) -> None:
        if self.fields:
            self.fields.close()
