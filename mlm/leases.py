"""A GPU, or a share of one, for each process that computes on it: leases that end with their process.

A lease is a lock on a slot file, which the system takes back however the process ends. Slots belong to the
user's processes on one machine, whichever study they are of; within a Slurm job, to that job's.
"""

import fcntl
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from mlm import config, devices, logs
from mlm.errors import InputError

SHARE = "MLM_RUNS_PER_GPU"
"""Variable of the environment: how many processes a GPU takes at once."""

_held: list[IO[str]] = []
"""This process's lease; letting go of the files would give it back."""


def visible() -> list[str]:
    """What names the GPUs this process may use, in CUDA_VISIBLE_DEVICES' order: numbers, UUIDs, MIG names.

    As CUDA reads the list, a negative number and all that follows it are not seen. Where there is none, the
    driver is asked how many there are.
    """
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return [str(number) for number in range(devices.cuda_devices())]
    names = [name.strip() for name in told.split(",")]
    seen = next((at for at, name in enumerate(names) if not name or name.startswith("-")), len(names))
    return list(dict.fromkeys(names[:seen]))


def take(numerics: config.Numerics, processes: int = 1) -> None:
    """Make one GPU the only one that this process and its children see, until the process ends.

    Waits while others hold them all. To be called before anything asks the driver. Nothing is to choose, and
    nothing is done, in numerics without CUDA, where no GPU is seen, and for the one GPU of a Slurm job. Of the
    processes of one run each takes another GPU, also where runs share them: NCCL joins no two on one.

    Args:
        processes: that compute together, this one included, each of which takes a GPU.

    Raises:
        InputError: the processes of the run are more than the GPUs, so that one would wait for ever.
    """
    if numerics.device != "cuda" or _held:
        return
    names, job = visible(), os.environ.get("SLURM_JOB_ID")
    if names and processes > len(names):
        raise InputError(
            f"numerics.processes: a run has {processes} processes, each on a GPU, and here are "
            f"{len(names)}; give it more GPUs, or state fewer, which makes other runs of it"
        )
    if not names or (job and len(names) == 1):
        return
    folder = Path(tempfile.gettempdir()) / f"mlm-gpus-{os.getuid()}{f'-{job}' if job else ''}"
    folder.mkdir(mode=0o700, exist_ok=True)
    name, locks = _wait(folder, names, _share(), os.getppid() if processes > 1 else None)
    _held.extend(locks)
    os.environ["CUDA_VISIBLE_DEVICES"] = name
    if log := logs.detail():
        print(f"took a GPU: CUDA_VISIBLE_DEVICES {name}", file=log)


def limit(jobs: int | str | None, asked: Mapping[str, Any], here: bool, processes: int = 1) -> int | None:
    """How many jobs may be on GPUs at once: what Snakemake's resource `gpu` is to be limited to.

    Snakemake counts jobs and nothing else: without a limit it starts all at once, a limit of 0 takes `gpu=1`
    from them and starts all at once, and a job that asks for more than the limit gets less without a word.

    Args:
        jobs: the limit that profile or command line states, if any; above the number of GPUs, runs share them.
        asked: rule -> `gpu` where `--set-resources` states it.
        here: whether jobs run on this machine, one a GPU unless told; each of them then takes a lease.
        processes: of a run, each of which takes a GPU.

    Raises:
        InputError: under that limit jobs would be given less than they need.
    """
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        raise InputError(
            f"--resources gpu={jobs}: this study computes on GPUs, and so limited Snakemake would start all "
            "its runs at once; state how many may compute at once, or leave it away: one a GPU"
        )
    there = max(1, len(visible())) if here else 0
    if here:
        jobs = jobs or there
        os.environ[SHARE] = str(math.ceil(jobs / there))
    if jobs is not None and processes > jobs:
        raise InputError(
            f"numerics.processes: a run has {processes} processes, each on a GPU, and no more than {jobs} may "
            "compute at once; state --resources gpu=…, or fewer processes, which makes other runs"
        )
    if here and processes > there:
        raise InputError(
            f"numerics.processes: a run has {processes} processes, each on a GPU of its own, and here are "
            f"{there}; state fewer, which makes other runs"
        )
    for rule, number in asked.items():
        if not isinstance(number, int) or number < 1:
            raise InputError(f"--set-resources {rule}:gpu={number}: its jobs need a GPU; leave it away")
        if jobs is not None and number > jobs:
            raise InputError(
                f"--set-resources {rule}:gpu={number}: the limit is {jobs}; state --resources gpu=…"
            )
    return jobs


def _share() -> int:
    told = os.environ.get(SHARE, "1")
    if not told.isdecimal() or int(told) < 1:
        raise InputError(f"{SHARE}: is {told!r}; it must be how many runs share a GPU, 1 or more")
    return int(told)


def _wait(folder: Path, names: list[str], share: int, run: int | None) -> tuple[str, list[IO[str]]]:
    """A GPU, and the locks that are held on it.

    Args:
        run: torchrun's number, which the processes of one run have in common; None where it has but one.
    """
    told = False
    while True:
        for slot in range(share):  # the second of any GPU only when the first of each is taken
            for name in names:
                if locks := _locked(folder / quote(name, safe=""), slot, run):
                    return name, locks
        if not told:
            print(f"waiting for a GPU: others compute on {', '.join(names)}", file=sys.stderr, flush=True)
            told = True
        time.sleep(0.5)


def _locked(gpu: Path, slot: int, run: int | None) -> list[IO[str]]:
    """Locks on a GPU's slot and, for one of a run's processes, on the byte of that run; none if one is held."""
    opened: list[IO[str]] = []
    try:
        if run is not None:
            opened.append(gpu.with_name(f"{gpu.name}.runs").open("a"))
            fcntl.lockf(opened[-1], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, run)
        opened.append(gpu.with_name(f"{gpu.name}.{slot}").open("a"))
        fcntl.flock(opened[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # no other error says that one is held, and to wait for those would be for ever
        for file in opened:
            file.close()
        return []
    return opened
