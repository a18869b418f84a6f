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
from scipy.stats import multivariate_normal

from mlm import config, measured
from mlm.brown import Sentence
from mlm.encoder import Encoder
from mlm.experiment import Measures, Probe
from mlm.probe import SHRINKAGE, Discriminant, Encoded, encode, features, lookup, probe
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
            states = torch.cat(model.hidden(torch.tensor([code.ids])), -1)[0]
        for word in range(len(sentence.words)):
            pieces = [i for i, w in enumerate(code.words) if w == word]
            expected = states[pieces].mean(0).numpy() if pieces else np.zeros(72)
            np.testing.assert_allclose(found[row], expected, atol=2e-4)
            row += 1
    assert row == len(found)


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


def test_the_classifier_is_bayes_rule_for_gaussians_of_one_covariance() -> None:
    """The definition of linear discriminant analysis, computed from densities instead of a closed form."""
    source = np.random.default_rng(0)
    y = np.concatenate([np.arange(6), source.choice(6, 800, p=[0.4, 0.2, 0.2, 0.1, 0.06, 0.04])])
    noise = source.normal(size=(len(y), 10)) @ source.normal(size=(10, 10))
    x = ((source.normal(size=(6, 10)) * 2)[y] + noise).astype(np.float32)
    model = Discriminant(x, y, 6)
    for block in (slice(None), slice(2, 7)):
        part = x[:, block].astype(np.float64)
        means = np.stack([part[y == k].mean(0) for k in range(6)])
        within = np.cov((part - means[y]).T, bias=True)
        within += SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
        densities = [
            multivariate_normal(means[k], within).logpdf(part) + np.log((y == k).mean()) for k in range(6)
        ]
        expected = np.argmax(densities, axis=0)
        assert (model.predict(x, block) == expected).mean() > 0.998  # float32 may turn a tie
        assert (expected == y).mean() > 0.4


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
from mlm.probe import Discriminant
import numpy as np
draws = np.random.default_rng(0)
x = draws.standard_normal((20_000, 384), dtype=np.float32)
model = Discriminant(x, draws.permutation(np.arange(20_000) % 60), 60)
solved = np.linalg.solve(model.covariance + np.eye(384), model.means.T)
print(hashlib.sha256(model.covariance.tobytes() + solved.tobytes()).hexdigest())
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
