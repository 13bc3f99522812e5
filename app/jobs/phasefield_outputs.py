"""What a phase-field run writes about its states on the way: frames of fields and analyses."""

from __future__ import annotations

from ostwald.app.jobs.schedule import Schedule
from ostwald.app.phasefield import Boundary, Isotropy, Modes, Morphology, StructureFactor, quantities
from ostwald.io.fields import FieldSeries
from ostwald.io.profiles import ProfileFile
from ostwald.io.rates import Rate


class Outputs:
    """Frames and analyses of a run, each when its own schedule says.

    state: what state() told a checkpoint, or None for a new run. Frames of the solver's step and later ones, from before an
    interruption, are removed: a state is looked at when it is left.
    """

    def __init__(self, world, values, directory, solver, state=None):
        self.world, self.solver = world, solver
        last, resumed = state or {}, state is not None
        self.analysed, self.file = Schedule(values["analysis"], last.get("analysis")), directory.profiles_file
        given = values["analysis"], solver.parts.shape, "mirror" in solver.boundaries, last
        self.analyses = make_analyses(*given) if self.analysed else []
        self.profiles, self.rate = None, Rate()
        if self.analysed and resumed and self.file.exists():
            self.profiles = ProfileFile.resume(self.file, world, solver.steps - 1)
        table = values["fields"]
        self.framed, self.names, self.fields = Schedule(table, last.get("fields")), table["names"], None
        if self.framed:
            file = directory.fields_file
            if resumed and file.exists():
                self.fields = FieldSeries.resume(file, solver.parts, solver.steps - 1)
            else:
                parts = quantities.components(solver, self.names)
                gzip = None if table["compression"] == "none" else table["compression"]
                self.fields = FieldSeries.create(
                    file, solver.parts, parts, solver.spacing, table["precision"], compression=gzip
                )

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
            with timers("output"), self.rate.adding(solver.points * self.fields.point_bytes):
                self.fields.append(solver.steps, solver.time, **quantities.frame(solver, self.names))
        if self.analysed.due(solver.steps, solver.time) or (last and self.analysed):
            with timers("analysis"):
                for each in self.analyses:
                    numbers, profiles = each.measure(solver)
                    found |= numbers
                    if "wave_number" in profiles:
                        self._write(profiles)
        return found

    def _write(self, profiles):
        solver, s = self.solver, profiles["structure_factor"]
        if self.profiles is None:
            over = {name: profiles[name] for name in ("wave_number", "modes")}
            self.profiles = ProfileFile.create(self.file, self.world, over, {"structure_factor": len(s)})
        self.profiles.append(solver.steps, solver.time, structure_factor=s)

    def state(self) -> dict:
        """For a checkpoint."""
        modes = [each.earlier for each in self.analyses if isinstance(each, Modes)]
        return dict(fields=self.framed.last, analysis=self.analysed.last, modes=modes[0] if modes else None)

    def sync(self) -> None:
        """Collective: all of it is on the disk."""
        for file in (self.fields, self.profiles):
            if file:
                file.sync()

    def close(self) -> None:
        for file in (self.fields, self.profiles):
            if file:
                file.close()


def make_analyses(table, shape, walls=False, state=None) -> list:
    """The analyses that a table [analysis] asks for. ValueError where one cannot be; walls: whether the box has any, which leaves out the
    structure factor; state: of Outputs.state()."""
    shapes = Morphology(level=table["level"], domains=table["domains"])
    if walls:
        for name in ("modes", "roughness", "isotropy"):
            if table[name]:
                raise ValueError(f"{name}: needs a periodic box, not walls ([solver] boundaries)")
        return [shapes]
    found = [StructureFactor(), shapes]
    if table["modes"] is not None:
        found.append(Modes(table["modes"], shape, (state or {}).get("modes")))
    if table["roughness"]:
        found.append(Boundary(table["level"]))
    if table["isotropy"]:
        if len(shape) != 2:
            raise ValueError("isotropy is that of a field of two dimensions")
        found.append(Isotropy())
    return found
