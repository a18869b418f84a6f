"""Documents -> one memory-mapped token file per split, tied to its vocabulary and corpus.

A folder holds `<split>.tokens` (little-endian uint16, or uint32 where the vocabulary needs it),
`<split>.offsets` (int64, where each document begins, and the end), `<split>.lines` (int64, where each
line begins) and `shards.json`, written last. Every document ends with [SEP]: a split is one stream of
tokens.

A line is a sentence to the objectives that need one, as in BERT's own input. It begins where a document
does or behind a line end of the prepared text, and has tokens. A character vocabulary's line ends are
tokens of the line before, those before all text a line of their own. A part that begins in the middle
of a line, which the part before tells by not ending with a line end, begins none.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm import config, corpus
from mlm.errors import Damaged, InputError
from mlm.files import Stream, file_sha256, lock_of, locked, read_json, write_json
from mlm.progress import Progress
from mlm.vocabulary import Tokenizer

FORMAT = 2
TASK_CHARACTERS = 2**20

_tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class Shard:
    """One split: its tokens in document order and where documents begin."""

    tokens: NDArray[Any]
    """[n_tokens], memory-mapped, read only."""
    offsets: NDArray[np.int64]
    """[n_documents + 1]; document i is tokens[offsets[i]:offsets[i + 1]], [SEP] included."""
    lines: NDArray[np.int64]
    """[n_lines] where lines begin, ascending; every document's begin is one of them."""
    name: str = "the corpus"
    """How messages call it."""


def write(corpus_folder: Path, vocabulary: Path, folder: Path, cores: int = 1, anew: bool = False) -> None:
    """Encode a prepared corpus, unless that is done.

    The bytes do not depend on `cores`, nor memory on the size of the corpus.

    Args:
        anew: encode it also if that is done; what is there stays until corpus and vocabulary were read.
    """
    with locked(lock_of(folder)):
        if anew or not (folder / "shards.json").exists():
            _write(corpus_folder, vocabulary, folder, cores)


def _write(corpus_folder: Path, vocabulary: Path, folder: Path, cores: int) -> None:
    manifest = corpus.verify(corpus_folder)
    tokenizer = Tokenizer.read(vocabulary)
    (folder / "shards.json").unlink(missing_ok=True)
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
        for name, dtype in (("tokens", header["dtype"]), ("offsets", "<i8"), ("lines", "<i8")):
            path = folder / f"{split}.{name}"
            actual = file_sha256(path) if path.exists() else "missing"
            if actual != stated[f"{name}_sha256"]:
                size = path.stat().st_size if path.exists() else 0
                raise Damaged(
                    f"{path}: damaged; {size} bytes with SHA-256 {actual[:16]}, "
                    f"written as {stated[f'{name}_sha256'][:16]}; {remedy}"
                )
            arrays[name] = np.memmap(path, dtype=dtype, mode="r")
        found[split] = Shard(**arrays, name=f"{folder.name}, {split} split")
    return found


def _start(model: bytes) -> None:
    global _tokenizer
    _tokenizer = Tokenizer(model)


class _Part(NamedTuple):
    """A part of a document, and whether a document or else a line begins with it."""

    document: bool
    line: bool
    text: str


class _Encoded(NamedTuple):
    """Tokens of consecutive parts and the positions among them at which documents and lines begin."""

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    lines: NDArray[np.int64]


def _encode(parts: list[_Part], dtype: str) -> _Encoded:
    assert _tokenizer is not None
    lines: list[list[int]] = []
    documents: list[int] = []
    continued: list[int] = []
    for part in parts:
        if part.document:
            lines.append([config.SEP])  # ends the document before
            documents.append(len(lines))
        elif not part.line:
            continued.append(len(lines))
        lines += _tokenizer.encode_lines(part.text)
    sizes = np.fromiter(map(len, lines), "<i8", len(lines))
    begins = np.cumsum(sizes) - sizes
    tokens = np.fromiter(chain.from_iterable(lines), dtype, int(sizes.sum()))
    no_text = [config.SEP, *(i for i, piece in enumerate(_tokenizer.pieces) if piece == "\n")]
    begun = sizes > 0
    begun[continued] = False
    begun[begun] = ~np.isin(tokens[begins[begun]], no_text)
    begun[documents] = True
    return _Encoded(tokens, begins[documents], begins[begun])


def _tasks(parts: Iterator[tuple[str, str]]) -> Iterator[list[_Part]]:
    task: list[_Part] = []
    size, previous, behind_line_end = 0, None, False
    for document, text in parts:
        task.append(_Part(document != previous, behind_line_end, text))
        previous, behind_line_end, size = document, text.endswith("\n"), size + len(text)
        if size >= TASK_CHARACTERS:
            yield task
            task, size = [], 0
    if task:
        yield task


class _File:
    """An array's file while it is written, and its hash."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.hash, self.values = stream, hashlib.sha256(), 0

    def put(self, values: NDArray[Any]) -> None:
        self.stream.write(values.tobytes())
        self.hash.update(values.tobytes())
        self.values += len(values)

    def finish(self) -> str:
        """Its SHA-256, when the disk has it."""
        self.stream.sync()
        return self.hash.hexdigest()


def _write_split(
    pool: ProcessPoolExecutor,
    cores: int,
    parts: Iterator[tuple[str, str]],
    folder: Path,
    split: str,
    dtype: str,
    progress: Progress,
) -> dict[str, Any]:
    waiting: deque[tuple[Future[_Encoded], int]] = deque()
    last_line = -1
    with ExitStack() as streams:
        tokens, offsets, lines = (
            _File(streams.enter_context(Stream(folder / f"{split}.{name}")))
            for name in ("tokens", "offsets", "lines")
        )

        def finish_first() -> None:
            nonlocal last_line
            future, characters = waiting.popleft()
            found = future.result()
            progress.add(characters)
            # The first document of all comes behind a [SEP] that ends nothing and is not written.
            first = offsets.values == 0
            shift = tokens.values - first
            tokens.put(found.tokens[first:])
            offsets.put(found.offsets + shift)
            begins = found.lines + shift
            new = np.diff(begins, prepend=last_line) > 0  # a begin is found twice where nothing is between
            lines.put(begins[new])
            last_line = max([last_line, *begins[-1:].tolist()])

        for task in _tasks(parts):
            waiting.append((pool.submit(_encode, task, dtype), sum(len(part.text) for part in task)))
            if len(waiting) > 2 * cores:  # bounded: the pool itself would take in the whole corpus
                finish_first()
        while waiting:
            finish_first()
        tokens.put(np.asarray([config.SEP], dtype))
        offsets.put(np.asarray([tokens.values], "<i8"))
        hashes = {
            f"{name}_sha256": file.finish()
            for name, file in {"tokens": tokens, "offsets": offsets, "lines": lines}.items()
        }
    if tokens.values <= 1:
        raise InputError(f"{folder}: the {split} split has no tokens; its documents hold no text")
    return {"tokens": tokens.values, "documents": offsets.values - 1, "lines": lines.values, **hashes}
