"""`ostwald info`: what a file or a run directory holds, in a few lines."""

from __future__ import annotations

import json
from pathlib import Path

from ostwald.app.runfile import load_toml, validate
from ostwald.io.checkpoint import checkpoint_info, list_checkpoints
from ostwald.io.datasets import is_dataset
from ostwald.io.modelfile import model_kind, read_model
from ostwald.io.text import read_text


def describe(path) -> str:
    """Text about a run directory or file, checkpoints, a trajectory, time series, trained model, potential or structure.

    ValueError if it is none of them or cannot be used.
    """
    path = Path(path)
    if not path.exists():
        from ostwald.app.potentials.registry import load, located

        if ":" in str(path):
            return f"{path}: {load(str(path)).describe()}"
        path = located(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or directory")
    if path.is_dir() and (path / "run.toml").exists():
        return _run_directory(path)
    if path.is_dir() and (path / "input.nn").exists():
        from ostwald.app.potentials.hdnnp import n2p2
        from ostwald.app.potentials.hdnnp.summary import summary

        return f"{path}: {summary(n2p2.read(path))}"
    if path.is_dir():
        found = list_checkpoints(path, verify=True)
        if not found:
            raise ValueError(
                f"{path}: a directory, but neither of a run (no run.toml) nor of a potential (no input.nn) nor with checkpoints"
            )
        return "\n".join([f"{path}: checkpoints", *("  " + _checkpoint_line(checkpoint) for checkpoint in found)])
    if model_kind(path) is not None:
        return f"{path}: {_model(path)}"
    if is_dataset(path):
        return f"{path}: {_data_set(path)}"
    if path.suffix in (".h5", ".h5md", ".hdf5"):
        return _hdf5(path)
    if path.suffix == ".toml" and "job" in (raw := load_toml(path)):
        return _run_file(path, raw)
    return _potential_or_structure(path)


def _checkpoint_line(found) -> str:
    state = "valid" if found.valid else f"NOT valid: {found.reason}"
    what = f"grid {' × '.join(map(str, found.grid))}" if found.grid else f"{found.rows} atoms"
    return f"{found.path.name}: step {found.step}, {what}, {found.ranks} ranks, {found.size / 1e6:.2f} MB, {state}"


def _run_file(path: Path, raw: dict) -> str:
    from ostwald.app.commands import job_module
    from ostwald.app.jobs.md_schema import TABLES
    from ostwald.app.jobs.md_setup import describe_stage, stage_steps

    kind = job_module(raw, path).__name__.rpartition(".")[2]
    if kind == "phasefield":
        return _phasefield_run_file(path, raw)
    if kind == "rollout":
        from ostwald.app.jobs.rollout_schema import TABLES as ROLLOUT

        values = validate(raw, ROLLOUT, path)
        shape, surrogate = " × ".join(map(str, values["grid"]["shape"])), Path(values["surrogate"]["file"]).name
        lengths = [f"{s['steps']} steps" if s["steps"] else f"time {s['time']:g}" for s in values["stage"]]
        return f"{path}: run file (rollout), {shape} points, {surrogate}, {', '.join(lengths)}"
    if kind == "evaluate_surrogate":
        from ostwald.app.jobs.evaluate_surrogate import Evaluation, described
        from ostwald.app.jobs.evaluation_schema import TABLES as EVALUATION

        lines = described(Evaluation(validate(raw, EVALUATION, path), path))
        return "\n  ".join([f"{path}: run file (evaluate-surrogate)", *lines])
    if kind == "sequences":
        from ostwald.app.jobs.sequences import described
        from ostwald.app.jobs.sequences_schema import Plan

        return "\n  ".join([f"{path}: run file (sequences)", *described(Plan(raw, path))])
    if kind == "label":
        from ostwald.app.jobs.label import described
        from ostwald.app.jobs.label_schema import TABLES as LABEL

        return "\n  ".join([f"{path}: run file (label)", *described(validate(raw, LABEL, path))])
    if kind == "train":
        from ostwald.app.jobs.train_schema import TABLES as TRAIN

        values = validate(raw, TRAIN, path)
        optimiser, data = values["optimiser"], Path(values["data"]["file"]).name
        return f"{path}: run file (train), {data}, {optimiser['kind']}, {optimiser['epochs']} epochs"
    if kind == "train_surrogate":
        from ostwald.app.jobs.train_surrogate_schema import TABLES as SURROGATE

        values = validate(raw, SURROGATE, path)
        network, optimiser = values["network"], values["optimiser"]
        files = ", ".join(Path(table["file"]).name for table in values["sequences"])
        what = network["preset"] or (network["start"] and Path(network["start"]).name)
        what = what or f"{network['blocks']} blocks of {network['channels']} channels"
        return f"{path}: run file (train-surrogate), {files}, {what}, {optimiser['kind']}, {optimiser['epochs']} epochs"
    values = validate(raw, TABLES, path)
    structure = values["structure"]
    source = structure["file"] or f"{structure['lattice']} {' '.join(structure['species'])}"
    cells = " × ".join(map(str, structure["cells"]))
    lines = [f"{path}: run file ({values['job']['kind']}), {source}, {cells} cells, {values['potential']['file']}"]
    for number, stage in enumerate(values["stage"], 1):
        lines.append(f"  stage {number}: {describe_stage(stage, stage_steps(stage))}")
    return "\n".join(lines)


def _phasefield_run_file(path: Path, raw: dict) -> str:
    from ostwald.app.jobs.phasefield_schema import TABLES
    from ostwald.app.jobs.phasefield_stages import described

    values = validate(raw, TABLES, path)
    grid, model = values["grid"], values["model"]
    shape = " × ".join(map(str, grid["shape"]))
    lines = [f"{path}: run file (phasefield), {shape} points, {model['well']} well, ε {model['epsilon']:g}"]
    for number, stage in enumerate(values["stage"], 1):
        lines.append(f"  stage {number}: {described(stage)}")
    return "\n".join(lines)


def _run_directory(path: Path) -> str:
    lines = [f"{path}: run directory"]
    timing = path / "timing.json"
    if timing.exists():
        f = json.loads(read_text(timing))
        state = "finished" if f["finished"] else "stopped, to be resumed"
        where, wall = f"at step {f.get('total_steps')}", f.get("total_wall_seconds", f["wall_seconds"])
        if f.get("kind") == "evaluate-surrogate":
            size, where = f"{f['models']} models", f"with {f['cases']} of {f['count']} cases"
            speed = f"{f['per_rank']['busy_seconds']['max']:.4g} s busy"
        elif f.get("kind") == "label":
            size = f"{f['structures']} structures, {f['atoms']} atoms"
            speed, where = (
                f"{f['structures_per_second']:.4g} structures/s",
                f"with {f['pieces']} of {f['count']} pieces",
            )
        elif f.get("kind") == "train":
            size = f"{f['parameters']} parameters, best of epoch {f['best_epoch']}"
            speed, where = f"{f['structures_per_second']:.4g} structures/s", f"at update {f['total_updates']}"
        elif f.get("kind") == "train-surrogate":
            size = f"{f['parameters']} parameters, best of epoch {f['best_epoch']}"
            speed, where = f"{f['sequences_per_second']:.4g} sequences/s", f"at update {f['total_updates']}"
        elif f.get("kind") in ("phasefield", "rollout", "sequences"):
            size = " × ".join(map(str, f["shape"])) + " points"
            speed = f"{f['point_steps_per_second']:.4g} point-steps/s"
            if f["kind"] == "sequences":
                where = f"with {f['sequences']} of {f['count']} sequences"
        else:
            size = f"{f['atoms']} atoms"
            speed = f"{f['atom_steps_per_second']:.4g} atom-steps/s, {f['ns_per_day']:.4g} ns/day"
        lines.append(f"  {state} {where}: {size}, {f['ranks']} ranks, {speed}, wall {wall:.1f} s")
    for found in list_checkpoints(path / "checkpoints", verify=True):
        lines.append("  " + _checkpoint_line(found))
    for name in ("potential.ostwald", "surrogate.ostwald"):
        if (path / name).exists():
            lines.append(f"  {name}: {_model(path / name)}")
    for name in ("series.h5", "fields.h5", "trajectory.h5", "nuclei.h5", "sequences.h5"):
        if (path / name).exists():
            lines.append("  " + _hdf5(path / name).replace(str(path) + "/", ""))
    return "\n".join(lines)


def _hdf5(path: Path) -> str:
    from ostwald.io.fields import fields_info
    from ostwald.io.h5md import trajectory_info
    from ostwald.io.nuclei import nuclei_info
    from ostwald.io.profiles import profiles_info
    from ostwald.io.sequences import sequences_info
    from ostwald.io.timeseries import series_info

    if path.name.startswith("checkpoint-"):
        return _checkpoint_line(checkpoint_info(path, verify=True))
    for describe_file in (trajectory_info, series_info, nuclei_info, fields_info, profiles_info, sequences_info):
        text = describe_file(path)
        if text:
            return f"{path}: {text}"
    raise ValueError(
        f"{path}: an HDF5 file, but neither a trajectory, a time series, a file of nuclei, fields, profiles or sequences nor a checkpoint of Ostwald"
    )


def _data_set(path: Path) -> str:
    from ostwald.app.training.checks import check
    from ostwald.io.datasets import open_dataset

    ds = open_dataset(path)
    lines = [str(check(ds)).partition(": ")[2]]
    if sources := ds.provenance.get("sources"):
        lines.append(f"from {', '.join(sources)}")
    return "\n".join(lines)


def _model(path: Path) -> str:
    from ostwald.app.potentials.hdnnp import MODEL
    from ostwald.app.potentials.hdnnp.summary import summary_of_file
    from ostwald.app.surrogate import model as surrogate

    found = read_model(path)
    if found.kind == MODEL:
        return summary_of_file(found)
    if found.kind == surrogate.KIND:
        return "\n  ".join([*surrogate.load(path).describe().split("\n"), f"hash {found.hash}"])
    numbers = sum(array.size for array in found.arrays.values())
    return f"a trained model of the kind '{found.kind}', {numbers} numbers in {len(found.arrays)} arrays, hash {found.hash}"


def _potential_or_structure(path: Path) -> str:
    from ostwald.app import potentials
    from ostwald.io.structures import read_structure, right_handed_axes

    try:
        return f"{path}: {potentials.load(path).describe()}"
    except potentials.PotentialError as error:
        reason = error
    try:
        found = read_structure(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path}: neither a potential ({reason}) nor a structure ({error})") from error
    from ostwald.app.atoms.cell import Cell

    axes = right_handed_axes(found.matrix)  # as a run takes it
    try:
        cell = Cell(found.matrix[axes], found.origin, found.periodic[axes])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return f"{path}: structure, {len(found.types)} atoms, {' '.join(found.species)}; {cell.describe()}"
