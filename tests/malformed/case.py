"""A malformed input: how it comes about, which command meets it, and what must be said."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.malformed.commands import Told, typed


@dataclass(frozen=True)
class Case:
    """One entry of docs/refusals.md."""

    group: str
    """Kind of file."""
    what: str
    """The input, as the list shows it."""
    spoil: Callable[[Path], None]
    """Brings it about, in a place where all else is right."""
    words: tuple[str, ...]
    """The command that meets it; see `commands.typed`."""
    named: tuple[str, ...]
    """What its message must say: the file, and the key where there is one."""
    code: int = 2
    """Which the command ends with: 0 where the design is to go on without the file."""

    def met(self, place: Path) -> Told:
        """Spoil a place and run the command."""
        self.spoil(place)
        return typed(place, *self.words)


def written(name: str, content: bytes) -> Callable[[Path], None]:
    """Spoils by putting a content in the place of a file."""
    return partial(_write, name, content)


def _write(name: str, content: bytes, place: Path) -> None:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
