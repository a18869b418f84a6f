"""What commands are told to write: a file of its kind alone, so that a slip of the hand replaces no other."""

from collections.abc import Callable
from pathlib import Path

from mlm.errors import InputError


def ending(suffix: str) -> Callable[[Path | None], Path | None]:
    """For a parameter that names a file to write: its check, by how the name ends.

    >>> ending(".json")(Path("table.json")).name
    'table.json'

    Raises:
        InputError: by what it gives, if a name ends otherwise, or a folder has it.
    """

    def check(path: Path | None) -> Path | None:
        if path is None:
            return None
        if path.suffix != suffix:
            raise InputError(f"{path}: is to be written, and does not end in {suffix}; name another file")
        if path.is_dir():
            raise InputError(f"{path}: is a folder, and a file is to be written; give another name")
        return path

    return check
