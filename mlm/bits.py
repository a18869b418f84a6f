"""Bits per byte of a text: the one loss that compares across vocabularies, of causal runs alone.

Losses per token are of different events where vocabularies differ; the likelihood of one and the same text is
not. A causal encoder has it: the sum over all tokens of -log2 P(token | those before it). The text is the
beginning of the test split, in whole lines and as it was written, not as a vocabulary sees it. So what the
tokens do not tell of it is paid for as well, each part by a code that needs no model:

- A word whose characters do not come back from its tokens (it has an [UNK], or was normalised) is spelled: 8
  bits for each of its bytes, beside what its tokens cost.
- Where line ends are no tokens, blanks and line ends between two words are one blank to the tokens. What they
  were is told by n · H bits, H the entropy of the n stretches of them in this text. It is the same for all
  vocabularies that are trained here; a model of characters may pay less, since it may guess a line end from the
  words. A WordPiece begins a token at punctuation whether a blank stands before it or not: to it, nothing
  within a word is one more kind of stretch, and it pays more. Tokens for runs of blanks, as some vocabularies
  of Hugging Face's have them, are paid for beside the stretches.

Other ways to cut the text into pieces would add to its likelihood and are left out, as is usual (Cao & Rimell
2021, arXiv 2109.02550): what is told is an upper bound for every vocabulary but characters.

A [SEP] stands between documents and is paid for like any token. The one before the first is given, so that the
text's first token is predicted like that of any other document.

Windows have the run's own length and begin half of it apart; only what the window before did not have is
counted. Every token but those of the first window has half a window before it, or more. That is context in
tokens: larger pieces see more text, which is part of what a vocabulary is.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mlm import config, corpus, measures, objectives
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.evaluate import ROWS
from mlm.evaluate import measure as measure_batches
from mlm.experiment import BitsPerByte
from mlm.masking import KIND_NUMBERS, Corrupted
from mlm.vocabulary import Tokenizer

Parts = list[tuple[str, str]]
"""(document, part of its text)"""


def beginning(folder: Path, most: int) -> Parts:
    """The first lines of a prepared corpus's test split, up to so many bytes of UTF-8.

    Raises:
        InputError: they hold no text.
    """
    corpus.verify(folder)
    found: Parts = []
    left = most
    for document, text in corpus.read(folder, "test"):
        raw = text.encode()
        if len(raw) > left:
            raw = raw[: raw.rfind(b"\n", 0, left) + 1]
            found += [(document, raw.decode())] if raw else []
            break
        found.append((document, text))
        left -= len(raw)
    if not any(text.strip() for _, text in found):
        raise InputError(
            f"bits_per_byte.bytes: the first {most} of {folder}, test split, hold no whole line of text; "
            "give more"
        )
    return found


def encode(tokenizer: Tokenizer, parts: Parts) -> list[int]:
    """Tokens of the parts as they stand in a shard, with a [SEP] before every document."""
    tokens: list[int] = []
    previous = None
    for document, text in parts:
        tokens += [config.SEP] if document != previous else []
        tokens += tokenizer.encode(text)
        previous = document
    return tokens


def joins(tokenizer: Tokenizer, text: str) -> Iterator[tuple[str, int, int | None]]:
    """Each word, how often it is there, and before how many tokens within it a blank might stand.

    None if it does not come back from its tokens, whatever blanks a decoder sets between them.
    """
    words = Counter(text.split())
    for (word, count), ids in zip(words.items(), tokenizer.encode_words(list(words)), strict=True):
        comes_back = "".join(tokenizer.decode(ids).split()) == word
        yield word, count, sum(tokenizer.begins_word[i] for i in ids) - 1 if comes_back else None


def spelled(tokenizer: Tokenizer, text: str) -> int:
    """Bytes of the words that do not come back from their tokens."""
    return sum(count * len(word.encode()) for word, count, inner in joins(tokenizer, text) if inner is None)


def layout(tokenizer: Tokenizer, text: str) -> float:
    """Bits that tell what stands between the words, and where nothing does, where the tokens do not."""
    if tokenizer.keeps_line_ends:
        return 0.0
    runs = Counter(re.findall(r"\s+", text))
    if empty := sum(count * inner for _, count, inner in joins(tokenizer, text) if inner):
        runs[""] = empty
    return sum(count * math.log2(runs.total() / count) for count in runs.values())


def windows(tokens: list[int], length: int) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Windows that begin half their length apart, and which tokens count: each but the first, once.

    Args:
        length: of a window, in tokens, at least 2.

    Returns:
        seen: [rows, length] int64, the last row filled up with [PAD] on the right, which nothing sees;
        counted: [rows, length] bool.
    """
    step = length // 2
    rows = 1 + max(0, math.ceil((len(tokens) - length) / step))
    padded = torch.full(((rows - 1) * step + length,), config.PAD)
    padded[: len(tokens)] = torch.tensor(tokens)
    begins, within = step * torch.arange(rows)[:, None], torch.arange(length)
    new = within >= torch.where(begins == 0, 1, length - step)
    return padded[begins + within], new & (begins + within < len(tokens))


def nats(encoder: Encoder, tokens: list[int], length: int) -> float:
    """-log P of all tokens but the first, each given those before it in its window."""
    seen, counted = windows(tokens, length)
    kind = counted.to(torch.int8) * KIND_NUMBERS["same"]
    parts = (torch.split(part, ROWS) for part in (seen, counted, kind))
    batches = [
        objectives.batch(inputs, Corrupted(inputs, chosen, chosen, kinds), causal=True)
        for inputs, chosen, kinds in zip(*parts, strict=True)
    ]
    return float(measure_batches(encoder, batches)["loss_nats"]) * int(counted.sum())


def measure(
    encoder: Encoder, run: config.Run, tokenizer: Tokenizer, folder: Path, asked: BitsPerByte
) -> dict[str, Any]:
    """Bits per byte of the test split's first lines, with what was counted; of a masked run 0 bytes.

    Args:
        folder: of the prepared corpus.

    Returns:
        `values`, named as in `mlm.measures`; `references`, the part of the layout, in bits per byte; `counts`:
        bytes, tokens, [UNK]s among them, and bytes of words that had to be spelled.
    """
    if not run.causal:
        return {"values": {}, "counts": {"bytes": 0}}
    parts = beginning(folder, asked.bytes)
    text, tokens = "".join(part for _, part in parts), encode(tokenizer, parts)
    size, lost, gaps = len(text.encode()), spelled(tokenizer, text), layout(tokenizer, text)
    bits = nats(encoder, tokens, run.sequence_length) / math.log(2) + 8 * lost + gaps
    return {
        "values": {measures.BITS_PER_BYTE: bits / size},
        "references": {"layout": gaps / size},
        "counts": {
            "bytes": size,
            "tokens": len(tokens) - 1,
            "unknown_tokens": tokens.count(config.UNK),
            "spelled_bytes": lost,
        },
    }
