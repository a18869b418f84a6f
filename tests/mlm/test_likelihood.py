"""Scores of words are those of the definition, whatever they are computed together with."""

import numpy as np
import pytest
import torch

from mlm import config, likelihood
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.likelihood import masked_copies, pseudo_log_likelihoods, words_of
from mlm.schedules import Pattern
from mlm.vocabulary import Tokenizer
from tests.mlm.places import TOPICS

TEXT = " ".join(" ".join(TOPICS.values()).split())
STARTS = np.random.default_rng(0).integers(len(TEXT) - 100, size=12)
SENTENCES = [TEXT[start : start + 5 + 6 * n].strip() for n, start in enumerate(STARTS)]


def encoder(n_tokens: int, dtype: torch.dtype = torch.float32, **changes: object) -> Encoder:
    """Untrained, but with weights large enough that every position matters."""
    small = {"preset": "bert", "layers": 2, "width": 24, "heads": 2, "max_positions": 96, **changes}
    model = Encoder(config.Encoder.model_validate(small), n_tokens, 0, dtype)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.dim() > 1:
                noise = np.random.default_rng(number).standard_normal(tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(noise).float() * 0.3)
    return model


@torch.no_grad()
def reference(model: Encoder, tokenizer: Tokenizer, sentence: str) -> list[float]:
    """The definition, a copy at a time: mask a token and the rest of its word, read off the token."""
    ids = tokenizer.encode(sentence)
    words: list[list[int]] = []
    for position, token in enumerate(ids):
        if position == 0 or tokenizer.pieces[token].startswith("▁"):
            words.append([])
        words[-1].append(position)
    result = []
    for word in words:
        total = 0.0
        for position in word:
            if ids[position] >= config.N_SPECIAL:
                shown = [
                    config.MASK if other in word and other >= position else t for other, t in enumerate(ids)
                ]
                total += float(model(torch.tensor([shown]))[0, position].log_softmax(-1)[ids[position]])
        result.append(total)
    return result


@pytest.mark.parametrize("preset", ["bert", "modern"])
@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_scores_are_those_of_one_copy_at_a_time(
    kind: str, preset: str, vocabularies: dict[str, Tokenizer]
) -> None:
    tokenizer = vocabularies[kind]
    model = encoder(tokenizer.size, preset=preset)
    found = pseudo_log_likelihoods(model, tokenizer, SENTENCES)
    assert [len(one) for one in found] == [len(sentence.split()) for sentence in SENTENCES]
    for sentence, one in zip(SENTENCES, found, strict=True):
        np.testing.assert_allclose(one, reference(model, tokenizer, sentence), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 150, 10**6])
def test_scores_do_not_depend_on_what_is_computed_together(
    tokens: int, vocabularies: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = vocabularies["unigram"]
    model = encoder(tokenizer.size)
    alone = [pseudo_log_likelihoods(model, tokenizer, [sentence])[0] for sentence in SENTENCES]
    monkeypatch.setattr(likelihood, "TOKENS", tokens)
    order = np.random.default_rng(1).permutation(len(SENTENCES))
    together = pseudo_log_likelihoods(model, tokenizer, [SENTENCES[i] for i in order])
    for place, one in zip(order, together, strict=True):
        np.testing.assert_allclose(one, alone[place], rtol=1e-5, atol=1e-5)


def test_a_token_is_masked_with_the_rest_of_its_word_and_nothing_else() -> None:
    """kn-igh-ts speak, padded: three copies for the first word and one for the second."""
    words = np.array([[0, 0, 0, 1, -1]] * 4)
    masked = masked_copies(words, np.array([0, 1, 2, 3]))
    assert masked.astype(int).tolist() == [
        [1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
    ]


def test_words_begin_at_blanks(vocabularies: dict[str, Tokenizer]) -> None:
    """In a character vocabulary the blank is a token, and goes with the word behind it."""
    tokenizer = vocabularies["char"]
    assert words_of(tokenizer, tokenizer.encode("a cat.")).tolist() == [0, 1, 1, 1, 1, 1]
    for kind in ("unigram", "bpe"):
        ids = vocabularies[kind].encode("exceptions, unparenthesized")
        first = vocabularies[kind].encode("exceptions,")
        assert words_of(vocabularies[kind], ids).tolist() == [0] * len(first) + [1] * (len(ids) - len(first))


def test_an_unknown_token_is_seen_and_not_scored(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["char"]
    model = encoder(tokenizer.size)
    sentences = ["漢 class", "a 漢字 class", "the 漢字s class"]
    found = pseudo_log_likelihoods(model, tokenizer, sentences)
    assert found[0][0] == 0.0
    for sentence, one in zip(sentences, found, strict=True):
        np.testing.assert_allclose(one, reference(model, tokenizer, sentence), rtol=1e-5, atol=1e-5)


def test_the_type_that_an_encoder_was_trained_in_does_not_matter(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["bpe"]
    exact = pseudo_log_likelihoods(encoder(tokenizer.size), tokenizer, SENTENCES[:5])
    model = encoder(tokenizer.size, torch.bfloat16)
    assert pseudo_log_likelihoods(model, tokenizer, SENTENCES[:5]) == exact
    assert model.dtype == torch.bfloat16


def test_nothing_to_score_and_too_much(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["unigram"]
    model = encoder(tokenizer.size, max_positions=8)
    assert pseudo_log_likelihoods(model, tokenizer, []) == []
    assert pseudo_log_likelihoods(model, tokenizer, [""]) == [[]]
    with pytest.raises(InputError, match=r"'class class.* tokens long, and the encoder has 8 positions"):
        pseudo_log_likelihoods(model, tokenizer, ["class", "class " * 9])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_a_causal_encoder_gives_the_probability_of_a_sentence(
    kind: str, vocabularies: dict[str, Tokenizer]
) -> None:
    """The chain rule, token by token behind a [SEP]; scored together they differ by rounding alone."""
    tokenizer = vocabularies[kind]
    model = encoder(tokenizer.size, preset="modern")
    model.pattern = Pattern(causal=True)
    for sentence, words in zip(SENTENCES, pseudo_log_likelihoods(model, tokenizer, SENTENCES), strict=True):
        ids = tokenizer.encode(sentence)
        expected = 0.0
        for place, token in enumerate(ids):
            left = torch.tensor([[config.SEP, *ids[:place]]])
            expected += float(model(left)[0, -1].log_softmax(-1)[token]) if token >= config.N_SPECIAL else 0.0
        assert sum(words) == pytest.approx(expected, rel=1e-4)


def test_a_causal_encoder_scores_as_many_tokens_as_it_has_positions(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["unigram"]
    sentence = SENTENCES[3]
    ids = tokenizer.encode(sentence)
    found = []
    for room in (0, 1):
        model = encoder(tokenizer.size, preset="modern", max_positions=len(ids) + room)
        model.pattern = Pattern(causal=True)
        found += pseudo_log_likelihoods(model, tokenizer, [sentence])
    assert found[0] == pytest.approx(found[1])
    short = encoder(tokenizer.size, preset="modern", max_positions=len(ids) - 1)
    short.pattern = Pattern(causal=True)
    with pytest.raises(InputError, match=f"is {len(ids)} tokens long, and the encoder has {len(ids) - 1}"):
        pseudo_log_likelihoods(short, tokenizer, [sentence])
