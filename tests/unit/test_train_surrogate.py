"""The training of surrogates: data, losses, the way to the closed loop, the job."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from surrogate_systems import make_sequences

from ostwald.app.info import describe
from ostwald.app.jobs import train_surrogate
from ostwald.app.jobs.learning_rate import find
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.jobs.train_surrogate_schema import page
from ostwald.app.runfile import RunFileError
from ostwald.app.surrogate import model
from ostwald.app.surrogate.architecture import Architecture
from ostwald.app.surrogate.data import TrainingSequences, resample, symmetries, turned
from ostwald.app.surrogate.network import Network
from ostwald.app.surrogate.objective import (
    Augmentation,
    Curriculum,
    Loss,
    Plan,
    Scaling,
    SequenceObjective,
    plan,
    step_bytes,
)
from ostwald.app.training.minibatch import Minibatch
from ostwald.io.checkpoint import list_checkpoints
from ostwald.parallel import CollectiveError

RUN = """
[job]
kind = "train-surrogate"
[[sequences]]
file = "set.h5"
[network]
dimensions = 2
blocks = 2
channels = 5
kernel = 3
[curriculum]
epochs = 3
[optimiser]
epochs = 4
batch = 6
rate = 5e-3
clip = 1.0
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """24 sequences of 12 frames in 16² points, six of them to validate."""
    from ostwald.parallel import World

    return make_sequences(World(), tmp_path_factory.mktemp("sequences"))


@pytest.fixture
def run_file(tmp_path, made):
    def write(text=RUN):
        path = tmp_path / "train.toml"
        path.write_text(text.replace("set.h5", str(made)))
        return path

    return write


def column(directory, name):
    return np.atleast_1d(np.genfromtxt(directory / "series.csv", delimiter=",", names=True)[name])


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_the_way_to_the_closed_loop_is_the_published_one():
    given = [Curriculum(50, 25)(epoch) for epoch in range(27)]
    assert given[:4] == [48, 46, 44, 42] and given[22:] == [4, 2, 1, 1, 1]
    assert [Curriculum(100, 0)(epoch) for epoch in (0, 9)] == [1, 1]
    assert Curriculum(10, 1000)(0) == 9  # at least one is predicted


def test_halving():
    field = np.arange(32.0).reshape(2, 4, 4)
    assert np.array_equal(resample(field, "nearest")[0], [[0, 2], [8, 10]])
    assert np.array_equal(resample(field, "mean")[0], [[2.5, 4.5], [10.5, 12.5]])
    assert resample(field, "none") is field
    with pytest.raises(ValueError, match="4 × 3 points cannot be divided by 2"):
        resample(field[..., :3], "mean")


def test_symmetries():
    square, cube = (1, 1), (1, 1, 1)
    count = {
        (lengths, rotations, reflections): len(symmetries(lengths, rotations, reflections))
        for lengths in (square, cube, (1, 2), (1, 1, 2))
        for rotations in (False, True)
        for reflections in (False, True)
    }
    assert [count[square, *which] for which in ((0, 0), (1, 0), (0, 1), (1, 1))] == [1, 4, 4, 8]
    assert [count[cube, *which] for which in ((0, 0), (1, 0), (0, 1), (1, 1))] == [1, 24, 8, 48]
    assert count[(1, 2), True, False] == 2 and count[(1, 1, 2), True, True] == 16
    assert symmetries(cube, True, True)[0] == ((0, 1, 2), (1, 1, 1))
    field = np.random.default_rng(0).normal(size=(2, 3, 3, 3))
    images = {turned(field, *each).tobytes() for each in symmetries(cube, True, True)}
    assert len(images) == 48


def test_losses():
    """Against fields whose gradients and energies are known."""
    n, h = 64, 0.5
    x = torch.arange(n, dtype=torch.float64) * h
    wave = 2 * np.pi / (n * h)
    phi = (0.5 + 0.3 * torch.sin(wave * x)).expand(1, 1, n, n).transpose(2, 3)
    flat = torch.full_like(phi, 0.5)
    slope = 0.3 * np.sin(wave * h) / h  # of centred differences
    assert Loss((h, h)).of(phi, flat).item() == pytest.approx(0.045)
    gradient = Loss((h, h), gradient=60).of(phi, flat) - Loss((h, h)).of(phi, flat)
    assert gradient.item() == pytest.approx(60 * slope**4 * 3 / 8)
    energy = Loss((h, h), energy=150, epsilon=5.0).of(flat + 0.5, flat) - Loss((h, h)).of(flat + 0.5, flat)
    assert energy.item() == pytest.approx(150 * (36 / 5 / 16) ** 2)
    mean = Loss((h, h), mean=2).of(flat + 0.1, flat) - Loss((h, h)).of(flat + 0.1, flat)
    assert mean.item() == pytest.approx(2 * 0.01)
    assert Loss((h, h), 60, 150, 2, 5.0).of(phi, phi).item() == 0
    walled = Loss((h, h), gradient=1, periodic=False)._slope(x.expand(1, 1, n, n))
    assert walled[..., 1:-1].unique().tolist() == pytest.approx([1.0]) and walled[..., 0].unique().item() == 0.25


def objective(data, network=None, together=2, segment=None, **more):
    network = network or Network(Architecture(2, 2, 4, 3), torch.float64, seed=1)
    settings = dict(batch=4, seed=2) | more
    turns = settings.pop("augmentation", Augmentation(noise=1e-3))
    curriculum = settings.pop("curriculum", Curriculum(data.frames, 4))
    loss = Loss(data.spacing, 60, 150, 0, 3.0)
    return SequenceObjective(
        network, data, Scaling(0.0, 1.0), loss, curriculum, turns, Plan(together, segment, 0), **settings
    )


def test_a_gradient_does_not_depend_on_how_sequences_go_through(made):
    """Nor is it another than that of all of them at once."""
    data, found = TrainingSequences([made]), []
    for together, segment in ((5, None), (2, None), (1, 4), (3, 3)):
        this = objective(data, together=together, segment=segment)
        value = this.loss(this.items[:5], update=5)
        value.backward()
        found.append((float(value.detach()), this.module.theta.grad.numpy()))
    truth, given, _ = this._batch(this.items[:5], this.epoch(5))
    plain = this.function.of(this.module.roll_out(given, truth.shape[1] - 1), truth[:, 1:]).sum() / len(this.items)
    slope = torch.autograd.grad(plain, this.module.theta)[0].numpy()
    for value, gradient in found:
        assert value == pytest.approx(float(plain.detach()), rel=1e-12)
        np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-12 * np.abs(slope).max())


def test_what_the_network_is_given(made):
    data = TrainingSequences([made])
    this = objective(data, augmentation=Augmentation(noise=1e-2))
    (truth, given, _), (again, _, _) = this._batch(this.items[:6], 1), this._batch(this.items[:6], 1)
    assert torch.equal(truth, again)
    assert given.shape[1] == Curriculum(12, 4)(1) and truth.shape[1] == 12
    noise = given - truth[:, : given.shape[1]]
    assert 0.8e-2 < noise.std() < 1.2e-2 and noise.mean((2, 3)).abs().max() < 1e-15
    other, _, _ = this._batch(this.items[:6], 2)
    assert not torch.equal(truth, other)
    exchanged = 0
    for k, item in enumerate(this.items[:6]):  # some way to turn the file's sequence gives what was made of it
        file = data.read(item).astype(float)
        ways = [
            (flip, np.abs((1 - t if flip else t) - truth[k].numpy()).max() < 1e-6)
            for t in (turned(file, *each) for each in this.symmetries)
            for flip in (0, 1)
        ]
        assert any(hit for _, hit in ways)
        exchanged += next(flip for flip, hit in ways if hit)
    assert 0 < exchanged < 6


def test_stretches_of_sequences(made):
    data = TrainingSequences([made], every=2, frames=4)
    assert (data.frames, data.starts, data.interval, data.shape) == (4, 6, 0.5, (16, 16))
    whole = TrainingSequences([made])
    assert np.array_equal(data.read(3, 5), whole.read(3)[5::2])
    this = objective(data, windows=True, augmentation=Augmentation(False, False, False))
    firsts = {this._batch([3], epoch)[0].numpy().astype(np.float32).tobytes() for epoch in range(40)}
    assert firsts == {data.read(3, begin)[None].tobytes() for begin in range(6)}
    half = TrainingSequences([made], resampling="mean")
    assert half.shape == (8, 8) and half.spacing == (4.0, 4.0)


def test_parameters_follow_the_exchange_of_phases(made):
    data = TrainingSequences([made], ["initial.exact_mean", "initial.amplitude"])
    network = Network(Architecture(2, 1, 2, 3, parameters=("mean", "amplitude")), torch.float64)
    this = objective(data, network, augmentation=Augmentation(complements=(0,)))
    this.scaled = Scaling(np.array([0.5, 0.1]), np.array([0.2, 2.0]))
    truth, _, parameters = this._batch(this.items, 0)
    seen = 0.5 + 0.2 * parameters[:, 0]
    assert torch.allclose(seen, truth[:, 0].mean((1, 2)), atol=0.05)  # every second point of the field whose mean it is
    assert not torch.allclose(seen, torch.from_numpy(data.parameters[this.items, 0]), atol=0.05)
    assert np.allclose(0.1 + 2 * parameters[:, 1], data.parameters[this.items, 1])


def test_memory():
    """What a step is said to leave is what torch keeps, and plans are within limits."""
    network, shape = Network(Architecture(3, 2, 4, 3)), (12, 12, 12)
    each, state = step_bytes(network, shape)
    assert state == 4 * 12**3 * (1 + 2 * 4)
    assert 12**3 * 4 * 100 < each < 12**3 * 4 * 400
    whole = plan(network, shape, 20, 4, 1e9)
    assert whole.segment is None and whole.together == 4 and whole.bytes == pytest.approx(4 * (28 * each + state))
    tight = plan(network, shape, 20, 4, 28 * each)
    assert tight.together == 2 and 4 <= tight.segment < 6 and tight.bytes <= 28 * each
    alone = plan(network, shape, 20, 4, 11 * each)
    assert alone.together == 1 and alone.segment == 2
    with pytest.raises(ValueError, match=r"one sequence takes .* GB, more than"):
        plan(network, shape, 20, 4, each)


# ---- the job --------------------------------------------------------------------------------------------------------


def test_from_sequences_to_a_surrogate(run_file, made, world, tmp_path):
    """A minute of training beats fields that stay as they are; the file has the network that was the best."""
    text = RUN.replace("epochs = 4\nbatch = 6\nrate = 5e-3", "epochs = 12\nbatch = 3\nrate = 1e-2\nschedule = 'cosine'")
    text += "[loss]\ngradient = 0.1\nenergy = 0.01\nepsilon = 3.0\n"
    assert train_surrogate.run(world, run_file(text), tmp_path / "run") == 0
    errors = json.loads((tmp_path / "run/errors.json").read_text())["validation"]
    losses = column(tmp_path / "run", "validation_loss")
    assert losses[-1] < 0.85 * losses[0]
    assert errors["rmse"] < 0.9 * errors["persistence_rmse"] and errors["mean_drift"] < 1e-7
    assert np.array_equal(column(tmp_path / "run", "given"), [8, 8, 4, *[1] * 10])

    found = model.load(tmp_path / "run/surrogate.ostwald")
    assert found.interval == 0.25 and found.spacing == (2.0, 2.0) and found.training["steps"] == 11
    network, data = Network(found.architecture), TrainingSequences([made])
    network.load(found.arrays)
    squares = []
    for item in data.items["validation"]:
        truth = torch.from_numpy(data.read(item))[None]
        with torch.no_grad():
            squares.append((network.roll_out(truth[:, :1], 11) - truth[:, 1:]).square().mean())
    assert float(torch.stack(squares).mean().sqrt()) == pytest.approx(errors["rmse"], rel=1e-5)

    text = (tmp_path / "run/report.html").read_text()
    for words in ("Learning", "Frames that the network is given", "unchanged field", "truth, t = 0", "GFLOP/s"):
        assert words in text
    text = describe(tmp_path / "run") + describe(tmp_path / "train.toml")
    for words in (
        "finished",
        "sequences/s",
        "one step is 0.25 of time",
        "flux head",
        "set/sequences.h5",
        "2 blocks of 5 channels",
    ):
        assert words.split("/")[-1] in text, words
    more = RUN.replace(
        "dimensions = 2\nblocks = 2\nchannels = 5\nkernel = 3", f'start = "{tmp_path}/run/surrogate.ostwald"'
    )
    assert train_surrogate.run(world, run_file(more), tmp_path / "more") == 0
    assert column(tmp_path / "more", "validation_rmse")[0] == pytest.approx(errors["rmse"], rel=1e-5)


def test_a_stopped_and_resumed_training_equals_one_that_was_not(run_file, world, tmp_path, monkeypatch):
    path = run_file(
        RUN.replace("epochs = 4\nbatch = 6", "epochs = 2\nbatch = 3")
        + "average = 0.9\n[augmentation]\nnoise = 1e-3\n[memory]\nlimit = 0.002\n"
    )
    assert train_surrogate.run(world, path, tmp_path / "whole") == 0
    test, calls = Stopping.test, []

    def stop(self, step):
        calls.append(step)
        return (True, "SIGTERM") if len(calls) == 1 else test(self, step)

    monkeypatch.setattr(Stopping, "test", stop)
    assert train_surrogate.run(world, path, tmp_path / "parts") == EXIT_RESUME
    assert train_surrogate.resume(world, tmp_path / "parts") == 0
    for name in ("step", "loss", "validation_loss", "validation_rmse", "given"):
        assert np.array_equal(*(column(tmp_path / which, name) for which in ("whole", "parts")), equal_nan=True), name
    hashes = {model.load(tmp_path / which / "surrogate.ostwald").hash for which in ("whole", "parts")}
    assert len(hashes) == 1
    resolved = tmp_path / "parts/run.toml"
    resolved.write_text(resolved.read_text().replace("channels = 5", "channels = 6"))
    counts = [Architecture(2, 2, channels, 3).count for channels in (5, 6)]
    with pytest.raises(CollectiveError, match=r"of a network with {} parameters, that of .* has {}".format(*counts)):
        train_surrogate.resume(world, tmp_path / "parts")


def test_sequences_that_are_finished_later_are_left_out_when_a_training_is_resumed(
    run_file, made, world, tmp_path, monkeypatch
):
    growing = tmp_path / "growing.h5"
    shutil.copy(made, growing)

    def finished(count):
        with h5py.File(growing, "r+") as file:
            file["state"][:] = np.arange(24) < count

    text = RUN.replace("batch = 6", "batch = 4").replace("set.h5", str(growing))
    path = run_file(text + '[[parameter]]\nkey = "initial.exact_mean"\n')
    finished(16)
    assert train_surrogate.run(world, path, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "test", lambda self, step: (True, "SIGTERM"))
        assert train_surrogate.run(world, path, tmp_path / "parts") == EXIT_RESUME
    finished(24)
    assert train_surrogate.resume(world, tmp_path / "parts") == 0
    assert (
        "8 sequences that were finished after this training began are left out"
        in (tmp_path / "parts/log.txt").read_text()
    )
    whole, parts = (model.load(tmp_path / which / "surrogate.ostwald") for which in ("whole", "parts"))
    assert whole.hash == parts.hash
    finished(15)
    (tmp_path / "parts/timing.json").unlink()
    with pytest.raises((RunFileError, CollectiveError), match="sequence 15, which was learned from, is not there any"):
        train_surrogate.resume(world, tmp_path / "parts")


def test_no_checkpoint_is_written_of_parameters_that_are_no_numbers(run_file, world, tmp_path, monkeypatch):
    step = Minibatch.step

    def spoilt(self):
        done = step(self)
        if self.updates == 3:
            self.theta = np.full(len(self.theta), np.nan)
        return done

    monkeypatch.setattr(Minibatch, "step", spoilt)
    monkeypatch.setattr(Minibatch, "look_every", 1)
    with pytest.raises(CollectiveError, match="a parameter is infinite or no number after update 3"):
        train_surrogate.run(world, run_file(RUN + "[checkpoint]\nevery = 1\n"), tmp_path / "run")
    assert [found.step for found in list_checkpoints(tmp_path / "run/checkpoints")] == [1, 2]


def test_parameters_and_other_heads(run_file, world, tmp_path):
    text = RUN.replace("kernel = 3", 'kernel = 3\ncell = "gru"\nhead = "sigmoid"\ncompute = "bfloat16"').replace(
        "epochs = 4", "epochs = 2"
    )
    text += '[loss]\nmean = 2.0\n[[parameter]]\nkey = "initial.exact_mean"\nname = "mean"\ncomplement = true\n'
    assert train_surrogate.run(world, run_file(text), tmp_path / "run") == 0
    found = model.load(tmp_path / "run/surrogate.ostwald")
    (mean,) = found.parameters
    assert (mean.name, mean.key) == ("mean", "initial.exact_mean") and 0.35 <= mean.low < mean.high <= 0.65
    assert found.architecture == Architecture(2, 2, 5, 3, "gru", "sigmoid", ("mean",))
    assert found.scaled({"mean": mean.offset + 2 * mean.scale}) == pytest.approx([2.0])


def test_the_learning_rate_finder(run_file, world, tmp_path):
    assert find(world, train_surrogate.KIND, run_file(), 1e-5, 10.0, 20, tmp_path / "rates") == 0
    assert "Loss while the rate rises" in (tmp_path / "rates/report.html").read_text()


def test_check_tells_memory_and_time_and_writes_nothing(run_file, world, tmp_path, capsys):
    path = run_file()
    assert train_surrogate.check(world, path) == 0
    text = capsys.readouterr().out
    for words in (
        "18 to train on, 6 to validate",
        "16 × 16 points",
        f"{Architecture(2, 2, 5, 3).count} parameters",
        "4 sequences at a time",
        "12 updates",
        "in all",
    ):
        assert words in text, words
    assert [p.name for p in tmp_path.iterdir()] == ["train.toml"]


WRONG = [
    ('file = "set.h5"', 'file = "none.h5"', r"\[\[sequences\]\] .*none.h5: cannot be read as sequences"),
    ("dimensions = 2", "dimensions = 3", r"\[network\] dimensions: 3, but sequences have 2"),
    ("kernel = 3", "kernel = 4", r"\[network\] kernel is odd, not 4"),
    ("kernel = 3\n", "", r"\[network\] kernel: is required without a preset"),
    ("batch = 6", "batch = 99", r"\[optimiser\] batch: 99 is more than the 18 sequences there are"),
    (
        "[curriculum]",
        '[[parameter]]\nkey = "elasticity.misfit"\n[curriculum]',
        r"has no parameter elasticity.misfit .it has: initial.exact_mean",
    ),
    ("[curriculum]", "[data]\nframes = 20\n[curriculum]", r"has 12 frames, which does not do for sequences of 20"),
    (
        "[curriculum]",
        "[data]\nevery = 6\nframes = 3\n[curriculum]",
        r"has 2 frames if one of 6 is taken, which does not do for sequences of 3",
    ),
    ("[curriculum]", "[loss]\nenergy = 150\n[curriculum]", r"\[loss\] epsilon: is required with energy"),
    (
        "[curriculum]",
        "[loss]\nmean = 2\n[curriculum]",
        r"\[loss\] mean: has no effect with the head flux, which conserves the mean",
    ),
    (
        "[curriculum]",
        "[memory]\nlimit = 1e-5\n[curriculum]",
        r"\[memory\] limit: one sequence takes .* GB, more than 1e-05 GB",
    ),
    (
        "dimensions = 2\nblocks = 2\nchannels = 5\nkernel = 3",
        'preset = "misfit-2d"',
        r"preset: misfit-2d is given misfit: name the key",
    ),
    ("kernel = 3", 'kernel = 3\nstart = "a.ostwald"', r"\[network\] dimensions: has no effect beside start"),
    (
        "dimensions = 2\nblocks = 2\nchannels = 5\nkernel = 3",
        'start = "a.ostwald"',
        r"\[network\] start: .*a.ostwald: no such file",
    ),
    ("kernel = 3", 'kernel = 3\ndevice = "cuda:7"', r"\[network\] device: 'cuda:7' cannot be used"),
    ("clip = 1.0", 'kind = "levenberg-marquardt"', r"\[optimiser\] kind: must be one of|\[optimiser\] kind"),
    ("[optimiser]", "[optimizer]", r"unknown table \[optimizer\]; did you mean 'optimiser'"),
]


@pytest.mark.parametrize("old, new, message", WRONG)
def test_a_wrong_run_file_is_refused_in_one_sentence(run_file, world, tmp_path, old, new, message):
    assert old in RUN
    with pytest.raises((RunFileError, CollectiveError), match=message) as caught:
        train_surrogate.run(world, run_file(RUN.replace(old, new)), tmp_path / "run")
    assert "train.toml" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_sets_that_do_not_go_together_are_refused(run_file, made, world, tmp_path):
    other = make_sequences(world, tmp_path, shape=(32, 64), count=4, name="other")
    text = RUN.replace("[network]", f'[[sequences]]\nfile = "{other}"\n[network]')
    with pytest.raises(
        (RunFileError, CollectiveError), match=r"has 12 × 16 × 16 \(frames and points\), .* 12 × 16 × 32"
    ):
        train_surrogate.run(world, run_file(text), tmp_path / "run")
    longer = make_sequences(world, tmp_path, count=4, interval=0.5, name="longer")
    text = RUN.replace("[network]", f'[[sequences]]\nfile = "{longer}"\n[network]')
    with pytest.raises(
        (RunFileError, CollectiveError), match=r"has 0.25 \(interval\), .* 0.5: they do not go together"
    ):
        train_surrogate.run(world, run_file(text), tmp_path / "run")
    both = TrainingSequences([made, make_sequences(world, tmp_path, count=4, seed=9, name="same")])
    assert [len(items) for items in both.items.values()] == [21, 7]
    assert both.read(25).shape == (12, 16, 16)


def test_a_surrogate_of_another_step_is_not_trained_further(run_file, world, tmp_path):
    architecture = Architecture(2, 1, 2, 3)
    found = model.Surrogate(architecture, Network(architecture).arrays(), 0.25, (2.0, 2.0))
    solid = Architecture(3, 1, 2, 3)
    three = model.Surrogate(solid, Network(solid).arrays(), 0.25, (2.0, 2.0, 2.0))
    for what, surrogate in (
        ("interval", replace(found, interval=0.5)),
        ("spacing", replace(found, spacing=(1.0, 1.0))),
        ("spacing", three),
    ):
        surrogate.save(tmp_path / "a.ostwald")
        text = RUN.replace("dimensions = 2\nblocks = 2\nchannels = 5\nkernel = 3", f'start = "{tmp_path}/a.ostwald"')
        with pytest.raises((RunFileError, CollectiveError), match=rf"\[network\] start: .* is for another {what}"):
            train_surrogate.run(world, run_file(text), tmp_path / "run")


def test_the_page_of_keys_is_up_to_date():
    from pathlib import Path

    written = (Path(__file__).parents[2] / "docs/train-surrogate-run-file.md").read_text()
    assert written == page() + "\n", (
        "python -m ostwald.app.jobs.train_surrogate_schema > docs/train-surrogate-run-file.md"
    )
