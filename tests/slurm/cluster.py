"""A SLURM of one node on this machine, for the tests: started and ended without root's services.

Debian's `slurm-wlm` and `munge`, run as root from a folder of their own: no systemd, no cgroups, no
accounting. The node's two GPUs are character devices that nobody opens; SLURM hands them out and
sets CUDA_VISIBLE_DEVICES as it does with real ones.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
DEFAULT = Path("/etc/slurm")  # where SLURM looks for its configuration

# cred_expire: a requeued job waits this long before it starts again (by default two minutes).
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=2
MinJobAge=3600
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=2880 PriorityTier=10 State=UP
PartitionName=gpu Nodes={host} MaxTime=2880 PriorityTier=10 State=UP
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=20 PreemptMode=OFF State=UP
"""


def why_not() -> str | None:
    """Why no SLURM can be started here; None if it can."""
    if missing := [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]:
        return f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "starting a SLURM takes root"
    for name in ("slurm.conf", "gres.conf"):
        path = DEFAULT / name
        if path.exists() or (path.is_symlink() and not _ours(path)):
            return f"{path} is there: this machine has a SLURM of its own, or another test runs one"
    return None


def search_path() -> str:
    """PATH with the folders of daemons."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _ours(link: Path) -> bool:
    """Whether a dangling link was left by a test that was killed."""
    return link.readlink().parent.name.startswith("slurm-test-")


class Cluster:
    """One node; `with Cluster() as cluster:` starts it and ends it, and its jobs, afterwards.

    Attributes:
        environment: what a process needs to find this SLURM.
    """

    def __init__(self, cpus: int = 4, memory: int = 16_000) -> None:
        self.cpus, self.memory = cpus, memory
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-test-"))
        self.folder.chmod(0o755)
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "PATH": search_path()}
        self.environment["SLURM_CONF"] = str(self.folder / "slurm.conf")

    def __enter__(self) -> Cluster:
        try:
            self._configure()
            key, munge = self.folder / "key", self.folder / "munge.socket"
            key.write_bytes(secrets.token_bytes(1024))
            key.chmod(0o600)
            places = {"socket": munge, "key-file": key, "log-file": self.folder / "munged.log"}
            places |= {"pid-file": self.folder / "munged.pid", "seed-file": self.folder / "seed"}
            options = [f"--{name}={path}" for name, path in places.items()]
            self._start("munged", "--foreground", "--force", *options)
            self._until(munge.exists, "munged")
            self._start("slurmctld", "-D")
            self._until(lambda: bool(self.call("sinfo", "-h", check=False)), "slurmctld")
            self._start("slurmd", "-D", "-N", _host())
            self._until(lambda: "idle" in self.call("sinfo", "-h", "-o", "%T"), "slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if len(self.daemons) == 3:
            self.call("scancel", "--user=root", check=False)
            self._until(lambda: not self.call("squeue", "-h", check=False), "jobs", check=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        for name in ("slurm.conf", "gres.conf"):
            link = DEFAULT / name
            if link.is_symlink() and link.readlink() == self.folder / name:
                link.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *command: str, check: bool = True) -> str:
        """Output of a SLURM command."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def jobs(self) -> dict[int, dict[str, str]]:
        """What the controller knows of every job so far."""
        found = {}
        for line in self.call("scontrol", "show", "jobs", "-o").splitlines():
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            if "JobId" in fields:
                found[int(fields["JobId"])] = fields
        return found

    def _configure(self) -> None:
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        controller, node = _free_ports(2)
        text = CONFIGURATION.format(
            host=_host(),
            folder=self.folder,
            controller=controller,
            node=node,
            cpus=self.cpus,
            memory=self.memory,
        )
        (self.folder / "slurm.conf").write_text(text)
        for index in (0, 1):
            card = self.folder / f"gpu{index}"
            os.mknod(card, 0o20666, os.makedev(1, 3))  # another /dev/null
        cards = f"NodeName={_host()} Name=gpu Type=fake File={self.folder}/gpu[0-1]\n"
        (self.folder / "gres.conf").write_text(cards)
        # A job's own `srun` has lost SLURM_CONF: Snakemake's plugin drops all such variables.
        DEFAULT.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            (DEFAULT / name).unlink(missing_ok=True)
            (DEFAULT / name).symlink_to(self.folder / name)

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            daemon = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.daemons.append(daemon)

    def _until(self, ready: Callable[[], bool], what: str, check: bool = True) -> None:
        deadline = time.monotonic() + 30
        while not ready():
            if time.monotonic() > deadline:
                logs = [path.read_text()[-2000:] for path in self.folder.glob("*.out")]
                assert not check, f"{what} did not start:\n" + "\n".join(logs)
                return
            time.sleep(0.1)


def _host() -> str:
    return socket.gethostname().split(".")[0]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
