"""The probe reads what the states say: features as defined, the classifier as in the textbook."""

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlm import config, measured
from mlm.brown import Sentence
from mlm.encoder import Encoder
from mlm.experiment import Measures, Probe
from mlm.probe import PENALTY, SHRINKAGE, Encoded, classify, encode, features, lookup, probe
from mlm.vocabulary import Tokenizer
from tests.mlm.places import ROOT, TOPICS

WORDS = [w for w in " ".join(TOPICS.values()).split() if w.isalpha()]


def encoder(seed: int = 0, n_tokens: int = 600, **changes: object) -> Encoder:
    small = {"preset": "bert", "layers": 2, "width": 24, "heads": 2, "max_positions": 40, **changes}
    return Encoder(config.Encoder.model_validate(small), n_tokens, seed, torch.float32)


def sentences(n: int, seed: int, held_out: bool) -> list[Sentence]:
    """Real words with a tag that mostly follows from the word's last letter."""
    source = np.random.default_rng(seed)
    chosen = [[WORDS[i] for i in source.integers(len(WORDS), size=source.integers(5, 15))] for _ in range(n)]
    tags = [["e" if w[-1] in "aeiou" else w[-1] for w in words] for words in chosen]
    tags = [[tag if source.random() < 0.9 else "s" for tag in row] for row in tags]
    return [Sentence(words, row, held_out) for words, row in zip(chosen, tags, strict=True)]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_every_word_has_a_piece_and_pieces_know_their_word(
    kind: str, vocabularies: dict[str, Tokenizer]
) -> None:
    tokenizer = vocabularies[kind]
    sentence = Sentence(["The", "漢字", "class", '"', "..."], ["a"] * 5, False)
    (found,) = encode(tokenizer, [sentence])
    assert len(found.ids) == len(found.words)
    assert found.words == sorted(found.words)
    assert set(found.words) == set(range(5))
    assert config.MASK not in found.ids


def test_a_word_is_spelled_as_it_is_alone_however_often_it_comes(vocabularies: dict[str, Tokenizer]) -> None:
    some = sentences(30, 4, False)
    for tokenizer in vocabularies.values():
        found = encode(tokenizer, some)
        assert found == [encode(tokenizer, [sentence])[0] for sentence in some]
        for sentence, code in zip(some, found, strict=True):
            assert code.ids == [i for ids in tokenizer.encode_words(sentence.words) for i in ids]


def test_features_are_the_mean_states_of_a_words_pieces(vocabularies: dict[str, Tokenizer]) -> None:
    """Batched, sorted and padded, and still what each sentence alone gives."""
    model, some = encoder(), sentences(70, 0, False)
    encoded = encode(vocabularies["unigram"], some)
    encoded = [e if len(e.ids) <= 40 else Encoded(*(part[:40] for part in e)) for e in encoded]
    found = features(model, encoded, [len(s.words) for s in some])
    row = 0
    for sentence, code in zip(some, encoded, strict=True):
        with torch.no_grad():
            states = torch.stack(model.hidden(torch.tensor([code.ids])), -2)[0]
        states = (states / states.square().mean(-1, keepdim=True).sqrt()).flatten(1)
        for word in range(len(sentence.words)):
            pieces = [i for i, w in enumerate(code.words) if w == word]
            expected = states[pieces].mean(0).numpy() if pieces else np.zeros(72)
            np.testing.assert_allclose(found[row], expected, atol=2e-4)
            row += 1
    assert row == len(found)


def test_a_loud_position_tells_no_more_than_a_quiet_one(
    vocabularies: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in encoders that always saw [MASK]: all states, some huge, told less than the embedding alone."""
    model, some = encoder(), sentences(20, 0, False)
    encoded, counts = encode(vocabularies["unigram"], some), [len(s.words) for s in some]
    expected, hidden, source = features(model, encoded, counts), model.hidden, np.random.default_rng(0)

    def loud(tokens: torch.Tensor, **stated: torch.Tensor) -> list[torch.Tensor]:
        states = hidden(tokens, **stated)
        return [s * torch.from_numpy(2.0 ** source.integers(-6, 7, (*s.shape[:2], 1))).float() for s in states]

    monkeypatch.setattr(model, "hidden", loud)
    np.testing.assert_allclose(features(model, encoded, counts), expected, atol=1e-5)


@given(st.permutations(range(12)))
def test_features_do_not_depend_on_the_order_of_sentences(
    vocabularies: dict[str, Tokenizer], order: list[int]
) -> None:
    model, some = encoder(), sentences(12, 1, False)
    tokenizer = vocabularies["unigram"]
    counts = [len(s.words) for s in some]
    found = np.split(features(model, encode(tokenizer, some), counts), np.cumsum(counts)[:-1])
    moved_counts = [counts[i] for i in order]
    moved = features(model, encode(tokenizer, [some[i] for i in order]), moved_counts)
    for place, part in zip(order, np.split(moved, np.cumsum(moved_counts)[:-1]), strict=True):
        np.testing.assert_allclose(part, found[place], atol=2e-5)


def blobs(source: np.random.Generator, n: int = 800) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Ten features of six classes, as frequent as they are unlike, with noise that has a shape of its own."""
    y = np.concatenate([np.arange(6), source.choice(6, n, p=[0.4, 0.2, 0.2, 0.1, 0.06, 0.04])])
    noise = source.normal(size=(len(y), 10)) @ source.normal(size=(10, 10))
    return ((source.normal(size=(6, 10)) * 2)[y] + noise).astype(np.float32), y


def test_the_classifier_is_penalised_logistic_regression_on_whitened_features() -> None:
    """The minimum of the same loss, by Newton's method in float64 from autograd's own Hessian."""
    x, y = blobs(np.random.default_rng(0))
    for block in (slice(None), slice(2, 7)):
        part = x[:, block].astype(np.float64)
        within = np.cov((part - np.stack([part[y == k].mean(0) for k in range(6)])[y]).T, bias=True)
        within += SHRINKAGE * np.diag(np.diag(within))
        white = torch.from_numpy((part - part.mean(0)) @ np.linalg.inv(np.linalg.cholesky(within)).T)
        truth, width = torch.from_numpy(y), part.shape[1]

        def loss(flat: torch.Tensor, white=white, truth=truth, width=width) -> torch.Tensor:
            weights, offsets = flat[: 6 * width].reshape(width, 6), flat[6 * width :]
            surprise = torch.nn.functional.cross_entropy(white @ weights + offsets, truth)
            return surprise + PENALTY / 2 * (weights**2).sum()

        flat = torch.zeros(6 * width + 6, dtype=torch.float64)
        for _ in range(40):
            slope = torch.func.grad(loss)(flat)
            flat = flat - torch.linalg.lstsq(torch.func.hessian(loss)(flat), slope, driver="gelsd").solution
        assert float(torch.func.grad(loss)(flat).abs().max()) < 1e-9
        best = (white @ flat[: 6 * width].reshape(width, 6) + flat[6 * width :]).argmax(1).numpy()
        assert (classify(x[:, block], y, x[:, block]) == best).mean() > 0.995
        assert (best == y).mean() > 0.4


@given(scales=st.lists(st.floats(0.1, 10), min_size=10, max_size=10))
def test_the_classifier_does_not_heed_the_scale_of_a_feature(scales: list[float]) -> None:
    x, y = blobs(np.random.default_rng(1), 300)
    scaled = (x * np.array(scales)).astype(np.float32)
    assert (classify(scaled, y, scaled) == classify(x, y, x)).mean() > 0.98


def test_lookup_knows_the_most_frequent_tag_and_falls_back_to_the_usual_one() -> None:
    keys, tags = ["a", "a", "a", "b", "b", "c"], ["x", "y", "y", "z", "w", "y"]
    assert lookup(keys, tags, ["a", "b", "c", "new"]) == ["y", "w", "y", "y"]


@pytest.fixture(scope="module")
def result(vocabularies: dict[str, Tokenizer]) -> dict:
    some = sentences(400, 2, False) + sentences(120, 3, True)
    return probe(encoder(), vocabularies["unigram"], some)


def test_measures_are_named_as_a_contrast_can_name_them(result: dict) -> None:
    assert set(result["values"]) == set(measured.names(config.Run(), Measures(probe=Probe()), ()))
    assert set(result["references"]) == {
        f"lookup.{by}.{what}" for by in ("word", "first_piece") for what in ("accuracy", "ambiguous_accuracy")
    }
    assert all(0 <= value <= 1 for value in (*result["values"].values(), *result["references"].values()))


def test_the_test_sentences_add_up_to_the_accuracies(result: dict) -> None:
    words = [len(s.words) for s in sentences(120, 3, True)]
    for name in ("probe.accuracy", "probe.ambiguous_accuracy"):
        right, of = (np.array(result["examples"][name][key].split(), int) for key in ("right", "of"))
        assert right.sum() / of.sum() == pytest.approx(result["values"][name], rel=1e-12)
        assert (right <= of).all() and (of <= words).all() and len(of) == 120
    assert result["examples"]["probe.accuracy"]["of"] == " ".join(map(str, words))


def test_what_is_in_the_states_is_found_and_chance_is_not_mistaken_for_it(
    vocabularies: dict[str, Tokenizer], result: dict
) -> None:
    """The tag follows from the word, so embeddings know much of it; shuffled tags are noise."""
    usual = max(Counter(tag for s in sentences(120, 3, True) for tag in s.tags).values())
    assert result["values"]["probe.accuracy"] > usual / result["counts"]["test_words"] + 0.1
    source = np.random.default_rng(0)
    some = sentences(400, 2, False) + sentences(120, 3, True)
    noise = [
        s._replace(tags=[["p", "q", "r", "s"][i] for i in source.integers(4, size=len(s.words))]) for s in some
    ]
    values = probe(encoder(), vocabularies["unigram"], noise)["values"]
    for value in values.values():
        assert value == pytest.approx(0.25, abs=0.06)


def test_layer_zero_of_one_piece_words_is_a_lookup(vocabularies: dict[str, Tokenizer]) -> None:
    """Without positions and context, the embedding says as much as the first piece does, no more."""
    model = encoder(positions="rotary")
    some = [s for held_out in (False, True) for s in sentences(200, 4 + held_out, held_out)]
    single = {w for w in WORDS if len(vocabularies["unigram"].encode(w)) == 1}
    kept = []
    for s in some:
        pairs = [(w, t) for w, t in zip(s.words, s.tags, strict=True) if w in single]
        if pairs:
            kept.append(Sentence([w for w, _ in pairs], [t for _, t in pairs], s.held_out))
    found = probe(model, vocabularies["unigram"], kept)
    assert found["references"]["lookup.word.accuracy"] == found["references"]["lookup.first_piece.accuracy"]
    assert found["values"]["probe.layer_0.accuracy"] <= found["references"]["lookup.word.accuracy"] + 0.01


def test_ambiguous_words_are_those_with_more_than_one_training_tag(vocabularies: dict[str, Tokenizer]) -> None:
    train = [Sentence(["the", "class", "is", "the", "name"], ["a", "n", "v", "a", "n"], False)] * 30
    train += [Sentence(["name", "the", "class"], ["v", "a", "n"], False)] * 10
    test = [Sentence(["name", "class", "unseen"], ["n", "n", "q"], True)]
    found = probe(encoder(), vocabularies["unigram"], train + test)
    assert found["counts"] == {"train_words": 180, "test_words": 3, "ambiguous_words": 1, "tags": 3}
    # "name" is ambiguous; an unseen tag is an error for everyone.
    assert found["references"]["lookup.word.accuracy"] == pytest.approx(2 / 3)
    assert found["references"]["lookup.word.ambiguous_accuracy"] == 1.0


def test_the_same_model_gives_the_same_numbers_and_probing_moves_nothing(
    vocabularies: dict[str, Tokenizer],
) -> None:
    some = sentences(60, 5, False) + sentences(30, 6, True)
    model = encoder()
    before = [p.detach().clone() for p in model.parameters()]
    assert probe(model, vocabularies["bpe"], some) == probe(model, vocabularies["bpe"], some)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_one_core_and_two_cores_give_the_same_bits() -> None:
    """A BLAS that may use two threads solves in another order: imports of `mlm` allow it one."""
    program = """
import hashlib
from mlm.probe import classify
import numpy as np
draws = np.random.default_rng(0)
x = draws.standard_normal((20_000, 384), dtype=np.float32)
found = classify(x, draws.permutation(np.arange(20_000) % 60), x)
print(hashlib.sha256(found.tobytes()).hexdigest())
"""
    cores = sorted(os.sched_getaffinity(0))
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")},
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda n=n: os.sched_setaffinity(0, cores[:n]),
        ).stdout
        for n in (1, len(cores))
    }
    assert len(told) == 1
