"""What a training runs with, made from its run file: data and descriptors, network, loss, optimiser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols

from ostwald.app.jobs.train_optimisers import minibatch
from ostwald.app.jobs.train_schema import MINIBATCH
from ostwald.app.potentials import PotentialError, load
from ostwald.app.potentials.base import PRECISIONS
from ostwald.app.potentials.hdnnp import grids, modelfile, models, n2p2
from ostwald.app.potentials.hdnnp.descriptors import Descriptors
from ostwald.app.potentials.hdnnp.network import Batch, Centres, Network
from ostwald.app.runfile import RunFileError
from ostwald.app.training import described, start
from ostwald.app.training.appraisal import dimers, energy_volume, evaluation_cost
from ostwald.app.training.checks import check, infinite
from ostwald.app.training.data import folds, reference_energies, seen, split
from ostwald.app.training.device import usable
from ostwald.app.training.errors import UNITS, errors, predictions
from ostwald.app.training.lbfgs import LBFGS
from ostwald.app.training.levenberg_marquardt import LevenbergMarquardt
from ostwald.app.training.loss import Loss
from ostwald.app.training.objective import PotentialObjective
from ostwald.io.arrayfile import ArrayFile
from ostwald.io.datasets import DataSetError, open_dataset
from ostwald.io.provenance import origin, provenance
from ostwald.parallel import philox_generator
from ostwald.parallel.training import require

LARGE = 6000
"""Parameters beyond which dense normal equations are warned of."""


class Setup:
    """Collective. path: of the run file, for messages. What is wrong with it is said here; `prepare` does the work.

    sets, data: the DataSet and the Described of "training" and "validation", which may be the same; indices: the numbers of their
    structures. network; trainer: LevenbergMarquardt or Minibatch.
    """

    columns = {"energy_rmse": "meV/atom", "force_rmse": "eV/Angstrom", "stress_rmse": "GPa"}
    sections = ("descriptors", "data", "gradient", "Jacobian", "normal equations", "solve")

    def __init__(self, world, values, path):
        self.world, self.values, self.path = world, values, path
        self._exchange = None
        self.member = (values["ensemble"]["member"] or 1) - 1
        self.seed = values["job"]["seed"] + self.member
        torch.set_num_threads(world.threads)
        optimiser = values["optimiser"]
        if optimiser["kind"] in MINIBATCH:
            require(optimiser["communication"], world, optimiser["compression"])
        try:
            self.device = usable(values["network"]["device"], world)
        except ValueError as error:
            raise self._fail("network", "device", str(error)) from None
        self._open_data()
        self.descriptors = Descriptors(self._functions())
        self.dtype = torch.float64 if values["network"]["precision"] == "double" else torch.float32
        self._real = np.float64 if self.dtype == torch.float64 else np.float32
        self._size()

    def prepare(self, directory):
        """Descriptors, in a file of the run directory, then network and optimiser."""
        self.compute_descriptors(directory)
        self._network(self.descriptors.model)
        self._trainer()
        nodes = "-".join(str(layer[1]) for layer in self.network.layout[0])
        self.world.log(
            f"networks    {nodes}, {self.network.size} parameters in all, {str(self.dtype).removeprefix('torch.')}"
        )

    # ---- data -------------------------------------------------------------------------------------------------------

    def _fail(self, table, key, why):
        return RunFileError(f"{self.path}: [{table}] {key}: {why}")

    def _open_data(self):
        table = self.values["data"]
        seed = self.values["job"]["seed"] if table["seed"] is None else table["seed"]
        try:
            whole = open_dataset(table["file"])
            validation = open_dataset(table["validation"]) if table["validation"] else None
        except DataSetError as error:
            key = "file" if "whole" not in locals() else "validation"
            raise self._fail("data", key, f"{error} (ostwald convert FILE NAME.dataset makes data sets)") from None
        for key, each in (("file", whole), ("validation", validation)):
            if each is not None and (bad := infinite(each)).any():
                what = f"{each.path}: positions or labels of {bad.sum()} structures are infinite or no numbers"
                raise self._fail("data", key, f"{what} (ostwald convert --clean leaves them out)")
        if validation is not None:
            self.sets = {"training": whole, "validation": validation}
            self.indices = {name: np.arange(len(each)) for name, each in self.sets.items()}
        else:
            self.sets = {"training": whole, "validation": whole}
            self.indices = dict(zip(("training", "validation"), self._divided(whole, seed)))
        if self.values["ensemble"]["resample"] == "bootstrap":
            random, own = philox_generator(seed, "bootstrap", self.member), self.indices["training"]
            self.indices["training"] = np.sort(random.choice(own, len(own)))
        self.parts = {name: self.sets[name].select(chosen) for name, chosen in self.indices.items()}
        training, loss = self.parts["training"], self.values["loss"]
        for name, labels in (("energy", training.energy), ("force", training.forces), ("stress", training.stress)):
            if loss[name] and not np.isfinite(labels).any():
                raise self._fail("loss", name, f"no structure of {table['file']} has a label for it: set it to 0")
        objective, labels = self.values["validation"]["objective"], {"force": "forces"}
        if (
            objective != "loss"
            and not np.isfinite(getattr(self.parts["validation"], labels.get(objective, objective))).any()
        ):
            raise self._fail(
                "validation", "objective", f"no structure of the validation set has a label for '{objective}'"
            )
        optimiser = self.values["optimiser"]
        if optimiser["kind"] in MINIBATCH:
            if optimiser["batch"] > len(training):
                raise self._fail(
                    "optimiser",
                    "batch",
                    f"{optimiser['batch']} is more than the training set's {len(training)} structures",
                )
            if self.world.size > optimiser["batch"]:
                raise self._fail(
                    "optimiser",
                    "batch",
                    f"{optimiser['batch']} structures cannot be shared out over {self.world.size} ranks",
                )
        elif self.world.size > len(training):
            raise self._fail(
                "data", "file", f"{len(training)} structures cannot be shared out over {self.world.size} ranks"
            )

    def _divided(self, whole, seed):
        """Numbers of the structures of the training and of the validation set."""
        table, ensemble = self.values["data"], self.values["ensemble"]
        try:
            if ensemble["resample"] == "folds":
                return folds(whole, ensemble["members"], seed, table["block"], self._copies(whole))[self.member]
            part = table["fraction"] or 0.1
            return split(whole, (1 - part, part), seed, table["block"], self._copies(whole))
        except DataSetError as error:
            where = ("ensemble", "members") if ensemble["resample"] == "folds" else ("data", "fraction")
            raise self._fail(*where, str(error)) from None

    def _copies(self, whole):
        """Equal numbers for equal structures, which stay on one side of the split; None where blocks are kept together."""
        if self.values["data"]["block"] > 1:
            return None
        return self.world.bcast(check(whole).copies if self.world.root else None)

    def findings(self) -> list[str]:
        """What looks wrong with the data; one line each."""
        files = {self.values["data"][key]: each for key, each in zip(("file", "validation"), self.sets.values())}
        lines = []
        for name, each in files.items():
            if name is not None:
                lines += [f"{name}: {f.text}" for f in check(each).findings if f.level in ("error", "warning")]
        here = {chemical_symbols[z] for z in self.parts["training"].elements}
        for symbol in (element.symbol for element in self.descriptors.model.elements if element.symbol not in here):
            lines.append(f"no structure of the training set has {symbol}: its network stays as it is")
        return lines

    @property
    def work(self) -> dict[str, float]:
        """What a structure of the training set amounts to."""
        return {"structures": 1.0, "atoms": float(self.parts["training"].counts.mean())}

    # ---- model ------------------------------------------------------------------------------------------------------

    def _functions(self):
        """The symmetry functions of the run file, or those of the potential to go on with."""
        v, training = self.values, self.parts["training"]
        if v["network"]["start"]:
            try:
                model, *more = models(v["network"]["start"])
                if more:
                    raise PotentialError(f"holds {1 + len(more)} networks: ostwald convert makes a directory of each")
                Descriptors(model).types(training.elements)
            except PotentialError as error:
                raise self._fail("network", "start", str(error)) from None
            return model
        chosen = []
        for g in v["radial"]:
            chosen.append(grids.Radial(g["cutoff"], g["centred"], g["shifted"], g["first"]))
        for g in v["angular"]:
            chosen.append(
                grids.Angular(g["cutoff"], g["narrow"], tuple(g["zetas"]), g["centred"], g["shifted"], g["first"])
            )
        return start.from_grids(training.elements, chosen, v["network"]["cutoff_function"])

    def _size(self):
        """Rows and bytes of the descriptors. RunFileError where they are more than allowed."""
        files = {"training": self.sets["training"]}
        if self.sets["validation"] is not self.sets["training"]:
            files["validation"] = self.sets["validation"]
        self.pairs, self.bytes = {}, 0
        for name, each in files.items():
            try:
                self.pairs[name], size = described.size(each, self.descriptors, self.world, self._real)
            except PotentialError as error:
                raise self._fail("data", "file" if name == "training" else name, str(error)) from None
            self.bytes += size
        limit = self.values["memory"]["limit"]
        if self.bytes > 1e9 * limit:
            raise self._fail(
                "memory",
                "limit",
                f"descriptors and derivatives take {self.bytes / 1e9:.3g} GB, more than {limit:g} GB: fewer functions, a smaller cutoff, "
                "single precision, or a higher limit",
            )

    def compute_descriptors(self, directory):
        """Makes `data`."""
        own = self.values["memory"]["descriptors"]
        base = Path(own) if own else directory.descriptors_file
        self._temporary, self.data = [], {}
        for name, pairs in self.pairs.items():
            file = base if name == "training" else base.with_stem(f"{base.stem}-{name}")
            with self.world.timers("descriptors"):
                self.data[name] = described.describe(
                    self.sets[name], self.descriptors, file, self.world, self._real, pairs
                )
            if not own:
                self._temporary.append(file)
        self.data.setdefault("validation", self.data["training"])

    def _network(self, model):
        v = self.values
        if v["network"]["start"] is None:
            training = self.parts["training"]
            model, self.still = start.with_statistics(model, self.data["training"], self.indices["training"])
            found = reference_energies(training, v["data"]["energies"]).energies
            energies = {chemical_symbols[z]: energy for z, energy in found.items()}
            nodes = v["network"]["nodes"] or [20, 20]
            model = start.with_networks(model, nodes, v["network"]["activation"], energies, self.seed)
            if self.still:
                self.world.log.warning(
                    f"{self.still} symmetry functions do not vary in the training set: they are of no use"
                )
        self.network = Network(model, self.dtype, self.device)

    def _trainer(self):
        v, world = self.values["optimiser"], self.world
        weights = self.values["loss"]
        huber = tuple(weights[f"{name}_huber"] for name in ("energy", "force", "stress"))
        plain = Loss(weights["energy"], weights["force"], weights["stress"], huber=huber)
        self.losses = {name: plain.of(part) for name, part in self.parts.items()}
        data, chosen, loss = self.data["training"], self.indices["training"], self.losses["training"]
        objective = PotentialObjective(self.network, data, chosen, loss)
        if v["kind"] == "l-bfgs":
            self.trainer = LBFGS(world, objective, v["ridge"], v["memory"])
            return
        if v["kind"] == "levenberg-marquardt":
            self.trainer = LevenbergMarquardt(world, objective, v["ridge"], v["damping"], v["part"], self.seed)
            if self.network.size > LARGE:
                world.log.warning(
                    f"{self.network.size} parameters: the normal equations take {8e-9 * self.network.size**2:.2g} GB, adam would not need them"
                )
            return
        starts = [weights[f"{name}_start"] for name in ("energy", "force", "stress")]
        if any(s is not None for s in starts):
            objective.prefactors = [
                weights[name] if s is None else s for name, s in zip(("energy", "force", "stress"), starts)
            ]
        self.trainer = minibatch(world, objective, v, self.seed)
        self._exchange = self.trainer.exchange

    def describe(self) -> str:
        """A few lines: data, functions, memory."""
        model, lines = self.descriptors.model, []
        for name, part in self.parts.items():
            lines.append(f"{name:<12}{len(part)} structures, {int(part.counts.sum())} atoms of {self.sets[name].path}")
        for element, pairs in zip(model.elements, np.atleast_2d(self.pairs["training"].sum(0)).T):
            lines.append(
                f"{element.symbol:<12}{len(element.functions)} functions up to {max(f.cutoff for f in element.functions) * model.length_unit:g} Å, "
                f"{pairs[0] / max(1, int(self.sets['training'].counts.sum())):.1f} derivatives an atom"
            )
        lines.append(f"descriptors {self.bytes / 1e9:.3g} GB in a file, mapped into memory")
        v = self.values["optimiser"]
        per_epoch = -(-len(self.parts["training"]) // v["batch"]) if v["kind"] in MINIBATCH else 1
        lines.append(f"optimiser   {v['kind']}, {v['epochs']} epochs, {v['epochs'] * per_epoch} updates")
        ensemble = self.values["ensemble"]
        if ensemble["members"] > 1:
            which = "" if ensemble["member"] is None else f"number {ensemble['member']} of "
            lines.append(f"ensemble    {which}{ensemble['members']} members, resampling: {ensemble['resample']}")
        return "\n".join(lines)

    # ---- during and after the training ------------------------------------------------------------------------------

    def errors(self, part):
        """Errors on "training" or "validation"."""
        return errors(self.world, self.network, self.data[part], self.indices[part], self.losses[part])

    def validate(self):
        """The loss on the validation set, errors for the series, words for the log."""
        found = self.errors("validation")
        row = {f"{name}_rmse": found.rmse(name) for name in UNITS}
        shown = (
            f"{row[f'{name}_rmse']:.4g} {unit}" for name, unit in UNITS.items() if np.isfinite(row[f"{name}_rmse"])
        )
        objective = self.values["validation"]["objective"]
        decides = found.loss if objective == "loss" else row[f"{objective}_rmse"]
        return decides, {"validation_loss": found.loss} | row, f"RMSE {'  '.join(shown)}"

    def finish(self, directory) -> dict:
        """The potential, its errors and predictions."""
        world, found = self.world, {}
        for part in ("training", "validation"):
            table = self.errors(part)
            found[part] = table.as_json()
            world.log(f"\n{part}, {len(self.indices[part])} structures\n{table.table()}")
        self._export(directory, {part: groups["all"] for part, groups in found.items()})
        difference = self._deployed(directory.model_file)
        world.log(
            f"\npotential  {directory.model_file}; as the native evaluator reads it, forces differ by {difference:.1e} eV/Å"
        )
        if difference > 1e-9:
            world.log.warning(
                f"the potential on the disk does not give the network's forces: {difference:.1e} eV/Å apart"
            )
        directory.write_json(directory.errors_file, found)
        self._write_predictions(directory.predictions_file)
        return {"microseconds_per_atom": self.appraise(directory)}

    def appraise(self, directory) -> dict:
        """Curves of crystals and dimers, in a file; what an evaluation costs in each precision. By rank 0, for all."""
        curves = cost = error = None
        if self.world.root:
            validation = self.parts["validation"]
            largest = validation[int(validation.counts.argmax())]
            try:
                potential, whole = load(directory.model_file), self.parts["training"]
                curves = dict(energy_volume=energy_volume(potential, whole), dimers=dimers(potential, whole))
                cost = {p: evaluation_cost(load(directory.model_file, precision=p), largest) for p in PRECISIONS}
            except PotentialError as caught:
                error = caught
        self.world.agree(error)
        directory.write_json(directory.curves_file, curves)
        cost = self.world.bcast(cost)
        told = ", ".join(f"{figure:.3g} ({precision})" for precision, figure in cost.items())
        self.world.log(f"cost       {told} µs of processor time an atom and evaluation, on one core")
        return cost

    def _write_predictions(self, path):
        """What the network says of the validation set, beside its labels (training.errors.predictions). Collective."""
        found = predictions(self.world, self.network, self.data["validation"], self.indices["validation"])
        shapes = {name: (array.shape, array.dtype) for name, array in (found or {}).items()}
        groups = self.sets["validation"].groups
        with ArrayFile(path, self.world, shapes, {"groups": groups}) as file:
            for name, array in (found or {}).items():
                file.write(name, 0, array)

    def _export(self, directory, errors):
        """Writes the potential, in the project's own file and as n2p2 has it. Collective."""
        model, facts, error = self.network.export(), provenance(self.world), None
        if self.world.root:
            try:
                n2p2.write(model, directory.potential)
                made = origin(facts) | {"errors": errors, "job": portable(self.values)}
                modelfile.write(directory.model_file, [model], seen(self.parts["training"]), made)
            except (OSError, ValueError) as caught:
                error = caught
        self.world.agree(error)

    def _deployed(self, path) -> float:
        """The largest difference of forces (eV/Å) between a potential, evaluated natively, and its network in torch, in
        double precision, for the first structure of the validation set."""
        potential = load(path)
        structure = self.parts["validation"][0]
        atoms = structure.to_ase()
        atoms.calc = potential.ase()
        parts = Descriptors(potential.model).describe(structure)
        with torch.no_grad():
            out = Network(potential.model).evaluate(single(structure, parts), stress=False)
        return float(np.abs(out.forces.numpy() - atoms.get_forces()).max())

    def close(self, keep=False):
        """Removes the descriptors that only this run needs, unless they are to be kept, and ends communication."""
        if self._exchange is not None:
            self._exchange.close()
        if not keep and self.world.root:
            for file in self._temporary:
                file.unlink(missing_ok=True)


def portable(values: dict) -> dict:
    """A run file without the places of its files: their names only."""
    files = {("data", "file"), ("data", "validation"), ("network", "start"), ("memory", "descriptors")}
    return {
        table: {
            key: Path(value).name if (table, key) in files and value is not None else value
            for key, value in content.items()
        }
        if isinstance(content, dict)
        else content
        for table, content in values.items()
    }


def single(structure, parts) -> Batch:
    """A batch of one structure in double precision. parts: of Descriptors.describe."""
    elements = []
    for part in parts:
        counts = torch.from_numpy(part.counts.astype(np.int64))
        elements.append(
            Centres(
                torch.zeros(len(part.atoms), dtype=torch.int64),
                torch.from_numpy(part.values),
                torch.from_numpy(part.strain),
                counts,
                torch.arange(len(counts)).repeat_interleave(counts),
                torch.from_numpy(part.centres.astype(np.int64)),
                torch.from_numpy(part.derivatives),
            )
        )
    return Batch(torch.tensor([0, len(structure)]), torch.tensor([structure.volume]), elements)
