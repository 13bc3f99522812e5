"""A SLURM of its own on this machine: munged, slurmctld and two slurmd, each a node of eight processors.

Nothing of the machine's own SLURM is touched: keys, sockets, ports, state and configuration are in one folder. What the
fixture starts it ends, by number.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from .conftest import clean_environment

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")
SPEAKERS = ("slurmd", "slurmstepd")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
TmpFS={folder}/tmp-%n
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2
ReturnToService=2
SlurmdTimeout=5
KillWait=20
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=8 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SETTINGS = {  # two nodes that are one machine: messages between them go over the loopback interface
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "self,tcp",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}


class Missing(RuntimeError):
    """SLURM cannot run here; why."""


class Cluster:
    def __init__(self, folder: Path):
        if absent := [name for name in PROGRAMS if _program(name) is None]:
            raise Missing(f"not installed: {', '.join(absent)} (Debian: slurm-wlm munge)")
        self.folder, self.daemons = Path(folder), {}
        for name in ("state", "work", *(f"{what}-{node}" for node in NODES for what in ("spool", "tmp"))):
            (self.folder / name).mkdir(parents=True)
        self.work = self.folder / "work"
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(folder=self.folder, host=host, user=getpass.getuser(), ports=_free_ports())
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # containers may have none
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        outside = {k: v for k, v in clean_environment().items() if not k.startswith(("SLURM_", "SBATCH_", "OSTWALD_"))}
        self.environment = outside | SETTINGS | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self):
        munge = [f"--{what}={self.folder}/munge.{end}" for what, end in _MUNGE.items()]
        self._daemon("munged", "--foreground", "--force", *munge)
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged", 10)
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        self._until(lambda: self.ask("sinfo", "-h", "-o", "%t").split() == ["idle"], "nodes", 30)

    def start_node(self, node):
        self._daemon("slurmd", "-D", "-N", node, name=node, SLURMD_NODENAME=node)  # as in all that runs on the node

    def stop(self):
        if "slurmctld" in self.daemons:
            with suppress(subprocess.SubprocessError, Missing):
                self.ask("scancel", "--user", getpass.getuser(), check=False)
                self._until(lambda: not self.ask("squeue", "-h", check=False).strip(), "end of all jobs", 30)
        for node in NODES:  # and what a broken slurmctld has left
            if node in self.daemons:
                self.fail(node)
        for process in reversed(self.daemons.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def fail(self, node):
        """The node is gone from one moment to the next, with all that ran on it."""
        marks = [f"SLURMD_NODENAME={node}\0".encode(), f"SLURM_CONF={self.environment['SLURM_CONF']}\0".encode()]
        doomed = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                own = (process / "environ").read_bytes()
                if all(mark in own for mark in marks):
                    doomed.append(((process / "comm").read_text().strip() not in SPEAKERS, int(process.name)))
        for _, number in sorted(doomed):  # first those that could still report what happens to the others
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.daemons[node].wait()

    def ask(self, *command, check=True):
        """Standard output of a command of SLURM, or of `ostwald`, in the folder of the jobs."""
        done = subprocess.run(
            command, cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def _daemon(self, program, *arguments, name=None, **variables):
        log = open(self.folder / f"{name or program}.out", "wb")
        self.daemons[name or program] = subprocess.Popen(
            [_program(program), *arguments],
            cwd=self.folder,  # where a daemon that crashes leaves its core
            env=self.environment | variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _until(self, condition, what, seconds):
        deadline = time.monotonic() + seconds
        while not self._holds(condition):
            for name, process in self.daemons.items():
                if process.poll() is not None:
                    said = (self.folder / f"{name}.out").read_text(errors="replace").strip().splitlines()
                    raise Missing(f"{name} ended with {process.returncode}: {said[-1] if said else ''}")
            if time.monotonic() > deadline:
                raise Missing(f"{what}: not there after {seconds} s")
            time.sleep(0.2)

    @staticmethod
    def _holds(condition):
        try:
            return condition()
        except AssertionError:  # a command of SLURM that finds no daemon yet
            return False


_MUNGE = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def _program(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def _free_ports():
    """Three ports, the last two one after the other."""
    while True:
        sockets = [socket.socket() for _ in range(3)]
        try:
            sockets[0].bind(("127.0.0.1", 0))
            sockets[1].bind(("127.0.0.1", 0))
            following = sockets[1].getsockname()[1] + 1
            sockets[2].bind(("127.0.0.1", following))
            return sockets[0].getsockname()[1], following - 1, following
        except (OSError, OverflowError):
            continue
        finally:
            for one in sockets:
                one.close()
