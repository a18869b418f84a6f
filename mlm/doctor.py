"""What this machine can do for a study, and what is missing."""

import importlib.metadata
import shutil
import sys
from pathlib import Path

from rich.table import Table

from mlm import compiled, devices, machine

PACKAGES = ("torch", "numpy", "sentencepiece", "snakemake", "wandb", "pandas", "scipy", "matplotlib", "typst")
NEEDED_BYTES = 2 * 2**30


def examine() -> tuple[Table, bool]:
    """A table of findings, and whether a study can run here."""
    rows: list[tuple[bool | None, str, str]] = []  # None: works, but could be better
    rows.append((sys.version_info >= (3, 11), "Python", f"{sys.version.split()[0]}; 3.11 or newer is needed"))
    for package in PACKAGES:
        try:
            rows.append((True, package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((False, package, "missing; `make setup` installs it"))
    rows.append(
        (bool(shutil.which("git")) or None, "git", shutil.which("git") or "missing; commits go unrecorded")
    )
    here = machine.cores()
    rows.append((True, "processors", f"{here}; a run uses one, so as many runs train at once"))
    flags = devices.cpu_flags()
    amx = "amx_bf16" in flags
    better = (
        "bfloat16 with AMX" if amx else "float32: no AMX here, with which a run takes a quarter of the time"
    )
    rows.append((amx or None, "matrix unit", better))
    lacking = compiled.missing(bool(devices.cuda_devices()))
    compiling = "steps are compiled" if lacking is None else f"no {lacking}: steps are not compiled"
    rows.append((True if lacking is None else None, "compiler", compiling))
    count = devices.cuda_devices()
    rows.append(
        (
            True if count else None,
            "CUDA",
            f"{count} devices" if count else "no device that this torch can use; runs use the CPU",
        )
    )
    numerics = devices.detect()
    rows.append((True, "a study begun here", f"{numerics.device}, {numerics.dtype}, {numerics.path}"))
    free = shutil.disk_usage(Path.cwd()).free
    enough = free > NEEDED_BYTES
    rows.append((enough, "disk", f"{free / 2**30:.0f} GiB free; a laptop study takes under 2 GiB"))
    table = Table(title="doctor", title_justify="left", show_header=False)
    for good, what, finding in rows:
        sign = {True: "[green]yes[/]", False: "[bold red]no[/]", None: "[yellow]·[/]"}[good]
        table.add_row(sign, what, finding)
    return table, all(good is not False for good, _, _ in rows)
