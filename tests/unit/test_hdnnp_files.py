"""Directories of n2p2 and RuNNer: what is read from them, that nothing is lost in writing, what is said about bad ones."""

from itertools import pairwise

import ase.io
import numpy as np
import pytest
from hdnnp_reference import Reference, make_model

from ostwald.app.info import describe
from ostwald.app.potentials import PotentialError, load
from ostwald.app.potentials.hdnnp import n2p2
from ostwald.app.potentials.hdnnp.model import BOHR, HARTREE, KINDS, SCALINGS, SymmetryFunction

INPUT = """# a comment
number_of_elements 2
elements           Cu S   ! sorted by the reader
atom_energy        Cu -1.5D+00
cutoff_type        6 0.25
scale_symmetry_functions
center_symmetry_functions
scale_max_short    2.0
global_hidden_layers_short 2
global_nodes_short 3 2
global_activation_short t p l
random_seed        7   # of training
symfunction_short Cu 2 S   0.5  0.0 5.0
symfunction_short Cu 3 S Cu 0.1 -1.0 2.0 6.0
symfunction_short S  9 Cu S 0.2  1.0 4.0 6.0 0.5  ! with a shift
symfunction_short S  2 Cu  0.5  1.0 6.0
symfunction_short S  2 S   0.5  1.0 6.0
symfunction_short S  2 S   0.1  2.0 6.0
"""
SCALING = """   1    1  0.1  1.1  0.5  0.2
   1    2  0.2  1.2  0.6  0.2
   1    3  0.3  1.3  0.7  0.2
   1    4  0.4  1.4  0.8  0.2
   2    1  0.5  1.5  0.9  0.2
   2    2  0.6  1.6  1.0  0.2
"""
SULPHUR, COPPER = 4 * 3 + 3 + 3 * 2 + 2 + 2 + 1, 2 * 3 + 3 + 3 * 2 + 2 + 2 + 1


def directory(folder, **changes):
    """The directory above; changes: texts by file name with _ for ., or None for no such file."""
    files = {
        "input_nn": INPUT,
        "scaling_data": SCALING,
        "weights_016_data": "".join(f"{k / 8}\n" for k in range(SULPHUR)),
        "weights_029_data": "".join(f"{k / 4} a {k + 1} 0 0 0 0\n" for k in range(COPPER)),
    } | changes
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        if text is not None:
            (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_every_part_of_a_directory(tmp_path):
    model = n2p2.read(directory(tmp_path))
    assert model.species == ("S", "Cu")
    assert (model.cutoff_type, model.cutoff_inner, model.cutoff) == (6, 0.25, 6.0)
    assert (model.scaling, model.scale_min, model.scale_max) == ("scale_center", 0.0, 2.0)
    assert (model.mean_energy, model.conv_energy, model.conv_length) == (0.0, 1.0, 1.0)
    assert not model.normalize_nodes and not model.units_stated
    assert model.keywords == [("random_seed", "7")]
    sulphur, copper = model.elements
    assert (sulphur.offset, copper.offset) == (0.0, -1.5)
    assert sulphur.functions == [
        SymmetryFunction(2, "S", ("S",), cutoff=6.0, eta=0.1, shift=2.0),
        SymmetryFunction(2, "S", ("S",), cutoff=6.0, eta=0.5, shift=1.0),
        SymmetryFunction(2, "S", ("Cu",), cutoff=6.0, eta=0.5, shift=1.0),
        SymmetryFunction(9, "S", ("S", "Cu"), cutoff=6.0, eta=0.2, lam=1.0, zeta=4.0, shift=0.5),
    ]
    assert copper.functions[1] == SymmetryFunction(3, "Cu", ("S", "Cu"), cutoff=6.0, eta=0.1, lam=-1.0, zeta=2.0)
    assert copper.minimum.tolist() == [0.5, 0.6] and copper.mean.tolist() == [0.9, 1.0]
    assert [layer.activation for layer in copper.layers] == ["tanh", "softplus", "linear"]
    first, second, last = (4 * layer.weights for layer in copper.layers)
    # from each input in turn to every node, then the biases
    assert first.tolist() == [[0, 3], [1, 4], [2, 5]] and (4 * copper.layers[0].bias).tolist() == [6, 7, 8]
    assert second.tolist() == [[9, 11, 13], [10, 12, 14]] and (4 * copper.layers[1].bias).tolist() == [15, 16]
    assert last.tolist() == [[17, 18]] and (4 * copper.layers[2].bias).tolist() == [19]
    factor, shift = model.scale_and_shift(sulphur)
    assert factor == pytest.approx([2.0] * 4) and shift == pytest.approx([0.5, 0.6, 0.7, 0.8])


def test_order_of_the_functions(tmp_path):
    """Kind; then cutoff, eta, shift, zeta, lambda, elements; for compact ones subtype, elements, radii, angles."""
    in_order = [
        "2 S 0.9 0.0 5.0",
        "2 S 0.1 0.0 6.0",
        "2 Cu 0.1 0.0 6.0",
        "2 S 0.1 1.0 6.0",
        "3 S Cu 0.1 -1.0 2.0 6.0",
        "3 S S 0.1 1.0 2.0 6.0",
        "3 S S 0.1 -1.0 4.0 6.0",
        "3 S S 0.1 -1.0 2.0 6.0 0.3",
        "9 Cu Cu 0.1 1.0 2.0 6.0",
        "12 0.1 0.0 6.0",
        "13 0.1 0.0 1.0 1.0 6.0",
        "13 0.1 0.0 -1.0 2.0 6.0",
        "13 0.1 0.5 -1.0 1.0 6.0",
        "20 S 0.0 4.0 e",
        "20 S 1.0 4.0 p1",
        "20 S 0.0 5.0 p1",
        "20 Cu 0.0 3.0 p1",
        "20 S 0.0 4.0 p1a",
        "20 S 0.0 4.0 p2",
        "21 S S 0.0 5.0 40.0 80.0 p1",
        "21 S Cu 0.0 4.0 0.0 90.0 p1",
        "21 S Cu 0.0 4.0 0.0 120.0 p1",
        "21 S Cu 0.0 4.0 30.0 60.0 p1",
        "22 S Cu -4.0 4.0 -60.0 60.0 p1",
        "23 0.0 4.0 p1",
        "24 0.0 4.0 0.0 90.0 p1",
        "25 0.0 4.0 100.0 260.0 p1",
    ]
    shuffled = [in_order[k] for k in np.random.default_rng(3).permutation(len(in_order))]
    head = "elements S Cu\nglobal_hidden_layers_short 0\nglobal_activation_short l\nsymfunction_short Cu 2 S 1 0 2\n"
    text = head + "".join(f"symfunction_short S {line}\n" for line in shuffled)
    rows = "".join(f"{1 + k // 27} {1 + k % 27} {-k} 1 0 1\n" for k in range(28))
    weights = {"weights_016_data": "1\n" * 28, "weights_029_data": "1\n" * 2}
    model = n2p2.read(directory(tmp_path, input_nn=text, scaling_data=rows, **weights))
    found = []
    for f in model.elements[0].functions:
        fields = n2p2.FIELDS[f.kind] + (("shift",) if f.kind in (3, 9) and f.shift else ())
        found.append(" ".join(map(str, [f.kind, *f.neighbours, *(getattr(f, name) for name in fields)])))
    assert found == in_order
    assert model.cutoff_type == 1  # what both programs take where nothing is said


def test_shorthands_for_all_neighbours_and_elements(tmp_path):
    lines = [line for line in INPUT.splitlines() if not line.startswith("symfunction")]
    text = "\n".join(
        [*lines, "global_symfunction_short 2 0.5 0.0 5.0", "element_symfunction_short S 3 0.1 1.0 2.0 6.0", ""]
    )
    rows = "".join(f"{element} {k} 0 1 0.5\n" for element, count in ((1, 5), (2, 2)) for k in range(1, count + 1))
    rows += "  -0.25 0.75\n"  # RuNNer ends with the range of the energies
    weights = {"weights_016_data": "0.5\n" * (6 * 3 + 4 * 2 + 3), "weights_029_data": "0.5\n" * (3 * 3 + 4 * 2 + 3)}
    model = n2p2.read(directory(tmp_path, input_nn=text, scaling_data=rows, **weights))
    assert [(f.kind, f.neighbours) for f in model.elements[0].functions] == [
        (2, ("S",)),
        (2, ("Cu",)),
        (3, ("S", "S")),
        (3, ("S", "Cu")),
        (3, ("Cu", "Cu")),
    ]
    assert [(f.kind, f.neighbours) for f in model.elements[1].functions] == [(2, ("S",)), (2, ("Cu",))]
    assert np.isnan(model.elements[0].sigma).all()


@pytest.mark.parametrize(
    ("lines", "nodes"),
    [
        ("element_nodes_short Cu 5 4", [5, 4]),  # one count for each layer, as n2p2 documents it
        ("element_nodes_short Cu 2 5", [3, 5]),  # RuNNer: the second layer has 5
        ("element_nodes_short Cu 2 5", [2, 5]),
        ("element_nodes_short Cu 2 5", [2, 2]),  # n2p2's program: the last count has no effect
        ("element_nodes_short Cu 1 6\nelement_nodes_short Cu 2 5", [6, 5]),
        ("element_hidden_layers_short Cu 1\nelement_nodes_short Cu 4\nelement_activation_short Cu g l", [4]),
        ("element_activation_short Cu s c h", [3, 2]),
        ("element_activation_short Cu 2 g", [3, 2]),
    ],
)
def test_networks_of_single_elements(tmp_path, lines, nodes):
    sizes = [2, *nodes, 1]
    count = sum((a + 1) * b for a, b in pairwise(sizes))
    model = n2p2.read(directory(tmp_path, input_nn=f"{INPUT}{lines}\n", weights_029_data="0.1\n" * count))
    assert [len(layer.bias) for layer in model.elements[0].layers] == [3, 2, 1]
    assert [len(layer.bias) for layer in model.elements[1].layers] == [*nodes, 1]
    expected = ["tanh", "softplus", "linear"]
    if "activation" in lines:
        expected = {
            "s": ["logistic", "cos", "harmonic"],
            "g": ["gaussian", "linear"],
            "2": ["tanh", "gaussian", "linear"],
        }[lines.split("activation_short Cu ")[1][0]]
    assert [layer.activation for layer in model.elements[1].layers] == expected
    n2p2.write(model, tmp_path / "again")
    assert n2p2.read(tmp_path / "again") == model


def test_units(tmp_path):
    folder = directory(tmp_path)
    assert n2p2.read(folder).length_unit == 1.0
    given = n2p2.read(folder, ("bohr", "Hartree"))
    assert (given.length_unit, given.energy_unit, given.units_stated) == (BOHR, HARTREE, True)
    assert given.cutoff == pytest.approx(6 * 0.529177210903)
    n2p2.write(given, tmp_path / "stated")
    stated = n2p2.read(tmp_path / "stated")
    assert stated == given and stated.units_stated and n2p2.units_of(stated) == ("bohr", "Hartree")
    assert n2p2.read(tmp_path / "stated", ("nm", "kcal/mol")).length_unit == 10.0
    assert n2p2.unit("kcal/mol", n2p2.ENERGY_UNITS, "energy") == pytest.approx(
        4184 / 6.02214076e23 / 1.602176634e-19, rel=1e-14
    )
    assert n2p2.unit("kJ/mol", n2p2.ENERGY_UNITS, "energy") == pytest.approx(
        1000 / 6.02214076e23 / 1.602176634e-19, rel=1e-14
    )
    with pytest.raises(PotentialError, match="unknown length unit 'furlong': known are angstrom, bohr, nm"):
        n2p2.read(folder, ("furlong", "eV"))


def test_doubts_about_units(tmp_path):
    assert n2p2.doubt(n2p2.read(directory(tmp_path))) is None
    folder = directory(tmp_path, input_nn=INPUT.replace("6.0\n", "12.0\n"))
    assert "a cutoff of 12 looks like bohr" in n2p2.doubt(n2p2.read(folder))
    assert n2p2.doubt(n2p2.read(folder, ("bohr", "Hartree"))) is None
    folder = directory(tmp_path, input_nn=INPUT + "atom_energy S -397.9\n")  # of the free atom, in Hartree
    assert "the atom_energy -397.9 of S looks like Hartree" in n2p2.doubt(n2p2.read(folder))


@pytest.mark.parametrize("cutoff_type", range(9))
def test_nothing_is_lost_in_writing(tmp_path, cutoff_type):
    model = make_model(
        cutoff_type,
        elements=("O", "Ti", "H"),
        kinds=KINDS[cutoff_type % 4 :],
        cutoff_type=cutoff_type,
        scaling=SCALINGS[cutoff_type % 5],
        activations=("relu", "gaussian", "revlogistic", "exp") if cutoff_type % 2 else ("harmonic", "linear"),
        nodes=(4, 3, 5) if cutoff_type % 2 else (6,),
        cutoff_inner=0.1 * cutoff_type,
        normalize_nodes=cutoff_type > 4,
        normalised=cutoff_type < 3,
        length_unit=BOHR if cutoff_type % 3 else 1.0,
        energy_unit=HARTREE if cutoff_type % 3 else 1.0,
        spread=1.0 if cutoff_type < 3 else HARTREE if cutoff_type % 3 else 1.0,
        count=1,
    )
    model.keywords = [("random_seed", "1"), ("memorize_symfunc_results", ""), ("selection_mode", "2 10 1 15 2")]
    n2p2.write(model, tmp_path / "first")
    again = n2p2.read(tmp_path / "first")
    assert again == model
    n2p2.write(again, tmp_path / "second")
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
    assert len(list((tmp_path / "second").iterdir())) == 5
    again.elements[1].layers[0].weights[1, 2] = np.nextafter(again.elements[1].layers[0].weights[1, 2], 9)
    assert again != model


def edit(old, new):
    assert old in INPUT
    return {"input_nn": INPUT.replace(old, new)}


def rows(text, count):
    return "".join(text.splitlines(keepends=True)[:count])


WEIGHTS = "".join(f"{k / 8}\n" for k in range(SULPHUR))

BAD = {
    "no input.nn": ({"input_nn": None}, r"input\.nn: the file is missing"),
    "no scaling.data": ({"scaling_data": None}, r"scaling\.data: the file of scaling data is missing"),
    "no weights": ({"weights_016_data": None}, r"weights\.016\.data: the file of the weights of S is missing"),
    "keyword": (
        edit("cutoff_type", "cutof_type"),
        r"input\.nn, line 5: unknown keyword 'cutof_type'; did you mean cutoff_type\?",
    ),
    "no keyword at all": (edit("random_seed", "xyzzy"), r"input\.nn, line 12: unknown keyword 'xyzzy'$"),
    "elements twice": (
        edit("atom_energy        Cu -1.5D+00", "elements Cu O"),
        "line 4: elements was given before, on line 3",
    ),
    "count": (
        edit("number_of_elements 2", "number_of_elements 3"),
        "line 2: number_of_elements is 3, but line 3 names 2: Cu S",
    ),
    "symbol": (edit("Cu S ", "Cu Xx "), "line 3: 'Xx' is not a chemical symbol"),
    "element twice": (edit("Cu S ", "Cu Cu "), "line 3: Cu stands twice among the elements"),
    "no elements": (edit("elements           Cu S", "epochs 3"), r"input\.nn: there is no line elements"),
    "strange centre": (
        edit("short Cu 2 S", "short O 2 S"),
        "line 13: symfunction_short of O, which is not among .* S Cu",
    ),
    "strange neighbour": (
        edit("short Cu 2 S ", "short Cu 2 O "),
        "line 13: a neighbour in symfunction_short of O, which",
    ),
    "strange offset": (
        edit("energy        Cu", "energy        Zn"),
        "line 4: atom_energy of Zn, which is not among the elements",
    ),
    "offset": (edit("-1.5D+00", "low"), r"line 4: 'low' is not a number \(in atom_energy\)"),
    "kind": (
        edit("short Cu 2 S", "short Cu 4 S"),
        "line 13: unknown symmetry function type 4: known are 2, 3, 9, 12, 13, 20",
    ),
    "columns": (edit("0.5  0.0 5.0", "0.5  0.0"), "line 13: type 2 needs eta shift cutoff: 2 values given for 3"),
    "more columns": (
        edit("2.0 6.0\n", "2.0 6.0 0.1 0.2\n"),
        r"line 14: type 3 needs eta lam zeta cutoff shift: 6 values given for 5",
    ),
    "cutoff": (edit("0.0 5.0", "0.0 -5.0"), "line 13: the cutoff must be positive, not -5"),
    "eta": (edit("0.5  0.0 5.0", "-0.5 0.0 5.0"), "line 13: eta must not be negative, it is -0.5"),
    "zeta": (edit("-1.0 2.0", "-1.0 0.0"), "line 14: zeta must be positive, not 0"),
    "infinite": (edit("0.5  0.0 5.0", "inf 0.0 5.0"), r"line 13: 'inf' is not finite \(in eta\)"),
    "twice": (
        edit("0.1  2.0 6.0\n", "0.5  1.0 6.0\n"),
        "line 18: the same symmetry function was given before, on line 17",
    ),
    "subtype": (
        edit("9 Cu S 0.2  1.0 4.0 6.0 0.5", "20 S 0.0 5.0 p5"),
        "line 15: unknown compact function 'p5': known are p1",
    ),
    "radii": (
        edit("9 Cu S 0.2  1.0 4.0 6.0 0.5", "20 S 5.0 5.0 p1"),
        "line 15: the inner radius 5 must be below the outer, 5",
    ),
    "angles": (
        edit("9 Cu S 0.2  1.0 4.0 6.0 0.5", "22 S S 0 5 90 80 p1"),
        "line 15: the angles 90 and 80 must be in this order",
    ),
    "beyond 0": (
        edit("9 Cu S 0.2  1.0 4.0 6.0 0.5", "22 S S 0 5 -9 80 p1"),
        "line 15: angles -9 to 80 beyond 0 or 180 degrees must",
    ),
    "cutoff type": (edit("6 0.25", "9"), "line 5: unknown cutoff_type 9: 0 to 8 are known"),
    "inner": (edit("6 0.25", "6 1.0"), "line 5: the inner cutoff must be a fraction from 0 to below 1, not 1"),
    "scaled to nothing": (
        edit("scale_max_short    2.0", "scale_max_short 0.0"),
        r"line 8: scale_max_short \(0\) must be above",
    ),
    "flag": (
        edit("center_symmetry_functions", "center_symmetry_functions no"),
        "line 7: center_symmetry_functions takes no value",
    ),
    "nodes": (
        edit("short 3 2", "short 3"),
        "line 10: global_nodes_short needs 2 values for the hidden layers given, not 1",
    ),
    "no nodes": (edit("global_nodes_short 3 2", "epochs 1"), "the nodes of the hidden layers of S are not given"),
    "activation": (edit("t p l", "t q l"), "line 11: unknown activation 'q': known are l t s p r g c S e h"),
    "no activation": (edit("global_activation_short t p l", "epochs 1"), r"no activations \(network of S\)"),
    "generation": (
        edit("random_seed        7", "nnp_gen 4"),
        "line 12: nnp_type 4 is not a short-range potential of atoms",
    ),
    "electrostatics": (
        edit("random_seed        7", "use_electrostatics"),
        "line 12: use_electrostatics asks for electrostatics, which",
    ),
    "half normalised": (edit("random_seed        7", "conv_energy 2.0"), "line 12: conv_energy needs mean_energy too"),
    "units": (
        edit("# a comment", "# units bohr horses"),
        "line 1: unknown energy unit 'horses': known are eV, Hartree, rydberg",
    ),
    "short scaling": (
        {"scaling_data": rows(SCALING, 5)},
        "scaling.data, line 5: the file ends before function 2 of Cu",
    ),
    "long scaling": (
        {"scaling_data": SCALING + "2 3 0 1 0 1\n"},
        "scaling.data, line 7: 7 rows for the 6 functions of input.nn",
    ),
    "other scaling": (
        {"scaling_data": rows(SCALING, 3) + "   2    1  0.5  1.5  0.9  0.2\n"},
        r"scaling.data, line 4: expected 1 4, function 4 of S \(element 1\), found 2 1: this file belongs to other functions",
    ),
    "row cut": (
        {"scaling_data": SCALING[:-9] + "\n"},
        "scaling.data, line 6: a row has 5 or 6 columns, this one has 4",
    ),
    "scaling nan": (
        {"scaling_data": SCALING.replace("1.2", "nan")},
        "scaling.data, line 2: maximum is nan, not a finite number",
    ),
    "scaling word": (
        {"scaling_data": SCALING.replace("1.2", "x")},
        r"scaling.data, line 2: 'x' is not a number \(maximum\)",
    ),
    "range": (
        {"scaling_data": SCALING.replace("0.1  1.1", "2.1  1.1")},
        "line 1: the minimum 2.1 is above the maximum 1.1",
    ),
    "no range": ({"scaling_data": SCALING.replace("0.1  1.1", "1.1  1.1")}, "line 1: minimum and maximum are equal"),
    "nan": (
        {"weights_016_data": WEIGHTS.replace("0.25\n", "nan\n", 1)},
        r"weights.016.data, line 3: a weight is nan, not a finite",
    ),
    "word": (
        {"weights_016_data": WEIGHTS.replace("0.25\n", "0.2.5\n", 1)},
        r"line 3: '0\.2\.5' is not a number \(a weight\)",
    ),
    "truncated": (
        {"weights_016_data": rows(WEIGHTS, SULPHUR - 3)},
        "weights.016.data, line 23: 23 weights and biases where the network 4-3-2-1 of S has 26: the file ends early",
    ),
    "surplus": ({"weights_016_data": WEIGHTS + "1.0\n"}, "line 27: 27 weights .* 4-3-2-1 of S has 26: too many"),
    "empty": ({"weights_016_data": ""}, r"weights.016.data: 0 weights and biases where .* has 26: the file ends early"),
    "out of order": (
        {"weights_029_data": "".join(f"1 a {k + (k > 4)} 0 0 0 0\n" for k in range(1, COPPER + 1))},
        "weights.029.data, line 5: connection 6 where number 5 should be",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_directories(tmp_path, case):
    changes, message = BAD[case]
    with pytest.raises(PotentialError, match=message) as caught:
        n2p2.read(directory(tmp_path / "bad", **changes))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


SCRAPS = "nan inf -1 0 1e400 x S Cu 2 3 99 # ! elements 1.5 p1 é 1D+3 - element_nodes_short symfunction_short".split()


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_in_one_sentence_or_read(tmp_path, seed):
    """Lines and words lost, doubled, replaced: never anything but a PotentialError, or a model that can be written."""
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(60):
        files = {"input_nn": INPUT, "scaling_data": SCALING, "weights_016_data": WEIGHTS}
        for _ in range(rng.integers(1, 3)):
            name = str(rng.choice(list(files)))
            lines = files[name].splitlines() or [""]
            k, scrap = rng.integers(len(lines)), str(rng.choice(SCRAPS))
            words = lines[k].split() or [scrap]
            w = rng.integers(len(words))
            action = rng.integers(6)
            if action == 0:
                del lines[k]
            elif action == 1:
                lines.insert(k, str(rng.choice(lines)))
            elif action == 2:
                lines = lines[:k]
            else:
                words[w : w + int(action != 3)] = [] if action == 4 else [scrap]
                lines[k] = " ".join(words)
            files[name] = "\n".join([*lines, ""])
        try:
            model = n2p2.read(directory(tmp_path / "damaged", **files))
        except PotentialError as error:
            refused += 1
            assert "\n" not in str(error) and str(tmp_path / "damaged") in str(error)
        else:
            n2p2.write(model, tmp_path / "again")
            assert n2p2.read(tmp_path / "again") == model
            for file in (tmp_path / "again").iterdir():
                file.unlink()
    assert 30 < refused < 60


def test_an_element_without_functions(tmp_path):
    text = "\n".join(line for line in INPUT.splitlines() if not line.startswith("symfunction_short Cu")) + "\n"
    with pytest.raises(PotentialError, match=r"input\.nn: Cu has no symmetry function"):
        n2p2.read(directory(tmp_path, input_nn=text))


def test_sigma_scaling_needs_sigma(tmp_path):
    lines = INPUT.replace("scale_symmetry_functions\n", "scale_symmetry_functions_sigma\n")
    lines = lines.replace("center_symmetry_functions\n", "\n")
    assert n2p2.read(directory(tmp_path, input_nn=lines)).scaling == "sigma"
    without = "\n".join(line.removesuffix("  0.2") for line in SCALING.splitlines())
    with pytest.raises(
        PotentialError, match=r"scaling.data, line 1: there is no sigma, by which input.nn asks to scale"
    ):
        n2p2.read(directory(tmp_path, input_nn=lines, scaling_data=without))
    with pytest.raises(PotentialError, match=r"scaling.data, line 4: sigma is 0, by which"):
        n2p2.read(directory(tmp_path, input_nn=lines, scaling_data=SCALING.replace("0.8  0.2", "0.8  0.0")))


def test_not_a_directory(tmp_path):
    with pytest.raises(PotentialError, match="nowhere: no such directory of a neural-network potential"):
        n2p2.read(tmp_path / "nowhere")
    directory(tmp_path / "net")
    with pytest.raises(
        PotentialError, match=r"net/input\.nn: is a file: name the directory of a neural-network potential"
    ):
        load(tmp_path / "net" / "input.nn")
    (tmp_path / "net" / "input.nn").unlink()
    with pytest.raises(PotentialError, match=r"net/input\.nn: the file is missing"):
        load(tmp_path / "net")


def test_info_sums_up_a_directory(tmp_path):
    text = describe(directory(tmp_path))
    assert text.splitlines() == [
        f"{tmp_path}: neural-network potential (HDNNP), S Cu, cutoff 6 Å",
        "  units: angstrom and eV (assumed: the files do not say)",
        "  cutoff function: type 6 (polynomial 2), 1 up to 0.25 of the cutoff",
        "  network inputs: 0 + 2 (G - mean)/(max - min)",
        "  S: 4 functions, network 4-3-2-1 (tanh softplus linear), 26 weights",
        "    type 2 (radial): S 2, Cu 1; cutoff 6 Å; trained for G 0.1 to 1.3",
        "    type 9 (angular, wide): S-Cu 1; cutoff 6 Å; trained for G 0.4 to 1.4",
        "  Cu: 2 functions, network 2-3-2-1 (tanh softplus linear), 20 weights, atom energy -1.5 eV",
        "    type 2 (radial): S 1; cutoff 5 Å; trained for G 0.5 to 1.5",
        "    type 3 (angular, narrow): S-Cu 1; cutoff 6 Å; trained for G 0.6 to 1.6",
    ]
    model = make_model(1, normalised=True, length_unit=BOHR, energy_unit=HARTREE)
    n2p2.write(model, tmp_path / "all")
    text = describe(tmp_path / "all")
    assert "units: bohr and Hartree\n" in text and "in one Hartree" in text and "WARNING" not in text
    for kind in KINDS:
        assert text.count(f"    type {kind} (") == 2
    assert "any 2; cutoff 4 to 5 Å" in text
    directory(tmp_path, input_nn=INPUT.replace("6.0\n", "12.0\n"))
    assert "\n  WARNING: the files' units are not stated" in describe(tmp_path)


ATOMIC = ("bohr", "Hartree")
SETS = {
    "n2p2_Cu2S_PBE": ("n2p2_examples/potentials/Cu2S_PBE", None),
    "n2p2_H2O_RPBE-D3": ("n2p2_examples/potentials/H2O_RPBE-D3", ATOMIC),
    "n2p2_H2O_revPBE0-D3": ("water_revpbe0d3_csi/n2p2_potential", ATOMIC),
    **{f"n2p2_mlearn_{s}": (f"mlearn/potentials/{s}", ATOMIC) for s in ("Cu", "Ge", "Li", "Mo", "Ni", "Si")},
}


@pytest.mark.parametrize("name", SETS)
def test_published_sets_give_the_energies_of_n2p2(reference_data, tmp_path, name):
    place, units = SETS[name]
    model = n2p2.read(reference_data / place, units)
    n2p2.write(model, tmp_path / "copy")
    assert n2p2.read(tmp_path / "copy") == model
    rng = np.random.default_rng(1)
    for atoms in ase.io.read(reference_data / "reference" / "n2p2" / f"{name}.xyz", ":"):
        if len(atoms) > 100:  # the native kernel is compared on all of them
            continue
        some = rng.permutation(len(atoms))[:2]
        expected = atoms.get_potential_energies()[some]
        base = [model.atom_energy(model.elements[model.species.index(atoms.symbols[k])]) for k in some]
        energies = Reference(model, atoms).energies(atoms=some)
        assert np.abs(energies - expected).max() < 1e-9 * np.abs(expected - base).max() + 1e-12, atoms.info["label"]
