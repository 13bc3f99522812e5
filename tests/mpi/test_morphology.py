"""Domains, topology, interfaces and spectra of phase fields on any number of ranks, in slabs and pencils, against SciPy and NumPy."""

import itertools

import numpy as np
import pytest

from ostwald.app.phasefield import CahnHilliard, FiniteDifference, Morphology, StructureFactor, amplitudes, double_well
from ostwald.parallel import World

pytestmark = pytest.mark.mpi


def layouts(world, shape):
    for p1 in range(1, world.size + 1):
        if world.size % p1 == 0 and (p1 == 1 or (len(shape) == 3 and p1 <= 3)):
            yield world.size // p1, p1


def periodic_sizes(high, walls=()):
    """Points of the domains of a phase: scipy.ndimage.label, and labels joined that touch across the ends (but those of the axes `walls`)."""
    label = pytest.importorskip("scipy.ndimage").label
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    from scipy.sparse import coo_array

    labels, count = label(high)
    pairs = []
    for axis in range(high.ndim):
        a, b = np.take(labels, -1, axis).ravel(), np.take(labels, 0, axis).ravel()
        pairs.append(np.stack([a, b], 1)[(a > 0) & (b > 0) & (axis not in walls)])
    a, b = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(count + 1, count + 1))
    _, joined = csgraph.connected_components(graph, directed=False)
    return np.unique(np.bincount(joined[labels[high]])[np.unique(joined[1:])], return_counts=True)


def euler(high, walls=()):
    """Points - edges + squares - cubes, by shifting the whole array; not across the ends of the axes `walls`."""
    total, sets = 0, [(1, high, 0)]
    for axis in range(high.ndim):
        here = np.arange(high.shape[axis]) < high.shape[axis] - (axis in walls)
        here = here.reshape([-1 if k == axis else 1 for k in range(high.ndim)])
        sets += [(-sign, part & np.roll(part, -1, axis) & here, 0) for sign, part, _ in sets]
    for sign, part, _ in sets:
        total += sign * int(part.sum())
    return total


def random_fields(shape):
    generator = np.random.default_rng(8)
    for part in (0.2, 0.33, 0.6):
        yield (generator.random(shape) < part).astype(float)
    smooth = generator.normal(size=shape)
    for axis in range(len(shape)):
        smooth = smooth + np.roll(smooth, 1, axis) + np.roll(smooth, 2, axis)
    yield (smooth > smooth.std() * 0.3).astype(float)


@pytest.mark.parametrize("shape", [(12, 10, 64), (30, 14, 80), (36, 98)])
def test_random_fields(world, shape):
    """Sizes and Euler numbers of the domains of both phases."""
    for ranks in layouts(world, shape):
        solver = CahnHilliard(world, shape, double_well(3.0), 3.0, ranks=ranks)
        part = tuple(slice(a, b) for a, b in zip(solver.fourier.lo, solver.fourier.hi))
        for phi in random_fields(shape):
            solver.set_field(phi[part])
            numbers, profiles = Morphology().measure(solver)
            assert numbers["fraction"] == phi.mean(), ranks
            for name, phase in (("high", phi > 0.5), ("low", phi < 0.5)):
                sizes, count = periodic_sizes(phase)
                assert profiles[f"sizes_{name}"].tolist() == sizes.tolist(), (ranks, name)
                assert profiles[f"numbers_{name}"].tolist() == count.tolist(), (ranks, name)
                assert numbers[f"domains_{name}"] == count.sum()
                assert numbers[f"largest_{name}"] == sizes[-1] / phase.sum()
                assert numbers[f"euler_{name}"] == euler(phase), (ranks, name)
        solver.close()


@pytest.mark.parametrize("shape", [(11, 10, 67), (29, 98)])
def test_random_fields_between_walls(world, shape):
    """Sizes, Euler numbers and areas for every choice of walls."""
    for walls in itertools.chain.from_iterable(itertools.combinations(range(len(shape)), k) for k in (1, 2, 3)):
        boundaries = ["mirror" if axis in walls else "periodic" for axis in range(len(shape))]
        for phi in random_fields(shape):
            areas = set()
            for ranks in layouts(world, shape):
                spacing = (0.7, 1.2, 0.9)[: len(shape)]
                solver = FiniteDifference(
                    world, shape, double_well(3.0), 3.0, 1.0, spacing, boundaries=boundaries, ranks=ranks
                )
                solver.set_field(solver.parts.brick(phi))
                numbers, profiles = Morphology().measure(solver)
                areas.add((f"{numbers['interface']:.10g}", f"{numbers['interface_gradient']:.10g}"))
                for name, phase in (("high", phi > 0.5), ("low", phi < 0.5)):
                    sizes, count = periodic_sizes(phase, walls)
                    assert profiles[f"sizes_{name}"].tolist() == sizes.tolist(), (ranks, name)
                    assert profiles[f"numbers_{name}"].tolist() == count.tolist(), (ranks, name)
                    assert numbers[f"euler_{name}"] == euler(phase, walls), (ranks, name)
                    assert numbers[f"spans_{name}"] <= len(shape) - len(walls)
                solver.close()
            assert len(areas) == 1, areas
        # the box and its mirror images, between which the tetrahedra of cells are cut the other way
        smooth = np.pad(phi, 3, mode="wrap").astype(float)
        for axis in range(len(shape)):
            smooth = sum(np.roll(smooth, k, axis) for k in (-1, 0, 1)) / 3
        smooth = smooth[(slice(3, -3),) * len(shape)]
        whole = np.pad(smooth, [(0, n * (axis in walls)) for axis, n in enumerate(shape)], mode="symmetric")
        found = []
        for each, kinds in ((smooth, boundaries), (whole, "periodic")):
            solver = FiniteDifference(world, each.shape, double_well(3.0), 3.0, 1.0, spacing, boundaries=kinds)
            solver.set_field(solver.parts.brick(each))
            found.append(Morphology(domains=False).measure(solver)[0])
            solver.close()
        images = 2 ** len(walls)
        assert found[1]["interface_gradient"] == pytest.approx(images * found[0]["interface_gradient"], rel=1e-10)
        assert found[1]["interface"] == pytest.approx(images * found[0]["interface"], rel=0.01)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(15, 14, 64), (32, 50)])
def test_ranks_change_nothing(world, shape, dtype):
    from mpi4py import MPI

    x = [2 * np.pi * i / n for i, n in zip(np.indices(shape), shape)]
    phi = 0.5 + 0.3 * sum(np.sin((k + 1) * a + 0.4) * np.cos(2 * b) for k, (a, b) in enumerate(zip(x, x[1:] + x[:1])))
    spacing = (0.7, 1.2, 0.9)[-len(shape) :]
    modes = np.random.default_rng(2).integers(-6, 7, (20, len(shape)))
    close = 1e-12 if dtype == "float64" else 1e-5

    def told(world, part, **options):
        solver = CahnHilliard(world, shape, double_well(3.0), 3.0, spacing=spacing, dtype=dtype, **options)
        solver.set_field(phi[part(solver.fourier)])
        results = StructureFactor().measure(solver), Morphology().measure(solver), amplitudes(solver, modes)
        solver.close()
        return results

    spectrum, shape_of, waves = told(World(MPI.COMM_SELF), lambda f: ...)
    for ranks in layouts(world, shape):
        for shared in (True, False):
            mine = told(world, lambda f: tuple(slice(a, b) for a, b in zip(f.lo, f.hi)), ranks=ranks, shared=shared)
            assert len(set(map(repr, world.allgather(mine[:2])))) == 1, "every rank is told the same"
            for (numbers, profiles), (wanted, arrays) in zip(mine[:2], (spectrum, shape_of)):
                assert numbers == pytest.approx(wanted, rel=close), (ranks, shared)
                assert list(profiles) == list(arrays)
                for name, array in arrays.items():
                    assert profiles[name] == pytest.approx(array, rel=close, abs=close * np.abs(array).max(initial=0))
            assert np.abs(mine[2] - waves).max() < close


def test_measuring_changes_nothing(world):
    phi = 0.5 + 0.1 * np.random.default_rng(3).normal(size=(16, 12, 32))
    fields = []
    for watched in (False, True):
        solver = CahnHilliard(world, phi.shape, double_well(3.0), 3.0)
        solver.set_field(phi[tuple(slice(a, b) for a, b in zip(solver.fourier.lo, solver.fourier.hi))])
        for _ in range(3):
            solver.step(0.01)
            if watched:
                StructureFactor().measure(solver)
                Morphology().measure(solver)
        fields.append(solver.field())
        solver.close()
    assert np.array_equal(*fields)


def test_threads_change_nothing(world):
    phi = 0.5 + 0.1 * np.random.default_rng(3).normal(size=(16, 12, 32))
    results = []
    for threads in (1, 3):
        world.threads = threads
        solver = CahnHilliard(world, phi.shape, double_well(3.0), 3.0)
        solver.set_field(phi[tuple(slice(a, b) for a, b in zip(solver.fourier.lo, solver.fourier.hi))])
        results.append(repr((StructureFactor().measure(solver), Morphology().measure(solver))))
        solver.close()
    assert results[0] == results[1]
