"""High-dimensional neural-network potentials (Behler, Parrinello 2007) in the format of n2p2 and RuNNer.

A directory with input.nn, scaling.data and weights.ZZZ.data; docs/hdnnp.md says what is understood.
"""

import warnings

from . import n2p2
from .model import Model
from .potential import HDNNP

UNITS = True
"""read() takes the files' units."""

__all__ = ["HDNNP", "Model", "matches", "read"]


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
