"""What commands are told to write: a file of its kind alone, so that a slip of the hand replaces no other."""

from collections.abc import Callable
from pathlib import Path

from mlm.errors import InputError


def ending(suffix: str, *others: str) -> Callable[[Path | None], Path | None]:
    """For a parameter that names a file to write: its check, by how the name ends.

    >>> ending(".json")(Path("table.json")).name
    'table.json'

    Raises:
        InputError: by what it gives, if a name ends otherwise, or a folder has it.
    """
    wanted = " or ".join((suffix, *others))

    def check(path: Path | None) -> Path | None:
        if path is None:
            return None
        if path.suffix not in (suffix, *others):
            there = ", and is there already" if path.exists() else ""
            raise InputError(f"{path}: is to be written, does not end in {wanted}{there}; give it such a name")
        if path.is_dir():
            raise InputError(f"{path}: is a folder, and a file is to be written; give another name")
        return path

    return check
