"""Pairs differ in one word, are balanced, and are made of words that the training text shows."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mlm import corpus, grammar
from mlm.errors import InputError
from mlm.grammar import (
    FUNCTION_WORDS,
    KINDS,
    LISTS,
    OCCURRENCES,
    Pair,
    choose,
    count_words,
    of_corpus,
    read,
    write,
)
from tests.mlm.places import seal

LISTED = [*FUNCTION_WORDS, *sorted({word for text in LISTS.values() for word in text.replace(",", "").split()})]
NUMBER = {form: n for entry in LISTS["nouns"].split(", ") for n, form in enumerate(entry.split())}


def corpus_of(folder: Path, train: str, held_out: str = "nothing") -> Path:
    """A prepared corpus of one document a split."""
    folder.mkdir(parents=True)
    for split, text in (("train", train), ("validation", held_out), ("test", held_out)):
        line = {"document": split, "text": text}
        (folder / f"{split}.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    return seal(folder)


def prepare(folder: Path, path: Path, per_kind: int) -> None:
    write(of_corpus(folder, per_kind), path)


def text_of(words: list[str]) -> str:
    return "\n".join([" ".join(words)] * OCCURRENCES)


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_of(tmp_path_factory.mktemp("grammar") / "corpus", text_of(LISTED))


@pytest.fixture(scope="module")
def pairs(corpus_folder: Path) -> list[Pair]:
    path = corpus_folder.parent / "pairs.jsonl"
    prepare(corpus_folder, path, 200)
    return read(path)


def words(sentence: str) -> list[str]:
    return sentence.removesuffix(".").split()


def difference(pair: Pair) -> tuple[str, str]:
    """The word that differs: (as it should be, as it should not)."""
    sides = list(zip(words(pair.good), words(pair.bad), strict=True))
    (found,) = [(good, bad) for good, bad in sides if good != bad]
    return found


def test_every_kind_has_two_hundred_pairs_and_no_pair_twice(pairs: list[Pair]) -> None:
    counts = Counter(pair.kind for pair in pairs)
    assert list(counts) == list(KINDS)
    assert all(200 <= count < 206 for count in counts.values())
    assert len({(pair.good, pair.bad) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("per_kind", [1, 200, 3000])
def test_one_word_differs_and_no_choice_of_it_is_better_by_itself(per_kind: int, corpus_folder: Path) -> None:
    """Every right word is wrong against the same other as often: a fixed taste gets half."""
    lexicon = choose(count_words(text for _, text in corpus.read(corpus_folder, "train")), "here")
    made = [Pair(*pair, "here") for pair in grammar.generate(lexicon, per_kind)]
    for kind in KINDS:
        found = Counter(difference(pair) for pair in made if pair.kind == kind)
        assert found == Counter({(bad, good): count for (good, bad), count in found.items()})
    entries = {form: entry for entry in LISTS["nouns"].split(", ") for form in entry.split()}
    for pair in made:
        nouns = [entries[word] for word in words(pair.good) if word in entries]
        assert len(set(nouns)) == len(nouns)


def test_the_noun_before_the_verb_says_nothing_where_something_stands_between(pairs: list[Pair]) -> None:
    for kind in ("agreement_prepositional_phrase", "agreement_relative_clause"):
        chosen = [pair for pair in pairs if pair.kind == kind]
        numbers = [[NUMBER[word] for word in words(pair.good) if word in NUMBER] for pair in chosen]
        assert Counter(map(tuple, numbers)) == {(a, b): len(chosen) / 4 for a in (0, 1) for b in (0, 1)}


def test_good_sentences_agree(pairs: list[Pair]) -> None:
    """Checked against the lists, by other rules than those that made the sentences."""
    verbs = {form: n for entry in LISTS["verbs that agree"].split(", ") for n, form in enumerate(entry.split())}
    plural = {"this": 0, "that": 0, "these": 1, "those": 1}
    men, women = ({entry.split()[0] for entry in LISTS[name].split(", ")} for name in ("men", "women"))
    for pair in pairs:
        good, bad = difference(pair)
        subject = next(word for word in words(pair.good) if word in NUMBER)
        if pair.kind.startswith("agreement"):
            assert (verbs[good], verbs[bad]) == (NUMBER[subject], 1 - NUMBER[subject])
        elif pair.kind == "determiner_noun":
            assert (plural[good], plural[bad]) == (NUMBER[subject], 1 - NUMBER[subject])
        else:
            fits = {"himself": subject in men, "herself": subject in women, "themselves": NUMBER[subject] == 1}
            assert (fits[good], fits[bad]) == (True, False)


def test_the_same_text_gives_the_same_bytes(corpus_folder: Path, pairs: list[Pair], tmp_path: Path) -> None:
    prepare(corpus_folder, tmp_path / "again.jsonl", 200)
    assert (tmp_path / "again.jsonl").read_bytes() == (corpus_folder.parent / "pairs.jsonl").read_bytes()
    assert set(json.loads((tmp_path / "again.jsonl").read_text().splitlines()[0])) >= {
        "sentence_good", "sentence_bad", "UID", "linguistics_term",
    }  # fmt: skip


def test_more_pairs_begin_with_the_fewer(corpus_folder: Path, pairs: list[Pair], tmp_path: Path) -> None:
    prepare(corpus_folder, tmp_path / "more.jsonl", 400)
    more = read(tmp_path / "more.jsonl")
    for kind in KINDS:
        few = [(pair.good, pair.bad) for pair in pairs if pair.kind == kind]
        assert [(pair.good, pair.bad) for pair in more if pair.kind == kind][: len(few)] == few


def test_words_come_from_the_training_text_the_most_frequent_first(tmp_path: Path) -> None:
    held_out = set(grammar.OTHERS.replace(",", "").split())
    train = text_of([word for word in LISTED if word not in held_out] + ["queen", "queens"])
    folder = corpus_of(tmp_path / "corpus", train, text_of(sorted(held_out)))
    prepare(folder, tmp_path / "pairs.jsonl", 200)
    occurrences = count_words(iter([train]))
    made = {word for pair in read(tmp_path / "pairs.jsonl") for s in (pair.good, pair.bad) for word in words(s)}
    assert all(occurrences[word] >= OCCURRENCES for word in made)
    assert made.isdisjoint(held_out)
    chosen = choose(occurrences, "here")
    assert chosen["nouns"][0] == chosen["women"][0] == ("queen", "queens")
    assert len(chosen["nouns"]) == grammar.MOST


def test_spellings_are_counted_as_they_stand() -> None:
    text = "The king's man; KING king, kings\nking-at-arms 3kings o'er the  kings."
    found = count_words(iter([text]))
    assert (found["king"], found["kings"], found["KING"], found["the"], found["The"]) == (1, 3, 1, 1, 1)


def test_too_few_words_are_told_with_what_is_there(tmp_path: Path) -> None:
    kept = {"woman", "women", "lady", "ladies", "girl"}
    rare = {w for entry in LISTS["women"].split(", ") for w in entry.split()} - kept
    folder = corpus_of(tmp_path / "corpus", text_of([w for w in LISTED if w not in rare | {"herself"}]))
    with pytest.raises(InputError) as told:
        prepare(folder, tmp_path / "pairs.jsonl", 200)
    first, second = told.value.problems
    assert first.startswith(f"{folder}/train.jsonl: the grammar's word 'herself' occurs 0 times")
    assert "of the grammar's women 4 must occur 20 times" in second
    assert "2 do (woman women, lady ladies)" in second
    assert not (tmp_path / "pairs.jsonl").exists()


def test_more_pairs_than_the_words_allow_are_refused(corpus_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--per-kind 100000: .* of agreement_plain; ask for fewer"):
        prepare(corpus_folder, tmp_path / "pairs.jsonl", 100_000)


BLIMP = {
    "sentence_good": "Many girls insulted themselves.",
    "sentence_bad": "Many girls insulted herself.",
    "one_prefix_prefix": "Many girls insulted",
    "one_prefix_word_good": "themselves",
    "one_prefix_word_bad": "herself",
    "field": "morphology",
    "linguistics_term": "anaphor_agreement",
    "UID": "anaphor_number_agreement",
    "simple_LM_method": True,
    "one_prefix_method": True,
    "two_prefix_method": False,
    "lexically_identical": True,
    "pairID": "0",
}


def test_a_file_and_a_folder_of_blimp_are_read(tmp_path: Path) -> None:
    path = tmp_path / "anaphor_number_agreement.jsonl"
    path.write_text(json.dumps(BLIMP) + "\n")
    expected = Pair(
        "anaphor_number_agreement", BLIMP["sentence_good"], BLIMP["sentence_bad"], f"{path}, line 1"
    )
    assert read(path) == [expected]
    (tmp_path / "other.jsonl").write_text(json.dumps({**BLIMP, "UID": "other"}) + "\n")
    assert [pair.kind for pair in read(tmp_path)] == ["anaphor_number_agreement", "other"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"sentence_good": "A',
        b"\xff\xff",
        b"[1]",
        b"",
        b'{"sentence_good": "A.", "UID": "x"}',
        b'{"sentence_good": 1, "sentence_bad": "B.", "UID": "x"}',
        b'{"sentence_good": " ", "sentence_bad": "B.", "UID": "x"}',
    ],
)
def test_a_line_that_is_no_pair_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json.dumps(BLIMP).encode() + b"\n" + line + b"\n")
    with pytest.raises(InputError, match=r"line 2: not a pair; .* sentence_good, sentence_bad and UID") as told:
        read(path)
    assert str(told.value).startswith(str(path))


def test_a_pair_of_equal_sentences_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({**BLIMP, "sentence_bad": BLIMP["sentence_good"]}) + "\n")
    with pytest.raises(InputError, match=rf"{path}, line 1: both sentences are the same"):
        read(path)


def test_no_file_and_no_pair(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.jsonl: no such file; `python -m mlm "):
        read(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").touch()
    for path in (tmp_path, tmp_path / "empty.jsonl"):
        with pytest.raises(InputError, match=rf"{path}: holds no pair"):
            read(path)
