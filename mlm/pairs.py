"""Minimal pairs: how often a model finds the grammatical sentence of two the more likely one."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm import config, reach
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.grammar import Pair
from mlm.likelihood import pseudo_log_likelihoods
from mlm.vocabulary import Tokenizer

SHOWN = 5  # problems of one kind


def check(tokenizer: Tokenizer, pairs: Sequence[Pair]) -> None:
    """Refuse a sentence that the vocabulary cannot spell: its [UNK] would not be scored.

    Raises:
        InputError: names line and word.
    """
    words = sorted({word for pair in pairs for word in f"{pair.good} {pair.bad}".split()})
    encoded = zip(words, tokenizer.encode_words(words), strict=True)
    unspelled = {word for word, ids in encoded if config.UNK in ids or not ids}
    remedy = "leave the line out, or train the vocabulary on text that has these characters"
    problems = [
        f"{pair.where}: the vocabulary has no pieces for {word!r}; {remedy}"
        for pair in pairs
        for word in sorted(unspelled.intersection(f"{pair.good} {pair.bad}".split()))
    ]
    if problems:
        raise InputError(*problems[:SHOWN], *([f"{len(problems) - SHOWN} more"] if problems[SHOWN:] else []))


def accuracies(kinds: Sequence[str], good: NDArray[np.float64], bad: NDArray[np.float64]) -> dict[str, float]:
    """Share of pairs whose good sentence scores higher, in all and by kind; a tie counts half."""
    right = _right(good, bad)
    found = {"accuracy": float(right.mean())}
    for kind in dict.fromkeys(kinds):
        found[f"{kind}.accuracy"] = float(right[[k == kind for k in kinds]].mean())
    return found


def _right(good: NDArray[np.float64], bad: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(good == bad, 0.5, good > bad)


def log_frequencies(n_tokens: int, training_tokens: NDArray[Any]) -> NDArray[np.float64]:
    """[n_tokens] log-probability in nats of each token by itself, one occurrence added to each."""
    counts = 1.0 + reach.counts(training_tokens, n_tokens)
    result: NDArray[np.float64] = np.log(counts / counts.sum())
    return result


def measure(
    encoder: Encoder, tokenizer: Tokenizer, pairs: Sequence[Pair], training_tokens: NDArray[Any]
) -> dict[str, Any]:
    """Accuracy of a model's pseudo-log-likelihoods on minimal pairs.

    Args:
        training_tokens: [tokens] of the run's training split, for the unigram reference.

    Returns:
        `values` (accuracy overall and of each kind; `pairs.loss_nats`, minus the pseudo-log-likelihood
        of a word of the good sentences), `references` (a coin, and the sentences' sums of log token
        frequencies: the number only means something above those), `counts`, and `examples`: of each pair 1 if
        it is right, .5 for a tie, of 1.
    """
    check(tokenizer, pairs)
    kinds = [pair.kind for pair in pairs]
    sentences = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    words = pseudo_log_likelihoods(encoder, tokenizer, sentences)
    scores = np.array([sum(one) for one in words])
    by_token = log_frequencies(tokenizer.size, training_tokens)
    # Summed exactly: the same tokens in another order are a tie.
    unigram = np.array([math.fsum(by_token[tokenizer.encode(sentence)]) for sentence in sentences])
    good_words = sum(map(len, words[: len(pairs)]))
    values = {f"pairs.{name}": value for name, value in accuracies(kinds, *np.split(scores, 2)).items()}
    reference = accuracies(kinds, *np.split(unigram, 2))
    return {
        "values": values | {"pairs.loss_nats": float(-scores[: len(pairs)].sum() / good_words)},
        "references": {"chance.accuracy": 0.5} | {f"unigram.{n}": value for n, value in reference.items()},
        "counts": {"pairs": len(pairs), "good_words": good_words}
        | {f"{kind}.pairs": count for kind, count in Counter(kinds).items()},
        "examples": {
            "pairs.accuracy": {
                "right": " ".join(f"{one:g}" for one in _right(*np.split(scores, 2))),
                "of": " ".join("1" for _ in pairs),
            }
        },
    }
