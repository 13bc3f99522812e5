"""Finite differences on any number of ranks: the same bits, and restarts on another number of them."""

import numpy as np
import pytest

from ostwald.app.phasefield import FiniteDifference, double_well
from ostwald.io.checkpoint import read_checkpoint, write_checkpoint
from ostwald.parallel import World

pytestmark = pytest.mark.mpi


def grids(world, axes):
    return [(world.size // p, p) for p in range(1, world.size + 1) if world.size % p == 0 and (axes == 3 or p == 1)]


@pytest.mark.parametrize(
    "shape, dtype, boundaries",
    [
        ((36, 10, 21), "float64", "periodic"),
        ((36, 10, 21), "float32", "mirror"),
        ((13, 9, 8), "float64", "mirror"),
        ((40, 17), "float32", "periodic"),
    ],
)
def test_ranks_change_no_bit(world, shape, dtype, boundaries):
    from mpi4py import MPI

    phi = 0.5 + 0.1 * np.random.default_rng(3).normal(size=shape)

    def make(world, ranks=None):
        return FiniteDifference(world, shape, double_well(3.0), 3.0, dtype=dtype, boundaries=boundaries, ranks=ranks)

    one = make(World(MPI.COMM_SELF))
    one.set_field(phi)
    one.step(2e-3, 21)
    for ranks in grids(world, len(shape)):
        world.threads = 1 + ranks[0] % 2
        many = make(world, ranks)
        many.set_field(many.parts.brick(phi))
        many.step(2e-3, 10)
        before = many.measured_step(2e-3)
        many.step(2e-3, 10)
        assert world.allreduce(int(np.array_equal(many.field(), many.parts.brick(one.field()))), "min")
        assert before["energy"] > many.measure()["energy"] == pytest.approx(one.measure()["energy"], rel=1e-12)
    world.threads = 1


def test_restart_on_any_parts_bit_for_bit(world, mpi_tmp_path):
    shape = (12, 10, 9)
    phi = 0.5 + 0.1 * np.random.default_rng(3).normal(size=shape)
    for number, ranks in enumerate(grids(world, 3)):
        solver = FiniteDifference(world, shape, double_well(3.0), 3.0, ranks=ranks)
        solver.set_field(solver.parts.brick(phi))
        solver.step(2e-3, 20)
        (mpi_tmp_path / str(number)).mkdir(exist_ok=True)
        arrays, starts, numbers = solver.state()
        write_checkpoint(mpi_tmp_path / str(number), world, arrays, {"solver": numbers}, solver.steps, starts)
        solver.step(2e-3, 20)
        for others in grids(world, 3):
            again = FiniteDifference(world, shape, double_well(3.0), 3.0, ranks=others)
            found = read_checkpoint(mpi_tmp_path / str(number), world, targets=again.targets())
            again.restore(found.meta["solver"])
            assert again.steps == 20
            again.step(2e-3, 20)
            fields = [np.zeros(shape), np.zeros(shape)]
            for field, each in zip(fields, (solver, again)):
                each.parts.brick(field)[:] = each.field()
            assert np.array_equal(world.allreduce(fields[0]), world.allreduce(fields[1]))
            assert (again.mean, again.time, again.steps) == (solver.mean, solver.time, solver.steps)
