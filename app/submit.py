"""`ostwald submit`: from a run file to jobs in SLURM's queue."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from ostwald.app import slurm, status
from ostwald.app.batch import JOB, Batch, numbers, ranges, render, with_keys
from ostwald.app.jobs.runfiles import default_directory
from ostwald.app.runfile import RunFileError, load_toml, parse_duration
from ostwald.io.text import read_text, write_text
from ostwald.parallel import World

UNITS = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
MARGIN, OTHERS = 1.5, 1e8
"""What is asked of SLURM is so many times what `check` tells, and as many bytes for what MPI and HDF5 take."""
TASK = "$SLURM_ARRAY_TASK_ID"


@dataclass(frozen=True)
class Member:
    """One run of a submission. index: of its task in the array, None where it is the only run. file: its run file. directory: of
    the run. keys: what its run file has otherwise than the one that was given, in a table of it.
    """

    index: int | None
    file: Path
    directory: Path
    table: str = ""
    keys: dict[str, int] = field(default_factory=dict)


def submit(given) -> int:
    """The command; `given`: its arguments."""
    members, pattern = members_of(given)
    todo = []
    for member in members:
        state = status.of(member.directory)
        if state.name in ("done", "queued", "running"):
            print(f"{member.directory}: {state.name}, left alone")
        else:
            todo.append(member)
    if not todo:
        return 0
    batch = plan(given, pattern, [member.index for member in todo if member.index is not None])
    checked = _checked(given.file, batch.nodes * batch.ranks_per_node)
    script = render(replace(batch, memory=batch.memory or checked))
    print(script)
    if given.dry_run:
        return 0
    text = read_text(given.file)
    for member in todo:
        member.directory.mkdir(parents=True, exist_ok=True)
        if member.index is not None:
            write_text(member.file, with_keys(text, member.table, member.keys, given.file))
    kept = todo[0].directory / "batch.sbatch"
    write_text(kept, script)
    job = slurm.submit(str(kept))
    for member in todo:
        name = job if member.index is None else f"{job}_{member.index}"
        write_text(member.directory / JOB, f"{name}\n")
    print(job)
    return 0


def template(given) -> str:
    """The script of a submission that asks for its memory itself, for any place where Ostwald is installed in .venv."""
    _, pattern = members_of(given)
    return render(replace(plan(given, pattern, []), program=".venv/bin/ostwald", log=None))


def members_of(given) -> tuple[list[Member], Member]:
    """The runs that are asked for, and one with $SLURM_ARRAY_TASK_ID in place of the seed (the only one, where there is no array)."""
    raw, file = load_toml(given.file), Path(given.file)
    job = raw.get("job") if isinstance(raw.get("job"), dict) else {}
    asked = given.directory or job.get("directory")
    directory = Path(given.directory or (file.parent / asked if asked else _relative(default_directory(file))))
    if given.array is None:
        alone = Member(None, file, directory)
        return [alone], alone
    what, keys = _array(given.array, raw, file)

    def place(of):
        name = f"{directory.name}-{what}-{of}"
        return file.with_name(f"{name}.toml"), directory.with_name(name)

    table = "job" if what == "seed" else "set"
    return [Member(index, *place(index), table, changed) for index, changed in keys.items()], Member(None, *place(TASK))


def _array(text, raw, file) -> tuple[str, dict[int, dict[str, int]]]:
    """What the members of an array differ in, and {index: keys}: "seeds=1..8" or "parts=10", these of a job of sequences."""
    name, _, given = text.partition("=")
    try:
        if name == "seeds":
            return "seed", {seed: dict(seed=seed) for seed in numbers(given)}
        if name == "parts" and (parts := int(given)) > 0:
            table = raw.get("set")
            if not isinstance(table, dict) or not isinstance(table.get("count"), int) or parts > table["count"]:
                raise RunFileError(f"{file}: [set] count: --array parts={parts} needs at least as many sequences")
            begin, bounds = table.get("first", 0), [table["count"] * k // parts for k in range(parts + 1)]
            return "part", {k: dict(count=bounds[k + 1] - bounds[k], first=begin + bounds[k]) for k in range(parts)}
    except RunFileError:
        raise
    except ValueError:
        pass
    raise ValueError(f"--array takes seeds=1..8, seeds=1,3,7 or, for sequences, parts=10, not {text!r}")


def plan(given, pattern: Member, indices: list[int]) -> Batch:
    """The script's content as far as the options tell it: memory only where they give it."""
    raw = load_toml(given.file)
    threads = _threads(raw)
    try:
        seconds = parse_duration(given.time)
    except ValueError:
        raise ValueError(f"--time takes a duration such as 4h or 04:00:00, not {given.time!r}") from None
    if seconds < 60:
        raise ValueError(f"--time must be at least a minute, not {given.time}")
    ranks = given.ntasks_per_node
    if ranks is None:
        cores = slurm.cores_of_a_node(given.partition)
        if cores is None:
            raise ValueError("--ntasks-per-node is needed where no SLURM tells the cores of a node")
        ranks = max(1, cores // threads)
    options = [f"--{name}={value}" for name in ("partition", "account") if (value := getattr(given, name))]
    site = given.site or os.environ.get("OSTWALD_SITE")
    if site and not Path(site).is_file():
        raise ValueError(f"--site: {site}: no such file")
    log = str(pattern.directory).replace(TASK, "%a")
    return Batch(
        command=command_of(given),
        name=default_directory(given.file).name,
        file=str(pattern.file),
        directory=str(pattern.directory),
        nodes=given.nodes,
        ranks_per_node=ranks,
        seconds=seconds,
        threads=threads,
        memory=_bytes(given.memory) if given.memory else None,
        array=ranges(indices) if indices else None,
        chain=given.chain,
        launch=given.launch,
        program=program(),
        site=str(Path(site).resolve()) if site else None,
        log=log,
        options=(*options, *given.option),
    )


def program() -> str:
    """This command, for a shell."""
    beside = Path(sys.executable).with_name("ostwald")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m ostwald.app.cli"


def command_of(given) -> str:
    """The command line that makes the same script."""
    words = ["ostwald", "submit", str(given.file), f"--nodes={given.nodes}", f"--time={given.time}"]
    for name in ("ntasks_per_node", "memory", "partition", "account", "array", "directory", "site"):
        if (value := getattr(given, name)) is not None:
            words.append(f"--{name.replace('_', '-')}={value}")
    if given.chain:
        words.append("--chain")
    if given.launch != "srun --mpi=pmix":
        words.append(f"--launch={given.launch}")
    words += [f"--option={option}" for option in given.option]
    return shlex.join(words)


def _checked(path, ranks) -> float | None:
    """Validates a run file; bytes to ask for one of so many ranks, None where its kind of job cannot tell."""
    from ostwald.app.commands import job_module

    module, world = job_module(load_toml(path), path), World()
    if hasattr(module, "memory"):
        return MARGIN * module.memory(world, path, ranks) + OTHERS
    module.check(world, path, ranks)
    return None


def _threads(raw) -> int:
    threads = raw.get("parallel", {}).get("threads") if isinstance(raw.get("parallel", {}), dict) else None
    return threads if isinstance(threads, int) and threads > 0 else 1


def _bytes(text: str) -> float:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "M")
    try:
        size = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        size = 0.0
    if not 0 < size < 1e15:
        raise ValueError(f"--memory takes a size such as 2G or 800M, not {text!r}")
    return size


def _relative(path: Path) -> Path:
    """As seen from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
