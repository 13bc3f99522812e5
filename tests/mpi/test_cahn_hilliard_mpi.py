"""Cahn–Hilliard on any number of ranks: the same as on one, in slabs and pencils, through memory and messages."""

import numpy as np
import pytest

from ostwald.app.phasefield import AllenCahn, CahnHilliard, Elasticity, Noise, VariableMobility, cubic, double_well
from ostwald.parallel import Fourier, World

pytestmark = pytest.mark.mpi


def cases(world):
    yield None, True
    for p1 in range(1, world.size + 1):
        if world.size % p1 == 0 and p1 <= 3:  # a row of 33 wave numbers is 3 blocks of 16 in single precision
            yield (world.size // p1, p1), False


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(20, 18, 64), (36, 50)])
@pytest.mark.parametrize("equation", [CahnHilliard, AllenCahn])
def test_ranks_change_nothing(world, shape, dtype, equation):
    from mpi4py import MPI

    alone = World(MPI.COMM_SELF)
    phi = 0.45 + 0.1 * np.random.default_rng(2).normal(size=shape)
    moduli = Elasticity(cubic(3e4, 1.5e4, 3e4), 0.008, len(shape))
    one = equation(alone, shape, double_well(5.0), 5.0, elasticity=moduli, dtype=dtype)
    one.set_field(phi)
    one.step(0.05, 100)
    wanted, told = one.field(), one.measure()
    close = 1e-12 if dtype == "float64" else 2e-5
    for ranks, shared in cases(world):
        if ranks and len(shape) == 2 and ranks[1] > 1:
            continue
        many = equation(world, shape, double_well(5.0), 5.0, elasticity=moduli, ranks=ranks, shared=shared, dtype=dtype)
        part = tuple(slice(a, b) for a, b in zip(many.fourier.lo, many.fourier.hi))
        many.set_field(phi[part])
        for _ in range(50):
            many.step(0.05)
        middle = many.measure()
        again = many.measured_step(0.05)
        assert again == pytest.approx(middle, rel=1e-12 if dtype == "float64" else 1e-6, abs=close)
        many.step(0.05, 49)
        error = world.allreduce(float(np.abs(many.field() - wanted[part]).max(initial=0)), "max")
        assert error < close, (ranks, shared, error)
        assert many.measure() == pytest.approx(told, rel=10 * close, abs=close)
        many.close()


def test_repeated_runs_are_bitwise_equal(world):
    shape = (18, 12, 40)
    phi = 0.5 + 0.1 * np.random.default_rng(2).normal(size=shape)
    results = []
    for threads in (1, 2):
        world.threads = threads
        solver = CahnHilliard(world, shape, double_well(3.0), 3.0)
        part = tuple(slice(a, b) for a, b in zip(solver.fourier.lo, solver.fourier.hi))
        solver.set_field(phi[part])
        energies = [solver.measured_step(0.02)["energy"] for _ in range(10)]
        results.append((solver.spectrum.copy(), solver.field(), energies))
        solver.close()
    assert np.array_equal(results[0][0], results[1][0]) and np.array_equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]


def test_an_error_on_one_rank_is_everyones(world):
    solver = CahnHilliard(world, (16, 8, 8), double_well(3.0), 3.0)
    phi = np.full(solver.fourier.local, 0.5)
    if world.rank == world.size - 1:
        phi[0, 0, 0] = np.inf
    with pytest.raises(RuntimeError, match="finite"):
        solver.set_field(phi)
    solver.close()
    f = Fourier(world, (16, 8, 8))
    assert len(set(world.allgather(f.describe()))) == 1
    f.close()


@pytest.mark.parametrize("equation", [CahnHilliard, AllenCahn])
@pytest.mark.parametrize("shape", [(20, 18, 64), (36, 50)])
def test_noise_is_the_same_on_any_ranks(world, shape, equation):
    from mpi4py import MPI

    phi = 0.45 + 0.1 * np.random.default_rng(2).normal(size=shape)
    one = equation(World(MPI.COMM_SELF), shape, double_well(3.0), 3.0, noise=Noise(9, 0.05, 0.01))
    one.set_field(phi)
    one.step(0.02, 20)
    wanted = one.field()
    for ranks, shared in cases(world):
        if ranks and len(shape) == 2 and ranks[1] > 1:
            continue
        many = equation(world, shape, double_well(3.0), 3.0, ranks=ranks, shared=shared, noise=Noise(9, 0.05, 0.01))
        part = tuple(slice(a, b) for a, b in zip(many.fourier.lo, many.fourier.hi))
        many.set_field(phi[part])
        many.step(0.02, 20)
        error = world.allreduce(float(np.abs(many.field() - wanted[part]).max(initial=0)), "max")
        assert error < 1e-12 and abs(many.mean - one.mean) < 1e-14
        many.close()


@pytest.mark.parametrize("shape", [(20, 18, 64), (36, 50)])
def test_variable_mobility_on_any_ranks(world, shape):
    from mpi4py import MPI

    phi = 0.45 + 0.1 * np.random.default_rng(2).normal(size=shape)
    moduli = Elasticity(cubic(3e4, 1.5e4, 3e4), 0.008, len(shape))
    arguments = (shape, double_well(5.0), 5.0, (0.1, 3.6, -3.6))
    one = VariableMobility(World(MPI.COMM_SELF), *arguments, elasticity=moduli)
    one.set_field(phi)
    one.step(0.05, 20)
    wanted, told = one.field(), one.measure()
    for ranks, shared in cases(world):
        if ranks and len(shape) == 2 and ranks[1] > 1:
            continue
        many = VariableMobility(world, *arguments, elasticity=moduli, ranks=ranks, shared=shared)
        part = tuple(slice(a, b) for a, b in zip(many.fourier.lo, many.fourier.hi))
        many.set_field(phi[part])
        many.step(0.05, 20)
        error = world.allreduce(float(np.abs(many.field() - wanted[part]).max(initial=0)), "max")
        assert error < 1e-12 and many.measure() == pytest.approx(told, rel=1e-11)
        many.close()
