"""(shard, seed, step) -> [CLS] A [SEP] B [SEP], and whether B follows A; a step number is all.

Next-sentence prediction (Devlin et al. 2018, arXiv 1810.04805): half of the time B is from another
document. Sentence order prediction (Lan et al. 2019, arXiv 1909.11942): half of the time A and B are
swapped. A sentence is a line, A and B are runs of whole lines.
"""

import functools
import sys
from array import array
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from mlm import config
from mlm.errors import InputError
from mlm.randomness import Purpose, generator
from mlm.shards import Shard

Relation = Literal["nsp", "sop"]
Whole = NDArray[np.int64]

SPECIAL = 3
"""[CLS] and two [SEP] a row."""
CANDIDATES = 8
"""Of an unrelated B: taken is the one most like the related B in size, lest lengths tell the label."""
TELL_SHARE = 0.05
"""Of the tokens: when more stand in documents of a single line, a person is told."""


class PairBatch(NamedTuple):
    """Rows of sentence pairs."""

    tokens: Int[Tensor, "rows length"]
    """int64: [CLS] A [SEP] B [SEP], then [PAD]."""
    segments: Int[Tensor, "rows length"]
    """int64: 0 up to and with the first [SEP], 1 up to and with the second, 0 at padding."""
    visible: Bool[Tensor, "rows length"]
    """False at padding."""
    related: Int[Tensor, " rows"]
    """int64: 1 where B follows A in the text, 0 where it is from another document or A and B are swapped."""


class _Chunks:
    """Documents of at least two lines, and how they are cut into chunks: runs of two lines and more.

    From any line a chunk takes in as many whole lines as fit, but two at least; what does not fit is
    cut off when a row is made of it. A line that is left alone at a document's end is a chunk with the
    line before it.
    """

    def __init__(self, shard: Shard, length: int, relation: Relation) -> None:
        problem = f"objective: {relation}: {shard.name}:"
        self.room = length - SPECIAL
        counts = np.diff(np.searchsorted(shard.lines, shard.offsets))
        used = counts > 1
        if not used.any():
            raise InputError(
                f"{problem} a corpus without sentence boundaries: none of its {len(counts)} documents has two "
                "lines; write a sentence a line, or choose another objective"
            )
        if relation == "nsp" and used.sum() < 2:
            raise InputError(
                f"{problem} only one document has two lines, and an unrelated B comes from another one; "
                "split the corpus into documents, or choose objective sop"
            )
        left_out = int(np.diff(shard.offsets)[~used].sum())
        if left_out > TELL_SHARE * len(shard.tokens):
            print(
                f"{problem} {left_out:,} of {len(shard.tokens):,} tokens stand in documents of a single line "
                "and take no part",
                file=sys.stderr,
            )
        self.tokens, self.relation = shard.tokens, relation
        in_use = np.repeat(used, counts)
        self.begins: Whole = shard.lines[in_use]
        """[lines] of every line in use."""
        self.ends: Whole = np.append(shard.lines[1:], len(shard.tokens))[in_use]
        """[lines] where lines end, the [SEP] behind a document left out."""
        self.last: Whole = np.cumsum(counts[used])
        """[documents] the line behind a document's last."""
        self.first: Whole = self.last - counts[used]
        self.ends[self.last - 1] -= 1
        lines = np.arange(len(self.begins))
        document_ends = np.repeat(self.last, counts[used])
        behind = np.maximum(self.fitting(lines, self.room), lines + 2)
        self.behind: Whole = np.minimum(behind, document_ends)
        """[lines] the line behind the chunk that begins with a line."""
        self.numbers: Whole = np.zeros_like(self.first)
        """[documents] chunks a document gives."""
        self.grid = self.cut(self.first)
        """[chunks, 2] first line of each chunk, and the line behind it, cut from where documents begin."""
        self.edges: Whole = np.searchsorted(self.grid[:, 0], np.append(self.first, len(lines)))
        """[documents + 1] the first chunk of each document, and their number."""
        self.numbers = np.diff(self.edges)

    def fitting(self, line: Whole, room: int | Whole) -> Whole:
        """The line behind the last one that ends within `room` tokens of a line's begin."""
        return np.searchsorted(self.ends, self.begins[line] + room, side="right")

    def cut(self, starts: Whole) -> Whole:
        """[chunks, 2] chunks of all documents, each cut from a line within its first chunk.

        A later start gives the same number of chunks or one less, since no chunk that begins later
        ends earlier. If it is one less, the lines before the start are a chunk too, so that every
        start gives the same number; else they are left out.
        """
        behind = self.behind.data  # indexing it gives Python's numbers, without a list of them all
        begins, ends = array("q"), array("q")
        documents = zip(*(x.tolist() for x in (self.first, starts, self.last, self.numbers)), strict=True)
        for first, start, last, number in documents:
            edges = [start]
            while edges[-1] < last:
                edges.append(behind[edges[-1]])
            if len(edges) <= number:
                edges.insert(0, first)
            begins.extend(edges[:-1])
            ends.extend(edges[1:])
        chunks = np.array([begins, ends]).T
        single = chunks[:, 1] - chunks[:, 0] == 1  # takes in a neighbour
        at_begin = np.isin(chunks[:, 0], self.first)
        chunks[:, 0] -= single & ~at_begin
        chunks[:, 1] += single & at_begin
        return chunks

    def draw_starts(self, draws: np.random.Generator) -> Whole:
        """[documents] a line of each document's first chunk; the first where that is the whole document."""
        behind = self.behind[self.first]
        return draws.integers(self.first, np.where(behind < self.last, behind, self.first + 1))

    def rows(self, chunks: Whole, draws: np.random.Generator) -> PairBatch:
        """Cut every chunk into two at a random line begin; half of them are changed.

        What is too long is cut by place, A at its begin and B at its end, whatever the label: what stands
        at the edges of a row tells nothing of it. Of an odd room, chance gives one more to A or to B.
        """
        first, behind = chunks.T
        seam = self.begins[draws.integers(first + 1, behind)]
        related = draws.permutation(len(chunks)) < np.floor(len(chunks) / 2 + draws.random())
        half = (self.room + draws.integers(2, size=len(chunks))) // 2
        before, after = (self.begins[first], seam), (seam, self.ends[behind - 1])
        kept = related if self.relation == "sop" else np.ones_like(related)
        (a_begin, a_end), (b_begin, b_end) = (
            [np.where(kept, x, y) for x, y in zip(*pair, strict=True)]
            for pair in ((before, after), (after, before))
        )
        a = np.minimum(a_end - a_begin, np.maximum(half, self.room - (b_end - b_begin)))
        b = np.minimum(b_end - b_begin, self.room - a)
        if self.relation == "nsp":
            other, size = self.unrelated(first, self.room - a, b_end - b_begin, draws)
            b_begin, b = np.where(related, b_begin, other), np.where(related, b, size)
            a = np.minimum(a_end - a_begin, self.room - b)  # grows into what an unrelated B leaves of its room
        return self.packed((a_end - a, b_begin), (a, b), related)

    def unrelated(
        self, line: Whole, room: Whole, whole_b: Whole, draws: np.random.Generator
    ) -> tuple[Whole, Whole]:
        """Begins and sizes of unrelated B: from a seam in a chunk of another document than that of `line`.

        They are drawn as a related B is, so that B alone tells nothing; of a few, the one most like the
        related B of `whole_b` tokens in size, cut off at `room` tokens only if that is too.
        """
        document = np.searchsorted(self.first, line, side="right") - 1
        own, size = self.edges[document, None], self.numbers[document, None]
        drawn = draws.integers(len(self.grid) - size, size=(len(line), CANDIDATES))
        drawn += np.where(drawn < own, 0, size)
        seam = draws.integers(self.grid[drawn, 0] + 1, self.grid[drawn, 1])
        room, whole_b = room[:, None], whole_b[:, None]
        cut, b = whole_b > room, np.minimum(whole_b, room)
        last = self.last[np.searchsorted(self.first, seam, side="right") - 1]
        fit = np.minimum(np.maximum(self.fitting(seam, room), seam + 1), last)
        wholes = self.ends[np.where(cut, last, fit) - 1] - self.begins[seam]
        sizes = np.minimum(wholes, room)
        unlike = np.where((wholes > room) & ~cut, self.room, np.abs(sizes - b))
        chosen = np.arange(len(line)), unlike.argmin(axis=1)
        return self.begins[seam[chosen]], sizes[chosen]

    def packed(self, begins: tuple[Whole, Whole], sizes: tuple[Whole, Whole], related: Whole) -> PairBatch:
        """[CLS] A [SEP] B [SEP] of stretches of the stream."""
        place = np.arange(self.room + SPECIAL)
        (a_begin, b_begin), (a, b) = ([x[:, None] for x in both] for both in (begins, sizes))
        visible = place < a + b + SPECIAL
        second = (place > a + 1) & visible
        separator = (place == a + 1) | (place == a + b + 2)
        index = np.where(second, b_begin + place - a - 2, a_begin + place - 1)
        text = visible & ~separator & (place > 0)
        tokens = np.where(text, self.tokens[np.where(text, index, 0)], config.PAD).astype(np.int64)
        tokens[separator] = config.SEP
        tokens[:, 0] = config.CLS
        arrays = tokens, second.astype(np.int64), visible, related.astype(np.int64)
        return PairBatch(*map(torch.from_numpy, arrays))


def check(shard: Shard, length: int, relation: Relation) -> None:
    """Refuse a split of which no pairs can be made.

    Raises:
        InputError: no document has two lines, or for NSP only one has.
    """
    _Chunks(shard, length, relation)


class PairBatches:
    """Sentence pairs of one split; every epoch cuts and shuffles anew, at random phases.

    In each epoch every document of at least two lines gives the same number of chunks. All its lines
    are in them, but for those before its phase (fewer than its first chunk has) where they would make
    one more. A batch may span two epochs; asking for step k needs nothing of the steps before it.

    Args:
        shard: one split.
        seed: decides phases, order, and what becomes of a row.
        batch_size: rows a batch; half of them are related, stochastically rounded.
        length: tokens a row, special tokens and padding included.
        relation: what unrelated rows are.

    Raises:
        InputError: the text has no two lines in a document, too few documents, or rows are too short.
    """

    def __init__(self, shard: Shard, seed: int, batch_size: int, length: int, relation: Relation) -> None:
        self._text = _Chunks(shard, length, relation)
        self.chunks = len(self._text.grid)
        """Rows an epoch."""
        self.seed, self.batch_size = seed, batch_size
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> Whole:
        draws = generator(self.seed, Purpose.SENTENCES, epoch, "epoch")
        return draws.permutation(self._text.cut(self._text.draw_starts(draws)))

    def __call__(self, step: int) -> PairBatch:
        """The rows of a step (counted from 0)."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, within = np.divmod(places, self.chunks)
        chunks = np.concatenate([self._epoch(int(e))[within[epochs == e]] for e in np.unique(epochs)])
        return self._text.rows(chunks, generator(self.seed, Purpose.SENTENCES, step, "step"))


def frozen(shard: Shard, length: int, relation: Relation, most: int) -> PairBatch:
    """Up to `most` rows spread evenly over a split, half of them related; always the same, for evaluation.

    Raises:
        InputError: as `PairBatches`.
    """
    text = _Chunks(shard, length, relation)
    there = len(text.grid)
    chosen = np.arange(min(most, there)) * there // min(most, there)
    return text.rows(text.grid[chosen], generator(0, Purpose.EVALUATION, name="sentence pairs"))
