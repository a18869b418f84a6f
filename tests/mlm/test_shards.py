"""One token file a split: the documents' tokens and nothing else, whatever the number of cores."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
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


def line_texts(tokenizer: Tokenizer, shard: shards.Shard) -> list[list[str]]:
    """Of every document, the text between one line's begin and the next."""
    found: list[list[str]] = [[] for _ in shard.offsets[1:]]
    for begin, end in pairwise([*shard.lines.tolist(), len(shard.tokens)]):
        document = int(np.searchsorted(shard.offsets, begin, side="right")) - 1
        assert end <= shard.offsets[document + 1]
        found[document].append(tokenizer.decode(i for i in shard.tokens[begin:end].tolist() if i != config.SEP))
    return found


def expected_lines(tokenizer: Tokenizer, text: str) -> list[str]:
    if tokenizer.keeps_line_ends:
        return re.findall(r"^\n+|[^\n]+\n*", text) or [text]
    return [" ".join(line.split()) for line in text.split("\n") if line.strip()] or [""]


def write_documents(folder: Path, of_split: dict[str, list[list[str]]]) -> Path:
    """A prepared corpus: split -> documents -> their parts."""
    folder.mkdir(exist_ok=True)
    for split in corpus.SPLITS:
        records = [
            {"document": f"d{i}", "text": text} for i, parts in enumerate(of_split[split]) for text in parts
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return seal(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_those_of_the_text_wherever_parts_and_tasks_are_cut(
    kind: str, tmp_path: Path, vocabularies: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also within a line, where the part before does not end with a line end: none begins there."""
    tokenizer = vocabularies[kind]
    draws = np.random.default_rng(0)
    whole = {split: [[TEXT[i : i + 6000]] for i in (k, k + 9000)] for k, split in enumerate(corpus.SPLITS)}
    cut = {split: [in_parts(text, draws) for [text] in documents] for split, documents in whole.items()}
    assert any(not part.endswith("\n") for documents in cut.values() for part in documents[0][:-1])
    monkeypatch.setattr(shards, "TASK_CHARACTERS", 100)
    model = saved(tokenizer, tmp_path)
    for name, documents in (("whole", whole), ("cut", cut)):
        shards.write(write_documents(tmp_path / name, documents), model, tmp_path / f"{name}-shards")
    for split, shard in shards.read(tmp_path / "cut-shards").items():
        assert line_texts(tokenizer, shard) == [expected_lines(tokenizer, text) for [text] in whole[split]]
        expected = (tmp_path / "whole-shards" / f"{split}.lines").read_bytes()
        assert (tmp_path / "cut-shards" / f"{split}.lines").read_bytes() == expected
        assert shard.lines.dtype == np.int64


def in_parts(text: str, draws: np.random.Generator) -> list[str]:
    """Cut behind some line ends, and behind some blanks with text before them on their line."""
    places = [m.end() for m in re.finditer(r"\n|(?<=\S) ", text) if draws.random() < 0.2]
    return [text[begin:end] for begin, end in pairwise([0, *places, len(text)])]


@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_lines_of_odd_documents(kind: str, tmp_path: Path, vocabularies: dict[str, Tokenizer]) -> None:
    """Begun by line ends, nothing but line ends, no text at all, no last line end."""
    tokenizer = vocabularies[kind]
    texts = ["\n\nfirst\n\n\nsecond\n", "\n", "", "one\ntwo", "\n\n", "last\n"]
    parts = [["\n", "\nfirst\n\n", "\nsec", "ond\n"], *([text] for text in texts[1:])]
    folder = write_documents(tmp_path / "odd", dict.fromkeys(corpus.SPLITS, parts))
    shards.write(folder, saved(tokenizer, tmp_path), tmp_path / "shards")
    shard = shards.read(tmp_path / "shards")["train"]
    assert len(shard.offsets) == len(texts) + 1
    assert (np.diff(shard.lines) > 0).all()
    assert set(shard.offsets[:-1].tolist()) <= set(shard.lines.tolist())
    begins = [int(((shard.lines >= a) & (shard.lines < b)).sum()) for a, b in pairwise(shard.offsets)]
    # Characters: line ends before all text are tokens, and where the document begins.
    assert begins == [2 if kind == "unigram" else 3, 1, 1, 2, 1, 1]
    assert [int(n) for n in np.diff(shard.offsets)][2] == 1


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
    assert len(names) == 10
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


@pytest.mark.parametrize("name", ["train.tokens", "test.offsets", "validation.lines"])
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
