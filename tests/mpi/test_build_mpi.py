"""What is built is the same on any number of ranks: every rank also builds it alone, on a world of one."""

import numpy as np
import pytest

from ostwald.app.atoms import build

pytestmark = pytest.mark.mpi


def built(world):
    """A share that went through everything: a share of it, and whether its atoms belong to the seed."""
    share = build.build_lattice(world, "fcc", 4.0, "Al", (7, 5, 6), primitive=True)
    share = build.substitute(world, share, {"Al": 0.6, "Ni": 0.25, "Ti": 0.15}, seed=11)
    share = build.vacancies(world, share, 13, seed=4)
    share = build.rattle(share, 0.1, seed=9)
    seed = build.build_lattice(world, "l1_2", 2.0, ("Ni", "Al"), (7, 5, 6), primitive=True)
    seed.matrix = share.matrix.copy()  # the same cell: the seed's own one is replaced by stretching
    seed.positions = seed.positions @ np.linalg.inv(np.diag([14.0, 10, 12])) @ share.matrix
    share, seeded = build.embed(world, share, seed, build.Sphere(5.0), gap=1.0)
    return build.vacancies(world, share, 0.1, seed=5), seeded.sum()


def test_same_atoms_on_any_number_of_ranks(world):
    share, seeded = built(world)
    alone, seeded_alone = built(world.split(world.rank))
    assert share.total == alone.total and share.species == alone.species
    assert world.allreduce(int(seeded)) == seeded_alone
    order = np.argsort(alone.ids)
    assert np.array_equal(alone.ids[order], np.arange(alone.total))
    assert np.array_equal(np.sort(np.concatenate(world.allgather(share.ids))), np.arange(share.total))
    assert np.array_equal(share.positions, alone.positions[order][share.ids])
    assert np.array_equal(share.types, alone.types[order][share.ids])


def test_shares_are_even(world):
    share = build.build_lattice(world, "bcc", 3.0, "Fe", (5, 4, 3))
    numbers = world.allgather(len(share.ids))
    assert sum(numbers) == 120 and max(numbers) - min(numbers) <= 1


def test_ties_and_empty_ranks(world):
    """Only the last rank has atoms, all with the same key."""
    mine = world.rank == world.size - 1
    ids = np.arange(10)[::-1] if mine else np.zeros(0, np.int64)
    chosen = build.select_smallest(world, np.full(len(ids), 0.5), ids, 4)
    assert ids[chosen].tolist() == ([3, 2, 1, 0] if mine else [])
