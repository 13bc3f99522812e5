"""Bodies within triangle meshes: volumes of generated ones on any decomposition, and files that are damaged."""

import itertools

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.phasefield.mesh import Mesh
from ostwald.io.fields import open_field
from ostwald.io.meshes import MeshError, read_mesh

CUBE = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]  # turned outwards


def cube():
    return np.array([CUBE[[a, b, c]] for q in QUADS for a, b, c in ((q[0], q[1], q[2]), (q[0], q[2], q[3]))])


def surface(points):
    """Triangles of a closed net of points (n, m, 3) that goes round along both axes."""
    right, up = np.roll(points, -1, axis=0), np.roll(points, -1, axis=1)
    both = np.roll(right, -1, axis=1)
    return np.concatenate([np.stack([points, right, both], 2), np.stack([points, both, up], 2)]).reshape(-1, 3, 3)


def torus(n=64, m=48, big=1.0, small=0.4):
    u, v = np.meshgrid(2 * np.pi * np.arange(n) / n, 2 * np.pi * np.arange(m) / m, indexing="ij")
    r = big + small * np.cos(v)
    return surface(np.stack([r * np.cos(u), r * np.sin(u), small * np.sin(v)], -1))


def sphere(level=4):
    """A cube of many squares, blown up."""
    n = 2**level
    t = np.linspace(-1, 1, n + 1)
    faces = []
    for axis, side in itertools.product(range(3), (-1, 1)):
        a, b = np.meshgrid(t, t, indexing="ij")
        p = np.insert(np.stack([a, b], -1), axis, side, axis=-1)
        p = p / np.linalg.norm(p, axis=-1, keepdims=True)
        p = p if (side > 0) ^ (axis == 1) else p[::-1]
        c = p[:-1, :-1], p[1:, :-1], p[1:, 1:], p[:-1, 1:]
        faces += [np.stack(c[:3], 2).reshape(-1, 3, 3), np.stack([c[0], c[2], c[3]], 2).reshape(-1, 3, 3)]
    return np.round(np.concatenate(faces), 12)


def volume(triangles):
    a, b, c = np.moveaxis(triangles, 1, 0)
    return float((np.cross(a, b) * c).sum() / 6)


def write_binary(path, triangles):
    facets = np.zeros(len(triangles), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("bytes", "<u2")])
    facets["corners"] = triangles
    path.write_bytes(
        b"solid is how some programs begin these too".ljust(80) + len(facets).to_bytes(4, "little") + facets.tobytes()
    )


def write_text(path, triangles):
    lines = ["solid body"]
    for facet in triangles:
        lines += [
            "facet normal 0 0 0",
            "  outer loop",
            *(f"    vertex {x!r} {y!r} {z!r}" for x, y, z in facet.tolist()),
        ]
        lines += ["  endloop", "endfacet"]
    path.write_text("\n".join([*lines, "endsolid body", ""]))


BODIES = {"cube": cube(), "torus": torus(), "sphere": sphere()}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_volumes(name, turn):
    triangles = BODIES[name]
    c, s = np.cos(turn), np.sin(turn)
    triangles = triangles @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    shape, spacing = (48, 40, 44), (0.5, 0.6, 0.55)
    for position, scale in ((None, 7.3), ((1.0, 23.5, 5.0), 6.1)):  # in the middle, and across three faces of the box
        field = Mesh(shape, spacing, triangles, scale=scale, position=position, samples=3)
        phi = field.box((0, 0, 0), shape)
        assert phi.min() == pytest.approx(0, abs=1e-12) and phi.max() == pytest.approx(1, abs=1e-12)
        wanted = volume(triangles) * scale**3
        assert wanted > 0 and phi.sum() * np.prod(spacing) == pytest.approx(wanted, rel=6e-3)
        parts = [field.box((a, b, 0), (a + 16, b + 10, 44)) for a in (0, 16, 32) for b in (0, 10, 20, 30)]
        blocks = np.block([[[p] for p in parts[4 * k : 4 * k + 4]] for k in range(3)])
        assert np.array_equal(blocks.reshape(phi.shape), phi)


def test_a_cube_on_the_lattice_is_exact():
    """Its faces and edges lie on the lines of the samples, and in the middle between them."""
    for samples, scale in itertools.product((1, 2, 3), (8.0, 9.0)):
        phi = Mesh((20, 20, 20), 1.0, cube(), scale=scale, position=(9.5, 9.5, 9.5), samples=samples).box(
            (0,) * 3, (20,) * 3
        )
        assert phi.sum() == pytest.approx(scale**3, rel=1e-12), (samples, scale)
        if scale == 8:
            assert np.array_equal(np.unique(np.round(phi, 12)), [0, 1]) and phi[6:14, 6:14, 6:14].min() > 1 - 1e-12
    phi = Mesh((20, 20, 20), 1.0, cube(), size=20.0).box((0,) * 3, (20,) * 3)
    assert phi == pytest.approx(1)  # fills the box


def test_shells():
    """Overlapping ones are one body, one turned inside out is a cavity; facets that are not turned alike count by parity."""

    def share(triangles, **more):
        return Mesh((32, 32, 32), 1.0, triangles, scale=10.0, **more).box((0,) * 3, (32,) * 3).mean() * 32**3 / 1000

    big, small = 2 * cube() - 0.5, cube()
    assert share(big) == pytest.approx(8, rel=1e-3)
    assert share(np.concatenate([big, small])) == pytest.approx(8, rel=1e-3)
    assert share(np.concatenate([big, small[:, ::-1]])) == pytest.approx(7, rel=1e-3)
    assert share(np.concatenate([cube(), cube() + np.array([0.5, 0.5, 0.0])])) == pytest.approx(1.75, rel=1e-3)
    mixed = big.copy()
    mixed[::2] = mixed[::2, ::-1]
    assert share(mixed) == pytest.approx(8, rel=1e-3)
    assert share(np.concatenate([mixed, small])) == pytest.approx(7, rel=1e-3)
    shaken = cube() + 1e-9 * np.random.default_rng(1).normal(size=(12, 3, 3))  # as from a careless program
    assert share(shaken) == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match=r"not closed: 3 of its edges .* the first at"):
        share(big[1:])
    with pytest.raises(ValueError, match="no extent"):
        share(np.zeros((4, 3, 3)))
    for more, word in (
        (dict(size=3.0), "either the scale"), (dict(position=(1, 2)), "three coordinates"), (dict(samples=0), "one sample"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=word):
            share(big, **more)
    with pytest.raises(ValueError, match="three dimensions"):
        Mesh((16, 16), 1.0, big)
    with pytest.raises(ValueError, match="too many of its images"):
        Mesh((16, 16, 16), 1.0, big, scale=1e5)


def test_files(tmp_path):
    triangles = sphere(3)
    write_binary(tmp_path / "b.stl", triangles)
    assert np.array_equal(read_mesh(tmp_path / "b.stl"), triangles.astype(np.float32))
    write_text(tmp_path / "t.stl", triangles)
    assert np.array_equal(read_mesh(tmp_path / "t.stl"), triangles)
    lines = [f"v {x} {y} {z}" for x, y, z in CUBE] + ["vt 0 0", "usemtl grey"]
    lines += ["f " + " ".join(f"{k + 1}/1/{k + 1}" for k in q) for q in QUADS[:3]]
    lines += ["f " + " ".join(f"{k - 8}" for k in q) for q in QUADS[3:]]
    (tmp_path / "c.obj").write_text("# a cube of squares\n" + "\n".join(lines))
    assert np.array_equal(read_mesh(tmp_path / "c.obj"), cube())
    polygon = [(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)]  # not convex
    n = len(polygon)
    lines = [f"v {x} {y} {z}" for z in (0, 1) for x, y in polygon]
    lines += ["f " + " ".join(str(k) for k in range(n, 0, -1)), "f " + " ".join(str(n + k) for k in range(1, n + 1))]
    lines += [f"f {k + 1} {(k + 1) % n + 1} {n + (k + 1) % n + 1} {n + k + 1}" for k in range(n)]
    (tmp_path / "p.obj").write_text("\n".join(lines))
    phi = Mesh((20, 20, 20), 0.5, read_mesh(tmp_path / "p.obj"), samples=4).box((0,) * 3, (20,) * 3)
    assert phi.sum() / 8 == pytest.approx(16 - 6, rel=0.01)


def test_damaged_files(tmp_path):
    write_binary(tmp_path / "b.stl", cube())
    write_text(tmp_path / "t.stl", cube())
    binary, text = (tmp_path / "b.stl").read_bytes(), (tmp_path / "t.stl").read_text()
    wrong = cube()
    wrong[4, 1, 2] = np.nan
    write_binary(tmp_path / "nan.stl", wrong)
    cases = [
        ("a.stl", binary[:-7].replace(b"solid", b"_____"), "a binary STL of 12 facets has 684 bytes, this file 677"),
        ("n.stl", (tmp_path / "nan.stl").read_bytes(), "facet 5 has a coordinate that is not finite"),
        (
            "c.stl",
            text.replace("outer loop", "outer lop", 1).replace("vertex", "vortex", 2).encode(),
            r"line 4: 'vertex' expected",
        ),
        (
            "d.stl",
            text.replace("vertex 0.0", "vertex zero", 1).encode(),
            r"line 4: three coordinates expected, got 'vertex zero",
        ),
        ("e.stl", text[: len(text) // 2].rsplit("\n", 3)[0].encode(), "the file ends within a facet"),
        ("f.stl", b"solid\nendsolid\n", "there are no facets"),
        ("g.stl", b"hello", "neither an STL nor"),
        ("h.obj", b"v 0 0 0\nv 1 0 0\nv 0 1\nf 1 2 3\n", "line 3: three coordinates expected, got 'v 0 1'"),
        ("i.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n\nf 1 2 4\n", "line 5: there is no vertex '4'"),
        ("j.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 x\n", "line 4: there is no vertex 'x'"),
        ("k.obj", b"v 0 0 0\nv 1 0 0\nf 1 2\n", "line 3: a face has three vertices"),
        ("l.obj", b"v 0 0 0\nv inf 0 0\nf 1 2 1\n", "line 2: three coordinates"),
    ]
    for name, data, word in cases:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MeshError, match=word) as caught:
            read_mesh(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(MeshError, match=r"none\.stl: cannot be read \(No such file"):
        read_mesh(tmp_path / "none.stl")


JOB = """
[job]
kind = "phasefield"
[grid]
shape = [24, 20, 28]
[model]
epsilon = 3.0
[initial]
kind = "mesh"
file = "torus.stl"
size = 14.0
position = [2.0, 10.0, 14.0]
inside = 0.9
outside = 0.1
[[stage]]
timestep = 0.01
steps = 1
[fields]
every = 1
precision = "double"
"""


def test_a_run_starts_from_a_mesh(tmp_path, refused):
    write_binary(tmp_path / "torus.stl", torus())
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    assert main(["run", str(path), "-d", str(tmp_path / "run")]) == 0
    phi = open_field(tmp_path / "run/fields.h5", frame=0)[:]
    wanted = 0.1 + 0.8 * volume(torus()) * 5**3 / phi.size
    assert phi.mean() == pytest.approx(wanted, rel=2e-3) and phi.max() == pytest.approx(0.9, abs=1e-9)
    assert phi[2, 10, 14] == pytest.approx(0.1, abs=1e-9) and phi[7, 10, 14] > 0.8 and phi[-3, 10, 14] > 0.8
    for old, new, word in (
        ('"torus.stl"', '"none.stl"', "none.stl: cannot be read"),
        ("size = 14.0", "size = 14.0\nscale = 2.0", "[initial]: give either the scale of a mesh or its size"),
        ("[24, 20, 28]", "[24, 20]", "[initial]: a mesh needs a grid of three dimensions"),
        ('file = "torus.stl"', "", "[initial] file: is required"),
        ("size = 14.0", "cells = 3", "[initial] cells: has no effect"),
    ):
        refused(JOB.replace(old, new), word)
