"""Neural-network potentials in model files (io.modelfile): one Model, or the members of an ensemble.

description:

    functions    list of sets of symmetry functions, each {symbol: [fields that are not the default, …]}
    members      for each: `functions`, the number of its set; its settings by the names of Model's fields; elements, for
                 each `symbol`, `offset` and the `activations` of its layers
    training     what the members learned from (training.data.seen), {} where nobody knows

arrays, k the number of a member, l of a layer, both from 0, of f functions:

    k.Ni.statistics (4, f)     minimum, maximum, mean and standard deviation of each function in the training set
    k.Ni.l.weights (n_out, n_in), k.Ni.l.bias (n_out,)

Every bit of a Model is kept.
"""

from dataclasses import fields

import numpy as np

from ostwald.io.modelfile import ModelFile, ModelFileError, write_model

from .model import Element, Layer, Model, SymmetryFunction

KIND = "hdnnp"
SETTINGS = tuple(f.name for f in fields(Model) if f.name != "elements")
_DEFAULTS = {f.name: f.default for f in fields(SymmetryFunction) if f.name not in ("kind", "centre")}


def write(path, models, training: dict | None = None, provenance: dict | None = None) -> str:
    """Writes models of the same elements; returns the file's hash. For one rank. ModelFileError."""
    sets, members, arrays = [], [], {}
    for number, model in enumerate(models):
        model.check()
        functions = {e.symbol: [_of_function(f) for f in e.functions] for e in model.elements}
        if functions not in sets:
            sets.append(functions)
        elements = []
        for e in model.elements:
            name = f"{number}.{e.symbol}"
            arrays[f"{name}.statistics"] = np.array([e.minimum, e.maximum, e.mean, e.sigma], float)
            for k, layer in enumerate(e.layers):
                arrays |= {f"{name}.{k}.weights": layer.weights, f"{name}.{k}.bias": layer.bias}
            activations = [layer.activation for layer in e.layers]
            elements.append({"symbol": e.symbol, "offset": float(e.offset), "activations": activations})
        settings = {name: getattr(model, name) for name in SETTINGS}
        members.append({"functions": sets.index(functions), "elements": elements, **settings})
    description = {"functions": sets, "members": members, "training": training or {}}
    return write_model(path, KIND, description, arrays, provenance or {})


def models_of(found: ModelFile) -> list[Model]:
    """The members. ModelFileError where the file is of another kind or its parts do not fit together."""
    if found.kind != KIND:
        raise ModelFileError(f"{found.path}: a trained model of the kind '{found.kind}', which is no potential")
    try:
        sets = found.description["functions"]
        members = [
            _member(found.arrays, k, m, sets[m["functions"]]) for k, m in enumerate(found.description["members"])
        ]
        if not members:
            raise ValueError("it has no members")
        for member in members:
            member.check()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(f"{found.path}: what it describes is no neural-network potential: {error}") from error
    return members


def _member(arrays, number, member, functions) -> Model:
    elements = []
    for e in member["elements"]:
        name = f"{number}.{e['symbol']}"
        statistics = arrays[f"{name}.statistics"]
        layers = [
            Layer(arrays[f"{name}.{k}.weights"], arrays[f"{name}.{k}.bias"], activation)
            for k, activation in enumerate(e["activations"])
        ]
        own = [_function(e["symbol"], each) for each in functions[e["symbol"]]]
        elements.append(Element(e["symbol"], own, *(row.copy() for row in statistics), layers, e["offset"]))
    settings = {name: member[name] for name in SETTINGS}
    settings["keywords"] = [tuple(pair) for pair in settings["keywords"]]
    return Model(elements, **settings)


def _of_function(f: SymmetryFunction) -> dict:
    own = {name: getattr(f, name) for name, default in _DEFAULTS.items() if getattr(f, name) != default}
    return {"kind": f.kind, **{name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}}


def _function(centre: str, own: dict) -> SymmetryFunction:
    return SymmetryFunction(centre=centre, **own | {"neighbours": tuple(own.get("neighbours", ()))})
