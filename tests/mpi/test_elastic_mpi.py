"""Elastic fields and elastic equilibrium are the same on any number of ranks."""

import numpy as np
import pytest

from ostwald.app.phasefield import CahnHilliard, Elasticity, HeterogeneousElasticity, cubic, double_well, elastic_field
from ostwald.parallel import World

pytestmark = pytest.mark.mpi
SOFT, HARD = cubic(3e4, 1.5e4, 3e4), cubic(8e4, 2e4, 1e4)


def decompositions(world, shape):
    """(ranks, shared): slabs in shared memory, slabs and pencils in messages."""
    yield None, True
    for p1 in range(1, world.size + 1):
        if world.size % p1 == 0 and p1 <= (3 if len(shape) == 3 else 1):
            yield (world.size // p1, p1), False


@pytest.mark.parametrize("moduli", ["homogeneous", "heterogeneous"])
@pytest.mark.parametrize("shape", [(20, 18, 64), (36, 50)])
def test_elasticity_of_any_ranks(world, shape, moduli):
    from mpi4py import MPI

    d, phi = len(shape), 0.45 + 0.1 * np.random.default_rng(2).normal(size=shape)
    moduli = Elasticity(SOFT, 0.008, d) if moduli == "homogeneous" else HeterogeneousElasticity(SOFT, HARD, 0.008, d)
    one = CahnHilliard(World(MPI.COMM_SELF), shape, double_well(5.0), 5.0, elasticity=moduli)
    one.set_field(phi)
    one.step(0.02, 2)
    told = one.measure()
    wanted = {name: elastic_field(one, name) for name in ("stress_xy", "elastic_energy")} | {"phi": one.field()}
    for ranks, shared in decompositions(world, shape):
        many = CahnHilliard(world, shape, double_well(5.0), 5.0, elasticity=moduli, ranks=ranks, shared=shared)
        many.set_field(many.fourier.brick(phi))
        many.step(0.02, 2)
        assert many.measure() == pytest.approx(told, rel=1e-11)
        before = many.field()
        for name, whole in wanted.items():
            found = before if name == "phi" else elastic_field(many, name)
            error = np.abs(found - many.fourier.brick(whole)).max(initial=0)
            assert world.allreduce(float(error), "max") < 1e-11 * np.abs(whole).max(), (name, ranks, shared)
        assert np.array_equal(many.field(), before)
        many.close()
