"""What is told where memory ran out: that it did, and what helps."""

import contextlib
import errno
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

MARK = "MLM_OOM_KILLS"
"""Variable of the environment: how many processes the kernel had ended for want of memory at the start."""
ADVICE = (
    "let fewer jobs run at once (`make CORES=1`), or lower `micro_batch` in the scale or the experiment: "
    "the sequences that are computed at once, of the same batch"
)
KILLED = 128 + 9


def mark() -> None:
    """Note how many processes the kernel has ended so far, for `of_killed` to tell whether it ended one."""
    if (before := _kills()) is not None:
        os.environ[MARK] = str(before)


def of_killed() -> str:
    """What to say of a job that was ended by SIGKILL, which cannot say anything itself."""
    now, before = _kills(), os.environ.get(MARK)
    if now is None or before is None:
        return f"killed (signal 9); if nobody did it, memory ran out: {ADVICE}"
    if now > int(before):
        return f"killed by the kernel: memory ran out; {ADVICE}"
    return "killed (signal 9), and not for want of memory; the same command goes on"


def of_error(error: BaseException) -> str | None:
    """What to say of an error that means that memory ran out; None of any other."""
    told = str(error).partition("\n")[0]
    if isinstance(error, BrokenProcessPool):
        return of_killed()
    lacking = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if lacking or (isinstance(error, RuntimeError) and "can't allocate memory" in told):
        return f"memory ran out ({told or type(error).__name__}); {ADVICE}"
    return None


def _kills() -> int | None:
    """Processes that the kernel has ended for want of memory since it started; None where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None
