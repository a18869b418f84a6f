"""How much memory a process took, and what is told where it ran out: that it did, and what helps."""

import contextlib
import errno
import os
import resource
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

MARK = "MLM_OOM_KILLS"
"""Variable of the environment: how many processes the kernel had ended for want of memory at a job's start."""
MARKING = f"export {MARK}=$(sed -n 's/^oom_kill //p' /proc/vmstat 2>/dev/null); "
"""What the shell of a job begins with, so that `of_killed` can tell whether the kernel has ended it."""
ADVICE = (
    "let fewer jobs run at once (`make CORES=1`), or lower `micro_batch` in the scale or the experiment: "
    "the sequences that are computed at once, of the same batch"
)
KILLED = 128 + 9


def peak_bytes() -> int:
    """Resident memory of this process at the most.

    `ru_maxrss` would be that of its parent where that was larger: it outlives `exec` on Linux.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def of_killed() -> str:
    """What to say of a job that was ended by SIGKILL, which cannot say anything itself."""
    now, before = _kills(), os.environ.get(MARK)
    if now is None or not before:
        return f"killed (signal 9); if nobody did it, memory ran out: {ADVICE}"
    if now > int(before):
        return f"killed by the kernel: memory ran out; {ADVICE}"
    return (
        "killed (signal 9), and not by the kernel for want of memory, though a batch system or a daemon "
        "may have done it for that; the same command goes on"
    )


def of_error(error: BaseException) -> str | None:
    """What to say of an error that means that memory ran out; None of any other."""
    told = str(error).partition("\n")[0]
    if isinstance(error, BrokenProcessPool):
        return of_killed()
    lacking = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    # As torch says it of main memory, and of a GPU's.
    if lacking or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in told or "out of memory" in told)
    ):
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
