"""From run files to systems: seeds, groups, and what does not make sense."""

from dataclasses import replace

import numpy as np
import pytest
from hdnnp_reference import make_model

from ostwald.app.analysis.structure import surroundings
from ostwald.app.jobs import md_setup
from ostwald.app.jobs.md_schema import TABLES
from ostwald.app.potentials import zhou
from ostwald.app.potentials.eam import write_setfl
from ostwald.app.potentials.hdnnp import n2p2
from ostwald.app.potentials.hdnnp.model import BOHR, HARTREE
from ostwald.app.runfile import RunFileError, dumps, load_toml, validate
from ostwald.parallel import CollectiveError

RUN = """
[job]
kind = "md"
[structure]
lattice = "fcc"
a = 4.05
species = ["Al"]
cells = [5, 5, 5]
{structure}
[potential]
file = "zhou:Al"
{tables}
[[stage]]
ensemble = "nve"
steps = 1
{stage}
"""


def read(tmp_path, structure="", tables="", stage=""):
    path = tmp_path / "run.toml"
    path.write_text(RUN.format(structure=structure, tables=tables, stage=stage))
    return validate(load_toml(path), TABLES, path), path


def group_size(world, tmp_path, region, structure=""):
    system = md_setup.build_system(world, *read(tmp_path, structure, f'[[group]]\nname = "part"\n{region}\n'))
    return int(np.count_nonzero(system.atoms.groups & system.atoms.group_mask("part")))


def seed(radius):
    return f'[seed]\nradius = {radius}\nlattice = "fcc"\na = 4.05\nspecies = ["Al"]\n'


@pytest.mark.parametrize("radius", [8.0, 9.3])
def test_a_large_seed_does_not_overlap_with_its_images(world, tmp_path, radius):
    system = md_setup.build_system(world, *read(tmp_path, tables=seed(radius)))
    system.update()
    nb, _ = surroundings(system)
    rows = np.repeat(np.arange(nb.nlocal), np.diff(nb.offsets))
    assert np.linalg.norm(nb.positions[nb.indices] - nb.positions[rows], axis=1).min() > 1.4
    bit = system.atoms.group_mask("seed")
    inside = np.count_nonzero(system.atoms.groups & bit)
    assert inside == pytest.approx(4 / 3 * np.pi * radius**3 * 4 / 4.05**3, rel=0.15)


def test_a_seed_wider_than_the_cell_is_refused(world, tmp_path):
    with pytest.raises(RunFileError, match=r"\[seed\] radius.*20.25 Å"):
        md_setup.build_system(world, *read(tmp_path, tables=seed(10.0)))


def test_blocks_reach_across_periodic_faces(world, tmp_path):
    everything, rattled = "block = [0, 1, 0, 1, 0, 1]", "rattle = 0.05"
    assert group_size(world, tmp_path, everything, rattled) == 500
    assert group_size(world, tmp_path, "block = [-0.05, 0.05, 0, 1, 0, 1]", rattled) == 50
    assert group_size(world, tmp_path, "block = [0.95, 1.05, 0, 1, 0, 1]", rattled) == 50
    half = group_size(world, tmp_path, "block = [0, 0.5, 0, 1, 0, 1]", "periodic = [false, true, true]")
    assert half == 250


def test_a_cylinder_ends_at_open_faces(world, tmp_path):
    whole = group_size(world, tmp_path, "cylinder = [2, 0.0, 0.5, 5]")
    part = group_size(world, tmp_path, "cylinder = [2, 0.0, 0.5, 5]", "periodic = [false, true, true]")
    assert 0.4 * whole < part < 0.7 * whole


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("cylinder = [5, 0.5, 0.5, 5]", "axis"),
        ("cylinder = [1, 0.5, 0.5, 0]", "radius"),
        ("sphere = [0.5, 0.5, 0.5, -3]", "radius"),
        ("species = []", "no element"),
    ],
)
def test_regions_that_are_none(tmp_path, region, words):
    with pytest.raises(RunFileError, match=words):
        read(tmp_path, tables=f'[[group]]\nname = "part"\n{region}\n')


def test_freezing_everything_is_refused(world, tmp_path):
    group = '[[group]]\nname = "all of it"\nspecies = ["Al"]\n'
    values, path = read(tmp_path, tables=group, stage='freeze = ["all of it"]')
    system = md_setup.build_system(world, values, path)
    with pytest.raises(RunFileError, match="no atom that can move"):
        md_setup.freeze(system, values["stage"][0])


@pytest.mark.parametrize(
    ("structure", "more", "words"),
    [
        ("periodic = [true, true, false]", "", "axis c of the cell is open"),
        ("", 'cell = "anisotropic"\naxes = [false, false, false]', "one must be free"),
    ],
)
def test_a_late_stage_that_cannot_move_its_cell_is_refused_at_once(world, tmp_path, structure, more, words):
    late = f'[[stage]]\nensemble = "npt"\ntemperature = 300\npressure = 0\nsteps = 1\n{more}\n'
    with pytest.raises(RunFileError, match=rf"\[stage 2\] cell: .*{words}"):
        md_setup.build_system(world, *read(tmp_path, structure, stage=late))


def test_axes_of_a_relaxation():
    assert md_setup.cell_modes({"cell": "anisotropic", "axes": [True, False, True]}) == ["xx", "zz"]


FILE = '[job]\nkind = "md"\n[structure]\nfile = "{file}"\n{structure}\n[potential]\nfile = "zhou:{elements}"\n'
FILE += '[[stage]]\nensemble = "nve"\nsteps = 1\n'


def system_of_file(world, tmp_path, file, structure="", elements="Al"):
    path = tmp_path / "run.toml"
    path.write_text(FILE.format(file=file, structure=structure, elements=elements))
    return md_setup.build_system(world, validate(load_toml(path), TABLES, path), path)


NUMBERED = (
    "LAMMPS data\n\n2 atoms\n2 atom types\n0 20 xlo xhi\n0 20 ylo yhi\n0 20 zlo zhi\n{masses}\nAtoms # atomic\n\n"
    "1 2 1 1 1\n2 1 5 5 5\n"
)


def test_masses_of_a_data_file(world, tmp_path):
    (tmp_path / "data.two").write_text(NUMBERED.format(masses="\nMasses\n\n1 77.5 # Ni\n2 33.25 # Al\n"))
    system = system_of_file(world, tmp_path, "data.two", 'species = ["Al", "Ni"]', "Ni-Al")
    assert system.atoms.species == ("Al", "Ni")  # the file's names count, not their places
    assert system.atoms.masses.tolist() == [33.25, 77.5]
    system = system_of_file(world, tmp_path, "data.two", "masses = { Ni = 60 }\ncells = [2, 1, 1]", "Ni-Al")
    assert dict(zip(system.atoms.species, system.atoms.masses)) == {"Ni": 60.0, "Al": 33.25}


def test_numbered_types_get_names(world, tmp_path):
    (tmp_path / "data.two").write_text(NUMBERED.format(masses=""))
    system = system_of_file(world, tmp_path, "data.two", 'species = ["Ni", "Al"]', "Ni-Al")
    assert system.atoms.species == ("Ni", "Al") and system.atoms.types[np.argsort(system.atoms.ids)].tolist() == [1, 0]
    (tmp_path / "data.two").write_text(
        NUMBERED.format(masses="\nMasses\n\n1 50\n2 26.98\n")
    )  # only one is an element's
    system = system_of_file(world, tmp_path, "data.two", 'species = ["Ni", "Al"]', "Ni-Al")
    assert system.atoms.species == ("Ni", "Al") and system.atoms.masses.tolist() == [50.0, 26.98]
    with pytest.raises(CollectiveError, match=r"species: .*data\.two: 1 species given \(Ni\)"):
        system_of_file(world, tmp_path, "data.two", 'species = ["Ni"]', "Ni-Al")


def test_a_left_handed_cell(world, tmp_path):
    (tmp_path / "POSCAR").write_text("left\n1.0\n0 5 0\n4 0 0\n0 0 6\nAl\n2\nDirect\n0.1 0.2 0.3\n0.6 0.7 0.8\n")
    more = "cells = [2, 3, 2]\nperiodic = [false, true, true]\nvacuum = [10, 0, 0]"
    system = system_of_file(world, tmp_path, "POSCAR", more)
    assert system.total == 24 and system.cell.periodic.tolist() == [True, False, True]
    assert np.allclose(system.cell.matrix, np.diag([12, 20, 12]))
    x = system.atoms.positions
    assert np.allclose(x[np.argsort(system.atoms.ids)][:2], [[0.8, 0.5, 1.8], [2.8, 3.0, 4.8]])
    assert x[:, 0].max() < 12 and 5 < x[:, 1].max() < 10


def test_a_neural_network_is_kept_with_the_run_and_its_units_are_said(world, tmp_path):
    model = make_model(1, ("Al",), kinds=(2,), cutoff=4.0, length_unit=BOHR, energy_unit=HARTREE)
    n2p2.write(model, tmp_path / "net")
    (tmp_path / "net" / "input.data").write_text("a training set")
    text = (tmp_path / "net" / "input.nn").read_text()
    (tmp_path / "net" / "input.nn").write_text(text.replace("# units bohr Hartree\n", ""))
    path = tmp_path / "run.toml"
    run = RUN.format(structure="", tables="", stage="")
    path.write_text(run.replace('"zhou:Al"', '"net"\nlength_unit = "bohr"\nenergy_unit = "Hartree"'))
    values = validate(load_toml(path), TABLES, path)
    system = md_setup.build_system(world, values, path)
    assert system.potential.cutoff == pytest.approx(4.0) and "bohr and Hartree" in system.potential.describe()
    kept = md_setup.portable_potential(values)
    names = ["input.nn", "scaling.data", "weights.013.data"]
    assert kept == {f"net/{name}": str(tmp_path / "net" / name) for name in names}
    assert values["potential"]["file"] == "net"
    path.write_text(run.replace('"zhou:Al"', '"net"\nlength_unit = "bohr"'))
    with pytest.raises(RunFileError, match=r"\[potential\] length_unit: needs energy_unit too"):
        validate(load_toml(path), TABLES, path)
    n2p2.write(make_model(1, ("Al",), kinds=(2,), cutoff=5.5, length_unit=BOHR, energy_unit=HARTREE), tmp_path / "net")
    (tmp_path / "net" / "input.nn").write_text(
        (tmp_path / "net" / "input.nn").read_text().replace("# units bohr Hartree\n", "")
    )
    path.write_text(run.replace('"zhou:Al"', '"net"'))
    said = []
    world.log.files.append(type("Log", (), {"write": said.append, "flush": lambda self: None})())
    md_setup.build_system(world, validate(load_toml(path), TABLES, path), path)
    assert "a cutoff of 10.3935 looks like bohr: state length_unit and energy_unit" in "".join(said)


def test_an_ensemble_is_kept_with_the_run(world, tmp_path):
    """Members with one name in several folders, and one that needs no file."""
    for k, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        table = zhou.tables(("Al",))
        write_setfl(tmp_path / folder / "Al.eam.alloy", replace(table, pair=(1.01 + 0.01 * k) * table.pair))
    text = RUN.replace('"zhou:Al"', '["a/Al.eam.alloy", "zhou:Al", "b/Al.eam.alloy"]')
    path = tmp_path / "run.toml"
    path.write_text(text.format(structure="", tables="", stage=""))
    values = validate(load_toml(path), TABLES, path)
    system = md_setup.build_system(world, values, path)
    assert len(system.potential.members) == 3
    kept = md_setup.portable_potential(values)
    assert kept == {
        "Al.eam.alloy": str(tmp_path / "a/Al.eam.alloy"),
        "2-Al.eam.alloy": str(tmp_path / "b/Al.eam.alloy"),
    }
    assert values["potential"]["file"] == ["Al.eam.alloy", "zhou:Al", "2-Al.eam.alloy"]
    again = tmp_path / "again.toml"
    again.write_text(dumps(values))
    assert validate(load_toml(again), TABLES, again)["potential"] == values["potential"]
