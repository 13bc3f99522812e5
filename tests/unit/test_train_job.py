"""The training job: from labels to a potential that runs; stopped and resumed; what is wrong with a run file."""

import json
import sys

import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from training_systems import RUN, nickel

from ostwald.app.cli import main
from ostwald.app.commands import job_module
from ostwald.app.info import describe
from ostwald.app.jobs import train, training_loop
from ostwald.app.jobs.learning_rate import find, suggestion
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.jobs.train_schema import page
from ostwald.app.potentials import load
from ostwald.app.potentials.hdnnp import models
from ostwald.app.report.style import number
from ostwald.app.runfile import RunFileError
from ostwald.io.arrayfile import open_arrays
from ostwald.io.datasets import LabelledStructure, open_dataset, write_dataset
from ostwald.io.modelfile import read_model
from ostwald.parallel import CollectiveError

OPTIMISERS = {
    "levenberg-marquardt": "epochs = 10",
    "l-bfgs": 'epochs = 10\nkind = "l-bfgs"\nmemory = 4\n[loss]\nforce_huber = 0.05\n[validation]\nobjective = "force"',
    "adam": 'epochs = 8\nkind = "adam"\nrate = 0.1\nschedule = "plateau"\nwait = 1\n[loss]\nenergy_start = 1.0',
    "adamw": 'epochs = 6\nkind = "adamw"\nbatch = 3\naverage = 0.9\nrate = 0.01\nclip = 10.0',
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A data set of nickel with labels of an EAM potential."""
    path = tmp_path_factory.mktemp("nickel") / "set.h5"
    write_dataset(path, nickel())
    return path


@pytest.fixture
def run_file(tmp_path, labelled):
    def write(text=RUN + OPTIMISERS["levenberg-marquardt"]):
        path = tmp_path / "train.toml"
        path.write_text(text.replace("set.h5", str(labelled)))
        return path

    return write


@pytest.fixture
def no_page(monkeypatch):
    """Drawing takes longer than these trainings."""
    monkeypatch.setattr(training_loop, "leave_report", lambda world, directory: None)


def test_from_labels_to_molecular_dynamics(run_file, labelled, world, tmp_path):
    """A potential trained on EAM labels: small errors, the network's forces to rounding, energy conserved."""
    path = run_file(RUN.replace("[6]", "[10]") + "epochs = 40")
    assert train.run(world, path, tmp_path / "run") == 0
    errors = json.loads((tmp_path / "run/errors.json").read_text())
    validation = errors["validation"]["all"]
    assert validation["force"]["rmse"] < 0.1 and validation["energy"]["rmse"] < 5.0
    assert set(errors["training"]) == {"g0", "g1", "g2", "all"}
    assert not (tmp_path / "run/descriptors.h5").exists()
    arrays, _ = open_arrays(tmp_path / "run/predictions.h5")
    error = arrays["forces"][..., 1] - arrays["forces"][..., 0]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(validation["force"]["rmse"], rel=1e-9)
    report = (tmp_path / "run/report.html").read_text()
    for text in ("Learning", "Worst structures", "g2", "Where the time went", "Force: errors", "Ni: energy and volume"):
        assert text in report
    cost = json.loads((tmp_path / "run/timing.json").read_text())["microseconds_per_atom"]
    assert 0.1 < cost["mixed"] < 1000 and 0.1 < cost["double"] < 1000
    found = read_model(tmp_path / "run/potential.ostwald")
    assert models(found) == models(tmp_path / "run/potential")
    assert found.provenance["errors"]["validation"] == validation
    seen = found.description["training"]
    assert seen["structures"] == 24 and seen["groups"] == ["g0", "g1", "g2"] and 10 < seen["volume"]["mean"] < 12
    assert str(tmp_path) not in str(found.provenance)
    for what, text in ((tmp_path / "run", "trained on 24 structures"), (path, "(train)")):
        assert text in describe(what)
    for part in ("training", "validation"):  # what the native evaluator is asked for by structure
        command = ["evaluate", labelled, tmp_path / "run/potential.ostwald", "--run", tmp_path / "run", "--part", part]
        assert main([*map(str, command), "--json", str(tmp_path / "e.json")]) == 0
        again = json.loads((tmp_path / "e.json").read_text())["errors"]
        assert set(again) == set(errors[part])
        for group, found in again.items():
            for quantity, numbers in found.items():
                for name in ("number", "rmse", "mae", "largest"):
                    assert numbers[name] == pytest.approx(errors[part][group][quantity][name], rel=1e-5, abs=1e-6)
    atoms = bulk("Ni", cubic=True, a=3.53) * 2
    atoms.calc = load(tmp_path / "run/potential.ostwald").ase()
    teacher = atoms.copy()
    teacher.calc = load("zhou:Ni").ase()
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(2))
    dynamics, energies = VelocityVerlet(atoms, 1.0 * ase.units.fs), []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()), interval=5)
    dynamics.run(300)
    assert np.ptp(energies) < 2e-3 * len(atoms)
    teacher.positions = atoms.positions
    rms = np.sqrt(np.mean((atoms.get_forces() - teacher.get_forces()) ** 2))
    assert rms < 0.1


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_stopped_and_resumed_training_equals_one_that_was_not(run_file, world, tmp_path, monkeypatch, kind):
    path = run_file(RUN + OPTIMISERS[kind])
    assert train.run(world, path, tmp_path / "whole") == 0
    test, calls = Stopping.test, []

    def stop(self, step):
        calls.append(step)
        return (True, "SIGTERM") if len(calls) == 2 else test(self, step)

    monkeypatch.setattr(Stopping, "test", stop)
    assert train.run(world, path, tmp_path / "parts") == EXIT_RESUME
    assert train.resume(world, tmp_path / "parts") == 0
    for name in ("potential/weights.028.data", "potential/scaling.data", "potential/input.nn", "errors.json"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text(), name
    rows = [np.genfromtxt(tmp_path / which / "series.csv", delimiter=",", names=True) for which in ("whole", "parts")]
    for name in ("step", "loss", "validation_loss", "force_rmse_eVAngstrom"):
        assert np.array_equal(rows[0][name], rows[1][name], equal_nan=True), name
    assert rows[0]["loss"][-1] < 0.7 * rows[0]["loss"][1]
    assert train.resume(world, tmp_path / "parts") == 0  # nothing is left
    kept = (tmp_path / "parts/potential/weights.028.data").read_text()
    for name in ("timing.json", "potential.ostwald", "errors.json", "potential/weights.028.data"):
        (tmp_path / "parts" / name).unlink()  # ended after the last update, before all was written
    assert train.resume(world, tmp_path / "parts") == 0
    assert (tmp_path / "parts/potential/weights.028.data").read_text() == kept
    assert (tmp_path / "parts/errors.json").read_text() == (tmp_path / "whole/errors.json").read_text()


@pytest.mark.usefixtures("no_page")
def test_a_finished_training_goes_on_where_its_run_file_was_made_longer(run_file, world, tmp_path):
    path = run_file(RUN + "epochs = 3")
    assert train.run(world, path, tmp_path / "whole") == 0
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 2"))
    assert train.run(world, path, tmp_path / "parts") == 0
    longer = tmp_path / "parts/run.toml"
    longer.write_text(longer.read_text().replace("epochs = 2", "epochs = 3"))
    assert train.resume(world, tmp_path / "parts") == 0
    for name in ("potential/weights.028.data", "errors.json"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text(), name


def test_the_learning_rate_is_found(run_file, world, tmp_path, capsys):
    """The loss stays, falls and blows up; the rate of the steepest fall lies in between, and trains well."""
    path = run_file(RUN + 'kind = "adam"\nbatch = 8\n[loss]\nenergy_start = 1.0')
    assert find(world, train.KIND, path, 1e-6, 10.0, 120, tmp_path / "rates") == 0
    found = np.genfromtxt(tmp_path / "rates/series.csv", delimiter=",", names=True)
    best = suggestion(found["rate"], found["smooth_loss"])
    assert f"the loss falls fastest at a rate of {best:.2g}" in capsys.readouterr().out
    assert 3e-4 < best < 0.3 and len(found) <= 120
    assert "Loss while the rate rises" in (tmp_path / "rates/report.html").read_text()
    assert not (tmp_path / "rates/descriptors.h5").exists()
    with pytest.raises(RunFileError, match=r"\[optimiser\] kind: 'l-bfgs' has no learning rate to be found"):
        find(world, train.KIND, run_file(RUN + 'kind = "l-bfgs"'), 1e-6, 1.0, 50, tmp_path / "none")
    rates = np.geomspace(1e-6, 1.0, 121)
    falling = 1 / (1 + (rates / 1e-3) ** 2) + 1e-3
    falling[:5] *= [5, 3, 2, 1.5, 1.2]  # the mean of few
    assert 1e-3 < suggestion(rates, falling) < 2e-2
    assert suggestion(rates, np.linspace(1, 2, 121)) is None and suggestion(rates[:9], falling[:9]) is None


def test_a_potential_can_be_trained_further(run_file, world, tmp_path, capsys):
    assert train.run(world, run_file(), tmp_path / "one") == 0
    text = (
        RUN[: RUN.index("[[radial]]")]
        + f'[network]\nstart = "{tmp_path}/one/potential.ostwald"\n[optimiser]\nepochs = 5'
    )
    assert train.run(world, run_file(text), tmp_path / "two") == 0
    losses = [
        np.genfromtxt(tmp_path / k / "series.csv", delimiter=",", names=True)["validation_loss"] for k in ("one", "two")
    ]
    assert losses[1][0] == pytest.approx(np.nanmin(losses[0]), rel=1e-9)
    assert (
        load(tmp_path / "two/potential").model.elements[0].functions
        == load(tmp_path / "one/potential").model.elements[0].functions
    )
    page, runs = tmp_path / "both.html", [str(tmp_path / name) for name in ("one", "two")]
    assert main(["report", *runs, "-o", str(page)]) == 0
    text = page.read_text()
    for run in ("one", "two"):
        errors = json.loads((tmp_path / run / "errors.json").read_text())["validation"]["all"]
        assert number(errors["force"]["rmse"], 3) in text
    (tmp_path / "two/errors.json").unlink()
    assert main(["report", *runs, "-o", str(page)]) != 0
    assert "two: not a training that has come to its end" in capsys.readouterr().err


@pytest.mark.usefixtures("no_page")
def test_early_stopping(run_file, world, tmp_path):
    text = RUN + 'kind = "adam"\nepochs = 500\nrate = 0.3\nschedule = "constant"\n[validation]\npatience = 3'
    assert train.run(world, run_file(text), tmp_path / "run") == 0
    figures = json.loads((tmp_path / "run/timing.json").read_text())
    epochs = np.genfromtxt(tmp_path / "run/series.csv", delimiter=",", names=True)["epoch"]
    assert epochs[-1] == figures["best_epoch"] + 3 < 500


@pytest.mark.usefixtures("no_page")
def test_what_is_not_gained_counts_for_patience(run_file, world, tmp_path):
    """The best parameters are kept all the same."""
    text = RUN + "epochs = 30\n[validation]\npatience = 3\ngain = 1e6"
    assert train.run(world, run_file(text), tmp_path / "run") == 0
    rows = np.genfromtxt(tmp_path / "run/series.csv", delimiter=",", names=True)
    figures = json.loads((tmp_path / "run/timing.json").read_text())
    assert rows["epoch"][-1] == 3
    assert figures["best_epoch"] == rows["epoch"][rows["validation_loss"].argmin()] > 0


@pytest.mark.usefixtures("no_page")
def test_huber_is_not_led_astray_by_wrong_labels(run_file, world, tmp_path):
    """Two of 24 structures have forces that are noise; the others tell what is right."""
    structures, rng = nickel(), np.random.default_rng(8)
    write_dataset(tmp_path / "right.h5", structures[24:])
    for k in (4, 15):
        structures[k].forces[:] = rng.normal(0, 8.0, structures[k].forces.shape)
    write_dataset(tmp_path / "wrong.h5", structures[:24])
    text = (
        RUN.replace('file = "set.h5"\nfraction = 0.2', 'file = "wrong.h5"\nvalidation = "right.h5"') + "epochs = 25\n"
    )
    found = {}
    for name, loss in (("squares", ""), ("huber", "[loss]\nforce_huber = 0.05")):
        assert train.run(world, run_file(text + loss), tmp_path / name) == 0
        errors = json.loads((tmp_path / name / "errors.json").read_text())
        found[name] = errors["validation"]["all"]["force"]["rmse"]
    assert found["huber"] < 0.5 * found["squares"]


WRONG = [
    ("fraction = 0.2", "fraction = 0.9", r"\[data\] fraction: must be at most 0.5"),
    (
        'file = "set.h5"',
        'file = "none.h5"',
        r"\[data\] file: .*none.h5: no such file .ostwald convert FILE NAME.dataset makes data sets",
    ),
    ("[[radial]]", "[[radiall]]", r"unknown table \[radiall\]; did you mean 'radial'"),
    ("centred = 1\nshifted = 5\n", "", r"\[radial 1\]: give centred or shifted, or both"),
    ("epochs = 10", "epochs = 10\nbatch = 4", r"\[optimiser\] batch: has no effect with kind = 'levenberg-marquardt'"),
    (
        "epochs = 10",
        'kind = "adam"\nbatch = 99',
        r"\[optimiser\] batch: 99 is more than the training set's 24 structures",
    ),
    (
        "epochs = 10",
        'kind = "adam"\ncompression = "half"',
        r"\[optimiser\] compression: is of communication = 'horovod'",
    ),
    ("epochs = 10", "[loss]\nenergy = 0\nforce = 0\nstress = 0", r"\[loss\]: all weights are zero"),
    ("epochs = 10", "[loss]\nforce_start = 1000", r"\[loss\] force_start: has no effect with \[optimiser\] kind"),
    ("epochs = 10", 'kind = "adam"\nwait = 3', r"\[optimiser\] wait: is of schedule = 'plateau'"),
    (
        "epochs = 10",
        "[memory]\nlimit = 0.001",
        r"\[memory\] limit: descriptors and derivatives take .* GB, more than 0.001 GB",
    ),
    ("nodes = [6]", 'device = "cuda:7"', r"\[network\] device: 'cuda:7' cannot be used"),
    ("nodes = [6]", 'device = "gpu"', r"\[network\] device: 'gpu' cannot be used: Expected one of cpu, cuda"),
    ("nodes = [6]", 'start = "nowhere"', r"no symmetry functions|\[network\] start"),
]


@pytest.mark.parametrize("old, new, message", WRONG)
def test_a_wrong_run_file_is_refused_in_one_sentence(run_file, world, tmp_path, old, new, message):
    text = RUN + OPTIMISERS["levenberg-marquardt"]
    assert old in text
    with pytest.raises((RunFileError, CollectiveError), match=message) as caught:
        train.run(world, run_file(text.replace(old, new)), tmp_path / "run")
    assert "train.toml" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_page")
def test_missing_labels(run_file, labelled, world, tmp_path):
    """Without forces a loss of forces is refused; energies alone can be learned from."""
    ds = open_dataset(labelled)
    bare = [LabelledStructure(s.positions, s.numbers, s.cell, True, s.energy) for s in ds]
    write_dataset(tmp_path / "bare.h5", bare)
    text = (RUN + "epochs = 3").replace("set.h5", str(tmp_path / "bare.h5"))
    with pytest.raises(
        (RunFileError, CollectiveError), match=r"\[loss\] force: no structure .* has a label for it: set it to 0"
    ):
        train.run(world, run_file(text), tmp_path / "run")
    assert train.run(world, run_file(text + "\n[loss]\nforce = 0\nstress = 0"), tmp_path / "run") == 0
    found = json.loads((tmp_path / "run/errors.json").read_text())["validation"]["all"]
    assert list(found) == ["energy"]


def test_check_writes_nothing(run_file, world, tmp_path, capsys):
    path = run_file()
    assert train.check(world, path) == 0
    assert "levenberg-marquardt, 10 epochs, 10 updates" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["train.toml"]


def test_without_torch_the_job_is_refused(run_file, monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith(("ostwald.app.jobs.train", "ostwald.app.training.errors"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    path = run_file()
    with pytest.raises(RunFileError, match=r"train.toml: \[job\] kind: 'train' needs torch, which is not installed"):
        job_module({"job": {"kind": "train"}}, path)


def test_the_page_of_keys_is_up_to_date():
    from pathlib import Path

    written = (Path(__file__).parents[2] / "docs/train-run-file.md").read_text(encoding="utf-8")
    assert written == page() + "\n", "python -m ostwald.app.jobs.train_schema > docs/train-run-file.md"
