"""Fields on a grid over time: one HDF5 file, written by all ranks together, whole at every instant (io/growing.py).

    /fields/<name>   (frames, n0, n1[, n2])   single or double precision, in chunks of whole planes; on request
                                              compressed (shuffle, gzip), which loses nothing
    /step, /time     (frames,)
    attributes       format, spacing, lengths

The first field of a frame comes into existence last, so its length is the number of frames. Beside NAME.h5 lies
NAME.xdmf, which ParaView and other readers of XDMF open as a series in time. To them the last axis, the fastest, is X
and the first is the last letter: the mirror image of a box in which axis 0 is called x.
"""

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.compression import compress, filters, whole_chunks
from ostwald.io.growing import create_file, growable, open_together
from ostwald.io.shared import agree

FORMAT = "fields 1"
LEVEL = 1  # of gzip: higher ones take longer and make fields hardly smaller


class FieldsError(RuntimeError):
    """Fields cannot be written, continued or read; one sentence that names the file and the reason."""


class FieldSeries:
    """Fields of a run: `create` or `resume`, then append() at every frame. All methods are collective.

    fourier: parallel.Parts, such as a Fourier: the grid and this rank's brick. Slabs write planes, pencils the lines of planes
    that are theirs, at offsets agreed beforehand; a field is never gathered. Chunks that are compressed are first made whole,
    each on one rank: a frame then takes memory for its brick, and for what was compressed.
    """

    def __init__(self, path, fourier, shared, growing, layout):
        self.path, self.world = Path(path), fourier.world
        self._parts, self._lo, self._hi, self._shape = fourier, fourier.lo, fourier.hi, tuple(fourier.shape)
        self._shared = shared  # this rank's way into the file
        self._growing = growing  # rank 0's GrowingFile, None elsewhere
        self._layout = layout
        self.frames = layout["frames"]
        self._told = -1  # frames in the XDMF

    @classmethod
    def create(
        cls, path, fourier, fields=("phi",), spacing=1.0, precision="single", notes=None, compression=None
    ) -> "FieldSeries":
        """A new series without frames; a file of that name is replaced.

        spacing: one number or one per axis; precision: "single" or "double"; notes: name -> text or number, attributes.
        compression: None or "gzip".
        """
        path, world, error = Path(path), fourier.world, None
        if world.root:
            try:
                _create(path, tuple(fourier.shape), tuple(fields), spacing, precision, notes or {}, compression)
            except Exception as caught:
                error = caught
        _agree(world, error, path, "were not created")
        return cls._open(path, fourier)

    @classmethod
    def resume(cls, path, fourier, step: int) -> "FieldSeries":
        """Continues a series behind `step`: later frames, from before an interruption, are removed."""
        self = cls._open(path, fourier)
        error = None
        if self.world.root:
            try:
                with h5py.File(path, "r") as file:
                    keep = int(np.searchsorted(file["step"][: self.frames], step, side="right"))
                for name in reversed(self._layout["order"]):
                    self._growing.truncate({name: keep})
                self.frames = keep
            except Exception as caught:
                error = caught
        self._settle(error, "cannot be continued")
        self.frames = self.world.bcast(self.frames)
        self._tell(now=True)
        return self

    @classmethod
    def _open(cls, path, fourier):
        def layout(growing):
            return _layout(path, growing, tuple(fourier.shape))

        self = cls(path, fourier, *open_together(fourier.world, path, layout, _agree))
        self._tell(now=True)
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that append() wants."""
        return tuple(self._layout["fields"])

    @property
    def point_bytes(self) -> int:
        """Bytes of a frame that each point of the grid has."""
        return len(self.fields) * self._layout["dtype"].itemsize

    def append(self, step: int, time: float, **fields) -> None:
        """Appends a frame: each field as this rank's brick, or as pieces (first, last, planes first ... last - 1 of the
        brick), as CahnHilliard.pieces() gives them.

        All ranks raise the same error where one fails (a full disk); the frame then does not exist, the others do.
        """
        what, order = f"did not get step {step}", self._layout["order"]
        error = None if set(fields) == set(self.fields) else FieldsError(f"{self.path}: holds {', '.join(self.fields)}")
        self._settle(error, what)
        squeezed = {name: self._squeezed(name, fields[name], what) for name in self.fields if self._layout["filter"]}
        plan = self._plan(squeezed, what)
        for name in self.fields:
            places = plan[f"fields/{name}"]
            try:
                for number, (data, _) in squeezed.get(name, {}).items():
                    self._shared.write(places[number], data)
                if not squeezed:
                    self._take(
                        name, fields[name], lambda *piece, at=(places, f"fields/{name}"): self._write(*at, *piece)
                    )
            except Exception as caught:
                error = caught
            self._settle(error, what)
        if self.world.root:
            try:
                for name, value in (("step", np.int64(step)), ("time", np.float64(time))):
                    frames, _, _ = self._layout["chunks"][name]
                    self._shared.write(plan[name][0] + (self.frames % frames) * 8, value.tobytes())
                self._growing.commit(order)
            except Exception as caught:
                error = caught
        self._settle(error, what)
        self.frames += 1
        self._tell()

    def sync(self) -> None:
        """Waits until all frames are on the disk: after this they survive a power failure too."""
        error = None
        try:
            self._shared.sync()
        except OSError as caught:
            error = caught
        _agree(self.world, error, self.path, "were not flushed")
        self._tell(now=True)

    def close(self) -> None:
        self._tell(now=True)
        self._release()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()
        else:
            self._release()  # perhaps on this rank alone

    # --- inside

    def _release(self):
        self._shared.close()
        if self._growing:
            self._growing.close()

    def _take(self, name, pieces, use):
        """use(first, last, planes) with all planes of this rank's brick of a field."""
        if isinstance(pieces, np.ndarray):
            pieces = [(0, len(pieces), pieces)]
        count = 0
        for first, last, planes in pieces:
            wanted = (last - first, *(b - a for a, b in zip(self._lo[1:], self._hi[1:])))
            if np.shape(planes) != wanted or not 0 <= first <= last <= self._hi[0] - self._lo[0]:
                raise FieldsError(
                    f"planes {first} to {last} of the shape {np.shape(planes)} came where {wanted} are wanted"
                )
            use(first, last, planes)
            count += last - first
        if count != self._hi[0] - self._lo[0]:
            raise FieldsError(f"{count} planes of {name} came on rank {self.world.rank}")

    def _squeezed(self, name, pieces, what) -> dict:
        """Collective. The chunks of a field that this rank writes: number -> (bytes, filter mask)."""
        error, out = None, {}
        brick = np.empty([b - a for a, b in zip(self._lo, self._hi)], self._layout["dtype"])
        try:
            self._take(name, pieces, lambda first, last, planes: brick.__setitem__(slice(first, last), planes))
        except Exception as caught:
            error = caught
        self._settle(error, what)
        planes, first = self._parts.to_planes(brick), self._parts.first_plane
        _, rows, row_bytes = self._layout["chunks"][f"fields/{name}"]
        data = np.ascontiguousarray(planes).reshape(-1).view(np.uint8)
        chunks = whole_chunks(self.world, data, first, first + len(planes), self._shape[0], rows, row_bytes)
        try:
            out = {number: compress(chunk, self._layout["filter"]) for number, chunk in chunks.items()}
        except Exception as caught:
            error = caught
        self._settle(error, what)
        return out

    def _plan(self, squeezed, what) -> dict:
        """Collective. name of a dataset -> where the chunks of its next row go."""
        sizes = {name: [(len(data), mask) for data, mask in chunks.values()] for name, chunks in squeezed.items()}
        everyone, plan, error = self.world.gather(sizes), None, None
        if self.world.root:
            try:
                stored = {f"fields/{name}": [entry for each in everyone for entry in each[name]] for name in squeezed}
                plan = {name: self._growing.plan(name, stored.get(name)) for name in self._layout["order"]}
            except Exception as caught:
                error = caught
        self._settle(error, what)
        return self.world.bcast(plan)

    def _write(self, places, key, first, last, planes):
        """Planes first ... last - 1 of the brick, into the chunks of the current frame."""
        frames, rows, row_bytes = self._layout["chunks"][key]
        data = np.ascontiguousarray(planes, self._layout["dtype"]).reshape(last - first, -1).view(np.uint8)
        if not data.size:
            return
        inner = (self.frames % frames) * rows
        x = np.arange(self._lo[0] + first, self._lo[0] + last)
        at = np.asarray(places)[x // rows] + (inner + x % rows) * row_bytes
        if len(self._shape) == 3:
            at += self._lo[1] * (row_bytes // self._shape[1])
        # planes that follow one another in the file go in one write
        edges = [0, *(np.flatnonzero(np.diff(at) != data.shape[1]) + 1).tolist(), len(at)]
        for a, b in pairwise(edges):
            self._shared.write(int(at[a]), data[a:b])

    def _settle(self, error, what):
        """Where any rank failed, the frame is forgotten and its space given back."""
        try:
            _agree(self.world, error, self.path, what)
        except Exception:
            if self._growing:
                self._growing.abandon()
            raise

    def _tell(self, now=False):
        """Writes the XDMF: after each of the first hundred frames, then after each hundredth part, so that long series
        do not spend their time on it."""
        due = self.frames != self._told if now else self.frames - self._told > self.frames // 100
        if not due:
            return
        self._told, error = self.frames, None
        if self.world.root:
            try:
                write_xdmf(self.path)
            except Exception as caught:
                error = caught
        _agree(self.world, error, self.path, "did not get their XDMF")


def _agree(world, error, path, what):
    agree(world, error, path, f"the fields {what}", FieldsError)


def _create(path, shape, fields, spacing, precision, notes, compression):
    if compression not in (None, "gzip"):
        raise FieldsError(f"compression is None or 'gzip', not '{compression}'")
    options = {"compression": compression, "compression_opts": LEVEL, "shuffle": True} if compression else None
    if precision not in ("single", "double"):
        raise FieldsError(f"precision is 'single' or 'double', not '{precision}'")
    if not fields or len(set(fields)) != len(fields):
        raise FieldsError("the fields of a series need different names")
    dtype = np.dtype("f4" if precision == "single" else "f8")
    spacing = np.array(np.broadcast_to(spacing, len(shape)), float)

    def build(file):
        file.attrs["format"] = FORMAT
        file.attrs["creator"] = "Ostwald"
        file.attrs["spacing"] = spacing
        file.attrs["lengths"] = spacing * shape
        file.attrs.update(notes)
        growable(file, "step", (), np.int64, None)
        growable(file, "time", (), np.float64, None)
        group = file.create_group("fields", track_order=False)
        group.attrs["names"] = np.array(fields, dtype=h5py.string_dtype())
        for name in fields:
            growable(group, name, shape, dtype, None, options)

    create_file(path, build)


def _layout(path, growing, shape) -> dict:
    """What append() needs to know of a file: fields, dtype, chunks, and the order in which the datasets grow."""
    with h5py.File(path, "r") as file:
        _check_format(file, path)
        fields = [str(name) for name in file["fields"].attrs["names"].astype(str)]
        dataset = file[f"fields/{fields[0]}"]
        if dataset.shape[1:] != shape:
            raise FieldsError(f"{path}: holds fields of {dataset.shape[1:]} points, not {shape}")
        dtype, filtering = dataset.dtype, filters(dataset) if dataset.compression else None
    order = ["step", "time", *(f"fields/{name}" for name in reversed(fields))]
    frames = growing.length(order[-1])
    if any(growing.length(name) < frames for name in order):
        raise FieldsError(f"{path}: the datasets of the series differ in length")
    growing.truncate({name: frames for name in order if growing.length(name) > frames})  # of a frame in flight
    chunks = {n: (d.frames, d.rows, d.row_bytes) for n in order for d in [growing.datasets[n]]}
    return {
        "fields": fields, "dtype": dtype, "filter": filtering, "chunks": chunks, "order": order, "frames": frames
    }  # fmt: skip


def _check_format(file, path):
    found = file.attrs.get("format")
    if found != FORMAT:
        raise FieldsError(
            f"{path}: not a series of fields" + (f" of a version that is known here ({found})" * bool(found))
        )


# --- XDMF


def write_xdmf(path) -> Path:
    """Writes NAME.xdmf for a series NAME.h5 as it is now: XDMF 3 that readers of version 2 understand. Not collective."""
    path = Path(path)
    with h5py.File(path, "r") as file:
        _check_format(file, path)
        names = [str(name) for name in file["fields"].attrs["names"].astype(str)]
        dataset = file[f"fields/{names[0]}"]
        frames, *shape = dataset.shape
        times, spacing, item = file["time"][:frames], file.attrs["spacing"], dataset.dtype.itemsize
    d, points = len(shape), " ".join(map(str, shape))
    flat = d == 2  # one plane of a mesh in three dimensions: VTK lays meshes of two into its YZ plane

    def numbers(values):
        return f'<DataItem Dimensions="3" NumberType="Float" Precision="8" Format="XML">{values}</DataItem>'

    grid = f"""<Topology TopologyType="3DCoRectMesh" Dimensions="{"1 " * flat}{points}"/>
        <Geometry GeometryType="ORIGIN_DXDYDZ">
          {numbers("0 0 0")}
          {numbers("1.0 " * flat + " ".join(repr(float(h)) for h in spacing))}
        </Geometry>"""
    text = [
        '<?xml version="1.0"?>\n<Xdmf Version="3.0">\n  <Domain>\n'
        '    <Grid Name="fields" GridType="Collection" CollectionType="Temporal">\n'
    ]
    for k in range(frames):
        text.append(
            f'      <Grid Name="frame {k}" GridType="Uniform">\n        <Time Value="{float(times[k])!r}"/>\n        {grid}\n'
        )
        for name in names:
            text.append(f"""        <Attribute Name="{name}" AttributeType="Scalar" Center="Node">
          <DataItem ItemType="HyperSlab" Dimensions="{"1 " * flat}{points}" Type="HyperSlab">
            <DataItem Dimensions="3 {d + 1}" NumberType="Int" Format="XML">{k}{" 0" * d} {"1 " * (d + 1)}1 {points}</DataItem>
            <DataItem Dimensions="{frames} {points}" NumberType="Float" Precision="{item}" Format="HDF">{path.name}:/fields/{name}</DataItem>
          </DataItem>
        </Attribute>
""")
        text.append("      </Grid>\n")
    text.append("    </Grid>\n  </Domain>\n</Xdmf>\n")
    target = path.with_suffix(".xdmf")
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_text("".join(text))
        os.replace(part, target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return target


# --- reading


class FieldFrame:
    """One frame of a field in an HDF5 file: shape, dtype, and slices [a:b, c:d, ...] that are read when they are asked
    for, by as many ranks as like."""

    def __init__(self, path, dataset, frame):
        self.path, self._dataset, self.frame = Path(path), dataset, frame
        self.shape = dataset.shape if frame is None else dataset.shape[1:]
        self.dtype = dataset.dtype

    def __getitem__(self, part):
        part = part if isinstance(part, tuple) else (part,)
        return self._dataset[part if self.frame is None else (self.frame, *part)]

    def close(self) -> None:
        self._dataset.file.close()


def open_field(path, name: str | None = None, frame: int = -1):
    """A field in a file, for slicing: a FieldFrame, or for .npy an array that stays in the file. Not collective.

    name: of a field of a series, or the path of any dataset; by default the first field or the only dataset. frame: of
    a series; other datasets have none. FieldsError where there is no such field; it has two or three axes.
    """
    path = Path(path)
    if path.is_dir():
        raise FieldsError(f"{path}: a folder, not a file with a field")
    if path.suffix == ".npy":
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise FieldsError(f"{path}: cannot be read ({error})") from None
        return _checked(path, values)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FieldsError(f"{path}: cannot be read as HDF5 ({error})") from None
    try:
        if file.attrs.get("format") == FORMAT and (name is None or name in file["fields"]):
            dataset = file["fields"][name or str(file["fields"].attrs["names"].astype(str)[0])]
            if not -len(dataset) <= frame < len(dataset):
                raise FieldsError(f"{path}: has no frame {frame}, but {len(dataset)} frames")
            return FieldFrame(path, dataset, frame % len(dataset))
        found = []
        file.visititems(lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) else None)
        if name is None and len(found) != 1:
            raise FieldsError(f"{path}: which dataset? There are {', '.join(found) or 'none'}")
        if not isinstance(file.get(name or found[0]), h5py.Dataset):
            raise FieldsError(f"{path}: has no dataset {name}, but {', '.join(found) or 'none'}")
        return _checked(path, FieldFrame(path, file[name or found[0]], None))
    except BaseException:
        file.close()
        raise


def _checked(path, values):
    if len(values.shape) not in (2, 3) or values.dtype.kind not in "fiu":
        raise FieldsError(f"{path}: a field is real and has two or three axes, not {values.shape} {values.dtype}")
    return values


def field_frames(path) -> tuple[np.ndarray, np.ndarray]:
    """(steps, times) of the frames of a series. Not collective."""
    try:
        with h5py.File(path, "r") as file:
            _check_format(file, path)
            count = len(file["fields"][str(file["fields"].attrs["names"].astype(str)[0])])
            return file["step"][:count], file["time"][:count]
    except OSError as error:
        raise FieldsError(f"{path}: cannot be read as HDF5 ({error})") from None


def fields_info(path) -> str | None:
    """One line about a series of fields; None where it is another kind of HDF5 file."""
    with h5py.File(path, "r") as file:
        if file.attrs.get("format") != FORMAT:
            return None
        names = [str(name) for name in file["fields"].attrs["names"].astype(str)]
        dataset = file["fields"][names[0]]
        count, *shape = dataset.shape
        span = ""
        if count:
            step, time = file["step"][:count], file["time"][:count]
            span = f", steps {step[0]} to {step[-1]}, time {time[-1]:.6g}" if count > 1 else f", step {step[0]}"
        grid, stored = " x ".join(map(str, shape)), ""
        if dataset.compression and count:
            ratio = dataset.nbytes / dataset.id.get_storage_size()
            stored = f", {dataset.compression} ({ratio:.2f} times smaller)"
        return f"fields {', '.join(names)} on {grid} points, {dataset.dtype.name}{stored}, {count} frames{span}"
