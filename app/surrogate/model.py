"""A trained surrogate in a model file (io.modelfile, kind "crnn"): the network's parameters and what they were trained for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ostwald.app.surrogate.architecture import Architecture
from ostwald.io.modelfile import ModelFileError, read_model, write_model

KIND = "crnn"
RESAMPLINGS = ("none", "nearest", "mean")


@dataclass(frozen=True)
class Parameter:
    """A parameter that the network is given. name: as in Architecture.parameters; key: of the run files of phase fields and
    sequences, such as "elasticity.misfit"; the network sees (value - offset) / scale. low, high: the range of the training."""

    name: str
    key: str
    offset: float
    scale: float
    low: float
    high: float


@dataclass(frozen=True)
class Surrogate:
    """architecture; arrays: name -> parameters (Architecture.shapes), float32.

    interval: time of one step. spacing (d,): between points of the network's grid. resampling: how the fields of the training came to it:
    "none", or every second point of their grid ("nearest"), or means over 2^d of them ("mean"). parameters: one for each of the
    architecture's. training: what is known of its training: steps (the longest closed loop), sequences, files, loss. hash: of the file.
    """

    architecture: Architecture
    arrays: dict[str, np.ndarray]
    interval: float
    spacing: tuple[float, ...]
    resampling: str = "none"
    parameters: tuple[Parameter, ...] = ()
    training: dict = field(default_factory=dict)
    hash: str = ""

    def scaled(self, values: Mapping[str, float]) -> np.ndarray:
        """(p,) f8: the network's view of parameters by their names. ValueError where one is missing, or not known."""
        names = [parameter.name for parameter in self.parameters]
        for name in names:
            if name not in values:
                raise ValueError(f"the network is given {', '.join(names)}: {name} is missing")
        if extra := set(values) - set(names):
            raise ValueError(
                f"the network is given {', '.join(names) or 'no parameters'}: {min(extra)} is none of them"
            )
        return np.array([(float(values[p.name]) - p.offset) / p.scale for p in self.parameters])

    def describe(self) -> str:
        """A line or two."""
        spacing = " × ".join(f"{h:g}" for h in self.spacing)
        text = f"{self.architecture.describe()}\none step is {self.interval:g} of time, points are {spacing} apart"
        for p in self.parameters:
            text += f"; {p.name} ({p.key}) from {p.low:g} to {p.high:g}"
        return text

    def save(self, path, provenance: dict | None = None) -> str:
        """Writes the file, whole or not at all; its hash. ModelFileError."""
        self.architecture.check(self.arrays)
        described = dict(
            architecture=self.architecture.as_dict(),
            interval=float(self.interval),
            spacing=[float(h) for h in self.spacing],
            resampling=self.resampling,
            parameters=[vars(parameter) for parameter in self.parameters],
            training=self.training,
        )
        arrays = {name: np.asarray(array, np.float32) for name, array in self.arrays.items()}
        return write_model(path, KIND, described, arrays, provenance or {})


def load(path) -> Surrogate:
    """Reads a file that Surrogate.save wrote. ModelFileError where it is none, or damaged; one sentence."""
    file = read_model(Path(path))
    if file.kind != KIND:
        raise ModelFileError(f"{path}: a model of kind '{file.kind}', not a surrogate of phase fields")
    known = dict(file.description)
    try:
        known["architecture"] = Architecture.from_dict(known["architecture"])
        known["architecture"].check(file.arrays)
        known["parameters"] = tuple(Parameter(**parameter) for parameter in known["parameters"])
        known["spacing"] = tuple(known["spacing"])
        return Surrogate(arrays=file.arrays, hash=file.hash, **known)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: not a surrogate that this version knows ({error})") from None
