"""The command line: what is refused before it starts, and what info, convert and report say."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.info import describe
from ostwald.io.checkpoint import write_checkpoint
from ostwald.io.structures import Structure, read_structure, write_structure


@pytest.mark.parametrize("option", ["--atoms=0", "--steps=-3", "--repeat=two"])
def test_bench_takes_whole_numbers_above_zero(option, capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", "md", option])
    assert end.value.code == 2
    name, value = option.split("=")
    assert f"argument {name}: takes a whole number above 0, not '{value}'" in capsys.readouterr().err


def test_bench_looks_for_the_folder_first(tmp_path, monkeypatch, capsys):
    def measured(*arguments):
        raise AssertionError("it has measured")

    monkeypatch.setattr("ostwald.app.jobs.bench_md.make_system", measured)
    assert main(["bench", "md", "--json", str(tmp_path / "absent" / "x.json")]) == 1
    assert f"there is no folder {tmp_path / 'absent'}" in capsys.readouterr().err


def test_bench_of_analysis(tmp_path, capsys):
    target = tmp_path / "analysis.json"
    cases = ["cna", "ptm", "q6-averaged", "q4-q6-w4-w6", "bonds"]
    chosen = [f"--case={name}" for name in cases]
    assert main(["bench", "analysis", "--atoms=1000", "--repeat=2", f"--json={target}", *chosen]) == 0
    table = capsys.readouterr().out
    assert "864 atoms, 2 repeats" in table
    rows = {row["case"]: row for row in json.loads(target.read_text())["results"]}
    assert list(rows) == cases and all(0 < row["us_min"] <= row["us_median"] for row in rows.values())
    for name in (*cases[:3], "bonds"):  # measured where the peer is installed, else quoted, and marked so
        row = rows[name]
        assert row["ratio"] == pytest.approx(row["peer_us_min"] / row["us_min"])
        assert row["measured"] or "quoted" in table
    if rows["ptm"]["measured"]:
        assert rows["ptm"]["difference"] == rows["cna"]["difference"] == "0 labels differ"
    assert main(["bench", "analysis", "--case=cnaa"]) == 1
    assert "no case 'cnaa'" in capsys.readouterr().err


def test_bench_of_the_phase_field(tmp_path, capsys):
    target = tmp_path / "phasefield.json"
    options = ["--grid=16", "--grid=20", "--precision=double", "--threads=1", "--repeat=2", f"--json={target}"]
    assert main(["bench", "phasefield", *options]) == 0
    table = capsys.readouterr().out
    rows = json.loads(target.read_text())["results"]
    assert [row["grid"] for row in rows] == [16, 20]
    for row in rows:
        assert row["floor_bytes_ms"] > 0 and row["floor_flops_ms"] > 0
        assert 0 < row["contestants"]["step"]["wall_ms"] <= row["contestants"]["step"]["wall_median_ms"]
        for name in ("FFTW", "scipy", "pyfftw+numba", "mpi4py-fft"):  # what is not installed is named
            assert name in row["contestants"] or f"{name}: left out" in table
        if "pyfftw+numba" in row["contestants"]:  # the same physics
            assert row["contestants"]["pyfftw+numba"]["difference"] < 1e-14
    with pytest.raises(SystemExit):
        main(["bench", "phasefield", "--atoms=100"])
    assert "unrecognized arguments: --atoms=100" in capsys.readouterr().err
    assert main(["bench", "phasefield", "--case=fftw"]) == 1
    assert "no case 'fftw'" in capsys.readouterr().err


def test_bench_of_times_to_the_same_solution(tmp_path, capsys):
    pytest.importorskip("petsc4py")
    target = tmp_path / "solution.json"
    cases = ("spectral, tolerance", "explicit", "petsc", "petsc, tolerance")
    options = ["--square=16", "--error=2e-3", "--repeat=1", f"--json={target}", *(f"--case={case}" for case in cases)]
    assert main(["bench", "phasefield", "--solution", *options]) == 0
    assert "16², 1 ranks" in capsys.readouterr().out
    (row,) = json.loads(target.read_text())["results"]
    assert 0 < row["apart"] < 0.1 and set(row["methods"]) == set(cases)
    for figures in row["methods"].values():
        assert figures["error"] <= 2e-3 and 0 < figures["steps"] and 0 < figures["wall_ms"]
    assert row["methods"]["petsc"]["steps"] < row["methods"]["explicit"]["steps"]
    assert main(["bench", "phasefield", "--solution", "--case=spectral"]) == 1
    assert "no case 'spectral'" in capsys.readouterr().err


def test_info_of_a_run_file(tmp_path):
    path = tmp_path / "melt.toml"
    path.write_text(
        '[job]\nkind = "md"\n[structure]\nlattice = "fcc"\na = 4.05\nspecies = ["Al"]\ncells = [2, 3, 4]\n'
        '[potential]\nfile = "zhou:Al"\n[[stage]]\nensemble = "nve"\nsteps = 12\n'
    )
    text = describe(path)
    for words in ("run file (md)", "fcc Al", "2 × 3 × 4", "zhou:Al", "stage 1: NVE, 12 steps"):
        assert words in text
    path.write_text(path.read_text().replace("steps", "stepps"))
    with pytest.raises(ValueError, match=r"melt.toml.*stepps.*steps"):
        describe(path)


def test_info_of_directories(world, tmp_path):
    with pytest.raises(ValueError, match="a directory, but neither"):
        describe(tmp_path)
    write_checkpoint(tmp_path, world, {"positions": np.zeros((5, 3))}, {}, 70)
    text = describe(tmp_path)
    assert "checkpoint-" in text and "step 70, 5 atoms, 1 ranks" in text and "valid" in text


def structure(matrix):
    return Structure(positions=np.zeros((1, 3)), matrix=matrix, species=("Al",), types=[0])


def test_info_names_a_structure_that_cannot_be_used(tmp_path):
    write_structure(tmp_path / "flat.xyz", structure([[4, 0, 0], [4, 0, 0], [0, 0, 4]]))
    with pytest.raises(ValueError, match=r"flat\.xyz.*no volume"):
        describe(tmp_path / "flat.xyz")
    write_structure(tmp_path / "left.xyz", structure([[0, 4, 0], [5, 0, 0], [0, 0, 6]]))
    assert "1 atoms, Al" in describe(tmp_path / "left.xyz")


def test_convert_takes_the_trajectory_of_a_run(tmp_path, capsys):
    write_structure(tmp_path / "trajectory.h5", structure(4 * np.eye(3)))
    assert main(["convert", str(tmp_path), str(tmp_path / "x.xyz")]) == 0
    assert len(read_structure(tmp_path / "x.xyz")) == 1
    (tmp_path / "trajectory.h5").unlink()
    assert main(["convert", str(tmp_path), str(tmp_path / "y.xyz")]) == 1
    assert "without a trajectory.h5" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun")
def test_one_rank_answers(tmp_path):
    write_structure(tmp_path / "al.xyz", structure(4 * np.eye(3)))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_COMM", "PMIX", "PMI_"))}
    environment |= dict(
        OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1"
    )
    done = subprocess.run(
        ["mpirun", "-n", "2", sys.executable, "-m", "ostwald.app.cli", "info", str(tmp_path / "al.xyz")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("al.xyz: structure") == 1
