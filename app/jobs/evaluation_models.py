"""The models of an evaluation: what predicts the frames of a case from its first one.

A model has start(fine), the truth's first frame; advance(t), to that time since then; field() -> φ on the grid on which it is compared;
mean() -> <φ> on its own grid; timed: whether its processor time is that of the steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ostwald.app.jobs.evaluation_cases import Frames, Stepper, on_grid, whole
from ostwald.app.jobs.evaluation_schema import model_name
from ostwald.app.jobs.phasefield_grid import boundaries
from ostwald.app.jobs.phasefield_setup import build, make_elasticity, make_well
from ostwald.app.jobs.phasefield_stages import adaptive
from ostwald.app.jobs.rollout_schema import TABLES as ROLLOUT
from ostwald.app.runfile import RunFileError, load_toml, validate
from ostwald.app.surrogate import model as surrogates
from ostwald.app.surrogate.metrics import LinearTheory
from ostwald.app.surrogate.resampling import resampled
from ostwald.app.surrogate.rollout import RollOut
from ostwald.io.fields import FieldsError
from ostwald.io.modelfile import ModelFileError


def load(tables, path) -> list:
    """The Surrogate of each table [[model]], None of other kinds. RunFileError."""
    found = []
    for table in tables:
        try:
            found.append(surrogates.load(table["file"]) if table["kind"] == "surrogate" else None)
        except ModelFileError as error:
            raise RunFileError(f"{path}: [model {model_name(table)}] file: {error}") from None
    return found


def longest_interval(loaded) -> float | None:
    """The step of the slowest surrogate; None where there is no surrogate."""
    return max((s.interval for s in loaded if s is not None), default=None)


class Models:
    """The models of a run file. tables: [[model]]; loaded: load(tables)."""

    def __init__(self, tables, loaded, path):
        self.tables, self.loaded, self.path = tables, loaded, path
        self.names = [model_name(table) for table in tables]
        if twice := next((name for name in self.names if self.names.count(name) > 1), None):
            raise RunFileError(f"{path}: [[model]] name: '{twice}' stands twice")

    @property
    def first(self) -> int | None:
        """Number of the first surrogate."""
        return next((k for k, surrogate in enumerate(self.loaded) if surrogate is not None), None)

    def error(self, k, key, why) -> RunFileError:
        return RunFileError(f"{self.path}: [model {self.names[k]}] {key}: {why}")

    def grids(self, protocol) -> list[tuple[int, str]]:
        """(ratio, resampling) of the grid on which each model is compared with the truth: its own, of controls the first surrogate's."""
        found = [self._grid(k, protocol) for k, s in enumerate(self.loaded) if s is not None]
        control, found = (found[0] if found else (1, "none")), iter(found)
        return [control if s is None else next(found) for s in self.loaded]

    def _grid(self, k, protocol):
        surrogate, (shape, spacing) = self.loaded[k], (protocol.shape, protocol.spacing)
        if len(surrogate.spacing) != len(shape):
            raise self.error(
                k, "file", f"a network of {len(surrogate.spacing)} dimensions; {protocol.name} has {len(shape)}"
            )
        ratios = {whole(a / b) for a, b in zip(surrogate.spacing, spacing)}
        ratio = ratios.pop() if len(ratios) == 1 else None
        if ratio is None or any(n % ratio for n in shape):
            texts = [" × ".join(f"{h:g}" for h in of) for of in (surrogate.spacing, spacing)]
            raise self.error(
                k,
                "file",
                f"its points are {texts[0]} apart, those of {protocol.name} {texts[1]}: they do not go together",
            )
        if not protocol.fits(surrogate.interval):
            raise self.error(
                k, "file", f"a step is {surrogate.interval:g}, the frames of {protocol.name} are not whole steps apart"
            )
        if ratio == 1:
            return ratio, "none"
        return (
            ratio,
            "mean" if surrogate.resampling == "mean" else "nearest",
        )  # "none": a set with a stride keeps nearest points

    def make(self, k, world, protocol, case, grid):
        """Model k for a case, compared on a grid of grids(). RunFileError where it cannot do that case."""
        table = self.tables[k]
        if protocol.table["rollout"] is not None and k == self.first:
            return RolledBefore(self, protocol, grid)
        if table["kind"] == "surrogate":
            return Rolled(world, self, k, protocol, case, grid)
        if table["kind"] == "solver":
            return Simulated(world, self, k, protocol, case, grid)
        if table["kind"] == "linear":
            return Linear(self, k, protocol, case, grid)
        return Persistence(grid)


class Persistence:
    """The field stays as it is."""

    timed = True

    def __init__(self, grid):
        self._grid = grid

    def start(self, fine):
        self._field = resampled(fine, *self._grid)

    def advance(self, time):
        pass

    def field(self):
        return self._field

    def mean(self):
        return float(self._field.mean())

    def close(self):
        pass


class Linear(Persistence):
    """Waves grow by themselves."""

    def __init__(self, models, k, protocol, case, grid):
        super().__init__(grid)
        model, values = case.values["model"], case.values
        if model["equation"] != "cahn-hilliard" or "mirror" in boundaries(values):
            raise models.error(k, "kind", "linear theory is for the Cahn–Hilliard equation in a periodic box")
        coefficients = model["mobility_coefficients"] or (1.0,)
        self._well = make_well(model)
        self._elasticity = make_elasticity(values["elasticity"], len(protocol.shape), self._well)
        if not (self._elasticity is None or hasattr(self._elasticity, "factor")):
            raise models.error(k, "kind", "linear theory knows elastic constants of one phase only")
        self._mobility = lambda mean: model["mobility"] * max(float(np.polyval(coefficients[::-1], mean)), 0.0)
        self._epsilon, self._spacing = model["epsilon"], np.multiply(protocol.spacing, grid[0])

    def start(self, fine):
        super().start(fine)
        mobility = self._mobility(float(self._field.mean()))
        self._theory = LinearTheory(self._field, self._spacing, self._well, self._epsilon, mobility, self._elasticity)

    def advance(self, time):
        if time > 0:
            self._field = self._theory.field(time)


class RolledBefore(Persistence):
    """The first surrogate, whose roll-out is there already."""

    timed = False

    def __init__(self, models, protocol, grid):
        super().__init__(grid)
        place = Path(protocol.table["rollout"])
        values = validate(load_toml(place / "run.toml"), ROLLOUT, place / "run.toml")
        if load_hash(values["surrogate"]["file"]) != models.loaded[models.first].hash:
            raise protocol.error("rollout", f"{place}: a roll-out of another network than {models.names[models.first]}")
        shape = [n // grid[0] for n in protocol.shape]
        if values["grid"]["shape"] != shape or len(protocol.cases) > 1:
            raise protocol.error("rollout", f"{place}: not a roll-out of the one case of {protocol.name}")
        protocol.frame_times(place / "fields.h5", "rollout")
        self._frames = Frames(place / "fields.h5")
        try:
            for time in protocol.times:
                self._frames.place(time)
        except FieldsError as error:
            raise protocol.error("rollout", str(error)) from None

    def start(self, fine):
        self._field = self._frames.at(0.0)

    def advance(self, time):
        self._field = self._frames.at(time)


def load_hash(file) -> str | None:
    """Of a surrogate's model file; None where there is none."""
    try:
        return surrogates.load(file).hash
    except ModelFileError:
        return None


class Rolled:
    """A surrogate."""

    timed = True

    def __init__(self, world, models, k, protocol, case, grid):
        surrogate, values, (ratio, _) = models.loaded[k], case.values, grid
        given = {}
        for parameter in surrogate.parameters:
            table, _, key = parameter.key.partition(".")
            value = values.get(table, {}).get(key)
            if not isinstance(value, float | int):
                raise models.error(k, "file", f"the network is given {parameter.key}, which {protocol.name} lacks")
            given[parameter.name] = float(value)
        self._grid, self._interval = grid, surrogate.interval
        precision = models.tables[k]["precision"] or "float32"
        shape = [n // ratio for n in protocol.shape]
        try:
            self._roll = RollOut(
                world, shape, surrogate, make_well(values["model"]), values["model"]["epsilon"], given, precision
            )
        except ValueError as error:
            raise models.error(k, "file", str(error)) from None
        if tuple(self._roll.boundaries) != boundaries(values):
            self._roll.close()
            raise models.error(k, "file", f"its padding does not go with the boundaries of {protocol.name}")

    def start(self, fine):
        self._roll.set_field(np.ascontiguousarray(resampled(fine, *self._grid)))

    def advance(self, time):
        self._roll.step(count=round(time / self._interval) - self._roll.steps)

    def field(self):
        return self._roll.field()

    def mean(self):
        return float(self._roll.field().mean())

    def close(self):
        self._roll.close()


class Simulated:
    """The truth's solver, or one that is cheaper or noisier."""

    timed = True

    def __init__(self, world, models, k, protocol, case, grid):
        table, values, (ratio, how) = models.tables[k], case.values, grid
        self._coarsening = table["coarsening"] or 1
        self._how = how if ratio > 1 else "nearest"
        self._grid = ratio // self._coarsening, self._how
        if ratio % self._coarsening or any(n % self._coarsening for n in protocol.shape):
            raise models.error(
                k,
                "coarsening",
                f"{self._coarsening} does not divide the {ratio} of the grid on which {protocol.name} is compared",
            )
        stage = dict(values["stage"][0])
        if table["timestep"] or table["tolerance"]:
            stage |= dict(
                tolerance=table["tolerance"], timestep=table["timestep"], shortest=None, longest=table["longest"]
            )
        if not adaptive(stage) and not protocol.fits(stage["timestep"]):
            raise models.error(
                k, "timestep", f"the frames of {protocol.name} are not whole time steps of {stage['timestep']:g} apart"
            )
        solver = {key: table[key] or values["solver"][key] for key in ("method", "order")}
        noise = dict(temperature=0.0, amplitude=table["noise"]) if table["noise"] else values["noise"]
        values = values | dict(stage=[stage], solver=values["solver"] | solver, noise=noise)
        values = values | dict(grid=values["grid"] | dict(precision="double"))
        shape = [n // self._coarsening for n in protocol.shape]
        values = on_grid(values, shape, np.multiply(protocol.spacing, self._coarsening).tolist())
        try:
            self._stepper = Stepper(build(world, values, models.path), stage)
        except RunFileError as error:
            why = str(error).removeprefix(f"{models.path}: ")
            raise RunFileError(f"{models.path}: [model {models.names[k]}]: {why}") from None

    def start(self, fine):
        self._stepper.solver.set_field(np.ascontiguousarray(resampled(fine, self._coarsening, self._how)))
        self._stepper.start()

    def advance(self, time):
        self._stepper.advance(time)

    def field(self):
        return resampled(self._stepper.solver.field(), *self._grid)

    def mean(self):
        return float(self._stepper.solver.field().mean())

    def close(self):
        self._stepper.close()


def meter(world, protocol, case, grid):
    """What measures fields of a case on a grid: the truth's solver there, in double precision."""
    ratio = grid[0]
    values = case.values | dict(
        stage=[], noise=dict(temperature=0.0, amplitude=0.0), solver=case.values["solver"] | dict(order=None)
    )
    if values["solver"]["method"] == "petsc":
        values = values | dict(solver=values["solver"] | dict(method="finite-difference"))
    values = values | dict(grid=values["grid"] | dict(precision="double"))
    shape = [n // ratio for n in protocol.shape]
    return build(world, on_grid(values, shape, np.multiply(protocol.spacing, ratio).tolist()), case.path)
