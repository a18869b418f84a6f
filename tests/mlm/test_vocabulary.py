"""The same text gives the same vocabulary bytes, and encoding gives back what was written."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import config, corpus, vocabulary
from mlm.errors import Damaged, InputError
from mlm.vocabulary import Tokenizer
from tests.mlm.places import TEXT, TOPICS, environment, seal

LINES = [line for line in TEXT.split("\n") if line.strip()]
ALPHABET = sorted(set(TEXT))
KINDS = ("unigram", "bpe", "char")

PROGRAM = """
import hashlib, sys
from mlm import config, vocabulary
from tests.mlm.places import TEXT
lines = [line for line in TEXT.split("\\n") if line.strip()]
wanted = config.Vocabulary.model_validate({"kind": sys.argv[1], "size": int(sys.argv[2])})
print(hashlib.sha256(vocabulary.train(lines, wanted, "here")).hexdigest())
"""


def wanted(kind: str, size: int) -> config.Vocabulary:
    return config.Vocabulary.model_validate({"kind": kind, "size": size})


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_twice_and_on_one_core(kind: str, vocabularies: dict[str, Tokenizer]) -> None:
    size = vocabularies[kind].size
    command = [sys.executable, "-c", PROGRAM, kind, str(size)]
    core = str(min(os.sched_getaffinity(0)))
    for prefix in ([], ["taskset", "-c", core]):
        done = subprocess.run(
            [*prefix, *command], env=environment(), capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == vocabularies[kind].sha256


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_their_ids_and_the_size_is_met(
    kind: str, vocabularies: dict[str, Tokenizer]
) -> None:
    tokenizer = vocabularies[kind]
    assert tokenizer.pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [config.PAD, config.UNK, config.CLS, config.SEP, config.MASK] == [0, 1, 2, 3, 4]
    assert len(set(tokenizer.pieces)) == tokenizer.size
    assert hashlib.sha256(tokenizer.model).hexdigest() == tokenizer.sha256


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_of_a_special_token_is_no_special_token(kind: str, vocabularies: dict[str, Tokenizer]) -> None:
    ids = vocabularies[kind].encode("a [MASK] and [SEP] or <s> and [PAD] with [CLS]")
    assert not {config.PAD, config.CLS, config.SEP, config.MASK} & set(ids)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_size_too_large_names_the_largest_and_the_largest_works(kind: str) -> None:
    few = LINES[:60]
    with pytest.raises(InputError, match=rf"the largest {kind} vocabulary that it can have is \d+") as caught:
        vocabulary.train(few, wanted(kind, 50_000), "corpus.yaml")
    assert str(caught.value).startswith("corpus.yaml: vocabulary.size: 50000")
    largest = int(str(caught.value).rsplit(" ", 1)[1])
    assert Tokenizer(vocabulary.train(few, wanted(kind, largest), "here")).size == largest
    with pytest.raises(InputError, match=f"is {largest}$"):
        vocabulary.train(few, wanted(kind, largest + 1), "here")


def test_a_size_too_small_names_the_smallest_and_the_smallest_works() -> None:
    for kind in ("unigram", "bpe", "char"):
        with pytest.raises(InputError, match=r"too small for the characters .* is (\d+)") as caught:
            vocabulary.train(LINES, wanted(kind, 40), "here")
        smallest = int(str(caught.value).rsplit(" ", 1)[1])
        assert Tokenizer(vocabulary.train(LINES, wanted(kind, smallest), "here")).size == smallest


def test_characters_are_all_there_are_and_their_number_is_the_size() -> None:
    lines = ["to be or not to be", "that is the question"]
    letters = set("".join(lines)) - {" "}
    size = len(letters) + 2 + config.N_SPECIAL  # the blank, the line end
    tokenizer = Tokenizer(vocabulary.train(lines, wanted("char", size), "here"))
    assert set(tokenizer.pieces[5:]) == letters | {"▁", "\n"}
    with pytest.raises(InputError, match=f"the largest char vocabulary that it can have is {size}"):
        vocabulary.train(lines, wanted("char", size + 1), "here")


@given(st.text(st.sampled_from(ALPHABET), max_size=80) | st.text(" \n ab", max_size=20))
def test_characters_give_back_every_text(vocabularies: dict[str, Tokenizer], text: str) -> None:
    """Line ends, double blanks, blanks at the ends: character level loses nothing and adds nothing."""
    tokenizer = vocabularies["char"]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text)


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=6), st.sampled_from(["unigram", "bpe"]))
def test_pieces_give_back_words_and_single_blanks(
    vocabularies: dict[str, Tokenizer], lines: list[str], kind: str
) -> None:
    text = "\n".join(lines)
    assert vocabularies[kind].decode(vocabularies[kind].encode(text)) == " ".join(text.split())


words = st.text(st.sampled_from(ALPHABET) | st.characters(codec="utf-8"), max_size=30)


@given(st.lists(words, max_size=6), st.sampled_from(KINDS))
def test_encoding_line_by_line_is_encoding_the_whole(
    vocabularies: dict[str, Tokenizer], lines: list[str], kind: str
) -> None:
    tokenizer, text = vocabularies[kind], "\n".join(lines)
    if tokenizer.keeps_line_ends:
        parts = [tokenizer.encode(line + "\n") for line in text.split("\n")]
        assert [i for ids in parts for i in ids][:-1] == tokenizer.encode(text)
    else:
        assert tokenizer.encode(text) == list(tokenizer.processor.encode(text))


@given(st.lists(st.sampled_from(TOPICS["class"].split()), min_size=1, max_size=12), st.sampled_from(KINDS))
def test_words_one_by_one_are_the_words_of_a_line(
    vocabularies: dict[str, Tokenizer], chosen: list[str], kind: str
) -> None:
    tokenizer = vocabularies[kind]
    text = " ".join(chosen)
    found = [i for ids in tokenizer.encode_words(chosen) for i in ids]
    assert found == tokenizer.encode(" " + text if kind == "char" else text)


def test_what_the_vocabulary_has_not_becomes_unknown(vocabularies: dict[str, Tokenizer]) -> None:
    for kind in KINDS:
        assert config.UNK in vocabularies[kind].encode("a 漢字 b")


def test_preparing_reads_the_training_split_alone(prepared: Path, tmp_path: Path) -> None:
    vocabulary.prepare(wanted("unigram", 300), prepared, tmp_path / "a.model", "here")
    (prepared / "test.jsonl").write_text('{"document": "d", "text": "ΩΩΩ"}\n')
    vocabulary.prepare(wanted("unigram", 300), seal(prepared), tmp_path / "b.model", "here")
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()


ROWS = [f"Row {number} has words of its own and ends with word{number}" for number in range(3000)]
RHYTHMS = {
    "no line ends": ROWS,
    "line ends": [row + "\n" for row in ROWS],
    "no line ends, behind a row of two lines": ["Title\nbody", *ROWS],
    "line ends, behind a row of two lines": ["Title\nbody\n", *(row + "\n" for row in ROWS)],
    "paragraphs": ["\n\n".join(ROWS) + "\n"],
    "titles": ["".join(f"Title\n{row}\n" for row in ROWS)],
}


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_a_long_text_is_thinned_evenly_whatever_its_rhythm(prepared: Path, rhythm: str) -> None:
    records = [{"document": str(number), "text": text} for number, text in enumerate(RHYTHMS[rhythm])]
    (prepared / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    whole = list(vocabulary._lines(prepared, 1, whole_alphabet=False))
    assert [line for line in whole if line.startswith("Row")] == ROWS
    for stride in range(2, 7):
        drawn = list(vocabulary._lines(prepared, stride, whole_alphabet=False))
        assert set(drawn) <= set(whole)
        for kind in {line[:3] for line in whole if len(whole) > len(ROWS) + 2} or {"Row"}:
            there, taken = (sum(line.startswith(kind) for line in lines) for lines in (whole, drawn))
            assert taken == pytest.approx(there / stride, rel=0.15)


def test_a_long_text_gives_a_vocabulary_and_its_whole_alphabet(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [{"document": str(number), "text": line} for number, line in enumerate([*LINES, "æ", *LINES])]
    (prepared / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    monkeypatch.setattr(vocabulary, "TRAINING_CHARACTERS", 20_000)
    monkeypatch.setattr(vocabulary, "fingerprint", lambda number: b"\0" if int(number) % 7 == 0 else b"\1")
    at = len(LINES)
    assert at % 7, "the line is drawn anyway"
    vocabulary.prepare(wanted("unigram", 200), seal(prepared), tmp_path / "a.model", "here")
    assert Tokenizer.read(tmp_path / "a.model").size == 200
    size = len(set(TEXT) | {"\n", "æ"}) + config.N_SPECIAL
    vocabulary.prepare(wanted("char", size), prepared, tmp_path / "b.model", "here")
    assert "æ" in Tokenizer.read(tmp_path / "b.model").pieces


ODD = {
    "NUL": "a\0b",
    "mark for unknowns": "é▅b",
    "mark for blanks": "a▁b",
    "tab": "a\tb",
    "line end": "a\u2028b",
    "long": "漢" * 90_000,
    "longest part": "\U0001f600" * (2 * corpus.PART_CHARACTERS - 1),
}


@pytest.mark.parametrize("odd", ODD)
def test_some_size_suits_the_characters_of_every_text(odd: str) -> None:
    """What the trainer leaves out is not counted, and what it would leave out along with that is kept."""
    lines = ["to be or not to be", "that is the question", ODD[odd]]
    left_out = set("\0▅▁")
    letters = set("".join(lines)) - left_out | {"\n"}
    size = len(letters) + config.N_SPECIAL
    tokenizer = Tokenizer(vocabulary.train(lines, wanted("char", size), "here"))
    assert set(tokenizer.pieces[5:]) == letters - {" "} | {"▁"}
    with pytest.raises(InputError, match=f"the smallest char vocabulary is {size}"):
        vocabulary.train(lines, wanted("char", size - 1), "here")


@pytest.mark.parametrize("harm", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"\xff" * 50])
def test_a_damaged_model_is_named(tmp_path: Path, vocabularies: dict[str, Tokenizer], harm) -> None:
    path = tmp_path / "vocabulary.model"
    path.write_bytes(harm(vocabularies["unigram"].model))
    with pytest.raises(Damaged, match=r"vocabulary\.model.*delete it and run again|ids 0 to 4"):
        Tokenizer.read(path)
    with pytest.raises(Damaged, match="nowhere"):
        Tokenizer.read(tmp_path / "nowhere")
