"""Series of fields written by several ranks together, in slabs and pencils, and read by any number."""

import numpy as np
import pytest

from ostwald.app.phasefield import CahnHilliard, Given, Perlin, double_well
from ostwald.io.fields import FieldSeries, field_frames, open_field
from ostwald.parallel import CollectiveError, Fourier

pytestmark = pytest.mark.mpi


def grids(world, shape):
    yield None
    if len(shape) == 3:
        for p1 in range(2, world.size + 1):
            if world.size % p1 == 0:
                yield world.size // p1, p1


def values(k, shape):
    return np.random.default_rng([3, k]).normal(size=shape)


def brick(fourier):
    return tuple(slice(a, b) for a, b in zip(fourier.lo, fourier.hi))


def check(path, count, shape):
    assert field_frames(path)[0].tolist() == list(range(count))
    for k in range(count):
        assert np.array_equal(open_field(path, "phi", k)[:], values(k, shape).astype(np.float32))


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("shape", [(10, 8, 64), (24, 96, 128), (36, 50)])
def test_ranks_write_one_file(world, mpi_tmp_path, shape, compression):
    for number, ranks in enumerate(grids(world, shape)):
        path, fourier = mpi_tmp_path / f"{number}.h5", Fourier(world, shape, ranks=ranks)
        with FieldSeries.create(path, fourier, compression=compression) as series:
            for k in range(4):
                series.append(k, 0.1 * k, phi=values(k, shape)[brick(fourier)])
        check(path, 4, shape)
        world.barrier()
        other = Fourier(world, shape, ranks=list(grids(world, shape))[-1 - number])  # goes on in other parts
        with FieldSeries.resume(path, other, 1) as series:
            assert series.frames == 2
            for k in range(2, 5):
                mine = values(k, shape)[brick(other)]
                cut = len(mine) // 2
                series.append(k, 0.1 * k, phi=[(cut, len(mine), mine[cut:]), (0, cut, mine[:cut])])
            series.sync()
        check(path, 5, shape)
        fourier.close()
        other.close()


def test_a_solver_goes_through_a_file(world, mpi_tmp_path):
    shape = (16, 18, 64)
    for number, ranks in enumerate(grids(world, shape)):
        solver = CahnHilliard(world, shape, double_well(3.0), 3.0, ranks=ranks)
        solver.set_field(Perlin(shape, amplitude=0.5, cells=4).source(solver.fourier))
        solver.step(0.01, 3)
        with FieldSeries.create(mpi_tmp_path / f"{number}.h5", solver.fourier, precision="double") as series:
            series.append(solver.steps, solver.time, phi=solver.pieces())
        field = open_field(mpi_tmp_path / f"{number}.h5")
        assert np.array_equal(field[brick(solver.fourier)], solver.field())
        told = solver.measure()
        solver.set_field(Given(field).source(solver.fourier))
        assert solver.measure() == pytest.approx(told, rel=1e-12)
        solver.close()


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_mistake_on_one_rank_stops_all(world, mpi_tmp_path, compression):
    shape = (12, 8, 40)
    fourier = Fourier(world, shape)
    with FieldSeries.create(mpi_tmp_path / "f.h5", fourier, compression=compression) as series:
        series.append(0, 0.0, phi=values(0, shape)[brick(fourier)])
        wrong = values(1, shape)[brick(fourier)]
        if world.rank == world.size - 1:
            wrong = wrong[:-1]
        with pytest.raises(CollectiveError, match=r"did not get step 1: \d+ planes of phi came on rank"):
            series.append(1, 0.1, phi=wrong)
        series.append(1, 0.1, phi=values(1, shape)[brick(fourier)])
    check(mpi_tmp_path / "f.h5", 2, shape)
    fourier.close()
