"""Checkpoints: bit for bit, on any rank count, and whatever happens to the file."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from ostwald.io.checkpoint import CheckpointError, list_checkpoints, read_checkpoint, write_checkpoint
from ostwald.parallel import CollectiveError, World

META = {
    "time": 1.5,
    "chain": np.array([1 / 3, np.nan, -0.0]),
    "stage": "hold",
    "none": None,
    "list": [1, 2.5, "x"],
    "n": np.int64(7),
}


@pytest.fixture(scope="module")
def world():
    return World()


def arrays(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "positions": rng.normal(size=(n, 3)),
        "ids": rng.permutation(n),
        "images": rng.integers(-2, 3, (n, 3)).astype(np.int32),
        "virials": rng.normal(size=(n, 6)).astype(np.float32),
        "empty": np.zeros((0, 3)),
    }


def assert_same(a, b):
    assert set(a) == set(b)
    for name in a:
        assert (
            a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() and a[name].shape == b[name].shape
        )


def test_bitwise_round_trip(tmp_path, world):
    data = arrays()
    path = write_checkpoint(tmp_path, world, data, META, 10)
    found = read_checkpoint(tmp_path, world)
    assert_same(data, found.arrays)
    assert (found.path, found.step, found.ranks, found.same_ranks, found.messages) == (path, 10, 1, True, ())
    assert found.meta["chain"].tobytes() == META["chain"].tobytes()
    assert {k: v for k, v in found.meta.items() if k != "chain"} == {k: v for k, v in META.items() if k != "chain"}
    (info,) = list_checkpoints(tmp_path, verify=True)
    assert (info.step, info.time, info.rows, info.ranks, info.valid, info.size) == (
        10,
        1.5,
        1000,
        1,
        True,
        path.stat().st_size,
    )


def test_two_generations(tmp_path, world):
    for step in (10, 20, 30, 40):
        write_checkpoint(tmp_path, world, arrays(seed=step), {}, step)
    assert [i.step for i in list_checkpoints(tmp_path)] == [30, 40]
    (tmp_path / "note.txt").write_text("not ours")
    (tmp_path / ".checkpoint-000000000050.h5.part").write_text("left by a killed run")
    write_checkpoint(tmp_path, world, arrays(seed=1), {}, 40)  # the same step again
    assert_same(arrays(seed=1), read_checkpoint(tmp_path, world).arrays)
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint-000000000030.h5",
        "checkpoint-000000000040.h5",
        "note.txt",
    }
    # the run went back to 30 and forward again: 40 is a future that never was
    write_checkpoint(tmp_path, world, arrays(seed=2), {}, 35)
    assert [i.step for i in list_checkpoints(tmp_path)] == [30, 35]


def test_every_damage_is_noticed(tmp_path, world):
    older, newer = arrays(40, 1), arrays(40, 2)
    write_checkpoint(tmp_path, world, older, {"time": 1.0}, 10)
    path = write_checkpoint(tmp_path, world, newer, META, 20)
    good = path.read_bytes()
    rng = np.random.default_rng(5)
    unnoticed = 0
    places = [int(k) for k in rng.integers(0, len(good), 400)]
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found = read_checkpoint(tmp_path, world)
        if found.step == 10:
            assert_same(older, found.arrays)
            assert len(found.messages) == 1 and str(path) in found.messages[0] and "not used" in found.messages[0]
        else:  # a byte that means nothing: then nothing may be different
            assert_same(newer, found.arrays)
            assert found.meta["chain"].tobytes() == META["chain"].tobytes() and found.meta["stage"] == "hold"
            unnoticed += 1
    assert unnoticed < len(places) / 2
    for length in [0, 1, 100, len(good) // 3, len(good) // 2, len(good) - 1]:
        path.write_bytes(good[:length])
        found = read_checkpoint(tmp_path, world)
        assert found.step == 10 and str(path) in found.messages[0]
        assert [i.valid for i in list_checkpoints(tmp_path)] == [True, False]


def test_bit_flip_in_data_names_the_array(tmp_path, world):
    path = write_checkpoint(tmp_path, world, arrays(), {}, 10)
    with h5py.File(path, "r") as file:
        offset = file["data/positions"].id.get_offset()
    with open(path, "r+b") as file:
        file.seek(offset + 1234)
        byte = file.read(1)[0]
        file.seek(offset + 1234)
        file.write(bytes([byte ^ 16]))
    assert list_checkpoints(tmp_path)[0].valid  # the quick look does not read the arrays
    (info,) = list_checkpoints(tmp_path, verify=True)
    assert not info.valid and info.reason == f"{path}: positions is damaged (checksum of rank 0)"
    with pytest.raises(CheckpointError, match=r"no valid checkpoint .*positions is damaged"):
        read_checkpoint(tmp_path, world)
    with pytest.raises(CheckpointError, match="positions is damaged"):
        read_checkpoint(tmp_path, world, path)


def test_none_and_newer(tmp_path, world):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_checkpoint(tmp_path, world)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "missing", world)


def test_what_cannot_be_stored(tmp_path, world):
    write_checkpoint(tmp_path, world, arrays(), {}, 10)
    for bad in ({"f": print}, {1: 2}):
        with pytest.raises(CollectiveError, match="meta data"):
            write_checkpoint(tmp_path, world, arrays(), bad, 20)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000000000010.h5"]


def test_missing_directory(tmp_path, world):
    with pytest.raises(CollectiveError, match=r"checkpoint-0+10\.h5: the checkpoint was not written: No such file"):
        write_checkpoint(tmp_path / "no", world, arrays(), {}, 10)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_full_disk(small_disk, world):
    write_checkpoint(small_disk, world, arrays(1000), {}, 10)
    for free in (None, 4096, 0):
        if free is not None:
            filler = small_disk / "filler"
            descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
            with pytest.raises(OSError):
                while True:
                    os.write(descriptor, b"x" * 4096)
            os.close(descriptor)
            os.truncate(filler, filler.stat().st_size - free)
        with pytest.raises(
            CollectiveError, match=r"checkpoint-0+20\.h5: the checkpoint was not written: No space left on device"
        ):
            write_checkpoint(small_disk, world, arrays(100_000), {}, 20)
        assert not list(small_disk.glob(".*"))
        assert_same(arrays(1000), read_checkpoint(small_disk, world).arrays)


def test_unwritable_directory(small_disk, world):
    write_checkpoint(small_disk, world, arrays(100), {}, 10)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(CollectiveError, match="the checkpoint was not written: Read-only file system"):
        write_checkpoint(small_disk, world, arrays(100), {}, 20)
    assert_same(arrays(100), read_checkpoint(small_disk, world).arrays)


WRITER = """
import sys
import numpy as np
from ostwald.io.checkpoint import write_checkpoint
from ostwald.parallel import World

world = World()
data = {"x": np.zeros((20000, 3)), "ids": np.arange(20000)}
step = int(sys.argv[2])
print("go", flush=True)
while True:
    step += 1
    data["x"][:] = step
    write_checkpoint(sys.argv[1], world, data, {"step": step}, step)
"""


def test_killed_while_writing(tmp_path, world):
    """kill -9 at random moments: what is found is whole, and never older than two checkpoints."""
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    directory = tmp_path / "checkpoints"
    directory.mkdir()
    write_checkpoint(directory, world, {"x": np.zeros((20000, 3)), "ids": np.arange(20000)}, {"step": 0}, 0)
    rng = np.random.default_rng(1)
    last = 0
    rounds = int(os.environ.get("OSTWALD_KILLS", 8))
    for _ in range(rounds):
        writer = subprocess.Popen([sys.executable, script, directory, str(last)], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"go\n"
        time.sleep(float(rng.uniform(0, 0.05)))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        found = read_checkpoint(directory, world)
        assert found.messages == ()
        assert found.step >= last and found.meta["step"] == found.step
        assert np.all(found.arrays["x"] == found.step) and np.array_equal(found.arrays["ids"], np.arange(20000))
        last = found.step
    assert last > 0
