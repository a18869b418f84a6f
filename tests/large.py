"""How a study of thousands of runs is planned, dry-run, told of and collected: seconds, and memory at the most.

`python -m tests.large` makes one of 2,000 runs in a temporary folder, whose results are made up in the form and
size of real ones, and prints what each command took; `… 500` one of 500. It computes no run.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from tests.pipeline.copies import Copy, copy_to

SEEDS = 20
SCALE = ["--config", "scale=large"]
BEFORE: dict[str, list[str]] = {
    "plan": [sys.executable, "-m", "mlm", "plan", "--scale", "large"],
    "dry run": ["snakemake", "--dry-run", "--quiet", *SCALE],
}
AFTER: dict[str, list[str]] = {
    "status": [sys.executable, "-m", "mlm", "status", "--scale", "large"],
    "collect": [sys.executable, "-m", "analysis", "collect", "large", "large"],
}


def study(folder: Path, arms: int) -> Copy:
    """A copy of the repository with an experiment of `arms` times SEEDS runs, `large`, and a scale for it."""
    copy = copy_to(folder)
    place = folder / "experiments"
    stated = yaml.safe_load((place / "split.yaml").read_text())
    shares = [round(i / arms, 3) for i in range(arms)]
    splits = {f"{mask}": {"mask": mask, "same": 0.0, "random": round(1 - mask, 3)} for mask in shares}
    names = list(splits)
    stated |= {
        "arms": {name: {"masking": {"split": split}} for name, split in splits.items()},
        "baseline": names[0],
        "seeds": SEEDS,
        "contrasts": {
            "primary": {"arm": names[-1], "expect": "differ"},
            "secondary": [{"arm": name, "expect": "differ"} for name in names[1:-1]],
        },
    }
    for key in ("tune", "pilot", "figures"):
        del stated[key]
    (place / "large.yaml").write_text(yaml.safe_dump(stated, sort_keys=False))
    scale = yaml.safe_load((place / "scales" / "laptop.yaml").read_text())
    scale["experiments"] = ["large"]
    (place / "scales" / "large.yaml").write_text(yaml.safe_dump(scale, sort_keys=False))
    return copy


def made_up(copy: Copy) -> None:
    """Let every run of `large` have ended, with results that are made up."""
    program = (
        "import sys; sys.path.insert(0, 'tests/analysis'); import synthetic_study; "
        "synthetic_study.write('large', ['large'], lines=73)"
    )
    copy.run(sys.executable, "-c", program)


def timed(copy: Copy, command: list[str]) -> tuple[float, float, float]:
    """Seconds, of the clock and of a core, and the megabytes that it or one of its children had at the most."""
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        done = copy.run(*command, ok=False)
        sys.stderr.write(done.stderr if done.returncode else "")
        os._exit(done.returncode)
    _, status, usage = os.wait4(child, 0)
    assert status == 0, command
    seconds = time.perf_counter() - started
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main(runs: int = 2000) -> dict[str, Any]:
    """Print what each command took, before the first run and after the last.

    Returns:
        What `collect` says of the runs.
    """
    with tempfile.TemporaryDirectory() as place:
        copy = study(Path(place) / "copy", runs // SEEDS)
        for name, command in BEFORE.items():
            told(name, *timed(copy, command))
        made_up(copy)
        for name, command in AFTER.items():
            told(name, *timed(copy, command))
        return json.loads((copy.folder / "results/large/tables/large/collected.json").read_text())["runs"]


def told(name: str, seconds: float, core_seconds: float, megabytes: float) -> None:
    """Print a line."""
    print(f"{name:8} {seconds:6.1f} s, {core_seconds:6.1f} s of a core, {megabytes:6.0f} MB", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
