"""`ostwald convert` of labelled structures: read, checked, cleaned, written, with a report."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ostwald.app.potentials.hdnnp.n2p2 import ENERGY_UNITS, LENGTH_UNITS, unit
from ostwald.app.training.checks import COMPONENTS, Report, check
from ostwald.app.training.primitive import primitive
from ostwald.io.datasets import DataSetError, LabelledStructure, open_dataset, write_dataset
from ostwald.io.labelled import (
    LABELS,
    ONLY_LABELLED,
    Reading,
    iterate_labelled,
    labelled_format,
    target_format,
    write_labelled,
)


def is_labelled(sources, target) -> bool:
    """Whether a conversion is one of labelled structures: the target, or a source, holds nothing else."""
    if target_format(target) or len(sources) > 1:
        return True
    path = Path(sources[0])
    if path.is_dir():
        return any(path.rglob("type.raw"))
    return labelled_format(path) in ONLY_LABELLED


def reading(labels=(), group=None, units=None, species=()) -> Reading:
    """How sources are read. labels: texts LABEL=NAME; units: (length, energy) by name. ValueError says what is wrong."""
    names = {}
    for text in labels:
        label, equals, name = text.partition("=")
        if not equals or not name or label not in LABELS:
            raise ValueError(f"--label takes LABEL=NAME with one of {', '.join(LABELS)}, not '{text}'")
        names[label] = name
    length, energy = (1.0, 1.0)
    if units is not None:
        length, energy = unit(units[0], LENGTH_UNITS, "length"), unit(units[1], ENERGY_UNITS, "energy")
    return Reading(names, group, length, energy, tuple(species))


def shear_order(text: str, groups=None):
    """A function that puts the stresses of structures (of these groups) into the order of this project.

    text: the components in the order of the source, such as "xx,yy,zz,xz,yz,xy". ValueError where it is not the six.
    """
    words = text.replace(",", " ").split()
    if sorted(words) != sorted(COMPONENTS):
        raise ValueError(f"--stress-order takes the six of {','.join(COMPONENTS)}, not '{text}'")
    places = [words.index(component) for component in COMPONENTS]

    def ordered(structure: LabelledStructure) -> LabelledStructure:
        mine = groups is None or structure.group in groups
        return replace(structure, stress=structure.stress[places]) if mine else structure

    return ordered


def convert(sources, target, how: Reading, *, format=None, order=None, clean=False, cut=False) -> tuple[int, Report]:
    """Reads labelled structures, checks them and writes them: their number and the report of the checks.

    sources: files or directories; format: of all of them, None: of each what it looks like. order: what shear_order gave.
    clean: structures that an error was found in, and copies of earlier ones, are left out. cut: to primitive cells. Provenance of a data set: the
    sources, what was done to them, and the findings.
    """
    structures = []
    for source in sources:
        found = iterate_labelled(source, format, how)
        found = map(order, found) if order else found
        structures += map(primitive, found) if cut else found
    if not structures:
        raise DataSetError(f"{', '.join(map(str, sources))}: no structure")
    to, target = target_format(target), Path(target)
    parent = target.resolve().parent
    if not parent.is_dir():
        raise DataSetError(f"{target}: there is no directory {parent}")
    whole = parent / f".{os.getpid()}.{target.name}.dataset"  # what is checked is what was written
    try:
        write_dataset(whole, structures)
        ds = open_dataset(whole)
        report = replace(check(ds), path=str(target))
        kept = ds
        if clean:
            kept = ds.select(np.setdiff1d(np.arange(len(ds)), np.union1d(report.unusable, report.repeated)))
            if not len(kept):
                raise DataSetError(f"{target}: nothing is left after cleaning")
        if to == "dataset":
            write_dataset(target, kept, provenance=_provenance(sources, how, clean, cut, report))
        else:
            write_labelled(target, kept, to)
    finally:
        whole.unlink(missing_ok=True)
    return len(kept), report


def _provenance(sources, how, clean, cut, report) -> dict:
    done = {"labels": how.labels, "group": how.group, "length": how.length, "energy": how.energy}
    done |= {"cleaned": clean, "primitive": cut}
    return {
        "sources": [str(Path(source).resolve()) for source in sources],
        "reading": done,
        "findings": [
            f"{finding.level}: {finding.text}, {len(finding.structures)} structures" for finding in report.findings
        ],
    }
