"""Data sets: what is written is what is read, views are the whole's rows, bad files are named."""

import h5py
import numpy as np
import pytest

from ostwald.io.datasets import COLUMNS, DataSetError, LabelledStructure, is_dataset, open_dataset, write_dataset


def some_structures(count=7, seed=3):
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        n = int(rng.integers(1, 9))
        found.append(
            LabelledStructure(
                positions=rng.random((n, 3)) * 5,
                numbers=rng.choice([13, 28], n),
                cell=np.eye(3) * 5 + rng.random((3, 3)),
                periodic=rng.random(3) < 0.5,
                energy=None if k == 2 else rng.normal(),
                forces=None if k == 3 else rng.normal(size=(n, 3)),
                stress=None if k == 4 else rng.normal(size=6),
                weight=rng.random(),
                group=f"group {k % 3}",
            )
        )
    return found


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name not in ("group", "periodic", "numbers"))
        for name in COLUMNS
    )


@pytest.fixture
def structures():
    return some_structures()


@pytest.fixture
def dataset(tmp_path, structures):
    write_dataset(tmp_path / "set.h5", structures, provenance={"source": "drawn", "units": ["eV", "Å"]})
    return open_dataset(tmp_path / "set.h5")


def test_written_is_read(dataset, structures):
    assert len(dataset) == len(structures) and dataset.groups == ["group 0", "group 1", "group 2"]
    assert dataset.provenance == {"source": "drawn", "units": ["eV", "Å"]}
    assert all(same(a, b) for a, b in zip(dataset, structures))
    assert np.array_equal(dataset.positions, np.concatenate([s.positions for s in structures]))
    assert np.array_equal(dataset.offsets, np.cumsum([0, *map(len, structures)]))
    assert np.isnan(dataset.energy[2]) and np.isnan(dataset.stress[4]).all() and np.isfinite(dataset.stress[3]).all()
    assert dataset.positions.dtype == float and dataset.numbers.dtype == np.uint8 and dataset.periodic.dtype == bool
    with pytest.raises(IndexError):
        dataset[len(structures)]


def test_arrays_are_mapped_not_copied(dataset):
    assert not dataset.positions.flags.writeable and dataset.positions.base is not None
    view = dataset.select(slice(2, 5))
    assert np.shares_memory(view.positions, dataset.positions)


@pytest.mark.parametrize("chosen", [[3, 0, 3, 6], slice(None, None, -2), np.arange(7) % 2 == 0, []])
def test_views(dataset, structures, chosen):
    numbers = np.arange(7)[chosen] if len(np.arange(7)[chosen]) else []
    view = dataset.select(chosen)
    assert len(view) == len(numbers) and list(view.indices) == list(numbers)
    assert all(same(a, structures[k]) for a, k in zip(view, numbers))
    for name in ("positions", "forces"):
        rows = [getattr(structures[k], name) for k in numbers]
        assert np.array_equal(getattr(view, name), np.concatenate([np.zeros((0, 3)), *rows]), equal_nan=True)
    assert np.array_equal(view.energy, [structures[k].energy for k in numbers], equal_nan=True)
    again = view.select(np.arange(len(view))[::-1])
    assert list(again.indices) == list(numbers)[::-1]
    for k, s in enumerate(view):
        assert np.array_equal(view.positions[view.offsets[k] : view.offsets[k + 1]], s.positions)


def test_composition(dataset, structures):
    assert list(dataset.elements) == [13, 28]
    expected = [[(s.numbers == z).sum() for z in (13, 28)] for s in structures]
    assert np.array_equal(dataset.composition, expected)


@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_shards_are_the_whole(dataset, size):
    shards = [dataset.shard(rank, size) for rank in range(size)]
    assert [i for shard in shards for i in shard.indices] == list(range(len(dataset)))
    limit = dataset.offsets[-1] / size + dataset.counts.max()
    assert max(shard.offsets[-1] for shard in shards) <= limit


def test_a_view_is_written(dataset, tmp_path):
    view = dataset.select([5, 1, 4])
    write_dataset(tmp_path / "part.h5", view)
    part = open_dataset(tmp_path / "part.h5")
    assert part.digest() == view.digest() != dataset.digest()
    assert all(same(a, b) for a, b in zip(part, view))


def test_the_digest_sees_every_array(tmp_path, structures):
    digests = set()
    for name in ("positions", "numbers", "cell", "periodic", "energy", "forces", "stress", "weight", "group"):
        changed = some_structures()
        value = getattr(changed[0], name)
        setattr(changed[0], name, "other" if name == "group" else ~value if name == "periodic" else value + 1)
        write_dataset(tmp_path / "changed.h5", changed)
        digests.add(open_dataset(tmp_path / "changed.h5").digest())
    assert len(digests) == 9


def test_to_ase(structures):
    atoms = structures[0].to_ase()
    assert atoms.get_potential_energy() == structures[0].energy
    assert np.array_equal(atoms.get_stress(), structures[0].stress)
    assert "energy" not in structures[2].to_ase().calc.results


def test_bad_files(tmp_path, dataset):
    path = tmp_path / "bad.h5"
    with pytest.raises(DataSetError, match=r"missing\.h5: no such file"):
        open_dataset(tmp_path / "missing.h5")
    path.write_text("not HDF5")
    assert not is_dataset(path) and is_dataset(dataset.path)
    with pytest.raises(DataSetError, match=r"bad\.h5: cannot be read"):
        open_dataset(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    assert not is_dataset(path)
    with pytest.raises(DataSetError, match="not a data set"):
        open_dataset(path)
    whole = dataset.path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataSetError, match=r"bad\.h5: cannot be read"):
        open_dataset(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["energy"]
        file["energy"] = np.zeros(3)
    with pytest.raises(DataSetError, match=r"bad\.h5: energy is \(3,\)"):
        open_dataset(path)


def test_nothing_is_left_of_a_failed_write(tmp_path):
    with pytest.raises(DataSetError, match="no structure to write"):
        write_dataset(tmp_path / "set.h5", [])

    def failing():
        yield from some_structures(2)
        raise ValueError("the source ended")

    with pytest.raises(DataSetError, match=r"set\.h5: the data set was not written: the source ended"):
        write_dataset(tmp_path / "set.h5", failing())
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataSetError, match="2 positions, but 1 atomic numbers"):
        LabelledStructure(np.zeros((2, 3)), [13], np.eye(3))
