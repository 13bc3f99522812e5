"""Structure files in a world of several ranks: rank 0 reads, all have it; errors are everybody's."""

import numpy as np
import pytest

from ostwald.io.rundirectory import RunDirectory
from ostwald.io.structures import Structure, read_structure, write_structure
from ostwald.io.timeseries import TimeSeries, read_series
from ostwald.parallel import CollectiveError, World

pytestmark = pytest.mark.mpi


def test_read_structure(mpi_tmp_path):
    world = World()
    path = mpi_tmp_path / "a.data"
    rng = np.random.default_rng(1)
    s = Structure(
        rng.random((100, 3)) * 7, np.eye(3) * 7, ("Cu", "Zr"), np.arange(100) % 2, velocities=rng.random((100, 3))
    )
    if world.root:
        write_structure(path, s)
    world.barrier()
    found = read_structure(path, world=world)
    assert np.array_equal(found.positions, s.positions) and np.array_equal(found.velocities, s.velocities)
    assert found.species == ("Cu", "Zr") and np.array_equal(found.types, s.types)
    with pytest.raises(CollectiveError, match="no such file"):
        read_structure(mpi_tmp_path / "b.data", world=world)


def test_run_directory(mpi_tmp_path):
    world = World()
    with RunDirectory.create(mpi_tmp_path / "run", world, "text") as run:
        assert run.read_run_file() == "text"
        with pytest.raises(CollectiveError, match="another run is active"):
            RunDirectory.open(run.path, world)
        with TimeSeries.create(run.series_file, world, {"q": ""}) as series:
            row = dict.fromkeys(series.columns, 1.5)
            for step in range(3):
                series.append(**row | {"step": step, "pressure": np.zeros(6), "cell": np.eye(3)})
            with pytest.raises(CollectiveError, match="'q' is missing"):
                series.append(**{name: value for name, value in row.items() if name != "q"})
        with TimeSeries.resume(run.series_file, world, 1) as series:
            assert list(series.columns)[-1] == "q"
        world.barrier()
        assert list(read_series(run.series_file)["step"]) == [0, 1]
    with pytest.raises(CollectiveError, match="holds a run already"):
        RunDirectory.create(mpi_tmp_path / "run", world, "text")
