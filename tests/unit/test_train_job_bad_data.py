"""What a training says about data that are wrong, and does with labels that are missing."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from hdnnp_reference import make_model
from training_systems import nickel

from ostwald.app.jobs import train, training_loop
from ostwald.app.potentials.hdnnp import n2p2
from ostwald.app.runfile import RunFileError
from ostwald.io.datasets import LabelledStructure, write_dataset
from ostwald.parallel import CollectiveError

RUN = """
[job]
kind = "train"
[data]
file = "set.h5"
fraction = 0.2
[[radial]]
cutoff = 4.0
shifted = 4
first = 2.0
[network]
nodes = [4]
[optimiser]
"""


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """Drawing takes longer than these trainings."""
    monkeypatch.setattr(training_loop, "leave_report", lambda world, directory: None)


@pytest.fixture(scope="module")
def clean():
    return nickel()


@pytest.fixture
def job(tmp_path, world):
    """job(structures, more, …): runs a training; tmp_path/run is its directory."""

    def run(structures, more="epochs = 4\n", **replacements):
        write_dataset(tmp_path / "set.h5", structures)
        text = RUN + more
        for old, new in replacements.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "train.toml").write_text(text)
        return train.run(world, tmp_path / "train.toml", tmp_path / "run")

    return run


def refused(job, tmp_path, message, *given, **options):
    with pytest.raises((RunFileError, CollectiveError), match=message) as caught:
        job(*given, **options)
    assert "train.toml" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_labels_that_are_no_numbers_count_for_nothing(job, clean, tmp_path):
    """Some energies, all forces of one structure, those of a few atoms of another."""
    structures = list(clean)
    structures[3] = replace(clean[3], energy=np.nan)
    structures[7] = replace(clean[7], forces=np.full_like(clean[7].forces, np.nan), stress=np.full(6, np.nan))
    structures[11] = replace(
        clean[11], forces=np.where(np.arange(len(clean[11]))[:, None] < 2, np.nan, clean[11].forces)
    )
    assert job(structures) == 0
    log = (tmp_path / "run/log.txt").read_text()
    for text in ("no energy", "no forces", "forces that are no numbers on some of the atoms"):
        assert f"set.h5: {text}" in log
    found = json.loads((tmp_path / "run/errors.json").read_text())
    count = {name: sum(found[part]["all"][name]["number"] for part in found) for name in ("energy", "force", "stress")}
    atoms = sum(map(len, clean))
    assert count == {"energy": 29, "force": 3 * (atoms - len(clean[7]) - 2), "stress": 6 * 29}
    assert np.isfinite([found[part]["all"][name]["rmse"] for part in found for name in count]).all()


@pytest.mark.parametrize("name", ["energy", "forces", "positions"])
def test_infinite_numbers_are_refused(job, clean, tmp_path, name):
    s = clean[5]
    wrong = {"energy": np.inf, "forces": s.forces * -np.inf, "positions": np.full_like(s.positions, np.nan)}[name]
    structures = [*clean[:5], replace(s, **{name: wrong}), *clean[6:]]
    message = r"\[data\] file: .*set.h5: positions or labels of 1 structures are infinite or no numbers .ostwald convert --clean"
    refused(job, tmp_path, message, structures)


def test_an_element_without_data(job, clean, tmp_path):
    """In the validation set only: there are no functions for it. In the potential to go on with only: it is said."""
    atoms = bulk("Cu", cubic=True)
    copper = LabelledStructure(atoms.positions, atoms.numbers, np.array(atoms.cell), True, -14.0, np.zeros((4, 3)))
    write_dataset(tmp_path / "other.h5", [*clean[:3], copper])
    other = {"fraction = 0.2": 'validation = "other.h5"'}
    refused(
        job, tmp_path, r"\[data\] validation: .*no symmetry functions for Cu: there are some for Ni", clean, **other
    )

    n2p2.write(make_model(1, elements=("Ni", "Cu"), kinds=(2,), cutoff=4.0), tmp_path / "both")
    functions = RUN[RUN.index("[[radial]]") : RUN.index("[optimiser]")]
    assert job(clean, **{functions: '[network]\nstart = "both"\n'}) == 0
    assert (
        "no structure of the training set has Cu: its network stays as it is" in (tmp_path / "run/log.txt").read_text()
    )


@pytest.mark.parametrize("unit, factor", [("meV", 1e3), ("kJ/mol", 96.485)])
def test_units_that_look_wrong_are_told(job, clean, tmp_path, unit, factor):
    wrong = [replace(s, energy=factor * s.energy, forces=factor * s.forces, stress=factor * s.stress) for s in clean]
    assert job(wrong, "epochs = 1\n") == 0
    assert "they look like kJ/mol, kcal/mol or meV" in (tmp_path / "run/log.txt").read_text()


def test_too_few_structures(job, clean, tmp_path):
    message = r"\[optimiser\] batch: 8 is more than the training set's 4 structures"
    refused(job, tmp_path, message, clean[:5], 'kind = "adam"\n')
    refused(job, tmp_path, r"\[data\] fraction: .* 1 structures or blocks are too few for a part of 0.2", clean[:1])


def test_an_objective_without_labels(job, clean, tmp_path):
    bare = [replace(s, stress=np.full(6, np.nan)) for s in clean]
    more = 'epochs = 2\n[loss]\nstress = 0\n[validation]\nobjective = "stress"\n'
    message = r"\[validation\] objective: no structure of the validation set has a label for 'stress'"
    refused(job, tmp_path, message, bare, more)


def test_horovod_that_is_missing_is_refused(job, clean, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "horovod.torch", None)
    more = 'kind = "adam"\ncommunication = "horovod"\n'
    with pytest.raises(CollectiveError, match="horovod was asked for, but cannot be used here"):
        job(clean, more)
    assert not (tmp_path / "run").exists()
