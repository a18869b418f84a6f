"""A line now and then, with the time left, while something takes longer than five seconds."""

import sys
import time

EVERY_SECONDS = 5.0


class Progress:
    """Counts what is done and tells a person on standard error.

    >>> progress = Progress("encoding", total=200, unit="characters")
    >>> progress.add(100)  # says nothing within the first five seconds

    Args:
        what: what goes on.
        total: how much there is to do, or None where nobody knows.
        unit: of what is counted.
    """

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self._begun = self._said = time.monotonic()

    def add(self, amount: int) -> None:
        """Count some more."""
        self.done += amount
        now = time.monotonic()
        if now - self._said < EVERY_SECONDS:
            return
        self._said = now
        told = f"{self.what}: {self.done:,} {self.unit}"
        if self.total:
            left = round((now - self._begun) * (self.total - self.done) / max(self.done, 1))
            told += f" of {self.total:,}, about {left // 60}:{left % 60:02} left"
        print(told, file=sys.stderr, flush=True)
