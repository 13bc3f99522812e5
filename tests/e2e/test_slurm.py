"""ostwald submit on a real SLURM, started here: two nodes on this machine (slurm_cluster.py)."""

import json
import re
import sys
import time
import warnings

import pytest

from ostwald.app.runfile import load_toml

from .slurm_cluster import Cluster, Missing

MD = """
[job]
kind = "md"
[structure]
lattice = "fcc"
a = 3.62
species = ["Cu"]
cells = [6, 6, 6]
[potential]
file = "zhou:Cu"
[[stage]]
ensemble = "nve"
velocities = 300.0
steps = {steps}
[series]
every = 20
[log]
every = 100
[checkpoint]
interval = 3
"""
PHASEFIELD = """
[job]
kind = "phasefield"
[grid]
shape = [32, 32]
[model]
epsilon = 3.0
[initial]
kind = "uniform"
mean = 0.45
amplitude = 0.1
[[stage]]
timestep = 0.02
steps = 40
"""
LONG = 10**8


class Jobs:
    """Run files and jobs of a cluster."""

    def __init__(self, cluster):
        self.cluster, self.work = cluster, cluster.work

    def write(self, name, text):
        (self.work / f"{name}.toml").write_text(text)

    def ostwald(self, *arguments):
        return self.cluster.ask(sys.executable, "-m", "ostwald.app.cli", *arguments)

    def submit(self, name, *options):
        """The number of the job that `ostwald submit` prints last."""
        return self.ostwald("submit", f"{name}.toml", *options).splitlines()[-1]

    def run(self, name):
        return self.work / "runs" / name

    def status(self, name):
        return self.ostwald("status", f"runs/{name}").partition(": ")[2].strip()

    def rows(self, name):
        path = self.run(name) / "series.csv"
        return path.read_text().splitlines()[1:] if path.exists() else []

    def log(self, name):
        path = self.run(name) / "log.txt"
        return path.read_text() if path.exists() else ""

    def until(self, condition, seconds=60):
        """The value of condition() as soon as it holds."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.2)
        return value

    def told(self):
        logs = {path: path.read_text()[-1500:] for path in self.work.rglob("slurm-*.log")}
        return self.cluster.ask("squeue") + "".join(f"\n--- {path}\n{text}" for path, text in logs.items())

    def begin_now(self, job, *changes):
        """SLURM lets a job that was queued again wait for two minutes."""
        self.until(lambda: "PENDING" in self.cluster.ask("squeue", "-h", "-j", job, "-o", "%T"))
        self.cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now", *changes)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    cluster = None
    try:
        cluster = Cluster(tmp_path_factory.mktemp("slurm") / "c")
        cluster.start()
        yield Jobs(cluster)
    except Missing as why:
        warnings.warn(f"SLURM is not tested here: {why}", stacklevel=1)
        pytest.skip(f"no SLURM: {why}")
    finally:
        if cluster is not None:
            cluster.stop()


@pytest.fixture(scope="module")
def limited(jobs):
    """A job with a limit of one minute, and the same run without; they go on while other tests run. (job, job)"""
    for name in ("limited", "free"):
        jobs.write(name, MD.format(steps=LONG))
    two = ("--ntasks-per-node=2", "--option=nodelist=n1")
    return jobs.submit("limited", "--time=1m", *two), jobs.submit("free", "--time=1h", *two)


def test_jobs_run_on_the_nodes_and_ranks_that_were_asked_for(jobs, limited):
    jobs.write("md", MD.format(steps=40))
    jobs.write("field", PHASEFIELD)
    for name in ("md", "field"):
        assert jobs.submit(name, "--nodes=2", "--ntasks-per-node=2", "--time=5m").isdigit()
    for name in ("md", "field"):
        jobs.until(lambda: jobs.status(name).startswith(("done", "failed")), 90)  # noqa: B023
        assert jobs.status(name) == "done, 40 steps", jobs.told()
        start = json.loads((jobs.run(name) / "provenance.json").read_text())
        assert [entry["ranks"] for entry in start] == [4]
        assert re.search(r"^#SBATCH --mem-per-cpu=\d+M", (jobs.run(name) / "batch.sbatch").read_text(), re.M)
    assert "done, left alone" in jobs.ostwald("submit", "md.toml", "--nodes=2", "--ntasks-per-node=2", "--time=5m")


def test_a_failed_member_of_an_array_is_submitted_again_alone(jobs):
    jobs.write("many", MD.format(steps=40))
    command = ("--ntasks-per-node=1", "--time=5m", "--array=seeds=1..3")
    job = jobs.submit("many", *command, "--option=hold")
    names = [f"many-seed-{seed}" for seed in (1, 2, 3)]
    assert [jobs.status(name).partition(" (")[0] for name in names] == [f"queued, job {job}_{k}" for k in (1, 2, 3)]
    good = (jobs.work / "many-seed-2.toml").read_text()
    jobs.write("many-seed-2", good.replace("zhou:Cu", "zhou:Xx"))
    jobs.cluster.ask("scontrol", "release", job)
    jobs.until(lambda: all(jobs.status(name).startswith(("done", "failed")) for name in names))
    assert [jobs.status(name).partition(",")[0] for name in names] == ["done", "failed", "done"], jobs.told()
    assert "Xx" in jobs.status(names[1])
    begun = [(jobs.run(name) / "provenance.json").read_text() for name in (names[0], names[2])]
    script = jobs.ostwald("submit", "many.toml", *command)
    assert "#SBATCH --array=2\n" in script
    jobs.until(lambda: jobs.status(names[1]) == "done, 40 steps")
    assert begun == [(jobs.run(name) / "provenance.json").read_text() for name in (names[0], names[2])]
    assert [load_toml(jobs.run(name) / "run.toml")["job"]["seed"] for name in names] == [1, 2, 3]
    assert len({jobs.rows(name)[-1] for name in names}) == 3


def test_a_chain_goes_on_in_a_job_that_depends_on_the_first(jobs):
    jobs.write("chain", MD.format(steps=LONG))
    job = jobs.submit("chain", "--ntasks-per-node=1", "--time=5m", "--chain")
    jobs.until(lambda: len(jobs.rows("chain")) > 3)
    assert re.match(rf"running, job {job}; ", jobs.status("chain"))
    jobs.cluster.ask("scancel", "--batch", "--signal=USR1", job)
    record = jobs.run("chain") / "slurm-job"
    following = jobs.until(lambda: (now := record.read_text().strip()) != job and now)
    jobs.until(lambda: "resumed at step" in jobs.log("chain"))
    assert jobs.status("chain").startswith(f"running, job {following}; ")
    assert int(following) > int(job)
    jobs.cluster.ask("scancel", following)


def test_a_job_goes_on_from_its_last_checkpoint_after_its_node_failed(jobs):
    jobs.write("lost", MD.format(steps=LONG))
    job = jobs.submit("lost", "--ntasks-per-node=2", "--time=5m", "--option=nodelist=n2")
    folder = jobs.run("lost") / "checkpoints"
    jobs.until(lambda: len(list(folder.glob("checkpoint-*.h5"))) == 2 and max(folder.glob("*.h5")).stem[-4:] != "0000")
    jobs.cluster.fail("n2")
    jobs.until(lambda: not re.search(r"running", jobs.status("lost")))
    kept = int(max(folder.glob("checkpoint-*.h5")).stem.split("-")[1])
    assert re.match(rf"queued, job {job} .* goes on from step {kept}$", jobs.status("lost")), jobs.status("lost")
    jobs.begin_now(job, "ReqNodeList=n1")  # elsewhere
    jobs.until(lambda: "resumed at step" in jobs.log("lost"))
    assert f"resumed at step {kept} " in jobs.log("lost")
    jobs.until(lambda: jobs.rows("lost") and int(jobs.rows("lost")[-1].split(",")[0]) > kept + 40)
    steps = [int(row.split(",")[0]) for row in jobs.rows("lost")]
    assert steps == list(range(0, steps[-1] + 1, 20))
    jobs.cluster.ask("scancel", job)


def test_a_job_that_comes_to_its_limit_goes_on_as_if_nothing_had_happened(jobs, limited):
    job, _ = limited
    at = jobs.until(lambda: re.search(r"stopped: SIGUSR1; checkpoint at step (\d+)", jobs.log("limited")), 100)
    jobs.begin_now(job)
    jobs.until(lambda: "resumed at step" in jobs.log("limited"))
    assert f"resumed at step {at[1]} " in jobs.log("limited")
    last = int(at[1]) // 20 + 10
    jobs.until(lambda: len(jobs.rows("limited")) > last and len(jobs.rows("free")) > last)
    jobs.cluster.ask("scancel", job)

    def physics(name):  # all but the rate at which steps go by
        return [row.rpartition(",")[0] for row in jobs.rows(name)[:last]]

    header = (jobs.run("free") / "series.csv").read_text().splitlines()[0]
    assert physics("limited") == physics("free"), header


def test_a_job_that_was_cancelled_can_be_resumed(jobs, limited):
    _, job = limited
    assert jobs.status("free").startswith(f"running, job {job}; step ")
    jobs.cluster.ask("scancel", job)
    jobs.until(lambda: jobs.status("free").startswith("waiting to be resumed, checkpoint at step "), 40)
    at = int(jobs.status("free").rpartition(" ")[2])
    assert f"stopped: SIGTERM; checkpoint at step {at}." in jobs.log("free")
    jobs.until(lambda: job not in jobs.cluster.ask("squeue", "-h", "-o", "%i").split())
    again = jobs.submit("free", "--ntasks-per-node=3", "--time=5m")  # on another number of ranks
    jobs.until(lambda: f"resumed at step {at} " in jobs.log("free"))
    jobs.cluster.ask("scancel", again)
