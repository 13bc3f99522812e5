"""Molecular dynamics with a neural-network potential as its users run it: conserved energy, ranks, a kill and a resume."""

import shutil

import numpy as np
from hdnnp_reference import make_model

from ostwald.app.potentials.hdnnp import n2p2
from ostwald.io.checkpoint import read_checkpoint
from ostwald.io.timeseries import read_series
from ostwald.parallel import World

JOB = """
[job]
kind = "md"
seed = 3
[structure]
lattice = "b2"
a = 3.1
species = ["S", "Cu"]
cells = [4, 3, 3]
rattle = 0.05
[potential]
file = "net"
[[stage]]
ensemble = "nve"
velocities = 200.0
timestep = 0.001
steps = 120
[series]
every = 5
[trajectory]
every = 100
[checkpoint]
every = 30
[log]
every = 100
"""


def final_state(directory):
    checkpoint = read_checkpoint(directory / "checkpoints", World())
    order = np.argsort(checkpoint.arrays["ids"])
    return {name: checkpoint.arrays[name][order] for name in ("positions", "velocities", "images", "ids")}


def test_nve_on_ranks_with_a_kill_and_a_resume(ostwald, run_file, tmp_path):
    net = tmp_path / "net"
    n2p2.write(make_model(4, kinds=(2, 3, 9, 22), cutoff=4.5, cutoff_type=6, spread=0.5, count=1, normalised=True), net)
    text = run_file(JOB)
    rows = {}
    for ranks in (1, 2):
        status, out, err = ostwald("run", text, "-d", tmp_path / f"on_{ranks}", ranks=ranks)
        assert status == 0, out + err
        assert "HDNNP" in out and "files in angstrom and eV" in out
        rows[ranks] = read_series(tmp_path / f"on_{ranks}" / "series.h5")
        assert sorted(p.name for p in (tmp_path / f"on_{ranks}" / "net").iterdir()) == n2p2.files(net)
    # the potential energy moves, the sum with the kinetic energy does not
    energy, kinetic = rows[1]["potential_energy"], rows[1]["kinetic_energy"]
    assert np.ptp(energy) > 0.2
    assert np.ptp(energy + kinetic) < 1e-3 * np.ptp(energy)
    np.testing.assert_allclose(rows[2]["potential_energy"], energy, rtol=1e-9)
    np.testing.assert_allclose(rows[2]["kinetic_energy"], kinetic, rtol=1e-7)

    # a run that loses its potential's directory and its processes goes on from what it kept, to the same bits
    broken = tmp_path / "broken"
    ostwald.kill_when(
        lambda: len(list((broken / "checkpoints").glob("checkpoint-*.h5"))) > 1, "run", text, "-d", broken, ranks=2
    )
    shutil.rmtree(net)
    status, out, err = ostwald("resume", broken, ranks=2)
    assert status == 0, out + err
    whole, resumed = final_state(tmp_path / "on_2"), final_state(broken)
    for name, array in whole.items():
        assert np.array_equal(array, resumed[name]), name


def test_what_a_bad_directory_says(ostwald, run_file, tmp_path):
    net = tmp_path / "net"
    n2p2.write(make_model(4, kinds=(2,), cutoff=4.5, count=1), net)
    weights = net / "weights.029.data"
    weights.write_text(weights.read_text().replace("E", "x", 3))
    for ranks in (1, 2):
        status, _, err = ostwald("run", run_file(JOB), "-d", tmp_path / "run", ranks=ranks)
        assert status not in (0, 85)
        said = [line for line in err.splitlines() if "weights.029.data" in line]
        assert len(said) == 1 and "line 2" in said[0] and "is not a number" in said[0]
        assert not (tmp_path / "run").exists()
    status, _, err = ostwald("info", net)
    assert status != 0 and "weights.029.data, line 2" in err and "Traceback" not in err
