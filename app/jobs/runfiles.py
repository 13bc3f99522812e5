"""Where jobs read their run files and put their directories."""

from __future__ import annotations

from pathlib import Path

from ostwald.app.runfile import RunFileError, Table, load_toml, validate


def read_run_file(world, path, tables: list[Table], check=None) -> dict:
    """Values of a run file, read on one rank and checked, by check(values, path) too; RunFileError on every rank."""
    values, problem = None, None
    if world.root:
        try:
            values = validate(load_toml(path), tables, path)
            if check is not None:
                check(values, path)
        except RunFileError as error:
            problem = error
    world.agree(problem)
    return world.bcast(values)


def default_directory(path) -> Path:
    """runs/<name of the run file> beside it; the folder's name where the file is a plain run.toml."""
    path = Path(path).resolve()
    return path.parent / "runs" / (path.parent.name if path.stem == "run" else path.stem)
