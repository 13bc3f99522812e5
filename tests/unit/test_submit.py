"""ostwald submit and ostwald status, with stand-ins for SLURM's commands."""

import fcntl
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from ostwald.app import batch, slurm, status, submit
from ostwald.app.cli import main, parser
from ostwald.app.runfile import RunFileError, load_toml

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "jobscripts").glob("*.sbatch"))
JOB = """
[job]
kind = "md"
seed = 5 # of velocities
[structure]
lattice = "fcc"
a = 3.62
species = ["Cu"]
cells = [4, 4, 4]
[potential]
file = "zhou:Cu"
[[stage]]
ensemble = "nve"
velocities = 300.0
steps = 20
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with job.toml, and a SLURM that takes notes: sbatch counts jobs from 4711 on, squeue tells what queue.txt says."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {
        "sbatch": f'echo "$@" >>{tmp_path}/sbatch.txt; echo $((4710 + $(wc -l <{tmp_path}/sbatch.txt)))',
        "squeue": f'grep "^$3 " {tmp_path}/queue.txt 2>/dev/null | cut -d" " -f2-; true',
        "sinfo": '[ "$5" = --partition=fat ] || printf "main* 2 24\\nmain* 2 16\\n"; echo "fat 4 32"',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.delenv("OSTWALD_SITE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def options(script: str) -> list[str]:
    return re.findall(r"^#SBATCH (\S+)", script, re.M)


def test_dry_run_shows_the_script_and_writes_nothing(cluster, capsys):
    assert main(["submit", "job.toml", "--nodes=2", "--ntasks-per-node=4", "--time=30m", "--dry-run"]) == 0
    script = capsys.readouterr().out
    found = options(script)
    for option in ("--nodes=2", "--ntasks-per-node=4", "--time=00:30:00", "--signal=B:USR1@300", "--requeue"):
        assert option in found
    assert main(["check", "job.toml", "--ranks=8"]) == 0
    told = int(re.search(r"about (\d+) MB per rank", capsys.readouterr().out)[1])
    asked = int(re.search(r"--mem-per-cpu=(\d+)M", script)[1])
    assert abs(asked - (1.5 * told + 100)) < 2
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert sorted(p.name for p in cluster.iterdir()) == ["job.toml", "tools"]


def test_memory_that_is_given_is_asked_for(cluster, capsys):
    (cluster / "job.toml").write_text(JOB + "[parallel]\nthreads = 2\n")
    assert main(["submit", "job.toml", "--ntasks-per-node=1", "--time=1h", "--memory=3G", "--dry-run"]) == 0
    assert "--mem-per-cpu=1500M" in options(capsys.readouterr().out)


def test_ranks_of_a_node_are_its_cores_over_threads(cluster, capsys):
    (cluster / "job.toml").write_text(JOB + "[parallel]\nthreads = 4\n")
    for given, ranks in (([], 8), (["--partition=fat"], 32)):
        assert main(["submit", "job.toml", "--time=1h", "--dry-run", *given]) == 0
        found = options(capsys.readouterr().out)
        assert f"--ntasks-per-node={ranks}" in found and "--cpus-per-task=4" in found


def test_what_is_in_the_queue_or_done_is_left_alone(cluster, capsys):
    command = ["submit", "job.toml", "--ntasks-per-node=1", "--time=5m", "--array=seeds=1..3"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4711"
    for seed in (1, 2, 3):
        assert (cluster / f"runs/job-seed-{seed}/slurm-job").read_text() == f"4711_{seed}\n"
        made = load_toml(f"job-seed-{seed}.toml")
        assert made.pop("job") == dict(kind="md", seed=seed) and made["stage"] == load_toml("job.toml")["stage"]
    script = (cluster / "runs/job-seed-1/batch.sbatch").read_text()
    assert "--array=1-3" in options(script) and "--output=runs/job-seed-%a/slurm-%A_%a.log" in options(script)

    (cluster / "queue.txt").write_text("4711_1 PENDING|Priority|N/A\n")
    assert main(["run", "job-seed-3.toml", "-d", "runs/job-seed-3"]) == 0
    (cluster / "runs/job-seed-2/slurm-4711_2.log").write_text(
        "begin\nostwald: step 7: atom 3 is lost\nsrun: error: n1\n"
    )
    capsys.readouterr()
    assert main(["status", *(f"runs/job-seed-{seed}" for seed in (1, 2, 3, 4))]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "runs/job-seed-1: queued, job 4711_1 (Priority)",
        "runs/job-seed-2: failed, step 7: atom 3 is lost",
        "runs/job-seed-3: done, 20 steps",
        "runs/job-seed-4: absent",
    ]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "4712" and "--array=2" in options(out)
    (cluster / "queue.txt").write_text("4711_1 RUNNING|None|x\n4712_2 PENDING|Resources|N/A\n")
    assert main(command) == 0
    assert options(capsys.readouterr().out) == []
    assert len((cluster / "sbatch.txt").read_text().splitlines()) == 2


def test_parts_of_a_set_are_all_of_it_once(cluster, capsys):
    (cluster / "set.toml").write_text((ROOT / "examples/dataset-3d/train.toml").read_text())
    given = parser().parse_args(["submit", "set.toml", "--time=1h", "--array=parts=4"])
    members, pattern = submit.members_of(given)
    assert str(pattern.file) == "set-part-$SLURM_ARRAY_TASK_ID.toml"
    made = [batch.with_keys((cluster / "set.toml").read_text(), m.table, m.keys, "set.toml") for m in members]
    numbers = []
    for k, text in enumerate(made):
        (cluster / f"{k}.toml").write_text(text)
        table = load_toml(f"{k}.toml")["set"]
        numbers += range(table["first"], table["first"] + table["count"])
    assert numbers == list(range(1850))


def test_states_of_a_run(cluster):
    assert main(["run", "job.toml", "-d", "run"]) == 0
    run = cluster / "run"
    assert status.of("run") == status.Status("done", "20 steps")
    figures = json.loads((run / "timing.json").read_text())
    (run / "timing.json").write_text(json.dumps(figures | dict(finished=False)))
    assert status.of("run") == status.Status("waiting to be resumed", "checkpoint at step 20")
    later = time.time_ns() + 10**9
    os.utime(run / "provenance.json", ns=(later, later))
    assert status.of("run").name == "failed" and "checkpoint at step 20" in status.of("run").words
    with open(run / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = status.of("run")
        assert found.name == "running" and re.search(
            r"step 20, ETA [\d:]+, \S+ atom-steps/s|step 20, \S+ atom-steps/s", found.words
        )
    (run / "slurm-job").write_text("99\n")
    (cluster / "queue.txt").write_text("99 PENDING|BeginTime|2026-01-01T00:00:00\n")
    assert status.of("run").words == "job 99 (BeginTime), may start at 2026-01-01T00:00:00, goes on from step 20"


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--time=soon"], "--time takes a duration"),
        (["--time=30s"], "at least a minute"),
        (["--time=1h", "--memory=much"], "--memory takes a size"),
        (["--time=1h", "--array=seeds=3..1"], "--array takes"),
        (["--time=1h", "--array=seeds=1,1"], "--array takes"),
        (["--time=1h", "--array=temperature=1"], "--array takes"),
        (["--time=1h", "--array=parts=2"], "[set] count"),
        (["--time=1h", "--site=absent.sh"], "no such file"),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_a_sentence(cluster, capsys, arguments, word):
    assert main(["submit", "job.toml", "--ntasks-per-node=1", *arguments]) == 1
    said = capsys.readouterr()
    assert len(said.err.strip().splitlines()) == 1 and word in said.err and not said.out
    assert not (cluster / "runs").exists()


@pytest.mark.parametrize("more", [(), ("--memory=1G",)])
def test_a_bad_run_file_is_not_submitted(cluster, capsys, more):
    (cluster / "job.toml").write_text(JOB.replace("steps", "stepps"))
    assert main(["submit", "job.toml", "--ntasks-per-node=1", "--time=1h", *more]) == 1
    assert "did you mean 'steps'" in capsys.readouterr().err and not (cluster / "sbatch.txt").exists()


def test_keys_that_cannot_be_set_in_the_text_are_refused():
    with pytest.raises(RunFileError, match="line of its own"):
        batch.with_keys('job = { kind = "md", seed = 1 }\n', "job", dict(seed=2), "x.toml")
    text = 'a = """\n[job]\nseed = 1\n"""\n[job]\nseed = 3\n'
    with pytest.raises(RunFileError, match="line of its own"):
        batch.with_keys(text, "job", dict(seed=2), "x.toml")


def test_ranges_and_numbers_are_inverse():
    assert batch.numbers("1..3,7,9..10") == [1, 2, 3, 7, 9, 10]
    assert batch.ranges([7, 1, 2, 3, 9, 10]) == "1-3,7,9-10"
    assert slurm.QueuedJob("RUNNING", "", "").state == "RUNNING"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_scripts_that_come_along_are_what_submit_makes(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("OSTWALD_SITE", raising=False)
    text = path.read_text()
    command = shlex.split(next(line for line in text.splitlines() if line.startswith("# ostwald submit"))[2:])
    assert text == submit.template(parser().parse_args(command[1:]))
