"""The streaming passes against plain numpy."""

import numpy as np
import pytest
from scipy.linalg import expm

from ostwald.app.kernels import _integrate

SIZES = (1, 7, 8, 9, 255, 256, 257, 1000)


def rows(n, ntypes=3, seed=0):
    r = np.random.default_rng(seed)
    types = r.integers(0, ntypes, n).astype(np.int32)
    return *r.normal(size=(3, n, 3)), types, r.uniform(1.0, 3.0, ntypes)


def six(matrix):
    return matrix[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


@pytest.mark.parametrize("ntypes", (1, 3))
@pytest.mark.parametrize("n", SIZES)
def test_kinetic_tensor(n, ntypes):
    _, v, _, types, masses = rows(n, ntypes)
    expected = six(np.einsum("i,ia,ib->ab", masses[types], v, v))
    found = _integrate.kinetic_tensor(v, types, masses, n)
    assert np.allclose(found, expected, rtol=1e-13, atol=1e-13 * expected.max())
    assert (found == _integrate.kinetic_tensor(v, types, masses, n, threads=3)).all()


@pytest.mark.parametrize("form", ("none", "number", "diagonal", "full"))
@pytest.mark.parametrize("ntypes", (1, 3))
@pytest.mark.parametrize("n", SIZES)
def test_advance(n, ntypes, form):
    x, v, f, types, masses = rows(n, ntypes)
    r = np.random.default_rng(1)
    maps = {}
    if form == "number":
        maps = dict(growth=0.9, response=1.1, deformation=1.2, drift=0.3)
    elif form == "diagonal":
        maps = {k: np.diag(r.uniform(0.5, 1.5, 3)) for k in ("growth", "response", "deformation", "drift")}
    elif form == "full":
        maps = {k: r.normal(size=(3, 3)) for k in ("growth", "response", "deformation", "drift")}
    full = {k: np.eye(3) * m if np.ndim(m) == 0 else m for k, m in maps.items()}
    full = {k: full.get(k, np.eye(3)) for k in ("growth", "response", "deformation", "drift")}
    origin = np.array([0.3, -1.0, 2.0])
    groups = r.integers(0, 4, n).astype(np.uint32)
    still = (groups & 2) != 0
    factors = 0.1 / masses
    new_v = v @ full["growth"].T + factors[types][:, None] * (f @ full["response"].T)
    new_v[still] = 0.0
    new_x = (x - origin) @ full["deformation"].T + origin + new_v @ full["drift"].T
    kinetic = _integrate.advance(
        v,
        f,
        types,
        factors,
        n,
        positions=x,
        fixed_point=origin,
        groups=groups,
        frozen=2,
        masses=masses,
        threads=2,
        **maps,
    )
    assert np.allclose(v, new_v, rtol=0, atol=1e-14)
    assert np.allclose(x, new_x, rtol=0, atol=2e-14)
    assert np.allclose(kinetic, six(np.einsum("i,ia,ib->ab", masses[types], v, v)), rtol=1e-12, atol=1e-12)


def test_a_pass_leaves_the_rows_beyond_n_alone():
    x, v, f, types, masses = rows(300)
    before = x.copy(), v.copy()
    _integrate.advance(v, f, types, 1.0 / masses, 290, positions=x, drift=0.1)
    assert (x[290:] == before[0][290:]).all() and (v[290:] == before[1][290:]).all()
    assert not (v[:290] == before[1][:290]).any()


def test_deform_and_scale():
    x, v, *_ = rows(777)
    a, d = np.random.default_rng(2).normal(size=(2, 3, 3))
    o = np.array([1.0, 2.0, 3.0])
    expected = (x - o) @ a.T + o + v @ d.T
    _integrate.deform(x, 777, deformation=a, fixed_point=o, direction=v, step=d, threads=2)
    assert np.allclose(x, expected, rtol=0, atol=1e-13)
    expected = (x - o) @ a.T + o
    _integrate.deform(x, 777, deformation=a, fixed_point=o)
    assert np.allclose(x, expected, rtol=0, atol=1e-13)
    for factor in (0.7, a):
        expected = v @ (np.eye(3) * factor).T if np.ndim(factor) == 0 else v @ factor.T
        _integrate.scale(v, 777, factor)
        assert np.allclose(v, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", (0.0, 1e-6, 1e-2, 1.0, 5.0))
def test_propagators(scale):
    k = scale * np.random.default_rng(3).normal(size=(3, 3))
    e, integral = _integrate.propagators(k, 1.3)
    assert np.allclose(e, expm(1.3 * k), rtol=0, atol=(1e-12 if scale > 0.1 else 1e-14) * abs(e).max())
    assert np.allclose(k @ integral, e - np.eye(3), rtol=0, atol=1e-13 * abs(e).max())
    if scale == 0.0:
        assert np.allclose(integral, 1.3 * np.eye(3), rtol=1e-15)


def test_dots_and_combine():
    a, b, c, *_ = rows(1001)
    assert np.allclose(_integrate.dots(a, [a, b, c], 1001), [(a * a).sum(), (a * b).sum(), (a * c).sum()], rtol=1e-13)
    assert (_integrate.dots(a, [b], 1001) == _integrate.dots(a, [b], 1001, 3)).all()
    expected = 0.5 * a - 2.0 * b + 3.0 * c
    _integrate.combine(b, [0.5, -2.0, 3.0], [a, b, c], 1001)
    assert np.allclose(b, expected, rtol=0, atol=1e-14)


def test_largest():
    a, _, _, types, weights = rows(500)
    size = ((a * weights[types][:, None]) ** 2).sum(1)
    square, row = _integrate.largest(a, 500, types=types, weights=weights)
    assert row == size.argmax() and np.isclose(square, size.max())
    groups = np.zeros(500, np.uint32)
    groups[row] = 4
    assert _integrate.largest(a, 500, types=types, weights=weights, groups=groups, frozen=4)[1] == np.argsort(size)[-2]
    a[123, 1] = np.nan
    assert _integrate.largest(a, 500)[1] == 123
    assert _integrate.largest(a, 0) == (0.0, -1)


def test_wrong_arrays_are_refused():
    x, v, _, types, masses = rows(10)
    for bad in (v.astype(np.float32), v[:5], v[:, :2], np.asfortranarray(v)):
        with pytest.raises(ValueError, match="velocities"):
            _integrate.kinetic_tensor(bad, types, masses, 10)
    with pytest.raises(ValueError, match="types"):
        _integrate.kinetic_tensor(v, types.astype(np.int64), masses, 10)
    types[3] = 3
    with pytest.raises(ValueError, match="type"):
        _integrate.kinetic_tensor(v, types, masses, 10)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="positions"):
        _integrate.deform(x, 10, deformation=2.0)
