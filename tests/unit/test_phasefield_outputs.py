"""What a phase-field run writes on the way: frames of several fields, when they are due."""

import json

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.phasefield import (
    CahnHilliard,
    Elasticity,
    Modes,
    Perlin,
    StructureFactor,
    cubic,
    double_well,
    elastic_field,
    quantities,
)
from ostwald.io.fields import field_frames, open_field
from ostwald.io.profiles import read_profiles
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
        ("first = 0.04", "modes = [1, 2, 3]\nfirst = 0.04", "[analysis]: modes must be 2 integers each"),
        ("first = 0.04", "modes = [0, 0]\nfirst = 0.04", "[analysis]: a mode must have"),
        ("interval = 0.3", "names = []", "[fields] names: must be"),
        ("interval = 0.3", 'names = ["phy"]', "[fields] names: 'phy' is not known; did you mean 'phi'"),
        (
            "times = [0.1, 0.11, 0.5]\ninterval = 0.3",
            'precision = "double"',
            "[fields] precision: has no effect without",
        ),
        ("first = 0.04\nper_decade = 1", "modes = [1, 0]", "[analysis] modes: has no effect without every"),
        ("first = 0.04", "modes = [1, 17]\nfirst = 0.04", "[analysis]: modes must lie within half of the grid"),
        ("interval = 0.3", 'names = ["stress"]', "[fields] names: 'stress' needs the table [elasticity]"),
        ("first = 0.04\n", "", "[analysis] per_decade: goes together with first"),
    ],
)
def test_mistakes(refused, old, new, word):
    refused(JOB.replace(old, new), word)


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
        wanted = {name: elastic_field(solver, name) for name in parts if name != "phi"}
        wanted["phi"] = solver.field()
        for name, values in wanted.items():
            size = max(np.abs(values).max(), 1e-3)
            assert open_field(file, name, frame)[:] == pytest.approx(values, abs=1e-11 * size), (name, step)
    assert "stress_xy" in (tmp_path / "run/fields.xdmf").read_text()


def test_profiles_and_growth_rates(tmp_path):
    """S(k) over time is that of the solver, its sum the variance; small waves grow as the step's formula says."""
    text = JOB.replace("amplitude = 0.4", "amplitude = 1e-6").replace("steps = 100", "steps = 30")
    modes = [(1, 0), (2, -1), (0, 1)]
    flat = [k for mode in modes for k in mode]
    text = text.replace("first = 0.04\nper_decade = 1", f"every = 10\nmodes = {flat}")
    assert run(tmp_path, text) == 0
    rows = read_series(tmp_path / "run/series.h5")
    assert rows["step"].tolist() == [0, 10, 20, 30]
    q = ((2 * np.pi * np.array(modes) / (24, 32)) ** 2).sum(axis=1)
    curvature = double_well(3.0).energy(0.5, 2)
    rates = np.log((1 - 0.02 * q * curvature) / (1 + 0.02 * 3 * q**2)) / 0.02
    for name, rate in zip(("1_0", "2_m1", "0_1"), rates):
        grown = rows[f"growth_{name}"]
        assert np.isnan(grown[0]) and grown[1:] == pytest.approx(rate, rel=1e-5)
        assert np.log(rows[f"amplitude_{name}"][3] / rows[f"amplitude_{name}"][0]) == pytest.approx(
            rate * 0.6, rel=1e-5
        )
    profiles, over = read_profiles(tmp_path / "run/profiles.h5")
    assert profiles["step"].tolist() == [0, 10, 20, 30]
    solver = CahnHilliard(World(), (24, 32), double_well(3.0), 3.0)
    solver.set_field(Perlin((24, 32), seed=1, amplitude=1e-6, cells=4).source(solver.parts))
    for k in range(4):
        numbers, wanted = StructureFactor().measure(solver)
        assert profiles["structure_factor"][k] == pytest.approx(wanted["structure_factor"], rel=1e-9, abs=1e-22)
        assert (profiles["structure_factor"][k] * over["modes"]).sum() / (24 * 32) == pytest.approx(numbers["variance"])
        assert np.array_equal(over["wave_number"], wanted["wave_number"])
        solver.step(0.02, 10)


def test_growth_rates_go_on_behind_a_restart():
    solver = CahnHilliard(World(), (24, 32), double_well(3.0), 3.0)
    solver.set_field(Perlin((24, 32), amplitude=0.1, cells=4).source(solver.parts))
    modes = Modes([1, 0, 2, 1], solver.parts.shape)
    modes.measure(solver)
    solver.step(0.02, 5)
    earlier = json.loads(json.dumps(modes.earlier))  # as a checkpoint keeps it
    assert Modes([1, 0, 2, 1], solver.parts.shape, earlier).measure(solver) == modes.measure(solver)


def test_the_page_of_a_run(tmp_path):
    text = (
        JOB.replace("[24, 32]", "[16, 24, 20]")
        .replace("cells = 4", "cells = 2")
        .replace("per_decade = 1", "per_decade = 6")
    )
    assert run(tmp_path, text) == 0
    page = (tmp_path / "run/report.html").read_text()
    for word in (
        "Structure factor, scaled",
        "The body",
        'alt="surface of the field"',
        "averaged over 16 × 24 × 20",
        "t = 0.5",
    ):
        assert word in page, word
    assert page.count('aria-label="structure"') == page.count('aria-label="scaling"') == 1
