"""What this machine can do, and the numerics that follow from it. torch is loaded only to compute."""

import ctypes
import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlm import compiled, config
from mlm.errors import InputError

if TYPE_CHECKING:
    import torch


CPUINFO = Path("/proc/cpuinfo")


def processor() -> dict[str, str]:
    """What the system says of the first processor, in its own words; empty where it does not tell."""
    try:
        first = CPUINFO.read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    rows = (row.partition(":") for row in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in rows}


def cpu_flags() -> frozenset[str]:
    """Instruction set flags of the first processor."""
    told = processor()
    return frozenset(told.get("flags", told.get("Features", "")).split())  # as of x86, as of ARM


def cuda_build() -> bool:
    """Whether the installed torch was built for CUDA, read from its files without loading it."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b.*=\s*['\"]", text, re.MULTILINE) is not None


def cuda_devices() -> int:
    """Number of CUDA devices torch can use, asked of the driver, which is quicker than loading torch."""
    return len(_generations())


def cuda_bfloat16() -> bool:
    """Whether all CUDA devices multiply bfloat16 themselves: from compute capability 8 (Ampere) on."""
    return min(_generations(), default=0) >= 8


def _generations() -> tuple[int, ...]:
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return () if seen in ("", "-1") or not cuda_build() else _asked(seen)


@functools.cache
def _asked(_seen: str | None) -> tuple[int, ...]:
    """Each device's major compute capability by the driver, asked in a process apart.

    What a process sees is fixed when it first asks, and none that is forked from it can ask again.
    """
    done = subprocess.run([sys.executable, "-c", GENERATIONS], capture_output=True, text=True, check=False)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()


GENERATIONS = """
import ctypes
count, device, major, driver = *(ctypes.c_int(0) for _ in range(3)), ctypes.CDLL("libcuda.so.1")
failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
for number in range(0 if failed else count.value):
    failed = driver.cuDeviceGet(ctypes.byref(device), number)
    failed = failed or driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # COMPUTE_CAPABILITY_MAJOR
    print(0 if failed else major.value)
"""
"""A program that says the generation of each device that CUDA's driver sees, and fails where there is none."""


def detect(compile_steps: bool = True) -> config.Numerics:
    """bfloat16 where the hardware multiplies it faster: CUDA from Ampere on, or a CPU with AMX; else float32.

    Args:
        compile_steps: whether training steps are to be compiled where that is possible.
    """
    device: Literal["cuda", "cpu"] = "cuda" if cuda_devices() else "cpu"
    fast = cuda_bfloat16() if device == "cuda" else "amx_bf16" in cpu_flags()
    return completed(config.Numerics(device=device, dtype="bfloat16" if fast else "float32"), compile_steps)


def completed(
    stated: config.Numerics, compile_steps: bool, begun: config.Numerics | None = None
) -> config.Numerics:
    """Numerics with what they leave open: the path that this machine can go, on CUDA deterministic kernels.

    Args:
        compile_steps: whether training steps are to be compiled where that is possible.
        begun: what a study began with, and keeps, in the place of these.
    """
    cuda = stated.device == "cuda"
    compiles = compile_steps and compiled.missing(cuda) is None
    found: dict[str, Any] = {"path": "compiled" if compiles else "eager", "deterministic": cuda}
    if begun is not None:
        found = begun.model_dump(include=set(found))
    return stated.model_copy(update={k: v for k, v in found.items() if k not in stated.model_fields_set})


def told(numerics: config.Numerics, compile_steps: bool = True) -> str:
    """How a study computes, in words, and what this machine lacks for it to be faster.

    Args:
        compile_steps: whether training steps are to be compiled where that is possible.
    """
    told = f"Runs compute on {numerics.device} in {numerics.dtype}"
    if numerics.device == "cpu" and numerics.dtype == "float32" and "amx_bf16" not in cpu_flags():
        told += " (here is no AMX, with which bfloat16 would be faster)"
    if numerics.path == "compiled":
        return f"{told}, their steps compiled."
    lacking = compiled.missing(numerics.device == "cuda") if compile_steps else None
    return f"{told}, their steps not compiled{f' (here is no {lacking})' if lacking else ''}."


def check(numerics: config.Numerics, where: str) -> None:
    """Refuse to compute a study in other numerics than those it was begun with."""
    remedy = f"{where} fixes the numerics of this study; run it on such a machine, or begin another study"
    if numerics.device == "cuda" and not cuda_devices():
        raise InputError(f"the study was planned for CUDA, and no CUDA device is here; {remedy}")
    if numerics.device == "cuda" and numerics.dtype == "bfloat16" and not cuda_bfloat16():
        raise InputError(
            f"the study was planned for GPUs that compute in bfloat16, and this one does not; {remedy}"
        )
    amx = "amx_bf16" in cpu_flags()
    if numerics.device == "cpu" and numerics.dtype == "bfloat16" and not amx:
        raise InputError(f"the study was planned for a CPU with AMX, and this one has none; {remedy}")
    lacking = compiled.missing(numerics.device == "cuda")
    if numerics.path == "compiled" and lacking:
        raise InputError(f"the study was planned with compiled steps, and here is no {lacking}; {remedy}")


def prepare(numerics: config.Numerics) -> "tuple[torch.device, torch.dtype]":
    """Set up this process for computing, before torch is first imported."""
    _keep_memory()
    import torch

    torch.set_num_threads(1)
    if numerics.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at CUDA's first product
        torch.use_deterministic_algorithms(True)  # loads the compiler, which takes most of a second
    if numerics.device == "cuda":
        # cuDNN's attention, which torch prefers on some GPUs, makes a plan for every shape that is new, and the
        # last layer asks from as many positions as there are targets: another number almost every step.
        torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device(numerics.device), getattr(torch, numerics.dtype)


def _keep_memory() -> None:
    """Let glibc keep freed blocks: a step then causes no page faults and is 1.3 times as fast."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-2, 64 << 20)  # M_TOP_PAD
    except (OSError, AttributeError):
        pass  # not glibc: slower, the same bits
