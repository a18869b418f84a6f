"""Processes that outlived the Snakemake that started them: found by the mark they inherited, and ended.

A killed Snakemake's jobs live on and keep writing. Each holds what it has done in files that a new start
goes on from, so ending them costs nothing but the seconds since a checkpoint.
"""

import contextlib
import os
import sys
from pathlib import Path

import psutil

MARK = "MLM_STARTED_BY"
"""Variable of the environment: process id and start of the Snakemake that all its jobs descend from."""
PATIENCE_SECONDS = 60.0
"""For a training process to come to its next record and save its state."""


def mark() -> None:
    """Let everything that this process starts from now on tell that it did."""
    os.environ[MARK] = _signature(os.getpid())


def end() -> None:
    """End what killed Snakemakes left at work in this folder, and say so.

    They are asked first (SIGTERM: a training run saves its state), and killed if they do not leave.
    """
    found = _orphans(Path.cwd())
    if not found:
        return
    for process in found:
        print(f"note: a killed start left this at work; ending it: {_told(process)}", file=sys.stderr)
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(found, PATIENCE_SECONDS)
    for process in left:
        print(
            f"note: it did not leave in {PATIENCE_SECONDS:g} s; killing it: {_told(process)}", file=sys.stderr
        )
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, PATIENCE_SECONDS)


def _orphans(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            signature = process.environ().get(MARK)
            if signature and Path(process.cwd()) == folder and not _alive(signature):
                found.append(process)
    return found


def _signature(pid: int) -> str:
    """Empty where the process is dead."""
    with contextlib.suppress(OSError):
        # After the name in brackets: the state, and 19 fields on the start in ticks since the machine's.
        # psutil's time of creation moves with the machine's clock.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else f"{pid}@{fields[19]}"
    return ""


def _alive(signature: str) -> bool:
    return _signature(int(signature.partition("@")[0])) == signature


def _told(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"process {process.pid}, {' '.join(process.cmdline())[:100]}"
    return f"process {process.pid}"
