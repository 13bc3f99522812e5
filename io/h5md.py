"""H5MD 1.1 trajectories: one shared file, written by all ranks together, whole at every instant (io/growing.py).

Format: https://h5md.nongnu.org/h5md.html, with its module units 1.0. In particles/<group>/:

    position, velocity, force, image, <results>    /value (frames, atoms, ...), /step, /time; rows sorted by id
    box/edges                                      /value (frames, 3, 3): rows a, b, c; box/origin (frames, 3)
    id, species, mass                              fixed in time; species is an enumeration of the chemical symbols

Frames that hold some of the atoms only have a row for each atom of the group all the same, so that an atom is always in
its own row: the rows of absent atoms are NaN (0 where the numbers are integers), and the group has the attribute
`absent` = "NaN". Compressed, such rows take next to no room. The reader here leaves them out.

All `step` and `time` are the same two datasets. The `position` of a frame comes into existence last, so its length is
the number of frames. Units: Å, ps, Å/ps, and for forces kJ/(mol Å), the nearest to eV/Å that the readers of H5MD know
(MDAnalysis refuses others); the reader here converts back to eV/Å.
"""

import os
import time as clock
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.compression import compress, filters, whole_chunks
from ostwald.io.growing import growable, new_file, open_together
from ostwald.io.shared import Alone, SharedFile, agree, sync_directory
from ostwald.io.structures import Structure, StructureError
from ostwald.parallel.migration import Blocks

EV_PER_ANGSTROM = 96.48533212331002  # kJ/(mol Å); CODATA 2018, exact: e N_A / 1000
_FIELDS = {  # H5MD's element -> (row shape, unit, argument of append())
    "position": ((3,), "Angstrom", "positions"),
    "velocity": ((3,), "Angstrom ps-1", "velocities"),
    "force": ((3,), "kJ mol-1 Angstrom-1", "forces"),
    "image": ((3,), None, "images"),
}
_BOXED = ("edges", "origin")


class TrajectoryError(RuntimeError):
    """A trajectory cannot be written or continued; one sentence that names the file and the reason."""


@dataclass(frozen=True)
class Group:
    """What is written of which atoms: particles/<name>.

    fields: of "position" (always written), "velocity", "force", "image" and names of `results` given to append().
    ids: the atoms of the group, for the whole trajectory; None is all.
    """

    name: str = "trajectory"  # the only name under which MDAnalysis finds the atoms without a topology file
    fields: tuple = ("position", "image")
    ids: np.ndarray | tuple | None = None


@dataclass(frozen=True)
class Result:
    """A per-atom result: (atoms, *shape), stored as dtype ("float": the trajectory's precision)."""

    shape: tuple = ()
    unit: str | None = None
    dtype: str = "float"


class Trajectory:
    """A trajectory that is being written. All methods are collective."""

    def __init__(self, path, world, shared, growing, layout):
        self.path = Path(path)
        self.world = world
        self._shared = shared  # this rank's way into the file
        self._growing = growing  # rank 0's GrowingFile, None elsewhere
        self._layout = layout
        self.frames = layout["frames"]

    @classmethod
    def create(
        cls,
        path,
        world,
        *,
        ids,
        types,
        species,
        total: int,
        periodic=(True, True, True),
        masses=None,
        groups=(Group(),),
        results=None,
        precision: str = "single",
        compression: str | None = None,
        level: int | None = None,
        shuffle: bool = True,
        author: str | None = None,
        selective: bool = False,
        notes: dict | None = None,
    ) -> "Trajectory":
        """A new trajectory without frames; a file of that name is replaced when the new one is complete.

        ids (n,), types (n,): of this rank's atoms; `total` atoms with ids 0 ... total - 1 in all. species: the symbols
        that types index. masses (len(species),) amu. results: name -> Result. precision: "single" or "double".
        compression: None, "gzip" (with `level`) or "lzf"; smaller files, which the ranks compress in parallel.
        selective: atoms may be absent from frames. notes: name -> text, attributes of the groups.
        """
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            error = None
            results = dict(results or {})
            plan = None
            if world.root:
                try:
                    options = {
                        "compression": compression,
                        "compression_opts": level,
                        "shuffle": shuffle and bool(compression),
                    }
                    names = _checked_groups(groups, results, precision, path)
                    sizes = [total if g.ids is None else len(np.unique(g.ids)) for g in groups]

                    def build(file):
                        _build(file, names, sizes, results, precision, options, species, masses, periodic, author)
                        file["particles"].attrs["atoms"] = total
                        for here in file["particles"].values():
                            here.attrs.update({**(notes or {}), **({"absent": "NaN"} if selective else {})})

                    image = new_file(build)
                    with h5py.File(image, "r") as file:
                        plan = {
                            f"particles/{g.name}/{key}": file[f"particles/{g.name}/{key}"].id.get_offset() or 0
                            for g in groups
                            for key in ("id", "species", *(("mass",) if masses is not None else ()))
                        }
                    image.save(part)
                except Exception as caught:
                    error = caught
            _agree(world, error, path, "was not created")
            plan = world.bcast(plan)
            try:
                shared = SharedFile(part)
                try:
                    rows = _Rows(world, groups, ids, total)
                    for number, group in enumerate(groups):
                        here = f"particles/{group.name}/"
                        kinds = rows.block(number, np.ascontiguousarray(types, np.int32))
                        mine = rows.block(number, np.ascontiguousarray(ids, np.int64))
                        lo = rows.range(number)[0]
                        shared.write(plan[here + "id"] + 8 * lo, mine)
                        shared.write(plan[here + "species"] + 4 * lo, kinds)
                        if masses is not None:
                            shared.write(plan[here + "mass"] + 8 * lo, np.asarray(masses, float)[kinds])
                    shared.sync()
                finally:
                    shared.close()
            except Exception as caught:
                error = caught
            _agree(world, error, path, "was not created")
            if world.root:
                try:
                    os.replace(part, path)
                    sync_directory(path.parent)
                except OSError as caught:
                    error = caught
            _agree(world, error, path, "was not created")
        except BaseException:
            if world.root:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
            raise
        return cls._open(path, world)

    @classmethod
    def resume(cls, path, world, step: int) -> "Trajectory":
        """Continues a trajectory behind `step`: later frames, from before an interruption, are removed."""
        self = cls._open(path, world)
        error = None
        if world.root:
            try:
                with h5py.File(path, "r") as file:
                    steps = file[self._layout["step"]][: self.frames]
                keep = int(np.searchsorted(steps, step, side="right"))
                main = self._layout["order"][-1]
                rest = [name for name in self._layout["order"] if name != main]
                self._growing.truncate({main: keep})
                self._growing.truncate(dict.fromkeys(rest, keep))
                self.frames = keep
            except Exception as caught:
                error = caught
        _agree(world, error, path, "cannot be continued")
        self.frames = world.bcast(self.frames)
        return self

    @classmethod
    def _open(cls, path, world):
        return cls(path, world, *open_together(world, path, lambda growing: _layout(path, growing), _agree))

    def append(
        self,
        step: int,
        time: float,
        matrix,
        origin,
        ids,
        positions,
        *,
        images=None,
        velocities=None,
        forces=None,
        present=None,
        **results,
    ) -> None:
        """Appends a frame: time in ps, matrix (3, 3) and origin (3,) in Å, and of this rank's atoms, in any order:
        ids (n,); positions, images, velocities (Å/ps), forces (eV/Å), all (n, 3); and results.

        present (n,) bool: the atoms that the frame holds, where that is not all; the trajectory must be `selective`.
        Positions are written as given: with images where those are a field of the group; otherwise the caller unwraps.
        All ranks raise the same error where one fails (a full disk); the frame then does not exist, the others do.
        """
        given = {"positions": positions, "images": images, "velocities": velocities, "forces": forces, **results}
        world, layout = self.world, self._layout
        error = plan = None
        try:
            columns = [self._columns(group, given, len(ids), present) for group in layout["groups"]]
        except Exception as caught:
            error = caught
        _agree(world, error, self.path, f"did not get step {step}")
        rows = _Rows(world, layout["groups"], ids, layout["total"])
        blocks = [rows.packed(number, columns[number]) for number in range(len(columns))]

        squeezed = {}
        if layout["filters"]:
            shares = self._shares(rows, blocks)
            try:
                squeezed = {
                    key: {chunk: compress(piece, layout["filters"][key]) for chunk, piece in share.items()}
                    for key, share in shares.items()
                }
            except Exception as caught:
                error = caught
            _agree(world, error, self.path, f"did not get step {step}")
            sizes = {name: [(len(data), mask) for data, mask in chunks.values()] for name, chunks in squeezed.items()}
            everyone = world.gather(sizes)
        if world.root:
            try:
                plan = {}
                for name in layout["order"]:
                    stored = None
                    if name in squeezed:
                        stored = [entry for sizes in everyone for entry in sizes[name]]
                    plan[name] = self._growing.plan(name, stored)
            except Exception as caught:
                error = caught
        _agree(world, error, self.path, f"did not get step {step}")
        plan = world.bcast(plan)
        try:
            for number, group in enumerate(layout["groups"]):
                lo, hi = rows.range(number)
                for name, data in zip(group.fields, blocks[number]):
                    key = f"particles/{group.name}/{name}/value"
                    if key in squeezed:
                        for chunk, (stored, _) in squeezed[key].items():
                            self._shared.write(plan[key][chunk], stored)
                    else:
                        self._write_rows(plan[key], layout["chunks"][key], lo, hi, data)
            if world.root:
                self._write_frame(plan, step, time, matrix, origin)
        except Exception as caught:
            error = caught
        self._settle(error, step)
        if world.root:
            try:
                self._growing.commit(layout["order"])
            except Exception as caught:
                error = caught
        self._settle(error, step)
        self.frames += 1

    def sync(self) -> None:
        """Waits until all frames are on the disk: after this they survive a power failure too."""
        error = None
        try:
            self._shared.sync()
        except OSError as caught:
            error = caught
        _agree(self.world, error, self.path, "was not flushed")

    def close(self) -> None:
        self._shared.close()
        if self._growing:
            self._growing.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- inside

    def _settle(self, error, step):
        """Where any rank failed, the frame is forgotten and its space given back."""
        try:
            _agree(self.world, error, self.path, f"did not get step {step}")
        except Exception:
            if self._growing:
                self._growing.abandon()
            raise

    @property
    def results(self) -> tuple[str, ...]:
        """Names of the per-atom results that append() takes."""
        return tuple(dict.fromkeys(f for group in self._layout["groups"] for f in group.fields if f not in _FIELDS))

    def _columns(self, group, given, count, present):
        """The arrays of a group's fields as they go into the file: (count, ...)."""
        if present is not None and not self._layout["selective"]:
            raise TrajectoryError("the frames of this trajectory hold all atoms")
        columns = []
        for name in group.fields:
            argument = _FIELDS[name][2] if name in _FIELDS else name
            if given.get(argument) is None:
                raise TrajectoryError(f"group {group.name} wants {name}, but append() was given no {argument}")
            value = np.asarray(given[argument])
            shape = self._layout["shapes"][group.name, name]
            if value.shape != (count, *shape):
                raise TrajectoryError(f"{argument} has shape {value.shape}, not {(count, *shape)}")
            value = value * EV_PER_ANGSTROM if name == "force" else value
            column = np.ascontiguousarray(value, self._layout["dtypes"][group.name, name])
            if present is not None:
                column = column.copy()
                column[~np.asarray(present)] = np.nan if column.dtype.kind == "f" else 0
            columns.append(column)
        return columns

    def _write_rows(self, places, chunk, lo, hi, data):
        """Rows [lo, hi) of the current frame, into the chunks that they fall into; neighbouring chunks in one write."""
        frames, rows, row_bytes = chunk
        if lo == hi:
            return
        inner = (self.frames % frames) * rows
        offsets = [(j, max(lo, j * rows), min(hi, (j + 1) * rows)) for j in range(lo // rows, -(-hi // rows))]
        begin = offsets[0][1]
        for (j, _, b), following in zip(offsets, [*offsets[1:], None]):
            if following and frames == 1 and places[following[0]] == places[j] + rows * row_bytes:
                continue
            first = begin // rows
            at = places[first] + (inner + begin - first * rows) * row_bytes
            self._shared.write(at, data[(begin - lo) * row_bytes : (b - lo) * row_bytes])
            begin = b

    def _write_frame(self, plan, step, time, matrix, origin):
        """Step, time and box; small, by rank 0."""
        values = {"step": np.int64(step), "time": np.float64(time)}
        for group in self._layout["groups"]:
            here = f"particles/{group.name}/box/"
            values[here + "edges/value"] = np.asarray(matrix, float)
            values[here + "origin/value"] = np.asarray(origin, float)
        values[self._layout["step"]] = values.pop("step")
        values[self._layout["time"]] = values.pop("time")
        for name, value in values.items():
            frames, rows, row_bytes = self._layout["chunks"][name]
            self._shared.write(plan[name][0] + (self.frames % frames) * rows * row_bytes, np.ascontiguousarray(value))

    def _shares(self, rows, blocks):
        """The chunks that this rank compresses, a contiguous share of each field's: name -> chunk -> bytes."""
        out = {}
        for number, group in enumerate(self._layout["groups"]):
            lo, hi = rows.range(number)
            total = rows.totals[number]
            for name, data in zip(group.fields, blocks[number]):
                key = f"particles/{group.name}/{name}/value"
                _, chunk_rows, row_bytes = self._layout["chunks"][key]
                out[key] = whole_chunks(self.world, data, lo, hi, total, chunk_rows, row_bytes)
        return out


class _Rows:
    """The rows of each group, in blocks of ranks, sorted by id."""

    def __init__(self, world, groups, ids, total):
        self.world = world
        ids = np.asarray(ids, np.int64)
        self.totals, self._plans, self._chosen = [], [], []
        whole = None
        for group in groups:
            if group.ids is None:
                whole = whole or Blocks(world, ids, total)
                chosen, plan, count = slice(None), whole, total
            else:
                members = np.unique(np.asarray(group.ids, np.int64))
                places = np.minimum(np.searchsorted(members, ids), len(members) - 1)
                chosen = np.flatnonzero(members[places] == ids)
                plan, count = Blocks(world, places[chosen], len(members)), len(members)
            self._plans.append(plan)
            self._chosen.append(chosen)
            self.totals.append(count)

    def range(self, number) -> tuple[int, int]:
        return self._plans[number].lo, self._plans[number].hi

    def block(self, number, array):
        return self._plans[number].to_blocks(array[self._chosen[number]])

    def packed(self, number, arrays) -> list:
        """Several arrays in one exchange: the bytes of each one's block."""
        chosen = self._chosen[number]
        widths = [array.dtype.itemsize * int(np.prod(array.shape[1:])) for array in arrays]
        parts = [array[chosen].reshape(-1).view(np.uint8).reshape(-1, w) for array, w in zip(arrays, widths)]
        block = self._plans[number].to_blocks(np.concatenate(parts, axis=1))
        edges = np.cumsum([0, *widths])
        return [np.ascontiguousarray(block[:, a:b]).reshape(-1) for a, b in pairwise(edges)]


def _agree(world, error, path, what):
    agree(world, error, path, f"the trajectory {what}", TrajectoryError)


def _checked_groups(groups, results, precision, path):
    if precision not in ("single", "double"):
        raise TrajectoryError(f"precision is 'single' or 'double', not '{precision}'")
    if len({g.name for g in groups}) != len(groups) or not groups:
        raise TrajectoryError("the groups of a trajectory need different names")
    for group in groups:
        if "position" not in group.fields or len(set(group.fields)) != len(group.fields):
            raise TrajectoryError(f"the fields of group {group.name} need position, and each only once")
        unknown = [name for name in group.fields if name not in _FIELDS and name not in results]
        if unknown:
            raise TrajectoryError(f"group {group.name} wants '{unknown[0]}', which is not declared among the results")
        if group.ids is not None and len(group.ids) == 0:
            raise TrajectoryError(f"group {group.name} has no atoms")
    return groups


def _build(file, groups, sizes, results, precision, options, species, masses, periodic, author):
    """The groups, attributes and empty datasets of an H5MD file."""
    real = np.dtype("f4" if precision == "single" else "f8")
    h5md = file.create_group("h5md")
    h5md.attrs["version"] = np.array([1, 1], np.int32)
    h5md.create_group("author").attrs["name"] = author or os.environ.get("USER") or "unknown"
    creator = h5md.create_group("creator")
    creator.attrs["name"] = "Ostwald"
    creator.attrs["version"] = _version()
    h5md.create_group("modules").create_group("units").attrs["version"] = np.array([1, 0], np.int32)
    file.attrs["created"] = clock.strftime("%Y-%m-%dT%H:%M:%S%z")
    first = file.create_group("particles").create_group(groups[0].name)
    step = growable(first.create_group("position"), "step", (), np.int64, None)
    time = growable(first["position"], "time", (), np.float64, "ps")
    enumeration = h5py.enum_dtype({name: k for k, name in enumerate(species)}, basetype=np.int32)
    for group, size in zip(groups, sizes):
        here = file["particles"].require_group(group.name)
        _fixed(here, "id", size, np.dtype(np.int64), None)
        _fixed(here, "species", size, enumeration, None)
        if masses is not None:
            _fixed(here, "mass", size, np.dtype(np.float64), "u")
        box = here.create_group("box")
        box.attrs["dimension"] = np.int32(3)
        words = ["periodic" if p else "none" for p in np.broadcast_to(periodic, 3)]
        box.attrs["boundary"] = np.array(words, dtype="S8")
        for name, shape in (("edges", (3, 3)), ("origin", (3,))):
            element = box.create_group(name)
            growable(element, "value", shape, np.float64, "Angstrom")
            element["step"], element["time"] = step, time
        for name in group.fields:
            element = here.require_group(name)
            result = results.get(name)
            shape, unit, _ = _FIELDS[name] if result is None else (result.shape, result.unit, None)
            dtype = np.int32 if name == "image" else real if result is None or result.dtype == "float" else result.dtype
            growable(element, "value", (size, *shape), np.dtype(dtype), unit, options)
            if "step" not in element:
                element["step"], element["time"] = step, time


def _fixed(group, name, size, dtype, unit):
    """A dataset (size,) whose bytes are written later, at its offset."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple((size,)), properties)
    if unit:
        group[name].attrs["unit"] = unit


def _layout(path, growing) -> dict:
    """What append() needs to know of a file: groups, dtypes, chunks, and the order in which datasets grow."""
    with h5py.File(path, "r") as file:
        groups, dtypes, shapes, filtered, selective = [], {}, {}, {}, False
        total = int(file["particles"].attrs["atoms"])
        order = []
        for name, here in file["particles"].items():
            fields = [key for key, item in here.items() if key != "box" and isinstance(item, h5py.Group)]
            ids = here["id"][:]
            selective = selective or "absent" in here.attrs
            groups.append(Group(name, tuple(fields), None if len(ids) == total else ids))
            for field in fields:
                dataset = here[f"{field}/value"]
                dtypes[name, field], shapes[name, field] = dataset.dtype, dataset.shape[2:]
                key = f"particles/{name}/{field}/value"
                if growing.datasets[key].filtered:
                    filtered[key] = filters(dataset)
                order.append(key)
            order += [f"particles/{name}/box/{element}/value" for element in _BOXED]
    if not groups:
        raise TrajectoryError(f"{path}: has no particles")
    first = groups[0].name
    main = f"particles/{first}/position/value"
    step, time = f"particles/{first}/position/step", f"particles/{first}/position/time"
    order = [step, time, *(key for key in order if key != main), main]
    frames = growing.length(main)
    if any(growing.length(name) < frames for name in order):
        raise TrajectoryError(f"{path}: the datasets of the trajectory differ in length")
    growing.truncate({name: frames for name in order if growing.length(name) > frames})  # of a frame in flight
    chunks = {n: (d.frames, d.rows, d.row_bytes) for n in order for d in [growing.datasets[n]]}
    return {
        "groups": groups,
        "dtypes": dtypes,
        "shapes": shapes,
        "filters": filtered,
        "selective": selective,
        "chunks": chunks,
        "order": order,
        "step": step,
        "time": time,
        "total": total,
        "frames": frames,
    }


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("ostwald")
    except metadata.PackageNotFoundError:
        return "unknown"


# --- reading


def frames(path, index: int | None = None, group: str | None = None) -> Iterator[Structure]:
    """The frames of an H5MD file as Structures, whoever wrote it; or only frame `index`. The first group by default."""
    try:
        with h5py.File(path, "r") as file:
            particles = file["particles"]
            name = group or next(iter(particles))
            if name not in particles:
                raise StructureError(f"{path}: no group '{name}' among {', '.join(particles)}")
            here = particles[name]
            count = len(here["position/value"])
            if index is None:
                numbers = range(count)
            else:
                numbers = [index % count] if -count <= index < count else []
            fixed = _read_fixed(here)
            for number in numbers:
                yield _read_frame(here, number, fixed)
    except (KeyError, StopIteration) as error:
        raise StructureError(f"{path}: not an H5MD file ({error})") from None
    except OSError as error:
        raise StructureError(f"{path}: cannot be read as HDF5 ({error})") from None


def times(path, group: str | None = None) -> np.ndarray:
    """(frames,) times in ps of an H5MD file; StructureError where it is not one."""
    try:
        with h5py.File(path, "r") as file:
            position = file["particles"][group or next(iter(file["particles"]))]["position"]
            return position["time"][: len(position["value"])] * _unit(position["time"], _TIMES)
    except (OSError, KeyError, StopIteration) as error:
        raise StructureError(f"{path}: not an H5MD file ({error})") from None


def trajectory_info(path) -> str | None:
    """One line about an H5MD file, without reading the frames; None where it is another kind of HDF5 file."""
    with h5py.File(path, "r") as file:
        if "h5md" not in file or not len(file.get("particles", ())):
            return None
        out = []
        for name, here in file["particles"].items():
            position = here["position"]
            count = len(position["value"])
            fields = [key for key, item in here.items() if key != "box" and isinstance(item, h5py.Group)]
            atoms = position["value"].shape[1]
            out.append(f"{name}: {atoms} atoms ({' '.join(_read_fixed(here)[0])}), {', '.join(fields)}")
        span = ""
        if count and "step" in position:
            first, last = (int(position["step"][k]) for k in (0, count - 1))
            span = f", steps {first} to {last}" if count > 1 else f", step {first}"
            if "time" in position:
                span += f", {float(position['time'][count - 1]) * _unit(position['time'], _TIMES):.6g} ps"
        return f"H5MD trajectory, {count} frames{span}; {'; '.join(out)}"


_LENGTHS = {"Angstrom": 1.0, "angstrom": 1.0, "A": 1.0, "nm": 10.0, "pm": 0.01}
_TIMES = {"ps": 1.0, "fs": 1e-3, "ns": 1e3, "s": 1e12}
_FORCES = {"kJ mol-1 Angstrom-1": 1 / EV_PER_ANGSTROM, "kJ mol-1 nm-1": 0.1 / EV_PER_ANGSTROM, "eV Angstrom-1": 1.0}


def _unit(dataset, table):
    """The factor to Å, ps or eV/Å; 1 where there is no unit or an unknown one."""
    unit = dataset.attrs.get("unit", "")
    return table.get(unit.decode() if isinstance(unit, bytes) else unit, 1.0)


def _read_fixed(here):
    from ostwald.io.structures import species_of

    count = here["position/value"].shape[1]
    if "species" in here and isinstance(here["species"], h5py.Dataset):
        names = h5py.check_enum_dtype(here["species"].dtype)
        types = here["species"][:].astype(np.int64)
        if names:
            order = sorted(names, key=names.get)
            table = {names[name]: k for k, name in enumerate(order)}
            if any(value != k for value, k in table.items()):
                types = np.array([table[t] for t in types])
            species = tuple(order)
        else:
            species, types = species_of(types.astype(str))
    else:
        species, types = ("X",), np.zeros(count, np.int32)
    masses = None
    if "mass" in here and isinstance(here["mass"], h5py.Dataset):
        first = np.array([np.flatnonzero(types == t)[0] if np.any(types == t) else -1 for t in range(len(species))])
        if np.all(first >= 0):
            masses = here["mass"][:][first]
    ids = here["id"][:].astype(np.int64) if "id" in here and isinstance(here["id"], h5py.Dataset) else None
    boundary = [b.decode() if isinstance(b, bytes) else str(b) for b in here["box"].attrs.get("boundary", ["none"] * 3)]
    return species, types, masses, ids, np.array([b == "periodic" for b in boundary])


def _read_frame(here, number, fixed) -> Structure:
    species, types, masses, ids, periodic = fixed
    position = here["position"]
    length = _unit(position["value"], _LENGTHS)
    positions = position["value"][number].astype(float) * length
    box = here["box"]
    origin = np.zeros(3)
    if "edges" in box:
        value = box["edges/value"][number] if isinstance(box["edges"], h5py.Group) else box["edges"][()]
        matrix = np.diag(value) if np.ndim(value) == 1 else np.asarray(value)
        matrix = matrix * length
    else:
        low, high = positions.min(axis=0), positions.max(axis=0)
        matrix, origin = np.diag(high - low + 2.0), low - 1.0
    if "origin" in box and isinstance(box["origin"], h5py.Group):
        origin = box["origin/value"][number] * length
    arrays = {}
    others = {"velocity": None, "force": None, "image": None}
    for name, item in here.items():
        if name in ("position", "box") or not isinstance(item, h5py.Group) or "value" not in item:
            continue
        if len(item["value"]) <= number:
            continue
        value = item["value"][number]
        if name in others:
            others[name] = value
        elif np.ndim(value) and len(value) == len(positions):
            arrays[name] = value
    velocities = others["velocity"]
    if velocities is not None:
        unit = here["velocity/value"].attrs.get("unit", "")
        unit = unit.decode() if isinstance(unit, bytes) else unit
        top, _, bottom = unit.partition(" ")
        velocities = velocities.astype(float) * _LENGTHS.get(top, 1.0) / _TIMES.get(bottom.replace("-1", ""), 1.0)
    if others["force"] is not None:
        arrays["forces"] = others["force"].astype(float) * _unit(here["force/value"], _FORCES)
    info = {}
    if "step" in position:
        info["step"] = int(position["step"][number])
    if "time" in position:
        info["time"] = float(position["time"][number]) * _unit(position["time"], _TIMES)
    images = others["image"]
    if "absent" in here.attrs:
        there = ~np.isnan(positions[:, 0])
        positions, types, ids = positions[there], types[there], None if ids is None else ids[there]
        velocities, images = (None if a is None else a[there] for a in (velocities, images))
        arrays = {name: value[there] for name, value in arrays.items()}
    return Structure(positions, matrix, species, types, origin, periodic, velocities, ids, images, masses, arrays, info)


def write_frames(path, structures) -> None:
    """Structures as an H5MD file of their own (double precision); all must hold the same atoms."""
    world = Alone()
    trajectory = None
    for structure in structures:
        s = structure
        order = np.argsort(s.ids, kind="stable") if s.ids is not None else np.arange(len(s))
        if trajectory is None:
            fields = ["position"]
            fields += [n for n, v in (("image", s.images), ("velocity", s.velocities)) if v is not None]
            extra = {n: np.asarray(a) for n, a in s.arrays.items() if np.asarray(a).dtype.kind in "fiub"}
            if "forces" in extra:
                extra.pop("forces")
                fields.append("force")
            results = {n: Result(a.shape[1:], None, a.dtype.str) for n, a in extra.items() if n not in _FIELDS}
            group = Group(fields=(*fields, *results))
            first, symbols = s, s.symbols[order]
            trajectory = Trajectory.create(
                path,
                world,
                ids=np.arange(len(s)),
                types=s.types[order],
                species=s.species,
                total=len(s),
                periodic=s.periodic,
                masses=s.masses,
                groups=(group,),
                results=results,
                precision="double",
            )
            if s.ids is not None:
                _store_ids(path, s.ids[order])
        elif len(s) != len(first) or not np.array_equal(s.symbols[order], symbols):
            raise StructureError("the frames hold different atoms; an H5MD file has the same ones in all frames")
        trajectory.append(
            s.info.get("step", trajectory.frames),
            s.info.get("time", 0.0),
            s.matrix,
            s.origin,
            np.arange(len(s)),
            s.positions[order],
            images=None if s.images is None else s.images[order],
            velocities=None if s.velocities is None else s.velocities[order],
            forces=None if "forces" not in s.arrays else np.asarray(s.arrays["forces"])[order],
            **{name: np.asarray(s.arrays[name])[order] for name in results if name in s.arrays},
        )
    if trajectory is not None:
        trajectory.close()


def _store_ids(path, ids):
    with h5py.File(path, "r") as file:
        offset = file["particles/trajectory/id"].id.get_offset()
    file = SharedFile(path)
    file.write(offset, np.ascontiguousarray(ids, np.int64))
    file.close()
