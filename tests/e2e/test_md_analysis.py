"""Analyses of a molecular-dynamics job: columns, fields, selected atoms, stop conditions, triggers, restarts, mistakes."""

import json
import re
import signal

import h5py
import numpy as np
import pytest

from ostwald.io import h5md
from ostwald.io.checkpoint import read_checkpoint
from ostwald.io.nuclei import read_nuclei
from ostwald.io.timeseries import read_series
from ostwald.parallel import World

# a crystal that melts from one side: half of it is kept still and cold
JOB = """
[job]
kind = "md"
seed = 5
[structure]
lattice = "fcc"
a = 3.62
species = ["Cu"]
cells = [10, 5, 5]
[potential]
file = "zhou:Cu"
precision = "mixed"
[[group]]
name = "cold"
block = [0.0, 0.5, 0.0, 1.0, 0.0, 1.0]
[[stage]]
name = "melt"
ensemble = "nvt"
thermostat = "langevin"
velocities = 9000.0
temperature = 6000.0
timestep = 0.002
steps = 120
freeze = ["cold"]
[[stage]]
name = "hold"
ensemble = "nvt"
thermostat = "langevin"
temperature = 800.0
timestep = 0.002
steps = 120
[series]
every = 40
[log]
every = 40
[checkpoint]
every = 60
[analysis]
every = 20
clusters = true
smallest = 5
"""


def final_state(directory):
    """Arrays of the last checkpoint, sorted by id."""
    checkpoint = read_checkpoint(directory / "checkpoints", World())
    order = np.argsort(checkpoint.arrays["ids"])
    return {name: array[order] for name, array in checkpoint.arrays.items()}


def same_state(a, b):
    a, b = final_state(a), final_state(b)
    return all(np.array_equal(a[name], b[name]) for name in ("positions", "velocities", "images", "ids"))


def same_rows(a, b):
    """Whether two series agree but for the speed."""
    a, b = read_series(a / "series.h5"), read_series(b / "series.h5")
    names = [n for n in a.dtype.names if n != "atom_steps_per_second"]
    return a.dtype == b.dtype and len(a) == len(b) and all(np.array_equal(a[n], b[n], equal_nan=True) for n in names)


def same_frames(a, b):
    a, b = (list(h5md.frames(path / "trajectory.h5")) for path in (a, b))
    return len(a) == len(b) and all(
        np.array_equal(f.ids, g.ids) and np.array_equal(f.positions, g.positions) and f.info == g.info
        for f, g in zip(a, b)
    )


def test_columns_and_notes(ostwald, run_file, tmp_path):
    text = JOB.replace("smallest = 5", 'smallest = 5\nfields = ["q4", "q6", "cluster", "bonds"]')
    text += "[trajectory]\nevery = 40\nstructure = true\n"
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run", ranks=2)
    assert status == 0, out + err
    rows = read_series(tmp_path / "run/series.h5")
    assert list(rows["step"]) == list(range(0, 241, 20))
    first, last = rows[0], rows[-1]
    assert first["solid_fraction"] == 1 and first["largest_cluster"] == 1000 and first["clusters"] == 1
    assert 0.3 < last["solid_fraction"] < 0.9
    assert 300 < last["largest_cluster"] <= 1000 * last["solid_fraction"]
    assert 0.1 < last["mean_q4"] < first["mean_q4"] and last["mean_q6"] < first["mean_q6"] < 0.6
    frames = list(h5md.frames(tmp_path / "run/trajectory.h5"))
    assert len(frames) == 7
    for frame in frames:
        row = rows[rows["step"] == frame.info["step"]][0]
        fields = frame.arrays
        assert np.count_nonzero(fields["q6"] > 0.33) == pytest.approx(1000 * row["solid_fraction"], abs=1)
        sizes = np.unique(fields["cluster"][fields["cluster"] >= 0], return_counts=True)[1]
        assert sizes.max() == row["largest_cluster"] and np.count_nonzero(sizes >= 5) == row["clusters"]
        assert np.count_nonzero(fields["structure"] == 1) == pytest.approx(1000 * row["fcc_fraction"])
        assert fields["q4"].mean() == pytest.approx(row["mean_q4"], rel=1e-5)
        assert set(fields["bonds"]) <= set(range(13))
    with h5py.File(tmp_path / "run/series.h5") as f, h5py.File(tmp_path / "run/trajectory.h5") as g:
        for note in (f["series"].attrs["analysis"], g["particles/trajectory"].attrs["analysis"]):
            assert "0.33" in note and "clusters" in note and note in out


@pytest.mark.parametrize(
    "selection, chosen",
    [
        ('select = "solid"', lambda f, s: f["solid"] == 1),
        ('select = "largest"', lambda f, s: f["cluster"] == f["largest"]),
        ("block = [0.77, 1.23, 0.0, 1.0, 0.13, 0.63]", None),
        ("sphere = [0.5, 0.0, 0.5, 7.0]", None),
    ],
)
def test_frames_of_selected_atoms(ostwald, run_file, tmp_path, selection, chosen):
    fields = '\nfields = ["solid", "cluster"]\n[trajectory]\nevery = 40\n'
    text = JOB.replace("smallest = 5", "smallest = 5" + fields)
    assert ostwald("run", run_file(text), "-d", tmp_path / "all")[0] == 0
    assert ostwald("run", run_file(text + selection), "-d", tmp_path / "some")[0] == 0
    whole, some = (list(h5md.frames(tmp_path / name / "trajectory.h5")) for name in ("all", "some"))
    assert len(whole) == len(some) == 7
    for a, b in zip(whole, some):
        if chosen is not None:
            ids, sizes = np.unique(a.arrays["cluster"][a.arrays["cluster"] >= 0], return_counts=True)
            inside = chosen({**a.arrays, "largest": ids[np.argmax(sizes)]}, a)
        else:
            s = np.linalg.solve(a.matrix.T, (a.positions - a.origin).T).T
            if "block" in selection:
                s = (s - (0.77, 0.0, 0.13)) % 1
                inside = ((s >= 0) & (s < (0.46, 1.0, 0.5))).all(axis=1)
                assert np.count_nonzero(inside) > 100
            else:
                s -= (0.5, 0.0, 0.5)
                inside = np.linalg.norm((s - np.rint(s)) @ a.matrix, axis=1) <= 7.0
        assert np.array_equal(a.ids[inside], b.ids)
        assert np.array_equal(a.positions[inside], b.positions)
        assert np.array_equal(a.images[inside], b.images)
        assert np.array_equal(a.arrays["cluster"][inside], b.arrays["cluster"])
    if "solid" in selection:
        assert len(some[0].ids) == 1000 > len(some[3].ids) > 300
        assert ostwald("convert", tmp_path / "some", tmp_path / "some.xyz")[0] == 0
        counts = re.findall(r"^(\d+)$", (tmp_path / "some.xyz").read_text(), re.M)
        assert [int(n) for n in counts] == [len(f.ids) for f in some]
        analysis = pytest.importorskip("MDAnalysis")
        universe = analysis.Universe(str((tmp_path / "some/trajectory.h5").rename(tmp_path / "some.h5md")))
        assert len(universe.trajectory) == 7
        here = universe.trajectory[3].positions
        assert np.array_equal(np.flatnonzero(np.isfinite(here[:, 0])), some[3].ids)


def test_a_stop_condition_ends_the_run_and_can_be_relaxed(ostwald, run_file, tmp_path):
    assert ostwald("run", run_file(JOB), "-d", tmp_path / "whole")[0] == 0
    path = tmp_path / "run"
    # tested from the last stage on: the crystal that the run begins with does not count
    status, out, err = ostwald("run", run_file(JOB + "[stop]\nlargest_cluster = 200\n"), "-d", path)
    assert status == 0, out + err
    assert "largest_cluster is" in out and "above 200" in out and "resume" in out
    rows = read_series(path / "series.h5")
    assert list(rows["step"]) == list(range(0, 141, 20)) and list(rows["stop"]) == [0.0] * 7 + [1.0]
    figures = json.loads((path / "timing.json").read_text())
    assert figures["finished"] and figures["total_steps"] == 140 and "largest_cluster" in figures["ended"]
    status, out, err = ostwald("resume", path)
    assert status == 0 and "nothing is left to do" in out
    assert len(read_series(path / "series.h5")) == 8
    resolved = path / "run.toml"
    resolved.write_text(resolved.read_text().replace("largest_cluster = 200", "largest_cluster = 1001"))
    status, out, err = ostwald("resume", path)
    assert status == 0, out + err
    assert read_series(path / "series.h5")["step"][-1] == 240
    assert same_state(path, tmp_path / "whole")


def test_a_condition_that_holds_from_the_first_step(ostwald, run_file, tmp_path):
    text = JOB + '[stop]\nsolid_fraction = 0.9\nfrom = "melt"\n'
    status, out, err = ostwald("run", run_file(text), "-d", tmp_path / "run")
    assert status == 0 and "solid_fraction is 1, at or above 0.9" in out, out + err
    assert list(read_series(tmp_path / "run/series.h5")["step"]) == [0]


TRIGGERED = (
    JOB.replace("every = 20", "every = 60").replace("every = 40", "every = 30")
    + """
[trajectory]
every = 60
select = "solid"
[trigger]
solid_fraction = 0.3
series_every = 10
trajectory_every = 20
analysis_every = 40
"""
)


@pytest.mark.parametrize("ranks, number", [(1, signal.SIGUSR1), (2, signal.SIGKILL)])
def test_a_trigger_switches_the_rates_and_survives_a_restart(ostwald, run_file, tmp_path, ranks, number):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    text = TRIGGERED.replace("steps = 120\n[series]", "steps = 300\n[series]")
    status, out, err = ostwald("run", run_file(text), "-d", whole, ranks=ranks)
    assert status == 0, out + err
    assert "step 180: [trigger]: solid_fraction is" in out and "frames every 20 steps" in out
    rows = read_series(whole / "series.h5")
    assert list(rows["step"]) == [*range(0, 180, 30), *range(180, 421, 10)]
    assert list(rows["triggered"]) == [0.0] * 6 + [1.0] * 25
    assert list(h5md.frames(whole / "trajectory.h5"))[-1].info["step"] == 420
    with h5py.File(whole / "trajectory.h5") as f:
        steps = f["particles/trajectory/position/step"][:]
    assert list(steps) == [0, 60, 120, 180, *range(200, 421, 20)]
    assert list(rows["step"][np.isfinite(rows["largest_cluster"])]) == [0, 60, 120, 180, *range(200, 421, 20)]
    status, out, err = ostwald.kill_when(
        lambda: (broken / "series.csv").exists() and (broken / "series.csv").read_text().count("\n") > 12,
        *("run", run_file(text), "-d", broken),
        ranks=ranks,
        number=number,
    )
    assert status == 85 if number == signal.SIGUSR1 else status != 0
    status, out, err = ostwald("resume", broken, ranks=ranks)
    assert status == 0, out + err
    assert same_state(whole, broken) and same_frames(whole, broken) and same_rows(whole, broken)


NUCLEI = JOB.replace("smallest = 5", 'smallest = 5\nnuclei = true\nnuclei_from = "melt"\nmethod = "ptm"').replace(
    "[analysis]", "[trajectory]\nevery = 40\n[analysis]\nfields = ['nucleus', 'cluster']"
)


@pytest.mark.parametrize("ranks, again", [(2, 2), (1, 3)])
def test_nuclei_are_followed_through_a_restart(ostwald, run_file, tmp_path, ranks, again):
    """On the same ranks the files agree to the last bit; on others all that is counted does."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert ostwald("run", run_file(NUCLEI), "-d", whole, ranks=ranks)[0] == 0
    status, out, err = ostwald.kill_when(
        lambda: (broken / "series.csv").exists() and (broken / "series.csv").read_text().count("\n") > 5,
        *("run", run_file(NUCLEI), "-d", broken),
        ranks=ranks,
    )
    assert status != 0
    status, out, err = ostwald("resume", broken, ranks=again)
    assert status == 0, out + err
    (rows, events, notes), (rows2, events2, _) = (read_nuclei(path / "nuclei.h5") for path in (whole, broken))
    assert "polyhedral" in notes["analysis"] and notes["labels"][1] == "fcc"
    series = read_series(whole / "series.h5")
    assert set(rows["step"]) == set(series["step"][np.isfinite(series["clusters"])])
    for step in np.unique(rows["step"]):
        here, row = rows[rows["step"] == step], series[series["step"] == step][0]
        assert len(here) == row["clusters"] == row["nuclei"] and here["size"].max() == row["largest_cluster"]
    assert rows["number"][0] == 1 and rows["size"][0] == 1000 and events["kind"][0] == 0
    names = [n for n in rows.dtype.names if rows.dtype[n].base.kind in "iu"]
    for name in names if ranks != again else rows.dtype.names:
        assert np.array_equal(rows[name], rows2[name], equal_nan=name not in names), name
    assert np.array_equal(events["number"], events2["number"]) and np.array_equal(events["kind"], events2["kind"])
    for a, b in zip(h5md.frames(whole / "trajectory.h5"), h5md.frames(broken / "trajectory.h5")):
        assert np.array_equal(a.arrays["nucleus"], b.arrays["nucleus"])
        here = rows[rows["step"] == a.info["step"]]
        numbers, sizes = np.unique(a.arrays["nucleus"], return_counts=True)
        assert {n: s for n, s in zip(numbers, sizes) if n in here["number"]} == dict(zip(here["number"], here["size"]))
    assert same_state(whole, broken) or ranks != again


def test_inherent_structures_leave_the_run_alone(ostwald, run_file, tmp_path):
    """More atoms of a hot crystal are recognised at rest, and the run goes on with the same bits."""
    text = JOB.replace("every = 20", "every = 60").replace("smallest = 5", 'smallest = 5\nmethod = "cna"')
    assert ostwald("run", run_file(text), "-d", tmp_path / "hot", ranks=2)[0] == 0
    status, out, err = ostwald(
        "run", run_file(text + "inherent = true\ninherent_iterations = 30\n"), "-d", tmp_path / "cold", ranks=2
    )
    assert status == 0 and "inherent structure" in out and "\ninherent    " in out, out + err
    assert same_state(tmp_path / "hot", tmp_path / "cold")
    hot, cold = (read_series(tmp_path / name / "series.h5") for name in ("hot", "cold"))
    assert cold["fcc_fraction"][-1] > hot["fcc_fraction"][-1] + 0.02


def test_a_run_from_before_these_tables_goes_on(ostwald, run_file, tmp_path):
    """The resolved run file and the series of an earlier version, which lack the new keys and columns."""
    from ostwald.app.jobs.md_schema import ANALYSIS, TABLES

    path = tmp_path / "run"
    text = JOB.replace("clusters = true\nsmallest = 5\n", 'method = "cna"\n').replace("steps = 120", "steps = 60")
    status, _, err = ostwald("run", run_file(text), "-d", path)
    assert status == 0, err
    assert {t.name for t in TABLES} >= {"stop", "trigger"} and "clusters" in ANALYSIS.keys
    old = {"every", "method"}
    lines, table = [], ""
    for line in (path / "run.toml").read_text().splitlines():
        table = line if line.startswith("[") else table
        keep = table not in ("[stop]", "[trigger]") and not (
            (table == "[analysis]" and line[:1] != "[" and line.split(" =")[0] not in old)
            or (table == "[trajectory]" and line.startswith(("select", "sphere", "block")))
        )
        lines += [line] if keep else []
        lines += ["threshold = 0.33"] if line == "[analysis]" else []
    lines = "\n".join(lines).replace("steps = 60", "steps = 90")
    (path / "run.toml").write_text(lines)
    (path / "checkpoints").rename(path / "later")
    (path / "checkpoints").mkdir()
    for file in (path / "later").glob("*000060.h5"):
        file.rename(path / "checkpoints" / file.name)
    status, out, err = ostwald("resume", path)
    assert status == 0, out + err
    assert read_series(path / "series.h5")["step"][-1] == 150
