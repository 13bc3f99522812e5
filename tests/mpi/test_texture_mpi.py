"""Roughness and isotropy on any number of ranks, in slabs and pencils: the same as on one."""

import numpy as np
import pytest

from ostwald.app.phasefield import Boundary, CahnHilliard, Isotropy, double_well
from ostwald.parallel import World

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("shape", [(16, 18, 64), (9, 14, 64), (20, 32), (5, 30)])
def test_ranks_change_nothing(world, shape):
    from mpi4py import MPI

    phi = np.random.default_rng(5).random(shape)
    phi = phi + np.roll(phi, 1, 0) + np.roll(phi, 1, 1)
    phi -= phi.mean() - 0.5
    kinds = (Boundary(), Isotropy()) if len(shape) == 2 else (Boundary(),)
    one = CahnHilliard(World(MPI.COMM_SELF), shape, double_well(3.0), 3.0)
    one.set_field(phi)
    wanted = [kind.measure(one)[0] for kind in kinds]
    for p1 in range(1, world.size + 1):
        if world.size % p1 or (len(shape) == 2 and p1 > 1):
            continue
        many = CahnHilliard(world, shape, double_well(3.0), 3.0, ranks=(world.size // p1, p1))
        many.set_field(phi[tuple(slice(a, b) for a, b in zip(many.parts.lo, many.parts.hi))])
        for kind, told in zip(kinds, wanted):
            assert kind.measure(many)[0] == pytest.approx(told, rel=1e-10, nan_ok=True)
        many.close()
