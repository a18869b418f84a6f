"""Documents -> one memory-mapped token file per split, tied to its vocabulary and corpus.

A folder holds `<split>.tokens` (little-endian uint16, or uint32 where the vocabulary needs it),
`<split>.offsets` (int64, where each document begins, and the end) and `shards.json`, written last.
Every document ends with [SEP]: a split is one stream of tokens.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm import config, corpus
from mlm.errors import Damaged, InputError
from mlm.files import file_sha256, locked, read_json, write_json
from mlm.progress import Progress
from mlm.vocabulary import Tokenizer

FORMAT = 1
TASK_CHARACTERS = 2**20

_tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class Shard:
    """One split: its tokens in document order and where documents begin."""

    tokens: NDArray[Any]
    """[n_tokens], memory-mapped, read only."""
    offsets: NDArray[np.int64]
    """[n_documents + 1]; document i is tokens[offsets[i]:offsets[i + 1]], [SEP] included."""


def write(corpus_folder: Path, vocabulary: Path, folder: Path, cores: int = 1) -> None:
    """Encode a prepared corpus, unless that is done.

    The bytes do not depend on `cores`, nor memory on the size of the corpus.
    """
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "shards.json").exists():
            _write(corpus_folder, vocabulary, folder, cores)


def _write(corpus_folder: Path, vocabulary: Path, folder: Path, cores: int) -> None:
    manifest = corpus.verify(corpus_folder)
    tokenizer = Tokenizer.read(vocabulary)
    dtype = "<u2" if tokenizer.size <= 2**16 else "<u4"
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    total = sum(counts["characters"] for counts in manifest["splits"].values())
    progress = Progress("encoding", total, "characters")
    with ProcessPoolExecutor(cores, get_context("spawn"), _start, (tokenizer.model,)) as pool:
        for split in corpus.SPLITS:
            parts = corpus.read(corpus_folder, split)
            splits[split] = _write_split(pool, cores, parts, folder, split, dtype, progress)
    write_json(
        folder / "shards.json",
        {
            "format": FORMAT,
            "vocabulary_sha256": tokenizer.sha256,
            "vocabulary_size": tokenizer.size,
            "corpus_sha256": {split: manifest["splits"][split]["sha256"] for split in corpus.SPLITS},
            "dtype": dtype,
            "splits": splits,
        },
    )


def read(folder: Path, vocabulary: Path | None = None) -> dict[str, Shard]:
    """The verified shards by split.

    Raises:
        Damaged: a file is missing, truncated or altered, or belongs to another vocabulary.
    """
    remedy = f"delete {folder} and run again"
    header = read_json(folder / "shards.json", remedy)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise Damaged(f"{folder / 'shards.json'}: not the header of a shard of format {FORMAT}; {remedy}")
    if vocabulary is not None and file_sha256(vocabulary) != header["vocabulary_sha256"]:
        raise Damaged(f"{folder}: encoded with another vocabulary than {vocabulary}; {remedy}")
    found = {}
    for split, stated in header["splits"].items():
        arrays = {}
        for name, dtype in (("tokens", header["dtype"]), ("offsets", "<i8")):
            path = folder / f"{split}.{name}"
            actual = file_sha256(path) if path.exists() else "missing"
            if actual != stated[f"{name}_sha256"]:
                size = path.stat().st_size if path.exists() else 0
                raise Damaged(
                    f"{path}: damaged; {size} bytes with SHA-256 {actual[:16]}, "
                    f"written as {stated[f'{name}_sha256'][:16]}; {remedy}"
                )
            arrays[name] = np.memmap(path, dtype=dtype, mode="r")
        found[split] = Shard(arrays["tokens"], arrays["offsets"])
    return found


def _start(model: bytes) -> None:
    global _tokenizer
    _tokenizer = Tokenizer(model)


def _encode(parts: list[tuple[bool, str]], dtype: str) -> tuple[bytes, list[int]]:
    """Tokens of consecutive parts and the positions, in tokens, at which documents begin."""
    assert _tokenizer is not None
    ids: list[int] = []
    begins: list[int] = []
    for begins_document, text in parts:
        if begins_document:
            begins.append(len(ids))
        ids.extend(_tokenizer.encode(text))
    return np.asarray(ids, dtype).tobytes(), begins


def _tasks(parts: Iterator[tuple[str, str]]) -> Iterator[list[tuple[bool, str]]]:
    task: list[tuple[bool, str]] = []
    size, previous = 0, None
    for document, text in parts:
        task.append((document != previous, text))
        previous, size = document, size + len(text)
        if size >= TASK_CHARACTERS:
            yield task
            task, size = [], 0
    if task:
        yield task


def _write_split(
    pool: ProcessPoolExecutor,
    cores: int,
    parts: Iterator[tuple[str, str]],
    folder: Path,
    split: str,
    dtype: str,
    progress: Progress,
) -> dict[str, Any]:
    waiting: deque[tuple[Future[tuple[bytes, list[int]]], int]] = deque()
    width = np.dtype(dtype).itemsize
    separator = np.asarray([config.SEP], dtype).tobytes()
    offsets: list[int] = []
    written, hashed = 0, hashlib.sha256()
    with (folder / f"{split}.tokens").open("wb") as stream:

        def put(content: bytes) -> None:
            nonlocal written
            stream.write(content)
            hashed.update(content)
            written += len(content) // width

        def finish_first() -> None:
            future, characters = waiting.popleft()
            content, begins = future.result()
            progress.add(characters)
            cuts = [0, *(b * width for b in begins), len(content)]
            put(content[: cuts[1]])
            for begin, end in pairwise(cuts[1:]):
                if offsets:
                    put(separator)  # ends the document before
                offsets.append(written)
                put(content[begin:end])

        for task in _tasks(parts):
            waiting.append((pool.submit(_encode, task, dtype), sum(len(text) for _, text in task)))
            if len(waiting) > 2 * cores:  # bounded: the pool itself would take in the whole corpus
                finish_first()
        while waiting:
            finish_first()
        put(separator)
        stream.flush()
        os.fsync(stream.fileno())
    offsets.append(written)
    if written <= 1:
        raise InputError(f"{folder}: the {split} split has no tokens; its documents hold no text")
    starts = np.asarray(offsets, "<i8").tobytes()
    (folder / f"{split}.offsets").write_bytes(starts)
    return {
        "tokens": written,
        "documents": len(offsets) - 1,
        "tokens_sha256": hashed.hexdigest(),
        "offsets_sha256": hashlib.sha256(starts).hexdigest(),
    }
