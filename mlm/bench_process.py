"""Contestants of the benchmark in processes of their own: one thread, one core, told when it is their turn.

A process each, kept alive between its turns: what one imports, compiles, caches or sets in the allocator
does not reach another, and none pays its start in its figures. All are pinned to the same core.
"""

import importlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlm import memory
from mlm.identity import python_path
from mlm.refusal import refusing

if TYPE_CHECKING:
    from mlm.bench_peers import Learner

READY_SECONDS = 600.0  # a cold compilation takes half a minute; ten of them is a process that hangs
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}


class Failed(Exception):
    """A contestant ended early or did not answer; says what it said last."""


def core() -> int | None:
    """The core that all contestants run on, or None where processes cannot be pinned."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


class Child:
    """A function in a process of its own.

    Args:
        target: `module:function`, called with a Channel and the options.
        log: file that takes everything it prints.
        pinned: whether it is held to the benchmark's core.
    """

    def __init__(self, target: str, log: Path, *, pinned: bool = True, **options: Any) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        told = {"target": target, "core": core() if pinned else None, "begun": time.monotonic()}
        threads: Mapping[str, str] = ONE_THREAD if pinned else {"WANDB_MODE": "disabled"}
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlm.bench_process", json.dumps({**told, "options": options})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env={**os.environ, **threads, "PYTHONPATH": python_path()},
            )

    def hear(self, seconds: float = READY_SECONDS) -> dict[str, Any]:
        """What it says next.

        Raises:
            Failed: it ended or said nothing for so many seconds.
        """
        assert self.process.stdout is not None
        there, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if there else b""
        if not line:
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            why = f"said nothing for {seconds:.0f} s" if not there else "ended early"
            raise Failed(f"{why}; its last line: {last[0]} ({self.log})")
        said: dict[str, Any] = json.loads(line)
        return said

    def warnings(self) -> list[str]:
        """What it has warned of, in lines that begin with `warning:`."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith("warning: ")]

    def ask(self, **message: Any) -> dict[str, Any]:
        """Tell it something and hear what it answers."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; hearing says why
        return self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def result(target: str, log: Path, *, pinned: bool = True, **options: Any) -> dict[str, Any]:
    """The one thing that a function in a process of its own has to say."""
    with Child(target, log, pinned=pinned, **options) as child:
        return child.hear()


class Channel:
    """The child's end. What libraries print goes to the log, not into the conversation."""

    def __init__(self, begun: float) -> None:
        self.begun = begun
        """When the parent started this process, as `time.monotonic` tells."""
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def say(self, content: dict[str, Any]) -> None:
        """Send a line to the parent."""
        self._out.write(json.dumps(content) + "\n")

    def hear(self) -> dict[str, Any]:
        """The parent's next message; without a parent the process ends."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        message: dict[str, Any] = json.loads(line)
        return message


class Pace:
    """Called after every step; lets the contestant train while it is its turn, and wait otherwise.

    A turn's first step is not counted: the others' turns have emptied the caches.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.seconds: float | None = None
        self.begun: float | None = None
        self.spent, self.busy, self.steps = 0.0, 0.0, 0

    def __call__(self, learner: "Learner") -> None:
        """After a step."""
        if self.seconds is None:  # the first of all: what is made lazily is made now
            self._wait({"parameters": learner.parameters, "attention": learner.attention})
            return
        if self.begun is None:
            self.spent, self.steps = clock(), 0
            self.begun, self.busy = time.perf_counter(), time.process_time()
            return
        self.steps += 1
        if time.perf_counter() - self.begun < self.seconds:
            return
        spent = clock() - self.spent
        wall, busy = time.perf_counter() - self.begun, time.process_time() - self.busy
        peak = memory.peak_bytes()
        said = {"seconds": spent, "cpu_share": busy / wall, "memory_bytes": peak}
        self._wait({"tokens": self.steps * learner.tokens, **said})

    def _wait(self, said: dict[str, Any]) -> None:
        self.channel.say(said)
        self.seconds, self.begun = float(self.channel.hear()["seconds"]), None


def clock() -> float:
    """Seconds of this process's CPU; of the wall where a GPU computes, which is waited for."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def train(channel: Channel, run: str, contestant: str, **options: Any) -> None:
    """A contestant, a turn at a time.

    Args:
        options: of the contestant.
    """
    from mlm.bench_peers import PEERS
    from mlm.runs import RunFolder

    PEERS[contestant].load()(RunFolder.open(Path(run)), Pace(channel), **options)


def main(told: dict[str, Any]) -> None:
    """Run a target in this process."""
    if told["core"] is not None:
        os.sched_setaffinity(0, {told["core"]})
    module, _, function = told["target"].partition(":")
    getattr(importlib.import_module(module), function)(Channel(told["begun"]), **told["options"])


if __name__ == "__main__":
    with refusing():
        main(json.loads(sys.argv[1]))
