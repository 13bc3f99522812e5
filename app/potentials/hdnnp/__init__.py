"""High-dimensional neural-network potentials (Behler, Parrinello 2007) in the format of n2p2 and RuNNer.

A directory with input.nn, scaling.data and weights.ZZZ.data; docs/hdnnp.md says what is understood. Or the project's own model
file, with one network for each element or an ensemble of them.
"""

import warnings
from pathlib import Path

from ostwald.io.modelfile import ModelFile, ModelFileError, read_model

from ..base import PotentialError
from ..ensemble import Ensemble
from . import modelfile, n2p2
from .model import Model
from .potential import HDNNP

UNITS = True
"""read() takes the files' units."""

MODEL = modelfile.KIND
"""The kind of model file that of_model_file() takes."""

__all__ = ["HDNNP", "Model", "matches", "models", "of_model_file", "read"]


def matches(path, text: str | None) -> bool:
    """Whether this is a directory with an input.nn or scaling.data, or one of these files (read() then asks for the directory)."""
    names = ("input.nn", "scaling.data")
    return any((path / name).exists() for name in names) if text is None else path.name in names


def read(path, species=None, precision="double", units=None) -> HDNNP:
    """Reads a directory. units: (length, energy) of the files, such as ("bohr", "Hartree"); None: what they say, else Å and eV.

    PotentialError names file and line; a UserWarning tells where the units are in doubt.
    """
    model = n2p2.read(path, units)
    if doubt := n2p2.doubt(model):
        warnings.warn(f"{path}: {doubt}", stacklevel=3)
    return HDNNP(model, species, precision, path)


def of_model_file(found: ModelFile, species=None, precision="double") -> HDNNP | Ensemble:
    """The potential of a model file: an Ensemble where it has several members."""
    members = models(found)
    if len(members) == 1:
        return HDNNP(members[0], species, precision, found.path)
    return Ensemble([HDNNP(model, species, precision) for model in members], path=found.path)


def models(source) -> list[Model]:
    """The Models of a directory, a model file's path, or a ModelFile. PotentialError."""
    if not isinstance(source, ModelFile) and Path(source).is_dir():
        return [n2p2.read(source)]
    try:
        return modelfile.models_of(source if isinstance(source, ModelFile) else read_model(source))
    except ModelFileError as error:
        raise PotentialError(str(error)) from error
