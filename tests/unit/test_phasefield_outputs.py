"""What a phase-field run writes on the way: frames of several fields, when they are due."""

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.phasefield import CahnHilliard, Perlin, double_well, quantities
from ostwald.io.fields import FieldSeries, field_frames, open_field
from ostwald.io.timeseries import read_series
from ostwald.parallel import World

JOB = """
[job]
kind = "phasefield"
[grid]
shape = [24, 32]
[model]
epsilon = 3.0
[initial]
kind = "perlin"
amplitude = 0.4
cells = 4
[[stage]]
timestep = 0.02
steps = 100
[fields]
times = [0.1, 0.11, 0.5]
interval = 0.3
[analysis]
first = 0.04
per_decade = 1
[series]
every = 1000
"""


def run(tmp_path, text, *more):
    (tmp_path / "job.toml").write_text(text)
    return main(["run", str(tmp_path / "job.toml"), "-d", str(tmp_path / "run"), *more])


def test_frames_and_analyses_at_given_times(tmp_path):
    assert run(tmp_path, JOB) == 0
    steps, times = field_frames(tmp_path / "run/fields.h5")
    assert steps.tolist() == [0, 5, 6, 15, 25, 30, 45, 60, 75, 90, 100]
    assert times == pytest.approx(0.02 * steps, rel=1e-12)
    rows = read_series(tmp_path / "run/series.h5")
    assert rows["step"].tolist() == [0, 2, 20, 100] and np.isfinite(rows["length"]).all()


@pytest.mark.parametrize(
    "old, new, word",
    [
        ("[0.1, 0.11, 0.5]", "[0.1, 0.1]", "[fields] times: must ascend"),
        ("[0.1, 0.11, 0.5]", "[0.0, 0.1]", "[fields] times: must be above 0"),
        ("interval = 0.3", 'names = ["phi", "phi"]', "[fields] names: must be different"),
        ("interval = 0.3", "names = []", "[fields] names: must be"),
        ("interval = 0.3", 'names = ["phy"]', "[fields] names: 'phy' is not known; did you mean 'phi'"),
        ("first = 0.04\n", "", "[analysis] per_decade: goes together with first"),
    ],
)
def test_mistakes(tmp_path, capsys, old, new, word):
    assert run(tmp_path, JOB.replace(old, new)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and word in said[0], said


def test_a_frame_of_several_fields_is_made_one_at_a_time(tmp_path, monkeypatch):
    """A tensor's components are computed one after another, in the order of the file, none before its turn."""
    made = []

    def powers(solver, component):
        made.append(component)
        for first, last, planes in solver.pieces():
            yield first, last, planes ** int(component[-1])

    pair = quantities.Quantity(lambda solver: ("power_2", "power_3"), powers, "φ², φ³")
    monkeypatch.setitem(quantities.QUANTITIES, "power", pair)
    world, shape = World(), (16, 12, 18)
    solver = CahnHilliard(world, shape, double_well(3.0), 3.0)
    solver.set_field(Perlin(shape, amplitude=0.5, cells=3).source(solver.fourier))
    names = ["power", "phi"]
    parts = quantities.components(solver, names)
    with FieldSeries.create(tmp_path / "f.h5", solver.fourier, parts, precision="double") as series:
        frame = quantities.frame(solver, names)
        assert not made
        series.append(0, 0.0, **frame)
    assert made == ["power_2", "power_3"]
    phi = solver.field()
    for name, wanted in (("phi", phi), ("power_2", phi**2), ("power_3", phi**3)):
        assert np.array_equal(open_field(tmp_path / "f.h5", name)[:], wanted)
