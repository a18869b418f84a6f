"""Weights & Biases beside a run, in a process of its own: what happens to it there happens to no run.

The training process never loads wandb. Offline, the process writes the run's projection when the
run has ended, unless the pipeline does so later, for a whole experiment and with its measures; online,
it follows metrics.jsonl while the run trains.
"""

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import psutil

from mlm import logs, yaml_file
from mlm.errors import InputError
from mlm.experiment import Scale, Wandb
from mlm.identity import python_path
from mlm.layout import EXPERIMENTS, RESULTS
from mlm.runs import RunFolder

MODES = {"offline": "offline", "dryrun": "offline", "online": "online", "run": "online", "disabled": "disabled"}
"""W&B's modes and their older names."""
REMEDY = "the local files are complete; `python -m mlm sync` uploads what is missing"


def stated(scale: str | None) -> Wandb:
    """The `wandb:` section of a scale file; the defaults where there is none."""
    if scale is None or not (file := EXPERIMENTS / "scales" / f"{scale}.yaml").exists():
        return Wandb()
    return yaml_file.validated(Scale, yaml_file.read(file), str(file)).wandb


def environment(scale: str | None, given: Mapping[str, str]) -> dict[str, str]:
    """The given variables with W&B's filled in from the scale file's `wandb:`, where they are not set.

    What W&B writes lies inside the results and moves with them; what the user has set stays.

    Raises:
        InputError: WANDB_MODE is none of W&B's.
    """
    chosen = stated(scale)
    mode = given.get("WANDB_MODE", "").lower() or chosen.mode
    if mode not in MODES:
        raise InputError(
            f"WANDB_MODE: {given['WANDB_MODE']!r} is no mode; use one of offline, online, disabled"
        )
    root = RESULTS.resolve()
    clients = ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
    defaults = {
        "WANDB_PROJECT": chosen.project,
        **({"WANDB_ENTITY": chosen.entity} if chosen.entity else {}),
        "WANDB_DIR": str(root),
        **{f"WANDB_{name.upper()}_DIR": str(root / "wandb" / name) for name in ("data", "cache")},
        # W&B's own patience has no end: a dead server would keep its process for days.
        **{f"WANDB_X_{client}_RETRY_MAX": "20" for client in clients},
        **{f"WANDB_X_{client}_RETRY_WAIT_MAX_SECONDS": "10" for client in clients},
        "WANDB_INIT_TIMEOUT": "30",
        "WANDB_FINISH_TIMEOUT": "60",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    # Under these two, W&B writes the API key into its logs.
    kept = {key: value for key, value in given.items() if key not in ("WANDB_DEBUG", "WANDB_CORE_DEBUG")}
    return {**defaults, **kept, "WANDB_MODE": MODES[mode]}


def enter(scale: str | None, given: Mapping[str, str]) -> None:
    """Make this process's variables those of `environment`, and W&B's folder, unless it is disabled."""
    found = environment(scale, given)
    os.environ.clear()
    os.environ.update(found)
    if found["WANDB_MODE"] != "disabled":
        (Path(found["WANDB_DIR"]) / "wandb").mkdir(parents=True, exist_ok=True)
        keep_apart()


def keep_apart() -> None:
    """Give this process, before it loads wandb, a folder for passing files: W&B leaves some behind."""
    os.environ["TMPDIR"] = tempfile.tempdir = _passing()


@functools.cache
def _passing() -> str:
    """The folder, there until this process ends."""
    folder = tempfile.mkdtemp(prefix=_prefix(os.getpid()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _prefix(pid: int) -> str:
    """How the folder of a process is called. Its path must be short: W&B's socket lies there."""
    return f"w{pid}-"


def end_children(pid: int) -> None:
    """End all that a process has started: wandb's own service lives in a session of its own."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()


def leave(code: int) -> NoReturn:
    """End this process at once: at exit, wandb would wait for a server that is gone."""
    logs.end(code)
    sys.stdout.flush()
    sys.stderr.flush()
    end_children(os.getpid())
    if _passing.cache_info().currsize:
        shutil.rmtree(_passing(), ignore_errors=True)
    os._exit(code)


class Tracker:
    """The W&B process of one run.

    Args:
        offline_later: whether `sync --as-configured` writes the run where W&B is offline.
    """

    def __init__(self, run: RunFolder, offline_later: bool = False) -> None:
        self.run, self.offline_later = run, offline_later
        scale = run.labels[0][0] if run.labels else None
        self.environment, self.wait_seconds = environment(scale, os.environ), stated(scale).wait_seconds
        self.log = logs.FOLDER / "wandb" / f"{run.path.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Online, follow the run from now on; called when metrics.jsonl is what it will go on from."""
        if self.environment["WANDB_MODE"] == "online" and self._process is None:
            with contextlib.suppress(OSError):  # told when the run ends
                self._process = self._start()

    def end(self) -> str | None:
        """Let the process come to its end, for a bounded time; returns what went wrong, if anything did."""
        mode = self.environment["WANDB_MODE"]
        if mode == "disabled" or (mode == "offline" and self.offline_later):
            return None
        try:
            process = self._process or self._start()
        except OSError as error:
            return f"Weights & Biases: {error}; {REMEDY}"
        try:
            if process.wait(self.wait_seconds) == 0:
                return None
            told = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            problem = told[-1].removeprefix("error: ") if told else "ended early"
        except subprocess.TimeoutExpired:
            end_children(process.pid)
            process.kill()
            process.wait()
            for left in Path(tempfile.gettempdir()).glob(f"{_prefix(process.pid)}*"):
                shutil.rmtree(left, ignore_errors=True)
            problem = f"not done {self.wait_seconds:g} s after the run"
        return f"Weights & Biases: {problem}; {REMEDY}"

    def _start(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        Path(self.environment["WANDB_DIR"], "wandb").mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "mlm", "track", str(self.run.path), "--trainer", str(os.getpid())],
                env={
                    **self.environment,
                    "PYTHONPATH": python_path(),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the run's, not W&B's
            )
