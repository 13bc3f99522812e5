"""Run files whose [solver] is not the spectral one: what they do, and what is refused."""

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.io.fields import open_field
from ostwald.io.timeseries import read_series

JOB = """
[job]
kind = "phasefield"
seed = 7
[grid]
shape = [22, 13, 17]
[model]
epsilon = 3.0
[solver]
method = "finite-difference"
boundaries = ["periodic", "no-flux", "no-flux"]
[initial]
kind = "uniform"
mean = 0.45
amplitude = 0.1
[[stage]]
timestep = 1.25e-3
steps = 40
[series]
every = 8
[fields]
every = 20
precision = "double"
"""

ANALYSIS = "[analysis]\nevery = 10\n[series]"
ELASTIC = "[elasticity]\nc11 = 250.0\nc12 = 150.0\nc44 = 100.0\nmisfit = 0.01\n[series]"
PERIODIC = ('boundaries = ["periodic", "no-flux", "no-flux"]', "")

MISTAKES = [
    ([("timestep = 1.25e-3", "timestep = 4e-3")], "[stage 1] timestep: explicit steps are stable up to 0.003472"),
    ([('"no-flux", "no-flux"]', '"no-flux"]')], "[solver] boundaries: is one or one for each of 3 axes, not 2"),
    ([('"no-flux", "no-flux"]', '"open", "no-flux"]')], "[solver] boundaries: 'open' is not known"),
    ([('"finite-difference"', '"spectral"')], "[solver] boundaries: the spectral method is periodic"),
    ([('"finite-difference"', '"spectral"'), PERIODIC], "products of 2, 3, 5 and 7: 22 is not"),
    ([("epsilon = 3.0", 'epsilon = 3.0\nequation = "allen-cahn"')], "solves the Cahn–Hilliard equation only"),
    ([("[series]", ELASTIC)], "'finite-difference' knows no elasticity"),
    ([("[series]", "[noise]\ntemperature = 0.1\n[series]")], "'finite-difference' makes no noise"),
    ([("[series]", ANALYSIS.replace("10", "10\nmodes = [1, 0, 0]"))], "[analysis]: modes: needs a periodic box"),
    ([("[series]", ANALYSIS.replace("10", "10\nroughness = true"))], "[analysis]: roughness: needs a periodic box"),
    ([('"finite-difference"', '"petsc"\norder = 1')], "[solver] order: has no effect with method = 'petsc'"),
]


@pytest.mark.parametrize("changes, word", MISTAKES)
def test_a_mistake_gives_one_sentence_and_writes_nothing(refused, changes, word):
    text = JOB
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    refused(text, word)


def test_runs_stops_and_goes_on_bit_for_bit(tmp_path, capsys):
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    assert main(["check", str(path), "--ranks", "6"]) == 0
    out = capsys.readouterr().out
    assert "6 × 1 parts" in out and "checkpoint   0.0 MB" in out
    assert main(["run", str(path), "-d", str(tmp_path / "whole")]) == 0
    wanted = open_field(tmp_path / "whole/fields.h5", "phi", -1)
    rows = read_series(tmp_path / "whole/series.h5")
    assert rows["step"].tolist() == [0, 8, 16, 24, 32, 40]
    assert (np.diff(rows["energy"]) < 0).all() and np.ptp(rows["mean"]) < 1e-14
    path.write_text(JOB.replace("steps = 40", "steps = 17"))
    assert main(["run", str(path), "-d", str(tmp_path / "parts")]) == 0
    file = tmp_path / "parts/run.toml"
    file.write_text(file.read_text().replace("steps = 17", "steps = 40"))
    assert main(["resume", str(tmp_path / "parts")]) == 0
    found = open_field(tmp_path / "parts/fields.h5", "phi", -1)
    assert wanted.shape == (22, 13, 17) and np.array_equal(found[:], wanted[:])


def test_a_periodic_box_is_analysed(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace(*PERIODIC).replace("[22, 13, 17]", "[20, 14, 18]").replace("[series]", ANALYSIS))
    assert main(["run", str(path), "-d", str(tmp_path / "run")]) == 0
    rows = read_series(tmp_path / "run/series.h5")
    assert np.isfinite(rows["length"][0]) and rows["variance"][0] > rows["variance"][-1] > 0


def test_a_box_with_walls_is_analysed(tmp_path):
    """Interfaces, their length and domains; there is no structure factor. The page of the run is made, too."""
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace("[series]", ANALYSIS))
    assert main(["run", str(path), "-d", str(tmp_path / "run")]) == 0
    rows = read_series(tmp_path / "run/series.h5")
    assert "length" not in rows.dtype.names and not (tmp_path / "run/profiles.h5").exists()
    last = rows[-1]
    assert last["interface"] > 0 and last["domains_high"] >= 1
    assert last["interface_length"] == pytest.approx(2 * 22 * 13 * 17 / last["interface"], rel=1e-12)
    assert rows["interface"][0] > last["interface"]
    assert (tmp_path / "run/report.html").stat().st_size > 10_000
