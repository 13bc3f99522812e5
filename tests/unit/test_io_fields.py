"""Series of fields: what other programs read, resuming, and a file that is whole whenever the writer is killed."""

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as xml

import h5py
import numpy as np
import pytest

from ostwald.app.info import describe
from ostwald.app.phasefield import CahnHilliard, Given, Perlin, double_well
from ostwald.io import shared
from ostwald.io.fields import FieldSeries, FieldsError, field_frames, fields_info, open_field, write_xdmf
from ostwald.parallel import CollectiveError, Fourier, World

SHAPES = [(12, 10, 14), (24, 64, 96), (18, 20), (300, 250)]  # many frames in a chunk, many chunks in a frame


@pytest.fixture(scope="module")
def world():
    return World()


def values(k, shape):
    rng = np.random.default_rng([3, k])
    return {"phi": rng.normal(size=shape), "mu": rng.normal(size=shape)}


def put(series, k, shape):
    series.append(10 * k, 0.3 * k, **values(k, shape))


def check(path, count, shape, dtype=np.float32, start=0):
    steps, times = field_frames(path)
    assert steps.tolist() == [10 * k for k in range(count)] and times.tolist() == [0.3 * k for k in range(count)]
    for k in range(start, count):
        for name, array in values(k, shape).items():
            field = open_field(path, name, k)
            assert field.shape == shape and field.dtype == dtype
            assert np.array_equal(field[:], array.astype(dtype))
            part = tuple(slice(n // 3, n // 3 + 2) for n in shape)
            assert np.array_equal(field[part], array[part].astype(dtype))
            field.close()


def read_xdmf(path):
    """time -> name -> the values that the XDMF points at, by its own words."""
    out = {}
    for grid in xml.parse(path).getroot().iter("Grid"):
        if grid.get("GridType") != "Uniform":
            continue
        points = tuple(int(n) for n in grid.find("Topology").get("Dimensions").split())
        here = out[float(grid.find("Time").get("Value"))] = {}
        spacing = [float(h) for h in grid.findall("Geometry/DataItem")[1].text.split()]
        here["spacing"] = dict(zip(range(3), spacing))
        for attribute in grid.findall("Attribute"):
            slab = attribute.find("DataItem")
            chosen, source = slab.findall("DataItem")
            numbers = np.array(chosen.text.split(), int).reshape([int(n) for n in chosen.get("Dimensions").split()])
            file, _, dataset = source.text.partition(":")
            with h5py.File(path.parent / file, "r") as h5:
                whole = h5[dataset]
                told = tuple(int(n) for n in source.get("Dimensions").split())
                assert whole.shape[0] >= told[0] and whole.shape[1:] == told[1:]  # it may have grown since
                assert whole.dtype == f"f{source.get('Precision')}"
                start, stride, size = numbers
                assert np.all(stride == 1)
                cut = whole[tuple(slice(a, a + n) for a, n in zip(start, size))]
            here[attribute.get("Name")] = cut.reshape([int(n) for n in slab.get("Dimensions").split()])
            assert here[attribute.get("Name")].shape == points
    return out


@pytest.mark.parametrize(
    "precision, compression", [("single", None), ("double", None), ("single", "gzip"), ("double", "gzip")]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_as_written(tmp_path, world, shape, precision, compression):
    path, fourier = tmp_path / "fields.h5", Fourier(world, shape)
    spacing = (0.5, 1.0, 2.0)[: len(shape)]
    with FieldSeries.create(
        path, fourier, ("phi", "mu"), spacing, precision, {"title": "a test"}, compression
    ) as series:
        for k in range(5):
            put(series, k, shape)
            assert series.frames == k + 1
    dtype = np.float32 if precision == "single" else np.float64
    check(path, 5, shape, dtype)
    with h5py.File(path, "r") as file:
        assert file.attrs["title"] == "a test" and list(file.attrs["spacing"]) == list(spacing)
    found = read_xdmf(tmp_path / "fields.xdmf")
    assert list(found) == [0.3 * k for k in range(5)]
    for k, here in enumerate(found.values()):
        assert list(here["spacing"].values())[-len(shape) :] == list(spacing)
        for name, array in values(k, shape).items():
            assert np.array_equal(here[name].reshape(shape), array.astype(dtype))
    grid = " x ".join(map(str, shape))
    told, stored = fields_info(path).replace(" times smaller)", "").split(", gzip ("), ""
    if compression:
        with h5py.File(path, "r") as file:
            stored, phi = told.pop(1).partition(",")[0], file["fields/phi"]
            assert phi.compression == "gzip" and phi.shuffle and phi.chunks[0] == 1 and phi.chunks[2:] == shape[1:]
            assert float(stored) == pytest.approx(phi.nbytes / phi.id.get_storage_size(), abs=0.005)
        told = [told[0] + fields_info(path).partition("smaller)")[2]]
    assert told == [f"fields phi, mu on {grid} points, {np.dtype(dtype)}, 5 frames, steps 0 to 40, time 1.2"]
    assert describe(path) == f"{path}: {fields_info(path)}"


@pytest.mark.parametrize("shape, compression", [((12, 10, 14), None), ((12, 10, 14), "gzip"), ((18, 20), None)])
def test_paraview_reads_it(tmp_path, world, shape, compression):
    """Through VTK, with the reader of ParaView."""
    pyvista = pytest.importorskip("pyvista")
    path, spacing = tmp_path / "fields.h5", (0.5, 1.0, 2.0)[: len(shape)]
    with FieldSeries.create(
        path, Fourier(world, shape), ("phi", "mu"), spacing, "double", compression=compression
    ) as series:
        for k in range(3):
            put(series, k, shape)
    reader = pyvista.get_reader(tmp_path / "fields.xdmf")
    assert reader.time_values == [0.3 * k for k in range(3)]
    with FieldSeries.resume(path, Fourier(world, shape), 20) as series:
        kept = (tmp_path / "fields.xdmf").read_text()
        put(series, 3, shape)
    (tmp_path / "fields.xdmf").write_text(kept)  # a frame behind, as while a run goes on
    for k, t in enumerate(reader.time_values):
        reader.set_active_time_value(t)
        mesh = reader.read()
        while isinstance(mesh, pyvista.MultiBlock):
            mesh = mesh[0]
        assert mesh.dimensions[: len(shape)] == shape[::-1] and mesh.spacing[: len(shape)] == spacing[::-1]
        for name, array in values(k, shape).items():
            assert np.array_equal(np.asarray(mesh.point_data[name]).reshape(shape), array)


def test_xdmf_of_a_long_series_is_not_written_every_time(tmp_path, world, monkeypatch):
    written = []
    monkeypatch.setattr("ostwald.io.fields.write_xdmf", lambda path: written.append(1) or write_xdmf(path))
    path, fourier = tmp_path / "fields.h5", Fourier(world, (4, 6))
    with FieldSeries.create(path, fourier) as series:
        for k in range(600):
            series.append(k, float(k), phi=np.full((4, 6), k))
            if k == 50:
                assert len(read_xdmf(tmp_path / "fields.xdmf")) == 51
        assert 100 < len(written) < 350 and len(read_xdmf(tmp_path / "fields.xdmf")) > 590
    assert len(read_xdmf(tmp_path / "fields.xdmf")) == 600


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("shape", SHAPES)
def test_resume(tmp_path, world, shape, compression):
    path, fourier = tmp_path / "fields.h5", Fourier(world, shape)
    with FieldSeries.create(path, fourier, ("phi", "mu"), compression=compression) as series:
        for k in range(6):
            put(series, k, shape)
    size = path.stat().st_size
    with FieldSeries.resume(path, fourier, 25) as series:
        assert series.frames == 3 and series.fields == ("phi", "mu")
        check(path, 3, shape)
        assert len(read_xdmf(tmp_path / "fields.xdmf")) == 3
        for k in range(3, 6):
            put(series, k, shape)
        series.sync()
    check(path, 6, shape)
    assert path.stat().st_size == size  # the space of removed frames was used again
    assert len(read_xdmf(tmp_path / "fields.xdmf")) == 6
    with FieldSeries.resume(path, fourier, -1) as series:
        assert series.frames == 0
    assert field_frames(path)[0].size == 0 and read_xdmf(tmp_path / "fields.xdmf") == {}


def test_a_solver_writes_and_starts_from_a_series(tmp_path, world):
    shape, path = (20, 24, 28), tmp_path / "fields.h5"
    solver = CahnHilliard(world, shape, double_well(3.0), 3.0)
    solver.set_field(Perlin(shape, mean=0.5, amplitude=0.5, cells=4).source(solver.fourier))
    with FieldSeries.create(path, solver.fourier, precision="double") as series:
        for _ in range(2):
            solver.step(0.01, 3)
            series.append(solver.steps, solver.time, phi=solver.pieces())
    assert np.array_equal(open_field(path)[:], solver.field())
    again = CahnHilliard(world, shape, double_well(3.0), 3.0)
    again.set_field(Given(open_field(path)).source(again.fourier))
    assert again.measure()["energy"] == pytest.approx(solver.measure()["energy"], rel=1e-12)
    np.save(tmp_path / "phi.npy", solver.field())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["some/thing"] = solver.field().astype("f4")
    for name, error in (("phi.npy", 0), ("other.h5", 1e-7)):
        given = Given(open_field(tmp_path / name)).box((3, 2, 1), (9, 5, 28))
        np.testing.assert_allclose(given, solver.field()[3:9, 2:5, 1:28], atol=error)


def test_wrong_use(tmp_path, world, monkeypatch):
    path, fourier = tmp_path / "fields.h5", Fourier(world, (8, 10, 12))
    with FieldSeries.create(path, fourier) as series:
        series.append(0, 0.0, phi=np.zeros((8, 10, 12)))
        for wrong, words in (
            ({"psi": np.zeros((8, 10, 12))}, "holds phi"),
            ({"phi": np.zeros((8, 10, 11))}, "did not get step 1: planes 0 to 8 of the shape"),
            ({"phi": np.zeros((9, 10, 12))}, "did not get step 1: planes 0 to 9 of the shape"),
            ({"phi": [(0, 3, np.zeros((3, 10, 12)))]}, "3 planes of phi came"),
        ):
            with pytest.raises(CollectiveError, match=words):
                series.append(1, 0.1, **wrong)
        series.append(1, 0.1, phi=np.ones((8, 10, 12)))
    assert field_frames(path)[0].tolist() == [0, 1] and np.all(open_field(path)[:] == 1)
    with pytest.raises(KeyboardInterrupt), FieldSeries.resume(path, fourier, 1) as series:
        monkeypatch.setattr(world, "agree", None)  # what fails on one rank alone must not wait for the others
        series._told = 0
        raise KeyboardInterrupt
    monkeypatch.undo()
    with pytest.raises(CollectiveError, match=r"holds fields of \(8, 10, 12\) points"):
        FieldSeries.resume(path, Fourier(world, (8, 10, 14)), 1)
    with pytest.raises(CollectiveError, match="No such file"):
        FieldSeries.resume(tmp_path / "none.h5", fourier, 1)
    with pytest.raises(CollectiveError, match="precision"):
        FieldSeries.create(path, fourier, precision="half")
    with pytest.raises(CollectiveError, match="compression is None or 'gzip', not 'lzf'"):
        FieldSeries.create(path, fourier, compression="lzf")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"], file["b"] = np.zeros((2, 2)), np.zeros(3)
    with pytest.raises(CollectiveError, match=r"other\.h5"):
        FieldSeries.resume(tmp_path / "other.h5", fourier, 1)
    assert fields_info(tmp_path / "other.h5") is None
    np.save(tmp_path / "complex.npy", np.zeros((3, 3), complex))
    (tmp_path / "text.npy").write_text("no")
    (tmp_path / "empty.npy").touch()
    for name, field, frame, words in (
        ("fields.h5", "phi", 2, "no frame 2, but 2"),
        ("fields.h5", "psi", -1, "has no dataset psi"),
        ("other.h5", None, -1, "which dataset"),
        ("other.h5", "b", -1, "two or three axes"),
        ("complex.npy", None, -1, "real"),
        ("text.npy", None, -1, "cannot be read"),
        ("empty.npy", None, -1, "cannot be read"),
        ("none.h5", None, -1, "cannot be read"),
        ("none.npy", None, -1, "cannot be read"),
    ):
        with pytest.raises(FieldsError, match=words):
            open_field(tmp_path / name, field, frame)


def test_a_smooth_field_is_smaller_compressed(tmp_path, world):
    """A microstructure of two phases, in single precision: every bit as it was, and room for a quarter more."""
    shape, sizes = (48, 50, 54), {}
    phi = 0.5 + 0.5 * np.tanh(4 * Perlin(shape, cells=4, mean=0.0, amplitude=3.0).box((0, 0, 0), shape))
    for compression in (None, "gzip"):
        path = tmp_path / f"{compression}.h5"
        with FieldSeries.create(path, Fourier(world, shape), compression=compression) as series:
            series.append(0, 0.0, phi=phi)
        sizes[compression] = path.stat().st_size
        assert np.array_equal(open_field(path)[:], phi.astype("f4"))
    assert sizes["gzip"] < 0.8 * sizes[None]


def test_full_disk(tmp_path, world, monkeypatch):
    """No frame more, one sentence, and all frames before are there; with space again, it goes on."""
    shape, path = (24, 64, 96), tmp_path / "fields.h5"
    with FieldSeries.create(path, Fourier(world, shape), ("phi", "mu")) as series:
        for k in range(2):
            put(series, k, shape)
        size, write, left = path.stat().st_size, os.pwrite, [4]

        def full(descriptor, data, offset):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            return write(descriptor, data, offset)

        for writes in range(6):
            left[0] = writes
            with monkeypatch.context() as context:
                context.setattr(shared.os, "pwrite", full)
                with pytest.raises(CollectiveError, match=r"fields\.h5: the fields did not get step 20: No space left"):
                    put(series, 2, shape)
            check(path, 2, shape, start=1)
            assert (
                path.stat().st_size == size or writes > 3
            )  # four writes of data, then those that make the frame exist
        for k in range(2, 4):
            put(series, k, shape)
    check(path, 4, shape)


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from ostwald.io.fields import FieldSeries
from ostwald.parallel import Fourier, World
from test_io_fields import put

shape = tuple(int(n) for n in sys.argv[4].split())
series = FieldSeries.resume(sys.argv[2], Fourier(World(), shape), int(sys.argv[3]))
print("go", flush=True)
for k in range(series.frames, 100000):
    put(series, k, shape)
"""


@pytest.mark.parametrize("shape, compression", [((12, 10, 14), None), ((24, 64, 96), None), ((24, 64, 96), "gzip")])
def test_killed_while_writing(tmp_path, world, shape, compression):
    """kill -9 at random moments of a run that does nothing but write, resumed each time."""
    path, script = tmp_path / "fields.h5", tmp_path / "writer.py"
    script.write_text(WRITER)
    FieldSeries.create(path, Fourier(world, shape), ("phi", "mu"), compression=compression).close()
    rng = np.random.default_rng(1)
    count = 0
    for _ in range(int(os.environ.get("OSTWALD_KILLS", 4))):
        arguments = [os.path.dirname(__file__), path, str(10 * count - 10), " ".join(map(str, shape))]
        writer = subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"go\n"
        while len(field_frames(path)[0]) < count + 4 and writer.poll() is None:
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0.0, 0.15)))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        frames = len(field_frames(path)[0])
        assert frames >= count
        check(path, frames, shape, start=max(0, count - 1))
        assert len(read_xdmf(write_xdmf(path))) == frames
        count = max(0, frames - 2)  # the run had its checkpoint a while ago
    assert count > 4
