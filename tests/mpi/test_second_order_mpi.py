"""Second-order and adaptive steps on any number of ranks, in slabs and pencils: those of one rank."""

import numpy as np
import pytest

from ostwald.app.phasefield import Adaptive, Elasticity, SecondOrder, cubic, double_well
from ostwald.parallel import World

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("shape", [(20, 18, 32), (36, 50)])
def test_adaptive_steps_on_any_ranks(world, shape):
    from mpi4py import MPI

    phi = 0.45 + 0.1 * np.random.default_rng(2).normal(size=shape)
    moduli = Elasticity(cubic(3e4, 1.5e4, 3e4), 0.008, len(shape))

    def run(where, **more):
        solver = SecondOrder(where, shape, double_well(5.0), 5.0, elasticity=moduli, **more)
        solver.set_field(phi[tuple(slice(a, b) for a, b in zip(solver.fourier.lo, solver.fourier.hi))])
        steps = Adaptive(solver, 0.02)
        while solver.time < 1.0:
            told = steps.step(1.0)
        return solver, told

    one, wanted = run(World(MPI.COMM_SELF))
    for ranks, shared in ((None, True), ((1, world.size) if len(shape) == 3 and world.size < 4 else None, False)):
        many, told = run(world, ranks=ranks, shared=shared)
        assert many.steps == one.steps and told == pytest.approx(wanted, rel=1e-6)
        part = tuple(slice(a, b) for a, b in zip(many.fourier.lo, many.fourier.hi))
        error = world.allreduce(float(np.abs(many.field() - one.field()[part]).max(initial=0)), "max")
        assert error < 1e-10, (ranks, shared, error)
        many.close()
