"""Time series: HDF5 and CSV agree, rows are neither lost nor doubled, and a kill leaves whole files."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from ostwald.io.timeseries import COLUMNS, SeriesError, TimeSeries, read_series, series_info, series_units
from ostwald.parallel import CollectiveError, World


@pytest.fixture(scope="module")
def world():
    return World()


def row(k):
    values = {name: 0.1 * k + n for n, name in enumerate(COLUMNS)}
    return {
        **values,
        "step": 10 * k,
        "pressure": np.arange(6) + k,
        "cell": np.eye(3) * (k + 1 / 3),
        "solid_fraction": k / 7,
    }


def check(path, count):
    for file in (path, path.with_suffix(".csv")):
        series = read_series(file)
        assert len(series) == count
        for k in range(count):
            for name, value in row(k).items():
                assert np.array_equal(np.ravel(series[name][k]), np.ravel(value)), (file, k, name)


def test_both_files(tmp_path, world):
    path = tmp_path / "series.h5"
    with TimeSeries.create(path, world, {"solid_fraction": ""}) as series:
        check(path, 0)
        for k in range(200):  # more than a chunk
            series.append(**row(k))
            if k < 3:
                check(path, k + 1)
        series.sync()
    check(path, 200)
    assert series_units(path)["pressure"] == "GPa" and series_units(path)["solid_fraction"] == ""
    header = path.with_suffix(".csv").read_text().splitlines()[0]
    assert header.startswith("step,time [ps],temperature [K],") and ",pressure_xy [GPa],cell_ax [Angstrom]," in header
    assert not list(tmp_path.glob(".*"))
    assert series_info(path).startswith("time series, 200 rows, steps 0 to 1990, 20.9 ps; step, time, temperature")


def test_resume(tmp_path, world):
    path = tmp_path / "series.h5"
    with TimeSeries.create(path, world, {"solid_fraction": ""}) as series:
        for k in range(150):
            series.append(**row(k))
    with open(path.with_suffix(".csv"), "a") as file:
        file.write("1500,0.3,12")  # as a kill leaves it
    check(path, 150)
    for step, keep in ((1055, 106), (0, 1), (-1, 0)):
        with TimeSeries.resume(path, world, step) as series:
            check(path, keep)
            for k in range(keep, 150):
                series.append(**row(k))
        check(path, 150)


def test_mistakes(tmp_path, world):
    path = tmp_path / "series.h5"
    with TimeSeries.create(path, world) as series:
        with pytest.raises(CollectiveError, match="column 'q6' is not declared"):
            series.append(q6=1.0)
        with pytest.raises(CollectiveError, match="column 'step' is missing"):
            series.append(time=1.0)
    check(path, 0)
    with pytest.raises(
        CollectiveError, match=r"no/series\.csv.*: the time series was not created: No such file|series\.h5"
    ):
        TimeSeries.create(tmp_path / "no" / "series.h5", world)
    (tmp_path / "x.h5").write_text("nothing")
    with pytest.raises(SeriesError, match=r"x\.h5"):
        read_series(tmp_path / "x.h5")
    with pytest.raises(CollectiveError, match=r"x\.h5: not a time series"):
        TimeSeries.resume(tmp_path / "x.h5", world, 0)


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from ostwald.io.timeseries import TimeSeries
from ostwald.parallel import World
from test_io_timeseries import row

series = TimeSeries.resume(sys.argv[2], World(), int(sys.argv[3]))
k = int(sys.argv[3]) // 10 + 1
print("go", flush=True)
while True:
    series.append(**row(k))
    k += 1
"""


def test_killed_while_writing(tmp_path, world):
    path, script = tmp_path / "series.h5", tmp_path / "writer.py"
    script.write_text(WRITER)
    TimeSeries.create(path, world, {"solid_fraction": ""}).close()
    rng = np.random.default_rng(2)
    last = -1
    for _ in range(int(os.environ.get("OSTWALD_KILLS", 5))):
        arguments = [sys.executable, script, os.path.dirname(__file__), path, str(10 * last)]
        writer = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"go\n"
        time.sleep(float(rng.uniform(0, 0.05)))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        with h5py.File(path, "r") as file:
            series = file["series"][:]
        text = read_series(path.with_suffix(".csv"))
        assert np.array_equal(series["step"], 10 * np.arange(len(series))) and len(series) > last
        assert len(series) - len(text) in (0, 1) and np.array_equal(text, series[: len(text)])
        for k in range(max(0, last), len(series)):
            assert np.array_equal(series["cell"][k], row(k)["cell"].ravel())
        last = max(len(series) - 3, -1)  # a writer may be killed before its first row
    assert last > 0


def test_full_disk(tmp_path, world):
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        path = disk / "series.h5"
        series = TimeSeries.create(path, world, {"solid_fraction": ""})
        k = 0
        with pytest.raises(CollectiveError, match="the time series did not get a row: No space left on device"):
            while True:
                series.append(**row(k))
                k += 1
        rows = read_series(path)
        assert 10 < k <= len(rows) <= k + 1 and np.array_equal(rows["step"], 10 * np.arange(len(rows)))
        assert np.array_equal(read_series(path.with_suffix(".csv")), rows[:k])
        series.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
