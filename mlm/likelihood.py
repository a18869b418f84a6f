"""Sentences -> pseudo-log-likelihood of each word.

A masked language model gives no probability of a sentence; the sum of log P(token | the others), each
token masked in turn, ranks sentences in its place (Salazar et al. 2020, arXiv 1910.14659). Within a word
of several tokens the ones to the right are masked too, or they would give the token away and rare words
look likely: `word-l2r` of Kauf & Ivanova 2023 (arXiv 2305.10588).

A causal encoder does give one: each token from those to its left, the first from the [SEP] that ends what
was before it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from mlm import config
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.progress import Progress
from mlm.vocabulary import Tokenizer

TOKENS = 8192  # of a forward pass, padding included


def words_of(tokenizer: Tokenizer, ids: Sequence[int]) -> NDArray[np.int64]:
    """[tokens] number of the word that each token belongs to; punctuation goes with the word it touches."""
    begins = np.array([tokenizer.begins_word[token] for token in ids], np.int64)
    begins[:1] = 1
    return begins.cumsum() - 1


def pseudo_log_likelihoods(
    encoder: Encoder, tokenizer: Tokenizer, sentences: Sequence[str]
) -> list[list[float]]:
    """Log-probability in nats of each word of each sentence; a sentence's score is their sum.

    A special token ([UNK]) is seen as it is and never scored; a word of nothing else has 0 nats.
    Computed in float32 whatever the encoder was trained in: some pairs of sentences differ by less than
    bfloat16 rounds.

    Raises:
        InputError: a sentence has more tokens than the encoder has positions.
    """
    encoded = [tokenizer.encode(sentence) for sentence in sentences]
    limit = encoder.options.max_positions
    for sentence, one in zip(sentences, encoded, strict=True):
        if len(one) > limit:
            raise InputError(
                f"{sentence[:60]!r} … is {len(one)} tokens long, and the encoder has {limit} positions; "
                "shorten it or leave it out"
            )
    ids = _padded(encoded, config.PAD)
    words = _padded([words_of(tokenizer, one) for one in encoded], -1)
    sentence_of, at = np.nonzero((words >= 0) & (ids >= config.N_SPECIAL))
    trained_in, encoder.dtype = encoder.dtype, torch.float32
    try:
        score = _causal_scores if encoder.pattern.causal else _scores
        values = score(encoder, ids, words, sentence_of, at)
    finally:
        encoder.dtype = trained_in
    counts = words.max(1, initial=-1) + 1  # words a sentence
    starts = np.concatenate([[0], np.cumsum(counts)])
    flat = np.bincount(starts[sentence_of] + words[sentence_of, at], values, minlength=int(starts[-1]))
    return [flat[begin:end].tolist() for begin, end in pairwise(starts)]


@torch.no_grad()
def _scores(
    encoder: Encoder,
    ids: NDArray[np.int64],
    words: NDArray[np.int64],
    sentence_of: NDArray[np.int64],
    at: NDArray[np.int64],
) -> NDArray[np.float64]:
    """[copies] log-probability of each token ids[sentence_of, at], all copies in as few passes as fit.

    They are sorted by length, so that little is padded; what shares a batch changes a value by
    rounding alone.
    """
    lengths = (words >= 0).sum(1)[sentence_of]
    order = np.argsort(-lengths, kind="stable")  # descending: the first of a batch is the longest
    values = np.zeros(len(order))
    device, begin = encoder.embedding.device, 0
    progress = Progress("scoring sentences", len(order), "tokens")
    while begin < len(order):
        length = int(lengths[order[begin]])
        batch = order[begin : begin + max(1, TOKENS // length)]
        original, word = (array[sentence_of[batch], :length] for array in (ids, words))
        masked = np.where(masked_copies(word, at[batch]), config.MASK, original)
        visible = None if (word >= 0).all() else torch.from_numpy(word >= 0).to(device)
        places = torch.from_numpy(at[batch][:, None]).to(device)
        logits = encoder(torch.from_numpy(masked).to(device), at=places, visible=visible)[:, 0].float()
        target = torch.from_numpy(ids[sentence_of[batch], at[batch]]).to(device)
        values[batch] = -cross_entropy(logits, target, reduction="none").cpu().numpy()
        begin += len(batch)
        progress.add(len(batch))
    return values


@torch.no_grad()
def _causal_scores(
    encoder: Encoder,
    ids: NDArray[np.int64],
    words: NDArray[np.int64],
    sentence_of: NDArray[np.int64],
    at: NDArray[np.int64],
) -> NDArray[np.float64]:
    """[tokens] log-probability of each token ids[sentence_of, at] given those before it."""
    before = np.concatenate([np.full((len(ids), 1), config.SEP), ids[:, :-1]], 1)
    longest = int((words >= 0).sum(1).max(initial=1))
    rows = max(1, TOKENS // longest)
    device = encoder.embedding.device
    values = np.zeros_like(ids, np.float64)
    for begin in range(0, len(ids), rows):
        logits = encoder(torch.from_numpy(before[begin : begin + rows]).to(device)).float()
        target = torch.from_numpy(ids[begin : begin + rows]).to(device)
        values[begin : begin + rows] = -cross_entropy(logits.mT, target, reduction="none").cpu().numpy()
    scored: NDArray[np.float64] = values[sentence_of, at]
    return scored


def masked_copies(words: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[copies, length] what is masked where the token `at` is scored: it and the rest of its word.

    Args:
        words: [copies, length] number of each token's word, -1 at padding.
        at: [copies] scored position.
    """
    same_word: NDArray[np.bool_] = words == words[np.arange(len(at)), at][:, None]
    same_word &= np.arange(words.shape[1]) >= at[:, None]
    return same_word


def _padded(rows: Sequence[Sequence[int] | NDArray[np.int64]], padding: int) -> NDArray[np.int64]:
    """[rows, longest] with `padding` behind each row."""
    result = np.full((len(rows), max(map(len, rows), default=0)), padding, np.int64)
    for number, row in enumerate(rows):
        result[number, : len(row)] = row
    return result
