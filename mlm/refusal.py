"""Errors that a person can put right: told without a traceback, and exit code 2."""

import contextlib
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
        if told := memory.of_error(error):
            problems = (told,)
        elif isinstance(error, OSError) and error.filename is not None:
            problems = (f"{error.filename}: {error.strerror}; {REMEDIES.get(type(error), OTHERWISE)}",)
        else:
            raise  # not about a file
    else:
        return
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr, flush=True)
    leave(2)
