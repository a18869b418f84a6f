"""Commands in processes of their own that begin with their imports done: each is forked from one that has them.

Importing torch takes three seconds of a core, and most commands that tests give take one. What is forked is a
process that has imported and done nothing else; where, with which variables and words a command runs, what it
says and how it ends are its own. Not so what Python settles when it starts, as the seed of its hashes: commands
that are to differ in that, or by what they import, are started by themselves.
"""

import atexit
import importlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

from tests import PATIENCE_SECONDS

IMPORTED = ("torch", "mlm.__main__", "mlm.single", "mlm.measuring", "analysis.__main__", "pandas")
SETTLED = ("PYTHONHASHSEED", "TZ", "LC_ALL", "OMP_NUM_THREADS")
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.forked", *IMPORTED])


def start(
    module: str, words: Sequence[str], folder: Path, variables: Mapping[str, str], said: Path | None = None
) -> ForkServerProcess:
    """`python -m MODULE WORDS` in a folder, with these variables of the environment.

    Args:
        module: `mlm`, `analysis`, or a module of theirs.
        words: what follows.
        folder: where.
        variables: all there are.
        said: a folder for what it prints, as files `out` and `err`; the first is lost without it.
    """
    late = [name for name in SETTLED if variables.get(name) not in (None, os.environ.get(name))]
    assert not late, f"{late} cannot be set for a process that is forked"
    told = (module, list(words), folder, dict(variables), said)
    process = _forks.Process(target=_begin, args=told)
    # What is forked is started at the first time, wherever a test is then, and imports what it finds.
    with mock.patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1])):
        process.start()
    return process


def run(
    module: str, words: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """The same, to its end; what it said as text."""
    command = [sys.executable, "-m", module, *words]
    with tempfile.TemporaryDirectory() as kept:
        process = start(module, words, folder, variables, Path(kept))
        process.join(PATIENCE_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, PATIENCE_SECONDS)
        out, err = (Path(kept, name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(command, process.exitcode, out, err)


def _begin(module: str, words: list[str], folder: Path, variables: dict[str, str], said: Path | None) -> None:
    for number, file in ((1, said / "out"), (2, said / "err")) if said else ((1, os.devnull),):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = [module, *words]
    importlib.reload(sys.modules["mlm"])  # it sets variables of its own
    sys.modules.pop(f"{module}.__main__", None)  # to be run as the one that is started
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
