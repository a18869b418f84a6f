"""Errors that a person can put right: told without a traceback, and exit code 2."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from mlm import memory
from mlm.errors import InputError
from mlm.files import told_if_full

REMEDIES: dict[type[Exception], str] = {
    IsADirectoryError: "a file belongs there: take the folder away",
    NotADirectoryError: "a folder belongs there: take the file away",
    FileExistsError: "take it away",
    FileNotFoundError: "restore it, or correct the name",
    PermissionError: "let this user read and write it",
}
OTHERWISE = "see to it that it can be read and written"


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """What is still to be said when the reader has left (`… | head`) is dropped, and nothing is said of it.

    The signal of it stays off: it would also end a process, and in silence, that writes to another one which
    was killed.
    """
    try:
        yield
    finally:
        try:
            print(end="", flush=True)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _uncompiled(error: Exception) -> str | None:
    """What to say of a C++ compiler that is there and fails, from torch's words; None of any other error."""
    rest = str(error).partition("C++ compile error\n")[2]
    if not rest:
        return None
    command, _, output = rest.partition("Command:\n")[2].partition("Output:\n")
    compiler = command.split(maxsplit=1)[0]
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it said nothing"]
    why = next((line for line in lines if "error" in line), lines[0])
    return (
        f"{compiler}: this C++ compiler does not compile training steps: {why}; put it right, name another in "
        "the environment variable CXX, or begin another study, with `compile: false` in its scale"
    )


@contextlib.contextmanager
def refusing(leave: Callable[[int], object] = sys.exit) -> Iterator[None]:
    """Tell bad input, a full disk and want of memory as what they are, and end with status 2.

    Args:
        leave: how the process ends.
    """
    try:
        with told_if_full():
            yield
    except InputError as error:
        problems = error.problems
    except (OSError, MemoryError, RuntimeError) as error:
        if told := memory.of_error(error) or _uncompiled(error):
            problems = (told,)
        elif isinstance(error, OSError) and error.filename is not None:
            problems = (f"{error.filename}: {error.strerror}; {REMEDIES.get(type(error), OTHERWISE)}",)
        else:
            raise  # not about a file
    else:
        return
    with contextlib.suppress(BrokenPipeError):  # nobody reads it
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr, flush=True)
    leave(2)
