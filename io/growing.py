"""HDF5 files that grow row by row (frame by frame) and are whole at every instant, whenever the writer is killed.

HDF5 itself gives no such promise: it writes changed metadata in no particular order, and a process killed in between
leaves a file that cannot be opened. Here HDF5 makes the file (in memory, renamed into place when complete), and anybody
may read it with HDF5 at any time, also while it grows; but rows are appended by this module, which does little and that
in a fixed order:

1. The bytes of the new row go to space that no metadata refers to: chunks behind the end of the file, or a part of the
   last chunk that lies beyond the dataset's length. New nodes of the chunk index go behind the end, too.
2. The end of file in the superblock is moved (8 bytes in place).
3. Nodes of the chunk indices get their new entries. These are for chunks beyond the dataset's length, so no reader
   looks at them; entries that are in use do not change.
4. The lengths of the datasets are moved, 8 bytes in place each; that of the main dataset last. This is the moment at
   which the row exists.

After every single step, and after half of one, the file is a valid HDF5 file in which all earlier rows are as they
were. Steps 2 to 4 are a few writes, each inside one memory page, which a kill cannot tear (nodes are laid so that none
crosses a page). Removing rows is step 4 alone, with a smaller length; the chunks stay in the index and are used again.

The formats that this needs are the oldest and simplest of HDF5, which every version reads, and none has a checksum that
would have to change with the lengths: superblock 0, object headers 1, chunk index B-tree 1. Source: HDF5 File Format
Specification 3.0 (https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html), sections II.A, III.A.1, IV.A.

A power failure is another matter, as the system may write its pages in any order: sync() where that must not hurt.
"""

import os
import struct
from contextlib import suppress
from dataclasses import dataclass, field

import h5py
import numpy as np

from ostwald.io.image import Image
from ostwald.io.shared import SharedFile, agree, sync_directory

PAGE = 4096
UNDEFINED = 0xFFFFFFFFFFFFFFFF
K = 32  # a node of the chunk index holds up to 2 K entries; the default of the format, fixed in superblock 0
CHUNK = 1 << 20  # bytes of a chunk, about
SMALL = 1 << 15  # rows of fewer bytes share a chunk
_END_OF_FILE = 40  # where superblock 0 keeps it


class GrowingFileError(RuntimeError):
    """The file is not one that can be continued; one sentence that names it and the reason."""


class _Node:
    """A node of a chunk index: version 1 B-tree, node type 1."""

    def __init__(self, address: int, image: bytearray):
        self.address = address
        self.image = image
        self.fresh = False  # lies where no committed metadata refers to

    @classmethod
    def empty(cls, dataset, address: int, level: int) -> "_Node":
        image = bytearray(dataset.node_bytes)
        struct.pack_into("<4sBBHQQ", image, 0, b"TREE", 1, level, 0, UNDEFINED, UNDEFINED)
        return cls(address, image)

    level = property(lambda self: self.image[5])
    count = property(lambda self: self._get("<H", 6), lambda self, value: struct.pack_into("<H", self.image, 6, value))
    left = property(lambda self: self._get("<Q", 8), lambda self, value: struct.pack_into("<Q", self.image, 8, value))
    right = property(
        lambda self: self._get("<Q", 16), lambda self, value: struct.pack_into("<Q", self.image, 16, value)
    )

    def _get(self, style, at):
        return struct.unpack_from(style, self.image, at)[0]

    def put(self, dataset, slot: int, key: bytes, child: int) -> None:
        at = 24 + slot * (dataset.key_bytes + 8)
        self.image[at : at + len(key) + 8] = key + struct.pack("<Q", child)


@dataclass
class _Chunk:
    address: int
    size: int  # stored bytes
    room: int  # bytes that may be stored at this address
    mask: int = 0
    leaf: _Node | None = None  # None: not in the index yet
    slot: int = -1


@dataclass
class Growing:
    """A chunked dataset that grows along its first axis. A chunk holds `frames` rows of it, `rows` of its second."""

    name: str
    header: int
    shape: tuple  # of one row
    dtype: np.dtype
    frames: int
    rows: int  # 1 for a dataset with one axis
    filtered: bool
    length: int = 0
    length_at: int = 0  # where the file keeps the length
    index_at: int = 0  # where it keeps the address of the index
    path: list = field(default_factory=list)  # rightmost nodes, leaf first
    known: dict = field(default_factory=dict)  # (first row, chunk of the second axis) -> _Chunk, from the last block on
    new: dict = field(default_factory=dict)  # the same, planned and not committed

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the second axis."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    @property
    def columns(self) -> int:
        """Length of the second axis."""
        return self.shape[0] if self.shape else 1

    @property
    def chunks(self) -> int:
        """Chunks along the second axis."""
        return -(-self.columns // self.rows)

    @property
    def chunk_bytes(self) -> int:
        return self.frames * self.rows * self.row_bytes

    @property
    def rank(self) -> int:
        return 1 + len(self.shape)

    @property
    def key_bytes(self) -> int:
        return 8 + 8 * (self.rank + 1)

    @property
    def node_bytes(self) -> int:
        return 24 + 2 * K * 8 + (2 * K + 1) * self.key_bytes

    def key(self, block: int, chunk: int, size: int, mask: int) -> bytes:
        offsets = [block, *([chunk * self.rows] if self.shape else []), *(0 for _ in self.shape[1:]), 0]
        return struct.pack(f"<II{len(offsets)}Q", size, mask, *offsets)

    def bound(self, block: int, chunk: int) -> bytes:
        """The key behind the last entry: one chunk further along every axis."""
        offsets = [block + self.frames]
        if self.shape:
            offsets += [(chunk + 1) * self.rows, *self.shape[1:]]
        return struct.pack(f"<II{len(offsets) + 1}Q", 0, 0, *offsets, self.dtype.itemsize)


def new_file(build) -> Image:
    """The image of a growing file. `build(file)` fills an h5py.File: chunked datasets of length 0 and maxshape[0] None
    are those that can grow."""
    image = Image()
    # aligned, so that no length (8 bytes) lies on two pages
    with h5py.File(image, "w", libver="earliest", alignment_threshold=1, alignment_interval=8) as file:
        build(file)
        datasets = _describe(file)
    _check_superblock(image, "new file")
    for dataset in {id(d): d for d in datasets.values()}.values():
        _locate(image, dataset, "new file")
        # the index exists from the start, so that its address never changes afterwards
        address = _page_safe(image.size, dataset.node_bytes)
        _write(image, address, bytes(_Node.empty(dataset, address, 0).image))
        _write(image, dataset.index_at, struct.pack("<Q", address))
    _write(image, _END_OF_FILE, struct.pack("<Q", image.size))
    return image


def create_file(path, build) -> None:
    """Writes the new_file() of `build`, which appears whole or not at all; a file of that name is replaced."""
    part = path.with_name(f".{path.name}.part")
    try:
        new_file(build).save(part)
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    sync_directory(path.parent)


def on_root(world, path, action, what, failure) -> None:
    """Collective: rank 0 does action(). Where that fails all ranks raise failure(sentence): the file, what, the reason."""
    error = None
    if world.root:
        try:
            action()
        except (OSError, GrowingFileError, ValueError, KeyError, failure) as caught:
            error = caught
    agree(world, error, getattr(error, "filename", None) or path, what, failure)


def open_together(world, path, layout, agree) -> tuple:
    """Collective: (this rank's SharedFile, rank 0's GrowingFile and None elsewhere, what layout(growing) told rank 0).

    agree(world, error, path, what) makes errors known to all ranks.
    """
    error = growing = found = shared = None
    if world.root:
        try:
            growing = GrowingFile(path)
            found = layout(growing)
        except Exception as caught:
            error = caught
    agree(world, error, path, "cannot be opened")
    try:
        shared = SharedFile(path)
    except OSError as caught:
        error = caught
    agree(world, error, path, "cannot be opened")
    return shared, growing, world.bcast(found)


def growable(group, name, shape, dtype, unit, options=None):
    """An empty dataset (0, *shape) for new_file(), its chunks about a megabyte: many rows, one, or a part of one."""
    dtype = np.dtype(dtype)
    options = {key: value for key, value in (options or {}).items() if value}
    row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    count = shape[0] if shape else 1
    if row * count <= SMALL and not options:
        rows, frames = count, max(1, SMALL // (row * count))
        frames = min(frames, 1024)
    else:
        rows, frames = -(-count // max(1, round(row * count / CHUNK))), 1
    chunk = (frames, rows, *shape[1:]) if shape else (frames,)
    dataset = group.create_dataset(
        name, (0, *shape), dtype, maxshape=(None, *shape), chunks=chunk, track_times=False, **options
    )
    if unit:
        dataset.attrs["unit"] = unit
    return dataset


class GrowingFile:
    """Rank 0's view of a growing file: where the bytes of the next rows go, and the commit that makes them exist.

    For each dataset that gets a row: plan(); then the bytes are written (by any rank, through its own SharedFile);
    then one commit() for all. plan() does not change the file.
    """

    def __init__(self, path):
        self.path = str(path)
        self.file = SharedFile(path)
        self._changed = {}  # nodes to be written by the next commit
        self._load()

    def _load(self):
        with h5py.File(self.path, "r") as file:
            self.datasets = _describe(file)
        _check_superblock(self.file, self.path)
        (self.end,) = struct.unpack("<Q", self.file.read(_END_OF_FILE, 8))
        if self.file.size < self.end:
            raise GrowingFileError(f"{self.path}: the file is truncated")
        self._committed_end = self.end
        self._changed = {}
        for dataset in {id(d): d for d in self.datasets.values()}.values():
            _locate(self.file, dataset, self.path)
            self._read_index(dataset)

    def length(self, name: str) -> int:
        return self.datasets[name].length

    def plan(self, name: str, stored=None) -> list[int]:
        """Where the chunks of the next row of a dataset are: an offset in the file for each chunk of the second axis.

        stored: for a filtered dataset, (bytes, filter mask) of each chunk. Row `length` is in its chunks at byte
        (length % frames) * rows * row_bytes; chunks of filtered datasets are written whole.
        """
        dataset = self.datasets[name]
        block = dataset.length - dataset.length % dataset.frames
        dataset.known = {place: chunk for place, chunk in dataset.known.items() if place[0] >= block}
        offsets = []
        for number in range(dataset.chunks):
            size, mask = stored[number] if stored else (dataset.chunk_bytes, 0)
            chunk = dataset.known.get((block, number))
            if chunk is None:
                chunk = dataset.new[block, number] = _Chunk(self._allocate(size), size, size, mask)
            elif stored:  # left by a row that was removed: its place is used again where the new bytes fit
                fits = size <= chunk.room
                address, room = (chunk.address, chunk.room) if fits else (self._allocate(size), size)
                chunk = dataset.new[block, number] = _Chunk(address, size, room, mask, chunk.leaf, chunk.slot)
            offsets.append(chunk.address)
        return offsets

    def commit(self, names, count: int = 1) -> None:
        """The planned rows of these datasets come into existence, in this order. The last is the main dataset.

        count: rows of each, all of them in the planned chunks. OSError where it fails: then call abandon().
        """
        for name in names:
            self._insert(self.datasets[name])
        nodes, self._changed = list(self._changed.values()), {}
        if self.file.size < self.end:
            self.file.resize(self.end)
        for node in nodes:
            if node.fresh:
                self.file.write(node.address, node.image)
        if self.end != self._committed_end:
            self.file.write(_END_OF_FILE, struct.pack("<Q", self.end))
            self._committed_end = self.end
        for node in nodes:
            if not node.fresh:
                self.file.write(node.address, node.image)
            node.fresh = False
        for name in names:
            dataset = self.datasets[name]
            self._set_length(dataset, dataset.length + count)

    def extend(self, name: str, rows) -> None:
        """Writes and commits rows (k,) of a dataset with one axis and no filter, those of one chunk at a time.

        OSError where it fails: then call abandon().
        """
        dataset = self.datasets[name]
        while len(rows):
            (place,) = self.plan(name)
            at = dataset.length % dataset.frames
            part = rows[: dataset.frames - at]
            self.file.write(place + at * dataset.dtype.itemsize, part.tobytes())
            self.commit([name], len(part))
            rows = rows[len(part) :]

    def truncate(self, lengths: dict) -> None:
        """Removes rows from the ends of datasets, in the order given: the main dataset first."""
        for name, length in lengths.items():
            dataset = self.datasets[name]
            if length > dataset.length:
                raise GrowingFileError(f"{self.path}: {name} has {dataset.length} rows, not {length}")
            self._set_length(dataset, length)
            self._read_index(dataset)

    def abandon(self) -> None:
        """Forgets what was planned since the last commit, also after one that failed."""
        self._load()
        if self.file.size > self.end:
            self.file.resize(self.end)  # gives the space back

    def sync(self) -> None:
        self.file.sync()

    def close(self) -> None:
        self.file.close()

    # --- inside

    def _allocate(self, size: int) -> int:
        address = -(-self.end // 8) * 8
        self.end = address + size
        return address

    def _allocate_node(self, dataset) -> int:
        address = _page_safe(self.end, dataset.node_bytes)
        self.end = address + dataset.node_bytes
        return address

    def _touch(self, node):
        self._changed[id(node)] = node

    def _set_length(self, dataset, length):
        self.file.write(dataset.length_at, struct.pack("<Q", length))
        dataset.length = length

    def _insert(self, dataset):
        """Puts the planned chunks into the index, in memory."""
        for (block, number), chunk in sorted(dataset.new.items()):
            key = dataset.key(block, number, chunk.size, chunk.mask)
            if chunk.leaf is None:
                self._append(dataset, key, chunk.address, dataset.bound(block, number))
                chunk.leaf, chunk.slot = dataset.path[0], dataset.path[0].count - 1
            else:
                chunk.leaf.put(dataset, chunk.slot, key, chunk.address)
                self._touch(chunk.leaf)
            dataset.known[block, number] = chunk
        dataset.new = {}

    def _append(self, dataset, key, child, bound):
        """Adds an entry behind all others of the index. Nodes are filled; full ones get a neighbour to the right."""
        path = dataset.path
        level = next((k for k, node in enumerate(path) if node.count < 2 * K), len(path))
        if level == len(path):  # one level more; the root's place in the file stays, its content moves
            old = path[-1]
            top = _Node.empty(dataset, old.address, level)
            old.address, old.fresh = self._allocate_node(dataset), True
            self._touch(old)
            top.put(dataset, 0, bytes(old.image[24 : 24 + dataset.key_bytes]), old.address)
            top.count = 1
            path.append(top)
        for k in range(level):
            right = _Node.empty(dataset, self._allocate_node(dataset), k)
            right.fresh = True
            right.left, path[k].right = path[k].address, right.address
            self._touch(path[k])
            right.put(dataset, 0, key, child)
            right.count = 1
            path[k], child = right, right.address
        path[level].put(dataset, path[level].count, key, child)
        path[level].count += 1
        for node in path:
            at = 24 + node.count * (dataset.key_bytes + 8)
            node.image[at : at + len(bound)] = bound
            self._touch(node)

    def _read_index(self, dataset):
        """The rightmost path of the index, and the chunks from the block that the next row is in."""
        dataset.path, dataset.known, dataset.new = [], {}, {}
        block = dataset.length - dataset.length % dataset.frames

        def visit(address, rightmost):
            image = bytearray(self.file.read(address, dataset.node_bytes))
            if image[:5] != b"TREE\x01" or (count := struct.unpack_from("<H", image, 6)[0]) > 2 * K:
                raise GrowingFileError(f"{self.path}: the chunk index of {dataset.name} is damaged")
            node = _Node(address, image)
            if rightmost:
                dataset.path.insert(0, node)
            for slot in range(count - 1, -1, -1):
                at = 24 + slot * (dataset.key_bytes + 8)
                size, mask, first, *others = struct.unpack_from(f"<II{dataset.rank + 1}Q", image, at)
                (child,) = struct.unpack_from("<Q", image, at + dataset.key_bytes)
                if node.level:
                    visit(child, rightmost and slot == count - 1)
                elif first >= block:
                    number = others[0] // dataset.rows if dataset.shape else 0
                    dataset.known[first, number] = _Chunk(child, size, size, mask, node, slot)
                if first < block:
                    return

        (root,) = struct.unpack("<Q", self.file.read(dataset.index_at, 8))
        visit(root, True)


def _page_safe(end: int, size: int) -> int:
    """The first place from `end` on where a node lies within one page."""
    address = -(-end // 8) * 8
    return address if address % PAGE + size <= PAGE else -(-address // PAGE) * PAGE


def _check_superblock(file, path):
    head = _read(file, 0, 48)
    if head[:8] != b"\x89HDF\r\n\x1a\n" or head[8] != 0 or head[13:15] != b"\x08\x08":
        raise GrowingFileError(
            f"{path}: not a file that this program wrote (or it was repacked); it cannot be continued"
        )


def _describe(file) -> dict:
    """name -> the datasets of an open h5py.File that can grow; several names of one dataset give the same object."""
    found, by_header = {}, {}

    def visit(group, prefix):
        for name, item in group.items():
            if isinstance(item, h5py.Group):
                visit(item, f"{prefix}{name}/")
            elif isinstance(item, h5py.Dataset) and item.chunks and item.maxshape[0] is None:
                header = h5py.h5o.get_info(item.id).addr
                if header not in by_header:
                    by_header[header] = describe(item, prefix + name, header)
                found[prefix + name] = by_header[header]

    def describe(item, name, header):
        chunk, shape = (*item.chunks, 1), item.shape[1:]
        filtered = item.id.get_create_plist().get_nfilters() > 0
        dataset = Growing(name, header, shape, item.dtype, chunk[0], chunk[1], filtered, item.shape[0])
        if item.chunks[2:] != shape[1:] or (filtered and chunk[0] != 1) or dataset.node_bytes > PAGE:
            raise GrowingFileError(f"{file.filename}: {name} has chunks that cannot be continued")
        return dataset

    visit(file, "")
    return found


def _locate(file, dataset, path):
    """Finds where the object header (version 1) keeps the dataset's length and the address of its chunk index."""
    version, _, count, _, size = struct.unpack("<BBHII", _read(file, dataset.header, 12))
    if version != 1:
        raise GrowingFileError(f"{path}: {dataset.name} has an object header of version {version}, not 1")
    blocks = [(dataset.header + 16, size)]
    while blocks:
        at, left = blocks.pop(0)
        while left >= 8 and count:
            kind, size = struct.unpack("<HH", _read(file, at, 4))
            count -= 1
            body = at + 8
            if kind == 0x0010:
                blocks.append(struct.unpack("<QQ", _read(file, body, 16)))
            elif kind == 0x0001:  # dataspace
                version = _read(file, body, 1)[0]
                dataset.length_at = body + (8 if version == 1 else 4)
            elif kind == 0x0008:  # layout
                version, layout = _read(file, body, 2)
                if (version, layout) != (3, 2):
                    raise GrowingFileError(f"{path}: {dataset.name} has a layout of version {version}, not 3")
                dataset.index_at = body + 3
            at, left = body + size, left - 8 - size
    if not dataset.length_at or not dataset.index_at or dataset.length_at % 8:
        raise GrowingFileError(f"{path}: the object header of {dataset.name} cannot be understood")
    (length,) = struct.unpack("<Q", _read(file, dataset.length_at, 8))
    if length != dataset.length:
        raise GrowingFileError(f"{path}: the object header of {dataset.name} cannot be understood")


def _read(file, offset, length) -> bytes:
    if isinstance(file, Image):
        file.seek(offset)
        return file.read(length)
    return file.read(offset, length)


def _write(image, offset, data):
    image.seek(offset)
    image.write(data)
