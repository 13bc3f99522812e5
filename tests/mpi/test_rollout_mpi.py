"""Roll-outs on any number of ranks: the same bits, restarts on another number of them."""

import numpy as np
import pytest

from ostwald.app.phasefield import double_well
from ostwald.app.surrogate.architecture import Architecture
from ostwald.app.surrogate.model import Surrogate
from ostwald.app.surrogate.rollout import RollOut
from ostwald.io.checkpoint import read_checkpoint, write_checkpoint
from ostwald.parallel import World

pytestmark = pytest.mark.mpi


def surrogate(dimensions=3, cell="deep", kernel=3, head="flux", padding="circular"):
    architecture = Architecture(dimensions, 2, 4, kernel, cell, head, (), padding)
    rng = np.random.default_rng(1)
    arrays = {name: rng.normal(0, 0.2, shape) for name, shape in architecture.shapes().items()}
    return Surrogate(architecture, arrays, 0.5, (2.0,) * dimensions, hash="one")


def make(world, shape, network, precision="float32", ranks=None):
    return RollOut(world, shape, network, double_well(3.0), 3.0, precision=precision, ranks=ranks)


def grids(world, axes):
    return [(world.size // p, p) for p in range(1, world.size + 1) if world.size % p == 0 and (axes == 3 or p == 1)]


def same_bits(world, many, one) -> bool:
    pairs = [(many.field(), one.field()), *zip(many.hidden(), one.hidden())]
    brick = tuple(slice(a, b) for a, b in zip(many.parts.lo, many.parts.hi))
    return bool(world.allreduce(min(int(np.array_equal(a, b[(..., *brick)])) for a, b in pairs), "min"))


@pytest.mark.parametrize(
    "shape, precision, network",
    [
        ((13, 9, 21), "float32", surrogate()),
        ((13, 9, 21), "bfloat16", surrogate(head="staggered-flux", padding="zero")),
        ((9, 11, 8), "double", surrogate(cell="gru", head="potential", padding="reflect")),
        ((17, 40), "float32", surrogate(2, "gru", 5, "potential")),
    ],
    ids=["periodic", "zero", "reflect", "plane"],
)
def test_ranks_change_no_bit(world, shape, precision, network):
    from mpi4py import MPI

    phi = np.random.default_rng(3).uniform(size=shape)
    one = make(World(MPI.COMM_SELF), shape, network, precision)
    one.set_field(phi)
    one.step(count=4)
    for ranks in grids(world, len(shape)):
        world.threads = 1 + ranks[0] % 2
        many = make(world, shape, network, precision, ranks)
        many.set_field(many.parts.brick(phi))
        before = many.measured_step()
        many.step(0.5, 3)
        assert same_bits(world, many, one)
        after = many.measure()
        assert after["energy"] == pytest.approx(one.measure()["energy"], rel=1e-12) and after != before
        assert after["mean"] == pytest.approx(before["mean"], abs=1e-14)
    world.threads = 1


def test_restart_on_any_parts_bit_for_bit(world, mpi_tmp_path):
    """Written by one rank, on its own, or by all; read by all in slabs and in pencils."""
    shape, network = (12, 10, 16), surrogate()
    phi = np.random.default_rng(5).uniform(size=shape)
    first = make(world, shape, network)
    first.set_field(first.parts.brick(phi))
    first.step(count=3)
    arrays, starts, numbers = first.state()
    write_checkpoint(mpi_tmp_path, world, arrays, dict(solver=numbers), first.steps, starts)
    first.step(count=3)
    for ranks in grids(world, 3):
        again = make(world, shape, network, ranks=ranks)
        found = read_checkpoint(mpi_tmp_path, world, targets=again.targets())
        again.restore(found.meta["solver"])
        assert again.steps == 3 and again.time == 1.5
        again.step(count=3)
        whole = [
            np.concatenate(world.allgather(solver.parts.to_planes(array)))
            for solver in (first, again)
            for array in (solver.field(), *(channel for hidden in solver.hidden() for channel in hidden))
        ]  # fmt: skip
        half = len(whole) // 2
        # planes of pencils come in another order of ranks: those of one column follow one another
        assert all(
            np.array_equal(np.sort(a, axis=None), np.sort(b, axis=None)) for a, b in zip(whole[:half], whole[half:])
        )
        if ranks[1] == 1:
            assert all(np.array_equal(a, b) for a, b in zip(whole[:half], whole[half:]))
    with pytest.raises(ValueError, match="of another network"):
        again.targets()
        again.restore(numbers | dict(surrogate="two"))
