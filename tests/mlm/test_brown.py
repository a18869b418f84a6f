"""The Brown corpus as the probe reads it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mlm import brown, experiment
from mlm.errors import Damaged, InputError
from tests.mlm.places import ROOT, seal_sentences


@pytest.fixture(autouse=True)
def _inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("tag", "base"),
    [
        ("nn", "nn"), ("nn-tl", "nn"), ("NP-HL", "np"), ("fw-nn", "nn"), ("fw-at-tl", "at"), ("nn-tl-hl", "nn"),
        ("ppss+bem", "ppss"), ("fw-in+at-tl", "in"), ("md*", "md"), ("nn$", "nn$"), ("*", "*"), ("--", "--"),
        (".", "."), ("nn-nc", "nn"), ("bez*", "bez"), ("pps+bez-hl", "pps"), ("(", "("), ("``", "``"),
    ],
)  # fmt: skip
def test_tags_are_collapsed_to_their_base(tag: str, base: str) -> None:
    assert brown.collapse(tag) == base


def test_a_line_is_a_sentence_of_words_and_tags() -> None:
    content = b"\n\tThe/at Fulton/np-tl said/vbd ``/`` no/at 1/2/cd evidence/nn ''/'' ./.\n\nWon't/md* ?/.\n"
    first, second = brown.parse(content, "here", True)
    assert first.words == ["The", "Fulton", "said", '"', "no", "1/2", "evidence", '"', "."]
    assert first.tags == ["at", "np", "vbd", "``", "at", "cd", "nn", "''", "."]
    assert second == brown.Sentence(["Won't", "?"], ["md", "."], True)


@pytest.mark.parametrize("token", ["word", "/nn", "word/"])
def test_what_is_no_word_and_tag_is_named(token: str) -> None:
    with pytest.raises(InputError, match=f"ca01, line 2: '{token}' is not word/tag"):
        brown.parse(f"a/at\nb/nn {token}\n".encode(), "ca01", False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[brown.Sentence]:
    """All the sentences that a probe at default scale reads, from the registry or its cache."""
    path = tmp_path_factory.mktemp("brown") / "sentences.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        from tests.mlm.places import ARCHIVES

        patch.setenv("MLM_ARCHIVES", str(ARCHIVES))
        brown.prepare(experiment.Probe(), path)
        again = path.with_name("again")
        brown.prepare(experiment.Probe(), again)
    assert path.read_bytes() == again.read_bytes()
    return brown.read(path)


def test_the_sentences_asked_for(whole: list[brown.Sentence]) -> None:
    assert Counter(s.held_out for s in whole) == {False: 4000, True: 1500}
    for sentence in whole:
        assert len(sentence.words) == len(sentence.tags)
        assert 5 <= len(sentence.words) <= 25
        assert all(tag and not tag.endswith(("-tl", "-hl", "-nc")) for tag in sentence.tags)
    tags = Counter(tag for s in whole for tag in s.tags)
    assert 60 <= len(tags) <= 110
    assert {"nn", "at", "in", "jj", "np", "vb"} <= {tag for tag, _ in tags.most_common(12)}


def test_no_sentence_is_both_learnt_and_asked(whole: list[brown.Sentence]) -> None:
    """Files are held out whole; what little repeats is formulaic."""
    sides = [{tuple(s.words) for s in whole if s.held_out == side} for side in (False, True)]
    assert len(sides[0] & sides[1]) < 0.01 * len(sides[1])


def test_the_most_frequent_tag_of_a_word_scores_as_it_does_in_the_literature(
    whole: list[brown.Sentence],
) -> None:
    from mlm.probe import lookup

    train, test = ([(w, t) for s in whole if s.held_out == side for w, t in zip(s.words, s.tags, strict=True)]
                   for side in (False, True))  # fmt: skip
    guessed = lookup([w for w, _ in train], [t for _, t in train], [w for w, _ in test])
    right = sum(g == t for g, (_, t) in zip(guessed, test, strict=True)) / len(test)
    assert 0.80 < right < 0.90  # 90 % with all of Brown, less with a twelfth of it


def test_more_sentences_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"measures\.probe\.train_sentences: 99999 are asked for"):
        brown.prepare(experiment.Probe(train_sentences=99_999), tmp_path / "s")


def test_a_damaged_file_of_sentences_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sentences.jsonl"
    line = json.dumps({"words": ["é\u2028"], "tags": ["nn"], "held_out": False}, ensure_ascii=False)
    seal_sentences(path, line + "\n")
    assert brown.read(path)[0].words == ["é\u2028"]
    for harmed in (line[:-4], "{}", '{"words": 1, "more": 2}', "7"):
        seal_sentences(path, line + "\n" + harmed + "\n")
        with pytest.raises(Damaged, match=r"sentences\.jsonl: damaged"):
            brown.read(path)


def test_a_truncated_or_altered_file_of_sentences_is_never_half_read(tmp_path: Path) -> None:
    path = tmp_path / "sentences.jsonl"
    line = json.dumps({"words": ["one"], "tags": ["cd"], "held_out": False}) + "\n"
    seal_sentences(path, line * 3)
    whole = path.read_bytes()
    for harmed in (whole[: -len(line)], whole.replace(b"cd", b"nn", 1), whole + line.encode()):
        path.write_bytes(harmed)
        with pytest.raises(Damaged, match="truncated or altered"):
            brown.read(path)
    path.write_bytes(b"")
    with pytest.raises(Damaged):
        brown.read(path)


def test_size_and_code_name_the_prepared_file() -> None:
    one, other = experiment.Probe(), experiment.Probe(train_sentences=100)
    assert brown.identity_of(one) == brown.identity_of(experiment.Probe())
    assert brown.identity_of(one) != brown.identity_of(other)
