"""What the benchmarks share: which cases, the file of figures."""

from __future__ import annotations

from pathlib import Path

from ostwald.parallel import CollectiveError


def choose(names, asked) -> list[str]:
    """The names that were asked for, in the order of `names`; all where nothing was asked. Raises CollectiveError."""
    for name in asked or []:
        if name not in names:
            raise CollectiveError(f"no case '{name}'; known: {', '.join(names)}")
    return [name for name in names if not asked or name in asked]


def require_folder(path) -> None:
    """Raises CollectiveError where the folder of --json does not exist: before anything is measured."""
    if path and not Path(path).parent.is_dir():
        raise CollectiveError(f"--json {path}: there is no folder {Path(path).parent}")


def write_figures(world, path, kind, **figures) -> None:
    """The file of --json, by rank 0."""
    if path and world.root:
        from ostwald.app.commands import write_json

        write_json(path, dict(kind=kind, **figures))
