"""Which type of processor this is, as far as the bits of a run depend on it, and its cores. Loads no torch."""

import os
import platform
from typing import Any

from mlm import devices

SHOWN = {
    **{"vendor_id": "vendor", "cpu family": "family", "model": "model"},  # x86
    **{"CPU implementer": "vendor", "CPU variant": "family", "CPU part": "model"},  # ARM
}
"""Lines of /proc/cpuinfo that say for which processor libraries choose their code."""
KERNELS = ("avx", "fma", "amx", "f16c", "asimd", "sve", "bf16")
"""Beginnings of the flags of instructions that kernels of matrix products and vectors are chosen by."""


def cores() -> int:
    """How many cores this process may use: fewer than the machine has within a cluster's job."""
    return len(os.sched_getaffinity(0))


def record() -> dict[str, Any]:
    """Architecture, processor, and the instructions that matter.

    Two machines with the same record, the same versions and the same numerics give the same bits on a CPU; on
    CUDA they need the same type of GPU as well.
    """
    found = dict.fromkeys(SHOWN.values(), "")
    found |= {SHOWN[key]: value for key, value in devices.processor().items() if key in SHOWN}
    flags = sorted(flag for flag in devices.cpu_flags() if flag.startswith(KERNELS))
    return {"architecture": platform.machine(), **found, "flags": flags}
