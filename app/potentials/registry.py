"""Which family reads which file.

A family is a module with
    matches(path, text) -> bool     whether this is its content (text: of the file; None for a directory)
    read(path, species, precision) -> Potential
    SUFFIXES                        optional: file names' ends that say its family where the content does not
    UNITS                           optional, True: read() takes units=(length, energy), the files do not state them
    matches_name(name) -> bool      optional: whether it knows this name, of no file
    MODEL                           optional: the kind of model file (io.modelfile) that is its; then there is also
                                    of_model_file(ModelFile, species, precision) -> Potential
    KIND                            optional: the name that a term of an overlay gives it; read() then takes the term, a
                                    table, as fourth argument
Modules are asked in the order of FAMILIES; a new family is one more name there.
"""

import difflib
import tomllib
from importlib import import_module, util
from pathlib import Path

from ostwald.io.modelfile import SUFFIX, ModelFileError, model_kind, read_model
from ostwald.io.text import read_text

from . import ensemble
from .base import Potential, PotentialError, check_precision

# those with an unmistakable mark first
FAMILIES = ("hdnnp", "overlay", "zhou", "tersoff", "stillinger_weber", "lennard_jones", "zbl", "eam")

PUBLISHED = Path(__file__).parent / "published"
"""Potentials that come with the project: found by their file names where no such file is."""


def families():
    """The modules of the families, in the order in which they are asked."""
    names = (f"{__package__}.{name}" for name in FAMILIES)
    return [import_module(name) for name in names if util.find_spec(name)]


def located(name) -> Path:
    """The file of this name, or else the one of those that come along; the name itself where there is neither."""
    own = PUBLISHED / name
    return own if not Path(name).exists() and own.is_file() else Path(name)


def load(path, species=None, precision="double", units=None) -> Potential:
    """Reads a potential, its family decided by content and suffix.

    path: a file or directory; the name of one that comes along (Si.sw, ni-zhou.ostwald); or "zhou:Ni-Al", metals
        of the analytic Zhou-Johnson-Wadley set (2004). A list of these gives their Ensemble.
    species: chemical symbol of each type of atom; None: those of the file, in its order.
    precision: "double", or "mixed" (float pair arithmetic, double sums).
    units: (length, energy) of files that do not state them, such as ("bohr", "Hartree"); None: as they say, else Å and eV.
    PotentialError: one sentence naming the file, and the line where there is one.
    """
    check_precision(precision)
    if isinstance(path, (list, tuple)):
        return ensemble.read(path, lambda name, own: load(name, own if species is None else species, precision, units))
    if species is not None:
        species = (species,) if isinstance(species, str) else tuple(species)
        if not species:
            raise PotentialError("no species given", path)
    name = str(path)
    place = located(path)
    if not place.exists():
        for family in families():
            if getattr(family, "matches_name", lambda name: False)(name):
                if units is not None:
                    raise PotentialError("the units of this potential are fixed, none can be given", path)
                return family.read(name, species, precision)
        near = difflib.get_close_matches(place.name, _names_in(place.parent), n=1)
        raise PotentialError("no such file" + (f"; did you mean {near[0]}?" if near else ""), path)
    if place.is_file() and (place.suffix == SUFFIX or model_kind(place) is not None):
        if units is not None:
            raise PotentialError("the units of a model file are its own, none can be given", path)
        return _of_model_file(place, species, precision)
    try:
        text = None if place.is_dir() else read_text(place)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise PotentialError(f"cannot be read: {reason}", path) from error
    if place.suffix == ".toml":
        try:
            tomllib.loads(text or "")
        except tomllib.TOMLDecodeError as error:
            raise PotentialError(f"not valid TOML: {error}", path) from error
    for family in families():
        if family.matches(place, text):
            if units is None:
                return family.read(place, species, precision)
            if not getattr(family, "UNITS", False):
                raise PotentialError("the units of this kind of file are fixed, none can be given", path)
            return family.read(place, species, precision, units=tuple(units))
    for family in families():  # a mistake within its first lines: let the family say what is wrong
        if text is not None and place.suffix in getattr(family, "SUFFIXES", ()):
            return family.read(place, species, precision)
    what = "this directory" if text is None else "this file"
    raise PotentialError(f"{what} is no potential of a known family ({', '.join(FAMILIES)})", path)


def _of_model_file(path, species, precision) -> Potential:
    try:
        found = read_model(path)
    except ModelFileError as error:
        raise PotentialError(str(error)) from error
    for family in families():
        if getattr(family, "MODEL", None) == found.kind:
            return family.of_model_file(found, species, precision)
    raise PotentialError(f"a trained model of the kind '{found.kind}', which is no potential", path)


def _names_in(folder: Path):
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
