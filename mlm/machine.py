"""Which type of processor this is, as far as the bits of a run depend on it. Loads no torch."""

import platform
from pathlib import Path
from typing import Any

from mlm import devices

SHOWN = {"vendor_id": "vendor", "cpu family": "family", "model": "model"}
"""Lines of /proc/cpuinfo that say for which processor libraries choose their code."""
KERNELS = ("avx", "fma", "amx", "f16c", "asimd", "sve", "bf16")
"""Beginnings of the flags of instructions that kernels of matrix products and vectors are chosen by."""


def record() -> dict[str, Any]:
    """Architecture, processor, and the instructions that matter.

    Two machines with the same record, the same versions and the same numerics give the same bits.
    """
    found = dict.fromkeys(SHOWN.values(), "")
    for line in _first_processor():
        key, _, value = line.partition(":")
        if key.strip() in SHOWN:
            found[SHOWN[key.strip()]] = value.strip()
    flags = sorted(flag for flag in devices.cpu_flags() if flag.startswith(KERNELS))
    return {"architecture": platform.machine(), **found, "flags": flags}


def _first_processor() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return []
