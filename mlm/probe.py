"""Part of speech from frozen features: what a model's representations tell a linear classifier.

A word's feature is the mean over its pieces' hidden states; no [MASK] stands in the input. The
classifier is linear discriminant analysis (Fisher 1936; Hastie, Tibshirani & Friedman 2009, §4.3),
which has a closed form: every layer's probe is read off one covariance matrix.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mlm import config
from mlm.brown import Sentence
from mlm.encoder import Encoder
from mlm.vocabulary import Tokenizer

ROWS = 64  # sentences a forward pass
SHRINKAGE = 1e-3  # share of the mean variance added to every direction, so that the inverse exists

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


class Encoded(NamedTuple):
    """A sentence as token ids, and which word each comes from."""

    ids: list[int]
    words: list[int]


def encode(tokenizer: Tokenizer, sentences: Sequence[Sentence]) -> list[Encoded]:
    """Pieces of every word, each word form spelled once; one that the vocabulary cannot spell becomes [UNK]."""
    forms = list(dict.fromkeys(word for sentence in sentences for word in sentence.words))
    spelled = {w: ids or [config.UNK] for w, ids in zip(forms, tokenizer.encode_words(forms), strict=True)}

    def encoded(sentence: Sentence) -> Encoded:
        pieces = [spelled[word] for word in sentence.words]
        return Encoded(
            [i for ids in pieces for i in ids], [number for number, ids in enumerate(pieces) for _ in ids]
        )

    return [encoded(sentence) for sentence in sentences]


@torch.no_grad()
def features(encoder: Encoder, encoded: Sequence[Encoded], word_counts: Sequence[int]) -> NDArray[np.float32]:
    """[words, (layers + 1) · width] mean states of every word of every sentence, in order.

    Sentences are sorted by length for the forward passes, padded, and put back in order; longer ones
    than the encoder has positions for are cut, their missing words get zeros.
    """
    layers, width = encoder.options.layers + 1, encoder.options.width
    starts = np.concatenate([[0], np.cumsum(word_counts)])
    result = np.zeros((int(starts[-1]), layers * width), np.float32)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    device, limit = encoder.embedding.device, encoder.options.max_positions
    for begin in range(0, len(order), ROWS):
        chosen = order[begin : begin + ROWS]
        length = min(max(len(encoded[i].ids) for i in chosen), limit)
        ids = torch.full((len(chosen), length), config.PAD)
        # Which output row each piece is averaged into; padding goes to a row that is dropped.
        words = torch.full((len(chosen), length), len(result))
        for row, i in enumerate(chosen):
            pieces = min(len(encoded[i].ids), limit)
            ids[row, :pieces] = torch.tensor(encoded[i].ids[:pieces])
            words[row, :pieces] = torch.tensor(encoded[i].words[:pieces]) + int(starts[i])
        visible = words < len(result)
        states = encoder.hidden(ids.to(device), visible=visible.to(device))
        stacked = torch.cat([state.float().cpu() for state in states], -1)[visible]
        place, counts = torch.unique(words[visible], return_counts=True)
        index = torch.searchsorted(place, words[visible])
        sums = torch.zeros(len(place), stacked.shape[1]).index_add_(0, index, stacked)
        result[place.numpy()] = (sums / counts[:, None]).numpy()
    return result


class Discriminant:
    """Linear discriminant analysis from sufficient statistics, so that any block of features is free.

    Args:
        x: [words, features] training features.
        y: [words] class numbers, every class of 0 … n_classes - 1 present.
    """

    def __init__(self, x: NDArray[np.float32], y: Labels, n_classes: int) -> None:
        counts = np.bincount(y, minlength=n_classes)
        order = np.argsort(y, kind="stable")
        sums = np.add.reduceat(
            x[order], np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0, dtype=np.float64
        )
        self.means: Matrix = sums / counts[:, None]
        self.log_priors: Matrix = np.log(counts / len(y))
        centred = x - self.means[y].astype(np.float32)
        self.covariance: Matrix = (centred.T @ centred).astype(np.float64) / len(y)

    def predict(self, x: NDArray[np.float32], block: slice) -> Labels:
        """Class numbers from the features in `block` alone."""
        covariance, means = self.covariance[block, block], self.means[:, block]
        ridge = SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-12
        weights = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), means.T)
        offsets = self.log_priors - 0.5 * np.einsum("cf,fc->c", means, weights)
        scores = x[:, block] @ weights.astype(np.float32) + offsets.astype(np.float32)
        return np.asarray(scores.argmax(1), np.int64)


class Words(NamedTuple):
    """All words of one part, flat."""

    words: list[str]
    pieces: list[int]
    """First piece of each word."""
    tags: list[str]


def _flat(sentences: Sequence[Sentence], encoded: Sequence[Encoded]) -> Words:
    firsts = [
        e.ids[e.words.index(n)] for s, e in zip(sentences, encoded, strict=True) for n in range(len(s.words))
    ]
    return Words([w for s in sentences for w in s.words], firsts, [t for s in sentences for t in s.tags])


def lookup(keys: Sequence[Any], tags: Sequence[str], asked: Sequence[Any]) -> list[str]:
    """The most frequent training tag of each key; of all words where the key was never seen."""
    seen: dict[Any, Counter[str]] = defaultdict(Counter)
    for key, tag in zip(keys, tags, strict=True):
        seen[key][tag] += 1

    def best(counter: Counter[str]) -> str:
        return min(counter, key=lambda tag: (-counter[tag], tag))

    usual = best(Counter(tags))
    table = {key: best(counter) for key, counter in seen.items()}
    return [table.get(key, usual) for key in asked]


def probe(encoder: Encoder, tokenizer: Tokenizer, sentences: Sequence[Sentence]) -> dict[str, Any]:
    """Accuracy on held-out words, on all and on ambiguous ones, of all layers and of each.

    A word form is ambiguous if the training sentences show it with more than one tag.

    Returns:
        `values` (measures of the model), `references` (lookup by first piece and by word on the
        same sentences; the number only means something above those), `counts`, and `examples`: of the
        accuracies of all layers, how many words of each test sentence are right, of how many.
    """
    parts = {held_out: [s for s in sentences if s.held_out == held_out] for held_out in (False, True)}
    encoded = {part: encode(tokenizer, found) for part, found in parts.items()}
    flat = {part: _flat(parts[part], encoded[part]) for part in parts}
    train, test = flat[False], flat[True]
    classes = sorted(set(train.tags))
    number = {tag: i for i, tag in enumerate(classes)}
    truth = np.array([number.get(tag, -1) for tag in test.tags])  # an unseen tag is always an error
    kinds: dict[str, set[str]] = defaultdict(set)
    for word, tag in zip(train.words, train.tags, strict=True):
        kinds[word].add(tag)
    ambiguous = np.array([len(kinds.get(word, ())) > 1 for word in test.words])

    def accuracies(name: str, predicted: NDArray[Any]) -> dict[str, float]:
        hits = predicted == truth
        found = {f"{name}.accuracy": float(hits.mean())}
        if ambiguous.any():  # else there is no such number
            found[f"{name}.ambiguous_accuracy"] = float(hits[ambiguous].mean())
        return found

    references: dict[str, float] = {}
    for name, keys, asked in (("word", train.words, test.words), ("first_piece", train.pieces, test.pieces)):
        guessed = np.array([number[tag] for tag in lookup(keys, train.tags, asked)])
        references |= accuracies(f"lookup.{name}", guessed)

    x = {part: features(encoder, encoded[part], [len(s.words) for s in parts[part]]) for part in parts}
    model = Discriminant(x[False], np.array([number[tag] for tag in train.tags]), len(classes))
    width = encoder.options.width
    predicted = model.predict(x[True], slice(None))
    values = accuracies("probe", predicted)
    sentence = np.repeat(np.arange(len(parts[True])), [len(s.words) for s in parts[True]])
    examples = {
        f"probe.{name}": {
            "right": _listed(np.bincount(sentence[counted & (predicted == truth)], minlength=len(parts[True]))),
            "of": _listed(np.bincount(sentence[counted], minlength=len(parts[True]))),
        }
        for name, counted in (("accuracy", np.full_like(ambiguous, True)), ("ambiguous_accuracy", ambiguous))
        if counted.any()
    }
    for layer in range(encoder.options.layers + 1):
        predicted = model.predict(x[True], slice(layer * width, (layer + 1) * width))
        values |= accuracies(f"probe.layer_{layer}", predicted)
    return {
        "values": values,
        "references": references,
        "counts": {"train_words": len(train.words), "test_words": len(test.words),
                   "ambiguous_words": int(ambiguous.sum()), "tags": len(classes)},
        "examples": examples,
    }  # fmt: skip


def _listed(counts: Labels) -> str:
    """On one line of a file that people may open."""
    return " ".join(map(str, counts.tolist()))
