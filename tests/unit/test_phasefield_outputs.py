"""What a phase-field run writes on the way: frames of several fields, when they are due."""

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.phasefield import CahnHilliard, ElasticFields, Elasticity, Perlin, cubic, double_well, quantities
from ostwald.io.fields import field_frames, open_field
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
        ("interval = 0.3", 'names = ["stress"]', "[fields] names: 'stress' needs the table [elasticity]"),
        ("first = 0.04\n", "", "[analysis] per_decade: goes together with first"),
    ],
)
def test_mistakes(tmp_path, capsys, old, new, word):
    assert run(tmp_path, JOB.replace(old, new)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and word in said[0], said


def test_frames_of_several_fields(tmp_path):
    """What a run writes is what the solver says of the same states; it goes on as if it had not been asked."""
    text = JOB.replace("[initial]", "[elasticity]\nc11 = 250.0\nc12 = 150.0\nc44 = 100.0\nmisfit = 0.05\n[initial]")
    names = ["strain", "phi", "elastic_energy", "stress"]
    text = text.replace("interval = 0.3", f"names = {names}\nprecision = 'double'")
    assert run(tmp_path, text) == 0
    file, shape = tmp_path / "run/fields.h5", (24, 32)
    steps, _ = field_frames(file)
    assert steps.tolist() == [0, 5, 6, 25, 100]
    elasticity = Elasticity(cubic(250.0, 150.0, 100.0), 0.05, 2)
    solver = CahnHilliard(World(), shape, double_well(3.0), 3.0, elasticity=elasticity)
    solver.set_field(Perlin(shape, seed=1, amplitude=0.4, cells=4).source(solver.parts))
    parts = quantities.components(solver, names)
    assert parts[0] == "phi" and set(parts) == {
        "phi", "elastic_energy", *(f"{kind}_{c}" for kind in ("stress", "strain") for c in ("xx", "yy", "xy"))
    }  # fmt: skip
    for frame, step in enumerate(steps):
        while solver.steps < step:
            solver.step(0.02)
        with ElasticFields(solver) as elastic:
            wanted = {name: elastic.field(name) for name in parts if name != "phi"}
        wanted["phi"] = solver.field()
        for name, values in wanted.items():
            size = max(np.abs(values).max(), 1e-3)
            assert open_field(file, name, frame)[:] == pytest.approx(values, abs=1e-11 * size), (name, step)
    assert "stress_xy" in (tmp_path / "run/fields.xdmf").read_text()
