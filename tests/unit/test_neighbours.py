"""Neighbour lists against brute force, spatial order, displacement."""

import numpy as np
import pytest

from ostwald.app.atoms.neighbours import NeighbourList
from ostwald.app.kernels import _neighbour
from ostwald.app.potentials.images import Images


def brute(x, n, cutoff, style):
    """The pairs of the contract; half: local-local ones once, the smaller row first."""
    d2 = ((x[:n, None] - x[None]) ** 2).sum(-1)
    i, j = np.nonzero(d2 <= cutoff**2)
    keep = i != j if style == "full" else (i < j)
    return set(zip(i[keep].tolist(), j[keep].tolist()))


def found(nb, n, style):
    i = np.repeat(np.arange(n), np.diff(nb.offsets))
    j = nb.indices.astype(int)
    swap = (style == "half") & (j < i)
    pairs = list(zip(np.where(swap, j, i).tolist(), np.where(swap, i, j).tolist()))
    assert len(pairs) == len(set(pairs)), "a pair is listed twice"
    return set(pairs)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("style", ["full", "half"])
@pytest.mark.parametrize("seed", range(12))
def test_any_rows_against_brute_force(seed, style, threads):
    rng = np.random.default_rng(seed)
    n, ghosts = int(rng.integers(1, 400)), int(rng.integers(0, 300))
    stretch = [1, 1, 50][seed % 3]  # sparse boxes, with far more volume than atoms
    x = rng.uniform(0, 1, (n + ghosts, 3)) * rng.uniform(1, 15, 3) * stretch + rng.uniform(-1e3, 1e3, 3)
    cutoff = rng.uniform(0.3, 5.0)
    nb = NeighbourList(threads)
    nb.build(x, n, ghosts, 0.8 * cutoff, cutoff - 0.8 * cutoff, style)
    assert found(nb, n, style) == brute(x, n, cutoff, style)
    assert nb.offsets.dtype == np.int64 and nb.indices.dtype == np.int32


@pytest.mark.parametrize("style", ["full", "half"])
@pytest.mark.parametrize("seed", range(6))
def test_periodic_cells(seed, style):
    """Orthogonal and triclinic, also with edges below the cutoff, where an atom is its own neighbour many times."""
    rng = np.random.default_rng(100 + seed)
    matrix = np.diag(rng.uniform(2.0, 9.0, 3)) + (seed % 2) * rng.uniform(-2, 2, (3, 3))
    if np.linalg.det(matrix) < 0:
        matrix[0] *= -1
    n, cutoff = int(rng.integers(1, 30)), rng.uniform(2.0, 5.0)
    x = rng.uniform(-1.0, 2.0, (n, 3)) @ matrix
    images = Images(x, matrix, [True] * 3, cutoff)
    rows = images.rows(x)
    nb = NeighbourList()
    nb.build(rows, n, images.nghost, cutoff, 0.0, style)
    assert found(nb, n, style) == brute(rows, n, cutoff, style)
    # every pair of the infinite crystal
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(matrix), axis=0)).astype(int) + 3
    shifts = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3) @ matrix
    d2 = ((x[:, None, None] - x[None, :, None] - shifts) ** 2).sum(-1)
    pairs = np.count_nonzero(d2 <= cutoff**2) - n
    full = NeighbourList()
    full.build(rows, n, images.nghost, cutoff, 0.0, "full")
    assert len(full.indices) == pairs


def test_few_atoms_and_far_ones():
    nb = NeighbourList()
    nb.build(np.zeros((0, 3)), 0, 0, 3.0)
    assert nb.offsets.tolist() == [0] and len(nb.indices) == 0
    nb.build(np.zeros((1, 3)), 1, 0, 3.0)
    assert nb.offsets.tolist() == [0, 0]
    x = np.array([[0.0, 0, 0], [1e12, 0, 0], [0.5, 0, 0], [1e12, 1, 0]])
    nb.build(x, 4, 0, 2.0)
    assert found(nb, 4, "full") == {(0, 2), (2, 0), (1, 3), (3, 1)}
    nb.build(np.zeros((300, 3)), 300, 0, 1.0, 0.0, "half")  # all in one place
    assert len(nb.indices) == 300 * 299 // 2


def test_a_position_that_is_not_finite_is_named():
    x = np.zeros((9, 3))
    for bad in (np.nan, np.inf, -np.inf):
        x[5, 1] = bad
        with pytest.raises(ValueError, match="row 5 is not finite"):
            NeighbourList().build(x, 4, 5, 3.0)


def test_wrong_arguments():
    nb = NeighbourList()
    x = np.zeros((4, 3))
    with pytest.raises(ValueError, match="cutoff"):
        nb.build(x, 4, 0, -1.0)
    with pytest.raises(ValueError, match="full or half"):
        nb.build(x, 4, 0, 1.0, 0.0, "quarter")
    with pytest.raises(ValueError, match="float64"):
        nb.build(x.astype(np.float32), 4, 0, 1.0)
    with pytest.raises(ValueError, match="nlocal"):
        _neighbour.List().build(x, 5, 1.0, False)
    nb.build(x, 4, 0, 1.0)
    assert len(nb.indices) == 12


def test_views_outlive_the_next_build():
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 6, (200, 3))
    nb = NeighbourList()
    nb.build(x, 200, 0, 2.0)
    offsets, indices = nb.offsets, nb.indices
    kept = indices.copy()
    nb.build(x[:50], 50, 0, 5.0)
    assert np.array_equal(indices, kept) and offsets[-1] == len(kept)


def test_spatial_order():
    rng = np.random.default_rng(7)
    x = rng.uniform(-4, 9, (500, 3))
    order = _neighbour.spatial_order(x, 400, 2.0)
    assert np.array_equal(np.sort(order), np.arange(400))
    assert np.array_equal(order, _neighbour.spatial_order(x, 400, 2.0))
    z = x[order, 2]
    assert np.all(np.maximum.accumulate(z) - z < 2 * 2.0)  # z runs slowest, bins have edges below 2 × 2 Å
    assert (
        np.linalg.norm(np.diff(x[order], axis=0), axis=1).mean()
        < 0.5 * np.linalg.norm(np.diff(x[:400], axis=0), axis=1).mean()
    )


def test_largest_displacement():
    rng = np.random.default_rng(8)
    n = 100
    reference = rng.uniform(0, 5, (n, 3))
    x = np.concatenate([reference + rng.normal(0, 0.1, (n, 3)), np.full((20, 3), 1e6)])  # ghosts do not count
    zero, unit = np.zeros(3), np.eye(3)
    expected = ((x[:n] - reference) ** 2).sum(1).max()
    assert _neighbour.max_displacement2(x, reference, n, unit, zero, zero) == pytest.approx(expected, rel=1e-14)
    a, o, p = unit + rng.normal(0, 0.1, (3, 3)), rng.normal(0, 1, 3), rng.normal(0, 1, 3)
    expected = ((x[:n] - p - (reference - o) @ a) ** 2).sum(1).max()
    assert _neighbour.max_displacement2(x, reference, n, a, o, p) == pytest.approx(expected, rel=1e-12)
    x[3, 2] = np.nan
    assert np.isnan(_neighbour.max_displacement2(x, reference, n, unit, zero, zero))
    assert np.isnan(_neighbour.max_displacement2(x, reference, n, a, o, p))
    assert _neighbour.max_displacement2(x[:0], reference[:0], 0, unit, zero, zero) == 0.0
