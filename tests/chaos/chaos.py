"""Kills (-9) the pipeline and its children at random moments until it is through, however often that takes.

`make chaos` runs this: the tiny pipeline undisturbed, then again and again under fire until enough kills
were made; what each comes to must be the bits of the undisturbed one.
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, STDOUT

import psutil

from tests.chaos.tiny import finished, tiny
from tests.pipeline.copies import Copy

POLL_SECONDS = 0.05
JOBS = 20
"""Of the tiny pipeline."""
AIMS = ("everything", "everything", "snakemake", "snakemake", "job")
"""What is killed: make with all its children, Snakemake alone (its jobs live on), or one of the jobs."""


@dataclass
class Counts:
    """What happened to a pipeline under fire."""

    aims: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    """Commands that were at work when a kill came."""
    told: Counter[str] = field(default_factory=Counter)
    """What new starts said that they found."""
    starts: int = 0
    refused: int = 0
    """Second starts beside a live one, each of which said so and left."""

    @property
    def kills(self) -> int:
        return self.aims.total()

    def add(self, other: "Counts") -> None:
        for name in ("aims", "stages", "told"):
            getattr(self, name).update(getattr(other, name))
        self.starts += other.starts
        self.refused += other.refused


TOLD = {
    "a killed run left its lock behind": "stale lock removed",
    "a killed start left this at work": "orphan ended",
    "killed (signal 9)": "killed job told of",
}
"""What `make` says -> what that means."""


class Chaos:
    """A pipeline that is killed at random moments.

    Args:
        place: a copy of the repository to run in.
        seed: decides what is killed, and after how many jobs; the moments are the machine's.
        pace_seconds: how long a job takes here, about.
    """

    def __init__(self, place: Copy, seed: int, pace_seconds: float = 1.0) -> None:
        self.place, self.random, self.counts = place, random.Random(seed), Counts()
        self.pace_seconds = pace_seconds
        self._known: set[psutil.Process] = set()

    def run(self, kills: int) -> None:
        """Start the pipeline and kill it until there were enough kills or it is through; then let it end."""
        while self.counts.kills < kills:
            jobs = self.random.choice([0, 1, 1, 2, 3])
            aim = self.random.choice(AIMS) if jobs else "everything"
            delay = self.pace_seconds * self.random.uniform(0, 1.5 if jobs else 3)
            if not self.kill(aim, jobs, delay, beside=self.random.random() < 0.1):
                break
        last = self._start()
        self._see_through(last)

    def kill(self, aim: str, jobs: int, delay_seconds: float, beside: bool = False) -> bool:
        """Start the pipeline, and kill some time after it began so many jobs; False where it ended before.

        Args:
            aim: as in `AIMS`.
            jobs: of this start.
            delay_seconds: after the last of them has begun.
            beside: whether another start is tried before.
        """
        pipeline = self._start()
        seen: set[psutil.Process] = set()
        while len(seen) < jobs and pipeline.poll() is None:
            seen |= {one for one in _family(pipeline) if _stage(one) not in ("", "snakemake")}
            time.sleep(POLL_SECONDS)
        time.sleep(delay_seconds)
        if beside and any(_stage(one) == "snakemake" for one in _family(pipeline)):
            self._second_start()
        if not self._strike(pipeline, aim):
            self._see_through(pipeline)
            return False
        pipeline.wait()
        self._hear()
        return True

    def end(self) -> None:
        """Kill what is left of all that was started."""
        for process in {member for one in self._known for member in _family(one)}:
            with contextlib.suppress(psutil.Error):
                process.kill()

    @property
    def _log(self) -> Path:
        return self.place.folder / f"start-{self.counts.starts:03}.log"

    def _start(self) -> psutil.Popen:
        self.counts.starts += 1
        command = self.place.make("smoke", f"CORES={self.random.choice([1, 2, 3])}")
        folder, variables = self.place.folder, self.place.environment
        with self._log.open("w") as log:
            started = psutil.Popen(command, cwd=folder, env=variables, stdin=DEVNULL, stdout=log, stderr=STDOUT)
        self._known.add(started)
        return started

    def _see_through(self, pipeline: psutil.Popen) -> None:
        ended = pipeline.wait()
        self._hear()
        assert ended == 0, self._log.read_text()[-4000:]

    def _strike(self, pipeline: psutil.Popen, aim: str) -> bool:
        if pipeline.poll() is not None:
            return False
        for process in _family(pipeline):  # none can start another in between
            with contextlib.suppress(psutil.Error):
                process.suspend()
        stages = {process: _stage(process) for process in _family(pipeline)}
        self._known |= stages.keys()
        hit = [one for one, stage in stages.items() if aim in ("everything", stage)]
        at_work = [one for one, stage in stages.items() if stage not in ("", "snakemake")]
        if aim == "job" and at_work:
            hit = [self.random.choice(at_work)]
        for process in hit:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in stages:
            with contextlib.suppress(psutil.Error):
                process.resume()
        if hit:
            self.counts.aims[aim] += 1
            self.counts.stages.update({stage for stage in stages.values() if stage} or {"make"})
        return bool(hit)

    def _second_start(self) -> None:
        done = self.place.run(*self.place.make("smoke"), ok=False)
        assert done.returncode != 0, done.stdout[-4000:]
        assert "another snakemake is at work" in done.stderr, done.stderr[-4000:]
        self.counts.refused += 1

    def _hear(self) -> None:
        said = self._log.read_text(errors="replace")
        self.counts.told.update({told: said.count(words) for words, told in TOLD.items()})


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _stage(process: psutil.Process) -> str:
    """The command of this project that a process runs, `snakemake`, or nothing of these."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    if any(Path(word).name == "snakemake" for word in words[:2]):
        return "snakemake"
    if len(words) > 3 and words[1] == "-m" and words[2] in ("mlm", "analysis"):
        return " ".join([words[3], *(["--untrained"] if "--untrained" in words else [])])
    return ""


def main() -> None:
    """Rounds of chaos until there were enough kills; ends with status 1 where a bit differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="at least so many, over all rounds")
    parser.add_argument("--a-round", type=int, default=15, help="at most so many before it is left in peace")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    begun, total, rounds = time.monotonic(), Counts(), 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        calm = tiny(Path(folder) / "calm", every_stage=True)
        calm.run(*calm.make("smoke"))
        pace, expected = (time.monotonic() - begun) / JOBS, finished(calm)
        print(f"undisturbed: {time.monotonic() - begun:.0f} s, {len(expected)} files to compare", flush=True)
        while total.kills < told.kills:
            rounds += 1
            place = tiny(Path(folder) / f"round-{rounds}", every_stage=True)
            chaos = Chaos(place, told.seed + rounds, pace)
            try:
                chaos.run(min(told.a_round, told.kills - total.kills))
            finally:
                chaos.end()
            found, counts = finished(place), chaos.counts
            differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            total.add(counts)
            summary = (
                f"round {rounds}: {counts.kills} kills, {counts.starts} starts, {len(differing)} files differ"
            )
            print(f"{summary}, {time.monotonic() - begun:.0f} s", *differing, sep="\n  ", flush=True)
            if differing:
                sys.exit(1)
    print(
        f"{total.kills} kills in {rounds} rounds; each ended with the undisturbed run's {len(expected)} files"
    )
    shown = {"killed": total.aims, "at work when a kill came": total.stages, "told": total.told}
    for title, counter in shown.items():
        print(f"{title}: " + ", ".join(f"{name} {n}" for name, n in counter.most_common()))
    print(f"second starts beside a live one that said so and left: {total.refused}")


if __name__ == "__main__":
    main()
