"""Where memory runs out, that is told, with what helps; also by the one that started who was killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from mlm import memory
from mlm.refusal import refusing
from tests.mlm.places import ROOT, environment

CGROUP = Path("/sys/fs/cgroup/memory")
GREEDY = "kept = []\nwhile True:\n    kept.append(b'x' * 2**20)"


@pytest.mark.parametrize(
    "ask",
    [lambda: torch.empty(10**15), lambda: np.ones(10**15), lambda: bytearray(10**16)],
    ids=["torch", "numpy", "python"],
)
def test_an_allocation_that_fails_is_told_with_what_helps(
    ask: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, refusing():
        ask()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: memory ran out (")
    assert "`make CORES=1`" in said
    assert "`micro_batch`" in said


def test_a_gpu_without_memory_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), refusing():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert capsys.readouterr().err.startswith("error: memory ran out (CUDA out of memory.")


def test_another_error_is_no_want_of_memory() -> None:
    with pytest.raises(RuntimeError, match="size"), refusing():
        torch.ones(2) + torch.ones(3)


POOL = """
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from mlm import __main__

def broken(arguments):
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        pool.submit(signal.raise_signal, signal.SIGKILL).result()

__main__.app = broken
for _ in range(20):  # each dies at another moment
    try:
        __main__.main([])
    except SystemExit:
        pass
"""


def test_who_writes_to_a_worker_that_was_killed_lives_to_tell(tmp_path: Path) -> None:
    """The signal of a pipe without a reader is not to end a command."""
    command = [sys.executable, "-c", POOL]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: killed (signal 9)") == 20


def test_a_killed_worker_of_a_pool_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), refusing(), ProcessPoolExecutor(1, get_context("fork")) as pool:
        pool.submit(signal.raise_signal, signal.SIGKILL).result()
    assert capsys.readouterr().err.startswith("error: killed (signal 9)")


@pytest.mark.parametrize(
    ("status", "before", "told"),
    [
        (137, 0, "killed (signal 9), and not by the kernel for want of memory, though a batch system"),
        (137, -1, "killed by the kernel: memory ran out; let fewer jobs run at once"),
        (137, None, "killed (signal 9); if nobody did it, memory ran out"),
        (2, -1, ""),
        (143, -1, ""),
    ],
)
def test_the_shell_of_a_killed_job_says_why(tmp_path: Path, status: int, before: int | None, told: str) -> None:
    now = memory._kills()
    if now is None:
        pytest.skip("this kernel does not count")
    variables = {} if before is None else {memory.MARK: str(now + before)}
    command = [sys.executable, "-m", "mlm.ended", str(status)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(**variables), capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert done.stderr.startswith(f"error: {told}") if told else not done.stderr


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group of 256 MB; what is too much for it is killed by the kernel."""
    group = CGROUP / f"mlm-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(256 * 2**20))
    except OSError:
        pytest.skip("no right to make a control group here")
    yield group
    group.rmdir()


def test_a_job_that_the_kernel_ends_is_told_as_such(small_memory: Path) -> None:
    into = f"{memory.MARKING}echo $$ > {small_memory}/cgroup.procs"
    within = f'{into}; $PYTHON -c "$GREEDY" || $PYTHON -m mlm.ended $?'
    variables = environment(GREEDY=GREEDY, PYTHON=sys.executable)
    command = ["bash", "-c", within]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == memory.KILLED, done.stderr
    assert "error: killed by the kernel: memory ran out; let fewer jobs run at once" in done.stderr
