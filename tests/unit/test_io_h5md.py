"""H5MD trajectories: what other programs read, resuming, and a file that is whole after every write of the writer."""

import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from ostwald.io import shared
from ostwald.io.growing import GrowingFile, GrowingFileError, new_file
from ostwald.io.h5md import EV_PER_ANGSTROM, Group, Result, Trajectory, times, trajectory_info
from ostwald.io.structures import read_structure
from ostwald.parallel import CollectiveError, World

TILTED = np.array([[8.0, 0, 0], [1.5, 7.0, 0], [-0.7, 2.0, 9.0]])


@pytest.fixture(scope="module")
def world():
    return World()


def frame(k, n=20):
    """The k-th frame, atoms in a random order."""
    rng = np.random.default_rng([7, k])
    ids = rng.permutation(n)
    by_id = {
        "positions": rng.normal(size=(n, 3)) + k,
        "velocities": rng.normal(size=(n, 3)),
        "forces": rng.normal(size=(n, 3)),
        "images": rng.integers(-3, 4, (n, 3)).astype(np.int32),
        "q6": rng.random(n),
    }
    return ids, by_id


def put(trajectory, k, n=20):
    ids, by_id = frame(k, n)
    given = {name: array[ids] for name, array in by_id.items()}
    trajectory.append(10 * k, 0.02 * k, TILTED * (1 + 0.01 * k), [0.0, 0.1, 0.2 * k], ids, **given)


def create(path, world, n=20, **options):
    ids = np.random.default_rng(3).permutation(n)
    return Trajectory.create(
        path,
        world,
        ids=ids,
        types=(ids % 3 == 0).astype(np.int32),
        species=("Al", "Ni"),
        masses=[26.98, 58.69],
        total=n,
        **{"results": {"q6": Result(unit=None)}, "precision": "double", **options},
    )


EVERYTHING = (Group(fields=("position", "velocity", "force", "image", "q6")),)


def check(path, count, n=20, start=0, tolerance=0.0):
    """All frames as they were written."""
    with h5py.File(path, "r") as file:
        here = file["particles/trajectory"]
        assert here["position/value"].shape == (count, n, 3)
        for k in range(start, count):
            _, by_id = frame(k, n)
            for name, argument, factor in (
                ("position", "positions", 1),
                ("velocity", "velocities", 1),
                ("force", "forces", EV_PER_ANGSTROM),
                ("image", "images", 1),
                ("q6", "q6", 1),
            ):
                np.testing.assert_allclose(here[f"{name}/value"][k], by_id[argument] * factor, atol=tolerance, rtol=0)
                assert here[f"{name}/step"][k] == 10 * k and here[f"{name}/time"][k] == 0.02 * k
            np.testing.assert_array_equal(here["box/edges/value"][k], TILTED * (1 + 0.01 * k))
            np.testing.assert_array_equal(here["box/origin/value"][k], [0.0, 0.1, 0.2 * k])


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_as_written(tmp_path, world, precision, compression):
    path = tmp_path / "trajectory.h5"
    with create(path, world, groups=EVERYTHING, precision=precision, compression=compression) as trajectory:
        for k in range(30):
            put(trajectory, k)
    check(path, 30, tolerance=2e-5 if precision == "single" else 0.0)
    with h5py.File(path, "r") as file:
        assert list(file["h5md"].attrs["version"]) == [1, 1]
        assert file["h5md/creator"].attrs["name"] == "Ostwald" and file["h5md/author"].attrs["name"]
        assert list(file["h5md/modules/units"].attrs["version"]) == [1, 0]
        here = file["particles/trajectory"]
        assert here["position/value"].dtype == ("f4" if precision == "single" else "f8")
        assert here["position/value"].compression == compression
        assert here["position/value"].attrs["unit"] == "Angstrom" and here["position/time"].attrs["unit"] == "ps"
        assert here["box"].attrs["dimension"] == 3
        assert [b.decode() for b in here["box"].attrs["boundary"]] == ["periodic"] * 3
        assert list(here["id"]) == list(range(20))
        names = {v: k for k, v in h5py.check_enum_dtype(here["species"].dtype).items()}
        assert [names[t] for t in here["species"][:]] == ["Ni" if k % 3 == 0 else "Al" for k in range(20)]
        assert here["mass"][0] == 58.69 and here["mass"][1] == 26.98
        assert here["velocity/step"] == here["position/step"]  # one dataset, many names


def test_mdanalysis(tmp_path, world):
    MDAnalysis = pytest.importorskip("MDAnalysis")
    path = tmp_path / "trajectory.h5md"
    with create(path, world, groups=EVERYTHING, precision="double") as trajectory:
        for k in range(5):
            put(trajectory, k)
    universe = MDAnalysis.Universe(str(path))  # without a topology file
    assert len(universe.trajectory) == 5 and len(universe.atoms) == 20
    here = universe.trajectory._particle_group
    names = {v: k for k, v in h5py.check_enum_dtype(here["species"].dtype).items()}
    universe.add_TopologyAttr("type", [names[t] for t in here["species"][:]])
    assert list(universe.atoms.types[:4]) == ["Ni", "Al", "Al", "Ni"]
    for k, step in enumerate(universe.trajectory):
        _, by_id = frame(k)
        np.testing.assert_allclose(step.positions, by_id["positions"], rtol=1e-6)
        np.testing.assert_allclose(step.velocities, by_id["velocities"], rtol=1e-6)
        np.testing.assert_allclose(step.forces, by_id["forces"] * EV_PER_ANGSTROM, rtol=1e-6)
        assert step.time == pytest.approx(0.02 * k) and step.data["step"] == 10 * k
        matrix = TILTED * (1 + 0.01 * k)
        np.testing.assert_allclose(step.triclinic_dimensions, matrix, atol=1e-5)  # a along x already: the same matrix
    universe.trajectory.close()


def test_mdanalysis_with_a_topology_file(tmp_path, world):
    MDAnalysis = pytest.importorskip("MDAnalysis")
    path = tmp_path / "trajectory.h5md"
    with create(path, world, groups=(Group(fields=("position",)),)) as trajectory:
        put(trajectory, 0)
    from ostwald.io.structures import convert

    convert(path, tmp_path / "topology.data")
    universe = MDAnalysis.Universe(str(tmp_path / "topology.data"), str(path), atom_style="id type x y z")
    assert list(universe.atoms.types[:4]) == ["2", "1", "1", "2"]
    np.testing.assert_allclose(universe.atoms.positions, frame(0)[1]["positions"], rtol=1e-6)


def test_groups(tmp_path, world):
    path = tmp_path / "t.h5"
    some = (3, 17, 5)
    groups = (Group("trajectory", ("position",)), Group("marked", ("position", "q6"), ids=some))
    with create(path, world, groups=groups) as trajectory:
        put(trajectory, 0)
        put(trajectory, 1)
    with Trajectory.resume(path, world, 10) as trajectory:
        put(trajectory, 2)
    with h5py.File(path, "r") as file:
        marked = file["particles/marked"]
        assert list(marked["id"]) == [3, 5, 17] and list(marked["species"]) == [1, 0, 0]
        for k in range(3):
            np.testing.assert_array_equal(marked["position/value"][k], frame(k)[1]["positions"][[3, 5, 17]])
            np.testing.assert_array_equal(marked["q6/value"][k], frame(k)[1]["q6"][[3, 5, 17]])
        assert "q6" not in file["particles/trajectory"]
    assert trajectory_info(path) == (
        "H5MD trajectory, 3 frames, steps 0 to 20, 0.04 ps; "
        "marked: 3 atoms (Al Ni), position, q6; trajectory: 20 atoms (Al Ni), position"
    )
    np.testing.assert_array_equal(times(path), [0, 0.02, 0.04])
    found = read_structure(path, 1, group="marked")
    assert list(found.ids) == [3, 5, 17] and list(found.symbols) == ["Ni", "Al", "Al"]


@pytest.mark.parametrize("members", [[0, 1, 2], [19], list(range(20))], ids=["first", "last", "all"])
def test_only_a_part(tmp_path, world, members):
    path = tmp_path / "t.h5"
    with create(path, world, groups=(Group(fields=("position", "q6"), ids=members),)) as trajectory:
        put(trajectory, 0)
    with Trajectory.resume(path, world, 0) as trajectory:
        put(trajectory, 1)
    for k in range(2):
        found = read_structure(path, k)
        assert list(found.ids) == members
        np.testing.assert_array_equal(found.positions, frame(k)[1]["positions"][members])
        np.testing.assert_array_equal(found.arrays["q6"], frame(k)[1]["q6"][members])


@pytest.mark.parametrize("n", [20, 5000])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_resume_removes_what_came_later(tmp_path, world, n, compression):
    path = tmp_path / "t.h5"
    with create(path, world, n, groups=EVERYTHING, compression=compression) as trajectory:
        for k in range(12):
            put(trajectory, k, n)
    size = path.stat().st_size
    with Trajectory.resume(path, world, 75) as trajectory:  # frames are at 0, 10, ... 110
        assert trajectory.frames == 8
        check(path, 8, n)
        for k in range(8, 12):
            put(trajectory, k, n)
    check(path, 12, n)
    assert path.stat().st_size <= size  # the place of the removed frames was used again
    with Trajectory.resume(path, world, -1) as trajectory:
        assert trajectory.frames == 0
        for k in range(14):
            put(trajectory, k, n)
    check(path, 14, n)


def test_it_can_be_read_while_it_grows(tmp_path, world):
    path = tmp_path / "t.h5"
    with create(path, world, groups=EVERYTHING) as trajectory:
        for k in range(10):
            put(trajectory, k)
            check(path, k + 1, start=k)


def test_mistakes(tmp_path, world):
    path = tmp_path / "t.h5"
    for options, message in (
        ({"precision": "half"}, "precision is 'single' or 'double', not 'half'"),
        ({"groups": (Group(fields=("velocity",)),)}, "need position"),
        ({"groups": (Group(fields=("position", "w")),)}, "wants 'w', which is not declared"),
        ({"groups": (Group(), Group())}, "different names"),
    ):
        with pytest.raises(CollectiveError, match=message):
            create(path, world, **options)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CollectiveError, match=r"no/t\.h5: the trajectory was not created: No such file"):
        create(tmp_path / "no" / "t.h5", world)
    with create(path, world, groups=EVERYTHING) as trajectory:
        put(trajectory, 0)
        ids, by_id = frame(1)
        with pytest.raises(CollectiveError, match=r"wants force, but append.. was given no forces"):
            trajectory.append(10, 0.0, TILTED, np.zeros(3), ids, **{**by_id, "forces": None})
        with pytest.raises(CollectiveError, match=r"positions has shape \(19, 3\), not \(20, 3\)"):
            trajectory.append(10, 0.0, TILTED, np.zeros(3), ids, **{**by_id, "positions": np.zeros((19, 3))})
        with pytest.raises(CollectiveError, match=r"id 19 is missing|id 0 occurs 2 times"):
            trajectory.append(10, 0.0, TILTED, np.zeros(3), np.where(ids == 19, 0, ids), **by_id)
        put(trajectory, 1)
    check(path, 2)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CollectiveError, match=r"t\.h5: the trajectory cannot be opened"):
        Trajectory.resume(path, world, 0)


# --- whole after every write


class Recorder:
    """Logs what SharedFile does to a file, and makes the states in which a kill would leave it."""

    def __init__(self, monkeypatch, path):
        self.log = []
        write, resize = shared.SharedFile.write, shared.SharedFile.resize

        def logged_write(file, offset, data):
            raw = bytes(data.tobytes() if isinstance(data, np.ndarray) else data)
            if file.path == str(path):
                self.log.append((offset, raw))
            write(file, offset, data)

        def logged_resize(file, size):
            if file.path == str(path):
                self.log.append((size, None))
            resize(file, size)

        monkeypatch.setattr(shared.SharedFile, "write", logged_write)
        monkeypatch.setattr(shared.SharedFile, "resize", logged_resize)

    def states(self, before: bytes):
        """The file after every write and every part of one; the kernel stops a write at page boundaries only."""
        state = bytearray(before)
        yield bytes(state)
        for offset, data in self.log:
            if data is None:
                state[offset:] = b""
                state.extend(b"\0" * (offset - len(state)))
                yield bytes(state)
                continue
            place = offset
            while place < offset + len(data):
                upto = min(offset + len(data), (place // 4096 + 1) * 4096)
                if len(state) < upto:
                    state.extend(b"\0" * (upto - len(state)))
                state[place:upto] = data[place - offset : upto - offset]
                place = upto
                yield bytes(state)


@pytest.mark.parametrize(
    ("n", "compression", "frames"),
    [(20, None, (0, 1, 5)), (1400, None, (64, 128)), (30, "gzip", (0, 1, 64, 65, 128))],
)
def test_every_state_is_whole(tmp_path, world, monkeypatch, n, compression, frames):
    """The file after each single write of an append, also at nodes of the chunk index that are full: it opens, all
    earlier frames are there, the new one is there or not, and the run can be resumed from it."""
    path, copy = tmp_path / "t.h5", tmp_path / "copy.h5"
    trajectory = create(path, world, n, groups=EVERYTHING, compression=compression)
    recorder = Recorder(monkeypatch, path)
    k = 0
    seen = 0
    for target in frames:
        while k < target:
            put(trajectory, k, n)
            k += 1
        before = path.read_bytes()
        recorder.log.clear()
        put(trajectory, k, n)
        states = list(recorder.states(before))
        assert states[-1] == path.read_bytes()
        counts = []
        for number, state in enumerate(states):
            copy.write_bytes(state)
            with h5py.File(copy, "r") as file:
                counts.append(len(file["particles/trajectory/position/value"]))
            check(copy, counts[-1], n, start=max(0, k - 2))
            if number % 7 == 0 or number > len(states) - 5:
                with Trajectory.resume(copy, world, 10 * k - 1) as again:
                    assert again.frames == k
                    put(again, k, n)
                    put(again, k + 1, n)
                check(copy, k + 2, n, start=max(0, k - 2))
        assert set(counts) == {k, k + 1} and counts == sorted(counts)
        assert counts.count(k + 1) == 1  # it exists with the very last write
        seen += len(states)
        k += 1
    assert seen > 10 * len(frames)
    trajectory.close()
    check(path, k, n)


def test_every_state_of_removing_frames_is_whole(tmp_path, world, monkeypatch):
    path, copy = tmp_path / "t.h5", tmp_path / "copy.h5"
    with create(path, world, groups=EVERYTHING) as trajectory:
        for k in range(70):
            put(trajectory, k)
    before = path.read_bytes()
    recorder = Recorder(monkeypatch, path)
    Trajectory.resume(path, world, 305).close()
    for state in recorder.states(before):
        copy.write_bytes(state)
        with h5py.File(copy, "r") as file:
            count = len(file["particles/trajectory/position/value"])
        assert count in (31, 70)
        check(copy, count)
        with Trajectory.resume(copy, world, 305) as again:
            put(again, 31)
        check(copy, 32, start=28)


def test_deep_index(tmp_path):
    """A chunk index of three levels (more than 64² chunks), grown, reopened, shortened and grown again."""
    path = tmp_path / "g.h5"

    def build(file):
        file.create_dataset("x", (0, 6), "f8", maxshape=(None, 6), chunks=(1, 2), track_times=False)

    new_file(build).save(path)
    grown = GrowingFile(path)

    def add(k):
        for j, place in enumerate(grown.plan("x")):
            grown.file.write(place, np.array([k, j], float))
        grown.commit(["x"])

    count = 1500  # 4500 chunks
    for k in range(count):
        add(k)
    assert len(grown.datasets["x"].path) == 3
    for length in (1366, 100, 0):
        grown.close()
        grown = GrowingFile(path)
        grown.truncate({"x": length})
        for k in range(length, count):
            add(k)
        with h5py.File(path, "r") as file:
            x = file["x"][:]
            assert x.shape == (count, 6) and file["x"].id.get_num_chunks() == 3 * count
        np.testing.assert_array_equal(x[:, ::2], np.arange(count)[:, None] * [1, 1, 1])
        np.testing.assert_array_equal(x[:, 1::2], [[0, 1, 2]] * count)
    grown.close()
    with h5py.File(path, "r+") as file:  # HDF5 itself finds the index in order: it can take entries out and put some in
        file["x"].resize(700, axis=0)
        file["x"].resize(900, axis=0)
        file["x"][700:] = 5.0
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file["x"][:700, 0], np.arange(700))
        assert np.all(file["x"][700:] == 5.0)
    grown = GrowingFile(path)  # and what HDF5 made of it can be continued
    for k in range(900, 1000):
        add(k)
    grown.close()
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file["x"][900:, 0], np.arange(900, 1000))
        np.testing.assert_array_equal(file["x"][:700, 0], np.arange(700))


def test_foreign_file_is_refused(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", (0, 6), "f4", maxshape=(None, 6), chunks=(1, 2))
    with pytest.raises(GrowingFileError, match=r"f\.h5: not a file that this program wrote"):
        GrowingFile(path)


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from ostwald.io.h5md import Trajectory
from ostwald.parallel import World
from test_io_h5md import put

world = World()
trajectory = Trajectory.resume(sys.argv[2], world, int(sys.argv[3]))
k = trajectory.frames
print("go", flush=True)
while True:
    put(trajectory, k, 500)
    k += 1
"""


def test_killed_while_writing(tmp_path, world):
    """kill -9 at random moments of a run that does nothing but write, resumed each time."""
    path, script = tmp_path / "t.h5", tmp_path / "writer.py"
    script.write_text(WRITER)
    create(path, world, 500, groups=EVERYTHING).close()
    rng = np.random.default_rng(1)
    count = 0
    for round_ in range(int(os.environ.get("OSTWALD_KILLS", 6))):
        arguments = [sys.executable, script, os.path.dirname(__file__), path, str(10 * count)]
        writer = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"go\n"
        time.sleep(float(rng.uniform(0, 0.1)))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        with h5py.File(path, "r") as file:
            frames = len(file["particles/trajectory/position/value"])
        assert frames >= count
        check(path, frames, 500, start=max(0, count - 1) if round_ % 10 else 0)
        count = max(0, frames - 2)  # the run had its checkpoint a while ago
    assert count > 10


RANKS = """
import os
import sys
sys.path.insert(0, sys.argv[1])
from ostwald.io.h5md import Trajectory
from ostwald.parallel import World
from test_io_h5md import TILTED, frame

world = World()
trajectory = Trajectory.resume(sys.argv[2], world, int(sys.argv[3]))
k = trajectory.frames
pids = world.gather(os.getpid())
if world.root:
    print(*pids, flush=True)
while True:
    ids, by_id = frame(k, 500)
    mine = ids[world.rank :: world.size]
    given = {name: array[mine] for name, array in by_id.items()}
    trajectory.append(10 * k, 0.02 * k, TILTED * (1 + 0.01 * k), [0.0, 0.1, 0.2 * k], mine, **given)
    k += 1
"""


@pytest.mark.skipif(not shutil.which("mpirun"), reason="no mpirun")
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_one_of_two_ranks_killed_while_writing(tmp_path, world, compression):
    path, script = tmp_path / "t.h5", tmp_path / "writer.py"
    script.write_text(RANKS)
    create(path, world, 500, groups=EVERYTHING, compression=compression).close()
    rng = np.random.default_rng(3)
    ours = ("OMPI_COMM", "PMIX_", "OMPI_MCA_orte", "OMPI_MCA_ess")  # what MPI told this process about itself
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = ["mpirun", "--oversubscribe", "-n", "2", sys.executable, script, os.path.dirname(__file__), path]
    count = 0
    for victim in (0, 1):
        run = subprocess.Popen(
            [*command, str(10 * count)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 2
        while len(times(path)) < count + 5:  # read while it grows
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, 0.1)))
        os.kill(pids[victim], signal.SIGKILL)
        run.wait()
        with h5py.File(path, "r") as file:
            frames = len(file["particles/trajectory/position/value"])
        check(path, frames, 500)
        assert frames >= count + 5
        count = frames - 2


def test_full_disk(tmp_path, world):
    """No frame more, one sentence, and all frames before are there; with space again, it goes on."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        path = disk / "t.h5"
        filler = disk / "filler"
        filler.write_bytes(b"x" * (1 << 20))
        trajectory = create(path, world, 2000, groups=EVERYTHING)
        k = 0
        with pytest.raises(
            CollectiveError, match=r"t\.h5: the trajectory did not get step \d+: No space left on device"
        ):
            while True:
                put(trajectory, k, 2000)
                k += 1
        assert 0 < k < 10 and trajectory.frames == k
        check(path, k, 2000)
        filler.unlink()
        put(trajectory, k, 2000)
        trajectory.close()
        check(path, k + 1, 2000)
        filler.write_bytes(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        with pytest.raises(CollectiveError, match="was not created: No space left on device"):
            create(disk / "new.h5", world, 100_000)
        assert not list(disk.glob(".*"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
