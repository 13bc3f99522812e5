"""Errors of a network, or of any calculator, on a data set, by group and in all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ostwald.app.atoms.units import GPA
from ostwald.io.arrayfile import open_arrays

from .teacher import label

QUANTITIES = ("energy", "force", "stress")
UNITS = {"energy": "meV/atom", "force": "eV/Å", "stress": "GPa"}
FACTORS = {"energy": 1e3, "force": 1.0, "stress": GPA}


@dataclass
class Errors:
    """groups: names, the last "all". count, absolute, square, largest (groups, 3): number of energies, force components and
    stress components that are known, sums of the absolute and squared errors, and the largest, in UNITS. loss: of the set."""

    groups: list[str]
    count: np.ndarray
    absolute: np.ndarray
    square: np.ndarray
    largest: np.ndarray
    loss: float

    def rmse(self, quantity: str, group=-1) -> float:
        """nan where nothing is known."""
        k = QUANTITIES.index(quantity)
        return float(np.sqrt(self.square[group, k] / self.count[group, k])) if self.count[group, k] else np.nan

    def mae(self, quantity: str, group=-1) -> float:
        k = QUANTITIES.index(quantity)
        return float(self.absolute[group, k] / self.count[group, k]) if self.count[group, k] else np.nan

    def as_json(self) -> dict:
        """group -> quantity -> number, rmse, mae, largest."""
        return {
            name: {
                q: dict(
                    number=int(self.count[g, k]),
                    rmse=self.rmse(q, g),
                    mae=self.mae(q, g),
                    largest=float(self.largest[g, k]),
                    unit=UNITS[q],
                )
                for k, q in enumerate(QUANTITIES)
                if self.count[g, k]
            }
            for g, name in enumerate(self.groups)
            if self.count[g].any()
        }

    def table(self) -> str:
        """For people: RMSE and MAE of each group."""
        width = max(map(len, self.groups)) + 2
        head = "".join(f"{f'{q}, {UNITS[q]}':>24}" for q in QUANTITIES)
        lines = [" " * width + head, " " * width + f"{'RMSE':>14}{'MAE':>10}" * 3]
        for g, name in enumerate(self.groups):
            if self.count[g].any():
                cells = [_cell(self.rmse(q, g), 14) + _cell(self.mae(q, g), 10) for q in QUANTITIES]
                lines.append(f"{name:<{width}}" + "".join(cells))
        return "\n".join(lines)


class _Sums:
    """What Errors is made of, filled piece by piece."""

    def __init__(self, groups):
        shape = len(groups) + 1, len(QUANTITIES)
        self.groups = list(groups)
        self.count, self.absolute, self.square, self.largest = (np.zeros(shape) for _ in range(4))

    def add(self, quantity, error, group):
        """error (rows, components), in the units of labels, nan: not known; group (rows,)."""
        k, error = QUANTITIES.index(quantity), np.abs(error) * FACTORS[quantity]
        known = np.isfinite(error)
        error = np.where(known, error, 0.0)
        for into, values in ((self.count, known), (self.absolute, error), (self.square, error**2)):
            into[:-1, k] += np.bincount(group, values.sum(axis=1), len(self.groups))
        np.maximum.at(self.largest[:, k], group, error.max(axis=1))

    def whole(self, world=None, loss=np.nan) -> Errors:
        """Collective with a world: the sums of all ranks."""
        sums, largest = np.stack([self.count, self.absolute, self.square]), self.largest
        if world is not None:
            sums, largest, loss = world.allreduce(sums), world.allreduce(largest, "max"), world.allreduce(loss)
        sums[:, -1], largest[-1] = sums[:, :-1].sum(axis=1), largest[:-1].max(axis=0)
        return Errors([*self.groups, "all"], *sums, largest, loss)


def errors(world, network, data, indices, loss) -> Errors:
    """Collective: of some structures of a Described, by number; each rank takes a part. loss: Loss of them."""
    sums, total = _Sums(data.dataset.groups), 0.0
    group = np.asarray(data.dataset.group)
    for chunk, batch, labels, outputs in _evaluated(world, network, data, indices):
        total += sum(float(r.double().square().sum()) for r in loss.residuals(outputs, batch, labels))
        atoms = labels.counts.long().cpu().numpy()
        found = {
            "energy": ((outputs.energy - labels.energy) / labels.counts)[:, None],
            "force": outputs.forces - labels.forces,
            "stress": outputs.stress - labels.stress,
        }
        for quantity, error in found.items():
            rows = np.repeat(group[chunk], atoms) if quantity == "force" else group[chunk]
            sums.add(quantity, error.double().cpu().numpy(), rows)
    return sums.whole(world, total)


def errors_of(found: dict, groups) -> Errors:
    """Of the arrays that `predictions` gives; their loss is nan. groups: names."""
    sums = _Sums(groups)
    rows = {"energy": found["group"], "force": np.repeat(found["group"], found["counts"]), "stress": found["group"]}
    arrays = {"energy": found["energy"][:, None], "force": found["forces"], "stress": found["stress"]}
    for quantity, array in arrays.items():
        sums.add(quantity, array[..., 1] - array[..., 0], rows[quantity])
    return sums.whole()


def errors_of_calculator(world, calculator, dataset, indices) -> Errors:
    """Collective: of an ASE calculator on some structures of a data set, by number; each rank takes a part. Their loss is nan.
    TeacherError."""
    sums, group = _Sums(dataset.groups), np.asarray(dataset.group)
    for number in indices[world.rank :: world.size]:
        want, rows = dataset[number], group[number : number + 1]
        got = label(want.to_ase(), calculator, want.group)
        sums.add("energy", np.array([[(got.energy - want.energy) / len(want)]]), rows)
        sums.add("force", got.forces - want.forces, rows.repeat(len(want)))
        sums.add("stress", (got.stress - want.stress)[None], rows)
    return sums.whole(world)


def structures_of(run, part: str, dataset) -> np.ndarray:
    """Structures of a data set, by number, that a training (a run directory) was validated with, or those that it was not.

    ValueError where it was not validated with structures of this set.
    """
    path = Path(run) / "predictions.h5"
    try:
        found = open_arrays(path)[0]
    except OSError:
        raise ValueError(f"{path}: cannot be read; is {run} the directory of a training that has run?") from None
    chosen = np.array(found["structures"])
    if chosen.max() < len(dataset):
        energy = dataset.energy[chosen] / dataset.counts[chosen]
        if np.allclose(energy, found["energy"][:, 0], rtol=1e-6, equal_nan=True):
            return chosen if part == "validation" else np.setdiff1d(np.arange(len(dataset)), chosen)
    raise ValueError(f"{run}: was not validated with structures of {dataset.path}")


def predictions(world, network, data, indices) -> dict | None:
    """Collective: on rank 0 what a network says of some structures, ascending, beside their labels; None on the others.

    structures (b,), group (b,), counts (b,); energy (b, 2) eV/atom, forces (n, 3, 2) eV/Å, stress (b, 6, 2) eV/Å³: the label (nan:
    none), the network's.
    """
    pieces = []
    for chunk, _, labels, outputs in _evaluated(world, network, data, indices):
        atoms = labels.counts.long()
        energy = torch.stack([labels.energy / labels.counts, outputs.energy / labels.counts], -1)
        forces = torch.stack([labels.forces, outputs.forces], -1)
        stress = torch.stack([labels.stress, outputs.stress], -1)
        arrays = [array.double().cpu().numpy() for array in (energy, forces, stress)]
        split = np.split(arrays[1], np.cumsum(atoms.cpu().numpy())[:-1])
        pieces += list(zip(chunk.tolist(), arrays[0], split, arrays[2]))
    everyone = world.gather(pieces)
    if everyone is None:
        return None
    pieces = sorted((piece for mine in everyone for piece in mine), key=lambda piece: piece[0])
    chosen = np.array([piece[0] for piece in pieces])
    return dict(
        structures=chosen,
        group=np.asarray(data.dataset.group)[chosen].astype(np.int32),
        counts=np.array([len(piece[2]) for piece in pieces]),
        energy=np.array([piece[1] for piece in pieces]),
        forces=np.concatenate([piece[2] for piece in pieces]),
        stress=np.array([piece[3] for piece in pieces]),
    )


def _cell(value, width) -> str:
    return f"{value:>{width}.4g}" if np.isfinite(value) else f"{'–':>{width}}"


@torch.no_grad()
def _evaluated(world, network, data, indices):
    """(numbers, batch, labels, outputs) of the parts of this rank's share."""
    for chunk in data.chunks(data.shares(indices, world.size)[world.rank]):
        batch, labels = data.batch(chunk, network.theta.dtype, network.theta.device)
        yield chunk, batch, labels, network.evaluate(batch)
