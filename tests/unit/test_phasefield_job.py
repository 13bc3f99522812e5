"""The run file of the phase-field job: what is refused, what `check` and `info` say."""

from pathlib import Path

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.jobs.phasefield_grid import footprint
from ostwald.app.jobs.phasefield_schema import TABLES, page
from ostwald.app.jobs.phasefield_setup import build, initial_field
from ostwald.app.jobs.runfiles import read_run_file
from ostwald.io.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from ostwald.io.timeseries import read_series
from ostwald.parallel import CollectiveError, World

JOB = """
[job]
kind = "phasefield"
seed = 7
[grid]
shape = [20, 18, 64]
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
timestep = 0.02
steps = 120
[[stage]]
timestep = 0.05
time = 4.01
[series]
every = 8
"""

UNBOUNDED = 'epsilon = 3.0\nwell = "polynomial"\ncentre = 0.5\ncoefficients = {}'

MISTAKES = [
    ("[20, 18, 64]", "[20, 18, 66]", "products of 2, 3, 5 and 7: 66 is not"),
    ("[20, 18, 64]", "[20, 18, 64, 2]", "two or three lengths"),
    ("timestep = 0.02", "timestep = 0.0", "[stage 1] timestep: must be above 0"),
    ("timestep = 0.02", "timestep = nan", "[stage 1] timestep: must be finite"),
    ("misfit = 0.01", "misfit = 0.01\neigenstrain = [1, 1, 1, 0, 0, 0]", "either misfit or eigenstrain"),
    (
        "misfit = 0.01",
        "misfit = 0.01\nmean_stress = [1, 0, 0, 0, 0, 0]\nmean_strain = [0, 0, 0, 0, 0, 0]",
        "either mean_strain or",
    ),
    ("misfit = 0.01", "misfit = 0.01\ntolerance = 1e-4", "[elasticity] tolerance: has no effect without high_c11"),
    ("misfit = 0.01", "misfit = 0.01\nhigh_c11 = 9.0", "either high_c11, high_c12 and high_c44, or high_constants"),
    ("misfit = 0.01", "misfit = 0.01\nhigh_c11 = 9.0\nhigh_c12 = 9.0\nhigh_c44 = 1.0", "must be positive definite"),
    ("misfit = 0.01", "misfit = 0.01\nmean_stress = [1, 0, 0]", "[elasticity] mean_stress"),
    ("c44 = 100.0", "c44 = 100.0\nconstants = [1.0]", "either c11, c12 and c44, or constants"),
    ("c12 = 150.0", "c12 = 300.0", "[elasticity]: elastic constants must be positive definite"),
    ("epsilon = 3.0", "epsilon = -3.0", "[model] epsilon: must be above 0"),
    ("epsilon = 3.0", 'epsilon = 3.0\nwell = "quartic"', "[model] height: is required"),
    ("epsilon = 3.0", 'epsilon = 3.0\nwell = "regular-solution"\nomega = 3.0', "[model] temperature: is required"),
    ("epsilon = 3.0", "epsilon = 3.0\nomega = 3.0", "[model] omega: has no effect with well = 'double'"),
    ("epsilon = 3.0", "epsilon = 3.0\ncut = 0.01", "[model] cut: has no effect with well = 'double'"),
    (
        "epsilon = 3.0",
        'epsilon = 3.0\nwell = "regular-solution"\nomega = 3.0\ntemperature = 1.0\ncut = 0.2',
        "[model]: the cut of a regular solution must lie between 0 and 0.166667, not 0.2",
    ),
    (
        "epsilon = 3.0",
        'epsilon = 3.0\nequation = "allen-cahn"\nmobility_coefficients = [1.0]',
        "[model] mobility_coefficients: has no effect with equation = 'allen-cahn'",
    ),
    (
        "epsilon = 3.0",
        "epsilon = 3.0\nmobility_coefficients = [1.0]\n[solver]\norder = 2",
        "[solver] order: steps of second order take a constant mobility",
    ),
    (
        "epsilon = 3.0",
        'epsilon = 3.0\nmobility_coefficients = [1.0]\n[solver]\nmethod = "finite-difference"',
        "[solver] method: 'finite-difference' takes a constant mobility",
    ),
    ("epsilon = 3.0", "epsilon = 3.0\nmobility_coefficients = [-1.0]", "[model]: the mobility is nowhere positive"),
    (
        "epsilon = 3.0",
        "epsilon = 3.0\nmobility_coefficients = [1.0]\n[noise]\ntemperature = 1.0",
        "[noise]: goes with a constant mobility only",
    ),
    ("epsilon = 3.0", UNBOUNDED.format("[0, 0, -1, 4.0]"), "[model] coefficients: must give a well with a lower bound"),
    ("epsilon = 3.0", UNBOUNDED.format("[0, 0, 1, 0, -4, 0]"), "is above 0, got -4 (φ - centre)^4"),
    ("epsilon = 3.0", UNBOUNDED.format("[0, 0]"), "[model] coefficients: must give a well with a lower bound"),
    (
        "misfit = 0.01",
        "misfit = 0.01\nhigh_c11 = 500.0\nhigh_c12 = 300.0\nhigh_c44 = 200.0\ntolerance = 2e-5\n[[stage]]\ntime = 1.0\ntolerance = 0.01",
        "[elasticity] tolerance: must be at most 1e-05 where a stage has a tolerance, got 2e-05",
    ),
    ("epsilon = 3.0", 'epsilon = 3.0\nequation = "ginzburg"', "known: allen-cahn, cahn-hilliard"),
    ("[series]", "[noise]\ntemperature = -1.0\n[series]", "[noise] temperature: must be at least 0"),
    ("[series]", "[noise]\namplitude = nan\n[series]", "[noise] amplitude: must be finite"),
    ('kind = "uniform"', 'kind = "unifrom"', "did you mean 'uniform'"),
    ('kind = "uniform"', 'kind = "spheres"', "[initial]"),
    ("amplitude = 0.1", "amplitude = 1e308", "[initial]: the field must be finite"),
    (
        'kind = "uniform"\nmean = 0.45\namplitude = 0.1',
        'kind = "spheres"\ncentres = [1.0, 2.0, 3.0]\nradii = [1.0, 2.0]',
        "[initial]: radii are one for all spheres or one for each, not 2 for 1 centres",
    ),
    ("amplitude = 0.1", "amplitude = 0.1\ncells = 4", "[initial] cells: has no effect"),
    ('kind = "uniform"\nmean = 0.45\namplitude = 0.1', 'kind = "file"', "[initial] file: is required"),
    ("[series]", "[parallel]\ngrid = [3, 7]\n[series]", "[parallel] grid: 3 × 7 parts do not match"),
]


@pytest.mark.parametrize("old, new, word", MISTAKES)
def test_a_mistake_gives_one_sentence_and_writes_nothing(refused, old, new, word):
    assert JOB.count(old) == 1
    refused(JOB.replace(old, new), word)


def test_check_tells_without_writing(tmp_path, capsys):
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace("[20, 18, 64]", "[512, 512, 512]"))
    before = set(tmp_path.iterdir())
    assert main(["check", str(path), "--ranks", "8"]) == 0
    out = capsys.readouterr().out
    # two arrays of 512 x 512 x 264 complex numbers, an eighth each
    spectrum = 512 * 512 * 264 * 16
    memory = float(out.split("memory       about ")[1].split()[0])
    assert memory == pytest.approx(2 * spectrum / 8 / 1e6 + 80, rel=0.05)
    for word in (
        "512 × 512 × 512",
        "8 × 1 parts",
        "200 steps",
        "within a node nothing",
        f"checkpoint   {spectrum / 1e6:.1f} MB",
    ):
        assert word in out, out
    assert main(["check", str(path), "--ranks", "1024"]) == 0
    out = capsys.readouterr().out
    sent = 2 * spectrum / 1024 * (1 - 1 / 512) + 2 * spectrum / 1024 / 2  # across planes, and along them
    assert "pencils, 512 × 2 parts" in out
    assert f"{spectrum / 1024 / 1e6:.3g} MB a step from each rank" in out and f"of its own {sent / 1e6:.3g} MB" in out
    assert main(["check", str(path), "--ranks", "1000003"]) == 1
    assert "too many" in capsys.readouterr().err
    assert main(["info", str(path)]) == 0
    assert "stage 2: 80 steps of 0.05, time 4" in capsys.readouterr().out
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "table, values",
    [
        ('kind = "gaussian"\nmean = 0.4\namplitude = 0.02\ncorrelation = 2.0', (0.3, 0.5)),
        ('kind = "perlin"\nexact_mean = 0.4\namplitude = 0.1\ncells = 4\noctaves = 2', (0.1, 0.7)),
        ('kind = "spheres"\ncentres = [10.0, 9.0, 9.0, 10.0, 9.0, 40.0]\nradii = 5.0\nwidth = 0.0', (0.0, 1.0)),
        ('kind = "layers"\naxis = 2\ncount = 2\ninside = 0.9\noutside = 0.1\nfraction = 0.25', (0.1, 0.9)),
    ],
)
def test_initial_fields(tmp_path, table, values):
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace('kind = "uniform"\nmean = 0.45\namplitude = 0.1', table))
    field = initial_field(read_run_file(World(), path, TABLES), path, (20, 18, 64), (1.0,) * 3)
    phi = field.box((0, 0, 0), (20, 18, 64))
    low, high = values
    assert low - 1e-12 <= phi.min() < phi.max() <= high + 1e-12
    if "spheres" in table:
        assert phi[10, 9, 9] == phi[10, 9, 40] == 1 and phi.sum() == pytest.approx(2 * 4 / 3 * np.pi * 125, rel=0.05)
    if "layers" in table:
        assert phi[3, 5, [0, 32]] == pytest.approx(0.9, abs=0.01) and phi[3, 5, [16, 48]] == pytest.approx(
            0.1, abs=0.01
        )


def test_the_page_of_all_keys_is_of_these_keys():
    written = (Path(__file__).parents[2] / "docs/phasefield-run-file.md").read_text(encoding="utf-8")
    assert written == page() + "\n", "python -m ostwald.app.jobs.phasefield_schema > docs/phasefield-run-file.md"
    assert [(table.name, name) for table in TABLES for name, key in table.keys.items() if not key.doc] == []


def test_starts_from_a_file(tmp_path, refused):
    phi = np.random.default_rng(1).normal(0.5, 0.1, (20, 18, 64))
    start = 'kind = "uniform"\nmean = 0.45\namplitude = 0.1'
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace(start, 'kind = "file"\nfile = "phi.npy"').replace("120", "1").replace("4.01", "0.05"))
    np.save(tmp_path / "phi.npy", phi)
    assert main(["run", str(path), "-d", str(tmp_path / "run")]) == 0
    rows = read_series(tmp_path / "run/series.h5")
    assert rows["low"][0] == pytest.approx(phi.min(), rel=1e-12) and rows["mean"][0] == pytest.approx(
        phi.mean(), rel=1e-14
    )
    for wrong, word in [
        (np.zeros((20, 18, 32)), "a field of 20 × 18 × 32 points, the grid has 20 × 18 × 64"),
        (np.where(phi == phi.max(), np.nan, phi), "the field must be finite"),
        (phi + 1j, "a field is real"),
        (None, "phi.npy: cannot be read"),
        ("folder", "phi.npy: a folder, not a file"),
    ]:
        (tmp_path / "phi.npy").unlink(missing_ok=True)
        if wrong is not None:
            (tmp_path / "phi.npy").mkdir() if isinstance(wrong, str) else np.save(tmp_path / "phi.npy", wrong)
        refused(path.read_text(), word, "run", "check")


def test_wells_and_elasticity(tmp_path):
    world, path = World(), tmp_path / "job.toml"
    more = 'epsilon = 2.0\nmobility = 5.0\nwell = "quartic"\nheight = 5.0\nlow = 0.3\nhigh = 0.7'
    path.write_text(JOB.replace("epsilon = 3.0", more))
    solver = build(world, read_run_file(world, path, TABLES), path)
    assert solver.mobility == 5 and solver.epsilon == 2
    assert solver.well.energy(0.5) == pytest.approx(5 * 0.2**4) and solver.well.energy(0.3) == pytest.approx(
        0, abs=1e-15
    )
    cubic = solver.elasticity.factor(1.0, 0.0, 0.0)
    matrix = np.diag([250.0] * 3 + [100.0] * 3)
    matrix[:3, :3] += 150 * (1 - np.eye(3))
    general = f"constants = {matrix.ravel().tolist()}\neigenstrain = [0.01, 0.01, 0.01, 0, 0, 0]"
    path.write_text(JOB.replace("c11 = 250.0\nc12 = 150.0\nc44 = 100.0\nmisfit = 0.01", general))
    found = build(world, read_run_file(world, path, TABLES), path).elasticity.factor(1.0, 0.0, 0.0)
    # one soft direction: Y = (c11 + 2 c12)(c11 - c12) / c11 eta^2 times 2
    assert found == pytest.approx(cubic) == pytest.approx(2 * 1e-4 * (250 + 300) * (250 - 150) / 250, rel=1e-12)


@pytest.mark.parametrize("more", ["", "mobility_coefficients = [1.0, 0.5]"])
def test_memory_that_check_counts_is_what_the_solver_holds(tmp_path, more):
    world, path = World(), tmp_path / "job.toml"
    path.write_text(JOB.replace("[20, 18, 64]", "[48, 48, 64]").replace("epsilon = 3.0", f"epsilon = 3.0\n{more}"))
    values = read_run_file(world, path, TABLES)
    solver = build(world, values, path)
    arrays = [a for a in vars(solver).values() if isinstance(a, np.ndarray) and a.size > solver.points / 2]
    held = solver.fourier.nbytes + sum(a.nbytes for a in arrays)
    assert footprint(values, solver.dtype, 1).memory == pytest.approx(held, rel=0.01)
    solver.close()


def test_rows_in_places_of_their_own(tmp_path):
    world, rows = World(), np.arange(12.0).reshape(4, 3)
    write_checkpoint(tmp_path, world, {"spectrum": rows}, {}, 1, starts={"spectrum": 0})
    part = np.empty((2, 3))
    found = read_checkpoint(tmp_path, world, targets={"spectrum": (1, part)})
    assert np.array_equal(part, rows[1:3]) and not found.arrays
    with pytest.raises(CollectiveError, match="overlap or leave gaps"):
        write_checkpoint(tmp_path, world, {"spectrum": rows}, {}, 2, starts={"spectrum": 1})
    for wrong in ((3, np.empty((2, 3))), (0, np.empty((4, 2))), (0, np.empty((4, 3), np.float32))):
        with pytest.raises(CheckpointError, match="spectrum"):
            read_checkpoint(tmp_path, world, targets={"spectrum": wrong})
    with pytest.raises(CheckpointError, match="missing"):
        read_checkpoint(tmp_path, world, targets={"field": (0, part)})
