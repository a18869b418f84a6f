"""A sentence's feature is what its own tokens say, and the numbers stand beside honest references."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm import config
from mlm.encoder import Encoder
from mlm.sentence_probe import Part, encode, measure, naive_bayes, references, sentence_features
from mlm.tasks import Example
from mlm.vocabulary import Tokenizer
from tests.mlm.places import TOPICS

WORDS = sorted({w for w in " ".join(TOPICS.values()).split() if w.isalpha()})


def encoder(**changes: object) -> Encoder:
    """Untrained, its blocks not the identity."""
    small = {"preset": "bert", "layers": 2, "width": 24, "heads": 2, "max_positions": 40, **changes}
    return Encoder(config.Encoder.model_validate(small), 600, 0, torch.float32)


def examples(n: int, seed: int, held_out: bool) -> list[Example]:
    """Three quarters of a sentence's words tell its class."""
    source, found = np.random.default_rng(seed), []
    for _ in range(n):
        label = int(source.integers(3))
        pools = [WORDS[12 * label : 12 * label + 12]] * 3 + [WORDS]
        pools = [pools[i] for i in source.integers(4, size=source.integers(3, 12))]
        text = " ".join(pool[source.integers(len(pool))] for pool in pools)
        found.append(Example(text, f"class {label}", held_out))
    return found


SOME = examples(300, 0, False) + examples(100, 1, True)
TEXTS = [e.text for e in SOME[:70]] + [" ".join(WORDS[:60]), "漢字", ""]


@pytest.mark.parametrize("preset", ["bert", "modern"])
@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_features_are_the_mean_states_of_a_sentence_alone(
    kind: str, preset: str, vocabularies: dict[str, Tokenizer]
) -> None:
    """Batched, sorted and padded, and still what each sentence alone gives; what is too long is cut."""
    model, tokenizer = encoder(preset=preset), vocabularies[kind]
    found = sentence_features(model, tokenizer, TEXTS)
    encoded = encode(tokenizer, TEXTS)
    assert encoded[-1] == [config.UNK]
    assert max(map(len, encoded)) > 40
    assert not any(config.MASK in ids for ids in encoded)
    for row, ids in zip(found, encoded, strict=True):
        with torch.no_grad():
            states = torch.stack(model.hidden(torch.tensor([ids[:40]])), -2)[0]
        states = (states / states.square().mean(-1, keepdim=True).sqrt()).flatten(1)
        np.testing.assert_allclose(row, states.mean(0).numpy(), atol=1e-5)


@settings(max_examples=20)
@given(st.permutations(range(len(TEXTS))), st.integers(1, len(TEXTS)))
def test_features_do_not_depend_on_what_shares_a_batch(
    vocabularies: dict[str, Tokenizer], order: list[int], kept: int
) -> None:
    model, tokenizer = encoder(), vocabularies["unigram"]
    whole = sentence_features(model, tokenizer, TEXTS)
    some = sentence_features(model, tokenizer, [TEXTS[i] for i in order[:kept]])
    np.testing.assert_allclose(some, whole[order[:kept]], atol=1e-5)


def test_naive_bayes_is_the_product_of_word_probabilities() -> None:
    train = Part(["good good film", "good cast", "bad film", "bad", "dull film"], np.array([1, 1, 0, 0, 0]))
    # P(0) P(film | 0) = 3/5 · 3/10; P(1) P(film | 1) = 2/5 · 2/9, with one occurrence added to each of 5 words.
    assert naive_bayes(train, 2, ["film", "Good!", "good film", "unseen", "dull cast"]).tolist() == [
        0,
        1,
        1,
        0,
        0,
    ]


def test_what_is_in_the_words_is_found_and_chance_is_not_mistaken_for_it(
    vocabularies: dict[str, Tokenizer],
) -> None:
    tokenizer = vocabularies["unigram"]
    found = measure(encoder(), tokenizer, SOME, "toy")
    assert set(found["values"]) == {"toy.accuracy", *(f"toy.layer_{n}.accuracy" for n in range(3))}
    assert found["counts"] == {"train_sentences": 300, "test_sentences": 100, "classes": 3}
    majority = found["references"]["toy.majority.accuracy"]
    assert majority < 0.5
    assert found["values"]["toy.accuracy"] > majority + 0.1
    assert found["references"]["toy.words.accuracy"] > majority + 0.1
    source = np.random.default_rng(0)
    noise = [e._replace(label="pqrs"[source.integers(4)]) for e in SOME]
    by_chance = measure(encoder(), tokenizer, noise, "toy")
    for value in (*by_chance["values"].values(), *by_chance["references"].values()):
        assert value == pytest.approx(0.25, abs=0.15)


def test_a_class_that_was_never_learnt_is_an_error_for_everyone(vocabularies: dict[str, Tokenizer]) -> None:
    odd = [e if not e.held_out else e._replace(label="new") for e in SOME]
    found = measure(encoder(), vocabularies["unigram"], odd, "toy")
    assert set(found["values"].values()) | set(found["references"].values()) == {0.0}


def test_the_majority_is_that_of_the_training_sentences() -> None:
    train = [Example(f"word {n}", "a" if n < 6 else "b", False) for n in range(10)]
    test = [Example(f"other {n}", "a" if n < 1 else "b", True) for n in range(10)]
    assert references(train + test, "toy")["toy.majority.accuracy"] == 0.1


def test_the_same_numbers_twice_and_the_encoder_left_as_it_was(vocabularies: dict[str, Tokenizer]) -> None:
    model, tokenizer = encoder(), vocabularies["bpe"]
    before = [p.detach().clone() for p in model.parameters()]
    assert measure(model, tokenizer, SOME, "toy") == measure(model, tokenizer, SOME, "toy")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
