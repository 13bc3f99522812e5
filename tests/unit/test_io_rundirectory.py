"""The run directory and its lock."""

import json
import signal
import subprocess
import sys

import pytest

from ostwald.io.lock import RunLock
from ostwald.io.rundirectory import RunDirectory
from ostwald.parallel import CollectiveError, World

HOLD = """
import sys
from ostwald.io.lock import RunLock
from ostwald.parallel import World
lock = RunLock(sys.argv[1], World())
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def world():
    return World()


def test_lock_refuses_a_second_run_and_dies_with_the_first(tmp_path, world):
    script = tmp_path / "hold.py"
    script.write_text(HOLD)
    for end in (signal.SIGKILL, signal.SIGTERM):
        first = subprocess.Popen([sys.executable, script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(
            CollectiveError, match=rf"another run is active in this directory \(process {first.pid} on "
        ):
            RunLock(tmp_path, world)
        first.send_signal(end)
        first.wait()
        with RunLock(tmp_path, world) as lock, pytest.raises(CollectiveError, match="another run is active"):
            RunLock(lock.path.parent, world)


def test_create_refuse_resume(tmp_path, world):
    path = tmp_path / "a" / "run"
    with RunDirectory.create(path, world, "[job]\nkind = 'md'\n") as run:
        world.log("first line")
        run.write_json(run.timing_file, {"steps": 3})
        with pytest.raises(CollectiveError, match="another run is active"):
            RunDirectory.open(path, world)
    assert not world.log.files
    with pytest.raises(CollectiveError, match=r"run: holds a run already \(run\.toml\); resume it"):
        RunDirectory.create(path, world, "x")
    with RunDirectory.open(path, world) as run:
        assert run.read_run_file() == "[job]\nkind = 'md'\n"
        world.log("second line")
    assert (path / "log.txt").read_text() == "first line\nsecond line\n"
    starts = json.loads((path / "provenance.json").read_text())
    assert len(starts) == 2 and starts[0]["ranks"] == 1 and starts[0]["versions"]["numpy"] and starts[0]["mpi"]
    assert json.loads((path / "timing.json").read_text()) == {"steps": 3}
    (path / "mine.txt").write_text("kept")
    with RunDirectory.create(path, world, "y", overwrite=True) as run:
        assert run.read_run_file() == "y" and not run.timing_file.exists()
    assert (path / "mine.txt").read_text() == "kept"


def test_not_a_run(tmp_path, world):
    with pytest.raises(CollectiveError, match="no such directory"):
        RunDirectory.open(tmp_path / "no", world)
    with pytest.raises(CollectiveError, match="not a run directory"):
        RunDirectory.open(tmp_path, world)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(CollectiveError, match="file/run: Not a directory"):
        RunDirectory.create(tmp_path / "file" / "run", world, "")
