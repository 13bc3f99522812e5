"""Real fields on a periodic grid spread over ranks, and their Fourier transforms."""

from __future__ import annotations

import shutil

import numpy as np

from ostwald.app.kernels import _fft
from ostwald.parallel.migration import block_range
from ostwald.parallel.parts import LINE, Parts, aligned, deal, extents

PIECE = 1 << 23  # bytes of a field that is handed over in pieces


class Fourier(Parts):
    """The transform of real fields on parts of a grid, and how they move between the two sides.

    shape: (n0, n1, n2), or (n0, n2) for two dimensions: products of 2, 3, 5 and 7. dtype: float64 or float32.
    ranks: (p0, p1), the process grid: axis 0 of the field is dealt to p0 parts and axis 1 to p1. None takes slabs
    (p1 = 1) while there are no more ranks than planes, and the fewest p1 beyond. Parts may be uneven.
    shared: whether the ranks of a node read each other's planes in memory they share, instead of in messages.

    A field is the C-contiguous brick of this rank, shape `local`, from index `lo` to `hi`. Its spectrum is transposed:
    (columns, n0, 2 W), the W real parts, then the W imaginary parts, of one k_y and W consecutive k_z; the columns of all
    ranks have numbers, and this rank's are consecutive from `first_column` on. Along axis 1 the
    wave numbers come in the order `kx`; the others are `ky` (columns,) and `kz` (columns, W), all as signed integers.
    `weights` (columns, W) is 2 where an entry stands for k and -k, 1 where for itself, and 0 for padding, which is zero.

    The transform has two sides, planes and columns. Work between the transforms goes into the sweeps: planes() and
    columns() call a kernel on the rows of complex numbers and then hand the rows to the other side:

        forward   planes (along the last axis and axis 1), columns (along axis 0)
        backward  columns, planes

    All methods are collective over the world. close() releases shared memory.
    """

    def __init__(self, world, shape, dtype=np.float64, ranks=None, shared: bool = True):
        self.dtype, self.shared = np.dtype(dtype), shared
        super().__init__(world, shape, process_grid(shape, self.dtype, world.size, ranks))
        self._n = n0, n1, n2 = extents(self.shape)
        self.lanes = W = _fft.lanes(self.dtype)
        self._row, self._bytes = 2 * W, 2 * W * self.dtype.itemsize
        self._blocks = blocks = spectrum_blocks(self.shape, self.dtype)
        p0, p1 = self.ranks
        i, j = self.place
        self._i = i
        self._b = [block_range(blocks, k, p1) for k in range(p1)]
        b0, b1 = self._b[j]
        self._planes, self._ny, self._nb = self.local[0], self.local[1] if len(self.shape) == 3 else 1, b1 - b0
        rows = self._nb * n1  # of a plane
        self._c = [block_range(rows, k, p0) for k in range(p0)]
        c0, c1 = self._c[i]
        self.columns_here, self.first_column = c1 - c0, b0 * n1 + c0

        order = _fft.order(n0)
        self.order = order  # of fftfreq's wave numbers along axis 0 in a column
        self.kx = np.where(2 * order < n0, order, order - n0)
        block, y = np.divmod(np.arange(c0, c1), n1)
        self.ky = np.where(2 * y < n1, y, y - n1)
        self.kz = (b0 + block)[:, None] * W + np.arange(W)
        own = (self.kz == 0) | (2 * self.kz == n2)
        self.weights = np.where(2 * self.kz > n2, 0, np.where(own, 1, 2))
        self.kz[self.weights == 0] = 0

        self._find_node(shared)
        self._allocate(i, rows)

    def another(self) -> Fourier:
        """Collective. One more transform of the same grid in the same parts."""
        return Fourier(self.world, self.shape, self.dtype, self.ranks, self.shared)

    # --- layout

    def _stride(self, rows: int) -> int:
        """Elements from plane to plane: planes of a column must not meet in the sets of a cache."""
        period, part = 128 * 1024 // self.dtype.itemsize, 512 // self.dtype.itemsize
        width = rows * self._row
        return width + ((part - width) % period if width >= 4 * period else self._row)

    def _find_node(self, shared: bool):
        self._node, self._near = None, [self._i]
        if shared and self.ranks[0] > 1:
            node = self._group.Split_type(self._mpi.COMM_TYPE_SHARED, self._i)
            near = node.allgather(self._i)
            if len(near) > 1:
                self._node, self._near = node, near

    def _allocate(self, i: int, rows: int):
        stride, item = self._stride(rows), self.dtype.itemsize
        self._window = None
        if self._node is not None:
            need = self._node.allreduce(self._planes * stride * item + 2 * LINE)
            if not self._node.allreduce(_room(need), self._mpi.LAND):
                self.world.log.warning("too little shared memory for the planes of a node: they travel in messages")
                self._node, self._near = None, [i]
        if self._node is None:
            self._whole = {i: aligned(self._planes * stride, self.dtype).reshape(self._planes, stride)}
        else:
            self._window = self._mpi.Win.Allocate_shared(self._planes * stride * item + 2 * LINE, 1, comm=self._node)
            self._window.Lock_all(self._mpi.MODE_NOCHECK)
            self._whole = {}
            for place, k in enumerate(self._near):
                memory = np.frombuffer(self._window.Shared_query(place)[0], np.uint8)
                planes = self._x[k][1] - self._x[k][0]
                whole = memory[-memory.ctypes.data % LINE :][: planes * stride * item].view(self.dtype)
                self._whole[k] = whole.reshape(planes, stride)
        self._home = None  # the spectrum that pieces_of() put aside
        self._whole[i][:] = 0  # first touched where it is used; padding stays zero
        self._work = self._whole[i][:, : rows * self._row]
        self._lines = self._spare = None
        if self.ranks[1] > 1:
            width = self._blocks * self._ny
            self._lines = aligned(self._planes * self._stride(width), self.dtype).reshape(self._planes, -1)
            self._lines[:] = 0
        self._plan_exchange(i, stride)
        self.settle()

    def _plan_exchange(self, i: int, stride: int):
        """Slabs of this rank's columns, and what messages carry to and from the ranks of other nodes."""
        (c0, c1), row, kind = self._c[i], self._row, self._mpi.BYTE.Create_contiguous(self._bytes)
        far = [k for k in range(self.ranks[0]) if k not in self._near]
        wide = self._stride(c1 - c0)
        planes = {k: self._x[k][1] - self._x[k][0] for k in far}
        self._far = aligned(sum(planes.values()) * wide, self.dtype).reshape(-1, wide)
        self._far[:] = 0
        self.slabs, at, item = [], 0, self.dtype.itemsize
        out, back = {}, {}  # rank of the group -> what it is sent and what it sends
        for k in range(self.ranks[0]):
            if k in self._near:
                self.slabs.append(self._whole[k][:, c0 * row : c1 * row])
                continue
            self.slabs.append(self._far[at : at + planes[k], : (c1 - c0) * row])
            d0, d1 = self._c[k]
            out[k] = _at(kind.Create_hvector(self._planes, d1 - d0, stride * item), d0 * self._bytes)
            back[k] = _at(kind.Create_hvector(planes[k], c1 - c0, wide * item), at * wide * item)
            at += planes[k]
        self._messages = (self._specify(out), self._specify(back)) if far else None
        if self._line is None:
            return
        n1, some, every = self._n[1], {}, {}  # of all blocks and some y; of all y and some blocks
        lines = self._stride(self._blocks * self._ny) * item
        for k, ((b0, b1), (y0, y1)) in enumerate(zip(self._b, self._y)):
            turned = kind.Create_hvector(self._planes, (b1 - b0) * self._ny, lines)
            some[k] = _at(turned, b0 * self._ny * self._bytes)
            piece = kind.Create_hvector(self._nb, y1 - y0, n1 * self._bytes)
            every[k] = _at(piece.Create_hvector(self._planes, 1, stride * item), y0 * self._bytes)
        self._line_messages = self._specify(every, self.ranks[1]), self._specify(some, self.ranks[1])

    def _specify(self, kinds: dict, ranks: int | None = None):
        """Counts, displacements and types of an all-to-all in which each rank gets or sends one element of its type."""
        ranks = range(ranks or self.ranks[0])
        return ([int(k in kinds) for k in ranks], [0 for _ in ranks]), [kinds.get(k, self._mpi.BYTE) for k in ranks]

    def close(self):
        """Collective: releases the shared memory. The transform cannot be used afterwards."""
        if self._window is not None:
            self._whole, self._work, self.slabs = {}, None, []
            self._window.Unlock_all()
            self._window.Free()
            self._node.Free()  # a run may make many transforms, and the number of communicators is limited
            self._window = self._node = None

    # --- arrays

    def field(self) -> np.ndarray:
        """An uninitialised field: this rank's brick."""
        return aligned(int(np.prod(self.local)), self.dtype).reshape(self.local)

    def spectrum(self) -> np.ndarray:
        """A spectrum of zeros (columns, n0, 2 W)."""
        shape = self.columns_here, self._n[0], self._row
        out = aligned(int(np.prod(shape)), self.dtype).reshape(shape)
        out[:] = 0
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of this rank's rows and buffers (a spectrum is counted by whoever holds it)."""
        own = self._work.nbytes + self._far.nbytes
        return own + sum(a.nbytes for a in (self._lines, self._spare) if a is not None)

    def describe(self) -> str:
        """One line: grid, precision, process grid, how planes travel."""
        p0, p1 = self.ranks
        how = "slabs" if p1 == 1 else "pencils"
        way = "" if self.world.size == 1 else " in shared memory" if len(self._near) == p0 else " in messages"
        grid = " x ".join(map(str, self.shape))
        return f"grid {grid}, {self.dtype.name}, {how} over {p0} x {p1} ranks{way}"

    # --- sweeps

    def planes(self, sweep) -> None:
        """Calls sweep(rows, n1, along_y) on this rank's planes, which it changes in place, and hands them to columns().

        rows: (planes, ...) complex rows that are transformed along axis 0 only, where along_y; along axes 0 and 1 with
        n1 values of y each otherwise. The sweep must transform them forward as it transformed them back.
        """
        sweep(*self.rows())
        self.hand_over()

    def rows(self):
        """(rows, n1, along_y) for a sweep that several transforms share; then hand_over() of each, or settle() of one."""
        self._come_home()
        if self._line is None:
            return self._work, self._n[1], True
        _fft.rows(self._work, self._work, self._n[1], self._nb, True, self.world.threads)
        self._turn(self._whole[self._i], 1)
        return self._lines, self._ny, False

    def hand_over(self) -> None:
        """Hands the rows of rows() to columns()."""
        if self._line is not None:
            self._gather_rows()
        self._to_columns()

    def look(self, sweep) -> None:
        """Calls sweep(rows, n1, along_y) on this rank's planes as planes() does; it must leave them as they are."""
        self._come_home()
        sweep(*self._readable())

    def _readable(self):
        if self._line is None:
            return self._work, self._n[1], True
        if self._spare is None:
            self._spare = aligned(self._whole[self._i].size, self.dtype).reshape(self._whole[self._i].shape)
        _fft.rows(self._work, self._spare, self._n[1], self._nb, True, self.world.threads)
        self._turn(self._spare, 1)
        return self._lines, self._ny, False

    def columns(self, sweep) -> None:
        """Calls sweep(slabs) on this rank's columns, the same of all slabs, and hands them back to planes()."""
        sweep(self.slabs)
        self.give_back()

    def _gather_rows(self):
        self._turn(self._whole[self._i], 0)
        _fft.rows(self._work, self._work, self._n[1], self._nb, False, self.world.threads)

    def _turn(self, rows, towards: int):
        """Between rows of all y and some blocks, and of all blocks and some y. towards: 0 all y, 1 all blocks."""
        sides = [_bytes(rows), *self._line_messages[0]], [_bytes(self._lines), *self._line_messages[1]]
        self._line.Alltoallw(sides[1 - towards], sides[towards])

    def _to_columns(self):
        self.settle()
        if self._messages:
            out, back = self._messages
            self._group.Alltoallw([_bytes(self._whole[self._i]), *out], [_bytes(self._far), *back])

    def give_back(self) -> None:
        """Hands the slabs back to planes(): the end of columns(), for a sweep that several transforms share."""
        if self._messages:
            out, back = self._messages
            self._group.Alltoallw([_bytes(self._far), *back], [_bytes(self._whole[self._i]), *out])
        self.settle()

    def settle(self) -> None:
        """What the ranks of this node wrote is there for all of them."""
        if self._node is not None:
            self._window.Sync()
            self._node.Barrier()
            self._window.Sync()

    # --- transforms

    def forward(self, field, spectrum=None, scale: float = 1.0) -> np.ndarray:
        """scale times the transform of a field, into `spectrum` (made where None). What the planes held is lost.

        field: the brick, or a function (first, last) -> its planes first ... last - 1 (counted in the brick), which is
        called for one piece after another, so that the whole field need not exist.
        """
        self._home = None
        spectrum = self.spectrum() if spectrum is None else spectrum
        give = field if callable(field) else lambda first, last: field[first:last]
        if not callable(field):
            self._check(field, self._planes)
        slab = self._line is None
        target, n1 = (self._work, self._n[1]) if slab else (self._lines, self._ny)
        for first, last in self.ranges():
            piece = self._check(give(first, last), last - first)
            _fft.forward_planes(piece, target[first:last], n1, self._n[2], slab, self.world.threads)
        if not slab:
            self._gather_rows()
        self._to_columns()
        _fft.forward_columns(self.slabs, spectrum, scale, self.world.threads)
        self.settle()
        return spectrum

    def restore(self, spectrum) -> None:
        """Fills the planes with the rows of a spectrum, transformed back along axis 0."""
        self._home = None
        self.settle()  # others may still be reading theirs
        _fft.backward_columns(spectrum, self.slabs, self.world.threads)
        self.give_back()

    def read(self, field=None) -> np.ndarray:
        """The field whose rows the planes hold, transformed along axis 0 only; they are kept."""
        field = self.field() if field is None else field
        self._check(field, self._planes)
        for _ in self.pieces(field):
            pass
        return field

    def pieces(self, field=None):
        """The same piece by piece: (first, last, planes first ... last - 1 of the brick), in memory that is used again.

        Collective when it starts.
        """
        self._come_home()
        yield from self._read_pieces(field)

    def pieces_of(self, spectrum, home):
        """pieces() of another spectrum. When the planes are asked for next, they get the rows of the spectrum `home` again."""
        self.restore(spectrum)
        self._home = home
        yield from self._read_pieces(None)

    def _come_home(self):
        if self._home is not None:
            self.restore(self._home)

    def _read_pieces(self, field):
        (rows, n1, along_y), n2 = self._readable(), self._n[2]
        buffer = None
        for first, last in self.ranges():
            if field is not None:
                piece = field[first:last]
            else:
                size = (last - first) * int(np.prod(self.local[1:]))
                buffer = aligned(size, self.dtype) if buffer is None else buffer
                piece = buffer[:size].reshape(last - first, *self.local[1:])
            _fft.backward_planes(
                rows[first:last], self._check(piece, last - first), n1, n2, along_y, self.world.threads
            )
            yield first, last, piece

    def ranges(self):
        """(first, last) of planes of some MiB; in two dimensions whole groups of lines."""
        plane = int(np.prod(self.local[1:])) * self.dtype.itemsize
        count = max(1, PIECE // plane, self.world.threads)
        count += -count % (2 * self.lanes) if self._ny == 1 else 0
        return [(first, min(first + count, self._planes)) for first in range(0, self._planes, count)]

    def backward(self, spectrum, field=None) -> np.ndarray:
        """The sum over wave numbers of spectrum exp(i k·x), without a factor: backward(forward(c, scale=1/points)) is c."""
        self.restore(spectrum)
        return self.read(field)

    def _check(self, field, planes: int):
        shape = (planes, *self.local[1:])
        if field.shape != shape or field.dtype != self.dtype:
            raise ValueError(f"a field of {shape} {self.dtype.name} is wanted here, not {field.shape} {field.dtype}")
        return field.reshape(planes, self._ny, self._n[2])

    def fill_columns(self, spectrum, read, shape) -> None:
        """This rank's columns, from those of all ranks of a transform whose vectors have another width. Not collective.

        read(first, last) -> its columns of these numbers; shape: of all of them, (columns, n0, 2 lanes). ValueError where that
        is not of this grid.
        """
        (n0, n1, n2), W, lanes = self._n, self.lanes, shape[-1] // 2
        blocks = (n2 // 2 + lanes) // lanes if lanes else 0
        if tuple(shape) != (blocks * n1, n0, 2 * lanes):
            raise ValueError(f"columns {tuple(shape)} are not of a grid {self.shape}")
        spectrum[:] = 0
        first, end = self.first_column, self.first_column + self.columns_here
        while first < end:
            block, y = divmod(first, n1)
            last = min(end, (block + 1) * n1)
            mine, low = spectrum[first - self.first_column : last - self.first_column], block * W
            for other in range(low // lanes, min(blocks, (low + W - 1) // lanes + 1)):
                theirs = read(other * n1 + y, other * n1 + y + last - first)
                a, b = max(low, other * lanes), min(low + W, (other + 1) * lanes)
                for part in (0, 1):
                    to, since = part * W - low, part * lanes - other * lanes
                    mine[..., to + a : to + b] = theirs[..., since + a : since + b]
            first = last

    def natural(self, spectrum) -> np.ndarray:
        """This rank's columns as complex numbers in NumPy's order: (columns, n0, W)."""
        W = self.lanes
        out = np.empty((self.columns_here, self._n[0], W), np.result_type(self.dtype, np.complex64))
        out[:, self.order] = spectrum[..., :W] + 1j * spectrum[..., W:]
        return out


def process_grid(shape, dtype, size: int, ranks=None) -> tuple[int, int]:
    """(p0, p1) of Fourier on `size` ranks: `ranks` if given, else slabs where they suffice. ValueError where none fits, and
    for a grid that has no transforms."""
    for n in extents(shape):
        if not _fft.smooth(n):
            raise ValueError(f"grid lengths must be products of 2, 3, 5 and 7: {n} is not")
    return deal(shape, size, min(extents(shape)[1], spectrum_blocks(shape, dtype)), ranks)


def spectrum_blocks(shape, dtype) -> int:
    """Blocks of W wave numbers that the last axis has."""
    W = _fft.lanes(np.dtype(dtype))
    return (shape[-1] // 2 + W) // W


def spectrum_bytes(shape, dtype) -> int:
    """Of the spectrum of a field, all ranks together; the rows of the planes take as many."""
    dtype = np.dtype(dtype)
    points = int(np.prod(shape[:-1])) * spectrum_blocks(shape, dtype) * _fft.lanes(dtype)
    return points * 2 * dtype.itemsize


def _at(kind, begin: int):
    """A message type moved by `begin` bytes: as part of the type a displacement may exceed 2 GiB."""
    return kind.Create_hindexed([1], [begin]).Commit()


def _bytes(array):
    return array.reshape(-1).view(np.uint8)


def _room(size: int) -> bool:
    """Whether this node has that much shared memory."""
    try:
        return shutil.disk_usage("/dev/shm").free > size + (size >> 4)
    except OSError:
        return True  # another system: the allocation itself will tell
