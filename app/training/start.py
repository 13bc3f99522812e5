"""The potential that a training begins with: its functions, the statistics of its inputs, random weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.data import chemical_symbols

from ostwald.app.potentials import PotentialError
from ostwald.app.potentials.hdnnp import grids
from ostwald.app.potentials.hdnnp.model import Element, Layer, Model
from ostwald.parallel import philox_generator


def from_grids(elements, chosen, cutoff_type=6) -> Model:
    """A Model of the functions of some grids, without networks, statistics or reference energies. elements: atomic numbers."""
    species = [chemical_symbols[z] for z in sorted(int(z) for z in elements)]
    made = []
    for symbol in species:
        functions = grids.functions(chosen, symbol, species)
        zero, one = np.zeros(len(functions)), np.ones(len(functions))
        made.append(
            Element(symbol, functions, zero, one, zero, one, [Layer(np.zeros((1, len(zero))), np.zeros(1), "linear")])
        )
    model = Model(made, cutoff_type=cutoff_type, scaling="sigma")
    model.check()
    return model


def with_statistics(model: Model, data, indices) -> tuple[Model, int]:
    """The model with range, mean and standard deviation of its functions in some structures, and the number of functions that
    do not vary there (they are left as they are). data: Described. PotentialError where an element has no atom."""
    elements, still = [], 0
    for k, element in enumerate(model.elements):
        values = np.asarray(data.values(k, indices), float)
        if not len(values):
            raise PotentialError(f"the training set has no atom of {element.symbol}")
        sigma, scale = values.std(axis=0), np.abs(values).max(axis=0)
        constant = sigma <= 1e-6 * scale
        still += int(constant.sum())
        sigma[constant] = 1.0
        elements.append(
            replace(
                element, minimum=values.min(axis=0), maximum=values.max(axis=0), mean=values.mean(axis=0), sigma=sigma
            )
        )
    return replace(model, elements=elements), still


def with_networks(model: Model, nodes, activation: str, energies: dict[str, float], seed: int) -> Model:
    """The model with random networks. energies: of the atoms of each element, eV.

    Weights are normal with variance 1 / inputs (inputs of functions have variance 1), biases of hidden layers uniform in [-1, 1].
    """
    elements = []
    for k, element in enumerate(model.elements):
        random, layers, inputs = philox_generator(seed, "weights", k), [], len(element.functions)
        for outputs in nodes:
            weights = random.normal(0.0, inputs**-0.5, (outputs, inputs))
            layers.append(Layer(weights, random.uniform(-1.0, 1.0, outputs), activation))
            inputs = outputs
        layers.append(Layer(random.normal(0.0, inputs**-0.5, (1, inputs)), np.zeros(1), "linear"))
        elements.append(replace(element, layers=layers, offset=energies[element.symbol]))
    return replace(model, elements=elements)
