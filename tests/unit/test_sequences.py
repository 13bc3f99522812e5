"""Sets of sequences: what they are made of, the file that holds them, what is refused, told and shown."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.jobs.sequences_schema import OWN, Plan, page
from ostwald.app.phasefield import CahnHilliard, Elasticity, FiniteDifference, Noise, Perlin, cubic, double_well
from ostwald.app.phasefield.stability import softest, unstable
from ostwald.app.runfile import RunFileError, load_toml
from ostwald.io.sequences import FINISHED, Sequences, SequencesError, SequenceWriter, create_sequences
from ostwald.parallel import World

SET = """
[job]
kind = "sequences"
seed = 3
[grid]
shape = [24, 32]
[model]
epsilon = 5.0
[elasticity]
c11 = 3e4
c12 = 1.5e4
c44 = 3e4
[initial]
kind = "perlin"
cells = 4
[set]
count = 10
frames = 4
interval = 0.5
timestep = 0.05
validation = 0.3
[[vary]]
key = "elasticity.misfit"
uniform = [0.0, 0.012]
[[vary]]
key = "initial.exact_mean"
normal = [0.5, 0.1]
limits = [0.3, 0.7]
[[vary]]
key = "set.start"
values = [0.0, 1.0]
"""


@pytest.fixture
def plan(tmp_path):
    def make(text=SET):
        path = tmp_path / "set.toml"
        path.write_text(text)
        return Plan(load_toml(path), path)

    return make


MISTAKES = [
    ("interval = 0.5", "interval = 0.52", "[set] interval: 0.52 is not a whole number of time steps"),
    ("timestep = 0.05", "longest = 0.05", "[set] timestep: is required without a tolerance"),
    ("timestep = 0.05", "timestep = 0.05\nlongest = 0.05", "[set] tolerance: is required with shortest and longest"),
    ("frames = 4", "frames = 0", "[set] frames: must be at least 1"),
    ("validation = 0.3", "validation = 1.0", "leaves nothing to train on"),
    ("[set]", "[fields]\nevery = 3\n[set]", "a set of sequences has no table [fields]"),
    ("[set]", "[limit]\nfield = 3\n[set]", "unknown table [limit]"),
    ("elasticity.misfit", "elasticity.misfits", "[vary 1] key: there is no 'elasticity.misfits' that could vary"),
    ("elasticity.misfit", "grid.spacing", "[vary 1] key: there is no 'grid.spacing' that could vary"),
    ("elasticity.misfit", "model.well", "[vary 1] key: 'model.well' is not a number"),
    ("elasticity.misfit", "initial.cells", "'initial.cells' has a value in its table, too"),
    ("elasticity.misfit", "initial.exact_mean", "[vary 2] key: 'initial.exact_mean' varies already"),
    ("uniform = [0.0, 0.012]", "uniform = [0.1, 0.0]", "[vary 1] uniform: takes a lower and a higher number"),
    ("uniform = [0.0, 0.012]", "values = [0.0]\nuniform = [0.0, 0.012]", "[vary 1]: give one of"),
    ("normal = [0.5, 0.1]", "uniform = [0.5, 0.6]", "[vary 2] limits: has an effect with normal only"),
    ("values = [0.0, 1.0]", "values = [-1.0]", "[set] start: must be at least 0, is -1 in sequence 0"),
    ("cells = 4", "cells = 40", "finer than the grid"),
    ("validation = 0.3", "stride = 5", "[set] stride: 5 does not divide the grid"),
    ("timestep = 0.05", "timestep = -0.05", "[set] timestep: must be above 0"),
    ("frames = 4", "frames = 4\nranks = 2", "[set] ranks: 2 are to work on one sequence, but there are 1"),
    ('kind = "perlin"\ncells = 4', 'kind = "file"\nfile = "."', "a folder, not a file with a field"),
    ("c12 = 1.5e4", "c12 = 3.5e4", "elastic constants must be positive definite"),
]


@pytest.mark.parametrize("old, new, word", MISTAKES)
def test_a_mistake_gives_one_sentence_and_writes_nothing(refused, old, new, word):
    assert SET.count(old) == 1
    refused(SET.replace(old, new), word)


def test_values_out_of_range_name_the_sequence(plan):
    made = plan(
        SET.replace('key = "elasticity.misfit"\nuniform = [0.0, 0.012]', 'key = "model.mobility"\nvalues = [0.0]')
    )
    with pytest.raises(RunFileError, match=r"sequence 4 \(model.mobility = 0, .*\[model\] mobility: must be above 0"):
        made.of(4)


def test_laws_are_keyed_by_the_number_of_the_sequence(plan):
    text = SET.replace("count = 10", "count = 4000")
    whole = plan(text)
    mean, misfit, start = (whole.parameters[k] for k in ("initial.exact_mean", "elasticity.misfit", "set.start"))
    assert 0.3 <= mean.min() < 0.305 and 0.695 < mean.max() <= 0.7
    # a normal law cut off at two deviations has the variance 1 - 2·2 p(2)/(2 P(2) - 1)
    assert mean.std() == pytest.approx(0.1 * np.sqrt(1 - 4 * 0.05399 / 0.9545), rel=0.03)
    assert misfit.min() >= 0 and misfit.mean() == pytest.approx(0.006, rel=0.02) and misfit.max() < 0.012
    assert set(start) == {0.0, 1.0} and start.mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef([mean, misfit, start]) - np.eye(3)).max() < 0.05
    assert len(set(whole.seed)) == 4000
    parts = [plan(text.replace("count = 4000", f"count = {n}\nfirst = {k}")) for k, n in ((0, 1500), (1500, 2500))]
    for name in ("seed", "start", "validation"):
        assert np.array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
    assert np.array_equal(np.concatenate([p.parameters["initial.exact_mean"] for p in parts]), mean)
    assert plan(text.replace("seed = 3", "seed = 4")).parameters["initial.exact_mean"][0] != mean[0]


def test_shares_are_exact(plan):
    for count, share, wanted in ((1850, 0.3, 555), (2000, 0.2, 400), (10, 0.0, 0), (7, 0.5, 3)):
        made = plan(SET.replace("count = 10", f"count = {count}").replace("0.3\n", f"{share}\n"))
        assert made.validation.sum() == wanted


def test_grids_are_combined(plan):
    text = SET.replace("uniform = [0.0, 0.012]", "grid = [0.0, 0.012, 3]").replace(
        "normal = [0.5, 0.1]\nlimits = [0.3, 0.7]", "grid = [0.2, 0.8, 4]"
    )
    made = plan(text.replace("count = 10", "count = 24"))
    points = np.stack([made.parameters["elasticity.misfit"], made.parameters["initial.exact_mean"]], -1)
    wanted = [(m, x) for m in np.linspace(0, 0.012, 3) for x in np.linspace(0.2, 0.8, 4)]
    assert np.allclose(points, wanted * 2, atol=0) and len(set(made.seed)) == 24


def test_the_file_holds_what_ranks_write(tmp_path):
    """Bricks of slabs and pencils in pieces, every second point, half precision; HDF5 reads what is read here."""
    path, rng = tmp_path / "sequences.h5", np.random.default_rng(1)
    about = dict(frames=2, seed=[5, 6, 7], start=[0, 0, 1.5], validation=[0, 1, 0], parameters={"a.b": [1, 2, 3.5]})
    create_sequences(path, shape=(6, 5, 4), precision="half", stride=2, spacing=2.0, interval=0.5, first=9, **about)
    writer, phi = SequenceWriter(path), rng.random((3, 2, 12, 10, 8))
    for k, f in [(2, 1), (0, 0), (2, 0), (1, 0), (0, 1)]:
        for x0, x1 in ((0, 5), (5, 12)):
            for y0, y1 in ((0, 3), (3, 10)):
                brick = phi[k, f, x0:x1, y0:y1]
                pieces = [(a, min(a + 3, x1 - x0), brick[a : a + 3]) for a in range(0, x1 - x0, 3)]
                writer.write_frame(k, f, pieces, (x0, y0, 0), (x1, y1, 8))
    for k in (2, 0):
        writer.finish(k, energy=[k, 2.0], low=[0, 0], high=[1, 1], mean=0.5, steps=7, seconds=0.1)
    assert not writer.state().any()
    writer.settle()
    with Sequences(path) as data, h5py.File(path) as file:
        assert (
            data.shape == (3, 2, 6, 5, 4)
            and data.dtype == np.float16
            and data.files[0].offsets["sequences"] % 4096 == 0
        )
        assert data.numbers().tolist() == [0, 2] == data.numbers("training").tolist() and not len(
            data.numbers("validation")
        )
        assert file["sequences"].chunks is None and data.interval == 0.5 and data.first.tolist() == [9, 10, 11]
        for k in (0, 2):
            wanted = phi[k, :, ::2, ::2, ::2].astype(np.float16)
            assert np.array_equal(data.read(k), wanted) and np.array_equal(file["sequences"][k], wanted)
            assert np.array_equal(data.read(k, 1, 2)[0], wanted[1])
        assert data.table("energy")[2].tolist() == [2, 2] and np.isnan(data.table("mean")[1])
        assert file["energy"][0].tolist() == [0, 2] and file["state"][:].tolist() == [1, 0, 1]
        assert data.parameters["a.b"].tolist() == [1, 2, 3.5] and data.seed.tolist() == [5, 6, 7]
        with pytest.raises(SequencesError, match="no frames"):
            data.read(3)
        with pytest.raises(SequencesError, match="contiguous array"):
            data.read(0, out=np.empty((2, 6, 5, 4)))


def test_parts_of_a_set_are_read_as_one(tmp_path):
    """Three files in any order, one of them not finished; what does not belong together is refused."""
    rng, counts, first = np.random.default_rng(2), (3, 2, 4), 10
    phi = rng.random((sum(counts), 2, 6, 4)).astype("f4")
    for part, count in enumerate(counts):
        folder, begin = tmp_path / f"part-{part}", sum(counts[:part])
        folder.mkdir()
        numbers = begin + np.arange(count)
        create_sequences(
            folder / "sequences.h5", frames=2, shape=(6, 4), first=first + begin, seed=100 + numbers, start=0.5 * numbers,
            validation=numbers % 2, parameters={"b": numbers, "a": -numbers},
        )  # fmt: skip
        writer = SequenceWriter(folder / "sequences.h5")
        for k in range(count - (part == 1)):
            for frame in range(2):
                writer.write_frame(k, frame, [(0, 6, phi[begin + k, frame])], (0, 0), (6, 4))
            writer.finish(k, energy=[begin + k, 0], low=[0, 0], high=[1, 1], mean=0.5, steps=begin + k, seconds=0.1)
        writer.settle()
        writer.close()
    files = [tmp_path / f"part-{part}/sequences.h5" for part in range(3)]
    for given in (
        str(tmp_path / "part-*"),
        str(tmp_path / "part-*/sequences.h5"),
        [files[2], files[0].parent, files[1]],
    ):
        with Sequences(given) as data:
            assert data.shape == (9, 2, 6, 4) and len(data) == 9 and data.first.tolist() == list(range(10, 19))
            assert data.seed.tolist() == list(range(100, 109)) and data.parameters["a"].tolist() == [
                -k for k in range(9)
            ]
            assert data.numbers().tolist() == [0, 1, 2, 3, 5, 6, 7, 8] and data.numbers("validation").tolist() == [
                1,
                3,
                5,
                7,
            ]
            for k in data.numbers():
                assert np.array_equal(data.read(k), phi[k]) and np.array_equal(data.read(k, 1, 2)[0], phi[k, 1])
            assert data.table("steps").tolist()[5:] == [5, 6, 7, 8] and np.isnan(data.table("energy")[4]).all()
            assert data.table("energy")[8].tolist() == [8, 0]
    with Sequences([files[0], files[2]]) as data:  # a part is still missing
        assert data.first.tolist() == [10, 11, 12, 15, 16, 17, 18] and np.array_equal(data.read(3), phi[5])
    about = dict(frames=2, shape=(6, 4), first=40, seed=[1], start=[0], validation=[0], parameters={"b": [0], "a": [0]})
    for change, word in (
        (dict(first=12), "begins with sequence 12, which .*part-0/sequences.h5 holds, too"),
        (dict(frames=3), r"not of one set with .*: sequences \(3, 6, 4\), not \(2, 6, 4\)"),
        (dict(interval=2.0), "time between frames 2.0, not 1.0"),
        (dict(parameters={"b": [0]}), "parameters"),
        (dict(precision="half"), "numbers float16, not float32"),
    ):
        create_sequences(tmp_path / "other.h5", **about | change)
        with pytest.raises(SequencesError, match=word):
            Sequences([files[0], tmp_path / "other.h5"])
    for given, word in (
        (str(tmp_path / "none-*"), "there is no such file"),
        ([], "no file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(SequencesError, match=word):
            Sequences(given)


def test_an_empty_file_takes_no_space(tmp_path):
    """1.5 GB are made at once, a hole that fills later; one that the disk cannot hold is refused at once."""
    path = tmp_path / "sequences.h5"
    rest = dict(seed=np.arange(1850), start=np.zeros(1850), validation=np.zeros(1850), parameters={})
    with pytest.raises(OSError, match="No space left"):
        create_sequences(path, frames=50, shape=(4096, 4096, 4096), **rest)
    assert not list(tmp_path.iterdir())
    create_sequences(path, frames=50, shape=(16, 16, 16), **rest)
    assert path.stat().st_size > 1.5e9 and path.stat().st_blocks * 512 < 5e6
    with Sequences(path) as data:
        assert len(data) == 1850 and not data.state.any() and not data.read(1849, 49).any()


def test_other_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "text.h5").write_text("no")
    for name, word in (
        ("other.h5", "not a file of sequences"),
        ("text.h5", "cannot be read"),
        ("none.h5", "cannot be read"),
    ):
        with pytest.raises(SequencesError, match=word):
            Sequences(tmp_path / name)


def test_sequences_are_those_of_single_runs(tmp_path, capsys):
    """Each is what the solver gives from its seed and its parameters, at the times of the frames."""
    path, run = tmp_path / "set.toml", tmp_path / "run"
    path.write_text(SET)
    assert main(["run", str(path), "-d", str(run)]) == 0
    out = capsys.readouterr().out
    assert "10 of 10 sequences" in out and "7 for training, 3 for validation" in out
    made, world = Plan(load_toml(path), path), World()
    with Sequences(run / "sequences.h5") as data:
        assert (data.state == FINISHED).all() and set(data.start) == {0, 1}
        for k in range(10):
            misfit, mean = data.parameters["elasticity.misfit"][k], data.parameters["initial.exact_mean"][k]
            assert misfit == made.parameters["elasticity.misfit"][k]
            elastic = Elasticity(cubic(3e4, 1.5e4, 3e4), misfit, 2)
            solver = CahnHilliard(world, (24, 32), double_well(5.0), 5.0, elasticity=elastic)
            start = Perlin((24, 32), seed=int(data.seed[k]), cells=4).with_mean(mean, solver.fourier)
            solver.set_field(start.source(solver.fourier))
            solver.step(0.05, round(data.start[k] / 0.05) or 1) if data.start[k] else None
            for frame in range(4):
                assert np.array_equal(data.read(k)[frame], solver.field().astype(np.float32))
                told = solver.measure()
                for name in ("energy", "low", "high"):
                    assert data.table(name)[k, frame] == told[name]
                if frame < 3:
                    solver.step(0.05, 10)
            assert data.table("mean")[k] == pytest.approx(mean, rel=1e-14) and data.table("steps")[k] == solver.steps
    # and all of it is told
    assert main(["info", str(run), str(run / "sequences.h5"), str(path)]) == 0
    out = capsys.readouterr().out
    assert "finished with 10 of 10 sequences" in out and out.count("10 sequences of 4 frames on 24 x 32 points") == 2
    assert main(["report", str(run)]) == 0
    html = (run / "report.html").read_text()
    assert html.count("<img") == 10 + 4 and html.count("<svg") == 7 and "Phase diagram" in html and "finished" in html
    assert main(["resume", str(run)]) == 0 and "nothing is left" in capsys.readouterr().out
    kept = load_toml(run / "run.toml")
    assert "misfit" not in kept["elasticity"] and kept["set"]["count"] == 10
    assert Plan(kept, run / "run.toml").of(3) == made.of(3)


def test_noise_has_the_seed_of_its_sequence(tmp_path):
    """With one model for all sequences and noise in every step."""
    text = SET[: SET.index("[[vary]]")].replace("[elasticity]\nc11 = 3e4\nc12 = 1.5e4\nc44 = 3e4\n", "")
    path, run, world = tmp_path / "set.toml", tmp_path / "run", World()
    path.write_text(text.replace("count = 10", "count = 3") + "[noise]\namplitude = 0.01\n")
    assert main(["run", str(path), "-d", str(run)]) == 0
    with Sequences(run / "sequences.h5") as data:
        for k in range(3):
            seed = int(data.seed[k])
            solver = CahnHilliard(world, (24, 32), double_well(5.0), 5.0, noise=Noise(seed, amplitude=0.01))
            solver.set_field(Perlin((24, 32), seed=seed, cells=4).source(solver.fourier))
            solver.step(0.05, 30)
            assert np.array_equal(data.read(k)[-1], solver.field().astype(np.float32))


def test_a_set_by_explicit_finite_differences(tmp_path, capsys):
    """The steps of Lanzoni et al. in three dimensions, every second point kept."""
    text = SET[: SET.index("[[vary]]")].replace("[elasticity]\nc11 = 3e4\nc12 = 1.5e4\nc44 = 3e4\n", "")
    text = (
        text.replace("[24, 32]", "[12, 10, 14]")
        .replace("epsilon = 5.0", "epsilon = 3.0")
        .replace("count = 10", "count = 2")
    )
    text = text.replace("0.05", "1.25e-3").replace("validation = 0.3", "stride = 2\nstart = 0.25")
    path, run, world, shape = tmp_path / "set.toml", tmp_path / "run", World(), (12, 10, 14)
    path.write_text(text + '[solver]\nmethod = "finite-difference"\n')
    assert main(["run", str(path), "-d", str(run)]) == 0
    with Sequences(run / "sequences.h5") as data:
        assert (
            data.shape == (2, 4, 6, 5, 7) and data.spacing.tolist() == [2, 2, 2] and data.start.tolist() == [0.25] * 2
        )
        for k in range(2):
            solver = FiniteDifference(world, shape, double_well(3.0), 3.0)
            solver.set_field(Perlin(shape, seed=int(data.seed[k]), cells=4).source(solver.parts))
            for frame in range(4):
                solver.step(1.25e-3, 400 if frame else 200)
                assert np.array_equal(data.read(k)[frame], solver.field()[::2, ::2, ::2].astype(np.float32))
                assert data.table("energy")[k, frame] == solver.measure()["energy"]
    path.write_text(path.read_text().replace("1.25e-3", "0.005"))
    capsys.readouterr()
    assert main(["check", str(path)]) == 1 and "[set] timestep: explicit steps are stable" in capsys.readouterr().err


def test_a_set_in_steps_as_long_as_a_tolerance_allows(tmp_path, capsys):
    """Frames at their times exactly, and close to those of short steps."""
    path, fields = tmp_path / "set.toml", []
    text = SET.replace("count = 10", "count = 3").replace("interval = 0.5", "interval = 2.0")
    for name, steps in (("short", "0.0025"), ("long", "0.0025\ntolerance = 0.003\nlongest = 0.5")):
        path.write_text(text.replace("0.05", steps))
        assert main(["check", str(path)]) == 0 and main(["run", str(path), "-d", str(tmp_path / name)]) == 0
        with Sequences(tmp_path / name / "sequences.h5") as data:
            assert (data.state == FINISHED).all() and data.interval == 2 and set(data.start) <= {0, 1}
            fields.append((np.stack([data.read(k) for k in range(3)]), data.table("steps")))
    assert "as long as the tolerance allows" in capsys.readouterr().out
    (short, many), (long, few) = fields
    assert np.ptp(short[:, -1]) > 0.01 and np.abs(short - long).max() < 0.01 * np.ptp(short) and (few < many / 10).all()


def test_check_tells_without_writing(tmp_path, capsys):
    path = tmp_path / "set.toml"
    path.write_text(
        SET.replace("[24, 32]", "[128, 128]").replace("count = 10\nframes = 4", "count = 2000\nframes = 100")
    )
    before = set(tmp_path.iterdir())
    assert main(["check", str(path), "--ranks", "8"]) == 0
    out = capsys.readouterr().out
    assert f"{2000 * 100 * 128 * 128 * 4 / 1e9:.3g} GB" in out and "1400 for training, 600 for validation" in out
    made = Plan(load_toml(path), path)
    path.write_text(SET.replace("frames = 4", "frames = 4\nranks = 16"))
    assert main(["check", str(path)]) == 0  # those that it names
    for ranks, text, word in (
        (8, "ranks = 16", "[set] ranks: 16 are to work on one sequence, but there are 8"),
        (1000, "ranks = 1000", "[set] ranks: 1000 ranks are too many for a grid of 24 x 32"),
    ):
        path.write_text(SET.replace("frames = 4", f"frames = 4\n{text}"))
        assert main(["check", str(path), "--ranks", str(ranks)]) == 1 and word in capsys.readouterr().err
    assert f"{2000 * 99 * 10 + made.steps_before.sum()} steps" in out and set(tmp_path.iterdir()) == before


def test_sequences_that_diverge_are_given_up_and_the_others_kept(tmp_path, capsys):
    """Where the mobility is 10⁵ steps are far too long: φ leaps further in each."""
    text = SET.replace("initial.exact_mean", "model.mobility") + "[limits]\nfield = 5.0\n"
    text = text.replace("normal = [0.5, 0.1]\nlimits = [0.3, 0.7]", "values = [1.0, 1e5]").replace("0.012]", "0.001]")
    path, run = tmp_path / "set.toml", tmp_path / "run"
    path.write_text(text)
    assert main(["run", str(path), "-d", str(run)]) == 1
    said = capsys.readouterr()
    wrong = Plan(load_toml(path), path).parameters["model.mobility"] > 1
    assert 0 < wrong.sum() < 10 and f"{wrong.sum()} of 10 sequences diverged" in said.err
    assert said.out.count("was given up") == wrong.sum()
    with Sequences(run / "sequences.h5") as data:
        assert np.array_equal(data.state, np.where(wrong, 2, 1))
        assert np.isfinite(data.table("energy")[~wrong]).all() and np.isnan(data.table("energy")[wrong]).all()
    assert main(["report", str(run)]) == 0 and "given up" in (run / "report.html").read_text()
    assert main(["resume", str(run)]) == 0 and "nothing is left" in capsys.readouterr().out


def test_the_line_of_stability():
    """Closed forms: spinodal of the double well at no misfit, closing of the range at 1.265 %, and between them the
    condition itself."""
    well, unit = double_well(5.0), softest(Elasticity(cubic(3e4, 1.5e4, 3e4), 1.0, 2))
    assert unit == pytest.approx(2.25e4, rel=1e-12)
    assert unstable(well) == pytest.approx((0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3)), abs=1e-12)
    closing = np.sqrt(18 / 5 / unit)
    assert closing == pytest.approx(0.01265, rel=1e-3)
    assert unstable(well, unit * (1.0001 * closing) ** 2) is None
    for misfit, low, high in ((0.002, 0.2150, 0.7850), (0.006, 0.2459, 0.7541), (0.012, 0.4087, 0.5913)):
        assert unstable(well, unit * misfit**2) == pytest.approx((low, high), abs=5e-5)
    # a stiff well in three dimensions: soft along the cube's edges or its diagonals
    for c44, n in ((3e4, (1, 0, 0)), (3e3, (1, 1, 1))):
        elastic = Elasticity(cubic(3e4, 1.5e4, c44), 1.0, 3)
        assert softest(elastic) == pytest.approx(float(elastic.factor(*map(float, n))), rel=1e-12)


def test_the_page_of_all_keys_is_of_these_keys():
    written = (Path(__file__).parents[2] / "docs/sequences-run-file.md").read_text(encoding="utf-8")
    assert written == page() + "\n", "python -m ostwald.app.jobs.sequences_schema > docs/sequences-run-file.md"
    assert [(table.name, name) for table in OWN for name, key in table.keys.items() if not key.doc] == []
