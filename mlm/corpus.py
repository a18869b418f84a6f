"""Documents -> cleaned, split by whole document into train, validation and test, and written.

A prepared corpus is a folder with `train.jsonl`, `validation.jsonl`, `test.jsonl` and `corpus.json`.
A line is `{"document": id, "text": …}`; a long document spans consecutive lines, cut where a line
of the text ends, so that no step has to hold it in memory.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mlm import division, files, sources, yaml_file
from mlm.cleaning import Cleaning, clean
from mlm.division import Divider, Division
from mlm.duplicates import HeldOut
from mlm.errors import Damaged, InputError
from mlm.progress import Progress
from mlm.sources import Source
from mlm.yaml_file import Strict

SPLITS = division.SPLITS
PART_CHARACTERS = sources.PART_CHARACTERS
"""Of a line in a prepared corpus, about."""


class Part(Strict):
    """One of the sources that a corpus is mixed from."""

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    """Its documents are called `name/…`."""
    title: str
    licence: str
    source: Source = Field(discriminator="kind")
    cleaning: Cleaning = "none"
    split: Division | None = None
    """In place of the corpus's, where that would hold out too much or nothing."""


class Corpus(Strict):
    """A corpus file under experiments/corpora/: one `source`, or several `sources`, one behind another."""

    title: str
    licence: str | None = None
    source: Source | None = Field(default=None, discriminator="kind")
    cleaning: Cleaning = "none"
    sources: list[Part] = []
    near_duplicates: Literal["keep", "remove"] = "keep"
    """Of held-out text, in the training split."""
    split: Division
    prompts: list[str] = []

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if "sources" not in self.model_fields_set:
            missing = [key for key in ("licence", "source") if getattr(self, key) is None]
            if missing:
                raise ValueError(f"{missing[0]}: missing; give `licence` and `source`, or a list of `sources`")
        elif {"licence", "source", "cleaning"} & self.model_fields_set:
            raise ValueError(
                "sources: each has a `licence`, `source` and `cleaning` of its own; none stands beside"
            )
        elif len({part.name for part in self.sources}) < max(len(self.sources), 1):
            raise ValueError("sources: give at least one, and no `name` twice")
        return self

    def identity(self, path: Path) -> dict[str, Any]:
        """What decides the prepared text, hashes of local files included."""
        said = {"title": True, "licence": True}
        content = self.model_dump(
            exclude={**said, "prompts": True, "sources": {"__all__": said}}, exclude_none=True
        )
        hashes: dict[str, str] = {}
        for where, part in self.located(path):
            hashes |= sources.hashes(part.source, where)
        return {**content, "files": hashes} if hashes else content

    def located(self, path: Path) -> Iterator[tuple[str, Part]]:
        """(how messages call it, part) of every source in its order; the one `source` is a part too"""
        if self.source and self.licence:
            own = {"title": self.title, "licence": self.licence, "source": self.source}
            yield str(path), Part.model_validate({"name": "source", **own, "cleaning": self.cleaning})
        for part in self.sources:
            yield f"{path}: sources: {part.name}", part


def load(path: Path) -> Corpus:
    """Read and check a corpus file."""
    known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
    given = yaml_file.read(path, f"`corpus` names a file in {path.parent}; there are: {known}")
    corpus = yaml_file.validated(Corpus, given, str(path))
    for where, part in corpus.located(path):
        sources.check(part.source, where)
    return corpus


def prepare(path: Path, folder: Path, anew: bool = False) -> None:
    """Write the prepared corpus that the corpus file `path` describes into `folder`, unless it is there.

    Args:
        anew: write it also where it is; it stays as it is until its sources were found.
    """
    corpus = load(path)
    with files.locked(files.lock_of(folder)):
        if anew or not (folder / "corpus.json").exists():
            _prepare(corpus, path, folder)


NOTHING = {"documents": 0, "characters": 0, "bytes": 0}


class _Split:
    """One split while it is written: its file, its hash and its counts."""

    def __init__(self, path: Path, corpus: Corpus) -> None:
        self.path, self.stream, self.hash = path, files.Stream(path), hashlib.sha256()
        self.counts = dict(NOTHING)
        self.of_source = {part.name: dict(NOTHING) for part in corpus.sources}
        self.last: str | None = None

    def write(self, document: str, text: str) -> None:
        line = json.dumps({"document": document, "text": text}, ensure_ascii=False).encode() + b"\n"
        self.stream.write(line)
        self.hash.update(line)
        mine = self.of_source.get(document.split("/", 1)[0])
        for counts in (self.counts, mine) if mine else (self.counts,):
            counts["documents"] += document != self.last
            counts["characters"] += len(text)
            counts["bytes"] += len(text.encode())
        self.last = document


def _prepare(corpus: Corpus, path: Path, folder: Path) -> None:
    _check_place(corpus, path, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.json").unlink(missing_ok=True)
    written = {split: _Split(folder / f"{split}.jsonl.partial", corpus) for split in SPLITS}
    everyone = Divider(corpus.split, str(path))
    dividers = [everyone]
    progress = Progress(f"preparing {path.stem}", None, "characters")
    for where, part in corpus.located(path):
        divider = everyone
        if part.split:
            divider = Divider(part.split, where)
            dividers.append(divider)
        for document, texts in clean(sources.documents(part.source, where), part.cleaning):
            name = f"{part.name}/{document}" if corpus.sources else document
            split = divider.split_of(name)
            for text in texts:
                written[split].write(name, text)
                progress.add(len(text))
    for one in written.values():
        one.stream.close()
    removed: dict[str, Any] = {}
    if corpus.near_duplicates == "remove":
        written["train"], counts = _without_held_out(written, corpus)
        removed = {"near_duplicates": {"removed_from_train": counts}}
    division.check(dividers, {split: written[split].counts["documents"] for split in SPLITS}, str(path))
    for split in SPLITS:
        written[split].path.replace(folder / f"{split}.jsonl")
    if corpus.source:
        said = corpus.source.model_dump(exclude_none=True)
        origin: dict[str, Any] = {"licence": corpus.licence, "source": said}
    else:
        mixed = corpus.sources
        licence = " ".join(f"{part.title}: {part.licence}" for part in mixed)
        origin = {"licence": licence, "sources": [_told(part, written) for part in mixed]}
    sizes = {s: {**written[s].counts, "sha256": written[s].hash.hexdigest()} for s in SPLITS}
    files.write_json(folder / "corpus.json", {"title": corpus.title, **origin, **removed, "splits": sizes})


def _check_place(corpus: Corpus, path: Path, folder: Path) -> None:
    """Refuse to replace files that are no splits of ours, or are read for these."""
    read = {
        file.resolve()
        for where, part in corpus.located(path)
        for file in sources.local_files(part.source, where)
    }
    for file in (folder / f"{split}.jsonl" for split in SPLITS):
        if file.exists() and (file.resolve() in read or not _is_split(file)):
            what = "is read for this corpus" if file.resolve() in read else "is no split of a prepared corpus"
            raise InputError(f"{file}: {what} and would be replaced; take it away, or name another folder")


def _is_split(file: Path) -> bool:
    begin = b'{"document": "'
    with file.open("rb") as stream:
        return stream.read(len(begin)) in (begin, b"")


def _told(part: Part, written: dict[str, _Split]) -> dict[str, Any]:
    splits = {split: written[split].of_source[part.name] for split in SPLITS}
    return part.model_dump(exclude_none=True, exclude={"split"}) | {"splits": splits}


def _without_held_out(written: dict[str, _Split], corpus: Corpus) -> tuple[_Split, dict[str, int]]:
    """The training split anew, without the lines that held-out documents have too; and what was removed."""
    before = written["train"]
    whole = before.path.replace(before.path.with_suffix(".whole"))
    held_out = HeldOut(text for split in SPLITS[1:] for _, text in _records(written[split].path))
    after = _Split(before.path, corpus)
    lines = 0
    progress = Progress("removing near-duplicates", before.counts["characters"], "characters")
    for document, text in _records(whole):
        kept, shared = held_out.without(text)
        lines += shared
        if kept:
            after.write(document, kept)
        progress.add(len(text))
    after.stream.close()
    whole.unlink()
    lost = {unit: before.counts[unit] - after.counts[unit] for unit in ("characters", "documents")}
    return after, {"lines": lines, **lost}


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared corpus whose files are as they were written."""
    remedy = f"delete {folder} and run again"
    manifest: dict[str, Any] = files.read_json(folder / "corpus.json", remedy)
    for split in SPLITS:
        path = folder / f"{split}.jsonl"
        if not path.exists() or files.file_sha256(path) != manifest["splits"][split]["sha256"]:
            raise Damaged(f"{path}: missing or altered since it was prepared; {remedy}")
    return manifest


def read(folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """(document id, part of its text) of a prepared corpus; parts of a document are consecutive."""
    return _records(folder / f"{split}.jsonl")


def _records(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            record = json.loads(line)
            yield record["document"], record["text"]
