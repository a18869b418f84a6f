"""Files that are whole or absent, and whose damage is noticed."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mlm.errors import Damaged, DiskFull, InputError

Row = TypeVar("Row")
os.umask(_umask := os.umask(0o077))  # is only told when it is set
MODE = 0o666 & ~_umask
"""Of files that are written, as the user would have any."""
PARTIAL = ".partial"
"""Ends the name of a file that is not whole yet; one that a killed writer left is not read by anything."""


REWRITTEN = "name another, or, if a job of the pipeline wrote it, delete it and run again"
"""What is to be done about a damaged file that may be the user's own."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """The whole file or none of it, also when the machine stops in the middle.

    Raises:
        DiskFull: there is no room for it; what was there before stays.
    """
    raw = content.encode() if isinstance(content, str) else content
    with told_if_full(path, len(raw)):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(raw)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(MODE)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], header: Mapping[str, Any]) -> None:
    """Rows as lines of JSON, behind a line that says the header and their SHA-256."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    told = {**header, "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    write_atomically(path, json.dumps(told) + "\n" + lines)


def read_rows(path: Path, make: Callable[..., Row], remedy: str) -> list[Row]:
    """What `write_rows` wrote, each row made of its values by name.

    Args:
        remedy: what is to be done where there is no such file.

    Raises:
        InputError: there is none.
        Damaged: it is not what was written.
    """
    try:
        header, _, lines = path.read_bytes().partition(b"\n")
        if json.loads(header)["sha256"] != hashlib.sha256(lines).hexdigest():
            raise Damaged(f"{path}: truncated or altered; {REWRITTEN}")
        return [make(**json.loads(line)) for line in lines.splitlines()]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{path}: damaged ({error}); {REWRITTEN}") from None


def sealed(content: bytes) -> bytes:
    """The content behind its SHA-256: what covers it is in the same file, which one rename puts in place."""
    return hashlib.sha256(content).digest() + content


def unsealed(raw: bytes) -> bytes | None:
    """The content of what `sealed` made; None if a bit of it has changed."""
    content = raw[32:]
    return content if hashlib.sha256(content).digest() == raw[:32] else None


class Stream:
    """A file that is written piece by piece, each of which is in it when `write` returns.

    Raises:
        DiskFull: there is no room for the next piece.
    """

    def __init__(self, path: Path, append: bool = False) -> None:
        self.path = path
        with told_if_full(path):
            self._file = path.open("ab" if append else "wb", buffering=0)

    def write(self, content: bytes) -> None:
        left = memoryview(content)
        with told_if_full(self.path, len(left)):
            while left:  # a disk that is almost full takes a part
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Return when the disk has what was written."""
        with told_if_full(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self.sync()
        self._file.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


@contextlib.contextmanager
def told_if_full(path: Path | None = None, needed_bytes: int | None = None) -> Iterator[None]:
    """Tell a full disk, or a quota that is used up, by the path that was written and by what it needs.

    Args:
        path: what is written; without, it is what the system's error names.
        needed_bytes: how much of it was to be written, if that is known.

    Raises:
        DiskFull: in the place of the system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _full(path or Path(error.filename or "."), needed_bytes, error.errno) from None


def check_room(path: Path, needed_bytes: int) -> None:
    """Refuse where a disk has less room than what is about to be written in pieces, or by others.

    Raises:
        DiskFull: so it is.
    """
    disk = _disk(path)
    if disk.f_bavail * disk.f_frsize < needed_bytes:
        raise _full(path, needed_bytes, errno.ENOSPC)


def _disk(path: Path) -> os.statvfs_result:
    return os.statvfs(next(one for one in path.absolute().parents if one.exists()))


def _full(path: Path, needed_bytes: int | None, reason: int) -> DiskFull:
    disk = _disk(path)
    room = f"{disk.f_bavail * disk.f_frsize:,} bytes free"
    if disk.f_files and not disk.f_favail:
        room += ", and no further file can be made"
    need = "more" if needed_bytes is None else f"{needed_bytes:,} bytes"
    return DiskFull(
        f"{path}: {os.strerror(reason)}: {need} needed, {room}; make room, and the same command goes on"
    )


def lock_of(folder: Path) -> Path:
    """The lock that whoever writes a folder as a whole holds; it lies beside it."""
    whole = folder.absolute()
    return whole.with_name(f"{whole.name}.lock")


def clear_partial(folder: Path, seconds: float = 0.0) -> None:
    """Remove what killed writers left in a folder and below, if it is older than some seconds.

    Within them, nothing may be writing there.
    """
    for left in folder.rglob(f".*{PARTIAL}"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime >= seconds:
                left.unlink()


def json_text(content: Any) -> str:
    """Readable JSON, keys in the order given; refuses NaN, which JSON does not have."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write `json_text` atomically."""
    write_atomically(path, json_text(content))


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file this project wrote; `remedy` says how to get it back."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; {remedy}") from None
    except (ValueError, OSError) as error:
        raise Damaged(f"{path}: damaged ({error}); {remedy}") from None


def is_locked(path: Path) -> bool:
    """Whether a live process holds a lock file."""
    if not path.exists():
        return False
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; waits for another holder, and is released however this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
