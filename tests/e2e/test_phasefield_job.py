"""The phase-field job as its users run it: outputs, stops, restarts on the same and other rank counts, mistakes."""

import json
import signal

import numpy as np
import pytest

from ostwald.app.phasefield import (
    CahnHilliard,
    Elasticity,
    Morphology,
    StructureFactor,
    UniformNoise,
    cubic,
    double_well,
)
from ostwald.io.checkpoint import list_checkpoints, read_checkpoint
from ostwald.io.fields import field_frames, fields_info, open_field
from ostwald.io.timeseries import read_series
from ostwald.parallel import World

JOB = """
[job]
kind = "phasefield"
seed = 7
[grid]
shape = [20, 18, 64]
precision = "{precision}"
[model]
epsilon = 3.0
[elasticity]
c11 = 250.0
c12 = 150.0
c44 = 100.0
misfit = 0.01
[initial]
kind = "uniform"
mean = 0.45
amplitude = 0.1
[[stage]]
name = "separate"
timestep = 0.02
steps = 120
[[stage]]
timestep = 0.05
steps = {steps}
[series]
every = 8
[fields]
every = 50
precision = "double"
[analysis]
every = 25
[checkpoint]
every = {checkpoint}
[log]
every = 50
"""


IMPLICIT = """
[job]
kind = "phasefield"
seed = 7
[grid]
shape = [18, 20]
[model]
epsilon = 3.0
mobility_coefficients = [0.2, 3.0, -3.0]
[solver]
method = "petsc"
boundaries = ["no-flux", "periodic"]
[initial]
kind = "uniform"
amplitude = 0.1
[[stage]]
timestep = 0.2
steps = {steps}
[series]
every = 1
[fields]
every = 20
precision = "double"
[checkpoint]
every = 20
"""


def job(precision="double", steps=80, checkpoint=50):
    return JOB.format(precision=precision, steps=steps, checkpoint=checkpoint)


def final_state(directory):
    """The whole spectrum of the last checkpoint, in the order of its columns, and the solver's numbers."""
    checkpoint = read_checkpoint(directory / "checkpoints", World())
    if checkpoint.ranks == 1:
        return checkpoint.arrays["spectrum"], checkpoint.meta["solver"]
    spectrum = np.empty_like(checkpoint.arrays["spectrum"])
    read_checkpoint(directory / "checkpoints", World(), targets={"spectrum": (0, spectrum)})
    return spectrum, checkpoint.meta["solver"]


def interrupted(ostwald, directory, arguments, ranks, lines, number=signal.SIGUSR1):
    """Runs until the series has `lines` more lines, then sends a signal."""
    log = directory / "series.csv"
    have = log.read_text().count("\n") if log.exists() else 0
    return ostwald.kill_when(
        lambda: log.exists() and log.read_text().count("\n") > have + lines, *arguments, ranks=ranks, number=number
    )


def test_run_leaves_everything(ostwald, run_file, tmp_path):
    path, file = tmp_path / "run", run_file(job())
    status, out, err = ostwald("run", file, "-d", path)
    assert status == 0 and not err, out + err
    for word in ("point-steps/s", "slabs", "memory", "stage 2 of 2", "coherent elasticity"):
        assert word in out
    figures = json.loads((path / "timing.json").read_text())
    assert figures["points"] == 20 * 18 * 64 and figures["total_steps"] == 200 and figures["finished"]
    assert figures["energy_rises"] == 0
    # the rows are what the solver itself tells
    world = World()
    solver = CahnHilliard(world, (20, 18, 64), double_well(3.0), 3.0, elasticity=Elasticity(cubic(250, 150, 100), 0.01))
    solver.set_field(UniformNoise((20, 18, 64), seed=7, mean=0.45, amplitude=0.1).source(solver.fourier))
    wanted = []
    frames, analyses = [], (StructureFactor(), Morphology())
    names = [name for each in analyses for name in each.columns]
    for step in range(201):
        if step % 8 == 0 or step % 25 == 0:
            wanted.append(dict(step=step, time=solver.time, **solver.measure(), **dict.fromkeys(names, np.nan)))
        if step % 25 == 0:
            for each in analyses:
                wanted[-1] |= each.measure(solver)[0]
        if step % 50 == 0:
            frames.append(solver.field())
        solver.step(0.02 if step < 120 else 0.05)
    for name in ("series.h5", "series.csv"):
        rows = read_series(path / name)
        assert list(rows["step"]) == [row["step"] for row in wanted]
        for column in ("time", "energy", "bulk", "gradient", "elastic", "mean", "low", "high", *names):
            asked = [row[column] for row in wanted]
            assert np.allclose(rows[column], asked, rtol=1e-11, atol=1e-15, equal_nan=True), column
        assert (np.diff(rows["energy"]) < 0).all() and np.ptp(rows["mean"]) == 0
    steps, _ = field_frames(path / "fields.h5")
    assert steps.tolist() == [0, 50, 100, 150, 200] and (path / "fields.xdmf").exists()
    for k, phi in enumerate(frames):
        assert np.abs(open_field(path / "fields.h5", frame=k)[:] - phi).max() < 1e-13
    status, out, err = ostwald("report", path)
    page = (path / "report.html").read_text()
    assert status == 0 and page.count("<svg") >= 7 and "Decay of the free energy" in page, err
    assert page.count("<img") == 5 and page.count('alt="surface of the field"') == 1  # four slices and the body
    status, out, err = ostwald("info", path, file, path / "checkpoints")
    assert (
        status == 0
        and "20 × 18 × 64" in out
        and "finished at step 200" in out
        and "steps 0 to 200, time 6.4" in out
        and out.count("fields phi on 20 x 18 x 64 points") == 1
    ), err
    status, out, err = ostwald("resume", path)
    assert status == 0 and "nothing is left" in out


@pytest.mark.parametrize("ranks, shape", [(1, [20, 18, 64]), (3, [48, 60])])
def test_noisy_relaxation_resumes_bit_for_bit(ostwald, run_file, tmp_path, ranks, shape):
    """Allen–Cahn with the regular solution and both kinds of noise: the mean, which moves, and the noise go on as they were."""
    text = job(steps=600, checkpoint=70).replace("[20, 18, 64]", str(shape))
    text = text.replace(
        "epsilon = 3.0",
        'equation = "allen-cahn"\nwell = "regular-solution"\nomega = 3.0\ntemperature = 1.2\nepsilon = 3.0',
    )
    text += "[noise]\ntemperature = 0.01\namplitude = 1e-3\n"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    status, out, err = ostwald("run", run_file(text), "-d", whole, ranks=ranks)
    assert status == 0 and "free energy rose" not in err and "Allen–Cahn" in out and "noise: kT 0.01" in out, out + err
    rows = read_series(whole / "series.h5")
    assert np.ptp(rows["mean"]) > 1e-3 and (np.diff(rows["energy"]) > 0).any()
    status, out, err = interrupted(ostwald, broken, ("run", run_file(text), "-d", broken), ranks, 12)
    assert status == 85, out + err
    assert ostwald("resume", broken, ranks=ranks)[0] == 0
    (spectrum, numbers), (again, others) = final_state(whole), final_state(broken)
    assert np.array_equal(spectrum, again) and numbers == others


@pytest.mark.parametrize("ranks, precision, grid, steps", [(1, "double", "", 2000), (4, "single", "[2, 2]", 300)])
def test_resumed_run_is_bitwise_the_uninterrupted_one(ostwald, run_file, tmp_path, ranks, precision, grid, steps):
    text = job(precision, steps, checkpoint=70) + (f"[parallel]\ngrid = {grid}\n" if grid else "")
    assert ostwald("run", run_file(text), "-d", tmp_path / "whole", ranks=ranks)[0] == 0
    broken = tmp_path / "broken"
    status, out, err = interrupted(ostwald, broken, ("run", run_file(text), "-d", broken), ranks, 12)
    assert status == 85 and "resume" in out, out + err
    # then killed outright, with rows behind the last checkpoint
    status, out, err = interrupted(ostwald, broken, ("resume", broken), ranks, 12, signal.SIGKILL)
    assert status not in (0, 85), out + err
    status, out, err = ostwald("resume", broken, ranks=ranks)
    assert status == 0 and "resumed at step" in out, out + err
    (a, told), (b, again) = final_state(tmp_path / "whole"), final_state(broken)
    assert a.tobytes() == b.tobytes() and told == again
    a, b = (read_series(directory / "series.h5") for directory in (tmp_path / "whole", broken))
    for name in ("step", "time", "energy", "elastic", "low", "high", "length", "interface", "domains_high"):
        assert np.array_equal(a[name], b[name], equal_nan=True), name
    steps, _ = field_frames(broken / "fields.h5")
    assert np.array_equal(steps, field_frames(tmp_path / "whole/fields.h5")[0])
    for k in (0, len(steps) // 2, -1):
        a, b = (open_field(directory / "fields.h5", frame=k)[:] for directory in (tmp_path / "whole", broken))
        assert np.array_equal(a, b)


def test_restart_on_other_rank_counts(ostwald, run_file, tmp_path):
    """Slabs and pencils, in any order; frames compressed."""
    text = job(steps=2000, checkpoint=0)
    assert ostwald("run", run_file(text), "-d", tmp_path / "whole")[0] == 0
    text = text.replace('precision = "double"\n[analysis]', 'precision = "double"\ncompression = "gzip"\n[analysis]')
    moved = tmp_path / "moved"
    begun = False
    for ranks, grid in [(1, None), (4, "[1, 4]"), (3, None), (4, "[2, 2]")]:
        if begun:
            kept = (moved / "run.toml").read_text().partition("[parallel]")
            tail = kept[2].partition("[[stage]]")
            table = f"[parallel]\ngrid = {grid}\n\n" if grid else "[parallel]\n\n"
            (moved / "run.toml").write_text(kept[0] + table + tail[1] + tail[2])
        arguments = ("resume", moved) if begun else ("run", run_file(text), "-d", moved)
        status, out, err = interrupted(ostwald, moved, arguments, ranks, 8)
        assert status == 85, out + err
        assert ("pencils" if grid else "slabs") in out
        begun = True
    status, out, err = ostwald("resume", moved, ranks=2)  # the grid of four is left
    assert status == 0, out + err
    (a, told), (b, again) = final_state(tmp_path / "whole"), final_state(moved)
    assert np.abs(a - b).max() < 1e-11 * np.abs(a).max() and told == again
    assert np.array_equal(*(read_series(d / "series.h5")["step"] for d in (tmp_path / "whole", moved)))
    files = [d / "fields.h5" for d in (tmp_path / "whole", moved)]
    assert np.array_equal(*(field_frames(file)[0] for file in files)) and "gzip" in fields_info(files[1])
    for frame in range(len(field_frames(files[0])[0])):
        a, b = (open_field(file, frame=frame)[:] for file in files)
        assert np.abs(a - b).max() < 1e-11


@pytest.mark.parametrize("ranks", [1, 2])
def test_implicit_run_is_stopped_killed_and_goes_on_bit_for_bit(ostwald, run_file, tmp_path, ranks):
    """PETSc between walls, with a mobility that depends on φ: asked to stop, then kill -9 behind the last checkpoint."""
    pytest.importorskip("petsc4py")
    text = IMPLICIT.format(steps=60)
    assert ostwald("run", run_file(text), "-d", tmp_path / "whole", ranks=ranks)[0] == 0
    broken = tmp_path / "broken"
    asks = signal.SIGTERM if ranks == 1 else signal.SIGUSR1  # mpirun hands this one on; SIGTERM ends it
    status, out, err = interrupted(ostwald, broken, ("run", run_file(text), "-d", broken), ranks, 8, asks)
    assert status == 85 and asks.name in out and "resume" in out and "Traceback" not in err, out + err
    stopped = list_checkpoints(broken / "checkpoints")[-1].step
    assert 0 < stopped < 40
    status, out, err = interrupted(ostwald, broken, ("resume", broken), ranks, 12, signal.SIGKILL)
    assert status not in (0, 85) and list_checkpoints(broken / "checkpoints")[-1].step < 60
    status, out, err = ostwald("resume", broken, ranks=ranks)
    assert status == 0 and "resumed at step" in out, out + err
    found = [read_checkpoint(d / "checkpoints", World()) for d in (tmp_path / "whole", broken)]
    assert found[0].step == found[1].step == 60 and found[0].meta["solver"] == found[1].meta["solver"]
    assert found[0].arrays and all(np.array_equal(a, found[1].arrays[name]) for name, a in found[0].arrays.items())
    rows = [read_series(d / "series.h5") for d in (tmp_path / "whole", broken)]
    assert all(np.array_equal(rows[0][name], rows[1][name]) for name in ("step", "time", "energy", "low", "high"))
    frames = [open_field(d / "fields.h5", frame=-1)[:] for d in (tmp_path / "whole", broken)]
    assert np.array_equal(*frames) and np.ptp(frames[0]) > 0.5


def test_wall_time_limit_asks_to_be_resumed(ostwald, run_file, tmp_path):
    text = job(steps=10000000).replace("seed = 7", 'seed = 7\nwalltime = "3s"')
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run", timeout=60)
    assert status == 85 and "wall-time" in out, out + err
    assert list_checkpoints(tmp_path / "run/checkpoints")[-1].step > 0


@pytest.mark.parametrize("limit", ["", "[limits]\nfield = 2.0\n"])
def test_a_diverged_run_keeps_its_last_checkpoint(ostwald, run_file, tmp_path, limit):
    """Steps of 100 are far too long: φ leaps further in each."""
    text = (
        job(steps=4000, checkpoint=50).replace("timestep = 0.05", "timestep = 100.0").replace("every = 8", "every = 1")
    )
    status, _, err = ostwald("run", run_file(text + limit), "-d", tmp_path / "run", ranks=2)
    said = [line for line in err.splitlines() if line.startswith("ostwald:")]
    assert status == 1 and len(said) == 1 and "The checkpoint of step " in said[0] and "Traceback" not in err, err
    assert ("beyond [limits] field = 2" if limit else "the field") in said[0]
    kept = list_checkpoints(tmp_path / "run/checkpoints", verify=True)
    assert kept and all(found.valid for found in kept)
    spectrum, numbers = final_state(tmp_path / "run")
    assert np.isfinite(spectrum).all() and numbers["steps"] == kept[-1].step
    assert f"The checkpoint of step {kept[-1].step} stays: " in said[0] and kept[-1].step >= 100


def test_too_long_a_step_is_told(ostwald, run_file, tmp_path):
    text = job(steps=20).replace("timestep = 0.02", "timestep = 0.4").replace("every = 8", "every = 1")
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run")
    assert status == 0 and err.count("the free energy rose") == 1, out + err


def test_a_mistake_gives_one_sentence_on_two_ranks(ostwald, run_file, tmp_path):
    start = 'kind = "uniform"\nmean = 0.45\namplitude = 0.1'
    phi = np.random.default_rng(1).random((20, 18, 64))
    (tmp_path / "folder.h5").mkdir()
    for name, values in (("small", phi[:, :, :32]), ("nan", np.where(phi > phi.max() - 1e-9, np.nan, phi))):
        np.save(tmp_path / f"{name}.npy", values)
    for old, new, ranks, word in [
        ("[20, 18, 64]", "[20, 18, 66]", 2, "products of 2, 3, 5 and 7: 66 is not"),
        ("amplitude = 0.1", "amplitude = 1e308", 2, "the field must be finite"),
        ("timestep = 0.05", "timestep = -0.05", 2, "[stage 2] timestep: must be above 0"),
        ("[20, 18, 64]", "[2, 3, 8]", 3, "[grid]: 3 ranks are too many for a grid of 2 x 3 x 8"),
        (start, f'kind = "file"\nfile = "{tmp_path}/small.npy"', 2, "a field of 20 × 18 × 32 points, the grid has"),
        (start, f'kind = "file"\nfile = "{tmp_path}/nan.npy"', 2, "the field must be finite"),
        (start, f'kind = "file"\nfile = "{tmp_path}/folder.h5"', 2, "folder.h5: a folder, not a file"),
        (start, f'kind = "mesh"\nfile = "{tmp_path}/nan.npy"', 2, "nan.npy: neither an STL nor"),
    ]:
        assert job().count(old) == 1
        status, _, err = ostwald("run", run_file(job().replace(old, new)), "-d", tmp_path / "never", ranks=ranks)
        said = [line for line in err.splitlines() if line.startswith("ostwald:")]
        assert status not in (0, 85) and len(said) == 1 and word in said[0] and "Traceback" not in err, (new, err)
        assert not (tmp_path / "never").exists()


def test_what_cannot_be_resumed_is_told_and_left_alone(ostwald, run_file, tmp_path):
    """Another grid, another precision, a damaged checkpoint: one sentence, and the run goes on from the last one that is whole."""
    path = tmp_path / "run"
    status, out, err = interrupted(ostwald, path, ("run", run_file(job(steps=2000)), "-d", path), 2, 8)
    assert status == 85, out + err
    text = (path / "run.toml").read_text()
    newest = list_checkpoints(path / "checkpoints")[-1]
    for old, new, word in [
        ("[20, 18, 64]", "[20, 18, 32]", "[grid] shape: 20 × 18 × 32, but the checkpoint is of 20 × 18 × 64 points"),
        ("[20, 18, 64]", "[20, 36, 32]", "[grid] shape: 20 × 36 × 32, but"),
        ('precision = "double"', 'precision = "single"', "spectrum"),
    ]:
        (path / "run.toml").write_text(text.replace(old, new, 1))
        status, out, err = ostwald("resume", path, ranks=2)
        said = [line for line in err.splitlines() if line.startswith("ostwald:")]
        assert status not in (0, 85) and len(said) == 1 and word in said[0] and "Traceback" not in err, (new, err)
        kept = list_checkpoints(path / "checkpoints", verify=True)[-1]
        assert kept.valid and kept.step == newest.step
    (path / "run.toml").write_text(text)
    size = newest.path.stat().st_size
    with open(newest.path, "r+b") as file:
        file.seek(size - 1000)
        file.write(b"damaged")
    status, out, err = ostwald("resume", path, ranks=2)
    assert status == 0 and f"{newest.path.name}" in err and "checkpoint not used" in err, out + err
    assert read_series(path / "series.h5")["step"][-1] == 2120
