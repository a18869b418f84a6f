"""Sentence tasks: what the packages carry, told apart, split for good and read back whole."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import tasks
from mlm.errors import Damaged, InputError
from mlm.tasks import Example
from tests.mlm.places import ARCHIVES, ROOT, seal_sentences, write_yaml

LABELLED = "".join(
    f"{label}:detail {text} number {n} ?\n"
    for label, text in (("HUM", "Who was"), ("NUM", "How many were"))
    for n in range(40)
)
SCORED = "id\tsentiment\ttext\n" + "".join(
    f"{n}\t{n - 20.5}\t{'Fine' if n > 20 else 'Poor'} film no {n}\n" for n in range(41)
)

Prepared = Callable[..., list[Example]]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """mine(text, format=…): a user's own file as the task `mine`, prepared and read."""
    monkeypatch.chdir(tmp_path)

    def prepared(text: str | bytes, **changes: Any) -> list[Example]:
        content = {
            "title": "mine",
            "licence": "mine",
            "format": "labelled",
            "source": {"kind": "files", "paths": ["own.txt"]},
            "held_out": 0.3,
        } | changes
        write_yaml(tasks.FOLDER / "mine.yaml", content)
        Path("own.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        tasks.prepare("mine", Path("mine.jsonl"))
        return tasks.read(Path("mine.jsonl"))

    return prepared


def header() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("mine.jsonl").read_text().partition("\n")[0])
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Example]]:
    """The tasks of this repository, from the registry or its cache."""
    folder = tmp_path_factory.mktemp("tasks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("MLM_ARCHIVES", str(ARCHIVES))
        for name in ("trec", "sentiment"):
            tasks.prepare(name, folder / name)
            tasks.prepare(name, folder / "again")
            assert (folder / name).read_bytes() == (folder / "again").read_bytes()
    return {name: tasks.read(folder / name) for name in ("trec", "sentiment")}


def test_the_tasks_are_the_probes_with_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert {"trec", "sentiment"} <= set(tasks.names())
    assert "brown" not in tasks.names()
    with pytest.raises(InputError, match=r"brown\.yaml: no sentence task.*the sentence tasks are: .*trec"):
        tasks.load("brown")
    with pytest.raises(InputError, match=r"trek\.yaml: no such file\. the sentence tasks are: .*trec"):
        tasks.load("trek")


def test_the_questions_are_those_of_the_paper(whole: dict[str, list[Example]]) -> None:
    """Li and Roth 2002: six classes, about 5,500 questions, the rarest class under 2 %."""
    found = Counter(e.label for e in whole["trec"])
    assert set(found) == {"ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"}
    assert 5_300 < found.total() < 5_500
    assert found["ABBR"] < 0.02 * found.total()
    asked = {e.text: e.label for e in whole["trec"]}
    assert asked["What are liver enzymes ?"] == "DESC"
    assert asked["What is the oldest profession ?"] == "HUM"
    assert "Who was Galileo ?" not in asked  # one of the original's test questions


def test_praise_and_blame_are_balanced_and_spelt_as_written(whole: dict[str, list[Example]]) -> None:
    found = Counter(e.label for e in whole["sentiment"])
    assert set(found) == {"positive", "negative"}
    assert found["positive"] / found.total() == pytest.approx(0.5, abs=0.01)
    asked = {e.text: e.label for e in whole["sentiment"]}
    assert asked["Absorbing character study by André Turpin."] == "positive"  # UTF-8, not latin-1
    assert asked["Effective but too tepid biopic"] == "negative"
    assert len(asked) > 10_500  # a reader that minds quotation marks would swallow lines


@pytest.mark.parametrize("name", ["trec", "sentiment"])
def test_no_sentence_is_both_learnt_and_asked(name: str, whole: dict[str, list[Example]]) -> None:
    """Not even with other capitals, blanks or punctuation; and none is learnt twice."""
    keys = [" ".join(tasks.words(e.text)) for e in whole[name]]
    assert len(set(keys)) == len(keys)
    share = sum(e.held_out for e in whole[name]) / len(keys)
    assert share == pytest.approx(0.2, abs=3 * (0.16 / len(keys)) ** 0.5)
    for held_out in (False, True):
        assert {e.label for e in whole[name] if e.held_out == held_out} == {e.label for e in whole[name]}


@given(st.sets(st.integers(0, 79), max_size=30), st.permutations(range(80)))
def test_the_split_moves_with_no_other_line(mine: Prepared, left_out: set[int], order: list[int]) -> None:
    lines = LABELLED.splitlines(keepends=True)
    everything = set(mine(LABELLED))
    fewer = [lines[i] for i in order if i not in left_out]
    some = set(mine("".join(fewer)))
    assert some <= everything
    assert len(some) == len(fewer)


def test_repeated_sentences_are_kept_once_and_contradicted_ones_not_at_all(mine: Prepared) -> None:
    again = "HUM:other who  was number 7?\nNUM:count Who was number 8\nNUM:x \tHow many were number 3 ?\n"
    found = mine(LABELLED + again)
    assert {e.text: e.label for e in found} == {
        e.text: e.label for e in mine(LABELLED) if e.text != "Who was number 8 ?"
    }
    mine(LABELLED + again)
    stated = {key: header()[key] for key in ("lines", "repeated", "conflicting", "sentences")}
    assert stated == {"lines": 83, "repeated": 3, "conflicting": 1, "sentences": 79}


def test_the_sign_of_the_score_is_the_class_and_nought_has_none(mine: Prepared) -> None:
    found = mine(SCORED + '41\t0.0\tSo so\n42\t-1e-3\t"Quoted badly\n', format="scored")
    assert header()["without_class"] == 1
    labels = {e.text: e.label for e in found}
    assert labels['"Quoted badly'] == "negative"
    assert "So so" not in labels
    assert labels["Fine film no 21"] == "positive"
    assert labels["Poor film no 20"] == "negative"
    assert mine(SCORED.replace("\n", "\r\n"), format="scored") == mine(SCORED, format="scored")


@pytest.mark.parametrize(
    ("form", "line", "shown"),
    [
        ("labelled", "HUM:ind", "'HUM:ind' is not `CLASS text`"),
        ("labelled", "?! What is this ?", "is not `CLASS text`"),
        ("labelled", "HUM: Who ?", "is not `CLASS text`"),
        ("scored", "7\tgood\ttext", r"is not an id, a number and a text with tabs between"),
        ("scored", "7\t1.5", "is not an id, a number"),
        ("scored", "7\tnan\ttext", "is not an id, a number"),
        ("scored", "7\t1.5\ttext\tmore", "is not an id, a number"),
        ("scored", "7\t1.5\t ", "is not an id, a number"),
    ],
)
def test_a_line_that_cannot_be_parsed_is_named(mine: Prepared, form: str, line: str, shown: str) -> None:
    good = LABELLED if form == "labelled" else SCORED
    number = good.count("\n") + 2  # a blank line counts
    with pytest.raises(InputError, match=rf"own\.txt, line {number}: .*correct or remove the line") as told:
        mine(f"{good}\n{line}\n", format=form)
    told.match(shown)
    assert not Path("mine.jsonl").exists()


def test_a_table_without_its_columns_and_text_in_another_encoding(mine: Prepared) -> None:
    for text in ("", SCORED.partition("\n")[2], SCORED.replace("\t", ",")):
        with pytest.raises(InputError, match=r"own\.txt, line 1: the columns must be id, sentiment, text"):
            mine(text, format="scored")
    with pytest.raises(InputError, match=r"own\.txt: not UTF-8.*convert"):
        mine(LABELLED.encode() + "HUM:x Who was José ?\n".encode("latin-1"))


def test_parts_that_nothing_can_be_learnt_from(mine: Prepared) -> None:
    for text in ("", LABELLED.partition("NUM")[0], LABELLED.partition("\n")[0]):
        with pytest.raises(InputError, match=r"mine\.yaml: \d+ sentences to learn from.*two classes"):
            mine(text)
    asked = next(e.text for e in mine(LABELLED) if e.held_out)
    with pytest.raises(InputError, match="no sentence of RARE to learn from; give more"):
        mine("\n".join(line for line in LABELLED.split("\n") if asked not in line) + f"\nRARE:x {asked}\n")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"held_out": 1.0}, r"held_out: is 1\.0; should be less than 1"),
        ({"format": "csv"}, "format: is 'csv'; choose one of 'labelled' or 'scored'"),
        ({"helt_out": 0.2}, "helt_out: unknown key; did you mean `held_out`"),
        ({"source": {"kind": "files", "paths": ["none.txt"]}}, r"source\.paths: no file matches"),
    ],
)
def test_a_task_file_is_read_strictly(mine: Prepared, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=rf"mine\.yaml: {told}"):
        mine(LABELLED, **changes)


def test_a_file_that_was_truncated_or_altered_is_never_half_read(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    line = json.dumps({"text": "é\u2028", "label": "HUM", "held_out": False}, ensure_ascii=False) + "\n"
    seal_sentences(path, line * 3)
    assert tasks.read(path)[0] == Example("é\u2028", "HUM", False)
    good = path.read_bytes()
    for harmed in (good[: -len(line.encode())], good.replace(b"HUM", b"NUM", 1), b""):
        path.write_bytes(harmed)
        with pytest.raises(Damaged):
            tasks.read(path)
    for odd in ("7\n", '{"text": "a"}\n', '{"text": "a", "label": 3, "held_out": true}\n'):
        seal_sentences(path, line + odd)
        with pytest.raises(Damaged, match=r"task\.jsonl.*damaged"):
            tasks.read(path)
    with pytest.raises(InputError, match="no such file"):
        tasks.read(tmp_path / "none")


def test_what_decides_the_file_names_it(mine: Prepared) -> None:
    mine(LABELLED)
    first = tasks.identity_of("mine")
    mine(LABELLED, title="another", licence="another")
    assert tasks.identity_of("mine") == first
    mine(LABELLED, held_out=0.4)
    assert tasks.identity_of("mine") != first
    mine(LABELLED + "HUM:x Who else ?\n")
    assert tasks.identity_of("mine") != first
