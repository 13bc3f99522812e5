"""Neural-network potentials in model files: nothing is lost, and they are used like every potential."""

from dataclasses import replace

import numpy as np
import pytest
from hdnnp_reference import make_model, random_atoms

from ostwald.app.cli import main
from ostwald.app.info import describe
from ostwald.app.potentials import Ensemble, PotentialError, load
from ostwald.app.potentials.hdnnp import HDNNP, modelfile, models, n2p2
from ostwald.app.potentials.hdnnp.model import BOHR, HARTREE, KINDS, SCALINGS
from ostwald.io.modelfile import read_model, write_model

SEEN = {
    "structures": 3,
    "atoms": {"S": 12, "Cu": 8},
    "groups": ["a", "b"],
    "energy": {"min": -5.0, "max": -4.0, "mean": -4.5},
    "volume": None,
    "force": {"min": 0.0, "max": 7.0, "mean": 0.5},
    "digest": "0",
}


def several(count=3, seed=3, **options):
    """Models on the same functions, with other weights."""
    first, found = make_model(seed, **options), []
    for k in range(count):
        elements = [
            replace(e, layers=[replace(layer, weights=(1 + k / 9) * layer.weights) for layer in e.layers])
            for e in first.elements
        ]
        found.append(replace(first, elements=elements))
    return found


@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_bit_is_kept(tmp_path, scaling):
    """All kinds of functions, scalings, units; members of different functions and networks."""
    rich = make_model(
        1, kinds=KINDS, scaling=scaling, normalize_nodes=True, normalised=True, length_unit=BOHR, energy_unit=HARTREE
    )
    rich = replace(rich, keywords=[("random_seed", "7"), ("use_short_forces", "")], units_stated=False)
    other = make_model(2, kinds=(2, 20), nodes=(3,), activations=("softplus", "linear"), cutoff_type=3)
    modelfile.write(tmp_path / "a.ostwald", [rich, other], SEEN, {"date": "today"})
    read = models(tmp_path / "a.ostwald")
    assert read == [rich, other] and [m.units_stated for m in read] == [False, True]
    again = modelfile.write(tmp_path / "b.ostwald", read, SEEN)
    assert again == read_model(tmp_path / "a.ostwald").hash


def test_used_like_every_potential(tmp_path):
    model = make_model(5)
    path = tmp_path / "CuS.ostwald"
    modelfile.write(path, [model])
    atoms = random_atoms(6, count=10, length=6.5)
    atoms.calc = load(path).ase()
    reference = atoms.copy()
    reference.calc = HDNNP(model).ase()
    assert np.array_equal(atoms.get_forces(), reference.get_forces())
    assert atoms.get_potential_energy() == reference.get_potential_energy()
    assert "extrapolation" in atoms.calc.results
    assert load(path, species=("Cu", "S")).species == ("Cu", "S")
    assert load(path, precision="mixed").precision == "mixed"
    assert load(str(path)).hash == HDNNP(model).hash and str(path) in load(path).describe()
    renamed = path.rename(tmp_path / "CuS.h5")  # content decides
    assert load(renamed).hash == HDNNP(model).hash


def test_committee(tmp_path):
    """Forces are the members' mean, and their spread is in the results."""
    members = several()
    path = tmp_path / "committee.ostwald"
    modelfile.write(path, members)
    potential = load(path)
    assert isinstance(potential, Ensemble) and len(potential.members) == 3 and potential._shared is not None
    assert f"ensemble of 3 HDNNP potentials ({path})" in potential.describe()
    atoms = random_atoms(6, count=10, length=6.5)
    atoms.calc = potential.ase()
    forces, spread = atoms.get_forces(), atoms.calc.results["force_deviation"]
    each = []
    for model in members:
        atoms.calc = HDNNP(model).ase()
        each.append(atoms.get_forces())
    assert np.abs(forces - np.mean(each, 0)).max() < 1e-11
    expected = np.sqrt(((each - np.mean(each, 0)) ** 2).sum(2).mean(0))
    assert expected.min() > 1e-3 and np.abs(spread - expected).max() < 1e-10


def test_info(tmp_path):
    path = tmp_path / "CuS.ostwald"
    errors = {"validation": {"energy": {"rmse": 0.71, "unit": "meV/atom"}}}
    digest = modelfile.write(path, several(2), SEEN, {"errors": errors, "date": "2030-01-01T00:00:00", "versions": {}})
    text = describe(path)
    for part in (
        "ensemble of 2, neural-network potential (HDNNP), S Cu, cutoff 5 Å",
        f"hash {digest}",
        "trained on 3 structures (8 Cu, 12 S atoms); groups a, b",
        "energies -5 to -4 eV/atom; forces 0 to 7 eV/Å",
        "RMSE, validation: energy 0.71 meV/atom",
        "made 2030-01-01",
        "Cu: ",
    ):
        assert part in text, part
    write_model(path, "other", {}, {"x": np.zeros((2, 3))}, {})
    assert "a trained model of the kind 'other', 6 numbers in 1 arrays" in describe(path)


def test_to_n2p2_and_back(tmp_path, capsys):
    members = several()
    n2p2.write(members[0], tmp_path / "net")
    assert main(["convert", str(tmp_path / "net"), str(tmp_path / "net.ostwald")]) == 0
    assert models(tmp_path / "net.ostwald") == [members[0]]
    assert main(["convert", str(tmp_path / "net.ostwald"), str(tmp_path / "back")]) == 0
    for file in n2p2.files(tmp_path / "net"):
        assert (tmp_path / "net" / file).read_text() == (tmp_path / "back" / file).read_text()
    for k, member in enumerate(members[1:]):
        n2p2.write(member, tmp_path / f"n{k}")
    sources = [str(tmp_path / name) for name in ("net.ostwald", "n0", "n1")]
    assert main(["convert", *sources, str(tmp_path / "all.ostwald")]) == 0
    assert models(tmp_path / "all.ostwald") == members
    assert main(["convert", str(tmp_path / "all.ostwald"), str(tmp_path / "folders")]) == 0
    assert n2p2.read(tmp_path / "folders/member-3") == members[2]
    assert "3 networks" in capsys.readouterr().out


def test_what_is_wrong_is_said(tmp_path, capsys):
    path = tmp_path / "x.ostwald"
    for kind, description, message in (
        ("crnn", {}, "a trained model of the kind 'crnn', which is no potential"),
        ("hdnnp", {}, "what it describes is no neural-network potential: 'functions'"),
        ("hdnnp", {"functions": [], "members": []}, "it has no members"),
    ):
        write_model(path, kind, description, {}, {})
        with pytest.raises(PotentialError, match=rf"^{path}: .*{message}"):
            load(path)
    modelfile.write(path, [make_model(5)])
    with pytest.raises(PotentialError, match="units of a model file are its own"):
        load(path, units=("bohr", "Hartree"))
    with pytest.raises(PotentialError, match="no network for Ag"):
        load(path, species=["Ag"])
    n2p2.write(make_model(5, elements=("Ni",)), tmp_path / "Ni")
    assert main(["convert", str(path), str(tmp_path / "Ni"), str(tmp_path / "y.ostwald")]) == 1
    assert "Ni: is a potential of Ni, the first is one of S Cu" in capsys.readouterr().err
    assert main(["convert", str(path), str(tmp_path / "Ni/input.nn")]) == 1
    assert "input.nn: is a file" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PotentialError, match=rf"^{path}: the file is damaged or cut short$"):
        load(path)
