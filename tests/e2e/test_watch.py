"""Committees and their disagreement in the molecular-dynamics job, as users run it."""

import json
from dataclasses import replace

import ase.build
import ase.io
import h5py
import numpy as np
import pytest
from hdnnp_reference import make_model

from ostwald.app.potentials import load, zhou
from ostwald.app.potentials.eam import write_setfl
from ostwald.app.potentials.hdnnp import n2p2
from ostwald.io.timeseries import read_series

JOB = """
[job]
kind = "md"
seed = 7
[structure]
lattice = "fcc"
a = 3.62
species = ["Cu"]
cells = [4, 4, 4]
rattle = 0.02
[potential]
file = ["a/Cu.eam.alloy", "b/Cu.eam.alloy", "zhou:Cu"]
[[stage]]
ensemble = "nvt"
thermostat = "langevin"
thermostat_time = 0.02
velocities = 300.0
temperature = [300.0, 4000.0]
timestep = 0.002
steps = 200
[series]
every = 10
[trajectory]
every = 50
precision = "double"
deviation = true
[checkpoint]
every = 50
[log]
every = 50
[deviation]
every = 5
warn = 0.05
"""


@pytest.fixture
def members(tmp_path):
    for k, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        table = zhou.tables(("Cu",))
        write_setfl(tmp_path / folder / "Cu.eam.alloy", replace(table, pair=(0.95 + 0.08 * k) * table.pair))
    (tmp_path / "Cu.sw").write_text("Cu Cu Cu 2.1 2.0 1.8 21.0 1.2 -0.3 7.0 0.6 4.0 0.0 0.0\n")
    return [tmp_path / "a/Cu.eam.alloy", tmp_path / "b/Cu.eam.alloy", "zhou:Cu"]


def deviation(atoms, members):
    forces = []
    for path in members:
        atoms.calc = load(path).ase()
        forces.append(atoms.get_forces())
    return np.sqrt(((np.array(forces) - np.mean(forces, 0)) ** 2).sum(2).mean(0))


def test_a_committee_stops_where_it_disagrees(ostwald, run_file, tmp_path, members):
    text = JOB + "dump = 0.1\ndump_limit = 2\nstop = 0.3\n"
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run", ranks=2)
    assert status == 0, out + err
    assert "watched    deviation every 5 steps, warn above 0.05 eV/Å, dump above 0.1 eV/Å, stop above 0.3 eV/Å" in out
    figures = json.loads((tmp_path / "run/timing.json").read_text())
    worst, step = figures["deviation"]["worst"], figures["total_steps"]
    assert worst["step"] == step < 200 and step % 5 == 0 and worst["value"] > 0.3
    assert f"ended: {figures['ended']}" in out and "[deviation] stop = 0.3" in figures["ended"]
    assert f"atom {worst['atom']} (Cu)" in figures["ended"] and "WARNING: force deviation" in err
    # the members came along, so that the configurations can be looked at where the run directory is
    files = sorted((tmp_path / "run/deviation").iterdir())
    assert len(files) == 2
    kept = [tmp_path / "run" / name for name in ("Cu.eam.alloy", "2-Cu.eam.alloy")]
    for file in files:
        atoms = ase.io.read(file)
        theirs = deviation(atoms.copy(), [*kept, "zhou:Cu"])
        assert np.abs(atoms.arrays["force_deviation"] - theirs).max() < 1e-6
        assert atoms.info["atom"] == atoms.arrays["id"][theirs.argmax()]
    rows = read_series(tmp_path / "run/series.h5")
    assert rows["step"][-1] == step and rows["force_deviation_max"][-1] == pytest.approx(worst["value"])
    assert np.isfinite(rows["potential_energy"]).all()
    # a script that always resumes does no harm; with another limit the run goes on
    status, out, err = ostwald("resume", tmp_path / "run")
    assert status == 0 and "nothing is left to do" in out and "above 0.3" in out, out + err
    run_toml = tmp_path / "run/run.toml"
    run_toml.write_text(run_toml.read_text().replace("stop = 0.3", "stop = 50.0"))
    status, out, err = ostwald("resume", tmp_path / "run")
    again = json.loads((tmp_path / "run/timing.json").read_text())
    assert status == 0 and again["total_steps"] == 200 and again["ended"] is None, out + err


def test_series_and_trajectory_on_any_ranks_and_through_a_restart(ostwald, run_file, tmp_path, members):
    text = JOB.replace("steps = 200", "steps = 120")
    for ranks in (1, 4):
        status, out, err = ostwald("run", run_file(text), "-d", tmp_path / f"run{ranks}", ranks=ranks)
        assert status == 0, out + err
    a, b = (read_series(tmp_path / f"run{ranks}/series.h5") for ranks in (1, 4))
    assert np.isfinite(a["force_deviation_mean"]).all() and (np.diff(a["force_deviation_max"]) != 0).all()
    for name in ("force_deviation_mean", "force_deviation_max", "force_deviation_atom"):
        assert np.allclose(a[name], b[name], rtol=1e-6), name
    with h5py.File(tmp_path / "run4/trajectory.h5") as f:
        group = f["particles/trajectory"]
        values, positions = group["force_deviation/value"][:], group["position/value"][:]
    atoms = ase.Atoms("Cu256", positions=positions[-1], cell=a["cell"][0].reshape(3, 3), pbc=True)
    assert np.abs(deviation(atoms, members) - values[-1]).max() < 1e-6
    row = a[a["step"] == 100]
    assert values[-1].max() <= row["force_deviation_max"] * (1 + 1e-6)
    # bitwise through a stop that nobody chose
    broken = tmp_path / "broken"
    status, out, err = ostwald.kill_when(
        lambda: (broken / "series.csv").exists() and (broken / "series.csv").read_text().count("\n") > 4,
        "run", run_file(text), "-d", broken, number=10,
    )  # fmt: skip
    assert status == 85, out + err
    status, out, err = ostwald("resume", broken)
    assert status == 0, out + err
    again = read_series(broken / "series.h5")
    for name in ("step", "potential_energy", "force_deviation_mean", "force_deviation_max", "force_deviation_atom"):
        assert np.array_equal(a[name], again[name]), name


@pytest.mark.parametrize(
    "tables, message",
    [
        ('file = ["a/Cu.eam.alloy"]', "an ensemble needs at least two members"),
        ('file = ["a/Cu.eam.alloy", "a/Cu.eam.alloy"]', "is the same potential as"),
        ('file = ["a/Cu.eam.alloy", "Cu.sw"]', "Cu.sw: is of the kind Stillinger-Weber"),
        ('file = ["a/Cu.eam.alloy", "zhou:Ni"]', "zhou:Ni: "),
        ('file = ["a/Cu.eam.alloy", 3]', "[potential] file: must be a non-empty string, got 3"),
        ('file = "zhou:Cu"', "[deviation] every: the potential is not an ensemble"),
        (
            'file = ["a/Cu.eam.alloy", "zhou:Cu"]\n[extrapolation]\nevery = 5',
            "[extrapolation] every: a potential of the kind",
        ),
        ('file = ["a/Cu.eam.alloy", "zhou:Cu"]\n[extrapolation]\nstp = 5', "did you mean 'stop'?"),
    ],
)
def test_mistakes(ostwald, run_file, tmp_path, members, tables, message):
    text = JOB.replace('file = ["a/Cu.eam.alloy", "b/Cu.eam.alloy", "zhou:Cu"]', tables)
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run")
    assert status == 1 and message in err and "Traceback" not in err, out + err
    assert not (tmp_path / "run").exists()


HEATED = """
[job]
kind = "md"
seed = 4
[structure]
file = "start.xyz"
{structure}
[potential]
file = {potential}
[[stage]]
ensemble = "nvt"
thermostat = "langevin"
thermostat_time = 0.01
velocities = 300.0
temperature = 6000.0
timestep = 0.001
steps = 40
[series]
every = 10
[trajectory]
every = 20
precision = "double"
extrapolation = true
[log]
every = 20
[extrapolation]
every = 5
dump = 0.05
dump_limit = 2
dump_every = 10
{more}
"""


def outside(potential, atoms):
    """(excess of every function (n, functions), nan where an element has fewer) of a configuration, from its ranges."""
    calculator = potential.ase()
    nb = calculator.neighbourhoods(atoms)
    model = potential.model
    out = np.full((len(atoms), max(len(e.functions) for e in model.elements)), np.nan)
    for type_, (rows, values) in enumerate(potential.symmetry_functions(nb)):
        element = model.elements[model.species.index(potential.species[type_])]
        width = element.maximum - element.minimum
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.maximum(element.minimum - values, values - element.maximum) / width
        out[rows, : values.shape[1]] = np.where(width > 0, excess, 0.0).clip(0.0)
    return out


def check_extrapolation(ostwald, run_file, tmp_path, text, potential):
    """Runs on 1 and 4 ranks; atoms, functions and amounts are those of a direct evaluation."""
    runs = []
    for ranks in (1, 4):
        run = tmp_path / f"run{ranks}"
        status, out, err = ostwald("run", run_file(text), "-d", run, ranks=ranks)
        assert status == 0, out + err
        assert "WARNING: extrapolation at step" in err and "per function:" in out
        runs.append(json.loads((run / "timing.json").read_text())["extrapolation"])
        files = sorted((run / "extrapolation").iterdir())
        assert len(files) == 2
        for file in files:
            atoms = ase.io.read(file)
            types = [potential.species.index(s) for s in atoms.get_chemical_symbols()]
            excess = outside(potential, atoms)
            worst = np.nanmax(excess, axis=1)
            assert np.abs(atoms.arrays["extrapolation"] - worst).max() < 1e-4 * worst.max()
            row = int(worst.argmax())
            assert atoms.info["atom"] == atoms.arrays["id"][row]
            function = int(np.nanargmax(excess[row]))
            assert atoms.arrays["extrapolation_function"][row] == function
            assert atoms.info["function"] == potential.function_name(types[row], function)
            assert atoms.info["extrapolation"] == pytest.approx(worst[row], rel=1e-4)
        worst = runs[-1]["worst"]
        assert f"step {worst['step']}: atom {worst['atom']} ({worst['species']})" in err and worst["name"] in err
    a, b = runs
    for name in ("step", "atom", "species", "name", "outside"):
        assert a["worst"][name] == b["worst"][name]
    assert a["worst"]["value"] == pytest.approx(b["worst"]["value"], rel=1e-5)
    assert [(f["name"], f["times"]) for f in a["functions"]] == [(f["name"], f["times"]) for f in b["functions"]]
    a, b = (read_series(tmp_path / f"run{ranks}/series.h5") for ranks in (1, 4))
    assert np.array_equal(a["extrapolating_atoms"], b["extrapolating_atoms"]) and a["extrapolating_atoms"].max() > 0
    assert np.allclose(a["extrapolation_max"], b["extrapolation_max"], rtol=1e-5)
    with h5py.File(tmp_path / "run4/trajectory.h5") as f:
        assert f["particles/trajectory/extrapolation/value"].shape[0] == 3


def test_extrapolation_of_a_network(ostwald, run_file, tmp_path):
    model = make_model(41, kinds=(2, 3), cutoff=4.0, spread=0.3)
    n2p2.write(model, tmp_path / "network")
    atoms = ase.io.read(write_crystal(tmp_path / "start.xyz"))
    assert outside(load(tmp_path / "network"), atoms).shape[0] == len(atoms)
    text = HEATED.format(potential='"network"', structure="cells = [2, 2, 1]", more="")
    check_extrapolation(ostwald, run_file, tmp_path, text, load(tmp_path / "network"))


def write_crystal(path):
    atoms = ase.build.bulk("CuS", "zincblende", a=5.0, cubic=True) * (2, 2, 2)
    ase.io.write(path, atoms)
    return path


def test_extrapolation_of_a_published_network(ostwald, run_file, tmp_path, reference_data):
    folder = reference_data / "n2p2_examples/potentials/Cu2S_PBE"
    atoms = ase.io.read(reference_data / "reference/n2p2/n2p2_Cu2S_PBE.xyz", 0)
    atoms.set_cell(0.93 * atoms.cell.array, scale_atoms=True)  # compressed, beyond what it was trained on
    atoms.calc = None
    ase.io.write(tmp_path / "start.xyz", atoms, columns=["symbols", "positions"])
    text = HEATED.format(potential=f'"{folder}"', structure="cells = [2, 1, 1]", more="")
    check_extrapolation(ostwald, run_file, tmp_path, text, load(folder))


def test_a_committee_of_networks(ostwald, run_file, tmp_path):
    """Directories of one name in several folders; the run directory goes on where it was moved to."""
    model = make_model(42, kinds=(2, 3), cutoff=4.0, spread=0.3)
    rng = np.random.default_rng(1)
    for folder in "ab":
        elements = [
            replace(
                e, layers=[replace(l, weights=l.weights + 0.1 * rng.normal(size=l.weights.shape)) for l in e.layers]
            )
            for e in model.elements
        ]
        (tmp_path / folder).mkdir()
        n2p2.write(replace(model, elements=elements), tmp_path / folder / "network")
    write_crystal(tmp_path / "start.xyz")
    more = "stop = 0.15\n[deviation]\nevery = 10\ndump = 0.0\n"
    text = HEATED.format(potential='["a/network", "b/network"]', structure="", more=more)
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run", ranks=2)
    assert status == 0 and "ensemble of 2 HDNNP potentials" in out, out + err
    figures = json.loads((tmp_path / "run/timing.json").read_text())
    assert figures["total_steps"] < 40 and "[extrapolation] stop = 0.15" in figures["ended"]
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    for folder in "ab":
        (tmp_path / folder).rename(tmp_path / f"gone-{folder}")
    toml = moved / "run.toml"
    toml.write_text(toml.read_text().replace("stop = 0.15", "stop = 1000.0"))
    status, out, err = ostwald("resume", moved)
    assert status == 0, out + err
    figures = json.loads((moved / "timing.json").read_text())
    assert figures["total_steps"] == 40 and figures["deviation"]["looks"] >= 5
    kept = [moved / "network", moved / "2-network"]
    for file in sorted((moved / "deviation").iterdir()):
        atoms = ase.io.read(file)
        assert np.abs(deviation(atoms.copy(), kept) - atoms.arrays["force_deviation"]).max() < 1e-6
