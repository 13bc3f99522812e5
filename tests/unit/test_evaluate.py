"""`ostwald evaluate`: errors of any potential on a data set."""

import json

import numpy as np
import pytest
from ase.build import bulk

from ostwald.app.atoms.units import GPA
from ostwald.app.cli import main
from ostwald.app.potentials import load
from ostwald.app.training.teacher import label
from ostwald.io.datasets import open_dataset, write_dataset


@pytest.fixture
def made(tmp_path):
    """A data set labelled by a potential, its labels then changed by known amounts in one of two groups."""
    found, calculator = [], load("zhou:Ni").ase()
    for k in range(6):
        atoms = bulk("Ni", cubic=True) * (1 + k % 2, 1, 1)
        atoms.rattle(0.1, seed=k)
        found.append(label(atoms, calculator, "wrong" if k < 2 else "right"))
    found[0].energy += 0.004 * 3  # 3 and -1 meV/atom
    found[1].energy -= 0.008 * 1
    found[1].forces[2, 1] += 0.6
    found[0].stress[4] = np.nan
    found[1].stress[0] -= 2 / GPA
    write_dataset(tmp_path / "a.dataset", found)
    return open_dataset(tmp_path / "a.dataset")


def test_errors_are_those_that_were_made(made, tmp_path, capsys):
    assert main(["evaluate", str(made.path), "zhou:Ni", "--json", str(tmp_path / "e.json")]) == 0
    errors = json.loads((tmp_path / "e.json").read_text())["errors"]
    wrong, right, every = errors["wrong"], errors["right"], errors["all"]
    assert wrong["energy"]["rmse"] == pytest.approx(5**0.5, rel=1e-6) and wrong["energy"]["mae"] == pytest.approx(2.0)
    assert every["energy"]["rmse"] == pytest.approx((10 / 6) ** 0.5, rel=1e-6) and every["energy"]["number"] == 6
    assert wrong["force"]["rmse"] == pytest.approx(0.6 / 36**0.5, rel=1e-6) and wrong["force"][
        "largest"
    ] == pytest.approx(0.6)
    assert wrong["stress"]["number"] == 11 and wrong["stress"]["mae"] == pytest.approx(2 / 11, rel=1e-6)
    assert max(right[quantity]["largest"] for quantity in right) < 1e-6
    assert "6 structures" in capsys.readouterr().out


def test_what_is_no_run_is_refused(made, tmp_path, capsys):
    assert main(["evaluate", str(made.path), "zhou:Ni", "--run", str(tmp_path)]) == 1
    assert "predictions.h5: cannot be read" in capsys.readouterr().err
