"""The file of nuclei is whole after any write at which the writer may be killed, and goes on from there."""

import shutil

import h5py
import numpy as np
import pytest

from ostwald.app.analysis.nuclei import EVENT
from ostwald.io.nuclei import NucleiError, NucleiFile, nuclei_info, read_nuclei
from ostwald.io.shared import SharedFile
from ostwald.parallel import CollectiveError, World

ROW = np.dtype(
    [
        ("step", "i8"),
        ("time", "f8"),
        ("number", "i8"),
        ("size", "i8"),
        ("composition", "i8", (70,)),
        ("spans", "i1", (3,)),
    ]
)


@pytest.fixture(scope="module")
def world():
    return World()


def rows(step, count):
    """More of them than a chunk holds."""
    values = np.zeros(count, ROW)
    values["step"], values["time"] = step, 0.1 * step
    values["number"], values["size"] = np.arange(count), 7 * step + np.arange(count)
    values["composition"] = np.arange(70) + step
    return values


def events(step, count):
    values = np.zeros(count, EVENT)
    values["step"], values["number"] = step, 100 * step + np.arange(count)
    return values


class Killed(BaseException):
    pass


def test_killed_at_any_write(tmp_path, world, monkeypatch):
    path = tmp_path / "nuclei.h5"
    with NucleiFile.create(path, world, ROW, EVENT, {"labels": ["other", "fcc"], "smallest": 20}) as file:
        for step in range(3):
            file.append(rows(step, 170), events(step, 5))
    before = rows(0, 170), rows(1, 170), rows(2, 170)
    whole = np.concatenate([*before, rows(3, 300)])
    original, last = SharedFile.write, False
    for limit in range(200):
        copy = tmp_path / "copy.h5"
        shutil.copy(path, copy)
        file, writes = NucleiFile.resume(copy, world, 2), 0

        def write(self, offset, data, limit=limit):
            nonlocal writes
            view = memoryview(data.reshape(-1).view(np.uint8) if isinstance(data, np.ndarray) else data)
            if writes == limit:  # half of a write that is longer than one number
                if len(view) > 8:
                    original(self, offset, bytes(view[: len(view) // 2]))
                raise Killed
            writes += 1
            original(self, offset, data)

        monkeypatch.setattr(SharedFile, "write", write)
        try:
            file.append(rows(3, 300), events(3, 1300))
            last = True
        except Killed:
            pass
        monkeypatch.setattr(SharedFile, "write", original)
        file.close()
        found, happened, _ = read_nuclei(copy)
        assert 510 <= len(found) <= 810 and 15 <= len(happened) <= 1315
        np.testing.assert_array_equal(found, whole[: len(found)])
        assert (happened["step"][15:] == 3).all()
        with NucleiFile.resume(copy, world, 2) as again:
            again.append(rows(3, 300), events(3, 1300))
        found, happened, notes = read_nuclei(copy)
        np.testing.assert_array_equal(found, whole)
        np.testing.assert_array_equal(happened[15:], events(3, 1300))
        assert notes == {"labels": ["other", "fcc"], "smallest": 20}
        if last:
            break
    assert last and limit > 10


def test_mistakes(tmp_path, world):
    path = tmp_path / "nuclei.h5"
    with (
        NucleiFile.create(path, world, ROW, EVENT) as file,
        pytest.raises(CollectiveError, match="do not have the fields"),
    ):
        file.append(np.zeros(3, EVENT), np.zeros(0, EVENT))
    assert nuclei_info(path) == "nuclei, 0 rows, 0 events"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["series"] = np.zeros(3)
    assert nuclei_info(tmp_path / "other.h5") is None
    with pytest.raises(NucleiError, match=r"other\.h5: not a file of nuclei"):
        read_nuclei(tmp_path / "other.h5")
    with pytest.raises(NucleiError, match=r"none\.h5"):
        read_nuclei(tmp_path / "none.h5")
    with pytest.raises(CollectiveError, match=r"other\.h5"):
        NucleiFile.resume(tmp_path / "other.h5", world, 3)
