"""What surrogates learn from: files of sequences as one set of items, resampled, and turned over by the symmetries of the equations."""

from __future__ import annotations

import itertools

import numpy as np

from ostwald.app.surrogate.resampling import resampled
from ostwald.io.sequences import Sequences


def resample(fields, how: str):
    """Fields (…, n0, n1[, n2]) at half the resolution: every second point ("nearest"), means over 2^d points ("mean"); or as they
    are ("none"). The first axis counts frames. ValueError where an axis is odd."""
    return resampled(fields, 1 if how == "none" else 2, how, frames=True)


def symmetries(lengths, rotations: bool, reflections: bool) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(axes, signs) of the turns by quarters of a circle (rotations), of the reflections of axes, or of what both make together: axis k
    becomes axes[k], backwards where signs[k] is -1. lengths: of each axis, in whatever tells axes apart; only like ones are exchanged.
    The identity comes first."""
    size, found = len(lengths), []
    for axes in itertools.permutations(range(size)):
        if any(lengths[a] != lengths[k] for k, a in enumerate(axes)):
            continue
        for signs in itertools.product((1, -1), repeat=size):
            turned = np.zeros((size, size))
            turned[range(size), axes] = signs
            proper = np.linalg.det(turned) > 0
            plain = axes == tuple(range(size))
            if (
                (rotations and reflections)
                or (rotations and proper)
                or (reflections and plain)
                or (plain and min(signs) > 0)
            ):
                found.append((axes, signs))
    return found


def turned(fields, axes, signs):
    """Fields (t, n0, n1[, n2]) under one of the symmetries."""
    order = (0, *(1 + a for a in axes))
    return fields.transpose(order)[(slice(None), *(slice(None, None, sign) for sign in signs))]


class TrainingSequences:
    """Finished sequences of some files as items 0 … n - 1.

    keys: names of the parameters in the files that the network is given. resampling: of model.RESAMPLINGS. every: of so many frames one is
    taken. frames: of a sequence of the training, None: as many as there are; where the files have more, any stretch
    of that length can be read. ValueError or SequencesError where files do not go together, or lack something; one sentence.

    shape: of the resampled grid; spacing, interval: of it, and between the frames that are taken; frames; starts: places
    where a stretch may begin; parameters (n, p) f8; items: {"training": numbers, "validation": numbers};
    taken: for each file the numbers, in its whole set, of the sequences that are items.
    """

    def __init__(self, files, keys=(), resampling="none", every=1, frames=None):
        self.files = [Sequences(file) for file in files]
        self.resampling, self.every = resampling, int(every)
        first = self.files[0]
        for other in self.files[1:]:
            for what, of in (
                ("frames and points", lambda file: file.shape[1:]),
                ("interval", lambda file: (file.interval,)),
                ("spacing", lambda file: file.spacing),
            ):
                pair = of(first), of(other)
                if len(pair[0]) != len(pair[1]) or not np.allclose(*pair):
                    texts = [" × ".join(f"{x:g}" for x in values) for values in pair]
                    raise ValueError(
                        f"{first.path} has {texts[0]} ({what}), {other.path} {texts[1]}: they do not go together"
                    )
        for file in self.files:
            if missing := [key for key in keys if key not in file.parameters]:
                known = ", ".join(file.parameters) or "none"
                raise ValueError(f"{file.path}: has no parameter {missing[0]} (it has: {known})")
        there = (first.shape[1] - 1) // self.every + 1
        self.frames = there if frames is None else int(frames)
        if not 2 <= self.frames <= there:
            taken = f" if one of {self.every} is taken" * (self.every > 1)
            raise ValueError(
                f"{first.path}: has {there} frames{taken}, which does not do for sequences of {max(self.frames, 2)}"
            )
        self.starts = first.shape[1] - (self.frames - 1) * self.every
        self.shape = resample(np.empty((0, *first.shape[2:])), resampling).shape[1:]
        coarser = 1 if resampling == "none" else 2
        self.spacing = tuple(float(h) * coarser for h in first.spacing)
        self.interval = first.interval * self.every
        self._keys = tuple(keys)
        self.keep([file.first[file.numbers()].tolist() for file in self.files])

    def keep(self, taken) -> None:
        """Makes items of these sequences only. taken: as the property. ValueError where one of them is not there, or not finished."""
        if len(taken) != len(self.files):
            raise ValueError(f"{len(taken)} sets were learned from, not {len(self.files)}")
        place = []
        for k, (file, wanted) in enumerate(zip(self.files, taken)):
            there = {int(file.first[number]): int(number) for number in file.numbers()}
            if missing := [number for number in wanted if number not in there]:
                raise ValueError(f"{file.path}: sequence {missing[0]}, which was learned from, is not there any more")
            place += [(k, there[number]) for number in wanted]
        self.taken = [list(wanted) for wanted in taken]
        self._place = np.array(place, np.int64).reshape(-1, 2)
        validation = np.array([self.files[k].validation[number] for k, number in self._place], bool)
        self.items = {"training": np.flatnonzero(~validation), "validation": np.flatnonzero(validation)}
        columns = [[self.files[k].parameters[key][number] for key in self._keys] for k, number in self._place]
        self.parameters = np.array(columns, float).reshape(len(self._place), len(self._keys))

    def read(self, item: int, begin: int = 0) -> np.ndarray:
        """(frames, *shape) of a sequence, in the precision of its file; begin: the frame of the file that is its first.
        SequencesError."""
        file, number = self.files[self._place[item, 0]], int(self._place[item, 1])
        last = begin + (self.frames - 1) * self.every + 1
        return resample(file.read(number, begin, last)[:: self.every], self.resampling)

    def close(self) -> None:
        for file in self.files:
            file.close()
