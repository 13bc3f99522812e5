"""Profiles over time: written row by row, continued behind a checkpoint, read at any time."""

import h5py
import numpy as np
import pytest

from ostwald.io.profiles import ProfileFile, ProfilesError, profiles_info, read_profiles
from ostwald.parallel import CollectiveError, World


def test_written_continued_and_read(tmp_path):
    path, world = tmp_path / "profiles.h5", World()
    k, values = np.linspace(0.1, 3, 40), np.random.default_rng(1).random((30, 40))
    with ProfileFile.create(path, world, {"wave_number": k, "modes": np.arange(40)}, {"structure_factor": 40}) as file:
        assert profiles_info(path) == "profiles, 0 rows; structure_factor (40)"
        for step in range(20):
            file.append(step, 0.5 * step, structure_factor=values[step])
        rows, over = read_profiles(path)  # while it is open
        assert (
            len(rows) == 20 and np.array_equal(over["modes"], np.arange(40)) and np.array_equal(over["wave_number"], k)
        )
        file.sync()
    with ProfileFile.resume(path, world, 10) as file:
        for step in range(11, 30):
            file.append(step, 0.5 * step, structure_factor=values[step])
        with pytest.raises(CollectiveError, match="do not have the fields"):
            file.append(31, 1.0, structure_factor=values[0, :20])
    rows, _ = read_profiles(path)
    assert rows["step"].tolist() == list(range(30)) and np.array_equal(rows["structure_factor"], values)
    assert "30 rows, steps 0 to 29, time 14.5" in profiles_info(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    assert profiles_info(tmp_path / "other.h5") is None
    with pytest.raises(ProfilesError, match="not a file of profiles"):
        read_profiles(tmp_path / "other.h5")
    with pytest.raises(CollectiveError, match=r"other\.h5"):
        ProfileFile.resume(tmp_path / "other.h5", world, 3)
