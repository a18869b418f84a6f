"""Files that are whole or absent, and whose damage is noticed."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from mlm.errors import Damaged


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """The whole file or none of it, also when the machine stops in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, keys in the order given; refuses NaN, which JSON does not have."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text)


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file this project wrote; `remedy` says how to get it back."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; {remedy}") from None
    except (ValueError, OSError) as error:
        raise Damaged(f"{path}: damaged ({error}); {remedy}") from None
