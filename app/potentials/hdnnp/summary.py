"""A neural-network potential in some lines for people (`ostwald info DIR`, `ostwald info FILE`)."""

from itertools import groupby

from ostwald.io.modelfile import ModelFile

from .model import CUTOFF_NAMES, Element, Model
from .modelfile import models_of
from .n2p2 import doubt, units_of

KIND_NAMES = {
    2: "radial",
    3: "angular, narrow",
    9: "angular, wide",
    12: "radial, weighted",
    13: "angular, weighted",
    20: "compact radial",
    21: "compact angular, narrow",
    22: "compact angular, wide",
    23: "compact radial, weighted",
    24: "compact angular, narrow, weighted",
    25: "compact angular, wide, weighted",
}

SCALING_NAMES = {
    "none": "not scaled",
    "scale": "(G - min)/(max - min)",
    "center": "G - mean",
    "scale_center": "(G - mean)/(max - min)",
    "sigma": "(G - mean)/sigma",
}


def summary(model: Model) -> str:
    """Units, cutoff function, scaling; of each element its network and its functions by kind and neighbours."""
    length, energy = units_of(model)
    lines = [
        f"neural-network potential (HDNNP), {' '.join(model.species)}, cutoff {model.cutoff:.6g} Å",
        f"  units: {length} and {energy}" + ("" if model.units_stated else " (assumed: the files do not say)"),
        f"  cutoff function: type {model.cutoff_type} ({CUTOFF_NAMES[model.cutoff_type]})"
        + (f", 1 up to {model.cutoff_inner:g} of the cutoff" if model.cutoff_inner else ""),
        f"  network inputs: {_scaling(model)}",
    ]
    if (model.mean_energy, model.conv_energy, model.conv_length) != (0.0, 1.0, 1.0):
        lines.append(
            f"  normalised: mean energy {model.mean_energy:.6g} {energy}/atom, {model.conv_energy:.6g} units of energy "
            f"in one {energy}, {model.conv_length:.6g} of length in one {length}"
        )
    for element in model.elements:
        lines += _element(model, element, energy)
    warning = doubt(model)
    if warning:
        lines.append(f"  WARNING: {warning}")
    return "\n".join(lines)


def summary_of_file(found: ModelFile) -> str:
    """Members, hash, training range, errors and origin of a model file; then its (first) model. ModelFileError."""
    models = models_of(found)
    head, *rest = summary(models[0]).splitlines()
    several = f"ensemble of {len(models)}, " if len(models) > 1 else ""
    lines = [f"{several}{head}", f"  hash {found.hash}", *_training(found.description["training"])]
    made = found.provenance
    for part, numbers in made.get("errors", {}).items():
        shown = ", ".join(f"{quantity} {e['rmse']:.4g} {e['unit']}" for quantity, e in numbers.items())
        lines.append(f"  RMSE, {part}: {shown}")
    if "date" in made:
        version = made.get("versions", {}).get("ostwald", "")
        words = ["  made", made["date"], "by ostwald", version, (made.get("revision") or "")[:12]]
        lines.append(" ".join(word for word in words if word))
    return "\n".join(lines + rest)


def _training(seen: dict) -> list[str]:
    """What training.data.seen says."""
    if not seen:
        return ["  trained on: not known"]
    atoms = ", ".join(f"{count} {symbol}" for symbol, count in seen["atoms"].items())
    lines = [f"  trained on {seen['structures']} structures ({atoms} atoms); groups {', '.join(seen['groups'])}"]
    what = {"energy": ("energies", "eV/atom"), "volume": ("volumes", "Å³/atom"), "force": ("forces", "eV/Å")}
    parts = [
        f"{name} {seen[key]['min']:.5g} to {seen[key]['max']:.5g} {unit}"
        for key, (name, unit) in what.items()
        if seen[key] is not None
    ]
    return [*lines, f"    {'; '.join(parts)}"]


def _scaling(model: Model) -> str:
    text = SCALING_NAMES[model.scaling]
    if model.scaling in ("scale", "scale_center", "sigma") and (model.scale_min, model.scale_max) != (0.0, 1.0):
        text = f"{model.scale_min:g} + {model.scale_max - model.scale_min:g} {text}"
    return text + (", sums divided by the number of inputs of each layer" if model.normalize_nodes else "")


def _element(model: Model, element: Element, energy: str) -> list[str]:
    sizes = "-".join(map(str, [len(element.functions), *(len(layer.bias) for layer in element.layers)]))
    count = sum(layer.weights.size + layer.bias.size for layer in element.layers)
    offset = f", atom energy {element.offset:.10g} {energy}" if element.offset else ""
    activations = " ".join(layer.activation for layer in element.layers)
    lines = [
        f"  {element.symbol}: {len(element.functions)} functions, network {sizes} ({activations}), {count} weights{offset}"
    ]
    numbered = sorted(enumerate(element.functions), key=lambda kf: kf[1].kind)
    for kind, members in groupby(numbered, key=lambda kf: kf[1].kind):
        members = list(members)
        counts: dict[tuple[str, ...], int] = {}
        for _, f in members:
            counts[f.neighbours] = counts.get(f.neighbours, 0) + 1
        in_order = sorted(counts.items(), key=lambda item: [model.species.index(name) for name in item[0]])
        sets = ", ".join(f"{'-'.join(names) or 'any'} {n}" for names, n in in_order)
        radii = sorted({f.cutoff * model.length_unit for _, f in members})
        cutoffs = f"{radii[0]:.4g}" if len(radii) == 1 else f"{radii[0]:.4g} to {radii[-1]:.4g}"
        rows = [k for k, _ in members]
        low, high = element.minimum[rows].min(), element.maximum[rows].max()
        lines.append(
            f"    type {kind} ({KIND_NAMES[kind]}): {sets}; cutoff {cutoffs} Å; trained for G {low:.3g} to {high:.3g}"
        )
    return lines
