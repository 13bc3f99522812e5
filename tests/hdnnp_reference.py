"""Neural-network potentials evaluated plainly in NumPy, and random ones: what the tests compare the native kernel with.

Written from the equations (see app/potentials/hdnnp/model.py), one symmetry function at a time. All arithmetic works on
complex positions too, so `forces` are exact derivatives by complex steps.
"""

import math

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list

from ostwald.app.potentials.hdnnp.model import (
    ANGULAR,
    COMPACT,
    KINDS,
    NARROW,
    WEIGHTED,
    Element,
    Layer,
    Model,
    SymmetryFunction,
    sort_key,
)

POLYNOMIALS = {
    1: lambda x: (2 * x - 3) * x**2 + 1,
    2: lambda x: ((15 - 6 * x) * x - 10) * x**3 + 1,
    3: lambda x: (x * (x * (20 * x - 70) + 84) - 35) * x**4 + 1,
    4: lambda x: (x * (x * ((315 - 70 * x) * x - 540) + 420) - 126) * x**5 + 1,
}


def smooth_step(x):
    """exp(1 - 1/(1 - x²)), 0 from 1 on."""
    inside = x.real < 1
    return np.where(inside, np.exp(1 - 1 / np.where(inside, 1 - x * x, 1)), 0)


def cutoff_function(kind, inner, r, cutoff):
    r = np.asarray(r)
    if kind in (2, 3):
        f = np.tanh(1 - r / cutoff) ** 3 / (np.tanh(1.0) ** 3 if kind == 3 else 1)
    else:
        x = (r - inner * cutoff) / (cutoff * (1 - inner))
        if kind == 0:
            f = 1 + 0 * r
        elif kind == 1:
            f = (np.cos(np.pi * x) + 1) / 2
        else:
            f = smooth_step(x) if kind == 4 else POLYNOMIALS[kind - 4](x)
            f = np.where(x.real < 0, 1, f)
        if kind == 1:
            f = np.where(x.real < 0, 1, f)
    return np.where(r.real < cutoff, f, 0)


def compact_function(subtype, a, low, high):
    """The function `subtype` of the distance of a from the middle of [low, high], in units of half the interval."""
    a = np.asarray(a)
    x = (a - (low + high) / 2) / ((high - low) / 2)
    x = np.where(x.real < 0, -x, x)
    inside = x.real < 1
    if subtype.endswith("a"):
        x = x * (2 - x)
    f = smooth_step(x) if subtype == "e" else POLYNOMIALS[int(subtype[1])](x)
    return np.where(inside, f, 0)


def symmetry_functions(model, element, vectors, symbols):
    """(nf,) G of one atom. vectors (m, 3) to its neighbours, in file units, all within the largest cutoff; symbols (m,)."""
    r = np.sqrt((vectors**2).sum(axis=1))
    charge = np.array([atomic_numbers[s] for s in symbols])
    j, k = np.triu_indices(len(r), 1)
    rjk = np.sqrt(((vectors[j] - vectors[k]) ** 2).sum(axis=1))
    cosine = (vectors[j] * vectors[k]).sum(axis=1) / (r[j] * r[k])
    straight = np.abs(cosine.real) >= 1
    theta = np.where(straight, np.where(cosine.real > 0, 0.0, np.pi), np.arccos(np.where(straight, 0.0, cosine)))
    symbols = np.array(symbols, dtype="U2")

    def fc(x, f):
        return cutoff_function(model.cutoff_type, model.cutoff_inner, x, f.cutoff)

    values = []
    for f in element.functions:
        if f.kind not in ANGULAR:
            terms = charge if f.kind in WEIGHTED else symbols == f.neighbours[0]
            if f.kind in COMPACT:
                terms = terms * compact_function(f.subtype, r, f.r_low, f.cutoff)
            else:
                terms = terms * np.exp(-f.eta * (r - f.shift) ** 2) * fc(r, f)
            values.append(terms.sum())
            continue
        if f.kind in WEIGHTED:
            terms = charge[j] * charge[k]
        else:
            a, b = f.neighbours
            terms = ((symbols[j] == a) & (symbols[k] == b)) | ((symbols[j] == b) & (symbols[k] == a))
        sides = [r[j], r[k]] + ([rjk] if f.kind in NARROW else [])
        if f.kind in COMPACT:
            terms = terms * compact_function(
                f.subtype[:2], theta, math.radians(f.angle_low), math.radians(f.angle_high)
            )
            for side in sides:
                terms = terms * compact_function(f.subtype, side, f.r_low, f.cutoff)
        else:
            base = 1 + f.lam * cosine
            base = np.where(base.real > 0, base, 0)
            terms = terms * 2 ** (1 - f.zeta) * base**f.zeta * np.exp(-f.eta * sum((s - f.shift) ** 2 for s in sides))
            for side in sides:
                terms = terms * fc(side, f)
        values.append(terms.sum())
    return np.array(values)


ACTIVATION = {
    "linear": lambda x: x,
    "tanh": np.tanh,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "gaussian": lambda x: np.exp(-x * x / 2),
    "cos": np.cos,
    "revlogistic": lambda x: 1 - 1 / (1 + np.exp(-x)),
    "exp": lambda x: np.exp(-x),
    "harmonic": lambda x: x * x,
}


def scaled(model, element, g):
    """Network inputs, from the definitions in n2p2's documentation."""
    width, low, high = model.scale_max - model.scale_min, element.minimum, element.maximum
    return {
        "none": lambda: g,
        "center": lambda: g - element.mean,
        "scale": lambda: model.scale_min + width * (g - low) / (high - low),
        "scale_center": lambda: model.scale_min + width * (g - element.mean) / (high - low),
        "sigma": lambda: model.scale_min + width * (g - element.mean) / element.sigma,
    }[model.scaling]()


def network(model, element, x):
    for layer in element.layers:
        y = layer.bias.astype(x.dtype)
        for k, weights in enumerate(layer.weights):
            y[k] += (weights * x).sum()
        x = ACTIVATION[layer.activation](y / len(x) if model.normalize_nodes else y)
    return x[0]


class Reference:
    """Energies of one arrangement of atoms under one model; pairs are found once, for displacements below `slack` Å."""

    def __init__(self, model: Model, atoms: Atoms, slack=0.0):
        self.model, self.atoms = model, atoms
        self.symbols = atoms.get_chemical_symbols()
        i, j, shifts = neighbor_list("ijS", atoms, model.cutoff + 2 * slack)
        order = np.argsort(i, kind="stable")
        self.i, self.j, self.shifts = i[order], j[order], shifts[order]
        self.offsets = np.searchsorted(self.i, np.arange(len(atoms) + 1))
        self.elements = {element.symbol: element for element in model.elements}

    def functions(self, atom, positions=None, cell=None):
        """(nf,) symmetry functions of one atom."""
        positions = self.atoms.positions if positions is None else positions
        cell = np.array(self.atoms.cell) if cell is None else cell
        own = slice(self.offsets[atom], self.offsets[atom + 1])
        j = self.j[own]
        vectors = (positions[j] - positions[atom] + self.shifts[own] @ cell) / self.model.length_unit
        element = self.elements[self.symbols[atom]]
        return symmetry_functions(self.model, element, vectors, [self.symbols[k] for k in j])

    def energies(self, positions=None, cell=None, atoms=None):
        """(n,) eV."""
        model, result = self.model, []
        for atom in range(len(self.atoms)) if atoms is None else atoms:
            element = self.elements[self.symbols[atom]]
            y = network(model, element, scaled(model, element, self.functions(atom, positions, cell)))
            result.append(model.energy_unit * (y / model.conv_energy + model.mean_energy + element.offset))
        return np.array(result)

    def forces(self, step=1e-20):
        """(n, 3) eV/Å."""
        positions = self.atoms.positions.astype(complex)
        result = np.empty(positions.shape)
        for atom in range(len(positions)):
            near = np.unique(np.append(self.i[self.j == atom], atom))
            for axis in range(3):
                moved = positions.copy()
                moved[atom, axis] += 1j * step
                result[atom, axis] = -self.energies(moved, atoms=near).imag.sum() / step
        return result

    def virial(self, step=1e-20):
        """(3, 3) eV, W = -dE/dstrain."""
        result = np.empty((3, 3))
        for a in range(3):
            for b in range(3):
                strain = np.eye(3, dtype=complex)
                strain[a, b] += 1j * step
                cell = np.array(self.atoms.cell) @ strain
                result[a, b] = -self.energies(self.atoms.positions @ strain, cell).imag.sum() / step
        return result


# -- random potentials and configurations ------------------------------------------------------------------------------


def random_atoms(seed, elements=("S", "Cu"), count=12, length=8.0, nearest=1.8, periodic=True) -> Atoms:
    """Atoms at random places of a skewed cell (edges about `length` Å), no two closer than `nearest` Å; all elements occur."""
    rng = np.random.default_rng(seed)
    cell = length * (np.eye(3) + 0.1 * np.tril(rng.uniform(-1, 1, (3, 3))))
    symbols = [elements[k % len(elements)] for k in range(count)]
    atoms = Atoms(pbc=periodic, cell=cell)
    while len(atoms) < count:
        trial = atoms + Atoms([symbols[len(atoms)]], positions=[rng.uniform(0, 1, 3) @ cell], cell=cell, pbc=periodic)
        if len(neighbor_list("i", trial, nearest)) == 0:
            atoms = trial
    return atoms


def random_functions(rng, kind, centre, species, cutoff, count):
    """`count` functions for each set of neighbours, distances in file units, the last with a shorter cutoff."""
    sets = {0: [()], 1: [(s,) for s in species], 2: [(a, b) for k, a in enumerate(species) for b in species[k:]]}
    found = []
    for neighbours in sets[0 if kind in WEIGHTED else 2 if kind in ANGULAR else 1]:
        for n in range(count):
            rc = cutoff if n < count - 1 or count == 1 else 0.8 * cutoff
            values = {"cutoff": rc}
            if kind in COMPACT:
                values["subtype"] = str(rng.choice(["p1", "p2", "p3", "p4", "p1a", "p2a", "p3a", "p4a", "e"]))
                values["r_low"] = float(rc * rng.choice([-1.0, 0.0, 0.2]))
                if kind in ANGULAR:
                    low, high = [(-70.0, 70.0), (30.0, 150.0), (80.0, 280.0)][rng.integers(3)]
                    values.update(angle_low=low, angle_high=high)
            else:
                values["eta"] = float(rng.uniform(0.1, 2.0) * (6 / cutoff) ** 2 / (1 if kind not in ANGULAR else 10))
                values["shift"] = float(rng.choice([0.0, 0.4]) * rc)
                if kind in ANGULAR:
                    values.update(lam=float(rng.choice([-1.0, 1.0])), zeta=float(rng.choice([1.0, 2.0, 3.5, 4.0, 8.0])))
            found.append(SymmetryFunction(kind, centre, neighbours, **values))
    return found


def make_model(
    seed,
    elements=("S", "Cu"),
    kinds=KINDS,
    cutoff_type=6,
    activations=("tanh", "tanh", "linear"),
    nodes=(6, 5),
    cutoff=5.0,
    cutoff_inner=0.0,
    scaling="sigma",
    count=2,
    normalize_nodes=False,
    normalised=False,
    length_unit=1.0,
    energy_unit=1.0,
    spread=1.0,
) -> Model:
    """A random potential: every kind for every set of neighbours, `count` times; cutoff in Å.

    Its scaling data are of random configurations, so network inputs are of order one; energies are of the order of
    `spread` eV.
    """
    rng = np.random.default_rng(seed)
    species = sorted(elements, key=atomic_numbers.get)
    made = []
    for symbol in species:
        functions = {
            f for kind in kinds for f in random_functions(rng, kind, symbol, species, cutoff / length_unit, count)
        }
        functions = sorted(functions, key=lambda f: sort_key(f, species))
        sizes = [len(functions), *nodes, 1]
        layers = []
        for a, b, activation in zip(sizes[:-1], sizes[1:], activations, strict=True):
            weights = rng.normal(0, 1 / math.sqrt(a), (b, a)) * (a if normalize_nodes else 1)
            layers.append(Layer(weights, rng.normal(0, 0.3, b), activation))
        empty = np.empty(0)
        made.append(Element(symbol, functions, empty, empty, empty, empty, layers, float(rng.normal())))
    model = Model(
        made,
        cutoff_type,
        cutoff_inner,
        scaling,
        scale_min=-0.1 if scaling in ("scale", "sigma") else 0.0,
        scale_max=0.9,
        normalize_nodes=normalize_nodes,
        length_unit=length_unit,
        energy_unit=energy_unit,
    )
    model.conv_energy = energy_unit / spread
    if normalised:
        model.mean_energy, model.conv_length = float(rng.normal()), 1.7
    samples = {symbol: [] for symbol in species}
    for k in range(3):
        reference = Reference(model, random_atoms((seed, k), species, count=4 * len(species), length=6.5))
        for atom, symbol in enumerate(reference.symbols):
            samples[symbol].append(reference.functions(atom))
    for element in model.elements:
        g = np.array(samples[element.symbol])
        kinds_here = np.array([f.kind for f in element.functions])
        typical = np.array([np.abs(g[:, kinds_here == kind]).max() for kind in kinds_here])
        margin = 0.01 + 0.05 * typical  # functions that these samples hardly saw must not become steep
        element.minimum, element.maximum = g.min(axis=0) - margin, g.max(axis=0) + margin
        element.mean, element.sigma = g.mean(axis=0), g.std(axis=0) + margin
    if not normalised and model.conv_energy != 1.0:  # files state conv_energy only with all of a normalisation
        model.mean_energy = float(rng.normal())
    model.check()
    return model
