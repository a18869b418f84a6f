"""One token file a split: the documents' tokens and nothing else, whatever the number of cores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlm import config, corpus, shards, vocabulary
from mlm.errors import Damaged, InputError
from mlm.vocabulary import Tokenizer
from tests.mlm.places import TEXT, environment, seal

KINDS = ("unigram", "bpe", "char")


def documents(folder: Path, split: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for document, text in corpus.read(folder, split):
        found[document] = found.get(document, "") + text
    return found


def saved(tokenizer: Tokenizer, folder: Path) -> Path:
    path = folder / "vocabulary.model"
    path.write_bytes(tokenizer.model)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_is_its_documents_each_ended_by_sep(
    kind: str, prepared: Path, tmp_path: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    tokenizer = vocabularies[kind]
    shards.write(prepared, saved(tokenizer, tmp_path), tmp_path / "shards")
    found = shards.read(tmp_path / "shards", tmp_path / "vocabulary.model")
    assert set(found) == set(corpus.SPLITS)
    for split, shard in found.items():
        texts = list(documents(prepared, split).values())
        assert shard.tokens.dtype == np.uint16
        assert len(shard.offsets) == len(texts) + 1
        assert shard.offsets[0] == 0
        assert shard.offsets[-1] == len(shard.tokens)
        for text, begin, end in zip(texts, shard.offsets[:-1], shard.offsets[1:], strict=True):
            *ids, last = shard.tokens[begin:end].tolist()
            assert last == config.SEP
            assert config.SEP not in ids
            assert ids == tokenizer.encode(text)


@pytest.fixture
def cut_small(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepared corpus with documents cut into many parts, and tasks that begin inside documents."""
    for split in corpus.SPLITS:
        path = prepared / f"{split}.jsonl"
        lines = []
        for document, text in documents(prepared, split).items():
            for begin in text.split("\n"):
                lines.append(json.dumps({"document": document, "text": begin + "\n"}))
        path.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(shards, "TASK_CHARACTERS", 400)
    return seal(prepared)


def test_one_core_and_two_cores_and_any_cut_give_the_same_bytes(
    cut_small: Path, tmp_path: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    model = saved(vocabularies["unigram"], tmp_path)
    for cores in (1, 2):
        shards.write(cut_small, model, tmp_path / f"on-{cores}", cores)
    shards.TASK_CHARACTERS = 2**20
    shards.write(cut_small, model, tmp_path / "whole", 1)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(names) == 7
    for name in names:
        expected = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "on-1" / name).read_bytes() == expected
        assert (tmp_path / "on-2" / name).read_bytes() == expected


def test_a_vocabulary_beyond_sixteen_bits_gets_thirty_two(prepared: Path, tmp_path: Path) -> None:
    """Characters from the supplementary planes make a large vocabulary quickly."""
    letters = [chr(i) for i in range(0x10000, 0x10000 + 2**16 + 10)]
    lines = ["".join(letters[i : i + 100]) for i in range(0, len(letters), 100)]
    size = len(letters) + 2 + config.N_SPECIAL
    wanted = config.Vocabulary(kind="char", size=size)
    model = tmp_path / "large.model"
    model.write_bytes(vocabulary.train([*lines, "a b"], wanted.model_copy(update={"size": size + 2}), "here"))
    for split in corpus.SPLITS:
        (prepared / f"{split}.jsonl").write_text(json.dumps({"document": "d", "text": "".join(letters)}) + "\n")
    shards.write(seal(prepared), model, tmp_path / "shards")
    tokens = shards.read(tmp_path / "shards", model)["train"].tokens
    assert tokens.dtype == np.uint32
    assert Tokenizer.read(model).decode(tokens.tolist()[:-1]) == "".join(letters)


@pytest.fixture
def written(prepared: Path, tmp_path: Path, vocabularies: dict[str, Tokenizer]) -> Path:
    shards.write(prepared, saved(vocabularies["unigram"], tmp_path), tmp_path / "shards")
    return tmp_path / "shards"


@pytest.mark.parametrize("name", ["train.tokens", "test.offsets"])
@pytest.mark.parametrize("harm", ["truncated", "altered", "longer", "missing"])
def test_a_damaged_file_is_named_and_never_half_read(written: Path, name: str, harm: str) -> None:
    path = written / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": raw[:-8], "altered": raw, "longer": raw + b"ab"}[harm])
    with pytest.raises(Damaged, match="damaged") as caught:
        shards.read(written)
    assert str(path) in str(caught.value)
    assert f"delete {written} and run again" in str(caught.value)


def test_a_damaged_header_is_named(written: Path) -> None:
    header = written / "shards.json"
    whole = header.read_text()
    for harmed in (whole[:50], "[]", '{"format": 99}', ""):
        header.write_text(harmed)
        with pytest.raises(Damaged, match=r"shards\.json"):
            shards.read(written)
    header.unlink()
    with pytest.raises(Damaged, match=r"shards\.json: missing"):
        shards.read(written)


def test_shards_of_another_vocabulary_are_refused(
    written: Path, tmp_path: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    other = tmp_path / "other.model"
    other.write_bytes(vocabularies["bpe"].model)
    with pytest.raises(Damaged, match="encoded with another vocabulary"):
        shards.read(written, other)


def test_the_header_is_written_last(prepared: Path, written: Path, tmp_path: Path) -> None:
    """A failure on the way leaves no header over files of two makings."""
    (prepared / "test.jsonl").write_text("")
    (written / "shards.json").unlink()  # as the command does, and Snakemake before it
    with pytest.raises(InputError, match="test split has no tokens"):
        shards.write(seal(prepared), tmp_path / "vocabulary.model", written)
    assert not (written / "shards.json").exists()


def test_a_corpus_altered_since_it_was_prepared_is_named(
    prepared: Path, tmp_path: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    model = saved(vocabularies["unigram"], tmp_path)
    with (prepared / "train.jsonl").open("a") as stream:
        stream.write(json.dumps({"document": "late", "text": "Late."}) + "\n")
    with pytest.raises(Damaged, match=r"train\.jsonl: missing or altered since it was prepared; delete"):
        shards.write(prepared, model, tmp_path / "shards")


def test_shards_are_read_only(written: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        shards.read(written)["train"].tokens[0] = 1


MEASURE = """
import os, sys, threading, time
from pathlib import Path
from mlm import shards

PAGE = os.sysconf("SC_PAGESIZE")

def resident():
    "This process and its children, in bytes."
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number = int(stat.parent.name)
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            if os.getpid() in (number, parent):
                total += int((stat.parent / "statm").read_text().split()[1]) * PAGE
        except (OSError, ValueError):
            continue
    return total

def watch():
    global peak
    while True:
        peak = max(peak, resident())
        time.sleep(0.05)

peak = 0
if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    shards.write(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
    print(peak)
"""


def test_two_hundred_megabytes_are_encoded_under_one_gigabyte_resident(
    tmp_path: Path, vocabularies: dict[str, Tokenizer]
) -> None:
    """The process and its workers together; one document is all of it."""
    model = saved(vocabularies["unigram"], tmp_path)
    folder = tmp_path / "large"
    folder.mkdir()
    part = TEXT[: 2**16]
    line = json.dumps({"document": "large", "text": part}) + "\n"
    with (folder / "train.jsonl").open("w") as stream:
        for _ in range(-(-200_000_000 // len(part.encode()))):
            stream.write(line)
    for split in ("validation", "test"):
        (folder / f"{split}.jsonl").write_text(line)
    seal(folder)
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    cores = str(len(os.sched_getaffinity(0)))
    command = [sys.executable, str(script), str(folder), str(model), str(tmp_path / "shards"), cores]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout)
    (folder / "train.jsonl").unlink()
    found = shards.read(tmp_path / "shards")["train"]
    assert len(found.tokens) > 40_000_000
    assert peak < 10**9
    for path in (tmp_path / "shards").iterdir():
        path.unlink()
