"""Loading by content and suffix, sums of potentials, and what is said about a bad file."""

import numpy as np
import pytest
from ase.build import bulk

from ostwald.app.potentials import PotentialError, load
from ostwald.app.potentials.overlay import Overlay

SW = """# Stillinger-Weber
Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333333333
         7.049556277 0.6022245584 4.0 0.0 0.0
"""
TERSOFF = """# Tersoff
Si Si Si 3 1.0 1.3258 4.8381 2.0417 0.0 22.956
         0.33675 1.3258 95.373 3.0 0.2 3.2394 3264.7
"""
SIC = """C   C   C   3 1 0 38049  4.3484 -0.57058 0.72751 1.5724e-7 2.2119  346.7   1.95 0.15 3.4879 1393.6
Si(D)  Si(D)  Si(D)  3 1 0 100390 16.217 -0.59825 0.78734 1.1e-6    1.73222 471.18  2.85 0.15 2.4799 1830.8
Si(D)  Si(D)  C   3 1 0 100390 16.217 -0.59825 0 0 0 0 2.36 0.15 0 0
Si(D)  C   C   3 1 0 100390 16.217 -0.59825 0.78734 1.1e-6    1.97205 395.126 2.36 0.15 2.9839 1597.3111
C   Si(D)  Si(D)  3 1 0 38049  4.3484 -0.57058 0.72751 1.5724e-7 1.97205 395.126 2.36 0.15 2.9839 1597.3111
C   Si(D)  C   3 1 0 38049  4.3484 -0.57058 0 0 0 0 1.95 0.15 0 0
C   C   Si(D)  3 1 0 38049  4.3484 -0.57058 0 0 0 0 2.36 0.15 0 0
Si(D)  C   Si(D)  3 1 0 100390 16.217 -0.59825 0 0 0 0 2.85 0.15 0 0
Si(B) Si(B) Si(B) 3 1.0 1.3258 4.8381 2.0417 0.0 22.956 0.33675 1.3258 95.373 3.0 0.2 3.2394 3264.7
"""
ZBL = 'potential = "zbl"\nspecies = ["Si"]\ninner = 1.0\nouter = 3.0\n'


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", ["", ".sw", ".txt"])
def test_content_decides(tmp_path, suffix):
    for text, family in ((SW, "Stillinger-Weber"), (TERSOFF, "Tersoff"), (ZBL, "zbl")):
        potential = load(write(tmp_path, f"file{suffix}", text))
        assert (potential.family, potential.species) == (family, ("Si",))
        assert family in potential.describe() and "Si" in potential.describe()


def test_species_of_the_file_or_chosen(tmp_path):
    path = write(tmp_path, "SiC.tersoff", SIC)
    potential = load(path, ["Si(D)", "C"])
    assert potential.species == ("Si", "C")  # symbols, so that a structure file's names fit
    assert load(path, ["C", "Si"]).species == ("C", "Si")  # only Si(D) has entries with C
    assert load(path, "Si(B)").cutoff == pytest.approx(3.2)
    assert load(path, ["Si(D)", "Si(D)"]).species == ("Si", "Si")
    assert load(path, ["C", "Si"]).hash != potential.hash
    assert load(path, ["Si(D)", "C"]).hash == potential.hash
    assert load(path, ["Si(D)", "C"], precision="mixed").hash != potential.hash
    with pytest.raises(PotentialError, match=r"SiC\.tersoff: Si may be Si\(D\) or Si\(B\): name the one you mean"):
        load(path, ["Si"])
    with pytest.raises(PotentialError, match=r"no entry for C C Si\(B\)"):
        load(path)


def table(text, line, column, value):
    """The text with one word replaced; line and column from 1."""
    lines = text.splitlines()
    words = lines[line - 1].split()
    words[column - 1] = value
    lines[line - 1] = " ".join(words)
    return "\n".join(lines) + "\n"


TWO_SW = "\n".join(
    f"{a} {b} {c} 2.17 2.1 1.8 21 1.2 {-0.33 if b == c else -0.3} 7.05 0.6 4 0 0"
    for a in ("Si", "C")
    for b in ("Si", "C")
    for c in ("Si", "C")
)

MISTAKES = [
    # name, text, species, what the sentence must say (with the line)
    ("word.sw", table(SW, 2, 5, "2.O951"), None, r"line 2: '2\.O951' is not a number \(sigma of the entry Si Si Si\)"),
    ("word.sw", table(SW, 3, 2, "x"), None, r"line 3: 'x' is not a number \(B of the entry Si Si Si\)"),
    ("nan.sw", table(SW, 2, 4, "nan"), None, "line 2: epsilon of the entry Si Si Si is nan, not a finite number"),
    ("inf.tersoff", table(TERSOFF, 3, 6, "inf"), None, "line 3: lambda1 of the entry Si Si Si is inf, not a finite"),
    (
        "cut.sw",
        SW.replace(" 0.0 0.0\n", "\n"),
        None,
        "line 2: the entry Si Si Si has only 9 of its 11 numbers",
    ),
    ("cut.tersoff", TERSOFF[:-30], None, "line 2: the entry Si Si Si has only 9 of its 14 numbers"),
    ("short.sw", SW.replace(" 0.0 0.0\n", "\n") + SW, None, "line 2: the entry Si Si Si has only 9 of its 11 numbers"),
    ("long.sw", SW.replace("0.0 0.0\n", "0.0 0.0 0.0\n"), None, "line 3: '0.0' follows the 11 numbers of the entry"),
    ("names.sw", "Si Si\n" + SW, None, "line 1: an entry begins with three species, not with Si Si"),
    ("twice.tersoff", TERSOFF + TERSOFF, None, "line 5: the entry Si Si Si was given before, on line 2"),
    ("other.sw", SW, ["Ge"], "other.sw: no entry for species Ge: the file has Si"),
    ("missing.tersoff", SIC.replace("C   Si(D)  C ", "C   X  C "), ["Si(D)", "C"], r"no entry for C Si\(D\) C"),
    (
        "order.tersoff",
        SIC.replace("C   Si(D)  C ", "C   X  C "),
        ["Si(D)", "C"],
        r"same three in another order are on line 7",
    ),
    ("cutoff.sw", table(SW, 2, 6, "0.0"), None, "line 2: the cutoff a sigma must be positive"),
    ("negative.sw", table(SW, 2, 5, "-2.1"), None, "line 2: sigma is -2.1, it must not be negative"),
    (
        "cutoff.tersoff",
        table(table(TERSOFF, 3, 4, "0.0"), 3, 5, "0.0"),
        None,
        "line 2: the cutoff R . D must be positive",
    ),
    ("width.tersoff", table(TERSOFF, 3, 5, "3.5"), None, r"line 2: D is 3\.5, more than R, which is 3 "),
    ("power.tersoff", table(TERSOFF, 2, 4, "2"), None, "line 2: m is 2, it must be 1 or 3"),
    ("d.tersoff", table(TERSOFF, 2, 8, "0"), None, r"line 2: d is 0, it must not be as c is 4\.8381"),
    ("n.tersoff", table(TERSOFF, 2, 10, "0"), None, "line 2: n is 0, it must be positive"),
    ("pair.sw", table(TWO_SW, 3, 9, "-0.2"), None, r"line \d: lambda epsilon or cos theta0 differ from line \d"),
    ("empty.sw", "", None, "empty.sw: no entry .* in this file"),
    ("comments.sw", "# nothing\n\n", None, "comments.sw: no entry .* in this file"),
    ("prose.txt", "This is a letter, not a potential.\n", None, "prose.txt: .* no potential of a known family"),
    ("broken.toml", 'potential = "zbl\n', None, "broken.toml: not valid TOML: .*line 1"),
    ("what.toml", 'potential = "morse"\n', None, "what.toml: .* no potential of a known family"),
]


@pytest.mark.parametrize(
    "name, text, species, message", MISTAKES, ids=[f"{k}-{mistake[0]}" for k, mistake in enumerate(MISTAKES)]
)
def test_mistakes(tmp_path, name, text, species, message):
    path = write(tmp_path, name, text)
    with pytest.raises(PotentialError, match=message) as caught:
        load(path, species)
    said = str(caught.value)
    assert said.startswith(str(path)) and "\n" not in said


def test_no_such_file(tmp_path):
    write(tmp_path, "Si.tersoff", TERSOFF)
    with pytest.raises(PotentialError, match=r"Si\.tersof: no such file; did you mean Si\.tersoff\?"):
        load(tmp_path / "Si.tersof")
    with pytest.raises(PotentialError, match="this directory is no potential"):
        load(tmp_path)
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    with pytest.raises(PotentialError, match="bytes: cannot be read: it is not a text file"):
        load(tmp_path / "bytes")
    with pytest.raises(PotentialError, match="precision must be one of double, mixed, not 'single'"):
        load(tmp_path / "Si.tersoff", precision="single")
    with pytest.raises(PotentialError, match="no species given"):
        load(tmp_path / "Si.tersoff", [])


# ---- sums ---------------------------------------------------------------------------------------------------------------


def rattled(factor=1.0):
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.positions += np.random.default_rng(2).normal(0, 0.1, atoms.positions.shape)
    atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
    return atoms


@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_overlay_is_the_sum(tmp_path, precision):
    write(tmp_path, "Si.tersoff", TERSOFF)
    write(tmp_path, "zbl.toml", ZBL)
    inline = '[[terms]]\npotential = "zbl"\ninner = 1.0\nouter = 3.0\n'
    head = 'potential = "overlay"\n[[terms]]\nfile = "Si.tersoff"\n'
    sums = [
        load(write(tmp_path, "a.toml", head + '[[terms]]\nfile = "zbl.toml"\n'), precision=precision),
        load(write(tmp_path, "b.toml", head + inline), precision=precision),
        load(write(tmp_path, "c.toml", 'potential = "overlay"\nspecies = ["Si"]\n' + inline + head.split("\n", 1)[1])),
    ]
    assert all(s.species == ("Si",) and s.list_style == "full" and s.reverse for s in sums)
    assert sums[0].cutoff == pytest.approx(3.2) and sums[0].hash == sums[1].hash != sums[2].hash
    assert "Tersoff" in sums[0].describe() and "zbl" in sums[0].describe()
    atoms = rattled(0.85)  # so that the repulsion matters
    parts = []
    for name in ("Si.tersoff", "zbl.toml"):
        atoms.calc = load(tmp_path / name, precision=precision).ase()
        parts.append(
            (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energies())
        )
    assert abs(parts[1][0]) > 1.0
    for potential in sums[:2]:
        atoms.calc = potential.ase()
        got = (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energies())
        for value, first, second in zip(got, *parts):
            assert np.abs(value - (first + second)).max() < (1e-10 if precision == "double" else 1e-4)


def test_terms_by_name(tmp_path):
    terms = '[[terms]]\nfile = "zhou:Ni-Al"\n[[terms]]\npotential = "zbl"\ninner = 1.0\nouter = 2.0\n'
    potential = load(write(tmp_path, "sum.toml", 'potential = "overlay"\n' + terms))
    assert potential.species == ("Ni", "Al") and [t.family for t in potential.terms] == ["eam", "zbl"]
    assert load(write(tmp_path, "one.toml", 'potential = "overlay"\n[[terms]]\nfile = "Si.sw"\n')).species == ("Si",)


def test_half_lists_when_all_terms_take_them(tmp_path):
    term = '[[terms]]\npotential = "zbl"\nspecies = ["Si"]\ninner = 1.0\nouter = 3.0\n'
    twice = load(write(tmp_path, "twice.toml", 'potential = "overlay"\n' + term + term))
    assert twice.list_style == "half" and not twice.reverse
    atoms = rattled()
    atoms.calc = load(write(tmp_path, "zbl.toml", ZBL)).ase()
    once = atoms.get_potential_energy()
    atoms.calc = twice.ase()
    assert atoms.get_potential_energy() == pytest.approx(2 * once, rel=1e-12)


@pytest.mark.parametrize(
    "text, message",
    [
        ('potential = "overlay"\n', r"sum\.toml: a sum needs at least one \[\[terms\]\]"),
        ('potential = "overlay"\nterm = 1\n', r"sum\.toml: unknown key term; did you mean terms\?"),
        ('potential = "overlay"\n[[terms]]\nfile = "no.sw"\n', r"no\.sw: no such file"),
        ('potential = "overlay"\n[[terms]]\nfile = "Si.sw"\ninner = 2\n', r"line 2: a term from a file has the keys"),
        ('potential = "overlay"\n[[terms]]\npotential = "zbI"\n', r"line 2: a term needs file = .*lennard-jones, zbl"),
        ('potential = "overlay"\nspecies = "Si"\n[[terms]]\nfile = "Si.sw"\n', r"species must be a list of names"),
        ('potential = "overlay"\nspecies = ["Ge"]\n[[terms]]\nfile = "Si.sw"\n', r"Si\.sw: no entry for species Ge"),
        ('potential = "overlay"\nspecies = ["Si"]\n[[terms]]\npotential = "zbl"\nouter = 3\n', "inner is missing"),
    ],
)
def test_overlay_mistakes(tmp_path, text, message):
    write(tmp_path, "Si.sw", SW)
    with pytest.raises(PotentialError, match=message):
        load(write(tmp_path, "sum.toml", text))


def test_overlay_terms_must_agree(tmp_path):
    silicon = load(write(tmp_path, "Si.sw", SW))
    with pytest.raises(PotentialError, match=r"species of the term Tersoff are C Si, of the first Si"):
        Overlay([silicon, load(write(tmp_path, "SiC.tersoff", SIC), ["C", "Si"])])
    with pytest.raises(PotentialError, match="same precision"):
        Overlay([silicon, load(tmp_path / "Si.sw", precision="mixed")])
    with pytest.raises(PotentialError, match="at least one term"):
        Overlay([])
