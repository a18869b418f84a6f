"""A Slurm of one node and two GPUs on loopback, as children of the test: no systemd, cgroups or database.

Its packages (Debian): slurmctld slurmd slurm-client munge. The GPUs are /dev/null and /dev/zero, which is all
that Slurm needs to share them out; two cores pose as four.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
WHERE = f"{os.environ['PATH']}:/usr/sbin:/sbin"
LIFE_SECONDS = 900
"""When a daemon ends by itself, should the test be killed before it ends them."""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in NEEDED if shutil.which(name, path=WHERE) is None]


def configuration(folder: Path, controller_port: int, daemon_port: int) -> str:
    """slurm.conf: everything on loopback and in the folder."""
    user = getpass.getuser()
    return f"""ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MinJobAge=300
KillWait=20
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 Gres=gpu:2
PartitionName=test Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A running Slurm, and the environment in which its commands find it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder}/bin:{WHERE}",
            "LC_ALL": "C.UTF-8",
        }

    def __call__(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        environment = {**os.environ, **self.variables}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-2000:]}"
            for path in sorted((self.folder / "log").iterdir())
        )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """A Slurm in a folder, stopped with all its jobs at the end.

    Raises:
        RuntimeError: it does not come up within half a minute; says what its logs say.
    """
    for name in ("state", "spool", "log", "bin"):
        (folder / name).mkdir(parents=True)
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        text = configuration(folder, one.getsockname()[1], other.getsockname()[1])
    (folder / "slurm.conf").write_text(text)
    gpus = "".join(f"NodeName=localhost Name=gpu File=/dev/{name}\n" for name in ("null", "zero"))
    (folder / "gres.conf").write_text(gpus)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    slurm = Slurm(folder)
    # Snakemake's plugin takes SLURM_* from the environment of the srun inside a job, SLURM_CONF with it.
    wrapper = folder / "bin" / "srun"
    real = shutil.which("srun", path=WHERE)
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {real} "$@"\n')
    wrapper.chmod(0o755)
    daemons: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / "log" / f"{command[0]}.out").open("w") as log:
            bounded = ("timeout", "--kill-after=5", str(LIFE_SECONDS), *command)
            environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
            daemons.append(
                subprocess.Popen(
                    bounded,
                    env={**environment, **slurm.variables},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    try:
        of_munge = {"socket": "munge.sock", "key-file": "munge.key", "log-file": "log/munged.log"}
        of_munge |= {"pid-file": "munged.pid", "seed-file": "munge.seed"}
        # Forced: it dislikes folders that only their owner may enter, as the tests' are.
        start(
            "munged",
            "--foreground",
            "--force",
            *(f"--{name}={folder / file}" for name, file in of_munge.items()),
        )
        _until((folder / "munge.sock").exists, slurm)
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D")
        _until(lambda: "idle" in slurm("sinfo", "--noheader", "--format=%T"), slurm)
        yield slurm
    finally:
        slurm("scancel", f"--user={getpass.getuser()}")
        with contextlib.suppress(RuntimeError):
            _until(lambda: not slurm("squeue", "--noheader").strip(), slurm)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _until(reached: Callable[[], bool], slurm: Slurm, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            raise RuntimeError(f"Slurm did not get there in {seconds:g} seconds\n{slurm.logs()}")
        time.sleep(0.1)
