"""Bricks, migration and halo against a search over all atoms and all images that one could need."""

import numpy as np
import pytest

from ostwald.parallel import Bricks, Halo, World, migrate, philox_uniform

pytestmark = pytest.mark.mpi


class Case:
    """A random cell (every second one triclinic, every fourth turned in space) with a few atoms in and around it."""

    def __init__(self, number):
        rng = np.random.default_rng(number)  # the same on every rank
        self.periodic = rng.random(3) < 0.7
        self.matrix = np.diag(rng.uniform(2, 14, 3))
        if number % 2:
            self.matrix += np.tril(rng.uniform(-3, 3, (3, 3)), -1)
        if number % 4 == 3:
            turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
            self.matrix = self.matrix @ (turn * np.sign(np.linalg.det(turn)))
        self.origin = rng.normal(size=3)
        self.inverse = np.linalg.inv(self.matrix)
        self.heights = 1.0 / np.linalg.norm(self.inverse, axis=0)
        self.total = int(rng.integers(1, 120))
        self.cutoff = rng.uniform(1, 6)  # often longer than the cell
        self.positions = (rng.random((self.total, 3)) * 1.4 - 0.2) @ self.matrix + self.origin

    def distribute(self, world, bricks):
        """This rank's rows, after every rank held some by chance."""
        mine = np.arange(self.total) % world.size == world.rank
        rows = {
            "positions": self.positions[mine].copy(),
            "images": np.zeros((mine.sum(), 3), np.int32),
            "ids": np.arange(self.total)[mine],
        }
        return migrate(world, bricks, self.matrix, self.origin, rows)

    def fractional(self, positions):
        return (positions - self.origin) @ self.inverse

    def translations(self):
        hops = np.where(self.periodic, np.ceil(self.cutoff / self.heights).astype(int) + 1, 0)
        grids = np.meshgrid(*[np.arange(-h, h + 1) for h in hops], indexing="ij")
        return np.stack(grids, -1).reshape(-1, 3) @ self.matrix


def pairs(i_ids, x, j_ids, y, cutoff):
    """The pairs (id, id, separation) within the cutoff, self pairs left out, as a sorted list."""
    separation = y[None] - x[:, None]
    distance = np.linalg.norm(separation, axis=2)
    i, j = np.nonzero((distance < cutoff) & (distance > 1e-9))
    table = np.column_stack([i_ids[i], j_ids[j], np.round(separation[i, j], 6)]) + 0.0
    return table[np.lexsort(table.T[::-1])]


@pytest.mark.parametrize("number", range(24))
def test_ghosts_complete_every_neighbourhood(world, number):
    case = Case(number)
    bricks = Bricks(world, case.periodic, lengths=case.heights)
    halo = Halo(world, bricks, shared=number % 3 != 2)
    rows = case.distribute(world, bricks)
    for _ in range(2):
        n = len(rows["ids"])
        nghost = halo.build(rows["positions"], case.matrix, case.origin, case.cutoff)
        positions = np.full((n + nghost + 3, 3), np.nan)
        positions[:n] = rows["positions"]
        halo.forward_positions(positions, case.matrix)
        assert np.isfinite(positions[: n + nghost]).all() and np.isnan(positions[n + nghost :]).all()
        ids = np.full(n + nghost, -1)
        ids[:n] = rows["ids"]
        halo.forward(ids)

        everyone = np.zeros((case.total, 3))
        everyone[rows["ids"]] = rows["positions"]
        everyone = world.allreduce(everyone)
        images = (everyone[:, None] + case.translations()).reshape(-1, 3)
        image_ids = np.repeat(np.arange(case.total), len(images) // case.total)
        found = pairs(ids[:n], positions[:n], ids, positions[: n + nghost], case.cutoff)
        wanted = pairs(ids[:n], positions[:n], image_ids, images, case.cutoff)
        assert np.array_equal(found, wanted)
        # and there are no ghosts but those within the cutoff of the brick
        s = case.fractional(positions[n : n + nghost])
        outside = np.maximum(bricks.lo - s, s - bricks.hi) * case.heights
        assert (outside[:, case.periodic] < case.cutoff + 1e-6).all()

        # rebuilt on bricks of other sizes, which the second round sees
        bricks.rebalance(case.fractional(rows["positions"]))
        rows = migrate(world, bricks, case.matrix, case.origin, rows)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("dtype", "columns"), [("f8", ()), ("f8", (3,)), ("f8", (6,)), ("i4", ()), ("i8", (2,)), ("f4", (5,))]
)
def test_reverse_is_the_transpose_of_forward(world, shared, dtype, columns):
    case = Case(1)
    bricks = Bricks(world, case.periodic, lengths=case.heights)
    rows = case.distribute(world, bricks)
    halo = Halo(world, bricks, shared=shared)
    n = len(rows["ids"])
    nghost = halo.build(rows["positions"], case.matrix, case.origin, case.cutoff)
    rng = np.random.default_rng(world.rank)
    x, y = rng.integers(-9, 9, (2, n + nghost, *columns)).astype(dtype)
    x[n:] = 77  # to be overwritten
    there, back = x.copy(), y.copy()
    halo.forward(there)
    halo.reverse(back)
    assert np.array_equal(there[:n], x[:n]) and np.array_equal(back[n:], y[n:])
    left = world.allreduce(float((there.astype(float) * y).sum()))  # small integers: exact in every dtype
    right = world.allreduce(float((x[:n].astype(float) * back[:n]).sum()))
    assert left == right
    assert world.allreduce(nghost) > 0


def test_reverse_adds_in_one_order(world):
    """Sums of numbers of very different size are the same bits, however the halo is exchanged."""
    case = Case(3)
    bricks = Bricks(world, case.periodic, lengths=case.heights)
    rows = case.distribute(world, bricks)
    n, results = len(rows["ids"]), []
    for shared in (True, False, True):
        halo = Halo(world, bricks, shared=shared)
        nghost = halo.build(rows["positions"], case.matrix, case.origin, case.cutoff)
        rng = np.random.default_rng(world.rank)
        array = 10.0 ** rng.uniform(-12, 12, (n + nghost, 3))
        halo.reverse(array)
        results.append(array.tobytes())
    assert results[0] == results[1] == results[2]


def test_ghosts_follow_atoms_and_cell(world):
    """Steps between builds: positions and cell change, the array moves, other exchanges come in between."""
    case = Case(5)
    case.periodic[:] = True
    bricks = Bricks(world, case.periodic, lengths=case.heights)
    rows = case.distribute(world, bricks)
    halo = Halo(world, bricks)
    n = len(rows["ids"])
    nghost = halo.build(rows["positions"], case.matrix, case.origin, case.cutoff)
    first = np.zeros((n + nghost, 3))
    first[:n] = rows["positions"]
    halo.forward_positions(first, case.matrix)
    shifts = np.round((first[n:] - _owners_rows(halo, first, n)) @ case.inverse)
    for step in range(5):
        matrix = case.matrix * (1 + 0.01 * step)
        positions = np.zeros((n + nghost + step, 3))  # another place in memory each time
        positions[:n] = philox_uniform(1, "test", rows["ids"], step, 3)
        halo.start(positions, matrix)
        with pytest.raises(RuntimeError, match="between start"):
            halo.forward(np.zeros(n + nghost))
        halo.finish()
        assert np.allclose(
            positions[n : n + nghost], _owners_rows(halo, positions, n) + shifts @ matrix, rtol=0, atol=1e-12
        )
    assert halo.bytes_per_step == 0 if world.size == 1 else world.allreduce(halo.bytes_per_step) > 0


def _owners_rows(halo, positions, n):
    copy = positions[: n + halo.nghost].copy()
    halo.forward(copy)
    return copy[n:]


def test_two_halos_share_a_world(world):
    """The shared memory of one grows under the feet of the other."""
    case = Case(3)
    bricks = Bricks(world, case.periodic, lengths=case.heights)
    rows = case.distribute(world, bricks)
    n, halos, arrays = len(rows["ids"]), [], []
    for cutoff in (1.0, 6.0, 12.0):
        halo = Halo(world, bricks)
        positions = np.zeros((n + halo.build(rows["positions"], case.matrix, case.origin, cutoff), 3))
        positions[:n] = rows["positions"]
        halo.forward_positions(positions, case.matrix)
        halos.append(halo)
        arrays.append(positions)
    for halo, positions in zip(halos, arrays):
        again = positions.copy()
        again[n:] = np.nan
        halo.forward_positions(again, case.matrix)
        positions[n:] = np.nan
        halo.forward_positions(positions, case.matrix)
        assert np.array_equal(positions, again) and np.isfinite(positions).all()


def test_ranks_out_of_reach_of_each_other(world):
    """Nobody has anything to send, on a world that never sent: droplets in a wide open box."""
    alone = World(world.comm.Dup())
    bricks = Bricks(alone, (False,) * 3, grid=(alone.size, 1, 1))
    matrix, n = np.diag([100.0 * alone.size, 10.0, 10.0]), 3 if alone.rank else 0  # and none on the first
    positions = np.array([[100.0 * alone.rank + 50.0 + k, 5.0, 5.0] for k in range(n)]).reshape(n, 3)
    halo = Halo(alone, bricks)
    assert halo.build(positions, matrix, np.zeros(3), 4.0) == 0
    before = positions.copy()
    halo.forward_positions(positions, matrix)
    halo.forward(positions)
    halo.reverse(positions)
    assert np.array_equal(positions, before)


def test_corners_are_round(world):
    """In a cube the halo holds what lies within the cutoff, not within a larger cube: about a seventh fewer ghosts."""
    edge, cutoff, total = 20.0, 7.0, 8000
    bricks = Bricks(world, (True,) * 3)
    ids = np.arange(total)[np.arange(total) % world.size == world.rank]
    matrix, origin = edge * np.eye(3), np.zeros(3)
    rows = {"positions": edge * philox_uniform(2, "x", ids, 0, 3), "images": np.zeros((len(ids), 3), np.int32)}
    rows = migrate(world, bricks, matrix, origin, rows)
    nghost = Halo(world, bricks).build(rows["positions"], matrix, origin, cutoff)
    a, b, c = edge * (bricks.hi - bricks.lo)
    shell = 2 * cutoff * (a * b + b * c + c * a) + np.pi * cutoff**2 * (a + b + c) + 4 / 3 * np.pi * cutoff**3
    assert nghost == pytest.approx(total / edge**3 * shell, rel=0.08)


def test_wrong_arrays_are_refused(world):
    case = Case(3)
    bricks = Bricks(world, case.periodic)
    rows = case.distribute(world, bricks)
    halo = Halo(world, bricks)
    rows_needed = len(rows["ids"]) + halo.build(rows["positions"], case.matrix, case.origin, case.cutoff)
    for array in (np.zeros((rows_needed - 1, 3)), np.zeros((3, rows_needed)).T):
        with pytest.raises(ValueError, match="C-contiguous"):
            halo.forward(array)
    with pytest.raises(ValueError, match="float64"):
        halo.forward_positions(np.zeros((rows_needed, 3), np.float32), case.matrix)


def test_migration_loses_nothing(world):
    case = Case(7)
    bricks = Bricks(world, case.periodic, lengths=case.heights)
    rng = np.random.default_rng(7)
    extra = {
        "a": rng.random((case.total, 2, 2)),
        "b": rng.integers(0, 99, case.total).astype("u4"),
    }
    mine = np.arange(case.total) % world.size == world.rank
    rows = {
        "positions": case.positions[mine].copy(),
        "images": np.zeros((mine.sum(), 3), np.int32),
        "ids": np.arange(case.total)[mine],
        **{name: array[mine] for name, array in extra.items()},
    }
    for step in range(4):
        if step:  # far jumps: any rank to any rank
            rows["positions"] += philox_uniform(step, "jump", rows["ids"], 0, 3) @ case.matrix * 3
        before = {int(i): p + g @ case.matrix for i, p, g in zip(rows["ids"], rows["positions"], rows["images"])}
        before = {i: p for part in world.allgather(before) for i, p in part.items()}
        rows = migrate(world, bricks, case.matrix, case.origin, rows)
        ids = rows["ids"]
        assert sorted(i for part in world.allgather(ids.tolist()) for i in part) == list(range(case.total))
        s = case.fractional(rows["positions"])
        assert ((s[:, case.periodic] >= 0) & (s[:, case.periodic] < 1)).all()
        assert (bricks.owners(s) == world.rank).all()
        unwrapped = rows["positions"] + rows["images"] @ case.matrix
        assert np.allclose(unwrapped, np.array([before[int(i)] for i in ids]).reshape(-1, 3), rtol=0, atol=1e-12)
        assert np.array_equal(rows["a"], extra["a"][ids]) and np.array_equal(rows["b"], extra["b"][ids])
        assert (rows["images"][:, ~case.periodic] == 0).all()


def test_a_position_that_is_not_finite_is_named(world):
    from ostwald.parallel import CollectiveError

    bricks = Bricks(world, (True,) * 3)
    last = world.size - 1
    rows = {
        "positions": np.full((2, 3), 0.5),
        "images": np.zeros((2, 3), np.int32),
        "ids": 2 * world.rank + np.arange(2),
    }
    if world.rank == last:
        rows["positions"][1, 2] = np.nan
    with pytest.raises(CollectiveError, match=f"atom {2 * last + 1} on rank {last} ") as caught:
        migrate(world, bricks, np.eye(3), np.zeros(3), rows)
    assert caught.value.rank == last


def test_grids(world):
    grid = Bricks(world, (True,) * 3, lengths=(1, 1, 100)).grid
    assert grid.tolist() == [1, 1, world.size]
    grid = Bricks(world, (True,) * 3, grid=(world.size, 1, 1)).grid
    assert grid.tolist() == [world.size, 1, 1]
    with pytest.raises(ValueError, match="does not match"):
        Bricks(world, (True,) * 3, grid=(world.size + 1, 1, 1))
    with pytest.raises(ValueError, match="rise"):
        Bricks(world, (True,) * 3, grid=(1, 1, world.size), cuts=[[0, 1], [0, 1], np.linspace(1, 0, world.size + 1)])


def fill(world, bricks, s):
    """Fractional positions of this rank, out of those of all ranks, as its bricks have it."""
    return s[bricks.owners(s) == world.rank]


def slab(rng, total):
    return rng.random((total, 3)) * [1.0, 1.0, 0.28] + [0.0, 0.0, 0.4]


def droplet(rng, total):
    return np.clip(0.5 + 0.08 * rng.normal(size=(total, 3)), 0, 0.999)


def two_densities(rng, total):
    s = rng.random((total, 3))
    s[: 4 * total // 5, 0] *= 0.2
    return s


@pytest.mark.parametrize("shape", [slab, droplet, two_densities])
def test_balance(world, shape):
    """A slab, a droplet, a dense corner: below 1.15 after one move of the cuts, measured by what moves to each rank."""
    s = shape(np.random.default_rng(3), 20000)
    bricks = Bricks(world, (True, True, False), lengths=(40.0, 40.0, 80.0))
    before = world.imbalance(len(fill(world, bricks, s)))
    moved = bricks.rebalance(fill(world, bricks, s))
    after = world.imbalance(len(fill(world, bricks, s)))
    assert world.allreduce(len(fill(world, bricks, s))) == len(s)
    assert after < 1.05
    assert moved == (before > 1.05)
    assert not bricks.rebalance(fill(world, bricks, s))  # and then it rests
    assert len(set(map(bytes, world.allgather(b"".join(c.tobytes() for c in bricks.cuts))))) == 1


def test_balance_of_measured_cost(world):
    """Atoms that cost three times as much on one side; the ranks only know the time that they spent."""
    s = np.random.default_rng(4).random((30000, 3))
    price = np.where(s[:, 1] > 0.6, 3.0, 1.0)
    bricks = Bricks(world, (True,) * 3, lengths=(20.0, 40.0, 20.0))
    for _ in range(6):
        own = bricks.owners(s) == world.rank
        if not bricks.rebalance(s[own], float(price[own].sum())):
            break
    own = bricks.owners(s) == world.rank
    assert world.imbalance(price[own].sum()) < 1.15
    bricks = Bricks(world, (True,) * 3, lengths=(20.0, 40.0, 20.0))
    own = bricks.owners(s) == world.rank
    bricks.rebalance(s[own], price[own])  # known per atom: at once
    own = bricks.owners(s) == world.rank
    assert world.imbalance(price[own].sum()) < 1.05


def test_balance_before_the_first_migration(world):
    """Rows dealt out evenly, wherever they lie, as a builder leaves them: the load is counted by place."""
    s = np.random.default_rng(5).random((8000, 3)) * (1.0, 1.0, 0.25)  # a slab with vacuum above
    bricks = Bricks(world, (True, True, False), grid=(1, 1, world.size), lengths=(20.0, 20.0, 80.0))
    assert bricks.rebalance(s[world.rank :: world.size]) == (world.size > 1)
    assert world.imbalance(float((bricks.owners(s) == world.rank).sum())) < 1.05
