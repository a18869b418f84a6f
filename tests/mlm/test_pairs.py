"""Accuracy on minimal pairs: the arithmetic, the references, and a trained run from file to numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mlm import grammar, pairs, reach
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.grammar import Pair
from mlm.likelihood import pseudo_log_likelihoods
from mlm.runs import RunFolder
from mlm.shards import Shard
from mlm.vocabulary import Tokenizer
from tests.mlm.test_grammar import LISTED, corpus_of, text_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    folder = tmp_path_factory.mktemp("pairs")
    return grammar.of_corpus(corpus_of(folder / "corpus", text_of(LISTED)), 40)


def test_accuracy_is_the_share_of_pairs_with_the_better_score_and_a_tie_is_half() -> None:
    good, bad = np.array([-1.0, -2.0, -3.0, -4.0, -5.0]), np.array([-2.0, -1.0, -3.0, -5.0, -6.0])
    found = pairs.accuracies(["x", "y", "x", "y", "y"], good, bad)
    assert found == {"accuracy": 0.7, "x.accuracy": 0.75, "y.accuracy": pytest.approx(2 / 3)}


def test_log_frequencies_are_those_of_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.array([5, 5, 7, 5, 6, 7], np.uint16)
    expected = np.log(np.array([1, 1, 1, 1, 1, 4, 2, 3, 1]) / 15)
    for part in (2**24, 4):  # at once, and in parts
        monkeypatch.setattr(reach, "COUNTED_TOKENS", part)
        np.testing.assert_allclose(pairs.log_frequencies(9, tokens), expected)


def test_a_trained_run_from_file_to_numbers(
    modern: RunFolder, data: dict[str, Shard], made: list[Pair], here: Path
) -> None:
    result = pairs.measure(modern.encoder(), modern.tokenizer(), made, data["train"].tokens)
    names = ["accuracy", *(f"{kind}.accuracy" for kind in grammar.KINDS)]
    assert list(result["values"]) == [*(f"pairs.{name}" for name in names), "pairs.loss_nats"]
    assert list(result["references"]) == ["chance.accuracy", *(f"unigram.{name}" for name in names)]
    # Sets are balanced: frequency alone is right in half of them.
    assert all(value == pytest.approx(0.5) for value in result["references"].values())
    counts = result["counts"]
    assert counts["pairs"] == len(made) == sum(counts[f"{kind}.pairs"] for kind in grammar.KINDS)
    assert counts["good_words"] == sum(len(pair.good.split()) for pair in made)
    right, of = (result["examples"]["pairs.accuracy"][key].split() for key in ("right", "of"))
    assert sum(map(float, right)) / len(made) == pytest.approx(result["values"]["pairs.accuracy"], rel=1e-12)
    assert set(right) <= {"0", "0.5", "1"} and of == ["1"] * len(made)


def test_an_encoder_whose_blocks_are_the_identity_is_right_in_half_of_the_pairs(
    modern: RunFolder, data: dict[str, Shard], made: list[Pair], here: Path
) -> None:
    """Before the first step context counts for nothing, and the grammar leaves nothing else to go by."""
    values = pairs.measure(modern.encoder(trained=False), modern.tokenizer(), made, data["train"].tokens)[
        "values"
    ]
    assert {value for name, value in values.items() if name.endswith("accuracy")} == {0.5}


def test_every_number_once_more_by_itself(
    modern: RunFolder, data: dict[str, Shard], made: list[Pair], here: Path
) -> None:
    model, tokenizer, some = modern.encoder(), modern.tokenizer(), made[::5]
    result = pairs.measure(model, tokenizer, some, data["train"].tokens)
    assert result == pairs.measure(model, tokenizer, some, data["train"].tokens)
    scores = {s: sum(pseudo_log_likelihoods(model, tokenizer, [s])[0]) for p in some for s in (p.good, p.bad)}
    for kind in grammar.KINDS:
        right = [scores[pair.good] > scores[pair.bad] for pair in some if pair.kind == kind]
        assert result["values"][f"pairs.{kind}.accuracy"] == np.mean(right)
    words = sum(len(pair.good.split()) for pair in some)
    total = sum(scores[pair.good] for pair in some)
    assert result["values"]["pairs.loss_nats"] == pytest.approx(-total / words, rel=1e-5)


def test_frequency_alone_can_be_right_on_other_pairs(
    modern: RunFolder, data: dict[str, Shard], here: Path
) -> None:
    """Why the reference is there: "the" is more frequent than rare pieces. The same words are a tie."""
    some = [
        Pair("easy", "This is the class.", "This is zzz class.", "here, line 1"),
        Pair("order", "the class of a function or method is.", "method the of is function a class or.", "here"),
    ]
    found = pairs.measure(modern.encoder(), modern.tokenizer(), some, data["train"].tokens)["references"]
    assert (found["unigram.easy.accuracy"], found["unigram.order.accuracy"]) == (1.0, 0.5)


def test_who_knows_what_is_right_gets_everything_and_who_knows_nothing_half(
    vocabularies: dict[str, Tokenizer], made: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {pair.good for pair in made}
    model, tokenizer = torch.nn.Module(), vocabularies["unigram"]
    scorers = {
        1.0: lambda s: float(s in good),
        0.0: lambda s: -float(s in good),
        0.5: lambda s: -float(len(s.split())),
    }
    for accuracy, score in scorers.items():
        monkeypatch.setattr(pairs, "pseudo_log_likelihoods", lambda *a, score=score: [[score(s)] for s in a[2]])
        values = pairs.measure(model, tokenizer, made, np.array([7]))["values"]
        assert {values[name] for name in values if name.endswith("accuracy")} == {accuracy}


def test_a_word_that_the_vocabulary_cannot_spell_is_named_with_its_line(
    vocabularies: dict[str, Tokenizer], tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    lines = [
        {"UID": "x", "sentence_good": "The class is here.", "sentence_bad": "The class are here."},
        {"UID": "x", "sentence_good": "The 漢字 is here.", "sentence_bad": "The 漢字 are here."},
    ]
    for kind in ("unigram", "bpe", "char"):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(InputError) as told:
            pairs.check(vocabularies[kind], grammar.read(path))
        (problem,) = told.value.problems
        assert problem.startswith(
            f"{path}, line 2: the vocabulary has no pieces for '漢字'; leave the line out"
        )
        pairs.check(vocabularies[kind], grammar.read(path)[:1])
        path.write_text("".join(json.dumps(line) + "\n" for line in lines * 8))
        with pytest.raises(InputError, match=r"(?s)line 10: .*3 more"):
            pairs.check(vocabularies[kind], grammar.read(path))


def test_measuring_moves_nothing(
    modern: RunFolder, data: dict[str, Shard], made: list[Pair], here: Path
) -> None:
    model: Encoder = modern.encoder()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    pairs.measure(model, modern.tokenizer(), made[:20], data["train"].tokens)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
