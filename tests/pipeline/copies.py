"""A copy of the repository, and ways to run commands in it as a person would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCALE = ["--config", "scale=smoke"]


@dataclass(frozen=True)
class Copy:
    """A working copy of the repository."""

    folder: Path
    scale: str = "smoke"
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment, beside those of this process."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "SNAKEMAKE_", "MAKE", "MFLAGS"))
        }
        kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        # Archives are fetched from the registries once and then kept, verified at each use.
        kept.setdefault("MLM_ARCHIVES", str(ROOT / ".cache" / "archives"))
        return {**kept, **self.variables}

    def run(self, *command: str, ok: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command,
            check=False,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert not ok or done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def snakemake(self, *arguments: str, cores: str = "all", ok: bool = True) -> str:
        done = self.run("snakemake", "--cores", cores, *arguments, "--config", f"scale={self.scale}", ok=ok)
        return done.stdout + done.stderr

    def make(self, target: str, *settings: str) -> list[str]:
        """`make` as the README says it, in the environment that runs the tests, which is left as it is."""
        return ["make", target, f"VENV={sys.prefix}", "--old-file=requirements.lock", *settings]


def copy_to(folder: Path) -> Copy:
    """The files that git knows of (or would), with their times, so that nothing is installed again."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    return Copy(folder)


# What must be the same bits whenever and wherever the pipeline runs, the table and the figure of seconds apart.
RESULTS = ("results/smoke/tables", "results/smoke/figures", "results/smoke/numbers.json", "results/smoke/paper")


def results(copy: Copy) -> dict[str, bytes]:
    """Every compared file of a finished pipeline."""
    found: dict[str, bytes] = {}
    for place in RESULTS:
        top = copy.folder / place
        for path in [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file()):
            if path.stem != "seconds":
                found[str(path.relative_to(copy.folder))] = path.read_bytes()
    for path in sorted((copy.folder / "results" / "runs").glob("*/weights.safetensors")):
        found[str(path.relative_to(copy.folder))] = path.read_bytes()
    return found
