"""What a job's log says at its head: what was asked for, with which code, on what. Loads no torch."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlm import machine
from mlm.layout import PUBLISHED

ROOT = Path(__file__).parent.parent
GPUS = Path("/proc/driver/nvidia/gpus")
PACKAGES = ("torch", "numpy", "sentencepiece", "safetensors", "pydantic")
"""Whose versions are told."""
SCALE = "MLM_SCALE"
"""Variable of the environment: the scale whose study a job is of."""
TOLD = {SCALE: "scale", "CUDA_VISIBLE_DEVICES": "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID": "Slurm job"}
"""Variables of the environment that are told where they are set."""


def text() -> str:
    """The head's lines, from the command to an empty one."""
    found = {"command": shlex.join(["python", *sys.orig_argv[1:]]), "versions": _versions(), "code": code()}
    found |= {"device": _device()}
    found |= {name: os.environ[key] for key, name in TOLD.items() if key in os.environ}
    return "".join(f"{name}: {told}\n" for name, told in found.items())


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide bits."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def git() -> dict[str, Any]:
    """Commit of the code, and whether the work tree differs from it; nulls outside a repository.

    A study that is published changes docs/results, of which no run is made.
    """

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = ask("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{PUBLISHED}")
    return {"commit": ask("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def code() -> str:
    """Digest of the source files, commit, and whether something has changed since."""
    found = git()
    commit = f", commit {found['commit'][:12]}" if found["commit"] else ""
    return f"source {_sources()}{commit}{', changed since' if found['dirty'] else ''}"


@functools.cache
def _sources() -> str:
    """Digest of the source files; unlike the digests that name runs, of every byte."""
    found = hashlib.sha256()
    for path in sorted(path for package in ("mlm", "analysis") for path in (ROOT / package).glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def _versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in versions().items())


def _device() -> str:
    """GPUs as the driver's files name them: to ask the driver would settle which ones this process sees."""
    models = []
    for path in sorted(GPUS.glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        models += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    gpus = [f"{models.count(model)} × {model}" for model in dict.fromkeys(models)]
    here = machine.record()
    kind = " ".join(f"{key} {here[key]}" for key in ("vendor", "family", "model") if here[key])
    cores, threads = machine.cores(), os.environ.get("OMP_NUM_THREADS", "not set")
    cpu = f"{cores} cores of {here['architecture']}, {kind}, OMP_NUM_THREADS {threads}"
    return "; ".join([*gpus, cpu, " ".join(here["flags"])])
