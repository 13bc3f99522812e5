"""Model files: as written, whole or not at all, and never used when damaged."""

import errno
import json
import os

import h5py
import numpy as np
import pytest

from ostwald.io.modelfile import ModelFileError, model_kind, read_model, write_model

DESCRIPTION = {"species": ["Ni", "Al"], "cutoff": 0.1 + 0.2, "none": None, "nested": {"a": [1, 2.5, "ü"]}, "on": True}


def arrays():
    rng = np.random.default_rng(5)
    return {
        "weights": rng.normal(size=(5, 7)),
        "single": rng.normal(size=(3, 2, 4)).astype(np.float32),
        "swapped": rng.normal(size=4).astype(">f8"),
        "strided": np.arange(24).reshape(4, 6)[:, ::2],
        "mask": np.array([True, False]),
        "nothing": np.empty((0, 3)),
        "number": np.float64(-0.0),
        "not.finite": np.array([np.nan, np.inf, -0.0]),
    }


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "a.ostwald"
    return path, write_model(path, "hdnnp", DESCRIPTION, arrays(), {"made": "here", "versions": {"numpy": "1"}})


def test_as_written(written):
    path, found = written
    model = read_model(path)
    assert (model.kind, model.description, model.hash) == ("hdnnp", DESCRIPTION, found) and len(found) == 64
    assert model.provenance == {"made": "here", "versions": {"numpy": "1"}}
    assert set(model.arrays) == set(arrays())
    for name, array in arrays().items():
        read = model.arrays[name]
        assert np.shape(read) == np.shape(array)
        assert np.asarray(read).astype(array.dtype).tobytes() == np.asarray(array).tobytes(), name
    assert list(path.parent.iterdir()) == [path]  # nothing temporary is left


def test_hash_is_of_the_model(tmp_path, written):
    """Not of provenance, file name or the order in which it was put together; but of every bit of the rest."""
    _, found = written
    other = tmp_path / "b.ostwald"
    backwards = dict(reversed(list(arrays().items())))
    assert write_model(other, "hdnnp", dict(reversed(DESCRIPTION.items())), backwards, {"made": "there"}) == found
    different = [("crnn", DESCRIPTION, arrays()), ("hdnnp", DESCRIPTION | {"on": False}, arrays())]
    for name, change in (("weights", 1e-16), ("single", 1e-7), ("nothing", None)):
        mine = arrays()
        if change is None:
            mine[name] = np.empty((0, 4))
        else:
            mine[name].reshape(-1)[0] += 8 * change * abs(mine[name].reshape(-1)[0])
        different.append(("hdnnp", DESCRIPTION, mine))
    renamed = arrays()
    renamed["weight"] = renamed.pop("weights")
    different.append(("hdnnp", DESCRIPTION, renamed))
    hashes = {write_model(other, *each, {}) for each in different}
    assert len(hashes | {found}) == len(different) + 1


def test_kind_of_a_file(tmp_path, written):
    assert model_kind(written[0]) == "hdnnp"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "text").write_text("hdnnp")
    for path in (tmp_path / "other.h5", tmp_path / "text", tmp_path, tmp_path / "missing"):
        assert model_kind(path) is None
        with pytest.raises(ModelFileError, match=rf"^{path}: (not a|no such) "):
            read_model(path)


def test_newer_format(written):
    path, _ = written
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":7', 1))
    with pytest.raises(ModelFileError, match=rf"^{path}: written by a newer version \(format 7, known 1\)$"):
        read_model(path)


def test_damage_is_found(written):
    """No changed or lost byte goes unnoticed, whatever HDF5 would make of it; the file is refused in one sentence."""
    path, _ = written
    whole = path.read_bytes()
    used = whole.index(b"\0")  # of the header; behind it is padding
    for at in [*range(used), *range(512, len(whole), 7)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        with pytest.raises(ModelFileError, match=rf"^{path}: .*(damaged|newer)[^\n]*$"):
            read_model(path)
    for length in (0, 10, 100, 512, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="damaged"):
            read_model(path)


def test_other_programs_read_the_arrays(written):
    """It is an HDF5 file with a user block."""
    path, _ = written
    with h5py.File(path, "r") as file:
        assert file.userblock_size == 512
        assert np.array_equal(file["arrays/weights"][()], arrays()["weights"])
        assert json.loads(file["description"][()].tobytes()) == DESCRIPTION


def test_failed_writing_leaves_the_earlier_model(written, monkeypatch):
    path, found = written

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileError, match=rf"^{path}: the model was not written: No space left on device$"):
        write_model(path, "hdnnp", {}, {}, {})
    assert read_model(path).hash == found and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "description, arrays, message",
    [
        ({"x": object()}, {}, "a object has no place in its description"),
        ({"x": np.zeros(2)}, {}, "a ndarray has no place"),
        ({}, {"a/b": np.zeros(2)}, "an array cannot be named 'a/b'"),
        ({}, {"x": np.array(["text"])}, "x is not an array of numbers"),
    ],
)
def test_what_cannot_be_written(tmp_path, description, arrays, message):
    path = tmp_path / "m.ostwald"
    with pytest.raises(ModelFileError, match=rf"^{path}: the model was not written: .*{message}"):
        write_model(path, "hdnnp", description, arrays, {})
    assert not list(tmp_path.iterdir())
    missing = tmp_path / "folder" / "m.ostwald"
    with pytest.raises(ModelFileError, match="No such file or directory"):
        write_model(missing, "hdnnp", {}, {}, {})


def test_numbers_of_numpy_in_the_description(tmp_path):
    path = tmp_path / "m.ostwald"
    write_model(path, "crnn", {"a": np.float64(0.1), "b": np.int32(3), "c": float("nan")}, {}, {"d": np.bool_(True)})
    model = read_model(path)
    assert json.dumps(model.description) == '{"a": 0.1, "b": 3, "c": NaN}' and model.provenance == {"d": True}
