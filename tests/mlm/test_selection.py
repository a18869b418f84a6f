"""Tokens, words and spans: whole units at exact rates, whatever they are."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlm import config
from mlm.batches import windows
from mlm.masking import corrupt
from mlm.randomness import Purpose, generator, uniform
from mlm.selection import join_words, number_words, select
from mlm.shards import Shard
from mlm.vocabulary import Tokenizer

LEVEL = 1e-6
UNITS = ("token", "word", "span")
N_TOKENS = 60
BEGINS = torch.arange(N_TOKENS) % 3 == 0  # a third of the tokens begin a word


def masking(unit: str, rate: float = 0.15, **more: object) -> config.Masking:
    return config.Masking.model_validate({"rate": rate, "unit": unit, **more})


def draws(seed: int = 0):
    return uniform(generator(seed, Purpose.MASKING))


def text(rows: int, length: int, seed: int = 1, first: int = config.N_SPECIAL) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(first, N_TOKENS, (rows, length)))


def words_of(row: torch.Tensor) -> list[list[int]]:
    """Positions of each word, by a loop: a word ends where another begins and at special tokens."""
    found: list[list[int]] = []
    open_word = False
    for place, token in enumerate(row.tolist()):
        if token < config.N_SPECIAL:
            open_word = False
        elif BEGINS[token] or not open_word:
            found.append([place])
            open_word = True
        else:
            found[-1].append(place)
    return found


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4, 1.0])
@pytest.mark.parametrize("length", [3, 16, 64])
def test_the_rate_is_exact_in_expectation(unit: str, rate: float, length: int) -> None:
    rows = 600_000 // length
    tokens = text(rows, length)
    selected = corrupt(tokens, masking(unit, rate), draws(), n_tokens=N_TOKENS, begins_word=BEGINS).selected
    counts = selected.sum(1).double()
    error = float(counts.std()) / math.sqrt(rows)
    assert abs(float(counts.mean()) - rate * length) <= 5 * error + 1e-9
    if rate == 1:
        assert selected.all()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4])
def test_the_split_is_the_one_asked_for(unit: str, rate: float) -> None:
    kind = corrupt(text(30_000, 64), masking(unit, rate), draws(), n_tokens=N_TOKENS, begins_word=BEGINS).kind
    found = torch.bincount(kind.flatten(), minlength=4).numpy()[1:]
    assert stats.chisquare(found, np.array([0.8, 0.1, 0.1]) * found.sum()).pvalue > LEVEL


@given(rows=st.integers(1, 4), length=st.integers(1, 30), rate=st.floats(0, 1), seed=st.integers(0, 2**40))
def test_a_word_is_selected_whole_or_not_at_all(rows: int, length: int, rate: float, seed: int) -> None:
    tokens = text(rows, length, seed % 2**32, first=0)
    result = corrupt(tokens, masking("word", rate), draws(seed), n_tokens=N_TOKENS, begins_word=BEGINS)
    for row, selected in zip(tokens, result.selected, strict=True):
        words = words_of(row)
        assert not selected[row < config.N_SPECIAL].any()
        assert all(len({bool(selected[place]) for place in word}) == 1 for word in words)
        n = sum(len(word) for word in words)
        longest = max((len(word) for word in words), default=0)
        # Within one unit of what is wanted: the unit that does not fit is taken or left whole.
        assert abs(int(selected.sum()) - rate * n) < longest + 1
    assert torch.equal(result.selected, result.predicted)
    kept = (result.kind == 0) | (result.kind == 2)
    assert torch.equal(result.inputs[kept], tokens[kept])


@given(rows=st.integers(1, 4), length=st.integers(1, 30), seed=st.integers(0, 2**40))
def test_words_are_numbered_as_a_loop_would(rows: int, length: int, seed: int) -> None:
    tokens = text(rows, length, seed % 2**32, first=0)
    numbers = number_words(tokens >= config.N_SPECIAL, BEGINS[tokens])
    assert int(numbers.max()) < length
    for row, of_row in zip(tokens, numbers, strict=True):
        groups = [{int(of_row[place]) for place in word} for word in words_of(row)]
        assert all(len(group) == 1 for group in groups)
        assert len(set().union(*groups)) == len(groups) if groups else True


@pytest.mark.parametrize(("p", "longest"), [(0.2, 10), (0.5, 3), (1.0, 10)])
def test_spans_have_clipped_geometric_lengths(p: float, longest: int) -> None:
    rows, length = 4000, 400
    words = torch.arange(length).expand(rows, -1)
    spans = join_words(words, config.Span(p=p, longest=longest), draws())
    assert (spans[:, 1:] - spans[:, :-1] >= 0).all()
    assert (spans[:, 1:] - spans[:, :-1] <= 1).all()
    # The first spans of a row, never cut by its end.
    lengths = torch.stack([(spans == number).sum(1) for number in range(10)]).flatten().numpy()
    found = np.bincount(lengths, minlength=longest + 1)[1:]
    law = np.array([p * (1 - p) ** k for k in range(longest)])
    law[-1] = (1 - p) ** (longest - 1)
    assert len(found) == longest
    assert (found[law == 0] == 0).all()
    if (law > 0).sum() > 1:
        assert stats.chisquare(found[law > 0], law[law > 0] * found.sum()).pvalue > LEVEL


def test_spans_are_stretches_of_whole_words() -> None:
    tokens = text(500, 64)
    one = masking("span", 0.3, span={"p": 0.2, "longest": 6})
    selected = corrupt(tokens, one, draws(), n_tokens=N_TOKENS, begins_word=BEGINS).selected
    lengths = []
    for row, of_row in zip(tokens, selected, strict=True):
        words = words_of(row)
        taken = [bool(of_row[word[0]]) for word in words]
        assert all(
            bool(of_row[place]) == chosen for word, chosen in zip(words, taken, strict=True) for place in word
        )
        runs = "".join("x" if chosen else " " for chosen in taken).split()
        lengths += [len(run) for run in runs]
    single = 1 / (1 - 0.3)  # mean length of a stretch if words were drawn one by one at this rate
    assert np.mean(lengths) > 2 * single


@pytest.mark.parametrize("unit", UNITS)
def test_no_position_is_favoured(unit: str) -> None:
    tokens = torch.full((60_000, 24), 6)  # every token a word of its own
    one = masking(unit, 0.25, span={"p": 0.5, "longest": 3})
    found = select(tokens > 0, tokens > 0, one, draws()).sum(0).numpy()
    if unit == "span":  # a row's ends are ends of spans, so the edges differ a little
        assert found.std() / found.mean() < 0.05
    else:
        assert stats.chisquare(found).pvalue > LEVEL


def test_tokens_are_drawn_as_they_ever_were() -> None:
    """The bits of a run of tokens do not depend on what else could be selected."""
    tokens = text(64, 64)
    plain = corrupt(tokens, masking("token"), draws(), n_tokens=N_TOKENS)
    knowing = corrupt(tokens, masking("token"), draws(), n_tokens=N_TOKENS, begins_word=BEGINS)
    assert all(torch.equal(a, b) for a, b in zip(plain[:4], knowing[:4], strict=True))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("unit", UNITS)
def test_the_predicted_share_is_exact_and_inside_the_selected(unit: str, share: float) -> None:
    one = masking(unit, 0.4, predicted=share)
    result = corrupt(text(20_000, 32), one, draws(), n_tokens=N_TOKENS, begins_word=BEGINS)
    assert not (result.predicted & ~result.selected).any()
    assert float(result.predicted.sum() / result.selected.sum()) == pytest.approx(share, abs=0.005)
    whole = corrupt(text(20_000, 32), masking(unit, 0.4), draws(), n_tokens=N_TOKENS, begins_word=BEGINS)
    assert torch.equal(result.inputs, whole.inputs), "the context is the same, only fewer are predicted"


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_words_of_real_text_are_its_words(kind: str, vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies[kind]
    sentence = "A class definition is an executable statement"
    ids = torch.tensor([tokenizer.encode(sentence)])
    begins = torch.tensor(tokenizer.begins_word)
    numbers = number_words(ids >= config.N_SPECIAL, begins[ids])[0].tolist()
    spelled: dict[int, str] = {}
    for number, token in zip(numbers, ids[0].tolist(), strict=True):
        spelled[number] = spelled.get(number, "") + tokenizer.pieces[token]
    assert [word.strip("▁ ") for word in spelled.values()] == sentence.split()


def test_every_unit_on_a_real_shard(data: dict[str, Shard], vocabularies: dict[str, Tokenizer]) -> None:
    rows = windows(data["train"].tokens, 32, 2000)
    begins = torch.zeros(400, dtype=torch.bool)
    begins[::4] = True
    for unit in UNITS:
        result = corrupt(rows, masking(unit, 0.15), draws(), n_tokens=400, begins_word=begins)
        eligible = (rows >= config.N_SPECIAL).sum()
        assert float(result.selected.sum() / eligible) == pytest.approx(0.15, abs=0.004)
        assert (rows[result.selected] >= config.N_SPECIAL).all()


def test_words_without_a_vocabulary_are_an_error_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        corrupt(text(2, 8), masking("word"), draws(), n_tokens=N_TOKENS)
    with pytest.raises(ValueError, match="bernoulli draws tokens one by one"):
        masking("word", selection="bernoulli")
