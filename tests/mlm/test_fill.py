"""[MASK] in a text, and what a model writes there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm import config
from mlm.colour import coloured
from mlm.encoder import Encoder
from mlm.fill import encode_prompt, fill, fill_prompts, mask_prompt
from mlm.schedules import Pattern
from mlm.vocabulary import Tokenizer
from tests.mlm.places import TOPICS

KINDS = ("unigram", "bpe", "char")
SENTENCES = [s.strip() for s in " ".join(TOPICS["class"].split()).split(".") if 3 < len(s.split()) < 20]


def encoder(n_tokens: int) -> Encoder:
    options = {"preset": "modern", "layers": 1, "width": 16, "heads": 2, "max_positions": 120}
    return Encoder(config.Encoder.model_validate(options), n_tokens, 0, torch.float32)


@given(st.sampled_from(SENTENCES), st.sampled_from(KINDS), st.data())
def test_a_masked_word_leaves_the_rest_of_the_sentence_as_it_was(
    vocabularies: dict[str, Tokenizer], text: str, kind: str, data
) -> None:
    tokenizer, words = vocabularies[kind], text.split()
    place = data.draw(st.integers(0, len(words) - 1))
    ids = encode_prompt(tokenizer, " ".join([*words[:place], "[MASK]", *words[place + 1 :]]))
    at = ids.index(config.MASK)
    assert ids.count(config.MASK) == 1
    before, after = " ".join(words[:place]), " ".join(words[place + 1 :])
    if kind == "char":
        before, after = before + " " * bool(before), " " * bool(after) + after
    assert ids[:at] == (tokenizer.encode(before) if before else [])
    assert ids[at + 1 :] == (tokenizer.encode(after) if after else [])


@pytest.mark.parametrize("kind", KINDS)
def test_punctuation_behind_a_mask_has_no_blank(kind: str, vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies[kind]
    ids = encode_prompt(tokenizer, "the [MASK], and")
    assert tokenizer.pieces[ids[ids.index(config.MASK) + 1]] == ","
    assert encode_prompt(tokenizer, "[MASK]") == [config.MASK]
    assert encode_prompt(tokenizer, "[MASK][MASK]") == [config.MASK] * 2


@given(st.sampled_from(SENTENCES), st.integers(0, 20))
def test_prompts_are_masked_by_number_alone(vocabularies: dict[str, Tokenizer], text: str, number: int) -> None:
    tokenizer = vocabularies["unigram"]
    ids, masked = mask_prompt(tokenizer, text, number)
    assert (ids, masked) == mask_prompt(tokenizer, text, number)
    assert ids == tokenizer.encode(text)
    assert masked == sorted(set(masked))
    assert len(masked) == max(1, round(0.15 * len(ids)))


def test_an_empty_prompt_is_passed_over(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["unigram"]
    assert mask_prompt(tokenizer, "", 0) == ([], [])
    assert fill_prompts(encoder(tokenizer.size), tokenizer, ["", "word " * 300]) == []


def test_answers_are_the_models_distribution_without_special_tokens() -> None:
    model = encoder(30)
    ids = [7, config.MASK, 9, config.MASK]
    found = fill(model, ids, {1: 11}, candidates=25)
    assert [f.position for f in found] == [1, 3]
    assert [f.original for f in found] == [11, None]
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0]
    for f in found:
        assert sorted(token for token, _ in f.candidates) == list(range(5, 30))
        probabilities = [p for _, p in f.candidates]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        expected = logits[f.position, 5:].softmax(-1)
        for token, p in f.candidates:
            assert p == pytest.approx(float(expected[token - 5]), abs=1e-6)


def test_colours_tell_right_from_wrong_from_context() -> None:
    record = {
        "pieces": ["▁To", "▁be", "▁or"],
        "fills": [{"position": 1, "piece": "▁be"}, {"position": 2, "piece": "▁if"}],
    }
    text = coloured(record)
    assert text.plain == " To be if(or)"
    assert [(text.plain[s.start : s.end], s.style) for s in text.spans] == [
        (" To", "dim"), (" be", "bold green"), (" if", "bold red"), ("(or)", "dim"),
    ]  # fmt: skip


def test_a_causal_encoder_fills_in_from_the_left_alone() -> None:
    options = config.Encoder.model_validate({"preset": "modern", "width": 32, "heads": 2, "max_positions": 32})
    model = Encoder(options, 60, 3, torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    model.pattern = Pattern(causal=True)
    ids = [7, config.MASK, 9, config.MASK, 11]
    one, two = fill(model, ids, {})
    with torch.no_grad():
        first = model(torch.tensor([[config.SEP, 7]]))[0, -1, config.N_SPECIAL :]
        assert one.candidates[0][0] == int(first.argmax()) + config.N_SPECIAL
        second = model(torch.tensor([[config.SEP, 7, one.candidates[0][0], 9]]))[0, -1, config.N_SPECIAL :]
        assert two.candidates[0][0] == int(second.argmax()) + config.N_SPECIAL
    assert fill(model, [*ids[:4], 12], {}) == [one, two], "what follows is not seen"
    known = fill(model, ids, {1: 20})
    assert known[0].candidates == one.candidates
    assert fill(model, [7, 8, 9], {}) == []
