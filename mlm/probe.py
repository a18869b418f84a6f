"""Part of speech from frozen features: what a model's representations tell a linear classifier.

A word's feature is the mean over its pieces' hidden states, each divided by its root mean square as the model's
own blocks read it; no [MASK] stands in the input. The classifier is multinomial logistic regression (Hastie,
Tibshirani & Friedman 2009, §4.4). Why not one in closed form on the states as they are: docs/recipe.md.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mlm import config
from mlm.brown import Sentence
from mlm.encoder import Encoder
from mlm.vocabulary import Tokenizer

ROWS = 64  # sentences a forward pass
SHRINKAGE = 1e-3  # share of its variance added to every feature, so that the inverse exists
PENALTY = 1e-3  # times half the sum of the squared weights, beside a mean loss in nats
STEPS = 30  # of L-BFGS; ten more move no accuracy by half a point (docs/recipe.md)

Vector = NDArray[np.float64]
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

    A piece's state is divided by its root mean square before it counts. Sentences are sorted by length for the
    forward passes, padded, and put back in order; longer ones than the encoder has positions for are cut, their
    missing words get zeros.
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
        quiet = [F.rms_norm(state.float().cpu(), (width,), eps=1e-30) for state in states]
        stacked = torch.cat(quiet, -1)[visible]
        place, counts = torch.unique(words[visible], return_counts=True)
        index = torch.searchsorted(place, words[visible])
        sums = torch.zeros(len(place), stacked.shape[1]).index_add_(0, index, stacked)
        result[place.numpy()] = (sums / counts[:, None]).numpy()
    return result


def classify(learnt: NDArray[np.float32], classes: Labels, asked: NDArray[np.float32]) -> Labels:
    """[asked] class numbers by multinomial logistic regression with an L2 penalty, as `learnt` teaches it.

    Features are whitened first by their covariance within classes, so that the penalty and the steps of L-BFGS,
    from weights of 0, heed no direction more than another, however far the features reach there.

    Args:
        learnt: [examples, features].
        classes: [examples] class numbers, each of 0 … n - 1 present.
        asked: [others, features].
    """
    from scipy.optimize import minimize  # not by what merely reads features or words

    counts = np.bincount(classes)
    assert counts.all(), "every class is learnt from examples"
    order = np.argsort(classes, kind="stable")
    firsts = np.cumsum(counts) - counts
    means = np.add.reduceat(learnt[order], firsts, axis=0, dtype=np.float64) / counts[:, None]
    within = learnt - means[classes].astype(np.float32)
    covariance = (within.T @ within).astype(np.float64) / len(classes)
    variances = np.diag(covariance)
    ridge = SHRINKAGE * variances + 1e-6 * variances.mean() + 1e-12  # features that vary little are constant
    whitening = np.linalg.inv(np.linalg.cholesky(covariance + np.diag(ridge))).T
    middle = learnt.mean(0, dtype=np.float64)

    def whitened(x: NDArray[np.float32]) -> NDArray[np.float32]:
        white: NDArray[np.float32] = (x - middle.astype(np.float32)) @ whitening.astype(np.float32)
        return white

    x, rows, shape = whitened(learnt), np.arange(len(classes)), (learnt.shape[1] + 1, len(counts))

    def loss(flat: Vector) -> tuple[float, Vector]:
        weights = flat.reshape(shape)
        scores = x @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)
        scores -= scores.max(1, keepdims=True)
        right = scores[rows, classes].mean(dtype=np.float64)
        shares = np.exp(scores, out=scores)
        sums = shares.sum(1, keepdims=True)
        surprise = float(np.log(sums).mean(dtype=np.float64) - right)
        shares /= sums
        shares[rows, classes] -= 1
        slope = np.concatenate([x.T @ shares, shares.sum(0, keepdims=True)]).astype(np.float64) / len(classes)
        slope[:-1] += PENALTY * weights[:-1]
        return surprise + PENALTY / 2 * float((weights[:-1] ** 2).sum()), slope.ravel()

    begin = np.zeros(shape)
    begin[-1] = np.log(counts / len(classes))
    found = minimize(loss, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    assert np.isfinite(found.fun), "features are numbers"
    weights = found.x.reshape(shape).astype(np.float32)
    return np.asarray((whitened(asked) @ weights[:-1] + weights[-1]).argmax(1), np.int64)


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


def probe(
    encoder: Encoder, tokenizer: Tokenizer, sentences: Sequence[Sentence], each_layer: bool = True
) -> dict[str, Any]:
    """Accuracy on held-out words, on all and on ambiguous ones, of all layers together and of each.

    A word form is ambiguous if the training sentences show it with more than one tag.

    Args:
        each_layer: whether each layer is read by itself too, which takes as long as all together.

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
    learnt = np.array([number[tag] for tag in train.tags])
    width = encoder.options.width
    predicted = classify(x[False], learnt, x[True])
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
    for layer in range(encoder.options.layers + 1) if each_layer else ():
        block = slice(layer * width, (layer + 1) * width)
        predicted = classify(x[False][:, block], learnt, x[True][:, block])
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
