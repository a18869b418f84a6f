"""metrics.jsonl, the source of truth of what happened during a run: one JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlm.errors import Damaged
from mlm.files import Stream, write_atomically


class MetricsLog:
    """Appends records, each at once, so that nothing said is lost with the process.

    Args:
        path: the file; lines behind step `after` (and a torn last line) are dropped, so that after
            a resume the file has no gap and no repeat.
    """

    def __init__(self, path: Path, after: int) -> None:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        kept = []
        for line in lines:
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > after:
                    break
            except (ValueError, KeyError, TypeError):
                break
            kept.append(line)
        if after and (not kept or json.loads(kept[-1])["step"] != after):
            raise Damaged(
                f"{path}: ends before the checkpoint at step {after}; delete the run's folder to train it anew"
            )
        # From the very beginning, a run also says its first evaluation again.
        write_atomically(path, b"".join(kept) if after else b"")
        self._stream = Stream(path, append=True)

    def append(self, record: dict[str, Any]) -> None:
        """Write one record; numbers must be finite."""
        self._stream.write((json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode())

    def sync(self) -> None:
        """Make what was said durable; a checkpoint must not know more than this file."""
        self._stream.sync()

    def close(self) -> None:
        """Make the file durable and end."""
        self._stream.close()


def read(path: Path, growing: bool = False) -> Iterator[dict[str, Any]]:
    """The records of a run's file; while it is `growing`, a last line that is not whole is left out.

    Raises:
        Damaged: a line is torn or is no JSON object.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)  # of text, it would cut at U+2028 and its like
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error}); delete the run's folder to train it anew") from None
    if growing and lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise Damaged(f"{path}, line {number}: torn or damaged; delete the run's folder to train it anew")
        yield record
