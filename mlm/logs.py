"""A log a job: at its head what it runs on, then what it says, at its end how it ended. Loads no torch.

The pipeline names the file in a variable of the environment, so that every command keeps its log in the same
way: MLM_LOG=run.log python -m mlm train RUN. A job holds a lock on its log until it ends, however it ends.
"""

import contextlib
import datetime
import faulthandler
import fcntl
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

from mlm import memory
from mlm.layout import RESULTS

VARIABLE = "MLM_LOG"
FOLDER = RESULTS / "logs"
BEGUN, WELL, STOPPED, FAILED = "begun", "ended well", "stopped", "failed"
MARK = re.compile(rf"^=== ({BEGUN}|{WELL}|{STOPPED}|{FAILED}): ", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ASKED_TO = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""Signals that stop a job and are no failure of it."""
TAIL_BYTES = 2**16
SHOWN_ERRORS = 3


class _Log:
    """A log that is open. On a full disk it says so once and lets its job go on."""

    def __init__(self, path: Path) -> None:
        self.path, self.begun, self.process = path, time.monotonic(), os.getpid()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("ab", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_SH)  # shared: a run may have several processes
        self._whole = True

    def write(self, text: str) -> int:
        if self._whole:
            try:
                self.file.write(COLOUR.sub("", text).encode(errors="replace"))
            except OSError as error:
                self._whole = False
                print(f"warning: {self.path}: {error.strerror}; it lacks the rest", file=sys.__stderr__)
        return len(text)

    def flush(self) -> None:
        """Everything is in the file already."""

    def mark(self, word: str, told: str) -> None:
        self.write(f"=== {word}: {told}\n")


class _Both:
    """A stream of this process whose whole lines go to the log as well."""

    def __init__(self, stream: TextIO, log: _Log) -> None:
        self._stream, self._log, self._line = stream, log, ""

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        whole, end, self._line = (self._line + text).rpartition("\n")
        if end:
            self._log.write(whole + end)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_kept: _Log | None = None
"""This process's log."""


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep the log that the environment asks for, if it does, while this process does its work.

    What it starts keeps none. Of the processes that torchrun starts, the first says how they ended; the head
    is by the process that became torchrun.
    """
    global _kept
    path = os.environ.pop(VARIABLE, "")
    if not path:
        yield
        return
    try:
        log = _kept = _Log(Path(path))
    except OSError as error:
        print(f"warning: {path}: {error.strerror}; no log is kept", file=sys.stderr)
        yield
        return
    if "RANK" not in os.environ:
        from mlm import log_head

        log.mark(BEGUN, f"{now()}\n{log_head.text()}")
    faults = not faulthandler.is_enabled()
    if faults:
        faulthandler.enable(log.file)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Both(stream, log)) for stream in before)
    try:
        yield
    except SystemExit as left:
        end(left.code)
        raise
    except KeyboardInterrupt:
        end(128 + signal.SIGINT)
        raise
    except BaseException as error:
        log.write(traceback.format_exc())  # which Python prints for the person as this process ends
        log.write(f"error: {traceback.format_exception_only(error)[-1]}")
        end(1)
        raise
    else:
        end(0)
    finally:
        sys.stdout, sys.stderr = before
        if faults:
            faulthandler.disable()
        log.file.close()
        _kept = None


def end(status: object) -> None:
    """Note that this process ends now, with a status as `sys.exit` takes it."""
    if _kept is None or _kept.process != os.getpid():
        return
    number = status if isinstance(status, int) else int(status is not None)
    word = WELL if number == 0 else STOPPED if number - 128 in ASKED_TO else FAILED
    if word != FAILED and os.environ.get("RANK", "0") != "0":
        return
    peak = max(memory.peak_bytes(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    seconds = time.monotonic() - _kept.begun
    told = f"{now()}, after {seconds:.1f} s, with {peak / 2**20:,.0f} MiB of memory at most"
    _kept.mark(word, told + (f", status {number}" if number else ""))


def detail() -> TextIO | None:
    """A stream to this process's log alone, for what would be too much elsewhere; None where none is kept."""
    return cast(TextIO, _kept) if _kept else None


@contextlib.contextmanager
def handed_on() -> Iterator[None]:
    """Let the program that this process becomes within the block go on with its log, and keep the lock."""
    if _kept is None:
        yield
        return
    os.environ[VARIABLE] = str(_kept.path)
    os.set_inheritable(_kept.file.fileno(), True)
    try:
        yield
    finally:
        os.set_inheritable(_kept.file.fileno(), False)
        del os.environ[VARIABLE]


def append(path: Path, word: str, error: str = "") -> None:
    """Say in a log how its job ended, in the place of the job."""
    log = _Log(path)
    if error:
        log.write(f"error: {error}\n")
    log.mark(word, now())
    log.file.close()


class Told(NamedTuple):
    """What a log says of its job's newest start."""

    state: str
    """BEGUN where it does not say how it ended; empty where it is no job's log."""
    errors: list[str]
    """The last that were told."""


def read(path: Path) -> Told:
    """The end of a log."""
    try:
        with path.open("rb") as stream:
            first = stream.read(len(f"=== {BEGUN}: ")).decode(errors="replace")
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return Told("", [])
    begun = text.rfind(f"=== {BEGUN}: ")
    text = text[max(0, begun) :]
    words = MARK.findall(text) or MARK.findall(first)
    if not words:
        return Told("", [])
    errors = re.findall(r"^error: (.*)$", text, re.MULTILINE)[-SHOWN_ERRORS:]
    return Told(FAILED if FAILED in words else words[-1], errors)


def now() -> str:
    """Date and time."""
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
