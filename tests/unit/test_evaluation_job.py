"""The evaluation of surrogates: protocols, models, what is written and shown, restarts, mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from surrogate_evaluations import RUN, SET, network

from ostwald.app.cli import main
from ostwald.app.jobs import evaluate_surrogate
from ostwald.app.jobs.evaluation_cases import changed
from ostwald.app.jobs.evaluation_schema import MODEL, PROTOCOL, PROTOCOLS, TABLES, page
from ostwald.app.jobs.stopping import EXIT_RESUME, Stopping
from ostwald.app.runfile import load_toml, validate
from ostwald.app.surrogate.architecture import PRESETS
from ostwald.app.surrogate.model import Parameter, Surrogate
from ostwald.io.sequences import Sequences
from ostwald.parallel import CollectiveError

MODELS = """
[job]
kind = "evaluate-surrogate"
[[model]]
file = "net.ostwald"
[[model]]
name = "itself"
kind = "solver"
[[model]]
kind = "persistence"
"""
TEST_SET = '[[protocol]]\nkind = "test-set"\ntruth = "set.toml"\n'


@pytest.fixture
def folder(tmp_path):
    network(tmp_path / "net.ostwald")
    (tmp_path / "set.toml").write_text(SET)
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr("ostwald.app.jobs.evaluate_surrogate.leave_report", lambda world, directory: None)


def evaluate(folder, text, name="out"):
    (folder / f"{name}.toml").write_text(text)
    assert main(["run", str(folder / f"{name}.toml"), "-d", str(folder / name)]) == 0
    return json.loads((folder / name / "evaluation.json").read_text())["protocols"]


def all_zero(model, but=("iou", "pearson", "ssim", "psnr", "rmse_fine")):
    return all(max(spread["high"]) < 1e-8 for key, spread in model["errors"].items() if key not in but)


def test_the_solver_itself_makes_no_error_and_all_is_shown(folder, capsys):
    more = (
        '[[model]]\nkind = "linear"\n[[model]]\nname = "rough"\nkind = "solver"\nmethod = "spectral"\ntimestep = 0.05\n'
    )
    (found,) = evaluate(folder, MODELS + more + TEST_SET)
    net, itself, still, linear, rough = found["models"].values()
    assert found["count"] == 4 and found["times"] == [0, 0.5, 1, 1.5] and set(found["parameters"]) >= {"set.start"}
    assert all_zero(itself) and not all_zero(net) and not all_zero(still) and not all_zero(rough)
    assert min(itself["errors"]["ssim"]["low"]) == 1 and itself["drift"] < 1e-14 and net["drift"] < 1e-14
    assert still["numbers"]["energy"]["median"] == [still["numbers"]["energy"]["median"][0]] * 4
    assert rough["average"]["rmse"] < 0.3 * linear["average"]["rmse"] < 0.3 * still["average"]["rmse"]
    assert itself["last"] == found["truth"][itself["truth"]]["last"] and itself["seconds"] > 0
    assert still["errors"]["rmse_fine"]["median"][0] > still["errors"]["rmse"]["median"][0] == 0  # lost by resampling
    assert {row["bound"] for row in found["clock"]} <= {"", "at most"} and len(found["clock"]) == 5
    text = (folder / "out" / "report.html").read_text()
    for word in (
        "test-set",
        "Structural similarity",
        "F/V, last frame",
        "F/V, means",
        "The clock",
        "error, t = 1.5",
        "itself",
    ):
        assert word in text, word
    capsys.readouterr()
    assert main(["info", str(folder / "out"), str(folder / "out.toml")]) == 0
    said = capsys.readouterr().out
    assert "finished with 4 of 4 cases: 5 models" in said and "4 cases, 32 × 24 points, 4 frames up to t = 1.5" in said
    assert main(["check", str(folder / "out.toml"), "--ranks", "2"]) == 0
    assert "on 2 ranks like this one" in capsys.readouterr().out


def test_frames_that_are_there_are_as_good_as_solving(folder, no_report):
    for name in ("set", "run"):
        text = (folder / f"{name}.toml").read_text()
        if name == "set":
            text = text.replace("timestep = 0.005", 'timestep = 0.005\nprecision = "double"\nvalidation = 0.5')
        else:
            text = text.replace("time = 2.0\n", "time = 2.0\n") + '[fields]\ninterval = 0.5\nprecision = "double"\n'
        (folder / f"{name}.toml").write_text(text)
        assert main(["run", str(folder / f"{name}.toml"), "-d", str(folder / f"made-{name}")]) == 0
    network(folder / "given.ostwald", spacing=1.0, resampling="none", parameters=[("misfit", "elasticity.misfit")])
    for name, net in (("set", "net"), ("run", "given")):
        text = MODELS.replace("net.ostwald", f"{net}.ostwald") + TEST_SET.replace("set.toml", f"{name}.toml")
        (solved,) = evaluate(folder, text, f"solved-{name}")
        (read,) = evaluate(folder, text.replace(f'truth = "{name}.toml"', f'truth = "made-{name}"'), f"read-{name}")
        for model in ("net" if name == "set" else "given", "persistence"):
            a, b = (of["models"][model]["errors"]["rmse"]["median"] for of in (solved, read))
            assert np.allclose(a, b, rtol=1e-6) and a[-1] > 0
        assert read["seconds"] is None and read["times"] == solved["times"]
    assert solved["models"]["itself"]["numbers"]["elastic"]["median"][-1] > 0
    text = MODELS + TEST_SET.replace("set.toml", "made-set") + 'part = "validation"\n'
    (part,) = evaluate(folder, text, "part")
    assert part["count"] == 2
    for extra, word in (
        ("count = 9", "there are 4 sequences"),
        ("frames = 9", "there are 4 only"),
        ("interval = 0.7", "not a whole number"),
    ):
        (folder / "bad.toml").write_text(
            MODELS.replace('file = "net.ostwald"', 'kind = "linear"') + TEST_SET.replace("set.toml", "made-set") + extra
        )
        with pytest.raises(CollectiveError, match=word):
            evaluate_surrogate.run(world_of_one(), folder / "bad.toml")


def world_of_one():
    from ostwald.parallel import World

    return World()


def test_every_protocol(folder, no_report):
    text = MODELS.replace('kind = "persistence"', 'kind = "linear"')
    text += '[[model]]\nname = "noisy"\nkind = "solver"\nmethod = "spectral"\nnoise = 0.01\n'
    for kind in PROTOCOLS:
        if kind == "shape":
            continue  # three dimensions
        count = "count = 1\n" if kind != "phase-diagram" else ""
        amplitudes = "amplitudes = [1e-6, 0.3]\n" if kind == "amplitude-pair" else ""
        text += f'[[protocol]]\nkind = "{kind}"\ntruth = "set.toml"\n{count}{amplitudes}'
    found = {protocol["kind"]: protocol for protocol in evaluate(folder, text)}
    assert all(all_zero(protocol["models"]["itself"]) for protocol in found.values())
    assert found["larger-domain"]["shape"] == [64, 48] and found["longer-time"]["shape"] == [32, 24]
    pair = found["amplitude-pair"]
    assert pair["parameters"]["initial.amplitude"] == [1e-6, 0.3] and len(set(pair["parameters"]["set.start"])) == 1
    assert pair["models"]["itself"]["agreement"] == dict(truth=[False, True], model=[False, True], right=2)
    diagram = found["phase-diagram"]
    assert diagram["models"]["itself"]["agreement"]["right"] == diagram["count"] == 4
    end = found["stationary"]["stationary"][0]
    assert (
        end["shape"] == found["stationary"]["models"]["itself"]["stationary"][0]["shape"]
        and end["least_area"] == "layer"
    )


def test_a_phase_diagram_is_drawn_with_the_line_of_stability(folder):
    text = SET.replace('method = "finite-difference"', 'method = "spectral"').replace(
        "timestep = 0.005", "timestep = 0.05"
    )
    text = (
        text[: text.index("[[vary]]")].replace("count = 4", "count = 6")
        + "[elasticity]\nc11 = 3e4\nc12 = 1.5e4\nc44 = 3e4\n"
    )
    text += '[[vary]]\nkey = "initial.exact_mean"\ngrid = [0.1, 0.5, 3]\n[[vary]]\nkey = "elasticity.misfit"\ngrid = [0.0, 0.02, 2]\n'
    (folder / "set.toml").write_text(text.replace('kind = "perlin"', 'kind = "perlin"\namplitude = 0.02'))
    models = MODELS.replace('file = "net.ostwald"', 'kind = "persistence"\nname = "still"')
    protocol = TEST_SET.replace("test-set", "phase-diagram") + "interval = 5.0\nframes = 3\n"
    (found,) = evaluate(folder, models + protocol)
    said = found["models"]["still"]["agreement"]
    assert (
        said["truth"] == [False, False, True, False, True, False]
        and found["models"]["itself"]["agreement"]["right"] == 6
    )
    text = (folder / "out" / "report.html").read_text()
    assert "linear stability" in text and "still differs" in text and f"{said['right']} of 6" in text


def test_bodies_in_a_box(folder, no_report):
    box = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\nf 4 3 2 1\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8\n"
    (folder / "box.obj").write_text(box)
    (folder / "set.toml").write_text(
        SET.replace("[32, 24]", "[12, 12, 12]")
        .replace("values = [0.0, 1.0]", "values = [0.0]")
        .replace("0.005", "0.0025")
    )
    text = MODELS.replace('file = "net.ostwald"', 'name = "net"\nkind = "linear"')
    text += '[[protocol]]\nkind = "shape"\ntruth = "set.toml"\nmesh = "box.obj"\nsize = 6.0\ncount = 1\nframes = 2\n'
    (found,) = evaluate(folder, text)
    assert all_zero(found["models"]["itself"]) and found["parameters"] == {"set.start": [0.0]}
    assert found["truth"]["0"]["numbers"]["mean"]["median"][0] == pytest.approx(6**3 / 12**3, rel=1e-6)


def test_a_run_that_is_stopped_goes_on(folder, no_report, monkeypatch):
    text = MODELS + TEST_SET
    (whole,) = evaluate(folder, text, "whole")
    (folder / "parts.toml").write_text(text)
    tests = iter([False] * 6 + [True] * 20)
    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "test", lambda self, step: (False, "so it is wanted" if next(tests) else None))
        assert evaluate_surrogate.run(world_of_one(), folder / "parts.toml", folder / "parts") == EXIT_RESUME
    assert len(list((folder / "parts" / "cases").glob("case-*.h5"))) == 1
    assert not (folder / "parts" / "evaluation.json").exists()
    assert main(["resume", str(folder / "parts")]) == 0
    (parts,) = json.loads((folder / "parts" / "evaluation.json").read_text())["protocols"]
    for name, model in whole["models"].items():
        assert model["errors"] == parts["models"][name]["errors"] and model["last"] == parts["models"][name]["last"]
    # what is there already stays, unless a network or a truth has changed
    before = {file: file.stat().st_mtime_ns for file in (folder / "parts" / "cases").iterdir()}
    assert main(["resume", str(folder / "parts")]) == 0
    assert before == {file: file.stat().st_mtime_ns for file in (folder / "parts" / "cases").iterdir()}
    network(folder / "net.ostwald", scale=0.5)
    assert main(["resume", str(folder / "parts")]) == 0
    (again,) = json.loads((folder / "parts" / "evaluation.json").read_text())["protocols"]
    assert again["models"]["net"]["errors"] != parts["models"]["net"]["errors"]
    assert again["truth"] == parts["truth"]


def test_a_network_that_leads_astray_is_lost_and_the_others_go_on(folder, no_report):
    network(folder / "net.ostwald", scale=1e3)
    (found,) = evaluate(folder, MODELS + TEST_SET)
    assert found["models"]["net"]["lost"] == 4 and found["models"]["net"]["errors"]["rmse"]["median"][-1] is None
    assert all_zero(found["models"]["itself"]) and found["models"]["net"]["agreement"]["right"] == 0


@pytest.mark.parametrize(
    "old, new, word",
    [
        ("net.ostwald", "absent.ostwald", "[model absent] file:"),
        ('file = "net.ostwald"', "", "[model 1] file: is required"),
        ('kind = "persistence"', 'kind = "persistence"\nnoise = 0.1', "[model 3] noise: has no effect with kind = 'persistence'"),
        ('kind = "persistence"', 'name = "itself"\nkind = "persistence"', "'itself' stands twice"),
        ('name = "itself"', 'noise = 0.1\nname = "itself"', "'finite-difference' makes no noise"),
        ('name = "itself"', 'coarsening = 4\nname = "itself"', "[model itself] coarsening: 4 does not divide the 2"),
        ('name = "itself"', 'timestep = 0.3\nname = "itself"', "[model itself] timestep: the frames of test-set are not whole time steps of 0.3"),
        ('name = "itself"', 'timestep = 0.1\nname = "itself"', "explicit steps are stable up to"),
        ('truth = "set.toml"', 'truth = "net.toml"', "no such run file"),
        ('truth = "set.toml"', 'truth = "refused.toml"', "not a run of sequences or of a phase field"),
        ('truth = "set.toml"', 'truth = "set.toml"\nfactor = 2', "factor: has no effect with kind = 'test-set'"),
        ('truth = "set.toml"', 'truth = "set.toml"\ninterval = 0.6', "not whole steps"),
        ('truth = "set.toml"', 'truth = "set.toml"\nfit = [2.0, 1.0]', "fit: takes two times that ascend"),
        ('truth = "set.toml"', 'truth = "set.toml"\npart = "training"', "part: is for the directory of a set"),
        ('truth = "set.toml"', 'truth = "run.toml"\ncount = 2', "count: is for sets of sequences"),
        ('kind = "test-set"', 'kind = "test"', "[protocol 1] kind: 'test' is not known"),
        ('kind = "test-set"', 'kind = "shape"', "file: is required for kind = 'mesh'"),
    ],
)  # fmt: skip
def test_mistakes(folder, refused, old, new, word):
    text = MODELS + TEST_SET
    assert text.count(old) == 1
    refused(text.replace(old, new), word, "run", "check")


def test_networks_that_do_not_fit(folder, refused):
    for given, word in (
        (dict(interval=0.3), "not whole steps"),
        (dict(spacing=1.5), "do not go together"),
        (dict(parameters=[("misfit", "elasticity.misfit")]), "given elasticity.misfit, which test-set lacks"),
        (dict(padding="reflect"), "its padding does not go with the boundaries"),
    ):
        network(folder / "net.ostwald", **given)
        refused(MODELS + TEST_SET + "interval = 0.5\n", word)


def test_what_protocols_change():
    raw = dict(grid=dict(shape=[8, 8]), initial=dict(kind="perlin"), vary=[dict(key="initial.cells", values=[4, 8])])
    table = dict.fromkeys(PROTOCOL.keys) | dict(kind="larger-domain")
    changed(raw, table)
    assert raw["grid"]["shape"] == [16, 16] and raw["vary"][0]["values"] == [8, 16]
    raw = dict(grid=dict(shape=[8, 8]), initial=dict(kind="perlin"))
    changed(raw, table | dict(factor=3))
    assert raw["grid"]["shape"] == [24, 24] and raw["initial"]["cells"] == 24
    changed(raw, table | dict(kind="inhomogeneous", outside=0.3))
    assert raw["initial"]["within"] == [0.25, 0.75] and raw["initial"]["outside"] == 0.3
    assert set(MODEL.keys) >= {"noise", "coarsening"}


def test_the_page_of_keys_is_up_to_date():
    assert (Path(__file__).parents[2] / "docs" / "evaluation-run-file.md").read_text() == page() + "\n"


ROLLOUT = """
[job]
kind = "rollout"
[surrogate]
file = "net.ostwald"
precision = "double"
[grid]
shape = [16, 12]
[model]
epsilon = 3.0
[initial]
kind = "file"
file = "start.npy"
[[stage]]
steps = 4
[fields]
every = 1
precision = "double"
"""


def test_roll_outs_that_were_made_before(folder, no_report):
    text = (
        (folder / "set.toml")
        .read_text()
        .replace("count = 4", "count = 1")
        .replace("values = [0.0, 1.0]", "values = [0.0]")
    )
    (folder / "set.toml").write_text(text.replace("frames = 4", 'frames = 4\nprecision = "double"'))
    (folder / "rollout.toml").write_text(ROLLOUT)
    network(folder / "net.ostwald", scale=0.3)
    assert main(["run", str(folder / "set.toml"), "-d", str(folder / "set")]) == 0
    with Sequences(folder / "set") as data:
        np.save(folder / "start.npy", data.read(0)[0, ::2, ::2])
    assert main(["run", str(folder / "rollout.toml"), "-d", str(folder / "before")]) == 0
    models = MODELS.replace('file = "net.ostwald"', 'file = "net.ostwald"\nprecision = "double"')
    (here,) = evaluate(folder, models + TEST_SET, "here")
    (before,) = evaluate(folder, models + TEST_SET + 'rollout = "before"\n', "again")
    one, two = here["models"]["net"], before["models"]["net"]
    assert np.allclose(one["errors"]["rmse"]["median"], two["errors"]["rmse"]["median"], atol=1e-14)
    assert one["errors"]["rmse"]["median"] != here["models"]["persistence"]["errors"]["rmse"]["median"]
    assert one["seconds"] > 0 and two["seconds"] is None
    network(folder / "net.ostwald", seed=2)
    text = (folder / "before" / "run.toml").read_text()
    network(folder / "other.ostwald", scale=0.3)
    (folder / "before" / "run.toml").write_text(text.replace("net.ostwald", "other.ostwald"))
    for extra, word in (("", "a roll-out of another network"), ("frames = 6\n", "a roll-out of another network")):
        (folder / "bad.toml").write_text(models + TEST_SET + 'rollout = "before"\n' + extra)
        with pytest.raises(CollectiveError, match=word):
            evaluate_surrogate.run(world_of_one(), folder / "bad.toml", folder / "bad")
    (folder / "before" / "run.toml").write_text(text)
    network(folder / "net.ostwald", scale=0.3)
    (folder / "bad.toml").write_text(models + TEST_SET + 'rollout = "before"\nframes = 6\n')
    with pytest.raises(CollectiveError, match="after the first"):
        evaluate_surrogate.run(world_of_one(), folder / "bad.toml", folder / "bad")


def test_frames_at_any_times(folder, no_report):
    """Of a run whose frames lie ever further apart, those that are whole steps of the network are compared."""
    text = (folder / "run.toml").read_text().replace("time = 2.0\ntolerance = 0.01", "timestep = 0.01\ntime = 4.0")
    (folder / "run.toml").write_text(text + "[fields]\ntimes = [0.5, 0.7, 1.0, 2.5]\n")
    assert main(["run", str(folder / "run.toml"), "-d", str(folder / "made")]) == 0
    network(folder / "net.ostwald", spacing=1.0, resampling="none")
    (found,) = evaluate(folder, MODELS + TEST_SET.replace("set.toml", "made"))
    assert found["times"] == [0, 0.5, 1.0, 2.5, 4.0] and found["models"]["itself"]["errors"]["rmse"]["high"][-1] < 1e-6


@pytest.mark.parametrize("name", ["three-dimensions", "clock-3d", "two-dimensions"])
def test_examples_can_be_made(tmp_path, name):
    """Every model and the first case of every protocol of examples/evaluate-crnn, with networks of the right kind."""
    examples = Path(__file__).parents[2] / "examples"
    for folder in ("evaluate-crnn", "crnn-tests"):
        shutil.copytree(examples / folder, tmp_path / folder, ignore=shutil.ignore_patterns("runs", "results"))
    misfit = Parameter("misfit", "elasticity.misfit", 0.0, 0.012, 0.0, 0.012)
    for preset, interval, spacing, how, given in (
        ("crane-3d", 0.5, 2.0, "none", ()),
        ("misfit-2d", 1.0, 1.0, "none", (misfit,)),
    ):
        architecture = PRESETS[preset]
        arrays = {name: np.zeros(shape) for name, shape in architecture.shapes().items()}
        place = tmp_path / f"train-crnn-{architecture.dimensions}d" / "runs" / "long"
        place.mkdir(parents=True)
        network = Surrogate(architecture, arrays, interval, (spacing,) * architecture.dimensions, how, given)
        network.save(place / "surrogate.ostwald")
    path = tmp_path / "evaluate-crnn" / f"{name}.toml"
    evaluation = evaluate_surrogate.Evaluation(validate(load_toml(path), TABLES, path), path)
    evaluation.try_all(world_of_one())
    assert len(evaluation.cases) >= 10
