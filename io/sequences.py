"""Sequences of fields, many to a file, for training and statistics: written by all ranks, read in whole sequences.

    /sequences             (n, frames, n0, n1[, n2])  half, single or double precision; contiguous, so that a sequence is
                           one piece of the file and sequence k begins k pieces behind the first
    /state                 (n,) 0: not there yet, 1: finished, 2: given up
    /seed, /start          (n,) seed of the initial field; time of the first frame
    /validation            (n,) 1 where the sequence is not to be trained on
    /parameters/<key>      (n,) what differs between sequences, by the names of the run file's keys
    /energy, /low, /high   (n, frames) free energy, lowest and highest value, of the whole grid
    /mean, /steps, /seconds  (n,) mean of the field, steps, wall time
    attributes             format, spacing (of the points that are kept), stride, interval (time between frames), first
                           (number of the first sequence), notes

HDF5 makes the file in its full size, without data; afterwards its metadata never change. Ranks write with POSIX calls where
their data belong, flush, and only then write the one byte of /state: whatever is killed, what is called finished is
complete. A hole stays a hole: the file takes space as it fills.
"""

import glob
import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.image import Image
from ostwald.io.shared import SharedFile, sync_directory

FORMAT = "sequences 1"
DTYPES = {"half": np.float16, "single": np.float32, "double": np.float64}
FINISHED, GIVEN_UP = 1, 2
PER_FRAME, PER_SEQUENCE = ("energy", "low", "high"), ("mean", "steps", "seconds")
ALIGNMENT = 4096  # where the data begin


class SequencesError(RuntimeError):
    """A file of sequences cannot be made, written or read; one sentence that names it and the reason."""


def sequences_bytes(count, frames, shape, precision) -> int:
    """Of the fields of a file."""
    return int(count) * int(frames) * int(np.prod(shape)) * np.dtype(DTYPES[precision]).itemsize


def create_sequences(
    path, *, frames, shape, seed, start, validation, parameters, precision="single", spacing=1.0, stride=1, interval=1.0,
    first=0, notes=None,
) -> None:  # fmt: skip
    """A file of len(seed) sequences, none finished; one of that name is replaced. On one rank.

    shape: of the points that are kept. seed, start, validation (n,), parameters: name -> (n,); the rest: attributes.
    """
    path, count = Path(path), len(seed)
    kept = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    kept.set_layout(h5py.h5d.CONTIGUOUS)
    kept.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    image = Image()
    with h5py.File(image, "w", libver="earliest", alignment_threshold=1, alignment_interval=8) as file:
        file.attrs.update(
            format=FORMAT, creator="Ostwald", stride=stride, interval=interval, first=first, **(notes or {})
        )
        file.attrs["spacing"] = np.array(np.broadcast_to(spacing, len(shape)), float)
        file["seed"], file["start"] = np.asarray(seed, np.int64), np.asarray(start, np.float64)
        file["validation"] = np.asarray(validation, np.uint8)
        group = file.create_group("parameters")
        group.attrs["names"] = np.array(list(parameters), dtype=h5py.string_dtype())
        for name, values in parameters.items():
            group[name] = np.asarray(values, np.float64)

        def reserve(name, shape, dtype):
            space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(np.dtype(dtype))
            h5py.h5d.create(file.id, name.encode(), kind, space, kept)

        for name in PER_FRAME:
            reserve(name, (count, frames), np.float64)
        for name in PER_SEQUENCE:
            reserve(name, (count,), np.float64)
        reserve("state", (count,), np.uint8)
    # the large one last, with its data on a page boundary
    with h5py.File(image, "r+", alignment_threshold=1, alignment_interval=ALIGNMENT) as file:
        kept.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        reserve("sequences", (count, frames, *shape), DTYPES[precision])
    part = path.with_name(f".{path.name}.part")
    try:
        image.save(part)
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    sync_directory(path.parent)


class _Layout:
    """Where the datasets of a file lie."""

    def __init__(self, path):
        self.path = Path(path)
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise SequencesError(f"{path}: not a file of sequences")
                data = file["sequences"]
                self.shape, self.dtype = data.shape, data.dtype
                self.offsets = {
                    name: file[name].id.get_offset() for name in ("sequences", "state", *PER_FRAME, *PER_SEQUENCE)
                }
                self.interval, self.stride = float(file.attrs["interval"]), int(file.attrs["stride"])
                self.first, self.spacing = int(file.attrs["first"]), file.attrs["spacing"]
                self.seed, self.start = file["seed"][:], file["start"][:]
                self.validation = file["validation"][:].astype(bool)
                names = file["parameters"].attrs["names"].astype(str)
                self.parameters = {str(name): file["parameters"][str(name)][:] for name in names}
        except (OSError, KeyError) as error:
            raise SequencesError(f"{path}: cannot be read as sequences ({error})") from None
        self.frame_bytes = int(np.prod(self.shape[2:])) * self.dtype.itemsize

    def frame_at(self, number, frame) -> int:
        return self.offsets["sequences"] + (number * self.shape[1] + frame) * self.frame_bytes

    def check_beside(self, other) -> None:
        """SequencesError where the other file cannot be a later part of the same set."""
        for what, mine, its in (
            ("sequences", self.shape[1:], other.shape[1:]),
            ("numbers", self.dtype, other.dtype),
            ("time between frames", self.interval, other.interval),
            ("spacing", self.spacing.tolist(), other.spacing.tolist()),
            ("stride", self.stride, other.stride),
            ("parameters", sorted(self.parameters), sorted(other.parameters)),
        ):
            if mine != its:
                raise SequencesError(f"{other.path}: not of one set with {self.path}: {what} {its}, not {mine}")
        if self.first + self.shape[0] > other.first:
            raise SequencesError(f"{other.path}: begins with sequence {other.first}, which {self.path} holds, too")


class SequenceWriter(_Layout):
    """Writes sequences into a file that exists, on this rank; nothing is collective."""

    def __init__(self, path):
        super().__init__(path)
        self._file, self._due = SharedFile(path), []

    def state(self) -> np.ndarray:
        """(n,) the state of all sequences as it is now."""
        return np.frombuffer(self._file.read(self.offsets["state"], self.shape[0]), np.uint8)

    def write_frame(self, number, frame, pieces, lo, hi) -> None:
        """This rank's brick lo … hi of a frame, in pieces (first, last, planes first … last - 1 of the brick); every
        stride-th point is kept."""
        stride, at, item = self.stride, self.frame_at(number, frame), self.dtype.itemsize
        points = int(np.prod(self.shape[3:]))  # of a plane
        rest = tuple(slice(-a % stride, None, stride) for a in lo[1:])
        begin = -(-lo[1] // stride) * int(np.prod(self.shape[4:]))  # of this rank's lines in a plane
        for first, _, planes in pieces:
            skip = -(lo[0] + first) % stride
            kept = np.ascontiguousarray(planes[(slice(skip, None, stride), *rest)], self.dtype)
            plane = (lo[0] + first + skip) // stride
            if kept[0:1].size == points:
                self._file.write(at + plane * points * item, kept)
            else:  # the lines of a pencil
                for i, lines in enumerate(kept if kept.size else ()):
                    self._file.write(at + ((plane + i) * points + begin) * item, lines)

    def finish(self, number, state=FINISHED, **numbers) -> None:
        """Writes the numbers of a sequence, by the names of the datasets; settle() will make it count."""
        for name, value in numbers.items():
            row = np.ascontiguousarray(value, np.float64).reshape(-1)
            self._file.write(self.offsets[name] + number * (self.shape[1] if name in PER_FRAME else 1) * 8, row)
        self._due.append((number, state))

    def settle(self) -> None:
        """Waits until what this rank wrote is on the disk; then the sequences that it finished are there."""
        self._file.sync()
        for number, state in self._due:
            self._file.write(self.offsets["state"] + number, bytes([state]))
        self._due = []

    def close(self) -> None:
        self._file.close()


class Sequences:
    """Reads sequences of one file, or of several that are parts of one set, on any number of ranks alike, also while they are written:

        data = Sequences("runs/train-*")               # sequences.h5, a run directory, a pattern, or a list of these
        for number in data.numbers("training")[rank::size]:
            phi = data.read(number)                    # (frames, n0, n1[, n2]), one read of one piece of a file

    Sequences have the numbers 0 … n - 1 in the order of the parts. shape (n, frames, n0, n1[, n2]), dtype; interval, stride,
    spacing; first (n,): number of a sequence in the whole set, of which parts may be absent; seed, start, validation (n,),
    parameters {name: (n,)}: of all sequences, finished or not. SequencesError where the files are not parts of one set.
    """

    def __init__(self, path):
        self.files = parts = sorted(map(_Layout, _files(path)), key=lambda part: part.first)
        for part, following in pairwise(parts):
            part.check_beside(following)
        head, counts = parts[0], [part.shape[0] for part in parts]
        self.path, self.dtype, self.interval, self.stride = head.path, head.dtype, head.interval, head.stride
        self.spacing, self.shape = head.spacing, (sum(counts), *head.shape[1:])
        self._begin = np.cumsum([0, *counts])
        self.first = np.concatenate([part.first + np.arange(n) for part, n in zip(parts, counts)])
        for name in ("seed", "start", "validation"):
            setattr(self, name, np.concatenate([getattr(part, name) for part in parts]))
        self.parameters = {name: np.concatenate([part.parameters[name] for part in parts]) for name in head.parameters}
        self._descriptors = []
        try:
            for part in parts:
                self._descriptors.append(os.open(part.path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.close()
            raise SequencesError(f"{part.path}: cannot be read as sequences ({error.strerror})") from None

    def __len__(self):
        return self.shape[0]

    @property
    def state(self) -> np.ndarray:
        """(n,) 0: not there yet, 1: finished, 2: given up."""
        return self._column("state", np.uint8, 1)

    def numbers(self, part: str | None = None) -> np.ndarray:
        """The finished sequences: all, or those for "training" or "validation"."""
        finished = self.state == FINISHED
        if part is not None:
            finished &= self.validation == {"training": False, "validation": True}[part]
        return np.flatnonzero(finished)

    def read(self, number: int, first: int = 0, last: int | None = None, out=None) -> np.ndarray:
        """Frames first … last - 1 of a sequence, into `out` (C-contiguous, of the file's dtype) where given."""
        last = self.shape[1] if last is None else last
        if not 0 <= number < self.shape[0] or not 0 <= first < last <= self.shape[1]:
            raise SequencesError(f"{self.path}: has no frames {first} to {last} of a sequence {number}")
        wanted = (last - first, *self.shape[2:])
        out = np.empty(wanted, self.dtype) if out is None else out
        if out.shape != wanted or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise SequencesError(f"{self.path}: wants a contiguous array {wanted} of {self.dtype} to read into")
        place = int(np.searchsorted(self._begin, number, side="right")) - 1
        part, inside = self.files[place], int(number - self._begin[place])
        view, at, done = memoryview(out.reshape(-1).view(np.uint8)), part.frame_at(inside, first), 0
        while done < len(view):
            count = os.preadv(self._descriptors[place], [view[done : done + (1 << 30)]], at + done)
            if not count:
                raise SequencesError(f"{part.path}: ends within sequence {inside}")
            done += count
        return out

    def table(self, name: str) -> np.ndarray:
        """energy, low, high (n, frames), or mean, steps, seconds (n,); NaN where a sequence is not finished."""
        wide = name in PER_FRAME
        column = self._column(name, np.float64, self.shape[1] if wide else 1)
        values = column.reshape(self.shape[:2] if wide else self.shape[:1])
        values[self.state != FINISHED] = np.nan
        return values

    def _column(self, name, dtype, width) -> np.ndarray:
        """(n · width,) of a small dataset as it is now."""
        item = np.dtype(dtype).itemsize
        return np.concatenate(
            [
                np.frombuffer(os.pread(descriptor, item * width * part.shape[0], part.offsets[name]), dtype)
                for part, descriptor in zip(self.files, self._descriptors)
            ]
        )

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _files(path) -> list[Path]:
    """The files that a path, a pattern or a list of these means; of a run directory its sequences.h5."""
    out = []
    for given in [path] if isinstance(path, str | os.PathLike) else path:
        found = [given] if os.path.exists(given) or not glob.has_magic(str(given)) else sorted(glob.glob(str(given)))
        if not found:
            raise SequencesError(f"{given}: there is no such file")
        out += [Path(one) / "sequences.h5" if os.path.isdir(one) else Path(one) for one in found]
    if not out:
        raise SequencesError("no file of sequences is given")
    return out


def sequences_info(path) -> str | None:
    """One line about a file of sequences; None where it is another kind of HDF5 file."""
    with h5py.File(path, "r") as file:
        if file.attrs.get("format") != FORMAT:
            return None
        state, (count, frames, *shape) = file["state"][:], file["sequences"].shape
        dtype, names = file["sequences"].dtype.name, ", ".join(file["parameters"].attrs["names"].astype(str))
    done, lost = int(np.sum(state == FINISHED)), int(np.sum(state == GIVEN_UP))
    grid = " x ".join(map(str, shape))
    text = f"{count} sequences of {frames} frames on {grid} points, {dtype}, {done} finished"
    return text + f", {lost} given up" * bool(lost) + f"; varied: {names}" * bool(names)
