"""A sentence's class from frozen features: what a model's representations tell a linear classifier.

A sentence's feature is the mean over its tokens' hidden states; no [MASK] stands in the input. Features
and classifier are those of `probe`, for which such a sentence is one long word.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm import config
from mlm.encoder import Encoder
from mlm.probe import Encoded, Labels, classify, features
from mlm.tasks import Example, words
from mlm.vocabulary import Tokenizer


class Part(NamedTuple):
    """The sentences that are learnt from, or those that are asked."""

    texts: list[str]
    classes: Labels
    """[sentences] class numbers; -1 where no training sentence has the class: always an error."""


def parts(examples: Sequence[Example]) -> tuple[Part, Part, int]:
    """Training sentences, held-out sentences, number of classes."""
    classes = sorted({e.label for e in examples if not e.held_out})
    number = {label: i for i, label in enumerate(classes)}

    def part(held_out: bool) -> Part:
        chosen = [e for e in examples if e.held_out == held_out]
        return Part([e.text for e in chosen], np.array([number.get(e.label, -1) for e in chosen], np.int64))

    return part(False), part(True), len(classes)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each sentence; one without any piece becomes [UNK]."""
    return [tokenizer.encode(text) or [config.UNK] for text in texts]


def sentence_features(encoder: Encoder, tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.float32]:
    """[sentences, (layers + 1) · width] mean states; what the encoder has no positions for is cut."""
    encoded = [Encoded(ids, [0] * len(ids)) for ids in encode(tokenizer, texts)]
    return features(encoder, encoded, [1] * len(encoded))


def naive_bayes(train: Part, n_classes: int, asked: Sequence[str]) -> Labels:
    """Classes from the set of words in a sentence (Jurafsky & Martin, Speech and Language Processing, §4.4).

    Word probabilities have one occurrence added; words that were never learnt from are passed over.
    """
    sets = [set(words(text)) for text in train.texts]
    column = {word: i for i, word in enumerate(sorted(set().union(*sets)))}
    counts = np.ones((len(column), n_classes))
    for found, label in zip(sets, train.classes, strict=True):
        counts[[column[word] for word in sorted(found)], label] += 1
    logs = np.log(counts / counts.sum(0))
    priors = np.log(np.bincount(train.classes, minlength=n_classes) / len(train.classes))
    known = ([column[word] for word in sorted(set(words(text))) if word in column] for text in asked)
    return np.array([(priors + logs[rows].sum(0)).argmax() for rows in known], np.int64)


def references(examples: Sequence[Example], name: str) -> dict[str, float]:
    """Accuracy of the most frequent class, and of naive Bayes on the words of the same sentences."""
    train, test, n_classes = parts(examples)
    usual = Counter(train.classes.tolist()).most_common()
    majority = min(label for label, count in usual if count == usual[0][1])
    by_words = naive_bayes(train, n_classes, test.texts)
    return {
        f"{name}.majority.accuracy": float((test.classes == majority).mean()),
        f"{name}.words.accuracy": float((test.classes == by_words).mean()),
    }


def counts(examples: Sequence[Example]) -> dict[str, int]:
    """How much a number stands on."""
    train, test, n_classes = parts(examples)
    return {"train_sentences": len(train.texts), "test_sentences": len(test.texts), "classes": n_classes}


def measure(encoder: Encoder, tokenizer: Tokenizer, examples: Sequence[Example], name: str) -> dict[str, Any]:
    """Accuracy on held-out sentences, of all layers together and of each.

    Args:
        examples: of `tasks.read`.
        name: of the task; the measures' names begin with it.

    Returns:
        `values` (measures of the model), `references` (the most frequent class, and the words of the
        same sentences; the number only means something above those) and `counts`.
    """
    train, test, _ = parts(examples)
    x = sentence_features(encoder, tokenizer, [*train.texts, *test.texts])
    learnt, asked = x[: len(train.texts)], x[len(train.texts) :]
    width = encoder.options.width
    blocks = {name: slice(None)} | {
        f"{name}.layer_{layer}": slice(layer * width, (layer + 1) * width)
        for layer in range(encoder.options.layers + 1)
    }
    values = {
        f"{block}.accuracy": float(
            (classify(learnt[:, columns], train.classes, asked[:, columns]) == test.classes).mean()
        )
        for block, columns in blocks.items()
    }
    return {"values": values, "references": references(examples, name), "counts": counts(examples)}
