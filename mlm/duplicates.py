"""Text that stands on both sides of a split is taken out of the training side.

The rule of Brown et al. 2020 (arXiv 2005.14165, appendix C), with lines in place of 200 characters
around a collision: words are runs of letters and digits in lower case; every line of the training text
that takes part in a run of 13 words which a held-out document has too is removed, and so is a line of 8
to 12 words that is a line of a held-out document. Runs cross lines, but no border of the parts in which
a corpus is stored. Time grows with the text, memory with the held-out text alone.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator

RUN_WORDS = 13
SHORTEST_WORDS = 8


def fingerprint(text: str) -> bytes:
    """Eight bytes that stand for a text where millions are remembered.

    Ten million distinct texts share one with a probability of 3 in a million.
    """
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


class HeldOut:
    """The runs of words of the held-out texts.

    >>> held_out = HeldOut(["It was the best of times, it was the worst of times, it was the age"])
    >>> held_out.without("Here it comes: it was the best of times, it was the WORST of times, it was.")
    ('', 1)
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.runs = {run for text in texts for run, _ in _runs(text.split("\n"))}

    def without(self, text: str) -> tuple[str, int]:
        """A part of a training text without its lines that are held out, and how many those were."""
        lines = text.split("\n")
        shared = {number for run, numbers in _runs(lines) if run in self.runs for number in numbers}
        if not shared:
            return text, 0
        kept = "\n".join(line for number, line in enumerate(lines) if number not in shared)
        return (kept if kept.strip() else ""), len(shared)


def _runs(lines: list[str]) -> Iterator[tuple[bytes, range]]:
    """(fingerprint of a run of words, numbers of the lines that it touches)"""
    words: list[str] = []
    line_of: list[int] = []
    for number, line in enumerate(lines):
        mine = re.findall(r"[^\W_]+", line.lower())
        if SHORTEST_WORDS <= len(mine) < RUN_WORDS:
            yield fingerprint(" ".join(mine)), range(number, number + 1)
        words += mine
        line_of += [number] * len(mine)
    for first in range(len(words) - RUN_WORDS + 1):
        last = first + RUN_WORDS - 1
        yield fingerprint(" ".join(words[first : last + 1])), range(line_of[first], line_of[last] + 1)
