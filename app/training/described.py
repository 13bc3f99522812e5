"""A data set with the descriptors of its structures, computed once, kept in a file and mapped into memory.

The file holds by element k (m structures, N atoms; R centres and M derivatives of the element in all):

    values.k (R, f)   strain.k (R, 6, f)   derivatives.k (M, 3, f)      in the precision of the training
    atoms.k (R,)   centres.k (M,)   counts.k (N,)                       i4, as of hdnnp.descriptors.Part
    rows.k (m+1,)   pairs.k (m+1,)                                      i8, where each structure's begin
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ostwald.app.potentials.hdnnp.descriptors import Descriptors
from ostwald.app.potentials.hdnnp.network import Batch, Centres
from ostwald.io.arrayfile import ArrayFile, open_arrays
from ostwald.parallel.training import shares

ROWS = 1500
"""Labels (energies, force and stress components) that are worked on at a time."""


@dataclass
class Labels:
    """What a batch should give: energy (b,) eV, forces (n, 3) eV/Å, stress (b, 6) eV/Å³; nan: not known. weight (b,);
    counts (b,) atoms of each structure."""

    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor
    weight: torch.Tensor
    counts: torch.Tensor


class Described:
    """dataset: DataSet; file: the path of its descriptors. `describe` makes them where they are not there yet.

    atoms: (m,) of each structure; pairs (m,): rows of derivatives of each, which is what a step costs.
    """

    def __init__(self, dataset, path):
        self.dataset, self.path = dataset, Path(path)
        self._arrays, self.meta = open_arrays(path)
        self.elements = sum(name.startswith("values.") for name in self._arrays)
        self.atoms = dataset.counts
        self.pairs = sum(np.diff(self._arrays[f"pairs.{k}"]) for k in range(self.elements))
        self._labels = {name: np.asarray(getattr(dataset, name)) for name in ("energy", "forces", "stress", "weight")}
        self._volume = dataset.volume

    def __len__(self):
        return len(self.dataset)

    def values(self, element: int, indices=None) -> np.ndarray:
        """(R, f) the functions of all centres of an element, or of those in some structures."""
        values, rows = self._arrays[f"values.{element}"], self._arrays[f"rows.{element}"]
        return values if indices is None else _pieces(values, rows, indices)

    def shares(self, indices, size: int) -> list[np.ndarray]:
        """Numbers of structures shared out over ranks, even in cost."""
        indices = np.asarray(indices, np.int64)
        return [indices[part] for part in shares(self.pairs[indices], size)]

    def chunks(self, indices, rows: int = ROWS) -> list[np.ndarray]:
        """Numbers of structures in parts that have about so many labels, those of alike neighbourhoods together."""
        indices = np.asarray(indices, np.int64)
        order = indices[np.argsort(self.pairs[indices] / self.atoms[indices], kind="stable")]
        ends = np.cumsum(3 * self.atoms[order] + 7)
        return [np.sort(part) for part in np.split(order, np.flatnonzero(np.diff(ends // rows)) + 1) if len(part)]

    def atoms_of(self, indices) -> np.ndarray:
        """The numbers in the data set of the atoms of structures, in this order."""
        return _places(np.asarray(self.dataset.offsets), np.asarray(indices))

    def batch(self, indices, dtype=torch.float64, device="cpu", chosen=None) -> tuple[Batch, Labels]:
        """Structures by number, in this order. chosen (n,) bool: the atoms whose derivatives are wanted, as if no centre saw the
        others; None: all."""
        indices = np.asarray(indices, np.int64)

        def real(array):
            return torch.from_numpy(array).to(device=device, dtype=dtype)

        def whole(array):
            return torch.from_numpy(array.astype(np.int64)).to(device)

        counts = self.atoms[indices]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = self.dataset.offsets
        elements = []
        for k in range(self.elements):
            a, rows, pairs = self._arrays, self._arrays[f"rows.{k}"], self._arrays[f"pairs.{k}"]
            mine, listed = np.diff(rows)[indices], np.diff(pairs)[indices]
            seen = _pieces(a[f"counts.{k}"], places, indices)
            first = np.repeat(np.concatenate([[0], np.cumsum(mine)[:-1]]).astype(np.int64), listed)
            if chosen is None:
                seen_by, slopes = (_pieces(a[f"{name}.{k}"], pairs, indices) for name in ("centres", "derivatives"))
            else:
                kept = np.repeat(chosen.numpy(), seen)
                where = _places(pairs, indices)[kept]
                seen_by, slopes, first = a[f"centres.{k}"][where], a[f"derivatives.{k}"][where], first[kept]
                seen = np.where(chosen.numpy(), seen, 0)
            elements.append(
                Centres(
                    whole(np.repeat(np.arange(len(indices)), mine)),
                    real(_pieces(a[f"values.{k}"], rows, indices)),
                    real(_pieces(a[f"strain.{k}"], rows, indices)),
                    whole(seen),
                    whole(np.repeat(np.arange(len(seen)), seen)),
                    whole(seen_by + first),
                    real(slopes),
                )
            )
        labels = Labels(
            real(self._labels["energy"][indices]),
            real(_pieces(self._labels["forces"], places, indices)),
            real(self._labels["stress"][indices]),
            real(self._labels["weight"][indices]),
            real(counts.astype(float)),
        )
        return Batch(whole(offsets), real(self._volume[indices]), elements), labels


def _pieces(array, offsets, indices):
    """The rows of some structures one after another, a copy."""
    first, last = int(indices[0]), int(indices[-1])
    if len(indices) == last - first + 1 and np.all(np.diff(indices) == 1):
        return np.array(array[offsets[first] : offsets[last + 1]])
    return np.concatenate([array[offsets[i] : offsets[i + 1]] for i in indices])


def _places(offsets, indices):
    """The numbers of the rows that `_pieces` takes."""
    counts = np.diff(offsets)[indices]
    return np.arange(counts.sum()) + np.repeat(offsets[indices] - (np.cumsum(counts) - counts), counts)


def identity(dataset, descriptors: Descriptors, dtype) -> str:
    """Of structures, functions and precision: what descriptors in a file must be of to be used."""
    found = hashlib.sha256()
    for array in (dataset.positions, dataset.numbers, dataset.cell, dataset.periodic, dataset.offsets):
        found.update(np.ascontiguousarray(array).data.cast("B"))
    model = descriptors.model
    functions = [[repr(f) for f in element.functions] for element in model.elements]
    found.update(
        repr((functions, model.cutoff_type, model.cutoff_inner, model.length_unit, np.dtype(dtype).str)).encode()
    )
    return found.hexdigest()


def size(dataset, descriptors: Descriptors, world, dtype) -> tuple[np.ndarray, int]:
    """Collective: (m, elements) rows of derivatives of each structure, and bytes of the file of descriptors."""
    mine = [descriptors.pairs(dataset[i]) for i in range(world.rank, len(dataset), world.size)]
    pairs = np.zeros((len(dataset), len(descriptors.species)), np.int64)
    pairs[world.rank :: world.size] = np.reshape(mine, (-1, pairs.shape[1]))
    pairs = world.allreduce(pairs)
    rows = np.bincount(descriptors.types(dataset.numbers), minlength=pairs.shape[1])
    width, real = np.array(descriptors.widths), np.dtype(dtype).itemsize
    total = real * (7 * rows * width + 3 * pairs.sum(0) * width) + 4 * (rows + pairs.sum(0) + len(dataset.numbers))
    return pairs, int(total.sum())


def describe(dataset, descriptors: Descriptors, path, world, dtype=np.float32, pairs=None) -> Described:
    """Collective: the descriptors of a data set, from the file where it holds them already, else computed by all ranks.

    pairs: of `size`, where that was called.
    """
    path, wanted = Path(path), identity(dataset, descriptors, dtype)
    if world.bcast(_is_of(path, wanted) if world.root else None):
        return Described(dataset, path)
    if pairs is None:
        pairs, _ = size(dataset, descriptors, world, dtype)
    types, offsets, n, arrays = descriptors.types(dataset.numbers), dataset.offsets, len(dataset.numbers), {}
    starts = {}
    for k, width in enumerate(descriptors.widths):
        seen = np.concatenate([[0], np.cumsum(types == k)])
        starts[f"rows.{k}"] = seen[offsets].astype(np.int64)
        starts[f"pairs.{k}"] = np.concatenate([[0], np.cumsum(pairs[:, k])])
        r, m = int(starts[f"rows.{k}"][-1]), int(starts[f"pairs.{k}"][-1])
        arrays |= {f"values.{k}": ((r, width), dtype), f"strain.{k}": ((r, 6, width), dtype)}
        arrays |= {f"derivatives.{k}": ((m, 3, width), dtype), f"centres.{k}": ((m,), np.int32)}
        arrays |= {f"atoms.{k}": ((r,), np.int32), f"counts.{k}": ((n,), np.int32)}
        arrays |= {name: ((len(dataset) + 1,), np.int64) for name in (f"rows.{k}", f"pairs.{k}")}
    with ArrayFile(path, world, arrays, {"of": wanted}) as file:
        if world.root:
            for name, array in starts.items():
                file.write(name, 0, array)
        for i in range(world.rank, len(dataset), world.size):
            for k, part in enumerate(descriptors.describe(dataset[i])):
                first = {"rows": starts[f"rows.{k}"][i], "pairs": starts[f"pairs.{k}"][i], "atoms": offsets[i]}
                for name, at in (("values", "rows"), ("strain", "rows"), ("derivatives", "pairs")):
                    file.write(f"{name}.{k}", int(first[at]), np.ascontiguousarray(getattr(part, name), dtype))
                for name, at in (("atoms", "rows"), ("centres", "pairs"), ("counts", "atoms")):
                    file.write(f"{name}.{k}", int(first[at]), getattr(part, name))
    return Described(dataset, path)


def _is_of(path, wanted) -> bool:
    try:
        return open_arrays(path)[1].get("of") == wanted
    except (OSError, ValueError):
        return False
