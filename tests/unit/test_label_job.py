"""The labelling job: what it makes is what was asked for, with the teacher's labels; interrupted or not, the same set."""

import numpy as np
import pytest
from ase.calculators.emt import EMT

from ostwald.app import potentials
from ostwald.app.cli import main
from ostwald.app.runfile import RunFileError, validate
from ostwald.app.training.checks import check, consistency
from ostwald.app.training.generate import Recipe
from ostwald.io.datasets import open_dataset
from ostwald.io.labelled import write_labelled

RUN = """
[job]
kind = "label"
title = "a test"
seed = 4

[teacher]
file = "zhou:Al"

[[set]]
name = "volume"
kind = "strained"
lattice = "fcc"
a = 4.05
species = ["Al"]
modes = ["isotropic", "xy"]
strain = 0.1
count = 5

[[set]]
name = "rattled"
kind = "rattled"
lattice = "fcc"
a = 4.05
species = ["Al"]
cells = [2, 2, 2]
vacancies = 0.04
volume = [0.9, 1.1]
rattle = 0.2
strain = 0.05
count = 6

[[set]]
name = "melt"
kind = "snapshots"
lattice = "fcc"
a = 4.2
species = ["Al"]
cells = [2, 2, 2]
melt = 4000
melt_time = 0.1
temperature = [1500, 500]
time = 0.1
snapshots = 3
count = 2

[[set]]
name = "packings"
kind = "packing"
species = ["Al"]
atoms = 8
per_atom = [18, 24]
gap = 2.0
relax = 2
count = 3

[[set]]
name = "dimers"
kind = "dimers"
species = ["Al"]
distances = [2.0, 5.0]
count = 4
"""


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("label") / "al.toml"
    path.write_text(RUN)
    return path


@pytest.fixture(scope="module")
def made(run_file):
    assert main(["run", str(run_file), "-d", str(run_file.parent / "whole")]) == 0
    return open_dataset(run_file.parent / "whole" / "labelled.dataset")


def group(ds, name):
    return ds.select(ds.group == ds.groups.index(name))


def test_what_was_asked_for(made, run_file):
    assert made.groups == ["volume", "rattled", "melt", "packings", "dimers"]
    assert list(np.bincount(made.group)) == [10, 6, 6, 3, 4]
    volume = group(made, "volume")
    strained = [np.linalg.solve(4.05 * np.eye(3), s.cell) - np.eye(3) for s in volume]
    assert np.allclose([e[0, 0] for e in strained[:5]], np.linspace(-0.1, 0.1, 5))
    assert np.allclose([e[0, 1] for e in strained[5:]], np.linspace(-0.1, 0.1, 5))
    assert volume.energy[:5].argmin() == 2 and volume.energy[5:].argmin() == 2
    rattled = group(made, "rattled")
    assert set(rattled.counts) == {31}  # a vacancy of 32
    assert np.all((rattled.volume / 4.05**3 / 8 > 0.9 * 0.85) & (rattled.volume / 4.05**3 / 8 < 1.1 * 1.16))
    melt = group(made, "melt")
    assert len(np.unique(melt.energy)) == 6 and np.sqrt(np.mean(melt.forces**2)) > 0.3
    packings = check(group(made, "packings"))
    assert packings.nearest.min() > 1.6 and not list(packings.repeated)
    assert np.all((group(made, "packings").volume / 8 >= 18) & (group(made, "packings").volume / 8 <= 24))
    dimers = group(made, "dimers")
    apart = [np.linalg.norm(s.positions[1] - s.positions[0]) for s in dimers]
    assert np.allclose(apart, np.linspace(2, 5, 4)) and not dimers.periodic.any()
    assert made.provenance["teacher"] == "zhou:Al" and made.provenance["seed"] == 4
    assert not list((run_file.parent / "whole" / "parts").iterdir())


def test_labels_are_the_teacher_s(made):
    calculator = potentials.load("zhou:Al").ase()
    for s in made.select(slice(None, None, 4)):
        atoms = s.to_ase()
        atoms.calc = calculator
        assert np.isclose(atoms.get_potential_energy(), s.energy, rtol=0, atol=1e-10)
        assert np.allclose(atoms.get_forces(), s.forces, rtol=0, atol=1e-10)
        if s.periodic.all():
            assert np.allclose(atoms.get_stress(), s.stress, rtol=0, atol=1e-12)
        else:
            assert np.isnan(s.stress).all()
    assert not consistency(made)


CALCULATOR = """
import os, signal
from pathlib import Path
from ostwald.app import potentials

class Dying:
    # stops the run once, after some structures
    calls = 0

def make():
    calculator = potentials.load("zhou:Al").ase()
    inner, flag = calculator.calculate, Path("{flag}")
    def calculate(*arguments, **options):
        Dying.calls += 1
        if Dying.calls == {after} and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(*arguments, **options)
    calculator.calculate = calculate
    return calculator
"""


@pytest.mark.parametrize("after", [20, 60, 110])
def test_interrupted_and_resumed_is_the_same(made, run_file, tmp_path, after, capsys):
    """SIGTERM among single structures, or within a trajectory; the driver's seeds belong to the pieces."""
    (tmp_path / "slow.py").write_text(CALCULATOR.format(flag=tmp_path / "asked", after=after))
    path = tmp_path / "run.toml"
    path.write_text(RUN.replace('file = "zhou:Al"', 'calculator = "slow.py:make"'))
    directory = tmp_path / "run"
    assert main(["run", str(path), "-d", str(directory)]) == 85
    said = capsys.readouterr().out
    assert "stopped: SIGTERM" in said and "To go on: ostwald resume" in said
    assert not (directory / "labelled.dataset").exists()
    path.unlink()
    (tmp_path / "slow.py").unlink()  # the run directory has what it needs
    assert main(["resume", str(directory)]) == 0
    resumed = open_dataset(directory / "labelled.dataset")
    assert resumed.digest() == made.digest()
    capsys.readouterr()
    assert main(["resume", str(directory)]) == 0
    assert "complete" in capsys.readouterr().out
    assert main(["info", str(directory)]) == 0
    assert "finished with 25 of 25 pieces: 29 structures" in capsys.readouterr().out
    assert main(["report", str(directory)]) == 1
    assert "a labelling run has no page" in capsys.readouterr().err


def test_any_calculator_and_files_to_begin_from(tmp_path, made):
    """An ASE calculator labels what a potential moved; a file is labelled anew; what is too close is left out."""
    write_labelled(tmp_path / "some.xyz", group(made, "rattled"))
    (tmp_path / "run.toml").write_text(
        """
        [job]
        kind = "label"
        [teacher]
        calculator = "ase.calculators.emt:EMT"
        [driver]
        file = "zhou:Al"
        [keep]
        distance = 1.9
        [[set]]
        name = "again"
        kind = "given"
        file = "some.xyz"
        [[set]]
        name = "moved"
        kind = "snapshots"
        file = "some.xyz"
        temperature = 300
        time = 0.02
        snapshots = 2
        count = 2
        """
    )
    assert main(["run", str(tmp_path / "run.toml"), "-d", str(tmp_path / "run")]) == 0
    ds = open_dataset(tmp_path / "run" / "labelled.dataset")
    start = group(made, "rattled")
    nearest = check(start).nearest
    kept = [k for k in range(6) if nearest[k] >= 1.9]
    again = group(ds, "again")
    assert 0 < len(again) == len(kept) <= 6
    assert np.allclose(again[0].positions, start[kept[0]].positions, atol=1e-8)
    atoms = again[0].to_ase()
    atoms.calc = EMT()
    assert np.isclose(atoms.get_potential_energy(), again.energy[0], atol=1e-10)
    assert np.allclose(atoms.get_forces(), again[0].forces, atol=1e-10)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('file = "zhou:Al"', "", "[teacher]: give either file (a potential) or calculator"),
        ('file = "zhou:Al"', 'file = "zhou:Cu"', "[set 1] 'volume': "),
        ('file = "zhou:Al"', 'calculator = "nothing.here:make"', "[teacher] calculator: 'nothing.here:make' makes no"),
        ('file = "zhou:Al"', 'calculator = "make"', "'make' is neither MODULE:NAME nor FILE.py:NAME"),
        ('file = "zhou:Al"', 'calculator = "os:getpid"', "makes a int, not an ASE calculator"),
        ("gap = 2.0", "gap = 5.0", "[set 4] 'packings': atoms 5 Å apart cannot be put at random"),
        ("distances = [2.0, 5.0]", "distances = [5.0, 2.0]", "[set 5] distances: is a range"),
        ("distances = [2.0, 5.0]", "", "[set 5] distances: is required for kind = 'dimers'"),
        ("relax = 2", "relax = 2\nmelt = 300", "[set 4] melt: has no effect with kind = 'packing'"),
        ("melt = 4000", "", "[set 3] melt: needs melt_time"),
        ('lattice = "fcc"\na = 4.2', "a = 4.2", "[set 3]: give either file or lattice"),
        ('kind = "dimers"', 'kind = "trimers"', "[set 5] kind: 'trimers' is not known"),
    ],
)
def test_bad_run_files(tmp_path, capsys, old, new, message):
    assert old in RUN
    path = tmp_path / "bad.toml"
    path.write_text(RUN.replace(old, new, 1))
    assert main(["run", str(path), "-d", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert message in said and "bad.toml" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_check_and_info(run_file, capsys):
    assert main(["check", str(run_file)]) == 0
    said = capsys.readouterr().out
    assert "melt: 6 structures of 32 atoms, 206 evaluations" in said and "all: 29 structures" in said
    assert main(["info", str(run_file)]) == 0
    assert "dimers: 4 dimers, Al" in capsys.readouterr().out


def test_a_failing_teacher_names_the_structure(tmp_path, capsys):
    (tmp_path / "c.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "class Failing(EMT):\n"
        "    def calculate(self, atoms=None, *arguments, **options):\n"
        "        if len(atoms) == 2 and 2.5 < atoms.get_distance(0, 1) < 3.5:\n"
        "            raise RuntimeError('not converged')\n"
        "        super().calculate(atoms, *arguments, **options)\n"
    )
    path = tmp_path / "run.toml"
    path.write_text(RUN.replace('file = "zhou:Al"', 'calculator = "c.py:Failing"'))
    assert main(["run", str(path), "-d", str(tmp_path / "run")]) == 1
    assert "[set 5] 'dimers', piece 1: RuntimeError: not converged" in capsys.readouterr().err
    assert list((tmp_path / "run" / "parts").glob("part-*"))  # what was labelled before is not lost


def test_alloys(tmp_path, world):
    """Compositions are exact, sites and counts random, pairs of dimers complete."""
    from ostwald.app.jobs.label_schema import SET

    def recipe(**keys):
        table = validate({"set": [dict(name="x", **keys)]}, [SET], "x.toml")["set"][0]
        return Recipe(table, 0, 7, world)

    alloy = recipe(
        kind="rattled",
        lattice="fcc",
        a=3.6,
        species=["Ni"],
        composition={"Ni": 0.5, "Al": 0.5},
        cells=[2, 2, 2],
        count=3,
    )
    first, second = (next(alloy.make(k, None, None)) for k in (0, 1))
    assert first.symbols.count("Al") == second.symbols.count("Al") == 16
    assert np.any(first.numbers != second.numbers)
    same = next(alloy.make(0, None, None))
    assert np.array_equal(same.positions, first.positions) and np.array_equal(same.numbers, first.numbers)
    dimers = recipe(kind="dimers", species=["Ni", "Al"], count=2, distances=[2, 3])
    assert [str(next(dimers.make(k, None, None)).symbols) for k in range(dimers.pieces)] == [
        *["Ni2"] * 2,
        *["NiAl"] * 2,
        *["Al2"] * 2,
    ]
    packing = recipe(
        kind="packing",
        species=["Ni", "Al"],
        composition={"Ni": 0.75, "Al": 0.25},
        atoms=12,
        per_atom=[12, 12],
        gap=1.8,
        count=1,
    )
    atoms = next(packing.make(0, None, None))
    assert atoms.symbols.count("Ni") == 9 and np.isclose(atoms.get_volume(), 144)
    away = atoms.get_all_distances(mic=True)
    assert away[away > 0].min() >= 1.8
    with pytest.raises(RunFileError, match="must sum to 1"):
        recipe(kind="packing", species=["Ni"], composition={"Ni": 0.7}, atoms=4, per_atom=[12, 12], gap=1.8, count=1)
