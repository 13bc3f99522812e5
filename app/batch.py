"""Batch scripts for SLURM: one renderer for every kind of job.

A script runs `ostwald run`, or `ostwald resume` where the job has left a run directory before. SLURM warns it (USR1) ahead of
the time limit; the ranks write a checkpoint and leave with status 85, and the script queues itself again.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass

from ostwald.app.runfile import RunFileError

JOB = "slurm-job"
"""File of a run directory: the number of the last job that it was submitted in."""
WARNING = 300
"""Seconds before the time limit at which SLURM warns a job; a fifth of the limit where that is less."""


@dataclass(frozen=True)
class Batch:
    """What a script is made from.

    file, directory: of the run, or of an array's members with $SLURM_ARRAY_TASK_ID in place of their index.
    seconds: time limit. memory: bytes of a rank, None: what the cluster gives. threads: of a rank. array: as sbatch takes it, such as
    "1-8". chain: a successor is submitted instead of queueing the same job again. program: the command `ostwald`, as a shell takes it.
    site: shell file that sets the modules. log: folder of what the job prints, which is there already; None: where it is submitted. options: further lines for sbatch, without #SBATCH.
    """

    command: str
    name: str
    file: str
    directory: str
    nodes: int
    ranks_per_node: int
    seconds: float
    threads: int = 1
    memory: float | None = None
    array: str | None = None
    chain: bool = False
    launch: str = "srun --mpi=pmix"
    program: str = "ostwald"
    site: str | None = None
    log: str | None = None
    options: tuple[str, ...] = ()


def render(batch: Batch) -> str:
    """The text of the script, for /bin/bash. It is submitted from the folder in which its paths hold."""
    warning = int(min(WARNING, batch.seconds / 5))
    log = f"{batch.log}/slurm-" if batch.log else "%x-"
    resources = [
        f"--job-name={batch.name}",
        *([f"--array={batch.array}"] if batch.array else []),
        f"--nodes={batch.nodes}",
        f"--ntasks-per-node={batch.ranks_per_node}",
        f"--cpus-per-task={batch.threads}",
        *([f"--mem-per-cpu={int(batch.memory / batch.threads / 1e6)}M"] if batch.memory else []),
        f"--time={_hours(batch.seconds)}",
        f"--signal=B:USR1@{warning}",
        "--no-requeue" if batch.chain else "--requeue",
        "--open-mode=append",
        f"--output={log}{'%A_%a' if batch.array else '%j'}.log",
        *(option if option.startswith("-") else f"--{option}" for option in batch.options),
    ]
    again = 'scontrol requeue "$SLURM_JOB_ID"'
    if batch.chain:
        array, task = ('--array="$SLURM_ARRAY_TASK_ID" ', "_$SLURM_ARRAY_TASK_ID") if batch.array else ("", "")
        again = f'next=$(sbatch --parsable {array}--dependency="afterany:$SLURM_JOB_ID" "$0") && echo "${{next%;*}}{task}" >"$directory/{JOB}"'
    site = f". {shlex.quote(batch.site)} || exit # modules of the site\n" if batch.site else ""
    return f"""#!/bin/bash
# {batch.command}
{chr(10).join(f"#SBATCH {line}" for line in resources)}

cd "$SLURM_SUBMIT_DIR" || exit
{site}export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
directory={_shell(batch.directory)}
if [ -e "$directory/run.toml" ]; then
    task=(resume "$directory")
else
    task=(run {_shell(batch.file)} --directory "$directory")
fi
trap 'kill -USR1 $ranks' USR1 # SLURM's warning goes on to the ranks: checkpoint, leave with status 85
${{LAUNCH:-{batch.launch}}} {batch.program} "${{task[@]}}" & # LAUNCH=mpirun where SLURM has no PMIx
ranks=$!
wait $ranks
status=$?
while kill -0 $ranks 2>/dev/null; do # the signal ended only the waiting
    wait $ranks
    status=$?
done
if [ $status -eq 85 ]; then
    {again}
fi
exit $status
"""


def _hours(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{s:02d}"


def _shell(text: str) -> str:
    """A word of the shell in which $SLURM_ARRAY_TASK_ID and $PWD are replaced, and nothing else is."""
    parts = re.split(r"(\$SLURM_ARRAY_TASK_ID|\$PWD)", text)
    return '"' + "".join(p if k % 2 else re.sub(r'([\\"$`])', r"\\\1", p) for k, p in enumerate(parts)) + '"'


def numbers(text: str) -> list[int]:
    """[1, 2, 3, 7] of "1..3,7". ValueError for anything else."""
    found = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        if not first.isdigit() or (dots and not last.isdigit()):
            raise ValueError(text)
        found += range(int(first), int(last or first) + 1)
    if len(set(found)) != len(found) or not found:
        raise ValueError(text)
    return found


def ranges(indices: list[int]) -> str:
    """ "1-3,7" of [1, 2, 3, 7], as sbatch takes it."""
    runs = []
    for index in sorted(indices):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def with_keys(text: str, table: str, keys: dict[str, int], path) -> str:
    """A run file's text with other whole numbers in one of its tables, all else as it is."""
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]")
    lines, inside = [], False
    for line in text.splitlines():
        if re.match(r"\s*\[", line):
            inside = bool(header.match(line))
        if inside and (match := re.match(r"\s*(\w+)\s*=", line)) and match[1] in keys:
            continue
        lines.append(line)
        if header.match(line):
            lines += [f"{key} = {value}" for key, value in keys.items()]
    made, wanted = "\n".join(lines) + "\n", tomllib.loads(text)
    wanted.setdefault(table, {}).update(keys)
    try:
        same = tomllib.loads(made) == wanted
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise RunFileError(
            f"{path}: [{table}]: {', '.join(keys)} cannot be set; each key of the table needs a line of its own"
        )
    return made
