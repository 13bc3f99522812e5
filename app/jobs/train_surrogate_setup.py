"""What the training of a surrogate runs with, made from its run file: sequences, network, loss, optimiser."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ostwald.app.jobs.progress import clock
from ostwald.app.jobs.train_optimisers import minibatch
from ostwald.app.jobs.train_surrogate_schema import architecture, parameter_names
from ostwald.app.runfile import RunFileError
from ostwald.app.surrogate import model
from ostwald.app.surrogate.data import TrainingSequences
from ostwald.app.surrogate.inference import Inference
from ostwald.app.surrogate.network import Network
from ostwald.app.surrogate.objective import Augmentation, Curriculum, Loss, Scaling, SequenceObjective, plan
from ostwald.app.training.device import usable
from ostwald.io.arrayfile import ArrayFile
from ostwald.io.provenance import origin, provenance
from ostwald.io.sequences import SequencesError
from ostwald.io.text import read_text
from ostwald.parallel.training import require

SHOWN = 6
"""Frames of a sequence in the report."""
DEPLOYED = 3
"""Steps after which native inference is compared with torch."""


class Setup:
    """Collective. path: of the run file, for messages. What is wrong with it is said here.

    data: TrainingSequences; network; parameters: model.Parameter of each; objective; trainer.
    """

    columns = {"given": "", "validation_rmse": "", "last_rmse": "", "mean_drift": ""}
    sections = ()

    def __init__(self, world, values, path):
        self.world, self.values, self.path = world, values, path
        self.trainer = None
        optimiser = values["optimiser"]
        require(optimiser["communication"], world, optimiser["compression"])
        torch.set_num_threads(world.threads)
        self._open_data()
        self._network()
        self._objective()

    def _fail(self, table, key, why):
        return RunFileError(f"{self.path}: [{table}] {key}: {why}")

    def _open_data(self):
        v, files = self.values["data"], [table["file"] for table in self.values["sequences"]]
        keys = [table["key"] for table in self.values["parameter"]]
        try:
            self.data = TrainingSequences(files, keys, v["resampling"], v["every"], v["frames"])
            self.data.keep(self.world.bcast(self.data.taken))  # while more are being made, ranks do not see the same
        except (SequencesError, ValueError) as error:
            raise RunFileError(f"{self.path}: [[sequences]] {error}") from None
        batch, items = self.values["optimiser"]["batch"], self.data.items
        for part in ("training", "validation"):
            if not len(items[part]):
                raise RunFileError(f"{self.path}: [[sequences]] file: no finished sequence is for {part}")
        if batch > len(items["training"]):
            raise self._fail(
                "optimiser", "batch", f"{batch} is more than the {len(items['training'])} sequences there are"
            )
        if self.world.size > batch:
            raise self._fail(
                "optimiser", "batch", f"{batch} sequences cannot be shared out over {self.world.size} ranks"
            )

    def _network(self):
        v, data = self.values["network"], self.data
        start = None
        if v["start"] is None:
            self.architecture = architecture(self.values, self.path)
        else:
            start = self._start(v["start"])
            self.architecture = start.architecture
        if self.architecture.dimensions != len(data.shape):
            raise self._fail(
                "network", "dimensions", f"{self.architecture.dimensions}, but sequences have {len(data.shape)}"
            )
        self.parameters = self._widened(start.parameters) if start else self._statistics()
        dtype = torch.float64 if v["precision"] == "double" else torch.float32
        compute = torch.bfloat16 if v["compute"] else None
        try:
            device = usable(v["device"], self.world)
        except ValueError as error:
            raise self._fail("network", "device", str(error)) from None
        self.network = Network(self.architecture, dtype, device, compute, self.values["job"]["seed"])
        if start:
            self.network.load(start.arrays)

    def _start(self, file):
        """The surrogate to go on with, if it goes with the data."""
        try:
            start = model.load(file)
        except ValueError as error:
            raise self._fail("network", "start", str(error)) from None
        wanted = dict(
            interval=self.data.interval,
            spacing=self.data.spacing,
            parameters=list(zip(parameter_names(self.values), (p["key"] for p in self.values["parameter"]))),
        )
        there = dict(
            interval=start.interval, spacing=start.spacing, parameters=[(p.name, p.key) for p in start.parameters]
        )
        for what, value in wanted.items():
            if what == "parameters":
                same = value == there[what]
            else:
                same = np.size(value) == np.size(there[what]) and np.allclose(value, there[what])
            if not same:
                raise self._fail("network", "start", f"{file} is for another {what} ({there[what]}, not {value})")
        return start

    def _widened(self, parameters) -> tuple[model.Parameter, ...]:
        """The parameters of the surrogate to go on with, whose ranges now have the training set in them, too."""
        columns = self.data.parameters[self.data.items["training"]].T
        return tuple(
            replace(p, low=min(p.low, float(column.min())), high=max(p.high, float(column.max())))
            for p, column in zip(parameters, columns)
        )

    def _statistics(self) -> tuple[model.Parameter, ...]:
        found = []
        columns = self.data.parameters[self.data.items["training"]].T
        for name, table, column in zip(parameter_names(self.values), self.values["parameter"], columns):
            low, high, scale = float(column.min()), float(column.max()), float(column.std())
            if scale <= 1e-12 * max(abs(low), abs(high)):
                raise RunFileError(f"{self.path}: [[parameter]] key: {table['key']} is {low:g} in all sequences")
            found.append(model.Parameter(name, table["key"], float(column.mean()), scale, low, high))
        return tuple(found)

    def _objective(self):
        v, data = self.values, self.data
        periodic, loss = self.architecture.padding == "circular", v["loss"]
        function = Loss(data.spacing, loss["gradient"], loss["energy"], loss["mean"], loss["epsilon"] or 1.0, periodic)
        turns = v["augmentation"]
        complements = tuple(k for k, table in enumerate(v["parameter"]) if table["complement"])
        augmentation = Augmentation(
            turns["rotations"], turns["reflections"], turns["exchange"], turns["noise"], complements
        )
        most = -(-v["optimiser"]["batch"] // self.world.size)
        try:
            self.plan = plan(self.network, data.shape, data.frames - 1, most, 1e9 * v["memory"]["limit"])
        except ValueError as error:
            raise self._fail("memory", "limit", str(error)) from None
        scaling = Scaling(*(np.array([getattr(p, what) for p in self.parameters]) for what in ("offset", "scale")))
        self.objective = SequenceObjective(
            self.network,
            data,
            scaling,
            function,
            Curriculum(data.frames, v["curriculum"]["epochs"]),
            augmentation,
            self.plan,
            v["optimiser"]["batch"],
            v["job"]["seed"],
            v["data"]["windows"] and data.starts > 1,
        )

    def prepare(self, directory):
        self._same_sequences(directory)
        self.trainer = minibatch(self.world, self.objective, self.values["optimiser"], self.values["job"]["seed"])

    def _same_sequences(self, directory):
        """A training that is resumed goes on with the sequences it began with, though more may be finished now. Collective."""
        file, data = directory.taken_file, self.data
        taken = self.world.bcast(json.loads(read_text(file)) if self.world.root and file.exists() else None)
        if taken is None:
            directory.write_json(file, data.taken)
        elif taken != data.taken:
            more = sum(map(len, data.taken)) - sum(map(len, taken))
            try:
                data.keep(taken)
            except ValueError as error:
                raise RunFileError(f"{self.path}: [[sequences]] {error}") from None
            self.world.log(f"{more} sequences that were finished after this training began are left out")
            self._network()
            self._objective()

    @property
    def work(self) -> dict[str, float]:
        """What a sequence of the training set amounts to."""
        return {"sequences": 1.0, "point_steps": float((self.data.frames - 1) * np.prod(self.data.shape))}

    def findings(self) -> list[str]:
        """What looks wrong; one line each."""
        found, epochs = [], self.values["optimiser"]["epochs"]
        for file in self.data.files:
            if missing := int(np.sum(file.state == 0)):
                found.append(f"{file.path}: {missing} of {len(file)} sequences are not there yet: they are left out")
        if self.values["curriculum"]["epochs"] > epochs:
            found.append(
                f"{self.path}: [curriculum] epochs: the training ends, after {epochs} epochs, before the loop is closed"
            )
        return found

    def describe(self) -> str:
        """A few lines: data, network, memory, time."""
        data, v = self.data, self.values["optimiser"]
        numbers = {part: len(items) for part, items in data.items.items()}
        shape, spacing = (" × ".join(f"{x:g}" for x in each) for each in (data.shape, data.spacing))
        files = ", ".join(str(file.path) for file in data.files)
        updates = v["epochs"] * -(-numbers["training"] // v["batch"])
        steps, again = data.frames - 1, self.plan.segment
        lines = [
            f"sequences   {numbers['training']} to train on, {numbers['validation']} to validate, of {files}",
            f"            {data.frames} frames, {data.interval:g} apart, of {shape} points, {spacing} apart",
            f"network     {self.architecture.describe()}",
            f"            {str(self.network.dtype).removeprefix('torch.')}"
            + f", convolutions in {str(self.network.compute).removeprefix('torch.')}"
            * (self.network.compute != self.network.dtype),
            f"memory      {self.plan.bytes / 1e9:.3g} GB for {self.plan.together} sequences at a time"
            + (f", of {again} steps at a time, others computed again" if again else ""),
            f"optimiser   {v['kind']}, {v['epochs']} epochs, {updates} updates",
            f"time        {clock(self._seconds(steps))} a sequence about: {clock(self._hours(numbers, steps))} in all",
        ]
        return "\n".join(lines)

    def _seconds(self, steps) -> float:
        """Of training with one sequence, from two steps of it (the second time; the first makes torch's kernels)."""
        if not hasattr(self, "_measured"):
            phi = torch.full((self.plan.together, 1, *self.data.shape), 0.5).to(self.network.theta)
            count, took = len(self.parameters), 0.0
            parameters = phi.new_zeros((len(phi), count)) if count else None
            for _ in range(2):
                begun = time.perf_counter()
                loss = self.network.roll_out(phi, 2, parameters).square().sum()
                torch.autograd.grad(loss, self.network.theta)[0].sum().item()  # which waits for a GPU
                took = time.perf_counter() - begun
            self._measured = self.world.bcast(took / 2 / len(phi))
        return self._measured * steps * (4 / 3 if self.plan.segment else 1)

    def _hours(self, numbers, steps) -> float:
        """Of all epochs, in seconds; a validation does a third of the work."""
        epochs, share = self.values["optimiser"]["epochs"], 1 / (3 * self.values["validation"]["every"])
        return epochs * self._seconds(steps) * (numbers["training"] + share * numbers["validation"]) / self.world.size

    # ---- during and after the training ------------------------------------------------------------------------------

    def validate(self):
        """The objective on the validation set, errors for the series, words for the log."""
        items, sums = self.data.items["validation"], np.zeros(3)
        drift = 0.0
        for loss, truth, found in self.objective.errors(items[self.world.rank :: self.world.size]):
            square, shift = _errors(truth, found)
            sums += loss, square[1:].mean(), square[-1]
            drift = max(drift, np.abs(shift).max())
        loss, square, last = self.world.allreduce(sums) / len(items)
        drift = float(self.world.allreduce(drift, op="max"))
        given = self.objective.curriculum(self.objective.epoch(max(self.trainer.updates - 1, 0)))
        row = dict(
            validation_loss=loss, given=given, validation_rmse=square**0.5, last_rmse=last**0.5, mean_drift=drift
        )
        words = f"RMSE {square**0.5:.4f}, of the last frame {last**0.5:.4f}, drift of the mean {drift:.1e}"
        objective = self.values["validation"]["objective"]
        return row[objective if objective == "last_rmse" else f"validation_{objective}"], row, f"{words}  {given} given"

    def finish(self, directory) -> dict:
        """The surrogate, its errors, and some of its predictions."""
        world, items = self.world, self.data.items["validation"]
        mine = range(world.rank, len(items), world.size)
        rows = []
        for place, (_, truth, found) in zip(mine, self.objective.errors(items[list(mine)])):
            square, drift = _errors(truth, found)
            still, _ = _errors(truth, truth[:1].expand_as(truth))
            rows.append((place, square**0.5, still**0.5, drift))
        rows = sorted((row for each in world.allgather(rows) for row in each), key=lambda row: row[0])
        rmse, still, drift = (np.array([row[k] for row in rows]) for k in (1, 2, 3))
        errors = dict(
            sequences=len(items),
            rmse=float(np.sqrt((rmse[:, 1:] ** 2).mean())),
            last_rmse=float(np.sqrt((rmse[:, -1] ** 2).mean())),
            persistence_rmse=float(np.sqrt((still[:, 1:] ** 2).mean())),
            mean_drift=float(np.abs(drift).max()),
        )
        world.log(
            f"validation  {len(items)} sequences: RMSE {errors['rmse']:.4f}, of the last frame {errors['last_rmse']:.4f}; "
            f"of fields that stay as they are {errors['persistence_rmse']:.4f}"
        )
        directory.write_json(directory.errors_file, {"validation": errors})
        self._write_predictions(directory.predictions_file, rmse, still, drift)
        self._save(directory.surrogate_file, errors)
        difference = self._deployed(directory.surrogate_file)
        world.log(f"            as native inference reads it, φ differs by {difference:.1e} after {DEPLOYED} steps")
        if difference > 1e-9:
            world.log.warning(f"the surrogate on the disk does not give the network's φ: {difference:.1e} apart")
        return {"validation": errors, "point_step_operations": self.architecture.operations}

    def _write_predictions(self, path, rmse, still, drift):
        """Errors (n, frames) of all sequences of the validation set; planes of the best, the middling and the worst."""
        items, order = self.data.items["validation"], np.argsort(rmse[:, -1], kind="stable")
        chosen = order[np.unique([0, len(order) // 2, len(order) - 1])]
        frames = np.unique(np.linspace(0, self.data.frames - 1, SHOWN).round().astype(int))
        arrays = {"rmse": rmse, "persistence": still, "drift": drift}
        planes = [
            [_plane(each[frames]) for each in (truth, found)]
            for _, truth, found in self.objective.errors(items[chosen])
        ]
        arrays["planes"] = np.array(planes, np.float32)  # (sequences, truth and prediction, frames, m0, m1)
        meta = dict(
            frames=frames.tolist(), sequences=[int(items[k]) for k in chosen], last_rmse=rmse[chosen, -1].tolist()
        )
        meta |= dict(interval=self.data.interval)
        with ArrayFile(path, self.world, {name: (a.shape, a.dtype) for name, a in arrays.items()}, meta) as file:
            for name, array in arrays.items() if self.world.root else ():
                file.write(name, 0, np.ascontiguousarray(array))

    def _save(self, path, errors):
        """Writes the surrogate. Collective."""
        facts, error, data = provenance(self.world), None, self.data
        training = dict(
            steps=data.frames - 1,
            sequences=len(data.items["training"]),
            files=[Path(file.path).name for file in data.files],
            start=Path(self.values["network"]["start"]).name if self.values["network"]["start"] else None,
            errors=errors,
        )
        training |= {name: self.values[name] for name in ("data", "loss", "curriculum", "augmentation", "optimiser")}
        if self.world.root:
            try:
                found = model.Surrogate(
                    self.architecture,
                    self.network.arrays(),
                    data.interval,
                    data.spacing,
                    data.resampling,
                    self.parameters,
                    training,
                )
                found.save(path, origin(facts))
            except (OSError, ValueError) as caught:
                error = caught
        self.world.agree(error)
        self.world.log(f"surrogate   {path}")

    def _deployed(self, path) -> float:
        """The largest difference of φ between the surrogate in a file, run natively, and its network in torch, in double precision, some
        steps after the first frame of a sequence of the validation set."""
        item, shape = self.data.items["validation"][0], self.data.shape
        surrogate, first = model.load(path), self.data.read(item)[0].astype(float)
        parameters = self.objective.scaled.of(self.data.parameters[item])
        native, network = (
            Inference(surrogate.architecture, surrogate.arrays, "double"),
            Network(surrogate.architecture, torch.float64),
        )
        network.load(surrogate.arrays)
        phi, hidden = native.empty(shape)
        phi[..., : shape[-1]] = first
        for _ in range(DEPLOYED):
            native.step(phi, hidden, shape, parameters)
        with torch.no_grad():
            given = torch.from_numpy(parameters)[None] if len(parameters) else None
            wanted = network.roll_out(torch.from_numpy(first)[None, None], DEPLOYED, given)[0, -1].numpy()
        return float(np.abs(phi[..., : shape[-1]] - wanted).max())

    def close(self, keep=False):
        """Ends communication."""
        if self.trainer is not None:
            self.trainer.exchange.close()
        self.data.close()


def _errors(truth, found):
    """(t,) f8: mean squares of the errors, and differences of the means, of frames (t, *n)."""
    off = (found.double() - truth.double()).flatten(1)
    drift = found.double().flatten(1).mean(1)
    return off.square().mean(1).cpu().numpy(), (drift - drift[0]).cpu().numpy()


def _plane(frames):
    """Frames (t, *n), or of three dimensions their planes in the middle of the first axis."""
    frames = frames.cpu().numpy()
    return frames[:, frames.shape[1] // 2] if frames.ndim == 4 else frames
